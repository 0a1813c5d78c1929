package dynamodb

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/seed-a7bee19b/session/admin"
)

func bytesOf(s string) types.AttributeValue { return &types.AttributeValueMemberB{Value: []byte(s)} }

func lockedTo(it item, until time.Time) item {
	return with(with(it, "lock", bytesOf("0123456789abcdef")), "lock_until", number(until.UnixMilli()))
}

// sweepable has items of each kind at now.
func sweepable(now time.Time) (gone, foreign, stay map[string]item) {
	old, recent := now.Add(-time.Hour), now.Add(-time.Minute)
	byKey := func(items ...item) map[string]item {
		m := map[string]item{}
		for _, it := range items {
			m[it["id"].(*types.AttributeValueMemberS).Value] = it
		}
		return m
	}
	gone = byKey(
		own("a-expired", old),
		own("a-expired at the cutoff", time.Unix(now.Add(-admin.DefaultSweepGrace).Unix(), 0)),
		lockedTo(own("a-lock is over", old), now.Add(-time.Second)),
		with(own("a-text", old), "data", text("data")),
		with(own("a-more attributes", old), "tag", text("x")),
		own("b-prefix", old),
	)
	foreign = byKey(
		php("a-php", old),
		with(php("a-php with created", old), "created", number(1)),
		with(php("a-php with version", old), "version", bytesOf("12345678")),
		with(own("a-version of another type", old), "version", text("1.0")),
		with(own("a-created of another type", old), "created", text("2024-01-01")),
		php("b-php", old),
	)
	stay = byKey(
		own("a-live", now.Add(time.Hour)),
		own("a-within grace", recent),
		lockedTo(own("a-locked", old), now.Add(time.Minute)),
		with(own("a-lock without end", old), "lock", bytesOf("0123456789abcdef")),
		php("a-php live", now.Add(time.Hour)),
		with(php("a-php locked", old), "lock", number(1)),
		with(php("a-no number", old), "expires", text("1000")),
		with(php("a-php for ever", old), "expires", number(0)),
		with(php("a-php negative", old), "expires", number(-1)),
		item{"id": text("a-a key alone")},
	)
	return gone, foreign, stay
}

func merged(parts ...map[string]item) map[string]item {
	all := map[string]item{}
	for _, m := range parts {
		maps.Copy(all, m)
	}
	return all
}

func prefixed(items map[string]item, prefix string, is bool) map[string]item {
	some := map[string]item{}
	for k, it := range items {
		if strings.HasPrefix(k, prefix) == is {
			some[k] = it
		}
	}
	return some
}

func TestSweepKinds(t *testing.T) {
	now := time.Unix(1_700_000_000, 500_000_000).UTC()
	gone, foreign, stay := sweepable(now)
	for _, tt := range []struct {
		name string
		opts admin.SweepOptions
		left map[string]item
		want admin.Report
	}{
		{
			name: "default", left: merged(foreign, stay),
			want: admin.Report{Expired: 8, Deleted: 6, Kept: 2, Foreign: 7},
		},
		{
			name: "foreign too", opts: admin.SweepOptions{Foreign: true}, left: stay,
			want: admin.Report{Expired: 15, Deleted: 12, Kept: 3},
		},
		{
			name: "prefix", opts: admin.SweepOptions{KeyPrefix: "b-"}, left: merged(prefixed(gone, "a-", true), foreign, stay),
			want: admin.Report{Expired: 1, Deleted: 1, Foreign: 1},
		},
		{
			name: "foreign prefix", opts: admin.SweepOptions{KeyPrefix: "b-", Foreign: true},
			left: merged(prefixed(merged(gone, foreign), "a-", true), stay),
			want: admin.Report{Expired: 2, Deleted: 2},
		},
		{
			name: "dry run", opts: admin.SweepOptions{DryRun: true}, left: merged(gone, foreign, stay),
			want: admin.Report{Expired: 8, Deleted: 8, Foreign: 7},
		},
		{
			name: "long grace", opts: admin.SweepOptions{Grace: 2 * time.Hour}, left: merged(gone, foreign, stay),
		},
		{
			name: "one of each", opts: admin.SweepOptions{Segments: 1, Workers: 1, BatchSize: 1}, left: merged(foreign, stay),
			want: admin.Report{Expired: 8, Deleted: 6, Kept: 2, Foreign: 7},
		},
		{
			name: "many of each", opts: admin.SweepOptions{Segments: 500, Workers: 100, BatchSize: 1000}, left: merged(foreign, stay),
			want: admin.Report{Expired: 8, Deleted: 6, Kept: 2, Foreign: 7},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFake()
			f.items = merged(gone, foreign, stay)
			b := newBackend(t, f, quick(Config{}))
			b.now = func() time.Time { return now }
			var last admin.Report
			calls := 0
			tt.opts.OnProgress = func(r admin.Report) { last, calls = r, calls+1 }
			got, err := b.Sweep(t.Context(), tt.opts)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(f.items, tt.left) {
				t.Errorf("left are %q\nwant %q", slices.Sorted(maps.Keys(f.items)), slices.Sorted(maps.Keys(tt.left)))
			}
			if calls == 0 || !reflect.DeepEqual(last, got) {
				t.Errorf("%d calls of OnProgress, the last with %+v", calls, last)
			}
			if got.ReadUnits < 0.5 || got.WriteUnits != float64(got.Deleted) && !tt.opts.DryRun || got.WriteUnits > 0 && tt.opts.DryRun || got.Elapsed <= 0 {
				t.Errorf("units or time in %+v", got)
			}
			got.ReadUnits, got.WriteUnits, got.Elapsed = 0, 0, 0
			tt.want.Scanned = int64(len(gone) + len(foreign) + len(stay))
			if !reflect.DeepEqual(got, tt.want) {
				t.Errorf("report %+v\nwant   %+v", got, tt.want)
			}
			for _, in := range f.scans {
				if *in.ProjectionExpression != "#k, #c, #v" || in.ConsistentRead != nil {
					t.Errorf("sent %+v", in)
				}
			}
		})
	}
}

