package conformance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/seed-a7bee19b/session"
)

// wantsLocking is the rule for a backend that has to be a LockingBackend.
var wantsLocking = backendRule{name: "LockingBackend", run: ruleLockingBackend, quotes: []string{
	"LockingBackend is a Backend that locks a record in the request that reads it.",
}}

// lockingRules are the rules of session.LockingBackend, for a backend that is one.
var lockingRules = []backendRule{
	{name: "Acquire", run: locking(ruleAcquire), quotes: []string{
		"Acquire is Load and lock in one step.",
	}},
	{name: "AcquireLocked", run: locking(ruleAcquireLocked), quotes: []string{
		"It MUST NOT wait: while another holder's lock is live it fails with a *LockedError.",
	}},
	{name: "AcquireAbsent", run: locking(ruleAcquireAbsent), quotes: []string{
		"It MUST NOT create: where there is no live record it fails with ErrNotFound.",
	}},
	{name: "AcquireExpired", run: locking(ruleAcquireExpired), waits: true, quotes: []string{
		"It MUST NOT create: where there is no live record it fails with ErrNotFound.",
	}},
	{name: "AcquireTTL", run: locking(ruleAcquireTTL), quotes: []string{
		"A ttl that is not positive MUST be refused with an error.",
	}},
	{name: "AcquiredData", run: locking(ruleAcquiredData), quotes: []string{
		"What Backend demands of every method applies here too.",
		"and what it returns MUST NOT alias what it keeps,",
	}},
	{name: "LockedSave", run: locking(ruleLockedSave), quotes: []string{
		"Save with any Version but the holder's MUST fail with a *LockedError and write nothing.",
	}},
	{name: "LockedSaveWritesNothing", run: locking(ruleLockedSaveWritesNothing), quotes: []string{
		"Save with any Version but the holder's MUST fail with a *LockedError and write nothing.",
	}},
	{name: "LockedLoad", run: locking(ruleLockedLoad), quotes: []string{
		"Load MUST return the record, with LockedUntil set, and a Version that is not the holder's.",
	}},
	{name: "LockedTouch", run: locking(ruleLockedTouch), quotes: []string{
		"Touch and Delete MUST work as on a free record.",
	}},
	{name: "LockedDelete", run: locking(ruleLockedDelete), quotes: []string{
		"Touch and Delete MUST work as on a free record. A deleted record's lock is gone with it:",
	}},
	{name: "LockedExpired", run: locking(ruleLockedExpired), waits: true, quotes: []string{
		"A replacing Save MUST NOT create: where the record was deleted, or its Expires has passed,",
		"it is dead at once, and for ever.",
	}},
	{name: "LockedUntil", run: locking(ruleLockedUntil), quotes: []string{
		"LockedUntil is when the lease of the record's lock runs out;",
		"it holds until the ttl of Acquire or Extend has passed",
	}},
	{name: "LockedUntilIgnored", run: locking(ruleLockedUntilIgnored), quotes: []string{
		"Set by a backend that is a LockingBackend, ignored by Save.",
	}},
	{name: "LockKeys", run: locking(ruleLockKeys), quotes: []string{
		"a backend MUST keep any two of them apart, byte by byte.",
	}},
	{name: "LockLarge", run: locking(ruleLockLarge), quotes: []string{
		"Acquire is Load and lock in one step.",
	}},
	{name: "LockClients", run: locking(ruleLockClients), quotes: []string{
		"The Version that Acquire returns is the holder's alone,",
		"its effect MUST be linearizable per key and durable, as far as the store is, when it returns:",
	}, needs: func(b Backend) bool { return b.Reopen != nil }},
	{name: "HolderSave", run: locking(ruleHolderSave), quotes: []string{
		"The holder's Save MUST write and unlock.",
	}},
	{name: "HolderAfterDelete", run: locking(ruleHolderAfterDelete), quotes: []string{
		"A deleted record's lock is gone with it: the holder's Save MUST then fail with ErrConflict.",
	}},
	{name: "HolderVersion", run: locking(ruleHolderVersion), quotes: []string{
		"The Version that Acquire returns is the holder's alone, whichever client of the store others use,",
	}},
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
	{name: "Release", run: locking(ruleRelease), quotes: []string{
		"Release unlocks without writing data.",
		"A lock that is released may be acquired at once, and the version of the data is what it was before Acquire.",
	}},
	{name: "ReleaseExpires", run: locking(ruleReleaseExpires), quotes: []string{
		"A non-zero expires is moved as by Touch, in the same request.",
	}},
	{name: "ReleaseLost", run: locking(ruleReleaseLost), quotes: []string{
		"It MUST fail with ErrConflict if v is not that of a lock which is still there, and MUST NOT unlock another's.",
	}},
	{name: "DoneContextAcquire", run: locking(ruleDoneContextAcquire), quotes: doneContext},
	{name: "DoneContextExtend", run: locking(ruleDoneContextExtend), quotes: doneContext},
	{name: "DoneContextRelease", run: locking(ruleDoneContextRelease), quotes: doneContext},
	{name: "ContextEndsLease", run: locking(ruleContextEndsLease), own: true, quotes: []string{
		"What Backend demands of every method applies here too.",
		"Once ctx is done it MUST return promptly,",
	}},
	{name: "StoreFailureLease", run: locking(ruleStoreFailureLease), quotes: []string{
		"What Backend demands of every method applies here too.",
		"A failure of the store MUST be returned as an error that is none of the sentinels of this package;",
	}, needs: canFail, own: true},
	{name: "RaceAcquire", run: locking(ruleRaceAcquire), quotes: []string{
		"Of several at once, at most one MUST succeed.",
	}},
	{name: "RaceLock", run: locking(ruleRaceLock), quotes: append(concurrent,
		"the former holder's Save, Extend and Release then fail with ErrConflict.",
	)},
	{name: "RaceLockedSave", run: locking(ruleRaceLockedSave), quotes: append(concurrent,
		"Save with any Version but the holder's MUST fail with a *LockedError and write nothing.",
	)},
	{name: "RaceTakeover", run: locking(ruleRaceTakeover), waits: true, quotes: append(concurrent,
		"and MUST NOT unlock another's.",
	)},
	{name: "RaceLockTouch", run: locking(ruleRaceLockTouch), quotes: append(concurrent,
		"Touch and Delete MUST work as on a free record.",
	)},
	{name: "RaceLockDelete", run: locking(ruleRaceLockDelete), quotes: append(concurrent,
		"Touch and Delete MUST work as on a free record. A deleted record's lock is gone with it:",
	)},
}

