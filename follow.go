package session

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/seed-a7bee19b/session/internal/changes"
	"github.com/seed-a7bee19b/session/observe"
)

// next returns the token of the session that to leads to, for a request with the
// token of the marker, or false if the request must not have it. A renewal lets
// requests go on: those in flight, that have opened the session under the old ID,
// and for a while those that still come with it. A login lets nobody go on but
// another login, which has to be of the same user; and a Reauthenticate nobody but
// another one in flight.
func (s *Session) next(to *movedError, token string, inFlight bool) (string, bool) {
	recent := time.Since(to.at) < s.m.cfg.RenewOverlap
	switch kind := to.sealed.kind(); {
	case kind == sealRenewal && (inFlight || recent):
	case kind == sealLogin && recent && s.renewal == newLogin:
	case kind == sealAuth && recent && inFlight && s.renewal == newAuth:
	default:
		return "", false
	}
	return s.m.unseal(to.sealed, to.key, token)
}

// sealed returns what the marker under the session's ID says of the token in mv.
func (s *Session) sealed(mv *move) sealedToken {
	switch s.renewal {
	case byAge:
		return seal(sealRenewal, mv.token, mv.key, *s.stored.token)
	case newAuth:
		return seal(sealAuth, mv.token, mv.key, *s.stored.token)
	case newLogin:
		return seal(sealLogin, mv.token, mv.key, *s.stored.token)
	}
	return ""
}

// readOn is read for a session that is to be opened: if its ID was renewed a moment
// ago, it goes on under the new one.
func (s *Session) readOn(ctx context.Context) (rec Record, decoded, err error) {
	rec, decoded, err = s.read(ctx)
	for range maxTrail {
		to := asMoved(decoded)
		if to == nil {
			break
		}
		token, ok := s.next(to, *s.stored.token, false)
		if !ok {
			break
		}
		s.unlock(ctx)
		s.m.event(ctx, observe.Event{Kind: observe.EventTokenRenewed})
		s.stored.token, s.stored.key = &token, to.key
		rec, decoded, err = s.read(ctx)
	}
	return rec, decoded, err
}

// follow applies the changes to the record that to leads to. to is from the marker
// under the ID of token.
func (s *Session) follow(ctx context.Context, to *movedError, token string) error {
	kind := byte(sealRenewal)
	for range maxTrail {
		next, ok := s.next(to, token, s.isStored())
		if !ok {
			break
		}
		if to.sealed.kind() != sealRenewal {
			kind = to.sealed.kind()
		}
		rec, err := s.lookAt(ctx, to.key)
		switch {
		case errors.Is(err, ErrNotFound):
			return &ConflictError{Gone: true}
		case err != nil:
			return err
		}
		err = s.goOn(ctx, rec, next, to.key, kind)
		if token, to = next, asMoved(err); to == nil {
			return err
		}
	}
	return errEnded()
}

// lookAt loads the record at key. If s holds a lock, the lock moves there.
func (s *Session) lookAt(ctx context.Context, key string) (Record, error) {
	if s.hold == nil {
		return s.current(ctx, key)
	}
	s.unlock(ctx)
	return s.acquire(ctx, key)
}

// leadsOn returns the record under the session's ID, which is current if that is not
// nil, and reports whether it is a marker that s may follow.
func (s *Session) leadsOn(ctx context.Context, current *Record) (*Record, bool) {
	rec, to, err := s.m.find(ctx, s.stored.key, current)
	if err != nil || to == nil {
		return current, false
	}
	_, ok := s.next(to, *s.stored.token, true)
	return &rec, ok
}

// errEnded returns the error of a save whose session lives on under an ID that this
// request must not have.
func errEnded() error { return fmt.Errorf("%w: %w", &ConflictError{Gone: true}, errMoved) }

// goOn makes rec, which is stored at key, the base of s, whose token is from then
// on the one given. kind says what has made it: s joins the session of another
// login, if the user is the same, or of another Reauthenticate.
func (s *Session) goOn(ctx context.Context, rec Record, token, key string, kind byte) error {
	theirs, err := s.m.split(rec)
	if err != nil {
		return err
	}
	event := observe.EventLoginJoined
	switch kind {
	case sealLogin:
		err = s.joinContents(rec, theirs)
	case sealRenewal:
		event = observe.EventTokenRenewed
		fallthrough
	default:
		err = s.adoptContents(rec, theirs)
	}
	if err != nil {
		return err
	}
	s.movedTo(&token, key, theirs.trail, theirs.renewed)
	s.set(func() {
		s.origin = nil
		switch {
		case kind == sealRenewal && s.renewal != byAge:
		case s.outlasts():
			s.renewal = byAge // and lists it anew
		default:
			s.renewal = sameID
		}
	})
	s.m.event(ctx, observe.Event{Kind: event})
	return nil
}

// outlasts reports whether the lifetime that this request has set is longer than the
// index of owners knows the session.
func (s *Session) outlasts() bool {
	e, ok := s.changes.Edit(lifetimeName)
	if !ok {
		return false
	}
	life, err := s.m.lifetime(map[string][]byte{lifetimeName: e.Data})
	return err == nil && s.outlivesListing(s.m.lifetimes.of(life))
}

// movedTo records the ID that the session has now.
func (s *Session) movedTo(token *string, key string, trail []byte, renewed time.Duration) {
	s.saving.turn = nil // others wait there for the record under the old ID
	s.m.moved(s.stored.key)
	s.set(func() {
		s.stored.token, s.stored.key, s.stored.trail, s.stored.renewed = token, key, trail, renewed
	})
}

// joinContents applies the changes of a login to rec, whose contents are theirs, if
// that is a session of the same user.
func (s *Session) joinContents(rec Record, theirs contents) error {
	user := s.changes.Value(userName)
	if !bytes.Equal(theirs.values[userName], user) {
		return errEnded()
	}
	if same, err := s.m.sameOwners(s.changes.Values(), theirs.values); err != nil || !same {
		return cmp.Or(err, errEnded())
	}
	was := s.changes.Base()[userName]
	return s.rebaseOn(rec, theirs, func(mine changes.Changes) changes.Changes {
		if was != nil && !bytes.Equal(was, user) {
			mine = mine.Uncleared() // the other login has cleared the other user's values
		}
		return mine.Without(listedName) // the session is listed already
	})
}

// join makes s, a session in place of one that has moved, the session of the login
// that has moved it, if s is to be a login of the same user. It reports whether
// there is nothing left to store.
func (s *Session) join(ctx context.Context) (joined bool, err error) {
	if s.origin == nil || s.renewal != newLogin {
		return false, nil
	}
	switch err := s.follow(ctx, s.origin.movedError, s.origin.token); {
	case errors.Is(err, ErrNotFound):
		return false, nil
	case err != nil:
		return false, err
	}
	return true, s.rest(ctx)
}
