package session

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// Lock configures mode [Exclusive], and how the other modes wait while a
// session is locked. The zero value is a good default.
type Lock struct {
	// Locker locks in place of the Backend. It is needed only if the Backend
	// is no [Leaser], and costs two requests for each lock.
	Locker Locker

	// TTL is the lease: how long a lock outlives a holder that crashed. While
	// the holder works it is renewed each third of it. Default 5 seconds; at
	// least 100 milliseconds. Set it well above the longest pause of the
	// process and the difference of the clocks of your machines.
	TTL time.Duration

	// MaxWait is how long a request waits for a lock. Default 10 seconds.
	MaxWait time.Duration

	// MinRetry and MaxRetry bound the random pause between two looks at a
	// lock that somebody else holds: each look is one Load. Defaults 10 and
	// 50 milliseconds.
	MinRetry, MaxRetry time.Duration

	// MaxWaiters is how many requests of this process may wait for one
	// session; one more fails at once. Default 128.
	MaxWaiters int

	// OnTimeout is what becomes of a request that got no lock in time.
	// Default [FailOnTimeout].
	OnTimeout TimeoutPolicy
}

// TimeoutPolicy is what becomes of a request that got no lock within
// [Lock.MaxWait].
type TimeoutPolicy int

const (
	// FailOnTimeout returns [ErrLockTimeout]; [Manager.Error] answers with
	// 503 and Retry-After.
	FailOnTimeout TimeoutPolicy = iota
	// ReadOnlyOnTimeout opens the session in mode [ReadOnly].
	ReadOnlyOnTimeout
	// MergeOnTimeout opens the session in mode [Merge].
	MergeOnTimeout
)

func (l Lock) withDefaults() (Lock, error) {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf("session: Lock: "+format, args...)) }
	duration := func(name string, d *time.Duration, def time.Duration) {
		switch {
		case *d < 0:
			bad("%s is %v; it must not be negative", name, *d)
		case *d == 0:
			*d = def
		}
	}
	if l.TTL != 0 && l.TTL < 100*time.Millisecond {
		bad("TTL is %v; it must be at least 100ms", l.TTL)
	}
	duration("TTL", &l.TTL, 5*time.Second)
	duration("MaxWait", &l.MaxWait, 10*time.Second)
	// If only one of the two is set, the default of the other gives way.
	least, most := 10*time.Millisecond, 50*time.Millisecond
	if l.MaxRetry > 0 {
		least = min(least, l.MaxRetry)
	}
	duration("MinRetry", &l.MinRetry, least)
	duration("MaxRetry", &l.MaxRetry, max(most, l.MinRetry))
	if l.MinRetry > l.MaxRetry {
		bad("MinRetry is %v; it must not be longer than MaxRetry, which is %v", l.MinRetry, l.MaxRetry)
	}
	if l.MaxWaiters < 0 {
		bad("MaxWaiters is %d; it must not be negative", l.MaxWaiters)
	} else if l.MaxWaiters == 0 {
		l.MaxWaiters = 128
	}
	if l.OnTimeout < FailOnTimeout || l.OnTimeout > MergeOnTimeout {
		bad("unknown TimeoutPolicy %d", int(l.OnTimeout))
	}
	return l, errors.Join(errs...)
}

// lines are the requests of this process that wait for a session each, first
// come, first served. Only the one in front talks to the store.
type lines struct {
	mu sync.Mutex
	m  map[string]*line
}

type line struct {
	waiting []chan struct{} // each closed when it is its turn
	since   time.Time       // since when this process has had the session, more or less without a break
	left    time.Time       // when the last one left; zero while somebody is in front
}

const (
	// patience is how long the requests of one process may hand a session
	// from one to the next. After it they stand back, so that those of
	// another process, which only look at it now and then, get their turn.
	patience = 250 * time.Millisecond
	// breather is how long a process must have left a session alone to be
	// given patience anew.
	breather = 100 * time.Millisecond
)

// enter waits for its turn, at most until the deadline. The caller must then
// call leave. It reports whether to stand back first.
func (ls *lines) enter(ctx context.Context, key string, most int, deadline time.Time) (standBack bool, err error) {
	ls.mu.Lock()
	l, now := ls.m[key], time.Now()
	if l == nil || !l.left.IsZero() {
		if l == nil {
			ls.forget(now)
			if ls.m == nil {
				ls.m = make(map[string]*line)
			}
			l = &line{since: now}
			ls.m[key] = l
		}
		standBack = l.step(now)
		ls.mu.Unlock()
		return standBack, nil
	}
	if len(l.waiting) >= most {
		ls.mu.Unlock()
		return false, fmt.Errorf("%w: %d requests of this process wait already", ErrLockTimeout, most)
	}
	turn := make(chan struct{})
	l.waiting = append(l.waiting, turn)
	ls.mu.Unlock()

	timer := time.NewTimer(deadline.Sub(now))
	defer timer.Stop()
	select {
	case <-turn:
		ls.mu.Lock()
		defer ls.mu.Unlock()
		return l.step(time.Now()), nil
	case <-timer.C:
		err = ErrLockTimeout
	case <-ctx.Done():
		err = ctx.Err()
	}
	ls.mu.Lock()
	i := slices.Index(l.waiting, turn)
	if i >= 0 {
		l.waiting = slices.Delete(l.waiting, i, i+1)
	}
	ls.mu.Unlock()
	if i < 0 { // its turn came meanwhile
		ls.leave(key)
	}
	return false, err
}

// step is somebody's step to the front. It reports whether this process has
// had the session for long enough.
func (l *line) step(now time.Time) (standBack bool) {
	if !l.left.IsZero() && now.Sub(l.left) >= breather {
		l.since = now
	}
	l.left = time.Time{}
	if now.Sub(l.since) < patience {
		return false
	}
	l.since = now
	return true
}

// leave lets the next one step to the front.
func (ls *lines) leave(key string) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	l := ls.m[key]
	if len(l.waiting) == 0 {
		l.left = time.Now()
		return
	}
	close(l.waiting[0])
	l.waiting = l.waiting[1:]
}

// forget drops lines that nobody has been in for a while. It looks at a few,
// at random, more than come anew.
func (ls *lines) forget(now time.Time) {
	n := 0
	for key, l := range ls.m {
		if !l.left.IsZero() && now.Sub(l.left) >= breather {
			delete(ls.m, key)
		}
		if n++; n == 4 {
			return
		}
	}
}

// wait is one request's wait for a lock: a place in the line of this process,
// and then looks at the store with random pauses between them.
type wait struct {
	m        *core
	key      string
	deadline time.Time
	pause    time.Duration
	started  time.Time
	inLine   bool
}

func (m *core) newWait(key string) *wait {
	now := time.Now()
	return &wait{m: m, key: key, started: now, deadline: now.Add(m.cfg.Lock.MaxWait)}
}

// enter takes a place in the line and comes to its head.
func (w *wait) enter(ctx context.Context) error {
	if w.inLine {
		return nil
	}
	lk := &w.m.cfg.Lock
	standBack, err := w.m.lines.enter(ctx, w.key, lk.MaxWaiters, w.deadline)
	if err != nil {
		return err
	}
	w.inLine = true
	if standBack {
		if err = w.sleep(ctx, lk.MaxRetry+lk.MinRetry); err != nil {
			w.leave()
		}
	}
	return err
}

func (w *wait) leave() {
	if w.inLine {
		w.inLine = false
		w.m.lines.leave(w.key)
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
	t := time.NewTimer(min(d, left))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// untilFree looks at the record, each time after a pause, until nobody holds
// its lock.
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
