package conformance

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session"
)

// lockerMutants are lockers with one fault each, and the rule that has to fail on
// it. All other rules have to pass.
var lockerMutants = []mutant{
	{"acquire refuses part of a second", "Acquire"},
	{"acquire waits", "AcquireLocked"},
	{"acquire is reentrant", "AcquireLocked"},
	{"acquire locked error of no type", "AcquireLocked"},
	{"acquire that is refused ends the lock", "AcquireLocked"},
	{"acquire takes any ttl", "AcquireTTL"},
	{"acquire locks, then looks at the ttl", "AcquireTTL"},
	{"locked error says now", "LockedUntil"},
	{"lease of half its ttl", "LeaseHolds"},
	{"ttl ignored", "LeaseHolds"},
	{"lock without lease", "LeaseEnds"},
	{"extend does nothing", "Extend"},
	{"extend only lengthens", "Extend"},
	{"extend only once", "Extend"},
	{"extend takes any ttl", "ExtendTTL"},
	{"extend after takeover is fine", "ExtendLost"},
	{"extend after takeover takes back", "ExtendLost"},
	{"extend after release takes back", "ExtendLost"},
	{"lost lock is locked", "ExtendLost"},
	{"extend after the lease", "ExtendAfterLease"},
	{"release does nothing", "Release"},
	{"second release fails", "ReleaseLost"},
	{"release after the lease fails", "ReleaseLost"},
	{"release after takeover fails", "ReleaseLost"},
	{"release without owner check", "ReleaseOthers"},
	{"keys fold case", "Keys"},
	{"keys cut at 255", "Keys"},
	{"acquire ignores a done context", "DoneContextAcquire"},
	{"extend ignores a done context", "DoneContextExtend"},
	{"release ignores a done context", "DoneContextRelease"},
	{"release hides the context's error", "DoneContextRelease"},
	{"extend waits without the context", "ContextEnds"},
	{"acquire hangs with the store", "ContextEnds"},
	{"acquire failure is locked", "StoreFailure"},
	{"extend failure is a conflict", "StoreFailure"},
	{"release failure is nil", "StoreFailure"},
	{"locks are the client's", "Clients"},
	{"acquire checks, then writes", "RaceAcquire"},
	{"release checks, then unlocks", "RaceTakeover"},
	{"extend checks, then extends", "RaceTakeover"},
	{"extend puts back what it read", "RaceLease"},
	{"lease in whole seconds, rounded up", "LeaseEnds"},
	{"lease in whole seconds, rounded down", "LeaseHolds"},
	{"cause in place of the error", "DoneContextAcquire"},
}

// wideLockerMutants are lockers with one fault each, and the wide rule that has to
// fail on it. Other rules may fail too.
var wideLockerMutants = []mutant{
	{"acquire checks, then writes", "PairAcquire"},
	{"release looks, then unlocks", "PairRelease"},
	{"keeps 200 locks", "ManyLocks"},
	{"one connection that hangs", "HangingCall"},
	{"goroutines stay", "Goroutines"},
}

func TestWideLockerMutants(t *testing.T) {
	t.Parallel()
	for _, m := range wideLockerMutants {
		t.Run(m.bug, func(t *testing.T) {
			t.Parallel()
			i := slices.IndexFunc(lockerRules, func(r lockerRule) bool { return r.name == m.rule })
			tried(t, m.rule, func(t testing.TB, res *results) {
				lockerRules[i].test(t, modelLocker(m.bug), 200*time.Millisecond, res)
			})
		})
	}
}

func TestLockerMutants(t *testing.T) {
	t.Parallel()
	testMutants(t, lockerMutants, func(t *testing.T, m mutant) map[string]string {
		locker := modelLocker(m.bug)
		failed := map[string]string{}
		res := &results{spell: 5 * time.Millisecond}
		for _, rule := range lockerRules {
			if m.skips(rule.name, rule.wide) {
				continue
			}
			if ok, log := run(t, func(t testing.TB) { rule.test(t, locker, patienceWith(m.bug), res) }); !ok {
				failed[rule.name] = log
			}
		}
		if why := res.unexplained(); why != "" && len(failed) == 0 {
			failed["left out"] = why
		}
		return failed
	})
}