var takeover = []string{
	"and MUST end the lock: the former holder's Save, Extend and Release then fail with ErrConflict.",
}

// lockingProbe is what a rule about a LockingBackend works with: the two clients of
// probe, once more.
type lockingProbe struct {
	*probe
	l, otherL session.LockingBackend
}

func locking(run func(*lockingProbe)) func(*probe) {
	return func(p *probe) {
		p.Helper()
		if _, ok := p.raw.b.(session.LockingBackend); !ok {
			p.Fatalf("New returned a %T that is no session.LockingBackend, and one that is before", p.raw.b)
		}
		if _, ok := p.raw.other.(session.LockingBackend); !ok {
			p.Fatalf("Reopen returned a %T that is no session.LockingBackend, of a %T that is", p.raw.other, p.raw.b)
		}
		run(&lockingProbe{p, p.b.(session.LockingBackend), p.other.(session.LockingBackend)})
	}
}

// long is a lease that no rule waits for.
const long = 2 * time.Hour

// brief is a lease that rules can afford to wait for. It is no whole seconds.
func (s *scene) brief() time.Duration {
	if s.advance != nil {
		return time.Minute + 300*time.Millisecond
	}
	return 1300 * time.Millisecond
}

// locked complains unless err is a *session.LockedError.
func (s *scene) locked(err error, doing string) {
	s.Helper()
	var locked *session.LockedError
	if !errors.As(err, &locked) {
		s.Errorf("%s: got error %v, want a *session.LockedError", doing, err)
	}
}

// lost complains unless err tells a holder that it has lost its lock.
func (s *scene) lost(err error, doing string) {
	s.Helper()
	if !errors.Is(err, session.ErrConflict) || errors.Is(err, session.ErrLocked) {
		s.Errorf("%s: got error %v, want ErrConflict", doing, err)
	}
}

// about complains if until is not ttl after a moment since asked.
func (s *scene) about(until, asked time.Time, ttl time.Duration, what string) {
	s.Helper()
	const slack = 2 * time.Second
	if until.Before(asked.Add(ttl-slack)) || until.After(s.now().Add(ttl+slack)) {
		s.Errorf("%s: the lease is said to run out in %v, its ttl was %v", what, until.Sub(s.now()), ttl)
	}
}

// acquire locks what must be possible to lock.
func (p *lockingProbe) acquire(key string, ttl time.Duration) session.Record {
	p.Helper()
	rec, err := p.l.Acquire(p.ctx, key, ttl)
	if err != nil {
		p.Fatalf("Acquire: %v", err)
	}
	return rec
}

// try is an Acquire that may be refused.
func (p *lockingProbe) try(l session.LockingBackend, key string, ttl time.Duration) error {
	ctx, cancel := context.WithTimeout(p.ctx, p.patience)
	defer cancel()
	return second(l.Acquire(ctx, key, ttl))
}

// held tells whether the record at key is locked. If not, it may be afterwards.
// One of two signs is enough, so that a backend that fails to give one of them
// fails the rule about it and no other.
func (p *lockingProbe) held(key string) bool {
	p.Helper()
	if _, err := p.b.Save(p.ctx, key, p.record("creating over it")); errors.Is(err, session.ErrLocked) {
		return true
	}
	err := p.try(p.l, key, long)
	if errors.Is(err, session.ErrNotFound) {
		p.Fatalf("Acquire: %v", err)
	}
	return err != nil
}

