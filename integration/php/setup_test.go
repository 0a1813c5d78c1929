package php

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sdk "github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/seed-a7bee19b/session/integration/proxy"
)

func awsConfig(endpoint string) aws.Config {
	return aws.Config{
		Region:       "us-east-1",
		Credentials:  credentials.NewStaticCredentialsProvider("local", "local", ""),
		BaseEndpoint: aws.String(endpoint),
	}
}

// client connects to the engine directly.
func client() *sdk.Client { return sdk.NewFromConfig(awsConfig(local.Endpoint)) }

// newTable makes a table as the SDK for PHP documents it, which is deleted with
// the test.
func newTable(t testing.TB) string {
	t.Helper()
	name := "test-" + rand.Text()
	if _, err := client().CreateTable(t.Context(), &sdk.CreateTableInput{
		TableName:            &name,
		AttributeDefinitions: []types.AttributeDefinition{{AttributeName: aws.String("id"), AttributeType: types.ScalarAttributeTypeS}},
		KeySchema:            []types.KeySchemaElement{{AttributeName: aws.String("id"), KeyType: types.KeyTypeHash}},
		BillingMode:          types.BillingModePayPerRequest,
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if _, err := client().DeleteTable(ctx, &sdk.DeleteTableInput{TableName: &name}); err != nil {
			t.Error(err)
		}
	})
	return name
}

func newProxy(t testing.TB) *proxy.Proxy {
	t.Helper()
	p, err := proxy.New(local.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// A site is the settings of a PHP process.
type site struct {
	Client    map[string]any    `json:"client"`
	Config    map[string]any    `json:"config"` // of the connection
	INI       map[string]string `json:"ini,omitempty"`
	Versioned bool              `json:"versioned"`
}

// stock is a site with the handler of the SDK.
func stock(table string, locking bool) site {
	return site{
		Client: map[string]any{"endpoint": local.Endpoint},
		Config: map[string]any{"table_name": table, "locking": locking, "session_lifetime": 1440},
	}
}

// versioned is a site with VersionedConnection.
func versioned(table string, locking bool) site {
	s := stock(table, locking)
	s.Versioned = true
	return s
}

// with returns the site with another setting of its connection.
func (s site) with(name string, value any) site {
	s.Config = maps.Clone(s.Config)
	s.Config[name] = value
	return s
}

// through returns the site with another address of the engine.
func (s site) through(endpoint string) site {
	s.Client = maps.Clone(s.Client)
	s.Client["endpoint"] = endpoint
	return s
}

func (s site) ini(name, value string) site {
	s.INI = maps.Clone(s.INI)
	if s.INI == nil {
		s.INI = map[string]string{}
	}
	s.INI[name] = value
	return s
}

// A worker is a PHP process.
type worker struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *bufio.Reader
	stderr *bytes.Buffer
}

// start starts a PHP process, which ends with the test.
func start(t testing.TB, s site) *worker {
	t.Helper()
	settings, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	w := &worker{stderr: &bytes.Buffer{}}
	w.cmd = exec.Command(interpreter, "-d", "session.auto_start=0", "-d", "session.serialize_handler=php",
		"testdata/worker.php", string(settings))
	w.cmd.Stderr = w.stderr
	if w.in, err = w.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := w.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	w.out = bufio.NewReader(out)
	if err := w.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.end(t) })
	return w
}

// end lets the process end, as at the end of a page.
func (w *worker) end(t testing.TB) {
	t.Helper()
	if w.cmd.ProcessState != nil {
		return
	}
	_ = w.in.Close() // it may have ended
	if err := w.cmd.Wait(); err != nil || w.stderr.Len() > 0 {
		t.Errorf("PHP: %v: %s", err, w.stderr)
	}
}

// kill ends the process at once, as a machine that fails would.
func (w *worker) kill(t testing.TB) {
	t.Helper()
	if err := w.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = w.cmd.Wait() // it was killed
}

// An answer is what a page has returned.
type answer struct {
	Value     json.RawMessage `json:"value"`
	Exception string          `json:"exception"`
	Warnings  []string        `json:"warnings"`
}

