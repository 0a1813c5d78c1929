package conformance

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/seed-a7bee19b/session"
)

// wantsLocking is the rule for a backend that has to be a LockingBackend.
var wantsLocking = backendRule{name: "LockingBackend", run: ruleLockingBackend, quotes: []string{
	"LockingBackend is a Backend that locks a record in the request that reads it.",
}}

// lockingRules are about contexts and failures in the calls of a
// session.LockingBackend.
var lockingRules = []backendRule{
	{name: "DoneContextAcquire", run: locking(ruleDoneContextAcquire), quotes: doneContext},
	{name: "DoneContextExtend", run: locking(ruleDoneContextExtend), quotes: doneContext},
	{name: "DoneContextRelease", run: locking(ruleDoneContextRelease), quotes: doneContext},
	{name: "ContextEndsLease", run: locking(ruleContextEndsLease), own: true, quotes: []string{
		"What Backend demands of every method applies here too.",
		"Once ctx is done it MUST return promptly,",
	}},
	{name: "StoreFailureLease", run: locking(ruleStoreFailureLease), quotes: []string{
		"What Backend demands of every method applies here too.",
		"A failure of the store MUST be returned as an error that is none of the sentinels of this package;",
	}, needs: canFail, own: true},
}

// A lockingProbe is a probe of a LockingBackend. It has the two clients of the
// probe once more.
type lockingProbe struct {
	*probe
	l, otherL session.LockingBackend
}

// locking makes a rule fail on clients that are no LockingBackend.
func locking(run func(*lockingProbe)) func(*probe) {
	return func(p *probe) {
		p.Helper()
		if _, ok := p.raw.b.(session.LockingBackend); !ok {
			p.Fatalf("New returned a %T that is no session.LockingBackend, and one before that is; want the same each time", p.raw.b)
		}
		if _, ok := p.raw.other.(session.LockingBackend); !ok {
			p.Fatalf("Reopen returned a %T that is no session.LockingBackend, of a %T that is; want the same", p.raw.other, p.raw.b)
		}
		run(&lockingProbe{p, p.b.(session.LockingBackend), p.other.(session.LockingBackend)})
	}
}

// locked reports an error unless err is a *session.LockedError.
func (s *scene) locked(err error, doing string) {
	s.Helper()
	var locked *session.LockedError
	if !errors.As(err, &locked) {
		s.Errorf("%s: got error %v, want a *session.LockedError", doing, err)
	}
}

// lost reports an error unless err says that the holder has lost its lock.
func (s *scene) lost(err error, doing string) {
	s.Helper()
	if !errors.Is(err, session.ErrConflict) || errors.Is(err, session.ErrLocked) {
		s.Errorf("%s: got error %v, want ErrConflict and not ErrLocked", doing, err)
	}
}

// about reports an error unless until is about ttl after a moment between asked
// and now.
func (s *scene) about(until, asked time.Time, ttl time.Duration, what string) {
	s.Helper()
	const slack = 2 * time.Second
	if until.Before(asked.Add(ttl-slack)) || until.After(s.now().Add(ttl+slack)) {
		s.Errorf("%s: the lease runs out in %v, want about its ttl, %v", what, until.Sub(s.now()), ttl)
	}
}

// acquire locks a record that is free.
func (p *lockingProbe) acquire(key string, ttl time.Duration) session.Record {
	p.Helper()
	rec, err := p.l.Acquire(p.ctx, key, ttl)
	if err != nil {
		p.Fatalf("Acquire of a free record: got error %v, want none", err)
	}
	return rec
}

// try makes an Acquire that may be refused.
func (p *lockingProbe) try(l session.LockingBackend, key string, ttl time.Duration) error {
	ctx, cancel := context.WithTimeout(p.ctx, p.patience)
	defer cancel()
	return second(l.Acquire(ctx, key, ttl))
}

// held reports whether the record at key is locked. If it is not, held may lock
// it. One of two signs is enough, so that a backend that lacks the other fails
// only the rule about that.
func (p *lockingProbe) held(key string) bool {
	p.Helper()
	if _, err := p.b.Save(p.ctx, key, p.record("creating over it")); errors.Is(err, session.ErrLocked) {
		return true
	}
	err := p.try(p.l, key, long)
	if errors.Is(err, session.ErrNotFound) {
		p.Fatalf("Acquire of a live record: got error %v, want none or a *session.LockedError", err)
	}
	return err != nil
}

// unlocked reports an error unless the record at key can be locked at once.
func (p *lockingProbe) unlocked(key, after string) {
	p.Helper()
	rec, err := p.b.Load(p.ctx, key)
	if err != nil {
		p.Errorf("Load after %s: got error %v, want none", after, err)
		return
	}
	if rec.LockedUntil.After(p.now()) {
		p.Errorf("Load after %s: got LockedUntil %v from now, want zero or a time that has passed", after, rec.LockedUntil.Sub(p.now()))
	}
	if _, err := p.l.Acquire(p.ctx, key, long); err != nil {
		p.Errorf("Acquire after %s: got error %v, want none", after, err)
	}
}

