package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/memory"
	"github.com/seed-a7bee19b/session/cmd/sessionctl/cost"
	"github.com/seed-a7bee19b/session/codec"
)

// memStore is a store in memory that counts what is in it.
type memStore struct {
	*memory.Backend
	created, deleted atomic.Int64
	fail             error // of Load
	refuse           error // of Delete
}

func (s *memStore) String() string { return "memory" }
func (s *memStore) Close() error   { return nil }

func (s *memStore) About(context.Context) (estimate, error) {
	return estimate{}, errors.ErrUnsupported
}

func (s *memStore) Load(ctx context.Context, key string) (session.Record, error) {
	if s.fail != nil {
		return session.Record{}, s.fail
	}
	return s.Backend.Load(ctx, key)
}

func (s *memStore) Save(ctx context.Context, key string, rec session.Record) (session.Version, error) {
	v, err := s.Backend.Save(ctx, key, rec)
	switch {
	case err != nil:
	case rec.Version == "":
		s.created.Add(1)
	case rec.Expired(time.Now()): // which ends it
		s.deleted.Add(1)
	}
	return v, err
}

func (s *memStore) Delete(ctx context.Context, key string) error {
	if s.refuse != nil {
		return s.refuse
	}
	if _, err := s.Backend.Load(ctx, key); err == nil {
		s.deleted.Add(1)
	}
	return s.Backend.Delete(ctx, key)
}

func runBench(t *testing.T, ctx context.Context, s store, f benchFlags) (benchReport, string, error) {
	t.Helper()
	if f.mode == "" {
		f.mode = "merge"
	}
	f.class = "standard"
	var stdout, stderr bytes.Buffer
	a := &app{stdin: strings.NewReader(""), stdout: &output{w: &stdout}, stderr: &output{w: &stderr}, globals: globals{json: true, codec: "msgpack"}}
	b, err := a.newBench(t.Context(), &f)
	if err != nil {
		t.Fatal(err)
	}
	err = b.run(ctx, s)
	var r benchReport
	if stdout.Len() > 0 {
		if err := json.Unmarshal(stdout.Bytes(), &r); err != nil {
			t.Fatal(err)
		}
		r.write(&output{w: io.Discard})
	}
	return r, stderr.String(), err
}

func TestBench(t *testing.T) {
	for _, mode := range []string{"merge", "last-write", "exclusive"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			s := &memStore{Backend: &memory.Backend{}}
			r, said, err := runBench(t, t.Context(), s, benchFlags{
				duration: 300 * time.Millisecond, concurrency: 4, sessions: 50, size: 700, mode: mode, rate: 2000,
				mix: "read=4,write=2,locked-read=1,locked-write=1,new=2,login=2,logout=1,gone=1",
			})
			if err != nil {
				t.Fatal(err)
			}
			if r.Requests == 0 || r.Requests > 600 || r.Errors != 0 || len(r.Kinds) != 9 {
				t.Errorf("got %+v", r)
			}
			var sum int64
			for _, k := range r.Kinds {
				if k.P50 > k.P95 || k.P95 > k.P99 || k.P99 > k.Max {
					t.Errorf("got %+v", k)
				}
				if k.Kind != "all" {
					sum += k.Requests
				}
			}
			if sum != r.Requests {
				t.Errorf("got %+v", r)
			}
			if c, d := s.created.Load(), s.deleted.Load(); c < 50 || c != d {
				t.Errorf("%d were created, and %d deleted", c, d)
			}
			if !strings.Contains(said, `keys that begin with "bench-`) {
				t.Errorf("it said %s", said)
			}
		})
	}
}

// TestBenchInterrupted deletes what it wrote all the same.
func TestBenchInterrupted(t *testing.T) {
	t.Parallel()
	s := &memStore{Backend: &memory.Backend{}}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(200*time.Millisecond, cancel)
	_, _, err := runBench(t, ctx, s, benchFlags{duration: time.Hour, concurrency: 4, sessions: 20, mix: "read=1,new=1"})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if c, d := s.created.Load(), s.deleted.Load(); c < 20 || c != d {
		t.Errorf("%d were created, and %d deleted", c, d)
	}
}

func TestBenchFails(t *testing.T) {
	t.Parallel()
	s := &memStore{Backend: &memory.Backend{}, fail: errors.New("on fire"), refuse: errors.New("no")}
	r, _, err := runBench(t, t.Context(), s, benchFlags{duration: 100 * time.Millisecond, concurrency: 2, sessions: 2, mix: "read=1", rate: 100})
	if err == nil || !strings.Contains(err.Error(), "requests failed") || !strings.Contains(err.Error(), "2 of 2 records of bench could not be deleted") {
		t.Errorf("got %v", err)
	}
	if r.Errors != r.Requests || r.Errors == 0 || len(r.Failures) != 1 {
		t.Errorf("got %+v", r)
	}
}

// TestBenchAway wants to be told that money is meant.
func TestBenchAway(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "local")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "local")
	for _, args := range [][]string{{"--region", "us-east-1"}, {"--redis", "redis://redis.invalid:6379"}} {
		got := sessionctl(t.Context(), append([]string{"bench"}, args...)...)
		if got.code != codeUsage || !strings.Contains(got.stderr, "it costs money") || got.stdout != "" {
			t.Errorf("%v: got %+v", args, got)
		}
	}
}

func TestPadding(t *testing.T) {
	for _, c := range []session.Codec{codec.MessagePack{}, codec.JSON{}} {
		for _, size := range []int{0, 1, 20, 100, 278, 279, 280, 700, 65_560, 400_000} {
			pad, err := padding(c, size)
			if err != nil {
				t.Fatal(err)
			}
			got := len(encoded(t, c, map[string]any{benchPad.Name: pad, benchCount.Name: 1000}))
			if size >= 100 && (got > size || got < size-2) || size < 20 && pad != "" {
				t.Errorf("%T: got %d bytes, want %d", c, got, size)
			}
		}
	}
}

func TestPick(t *testing.T) {
	b := &bench{weights: make([]float64, len(kinds))}
	b.weights[1], b.weights[4] = 3, 1
	drawn := map[string]int{}
	for range 10_000 {
		drawn[b.pick()]++
	}
	if len(drawn) != 2 || drawn[kindWrite] < 7000 || drawn[kindWrite] > 8000 {
		t.Errorf("drew %v", drawn)
	}
	for i, name := range kinds { // the kinds are those of a Mix
		m, err := cost.ParseMix(name + "=1")
		if err != nil || m.String() != name+"=1" {
			t.Errorf("%d, %s: %v", i, name, err)
		}
	}
}

func TestLatencies(t *testing.T) {
	var l, m latencies
	if l.quantile(0.5) != 0 {
		t.Error("nothing takes time")
	}
	for i := 1; i <= 1000; i++ {
		m.add(time.Duration(i) * time.Millisecond)
	}
	l.merge(&m)
	for q, want := range map[float64]time.Duration{0.5: 500 * time.Millisecond, 0.99: 990 * time.Millisecond, 1: time.Second} {
		if got := l.quantile(q); got < want || float64(got) > 1.011*float64(want) {
			t.Errorf("%v: got %v, want %v", q, got, want)
		}
	}
	l.add(0)
	l.add(time.Hour)
	if l.most != time.Hour || l.quantile(1) > time.Hour || l.n != 1002 {
		t.Errorf("got %v, %v, %d", l.most, l.quantile(1), l.n)
	}
}
