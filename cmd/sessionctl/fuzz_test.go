package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/admin"
	"github.com/seed-a7bee19b/session/codec"
)

// Whatever is asked of it, cost prints numbers, or says what is wrong.
func FuzzCostFlags(f *testing.F) {
	f.Add("10M", "read=80,new=20", "700", "1m", "2h", "24h", "0s", "4", "0.1")
	f.Add("1e18", "new=1e9", "0=1,409600=1e-9", "2562047h", "never", "2562047h", "1ns", "1e6", "1")
	f.Add("1e-320", "login=1e-9", "1", "1ns", "1ns", "never", "2562047h", "1", "0")
	f.Fuzz(func(t *testing.T, requests, mix, sizes, gap, idle, absolute, sweep, peak, share string) {
		for _, more := range []string{"--json", "--provisioned"} {
			got := sessionctl(t.Context(), "cost", "--requests="+requests, "--mix="+mix, "--size="+sizes, "--gap="+gap, "--idle-timeout="+idle,
				"--absolute-timeout="+absolute, "--sweep-every="+sweep, "--peak="+peak, "--conflicts="+share, "--lock-waits="+share, more)
			checkOutcome(t, got)
			if got.code != codeDone && got.code != codeUsage || strings.Contains(got.stdout, "NaN") || strings.Contains(got.stdout, "Inf") ||
				more == "--json" && got.code == codeDone && !json.Valid([]byte(got.stdout)) {
				t.Fatalf("got %+v", got)
			}
		}
	})
}

// checkOutcome holds what was printed to what may be.
func checkOutcome(t *testing.T, got outcome) {
	t.Helper()
	if err := errors.Join(seen(got.stdout), seen(got.stderr)); err != nil {
		t.Fatal(err)
	}
	if got.code == codeUsage && got.stdout != "" || got.code != codeDone && got.stdout+got.stderr == "" {
		t.Fatalf("got %+v", got)
	}
}

// A file of --resume is that of a sweep of this table, or wrong usage.
func FuzzResumeFile(f *testing.F) {
	good, err := json.Marshal(checkpoint{Format: 1, Table: "sessions", Region: "eu-west-1", Saved: time.Unix(1, 0), Checkpoint: []byte("here")})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(bytes.Replace(good, []byte("sessions"), []byte(`\u001b]0;`), 1))
	f.Add([]byte("{}"))
	path := filepath.Join(f.TempDir(), "sweep")
	s := &dynamoStore{table: "sessions", region: "eu-west-1"}
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := loadCheckpoint(t.Context(), path, s)
		if err != nil {
			var exit *exitError
			if !errors.As(err, &exit) || exit.code != codeUsage {
				t.Fatal(err)
			}
			var stderr bytes.Buffer
			(&app{stderr: &output{w: &stderr}}).note("%v", err)
			if err := seen(stderr.String()); err != nil {
				t.Fatal(err)
			}
			return
		}
		if c.Table != s.table || c.Region != s.region || len(c.Checkpoint) == 0 || !c.Saved.IsZero() {
			t.Fatalf("took %+v", c)
		}
		if err := c.save(admin.Report{Checkpoint: c.Checkpoint}); err != nil {
			t.Fatal(err)
		}
		if again, err := loadCheckpoint(t.Context(), path, s); err != nil || !bytes.Equal(again.Checkpoint, c.Checkpoint) {
			t.Fatalf("%+v became %+v, %v", c, again, err)
		}
	})
}

// What comes on standard input is a token, or keys, or wrong; a token is not
// repeated.
func FuzzInput(f *testing.F) {
	f.Add("__Host-session=kGx4w9sXl8bKzQZ1aJ0m3Yt6uRfEoNvC;\n")
	f.Add("kGx4w9sXl8bKzQZ1aJ0m3Yt6uRfEoNvC\r\n\r\nb\n")
	f.Add(strings.Repeat("k", 600))
	f.Fuzz(func(t *testing.T, in string) {
		key, err := tokenKey(strings.NewReader(in))
		if err == nil && (len(key) != tokenChars || strings.Contains(in, key)) || err != nil && key != "" {
			t.Fatalf("got %q, %v", key, err)
		}
		if word := strings.TrimSpace(in); err != nil && len(word) > 8 && !strings.Contains(errToken.Error(), word) && strings.Contains(err.Error(), word) {
			t.Fatalf("repeats it: %v", err)
		}
		keys, err := readKeys(strings.NewReader(in))
		if err != nil {
			return
		}
		for _, key := range keys {
			if key == "" || strings.Contains(key, "\n") || !strings.Contains(in, key) {
				t.Fatalf("got key %q", key)
			}
			if n := len(key); (checkKey(key) == nil) != (n <= 512) {
				t.Fatalf("%d bytes: %v", n, checkKey(key))
			}
		}
	})
}

// Names become part of a policy: they must be what they say, or be refused.
func FuzzNames(f *testing.F) {
	f.Add("sessions", "eu-west-1", "123456789012", "", "id", "operator")
	f.Add("a/../*", "x:y", "*", "aws-cn", "\x1b", "application")
	f.Fuzz(func(t *testing.T, table, region, account, partition, key, role string) {
		got := sessionctl(t.Context(), "iam", "--table="+table, "--region="+region, "--account="+account, "--partition="+partition, "--key-attribute="+key, "--", role)
		checkOutcome(t, got)
		if got.code == codeUsage {
			return
		}
		var p policy
		if err := json.Unmarshal([]byte(got.stdout), &p); err != nil || got.code != codeDone || len(p.Statement) != 1 {
			t.Fatalf("got %v, %+v", err, got)
		}
		arn := strings.Split(p.Statement[0].Resource, ":")
		if len(arn) != 6 || arn[5] != "table/"+table || strings.ContainsAny(table, "*?:/") || table == "" {
			t.Fatalf("got %s", p.Statement[0].Resource)
		}
	})
}

