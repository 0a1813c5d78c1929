//go:build go1.25

package session_test

// Each test reproduces a former bug, which its comment describes.

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/memory"
	"github.com/seed-a7bee19b/session/lock"
	"github.com/seed-a7bee19b/session/observe"
)

// A lost response, then a lock of another holder: the change was counted twice.
func TestUnknownThenLocked(t *testing.T) {
	var b store
	m := newManager(t, &b, session.Config{})
	locking, _ := m.With(session.Route{Mode: session.Exclusive})
	token := begin(t, m, map[string]any{"counter": 0})
	s := open(t, m, token)
	check(t, errOf(counter.Update(s, inc)))
	b.losing("Save", 1)
	wantErr(t, s.Save(ctx), errStore)
	b.healthy()
	holder := open(t, locking, token)
	go func() { time.Sleep(50 * time.Millisecond); _ = holder.Close(ctx) }()
	err := s.Save(ctx)
	t.Log("second Save:", err)
	wantValue(t, m, token, "counter", 1)
}

// The same through upgrade.
func TestUnknownThenUpgrade(t *testing.T) {
	var b leasingStore
	m := newManager(t, &b, session.Config{})
	locking, _ := m.With(session.Route{Mode: session.Exclusive})
	token := begin(t, m, map[string]any{"counter": 0})
	serve(t, m, token, func(w http.ResponseWriter, r *http.Request, s *session.Session) {
		check(t, errOf(counter.Update(s, inc)))
		b.losing("Save", 1)
		wantErr(t, s.Save(r.Context()), errStore)
		b.healthy()
		locking.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, err := m.Get(r.Context())
			t.Log("Get:", err)
		})).ServeHTTP(w, r)
	})
	wantValue(t, m, token, "counter", 1)
}

// The same through the reload of commit, when another request moved the
// deadline.
func TestUnknownThenReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b store
		m := newManager(t, &b, session.Config{IdleTimeout: 10 * time.Second})
		token := begin(t, m, map[string]any{"counter": 0})
		s := open(t, m, token)
		check(t, errOf(counter.Update(s, inc)))
		time.Sleep(5 * time.Second)
		b.losing("Save", 1)
		wantErr(t, s.Save(ctx), errStore)
		b.healthy()
		time.Sleep(6 * time.Second)
		err := s.Save(ctx)
		t.Log("second Save:", err)
		wantValue(t, m, token, "counter", 1)
	})
}

// Destroy fails, then Close: the lock was renewed forever.
func TestFailedDestroyLeaksTheLock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b leasingStore
		m := newManager(t, &b, session.Config{Mode: session.Exclusive, Lock: session.LockConfig{TTL: time.Second}})
		token := begin(t, m, map[string]any{"note": "x"})
		life, stop := context.WithCancel(ctx)
		defer func() { stop(); time.Sleep(time.Minute) }()
		s, err := m.Open(life, token)
		check(t, err)
		b.failing("End", errStore)
		wantErr(t, s.Destroy(ctx), errStore)
		b.healthy()
		check(t, s.Close(ctx))
		time.Sleep(time.Hour / 2)
		n, err := m.Open(life, token)
		if err != nil {
			t.Errorf("half an hour after Close: %v", err)
			return
		}
		check(t, n.Close(ctx))
	})
}

// A Save and a renewal cross: the context was cancelled although the Save
// succeeded.
type slowAnswer struct {
	*memory.Backend
	d time.Duration
}

func (s *slowAnswer) Save(ctx context.Context, key string, rec session.Record) (session.Version, error) {
	v, err := s.Backend.Save(ctx, key, rec)
	time.Sleep(s.d)
	return v, err
}

func (s *slowAnswer) Release(ctx context.Context, key string, v session.Version, e time.Time) error {
	err := s.Backend.Release(ctx, key, v, e)
	time.Sleep(s.d)
	return err
}

func TestRenewalCrossesSave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, change := range []bool{true, false} {
			b := &slowAnswer{Backend: &memory.Backend{}}
			var ev events
			m := newManager(t, b, session.Config{Mode: session.Exclusive, Lock: session.LockConfig{TTL: 3 * time.Second}, Observer: &ev})
			token := begin(t, m, map[string]any{"note": "x"})
			b.d = 20 * time.Millisecond
			w := httptest.NewRecorder()
			m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				s, err := m.Get(r.Context())
				check(t, err)
				time.Sleep(990 * time.Millisecond)
				if change {
					check(t, note.Set(s, "y"))
				}
				w.WriteHeader(200) // saves
				if err := context.Cause(r.Context()); err != nil {
					t.Errorf("change %v: saved, and the context of the streaming handler is cancelled: %v", change, err)
				}
			})).ServeHTTP(w, request(token))
			if w.Code != 200 {
				t.Errorf("change %v: status %d", change, w.Code)
			}
			if ev.saw(observe.EventLockLost) {
				t.Errorf("change %v: LockLost event", change)
			}
		}
	})
}

