//go:build go1.25

package session_test

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/memory"
)

// TestLogoutAsLateAsTheSession checks that the way to the new ID exists for as
// long as the old ID would have been valid.
func TestLogoutAsLateAsTheSession(t *testing.T) {
	for _, idle := range []time.Duration{30 * time.Second, time.Hour, session.Never} {
		synctest.Test(t, func(t *testing.T) {
			m := newManager(t, &memory.Backend{}, session.Config{IdleTimeout: idle, AbsoluteTimeout: 12 * time.Hour})
			token := begin(t, m, map[string]any{"note": "x"})
			s := open(t, m, token)
			token = rotated(t, m, token)
			late := max(idle, 9*time.Minute)
			if idle == session.Never {
				late = 12 * time.Hour
			}
			late -= time.Second
			for start := time.Now(); time.Since(start) < late; time.Sleep(min(late, late-time.Since(start), max(idle/2, time.Minute/4))) {
				wrote(t, m, token)
			}
			check(t, s.Destroy(ctx))
			_, err := m.Open(ctx, token)
			wantErr(t, err, session.ErrNotFound)
		})
	}
}

// TestLogoutWhileLocked checks that a logout waits for the holder and follows
// its rotation, but waits no longer than MaxWait.
func TestLogoutWhileLocked(t *testing.T) {
	for _, stuck := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			m := newManager(t, &memory.Backend{}, session.Config{Lock: session.LockConfig{MaxWait: 3 * time.Second}})
			exclusive, err := m.With(session.Route{Mode: session.Exclusive})
			check(t, err)
			token := begin(t, m, map[string]any{"note": "x"})
			s, holder := open(t, m, token), open(t, exclusive, token)
			check(t, holder.Login("ann"))
			if !stuck {
				time.AfterFunc(2*time.Second, func() { check(t, holder.Save(ctx)) })
			}
			start := time.Now()
			check(t, s.Destroy(ctx))
			if took := time.Since(start); took > 3*time.Second {
				t.Errorf("it took %v", took)
			}
			if stuck {
				wantErr(t, holder.Save(ctx), session.ErrNotFound)
			}
			check(t, holder.Close(ctx))
			for _, token := range []string{token, holder.Token().Reveal()} {
				_, err = m.Open(ctx, token)
				wantErr(t, err, session.ErrNotFound)
			}
		})
	}
}

// TestLogoutEndsWithItsContext checks that it ends even if others keep changing
// the session.
func TestLogoutEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b store
		m := newManager(t, &b, session.Config{})
		s := open(t, m, begin(t, m, map[string]any{"note": "x"}))
		b.before = func(_ context.Context, op string) error {
			if op == "End" {
				return &session.ConflictError{}
			}
			return nil
		}
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		start := time.Now()
		wantErr(t, s.Destroy(short), context.DeadlineExceeded)
		if took := time.Since(start); took != time.Second {
			t.Errorf("it took %v", took)
		}
		wantErr(t, s.Destroy(ctx), session.ErrConflict) // and without a context it ends too
		b.healthy()
		check(t, s.Destroy(ctx))
	})
}

// TestLogoutUnderAnOldID checks that a browser that has only the old ID can log
// out, at once and for as long as the ID would have been valid.
func TestLogoutUnderAnOldID(t *testing.T) {
	for _, tt := range []struct {
		method string
		after  time.Duration
		want   int
	}{
		{"GET", time.Second, http.StatusConflict},
		{"GET", 11 * time.Second, http.StatusOK},
		{"POST", time.Second, http.StatusOK},
		{"POST", 11 * time.Second, http.StatusOK},
		{"DELETE", 119 * time.Minute, http.StatusOK},
	} {
		for _, mode := range []session.Mode{session.Merge, session.LastWrite, session.Exclusive} {
			for _, user := range []string{"", "ann"} {
				for rotations := 1; rotations <= 3; rotations++ {
					t.Run(fmt.Sprintf("%s after %v, %v, %d rotations, user %q", tt.method, tt.after, mode, rotations, user), func(t *testing.T) {
						synctest.Test(t, func(t *testing.T) {
							var b store
							m := newManager(t, &b, session.Config{Mode: mode})
							old := begin(t, m, map[string]any{"note": "x"})
							if user != "" {
								old = loggedIn(t, m, old)
							}
							token := old
							for range rotations {
								token = loggedIn(t, m, token)
							}
							time.Sleep(tt.after - time.Second)
							token = wrote(t, m, token)
							time.Sleep(time.Second)
							w := visit(m, tt.method, old, logout(m))
							if w.Code != tt.want {
								t.Fatalf("status %d, want %d", w.Code, tt.want)
							}
							_, err := m.Open(ctx, token)
							if tt.want != http.StatusOK {
								check(t, err)
								return
							}
							wantErr(t, err, session.ErrNotFound)
							if c := w.Result().Cookies(); len(c) != 1 || c[0].MaxAge >= 0 {
								t.Errorf("cookies %v", c)
							}
							w = visit(m, tt.method, old, logout(m)) // once more, from another window
							if w.Code != http.StatusOK {
								t.Errorf("the second time: %d", w.Code)
							}
						})
					})
				}
			}
		}
	}
}
