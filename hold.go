package session

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// A hold is a lock that a session has: its lease, and the place at the head of
// the line, which keeps the other requests of this process waiting.
type hold struct {
	m      *core
	ctx    context.Context // of the request: when it ends, renewing does
	key    string
	extend func(ctx context.Context) error
	free   func(ctx context.Context, expires time.Time) error
	lost   context.CancelCauseFunc // ends the context of who relies on the lock
	wait   *wait

	mu    sync.Mutex
	until time.Time // when the lease runs out, counted from before it was asked for
	timer *time.Timer
	err   error // why the lock is lost
	over  bool
}

// acquire waits for the lock of the record at key and returns both.
func (m *core) acquire(ctx context.Context, key string, lost context.CancelCauseFunc) (rec Record, h *hold, err error) {
	w := m.newWait(key)
	defer func() {
		if err != nil {
			w.leave()
			m.event(ctx, Event{Kind: LockFailed, Err: err, Wait: time.Since(w.started)})
		} else {
			m.event(ctx, Event{Kind: LockAcquired, Wait: time.Since(w.started)})
		}
	}()
	if err := w.enter(ctx); err != nil {
		return Record{}, nil, err
	}
	h = &hold{m: m, ctx: ctx, key: key, lost: lost, wait: w}
	for {
		asked := time.Now()
		rec, err := m.tryLock(ctx, h)
		if err == nil {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.until = asked.Add(m.cfg.Lock.TTL)
			h.timer = time.AfterFunc(m.cfg.Lock.TTL/3, h.renew)
			return rec, h, nil
		}
		if !errors.Is(err, ErrLocked) {
			return Record{}, nil, err
		}
		if m.leaser != nil {
			_, werr := w.untilFree(ctx)
			if werr != nil {
				return Record{}, nil, lockError(werr, err)
			}
		} else if werr := w.another(ctx); werr != nil {
			return Record{}, nil, lockError(werr, err)
		}
	}
}

// lockError says that the wait ended because of werr, and what it was for.
func lockError(werr, locked error) error {
	if errors.Is(werr, ErrLockTimeout) {
		return fmt.Errorf("%w: %w", werr, locked)
	}
	return werr
}

// tryLock asks once, and tells h how to renew and to free what it got.
func (m *core) tryLock(ctx context.Context, h *hold) (Record, error) {
	ttl := m.cfg.Lock.TTL
	if m.leaser != nil {
		rec, err := m.lease(ctx, h.key, ttl)
		if err != nil {
			return Record{}, err
		}
		h.extend = func(ctx context.Context) error { return m.extend(ctx, h.key, rec.Version, ttl) }
		h.free = func(ctx context.Context, expires time.Time) error {
			return m.release(ctx, h.key, rec.Version, expires)
		}
		return rec, nil
	}
	lease, err := m.lock(ctx, h.key, ttl)
	if err != nil {
		return Record{}, err
	}
	h.extend = func(ctx context.Context) error { return m.extendLease(ctx, lease, ttl) }
	h.free = func(ctx context.Context, expires time.Time) error {
		var err error
		if !expires.IsZero() {
			err = m.touch(ctx, h.key, expires)
		}
		return errors.Join(err, m.releaseLease(ctx, lease))
	}
	rec, err := m.load(ctx, h.key)
	if err != nil {
		_ = m.releaseLease(ctx, lease) // the lease ends it otherwise
		return Record{}, err
	}
	return rec, nil
}

