package conformance

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/admin"
)

// patience is the time after which a rule takes a call for one that hangs.
const patience = 10 * time.Second

// A subtest is a rule to run.
type subtest struct {
	name  string
	waits bool // it waits most of the time, so it can run beside any number of others
	alone bool // it runs after all subtests that do not wait, one at a time
	test  func(*testing.T, *results)
}

// workers is the number of rules that run at a time, beside those that wait.
const workers = 4

// runAll runs subtests concurrently and returns when all are done.
func runAll(t *testing.T, tests []subtest) {
	t.Helper()
	res := &results{spell: spell}
	// With t.Parallel, only GOMAXPROCS rules would wait at the same time, and all
	// would begin after the caller has closed the backends.
	var wg sync.WaitGroup
	run := func(tests <-chan subtest) {
		defer wg.Done()
		for test := range tests {
			if !res.hung.Load() {
				t.Run(test.name, func(t *testing.T) { test.test(t, res) })
			}
		}
	}
	queue, alone := make(chan subtest, len(tests)), make(chan subtest, len(tests))
	for _, test := range tests {
		switch {
		case test.alone:
			alone <- test
		case !test.waits:
			queue <- test
		default:
			waiting := make(chan subtest, 1)
			waiting <- test
			close(waiting)
			wg.Add(1)
			go run(waiting)
		}
	}
	close(queue)
	close(alone)
	var working sync.WaitGroup
	for range workers {
		wg.Add(1)
		working.Add(1)
		go func() {
			defer working.Done()
			run(queue)
		}()
	}
	wg.Add(1)
	go func() {
		working.Wait()
		run(alone)
	}()
	wg.Wait()
	if res.hung.Load() {
		t.Error("a call hangs; rules that had not begun by then were not tested")
	}
	if !t.Failed() {
		if unexplained := res.unexplained(); unexplained != "" {
			t.Error(unexplained)
		}
	}
}

// results collects the results of the rules of a run.
type results struct {
	spell   time.Duration
	mu      sync.Mutex
	leftOut []string // rules that were left out, with the reasons
	hung    atomic.Bool
}

// spell is how long a rule repeats a step that fails only once in many times. In
// memory that makes some 10,000 repetitions.
const spell = 100 * time.Millisecond

// often calls f with 0, 1 and so on as long as f returns true: at least least
// times, at most most times, and otherwise until the spell is over.
func (s *scene) often(least, most int, f func(i int) bool) {
	s.oftenFor(s.results.spell, least, most, f)
}

func (s *scene) oftenFor(spell time.Duration, least, most int, f func(i int) bool) {
	begun := time.Now()
	for i := range most {
		if i >= least && time.Since(begun) >= spell || !f(i) {
			return
		}
	}
}

// unexplained lists the rules that were left out. If no other rule failed, that
// is a failure, because there is a fault that no rule has reported.
func (r *results) unexplained() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.leftOut) == 0 {
		return ""
	}
	slices.Sort(r.leftOut)
	return "rules were left out because of a fault, and no other rule reports one:\n" + strings.Join(r.leftOut, "\n")
}

// A guard is the testing.TB of a rule. The rule runs in its own goroutine, which
// is abandoned if a call hangs. After that the guard drops all it is told.
type guard struct {
	testing.TB
	mu   sync.Mutex
	over bool
	hung chan string
}

// guarded runs a rule until it returns or one of its calls hangs.
func guarded(t testing.TB, res *results, rule func(*guard)) {
	t.Helper()
	g := &guard{TB: t, hung: make(chan string, 1)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		rule(g)
	}()
	select {
	case <-done:
	case hung := <-g.hung:
		g.mu.Lock()
		g.over = true
		g.mu.Unlock()
		res.hung.Store(true)
		t.Fatal(hung)
	}
}

// say calls f unless the rule was abandoned.
func (g *guard) say(f func()) {
	g.Helper()
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.over {
		f()
	}
}

func (g *guard) Fail() { g.say(g.TB.Fail) }

func (g *guard) FailNow() { g.Fail(); runtime.Goexit() }

func (g *guard) Cleanup(f func()) { g.say(func() { g.TB.Cleanup(f) }) }

func (g *guard) Log(a ...any) {
	g.Helper()
	g.say(func() { g.Helper(); g.TB.Log(a...) })
}

