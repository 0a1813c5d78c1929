package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	goredis "github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/codec"
)

// hostile clears the screen, sets the title of the window, turns text around,
// hides some, and begins a line of its own.
const hostile = "\x1b[2J\x1b]0;owned\a\x00\b\x7f\u009b31m\u0085\u202e\u2066\u200b\u2060\ufeff\u00ad\u2028\u2029\u061c\U000e0041\ufe0f\r\nFORGED\tx\xff\x9b"

// disarmed reports what of a text could still do harm, which hostile is in.
func disarmed(text string) error {
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "FORGED") {
			return fmt.Errorf("a line of its own in %q", text)
		}
	}
	return seen(text)
}

// seen reports what of a text is not seen.
func seen(text string) error {
	for i, r := range text {
		_, n := utf8.DecodeRuneInString(text[i:])
		if r == utf8.RuneError && n == 1 || !visible(r) && r != '\n' && r != '\t' {
			return fmt.Errorf("%q at %d of %q", r, i, text[max(0, i-20):min(len(text), i+20)])
		}
	}
	return nil
}

// walk runs every command that is not another's parent, in words and in JSON,
// as args says; it fails if that does not know one.
func walk(t *testing.T, args map[string][]string, ctl func(stdin string, args ...string) outcome) {
	t.Helper()
	var visit func(c *cobra.Command)
	visit = func(c *cobra.Command) {
		for _, sub := range c.Commands() {
			visit(sub)
		}
		if c.HasSubCommands() {
			return
		}
		path := strings.TrimPrefix(c.CommandPath(), "sessionctl ")
		lines, ok := args[path]
		if !ok {
			t.Errorf("nobody has tried %q with hostile rows", path)
		}
		for _, line := range lines {
			for _, more := range []string{"", "--json", "--verbose"} {
				words := append(strings.Fields(path), strings.Split(line, "|")...)
				words = slices.DeleteFunc(append(words, more), func(s string) bool { return s == "" })
				for i := range words {
					words[i] = strings.ReplaceAll(words[i], "HOSTILE", hostile)
				}
				got := ctl(hostile+"\n", words...)
				if err := disarmed(got.stdout); err != nil {
					t.Errorf("%q: output: %v", words, err)
				}
				if err := disarmed(got.stderr); err != nil {
					t.Errorf("%q: errors: %v", words, err)
				}
				if more == "--json" && path != "completion" && path != "help" {
					d := json.NewDecoder(strings.NewReader(got.stdout))
					for {
						var v any
						if err := d.Decode(&v); err == io.EOF {
							break
						} else if err != nil {
							t.Fatalf("%q: %v in %s", words, err, got.stdout)
						}
					}
				}
			}
		}
	}
	visit((&app{stdout: &output{w: io.Discard}, stderr: &output{w: io.Discard}}).root())
}

// everyCommand has arguments for each, several with "|" between them.
func everyCommand(prices, resume string) map[string][]string {
	return map[string][]string{
		"list": {
			"", "--sort=key", "--key-prefix=HOSTILE", "--sort=HOSTILE", "--index", "--user=HOSTILE", "--user=ann|--notes", "--user=ann|--scan|--notes",
			"--owner=HOSTILE=HOSTILE", "--owner=HOSTILE",
		},
		"show": {"HOSTILE", "HOSTILE|--values", "moved|--values", "bad", "plain|--values", "--token-stdin", "foreign", "index|--values", "listed|--values", "index-bad"},
		"revoke": {
			"HOSTILE|--dry-run", "-|--dry-run", "moved|--dry-run", "bad|--yes", "--user=HOSTILE", "--user=HOSTILE|--yes", "--token-stdin", "a|HOSTILE|--yes",
			"index", "index-bad|--dry-run", "--user=ann|--dry-run", "--user=ann|--yes", "--user=ann|--owner=HOSTILE=x|--scan|--yes", "--everyone|--yes", "--everyone|--dry-run|--undecodable",
		},
		"stats":        {"", "--sample=2", "--prices=" + prices, "--table-class=HOSTILE"},
		"doctor":       {"--reads=1", "--role=HOSTILE"},
		"sweep":        {"", "--dry-run", "--resume=" + resume, "--resume=HOSTILE/x", "--max-errors=1"},
		"migrate":      {"--to-table=HOSTILE", "--to-redis=HOSTILE", "--to-table=new|--dry-run", "--to-table=new|--max-errors=100"},
		"bench":        {"--duration=50ms|--sessions=2|--concurrency=1|--mix=read=1|--yes", "--mix=HOSTILE=1", "--duration=50ms|--sessions=2|--prices=" + prices},
		"cost":         {"--prices=" + prices + "|--table-class=HOSTILE", "--prices=" + prices, "--mix=HOSTILE", "--requests=HOSTILE", "--prices=HOSTILE"},
		"iam":          {"application", "HOSTILE", "operator|--account=HOSTILE", "operator|--region=HOSTILE"},
		"table create": {"", "--tag=HOSTILE=HOSTILE"},
		"table check":  {"", "--table=HOSTILE", "--key-attribute=HOSTILE", "--region=HOSTILE"},
		"table delete": {"--yes=sessions", "--yes=HOSTILE"},
		"help":         {"", "list", "HOSTILE"},
	}
}

