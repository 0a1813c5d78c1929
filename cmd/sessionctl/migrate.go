package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"github.com/seed-a7bee19b/session/backend/dynamodb"
	redisstore "github.com/seed-a7bee19b/session/backend/redis"
	"github.com/seed-a7bee19b/session/migrate"
)

// migrateFlags are the flags of migrate: the new store, and the options.
type migrateFlags struct {
	migrate.Options
	to        globals
	maxErrors int
	quiet     bool
}

func (a *app) migrateCommand() *cobra.Command {
	var f migrateFlags
	c := &cobra.Command{
		Use:   "migrate",
		Short: "Move all sessions to another store while servers are at work",
		Long: `migrate moves the sessions of one store to another: those that no visitor has moved.
The flags that all commands have name the old store, and those with --to the new
one. All servers must be in phase Move or Drain of package migrate before it runs:
others do not find what has moved. It moves a session as a request does, each step
on a condition, so no change is lost, and no session comes back after a logout.

At the end it reads the old store once more. If no session is left there, it
succeeds, and if all servers are in phase Drain, the old store stays empty: they can
go to phase Gone. If some are left, because they were locked or begun meanwhile, the
exit code is 3. It leaves expired records and notes about what has moved, which the
old store deletes when they expire.

--dry-run reports how many sessions are left in the old store, and moves none. The
exit code is 0 if there are none, and 3 otherwise.

A session is 3 requests in the new store, of which 2 write, and 2 in the old one, of
which 1 writes; then the list of the old store is read again. --rate limits the number
of sessions in a second, and --read-units what the list of a DynamoDB table may use.
Ctrl-C, SIGTERM or --timeout stop it with exit code 4. The same command goes on from
there: what has moved costs the list only.

It needs the permissions of "sessionctl iam operator" on both stores.`,
		Example: `  sessionctl migrate --redis redis://10.0.0.5:6379 --to-table sessions --dry-run
  sessionctl migrate --redis redis://10.0.0.5:6379 --to-table sessions --rate 200
  sessionctl migrate --table sessions --to-redis redis://10.0.0.5:6379 --quiet`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			changed := cmd.Flags().Changed
			switch {
			case a.php.on():
				return usageError("migrate is not for a table that PHP uses, which would not find its sessions any more: when no page is left in PHP, keep Config.PHP, as its rows cost no more")
			case changed("to-table") == changed("to-redis"):
				return usageError("name one new store, with --to-table or --to-redis")
			case changed("to-table") && (changed("to-prefix") || changed("to-redis-cluster")):
				return usageError("--to-prefix and --to-redis-cluster are for Redis, but the new store is DynamoDB: leave them out")
			case changed("to-redis") && (changed("to-region") || changed("to-profile") || changed("to-endpoint")):
				return usageError("--to-region, --to-profile and --to-endpoint are for DynamoDB, but the new store is Redis: leave them out")
			}
			f.to.backend = "dynamodb"
			if changed("to-redis") {
				f.to.backend = "redis"
			}
			return a.migrate(cmd.Context(), f)
		},
	}
	fs := c.Flags()
	fs.SortFlags = false
	fs.StringVar(&f.to.table, "to-table", dynamodb.DefaultTable, "`name` of the new DynamoDB table")
	fs.StringVar(&f.to.region, "to-region", "", "AWS `region` of the new table (default: that of the old one)")
	fs.StringVar(&f.to.profile, "to-profile", "", "AWS `profile` for the new table (default: that of the old one)")
	fs.StringVar(&f.to.endpoint, "to-endpoint", "", "`URL` of the endpoint of the new table (default: that of the old one)")
	fs.StringVar(&f.to.redisURL, "to-redis", "", "`URL` of the new Redis; empty for $TO_REDIS_URL, which keeps a\npassword out of the process list")
	fs.BoolVar(&f.to.redisCluster, "to-redis-cluster", false, "that URL is of a node of a Redis cluster")
	fs.StringVar(&f.to.prefix, "to-prefix", redisstore.DefaultPrefix, "`prefix` of all keys in the new Redis")
	fs.BoolVarP(&f.DryRun, "dry-run", "n", false, "report what would move, and move nothing")
	numberVar(fs, &f.Rate, "rate", 0, "move at most this number of `sessions` per second (default: no limit)")
	numberVar(fs, &f.ReadUnits, "read-units", 0, "use at most this number of read `units` per second for the list of the\nold table (default: no limit)")
	fs.IntVar(&f.Segments, "segments", 1, "divide the old table into this number of `parts` for reading")
	fs.IntVar(&f.Workers, "workers", 16, "number of `sessions` that move at the same time")
	fs.IntVar(&f.maxErrors, "max-errors", 0, "pass over up to `N` errors; each leaves a session in the old store")
	fs.BoolVarP(&f.quiet, "quiet", "q", false, "print nothing if all goes well")
	return c
}

// migrateResult is the output of migrate with --json.
type migrateResult struct {
	From     string `json:"from"`
	To       string `json:"to"`
	Complete bool   `json:"complete"` // it came to its end
	Empty    bool   `json:"empty"`    // no session is left in the old store
	DryRun   bool   `json:"dry_run"`
	migrate.Report
	Seconds float64 `json:"seconds"`
}

