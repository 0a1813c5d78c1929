package conformance

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/seed-a7bee19b/session"
)

// endRules are about Saves that keep the deadline, and those that end a record.
var endRules = []backendRule{
	{name: "KeepLater", run: ruleKeepLater, wide: true, quotes: []string{
		"KeepLater is for Save: where the stored Expires is later than this one, the stored one stays.",
		"Expires may be earlier than before, unless rec.KeepLater is set: then the later of the two MUST stay, " +
			"as another request may have moved it by Touch since; also where the one that is given has passed.",
	}},
	{name: "EndingSave", run: ruleEndingSave, waits: true, wide: true, quotes: []string{
		"It MUST end one, of that version, whose deadline has passed already, or fail as for a record that is gone.",
		"Either way, a Save of that version or a Touch that arrives after that MUST NOT be applied, " +
			"however long it was on its way and whatever the clock of its sender.",
	}},
}

// endLockingRules are likewise, of records that are locked.
var endLockingRules = []backendRule{
	{name: "LockedEndingSave", run: locking(ruleLockedEndingSave), wide: true, quotes: []string{
		"Save with any Version but the holder's MUST fail with a *LockedError and write nothing. The holder's Save MUST write and unlock.",
	}},
	{name: "LockedTooLarge", run: locking(ruleLockedTooLarge), wide: true, quotes: []string{
		"A record that the store cannot hold MUST be refused with ErrTooLarge; what was stored before stays, with its Expires and its lock.",
	}, needs: func(b Backend) bool { return b.MaxData > 0 }},
	{name: "LockedReads", run: locking(ruleLockedReads), wide: true, quotes: []string{
		"Load MUST return the record, with LockedUntil set, and a Version that is not the holder's.",
		"a Load that begins after a write has returned MUST NOT answer with what was there before, whichever client of the store wrote.",
	}},
	{name: "ManyLocks", run: locking(ruleManyLocks), wide: true, quotes: []string{
		"it holds until the ttl of Acquire or Extend has passed",
	}},
	{name: "HolderBytes", run: locking(ruleHolderBytes), wide: true, quotes: []string{
		"one that this backend never made MUST be treated as one that is no longer stored, whatever its bytes and its length.",
		"It MUST fail with ErrConflict if v is not that of a lock which is still held,",
	}},
}

func ruleKeepLater(p *probe) {
	stored := p.later()
	for _, c := range []struct {
		what       string
		keep       bool
		give, want time.Time
	}{
		{"an earlier Expires", true, stored.Add(-time.Hour), stored},
		{"an Expires a second earlier", true, stored.Add(-time.Second), stored},
		{"an Expires that has passed", true, p.now().Add(-time.Hour), stored},
		{"the same Expires", true, stored, stored},
		{"a later Expires", true, stored.Add(time.Hour), stored.Add(time.Hour)},
		{"an earlier Expires, without KeepLater", false, stored.Add(-time.Hour), stored.Add(-time.Hour)},
	} {
		for _, moved := range []string{"saved", "touched"} {
			key := p.key(c.what + moved)
			first := p.later()
			if moved == "touched" {
				first = first.Add(-2 * time.Hour)
			}
			v := p.save(key, expiring(p.record("1"), first))
			if moved == "touched" {
				if err := p.other.Touch(p.ctx, key, stored); err != nil {
					p.Fatalf("Touch: %v", err)
				}
			}
			rec := replacing(expiring(p.record("2"), c.give), v)
			rec.KeepLater = c.keep
			next, err := p.b.Save(p.ctx, key, rec)
			if err != nil {
				p.Errorf("a Save with KeepLater %v and %s: %v", c.keep, c.what, err)
				continue
			}
			got, err := p.b.Load(p.ctx, key)
			if err != nil || string(got.Data) != "2" || got.Version != next || got.KeepLater {
				p.Errorf("after a Save with KeepLater %v and %s: %v, %s, KeepLater %v", c.keep, c.what, err, describe(got), got.KeepLater)
				continue
			}
			p.roundedUp(fmt.Sprintf("a Save with KeepLater %v and %s", c.keep, c.what), got.Expires, c.want)
		}
	}
	// Where there is nothing to keep, it is as without.
	key := p.key("created")
	rec := p.record("1")
	rec.KeepLater = true
	p.save(key, rec)
	p.roundedUp("created with KeepLater", p.load(key).Expires, rec.Expires)
	if _, err := p.b.Save(p.ctx, p.key("absent"), replacing(rec, "no such version")); err == nil || p.alive(p.key("absent")) {
		p.Errorf("a Save with KeepLater of a record that never was: %v", err)
	}
}

