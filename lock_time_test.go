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
	"github.com/seed-a7bee19b/session/backend/memory"
	"github.com/seed-a7bee19b/session/observe"
)

func TestLeaseIsRenewedWhileTheHandlerRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		eachLockerHere(t, session.Config{Lock: session.LockConfig{TTL: time.Second, MaxWait: time.Minute}}, func(m *session.Manager) {
			token := begin(t, m, map[string]any{"counter": 0})
			holder := open(t, m, token)
			waited := make(chan time.Duration)
			start := time.Now()
			go func() {
				s := open(t, m, token)
				waited <- time.Since(start)
				check(t, finish(m, s))
			}()
			time.Sleep(20 * time.Second)
			check(t, counter.Set(holder, 1))
			check(t, finish(m, holder))
			if got := <-waited; got < 20*time.Second || got > 21*time.Second {
				t.Errorf("waited %v", got)
			}
		})
	})
}

// TestCrashedHolder never closes its session, and nothing renews its lock, as if
// its process had been killed.
func TestCrashedHolder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		eachLockerHere(t, session.Config{Lock: session.LockConfig{TTL: 5 * time.Second, MaxHold: 5 * time.Second}}, func(m *session.Manager) {
			token := begin(t, m, map[string]any{"note": "intact"})
			open(t, m, token)
			start := time.Now()
			s := open(t, m, token)
			if took := time.Since(start); took > 6*time.Second {
				t.Errorf("the next one got the lock after %v", took)
			}
			check(t, finish(m, s))
			wantValue(t, m, token, "note", "intact")
		})
	})
}

// TestLockLost checks a lease that cannot be renewed, and a lock that another
// request acquires. The holder gets an error, and cannot write.
func TestLockLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b leasingStore
		var events events
		cfg := session.Config{Mode: session.Exclusive, Lock: session.LockConfig{TTL: 3 * time.Second}, Observer: &events}
		m := newManager(t, &b, cfg)
		next := newManager(t, &b.Backend, cfg)
		token := begin(t, m, map[string]any{"note": "x"})
		holder := open(t, m, token)
		check(t, note.Set(holder, "stale"))
		b.failing("Extend", errStore)
		start := time.Now()
		s := open(t, next, token)
		if took := time.Since(start); took < 3*time.Second || took > 4*time.Second {
			t.Errorf("the lock changed hands after %v", took)
		}
		<-holder.Context().Done()
		wantErr(t, context.Cause(holder.Context()), session.ErrLockLost)
		b.took()
		wantErr(t, holder.Save(ctx), session.ErrLockLost)
		wantErr(t, finish(m, holder), session.ErrLockLost)
		b.wantCalls(t) // not even tried
		check(t, note.Set(s, "fresh"))
		check(t, finish(next, s))
		wantValue(t, m, token, "note", "fresh")
		if !events.saw(observe.EventLockLost) {
			t.Error("no event")
		}
	})
}

// TestPausedHolder checks a holder that does not notice that its lease ran out
// before it writes: the fence does.
func TestPausedHolder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b memory.Backend
		token := begin(t, newManager(t, &b, session.Config{}), map[string]any{"note": "x"})
		clocked := &slowSave{Backend: &b}
		m := newManager(t, clocked, session.Config{Mode: session.Exclusive, Lock: session.LockConfig{TTL: time.Second}})
		holder := open(t, m, token)
		check(t, note.Set(holder, "stale"))
		intruder := newManager(t, &b, session.Config{Mode: session.Exclusive})
		clocked.before = func() { // between the Manager's look at the lease and the store
			s := open(t, intruder, token)
			check(t, note.Set(s, "fresh"))
			check(t, finish(intruder, s))
		}
		clocked.extend = errStore
		wantErr(t, holder.Save(ctx), session.ErrLockLost)
		wantErr(t, holder.Close(ctx), session.ErrLockLost)
		wantValue(t, newManager(t, &b, session.Config{}), token, "note", "fresh")
	})
}

type slowSave struct {
	*memory.Backend
	before func()
	extend error
}

func (s *slowSave) Save(ctx context.Context, key string, rec session.Record) (session.Version, error) {
	if f := s.before; f != nil {
		s.before = nil
		f()
	}
	return s.Backend.Save(ctx, key, rec)
}

func (s *slowSave) Extend(context.Context, string, session.Version, time.Duration) error {
	return s.extend
}

func TestLockLostInAHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b leasingStore
		m := newManager(t, &b, session.Config{Mode: session.Exclusive, Lock: session.LockConfig{TTL: 3 * time.Second}})
		token := begin(t, m, map[string]any{"note": "x"})
		b.failing("Extend", &session.ConflictError{})
		w := serve(t, m, token, func(w http.ResponseWriter, r *http.Request, s *session.Session) {
			check(t, note.Set(s, "stale"))
			<-r.Context().Done()
			wantErr(t, context.Cause(r.Context()), session.ErrLockLost)
		})
		if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") != "3" {
			t.Errorf("status %d, headers %v", w.Code, w.Header())
		}
		time.Sleep(3 * time.Second)
		wantValue(t, newManager(t, &b, session.Config{}), token, "note", "x")
	})
}

