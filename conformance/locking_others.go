package conformance

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/seed-a7bee19b/session"
)

// lockedRules are about the calls of others while a lock is live.
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
		"A LockingBackend sets it; Save ignores it.",
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
		{"creates the record", ""},
		{"replaces an older version", first},
		{"replaces the version from before the lock", second},
		{"replaces the version that Load returns", p.load(key).Version},
	} {
		if c.v != holder.Version {
			_, err := p.b.Save(p.ctx, key, replacing(p.record("3"), c.v))
			p.locked(err, "Save that "+c.what+", under another's lock")
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
			p.Fatalf("Save with version %q under another's lock: got no error, want ErrLocked", v)
		}
		p.unchanged(key, before, fmt.Sprintf("a Save with version %q under another's lock (%v)", v, err))
	}
	if !p.held(key) {
		p.Error("a Save under another's lock ended the lock, want it to stay")
	}
}

func ruleLockedLoad(p *lockingProbe) {
	key := p.key("a")
	p.save(key, p.record("1"))
	before := p.load(key)
	holder := p.acquire(key, long)
	rec, err := p.b.Load(p.ctx, key)
	if err != nil {
		p.Fatalf("Load of a locked record: got error %v, want none", err)
	}
	if !sameContent(rec, before) {
		p.Errorf("Load of a locked record: got %s, want the stored record, %s", describe(rec), describe(before))
	}
	if rec.Version == holder.Version {
		p.Errorf("Load of a locked record: got the holder's version, %q, want another", rec.Version)
	}
	if !rec.LockedUntil.After(p.now()) {
		p.Errorf("Load of a locked record: got LockedUntil %v, want a time to come", rec.LockedUntil)
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
			p.Errorf("Touch of a locked record: got error %v, want none", err)
		}
	}
	after := p.load(key)
	p.roundedUp("touched under a lock", after.Expires, expires)
	after.Expires = before.Expires
	if !sameContent(after, before) {
		p.Errorf("Touch of a locked record changed it from %s to %s, want no change but in Expires", describe(before), describe(after))
	}
	if !p.held(key) {
		p.Fatal("Touch of a locked record ended the lock, want it to stay")
	}
	if _, err := p.b.Save(p.ctx, key, replacing(p.record("2"), holder.Version)); err != nil {
		p.Errorf("the holder's Save after a Touch: got error %v, want none", err)
	}
}

func ruleLockedDelete(p *lockingProbe) {
	key := p.key("a")
	p.save(key, p.record("1"))
	p.acquire(key, long)
	if err := p.b.Delete(p.ctx, key); err != nil {
		p.Errorf("Delete of a locked record: got error %v, want none", err)
	}
	if p.alive(key) {
		p.Fatal("Load after a Delete of a locked record returned it, want ErrNotFound")
	}
	if _, err := p.b.Save(p.ctx, key, p.record("new")); err != nil {
		p.Errorf("Save that creates a record where a locked one was deleted: got error %v, want none", err)
		return
	}
	p.unlocked(key, "a Save that created a record where a locked one was deleted")
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
		p.Fatal("a locked record is live after its Expires, want it to be dead")
	}
	p.afterLoss(p.l, key, holder.Version, "of a record that expired under its lock")
	if p.alive(key) {
		p.Fatal("the holder made a record live again that had expired under its lock, want it to stay dead")
	}
	if _, err := p.b.Save(p.ctx, key, p.record("new")); err != nil {
		p.Errorf("Save that creates a record where a locked one has expired: got error %v, want none", err)
		return
	}
	p.unlocked(key, "a Save that created a record where a locked one had expired")
}

