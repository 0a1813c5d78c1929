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

// Locker describes the locker under test. Only New is required.
type Locker struct {
	// New returns a locker. TestLocker calls it once for each rule. Up to 16 of
	// its results are in use at the same time, each with up to 8 calls in
	// flight. All results may use one store: the keys of a rule begin with 16
	// random characters.
	New func(t testing.TB) session.Locker

	// Reopen returns a second client of the store of l, as independent of l as
	// another process would be. Leave it nil if the locks live inside the
	// process; then nothing is tested across clients.
	Reopen func(t testing.TB, l session.Locker) session.Locker

	// Advance moves the clock of l, and that of its results of Reopen, forward
	// by d. The suite then expects that clock to be ahead of time.Now by the sum
	// of all calls, and the clocks of other results of New to be unchanged. Most
	// calls advance a minute. Leave it nil if the clock cannot be moved; then
	// the rules about leases wait, for about a second, all at once.
	Advance func(t testing.TB, l session.Locker, d time.Duration)

	// Fail makes the store of l fail or hang until restore is called. It must
	// not affect the stores of other results of New. Leave it nil if the store
	// cannot be made to fail; then there is no subtest StoreFailure, and
	// failures of the store are not tested.
	Fail func(t testing.TB, l session.Locker) (restore func())
}

// TestLocker tests a locker against the contract of [session.Locker] and
// [session.Lease]. Each rule is a subtest. TestLocker returns when all rules are
// done: after about a second, or sooner with Advance.
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
	needs  func(Locker) bool // the rule applies only if needs is nil or returns true
	waits  bool              // the rule waits for a lease
	alone  bool              // the rule is a race that needs the whole machine
	wide   bool              // the rule looks at many things, so it fails beside others
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

// test runs the rule. A call that takes longer than patience hangs.
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

// A lockerProbe is the locker under test, as the rules use it.
type lockerProbe struct {
	*scene
	l, other session.Locker // two clients of one store; without Reopen they are the same
}

// acquire acquires a lock that is free.
func (p *lockerProbe) acquire(key string, ttl time.Duration) session.Lease {
	p.Helper()
	lease, err := p.l.Acquire(p.ctx, key, ttl)
	if err != nil {
		p.Fatalf("Acquire of a free lock: got error %v, want none", err)
	}
	return lease
}

// try makes an Acquire that may be refused.
func (p *lockerProbe) try(l session.Locker, key string, ttl time.Duration) error {
	ctx, cancel := context.WithTimeout(p.ctx, p.patience)
	defer cancel()
	return second(l.Acquire(ctx, key, ttl))
}

// free reports whether the lock called key can be acquired, and acquires it.
func (p *lockerProbe) free(key string) bool { return p.try(p.l, key, long) == nil }

// stolen reports whether a lock that has to be held can be acquired. If every
// held lock can be, it returns false, since rule AcquireLocked reports that.
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
			p.Errorf("Acquire of a free lock for %v: got lease %v, error %v; want a lease", ttl, lease, err)
		}
	}
}

func ruleLockerLocked(p *lockerProbe) {
	key := p.key("a")
	lease := p.acquire(key, long)
	ctx, cancel := context.WithCancel(p.ctx)
	defer cancel()
	// With so many calls even a short wait in each of them shows.
	ended := p.ends(func() {
		for range 40 {
			if _, err := p.l.Acquire(ctx, key, long); ctx.Err() == nil {
				p.locked(err, "Acquire of a lock that is held")
			}
		}
	})
	if !ended {
		p.Fatalf("40 Acquires of a lock that is held have not returned after %v, want them to fail at once", p.patience)
	}
	if err := lease.Extend(p.ctx, long); err != nil && !p.Failed() {
		p.Errorf("Extend by the holder, after others tried to acquire the lock: got error %v, want none", err)
	}
}

func ruleLockerTTL(p *lockerProbe) {
	key := p.key("a")
	for _, ttl := range []time.Duration{0, -1, -time.Second, -1 << 63} {
		if _, err := p.l.Acquire(p.ctx, key, ttl); err == nil {
			p.Fatalf("Acquire with a ttl of %v: got no error, want one", ttl)
		}
	}
	if _, err := p.l.Acquire(p.ctx, key, long); err != nil {
		p.Errorf("Acquire after others that were refused for their ttl: got error %v, want none", err)
	}
}

