package transparent

import (
	"net/http"
	"strings"
)

// OfPage reports whether a header describes one page or what became of one
// request.
func OfPage(name string) bool {
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
	return ForCaches(name)
}

// ForCaches reports whether a header tells caches how long to keep a response.
func ForCaches(name string) bool {
	switch name {
	case "Cache-Control", "Edge-Control", "Expires", "Pragma", "Surrogate-Control", "X-Accel-Expires":
		return true
	}
	return strings.HasSuffix(name, "-Cache-Control") // Cdn-, and those of one CDN
}

// Unshared reports whether the values of a Cache-Control keep shared caches from
// storing the response.
func Unshared(cache []string) bool { return Listed(cache, "no-store") || Listed(cache, "private") }

// Listed reports whether a header with comma-separated values has name.
func Listed(values []string, name string) bool {
	for _, v := range values {
		for item := range strings.SplitSeq(v, ",") {
			if strings.EqualFold(strings.TrimSpace(item), name) {
				return true
			}
		}
	}
	return false
}
