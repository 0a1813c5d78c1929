package session

import (
	"context"
	"time"
)

// LockingBackend is a [Backend] that locks a record in the request that reads it. With
// one, mode [Exclusive] costs no more requests than reading and writing do.
//
// A lock has a lease: it holds until the ttl of Acquire or Extend has passed
// by the store's clock, or by that of the machines where the store has none. A
// ttl need not be whole seconds; a LockingBackend or Locker MAY round it up to the next
// millisecond.
//
// The Version that Acquire returns is the holder's alone, whichever client of
// the store others use, so the version check of Save is also the fence: a
// holder whose lock was taken over has a Version that is no longer stored.
// Where it has more in it than tells whose lock it is, that may be ignored.
//
// What [Backend] demands of every method applies here too. In addition, while
// a lock is live:
//
//   - Save with any Version but the holder's MUST fail with a [*LockedError]
//     and write nothing. The holder's Save MUST write and unlock. A former
//     holder's fails with ErrConflict: it has lost its lock, and is not to
//     wait for it.
//   - Load MUST return the record, with LockedUntil set, and a Version that
//     is not the holder's.
//   - Touch and Delete MUST work as on a free record. A deleted record's lock
//     is gone with it: the holder's Save MUST then fail with [ErrConflict].
//
// After a lease has run out, anybody's Save or Acquire may win, and MUST end
// the lock: the former holder's Save, Extend and Release then fail with
// [ErrConflict]. As long as nobody did, the former holder's Save MAY succeed.
// So may its Release.
type LockingBackend interface {
	Backend

	// Acquire is Load and lock in one step. It MUST NOT wait: while another
	// holder's lock is live it fails with a [*LockedError]. It MUST NOT create:
	// where there is no live record it fails with [ErrNotFound]. A ttl that is
	// not positive MUST be refused with an error. Of several at once, at most
	// one MUST succeed.
	//
	// A retry inside the backend after a lost response MUST NOT report the
	// caller's own lock as another holder's.
	Acquire(ctx context.Context, key string, ttl time.Duration) (Record, error)

	// Extend renews the lease: it then runs for ttl from now; v MUST stay
	// valid. It MUST fail with [ErrConflict] if v is not that of a lock which
	// is still held, also if its lease ran out and nobody took over. A ttl that
	// is not positive MUST be refused with an error, and change nothing.
	Extend(ctx context.Context, key string, v Version, ttl time.Duration) error

	// Release unlocks without writing data. A non-zero expires is moved as by
	// Touch, in the same request. It MUST fail with [ErrConflict] if v is not
	// that of a lock which is still there, and MUST NOT unlock another's. A
	// lock that is released may be acquired at once, and the version of the
	// data is what it was before Acquire.
	Release(ctx context.Context, key string, v Version, expires time.Time) error
}

// Locker serializes work on a key across processes, for a [Backend] that is
// no [LockingBackend]. It is only for order: the version check still guards every
// write. What [Backend] says about concurrency, contexts, keys and failures
// applies to a Locker and its Leases.
type Locker interface {
	// Acquire takes the lock called key for ttl. It MUST NOT wait: while
	// another holder's lock is live it fails with a [*LockedError]. A ttl that
	// is not positive MUST be refused with an error. Of several at once, at
	// most one MUST succeed; after ttl without Extend the lock MUST be free. The
	// lock MUST be that Lease's alone, whichever client of the store others use.
	Acquire(ctx context.Context, key string, ttl time.Duration) (Lease, error)
}

// Lease is a lock that is held.
type Lease interface {
	// Extend renews the lease for ttl from now. It MUST fail with
	// [ErrConflict] if the lock was lost, and MUST NOT take it back. A ttl that
	// is not positive MUST be refused with an error, and change nothing.
	Extend(ctx context.Context, ttl time.Duration) error

	// Release unlocks. It MUST be nil if the lock was lost already, and MUST
	// NOT unlock another holder's.
	Release(ctx context.Context) error
}