func modelLocker(bug string) Locker {
	return Locker{
		New: func(t testing.TB) session.Locker {
			store := &lockerStore{locks: map[string]*modelLease{}, ended: make(chan struct{})}
			t.Cleanup(func() { close(store.ended) })
			return &locker{lockerStore: store, bug: bug}
		},
		Reopen: func(_ testing.TB, l session.Locker) session.Locker {
			return &locker{lockerStore: l.(*locker).lockerStore, bug: bug}
		},
		Advance: func(_ testing.TB, l session.Locker, d time.Duration) {
			m := l.(*locker)
			m.mu.Lock()
			defer m.mu.Unlock()
			m.ahead += d
		},
		Fail: func(_ testing.TB, l session.Locker) func() {
			m := l.(*locker)
			set := func(down bool) {
				m.mu.Lock()
				defer m.mu.Unlock()
				m.down = down
			}
			set(true)
			return func() { set(false) }
		},
	}
}

// A locker is a client of locks in memory. It is written for its bugs and is no
// example of a locker.
type locker struct {
	*lockerStore
	bug string
}

type lockerStore struct {
	mu    sync.Mutex
	locks map[string]*modelLease
	ahead time.Duration
	down  bool
	ended chan struct{} // closed after the rule, for calls that hang
	order []string      // keys that were locked
	one   sync.Mutex    // the connection, if there is one
}

// A modelLease has the lock as long as it is the one in locks.
type modelLease struct {
	m        *locker
	key      string
	until    time.Time
	ttl      time.Duration
	extended int
	released bool
}

func (m *locker) now() time.Time { return time.Now().Add(m.ahead) }

func (m *locker) gap() {
	m.mu.Unlock()
	time.Sleep(rand.N(4 * time.Millisecond))
	m.mu.Lock()
}

func (m *locker) enter(ctx context.Context, method string) error {
	if err := ctx.Err(); err != nil && m.bug != method+" ignores a done context" {
		switch m.bug {
		case method + " hides the context's error":
			return errors.New("model: gave up")
		case "cause in place of the error":
			if method == "acquire" {
				return context.Cause(ctx)
			}
		}
		return err
	}
	m.mu.Lock()
	down := m.down
	if m.bug == method+" waits without the context" && ctx.Done() != nil && !down {
		m.mu.Unlock()
		<-m.ended
		m.mu.Lock()
	}
	if !down {
		return nil
	}
	m.mu.Unlock()
	if _, ok := ctx.Deadline(); m.bug == "one connection that hangs" && method == "acquire" && !ok {
		m.one.Lock()
		<-ctx.Done()
		m.one.Unlock()
		return ctx.Err()
	}
	if _, ok := ctx.Deadline(); m.bug == method+" hangs with the store" && !ok {
		<-m.ended
	}
	switch m.bug {
	case method + " failure is locked":
		return &session.LockedError{}
	case method + " failure is a conflict":
		return &session.ConflictError{}
	case method + " failure is nil":
		return errModelNil
	}
	return errModelDown
}

func (m *locker) live(le *modelLease) bool {
	if le == nil {
		return false
	}
	until := le.until
	switch m.bug {
	case "lock without lease":
		return true
	case "lease of half its ttl":
		until = until.Add(-le.ttl / 2)
	case "ttl ignored":
		if le.extended == 0 && le.ttl >= time.Minute {
			until = until.Add(30*time.Second - le.ttl)
		}
	}
	return m.now().Before(until)
}

func (m *locker) Acquire(ctx context.Context, key string, ttl time.Duration) (session.Lease, error) {
	for {
		lease, err := m.acquire(ctx, key, ttl)
		if m.bug != "acquire waits" || !errors.Is(err, session.ErrLocked) {
			return lease, err
		}
		time.Sleep(time.Millisecond)
	}
}

