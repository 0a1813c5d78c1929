package integration

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/integration/owners"
	"github.com/seed-a7bee19b/session/observe"
)

// The tests with locks need processes, which can be killed and stopped. Each is
// this program, started again with its job in the environment.

const jobVariable = "SESSION_TEST_JOB"

// A job is the work of a process.
type job struct {
	Kind    string // one of those in jobs
	Name    string // of the process
	At      address
	Token   string
	Mode    int // a session.Mode, which can be written to JSON but not read
	TTL     time.Duration
	MaxWait time.Duration
	Hold    time.Duration // how long to keep each lock
	From    int           // the first increment
	Count   int           // the increment after the last
	Resolve bool          // the first increment may have been stored before
	Seed    uint64
	Keys    []string
	Scans   string // where a sweep sends its Scans
	File    string // where it writes its checkpoints
}

// An event is a line that a process writes.
type event struct {
	Kind  string
	Name  string        `json:",omitempty"`
	Err   string        `json:",omitempty"`
	Is    []string      `json:",omitempty"` // the sentinels in the error
	Waits time.Duration `json:",omitempty"`
	N     []int64       `json:",omitempty"`
	Ops   []op          `json:",omitempty"`
	Done  *owners.Op    `json:",omitempty"`
}

func (e event) is(sentinel string) bool {
	for _, s := range e.Is {
		if s == sentinel {
			return true
		}
	}
	return false
}

var sentinels = map[string]error{
	"not found": session.ErrNotFound,
	"conflict":  session.ErrConflict,
	"locked":    session.ErrLocked,
	"timeout":   session.ErrLockTimeout,
	"lost":      session.ErrLockLost,
}

func failed(kind, name string, err error) event {
	e := event{Kind: kind, Name: name}
	if err == nil {
		return e
	}
	e.Err = err.Error()
	for name, sentinel := range sentinels {
		if errors.Is(err, sentinel) {
			e.Is = append(e.Is, name)
		}
	}
	return e
}

// process is a process that was started.
type process struct {
	t      testing.TB
	name   string
	cmd    *exec.Cmd
	in     io.WriteCloser
	events chan event // closed when it has ended
	said   bytes.Buffer
	stop   func()
}

// start starts a process. It ends with the test at the latest, and also if the
// test's own process is killed, because its standard input is then closed.
func start(t testing.TB, j job) *process {
	t.Helper()
	text, err := json.Marshal(j)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, name: j.Name, cmd: exec.Command(self), events: make(chan event, 1000)}
	p.cmd.Env = append(os.Environ(), jobVariable+"="+string(text))
	p.cmd.Stderr = &p.said
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.events)
		for d := json.NewDecoder(out); ; {
			var e event
			if d.Decode(&e) != nil { // the end, or half a line of one that was killed
				return
			}
			p.events <- e
		}
	}()
	p.stop = sync.OnceFunc(func() {
		_ = p.in.Close()
		_ = p.cmd.Process.Kill()
		for range p.events { // Wait closes the pipe, so it has to be read before
			continue
		}
		_ = p.cmd.Wait() // it was killed
		if t.Failed() && p.said.Len() > 0 {
			t.Logf("%s said:\n%s", p.name, &p.said)
		}
	})
	t.Cleanup(p.stop)
	return p
}

// say writes a line to the process.
func (p *process) say(line string) {
	p.t.Helper()
	if _, err := io.WriteString(p.in, line+"\n"); err != nil {
		p.t.Fatalf("to %s: %v", p.name, err)
	}
}

// wait returns the next event, which must be of the given kind.
func (p *process) wait(kind string) event {
	p.t.Helper()
	select {
	case e, ok := <-p.events:
		switch {
		case !ok:
			p.stop()
			p.t.Fatalf("%s ended, want event %q\n%s", p.name, kind, &p.said)
		case e.Kind != kind:
			p.t.Fatalf("%s: got event %+v, want %q", p.name, e, kind)
		}
		return e
	case <-time.After(time.Minute):
		p.t.Fatalf("%s: no event %q within a minute", p.name, kind)
	}
	return event{}
}

func (p *process) signal(sig syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		p.t.Fatalf("%v to %s: %v", sig, p.name, err)
	}
}

// worker is the work of the process itself.
type worker struct {
	job
	ctx     context.Context
	backend session.LockingBackend
	m       *session.Manager
	in      *bufio.Scanner

	mu  sync.Mutex
	out *json.Encoder
}

var jobs = map[string]func(*worker) error{
	"count":   (*worker).count,
	"hold":    (*worker).hold,
	"wait":    (*worker).wait,
	"write":   (*worker).write,
	"history": (*worker).history,
	"sweep":   (*worker).sweep,
	"owners":  (*worker).owners,
}

// work is called by TestMain in a process that has a job.
func work() int {
	w := &worker{in: bufio.NewScanner(os.Stdin), out: json.NewEncoder(os.Stdout)}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	w.ctx = ctx
	err := json.Unmarshal([]byte(os.Getenv(jobVariable)), &w.job)
	if err == nil {
		w.backend, err = w.At.store().connect(w.At)
	}
	var locker session.Locker
	if err == nil {
		locker, err = w.At.locker()
	}
	if err == nil {
		cfg := session.Config{
			Mode: session.Mode(w.Mode), MaxMerges: 1000, Observer: w,
			Lock: session.LockConfig{TTL: w.TTL, MaxWait: w.MaxWait, Locker: locker},
		}
		if suit := w.At.store().suit; suit != nil {
			suit(&cfg)
		}
		w.m, err = session.New(w.backend, cfg)
	}
	if err == nil {
		err = jobs[w.Kind](w)
	}
	if err != nil {
		w.tell(failed("error", w.Name, err))
		return 1
	}
	return 0
}

// tell writes an event. An event that is shorter than a pipe's buffer is written
// whole or not at all, even by a process that is killed.
func (w *worker) tell(e event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.out.Encode(e) != nil {
		os.Exit(2) // no reader is left
	}
}

// hear waits for a line from the test.
func (w *worker) hear() string {
	if !w.in.Scan() {
		os.Exit(2)
	}
	return w.in.Text()
}

// Call implements [observe.Observer]: it reports Saves that met a lock.
func (w *worker) Call(ctx context.Context, op observe.Op) (context.Context, func(error)) {
	if op != observe.OpSave || w.Kind != "write" {
		return ctx, nil
	}
	return ctx, func(err error) {
		if errors.Is(err, session.ErrLocked) {
			w.tell(event{Kind: "refused", Name: w.Name})
		}
	}
}

// Event implements [observe.Observer]: it reports how long a lock took.
func (w *worker) Event(_ context.Context, e observe.Event) {
	if e.Kind == observe.EventLockAcquired && w.Kind == "count" {
		w.tell(event{Kind: "locked", Name: w.Name, Waits: e.Wait})
	}
}
