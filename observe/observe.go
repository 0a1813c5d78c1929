// Package observe defines the hooks for logs, metrics and traces of a
// session.Manager and its backend. An [Observer] gets the calls of the store and
// the events; a function that takes a [Request] gets each request that a backend
// sends.
package observe

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// Observer observes a session.Manager: logging, metrics, tracing and cost
// accounting plug in here. Its methods are called on the request's goroutine, or
// on that of a timer while a lock is renewed or a stream watches its session; for
// a stream, the context has nothing of a request. They must be safe for concurrent
// use, must not block and must not use the session of the request. They never get a
// session ID.
type Observer interface {
	// Call is called before each call of the backend. The context that it
	// returns is passed to the backend; done, if not nil, is called with the
	// outcome. Outcomes such as session.ErrNotFound and session.ErrConflict
	// are ordinary.
	Call(ctx context.Context, op Op) (_ context.Context, done func(error))

	// Event is called for each event.
	Event(ctx context.Context, e Event)
}

// Op is a method of session.Backend, session.LockingBackend, session.Locker,
// session.Lease or admin.Sweeper.
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

// MarshalText returns the String, for logs.
func (op Op) MarshalText() ([]byte, error) { return []byte(op.String()), nil }

func (op Op) String() string {
	names := [...]string{"", "Load", "Save", "Touch", "Delete", "Acquire", "Extend", "Release", "Sweep"}
	if op > 0 && int(op) < len(names) {
		return names[op]
	}
	return fmt.Sprintf("Op(%d)", int(op))
}

// Request is one request that a backend has sent to its store: one for a call,
// or several with retries. A backend that can tell them apart takes a function
// for them in its Config, such as the Request method of an observer.
type Request struct {
	Name     string        // its name in the store, such as "GetItem"
	Table    string        // the table that it used, if the store has tables
	Attempt  int           // 1, or more for a retry
	Duration time.Duration // until the answer
	Err      error         // its error; a refused condition is one
	Refused  bool          // its condition was refused: an ordinary answer, for example after another request's write

	// ReadUnits and WriteUnits are the capacity units that the store charged
	// for it, or zero if the store did not report them.
	ReadUnits  float64
	WriteUnits float64
}

// Event is something that happened. New kinds and fields may be added.
type Event struct {
	Kind EventKind
	Err  error         // the cause, if there is one
	N    int           // a number; its meaning depends on Kind
	Wait time.Duration // how long a request waited for a lock
}

// EventKind is the kind of an [Event].
type EventKind int

const (
	EventTokenMalformed   EventKind = iota + 1 // a request carried a token that this package cannot have issued
	EventTokenUnknown                          // a token had no session: destroyed, rotated away, expired or planted
	EventTokenMoved                            // a token whose session got a new ID a moment ago
	EventSessionExpired                        // a session was found, and its deadline had passed
	EventUndecodable                           // a stored session did not decode; Err is the error
	EventSessionCreated                        // a new session was stored; N is its size in bytes
	EventSessionSaved                          // a changed session was stored; N is its size in bytes
	EventSessionRotated                        // a session got a new ID; N is its size in bytes
	EventSessionDestroyed                      // a session was deleted
	EventMerged                                // a Save succeeded after N conflicts
	EventTouchSkipped                          // a session was only read, and Config.TouchInterval avoided a write of its deadline
	EventTouchFailed                           // the idle deadline could not be moved; the request went on
	EventCommitFailed                          // the Handler could not save a session, and answered with an error
	EventLateFailed                            // changes made after the response started could not be saved
	EventLockAcquired                          // a lock was taken after a Wait
	EventLockFailed                            // a lock could not be acquired; Err is the error
	EventLockLost                              // a lease ran out, or was taken over, while its lock was held
	EventTokenDuplicate                        // a request carried N tokens, not all equal: left over, or planted by a sibling host
	EventSessionsRevoked                       // a revocation, or a limit, has ended the sessions of an owner; N is how many were listed
	EventTokenRenewed                          // a request goes on with a session whose ID was renewed since the client got it
	EventRenewFailed                           // a session could not get a new ID when it was time; the request went on
	EventLoginJoined                           // a Login or a Reauthenticate joined the session that another request had just made for the same user
)

// MarshalText returns the String, for logs.
func (k EventKind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

func (k EventKind) String() string {
	names := [...]string{"", "TokenMalformed", "TokenUnknown", "TokenMoved", "SessionExpired", "Undecodable", "SessionCreated",
		"SessionSaved", "SessionRotated", "SessionDestroyed", "Merged", "TouchSkipped", "TouchFailed", "CommitFailed", "LateFailed",
		"LockAcquired", "LockFailed", "LockLost", "TokenDuplicate", "SessionsRevoked", "TokenRenewed", "RenewFailed", "LoginJoined"}
	if k > 0 && int(k) < len(names) {
		return names[k]
	}
	return fmt.Sprintf("EventKind(%d)", int(k))
}

// Observers is an [Observer] that calls several, in order: the context that one
// returns from Call is passed to the next, and the functions for the outcome are
// called in reverse order. So put an observer that traces before one that logs.
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

// Request calls the method Request of each observer that has one.
func (o Observers) Request(ctx context.Context, r Request) {
	for _, observer := range o {
		if requests, ok := observer.(interface {
			Request(context.Context, Request)
		}); ok {
			requests.Request(ctx, r)
		}
	}
}
