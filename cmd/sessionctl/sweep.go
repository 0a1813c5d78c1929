package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"github.com/seed-a7bee19b/session/admin"
	"github.com/seed-a7bee19b/session/backend/dynamodb"
)

// sweepFlags adds the flags that are not options of a sweep.
type sweepFlags struct {
	admin.SweepOptions
	resume     string
	batchDelay time.Duration
	maxErrors  int
	quiet      bool
}

func (a *app) sweepCommand() *cobra.Command {
	var f sweepFlags
	c := &cobra.Command{
		Use:   "sweep",
		Short: "Delete expired sessions now, without waiting for TTL",
		Long: `sweep deletes the sessions that have expired. DynamoDB does so by itself and at no
cost if TTL is on, but may take days. sweep keeps a session that is renewed or
locked while it runs. It keeps records that the session package did not write,
unless --foreign is set.

It reads the whole table, at half a read unit for 4 KB, and pays a write unit for
each KB that it deletes. --read-units and --write-units limit it to a part of the
capacity. Without them it runs as fast as it can, and DynamoDB may throttle the
application. --dry-run reports what it would delete, and costs the reads.

With --resume FILE the sweep saves its progress in FILE, at least every second.
Ctrl-C, SIGTERM or --timeout stop it with exit code 4, and the same command
goes on from there, with the number of --segments that it began with. At the end
it removes FILE. FILE contains keys of sessions as they are, and only its owner can
read it.
sweep refuses a FILE of another sweep, one that it did not write, one of a sweep
that is complete, and anything but a regular file, such as a link or a pipe.

Progress goes to standard error: a bar on a terminal, otherwise a line now and
then. The total is an estimate that DynamoDB makes every six hours.

On a table that PHP uses, with --php, sweep also deletes the sessions of PHP that
have expired, whether PHP has left a lock on them or not. A lock of the stock
handler on a row without a session has no end, and TTL leaves it. sweep deletes it.
A page of PHP in flight can so lose the lock on a session that it has not stored.

Redis removes expired sessions by itself, so for Redis sweep does nothing and
succeeds.

It needs the permissions of "sessionctl iam sweeper".`,
		Example: `  sessionctl sweep --dry-run
  sessionctl sweep --read-units 100 --write-units 50
  sessionctl sweep --quiet --write-units 50 --timeout 50m --resume /var/lib/sessionctl/sweep`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Flags().Changed("resume") && f.resume == "" { // a variable of a script that is not set
				return usageError("--resume needs the name of a file")
			}
			if cmd.Flags().Changed("grace") && f.Grace == 0 {
				f.Grace = 1 // the least; 0 would be the default
			}
			return a.sweep(cmd.Context(), f)
		},
	}
	fs := c.Flags()
	fs.SortFlags = false
	fs.BoolVarP(&f.DryRun, "dry-run", "n", false, "report what would be deleted, and delete nothing")
	numberVar(fs, &f.ReadUnits, "read-units", 0, "use at most this number of read `units` per second (default: no limit)")
	numberVar(fs, &f.WriteUnits, "write-units", 0, "use at most this number of write `units` per second (default: no limit)")
	fs.StringVar(&f.resume, "resume", "", "save the progress in `FILE`, and go on from there")
	fs.DurationVar(&f.Grace, "grace", admin.DefaultSweepGrace, "delete only sessions that expired this `time` ago")
	fs.StringVar(&f.KeyPrefix, "key-prefix", "", "only keys that begin with `TEXT`")
	fs.BoolVar(&f.Foreign, "foreign", false, "also delete expired records that the session package did not write,\nsuch as those of the PHP session handler")
	fs.IntVar(&f.Segments, "segments", admin.DefaultSweepSegments, "divide the table into this number of `parts` for reading")
	fs.IntVar(&f.Workers, "workers", admin.DefaultSweepWorkers, "number of `requests` in flight")
	fs.IntVar(&f.BatchSize, "batch-size", admin.DefaultSweepBatchSize, "number of `sessions` in a batch")
	fs.DurationVar(&f.batchDelay, "batch-delay", 0, "`wait` before each batch")
	fs.IntVar(&f.maxErrors, "max-errors", 0, "pass over up to `N` errors; each leaves a session, or a page of them,\nto the next sweep")
	fs.BoolVarP(&f.quiet, "quiet", "q", false, "print nothing if all goes well")
	return c
}

// sweepResult is the output of sweep with --json.
type sweepResult struct {
	Store    string `json:"store"`
	Complete bool   `json:"complete"`
	DryRun   bool   `json:"dry_run"`
	Resumed  bool   `json:"resumed"`
	admin.Report
	Seconds float64 `json:"seconds"`
}

