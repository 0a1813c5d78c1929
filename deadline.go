package session

import (
	"context"
	"errors"
	"time"

	"github.com/seed-a7bee19b/session/observe"
)

// due returns when the session ends by the timeouts as configured now.
func (s *Session) due(now time.Time) time.Time { return s.m.due(s.stored.rec, s.stored.used, now) }

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
	return left, left > shortestUse && s.m.deadline(due, s.stored.rec.Created).After(due)
}

// prolong runs from the timer of a use.
func (s *Session) prolong() {
	s.use.during(s.m.moveTimeout(), func(ctx context.Context) (left time.Duration, again bool) {
		// If it fails, it may succeed the next time.
		if err := s.exclusively(ctx, time.Time{}, func() error { return s.move(ctx) }); err != nil && ctx.Err() != nil {
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
	expires, due := s.m.deadline(now, s.stored.rec.Created), s.due(now)
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