// afterLoss reports an error unless every call of a former holder says that it
// has lost its lock.
func (p *lockingProbe) afterLoss(l session.LockingBackend, key string, v session.Version, whose string) {
	p.Helper()
	_, err := l.Save(p.ctx, key, replacing(p.record("by the former holder"), v))
	p.lost(err, "Save by the holder "+whose)
	p.lost(l.Extend(p.ctx, key, v, 2*long), "Extend by the holder "+whose)
	p.lost(l.Release(p.ctx, key, v, p.later().Add(time.Hour)), "Release by the holder "+whose)
}

// moved reports whether a lease, which lasts hours, was changed. The store may
// know only how much of it is left, so its end varies a little.
func moved(before, after time.Time) bool { return after.Sub(before).Abs() > time.Minute }

func ruleLockingBackend(p *probe) {
	if _, ok := p.raw.b.(session.LockingBackend); !ok {
		p.Errorf("WantsLocking is set: New returned a %T, want a session.LockingBackend", p.raw.b)
	}
}

func ruleDoneContextAcquire(p *lockingProbe) {
	p.doneContexts("Acquire", func(ctx context.Context, key string, _ session.Record) error {
		_, err := p.l.Acquire(ctx, key, long)
		if errors.Is(second(p.b.Save(p.ctx, key, p.record("2"))), session.ErrLocked) {
			p.Error("an Acquire with a context that is done locked the record, want it free")
		}
		return err
	})
}

// doneContextsLocked is doneContexts for a call of the holder of a lock.
func (p *lockingProbe) doneContextsLocked(call string, f func(ctx context.Context, key string, holder session.Record) error) {
	p.Helper()
	for i, ctx := range doneContexts(p.ctx) {
		key := p.key(fmt.Sprint(i))
		p.save(key, p.record("1"))
		before := p.load(key)
		if err := f(ctx, key, p.acquire(key, long)); !errors.Is(err, ctx.Err()) {
			p.Errorf("%s with a context that is done: got error %v, want one that wraps %v", call, err, ctx.Err())
		}
		if after := p.load(key); !sameContent(after, before) {
			p.Errorf("%s with a context that is done changed the record from %s to %s, want no change", call, describe(before), describe(after))
		}
	}
}

func ruleDoneContextExtend(p *lockingProbe) {
	p.doneContextsLocked("Extend", func(ctx context.Context, key string, holder session.Record) error {
		before := p.load(key).LockedUntil
		err := p.l.Extend(ctx, key, holder.Version, 5*long)
		if after := p.load(key).LockedUntil; moved(before, after) {
			p.Errorf("an Extend with a context that is done moved the end of the lease from %v to %v, want no change", before, after)
		}
		return err
	})
}

func ruleDoneContextRelease(p *lockingProbe) {
	p.doneContextsLocked("Release", func(ctx context.Context, key string, holder session.Record) error {
		err := p.l.Release(ctx, key, holder.Version, holder.Expires.Add(time.Hour))
		if !p.held(key) {
			p.Error("a Release with a context that is done unlocked the record, want it to stay locked")
		}
		return err
	})
}

func ruleContextEndsLease(p *lockingProbe) {
	p.save(p.key("busy"), p.record("1"))
	p.returnsWhenDone(func(ctx context.Context, key string) []func(i int) error {
		return []func(i int) error{
			func(int) error {
				rec, err := p.l.Acquire(ctx, key, long)
				if err == nil {
					err = errors.Join(p.l.Extend(ctx, key, rec.Version, long), p.l.Release(ctx, key, rec.Version, rec.Expires))
				}
				return err
			},
			func(int) error { return p.l.Extend(ctx, key, "no such version", long) },
			func(int) error { return p.l.Release(ctx, key, "no such version", time.Time{}) },
		}
	})
}

func ruleStoreFailureLease(p *lockingProbe) {
	free, locked, absent := p.key("free"), p.key("locked"), p.key("absent")
	p.save(free, p.record("1"))
	p.save(locked, p.record("1"))
	former := p.acquire(locked, long).Version
	_ = p.l.Release(p.ctx, locked, former, time.Time{})
	holder, err := p.l.Acquire(p.ctx, locked, long)
	if err != nil {
		return // rule Release reports it
	}
	v := holder.Version
	p.failures(func(ctx context.Context) []namedCall {
		return []namedCall{
			{"Acquire", func() error { return second(p.l.Acquire(ctx, free, long)) }},
			{"Acquire of a locked record", func() error { return second(p.l.Acquire(ctx, locked, long)) }},
			{"Acquire at an absent key", func() error { return second(p.l.Acquire(ctx, absent, long)) }},
			{"Extend", func() error { return p.l.Extend(ctx, locked, v, long) }},
			{"Extend of another's lock", func() error { return p.l.Extend(ctx, locked, former, long) }},
			{"Release", func() error { return p.l.Release(ctx, locked, v, p.later().Add(time.Hour)) }},
			{"Release at an absent key", func() error { return p.l.Release(ctx, absent, v, time.Time{}) }},
			{"Save under another's lock", func() error { return second(p.b.Save(ctx, locked, p.record("2"))) }},
		}
	})
}
