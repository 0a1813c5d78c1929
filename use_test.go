//go:build go1.25

package session_test

import (
	"bufio"
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/lock"
)

// TestARequestThatBeganInTimeCountsAsUse checks a request that ends long after
// the deadline that the session had at its beginning. Its changes are kept, and
// the user stays logged in.
func TestARequestThatBeganInTimeCountsAsUse(t *testing.T) {
	type handler = func(t *testing.T, m *session.Manager, w http.ResponseWriter, r *http.Request, s *session.Session)
	const idle = 10 * time.Second
	set := func(t *testing.T, _ *session.Manager, _ http.ResponseWriter, _ *http.Request, s *session.Session) {
		check(t, note.Set(s, "late"))
	}
	locker := session.LockConfig{Locker: &lock.Local{}}
	for _, tt := range []struct {
		name string
		cfg  session.Config
		idle time.Duration // before the request
		work time.Duration
		f    handler
		note string
	}{
		{name: "read", work: 65 * time.Second, note: "x"},
		{name: "write", work: 65 * time.Second, f: set, note: "late"},
		{name: "begun a moment before the deadline", idle: idle - 10*time.Millisecond, work: 65 * time.Second, f: set, note: "late"},
		{name: "LastWrite", cfg: session.Config{Mode: session.LastWrite}, work: 65 * time.Second, f: set, note: "late"},
		{name: "Exclusive", cfg: session.Config{Mode: session.Exclusive, Lock: session.LockConfig{MaxHold: time.Hour}}, work: 65 * time.Second, f: set, note: "late"},
		{name: "Locker", cfg: session.Config{Mode: session.Exclusive, Lock: session.LockConfig{MaxHold: time.Hour, Locker: locker.Locker}}, work: 65 * time.Second, f: set, note: "late"},
		{name: "seldom touched", cfg: session.Config{TouchInterval: idle - 1}, work: 65 * time.Second, f: set, note: "late"},
		{name: "a change before the work", work: 1, f: func(t *testing.T, m *session.Manager, w http.ResponseWriter, r *http.Request, s *session.Session) {
			set(t, m, w, r, s)
			time.Sleep(65 * time.Second)
		}, note: "late"},
		{name: "a Save before the work", work: 1, f: func(t *testing.T, m *session.Manager, w http.ResponseWriter, r *http.Request, s *session.Session) {
			check(t, s.Save(r.Context()))
			time.Sleep(65 * time.Second)
			set(t, m, w, r, s)
		}, note: "late"},
		{name: "login", work: 65 * time.Second, f: func(t *testing.T, _ *session.Manager, _ http.ResponseWriter, _ *http.Request, s *session.Session) {
			check(t, s.Login("ann"))
		}, note: "x"},
		{name: "login before the work", work: 1, f: func(t *testing.T, m *session.Manager, _ http.ResponseWriter, r *http.Request, s *session.Session) {
			check(t, s.Login("ann"))
			check(t, s.Save(r.Context()))
			time.Sleep(65 * time.Second)
			check(t, note.Set(s, "late"))
		}, note: "late"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var b leasingStore
				cfg := tt.cfg
				cfg.IdleTimeout = idle
				var back session.Backend = &b
				if cfg.Lock.Locker != nil {
					back = plain{&b}
				}
				m := newManager(t, back, cfg)
				token := begin(t, m, map[string]any{"note": "x"})
				time.Sleep(tt.idle)
				w := serve(t, m, token, func(w http.ResponseWriter, r *http.Request, s *session.Session) {
					time.Sleep(tt.work)
					if tt.f != nil {
						tt.f(t, m, w, r, s)
					}
				})
				if w.Code != http.StatusOK {
					t.Errorf("status %d", w.Code)
				}
				if now := sent(w); now != "" {
					token = now
				}
				b.took()
				time.Sleep(idle - time.Second)
				b.wantCalls(t) // nothing of it is left
				wantValue(t, m, token, "note", tt.note)
			})
		})
	}
}

