package fiberstore_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session"
	fiberstore "github.com/seed-a7bee19b/session/adapter/fiber"
	"github.com/seed-a7bee19b/session/backend/memory"
)

// never is a context that never ends.
type never struct{ context.Context }

// fiberCtx stands for a fiber.Ctx: it never ends, and has the context that the
// handler has set.
type fiberCtx struct {
	never
	set    context.Context
	locals map[any]any
}

func newCtx(set context.Context) *fiberCtx {
	return &fiberCtx{never{context.Background()}, set, map[any]any{}}
}

func (c *fiberCtx) Context() context.Context { return c.set }

func (c *fiberCtx) Locals(key any, value ...any) any {
	if len(value) > 0 {
		c.locals[key] = value[0]
	}
	return c.locals[key]
}

// The session middleware of fiber calls a Storage as this program does. With fiber:
//
//	app.Use(fibersession.New(fibersession.Config{Storage: storage}))
func Example() {
	storage, err := fiberstore.New(&memory.Backend{}, fiberstore.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	c := newCtx(context.Background())
	if err := storage.SetWithContext(c, "id", []byte("1"), time.Hour); err != nil {
		fmt.Println(err)
	}
	fmt.Println(storage.GetWithContext(c, "id"))

	slow := newCtx(context.Background())
	_, _ = storage.GetWithContext(slow, "id")
	fmt.Println(storage.SetWithContext(c, "id", []byte("2"), time.Hour))
	fmt.Println(storage.SetWithContext(slow, "id", []byte("3"), time.Hour))
	// Output:
	// [49] <nil>
	// <nil>
	// fiberstore: save: changed since it was read
}

// textOnly stores text only.
type textOnly struct{ session.Backend }

func (textOnly) TextOnly() bool { return true }

func TestNew(t *testing.T) {
	b := &memory.Backend{}
	tests := []struct {
		name string
		b    session.Backend
		c    fiberstore.Config
		ok   bool
	}{
		{"defaults", b, fiberstore.Config{}, true},
		{"no Backend", nil, fiberstore.Config{}, false},
		{"timeout", b, fiberstore.Config{Timeout: -1}, false},
		{"text", textOnly{b}, fiberstore.Config{}, false},
	}
	for _, tt := range tests {
		if _, err := fiberstore.New(tt.b, tt.c); err == nil != tt.ok {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

// TestContexts: the context that the handler has set bounds each call.
func TestContexts(t *testing.T) {
	storage, err := fiberstore.New(&memory.Backend{}, fiberstore.Config{})
	if err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	c := newCtx(ended)
	if _, err := storage.GetWithContext(c, "id"); !errors.Is(err, context.Canceled) {
		t.Errorf("Get: %v", err)
	}
	if err := storage.SetWithContext(c, "id", []byte("1"), 0); !errors.Is(err, context.Canceled) {
		t.Errorf("Set: %v", err)
	}
	if err := storage.DeleteWithContext(c, "id"); !errors.Is(err, context.Canceled) {
		t.Errorf("Delete: %v", err)
	}
}
