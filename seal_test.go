package session

import (
	"encoding/base64"
	"strings"
	"testing"

	"github.com/seed-a7bee19b/session/codec"
)

// TestSealedToken: only the token of the old ID gives the new one, and what was
// changed gives nothing.
func TestSealedToken(t *testing.T) {
	m := newCore(nil, Config{StoreKey: DefaultStoreKey})
	old, token := newToken(), newToken()
	key := DefaultStoreKey(token)
	for _, kind := range []byte{sealRenewal, sealLogin} {
		sealed := seal(kind, token, key, old)
		if got, ok := m.unseal(sealed, key, old); got != token || !ok || sealed.kind() != kind {
			t.Errorf("%c: unsealed as %q, %v, of kind %c", kind, got, ok, sealed.kind())
		}
		if again := seal(kind, token, key, old); again != sealed {
			t.Errorf("%c: sealed as %q, and then as %q", kind, sealed, again)
		}
		for i := range len(sealed) {
			for _, c := range []string{"", "A", "B", "r", "l", "\x00", "é", "AA"} {
				other := sealed[:i] + sealedToken(c) + sealed[i+1:]
				if other == sealed {
					continue
				}
				if got, ok := m.unseal(other, key, old); ok {
					t.Errorf("%c: %q at %d gives %q", kind, c, i, got)
				}
			}
		}
		for what, try := range map[string]struct {
			sealed   sealedToken
			key, old string
		}{
			"another old token":          {sealed, key, newToken()},
			"no old token":               {sealed, key, ""},
			"the new token":              {sealed, key, token},
			"the keys, for the tokens":   {sealed, key, DefaultStoreKey(old)},
			"the key of another record":  {sealed, DefaultStoreKey(newToken()), old},
			"the key of the old record":  {sealed, DefaultStoreKey(old), old},
			"what another token sealed":  {seal(kind, token, key, newToken()), key, old},
			"another token":              {seal(kind, newToken(), key, old), key, old},
			"one sealed for another key": {seal(kind, token, DefaultStoreKey(newToken()), old), key, old},
			"another kind":               {sealedToken(sealRenewal+sealLogin-kind) + sealed[1:], key, old},
			"the token itself":           {sealedToken(kind) + sealedToken(token), key, old},
			"none":                       {"", key, old},
			"a kind alone":               {sealedToken(kind), key, old},
			"one that is too long":       {sealed + "A", key, old},
			"one without a kind":         {sealed[1:], key, old},
		} {
			if got, ok := m.unseal(try.sealed, try.key, try.old); ok {
				t.Errorf("%c, %s: it gives %q", kind, what, got)
			}
		}
	}
}

// TestStoredSeal: what is sealed today is unsealed by every later version.
func TestStoredSeal(t *testing.T) {
	m := newCore(nil, Config{StoreKey: DefaultStoreKey})
	const old, token, key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYX", "ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3", "bNQyJWq54bZSKlzyg0HEPKQg4k36Uqlh"
	for kind, want := range map[byte]sealedToken{
		sealRenewal: "rdHQ30K94yETO1lAEPkC5jmLawTmWgyGK",
		sealLogin:   "lY1Y0hw_-_w08W0zCKEPHcCTnZNthowAn",
	} {
		if got := seal(kind, token, key, old); got != want {
			t.Errorf("sealed as %q, want %q", got, want)
		}
		if got, ok := m.unseal(want, key, old); got != token || !ok {
			t.Errorf("unsealed as %q, %v", got, ok)
		}
	}
}

// FuzzUnseal: a sealed token that was not made for the two IDs gives nothing, and
// panics nowhere.
func FuzzUnseal(f *testing.F) {
	m := newCore(nil, Config{StoreKey: DefaultStoreKey})
	const old, token = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB"
	key := DefaultStoreKey(token)
	f.Add(string(seal(sealRenewal, token, key, old)), old)
	f.Add(string(seal(sealLogin, token, key, old)), old)
	f.Add("r"+token, token)
	f.Add("", "")
	f.Fuzz(func(t *testing.T, sealed, with string) {
		got, ok := m.unseal(sealedToken(sealed), key, with)
		if made := sealedToken(sealed) == seal(sealedToken(sealed).kind(), token, key, with); ok != made || ok && got != token {
			t.Errorf("%q with %q: %q, %v", sealed, with, got, ok)
		}
	})
}

