package sessiontest

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/memory"
	"github.com/seed-a7bee19b/session/observe"
)

// Store is a backend in memory for tests, which ages what it keeps and fails on
// demand. It is a [session.LockingBackend]. The zero Store is empty and ready
// for use. A Store must not be copied after first use.
type Store struct {
	memory memory.Backend

	mu     sync.Mutex
	ahead  time.Duration    // of the store's clock, of time.Now
	leases map[string]lease // of locked records, and some that are gone; those of memory do not end
	faults map[observe.Op]fault
}

var _ session.LockingBackend = (*Store)(nil)

// lease is the lock of a record.
type lease struct {
	holder session.Version
	until  time.Time // by the store's clock
}

// fault makes the calls of one Op fail.
type fault struct {
	err     error
	left    int  // how many calls; negative: all
	applied bool // the call is carried out, and only its answer is lost
}

// Advance makes all that is stored older by d: a session that was to end in an
// hour is gone after Advance(time.Hour), and so is the lease of a lock. What is
// stored after that is new. A d that is not positive changes nothing.
//
// Nothing else is older: a session that is open keeps the deadline that it has
// read, and a request that waits for a lock waits as long as before.
func (st *Store) Advance(d time.Duration) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.ahead += max(0, d)
}

// Fail makes all calls of op fail with err, and change nothing, until
// Fail(op, nil). The ops are those that an [observe.Observer] is told: the Save
// that ends a session, in [session.Session.Destroy], is an [observe.OpDelete].
func (st *Store) Fail(op observe.Op, err error) { st.set(op, fault{err: err, left: -1}) }

// FailNext makes the next n calls of op fail with err, and change nothing.
func (st *Store) FailNext(op observe.Op, n int, err error) {
	st.set(op, fault{err: err, left: max(0, n)})
}

// LoseNext loses the answers to the next n calls of op: each call is carried
// out, and its caller gets err.
func (st *Store) LoseNext(op observe.Op, n int, err error) {
	st.set(op, fault{err: err, left: max(0, n), applied: true})
}

func (st *Store) set(op observe.Op, f fault) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.faults == nil {
		st.faults = make(map[observe.Op]fault)
	}
	st.faults[op] = f
}

// call runs f, which is a call of op, or fails in its place. When f runs, no
// other call does, and neither a record at key nor its lease has expired.
func (st *Store) call(ctx context.Context, op observe.Op, key string, f func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	fault := st.faults[op]
	if fault.left == 0 {
		fault.err = nil
	}
	if fault.left > 0 {
		fault.left--
		st.faults[op] = fault
	}
	if fault.err != nil && !fault.applied {
		return fault.err
	}
	err := st.expire(ctx, key)
	if err == nil {
		err = f()
	}
	if fault.err != nil {
		return fault.err
	}
	return err
}

// The memory has a record's times by the store's clock, which is ahead of that
// of memory. So memory never lets a record expire before the store does.

func (st *Store) now() time.Time { return st.in(time.Now()) }

// in returns by the store's clock what time t will be.
func (st *Store) in(t time.Time) time.Time { return t.Add(st.ahead) }

// out is the reverse of in.
func (st *Store) out(t time.Time) time.Time { return t.Add(-st.ahead) }

// expire deletes the record at key if its deadline has passed, and ends its
// lock if the lease has run out.
func (st *Store) expire(ctx context.Context, key string) error {
	rec, err := st.memory.Load(ctx, key)
	l, locked := st.leases[key]
	switch {
	case errors.Is(err, session.ErrNotFound):
		return nil
	case err != nil:
		return err
	case rec.Expired(st.now()):
		return st.memory.Delete(ctx, key)
	case locked && !st.now().Before(l.until):
		delete(st.leases, key)
		return st.memory.Release(ctx, key, l.holder, time.Time{})
	}
	return nil
}

// given returns rec, a record of memory, as callers get it.
func (st *Store) given(key string, rec session.Record) session.Record {
	rec.Created, rec.Expires, rec.LockedUntil = st.out(rec.Created), st.out(rec.Expires), st.lockedUntil(key)
	return rec
}