// TestUseOfANewSession has a first request that stores the session, and goes on.
func TestUseOfANewSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, &store{}, session.Config{IdleTimeout: 10 * time.Second})
		w := serve(t, m, "", func(w http.ResponseWriter, r *http.Request, s *session.Session) {
			check(t, note.Set(s, "x"))
			check(t, s.Save(r.Context()))
			time.Sleep(time.Minute)
			check(t, note.Set(s, "y"))
		})
		wantValue(t, m, sent(w), "note", "y")
	})
}

// TestUseHasBounds checks that a deadline is moved only where that is allowed, and
// only while a request has the session.
func TestUseHasBounds(t *testing.T) {
	for _, tt := range []struct {
		name  string
		cfg   session.Config
		f     func(t *testing.T, m *session.Manager, token string)
		alive bool // after a minute
	}{
		{name: "read-only", cfg: session.Config{Mode: session.ReadOnly}, f: func(t *testing.T, m *session.Manager, token string) {
			serve(t, m, token, func(http.ResponseWriter, *http.Request, *session.Session) { time.Sleep(time.Minute) })
		}},
		{name: "the absolute deadline", cfg: session.Config{AbsoluteTimeout: 30 * time.Second}, f: func(t *testing.T, m *session.Manager, token string) {
			serve(t, m, token, func(http.ResponseWriter, *http.Request, *session.Session) { time.Sleep(time.Minute) })
		}},
		{name: "the response has started", f: func(t *testing.T, m *session.Manager, token string) {
			serve(t, m, token, func(w http.ResponseWriter, _ *http.Request, _ *session.Session) {
				w.WriteHeader(http.StatusOK)
				time.Sleep(time.Minute)
			})
		}},
		{name: "Open, with a context that lasts", alive: true, f: func(t *testing.T, m *session.Manager, token string) {
			life, stop := context.WithCancel(ctx)
			defer stop()
			s, err := m.Open(life, token)
			check(t, err)
			time.Sleep(time.Minute)
			check(t, note.Set(s, "y"))
			check(t, finish(m, s))
		}},
		{name: "Open, whose context ends", f: func(t *testing.T, m *session.Manager, token string) {
			life, stop := context.WithCancel(ctx)
			_, err := m.Open(life, token)
			check(t, err)
			stop()
			time.Sleep(time.Minute)
		}},
		{name: "Open, for ever", f: func(t *testing.T, m *session.Manager, token string) {
			open(t, m, token)
			time.Sleep(time.Minute)
		}},
		{name: "Open and Save", f: func(t *testing.T, m *session.Manager, token string) {
			life, stop := context.WithCancel(ctx)
			defer stop()
			s, err := m.Open(life, token)
			check(t, err)
			check(t, s.Save(ctx))
			time.Sleep(time.Minute)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := tt.cfg
				cfg.IdleTimeout = 10 * time.Second
				writes := cfg
				writes.Mode = 0
				var b store
				token := begin(t, newManager(t, &b, writes), map[string]any{"note": "x"})
				m := newManager(t, &b, cfg)
				tt.f(t, m, token)
				_, err := m.Open(ctx, token)
				if tt.alive != (err == nil) {
					t.Errorf("alive %v, want %v", err == nil, tt.alive)
				}
			})
		})
	}
}

// TestUseOutlastsAFailure checks that a failure of the store does not end the
// use, and that the store is not asked again and again.
func TestUseOutlastsAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b store
		m := newManager(t, &b, session.Config{IdleTimeout: time.Hour})
		token := begin(t, m, map[string]any{"note": "x"})
		serve(t, m, token, func(_ http.ResponseWriter, _ *http.Request, s *session.Session) {
			b.failing("Touch", errStore)
			b.took()
			time.Sleep(45 * time.Minute)
			b.wantCalls(t, "Touch")
			b.healthy()
			time.Sleep(2 * time.Hour)
			check(t, note.Set(s, "y"))
		})
		wantValue(t, m, token, "note", "y")
		serve(t, m, token, func(_ http.ResponseWriter, _ *http.Request, s *session.Session) {
			b.failing("Touch", errStore)
			b.took()
			time.Sleep(2 * time.Hour)
			if n := len(b.took()); n > 20 {
				t.Errorf("%d tries", n)
			}
		})
	})
}

