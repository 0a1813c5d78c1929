package migrate

import (
	"context"
	"errors"
	"time"

	"github.com/seed-a7bee19b/session"
)

// locks has the methods of a [session.LockingBackend].
type locks struct{ m *mover }

// Acquire implements [session.LockingBackend]. A session that moves is locked in the
// new store; one that is locked in the old store stays there until it is free.
func (l locks) Acquire(ctx context.Context, key string, ttl time.Duration) (session.Record, error) {
	m := l.m
	var gone *store // where the last try found nothing to lock
	for try := range maxTries {
		if err := pause(ctx, try); err != nil {
			return session.Record{}, err
		}
		// A copy must not be locked: that may change the version which a note names.
		s, rec, err := m.find(ctx, key)
		switch {
		case err != nil:
			return session.Record{}, err
		case s.locking == nil:
			return session.Record{}, &session.LockedError{Until: rec.LockedUntil}
		}
		rec, err = s.locking.Acquire(ctx, s.key(key), ttl)
		switch {
		case errors.Is(err, session.ErrNotFound):
			if gone == s { // it has not moved, it has expired
				return session.Record{}, session.ErrNotFound
			}
			gone = s
			continue
		case err != nil:
			return session.Record{}, err
		}
		f, err := read(rec)
		if err == nil && f.kind == plain {
			return s.tagged(rec), nil
		}
		if rerr := s.locking.Release(ctx, s.key(key), rec.Version, time.Time{}); rerr != nil || err != nil {
			return session.Record{}, errors.Join(err, failed(rerr))
		}
	}
	return session.Record{}, errBusy
}

// failed keeps err from being taken for an answer about the session.
func failed(err error) error {
	if errors.Is(err, session.ErrConflict) {
		return nil // the lease ran out
	}
	return err
}

// Extend implements [session.LockingBackend].
func (l locks) Extend(ctx context.Context, key string, v session.Version, ttl time.Duration) error {
	s, v := l.m.of(v)
	if s.locking == nil {
		return &session.ConflictError{}
	}
	return s.locking.Extend(ctx, s.key(key), v, ttl)
}

// Release implements [session.LockingBackend].
func (l locks) Release(ctx context.Context, key string, v session.Version, expires time.Time) error {
	s, v := l.m.of(v)
	if s.locking == nil {
		return &session.ConflictError{}
	}
	return s.locking.Release(ctx, s.key(key), v, expires)
}
