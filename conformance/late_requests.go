package conformance

import (
	"context"
	"errors"
	"time"

	"github.com/seed-a7bee19b/session"
)

// lateRules are about requests that arrive after their senders have given up.
// They need Hold.
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

// hold keeps back the next write of p.b until deliver is called.
func (p *probe) hold() (deliver func()) {
	p.Helper()
	deliver = p.backend.Hold(p, p.raw.b)
	p.Cleanup(deliver)
	return deliver
}

// retrying returns a context for a call whose first attempt is not answered. It
// leaves a backend the time to send a second one.
func (p *probe) retrying() (context.Context, context.CancelFunc) {
	return context.WithTimeout(p.ctx, 3*time.Second)
}

func ruleLateCreate(p *probe) {
	for _, deleted := range []bool{true, false} {
		key := p.key("kept")
		if deleted {
			key = p.key("deleted")
		}
		deliver := p.hold()
		ctx, cancel := p.retrying()
		v, err := p.b.Save(ctx, key, p.record("1"))
		cancel()
		if isSentinel(err) {
			p.Errorf("Save that creates a record, with its first attempt in flight: got error %v, want none or one that is no sentinel: it may still be applied", err)
		}
		if !deleted {
			deliver()
			rec, loadErr := p.other.Load(p.ctx, key)
			if err == nil && (loadErr != nil || rec.Version != v) {
				p.Errorf("Load after a Save that created a record and returned version %q, when its first attempt has arrived: got error %v, version %q", v, loadErr, rec.Version)
			}
			continue
		}
		if err == nil {
			if err := p.other.Delete(p.ctx, key); err != nil {
				p.Fatalf("Delete of a live record: got error %v, want none", err)
			}
		}
		deliver()
		if err == nil && p.aliveAt(p.other, key) {
			p.Error("the first attempt of a Save arrived after a Delete of the record that a second attempt had created, and created it again; want one attempt only")
		}
	}
}

