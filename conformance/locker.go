package conformance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session"
)

// Locker tells the suite how to get at the locker under test, and what it can
// do. Only New is needed.
type Locker struct {
	// New returns the locker. It is called once for each rule; up to 16 of what
	// it returned are in use at the same time, each with up to 8 calls under
	// way. All may use one store: the keys of a rule begin with 16 random
	// characters.
	New func(t testing.TB) session.Locker

	// Reopen returns a second client on the store of l, as independent of l as
	// another process would be. Nil if the locks live inside the process: then
	// nothing is tested across clients.
	Reopen func(t testing.TB, l session.Locker) session.Locker

	// Advance makes d pass for l and for what Reopen made of it, a minute at a
	// time. The suite then counts on the clock of l being ahead of time.Now by
	// the sum of what it advanced, and on l not sharing that clock with other
	// results of New. Nil if time cannot be moved: then the rules about leases
	// wait, for about a second, all at once.
	Advance func(t testing.TB, l session.Locker, d time.Duration)

	// Fail makes the store of l fail or hang until restore is called. Nil if
	// that cannot be done: then there is no subtest StoreFailure, and what is
	// said about failures of the store is not tested.
	Fail func(t testing.TB, l session.Locker) (restore func())
}

// TestLocker tests a locker against the contract of [session.Locker] and
// [session.Lease], one subtest for each rule. It returns when all are done:
// after about a second, or sooner if Advance is there.
func TestLocker(t *testing.T, locker Locker) {
	t.Helper()
	if locker.New == nil {
		t.Fatal("conformance: Locker.New is nil")
	}
	var tests []subtest
	for _, rule := range lockerRules {
		if rule.needs != nil && !rule.needs(locker) {
			continue
		}
		tests = append(tests, subtest{rule.name, rule.waits && locker.Advance == nil, rule.alone, func(t *testing.T, res *results) {
			t.Helper()
			rule.test(t, locker, patience, res)
		}})
	}
	runAll(t, tests)
}

var lockerRules = slices.Concat(lockRules, lockerLeaseRules, lockerRaceRules)

// A lockerRule is one rule of the contract of session.Locker and
// session.Lease.
type lockerRule struct {
	name   string
	quotes []string
	needs  func(Locker) bool // nil: nothing
	waits  bool              // for leases to run out
	alone  bool              // is a race that needs the machine for itself
	wide   bool              // looks at so much that it fails beside other rules
	run    func(*lockerProbe)
}

// lockRules are about session.Locker itself.
var lockRules = []lockerRule{
	{name: "Acquire", run: ruleLockerAcquire, quotes: []string{
		"Acquire takes the lock called key for ttl.",
	}},
	{name: "AcquireLocked", run: ruleLockerLocked, quotes: []string{
		"It MUST NOT wait: while another holder's lock is live it fails with a *LockedError.",
	}},
	{name: "AcquireTTL", run: ruleLockerTTL, quotes: []string{
		"A ttl that is not positive MUST be refused with an error.",
	}},
	{name: "LockedUntil", run: ruleLockerUntil, quotes: []string{
		"Acquire takes the lock called key for ttl.",
	}},
	{name: "LeaseHolds", run: ruleLockerLeaseHolds, waits: true, quotes: []string{
		"Acquire takes the lock called key for ttl.",
	}},
	{name: "LeaseEnds", run: ruleLockerLeaseEnds, waits: true, quotes: []string{
		"after ttl without Extend the lock MUST be free.",
	}},
	{name: "Keys", run: ruleLockerKeys, quotes: []string{
		"What Backend says about concurrency, contexts, keys and failures applies to a Locker and its Leases.",
		"Keys are non-empty strings of at most 512 bytes of UTF-8; a backend MUST keep any two of them apart, byte by byte.",
	}},
	{name: "ManyLocks", run: ruleLockerMany, wide: true, quotes: []string{
		"Acquire takes the lock called key for ttl.",
		"a backend MUST keep any two of them apart, byte by byte.",
	}},
	{name: "Clients", run: ruleLockerClients, quotes: []string{
		"Locker serializes work on a key across processes,",
	}, needs: func(l Locker) bool { return l.Reopen != nil }},
	{name: "DoneContextAcquire", run: ruleLockerDoneAcquire, quotes: doneContext},
	{name: "DoneContextExtend", run: ruleLockerDoneExtend, quotes: doneContext},
	{name: "DoneContextRelease", run: ruleLockerDoneRelease, quotes: doneContext},
	{name: "ContextEnds", run: ruleLockerContextEnds, quotes: []string{
		"What Backend says about concurrency, contexts, keys and failures applies to a Locker and its Leases.",
		"Once ctx is done it MUST return promptly,",
	}},
	{name: "StoreFailure", run: ruleLockerFailure, quotes: []string{
		"What Backend says about concurrency, contexts, keys and failures applies to a Locker and its Leases.",
		"A failure of the store MUST be returned as an error that is none of the sentinels of this package;",
	}, needs: func(l Locker) bool { return l.Fail != nil }},
	{name: "HangingCall", run: ruleLockerHanging, wide: true, quotes: []string{
		"Once ctx is done it MUST return promptly, whatever other calls wait for,",
	}, needs: func(l Locker) bool { return l.Fail != nil }},
	{name: "Goroutines", run: ruleLockerGoroutines, wide: true, quotes: []string{
		"It MUST NOT leave behind a goroutine for each call.",
	}},
}