// unlocked complains unless the record at key can be locked at once.
func (p *lockingProbe) unlocked(key, after string) {
	p.Helper()
	rec, err := p.b.Load(p.ctx, key)
	if err != nil {
		p.Errorf("Load after %s: %v", after, err)
		return
	}
	if rec.LockedUntil.After(p.now()) {
		p.Errorf("after %s: LockedUntil is %v from now", after, rec.LockedUntil.Sub(p.now()))
	}
	if _, err := p.l.Acquire(p.ctx, key, long); err != nil {
		p.Errorf("Acquire after %s: %v", after, err)
	}
}

// moved tells whether somebody has changed a lease, for hours. The store may
// only know how much of it is left.
func moved(before, after time.Time) bool { return after.Sub(before).Abs() > time.Minute }

func sameContent(a, b session.Record) bool {
	return string(a.Data) == string(b.Data) && a.Created.Equal(b.Created) && a.Expires.Equal(b.Expires)
}

func ruleLockingBackend(p *probe) {
	if _, ok := p.raw.b.(session.LockingBackend); !ok {
		p.Errorf("WantsLocking is set, and %T is no session.LockingBackend", p.raw.b)
	}
}

func ruleAcquire(p *lockingProbe) {
	for _, data := range []string{"", "1", strings.Repeat("x", p.large()/2)} {
		key := p.key(fmt.Sprint(len(data)))
		p.save(key, p.record(data))
		before := p.load(key)
		if rec := p.acquire(key, long); !sameContent(rec, before) {
			p.Errorf("Acquire returned %s, stored is %s", describe(rec), describe(before))
		}
	}
}

func ruleAcquireLocked(p *lockingProbe) {
	key := p.key("a")
	p.save(key, p.record("1"))
	holder := p.acquire(key, long)
	ctx, cancel := context.WithCancel(p.ctx)
	defer cancel()
	// So many calls that even a short wait in each of them shows.
	ended := p.ends(func() {
		for range 40 {
			if _, err := p.l.Acquire(ctx, key, long); ctx.Err() == nil {
				p.locked(err, "Acquire of a record that is locked")
			}
		}
	})
	if !ended {
		p.Fatalf("40 calls of Acquire for a record that is locked have not returned after %v", p.patience)
	}
	if _, err := p.b.Save(p.ctx, key, replacing(p.record("2"), holder.Version)); err != nil && !p.Failed() {
		p.Errorf("the holder's Save, after others have tried to acquire: %v", err)
	}
}

func ruleAcquireAbsent(p *lockingProbe) {
	p.acquireCreatesNothing("absent", p.key("absent"), "")
	p.kill(true, false, p.acquireCreatesNothing)
}

func ruleAcquireExpired(p *lockingProbe) { p.kill(false, true, p.acquireCreatesNothing) }

func (p *lockingProbe) acquireCreatesNothing(how, key string, _ session.Version) {
	if _, err := p.l.Acquire(p.ctx, key, long); !errors.Is(err, session.ErrNotFound) {
		p.Errorf("Acquire of a record that was %s: got error %v, want ErrNotFound", how, err)
	}
	if p.alive(key) {
		p.Errorf("Acquire of a record that was %s made one", how)
	}
	if _, err := p.b.Save(p.ctx, key, p.record("new")); errors.Is(err, session.ErrLocked) {
		p.Errorf("Acquire of a record that was %s locked what is not there", how)
	}
}

func ruleAcquireTTL(p *lockingProbe) {
	key := p.key("a")
	p.save(key, p.record("1"))
	for _, ttl := range []time.Duration{0, -1, -time.Second, -1 << 63} {
		if _, err := p.l.Acquire(p.ctx, key, ttl); err == nil {
			p.Fatalf("Acquire with a ttl of %v: no error", ttl)
		}
	}
	// It was refused, and the shortest that is positive is not.
	if _, err := p.l.Acquire(p.ctx, key, 1); err != nil {
		p.Errorf("Acquire with a ttl of 1ns, after others that were refused: %v", err)
	}
}

func ruleAcquiredData(p *lockingProbe) {
	key := p.key("a")
	p.save(key, p.record("1234"))
	data := p.acquire(key, long).Data
	clear(data[:cap(data)])
	if got := p.load(key).Data; string(got) != "1234" {
		p.Errorf("the caller changed the Data that Acquire returned; Load returned %q, want 1234", got)
	}
}

