package main

import (
	"encoding/json"
	"maps"
	"math"
	"testing"
	"time"
)

func TestDoctor(t *testing.T) {
	denied := refuses(400, "AccessDeniedException", "no")
	tests := []struct {
		name string
		does map[string]answer
		args []string
		code int
		want map[string]status // those that are not ok
	}{
		{"good", goodTable(), nil, codeDone, nil},
		{"operator without writes", with(map[string]answer{"UpdateItem": denied}), nil, codeFound, map[string]status{"permission": isFail}},
		{"set-up without writes", with(map[string]answer{"UpdateItem": denied}), []string{"--role", "set-up"}, codeDone, map[string]status{"permission": isWarn}},
		{"application without writes", with(map[string]answer{"UpdateItem": denied}), []string{"--role", "application"}, codeFound, map[string]status{"permission": isFail}},
		{"application", with(map[string]answer{"DescribeTable": denied, "Scan": denied}), []string{"--role", "application"}, codeDone, map[string]status{"permission": isWarn}},
		{"wrong key", with(map[string]answer{"DescribeTable": wrongKey()}), nil, codeFound, map[string]status{"table": isFail}},
		{"TTL off", with(map[string]answer{"DescribeTimeToLive": says(object{})}), nil, codeFound, map[string]status{"TTL": isFail}},
		{"no table", with(map[string]answer{"DescribeTable": refuses(400, "ResourceNotFoundException", "no")}), nil, codeFound, map[string]status{"table": isFail}},
		{"expired", map[string]answer{"": refuses(400, "ExpiredTokenException", "no")}, nil, codeFound, map[string]status{"endpoint": isFail}},
		{"foreign", with(map[string]answer{"Scan": says(object{
			"Items": []any{object{"id": object{"S": "PHPSESSID"}, "expires": object{"N": "1"}}}, "Count": 1, "ScannedCount": 1,
		})}), nil, codeDone, map[string]status{"records": isWarn}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := newFakeDynamoDB(t, tt.does)
			got := sessionctl(t.Context(), append([]string{"doctor", "--json", "--reads=3", "--endpoint", f.URL}, tt.args...)...)
			var result doctorResult
			if err := json.Unmarshal([]byte(got.stdout), &result); err != nil || got.stderr != "" {
				t.Fatalf("got %v, %+v", err, got)
			}
			bad := make(map[string]status)
			for _, c := range result.Checks {
				if c.Status != isOK {
					bad[c.Name] = c.Status
				}
			}
			if got.code != tt.code || result.OK != (tt.code == codeDone) || !maps.Equal(bad, tt.want) {
				t.Errorf("got code %d, %s", got.code, got.stdout)
			}
			if sent := len(f.sent); sent != result.Requests {
				t.Errorf("it sent %d requests, and says %d", sent, result.Requests)
			}
		})
	}
}

func TestClock(t *testing.T) {
	local := time.Date(2026, 11, 23, 12, 0, 0, 500_000_000, time.UTC)
	tests := []struct {
		name  string
		ahead time.Duration // of the server
		want  status
	}{
		{"right", 0, isOK},
		{"hardly wrong", 900 * time.Millisecond, isOK},
		{"behind", 3 * time.Second, isWarn},
		{"ahead", -3 * time.Second, isWarn},
		{"far behind", time.Hour, isFail},
		{"far ahead", -time.Hour, isFail},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := &doctor{app: &app{globals: globals{json: true}}}
			c := newClock()
			for i := range 10 {
				sent := local.Add(time.Duration(i) * 70 * time.Millisecond)
				received := sent.Add(20 * time.Millisecond)
				c.saw(sent, received, sent.Add(10*time.Millisecond+tt.ahead).Truncate(time.Second), time.Second)
			}
			if c.atLeast > tt.ahead || c.atMost < tt.ahead {
				t.Errorf("got %v to %v, which is not right", c.atLeast, c.atMost)
			}
			d.clock(c)
			if got := d.result.Checks[0]; got.Status != tt.want {
				t.Errorf("got %+v", got)
			}
		})
	}
	silent := &doctor{app: &app{globals: globals{json: true}}}
	c := newClock()
	c.saw(local, local, time.Time{}, time.Second)
	silent.clock(c)
	if got := silent.result.Checks[0]; got.Status != isWarn {
		t.Errorf("without a Date: got %+v", got)
	}
}

