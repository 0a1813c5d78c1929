package transparent

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// TestWriteHeader: a response starts with the first status that is none of an
// informational one.
func TestWriteHeader(t *testing.T) {
	for _, tt := range []struct {
		status int
		starts bool
	}{
		{100, false}, {102, false}, {103, false}, {199, false}, {101, true},
		{200, true}, {204, true}, {304, true}, {404, true}, {500, true}, {599, true}, {600, true}, {999, true},
		{-1, false}, {0, false}, {99, false}, {1000, false}, // net/http panics
	} {
		for _, failed := range []error{nil, errors.New("failed")} {
			j := &journal{}
			(&Writer{ResponseWriter: newBelow(j), Hooks: &hooks{journal: j, err: failed}}).WriteHeader(tt.status)
			var want []string
			if tt.starts {
				want = append(want, "Start")
			}
			if !tt.starts || failed == nil {
				want = append(want, "below.WriteHeader")
			}
			j.wantCalls(t, http.StatusText(tt.status), want...)
		}
	}
}

// TestStartFails: the hook has answered, and what the handler writes is dropped.
func TestStartFails(t *testing.T) {
	failed := errors.New("failed")
	for set := range writers(&journal{}) {
		j := &journal{}
		w := writers(j)[set]
		wr := &Writer{ResponseWriter: w, Hooks: &hooks{journal: j, err: failed}}
		_, flushes := w.(http.Flusher)
		_, hijacks := w.(http.Hijacker)
		for what, f := range map[string]func() (int64, error){
			"Write":       func() (int64, error) { n, err := wr.Write([]byte("x")); return int64(n), err },
			"WriteString": func() (int64, error) { n, err := wr.WriteString("x"); return int64(n), err },
			"ReadFrom":    func() (int64, error) { return wr.ReadFrom(strings.NewReader("x")) },
		} {
			if n, err := f(); n != 0 || !errors.Is(err, failed) {
				t.Errorf("%s: %d, %v", what, n, err)
			}
			j.wantCalls(t, what, "Start")
		}
		wr.Flush()
		err := wr.FlushError()
		if flushes {
			j.wantCalls(t, "Flush", "Start", "Start")
		} else {
			j.wantCalls(t, "Flush") // so a handler that is told so can go on
		}
		if want := map[bool]error{true: failed, false: http.ErrNotSupported}[flushes]; !errors.Is(err, want) {
			t.Errorf("FlushError: %v", err)
		}
		conn, buf, err := wr.Hijack()
		if want := map[bool]error{true: failed, false: http.ErrNotSupported}[hijacks]; !errors.Is(err, want) || conn != nil || buf != nil {
			t.Errorf("Hijack: %v, %v, %v", conn, buf, err)
		}
		if hijacks {
			j.wantCalls(t, "Hijack", "Hijack") // which has undone it itself
		} else {
			j.wantCalls(t, "Hijack")
		}
	}
}

// stringWriter is a writer with WriteString.
type stringWriter struct{ below }

func (w stringWriter) WriteString(s string) (int, error) {
	w.note("below.WriteString")
	return len(s), nil
}

// failingFlusher is a writer whose Flush fails.
type failingFlusher struct{ below }

func (w failingFlusher) FlushError() error { return errBelow }

// hijacked is a writer that gives its connection away.
type hijacked struct {
	below
	conn net.Conn
}

func (w hijacked) Hijack() (net.Conn, *bufio.ReadWriter, error) { return w.conn, nil, nil }

// TestWriterUsesWhatIsBelow: what the writer below does better is left to it.
func TestWriterUsesWhatIsBelow(t *testing.T) {
	j := &journal{}
	h := &hooks{journal: j}
	if n, err := (&Writer{ResponseWriter: stringWriter{newBelow(j)}, Hooks: h}).WriteString("abc"); n != 3 || err != nil {
		t.Errorf("WriteString: %d, %v", n, err)
	}
	j.wantCalls(t, "WriteString", "Start", "below.WriteString")

	// Without ReadFrom, it is copied.
	if n, err := (&Writer{ResponseWriter: newBelow(j), Hooks: h}).ReadFrom(struct{ io.Reader }{strings.NewReader("abc")}); n != 3 || err != nil {
		t.Errorf("ReadFrom: %d, %v", n, err)
	}
	j.wantCalls(t, "ReadFrom", "Start", "below.Write")

	if err := (&Writer{ResponseWriter: failingFlusher{newBelow(j)}, Hooks: h}).FlushError(); !errors.Is(err, errBelow) {
		t.Errorf("FlushError: %v", err)
	}
	j.wantCalls(t, "FlushError", "Start")

	conn, other := net.Pipe()
	defer other.Close()
	defer conn.Close()
	if got, _, err := (&Writer{ResponseWriter: hijacked{newBelow(j), conn}, Hooks: h}).Hijack(); got != conn || err != nil {
		t.Errorf("Hijack: %v, %v", got, err)
	}
	j.wantCalls(t, "Hijack", "Hijack") // and nothing is undone
}
