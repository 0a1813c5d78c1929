package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"maps"
	mathrand "math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/cmd/sessionctl/cost"
	"github.com/seed-a7bee19b/session/observe"
)

type benchFlags struct {
	duration       time.Duration
	concurrency    int
	mix            string
	size           int
	sessions       int
	mode, safeMode string
	rate           float64
	yes            bool
	pricing
}

func (a *app) benchCommand() *cobra.Command {
	var f benchFlags
	c := &cobra.Command{
		Use:   "bench",
		Short: "Put load on the store, and measure",
		Long: `bench uses sessions as the requests of an application do. It prints the number of
requests, their latency, the requests to the store, and the cost of a month at
the same rate.

It writes sessions of its own, with keys that begin with "bench-", and touches no
others. It deletes them at the end, also after an interrupt. If it is killed, they
expire. A table that is not on this machine costs money, and bench takes capacity
from the application. So bench needs --yes there, and --rate is wise.

"sessionctl help cost" explains the kinds of requests in --mix.`,
		Example: `  sessionctl bench --endpoint http://localhost:8000 --duration 30s
  sessionctl bench --rate 50 --mix read=80,write=20 --size 3000 --yes`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if a.php.on() {
				return usageError("bench is not for a table that PHP uses: measure on one of its own, and leave out --php")
			}
			b, err := a.newBench(cmd.Context(), &f)
			if err != nil {
				return err
			}
			a.observe = b.request
			s, err := a.open(cmd.Context())
			if err != nil {
				return err
			}
			err = b.run(cmd.Context(), s)
			return errors.Join(err, s.Close())
		},
	}
	fl := c.Flags()
	fl.SortFlags = false
	fl.DurationVarP(&f.duration, "duration", "d", 10*time.Second, "run for this time")
	fl.IntVarP(&f.concurrency, "concurrency", "c", 16, "number of requests in flight")
	numberVar(fl, &f.rate, "rate", 0, "at most this number of requests a second (default: no limit)")
	fl.StringVar(&f.mix, "mix", cost.DefaultMix.String(), "`weights` of the kinds of requests")
	fl.IntVar(&f.size, "size", cost.DefaultSize, "`bytes` of an encoded session")
	fl.IntVar(&f.sessions, "sessions", 100, "number of sessions to read and write, at random")
	fl.StringVar(&f.mode, "mode", "merge", "Config.Mode: merge, last-write or exclusive")
	fl.StringVar(&f.safeMode, "safe-mode", "", "Config.SafeMode, for requests that only read: as --mode, or read-only")
	fl.BoolVarP(&f.yes, "yes", "y", false, "run also on a store that is not on this machine")
	f.add(c)
	return c
}

const longestBench = 30 * 24 * time.Hour

// kinds of requests, by the names of cost.Mix.
const (
	kindRead        = "read"
	kindWrite       = "write"
	kindLockedRead  = "locked-read"
	kindLockedWrite = "locked-write"
	kindNew         = "new"
	kindLogin       = "login"
	kindLogout      = "logout"
	kindGone        = "gone"
)

var kinds = []string{kindRead, kindWrite, kindLockedRead, kindLockedWrite, kindNew, kindLogin, kindLogout, kindGone}

// bench is one run.
type bench struct {
	*app
	f       *benchFlags
	mix     cost.Mix
	weights []float64 // of kinds
	codec   session.Codec
	prefix  string
	padding string
	prices  cost.Prices

	plain, safe, locked *session.Manager
	tokens              []string

	measuring atomic.Bool
	conflicts atomic.Int64
	waits     atomic.Int64
	next      atomic.Int64 // request of the rate

	mu       sync.Mutex
	keys     map[string]bool // that may have been written
	requests map[string]*storeRequests
	results  map[string]*latencies
	failures map[string]int
}

type storeRequests struct {
	Name       string  `json:"request"`
	Requests   int64   `json:"requests"`
	Failed     int64   `json:"failed"`
	ReadUnits  float64 `json:"read_units"`
	WriteUnits float64 `json:"write_units"`
}

