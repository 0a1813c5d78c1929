//go:build go1.25

package session_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-a7bee19b/session"
)

// TestLockOutlivesTheClient checks a client that disconnects and sends another
// request while its handler ignores the context and works on. The next request
// waits, and the changes of the first are kept.
func TestLockOutlivesTheClient(t *testing.T) {
	work := func(m *session.Manager, s *session.Session) error {
		time.Sleep(900 * time.Millisecond)
		return errOf(counter.Update(s, inc))
	}
	for name, run := range map[string]func(t *testing.T, ctx context.Context, m *session.Manager, token string){
		"a handler": func(t *testing.T, ctx context.Context, m *session.Manager, token string) {
			m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				s, err := m.Get(r.Context())
				check(t, err)
				check(t, work(m, s))
			})).ServeHTTP(httptest.NewRecorder(), request(token).WithContext(ctx))
		},
		"Get with a context of its own": func(t *testing.T, ctx context.Context, m *session.Manager, token string) {
			m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				short, cancel := context.WithCancel(r.Context())
				s, err := m.Get(short)
				cancel()
				check(t, err)
				check(t, work(m, s))
			})).ServeHTTP(httptest.NewRecorder(), request(token).WithContext(ctx))
		},
		"an upgrade": func(t *testing.T, ctx context.Context, m *session.Manager, token string) {
			outer, err := m.With(session.Route{Mode: session.Merge})
			check(t, err)
			outer.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, err := outer.Get(r.Context())
				check(t, err)
				m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					s, err := m.Get(r.Context())
					check(t, err)
					check(t, work(m, s))
				})).ServeHTTP(w, r)
			})).ServeHTTP(httptest.NewRecorder(), request(token).WithContext(ctx))
		},
		"Open": func(t *testing.T, ctx context.Context, m *session.Manager, token string) {
			s, err := m.Open(ctx, token)
			check(t, err)
			check(t, work(m, s))
			check(t, finish(m, s))
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				eachLockerHere(t, session.Config{Lock: session.LockConfig{TTL: 300 * time.Millisecond}}, func(m *session.Manager) {
					token := begin(t, m, map[string]any{"counter": 0})
					left, leave := context.WithCancel(ctx)
					done := make(chan struct{})
					go func() {
						defer close(done)
						run(t, left, m, token)
					}()
					time.Sleep(100 * time.Millisecond)
					leave()
					s := open(t, m, token)
					if v, err := counter.Get(s); v != 1 || err != nil {
						t.Errorf("the next one came in beside the handler: it reads %d, %v", v, err)
					}
					check(t, errOf(counter.Update(s, inc)))
					check(t, finish(m, s))
					<-done
					wantValue(t, m, token, "counter", 2)
				})
			})
		})
	}
}

// TestMaxHold sends a body slowly, for longer than a lock may be held.
func TestMaxHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lk := session.LockConfig{TTL: 300 * time.Millisecond, MaxHold: 1050 * time.Millisecond}
		eachLockerHere(t, session.Config{Lock: lk}, func(m *session.Manager) {
			token := begin(t, m, map[string]any{"note": "x"})
			start := time.Now()
			done := make(chan int)
			go func() {
				body, drip := io.Pipe()
				go func() {
					for range 20 {
						time.Sleep(time.Second)
						_, _ = drip.Write([]byte("."))
					}
					_ = drip.Close()
				}()
				r := httptest.NewRequest("POST", "/", body)
				r.AddCookie(&http.Cookie{Name: "__Host-session", Value: token})
				w := httptest.NewRecorder()
				m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					s, err := m.Get(r.Context())
					check(t, err)
					check(t, note.Set(s, "late"))
					<-r.Context().Done()
					if took := time.Since(start); took != lk.MaxHold {
						t.Errorf("the lock was lost after %v", took)
					}
					wantErr(t, context.Cause(r.Context()), session.ErrLockLost)
					_, _ = io.Copy(io.Discard, r.Body)
				})).ServeHTTP(w, r)
				done <- w.Code
			}()
			synctest.Wait()
			s := open(t, m, token)
			if took := time.Since(start); took < lk.MaxHold || took > lk.MaxHold+100*time.Millisecond {
				t.Errorf("another one has the session after %v", took)
			}
			check(t, note.Set(s, "y"))
			check(t, finish(m, s))
			if code := <-done; code != http.StatusServiceUnavailable {
				t.Errorf("status %d", code)
			}
			wantValue(t, m, token, "note", "y")
		})
	})
}

// TestHoldLeavesNothingBehind checks that no renewal happens after a hold has
// ended in any way.
func TestHoldLeavesNothingBehind(t *testing.T) {
	ends := map[string]func(m *session.Manager, s *session.Session) error{
		"return":  func(*session.Manager, *session.Session) error { return nil },
		"Save":    func(m *session.Manager, s *session.Session) error { return s.Save(ctx) },
		"Close":   func(m *session.Manager, s *session.Session) error { return s.Close(ctx) },
		"Destroy": func(m *session.Manager, s *session.Session) error { return s.Destroy(ctx) },
		"panic":   func(*session.Manager, *session.Session) error { panic(http.ErrAbortHandler) },
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var b leasingStore
				m := newManager(t, &b, session.Config{Mode: session.Exclusive, Lock: session.LockConfig{TTL: time.Second}})
				token := begin(t, m, map[string]any{"note": "x"})
				gone, leave := context.WithCancel(ctx)
				func() {
					defer func() { _ = recover() }()
					m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						s, err := m.Get(r.Context())
						check(t, err)
						leave()
						time.Sleep(5 * time.Second)
						check(t, end(m, s))
					})).ServeHTTP(httptest.NewRecorder(), request(token).WithContext(gone))
				}()
				if got := b.took(); !slices.Contains(got, "Extend") {
					t.Errorf("calls %v: the lock was not renewed", got)
				}
				time.Sleep(time.Minute)
				b.wantCalls(t)
			})
		})
	}

	// A goroutine of the handler hangs in a Save when the handler returns: the
	// lock is not renewed for it.
	synctest.Test(t, func(t *testing.T) {
		var b leasingStore
		var extended atomic.Bool
		m := newManager(t, &b, session.Config{Mode: session.Exclusive, Lock: session.LockConfig{TTL: time.Second}})
		token := begin(t, m, map[string]any{"note": "x"})
		life, stop := context.WithCancel(ctx)
		saved := make(chan error)
		serve(t, m, token, func(w http.ResponseWriter, r *http.Request, s *session.Session) {
			check(t, note.Set(s, "y"))
			b.mu.Lock()
			b.before = func(ctx context.Context, op string) error {
				if op == "Save" {
					<-ctx.Done()
					return ctx.Err()
				}
				extended.Store(true)
				return nil
			}
			b.mu.Unlock()
			go func() { saved <- s.Save(life) }()
			synctest.Wait()
		})
		extended.Store(false)
		time.Sleep(10 * time.Second)
		if extended.Load() {
			t.Error("the lock is renewed after the Handler has returned")
		}
		stop()
		wantErr(t, <-saved, context.Canceled)
	})
}
