// Package watch looks at things now and then until they end. All who watch one
// thing share its looks.
package watch

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

const (
	// leastPatience is how long, at least, a watcher goes on while no look succeeds.
	leastPatience = 30 * time.Second
	// intervals is after how many intervals without success it ends.
	intervals = 3
	// shortest and longest bound the time for one look.
	shortest = time.Second
	longest  = 5 * time.Second
	// maxMoves is how often a look follows a thing to another key.
	maxMoves = 16
)

// Look looks at the thing at key. There is at most one look at a thing at a time.
// If keep is set, it also does what keeps the thing from ending.
type Look[T any] func(ctx context.Context, key string, keep bool) Outcome[T]

// Outcome is what a look has found.
type Outcome[T any] struct {
	Found  T
	Next   time.Time // when to look again at the latest; zero: when the watchers want it
	Moved  string    // if not empty, the key that the thing has moved to
	Over   error     // if not nil, why the thing has ended
	Failed error     // if not nil, why nothing is known
}

// Wish says what a watcher wants.
type Wish[T any] struct {
	Interval time.Duration // between two looks, at most
	By       time.Time     // when to look for the first time at the latest; zero: after Interval
	Keep     bool          // the thing is to be kept from ending
	// Check returns why the watcher ends, given what a look has found; nil if it
	// goes on. It must not call the Watches.
	Check func(T) error
	// End is called once if the watcher ends before it leaves.
	End func(why error)
}

// Watches has the watches of a process, one for each key. The zero value is ready
// for use.
type Watches[T any] struct {
	mu sync.Mutex
	m  map[string]*watch[T]
}

// watch is the watch of one thing. It is over when it has no watchers.
type watch[T any] struct {
	key      string
	look     Look[T]
	watchers map[*watcher[T]]struct{}
	timer    *time.Timer
	next     time.Time          // when the timer fires
	seen     time.Time          // when the last look began that has succeeded
	stop     context.CancelFunc // of a look in flight, nil if there is none
	again    bool               // look again when the one in flight is over
}

type watcher[T any] struct {
	Wish[T]
	since, first time.Time
	of           *watch[T]
}

// Join adds a watcher of the thing at key. Its looks are those of look, unless the
// thing is watched already. The watcher stays until it is ended or calls leave.
func (ws *Watches[T]) Join(key string, look Look[T], wish Wish[T]) (leave func()) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	now := time.Now()
	w := &watcher[T]{Wish: wish, since: now, first: now.Add(wish.Interval)}
	x := ws.m[key]
	if x == nil {
		if ws.m == nil {
			ws.m = make(map[string]*watch[T])
		}
		x = &watch[T]{key: key, look: look, watchers: make(map[*watcher[T]]struct{})}
		ws.m[key] = x
		// Watches that begin at once, as after a restart, do not look at once.
		w.first = now.Add(1 + rand.N(wish.Interval))
	}
	if !wish.By.IsZero() {
		w.first = earlier(w.first, wish.By)
	}
	w.of = x
	x.watchers[w] = struct{}{}
	switch {
	case x.timer == nil:
		x.next = w.first
		x.timer = time.AfterFunc(time.Hour, func() { ws.run(x) })
		x.schedule(w.first)
	case x.stop == nil && w.first.Before(x.next): // otherwise the end of the look schedules the next
		x.schedule(w.first)
	}
	return func() { ws.leave(w) }
}

func (ws *Watches[T]) leave(w *watcher[T]) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	x := w.of
	if _, ok := x.watchers[w]; ok {
		delete(x.watchers, w)
		ws.closeIfLeft(x)
	}
}

// closeIfLeft ends x if it has no watchers: nothing is left of it.
func (ws *Watches[T]) closeIfLeft(x *watch[T]) {
	if len(x.watchers) > 0 {
		return
	}
	if ws.m[x.key] == x {
		delete(ws.m, x.key)
	}
	x.timer.Stop()
	if x.stop != nil {
		x.stop()
	}
}

// Wake looks at the thing at key now, if it is watched.
func (ws *Watches[T]) Wake(key string) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if x := ws.m[key]; x != nil {
		x.wake()
	}
}

func (x *watch[T]) wake() {
	if x.stop != nil {
		x.again = true
	} else {
		x.schedule(time.Now())
	}
}

