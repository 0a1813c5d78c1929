package session

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
)

// ID identifies a session to its client. Who holds its token holds the
// session: whichever way an ID is printed or logged, the token is left out.
type ID struct {
	// Two pointers, because package fmt prints what is in unexported fields of
	// the structs of others without asking its methods, and for a verb that
	// does not fit it follows one pointer.
	secret *secret
}

type secret struct{ token *string }

// Token returns the secret that goes to the client, and to [Manager.Open]. A
// zero ID has none.
func (id ID) Token() string {
	if id.secret == nil {
		return ""
	}
	return *id.secret.token
}

// String hides the token.
func (id ID) String() string { return "[session ID]" }

// Format hides the token, whatever the verb.
func (id ID) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, id.String()) }

// LogValue hides the token.
func (id ID) LogValue() slog.Value { return slog.StringValue(id.String()) }

// A token is 192 random bits: 32 characters of base64url, without padding or
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

func validToken(s string) bool {
	if len(s) != tokenChars {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_':
		default:
			return false
		}
	}
	return true
}

// DefaultStoreKey is the default of [Config.StoreKey], for those that put
// something around it, such as a prefix, and for tools.
func DefaultStoreKey(token string) string {
	h := sha256.Sum256([]byte(token))
	return base64.RawURLEncoding.EncodeToString(h[:tokenBytes])
}
