package session

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/seed-a7bee19b/session/internal/changes"
	"github.com/seed-a7bee19b/session/observe"
)

// times returns the timeouts of the session as it is stored.
func (s *Session) times() timeouts { return s.m.lifetimes.by(s.stored.own) }

// due returns when the session ends by the timeouts as configured now.
func (s *Session) due(now time.Time) time.Time {
	return s.times().due(s.stored.rec, s.stored.used, now)
}

// touch moves the deadline to expires.
func (s *Session) touch(ctx context.Context, expires time.Time) error {
	err := s.touchAll(ctx, expires)
	switch {
	case errors.Is(err, ErrNotFound):
		return nil // ended by another request, and nothing to save
	case err != nil:
		s.notMoved(ctx, err)
		return err
	}
	s.set(func() { s.stored.rec.Expires, s.stored.fresh = expires, true })
	return nil
}

// notMoved tells the observer that the deadline could not be moved, unless the
// caller has given up.
func (s *Session) notMoved(ctx context.Context, err error) {
	if !errors.Is(ctx.Err(), context.Canceled) {
		s.m.event(ctx, observe.Event{Kind: observe.EventTouchFailed, Err: err})
	}
}

// beginUse starts the use of s. Outside of HTTP the use lasts as long as ctx, and
// there is none if ctx cannot end.
func (s *Session) beginUse(ctx context.Context) {
	if s.client == nil && ctx.Done() == nil {
		return
	}
	var left time.Duration
	useful := false
	s.set(func() { left, useful = s.timeLeft() })
	if useful {
		s.use.begin(ctx, left, s.client == nil, s.prolong)
	}
}

// useAnew lets the use of s in a handler go on with a deadline that may be earlier than
// the one it began with. Elsewhere a Save ends the use.
func (s *Session) useAnew() {
	if s.client != nil {
		s.beginUse(s.ctx)
	}
}

// shortestUse is too short a time to move a deadline. It also ends the tries of a
// use, each of which has a third of the time of the one before.
const shortestUse = time.Millisecond

// timeLeft returns how long s has to live, and whether a use can give it more.
func (s *Session) timeLeft() (left time.Duration, useful bool) {
	if !s.isStored() {
		return 0, false
	}
	now := time.Now()
	due := s.due(now)
	left = due.Sub(now)
	return left, left > shortestUse && s.times().deadline(due, s.stored.rec.Created).After(due)
}

// prolong runs from the timer of a use.
func (s *Session) prolong() {
	s.use.during(s.m.moveTimeout(), func(ctx context.Context) (left time.Duration, again bool) {
		// If it fails, it may succeed the next time.
		if err := s.exclusively(ctx, time.Time{}, func() error { return s.move(ctx) }); err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
			s.m.rest()
		}
		s.set(func() { left, again = s.timeLeft() })
		return left, again
	})
}

// move moves the deadline of a session in use, if that gives it more time than
// it has left.
func (s *Session) move(ctx context.Context) error {
	now := time.Now()
	expires, due := s.times().deadline(now, s.stored.rec.Created), s.due(now)
	switch {
	case s.closed.Load() || !s.isStored() || s.mode.get() == ReadOnly || expires.Sub(due) <= due.Sub(now):
		return nil
	case expires.Before(s.stored.rec.Expires) && !s.stored.apart && s.hold == nil && s.saving.moving == nil:
		return s.restamp(ctx)
	case expires.After(s.stored.rec.Expires):
		return s.touch(ctx, expires)
	}
	return nil
}

// SetLifetime gives the session a lifetime of its own, in place of the one that it
// has; the zero Lifetime is that of the [Config]. Like a value, it is stored at the
// next save, and if two requests set it at once, the later one wins. Absolute counts
// from when the session began, or from its last Login. A later Login sets the
// lifetime anew, and Rotate and Clear keep it. A lifetime alone does not make a new
// session worth storing: it waits until there is data.
//
// The cookie follows: the response sends it again, with the same token, if its end is
// no longer the one that it had when the request read the session.
//
// A shorter Idle counts from the save. But a request that had read the session before
// that, and changes nothing, may still move the deadline by the longer one. Log in
// again, or [Session.Rotate], to prevent that.
//
// SetLifetime fails as [Session.Set] does; if l is above the ceilings or
// contradictory, see [Lifetime]; if Absolute has passed already, in which case
// [Session.Destroy] ends the session; and with [ErrTooLate] if the cookie would have
// to follow and the response has started. If it fails, nothing has changed.
//
// If the session is listed in the index of owners, a longer Absolute also gives it
// a new ID, as [Session.Rotate] does.
//
// Cost: that of a Set. A session with a lifetime of its own has about 60 bytes more
// in the store.
func (s *Session) SetLifetime(l Lifetime) error {
	data, err := s.m.encodeLifetime(l)
	if err != nil {
		return wrap("set lifetime", err)
	}
	return s.edit("set lifetime", "", func() error {
		times, now := s.m.lifetimes.of(&l), time.Now()
		switch {
		case s.isStored() && s.renewal != newLogin && times.over(s.stored.rec, now):
			return fmt.Errorf("the session began %v ago, and Absolute is %v", now.Sub(s.stored.rec.Created), times.absolute)
		case s.late() && s.m.cookieTerm(&l) != s.m.cookieTerm(s.stored.own.life):
			return ErrTooLate
		}
		if s.outlivesListing(times) {
			if s.late() {
				return ErrTooLate
			}
			s.renewal = max(s.renewal, newID)
		}
		s.changes.Put(lifetimeName, changes.Edit{Data: data})
		return nil
	})
}

// outlivesListing reports whether the session would be over later than the index of
// owners knows. A new ID lists it anew.
func (s *Session) outlivesListing(t timeouts) bool {
	until := s.stored.own.until
	return s.isStored() && !until.IsZero() &&
		(t.absolute < 0 || s.stored.rec.Created.Add(t.absolute).After(until))
}

// Lifetime returns the lifetime in effect, with every default filled in: that of the
// [Config], or the one that [Session.SetLifetime] or [Login] has set, saved or not, cut
// to the ceilings. Each timeout is positive or [Never]. It fails with [ErrClosed], or
// with [ErrNotFound] if the session has a new ID.
func (s *Session) Lifetime() (Lifetime, error) {
	var text string
	ok, err := s.get(lifetimeName, &text)
	var l Lifetime
	if ok && err == nil {
		if l, err = parseLifetime(text); err != nil {
			err = fmt.Errorf("%w: %w", ErrDecode, err)
		}
	}
	if err != nil {
		return Lifetime{}, wrap("lifetime", err)
	}
	times := s.m.lifetimes.of(&l)
	return Lifetime{times.idle, times.absolute, l.Persistent || s.m.cfg.Cookie.Persistent}, nil
}

// shortened reports whether the lifetime among values makes the deadline of a use
// earlier than the stored lifetime does.
func (s *Session) shortened(values map[string][]byte) bool {
	own, _ := s.m.terms(values) // record has decoded them
	is, was := s.m.lifetimes.by(own), s.times()
	if is == was {
		return false
	}
	now, created := time.Now(), s.stored.rec.Created
	return is.deadline(now, created).Before(was.deadline(now, created))
}

// errOverAtOnce says that the lifetime with which a session is to be saved is over, and
// that the session must end.
var errOverAtOnce = fmt.Errorf("%w: its lifetime is over", ErrNotFound)
