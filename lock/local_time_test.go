//go:build go1.25

package lock

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-a7bee19b/session"
)

func TestLocalLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		var l Local
		first, err := l.Acquire(ctx, "k", time.Second)
		if err != nil {
			t.Fatal(err)
		}
		until := time.Now().Add(time.Second)

		time.Sleep(time.Second - time.Nanosecond)
		_, err = l.Acquire(ctx, "k", time.Second)
		var locked *session.LockedError
		if !errors.As(err, &locked) || !locked.Until.Equal(until) {
			t.Fatalf("a nanosecond early: got %v, %+v, want LockedError until %v", err, locked, until)
		}
		if err := first.Extend(ctx, time.Second); err != nil {
			t.Fatalf("Extend a nanosecond before the end: %v", err)
		}
		time.Sleep(time.Second)
		if err := first.Extend(ctx, time.Second); !errors.Is(err, session.ErrConflict) {
			t.Errorf("Extend at the end: got %v, want ErrConflict", err)
		}
		second, err := l.Acquire(ctx, "k", time.Second)
		if err != nil {
			t.Fatalf("Acquire at the end of another's lease: %v", err)
		}
		if err := first.Release(ctx); err != nil {
			t.Errorf("Release of a lock that was lost: %v", err)
		}
		if err := second.Extend(ctx, time.Second); err != nil {
			t.Errorf("Extend after another's Release: %v", err)
		}
	})
}

// Locks whose holders crashed do not stay for ever.
func TestLocalForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		var l Local
		acquire := func(prefix string, n int, ttl time.Duration) {
			for i := range n {
				if _, err := l.Acquire(ctx, fmt.Sprint(prefix, i), ttl); err != nil {
					t.Fatal(err)
				}
			}
		}
		acquire("crashed", 2000, time.Minute)
		time.Sleep(time.Minute)
		acquire("next", 2000, time.Hour)
		if n := len(l.held); n > 3000 {
			t.Errorf("%d locks are remembered, 2000 are held", n)
		}
	})
}