func (a *app) newBench(ctx context.Context, f *benchFlags) (*bench, error) {
	b := &bench{
		app: a, f: f, prefix: "bench-" + strings.ToLower(rand.Text()[:10]) + "-",
		keys: map[string]bool{}, requests: map[string]*storeRequests{}, results: map[string]*latencies{}, failures: map[string]int{},
	}
	switch {
	case f.duration <= 0 || f.duration > longestBench:
		return nil, usageError("--duration is %v; it must be longer than 0, and not more than %v", f.duration, longestBench)
	case f.concurrency < 1 || f.concurrency > 10_000:
		return nil, usageError("--concurrency is %d; it must be between 1 and 10,000", f.concurrency)
	case f.sessions < 1 || f.sessions > 1_000_000:
		return nil, usageError("--sessions is %d; it must be between 1 and 1,000,000", f.sessions)
	case f.size < 0 || f.size > 400<<10:
		return nil, usageError("--size is %d; it must be between 0 and 409600 bytes", f.size)
	case !(f.rate == 0 || f.rate >= 1e-6):
		return nil, usageError("--rate is %v; it must not be negative, nor less than one in ten days", f.rate)
	}
	var err error
	if b.mix, err = cost.ParseMix(f.mix); err != nil {
		return nil, &exitError{code: codeUsage, err: err}
	}
	b.weights = []float64{b.mix.Read, b.mix.Write, b.mix.LockedRead, b.mix.LockedWrite, b.mix.New, b.mix.Login, b.mix.Logout, b.mix.Gone}
	if b.codec, err = a.sessionCodec(); err != nil {
		return nil, err
	}
	if b.prices, err = f.table(ctx); err != nil {
		return nil, err
	}
	b.padding, err = padding(b.codec, f.size)
	return b, err
}

// The values of a session of bench.
var (
	benchPad   = session.Key[string]{Name: "data"}
	benchCount = session.Key[int]{Name: "n"}
)

// padding returns a value that makes a session of size bytes.
func padding(c session.Codec, size int) (string, error) {
	for n := size; ; n-- {
		pad, err := c.Marshal(strings.Repeat("x", max(n, 0)))
		if err != nil {
			return "", err
		}
		number, err := c.Marshal(1000)
		if err != nil {
			return "", err
		}
		data, err := c.Join(map[string][]byte{benchPad.Name: pad, benchCount.Name: number})
		if err != nil {
			return "", err
		}
		if len(data) <= size || n <= 0 {
			return strings.Repeat("x", max(n, 0)), nil
		}
		n -= max(0, len(data)-size-1)
	}
}

// key derives the key of a token, for the Manager of bench.
func (b *bench) key(token string) string {
	key := b.prefix + session.DefaultStoreKey(token)
	b.mu.Lock()
	b.keys[key] = true
	b.mu.Unlock()
	return key
}

