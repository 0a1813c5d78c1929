package session

import (
	"errors"
	"fmt"
	"time"
)

// LockConfig configures mode [Exclusive], and how the other modes wait while a
// session is locked. The zero value is a good default.
type LockConfig struct {
	// Locker locks in place of the Backend. It is needed only if the Backend is
	// no [LockingBackend], and costs two requests for each lock. It keeps out only
	// requests that lock: if a request in another mode saves the session
	// meanwhile, the holder's Save fails with [ErrConflict]. So every route that
	// writes should lock.
	Locker Locker

	// TTL is the length of the lease: how long a lock outlives a holder that
	// crashed. While the holder works, the lease is renewed after each third of
	// it. Default 5 seconds; at least 100 milliseconds. Set it well above the
	// longest pause of the process and the difference between the clocks of your
	// machines.
	TTL time.Duration

	// MaxHold is how long one request may hold a lock. The lock is renewed until
	// the handler returns, or the session is saved, closed or destroyed, even if
	// the client has left; but for at most MaxHold, so that a handler that hangs,
	// or reads a body that arrives slowly, does not keep other requests out for
	// ever. After that the lock is lost, see [ErrLockLost]. Set MaxHold above the
	// time that your slowest handler takes. Default 30 seconds, or TTL if that is
	// longer; at least TTL.
	MaxHold time.Duration

	// MaxWait is how long a request waits for a lock. In the Handler it is also
	// how much longer than [Config.CommitTimeout] a save may wait for its turn.
	// Default 10 seconds.
	MaxWait time.Duration

	// MinRetry and MaxRetry bound the random pause between two looks at a lock
	// that another request holds; each look is 1 Load. Defaults 10 and 50
	// milliseconds; on Redis 2 and 10 are better.
	MinRetry, MaxRetry time.Duration

	// MaxWaiters is how many requests of this process may wait for the lock of one
	// session in mode Exclusive; one more fails at once. Requests that only wait
	// to save do not count. Default 128.
	MaxWaiters int

	// OnTimeout says what to do if a lock could not be acquired in time. Default
	// [FailOnTimeout].
	OnTimeout TimeoutPolicy
}

// TimeoutPolicy says what to do if a lock could not be acquired within
// [LockConfig.MaxWait].
type TimeoutPolicy int

const (
	// FailOnTimeout returns [ErrLockTimeout]; [Manager.Error] answers with
	// 503 and Retry-After.
	FailOnTimeout TimeoutPolicy = iota
	// ReadOnlyOnTimeout opens the session in mode [ReadOnly]. A change is then
	// both an [ErrReadOnly] and an [ErrLockTimeout].
	ReadOnlyOnTimeout
	// MergeOnTimeout opens the session in mode [Merge]. If it is still locked when
	// the request saves it, the save waits for MaxWait once more.
	MergeOnTimeout
)

func (l LockConfig) withDefaults() (LockConfig, error) {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf("session: Lock: "+format, args...)) }
	duration := func(name string, d *time.Duration, def time.Duration) {
		switch {
		case *d < 0:
			bad("%s is %v; it must not be negative", name, *d)
		case *d == 0:
			*d = def
		}
	}
	if l.TTL != 0 && l.TTL < 100*time.Millisecond {
		bad("TTL is %v; it must be at least 100ms", l.TTL)
	}
	duration("TTL", &l.TTL, 5*time.Second)
	duration("MaxHold", &l.MaxHold, max(30*time.Second, l.TTL))
	if l.MaxHold > 0 && l.MaxHold < l.TTL {
		bad("MaxHold is %v; it must not be shorter than TTL, which is %v", l.MaxHold, l.TTL)
	}
	duration("MaxWait", &l.MaxWait, 10*time.Second)
	// If only one of the two is set, the default of the other gives way.
	least, most := 10*time.Millisecond, 50*time.Millisecond
	if l.MaxRetry > 0 {
		least = min(least, l.MaxRetry)
	}
	duration("MinRetry", &l.MinRetry, least)
	duration("MaxRetry", &l.MaxRetry, max(most, l.MinRetry))
	if l.MinRetry > l.MaxRetry {
		bad("MinRetry is %v; it must not be longer than MaxRetry, which is %v", l.MinRetry, l.MaxRetry)
	}
	if l.MaxWaiters < 0 {
		bad("MaxWaiters is %d; it must not be negative", l.MaxWaiters)
	} else if l.MaxWaiters == 0 {
		l.MaxWaiters = 128
	}
	if l.OnTimeout < FailOnTimeout || l.OnTimeout > MergeOnTimeout {
		bad("unknown TimeoutPolicy %d", int(l.OnTimeout))
	}
	return l, errors.Join(errs...)
}
