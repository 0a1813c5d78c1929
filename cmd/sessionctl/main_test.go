package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/spf13/cobra"
)

// TestMain hides the AWS configuration of the user.
func TestMain(m *testing.M) {
	for _, v := range os.Environ() {
		name, _, _ := strings.Cut(v, "=")
		if strings.HasPrefix(name, "AWS_") || name == "REDIS_URL" {
			if err := os.Unsetenv(name); err != nil {
				panic(err)
			}
		}
	}
	dir, err := os.MkdirTemp("", "sessionctl")
	if err != nil {
		panic(err)
	}
	for name, value := range map[string]string{
		"AWS_EC2_METADATA_DISABLED":   "true",
		"AWS_CONFIG_FILE":             filepath.Join(dir, "config"),
		"AWS_SHARED_CREDENTIALS_FILE": filepath.Join(dir, "credentials"),
	} {
		if err := os.Setenv(name, value); err != nil {
			panic(err)
		}
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// outcome is the result of a run of the program.
type outcome struct {
	code           int
	stdout, stderr string
}

func sessionctl(ctx context.Context, args ...string) outcome {
	var stdout, stderr bytes.Buffer
	code := run(ctx, args, strings.NewReader(""), &stdout, &stderr)
	return outcome{code, stdout.String(), stderr.String()}
}

// fakeDynamoDB answers each operation as it is told to, and others with an
// empty object.
type fakeDynamoDB struct {
	*httptest.Server
	mu   sync.Mutex
	does map[string]answer
	sent []string
}

type answer func(body map[string]any) (status int, reply any)

func newFakeDynamoDB(t testing.TB, does map[string]answer) *fakeDynamoDB {
	f := &fakeDynamoDB{does: does}
	f.Server = httptest.NewServer(f)
	t.Cleanup(f.Close)
	return f
}

func (f *fakeDynamoDB) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, op, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	data, _ := io.ReadAll(r.Body)
	var body map[string]any
	_ = json.Unmarshal(data, &body)
	f.mu.Lock()
	f.sent = append(f.sent, op)
	do := f.does[op]
	if do == nil {
		do = f.does[""]
	}
	f.mu.Unlock()
	status, reply := http.StatusOK, any(struct{}{})
	if do != nil {
		status, reply = do(body)
	}
	w.Header().Set("Content-Type", "application/x-amz-json-1.0")
	w.WriteHeader(status)
	if text, ok := reply.(string); ok {
		_, _ = io.WriteString(w, text)
		return
	}
	_ = json.NewEncoder(w).Encode(reply)
}

// refuses answers with an error of DynamoDB.
func refuses(status int, code, message string) answer {
	return func(map[string]any) (int, any) {
		return status, map[string]string{"__type": "com.amazonaws.dynamodb.v20120810#" + code, "message": message}
	}
}

func says(reply any) answer {
	return func(map[string]any) (int, any) { return http.StatusOK, reply }
}

type object = map[string]any

// goodTable has what a table in order says about itself.
func goodTable() map[string]answer {
	return map[string]answer{
		"DescribeTable": says(object{"Table": object{
			"TableName": "sessions", "TableStatus": "ACTIVE", "ItemCount": 1234567, "TableSizeBytes": 3 << 30,
			"KeySchema":            []any{object{"AttributeName": "id", "KeyType": "HASH"}},
			"AttributeDefinitions": []any{object{"AttributeName": "id", "AttributeType": "S"}},
			"BillingModeSummary":   object{"BillingMode": "PAY_PER_REQUEST"},
		}}),
		"DescribeTimeToLive": says(object{"TimeToLiveDescription": object{"AttributeName": "expires", "TimeToLiveStatus": "ENABLED"}}),
		"Scan":               says(object{"Items": []any{}, "Count": 0, "ScannedCount": 0}),
		"UpdateItem":         refuses(400, "ConditionalCheckFailedException", "The conditional request failed"),
		"DeleteItem":         refuses(400, "ConditionalCheckFailedException", "The conditional request failed"),
	}
}

// with is a table in order, with other answers.
func with(others map[string]answer) map[string]answer {
	all := goodTable()
	maps.Copy(all, others)
	return all
}

func wrongKey() answer {
	return says(object{"Table": object{
		"TableName": "sessions", "TableStatus": "ACTIVE",
		"KeySchema":            []any{object{"AttributeName": "sid", "KeyType": "HASH"}},
		"AttributeDefinitions": []any{object{"AttributeName": "sid", "AttributeType": "S"}},
	}})
}

// TestHelp holds every command to what somebody who does not know it wants.
func TestHelp(t *testing.T) {
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		t.Run(c.CommandPath(), func(t *testing.T) {
			if c.Short == "" || strings.HasSuffix(c.Short, ".") {
				t.Errorf("short text %q", c.Short)
			}
			if c.HasParent() && !c.HasSubCommands() && (c.Long == "" || c.Example == "") && c.Name() != "help" {
				t.Error("it has no text, or no example")
			}
			for line := range strings.Lines(c.Long + "\n" + c.Example) {
				if len(line) > 101 {
					t.Errorf("a line has %d bytes: %s", len(line), line)
				}
			}
			args := append([]string{"help"}, strings.Fields(c.CommandPath())[1:]...)
			help, flag := sessionctl(t.Context(), args...), sessionctl(t.Context(), append(args[1:], "--help")...)
			if help.code != 0 || help.stderr != "" || help != flag && c.Name() != "help" {
				t.Errorf("help and --help differ:\n%+v\n%+v", help, flag)
			}
		})
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk((&app{stdout: &output{w: io.Discard}, stderr: &output{w: io.Discard}}).root())
}

func TestCompletion(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		got := sessionctl(t.Context(), "completion", shell)
		if got.code != 0 || got.stderr != "" || !strings.Contains(got.stdout, "sessionctl") {
			t.Errorf("%s: got %d, %d bytes and %s", shell, got.code, len(got.stdout), got.stderr)
		}
	}
	for args, want := range map[string]string{
		"iam ":             "set-up",
		"--backend ":       "redis",
		"sweep --back":     "--backend",
		"help table ":      "check",
		"doctor --role ":   "sweeper",
		"table ":           "delete",
		"sweep --codec ":   "msgpack",
		"table check --j":  "--json",
		"completion ":      "zsh",
		"iam application ": ":4",
		"revoke --every":   "--everyone",
		"list --us":        "--user",
	} {
		words := strings.Split("__complete "+args, " ")
		if got := sessionctl(t.Context(), words...); !strings.Contains(got.stdout, want) {
			t.Errorf("%q: got %s, want %s", args, got.stdout, want)
		}
	}
}

