package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/cmd/sessionctl/cost"
)

// costFlags are those of the command cost.
type costFlags struct {
	requests, mix, sizes string
	mode, safeMode       string
	idle, absolute       time.Duration
	touchInterval, gap   time.Duration
	touchShare           float64
	conflicts            float64
	waits, looks         float64
	writes               int
	rows                 string
	owners               int
	eventually           bool
	provisioned          bool
	peak                 float64
	sweepEvery           time.Duration
	pricing
}

// pricing says which prices to take. Several commands have it.
type pricing struct {
	file, class string
}

func (p *pricing) add(c *cobra.Command) {
	c.Flags().StringVar(&p.file, "prices", "", "`file` with other prices, in the JSON that \"sessionctl cost --show-prices\" prints")
	c.Flags().StringVar(&p.class, "table-class", "standard", "table class, as the prices name it")
}

// priced is a price, and where it is from.
type priced struct {
	Date     string `json:"date"`
	Currency string `json:"currency"`
	Region   string `json:"region"`
	Class    string `json:"table_class"`
	cost.Price
}

func (p *priced) String() string {
	return fmt.Sprintf("Prices of %s for %s, table class %s, in %s, without free tier, reservations and taxes.", p.Date, p.Region, p.Class, p.Currency)
}

// table are the prices to take. A command asks for them before it does anything
// that costs something.
func (p *pricing) table(ctx context.Context) (cost.Prices, error) {
	if p.file == "" {
		return cost.DefaultPrices()
	}
	data, err := readFile(ctx, p.file, cost.MaxPricesSize)
	if ctx.Err() != nil {
		return cost.Prices{}, context.Cause(ctx)
	}
	var prices cost.Prices
	if err == nil {
		if prices, err = cost.ParsePrices(data); err != nil {
			err = fmt.Errorf("%s: %w", p.file, err)
		}
	}
	if err != nil {
		return cost.Prices{}, &wordsError{what: sentence("--prices: " + err.Error()), todo: "\"sessionctl cost --show-prices\" prints an example.", err: err}
	}
	return prices, nil
}

// find returns the price for region, that of us-east-1 if it is "".
func (p *pricing) find(prices cost.Prices, region string) (priced, error) {
	if region == "" {
		region = "us-east-1"
	}
	price, err := prices.For(region, p.class)
	if err != nil {
		return priced{}, fmt.Errorf("%w: give another --region, or a file with its prices by --prices", err)
	}
	return priced{prices.Date, prices.Currency, region, p.class, price}, nil
}

// timeoutValue is the flag of a timeout that can be turned off.
type timeoutValue time.Duration

