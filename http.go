package session

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Handler returns next with sessions: its handlers get theirs with
// [Manager.Get].
//
// The session is saved before the first byte of the response leaves, by
// WriteHeader, Write, ReadFrom, Flush, Hijack or the return of next, whichever
// is first; informational responses (1xx) do not count. If saving fails, the
// client gets the answer of [Config.ErrorHandler] and nothing of the page:
// not its status, not its headers, and its Write fails with the error.
// What changes after that is saved when next returns, if the client already
// has its token; a failure then is an [Event] only, so call [Manager.Save] in
// handlers that stream. If next panics, nothing is saved.
//
// Saving does not end when the client goes away; it has [Config.CommitTimeout].
// That the idle deadline cannot be moved is an Event, and no error page.
//
// A response whose handler asked for the session gets "Vary: Cookie", and
// "Cache-Control: no-store" if the handler did not choose.
func (m *Manager) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mode := m.mode
		if m.safeMode != 0 && safe(r.Method) {
			mode = m.safeMode
		}
		var lost context.CancelCauseFunc
		if mode == Exclusive {
			var ctx context.Context
			ctx, lost = context.WithCancelCause(r.Context())
			defer lost(nil)
			r = r.WithContext(ctx)
		}
		if x := m.exchange(r.Context()); x != nil { // nested: the inner settings rule
			x.use(mode, lost)
			next.ServeHTTP(w, r)
			return
		}
		x := &exchange{m: m, header: r.Header, mode: mode, lost: lost}
		rw := &responseWriter{ResponseWriter: w, x: x}
		if h := w.Header(); len(h) > 0 {
			rw.outer = h.Clone()
		}
		rw.r = r.WithContext(context.WithValue(r.Context(), exchangeKey{m.core}, x))
		defer x.unlock(r.Context()) // also when next panics
		next.ServeHTTP(rw, rw.r)
		rw.finish()
	})
}

func safe(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return true
	}
	return false
}

// Get returns the session of the request whose context is ctx. The first call
// reads it: cost 1 Load, or nothing if the request has no token. A visitor
// whose token is missing, unknown, or expired gets a new session.
//
// Its error is the store's, [ErrDecode], or that the request did not come
// through [Manager.Handler]. There is no session then, and nothing will be
// written; answer with [Manager.Error], or try again.
func (m *Manager) Get(ctx context.Context) (*Session, error) {
	x := m.exchange(ctx)
	if x == nil {
		return nil, errors.New("session: Get: the context is not that of a request that came through Manager.Handler")
	}
	return x.get(ctx)
}

// Error answers a request that failed with err: with [Config.ErrorHandler] if
// there is one, and else with a status in words that says nothing about err:
// 409 for [ErrConflict] and [ErrNotFound], as the session changed or ended
// during the request; 500 for what trying again cannot mend; and 503 for
// everything that may go better next time, with Retry-After if it was a lock.
func (m *Manager) Error(w http.ResponseWriter, r *http.Request, err error) {
	if m.cfg.ErrorHandler != nil {
		m.cfg.ErrorHandler(w, r, err)
		return
	}
	status := http.StatusServiceUnavailable
	if errors.Is(err, ErrLockTimeout) || errors.Is(err, ErrLockLost) {
		w.Header().Set("Retry-After", strconv.Itoa(int((m.cfg.Lock.TTL+time.Second-1)/time.Second)))
	}
	switch {
	case errors.Is(err, ErrLockLost): // which a conflict may have told
	case errors.Is(err, ErrConflict), errors.Is(err, ErrNotFound):
		status = http.StatusConflict
	case errors.Is(err, ErrTooLarge), errors.Is(err, ErrEncode), errors.Is(err, ErrDecode),
		errors.Is(err, ErrReadOnly), errors.Is(err, ErrClosed), errors.Is(err, ErrTooLate):
		status = http.StatusInternalServerError
	}
	w.Header().Set("Cache-Control", "no-store")
	http.Error(w, http.StatusText(status), status)
}

