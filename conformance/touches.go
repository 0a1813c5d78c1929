package conformance

import (
	"errors"
	"time"

	"github.com/seed-a7bee19b/session"
)

// touchRules are about Touch.
var touchRules = []backendRule{
	{name: "Touch", run: ruleTouch, waits: true, quotes: []string{
		"Touch moves Expires forward;",
		"It MUST keep a record until its Expires;",
	}},
	{name: "TouchKeeps", run: ruleTouchKeeps, quotes: []string{
		"Touch moves Expires forward; it MUST NOT change data, Created or version.",
	}},
	{name: "TouchEarlier", run: ruleTouchEarlier, quotes: []string{
		"An Expires that is not later than the stored one MUST be a no-op that returns nil.",
	}},
	{name: "TouchAbsent", run: ruleTouchAbsent, quotes: []string{
		"If there is no record, or its Expires has passed, it MUST fail with ErrNotFound and revive nothing.",
		"Once it has returned, no Save with an older version and no Touch may bring the record back.",
	}},
	{name: "TouchExpired", run: ruleTouchExpired, waits: true, quotes: []string{
		"If there is no record, or its Expires has passed, it MUST fail with ErrNotFound and revive nothing.",
		"it is dead at once, and for ever.",
	}},
}

func ruleTouch(p *probe) {
	suffix, soon := p.inTime(func(suffix string, soon time.Time) error {
		key := p.key(suffix)
		p.save(key, expiring(p.record("1"), soon))
		return p.b.Touch(p.ctx, key, soon.Add(time.Minute))
	})
	key := p.key(suffix)
	p.roundedUp("touched", p.load(key).Expires, soon.Add(time.Minute))
	for _, expires := range []time.Time{soon.Add(time.Minute + time.Second + time.Millisecond), p.later()} {
		if err := p.b.Touch(p.ctx, key, expires); err != nil {
			p.Fatalf("Touch with a later Expires: got error %v, want none", err)
		}
		p.roundedUp("touched", p.load(key).Expires, expires)
	}
	p.wait(soon)
	if !p.alive(key) {
		p.Error("a record was dropped at its old Expires, which a Touch had moved; want it to be live")
	}
}

func ruleTouchKeeps(p *probe) {
	key := p.key("a")
	v := p.save(key, p.record("1"))
	before := p.load(key)
	if err := p.b.Touch(p.ctx, key, p.later().Add(time.Hour)); err != nil {
		p.Fatalf("Touch with a later Expires: got error %v, want none", err)
	}
	after := p.load(key)
	after.Expires = before.Expires
	if string(after.Data) != string(before.Data) || !after.Created.Equal(before.Created) || after.Version != before.Version {
		p.Errorf("Touch changed the record from %s to %s, want no change but in Expires", describe(before), describe(after))
	}
	if _, err := p.b.Save(p.ctx, key, replacing(p.record("2"), v)); err != nil {
		p.Errorf("Save with the version from before a Touch: got error %v, want none", err)
	}
}

func ruleTouchEarlier(p *probe) {
	key := p.key("a")
	p.save(key, p.record("1"))
	before := p.load(key)
	for _, expires := range []time.Time{
		before.Expires, before.Expires.Add(-time.Millisecond), before.Expires.Add(-time.Hour), p.now().Add(-time.Hour), {},
	} {
		if err := p.b.Touch(p.ctx, key, expires); err != nil {
			p.Errorf("Touch with an Expires that is not later, %v: got error %v, want none", expires, err)
		}
		if got := p.load(key).Expires; !got.Equal(before.Expires) {
			p.Errorf("a Touch with an Expires that is not later, %v, changed it from %v to %v, want no change", expires, before.Expires, got)
		}
	}
}

func ruleTouchAbsent(p *probe) {
	p.touchRevivesNothing("absent", p.key("absent"), "")
	p.kill(true, false, p.touchRevivesNothing)
}

func ruleTouchExpired(p *probe) { p.kill(false, true, p.touchRevivesNothing) }

func (p *probe) touchRevivesNothing(how, key string, _ session.Version) {
	if err := p.b.Touch(p.ctx, key, p.later()); !errors.Is(err, session.ErrNotFound) {
		p.Errorf("Touch of a record that was %s: got error %v, want ErrNotFound", how, err)
	}
	if p.alive(key) {
		p.Errorf("a Touch of a record that was %s made it live, want it to stay dead", how)
	}
}