// A row is shown, counted and passed over, whatever it is.
func FuzzRow(f *testing.F) {
	item := func(data, expires, more string) []byte {
		return fmt.Appendf(nil, `{"id":{"S":"k"},"data":{"B":"%s"},"expires":{"N":"%s"},"created":{"N":"1"},"version":{"B":"MTIzNDU2Nzg="}%s}`, data, expires, more)
	}
	f.Add(item("gaFhAQ==", "99999999999", ""))
	f.Add(item("gaFhAQ==", "9223372036854775807", `,"lock":{"B":"MTIzNDU2Nzg5MDEyMzQ1Ng=="},"lock_until":{"N":"253402300799999"}`))
	f.Add(item("ga5fc2Vzc2lvbi5tb3ZlZKFr", "253402300799", ""))
	f.Add(item("", "-62135596800", ""))
	// A record of the index, and one with a page that is itself.
	f.Add(item(base64.StdEncoding.EncodeToString([]byte("\x81\xae_session.owner\xb9"+`{"s":[{"h":"a","k":["k"]}]}`)), "99999999999", ""))
	f.Add(item(base64.StdEncoding.EncodeToString([]byte("\x81\xae_session.owner\xb7"+`{"p":[{"k":"k","n":1}]}`)), "99999999999", ""))
	f.Add([]byte(`{"id":{"S":"\u001b[2J"},"data":{"L":[{"M":{"x":{"BOOL":true}}}]},"expires":{"N":"1e400"}}`))
	var row []byte
	does := goodTable()
	does["Scan"] = func(map[string]any) (int, any) {
		return http.StatusOK, `{"Items":[` + string(row) + `],"Count":1,"ScannedCount":1,"ConsumedCapacity":{"CapacityUnits":0.5}}`
	}
	does["GetItem"] = func(map[string]any) (int, any) { return http.StatusOK, `{"Item":` + string(row) + `}` }
	server := newFakeDynamoDB(f, does)
	f.Fuzz(func(t *testing.T, data []byte) {
		var attributes map[string]map[string]any // anything else is not of DynamoDB
		if json.Unmarshal(data, &attributes) != nil {
			return
		}
		row = data
		for _, args := range []string{
			"list", "list --json --sort=size", "stats", "stats --json", "show k --values", "show k --values --json", "revoke --user=ann --dry-run --json",
			"list --user=ann --notes --json", "revoke k --dry-run --json", "revoke --everyone --dry-run --json --undecodable",
		} {
			// What is no answer is asked for again and again.
			got := sessionctl(t.Context(), append(strings.Fields(args), "--timeout=200ms", "--endpoint", server.URL)...)
			checkOutcome(t, got)
			if strings.Contains(args, "--json") && got.stdout != "" && !json.Valid([]byte(got.stdout)) {
				t.Fatalf("%s: got %+v", args, got)
			}
		}
		server.mu.Lock()
		server.sent = nil
		server.mu.Unlock()
	})
}

// What a session holds is found to be a marker or not, without a panic, and
// its text is harmless.
func FuzzData(f *testing.F) {
	for _, c := range []session.Codec{codec.MessagePack{}, codec.JSON{}} {
		for _, name := range []string{movedValue, ownerValue, "n"} {
			value, err := c.Marshal("new")
			if err != nil {
				f.Fatal(err)
			}
			data, err := c.Join(map[string][]byte{name: value})
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data)
		}
	}
	f.Add([]byte(hostile))
	f.Fuzz(func(t *testing.T, data []byte) {
		key, moved, err := movedTo(data)
		if (key != "") != (moved && err == nil) || err != nil && !moved {
			t.Fatalf("got %q, %v, %v", key, moved, err)
		}
		if rec, is, err := indexOf(string(data)); err != nil && !is || rec.InPages < 0 || is && !splits(data) {
			t.Fatalf("got %+v, %v, %v", rec, is, err)
		}
		text := escape(string(data))
		if err := seen(text); err != nil || strings.ContainsAny(text, "\n\t") || escape(text) != text {
			t.Fatalf("got %q, %v", text, err)
		}
		// In JSON it stays what it is.
		var out bytes.Buffer
		a := &app{stdout: &output{w: &out}, globals: globals{json: true}}
		var back string
		if err := errors.Join(a.line(string(data)), json.Unmarshal(out.Bytes(), &back), seen(out.String())); err != nil || utf8.Valid(data) && back != string(data) {
			t.Fatalf("%v: got %q", err, back)
		}
	})
}

// splits reports whether a codec can take data apart.
func splits(data []byte) bool {
	return slices.ContainsFunc(allCodecs(), func(c session.Codec) bool { _, err := c.Split(data); return err == nil })
}

// What Redis says of itself is looked through, whatever it is.
func FuzzRedisInfo(f *testing.F) {
	f.Add("redis_version:7.2.1\r\nmaxmemory:100\r\nused_memory:90\r\nmaxmemory_policy:allkeys-lru\r\nevicted_keys:3\r\n")
	f.Add("maxmemory:9223372036854775807\nused_memory:-9223372036854775808\nevicted_keys:-1\nmaxmemory_policy:\x1b[2J")
	f.Fuzz(func(t *testing.T, text string) {
		var stdout, stderr bytes.Buffer
		d := &doctor{app: &app{stdout: &output{w: &stdout}, stderr: &output{w: &stderr}}}
		info := parseInfo(text)
		d.eviction(info)
		d.persistence(info)
		if err := errors.Join(seen(stdout.String()), seen(stderr.String())); err != nil {
			t.Fatal(err)
		}
	})
}
