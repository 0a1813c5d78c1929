package session

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// lines are the requests of this process that wait for a session each, first
// come, first served. Only the one in front talks to the store.
type lines struct {
	mu    sync.Mutex
	m     map[string]*line
	turns uint64 // how many there were
}

type line struct {
	waiting []chan *Record // each is told when it is its turn, and what the one before has stored
	since   time.Time      // since when this process has had the session, more or less without a break
	left    time.Time      // when the last one left; zero while somebody is in front
	moves   bool           // no lock keeps the one in front
	front   uint64         // the turn of the one in front, 0 if that has still to step there
	stirred time.Time      // when there was a sign of life from the front
}

// turn is a request's place at the head of a line.
type turn struct {
	n         uint64
	waited    bool    // others were in front before
	standBack bool    // let other processes have their turn first
	stored    *Record // what the one before has stored; then, what this one has
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

// enter waits for its turn, behind at most so many others. At the deadline it
// gives up, unless the line moves; then it waits as long once more, and whoever
// is in front without a sign of life for stall loses its turn, as it may hang
// in the store. Where it finds nobody, the line moves if the caller says so. The
// caller must leave.
func (ls *lines) enter(ctx context.Context, key string, most int, deadline time.Time, stall time.Duration, moves bool) (turn, error) {
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
		l.moves = moves
		t := ls.step(l, now)
		ls.mu.Unlock()
		return t, nil
	}
	if len(l.waiting) >= most {
		ls.mu.Unlock()
		return turn{}, fmt.Errorf("%w: %d requests of this process wait already", ErrLockTimeout, most)
	}
	told := make(chan *Record, 1)
	l.waiting = append(l.waiting, told)
	timer := time.NewTimer(l.next(now, deadline, stall))
	ls.mu.Unlock()

	defer timer.Stop()
	wait := max(deadline.Sub(now), breather)
	var err error
	for err == nil {
		select {
		case rec := <-told:
			ls.mu.Lock()
			defer ls.mu.Unlock()
			t := ls.step(l, time.Now())
			t.waited, t.stored = true, rec
			return t, nil
		case <-timer.C:
			ls.mu.Lock()
			now := time.Now()
			switch late := !now.Before(deadline); {
			case late && !l.moves:
				err = ErrLockTimeout
			case late:
				deadline = now.Add(wait)
			}
			if l.moves && now.Sub(l.stirred) >= stall {
				ls.pass(l, nil)
			}
			timer.Reset(l.next(now, deadline, stall))
			ls.mu.Unlock()
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	ls.mu.Lock()
	i := slices.Index(l.waiting, told)
	if i >= 0 {
		l.waiting = slices.Delete(l.waiting, i, i+1)
	}
	ls.mu.Unlock()
	if i < 0 { // its turn came meanwhile
		rec := <-told
		ls.mu.Lock()
		ls.pass(l, rec)
		ls.mu.Unlock()
	}
	return turn{}, err
}

// next returns when to look whether to go on waiting.
func (l *line) next(now, deadline time.Time, stall time.Duration) time.Duration {
	if l.moves {
		deadline = earlier(deadline, l.stirred.Add(stall))
	}
	return deadline.Sub(now)
}

// busy reports whether there is anybody in the line.
func (ls *lines) busy(key string) bool {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	l := ls.m[key]
	return l != nil && l.left.IsZero()
}

// moves is for the one in front, which tells whether a lock keeps it.
func (ls *lines) moves(key string, t *turn, yes bool) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if l := ls.m[key]; l != nil && l.front == t.n {
		l.moves, l.stirred = yes, time.Now()
	}
}

// step is somebody's step to the front. It finds out whether this process has
// had the session for long enough.
func (ls *lines) step(l *line, now time.Time) turn {
	ls.turns++
	l.front, l.stirred = ls.turns, now
	if !l.left.IsZero() && now.Sub(l.left) >= breather {
		l.since = now
	}
	l.left = time.Time{}
	t := turn{n: l.front, standBack: now.Sub(l.since) >= patience}
	if t.standBack {
		l.since = now
	}
	return t
}

// leave ends t, if that has not been lost.
func (ls *lines) leave(key string, t *turn) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if l := ls.m[key]; l != nil && l.front == t.n {
		ls.pass(l, t.stored)
	}
}

// pass lets the next one step to the front, and tells it what was stored.
func (ls *lines) pass(l *line, stored *Record) {
	l.front, l.stirred = 0, time.Now()
	if len(l.waiting) == 0 {
		l.left = time.Now()
		return
	}
	l.waiting[0] <- stored
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
	most     int // of how many requests
	deadline time.Time
	pause    time.Duration
	started  time.Time
	turn     turn
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
	t, err := w.m.lines.enter(ctx, w.key, w.most, w.deadline, 0, false)
	if err != nil {
		return err
	}
	w.turn, w.inLine = t, true
	if t.standBack {
		if err = w.sleep(ctx, lk.MaxRetry+lk.MinRetry); err != nil {
			w.leave()
		}
	}
	return err
}

func (w *wait) leave() {
	if w.inLine {
		w.inLine = false
		w.m.lines.leave(w.key, &w.turn)
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
