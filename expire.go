package session

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"
)

// expired applies the absolute timeout as configured now, which may be
// shorter than when the record was written.
func (m *core) expired(rec Record, now time.Time) bool { return rec.Expired(now) || m.over(rec, now) }

// over reports whether the session has reached its absolute deadline.
func (m *core) over(rec Record, now time.Time) bool {
	return m.cfg.AbsoluteTimeout > 0 && !now.Before(rec.Created.Add(m.cfg.AbsoluteTimeout))
}

// deadline is the Expires of a session that is used at now.
func (m *core) deadline(now, created time.Time) time.Time {
	idle, absolute := now.Add(m.cfg.IdleTimeout), created.Add(m.cfg.AbsoluteTimeout)
	switch {
	case m.cfg.IdleTimeout < 0:
		return absolute
	case m.cfg.AbsoluteTimeout < 0 || idle.Before(absolute):
		return idle
	default:
		return absolute
	}
}

// due is when the session ends by the timeouts as configured now.
func (s *Session) due(now time.Time) time.Time {
	due, cfg := s.rec.Expires, &s.m.cfg
	if made := s.madeBy(now); made > cfg.IdleTimeout && cfg.IdleTimeout > 0 {
		due = due.Add(cfg.IdleTimeout - made)
	}
	if cfg.AbsoluteTimeout > 0 {
		due = earlier(due, s.rec.Created.Add(cfg.AbsoluteTimeout))
	}
	return due
}

const (
	// rounding is how much later than it was told to a backend may let a
	// record expire.
	rounding = time.Second
	// skew is how far ahead the clock of the machine that made a deadline may
	// have been, before the deadline is taken for that of a longer timeout.
	skew = 5 * time.Minute
)

// madeBy returns the IdleTimeout that has made the deadline, so that the last
// use is so long before it. It is 0 if that is not known, and may have been
// that of today; then the deadline is taken as it is.
func (s *Session) madeBy(now time.Time) time.Duration {
	if s.idle > 0 {
		return s.idle
	}
	// One of those that are not stored, or the session is older than this.
	left, whole := s.rec.Expires.Sub(now), s.rec.Expires.Sub(s.rec.Created)
	unused := whole >= defaultIdle && whole <= defaultIdle+rounding
	switch {
	case left <= s.m.cfg.IdleTimeout+skew && (!unused || left <= s.m.cfg.IdleTimeout+rounding), left > defaultIdle+skew:
		return 0
	case left > hourIdle+skew, unused:
		return defaultIdle
	}
	return hourIdle
}

// hourIdle is, beside the default, a timeout that is not stored.
const hourIdle = time.Hour

// A session stores, as idleName, how many seconds lay between its last use and
// Expires. The deadline alone cannot tell when that use was, and a
// shorter IdleTimeout is to apply at once. Moving the deadline leaves it as it
// is, so that it costs no write. The two most usual timeouts are left out, so
// that sessions with them are no larger: madeBy tells them by the deadline.

// encodeIdle returns it as it is stored, nil if it is left out.
func (m *core) encodeIdle(d time.Duration) []byte {
	if d = d.Truncate(time.Second); d == defaultIdle || d == hourIdle {
		return nil
	}
	data, err := m.cfg.Codec.Marshal(int64(d / time.Second))
	if err != nil || len(data) == 0 {
		return nil
	}
	return data
}

// takeIdle removes it from values and returns it, 0 if it is not there.
func (m *core) takeIdle(values map[string][]byte) time.Duration {
	data, ok := values[idleName]
	if !ok {
		return 0
	}
	delete(values, idleName)
	var n int64
	if err := m.cfg.Codec.Unmarshal(data, &n); err != nil || n < 0 || n > math.MaxInt64/int64(time.Second) {
		return 0
	}
	return time.Duration(n) * time.Second
}

// idle is the IdleTimeout as takeIdle returns it.
func (m *core) idle() time.Duration { return max(0, m.cfg.IdleTimeout.Truncate(time.Second)) }

// late is how long after it was sent a Touch may arrive.
const late = 30 * time.Second

// errExpired says that a session was found past its deadline, and is gone now.
var errExpired = fmt.Errorf("%w: it has expired", ErrNotFound)

// conclude is for a caller that has found that rec, as asked for at asked, is
// past its deadline, before it tells anybody so. A write that is still under way, of a
// sender whose clock showed less, must not revive the session after that: so
// it ends the record, if it is as it was found, and fails with errExpired. If
// somebody was faster it returns what is there now, for the caller to judge by
// the time that it was asked for; a zero time says that it is alive.
func (s *Session) conclude(ctx context.Context, rec Record, asked time.Time, looks int) (Record, time.Time, error) {
	if s.mode.get() == ReadOnly {
		return rec, asked, errExpired // it never writes, and the visitor gets no other session
	}
	now := time.Now()
	touched := looks == 0 && s.hold == nil && rec.Expired(asked) && !s.m.over(rec, asked) && asked.Sub(rec.Expires) < late
	var err error
	if touched { // perhaps, since we asked; then it is alive
		err = s.m.endUnlessTouched(ctx, s.key, rec)
	} else {
		err = s.m.end(ctx, s.key, rec.Version)
	}
	var conflict *ConflictError
	switch {
	case err == nil && touched:
		// Look which of the two it was.
	case err == nil, errors.Is(err, ErrNotFound):
		return rec, asked, errExpired
	case errors.Is(err, ErrLocked) && !s.m.over(rec, asked):
		return rec, time.Time{}, nil // somebody is at work with it, which is use
	case errors.Is(err, ErrLocked):
		if err = s.m.delete(ctx, s.key); err == nil {
			err = errExpired
		}
		return rec, asked, err
	case !errors.As(err, &conflict):
		return rec, asked, err
	case s.hold != nil && s.m.leaser != nil:
		return rec, asked, s.hold.lose(err)
	case looks >= s.m.cfg.MaxMerges:
		return rec, asked, fmt.Errorf("%w (%d times in a row)", err, looks+1)
	case conflict.Current != nil:
		return *conflict.Current, now, nil
	}
	rec, err = s.m.load(ctx, s.key)
	return rec, now, err
}