// With a Locker, a holder that lost its lock overwrote the data of the new
// holder.
func TestLockerFormerHolderWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b memory.Backend
		var l lock.Local
		token := begin(t, newManager(t, plain{&b}, session.Config{}), map[string]any{"counter": 0})
		clocked := &slowSave{Backend: &b}
		cfg := session.Config{Mode: session.Exclusive, Lock: session.LockConfig{TTL: time.Second, Locker: pausedLocker{&l}}}
		m := newManager(t, plain{clocked}, cfg)
		holder := open(t, m, token)
		v, _ := counter.Get(holder)
		check(t, counter.Set(holder, v+1))
		cfg.Lock.Locker = &l
		intruder := newManager(t, plain{&b}, cfg)
		clocked.before = func() { // the holder is paused between check and Save
			time.Sleep(2 * time.Second)
			s := open(t, intruder, token)
			v, _ := counter.Get(s)
			check(t, counter.Set(s, v+1))
			check(t, finish(intruder, s))
			s = open(t, intruder, token)
			v, _ = counter.Get(s)
			check(t, counter.Set(s, v+1))
			check(t, finish(intruder, s))
		}
		err := holder.Save(ctx)
		if !errors.Is(err, session.ErrLockLost) {
			t.Errorf("Save of the holder that lost its lock: %v", err)
		}
		_ = holder.Close(ctx)
		wantValue(t, intruder, token, "counter", 2)
	})
}

type pausedLocker struct{ *lock.Local }

func (p pausedLocker) Acquire(ctx context.Context, key string, ttl time.Duration) (session.Lease, error) {
	le, err := p.Local.Acquire(ctx, key, ttl)
	return noExtend{le}, err
}

type noExtend struct{ session.Lease }

func (noExtend) Extend(context.Context, time.Duration) error { return errStore }

// A Get after a failed upgrade returned the session without the lock.
func TestSecondGetAfterFailedUpgrade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, &memory.Backend{}, session.Config{Lock: session.LockConfig{MaxWait: time.Second}})
		locking, _ := m.With(session.Route{Mode: session.Exclusive})
		token := begin(t, m, map[string]any{"note": "x"})
		holder := open(t, locking, token)
		serve(t, m, token, func(w http.ResponseWriter, r *http.Request, s *session.Session) {
			locking.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, err := m.Get(r.Context())
				wantErr(t, err, session.ErrLockTimeout)
				_, err = m.Get(r.Context())
				if err == nil {
					t.Error("the second Get gives the session although another one holds its lock")
				}
			})).ServeHTTP(w, r)
		})
		check(t, holder.Close(ctx))
	})
}

// A Get is in flight when the Handler returns.
func TestGetUnderWayWhenHandlerReturns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, &memory.Backend{}, session.Config{Mode: session.Exclusive, Lock: session.LockConfig{TTL: time.Second}})
		token := begin(t, m, map[string]any{"note": "x"})
		holder := open(t, m, token)
		life, stop := context.WithCancel(ctx)
		defer func() { stop(); time.Sleep(time.Minute) }()
		got := make(chan error, 1)
		m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			go func() { // a goroutine that outlives the handler
				ctx, cancel := context.WithCancel(context.WithoutCancel(r.Context()))
				context.AfterFunc(life, cancel)
				_, err := m.Get(ctx)
				got <- err
			}()
			synctest.Wait()
		})).ServeHTTP(httptest.NewRecorder(), request(token))
		check(t, holder.Close(ctx))
		if err := <-got; !errors.Is(err, session.ErrClosed) {
			t.Errorf("Get after the Handler returned: %v", err)
		}
		time.Sleep(time.Hour)
		if s, err := m.Open(life, token); err != nil {
			t.Errorf("an hour later: %v", err)
		} else {
			check(t, s.Close(ctx))
		}
	})
}