// TestUseIsStoppedAtOnce checks that a call that hangs delays neither the
// response nor a save of the handler.
func TestUseIsStoppedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b store
		m := newManager(t, &b, session.Config{IdleTimeout: 9 * time.Second})
		token := begin(t, m, map[string]any{"note": "x"})
		b.before = func(ctx context.Context, op string) error {
			if op == "Touch" {
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		}
		serve(t, m, token, func(_ http.ResponseWriter, _ *http.Request, s *session.Session) {
			go func() { // while the call hangs
				time.Sleep(time.Millisecond)
				check(t, note.Set(s, "y"))
			}()
			time.Sleep(6*time.Second + 100*time.Millisecond)
			if got := b.took(); !slices.Equal(got[len(got)-1:], []string{"Touch"}) {
				t.Errorf("calls %v", got)
			}
		})
		if took := time.Since(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)); took != 6*time.Second+100*time.Millisecond {
			t.Errorf("the page came out after %v", took)
		}
		wantValue(t, m, token, "note", "y")
	})
}

type hijacked struct{ *httptest.ResponseRecorder }

func (hijacked) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	a, b := net.Pipe()
	_ = b.Close()
	return a, nil, nil
}

// TestHijackMovesTheDeadline checks that it does so like a page: when it is
// time, but not in mode ReadOnly.
func TestHijackMovesTheDeadline(t *testing.T) {
	for _, tt := range []struct {
		mode  session.Mode
		after time.Duration
		want  []string
	}{
		{session.Merge, 30 * time.Minute, []string{"Load", "Touch"}},
		{session.Merge, time.Second, []string{"Load"}},
		{session.ReadOnly, 30 * time.Minute, []string{"Load"}},
		{session.Exclusive, 30 * time.Minute, []string{"Acquire", "Release"}},
	} {
		t.Run(tt.mode.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var b leasingStore
				token := begin(t, newManager(t, &b, session.Config{}), map[string]any{"note": "x"})
				m := newManager(t, &b, session.Config{Mode: tt.mode})
				time.Sleep(tt.after)
				b.took()
				m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					_, err := m.Get(r.Context())
					check(t, err)
					conn, _, err := w.(http.Hijacker).Hijack()
					check(t, err)
					_ = conn.Close()
				})).ServeHTTP(hijacked{httptest.NewRecorder()}, request(token))
				b.wantCalls(t, tt.want...)
			})
		})
	}
}

