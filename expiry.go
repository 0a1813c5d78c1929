package session

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// lateTouch is how long after it was sent a Touch may arrive.
const lateTouch = 30 * time.Second

// errExpired says that a session was found past its deadline, and has been ended.
var errExpired = fmt.Errorf("%w: it has expired", ErrNotFound)

// conclude ends rec at key, which was asked for at asked and is past its deadline, and
// fails with errExpired. A caller must do so before it reports that the session
// has expired: a write in flight, from a machine whose clock is behind, must not
// revive the session afterwards. If the record has changed meanwhile, conclude
// returns the current one and the time at which it was asked for, for the caller
// to judge; a zero time says that it is alive.
func (s *Session) conclude(ctx context.Context, key string, rec Record, asked time.Time, looks int) (Record, time.Time, error) {
	if s.mode.get() == ReadOnly {
		return rec, asked, errExpired // this mode never writes
	}
	now := time.Now()
	over := s.m.timeoutsOf(rec).over(rec, asked)
	touched := looks == 0 && s.hold == nil && rec.Expired(asked) && !over && asked.Sub(rec.Expires) < lateTouch
	var err error
	if touched { // it may have been, since we asked, and then be alive
		_, decoded := s.m.split(rec)
		rec.Private = asMoved(decoded) != nil
		err = s.m.endUnlessTouched(ctx, key, rec)
	} else {
		err = s.m.end(ctx, key, rec.Version)
	}
	var conflict *ConflictError
	switch {
	case err == nil && touched:
		// Load it to find out which of the two it is.
	case err == nil, errors.Is(err, ErrNotFound):
		return rec, asked, errExpired
	case errors.Is(err, ErrLocked) && !over:
		return rec, time.Time{}, nil // a request is using it
	case errors.Is(err, ErrLocked):
		if err = s.m.delete(ctx, key); err == nil {
			err = errExpired
		}
		return rec, asked, err
	case !errors.As(err, &conflict):
		return rec, asked, err
	case s.hold != nil && s.m.locking != nil:
		return rec, asked, s.hold.lose(err)
	case looks >= s.m.cfg.MaxMerges:
		return rec, asked, fmt.Errorf("%w (%d times in a row)", err, looks+1)
	case conflict.Current != nil:
		return *conflict.Current, now, nil
	}
	rec, err = s.m.load(ctx, key)
	return rec, now, err
}
