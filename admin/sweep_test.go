package admin_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/admin"
	"github.com/seed-a7bee19b/session/backend/memory"
	"github.com/seed-a7bee19b/session/observe"
)

var errStore = errors.New("store is down")

func TestSweepOptions(t *testing.T) {
	full := admin.SweepOptions{
		Grace: admin.DefaultSweepGrace, Segments: admin.DefaultSweepSegments,
		Workers: admin.DefaultSweepWorkers, BatchSize: admin.DefaultSweepBatchSize,
	}
	own := admin.SweepOptions{
		Grace: 1, DryRun: true, KeyPrefix: "a", Foreign: true, ReadUnits: 0.5, WriteUnits: 1e6,
		Segments: 1_000_000, Workers: 10_000, BatchSize: 10_000, Resume: []byte{1},
	}
	for _, tt := range []struct {
		name string
		opts admin.SweepOptions
		want admin.SweepOptions
		err  string // part of it; "" for none
	}{
		{name: "zero", want: full},
		{name: "complete", opts: full, want: full},
		{name: "all set", opts: own, want: own},
		{name: "grace", opts: admin.SweepOptions{Grace: -1}, err: "Grace -1ns"},
		{name: "read units", opts: admin.SweepOptions{ReadUnits: -1}, err: "ReadUnits -1"},
		{name: "write units", opts: admin.SweepOptions{WriteUnits: -0.1}, err: "WriteUnits -0.1"},
		{name: "units are no number", opts: admin.SweepOptions{ReadUnits: math.NaN()}, err: "ReadUnits NaN"},
		{name: "negative segments", opts: admin.SweepOptions{Segments: -1}, err: "Segments -1"},
		{name: "segments", opts: admin.SweepOptions{Segments: 1_000_001}, err: "Segments 1000001"},
		{name: "negative workers", opts: admin.SweepOptions{Workers: -1}, err: "Workers -1"},
		{name: "workers", opts: admin.SweepOptions{Workers: 10_001}, err: "Workers 10001"},
		{name: "negative batch", opts: admin.SweepOptions{BatchSize: -1}, err: "BatchSize -1"},
		{name: "batch", opts: admin.SweepOptions{BatchSize: 10_001}, err: "BatchSize 10001"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := tt.opts.Complete()
			b := &sweeper{}
			_, swept := admin.Sweep(t.Context(), b, tt.opts)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), "SweepOptions") || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("Complete: got error %v, want one about %q", err, tt.err)
				}
				if swept == nil || b.calls != 0 {
					t.Errorf("Sweep: got error %v, %d calls of the backend", swept, b.calls)
				}
				return
			}
			if err != nil || !reflect.DeepEqual(got, tt.want) {
				t.Errorf("Complete: %v\n%+v, want\n%+v", err, got, tt.want)
			}
			if swept != nil || !reflect.DeepEqual(b.opts, tt.want) {
				t.Errorf("Sweep: %v, and the backend was given\n%+v, want\n%+v", swept, b.opts, tt.want)
			}
		})
	}
}

// sweeper is a backend that remembers how it was swept.
type sweeper struct {
	memory.Backend
	calls  int
	opts   admin.SweepOptions
	report admin.Report
	err    error
	seen   any // in the context
}

func (s *sweeper) Sweep(ctx context.Context, opts admin.SweepOptions) (admin.Report, error) {
	s.calls++
	s.opts, s.seen = opts, ctx.Value(sweepObserver{})
	return s.report, s.err
}

// sweepObserver puts itself into the context of each call.
type sweepObserver struct{ log *[]string }

func (o sweepObserver) Call(ctx context.Context, op observe.Op) (context.Context, func(error)) {
	ctx = context.WithValue(ctx, sweepObserver{}, op)
	return ctx, func(err error) { *o.log = append(*o.log, fmt.Sprint(op, " ", err)) }
}

func (o sweepObserver) Event(_ context.Context, e observe.Event) {
	*o.log = append(*o.log, e.Kind.String())
}

// Sweep hands on what the backend says, also when it fails.
func TestSweep(t *testing.T) {
	for _, err := range []error{nil, errStore} {
		var calls []string
		b := &sweeper{report: admin.Report{Scanned: 3, Deleted: 2, Checkpoint: []byte("here")}, err: err}
		report, got := admin.Sweep(t.Context(), b, admin.SweepOptions{Observer: sweepObserver{&calls}})
		if !errors.Is(got, err) || !reflect.DeepEqual(report, b.report) {
			t.Errorf("got %+v, %v; want %+v, %v", report, got, b.report, err)
		}
		if want := []string{fmt.Sprint("Sweep ", err)}; !reflect.DeepEqual(calls, want) {
			t.Errorf("the Observer saw %q, want %q", calls, want)
		}
		if b.seen != observe.OpSweep {
			t.Error("the backend was not given the context of the Observer")
		}
	}
}

func TestSweepUnsupported(t *testing.T) {
	var calls []string
	plain := struct{ session.Backend }{&memory.Backend{}}
	report, err := admin.Sweep(t.Context(), plain, admin.SweepOptions{Observer: sweepObserver{&calls}})
	if !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("error %v, want ErrUnsupported", err)
	}
	if !reflect.DeepEqual(report, admin.Report{}) || calls != nil {
		t.Errorf("got %+v, and the Observer saw %q", report, calls)
	}
}

// A sweep that is polite: small batches, a moment for the others between them,
// and errors that do not end it.
func ExampleSweep() {
	backend := &memory.Backend{}
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	report, err := admin.Sweep(ctx, backend, admin.SweepOptions{
		BatchSize: 100,
		BeforeBatch: func(ctx context.Context, n int) error {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(10 * time.Millisecond):
				return nil
			}
		},
		OnError: func(err error) error {
			log.Print(err)
			return nil
		},
	})
	if errors.Is(err, errors.ErrUnsupported) {
		fmt.Println("the backend does not need it, or cannot")
		return
	}
	fmt.Println(report.Deleted, "deleted,", report.Failed, "failed,", err)
	// Output: 0 deleted, 0 failed, <nil>
}
