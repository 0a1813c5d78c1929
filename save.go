package session

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/seed-a7bee19b/session/observe"
)

// Save stores the changes of s, if there are any. The session stays open. A
// handler need not call it: the Handler saves before the response starts.
//
// Cost: nothing for an unchanged session within [Config.TouchInterval] of the
// last write, 1 Touch after that; 1 Save for changes, and 1 more for each
// conflict; 2 Saves after Rotate or Login, and with an index of owners 1 Load and
// 1 Save more for each owner, as after the first changes of a session that another
// program has logged in. Several requests of this process that save the same
// session take turns, and each has one conflict at most, unless other processes
// write the session too. In mode [Exclusive], Save frees the lock: with the same
// request, or with 1 Release if nothing changed.
//
// Save fails with [ErrNotFound] if the session was destroyed, got a new ID or
// expired in the meantime, with [ErrConflict] if other requests kept changing it,
// with [ErrLockTimeout] if it stayed locked, with [ErrLockLost], with
// [ErrSessionLimit] after a Login, with [ErrTooLarge], with the error of a function
// of [Key.TryUpdate], or with [ErrStore]. The changes are then still pending: call
// Save again, or [Session.Discard]. If ErrStore leaves open whether they were
// stored, and the session has been changed since, a second Save returns that error
// again rather than apply a [Key.Update] twice.
func (s *Session) Save(ctx context.Context) error {
	return s.with(ctx, "save", func() error {
		if s.closed.Load() {
			return ErrClosed
		}
		err := s.outcome(s.save(ctx, limits{}))
		if err == nil && s.client == nil {
			s.use.end()
		}
		return err
	})
}

// Close ends the use of s: it drops unsaved changes, moves the idle deadline if
// it is time, and frees the lock. So a deferred Close after an error leaves the
// stored session as it is. Closing twice is no error.
//
// Cost: nothing; 1 Touch if [Config.TouchInterval] has passed; 1 Release in
// mode [Exclusive] if it was not saved.
func (s *Session) Close(ctx context.Context) error {
	s.use.end()
	return s.with(ctx, "close", func() error {
		defer s.end()
		defer s.unlock(ctx)
		if s.closed.Load() {
			return nil
		}
		s.set(func() { s.discard(); s.closed.Store(true) })
		return s.outcome(s.save(ctx, limits{}))
	})
}

// limits are the deadlines of a save whose context has none. A context for them
// is made only when it is needed, because most saves do not wait. Zero is no
// limit.
type limits struct {
	try time.Duration // for each try
	all time.Time     // when to give up
}

// next is the deadline of a try that begins now.
func (l limits) next() time.Time {
	if l.try == 0 {
		return l.all
	}
	return earlier(l.all, time.Now().Add(l.try))
}

// save stores the changes, if there are any, and frees the lock that the session
// holds. If other writers or a lock are in its way, it waits for its turn. After
// an error the changes are still pending, and the lock is still held.
func (s *Session) save(ctx context.Context, limit limits) error {
	var err error
	if !s.lineUp() {
		if err = within(ctx, limit.next(), s.commit); !s.inTheWay(err) {
			return err
		}
	}
	return within(ctx, limit.all, func(ctx context.Context) error { return s.saveInTurn(ctx, limit, err) })
}

// outcome returns err, the error of a save. If err says that nothing was written,
// and something may have been, it returns that error instead.
func (s *Session) outcome(err error) error {
	if errors.Is(err, ErrLockTimeout) && (s.saving.unknown != nil || s.saving.moving != nil) {
		return s.notKnown()
	}
	return err
}

// lineUp reports whether to wait for a turn without trying first. If other requests
// of this process wait already, a try would end in a conflict; and a rotation is
// two writes, which others should not interrupt.
func (s *Session) lineUp() bool {
	return s.isStored() && s.hold == nil && s.saving.moving == nil && s.changed() && (s.renewal != sameID || s.m.writers.Busy(s.stored.key))
}

// inTheWay reports whether err says that other requests kept a try from saving.
func (s *Session) inTheWay(err error) bool {
	if err == nil {
		return false // without an allocation
	}
	var conflict *ConflictError
	switch {
	case errors.Is(err, ErrLocked):
		return true
	case s.renewal != sameID, s.hold != nil, !s.isStored(), !errors.As(err, &conflict):
		return false
	}
	return !conflict.Gone
}

