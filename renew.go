package session

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/seed-a7bee19b/session/observe"
)

// shortestRenewAfter and longestOverlap bound the settings. A marker has to outlive
// the overlap.
const (
	shortestRenewAfter = time.Minute
	defaultOverlap     = 30 * time.Second
	longestOverlap     = markerLife
)

func (c *Config) renewDefaults(p *problems) {
	if c.RenewOverlap == 0 {
		c.RenewOverlap = defaultOverlap
	}
	switch {
	case c.RenewOverlap < time.Second || c.RenewOverlap > longestOverlap:
		p.bad("RenewOverlap is %v; it must be from 1s to %v", c.RenewOverlap, longestOverlap)
	case c.RenewAfter == 0:
	case c.RenewAfter < shortestRenewAfter:
		p.bad("RenewAfter is %v; it must be at least %v, or 0", c.RenewAfter, shortestRenewAfter)
	case c.RenewAfter <= c.RenewOverlap:
		p.bad("RenewAfter is %v; it must be longer than RenewOverlap, which is %v", c.RenewAfter, c.RenewOverlap)
	case c.AbsoluteTimeout != Never && c.RenewAfter >= c.AbsoluteTimeout:
		p.bad("RenewAfter is %v; no session gets that old, as AbsoluteTimeout is %v", c.RenewAfter, c.AbsoluteTimeout)
	}
}

// overdue reports whether the session has had its ID for RenewAfter.
func (s *Session) overdue() bool {
	after := s.m.cfg.RenewAfter
	return after > 0 && s.isStored() && time.Since(s.stored.rec.Created) >= s.stored.renewed+after
}

// renewedNow returns how long after its Created the session gets an ID now, 0 if
// that is not to be stored. It fails rather than have every response renew the ID.
func (s *Session) renewedNow() (time.Duration, error) {
	if s.renewal == newLogin || s.m.cfg.RenewAfter == 0 {
		return 0, nil
	}
	renewed := max(0, time.Since(s.stored.rec.Created).Truncate(time.Second))
	if s.renewal == byAge && renewed > 0 && s.m.encodeSeconds(renewed) == nil {
		return 0, fmt.Errorf("%w: the codec makes nothing of an int64", ErrEncode)
	}
	return renewed, nil
}

// aged reports whether the response is to give s a new ID because of its age. It
// leaves that to another request that holds the lock or, if there is nothing else to
// store, to those that are saving the session.
func (x *exchange) aged(s *Session, changed bool) bool {
	if !s.overdue() || s.mode.get() == ReadOnly || x.gone() != nil {
		return false
	}
	return s.hold != nil || !s.stored.rec.LockedUntil.After(time.Now()) && (changed || !s.m.writers.Busy(s.stored.key))
}

// renew gives the session a new ID because of its age. If that fails, the old ID
// stays good, and everything else is done as if it had not been tried.
func (s *Session) renew(ctx context.Context) error {
	changed := s.changes.Any()
	try, cancel := ctx, func() {}
	if end, ok := ctx.Deadline(); ok && changed { // leaves time for the changes
		try, cancel = context.WithTimeout(ctx, time.Until(end)/2)
	}
	defer cancel()
	err := s.tryRenew(try)
	if err == nil || s.saving.moving != nil || s.renewal != byAge {
		return err
	}
	s.set(func() { s.renewal = sameID })
	if isAny(err, ErrTooLarge, ErrEncode, errNotListed) || uncertain(err) && !errors.Is(err, ErrTooLate) {
		s.notRenewed(ctx, err)
	}
	return s.commit(ctx)
}

// tryRenew is renew that fails. A Locker keeps out only requests that ask it, so it
// asks: the holder of the lock must find its session under its ID.
func (s *Session) tryRenew(ctx context.Context) error {
	if s.hold != nil || s.m.locker == nil || !s.m.locks.Load() {
		return s.rotate(ctx)
	}
	key := s.stored.key
	lease, rec, err := s.m.acquire(ctx, key, s.m.cfg.Lock.TTL)
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.m.moveTimeout())
		defer cancel()
		_ = lease.release(ctx, time.Time{}) // else it runs out
	}()
	if rec.Version != s.stored.rec.Version {
		if err := s.adopt(ctx, rec); err != nil {
			return err
		}
		if s.renewal != byAge || s.stored.key != key { // another request has renewed it
			return s.rest(ctx)
		}
	}
	return s.rotate(ctx)
}

// notRenewed tells the observer that the session could not get a new ID. Those of the
// next seconds are not tried if the store is in trouble.
func (s *Session) notRenewed(ctx context.Context, err error) {
	if uncertain(err) || errors.Is(err, context.DeadlineExceeded) {
		s.m.rest()
	}
	s.m.event(ctx, observe.Event{Kind: observe.EventRenewFailed, Err: err})
}

// touchAll moves the deadline of the record under the session's ID. If another request
// may have renewed the ID, it does so with every record on the way to the new one, so
// that this request finds the way.
func (s *Session) touchAll(ctx context.Context, expires time.Time) error {
	key, token := s.stored.key, *s.stored.token
	for range maxTrail {
		var to *movedError
		if s.hold == nil && s.overdue() {
			var err error
			if _, to, err = s.m.find(ctx, key, nil); err != nil {
				return err
			}
		}
		if err := s.m.touch(ctx, key, expires); err != nil || to == nil {
			return err
		}
		next, ok := s.next(to, token, true)
		if !ok {
			return nil
		}
		token, key = next, to.key
	}
	return nil
}

// An unsure is the token of a session that was opened under an old ID. It may have
// got yet another one since, whose cookie must not be displaced.
type unsure struct {
	token   string
	version Version // as it was opened
}

// follows remembers it if s was opened with the token alive and is under another ID.
func (x *exchange) follows(s *Session, alive string) {
	if alive == "" || *s.stored.token == alive {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.unsure = &unsure{*s.stored.token, s.stored.rec.Version}
}

// confirm finds out, as the response starts, whether the session is still under the
// ID that it was opened under. If the request has saved it, it is.
func (x *exchange) confirm(ctx context.Context) {
	x.mu.Lock()
	s, unsure := x.s, x.unsure
	x.mu.Unlock()
	if s == nil || unsure == nil {
		return
	}
	s.mu.Lock()
	stored, same := s.stored, s.isStored() && *s.stored.token == unsure.token
	s.mu.Unlock()
	if !same {
		return
	}
	if stored.rec.Version == unsure.version {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), x.m.moveTimeout())
		defer cancel()
		if _, to, err := x.m.find(ctx, stored.key, nil); to != nil || err != nil {
			return // the client can come under the old ID again
		}
	}
	x.mu.Lock()
	x.unsure = nil
	x.mu.Unlock()
}