// request counts what is asked of DynamoDB.
func (b *bench) request(_ context.Context, r observe.Request) {
	if !b.measuring.Load() {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	n := b.requests[r.Name]
	if n == nil {
		n = &storeRequests{Name: r.Name}
		b.requests[r.Name] = n
	}
	n.Requests++
	n.ReadUnits += r.ReadUnits
	n.WriteUnits += r.WriteUnits
	if r.Err != nil {
		n.Failed++
	}
}

// Call and Event make it a observe.Observer.
func (b *bench) Call(ctx context.Context, _ observe.Op) (context.Context, func(error)) {
	return ctx, nil
}

// Event counts conflicts and waits.
func (b *bench) Event(_ context.Context, e observe.Event) {
	switch {
	case !b.measuring.Load():
	case e.Kind == observe.EventMerged:
		b.conflicts.Add(int64(e.N))
	case e.Kind == observe.EventLockAcquired && e.Wait > 10*time.Millisecond:
		b.waits.Add(1)
	}
}

func (b *bench) managers(s store) error {
	mode, err := parseMode("mode", b.f.mode)
	if err != nil {
		return err
	}
	safeMode, err := parseMode("safe-mode", b.f.safeMode)
	if err != nil {
		return err
	}
	if mode == session.ReadOnly {
		return usageError("--mode cannot be read-only, because bench writes sessions; --safe-mode can")
	}
	life := max(2*b.f.duration, 10*time.Minute)
	b.plain, err = session.New(s, session.Config{
		Mode: mode, Codec: b.codec, StoreKey: b.key, Observer: b, IdleTimeout: life, AbsoluteTimeout: 2 * life,
	})
	if err != nil {
		return err
	}
	if safeMode == 0 {
		safeMode = mode
	}
	if b.safe, err = b.plain.With(session.Route{Mode: safeMode}); err != nil {
		return err
	}
	b.locked, err = b.plain.With(session.Route{Mode: session.Exclusive})
	b.mu.Lock()
	clear(b.keys) // those that New has tried the StoreKey with
	b.mu.Unlock()
	return err
}

// onThisMachine reports whether load on the store is nobody else's concern.
func onThisMachine(s store) bool {
	switch s := s.(type) {
	case *dynamoStore:
		return onLoopback(s.endpoint)
	case *redisStore:
		host, _, err := net.SplitHostPort(s.addr)
		return err == nil && onLoopback("redis://"+net.JoinHostPort(host, "0"))
	}
	return true
}

func (b *bench) run(ctx context.Context, s store) (err error) {
	if err := b.managers(s); err != nil {
		return err
	}
	pace := "as fast as it goes"
	if b.f.rate > 0 {
		pace = amount(b.f.rate) + " requests a second"
	}
	what := fmt.Sprintf("%s sessions of %s to %s, with keys that begin with %q, and for %s does requests with them, %d at once, %s",
		count(int64(b.f.sessions)), size(int64(b.f.size)), s, b.prefix, b.f.duration, b.f.concurrency, pace)
	if !onThisMachine(s) && !b.f.yes {
		return usageError("bench writes %s. That store is not on this machine: it costs money, and takes capacity from the "+
			"applications. Add --yes if you mean it", what)
	}
	b.note("bench writes %s. It deletes them at the end.", what)

	defer func() { err = errors.Join(err, b.cleanUp(ctx, s)) }()
	if err := b.prepare(ctx); err != nil {
		return fmt.Errorf("bench could not write its sessions: %w", err)
	}
	b.measuring.Store(true)
	began := time.Now()
	stopLive := b.live(began)
	var wg sync.WaitGroup
	for range b.f.concurrency {
		wg.Go(func() { b.work(ctx, began) })
	}
	wg.Wait()
	took := time.Since(began)
	b.measuring.Store(false)
	stopLive()

	r := b.report(s, took)
	if err := b.print(r, r.write); err != nil {
		return err
	}
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("interrupted after %s: %w", span(took), context.Cause(ctx))
	case r.Errors > 0:
		return fmt.Errorf("%s of %s requests failed", count(r.Errors), count(r.Requests))
	}
	return nil
}

