package session

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// Observer is told what a [Manager] does: logging, metrics, tracing and cost
// accounting plug in here. Its methods are called on the request's goroutine,
// or on that of a timer while a lock is renewed; they must be safe for
// concurrent use, must not block and must not use the session of the request.
// No ID reaches them.
type Observer interface {
	// Call is called before each call of the Backend. The context that it
	// returns goes to the backend; done, if not nil, is called with the
	// outcome. Outcomes such as [ErrNotFound] and [ErrConflict] are ordinary.
	Call(ctx context.Context, op Op) (_ context.Context, done func(error))

	// Event is called when something happened that is worth counting.
	Event(ctx context.Context, e Event)
}

// Op is a method of [Backend], [Leaser], [Locker], [Lease] or [Sweeper].
type Op int

const (
	OpLoad    Op = iota + 1 // Backend.Load
	OpSave                  // Backend.Save
	OpTouch                 // Backend.Touch
	OpDelete                // Backend.Delete, or a Backend.Save that ends the record
	OpAcquire               // Leaser.Acquire or Locker.Acquire
	OpExtend                // Leaser.Extend or Lease.Extend
	OpRelease               // Leaser.Release or Lease.Release
	OpSweep                 // Sweeper.Sweep
)

// MarshalText is for logs.
func (op Op) MarshalText() ([]byte, error) { return []byte(op.String()), nil }

func (op Op) String() string {
	names := [...]string{"", "Load", "Save", "Touch", "Delete", "Acquire", "Extend", "Release", "Sweep"}
	if op > 0 && int(op) < len(names) {
		return names[op]
	}
	return fmt.Sprintf("Op(%d)", int(op))
}

// Request is one request that a backend has sent to its store: a call has one
// or, with retries, several. A backend that can tell them apart takes a
// function for them in its Config, such as the Request methods of observers.
type Request struct {
	Name     string        // what the store calls it, as "GetItem"
	Table    string        // where it went, if the store has such a thing
	Attempt  int           // 1, or more for a retry
	Duration time.Duration // until the answer
	Err      error         // what it failed with; a refused condition too
	Refused  bool          // its condition was: an ordinary answer, such as to one who was overtaken

	// ReadUnits and WriteUnits are the capacity units that the store has
	// charged for it, as far as it told.
	ReadUnits  float64
	WriteUnits float64
}

// Event is one thing that happened. New kinds and fields may come.
type Event struct {
	Kind EventKind
	Err  error         // the cause, where there is one
	N    int           // a number that the Kind explains
	Wait time.Duration // for a lock
}

// EventKind says what happened.
type EventKind int

const (
	TokenMalformed   EventKind = iota + 1 // a request carried a token that is not one of ours
	TokenUnknown                          // a token had no session: destroyed, rotated away, expired or planted
	TokenMoved                            // a token whose session got a new ID a moment ago
	SessionExpired                        // a session was found, and its deadline had passed
	Undecodable                           // a stored session did not decode; Err says why
	SessionCreated                        // a new session was stored; N is its size in bytes
	SessionSaved                          // a changed session was stored; N is its size in bytes
	SessionRotated                        // a session got a new ID; N is its size in bytes
	SessionDestroyed                      // a session was deleted
	Merged                                // a Save succeeded after N conflicts
	TouchSaved                            // a session was only read, and Config.TouchInterval has saved the write of its deadline
	TouchFailed                           // the idle deadline could not be moved; the request went on
	CommitFailed                          // the Handler could not save a session, and answered with an error
	LateFailed                            // what was changed after the response started could not be saved
	LockAcquired                          // a lock was taken after a Wait
	LockFailed                            // a lock was not to be had; Err says why
	LockLost                              // a lease ran out, or was taken over, under its holder
	TokenDuplicate                        // a request carried N tokens, not all alike: left over, or planted by a sibling host
)

