package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/seed-a7bee19b/session/admin"
)

func (a *app) doctorCommand() *cobra.Command {
	d := doctor{app: a}
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Find problems, and say what to do about them",
		Long: `doctor checks everything that sessions need, and says what to do about each
problem. For DynamoDB it checks credentials, region, endpoint, the clocks of this
machine and the server, the table with its key and TTL, permissions, latency, and
a sample of the records. For Redis it checks version, eviction, persistence,
scripts, clocks and latency.

If the keys of a DynamoDB table look as those of PHP's session handler do, doctor
reads up to 100 rows, and says with which settings PHP uses the table: the flag --php
and those with it, and the Config of the application. It finds sessions that
PHP cannot read and would destroy, and locks that nobody holds. It cannot tell the
connection for certain: the stock handler leaves a version as it is.

It changes nothing. It tries permissions with requests on a random key, and
writes with a condition that cannot hold. A permission that the role of --role
lacks is a failure. One that only other roles need is a warning.

On DynamoDB it sends about 10 requests and one for each of --reads. By default
that costs about 60 read units, more if the items are large, and 2 write units.
On Redis it sends about 15 commands, one for each of --reads, and SCAN over at
least 50 keys.

The exit code is 3 after a failure, and 0 after warnings. doctor needs the
permissions of "sessionctl iam operator".`,
		Example: `  sessionctl doctor
  sessionctl doctor --role application --profile shop
  sessionctl doctor --redis redis://localhost:6379`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !slices.ContainsFunc(roles(), func(r role) bool { return r.name == d.role }) {
				return usageError("--role is %q; it can be application, sweeper, set-up or operator", d.role)
			}
			if d.reads < 0 || d.reads > 100_000 {
				return usageError("--reads %d is not between 0 and 100000", d.reads)
			}
			d.app.role = d.role
			return d.run(cmd.Context())
		},
	}
	c.Flags().StringVar(&d.role, "role", "operator", "`role` of the credentials: application, sweeper, set-up or operator")
	c.Flags().IntVar(&d.reads, "reads", 50, "number of `reads` to measure the latency with; 0 for none")
	var names []string
	for _, r := range roles() {
		names = append(names, r.name)
	}
	_ = c.RegisterFlagCompletionFunc("role", cobra.FixedCompletions(names, cobra.ShellCompDirectiveNoFileComp))
	return c
}

// doctor is one examination.
type doctor struct {
	*app
	role  string
	reads int

	result doctorResult
}

// doctorResult is the output of doctor with --json.
type doctorResult struct {
	OK         bool       `json:"ok"`
	Store      string     `json:"store,omitempty"`
	Checks     []check    `json:"checks"`
	Latency    *latency   `json:"latency,omitempty"`
	PHP        *phpResult `json:"php,omitempty"` // if PHP uses the table
	Requests   int        `json:"requests"`
	ReadUnits  float64    `json:"read_units"`
	WriteUnits float64    `json:"write_units"`
}

// check is the result of one check.
type check struct {
	Name   string `json:"name"`
	Status status `json:"status"`
	Found  string `json:"found"`
	Advice string `json:"advice,omitempty"`
}

type status string

const (
	isOK   status = "ok"
	isWarn status = "warn"
	isFail status = "fail"
)

// latency is in milliseconds.
type latency struct {
	Reads int     `json:"reads"`
	P50   float64 `json:"p50_ms"`
	P95   float64 `json:"p95_ms"`
	P99   float64 `json:"p99_ms"`
	Max   float64 `json:"max_ms"`
}

func (d *doctor) run(ctx context.Context) error {
	examine := d.dynamoDB
	if d.backend == "redis" {
		examine = d.onRedis
	}
	if err := examine(ctx); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	r := &d.result
	warnings, failures := 0, 0
	for _, c := range r.Checks {
		switch c.Status {
		case isWarn:
			warnings++
		case isFail:
			failures++
		}
	}
	r.OK = failures == 0
	err := d.print(r, func(w *output) {
		w.printf("\n%s, %s, %s; it took %s, %s read and %s write units.\n",
			plural(len(r.Checks)-warnings-failures, "check passed", "checks passed"), plural(warnings, "warning", "warnings"),
			plural(failures, "failure", "failures"), plural(r.Requests, "request", "requests"), units(r.ReadUnits), units(r.WriteUnits))
	})
	if err == nil && !r.OK {
		err = found()
	}
	return err
}

// says records a finding, and shows it at once to those who wait for it.
func (d *doctor) says(s status, name, what, advice string) {
	d.result.Checks = append(d.result.Checks, check{name, s, what, advice})
	if d.json {
		return
	}
	d.stdout.printf("%-5s %-12s %s\n", s, name, what)
	if advice != "" {
		d.stdout.printf("%-18s %s\n", "", "-> "+advice)
	}
}

// fails records an error.
func (d *doctor) fails(ctx context.Context, name string, err error) {
	what, todo := d.explain(ctx, err)
	d.says(isFail, name, what, todo)
	if d.verbose {
		d.note("Cause: %v", err)
	}
}

// clock finds out how far the clock of a server is ahead of ours, from times
// that each tell something about it.
type clock struct{ atLeast, atMost time.Duration }

func newClock() *clock { return &clock{math.MinInt64, math.MaxInt64} }

