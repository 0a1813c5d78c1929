package conformance

import (
	"context"
	"errors"
	"time"

	"github.com/seed-a7bee19b/session"
)

// lateRules are about requests that arrive when their senders have given up,
// for a store that can hold them back.
var lateRules = []backendRule{
	{name: "LateCreate", run: ruleLateCreate, own: true, wide: true, needs: canHold, quotes: []string{
		"a Save that creates MUST NOT be sent a second time once an attempt may have been applied: a Delete could come between the two.",
		"Once it has returned, no Save with an older version and no Touch may bring the record back.",
	}},
	{name: "LateSave", run: ruleLateSave, own: true, wide: true, needs: canHold, quotes: append(lateNoSentinel,
		"A retry inside the backend after a lost response MUST NOT report the caller's own first attempt as a conflict.",
	)},
	{name: "LateTouch", run: ruleLateTouch, own: true, wide: true, needs: canHold, quotes: append(lateNoSentinel,
		"Once it has returned, no Save with an older version and no Touch may bring the record back.",
	)},
	{name: "LateSaveAfterEnd", run: ruleLateSaveAfterEnd, waits: true, own: true, wide: true, needs: canHold, quotes: lateAfterEnd},
	{name: "LateTouchAfterEnd", run: ruleLateTouchAfterEnd, waits: true, own: true, wide: true, needs: canHold, quotes: lateAfterEnd},
	{name: "LateAfterGoneSave", run: ruleLateAfterGoneSave, waits: true, own: true, wide: true, needs: canHold, quotes: lateAfterGone},
	{name: "LateAfterGoneTouch", run: ruleLateAfterGoneTouch, waits: true, own: true, wide: true, needs: canHold, quotes: lateAfterGone},
}

var lateLockingRules = []backendRule{
	{name: "LateLocked", run: locking(ruleLateLocked), own: true, wide: true, needs: canHold, quotes: append(lateNoSentinel,
		"a write that a retry finds refused by a lock fails with an error of the store, as the lock may be freed before the first attempt arrives.",
	)},
	{name: "LateAcquire", run: locking(ruleLateAcquire), own: true, wide: true, needs: canHold, quotes: append(lateNoSentinel,
		"A retry inside the backend after a lost response MUST NOT report the caller's own lock as another holder's.",
	)},
}

var lateAfterEnd = []string{
	"Either way, a Save of that version or a Touch that arrives after that MUST NOT be applied, " +
		"however long it was on its way and whatever the clock of its sender.",
}

var lateAfterGone = []string{
	"Once Load, Save or Touch has said that a record is gone, a Save with an older version or a Touch MUST NOT bring it back, " +
		"however late it arrives and whatever the clock of its sender.",
}

var lateNoSentinel = []string{
	"As long as such a request could still be applied, the call MUST NOT end with a sentinel that says that nothing was written:",
}

func canHold(b Backend) bool { return b.Hold != nil }

// hold has the next write of p.b arrive only when deliver is called.
func (p *probe) hold() (deliver func()) {
	p.Helper()
	deliver = p.backend.Hold(p, p.raw.b)
	p.Cleanup(deliver)
	return deliver
}

// given is a context for a call of which the first attempt is not answered.
// Backends may or may not send another in that time.
func (p *probe) given() (context.Context, context.CancelFunc) {
	return context.WithTimeout(p.ctx, 3*time.Second)
}

func ruleLateCreate(p *probe) {
	for _, deleted := range []bool{true, false} {
		key := p.key("kept")
		if deleted {
			key = p.key("deleted")
		}
		deliver := p.hold()
		ctx, cancel := p.given()
		v, err := p.b.Save(ctx, key, p.record("1"))
		cancel()
		if isSentinel(err) {
			p.Errorf("creating, when the first attempt is on its way: got error %v, which says that nothing was written", err)
		}
		if !deleted {
			deliver()
			rec, loadErr := p.other.Load(p.ctx, key)
			if err == nil && (loadErr != nil || rec.Version != v) {
				p.Errorf("creating: no error, then Load: %v, version %q, want %q", loadErr, rec.Version, v)
			}
			continue
		}
		if err == nil {
			if err := p.other.Delete(p.ctx, key); err != nil {
				p.Fatalf("Delete: %v", err)
			}
		}
		deliver()
		if err == nil && p.aliveAt(p.other, key) {
			p.Error("the first attempt to create a record arrived after the Delete of what a second one made, and created it again")
		}
	}
}