func ruleLockedSave(p *lockingProbe) {
	key := p.key("a")
	first := p.save(key, p.record("1"))
	second := p.save(key, replacing(p.record("2"), first))
	holder := p.acquire(key, long)
	for _, c := range []struct {
		what string
		v    session.Version
	}{
		{"creating", ""},
		{"replacing a version before", first},
		{"replacing the version from before the lock", second},
		{"replacing the version that Load returns", p.load(key).Version},
	} {
		if c.v != holder.Version {
			_, err := p.b.Save(p.ctx, key, replacing(p.record("3"), c.v))
			p.locked(err, c.what+" under another's lock")
		}
	}
}

func ruleLockedSaveWritesNothing(p *lockingProbe) {
	key := p.key("a")
	first := p.save(key, p.record("1"))
	second := p.save(key, replacing(p.record("2"), first))
	holder := p.acquire(key, long)
	before := p.load(key)
	late := p.later().Add(time.Hour)
	for _, v := range []session.Version{
		"", first, second, "no such version", holder.Version + "0", holder.Version[:len(holder.Version)-1],
	} {
		rec := session.Record{Data: []byte("3"), Created: late, Expires: late, Version: v}
		_, err := p.b.Save(p.ctx, key, rec)
		if err == nil && (v == "" || v == second) {
			return // rule LockedSave says so
		} else if err == nil {
			p.Fatalf("a Save of version %q under another's lock: no error", v)
		}
		p.unchanged(key, before, fmt.Sprintf("a Save of version %q under another's lock (%v)", v, err))
	}
	if !p.held(key) {
		p.Error("a Save under another's lock has ended the lock")
	}
}

func ruleLockedLoad(p *lockingProbe) {
	key := p.key("a")
	p.save(key, p.record("1"))
	before := p.load(key)
	holder := p.acquire(key, long)
	rec, err := p.b.Load(p.ctx, key)
	if err != nil {
		p.Fatalf("Load of a record that is locked: %v", err)
	}
	if !sameContent(rec, before) {
		p.Errorf("Load of a record that is locked: %s, stored was %s", describe(rec), describe(before))
	}
	if rec.Version == holder.Version {
		p.Errorf("Load returns the holder's version, %q", rec.Version)
	}
	if !rec.LockedUntil.After(p.now()) {
		p.Errorf("Load of a record that is locked: LockedUntil is %v", rec.LockedUntil)
	}
}

func ruleLockedTouch(p *lockingProbe) {
	key := p.key("a")
	p.save(key, p.record("1"))
	before := p.load(key)
	holder := p.acquire(key, long)
	expires := before.Expires.Add(time.Hour)
	for _, e := range []time.Time{expires, expires.Add(-time.Hour), {}} {
		if err := p.b.Touch(p.ctx, key, e); err != nil {
			p.Errorf("Touch of a record that is locked: %v", err)
		}
	}
	after := p.load(key)
	p.roundedUp("touched while it was locked", after.Expires, expires)
	after.Expires = before.Expires
	if !sameContent(after, before) {
		p.Errorf("Touch of a record that is locked changed %s to %s", describe(before), describe(after))
	}
	if !p.held(key) {
		p.Fatal("Touch has ended the lock")
	}
	if _, err := p.b.Save(p.ctx, key, replacing(p.record("2"), holder.Version)); err != nil {
		p.Errorf("the holder's Save after a Touch: %v", err)
	}
}

func ruleLockedDelete(p *lockingProbe) {
	key := p.key("a")
	p.save(key, p.record("1"))
	p.acquire(key, long)
	if err := p.b.Delete(p.ctx, key); err != nil {
		p.Errorf("Delete of a record that is locked: %v", err)
	}
	if p.alive(key) {
		p.Fatal("there is a record after Delete")
	}
	if _, err := p.b.Save(p.ctx, key, p.record("new")); err != nil {
		p.Errorf("creating a record where one was deleted while it was locked: %v", err)
		return
	}
	p.unlocked(key, "creating a record where one was deleted while it was locked")
}

func ruleLockedExpired(p *lockingProbe) {
	var holder session.Record
	suffix, soon := p.inTime(func(suffix string, soon time.Time) (err error) {
		p.save(p.key(suffix), expiring(p.record("1"), soon))
		holder, err = p.l.Acquire(p.ctx, p.key(suffix), 12*time.Hour)
		return err
	})
	key := p.key(suffix)
	p.wait(soon)
	if p.alive(key) {
		p.Fatal("a lock keeps a record beyond its Expires")
	}
	p.afterLoss(p.l, key, holder.Version, "of a record that expired under its lock")
	if p.alive(key) {
		p.Fatal("the holder has revived a record that expired under its lock")
	}
	if _, err := p.b.Save(p.ctx, key, p.record("new")); err != nil {
		p.Errorf("creating a record where one expired under its lock: %v", err)
		return
	}
	p.unlocked(key, "creating a record where one expired under its lock")
}

