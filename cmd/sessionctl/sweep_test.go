package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session/admin"
)

// expiredTable has n sessions on one page that expired long ago.
func expiredTable(n int) map[string]answer {
	var items []any
	for i := range n {
		items = append(items, object{
			"id": object{"S": fmt.Sprint("key-", i)}, "expires": object{"N": "1000"},
			"created": object{"N": "1000"}, "version": object{"B": "MTIzNDU2Nzg="},
		})
	}
	return with(map[string]answer{
		"Scan": func(body map[string]any) (int, any) {
			if body["Segment"] != 0. {
				return http.StatusOK, object{"Items": []any{}, "Count": 0, "ScannedCount": 0, "ConsumedCapacity": object{"CapacityUnits": 0.5}}
			}
			return http.StatusOK, object{"Items": items, "Count": n, "ScannedCount": n, "ConsumedCapacity": object{"CapacityUnits": 0.5}}
		},
		"DeleteItem": says(object{"ConsumedCapacity": object{"CapacityUnits": 1}}),
	})
}

// The width of a column depends on how long the sweep took.
var spaces = regexp.MustCompile(" +")

func TestSweep(t *testing.T) {
	denied := refuses(400, "AccessDeniedException", "no")
	without := func(op string, a answer) map[string]answer {
		does := expiredTable(10)
		does[op] = a
		return does
	}
	// onceDenied refuses the first request.
	onceDenied := func(op string) map[string]answer {
		does := expiredTable(10)
		usual := does[op]
		var n atomic.Int32
		does[op] = func(body map[string]any) (int, any) {
			if n.Add(1) == 1 {
				return denied(body)
			}
			return usual(body)
		}
		return does
	}
	tests := []struct {
		name   string
		does   map[string]answer
		args   string
		code   int
		stdout string
		stderr string // a part
	}{
		{"all", expiredTable(10), "", codeDone, "scanned 10\nexpired 10\ndeleted 10\nread units 16\nwrite units 10\n", "about 1,234,567 items"},
		{"quiet", expiredTable(10), "--quiet", codeDone, "", ""},
		{"dry run", expiredTable(10), "--dry-run", codeDone, "would be deleted 10\n", "Looking through the table"},
		{"kept", without("DeleteItem", refuses(400, "ConditionalCheckFailedException", "")), "", codeDone, "kept 10 locked, or renewed or deleted since the sweep found them\n", ""},
		{"without a total", without("DescribeTable", denied), "", codeDone, "deleted 10\n", "Sweeping through the table"},
		{"no permission", without("Scan", denied), "", codeFailed, "", "do not allow dynamodb:Scan on table \"sessions\""},
		{"no deletes", without("DeleteItem", denied), "-q", codeFailed, "deleted 0\n", "Grant it: \"sessionctl iam sweeper\" prints the policy. Deleted sessions stay deleted."},
		{"errors passed over", onceDenied("DeleteItem"), "--max-errors=1", codeDone, "deleted 9\nfailed 1 left to the next sweep\n", "1 error was passed over, the first: The AWS credentials do not allow dynamodb:DeleteItem"},
		{"too many errors", without("DeleteItem", denied), "--max-errors=3", codeFailed, "deleted 0\n", "3 errors were passed over"},
		{"left out", onceDenied("Scan"), "--max-errors=1 --workers=1 --batch-delay=1ms", codeStopped, "scanned 0\n", "The sweep is not complete, because of the errors."},
		{"wrong key", without("DescribeTable", wrongKey()), "", codeFailed, "", "nothing was deleted"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := newFakeDynamoDB(t, tt.does)
			got := sessionctl(t.Context(), append([]string{"sweep", "--endpoint", f.URL}, strings.Fields(tt.args)...)...)
			stdout := spaces.ReplaceAllString(got.stdout, " ")
			if got.code != tt.code || !strings.Contains(stdout, tt.stdout) || !strings.Contains(got.stderr, tt.stderr) ||
				tt.name == "quiet" && got.stdout+got.stderr != "" {
				t.Errorf("got code %d\n%s%s\nwant %d, %q and %q", got.code, got.stdout, got.stderr, tt.code, tt.stdout, tt.stderr)
			}
		})
	}
}