// End ends the watchers of the thing at key, which is known to have ended.
func (ws *Watches[T]) End(key string, why error) {
	ws.mu.Lock()
	x := ws.m[key]
	if x == nil {
		ws.mu.Unlock()
		return
	}
	ended := x.watchers
	x.watchers = nil
	ws.closeIfLeft(x)
	ws.mu.Unlock()
	for w := range ended {
		w.End(why)
	}
}

// schedule sets the timer. What it keeps as next is on the monotonic clock, as the
// timer is: the deadlines of the store are not.
func (x *watch[T]) schedule(next time.Time) {
	now := time.Now()
	wait := max(0, next.Sub(now))
	x.next = now.Add(wait)
	x.timer.Reset(wait)
}

// run is called by the timer.
func (ws *Watches[T]) run(x *watch[T]) {
	ws.mu.Lock()
	asked := time.Now()
	if len(x.watchers) == 0 || x.stop != nil || asked.Before(x.next) { // the timer was set anew as it fired
		ws.mu.Unlock()
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), x.timeout())
	defer cancel()
	x.stop, x.again = cancel, false
	key, keep := x.key, x.keep()
	ws.mu.Unlock()

	out := x.look(ctx, key, keep)
	for moves := 0; out.Moved != ""; moves++ {
		if !ws.move(x, out.Moved) {
			return
		}
		if moves == maxMoves {
			out = Outcome[T]{Failed: fmt.Errorf("it moved more than %d times", maxMoves)}
			break
		}
		out = x.look(ctx, out.Moved, keep)
	}
	ws.settle(x, asked, out)
}

// timeout returns the time for one look.
func (x *watch[T]) timeout() time.Duration {
	d := longest
	for w := range x.watchers {
		d = min(d, w.Interval)
	}
	return max(d, shortest)
}

// keep reports whether one of the watchers wants the thing to be kept.
func (x *watch[T]) keep() bool {
	for w := range x.watchers {
		if w.Keep {
			return true
		}
	}
	return false
}

// move follows the thing of x to key. It returns false if x is over: nobody
// watches it any more, or its watchers have joined those who watch that key.
func (ws *Watches[T]) move(x *watch[T], key string) bool {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if len(x.watchers) == 0 {
		return false
	}
	delete(ws.m, x.key)
	there := ws.m[key]
	if there == nil {
		x.key, ws.m[key] = key, x
		return true
	}
	for w := range x.watchers {
		w.of = there
		there.watchers[w] = struct{}{}
	}
	x.watchers = nil
	ws.closeIfLeft(x)
	there.wake()
	return false
}

// settle tells the watchers of x what a look has found that began at asked, and
// schedules the next.
func (ws *Watches[T]) settle(x *watch[T], asked time.Time, out Outcome[T]) {
	ended := make(map[*watcher[T]]error)
	defer func() {
		for w, why := range ended {
			w.End(why)
		}
	}()
	ws.mu.Lock()
	defer ws.mu.Unlock()
	x.stop = nil
	if len(x.watchers) == 0 {
		return
	}
	if out.Over == nil && out.Failed == nil {
		x.seen = asked
	}
	now, next := time.Now(), out.Next
	for w := range x.watchers {
		by, why := w.judge(x.seen, asked, now, out)
		if why != nil {
			ended[w] = why
			delete(x.watchers, w)
			continue
		}
		if next.IsZero() || by.Before(next) {
			next = by
		}
	}
	if len(x.watchers) == 0 {
		ws.closeIfLeft(x)
		return
	}
	if x.again || out.Over != nil {
		next = now
	}
	x.schedule(next)
}

// judge returns when w wants the next look after one, or why it ends.
func (w *watcher[T]) judge(seen, asked, now time.Time, out Outcome[T]) (next time.Time, why error) {
	next = asked.Add(w.Interval)
	switch {
	case w.since.After(asked): // what it has found is older than the watcher
		return w.first, nil
	case out.Over != nil:
		return next, out.Over
	case out.Failed == nil:
		return next, w.Check(out.Found)
	}
	if seen.Before(w.since) {
		seen = w.since
	}
	limit := seen.Add(max(intervals*w.Interval, leastPatience))
	if !now.Before(limit) {
		why = fmt.Errorf("no look has succeeded for %v: %w", now.Sub(seen).Round(time.Millisecond), out.Failed)
	}
	return earlier(next, limit), why
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
