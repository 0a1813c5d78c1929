package conformance

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
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

var lockerRules = []lockerRule{
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
	{name: "Extend", run: ruleLeaseExtend, waits: true, quotes: []string{
		"Extend renews the lease for ttl from now.",
	}},
	{name: "ExtendTTL", run: ruleLeaseExtendTTL, quotes: []string{
		"A ttl that is not positive MUST be refused with an error, and change nothing.",
	}},
	{name: "ExtendLost", run: ruleLeaseExtendLost, waits: true, quotes: []string{
		"It MUST fail with ErrConflict if the lock was lost, and MUST NOT take it back.",
	}},
	{name: "ExtendAfterLease", run: ruleLeaseExtendAfter, waits: true, quotes: []string{
		"It MUST fail with ErrConflict if the lock was lost, and MUST NOT take it back.",
	}},
	{name: "Release", run: ruleLeaseRelease, quotes: []string{
		"Release unlocks.",
	}},
	{name: "ReleaseLost", run: ruleLeaseReleaseLost, waits: true, quotes: []string{
		"It MUST be nil if the lock was lost already,",
	}},
	{name: "ReleaseOthers", run: ruleLeaseReleaseOthers, waits: true, quotes: []string{
		"and MUST NOT unlock another holder's.",
	}},
	{name: "Keys", run: ruleLockerKeys, quotes: []string{
		"What Backend says about concurrency, contexts, keys and failures applies to a Locker and its Leases.",
		"Keys are non-empty strings of at most 512 bytes of UTF-8; a backend MUST keep any two of them apart, byte by byte.",
	}},
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
	{name: "Clients", run: ruleLockerClients, quotes: []string{
		"Locker serializes work on a key across processes,",
	}, needs: func(l Locker) bool { return l.Reopen != nil }},
	{name: "RaceAcquire", run: ruleLockerRace, quotes: []string{
		"Of several at once, at most one MUST succeed;",
	}},
	{name: "RaceTakeover", run: ruleLockerRaceTakeover, waits: true, quotes: append(concurrent,
		"and MUST NOT take it back.", "and MUST NOT unlock another holder's.",
	)},
	{name: "RaceLease", run: ruleLockerRaceLease, quotes: append(concurrent,
		"and MUST NOT take it back.",
	)},
	{name: "PairAcquire", run: ruleLockerPairAcquire, alone: true, wide: true, quotes: []string{
		"Of several at once, at most one MUST succeed;",
	}},
	{name: "PairRelease", run: ruleLockerPairRelease, alone: true, wide: true, quotes: append(concurrent,
		"and MUST NOT take it back.", "and MUST NOT unlock another holder's.",
		"The lock MUST be that Lease's alone, whichever client of the store others use.",
	)},
	{name: "ManyLocks", run: ruleLockerMany, wide: true, quotes: []string{
		"Acquire takes the lock called key for ttl.",
		"a backend MUST keep any two of them apart, byte by byte.",
	}},
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
			return // rule AcquireLocked says so
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

// lapsed returns leases at some keys that have run out. They have not if
// leases do not end, of which rule LeaseEnds tells.
func (p *lockerProbe) lapsed(keys ...string) (leases []session.Lease, ok bool) {
	p.Helper()
	for _, key := range append(keys, p.key("lapsed")) {
		leases = append(leases, p.acquire(key, p.brief()))
	}
	p.wait(p.now().Add(p.brief()))
	return leases, p.free(p.key("lapsed"))
}

// taker is who takes over a lock that p.l has lost.
type taker struct {
	who string
	l   session.Locker
}

// takers are the same client, and another one unless the locks of clients do
// not meet, of which rule Clients tells.
func (p *lockerProbe) takers() []taker {
	p.Helper()
	takers := []taker{{"the same client", p.l}}
	key := p.freshKey()
	p.take(p.other, key)
	if p.try(p.l, key, long) != nil {
		takers = append(takers, taker{"another client", p.other})
	}
	return takers
}

// take takes what must be possible to take.
func (p *lockerProbe) take(l session.Locker, key string) session.Lease {
	p.Helper()
	lease, err := l.Acquire(p.ctx, key, long)
	if err != nil {
		p.Fatalf("Acquire: %v", err)
	}
	return lease
}

func ruleLeaseExtend(p *lockerProbe) {
	extended, shortened := p.key("extended"), p.key("shortened")
	for {
		extended += "+"
		asked := p.now()
		lease := p.acquire(extended, p.brief())
		err := lease.Extend(p.ctx, p.brief())
		if err == nil {
			err = lease.Extend(p.ctx, long) // and a second time
		}
		if err == nil {
			break
		}
		if p.now().Sub(asked) < p.brief() || len(extended) > len(p.key("extended"))+5 {
			p.Fatalf("Extend: %v", err)
		} // or it was too late, on a machine that is busy
	}
	if err := p.acquire(shortened, long).Extend(p.ctx, p.brief()); err != nil {
		p.Fatalf("Extend: %v", err)
	}
	if _, ok := p.lapsed(); !ok {
		return
	}
	if p.stolen(extended) {
		p.Fatal("a lease that was extended ended when it would have without that")
	}
	if !p.free(shortened) {
		p.Errorf("Extend with a ttl of %v: the lease is longer", p.brief())
	}
}

func ruleLeaseExtendTTL(p *lockerProbe) {
	key := p.key("a")
	lease := p.acquire(key, long)
	for _, ttl := range []time.Duration{0, -1, -time.Second, -1 << 63} {
		if err := lease.Extend(p.ctx, ttl); err == nil {
			p.Errorf("Extend with a ttl of %v: no error", ttl)
		}
	}
	if p.stolen(key) {
		p.Error("Extend with a ttl that was refused has ended the lease")
	}
}

func ruleLeaseExtendLost(p *lockerProbe) {
	key := p.key("released")
	lease := p.acquire(key, long)
	_ = lease.Release(p.ctx)
	if _, err := p.l.Acquire(p.ctx, key, long); err == nil { // or rule Release says so
		p.lost(lease.Extend(p.ctx, long), "Extend after Release, under another's lock")
		lease = p.acquire(p.key("free"), long)
		_ = lease.Release(p.ctx)
		p.lost(lease.Extend(p.ctx, long), "Extend after Release")
		if !p.free(p.key("free")) {
			p.Error("Extend after Release has locked again")
		}
	}
	lapsed, ok := p.lapsed(p.key("the same client"), p.key("another client"))
	if !ok {
		return
	}
	for i, t := range p.takers() {
		holder := p.take(t.l, p.key(t.who))
		p.lost(lapsed[i].Extend(p.ctx, long), "Extend when "+t.who+" has taken over")
		if err := holder.Extend(p.ctx, long); err != nil {
			p.Errorf("Extend by the holder that took over: %v", err)
		}
	}
}

func ruleLeaseExtendAfter(p *lockerProbe) {
	key := p.key("a")
	lapsed, ok := p.lapsed(key)
	if !ok {
		return
	}
	p.lost(lapsed[0].Extend(p.ctx, long), "Extend after the lease ran out")
	if !p.free(key) {
		p.Error("Extend after the lease ran out has locked again")
	}
}

func ruleLeaseRelease(p *lockerProbe) {
	key := p.key("a")
	for range 3 {
		lease, err := p.l.Acquire(p.ctx, key, long)
		if err != nil {
			p.Fatalf("Acquire after Release: %v", err)
		}
		if err := lease.Release(p.ctx); err != nil {
			p.Errorf("Release: %v", err)
		}
	}
}

func ruleLeaseReleaseLost(p *lockerProbe) {
	lease := p.acquire(p.key("released"), long)
	for _, when := range []string{"", ", a second time"} {
		if err := lease.Release(p.ctx); err != nil && when != "" {
			p.Errorf("Release%s: %v", when, err)
		}
	}
	over, taken := p.key("over"), p.key("taken")
	lapsed, ok := p.lapsed(over, taken)
	if !ok {
		return
	}
	p.acquire(taken, long)
	for i, when := range []string{"after the lease ran out", "when another has taken over"} {
		if err := lapsed[i].Release(p.ctx); err != nil {
			p.Errorf("Release %s: %v", when, err)
		}
	}
}

func ruleLeaseReleaseOthers(p *lockerProbe) {
	takers := p.takers()
	for _, t := range takers {
		released := p.key("released, " + t.who)
		former := p.acquire(released, long)
		_ = former.Release(p.ctx)
		if _, err := t.l.Acquire(p.ctx, released, long); err == nil { // or rule Release says so
			_ = former.Release(p.ctx)
			if p.stolen(released) {
				p.Errorf("a second Release has ended the lock of %s", t.who)
			}
		}
	}
	lapsed, ok := p.lapsed(p.key("the same client"), p.key("another client"))
	if !ok {
		return
	}
	for i, t := range takers {
		p.take(t.l, p.key(t.who))
		_ = lapsed[i].Release(p.ctx)
		if p.stolen(p.key(t.who)) {
			p.Errorf("Release by the former holder has ended the lock of %s", t.who)
		}
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
		if err := p.try(c.second, key, long); err != nil && p.try(c.first, key, long) == nil { // or rule Release says so
			p.Errorf("Acquire of a lock that another client has released: %v", err)
		}
	}
}

// sound tells whether the locker does one thing after another as the races
// need it. If not, other rules say so, and a race would only repeat it.
func (p *lockerProbe) sound() bool {
	if !p.soundly() {
		p.leaveOut("the locker fails already without concurrency")
		return false
	}
	return true
}

func (p *lockerProbe) soundly() bool {
	key := p.key("sound")
	locked := func(l session.Locker) bool { return errors.Is(p.try(l, key, long), session.ErrLocked) }
	a, err := p.l.Acquire(p.ctx, key, long)
	if err != nil || !locked(p.l) || !locked(p.other) || a.Extend(p.ctx, long) != nil || a.Release(p.ctx) != nil {
		return false
	}
	const ttl = 30 * time.Millisecond
	b, err := p.other.Acquire(p.ctx, key, ttl)
	if err != nil {
		return false
	}
	p.wait(p.now().Add(ttl))
	c, err := p.l.Acquire(p.ctx, key, long)
	if err != nil || !errors.Is(b.Extend(p.ctx, long), session.ErrConflict) || b.Release(p.ctx) != nil || a.Release(p.ctx) != nil ||
		!locked(p.l) || !locked(p.other) || c.Release(p.ctx) != nil {
		return false
	}
	d, err := p.other.Acquire(p.ctx, key, long)
	return err == nil && d.Release(p.ctx) == nil && errors.Is(d.Extend(p.ctx, long), session.ErrConflict)
}

// race calls f n times at once, half of them with the other client.
func (p *lockerProbe) race(n int, f func(i int, l session.Locker)) {
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		l := p.l
		if i%2 == 1 {
			l = p.other
		}
		wg.Add(1)
		go func() {
			defer wg.Done()
			<-start
			f(i, l)
		}()
	}
	close(start)
	wg.Wait()
}

