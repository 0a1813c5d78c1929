package session

import (
	"errors"
	"slices"
	"time"
)

// The sentinel errors. Test for them with [errors.Is]; the cause, where there
// is one, can be reached through them with [errors.As]. No error of this
// package carries a session ID.
var (
	// ErrNotFound: there is no such session: it never was, was destroyed,
	// has expired, or lives on under another ID.
	ErrNotFound = errors.New("session: not found")

	// ErrConflict: the session changed in the store since it was read, and
	// nothing was written. Errors with this cause are a [*ConflictError].
	ErrConflict = errors.New("session: changed since it was read")

	// ErrTooLarge: the store or [Config.MaxSize] cannot hold the session.
	// What was stored before stays.
	ErrTooLarge = errors.New("session: too large")

	// ErrEncode: a value has a type that the codec cannot encode, or would not
	// be read back as it was, or the store cannot hold what the codec made.
	// What was there before stays.
	ErrEncode = errors.New("session: cannot encode")

	// ErrDecode: what is stored is not what the codec or the backend wrote,
	// or a value is not of the type asked for. It is never overwritten or
	// deleted because of that.
	ErrDecode = errors.New("session: cannot decode")

	// ErrReadOnly: a change to a session that was opened in mode [ReadOnly].
	ErrReadOnly = errors.New("session: read-only")

	// ErrClosed: use of a session after Close or Destroy.
	ErrClosed = errors.New("session: closed")

	// ErrLocked: another holder's lock is live, and nothing was written.
	// Errors with this cause are a [*LockedError].
	ErrLocked = errors.New("session: locked")

	// ErrLockTimeout: a lock could not be had within [LockConfig.MaxWait], or too
	// many were waiting for it already. Nothing was written.
	ErrLockTimeout = errors.New("session: no lock in time")

	// ErrLockLost: the lease of a lock ran out while it was held, because it
	// could not be renewed or was held for [LockConfig.MaxHold]. It is the cause of
	// the request's cancelled context, and nothing is written any more.
	ErrLockLost = errors.New("session: lock lost")

	// ErrTooLate: a change that needs a new token at the client, after the
	// response has started. Nothing was changed.
	ErrTooLate = errors.New("session: response already started")
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
		return "session: deleted or expired since it was read"
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
