package session

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/seed-a7bee19b/session/internal/transparent"
)

const (
	clearSiteData = "Clear-Site-Data"
	clearsAll     = "*"
	clearsCookies = "cookies"
)

// clearable are the directives of Clear-Site-Data beside the one for all of them.
var clearable = []string{"cache", "clientHints", clearsCookies, "executionContexts", "prefetchCache", "prerenderCache", "storage"}

func checkClearSiteData(directives []string, p *problems) {
	for i, d := range directives {
		switch {
		case d == clearsAll && len(directives) > 1:
			p.bad("ClearSiteData has %q and more, which it includes", d)
		case d != clearsAll && !slices.Contains(clearable, d):
			p.bad("ClearSiteData has %q, which no browser knows; it can have %q or %q", d, clearable, clearsAll)
		case slices.Contains(directives[:i], d):
			p.bad("ClearSiteData has %q twice", d)
		}
	}
}

// clears returns the line of Clear-Site-Data that a logout adds to h, "" if there
// is none. If the response hands out the cookie of a new session, the line must
// not delete it.
func (c *Config) clears(h http.Header, handsOut bool) string {
	directives := c.ClearSiteData
	if handsOut && c.Header == "" {
		if slices.Equal(directives, []string{clearsAll}) {
			directives = clearable
		}
		directives = slices.DeleteFunc(slices.Clone(directives), func(d string) bool { return d == clearsCookies })
	}
	var line []string
	for _, d := range directives {
		if d = `"` + d + `"`; !transparent.Listed(h[clearSiteData], d) && !transparent.Listed(h[clearSiteData], `"*"`) {
			line = append(line, d)
		}
	}
	return strings.Join(line, ", ")
}

const (
	maxFellows = 15 // lines for them in a response
	maxDomains = 4  // of those that host can set cookies for
)

// fellows returns the lines of Set-Cookie that delete the cookies that a client of
// host may have beside ours: of the same name, with another Path or Domain. A
// request does not tell them apart. Browsers ignore the line for a domain that is
// a public suffix, of which we know only those of one label.
func (c Cookie) fellows(host string) []string {
	domains, paths, partitioned := []string{""}, []string{"/"}, []bool{false}
	c.Domain = strings.ToLower(strings.TrimPrefix(c.Domain, "."))
	ours := c.dead()
	if !c.has(hostPrefix) { // browsers store those for one host and all paths only
		domains = append(append(domains, c.Domain), domainsOf(host)...)
		paths = append(paths, c.Path)
	}
	if c.Partitioned {
		partitioned = append(partitioned, true)
	}
	var lines []string
	for _, p := range partitioned {
		for _, path := range paths {
			for _, domain := range domains {
				c.Domain, c.Path, c.Partitioned = domain, path, p
				line := c.dead()
				if line != "" && line != ours && !slices.Contains(lines, line) && len(lines) < maxFellows {
					lines = append(lines, line)
				}
			}
		}
	}
	return lines
}

// dead is the line of Set-Cookie that deletes the cookie, "" if there can be none.
func (c Cookie) dead() string {
	cookie := c.cookie("")
	if cookie.Valid() != nil {
		return ""
	}
	cookie.MaxAge = -1
	return cookie.String()
}

// domainsOf returns the domains for which host can set cookies, the shortest
// first, as these are shared with the most other hosts.
func domainsOf(host string) []string {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return nil
	}
	var domains []string
	labels := strings.Split(host, ".")
	for from := len(labels) - 2; from >= 0; from-- {
		if len(domains) == maxDomains {
			return append(domains[:maxDomains-1], host)
		}
		domains = append(domains, strings.Join(labels[from:], "."))
	}
	return domains
}