// afterLoss complains unless all that a holder can do says that its lock is
// lost.
func (p *lockingProbe) afterLoss(l session.LockingBackend, key string, v session.Version, whose string) {
	p.Helper()
	_, err := l.Save(p.ctx, key, replacing(p.record("by the former holder"), v))
	p.lost(err, "Save by the holder "+whose)
	p.lost(l.Extend(p.ctx, key, v, 2*long), "Extend by the holder "+whose)
	p.lost(l.Release(p.ctx, key, v, p.later().Add(time.Hour)), "Release by the holder "+whose)
}

func ruleLockedUntil(p *lockingProbe) {
	for _, ttl := range []time.Duration{time.Minute, 10 * time.Hour} {
		key := p.key(ttl.String())
		p.save(key, p.record("1"))
		asked := p.now()
		p.about(p.acquire(key, ttl).LockedUntil, asked, ttl, "Acquire")
		for what, err := range map[string]error{
			"the error of Save":    second(p.b.Save(p.ctx, key, p.record("2"))),
			"the error of Acquire": p.try(p.l, key, ttl),
		} {
			var locked *session.LockedError
			if errors.As(err, &locked) && !locked.Until.IsZero() {
				p.about(locked.Until, asked, ttl, what)
			}
		}
		if until := p.load(key).LockedUntil; !until.IsZero() { // or rule LockedLoad says so
			p.about(until, asked, ttl, "Load")
		}
	}
}

func second[T any](_ T, err error) error { return err }

func ruleLockedUntilIgnored(p *lockingProbe) {
	key := p.key("a")
	rec := p.record("1")
	rec.LockedUntil = p.now().Add(long)
	rec.Version = p.save(key, rec)
	p.save(key, rec)
	p.unlocked(key, "a Save of a record with LockedUntil")
}

func ruleLockKeys(p *lockingProbe) {
	names := []string{
		"a", "A", "a ", "a.", "a/", "a:", "a:lock", "a.lock", "a/lock", "a#lock", "lock", "lock:", "{a}", "{a}:lock",
		"a*", "a%", "a?", "\u00e9", "e\u0301", "a\x00", "a\x00lock",
	}
	for _, end := range []string{"a", "b"} {
		long := strings.Repeat("x", 512-len(p.prefix)-1) + end
		names = append(names, long, long[:256-len(p.prefix)]+end)
	}
	type item struct {
		name, key string
		v         session.Version
		holder    session.Record
	}
	var items []item
	for _, name := range names {
		key := p.key(name)
		v, err := p.b.Save(p.ctx, key, p.record(name))
		if err != nil {
			return // rule Keys says so
		}
		items = append(items, item{key: key, v: v, name: name})
	}
	lock := func(i *item) {
		p.Helper()
		var err error
		if i.holder, err = p.l.Acquire(p.ctx, i.key, long); err != nil {
			p.Fatalf("Acquire at the key ending in %q, with locks at other keys: %v", end(i.name), err)
		}
	}
	for i := 0; i < len(items); i += 2 {
		lock(&items[i])
	}
	for i := 1; i < len(items); i += 2 {
		if _, err := p.b.Save(p.ctx, items[i].key, replacing(p.record(items[i].name), items[i].v)); err != nil {
			p.Fatalf("Save at the key ending in %q with locks at other keys: %v", end(items[i].name), err)
		}
		lock(&items[i])
	}
	for i := 0; i < len(items); i += 2 {
		if err := p.l.Release(p.ctx, items[i].key, items[i].holder.Version, time.Time{}); err != nil {
			p.Fatalf("Release at the key ending in %q: %v", end(items[i].name), err)
		}
	}
	for i := 1; i < len(items); i += 2 {
		if !p.held(items[i].key) {
			p.Fatalf("the lock at the key ending in %q was released with that at another", end(items[i].name))
		}
	}
}

func ruleLockLarge(p *lockingProbe) {
	key := p.key("")
	key += strings.Repeat("x", 512-len(key))
	data := bytes.Repeat([]byte("x"), p.large())
	rec := p.record("")
	rec.Data = data
	p.save(key, rec)
	holder, err := p.l.Acquire(p.ctx, key, long)
	if err != nil {
		p.Fatalf("Acquire of a record with %d bytes: %v", len(data), err)
	}
	if err := p.l.Extend(p.ctx, key, holder.Version, long); err != nil {
		p.Errorf("Extend for a record with %d bytes: %v", len(data), err)
	}
	if _, err := p.b.Save(p.ctx, key, replacing(rec, holder.Version)); err != nil {
		p.Errorf("the holder's Save of %d bytes: %v", len(data), err)
	}
	if holder, err = p.l.Acquire(p.ctx, key, long); err != nil {
		return // rule HolderSave says so
	}
	if err := p.l.Release(p.ctx, key, holder.Version, p.later().Add(time.Hour)); err != nil {
		p.Errorf("Release of a record with %d bytes: %v", len(data), err)
	}
}

