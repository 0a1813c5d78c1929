package session

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
)

// Token is the secret by which a client has its session. Whoever holds it holds
// the session, so a Token prints and logs as "[session token]", whatever the
// verb and whatever it is a part of; [Token.Reveal] returns the secret. Tokens
// cannot be compared: compare what Reveal returns.
type Token struct {
	_ [0]func()
	// Two pointers, because package fmt prints the unexported fields of a
	// struct without asking its methods, and follows one pointer for a verb
	// that does not fit.
	secret *secret
}

type secret struct{ token *string }

// Reveal returns the secret that goes to the client, and to [Manager.Open]; ""
// for the token of a session that is not stored.
func (t Token) Reveal() string {
	if t.secret == nil {
		return ""
	}
	return *t.secret.token
}

// String hides the secret.
func (t Token) String() string { return "[session token]" }

// Format hides the secret.
func (t Token) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, t.String()) }

// LogValue hides the secret.
func (t Token) LogValue() slog.Value { return slog.StringValue(t.String()) }

// A token of the default form is 192 random bits: 32 characters of base64url, without padding or
// unused bits, so that there is one spelling only.
const (
	tokenBytes = 24
	tokenChars = tokenBytes / 3 * 4
)

func newToken() string {
	var b [tokenBytes]byte
	rand.Read(b[:]) // never fails
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// validToken reports whether s has the form that newToken gives.
func validToken(s string) bool {
	return len(s) == tokenChars && isBase64URL(s)
}

// DefaultStoreKey is the default of [Config.StoreKey], for those that put
// something around it, such as a prefix, and for tools.
func DefaultStoreKey(token string) string {
	h := sha256.Sum256([]byte(token))
	return base64.RawURLEncoding.EncodeToString(h[:tokenBytes])
}
