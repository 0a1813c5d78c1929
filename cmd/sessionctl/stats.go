package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"github.com/seed-a7bee19b/session/admin"
	"github.com/seed-a7bee19b/session/cmd/sessionctl/cost"
)

type statsFlags struct {
	sample    int
	segments  int
	readUnits float64
	keyPrefix string
	ascii     bool
	pricing
}

func (a *app) statsCommand() *cobra.Command {
	var f statsFlags
	c := &cobra.Command{
		Use:   "stats",
		Short: "Count sessions, and show their sizes and ages",
		Long: `stats reads the whole table once, at a read unit for each 8 KB, and counts
sessions by state, size and age. For DynamoDB it also computes the cost of their
storage in a month, and of a sweep. Records under the old IDs of sessions, and
those of the index of owners and of a move to another store, are counted apart.
From Redis it transfers the data of the sessions of users, to tell them from
these.

On a very large table, stop with --sample after a number of records. Keys are
digests, and a table is in the order of their hashes, so the first records are as
good as a random sample. The counts are those of the sample. The projections are
for the whole table, by the number of items that DynamoDB reports. This number is
up to 6 hours old.`,
		Example: `  sessionctl stats
  sessionctl stats --sample 100000 --read-units 500`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := a.open(cmd.Context())
			if err != nil {
				return err
			}
			defer s.Close() //nolint:errcheck // nothing was written
			return a.stats(cmd.Context(), s, &f)
		},
	}
	fl := c.Flags()
	fl.SortFlags = false
	fl.IntVar(&f.sample, "sample", 0, "stop after this number of records, and project (default: look at all)")
	fl.StringVar(&f.keyPrefix, "key-prefix", "", "only keys that begin with `TEXT`")
	numberVar(fl, &f.readUnits, "read-units", 0, "use at most this number of read units a second (default: no limit)")
	fl.IntVar(&f.segments, "segments", 0, "number of parts of the table to read at once (default 8; 1 with --sample)")
	fl.BoolVar(&f.ascii, "ascii", false, "draw with plain characters, as without a terminal")
	f.add(c)
	return c
}

// histogram counts what is below each bound, and what is not below the last.
type histogram struct {
	Name    string   `json:"name"`
	Buckets []bucket `json:"buckets"`
	bounds  []float64
}

type bucket struct {
	Label string `json:"label"`
	Count int64  `json:"count"`
}

func sizes(name string) histogram {
	return newHistogram(name, []float64{512, 1 << 10, 2 << 10, 4 << 10, 8 << 10, 16 << 10, 64 << 10},
		"up to 512 B", "up to 1 KB", "up to 2 KB", "up to 4 KB", "up to 8 KB", "up to 16 KB", "up to 64 KB", "more than 64 KB")
}

func times(name string) histogram {
	const minute, hour, day = 60, 3600, 86400
	return newHistogram(name, []float64{minute, 10 * minute, 30 * minute, hour, 2 * hour, 6 * hour, day, 3 * day, 7 * day},
		"up to 1 min", "up to 10 min", "up to 30 min", "up to 1 h", "up to 2 h", "up to 6 h", "up to 1 day", "up to 3 days",
		"up to 7 days", "more than 7 days")
}

func newHistogram(name string, bounds []float64, labels ...string) histogram {
	h := histogram{Name: name, bounds: bounds}
	for _, l := range labels {
		h.Buckets = append(h.Buckets, bucket{Label: l})
	}
	return h
}

func (h *histogram) add(v float64) {
	i := 0
	for i < len(h.bounds) && v > h.bounds[i] {
		i++
	}
	h.Buckets[i].Count++
}

// statsReport is the output of stats.
type statsReport struct {
	Store   string `json:"store"`
	Scanned int64  `json:"scanned"`
	Sampled bool   `json:"sampled"`
	// Records is the number of records in the store: Scanned, or with a sample
	// the estimate of the store.
	Records int64 `json:"records"`

	Total        int64   `json:"total"` // of those counted below
	Live         int64   `json:"live"`  // the locked ones included
	Locked       int64   `json:"locked"`
	Moved        int64   `json:"moved"`    // what is left under old IDs
	Index        int64   `json:"index"`    // records of the index of owners
	Migrated     int64   `json:"migrated"` // records of a move to another store
	Expired      int64   `json:"expired"`
	Foreign      int64   `json:"foreign"`
	ExpiredShare float64 `json:"expired_share"`
	Bytes        int64   `json:"bytes"`
	DataBytes    int64   `json:"data_bytes"`
	Largest      int     `json:"largest_bytes"`

	Histograms []histogram `json:"histograms"`
	ReadUnits  float64     `json:"read_units"` // used by this

	Projection *projection `json:"projection,omitempty"`

	longExpired int64
	deleteUnits float64
	note        string // why there is no projection
	bar         func(share float64) string
}