// try runs code in the process.
func (w *worker) try(code string) (answer, error) {
	line, err := json.Marshal(map[string]string{"code": code})
	if err != nil {
		return answer{}, err
	}
	if _, err := w.in.Write(append(line, '\n')); err != nil {
		return answer{}, err
	}
	reply, err := w.out.ReadBytes('\n')
	if err != nil {
		return answer{}, err
	}
	var a answer
	return a, json.Unmarshal(reply, &a)
}

// page runs code, which may warn and throw.
func (w *worker) page(t testing.TB, code string) answer {
	t.Helper()
	a, err := w.try(code)
	if err != nil {
		t.Fatalf("PHP: %s: %v: %s", code, err, w.stderr)
	}
	return a
}

// run runs code that must not warn or throw, and returns its value.
func (w *worker) run(t testing.TB, code string) string {
	t.Helper()
	a := w.page(t, code)
	if a.Exception != "" || len(a.Warnings) > 0 {
		t.Fatalf("PHP: %s: exception %q, warnings %q", code, a.Exception, a.Warnings)
	}
	return string(a.Value)
}

// want runs code that must return value, and must not warn or throw.
func (w *worker) want(t testing.TB, code, value string) {
	t.Helper()
	if got := w.run(t, code); got != value {
		t.Fatalf("PHP: %s = %s, want %s", code, got, value)
	}
}

// refused runs code that must warn with a message that contains text.
func (w *worker) refused(t testing.TB, code, text string) {
	t.Helper()
	a := w.page(t, code)
	if a.Exception != "" || !slices.ContainsFunc(a.Warnings, func(m string) bool { return strings.Contains(m, text) }) {
		t.Fatalf("PHP: %s: exception %q, warnings %q; want a warning with %q", code, a.Exception, a.Warnings, text)
	}
}

// throws runs code that must throw with a message that contains text.
func (w *worker) throws(t testing.TB, code, text string) {
	t.Helper()
	if a := w.page(t, code); a.Exception == "" || !strings.Contains(a.Exception, text) {
		t.Fatalf("PHP: %s: exception %q, warnings %q; want an exception with %q", code, a.Exception, a.Warnings, text)
	}
}

// open is the code of a page that opens the session id.
func open(id string) string {
	return fmt.Sprintf("$id = '%s'; session_id($id); session_start(); ", id)
}

// show is open, and returns the session without changing it, and without the values
// that a Manager keeps for itself.
func show(id string) string {
	return open(id) + `$s = array_filter($_SESSION, fn ($name) => !str_starts_with((string) $name, '_session.'), ARRAY_FILTER_USE_KEY);
		session_write_close(); return $s;`
}

// change sets attributes of a row; nil removes one.
func change(t testing.TB, table, id string, to attributes) {
	t.Helper()
	r := row(t, table, id)
	delete(r, "id")
	for name, v := range to {
		r[name] = v
		if v == nil {
			delete(r, name)
		}
	}
	put(t, table, id, r)
}

type attributes = map[string]types.AttributeValue

// row returns the attributes of a row, nil if there is none.
func row(t testing.TB, table, id string) attributes {
	t.Helper()
	out, err := client().GetItem(t.Context(), &sdk.GetItemInput{
		TableName:      &table,
		Key:            attributes{"id": text(key(id))},
		ConsistentRead: aws.Bool(true),
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.Item
}

// put stores a row.
func put(t testing.TB, table, id string, a attributes) {
	t.Helper()
	item := maps.Clone(a)
	item["id"] = text(key(id))
	if _, err := client().PutItem(t.Context(), &sdk.PutItemInput{TableName: &table, Item: item}); err != nil {
		t.Fatal(err)
	}
}

// key is the key of the row of the session id.
func key(id string) string { return "PHPSESSID_" + id }

func text(s string) types.AttributeValue  { return &types.AttributeValueMemberS{Value: s} }
func blob(s string) types.AttributeValue  { return &types.AttributeValueMemberB{Value: []byte(s)} }
func number(n int64) types.AttributeValue { return &types.AttributeValueMemberN{Value: fmt.Sprint(n)} }
