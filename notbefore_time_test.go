//go:build go1.25

package session_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/memory"
)

// TestNotBefore ends all sessions that began or logged in before a time.
func TestNotBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b memory.Backend
		m := newManager(t, &b, session.Config{})
		early := begin(t, m, map[string]any{"note": "early"})
		relogin := open(t, m, begin(t, m, map[string]any{"note": "logs in later"}))
		moved := open(t, m, begin(t, m, map[string]any{"note": "gets a new ID later"}))
		time.Sleep(time.Minute)
		cut := time.Now()
		check(t, relogin.Login("ann"))
		check(t, relogin.Save(t.Context()))
		late := begin(t, m, map[string]any{"note": "late"})
		time.Sleep(time.Minute)
		check(t, moved.Rotate())
		check(t, moved.Save(t.Context()))

		m = newManager(t, &b, session.Config{NotBefore: cut.In(time.FixedZone("", 3600))})
		for _, token := range []string{late, relogin.Token().Reveal()} {
			check(t, open(t, m, token).Close(t.Context()))
		}
		for _, token := range []string{early, moved.Token().Reveal()} {
			_, err := m.Open(t.Context(), token)
			wantErr(t, err, session.ErrNotFound)
		}
		// It has ended for those too that do not know of the time.
		m = newManager(t, &b, session.Config{})
		_, err := m.Open(t.Context(), early)
		wantErr(t, err, session.ErrNotFound)
	})
}

func TestNotBeforeIsNotInTheFuture(t *testing.T) {
	if _, err := session.New(&memory.Backend{}, session.Config{NotBefore: time.Now().Add(time.Hour)}); err == nil {
		t.Error("no error")
	}
}
