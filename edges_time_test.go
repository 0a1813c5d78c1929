//go:build go1.25

package session_test

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/lock"
)

// TestSetBackAfterAnUnknownSave: the answer to a Save is lost, and the request then
// sets the value back. That is a change, although it is none to the value that the
// request has read: the store may have the other value.
func TestSetBackAfterAnUnknownSave(t *testing.T) {
	for name, tt := range map[string]struct {
		base     map[string]any
		do, undo func(s *session.Session) error
	}{
		"set": {map[string]any{"note": "old", "counter": 1},
			func(s *session.Session) error { return note.Set(s, "new") }, func(s *session.Session) error { return note.Set(s, "old") }},
		"added and deleted": {map[string]any{"counter": 1},
			func(s *session.Session) error { return note.Set(s, "new") }, func(s *session.Session) error { return note.Delete(s) }},
	} {
		for how, renew := range map[string]func(s *session.Session) error{
			"save":   func(*session.Session) error { return nil },
			"rotate": (*session.Session).Rotate,
		} {
			t.Run(name+", "+how, func(t *testing.T) {
				var b store
				m := newManager(t, &b, session.Config{})
				s := open(t, m, begin(t, m, tt.base))
				check(t, errors.Join(tt.do(s), renew(s)))
				if how == "save" {
					b.losing("Save", 1)
				} else { // the marker is stored, and all that is asked after that fails
					saves := 0
					b.after = func(op string) error {
						if saves++; saves >= 2 {
							return errStore
						}
						return nil
					}
				}
				wantErr(t, s.Save(ctx), errStore)
				b.healthy()
				check(t, tt.undo(s))
				want, err := note.Get(s)
				check(t, err)
				check(t, s.Save(ctx))
				wantValue(t, m, s.Token().Reveal(), "note", want)
			})
		}
	}
}

// TestLockerTouchFails: with a Locker, a deadline is moved and a lock is freed by two
// calls. If only the first one fails, the session does not hold the lock any more.
func TestLockerTouchFails(t *testing.T) {
	for name, later := range map[string]func(t *testing.T, m *session.Manager, token string, r *http.Request, s *session.Session){
		"the context goes on": func(t *testing.T, _ *session.Manager, _ string, r *http.Request, _ *session.Session) {
			time.Sleep(20 * time.Second)
			if err := context.Cause(r.Context()); err != nil {
				t.Errorf("the context has ended: %v", err)
			}
		},
		"a late change is saved": func(t *testing.T, m *session.Manager, token string, _ *http.Request, s *session.Session) {
			other, err := m.With(session.Route{Mode: session.Merge})
			check(t, err)
			o := open(t, other, token)
			check(t, counter.Set(o, 1))
			check(t, finish(other, o))
			check(t, note.Set(s, "y"))
			if err := s.Save(ctx); err != nil {
				t.Errorf("with a lock that was freed: %v", err)
			}
		},
		"others have their turn": func(t *testing.T, m *session.Manager, token string, _ *http.Request, _ *session.Session) {
			start := time.Now()
			o, err := m.Open(ctx, token)
			if err != nil {
				t.Fatalf("the lock is free: %v", err)
			}
			if waited := time.Since(start); waited > time.Second {
				t.Errorf("the lock is free, and another request has waited %v for it", waited)
			}
			check(t, o.Close(ctx))
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var b store
				m := newManager(t, &b, session.Config{Mode: session.Exclusive, Lock: session.LockConfig{Locker: &lock.Local{}}})
				token := begin(t, m, map[string]any{"note": "x"})
				time.Sleep(time.Hour) // so that the deadline is to be moved
				serve(t, m, token, func(w http.ResponseWriter, r *http.Request, s *session.Session) {
					b.failing("Touch", errStore)
					w.WriteHeader(http.StatusOK)
					b.healthy()
					later(t, m, token, r, s)
				})
			})
		})
	}
}
