package main

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session/bench/internal/behaviour"
)

func TestReport(t *testing.T) {
	s := []subject{{name: "session, memory", notes: "defaults", ours: true}, {name: "other <1>", notes: "its own"}, {name: "bare", bare: true}}
	r := &Report{
		Command: "make compare", Date: "2026-01-02", Took: "1m", Machine: []Fact{{"cores", "2"}}, Modules: []Fact{{"example.com/m", "v1.2.3"}},
		Subjects: s, Redis: s[:1], Commands: map[string]map[work]float64{"session, memory": {read: 1, write: 2, fresh: 1}},
		Footprints: []Footprint{{"session, memory", 1000, 208.4}},
		Ratios:     []Ratio{{Store: "Redis", Level: levelHTTP, Work: read, Size: small, Ours: 80, Raw: 64, Ratio: 1.25, Lower: 1.2, Upper: 1.3}},
		Prices:     []Price{{"read", "1 GetItem", 0.5}},
		Handoffs:   []Handoff{{Subject: "a lock", Alone: 271.4, AloneN: 2, Shared: 60, SharedN: 12.1, Apart: 80, ApartN: 8, Does: "nothing"}},
		Peers:      []behaviour.Peer{{Name: "session, memory"}, {Name: "session, redis"}, {Name: "other"}},
		Behaviours: []Seen{{behaviour.Behaviour{Name: "n", Title: "T", What: "W"}, []behaviour.Result{
			{Peer: "session, memory", Verdict: behaviour.Kept, Short: "all", Seen: "it"},
			{Peer: "session, redis", Verdict: behaviour.Kept, Short: "all", Seen: "it"},
			{Peer: "other", Verdict: behaviour.Lost, Short: "half", Seen: "that"},
		}}},
	}
	for _, sub := range s {
		for _, size := range sizes {
			for _, w := range works {
				sp := Speed{Subject: sub.name, Work: w, Size: size, One: cost{4321, 43, 8808}, Two: cost{2345, 43, 8808}, Scaling: 1.84}
				r.Speeds, r.Parallel = append(r.Speeds, sp), append(r.Parallel, sp)
				if sub.ours {
					r.RedisSpeed = append(r.RedisSpeed, sp)
				}
			}
		}
	}
	var text bytes.Buffer
	if err := r.write(&text); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"    make compare\n",
		"2026-01-02, cores 2.",
		"| | **session** | other |\n|---|---|---|\n| [T](#n) | keeps: all | **loses**: half |\n",
		"- session, memory; session, redis: it.\n- other: that.\n",
		"| **session, memory** | 4.32 | 43 | 8808 | 4.32 | 43 | 8808 | 4.32 | 43 | 8808 |\n| other <1> |",
		"| **session, memory** | 4.32 | 2.35 | 1.84 |\n",
		"| _bare_ |",
		"- Keeps what it was given, where that can be asked: **session** 1 of 1; other 0 of 1.\n",
		"- New session, typical session: 4.32 µs; the others 4.32 µs, stores in this process.\n",
		"| session, memory | 1000 | 208 |\n",
		"| Redis | HTTP | read one value | small | 80.0 | 64.0 | **1.25** | 1.20 to 1.30 |\n",
		"| read | 1 GetItem | 0.5 |\n",
		"| **session, memory** | 4.32 | 1 | 4.32 | 2 | 4.32 | 1 |\n",
		"| a lock | 271 | 2 | 60.0 | 12.1 | 80.0 | 8 | nothing |\n",
		"| example.com/m | v1.2.3 |\n",
	} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the page has no %q", want)
		}
	}
	if strings.Contains(text.String(), "quick run") || strings.Contains(text.String(), "<no value>") {
		t.Errorf("got\n%s", &text)
	}

	var picture bytes.Buffer
	if err := r.draw(&picture); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(picture.String(), "4.32 µs"); n != 7 {
		t.Errorf("%d bars, want 7", n)
	}
	for d := xml.NewDecoder(&picture); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("the picture is not XML: %v", err)
		}
	}
}

// TestSpeeds checks that every subject does its work and is counted.
func TestSpeeds(t *testing.T) {
	subjects := local()
	for _, k := range []kind{whole, lean} {
		got, err := speeds(t.Context(), context.Background(), subjects, works, typical, plan{1, time.Microsecond}, k, []way{{1, 1}, {2, 2}})
		if err != nil {
			t.Fatal(err)
		}
		if len(got) != len(subjects)*len(works) {
			t.Errorf("%d results", len(got))
		}
		for _, s := range got {
			if s.One.NS <= 0 || s.Two.NS <= 0 || s.Scaling <= 0 {
				t.Errorf("%+v", s)
			}
		}
	}
}

func TestFootprints(t *testing.T) {
	got, err := footprints(t.Context(), 5_000)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range got {
		if f.Bytes < 50 || f.Bytes > 5000 {
			t.Errorf("%s: %.0f bytes a session", f.Subject, f.Bytes)
		}
	}
}

func TestMiddle(t *testing.T) {
	for _, tt := range []struct {
		vs   []float64
		q    float64
		want float64
	}{
		{[]float64{3, 1, 2}, 0.5, 2},
		{[]float64{4, 1, 2, 3}, 0.5, 2.5},
		{[]float64{5, 4, 3, 2, 1}, 0.25, 2},
		{[]float64{7}, 0.75, 7},
	} {
		if got := quantile(tt.vs, tt.q); got != tt.want {
			t.Errorf("quantile(%v, %v): got %v, want %v", tt.vs, tt.q, got, tt.want)
		}
	}
}

func TestMeter(t *testing.T) {
	m := new(meter)
	m.count(strings.NewReader("*2\r\n$3\r\nGET\r\n$1\r\nk\r\n*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$4\r\n*1\r\n\r\n"))
	if n := m.n.Load(); n != 2 {
		t.Errorf("counted %d commands, want 2", n)
	}
}
