package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed-a7bee19b/session/cmd/sessionctl/cost"
)

// costOf runs cost offline.
func costOf(t *testing.T, args ...string) costReport {
	t.Helper()
	got := sessionctl(t.Context(), append([]string{"cost", "--json"}, args...)...)
	var r costReport
	if err := json.Unmarshal([]byte(got.stdout), &r); err != nil || got.code != codeDone || got.stderr != "" {
		t.Fatalf("%v: got %v, %+v", args, err, got)
	}
	return r
}

func TestCost(t *testing.T) {
	r := costOf(t, "--requests", "1M", "--mix", "read=1", "--touch-share", "0")
	if e := r.Estimate; e.Requests != 1e6 || e.ReadUnits != 1e6 || e.WriteUnits != 0 || e.Money.Reads != 0.125 {
		t.Errorf("got %+v", e)
	}
	if len(r.Changes) < 8 || len(r.Operations) < 8 || r.Prices.Date == "" || len(r.ByRequest) != 1 {
		t.Errorf("got %+v", r)
	}
	// Every flag has an effect.
	base := costOf(t, "--requests", "1M")
	for _, args := range [][]string{
		{"--mix", "write=1"}, {"--size", "5000"}, {"--mode", "exclusive"}, {"--safe-mode", "read-only"},
		{"--idle-timeout", "1h"}, {"--idle-timeout", "never"}, {"--touch-interval", "1m"}, {"--gap", "10m"}, {"--touch-share", "1"},
		{"--eventually-consistent"}, {"--conflicts", "0.5"}, {"--mode", "exclusive", "--lock-waits", "0.5"},
		{"--rows", "10M"}, {"--provisioned"}, {"--provisioned", "--peak", "100"}, {"--sweep-every", "1h"},
		{"--absolute-timeout", "1h"}, {"--owners", "1"},
	} {
		if got := costOf(t, append([]string{"--requests", "1M"}, args...)...); got.Estimate.Money == base.Estimate.Money {
			t.Errorf("%v changes nothing", args)
		}
	}
	near := []string{"--requests", "1M", "--size", "850"}
	once := costOf(t, append(near, "--writes", "1")...)
	if often := costOf(t, append(near, "--writes", "100")...); often.Estimate.WriteUnits <= once.Estimate.WriteUnits {
		t.Errorf("got %+v", often)
	}
	if long := costOf(t, append(near, "--writes", "1", "--data-attribute", strings.Repeat("d", 100))...); long.Estimate.WriteUnits <= once.Estimate.WriteUnits {
		t.Errorf("got %+v", long)
	}
}

func TestCostText(t *testing.T) {
	for _, tt := range []struct {
		args string
		want []string
	}{
		{"cost", []string{"10,000,000 requests of the application", "GetItem", "EventuallyConsistentReads", "locking read", "destroy", "collect: TTL", "Prices of 20"}},
		{"cost --provisioned --sweep-every 24h", []string{"all the time", "Sweep: scan", "TTL in place of the sweep", "on demand"}},
		{"cost --requests 0", []string{"0 requests"}},
	} {
		got := sessionctl(t.Context(), strings.Fields(tt.args)...)
		if got.code != codeDone || strings.Contains(got.stdout, "NaN") || strings.Contains(got.stdout, "Inf") {
			t.Errorf("%s: got %+v", tt.args, got)
		}
		for _, want := range tt.want {
			if !strings.Contains(got.stdout, want) {
				t.Errorf("%s: there is no %q in\n%s", tt.args, want, got.stdout)
			}
		}
	}
}

func TestCostPrices(t *testing.T) {
	shown := sessionctl(t.Context(), "cost", "--show-prices")
	if _, err := cost.ParsePrices([]byte(shown.stdout)); err != nil || shown.code != codeDone {
		t.Fatalf("got %v, %+v", err, shown)
	}
	file := filepath.Join(t.TempDir(), "prices.json")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(strings.NewReplacer("us-east-1", "mars-1", "0.125", "125", `"standard"`, `"rare"`, "USD", "EUR").Replace(shown.stdout))
	r := costOf(t, "--prices", file, "--region", "mars-1", "--table-class", "rare", "--mix", "read=1", "--touch-share", "0", "--requests", "1M")
	if r.Estimate.Money.Reads != 125 || r.Prices.Currency != "EUR" {
		t.Errorf("got %+v", r)
	}
	for _, tt := range []struct{ args, want string }{
		{"--region mars-1", "no prices for region"},
		{"--table-class rare", "no prices for table class"},
		{"--prices " + file + "x", "no such file"},
	} {
		got := sessionctl(t.Context(), append([]string{"cost"}, strings.Fields(tt.args)...)...)
		if got.code != codeFailed || !strings.Contains(got.stderr, tt.want) || got.stdout != "" {
			t.Errorf("%s: got %+v", tt.args, got)
		}
	}
	write("{}")
	if got := sessionctl(t.Context(), "cost", "--prices", file); got.code != codeFailed || !strings.Contains(got.stderr, "prices.json") {
		t.Errorf("got %+v", got)
	}
}

func TestParseNumber(t *testing.T) {
	for s, want := range map[string]float64{"0": 0, "12": 12, "1.5k": 1500, "10M": 1e7, "2G": 2e9, "1,000": 1000} {
		if got, err := parseNumber("n", s); err != nil || got != want {
			t.Errorf("%q: got %v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "k", "-1", "1kk", "NaN", "Inf", "1e30"} {
		if got, err := parseNumber("n", s); err == nil {
			t.Errorf("%q: got %v", s, got)
		}
	}
}

func TestAmounts(t *testing.T) {
	tests := []struct{ got, want string }{
		{amount(0), "0"}, {amount(0.123), "0.12"}, {amount(3.14159), "3.1"}, {amount(1234.4), "1,234"}, {amount(-2e6), "-2,000,000"},
		{price(0), "0.00"}, {price(0.001), "0.0010"}, {price(1234.567), "1,234.57"}, {price(-1234.567), "-1,234.57"}, {price(-0.5), "-0.50"},
		{percent(0.031), "3.1 %"}, {percent(0.5), "50 %"}, {signed(0.5, percent), "+50 %"}, {signed(-0.5, percent), "-50 %"},
		{signed(0, amount), "0"}, {signed(-1e-9, percent), "0"},
		{coarse(500 * 1e6), "0 s"}, {coarse(50 * 1e9), "50 s"}, {coarse(600 * 1e9), "10 min"}, {coarse(9000 * 1e9), "2.5 h"}, {coarse(864000 * 1e9), "10 days"},
	}
	for _, tt := range tests {
		if tt.got != tt.want {
			t.Errorf("got %q, want %q", tt.got, tt.want)
		}
	}
}
