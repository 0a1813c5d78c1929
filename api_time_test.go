//go:build go1.25

package session_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/observe"
	"github.com/seed-a7bee19b/session/sessiontest"
)

// TestLockLostToTheStore checks that a lock is lost if it cannot be renewed, and
// that the errors name the store as the cause.
func TestLockLostToTheStore(t *testing.T) {
	for name, fail := range map[string]func(b *sessiontest.Store, l *downLocker){
		"LockingBackend": func(b *sessiontest.Store, _ *downLocker) { b.Fail(observe.OpExtend, errStore) },
		"Locker":         func(_ *sessiontest.Store, l *downLocker) { l.fail(observe.OpExtend) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var b sessiontest.Store
				var l downLocker
				cfg := session.Config{Mode: session.Exclusive}
				if name == "Locker" {
					cfg.Lock.Locker = &l
				}
				m := newManager(t, &b, cfg)
				s := open(t, m, begin(t, m, map[string]any{"note": "kept"}))
				check(t, note.Set(s, "late"))
				fail(&b, &l)
				time.Sleep(m.Config().Lock.TTL + time.Second)
				cause, saved, closed := context.Cause(s.Context()), s.Save(ctx), s.Close(ctx)
				for what, err := range map[string]error{"the cause of its context": cause, "Save": saved, "Close": closed} {
					if !errors.Is(err, session.ErrLockLost) || !errors.Is(err, session.ErrStore) {
						t.Errorf("%s: %v", what, err)
					}
				}
				wantText(t, "Save", saved)
				wantText(t, "Close", closed)
			})
		})
	}
}

// TestLockHeldTooLong checks that the error is not a failure of the store.
func TestLockHeldTooLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b sessiontest.Store
		m := newManager(t, &b, session.Config{Mode: session.Exclusive})
		s := open(t, m, begin(t, m, map[string]any{"note": "kept"}))
		check(t, note.Set(s, "late"))
		time.Sleep(m.Config().Lock.MaxHold + time.Second)
		err := s.Save(ctx)
		if !errors.Is(err, session.ErrLockLost) || errors.Is(err, session.ErrStore) {
			t.Errorf("Save: %v", err)
		}
		wantText(t, "Save", err)
	})
}
