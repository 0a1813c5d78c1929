package migrate

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/admin"
)

// lists has the method of an [admin.Lister].
type lists struct{ m *mover }

// List implements [admin.Lister] for both stores. It leaves out what this package
// has stored there for itself. A session that moves meanwhile may be visited twice.
//
// It reads the old store if that is a Lister and has the same keys, and then the new
// one; in phase Hold the new one first, too. With opts.DataWith it reads each store
// twice.
func (l lists) List(ctx context.Context, opts admin.ListOptions, visit func(admin.Entry) error) (admin.Report, error) {
	opts, err := opts.Complete()
	if err != nil {
		return admin.Report{}, err
	}
	m := l.m
	v := &visits{limit: int64(opts.Limit), visit: visit}
	opts.Limit = 0
	order := []*store{&m.fresh}
	if m.old.lister != nil && m.phase != Gone {
		order = []*store{&m.old, &m.fresh}
		if m.phase == Hold {
			order = []*store{&m.fresh, &m.old, &m.fresh}
		}
	}
	var total admin.Report
	for _, s := range order {
		report, err := m.list(ctx, s, opts, v)
		total.Retried += report.Retried
		total.ReadUnits += report.ReadUnits
		total.Elapsed += report.Elapsed
		total.Scanned, total.Foreign = v.scanned, v.foreign
		if errors.Is(err, errLimit) {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
	return total, nil
}

// visits are the visits of a list.
type visits struct {
	limit            int64
	visit            func(admin.Entry) error
	scanned, foreign int64
}

// errLimit ends a list without an error.
var errLimit = errors.New("migrate: limit")

func (v *visits) one(e admin.Entry) error {
	v.scanned++
	if e.Foreign {
		v.foreign++
	}
	if err := v.visit(e); err != nil {
		return err
	}
	if v.scanned == v.limit {
		return errLimit
	}
	return nil
}

// list visits the sessions in s.
func (m *mover) list(ctx context.Context, s *store, opts admin.ListOptions, v *visits) (admin.Report, error) {
	if opts.DataWith == "" {
		opts.DataWith = magic
		return s.lister.List(ctx, opts, func(e admin.Entry) error {
			if strings.HasPrefix(e.Data, magic) {
				ok, err := m.unfinished(ctx, s, &e)
				if err != nil || !ok {
					return err
				}
			}
			e.Data = ""
			return v.one(e)
		})
	}
	own := make(map[string]bool)
	ask := opts
	ask.DataWith = magic
	first, err := s.lister.List(ctx, ask, func(e admin.Entry) error {
		if strings.HasPrefix(e.Data, magic) {
			own[e.Key] = true
		}
		return nil
	})
	if err != nil {
		return first, err
	}
	report, err := s.lister.List(ctx, opts, func(e admin.Entry) error {
		if strings.HasPrefix(e.Data, magic) || e.Data == "" && own[e.Key] {
			return nil
		}
		return v.one(e)
	})
	report.Retried += first.Retried
	report.ReadUnits += first.ReadUnits
	report.Elapsed += first.Elapsed
	return report, err
}

// unfinished reports whether e is a copy which is the session, and makes e look so.
func (m *mover) unfinished(ctx context.Context, s *store, e *admin.Entry) (bool, error) {
	f, err := read(session.Record{Data: []byte(e.Data)})
	if err != nil || f.kind != copied || s != &m.fresh || m.old.backend == nil {
		return false, err
	}
	n, err := m.fresh.load(ctx, e.Key)
	if err != nil || n.kind != copied {
		return n.kind == plain, err
	}
	o, err := m.loadOld(ctx, e.Key)
	if err != nil {
		return false, err
	}
	e.Size -= e.DataSize - len(n.Data)
	e.DataSize = len(n.Data)
	return m.completes(n, o), nil
}

// sweeps has the method of an [admin.Sweeper].
type sweeps struct{ m *mover }

// Sweep implements [admin.Sweeper]. It sweeps the new store, and then the old one if
// that is a Sweeper with the same keys. A sweep of two stores cannot be resumed.
func (s sweeps) Sweep(ctx context.Context, opts admin.SweepOptions) (admin.Report, error) {
	fresh := s.m.fresh.backend.(admin.Sweeper)
	old, ok := s.m.old.backend.(admin.Sweeper)
	if !ok || s.m.mapped || s.m.phase == Gone {
		return fresh.Sweep(ctx, opts)
	}
	if len(opts.Resume) > 0 {
		return admin.Report{}, fmt.Errorf("migrate: a sweep of two stores cannot be resumed: %w", errors.ErrUnsupported)
	}
	first, err := fresh.Sweep(ctx, opts)
	first.Checkpoint = nil
	if err != nil {
		return first, err
	}
	progress := opts.OnProgress
	if progress != nil {
		opts.OnProgress = func(r admin.Report) { progress(sum(first, r)) }
	}
	second, err := old.Sweep(ctx, opts)
	return sum(first, second), err
}

func sum(a, b admin.Report) admin.Report {
	return admin.Report{
		Scanned: a.Scanned + b.Scanned, Expired: a.Expired + b.Expired, Deleted: a.Deleted + b.Deleted,
		Kept: a.Kept + b.Kept, Skipped: a.Skipped + b.Skipped, Failed: a.Failed + b.Failed,
		Foreign: a.Foreign + b.Foreign, Retried: a.Retried + b.Retried,
		ReadUnits: a.ReadUnits + b.ReadUnits, WriteUnits: a.WriteUnits + b.WriteUnits,
		Elapsed: a.Elapsed + b.Elapsed,
	}
}

// The faces of a mover: it has an optional interface only if the new backend does.
type (
	locking struct {
		*mover
		locks
	}
	listing struct {
		*mover
		lists
	}
	sweeping struct {
		*mover
		sweeps
	}
	lockingListing struct {
		*mover
		locks
		lists
	}
	lockingSweeping struct {
		*mover
		locks
		sweeps
	}
	listingSweeping struct {
		*mover
		lists
		sweeps
	}
	lockingListingSweeping struct {
		*mover
		locks
		lists
		sweeps
	}
)

func (m *mover) face() session.Backend {
	_, sweeper := m.fresh.backend.(admin.Sweeper)
	lister, can := m.fresh.lister != nil, m.fresh.locking != nil
	if m.phase == Hold { // where the old store has most of the records
		_, old := m.old.backend.(admin.Sweeper)
		sweeper = sweeper && old && !m.mapped
		lister = lister && m.old.lister != nil
		can = can && m.old.locking != nil
	}
	k, l, s := locks{m}, lists{m}, sweeps{m}
	switch {
	case can && lister && sweeper:
		return &lockingListingSweeping{m, k, l, s}
	case can && lister:
		return &lockingListing{m, k, l}
	case can && sweeper:
		return &lockingSweeping{m, k, s}
	case can:
		return &locking{m, k}
	case lister && sweeper:
		return &listingSweeping{m, l, s}
	case lister:
		return &listing{m, l}
	case sweeper:
		return &sweeping{m, s}
	}
	return m
}

var (
	_ session.TextBackend    = (*mover)(nil)
	_ session.SharedBackend  = (*mover)(nil)
	_ session.LockingBackend = (*lockingListingSweeping)(nil)
	_ admin.Lister           = (*lockingListingSweeping)(nil)
	_ admin.Sweeper          = (*lockingListingSweeping)(nil)
)
