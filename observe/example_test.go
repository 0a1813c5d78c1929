package observe_test

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/memory"
	"github.com/seed-a7bee19b/session/observe"
	sessionslog "github.com/seed-a7bee19b/session/observe/slog"
)

// An Observer counts, logs or traces.
func ExampleObserver() {
	manager, _ := session.New(&memory.Backend{}, session.Config{Observer: printer{}})
	s := manager.Start()
	_ = s.Set("x", 1)
	_ = s.Save(context.Background())
	_, _ = manager.Open(context.Background(), "not-a-token")
	// Output:
	// Save <nil>
	// SessionCreated
	// TokenMalformed
}

type printer struct{}

func (printer) Call(ctx context.Context, op observe.Op) (context.Context, func(error)) {
	return ctx, func(err error) { fmt.Println(op, err) }
}

func (printer) Event(_ context.Context, e observe.Event) { fmt.Println(e.Kind) }

// Observers calls several observers: here one that logs, and one of the
// program's own.
func ExampleObservers() {
	logs, err := sessionslog.New(slog.Default(), sessionslog.Config{Slow: 200 * time.Millisecond})
	if err != nil {
		log.Fatal(err)
	}
	manager, err := session.New(&memory.Backend{}, session.Config{
		Observer: observe.Observers{printer{}, logs},
	})
	if err != nil {
		log.Fatal(err)
	}
	s := manager.Start()
	_ = s.Set("x", 1)
	_ = s.Save(context.Background())
	// Output:
	// Save <nil>
	// SessionCreated
}