// expiredItems puts n items that are to be swept into a new fake, with pages
// of about ten.
func expiredItems(n int) *fake {
	f := newFake()
	f.pageBytes = 10 * 60
	for i := range n {
		f.put(own(fmt.Sprintf("key-%04d", i), time.Now().Add(-time.Hour)))
	}
	return f
}

func checkSum(t *testing.T, r admin.Report) {
	t.Helper()
	if r.Expired != r.Deleted+r.Kept+r.Skipped+r.Failed {
		t.Errorf("the parts are not the whole in %+v", r)
	}
	if r.Expired > r.Scanned {
		t.Errorf("more expired than scanned in %+v", r)
	}
}

// What is our own has expired, however long ago that was.
func TestSweepBefore1970(t *testing.T) {
	f := newFake()
	f.put(own("k", time.Unix(-1, 0)))
	if r, err := newBackend(t, f, Config{}).Sweep(t.Context(), admin.SweepOptions{}); err != nil || r.Deleted != 1 {
		t.Errorf("%v, %+v", err, r)
	}
}

// What is renewed or locked between the scan and its deletion stays.
func TestSweepRaces(t *testing.T) {
	soon := time.Now().Add(time.Hour)
	for _, tt := range []struct {
		name  string
		opts  admin.SweepOptions
		it    item
		after func(f *fake, it item)
		kept  bool
	}{
		{name: "renewed", after: func(f *fake, it item) { f.put(with(it, "expires", number(soon.Unix()))) }, kept: true},
		{name: "locked", after: func(f *fake, it item) { f.put(lockedTo(it, soon)) }, kept: true},
		{name: "replaced by others", after: func(f *fake, _ item) { f.put(php("k", time.Unix(1, 0))) }, kept: true},
		{name: "deleted", after: func(f *fake, _ item) { f.remove("k") }, kept: false},
		{
			name: "foreign renewed", opts: admin.SweepOptions{Foreign: true}, it: php("k", time.Unix(1, 0)),
			after: func(f *fake, it item) { f.put(with(it, "expires", number(soon.Unix()))) }, kept: true,
		},
		{
			name: "foreign locked", opts: admin.SweepOptions{Foreign: true}, it: php("k", time.Unix(1, 0)),
			after: func(f *fake, it item) { f.put(with(it, "lock", number(1))) }, kept: true,
		},
		{
			name: "foreign is for ever", opts: admin.SweepOptions{Foreign: true}, it: php("k", time.Unix(1, 0)),
			after: func(f *fake, it item) { f.put(with(it, "expires", number(0))) }, kept: true,
		},
		{
			name: "foreign has become ours", opts: admin.SweepOptions{Foreign: true}, it: php("k", time.Unix(1, 0)),
			after: func(f *fake, _ item) { f.put(own("k", time.Unix(1, 0))) }, kept: true,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFake()
			if tt.it == nil {
				tt.it = own("k", time.Now().Add(-time.Hour))
			}
			f.put(tt.it)
			tt.opts.BeforeBatch = func(context.Context, int) error { tt.after(f, tt.it); return nil }
			r, err := newBackend(t, f, Config{}).Sweep(t.Context(), tt.opts)
			if err != nil {
				t.Fatal(err)
			}
			if r.Expired != 1 || r.Kept != 1 || (len(f.items) == 1) != tt.kept {
				t.Errorf("%d items and %+v", len(f.items), r)
			}
		})
	}
}

