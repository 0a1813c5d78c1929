package conformance

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/admin"
)

// sweeperMutants are Sweepers that are broken in one way each, and the one
// rule about sweeping that has to say so.
var sweeperMutants = []mutant{
	{"no sweeper", "Sweeper"},
	{"sweep forgets what died long ago", "Sweep"},
	{"sweep forgets the last batch", "Sweep"},
	{"sweep looks at the first expires", "SweepLive"},
	{"sweep looks at created", "SweepLive"},
	{"sweep looks again before the batch", "SweepRenewed"},
	{"grace of more than an hour is an hour", "SweepGrace"},
	{"no default of grace", "SweepGrace"},
	{"prefix ignored", "SweepKeyPrefix"},
	{"prefix folds case", "SweepKeyPrefix"},
	{"prefix is a part", "SweepKeyPrefix"},
	{"no prefix is no key", "SweepKeyPrefix"},
	{"dry run deletes", "SweepDryRun"},
	{"dry run counts nothing", "SweepDryRun"},
	{"dry run stops at a batch", "SweepDryRun"},
	{"BeforeBatch once", "SweepBeforeBatch"},
	{"BeforeBatch once more", "SweepBeforeBatch"},
	{"BeforeBatch after it has begun", "SweepBeforeBatch"},
	{"skip skips no record", "SweepSkip"},
	{"skip ends the sweep", "SweepSkip"},
	{"skip is an error", "SweepSkip"},
	{"skipped are not counted", "SweepSkip"},
	{"BeforeBatch's error skips", "SweepStop"},
	{"BeforeBatch's error skips, and is returned", "SweepStop"},
	{"BeforeBatch's error is another", "SweepStop"},
	{"BeforeBatch's error goes to OnError", "SweepStop"},
	{"BeforeBatch's error after the batch", "SweepStop"},
	{"failed sweep has no report", "SweepFailedReport"},
	{"failed sweep reports what it found", "SweepFailedReport"},
	{"kept are not counted", "SweepReport"},
	{"no Elapsed", "SweepReport"},
	{"checkpoint at the end", "SweepReport"},
	{"no OnProgress", "SweepProgress"},
	{"OnProgress before the end", "SweepProgress"},
	{"OnProgress at the same time", "SweepProgress"},
	{"resume forgets the batch", "SweepResume"},
	{"resume counts anew", "SweepResume"},
	{"resume takes another prefix", "SweepResume"},
	{"takes any options", "SweepOptions"},
	{"unsupported is another error", "SweepUnsupported"},
	{"unsupported after the deletion", "SweepUnsupported"},
	{"resume of nothing begins anew", "SweepUnsupported"},
	{"sweep ignores a done context", "DoneContextSweep"},
	{"sweep hides the context's error", "DoneContextSweep"},
	{"sweep waits after its context has ended", "ContextEndsSweep"},
	{"sweep hangs with the store", "ContextEndsSweep"},
	{"BeforeBatch has another context and hangs", "ContextEndsSweep"},
	{"sweep that is ended is complete", "ContextEndsSweep"},
	{"sweep failure is not found", "StoreFailureSweep"},
	{"sweep failure is locked", "StoreFailureSweep"},
	{"sweep without OnError goes on", "StoreFailureSweep"},
	{"OnError is not asked", "SweepOnError"},
	{"OnError's error is lost", "SweepOnError"},
	{"OnError of nil", "SweepOnError"},
	{"sweep ends with the first error", "SweepGoesOn"},
	{"sweep stops after an error", "SweepGoesOn"},
	{"sweep checks, then deletes", "RaceSweep"},
	{"sweep ignores locks", "SweepLocked"},
	{"sweep keeps what was locked", "SweepLeaseOver"},
}

func TestSweeperMutants(t *testing.T) {
	t.Parallel()
	testMutants(t, sweeperMutants, func(t *testing.T, m mutant) map[string]string {
		// The others do not sweep.
		rules := slices.Concat(sweeperRules, sweptLockRules, []backendRule{wantsSweeper})
		if m.bug == "no sweeper" {
			rules = []backendRule{wantsSweeper}
		}
		return failuresOf(t, rules, modelSweeper(m.bug), m)
	})
}

// Stores drop what has expired, or hide it, and sweep in ways of their own. No
// rule may fail because of that.
func TestSweeperKinds(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{
		"hides", "drops at once", "drops some", "one batch", "parallel", "no resume", "only its own", "hangs when it fails",
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			TestBackend(t, modelSweeper(kind))
		})
	}
}

