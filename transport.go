package session

import (
	"net/http"
	"slices"
	"strings"
	"time"
)

// maxCookieAge is the most that browsers grant.
const maxCookieAge = 400 * 24 * time.Hour

// cookieTerm returns for how long after its session began the client is to keep the
// cookie of a session with the lifetime l: negative without a limit, and 0 until
// the browser closes, or if there is no cookie.
func (m *core) cookieTerm(l *Lifetime) time.Duration {
	if m.cfg.Header != "" || !m.cfg.Cookie.Persistent && (l == nil || !l.Persistent) {
		return 0
	}
	return m.lifetimes.of(l).absolute
}

// maxAge returns the Max-Age of a cookie with that term, 0 for none.
func maxAge(term time.Duration, created time.Time) int {
	if term == 0 {
		return 0
	}
	age := maxCookieAge
	if term > 0 {
		age = min(age, time.Until(created.Add(term)))
	}
	return max(1, int(age/time.Second))
}

// maxTokens is how many tokens of a request are tried. There is usually one, and
// two after a change of the cookie's Path or Domain.
const maxTokens = 4

// carried has the values that a request carries in the place of its token.
type carried struct {
	tokens    []string // different ones that may be ours, at most maxTokens
	malformed bool     // none of them is
	several   bool     // there is more than one value
	values    int      // how many there are, if they are not all alike
}

// carried returns the tokens of a request in the order in which it has them,
// appended to buf.
func (c *Config) carried(h http.Header, buf []string) carried {
	var values carried
	first, alike, n := "", true, 0
	add := func(v string) {
		if v == "" {
			return
		}
		if n++; n == 1 {
			first = v
		}
		alike = alike && v == first
		if len(buf) < maxTokens && !slices.Contains(buf, v) && c.Tokens.valid(v) {
			buf = append(buf, v)
		}
	}
	if c.Header != "" {
		for _, v := range h[c.Header] {
			if scheme, rest, ok := strings.Cut(v, " "); ok && strings.EqualFold(scheme, "Bearer") {
				v = strings.TrimLeft(rest, " ")
			}
			add(v)
		}
	} else {
		for _, cookie := range (&http.Request{Header: h}).CookiesNamed(c.Cookie.Name) {
			add(cookie.Value)
		}
	}
	values.tokens, values.malformed, values.several = buf, n > 0 && len(buf) == 0, n > 1
	if !alike {
		values.values = n
	}
	return values
}

// sendToken hands a token to the client, in a cookie for so many seconds, 0 until
// the browser closes; an empty token takes the client's away. It returns the line
// of Set-Cookie, if it is one.
func (c *Config) sendToken(h http.Header, token string, maxAge int) string {
	switch {
	case c.Header == "Authorization" && token != "":
		h.Set(c.Header, "Bearer "+token)
	case c.Header != "":
		h.Set(c.Header, token)
	default:
		cookie := c.Cookie.cookie(token)
		if cookie.MaxAge = maxAge; token == "" {
			cookie.MaxAge = -1
		}
		line := cookie.String()
		h.Add("Set-Cookie", line)
		return line
	}
	return ""
}
