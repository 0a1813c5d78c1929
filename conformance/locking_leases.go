package conformance

import (
	"errors"
	"time"

	"github.com/seed-a7bee19b/session"
)

// leaseRules are about leases: when they end, who takes over then, and Extend.
var leaseRules = []backendRule{
	{name: "LeaseHolds", run: locking(ruleLeaseHolds), waits: true, quotes: []string{
		"A lock has a lease: it holds until the ttl of Acquire or Extend has passed",
	}},
	{name: "LeaseEnds", run: locking(ruleLeaseEnds), waits: true, quotes: []string{
		"zero, or past, if the record is free.",
		"a LockingBackend or Locker MAY round it up to the next millisecond.",
		"After a lease has run out, anybody's Save or Acquire may win,",
	}},
	{name: "TakeoverByAcquire", run: locking(ruleTakeoverByAcquire), waits: true, quotes: takeover},
	{name: "TakeoverBySave", run: locking(ruleTakeoverBySave), waits: true, quotes: takeover},
	{name: "SaveAfterLease", run: locking(ruleSaveAfterLease), waits: true, quotes: []string{
		"As long as nobody did, the former holder's Save MAY succeed.",
	}},
	{name: "Extend", run: locking(ruleExtend), waits: true, quotes: []string{
		"Extend renews the lease: it then runs for ttl from now; v MUST stay valid.",
	}},
	{name: "ExtendTTL", run: locking(ruleExtendTTL), quotes: []string{
		"A ttl that is not positive MUST be refused with an error, and change nothing.",
	}},
	{name: "ExtendLost", run: locking(ruleExtendLost), quotes: []string{
		"It MUST fail with ErrConflict if v is not that of a lock which is still held,",
	}},
	{name: "ExtendAfterLease", run: locking(ruleExtendAfterLease), waits: true, quotes: []string{
		"It MUST fail with ErrConflict if v is not that of a lock which is still held, also if its lease ran out and nobody took over.",
	}},
}

var takeover = []string{
	"and MUST end the lock: the former holder's Save, Extend and Release then fail with ErrConflict.",
}

func ruleLeaseHolds(p *lockingProbe) {
	ttl, key := p.brief(), p.key("a")
	p.save(key, p.record("1"))
	// The lease cannot begin before it is asked for. What the store grants to
	// others before it is over by our clock, it grants too early; less the
	// rounding to milliseconds.
	over := p.now().Add(ttl - 2*time.Millisecond)
	p.acquire(key, ttl)
	refused := func() (acquire, save bool) {
		_, err := p.b.Save(p.ctx, key, p.record("2"))
		return p.try(p.l, key, long) != nil, errors.Is(err, session.ErrLocked)
	}
	acquireAtFirst, saveAtFirst := refused() // or rule AcquireLocked or LockedSave reports it
	for p.now().Before(over) {
		acquire, save := refused()
		left := over.Sub(p.now())
		if left <= 0 {
			return
		}
		if acquireAtFirst && !acquire {
			p.Fatalf("another got the lock %v before the lease was over", left)
		}
		if saveAtFirst && !save {
			p.Fatalf("another's Save was no longer refused %v before the lease was over", left)
		}
		p.waitWithin(ttl/10, over)
	}
}

func ruleLeaseEnds(p *lockingProbe) {
	acquire, before, loaded, create := p.key("acquire"), p.key("before"), p.key("loaded"), p.key("create")
	var versions []session.Version
	for _, key := range []string{acquire, before, loaded, create} {
		versions = append(versions, p.save(key, p.record("1")))
		p.acquire(key, p.brief())
	}
	v := p.load(loaded).Version
	p.wait(p.now().Add(p.brief()))
	if until := p.load(acquire).LockedUntil; until.After(p.now()) { // zero, or past
		p.Errorf("after the lease, LockedUntil is %v from now", until.Sub(p.now()))
	}
	if err := p.try(p.l, acquire, long); err != nil {
		p.Errorf("Acquire after another's lease: %v", err)
	}
	if _, err := p.b.Save(p.ctx, before, replacing(p.record("2"), versions[1])); err != nil {
		p.Errorf("Save after another's lease, with the version from before the lock: %v", err)
	}
	if _, err := p.b.Save(p.ctx, loaded, replacing(p.record("2"), v)); errors.Is(err, session.ErrLocked) {
		p.Errorf("Save after another's lease, with the version that was loaded under the lock: %v", err)
	}
	if _, err := p.b.Save(p.ctx, create, p.record("2")); errors.Is(err, session.ErrLocked) {
		p.Errorf("creating over a record after another's lease: %v", err)
	}
}