type exchangeKey struct{ *core }

func (m *Manager) exchange(ctx context.Context) *exchange {
	x, _ := ctx.Value(exchangeKey{m.core}).(*exchange)
	return x
}

// exchange is one request and its response, as far as its session goes.
type exchange struct {
	m       *Manager
	header  http.Header // of the request
	started atomic.Bool // the response has; no token can be sent any more

	mu    sync.Mutex
	mode  Mode
	lost  context.CancelCauseFunc // cancels the request in mode Exclusive
	s     *Session
	tried bool   // to lock it
	asked bool   // the handler asked for the session
	token string // the client's, as far as it is alive
	dead  bool   // the client's was destroyed
}

// use makes mode rule from now on.
func (x *exchange) use(mode Mode, lost context.CancelCauseFunc) {
	x.mu.Lock()
	x.mode, x.lost = mode, lost
	s := x.s
	x.mu.Unlock()
	if s != nil && mode != Exclusive { // a lock comes with the next Get
		s.mu.Lock()
		s.mode = mode
		s.mu.Unlock()
	}
}

func (x *exchange) late() bool { return x != nil && x.started.Load() }

func (x *exchange) get(ctx context.Context) (*Session, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.s != nil {
		if x.mode == Exclusive && !x.tried && !x.late() {
			x.tried = true
			if err := x.s.upgrade(ctx, x.lost); err != nil {
				return nil, fmt.Errorf("session: get: %w", err)
			}
		}
		return x.s, nil
	}
	if !x.asked {
		x.asked = true
		var malformed bool
		if x.token, malformed = x.m.cfg.requestToken(x.header); malformed {
			x.m.event(ctx, Event{Kind: TokenMalformed})
		}
	}
	m := Manager{core: x.m.core, mode: x.mode}
	x.tried = x.mode == Exclusive
	var s *Session
	if x.token != "" {
		var err error
		s, err = m.open(ctx, x.token, x.lost)
		switch {
		case err == nil:
		case errors.Is(err, ErrNotFound),
			errors.Is(err, ErrDecode) && x.m.cfg.Undecodable == ReplaceUndecodable:
			x.token = ""
		default:
			return nil, fmt.Errorf("session: get: %w", err)
		}
	}
	if s == nil {
		s = m.Start()
	}
	s.exchange = x
	x.s = s
	return s, nil
}

// forget lets go of a session that was destroyed.
func (x *exchange) forget(s *Session) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.s == s {
		x.s, x.dead = nil, x.dead || x.token != ""
		x.token = ""
	}
}

// commit saves the session. After the response has started it does so only if
// there are changes.
func (x *exchange) commit(ctx context.Context) error {
	x.mu.Lock()
	s := x.s
	x.mu.Unlock()
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	changed := s.changed()
	if !changed && s.hold == nil {
		if _, stale := s.stale(); !stale || x.late() {
			return nil
		}
	}
	if s.closed {
		return nil
	}
	err := s.save(context.WithoutCancel(ctx), x.m.cfg.CommitTimeout)
	if !changed && !errors.Is(err, ErrLockLost) {
		return nil // the deadline was not moved, or the lock waits for its lease to end
	}
	return err
}

// unlock frees the lock that the session still has, because it was not saved.
func (x *exchange) unlock(ctx context.Context) {
	x.mu.Lock()
	s := x.s
	x.mu.Unlock()
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.hold != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), x.m.cfg.CommitTimeout)
		defer cancel()
		s.unlock(ctx)
	}
}

