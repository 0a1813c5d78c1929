package main

import (
	"encoding/json"
	"strings"
	"testing"
)

// TestNumbersThatAreNone tries every flag that takes a number or a time with
// what is none, or is too much. Nothing is sent, and nothing printed.
func TestNumbersThatAreNone(t *testing.T) {
	numbers := map[string]string{
		"cost":                       "requests rows touch-share conflicts lock-waits lock-looks peak mix=new size=700",
		"list":                       "read-units",
		"stats":                      "read-units",
		"revoke --user ann":          "read-units",
		"bench":                      "rate mix=read",
		"sweep":                      "read-units write-units",
		"migrate --to-table new":     "rate read-units",
		"cost --provisioned":         "peak",
		"cost --mix read=1,new=1":    "requests rows",
		"cost --sweep-every 1ns":     "rows requests",
		"cost --idle-timeout never":  "rows",
		"cost --size 0=1,409600=0.5": "lock-looks",
	}
	f := newFakeTable(t)
	for command, flags := range numbers {
		for _, flag := range strings.Fields(flags) {
			for _, value := range []string{"NaN", "nan", "Inf", "-Inf", "+inf", "Infinity", "1e400", "1e308", "-1e308", "1e19", "-0.5", "", "1e", "0x", "1e-400x"} {
				if value == "" && (flag == "rows" || flag == "size=700") {
					continue // as if it were not there
				}
				args := append(strings.Fields(command), "--"+flag+"="+value)
				got := f.ctl(t.Context(), "", args...)
				if got.code != codeUsage || got.stdout != "" {
					t.Errorf("%v: got %+v", args, got)
				}
			}
		}
	}
	for _, args := range []string{
		"stats --segments 1000001", "stats --segments -1", "bench --duration 2562047h", "bench --rate 1e-300",
		"sweep --segments 9223372036854775807", "list --limit -1", "list --limit 1e3", "doctor --reads 9223372036854775807",
		"cost --peak 0.5", "cost --lock-looks 1e7", "cost --mix read=1e10", "cost --mix read=1e-10", "cost --writes -1",
		"cost --gap -1s", "cost --touch-interval -1s", "cost --sweep-every -1s", "cost --idle-timeout 1e400h",
	} {
		if got := f.ctl(t.Context(), "", strings.Fields(args)...); got.code != codeUsage || got.stdout != "" {
			t.Errorf("%s: got %+v", args, got)
		}
	}
	if n := len(f.sent); n != 0 {
		t.Errorf("%d requests were sent", n)
	}
}

// TestNumbersAtTheEnd has as much as there may be of each.
func TestNumbersAtTheEnd(t *testing.T) {
	const longest = "2562047h47m16.854775807s"
	for _, args := range []string{
		"--requests 1e18 --mix new=1e9,login=1e-9 --size 409600",
		"--requests 1e-320", "--rows 1e18", "--rows 1e-320 --requests 0", "--lock-looks 1e6 --lock-waits 1 --mode exclusive",
		"--idle-timeout " + longest, "--idle-timeout " + longest + " --absolute-timeout never", "--absolute-timeout " + longest,
		"--touch-interval 2000000h --idle-timeout " + longest + " --absolute-timeout " + longest,
		"--touch-interval 1ns", "--gap " + longest, "--gap 1ns", "--sweep-every 1ns", "--sweep-every " + longest,
		"--provisioned --peak 1e6 --requests 1e18", "--writes 9223372036854775807", "--conflicts 1", "--touch-share 1",
		"--requests 1e18 --sweep-every 1ns --idle-timeout " + longest + " --absolute-timeout never",
	} {
		for _, more := range []string{"", " --json"} {
			got := sessionctl(t.Context(), strings.Fields("cost "+args+more)...)
			if got.code != codeDone ||
				strings.Contains(got.stdout, "NaN") || strings.Contains(got.stdout, "Inf") || strings.Contains(got.stdout, "922,337") {
				t.Errorf("%s: got %+v", args, got)
			}
			if more != "" && !json.Valid([]byte(got.stdout)) {
				t.Errorf("%s: got %s", args, got.stdout)
			}
		}
	}
}