// The lock of an inner Handler after it has returned.
func TestInnerHandlerReturned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, &memory.Backend{}, session.Config{Lock: session.LockConfig{TTL: time.Second}})
		locking, _ := m.With(session.Route{Mode: session.Exclusive})
		token := begin(t, m, map[string]any{"note": "x"})
		w := serve(t, m, token, func(w http.ResponseWriter, r *http.Request, s *session.Session) {
			locking.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				s, err := m.Get(r.Context())
				check(t, err)
				check(t, note.Set(s, "y"))
			})).ServeHTTP(w, r)
			time.Sleep(5 * time.Second) // outer work
			t.Log("outer context:", context.Cause(r.Context()))
		})
		if w.Code != 200 {
			t.Errorf("status %d", w.Code)
		}
		wantValue(t, m, token, "note", "y")
	})
}

// Get with a context of its own, which ends before the request.
func TestShortGetContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, &memory.Backend{}, session.Config{Mode: session.Exclusive, Lock: session.LockConfig{TTL: time.Second}})
		token := begin(t, m, map[string]any{"note": "x"})
		w := httptest.NewRecorder()
		m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			short, cancel := context.WithTimeout(r.Context(), 2*time.Second)
			s, err := m.Get(short)
			cancel()
			check(t, err)
			time.Sleep(5 * time.Second)
			check(t, note.Set(s, "y"))
		})).ServeHTTP(w, request(token))
		if w.Code != 200 {
			t.Errorf("status %d", w.Code)
		}
	})
}

// After an upgrade, Session.Context and the context of the outer handler.
func TestContextAfterUpgrade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b leasingStore
		m := newManager(t, &b, session.Config{Lock: session.LockConfig{TTL: time.Second}})
		locking, _ := m.With(session.Route{Mode: session.Exclusive})
		token := begin(t, m, map[string]any{"note": "x"})
		b.failing("Extend", &session.ConflictError{})
		serve(t, m, token, func(w http.ResponseWriter, r *http.Request, s *session.Session) {
			outer := r.Context()
			locking.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				s, err := m.Get(r.Context())
				check(t, err)
				time.Sleep(2 * time.Second)
				if !errors.Is(context.Cause(r.Context()), session.ErrLockLost) {
					t.Error("inner: not cancelled")
				}
				if !errors.Is(context.Cause(s.Context()), session.ErrLockLost) {
					t.Errorf("Session.Context is not cancelled: %v", context.Cause(s.Context()))
				}
				if !errors.Is(context.Cause(outer), session.ErrLockLost) {
					t.Errorf("the outer request is not cancelled")
				}
			})).ServeHTTP(w, r)
		})
	})
}

// Two routes one after the other in one request.
func TestSecondInnerHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, &memory.Backend{}, session.Config{Lock: session.LockConfig{TTL: time.Second}})
		locking, _ := m.With(session.Route{Mode: session.Exclusive})
		token := begin(t, m, map[string]any{"note": "x"})
		serve(t, m, token, func(w http.ResponseWriter, r *http.Request, s *session.Session) {
			get := func(work time.Duration) http.Handler {
				return locking.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					_, err := m.Get(r.Context())
					check(t, err)
					time.Sleep(work)
					other, err := m.With(session.Route{Mode: session.Exclusive})
					check(t, err)
					if work == 0 {
						return
					}
					if o, err := other.Open(ctx, token); err == nil {
						t.Errorf("another request got the lock; context of the route: %v", context.Cause(r.Context()))
						check(t, o.Close(ctx))
					}
				}))
			}
			get(0).ServeHTTP(w, r)
			get(3*time.Second).ServeHTTP(w, r)
		})
	})
}

// A panic while acquiring.
func TestPanicInAcquire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b leasingStore
		m := newManager(t, &b, session.Config{Mode: session.Exclusive})
		token := begin(t, m, map[string]any{"note": "x"})
		b.before = func(context.Context, string) error { panic("backend") }
		func() {
			defer func() { _ = recover() }()
			_, _ = m.Open(ctx, token)
		}()
		b.healthy()
		time.Sleep(time.Hour)
		s, err := m.Open(ctx, token)
		if err != nil {
			t.Fatalf("an hour later: %v", err)
		}
		check(t, s.Close(ctx))
	})
}

// A value that Open adds to the caller's context stays there.
type countingCtx struct {
	context.Context
	n *atomic.Int64
}

func (c countingCtx) AfterFunc(f func()) func() bool {
	c.n.Add(1)
	stop := context.AfterFunc(c.Context, f)
	return func() bool { c.n.Add(-1); return stop() }
}
func (c countingCtx) Value(k any) any { return nil }