func TestNoLockInTime(t *testing.T) {
	for policy, want := range map[session.TimeoutPolicy]int{
		session.FailOnTimeout: http.StatusServiceUnavailable, session.ReadOnlyOnTimeout: http.StatusOK, session.MergeOnTimeout: http.StatusOK,
	} {
		synctest.Test(t, func(t *testing.T) {
			eachLockerHere(t, session.Config{Lock: session.LockConfig{MaxWait: 2 * time.Second, OnTimeout: policy}}, func(m *session.Manager) {
				token := begin(t, m, map[string]any{"note": "x"})
				holder := open(t, m, token)
				start := time.Now()
				r := httptest.NewRequest("POST", "/", nil)
				r.AddCookie(&http.Cookie{Name: "__Host-session", Value: token})
				w := httptest.NewRecorder()
				m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					s, err := m.Get(r.Context())
					if took := time.Since(start); took != 2*time.Second {
						t.Errorf("waited %v", took)
					}
					switch policy {
					case session.FailOnTimeout:
						wantErr(t, err, session.ErrLockTimeout)
						m.Error(w, r, err)
					case session.ReadOnlyOnTimeout:
						check(t, err)
						wantErr(t, note.Set(s, "y"), session.ErrReadOnly)
					default:
						check(t, err)
						check(t, note.Set(s, "y"))
						check(t, finish(m, holder)) // otherwise the write would wait
					}
				})).ServeHTTP(w, r)
				check(t, holder.Close(ctx))
				if w.Code != want || (want == 503) != (w.Header().Get("Retry-After") != "") {
					t.Errorf("policy %d: status %d, headers %v", policy, w.Code, w.Header())
				}
			})
		})
	}
}

// TestWaitsForLocksEnd checks that waits end with the caller's context or
// MaxWait, at the head of the line and behind it, and that nothing of the waiter
// is left.
func TestWaitsForLocksEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		eachLockerHere(t, session.Config{}, func(m *session.Manager) {
			token := begin(t, m, map[string]any{"note": "x"})
			holder := open(t, m, token)
			for range 3 {
				go func() {
					ctx, cancel := context.WithTimeout(ctx, 1500*time.Millisecond)
					defer cancel()
					start := time.Now()
					_, err := m.Open(ctx, token)
					wantErr(t, err, context.DeadlineExceeded)
					if took := time.Since(start); took != 1500*time.Millisecond {
						t.Errorf("waited %v", took)
					}
				}()
			}
			time.Sleep(2 * time.Second)
			synctest.Wait()
			check(t, finish(m, holder))
			start := time.Now()
			check(t, finish(m, open(t, m, token)))
			if took := time.Since(start); took > 100*time.Millisecond {
				t.Errorf("the lock was free after %v", took)
			}
		})
	})
}

// TestMergeWriterGivesUpInTime checks that a Save without a lock fails if the
// session stays locked, and that nothing is written.
func TestMergeWriterGivesUpInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b memory.Backend
		m := newManager(t, &b, session.Config{Lock: session.LockConfig{MaxWait: 3 * time.Second}})
		locking, err := m.With(session.Route{Mode: session.Exclusive})
		check(t, err)
		token := begin(t, m, map[string]any{"note": "x"})
		holder := open(t, locking, token)
		s := open(t, m, token)
		check(t, note.Set(s, "y"))
		start := time.Now()
		err = s.Save(ctx)
		wantErr(t, err, session.ErrLockTimeout)
		wantErr(t, err, session.ErrLocked)
		if took := time.Since(start); took != 3*time.Second {
			t.Errorf("waited %v", took)
		}
		check(t, finish(locking, holder))
		wantValue(t, m, token, "note", "x")
		check(t, s.Save(ctx))
		wantValue(t, m, token, "note", "y")
	})
}

// TestFairness checks that two processes that always want the same session both
// get it.
func TestFairness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b memory.Backend
		cfg := session.Config{Mode: session.Exclusive, IdleTimeout: 9 * time.Hour}
		token := begin(t, newManager(t, &b, cfg), map[string]any{"note": "x"})
		until := time.Now().Add(20 * time.Second)
		work := func(m *session.Manager, waits chan<- time.Duration) {
			var longest time.Duration
			for time.Now().Before(until) {
				start := time.Now()
				s, err := m.Open(ctx, token)
				if err != nil {
					t.Error(err)
					break
				}
				longest = max(longest, time.Since(start))
				time.Sleep(5 * time.Millisecond) // the handler
				check(t, s.Close(ctx))
				time.Sleep(time.Millisecond) // the round trip to the store
			}
			waits <- longest
		}
		const crowd = 8
		waits, single := make(chan time.Duration, crowd), make(chan time.Duration, 1)
		busy := newManager(t, &b, cfg)
		for range crowd {
			go work(busy, waits)
		}
		go work(newManager(t, &b, cfg), single)
		for range crowd {
			if w := <-waits; w > 2*time.Second {
				t.Errorf("one of the crowd waited %v", w)
			}
		}
		if w := <-single; w > 2*time.Second {
			t.Errorf("the single one waited %v", w)
		}
	})
}

// eachLockerHere is eachLocker without subtests, which synctest does not allow.
func eachLockerHere(t *testing.T, cfg session.Config, f func(m *session.Manager)) {
	for name, parts := range lockers {
		t.Log(name)
		b, l := parts()
		cfg := cfg
		cfg.Mode = session.Exclusive
		l.TTL, l.MaxHold, l.MaxWait, l.OnTimeout = cfg.Lock.TTL, cfg.Lock.MaxHold, cfg.Lock.MaxWait, cfg.Lock.OnTimeout
		cfg.Lock = l
		f(newManager(t, b, cfg))
	}
}
