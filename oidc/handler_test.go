package backchannel_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/seed-a7bee19b/session"
	backchannel "github.com/seed-a7bee19b/session/oidc"
)

var (
	bySID = session.Owner{Kind: "oidc-sid", ID: issuer + " sid-1"}
	bySub = session.Owner{Kind: "oidc-sub", ID: issuer + " ann"}
)

// TestToken has a row for each rule of section 2.6 of the specification, and for
// each mistake that providers and attackers make.
func TestToken(t *testing.T) {
	k := testKeys()
	good := func(more object) string { return sign(t, header("ES256", "ec", nil), logoutClaims(more), k.ec) }
	headed := func(more object) string { return sign(t, header("ES256", "ec", more), logoutClaims(nil), k.ec) }
	long := time.Now().Add(-time.Hour)
	tests := []struct {
		name   string
		token  string
		want   []session.Owner // nil: refused
		why    string          // in the error, if it is refused
		change func(*backchannel.Config)
	}{
		{name: "RS256", token: sign(t, header("RS256", "rsa", nil), logoutClaims(nil), k.rsa), want: []session.Owner{bySID}},
		{name: "PS256", token: sign(t, header("PS256", "rsa", nil), logoutClaims(nil), k.rsa), want: []session.Owner{bySID}},
		{name: "ES256", token: good(nil), want: []session.Owner{bySID}},
		{name: "EdDSA", token: sign(t, header("EdDSA", "ed", nil), logoutClaims(nil), k.ed), want: []session.Owner{bySID}},

		// What it ends.
		{name: "sub alone", token: good(object{"sid": nil}), want: []session.Owner{bySub}},
		{name: "sid alone", token: good(object{"sub": nil}), want: []session.Owner{bySID}},
		{name: "sid null", token: good(object{"sid": null}), want: []session.Owner{bySub}},
		{name: "neither", why: "there is neither a claim sub nor a claim sid", token: good(object{"sub": nil, "sid": nil})},
		{name: "both null", why: "there is neither a claim sub nor a claim sid", token: good(object{"sub": null, "sid": null})},
		{name: "sid empty", why: "sid is not a string", token: good(object{"sid": ""})},
		{name: "sub empty", why: "sub is not a string", token: good(object{"sub": ""})},
		{name: "sid number", why: "sid is not a string", token: good(object{"sid": 7})},
		{name: "sub list", why: "sub is not a string", token: good(object{"sub": []string{"ann"}})},
		{name: "own owner", token: good(nil), want: []session.Owner{session.User("ann")}, change: func(c *backchannel.Config) {
			c.Owner = func(_ context.Context, t backchannel.Token) (session.Owner, error) {
				return session.User(t.Subject), nil
			}
		}},

		// Who issued it for whom.
		{name: "issuer missing", why: "iss is not the Issuer", token: good(object{"iss": nil})},
		{name: "issuer other", why: "iss is not the Issuer", token: good(object{"iss": "https://evil.example.com"})},
		{name: "issuer slash", why: "iss is not the Issuer", token: good(object{"iss": issuer + "/"})},
		{name: "issuer list", why: "iss is not a string", token: good(object{"iss": []string{issuer}})},
		{name: "issuer upper case", why: "iss is not the Issuer", token: good(object{"iss": nil, "ISS": issuer})},
		{name: "audience list", token: good(object{"aud": []string{"other", clientID}}), want: []session.Owner{bySID}},
		{name: "audience missing", why: "aud does not have the ClientID", token: good(object{"aud": nil})},
		{name: "audience other", why: "aud does not have the ClientID", token: good(object{"aud": "other"})},
		{name: "audience prefix", why: "aud does not have the ClientID", token: good(object{"aud": clientID + "2"})},
		{name: "audience empty", why: "aud does not have the ClientID", token: good(object{"aud": ""})},
		{name: "audience empty list", why: "aud does not have the ClientID", token: good(object{"aud": []string{}})},
		{name: "audience other list", why: "aud does not have the ClientID", token: good(object{"aud": []string{"a", "b"}})},
		{name: "audience mixed list", why: "aud is neither a string nor a list of strings", token: good(object{"aud": []any{clientID, 7}})},
		{name: "audience null", why: "aud does not have the ClientID", token: good(object{"aud": null})},
		{name: "audience object", why: "aud is neither a string nor a list of strings", token: good(object{"aud": object{clientID: true}})},

		// When.
		{name: "iat missing", why: "there is no claim iat", token: good(object{"iat": nil})},
		{name: "iat null", why: "there is no claim iat", token: good(object{"iat": null})},
		{name: "iat string", why: "iat is not a time", token: good(object{"iat": fmt.Sprint(time.Now().Unix())})},
		{name: "iat fraction", token: good(object{"iat": float64(time.Now().UnixMilli()) / 1000}), want: []session.Owner{bySID}},
		{name: "iat milliseconds", why: "iat is not a time", token: good(object{"iat": time.Now().UnixMilli()})},
		{name: "iat negative", why: "iat is not a time", token: good(object{"iat": -1})},
		{name: "iat huge", why: "iat is not a time", token: good(object{"iat": 1e300})},
		{name: "iat future", why: "issued in the future", token: good(object{"iat": time.Now().Add(10 * time.Minute).Unix(), "exp": time.Now().Add(time.Hour).Unix()})},
		{name: "iat future within skew", token: good(object{"iat": time.Now().Add(30 * time.Second).Unix()}), want: []session.Owner{bySID}},
		{name: "iat old", why: "issued longer ago than MaxAge", token: good(object{"iat": long.Unix()})},
		{name: "iat old and allowed", token: good(object{"iat": long.Unix()}), want: []session.Owner{bySID}, change: func(c *backchannel.Config) { c.MaxAge = 2 * time.Hour }},
		{name: "exp missing", why: "there is no claim exp", token: good(object{"exp": nil})},
		{name: "exp null", why: "there is no claim exp", token: good(object{"exp": null})},
		{name: "exp missing and allowed", token: good(object{"exp": nil}), want: []session.Owner{bySID}, change: func(c *backchannel.Config) { c.AllowNoExpiry = true }},
		{name: "exp missing and allowed and old", why: "issued longer ago than MaxAge", token: good(object{"exp": nil, "iat": long.Unix()}), change: func(c *backchannel.Config) { c.AllowNoExpiry = true }},
		{name: "exp string", why: "exp is not a time", token: good(object{"exp": "tomorrow"}), change: func(c *backchannel.Config) { c.AllowNoExpiry = true }},
		{name: "exp past", why: "the token has expired", token: good(object{"exp": time.Now().Add(-2 * time.Minute).Unix()})},
		{name: "exp past and expiry not needed", why: "the token has expired", token: good(object{"exp": time.Now().Add(-2 * time.Minute).Unix()}), change: func(c *backchannel.Config) { c.AllowNoExpiry = true }},
		{name: "exp past within skew", token: good(object{"exp": time.Now().Add(-30 * time.Second).Unix()}), want: []session.Owner{bySID}},

		// What it is.
		{name: "jti missing", why: "there is no claim jti", token: good(object{"jti": nil})},
		{name: "jti empty", why: "jti is not a string", token: good(object{"jti": ""})},
		{name: "jti number", why: "jti is not a string", token: good(object{"jti": 1})},
		{name: "events missing", why: "events does not have the logout event", token: good(object{"events": nil})},
		{name: "event singular", why: "events does not have the logout event", token: good(object{"events": nil, "event": object{event: object{}}})},
		{name: "events empty", why: "events does not have the logout event", token: good(object{"events": object{}})},
		{name: "events null", why: "events does not have the logout event", token: good(object{"events": null})},
		{name: "events list", why: "events is not an object", token: good(object{"events": []string{event}})},
		{name: "events string", why: "events is not an object", token: good(object{"events": event})},
		{name: "events other", why: "events does not have the logout event", token: good(object{"events": object{"https://schemas.openid.net/secevent/caep/event-type/session-revoked": object{}}})},
		{name: "events and others", token: good(object{"events": object{"x": 1, event: object{"reason": "bored"}}}), want: []session.Owner{bySID}},
		{name: "event string", why: "events does not have the logout event", token: good(object{"events": object{event: "yes"}})},
		{name: "event list", why: "events does not have the logout event", token: good(object{"events": object{event: []int{}}})},
		{name: "event null", why: "events does not have the logout event", token: good(object{"events": object{event: null}})},
		{name: "nonce", why: "there is a claim nonce", token: good(object{"nonce": "n"})},
		{name: "nonce null", why: "there is a claim nonce", token: good(object{"nonce": null})},
		{name: "ID token", why: "events does not have the logout event", token: good(object{"events": nil, "nonce": "n"})},
		{name: "unknown claims", token: good(object{"trace_id": "x", "azp": "other", "kid": "ec"}), want: []session.Owner{bySID}},

		// Type.
		{name: "typ in full", token: headed(object{"typ": "application/LOGOUT+JWT"}), want: []session.Owner{bySID}},
		{name: "typ missing", why: "the header typ is not", token: headed(object{"typ": nil})},
		{name: "typ JWT", why: "the header typ is not", token: headed(object{"typ": "JWT"})},
		{name: "typ missing and allowed", token: headed(object{"typ": nil}), want: []session.Owner{bySID}, change: func(c *backchannel.Config) { c.AllowUntyped = true }},
		{name: "typ JWT and allowed", token: headed(object{"typ": "JWT"}), want: []session.Owner{bySID}, change: func(c *backchannel.Config) { c.AllowUntyped = true }},
		{name: "typ of an access token", why: "the header typ is not", token: headed(object{"typ": "at+jwt"}), change: func(c *backchannel.Config) { c.AllowUntyped = true }},
		{name: "typ of a security event", why: "the header typ is not", token: headed(object{"typ": "secevent+jwt"}), change: func(c *backchannel.Config) { c.AllowUntyped = true }},
		{name: "typ number", why: "the header typ is not a string", token: headed(object{"typ": 1}), change: func(c *backchannel.Config) { c.AllowUntyped = true }},

		// Header.
		{name: "kid missing", token: headed(object{"kid": nil}), want: []session.Owner{bySID}},
		{name: "kid unknown", why: "no key of the provider has signed the token", token: headed(object{"kid": "new"})},
		{name: "kid of another key", why: "no key of the provider has signed the token", token: headed(object{"kid": "rsa"})},
		{name: "kid number", why: "logout_token is not a signed JWT in compact form", token: headed(object{"kid": 1})},
		{name: "kid path", why: "no key of the provider has signed the token", token: headed(object{"kid": "../../../../dev/null"})},
		{name: "critical", why: "the token has a critical header", token: headed(object{"crit": []string{"exp"}})},
		{name: "critical b64", why: "the token has a critical header", token: headed(object{"crit": []string{"b64"}, "b64": true})},
		{name: "critical empty", why: "the token has a critical header", token: headed(object{"crit": []string{}})},
		{name: "own key", why: "no key of the provider has signed the token", token: sign(t, header("EdDSA", "", object{"kid": nil, "jwk": ownKey(t)}), logoutClaims(nil), ownPrivate)},
		{name: "address of a key", why: "no key of the provider has signed the token", token: sign(t, header("EdDSA", "mine", object{"jku": "https://evil.example.com/jwks"}), logoutClaims(nil), ownPrivate)},
		{name: "header twice", why: "logout_token is not a signed JWT in compact form", token: sign(t, `{"alg":"ES256","alg":"none","kid":"ec","typ":"logout+jwt"}`, logoutClaims(nil), k.ec)},
		{name: "header list", why: "logout_token is not a signed JWT in compact form", token: sign(t, `[]`, logoutClaims(nil), k.ec)},
		{name: "header null", why: "logout_token is not a signed JWT in compact form", token: sign(t, `null`, logoutClaims(nil), k.ec)},
		{name: "header no JSON", why: "logout_token is not a signed JWT in compact form", token: sign(t, `{`, logoutClaims(nil), k.ec)},

		// Algorithm.
		{name: "none", why: "signed with an algorithm that is not in Algorithms", token: strings.TrimRight(sign(t, header("none", "ec", nil), logoutClaims(nil), nil), ".") + "."},
		{name: "none in other case", why: "signed with an algorithm that is not in Algorithms", token: sign(t, header("nOnE", "ec", nil), logoutClaims(nil), nil)},
		{name: "algorithm missing", why: "signed with an algorithm that is not in Algorithms", token: headed(object{"alg": nil})},
		{name: "algorithm number", why: "signed with an algorithm that is not in Algorithms", token: headed(object{"alg": 256})},
		{name: "algorithm in lower case", why: "signed with an algorithm that is not in Algorithms", token: headed(object{"alg": "es256"})},
		{name: "HS256 with the client's secret", why: "signed with an algorithm that is not in Algorithms", token: sign(t, header("HS256", "rsa", nil), logoutClaims(nil), []byte("secret"))},
		{name: "HS256 with the RSA key in DER", why: "signed with an algorithm that is not in Algorithms", token: sign(t, header("HS256", "rsa", nil), logoutClaims(nil), derOf(t, k.rsa.Public()))},
		{name: "HS256 with the RSA key in PEM", why: "signed with an algorithm that is not in Algorithms", token: sign(t, header("HS256", "rsa", nil), logoutClaims(nil), pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: derOf(t, k.rsa.Public())}))},
		{name: "HS256 with the Ed25519 key", why: "signed with an algorithm that is not in Algorithms", token: sign(t, header("HS256", "ed", nil), logoutClaims(nil), []byte(k.ed.Public().(ed25519.PublicKey)))},
		{name: "ES256 for the RSA key", why: "no key of the provider has signed the token", token: sign(t, header("ES256", "rsa", nil), logoutClaims(nil), k.ec)},
		{name: "RS256 not allowed", why: "signed with an algorithm that is not in Algorithms", token: sign(t, header("RS256", "rsa", nil), logoutClaims(nil), k.rsa), change: func(c *backchannel.Config) { c.Algorithms = []string{"ES256"} }},
		{name: "RS384 not a default", why: "signed with an algorithm that is not in Algorithms", token: sign(t, header("RS384", "rsa", nil), logoutClaims(nil), k.rsa)},

		// Signature.
		{name: "other RSA key", why: "no key of the provider has signed the token", token: sign(t, header("RS256", "rsa", nil), logoutClaims(nil), k.otherRSA)},
		{name: "claims changed", why: "no key of the provider has signed the token", token: swap(good(nil), good(nil), 1)},
		{name: "header changed", why: "no key of the provider has signed the token", token: swap(good(nil), headed(object{"x": 1}), 0)},
		{name: "signature of another token", why: "no key of the provider has signed the token", token: swap(good(nil), good(nil), 2)},
		{name: "signature missing", why: "no key of the provider has signed the token", token: cut(good(nil), 2)},
		{name: "signature zero", why: "no key of the provider has signed the token", token: cut(good(nil), 2) + base64.RawURLEncoding.EncodeToString(make([]byte, 64))},
		{name: "signature short", why: "no key of the provider has signed the token", token: good(nil)[:len(good(nil))-4]},
		{name: "signature long", why: "no key of the provider has signed the token", token: good(nil) + "AAAA"},

		// Form.
		{name: "empty", why: "logout_token is not a signed JWT in compact form", token: ""},
		{name: "one part", why: "logout_token is not a signed JWT in compact form", token: "e30"},
		{name: "two parts", why: "logout_token is not a signed JWT in compact form", token: "e30.e30"},
		{name: "four parts", why: "logout_token is not a signed JWT in compact form", token: good(nil) + ".e30"},
		{name: "encrypted", why: "logout_token is not a signed JWT in compact form", token: encrypted(t, good(nil))},
		{name: "JSON serialization", why: "logout_token is not a signed JWT in compact form", token: fullForm(t, logoutClaims(nil))},
		{name: "padding", why: "logout_token is not a signed JWT in compact form", token: strings.Replace(good(nil), ".", "=.", 1)},
		{name: "standard alphabet", why: "logout_token is not a signed JWT in compact form", token: strings.Replace(good(nil), ".", "+/.", 1)},
		{name: "claims twice", why: "the payload is not a JSON object", token: sign(t, header("ES256", "ec", nil), `{"iss":"x",`+strings.TrimPrefix(jsonOf(t, logoutClaims(nil)), "{"), k.ec)},
		{name: "claims list", why: "the payload is not a JSON object", token: sign(t, header("ES256", "ec", nil), `[]`, k.ec)},
		{name: "claims null", why: "the payload is not a JSON object", token: sign(t, header("ES256", "ec", nil), `null`, k.ec)},
		{name: "claims empty", why: "the payload is not a JSON object", token: sign(t, header("ES256", "ec", nil), ``, k.ec)},
		{name: "claims and more", why: "the payload is not a JSON object", token: sign(t, header("ES256", "ec", nil), jsonOf(t, logoutClaims(nil))+"{}", k.ec)},
		{name: "claims deep", why: "the payload is not a JSON object", token: sign(t, header("ES256", "ec", nil), strings.Repeat("[", 8000), k.ec)},
		{name: "header deep", why: "logout_token is not a signed JWT in compact form", token: sign(t, `{"alg":"ES256","x":`+strings.Repeat("[", 8000), logoutClaims(nil), k.ec)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var r revoker
			cfg := setting(t, &r)
			var reported []error
			cfg.OnError = func(_ *http.Request, status int, err error) {
				if status != http.StatusBadRequest {
					t.Errorf("OnError is told of status %d", status)
				}
				reported = append(reported, err)
			}
			if tt.change != nil {
				tt.change(&cfg)
			}
			w := post(t, newHandler(t, cfg), tt.token)
			if tt.want != nil {
				if w.Code != http.StatusOK || w.Body.Len() != 0 || len(reported) != 0 {
					t.Errorf("status %d, body %q, errors %v", w.Code, w.Body, reported)
				}
				if got := r.revoked(); len(got) != 1 || !slices.Equal(got[0], tt.want) {
					t.Errorf("revoked %v, want %v", got, tt.want)
				}
				return
			}
			if w.Code != http.StatusBadRequest || w.Body.String() != "{\"error\":\"invalid_request\"}\n" || w.Header().Get("Content-Type") != "application/json" {
				t.Errorf("status %d, body %q, header %v", w.Code, w.Body, w.Header())
			}
			if got := r.revoked(); len(got) != 0 {
				t.Errorf("revoked %v", got)
			}
			if len(reported) != 1 {
				t.Fatalf("OnError was told of %v", reported)
			}
			text := strings.TrimPrefix(reported[0].Error(), "backchannel: ")
			if tt.why == "" || !strings.Contains(text, tt.why) {
				t.Errorf("refused because %s, want %q", text, tt.why)
			}
			for _, secret := range []string{"ann", "sid-1", "evil", "secret", "dev/null", "nOnE", "at+jwt"} {
				if strings.Contains(text, secret) {
					t.Errorf("the error has %q of the token: %s", secret, text)
				}
			}
		})
	}
}

