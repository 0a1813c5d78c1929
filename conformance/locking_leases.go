package conformance

import (
	"errors"
	"time"

	"github.com/seed-a7bee19b/session"
)

// leaseRules are about leases: their end, the takeover after it, and Extend.
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
	// The lease does not begin before Acquire is called. If others succeed before
	// it is over by our clock, less the rounding to milliseconds, they succeed too
	// early.
	over := p.now().Add(ttl - 2*time.Millisecond)
	p.acquire(key, ttl)
	refused := func() (acquire, save bool) {
		_, err := p.b.Save(p.ctx, key, p.record("2"))
		return p.try(p.l, key, long) != nil, errors.Is(err, session.ErrLocked)
	}
	acquireAtFirst, saveAtFirst := refused() // else rule AcquireLocked or LockedSave reports it
	for p.now().Before(over) {
		acquire, save := refused()
		left := over.Sub(p.now())
		if left <= 0 {
			return
		}
		if acquireAtFirst && !acquire {
			p.Fatalf("Acquire by another, %v before the end of the lease: got no error, want ErrLocked", left)
		}
		if saveAtFirst && !save {
			p.Fatalf("Save by another, %v before the end of the lease: got no ErrLocked, want it", left)
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
		p.Errorf("Load after the end of a lease: got LockedUntil %v from now, want zero or a time that has passed", until.Sub(p.now()))
	}
	if err := p.try(p.l, acquire, long); err != nil {
		p.Errorf("Acquire after the end of another's lease: got error %v, want none", err)
	}
	if _, err := p.b.Save(p.ctx, before, replacing(p.record("2"), versions[1])); err != nil {
		p.Errorf("Save after the end of another's lease, with the version from before the lock: got error %v, want none", err)
	}
	if _, err := p.b.Save(p.ctx, loaded, replacing(p.record("2"), v)); errors.Is(err, session.ErrLocked) {
		p.Errorf("Save after the end of another's lease, with the version that Load returned under the lock: got error %v, want none that is ErrLocked", err)
	}
	if _, err := p.b.Save(p.ctx, create, p.record("2")); errors.Is(err, session.ErrLocked) {
		p.Errorf("Save that creates a record, after the end of another's lease: got error %v, want none that is ErrLocked", err)
	}
}

// byWhom names the client that has a lock and the client that takes it over.
type byWhom struct {
	who           string
	former, other session.LockingBackend
}

func (p *lockingProbe) byWhom() []byWhom {
	return []byWhom{{"a client", p.l, p.l}, {"another client", p.l, p.otherL}, {"a third client", p.otherL, p.l}}
}