// byWhom is who has a lock and who takes it over: the same client, or two.
type byWhom struct {
	who           string
	former, other session.LockingBackend
}

func (p *lockingProbe) byWhom() []byWhom {
	return []byWhom{{"a client", p.l, p.l}, {"another client", p.l, p.otherL}, {"a third client", p.otherL, p.l}}
}

// lapsed returns the versions of holders whose leases have run out, and those
// from before their locks.
func (p *lockingProbe) lapsed(by []byWhom) (holders, before []session.Version) {
	p.Helper()
	for _, c := range by {
		before = append(before, p.save(p.key(c.who), p.record("1")))
		holder, err := c.former.Acquire(p.ctx, p.key(c.who), p.brief())
		if err != nil {
			p.Fatalf("Acquire: %v", err)
		}
		holders = append(holders, holder.Version)
	}
	p.wait(p.now().Add(p.brief()))
	return holders, before
}

func ruleTakeoverByAcquire(p *lockingProbe) {
	by := p.byWhom()
	formers, _ := p.lapsed(by)
	for i, c := range by {
		key, former := p.key(c.who), formers[i]
		holder, err := c.other.Acquire(p.ctx, key, long)
		if err != nil || holder.Version == former {
			return // rule LeaseEnds or HolderVersion reports it
		}
		if err := second(c.former.Save(p.ctx, key, p.record("creating over it"))); !errors.Is(err, session.ErrLocked) {
			return // rule LockedSave or LockClients reports it
		}
		before := p.load(key)
		p.afterLoss(c.former, key, former, "before, while "+c.who+" has the lock")
		p.unchanged(key, before, "the former holder")
		if now := p.load(key).LockedUntil; moved(before.LockedUntil, now) {
			p.Errorf("the former holder has moved the end of another's lease from %v to %v", before.LockedUntil, now)
		}
		if !p.held(key) {
			p.Fatal("the former holder has ended another's lock")
		}
		if _, err := c.other.Save(p.ctx, key, replacing(p.record("2"), holder.Version)); err != nil {
			p.Fatalf("Save by the holder that took over: %v", err)
		}
		before = p.load(key)
		p.afterLoss(c.former, key, former, "before, when "+c.who+" has saved and unlocked")
		p.unchanged(key, before, "the former holder")
	}
}

func ruleTakeoverBySave(p *lockingProbe) {
	by := p.byWhom()
	formers, versions := p.lapsed(by)
	for i, c := range by {
		key, former := p.key(c.who), formers[i]
		var conflict *session.ConflictError
		_, err := p.b.Save(p.ctx, key, p.record("2"))
		if errors.As(err, &conflict) && conflict.Current != nil && conflict.Current.Version == former {
			p.Errorf("a conflict carries the version of a holder, %q", former)
		}
		if _, err := c.other.Save(p.ctx, key, replacing(p.record("2"), versions[i])); err != nil {
			return // rule LeaseEnds reports it
		}
		before := p.load(key)
		p.afterLoss(c.former, key, former, "before, when the Save of "+c.who+" has ended the lock")
		p.unchanged(key, before, "the former holder")
		p.unlocked(key, "a Save that ended a lock")
	}
}

func ruleSaveAfterLease(p *lockingProbe) {
	saved, released, inTime := p.key("saved"), p.key("released"), p.key("in time")
	lock := func(key string) session.Version {
		p.save(key, p.record("1"))
		return p.acquire(key, p.brief()).Version
	}
	saver, releaser := lock(saved), lock(released)
	p.wait(p.now().Add(p.brief()))

	before := p.load(saved)
	_, err := p.b.Save(p.ctx, saved, replacing(p.record("2"), saver))
	if err != nil {
		p.lost(err, "Save after the lease, when nobody took over")
		p.unchanged(saved, before, "a Save after the lease, which failed,")
	} else if _, err := p.b.Save(p.ctx, inTime, replacing(p.record("2"), lock(inTime))); err == nil &&
		string(p.load(inTime).Data) == "2" && string(p.load(saved).Data) != "2" {
		p.Errorf("Save after the lease succeeded; stored is %q", p.load(saved).Data)
	}

	if err := p.l.Release(p.ctx, released, releaser, time.Time{}); err != nil {
		p.lost(err, "Release after the lease, when nobody took over")
	}
	if got := p.load(released).Data; string(got) != "1" {
		p.Errorf("Release after the lease has changed the Data to %q", got)
	}
}

