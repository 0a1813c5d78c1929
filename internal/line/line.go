// Package line makes requests of one process wait for their turn, first come, first
// served, for each of many keys.
package line

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// ErrTimeout says that a turn did not come in time, or that too many wait
// already.
var ErrTimeout = errors.New("no turn in time")

// Lines has a line for each key. The request in front hands its result, a *T, to
// the next. The zero value is ready for use.
type Lines[T any] struct {
	mu    sync.Mutex
	m     map[string]*line[T]
	turns uint64 // how many there were
}

type line[T any] struct {
	waiting []chan *T // each is told when it is its turn, and what the one before has done
	since   time.Time // since when this process has had the session, more or less without a break
	left    time.Time // when the last one left; zero while somebody is in front
	moves   bool      // no lock keeps the one in front
	front   uint64    // the turn of the one in front, 0 if that has still to step there
	stirred time.Time // when there was a sign of life from the front
}

// Turn is a request's place at the head of a line.
type Turn[T any] struct {
	n         uint64
	Waited    bool // others were in front before
	StandBack bool // let other processes have their turn first
	Done      *T   // by the one before; then, by this one
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

// Enter waits for a turn, behind at most so many others. At the deadline it gives
// up, unless the line moves; then it waits for as long again. In a line that
// moves, a request in front that shows no sign of life for stall loses its turn,
// because it may hang in the store. If the line is empty, moves says whether it
// moves. The caller must Leave.
func (ls *Lines[T]) Enter(ctx context.Context, key string, most int, deadline time.Time, stall time.Duration, moves bool) (Turn[T], error) {
	ls.mu.Lock()
	l, now := ls.m[key], time.Now()
	if l == nil || !l.left.IsZero() {
		if l == nil {
			ls.forget(now)
			if ls.m == nil {
				ls.m = make(map[string]*line[T])
			}
			l = &line[T]{since: now}
			ls.m[key] = l
		}
		l.moves = moves
		t := ls.step(l, now)
		ls.mu.Unlock()
		return t, nil
	}
	if len(l.waiting) >= most {
		ls.mu.Unlock()
		return Turn[T]{}, fmt.Errorf("%w: %d requests of this process wait already", ErrTimeout, most)
	}
	told := make(chan *T, 1)
	l.waiting = append(l.waiting, told)
	timer := time.NewTimer(l.next(now, deadline, stall))
	ls.mu.Unlock()

	defer timer.Stop()
	wait := max(deadline.Sub(now), breather)
	var err error
	for err == nil {
		select {
		case done := <-told:
			ls.mu.Lock()
			defer ls.mu.Unlock()
			t := ls.step(l, time.Now())
			t.Waited, t.Done = true, done
			return t, nil
		case <-timer.C:
			ls.mu.Lock()
			now := time.Now()
			switch late := !now.Before(deadline); {
			case late && !l.moves:
				err = ErrTimeout
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
		done := <-told
		ls.mu.Lock()
		ls.pass(l, done)
		ls.mu.Unlock()
	}
	return Turn[T]{}, err
}

// next returns when to look whether to go on waiting.
func (l *line[T]) next(now, deadline time.Time, stall time.Duration) time.Duration {
	if l.moves {
		if stirred := l.stirred.Add(stall); stirred.Before(deadline) {
			deadline = stirred
		}
	}
	return deadline.Sub(now)
}

// Busy reports whether the line is not empty.
func (ls *Lines[T]) Busy(key string) bool {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	l := ls.m[key]
	return l != nil && l.left.IsZero()
}

// Moves lets the request in front say whether the line moves, or a lock keeps it.
func (ls *Lines[T]) Moves(key string, t *Turn[T], yes bool) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if l := ls.m[key]; l != nil && l.front == t.n {
		l.moves, l.stirred = yes, time.Now()
	}
}

// step moves a request to the front. It finds out whether this process has had the
// session for long enough.
func (ls *Lines[T]) step(l *line[T], now time.Time) Turn[T] {
	ls.turns++
	l.front, l.stirred = ls.turns, now
	if !l.left.IsZero() && now.Sub(l.left) >= breather {
		l.since = now
	}
	l.left = time.Time{}
	t := Turn[T]{n: l.front, StandBack: now.Sub(l.since) >= patience}
	if t.StandBack {
		l.since = now
	}
	return t
}

// Leave ends the turn t, unless it was lost.
func (ls *Lines[T]) Leave(key string, t *Turn[T]) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if l := ls.m[key]; l != nil && l.front == t.n {
		ls.pass(l, t.Done)
	}
}

// pass lets the next request step to the front, and hands it done.
func (ls *Lines[T]) pass(l *line[T], done *T) {
	l.front, l.stirred = 0, time.Now()
	if len(l.waiting) == 0 {
		l.left = time.Now()
		return
	}
	l.waiting[0] <- done
	l.waiting = l.waiting[1:]
}

// forget deletes lines that have been empty for a while. It looks at a few, at
// random, more than are made.
func (ls *Lines[T]) forget(now time.Time) {
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
