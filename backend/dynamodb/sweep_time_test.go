//go:build go1.25

package dynamodb

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/seed-a7bee19b/session/admin"
)

// bills is a client that notes the time and the cost of each request, and takes
// some time to answer.
type bills struct {
	*fake
	latency time.Duration

	mu            sync.Mutex
	reads, writes []bill
}

type bill struct {
	at    time.Time
	units float64
}

func (c *bills) note(list *[]bill, units float64) {
	c.mu.Lock()
	*list = append(*list, bill{time.Now(), units})
	c.mu.Unlock()
	time.Sleep(c.latency)
}

func (c *bills) Scan(ctx context.Context, in *dynamodb.ScanInput, opts ...func(*dynamodb.Options)) (*dynamodb.ScanOutput, error) {
	out, err := c.fake.Scan(ctx, in, opts...)
	if err == nil {
		c.note(&c.reads, *out.ConsumedCapacity.CapacityUnits)
	}
	return out, err
}

func (c *bills) DeleteItem(ctx context.Context, in *dynamodb.DeleteItemInput, opts ...func(*dynamodb.Options)) (*dynamodb.DeleteItemOutput, error) {
	out, err := c.fake.DeleteItem(ctx, in, opts...)
	if err == nil {
		c.note(&c.writes, *out.ConsumedCapacity.CapacityUnits)
	}
	return out, err
}

// most returns the largest sum within any time of length d.
func most(list []bill, d time.Duration) (most float64) {
	for i, first := range list {
		sum := 0.0
		for _, b := range list[i:] {
			if b.at.Sub(first.at) >= d {
				break
			}
			sum += b.units
		}
		most = max(most, sum)
	}
	return most
}

func sum(list []bill) (sum float64) {
	for _, b := range list {
		sum += b.units
	}
	return sum
}

func TestSweepBudget(t *testing.T) {
	for _, tt := range []struct {
		name          string
		items, size   int
		reads, writes float64
		latency       time.Duration
		faults        []fault
		dry           bool
		binding       string // the budget that decides the duration
	}{
		{name: "writes", items: 1000, size: 100, writes: 100, binding: "writes"},
		{name: "writes with latency", items: 1000, size: 100, writes: 100, latency: 50 * time.Millisecond, binding: "writes"},
		{name: "large items", items: 500, size: 3000, writes: 100, binding: "writes"},
		{name: "items larger than the budget", items: 50, size: 30_000, writes: 10, binding: "writes"},
		{name: "one write a second", items: 30, size: 100, writes: 1, binding: "writes"},
		{name: "reads", items: 5000, size: 700, reads: 25, dry: true, binding: "reads"},
		{name: "reads with latency", items: 5000, size: 700, reads: 25, latency: 50 * time.Millisecond, dry: true, binding: "reads"},
		{name: "reads of large items", items: 200, size: 50_000, reads: 50, dry: true, binding: "reads"},
		{name: "slow reads", items: 400, size: 700, reads: 2, dry: true, binding: "reads"},
		{name: "both", items: 1000, size: 700, reads: 500, writes: 100, latency: 5 * time.Millisecond, binding: "writes"},
		{name: "both, reads are scarce", items: 1500, size: 700, reads: 10, writes: 1000, latency: 5 * time.Millisecond, binding: "reads"},
		{name: "throttled now and then", items: 1000, size: 100, writes: 100, faults: slices.Repeat([]fault{{}, {}, {lost: errThrottle}}, 200), binding: "writes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake()
				for i := range tt.items {
					f.put(with(own(fmt.Sprintf("%05d", i), time.Now().Add(-time.Hour)), "data", bytesOf(string(make([]byte, tt.size)))))
				}
				f.fail(tt.faults...)
				c := &bills{fake: f, latency: tt.latency}
				began := time.Now()
				r, err := newBackend(t, c, Config{}).Sweep(t.Context(), admin.SweepOptions{
					ReadUnits: tt.reads, WriteUnits: tt.writes, DryRun: tt.dry,
				})
				if err != nil || int(r.Deleted) != tt.items {
					t.Fatalf("%v, %+v", err, r)
				}
				took := time.Since(began)
				if r.Elapsed != took || r.ReadUnits != sum(c.reads) || r.WriteUnits != sum(c.writes) {
					t.Errorf("%+v, billed were %v and %v in %v", r, sum(c.reads), sum(c.writes), took)
				}
				for _, k := range []struct {
					name string
					rate float64
					list []bill
				}{{"reads", tt.reads, c.reads}, {"writes", tt.writes, c.writes}} {
					if k.rate == 0 {
						continue
					}
					largest := 0.0
					for _, b := range k.list {
						largest = max(largest, b.units)
					}
					// Never a burst, and the rate over some seconds, but for one
					// request at the edge.
					if got := most(k.list, time.Second/10); got > k.rate+largest {
						t.Errorf("%s: %v units in 100 ms", k.name, got)
					}
					if got := most(k.list, 5*time.Second); got > 5*k.rate*1.05+largest {
						t.Errorf("%s: %v units in 5 s", k.name, got)
					}
					got := sum(k.list) / took.Seconds()
					if got > k.rate*1.05 || k.name == tt.binding && got < k.rate*0.95 {
						t.Errorf("%s: %.1f units a second, want %v", k.name, got, k.rate)
					}
				}
			})
		})
	}
}

