package dynamodb

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/admin"
	"github.com/seed-a7bee19b/session/observe"
)

// requests collects the arguments of OnRequest.
type requests struct {
	mu  sync.Mutex
	all []observe.Request
	ctx []context.Context
}

func (r *requests) on(ctx context.Context, req observe.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all, r.ctx = append(r.all, req), append(r.ctx, ctx)
}

type markKey struct{}

func (r *requests) String() string {
	var lines []string
	for _, req := range r.all {
		line := fmt.Sprintf("%s %s #%d", req.Name, req.Table, req.Attempt)
		if req.ReadUnits > 0 {
			line += fmt.Sprintf(" %v RCU", req.ReadUnits)
		}
		if req.WriteUnits > 0 {
			line += fmt.Sprintf(" %v WCU", req.WriteUnits)
		}
		switch {
		case req.Refused:
			line += " refused"
		case req.Err != nil:
			line += " failed"
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "; ")
}

func TestOnRequest(t *testing.T) {
	ctx := context.WithValue(t.Context(), markKey{}, "call")
	for _, tt := range []struct {
		name   string
		c      Config
		faults []fault
		call   func(b *Backend, rec session.Record) error
		want   string
	}{
		{
			name: "Load", call: func(b *Backend, _ session.Record) error { _, err := b.Load(ctx, key); return err },
			want: "GetItem sessions #1 1 RCU",
		},
		{
			name: "Load eventually consistent", c: Config{EventuallyConsistentReads: true},
			call: func(b *Backend, _ session.Record) error { _, err := b.Load(ctx, key); return err },
			want: "GetItem sessions #1 0.5 RCU",
		},
		{
			name: "Save of 2 KB", call: func(b *Backend, rec session.Record) error {
				rec.Data = make([]byte, 2000)
				_, err := b.Save(ctx, key, rec)
				return err
			},
			want: "UpdateItem sessions #1 3 WCU",
		},
		{
			name: "conflict", call: func(b *Backend, rec session.Record) error {
				rec.Version = "12345678"
				if _, err := b.Save(ctx, key, rec); !errors.Is(err, session.ErrConflict) {
					return err
				}
				return nil
			},
			want: "UpdateItem sessions #1 refused",
		},
		{
			name: "Delete", call: func(b *Backend, _ session.Record) error { return b.Delete(ctx, key) },
			want: "DeleteItem sessions #1 1 WCU",
		},
		{
			name: "retries", faults: []fault{{lost: errThrottle}, {after: errReset}},
			call: func(b *Backend, _ session.Record) error { return b.Delete(ctx, key) },
			want: "DeleteItem sessions #1 failed; DeleteItem sessions #2 failed; DeleteItem sessions #3 1 WCU",
		},
		{
			name: "List", call: func(b *Backend, _ session.Record) error {
				_, err := b.List(ctx, admin.ListOptions{}, func(admin.Entry) error { return nil })
				return err
			},
			want: "Scan sessions #1 0.5 RCU",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var seen requests
			tt.c.OnRequest = seen.on
			f := newFake()
			b := newBackend(t, f, quick(tt.c))
			rec := record("data")
			rec.Version = mustSave(t, b, rec)
			seen.all, seen.ctx = nil, nil
			f.fail(tt.faults...)
			if err := tt.call(b, rec); err != nil {
				t.Fatal(err)
			}
			if seen.String() != tt.want {
				t.Errorf("got %s\nwant %s", &seen, tt.want)
			}
			for i, r := range seen.all {
				if r.Duration <= 0 || r.Duration > time.Minute {
					t.Errorf("it took %v", r.Duration)
				}
				if seen.ctx[i].Value(markKey{}) != "call" || seen.ctx[i].Err() != nil {
					t.Error("the context is not that of the call")
				}
				var failed *types.ConditionalCheckFailedException
				if errors.As(r.Err, &failed) && failed.Item != nil {
					t.Error("the error has the item")
				}
			}
		})
	}
}

// Without OnRequest no request asks for its consumed capacity.
func TestNoOnRequest(t *testing.T) {
	f := newFake()
	b := newBackend(t, f, Config{})
	mustSave(t, b, record("data"))
	mustLoad(t, b)
	if err := b.Delete(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	asked := []types.ReturnConsumedCapacity{
		f.lastUpdate.ReturnConsumedCapacity, f.lastGet.ReturnConsumedCapacity, f.lastDelete.ReturnConsumedCapacity,
	}
	if slices.ContainsFunc(asked, func(a types.ReturnConsumedCapacity) bool { return a != "" }) {
		t.Errorf("asked for %q", asked)
	}
}
