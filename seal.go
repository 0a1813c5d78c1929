package session

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
)

// A sealedToken is the token under a new ID, in the marker under the old one. It
// takes the old token to read it: a reader of the store has neither. Its first
// byte says what it is for; the rest has the form of a token. "" is none.
type sealedToken string

const (
	sealRenewal = 'r' // the ID was renewed: requests under the old one go on with the session
	sealLogin   = 'l' // a login: another login of the same user joins its session
	sealAuth    = 'a' // a Reauthenticate: another one that was in flight joins its session
)

// kind returns the first byte, 0 if there is none.
func (t sealedToken) kind() byte {
	if t == "" {
		return 0
	}
	return t[0]
}

// seal seals token, whose record has key, for the marker under the ID of the token
// old.
func seal(kind byte, token, key, old string) sealedToken {
	pad := sealPad(kind, key, old)
	return sealedToken(kind) + sealedToken(xorToken(token, pad))
}

// unseal returns the token that seal was given, or false if it is not that of the
// record at key.
func (m *core) unseal(sealed sealedToken, key, old string) (token string, ok bool) {
	if sealed == "" || !validToken(string(sealed[1:])) {
		return "", false
	}
	token = xorToken(string(sealed[1:]), sealPad(sealed.kind(), key, old))
	return token, m.cfg.StoreKey(token) == key
}

// sealPad makes the pad for one token, as no other has that key.
func sealPad(kind byte, key, old string) []byte {
	h := hmac.New(sha256.New, []byte(old))
	h.Write([]byte("session: sealed token\x00"))
	h.Write([]byte{kind})
	h.Write([]byte(key))
	return h.Sum(nil)[:tokenBytes]
}

// xorToken returns the token whose bytes are those of token and pad combined.
func xorToken(token string, pad []byte) string {
	var b [tokenBytes]byte
	_, _ = base64.RawURLEncoding.Decode(b[:], []byte(token)) // tokens are valid
	for i := range b {
		b[i] ^= pad[i]
	}
	return base64.RawURLEncoding.EncodeToString(b[:])
}
