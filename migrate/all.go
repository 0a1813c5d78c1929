package migrate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/admin"
)

// Options says how [All] moves sessions. A zero field has the default that its
// comment names.
type Options struct {
	// DryRun counts the sessions that would move, and moves none. It costs the list
	// of the old store.
	DryRun bool
	// Rate is the largest number of sessions that move in a second. Default 0, no
	// limit. A session is 3 requests in the new store and 2 in the old one.
	Rate float64
	// Workers is the number of sessions that move at the same time. Default 16.
	Workers int
	// ReadUnits and Segments are those of [admin.ListOptions].
	ReadUnits float64
	Segments  int
	// OnError is called with each error that keeps a session from moving. If it
	// returns nil, All goes on, and that session is left to the next run or to its
	// visitor. By default All ends at the first error. Two goroutines never call
	// it at once.
	OnError func(err error) error
	// OnProgress is called at least once a second if there is progress, and at the
	// end. Two goroutines never call it at once.
	OnProgress func(Report)
}

// Report counts what [All] has done.
type Report struct {
	Scanned int64 `json:"scanned"` // records of the old store that it looked at
	Moved   int64 `json:"moved"`   // sessions, and other records of the Manager; with DryRun those that would move
	Ended   int64 `json:"ended"`   // gone before it came to them
	Locked  int64 `json:"locked"`  // left in the old store, as a request has locked them
	Failed  int64 `json:"failed"`  // left in the old store because of an error
	Expired int64 `json:"expired"` // left in the old store, which deletes them
	Before  int64 `json:"before"`  // notes about sessions that had moved before
	Foreign int64 `json:"foreign"` // records that the old backend did not write
	// Completed counts sessions whose move another program had begun and not
	// completed.
	Completed int64 `json:"completed"`
	// Rest is the number of sessions in the old store at the end, from a second
	// list; with DryRun it is Moved.
	Rest int64 `json:"rest"`

	Elapsed time.Duration `json:"-"`
}

// All moves all sessions from the old backend to the new one while servers are at
// work, in the steps in which a request moves one. The servers must be in phase Move
// or Drain. Both backends must be an [admin.Lister] and have the same keys. To go on
// after an interruption, call it again: what has moved costs the list only.
//
// At the end it lists both stores once more. If the report has a Rest of 0 and all
// servers are in phase Drain, the old store is empty and stays so: they can go to
// phase Gone.
//
// If All fails, the report says what it had done until then.
func All(ctx context.Context, newBackend, old session.Backend, opts Options) (Report, error) {
	switch {
	case !(opts.Rate >= 0): // NaN too
		return Report{}, fmt.Errorf("migrate: Options.Rate %v must not be negative", opts.Rate)
	case opts.Workers < 0 || opts.Workers > 10_000:
		return Report{}, fmt.Errorf("migrate: Options.Workers %d is not between 0 (default) and 10000", opts.Workers)
	}
	b, err := New(newBackend, From(old, FromConfig{}), Config{Phase: Drain})
	if err != nil {
		return Report{}, err
	}
	for _, b := range []session.Backend{newBackend, old} {
		if _, ok := b.(admin.Lister); !ok {
			return Report{}, fmt.Errorf("migrate: a %T cannot list: %w", b, errors.ErrUnsupported)
		}
	}
	now := time.Now()
	a := &all{m: moverOf(b), opts: opts, begun: now, told: now, next: now}
	a.opts.Workers = cmp.Or(opts.Workers, admin.DefaultListWorkers)
	err = a.run(ctx)
	a.tell(true)
	return a.report, err
}

// moverOf returns the mover behind a face.
func moverOf(b session.Backend) *mover {
	return b.(interface{ itself() *mover }).itself()
}

func (m *mover) itself() *mover { return m }

// all is one call of All.
type all struct {
	m    *mover
	opts Options

	mu     sync.Mutex
	report Report
	begun  time.Time
	told   time.Time
	next   time.Time // when the next session may move
}

