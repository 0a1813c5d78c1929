package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/admin"
	"github.com/seed-a7bee19b/session/codec"
	"github.com/seed-a7bee19b/session/observe"
)

// checkEveryone refuses flags that are wrong, and what nobody can confirm.
func (a *app) checkEveryone(f *revokeFlags) error {
	switch {
	case f.writeUnits < 0:
		return usageError("--write-units %v is negative", f.writeUnits)
	case f.writeUnits > 0 && a.backend == "redis":
		return usageError("--write-units is for DynamoDB, but the backend is Redis: leave it out")
	case !f.yes && !f.dryRun && !terminal(a.stdin):
		return usageError("there is no terminal to ask on: --everyone --yes ends every session, and logs everybody out")
	}
	return nil
}

// everyoneReport is the output of revoke --everyone.
type everyoneReport struct {
	Store    string `json:"store"`
	DryRun   bool   `json:"dry_run"`
	Complete bool   `json:"complete"` // no session that was there from the beginning is left

	Scanned     int64   `json:"scanned"`
	Revoked     int64   `json:"revoked"`     // sessions; with dry_run, those that would be
	Markers     int64   `json:"markers"`     // records under old IDs that were deleted, or would be
	Absent      int64   `json:"absent"`      // records that were gone when they were to be ended
	Expired     int64   `json:"expired"`     // left alone, as are those that follow
	Index       int64   `json:"index"`       // records of the index
	Migrated    int64   `json:"migrated"`    // records of a move to another store
	Undecodable int64   `json:"undecodable"` // sessions that do not decode
	Foreign     int64   `json:"foreign"`     // records that package session did not write
	ReadUnits   float64 `json:"read_units"`
	WriteUnits  float64 `json:"write_units"`
	Seconds     float64 `json:"seconds"`
}

// everyone ends all sessions in the store.
func (a *app) everyone(ctx context.Context, f *revokeFlags) error {
	sp := &spending{begun: time.Now(), perRead: f.readUnits, perWrite: f.writeUnits}
	a.observe = sp.add
	s, err := a.open(ctx)
	if err != nil {
		return err
	}
	err = a.revokeEveryone(ctx, s, f, sp)
	return errors.Join(err, s.Close())
}

func (a *app) revokeEveryone(ctx context.Context, s store, f *revokeFlags, sp *spending) error {
	about, err := s.About(ctx)
	if err != nil { // it is only for the question and the bar
		about = estimate{}
	}
	if !f.yes && !f.dryRun {
		question := fmt.Sprintf("End every session in %s? Everybody is logged out.", s)
		if about.Records > 0 {
			question = fmt.Sprintf("End every session in %s, about %s records? Everybody is logged out.", s, count(about.Records))
		}
		if err := a.ask(ctx, question); err != nil {
			return err
		}
		sp.begun = time.Now()
	}
	w := &purge{app: a, s: s, f: f, sp: sp, r: everyoneReport{Store: s.String(), DryRun: f.dryRun}}
	w.meter(about.Records)
	err = w.run(ctx)
	w.bar.close()
	r := &w.r
	r.Complete = err == nil && r.Undecodable == 0
	r.ReadUnits, r.WriteUnits = sp.read, sp.write
	r.Seconds = time.Since(sp.begun).Seconds()
	if perr := a.print(r, r.human); perr != nil {
		return perr
	}
	if !a.json && err == nil && !f.dryRun {
		a.note("Sessions that began meanwhile are not covered. NotBefore in the Config of the application ends everybody's session at once, at no request.")
	}
	return w.end(ctx, err)
}

// purge is one run of revoke --everyone.
type purge struct {
	*app
	s  store
	f  *revokeFlags
	sp *spending

	bar   *bar
	shown time.Time

	mu sync.Mutex // guards r
	r  everyoneReport
}

