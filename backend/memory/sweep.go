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

// sweepHold is the number of records that a sweep examines or deletes while it
// holds a shard's lock: it delays a request by tens of microseconds.
const sweepHold = 512

// Sweep implements [admin.Sweeper]. It examines every record, a few hundred at a
// time, in the caller's goroutine, while requests go on. Each write reclaims a few
// expired records anyway: a sweep is for an application with few writes, and for
// code that should behave alike with every backend.
//
// It refuses ReadUnits, WriteUnits and Resume, and ignores Workers and Segments.
// It never calls OnError, because nothing can fail, and no record is foreign. An
// expired record with a live lock counts as Kept.
func (b *Backend) Sweep(ctx context.Context, opts admin.SweepOptions) (admin.SweepReport, error) {
	opts, err := opts.Complete()
	if err != nil {
		return admin.SweepReport{}, err
	}
	switch {
	case opts.ReadUnits != 0 || opts.WriteUnits != 0:
		return admin.SweepReport{}, fmt.Errorf("memory: Sweep: ReadUnits and WriteUnits do not apply: %w", errors.ErrUnsupported)
	case len(opts.Resume) > 0:
		return admin.SweepReport{}, fmt.Errorf("memory: Sweep: there is nothing to resume: %w", errors.ErrUnsupported)
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
	report admin.SweepReport
	begun  time.Time
	told   time.Time // when OnProgress was called last
	until  int64     // Unix milliseconds: records that expired later are left alone
	batch  []found
}

// found is a record to delete. It may have changed since it was found.
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

// shard finds the expired records of s. It unlocks s in the middle of the map,
// which may then change: an entry that stays in the map is still seen, once.
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

// over reports whether e should be deleted, unless it is locked.
func (w *sweep) over(e *entry) bool { return e.expires <= w.until }

// flush deletes the records of the batch that are still expired. The caller holds
// no shard's lock.
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

// remove deletes records from the beginning of batch, and returns how many it
// handled.
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

// pause ends the sweep if ctx has ended, and reports progress.
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
