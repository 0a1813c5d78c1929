package migrate

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/seed-a7bee19b/session"
)

// find returns the record at key and the store that has it. Where the phase says
// so, it moves the record first.
func (m *mover) find(ctx context.Context, key string) (*store, session.Record, error) {
	if m.phase == Hold {
		return m.findHeld(ctx, key)
	}
	again := false // the new store is read after the old one said that the record has left it
	for try := range maxTries {
		if err := pause(ctx, try); err != nil {
			return nil, session.Record{}, err
		}
		n, err := m.fresh.load(ctx, key)
		switch {
		case err != nil:
			return nil, session.Record{}, err
		case n.kind == plain:
			return &m.fresh, n.Record, nil
		case m.phase == Gone && n.kind == copied:
			return nil, session.Record{}, errUnfinished
		case m.phase == Gone, !m.asks(key), again && m.old.backend == nil && n.kind != copied:
			return nil, session.Record{}, session.ErrNotFound
		}
		begun := time.Now()
		o, err := m.loadOld(ctx, key)
		if err != nil {
			return nil, session.Record{}, err
		}
		switch {
		case m.completes(n, o):
			rec, err := m.complete(ctx, key, n, o)
			if errors.Is(err, session.ErrConflict) {
				continue
			}
			return &m.fresh, rec, err
		case o.kind == plain && n.kind == tomb:
			if err := m.remove(ctx, key, o); err != nil && !errors.Is(err, session.ErrConflict) {
				return nil, session.Record{}, err
			} else if err == nil {
				return nil, session.Record{}, session.ErrNotFound
			}
		case o.kind == plain && (!o.LockedUntil.IsZero() || o.Expired(begun)):
			return &m.old, o.Record, nil // it moves when its lock is free; the Manager ends what has expired
		case o.kind == plain:
			rec, err := m.move(ctx, key, n, o, begun)
			switch {
			case err == nil:
				return &m.fresh, rec, nil
			case errors.Is(err, session.ErrLocked) && m.old.backend != nil:
				var locked *session.LockedError
				if errors.As(err, &locked) {
					o.LockedUntil = locked.Until
				}
				return &m.old, o.Record, nil
			case !errors.Is(err, session.ErrConflict):
				return nil, session.Record{}, err
			}
		case again || n.kind == tomb || m.old.backend != nil && o.kind == absent:
			return nil, session.Record{}, session.ErrNotFound
		default:
			again = true
		}
	}
	return nil, session.Record{}, errBusy
}

// findHeld is find in phase Hold: the old store has the record until it has a note.
func (m *mover) findHeld(ctx context.Context, key string) (*store, session.Record, error) {
	again := false
	for try := range maxTries {
		if err := pause(ctx, try); err != nil {
			return nil, session.Record{}, err
		}
		o, err := m.loadOld(ctx, key)
		if err != nil {
			return nil, session.Record{}, err
		}
		if o.kind == plain {
			return &m.old, o.Record, nil
		}
		n, err := m.fresh.load(ctx, key)
		switch {
		case err != nil:
			return nil, session.Record{}, err
		case n.kind == plain:
			return &m.fresh, n.Record, nil
		case m.completes(n, o):
			rec, err := m.complete(ctx, key, n, o)
			if errors.Is(err, session.ErrConflict) {
				continue
			}
			return &m.fresh, rec, err
		case n.kind == moved && !again: // back into the old store
			again = true
		default:
			return nil, session.Record{}, session.ErrNotFound
		}
	}
	return nil, session.Record{}, errBusy
}

// asks reports whether the old store can have a record at key.
func (m *mover) asks(key string) bool {
	if !m.tokens {
		return true
	}
	_, ok := tokenOf(key)
	return ok
}