func ruleLockerUntil(p *lockerProbe) {
	for _, ttl := range []time.Duration{time.Minute, 10 * time.Hour} {
		key := p.key(ttl.String())
		asked := p.now()
		p.acquire(key, ttl)
		var locked *session.LockedError
		if errors.As(p.try(p.l, key, ttl), &locked) && !locked.Until.IsZero() {
			p.about(locked.Until, asked, ttl, "LockedError.Until of an Acquire")
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
			p.Fatalf("Acquire by another, %v before the end of the lease: got no error, want ErrLocked", left)
		}
		p.waitWithin(ttl/10, over)
	}
}

func ruleLockerLeaseEnds(p *lockerProbe) {
	key := p.key("a")
	p.acquire(key, p.brief())
	p.wait(p.now().Add(p.brief()))
	if err := p.try(p.l, key, long); err != nil {
		p.Errorf("Acquire after the end of another's lease: got error %v, want none", err)
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
			p.Fatalf("Acquire at the key that ends in %q, with locks at other keys: got error %v, want none", end(name), err)
		}
	}
	for i, name := range names {
		if i%2 == 0 {
			_ = leases[name].Release(p.ctx)
		}
	}
	for i, name := range names {
		if i%2 == 1 && p.stolen(p.key(name)) {
			p.Fatalf("a Release at another key ended the lock at the key that ends in %q, want it to stay", end(name))
		}
	}
}

func ruleLockerMany(p *lockerProbe) {
	const n = 300
	key := func(i int) string { return p.key(fmt.Sprint("locked ", i)) }
	together(n, func(i int) {
		if _, err := p.l.Acquire(p.ctx, key(i), long); err != nil {
			p.Errorf("Acquire of lock %d of %d: got error %v, want none", i, n, err)
		}
	})
	if p.Failed() {
		return
	}
	together(n, func(i int) {
		if err := p.try(p.other, key(i), long); err == nil {
			p.Errorf("Acquire of lock %d of %d, all of them held: got no error, want ErrLocked", i, n)
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
			p.Fatalf("Acquire of a free lock: got error %v, want none", err)
		}
		if err := p.try(c.second, key, long); err == nil {
			p.Fatalf("Acquire of a lock that another client holds: got no error, want ErrLocked")
		}
		_ = lease.Release(p.ctx)
		if err := p.try(c.second, key, long); err != nil && p.try(c.first, key, long) == nil { // or rule Release reports it
			p.Errorf("Acquire of a lock that another client has released: got error %v, want none", err)
		}
	}
}

// doneContexts calls f, which makes the named call, with a context that is done.
func (p *lockerProbe) doneContexts(call string, f func(ctx context.Context, key string) error) {
	for i, ctx := range doneContexts(p.ctx) {
		if err := f(ctx, p.key(fmt.Sprint(i))); !errors.Is(err, ctx.Err()) {
			p.Errorf("%s with a context that is done: got error %v, want one that wraps %v", call, err, ctx.Err())
		}
	}
}

func ruleLockerDoneAcquire(p *lockerProbe) {
	p.doneContexts("Acquire", func(ctx context.Context, key string) error {
		_, err := p.l.Acquire(ctx, key, long)
		if !p.free(key) {
			p.Error("an Acquire with a context that is done acquired the lock, want it free")
		}
		return err
	})
}

func ruleLockerDoneExtend(p *lockerProbe) {
	p.doneContexts("Extend", func(ctx context.Context, key string) error {
		err := p.acquire(key, long).Extend(ctx, 5*long)
		var locked *session.LockedError
		if errors.As(p.try(p.l, key, long), &locked) && locked.Until.After(p.now().Add(2*long)) {
			p.Error("an Extend with a context that is done extended the lease, want no change")
		}
		return err
	})
}

func ruleLockerDoneRelease(p *lockerProbe) {
	p.doneContexts("Release", func(ctx context.Context, key string) error {
		err := p.acquire(key, long).Release(ctx)
		if p.stolen(key) {
			p.Error("a Release with a context that is done unlocked, want the lock to stay")
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
