package session

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// The sentinel errors. Test for them with [errors.Is]; the cause, if there is
// one, can be reached with [errors.As]. As in package io/fs their texts have no
// prefix: what a [Manager] or [Session] returns begins with "session: ". No
// error of this package contains a token or a key.
var (
	// ErrStore: a call of the store failed, or did not return before the context
	// ended. The cause is the store's error. It may work the next time.
	ErrStore = errors.New("store failed")

	// ErrNotFound: there is no such session: it never was, was destroyed,
	// has expired, or lives on under another ID.
	ErrNotFound = errors.New("not found")

	// ErrConflict: the session changed in the store since it was read, and
	// nothing was written. Errors with this cause are a [*ConflictError].
	ErrConflict = errors.New("changed since it was read")

	// ErrTooLarge: the store or [Config.MaxSize] cannot hold the session.
	// What was stored before stays.
	ErrTooLarge = errors.New("too large")

	// ErrEncode: a value has a type that the codec cannot encode, or would not
	// be read back as it was, or the store cannot hold what the codec made.
	// What was there before stays.
	ErrEncode = errors.New("cannot encode")

	// ErrDecode: what is stored is not what the codec or the backend wrote,
	// or a value is not of the type asked for. It is never overwritten or
	// deleted because of that.
	ErrDecode = errors.New("cannot decode")

	// ErrReadOnly: a change to a session that was opened in mode [ReadOnly].
	ErrReadOnly = errors.New("read-only")

	// ErrClosed: use of a session after Close or Destroy.
	ErrClosed = errors.New("closed")

	// ErrLocked: another holder's lock is live, and nothing was written.
	// Errors with this cause are a [*LockedError].
	ErrLocked = errors.New("locked")

	// ErrLockTimeout: a lock could not be had within [LockConfig.MaxWait], or too
	// many were waiting for it already. Nothing was written.
	ErrLockTimeout = errors.New("lock not acquired in time")

	// ErrLockLost: the lease of a lock ran out while it was held, because it
	// could not be renewed or was held for [LockConfig.MaxHold]. It is the cause of
	// the request's cancelled context, and nothing is written any more.
	ErrLockLost = errors.New("lock lost")

	// ErrTooLate: a change that needs a new token at the client, after the
	// response has started. Nothing was changed.
	ErrTooLate = errors.New("response already started")
)

// isAny reports whether err is one of the sentinels.
func isAny(err error, sentinels ...error) bool {
	return slices.ContainsFunc(sentinels, func(sentinel error) bool { return errors.Is(err, sentinel) })
}

// ConflictError is how a [Backend] refuses a Save. errors.Is finds
// [ErrConflict] in it, and [ErrNotFound] as well if Gone.
type ConflictError struct {
	// Current is the record that is stored now, if the backend has it at hand;
	// nil if it is not known or there is none.
	Current *Record
	// Gone is set if the store said that there is no record, or one that has
	// expired.
	Gone bool
}

func (e *ConflictError) Error() string {
	if e.Gone {
		return "deleted or expired since it was read"
	}
	return ErrConflict.Error()
}

// Is makes errors.Is find the sentinels.
func (e *ConflictError) Is(target error) bool {
	return target == ErrConflict || e.Gone && target == ErrNotFound
}

// LockedError is how a [LockingBackend] or [Locker] refuses what a live lock forbids.
// errors.Is finds [ErrLocked] in it.
type LockedError struct {
	// Until is when the lease runs out, unless it is renewed; zero if that is
	// not known.
	Until time.Time
}

func (e *LockedError) Error() string { return ErrLocked.Error() }

// Is makes errors.Is find the sentinel.
func (e *LockedError) Is(target error) bool { return target == ErrLocked }

// wrap puts what was being done in front of err. What the function of a
// [Key.TryUpdate] returned is for its own caller, and stays as it is.
func wrap(what string, err error) error {
	var r *refusal
	switch {
	case err == nil:
		return nil
	case errors.As(err, &r):
		return r.err
	}
	return fmt.Errorf("session: %s: %w", what, err)
}

// wrapValue is wrap for what is being done with a value.
func wrapValue(what, name string, err error) error {
	if err == nil {
		return nil
	}
	if name != "" {
		what = fmt.Sprintf("%s %q", what, name)
	}
	return wrap(what, err)
}

// refusal is an error of the function of a TryUpdate.
type refusal struct{ err error }

func (r *refusal) Error() string { return r.err.Error() }
func (r *refusal) Unwrap() error { return r.err }

// unlessGone returns err, or nil if it says that there is no session.
func unlessGone(err error) error {
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}
