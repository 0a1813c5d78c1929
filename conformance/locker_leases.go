package conformance

import (
	"time"

	"github.com/seed-a7bee19b/session"
)

// lockerLeaseRules are about session.Lease.
var lockerLeaseRules = []lockerRule{
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
}

// lapsed returns leases at some keys that have run out. It returns false if they
// have not, which rule LeaseEnds reports.
func (p *lockerProbe) lapsed(keys ...string) (leases []session.Lease, ok bool) {
	p.Helper()
	for _, key := range append(keys, p.key("lapsed")) {
		leases = append(leases, p.acquire(key, p.brief()))
	}
	p.wait(p.now().Add(p.brief()))
	return leases, p.free(p.key("lapsed"))
}

// A taker is a client that takes over a lock.
type taker struct {
	who string
	l   session.Locker
}

// takers returns the client under test and, unless the clients do not see each
// other's locks, the other one. Rule Clients reports that.
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

// take acquires a lock that is free.
func (p *lockerProbe) take(l session.Locker, key string) session.Lease {
	p.Helper()
	lease, err := l.Acquire(p.ctx, key, long)
	if err != nil {
		p.Fatalf("Acquire of a free lock: got error %v, want none", err)
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
			err = lease.Extend(p.ctx, long)
		}
		if err == nil {
			break
		}
		if p.now().Sub(asked) < p.brief() || len(extended) > len(p.key("extended"))+5 {
			p.Fatalf("Extend by the holder, twice: got error %v, want none", err)
		} // else a busy machine made it late
	}
	if err := p.acquire(shortened, long).Extend(p.ctx, p.brief()); err != nil {
		p.Fatalf("Extend by the holder, to an earlier end: got error %v, want none", err)
	}
	if _, ok := p.lapsed(); !ok {
		return
	}
	if p.stolen(extended) {
		p.Fatal("a lease that was extended ended at its old time, want it to run for the new ttl")
	}
	if !p.free(shortened) {
		p.Errorf("Acquire after the end of a lease that Extend shortened to %v: got an error, want none", p.brief())
	}
}

func ruleLeaseExtendTTL(p *lockerProbe) {
	key := p.key("a")
	lease := p.acquire(key, long)
	for _, ttl := range []time.Duration{0, -1, -time.Second, -1 << 63} {
		if err := lease.Extend(p.ctx, ttl); err == nil {
			p.Errorf("Extend with a ttl of %v: got no error, want one", ttl)
		}
	}
	if p.stolen(key) {
		p.Error("an Extend that was refused for its ttl ended the lease, want no change")
	}
}

func ruleLeaseExtendLost(p *lockerProbe) {
	key := p.key("released")
	lease := p.acquire(key, long)
	_ = lease.Release(p.ctx)
	if _, err := p.l.Acquire(p.ctx, key, long); err == nil { // or rule Release reports it
		p.lost(lease.Extend(p.ctx, long), "Extend after Release, under another's lock")
		lease = p.acquire(p.key("free"), long)
		_ = lease.Release(p.ctx)
		p.lost(lease.Extend(p.ctx, long), "Extend after Release")
		if !p.free(p.key("free")) {
			p.Error("an Extend after Release acquired the lock again, want it free")
		}
	}
	lapsed, ok := p.lapsed(p.key("the same client"), p.key("another client"))
	if !ok {
		return
	}
	for i, t := range p.takers() {
		holder := p.take(t.l, p.key(t.who))
		p.lost(lapsed[i].Extend(p.ctx, long), "Extend after "+t.who+" took over")
		if err := holder.Extend(p.ctx, long); err != nil {
			p.Errorf("Extend by the holder that took over, after one by the former holder: got error %v, want none", err)
		}
	}
}

func ruleLeaseExtendAfter(p *lockerProbe) {
	key := p.key("a")
	lapsed, ok := p.lapsed(key)
	if !ok {
		return
	}
	p.lost(lapsed[0].Extend(p.ctx, long), "Extend after the end of the lease")
	if !p.free(key) {
		p.Error("an Extend after the end of the lease acquired the lock again, want it free")
	}
}

func ruleLeaseRelease(p *lockerProbe) {
	key := p.key("a")
	for range 3 {
		lease, err := p.l.Acquire(p.ctx, key, long)
		if err != nil {
			p.Fatalf("Acquire after Release: got error %v, want none", err)
		}
		if err := lease.Release(p.ctx); err != nil {
			p.Errorf("Release of a lock that is held: got error %v, want none", err)
		}
	}
}

func ruleLeaseReleaseLost(p *lockerProbe) {
	lease := p.acquire(p.key("released"), long)
	for _, when := range []string{"", ", a second time"} {
		if err := lease.Release(p.ctx); err != nil && when != "" {
			p.Errorf("Release%s: got error %v, want none", when, err)
		}
	}
	over, taken := p.key("over"), p.key("taken")
	lapsed, ok := p.lapsed(over, taken)
	if !ok {
		return
	}
	p.acquire(taken, long)
	for i, when := range []string{"after the end of the lease", "after another took over"} {
		if err := lapsed[i].Release(p.ctx); err != nil {
			p.Errorf("Release %s: got error %v, want none", when, err)
		}
	}
}

func ruleLeaseReleaseOthers(p *lockerProbe) {
	takers := p.takers()
	for _, t := range takers {
		released := p.key("released, " + t.who)
		former := p.acquire(released, long)
		_ = former.Release(p.ctx)
		if _, err := t.l.Acquire(p.ctx, released, long); err == nil { // or rule Release reports it
			_ = former.Release(p.ctx)
			if p.stolen(released) {
				p.Errorf("a second Release ended the lock of %s, want it to stay", t.who)
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
			p.Errorf("a Release by a former holder ended the lock of %s, want it to stay", t.who)
		}
	}
}