func ruleLockedUntil(p *lockingProbe) {
	for _, ttl := range []time.Duration{time.Minute, 10 * time.Hour} {
		key := p.key(ttl.String())
		p.save(key, p.record("1"))
		asked := p.now()
		p.about(p.acquire(key, ttl).LockedUntil, asked, ttl, "LockedUntil of Acquire")
		for what, err := range map[string]error{
			"LockedError.Until of a Save":     second(p.b.Save(p.ctx, key, p.record("2"))),
			"LockedError.Until of an Acquire": p.try(p.l, key, ttl),
		} {
			var locked *session.LockedError
			if errors.As(err, &locked) && !locked.Until.IsZero() {
				p.about(locked.Until, asked, ttl, what)
			}
		}
		if until := p.load(key).LockedUntil; !until.IsZero() { // or rule LockedLoad reports it
			p.about(until, asked, ttl, "LockedUntil of Load")
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
	p.locked(err, "Save that ends a record, under another's lock")
	p.unchanged(key, before, "a Save that ends a record, under another's lock,")
	if _, err := p.b.Save(p.ctx, key, replacing(expiring(p.record("end"), past), holder.Version)); err != nil {
		p.Errorf("the holder's Save, which ends the record: got error %v, want none", err)
	}
	if p.alive(key) {
		p.Fatal("the record is live after a Save of the holder that ended it, want it to be dead")
	}
	if _, err := p.b.Save(p.ctx, key, p.record("new")); err != nil {
		p.Errorf("Save that creates a record where the holder of a lock has ended one: got error %v, want none", err)
		return
	}
	p.unlocked(key, "the holder's Save, which ended the record")
	// The holder's Save with KeepLater keeps the later deadline.
	key = p.key("b")
	p.save(key, p.record("1"))
	rec := replacing(expiring(p.record("2"), p.later().Add(-time.Hour)), p.acquire(key, long).Version)
	rec.KeepLater = true
	p.save(key, rec)
	p.roundedUp("a record that the holder saved with KeepLater and an earlier Expires", p.load(key).Expires, p.later())
}

func ruleLockedTooLarge(p *lockingProbe) {
	key := p.key("a")
	p.save(key, p.record("1"))
	holder := p.acquire(key, long)
	before := p.load(key)
	late := p.later().Add(time.Hour)
	tooLarge := session.Record{Data: bytes.Repeat([]byte("x"), 2*p.backend.MaxData), Created: late, Expires: late, Version: holder.Version}
	if _, err := p.b.Save(p.ctx, key, tooLarge); !errors.Is(err, session.ErrTooLarge) {
		p.Errorf("the holder's Save of %d bytes, twice MaxData: got error %v, want ErrTooLarge", len(tooLarge.Data), err)
	}
	p.unchanged(key, before, "the holder's Save of Data that is too large")
	if err := p.l.Extend(p.ctx, key, holder.Version, long); err != nil {
		p.Errorf("Extend by the holder, after its Save of too much Data was refused: got error %v, want none", err)
	}
	if !p.held(key) {
		p.Error("the holder's Save of too much Data ended the lock, want it to stay")
	}
}

// ruleLockedReads is ruleReadAfterWrite for locks.
func ruleLockedReads(p *lockingProbe) {
	clients := []session.LockingBackend{p.l, p.otherL}
	for i, first := range clients {
		for j, then := range clients {
			key := p.key(fmt.Sprint(i, j))
			is := func(locked bool, data, when string) {
				p.Helper()
				rec, err := then.Load(p.ctx, key)
				if err != nil || rec.LockedUntil.After(p.now()) != locked || string(rec.Data) != data {
					p.Errorf("Load after %s: got error %v, Data %q, LockedUntil %v; want Data %q, locked %v", when, err, rec.Data, rec.LockedUntil, data, locked)
				}
			}
			if _, err := first.Save(p.ctx, key, p.record("1")); err != nil {
				p.Fatalf("Save of a valid record: got error %v, want none", err)
			}
			is(false, "1", "Save")
			holder, err := first.Acquire(p.ctx, key, long)
			if err != nil {
				p.Fatalf("Acquire of a free record: got error %v, want none", err)
			}
			is(true, "1", "Acquire")
			if err := first.Release(p.ctx, key, holder.Version, time.Time{}); err != nil {
				p.Fatalf("Release by the holder: got error %v, want none", err)
			}
			is(false, "1", "Release")
			if holder, err = first.Acquire(p.ctx, key, long); err != nil {
				p.Fatalf("Acquire after Release: got error %v, want none", err)
			}
			is(true, "1", "a second Acquire")
			if _, err := first.Save(p.ctx, key, replacing(p.record("2"), holder.Version)); err != nil {
				p.Fatalf("the holder's Save: got error %v, want none", err)
			}
			is(false, "2", "the holder's Save")
			// Acquire does not depend on an earlier Load of the client.
			if rec, err := then.Acquire(p.ctx, key, long); err != nil || string(rec.Data) != "2" {
				p.Errorf("Acquire after a Save of another client: got error %v, Data %q; want Data \"2\"", err, rec.Data)
			}
		}
	}
}
