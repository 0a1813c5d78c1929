package main

import (
	"encoding/base64"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// keysLast moves keys that begin with "-", as one in 64 does, behind a "--" at
// the end, where they are not taken for flags. It moves only those of the form
// that session.DefaultStoreKey makes: no flag is as long.
func keysLast(root *cobra.Command, args []string) []string {
	c, _, err := root.Find(args)
	if err != nil {
		return args
	}
	c.InheritedFlags() // adds them to those that c looks up
	var rest, keys []string
	for i := 0; i < len(args); i++ {
		arg := args[i]
		switch {
		case arg == "--":
			return slices.Concat(rest, []string{"--"}, keys, args[i+1:])
		case strings.HasPrefix(arg, "-") && isStoreKey(arg):
			keys = append(keys, arg)
			continue
		}
		rest = append(rest, arg)
		name, long := strings.CutPrefix(arg, "--")
		if f := c.Flag(name); long && f != nil && f.NoOptDefVal == "" && i+1 < len(args) {
			i++ // its value
			rest = append(rest, args[i])
		}
	}
	if keys == nil {
		return args
	}
	return slices.Concat(rest, []string{"--"}, keys)
}

// isStoreKey reports whether session.DefaultStoreKey can have made key.
func isStoreKey(key string) bool {
	if len(key) != tokenChars {
		return false
	}
	_, err := base64.RawURLEncoding.DecodeString(key)
	return err == nil
}