// prepare writes the sessions that are read and written later.
func (b *bench) prepare(ctx context.Context) error {
	b.tokens = make([]string, b.f.sessions)
	var next atomic.Int64
	var wg sync.WaitGroup
	errs := make([]error, min(b.f.concurrency, b.f.sessions))
	for i := range errs {
		wg.Go(func() {
			for {
				n := int(next.Add(1)) - 1
				if n >= len(b.tokens) || errs[i] != nil {
					return
				}
				b.tokens[n], errs[i] = b.begin(ctx)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (b *bench) begin(ctx context.Context) (string, error) {
	s := b.plain.Start()
	if err := errors.Join(benchPad.Set(s, b.padding), benchCount.Set(s, 1000)); err != nil {
		return "", err
	}
	if err := s.Save(ctx); err != nil {
		return "", err
	}
	return s.Token().Reveal(), s.Close(ctx)
}

// worker is one of the requests at once. What begins and ends sessions it does
// to its own, so that it does not pull those of others from under them.
type worker struct {
	*bench
	ctx context.Context
	own []string
}

// ownMost is the number of sessions that a worker remembers for logins and
// logouts.
const ownMost = 1000

func (b *bench) work(ctx context.Context, began time.Time) {
	w := &worker{bench: b, ctx: ctx}
	end := began.Add(b.f.duration)
	for ctx.Err() == nil && time.Now().Before(end) {
		if b.f.rate > 0 {
			after := float64(b.next.Add(1)-1) / b.f.rate // seconds; a Duration may not hold it
			if after >= b.f.duration.Seconds() {
				return
			}
			if !sleepUntil(ctx, began.Add(time.Duration(after*float64(time.Second)))) {
				return
			}
		}
		kind := b.pick()
		if (kind == kindLogin || kind == kindLogout) && len(w.own) == 0 {
			kind = kindNew
		}
		start := time.Now()
		err := w.do(kind)
		took := time.Since(start)
		if ctx.Err() != nil {
			return // cut off, which says nothing about the store
		}
		b.record(kind, took, err)
	}
}

func sleepUntil(ctx context.Context, at time.Time) bool {
	t := time.NewTimer(time.Until(at))
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// pick draws a kind of request.
func (b *bench) pick() string {
	var sum float64
	for _, w := range b.weights {
		sum += w
	}
	at := mathrand.Float64() * sum
	last := 0
	for i, w := range b.weights {
		if w == 0 {
			continue
		}
		last = i
		if at -= w; at < 0 {
			break
		}
	}
	return kinds[last]
}

// deadToken is one that no session has.
var deadToken = strings.Repeat("A", tokenChars)

func (w *worker) do(kind string) error {
	switch kind {
	case kindRead:
		return w.use(w.safe, w.any(), nil)
	case kindLockedRead:
		return w.use(w.locked, w.any(), nil)
	case kindWrite:
		return w.use(w.plain, w.any(), increment)
	case kindLockedWrite:
		return w.use(w.locked, w.any(), increment)
	case kindGone:
		if err := w.use(w.plain, deadToken, nil); !errors.Is(err, session.ErrNotFound) {
			return errors.Join(errors.New("a session that never was"), err)
		}
		return nil
	case kindNew:
		token, err := w.begin(w.ctx)
		if err == nil && len(w.own) < ownMost {
			w.own = append(w.own, token)
		}
		return err
	}
	last := len(w.own) - 1
	token := w.own[last]
	w.own = w.own[:last]
	s, err := w.plain.Open(w.ctx, token)
	if err != nil {
		return err
	}
	if kind == kindLogout {
		return s.Destroy(w.ctx)
	}
	if err := errors.Join(s.Login("bench"), s.Save(w.ctx)); err != nil {
		return errors.Join(err, s.Close(w.ctx))
	}
	w.own = append(w.own, s.Token().Reveal())
	return s.Close(w.ctx)
}

func (w *worker) any() string { return w.tokens[mathrand.IntN(len(w.tokens))] }

func increment(s *session.Session) error {
	_, err := benchCount.Update(s, func(n int) int { return (n-1000+1)%1000 + 1000 })
	return err
}

func (w *worker) use(m *session.Manager, token string, change func(*session.Session) error) (err error) {
	s, err := m.Open(w.ctx, token)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close(w.ctx)) }()
	if _, err := benchPad.Get(s); err != nil {
		return err
	}
	if change != nil {
		if err := change(s); err != nil {
			return err
		}
	}
	return s.Save(w.ctx)
}

// mostFailures is the number of different errors that bench remembers.
const mostFailures = 5

func (b *bench) record(kind string, took time.Duration, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.results[kind]
	if l == nil {
		l = &latencies{}
		b.results[kind] = l
	}
	l.add(took)
	if err == nil {
		return
	}
	l.errors++
	if text := err.Error(); b.failures[text] > 0 || len(b.failures) < mostFailures {
		b.failures[text]++
	}
}

// live shows how it goes, and returns what ends that.
func (b *bench) live(began time.Time) (stop func()) {
	every, w, line, end := 10*time.Second, io.Writer(b.stderr), "%s\n", ""
	if terminal(b.stderr.w) { // which takes only what is made here
		every, w, line, end = 500*time.Millisecond, b.stderr.w, "\r\x1b[K%s", "\r\x1b[K"
	}
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		t := time.NewTicker(every)
		defer t.Stop()
		for {
			select {
			case <-done:
				_, _ = io.WriteString(w, end)
				return
			case <-t.C:
				fmt.Fprintf(w, line, b.status(time.Since(began)))
			}
		}
	})
	return func() {
		close(done)
		wg.Wait()
	}
}

func (b *bench) status(elapsed time.Duration) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := b.all()
	var read, write float64
	for _, r := range b.requests {
		read, write = read+r.ReadUnits, write+r.WriteUnits
	}
	// It has to fit into a line of 80.
	s := fmt.Sprintf("%s of %s  %s/s  p50 %s  p99 %s  %s errors", span(elapsed), span(b.f.duration),
		amount(float64(all.n)/elapsed.Seconds()), span(all.quantile(0.5)), span(all.quantile(0.99)), count(all.errors))
	if read+write > 0 {
		s += fmt.Sprintf("  %s RCU/s  %s WCU/s", amount(read/elapsed.Seconds()), amount(write/elapsed.Seconds()))
	}
	return s
}

// all is every kind together. b.mu is held.
func (b *bench) all() *latencies {
	all := &latencies{}
	for _, l := range b.results {
		all.merge(l)
	}
	return all
}

// cleanUp deletes what was written, also if ctx is done.
func (b *bench) cleanUp(ctx context.Context, s store) error {
	interrupted := ctx.Err() != nil
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	b.mu.Lock()
	keys := slices.Collect(maps.Keys(b.keys))
	b.mu.Unlock()
	if len(keys) > 10_000 {
		b.note("Deleting %s records.", count(int64(len(keys))))
	}
	var next, failed atomic.Int64
	var wg sync.WaitGroup
	for range min(len(keys), max(b.f.concurrency, readers)) {
		wg.Go(func() {
			for {
				n := int(next.Add(1)) - 1
				if n >= len(keys) {
					return
				}
				if err := s.Delete(ctx, keys[n]); err != nil {
					failed.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if failed.Load() == 0 && interrupted {
		b.note("bench has deleted its records.")
	}
	if n := failed.Load(); n > 0 {
		return fmt.Errorf("%s of %s records of bench could not be deleted; their keys begin with %q, and they expire within %s",
			count(n), count(int64(len(keys))), b.prefix, span(4*max(b.f.duration, 5*time.Minute)))
	}
	return nil
}

// benchReport is the output of bench.
type benchReport struct {
	Store      string          `json:"store"`
	Seconds    float64         `json:"seconds"`
	Requests   int64           `json:"requests"`
	Rate       float64         `json:"requests_per_second"`
	Errors     int64           `json:"errors"`
	Conflicts  int64           `json:"conflicts"`
	LockWaits  int64           `json:"lock_waits"` // of more than 10 ms
	Kinds      []kindReport    `json:"kinds"`
	Asked      []storeRequests `json:"store_requests,omitempty"`
	ReadUnits  float64         `json:"read_units"`
	WriteUnits float64         `json:"write_units"`
	Month      *monthly        `json:"month,omitempty"`
	Failures   map[string]int  `json:"failures,omitempty"`
}

type kindReport struct {
	Kind     string  `json:"kind"`
	Requests int64   `json:"requests"`
	Errors   int64   `json:"errors"`
	P50      float64 `json:"p50_ms"`
	P95      float64 `json:"p95_ms"`
	P99      float64 `json:"p99_ms"`
	Max      float64 `json:"max_ms"`
}

// monthly is the cost of a month at this rate.
type monthly struct {
	Prices priced  `json:"prices"`
	Reads  float64 `json:"reads"`
	Writes float64 `json:"writes"`
	Total  float64 `json:"total"`
}

func (b *bench) report(s store, took time.Duration) *benchReport {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := b.all()
	r := &benchReport{
		Store: s.String(), Seconds: took.Seconds(), Requests: all.n, Rate: float64(all.n) / took.Seconds(), Errors: all.errors,
		Conflicts: b.conflicts.Load(), LockWaits: b.waits.Load(), Failures: b.failures,
	}
	kind := func(name string, l *latencies) {
		if l != nil && l.n > 0 {
			r.Kinds = append(r.Kinds, kindReport{name, l.n, l.errors, ms(l.quantile(0.5)), ms(l.quantile(0.95)), ms(l.quantile(0.99)), ms(l.most)})
		}
	}
	for _, name := range kinds {
		kind(name, b.results[name])
	}
	kind("all", all)
	for _, name := range slices.Sorted(maps.Keys(b.requests)) {
		q := *b.requests[name]
		r.Asked = append(r.Asked, q)
		r.ReadUnits += q.ReadUnits
		r.WriteUnits += q.WriteUnits
	}
	if d, ok := s.(*dynamoStore); ok {
		if price, err := b.f.find(b.prices, d.region); err == nil {
			m := &monthly{Prices: price}
			m.Reads, m.Writes = price.Units(r.ReadUnits, r.WriteUnits)
			months := took.Seconds() / cost.Month.Seconds()
			m.Reads, m.Writes = m.Reads/months, m.Writes/months
			m.Total = m.Reads + m.Writes
			r.Month = m
		} else {
			b.note("%v", err)
		}
	}
	return r
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func (r *benchReport) write(w *output) {
	w.printf("%s requests in %.1f s, %s a second; %s conflicts, %s errors.\n\n",
		count(r.Requests), r.Seconds, amount(r.Rate), count(r.Conflicts), count(r.Errors))
	t := newTable(table.Row{"Kind", "Requests", "a second", "p50", "p95", "p99", "max", "errors"}, 2, 3, 4, 5, 6, 7, 8)
	for _, k := range r.Kinds {
		row := table.Row{k.Kind, count(k.Requests), amount(float64(k.Requests) / r.Seconds), lasting(k.P50), lasting(k.P95), lasting(k.P99), lasting(k.Max), count(k.Errors)}
		if k.Kind == "all" {
			t.AppendFooter(row)
		} else {
			t.AppendRow(row)
		}
	}
	w.printf("%s\n", t.Render())
	if len(r.Asked) > 0 {
		t := newTable(table.Row{"Sent to the store", "Requests", "a second", "failed", "RCU", "WCU"}, 2, 3, 4, 5, 6)
		var failed int64
		for _, q := range r.Asked {
			failed += q.Failed
			t.AppendRow(table.Row{q.Name, count(q.Requests), amount(float64(q.Requests) / r.Seconds), count(q.Failed), amount(q.ReadUnits), amount(q.WriteUnits)})
		}
		w.printf("\n%s\n", t.Render())
		if failed > 0 {
			w.printf("These include failed conditions. DynamoDB bills them too, but does not report the units.\n")
		}
	}
	if m := r.Month; m != nil {
		w.printf("\nA month at this rate: %s %s for reads, %s for writes, %s in all, on demand.\n%s\n",
			price(m.Reads), m.Prices.Currency, price(m.Writes), price(m.Total), &m.Prices)
	}
	for _, text := range slices.Sorted(maps.Keys(r.Failures)) {
		w.printf("\n%s times: %s\n", count(int64(r.Failures[text])), text)
	}
}

func lasting(ms float64) string { return span(time.Duration(ms * float64(time.Millisecond))) }
