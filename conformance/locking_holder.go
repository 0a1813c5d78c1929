package conformance

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/seed-a7bee19b/session"
)

// holderRules are about the holder of a lock: its Version, its Save and its Release.
var holderRules = []backendRule{
	{name: "HolderSave", run: locking(ruleHolderSave), quotes: []string{
		"The holder's Save MUST write and unlock.",
	}},
	{name: "HolderAfterDelete", run: locking(ruleHolderAfterDelete), quotes: []string{
		"A deleted record's lock is gone with it: the holder's Save MUST then fail with ErrConflict.",
	}},
	{name: "HolderVersion", run: locking(ruleHolderVersion), quotes: []string{
		"The Version that Acquire returns is the holder's alone, whichever client of the store others use,",
	}},
	{name: "HolderBytes", run: locking(ruleHolderBytes), wide: true, quotes: []string{
		"one that this backend never made MUST be treated as one that is no longer stored, whatever its bytes and its length.",
		"It MUST fail with ErrConflict if v is not that of a lock which is still held,",
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
}

func ruleHolderSave(p *lockingProbe) {
	key := p.key("a")
	before := p.save(key, p.record("1"))
	holder := p.acquire(key, long)
	expires := p.later().Add(time.Hour)
	v, err := p.b.Save(p.ctx, key, replacing(expiring(p.record("2"), expires), holder.Version))
	if err != nil {
		p.Fatalf("the holder's Save: got error %v, want none", err)
	}
	rec := p.load(key)
	if string(rec.Data) != "2" || rec.Version != v {
		p.Errorf("Load after the holder saved Data \"2\" and got version %q: got Data %q, version %q; want those of the Save", v, rec.Data, rec.Version)
	}
	p.roundedUp("saved by the holder", rec.Expires, expires)
	if v == before || v == holder.Version {
		p.Errorf("the holder's Save returned version %q, which the key had before; want a new one", v)
	}
	if _, err := p.b.Save(p.ctx, key, replacing(p.record("3"), holder.Version)); !errors.Is(err, session.ErrConflict) {
		p.Errorf("second Save with the holder's version: got error %v, want ErrConflict", err)
	}
	p.unlocked(key, "the holder's Save")
}

func ruleHolderAfterDelete(p *lockingProbe) {
	key := p.key("a")
	p.save(key, p.record("1"))
	holder := p.acquire(key, long)
	if err := p.b.Delete(p.ctx, key); err != nil || p.alive(key) {
		return // rule LockedDelete reports it
	}
	p.afterLoss(p.l, key, holder.Version, "of a record that was deleted")
	if p.alive(key) {
		p.Fatal("the holder brought back a record that was deleted, want it to stay deleted")
	}
	if _, err := p.b.Save(p.ctx, key, p.record("new")); err != nil {
		return // rule LockedDelete reports it
	}
	before := p.load(key)
	p.afterLoss(p.l, key, holder.Version, "of a record that was deleted and created anew")
	p.unchanged(key, before, "the holder of a lock on an earlier record")
}

func ruleHolderVersion(p *lockingProbe) {
	key := p.key("a")
	v := p.save(key, p.record("1"))
	seen := map[session.Version]bool{"": true, v: true}
	isNew := func(v session.Version, of string) {
		p.Helper()
		if seen[v] {
			p.Fatalf("%s returned version %q, which the key had before; want a new one", of, v)
		}
		seen[v] = true
	}
	for life := range 3 {
		for range 3 {
			for i := range 4 {
				holder, err := []session.LockingBackend{p.l, p.otherL}[i%2].Acquire(p.ctx, key, long)
				if err != nil {
					return // rule Release or HolderSave reports it
				}
				isNew(holder.Version, "Acquire")
				if err := p.l.Release(p.ctx, key, holder.Version, time.Time{}); err != nil {
					return // rule Release reports it
				}
			}
			holder, err := p.l.Acquire(p.ctx, key, long)
			if err != nil {
				return // rule Release or HolderSave reports it
			}
			isNew(holder.Version, "Acquire")
			if v, err = p.b.Save(p.ctx, key, replacing(p.record("1"), holder.Version)); err != nil || v == holder.Version {
				return // rule HolderSave reports it
			}
			isNew(v, "the holder's Save")
		}
		if err := p.b.Delete(p.ctx, key); err != nil {
			return // rule Delete reports it
		}
		var err error
		if v, err = p.b.Save(p.ctx, key, p.record(fmt.Sprint(life))); err != nil {
			return // rule Delete reports it
		}
		isNew(v, "a Save after Delete")
	}
}

func ruleHolderBytes(p *lockingProbe) {
	key := p.key("a")
	v := p.save(key, p.record("1"))
	before := p.load(key)
	for _, other := range append(foreign, v) {
		p.lost(p.l.Extend(p.ctx, key, other, long), "Extend for a free record, with version "+show(other))
		p.lost(p.l.Release(p.ctx, key, other, p.later().Add(time.Hour)), "Release of a free record, with version "+show(other))
	}
	holder := p.acquire(key, long)
	// A holder's version may contain more than the identity of the lock, but eight
	// bytes or more have to identify it.
	refused := 0
	for _, other := range flips(holder.Version) {
		if errors.Is(p.l.Extend(p.ctx, key, other, long), session.ErrConflict) {
			refused++
		}
	}
	if refused < min(8, len(holder.Version)) {
		p.Errorf("Extend with versions that differ from the holder's in one byte: %d of %d were refused, want 8 or more", refused, len(holder.Version))
	}
	wrong := append(others(holder.Version), foreign...)
	together(len(wrong), func(i int) {
		if p.Failed() {
			return
		}
		other := wrong[i]
		p.lost(p.l.Extend(p.ctx, key, other, 2*long), "Extend with version "+show(other)+", where the holder's is "+show(holder.Version))
		p.lost(p.l.Release(p.ctx, key, other, p.later().Add(time.Hour)), "Release with version "+show(other)+", where the holder's is "+show(holder.Version))
		if other != v {
			rec := replacing(expiring(p.record("2"), p.later().Add(time.Hour)), other)
			if err := second(p.b.Save(p.ctx, key, rec)); !errors.Is(err, session.ErrLocked) && !errors.Is(err, session.ErrConflict) {
				p.Errorf("Save with version %s, under a lock where the holder's is %s: got error %v, want ErrLocked or ErrConflict", show(other), show(holder.Version), err)
			}
		}
	})
	if p.Failed() {
		return
	}
	if after := p.load(key); !sameContent(after, before) {
		p.Errorf("calls with versions that are not the holder's changed the record from %s to %s, want no change", describe(before), describe(after))
	}
	if !p.held(key) {
		p.Error("calls with versions that are not the holder's ended the lock, want it to stay")
	}
	if err := p.l.Extend(p.ctx, key, holder.Version, long); err != nil {
		p.Errorf("Extend by the holder: got error %v, want none", err)
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
			p.Fatalf("Release by the holder: got error %v, want none", err)
		}
		after := p.load(key)
		if string(after.Data) != "1" || after.Version != before.Version {
			p.Errorf("Release changed the record from %s to %s, want the Data and version from before the lock", describe(before), describe(after))
		}
		if after.LockedUntil.After(p.now()) {
			p.Error("Load after Release: got a LockedUntil to come, want zero or a time that has passed")
		}
		if _, err := p.b.Save(p.ctx, key, replacing(p.record("2"), v)); err != nil {
			p.Errorf("Save after Release, with %s: got error %v, want none", how, err)
		}
	}
	key := p.key("at once")
	p.save(key, p.record("1"))
	for range 3 {
		holder, err := p.l.Acquire(p.ctx, key, long)
		if err != nil {
			p.Fatalf("Acquire after Release: got error %v, want none", err)
		}
		if err := p.l.Release(p.ctx, key, holder.Version, time.Time{}); err != nil {
			p.Fatalf("Release by the holder: got error %v, want none", err)
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
			p.Errorf("Release with %s: got error %v, want none", c.what, err)
			continue
		}
		after := p.load(key)
		p.roundedUp("released with "+c.what, after.Expires, c.want)
		after.Expires = before.Expires
		if !sameContent(after, before) {
			p.Errorf("Release with %s changed the record from %s to %s, want no change but in Expires", c.what, describe(before), describe(after))
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
		release(key, v, "of a free record, with "+what)
	}
	holder := p.acquire(key, long)
	strangers["the holder's version with a tail"] = holder.Version + "0"
	for what, v := range strangers {
		release(key, v, "of another's lock, with "+what)
	}
	if after := p.load(key); !sameContent(after, before) {
		p.Errorf("a Release that has no lock changed the record from %s to %s, want no change", describe(before), describe(after))
	}
	if !p.held(key) {
		p.Error("a Release with a version that is not the holder's ended the lock, want it to stay")
	}
	release(p.key("absent"), holder.Version, "at a key without a record")
	if p.alive(p.key("absent")) {
		p.Error("Release at a key without a record created one, want none")
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
		return // rule Release reports it
	}
	holder, err := p.l.Acquire(p.ctx, key, long)
	if err != nil || slices.Contains([]session.Version{former.Version, ""}, holder.Version) {
		return // rule Release or HolderVersion reports it
	}
	release(key, former.Version, "a second time, under another's lock")
	if !p.held(key) {
		p.Error("a second Release ended another's lock, want it to stay")
	}
}