// ruleLockClients is about two clients taking turns. Nothing is concurrent here.
func ruleLockClients(p *lockingProbe) {
	for name, c := range map[string]struct{ first, second session.LockingBackend }{
		"a": {p.l, p.otherL}, "b": {p.otherL, p.l},
	} {
		lock := func(key string) (session.Version, session.Record) {
			v := p.save(key, p.record("1"))
			holder, err := c.first.Acquire(p.ctx, key, long)
			if err != nil {
				p.Fatalf("Acquire: %v", err)
			}
			return v, holder
		}
		key := p.key(name + "acquire")
		lock(key)
		if err := p.try(c.second, key, long); err == nil {
			p.Fatal("Acquire of a record that another client has locked: no error")
		}
		refused := func(l session.LockingBackend, who string) bool {
			key := p.key(name + "save" + who)
			v, _ := lock(key)
			_, err := l.Save(p.ctx, key, replacing(p.record("2"), v))
			return errors.Is(err, session.ErrLocked)
		}
		if refused(c.first, "first") && !refused(c.second, "second") { // or rule LockedSave says so
			p.Fatal("Save under the lock of another client is not refused")
		}
		key = p.key(name)
		_, holder := lock(key)
		// Nothing but the Version makes a holder: a process may have several
		// clients.
		if err := c.second.Extend(p.ctx, key, holder.Version, long); err != nil {
			p.Errorf("Extend of a lock that another client has acquired: %v", err)
		}
		if err := c.second.Release(p.ctx, key, holder.Version, time.Time{}); err != nil {
			p.Errorf("Release of a lock that another client has acquired: %v", err)
		}
		var err error
		if holder, err = c.first.Acquire(p.ctx, key, long); err != nil {
			return // rule Release says so, or what is above
		}
		if _, err := c.second.Save(p.ctx, key, replacing(p.record("3"), holder.Version)); err != nil {
			p.Errorf("Save with the holder's version that another client has acquired: %v", err)
		}
	}
}

func ruleHolderSave(p *lockingProbe) {
	key := p.key("a")
	before := p.save(key, p.record("1"))
	holder := p.acquire(key, long)
	expires := p.later().Add(time.Hour)
	v, err := p.b.Save(p.ctx, key, replacing(expiring(p.record("2"), expires), holder.Version))
	if err != nil {
		p.Fatalf("the holder's Save: %v", err)
	}
	rec := p.load(key)
	if string(rec.Data) != "2" || rec.Version != v {
		p.Errorf("the holder saved 2 and got version %q; stored is %q with version %q", v, rec.Data, rec.Version)
	}
	p.roundedUp("saved by the holder", rec.Expires, expires)
	if v == before || v == holder.Version {
		p.Errorf("the holder's Save returned version %q, which the key has had", v)
	}
	if _, err := p.b.Save(p.ctx, key, replacing(p.record("3"), holder.Version)); !errors.Is(err, session.ErrConflict) {
		p.Errorf("a second Save with the holder's version: got error %v, want ErrConflict", err)
	}
	p.unlocked(key, "the holder's Save")
}

func ruleHolderAfterDelete(p *lockingProbe) {
	key := p.key("a")
	p.save(key, p.record("1"))
	holder := p.acquire(key, long)
	if err := p.b.Delete(p.ctx, key); err != nil || p.alive(key) {
		return // rule LockedDelete says so
	}
	p.afterLoss(p.l, key, holder.Version, "of a record that was deleted")
	if p.alive(key) {
		p.Fatal("the holder has brought back a record that was deleted")
	}
	if _, err := p.b.Save(p.ctx, key, p.record("new")); err != nil {
		return // as above
	}
	before := p.load(key)
	p.afterLoss(p.l, key, holder.Version, "of a record that was deleted and created anew")
	p.unchanged(key, before, "the holder of the record before it")
}

func ruleHolderVersion(p *lockingProbe) {
	key := p.key("a")
	v := p.save(key, p.record("1"))
	seen := map[session.Version]bool{"": true, v: true}
	isNew := func(v session.Version, of string) {
		p.Helper()
		if seen[v] {
			p.Fatalf("the version %q of %s is one that the key has had", v, of)
		}
		seen[v] = true
	}
	for life := range 3 {
		for range 3 {
			for i := range 4 {
				holder, err := []session.LockingBackend{p.l, p.otherL}[i%2].Acquire(p.ctx, key, long)
				if err != nil {
					return // rule Release or HolderSave says so
				}
				isNew(holder.Version, "a holder")
				if err := p.l.Release(p.ctx, key, holder.Version, time.Time{}); err != nil {
					return // rule Release says so
				}
			}
			holder, err := p.l.Acquire(p.ctx, key, long)
			if err != nil {
				return // as above
			}
			isNew(holder.Version, "a holder")
			if v, err = p.b.Save(p.ctx, key, replacing(p.record("1"), holder.Version)); err != nil || v == holder.Version {
				return // rule HolderSave says so
			}
			isNew(v, "a holder's Save")
		}
		if err := p.b.Delete(p.ctx, key); err != nil {
			return // rule Delete says so
		}
		var err error
		if v, err = p.b.Save(p.ctx, key, p.record(fmt.Sprint(life))); err != nil {
			return // as above
		}
		isNew(v, "a Save after Delete")
	}
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
	acquireAtFirst, saveAtFirst := refused() // or rule AcquireLocked or LockedSave says so
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
			return // rule LeaseEnds or HolderVersion says so
		}
		if err := second(c.former.Save(p.ctx, key, p.record("creating over it"))); !errors.Is(err, session.ErrLocked) {
			return // rule LockedSave or LockClients says so
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
			return // rule LeaseEnds says so
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
		return // rule LeaseEnds says so
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
		return // rule Release says so
	}
	holder, err := p.l.Acquire(p.ctx, key, long)
	if err != nil || holder.Version == former {
		return // rule Release or HolderVersion says so
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
		return // rule LeaseEnds says so
	}
	p.lost(p.l.Extend(p.ctx, key, holder.Version, long), "Extend after the lease ran out")
	if err := p.try(p.l, key, long); err != nil {
		p.Errorf("Acquire after the lease ran out and an Extend: %v", err)
	}
}