// hostileTable has rows of everybody who wants to be seen.
func hostileTable(t *testing.T) *fakeTable {
	f := newFakeTable(t)
	f.does["DeleteTable"] = refuses(400, "ResourceInUseException", hostile)
	c := codec.MessagePack{}
	h := strings.ToValidUTF8(hostile, "")
	rich := encoded(t, c, map[string]any{
		userValue: hostile, h: hostile, "list": []any{hostile, map[string]any{h: h}}, "bytes": []byte(hostile), "n": 1,
	})
	f.put(h, rich, time.Hour, time.Hour, time.Minute)
	f.put("plain", rich, time.Hour, time.Hour, 0)
	f.put("moved", encoded(t, c, map[string]any{movedValue: h}), time.Hour, time.Hour, 0)
	f.put("bad", []byte(hostile), time.Hour, time.Hour, 0)
	for key, values := range hostileIndex(t, h) {
		f.put(key, encoded(t, c, values), time.Hour, time.Hour, 0)
	}
	f.put(h+"gone", rich, time.Hour, -48*time.Hour, 0)
	f.rows["foreign"+h] = object{"id": object{"S": "foreign" + h}, h: object{"S": h}, "data": object{"S": h}}
	f.rows["foreign"] = object{"id": object{"S": "foreign"}, "data": object{"N": "1"}, "expires": object{"S": h}}
	return f
}

// hostilePHP adds rows as PHP may have written them, under the keys that the commands
// are given too.
func hostilePHP(f *fakeTable) {
	h := hostile
	text := func(s string) string { return fmt.Sprintf("s:%d:\"%s\";", len(s), s) }
	value := fmt.Sprintf("a:3:{i:0;%si:1;O:%d:\"%s\":1:{%s%s}i:2;E:3:\"A:B\";}", text(h), len(h), h, text("\x00*\x00"+h), text(h))
	data := map[string]string{
		"php":           h + "|" + value + "user|" + text(h),
		"php_binary":    string(rune(len(h)%128)) + h + value + "\x04user" + text(h),
		"php_serialize": "a:2:{" + text(h) + value + text("user") + text(h) + "}",
	}
	for name, session := range data {
		for _, key := range []string{phpKey(strings.ReplaceAll(name, "_", "-")), "plain" + name, "listed"} {
			f.rows[key] = object{
				"id": object{"S": key}, "data": object{"B": []byte(session)}, "expires": object{"N": "4000000000"}, "lock": object{"N": "1"},
			}
		}
	}
	f.rows[phpKey("lock")] = object{"id": object{"S": phpKey("lock")}, "lock": object{"N": "1"}}
}