func ruleEndingSave(p *probe) {
	soon := p.soon()
	past := p.now().Add(-time.Hour)
	due, live, stale := p.key("due"), p.key("live"), p.key("stale")
	vDue := p.save(due, expiring(p.record("1"), soon))
	vLive := p.save(live, p.record("1"))
	old := p.save(stale, p.record("1"))
	vStale := p.save(stale, replacing(p.record("2"), old))
	p.wait(soon)

	before := p.load(stale)
	_, err := p.b.Save(p.ctx, stale, replacing(expiring(p.record("end"), past), old))
	p.conflict(err, "ending a record that was changed since")
	p.unchanged(stale, before, "a Save that ends a version before")

	ends := func(key string, v session.Version, what string, gone bool) {
		p.Helper()
		for i := range 2 { // the second may have been sent by somebody who came late
			_, err := p.b.Save(p.ctx, key, replacing(expiring(p.record("end"), past), v))
			var conflict *session.ConflictError
			if mayBeGone := gone || i == 1; err != nil && (!mayBeGone || !errors.As(err, &conflict)) {
				p.Errorf("ending %s: %v", what, err)
			}
			if p.alive(key) {
				p.Errorf("%s is alive after a Save that ended it", what)
			}
		}
		if _, err := p.other.Save(p.ctx, key, replacing(p.record("late"), v)); err == nil || p.alive(key) {
			p.Errorf("a Save that arrived after the end of %s was applied", what)
		}
		if err := p.other.Touch(p.ctx, key, p.later()); !errors.Is(err, session.ErrNotFound) || p.alive(key) {
			p.Errorf("a Touch that arrived after the end of %s: %v, want ErrNotFound", what, err)
		}
		if _, err := p.other.Save(p.ctx, key, p.record("new")); err != nil || string(p.load(key).Data) != "new" {
			p.Errorf("creating a record after the end of %s: %v", what, err)
			return
		}
		again := p.load(key)
		_, err := p.b.Save(p.ctx, key, replacing(expiring(p.record("end"), past), v))
		p.conflict(err, "ending "+what+" when another was created")
		p.unchanged(key, again, "a Save that ends "+what)
	}
	ends(live, vLive, "a live record", false)
	ends(due, vDue, "a record whose deadline has passed", true)
	ends(stale, vStale, "a record that was changed", false)
	_, err = p.b.Save(p.ctx, p.key("absent"), replacing(expiring(p.record("end"), past), vLive))
	p.conflict(err, "ending a record that never was")
}

func ruleLockedEndingSave(p *lockingProbe) {
	past := p.now().Add(-time.Hour)
	key := p.key("a")
	v := p.save(key, p.record("1"))
	holder := p.acquire(key, long)
	before := p.load(key)
	_, err := p.b.Save(p.ctx, key, replacing(expiring(p.record("end"), past), v))
	p.locked(err, "ending a record under another's lock")
	p.unchanged(key, before, "a Save that ends a record under another's lock")
	if _, err := p.b.Save(p.ctx, key, replacing(expiring(p.record("end"), past), holder.Version)); err != nil {
		p.Errorf("the holder's Save, which ends the record: %v", err)
	}
	if p.alive(key) {
		p.Fatal("the record is alive after a Save of the holder that ended it")
	}
	if _, err := p.b.Save(p.ctx, key, p.record("new")); err != nil {
		p.Errorf("creating a record where the holder of its lock ended one: %v", err)
		return
	}
	p.unlocked(key, "the holder's Save, which ended the record")
	// And one that keeps the later deadline.
	key = p.key("b")
	p.save(key, p.record("1"))
	rec := replacing(expiring(p.record("2"), p.later().Add(-time.Hour)), p.acquire(key, long).Version)
	rec.KeepLater = true
	p.save(key, rec)
	p.roundedUp("the holder's Save with KeepLater", p.load(key).Expires, p.later())
}

func ruleLockedTooLarge(p *lockingProbe) {
	key := p.key("a")
	p.save(key, p.record("1"))
	holder := p.acquire(key, long)
	before := p.load(key)
	late := p.later().Add(time.Hour)
	tooLarge := session.Record{Data: bytes.Repeat([]byte("x"), 2*p.backend.MaxData), Created: late, Expires: late, Version: holder.Version}
	if _, err := p.b.Save(p.ctx, key, tooLarge); !errors.Is(err, session.ErrTooLarge) {
		p.Errorf("the holder's Save of %d bytes: got error %v, want ErrTooLarge", len(tooLarge.Data), err)
	}
	p.unchanged(key, before, "the holder's Save that is too large")
	if err := p.l.Extend(p.ctx, key, holder.Version, long); err != nil {
		p.Errorf("Extend after a Save that was too large: %v", err)
	}
	if !p.held(key) {
		p.Error("a Save that was too large has ended the lock")
	}
}

