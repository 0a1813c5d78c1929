//go:build go1.25

package session_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/memory"
)

// TestLoginWhoseAnswerIsLost checks that a browser that still has the ID from
// before the login keeps its session while the new ID is unused, and can log in
// again.
func TestLoginWhoseAnswerIsLost(t *testing.T) {
	do := map[string]func(s *session.Session) error{
		"read":   func(s *session.Session) error { _, err := note.Get(s); return err },
		"write":  func(s *session.Session) error { return errOf(counter.Update(s, inc)) },
		"rotate": func(s *session.Session) error { return s.Rotate() },
		"login":  func(s *session.Session) error { return s.Login("ann") },
		"login and write": func(s *session.Session) error {
			return errors.Join(s.Login("ann"), errOf(counter.Update(s, inc)))
		},
	}
	const conflict, ok = http.StatusConflict, http.StatusOK
	for _, tt := range []struct {
		method string
		after  time.Duration
		do     string
		used   string // the state of the new ID
		status int
		token  bool   // is sent
		note   string // as read
	}{
		{"GET", time.Second, "read", "", conflict, false, ""},
		{"GET", time.Second, "login", "", conflict, false, ""},
		{"POST", time.Second, "read", "", ok, false, "cart"},
		{"POST", time.Second, "write", "", conflict, false, "cart"},
		{"POST", time.Second, "rotate", "", conflict, false, "cart"},
		{"POST", time.Second, "login", "", ok, true, "cart"},
		{"POST", time.Second, "login and write", "", ok, true, "cart"},
		{"GET", 11 * time.Second, "read", "", ok, false, "cart"},
		{"GET", 11 * time.Second, "write", "", ok, true, "cart"},
		{"POST", 11 * time.Second, "rotate", "", ok, true, "cart"},
		{"POST", 11 * time.Second, "login", "", ok, true, "cart"},
		{"POST", time.Hour, "login", "", ok, true, "cart"},
		{"POST", time.Hour, "login", "read", ok, true, "cart"},
		// A request has used the new ID, so the old one is worth nothing.
		{"POST", time.Second, "read", "write", conflict, false, ""},
		{"POST", time.Second, "write", "write", conflict, false, ""},
		{"POST", time.Second, "login", "write", ok, true, ""}, // it joins the session
		{"POST", 11 * time.Second, "read", "write", ok, false, ""},
		{"POST", 11 * time.Second, "write", "write", ok, true, ""},
		{"POST", 11 * time.Second, "read", "rotate", ok, false, ""},
		{"POST", 11 * time.Second, "read", "logout", ok, false, ""},
		{"POST", time.Second, "read", "logout", conflict, false, ""},
		{"POST", time.Second, "login", "logout", ok, true, ""},
		{"POST", 3 * time.Hour, "read", "", ok, false, ""}, // both have expired
	} {
		for _, mode := range []session.Mode{session.Merge, session.LastWrite, session.Exclusive} {
			t.Run(fmt.Sprintf("%s %s after %v, used: %s, %v", tt.method, tt.do, tt.after, tt.used, mode), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					m := newManager(t, &memory.Backend{}, session.Config{Mode: mode})
					old := begin(t, m, map[string]any{"note": "cart"})
					first := loggedIn(t, m, old)
					switch tt.used {
					case "read":
						check(t, open(t, m, first).Close(ctx))
					case "write":
						wrote(t, m, first)
					case "rotate":
						rotated(t, m, first)
					case "logout":
						check(t, open(t, m, first).Destroy(ctx))
					}
					time.Sleep(tt.after)
					read := ""
					w := visit(m, tt.method, old, func(w http.ResponseWriter, r *http.Request) {
						s, err := m.Get(r.Context())
						if err == nil {
							read, _ = note.Get(s)
							err = do[tt.do](s)
						}
						if err != nil {
							wantErr(t, err, session.ErrNotFound)
							m.Error(w, r, err)
						}
					})
					if w.Code != tt.status || (sent(w) != "") != tt.token || read != tt.note {
						t.Fatalf("status %d, token sent %v, read %q", w.Code, sent(w) != "", read)
					}
					if _, err := m.Open(ctx, old); !errors.Is(err, session.ErrNotFound) {
						t.Errorf("the old ID opens: %v", err)
					}
					if tt.token {
						want := tt.note
						if tt.used == "write" && tt.do == "login" {
							want = "cart" // of the session that it has joined
						}
						wantValue(t, m, sent(w), "note", want)
					}
				})
			})
		}
	}
}

// TestOldIDOfAUserIsWorthNothing checks that the old ID of a logged-in user opens
// no session, which is the purpose of a rotation.
func TestOldIDOfAUserIsWorthNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, &memory.Backend{}, session.Config{})
		token := loggedIn(t, m, begin(t, m, map[string]any{"note": "secret"}))
		for _, next := range []func(testing.TB, *session.Manager, string) string{loggedIn, rotated} {
			old := token
			token = next(t, m, token)
			for _, after := range []time.Duration{time.Second, 11 * time.Second} {
				time.Sleep(after)
				for _, method := range []string{"GET", "POST"} {
					visit(m, method, old, func(_ http.ResponseWriter, r *http.Request) {
						s, err := m.Get(r.Context())
						if err != nil {
							wantErr(t, err, session.ErrNotFound)
							return
						}
						user, _ := s.User()
						if got, _ := note.Get(s); got != "" || user != "" || s.Has("note") || len(s.Names()) != 0 || !s.IsNew() {
							t.Errorf("the old ID has %q of %q", got, user)
						}
					})
				}
			}
		}
	})
}

// TestDoubleClick checks that each click on "log in" gets a page and a session,
// even if the one before was not answered.
func TestDoubleClick(t *testing.T) {
	m := newManager(t, &memory.Backend{}, session.Config{})
	old := begin(t, m, map[string]any{"note": "cart"})
	var w *httptest.ResponseRecorder
	for range 3 {
		w = visit(m, "POST", old, m.HandlerFunc(func(_ http.ResponseWriter, _ *http.Request, s *session.Session) error {
			return s.Login("ann")
		}).ServeHTTP)
		if w.Code != http.StatusOK || sent(w) == "" {
			t.Fatalf("status %d", w.Code)
		}
		wantValue(t, m, sent(w), "note", "cart")
	}
}

// TestStoreErrorUnderAnOldID checks that it is not an empty session.
func TestStoreErrorUnderAnOldID(t *testing.T) {
	var b store
	m := newManager(t, &b, session.Config{})
	old := begin(t, m, map[string]any{"note": "cart"})
	loggedIn(t, m, old)
	loads := 0
	b.before = func(context.Context, string) error {
		if loads++; loads > 1 {
			return errStore
		}
		return nil
	}
	w := visit(m, "POST", old, logout(m))
	if w.Code != http.StatusServiceUnavailable || len(w.Result().Cookies()) != 0 {
		t.Errorf("status %d, cookies %v", w.Code, w.Result().Cookies())
	}
}