// test runs the rule. A call that does not return within patience hangs.
func (r lockerRule) test(t testing.TB, locker Locker, patience time.Duration, res *results) {
	t.Helper()
	t.Cleanup(func() { logQuotes(t, r.quotes) })
	l := locker.New(t)
	other := l
	if locker.Reopen != nil {
		other = locker.Reopen(t, l)
	}
	guarded(t, res, func(g *guard) {
		s := newScene(g, r.name, patience, res)
		p := &lockerProbe{scene: s, l: watchedLocker{l, s.watch}, other: watchedLocker{other, s.watch}}
		if locker.Advance != nil {
			p.advance = func(d time.Duration) { locker.Advance(g, l, d) }
		}
		if locker.Fail != nil {
			p.fail = func() func() { return locker.Fail(g, l) }
		}
		r.run(p)
	})
}

// lockerProbe is what a rule about a locker works with.
type lockerProbe struct {
	*scene
	l, other session.Locker // two clients of one store; the same if it has only one
}

// acquire takes what must be possible to take.
func (p *lockerProbe) acquire(key string, ttl time.Duration) session.Lease {
	p.Helper()
	lease, err := p.l.Acquire(p.ctx, key, ttl)
	if err != nil {
		p.Fatalf("Acquire: %v", err)
	}
	return lease
}

// try is an Acquire that may be refused.
func (p *lockerProbe) try(l session.Locker, key string, ttl time.Duration) error {
	ctx, cancel := context.WithTimeout(p.ctx, p.patience)
	defer cancel()
	return second(l.Acquire(ctx, key, ttl))
}

// free tells whether the lock called key can be taken. It is, then.
func (p *lockerProbe) free(key string) bool { return p.try(p.l, key, long) == nil }

// stolen tells whether a lock that has to be held can be taken; not if any
// such lock can be, of which rule AcquireLocked tells.
func (p *lockerProbe) stolen(key string) bool {
	p.Helper()
	if !p.free(key) {
		return false
	}
	other := p.freshKey()
	p.acquire(other, long)
	return !p.free(other)
}

func ruleLockerAcquire(p *lockerProbe) {
	for _, ttl := range []time.Duration{1, time.Millisecond, long} {
		lease, err := p.l.Acquire(p.ctx, p.key(ttl.String()), ttl)
		if err != nil || lease == nil {
			p.Errorf("Acquire of a free lock for %v: %v, %v", ttl, lease, err)
		}
	}
}

func ruleLockerLocked(p *lockerProbe) {
	key := p.key("a")
	lease := p.acquire(key, long)
	ctx, cancel := context.WithCancel(p.ctx)
	defer cancel()
	// So many calls that even a short wait in each of them shows.
	ended := p.ends(func() {
		for range 40 {
			if _, err := p.l.Acquire(ctx, key, long); ctx.Err() == nil {
				p.locked(err, "Acquire of a lock that is held")
			}
		}
	})
	if !ended {
		p.Fatalf("40 calls of Acquire for a lock that is held have not returned after %v", p.patience)
	}
	if err := lease.Extend(p.ctx, long); err != nil && !p.Failed() {
		p.Errorf("Extend, after others have tried to acquire: %v", err)
	}
}