// TestFullDisk has results that cannot be written.
func TestFullDisk(t *testing.T) {
	var stderr bytes.Buffer
	code := run(t.Context(), []string{"iam", "sweeper"}, nil, brokenWriter{}, &stderr)
	if code != codeFailed || !strings.Contains(stderr.String(), "Cannot write the output: no space left on device.") {
		t.Errorf("got %d and %s", code, &stderr)
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, fmt.Errorf("no space left on device") }

// TestStopReading stops what waits for somebody to type: one Ctrl-C is enough.
func TestStopReading(t *testing.T) {
	for _, args := range []string{"show --token-stdin", "revoke --token-stdin", "revoke - --yes", "ask"} {
		t.Run(args, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			stdin, w := io.Pipe()
			t.Cleanup(func() { w.Close() })
			go func() {
				_, _ = io.WriteString(w, "A") // when somebody reads
				cancel()
			}()
			var stderr bytes.Buffer
			if args == "ask" {
				a := &app{stdin: stdin, stderr: &output{w: &stderr}}
				if err := a.ask(ctx, "Really?"); !errors.Is(err, context.Canceled) {
					t.Errorf("got %v", err)
				}
				return
			}
			code := run(ctx, strings.Fields(args+" --endpoint http://127.0.0.1:1"), stdin, io.Discard, &stderr)
			if want := "sessionctl: Stopped before the end.\n"; code != codeFailed || stderr.String() != want {
				t.Errorf("code %d, %q", code, stderr.String())
			}
		})
	}
}
