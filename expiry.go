package session

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// lateTouch is how long after it was sent a Touch may arrive.
const lateTouch = 30 * time.Second

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
	touched := looks == 0 && s.hold == nil && rec.Expired(asked) && !s.m.over(rec, asked) && asked.Sub(rec.Expires) < lateTouch
	var err error
	if touched { // perhaps, since we asked; then it is alive
		err = s.m.endUnlessTouched(ctx, s.stored.key, rec)
	} else {
		err = s.m.end(ctx, s.stored.key, rec.Version)
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
		if err = s.m.delete(ctx, s.stored.key); err == nil {
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
	rec, err = s.m.load(ctx, s.stored.key)
	return rec, now, err
}
