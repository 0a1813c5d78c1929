package session

import (
	"errors"
	"testing"

	"github.com/seed-a7bee19b/session/internal/changes"
)

// TestFollow: edits of one value, one after the other, are made anew in that
// order, or not at all where the first does not depend on what is stored.
func TestFollow(t *testing.T) {
	failed := errors.New("failed")
	add := func(s string) changes.Edit {
		return changes.Edit{Redo: func(theirs []byte) ([]byte, error) { return append(theirs[:len(theirs):len(theirs)], s...), nil }}
	}
	fails := changes.Edit{Redo: func([]byte) ([]byte, error) { return nil, failed }}
	if follow(changes.Edit{Data: []byte("x")}, add("b")) != nil {
		t.Error("after one that does not depend on it, it does")
	}
	chain := add("a")
	for _, s := range []string{"b", "c", "d"} {
		chain.Redo = follow(chain, add(s))
	}
	for theirs, want := range map[string]string{"": "abcd", "x": "xabcd"} {
		if got, err := chain.Redo([]byte(theirs)); err != nil || string(got) != want {
			t.Errorf("on %q: %q, %v", theirs, got, err)
		}
	}
	for name, redo := range map[string]func([]byte) ([]byte, error){"the first": follow(fails, add("b")), "the second": follow(add("a"), fails)} {
		if got, err := redo([]byte("x")); !errors.Is(err, failed) || got != nil {
			t.Errorf("%s fails: %q, %v", name, got, err)
		}
	}
}
