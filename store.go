package session

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/seed-a7bee19b/session/observe"
)

// storage is the one door to the store: every call of the backend and of the locker
// goes through it. It tells the observer, and marks failures.
type storage struct {
	backend  Backend
	locking  LockingBackend // the backend, if it locks; nil if it does not
	locker   Locker         // locks in its place, if not nil
	observer observe.Observer
}

func (st *storage) event(ctx context.Context, e observe.Event) {
	if st.observer != nil {
		st.observer.Event(ctx, e)
	}
}

// call begins a call of the store. done returns err, marked if it is a failure of
// the store.
func (st *storage) call(ctx context.Context, op observe.Op) (_ context.Context, done func(err error) error) {
	if st.observer == nil {
		return ctx, failure
	}
	ctx, tell := st.observer.Call(ctx, op)
	if tell == nil {
		return ctx, failure
	}
	return ctx, func(err error) error {
		tell(err)
		return failure(err)
	}
}

// answers are the errors of the contract, which are no failures of the store.
var answers = []error{ErrNotFound, ErrConflict, ErrLocked, ErrTooLarge, ErrEncode, ErrDecode}

// failure marks err with [ErrStore], unless it is an answer.
func failure(err error) error {
	if err == nil || isAny(err, answers...) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrStore, err)
}

// uncertain reports whether a Save that failed with err may have been applied.
func uncertain(err error) bool {
	return err != nil && isAny(err, ErrStore, context.Canceled, context.DeadlineExceeded) && !isAny(err, answers...)
}

func (st *storage) load(ctx context.Context, key string) (Record, error) {
	ctx, done := st.call(ctx, observe.OpLoad)
	rec, err := st.backend.Load(ctx, key)
	return rec, done(err)
}

func (st *storage) save(ctx context.Context, key string, rec Record) (Version, error) {
	ctx, done := st.call(ctx, observe.OpSave)
	v, err := st.backend.Save(ctx, key, rec)
	return v, done(err)
}

// end ends the record at key if its version is still v, with a Save whose deadline
// is past. Unlike delete, it fails if another request has changed the record.
func (st *storage) end(ctx context.Context, key string, v Version) error {
	ctx, done := st.call(ctx, observe.OpDelete)
	past := time.Unix(0, 0)
	_, err := st.backend.Save(ctx, key, Record{Created: past, Expires: past, Version: v})
	return done(err)
}

// endUnlessTouched is end for a record that is past its deadline. It does nothing
// if the deadline was moved since the record was read, which the version does not
// tell.
func (st *storage) endUnlessTouched(ctx context.Context, key string, rec Record) error {
	ctx, done := st.call(ctx, observe.OpDelete)
	rec.KeepLater = true
	_, err := st.backend.Save(ctx, key, rec)
	return done(err)
}

func (st *storage) delete(ctx context.Context, key string) error {
	ctx, done := st.call(ctx, observe.OpDelete)
	return done(st.backend.Delete(ctx, key))
}

// remove deletes a record that no client needs. If the context of the caller has
// ended, it takes a second at most. If it fails, the record stays until its
// deadline.
func (st *storage) remove(ctx context.Context, key string) {
	if ctx.Err() != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
	}
	_ = st.delete(ctx, key)
}

func (st *storage) touch(ctx context.Context, key string, expires time.Time) error {
	ctx, done := st.call(ctx, observe.OpTouch)
	return done(st.backend.Touch(ctx, key, expires))
}

// lease is a lock of a LockingBackend or of a Locker.
type lease struct {
	st  *storage
	key string
	v   Version // of a LockingBackend's
	l   Lease   // of a Locker's; nil if it is none
}

// acquire locks the record at key and returns it.
func (st *storage) acquire(ctx context.Context, key string, ttl time.Duration) (lease, Record, error) {
	if st.locking != nil {
		ctx, done := st.call(ctx, observe.OpAcquire)
		rec, err := st.locking.Acquire(ctx, key, ttl)
		return lease{st: st, key: key, v: rec.Version}, rec, done(err)
	}
	lctx, done := st.call(ctx, observe.OpAcquire)
	l, err := st.locker.Acquire(lctx, key, ttl)
	if err = done(err); err != nil {
		return lease{}, Record{}, err
	}
	ls := lease{st: st, key: key, l: l}
	rec, err := st.load(ctx, key)
	if err != nil {
		_ = ls.release(ctx, time.Time{}) // else the lease ends it
	}
	return ls, rec, err
}

func (ls lease) extend(ctx context.Context, ttl time.Duration) error {
	ctx, done := ls.st.call(ctx, observe.OpExtend)
	if ls.l != nil {
		return done(ls.l.Extend(ctx, ttl))
	}
	return done(ls.st.locking.Extend(ctx, ls.key, ls.v, ttl))
}

// release frees the lock. That of a LockingBackend also moves the deadline, unless
// expires is zero.
func (ls lease) release(ctx context.Context, expires time.Time) error {
	ctx, done := ls.st.call(ctx, observe.OpRelease)
	if ls.l != nil {
		return done(ls.l.Release(ctx))
	}
	return done(ls.st.locking.Release(ctx, ls.key, ls.v, expires))
}

const mostAtOnce = 8

// atOnce calls f for the numbers below n, up to mostAtOnce at a time, until one
// fails.
func atOnce(ctx context.Context, n int, f func(ctx context.Context, i int) error) error {
	switch n {
	case 0:
		return nil
	case 1:
		return f(ctx, 0)
	}
	var (
		wg   sync.WaitGroup
		once sync.Once
		err  error
		next = make(chan int)
	)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for range min(mostAtOnce, n) {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range next {
				if ferr := f(ctx, i); ferr != nil {
					once.Do(func() { err = ferr; cancel() })
					return
				}
			}
		}()
	}
feed:
	for i := range n {
		select {
		case next <- i:
		case <-ctx.Done():
			break feed
		}
	}
	close(next)
	wg.Wait()
	if err == nil {
		err = ctx.Err()
	}
	return err
}
