package session

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/seed-a7bee19b/session/internal/changes"
	"github.com/seed-a7bee19b/session/observe"
)

// Save stores the changes of s, if there are any. The session stays open.
// In a handler it is not needed: the Handler saves before the response starts.
//
// Cost: nothing for an unchanged session within [Config.TouchInterval] of the
// last write, 1 Touch after that; 1 Save for changes, and one more for each
// conflict; 2 Saves after Rotate or Login. Where several requests of this
// process save one session, they do so in turn, and each has one conflict at
// most, unless other processes write it too. In mode [Exclusive] it frees the
// lock: with the same Save, or with 1 Release if nothing changed.
//
// It fails with [ErrNotFound] if the session was destroyed, got a new ID or
// has expired in the meantime, with [ErrConflict] if it was changed by others
// again and again, with [ErrLockTimeout] if it stays locked, with [ErrLockLost],
// with [ErrTooLarge], or with the store's error. The changes are then still
// pending: call Save again, or [Session.Discard]. If the store's error leaves
// open whether they were stored, and somebody has changed the session since,
// a second Save returns that error again rather than apply a [Key.Update]
// twice.
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

// Close ends the use of s: what was not saved is dropped, the idle deadline is
// moved if it is time, and a lock is freed. So a deferred Close after an
// error leaves what is stored as it is. Closing twice is no error.
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

// with runs f as the only one at work with the store for s.
func (s *Session) with(ctx context.Context, what string, f func() error) error {
	return wrap(what, s.exclusively(ctx, time.Time{}, f))
}

// limits are the deadlines of a save whose ctx has none. There are contexts
// for them only while they are needed, as most saves wait for nobody. Zero is
// no limit.
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

// save stores what there is to store, and frees the lock that the session
// holds. Where other writers or a lock are in its way, it waits for its turn.
// After an error the changes are still pending, and a lock is still held.
func (s *Session) save(ctx context.Context, limit limits) error {
	var err error
	if !s.lineUp() {
		if err = within(ctx, limit.next(), s.commit); !s.inTheWay(err) {
			return err
		}
	}
	return within(ctx, limit.all, func(ctx context.Context) error { return s.saveInTurn(ctx, limit, err) })
}

// outcome returns err, with which a save failed, unless that says that nothing
// was written and it may have been.
func (s *Session) outcome(err error) error {
	if errors.Is(err, ErrLockTimeout) && (s.saving.unknown != nil || s.saving.moving != nil) {
		return s.notKnown()
	}
	return err
}

// lineUp reports whether to wait for a turn without a try: where others of this
// process do already, a try would end in a conflict, one's own or theirs; and a
// rotation is two writes, between which nobody should come.
func (s *Session) lineUp() bool {
	return s.isStored() && s.hold == nil && s.saving.moving == nil && s.changed() && (s.renewal != sameID || s.m.writers.Busy(s.stored.key))
}

// inTheWay reports whether err, of a try to save, says that others were.
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

