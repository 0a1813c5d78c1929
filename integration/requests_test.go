package integration

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/dynamodb"
	"github.com/seed-a7bee19b/session/integration/proxy"
)

// typical is as much data as that of a session with a login, a few flags and a
// small cart.
var typical = strings.Repeat("x", 700)

// TestRequestsPerCall checks the cost of each call. DynamoDB Local reports no
// capacity for a condition that failed; DynamoDB bills it by the size of the
// item.
func TestRequestsPerCall(t *testing.T) {
	type costs = map[string]proxy.Count
	var (
		read  = proxy.Count{Requests: 1, Applied: 1, Capacity: 1}
		half  = proxy.Count{Requests: 1, Applied: 1, Capacity: 0.5}
		write = proxy.Count{Requests: 1, Applied: 1, Capacity: 1}
		// Requests that the engine answers with 400.
		refused = proxy.Count{Requests: 1}
	)
	tests := []struct {
		name   string
		config dynamodb.Config
		absent bool // there is no record
		call   func(b session.Backend, rec session.Record) error
		err    error // the error of the call
		want   costs
	}{
		{
			name: "Load",
			call: func(b session.Backend, _ session.Record) error { _, err := b.Load(t.Context(), key); return err },
			want: costs{"GetItem": read},
		},
		{
			name:   "Load eventually consistent",
			config: dynamodb.Config{EventuallyConsistentReads: true},
			call:   func(b session.Backend, _ session.Record) error { _, err := b.Load(t.Context(), key); return err },
			want:   costs{"GetItem": half},
		},
		{
			name:   "Load of an absent record",
			absent: true,
			call:   func(b session.Backend, _ session.Record) error { _, err := b.Load(t.Context(), key); return err },
			err:    session.ErrNotFound,
			want:   costs{"GetItem": read},
		},
		{
			name:   "Save that creates",
			absent: true,
			call: func(b session.Backend, _ session.Record) error {
				_, err := b.Save(t.Context(), key, record(typical))
				return err
			},
			want: costs{"UpdateItem": write},
		},
		{
			name: "Save that replaces",
			call: func(b session.Backend, rec session.Record) error {
				_, err := b.Save(t.Context(), key, rec)
				return err
			},
			want: costs{"UpdateItem": write},
		},
		{
			name: "Save that conflicts",
			call: func(b session.Backend, rec session.Record) error {
				rec.Version = "another"
				_, err := b.Save(t.Context(), key, rec)
				return err
			},
			err:  session.ErrConflict,
			want: costs{"UpdateItem": refused},
		},
		{
			name: "Save that creates where a record is",
			call: func(b session.Backend, _ session.Record) error {
				_, err := b.Save(t.Context(), key, record(typical))
				return err
			},
			err:  session.ErrConflict,
			want: costs{"UpdateItem": refused},
		},
		{
			name: "Touch",
			call: func(b session.Backend, rec session.Record) error {
				return b.Touch(t.Context(), key, rec.Expires.Add(time.Hour))
			},
			want: costs{"UpdateItem": write},
		},
		{
			name: "Touch back",
			call: func(b session.Backend, rec session.Record) error {
				return b.Touch(t.Context(), key, rec.Expires.Add(-time.Minute))
			},
			want: costs{"UpdateItem": refused},
		},
		{
			name: "Delete",
			call: func(b session.Backend, _ session.Record) error { return b.Delete(t.Context(), key) },
			want: costs{"DeleteItem": write},
		},
		{
			name:   "Delete of an absent record",
			absent: true,
			call:   func(b session.Backend, _ session.Record) error { return b.Delete(t.Context(), key) },
			want:   costs{"DeleteItem": write},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b, p := connect(t, newTable(t, tt.config))
			var rec session.Record
			if !tt.absent {
				save(t, b, key, record(typical))
				rec = load(t, b, key)
				p.Reset()
			}
			if err := tt.call(b, rec); !errors.Is(err, tt.err) {
				t.Fatalf("got error %v, want %v", err, tt.err)
			}
			got := p.Counts()
			if len(got) != len(tt.want) {
				t.Errorf("got requests %+v, want %+v", got, tt.want)
			}
			for op, want := range tt.want {
				if got[op] != want {
					t.Errorf("%s: got %+v, want %+v", op, got[op], want)
				}
			}
		})
	}
}

// TestConflictHandsOver checks that a merge needs no read: the response of the
// refused request contains the current record.
func TestConflictHandsOver(t *testing.T) {
	b, p := connect(t, newTable(t, dynamodb.Config{}))
	first := save(t, b, key, record("first"))
	save(t, b, key, replacing(record("second"), first))
	want := load(t, b, key)
	p.Reset()

	_, err := b.Save(t.Context(), key, replacing(record("third"), first))
	var conflict *session.ConflictError
	if !errors.As(err, &conflict) || conflict.Gone || conflict.Current == nil {
		t.Fatalf("got %v, %+v", err, conflict)
	}
	if got := conflict.Current; string(got.Data) != "second" || got.Version != want.Version ||
		!got.Expires.Equal(want.Expires) || !got.Created.Equal(want.Created) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := p.Counts(); len(got) != 1 || got["UpdateItem"].Requests != 1 {
		t.Errorf("got requests %+v, want one UpdateItem", got)
	}
}
