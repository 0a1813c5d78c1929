package session

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/seed-a7bee19b/session/internal/changes"
	"github.com/seed-a7bee19b/session/observe"
)

// rotate stores the session under a new ID and then ends the old one: not with
// Delete, but with a conditional Save, so that changes that another request has
// saved meanwhile are merged and not lost, and so that we can tell afterwards who
// ended it. Until both are done, no client has the new ID.
func (s *Session) rotate(ctx context.Context) error {
	if s.late() {
		return ErrTooLate
	}
	// A client that seems to have gone may still wait for the answer. It gets its
	// login, but the old ID stays good as well, in case the answer is lost.
	gone := s.gone()
	if gone != nil && (!s.firstLogin() || errors.Is(gone, ErrLockLost)) {
		return gone
	}
	mv := &move{}
	for try := 0; ; try++ {
		if err := s.store(ctx, mv, gone == nil); err != nil {
			if mv.adopted && errors.Is(err, ErrTooLarge) {
				mv.unlisted = true
				continue
			}
			return s.undo(ctx, mv, err)
		}
		if until := mv.values[untilName]; !mv.listed || !bytes.Equal(until, mv.until) {
			err := s.enlist(ctx, mv.values, mv.key)
			var conflict *ConflictError
			switch {
			case err == nil:
				mv.listed, mv.until = true, until
			case mv.adopted && s.notAdopted(err):
				mv.unlisted = true
				continue
			case errors.Is(err, errNotListed), !errors.As(err, &conflict):
				return s.undo(ctx, mv, err)
			default:
				if over, err := s.overtaken(ctx, mv, err, try); over {
					return err
				}
				continue
			}
		}
		if gone != nil {
			s.unlock(ctx)
			s.moved(ctx, mv)
			return nil //nolint:nilerr // the client seems to have gone
		}
		// A client that went away during the first write did not wait for the
		// answer: it only has the old ID.
		if err := s.interrupted(ctx); err != nil {
			return s.undo(ctx, mv, err)
		}
		err := s.leave(ctx, mv)
		switch {
		case err == nil:
			s.moved(ctx, mv)
			s.merged(ctx, try)
			return nil
		case uncertain(err):
			mv.err = err
			s.saving.moving = mv
			s.set(s.changes.Doubt)
			serr := s.settleMove(ctx)
			switch {
			case isAny(serr, ErrNotFound, ErrLocked): // ended by another request, or to be waited for
				return serr
			case serr != nil || s.renewal != sameID:
				return err
			}
			return s.rest(ctx)
		}
		if over, err := s.overtaken(ctx, mv, err, try); over {
			return err
		}
	}
}

// overtaken applies the changes to what another request has stored, if that is why
// err kept the rotation from going on. over says that there is nothing left to try.
func (s *Session) overtaken(ctx context.Context, mv *move, err error, try int) (over bool, _ error) {
	key := s.stored.key
	if err = s.catchUp(ctx, err, try); err != nil {
		return true, s.undo(ctx, mv, err)
	}
	if s.renewal <= byAge && s.stored.key != key { // s goes on under a new ID that another request has made
		_ = s.undo(ctx, mv, nil)
		return true, s.rest(ctx)
	}
	return false, nil
}

// rest stores the changes that are left when the session has its new ID.
func (s *Session) rest(ctx context.Context) error {
	switch {
	case !s.changed():
		return nil
	case s.renewal == byAge:
		return s.renew(ctx)
	}
	return s.replace(ctx)
}

// store stores the session as it is now under the new ID, and prepares the
// marker, if there is to be one.
func (s *Session) store(ctx context.Context, mv *move, marked bool) error {
	created := s.stored.rec.Created
	if s.renewal == newLogin {
		created = time.Now()
	}
	values := s.changes.Values()
	if mv.adopted = false; s.renewal != newLogin && !mv.unlisted {
		if listed := s.adoptedBy(values); listed != nil {
			values, mv.adopted = listed, true
		}
	}
	values, err := s.m.limited(values, created)
	if err != nil {
		return err
	}
	mv.trail = s.stored.trail
	// A session has one first login, whose marker needs no place in the trail.
	if marked && (mv.trail != nil || !s.firstLogin()) {
		if mv.trail, mv.oldest, err = s.m.extendTrail(s.stored.trail, s.stored.key, s.markedUntil()); err != nil {
			return err
		}
	}
	if mv.renewed, err = s.renewedNow(); err != nil {
		return err
	}
	rec, err := s.record(contents{values: values, trail: mv.trail, renewed: mv.renewed}, created)
	if err != nil {
		return err
	}
	if v := mv.rec.Version; v != "" {
		rec.Version = v
		rec.Version, err = s.m.save(ctx, mv.key, rec)
	} else {
		rec.Continues = marked
		mv.token, mv.key, rec.Version, err = s.m.create(ctx, rec)
	}
	if err != nil {
		return fmt.Errorf("under a new ID: %w", err)
	}
	mv.rec, mv.values, mv.renewal = rec, values, s.renewal
	return nil
}

