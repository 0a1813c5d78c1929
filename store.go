package session

import (
	"context"
	"time"

	"github.com/seed-a7bee19b/session/observe"
)

func (m *core) event(ctx context.Context, e observe.Event) {
	if m.cfg.Observer != nil {
		m.cfg.Observer.Event(ctx, e)
	}
}

func (m *core) call(ctx context.Context, op observe.Op) (_ context.Context, done func(error)) {
	if m.cfg.Observer != nil {
		ctx, done = m.cfg.Observer.Call(ctx, op)
	}
	if done == nil {
		done = func(error) {}
	}
	return ctx, done
}

func (m *core) load(ctx context.Context, key string) (Record, error) {
	ctx, done := m.call(ctx, observe.OpLoad)
	rec, err := m.backend.Load(ctx, key)
	done(err)
	return rec, err
}

func (m *core) save(ctx context.Context, key string, rec Record) (Version, error) {
	ctx, done := m.call(ctx, observe.OpSave)
	v, err := m.backend.Save(ctx, key, rec)
	done(err)
	return v, err
}

// end ends the record at key if its version is still v: a Save of nothing whose
// deadline is past. Unlike with Delete, what stands there by now is not lost
// with it.
func (m *core) end(ctx context.Context, key string, v Version) error {
	ctx, done := m.call(ctx, observe.OpDelete)
	past := time.Unix(0, 0)
	_, err := m.backend.Save(ctx, key, Record{Created: past, Expires: past, Version: v})
	done(err)
	return err
}

// endUnlessTouched is end for a record that is past its deadline, unless that
// was moved since the record was read, which its version does not tell.
func (m *core) endUnlessTouched(ctx context.Context, key string, rec Record) error {
	ctx, done := m.call(ctx, observe.OpDelete)
	rec.KeepLater = true
	_, err := m.backend.Save(ctx, key, rec)
	done(err)
	return err
}

func (m *core) delete(ctx context.Context, key string) error {
	ctx, done := m.call(ctx, observe.OpDelete)
	err := m.backend.Delete(ctx, key)
	done(err)
	return err
}

func (m *core) touch(ctx context.Context, key string, expires time.Time) error {
	ctx, done := m.call(ctx, observe.OpTouch)
	err := m.backend.Touch(ctx, key, expires)
	done(err)
	return err
}

func (m *core) lease(ctx context.Context, key string, ttl time.Duration) (Record, error) {
	ctx, done := m.call(ctx, observe.OpAcquire)
	rec, err := m.leaser.Acquire(ctx, key, ttl)
	done(err)
	return rec, err
}

func (m *core) extend(ctx context.Context, key string, v Version, ttl time.Duration) error {
	ctx, done := m.call(ctx, observe.OpExtend)
	err := m.leaser.Extend(ctx, key, v, ttl)
	done(err)
	return err
}

func (m *core) release(ctx context.Context, key string, v Version, expires time.Time) error {
	ctx, done := m.call(ctx, observe.OpRelease)
	err := m.leaser.Release(ctx, key, v, expires)
	done(err)
	return err
}

func (m *core) lock(ctx context.Context, key string, ttl time.Duration) (Lease, error) {
	ctx, done := m.call(ctx, observe.OpAcquire)
	lease, err := m.cfg.Lock.Locker.Acquire(ctx, key, ttl)
	done(err)
	return lease, err
}

func (m *core) extendLease(ctx context.Context, lease Lease, ttl time.Duration) error {
	ctx, done := m.call(ctx, observe.OpExtend)
	err := lease.Extend(ctx, ttl)
	done(err)
	return err
}

func (m *core) releaseLease(ctx context.Context, lease Lease) error {
	ctx, done := m.call(ctx, observe.OpRelease)
	err := lease.Release(ctx)
	done(err)
	return err
}
