package dynamodb

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/admin"
)

func text(s string) types.AttributeValue { return &types.AttributeValueMemberS{Value: s} }

// own is an item that Save could have made.
func own(key string, expires time.Time) item {
	return item{
		"id": text(key), "data": &types.AttributeValueMemberB{Value: []byte("data")}, "expires": number(expires.Unix()),
		"created": number(expires.Add(-time.Hour).UnixMilli()), "version": &types.AttributeValueMemberB{Value: []byte(newToken())},
	}
}

// php is an item of the PHP session handler.
func php(key string, expires time.Time) item {
	return item{"id": text(key), "data": text("a|i:1;"), "expires": number(expires.Unix())}
}

func with(it item, name string, v types.AttributeValue) item {
	it = maps.Clone(it)
	it[name] = v
	return it
}

func (f *fake) put(items ...item) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, it := range items {
		f.items[f.keyOf(it)] = it
	}
}

func TestEntry(t *testing.T) {
	now := time.Unix(1_700_000_000, 0).UTC()
	until := now.Add(time.Minute)
	free := admin.Entry{Key: "k", Size: 48, DataSize: 4, Created: now.Add(-time.Hour), Expires: now}
	locked := own("k", now)
	locked["lock"], locked["lock_until"] = &types.AttributeValueMemberB{Value: make([]byte, 16)}, number(until.UnixMilli())
	expired := with(locked, "lock_until", number(now.UnixMilli()))
	for _, tt := range []struct {
		name string
		it   item
		want admin.Entry
	}{
		{"free", own("k", now), free},
		{"locked", locked, admin.Entry{Key: "k", Size: 48 + 20 + 16, DataSize: 4, Created: free.Created, Expires: now, LockedUntil: until}},
		{"lock over", expired, admin.Entry{Key: "k", Size: 48 + 20 + 13, DataSize: 4, Created: free.Created, Expires: now}},
		{"text", with(own("k", now), "data", text("täxt")), admin.Entry{Key: "k", Size: 49, DataSize: 5, Created: free.Created, Expires: now}},
		{"PHP", php("k", now), admin.Entry{Key: "k", Size: 3 + 10 + 9, DataSize: 6, Expires: now, Foreign: true}},
		{"no number", with(php("k", now), "expires", text("soon")), admin.Entry{Key: "k", Size: 3 + 10 + 11, DataSize: 6, Foreign: true}},
		{"a key alone", item{"id": text("k")}, admin.Entry{Key: "k", Size: 3, Foreign: true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFake()
			f.put(tt.it)
			b := newBackend(t, f, Config{})
			b.now = func() time.Time { return now }
			var got []admin.Entry
			report, err := b.List(t.Context(), admin.ListOptions{}, func(e admin.Entry) error { got = append(got, e); return nil })
			if err != nil {
				t.Fatal(err)
			}
			if len(got) != 1 || got[0] != tt.want {
				t.Errorf("got %+v\nwant %+v", got, tt.want)
			}
			if want := (admin.Report{Scanned: 1, ReadUnits: 0.5}); report.Scanned != want.Scanned || report.ReadUnits != want.ReadUnits ||
				(report.Foreign == 1) != tt.want.Foreign {
				t.Errorf("report %+v", report)
			}
		})
	}
}

func TestItemSize(t *testing.T) {
	for _, tt := range []struct {
		v    types.AttributeValue
		want int
	}{
		{text("ä"), 2},
		{&types.AttributeValueMemberB{Value: make([]byte, 7)}, 7},
		{&types.AttributeValueMemberN{Value: "100"}, 2},
		{&types.AttributeValueMemberN{Value: "-1"}, 3},
		{&types.AttributeValueMemberN{Value: "1.5"}, 3},
		{&types.AttributeValueMemberBOOL{}, 1},
		{&types.AttributeValueMemberNULL{}, 1},
		{&types.AttributeValueMemberSS{Value: []string{"a", "bc"}}, 3},
		{&types.AttributeValueMemberBS{Value: [][]byte{{1}, {2, 3}}}, 3},
		{&types.AttributeValueMemberNS{Value: []string{"1", "2"}}, 4},
		{&types.AttributeValueMemberL{Value: []types.AttributeValue{text("a")}}, 5},
		{&types.AttributeValueMemberM{Value: item{"k": text("a")}}, 6},
	} {
		if got := itemSize(item{"name": tt.v}); got != 4+tt.want {
			t.Errorf("%T %v: %d, want %d", tt.v, tt.v, got, 4+tt.want)
		}
	}
}