// saveInTurn saves when those of this process who came earlier have done so.
// Each applies its changes to what the one before it has stored, and so meets
// the writers of other processes only. err is that of a first try, if there was
// one.
func (s *Session) saveInTurn(ctx context.Context, limit limits, err error) error {
	if s.hold != nil { // so the lock is another's by now
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
	if stored != nil { // so it was not locked a moment ago
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
			err = s.adopt(*stored)
		case errors.Is(err, ErrLocked):
			err = s.untilFree(ctx, w, err)
		case t.Waited: // what a conflict has brought is old by now
			err = within(ctx, limit.next(), s.reload)
		case err != nil:
			err = within(ctx, limit.next(), func(ctx context.Context) error { return s.catchUp(ctx, err, conflicts-1) })
		}
		stored, t.Waited = nil, false
		if err != nil || !s.changed() {
			return err // or what others stored is what we would have
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

// untilFree waits until nobody holds the lock that a save has met, and takes
// over what is stored then.
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
	case s.saving.moving != nil: // it may be our own marker
		return nil
	}
	return s.adopt(rec)
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
	p := s.m.plan(s.situation())
	if p.step == settle {
		if err := s.settleMove(ctx); err != nil {
			return err
		}
		p = s.m.plan(s.situation())
	}
	switch p.step {
	case write:
		err := s.saveChanges(ctx)
		s.saving.failed = uncertain(err) && !errors.Is(err, ErrTooLate)
		return err
	case restamp:
		if err := s.restamp(ctx); !errors.Is(err, ErrTooLarge) {
			return err
		}
		if s.hold != nil {
			return s.release(ctx, p.expires)
		}
		return s.touch(ctx, p.expires)
	case release:
		return s.release(ctx, p.expires)
	case touch:
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
		return s.create(ctx)
	}
	if s.m.expired(s.stored.rec, time.Now()) {
		// The deadline that we know has passed. Another request may have
		// moved it; if not, nothing may be written.
		if err := s.reload(ctx); err != nil {
			return err
		}
	}
	if s.renewal != sameID {
		return s.rotate(ctx)
	}
	return s.replace(ctx)
}

// create stores a session that never was, if it has data.
func (s *Session) create(ctx context.Context) error {
	values := s.changes.Values()
	switch {
	case s.origin != nil && s.origin.barred && s.renewal != newLogin:
		return fmt.Errorf("%w: %w", &ConflictError{Gone: true}, errMoved)
	case len(values) == 0:
		return nil
	case s.late():
		return ErrTooLate
	}
	rec, err := s.record(contents{values: values, trail: s.stored.trail}, time.Now())
	if err != nil {
		return err
	}
	token, key, v, err := s.m.create(ctx, rec)
	if err != nil {
		return err
	}
	rec.Version = v
	if s.origin != nil && s.changes.Base() != nil {
		if err := s.inherit(ctx, key, v); err != nil {
			return err
		}
	}
	s.set(func() { s.stored.token, s.stored.key, s.origin = &token, key, nil })
	s.settle(ctx, observe.EventSessionCreated, rec, values)
	if s.client != nil {
		s.beginUse(s.ctx)
	}
	return nil
}

// create stores rec under a new ID. Where it is not known whether it has, it
// does so under another one, as the first may still be on its way: what arrives
// when the session has been ended by then must not be one that anybody has the
// ID of.
func (m *core) create(ctx context.Context, rec Record) (token, key string, v Version, err error) {
	const most = 5
	var abandoned []string
	for {
		token = newToken()
		key = m.cfg.StoreKey(token)
		v, err = m.save(ctx, key, rec)
		if !uncertain(err) || len(abandoned) == most-1 || backoff(ctx, len(abandoned)) != nil {
			break
		}
		abandoned = append(abandoned, key)
	}
	if err == nil {
		for _, key := range abandoned {
			m.remove(ctx, key)
		}
	}
	return token, key, v, err
}

// replace stores the session where it is.
func (s *Session) replace(ctx context.Context) error {
	values := s.changes.Values()
	rec, err := s.record(contents{values: values, trail: s.stored.trail}, s.stored.rec.Created)
	if err != nil {
		return err
	}
	rec.Version = s.stored.rec.Version
	// A deadline that is later than ours is that of a use since we read it, or
	// by a clock that is ahead, unless a longer timeout has made it.
	_, by := s.m.behind(s.stored.rec, s.stored.used, time.Now())
	rec.KeepLater = by >= 0
	if rec.Version, err = s.m.save(ctx, s.stored.key, rec); err != nil {
		return s.refused(ctx, err)
	}
	s.settle(ctx, observe.EventSessionSaved, rec, values)
	if s.saving.turn != nil {
		s.saving.turn.Done = &Record{Data: rec.Data, Created: rec.Created, Expires: rec.Expires, Version: rec.Version}
	}
	return nil
}

// record makes a record of c that is used now.
func (s *Session) record(c contents, created time.Time) (Record, error) {
	now := time.Now()
	rec := Record{Created: created, Expires: s.m.deadline(now, created)}
	c.used = rec.Expires.Sub(now)
	data, err := s.m.join(c)
	if err != nil {
		return Record{}, err
	}
	rec.Data = data
	return rec, nil
}

// settle takes over what has been stored.
func (s *Session) settle(ctx context.Context, kind observe.EventKind, rec Record, values map[string][]byte) {
	size := len(rec.Data)
	rec.Data = nil
	if rec.KeepLater && s.stored.rec.Expires.After(rec.Expires) {
		rec.Expires = s.stored.rec.Expires
	}
	s.set(func() {
		s.stored.rec, s.stored.used, s.stored.fresh, s.stored.apart = rec, s.m.stamp(), true, false
		s.changes, s.renewal = changes.On(values), sameID
		s.saving.unknown, s.saving.failed = nil, false
	})
	s.m.event(ctx, observe.Event{Kind: kind, N: size})
	s.unlocked(ctx)
}

func (s *Session) merged(ctx context.Context, conflicts int) {
	if conflicts > 0 {
		s.m.event(ctx, observe.Event{Kind: observe.EventMerged, N: conflicts})
	}
}

// refused takes the error of a Save, and returns that for the caller. A
// conflict that may be tried again is returned as it is.
func (s *Session) refused(ctx context.Context, err error) error {
	if uncertain(err) {
		s.saving.unknown = err
	}
	var conflict *ConflictError
	if !errors.As(err, &conflict) || !conflict.Gone && s.hold == nil {
		return err
	}
	conflict.Current = nil // not for the caller of Save
	switch {
	case conflict.Gone:
		// It may be there, past its deadline by the clock that the store went
		// by: then nobody may revive it either.
		if eerr := s.m.end(ctx, s.stored.key, s.stored.rec.Version); uncertain(eerr) {
			return eerr
		}
		s.unlocked(ctx)
		return err
	case s.saving.unknown != nil:
		return s.notKnown()
	case s.m.locking != nil:
		return s.hold.lose(err) // as nobody can write under a lock that is held
	}
	if lost := s.hold.check(); lost != nil {
		return lost
	}
	return err // of somebody who does not lock: what this request has read is no longer true
}

// catchUp takes the error of a Save. After a conflict that may be tried again
// it applies the changes to what is stored now, and returns nil.
func (s *Session) catchUp(ctx context.Context, err error, try int) error {
	err = s.refused(ctx, err)
	var conflict *ConflictError
	if !errors.As(err, &conflict) || conflict.Gone || s.hold != nil {
		return err
	}
	current := conflict.Current
	conflict.Current = nil // not for the caller of Save
	switch {
	case try >= s.m.cfg.MaxMerges:
		return fmt.Errorf("%w (%d times in a row)", err, try+1)
	case try == 0 && current != nil:
		return s.adopt(*current)
	}
	// Others are busy with this session. Step back, and then look again, as
	// what the conflict brought is old by then.
	if werr := backoff(ctx, try); werr != nil {
		return fmt.Errorf("%w, while retrying after: %w", werr, err)
	}
	return s.reload(ctx)
}

// notKnown is the error of a Save that cannot tell whether an earlier one was
// applied.
func (s *Session) notKnown() error {
	err := s.saving.unknown
	if s.saving.moving != nil {
		err = s.saving.moving.err
	}
	return fmt.Errorf("it is not known whether the changes were stored: %w", err)
}

// reload takes over what is stored now. It fails if there is no live session.
func (s *Session) reload(ctx context.Context) error {
	holder := s.hold != nil && s.m.locking != nil
	asked := time.Now()
	rec, err := s.m.load(ctx, s.stored.key)
	for looks := 0; err == nil && s.m.expired(rec, asked); looks++ {
		if holder {
			rec.Version = s.stored.rec.Version // the one that counts
		}
		rec, asked, err = s.conclude(ctx, rec, asked, looks)
	}
	if errors.Is(err, ErrNotFound) {
		s.unlocked(ctx)
		return &ConflictError{Gone: true}
	} else if err != nil {
		return err
	}
	if holder { // the data is as it was
		s.set(func() { s.stored.rec.Expires = rec.Expires })
		return nil
	}
	return s.adopt(rec)
}

// adopt makes rec what the changes apply to.
func (s *Session) adopt(rec Record) error {
	if s.saving.unknown != nil && rec.Version != s.stored.rec.Version && s.changes.Depend() {
		// What is stored may be what an earlier Save of ours has made.
		return s.notKnown()
	}
	var err error
	if s.mode.get() == LastWrite {
		// All of this session replaces all of theirs, so the base stays; but
		// it must not replace what Rotate left behind.
		var theirs contents
		if theirs, err = s.m.split(rec); err == nil {
			rec.Data = nil
			s.set(func() { s.stored.rec, s.stored.used, s.stored.apart = rec, theirs.used, true })
		}
	} else {
		err = s.rebase(rec)
	}
	if errors.Is(err, errMoved) {
		return fmt.Errorf("%w: %w", &ConflictError{Gone: true}, errMoved)
	}
	return err
}