func ruleExtend(p *lockingProbe) {
	extended, shortened, left := p.key("extended"), p.key("shortened"), p.key("left")
	brief := p.brief()
	var holder session.Record
	for {
		extended += "+"
		p.save(extended, p.record("1"))
		asked := p.now()
		holder = p.acquire(extended, brief)
		err := p.l.Extend(p.ctx, extended, holder.Version, long)
		if err == nil {
			break
		}
		if p.now().Sub(asked) < brief || len(extended) > len(p.key("extended"))+5 {
			p.Fatalf("Extend: %v", err)
		} // or it was too late, on a machine that is busy
	}
	p.save(shortened, p.record("1"))
	if err := p.l.Extend(p.ctx, shortened, p.acquire(shortened, long).Version, brief); err != nil {
		p.Fatalf("Extend: %v", err)
	}
	p.save(left, p.record("1"))
	p.acquire(left, brief)
	p.wait(p.now().Add(brief))
	if err := p.try(p.l, left, long); err != nil {
		return // rule LeaseEnds reports it
	}
	if !p.held(extended) {
		p.Fatal("a lease that was extended ended when it would have without that")
	}
	if until := p.load(extended).LockedUntil; !until.IsZero() && until.Before(p.now()) {
		p.Errorf("a lease that was extended is said to have run out %v ago", p.now().Sub(until))
	}
	if _, err := p.b.Save(p.ctx, extended, replacing(p.record("2"), holder.Version)); err != nil {
		p.Errorf("Save by the holder of a lease that was extended: %v", err)
	}
	if err := p.try(p.l, shortened, long); err != nil {
		p.Errorf("Acquire after a lease that was extended to end before: %v", err)
	}
}

func ruleExtendTTL(p *lockingProbe) {
	key := p.key("a")
	p.save(key, p.record("1"))
	holder := p.acquire(key, long)
	before := p.load(key).LockedUntil
	for _, ttl := range []time.Duration{0, -1, -time.Second, -1 << 63} {
		if err := p.l.Extend(p.ctx, key, holder.Version, ttl); err == nil {
			p.Errorf("Extend with a ttl of %v: no error", ttl)
		}
	}
	if after := p.load(key).LockedUntil; moved(before, after) || !p.held(key) {
		p.Errorf("Extend with a ttl that was refused has moved the end of the lease from %v to %v", before, after)
	}
}

func ruleExtendLost(p *lockingProbe) {
	key := p.key("a")
	v := p.save(key, p.record("1"))
	extend := func(key string, v session.Version, doing string) {
		p.Helper()
		p.lost(p.l.Extend(p.ctx, key, v, long), "Extend "+doing)
	}
	strangers := map[string]session.Version{
		"the version of the data": v, "no version": "", "a version made up": "no such version",
	}
	for what, v := range strangers {
		extend(key, v, "of a record that is free, with "+what)
	}
	p.unlocked(key, "Extend without a lock")

	key = p.key("b")
	strangers["the version of the data"] = p.save(key, p.record("1"))
	holder := p.acquire(key, long)
	strangers["the holder's version with a tail"] = holder.Version + "0"
	for what, v := range strangers {
		extend(key, v, "of another's lock, with "+what)
	}
	if _, err := p.b.Save(p.ctx, key, replacing(p.record("2"), holder.Version)); err != nil {
		p.Fatalf("the holder's Save: %v", err)
	}
	extend(key, holder.Version, "after the holder's Save")
	extend(p.key("absent"), holder.Version, "where there is no record")
	if p.alive(p.key("absent")) {
		p.Error("Extend has made a record")
	}

	key = p.key("c")
	p.save(key, p.record("1"))
	holder = p.acquire(key, long)
	former := holder.Version
	if err := p.l.Release(p.ctx, key, former, time.Time{}); err != nil {
		return // rule Release reports it
	}
	holder, err := p.l.Acquire(p.ctx, key, long)
	if err != nil || holder.Version == former {
		return // rule Release or HolderVersion reports it
	}
	extend(key, former, "after Release, under another's lock")
	key = p.key("d")
	p.save(key, p.record("1"))
	holder = p.acquire(key, long)
	if err := p.l.Release(p.ctx, key, holder.Version, time.Time{}); err == nil {
		extend(key, holder.Version, "after Release")
		p.unlocked(key, "Extend after Release")
	}
}

func ruleExtendAfterLease(p *lockingProbe) {
	key, other := p.key("a"), p.key("b")
	p.save(key, p.record("1"))
	p.save(other, p.record("1"))
	holder := p.acquire(key, p.brief())
	p.acquire(other, p.brief())
	p.wait(p.now().Add(p.brief()))
	if err := p.try(p.l, other, long); err != nil {
		return // rule LeaseEnds reports it
	}
	p.lost(p.l.Extend(p.ctx, key, holder.Version, long), "Extend after the lease ran out")
	if err := p.try(p.l, key, long); err != nil {
		p.Errorf("Acquire after the lease ran out and an Extend: %v", err)
	}
}
