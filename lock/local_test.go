package lock_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/conformance"
	"github.com/seed-a7bee19b/session/lock"
)

func TestLocalConformance(t *testing.T) {
	t.Parallel()
	conformance.TestLocker(t, conformance.Locker{
		New: func(testing.TB) session.Locker { return new(lock.Local) },
	})
}

// The keys of the rules do not meet, so that a locker may be shared.
func TestLocalConformanceShared(t *testing.T) {
	t.Parallel()
	var local lock.Local
	conformance.TestLocker(t, conformance.Locker{
		New: func(testing.TB) session.Locker { return &local },
	})
}

func ExampleLocal() {
	var local lock.Local
	ctx := context.Background()

	lease, err := local.Acquire(ctx, "key", 5*time.Second)
	fmt.Println(err)

	_, err = local.Acquire(ctx, "key", 5*time.Second)
	fmt.Println(errors.Is(err, session.ErrLocked))

	if err := lease.Release(ctx); err != nil {
		fmt.Println(err)
	}
	_, err = local.Acquire(ctx, "key", 5*time.Second)
	fmt.Println(err)
	// Output:
	// <nil>
	// true
	// <nil>
}

func BenchmarkLocal(b *testing.B) {
	var local lock.Local
	ctx := context.Background()
	b.ReportAllocs()
	for b.Loop() {
		lease, err := local.Acquire(ctx, "key", time.Minute)
		if err == nil {
			err = lease.Release(ctx)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}
