package main

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/seed-a7bee19b/session"
)

// tokenChars is the length of a token and of a default key, in base64url.
const tokenChars = 32

var errToken = errors.New("the text on standard input is not a token: it must be one line with the value of the cookie, " +
	"32 letters, digits, '-' and '_'")

// tokenKey reads a token, the value of a cookie or a whole cookie, and returns
// the key of its session. The token appears nowhere else: not in errors, not
// in the output.
func tokenKey(r io.Reader) (string, error) {
	line, err := readLine(io.LimitReader(r, 4096))
	if err != nil {
		return "", fmt.Errorf("standard input cannot be read: %w", err)
	}
	token := strings.TrimSpace(line)
	if _, value, ok := strings.Cut(token, "="); ok {
		token = strings.TrimSuffix(value, ";")
	}
	if len(token) != tokenChars {
		return "", errToken
	}
	if _, err := base64.RawURLEncoding.DecodeString(token); err != nil {
		return "", errToken
	}
	return session.DefaultStoreKey(token), nil
}
