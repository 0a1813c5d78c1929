package session

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
)

// A sealedToken is the token under a new ID, in the marker under the old one. It
// takes the old token to read it: a reader of the store has neither. Its first
// byte says what it is for. The rest has the form of a token; for a token that is
// not of the default form, it is a colon and base64url. "" is none.
type sealedToken string

const (
	sealRenewal = 'r' // the ID was renewed: requests under the old one go on with the session
	sealLogin   = 'l' // a login: another login of the same user joins its session
	sealAuth    = 'a' // a Reauthenticate: another one that was in flight joins its session

	sealOther = ":" // before a token that is not of the default form
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
	if !validToken(token) {
		sealed := xor([]byte(token), otherPad(kind, key, old, len(token)))
		return sealedToken(kind) + sealOther + sealedToken(base64.RawURLEncoding.EncodeToString(sealed))
	}
	pad := sealPad(kind, key, old)
	return sealedToken(kind) + sealedToken(xorToken(token, pad))
}

// unseal returns the token that seal was given, or false if it is not that of the
// record at key.
func (m *core) unseal(sealed sealedToken, key, old string) (token string, ok bool) {
	switch text := string(sealed[min(1, len(sealed)):]); {
	case validToken(text):
		token = xorToken(text, sealPad(sealed.kind(), key, old))
	case len(text) > len(sealOther) && text[:len(sealOther)] == sealOther:
		b, err := base64.RawURLEncoding.Strict().DecodeString(text[len(sealOther):])
		if err != nil || len(b) > maxTokenLength {
			return "", false
		}
		token = string(xor(b, otherPad(sealed.kind(), key, old, len(b))))
		if validToken(token) {
			return "", false // seal does not make that
		}
	}
	if !m.cfg.Tokens.valid(token) {
		return "", false
	}
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

// otherPad is sealPad for a token of n bytes that is not of the default form.
func otherPad(kind byte, key, old string, n int) []byte {
	h := hmac.New(sha256.New, []byte(old))
	var pad []byte
	for block := uint32(0); len(pad) < n; block++ {
		h.Reset()
		h.Write([]byte("session: sealed token of another form\x00"))
		h.Write(binary.BigEndian.AppendUint32([]byte{kind}, block))
		h.Write([]byte(key))
		pad = h.Sum(pad)
	}
	return pad
}

// xorToken returns the token whose bytes are those of token and pad combined.
func xorToken(token string, pad []byte) string {
	var b [tokenBytes]byte
	_, _ = base64.RawURLEncoding.Decode(b[:], []byte(token)) // tokens are valid
	return base64.RawURLEncoding.EncodeToString(xor(b[:], pad))
}

// xor combines b, which it changes, with as much of pad.
func xor(b, pad []byte) []byte {
	for i := range b {
		b[i] ^= pad[i]
	}
	return b
}
