package session_test

import (
	"context"
	"errors"

	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/memory"
	"github.com/seed-a7bee19b/session/lock"
)

// plain hides the LockingBackend methods of the memory backend.
type plain struct{ session.Backend }

// lockers are the two ways to lock.
var lockers = map[string]func() (session.Backend, session.LockConfig){
	"LockingBackend": func() (session.Backend, session.LockConfig) { return &memory.Backend{}, session.LockConfig{} },
	"Locker": func() (session.Backend, session.LockConfig) {
		return plain{&memory.Backend{}}, session.LockConfig{Locker: &lock.Local{}}
	},
}

// eachLocker runs f with a Manager in mode Exclusive over each of them.
func eachLocker(t *testing.T, cfg session.Config, f func(t *testing.T, m *session.Manager)) {
	for name, parts := range lockers {
		t.Run(name, func(t *testing.T) {
			b, l := parts()
			cfg := cfg
			cfg.Mode = session.Exclusive
			l.TTL, l.MaxWait, l.OnTimeout, l.MaxWaiters = cfg.Lock.TTL, cfg.Lock.MaxWait, cfg.Lock.OnTimeout, cfg.Lock.MaxWaiters
			cfg.Lock = l
			f(t, newManager(t, b, cfg))
		})
	}
}

func TestExclusiveNeedsLocks(t *testing.T) {
	if _, err := session.New(plain{&memory.Backend{}}, session.Config{Mode: session.Exclusive}); err == nil {
		t.Error("New took a backend that cannot lock")
	}
	if _, err := session.New(plain{&memory.Backend{}}, session.Config{SafeMode: session.Exclusive}); err == nil {
		t.Error("New took a backend that cannot lock, for safe methods")
	}
	m := newManager(t, plain{&memory.Backend{}}, session.Config{})
	if _, err := m.With(session.Route{Mode: session.Exclusive}); err == nil {
		t.Error("With took a backend that cannot lock")
	}
}

func TestLockConfigIsChecked(t *testing.T) {
	for want, l := range map[string]session.LockConfig{
		"":              {MaxRetry: time.Millisecond},
		"TTL":           {TTL: time.Millisecond},
		"MaxWait":       {MaxWait: -1},
		"MinRetry":      {MinRetry: -1},
		"MaxRetry":      {MinRetry: time.Second, MaxRetry: time.Millisecond},
		"MaxHold":       {MaxHold: -1},
		"MaxHold is 1s": {TTL: 2 * time.Second, MaxHold: time.Second},
		"MaxWaiters":    {MaxWaiters: -1},
		"TimeoutPolicy": {OnTimeout: 9},
	} {
		_, err := session.New(&memory.Backend{}, session.Config{Lock: l})
		if (err != nil) != (want != "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v", l, err)
		}
	}
	newManager(t, &memory.Backend{}, session.Config{Lock: session.LockConfig{TTL: time.Minute}}) // the default of MaxHold gives way
}

func TestExclusiveCountsEachOnce(t *testing.T) {
	eachLocker(t, session.Config{}, func(t *testing.T, m *session.Manager) {
		const n, times = 8, 10
		token := begin(t, m, map[string]any{"counter": 0})
		var wg sync.WaitGroup
		for range n {
			wg.Add(1)
			go func() {
				defer wg.Done()
				for range times {
					s, err := m.Open(ctx, token)
					if err != nil {
						t.Error(err)
						return
					}
					v, err := counter.Get(s)
					err = errors.Join(err, counter.Set(s, v+1), finish(m, s)) // not Update: the lock protects it
					if err != nil {
						t.Error(err)
					}
				}
			}()
		}
		wg.Wait()
		wantValue(t, m, token, "counter", n*times)
	})
}