func modelSweeper(bug string) Backend {
	backend := modelLeaser(bug)
	of := func(b session.Backend) *leaser {
		if l, ok := b.(*leaser); ok {
			return l
		}
		return b.(*sweeper).leaser
	}
	wrap := func(b session.Backend) session.Backend {
		if bug == "no sweeper" {
			return b
		}
		return &sweeper{leaser: b.(*leaser)}
	}
	made, reopen, advance, fail := backend.New, backend.Reopen, backend.Advance, backend.Fail
	backend.WantsSweeper = true
	backend.New = func(t testing.TB) session.Backend { return wrap(made(t)) }
	backend.Reopen = func(t testing.TB, b session.Backend) session.Backend { return wrap(reopen(t, of(b))) }
	backend.Advance = func(t testing.TB, b session.Backend, d time.Duration) { advance(t, of(b), d) }
	backend.Fail = func(t testing.TB, b session.Backend) func() { return fail(t, of(b)) }
	return backend
}

// sweeper is a leaser that sweeps. It is written for its bugs, not as an
// example. Its bug may also be a way of being right.
type sweeper struct {
	*leaser
	touched sync.Map // record to true
}

func (m *sweeper) Touch(ctx context.Context, key string, expires time.Time) error {
	m.mu.Lock()
	m.touched.Store(m.records[key], true)
	m.mu.Unlock()
	return m.leaser.Touch(ctx, key, expires)
}

// Load hides or drops what has expired, if it is of that kind.
func (m *sweeper) Load(ctx context.Context, key string) (session.Record, error) {
	m.drop()
	rec, err := m.leaser.Load(ctx, key)
	m.mu.Lock()
	defer m.mu.Unlock()
	if err == nil && rec.Expired(m.now()) && m.bug == "hides" {
		return session.Record{}, session.ErrNotFound
	}
	return rec, err
}

// drop is what the store does by itself.
func (m *sweeper) drop() {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	for key, r := range m.records {
		if !r.rec.Expired(m.now()) || m.down {
			continue
		}
		if n++; m.bug == "drops at once" || m.bug == "drops some" && n%16 == 0 {
			delete(m.records, key)
		}
	}
}

type checkpoint struct {
	Prefix string
	After  string // the last key that is done
	Report admin.Report
}

func (m *sweeper) Sweep(ctx context.Context, opts admin.SweepOptions) (admin.Report, error) {
	m.drop()
	if m.bug == "takes any options" {
		opts.BatchSize, opts.Workers = max(opts.BatchSize, 0), max(opts.Workers, 0)
		if opts.Grace < 0 {
			opts.Grace = 1
		}
	}
	grace := opts.Grace
	opts, err := opts.Complete()
	if err != nil {
		return admin.Report{}, err
	}
	if m.bug == "no default of grace" {
		opts.Grace = max(grace, 1)
	}
	if m.bug == "grace of more than an hour is an hour" {
		opts.Grace = min(opts.Grace, time.Hour)
	}
	w := &modelSweep{m: m, opts: opts, begun: time.Now()}
	if err := w.prepare(ctx); err != nil {
		return admin.Report{}, err
	}
	err = w.run(ctx)
	if m.bug == "sweep that is ended is complete" && w.report.Expired > 0 && ctx.Err() != nil {
		err = nil
	}
	if opts.OnProgress != nil && m.bug != "no OnProgress" && m.bug != "OnProgress before the end" {
		opts.OnProgress(w.report)
	}
	if m.bug != "no Elapsed" {
		w.report.Elapsed = time.Since(w.begun)
	}
	if err != nil && m.bug == "failed sweep has no report" {
		return admin.Report{Checkpoint: w.report.Checkpoint}, err
	}
	if err != nil && m.bug == "failed sweep reports what it found" && w.report.Deleted > 0 {
		w.report.Deleted = w.report.Expired
	}
	return w.report, err
}

// modelSweep is one call of Sweep.
type modelSweep struct {
	m      *sweeper
	opts   admin.SweepOptions
	begun  time.Time
	after  string     // the last key that was done before
	mu     sync.Mutex // report, and OnError
	report admin.Report
}

// prepare refuses what the model cannot do.
func (w *modelSweep) prepare(ctx context.Context) error {
	m, opts := w.m, &w.opts
	unsupported := opts.ReadUnits != 0 || opts.WriteUnits != 0 || opts.Foreign && m.bug == "only its own"
	var c checkpoint
	switch {
	case m.bug == "no resume" && opts.Resume != nil:
		unsupported = true
	case opts.Resume != nil:
		if err := json.Unmarshal(opts.Resume, &c); err != nil && m.bug != "resume of nothing begins anew" {
			return errors.New("model: no checkpoint")
		} else if err == nil && c.Prefix != opts.KeyPrefix && m.bug != "resume takes another prefix" {
			return errors.New("model: other options than those of the checkpoint")
		}
		w.after = c.After
		if m.bug != "resume counts anew" {
			w.report = c.Report
		}
	}
	if unsupported {
		switch m.bug {
		case "unsupported is another error":
			return errors.New("model: no such option")
		case "unsupported after the deletion":
			_ = w.run(ctx)
		}
		return fmt.Errorf("model: %w", errors.ErrUnsupported)
	}
	return nil
}