func ruleRelease(p *lockingProbe) {
	for _, how := range []string{"the version from before the lock", "a version loaded under the lock"} {
		key := p.key(how)
		v := p.save(key, p.record("1"))
		before := p.load(key)
		holder := p.acquire(key, long)
		if loaded := p.load(key).Version; strings.Contains(how, "loaded") && loaded != holder.Version {
			v = loaded
		}
		if err := p.l.Release(p.ctx, key, holder.Version, time.Time{}); err != nil {
			p.Fatalf("Release: %v", err)
		}
		after := p.load(key)
		if string(after.Data) != "1" || after.Version != before.Version {
			p.Errorf("Release changed the record from %s to %s", describe(before), describe(after))
		}
		if after.LockedUntil.After(p.now()) {
			p.Error("after Release, LockedUntil is in the future")
		}
		if _, err := p.b.Save(p.ctx, key, replacing(p.record("2"), v)); err != nil {
			p.Errorf("Save after Release, with %s: %v", how, err)
		}
	}
	key := p.key("at once")
	p.save(key, p.record("1"))
	for range 3 {
		holder, err := p.l.Acquire(p.ctx, key, long)
		if err != nil {
			p.Fatalf("Acquire after Release: %v", err)
		}
		if err := p.l.Release(p.ctx, key, holder.Version, time.Time{}); err != nil {
			p.Fatalf("Release: %v", err)
		}
	}
}

func ruleReleaseExpires(p *lockingProbe) {
	stored := p.later()
	for _, c := range []struct {
		what          string
		expires, want time.Time
	}{
		{"a later Expires", stored.Add(time.Hour), stored.Add(time.Hour)},
		{"a later Expires, in part of a second", stored.Add(time.Hour + time.Millisecond), stored.Add(time.Hour + time.Millisecond)},
		{"an earlier Expires", stored.Add(-time.Hour), stored},
		{"a past Expires", p.now().Add(-time.Hour), stored},
		{"a zero Expires", time.Time{}, stored},
	} {
		key := p.key(c.what)
		p.save(key, expiring(p.record("1"), stored))
		before := p.load(key)
		holder := p.acquire(key, long)
		if err := p.l.Release(p.ctx, key, holder.Version, c.expires); err != nil {
			p.Errorf("Release with %s: %v", c.what, err)
			continue
		}
		after := p.load(key)
		p.roundedUp("Release with "+c.what, after.Expires, c.want)
		after.Expires = before.Expires
		if !sameContent(after, before) {
			p.Errorf("Release with %s changed %s to %s", c.what, describe(before), describe(after))
		}
	}
}

func ruleReleaseLost(p *lockingProbe) {
	moved := p.later().Add(time.Hour)
	release := func(key string, v session.Version, doing string) {
		p.Helper()
		p.lost(p.l.Release(p.ctx, key, v, moved), "Release "+doing)
	}
	key := p.key("a")
	v := p.save(key, p.record("1"))
	before := p.load(key)
	strangers := map[string]session.Version{
		"the version of the data": v, "no version": "", "a version made up": "no such version",
	}
	for what, v := range strangers {
		release(key, v, "of a record that is free, with "+what)
	}
	holder := p.acquire(key, long)
	strangers["the holder's version with a tail"] = holder.Version + "0"
	for what, v := range strangers {
		release(key, v, "of another's lock, with "+what)
	}
	if after := p.load(key); !sameContent(after, before) {
		p.Errorf("Release without a lock changed %s to %s", describe(before), describe(after))
	}
	if !p.held(key) {
		p.Error("Release with another version than the holder's has unlocked")
	}
	release(p.key("absent"), holder.Version, "where there is no record")
	if p.alive(p.key("absent")) {
		p.Error("Release has made a record")
	}

	key = p.key("saved")
	p.save(key, p.record("1"))
	holder = p.acquire(key, long)
	if v, err := p.b.Save(p.ctx, key, replacing(p.record("2"), holder.Version)); err == nil && v != holder.Version && !p.held(key) {
		release(key, holder.Version, "after the holder's Save")
	}
	key = p.key("released")
	p.save(key, p.record("1"))
	former := p.acquire(key, long)
	if err := p.l.Release(p.ctx, key, former.Version, time.Time{}); err != nil {
		return // rule Release says so
	}
	holder, err := p.l.Acquire(p.ctx, key, long)
	if err != nil || slices.Contains([]session.Version{former.Version, ""}, holder.Version) {
		return // rule Release or HolderVersion says so
	}
	release(key, former.Version, "a second time, under another's lock")
	if !p.held(key) {
		p.Error("a second Release has ended another's lock")
	}
}

