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

// patience is how long a call may take before it counts as one that hangs.
const patience = 10 * time.Second

// subtest is one rule that is about to be tested.
type subtest struct {
	name  string
	waits bool // mostly, so that it may run besides any number of others
	alone bool // after all that do not wait, one after the other
	test  func(*testing.T, *results)
}

// workers is how many rules run at a time, besides those that wait.
const workers = 4

// runAll runs subtests at the same time and returns when all are done.
func runAll(t *testing.T, tests []subtest) {
	t.Helper()
	res := &results{spell: spell}
	// With t.Parallel only GOMAXPROCS rules would wait at the same time, and
	// all would begin after the caller has closed what they use.
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
		t.Error("a call hangs, so what had not begun by then was not tested")
	}
	if !t.Failed() {
		if unexplained := res.unexplained(); unexplained != "" {
			t.Error(unexplained)
		}
	}
}

// results is what the rules of a run have in common.
type results struct {
	spell   time.Duration
	mu      sync.Mutex
	leftOut []string // rules, each with the reason
	hung    atomic.Bool
}

// spell is how long a rule tries again and again what may go wrong once in
// many times. It is enough for some 10,000 tries in memory.
const spell = 100 * time.Millisecond

// often calls f with 0, 1 and so on, at least a number of times and until the
// spell is over, as long as it returns true.
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

// unexplained says which rules were left out. If no other rule has failed,
// that is a failure: they were left out because of a fault.
func (r *results) unexplained() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.leftOut) == 0 {
		return ""
	}
	slices.Sort(r.leftOut)
	return "left out, and no other rule says why:\n" + strings.Join(r.leftOut, "\n")
}

// guard is the testing.TB of a rule. The rule runs in a goroutine of its own,
// and is left behind if a call hangs. From then on it has nothing to say.
type guard struct {
	testing.TB
	mu   sync.Mutex
	over bool
	hung chan string
}

// guarded runs a rule, until it returns or one of its calls hangs.
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

// say calls f unless the test is over.
func (g *guard) say(f func()) {
	g.Helper()
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.over {
		f()
	}
}

func (g *guard) Fail()            { g.say(g.TB.Fail) }
func (g *guard) FailNow()         { g.Fail(); runtime.Goexit() }
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

// watch is for calls that hang: such a call ends the rule with its name.
type watch struct {
	guard *guard
	limit time.Duration
}

// calls begins the watch over a call; the function that it returns ends it.
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

// watched is a backend whose calls are watched. It has the methods of LockingBackend,
// Sweeper and Lister whatever the backend is; see leasing, sweeping and listing.
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

func (w watched) Sweep(ctx context.Context, opts admin.SweepOptions) (admin.Report, error) {
	defer w.calls(ctx, "Sweep")()
	return w.Backend.(admin.Sweeper).Sweep(ctx, opts)
}

func (w watched) List(ctx context.Context, opts admin.ListOptions, visit func(admin.Entry) error) (admin.Report, error) {
	defer w.calls(ctx, "List")()
	return w.Backend.(admin.Lister).List(ctx, opts, visit)
}

// watchedLocker is a locker whose calls are watched, those of its leases too.
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