// TestSweepStopped has a sweep that is told to end while it waits.
func TestSweepStopped(t *testing.T) {
	f := newFakeDynamoDB(t, expiredTable(10))
	file := filepath.Join(t.TempDir(), "sweep")
	ctx, cancel := context.WithCancel(t.Context())
	f.does["Scan"] = func(body map[string]any) (int, any) {
		if body["Segment"] == 0. {
			cancel()
		}
		return http.StatusOK, object{"Items": []any{}, "ScannedCount": 1, "ConsumedCapacity": object{"CapacityUnits": 0.5}}
	}
	args := []string{"sweep", "--endpoint", f.URL, "--resume", file, "--workers=1"}
	got := sessionctl(ctx, args...)
	if got.code != codeStopped || !strings.HasSuffix(got.stderr, "sessionctl: Stopped before the end.\nThe same command goes on from here.\n") {
		t.Fatalf("got %+v", got)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("got %v, %v", info, err)
	}
	f.does["Scan"] = expiredTable(10)["Scan"]
	if got := sessionctl(t.Context(), append(args, "--table=others")...); got.code != codeUsage || !strings.Contains(got.stderr, `is of a sweep of table "sessions"`) {
		t.Errorf("another table: got %+v", got)
	}
	if got := sessionctl(t.Context(), args...); got.code != codeDone {
		t.Errorf("resumed: got %+v", got)
	}
	if _, err := os.Stat(file); !os.IsNotExist(err) {
		t.Errorf("the file is still there: %v", err)
	}
}

// TestSweepSavedLate cannot write its file for a while, and can at the end.
func TestSweepSavedLate(t *testing.T) {
	f := newFakeDynamoDB(t, expiredTable(10))
	dir := filepath.Join(t.TempDir(), "here")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	f.does["Scan"] = func(body map[string]any) (int, any) {
		if body["Segment"] == 1. { // Segment 0 is counted by then, so there is progress to note
			err := os.Rename(dir, dir+".not")
			time.Sleep(time.Second)
			if err = errors.Join(err, os.Rename(dir+".not", dir)); err != nil {
				t.Error(err)
			}
			cancel()
		}
		return http.StatusOK, object{"Items": []any{}, "ScannedCount": 1, "ConsumedCapacity": object{"CapacityUnits": 0.5}}
	}
	got := sessionctl(ctx, "sweep", "--endpoint", f.URL, "--resume", filepath.Join(dir, "sweep"), "--workers=1")
	if got.code != codeStopped || !strings.HasSuffix(got.stderr, "The same command goes on from here.\n") {
		t.Errorf("got %+v", got)
	}
}