// loadOld returns what the old store has at key: a session, a note, or nothing.
func (m *mover) loadOld(ctx context.Context, key string) (found, error) {
	if m.old.backend == nil {
		rec, err := m.source.Load(ctx, m.sourceKey(key))
		switch {
		case errors.Is(err, session.ErrNotFound), err == nil && rec.Expired(time.Now()):
			return found{}, nil
		case err != nil:
			return found{}, fmt.Errorf("migrate: old store: %w", err)
		}
		rec.LockedUntil = time.Time{}
		return found{Record: rec, kind: plain}, nil
	}
	o, err := m.old.load(ctx, key)
	switch {
	case err != nil:
		return found{}, err
	case o.kind == copied:
		// On its way back, from what is now the new store.
		n, err := m.fresh.load(ctx, key)
		if err != nil {
			return found{}, err
		}
		if n.kind == moved && n.ref == o.Version {
			return found{Record: o.Record, kind: plain}, nil
		}
		return found{}, nil
	case o.kind == claim, o.kind == tomb:
		return found{}, nil
	}
	return o, nil
}

// completes reports whether n is a copy that has become the session.
func (m *mover) completes(n, o found) bool {
	if n.kind != copied {
		return false
	}
	if m.old.backend == nil {
		return o.kind == absent
	}
	return o.kind == moved && o.ref == n.Version
}

// move moves o, which was read after n. It fails with a conflict if it has to begin
// again.
func (m *mover) move(ctx context.Context, key string, n, o found, begun time.Time) (session.Record, error) {
	wctx, cancel := context.WithDeadline(ctx, begun.Add(moveTime))
	defer cancel()
	ref := stateOf(o.Record)
	if n.kind != copied || n.ref != ref {
		// A copy of another state of the old record is of an earlier one, as it was
		// there before o was read. So nobody can make it the session any more.
		rec := o.Record
		rec.Data, rec.Version, rec.Continues = copyData(ref, o.Data), n.Version, true
		rec.KeepLater, rec.LockedUntil = false, time.Time{}
		v, err := m.fresh.save(wctx, key, rec)
		if err != nil {
			return session.Record{}, asConflict(err)
		}
		n = found{Record: o.Record, kind: copied}
		n.Version = v
	}
	if m.old.backend == nil {
		if err := m.remove(ctx, key, o); err != nil {
			return session.Record{}, err
		}
	} else {
		note := o.Record
		note.Data, note.KeepLater, note.Private = movedData(n.Version), true, true
		if _, err := m.old.save(ctx, key, note); err != nil {
			return session.Record{}, err
		}
	}
	return m.complete(ctx, key, n, o)
}

// complete makes the copy n of o the session. A Touch may have moved the deadline of
// o, or of the note in its place, after the copy was made.
func (m *mover) complete(ctx context.Context, key string, n, o found) (session.Record, error) {
	rec := n.Record
	if o.Expires.After(rec.Expires) {
		rec.Expires = o.Expires
	}
	rec.Continues, rec.KeepLater, rec.LockedUntil = true, true, time.Time{}
	v, err := m.fresh.save(ctx, key, rec)
	if err != nil {
		return session.Record{}, asConflict(err)
	}
	rec.Version, rec.Continues, rec.KeepLater = v, false, false
	return rec, nil
}

// remove takes o from the old store.
func (m *mover) remove(ctx context.Context, key string, o found) error {
	if m.old.backend != nil {
		note := o.Record
		note.Data, note.KeepLater, note.Private = movedData(""), true, true
		_, err := m.old.save(ctx, key, note)
		return err
	}
	err := m.source.Remove(ctx, m.sourceKey(key), o.Record)
	if err != nil && !errors.Is(err, session.ErrConflict) && !errors.Is(err, session.ErrNotFound) {
		return fmt.Errorf("migrate: old store: %w", err)
	}
	if errors.Is(err, session.ErrNotFound) && !errors.Is(err, session.ErrConflict) {
		return nil
	}
	return err
}

// asConflict makes a lock in the new store a conflict: nobody serves a copy, so
// the record is another one by now.
func asConflict(err error) error {
	if errors.Is(err, session.ErrLocked) {
		return &session.ConflictError{}
	}
	return err
}

// stateOf names a state of an old record.
func stateOf(rec session.Record) session.Version {
	if rec.Version != "" {
		return rec.Version
	}
	h := sha256.New()
	fmt.Fprintf(h, "%d %d ", rec.Created.UnixNano(), len(rec.Data))
	h.Write(rec.Data)
	return session.Version(hex.EncodeToString(h.Sum(nil)[:16]))
}
