package conformance

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/seed-a7bee19b/session"
)

// lockedRules are about what others than the holder can do while a lock is live.
var lockedRules = []backendRule{
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
			return // rule LockedSave reports it
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
		if until := p.load(key).LockedUntil; !until.IsZero() { // or rule LockedLoad reports it
			p.about(until, asked, ttl, "Load")
		}
	}
}

func ruleLockedUntilIgnored(p *lockingProbe) {
	key := p.key("a")
	rec := p.record("1")
	rec.LockedUntil = p.now().Add(long)
	rec.Version = p.save(key, rec)
	p.save(key, rec)
	p.unlocked(key, "a Save of a record with LockedUntil")
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
