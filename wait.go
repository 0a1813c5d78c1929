package session

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/seed-a7bee19b/session/internal/line"
)

// A wait is the wait of a request for a lock: first for its turn among the requests
// of this process, then for the lock, with looks at the store and random pauses.
type wait struct {
	m        *core
	key      string
	most     int // of how many requests
	deadline time.Time
	pause    time.Duration
	started  time.Time
	turn     line.Turn[Record]
	inLine   bool
}

func (m *core) newWait(key string) *wait {
	now := time.Now()
	return &wait{m: m, key: key, most: m.cfg.Lock.MaxWaiters, started: now, deadline: now.Add(m.cfg.Lock.MaxWait)}
}

// enter takes a place in the line and comes to its head.
func (w *wait) enter(ctx context.Context) error {
	if w.inLine {
		return nil
	}
	lk := &w.m.cfg.Lock
	t, err := w.m.waiters.Enter(ctx, w.key, w.most, w.deadline, 0, false)
	if err != nil {
		return lineError(err)
	}
	w.turn, w.inLine = t, true
	if t.StandBack {
		if err = w.sleep(ctx, lk.MaxRetry+lk.MinRetry); err != nil {
			w.leave()
		}
	}
	return err
}

func (w *wait) leave() {
	if w.inLine {
		w.inLine = false
		w.m.waiters.Leave(w.key, &w.turn)
	}
}

// another pauses before the next look. The pauses are decorrelated: each is
// random between MinRetry and three times the one before, up to MaxRetry.
func (w *wait) another(ctx context.Context) error {
	lk := &w.m.cfg.Lock
	w.pause = min(lk.MaxRetry, lk.MinRetry+rand.N(max(3*w.pause, 2*lk.MinRetry)-lk.MinRetry))
	return w.sleep(ctx, w.pause)
}

func (w *wait) sleep(ctx context.Context, d time.Duration) error {
	left := time.Until(w.deadline)
	if left <= 0 {
		return ErrLockTimeout
	}
	return sleep(ctx, min(d, left))
}

// sleep returns after d, or with an error when ctx is done.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// untilFree loads the record, each time after a pause, until its lock is free.
func (w *wait) untilFree(ctx context.Context) (Record, error) {
	for {
		if err := w.another(ctx); err != nil {
			return Record{}, err
		}
		rec, err := w.m.load(ctx, w.key)
		if err != nil || !rec.LockedUntil.After(time.Now()) {
			return rec, err
		}
	}
}

// lineError returns the error of this package for one of package line.
func lineError(err error) error {
	if errors.Is(err, line.ErrTimeout) {
		return fmt.Errorf("%w: %w", ErrLockTimeout, err)
	}
	return err
}

// lockError joins werr, which ended a wait, and the reason for the wait.
func lockError(werr, locked error) error {
	if errors.Is(werr, ErrLockTimeout) {
		return fmt.Errorf("%w: %w", werr, locked)
	}
	return werr
}

// outwait waits until the lock of the record at key is free, and returns the
// record. If too many wait in line already, it waits beside the line.
func (m *core) outwait(ctx context.Context, key string, deadline time.Time) (Record, error) {
	w := m.newWait(key)
	w.deadline = deadline
	defer w.leave()
	if err := w.enter(ctx); err != nil && !errors.Is(err, ErrLockTimeout) {
		return Record{}, err
	}
	return w.untilFree(ctx)
}

// backoff waits between 2 ms and a bound that doubles up to 100 ms.
func backoff(ctx context.Context, try int) error {
	const shortest, longest = 2 * time.Millisecond, 100 * time.Millisecond
	most := min(shortest<<min(try, 8), longest)
	return sleep(ctx, shortest+rand.N(most))
}

// within runs f with a context that ends at the deadline, if there is one.
func within(ctx context.Context, deadline time.Time, f func(context.Context) error) error {
	if !deadline.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, deadline)
		defer cancel()
	}
	return f(ctx)
}