func TestWhatALockCosts(t *testing.T) {
	var b leasingStore
	m := newManager(t, &b, session.Config{Mode: session.Exclusive})
	token := begin(t, m, map[string]any{"counter": 0})
	b.took()
	s := open(t, m, token)
	check(t, errOf(counter.Update(s, inc)))
	check(t, finish(m, s))
	b.wantCalls(t, "Acquire", "Save")
	check(t, finish(m, open(t, m, token)))
	b.wantCalls(t, "Acquire", "Release")
	check(t, open(t, m, token).Destroy(ctx))
	b.wantCalls(t, "Acquire", "End")
	s = m.Start()
	check(t, note.Set(s, "x"))
	check(t, finish(m, s))
	b.wantCalls(t, "Save")
	token = s.Token().Reveal()
	s = open(t, m, token)
	check(t, s.Login("ann"))
	check(t, finish(m, s))
	b.wantCalls(t, "Acquire", "Save", "Save")
	_, err := m.Open(ctx, token)
	wantErr(t, err, session.ErrNotFound)
	b.wantCalls(t, "Acquire", "Release") // of the marker that Login left
}

// TestLockIsFreed checks that the next session gets the lock at once, for every
// way to end a session.
func TestLockIsFreed(t *testing.T) {
	eachLocker(t, session.Config{Lock: session.LockConfig{MaxWait: time.Nanosecond}}, func(t *testing.T, m *session.Manager) {
		token := begin(t, m, map[string]any{"note": "x"})
		ends := map[string]func(s *session.Session){
			"Close":             func(s *session.Session) { check(t, finish(m, s)) },
			"Close with change": func(s *session.Session) { check(t, errOf(counter.Update(s, inc))); check(t, finish(m, s)) },
			"Save":              func(s *session.Session) { check(t, errOf(counter.Update(s, inc))); check(t, s.Save(ctx)) },
		}
		for name, end := range ends {
			end(open(t, m, token))
			s, err := m.Open(ctx, token)
			if err != nil {
				t.Fatalf("after %s: %v", name, err)
			}
			check(t, finish(m, s))
		}
		for name, f := range map[string]http.HandlerFunc{
			"return": func(w http.ResponseWriter, r *http.Request) {},
			"Write":  func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "page") },
			"panic":  func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) },
			"late change": func(w http.ResponseWriter, r *http.Request) {
				s, _ := m.Get(r.Context())
				check(t, errOf(counter.Update(s, inc)))
				_, _ = io.WriteString(w, "page")
				check(t, errOf(counter.Update(s, inc)))
			},
		} {
			func() {
				defer func() { _ = recover() }()
				serve(t, m, token, func(w http.ResponseWriter, r *http.Request, _ *session.Session) { f(w, r) })
			}()
			s, err := m.Open(ctx, token)
			if err != nil {
				t.Fatalf("after a handler with %s: %v", name, err)
			}
			check(t, finish(m, s))
		}
	})
}

// TestOthersWaitForTheLock checks that a Save without a lock waits for the
// holder, and is merged into the data that the holder saved.
func TestOthersWaitForTheLock(t *testing.T) {
	for _, mode := range []session.Mode{session.Merge, session.LastWrite} {
		t.Run(mode.String(), func(t *testing.T) {
			var b memory.Backend
			m := newManager(t, &b, session.Config{})
			locking, err := m.With(session.Route{Mode: session.Exclusive})
			check(t, err)
			other := newManager(t, &b, session.Config{Mode: mode}) // as in another process
			token := begin(t, m, map[string]any{"counter": 0})
			early := open(t, other, token)
			holder := open(t, locking, token)
			late := open(t, other, token)
			check(t, early.Set("early", 1))
			check(t, late.Set("late", 1))
			done := make(chan error, 2)
			for _, s := range []*session.Session{early, late} {
				go func() { done <- finish(other, s) }()
			}
			select {
			case err := <-done:
				t.Fatalf("a writer slipped in under the lock: %v", err)
			case <-time.After(50 * time.Millisecond):
			}
			check(t, counter.Set(holder, 7))
			check(t, finish(locking, holder))
			check(t, <-done)
			check(t, <-done)
			if mode == session.Merge {
				wantValue(t, m, token, "counter", 7)
				wantValue(t, m, token, "early", 1)
				wantValue(t, m, token, "late", 1)
			}
		})
	}
}

