package session

import (
	"context"
	"sync"
	"time"
)

// A use keeps the session of a long request alive: it has a timer that moves the
// deadline before it passes, and fires only when most of the remaining time has
// passed.
type use struct {
	mu    sync.Mutex
	ctx   context.Context // for the store; its end is not looked at
	timer *time.Timer
	stop  context.CancelFunc // of a call that is under way
	leave func() bool        // of the context that it ends with, if there is one
	over  bool
}

// begin starts the use: prolong is called when two thirds of left have passed. If
// bound is set, it ends with ctx. For a use that has begun already, only left is
// new.
func (u *use) begin(ctx context.Context, left time.Duration, bound bool, prolong func()) {
	u.mu.Lock()
	defer u.mu.Unlock()
	switch {
	case u.over:
		return
	case u.timer != nil:
		if u.stop == nil { // else during does it
			u.timer.Reset(left * 2 / 3)
		}
		return
	}
	u.ctx = ctx
	u.timer = time.AfterFunc(left*2/3, prolong)
	if bound {
		u.leave = context.AfterFunc(ctx, u.end)
	}
}

// end ends the use: nothing is left of it.
func (u *use) end() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.over = true
	if u.timer != nil {
		u.timer.Stop()
	}
	if u.stop != nil {
		u.stop()
	}
	if u.leave != nil {
		u.leave()
	}
}

// during runs f, which prolongs the use, with a context that ends with the use or
// after timeout. f returns how much time is left then, and whether to prolong the
// use again.
func (u *use) during(timeout time.Duration, f func(context.Context) (left time.Duration, again bool)) {
	u.mu.Lock()
	if u.over {
		u.mu.Unlock()
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(u.ctx), timeout)
	u.stop = cancel
	u.mu.Unlock()
	defer cancel()

	left, again := f(ctx)
	u.mu.Lock()
	defer u.mu.Unlock()
	u.stop = nil
	if again && !u.over {
		u.timer.Reset(left * 2 / 3)
	}
}
