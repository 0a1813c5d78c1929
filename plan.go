package session

import "time"

// A step is something to do for a session in the store.
type step int8

const (
	doNothing step = iota
	doSettle       // find out how a rotation has ended
	doWrite        // store the changes
	doRenew        // store the session under a new ID, because of the age of the old one
	doRestamp      // bring forward a deadline, which no Touch can
	doRelease      // free the lock, and move the deadline if there is one to move it to
	doTouch        // move the deadline
)

// A plan is the decision what to do for a session in the store.
type plan struct {
	step    step
	expires time.Time // the deadline to move to; zero if it is not to be moved
	spared  bool      // the TouchInterval alone spares it the write of its deadline
	renew   bool      // the changes are to be stored under a new ID
}

// A situation has everything that a plan depends on.
type situation struct {
	moving  bool          // the outcome of a rotation is not known
	changed bool          // there is something to store
	held    bool          // it holds a lock
	apart   bool          // its values are not those of the record
	fresh   bool          // the deadline was written, or the spared write was told of
	expires time.Time     // the deadline of a session that is used now
	by      time.Duration // by how much the stored deadline is behind; 0 if it is not to be moved

	// The rest is for the start or the end of a response, which does not wait for
	// steps that can be left out.
	response bool
	closed   bool // nothing may be saved any more
	started  bool // the response has, and can carry no token
	failed   bool // the store did not save it a moment ago
	quiet    bool // its deadline is not to be moved
	resting  bool // moving one has failed a moment ago, for this or another session
	aged     bool // its ID is to be renewed
}

// plan makes the decision. It is made nowhere else.
func (t timeouts) plan(s situation) plan {
	if s.response && s.closed {
		return plan{}
	}
	var p plan
	if t.stale(s.by) && (s.by > 0 || !s.apart) { // a Touch brings no deadline forward
		p.expires = s.expires
	}
	renew := s.response && s.aged && !s.moving && !s.started && !s.failed && !s.quiet && !s.resting
	switch {
	case s.response && s.changed: // the save settles first
		return plan{step: doWrite, renew: renew}
	case s.moving && (!s.response || !s.started):
		return plan{step: doSettle}
	case s.changed:
		return plan{step: doWrite}
	case s.response && s.failed:
		return plan{}
	case renew && !s.apart:
		return plan{step: doRenew}
	case s.response && !s.held && (s.quiet || s.resting):
		p.expires = time.Time{}
	}
	switch {
	case !p.expires.IsZero() && s.by < 0:
		p.step = doRestamp
	case s.held:
		p.step = doRelease
	case !p.expires.IsZero():
		p.step = doTouch
	default:
		p.spared = !s.fresh && s.by > 0 && !t.stale(s.by) && (!s.response || !s.quiet)
	}
	return p
}

// situation returns the situation of s. The caller must be at work with the store
// or hold the lock.
func (s *Session) situation() situation {
	sit := situation{
		moving: s.saving.moving != nil, changed: s.changed(), held: s.hold != nil,
		apart: s.stored.apart, fresh: s.stored.fresh,
	}
	if !sit.changed && !sit.moving { // else it does not matter, and takes time
		sit.expires, sit.by = s.behind()
	}
	return sit
}

// behind returns the deadline of a session that is used now, and by how much the
// stored one is behind; 0 if it is not to be moved.
func (s *Session) behind() (time.Time, time.Duration) {
	if !s.isStored() || s.mode.get() == ReadOnly {
		return time.Time{}, 0
	}
	return s.times().behind(s.stored.rec, s.stored.used, time.Now())
}
