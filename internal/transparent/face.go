package transparent

import (
	"bufio"
	"io"
	"net"
	"net/http"
)

// There is a face for each set of optional interfaces. A face is one pointer, so
// making one costs no allocation.
type face struct{ w *Writer }

func (f face) Header() http.Header               { return f.w.Header() }
func (f face) WriteHeader(status int)            { f.w.WriteHeader(status) }
func (f face) Write(p []byte) (int, error)       { return f.w.Write(p) }
func (f face) WriteString(p string) (int, error) { return f.w.WriteString(p) }

// Unwrap is for http.ResponseController, which must not get past us to what
// starts the response.
func (f face) Unwrap() http.ResponseWriter {
	w := f.w.ResponseWriter
	_, flusher := w.(http.Flusher)
	_, hijacker := w.(http.Hijacker)
	if !flusher && canFlush(w) || !hijacker && canHijack(w) {
		return f.w
	}
	return w
}

type (
	faceF    struct{ face } // Flush
	faceH    struct{ face } // Hijack and ReadFrom
	faceC    struct{ face } // CloseNotify
	faceP    struct{ face } // Push
	faceFH   struct{ faceF }
	faceFC   struct{ faceF }
	faceFP   struct{ faceF }
	faceHC   struct{ faceH }
	faceHP   struct{ faceH }
	faceCP   struct{ faceC }
	faceFHC  struct{ faceFH } // HTTP/1
	faceFHP  struct{ faceFH }
	faceFCP  struct{ faceFC } // HTTP/2
	faceHCP  struct{ faceHC }
	faceFHCP struct{ faceFHC }
)

func (f faceF) Flush()            { f.w.Flush() }
func (f faceF) FlushError() error { return f.w.FlushError() }

func (f faceH) Hijack() (net.Conn, *bufio.ReadWriter, error)  { return f.w.Hijack() }
func (f faceFH) Hijack() (net.Conn, *bufio.ReadWriter, error) { return f.w.Hijack() }

func (f faceH) ReadFrom(src io.Reader) (int64, error)  { return f.w.ReadFrom(src) }
func (f faceFH) ReadFrom(src io.Reader) (int64, error) { return f.w.ReadFrom(src) }

func (f faceC) CloseNotify() <-chan bool   { return f.w.closeNotify() }
func (f faceFC) CloseNotify() <-chan bool  { return f.w.closeNotify() }
func (f faceHC) CloseNotify() <-chan bool  { return f.w.closeNotify() }
func (f faceFHC) CloseNotify() <-chan bool { return f.w.closeNotify() }

func (f faceP) Push(target string, opts *http.PushOptions) error    { return f.w.push(target, opts) }
func (f faceFP) Push(target string, opts *http.PushOptions) error   { return f.w.push(target, opts) }
func (f faceHP) Push(target string, opts *http.PushOptions) error   { return f.w.push(target, opts) }
func (f faceCP) Push(target string, opts *http.PushOptions) error   { return f.w.push(target, opts) }
func (f faceFHP) Push(target string, opts *http.PushOptions) error  { return f.w.push(target, opts) }
func (f faceFCP) Push(target string, opts *http.PushOptions) error  { return f.w.push(target, opts) }
func (f faceHCP) Push(target string, opts *http.PushOptions) error  { return f.w.push(target, opts) }
func (f faceFHCP) Push(target string, opts *http.PushOptions) error { return f.w.push(target, opts) }

// closeNotifier is http.CloseNotifier, which is deprecated and in use.
type closeNotifier interface{ CloseNotify() <-chan bool }

func (w *Writer) closeNotify() <-chan bool {
	return w.ResponseWriter.(closeNotifier).CloseNotify()
}

func (w *Writer) push(target string, opts *http.PushOptions) error {
	return w.ResponseWriter.(http.Pusher).Push(target, opts)
}

// Face returns w with the optional interfaces that the writer below has, and no
// others: handlers choose what they do by those that they find.
func (w *Writer) Face() http.ResponseWriter {
	const f, h, c, p = 1, 2, 4, 8
	set := 0
	if _, ok := w.ResponseWriter.(http.Flusher); ok {
		set |= f
	}
	if _, ok := w.ResponseWriter.(http.Hijacker); ok {
		set |= h
	}
	if _, ok := w.ResponseWriter.(closeNotifier); ok {
		set |= c
	}
	if _, ok := w.ResponseWriter.(http.Pusher); ok {
		set |= p
	}
	base := face{w}
	switch set {
	case f:
		return faceF{base}
	case h:
		return faceH{base}
	case c:
		return faceC{base}
	case p:
		return faceP{base}
	case f | h:
		return faceFH{faceF{base}}
	case f | c:
		return faceFC{faceF{base}}
	case f | p:
		return faceFP{faceF{base}}
	case h | c:
		return faceHC{faceH{base}}
	case h | p:
		return faceHP{faceH{base}}
	case c | p:
		return faceCP{faceC{base}}
	case f | h | c:
		return faceFHC{faceFH{faceF{base}}}
	case f | h | p:
		return faceFHP{faceFH{faceF{base}}}
	case f | c | p:
		return faceFCP{faceFC{faceF{base}}}
	case h | c | p:
		return faceHCP{faceHC{faceH{base}}}
	case f | h | c | p:
		return faceFHCP{faceFHC{faceFH{faceF{base}}}}
	}
	return base
}
