package php

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// A step is a request that the handler of the SDK has sent, as it was recorded.
type step struct {
	Step   string
	Op     string
	Req    json.RawMessage
	Status int
	Resp   json.RawMessage
}

// A recorder answers as recorded, and keeps the requests.
type recorder struct {
	mu    sync.Mutex
	steps []step
	seen  []step
}

func (r *recorder) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil || len(r.seen) == len(r.steps) {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	s := r.steps[len(r.seen)]
	_, op, _ := strings.Cut(req.Header.Get("X-Amz-Target"), ".")
	r.seen = append(r.seen, step{Op: op, Req: body})
	answer := s.Resp
	if string(answer) == "[]" { // PHP's notation of an empty object
		answer = json.RawMessage("{}")
	}
	// The recorded reads are hits, whenever they are replayed.
	answer = times.ReplaceAll(compact(answer), fmt.Appendf(nil, `{"N":"%d"}`, time.Now().Add(time.Hour).Unix()))
	w.WriteHeader(s.Status)
	_, _ = w.Write(answer) // a test that misses it fails
}

// times are the numbers in a request that depend on the clock.
var times = regexp.MustCompile(`\{"N":"[0-9]{9,}"\}`)

func TestStandInSendsTheRecordedRequests(t *testing.T) {
	t.Parallel()
	recorded, err := os.ReadFile("testdata/requests.json")
	if err != nil {
		t.Fatal(err)
	}
	var steps []step
	if err := json.Unmarshal(recorded, &steps); err != nil {
		t.Fatal(err)
	}
	const (
		opened = `global $handler; $handler->open('', 'PHPSESSID'); session_id('ex1'); return `
		jeremy = `'user.name|s:6:"jeremy";'`
	)
	standard, locking, binary := stock("sessions", false), stock("sessions", true), stock("sessions", false)
	binary = binary.with("data_attribute_type", "binary")
	locking = locking.with("max_lock_wait_time", 0)
	calls := []struct {
		step string
		site *site // of a new process; nil: the one before
		call string
		want string
	}{
		{"read (no item)", &standard, `$handler->read('ex0');`, `""`},
		{"write (changed)", nil, `$handler->write('ex0', ` + jeremy + `);`, `true`},
		{"read (hit)", nil, `$handler->read('ex0');`, `"user.name|s:6:\"jeremy\";"`},
		{"write (unchanged)", nil, `$handler->write('ex0', ` + jeremy + `);`, `true`},
		{"write (emptied)", nil, `$handler->write('ex0', '');`, `true`},
		{"destroy", nil, `$handler->destroy('ex0');`, `true`},
		{"locking read (no item)", &locking, `$handler->read('ex1');`, `""`},
		{"locking write (changed)", nil, `$handler->write('ex1', ` + jeremy + `);`, `true`},
		{"locking read (hit)", nil, `$handler->read('ex1');`, `"user.name|s:6:\"jeremy\";"`},
		{"locking write (unchanged)", nil, `$handler->write('ex1', ` + jeremy + `);`, `true`},
		{"locking write (emptied)", nil, `$handler->write('ex1', '');`, `true`},
		{"locking read (lock is held)", nil, `$handler->read('ex1');`, `""`},
		{"locking close without a write: unlocks", &locking, `$handler->close();`, `true`},
		{"locking destroy", nil, `$handler->destroy('ex1');`, `true`},
		{"write (binary type)", &binary, `$handler->write('exb', base64_decode('YnxzOjI6Iv8AIjs='));`, `true`},
		{"garbageCollect", &standard, `$handler->garbageCollect();`, `null`}, // two requests
	}
	rec := &recorder{steps: steps}
	server := httptest.NewServer(rec)
	t.Cleanup(server.Close)
	var w *worker
	for _, c := range calls {
		if c.site != nil {
			s := c.site.through(server.URL)
			s.Client["put"] = false
			w = start(t, s)
		}
		if n := len(rec.seen); steps[n].Step != c.step {
			t.Fatalf("request %d is for %q, want %q", n, steps[n].Step, c.step)
		}
		w.want(t, opened+c.call, c.want)
	}
	if len(rec.seen) != len(steps) {
		t.Fatalf("the stand-in has sent %d requests, want %d", len(rec.seen), len(steps))
	}
	for i, s := range steps {
		if rec.seen[i].Op != s.Op {
			t.Errorf("%s: sent %s, want %s", s.Step, rec.seen[i].Op, s.Op)
		}
		if got, want := decoded(t, rec.seen[i].Req), decoded(t, s.Req); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: sent\n%s\nwant\n%s", s.Step, rec.seen[i].Req, s.Req)
		}
	}
}

