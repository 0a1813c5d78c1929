package sessiontest_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/conformance"
	"github.com/seed-a7bee19b/session/observe"
	"github.com/seed-a7bee19b/session/sessiontest"
)

var (
	ctx     = context.Background()
	errDown = errors.New("store is down")

	ops = []observe.Op{observe.OpLoad, observe.OpSave, observe.OpTouch, observe.OpDelete, observe.OpAcquire, observe.OpExtend, observe.OpRelease}
)

// breakAll makes every call of st fail until it is mended.
func breakAll(st *sessiontest.Store) (mend func()) {
	for _, op := range ops {
		st.Fail(op, errDown)
	}
	return func() {
		for _, op := range ops {
			st.Fail(op, nil)
		}
	}
}

func TestConformance(t *testing.T) {
	for _, tt := range []struct {
		name string
		age  time.Duration // that the store has when the tests begin
	}{
		{"new", 0},
		{"advanced", 1234*time.Hour + 567*time.Millisecond},
	} {
		t.Run(tt.name, func(t *testing.T) {
			conformance.TestBackend(t, conformance.Backend{
				New: func(testing.TB) session.Backend {
					var st sessiontest.Store
					st.Advance(tt.age)
					return &st
				},
				Fail: func(_ testing.TB, b session.Backend) func() { return breakAll(b.(*sessiontest.Store)) },
			})
		})
	}
}

// TestConformanceAdvancing has the store's clock moved by the rules about
// deadlines and leases, for which they otherwise wait.
func TestConformanceAdvancing(t *testing.T) {
	conformance.TestBackend(t, conformance.Backend{
		New:     func(testing.TB) session.Backend { return &ahead{} },
		Advance: func(_ testing.TB, b session.Backend, d time.Duration) { b.(*ahead).advance(d) },
		Fail:    func(_ testing.TB, b session.Backend) func() { return breakAll(&b.(*ahead).st) },
	})
}

// ahead is a Store for the suite, which takes a backend that is advanced for one
// whose clock is ahead of everybody's, and gives and wants times by that clock.
type ahead struct {
	st sessiontest.Store
	mu sync.RWMutex
	by time.Duration
}

var _ session.LockingBackend = (*ahead)(nil) // whose rules the suite then tests

func (a *ahead) advance(d time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.st.Advance(d)
	a.by += d
}

func (a *ahead) in(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return t.Add(-a.by)
}

func (a *ahead) out(rec session.Record) session.Record {
	for _, t := range []*time.Time{&rec.Created, &rec.Expires, &rec.LockedUntil} {
		if !t.IsZero() {
			*t = t.Add(a.by)
		}
	}
	return rec
}

func (a *ahead) Load(ctx context.Context, key string) (session.Record, error) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	rec, err := a.st.Load(ctx, key)
	return a.out(rec), err
}

func (a *ahead) Save(ctx context.Context, key string, rec session.Record) (session.Version, error) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	rec.Created, rec.Expires = a.in(rec.Created), a.in(rec.Expires)
	v, err := a.st.Save(ctx, key, rec)
	return v, a.refusal(err)
}

func (a *ahead) refusal(err error) error {
	var conflict *session.ConflictError
	if errors.As(err, &conflict) && conflict.Current != nil {
		*conflict.Current = a.out(*conflict.Current)
	}
	var locked *session.LockedError
	if errors.As(err, &locked) {
		locked.Until = locked.Until.Add(a.by)
	}
	return err
}

func (a *ahead) Touch(ctx context.Context, key string, expires time.Time) error {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.st.Touch(ctx, key, a.in(expires))
}

func (a *ahead) Delete(ctx context.Context, key string) error {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.st.Delete(ctx, key)
}

func (a *ahead) Acquire(ctx context.Context, key string, ttl time.Duration) (session.Record, error) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	rec, err := a.st.Acquire(ctx, key, ttl)
	return a.out(rec), a.refusal(err)
}