// run ends what a scan finds. It stops at the first failure of the store.
func (w *purge) run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	keys := make(chan string)
	for range readers {
		wg.Go(func() {
			for key := range keys {
				if err := w.one(ctx, key); err != nil {
					cancel(err)
				}
			}
		})
	}
	now := time.Now()
	_, err := admin.List(ctx, w.s, admin.ListOptions{ReadUnits: w.f.readUnits}, func(e admin.Entry) error {
		expired := now.Sub(e.Expires) > clockTrust // as in findByScan
		w.count(&w.r.Scanned, 1)
		w.show()
		switch {
		case e.Foreign:
			w.count(&w.r.Foreign, 1)
			return nil
		case expired:
			w.count(&w.r.Expired, 1)
			return nil
		}
		if err := w.sp.wait(ctx); err != nil {
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
	wg.Wait()
	return cmp.Or(context.Cause(ctx), err)
}

func (w *purge) count(n *int64, more int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	*n += int64(more)
}

var (
	errSealed = errors.New("the session does not decode")
	errDryRun = errors.New("it would be ended")
)

// one ends the session at key, wherever it has moved. It follows it as a scan may
// have passed the key that the session got meanwhile.
func (w *purge) one(ctx context.Context, key string) error {
	e := ending{refuse: func(rec session.Record) error {
		switch {
		case notIndex(rec.Data) != nil:
			return errIndex
		case notMigrated(rec.Data) != nil:
			return errMigrated
		case !w.f.undecodable && !w.decodes(rec.Data):
			return errSealed
		case w.f.dryRun:
			return errDryRun
		}
		return nil
	}}
	switch err := e.end(ctx, w.s, key); {
	case errors.Is(err, errWhereMoved) && w.f.undecodable: // the scan sees where
		e.absent, e.trail = true, append(e.trail, e.at)
	case errors.Is(err, errWhereMoved), errors.Is(err, errSealed):
		w.count(&w.r.Undecodable, 1)
		return nil
	case errors.Is(err, errManyMoves): // markers that lead to each other
		e.absent = true
		slices.Sort(e.trail)
		e.trail = slices.Compact(e.trail)
	case errors.Is(err, errIndex):
		w.count(&w.r.Index, 1)
		return nil
	case errors.Is(err, errMigrated):
		w.count(&w.r.Migrated, 1)
		return nil
	case e.foreign:
		w.count(&w.r.Foreign, 1)
		return nil
	case err != nil && !errors.Is(err, errDryRun):
		return err
	}
	switch {
	case w.f.dryRun && len(e.trail) > 0: // the scan sees the rest
		w.count(&w.r.Markers, 1)
		return nil
	case !e.absent:
		w.count(&w.r.Revoked, 1)
	case len(e.trail) == 0:
		w.count(&w.r.Absent, 1)
	}
	if w.f.dryRun {
		return nil
	}
	w.count(&w.r.Markers, len(e.trail))
	if e.barred {
		e.trail = append([]string{e.at}, e.trail...)
	}
	return forget(ctx, w.s, e.trail)
}

// decodes reports whether any codec can take data apart.
func (a *app) decodes(data []byte) bool {
	if is, copied := migrated(data); is {
		data = copied
	}
	if a.php.on() {
		_, err := a.php.codec().Split(data)
		return err == nil
	}
	for _, c := range []session.Codec{codec.MessagePack{}, codec.JSON{}} {
		if _, err := c.Split(data); err == nil {
			return true
		}
	}
	return false
}

// meter begins to show how far it is.
func (w *purge) meter(total int64) {
	what := "Ending sessions"
	if w.f.dryRun {
		what = "Looking at sessions"
	}
	w.shown = time.Now()
	if w.bar = w.newBar(what, total); w.bar == nil {
		w.note("%s in %s.", what, w.s)
	}
}

func (w *purge) show() {
	now := time.Now()
	if since := now.Sub(w.shown); since < 100*time.Millisecond || w.bar == nil && since < lineEvery {
		return
	}
	w.shown = now
	w.mu.Lock()
	scanned, revoked := w.r.Scanned, w.r.Revoked
	w.mu.Unlock()
	if w.bar != nil {
		w.bar.set(scanned, plural(int(revoked), "session", "sessions"))
		return
	}
	w.note("%s: %s records, %s.", span(now.Sub(w.sp.begun).Round(time.Second)), count(scanned), plural(int(revoked), "session", "sessions"))
}

// end says how it has ended.
func (w *purge) end(ctx context.Context, err error) error {
	const again = "What was ended stays so. The same command ends the rest."
	switch {
	case err == nil && w.r.Undecodable > 0:
		return &wordsError{
			what: plural(int(w.r.Undecodable), "session does not decode, and was left alone.", "sessions do not decode, and were left alone."),
			todo: "If PHP uses the table, pass --php. If the application encrypts its sessions, add --undecodable. Records of an index of owners do not decode then either, and are ended too: " +
				"without them, Revoke does not find the sessions that begin meanwhile.",
		}
	case err == nil:
		return nil
	case ctx.Err() != nil, outOfTime(ctx, err):
		what, _ := explainEnd(ctx, err)
		return stopped(&wordsError{what: cmp.Or(what, "Stopped before the end."), todo: again, err: err})
	}
	what, do := w.explain(ctx, err)
	return &wordsError{what: what, todo: strings.TrimSpace(do + " " + again), err: err}
}

func (r *everyoneReport) human(w *output) {
	t := newTable(nil, 2)
	row := func(what string, n int64, always bool, words string) {
		if n > 0 || always {
			t.AppendRow(table.Row{what, count(n), words})
		}
	}
	ended, deleted := "sessions ended", "left under the old IDs of sessions, and deleted"
	if r.DryRun {
		ended, deleted = "sessions that would be ended", "left under the old IDs of sessions, and would be deleted"
	}
	row("scanned", r.Scanned, true, "")
	row("revoked", r.Revoked, true, ended)
	row("moved", r.Markers, false, deleted)
	row("absent", r.Absent, false, "ended since the scan found them")
	row("expired", r.Expired, false, "left alone")
	row("index", r.Index, false, "records of the index of owners, left to expire")
	row("migrated", r.Migrated, false, "of a move to another store, left to expire")
	row("undecodable", r.Undecodable, false, "sessions that do not decode, left alone")
	row("foreign", r.Foreign, false, "records that package session did not write, left alone")
	if r.ReadUnits+r.WriteUnits > 0 {
		t.AppendRow(table.Row{"read units", amount(r.ReadUnits)})
		t.AppendRow(table.Row{"write units", amount(r.WriteUnits)})
	}
	w.printf("%s\n%s\n", r.Store, t.Render())
}

// spending counts the units that are used, and keeps them below a number a
// second.
type spending struct {
	begun             time.Time
	perRead, perWrite float64 // units a second, 0 for no limit

	mu          sync.Mutex // guards what follows
	read, write float64
}

func (sp *spending) add(_ context.Context, r observe.Request) {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	sp.read, sp.write = sp.read+r.ReadUnits, sp.write+r.WriteUnits
}

// wait waits until there has been time enough for what is used.
func (sp *spending) wait(ctx context.Context) error {
	for {
		var seconds float64
		sp.mu.Lock()
		if sp.perRead > 0 {
			seconds = sp.read / sp.perRead
		}
		if sp.perWrite > 0 {
			seconds = max(seconds, sp.write/sp.perWrite)
		}
		sp.mu.Unlock()
		left := seconds - time.Since(sp.begun).Seconds()
		if left <= 0 {
			return nil
		}
		if err := pause(ctx, time.Duration(min(left, 1)*float64(time.Second))+time.Millisecond); err != nil {
			return err
		}
	}
}
