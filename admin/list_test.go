package admin_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/admin"
	"github.com/seed-a7bee19b/session/backend/memory"
)

// lister is a backend that remembers how it was listed.
type lister struct {
	memory.Backend
	calls  int
	opts   admin.ListOptions
	report admin.Report
	err    error
}

func (l *lister) List(_ context.Context, opts admin.ListOptions, visit func(admin.Entry) error) (admin.Report, error) {
	l.calls++
	l.opts = opts
	return l.report, errors.Join(l.err, visit(admin.Entry{Key: "k"}))
}

func none(admin.Entry) error { return nil }

func TestListOptions(t *testing.T) {
	own := admin.ListOptions{KeyPrefix: "a", DataWith: "b", Limit: 1, ReadUnits: 0.5, Segments: 1_000_000, Workers: 10_000}
	for _, tt := range []struct {
		name string
		opts admin.ListOptions
		want admin.ListOptions
		err  string // part of it; "" for none
	}{
		{name: "zero", want: admin.ListOptions{Segments: 1, Workers: admin.DefaultListWorkers}},
		{name: "all set", opts: own, want: own},
		{name: "limit", opts: admin.ListOptions{Limit: -1}, err: "Limit -1"},
		{name: "read units", opts: admin.ListOptions{ReadUnits: -0.1}, err: "ReadUnits -0.1"},
		{name: "units are no number", opts: admin.ListOptions{ReadUnits: math.NaN()}, err: "ReadUnits NaN"},
		{name: "negative segments", opts: admin.ListOptions{Segments: -1}, err: "Segments -1"},
		{name: "segments", opts: admin.ListOptions{Segments: 1_000_001}, err: "Segments 1000001"},
		{name: "negative workers", opts: admin.ListOptions{Workers: -1}, err: "Workers -1"},
		{name: "workers", opts: admin.ListOptions{Workers: 10_001}, err: "Workers 10001"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := tt.opts.Complete()
			b := &lister{}
			_, listed := admin.List(t.Context(), b, tt.opts, none)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), "ListOptions."+tt.err) || listed == nil || b.calls != 0 {
					t.Errorf("Complete: %v, List: %v after %d calls of the backend; want errors about %q", err, listed, b.calls, tt.err)
				}
				return
			}
			if err != nil || got != tt.want || listed != nil || b.opts != tt.want {
				t.Errorf("Complete: %+v, %v; List: %v with %+v; want %+v", got, err, listed, b.opts, tt.want)
			}
		})
	}
}

// List hands on what the backend says, also when it fails.
func TestList(t *testing.T) {
	for _, err := range []error{nil, errStore} {
		b := &lister{report: admin.Report{Scanned: 3, Foreign: 1}, err: err}
		var visited []admin.Entry
		report, got := admin.List(t.Context(), b, admin.ListOptions{}, func(e admin.Entry) error {
			visited = append(visited, e)
			return nil
		})
		if !errors.Is(got, err) || !reflect.DeepEqual(report, b.report) || len(visited) != 1 || visited[0].Key != "k" {
			t.Errorf("got %+v, %v after %+v; want %+v, %v", report, got, visited, b.report, err)
		}
	}
}

func TestListRefuses(t *testing.T) {
	plain := struct{ session.Backend }{&memory.Backend{}}
	if _, err := admin.List(t.Context(), plain, admin.ListOptions{}, none); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("error %v, want ErrUnsupported", err)
	}
	b := &lister{}
	if _, err := admin.List(t.Context(), b, admin.ListOptions{}, nil); err == nil || b.calls != 0 {
		t.Errorf("without a function that visits: error %v after %d calls of the backend", err, b.calls)
	}
}

// The number of sessions that are live, and the space that they take.
func ExampleList() {
	backend := &memory.Backend{}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	now := time.Now()
	for key, expires := range map[string]time.Time{"a": now.Add(time.Hour), "b": now.Add(time.Hour), "c": now.Add(-time.Hour)} {
		rec := session.Record{Data: []byte("12345"), Created: now.Add(-2 * time.Hour), Expires: expires}
		if _, err := backend.Save(ctx, key, rec); err != nil {
			fmt.Println(err)
			return
		}
	}
	live, size := 0, 0
	_, err := admin.List(ctx, backend, admin.ListOptions{}, func(e admin.Entry) error {
		if !e.Foreign && e.Expires.After(now) {
			live, size = live+1, size+e.DataSize
		}
		return nil
	})
	if errors.Is(err, errors.ErrUnsupported) {
		fmt.Println("the backend cannot list")
		return
	}
	fmt.Println(live, "sessions with", size, "bytes of data,", err)
	// Output: 2 sessions with 10 bytes of data, <nil>
}
