//go:build go1.25

package session_test

import (
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/memory"
)

// TestLastWriteDoesNotOutliveItsListing: a request in mode LastWrite follows a renewal
// that has listed the session for less time than the request has read.
func TestLastWriteDoesNotOutliveItsListing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b memory.Backend
		m := newManager(t, &b, renewing())
		last := withMode(t, m, session.LastWrite)
		s := login(t, m, session.Login{User: "ann"})
		check(t, s.Close(ctx))
		time.Sleep(renewAfter + time.Minute)
		slow, err := last.Open(ctx, s.Token().Reveal())
		check(t, err)
		w := visit(m, "POST", s.Token().Reveal(), m.HandlerFunc(func(_ http.ResponseWriter, _ *http.Request, s *session.Session) error {
			return s.SetLifetime(session.Lifetime{Idle: 2 * time.Hour, Absolute: 2 * time.Hour})
		}).ServeHTTP)
		if sent(w) == "" {
			t.Fatal("it was not renewed")
		}
		check(t, errors.Join(note.Set(slow, "y"), finish(last, slow)))
		time.Sleep(2 * time.Hour)
		check(t, m.Revoke(ctx, session.User("ann")))
		if alive(t, m, slow) {
			t.Error("it is alive after a revocation")
		}
	})
}

// TestListingForLess: a renewal lists the session for less time than it gets while
// the renewal is under way, or has if the renewal fails.
func TestListingForLess(t *testing.T) {
	for more, fails := range map[int]bool{0: false, 1: true, 20: false, 21: true} {
		synctest.Test(t, func(t *testing.T) {
			var b memory.Backend
			p := &process{Backend: &b}
			m := newManager(t, p, renewing())
			s := login(t, m, session.Login{User: "ann"})
			for range more {
				check(t, login(t, m, session.Login{User: "ann"}).Close(ctx))
			}
			check(t, s.SetLifetime(session.Lifetime{Idle: 2 * time.Hour, Absolute: 2 * time.Hour}))
			check(t, finish(m, s))
			time.Sleep(renewAfter + time.Minute)
			token := s.Token().Reveal()
			m2 := newManager(t, &b, renewing())
			old := open(t, m2, token)
			check(t, old.SetLifetime(session.Lifetime{Absolute: 100 * time.Hour}))
			done := false
			p.hooks(func(_ int, op, key string) error { // as the marker is about to be stored
				if op == "Save" && key == keyed(token) && !done {
					done = true
					check(t, finish(m2, old))
					if fails {
						return errDown
					}
				}
				return nil
			}, nil)
			w := visit(m, "POST", token, write(m))
			p.hooks(nil, nil)
			switch {
			case !done:
				t.Fatal("it was not renewed")
			case sent(w) != "":
				token = sent(w)
			case !fails:
				t.Errorf("status %d", w.Code)
			}
			time.Sleep(3 * time.Hour)
			s = open(t, m, token)
			check(t, s.Close(ctx))
			check(t, m.Revoke(ctx, session.User("ann")))
			if alive(t, m, s) {
				t.Errorf("%d: it is alive after a revocation", more)
			}
		})
	}
}