func TestContextLeak(t *testing.T) {
	m := newManager(t, &memory.Backend{}, session.Config{Mode: session.Exclusive})
	token := begin(t, m, map[string]any{"note": "x"})
	base, cancel := context.WithCancel(ctx)
	defer cancel()
	c := countingCtx{base, new(atomic.Int64)}
	for range 100 {
		s, err := m.Open(c, token)
		check(t, err)
		check(t, finish(m, s))
		_, err = m.Open(c, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
		wantErr(t, err, session.ErrNotFound)
	}
	if n := c.n.Load(); n != 0 {
		t.Errorf("%d children of the context are left", n)
	}
}

// One Extend hangs.
type hangOnce struct {
	*memory.Backend
	n int
}

func (s *hangOnce) Extend(ctx context.Context, key string, v session.Version, ttl time.Duration) error {
	if s.n++; s.n == 1 {
		<-ctx.Done()
		return ctx.Err()
	}
	return s.Backend.Extend(ctx, key, v, ttl)
}

func TestOneExtendHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &hangOnce{Backend: &memory.Backend{}}
		m := newManager(t, b, session.Config{Mode: session.Exclusive, Lock: session.LockConfig{TTL: 6 * time.Second}})
		s := open(t, m, begin(t, m, map[string]any{"note": "x"}))
		time.Sleep(20 * time.Second)
		if err := context.Cause(s.Context()); err != nil {
			t.Errorf("one hanging Extend, healthy store: %v", err)
		}
		_ = s.Close(ctx)
	})
}

// The goroutine of Extend outlived Close.
func TestRenewalOutlivesClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &hangOnce{Backend: &memory.Backend{}}
		var running atomic.Int64
		m := newManager(t, b, session.Config{Mode: session.Exclusive, Lock: session.LockConfig{TTL: 6 * time.Second}, Observer: callCounter{&running}})
		s := open(t, m, begin(t, m, map[string]any{"note": "x"}))
		time.Sleep(2500 * time.Millisecond)
		check(t, finish(m, s))
		synctest.Wait()
		if n := running.Load(); n != 0 {
			t.Errorf("%d store calls are under way after Close", n)
		}
	})
}

type callCounter struct{ n *atomic.Int64 }

func (c callCounter) Call(ctx context.Context, op observe.Op) (context.Context, func(error)) {
	c.n.Add(1)
	return ctx, func(error) { c.n.Add(-1) }
}
func (callCounter) Event(context.Context, observe.Event) {}

// A lost lock and a Login in a handler.
func TestLockLostAndLogin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b leasingStore
		var got error
		m := newManager(t, &b, session.Config{Mode: session.Exclusive, Lock: session.LockConfig{TTL: 3 * time.Second},
			ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) { got = err; w.WriteHeader(session.Status(err)) }})
		token := begin(t, m, map[string]any{"note": "x"})
		b.failing("Extend", &session.ConflictError{})
		w := serve(t, m, token, func(w http.ResponseWriter, r *http.Request, s *session.Session) {
			check(t, s.Login("ann"))
			<-r.Context().Done()
		})
		if w.Code != http.StatusServiceUnavailable || !errors.Is(got, session.ErrLockLost) {
			t.Errorf("status %d, %v", w.Code, got)
		}
	})
}

// Clear and Login after a rotation with an unknown outcome.
func TestLoginAfterUnknownRotation(t *testing.T) {
	var b store
	m := newManager(t, &b, session.Config{})
	s := open(t, m, begin(t, m, map[string]any{"note": "ann's secret"}))
	check(t, s.Login("ann"))
	b.losingAndDown(2)
	wantErr(t, s.Save(ctx), errStore)
	b.healthy()
	check(t, s.Login("bob"))
	check(t, s.Save(ctx))
	n := open(t, m, s.Token().Reveal())
	user, _ := n.User()
	if v, _ := note.Get(n); v != "" {
		t.Errorf("%s sees %q", user, v)
	}
}

func TestClearAfterUnknownRotation(t *testing.T) {
	var b store
	m := newManager(t, &b, session.Config{})
	s := open(t, m, begin(t, m, map[string]any{"note": "secret"}))
	check(t, s.Rotate())
	b.losingAndDown(2)
	wantErr(t, s.Save(ctx), errStore)
	b.healthy()
	check(t, s.Clear())
	check(t, s.Save(ctx))
	if v, _ := note.Get(open(t, m, s.Token().Reveal())); v != "" {
		t.Errorf("cleared, and still there: %q", v)
	}
}

