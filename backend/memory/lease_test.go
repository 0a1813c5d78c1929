//go:build go1.25

package memory_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/memory"
)

var _ session.LockingBackend = (*memory.Backend)(nil)

func acquire(t testing.TB, b *memory.Backend, key string, ttl time.Duration) session.Record {
	t.Helper()
	rec, err := b.Acquire(context.Background(), key, ttl)
	if err != nil {
		t.Fatalf("Acquire: %v", err)
	}
	return rec
}

// The lease ends on a millisecond, and is never too short.
func TestLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		var b memory.Backend
		time.Sleep(300 * time.Microsecond) // not on a millisecond
		save(t, &b, "k", record("1", time.Hour))
		const ttl = 10 * time.Second
		asked := time.Now()
		first := acquire(t, &b, "k", ttl)

		time.Sleep(ttl - time.Nanosecond)
		_, err := b.Acquire(ctx, "k", ttl)
		var locked *session.LockedError
		if !errors.As(err, &locked) || !locked.Until.Equal(first.LockedUntil) {
			t.Fatalf("a nanosecond early: got %v, %+v, want LockedError until %v", err, locked, first.LockedUntil)
		}
		if late := first.LockedUntil.Sub(asked.Add(ttl)); late < 0 || late >= time.Millisecond {
			t.Errorf("LockedUntil is %v after the end of the lease", late)
		}
		rec, err := b.Load(ctx, "k")
		if err != nil || !rec.LockedUntil.Equal(first.LockedUntil) {
			t.Errorf("Load: %v, LockedUntil %v, want %v", err, rec.LockedUntil, first.LockedUntil)
		}
		if err := b.Extend(ctx, "k", first.Version, ttl); err != nil {
			t.Fatalf("Extend a nanosecond before the end: %v", err)
		}

		time.Sleep(ttl + time.Millisecond)
		rec, err = b.Load(ctx, "k")
		if err != nil || !rec.LockedUntil.IsZero() {
			t.Errorf("Load after the lease: %v, LockedUntil %v, want none", err, rec.LockedUntil)
		}
		if err := b.Extend(ctx, "k", first.Version, ttl); !errors.Is(err, session.ErrConflict) {
			t.Errorf("Extend after the lease: got %v, want ErrConflict", err)
		}
		second := acquire(t, &b, "k", ttl)
		rec = record("late", time.Hour)
		rec.Version = first.Version
		if _, err := b.Save(ctx, "k", rec); !errors.Is(err, session.ErrConflict) || errors.Is(err, session.ErrLocked) {
			t.Errorf("Save by the former holder: got %v, want ErrConflict", err)
		}
		rec.Version = second.Version
		save(t, &b, "k", rec)
	})
}

// A late holder can still write if no other one has acquired the lock, because
// nothing is lost by that.
func TestLateHolder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		var b memory.Backend
		for _, key := range []string{"saved", "released"} {
			save(t, &b, key, record("1", time.Hour))
		}
		saver, releaser := acquire(t, &b, "saved", time.Second), acquire(t, &b, "released", time.Second)
		time.Sleep(time.Minute)
		rec := record("2", time.Hour)
		rec.Version = saver.Version
		save(t, &b, "saved", rec)
		if err := b.Release(ctx, "released", releaser.Version, time.Time{}); err != nil {
			t.Errorf("late Release: %v", err)
		}
		for _, key := range []string{"saved", "released"} {
			acquire(t, &b, key, time.Second)
		}
	})
}

// A lock that is not released goes with its record.
func TestLeaseOfExpired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		var b memory.Backend
		save(t, &b, "k", record("1", time.Minute))
		holder := acquire(t, &b, "k", time.Hour)
		time.Sleep(time.Minute)
		if err := b.Release(ctx, "k", holder.Version, time.Now().Add(time.Hour)); !errors.Is(err, session.ErrNotFound) {
			t.Errorf("Release of an expired record: got %v, want a conflict that is ErrNotFound", err)
		}
		save(t, &b, "k", record("2", time.Hour))
		acquire(t, &b, "k", time.Second)
	})
}
