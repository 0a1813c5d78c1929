package memory

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/seed-a7bee19b/session/admin"
)

var _ admin.Sweeper = (*Backend)(nil)

// sweepHold is the number of records that a sweep looks at or deletes while it
// holds the lock of a shard. That takes tens of microseconds, the delay of a
// request by a sweep.
const sweepHold = 512

// Sweep implements [admin.Sweeper]. It looks at every record, a few hundred at a
// time, in the caller's goroutine, while requests go on. Each write reclaims a
// few expired records anyway. A sweep helps when writes are few, and serves code
// that has to work with every backend.
//
// opts.ReadUnits, WriteUnits and Resume are refused. Workers and Segments mean
// nothing. Nothing can fail, so OnError is not called, and no record is foreign.
// An expired record with a live lock counts as Kept.
func (b *Backend) Sweep(ctx context.Context, opts admin.SweepOptions) (admin.Report, error) {
	opts, err := opts.Complete()
	if err != nil {
		return admin.Report{}, err
	}
	switch {
	case opts.ReadUnits != 0 || opts.WriteUnits != 0:
		return admin.Report{}, fmt.Errorf("memory: Sweep: memory has no ReadUnits and WriteUnits: %w", errors.ErrUnsupported)
	case len(opts.Resume) > 0:
		return admin.Report{}, fmt.Errorf("memory: Sweep: a sweep in memory cannot be resumed: %w", errors.ErrUnsupported)
	}
	now := time.Now()
	w := &sweep{b: b, opts: opts, begun: now, told: now, until: now.Add(-opts.Grace).UnixMilli()}
	err = w.run(ctx)
	w.report.Elapsed = time.Since(w.begun)
	if opts.OnProgress != nil {
		opts.OnProgress(w.report)
	}
	return w.report, err
}

// sweep is one call of Sweep.
type sweep struct {
	b      *Backend
	opts   admin.SweepOptions
	report admin.Report
	begun  time.Time
	told   time.Time // time of the last OnProgress
	until  int64     // Unix milliseconds: records that expired later are left alone
	batch  []found
}

// found is a record that was to be deleted when the sweep found it.
type found struct {
	shard *shard
	key   string
}

func (w *sweep) run(ctx context.Context) error {
	for i := range w.b.shards {
		if err := w.shard(ctx, &w.b.shards[i]); err != nil {
			return err
		}
	}
	return w.flush(ctx)
}

// shard finds the expired records of s. It gives up the lock in the middle of the
// map. The map may change then, but a record that stays in it comes up once.
func (w *sweep) shard(ctx context.Context, s *shard) error {
	if err := w.pause(ctx); err != nil {
		return err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	unlocked := func(f func(context.Context) error) error {
		s.mu.RUnlock()
		defer s.mu.RLock()
		return f(ctx)
	}
	seen := 0
	for key, e := range s.records {
		if seen++; seen%sweepHold == 0 {
			if err := unlocked(w.pause); err != nil {
				return err
			}
		}
		if !strings.HasPrefix(key, w.opts.KeyPrefix) {
			continue
		}
		w.report.Scanned++
		if !w.over(e) {
			continue
		}
		w.report.Expired++
		switch {
		case s.leases[key].live(time.Now().UnixMilli()):
			w.report.Kept++
			continue
		case w.opts.DryRun:
			w.report.Deleted++
			continue
		}
		w.batch = append(w.batch, found{s, key})
		if len(w.batch) == w.opts.BatchSize {
			if err := unlocked(w.flush); err != nil {
				return err
			}
		}
	}
	return nil
}

// over reports whether e is to be deleted, unless it is locked.
func (w *sweep) over(e *entry) bool { return e.expires <= w.until }

// flush deletes the records of the batch that are still to be deleted. The caller
// holds no shard.
func (w *sweep) flush(ctx context.Context) error {
	batch := w.batch
	w.batch = w.batch[:0]
	if len(batch) == 0 {
		return nil
	}
	if before := w.opts.BeforeBatch; before != nil {
		switch err := before(ctx, len(batch)); {
		case errors.Is(err, admin.SkipBatch):
			w.report.Skipped += int64(len(batch))
			return nil
		case err != nil:
			return err
		}
	}
	for len(batch) > 0 {
		if err := w.pause(ctx); err != nil {
			return err
		}
		batch = batch[w.remove(batch):]
	}
	return nil
}

// remove deletes from the beginning of batch, and returns the number of records
// done.
func (w *sweep) remove(batch []found) int {
	s := batch[0].shard
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now().UnixMilli()
	for i, f := range batch {
		if f.shard != s || i == sweepHold {
			return i
		}
		if e := s.records[f.key]; e != nil && w.over(e) && !s.leases[f.key].live(now) {
			w.b.remove(s, e)
			w.report.Deleted++
		} else {
			w.report.Kept++
		}
	}
	return len(batch)
}

// pause ends the sweep if ctx has ended, and calls OnProgress if it is time.
func (w *sweep) pause(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if tell := w.opts.OnProgress; tell != nil {
		if now := time.Now(); now.Sub(w.told) >= time.Second {
			w.told, w.report.Elapsed = now, now.Sub(w.begun)
			tell(w.report)
		}
	}
	return nil
}