func ruleLateSave(p *probe) {
	key := p.key("a")
	v := p.save(key, p.record("1"))
	deliver := p.hold()
	ctx, cancel := p.given()
	saved, err := p.b.Save(ctx, key, replacing(p.record("2"), v))
	cancel()
	if isSentinel(err) {
		p.Errorf("a Save of which the first attempt is on its way, with nobody else: got error %v", err)
	}
	if err == nil {
		// Somebody else goes on from there, and is not overwritten.
		next, err := p.other.Save(p.ctx, key, replacing(p.record("3"), saved))
		if err != nil {
			p.Fatalf("Save with the version that a Save returned: %v", err)
		}
		deliver()
		if rec := p.load(key); string(rec.Data) != "3" || rec.Version != next {
			p.Errorf("the first attempt at a Save arrived late and was applied over %q: %q", "3", rec.Data)
		}
	}
	deliver()

	key = p.key("deleted")
	v = p.save(key, p.record("1"))
	deliver = p.hold()
	ctx, cancel = p.given()
	_, _ = p.b.Save(ctx, key, replacing(p.record("2"), v))
	cancel()
	if err := p.other.Delete(p.ctx, key); err != nil {
		p.Fatalf("Delete: %v", err)
	}
	deliver()
	if p.aliveAt(p.other, key) {
		p.Error("a Save that arrived after a Delete has brought the record back")
	}
}

func ruleLateTouch(p *probe) {
	for _, deleted := range []bool{true, false} {
		key := p.key("kept")
		if deleted {
			key = p.key("deleted")
		}
		until := p.later().Add(time.Hour)
		v := p.save(key, p.record("1"))
		deliver := p.hold()
		ctx, cancel := p.given()
		err := p.b.Touch(ctx, key, until)
		cancel()
		if isSentinel(err) {
			p.Errorf("a Touch of which the first attempt is on its way: got error %v", err)
		}
		if deleted {
			if err := p.other.Delete(p.ctx, key); err != nil {
				p.Fatalf("Delete: %v", err)
			}
			deliver()
			if p.aliveAt(p.other, key) {
				p.Error("a Touch that arrived after a Delete has brought the record back")
			}
			continue
		}
		// What was saved meanwhile, with a later deadline, stays.
		last := until.Add(time.Hour)
		next, err := p.other.Save(p.ctx, key, replacing(expiring(p.record("2"), last), v))
		if err != nil {
			p.Fatalf("Save with the version from before a Touch: %v", err)
		}
		deliver()
		if rec := p.load(key); string(rec.Data) != "2" || rec.Version != next || rec.Expires.Before(last) {
			p.Errorf("a Touch to %v that arrived after a Save with Expires %v: %s, %q", until, last, describe(rec), rec.Data)
		}
	}
}

func ruleLateSaveAfterEnd(p *probe) {
	p.lateAfterEnd("Save", func(ctx context.Context, key string, v session.Version) error {
		return second(p.b.Save(ctx, key, replacing(p.record("late"), v)))
	})
}

func ruleLateTouchAfterEnd(p *probe) {
	p.lateAfterEnd("Touch", func(ctx context.Context, key string, _ session.Version) error {
		return p.b.Touch(ctx, key, p.later().Add(time.Hour))
	})
}

func ruleLateAfterGoneSave(p *probe) {
	p.lateAfterGone("Save", func(key string, v session.Version) error {
		return second(p.other.Save(p.ctx, key, replacing(p.record("2"), v)))
	})
}

func ruleLateAfterGoneTouch(p *probe) {
	p.lateAfterGone("Touch", func(key string, _ session.Version) error { return p.other.Touch(p.ctx, key, p.later()) })
}