// ownPrivate is the key of an attacker.
var ownPrivate = ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))

func ownKey(t *testing.T) object {
	return object{"kty": "OKP", "crv": "Ed25519", "x": base64.RawURLEncoding.EncodeToString(ownPrivate.Public().(ed25519.PublicKey))}
}

func derOf(t *testing.T, key any) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// swap returns a with one part of b.
func swap(a, b string, part int) string {
	parts, others := strings.Split(a, "."), strings.Split(b, ".")
	parts[part] = others[part]
	return strings.Join(parts, ".")
}

// cut returns a token with an empty part.
func cut(token string, part int) string {
	parts := strings.Split(token, ".")
	parts[part] = ""
	return strings.Join(parts, ".")
}

func jsonOf(t *testing.T, v any) string {
	t.Helper()
	var b bytes.Buffer
	decoded, err := base64.RawURLEncoding.DecodeString(strings.Split(sign(t, object{}, v, nil), ".")[1])
	if err != nil {
		t.Fatal(err)
	}
	b.Write(decoded)
	return b.String()
}

func encrypted(t *testing.T, token string) string {
	t.Helper()
	e, err := jose.NewEncrypter(jose.A128GCM, jose.Recipient{Algorithm: jose.RSA_OAEP, Key: testKeys().rsa.Public()}, nil)
	if err != nil {
		t.Fatal(err)
	}
	jwe, err := e.Encrypt([]byte(token))
	if err != nil {
		t.Fatal(err)
	}
	compact, err := jwe.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return compact
}