// TestMarkerWithAToken: the sealed token is found again in the marker. One that
// cannot be read is none, and the marker leads where it did.
func TestMarkerWithAToken(t *testing.T) {
	for name, c := range bothCodecs() {
		m := newCore(nil, Config{Codec: c, StoreKey: DefaultStoreKey})
		old, token := newToken(), newToken()
		key := DefaultStoreKey(token)
		kept := encodedValues(t, c, map[string]any{"note": "x"})
		for _, kept := range []map[string][]byte{kept, nil} {
			sealed := seal(sealLogin, token, key, old)
			data, err := m.joinMarker(key, "1", sealed, kept)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(string(data), token) || strings.Contains(string(data), old) {
				t.Errorf("%s: a token is in the marker", name)
			}
			_, err = m.split(Record{Data: data})
			if to := asMoved(err); to == nil || to.key != key || to.sealed != sealed || !sameValues(to.kept, kept) {
				t.Errorf("%s: %+v", name, to)
			}
		}
		for _, junk := range []any{7, "", "x", []byte("r"), nil} {
			data, err := c.Join(encodedValues(t, c, map[string]any{movedName: key, sealedName: junk, "note": "x"}))
			if err != nil {
				t.Fatal(err)
			}
			_, err = m.split(Record{Data: data})
			to := asMoved(err)
			if to == nil || to.key != key || !sameValues(to.kept, kept) {
				t.Fatalf("%s: %v: %+v, %v", name, junk, to, err)
			}
			if _, ok := m.unseal(to.sealed, to.key, old); ok {
				t.Errorf("%s: %v gives a token", name, junk)
			}
		}
	}
}

// TestSealedTokenIsText: it asks no more of a codec than the key beside it.
func TestSealedTokenIsText(t *testing.T) {
	sealed := seal(sealRenewal, newToken(), newToken(), newToken())
	if len(sealed) != 1+tokenChars || !validToken(string(sealed[1:])) {
		t.Errorf("sealed as %q", sealed)
	}
	if data, err := (codec.JSON{}).Marshal(string(sealed)); err != nil || len(data) != len(sealed)+2 {
		t.Errorf("encoded as %q, %v", data, err)
	}
}

// TestSealedForeignToken: a token of another form is sealed as ours are.
func TestSealedForeignToken(t *testing.T) {
	m := newCore(nil, Config{StoreKey: DefaultStoreKey, Tokens: Tokens{MinLength: 16, MaxLength: 4096, Valid: func(string) bool { return true }}})
	long := strings.Repeat("~0123456789abcdef", 240)
	for _, token := range []string{long[:16], long[:24], long[:31], long[:32], long[:33], long[:64], long[:65], long} {
		for _, old := range []string{newToken(), long[:20], long} {
			key := DefaultStoreKey(token)
			for _, kind := range []byte{sealRenewal, sealLogin} {
				sealed := seal(kind, token, key, old)
				if got, ok := m.unseal(sealed, key, old); got != token || !ok || sealed.kind() != kind || strings.Contains(string(sealed), token[:16]) {
					t.Errorf("%d bytes, %c: unsealed as %q, %v", len(token), kind, got, ok)
				}
				for what, try := range map[string]struct {
					sealed   sealedToken
					key, old string
				}{
					"another old token":         {sealed, key, newToken()},
					"the key of another record": {sealed, DefaultStoreKey(old + "x"), old},
					"another kind":              {sealedToken(sealRenewal+sealLogin-kind) + sealed[1:], key, old},
					"one that is cut":           {sealed[:len(sealed)-2], key, old},
					"one that is too long":      {sealed + "AA", key, old},
					"one without its mark":      {sealedToken(kind) + sealed[2:], key, old},
					"a mark alone":              {sealed[:2], key, old},
					"the token itself":          {sealedToken(kind) + ":" + sealedToken(token), key, old},
				} {
					if got, ok := m.unseal(try.sealed, try.key, try.old); ok {
						t.Errorf("%d bytes, %c, %s: it gives %q", len(token), kind, what, got)
					}
				}
			}
		}
	}
	blocks := otherPad(sealLogin, "key", "old", 128)
	if seen := string(blocks); strings.Contains(seen[32:], seen[:32]) {
		t.Error("two parts of the pad are alike")
	}
	// There is one way to seal a token.
	token, old := newToken(), newToken()
	key := DefaultStoreKey(token)
	other := sealedToken(sealLogin) + sealOther + sealedToken(base64.RawURLEncoding.EncodeToString(xor([]byte(token), otherPad(sealLogin, key, old, len(token)))))
	if _, ok := m.unseal(other, key, old); ok {
		t.Error("a token of the default form is unsealed from another form")
	}
}

// TestStoredSealOfAForeignToken: it is unsealed by every later version.
func TestStoredSealOfAForeignToken(t *testing.T) {
	m := newCore(nil, Config{StoreKey: DefaultStoreKey, Tokens: Tokens{MinLength: 26, MaxLength: 43}})
	const old, token, key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYX", "0123456789abcdefghijklmnopqrstuvwxyzABCDEFG", "g0tuZ6q412zO9IRkeAUs8HN6MQeXPsGc"
	for kind, want := range map[byte]sealedToken{
		sealRenewal: "r:H6HdVjhdJDaGzuTwDHzBjhryGFk87TfhhIJFeA5kyTKoggAKf9ZZcaJmWw",
		sealLogin:   "l:pZobwImwGUcH3qIroOYeIoc_-QHov4hXemFxOgbteyKhEgSfKrWt7_H_Zw",
	} {
		if got := seal(kind, token, key, old); got != want {
			t.Errorf("sealed as %q, want %q", got, want)
		}
		if got, ok := m.unseal(want, key, old); got != token || !ok {
			t.Errorf("unsealed as %q, %v", got, ok)
		}
	}
}