func TestSweepFaults(t *testing.T) {
	denied := fault{lost: sdkError("DeleteItem", 400, &types.ResourceNotFoundException{})}
	// every returns a rule with a fault for each nth request of op.
	every := func(n int, op string, ft fault) func(string) fault {
		seen := 0
		return func(sent string) fault {
			if sent == op {
				if seen++; seen%n == 0 {
					return ft
				}
			}
			return fault{}
		}
	}
	for _, tt := range []struct {
		name    string
		rule    func(string) fault
		onError bool // there is one, and it returns nil
		err     error
		want    admin.Report // the counters that can be known
	}{
		{name: "none", want: admin.Report{Scanned: 300, Expired: 300, Deleted: 300}},
		{name: "throttles", rule: every(3, "DeleteItem", fault{lost: errThrottle}), want: admin.Report{Scanned: 300, Expired: 300, Deleted: 300, Retried: 149}},
		{name: "throttled pages", rule: every(2, "Scan", fault{lost: errThrottle}), want: admin.Report{Scanned: 300, Expired: 300, Deleted: 300, Retried: -1}},
		{name: "lost responses", rule: every(3, "DeleteItem", fault{after: errReset}), want: admin.Report{Scanned: 300, Expired: 300, Deleted: 300, Retried: -1}},
		{name: "lost pages", rule: every(2, "Scan", fault{after: errReset}), want: admin.Report{Scanned: 300, Expired: 300, Deleted: 300, Retried: -1}},
		{name: "server errors", rule: every(3, "DeleteItem", fault{lost: errInternal}), want: admin.Report{Scanned: 300, Expired: 300, Deleted: 300, Retried: -1}},
		{name: "failures go on", rule: every(3, "DeleteItem", denied), onError: true, want: admin.Report{Scanned: 300, Expired: 300, Deleted: 200, Failed: 100}},
		{name: "a failure ends it", rule: every(100, "DeleteItem", denied), err: denied.lost, want: admin.Report{Scanned: -1, Expired: -1, Deleted: -1}},
		{name: "throttled for ever", rule: every(1, "DeleteItem", fault{lost: errThrottle}), err: errThrottle, want: admin.Report{Scanned: -1, Expired: -1, Retried: -1}},
		{name: "pages fail", rule: every(5, "Scan", denied), err: denied.lost, want: admin.Report{Scanned: -1, Expired: -1, Deleted: -1}},
		{name: "no page at all", rule: every(1, "Scan", denied), onError: true, want: admin.Report{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := expiredItems(300)
			f.rule = tt.rule
			// One at a time, so that no retry is the nth request again.
			opts := admin.SweepOptions{Workers: 1, Segments: 1}
			if tt.onError {
				opts.Workers, opts.Segments = 4, 3
			}
			var inside atomic.Int32
			problems := 0
			if tt.onError {
				opts.OnError = func(err error) error {
					if inside.Add(1) > 1 {
						t.Error("OnError is called by two")
					}
					defer inside.Add(-1)
					if problems++; strings.Contains(err.Error(), "key-") {
						t.Errorf("a key in %v", err)
					}
					return nil
				}
			}
			r, err := newBackend(t, f, quick(Config{MaxAttempts: 1})).Sweep(t.Context(), opts)
			if !errors.Is(err, tt.err) || (err == nil) != (tt.err == nil) {
				t.Fatalf("error %v, want %v", err, tt.err)
			}
			if err == nil {
				checkSum(t, r)
			}
			if int64(problems) != r.Failed && (err != nil || r.Scanned > 0) {
				t.Errorf("%d calls of OnError", problems)
			}
			if got := f.mostAtOnce.Load(); got > 4 {
				t.Errorf("%d requests at once", got)
			}
			if err == nil && len(f.items) != 300-int(r.Deleted) || len(f.items) > 300-int(r.Deleted) {
				t.Errorf("%d items left", len(f.items))
			}
			if complete := r.Scanned == 300 && err == nil; complete != (r.Checkpoint == nil) {
				t.Errorf("checkpoint %q", r.Checkpoint)
			}
			for _, c := range []struct {
				name      string
				got, want int64
			}{
				{"Scanned", r.Scanned, tt.want.Scanned},
				{"Expired", r.Expired, tt.want.Expired},
				{"Deleted", r.Deleted, tt.want.Deleted},
				{"Kept", r.Kept, tt.want.Kept},
				{"Failed", r.Failed, tt.want.Failed},
				{"Retried", r.Retried, tt.want.Retried},
			} {
				if c.want >= 0 && c.got != c.want || c.want < 0 && c.name == "Retried" && c.got == 0 {
					t.Errorf("%s: %d, want %d", c.name, c.got, c.want)
				}
			}
		})
	}
}

