package session

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// Cookie configures the cookie that carries the token. The zero value is the
// safest: the name is "__Host-session", with Secure, HttpOnly and SameSite=Lax, for
// one host and all its paths, until the browser closes.
type Cookie struct {
	// Name defaults to "__Host-session"; with a Domain, or a Path other than "/",
	// to "__Secure-session"; with InsecureHTTP to "session". A prefix in a name of
	// your own must fit the other fields. Name and token together may have 4,096
	// bytes, as browsers store no more.
	//
	// If a request has several cookies of that name, up to four are tried in their
	// order, and the first that has a session counts. [Session.Destroy] ends the
	// sessions of all of them.
	Name string

	// Path defaults to "/".
	Path string

	// Domain, if set, shares the cookie with all hosts under it. Each of them can
	// then plant or read it. Default "": this host only.
	Domain string

	// SameSite defaults to Lax. None needs Secure.
	SameSite http.SameSite

	// Partitioned keys the cookie by the top-level site (CHIPS). It needs
	// Secure.
	Partitioned bool

	// Persistent lets the cookie outlive the browser, until the absolute deadline,
	// or for 400 days, the most that browsers allow, if there is no
	// AbsoluteTimeout. The cookie is sent once for each ID, and again if a [Lifetime]
	// changes that deadline, so it does not follow the idle timeout.
	Persistent bool

	// InsecureHTTP lets the cookie travel over plain HTTP, where anyone on the
	// network path can read it. It is for development.
	InsecureHTTP bool
}

const (
	hostPrefix   = "__Host-"
	securePrefix = "__Secure-"
	httpPrefix   = "__Http-"

	// What browsers store: a cookie's name and value together, and the value
	// of one of its attributes.
	maxPair      = 4096
	maxAttribute = 1024
)

func (c Cookie) withDefaults() (Cookie, error) {
	if c.Path == "" {
		c.Path = "/"
	}
	if c.Name == "" {
		switch {
		case c.InsecureHTTP:
			c.Name = "session"
		case c.Domain != "" || c.Path != "/":
			c.Name = securePrefix + "session"
		default:
			c.Name = hostPrefix + "session"
		}
	}
	if c.SameSite == 0 || c.SameSite == http.SameSiteDefaultMode {
		c.SameSite = http.SameSiteLaxMode
	}
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf("session: Cookie: "+format, args...)) }
	isHost := c.has(hostPrefix)
	if isHost && (c.Domain != "" || c.Path != "/") {
		bad("the name %q needs Path \"/\" and no Domain", c.Name)
	}
	if c.InsecureHTTP {
		if isHost || c.has(securePrefix) || c.has(httpPrefix) {
			bad("the name %q promises Secure, and InsecureHTTP is set", c.Name)
		}
		if c.SameSite == http.SameSiteNoneMode {
			bad("SameSite=None needs Secure, and InsecureHTTP is set")
		}
		if c.Partitioned {
			bad("Partitioned needs Secure, and InsecureHTTP is set")
		}
	}
	if c.SameSite < http.SameSiteDefaultMode || c.SameSite > http.SameSiteNoneMode {
		bad("unknown SameSite %d", int(c.SameSite))
	}
	if !strings.HasPrefix(c.Path, "/") {
		bad("Path %q does not begin with \"/\"", c.Path)
	}
	if n := max(len(c.Path), len(c.Domain)); n > maxAttribute {
		bad("Path or Domain has %d bytes; browsers ignore one of more than %d", n, maxAttribute)
	}
	if err := c.cookie("x").Valid(); err != nil {
		bad("%w", err)
	}
	return c, errors.Join(errs...)
}

// has reports whether the name begins with prefix. Browsers match it without
// regard to case.
func (c Cookie) has(prefix string) bool {
	return len(c.Name) >= len(prefix) && strings.EqualFold(c.Name[:len(prefix)], prefix)
}

func (c Cookie) cookie(token string) *http.Cookie {
	return &http.Cookie{
		Name:        c.Name,
		Value:       token,
		Path:        c.Path,
		Domain:      c.Domain,
		Secure:      !c.InsecureHTTP,
		HttpOnly:    true,
		SameSite:    c.SameSite,
		Partitioned: c.Partitioned,
	}
}
