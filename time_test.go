//go:build go1.25

package session_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-a7bee19b/session"
)

func TestTimeouts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b store
		m := newManager(t, &b, session.Config{IdleTimeout: time.Hour, AbsoluteTimeout: 3 * time.Hour, TouchInterval: 10 * time.Minute})
		token := begin(t, m, map[string]any{"note": "x"})
		visit := func() {
			t.Helper()
			check(t, finish(m, open(t, m, token)))
		}
		gone := func() {
			t.Helper()
			_, err := m.Open(ctx, token)
			wantErr(t, err, session.ErrNotFound)
		}
		b.took()
		time.Sleep(10*time.Minute - time.Second)
		visit()
		b.wantCalls(t, "Load") // within the TouchInterval a read writes nothing
		time.Sleep(time.Second)
		visit()
		b.wantCalls(t, "Load", "Touch")
		for range 3 {
			time.Sleep(50 * time.Minute)
			visit()
		}
		s := open(t, m, token)
		if want := s.Created().Add(3 * time.Hour); !s.Expires().Equal(want) {
			t.Errorf("expires %v, want the absolute deadline %v", s.Expires(), want)
		}
		time.Sleep(20*time.Minute - time.Second)
		b.took()
		visit()
		b.wantCalls(t, "Load") // the absolute deadline does not move
		time.Sleep(time.Second)
		gone()

		token = begin(t, m, map[string]any{"note": "x"})
		time.Sleep(time.Hour)
		gone() // idle

		token = begin(t, m, map[string]any{"note": "x"})
		for range 5 { // a write keeps it alive as well
			time.Sleep(30 * time.Minute)
			s := open(t, m, token)
			check(t, errOf(counter.Update(s, inc)))
			check(t, finish(m, s))
		}
		s = open(t, m, token)
		check(t, s.Login("gopher"))
		check(t, finish(m, s))
		if !s.Created().Equal(time.Now()) {
			t.Error("Login did not restart the absolute timeout")
		}
	})
}

func TestTimeoutsTurnedOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b store
		m := newManager(t, &b, session.Config{IdleTimeout: session.Never, AbsoluteTimeout: 10 * time.Hour})
		token := begin(t, m, map[string]any{"note": "x"})
		time.Sleep(10*time.Hour - time.Nanosecond)
		b.took()
		check(t, finish(m, open(t, m, token)))
		b.wantCalls(t, "Load")
		time.Sleep(time.Nanosecond)
		_, err := m.Open(ctx, token)
		wantErr(t, err, session.ErrNotFound)

		m = newManager(t, &b, session.Config{IdleTimeout: 10 * time.Hour, AbsoluteTimeout: session.Never})
		token = begin(t, m, map[string]any{"note": "x"})
		for range 100 {
			time.Sleep(9 * time.Hour)
			check(t, finish(m, open(t, m, token)))
		}
	})
}

func TestShorterAbsoluteTimeoutAppliesToOldSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b store
		m := newManager(t, &b, session.Config{})
		token := begin(t, m, map[string]any{"note": "x"})
		time.Sleep(time.Hour)
		strict := newManager(t, &b, session.Config{IdleTimeout: time.Hour, AbsoluteTimeout: time.Hour})
		_, err := strict.Open(ctx, token)
		wantErr(t, err, session.ErrNotFound)
	})
}

// TestNoRevivalAfterExpiry has a request that takes longer than its session
// lives.
func TestNoRevivalAfterExpiry(t *testing.T) {
	changes := map[string]func(*session.Session) error{
		"set":    func(s *session.Session) error { return note.Set(s, "late") },
		"rotate": func(s *session.Session) error { return s.Rotate() },
		"login":  func(s *session.Session) error { return s.Login("gopher") },
	}
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var b store
				m := newManager(t, &b, session.Config{IdleTimeout: time.Hour})
				token := begin(t, m, map[string]any{"note": "x"})
				s := open(t, m, token)
				reader := open(t, m, token)
				time.Sleep(time.Hour)
				check(t, change(s))
				b.took()
				wantErr(t, s.Save(ctx), session.ErrNotFound)
				b.wantCalls(t, "Load")
				check(t, finish(m, reader))
				b.wantCalls(t) // it is not touched either
				_, err := m.Open(ctx, token)
				wantErr(t, err, session.ErrNotFound)
			})
		})
	}
}

