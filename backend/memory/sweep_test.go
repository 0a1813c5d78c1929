//go:build go1.25

package memory_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-a7bee19b/session/admin"
	"github.com/seed-a7bee19b/session/backend/memory"
)

// fill makes n records that expire after life, under keys that begin with name.
func fill(t testing.TB, b *memory.Backend, name string, n int, life time.Duration) {
	t.Helper()
	for i := range n {
		save(t, b, fmt.Sprint(name, i), record("x", life))
	}
}

func TestSweep(t *testing.T) {
	const n = 3000 // more than a sweep examines at a time
	stop := errors.New("stop")
	for _, tt := range []struct {
		name string
		opts admin.SweepOptions
		want admin.Report
		left int
		err  error
	}{
		{
			name: "all",
			want: admin.Report{Scanned: 2*n + 2, Expired: n + 1, Deleted: n, Kept: 1}, left: n + 2,
		},
		{
			name: "prefix", opts: admin.SweepOptions{KeyPrefix: "old1"},
			want: admin.Report{Scanned: 1111, Expired: 1111, Deleted: 1111}, left: 2*n + 2 - 1111,
		},
		{
			name: "dry run", opts: admin.SweepOptions{DryRun: true},
			want: admin.Report{Scanned: 2*n + 2, Expired: n + 1, Deleted: n, Kept: 1}, left: 2*n + 2,
		},
		{
			name: "not long enough ago", opts: admin.SweepOptions{Grace: time.Hour + time.Second},
			want: admin.Report{Scanned: 2*n + 2}, left: 2*n + 2,
		},
		{
			name: "skip", opts: admin.SweepOptions{
				BatchSize:   1000,
				BeforeBatch: func(context.Context, int) error { return fmt.Errorf("not now: %w", admin.SkipBatch) },
			},
			want: admin.Report{Scanned: 2*n + 2, Expired: n + 1, Skipped: n, Kept: 1}, left: 2*n + 2,
		},
		{
			name: "stop", opts: admin.SweepOptions{
				KeyPrefix: "old", BatchSize: n / 2, BeforeBatch: func() func(context.Context, int) error {
					calls := 0
					return func(context.Context, int) error {
						if calls++; calls > 1 {
							return stop
						}
						return nil
					}
				}(),
			},
			want: admin.Report{Scanned: n, Expired: n, Deleted: n / 2}, left: n/2 + n + 2, err: stop,
		},
		{
			name: "budget for reading", opts: admin.SweepOptions{ReadUnits: 1}, left: 2*n + 2, err: errors.ErrUnsupported,
		},
		{
			name: "budget for writing", opts: admin.SweepOptions{WriteUnits: 1}, left: 2*n + 2, err: errors.ErrUnsupported,
		},
		{
			name: "resume", opts: admin.SweepOptions{Resume: []byte{1}}, left: 2*n + 2, err: errors.ErrUnsupported,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var b memory.Backend
				fill(t, &b, "new", n, 2*time.Hour)
				fill(t, &b, "old", n, time.Minute)
				save(t, &b, "locked", record("x", time.Minute))
				acquire(t, &b, "locked", 2*time.Hour)
				save(t, &b, "lock over", record("x", 2*time.Hour))
				acquire(t, &b, "lock over", time.Minute)
				time.Sleep(time.Hour + time.Minute)
				var told admin.Report
				tt.opts.OnProgress = func(r admin.Report) { told = r }
				report, err := b.Sweep(context.Background(), tt.opts)
				if !errors.Is(err, tt.err) || tt.err == nil && err != nil {
					t.Errorf("got error %v, want %v", err, tt.err)
				}
				if fmt.Sprint(report) != fmt.Sprint(tt.want) {
					t.Errorf("the report is\n%+v, want\n%+v", report, tt.want)
				}
				if tt.err != errors.ErrUnsupported && fmt.Sprint(told) != fmt.Sprint(report) {
					t.Errorf("at the end OnProgress was told\n%+v, want\n%+v", told, report)
				}
				if got := b.Len(); got != tt.left {
					t.Errorf("%d records are left, want %d", got, tt.left)
				}
			})
		})
	}
}

// Changes while BeforeBatch makes the sweep wait.
func TestSweepLooksAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		var b memory.Backend
		for _, key := range []string{"renewed", "deleted", "expired"} {
			save(t, &b, key, record("old", time.Minute))
		}
		time.Sleep(time.Hour)
		report, err := b.Sweep(ctx, admin.SweepOptions{BeforeBatch: func(_ context.Context, n int) error {
			save(t, &b, "renewed", record("new", time.Hour)) // no shard is locked
			return b.Delete(ctx, "deleted")
		}})
		// The writes may have reclaimed "expired" as well.
		if err != nil || report.Expired != 3 || report.Kept < 2 || report.Deleted+report.Kept != 3 {
			t.Errorf("%v, %+v", err, report)
		}
		if rec, err := b.Load(ctx, "renewed"); err != nil || string(rec.Data) != "new" {
			t.Errorf("the renewed record: %v, %q", err, rec.Data)
		}
		if n := b.Len(); n != 1 {
			t.Errorf("Len is %d, want 1", n)
		}
	})
}

// At least every second while the sweep runs.
func TestSweepProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b memory.Backend
		fill(t, &b, "old", 100, time.Minute)
		time.Sleep(time.Hour)
		var told []admin.Report
		report, err := b.Sweep(context.Background(), admin.SweepOptions{
			BatchSize:   10,
			BeforeBatch: func(context.Context, int) error { time.Sleep(time.Second); return nil },
			OnProgress:  func(r admin.Report) { told = append(told, r) },
		})
		if err != nil || report.Deleted != 100 || report.Elapsed != 10*time.Second {
			t.Errorf("%v, %+v", err, report)
		}
		if len(told) != 11 || told[3].Deleted != 30 || told[3].Elapsed != 4*time.Second {
			t.Errorf("OnProgress was called %d times: %+v", len(told), told)
		}
	})
}

// This finds races under -race, and otherwise by the fatal error of a map that
// is written while it is read.
func TestSweepAmongWrites(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	var b memory.Backend
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := 0; ctx.Err() == nil; i++ {
				save(t, &b, fmt.Sprint(g, "/", i), record("x", time.Duration(i%3)*time.Millisecond))
			}
		}()
	}
	fill(t, &b, "live", 5000, time.Hour)
	for range 20 {
		if _, err := b.Sweep(ctx, admin.SweepOptions{Grace: 1, BatchSize: 7}); err != nil {
			t.Error(err)
		}
	}
	cancel()
	wg.Wait()
	for i := range 5000 {
		if _, err := b.Load(context.Background(), fmt.Sprint("live", i)); err != nil {
			t.Fatalf("a live record: %v", err)
		}
	}
}

func BenchmarkSweepMillion(b *testing.B) {
	var backend memory.Backend
	fill(b, &backend, "", 1_000_000, time.Hour)
	for b.Loop() {
		if _, err := backend.Sweep(context.Background(), admin.SweepOptions{}); err != nil {
			b.Fatal(err)
		}
	}
}
