package transparent

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
)

// A journal has what was called, in order.
type journal struct{ calls []string }

func (j *journal) note(call string) { j.calls = append(j.calls, call) }

// wantCalls fails unless these were the calls since it was last asked.
func (j *journal) wantCalls(t *testing.T, what string, want ...string) {
	t.Helper()
	if !slices.Equal(j.calls, want) {
		t.Errorf("%s: calls %q, want %q", what, j.calls, want)
	}
	j.calls = nil
}

var errBelow = errors.New("said by the writer below")

// below is a writer with no optional interface.
type below struct {
	*journal
	*httptest.ResponseRecorder // for the headers; its other methods are hidden
}

func newBelow(j *journal) below { return below{j, httptest.NewRecorder()} }

func (b below) Header() http.Header         { return b.ResponseRecorder.Header() }
func (b below) WriteHeader(int)             { b.note("below.WriteHeader") }
func (b below) Write(p []byte) (int, error) { b.note("below.Write"); return len(p), nil }
func (b below) plain() http.ResponseWriter  { return struct{ http.ResponseWriter }{b} }

// What else a writer may have.
type (
	flushes  struct{ *journal }
	hijacks  struct{ *journal }
	notifies struct{ *journal }
	pushes   struct{ *journal }
)

func (f flushes) Flush() { f.note("below.Flush") }

func (h hijacks) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	h.note("below.Hijack")
	return nil, nil, errBelow
}

func (h hijacks) ReadFrom(src io.Reader) (int64, error) {
	h.note("below.ReadFrom")
	return io.Copy(io.Discard, src)
}

func (n notifies) CloseNotify() <-chan bool {
	n.note("below.CloseNotify")
	c := make(chan bool, 1)
	c <- true
	return c
}

func (p pushes) Push(target string, opts *http.PushOptions) error {
	p.note("below.Push " + target + " " + opts.Method)
	return errBelow
}

// hooks are noted, and fail on demand.
type hooks struct {
	*journal
	err error
}

func (h *hooks) Start() error {
	h.note("Start")
	return h.err
}

func (h *hooks) Hijack() (undo func(), err error) {
	h.note("Hijack")
	return func() { h.note("undo") }, h.err
}
