package conformance

import (
	"errors"
	"fmt"
	"time"

	"github.com/seed-a7bee19b/session"
)

// saveRules are about Save: when it writes, when it must not, and when it ends a
// record.
var saveRules = []backendRule{
	{name: "CreateExisting", run: ruleCreateExisting, quotes: []string{
		"With a zero rec.Version it creates: it MUST fail with a *ConflictError if a live record exists.",
	}},
	{name: "CreateAfterEnd", run: ruleCreateAfterEnd, waits: true, quotes: []string{
		"With a zero rec.Version it creates: it MUST fail with a *ConflictError if a live record exists.",
	}},
	{name: "SaveStale", run: ruleSaveStale, quotes: []string{
		"Otherwise it replaces, and MUST fail with a *ConflictError unless the stored version is still rec.Version, byte by byte.",
	}},
	{name: "SaveStaleIsNotGone", run: ruleSaveStaleIsNotGone, quotes: []string{
		"where the record was deleted, or its Expires has passed, it fails with a *ConflictError that is also ErrNotFound where the store can tell.",
	}},
	{name: "ConflictWritesNothing", run: ruleConflictWritesNothing, quotes: []string{
		"A Save that fails with a conflict MUST write nothing,",
	}},
	{name: "ConflictCurrent", run: ruleConflictCurrent, quotes: []string{
		"and carries the current record where the store hands it over in the same request.",
	}},
	{name: "SaveAbsent", run: ruleSaveAbsent, quotes: []string{
		"A replacing Save MUST NOT create: where the record was deleted,",
		"Once it has returned, no Save with an older version and no Touch may bring the record back.",
	}},
	{name: "SaveExpired", run: ruleSaveExpired, waits: true, quotes: []string{
		"A replacing Save MUST NOT create: where the record was deleted, or its Expires has passed, it fails with a *ConflictError",
		"it is dead at once, and for ever.",
	}},
	{name: "SaveEarlier", run: ruleSaveEarlier, quotes: []string{
		"Expires may be earlier than before,",
	}},
	{name: "SavePast", run: ruleSavePast, quotes: []string{
		"A Save after which Expires has passed ends the record: it is dead at once, and for ever.",
	}},
	{name: "SaveZeroExpires", run: ruleSaveZeroExpires, quotes: []string{
		"A zero Expires MUST be refused with an error.",
	}},
	{name: "KeepLater", run: ruleKeepLater, wide: true, quotes: []string{
		"KeepLater is for Save: if the stored Expires is later than this one, the stored one stays.",
		"Expires may be earlier than before, unless rec.KeepLater is set: then the later of the two MUST stay, " +
			"as another request may have moved it by Touch since; also where the one that is given has passed.",
	}},
	{name: "EndingSave", run: ruleEndingSave, waits: true, wide: true, quotes: []string{
		"It MUST end one, of that version, whose deadline has passed already, or fail as for a record that is gone.",
		"Either way, a Save of that version or a Touch that arrives after that MUST NOT be applied, " +
			"however long it was on its way and whatever the clock of its sender.",
	}},
}

func ruleCreateExisting(p *probe) {
	key := p.key("a")
	v := p.save(key, p.record("1"))
	_, err := p.b.Save(p.ctx, key, p.record("2"))
	p.conflict(err, "Save that creates a record where there is one")
	p.save(key, replacing(p.record("3"), v))
	_, err = p.b.Save(p.ctx, key, p.record("4"))
	p.conflict(err, "Save that creates a record where there is one that was replaced")
}

func ruleCreateAfterEnd(p *probe) {
	p.kill(true, true, func(how, key string, _ session.Version) {
		if _, err := p.b.Save(p.ctx, key, p.record("new")); err != nil {
			p.Errorf("Save that creates a record where one was %s: got error %v, want none", how, err)
			return
		}
		if rec := p.load(key); string(rec.Data) != "new" || rec.Expired(p.now()) {
			p.Errorf("Load after a Save that created a record where one was %s: got %s, Data %q; want the new record, live", how, describe(rec), rec.Data)
		}
	})
}

func ruleSaveStale(p *probe) {
	key := p.key("a")
	v := p.save(key, p.record("1"))
	p.save(key, replacing(p.record("2"), v))
	for name, stale := range map[string]session.Version{
		"an older version":           v,
		"a version that was made up": "no such version",
	} {
		if stale == "" {
			continue // it would create
		}
		_, err := p.b.Save(p.ctx, key, replacing(p.record("3"), stale))
		p.conflict(err, "Save that replaces "+name)
	}
}