func (a *ahead) Extend(ctx context.Context, key string, v session.Version, ttl time.Duration) error {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.st.Extend(ctx, key, v, ttl)
}

func (a *ahead) Release(ctx context.Context, key string, v session.Version, expires time.Time) error {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.st.Release(ctx, key, v, a.in(expires))
}

// TestAdvance has a Manager see what it would see later.
func TestAdvance(t *testing.T) {
	var store sessiontest.Store
	m := newManager(t, &store, session.Config{IdleTimeout: 2 * time.Hour, AbsoluteTimeout: 5 * time.Hour, TouchInterval: time.Minute})
	r := sessiontest.NewRequest(t, m, "GET", "/", nil, set(1))
	first := sessiontest.Stored(t, m, r, nil)
	store.Advance(-time.Hour)
	store.Advance(90 * time.Minute)
	s := sessiontest.Stored(t, m, r, nil)
	for what, d := range map[string]time.Duration{
		"Created": first.Created().Sub(s.Created()),
		"Expires": first.Expires().Sub(s.Expires()),
	} {
		if d != 90*time.Minute {
			t.Errorf("%s is %v earlier", what, d)
		}
	}

	// Use moves the deadline, to two hours from now.
	began := time.Now()
	run(m, r, func(*session.Session) error { return nil })
	s = sessiontest.Stored(t, m, r, nil)
	if left := s.Expires().Sub(began); left < 2*time.Hour || left > 2*time.Hour+time.Minute {
		t.Errorf("after a use, it ends in %v", left)
	}
	store.Advance(90 * time.Minute)
	run(m, r, set(2))
	wantVisits(t, sessiontest.Stored(t, m, r, nil), 2)
	store.Advance(119 * time.Minute)
	wantVisits(t, sessiontest.Stored(t, m, r, nil), 2)
	run(m, r, func(*session.Session) error { return nil })
	store.Advance(2 * time.Minute) // it began 5 hours and a minute ago
	sessiontest.NoSession(t, m, r, nil)
}

// TestAdvanceUnderALock: the holder has lost it, also where nobody else has got
// it.
func TestAdvanceUnderALock(t *testing.T) {
	var store sessiontest.Store
	m := newManager(t, &store, session.Config{Mode: session.Exclusive})
	r := sessiontest.NewRequest(t, m, "GET", "/", nil, set(1))
	token := sessiontest.Stored(t, m, r, nil).Token().Reveal()
	for _, taken := range []bool{true, false} {
		slow, err := m.Open(ctx, token)
		if err != nil {
			t.Fatal(err)
		}
		if err := visits.Set(slow, 99); err != nil {
			t.Fatal(err)
		}
		store.Advance(time.Minute)
		if taken {
			run(m, r, set(2))
		}
		if err := slow.Save(ctx); !errors.Is(err, session.ErrLockLost) {
			t.Errorf("the former holder, where another was in between is %v: %v", taken, err)
		}
		wantVisits(t, sessiontest.Stored(t, m, r, nil), 2)
	}
}

