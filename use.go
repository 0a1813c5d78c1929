package session

import (
	"context"
	"sync"
	"time"
)

// A use keeps the session of a request that takes long: one that began in time
// moves the deadline before it passes. It has a timer, and calls the store only
// when most of the time that was left has passed.
type use struct {
	mu    sync.Mutex
	ctx   context.Context // for the store; its end is not looked at
	timer *time.Timer
	stop  context.CancelFunc // of a call that is under way
	leave func() bool        // of the context that it ends with, if there is one
	over  bool
}

// begin starts the use of s, once. Outside of HTTP it lasts as long as ctx, and
// there is none if that cannot end, as it might never.
func (u *use) begin(ctx context.Context, s *Session) {
	if s.exchange == nil && ctx.Done() == nil {
		return
	}
	var left time.Duration
	useful := false
	s.set(func() { left, useful = s.timeLeft() })
	if !useful {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.over || u.timer != nil {
		return
	}
	u.ctx = ctx
	u.timer = time.AfterFunc(left*2/3, s.prolong)
	if s.exchange == nil {
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

// timeLeft returns how long s has to live, and whether a use can give it more.
func (s *Session) timeLeft() (left time.Duration, useful bool) {
	if !s.stored() {
		return 0, false
	}
	now := time.Now()
	due := s.due(now)
	left = due.Sub(now)
	return left, left > shortestUse && s.m.deadline(due, s.rec.Created).After(due)
}

// shortestUse is what is too short to move a deadline in. It also ends the
// tries of a use, each of which has a third of the time of the one before.
const shortestUse = time.Millisecond

// prolong runs from the timer of a use.
func (s *Session) prolong() {
	u := &s.use
	u.mu.Lock()
	if u.over {
		u.mu.Unlock()
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(u.ctx), s.m.moveTimeout())
	u.stop = cancel
	u.mu.Unlock()
	defer cancel()

	// What fails may succeed the next time.
	if err := s.exclusively(ctx, time.Time{}, func() error { return s.move(ctx) }); err != nil && ctx.Err() != nil {
		s.m.rest()
	}
	var left time.Duration
	again := false
	s.set(func() { left, again = s.timeLeft() })
	u.mu.Lock()
	defer u.mu.Unlock()
	u.stop = nil
	if again && !u.over {
		u.timer.Reset(left * 2 / 3)
	}
}

// move moves the deadline of a session in use, if that gives it more time than
// it has left.
func (s *Session) move(ctx context.Context) error {
	now := time.Now()
	expires, due := s.m.deadline(now, s.rec.Created), s.due(now)
	switch {
	case s.closed.Load() || !s.stored() || s.mode.get() == ReadOnly || expires.Sub(due) <= due.Sub(now):
		return nil
	case s.restamps(expires) && s.hold == nil && s.moving == nil:
		return s.restamp(ctx)
	case expires.After(s.rec.Expires):
		return s.touch(ctx, expires)
	}
	return nil
}

// moveTimeout bounds what only moves a deadline or frees a lock before a
// response: no page is to wait long for it.
func (m *core) moveTimeout() time.Duration { return m.cfg.CommitTimeout / 10 }

// restTime is how long no response waits for its session's deadline to be
// moved after that has failed, unless the session would end by then.
const restTime = 5 * time.Second

func (m *core) rest() { m.rests.Store(time.Now().Add(restTime).UnixNano()) }

// resting reports whether not to move the deadline due.
func (m *core) resting(due time.Time) bool {
	until := time.Unix(0, m.rests.Load())
	return time.Now().Before(until) && due.After(until)
}