func fullForm(t *testing.T, claims object) string {
	t.Helper()
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: testKeys().ec}, (&jose.SignerOptions{}).WithType("logout+jwt"))
	if err != nil {
		t.Fatal(err)
	}
	jws, err := s.Sign([]byte(jsonOf(t, claims)))
	if err != nil {
		t.Fatal(err)
	}
	return jws.FullSerialize()
}

func TestRequest(t *testing.T) {
	token := func() string { return sign(t, header("ES256", "ec", nil), logoutClaims(nil), testKeys().ec) }
	form := func(v url.Values) io.Reader { return strings.NewReader(v.Encode()) }
	const urlencoded = "application/x-www-form-urlencoded"
	tests := []struct {
		name, method, media string
		target              string
		body                io.Reader
		want                int
	}{
		{name: "charset", media: urlencoded + "; charset=UTF-8", body: form(url.Values{"logout_token": {token()}}), want: 200},
		{name: "media type in upper case", media: "Application/X-WWW-Form-Urlencoded", body: form(url.Values{"logout_token": {token()}}), want: 200},
		{name: "other parameters", body: form(url.Values{"logout_token": {token()}, "x": {"1", "2"}}), want: 200},
		{name: "query", target: "/?tenant=a;b&logout_token=no", body: form(url.Values{"logout_token": {token()}}), want: 200},
		{name: "GET", method: "GET", target: "/?logout_token=" + token(), want: 405},
		{name: "HEAD", method: "HEAD", want: 405},
		{name: "PUT", method: "PUT", body: form(url.Values{"logout_token": {token()}}), want: 405},
		{name: "OPTIONS", method: "OPTIONS", want: 405},
		{name: "JSON", media: "application/json", body: strings.NewReader(`{"logout_token":"` + token() + `"}`), want: 415},
		{name: "multipart", media: "multipart/form-data; boundary=x", body: strings.NewReader("--x\r\nContent-Disposition: form-data; name=\"logout_token\"\r\n\r\n" + token() + "\r\n--x--\r\n"), want: 415},
		{name: "the token itself", media: "application/logout+jwt", body: strings.NewReader(token()), want: 415},
		{name: "no media type", media: "-", body: form(url.Values{"logout_token": {token()}}), want: 415},
		{name: "bad media type", media: ";;", body: form(url.Values{"logout_token": {token()}}), want: 415},
		{name: "token in the query", target: "/?logout_token=" + token(), body: strings.NewReader(""), want: 400},
		{name: "empty body", body: strings.NewReader(""), want: 400},
		{name: "other name", body: form(url.Values{"logoutToken": {token()}}), want: 400},
		{name: "twice", body: form(url.Values{"logout_token": {token(), token()}}), want: 400},
		{name: "twice the same", body: strings.NewReader("logout_token=a&logout_token=a"), want: 400},
		{name: "bad escape", body: strings.NewReader("logout_token=%zz"), want: 400},
		{name: "semicolon", body: strings.NewReader("a=b;logout_token=" + token()), want: 400},
		{name: "broken body", body: io.MultiReader(strings.NewReader("logout_token="), broken{}), want: 400},
		{name: "largest body", body: strings.NewReader("logout_token=" + strings.Repeat("a", 16<<10-13)), want: 400},
		{name: "body too large", body: strings.NewReader("logout_token=" + strings.Repeat("a", 16<<10)), want: 413},
		{name: "endless body", body: endless{}, want: 413},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var rev revoker
			h := newHandler(t, setting(t, &rev))
			method, target, media := "POST", "/", urlencoded
			if tt.method != "" {
				method = tt.method
			}
			if tt.target != "" {
				target = tt.target
			}
			if tt.media != "" {
				media = tt.media
			}
			r := httptest.NewRequestWithContext(t.Context(), method, target, tt.body)
			if media != "-" {
				r.Header.Set("Content-Type", media)
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code != tt.want {
				t.Errorf("status %d, want %d", w.Code, tt.want)
			}
			if w.Header().Get("Cache-Control") != "no-store" {
				t.Errorf("header %v", w.Header())
			}
			if (w.Header().Get("Allow") == "POST") != (tt.want == 405) {
				t.Errorf("header %v", w.Header())
			}
			if got := len(rev.revoked()); (got == 1) != (tt.want == 200) {
				t.Errorf("%d calls of Revoke", got)
			}
		})
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("connection reset") }

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'a'
	}
	return len(p), nil
}

