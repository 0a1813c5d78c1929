package session

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/seed-a7bee19b/session/observe"
)

// Destroy ends the session in the store at once: log out. Pending changes
// are dropped, and s can no longer be used; in a handler, the next
// [Manager.Get] gives a new session. After an error the session may still be
// there: say so to the user, or call Destroy again.
//
// It ends the session whatever others have made of it since s was opened, also
// under another ID; not any other session of the same user. While another
// holder's lock is live it waits, at most for [LockConfig.MaxWait], and then does not
// mind the lock.
//
// Cost: 1 Save that ends the record, and one more for each time that it was
// changed or got a new ID since, with 1 Load where the backend has not said
// what there is now; nothing for a session that was never stored.
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
	// maxHops is how many new IDs a logout follows a session to: more than
	// leave a marker, as there may come more meanwhile.
	maxHops = 2 * maxTrail
	// maxConflicts is how often it tries again, as others may change the
	// session again and again.
	maxConflicts = 100
)

// destroy ends the session in the store, under whichever ID it lives by now.
func (s *Session) destroy(ctx context.Context) error {
	if s.mode.get() == ReadOnly {
		return ErrReadOnly
	}
	s.set(func() { s.closed.Store(true) }) // whatever comes of it, nothing of s may be saved any more
	key, v := s.stored.key, s.stored.rec.Version
	switch {
	case s.isStored():
	case s.origin != nil:
		key, v = s.origin.key, s.origin.version
	default:
		return nil
	}
	if h := s.hold; h != nil {
		h.write(true)
		defer h.write(false)
	}
	if err := s.endAt(ctx, key, v); err != nil {
		return err
	}
	if s.saving.moving != nil { // no marker can come any more; leave nothing of it
		if err := errors.Join(s.m.delete(ctx, s.saving.moving.key), s.m.delete(ctx, s.stored.key)); err != nil {
			return err
		}
		s.saving.moving = nil
	}
	s.set(func() { s.stored.rec.Version, s.origin = "", nil })
	s.m.event(ctx, observe.Event{Kind: observe.EventSessionDestroyed})
	s.unlocked(ctx)
	return nil
}

// endAt ends the session at key, of version v, or "" if that is not known. Where
// it has changed, it ends what it has become, and where it has a new ID, it
// follows. The markers stay, so that a logout that is tried again finds its way.
func (s *Session) endAt(ctx context.Context, key string, v Version) error {
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
				s.unlocked(ctx) // as what we held is over
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
			key, v = to.key, to.version
		case err != nil && rec.Version == "": // else it does not decode, and ends all the same
			return unlessGone(err)
		case stuck: // a holder that hangs must not keep it alive
			return s.m.delete(ctx, key)
		default:
			v = rec.Version
		}
	}
}