func ruleLateSave(p *probe) {
	key := p.key("a")
	v := p.save(key, p.record("1"))
	deliver := p.hold()
	ctx, cancel := p.retrying()
	saved, err := p.b.Save(ctx, key, replacing(p.record("2"), v))
	cancel()
	if isSentinel(err) {
		p.Errorf("Save that replaces a record, with its first attempt in flight and no other writer: got error %v, want none or one that is no sentinel", err)
	}
	if err == nil {
		// The next Save of another client is not overwritten.
		next, err := p.other.Save(p.ctx, key, replacing(p.record("3"), saved))
		if err != nil {
			p.Fatalf("Save with the version that a Save returned: got error %v, want none", err)
		}
		deliver()
		if rec := p.load(key); string(rec.Data) != "3" || rec.Version != next {
			p.Errorf("Load when the first attempt of a Save has arrived late: got Data %q, version %q; want the record that was saved since, \"3\", %q", rec.Data, rec.Version, next)
		}
	}
	deliver()

	key = p.key("deleted")
	v = p.save(key, p.record("1"))
	deliver = p.hold()
	ctx, cancel = p.retrying()
	_, _ = p.b.Save(ctx, key, replacing(p.record("2"), v))
	cancel()
	if err := p.other.Delete(p.ctx, key); err != nil {
		p.Fatalf("Delete of a live record: got error %v, want none", err)
	}
	deliver()
	if p.aliveAt(p.other, key) {
		p.Error("a Save that arrived after a Delete brought the record back, want it to stay deleted")
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
		ctx, cancel := p.retrying()
		err := p.b.Touch(ctx, key, until)
		cancel()
		if isSentinel(err) {
			p.Errorf("Touch with its first attempt in flight: got error %v, want none or one that is no sentinel", err)
		}
		if deleted {
			if err := p.other.Delete(p.ctx, key); err != nil {
				p.Fatalf("Delete of a live record: got error %v, want none", err)
			}
			deliver()
			if p.aliveAt(p.other, key) {
				p.Error("a Touch that arrived after a Delete brought the record back, want it to stay deleted")
			}
			continue
		}
		// A record that was saved meanwhile, with a later deadline, stays.
		last := until.Add(time.Hour)
		next, err := p.other.Save(p.ctx, key, replacing(expiring(p.record("2"), last), v))
		if err != nil {
			p.Fatalf("Save with the version from before a Touch: got error %v, want none", err)
		}
		deliver()
		if rec := p.load(key); string(rec.Data) != "2" || rec.Version != next || rec.Expires.Before(last) {
			p.Errorf("Load when a Touch with Expires %v has arrived after a Save with Expires %v: got %s, Data %q; want the record as it was saved", until, last, describe(rec), rec.Data)
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

// lateAfterGone sends requests, makes a call that fails because the record's
// deadline has passed, and lets the requests arrive.
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
		// In most cases this is too short for a second attempt.
		ctx, cancel := context.WithTimeout(p.ctx, 100*time.Millisecond)
		sendErr := send(ctx, key, v)
		cancel()
		p.wait(soon)
		gone := sendErr != nil && errors.Is(tell(key, v), session.ErrNotFound) // else a second attempt was applied
		deliver()
		if gone && p.aliveAt(p.other, key) {
			p.Errorf("a %s failed with ErrNotFound; then a %s arrived that was sent before the deadline, and made the record live again; want it to stay gone", teller, what)
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
		// In most cases this is too short for a second attempt.
		ctx, cancel := context.WithTimeout(p.ctx, 100*time.Millisecond)
		sendErr := send(ctx, key, v)
		cancel()
		if due {
			p.wait(expires)
		}
		rec, err := p.other.Load(p.ctx, key)
		if sendErr != nil && err == nil && rec.Version == v && rec.Expires.Equal(expires) { // else a second attempt was applied
			_, err := p.other.Save(p.ctx, key, replacing(expiring(p.record("end"), past), v))
			if err != nil && !errors.Is(err, session.ErrConflict) {
				p.Errorf("Save that ends a record, with a %s in flight: got error %v, want none or a conflict", what, err)
			}
		}
		deliver()
		if sendErr != nil && (errors.Is(err, session.ErrNotFound) || rec.Version == v && rec.Expires.Equal(expires)) && p.aliveAt(p.other, key) {
			p.Errorf("a %s arrived after the record had ended, and made it live again; want it to stay dead", what)
		}
	}
}

func ruleLateLocked(p *lockingProbe) {
	for _, what := range []string{"Save", "Save that ends a record"} {
		key := p.key(what)
		v := p.save(key, p.record("1"))
		rec := replacing(p.record("2"), v)
		if what != "Save" {
			rec.Expires = p.now().Add(-time.Hour)
		}
		deliver := p.hold()
		holder, err := p.otherL.Acquire(p.ctx, key, long)
		if err != nil {
			p.Fatalf("Acquire of a free record, by another client: got error %v, want none", err)
		}
		ctx, cancel := p.retrying()
		_, err = p.b.Save(ctx, key, rec)
		cancel()
		switch {
		case err == nil:
			p.Errorf("%s under another's lock, with its first attempt in flight: got no error, want one", what)
		case isSentinel(err):
			p.Errorf("%s under another's lock, with its first attempt in flight: got error %v, want one that is no sentinel: it may still be applied", what, err)
		}
		if err := p.otherL.Release(p.ctx, key, holder.Version, time.Time{}); err != nil {
			p.Fatalf("Release of a lock that is held: got error %v, want none", err)
		}
		deliver() // it may be applied: the caller does not know
	}
}

func ruleLateAcquire(p *lockingProbe) {
	key := p.key("a")
	p.save(key, p.record("1"))
	deliver := p.hold()
	ctx, cancel := p.retrying()
	holder, err := p.l.Acquire(ctx, key, long)
	cancel()
	if isSentinel(err) {
		p.Errorf("Acquire with its first attempt in flight and no other holder: got error %v, want none or one that is no sentinel", err)
	}
	deliver()
	if err == nil {
		// The first attempt has found the lock of the second, which is its own.
		if err := p.l.Extend(p.ctx, key, holder.Version, long); err != nil {
			p.Errorf("Extend of a lock, when a first attempt to acquire it has arrived late: got error %v, want none", err)
		}
		if err := p.try(p.otherL, key, long); !errors.Is(err, session.ErrLocked) {
			p.Errorf("Acquire of a locked record, when a first attempt of its holder has arrived late: got error %v, want ErrLocked", err)
		}
	}
}
