package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-a7bee19b/session/admin"
)

// oddFiles returns paths that are not regular files, by their kind.
func oddFiles(t *testing.T) map[string]string {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := syscall.Mkfifo(at("pipe"), 0o600); err != nil {
		t.Skip("the file system has no named pipes:", err)
	}
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.Mkdir(at("folder"), 0o700))
	must(os.WriteFile(at("huge"), nil, 0o600))
	must(os.Truncate(at("huge"), 1<<40))
	must(os.Symlink(at("pipe"), at("link")))
	must(os.WriteFile(at("part"), []byte("x"), 0o600))
	return map[string]string{
		"folder": at("folder"), "pipe": at("pipe"), "link": at("link"), "huge": at("huge"),
		"device": os.DevNull, "no folder": filepath.Join(at("part"), "file"),
	}
}

// TestOddFiles names files that would not end, or not begin, to be read.
func TestOddFiles(t *testing.T) {
	f := newFakeDynamoDB(t, expiredTable(10))
	files := oddFiles(t)
	for name, path := range files {
		for _, args := range [][]string{
			{"sweep", "--endpoint", f.URL, "--resume", path},
			{"cost", "--prices", path},
			{"cost", "--show-prices", "--prices", path},
			{"stats", "--endpoint", f.URL, "--prices", path},
			{"bench", "--endpoint", f.URL, "--prices", path},
		} {
			code := codeFailed
			if args[0] == "sweep" {
				code = codeUsage
			}
			got := sessionctl(t.Context(), args...)
			if got.code != code || got.stdout != "" || !strings.Contains(got.stderr, args[len(args)-2]+": ") {
				t.Errorf("%s, %v: got %+v", name, args, got)
			}
		}
		if _, err := os.Lstat(path); err != nil && name != "no folder" {
			t.Errorf("%s is gone: %v", name, err)
		}
	}
	for _, op := range f.sent {
		if op != "DescribeTable" {
			t.Errorf("%s was sent", op)
		}
	}
}

// TestPipeOfPrices reads what a shell puts in the place of a file, and stops
// waiting when it is told to.
func TestPipeOfPrices(t *testing.T) {
	path := oddFiles(t)["pipe"]
	w, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if got := sessionctl(t.Context(), "cost", "--prices", path, "--timeout=50ms"); got.code != codeFailed || !strings.Contains(got.stderr, "the time of --timeout is over") {
		t.Errorf("got %+v", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got := sessionctl(ctx, "cost", "--prices", path); got.code != codeFailed || got.stderr != "sessionctl: Stopped before the end.\n" {
		t.Errorf("got %+v", got)
	}

	prices := sessionctl(t.Context(), "cost", "--show-prices").stdout
	r, pipe, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := io.WriteString(pipe, prices); err != nil {
		t.Fatal(err)
	}
	pipe.Close()
	substitute := fmt.Sprintf("/dev/fd/%d", r.Fd())
	if _, err := os.Stat(substitute); err != nil {
		t.Skip("the system does not name open files:", err)
	}
	if got := sessionctl(t.Context(), "cost", "--show-prices", "--prices", substitute); got.stdout != prices {
		t.Errorf("got %+v", got)
	}
}

// TestPipeOfAWS has the files of the AWS command line not end to be read.
func TestPipeOfAWS(t *testing.T) {
	path := oddFiles(t)["pipe"]
	for _, name := range []string{"AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(name, path)
			got := sessionctl(t.Context(), "table", "check", "--endpoint=http://127.0.0.1:1", "--timeout=20ms")
			if got.code != codeFailed || !strings.Contains(got.stderr, "the time of --timeout is over") {
				t.Errorf("got %+v", got)
			}
		})
		w, err := os.OpenFile(path, os.O_RDWR, 0) // lets go what waits for it
		if err != nil {
			t.Fatal(err)
		}
		w.Close()
	}
}

// TestResumeReplaced has the file become a link while the sweep runs.
func TestResumeReplaced(t *testing.T) {
	dir := t.TempDir()
	path, target := filepath.Join(dir, "sweep"), filepath.Join(dir, "target")
	c, err := loadCheckpoint(t.Context(), path, &dynamoStore{table: "sessions"})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, path); err != nil {
		t.Skip("the file system has no symbolic links:", err)
	}
	if err := c.save(admin.Report{Checkpoint: []byte("here")}); err == nil {
		t.Error("it wrote to a link")
	}
	if _, err := os.Lstat(target); err == nil {
		t.Error("it wrote through a link")
	}
}

// stuck is a pipe that nobody reads.
type stuck struct{ written chan struct{} }

func (s *stuck) Write([]byte) (int, error) {
	<-s.written
	return 0, io.ErrClosedPipe
}

// TestStuckPipe ends although nobody reads what it says.
func TestStuckPipe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stuck{make(chan struct{})}
		defer close(s.written)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		var stderr bytes.Buffer
		if code := run(ctx, []string{"iam", "operator"}, strings.NewReader(""), s, &stderr); code != codeFailed || !strings.Contains(stderr.String(), "nobody reads it") {
			t.Errorf("got %d and %s", code, &stderr)
		}
		if code := run(t.Context(), []string{"iam", "operator", "--timeout=1ms"}, strings.NewReader(""), s, &stderr); code != codeFailed {
			t.Errorf("got %d", code)
		}
		ctx, cancel = context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if code := run(ctx, []string{"iam", "root"}, strings.NewReader(""), io.Discard, s); code != codeUsage {
			t.Errorf("got %d", code)
		}
	})
}
