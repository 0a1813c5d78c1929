package session

import (
	"net/http"
	"slices"
	"strings"
)

// clean makes h, the headers of a page that will not be sent, those of an
// answer that says so. What middleware inside has set for every answer stays,
// such as that of CORS; what describes the page goes. What was set outside is
// again what it was there.
func (x *exchange) clean(h, outer http.Header) {
	x.mu.Lock()
	cookies := x.cookies
	x.mu.Unlock()
	kept := slices.Clone(outer["Set-Cookie"])
	for _, line := range h["Set-Cookie"] {
		if slices.Contains(cookies, line) { // the token of a Manager inside, which has saved
			kept = append(kept, line)
		}
	}
	for name := range h {
		if ofPage(name) {
			delete(h, name)
		}
	}
	for name, values := range outer {
		if name != "Vary" || len(h[name]) == 0 { // there those inside add to it
			h[name] = values
		}
	}
	if len(kept) > 0 {
		h["Set-Cookie"] = kept
	}
}

// ofPage reports whether a header describes one page or what became of one
// request.
func ofPage(name string) bool {
	switch name {
	case "Accept-Ranges", "Age", "Allow", "Cache-Tag", "Clear-Site-Data", "Connection", "Digest", "Etag", "Last-Modified",
		"Link", "Location", "Proxy-Authenticate", "Refresh", "Repr-Digest", "Retry-After", "Set-Cookie", "Sourcemap",
		"Surrogate-Key", "Trailer", "Transfer-Encoding", "Upgrade", "Www-Authenticate", "X-Sendfile":
		return true
	}
	if rest, ok := strings.CutPrefix(name, "Content-"); ok {
		return !strings.HasPrefix(rest, "Security-Policy")
	}
	for _, prefix := range []string{"Hx-", "Sec-Websocket-", "X-Accel-", http.TrailerPrefix} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return forCaches(name)
}

// forCaches reports whether a header tells caches how long to keep a response.
func forCaches(name string) bool {
	switch name {
	case "Cache-Control", "Edge-Control", "Expires", "Pragma", "Surrogate-Control", "X-Accel-Expires":
		return true
	}
	return strings.HasSuffix(name, "-Cache-Control") // Cdn-, and those of one CDN
}