// saw takes into account that, at some time between sent and received, it was
// between from and from+precision at the server.
func (c *clock) saw(sent, received, from time.Time, precision time.Duration) {
	if from.IsZero() {
		return
	}
	// Without the monotonic clock: these are clocks of different machines.
	c.atLeast = max(c.atLeast, from.Sub(received.Round(0)))
	c.atMost = min(c.atMost, from.Add(precision).Sub(sent.Round(0)))
}

// The clocks of all machines are to be kept within a second of each other; a
// lease is some seconds long.
const (
	clockWarns = time.Second
	clockFails = 5 * time.Second
)

func (d *doctor) clock(c *clock) {
	if c.atLeast == math.MinInt64 || c.atLeast > c.atMost {
		d.says(isWarn, "clock", "The server does not tell its time.", "")
		return
	}
	// What is certain: the least that it may be off.
	off := time.Duration(0)
	direction := ""
	switch {
	case c.atLeast > 0:
		off, direction = c.atLeast, "behind"
	case c.atMost < 0:
		off, direction = -c.atMost, "ahead of"
	}
	if off < clockWarns {
		within := max(c.atMost, -c.atLeast)
		d.says(isOK, "clock", fmt.Sprintf("Within %s of the clock of the server.", span(within)), "")
		return
	}
	s := isWarn
	if off >= clockFails {
		s = isFail
	}
	d.says(s, "clock", fmt.Sprintf("At least %s %s the clock of the server.", span(off), direction),
		"Set it by NTP: sessions expire, and locks end, by the clocks of the machines.")
}

// measure times reads, one after the other.
func (d *doctor) measure(ctx context.Context, local bool, read func() error) {
	if d.reads == 0 {
		return
	}
	took := make([]time.Duration, 0, d.reads)
	for range d.reads {
		begun := time.Now()
		if err := read(); err != nil {
			d.fails(ctx, "latency", err)
			return
		}
		took = append(took, time.Since(begun))
	}
	l := percentiles(took)
	d.result.Latency = l
	what := fmt.Sprintf("%d reads: p50 %.1f ms, p95 %.1f ms, p99 %.1f ms, longest %.1f ms.", l.Reads, l.P50, l.P95, l.P99, l.Max)
	if l.P50 > 20 && !local {
		d.says(isWarn, "latency", what, "Half of the reads take longer than 20 ms: is this machine in the same region as the store?")
		return
	}
	d.says(isOK, "latency", what, "")
}

// percentiles are by the nearest rank: each is a time that was measured.
func percentiles(took []time.Duration) *latency {
	slices.Sort(took)
	at := func(p float64) float64 {
		return float64(took[max(int(math.Ceil(p*float64(len(took))))-1, 0)].Microseconds()) / 1000
	}
	return &latency{Reads: len(took), P50: at(0.50), P95: at(0.95), P99: at(0.99), Max: at(1)}
}

// sample looks at some of what is stored. It reports whether PHP may have stored some.
func (d *doctor) sample(ctx context.Context, s store) (php bool) {
	const most = 50
	var looked, foreign, expired, moved, index int
	now := time.Now()
	report, err := admin.List(ctx, s, admin.ListOptions{Limit: most, DataWith: dataOfKind}, func(e admin.Entry) error {
		looked++
		if _, is := cutPHPKey(e.Key); is && (!isDigest(e.Key) || strings.HasPrefix(e.Key, phpSessionName+"_")) {
			php = true
		}
		switch {
		case e.Foreign:
			foreign++
		case !e.Expires.After(now):
			expired++
		case isMoved(&e):
			moved++
		case isIndex(&e):
			index++
		}
		return nil
	})
	d.result.ReadUnits += report.ReadUnits
	ended := fmt.Sprintf("%d have expired", expired)
	switch left := fmt.Sprintf("%d are left under the old IDs of sessions", moved); {
	case moved > 0 && index > 0:
		ended += fmt.Sprintf(", %s, and %d are of the index of owners", left, index)
	case moved > 0:
		ended += ", and " + left
	case index > 0:
		ended += fmt.Sprintf(", and %d are of the index of owners", index)
	}
	switch {
	case errors.Is(err, errors.ErrUnsupported):
	case err != nil:
		d.fails(ctx, "records", err)
	case looked == 0:
		d.says(isOK, "records", "There are no sessions.", "")
	case foreign > 0 && php:
		d.says(isOK, "records", fmt.Sprintf("Of %d records, %d may be of PHP, which is the next check, and %s.", looked, foreign, ended), "")
	case foreign > 0:
		d.says(isWarn, "records", fmt.Sprintf("Of %d records, %d were not written by the session package, and %s.", looked, foreign, ended),
			"The session package leaves them alone. Check the names of the attributes. \"sessionctl sweep --foreign\" deletes the expired ones.")
	default:
		d.says(isOK, "records", fmt.Sprintf("Of %d records, %s.", looked, ended), "")
	}
	return php
}

func plural(n int, one, many string) string {
	if n == 1 {
		many = one
	}
	return fmt.Sprintf("%s %s", count(int64(n)), many)
}

// needs reports whether the role of the examination has an action.
func (d *doctor) needs(action string) bool {
	for _, r := range roles() {
		if r.name == d.role {
			return slices.Contains(r.actions, action)
		}
	}
	return false
}

// whoNeeds names the roles that have an action.
func whoNeeds(action string) string {
	var names []string
	for _, r := range roles() {
		if slices.Contains(r.actions, action) {
			names = append(names, r.name)
		}
	}
	return strings.Join(names, ", ")
}