// TestParsedForm checks that middleware may have read the form.
func TestParsedForm(t *testing.T) {
	for _, tt := range []struct {
		name  string
		token string
		want  int
	}{
		{"token", sign(t, header("ES256", "ec", nil), logoutClaims(nil), testKeys().ec), 200},
		{"too large", strings.Repeat("a", 17<<10), 413},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newHandler(t, setting(t, &revoker{}))
			r := request(t.Context(), url.Values{"logout_token": {tt.token}}.Encode())
			if err := r.ParseForm(); err != nil {
				t.Fatal(err)
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code != tt.want {
				t.Errorf("status %d, want %d", w.Code, tt.want)
			}
		})
	}
}

// TestFailure checks that no failure is taken for a logout, or for a fault of the
// token.
func TestFailure(t *testing.T) {
	down := errors.New("down")
	owner := func(o session.Owner, err error) func(*backchannel.Config) {
		return func(c *backchannel.Config) {
			c.Owner = func(context.Context, backchannel.Token) (session.Owner, error) { return o, err }
		}
	}
	tests := []struct {
		name   string
		revoke error
		change func(*backchannel.Config)
		want   int
		is     error
	}{
		{name: "store", revoke: fmt.Errorf("session: revoke: %w: %w", session.ErrStore, down), want: 503, is: down},
		{name: "time ran out", revoke: context.DeadlineExceeded, want: 503, is: context.DeadlineExceeded},
		{name: "conflict", revoke: session.ErrConflict, want: 503, is: session.ErrConflict},
		{name: "not found", revoke: session.ErrNotFound, want: 503, is: session.ErrNotFound},
		{name: "undecodable", revoke: session.ErrDecode, want: 500, is: session.ErrDecode},
		{name: "other", revoke: down, want: 500, is: down},
		{name: "keys", change: func(c *backchannel.Config) {
			c.Keys = func(context.Context, string) ([]backchannel.Key, error) { return nil, down }
		}, want: 503, is: down},
		{name: "owner", change: owner(session.Owner{}, down), want: 500, is: down},
		{name: "owner store", change: owner(session.Owner{}, session.ErrStore), want: 503, is: session.ErrStore},
		{name: "owner empty", change: owner(session.Owner{}, nil), want: 500},
		{name: "owner without ID", change: owner(session.User(""), nil), want: 500},
		{name: "owner without kind", change: owner(session.Owner{ID: "x"}, nil), want: 500},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := revoker{err: tt.revoke}
			cfg := setting(t, &r)
			var reported error
			cfg.OnError = func(_ *http.Request, status int, err error) {
				if status != tt.want {
					t.Errorf("OnError is told of status %d", status)
				}
				reported = err
			}
			if tt.change != nil {
				tt.change(&cfg)
			}
			h := newHandler(t, cfg)
			token := sign(t, header("ES256", "ec", nil), logoutClaims(nil), testKeys().ec)
			for range 2 { // it is not remembered as done
				w := post(t, h, token)
				if w.Code != tt.want {
					t.Errorf("status %d, want %d", w.Code, tt.want)
				}
				code := map[int]string{500: "server_error", 503: "temporarily_unavailable"}[tt.want]
				if w.Body.String() != `{"error":"`+code+"\"}\n" || (w.Header().Get("Retry-After") != "") != (tt.want == 503) {
					t.Errorf("body %q, header %v", w.Body, w.Header())
				}
				if reported == nil || !strings.HasPrefix(reported.Error(), "backchannel: ") || tt.is != nil && !errors.Is(reported, tt.is) {
					t.Errorf("OnError is told of %v", reported)
				}
			}
			if tt.revoke == nil {
				if got := r.revoked(); len(got) != 0 {
					t.Errorf("revoked %v", got)
				}
				return
			}
			r.answer(nil)
			if w := post(t, h, token); w.Code != 200 {
				t.Errorf("status %d after the failure has ended", w.Code)
			}
			if got := r.revoked(); len(got) != 3 {
				t.Errorf("%d calls of Revoke", len(got))
			}
		})
	}
}

