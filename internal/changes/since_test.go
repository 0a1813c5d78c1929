package changes_test

import (
	"maps"
	"testing"

	"github.com/seed-a7bee19b/session/internal/changes"
)

// TestSinceSetBack: a value that was set and perhaps saved, and then set back, is an
// edit that is left to save.
func TestSinceSetBack(t *testing.T) {
	for name, tt := range map[string]struct {
		base     values
		do, undo func(*changes.Changes)
	}{
		"set":     {values{"a": "1"}, set("a", "2"), set("a", "1")},
		"added":   {values{}, set("a", "2"), del("a")},
		"deleted": {values{"a": "1"}, del("a"), set("a", "1")},
		"updated": {values{"a": "1"}, add("a", "x"), set("a", "1")},
	} {
		t.Run(name, func(t *testing.T) {
			c := changes.On(tt.base.encoded())
			tt.do(&c)
			saved := maps.Clone(c.Values())
			c.Doubt()
			tt.undo(&c)
			if got, want := decoded(c.Since(saved).Values()), decoded(c.Values()); !maps.Equal(got, want) {
				t.Errorf("%v, want %v", got, want)
			}
		})
	}
}
