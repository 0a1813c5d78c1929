package integration

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/seed-a7bee19b/session/backend/dynamodb"
)

// TestSessionctl runs the program as an operator does.
func TestSessionctl(t *testing.T) {
	c := buildSessionctl(t)
	t.Run("table", c.table)
	t.Run("sweep", c.sweep)
	t.Run("wrong table", c.wrongTable)
	t.Run("no permission", c.noPermission)
	t.Run("no credentials", c.noCredentials)
	t.Run("redis", c.redis)
	t.Run("PHP", c.php)
}

// sessionctl is the program.
type sessionctl struct{ path, home string }

func buildSessionctl(t *testing.T) *sessionctl {
	dir := t.TempDir()
	c := &sessionctl{path: filepath.Join(dir, "sessionctl"), home: dir}
	build := exec.CommandContext(t.Context(), "go", "build", "-C", "../cmd/sessionctl", "-o", c.path, ".")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return c
}

// command has an environment without the AWS configuration of the user who runs
// the tests.
func (c *sessionctl) command(t *testing.T, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(t.Context(), c.path, args...)
	cmd.Env = []string{"HOME=" + c.home, "PATH=" + os.Getenv("PATH"), "AWS_EC2_METADATA_DISABLED=true"}
	return cmd
}

// run expects an exit code, and text on standard output and standard error.
func (c *sessionctl) run(t *testing.T, code int, stdout, stderr string, args ...string) string {
	t.Helper()
	cmd := c.command(t, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if got := cmd.ProcessState.ExitCode(); got != code || !strings.Contains(out.String(), stdout) || !strings.Contains(errs.String(), stderr) {
		t.Errorf("sessionctl %s: got code %d\n%s%s\nwant code %d, %q and %q", strings.Join(args, " "), got, &out, &errs, code, stdout, stderr)
	}
	return out.String()
}

// on adds the flags for a table in the engine.
func on(table string, args ...string) []string {
	return append(args, "--endpoint", local.Endpoint, "--table", table)
}

func (c *sessionctl) table(t *testing.T) {
	t.Parallel()
	name := tableName(t)
	c.run(t, 3, "There is no table", "", on(name, "table", "check")...)
	c.run(t, 3, "There is no table", "", on(name, "doctor")...)
	c.run(t, 1, "", "There is no table", on(name, "sweep")...)
	c.run(t, 0, "Created table", "", on(name, "table", "create", "--read-capacity=3", "--write-capacity=2")...)
	c.run(t, 0, "exists already", "", on(name, "table", "create")...)
	c.run(t, 0, "can be used: 3 read and 2 write units", "", on(name, "table", "check")...)
	c.run(t, 0, "0 failures", "", on(name, "doctor")...)
	c.run(t, 2, "", "--yes="+name, on(name, "table", "delete")...)
	c.run(t, 0, "Deleted table", "", on(name, "table", "delete", "--yes="+name)...)
	c.run(t, 1, "", "There is no table", on(name, "table", "delete", "--yes="+name)...)
}

// bareTable makes a table without TTL, so that DynamoDB Local keeps expired
// items.
func bareTable(t *testing.T, key string) string {
	t.Helper()
	name := tableName(t)
	_, err := client().CreateTable(t.Context(), &sdk.CreateTableInput{
		TableName: &name, BillingMode: types.BillingModePayPerRequest,
		AttributeDefinitions: []types.AttributeDefinition{{AttributeName: &key, AttributeType: types.ScalarAttributeTypeS}},
		KeySchema:            []types.KeySchemaElement{{AttributeName: &key, KeyType: types.KeyTypeHash}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return name
}

func (c *sessionctl) wrongTable(t *testing.T) {
	t.Parallel()
	name := bareTable(t, "sid")
	c.run(t, 3, `set --key-attribute to "sid"`, "", on(name, "table", "check")...)
	c.run(t, 3, `set --key-attribute to "sid"`, "", on(name, "doctor")...)
	c.run(t, 1, "", "nothing was deleted", on(name, "sweep")...)
	c.run(t, 1, "", "nothing was deleted", on(name, "table", "delete", "--yes="+name)...)
	c.run(t, 0, "TTL is on", "", on(name, "table", "create", "--key-attribute=sid")...)
	c.run(t, 0, "can be used", "", on(name, "table", "check", "--key-attribute=sid")...)
}

// noPermission is an account without permissions.
func (c *sessionctl) noPermission(t *testing.T) {
	t.Parallel()
	denies := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, op, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
		w.Header().Set("Content-Type", "application/x-amz-json-1.0")
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprintf(w, `{"__type":"com.amazon.coral.service#AccessDeniedException","Message":"User: ann is not authorized to perform: dynamodb:%s"}`, op)
	}))
	t.Cleanup(denies.Close)
	for args, role := range map[string]string{
		"table create": "set-up",
		"table check":  "set-up",
		"sweep":        "sweeper",
	} {
		c.run(t, 1, "", `"sessionctl iam `+role+`" prints the policy`, append(strings.Fields(args), "--endpoint", denies.URL)...)
	}
	c.run(t, 1, "", "do not allow dynamodb:DescribeTable", "table", "delete", "--yes=sessions", "--endpoint", denies.URL)
	c.run(t, 3, "do not allow dynamodb:Scan", "", "doctor", "--endpoint", denies.URL)
}

func (c *sessionctl) noCredentials(t *testing.T) {
	t.Parallel()
	for _, args := range []string{"table create", "table check", "table delete --yes=sessions", "sweep"} {
		c.run(t, 1, "", "AWS_ACCESS_KEY_ID", append(strings.Fields(args), "--region=eu-west-1")...)
		c.run(t, 1, "", "AWS_REGION", strings.Fields(args)...)
	}
	c.run(t, 3, "AWS_ACCESS_KEY_ID", "", "doctor", "--region=eu-west-1")
	c.run(t, 1, "", "Nothing answers", "table", "check", "--endpoint=http://127.0.0.1:1")
	c.run(t, 0, "dynamodb:UpdateItem", "", "iam", "application") // needs none
}

// fillTable puts records into a table, half of which have expired.
func fillTable(t *testing.T, table string, n int) {
	t.Helper()
	now := time.Now()
	var puts []types.WriteRequest
	for i := range n {
		expires := now.Add(time.Hour)
		if i%2 == 0 {
			expires = now.Add(-time.Hour)
		}
		puts = append(puts, types.WriteRequest{PutRequest: &types.PutRequest{Item: map[string]types.AttributeValue{
			dynamodb.DefaultKeyAttribute:     &types.AttributeValueMemberS{Value: fmt.Sprintf("key-%06d", i)},
			dynamodb.DefaultDataAttribute:    &types.AttributeValueMemberB{Value: []byte{0x80}},
			dynamodb.DefaultExpiresAttribute: &types.AttributeValueMemberN{Value: strconv.FormatInt(expires.Unix(), 10)},
			dynamodb.DefaultCreatedAttribute: &types.AttributeValueMemberN{Value: strconv.FormatInt(now.UnixMilli(), 10)},
			dynamodb.DefaultVersionAttribute: &types.AttributeValueMemberB{Value: []byte("8 bytes.")},
		}}})
		if len(puts) == 25 || i == n-1 {
			if _, err := client().BatchWriteItem(t.Context(), &sdk.BatchWriteItemInput{RequestItems: map[string][]types.WriteRequest{table: puts}}); err != nil {
				t.Fatal(err)
			}
			puts = nil
		}
	}
}

func (c *sessionctl) sweep(t *testing.T) {
	t.Parallel()
	const records, expired = 1000, 500
	name := bareTable(t, dynamodb.DefaultKeyAttribute)
	fillTable(t, name, records)
	type result struct {
		Complete, Resumed         bool
		Scanned, Expired, Deleted int
	}
	parse := func(out string) result {
		t.Helper()
		var r result
		if err := json.Unmarshal([]byte(out), &r); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return r
	}

	dry := parse(c.run(t, 0, "", "", on(name, "sweep", "--dry-run", "--json")...))
	if want := (result{Complete: true, Scanned: records, Expired: expired, Deleted: expired}); dry != want {
		t.Fatalf("dry run: got %+v, want %+v", dry, want)
	}

	file := filepath.Join(t.TempDir(), "sweep")
	budgeted := on(name, "sweep", "--json", "--write-units=50", "--resume", file)
	cmd := c.command(t, budgeted...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for saved := false; !saved; { // stop it after its first deletes
		if data, err := os.ReadFile(file); err == nil {
			var c struct{ Deleted int }
			saved = json.Unmarshal(data, &c) == nil && c.Deleted > 0
		} else if !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond)
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); cmd.ProcessState.ExitCode() != 4 || !strings.Contains(errs.String(), "The same command goes on from here.") {
		t.Fatalf("stopped: got %v, %s%s", err, &out, &errs)
	}
	first := parse(out.String())
	if first.Complete || first.Deleted == 0 || first.Deleted == expired {
		t.Fatalf("stopped: got %+v", first)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("the file: got %v, %v", info, err)
	}

	other := bareTable(t, dynamodb.DefaultKeyAttribute)
	c.run(t, 2, "", "is of a sweep of table", on(other, "sweep", "--resume", file)...)
	c.run(t, 1, "", "--dry-run", on(name, "sweep", "--resume", file, "--dry-run")...)
	c.run(t, 4, "", "--timeout", append(budgeted, "--timeout=200ms")...)

	second := parse(c.run(t, 0, "", "", on(name, "sweep", "--json", "--resume", file)...))
	if !second.Complete || !second.Resumed || second.Deleted > expired || second.Deleted < first.Deleted {
		t.Errorf("resumed: got %+v after %+v", second, first)
	}
	if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file is still there: %v", err)
	}
	if out := c.run(t, 0, "", "", on(name, "sweep", "--quiet")...); out != "" {
		t.Errorf("quiet: got %s", out)
	}
	last := parse(c.run(t, 0, "", "", on(name, "sweep", "--json", "--dry-run")...))
	if want := (result{Complete: true, Scanned: records - expired}); last != want {
		t.Errorf("in the end: got %+v, want %+v", last, want)
	}
}

func (c *sessionctl) redis(t *testing.T) {
	t.Parallel()
	url := "redis://" + server.Endpoint
	c.run(t, 0, "0 failures", "", "doctor", "--redis", url)
	c.run(t, 0, "nothing to sweep", "", "sweep", "--redis", url)
	c.run(t, 2, "", "Redis has no tables", "table", "create", "--redis", url)
	c.run(t, 3, "Nothing answers", "", "doctor", "--redis", "redis://127.0.0.1:1")
}
