package backchannel

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/go-jose/go-jose/v4"
)

// Keys returns the public keys of an OpenID Provider that have an ID. If keyID is
// empty, the token names no key, and Keys returns all of them. If there is no such
// key, it returns none and no error, and the token is refused with status 400. An
// error says that the keys could not be obtained, and is answered with 503.
//
// The text of keyID comes from a request that anybody can have sent. Keys must be
// safe for concurrent use, and bound what it does for a key ID that is not known.
type Keys func(ctx context.Context, keyID string) ([]Key, error)

// A Key is a public key of an OpenID Provider.
type Key struct {
	// ID is the key's ID, the kid of a JWK. A key without one serves for every
	// token.
	ID string

	// Algorithm, if set, is the only algorithm that the key serves for.
	Algorithm string

	// Public is an *rsa.PublicKey of 2048 to 8192 bits, an *ecdsa.PublicKey on
	// curve P-256, P-384 or P-521, or an ed25519.PublicKey. Keys of other types and
	// sizes verify nothing.
	Public crypto.PublicKey
}

const (
	minRSA = 2048 // RFC 7518, section 3.3
	maxRSA = 8192

	maxJWKS = 1 << 20 // bytes

	// maxTried bounds the work for one token.
	maxTried = 16
)

// algorithms has those that can be accepted, and which keys serve for them.
var algorithms = map[jose.SignatureAlgorithm]func(crypto.PublicKey) bool{
	jose.RS256: isRSA, jose.RS384: isRSA, jose.RS512: isRSA,
	jose.PS256: isRSA, jose.PS384: isRSA, jose.PS512: isRSA,
	jose.ES256: isCurve(elliptic.P256()),
	jose.ES384: isCurve(elliptic.P384()),
	jose.ES512: isCurve(elliptic.P521()),
	jose.EdDSA: func(k crypto.PublicKey) bool {
		p, ok := k.(ed25519.PublicKey)
		return ok && len(p) == ed25519.PublicKeySize
	},
}

func isRSA(k crypto.PublicKey) bool {
	p, ok := k.(*rsa.PublicKey)
	return ok && p != nil && p.N != nil && p.N.BitLen() >= minRSA && p.N.BitLen() <= maxRSA
}

func isCurve(c elliptic.Curve) func(crypto.PublicKey) bool {
	return func(k crypto.PublicKey) bool {
		p, ok := k.(*ecdsa.PublicKey)
		return ok && p != nil && p.Curve == c && p.X != nil && p.Y != nil
	}
}

// serves reports whether k may verify a token with this algorithm and key ID.
func (k Key) serves(alg jose.SignatureAlgorithm, keyID string) bool {
	return (k.ID == keyID || k.ID == "" || keyID == "") &&
		(k.Algorithm == "" || k.Algorithm == string(alg)) &&
		algorithms[alg](k.Public)
}

// usable reports whether there is an algorithm for which k serves.
func (k Key) usable() bool {
	for alg := range algorithms {
		if k.serves(alg, k.ID) {
			return true
		}
	}
	return false
}

// FixedKeys returns Keys that know the keys of a JWK Set and no others. When the
// provider changes its keys, the application has to start again with the new set;
// [FetchedKeys] does not need that.
//
// Keys of the set that cannot verify a token are left out: those for encryption,
// those with a secret, and those of an unknown type. A set without any other key
// is an error.
func FixedKeys(jwks []byte) (Keys, error) {
	keys, err := parseKeys(jwks)
	if err != nil {
		return nil, fmt.Errorf("backchannel: %w", err)
	}
	return func(_ context.Context, keyID string) ([]Key, error) { return withID(keys, keyID), nil }, nil
}

// withID returns the keys that keyID can mean.
func withID(keys []Key, keyID string) []Key {
	if keyID == "" {
		return keys
	}
	var found []Key
	for _, k := range keys {
		if k.ID == keyID || k.ID == "" {
			found = append(found, k)
		}
	}
	return found
}

// parseKeys returns the keys of a JWK Set that can verify a token. Its errors
// contain nothing of the set.
func parseKeys(jwks []byte) ([]Key, error) {
	if len(jwks) > maxJWKS {
		return nil, fmt.Errorf("the JWK Set has more than %d bytes", maxJWKS)
	}
	// Certificates and private parts are of no use here, and one that does not
	// parse must not hide the key.
	type jwk struct {
		Type      string `json:"kty"`
		ID        string `json:"kid,omitempty"`
		Use       string `json:"use,omitempty"`
		Algorithm string `json:"alg,omitempty"`
		Curve     string `json:"crv,omitempty"`
		N         string `json:"n,omitempty"`
		E         string `json:"e,omitempty"`
		X         string `json:"x,omitempty"`
		Y         string `json:"y,omitempty"`
	}
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if json.Unmarshal(jwks, &set) != nil || set.Keys == nil {
		return nil, errors.New("the JWK Set is not one")
	}
	var keys []Key
	for _, raw := range set.Keys {
		var public jwk
		if json.Unmarshal(raw, &public) != nil || public.Use != "" && public.Use != "sig" {
			continue
		}
		data, err := json.Marshal(public)
		if err != nil {
			return nil, err
		}
		var parsed jose.JSONWebKey
		if parsed.UnmarshalJSON(data) != nil {
			continue
		}
		k := Key{ID: parsed.KeyID, Algorithm: parsed.Algorithm, Public: parsed.Key}
		if k.usable() {
			keys = append(keys, k)
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("the JWK Set has no key that can verify a token")
	}
	return keys, nil
}