func (a *all) run(ctx context.Context) error {
	err := a.each(ctx, &a.m.old, &a.report.Moved, func(e admin.Entry, f found) bool {
		a.report.Scanned++
		switch {
		case e.Foreign:
			a.report.Foreign++
		case f.kind == moved:
			a.report.Before++
		case f.kind == claim, f.kind == tomb:
		case !e.Expires.After(a.begun):
			a.report.Expired++
		default:
			return true
		}
		return false
	})
	if err != nil {
		return err
	}
	if a.opts.DryRun {
		a.report.Rest = a.report.Moved
		return nil
	}
	err = a.each(ctx, &a.m.fresh, &a.report.Completed, func(e admin.Entry, f found) bool {
		return !e.Foreign && (f.kind == copied || f.kind == moved) && e.Expires.After(a.begun)
	})
	if err != nil {
		return err
	}
	_, err = admin.List(ctx, a.m.old.backend, a.list(), func(e admin.Entry) error {
		f, err := read(session.Record{Data: []byte(e.Data)})
		if err == nil && !e.Foreign && (f.kind == plain || f.kind == copied) && e.Expires.After(time.Now()) {
			a.count(&a.report.Rest)
		}
		return err
	})
	return err
}

func (a *all) list() admin.ListOptions {
	return admin.ListOptions{
		DataWith: magic, ReadUnits: a.opts.ReadUnits, Segments: a.opts.Segments,
	}
}

// each moves the sessions in s that pick picks, and counts them in n. It calls pick
// for one at a time.
func (a *all) each(ctx context.Context, s *store, n *int64, pick func(admin.Entry, found) bool) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	keys := make(chan string)
	var workers sync.WaitGroup
	for range a.opts.Workers {
		workers.Add(1)
		go func() {
			defer workers.Done()
			for key := range keys {
				if err := a.one(ctx, key, n); err != nil {
					cancel(err)
				}
			}
		}()
	}
	_, err := admin.List(ctx, s.backend, a.list(), func(e admin.Entry) error {
		f, err := read(session.Record{Data: []byte(e.Data)})
		if err != nil {
			return err
		}
		a.mu.Lock()
		picked := pick(e, f)
		a.mu.Unlock()
		a.tell(false)
		switch {
		case !picked:
			return nil
		case a.opts.DryRun:
			a.count(n)
			return nil
		}
		if err := a.wait(ctx); err != nil {
			return err
		}
		select {
		case keys <- e.Key:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	})
	close(keys)
	workers.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// one moves the session at key.
func (a *all) one(ctx context.Context, key string, n *int64) error {
	s, _, err := a.m.find(ctx, key)
	switch {
	case errors.Is(err, session.ErrNotFound) && n == &a.report.Completed:
		err = a.tidy(ctx, key)
		if err != nil {
			return a.failed(ctx, err)
		}
	case errors.Is(err, session.ErrNotFound):
		a.count(&a.report.Ended)
	case err != nil:
		return a.failed(ctx, err)
	case s == &a.m.old:
		a.count(&a.report.Locked)
	default:
		a.count(n)
	}
	return nil
}

// tidy ends a note in the new store about a session that has ended, which is left
// from a time when sessions moved the other way. Nobody else would, and a program
// without this package could not read it.
func (a *all) tidy(ctx context.Context, key string) error {
	n, err := a.m.fresh.load(ctx, key)
	if err != nil || n.kind != moved {
		return err
	}
	n.Expires = time.Unix(0, 0)
	if _, err = a.m.fresh.save(ctx, key, n.Record); errors.Is(err, session.ErrConflict) {
		return nil
	}
	return err
}

// failed counts err.
func (a *all) failed(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.report.Failed++
	if a.opts.OnError != nil {
		err = a.opts.OnError(err)
	}
	return err
}

func (a *all) count(n *int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	*n++
}

// wait waits until the next session may move.
func (a *all) wait(ctx context.Context) error {
	if a.opts.Rate == 0 {
		return ctx.Err()
	}
	now := time.Now()
	if a.next.Before(now) {
		a.next = now
	}
	d := a.next.Sub(now)
	a.next = a.next.Add(time.Duration(float64(time.Second) / a.opts.Rate))
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// tell calls OnProgress if it is time.
func (a *all) tell(end bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	a.report.Elapsed = now.Sub(a.begun)
	if a.opts.OnProgress != nil && (end || now.Sub(a.told) >= time.Second) {
		a.told = now
		a.opts.OnProgress(a.report)
	}
}
