package main

import (
	"context"
	"encoding/hex"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/admin"
)

// Values of --keys.
const (
	keysAuto = "auto"
	keysShow = "show"
	keysHide = "hide"
)

const aboutKeys = `A key is printed if it has the form of a digest of a token, or is too short for
one. Another one may have a token in it, if Config.StoreKey makes no digests. In
its place stands "~" and 16 characters, which show and revoke take for a KEY: they
read the whole table to find it. --keys show prints all keys; whoever sees them may
be able to use the sessions. Use --keys hide if StoreKey returns tokens of the
default form as they are: nothing tells them from digests.`

func (a *app) addKeys(c *cobra.Command, fl *pflag.FlagSet) {
	fl.StringVar(&a.keys, "keys", keysAuto, "which keys to print: auto, show or hide")
	_ = c.RegisterFlagCompletionFunc("keys", cobra.FixedCompletions([]string{keysAuto, keysShow, keysHide}, cobra.ShellCompDirectiveNoFileComp))
}

func (a *app) checkKeys() error {
	if !slices.Contains([]string{keysAuto, keysShow, keysHide}, a.keys) {
		return usageError("--keys is %q; it can be auto, show, hide", a.keys)
	}
	return nil
}

// minToken is the length of the shortest token that a Config allows.
const minToken = 16

// key is what may be printed of a key.
func (a *app) key(key string) string {
	switch {
	case key == "" || a.keys == keysShow || isAlias(key):
		return key
	case a.php.on() || len(key) >= minToken && strings.HasPrefix(key, phpSessionName+"_"): // a token follows
		return alias(key)
	case a.keys != keysHide && (len(key) < minToken || isDigest(key)):
		return key
	}
	return alias(key)
}

// isDigest reports whether key looks as session.DefaultStoreKey makes it. A digest
// does not consist of digits in hex, but a token of another library may.
func isDigest(key string) bool {
	_, err := hex.DecodeString(key)
	return isStoreKey(key) && err != nil
}

const (
	aliasMark  = "~"
	aliasChars = 16
)

// alias stands for a key that may not be printed.
func alias(key string) string { return aliasMark + session.DefaultStoreKey(key)[:aliasChars] }

func isAlias(key string) bool {
	digest, ok := strings.CutPrefix(key, aliasMark)
	return ok && len(digest) == aliasChars && isStoreKey(digest+digest)
}

// resolve replaces aliases among keys by the keys for which they stand. One that
// stands for none stays.
func (a *app) resolve(ctx context.Context, s store, keys []string) ([]string, error) {
	if !slices.ContainsFunc(keys, isAlias) {
		return keys, nil
	}
	found := make(map[string]string, len(keys))
	for _, key := range keys {
		if isAlias(key) {
			found[key] = key
		}
	}
	a.warnOfScan(ctx, s)
	_, err := admin.List(ctx, s, admin.ListOptions{}, func(e admin.Entry) error {
		if as := alias(e.Key); found[as] != "" {
			found[as] = e.Key
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	resolved := slices.Clone(keys)
	for i, key := range keys {
		if isAlias(key) {
			resolved[i] = found[key]
		}
	}
	return resolved, nil
}