// interrupted returns an error if neither the client nor the caller waits any
// more.
func (s *Session) interrupted(ctx context.Context) error {
	if err := s.gone(); err != nil {
		return err
	}
	return ctx.Err()
}

// leave replaces the record under the old ID by a marker.
func (s *Session) leave(ctx context.Context, mv *move) (err error) {
	var kept map[string][]byte
	if s.firstLogin() {
		kept = s.changes.Base()
	}
	if mv.marker, err = s.marker(mv.key, mv.rec.Version, s.sealed(mv), kept); err != nil {
		return err
	}
	_, err = s.m.save(ctx, s.stored.key, mv.marker)
	return err
}

// undo deletes the new record of a rotation that has not ended the old one, and
// returns err.
func (s *Session) undo(ctx context.Context, mv *move, err error) error {
	if mv.rec.Version != "" {
		s.m.remove(ctx, mv.key)
	}
	return err
}

// settleMove finds out how a rotation has ended whose outcome is not known: it
// saves the marker once more. Reading is not enough, because a read may be
// eventually consistent, and because the first marker may still be in flight. It
// cannot arrive any more only when the old record is gone or has another version.
func (s *Session) settleMove(ctx context.Context) error {
	mv := s.saving.moving
	mv.marker.Created = time.Now()
	_, err := s.m.save(ctx, s.stored.key, mv.marker)
	var conflict *ConflictError
	switch {
	case err == nil:
		s.moved(ctx, mv)
		return nil
	case !errors.As(err, &conflict):
		return err
	}
	if !conflict.Gone {
		rec, to, err := s.m.find(ctx, s.stored.key, conflict.Current)
		switch {
		case err != nil:
			return err
		case to != nil && to.key == mv.key: // it was we who ended it
			return s.movedBefore(ctx, mv)
		case rec.Version == s.stored.rec.Version:
			return fmt.Errorf("%w: it returned a state that it has said is over", ErrStore)
		}
		if to != nil {
			s.saving.moving = nil
			_ = s.undo(ctx, mv, nil)
			return s.adopt(ctx, rec) // goes on where it leads, or fails
		}
	}
	s.saving.moving = nil
	_ = s.undo(ctx, mv, nil)
	if conflict.Gone {
		return &ConflictError{Gone: true}
	}
	return nil // changed by another request: rotate anew
}

// movedBefore is moved for a marker that was stored before: a logout may have
// followed it since.
func (s *Session) movedBefore(ctx context.Context, mv *move) error {
	_, err := s.m.load(ctx, mv.key)
	switch {
	case errors.Is(err, ErrNotFound):
		s.saving.moving = nil
		s.m.remove(ctx, s.stored.key)
		return &ConflictError{Gone: true}
	case err != nil:
		return err
	}
	s.moved(ctx, mv)
	return nil
}

// moved gives the session its new ID. Changes since a try whose outcome was not
// known stay pending.
func (s *Session) moved(ctx context.Context, mv *move) {
	later, again := s.changes.Since(mv.values), sameID
	if s.renewal > mv.renewal || s.renewal == newLogin && isLogin(later) {
		again = s.renewal
	}
	s.saving.moving = nil
	s.movedTo(&mv.token, mv.key, mv.trail, mv.renewed)
	s.settle(ctx, observe.EventSessionRotated, mv.rec, mv.values)
	s.set(func() { s.changes, s.renewal = later, again })
	if mv.oldest != "" {
		s.m.remove(ctx, mv.oldest)
	}
}

// isLogin reports whether c is a login of another user, or as another one is listed.
func isLogin(c changes.Changes) bool {
	_, user := c.Edit(userName)
	_, listed := c.Edit(listedName)
	return user || listed
}
