// Package observe is how a session.Manager and its backend tell others what they
// do: an [Observer] gets the calls of the store and the events, and a function
// for a [Request] gets each request that a backend sends.
package observe

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

// Op is a method of [Backend], [LockingBackend], [Locker], [Lease] or [Sweeper].
type Op int

const (
	OpLoad    Op = iota + 1 // Backend.Load
	OpSave                  // Backend.Save
	OpTouch                 // Backend.Touch
	OpDelete                // Backend.Delete, or a Backend.Save that ends the record
	OpAcquire               // LockingBackend.Acquire or Locker.Acquire
	OpExtend                // LockingBackend.Extend or Lease.Extend
	OpRelease               // LockingBackend.Release or Lease.Release
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
	EventTokenMalformed   EventKind = iota + 1 // a request carried a token that is not one of ours
	EventTokenUnknown                          // a token had no session: destroyed, rotated away, expired or planted
	EventTokenMoved                            // a token whose session got a new ID a moment ago
	EventSessionExpired                        // a session was found, and its deadline had passed
	EventUndecodable                           // a stored session did not decode; Err says why
	EventSessionCreated                        // a new session was stored; N is its size in bytes
	EventSessionSaved                          // a changed session was stored; N is its size in bytes
	EventSessionRotated                        // a session got a new ID; N is its size in bytes
	EventSessionDestroyed                      // a session was deleted
	EventMerged                                // a Save succeeded after N conflicts
	EventTouchSkipped                          // a session was only read, and Config.TouchInterval has saved the write of its deadline
	EventTouchFailed                           // the idle deadline could not be moved; the request went on
	EventCommitFailed                          // the Handler could not save a session, and answered with an error
	EventLateFailed                            // what was changed after the response started could not be saved
	EventLockAcquired                          // a lock was taken after a Wait
	EventLockFailed                            // a lock was not to be had; Err says why
	EventLockLost                              // a lease ran out, or was taken over, under its holder
	EventTokenDuplicate                        // a request carried N tokens, not all alike: left over, or planted by a sibling host
)

// MarshalText is for logs.
func (k EventKind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

func (k EventKind) String() string {
	names := [...]string{"", "TokenMalformed", "TokenUnknown", "TokenMoved", "SessionExpired", "Undecodable", "SessionCreated",
		"SessionSaved", "SessionRotated", "SessionDestroyed", "Merged", "TouchSkipped", "TouchFailed", "CommitFailed", "LateFailed",
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