func ruleLockerTTL(p *lockerProbe) {
	key := p.key("a")
	for _, ttl := range []time.Duration{0, -1, -time.Second, -1 << 63} {
		if _, err := p.l.Acquire(p.ctx, key, ttl); err == nil {
			p.Fatalf("Acquire with a ttl of %v: no error", ttl)
		}
	}
	if _, err := p.l.Acquire(p.ctx, key, long); err != nil {
		p.Errorf("Acquire, after others that were refused: %v", err)
	}
}

func ruleLockerUntil(p *lockerProbe) {
	for _, ttl := range []time.Duration{time.Minute, 10 * time.Hour} {
		key := p.key(ttl.String())
		asked := p.now()
		p.acquire(key, ttl)
		var locked *session.LockedError
		if errors.As(p.try(p.l, key, ttl), &locked) && !locked.Until.IsZero() {
			p.about(locked.Until, asked, ttl, "the error of Acquire")
		}
	}
}

func ruleLockerLeaseHolds(p *lockerProbe) {
	ttl, key := p.brief(), p.key("a")
	// See ruleLeaseHolds.
	over := p.now().Add(ttl - 2*time.Millisecond)
	p.acquire(key, ttl)
	for range 2 {
		if p.free(key) {
			return // rule AcquireLocked reports it
		}
	}
	for p.now().Before(over) {
		free := p.free(key)
		left := over.Sub(p.now())
		if left <= 0 {
			return
		}
		if free {
			p.Fatalf("another got the lock %v before the lease was over", left)
		}
		p.waitWithin(ttl/10, over)
	}
}

func ruleLockerLeaseEnds(p *lockerProbe) {
	key := p.key("a")
	p.acquire(key, p.brief())
	p.wait(p.now().Add(p.brief()))
	if err := p.try(p.l, key, long); err != nil {
		p.Errorf("Acquire when no lease is left: %v", err)
	}
}

func ruleLockerKeys(p *lockerProbe) {
	names := []string{
		"a", "A", "a ", " a", "a.", "a/", "a/b", "a/../b", "b", "a:", "a:lock", "a.lock", "lock", "{a}", "a*", "a?", "a%", "a_", "a[b]", "ab", "a\\b", "a\n", "a\r\n", "\ufeffa", "\ufb01", "fi",
		"\u00e9", "e\u0301", "a\x00", "a\x00b",
	}
	for _, end := range []string{"a", "b"} {
		long := strings.Repeat("x", 512-len(p.prefix)-1) + end
		names = append(names, long, long[:256-len(p.prefix)]+end)
	}
	leases := map[string]session.Lease{}
	for _, name := range names {
		var err error
		if leases[name], err = p.l.Acquire(p.ctx, p.key(name), long); err != nil {
			p.Fatalf("Acquire of a lock whose key ends in %q, with locks at other keys: %v", end(name), err)
		}
	}
	for i, name := range names {
		if i%2 == 0 {
			_ = leases[name].Release(p.ctx)
		}
	}
	for i, name := range names {
		if i%2 == 1 && p.stolen(p.key(name)) {
			p.Fatalf("the lock at the key ending in %q was released with that at another", end(name))
		}
	}
}

func ruleLockerMany(p *lockerProbe) {
	const n = 300
	key := func(i int) string { return p.key(fmt.Sprint("locked ", i)) }
	together(n, func(i int) {
		if _, err := p.l.Acquire(p.ctx, key(i), long); err != nil {
			p.Errorf("Acquire of lock %d of %d: %v", i, n, err)
		}
	})
	if p.Failed() {
		return
	}
	together(n, func(i int) {
		if err := p.try(p.other, key(i), long); err == nil {
			p.Errorf("of %d locks that are held, number %d could be taken", n, i)
		}
	})
}