// lateAfterGone sends requests, has another call say that the record is gone
// when its deadline has passed, and lets the requests arrive.
func (p *probe) lateAfterGone(teller string, tell func(key string, v session.Version) error) {
	for what, send := range map[string]func(ctx context.Context, key string, v session.Version) error{
		"Save": func(ctx context.Context, key string, v session.Version) error {
			return second(p.b.Save(ctx, key, replacing(p.record("late"), v)))
		},
		"Touch": func(ctx context.Context, key string, _ session.Version) error {
			return p.b.Touch(ctx, key, p.later().Add(time.Hour))
		},
	} {
		key, soon := p.key(what), p.soon()
		v := p.save(key, expiring(p.record("1"), soon))
		deliver := p.hold()
		// Too short for a second attempt, mostly.
		ctx, cancel := context.WithTimeout(p.ctx, 100*time.Millisecond)
		sendErr := send(ctx, key, v)
		cancel()
		p.wait(soon)
		gone := sendErr != nil && errors.Is(tell(key, v), session.ErrNotFound) // or a second attempt has done it
		deliver()
		if gone && p.aliveAt(p.other, key) {
			p.Errorf("a %s has said that the record is gone; then a %s arrived that was sent before, and was applied", teller, what)
		}
	}
}

// lateAfterEnd sends a request, ends the record, and lets the request arrive.
func (p *probe) lateAfterEnd(what string, send func(ctx context.Context, key string, v session.Version) error) {
	past := p.now().Add(-time.Hour)
	for _, due := range []bool{false, true} {
		key, expires := p.key("live"), p.later()
		if due {
			key, expires = p.key("due"), p.soon()
		}
		v := p.save(key, expiring(p.record("1"), expires))
		deliver := p.hold()
		// Too short for a second attempt, mostly.
		ctx, cancel := context.WithTimeout(p.ctx, 100*time.Millisecond)
		sendErr := send(ctx, key, v)
		cancel()
		if due {
			p.wait(expires)
		}
		rec, err := p.other.Load(p.ctx, key)
		if sendErr != nil && err == nil && rec.Version == v && rec.Expires.Equal(expires) { // or a second attempt has done it
			_, err := p.other.Save(p.ctx, key, replacing(expiring(p.record("end"), past), v))
			if err != nil && !errors.Is(err, session.ErrConflict) {
				p.Errorf("ending a record, with a %s on its way: %v", what, err)
			}
		}
		deliver()
		if sendErr != nil && (errors.Is(err, session.ErrNotFound) || rec.Version == v && rec.Expires.Equal(expires)) && p.aliveAt(p.other, key) {
			p.Errorf("a %s arrived after the end of its record, or its deadline, and was applied", what)
		}
	}
}

func ruleLateLocked(p *lockingProbe) {
	for _, what := range []string{"Save", "ending Save"} {
		key := p.key(what)
		v := p.save(key, p.record("1"))
		rec := replacing(p.record("2"), v)
		if what == "ending Save" {
			rec.Expires = p.now().Add(-time.Hour)
		}
		deliver := p.hold()
		holder, err := p.otherL.Acquire(p.ctx, key, long)
		if err != nil {
			p.Fatalf("Acquire by another client, while a write of this one is to be held: %v", err)
		}
		ctx, cancel := p.given()
		_, err = p.b.Save(ctx, key, rec)
		cancel()
		switch {
		case err == nil:
			p.Errorf("a %s, of which the first attempt is on its way, under another's lock: no error", what)
		case isSentinel(err):
			p.Errorf("a %s, of which the first attempt is on its way and the second meets a lock: got error %v, which says that nothing was written", what, err)
		}
		if err := p.otherL.Release(p.ctx, key, holder.Version, time.Time{}); err != nil {
			p.Fatalf("Release: %v", err)
		}
		deliver() // and it may be applied, as the caller was told
	}
}

func ruleLateAcquire(p *lockingProbe) {
	key := p.key("a")
	p.save(key, p.record("1"))
	deliver := p.hold()
	ctx, cancel := p.given()
	holder, err := p.l.Acquire(ctx, key, long)
	cancel()
	if isSentinel(err) {
		p.Errorf("an Acquire of which the first attempt is on its way, with nobody else: got error %v", err)
	}
	deliver()
	if err == nil {
		// The first attempt found the lock of the second: its own.
		if err := p.l.Extend(p.ctx, key, holder.Version, long); err != nil {
			p.Errorf("Extend of a lock, of which a first attempt has arrived since: %v", err)
		}
		if err := p.try(p.otherL, key, long); !errors.Is(err, session.ErrLocked) {
			p.Errorf("Acquire of a record that is locked, by an attempt that was repeated: got error %v, want ErrLocked", err)
		}
	}
}