func TestPercentiles(t *testing.T) {
	var took []time.Duration
	for i := 100; i > 0; i-- {
		took = append(took, time.Duration(i)*time.Millisecond)
	}
	if got := *percentiles(took); got != (latency{100, 50, 95, 99, 100}) {
		t.Errorf("got %+v", got)
	}
	if got := *percentiles(took[:1]); got != (latency{1, 1, 1, 1, 1}) {
		t.Errorf("of one: got %+v", got)
	}
}

func TestSpan(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0:                       "0 ms",
		-time.Second:            "-1.0 s",
		250 * time.Microsecond:  "0.25 ms",
		15 * time.Millisecond:   "15 ms",
		2500 * time.Millisecond: "2.5 s",
		59 * time.Second:        "59 s",
		70 * time.Second:        "1 min 10 s",
		100 * time.Minute:       "1 h 40 min",
		80 * time.Hour:          "3 days",
		math.MaxInt64:           "106751 days",
	} {
		if got := span(d); got != want {
			t.Errorf("%v: got %q, want %q", d, got, want)
		}
	}
}

func TestNumbers(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", -1234567: "-1,234,567"} {
		if got := count(n); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1536: "1.5 KB", 3 << 30: "3.0 GB", 5000 << 50: "5000.0 PB"} {
		if got := size(n); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	for f, want := range map[float64]string{0: "0", 50.5: "50.5", 1234567: "1,234,567", 0.25: "0.2"} {
		if got := units(f); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	for s, want := range map[string]string{"abc": "abc", "a\x1b[2J": `"a\x1b[2J"`, `a"b`: `"a\"b"`, "ü": "ü"} {
		if got := printable(s); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestRedisServer(t *testing.T) {
	tests := []struct {
		info string
		look func(*doctor, map[string]string)
		want status
	}{
		{"maxmemory:0\r\nmaxmemory_policy:noeviction\r\nused_memory:1000\r\n", (*doctor).eviction, isOK},
		{"maxmemory:10000\r\nmaxmemory_policy:noeviction\r\nused_memory:1000\r\n", (*doctor).eviction, isOK},
		{"maxmemory:1000\r\nmaxmemory_policy:noeviction\r\nused_memory:900\r\n", (*doctor).eviction, isWarn},
		{"maxmemory:0\r\nmaxmemory_policy:allkeys-lru\r\n", (*doctor).eviction, isWarn},
		{"maxmemory:1000\r\nmaxmemory_policy:volatile-ttl\r\n", (*doctor).eviction, isFail},
		{"maxmemory:0\r\nmaxmemory_policy:allkeys-lru\r\nevicted_keys:7\r\n", (*doctor).eviction, isFail},
		{"# Memory\r\n", (*doctor).eviction, isWarn},
		{"aof_enabled:1\r\naof_last_write_status:ok\r\n", (*doctor).persistence, isOK},
		{"aof_enabled:0\r\n", (*doctor).persistence, isWarn},
		{"aof_enabled:1\r\naof_last_write_status:err\r\n", (*doctor).persistence, isFail},
		{"aof_enabled:0\r\nrdb_last_bgsave_status:err\r\n", (*doctor).persistence, isFail},
	}
	for _, tt := range tests {
		d := &doctor{app: &app{globals: globals{json: true}}}
		tt.look(d, parseInfo(tt.info))
		if len(d.result.Checks) != 1 || d.result.Checks[0].Status != tt.want {
			t.Errorf("%q: got %+v, want %s", tt.info, d.result.Checks, tt.want)
		}
	}
}