// announce tells the client what it needs to know, in the headers h.
func (x *exchange) announce(h http.Header) {
	x.mu.Lock()
	s, asked, was, dead := x.s, x.asked, x.token, x.dead
	x.mu.Unlock()
	if !asked {
		return
	}
	cfg := &x.m.cfg
	var id, created = was, time.Time{}
	if s != nil {
		s.mu.Lock()
		if s.stored() && !s.closed {
			id, created = s.id.token, s.rec.Created
		}
		s.mu.Unlock()
	}
	handsOut := id != was || id == "" && dead
	if handsOut {
		cfg.sendToken(h, id, created)
	}
	vary := cmp.Or(cfg.Header, "Cookie")
	if !listed(h["Vary"], vary) {
		h.Add("Vary", vary)
	}
	cache := h["Cache-Control"]
	if len(cache) == 0 || handsOut && !listed(cache, "no-store") && !listed(cache, "private") {
		h.Set("Cache-Control", "no-store") // no shared cache may keep a token
	}
}

// listed reports whether a header with comma-separated values has name.
func listed(values []string, name string) bool {
	for _, v := range values {
		for item := range strings.SplitSeq(v, ",") {
			if strings.EqualFold(strings.TrimSpace(item), name) {
				return true
			}
		}
	}
	return false
}

// responseWriter saves the session before the response starts.
type responseWriter struct {
	http.ResponseWriter
	x     *exchange
	r     *http.Request
	outer http.Header // what was set before the Handler
	err   error       // why the session could not be saved
}

// Unwrap is for http.ResponseController.
func (w *responseWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// start saves the session, once, and puts its headers into the response.
func (w *responseWriter) start() error {
	if w.x.started.Load() {
		return w.err
	}
	err := w.x.commit(w.r.Context())
	w.x.started.Store(true)
	if err == nil {
		w.x.announce(w.Header())
		return nil
	}
	w.err = err
	w.x.m.event(w.r.Context(), Event{Kind: CommitFailed, Err: err})
	h := w.Header()
	clear(h)
	maps.Copy(h, w.outer)
	w.x.m.Error(w.ResponseWriter, w.r, err)
	return err
}

// finish runs when the handler has returned.
func (w *responseWriter) finish() {
	if !w.x.started.Load() {
		_ = w.start() // has answered
		return
	}
	if w.err != nil {
		return
	}
	if err := w.x.commit(w.r.Context()); err != nil {
		w.x.m.event(w.r.Context(), Event{Kind: LateFailed, Err: err})
	}
}

func (w *responseWriter) WriteHeader(status int) {
	informational := status >= 100 && status < 200 && status != http.StatusSwitchingProtocols
	if !informational && w.start() != nil {
		return
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *responseWriter) Write(p []byte) (int, error) {
	if err := w.start(); err != nil {
		return 0, err
	}
	return w.ResponseWriter.Write(p)
}

// WriteString keeps io.WriteString from copying.
func (w *responseWriter) WriteString(p string) (int, error) {
	if err := w.start(); err != nil {
		return 0, err
	}
	return io.WriteString(w.ResponseWriter, p)
}

// ReadFrom keeps sendfile.
func (w *responseWriter) ReadFrom(src io.Reader) (int64, error) {
	if err := w.start(); err != nil {
		return 0, err
	}
	return io.Copy(w.ResponseWriter, src)
}

// Flush implements http.Flusher.
func (w *responseWriter) Flush() { _ = w.FlushError() }

// FlushError is what http.ResponseController calls.
func (w *responseWriter) FlushError() error {
	if err := w.start(); err != nil {
		return err
	}
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// Hijack implements http.Hijacker. No header of this response will be sent,
// so a session that needs a new token cannot be saved.
func (w *responseWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	if w.err != nil {
		return nil, nil, w.err
	}
	first := !w.x.started.Swap(true)
	var err error
	if first {
		err = w.x.commit(w.r.Context())
	}
	if err == nil {
		var conn net.Conn
		var buf *bufio.ReadWriter
		conn, buf, err = http.NewResponseController(w.ResponseWriter).Hijack()
		if err == nil {
			return conn, buf, nil
		}
	}
	if first {
		w.x.started.Store(false) // the handler can still answer
	}
	return nil, nil, err
}
