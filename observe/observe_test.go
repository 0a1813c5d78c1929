package observe_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/seed-a7bee19b/session/observe"
)

var (
	ctx      = context.Background()
	errStore = errors.New("store is down")
)

type ctxKey struct{}

// tracer records the calls of an observer, and the values in its context.
type tracer struct {
	name string
	log  *[]string
}

func (o tracer) note(ctx context.Context, what ...any) {
	*o.log = append(*o.log, fmt.Sprint(o.name, " in ", ctx.Value(ctxKey{}), ": ", fmt.Sprint(what...)))
}

func (o tracer) Call(ctx context.Context, op observe.Op) (context.Context, func(error)) {
	o.note(ctx, op)
	return context.WithValue(ctx, ctxKey{}, o.name), func(err error) { o.note(ctx, "done ", err) }
}

func (o tracer) Event(ctx context.Context, e observe.Event) { o.note(ctx, e.Kind) }

func (o tracer) Request(ctx context.Context, r observe.Request) { o.note(ctx, r.Name) }

// silent is an Observer that ignores outcomes and requests.
type silent struct{}

func (silent) Call(ctx context.Context, _ observe.Op) (context.Context, func(error)) { return ctx, nil }
func (silent) Event(context.Context, observe.Event)                                  {}

func TestObservers(t *testing.T) {
	var got []string
	o := observe.Observers{tracer{"a", &got}, silent{}, nil, tracer{"b", &got}}
	ctx, done := o.Call(ctx, observe.OpSave)
	done(errStore)
	o.Event(ctx, observe.Event{Kind: observe.EventMerged})
	o.Request(ctx, observe.Request{Name: "UpdateItem"})
	want := []string{
		"a in <nil>: Save", "b in a: Save", "b in a: done store is down", "a in <nil>: done store is down",
		"a in b: Merged", "b in b: Merged", "a in b: UpdateItem", "b in b: UpdateItem",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	one := observe.Observers{silent{}, tracer{"c", new([]string)}}
	if _, done := one.Call(ctx, observe.OpLoad); done == nil {
		t.Error("the outcome is lost")
	}
}