// lockedUntil returns when the lease of the record at key runs out, for
// callers; zero if there is none.
func (st *Store) lockedUntil(key string) time.Time {
	l, ok := st.leases[key]
	if !ok {
		return time.Time{}
	}
	return st.out(l.until)
}

// refusal returns err, of memory, as callers get it.
func (st *Store) refusal(key string, err error) error {
	var conflict *session.ConflictError
	if errors.As(err, &conflict) && conflict.Current != nil {
		*conflict.Current = st.given(key, *conflict.Current)
	}
	var locked *session.LockedError
	if errors.As(err, &locked) {
		locked.Until = st.lockedUntil(key)
	}
	return err
}

// Load implements [session.Backend].
func (st *Store) Load(ctx context.Context, key string) (rec session.Record, err error) {
	err = st.call(ctx, observe.OpLoad, key, func() error {
		var err error
		rec, err = st.memory.Load(ctx, key)
		rec = st.given(key, rec)
		return err
	})
	if err != nil {
		return session.Record{}, err
	}
	return rec, nil
}

// Save implements [session.Backend].
func (st *Store) Save(ctx context.Context, key string, rec session.Record) (v session.Version, err error) {
	op := observe.OpSave
	if rec.Version != "" && rec.Expired(time.Now()) {
		op = observe.OpDelete
	}
	err = st.call(ctx, op, key, func() error {
		if !rec.Expires.IsZero() { // which is refused
			rec.Expires = st.in(rec.Expires)
		}
		rec.Created = st.in(rec.Created)
		var err error
		if v, err = st.memory.Save(ctx, key, rec); err != nil {
			return st.refusal(key, err)
		}
		delete(st.leases, key)
		return nil
	})
	if err != nil {
		return "", err
	}
	return v, nil
}

// Touch implements [session.Backend].
func (st *Store) Touch(ctx context.Context, key string, expires time.Time) error {
	return st.call(ctx, observe.OpTouch, key, func() error {
		return st.memory.Touch(ctx, key, st.in(expires))
	})
}

// Delete implements [session.Backend].
func (st *Store) Delete(ctx context.Context, key string) error {
	return st.call(ctx, observe.OpDelete, key, func() error {
		return st.memory.Delete(ctx, key)
	})
}

// forever is the lease that memory gives: the store's clock ends it earlier.
const forever = 100 * 365 * 24 * time.Hour

// inMemory returns the ttl for memory, which refuses one that is not positive.
func inMemory(ttl time.Duration) time.Duration {
	if ttl <= 0 {
		return ttl
	}
	return forever
}

// Acquire implements [session.LockingBackend].
func (st *Store) Acquire(ctx context.Context, key string, ttl time.Duration) (rec session.Record, err error) {
	err = st.call(ctx, observe.OpAcquire, key, func() error {
		held, err := st.memory.Acquire(ctx, key, inMemory(ttl))
		if err != nil {
			return st.refusal(key, err)
		}
		if st.leases == nil {
			st.leases = make(map[string]lease)
		}
		st.leases[key] = lease{held.Version, st.now().Add(ttl)}
		rec = st.given(key, held)
		return nil
	})
	if err != nil {
		return session.Record{}, err
	}
	return rec, nil
}

// Extend implements [session.LockingBackend].
func (st *Store) Extend(ctx context.Context, key string, v session.Version, ttl time.Duration) error {
	return st.call(ctx, observe.OpExtend, key, func() error {
		if err := st.memory.Extend(ctx, key, v, inMemory(ttl)); err != nil {
			return err
		}
		st.leases[key] = lease{v, st.now().Add(ttl)}
		return nil
	})
}

// Release implements [session.LockingBackend].
func (st *Store) Release(ctx context.Context, key string, v session.Version, expires time.Time) error {
	return st.call(ctx, observe.OpRelease, key, func() error {
		if !expires.IsZero() {
			expires = st.in(expires)
		}
		if err := st.memory.Release(ctx, key, v, expires); err != nil {
			return err
		}
		delete(st.leases, key)
		return nil
	})
}
