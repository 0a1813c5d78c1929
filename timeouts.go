package session

import "time"

// timeouts decide when a session ends.
type timeouts struct {
	idle, absolute time.Duration // negative: off
	touchInterval  time.Duration
	notBefore      time.Time // earlier sessions are over
	until          time.Time // when a session that is listed is over; zero: never
}

// expired applies the absolute timeout as configured now, which may be
// shorter than when the record was written.
func (t timeouts) expired(rec Record, now time.Time) bool {
	return rec.Expired(now) || t.over(rec, now)
}

// over reports whether the session has reached its absolute deadline, or began
// before the time before which all count as ended.
func (t timeouts) over(rec Record, now time.Time) bool {
	return rec.Created.Before(t.notBefore) || t.absolute > 0 && !now.Before(rec.Created.Add(t.absolute)) ||
		!t.until.IsZero() && !now.Before(t.until)
}

// deadline is the Expires of a session that is used at now.
func (t timeouts) deadline(now, created time.Time) time.Time {
	return t.atLatest(t.uncapped(now, created))
}

// atLatest returns due, or the time at which a listed session is over if that is
// earlier. The absolute timeout may be longer now than when the session was listed;
// the index forgets the session after that time, so it must not outlive it.
func (t timeouts) atLatest(due time.Time) time.Time {
	if t.until.IsZero() {
		return due
	}
	return earlier(due, t.until)
}

func (t timeouts) uncapped(now, created time.Time) time.Time {
	idle, absolute := now.Add(t.idle), created.Add(t.absolute)
	switch {
	case t.idle < 0:
		return absolute
	case t.absolute < 0 || idle.Before(absolute):
		return idle
	default:
		return absolute
	}
}

// hourIdle is, beside the default, an idle timeout that is not stored.
const hourIdle = time.Hour

const (
	// rounding is by how much a backend may round up Expires.
	rounding = time.Second
	// skew is how far ahead the clock of the machine that made a deadline may
	// have been, before the deadline is taken for that of a longer timeout.
	skew = 5 * time.Minute
)

// due returns when the session of rec ends by the timeouts as configured now. used
// is how long before rec.Expires it was used, 0 if that is not stored.
func (t timeouts) due(rec Record, used time.Duration, now time.Time) time.Time {
	due := rec.Expires
	if made := t.madeBy(rec, used, now); made > t.idle && t.idle > 0 {
		due = due.Add(t.idle - made)
	}
	if t.absolute > 0 {
		due = earlier(due, rec.Created.Add(t.absolute))
	}
	return t.atLatest(due)
}

// behind returns the deadline that a use at now gives the session of rec, and by
// how much the stored one is earlier; 0 if it need not be moved. It is negative
// if a longer timeout than the present one has made the stored one.
func (t timeouts) behind(rec Record, used time.Duration, now time.Time) (time.Time, time.Duration) {
	if t.expired(rec, now) {
		return time.Time{}, 0
	}
	expires := t.deadline(now, rec.Created)
	by := expires.Sub(rec.Expires)
	if by < 0 && (by >= -rounding || by >= -skew && t.madeBy(rec, used, now) <= t.idle) {
		by = 0
	}
	return expires, by
}

// stale reports whether a deadline that is behind by so much must be moved, because
// it is older than the touch interval allows, or too late.
func (t timeouts) stale(by time.Duration) bool { return by < 0 || by > 0 && by >= t.touchInterval }

// madeBy returns the idle timeout that has made the deadline of rec: the last use
// was so long before it. It returns 0 if the timeout is not known and may have been
// the present one; then the deadline is taken as it is.
func (t timeouts) madeBy(rec Record, used time.Duration, now time.Time) time.Duration {
	if used > 0 {
		return used
	}
	// It was one of the two that are not stored, or an older version has stored
	// the session.
	left, whole := rec.Expires.Sub(now), rec.Expires.Sub(rec.Created)
	unused := whole >= defaultIdle && whole <= defaultIdle+rounding
	switch {
	case left <= t.idle+skew && (!unused || left <= t.idle+rounding), left > defaultIdle+skew:
		return 0
	case left > hourIdle+skew, unused:
		return defaultIdle
	}
	return hourIdle
}

// stamp is the idle timeout as it is stored, in whole seconds.
func (t timeouts) stamp() time.Duration { return max(0, t.idle.Truncate(time.Second)) }

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
