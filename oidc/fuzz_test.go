package backchannel_test

import (
	"encoding/base64"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	backchannel "github.com/seed-a7bee19b/session/oidc"
)

// FuzzHandler checks that no body is answered with 200 unless the provider has
// signed the token in it, that all refusals look alike, and that nothing panics.
func FuzzHandler(f *testing.F) {
	k := testKeys()
	good := sign(f, header("ES256", "ec", nil), logoutClaims(nil), k.ec)
	signed := strings.Join(strings.Split(good, ".")[:2], ".")
	for _, s := range []string{
		"", "logout_token=", "logout_token=" + good, "logout_token=" + good[1:], "a=b&logout_token=" + good + "&logout_token=",
		"logout_token=" + good + "%0A", "logout_token=" + strings.Replace(good, ".", "..", 1), "logout_token=e30.e30.", "%", "a;b", "=&=&=",
		"logout_token=" + sign(f, header("none", "ec", nil), logoutClaims(nil), nil),
		"logout_token=" + sign(f, header("HS256", "rsa", nil), logoutClaims(nil), []byte("x")),
		"logout_token=" + sign(f, header("ES256", "", object{"jwk": object{"kty": "EC"}, "x5c": []string{"AA"}}), logoutClaims(nil), k.ec),
		"logout_token=" + sign(f, header("RS256", "rsa", object{"crit": []string{"b64"}, "b64": false}), "x", k.rsa),
		"logout_token=" + sign(f, `{"alg":"ES256","alg":{}}`, `{"iss":1}`, k.ec),
	} {
		f.Add(s)
	}
	var r revoker
	h := newHandler(f, setting(f, &r))
	f.Fuzz(func(t *testing.T, body string) {
		before := len(r.revoked())
		w := httptest.NewRecorder()
		h.ServeHTTP(w, request(t.Context(), body))
		switch w.Code {
		case 200:
			form, err := url.ParseQuery(body)
			if err != nil || !sameToken(form.Get("logout_token"), signed) {
				t.Fatalf("status 200 for %q", body)
			}
		case 400:
			if w.Body.String() != "{\"error\":\"invalid_request\"}\n" || len(r.revoked()) != before {
				t.Fatalf("body %q, revoked %v", w.Body, r.revoked())
			}
		case 413:
			if len(body) <= 16<<10 {
				t.Fatalf("status 413 for %d bytes", len(body))
			}
		default:
			t.Fatalf("status %d", w.Code)
		}
	})
}

// sameToken reports whether a token has the header and the claims that were
// signed, in whatever base64.
func sameToken(token, signed string) bool {
	a, b := strings.Split(token, "."), strings.Split(signed, ".")
	if len(a) != 3 {
		return false
	}
	for i := range b {
		x, err1 := base64.RawURLEncoding.DecodeString(a[i])
		y, err2 := base64.RawURLEncoding.DecodeString(b[i])
		if err1 != nil || err2 != nil || string(x) != string(y) {
			return false
		}
	}
	return true
}

// FuzzClaims checks that claims that the provider has signed never panic and never
// revoke without a name.
func FuzzClaims(f *testing.F) {
	k := testKeys()
	for _, s := range []string{
		"", "null", "{}", "[]", `{"iss":null}`, `{"aud":[[]]}`, `{"iat":1e999}`, `{"iat":-0}`, `{"exp":18446744073709551616}`,
		`{"events":{"` + event + `":{}}}`, `{"sub":"\ud800"}`, strings.Repeat(`{"a":`, 1000), `{"iss":"a","iss":"b"}`,
		`{"iss":"` + issuer + `","aud":"` + clientID + `","sub":"a","jti":"1","iat":4000000000,"exp":4000000000,"events":{"` + event + `":{}}}`,
		`{"iss":"` + issuer + `","aud":["` + clientID + `"],"sid":"a","jti":"1","iat":1,"exp":253402300799,"events":{"` + event + `":{}}}`,
	} {
		f.Add(s)
	}
	var r revoker
	cfg := setting(f, &r)
	cfg.MaxAge = 1 << 62 // about 146 years
	h := newHandler(f, cfg)
	f.Fuzz(func(t *testing.T, claims string) {
		w := post(t, h, sign(t, header("EdDSA", "ed", nil), claims, k.ed))
		if w.Code != 200 && w.Code != 400 && (w.Code != 413 || len(claims) < 10<<10) {
			t.Fatalf("status %d", w.Code)
		}
		for _, owners := range r.revoked() {
			if len(owners) != 1 || owners[0].ID == issuer+" " || !strings.HasPrefix(owners[0].ID, issuer+" ") {
				t.Fatalf("revoked %q", owners)
			}
		}
	})
}

// FuzzFixedKeys checks that no JWK Set panics, and that each key that is found
// can be used.
func FuzzFixedKeys(f *testing.F) {
	k := testKeys()
	f.Add(jwks(f, map[string]any{"rsa": k.rsa.Public()}))
	f.Add(jwks(f, map[string]any{"ec": k.ec.Public(), "ed": k.ed.Public()}))
	f.Add([]byte(`{"keys":[{"kty":"OKP","crv":"Ed25519","x":"AA"},{"kty":"RSA","n":"","e":""},{"kty":"EC","crv":"P-256"}]}`))
	f.Add([]byte(`{"keys":null}`))
	forged := sign(f, header("EdDSA", "", object{"kid": nil}), logoutClaims(nil), ownPrivate)
	f.Fuzz(func(t *testing.T, data []byte) {
		keys, err := backchannel.FixedKeys(data)
		if err != nil {
			return
		}
		cfg := setting(t, &revoker{})
		cfg.Keys = keys
		if w := post(t, newHandler(t, cfg), forged); w.Code != 400 {
			t.Fatalf("status %d", w.Code)
		}
	})
}