func TestList(t *testing.T) {
	f := newFake()
	f.pageBytes = 1000
	want := map[string]bool{}
	for i := range 500 {
		k := fmt.Sprintf("a-%d", i)
		if i%5 == 0 {
			k = fmt.Sprintf("b-%d", i)
		}
		f.put(own(k, time.Now()))
		want[k] = true
	}
	errMine := errors.New("enough")
	for _, tt := range []struct {
		name   string
		opts   admin.ListOptions
		faults []fault
		stop   int // the visit that fails
		visits int
		err    error
	}{
		{name: "all", visits: 500},
		{name: "in parallel", opts: admin.ListOptions{Segments: 7, Workers: 3}, visits: 500},
		{name: "more workers than segments", opts: admin.ListOptions{Segments: 2, Workers: 30}, visits: 500},
		{name: "more segments than items", opts: admin.ListOptions{Segments: 700}, visits: 500},
		{name: "prefix", opts: admin.ListOptions{KeyPrefix: "b-", Segments: 3}, visits: 100},
		{name: "limit", opts: admin.ListOptions{Limit: 42}, visits: 42},
		{name: "limit in parallel", opts: admin.ListOptions{Limit: 42, Segments: 5}, visits: 42},
		{name: "limit and prefix", opts: admin.ListOptions{Limit: 42, KeyPrefix: "a-"}, visits: 42},
		{name: "limit of more than there is", opts: admin.ListOptions{Limit: 1000, Segments: 2}, visits: 500},
		{name: "budget", opts: admin.ListOptions{ReadUnits: 1e6}, visits: 500},
		{name: "unlimited budget", opts: admin.ListOptions{ReadUnits: math.Inf(1)}, visits: 500},
		{name: "visit fails", opts: admin.ListOptions{Segments: 4}, stop: 10, visits: 10, err: errMine},
		{name: "throttled", faults: []fault{{lost: errThrottle}, {lost: errThrottle}, {after: errReset}, {lost: errThrottle}}, visits: 500},
		{name: "throttled for ever", faults: slices.Repeat([]fault{{lost: errThrottle}}, 20), err: errThrottle},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f.faults = tt.faults
			b := newBackend(t, f, quick(Config{}))
			seen := map[string]bool{}
			report, err := b.List(t.Context(), tt.opts, func(e admin.Entry) error {
				if seen[e.Key] || !want[e.Key] || !strings.HasPrefix(e.Key, tt.opts.KeyPrefix) || e.Foreign {
					t.Errorf("visit of %+v", e)
				}
				seen[e.Key] = true
				if len(seen) == tt.stop {
					return errMine
				}
				return nil
			})
			if tt.stop > 0 && err != errMine || !errors.Is(err, tt.err) {
				t.Errorf("got error %v, want %v", err, tt.err)
			}
			if len(seen) != tt.visits {
				t.Errorf("%d visits, want %d", len(seen), tt.visits)
			}
			if report.Scanned < int64(tt.visits) || report.Scanned > 500 || report.ReadUnits < float64(report.Scanned)*0.5*48/4096 {
				t.Errorf("report %+v", report)
			}
		})
	}
}

func TestListRefuses(t *testing.T) {
	for _, tt := range []struct {
		opts  admin.ListOptions
		words string
	}{
		{admin.ListOptions{KeyPrefix: "\xff"}, "KeyPrefix"},
		{admin.ListOptions{Limit: -1}, "Limit"},
		{admin.ListOptions{ReadUnits: -1}, "ReadUnits"},
		{admin.ListOptions{ReadUnits: math.NaN()}, "ReadUnits"},
		{admin.ListOptions{Segments: -1}, "Segments"},
		{admin.ListOptions{Segments: 1e6 + 1}, "Segments"},
		{admin.ListOptions{Workers: -1}, "Workers"},
	} {
		f := newFake()
		_, err := newBackend(t, f, Config{}).List(t.Context(), tt.opts, nil)
		if err == nil || !strings.Contains(err.Error(), "ListOptions."+tt.words) || f.count() > 0 {
			t.Errorf("%+v: %v", tt.opts, err)
		}
	}

	visit := func(admin.Entry) error { return nil }
	_, err := newBackend(t, struct{ Client }{newFake()}, Config{}).List(t.Context(), admin.ListOptions{}, visit)
	if !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("without Scan: %v", err)
	}

	f := newFake()
	f.put(own("k", time.Now()))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err = newBackend(t, f, Config{}).List(ctx, admin.ListOptions{}, visit); !errors.Is(err, context.Canceled) || f.count() > 0 {
		t.Errorf("cancelled before: %v", err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	f.pageBytes = 1
	f.put(own("l", time.Now()))
	_, err = newBackend(t, f, Config{}).List(ctx, admin.ListOptions{}, func(admin.Entry) error { cancel(); return nil })
	if !errors.Is(err, context.Canceled) || errors.Is(err, session.ErrNotFound) {
		t.Errorf("cancelled in the middle: %v", err)
	}

	f.unbilled = true
	if _, err = newBackend(t, f, Config{}).List(t.Context(), admin.ListOptions{ReadUnits: 1000}, visit); err == nil || !strings.Contains(err.Error(), "ConsumedCapacity") {
		t.Errorf("nothing to keep a budget by: %v", err)
	}

	f = newFake()
	f.keyName = "sid"
	f.pageBytes = 1
	f.put(item{"sid": text("k")}, item{"sid": text("l")})
	if _, err = newBackend(t, f, Config{}).List(t.Context(), admin.ListOptions{}, visit); err == nil || !strings.Contains(err.Error(), "CheckTable") {
		t.Errorf("another key: %v", err)
	}
}

func (f *fake) remove(key string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.items, key)
}

// TestListData has the data of what contains a text, and of nothing else.
func TestListData(t *testing.T) {
	f := newFake()
	now := time.Now()
	f.put(own("other", now))
	f.put(with(own("binary", now), "data", &types.AttributeValueMemberB{Value: []byte("a mark\xff")}))
	f.put(with(own("text", now), "data", text("mark")))
	f.put(with(php("foreign", now), "data", text("mark")))
	for mark, want := range map[string]string{"": "", "mark": "binary=a mark\xff text=mark", "m?rk": "", "Mark": ""} {
		var got []string
		_, err := newBackend(t, f, Config{}).List(t.Context(), admin.ListOptions{DataWith: mark}, func(e admin.Entry) error {
			if e.Data != "" {
				got = append(got, e.Key+"="+e.Data)
			}
			return nil
		})
		if slices.Sort(got); err != nil || strings.Join(got, " ") != want {
			t.Errorf("%q: got %q, %v", mark, got, err)
		}
	}
}
