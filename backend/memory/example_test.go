package memory_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/memory"
)

// The zero Backend is ready for use, for example in a test.
func Example() {
	var backend memory.Backend
	ctx := context.Background()

	now := time.Now()
	v, err := backend.Save(ctx, "key", session.Record{Data: []byte("1"), Created: now, Expires: now.Add(time.Hour)})
	fmt.Println(err)

	_, err = backend.Save(ctx, "key", session.Record{Data: []byte("2"), Created: now, Expires: now.Add(time.Hour), Version: v})
	fmt.Println(err)

	// The version was replaced, so a caller that still has it did not see the
	// change.
	_, err = backend.Save(ctx, "key", session.Record{Data: []byte("3"), Created: now, Expires: now.Add(time.Hour), Version: v})
	fmt.Println(err)
	// Output:
	// <nil>
	// <nil>
	// changed since it was read
}

func ExampleNew() {
	backend, err := memory.New(memory.Config{MaxRecords: 1, MaxData: 64 << 10})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	expires := time.Now().Add(time.Hour)
	for _, key := range []string{"a", "b"} {
		_, err := backend.Save(ctx, key, session.Record{Expires: expires})
		fmt.Println(errors.Is(err, memory.ErrFull))
	}
	// Output:
	// false
	// true
}

// The lock of a record comes with its data, and goes with the Save.
func ExampleBackend_Acquire() {
	var backend memory.Backend
	ctx := context.Background()
	rec := session.Record{Data: []byte("1"), Expires: time.Now().Add(time.Hour)}
	if _, err := backend.Save(ctx, "key", rec); err != nil {
		fmt.Println(err)
		return
	}

	held, err := backend.Acquire(ctx, "key", 5*time.Second)
	fmt.Printf("%s %v\n", held.Data, err)

	_, err = backend.Acquire(ctx, "key", 5*time.Second)
	fmt.Println(err)

	held.Data = []byte("2")
	_, err = backend.Save(ctx, "key", held)
	fmt.Println(err)
	// Output:
	// 1 <nil>
	// locked
	// <nil>
}