// Set reads a duration, or "never".
func (v *timeoutValue) Set(s string) error {
	if s == "never" {
		*v = timeoutValue(session.Never)
		return nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d <= 0 {
		return errors.New("use a time such as 30m or 2h, or never")
	}
	*v = timeoutValue(d)
	return nil
}

// String is only asked for the default, which the usage has.
func (v *timeoutValue) String() string { return "" }

// Type names the type in the usage.
func (v *timeoutValue) Type() string { return "time" }

func (a *app) costCommand() *cobra.Command {
	var f costFlags
	var showPrices bool
	c := &cobra.Command{
		Use:   "cost",
		Short: "Compute the cost of sessions in DynamoDB for a month",
		Long: `cost computes the requests, capacity units, storage and money of a month, and the
effect of other settings. It needs no table, no credentials and no network.

--mix gives the weights of the requests that use their session. Other requests
cost nothing.
  read          reads the session
  write         reads and changes it
  locked-read   reads it on a route in mode Exclusive
  locked-write  reads and changes it on such a route
  new           begins a session
  login         gives an existing session a new ID, by a login or a rotation
  logout        destroys it
  gone          has the token of a session that has ended`,
		Example: `  sessionctl cost --requests 50M --size 1500
  sessionctl cost --mix read=70,write=28,new=2 --size 500=80,6000=20
  sessionctl cost --mode exclusive --safe-mode merge --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			prices, err := f.table(cmd.Context())
			if err != nil {
				return err
			}
			if showPrices {
				return a.showPrices(prices)
			}
			return a.runCost(&f, prices)
		},
	}
	fl := c.Flags()
	fl.SortFlags = false
	fl.StringVar(&f.requests, "requests", "10M", "`number` of requests a month that use their session, as in 500k or 10M")
	fl.StringVar(&f.mix, "mix", cost.DefaultMix.String(), "`weights` of the kinds of requests")
	fl.StringVar(&f.sizes, "size", strconv.Itoa(cost.DefaultSize), "`bytes` of an encoded session, or several with weights: 300=60,5000=40")
	fl.StringVar(&f.mode, "mode", "merge", "Config.Mode: merge, last-write or exclusive")
	fl.StringVar(&f.safeMode, "safe-mode", "", "Config.SafeMode, for requests that only read: as --mode, or read-only")
	fl.Var((*timeoutValue)(&f.idle), "idle-timeout", "Config.IdleTimeout, or never (default 2h)")
	fl.Var((*timeoutValue)(&f.absolute), "absolute-timeout", "Config.AbsoluteTimeout, or never (default 24h)")
	fl.DurationVar(&f.touchInterval, "touch-interval", 0, "Config.TouchInterval (default a tenth of the idle timeout)")
	fl.DurationVar(&f.gap, "gap", cost.DefaultGap, "average `time` between two requests of a session in use")
	numberVar(fl, &f.touchShare, "touch-share", -1, "`share` of the reads that touch (default: from --gap and --touch-interval)")
	fl.Lookup("touch-share").DefValue = "0" // which is not shown
	fl.IntVar(&f.owners, "owners", 0, "number of owners that a login lists its session under, if Config.Owners.Index is set")
	fl.BoolVar(&f.eventually, "eventually-consistent", false, "dynamodb.Config.EventuallyConsistentReads")
	numberVar(fl, &f.conflicts, "conflicts", 0, "`share` of the writes without a lock that meet another one")
	numberVar(fl, &f.waits, "lock-waits", 0, "`share` of the locked requests that find the lock taken")
	numberVar(fl, &f.looks, "lock-looks", 3, "average number of looks of such a request until the lock is free")
	fl.IntVar(&f.writes, "writes", 0, "writes of each session under one ID (default: at random, from --mix)")
	fl.StringVar(&f.rows, "rows", "", "`number` of rows in the table (default: from --mix and the timeouts)")
	fl.DurationVar(&f.sweepEvery, "sweep-every", 0, "`time` between two sweeps, of a table without TTL")
	fl.BoolVar(&f.provisioned, "provisioned", false, "capacity is provisioned (default: on demand)")
	numberVar(fl, &f.peak, "peak", cost.DefaultPeak, "provisioned capacity as a multiple of the average")
	f.add(c)
	fl.BoolVar(&showPrices, "show-prices", false, "print the table of prices and exit")
	_ = c.RegisterFlagCompletionFunc("mode", cobra.FixedCompletions([]string{"merge", "last-write", "exclusive"}, cobra.ShellCompDirectiveNoFileComp))
	_ = c.RegisterFlagCompletionFunc("safe-mode", cobra.FixedCompletions([]string{"merge", "last-write", "exclusive", "read-only"}, cobra.ShellCompDirectiveNoFileComp))
	return c
}

func (a *app) showPrices(prices cost.Prices) error {
	json := a.json
	a.json = true // the form that --prices takes
	defer func() { a.json = json }()
	return a.print(prices, nil)
}

func parseMode(flag, s string) (session.Mode, error) {
	switch s {
	case "":
		return 0, nil
	case "merge":
		return session.Merge, nil
	case "last-write":
		return session.LastWrite, nil
	case "exclusive":
		return session.Exclusive, nil
	case "read-only":
		return session.ReadOnly, nil
	}
	return 0, usageError("--%s is %q; it can be merge, last-write, exclusive or read-only", flag, s)
}

// parseNumber reads a number with k, M or G behind it.
func parseNumber(flag, s string) (float64, error) {
	digits, factor := s, 1.0
	if s != "" {
		switch s[len(s)-1] {
		case 'k', 'K':
			factor = 1e3
		case 'm', 'M':
			factor = 1e6
		case 'g', 'G':
			factor = 1e9
		}
		if factor > 1 {
			digits = s[:len(s)-1]
		}
	}
	n, err := strconv.ParseFloat(strings.ReplaceAll(digits, ",", ""), 64)
	if err != nil || !(n >= 0) || !(n*factor <= mostNumber) {
		return 0, usageError("--%s is %q; use a number such as 250000, 500k or 10M", flag, s)
	}
	return n * factor, nil
}

// workload reads the flags.
func (f *costFlags) workload(g *globals) (w cost.Workload, s cost.Settings, err error) {
	usage := func(err error) error { return &exitError{code: codeUsage, err: err} }
	w = cost.Workload{Gap: f.gap, Writes: f.writes, Conflicts: f.conflicts, Waits: f.waits, Looks: f.looks}
	if w.Requests, err = parseNumber("requests", f.requests); err != nil {
		return w, s, err
	}
	if f.rows != "" {
		if w.Rows, err = parseNumber("rows", f.rows); err != nil {
			return w, s, err
		}
	}
	if w.Mix, err = cost.ParseMix(f.mix); err != nil {
		return w, s, usage(err)
	}
	if w.Sizes, err = cost.ParseSizes(f.sizes); err != nil {
		return w, s, usage(err)
	}
	if f.touchShare != -1 {
		w.Touches = &f.touchShare
	}
	s = cost.Settings{
		IdleTimeout: f.idle, AbsoluteTimeout: f.absolute, TouchInterval: f.touchInterval,
		Owners: f.owners, EventuallyConsistentReads: f.eventually, Provisioned: f.provisioned, Peak: f.peak, SweepEvery: f.sweepEvery,
		Item: itemNames(g),
	}
	if s.Mode, err = parseMode("mode", f.mode); err != nil {
		return w, s, err
	}
	s.SafeMode, err = parseMode("safe-mode", f.safeMode)
	return w, s, err
}

// itemNames is the room that the names of the attributes take.
func itemNames(g *globals) cost.Item {
	at := &g.attributes
	return cost.Item{
		Names: len(at.KeyAttribute) + len(at.DataAttribute) + len(at.ExpiresAttribute) +
			len(at.CreatedAttribute) + len(at.VersionAttribute),
		LockNames: len(at.LockAttribute) + len(at.LockUntilAttribute),
	}
}

// costReport is the output of cost.
type costReport struct {
	Prices     priced           `json:"prices"`
	Requests   float64          `json:"requests"` // of the application
	Mix        cost.Mix         `json:"mix"`
	Sizes      []cost.SizeClass `json:"sizes"`
	Estimate   cost.Estimate    `json:"estimate"`
	ByRequest  []cost.Call      `json:"by_request"`
	Changes    []cost.Change    `json:"changes"`
	Operations []cost.Operation `json:"operations"`

	provisioned bool
	ttl         bool
	size        int // of the operations
}

func (a *app) runCost(f *costFlags, prices cost.Prices) error {
	if a.backend == "redis" {
		return usageError("cost is for DynamoDB: Redis is not billed by the request")
	}
	w, s, err := f.workload(&a.globals)
	if err != nil {
		return err
	}
	r := costReport{Requests: w.Requests, Mix: w.Mix, Sizes: w.Sizes, provisioned: s.Provisioned, ttl: s.SweepEvery == 0}
	if r.Prices, err = f.find(prices, a.region); err != nil {
		return err
	}
	if r.Estimate, err = cost.Compute(w, s, r.Prices.Price); err != nil {
		return &exitError{code: codeUsage, err: err}
	}
	r.ByRequest = r.Estimate.ByRequest()
	if r.Changes, err = cost.Changes(w, s, r.Prices.Price); err != nil {
		return err
	}
	var most float64
	for _, c := range w.Sizes {
		if c.Weight > most {
			most, r.size = c.Weight, c.Data
		}
	}
	if r.Operations, err = cost.Operations(r.size, s, r.Prices.Price); err != nil {
		return err
	}
	return a.print(r, r.write)
}

func (r *costReport) write(w *output) {
	e := &r.Estimate
	w.printf("%s requests of the application a month, %s a second on average.\n",
		amount(r.Requests), amount(r.Requests/cost.Month.Seconds()))
	w.printf("%s of the reads without a lock move the deadline.\n\n", percent(e.Touches))

	t := newTable(table.Row{"In a month", "Sent as", "Requests", "RCU", "WCU", r.Prices.Currency}, 3, 4, 5, 6)
	for _, c := range e.Calls {
		money := ""
		if !r.provisioned {
			reads, writes := r.Prices.Units(c.ReadUnits, c.WriteUnits)
			money = price(reads + writes)
		}
		t.AppendRow(table.Row{c.What, c.Request, amount(c.Requests), amount(c.ReadUnits), amount(c.WriteUnits), money})
	}
	if r.provisioned {
		t.AppendRow(table.Row{"Capacity", fmt.Sprintf("%s RCU, %s WCU all the time", amount(e.ReadCapacity), amount(e.WriteCapacity)),
			"", "", "", price(e.Money.Reads + e.Money.Writes)})
	}
	if r.ttl {
		t.AppendRow(table.Row{"Expiry", "TTL", "0", "0", "0", price(0)})
	}
	t.AppendRow(table.Row{"Storage", fmt.Sprintf("%s rows of %s, %.3g GB", amount(e.Rows), size(int64(e.RowBytes)), e.StorageGB), "", "", "", price(e.Money.Storage)})
	t.AppendFooter(table.Row{"Total", "", amount(e.Requests), amount(e.ReadUnits), amount(e.WriteUnits), price(e.Money.Total)})
	w.printf("%s\n\n", t.Render())

	t = newTable(table.Row{"What would change with", "Requests", "RCU", "WCU", r.Prices.Currency, ""}, 2, 3, 4, 5, 6)
	for _, c := range r.Changes {
		t.AppendRow(table.Row{c.What, signed(c.Requests, amount), signed(c.ReadUnits, amount), signed(c.WriteUnits, amount),
			signed(c.Money, price), signed(c.Share, percent)})
	}
	w.printf("%s\n\n", t.Render())

	t = newTable(table.Row{fmt.Sprintf("One session of %d bytes", r.size), "Requests", "RCU", "WCU", r.Prices.Currency + " a million"}, 3, 4, 5)
	for _, o := range r.Operations {
		t.AppendRow(table.Row{o.What, o.Requests, amount(o.ReadUnits), amount(o.WriteUnits), strconv.FormatFloat(o.Million, 'f', 3, 64)})
	}
	w.printf("%s\n\n%s\n", t.Render(), &r.Prices)
	w.printf("Retries, and renewals of locks held for seconds, are not included. \"sessionctl bench\" measures them.\n")
}

// amount writes a number that may be large or a fraction.
func amount(f float64) string {
	switch {
	case !(math.Abs(f) < 1e15): // more than one can count
		return strconv.FormatFloat(f, 'g', 3, 64)
	case math.Abs(f) >= 100 || f == math.Trunc(f):
		return count(int64(math.Round(f)))
	case math.Abs(f) >= 1:
		return strconv.FormatFloat(f, 'f', 1, 64)
	}
	return strconv.FormatFloat(f, 'g', 2, 64)
}

// price writes money.
func price(f float64) string {
	if !(math.Abs(f) < 1e15) {
		return strconv.FormatFloat(f, 'g', 3, 64)
	}
	if f != 0 && math.Abs(f) < 0.01 {
		return strconv.FormatFloat(f, 'f', 4, 64)
	}
	s := strconv.FormatFloat(f, 'f', 2, 64)
	whole, cents, _ := strings.Cut(s, ".")
	n, err := strconv.ParseInt(whole, 10, 64)
	if err != nil || n == 0 {
		return s
	}
	return count(n) + "." + cents
}

func percent(f float64) string {
	p := 100 * f
	switch {
	case !(math.Abs(p) < 1e15):
		return strconv.FormatFloat(p, 'g', 3, 64) + " %"
	case math.Abs(p) < 10:
		return strconv.FormatFloat(p, 'f', 1, 64) + " %"
	}
	return strconv.FormatFloat(100*f, 'f', 0, 64) + " %"
}

// signed writes a difference, and nothing for none.
func signed(f float64, write func(float64) string) string {
	s := write(f)
	switch {
	case strings.Trim(s, "-0.% ") == "":
		return "0"
	case f > 0:
		return "+" + s
	}
	return s
}
