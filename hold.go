package session

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/seed-a7bee19b/session/observe"
)

// A hold is a lock that a session holds: its lease, and the place at the head of
// the line, which keeps the other requests of this process waiting.
type hold struct {
	m      *core
	key    string
	ctx    context.Context         // of the work that relies on the lock
	cancel context.CancelCauseFunc // of ctx, for when the lock is lost
	lease  lease
	wait   *wait

	mu      sync.Mutex
	until   time.Time // when the lease runs out, counted from before it was asked for
	last    time.Time // when it does for good, MaxHold after it was first asked for
	timer   *time.Timer
	stop    context.CancelFunc // of a renewal that is under way
	writing bool               // a write is under way that frees the lock if it succeeds
	err     error              // why the lock is lost
	over    bool
}

// take waits for the lock and returns the record. From then on it renews the lock
// until the hold ends, but for at most MaxHold, and calls h.cancel if the lock is
// lost. It does so even if the client leaves, because the handler may still be
// at work.
func (h *hold) take(ctx context.Context) (Record, error) {
	h.wait = h.m.newWait(h.key)
	held := false
	defer func() {
		if !held { // also when the store panics
			h.wait.leave()
		}
	}()
	rec, err := h.acquire(ctx)
	waited := time.Since(h.wait.started)
	if err != nil {
		h.m.event(ctx, observe.Event{Kind: observe.EventLockFailed, Err: err, Wait: waited})
		return Record{}, err
	}
	h.m.event(ctx, observe.Event{Kind: observe.EventLockAcquired, Wait: waited})
	held = true
	h.mu.Lock()
	defer h.mu.Unlock()
	h.timer = time.AfterFunc(h.nextRenewal(), h.renew)
	return rec, nil
}

func (h *hold) acquire(ctx context.Context) (Record, error) {
	if err := h.wait.enter(ctx); err != nil {
		return Record{}, err
	}
	for {
		asked := time.Now()
		l, rec, err := h.m.acquire(ctx, h.key, h.m.cfg.Lock.TTL)
		switch {
		case err == nil:
			h.lease = l
			h.until, h.last = asked.Add(h.m.cfg.Lock.TTL), asked.Add(h.m.cfg.Lock.MaxHold)
			return rec, nil
		case !errors.Is(err, ErrLocked):
			return Record{}, err
		}
		var werr error
		if h.m.locking != nil {
			_, werr = h.wait.untilFree(ctx)
		} else {
			werr = h.wait.another(ctx)
		}
		if werr != nil {
			return Record{}, lockError(werr, err)
		}
	}
}

// nextRenewal returns how long it is until a third of the lease is over, or until
// its end if it is not to be renewed any more.
func (h *hold) nextRenewal() time.Duration {
	left := time.Until(h.until)
	if !h.until.Before(h.last) {
		return left
	}
	return max(0, left-2*h.m.cfg.Lock.TTL/3)
}

// renew runs from the timer while the session holds its lock.
func (h *hold) renew() {
	asked, ttl := time.Now(), h.m.cfg.Lock.TTL
	h.mu.Lock()
	if h.over || h.err != nil {
		h.mu.Unlock()
		return
	}
	until, next := h.until, earlier(h.last, asked.Add(ttl))
	// One try does not get all of the lease: if its answer is lost, the next try
	// may succeed.
	ctx, cancel := context.WithDeadline(context.WithoutCancel(h.ctx), earlier(until, asked.Add(ttl/3)))
	h.stop = cancel
	h.mu.Unlock()
	defer cancel()

	err := errHeldTooLong
	if next.After(until) {
		err = h.lease.extend(ctx, next.Sub(asked))
	}
	h.mu.Lock()
	h.stop = nil
	left := time.Until(until)
	refused := errors.Is(err, ErrConflict) || errors.Is(err, ErrNotFound)
	switch {
	case h.over || h.err != nil:
	case err == nil:
		h.until = next
		h.timer.Reset(h.nextRenewal())
	case left <= 0, refused && !h.writing:
		h.mu.Unlock()
		_ = h.lose(err)
		return
	default:
		// The store failed, and may recover before the lease runs out; or a
		// write that frees the lock overtook us, and its outcome will tell.
		h.timer.Reset(min(ttl/10, left))
	}
	h.mu.Unlock()
}

// lose ends the hold because the lock is lost, and returns an [ErrLockLost]. If
// the hold has ended already, it changes nothing.
func (h *hold) lose(cause error) error {
	h.mu.Lock()
	first := h.err == nil && !h.over
	if h.err == nil {
		h.err = fmt.Errorf("%w: %w", ErrLockLost, cause)
	}
	err := h.err
	if first {
		h.quit()
	}
	h.mu.Unlock()
	if first {
		h.cancel(err)
		h.m.event(h.ctx, observe.Event{Kind: observe.EventLockLost, Err: err})
	}
	return err
}

// quit stops renewing and leaves the line. h.mu is held.
func (h *hold) quit() {
	h.timer.Stop()
	if h.stop != nil {
		h.stop()
	}
	h.wait.leave()
}

var (
	errLeaseOver   = errors.New("the lease ran out")
	errHeldTooLong = errors.New("it was held for Lock.MaxHold")
)

// check returns an error if the lock is lost.
func (h *hold) check() error {
	h.mu.Lock()
	err, late := h.err, !h.over && !time.Now().Before(h.until)
	h.mu.Unlock()
	if err == nil && late {
		return h.lose(errLeaseOver)
	}
	return err
}

// write records that a write begins or has ended which frees the lock if it
// succeeds: if it overtakes a renewal, the lock is not lost.
func (h *hold) write(begins bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.writing = begins
}

// abandon ends the hold of a lock that was freed, or that its lease will free.
func (h *hold) abandon() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.over && h.err == nil {
		h.quit()
	}
	h.over = true
}