// hostileIndex has the sessions of ann, and records of the index that nobody but
// an enemy has written.
func hostileIndex(t *testing.T, h string) map[string]map[string]any {
	t.Helper()
	text := func(v any) string {
		data, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	session1 := map[string]any{userValue: "ann", listedValue: text(listing{
		Handle: h, Owners: []session.Owner{{Kind: h, ID: h}}, Note: map[string]string{h: h, "address": h},
	})}
	session2 := map[string]any{userValue: "ann", listedValue: text(listing{Handle: h + "2", Note: map[string]string{h: h}})}
	head := map[string]any{
		"e": 2, "p": []any{object{"k": h, "n": 1}},
		"s": []any{object{"h": h, "k": []string{"listed"}, "e": 2}, object{"h": h + "2", "k": []string{h, h + "listed"}, "e": 2, "o": []string{h}}},
	}
	broken := text(head)
	delete(head, "p")
	ann := newIndexedShop(t, codec.MessagePack{}).ownerKey(t, session.User("ann"))
	return map[string]map[string]any{
		"listed": session1, h + "listed": session2,
		"index": {ownerValue: broken}, ann: {ownerValue: text(head), h: h}, "index-bad": {ownerValue: h},
	}
}

// TestHostileRows has every command print what others have stored.
func TestHostileRows(t *testing.T) {
	dir := t.TempDir()
	prices, resume := filepath.Join(dir, "prices"), filepath.Join(dir, "resume")
	shown := sessionctl(t.Context(), "cost", "--show-prices").stdout
	text, err := json.Marshal("us-east-1")
	if err != nil {
		t.Fatal(err)
	}
	name, err := json.Marshal(hostile)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(prices, bytes.Replace([]byte(shown), text, name, 1), 0o600); err != nil {
		t.Fatal(err)
	}
	point, err := json.Marshal(checkpoint{
		Format: 1, Table: hostile, TableID: hostile, Region: hostile, Endpoint: hostile, Checkpoint: []byte(hostile),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(resume, point, 0o600); err != nil {
		t.Fatal(err)
	}
	args := everyCommand(prices, resume)
	args["completion bash"], args["completion zsh"] = []string{""}, []string{""}
	args["completion fish"], args["completion powershell"] = []string{""}, []string{""}
	walk(t, args, func(stdin string, args ...string) outcome {
		f := hostileTable(t)
		defer f.Close()
		if args[0] == "iam" || args[0] == "cost" || args[0] == "help" || args[0] == "completion" {
			return sessionctl(t.Context(), args...)
		}
		return f.ctl(t.Context(), stdin, args...)
	})
	for _, c := range []string{"bench", "migrate", "completion bash", "completion zsh", "completion fish", "completion powershell", "iam", "cost", "help"} {
		args[c] = nil
	}
	for _, handler := range phpHandlers {
		walk(t, args, func(stdin string, args ...string) outcome {
			f := hostileTable(t)
			defer f.Close()
			hostilePHP(f)
			return f.ctl(t.Context(), stdin, append(args, "--php=stock-locking", "--php-user=user", "--serialize-handler="+handler)...)
		})
	}
	if got := hostileTable(t).ctl(t.Context(), "", "list", "--user=ann", "--notes"); !strings.Contains(got.stdout, "address: ") || !strings.Contains(got.stderr, "2 sessions of the user in the index") {
		t.Errorf("got %+v", got)
	}
}

// TestHostileServer has every command print what a server says.
func TestHostileServer(t *testing.T) {
	var f *fakeDynamoDB
	refused := func(status int, code string) answer {
		return func(map[string]any) (int, any) {
			return status, map[string]string{"__type": code, "message": hostile, "Message": hostile}
		}
	}
	for name, does := range map[string]map[string]answer{
		"codes":      {"": refused(400, hostile)},
		"denied":     {"": refused(400, "AccessDeniedException")},
		"validation": {"": refused(400, "ValidationException")},
		"limit":      {"": refused(400, "LimitExceededException")},
		"no JSON":    {"": func(map[string]any) (int, any) { return 400, hostile }},
		"table": with(map[string]answer{"DescribeTable": says(object{"Table": object{
			"TableName": hostile, "TableStatus": hostile, "ItemCount": -1, "TableSizeBytes": 1 << 60, "TableId": hostile,
			"KeySchema":            []any{object{"AttributeName": hostile, "KeyType": hostile}},
			"AttributeDefinitions": []any{object{"AttributeName": hostile, "AttributeType": hostile}},
			"BillingModeSummary":   object{"BillingMode": hostile},
		}}), "DescribeTimeToLive": says(object{"TimeToLiveDescription": object{"AttributeName": hostile, "TimeToLiveStatus": hostile}})}),
		"key": with(map[string]answer{
			"Scan": says(object{"Items": []any{}, "ScannedCount": -5, "LastEvaluatedKey": object{hostile: object{"S": hostile}}, "ConsumedCapacity": object{"CapacityUnits": "NaN"}}),
		}),
	} {
		t.Run(name, func(t *testing.T) {
			f = newFakeDynamoDB(t, does)
			args := everyCommand(os.DevNull, os.DevNull)
			for name := range args {
				args[name] = nil // that ask nobody
			}
			maps.Copy(args, map[string][]string{
				"list": {""}, "show": {"k"}, "revoke": {"k", "--user=u", "--everyone|--yes"}, "stats": {""}, "doctor": {"--reads=1"}, "sweep": {"", "--dry-run"},
				"table create": {""}, "table check": {""}, "table delete": {"--yes=sessions"},
			})
			for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
				args["completion "+shell] = nil
			}
			walk(t, args, func(stdin string, args ...string) outcome {
				return sessionctl(t.Context(), append(args, "--endpoint", f.URL, "--timeout=100ms")...) // some are tried again and again
			})
		})
	}
}

// TestHostileRedis has the rows in a real server.
func TestHostileRedis(t *testing.T) {
	path := os.Getenv("REDIS_SERVER")
	if path == "" {
		t.Skip("REDIS_SERVER does not say where a redis-server is")
	}
	socket := filepath.Join(t.TempDir(), "redis")
	cmd := exec.CommandContext(t.Context(), path, "--port", "0", "--unixsocket", socket, "--save", "")
	cmd.Stdout = io.Discard
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	client := goredis.NewClient(&goredis.Options{Network: "unix", Addr: socket, MaxRetries: 100})
	defer client.Close()
	for client.Ping(t.Context()).Err() != nil && t.Context().Err() == nil {
		time.Sleep(10 * time.Millisecond)
	}
	url := "unix://" + socket
	args := everyCommand(os.DevNull, os.DevNull)
	for _, c := range []string{"table create", "table check", "table delete", "completion bash", "completion zsh", "completion fish", "completion powershell"} {
		args[c] = []string{""}
	}
	args["cost"], args["bench"], args["iam"] = nil, []string{"--duration=50ms|--sessions=2|--concurrency=1|--yes"}, []string{"operator|--prefix=HOSTILE"}
	walk(t, args, func(stdin string, words ...string) outcome {
		fill(t, client)
		words = append(words, "--redis", url)
		var stdout, stderr bytes.Buffer
		code := run(t.Context(), words, strings.NewReader(stdin), &stdout, &stderr)
		return outcome{code, stdout.String(), stderr.String()}
	})
	if got := sessionctl(t.Context(), "list", "--user=ann", "--notes", "--redis", url); !strings.Contains(got.stdout, "address: ") || !strings.Contains(got.stderr, "2 sessions of the user in the index") {
		t.Errorf("got %+v", got)
	}
	got := sessionctl(t.Context(), "list", "--redis", url)
	if lines := strings.Count(got.stdout, "\n"); lines != 12 {
		t.Errorf("got %+v", got)
	}
	if got := sessionctl(t.Context(), "stats", "--json", "--redis", url); !strings.Contains(got.stdout, `"moved": 1`) || !strings.Contains(got.stdout, `"index": 3`) {
		t.Errorf("got %s", got.stdout)
	}
}

func fill(t *testing.T, client *goredis.Client) {
	t.Helper()
	c := codec.MessagePack{}
	now := time.Now()
	record := func(key string, data []byte) {
		err := client.HSet(t.Context(), "session:"+key, "data", data, "created", now.Add(-time.Hour).UnixMilli(),
			"expires", now.Add(time.Hour).UnixMilli(), "version", "8 bytes.8 bytes.", "written", "1").Err()
		if err != nil {
			t.Fatal(err)
		}
	}
	rich := encoded(t, c, map[string]any{userValue: hostile, strings.ToValidUTF8(hostile, ""): hostile, "list": []any{hostile}, "bytes": []byte(hostile)})
	record(hostile, rich)
	record("plain", rich)
	record("bad", []byte(hostile))
	record("moved", encoded(t, c, map[string]any{movedValue: hostile}))
	for key, values := range hostileIndex(t, strings.ToValidUTF8(hostile, "")) {
		record(key, encoded(t, c, values))
	}
	for _, key := range []string{"foreign", "foreign" + hostile} {
		if err := client.HSet(t.Context(), "session:"+key, hostile, hostile).Err(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestOneWayOut holds the program to its only way to the terminal.
func TestOneWayOut(t *testing.T) {
	names, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if name == "main.go" || strings.HasSuffix(name, "_test.go") {
			continue
		}
		for _, way := range []string{"os.Stdout", "os.Stderr", "fmt.Print", "println("} {
			if bytes.Contains(text, []byte(way)) {
				t.Errorf("%s has %s: a.stdout, a.print and a.note are the way out", name, way)
			}
		}
	}
}
