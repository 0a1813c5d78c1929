package conformance

import (
	"errors"
	"fmt"
	"time"

	"github.com/seed-a7bee19b/session"
)

// saveRules are about when a Save writes, when it must not, and when it ends a record.
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

func ruleCreateExisting(p *probe) {
	key := p.key("a")
	v := p.save(key, p.record("1"))
	_, err := p.b.Save(p.ctx, key, p.record("2"))
	p.conflict(err, "creating a record that is there")
	p.save(key, replacing(p.record("3"), v))
	_, err = p.b.Save(p.ctx, key, p.record("4"))
	p.conflict(err, "creating a record that is there and was replaced")
}

func ruleCreateAfterEnd(p *probe) {
	p.kill(true, true, func(how, key string, _ session.Version) {
		if _, err := p.b.Save(p.ctx, key, p.record("new")); err != nil {
			p.Errorf("creating a record where one was %s: %v", how, err)
			return
		}
		if rec := p.load(key); string(rec.Data) != "new" || rec.Expired(p.now()) {
			p.Errorf("created where one was %s: %s", how, describe(rec))
		}
	})
}

func ruleSaveStale(p *probe) {
	key := p.key("a")
	v := p.save(key, p.record("1"))
	p.save(key, replacing(p.record("2"), v))
	for name, stale := range map[string]session.Version{
		"the version before": v,
		"a version made up":  "no such version",
	} {
		if stale == "" {
			continue // it would create
		}
		_, err := p.b.Save(p.ctx, key, replacing(p.record("3"), stale))
		p.conflict(err, "replacing "+name)
	}
}

func ruleSaveStaleIsNotGone(p *probe) {
	key := p.key("a")
	v := p.save(key, p.record("1"))
	p.save(key, replacing(p.record("2"), v))
	for what, stale := range map[string]session.Version{"replacing a version before": v, "creating": ""} {
		if _, err := p.b.Save(p.ctx, key, replacing(p.record("3"), stale)); errors.Is(err, session.ErrNotFound) {
			p.Errorf("%s: there is a record, but the error is ErrNotFound", what)
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
			p.unchanged(key, before, fmt.Sprintf("a Save of version %q that failed (%v)", stale, err))
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
			p.Errorf("the conflict carries %s, stored is %s", describe(current), describe(stored))
		}
		if _, err = p.b.Save(p.ctx, key, replacing(p.record("4"), current.Version)); err != nil {
			p.Errorf("Save with the version that the conflict carries, %q: %v", current.Version, err)
		}
	}
	p.kill(true, false, func(how, key string, v session.Version) {
		var conflict *session.ConflictError
		_, err := p.b.Save(p.ctx, key, replacing(p.record("3"), v))
		if errors.As(err, &conflict) && conflict.Current != nil {
			p.Errorf("replacing a record that was %s: the conflict carries %s", how, describe(*conflict.Current))
		}
	})
}

func ruleSaveAbsent(p *probe) {
	v := p.save(p.key("a"), p.record("1"))
	absent := p.key("absent")
	_, err := p.b.Save(p.ctx, absent, replacing(p.record("2"), v))
	p.conflict(err, "replacing a record that never was")
	if p.alive(absent) {
		p.Error("replacing a record that never was made one")
	}
	p.kill(true, false, p.saveRevivesNothing)
}

func ruleSaveExpired(p *probe) { p.kill(false, true, p.saveRevivesNothing) }

func (p *probe) saveRevivesNothing(how, key string, v session.Version) {
	_, err := p.b.Save(p.ctx, key, replacing(p.record("revived"), v))
	p.conflict(err, "replacing a record that was "+how)
	if p.alive(key) {
		p.Errorf("replacing a record that was %s revived it", how)
	}
}

func ruleSaveEarlier(p *probe) {
	key := p.key("a")
	v := p.save(key, p.record("1"))
	earlier := p.later().Add(-12 * time.Hour)
	p.save(key, replacing(expiring(p.record("2"), earlier), v))
	p.roundedUp("after a Save with an earlier one", p.load(key).Expires, earlier)
}

func ruleSavePast(p *probe) {
	for _, ago := range []time.Duration{2 * time.Second, time.Hour, 20 * 365 * 24 * time.Hour} {
		past := p.now().Add(-ago)
		key := p.key(fmt.Sprint("replaced ", ago))
		v := p.save(key, p.record("1"))
		if _, err := p.b.Save(p.ctx, key, replacing(expiring(p.record("2"), past), v)); err != nil {
			p.Errorf("replacing a record by one that expired %v ago: %v", ago, err)
		}
		if p.alive(key) {
			p.Errorf("a record replaced by one that expired %v ago is alive", ago)
		}
		key = p.key(fmt.Sprint("created ", ago))
		if _, err := p.b.Save(p.ctx, key, expiring(p.record("1"), past)); err != nil {
			p.Errorf("creating a record that expired %v ago: %v", ago, err)
		}
		if p.alive(key) {
			p.Errorf("a record created with an Expires %v ago is alive", ago)
		}
	}
}

func ruleSaveZeroExpires(p *probe) {
	absent := p.key("absent")
	if _, err := p.b.Save(p.ctx, absent, expiring(p.record("1"), time.Time{})); err == nil {
		p.Error("creating a record with a zero Expires: no error")
	}
	if rec, err := p.b.Load(p.ctx, absent); err == nil && string(rec.Data) == "1" {
		p.Error("creating a record with a zero Expires made one")
	}
	key := p.key("a")
	v := p.save(key, p.record("1"))
	before := p.load(key)
	if _, err := p.b.Save(p.ctx, key, replacing(expiring(p.record("2"), time.Time{}), v)); err == nil {
		p.Error("replacing a record by one with a zero Expires: no error")
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