// ruleLockedReads is ReadAfterWrite for locks.
func ruleLockedReads(p *lockingProbe) {
	clients := []session.LockingBackend{p.l, p.otherL}
	for i, first := range clients {
		for j, then := range clients {
			key := p.key(fmt.Sprint(i, j))
			is := func(locked bool, data, when string) {
				p.Helper()
				rec, err := then.Load(p.ctx, key)
				if err != nil || rec.LockedUntil.After(p.now()) != locked || string(rec.Data) != data {
					p.Errorf("after %s, Load: %v, %q, LockedUntil %v", when, err, rec.Data, rec.LockedUntil)
				}
			}
			if _, err := first.Save(p.ctx, key, p.record("1")); err != nil {
				p.Fatalf("Save: %v", err)
			}
			is(false, "1", "Save")
			holder, err := first.Acquire(p.ctx, key, long)
			if err != nil {
				p.Fatalf("Acquire: %v", err)
			}
			is(true, "1", "Acquire")
			if err := first.Release(p.ctx, key, holder.Version, time.Time{}); err != nil {
				p.Fatalf("Release: %v", err)
			}
			is(false, "1", "Release")
			if holder, err = first.Acquire(p.ctx, key, long); err != nil {
				p.Fatalf("Acquire after Release: %v", err)
			}
			is(true, "1", "a second Acquire")
			if _, err := first.Save(p.ctx, key, replacing(p.record("2"), holder.Version)); err != nil {
				p.Fatalf("the holder's Save: %v", err)
			}
			is(false, "2", "the holder's Save")
			// What the client saw of the record does not matter to Acquire.
			if rec, err := then.Acquire(p.ctx, key, long); err != nil || string(rec.Data) != "2" {
				p.Errorf("Acquire after another's Save: %v, %q", err, rec.Data)
			}
		}
	}
}

func ruleManyLocks(p *lockingProbe) {
	const n = 300
	key := func(i int) string { return p.key(fmt.Sprint("locked ", i)) }
	together(n, func(i int) {
		if _, err := p.b.Save(p.ctx, key(i), p.record("1")); err != nil {
			p.Errorf("Save: %v", err)
		} else if _, err := p.l.Acquire(p.ctx, key(i), long); err != nil {
			p.Errorf("Acquire of record %d of %d: %v", i, n, err)
		}
	})
	if p.Failed() {
		return
	}
	together(n, func(i int) {
		if err := p.try(p.otherL, key(i), long); err == nil {
			p.Errorf("of %d locks that are held, number %d could be taken", n, i)
		}
	})
}

func ruleHolderBytes(p *lockingProbe) {
	key := p.key("a")
	v := p.save(key, p.record("1"))
	before := p.load(key)
	for _, other := range append(foreign, v) {
		p.lost(p.l.Extend(p.ctx, key, other, long), "Extend of a free record, with version "+show(other))
		p.lost(p.l.Release(p.ctx, key, other, p.later().Add(time.Hour)), "Release of a free record, with version "+show(other))
	}
	holder := p.acquire(key, long)
	// A backend may put more into a holder's version than what tells whose lock
	// it is, but eight bytes or more of it have to.
	refused := 0
	for _, other := range flips(holder.Version) {
		if errors.Is(p.l.Extend(p.ctx, key, other, long), session.ErrConflict) {
			refused++
		}
	}
	if refused < min(8, len(holder.Version)) {
		p.Errorf("Extend takes versions of which one byte differs from the holder's, but for %d of %d bytes", refused, len(holder.Version))
	}
	wrong := append(others(holder.Version), foreign...)
	together(len(wrong), func(i int) {
		if p.Failed() {
			return
		}
		other := wrong[i]
		p.lost(p.l.Extend(p.ctx, key, other, 2*long), "Extend with version "+show(other)+", of a lock with "+show(holder.Version))
		p.lost(p.l.Release(p.ctx, key, other, p.later().Add(time.Hour)), "Release with version "+show(other)+", of a lock with "+show(holder.Version))
		if other != v {
			rec := replacing(expiring(p.record("2"), p.later().Add(time.Hour)), other)
			if err := second(p.b.Save(p.ctx, key, rec)); !errors.Is(err, session.ErrLocked) && !errors.Is(err, session.ErrConflict) {
				p.Errorf("Save with version %s, under a lock with %s: got error %v, want ErrLocked", show(other), show(holder.Version), err)
			}
		}
	})
	if p.Failed() {
		return
	}
	if after := p.load(key); !sameContent(after, before) {
		p.Errorf("calls with another version than the holder's have changed %s to %s", describe(before), describe(after))
	}
	if !p.held(key) {
		p.Error("calls with another version than the holder's have ended the lock")
	}
	if err := p.l.Extend(p.ctx, key, holder.Version, long); err != nil {
		p.Errorf("Extend by the holder: %v", err)
	}
}
