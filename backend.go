package session

import (
	"context"
	"time"
)

// Version identifies one stored state of a record. It is opaque: compare it
// with ==. The zero Version means "no record". A backend never gives two
// states of a key the same Version, not even across a Delete.
type Version string

// Record is a session as a [Backend] stores it under a key.
type Record struct {
	// Data is the encoded session, opaque to the backend. It may be empty.
	Data []byte
	// Created is when the session began. The absolute timeout counts from it.
	Created time.Time
	// Expires is the earlier of the idle and the absolute deadline, never zero.
	Expires time.Time
	// KeepLater is for Save: if the stored Expires is later than this one, the
	// stored one stays. Load never sets it.
	KeepLater bool
	// Continues is for a Save that creates: the session is in the store already,
	// and gets a new key. A store that limits the number of its records should
	// accept it; the number of records under old keys is bounded. Load never sets
	// it.
	Continues bool
	// Private is for Save: the record is the Manager's own, a marker under an old
	// ID or a record of the index of owners, and not a session. A [SharedBackend]
	// should keep it from the other program, which could take it for a session of
	// its own. Load never sets it.
	Private bool
	// Version is set by the backend on Load, and names the state that a Save
	// replaces.
	Version Version
	// LockedUntil is when the lease of the record's lock runs out; zero, or past,
	// if the record is free. A [LockingBackend] sets it; Save ignores it.
	LockedUntil time.Time
}

// Expired reports whether the record's deadline has passed at now.
func (r Record) Expired(now time.Time) bool { return !now.Before(r.Expires) }

// Backend is the one interface that a store has to implement. Package
// conformance has a test for every MUST below; run it against your own.
//
// Every method MUST be safe for concurrent use, and its effect MUST be
// linearizable per key and durable, as far as the store is, when it returns: a
// Load that begins after a write has returned MUST NOT answer with what was
// there before, whichever client of the store wrote. It MUST neither keep nor
// change the caller's slices, and what it returns MUST NOT alias what it keeps,
// nor what it returns to another call. It MUST NOT leave behind a goroutine for
// each call.
//
// Once ctx is done it MUST return promptly, whatever other calls wait for, and
// if it fails because of that, then with an error that wraps ctx.Err(); to wrap
// the cause of ctx is not enough. And a call that starts with a done ctx MUST
// fail with an error that wraps the ctx's error, and change nothing.
//
// A failure of the store MUST be returned as an error that is none of the
// sentinels of this package; above all it is never [ErrNotFound]. A retry
// inside the backend after a lost response MUST NOT report the caller's own
// first attempt as a conflict. Where somebody has deleted the record before
// the retry, it is gone all the same.
//
// A request whose response did not come may still be on its way, and arrive
// when its sender has given up. As long as such a request could still be
// applied, the call MUST NOT end with a sentinel that says that nothing was
// written: a write that a retry finds refused by a lock fails with an error of
// the store, as the lock may be freed before the first attempt arrives. And a
// Save that creates MUST NOT be sent a second time once an attempt may have
// been applied: a Delete could come between the two. It fails; the [Manager]
// then draws another key.
//
// Once Load, Save or Touch has said that a record is gone, a Save with an older
// version or a Touch MUST NOT bring it back, however late it arrives and
// whatever the clock of its sender.
//
// Keys are non-empty strings of at most 512 bytes of UTF-8; a backend MUST
// keep any two of them apart, byte by byte. A Version that is handed in may be
// any string: one that this backend never made MUST be treated as one that is
// no longer stored, whatever its bytes and its length.
//
// Times are moments of the years 1970 to 9999, given in any time zone, and MUST
// be kept as that. A backend MAY round Created to the millisecond and MAY round
// Expires up to the next second. It MUST keep a record until its Expires; after
// that it may drop it at any time, and until it does Load may still return it:
// the [Manager] decides on reading, so that every backend behaves alike. On
// writing the backend decides, because only there is no time between the
// decision and the write.
type Backend interface {
	// Load returns the record at key. If there is none it MUST fail with
	// [ErrNotFound].
	Load(ctx context.Context, key string) (Record, error)

	// Save stores Data, Created and Expires of rec and returns the new
	// version, which MUST be one that the key never had.
	//
	// With a zero rec.Version it creates: it MUST fail with a
	// [*ConflictError] if a live record exists. Otherwise it replaces, and
	// MUST fail with a *ConflictError unless the stored version is still
	// rec.Version, byte by byte. A Save that fails with a conflict MUST write
	// nothing, and carries the current record where the store hands it over in
	// the same request. It may come from a second read, but MUST be one state of
	// the record, whole.
	//
	// A replacing Save MUST NOT create: where the record was deleted, or its
	// Expires has passed, it fails with a *ConflictError that is also
	// [ErrNotFound] where the store can tell.
	//
	// Expires may be earlier than before, unless rec.KeepLater is set: then
	// the later of the two MUST stay, as another request may have moved it by
	// Touch since; also where the one that is given has passed. A zero Expires
	// MUST be refused with an error.
	//
	// A Save after which Expires has passed ends the record: it is dead at once,
	// and for ever. It MUST end one, of that version, whose deadline has passed
	// already, or fail as for a record that is gone. Either way, a Save of that
	// version or a Touch that arrives after that MUST NOT be applied, however
	// long it was on its way and whatever the clock of its sender.
	//
	// A record that the store cannot hold MUST be refused with [ErrTooLarge];
	// what was stored before stays, with its Expires and its lock.
	Save(ctx context.Context, key string, rec Record) (Version, error)

	// Touch moves Expires forward; it MUST NOT change data, Created or version.
	// An Expires that is not later than the stored one MUST be a no-op that
	// returns nil.
	// If there is no record, or its Expires has passed, it MUST fail with
	// [ErrNotFound] and revive nothing.
	Touch(ctx context.Context, key string, expires time.Time) error

	// Delete removes the record, whatever its version, and whatever of it this
	// client has seen. An absent record MUST NOT be an error. Once it has returned,
	// no Save with an older version and no Touch may bring the record back.
	Delete(ctx context.Context, key string) error
}

// TextBackend is a [Backend] that can be set to store Data as text, in a column
// or an attribute that holds nothing else. [New] then refuses a codec that is
// no [TextCodec].
type TextBackend interface {
	Backend

	// TextOnly reports whether Data has to be valid UTF-8. A Backend that says
	// so MUST refuse other Data with [ErrEncode] and change nothing, and store
	// what is valid as it is, whatever characters it has.
	TextOnly() bool
}

// SharedBackend is a [Backend] that can be set to store records that another program
// reads and writes too, such as a site's pages in another language. It knows what that
// program demands.
type SharedBackend interface {
	Backend

	// Shared reports whether there is such a program. A session may then be found
	// under a key that no Manager has given it.
	Shared() bool

	// CheckConfig returns an error if a Manager with cfg, whose defaults are filled
	// in, could not read the sessions of the other program, or would damage them, or
	// let that program damage its own. [New] fails with that error, and so does
	// [Manager.With], which calls it with the Mode and the SafeMode of the view.
	CheckConfig(cfg Config) error
}
