package session

import (
	"context"
	"errors"
	"time"
)

// lockContext returns the context that is cancelled if a lock of s is lost: that
// of the request, or one of the session's own. A request that began before there
// was a Manager that locks cannot be cancelled.
func (s *Session) lockContext() (context.Context, context.CancelCauseFunc) {
	if s.client != nil {
		if ctx, cancel := s.client.context(); cancel != nil {
			return ctx, cancel
		}
	}
	if s.cancel == nil {
		ctx, cancel := context.WithCancelCause(s.ctx)
		s.set(func() { s.ctx, s.cancel = ctx, cancel })
	}
	return s.ctx, s.cancel
}

// acquire locks the record at key and returns it. If the lock could not be acquired in
// time, it follows [LockConfig.OnTimeout].
func (s *Session) acquire(ctx context.Context, key string) (Record, error) {
	h := &hold{m: s.m, key: key}
	h.ctx, h.cancel = s.lockContext()
	rec, err := h.take(ctx)
	if errors.Is(err, ErrLockTimeout) && s.m.cfg.Lock.OnTimeout != FailOnTimeout {
		mode := Merge
		if s.m.cfg.Lock.OnTimeout == ReadOnlyOnTimeout {
			mode = ReadOnly
		}
		s.mode.set(mode)
		s.set(func() { s.lockless = err })
		return s.m.load(ctx, key)
	}
	if err != nil {
		return Record{}, err
	}
	s.mode.set(Exclusive)
	s.set(func() { s.hold = h })
	return rec, nil
}

// release frees the lock without writing data, and moves the deadline unless
// expires is zero. If the store fails, the lock is still held.
func (s *Session) release(ctx context.Context, expires time.Time) error {
	h := s.hold
	if err := h.check(); err != nil {
		return err
	}
	var notMoved error
	if s.m.locking == nil && !expires.IsZero() { // a Locker moves no deadline
		notMoved = s.touch(ctx, expires)
		expires = time.Time{}
	}
	err := h.lease.release(ctx, expires)
	switch {
	case errors.Is(err, ErrNotFound):
		s.abandon()
		return nil // ended by another request, and nothing to save
	case errors.Is(err, ErrConflict):
		return h.lose(err)
	case err != nil:
		return err
	}
	s.abandon()
	s.set(func() {
		s.stored.fresh = true
		if !expires.IsZero() {
			s.stored.rec.Expires = expires
		}
	})
	return notMoved
}

// abandon forgets the lock without a call of the store: it is free, or its lease
// will free it.
func (s *Session) abandon() {
	if h := s.hold; h != nil {
		h.abandon()
		s.set(func() { s.hold = nil })
	}
}

// unlock frees the lock of a session that will not be saved any more. If that
// fails, the lease will free it.
func (s *Session) unlock(ctx context.Context) {
	if s.hold != nil {
		_ = s.release(ctx, time.Time{})
		s.abandon()
	}
}

// unlocked is unlock after the record was written or deleted, which has freed the
// lock of a LockingBackend.
func (s *Session) unlocked(ctx context.Context) {
	if s.m.locking != nil {
		s.abandon()
		return
	}
	s.unlock(ctx)
}
