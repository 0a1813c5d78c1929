package dynamodb

import (
	"errors"
	"time"

	"github.com/seed-a7bee19b/session"
)

// The functions in this file decide what a call makes of a write whose condition
// failed. They send nothing and read no clock. The tables in docs/design.md have
// every combination of their inputs, with the verdict and the reason.

// verdict is the outcome of a refused write.
type verdict int

const (
	// verdictSuccess: an earlier attempt of this call was applied, and its
	// response was lost, or there is nothing left to do. The call succeeds.
	verdictSuccess verdict = iota + 1
	// verdictGone: there is no live record. The call fails with a
	// ConflictError that is Gone.
	verdictGone
	// verdictConflict: another version is stored, or another lock. The call fails
	// with a ConflictError that has the record.
	verdictConflict
	// verdictUnseen: the record that refused the write could not be read, or is
	// gone already. The call fails with a ConflictError that has no record.
	verdictUnseen
	// verdictLocked: another's lock is live. The call fails with a LockedError
	// that has the end of its lease.
	verdictLocked
	// verdictWasLocked: a lock refused the write, and was free again when the
	// record was read. The call fails with a LockedError that has no time.
	verdictWasLocked
	// verdictNotFound: there is no record. The call fails with ErrNotFound.
	verdictNotFound
	// verdictUnknown: an earlier attempt may have been applied, or may still
	// be. The call fails with an error that is no sentinel.
	verdictUnknown
	// verdictError: the record could not be read or removed. The call fails
	// with that error.
	verdictError
	// verdictExpired: the record has expired. The call removes it first, and a
	// removal has the verdict.
	verdictExpired
	// verdictAgain: the call sends another request. A Save or a Release leaves
	// Expires as it is this time.
	verdictAgain
)

// stored is the record that a write found when its condition failed.
type stored struct {
	rec  session.Record
	lock lock
	err  error // ErrNotFound, or why the record could not be read
}

func (s stored) row() row {
	switch {
	case s.err == nil:
		return rowThere
	case errors.Is(s.err, session.ErrNotFound):
		return rowGone
	}
	return rowUnreadable
}

// expired reports whether the record has expired for a condition with that time.
func (s stored) expired(at time.Time) bool {
	return s.err == nil && s.rec.Expires.Unix() <= at.Unix()
}

// row says whether there is a record.
type row int

const (
	rowGone       row = iota
	rowUnreadable     // not written by this package, or the read failed
	rowThere
)

// trace says how the history of a record relates to a Save.
type trace int

const (
	// traceOurs: it has the token of the Save.
	traceOurs trace = iota
	// traceSame: it is the version that the Save was to replace.
	traceSame
	// traceNewer: it has other tokens, and goes back to that version or to the
	// creation of the record: a token of the Save would be in it.
	traceNewer
	// traceForgotten: it has the tokens of others only, as many as it can hold.
	// A token of the Save may have been pushed out. Or PHP has changed the data and
	// left the version, so that another write of its can bring back the state that the
	// Save was to replace.
	traceForgotten
	// traceAnew: PHP has made another record under the key. The one of the Save is
	// gone.
	traceAnew
)

// look compares h with a Save that writes token over old.
func (h history) look(token string, old history) trace {
	switch {
	case h.index(token) >= 0:
		return traceOurs
	case h == old:
		return traceSame
	case h.index(old.newest()) < 0 && h.full():
		return traceForgotten
	}
	return traceNewer
}

// saveKind says what a Save does to the record.
type saveKind int

const (
	saveCreates  saveKind = iota
	saveReplaces          // a version by a live record
	saveEnds              // a version, as Expires has passed
)

// refusedSave has the inputs for the verdict on a Save.
type refusedSave struct {
	kind    saveKind
	holder  bool // it names a lock
	lost    bool // an earlier attempt may have been applied
	row     row
	trace   trace // if the row is there
	barred  bool  // another's lock is live; for a holder: its own is not there
	expired bool
	later   bool // the Save was to keep a later Expires, and the stored one is
}

func (s refusedSave) verdict() verdict {
	switch {
	case s.row == rowThere && s.trace == traceOurs:
		return verdictSuccess
	case s.kind == saveCreates:
		return s.ofCreate()
	case s.row == rowGone && s.kind == saveEnds && s.lost:
		return verdictSuccess
	case s.row == rowGone:
		return verdictGone
	case s.row == rowUnreadable && s.lost:
		return verdictUnknown
	case s.row == rowUnreadable:
		return verdictUnseen
	case s.expired && s.kind != saveEnds:
		return verdictExpired
	case s.trace == traceForgotten && s.lost:
		return verdictUnknown
	case s.trace == traceSame:
		return s.ofSame()
	case s.barred && !s.holder:
		return verdictLocked
	}
	return verdictConflict
}