func TestCheckpoint(t *testing.T) {
	s := &dynamoStore{table: "sessions", region: "eu-west-1"}
	path := filepath.Join(t.TempDir(), "sweep")
	c, err := loadCheckpoint(t.Context(), path, s)
	if err != nil || c.Checkpoint != nil {
		t.Fatalf("no file: got %+v, %v", c, err)
	}
	if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 0 {
		t.Errorf("looking leaves files behind: %v, %v", entries, err)
	}
	for n := range int64(3) {
		if err := c.save(admin.Report{Scanned: n, Checkpoint: []byte("here")}); err != nil {
			t.Fatal(err)
		}
	}
	again, err := loadCheckpoint(t.Context(), path, s)
	if err != nil || again.Scanned != 2 || string(again.Checkpoint) != "here" {
		t.Errorf("got %+v, %v", again, err)
	}
	if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 1 {
		t.Errorf("saving leaves files behind: %v, %v", entries, err)
	}

	known := &dynamoStore{table: "sessions", region: "eu-west-1", id: "one"}
	if _, err := loadCheckpoint(t.Context(), path, known); err != nil {
		t.Errorf("without the ID of the table: %v", err)
	}
	again.TableID = "another"
	if err := again.save(admin.Report{Checkpoint: []byte("here")}); err != nil {
		t.Fatal(err)
	}
	if _, err := loadCheckpoint(t.Context(), path, known); err == nil || !strings.Contains(err.Error(), "in another account or deleted since") {
		t.Errorf("of another table with this name: %v", err)
	}

	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string]string{
		"empty":  "",
		"cut":    string(good[:len(good)/2]),
		"other":  "{}",
		"format": strings.Replace(string(good), `"format":1`, `"format":2`, 1),
	} {
		if err := os.WriteFile(path, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := loadCheckpoint(t.Context(), path, s); err == nil || !strings.Contains(err.Error(), "sweep did not write") {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if _, err := loadCheckpoint(t.Context(), filepath.Join(path, "no", "folder"), s); err == nil {
		t.Error("a file that cannot be written is found out too late")
	}
	if err := again.remove(); err != nil {
		t.Error(err)
	}
	if err := again.remove(); err != nil {
		t.Errorf("removed already: %v", err)
	}
}

// TestMeterLines has what is written where nobody watches.
func TestMeterLines(t *testing.T) {
	var stderr bytes.Buffer
	begun := time.Now().Add(-10 * time.Second)
	m := &sweepMeter{
		a: &app{stderr: &output{w: &stderr}}, every: lineEvery, total: 30_000, base: 10_000, begun: begun, shown: begun,
		last: admin.Report{Scanned: 10_000, ReadUnits: 80, WriteUnits: 50},
	}
	r := admin.Report{Scanned: 20_000, Expired: 5_000, Deleted: 4_000, ReadUnits: 180, WriteUnits: 4_050}
	m.show(r)
	m.show(r) // too soon
	want := "10 s: 20,000 of about 30,000 scanned, 1000/s; 5,000 expired, 4,000 deleted; 10 read and 400 write units/s; about 10 s left\n"
	if got := stderr.String(); got != want {
		t.Errorf("got  %swant %s", got, want)
	}
}

// TestBar is a smoke test: what it draws is for eyes.
func TestBar(t *testing.T) {
	var out bytes.Buffer
	b := drawBar(&out, "Sweeping", 100)
	b.set(50, "below")
	b.set(150, "below")
	b.close()
	drawBar(&out, "Waiting", 0).close()
	var none *bar
	none.set(1, "")
	none.close()
}

// TestSweepRedis has nothing to do.
func TestSweepRedis(t *testing.T) {
	got := sessionctl(t.Context(), "sweep", "--redis", "redis://127.0.0.1:1", "--json")
	var result sweepResult
	if err := json.Unmarshal([]byte(got.stdout), &result); err != nil || got.code != codeDone || !result.Complete || got.stderr != "" {
		t.Errorf("got %v, %+v", err, got)
	}
}

// TestSweepResumeUnusable is given files of which the sweep would not be one.
// They stay, and nothing is looked at.
func TestSweepResumeUnusable(t *testing.T) {
	f := newFakeDynamoDB(t, expiredTable(10))
	path := filepath.Join(t.TempDir(), "sweep")
	begun := func(segments, more string) string {
		return fmt.Sprintf(`{"version":1,"table":"sessions","key_attribute":"id","cutoff":1700000000,"grace":60000000000,"segments":%s,"tally":{"scanned":5}%s}`, segments, more)
	}
	for name, tt := range map[string]struct {
		point string
		says  string
	}{
		"all done":      {begun(`[{"done":true},{"done":true}]`, ""), "nothing is left to do"},
		"no segments":   {begun(`[]`, ""), "0 segments"},
		"another table": {strings.Replace(begun(`[{}]`, ""), "sessions", "others", 1), "begun with --table others"},
		"another key":   {strings.Replace(begun(`[{}]`, ""), `"id"`, `"sid"`, 1), "--key-attribute sid"},
		"a prefix":      {begun(`[{}]`, `,"key_prefix":"x"`), "another --key-prefix"},
		"dry":           {begun(`[{}]`, `,"dry_run":true`), "--dry-run true"},
		"later":         {strings.Replace(begun(`[{}]`, ""), "1700000000", "99999999999", 1), "in the future"},
		"version":       {strings.Replace(begun(`[{}]`, ""), `"version":1`, `"version":2`, 1), "version is 2"},
		"empty":         {"", "sweep did not write"},
		"cut":           {begun(`[{}]`, "")[:50], "not a checkpoint"},
		"text":          {"here", "not a checkpoint"},
		"counters":      {strings.Replace(begun(`[{}]`, ""), `"scanned":5`, `"write_units":1e308`, 1), "larger than any"},
	} {
		data, err := json.Marshal(checkpoint{Format: 1, Table: "sessions", Region: "us-east-1", Endpoint: f.URL, Checkpoint: []byte(tt.point)})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		got := sessionctl(t.Context(), "sweep", "--endpoint", f.URL, "--resume", path, "--quiet")
		if got.code == codeDone || got.code == codeStopped || got.stdout != "" || !strings.Contains(got.stderr, tt.says) || !strings.Contains(got.stderr, "remove it to begin anew") {
			t.Errorf("%s: got %+v", name, got)
		}
		if _, err := os.Stat(path); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, op := range f.sent {
		if op != "DescribeTable" {
			t.Errorf("%s was sent", op)
		}
	}
	if got := sessionctl(t.Context(), "sweep", "--endpoint", f.URL, "--resume="); got.code != codeUsage {
		t.Errorf("without a name: got %+v", got)
	}
}

// TestSweepClockAhead saves what it has done also if the file was last written
// by a clock that was ahead.
func TestSweepClockAhead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sweep")
	s := &dynamoStore{table: "sessions"}
	data, err := json.Marshal(checkpoint{Format: 1, Table: "sessions", Saved: time.Now().Add(time.Hour), Checkpoint: []byte("here")})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if c, err := loadCheckpoint(t.Context(), path, s); err != nil || time.Since(c.Saved) < time.Second {
		t.Errorf("got %+v, %v", c, err)
	}
}