// TestAgain checks that a token that comes again ends nothing again: the user may
// have logged in since.
func TestAgain(t *testing.T) {
	var r revoker
	h := newHandler(t, setting(t, &r))
	k := testKeys()
	claims := logoutClaims(object{"sid": nil, "jti": "1"})
	token := sign(t, header("ES256", "ec", nil), claims, k.ec)
	again := sign(t, header("ES256", "ec", nil), claims, k.ec) // with another signature
	// The last two bits of a signature of 64 bytes mean nothing.
	last := strings.IndexByte(alphabet, token[len(token)-1])
	malleable := token[:len(token)-1] + alphabet[last&^15|(last+1)&15:][:1]
	for i, text := range []string{token, token, again, malleable} {
		if w := post(t, h, text); w.Code != 200 {
			t.Errorf("token %d: status %d", i, w.Code)
		}
	}
	if got := r.revoked(); len(got) != 1 {
		t.Errorf("revoked %v", got)
	}
	if w := post(t, h, sign(t, header("ES256", "ec", nil), logoutClaims(object{"sid": nil}), k.ec)); w.Code != 200 {
		t.Errorf("another token: status %d", w.Code)
	}
	if got := r.revoked(); len(got) != 2 {
		t.Errorf("revoked %v", got)
	}
}