// projection is the cost of the table with all its records.
type projection struct {
	Prices       priced  `json:"prices"`
	StorageGB    float64 `json:"storage_gb"`
	StorageMonth float64 `json:"storage_month"`

	SweepReadUnits  float64 `json:"sweep_read_units"`  // of one sweep
	SweepWriteUnits float64 `json:"sweep_write_units"` // to delete what has expired now
	Sweep           float64 `json:"sweep"`             // this one
	ScansMonth      float64 `json:"daily_scans_month"` // a scan a day; the deletions depend on how many expire
}

const longExpired = 3 * 24 * time.Hour

func (a *app) stats(ctx context.Context, s store, f *statsFlags) error {
	if f.sample < 0 || f.segments < 0 {
		return usageError("--sample and --segments must not be negative")
	}
	if err := a.checkReadUnits(f.readUnits); err != nil {
		return err
	}
	segments := f.segments
	if segments == 0 {
		segments = 8
		if f.sample > 0 {
			segments = 1
		}
	}
	opts, err := admin.ListOptions{
		KeyPrefix: f.keyPrefix, DataWith: dataOfKind, ReadUnits: f.readUnits, Segments: segments, Workers: segments, Limit: f.sample,
	}.Complete()
	if err != nil {
		return &exitError{code: codeUsage, err: err}
	}
	prices, err := f.table(ctx)
	if err != nil {
		return err
	}
	if f.sample == 0 {
		a.warnOfScan(ctx, s)
	}
	now := time.Now()
	r := statsReport{Store: s.String()}
	bySize, byAge := sizes("Size of a record"), times("Age of a live session")
	byLeft, byDeath := times("Time until a live session ends"), times("Time since a session expired")
	report, err := admin.List(ctx, s, opts, func(e admin.Entry) error {
		r.Total++
		r.Bytes += int64(e.Size)
		r.DataBytes += int64(e.DataSize)
		r.Largest = max(r.Largest, e.Size)
		bySize.add(float64(e.Size))
		switch stateOf(&e, now) {
		case stateForeign:
			r.Foreign++
		case stateExpired:
			r.Expired++
			r.deleteUnits += cost.WriteUnits(e.Size)
			byDeath.add(now.Sub(e.Expires).Seconds())
			if now.Sub(e.Expires) > longExpired {
				r.longExpired++
			}
		case stateMoved:
			r.Moved++
		case stateIndex:
			r.Index++
		case stateMigrated:
			r.Migrated++
		case stateLocked:
			r.Locked++
			fallthrough
		default:
			r.Live++
			if !e.Created.IsZero() { // the stock handler of PHP stores no start
				byAge.add(now.Sub(e.Created).Seconds())
			}
			// DynamoDB keeps a deadline rounded up to the second.
			byLeft.add((e.Expires.Sub(now) - time.Second).Seconds())
		}
		if r.Total == int64(f.sample) {
			return errEnough
		}
		return nil
	})
	r.Sampled = errors.Is(err, errEnough) || err == nil && f.sample > 0 && r.Total == int64(f.sample)
	if err != nil && !r.Sampled {
		return err
	}
	r.Scanned, r.Records, r.ReadUnits = max(report.Scanned, r.Total), r.Total, report.ReadUnits
	if r.Total > 0 {
		r.ExpiredShare = float64(r.Expired) / float64(r.Total)
	}
	r.Histograms = []histogram{bySize, byAge, byLeft, byDeath}
	if d, ok := s.(*dynamoStore); ok {
		a.project(ctx, d, f, prices, &r)
	} else if r.Sampled {
		r.note = "This is a sample. stats did not look at all records."
	}
	r.bar = asciiBar
	if !f.ascii && terminal(a.stdout.w) {
		r.bar = blockBar
	}
	return a.print(r, r.write)
}

// project says what the whole table costs. Where that is not known it says why.
func (a *app) project(ctx context.Context, s *dynamoStore, f *statsFlags, prices cost.Prices, r *statsReport) {
	scale := 1.0
	if r.Sampled {
		about, err := s.About(ctx)
		if err != nil || about.Records == 0 || r.Total == 0 {
			r.note = "There is no projection: DynamoDB does not say how many items the table has."
			return
		}
		if f.keyPrefix != "" {
			r.note = "There is no projection: only a look at all records can count those with the prefix."
			return
		}
		r.Records = max(about.Records, r.Total)
		scale = float64(r.Records) / float64(r.Total)
	}
	price, err := f.find(prices, s.region)
	if err != nil {
		r.note = "There is no projection: " + err.Error() + "."
		return
	}
	bytes := float64(r.Bytes) * scale
	p := &projection{
		Prices: price, StorageGB: cost.StorageGB(float64(r.Records), bytes),
		SweepReadUnits: math.Ceil(bytes / 8192), SweepWriteUnits: r.deleteUnits * scale,
	}
	p.StorageMonth = p.StorageGB * price.StorageMonth
	reads, writes := price.Units(p.SweepReadUnits, p.SweepWriteUnits)
	p.Sweep, p.ScansMonth = reads+writes, reads*cost.Month.Hours()/24
	r.Projection = p
}

