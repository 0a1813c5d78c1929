package session

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/seed-a7bee19b/session/internal/changes"
	"github.com/seed-a7bee19b/session/observe"
)

// create stores a session that was never stored, if it has data.
func (s *Session) create(ctx context.Context) error {
	values := s.changes.Values()
	switch {
	case s.origin != nil && s.origin.barred && s.renewal != newLogin:
		return fmt.Errorf("%w: %w", &ConflictError{Gone: true}, errMoved)
	case len(values) == 0 || len(values) == 1 && values[lifetimeName] != nil:
		return nil // a lifetime is not worth a record
	case s.late():
		return ErrTooLate
	}
	if joined, err := s.join(ctx); joined || err != nil {
		return err
	}
	created := time.Now()
	values, err := s.m.limited(values, created)
	if err != nil {
		return err
	}
	rec, err := s.record(contents{values: values, trail: s.stored.trail}, created)
	if err != nil {
		return err
	}
	token, key, v, err := s.m.create(ctx, rec)
	if err != nil {
		return err
	}
	rec.Version = v
	if err := s.enlist(ctx, values, key); err != nil {
		s.m.remove(ctx, key)
		return err
	}
	if s.origin != nil && s.changes.Base() != nil {
		if err := s.inherit(ctx, token, key, v); err != nil {
			return err
		}
	}
	s.set(func() { s.stored.token, s.stored.key, s.origin = &token, key, nil })
	s.settle(ctx, observe.EventSessionCreated, rec, values)
	return nil
}

// create stores rec under a new ID. If it is not known whether it was stored, the
// request may still be in flight, so create draws another ID: a record that
// arrives after the session has ended must not have an ID that a client has.
func (m *core) create(ctx context.Context, rec Record) (token, key string, v Version, err error) {
	const most = 5
	var abandoned []string
	for {
		if token, err = m.cfg.Tokens.draw(); err != nil {
			break
		}
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

// replace stores the session under the ID that it has.
func (s *Session) replace(ctx context.Context) error {
	values := s.changes.Values()
	listed, err := s.adoptOwner(ctx, values)
	if err != nil {
		return s.refused(ctx, err)
	}
	if listed != nil {
		if err := s.replaceBy(ctx, listed); !errors.Is(err, ErrTooLarge) {
			return err
		}
	}
	return s.replaceBy(ctx, values)
}

// replaceBy is replace with values.
func (s *Session) replaceBy(ctx context.Context, values map[string][]byte) error {
	rec, err := s.record(s.contents(values), s.stored.rec.Created)
	if err != nil {
		return err
	}
	rec.Version = s.stored.rec.Version
	// A deadline that is later than ours comes from a use since we read it, or from a
	// clock that is ahead, unless a longer timeout of the Config or of this session has
	// made it.
	_, by := s.behind()
	rec.KeepLater = by >= 0 && !s.shortened(values)
	if rec.Version, err = s.m.save(ctx, s.stored.key, rec); err != nil {
		return s.refused(ctx, err)
	}
	s.settle(ctx, observe.EventSessionSaved, rec, values)
	if s.saving.turn != nil {
		s.saving.turn.Done = &Record{Data: rec.Data, Created: rec.Created, Expires: rec.Expires, Version: rec.Version}
	}
	return nil
}

// restamp brings forward a deadline that a longer timeout has made, which a Touch
// cannot. If another request is at work with the session, it leaves that to it.
func (s *Session) restamp(ctx context.Context) error {
	rec, err := s.record(s.contents(s.changes.Base()), s.stored.rec.Created)
	if err == nil {
		rec.Version = s.stored.rec.Version
		rec.Version, err = s.m.save(ctx, s.stored.key, rec)
	}
	switch {
	case err == nil:
		rec.Data = nil
		s.set(func() { s.stored.rec, s.stored.used, s.stored.fresh = rec, s.times().stamp(), true })
		s.unlocked(ctx)
		s.useAnew()
	case s.hold != nil && errors.Is(err, ErrNotFound):
		s.unlocked(ctx)
		return nil
	case s.hold != nil && errors.Is(err, ErrConflict):
		return s.hold.lose(err)
	case isAny(err, ErrConflict, ErrLocked, errOverAtOnce):
		return nil
	case !errors.Is(err, ErrTooLarge):
		s.notMoved(ctx, err)
	}
	return err
}

// contents returns those of the session under the ID that it has, with values.
func (s *Session) contents(values map[string][]byte) contents {
	return contents{values: values, trail: s.stored.trail, renewed: s.stored.renewed}
}

// record returns a record of c for a session that is used now. It fails with
// errOverAtOnce if the lifetime among the values has ended such a session already.
func (s *Session) record(c contents, created time.Time) (Record, error) {
	own, err := s.m.terms(c.values)
	if err != nil {
		return Record{}, err
	}
	now := time.Now()
	rec := Record{Created: created, Expires: s.m.lifetimes.by(own).deadline(now, created)}
	if own != (terms{}) && rec.Expired(now) {
		return Record{}, errOverAtOnce
	}
	c.used = rec.Expires.Sub(now)
	data, err := s.m.join(c)
	if err != nil {
		return Record{}, err
	}
	rec.Data = data
	return rec, nil
}

// settle makes the stored record the state of the session.
func (s *Session) settle(ctx context.Context, kind observe.EventKind, rec Record, values map[string][]byte) {
	size := len(rec.Data)
	rec.Data = nil
	if rec.KeepLater && s.stored.rec.Expires.After(rec.Expires) {
		rec.Expires = s.stored.rec.Expires
	}
	before := s.times()
	own, _ := s.m.terms(values) // record has decoded them
	s.set(func() {
		s.stored.rec, s.stored.own, s.stored.fresh, s.stored.apart = rec, own, true, false
		s.stored.used = s.times().stamp()
		s.changes, s.renewal = changes.On(values), sameID
		s.saving.unknown, s.saving.failed = nil, false
	})
	if s.times() != before {
		s.useAnew()
	}
	s.m.event(ctx, observe.Event{Kind: kind, N: size})
	s.unlocked(ctx)
}

func (s *Session) merged(ctx context.Context, conflicts int) {
	if conflicts > 0 {
		s.m.event(ctx, observe.Event{Kind: observe.EventMerged, N: conflicts})
	}
}

// refused returns the error to report for err, the error of a Save. It returns a
// conflict that may be tried again as it is.
func (s *Session) refused(ctx context.Context, err error) error {
	if uncertain(err) {
		s.saving.unknown = err
		s.set(s.changes.Doubt)
	}
	var conflict *ConflictError
	if !errors.As(err, &conflict) || !conflict.Gone && s.hold == nil {
		return err
	}
	current := conflict.Current
	conflict.Current = nil // not for the caller of Save
	switch {
	case conflict.Gone:
		// The record may be there, past its deadline by the store's clock: no
		// other request may revive it.
		if eerr := s.m.end(ctx, s.stored.key, s.stored.rec.Version); uncertain(eerr) {
			return eerr
		}
		s.unlocked(ctx)
		return err
	case s.saving.unknown != nil:
		return s.notKnown()
	case s.m.locking != nil:
		return s.hold.lose(err) // nobody can write under a lock that is held
	}
	if lost := s.hold.check(); lost != nil {
		return lost
	}
	if current, ok := s.leadsOn(ctx, current); ok { // the lock is that of the old ID
		s.unlock(ctx)
		conflict.Current = current
	}
	return err // a request without a lock has changed it
}

// catchUp handles err, the error of a Save. After a conflict that may be tried
// again, it applies the changes to the current record and returns nil.
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
		return s.adopt(ctx, *current)
	}
	// Other requests are busy with this session. Step back, and then load it, as
	// the record that came with the conflict is old by then.
	if werr := backoff(ctx, try); werr != nil {
		return fmt.Errorf("%w, while retrying after: %w", werr, err)
	}
	return s.reload(ctx)
}