// renew runs from the timer while the session holds its lock.
func (h *hold) renew() {
	h.mu.Lock()
	until, over := h.until, h.over || h.err != nil
	h.mu.Unlock()
	if over {
		return
	}
	asked, ttl := time.Now(), h.m.cfg.Lock.TTL
	err := h.ctx.Err() // nobody waits for the handler any more: let the lease run out
	if err == nil {
		ctx, cancel := context.WithDeadline(h.ctx, until)
		err = h.extend(ctx)
		cancel()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	switch {
	case h.over || h.err != nil:
	case err == nil:
		h.until = asked.Add(ttl)
		h.timer.Reset(ttl / 3)
	case errors.Is(err, ErrConflict), errors.Is(err, ErrNotFound), !now.Before(until):
		h.lose(err)
	case h.ctx.Err() != nil:
		h.timer.Reset(until.Sub(now))
	default: // the store failed, and may recover before the lease runs out
		h.timer.Reset(min(ttl/10, until.Sub(now)))
	}
}

// lose ends the hold because the lock is lost. h.mu is held.
func (h *hold) lose(cause error) {
	h.err = fmt.Errorf("%w: %w", ErrLockLost, cause)
	h.timer.Stop()
	h.wait.leave()
	h.m.event(h.ctx, Event{Kind: LockLost, Err: h.err})
	h.lost(h.err)
}

var errLeaseOver = errors.New("the lease ran out")

// check returns an error if the lock is lost.
func (h *hold) check() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err == nil && !h.over && !time.Now().Before(h.until) {
		h.lose(errLeaseOver)
	}
	return h.err
}

// conflicted takes the error of a write that the store refused to the holder
// of the lock.
func (h *hold) conflicted(err error) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err == nil {
		h.lose(err)
	}
	return h.err
}

// end gives up the place in line. The lock itself was freed by other means.
func (h *hold) end() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.over {
		return
	}
	h.over = true
	if h.err == nil {
		h.timer.Stop()
		h.wait.leave()
	}
}

// release frees the lock, and moves the deadline if expires is not zero.
func (h *hold) release(ctx context.Context, expires time.Time) error {
	defer h.end()
	if err := h.check(); err != nil {
		return err
	}
	return h.free(ctx, expires)
}

// acquire locks the record and returns it. What it does if there is no lock in
// time is up to the policy.
func (s *Session) acquire(ctx context.Context, lost context.CancelCauseFunc) (Record, error) {
	rec, h, err := s.m.acquire(ctx, s.key, lost)
	if errors.Is(err, ErrLockTimeout) && s.m.cfg.Lock.OnTimeout != FailOnTimeout {
		mode := Merge
		if s.m.cfg.Lock.OnTimeout == ReadOnlyOnTimeout {
			mode = ReadOnly
		}
		s.set(func() { s.mode = mode })
		return s.m.load(ctx, s.key)
	}
	if err != nil {
		return Record{}, err
	}
	s.hold = h
	s.set(func() { s.mode = Exclusive })
	return rec, nil
}

// upgrade locks a session that was opened without a lock, and applies its
// changes to what is stored now.
func (s *Session) upgrade(ctx context.Context, lost context.CancelCauseFunc) error {
	return s.exclusively(ctx, func() error {
		if s.hold != nil || s.closed || !s.stored() {
			return nil
		}
		rec, err := s.acquire(ctx, lost)
		if err == nil {
			err = s.adopt(rec)
		}
		if err != nil {
			s.unlock(ctx)
		}
		return err
	})
}

// release frees the lock without writing data.
func (s *Session) release(ctx context.Context, expires time.Time) error {
	h := s.hold
	s.hold = nil
	err := h.release(ctx, expires)
	if err == nil && !expires.IsZero() {
		s.set(func() { s.rec.Expires = expires })
	}
	return err
}

// unlock frees the lock of a session that will not be saved any more. If it
// cannot, the lease ends it.
func (s *Session) unlock(ctx context.Context) {
	if s.hold != nil {
		_ = s.release(ctx, time.Time{})
	}
}

// unlocked does what is left to do after a write of the holder.
func (s *Session) unlocked(ctx context.Context) {
	switch {
	case s.hold == nil:
	case s.m.leaser == nil:
		s.unlock(ctx)
	default: // the store has freed the lock in the same request
		s.hold.end()
		s.hold = nil
	}
}