func ruleSaveStaleIsNotGone(p *probe) {
	key := p.key("a")
	v := p.save(key, p.record("1"))
	p.save(key, replacing(p.record("2"), v))
	for what, stale := range map[string]session.Version{"replaces an older version": v, "creates the record": ""} {
		if _, err := p.b.Save(p.ctx, key, replacing(p.record("3"), stale)); errors.Is(err, session.ErrNotFound) {
			p.Errorf("Save that %s, while there is a live record: got error %v, want a conflict that is not ErrNotFound", what, err)
		}
	}
}

func ruleConflictWritesNothing(p *probe) {
	late := p.later().Add(time.Hour)
	for _, key := range []string{p.key("replaced"), p.key("created")} {
		stale := p.save(key, p.record("1"))
		p.save(key, replacing(p.record("2"), stale))
		if key == p.key("created") {
			stale = ""
		}
		before := p.load(key)
		rec := session.Record{Data: []byte("3"), Created: late, Expires: late, Version: stale}
		if _, err := p.b.Save(p.ctx, key, rec); err != nil {
			p.unchanged(key, before, fmt.Sprintf("a Save with version %q that failed (%v)", stale, err))
		}
	}
}

func ruleConflictCurrent(p *probe) {
	for _, key := range []string{p.key("replaced"), p.key("created")} {
		stale := p.save(key, p.record("1"))
		p.save(key, replacing(p.record("2"), stale))
		if key == p.key("created") {
			stale = ""
		}
		var conflict *session.ConflictError
		_, err := p.b.Save(p.ctx, key, replacing(p.record("3"), stale))
		if !errors.As(err, &conflict) || conflict.Current == nil {
			continue
		}
		current, stored := *conflict.Current, p.load(key)
		if string(current.Data) != string(stored.Data) || !current.Created.Equal(stored.Created) || !current.Expires.Equal(stored.Expires) {
			p.Errorf("Current of a ConflictError is %s, want the stored record, %s", describe(current), describe(stored))
		}
		if _, err = p.b.Save(p.ctx, key, replacing(p.record("4"), current.Version)); err != nil {
			p.Errorf("Save with the version of Current of a ConflictError, %q: got error %v, want none", current.Version, err)
		}
	}
	p.kill(true, false, func(how, key string, v session.Version) {
		var conflict *session.ConflictError
		_, err := p.b.Save(p.ctx, key, replacing(p.record("3"), v))
		if errors.As(err, &conflict) && conflict.Current != nil {
			p.Errorf("Save that replaces a record that was %s: Current of the ConflictError is %s, want nil", how, describe(*conflict.Current))
		}
	})
}

func ruleSaveAbsent(p *probe) {
	v := p.save(p.key("a"), p.record("1"))
	absent := p.key("absent")
	_, err := p.b.Save(p.ctx, absent, replacing(p.record("2"), v))
	p.conflict(err, "Save that replaces a record at a key that never had one")
	if p.alive(absent) {
		p.Error("a Save that replaces a record, at a key that never had one, created one; want none")
	}
	p.kill(true, false, p.saveRevivesNothing)
}

func ruleSaveExpired(p *probe) { p.kill(false, true, p.saveRevivesNothing) }

func (p *probe) saveRevivesNothing(how, key string, v session.Version) {
	_, err := p.b.Save(p.ctx, key, replacing(p.record("revived"), v))
	p.conflict(err, "Save that replaces a record that was "+how)
	if p.alive(key) {
		p.Errorf("a Save that replaces a record that was %s made it live again, want it to stay dead", how)
	}
}

func ruleSaveEarlier(p *probe) {
	key := p.key("a")
	v := p.save(key, p.record("1"))
	earlier := p.later().Add(-12 * time.Hour)
	p.save(key, replacing(expiring(p.record("2"), earlier), v))
	p.roundedUp("replaced, with an earlier Expires than before", p.load(key).Expires, earlier)
}

func ruleSavePast(p *probe) {
	for _, ago := range []time.Duration{2 * time.Second, time.Hour, 20 * 365 * 24 * time.Hour} {
		past := p.now().Add(-ago)
		key := p.key(fmt.Sprint("replaced ", ago))
		v := p.save(key, p.record("1"))
		if _, err := p.b.Save(p.ctx, key, replacing(expiring(p.record("2"), past), v)); err != nil {
			p.Errorf("Save that replaces a record, with an Expires %v ago: got error %v, want none", ago, err)
		}
		if p.alive(key) {
			p.Errorf("the record is live after a Save that replaced it with an Expires %v ago, want it to be dead", ago)
		}
		key = p.key(fmt.Sprint("created ", ago))
		if _, err := p.b.Save(p.ctx, key, expiring(p.record("1"), past)); err != nil {
			p.Errorf("Save that creates a record, with an Expires %v ago: got error %v, want none", ago, err)
		}
		if p.alive(key) {
			p.Errorf("the record is live after a Save that created it with an Expires %v ago, want it to be dead", ago)
		}
	}
}

