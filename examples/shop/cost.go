package main

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/seed-a7bee19b/session/observe"
)

// cost counts the store calls of one request. It travels in the request's
// context, where the observer finds it.
type cost struct {
	mu    sync.Mutex // a request may use its session from several goroutines
	calls map[observe.Op]int
}

type costKey struct{}

func withCost(ctx context.Context) (context.Context, *cost) {
	c := &cost{calls: make(map[observe.Op]int)}
	return context.WithValue(ctx, costKey{}, c), c
}

// String returns the calls of the store, as in "1 Load, 2 Saves".
func (c *cost) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var parts []string
	for _, op := range slices.Sorted(maps.Keys(c.calls)) {
		part := fmt.Sprint(c.calls[op], " ", op)
		if c.calls[op] > 1 {
			part += "s"
		}
		parts = append(parts, part)
	}
	if len(parts) == 0 {
		return "no store call"
	}
	return strings.Join(parts, ", ")
}

// observer is an observe.Observer that counts the calls of every request, and
// logs events that a handler does not see.
type observer struct{ log *slog.Logger }

func (observer) Call(ctx context.Context, op observe.Op) (context.Context, func(error)) {
	if c, ok := ctx.Value(costKey{}).(*cost); ok {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.calls[op]++
	}
	return ctx, nil
}

func (o observer) Event(ctx context.Context, e observe.Event) {
	switch e.Kind {
	case observe.EventTouchFailed, observe.EventLateFailed:
		o.log.WarnContext(ctx, "session", "event", e.Kind, "err", e.Err)
	default:
		o.log.DebugContext(ctx, "session", "event", e.Kind, "err", e.Err)
	}
}
