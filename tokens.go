package session

import (
	"errors"
	"math"
)

// Tokens configures the form of tokens: which ones are drawn, and which ones of a
// client are looked up. The zero value is 32 characters of base64url, 192 random
// bits.
//
// It is for sites whose cookies come from another library, or go to one. A token of
// the other form that has a session in the store is good as it is: the response
// sets no cookie. One that has none is treated as any unknown token: its client gets
// a new session under a token of New, and never one under a token that it has
// brought along.
//
//	session.Tokens{MaxLength: 43} // also those of a library that draws 32 bytes in base64url
//	session.Tokens{New: rand.Text, MinLength: 26} // 26 letters and digits, without '-' and '_'
//
// A token may have the characters that a cookie can have without quotes: those of
// ASCII from '!' to '~' except '"', ',', ';' and '\'. It cannot have a dot, because
// the keys of [OwnersConfig.Index] are made from texts with one.
type Tokens struct {
	// New draws a token: at least 128 bits from a cryptographically secure source,
	// such as [crypto/rand.Text]. It must be safe for concurrent use. The function
	// New of this package draws some to try them: they must be different, and their
	// characters and length allow 128 bits. If New draws one later that Valid
	// refuses, saving a new session fails. Default: 24 random bytes in base64url.
	New func() string

	// Valid reports whether a text that a client has sent can be a token; without
	// one the store is not asked. It replaces the default, so it must accept the
	// tokens of New, and those that were handed out before. It must be safe for
	// concurrent use, and must not panic. Valid may check a signature that tokens
	// have. Its texts have the length and the characters of a token. Default:
	// letters, digits, '-' and '_'.
	Valid func(token string) bool

	// MinLength and MaxLength bound the length of a token in bytes. Default 32,
	// or the other one if only that is set and does not allow 32. MinLength is at
	// least 16, MaxLength at most 4,096. A [Config.StoreKey] of your own must make
	// a key of 512 bytes at most from the longest token.
	MinLength, MaxLength int
}

const (
	minTokenLength = 16 // 64 bits in hex; a token that can be guessed is none
	maxTokenLength = maxPair
	minTokenBits   = 128
)

func (t Tokens) withDefaults() Tokens {
	switch {
	case t.MaxLength == 0:
		t.MaxLength = max(tokenChars, t.MinLength)
		if t.MinLength == 0 {
			t.MinLength = tokenChars
		}
	case t.MinLength == 0:
		t.MinLength = min(tokenChars, t.MaxLength)
	}
	if t.New == nil {
		t.New = newToken
	}
	if t.Valid == nil {
		t.Valid = isBase64URL
	}
	return t
}

// check tries tokens that New draws, and returns them.
func (t *Tokens) check(p *problems) []string {
	switch {
	case t.MaxLength < minTokenLength || t.MaxLength > maxTokenLength:
		p.bad("Tokens: MaxLength is %d; it must be between %d and %d", t.MaxLength, minTokenLength, maxTokenLength)
	case t.MinLength < minTokenLength:
		p.bad("Tokens: MinLength is %d; it must be at least %d", t.MinLength, minTokenLength)
	case t.MinLength > t.MaxLength:
		p.bad("Tokens: MinLength is %d, and MaxLength is %d", t.MinLength, t.MaxLength)
	}
	drawn := make([]string, 64) // all 16 digits are then among the characters of hex
	seen := make(map[string]bool, len(drawn))
	var err error
	for i := range drawn {
		token := t.New()
		drawn[i] = token
		switch {
		case len(token) < t.MinLength || len(token) > t.MaxLength:
			p.bad("Tokens: New draws a token of %d bytes; MinLength is %d, and MaxLength is %d", len(token), t.MinLength, t.MaxLength)
			return drawn[:i+1]
		case !isTokenText(token):
			err = errors.New("session: Tokens: New draws a token with a character that no token may have")
		case !t.Valid(token):
			err = errors.New("session: Tokens: New draws a token that Valid refuses")
		case seen[token]:
			err = errors.New("session: Tokens: New draws a token twice")
		}
		seen[token] = true
	}
	if err == nil {
		if bits := mostBits(drawn); bits < minTokenBits {
			p.bad("Tokens: New draws tokens of %d random bits at most, as it seems; they must have %d", int(bits), minTokenBits)
		}
	}
	p.add(err)
	return drawn
}

// mostBits returns how many random bits tokens can have at most, as far as some of
// them tell: characters that never change have none.
func mostBits(tokens []string) float64 {
	alphabet := make(map[byte]bool)
	changing := 0
	for i := range tokens[0] {
		changes := false
		for _, token := range tokens {
			changes = changes || i >= len(token) || token[i] != tokens[0][i]
		}
		if !changes {
			continue
		}
		changing++
		for _, token := range tokens {
			if i < len(token) {
				alphabet[token[i]] = true
			}
		}
	}
	if changing == 0 {
		return 0
	}
	return float64(changing) * math.Log2(float64(len(alphabet)))
}

// valid reports whether s has the form of a token.
func (t *Tokens) valid(s string) bool {
	return len(s) >= t.MinLength && len(s) <= t.MaxLength && isTokenText(s) && t.Valid(s)
}

// draw draws a token.
func (t *Tokens) draw() (string, error) {
	token := t.New()
	if !t.valid(token) {
		return "", errors.New("Config.Tokens: New drew a token that is not valid")
	}
	return token, nil
}

// isTokenText reports whether a cookie and a header carry s as it is, and no key of
// the index of owners is made from it.
func isTokenText(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case c <= ' ', c >= 0x7f, c == '"', c == ',', c == ';', c == '\\', c == '.':
			return false
		}
	}
	return true
}

func isBase64URL(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_':
		default:
			return false
		}
	}
	return true
}
