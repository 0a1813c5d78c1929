package main

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/seed-a7bee19b/session"
)

// tokenChars is the length of a token of the default form and of a default key, in
// base64url.
const tokenChars = 32

// maxToken is the length of the longest token that a Config allows.
const maxToken = 4096

var errToken = errors.New("the text on standard input is not a token: it must be one line with the value of the cookie, " +
	"32 letters, digits, '-' and '_'; if Config.Tokens allows others, add --any-token")

var errAnyToken = errors.New("the text on standard input cannot be a token: it must be one line with the value of the cookie, " +
	"16 to 4096 characters that a cookie can have")

// tokenKey reads a token of the default form, the value of a cookie or a whole
// cookie, and returns the key of its session. The token appears nowhere else: not in
// errors, not in the output.
func tokenKey(r io.Reader) (string, error) {
	token, err := readToken(r)
	if err != nil {
		return "", err
	}
	if _, err := base64.RawURLEncoding.DecodeString(token); err != nil || len(token) != tokenChars {
		return "", errToken
	}
	return session.DefaultStoreKey(token), nil
}

// anyTokenKey is tokenKey for a token of any form that Config.Tokens allows.
func anyTokenKey(r io.Reader) (string, error) {
	token, err := readToken(r)
	if err != nil {
		return "", err
	}
	if len(token) < minToken || len(token) > maxToken {
		return "", errAnyToken
	}
	for i := range len(token) {
		switch c := token[i]; {
		case c <= ' ', c >= 0x7f, strings.IndexByte(`",.;\`, c) >= 0:
			return "", errAnyToken
		}
	}
	return session.DefaultStoreKey(token), nil
}

func readToken(r io.Reader) (string, error) {
	line, err := readLine(io.LimitReader(r, 2*maxToken))
	if err != nil {
		return "", fmt.Errorf("standard input cannot be read: %w", err)
	}
	token := strings.TrimSpace(line)
	// A token can end with '=' itself.
	if _, value, ok := strings.Cut(token, "="); ok && strings.Trim(value, "=") != "" {
		token = value
	}
	return strings.TrimSuffix(token, ";"), nil
}