// Refused deletions count, although no answer has their cost.
func TestSweepBudgetOfRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		for i := range 1000 {
			it := own(fmt.Sprintf("%05d", i), time.Now().Add(-time.Hour))
			f.put(lockedTo(with(it, "data", bytesOf(string(make([]byte, 2500)))), time.Now().Add(time.Hour*1000)))
		}
		began := time.Now()
		r, err := newBackend(t, f, Config{}).Sweep(t.Context(), admin.SweepOptions{WriteUnits: 100})
		if err != nil || r.Kept != 1000 || r.WriteUnits != 0 {
			t.Fatalf("%v, %+v", err, r)
		}
		// 3 units each, which the estimate of 1 does not know.
		if took := time.Since(began); math.Abs(took.Seconds()-30) > 1 {
			t.Errorf("it took %v", took)
		}
	})
}

func TestListBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		for i := range 5000 {
			f.put(with(own(fmt.Sprintf("%05d", i), time.Now()), "data", bytesOf(string(make([]byte, 700)))))
		}
		began := time.Now()
		r, err := newBackend(t, f, Config{}).List(t.Context(), admin.ListOptions{ReadUnits: 20, Segments: 4}, func(admin.Entry) error { return nil })
		if got := r.ReadUnits / time.Since(began).Seconds(); err != nil || r.Scanned != 5000 || math.Abs(got-20) > 1 {
			t.Errorf("%.1f units a second, %+v, %v", got, r, err)
		}
	})
}

// Every wait ends with the context, and no goroutine stays.
func TestSweepEnds(t *testing.T) {
	throttled := func(string) fault { return fault{lost: errThrottle} }
	for _, tt := range []struct {
		name string
		opts admin.SweepOptions
		rule func(string) fault
	}{
		{name: "waiting for read units", opts: admin.SweepOptions{ReadUnits: 1e-9}},
		{name: "waiting for write units", opts: admin.SweepOptions{WriteUnits: 1e-300}},
		{name: "in the back-off", rule: throttled},
		{name: "in a request", rule: func(string) fault { return fault{hang: true} }},
		{name: "in a deletion", rule: func(op string) fault { return fault{hang: op == "DeleteItem"} }},
		{name: "in BeforeBatch", opts: admin.SweepOptions{BeforeBatch: func(ctx context.Context, _ int) error { <-ctx.Done(); return ctx.Err() }}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := expiredItems(100)
				f.rule = tt.rule
				ctx, cancel := context.WithCancel(t.Context())
				began := time.Now()
				time.AfterFunc(90*time.Millisecond, cancel)
				r, err := newBackend(t, f, Config{BackoffBase: time.Hour, MaxBackoff: time.Hour}).Sweep(ctx, tt.opts)
				if !errors.Is(err, context.Canceled) || time.Since(began) != 90*time.Millisecond {
					t.Errorf("%v after %v", err, time.Since(began))
				}
				if r.Checkpoint == nil || len(f.items) == 0 {
					t.Errorf("%d items left, %+v", len(f.items), r)
				}
			})
		})
	}
}

// A sweep waits longer than a call for a visitor.
func TestSweepPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := expiredItems(1)
		f.rule = func(op string) fault {
			if op == "DeleteItem" {
				return fault{lost: errThrottle}
			}
			return fault{}
		}
		var problem error
		r, err := newBackend(t, f, Config{}).Sweep(t.Context(), admin.SweepOptions{OnError: func(err error) error { problem = err; return nil }})
		if err != nil || !errors.Is(problem, errThrottle) || r.Failed != 1 || r.Retried != 9 {
			t.Errorf("%v, %v, %+v", err, problem, r)
		}
	})
}

