package session

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/seed-a7bee19b/session/observe"
)

// Destroy ends the session in the store at once: it logs the client out. Pending
// changes are dropped, and s cannot be used any more; in a handler, the next
// [Manager.Get] returns a new session. If Destroy fails, the session may still be
// there: tell the user, or call Destroy again.
//
// Streams end with it: see [Session.Watch].
//
// It ends the session even if other requests have changed it since s was opened
// or have given it a new ID. It does not end other sessions of the same user. If
// another request holds the lock, Destroy waits for at most
// [LockConfig.MaxWait], and then ends the session all the same.
//
// In a handler, the response deletes the client's token, and has
// [Config.ClearSiteData]. If the request came with several tokens, Destroy ends
// the sessions of all of them, for otherwise the client would still be logged in
// by another one. If several cookies have brought them, the response deletes
// these too, as far as their Path is "/" or [Cookie.Path], and their Domain is
// that of the Host of the request or one above it.
//
// Cost: 1 Save that ends the record, and 1 more for each change or new ID since
// it was read, each with 1 Load if the backend did not return the current
// record; nothing for a session that was never stored. For each of up to three
// other tokens, 1 Load, and 1 Save if it has a session.
func (s *Session) Destroy(ctx context.Context) error {
	s.use.end()
	return s.with(ctx, "destroy", func() error {
		err := s.destroy(ctx)
		if err == nil {
			s.end()
			if s.client != nil {
				s.client.forget(s)
			}
		}
		return err
	})
}

const (
	// maxHops is how many new IDs a logout follows: more than can leave a marker,
	// because the session may get more meanwhile.
	maxHops = 2 * maxTrail
	// maxConflicts is how often a logout tries again while other requests change
	// the session.
	maxConflicts = 100
)

// destroy ends the session in the store, under the ID that it has now.
func (s *Session) destroy(ctx context.Context) error {
	if s.mode.get() == ReadOnly {
		return ErrReadOnly
	}
	s.set(func() { s.closed.Store(true) }) // even if it fails, nothing of s may be saved any more
	key, v := s.stored.key, s.stored.rec.Version
	switch {
	case s.isStored():
	case s.origin != nil:
		key, v = s.origin.key, s.origin.version
	default:
		return s.endFellows(ctx)
	}
	if h := s.hold; h != nil {
		h.write(true)
		defer h.write(false)
	}
	if err := s.endAt(ctx, key, v); err != nil {
		return err
	}
	if s.origin != nil {
		s.m.moved(s.origin.from)
	}
	if s.saving.moving != nil { // no marker can be stored any more
		if err := errors.Join(s.m.delete(ctx, s.saving.moving.key), s.m.delete(ctx, s.stored.key)); err != nil {
			return err
		}
		s.saving.moving = nil
	}
	s.set(func() { s.stored.rec.Version, s.origin = "", nil })
	s.m.event(ctx, observe.Event{Kind: observe.EventSessionDestroyed})
	s.unlocked(ctx)
	return s.endFellows(ctx)
}

// endAt ends the session at key of version v, or "" if the version is not known.
// If the session has changed, it ends the changed one; if the session has a new
// ID, it follows. The markers stay, so that a second try can follow them too.
func (s *Session) endAt(ctx context.Context, key string, v Version) (err error) {
	defer func() {
		if err == nil {
			s.m.ended(key, errLoggedOut)
		}
	}()
	deadline := time.Now().Add(s.m.cfg.Lock.MaxWait)
	hops, conflicts := 0, 0
	for {
		var current *Record
		stuck := false
		if v != "" {
			err := s.m.end(ctx, key, v)
			var conflict *ConflictError
			switch {
			case errors.Is(err, ErrLocked):
				rec, err := s.m.outwait(ctx, key, deadline)
				stuck = errors.Is(err, ErrLockTimeout)
				switch {
				case err == nil:
					current = &rec
				case !stuck:
					return unlessGone(err)
				}
			case err == nil || !errors.As(err, &conflict) || conflict.Gone:
				return unlessGone(err)
			default:
				s.unlocked(ctx) // our lock has gone with our version
				current, conflict.Current = conflict.Current, nil
				if conflicts++; conflicts > 1 { // step back, and look again
					if conflicts > maxConflicts || backoff(ctx, conflicts) != nil {
						return cmp.Or(ctx.Err(), err)
					}
					current = nil
				}
			}
		}
		rec, to, err := s.m.find(ctx, key, current)
		switch {
		case to != nil && hops == maxHops:
			return fmt.Errorf("it got a new ID more than %d times", hops)
		case to != nil:
			hops, conflicts = hops+1, 0
			s.m.moved(key)
			key, v = to.key, to.version
		case err != nil && rec.Version == "": // otherwise it does not decode, and is ended as well
			return unlessGone(err)
		case stuck: // a holder that hangs must not keep the session alive
			return s.m.delete(ctx, key)
		default:
			v = rec.Version
		}
	}
}

// endFellows ends the sessions of the other tokens that the client has sent: the
// next request would be logged in by one of them. It returns the first error, and
// goes on.
func (s *Session) endFellows(ctx context.Context) (err error) {
	if s.client == nil {
		return nil
	}
	for _, token := range s.client.fellows(s) {
		if ferr := s.endAt(ctx, s.m.cfg.StoreKey(token), ""); err == nil {
			err = ferr
		}
	}
	return err
}
