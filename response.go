package session

import (
	"fmt"
	"maps"
	"net/http"
	"slices"

	"github.com/seed-a7bee19b/session/internal/transparent"
	"github.com/seed-a7bee19b/session/observe"
)

// responseWriter saves the session before the response starts.
type responseWriter struct {
	transparent.Writer
	x     *exchange
	r     *http.Request
	outer http.Header // what was set before the Handler
	err   error       // why the session could not be saved
	page  http.Header // of the answer that says so
}

// Start saves the session, once, and puts its headers into the response.
func (w *responseWriter) Start() error {
	if w.x.started.Load() {
		return w.err
	}
	transparent.CloseIfTooLarge(w.ResponseWriter, w.r)
	err := w.x.commit(w.r.Context())
	w.x.confirm(w.r.Context())
	h := w.Header()
	if err == nil {
		w.x.announce(h)
		return nil
	}
	err = wrap("save", err)
	w.err = err
	w.x.m.event(w.r.Context(), observe.Event{Kind: observe.EventCommitFailed, Err: err})
	w.x.discard()
	w.x.clean(h, w.outer)
	w.x.announce(h)                          // an earlier Save may have succeeded
	w.x.m.answer(w.ResponseWriter, w.r, err) // may call Error of a Manager outside
	w.x.mu.Lock()
	w.x.failed = err
	w.x.mu.Unlock()
	w.page = h.Clone()
	return err
}

// announce is called if the handler has panicked: it may have saved the session,
// and middleware that recovers may answer.
func (w *responseWriter) announce() {
	if !w.x.started.Load() {
		w.x.announce(w.Header())
	}
}

// finish runs when the handler has returned.
func (w *responseWriter) finish() {
	if !w.x.started.Load() {
		_ = w.Start() // has answered
		return
	}
	if w.err != nil { // trailers of the page do not belong to the answer
		h := w.Header()
		clear(h)
		maps.Copy(h, w.page)
		return
	}
	if err := wrap("save", w.x.commit(w.r.Context())); err != nil {
		w.x.m.event(w.r.Context(), observe.Event{Kind: observe.EventLateFailed, Err: err})
		if w.x.m.cfg.Observer == nil && !clientLeft(w.r, err) {
			logError(w.r, fmt.Errorf("changes made after the response had started are not saved: %w", err))
		}
	}
}

// Hijack saves the session before the connection is taken over. No header of
// this response will be sent, so a session that needs a new token cannot be
// saved.
func (w *responseWriter) Hijack() (undo func(), err error) {
	undo = func() {}
	if w.err != nil {
		return undo, w.err
	}
	if !w.x.started.Swap(true) {
		undo = func() { w.x.started.Store(false) } // the handler can still answer
		if err = wrap("save", w.x.commitAs(w.r.Context(), true)); err != nil {
			undo()
		}
	}
	return undo, err
}

// clean turns h, the headers of a page that will not be sent, into those of an
// error page. It keeps headers that middleware inside sets for every answer, such
// as those of CORS, deletes those that describe the page, and restores those that
// were set outside.
func (x *exchange) clean(h, outer http.Header) {
	x.mu.Lock()
	lines := x.lines
	x.mu.Unlock()
	kept := map[string][]string{}
	for _, name := range []string{"Set-Cookie", clearSiteData} {
		kept[name] = slices.Clone(outer[name])
		for _, line := range h[name] {
			if slices.Contains(lines, line) { // of a Manager inside, which has saved or logged out
				kept[name] = append(kept[name], line)
			}
		}
	}
	for name := range h {
		if transparent.OfPage(name) {
			delete(h, name)
		}
	}
	for name, values := range outer {
		if name != "Vary" || len(h[name]) == 0 { // there those inside add to it
			h[name] = values
		}
	}
	for name, values := range kept {
		if len(values) > 0 {
			h[name] = values
		}
	}
}