func TestDestroyUnderALock(t *testing.T) {
	m := newManager(t, &memory.Backend{}, session.Config{Mode: session.Exclusive, Lock: session.LockConfig{MaxWait: 20 * time.Millisecond}})
	merge, err := m.With(session.Route{Mode: session.Merge})
	check(t, err)
	token := begin(t, m, map[string]any{"note": "x"})
	holder := open(t, m, token)
	check(t, open(t, merge, token).Destroy(ctx)) // logging out does not wait forever
	check(t, note.Set(holder, "late"))
	wantErr(t, finish(m, holder), session.ErrNotFound)
	_, err = m.Open(ctx, token)
	wantErr(t, err, session.ErrNotFound)
}

func TestSafeMode(t *testing.T) {
	var b leasingStore
	m := newManager(t, &b, session.Config{})
	route, err := m.With(session.Route{Mode: session.Exclusive, SafeMode: session.Merge})
	check(t, err)
	token := begin(t, m, map[string]any{"note": "x"})
	for method, want := range map[string][]string{"GET": {"Load"}, "HEAD": {"Load"}, "POST": {"Acquire", "Release"}} {
		for _, nested := range []bool{false, true} {
			b.took()
			h := route.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, err := m.Get(r.Context())
				check(t, err)
			}))
			if nested {
				h = m.Handler(h)
			}
			r := httptest.NewRequest(method, "/", nil)
			r.AddCookie(&http.Cookie{Name: "__Host-session", Value: token})
			h.ServeHTTP(httptest.NewRecorder(), r)
			b.wantCalls(t, want...)
		}
	}
}

// TestUpgrade opens and changes the session in a middleware, before a route
// acquires the lock.
func TestUpgrade(t *testing.T) {
	var b leasingStore
	m := newManager(t, &b, session.Config{})
	locking, err := m.With(session.Route{Mode: session.Exclusive})
	check(t, err)
	token := begin(t, m, map[string]any{"counter": 1})
	b.took()
	serve(t, m, token, func(w http.ResponseWriter, r *http.Request, s *session.Session) {
		check(t, errOf(counter.Update(s, inc)))
		other := open(t, m, token)
		check(t, errOf(counter.Update(other, inc)))
		check(t, finish(m, other))
		locking.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s, err := m.Get(r.Context())
			check(t, err)
			if n, err := counter.Get(s); n != 3 || err != nil {
				t.Errorf("counter is %d, %v", n, err)
			}
			_, err = b.Acquire(ctx, "k", time.Second)
			wantErr(t, err, session.ErrNotFound)
		})).ServeHTTP(w, r)
	})
	b.wantCalls(t, "Load", "Load", "Save", "Acquire", "Acquire", "Save")
	wantValue(t, m, token, "counter", 3)
}

func TestTooManyWaiters(t *testing.T) {
	eachLocker(t, session.Config{Lock: session.LockConfig{MaxWaiters: 3}}, func(t *testing.T, m *session.Manager) {
		token := begin(t, m, map[string]any{"note": "x"})
		holder := open(t, m, token)
		results := make(chan error)
		for range 10 {
			go func() {
				s, err := m.Open(ctx, token)
				if err == nil {
					err = finish(m, s)
				}
				results <- err
			}()
		}
		for range 7 {
			wantErr(t, <-results, session.ErrLockTimeout)
		}
		check(t, finish(m, holder))
		for range 3 {
			check(t, <-results)
		}
	})
}

// leasingStore is a store that is also a LockingBackend.
type leasingStore struct{ store }

func (s *leasingStore) Acquire(c context.Context, key string, ttl time.Duration) (rec session.Record, err error) {
	err = s.do(c, "Acquire", func() error { rec, err = s.Backend.Acquire(c, key, ttl); return err })
	return rec, err
}

func (s *leasingStore) Extend(c context.Context, key string, v session.Version, ttl time.Duration) error {
	return s.do(c, "Extend", func() error { return s.Backend.Extend(c, key, v, ttl) })
}

func (s *leasingStore) Release(c context.Context, key string, v session.Version, expires time.Time) error {
	return s.do(c, "Release", func() error { return s.Backend.Release(c, key, v, expires) })
}