// MarshalText is for logs.
func (k EventKind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

func (k EventKind) String() string {
	names := [...]string{"", "TokenMalformed", "TokenUnknown", "TokenMoved", "SessionExpired", "Undecodable", "SessionCreated",
		"SessionSaved", "SessionRotated", "SessionDestroyed", "Merged", "TouchSaved", "TouchFailed", "CommitFailed", "LateFailed",
		"LockAcquired", "LockFailed", "LockLost", "TokenDuplicate"}
	if k > 0 && int(k) < len(names) {
		return names[k]
	}
	return fmt.Sprintf("EventKind(%d)", int(k))
}

// Observers is an [Observer] that tells several, in order: the context that one
// returns from Call goes to the next, and the functions for the outcome are
// called in reverse order. So put one that traces before one that logs.
type Observers []Observer

// Call implements [Observer].
func (o Observers) Call(ctx context.Context, op Op) (_ context.Context, done func(error)) {
	var all []func(error)
	for _, observer := range o {
		if observer == nil {
			continue
		}
		if ctx, done = observer.Call(ctx, op); done != nil {
			all = append(all, done)
		}
	}
	switch len(all) {
	case 0:
		return ctx, nil
	case 1:
		return ctx, all[0]
	}
	return ctx, func(err error) {
		for _, done := range slices.Backward(all) {
			done(err)
		}
	}
}

// Event implements [Observer].
func (o Observers) Event(ctx context.Context, e Event) {
	for _, observer := range o {
		if observer != nil {
			observer.Event(ctx, e)
		}
	}
}

// Request tells those of them that have a method Request of their own.
func (o Observers) Request(ctx context.Context, r Request) {
	for _, observer := range o {
		if requests, ok := observer.(interface {
			Request(context.Context, Request)
		}); ok {
			requests.Request(ctx, r)
		}
	}
}

func (m *core) event(ctx context.Context, e Event) {
	if m.cfg.Observer != nil {
		m.cfg.Observer.Event(ctx, e)
	}
}

func (m *core) call(ctx context.Context, op Op) (_ context.Context, done func(error)) {
	if m.cfg.Observer != nil {
		ctx, done = m.cfg.Observer.Call(ctx, op)
	}
	if done == nil {
		done = func(error) {}
	}
	return ctx, done
}

func (m *core) load(ctx context.Context, key string) (Record, error) {
	ctx, done := m.call(ctx, OpLoad)
	rec, err := m.backend.Load(ctx, key)
	done(err)
	return rec, err
}

func (m *core) save(ctx context.Context, key string, rec Record) (Version, error) {
	ctx, done := m.call(ctx, OpSave)
	v, err := m.backend.Save(ctx, key, rec)
	done(err)
	return v, err
}

// end ends the record at key if its version is still v: a Save of nothing whose
// deadline is past. Unlike with Delete, what stands there by now is not lost
// with it.
func (m *core) end(ctx context.Context, key string, v Version) error {
	ctx, done := m.call(ctx, OpDelete)
	past := time.Unix(0, 0)
	_, err := m.backend.Save(ctx, key, Record{Created: past, Expires: past, Version: v})
	done(err)
	return err
}

// endUnlessTouched is end for a record that is past its deadline, unless that
// was moved since the record was read, which its version does not tell.
func (m *core) endUnlessTouched(ctx context.Context, key string, rec Record) error {
	ctx, done := m.call(ctx, OpDelete)
	rec.KeepLater = true
	_, err := m.backend.Save(ctx, key, rec)
	done(err)
	return err
}

func (m *core) delete(ctx context.Context, key string) error {
	ctx, done := m.call(ctx, OpDelete)
	err := m.backend.Delete(ctx, key)
	done(err)
	return err
}

func (m *core) touch(ctx context.Context, key string, expires time.Time) error {
	ctx, done := m.call(ctx, OpTouch)
	err := m.backend.Touch(ctx, key, expires)
	done(err)
	return err
}

func (m *core) lease(ctx context.Context, key string, ttl time.Duration) (Record, error) {
	ctx, done := m.call(ctx, OpAcquire)
	rec, err := m.leaser.Acquire(ctx, key, ttl)
	done(err)
	return rec, err
}

func (m *core) extend(ctx context.Context, key string, v Version, ttl time.Duration) error {
	ctx, done := m.call(ctx, OpExtend)
	err := m.leaser.Extend(ctx, key, v, ttl)
	done(err)
	return err
}

func (m *core) release(ctx context.Context, key string, v Version, expires time.Time) error {
	ctx, done := m.call(ctx, OpRelease)
	err := m.leaser.Release(ctx, key, v, expires)
	done(err)
	return err
}

func (m *core) lock(ctx context.Context, key string, ttl time.Duration) (Lease, error) {
	ctx, done := m.call(ctx, OpAcquire)
	lease, err := m.cfg.Lock.Locker.Acquire(ctx, key, ttl)
	done(err)
	return lease, err
}

func (m *core) extendLease(ctx context.Context, lease Lease, ttl time.Duration) error {
	ctx, done := m.call(ctx, OpExtend)
	err := lease.Extend(ctx, ttl)
	done(err)
	return err
}

func (m *core) releaseLease(ctx context.Context, lease Lease) error {
	ctx, done := m.call(ctx, OpRelease)
	err := lease.Release(ctx)
	done(err)
	return err
}

func (m *core) sweep(ctx context.Context, sweeper Sweeper, opts SweepOptions) (SweepReport, error) {
	ctx, done := m.call(ctx, OpSweep)
	report, err := sweeper.Sweep(ctx, opts)
	done(err)
	return report, err
}