// TestSlowWritesDoNotDelayPages checks pages that only read, and whose deadline
// should be moved, while reads work and writes hang.
func TestSlowWritesDoNotDelayPages(t *testing.T) {
	hangs := func(ctx context.Context, op string) error {
		switch op {
		case "Load", "Acquire":
			return nil
		}
		<-ctx.Done()
		return ctx.Err()
	}
	page := func(t *testing.T, m *session.Manager, token string, most time.Duration) {
		t.Helper()
		start := time.Now()
		w := serve(t, m, token, func(w http.ResponseWriter, _ *http.Request, s *session.Session) { _, _ = w.Write([]byte("page")) })
		if took := time.Since(start); took > most || w.Body.String() != "page" {
			t.Errorf("%q after %v, and %v are allowed", w.Body, took, most)
		}
	}
	const commit, fraction = 5 * time.Second, 500 * time.Millisecond
	t.Run("read", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var b store
			m := newManager(t, &b, session.Config{CommitTimeout: commit})
			token := begin(t, m, map[string]any{"note": "x"})
			time.Sleep(time.Hour)
			b.before = hangs
			page(t, m, token, fraction)
			b.took()
			for range 3 {
				time.Sleep(time.Second)
				page(t, m, token, 0)
			}
			b.wantCalls(t, "Load", "Load", "Load")
			time.Sleep(2 * time.Second)
			b.healthy()
			page(t, m, token, 0)
			b.wantCalls(t, "Load", "Touch") // it is tried again
		})
	})
	t.Run("about to end", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var b store
			m := newManager(t, &b, session.Config{CommitTimeout: commit})
			token := begin(t, m, map[string]any{"note": "x"})
			time.Sleep(2*time.Hour - 4*time.Second)
			b.before = hangs
			page(t, m, token, fraction)
			b.healthy()
			b.took()
			page(t, m, token, 0)
			b.wantCalls(t, "Load", "Touch")
		})
	})
	t.Run("another IdleTimeout", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var b store
			token := begin(t, newManager(t, &b, session.Config{IdleTimeout: time.Hour}), map[string]any{"note": "x"})
			m := newManager(t, &b, session.Config{CommitTimeout: commit})
			b.before = hangs
			page(t, m, token, fraction)
			page(t, m, token, 0)
		})
	})
	t.Run("Exclusive", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var b leasingStore
			m := newManager(t, &b, session.Config{CommitTimeout: commit, Mode: session.Exclusive})
			token := begin(t, m, map[string]any{"note": "x"})
			b.before = hangs
			page(t, m, token, fraction)
			page(t, m, token, fraction+6*time.Second) // waits for the lease that could not be freed
		})
	})
	for name, failing := range map[string]func(*session.Manager, http.ResponseWriter, *http.Request, *session.Session){
		"after a failed Save": func(m *session.Manager, w http.ResponseWriter, r *http.Request, s *session.Session) {
			c, cancel := context.WithTimeout(r.Context(), time.Second)
			defer cancel()
			m.Error(w, r, s.Save(c))
		},
		"after a failed commit": func(m *session.Manager, w http.ResponseWriter, r *http.Request, s *session.Session) {},
	} {
		t.Run(name, func(t *testing.T) {
			for _, mode := range []session.Mode{session.Merge, session.Exclusive} {
				synctest.Test(t, func(t *testing.T) {
					var b leasingStore
					m := newManager(t, &b, session.Config{CommitTimeout: time.Second, Mode: mode})
					token := begin(t, m, map[string]any{"note": "x"})
					time.Sleep(time.Hour)
					b.before = hangs
					start := time.Now()
					w := serve(t, m, token, func(w http.ResponseWriter, r *http.Request, s *session.Session) {
						check(t, note.Set(s, "y"))
						failing(m, w, r, s)
					})
					if took := time.Since(start); took > 1100*time.Millisecond || w.Code != http.StatusServiceUnavailable {
						t.Errorf("status %d after %v", w.Code, took)
					}
					if slices.Contains(b.took(), "Touch") {
						t.Error("the error page moves the deadline")
					}
				})
			}
		})
	}
}

// TestNoRestForOthersFaults checks that a call whose caller gives up does not
// count as a failure of the store.
func TestNoRestForOthersFaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b store
		m := newManager(t, &b, session.Config{})
		token := begin(t, m, map[string]any{"note": "x"})
		serve(t, m, "", func(w http.ResponseWriter, r *http.Request, s *session.Session) {
			w.WriteHeader(http.StatusOK)
			if err := note.Set(s, "x"); !errors.Is(err, session.ErrTooLate) {
				t.Errorf("Set: %v", err)
			}
		})
		time.Sleep(time.Hour)
		gone, cancel := context.WithCancel(ctx)
		cancel()
		wantErr(t, open(t, m, token).Save(gone), context.Canceled)
		b.took()
		serve(t, m, token, func(http.ResponseWriter, *http.Request, *session.Session) {})
		b.wantCalls(t, "Load", "Touch")
	})
}

// TestNoRestForAUseThatEnds checks that a Touch which the start of the response has
// stopped does not count as a failure of the store: the response moves the deadline.
func TestNoRestForAUseThatEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b store
		m := newManager(t, &b, session.Config{IdleTimeout: time.Minute})
		token := begin(t, m, map[string]any{"note": "x"})
		hangs := true
		b.before = func(ctx context.Context, op string) error {
			if op == "Touch" && hangs {
				hangs = false
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		}
		serve(t, m, token, func(http.ResponseWriter, *http.Request, *session.Session) {
			time.Sleep(40*time.Second + time.Millisecond)
		})
		synctest.Wait()
		b.healthy()
		if s := open(t, m, token); time.Until(s.Expires()) != time.Minute {
			t.Errorf("it expires in %v", time.Until(s.Expires()))
		}
	})
}
