//go:build go1.25

package session_test

// Each test reproduces a former bug, which its comment describes.

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/memory"
	"github.com/seed-a7bee19b/session/observe"
)

// A Get panics, and the panic is recovered inside the Handler.
func TestGetAfterPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b store
		m := newManager(t, &b, session.Config{})
		token := begin(t, m, map[string]any{"note": "x"})
		b.before = func(context.Context, string) error { panic("once") }
		m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			func() {
				defer func() { _ = recover() }()
				_, _ = m.Get(r.Context())
			}()
			b.healthy()
			c, cancel := context.WithTimeout(r.Context(), time.Hour)
			defer cancel()
			_, err := m.Get(c)
			if err != nil {
				t.Errorf("an hour later: %v", err)
			}
		})).ServeHTTP(httptest.NewRecorder(), request(token))
	})
}

// A Save hangs when the Handler returns.
func TestHangingSaveWhenTheHandlerReturns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b leasingStore
		m := newManager(t, &b, session.Config{Mode: session.Exclusive})
		token := begin(t, m, map[string]any{"note": "x"})
		var kept *session.Session
		start := time.Now()
		done := make(chan error, 1)
		m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s, err := m.Get(r.Context())
			check(t, err)
			kept = s
			check(t, note.Set(s, "y"))
			b.mu.Lock()
			b.before = func(ctx context.Context, op string) error {
				if op == "Save" {
					time.Sleep(time.Hour)
				}
				return nil
			}
			b.mu.Unlock()
			go func() { done <- s.Save(context.WithoutCancel(r.Context())) }()
			synctest.Wait()
		})).ServeHTTP(httptest.NewRecorder(), request(token))
		if d := time.Since(start); d > 21*time.Second {
			t.Errorf("the Handler returned after %v; CommitTimeout is 5 s, MaxWait 10 s", d)
		}
		t.Log("Save:", <-done)
		b.healthy()
		if err := note.Set(kept, "z"); !errors.Is(err, session.ErrClosed) {
			t.Errorf("Set after the Handler: %v", err)
		}
	})
}

// Release fails once.
func TestReleaseFailsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b leasingStore
		m := newManager(t, &b, session.Config{Mode: session.Exclusive})
		token := begin(t, m, map[string]any{"note": "x"})
		s := open(t, m, token)
		b.failing("Release", errStore)
		wantErr(t, s.Save(ctx), errStore)
		b.healthy()
		check(t, s.Save(ctx))
		check(t, s.Close(ctx))
		start := time.Now()
		check(t, finish(m, open(t, m, token)))
		if d := time.Since(start); d > 100*time.Millisecond {
			t.Errorf("the lock was free after %v", d)
		}
	})
}

func TestStress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b memory.Backend
		cfg := session.Config{Lock: session.LockConfig{TTL: time.Second, MaxWait: 3 * time.Second, MaxWaiters: 5}}
		ms := []*session.Manager{newManager(t, &b, cfg), newManager(t, &b, cfg)}
		token := begin(t, ms[0], map[string]any{"counter": 0})
		var want, inside, fails atomic.Int64
		var wg sync.WaitGroup
		for i := range 16 {
			m := ms[i%2]
			locking, _ := m.With(session.Route{Mode: session.Exclusive})
			wg.Add(1)
			go func() {
				defer wg.Done()
				for range 200 {
					c, cancel := context.WithTimeout(ctx, time.Duration(rand.N(200))*time.Millisecond)
					if rand.N(3) > 0 {
						s, err := locking.Open(c, token)
						if err == nil {
							if inside.Add(1) != 1 {
								t.Error("two holders")
							}
							time.Sleep(time.Duration(rand.N(20)) * time.Millisecond)
							v, _ := counter.Get(s)
							check(t, counter.Set(s, v+1))
							time.Sleep(time.Duration(rand.N(20)) * time.Millisecond)
							inside.Add(-1)
							if err = s.Save(ctx); err == nil {
								want.Add(1)
							} else {
								fails.Add(1)
							}
							_ = s.Close(ctx)
						}
					} else {
						s, err := m.Open(c, token)
						if err == nil {
							check(t, errOf(counter.Update(s, inc)))
							if err = s.Save(c); err == nil {
								want.Add(1)
							}
							_ = s.Close(ctx)
						}
					}
					cancel()
				}
			}()
		}
		wg.Wait()
		start := time.Now()
		for _, m := range ms {
			locking, _ := m.With(session.Route{Mode: session.Exclusive})
			check(t, finish(locking, open(t, locking, token)))
		}
		t.Logf("want %d, failed saves %d, free after %v", want.Load(), fails.Load(), time.Since(start))
		wantValue(t, ms[0], token, "counter", int(want.Load()))
	})
}

func TestLoginWaitsForTheLock(t *testing.T) {
	for _, mode := range []session.Mode{session.Merge, session.LastWrite} {
		synctest.Test(t, func(t *testing.T) {
			var b memory.Backend
			m := newManager(t, &b, session.Config{Mode: mode})
			locking, _ := m.With(session.Route{Mode: session.Exclusive})
			token := begin(t, m, map[string]any{"counter": 0})
			holder := open(t, locking, token)
			s := open(t, m, token)
			check(t, s.Login("ann"))
			go func() {
				time.Sleep(time.Second)
				check(t, counter.Set(holder, 7))
				check(t, finish(locking, holder))
			}()
			check(t, finish(m, s))
			if mode == session.Merge {
				wantValue(t, m, s.Token().Reveal(), "counter", 7)
			}
			if b.Len() != 2 {
				t.Errorf("%d records", b.Len())
			}
		})
	}
}

type panicOn struct {
	observe.EventKind
	once *bool
}

func (p panicOn) Call(ctx context.Context, _ observe.Op) (context.Context, func(error)) {
	return ctx, nil
}
func (p panicOn) Event(_ context.Context, e observe.Event) {
	if e.Kind == p.EventKind && !*p.once {
		*p.once = true
		panic("observer")
	}
}

func TestObserverPanicsOnLockAcquired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		life, stop := context.WithCancel(ctx)
		defer func() { stop(); time.Sleep(time.Minute) }()
		m := newManager(t, &memory.Backend{}, session.Config{Mode: session.Exclusive, Observer: panicOn{observe.EventLockAcquired, new(bool)}})
		token := begin(t, m, map[string]any{"note": "x"})
		func() {
			defer func() { _ = recover() }()
			_, _ = m.Open(life, token)
		}()
		time.Sleep(time.Hour)
		s, err := m.Open(life, token)
		if err != nil {
			t.Errorf("an hour later: %v", err)
			return
		}
		check(t, s.Close(ctx))
	})
}