func TestSweepBeforeBatch(t *testing.T) {
	errMine := errors.New("not today")
	for _, tt := range []struct {
		name string
		hook func(call int) error
		err  error
		want admin.Report
	}{
		{name: "nothing", hook: func(int) error { return nil }, want: admin.Report{Expired: 100, Deleted: 100}},
		{name: "skips all", hook: func(int) error { return admin.SkipBatch }, want: admin.Report{Expired: 100, Skipped: 100}},
		{name: "skips all, in words", hook: func(int) error { return fmt.Errorf("busy: %w", admin.SkipBatch) }, want: admin.Report{Expired: 100, Skipped: 100}},
		{name: "ends at once", hook: func(int) error { return errMine }, err: errMine},
		{
			name: "ends later", hook: func(call int) error {
				if call == 5 {
					return errMine
				}
				return nil
			}, err: errMine,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := expiredItems(100)
			var mu sync.Mutex
			calls, records := 0, 0
			r, err := newBackend(t, f, Config{}).Sweep(t.Context(), admin.SweepOptions{
				BatchSize: 4, Workers: 3, Segments: 2,
				BeforeBatch: func(ctx context.Context, n int) error {
					mu.Lock()
					defer mu.Unlock()
					calls++
					records += n
					if n < 1 || n > 4 || ctx.Err() != nil {
						t.Errorf("a batch of %d", n)
					}
					return tt.hook(calls)
				},
			})
			if err != tt.err {
				t.Fatalf("error %v, want %v", err, tt.err)
			}
			if len(f.items) != 100-int(r.Deleted) || int64(records) < r.Deleted {
				t.Errorf("%d items left, %d announced, %+v", len(f.items), records, r)
			}
			if err == nil && (records != 100 || r.Expired != tt.want.Expired || r.Deleted != tt.want.Deleted || r.Skipped != tt.want.Skipped) {
				t.Errorf("%d announced, %+v", records, r)
			}
			if err != nil && r.Checkpoint == nil {
				t.Error("no checkpoint")
			}
		})
	}
}

func TestSweepOnErrorEnds(t *testing.T) {
	errMine := errors.New("enough")
	f := expiredItems(100)
	f.rule = func(op string) fault {
		if op == "DeleteItem" {
			return fault{lost: errors.New("no")}
		}
		return fault{}
	}
	r, err := newBackend(t, f, quick(Config{})).Sweep(t.Context(), admin.SweepOptions{OnError: func(error) error { return errMine }})
	if err != errMine || r.Deleted > 0 || r.Checkpoint == nil || len(f.items) != 100 {
		t.Errorf("%v, %+v", err, r)
	}
}