func ruleDoneContextAcquire(p *lockingProbe) {
	p.doneContexts(func(ctx context.Context, key string, _ session.Record) error {
		_, err := p.l.Acquire(ctx, key, long)
		if errors.Is(second(p.b.Save(p.ctx, key, p.record("2"))), session.ErrLocked) {
			p.Error("Acquire with a done context has locked")
		}
		return err
	})
}

// doneContextsLocked is doneContexts for the holder of a lock.
func (p *lockingProbe) doneContextsLocked(f func(ctx context.Context, key string, holder session.Record) error) {
	p.Helper()
	for i, ctx := range doneContexts(p.ctx) {
		key := p.key(fmt.Sprint(i))
		p.save(key, p.record("1"))
		before := p.load(key)
		if err := f(ctx, key, p.acquire(key, long)); !errors.Is(err, ctx.Err()) {
			p.Errorf("with a done context: got error %v, want one that wraps %v", err, ctx.Err())
		}
		if after := p.load(key); !sameContent(after, before) {
			p.Errorf("a call with a done context changed %s to %s", describe(before), describe(after))
		}
	}
}

func ruleDoneContextExtend(p *lockingProbe) {
	p.doneContextsLocked(func(ctx context.Context, key string, holder session.Record) error {
		before := p.load(key).LockedUntil
		err := p.l.Extend(ctx, key, holder.Version, 5*long)
		if after := p.load(key).LockedUntil; moved(before, after) {
			p.Errorf("Extend with a done context has moved the end of the lease from %v to %v", before, after)
		}
		return err
	})
}

func ruleDoneContextRelease(p *lockingProbe) {
	p.doneContextsLocked(func(ctx context.Context, key string, holder session.Record) error {
		err := p.l.Release(ctx, key, holder.Version, holder.Expires.Add(time.Hour))
		if !p.held(key) {
			p.Error("Release with a done context has unlocked")
		}
		return err
	})
}

func ruleContextEndsLease(p *lockingProbe) {
	p.save(p.key("busy"), p.record("1"))
	p.returnsWhenDone(func(ctx context.Context, key string) []func(i int) error {
		return []func(i int) error{
			func(int) error {
				rec, err := p.l.Acquire(ctx, key, long)
				if err == nil {
					err = errors.Join(p.l.Extend(ctx, key, rec.Version, long), p.l.Release(ctx, key, rec.Version, rec.Expires))
				}
				return err
			},
			func(int) error { return p.l.Extend(ctx, key, "no such version", long) },
			func(int) error { return p.l.Release(ctx, key, "no such version", time.Time{}) },
		}
	})
}

func ruleStoreFailureLease(p *lockingProbe) {
	free, locked, absent := p.key("free"), p.key("locked"), p.key("absent")
	p.save(free, p.record("1"))
	p.save(locked, p.record("1"))
	former := p.acquire(locked, long).Version
	_ = p.l.Release(p.ctx, locked, former, time.Time{})
	holder, err := p.l.Acquire(p.ctx, locked, long)
	if err != nil {
		return // rule Release says so
	}
	v := holder.Version
	p.failures(func(ctx context.Context) []namedCall {
		return []namedCall{
			{"Acquire", func() error { return second(p.l.Acquire(ctx, free, long)) }},
			{"Acquire of a record that is locked", func() error { return second(p.l.Acquire(ctx, locked, long)) }},
			{"Acquire of an absent key", func() error { return second(p.l.Acquire(ctx, absent, long)) }},
			{"Extend", func() error { return p.l.Extend(ctx, locked, v, long) }},
			{"Extend of another's lock", func() error { return p.l.Extend(ctx, locked, former, long) }},
			{"Release", func() error { return p.l.Release(ctx, locked, v, p.later().Add(time.Hour)) }},
			{"Release of an absent key", func() error { return p.l.Release(ctx, absent, v, time.Time{}) }},
			{"Save under another's lock", func() error { return second(p.b.Save(ctx, locked, p.record("2"))) }},
		}
	})
}
