package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestStats(t *testing.T) {
	f := shopTable(t)
	got := f.ctl(t.Context(), "", "stats", "--json")
	var r statsReport
	if err := json.Unmarshal([]byte(got.stdout), &r); err != nil || got.code != codeDone {
		t.Fatalf("got %v, %+v", err, got)
	}
	if r.Total != 8 || r.Live != 4 || r.Moved != 1 || r.Locked != 1 || r.Expired != 2 || r.Foreign != 1 || r.Sampled || r.Records != 8 || r.ExpiredShare != 0.25 || r.ReadUnits != 4 {
		t.Errorf("got %+v", r)
	}
	sums := map[string]int64{"Size of a record": 8, "Age of a live session": 4, "Time until a live session ends": 4, "Time since a session expired": 2}
	for _, h := range r.Histograms {
		var sum int64
		for _, b := range h.Buckets {
			sum += b.Count
		}
		if sum != sums[h.Name] {
			t.Errorf("got %+v", h)
		}
	}
	if p := r.Projection; p == nil || p.StorageGB <= 0 || p.SweepWriteUnits != 2 || p.SweepReadUnits != 1 || p.Prices.Region != "us-east-1" {
		t.Errorf("got %+v", p)
	}

	text := f.ctl(t.Context(), "", "stats").stdout
	for _, want := range []string{"Expired", "25 %", "up to 4 KB", "1 records have been expired for more than 3 days", "A sweep each day", "####"} {
		if !strings.Contains(text, want) {
			t.Errorf("there is no %q in\n%s", want, text)
		}
	}
	if strings.ContainsFunc(text, func(r rune) bool { return r >= utf8.RuneSelf }) {
		t.Errorf("not plain:\n%s", text)
	}
}

func TestStatsSample(t *testing.T) {
	f := newFakeTable(t) // which says that it has 1,234,567 items
	for i := range 300 {
		left := time.Hour
		if i%3 == 0 {
			left = -time.Hour
		}
		f.put(fmt.Sprint("k", i), []byte("x"), 2*time.Hour, left, 0)
	}
	got := f.ctl(t.Context(), "", "stats", "--sample", "100", "--json")
	var r statsReport
	if err := json.Unmarshal([]byte(got.stdout), &r); err != nil {
		t.Fatalf("got %v, %+v", err, got)
	}
	if !r.Sampled || r.Total != 100 || r.Records != 1234567 || f.scanned != 100 {
		t.Errorf("read %d, got %+v", f.scanned, r)
	}
	want := float64(r.Expired) * 1234567 / 100
	if p := r.Projection; p == nil || p.SweepWriteUnits < want-1 || p.SweepWriteUnits > want+1 {
		t.Errorf("got %+v, want %v", p, want)
	}
	if text := f.ctl(t.Context(), "", "stats", "--sample", "100").stdout; !strings.Contains(text, "of about 1,234,567") {
		t.Errorf("got\n%s", text)
	}
	// In a region without prices it counts all the same.
	got = f.ctl(t.Context(), "", "stats", "--region", "mars-1")
	if got.code != codeDone || !strings.Contains(got.stdout, "There is no projection") || !strings.Contains(got.stdout, "mars-1") {
		t.Errorf("got %+v", got)
	}
}

func TestStatsOfNothing(t *testing.T) {
	got := newFakeTable(t).ctl(t.Context(), "", "stats")
	if got.code != codeDone || strings.Contains(got.stdout, "NaN") || !strings.Contains(got.stdout, "Records") {
		t.Errorf("got %+v", got)
	}
}

func TestBars(t *testing.T) {
	tests := []struct {
		share         float64
		ascii, blocks string
	}{
		{0, "", ""},
		{1e-9, "#", "▏"},
		{0.5, strings.Repeat("#", 20), strings.Repeat("█", 20)},
		{0.51, strings.Repeat("#", 20), strings.Repeat("█", 20) + "▍"},
		{1, strings.Repeat("#", 40), strings.Repeat("█", 40)},
	}
	for _, tt := range tests {
		if a, b := asciiBar(tt.share), blockBar(tt.share); a != tt.ascii || b != tt.blocks {
			t.Errorf("%v: got %q and %q", tt.share, a, b)
		}
	}
}