func (a *app) sweep(ctx context.Context, f sweepFlags) error {
	opts, err := f.Complete()
	switch {
	case err != nil:
		return &exitError{code: codeUsage, err: err}
	case f.batchDelay < 0:
		return usageError("--batch-delay %v is negative", f.batchDelay)
	case f.maxErrors < 0:
		return usageError("--max-errors %d is negative", f.maxErrors)
	}
	if a.backend == "redis" {
		return a.sweepRedis(f)
	}
	s, err := a.openDynamoDB(ctx)
	if err != nil {
		return err
	}
	// A sweeper need not be allowed to describe the table. If it may not, what
	// is wrong with the table shows later, and there is no total.
	table, err := s.describe(ctx)
	if missing(err) || ctx.Err() != nil {
		return err
	}
	if err == nil && !s.ours(table) {
		return s.wrongKey("nothing was deleted")
	}
	if err == nil {
		s.id = aws.ToString(table.TableId)
	}

	point, err := loadCheckpoint(ctx, f.resume, s)
	if err != nil {
		return err
	}
	opts.Resume = point.Checkpoint
	var (
		passed  int
		first   error
		meter   = a.newSweepMeter(s, table, f, point)
		saveErr error
		save    = func(r admin.Report) { saveErr = point.save(r) } // only the last one matters
	)
	opts.OnProgress = func(r admin.Report) {
		if time.Since(point.Saved) >= time.Second {
			save(r)
		}
		meter.show(r)
	}
	if f.maxErrors > 0 {
		opts.OnError = func(err error) error {
			if passed++; passed > f.maxErrors {
				return err
			}
			if first == nil {
				first = err
			}
			return nil
		}
	}
	if f.batchDelay > 0 {
		opts.BeforeBatch = func(ctx context.Context, _ int) error { return pause(ctx, f.batchDelay) }
	}
	report, err := admin.Sweep(ctx, s, opts)
	meter.close()
	if errors.Is(err, dynamodb.ErrResume) {
		return &wordsError{
			what: sentence(fmt.Sprintf("--resume: %s: %s", f.resume, plain(err))),
			todo: "Name another file, or remove it to begin anew.", err: err,
		}
	}
	if err != nil && ctx.Err() == nil && !outOfTime(ctx, err) && report.Scanned == 0 {
		return err // nothing was done, so nothing is to be reported
	}
	complete := err == nil && report.Checkpoint == nil
	if complete {
		saveErr = point.remove()
	} else if report.Checkpoint != nil {
		save(report)
	}

	if !complete || !f.quiet {
		result := sweepResult{
			Store: s.String(), Complete: complete, DryRun: f.DryRun, Resumed: opts.Resume != nil,
			Report: report, Seconds: report.Elapsed.Seconds(),
		}
		if err := a.print(result, result.human); err != nil {
			return err
		}
	}
	if first != nil {
		what, todo := a.explain(ctx, first)
		a.note("%s passed over, the first: %s %s", plural(min(passed, f.maxErrors), "error was", "errors were"), what, todo)
	}
	return a.sweepEnd(ctx, f, err, saveErr, report.Checkpoint != nil)
}

// sweepEnd says how a sweep has ended.
func (a *app) sweepEnd(ctx context.Context, f sweepFlags, err, saveErr error, resumable bool) error {
	todo := "Deleted sessions stay deleted. The next sweep begins anew. With --resume FILE it would go on from here."
	switch {
	case saveErr != nil:
		a.note("The file of --resume could not be written: %v.", saveErr)
		todo = "Deleted sessions stay deleted."
	case f.resume != "" && resumable:
		todo = "The same command goes on from here."
	}
	switch {
	case err == nil && !resumable:
		return saveErr
	case err == nil:
		return stopped(&wordsError{what: "The sweep is not complete, because of the errors.", todo: todo})
	case ctx.Err() != nil, outOfTime(ctx, err):
		what, _ := explainEnd(ctx, err)
		return stopped(&wordsError{what: cmp.Or(what, "Stopped before the end."), todo: todo, err: err})
	}
	what, do := a.explain(ctx, err)
	return &wordsError{what: what, todo: strings.TrimSpace(do + " " + todo), err: err}
}

func (a *app) sweepRedis(f sweepFlags) error {
	s, err := a.openRedis()
	if err != nil || f.quiet {
		return err
	}
	result := sweepResult{Store: s.String(), Complete: true, DryRun: f.DryRun}
	return a.print(result, func(w *output) {
		w.printf("%s\n", "Redis removes a session by itself, a minute after its deadline. There is nothing to sweep.")
	})
}

func (r *sweepResult) human(w *output) {
	t := newTable(nil, 2)
	row := func(what string, n int64, always bool, words string) {
		if n > 0 || always {
			t.AppendRow(table.Row{what, count(n), words})
		}
	}
	deleted := "deleted"
	if r.DryRun {
		deleted = "would be deleted"
	}
	row("scanned", r.Scanned, true, "")
	row("expired", r.Expired, true, "")
	row(deleted, r.Deleted, true, "")
	row("kept", r.Kept, false, "locked, or renewed or deleted since the sweep found them")
	row("skipped", r.Skipped, false, "")
	row("failed", r.Failed, false, "left to the next sweep")
	row("foreign", r.Foreign, false, "expired records that the session package did not write; --foreign deletes them")
	row("retried", r.Retried, false, "requests sent again")
	t.AppendRow(table.Row{"read units", units(r.ReadUnits)})
	t.AppendRow(table.Row{"write units", units(r.WriteUnits)})
	t.AppendRow(table.Row{"time", span(r.Elapsed)})
	w.printf("Sweep of %s:\n%s\n", r.Store, t.Render())
}

// units writes capacity units, which come in halves.
func units(f float64) string {
	if !(math.Abs(f) < 1e15) {
		return strconv.FormatFloat(f, 'g', 3, 64)
	}
	whole, part := math.Modf(f)
	if part == 0 {
		return count(int64(whole))
	}
	return count(int64(whole)) + fmt.Sprintf("%.1f", math.Abs(part))[1:]
}

// pause ends early with ctx.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
