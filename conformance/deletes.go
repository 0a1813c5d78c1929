package conformance

import (
	"errors"
	"time"

	"github.com/seed-a7bee19b/session"
)

// deleteRules are about Delete.
var deleteRules = []backendRule{
	{name: "Delete", run: ruleDelete, quotes: []string{
		"Delete removes the record, whatever its version,",
	}},
	{name: "DeleteAbsent", run: ruleDeleteAbsent, quotes: []string{
		"An absent record MUST NOT be an error.",
	}},
	{name: "DeleteUnseen", run: ruleDeleteUnseen, wide: true, quotes: []string{
		"Delete removes the record, whatever its version, and whatever of it this client has seen.",
	}},
}

func ruleDelete(p *probe) {
	once, often, other := p.key("once"), p.key("often"), p.key("other")
	p.save(once, p.record("1"))
	v := p.save(often, p.record("1"))
	p.save(often, replacing(p.record("2"), v))
	p.save(other, p.record("1"))
	before := p.load(other)
	for _, key := range []string{once, often} {
		if err := p.b.Delete(p.ctx, key); err != nil {
			p.Errorf("Delete of a live record: got error %v, want none", err)
		}
		if p.alive(key) {
			p.Error("Load after Delete returned a live record, want none")
		}
	}
	p.unchanged(other, before, "a Delete at another key")
}

func ruleDeleteAbsent(p *probe) {
	if err := p.b.Delete(p.ctx, p.key("absent")); err != nil {
		p.Errorf("Delete at a key that never had a record: got error %v, want none", err)
	}
	p.kill(true, false, func(_, key string, _ session.Version) {
		if err := p.b.Delete(p.ctx, key); err != nil {
			p.Errorf("second Delete at a key: got error %v, want none", err)
		}
	})
}

func ruleDeleteUnseen(p *probe) {
	for what, see := range map[string]func(b session.Backend, key string, v session.Version) error{
		"a Load of the state before": func(b session.Backend, key string, _ session.Version) error { return second(b.Load(p.ctx, key)) },
		"a conflict": func(b session.Backend, key string, _ session.Version) error {
			_, _ = b.Save(p.ctx, key, p.record("conflict"))
			return nil
		},
		"a Save of its own": func(b session.Backend, key string, v session.Version) error {
			return second(b.Save(p.ctx, key, replacing(p.record("2"), v)))
		},
		"a Touch": func(b session.Backend, key string, _ session.Version) error {
			return b.Touch(p.ctx, key, p.later().Add(time.Minute))
		},
		"nothing": func(session.Backend, string, session.Version) error { return nil },
	} {
		key := p.key(what)
		if _, err := p.other.Load(p.ctx, key); !errors.Is(err, session.ErrNotFound) {
			return // rule LoadAbsent reports it
		}
		v := p.save(key, p.record("1"))
		if err := see(p.other, key, v); err != nil {
			p.Fatalf("%s, before a Delete: got error %v, want none", what, err)
		}
		rec := p.load(key)
		p.save(key, replacing(p.record("3"), rec.Version))
		if err := p.b.Touch(p.ctx, key, p.later().Add(time.Hour)); err != nil {
			p.Fatalf("Touch of a live record: got error %v, want none", err)
		}
		if err := p.other.Delete(p.ctx, key); err != nil {
			p.Errorf("Delete of a record that another client has replaced since this client saw %s: got error %v, want none", what, err)
		}
		if p.alive(key) {
			p.Errorf("Delete left a record that another client has replaced since this client saw %s, want it gone", what)
		}
	}
}
