package backchannel_test

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"

	backchannel "github.com/seed-a7bee19b/session/oidc"
)

// TestFixedKeys checks which keys of a set are used. Providers publish keys for
// encryption, of new types, and with certificates in the same set.
func TestFixedKeys(t *testing.T) {
	k := testKeys()
	public := func(key any, more object) object {
		t.Helper()
		data, err := json.Marshal(jose.JSONWebKey{Key: key})
		if err != nil {
			t.Fatal(err)
		}
		o := object{}
		if err := json.Unmarshal(data, &o); err != nil {
			t.Fatal(err)
		}
		return o.with(more)
	}
	set := func(keys ...any) string {
		data, err := json.Marshal(object{"keys": keys})
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	ec := func(more object) object { return public(k.ec.Public(), object{"kid": "ec"}.with(more)) }
	ed := k.ed.Public().(ed25519.PublicKey)
	tests := []struct {
		name   string
		jwks   string
		ids    string // of the keys that are found for "", in their order
		broken string // in the error
	}{
		{name: "all kinds", jwks: set(public(k.rsa.Public(), object{"kid": "rsa", "alg": "RS256", "use": "sig"}), ec(nil), public(k.ed.Public(), object{"kid": "ed"})), ids: "rsa ec ed"},
		{name: "no key ID", jwks: set(public(k.ec.Public(), nil)), ids: ""},
		{name: "for encryption", jwks: set(ec(object{"use": "enc"}), ec(object{"kid": "2"})), ids: "2"},
		{name: "algorithm for encryption", jwks: set(public(k.rsa.Public(), object{"kid": "1", "alg": "RSA-OAEP"}), ec(object{"kid": "2"})), ids: "2"},
		{name: "algorithm with a secret", jwks: set(public(k.rsa.Public(), object{"kid": "1", "alg": "HS256"}), ec(object{"kid": "2"})), ids: "2"},
		{name: "secret", jwks: set(object{"kty": "oct", "kid": "1", "k": "c2VjcmV0"}, ec(nil)), ids: "ec"},
		{name: "unknown type", jwks: set(object{"kty": "AKP", "kid": "1", "alg": "ML-DSA-44", "pub": "AA"}, object{"kty": "new", "kid": "2"}, ec(nil)), ids: "ec"},
		{name: "unknown curve", jwks: set(object{"kty": "OKP", "crv": "X25519", "x": "AA", "kid": "1"}, ec(object{"crv": "secp256k1"}), ec(nil)), ids: "ec"},
		{name: "no point of the curve", jwks: set(ec(object{"x": base64.RawURLEncoding.EncodeToString(make([]byte, 32))}), ec(object{"kid": "2"})), ids: "2"},
		{name: "Ed25519 short", jwks: set(object{"kty": "OKP", "crv": "Ed25519", "kid": "1", "x": base64.RawURLEncoding.EncodeToString(ed[:31])}, ec(nil)), ids: "ec"},
		{name: "RSA small", jwks: set(object{"kty": "RSA", "kid": "1", "e": "AQAB", "n": strings.Repeat("_", 171)}, ec(nil)), ids: "ec"},
		{name: "RSA huge", jwks: set(object{"kty": "RSA", "kid": "1", "e": "AQAB", "n": strings.Repeat("_", 4000)}, ec(nil)), ids: "ec"},
		{name: "bad certificate", jwks: set(ec(object{"x5c": []string{"no certificate"}, "x5t": "?", "x5u": ":"})), ids: "ec"},
		{name: "private part", jwks: set(ec(object{"d": "AA"})), ids: "ec"},
		{name: "no object", jwks: set("x", 1, nil, ec(nil)), ids: "ec"},
		{name: "kid number", jwks: set(ec(object{"kid": 1}), ec(object{"kid": "2"})), ids: "2"},
		{name: "other members", jwks: `{"note":"x",` + set(ec(nil))[1:], ids: "ec"},

		{name: "none of use", jwks: set(ec(object{"use": "enc"})), broken: "no key that can verify"},
		{name: "empty set", jwks: `{"keys":[]}`, broken: "no key that can verify"},
		{name: "no set", jwks: `{}`, broken: "is not one"},
		{name: "error page", jwks: `<html>`, broken: "is not one"},
		{name: "list", jwks: `[]`, broken: "is not one"},
		{name: "empty", jwks: ``, broken: "is not one"},
		{name: "too large", jwks: `{"keys":[` + strings.Repeat(" ", 1<<20) + `]}`, broken: "more than 1048576 bytes"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			keys, err := backchannel.FixedKeys([]byte(tt.jwks))
			if tt.broken != "" {
				if err == nil || !strings.HasPrefix(err.Error(), "backchannel: the JWK Set ") || !strings.Contains(err.Error(), tt.broken) || keys != nil {
					t.Errorf("error %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			all, err := keys(t.Context(), "")
			var ids []string
			for _, k := range all {
				ids = append(ids, k.ID)
			}
			if err != nil || strings.Join(ids, " ") != tt.ids || len(all) == 0 {
				t.Errorf("%q, %v", ids, err)
			}
			for _, id := range ids {
				if found, err := keys(t.Context(), id); err != nil || len(found) != 1 && id != "" {
					t.Errorf("%d keys with ID %q, %v", len(found), id, err)
				}
			}
			if found, err := keys(t.Context(), "other"); err != nil || (len(found) > 0) != (tt.ids == "") {
				t.Errorf("%d keys with another ID, %v", len(found), err)
			}
		})
	}
}

func TestFetchedKeysNeedsFetch(t *testing.T) {
	if keys, err := backchannel.FetchedKeys(nil); err == nil || keys != nil {
		t.Errorf("error %v", err)
	}
}