func (m *locker) acquire(ctx context.Context, key string, ttl time.Duration) (session.Lease, error) {
	if err := m.enter(ctx, "acquire"); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	switch m.bug {
	case "keys fold case":
		key = strings.ToLower(key)
	case "keys cut at 255":
		key = key[:min(len(key), 255)]
	case "acquire takes any ttl":
		ttl = max(ttl, 1)
	case "acquire locks, then looks at the ttl":
		if ttl <= 0 {
			m.locks[key] = &modelLease{m: m, key: key, until: m.now().Add(time.Minute)}
		}
	case "acquire refuses part of a second":
		if ttl < 10*time.Millisecond {
			ttl = 0
		}
	}
	if ttl <= 0 {
		return nil, errors.New("model: no ttl")
	}
	le := m.locks[key]
	held := m.live(le)
	switch m.bug {
	case "acquire is reentrant":
		held = held && le.m != m
	case "locks are the client's":
		held = held && le.m == m
	}
	if held {
		switch m.bug {
		case "acquire locked error of no type":
			return nil, session.ErrLocked
		case "acquire that is refused ends the lock":
			delete(m.locks, key)
		case "locked error says now":
			return nil, &session.LockedError{Until: m.now()}
		}
		return nil, &session.LockedError{Until: le.until}
	}
	if m.bug == "acquire checks, then writes" {
		m.gap()
	}
	switch m.bug {
	case "keeps 200 locks":
		if m.order = append(m.order, key); len(m.order) > 200 {
			delete(m.locks, m.order[0])
			m.order = m.order[1:]
		}
	case "goroutines stay":
		go func() { <-m.ended }()
	case "lease in whole seconds, rounded up":
		ttl = (ttl + time.Second - 1).Truncate(time.Second)
	case "lease in whole seconds, rounded down":
		ttl = max(ttl.Truncate(time.Second), min(ttl, time.Millisecond))
	}
	le = &modelLease{m: m, key: key, until: m.now().Add(ttl), ttl: ttl}
	m.locks[key] = le
	return le, nil
}

func (le *modelLease) Extend(ctx context.Context, ttl time.Duration) error {
	m := le.m
	if err := m.enter(ctx, "extend"); err != nil {
		return err
	}
	defer m.mu.Unlock()
	if ttl <= 0 && m.bug != "extend takes any ttl" {
		return errors.New("model: no ttl")
	}
	now := m.locks[le.key]
	until := m.now().Add(ttl)
	switch {
	case now == le && (m.live(le) || m.bug == "extend after the lease"):
	case now == nil && m.bug == "extend after release takes back":
		m.locks[le.key] = le
	case now != nil && now != le && m.bug == "extend after takeover is fine":
		return nil
	case now != nil && now != le && m.bug == "extend after takeover takes back":
		m.locks[le.key] = le
	case now != nil && now != le && m.bug == "lost lock is locked":
		return &session.LockedError{Until: now.until}
	default:
		return &session.ConflictError{}
	}
	switch m.bug {
	case "extend does nothing":
		return nil
	case "extend only lengthens":
		if until.Before(le.until) {
			return nil
		}
	case "extend only once":
		if le.extended > 0 {
			return &session.ConflictError{}
		}
	case "extend checks, then extends":
		m.gap()
		if le.released {
			return &session.ConflictError{}
		}
		m.locks[le.key] = le
	case "extend puts back what it read":
		m.gap()
		if now := m.locks[le.key]; now == nil {
			m.locks[le.key] = le
		} else if now != le || !m.live(le) {
			return &session.ConflictError{}
		}
	}
	le.until, le.ttl = until, ttl
	le.extended++
	return nil
}

func (le *modelLease) Release(ctx context.Context) error {
	m := le.m
	if err := m.enter(ctx, "release"); err == errModelNil {
		return nil
	} else if err != nil {
		return err
	}
	defer m.mu.Unlock()
	now := m.locks[le.key]
	switch m.bug {
	case "release does nothing":
		return nil
	case "second release fails":
		if le.released {
			return &session.ConflictError{}
		}
	case "release after the lease fails":
		if now == le && !m.live(le) {
			return &session.ConflictError{}
		}
	case "release after takeover fails":
		if now != nil && now != le {
			return &session.ConflictError{}
		}
	case "release without owner check":
		delete(m.locks, le.key)
		return nil
	case "release checks, then unlocks":
		if now == le {
			m.gap()
			delete(m.locks, le.key)
		}
	case "release looks, then unlocks":
		if now == le {
			m.mu.Unlock()
			gap()
			m.mu.Lock()
			delete(m.locks, le.key)
			return nil
		}
	}
	if now == le {
		if m.bug != "release checks, then unlocks" {
			delete(m.locks, le.key)
		}
		le.released = true
	}
	return nil
}