func (r *statsReport) write(w *output) {
	share := func(n int64) string {
		if r.Total == 0 {
			return "0 %"
		}
		return percent(float64(n) / float64(r.Total))
	}
	w.printf("%s\n\n", r.Store)
	t := newTable(nil, 2, 3)
	if r.Sampled {
		t.AppendRow(table.Row{"Sample", count(r.Total), "of about " + count(r.Records)})
	} else {
		t.AppendRow(table.Row{"Records", count(r.Total), ""})
	}
	t.AppendRow(table.Row{"Live", count(r.Live), share(r.Live)})
	t.AppendRow(table.Row{"  locked", count(r.Locked), share(r.Locked)})
	t.AppendRow(table.Row{"Expired", count(r.Expired), share(r.Expired)})
	if r.Moved > 0 {
		t.AppendRow(table.Row{"Moved", count(r.Moved), share(r.Moved), "left under the old IDs of sessions"})
	}
	if r.Index > 0 {
		t.AppendRow(table.Row{"Index", count(r.Index), share(r.Index), "of the owners of sessions"})
	}
	if r.Migrated > 0 {
		t.AppendRow(table.Row{"Migrated", count(r.Migrated), share(r.Migrated), "of a move of the sessions to another store"})
	}
	if r.Foreign > 0 {
		t.AppendRow(table.Row{"Foreign", count(r.Foreign), share(r.Foreign)})
	}
	average := int64(0)
	if r.Total > 0 {
		average = r.Bytes / r.Total
	}
	t.AppendRow(table.Row{"Size", size(r.Bytes), ""})
	t.AppendRow(table.Row{"  average", size(average), ""})
	t.AppendRow(table.Row{"  largest", size(int64(r.Largest)), ""})
	w.printf("%s\n", t.Render())

	for _, h := range r.Histograms {
		h.write(w, r.bar)
	}
	if r.longExpired > 0 && r.Projection != nil {
		w.printf("\n%s records have been expired for more than 3 days: TTL is off, or far behind.\n\"sessionctl table check\" shows which; \"sessionctl sweep\" removes them.\n", count(r.longExpired))
	}
	if p := r.Projection; p != nil {
		w.printf("\n")
		t := newTable(nil, 2)
		c := p.Prices.Currency
		t.AppendRow(table.Row{"Storage", fmt.Sprintf("%.3g GB", p.StorageGB), price(p.StorageMonth) + " " + c + " a month"})
		t.AppendRow(table.Row{"A sweep now", amount(p.SweepReadUnits) + " RCU, " + amount(p.SweepWriteUnits) + " WCU", price(p.Sweep) + " " + c})
		t.AppendRow(table.Row{"A sweep each day", "the scans alone", price(p.ScansMonth) + " " + c + " a month"})
		t.AppendRow(table.Row{"TTL", "nothing", price(0) + " " + c})
		w.printf("%s\n\n%s\n", t.Render(), &p.Prices)
	}
	if r.note != "" {
		w.printf("\n%s\n", r.note)
	}
	if r.ReadUnits > 0 {
		w.printf("Counting them used %s read units.\n", amount(r.ReadUnits))
	}
}

// barWidth is the length of the longest bar.
const barWidth = 40

func (h *histogram) write(w *output, bar func(float64) string) {
	first, last := -1, -1
	var sum, most int64
	for i, b := range h.Buckets {
		if b.Count > 0 {
			if first < 0 {
				first = i
			}
			last = i
		}
		sum, most = sum+b.Count, max(most, b.Count)
	}
	if sum == 0 {
		return
	}
	w.printf("\n%s\n", h.Name)
	for _, b := range h.Buckets[first : last+1] {
		line := fmt.Sprintf("  %-16s %12s  %6s  %s", b.Label, count(b.Count), percent(float64(b.Count)/float64(sum)), bar(float64(b.Count)/float64(most)))
		w.printf("%s\n", strings.TrimRight(line, " "))
	}
}

// asciiBar is a bar for a share of the longest. What is there shows.
func asciiBar(share float64) string {
	n := int(math.Round(share * barWidth))
	if share > 0 {
		n = max(n, 1)
	}
	return strings.Repeat("#", n)
}

// blockBar has eight times the resolution.
func blockBar(share float64) string {
	eighths := int(math.Round(share * barWidth * 8))
	if share > 0 {
		eighths = max(eighths, 1)
	}
	bar := strings.Repeat("█", eighths/8)
	if rest := eighths % 8; rest > 0 {
		bar += string([]rune(" ▏▎▍▌▋▊▉")[rest])
	}
	return bar
}