// ofCreate is the verdict on a create, of which only the last attempt can have
// been applied.
func (s refusedSave) ofCreate() verdict {
	switch {
	case s.lost:
		return verdictUnknown
	case s.row != rowThere:
		return verdictUnseen
	case s.barred:
		return verdictLocked
	}
	return verdictConflict
}

// ofSame is the verdict on a Save that was refused although its version is stored.
func (s refusedSave) ofSame() verdict {
	switch {
	case s.later && !s.barred:
		return verdictAgain
	case s.holder && (s.barred || !s.lost):
		return verdictConflict
	case s.lost:
		return verdictUnknown
	case s.barred:
		return verdictLocked
	}
	return verdictWasLocked
}

// lockState says whose lock a record has.
type lockState int

const (
	lockFree  lockState = iota // none, or its lease has run out
	lockOwn                    // live or not
	lockOther                  // another's, and live
)

// state returns the state of l at that time for the owner of the lock id.
func (l lock) state(id string, at time.Time) lockState {
	switch {
	case l.id == id:
		return lockOwn
	case l.live(at):
		return lockOther
	}
	return lockFree
}

// refusedAcquire has the inputs for the verdict on an Acquire.
type refusedAcquire struct {
	row     row
	expired bool
	lock    lockState
}

func (a refusedAcquire) verdict() verdict {
	switch {
	case a.row == rowGone:
		return verdictNotFound
	case a.row == rowUnreadable:
		return verdictError
	case a.expired:
		return verdictExpired
	case a.lock == lockOwn:
		return verdictSuccess
	case a.lock == lockOther:
		return verdictLocked
	}
	return verdictAgain
}

// refusedTouch has the inputs for the verdict on a Touch.
type refusedTouch struct {
	row     row
	expired bool
	late    bool // the stored Expires is not earlier than the one asked for
}

func (t refusedTouch) verdict() verdict {
	switch {
	case t.row == rowGone:
		return verdictNotFound
	case t.row == rowUnreadable:
		return verdictError
	case t.expired:
		return verdictExpired
	case t.late:
		return verdictSuccess
	}
	return verdictAgain
}

// refusedExtend has the inputs for the verdict on an Extend.
type refusedExtend struct {
	row     row
	expired bool
}

func (e refusedExtend) verdict() verdict {
	switch {
	case e.row == rowGone, e.row == rowThere && e.expired:
		return verdictGone
	case e.row == rowUnreadable:
		return verdictUnseen
	}
	return verdictConflict
}

// refusedRelease has the inputs for the verdict on a Release.
type refusedRelease struct {
	moves   bool // it was to move Expires too
	lost    bool // an earlier attempt may have been applied
	row     row
	expired bool
	own     bool // the lock is still that of the caller
	unmoved bool // the version is that of the caller, and Expires earlier than asked for
}

func (r refusedRelease) verdict() verdict {
	switch {
	case r.row == rowGone:
		return verdictGone
	case r.row == rowThere && r.expired:
		return verdictExpired
	case r.row == rowThere && r.own && r.moves:
		return verdictAgain
	case r.row == rowUnreadable && r.lost:
		return verdictUnknown
	case r.row == rowUnreadable:
		return verdictUnseen
	case !r.lost, r.moves && r.unmoved:
		return verdictConflict
	}
	return verdictSuccess
}

// removal is the outcome of removing an expired record.
type removal int

const (
	removalDone       removal = iota
	removalGone               // somebody else has removed it
	removalChanged            // it was written or renewed meanwhile
	removalUnreadable         // it was changed, and cannot be read
	removalFailed             // the request failed
)

// removalOf returns the outcome of a removal whose condition failed.
func removalOf(r row) removal {
	switch r {
	case rowGone:
		return removalGone
	case rowThere:
		return removalChanged
	}
	return removalUnreadable
}

// gone reports whether the record is gone for certain.
func (r removal) gone() bool { return r == removalDone || r == removalGone }

// ofSave is the verdict on a Save that found an expired record. lost is set if an
// earlier attempt of the Save may have been applied.
func (r removal) ofSave(lost bool) verdict {
	switch {
	case r.gone():
		return verdictGone
	case lost:
		return verdictUnknown
	case r == removalChanged:
		return verdictUnseen
	}
	return verdictError
}

// ofLook is the verdict on an Acquire or a Touch that found an expired record.
func (r removal) ofLook() verdict {
	switch {
	case r.gone():
		return verdictNotFound
	case r == removalChanged:
		return verdictAgain
	}
	return verdictError
}

// ofRelease is the verdict on a Release that found an expired record.
func (r removal) ofRelease() verdict {
	if r.gone() {
		return verdictGone
	}
	return verdictError
}