// decoded decodes a request, without the times in it.
func decoded(t *testing.T, request []byte) (v any) {
	t.Helper()
	if err := json.Unmarshal(times.ReplaceAll(compact(request), []byte(`{"N":"a time"}`)), &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// compact is b, which is JSON, without spaces.
func compact(b []byte) []byte {
	var c bytes.Buffer
	_ = json.Compact(&c, b) // what is no JSON becomes nothing
	return c.Bytes()
}

func TestStandIn(t *testing.T) {
	t.Parallel()
	table := newTable(t)
	soon := time.Now().Add(time.Hour).Unix()
	put(t, table, "live", attributes{"data": text("n|i:1;"), "expires": number(soon)})
	put(t, table, "binary", attributes{"data": blob("n|s:2:\"\xff\x00\";"), "expires": number(soon)})
	put(t, table, "expired", attributes{"data": text("n|i:1;"), "expires": number(time.Now().Add(-time.Hour).Unix())})
	put(t, table, "locked", attributes{"data": text("n|i:1;"), "expires": number(soon), "lock": number(1)})

	w := start(t, stock(table, false))
	w.want(t, show("live"), `{"n":1}`)
	w.want(t, show("live___"), `{"n":1}`) // the underscores at both ends of the key are trimmed
	w.want(t, open("binary")+"session_abort(); return bin2hex($_SESSION['n']);", `"ff00"`)
	w.want(t, open("expired")+"session_abort(); return $_SESSION;", `[]`)
	w.want(t, "session_id('live'); session_start(); session_destroy();", `null`)
	if row(t, table, "live") != nil {
		t.Error("session_destroy has left the row")
	}
	w.want(t, open("other")+"$n = session_gc(); session_abort(); return $n;", `0`)
	put(t, table, "expired", attributes{"data": text("n|i:1;"), "expires": number(time.Now().Add(-time.Hour).Unix())})
	w.run(t, "global $handler; $handler->garbageCollect();")
	if row(t, table, "expired") != nil || row(t, table, "binary") == nil {
		t.Error("garbageCollect deletes expired sessions alone")
	}

	// The stock handler goes on with an empty session if the lock is not free in
	// time, and overwrites the stored one.
	w = start(t, stock(table, true).with("max_lock_wait_time", 1))
	w.want(t, open("locked")+"$s = $_SESSION; $_SESSION['m'] = 2; session_write_close(); return $s;", `[]`)
	w.want(t, show("locked"), `{"m":2}`)

	// And with an empty session if the store fails.
	w = start(t, stock("no-such-table", true))
	w.refused(t, open("live")+"if ($_SESSION !== []) { throw new Exception('not empty'); } session_abort();", "not written")
}

func TestLint(t *testing.T) {
	t.Parallel()
	var files []string
	for _, pattern := range []string{"../../php/*.php", "testdata/*.php", "testdata/*/*.php", "testdata/*/*/*.php"} {
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: %v %v", pattern, found, err)
		}
		files = append(files, found...)
	}
	for _, file := range files {
		if out, err := exec.Command(interpreter, "-l", file).CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	}
}