// A sweep that is stopped again and again, in any place, comes to its end
// without reading again what was finished.
func TestSweepResume(t *testing.T) {
	for _, tt := range []struct {
		name   string
		dryRun bool
		stop   func(f *fake, cancel func()) func(op string) fault // after some requests
	}{
		{name: "cancelled", stop: func(f *fake, cancel func()) func(string) fault {
			n := 0
			return func(string) fault {
				if n++; n == 60 {
					cancel()
				}
				return fault{}
			}
		}},
		{name: "failed", stop: func(f *fake, _ func()) func(string) fault {
			n := 0
			return func(string) fault {
				if n++; n > 60 {
					return fault{lost: errors.New("no")}
				}
				return fault{}
			}
		}},
		{name: "dry", dryRun: true, stop: func(f *fake, cancel func()) func(string) fault {
			n := 0
			return func(string) fault {
				if n++; n == 7 {
					cancel()
				}
				return fault{}
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			const n = 1000
			f := expiredItems(n)
			b := newBackend(t, f, quick(Config{}))
			opts := admin.SweepOptions{Workers: 4, Segments: 5, DryRun: tt.dryRun}
			var r admin.Report
			runs, scans := 0, 0
			for runs == 0 || opts.Resume != nil {
				if runs++; runs > 100 {
					t.Fatalf("no end: %+v", r)
				}
				ctx, cancel := context.WithCancel(t.Context())
				f.rule = tt.stop(f, cancel)
				before := r
				var err error
				r, err = b.Sweep(ctx, opts)
				cancel()
				if (err == nil) != (r.Checkpoint == nil) {
					t.Fatalf("%v with checkpoint %s", err, r.Checkpoint)
				}
				if r.Scanned < before.Scanned-4*2*10 || r.Deleted < before.Deleted && !tt.dryRun || r.ReadUnits < before.ReadUnits {
					t.Errorf("%+v\nafter %+v", r, before)
				}
				opts.Resume = r.Checkpoint
				// It does not matter what it is now: the sweep was begun with 5.
				opts.Segments = 7
				scans = len(f.scans)
			}
			checkSum(t, r)
			// An answer that came after the cancellation is lost with its count.
			if least := int64(n - runs*4); r.Deleted < least || r.Deleted > n || len(f.items) != 0 && !tt.dryRun {
				t.Errorf("%d left, %+v", len(f.items), r)
			}
			if tt.dryRun && (r.Deleted != n || r.Scanned != n) {
				t.Errorf("%+v", r)
			}
			if runs < 3 {
				t.Errorf("only %d runs", runs)
			}
			// 100 pages, and in each run those that were not finished.
			if most := 100 + 5 + runs*4*2; scans > most {
				t.Errorf("%d pages were read in %d runs, want at most %d", scans, runs, most)
			}
		})
	}
}

func TestSweepRefuses(t *testing.T) {
	f := expiredItems(1)
	refuses := func(name string, b *Backend, opts admin.SweepOptions, words string, is error) {
		t.Helper()
		_, err := b.Sweep(t.Context(), opts)
		if err == nil || !strings.Contains(err.Error(), words) || is != nil && !errors.Is(err, is) || f.count() > 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
	b := newBackend(t, f, Config{})
	refuses("no Scan", newBackend(t, struct{ Client }{f}, Config{}), admin.SweepOptions{}, "ScanClient", errors.ErrUnsupported)
	refuses("invalid", b, admin.SweepOptions{Grace: -1}, "Grace", nil)
	refuses("prefix", b, admin.SweepOptions{KeyPrefix: "\xff"}, "KeyPrefix", nil)
	refuses("empty Resume", b, admin.SweepOptions{Resume: []byte{}}, "not a checkpoint", nil)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.Sweep(ctx, admin.SweepOptions{}); !errors.Is(err, context.Canceled) || f.count() > 0 {
		t.Errorf("cancelled before: %v", err)
	}
}

// No answer without its price, if there is a budget.
func TestSweepUnbilled(t *testing.T) {
	for _, tt := range []struct {
		opts    admin.SweepOptions
		refused string // the operation whose answer is not good enough
	}{
		{admin.SweepOptions{}, ""},
		{admin.SweepOptions{ReadUnits: math.Inf(1), WriteUnits: math.Inf(1)}, ""},
		{admin.SweepOptions{ReadUnits: 1e9}, "Scan"},
		{admin.SweepOptions{WriteUnits: 1e9}, "DeleteItem"},
	} {
		f := expiredItems(10)
		f.unbilled = true
		_, err := newBackend(t, f, Config{}).Sweep(t.Context(), tt.opts)
		if tt.refused == "" && err != nil || tt.refused != "" && (err == nil || !strings.Contains(err.Error(), tt.refused+" on") || !strings.Contains(err.Error(), "ConsumedCapacity")) {
			t.Errorf("%+v: %v", tt.opts, err)
		}
	}
}
