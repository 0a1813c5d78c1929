package session

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// The sentinel errors. Test for them with [errors.Is]; their cause, if there is
// one, can be reached with [errors.As]. Their texts have no prefix, as in package
// io/fs: the error that a [Manager] or [Session] returns begins with "session: ".
// No error of this package contains a token or a key.
var (
	// ErrStore: the store failed, or did not answer before the context ended. The
	// cause is the store's error. Trying again may help.
	ErrStore = errors.New("store failed")

	// ErrNotFound: there is no such session: it was never stored, was destroyed,
	// has expired, or has a new ID.
	ErrNotFound = errors.New("not found")

	// ErrConflict: the session changed in the store since it was read, and
	// nothing was written. Errors with this cause are a [*ConflictError].
	ErrConflict = errors.New("changed since it was read")

	// ErrTooLarge: the session is larger than the store or [Config.MaxSize]
	// allows. The stored session stays as it was.
	ErrTooLarge = errors.New("too large")

	// ErrEncode: the codec cannot encode a value or could not read it back
	// unchanged, the name of a value is not allowed, or the store cannot hold the
	// encoded session. The value that was there before stays.
	ErrEncode = errors.New("cannot encode")

	// ErrDecode: the stored record was not written by this codec or backend, or a
	// value is not of the requested type. The record is never overwritten or
	// deleted because of that.
	ErrDecode = errors.New("cannot decode")

	// ErrReadOnly: a change to a session that was opened in mode [ReadOnly].
	ErrReadOnly = errors.New("read-only")

	// ErrClosed: use of a session after Close or Destroy.
	ErrClosed = errors.New("closed")

	// ErrLocked: another holder's lock is live, and nothing was written.
	// Errors with this cause are a [*LockedError].
	ErrLocked = errors.New("locked")

	// ErrLockTimeout: a lock could not be acquired within [LockConfig.MaxWait], or
	// too many requests were waiting for it. Nothing was written.
	ErrLockTimeout = errors.New("lock not acquired in time")

	// ErrLockLost: the lease of a lock ran out while it was held, because it could
	// not be renewed or was held for [LockConfig.MaxHold]. It is the cause of the
	// request's cancelled context, and nothing is written any more.
	ErrLockLost = errors.New("lock lost")

	// ErrSessionLimit: the user has as many sessions as
	// [OwnersConfig.MaxSessions] allows, and the login was refused.
	ErrSessionLimit = errors.New("too many sessions of this user")

	// ErrTooLate: a change needs a new token, and the response has started and
	// cannot carry it. Nothing was changed.
	ErrTooLate = errors.New("response already started")

	// ErrNotFresh: the user did not authenticate as recently as
	// [Route.FreshWithin] or [Session.FreshWithin] demands, or not at all. Errors
	// with this cause are a [*NotFreshError].
	ErrNotFresh = errors.New("authentication too old")
)

// isAny reports whether err is one of the sentinels.
func isAny(err error, sentinels ...error) bool {
	return slices.ContainsFunc(sentinels, func(sentinel error) bool { return errors.Is(err, sentinel) })
}

// ConflictError is the error of a [Backend] that refuses a Save. errors.Is finds
// [ErrConflict] in it, and also [ErrNotFound] if Gone is set.
type ConflictError struct {
	// Current is the record that is stored now, if the backend has it; nil if the
	// record is not known or does not exist.
	Current *Record
	// Gone is set if the store said that there is no record or that it has
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

// LockedError is the error of a [LockingBackend] or [Locker] for a call that a live
// lock forbids. errors.Is finds [ErrLocked] in it.
type LockedError struct {
	// Until is when the lease runs out, unless it is renewed; zero if it is not
	// known.
	Until time.Time
}

func (e *LockedError) Error() string { return ErrLocked.Error() }

// Is makes errors.Is find the sentinel.
func (e *LockedError) Is(target error) bool { return target == ErrLocked }

// wrap puts what, the operation that failed, in front of err. The error of a
// function of [Key.TryUpdate] stays as it is.
func wrap(what string, err error) error {
	if err == nil {
		return nil // without an allocation
	}
	var r *refusal
	if errors.As(err, &r) {
		return r.err
	}
	return fmt.Errorf("session: %s: %w", what, err)
}

// wrapValue is wrap for an operation on a value.
func wrapValue(what, name string, err error) error {
	if err == nil {
		return nil
	}
	if name != "" {
		what = fmt.Sprintf("%s %q", what, name)
	}
	return wrap(what, err)
}

// refusal is an error of the function of a TryUpdate. It has no Unwrap: an error
// of this package that the application wraps is not to be taken for our own.
type refusal struct{ err error }

func (r *refusal) Error() string { return r.err.Error() }

// unlessGone returns err, or nil if it says that there is no session.
func unlessGone(err error) error {
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}
