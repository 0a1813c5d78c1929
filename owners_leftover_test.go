package session_test

import (
	"strings"
	"testing"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/memory"
)

// TestPackedByAnother: of two processes that pack at once, the slower one leaves no
// pages behind.
func TestPackedByAnother(t *testing.T) {
	for name, lost := range map[string]bool{"it is told": false, "an answer is lost": true} {
		var b memory.Backend
		p := &process{Backend: &b}
		mp := newManager(t, p, session.Config{Owners: session.OwnersConfig{Index: true}, StoreKey: keyed})
		m := newManager(t, &b, session.Config{Owners: session.OwnersConfig{Index: true}, StoreKey: keyed})
		for range 15 {
			login(t, m, session.Login{User: "ann"})
		}
		packed := false
		p.hooks(func(_ int, op, key string) error {
			if op == "Save" && strings.HasPrefix(key, "page.") {
				for range 8 {
					login(t, m, session.Login{User: "ann"})
				}
				packed = true
			}
			return nil
		}, func(_ int, op, key string) error {
			if lost && packed && op == "Save" && strings.HasPrefix(key, "owner.") {
				lost = false
				return errStore
			}
			return nil
		})
		login(t, mp, session.Login{User: "ann"})
		const sessions, head, page = 24, 1, 1
		if n := b.Len(); n != sessions+head+page && (name == "it is told" || n != sessions+head+2*page) {
			t.Errorf("%s: %d records", name, n)
		}
		if n := len(handles(t, m, session.User("ann"))); n != sessions {
			t.Errorf("%s: %d are listed", name, n)
		}
	}
}
