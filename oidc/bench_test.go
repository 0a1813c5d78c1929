package backchannel_test

import (
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// BenchmarkHandler measures what a request costs that anybody can send, and one
// of the provider without what the store takes.
func BenchmarkHandler(b *testing.B) {
	k := testKeys()
	h := newHandler(b, setting(b, &revoker{}))
	forged := sign(b, header("RS256", "rsa", nil), logoutClaims(nil), k.otherRSA)
	for _, bb := range []struct{ name, token string }{
		{"garbage", strings.Repeat("a", 15<<10)},
		{"forged", forged},
		{"header of 10 KiB", sign(b, header("RS256", "rsa", object{"x": strings.Repeat("[", 10<<10)}), "", k.otherRSA)},
		{"good", sign(b, header("RS256", "rsa", nil), logoutClaims(nil), k.rsa)},
	} {
		body := url.Values{"logout_token": {bb.token}}.Encode()
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				h.ServeHTTP(httptest.NewRecorder(), request(b.Context(), body))
			}
		})
	}
}