// notKnown is the error of a Save if it is not known whether an earlier one was
// applied.
func (s *Session) notKnown() error {
	err := s.saving.unknown
	if s.saving.moving != nil {
		err = s.saving.moving.err
	}
	return fmt.Errorf("it is not known whether the changes were stored: %w", err)
}

// reload applies the changes to the record that is stored now. It fails if there is
// no live session.
func (s *Session) reload(ctx context.Context) error {
	holder := s.hold != nil && s.m.locking != nil
	rec, err := s.current(ctx, s.stored.key)
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
	return s.adopt(ctx, rec)
}

// current loads the record at key. It fails with ErrNotFound if that is no live
// session, after it has ended one that has expired.
func (s *Session) current(ctx context.Context, key string) (Record, error) {
	asked := time.Now()
	rec, err := s.m.load(ctx, key)
	for looks := 0; err == nil && s.m.timeoutsOf(rec).expired(rec, asked); looks++ {
		if s.hold != nil && s.m.locking != nil {
			rec.Version = s.stored.rec.Version // the one that counts
		}
		rec, asked, err = s.conclude(ctx, key, rec, asked, looks)
	}
	return rec, err
}

// adopt applies the changes to rec, the record under the session's ID; or, if that
// is a marker that leads on, to the record under the new ID.
func (s *Session) adopt(ctx context.Context, rec Record) error {
	if s.saving.unknown != nil && rec.Version != s.stored.rec.Version && s.changes.Depend() {
		// The record may be the result of an earlier Save of ours.
		return s.notKnown()
	}
	theirs, err := s.m.split(rec)
	if to := asMoved(err); to != nil {
		return s.follow(ctx, to, *s.stored.token)
	} else if err != nil {
		return err
	}
	return s.adoptContents(rec, theirs)
}

// adoptContents is adopt for rec, whose contents are theirs.
func (s *Session) adoptContents(rec Record, theirs contents) error {
	// In mode LastWrite this session replaces the other as a whole, so its base
	// stays, unless it has nothing to replace it by.
	if s.mode.get() != LastWrite || s.renewal == byAge && !s.changes.Any() {
		return s.rebaseOn(rec, theirs, changes.Changes.Clone)
	}
	rec.Data = nil
	s.set(func() {
		// The index of owners knows the session no longer than that.
		s.changes = s.changes.WithBase(untilName, theirs.values[untilName])
		s.stored.rec, s.stored.used, s.stored.own, s.stored.apart = rec, theirs.used, theirs.own, true
	})
	return nil
}
