package migrate

import (
	"strings"

	"github.com/seed-a7bee19b/session"
)

// tokenMark is in front of a key that is a token. No digest has a colon.
const tokenMark = "token:"

// innerMark is in front of a key of the old store that is not a token: no token has
// a dot, so the digest of both is not that of a token.
const innerMark = "."

// maxToken keeps a key within the 512 bytes of a backend.
const maxToken = 480

// StoreKey returns a function for [session.Config.StoreKey] while sessions move from
// a store whose keys are tokens. old reports whether a token has the form of those
// of the old store, as far as it is not also the form of the new ones. For such a
// token the function returns a key from which the [Source] gets the token back; the
// new store has [session.DefaultStoreKey] of it, as for all others. So the setting
// can be taken away when the old store is gone.
//
// A session that gets a new ID remembers the keys of its last old IDs, so that of
// the old store's token too. It is worth nothing by then, unless
// session.Config.RenewAfter gave the new ID: then it is good for RenewOverlap.
func StoreKey(old func(token string) bool) func(token string) string {
	return func(token string) string {
		if len(token) > maxToken || old == nil || !old(token) {
			return session.DefaultStoreKey(token)
		}
		return tokenMark + token
	}
}

// StoreKeyOf is StoreKey for tokens that have the key of the old store inside, such
// as a signed session ID. keyOf takes it out; it reports false for a token that is
// not of the old store. It must check the signature, and give a token the same key
// each time. Several tokens can have one key: they are tokens of one session.
//
// The [Source] gets the key. The new store has a digest of the key, which is that of
// no other token. So the setting must stay, with [Config.TokenKeys] in phase [Gone],
// for as long as clients have such tokens. A key may have 479 bytes; a token with a
// longer one has no session.
func StoreKeyOf(keyOf func(token string) (key string, ok bool)) func(token string) string {
	return func(token string) string {
		if keyOf != nil {
			if key, ok := keyOf(token); ok && len(key) < maxToken {
				return tokenMark + innerMark + key
			}
		}
		return session.DefaultStoreKey(token)
	}
}

// tokenOf returns the token of a key of StoreKey, or what StoreKeyOf has instead.
func tokenOf(key string) (token string, ok bool) { return strings.CutPrefix(key, tokenMark) }

// sourceKey returns what the Source takes for a key.
func (m *mover) sourceKey(key string) string {
	if !m.tokens {
		return key
	}
	token, _ := tokenOf(key)
	return strings.TrimPrefix(token, innerMark)
}

// newKey returns the key in the new store.
func (m *mover) newKey(key string) string {
	if !m.tokens {
		return key
	}
	if token, ok := tokenOf(key); ok {
		return session.DefaultStoreKey(token)
	}
	return key
}
