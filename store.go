package session

import (
	"context"
	"fmt"
	"time"

	"github.com/seed-a7bee19b/session/observe"
)

func (m *core) event(ctx context.Context, e observe.Event) {
	if m.cfg.Observer != nil {
		m.cfg.Observer.Event(ctx, e)
	}
}

// call begins a call of the store. What done returns is err, marked if it is
// a failure of the store and no answer.
func (m *core) call(ctx context.Context, op observe.Op) (_ context.Context, done func(err error) error) {
	if m.cfg.Observer == nil {
		return ctx, failed
	}
	ctx, tell := m.cfg.Observer.Call(ctx, op)
	if tell == nil {
		return ctx, failed
	}
	return ctx, func(err error) error {
		tell(err)
		return failed(err)
	}
}

// failed marks err with [ErrStore], unless it is one of the answers that the
// contract has.
func failed(err error) error {
	if err == nil || isAny(err, ErrNotFound, ErrConflict, ErrLocked, ErrTooLarge, ErrEncode, ErrDecode) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrStore, err)
}

func (m *core) load(ctx context.Context, key string) (Record, error) {
	ctx, done := m.call(ctx, observe.OpLoad)
	rec, err := m.backend.Load(ctx, key)
	return rec, done(err)
}

func (m *core) save(ctx context.Context, key string, rec Record) (Version, error) {
	ctx, done := m.call(ctx, observe.OpSave)
	v, err := m.backend.Save(ctx, key, rec)
	return v, done(err)
}

// end ends the record at key if its version is still v: a Save of nothing whose
// deadline is past. Unlike with Delete, what stands there by now is not lost
// with it.
func (m *core) end(ctx context.Context, key string, v Version) error {
	ctx, done := m.call(ctx, observe.OpDelete)
	past := time.Unix(0, 0)
	_, err := m.backend.Save(ctx, key, Record{Created: past, Expires: past, Version: v})
	return done(err)
}

// endUnlessTouched is end for a record that is past its deadline, unless that
// was moved since the record was read, which its version does not tell.
func (m *core) endUnlessTouched(ctx context.Context, key string, rec Record) error {
	ctx, done := m.call(ctx, observe.OpDelete)
	rec.KeepLater = true
	_, err := m.backend.Save(ctx, key, rec)
	return done(err)
}

func (m *core) delete(ctx context.Context, key string) error {
	ctx, done := m.call(ctx, observe.OpDelete)
	err := m.backend.Delete(ctx, key)
	return done(err)
}

func (m *core) touch(ctx context.Context, key string, expires time.Time) error {
	ctx, done := m.call(ctx, observe.OpTouch)
	err := m.backend.Touch(ctx, key, expires)
	return done(err)
}

func (m *core) lease(ctx context.Context, key string, ttl time.Duration) (Record, error) {
	ctx, done := m.call(ctx, observe.OpAcquire)
	rec, err := m.leaser.Acquire(ctx, key, ttl)
	return rec, done(err)
}

func (m *core) extend(ctx context.Context, key string, v Version, ttl time.Duration) error {
	ctx, done := m.call(ctx, observe.OpExtend)
	err := m.leaser.Extend(ctx, key, v, ttl)
	return done(err)
}

func (m *core) release(ctx context.Context, key string, v Version, expires time.Time) error {
	ctx, done := m.call(ctx, observe.OpRelease)
	err := m.leaser.Release(ctx, key, v, expires)
	return done(err)
}

func (m *core) lock(ctx context.Context, key string, ttl time.Duration) (Lease, error) {
	ctx, done := m.call(ctx, observe.OpAcquire)
	lease, err := m.cfg.Lock.Locker.Acquire(ctx, key, ttl)
	return lease, done(err)
}

func (m *core) extendLease(ctx context.Context, lease Lease, ttl time.Duration) error {
	ctx, done := m.call(ctx, observe.OpExtend)
	err := lease.Extend(ctx, ttl)
	return done(err)
}

func (m *core) releaseLease(ctx context.Context, lease Lease) error {
	ctx, done := m.call(ctx, observe.OpRelease)
	err := lease.Release(ctx)
	return done(err)
}
