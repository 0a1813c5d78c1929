// Package transparent has what stands between an http.Server and a handler
// without either of them noticing: a writer that calls a hook before the
// response starts, and a copy of the request whose changes are given back.
package transparent

import (
	"bufio"
	"io"
	"net"
	"net/http"
)

// Hooks are called by a [Writer].
type Hooks interface {
	// Start is called before the response starts, and by every later call that
	// writes to it. If it fails, it has answered itself, and the call is dropped.
	Start() error

	// Hijack is called before the connection is taken over. If that fails, undo
	// is called.
	Hijack() (undo func(), err error)
}

// Writer calls Hooks before the response starts. Handlers get its [Writer.Face].
type Writer struct {
	http.ResponseWriter
	Hooks Hooks
}

// Unwrap is for http.ResponseController.
func (w *Writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader implements [http.ResponseWriter]. An informational response does
// not start the response.
func (w *Writer) WriteHeader(status int) {
	starts := status >= 200 && status <= 999 || status == http.StatusSwitchingProtocols // others are informational, or panic
	if starts && w.Hooks.Start() != nil {
		return
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *Writer) Write(p []byte) (int, error) {
	if err := w.Hooks.Start(); err != nil {
		return 0, err
	}
	return w.ResponseWriter.Write(p)
}

// WriteString keeps io.WriteString from copying.
func (w *Writer) WriteString(p string) (int, error) {
	if err := w.Hooks.Start(); err != nil {
		return 0, err
	}
	return io.WriteString(w.ResponseWriter, p)
}

// ReadFrom keeps sendfile.
func (w *Writer) ReadFrom(src io.Reader) (int64, error) {
	if err := w.Hooks.Start(); err != nil {
		return 0, err
	}
	if to, ok := w.ResponseWriter.(io.ReaderFrom); ok {
		return to.ReadFrom(src)
	}
	return io.Copy(w.ResponseWriter, src)
}

// Flush implements [http.Flusher].
func (w *Writer) Flush() { _ = w.FlushError() }

// FlushError implements the flushing of [http.ResponseController].
func (w *Writer) FlushError() error {
	if canFlush(w.ResponseWriter) {
		if err := w.Hooks.Start(); err != nil {
			return err
		}
	}
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// Hijack implements [http.Hijacker].
func (w *Writer) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	if !canHijack(w.ResponseWriter) {
		return nil, nil, http.ErrNotSupported
	}
	undo, err := w.Hooks.Hijack()
	if err != nil {
		return nil, nil, err
	}
	conn, buf, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err != nil {
		undo()
	}
	return conn, buf, err
}

// canFlush and canHijack report what http.ResponseController would find.
func canFlush(w http.ResponseWriter) bool {
	for ; w != nil; w = unwrap(w) {
		switch w.(type) {
		case http.Flusher, interface{ FlushError() error }:
			return true
		}
	}
	return false
}

func canHijack(w http.ResponseWriter) bool {
	for ; w != nil; w = unwrap(w) {
		if _, ok := w.(http.Hijacker); ok {
			return true
		}
	}
	return false
}

func unwrap(w http.ResponseWriter) http.ResponseWriter {
	if u, ok := w.(interface{ Unwrap() http.ResponseWriter }); ok {
		return u.Unwrap()
	}
	return nil
}