func (w *modelSweep) mine(key string) bool {
	prefix := w.opts.KeyPrefix
	switch {
	case prefix == "" && w.m.bug == "no prefix is no key":
		return false
	case w.m.bug == "prefix ignored" && strings.HasSuffix(prefix, "a/"):
		return true
	case w.m.bug == "prefix folds case":
		return strings.HasPrefix(strings.ToLower(key), strings.ToLower(prefix))
	case w.m.bug == "prefix is a part":
		return strings.Contains(key, prefix)
	}
	return strings.HasPrefix(key, prefix)
}

// over tells whether the record is to be deleted. The model is locked.
func (w *modelSweep) over(r *leased) bool {
	m, expires := w.m, r.rec.Expires
	switch m.bug {
	case "sweep looks at the first expires":
		if _, ok := m.touched.Load(r); ok {
			return true
		}
	case "sweep looks at created":
		expires = r.rec.Created.Add(7 * 24 * time.Hour)
		if r.rec.Expired(m.now()) {
			expires = r.rec.Expires
		}
	case "sweep forgets what died long ago":
		if expires.Before(m.now().Add(-7 * 24 * time.Hour)) {
			return false
		}
	}
	if expires.After(m.now().Add(-w.opts.Grace)) {
		return false
	}
	switch m.bug {
	case "sweep ignores locks":
		return true
	case "sweep keeps what was locked":
		return r.client == nil
	}
	return !m.live(r)
}

// enter locks the model, if it returns nil.
func (w *modelSweep) enter(ctx context.Context) error {
	m := w.m
	if ctx.Err() != nil && m.bug == "sweep waits after its context has ended" && w.report.Expired > 0 {
		<-m.ended
	}
	m.mu.Lock()
	down := m.down
	m.mu.Unlock()
	if down && m.bug == "hangs when it fails" {
		<-ctx.Done()
	}
	return m.enter(ctx, "sweep")
}

// errSweepEnd ends a sweep as if that were its end.
var errSweepEnd = errors.New("model: end")

func (w *modelSweep) run(ctx context.Context) error {
	m := w.m
	w.report.Checkpoint = nil
	if err := w.enter(ctx); err != nil {
		return w.lost(ctx, err, 0)
	}
	var keys []string
	for key, r := range m.records {
		if !w.mine(key) || key <= w.after {
			continue
		}
		w.report.Scanned++
		if w.over(r) {
			keys = append(keys, key)
		}
	}
	m.mu.Unlock()
	slices.Sort(keys)
	size := w.opts.BatchSize
	if m.bug == "one batch" {
		size = max(len(keys), 1)
	}
	if m.bug == "BeforeBatch's error skips, and is returned" && size == 1 {
		if before := w.opts.BeforeBatch; before != nil {
			var first error
			w.opts.BeforeBatch = func(ctx context.Context, n int) error {
				err := before(ctx, n)
				first = cmp.Or(first, err)
				if err != nil {
					return admin.SkipBatch
				}
				return nil
			}
			_, err := w.batches(ctx, slices.Collect(slices.Chunk(keys, size)))
			return errors.Join(err, first)
		}
	}
	last, err := w.batches(ctx, slices.Collect(slices.Chunk(keys, size)))
	if err == errSweepEnd {
		err = nil
	}
	if err != nil && m.bug != "no resume" && m.bug != "parallel" || m.bug == "checkpoint at the end" && w.opts.Resume == nil {
		w.report.Checkpoint, _ = json.Marshal(last)
	}
	if m.bug == "BeforeBatch once more" && w.opts.BeforeBatch != nil && err == nil && len(keys) > 0 {
		_ = w.opts.BeforeBatch(ctx, 0)
	}
	if m.bug == "OnProgress at the same time" && w.opts.OnProgress != nil {
		var wg sync.WaitGroup
		for range 2 {
			wg.Add(1)
			go func() { defer wg.Done(); w.opts.OnProgress(w.report) }()
		}
		wg.Wait()
	}
	return err
}