const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

// TestConcurrent is for the race detector.
func TestConcurrent(t *testing.T) {
	var r revoker
	h := newHandler(t, setting(t, &r))
	same := sign(t, header("ES256", "ec", nil), logoutClaims(nil), testKeys().ec)
	var tokens []string
	for range 20 {
		tokens = append(tokens, same, sign(t, header("EdDSA", "ed", nil), logoutClaims(nil), testKeys().ed), "bad")
	}
	var wg sync.WaitGroup
	for _, token := range tokens {
		wg.Add(1)
		go func() {
			defer wg.Done()
			if w := post(t, h, token); (w.Code == 200) != (token != "bad") {
				t.Errorf("status %d", w.Code)
			}
		}()
	}
	wg.Wait()
	if got := len(r.revoked()); got < 21 || got > 40 {
		t.Errorf("%d calls of Revoke", got)
	}
}

// TestLog checks what is logged without an OnError: nothing that an attacker can
// cause.
func TestLog(t *testing.T) {
	k := testKeys()
	now := time.Now()
	tests := []struct {
		name   string
		token  string
		revoke error
		keys   backchannel.Keys
		want   string
	}{
		{name: "success", token: sign(t, header("ES256", "ec", nil), logoutClaims(nil), k.ec)},
		{name: "garbage", token: "garbage\nPOST / failed"},
		{name: "forged", token: sign(t, header("EdDSA", "ed", nil), logoutClaims(nil), ownPrivate)},
		{name: "from the provider", token: sign(t, header("ES256", "ec", object{"typ": "JWT"}), logoutClaims(nil), k.ec), want: `AllowUntyped`},
		{name: "expired", token: sign(t, header("ES256", "ec", nil), logoutClaims(object{"exp": now.Add(-time.Hour).Unix()}), k.ec), want: `has expired`},
		{name: "store", token: sign(t, header("ES256", "ec", nil), logoutClaims(nil), k.ec), revoke: session.ErrStore, want: "backchannel: revoke: "},
		{name: "text of others", token: sign(t, header("ES256", "ec", nil), logoutClaims(nil), k.ec), revoke: errors.New("a\nb"), want: `"backchannel: revoke: a\nb"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := setting(t, &revoker{err: tt.revoke})
			cfg.OnError = nil
			var out bytes.Buffer
			srv := &http.Server{ErrorLog: log.New(&out, "", 0)}
			ctx := context.WithValue(t.Context(), http.ServerContextKey, srv)
			newHandler(t, cfg).ServeHTTP(httptest.NewRecorder(), request(ctx, url.Values{"logout_token": {tt.token}}.Encode()))
			if tt.want == "" && out.Len() > 0 || !strings.Contains(out.String(), tt.want) || strings.Count(out.String(), "\n") > 1 {
				t.Errorf("logged %q, want %q", out.String(), tt.want)
			}
			if tt.want != "" && !strings.HasPrefix(out.String(), "POST /backchannel-logout: ") {
				t.Errorf("logged %q", out.String())
			}
		})
	}
}

// TestLogLeft checks that a client that has left is not logged, and that keys that
// cannot be obtained are.
func TestLogLeft(t *testing.T) {
	token := sign(t, header("ES256", "ec", nil), logoutClaims(nil), testKeys().ec)
	for _, tt := range []struct {
		name string
		left bool
		want string
	}{
		{"left", true, ""},
		{"there", false, "POST /backchannel-logout: backchannel: obtain keys: context canceled\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			ctx, cancel := context.WithCancel(context.WithValue(t.Context(), http.ServerContextKey, &http.Server{ErrorLog: log.New(&out, "", 0)}))
			defer cancel()
			cfg := setting(t, &revoker{})
			cfg.OnError = nil
			cfg.Keys = func(context.Context, string) ([]backchannel.Key, error) {
				if tt.left {
					cancel()
				}
				return nil, context.Canceled
			}
			newHandler(t, cfg).ServeHTTP(httptest.NewRecorder(), request(ctx, url.Values{"logout_token": {token}}.Encode()))
			if out.String() != tt.want {
				t.Errorf("logged %q, want %q", out.String(), tt.want)
			}
		})
	}
}

func TestNew(t *testing.T) {
	tests := []struct {
		name   string
		change func(*backchannel.Config)
		want   string // in the error; "" if there is none
	}{
		{"minimal", func(*backchannel.Config) {}, ""},
		{"issuer without scheme", func(c *backchannel.Config) { c.Issuer = "accounts.example.com" }, ""},
		{"all algorithms", func(c *backchannel.Config) {
			c.Algorithms = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
		}, ""},
		{"no issuer", func(c *backchannel.Config) { c.Issuer = "" }, "Config.Issuer is empty"},
		{"issuer with a space", func(c *backchannel.Config) { c.Issuer = "https://op.example.com a" }, "Config.Issuer"},
		{"issuer with a line end", func(c *backchannel.Config) { c.Issuer = issuer + "\n" }, "Config.Issuer"},
		{"no client", func(c *backchannel.Config) { c.ClientID = "" }, "Config.ClientID is empty"},
		{"no keys", func(c *backchannel.Config) { c.Keys = nil }, "Config.Keys is nil"},
		{"no sessions", func(c *backchannel.Config) { c.Sessions = nil }, "Config.Sessions is nil"},
		{"none", func(c *backchannel.Config) { c.Algorithms = []string{"RS256", "none"} }, `Config.Algorithms has "none"`},
		{"HS256", func(c *backchannel.Config) { c.Algorithms = []string{"HS256"} }, `Config.Algorithms has "HS256"`},
		{"lower case", func(c *backchannel.Config) { c.Algorithms = []string{"rs256"} }, `Config.Algorithms has "rs256"`},
		{"negative age", func(c *backchannel.Config) { c.MaxAge = -1 }, "Config.MaxAge"},
		{"negative skew", func(c *backchannel.Config) { c.ClockSkew = -1 }, "Config.ClockSkew"},
		{"long skew", func(c *backchannel.Config) { c.ClockSkew = 11 * time.Minute }, "Config.ClockSkew"},
		{"negative timeout", func(c *backchannel.Config) { c.Timeout = -1 }, "Config.Timeout"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := setting(t, &revoker{})
			tt.change(&cfg)
			h, err := backchannel.New(cfg)
			switch {
			case tt.want == "":
				if err != nil || h == nil {
					t.Errorf("%v, %v", h, err)
				}
			case err == nil || !strings.HasPrefix(err.Error(), "backchannel: ") || !strings.Contains(err.Error(), tt.want):
				t.Errorf("%v, want %q", err, tt.want)
			case h != nil:
				t.Error("there is a handler and an error")
			}
		})
	}
	_, err := backchannel.New(backchannel.Config{MaxAge: -1})
	if err == nil || strings.Count(err.Error(), "backchannel: ") != 5 {
		t.Errorf("the error does not have all problems: %v", err)
	}
}

// TestAlgorithms checks those that are not defaults.
func TestAlgorithms(t *testing.T) {
	k := testKeys()
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p521, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for alg, key := range map[jose.SignatureAlgorithm]any{
		jose.RS384: k.rsa, jose.RS512: k.rsa, jose.PS384: k.rsa, jose.PS512: k.rsa, jose.ES384: p384, jose.ES512: p521,
	} {
		t.Run(string(alg), func(t *testing.T) {
			s, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: jose.JSONWebKey{Key: key, KeyID: "k"}}, (&jose.SignerOptions{}).WithType("logout+jwt"))
			if err != nil {
				t.Fatal(err)
			}
			jws, err := s.Sign([]byte(jsonOf(t, logoutClaims(nil))))
			if err != nil {
				t.Fatal(err)
			}
			token, err := jws.CompactSerialize()
			if err != nil {
				t.Fatal(err)
			}
			private := jose.JSONWebKey{Key: key}
			public := private.Public()
			cfg := setting(t, &revoker{})
			cfg.Keys = fixedKeys(t, map[string]any{"k": public.Key})
			if w := post(t, newHandler(t, cfg), token); w.Code != 400 {
				t.Errorf("status %d without a setting", w.Code)
			}
			cfg.Algorithms = []string{string(alg)}
			if w := post(t, newHandler(t, cfg), token); w.Code != 200 {
				t.Errorf("status %d", w.Code)
			}
		})
	}
}

// TestKeyMismatch checks keys that a caller's function returns and must not have.
func TestKeyMismatch(t *testing.T) {
	k := testKeys()
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rs := sign(t, header("RS256", "rsa", nil), logoutClaims(nil), k.rsa)
	es := sign(t, header("ES256", "ec", nil), logoutClaims(nil), k.ec)
	ed := sign(t, header("EdDSA", "ed", nil), logoutClaims(nil), k.ed)
	tests := []struct {
		name  string
		token string
		key   backchannel.Key
		want  int
	}{
		{"RSA", rs, backchannel.Key{ID: "rsa", Algorithm: "RS256", Public: k.rsa.Public()}, 200},
		{"no ID", rs, backchannel.Key{Public: k.rsa.Public()}, 200},
		{"other ID", rs, backchannel.Key{ID: "other", Public: k.rsa.Public()}, 400},
		{"other algorithm", rs, backchannel.Key{ID: "rsa", Algorithm: "PS256", Public: k.rsa.Public()}, 400},
		{"RSA by value", rs, backchannel.Key{Public: k.rsa.PublicKey}, 400},
		{"RSA private", rs, backchannel.Key{Public: k.rsa}, 400},
		{"RSA nil", rs, backchannel.Key{Public: (*rsa.PublicKey)(nil)}, 400},
		{"RSA empty", rs, backchannel.Key{Public: &rsa.PublicKey{}}, 400},
		{"RSA small", sign(t, header("RS256", "rsa", nil), logoutClaims(nil), small), backchannel.Key{Public: small.Public()}, 400},
		{"nil", rs, backchannel.Key{}, 400},
		{"bytes", rs, backchannel.Key{Public: []byte("secret")}, 400},
		{"curve", es, backchannel.Key{Public: p384.Public()}, 400},
		{"EC nil", es, backchannel.Key{Public: (*ecdsa.PublicKey)(nil)}, 400},
		{"EC empty", es, backchannel.Key{Public: &ecdsa.PublicKey{Curve: elliptic.P256()}}, 400},
		{"Ed25519 short", ed, backchannel.Key{Public: k.ed.Public().(ed25519.PublicKey)[:31]}, 400},
		{"Ed25519 nil", ed, backchannel.Key{Public: ed25519.PublicKey(nil)}, 400},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := setting(t, &revoker{})
			cfg.Keys = func(context.Context, string) ([]backchannel.Key, error) { return []backchannel.Key{tt.key}, nil }
			if w := post(t, newHandler(t, cfg), tt.token); w.Code != tt.want {
				t.Errorf("status %d, want %d", w.Code, tt.want)
			}
		})
	}
}

// TestManyKeys checks that a token without a key ID is tried with some keys, and
// not with any number of them.
func TestManyKeys(t *testing.T) {
	k := testKeys()
	token := sign(t, header("ES256", "", object{"kid": nil}), logoutClaims(nil), k.ec)
	for _, tt := range []struct{ others, want int }{{15, 200}, {16, 400}} {
		var keys []backchannel.Key
		for range tt.others {
			other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			keys = append(keys, backchannel.Key{Public: other.Public()}, backchannel.Key{Public: k.rsa.Public()})
		}
		keys = append(keys, backchannel.Key{Public: k.ec.Public()})
		cfg := setting(t, &revoker{})
		cfg.Keys = func(context.Context, string) ([]backchannel.Key, error) { return keys, nil }
		if w := post(t, newHandler(t, cfg), token); w.Code != tt.want {
			t.Errorf("%d other keys: status %d, want %d", tt.others, w.Code, tt.want)
		}
	}
}

func TestOwners(t *testing.T) {
	if got := backchannel.Owners(issuer, "ann", "sid-1"); !slices.Equal(got, []session.Owner{bySub, bySID}) {
		t.Error(got)
	}
	if got := backchannel.Owners(issuer, "ann", ""); !slices.Equal(got, []session.Owner{bySub}) {
		t.Error(got)
	}
	if backchannel.SID("https://a", "x") == backchannel.SID("https://b", "x") || backchannel.SID(issuer, "x") == backchannel.Subject(issuer, "x") {
		t.Error("two owners have one name")
	}
}