func (g *guard) Logf(format string, a ...any) {
	g.Helper()
	g.say(func() { g.Helper(); g.TB.Logf(format, a...) })
}

func (g *guard) Error(a ...any) {
	g.Helper()
	g.say(func() { g.Helper(); g.TB.Error(a...) })
}

func (g *guard) Errorf(format string, a ...any) {
	g.Helper()
	g.say(func() { g.Helper(); g.TB.Errorf(format, a...) })
}

func (g *guard) Fatal(a ...any) {
	g.Helper()
	g.say(func() { g.Helper(); g.TB.Error(a...) })
	runtime.Goexit()
}

func (g *guard) Fatalf(format string, a ...any) {
	g.Helper()
	g.say(func() { g.Helper(); g.TB.Errorf(format, a...) })
	runtime.Goexit()
}

// A watch ends a rule when one of its calls hangs, with the name of the call.
type watch struct {
	guard *guard
	limit time.Duration
}

// calls starts to watch a call. The caller calls returned when the call is over.
func (w watch) calls(ctx context.Context, name string) (returned func() bool) {
	return time.AfterFunc(w.limit, func() {
		ended := ""
		if ctx.Err() != nil {
			ended = ", and its context has ended"
		}
		select {
		case w.guard.hung <- fmt.Sprintf("%s has not returned after %v%s", name, w.limit, ended):
		default:
		}
	}).Stop
}

// A watched is a backend whose calls are watched. It has the methods of
// LockingBackend and Sweeper even if the backend does not; locking and sweeping
// check that.
type watched struct {
	session.Backend
	watch
}

func (w watched) Load(ctx context.Context, key string) (session.Record, error) {
	defer w.calls(ctx, "Load")()
	return w.Backend.Load(ctx, key)
}

func (w watched) Save(ctx context.Context, key string, rec session.Record) (session.Version, error) {
	defer w.calls(ctx, "Save")()
	return w.Backend.Save(ctx, key, rec)
}

func (w watched) Touch(ctx context.Context, key string, expires time.Time) error {
	defer w.calls(ctx, "Touch")()
	return w.Backend.Touch(ctx, key, expires)
}

func (w watched) Delete(ctx context.Context, key string) error {
	defer w.calls(ctx, "Delete")()
	return w.Backend.Delete(ctx, key)
}

func (w watched) Acquire(ctx context.Context, key string, ttl time.Duration) (session.Record, error) {
	defer w.calls(ctx, "Acquire")()
	return w.Backend.(session.LockingBackend).Acquire(ctx, key, ttl)
}

func (w watched) Extend(ctx context.Context, key string, v session.Version, ttl time.Duration) error {
	defer w.calls(ctx, "Extend")()
	return w.Backend.(session.LockingBackend).Extend(ctx, key, v, ttl)
}

func (w watched) Release(ctx context.Context, key string, v session.Version, expires time.Time) error {
	defer w.calls(ctx, "Release")()
	return w.Backend.(session.LockingBackend).Release(ctx, key, v, expires)
}

func (w watched) List(ctx context.Context, opts admin.ListOptions, visit func(admin.Entry) error) (admin.Report, error) {
	defer w.calls(ctx, "List")()
	return w.Backend.(admin.Lister).List(ctx, opts, visit)
}

func (w watched) Sweep(ctx context.Context, opts admin.SweepOptions) (admin.Report, error) {
	defer w.calls(ctx, "Sweep")()
	return w.Backend.(admin.Sweeper).Sweep(ctx, opts)
}

// A watchedLocker is a locker whose calls are watched, and those of its leases.
type watchedLocker struct {
	session.Locker
	watch
}

func (w watchedLocker) Acquire(ctx context.Context, key string, ttl time.Duration) (session.Lease, error) {
	defer w.calls(ctx, "Acquire")()
	lease, err := w.Locker.Acquire(ctx, key, ttl)
	if lease != nil {
		lease = watchedLease{lease, w.watch}
	}
	return lease, err
}

type watchedLease struct {
	session.Lease
	watch
}

func (w watchedLease) Extend(ctx context.Context, ttl time.Duration) error {
	defer w.calls(ctx, "Lease.Extend")()
	return w.Lease.Extend(ctx, ttl)
}

func (w watchedLease) Release(ctx context.Context) error {
	defer w.calls(ctx, "Lease.Release")()
	return w.Lease.Release(ctx)
}