// batches deletes what was found, and returns how far it came.
func (w *modelSweep) batches(ctx context.Context, batches [][]string) (checkpoint, error) {
	m := w.m
	done := checkpoint{Prefix: w.opts.KeyPrefix, After: w.after, Report: w.report}
	errs := make([]error, len(batches))
	var wg sync.WaitGroup
	defer wg.Wait()
	for i, batch := range batches {
		if m.bug == "sweep forgets the last batch" && len(batch) == 1 && i > 1 {
			continue
		}
		w.count(&w.report.Expired, len(batch))
		if m.bug == "parallel" && w.opts.Workers > 1 {
			wg.Add(1)
			go func() { defer wg.Done(); errs[i] = w.batch(ctx, i, batch) }()
			continue
		}
		if err := w.batch(ctx, i, batch); err != nil {
			if m.bug == "resume forgets the batch" {
				done.After = batch[len(batch)-1]
			}
			return done, err
		}
		done.After, done.Report = batch[len(batch)-1], w.report
		if m.bug == "dry run stops at a batch" && w.opts.DryRun && len(batches) > 1 ||
			m.bug == "sweep stops after an error" && w.report.Failed > 0 {
			break
		}
	}
	wg.Wait()
	return done, errors.Join(errs...)
}

// batch deletes what was found, number i of the batches.
func (w *modelSweep) batch(ctx context.Context, i int, keys []string) error {
	m := w.m
	if m.bug == "OnProgress before the end" && w.opts.OnProgress != nil {
		w.opts.OnProgress(w.report)
	}
	if w.opts.DryRun {
		switch m.bug {
		case "dry run counts nothing":
		case "dry run deletes":
			return w.delete(ctx, keys, nil)
		default:
			w.count(&w.report.Deleted, len(keys))
		}
		return nil
	}
	var looked []bool
	if m.bug == "sweep looks again before the batch" && w.opts.BeforeBatch != nil {
		for range keys {
			looked = append(looked, true)
		}
	}
	if m.bug == "BeforeBatch after it has begun" && w.opts.BeforeBatch != nil && len(keys) == 7 && i == 0 {
		if err := w.delete(ctx, keys, looked); err != nil {
			return err
		}
		w.count(&w.report.Kept, -len(keys))
	}
	if w.opts.BeforeBatch != nil && (m.bug != "BeforeBatch once" || i == 0) {
		at := ctx
		if m.bug == "BeforeBatch has another context and hangs" {
			at = context.Background()
		}
		switch err := w.opts.BeforeBatch(at, len(keys)); {
		case errors.Is(err, admin.SkipBatch):
			switch m.bug {
			case "skip skips no record":
				w.count(&w.report.Skipped, len(keys))
				return w.delete(ctx, keys, looked)
			case "skip ends the sweep":
				w.count(&w.report.Skipped, len(keys))
				return errSweepEnd
			case "skip is an error":
				return err
			case "skipped are not counted":
				return nil
			}
			w.count(&w.report.Skipped, len(keys))
			return nil
		case err != nil:
			switch m.bug {
			case "BeforeBatch's error skips":
				w.count(&w.report.Skipped, len(keys))
				return nil
			case "BeforeBatch's error is another":
				if w.opts.BatchSize == 1 {
					return errors.New("model: BeforeBatch failed")
				}
			case "BeforeBatch's error goes to OnError":
				if w.opts.OnError != nil {
					return w.lost(ctx, err, len(keys))
				}
			case "BeforeBatch's error after the batch":
				if w.opts.BatchSize == 1 {
					_ = w.delete(ctx, keys, looked)
				}
			}
			return err
		}
	}
	return w.delete(ctx, keys, looked)
}

func (w *modelSweep) count(n *int64, by int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	*n += int64(by)
}

// lost tells OnError of an error that cost n records.
func (w *modelSweep) lost(ctx context.Context, err error, n int) error {
	m := w.m
	w.count(&w.report.Failed, n)
	if w.opts.OnError == nil {
		if m.bug == "sweep without OnError goes on" && errors.Is(err, errModelDown) {
			return nil
		}
		return err
	}
	if ctx.Err() != nil || m.bug == "OnError is not asked" {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	told := err
	if m.bug == "OnError of nil" {
		told = nil
	}
	answer := w.opts.OnError(told)
	switch {
	case m.bug == "OnError's error is lost" && answer != nil:
		return err
	case m.bug == "sweep ends with the first error" && answer == nil:
		return err
	}
	return answer
}

// delete deletes each key if it is to be deleted now. looked are those of which
// that is known.
func (w *modelSweep) delete(ctx context.Context, keys []string, looked []bool) error {
	m := w.m
	for i, key := range keys {
		if err := w.enter(ctx); err != nil {
			if err := w.lost(ctx, err, 1); err != nil {
				return err
			}
			continue
		}
		r := m.records[key]
		kept := r == nil || !w.over(r)
		if m.bug == "sweep checks, then deletes" && !kept {
			m.gap()
		}
		if !kept || looked != nil && looked[i] {
			delete(m.records, key)
		}
		m.mu.Unlock()
		switch {
		case !kept:
			w.count(&w.report.Deleted, 1)
		case m.bug == "kept are not counted":
		default:
			w.count(&w.report.Kept, 1)
		}
	}
	return nil
}