// TestSlowWriterOfASessionThatOthersKeptAlive checks a writer whose deadline, as
// it read it, has passed, while the stored one has not.
func TestSlowWriterOfASessionThatOthersKeptAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b store
		m := newManager(t, &b, session.Config{IdleTimeout: time.Hour})
		token := begin(t, m, map[string]any{"note": "x"})
		slow := open(t, m, token)
		check(t, counter.Set(slow, 1))
		time.Sleep(50 * time.Minute)
		other := open(t, m, token)
		check(t, note.Set(other, "y"))
		check(t, finish(m, other))
		time.Sleep(20 * time.Minute)
		check(t, finish(m, slow))
		wantValue(t, m, token, "counter", 1)
		wantValue(t, m, token, "note", "y")
	})
}

// TestWaitsAreBounded has a store that never responds.
func TestWaitsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b store
		m := newManager(t, &b, session.Config{CommitTimeout: 7 * time.Second})
		token := begin(t, m, map[string]any{"note": "x"})
		s, doomed := open(t, m, token), open(t, m, token)
		check(t, note.Set(s, "y"))
		hang := func(ctx context.Context, _ string) error { <-ctx.Done(); return ctx.Err() }
		b.before = hang
		calls := map[string]func(context.Context) error{
			"Open":    func(ctx context.Context) error { _, err := m.Open(ctx, token); return err },
			"Save":    func(ctx context.Context) error { return s.Save(ctx) },
			"Destroy": func(ctx context.Context) error { return doomed.Destroy(ctx) },
		}
		for name, call := range calls {
			ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
			start := time.Now()
			err := call(ctx)
			if took := time.Since(start); took != 3*time.Second {
				t.Errorf("%s took %v", name, took)
			}
			wantErr(t, err, context.DeadlineExceeded)
			cancel()
		}

		// The Handler saves with a bound of its own, even if the client is gone.
		b.healthy()
		h := m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s, err := m.Get(r.Context())
			check(t, err)
			check(t, note.Set(s, "z"))
			b.mu.Lock()
			b.before = hang
			b.mu.Unlock()
		}))
		w := httptest.NewRecorder()
		gone, cancel := context.WithCancel(ctx)
		r := httptest.NewRequestWithContext(gone, "GET", "/", nil)
		r.AddCookie(&http.Cookie{Name: "__Host-session", Value: token})
		time.AfterFunc(time.Second, cancel)
		start := time.Now()
		h.ServeHTTP(w, r)
		if took := time.Since(start); took != 7*time.Second || w.Code != http.StatusServiceUnavailable {
			t.Errorf("status %d after %v", w.Code, took)
		}
	})
}

// TestWaitsOfTheHandlerAreBounded checks that CommitTimeout and Lock.MaxWait
// together bound every wait of the Handler.
func TestWaitsOfTheHandlerAreBounded(t *testing.T) {
	hang := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	for name, tt := range map[string]struct {
		before func(ctx context.Context, op string, n int) error // the nth call
		saves  bool                                              // a goroutine of the handler does, too
	}{
		"a look at another's lock": {before: func(ctx context.Context, op string, _ int) error {
			if op == "Save" {
				return &session.LockedError{}
			}
			return hang(ctx)
		}},
		"another's Save that takes long, and then the store": {saves: true, before: func(ctx context.Context, _ string, n int) error {
			if n == 1 {
				time.Sleep(8 * time.Second)
				return errStore
			}
			return hang(ctx)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var b store
				m := newManager(t, &b, session.Config{CommitTimeout: 3 * time.Second, Lock: session.LockConfig{MaxWait: 6 * time.Second}})
				token := begin(t, m, map[string]any{"note": "x"})
				start := time.Now()
				w := serve(t, m, token, func(w http.ResponseWriter, r *http.Request, s *session.Session) {
					check(t, note.Set(s, "y"))
					b.took()
					b.mu.Lock()
					b.before = func(ctx context.Context, op string) error {
						b.mu.Lock()
						n := len(b.calls)
						b.mu.Unlock()
						return tt.before(ctx, op, n)
					}
					b.mu.Unlock()
					if tt.saves {
						go func() { _ = s.Save(ctx) }()
						synctest.Wait()
					}
				})
				if took := time.Since(start); took != 9*time.Second || w.Code != http.StatusServiceUnavailable {
					t.Errorf("status %d after %v", w.Code, took)
				}
			})
		})
	}
}

func TestPersistentCookieEndsWithTheSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, tt := range []struct {
			absolute time.Duration
			want     int
		}{{12 * time.Hour, 12 * 3600}, {session.Never, 400 * 24 * 3600}} {
			m := newManager(t, &store{}, session.Config{AbsoluteTimeout: tt.absolute, Cookie: session.Cookie{Persistent: true}})
			w := serve(t, m, "", func(w http.ResponseWriter, r *http.Request, s *session.Session) { check(t, note.Set(s, "x")) })
			if got := w.Result().Cookies()[0].MaxAge; got != tt.want {
				t.Errorf("Max-Age %d, want %d", got, tt.want)
			}
		}
	})
}