func ruleLockerClients(p *lockerProbe) {
	for name, c := range map[string]struct{ first, second session.Locker }{
		"a": {p.l, p.other}, "b": {p.other, p.l},
	} {
		key := p.key(name)
		lease, err := c.first.Acquire(p.ctx, key, long)
		if err != nil {
			p.Fatalf("Acquire: %v", err)
		}
		if err := p.try(c.second, key, long); err == nil {
			p.Fatalf("Acquire of a lock that another client has: no error")
		}
		_ = lease.Release(p.ctx)
		if err := p.try(c.second, key, long); err != nil && p.try(c.first, key, long) == nil { // or rule Release reports it
			p.Errorf("Acquire of a lock that another client has released: %v", err)
		}
	}
}

// doneContexts calls f with a context that is done.
func (p *lockerProbe) doneContexts(f func(ctx context.Context, key string) error) {
	for i, ctx := range doneContexts(p.ctx) {
		if err := f(ctx, p.key(fmt.Sprint(i))); !errors.Is(err, ctx.Err()) {
			p.Errorf("with a done context: got error %v, want one that wraps %v", err, ctx.Err())
		}
	}
}

func ruleLockerDoneAcquire(p *lockerProbe) {
	p.doneContexts(func(ctx context.Context, key string) error {
		_, err := p.l.Acquire(ctx, key, long)
		if !p.free(key) {
			p.Error("Acquire with a done context has locked")
		}
		return err
	})
}

func ruleLockerDoneExtend(p *lockerProbe) {
	p.doneContexts(func(ctx context.Context, key string) error {
		err := p.acquire(key, long).Extend(ctx, 5*long)
		var locked *session.LockedError
		if errors.As(p.try(p.l, key, long), &locked) && locked.Until.After(p.now().Add(2*long)) {
			p.Error("Extend with a done context has extended the lease")
		}
		return err
	})
}

func ruleLockerDoneRelease(p *lockerProbe) {
	p.doneContexts(func(ctx context.Context, key string) error {
		err := p.acquire(key, long).Release(ctx)
		if p.stolen(key) {
			p.Error("Release with a done context has unlocked")
		}
		return err
	})
}

func ruleLockerContextEnds(p *lockerProbe) {
	holder := p.acquire(p.key("held"), long)
	p.returnsWhenDone(func(ctx context.Context, key string) []func(i int) error {
		return []func(i int) error{
			func(int) error {
				lease, err := p.l.Acquire(ctx, key, long)
				if err == nil {
					err = errors.Join(lease.Extend(ctx, long), lease.Release(ctx))
				}
				return err
			},
			func(int) error { return holder.Extend(ctx, long) },
		}
	})
}

func ruleLockerFailure(p *lockerProbe) {
	free, held := p.key("free"), p.key("held")
	extended, released := p.acquire(held, long), p.acquire(p.key("released"), long)
	p.failures(func(ctx context.Context) []namedCall {
		return []namedCall{
			{"Acquire", func() error { return second(p.l.Acquire(ctx, free, long)) }},
			{"Acquire of a lock that is held", func() error { return second(p.l.Acquire(ctx, held, long)) }},
			{"Extend", func() error { return extended.Extend(ctx, long) }},
			{"Release", func() error { return released.Release(ctx) }},
		}
	})
}

func ruleLockerHanging(p *lockerProbe) {
	holder := p.acquire(p.key("held"), long)
	calls := func(key string) []func(ctx context.Context) error {
		return []func(ctx context.Context) error{
			func(ctx context.Context) error { return second(p.l.Acquire(ctx, key, long)) },
			func(ctx context.Context) error { return holder.Extend(ctx, long) },
			func(ctx context.Context) error { return holder.Release(ctx) },
		}
	}
	p.hanging(calls(p.key("a")), append(calls(p.key("a")), calls(p.key("b"))...))
}

func ruleLockerGoroutines(p *lockerProbe) {
	p.goroutines(func(ctx context.Context, key string) {
		lease, err := p.l.Acquire(ctx, key, time.Minute)
		if err != nil {
			return
		}
		_, _ = p.l.Acquire(ctx, key, time.Minute)
		_ = lease.Extend(ctx, time.Minute)
		_ = lease.Release(ctx)
	})
}