// A slow hook delays its own batch. If all workers are in hooks, the scan waits
// too.
func TestSweepHooksDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := expiredItems(1000)
		began := time.Now()
		r, err := newBackend(t, f, Config{}).Sweep(t.Context(), admin.SweepOptions{
			Workers: 4, Segments: 2, BatchSize: 10,
			BeforeBatch: func(context.Context, int) error {
				f.mu.Lock()
				ahead := f.scanned - (1000 - len(f.items))
				f.mu.Unlock()
				// Pages have eleven items: two readers hold one each, the
				// workers a batch each.
				if ahead > 2*11+4*10 {
					t.Errorf("%d records ahead", ahead)
				}
				time.Sleep(time.Second)
				return nil
			},
		})
		if err != nil || r.Deleted != 1000 {
			t.Fatalf("%v, %+v", err, r)
		}
		if took := time.Since(began); took < 20*time.Second || took > 60*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

func TestSweepProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := expiredItems(100)
		var reports []admin.Report
		r, err := newBackend(t, f, Config{}).Sweep(t.Context(), admin.SweepOptions{
			WriteUnits: 10, OnProgress: func(r admin.Report) { reports = append(reports, r) },
		})
		if err != nil {
			t.Fatal(err)
		}
		var last admin.Report
		for i, p := range reports {
			if p.Elapsed-last.Elapsed > time.Second || p.Deleted < last.Deleted || p.ReadUnits < last.ReadUnits {
				t.Errorf("%+v after %+v", p, last)
			}
			if i < len(reports)-1 && p.Checkpoint == nil && p.Deleted < 100 {
				t.Errorf("no checkpoint in %+v", p)
			}
			last = p
		}
		if len(reports) < 30 || last.Deleted != 100 || last.Checkpoint != nil || last.Elapsed != r.Elapsed {
			t.Errorf("%d reports, the last %+v", len(reports), last)
		}
	})
}

// lateContext is a context whose Err says that it has ended before Done does.
type lateContext struct {
	context.Context
	ended atomic.Bool
}

func (c *lateContext) Err() error {
	if c.ended.Load() {
		return context.Canceled
	}
	return c.Context.Err()
}

// After the end of the context no record is lost: OnError is not called, and a
// Resume finds what is left.
func TestSweepEndsWithoutOnError(t *testing.T) {
	for _, tt := range []struct {
		name string
		op   string
		ctx  func(context.Context) (_ context.Context, end func())
		err  error
	}{
		{name: "cancelled", op: "DeleteItem", err: context.Canceled, ctx: func(ctx context.Context) (context.Context, func()) {
			ctx, cancel := context.WithCancel(ctx)
			return ctx, cancel
		}},
		{name: "cancelled, a moment ago", op: "DeleteItem", err: context.Canceled, ctx: func(ctx context.Context) (context.Context, func()) {
			late := &lateContext{Context: ctx}
			return late, func() { late.ended.Store(true) }
		}},
		{name: "no time for another deletion", op: "DeleteItem", err: context.DeadlineExceeded, ctx: soon},
		{name: "no time for another page", op: "Scan", err: context.DeadlineExceeded, ctx: soon},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := expiredItems(100)
				ctx, end := tt.ctx(t.Context())
				f.rule = func(op string) fault {
					if op != tt.op {
						return fault{}
					}
					return fault{lost: errThrottle, then: end}
				}
				opts := admin.SweepOptions{OnError: func(err error) error { t.Errorf("OnError is asked about %v", err); return nil }}
				b := newBackend(t, f, Config{BackoffBase: time.Hour, MaxBackoff: time.Hour})
				r, err := b.Sweep(ctx, opts)
				if !errors.Is(err, tt.err) || r.Failed != 0 || r.Checkpoint == nil {
					t.Fatalf("%v, %+v", err, r)
				}
				f.rule = nil
				opts.Resume = r.Checkpoint
				if r, err = b.Sweep(t.Context(), opts); err != nil || r.Deleted != 100 || len(f.items) != 0 {
					t.Errorf("%v, %d items left, %+v", err, len(f.items), r)
				}
			})
		})
	}
}

func soon(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	context.AfterFunc(ctx, cancel)
	return ctx, func() {}
}
