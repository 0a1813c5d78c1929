// Package lock implements [session.Locker] for backends that cannot lock by
// themselves.
package lock

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/seed-a7bee19b/session"
)

// Local locks within the process: for an application that is a single process,
// and for tests. The zero value is ready for use. It has no goroutine. Each
// Acquire also removes a few locks whose lease has run out.
type Local struct {
	mu   sync.Mutex
	held map[string]*lease
}

var _ session.Locker = (*Local)(nil)

type lease struct {
	l     *Local
	key   string
	until time.Time // guarded by l.mu
}

// Acquire implements [session.Locker].
func (l *Local) Acquire(ctx context.Context, key string, ttl time.Duration) (session.Lease, error) {
	if err := check(ctx, ttl); err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if other := l.held[key]; other != nil && now.Before(other.until) {
		return nil, &session.LockedError{Until: other.until}
	}
	l.forget(now)
	if l.held == nil {
		l.held = make(map[string]*lease)
	}
	le := &lease{l: l, key: key, until: now.Add(ttl)}
	l.held[key] = le
	return le, nil
}

// forget removes expired locks. It looks at a few, in random order: more than
// one Acquire adds, so that the map does not grow without bound.
func (l *Local) forget(now time.Time) {
	n := 0
	for key, le := range l.held {
		if !now.Before(le.until) {
			delete(l.held, key)
		}
		if n++; n == 4 {
			return
		}
	}
}

// Extend implements [session.Lease].
func (le *lease) Extend(ctx context.Context, ttl time.Duration) error {
	if err := check(ctx, ttl); err != nil {
		return err
	}
	le.l.mu.Lock()
	defer le.l.mu.Unlock()
	now := time.Now()
	if le.l.held[le.key] != le || !now.Before(le.until) {
		return &session.ConflictError{}
	}
	le.until = now.Add(ttl)
	return nil
}

// Release implements [session.Lease].
func (le *lease) Release(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	le.l.mu.Lock()
	defer le.l.mu.Unlock()
	if le.l.held[le.key] == le {
		delete(le.l.held, le.key)
	}
	return nil
}

func check(ctx context.Context, ttl time.Duration) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if ttl <= 0 {
		return errors.New("lock: the ttl of a lease must be positive")
	}
	return nil
}