func TestFaults(t *testing.T) {
	var store sessiontest.Store
	m := newManager(t, &store, session.Config{})
	r := sessiontest.NewRequest(t, m, "POST", "/", nil, set(1))
	token := sessiontest.Stored(t, m, r, nil).Token().Reveal()
	save := func(n int) error {
		t.Helper()
		s, err := m.Open(ctx, token)
		if err != nil {
			return err
		}
		return errors.Join(visits.Set(s, n), s.Save(ctx), s.Close(ctx))
	}
	want := func(err error, fails bool) {
		t.Helper()
		if errors.Is(err, errDown) != fails || errors.Is(err, session.ErrStore) != fails {
			t.Errorf("got error %v, want one: %v", err, fails)
		}
	}

	store.Fail(observe.OpSave, errDown)
	for range 3 {
		want(save(2), true)
	}
	wantVisits(t, sessiontest.Stored(t, m, r, nil), 1)
	store.Fail(observe.OpSave, nil)
	want(save(3), false)

	store.FailNext(observe.OpSave, 2, errDown)
	want(save(4), true)
	want(save(4), true)
	wantVisits(t, sessiontest.Stored(t, m, r, nil), 3)
	want(save(5), false)
	store.FailNext(observe.OpSave, 0, errDown)
	store.FailNext(observe.OpLoad, -1, errDown)
	want(save(6), false)

	store.LoseNext(observe.OpSave, 1, errDown)
	want(save(7), true)
	wantVisits(t, sessiontest.Stored(t, m, r, nil), 7)
	want(save(8), false)

	// A call that begins too late does not count.
	over, cancel := context.WithCancel(ctx)
	cancel()
	store.FailNext(observe.OpLoad, 1, errDown)
	if _, err := store.Load(over, "k"); !errors.Is(err, context.Canceled) {
		t.Errorf("Load with a context that has ended: %v", err)
	}
	want(save(9), true)
	want(save(8), false)

	// A logout is a call of its own.
	logout := func() error {
		s, err := m.Open(ctx, token)
		if err != nil {
			return err
		}
		return s.Destroy(ctx)
	}
	store.Fail(observe.OpSave, errDown)
	store.FailNext(observe.OpDelete, 1, errDown)
	want(logout(), true)
	wantVisits(t, sessiontest.Stored(t, m, r, nil), 8)
	store.LoseNext(observe.OpDelete, 1, errDown)
	want(logout(), true)
	sessiontest.NoSession(t, m, r, nil)
}

// TestFaultOfEachOp: no other call fails.
func TestFaultOfEachOp(t *testing.T) {
	for _, op := range ops {
		t.Run(op.String(), func(t *testing.T) {
			var store sessiontest.Store
			rec := session.Record{Created: time.Now(), Expires: time.Now().Add(time.Hour)}
			var err error
			if rec.Version, err = store.Save(ctx, "k", rec); err != nil {
				t.Fatal(err)
			}
			var held session.Record
			calls := []struct {
				op   observe.Op
				call func() error
			}{
				{observe.OpLoad, func() error { return second(store.Load(ctx, "k")) }},
				{observe.OpTouch, func() error { return store.Touch(ctx, "k", rec.Expires.Add(time.Hour)) }},
				{observe.OpSave, func() error { return second(store.Save(ctx, "k", rec)) }},
				{observe.OpAcquire, func() error { held, err = store.Acquire(ctx, "k", time.Minute); return err }},
				{observe.OpExtend, func() error { return store.Extend(ctx, "k", held.Version, time.Minute) }},
				{observe.OpRelease, func() error { return store.Release(ctx, "k", held.Version, time.Time{}) }},
				{observe.OpDelete, func() error { return store.Delete(ctx, "k") }},
			}
			for _, c := range calls {
				if c.op == op {
					store.FailNext(op, 1, errDown)
					if err := c.call(); !errors.Is(err, errDown) {
						t.Errorf("%v: %v, want %v", c.op, err, errDown)
					}
				}
				if err := c.call(); err != nil {
					t.Errorf("%v: %v", c.op, err)
				}
			}
		})
	}
}

func second[T any](_ T, err error) error { return err }

// TestStoreIsSafe is for the race detector.
func TestStoreIsSafe(t *testing.T) {
	var store sessiontest.Store
	m := newManager(t, &store, session.Config{})
	r := sessiontest.NewRequest(t, m, "POST", "/", nil, set(0))
	token := sessiontest.Stored(t, m, r, nil).Token().Reveal()
	var wg sync.WaitGroup
	for range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			store.Advance(time.Second)
			store.FailNext(observe.OpTouch, 1, errDown)
			s, err := m.Open(ctx, token)
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := visits.Update(s, func(n int) int { return n + 1 }); err != nil {
				t.Error(err)
			}
			if err := s.Save(ctx); err != nil {
				t.Error(err)
			}
		}()
	}
	wg.Wait()
	wantVisits(t, sessiontest.Stored(t, m, r, nil), 8)
}