// A rotation with an unknown outcome at the end of the request.
func TestUnknownRotationAtTheEnd(t *testing.T) {
	for name, timeout := range map[string]bool{"Save fails, then Error": false, "the answer comes after CommitTimeout": true} {
		t.Run(name, func(t *testing.T) {
			var b store
			m := newManager(t, &b, session.Config{CommitTimeout: 50 * time.Millisecond})
			token := begin(t, m, map[string]any{"note": "cart"})
			w := serve(t, m, token, func(w http.ResponseWriter, r *http.Request, s *session.Session) {
				check(t, s.Login("ann"))
				n := 0
				b.mu.Lock()
				b.after = func(op string) error {
					if op == "Save" {
						if n++; n == 2 {
							if timeout {
								time.Sleep(60 * time.Millisecond)
							} else {
								b.failing("Save", errStore)
							}
							return errStore
						}
					}
					return nil
				}
				b.mu.Unlock()
				if !timeout {
					err := s.Save(r.Context())
					wantErr(t, err, errStore)
					b.healthy()
					m.Error(w, r, err)
				}
			})
			b.healthy()
			live := token
			if sent(w) != "" {
				live = sent(w)
			}
			if _, err := m.Open(ctx, live); err != nil {
				t.Errorf("status %d; the only token that the client has: %v; %d records", w.Code, err, b.Len())
			}
		})
	}
}

// Our marker has expired before the outcome was looked up.
func TestMarkerExpired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b store
		m := newManager(t, &b, session.Config{})
		s := open(t, m, begin(t, m, map[string]any{"note": "cart"}))
		check(t, s.Rotate())
		b.losingAndDown(2)
		wantErr(t, s.Save(ctx), errStore)
		time.Sleep(11 * time.Second)
		b.healthy()
		if err := s.Save(ctx); err != nil {
			t.Errorf("the session is lost: %v; %d records", err, b.Len())
		}
	})
}

// With a Locker, a holder whose session was deleted kept the Locker's lease.
func TestLockerGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, plain{&memory.Backend{}}, session.Config{Lock: session.LockConfig{Locker: &lock.Local{}}})
		locking, _ := m.With(session.Route{Mode: session.Exclusive})
		token := begin(t, m, map[string]any{"note": "x"})
		holder := open(t, locking, token)
		check(t, open(t, m, token).Destroy(ctx))
		check(t, note.Set(holder, "y"))
		wantErr(t, finish(locking, holder), session.ErrNotFound)
		start := time.Now()
		_, err := locking.Open(ctx, token)
		wantErr(t, err, session.ErrNotFound)
		if d := time.Since(start); d > 100*time.Millisecond {
			t.Errorf("the lock was free after %v", d)
		}
	})
}

// A holder's Save with an unknown outcome was applied, and the retry says that
// the lock is lost.
func TestUnknownSaveUnderLock(t *testing.T) {
	var b leasingStore
	m := newManager(t, &b, session.Config{Mode: session.Exclusive})
	token := begin(t, m, map[string]any{"note": "x"})
	s := open(t, m, token)
	check(t, note.Set(s, "y"))
	b.losing("Save", 1)
	wantErr(t, s.Save(ctx), errStore)
	b.healthy()
	err := s.Save(ctx)
	if errors.Is(err, session.ErrConflict) || errors.Is(err, session.ErrLockLost) {
		t.Errorf("our own write is called a conflict: %v (cause %v)", err, context.Cause(s.Context()))
	}
	_ = s.Close(ctx)
}

// The client cancels while the lock is being acquired.
type cancelAfterAcquire struct {
	*memory.Backend
	cancel context.CancelFunc
}

func (c *cancelAfterAcquire) Acquire(ctx context.Context, key string, ttl time.Duration) (session.Record, error) {
	rec, err := c.Backend.Acquire(ctx, key, ttl)
	if c.cancel != nil {
		c.cancel()
		c.cancel = nil
		return session.Record{}, ctx.Err() // the SDK gave up waiting for the response
	}
	return rec, err
}

func TestCancelledAcquire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &cancelAfterAcquire{Backend: &memory.Backend{}}
		m := newManager(t, b, session.Config{Mode: session.Exclusive})
		token := begin(t, m, map[string]any{"note": "x"})
		c, cancel := context.WithCancel(ctx)
		b.cancel = cancel
		_, err := m.Open(c, token)
		wantErr(t, err, context.Canceled)
		start := time.Now()
		s := open(t, m, token)
		t.Logf("lock free after %v", time.Since(start))
		check(t, s.Close(ctx))
	})
}
