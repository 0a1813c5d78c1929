package session_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/memory"
)

// The optional methods of a writer below the Handler's.
type (
	flushes  struct{}
	hijacks  struct{}
	notifies struct{}
	pushes   struct{}
)

var errBelow = errors.New("said by the writer below")

func (flushes) Flush()                                       {}
func (hijacks) Hijack() (net.Conn, *bufio.ReadWriter, error) { return nil, nil, errBelow }
func (hijacks) ReadFrom(r io.Reader) (int64, error)          { return io.Copy(io.Discard, r) }
func (notifies) CloseNotify() <-chan bool                    { return make(chan bool, 1) }
func (pushes) Push(target string, _ *http.PushOptions) error {
	return fmt.Errorf("%s: %w", target, errBelow)
}

type bare struct{ http.ResponseWriter }

// below returns a writer for each set of them.
func below() map[string]http.ResponseWriter {
	p := bare{httptest.NewRecorder()}
	return map[string]http.ResponseWriter{
		"none": p,
		"F": struct {
			bare
			flushes
		}{p, flushes{}},
		"H": struct {
			bare
			hijacks
		}{p, hijacks{}},
		"C": struct {
			bare
			notifies
		}{p, notifies{}},
		"P": struct {
			bare
			pushes
		}{p, pushes{}},
		"FH": struct {
			bare
			flushes
			hijacks
		}{bare: p},
		"FC": struct {
			bare
			flushes
			notifies
		}{bare: p},
		"FP": struct {
			bare
			flushes
			pushes
		}{bare: p},
		"HC": struct {
			bare
			hijacks
			notifies
		}{bare: p},
		"HP": struct {
			bare
			hijacks
			pushes
		}{bare: p},
		"CP": struct {
			bare
			notifies
			pushes
		}{bare: p},
		"FHC": struct {
			bare
			flushes
			hijacks
			notifies
		}{bare: p},
		"FHP": struct {
			bare
			flushes
			hijacks
			pushes
		}{bare: p},
		"FCP": struct {
			bare
			flushes
			notifies
			pushes
		}{bare: p},
		"HCP": struct {
			bare
			hijacks
			notifies
			pushes
		}{bare: p},
		"FHCP": struct {
			bare
			flushes
			hijacks
			notifies
			pushes
		}{bare: p},
	}
}

// has returns the optional interfaces of w, and their results.
func has(w http.ResponseWriter) string {
	s := ""
	if f, ok := w.(http.Flusher); ok {
		f.Flush()
		s += "Flush "
	}
	if h, ok := w.(http.Hijacker); ok {
		_, _, err := h.Hijack()
		s += fmt.Sprintf("Hijack: %v ", err)
	}
	if _, ok := w.(io.ReaderFrom); ok {
		s += "ReadFrom "
	}
	if c, ok := w.(interface{ CloseNotify() <-chan bool }); ok {
		s += fmt.Sprint("CloseNotify ", c.CloseNotify() != nil)
	}
	if p, ok := w.(http.Pusher); ok {
		s += fmt.Sprintf("Push: %v ", p.Push("/x", nil))
	}
	return s
}

// TestOptionalInterfaces checks that a handler finds exactly the interfaces of
// the writer below.
func TestOptionalInterfaces(t *testing.T) {
	m := newManager(t, &memory.Backend{}, session.Config{})
	for name, w := range below() {
		t.Run(name, func(t *testing.T) {
			want := has(w)
			m.Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				if got := has(w); got != want {
					t.Errorf("found %q, without the Handler %q", got, want)
				}
			})).ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
		})
	}
}

// hides has only a method to unwrap, like the writers of many middlewares.
type hides struct{ http.ResponseWriter }

func (w hides) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// TestNoWayPastTheWriter checks that a ResponseController, which unwraps, does
// not start the response before the session is saved.
func TestNoWayPastTheWriter(t *testing.T) {
	for name, start := range map[string]func(c *http.ResponseController) error{
		"Flush":  (*http.ResponseController).Flush,
		"Hijack": func(c *http.ResponseController) error { _, _, err := c.Hijack(); return err },
	} {
		t.Run(name, func(t *testing.T) {
			var b store
			m := newManager(t, &b, session.Config{})
			token := begin(t, m, map[string]any{"note": "x"})
			h := m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if got := has(w); got != "" {
					t.Errorf("found %s", got)
				}
				s, err := m.Get(r.Context())
				check(t, err)
				check(t, note.Set(s, "y"))
				b.took()
				_ = start(http.NewResponseController(w))
				b.wantCalls(t, "Save")
			}))
			h.ServeHTTP(hides{recorder{httptest.NewRecorder()}}, cookied("__Host-session="+token))
		})
	}
}

// TestWhatIsNotThereStartsNothing checks that a handler can continue after
// http.ErrNotSupported.
func TestWhatIsNotThereStartsNothing(t *testing.T) {
	m := newManager(t, &memory.Backend{}, session.Config{})
	w := httptest.NewRecorder()
	m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, err := m.Get(r.Context())
		check(t, err)
		c := http.NewResponseController(w)
		_, _, err = c.Hijack()
		wantErr(t, errors.Join(err, c.Flush()), http.ErrNotSupported)
		check(t, note.Set(s, "x"))
	})).ServeHTTP(bare{w}, httptest.NewRequest("GET", "/", nil))
	if sent(w) == "" {
		t.Error("no token")
	}
}