// lapsed returns the versions of holders whose leases have run out, and the
// versions from before their locks.
func (p *lockingProbe) lapsed(by []byWhom) (holders, before []session.Version) {
	p.Helper()
	for _, c := range by {
		before = append(before, p.save(p.key(c.who), p.record("1")))
		holder, err := c.former.Acquire(p.ctx, p.key(c.who), p.brief())
		if err != nil {
			p.Fatalf("Acquire of a free record: got error %v, want none", err)
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
		p.afterLoss(c.former, key, former, "of a former lock, while "+c.who+" has the lock")
		p.unchanged(key, before, "a former holder")
		if now := p.load(key).LockedUntil; moved(before.LockedUntil, now) {
			p.Errorf("a former holder moved the end of another's lease from %v to %v, want no change", before.LockedUntil, now)
		}
		if !p.held(key) {
			p.Fatal("a former holder ended another's lock, want it to stay")
		}
		if _, err := c.other.Save(p.ctx, key, replacing(p.record("2"), holder.Version)); err != nil {
			p.Fatalf("Save by the holder that took over: got error %v, want none", err)
		}
		before = p.load(key)
		p.afterLoss(c.former, key, former, "of a former lock, after "+c.who+" saved and unlocked")
		p.unchanged(key, before, "a former holder")
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
			p.Errorf("Current of a ConflictError has the version of a holder, %q, want another", former)
		}
		if _, err := c.other.Save(p.ctx, key, replacing(p.record("2"), versions[i])); err != nil {
			return // rule LeaseEnds reports it
		}
		before := p.load(key)
		p.afterLoss(c.former, key, former, "of a lock that the Save of "+c.who+" ended")
		p.unchanged(key, before, "a former holder")
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
		p.lost(err, "Save by the holder after its lease, when nobody took over")
		p.unchanged(saved, before, "a Save by the holder after its lease that failed")
	} else if _, err := p.b.Save(p.ctx, inTime, replacing(p.record("2"), lock(inTime))); err == nil &&
		string(p.load(inTime).Data) == "2" && string(p.load(saved).Data) != "2" {
		p.Errorf("Load after a Save of Data \"2\" by the holder, after its lease, that succeeded: got Data %q", p.load(saved).Data)
	}

	if err := p.l.Release(p.ctx, released, releaser, time.Time{}); err != nil {
		p.lost(err, "Release after the end of the lease, when nobody took over")
	}
	if got := p.load(released).Data; string(got) != "1" {
		p.Errorf("Release after the end of the lease changed the Data to %q, want \"1\", as it was saved", got)
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
			p.Fatalf("Extend by the holder: got error %v, want none", err)
		} // else a busy machine made it late
	}
	p.save(shortened, p.record("1"))
	if err := p.l.Extend(p.ctx, shortened, p.acquire(shortened, long).Version, brief); err != nil {
		p.Fatalf("Extend by the holder, to an earlier end: got error %v, want none", err)
	}
	p.save(left, p.record("1"))
	p.acquire(left, brief)
	p.wait(p.now().Add(brief))
	if err := p.try(p.l, left, long); err != nil {
		return // rule LeaseEnds reports it
	}
	if !p.held(extended) {
		p.Fatal("a lease that was extended ended at its old time, want it to run for the new ttl")
	}
	if until := p.load(extended).LockedUntil; !until.IsZero() && until.Before(p.now()) {
		p.Errorf("Load under a lease that was extended: got LockedUntil %v ago, want a time to come", p.now().Sub(until))
	}
	if _, err := p.b.Save(p.ctx, extended, replacing(p.record("2"), holder.Version)); err != nil {
		p.Errorf("Save by the holder of a lease that was extended: got error %v, want none", err)
	}
	if err := p.try(p.l, shortened, long); err != nil {
		p.Errorf("Acquire after the end of a lease that Extend shortened: got error %v, want none", err)
	}
}

func ruleExtendTTL(p *lockingProbe) {
	key := p.key("a")
	p.save(key, p.record("1"))
	holder := p.acquire(key, long)
	before := p.load(key).LockedUntil
	for _, ttl := range []time.Duration{0, -1, -time.Second, -1 << 63} {
		if err := p.l.Extend(p.ctx, key, holder.Version, ttl); err == nil {
			p.Errorf("Extend with a ttl of %v: got no error, want one", ttl)
		}
	}
	if after := p.load(key).LockedUntil; moved(before, after) || !p.held(key) {
		p.Errorf("an Extend that was refused for its ttl moved the end of the lease from %v to %v, or ended it; want no change", before, after)
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
		extend(key, v, "for a free record, with "+what)
	}
	p.unlocked(key, "an Extend that has no lock")

	key = p.key("b")
	strangers["the version of the data"] = p.save(key, p.record("1"))
	holder := p.acquire(key, long)
	strangers["the holder's version with a tail"] = holder.Version + "0"
	for what, v := range strangers {
		extend(key, v, "for another's lock, with "+what)
	}
	if _, err := p.b.Save(p.ctx, key, replacing(p.record("2"), holder.Version)); err != nil {
		p.Fatalf("the holder's Save: got error %v, want none", err)
	}
	extend(key, holder.Version, "after the holder's Save")
	extend(p.key("absent"), holder.Version, "at a key without a record")
	if p.alive(p.key("absent")) {
		p.Error("Extend at a key without a record created one, want none")
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
	p.lost(p.l.Extend(p.ctx, key, holder.Version, long), "Extend after the end of the lease")
	if err := p.try(p.l, key, long); err != nil {
		p.Errorf("Acquire after the end of a lease and an Extend that was refused: got error %v, want none", err)
	}
}