func ruleLockerRace(p *lockerProbe) {
	if !p.sound() {
		return
	}
	const rounds, contenders, cycles = 10, 8, 4
	for round := range rounds {
		key := p.key(fmt.Sprint(round))
		var errs [contenders]error
		p.race(contenders, func(i int, l session.Locker) { errs[i] = second(l.Acquire(p.ctx, key, long)) })
		won := -1
		for i, err := range errs {
			switch {
			case err != nil:
				if !errors.Is(err, session.ErrLocked) {
					p.Errorf("acquiring what others acquire as well: got error %v, want ErrLocked", err)
				}
			case won >= 0:
				p.Fatalf("%d and %d both acquired the lock", won, i)
			default:
				won = i
			}
		}
		if won < 0 {
			p.Fatal("nobody acquired a lock that was free")
		}
	}

	key := p.key("again and again")
	progress := newProgress()
	var holders atomic.Int64
	p.race(contenders, func(_ int, l session.Locker) {
		for range cycles {
			lease, err := l.Acquire(p.ctx, key, long)
			for errors.Is(err, session.ErrLocked) && !progress.stuck() {
				time.Sleep(time.Duration(rand.IntN(1000)) * time.Microsecond)
				lease, err = l.Acquire(p.ctx, key, long)
			}
			if err != nil {
				p.Errorf("Acquire: %v", err)
				return
			}
			progress.made()
			if n := holders.Add(1); n > 1 {
				p.Errorf("%d have the lock at the same time", n)
			}
			time.Sleep(time.Duration(rand.IntN(200)) * time.Microsecond)
			holders.Add(-1)
			if err := lease.Release(p.ctx); err != nil {
				p.Errorf("Release of a lock that is held: %v", err)
				return
			}
		}
	})
}

