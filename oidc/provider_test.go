package backchannel_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
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

const (
	issuer   = "https://op.example.com"
	clientID = "shop"
	event    = "http://schemas.openid.net/event/backchannel-logout"
)

// testKeys are one of each kind. They are made once, as making an RSA key is slow.
var testKeys = sync.OnceValue(func() (k struct {
	rsa, otherRSA *rsa.PrivateKey
	ec            *ecdsa.PrivateKey
	ed            ed25519.PrivateKey
}) {
	var errs [4]error
	k.rsa, errs[0] = rsa.GenerateKey(rand.Reader, 2048)
	k.otherRSA, errs[1] = rsa.GenerateKey(rand.Reader, 2048)
	k.ec, errs[2] = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	_, k.ed, errs[3] = ed25519.GenerateKey(rand.Reader)
	for _, err := range errs {
		if err != nil {
			panic(err)
		}
	}
	return k
})

// object is a JSON object; a nil value leaves its name out.
type object map[string]any

func (o object) with(more object) object {
	all := object{}
	for _, from := range []object{o, more} {
		for name, v := range from {
			all[name] = v
		}
	}
	for name, v := range all {
		if v == nil {
			delete(all, name)
		}
	}
	return all
}

// null is a value that is there, and is null.
var null = json.RawMessage("null")

// logoutClaims returns the claims of a good token, changed by more.
func logoutClaims(more object) object {
	return object{
		"iss": issuer, "aud": clientID, "sub": "ann", "sid": "sid-1", "jti": rand.Text(),
		"iat": time.Now().Unix(), "exp": time.Now().Add(2 * time.Minute).Unix(),
		"events": object{event: object{}},
	}.with(more)
}

// header returns that of a good token, changed by more.
func header(alg, kid string, more object) object {
	return object{"alg": alg, "kid": kid, "typ": "logout+jwt"}.with(more)
}

// sign makes a JWT without a JOSE library, as it must be able to make bad ones.
func sign(t testing.TB, head any, claims any, key any) string {
	t.Helper()
	encode := func(v any) string {
		data, ok := v.(string)
		if !ok {
			b, err := json.Marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			data = string(b)
		}
		return base64.RawURLEncoding.EncodeToString([]byte(data))
	}
	input := encode(head) + "." + encode(claims)
	digest := sha256.Sum256([]byte(input))
	var sig []byte
	var err error
	switch key := key.(type) {
	case *rsa.PrivateKey:
		if h, ok := head.(object); ok && h["alg"] == "PS256" {
			sig, err = rsa.SignPSS(rand.Reader, key, crypto.SHA256, digest[:], &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
		} else {
			sig, err = rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, digest[:])
		}
	case *ecdsa.PrivateKey:
		r, s, signErr := ecdsa.Sign(rand.Reader, key, digest[:])
		sig, err = append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...), signErr
	case ed25519.PrivateKey:
		sig = ed25519.Sign(key, []byte(input))
	case []byte:
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(input))
		sig = mac.Sum(nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	return input + "." + base64.RawURLEncoding.EncodeToString(sig)
}

// jwks returns a JWK Set of public keys, by their IDs.
func jwks(t testing.TB, keys map[string]any) []byte {
	t.Helper()
	var set jose.JSONWebKeySet
	for id, key := range keys {
		set.Keys = append(set.Keys, jose.JSONWebKey{Key: key, KeyID: id, Use: "sig"})
	}
	data, err := json.Marshal(set)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func fixedKeys(t testing.TB, keys map[string]any) backchannel.Keys {
	t.Helper()
	k, err := backchannel.FixedKeys(jwks(t, keys))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// allKeys has one of each kind.
func allKeys(t testing.TB) backchannel.Keys {
	k := testKeys()
	return fixedKeys(t, map[string]any{"rsa": k.rsa.Public(), "ec": k.ec.Public(), "ed": k.ed.Public()})
}

// revoker records what is revoked, and answers with err.
type revoker struct {
	mu    sync.Mutex
	calls [][]session.Owner
	err   error
}

func (r *revoker) Revoke(_ context.Context, owners ...session.Owner) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = append(r.calls, slices.Clone(owners))
	return r.err
}

func (r *revoker) revoked() [][]session.Owner {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.calls)
}

func (r *revoker) answer(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = err
}

// setting is a Config that has what it needs.
func setting(t testing.TB, r backchannel.Revoker) backchannel.Config {
	return backchannel.Config{Issuer: issuer, ClientID: clientID, Keys: allKeys(t), Sessions: r, OnError: func(*http.Request, int, error) {}}
}

func newHandler(t testing.TB, cfg backchannel.Config) http.Handler {
	t.Helper()
	h, err := backchannel.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// request returns one with a form.
func request(ctx context.Context, body string) *http.Request {
	r := httptest.NewRequestWithContext(ctx, "POST", "/backchannel-logout", strings.NewReader(body))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return r
}

// post sends a token.
func post(t testing.TB, h http.Handler, token string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, request(t.Context(), url.Values{"logout_token": {token}}.Encode()))
	if got := w.Header().Get("Cache-Control"); got != "no-store" {
		t.Errorf("Cache-Control is %q", got)
	}
	return w
}