func (a *app) migrate(ctx context.Context, f migrateFlags) error {
	switch {
	case f.Workers < 1 || f.Workers > 10_000:
		return usageError("--workers %d is not between 1 and 10000", f.Workers)
	case f.Segments < 1 || f.Segments > 1_000_000:
		return usageError("--segments %d is not between 1 and 1000000", f.Segments)
	case f.Rate < 0:
		return usageError("--rate %v is negative", f.Rate)
	case f.ReadUnits < 0:
		return usageError("--read-units %v is negative", f.ReadUnits)
	case f.maxErrors < 0:
		return usageError("--max-errors %d is negative", f.maxErrors)
	case f.ReadUnits > 0 && a.backend == "redis":
		return usageError("--read-units is for DynamoDB, but the old store is Redis: leave it out")
	}
	old, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = old.Close() }()
	b := &app{stdin: a.stdin, stdout: a.stdout, stderr: a.stderr, globals: f.to, role: a.role}
	b.verbose, b.attributes = a.verbose, a.attributes
	if a.backend == "dynamodb" { // by default both tables are in one place
		b.region, b.profile, b.endpoint = cmp.Or(b.region, a.region), cmp.Or(b.profile, a.profile), cmp.Or(b.endpoint, a.endpoint)
	}
	b.redisURL = cmp.Or(b.redisURL, os.Getenv("TO_REDIS_URL"))
	fresh, err := b.open(ctx)
	a.dynamo, a.redis = cmp.Or(b.dynamo, a.dynamo), cmp.Or(b.redis, a.redis)
	if err != nil {
		return err
	}
	defer func() { _ = fresh.Close() }()
	if old.String() == fresh.String() {
		return usageError("the old store and the new one are the same, %s", old)
	}
	for _, s := range []store{old, fresh} {
		// Somebody who moves sessions need not be allowed to describe a table. What is
		// wrong with it shows later.
		if s, ok := s.(*dynamoStore); ok {
			a.dynamo = s
			table, err := s.describe(ctx)
			if missing(err) || ctx.Err() != nil {
				return err
			}
			if err == nil && !s.ours(table) {
				return s.wrongKey("nothing was moved")
			}
		}
	}

	var (
		passed int
		first  error
		shown  = time.Now()
		bar    *bar
	)
	if !f.quiet {
		if bar = a.newBar("Moving", 0); bar == nil {
			a.note("Moving the sessions of %s to %s.", old, fresh)
		}
	}
	f.OnProgress = func(r migrate.Report) {
		below := fmt.Sprintf("%s moved, %s left", count(r.Moved), count(r.Locked+r.Failed))
		bar.set(r.Scanned, below)
		if bar == nil && !f.quiet && time.Since(shown) >= lineEvery {
			shown = time.Now()
			a.note("%s: %s scanned, %s", span(r.Elapsed.Round(time.Second)), count(r.Scanned), below)
		}
	}
	if f.maxErrors > 0 {
		f.OnError = func(err error) error {
			if passed++; passed > f.maxErrors {
				return err
			}
			first = cmp.Or(first, err)
			return nil
		}
	}
	report, err := migrate.All(ctx, fresh, old, f.Options)
	bar.close()
	if err != nil && ctx.Err() == nil && !outOfTime(ctx, err) && report.Scanned == 0 {
		return err
	}
	empty := err == nil && report.Rest == 0
	if !empty || !f.quiet {
		result := migrateResult{
			From: old.String(), To: fresh.String(), Complete: err == nil, Empty: empty, DryRun: f.DryRun,
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
	const todo = "What has moved stays in the new store. The same command goes on from here."
	switch {
	case ctx.Err() != nil, err != nil && outOfTime(ctx, err):
		what, _ := explainEnd(ctx, err)
		return stopped(&wordsError{what: cmp.Or(what, "Stopped before the end."), todo: todo, err: err})
	case err != nil:
		what, do := a.explain(ctx, err)
		return &wordsError{what: what, todo: do + " " + todo, err: err}
	case !empty:
		return found()
	}
	return nil
}

func (r *migrateResult) human(w *output) {
	t := newTable(nil, 2)
	row := func(what string, n int64, always bool, words string) {
		if n > 0 || always {
			t.AppendRow(table.Row{what, count(n), words})
		}
	}
	done := "moved"
	if r.DryRun {
		done = "would move"
	}
	row("scanned", r.Scanned, true, "")
	row(done, r.Moved, true, "")
	row("completed", r.Completed, false, "moves that another program had begun")
	row("ended", r.Ended, false, "before it came to them")
	row("locked", r.Locked, false, "left to the next run")
	row("failed", r.Failed, false, "left to the next run")
	row("expired", r.Expired, false, "left in the old store, which deletes them")
	row("moved before", r.Before, false, "notes in the old store, which expire with the sessions")
	row("foreign", r.Foreign, false, "records that the session package did not write")
	row("rest", r.Rest, true, "sessions in the old store at the end")
	t.AppendRow(table.Row{"time", span(r.Elapsed)})
	w.printf("From %s to %s:\n%s\n", r.From, r.To, t.Render())
	switch {
	case !r.Complete:
	case r.Empty:
		w.printf("%s\n", "The old store has no session. If all servers are in phase Drain, they can go to phase Gone.")
	case !r.DryRun:
		w.printf("%s\n", "The old store has sessions. Run this again.")
	}
}