// saveInTurn saves after the requests of this process that came earlier. Each
// applies its changes to what the one before has stored, and so has conflicts
// with other processes only. err is the error of a first try, if there was one.
func (s *Session) saveInTurn(ctx context.Context, limit limits, err error) error {
	if s.hold != nil { // then another request has the lock by now
		return s.hold.lose(err)
	}
	queue, key := &s.m.writers, s.stored.key
	w := s.m.newWait(key)
	t, werr := queue.Enter(ctx, key, math.MaxInt, w.deadline, s.m.cfg.CommitTimeout, !errors.Is(err, ErrLocked))
	if werr != nil {
		return lockError(lineError(werr), &LockedError{})
	}
	stored := t.Done
	t.Done = nil
	s.saving.turn = &t
	defer func() {
		s.saving.turn = nil
		w.leave()
		queue.Leave(key, &t)
	}()
	if stored != nil { // then it was not locked a moment ago
		w = s.m.newWait(key)
		queue.Moves(key, &t, true)
	}
	if lk := &s.m.cfg.Lock; stored != nil && t.StandBack {
		if err := sleep(ctx, lk.MaxRetry+lk.MinRetry); err != nil {
			return err
		}
	}
	for conflicts := 0; ; {
		if errors.Is(err, ErrConflict) {
			conflicts++
		}
		switch {
		case stored != nil && s.saving.moving == nil:
			err = s.adopt(ctx, *stored)
		case errors.Is(err, ErrLocked):
			err = s.untilFree(ctx, w, err)
		case t.Waited: // the record that came with a conflict is old by now
			err = within(ctx, limit.next(), s.reload)
		case err != nil:
			err = within(ctx, limit.next(), func(ctx context.Context) error { return s.catchUp(ctx, err, conflicts-1) })
		}
		stored, t.Waited = nil, false
		if s.stored.key != w.key { // it goes on under a new ID, with others
			w.leave()
			w = s.m.newWait(s.stored.key)
		}
		if err != nil || !s.changed() {
			return err // or others have stored the same
		}
		if err = within(ctx, limit.next(), s.commit); !s.inTheWay(err) {
			if err == nil {
				s.merged(ctx, conflicts)
			}
			return err
		}
		queue.Moves(key, &t, !errors.Is(err, ErrLocked))
	}
}

// untilFree waits until the lock that a save has met is free, and applies the
// changes to the record that is stored then.
func (s *Session) untilFree(ctx context.Context, w *wait, locked error) error {
	if err := w.enter(ctx); err != nil {
		return lockError(err, locked)
	}
	rec, err := w.untilFree(ctx)
	switch {
	case errors.Is(err, ErrNotFound):
		return &ConflictError{Gone: true}
	case err != nil:
		return lockError(err, locked)
	case s.saving.moving != nil: // the record may be our own marker
		return nil
	}
	return s.adopt(ctx, rec)
}

// commit is save without waiting: it fails with ErrLocked.
func (s *Session) commit(ctx context.Context) error {
	if h := s.hold; h != nil {
		if err := h.check(); err != nil {
			if s.saving.unknown != nil {
				return s.notKnown()
			}
			return err
		}
		h.write(true)
		defer h.write(false)
	}
	p := s.times().plan(s.situation())
	if p.step == doSettle {
		if err := s.settleMove(ctx); err != nil {
			return err
		}
		p = s.times().plan(s.situation())
	}
	switch p.step {
	case doWrite:
		err := s.saveChanges(ctx)
		s.saving.failed = uncertain(err) && !errors.Is(err, ErrTooLate)
		return err
	case doRestamp:
		if err := s.restamp(ctx); !errors.Is(err, ErrTooLarge) {
			return err
		}
		if s.hold != nil {
			return s.release(ctx, p.expires)
		}
		return s.touch(ctx, p.expires)
	case doRelease:
		return s.release(ctx, p.expires)
	case doTouch:
		return s.touch(ctx, p.expires)
	}
	if p.spared {
		s.set(func() { s.stored.fresh = true })
		s.m.event(ctx, observe.Event{Kind: observe.EventTouchSkipped})
	}
	return nil
}

// saveChanges stores the changes.
func (s *Session) saveChanges(ctx context.Context) error {
	if !s.isStored() {
		err := s.create(ctx)
		if err == nil {
			s.useAnew()
		}
		return err
	}
	if s.times().expired(s.stored.rec, time.Now()) {
		// The deadline that we know has passed. Another request may have
		// moved it; if not, nothing may be written.
		if err := s.reload(ctx); err != nil {
			return err
		}
	}
	for try := 0; ; try++ {
		store := s.rotate
		switch s.renewal {
		case sameID:
			store = s.replace
		case byAge:
			store = s.renew
		}
		err := store(ctx)
		if !errors.Is(err, errOverAtOnce) {
			return err
		}
		if err := s.m.end(ctx, s.stored.key, s.stored.rec.Version); unlessGone(err) == nil {
			s.unlocked(ctx)
			return fmt.Errorf("%w: %w", &ConflictError{Gone: true}, errOverAtOnce)
		} else if err = s.catchUp(ctx, err, try); err != nil { // so that nothing else is saved later
			return err
		}
	}
}
