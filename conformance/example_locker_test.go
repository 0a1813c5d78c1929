package conformance_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/conformance"
)

// A KeyBoard is a locker under test. Its locks live inside the process.
type KeyBoard struct {
	mu     sync.Mutex
	leases map[string]*lease // by key; a lease that is not here is lost
}

type lease struct {
	board *KeyBoard
	key   string
	until time.Time
}

// Acquire implements session.Locker.
func (b *KeyBoard) Acquire(ctx context.Context, key string, ttl time.Duration) (session.Lease, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if ttl <= 0 {
		return nil, errors.New("keyboard: the ttl is not positive")
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	if held := b.leases[key]; held != nil && now.Before(held.until) {
		return nil, &session.LockedError{Until: held.until}
	}
	le := &lease{board: b, key: key, until: now.Add(ttl)}
	b.leases[key] = le
	return le, nil
}

// Extend implements session.Lease.
func (le *lease) Extend(ctx context.Context, ttl time.Duration) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if ttl <= 0 {
		return errors.New("keyboard: the ttl is not positive")
	}
	le.board.mu.Lock()
	defer le.board.mu.Unlock()
	now := time.Now()
	if le.board.leases[le.key] != le || !now.Before(le.until) {
		return session.ErrConflict
	}
	le.until = now.Add(ttl)
	return nil
}

// Release implements session.Lease.
func (le *lease) Release(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	le.board.mu.Lock()
	defer le.board.mu.Unlock()
	if le.board.leases[le.key] == le {
		delete(le.board.leases, le.key)
	}
	return nil
}

// testKeyBoard is called TestConformance in the package of the locker.
func testKeyBoard(t *testing.T) {
	conformance.TestLocker(t, conformance.Locker{
		New: func(testing.TB) session.Locker { return &KeyBoard{leases: map[string]*lease{}} },
	})
}

// The whole test of a locker, here of one in memory. Its clock cannot be moved, so
// the test waits for leases to run out.
func ExampleTestLocker() {
	_ = testKeyBoard // go test calls it

	board := &KeyBoard{leases: map[string]*lease{}}
	for range 2 {
		_, err := board.Acquire(context.Background(), "cart", time.Minute)
		fmt.Println(errors.Is(err, session.ErrLocked))
	}
	// Output:
	// false
	// true
}