func ruleSaveZeroExpires(p *probe) {
	absent := p.key("absent")
	if _, err := p.b.Save(p.ctx, absent, expiring(p.record("1"), time.Time{})); err == nil {
		p.Error("Save that creates a record with a zero Expires: got no error, want one")
	}
	if rec, err := p.b.Load(p.ctx, absent); err == nil && string(rec.Data) == "1" {
		p.Error("a Save with a zero Expires, which has to be refused, created a record")
	}
	key := p.key("a")
	v := p.save(key, p.record("1"))
	before := p.load(key)
	if _, err := p.b.Save(p.ctx, key, replacing(expiring(p.record("2"), time.Time{}), v)); err == nil {
		p.Error("Save that replaces a record, with a zero Expires: got no error, want one")
	}
	p.unchanged(key, before, "a Save with a zero Expires")
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
					p.Fatalf("Touch of a live record: got error %v, want none", err)
				}
			}
			rec := replacing(expiring(p.record("2"), c.give), v)
			rec.KeepLater = c.keep
			next, err := p.b.Save(p.ctx, key, rec)
			if err != nil {
				p.Errorf("Save with KeepLater %v and %s: got error %v, want none", c.keep, c.what, err)
				continue
			}
			got, err := p.b.Load(p.ctx, key)
			if err != nil || string(got.Data) != "2" || got.Version != next || got.KeepLater {
				p.Errorf("Load after a Save with KeepLater %v and %s: got error %v, %s, Data %q, KeepLater %v; want Data \"2\", version %q, KeepLater false",
					c.keep, c.what, err, describe(got), got.Data, got.KeepLater, next)
				continue
			}
			p.roundedUp(fmt.Sprintf("Save with KeepLater %v and %s", c.keep, c.what), got.Expires, c.want)
		}
	}
	// Without a stored Expires, KeepLater changes nothing.
	key := p.key("created")
	rec := p.record("1")
	rec.KeepLater = true
	p.save(key, rec)
	p.roundedUp("created with KeepLater", p.load(key).Expires, rec.Expires)
	if _, err := p.b.Save(p.ctx, p.key("absent"), replacing(rec, "no such version")); err == nil || p.alive(p.key("absent")) {
		p.Errorf("Save with KeepLater that replaces a record at a key that never had one: got error %v, want a conflict and no record", err)
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
	p.conflict(err, "Save that ends a record, with an older version")
	p.unchanged(stale, before, "a Save that ends a record, with an older version,")

	ends := func(key string, v session.Version, what string, gone bool) {
		p.Helper()
		for i := range 2 { // the second may come from a sender that is late
			_, err := p.b.Save(p.ctx, key, replacing(expiring(p.record("end"), past), v))
			var conflict *session.ConflictError
			if mayBeGone := gone || i == 1; err != nil && (!mayBeGone || !errors.As(err, &conflict)) {
				p.Errorf("Save number %d that ends %s: got error %v, want none, or a conflict if it may be gone", i+1, what, err)
			}
			if p.alive(key) {
				p.Errorf("%s is live after a Save that ended it, want it to be dead", what)
			}
		}
		if _, err := p.other.Save(p.ctx, key, replacing(p.record("late"), v)); err == nil || p.alive(key) {
			p.Errorf("Save with the version of %s, after its end: got error %v, want one and no live record", what, err)
		}
		if err := p.other.Touch(p.ctx, key, p.later()); !errors.Is(err, session.ErrNotFound) || p.alive(key) {
			p.Errorf("Touch of %s, after its end: got error %v, want ErrNotFound and no live record", what, err)
		}
		if _, err := p.other.Save(p.ctx, key, p.record("new")); err != nil || string(p.load(key).Data) != "new" {
			p.Errorf("Save that creates a record after the end of %s: got error %v, want none and the new record", what, err)
			return
		}
		again := p.load(key)
		_, err := p.b.Save(p.ctx, key, replacing(expiring(p.record("end"), past), v))
		p.conflict(err, "Save that ends "+what+", where another record was created since")
		p.unchanged(key, again, "a Save that ends "+what)
	}
	ends(live, vLive, "a live record", false)
	ends(due, vDue, "a record whose deadline has passed", true)
	ends(stale, vStale, "a record that was replaced", false)
	_, err = p.b.Save(p.ctx, p.key("absent"), replacing(expiring(p.record("end"), past), vLive))
	p.conflict(err, "Save that ends a record at a key that never had one")
}
