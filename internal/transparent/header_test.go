package transparent

import (
	"net/http"
	"testing"
)

func TestListed(t *testing.T) {
	for _, tt := range []struct {
		values []string
		name   string
		want   bool
	}{
		{nil, "Cookie", false}, {[]string{""}, "Cookie", false}, {[]string{"Cookie"}, "Cookie", true}, {[]string{"cookie"}, "Cookie", true},
		{[]string{"Accept-Encoding, Cookie"}, "Cookie", true}, {[]string{"Accept-Encoding,cookie,Origin"}, "Cookie", true},
		{[]string{" \tCookie\t "}, "Cookie", true}, {[]string{",,Cookie,"}, "Cookie", true},
		{[]string{"Accept-Encoding", "Origin, Cookie"}, "Cookie", true}, {[]string{"Accept-Encoding", "Origin"}, "Cookie", false},
		{[]string{"Cookies"}, "Cookie", false}, {[]string{"Set-Cookie"}, "Cookie", false}, {[]string{"Cookie Origin"}, "Cookie", false},
		{[]string{"*"}, "Cookie", false},
		{[]string{"max-age=60, no-store"}, "no-store", true}, {[]string{"no-store=1"}, "no-store", false}, {[]string{`private="X-A"`}, "private", false},
	} {
		if got := Listed(tt.values, tt.name); got != tt.want {
			t.Errorf("%q in %q: %v", tt.name, tt.values, got)
		}
	}
}

func TestUnshared(t *testing.T) {
	for value, want := range map[string]bool{
		"": false, "no-store": true, "private": true, "Private, max-age=60": true, "max-age=60,NO-STORE": true,
		"no-cache": false, "public": false, "max-age=0, must-revalidate": false, `private="X-A"`: false, "s-maxage=60": false,
	} {
		if got := Unshared([]string{value}); got != want {
			t.Errorf("%q: %v", value, got)
		}
	}
	if Unshared(nil) || !Unshared([]string{"max-age=60", "private"}) {
		t.Error("of none, or of two lines")
	}
}

// TestOfPage: which headers go when the page is not sent, and which of them tell
// caches how long to keep it.
func TestOfPage(t *testing.T) {
	const stays, page, caches = 0, 1, 2
	for name, want := range map[string]int{
		"Cache-Control": caches, "Cdn-Cache-Control": caches, "Cloudflare-Cdn-Cache-Control": caches, "Edge-Control": caches, "Expires": caches,
		"Pragma": caches, "Surrogate-Control": caches, "X-Accel-Expires": caches,

		"Accept-Ranges": page, "Age": page, "Allow": page, "Cache-Tag": page, "Clear-Site-Data": page, "Connection": page, "Digest": page,
		"Etag": page, "Last-Modified": page, "Link": page, "Location": page, "Proxy-Authenticate": page, "Refresh": page, "Repr-Digest": page,
		"Retry-After": page, "Set-Cookie": page, "Sourcemap": page, "Surrogate-Key": page, "Trailer": page, "Transfer-Encoding": page,
		"Upgrade": page, "Www-Authenticate": page, "X-Sendfile": page,
		"Content-Type": page, "Content-Length": page, "Content-Encoding": page, "Content-Disposition": page, "Content-Language": page, "Content-Digest": page,
		"Hx-Redirect": page, "Hx-Trigger": page, "Sec-Websocket-Accept": page, "X-Accel-Redirect": page, "X-Accel-Buffering": page,
		http.TrailerPrefix + "X-Sum": page,

		"Vary": stays, "Content-Security-Policy": stays, "Content-Security-Policy-Report-Only": stays, "Strict-Transport-Security": stays,
		"Access-Control-Allow-Origin": stays, "Access-Control-Expose-Headers": stays, "X-Frame-Options": stays, "X-Content-Type-Options": stays,
		"Referrer-Policy": stays, "Permissions-Policy": stays, "Cross-Origin-Opener-Policy": stays, "X-Request-Id": stays, "Traceparent": stays,
		"Server": stays, "Date": stays, "Alt-Svc": stays, "Ratelimit-Remaining": stays, "Server-Timing": stays, "Nel": stays, "Report-To": stays,
		"": stays, "Content": stays, "Hx": stays, "Cache-Control-X": stays, "X-Link": stays,
	} {
		if got := OfPage(name); got != (want != stays) {
			t.Errorf("%s is of the page: %v", name, got)
		}
		if got := ForCaches(name); got != (want == caches) {
			t.Errorf("%s is for caches: %v", name, got)
		}
		if http.CanonicalHeaderKey(name) != name && name != http.TrailerPrefix+"X-Sum" {
			t.Errorf("no header has the name %q", name)
		}
	}
}