// ruleLockerRaceTakeover has a holder do something just when its lease runs
// out and another takes over.
func ruleLockerRaceTakeover(p *lockerProbe) {
	if !p.sound() {
		return
	}
	key := p.key("extended")
	lease := p.acquire(key, p.brief())
	err := lease.Extend(p.ctx, long)
	p.wait(p.now().Add(p.brief()))
	if err != nil || p.free(key) {
		p.leaveOut("Extend fails already without concurrency")
		return
	}
	const rounds, ttl = 20, 10 * time.Millisecond
	for round := range rounds {
		key := p.key(fmt.Sprint(round))
		former := p.acquire(key, ttl)
		ends := time.Now().Add(ttl)
		extends := round%2 == 1
		var formerErr, holderErr error
		answered := make(chan struct{})
		p.race(2, func(i int, l session.Locker) {
			if i == 0 {
				defer close(answered)
				time.Sleep(time.Until(ends) - rand.N(3*time.Millisecond))
				if extends {
					formerErr = former.Extend(p.ctx, long)
				} else {
					formerErr = former.Release(p.ctx)
				}
				return
			}
			for last := false; ; {
				_, holderErr = l.Acquire(p.ctx, key, long)
				if holderErr == nil || last || !errors.Is(holderErr, session.ErrLocked) {
					return
				}
				select {
				case <-answered:
					last = true
				case <-time.After(200 * time.Microsecond):
				}
			}
		})
		switch {
		case extends && formerErr == nil && holderErr == nil:
			p.Fatal("one has extended its lease, and another has taken the lock over")
		case extends && formerErr != nil:
			p.lost(formerErr, "Extend as the lease runs out")
		}
		if holderErr == nil && p.free(key) {
			p.Fatal("the former holder has ended the lock of one that took over at the same time")
		}
	}
}

// ruleLockerRaceLease has several goroutines use one lease.
func ruleLockerRaceLease(p *lockerProbe) {
	if !p.sound() {
		return
	}
	const rounds, users, tries = 15, 4, 8
	for round := range rounds {
		key := p.key(fmt.Sprint(round))
		lease := p.acquire(key, long)
		extended := make(chan struct{}, users*tries)
		p.race(1+users, func(i int, _ session.Locker) {
			if i == 0 {
				if round%2 == 0 { // or at once
					soon(extended)
				}
				if err := lease.Release(p.ctx); err != nil {
					p.Errorf("Release: %v", err)
				}
				return
			}
			for range tries {
				if lease.Extend(p.ctx, long) != nil {
					return
				}
				extended <- struct{}{}
			}
		})
		if !p.free(key) {
			p.Fatal("Release has returned, and an Extend at the same time has locked again")
		}
	}
}
