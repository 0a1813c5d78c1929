//go:build go1.25

package session_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/memory"
)

// TestListedSessionsDoNotOutliveTheIndex raises the absolute timeout when sessions
// are listed. They end when the index takes them for over, unless they get a new ID
// before.
func TestListedSessionsDoNotOutliveTheIndex(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b memory.Backend
		cfg := session.Config{IdleTimeout: 20 * time.Hour, Owners: session.OwnersConfig{Index: true}}
		m := newManager(t, &b, cfg)
		stays := login(t, m, session.Login{User: "ann"}).Token().Reveal()
		moves := login(t, m, session.Login{User: "ann"})
		short := login(t, m, session.Login{User: "ann", Lifetime: session.Lifetime{Absolute: time.Hour, Idle: time.Hour}}).Token().Reveal()
		plain := begin(t, newManager(t, &b, session.Config{}), map[string]any{"note": "not listed"})

		cfg.AbsoluteTimeout = 72 * time.Hour
		m = newManager(t, &b, cfg)
		use := func(token string) {
			t.Helper()
			check(t, open(t, m, token).Close(t.Context()))
		}
		time.Sleep(50 * time.Minute)
		if n := len(handles(t, m, session.User("ann"))); n != 3 {
			t.Errorf("%d sessions are listed", n)
		}
		use(short)
		time.Sleep(20 * time.Minute)
		if n := len(handles(t, m, session.User("ann"))); n != 2 {
			t.Errorf("%d sessions are listed", n)
		}
		for _, token := range []string{stays, moves.Token().Reveal(), plain} {
			use(token)
		}
		time.Sleep(15 * time.Hour)
		s := open(t, m, moves.Token().Reveal())
		check(t, s.Rotate())
		check(t, s.Save(t.Context()))
		for range 2 {
			use(stays)
			use(plain)
			time.Sleep(4 * time.Hour)
		}
		use(plain) // more than 24 hours old
		_, err := m.Open(t.Context(), stays)
		wantErr(t, err, session.ErrNotFound)
		use(s.Token().Reveal())
		for range 3 {
			time.Sleep(15 * time.Hour)
			use(s.Token().Reveal())
			if got := handles(t, m, session.User("ann")); len(got) != 1 || got[0] != s.Handle() {
				t.Errorf("got %v", got)
			}
		}
		check(t, m.Revoke(t.Context(), session.User("ann")))
		_, err = m.Open(t.Context(), s.Token().Reveal())
		wantErr(t, err, session.ErrNotFound)
	})
}

// TestALongerLifetimeIsListed gives a listed session a longer lifetime.
func TestALongerLifetimeIsListed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b memory.Backend
		m := newManager(t, &b, session.Config{MaxIdleTimeout: 100 * time.Hour, MaxAbsoluteTimeout: 1000 * time.Hour, Owners: session.OwnersConfig{Index: true}})
		s := login(t, m, session.Login{User: "ann"})
		check(t, s.SetLifetime(session.Lifetime{Idle: 100 * time.Hour, Absolute: 1000 * time.Hour}))
		check(t, s.Save(t.Context()))
		for range 10 {
			time.Sleep(90 * time.Hour)
			check(t, open(t, m, s.Token().Reveal()).Close(t.Context()))
			if got := handles(t, m, session.User("ann")); len(got) != 1 {
				t.Errorf("got %v", got)
			}
		}
		check(t, m.Revoke(t.Context(), session.User("ann")))
		_, err := m.Open(t.Context(), s.Token().Reveal())
		wantErr(t, err, session.ErrNotFound)
	})
}
