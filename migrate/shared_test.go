package migrate_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/memory"
	"github.com/seed-a7bee19b/session/migrate"
)

// sharedStore is a store that can be shared with another program.
type sharedStore struct {
	memory.Backend
	shared bool
	check  func(cfg session.Config) error
}

func (s *sharedStore) Shared() bool                         { return s.shared }
func (s *sharedStore) CheckConfig(cfg session.Config) error { return s.check(cfg) }

// TestShared checks that a Manager asks both stores, each about its own keys, and that
// nothing is moved into a store that another program uses.
func TestShared(t *testing.T) {
	errNo := errors.New("does not suit")
	var keys []string
	check := func(err error) func(session.Config) error {
		return func(cfg session.Config) error {
			keys = append(keys, cfg.StoreKey("token"))
			return err
		}
	}
	oldKey := func(key string) string { return "old:" + key }
	for _, tt := range []struct {
		name       string
		fresh, old *sharedStore
		shared     bool
		want       string
	}{
		{"neither", &sharedStore{check: check(nil)}, &sharedStore{check: check(nil)}, false, ""},
		{"the old one", &sharedStore{check: check(nil)}, &sharedStore{shared: true, check: check(nil)}, true, ""},
		{"the new one", &sharedStore{shared: true, check: check(nil)}, &sharedStore{check: check(nil)}, true, "is shared with another program"},
		{"the new one refuses", &sharedStore{check: check(errNo)}, &sharedStore{check: check(nil)}, false, errNo.Error()},
		{"the old one refuses", &sharedStore{check: check(nil)}, &sharedStore{check: check(errNo)}, false, errNo.Error()},
	} {
		keys = nil
		b, err := migrate.New(tt.fresh, migrate.From(tt.old, migrate.FromConfig{Key: oldKey}), migrate.Config{})
		if err != nil {
			t.Fatal(err)
		}
		if got := b.(session.SharedBackend).Shared(); got != tt.shared {
			t.Errorf("%s: Shared is %v", tt.name, got)
		}
		_, err = session.New(b, session.Config{StoreKey: func(token string) string { return "new:" + token }})
		if tt.want == "" != (err == nil) || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
		if got := strings.Join(keys, " "); err == nil && got != "new:token old:new:token" {
			t.Errorf("%s: keys %q", tt.name, got)
		}
	}
}
