package session

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-a7bee19b/session/internal/printable"
	"github.com/seed-a7bee19b/session/observe"
)

// Handler returns next with sessions: its handlers get theirs with
// [Manager.Get].
//
// The session is saved before the first byte of the response leaves, by
// WriteHeader, Write, ReadFrom, Flush, Hijack or the return of next, whichever
// is first; informational responses (1xx) do not count. If saving fails, the
// client gets the answer of [Config.ErrorHandler] and nothing of the page:
// not its status, not the headers that describe it, and its Write fails with
// the error.
// What changes after that is saved when next returns, if the client already
// has its token; a failure then is an [observe.Event] only, so call [Manager.Save] in
// handlers that stream. If next panics, nothing more is saved. Then the
// session is closed, also for goroutines that next has left behind.
//
// Saving does not end when the client goes away; it has [Config.CommitTimeout],
// and [LockConfig.MaxWait] more to wait for its turn, while another holder's lock is
// live or other requests save the session. As a context that has ended does not
// say that nobody waits for the answer, a new session is stored, and its token
// sent, all the same; and a Login of a session without a user, which then stays
// as it was under its old ID. Any other new ID is refused with [ErrTooLate], as
// is one whose context ends while it is being stored: then the old one is as it
// was. That the idle deadline cannot be moved is an Event, and no error page.
//
// A response whose handler asked for the session gets "Vary: Cookie", and
// "Cache-Control: no-store" if the handler did not choose. One that hands out a
// token gets it unless the handler chose no-store or private, and loses what
// tells shared caches otherwise: Expires, Surrogate-Control, CDN-Cache-Control
// and those like it. Nothing else changes: next finds the optional interfaces
// of w, and whoever is outside finds in r what next made of it, such as its
// Pattern and MultipartForm. Headers of the response are touched only on the
// goroutine that writes it, when it starts.
//
// The error page keeps the headers that middleware inside has set for every
// answer, such as those of CORS, and loses those that describe the page, its
// cookies among them; but not the token that another Manager inside has sent.
// What was set outside of the Handler is there as it was.
//
// Put recoverers outside: one inside answers before the Handler can know of the
// panic, and what the handler has changed until then is saved with that answer.
// Where it has to be inside, let it answer with [Manager.Error]. Put
// [http.TimeoutHandler] outside: inside, what the handler has changed until the
// timeout is saved with the response that says so. Put [http.MaxBytesHandler]
// outside: inside, the server cannot close the connection for it.
func (m *Manager) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mode := m.mode
		if m.safeMode != 0 && safe(r.Method) {
			mode = m.safeMode
		}
		if x := m.exchange(r.Context()); x != nil { // nested: the inner settings rule
			defer x.use(x.enter(m, mode))
			next.ServeHTTP(w, r)
			return
		}
		x := &exchange{m: m, request: r.Header, inner: m, mode: mode}
		x.outer, _ = r.Context().Value(exchangeKey{}).(*exchange)
		x.found = exchangeContext{r.Context(), x}
		x.ctx = &x.found
		if m.locking.Load() {
			x.ctx, x.cancel = context.WithCancelCause(x.ctx) // ends with the request, which may outlast next
		}
		x.writer = responseWriter{ResponseWriter: w, x: x, r: lend(x.ctx, r)}
		rw := &x.writer
		if h := w.Header(); len(h) > 0 {
			rw.outer = h.Clone()
		}
		defer x.end(r.Context())
		defer giveBack(r, rw.r)
		defer rw.announce() // in the answer to a panic
		next.ServeHTTP(rw.face(), rw.r)
		rw.finish()
	})
}

// HandlerFunc returns a Handler around f, which gets its session as an argument.
// If [Manager.Get] or f fails, [Manager.Error] answers with the error, and what
// f changed is dropped. It may be nested in the Handler of the whole site, and
// needs none around it.
func (m *Manager) HandlerFunc(f func(w http.ResponseWriter, r *http.Request, s *Session) error) http.Handler {
	return m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, err := m.Get(r.Context())
		if err == nil {
			err = f(w, r, s)
		}
		if err != nil {
			m.Error(w, r, err)
		}
	}))
}

func safe(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return true
	}
	return false
}

// Get returns the session of the request whose context is ctx. The first call
// reads it: cost 1 Load, or nothing if the request has no token; in mode
// [Exclusive], and for one that has expired, as [Manager.Open] says. Of several
// tokens it tries four at most, until one is alive. A visitor whose token is
// missing, unknown, or expired gets a new session.
//
// Its error is the store's, [ErrDecode], [ErrLockTimeout], [ErrClosed] after
// the Handler has returned, or that the request did not come through
// [Manager.Handler]. It is [ErrNotFound] for a request with a safe method that
// comes under an ID which its session gave up less than 10 seconds ago, as it
// may have been on its way: a new session's cookie would displace the one that
// the client has just been sent. There is no session then, and nothing will be
// written; answer with [Manager.Error], or try again.
//
// With another method such a request, and after the 10 seconds any, gets a new
// session, with which it can log out: [Manager.Destroy] ends the session that
// has moved. It has no values, and for those 10 seconds everything but Destroy
// and [Session.Login] fails with ErrNotFound. But where a Login gave the session
// its new ID and its first user, and nothing was saved under that ID since, the
// answer may have been lost: then, at the cost of 1 Load more, the new session
// has the values from before the Login, and its client can log in again: at the
// cost of 2 Saves more, what that Login had made is ended then. In those 10
// seconds, saving anything else fails with ErrNotFound.
func (m *Manager) Get(ctx context.Context) (*Session, error) {
	x := m.exchange(ctx)
	if x == nil {
		return nil, wrap("get", errNoHandler)
	}
	s, err := x.get(ctx, m)
	if err != nil {
		return nil, wrap("get", err)
	}
	return s, nil
}

var (
	errNoHandler = errors.New("the context is not that of a request that came through Manager.Handler")
	errNoView    = errors.New("the request did not come through the Handler of this Manager, which With has made")
)

// Error answers a request that failed with err, an error of this package, and
// drops what the request has changed and not saved. It uses
// [Config.ErrorHandler] if there is one; else it answers with [Status] in
// words that say nothing about err, with Retry-After if it was a lock, and
// logs err where net/http logs, if the status is 500 or more. That the client
// has gone away is not logged.
func (m *Manager) Error(w http.ResponseWriter, r *http.Request, err error) {
	if x := m.exchange(r.Context()); x != nil {
		x.discard()
	}
	m.answer(w, r, err)
}

func (m *Manager) answer(w http.ResponseWriter, r *http.Request, err error) {
	if m.cfg.ErrorHandler != nil {
		m.cfg.ErrorHandler(w, r, err)
		return
	}
	if isAny(err, ErrLockTimeout, ErrLockLost) {
		w.Header().Set("Retry-After", strconv.Itoa(int((m.cfg.Lock.TTL+time.Second-1)/time.Second)))
	}
	w.Header().Set("Cache-Control", "no-store")
	status := Status(err)
	if status >= http.StatusInternalServerError && !left(r, err) {
		logError(r, err)
	}
	http.Error(w, http.StatusText(status), status)
}

// logError is for who has configured neither an ErrorHandler nor an Observer.
func logError(r *http.Request, err error) {
	logger := log.Default()
	if srv, ok := r.Context().Value(http.ServerContextKey).(*http.Server); ok && srv.ErrorLog != nil {
		logger = srv.ErrorLog
	}
	logger.Printf("%s %s: %s", printable.Text(r.Method), r.URL.EscapedPath(), printable.Text(err.Error()))
}

// left reports whether err is only that r's client, or the whole server, has
// gone away. A context that ended for another reason has another cause.
func left(r *http.Request, err error) bool {
	cause := context.Cause(r.Context())
	return errors.Is(err, context.Canceled) && errors.Is(cause, context.Canceled) && !errors.Is(cause, ErrLockLost)
}

// Status returns the HTTP status for an error: 409 for [ErrConflict] and
// [ErrNotFound], as the session changed or ended during the request; 503 for
// [ErrStore], [ErrLockTimeout], [ErrLockLost] and a context that has ended, as
// trying again may help; and 500 for everything else, including errors that are
// not of this package. A client that has gone away gets 503 too, which only the
// log of a proxy shows.
func Status(err error) int {
	switch {
	case isAny(err, ErrLockLost, ErrLockTimeout): // whatever came of it
		return http.StatusServiceUnavailable
	case isAny(err, ErrConflict, ErrNotFound):
		return http.StatusConflict
	case isAny(err, ErrTooLarge, ErrEncode, ErrDecode, ErrReadOnly, ErrClosed, ErrTooLate):
		return http.StatusInternalServerError
	case isAny(err, ErrStore, ErrLocked, context.Canceled, context.DeadlineExceeded):
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

type exchangeKey struct{ *core }

func (m *Manager) exchange(ctx context.Context) *exchange {
	x, _ := ctx.Value(exchangeKey{m.core}).(*exchange)
	return x
}

// exchangeContext is the request's context, and knows its exchange.
type exchangeContext struct {
	context.Context
	x *exchange
}

// Value looks for the exchange, and then in the request's own context. To a key
// without a core it gives the innermost exchange, of whichever Manager.
func (c *exchangeContext) Value(key any) any {
	if k, ok := key.(exchangeKey); ok && (k.core == c.x.m.core || k.core == nil) {
		return c.x
	}
	return c.Context.Value(key)
}

// String is for who prints the context. As with those of package context, what
// is in one that does not say itself is not shown.
func (c *exchangeContext) String() string {
	outer := fmt.Sprintf("%T", c.Context)
	if s, ok := c.Context.(fmt.Stringer); ok {
		outer = s.String()
	}
	return outer + ".WithSession"
}

// exchange is one request and its response, as far as its session goes.
type exchange struct {
	m       *Manager
	outer   *exchange               // of another Manager, whose Handler is outside
	ctx     context.Context         // of the request
	cancel  context.CancelCauseFunc // of ctx, if there are locks
	request http.Header
	started atomic.Bool // the response has; no token can be sent any more

	// Here, so that a request has one allocation for all of it.
	found  exchangeContext
	writer responseWriter

	mu      sync.Mutex
	inner   *Manager // whose Handler is the innermost
	mode    Mode
	s       *Session
	opening bool          // a Get is under way
	opened  chan struct{} // closed when it is done; made by who waits for that
	asked   bool          // the handler asked for the session
	quiet   bool          // it did so in mode ReadOnly: nothing is touched
	locked  bool          // it has, or was refused and goes on without
	over    bool          // the Handler has returned
	first   [1]string     // room for tokens
	tokens  []string      // those that the client has sent, until it logs out
	token   string        // the client's, as far as it is alive
	dead    bool          // the client's was destroyed
	cookies []string      // lines of Set-Cookie that Managers inside have sent
}

// enter makes the settings of a nested Handler rule, and returns those before.
func (x *exchange) enter(m *Manager, mode Mode) (*Manager, Mode) {
	x.mu.Lock()
	outer, outerMode := x.inner, x.mode
	x.mu.Unlock()
	x.use(m, mode)
	return outer, outerMode
}

// use makes the settings of m's Handler rule.
func (x *exchange) use(m *Manager, mode Mode) {
	x.mu.Lock()
	x.inner, x.mode = m, mode
	s := x.s
	x.mu.Unlock()
	if s != nil && mode != Exclusive { // a lock comes with the next Get
		s.mode.set(mode)
	}
}

func (x *exchange) late() bool { return x != nil && x.started.Load() }

// gone returns why the client may have gone, nil if it waits.
func (x *exchange) gone() error {
	if x == nil {
		return nil
	}
	err := context.Cause(x.ctx)
	if err == nil || errors.Is(err, ErrLockLost) {
		return err
	}
	return fmt.Errorf("%w: the client is gone: %w", ErrTooLate, err)
}

// session returns the session, if there is one, and whether to touch it.
func (x *exchange) session() (s *Session, quiet bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.s, x.quiet
}

// get is Manager.Get.
func (x *exchange) get(ctx context.Context, m *Manager) (*Session, error) {
	for {
		x.mu.Lock()
		switch {
		case x.over:
			x.mu.Unlock()
			return nil, ErrClosed
		case m.view && x.inner != m:
			x.mu.Unlock()
			return nil, errNoView // or it would run in a mode that its caller did not mean
		}
		if !x.opening {
			break
		}
		if x.opened == nil {
			x.opened = make(chan struct{})
		}
		opened := x.opened
		x.mu.Unlock()
		select {
		case <-opened:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	lock := x.mode == Exclusive && !x.locked && !x.late()
	if x.s != nil && !lock {
		defer x.mu.Unlock()
		x.quiet = x.quiet && x.mode == ReadOnly
		return x.s, nil
	}
	var sent carried
	if !x.asked {
		x.asked = true
		sent = x.m.cfg.carried(x.request, x.first[:0])
		if x.tokens = sent.tokens; len(x.tokens) > 0 {
			x.token = x.tokens[0]
		}
	}
	x.opening = true
	x.quiet = x.mode == ReadOnly
	s, tokens, mode := x.s, x.tokens, x.mode
	x.mu.Unlock()
	defer x.openingDone()

	if sent.malformed {
		x.m.event(ctx, observe.Event{Kind: observe.EventTokenMalformed})
	}
	if sent.values > 0 {
		x.m.event(ctx, observe.Event{Kind: observe.EventTokenDuplicate, N: sent.values})
	}
	var err error
	if s != nil {
		err = s.upgrade(ctx)
	} else {
		s, err = x.open(ctx, &Manager{core: x.m.core, mode: mode}, tokens)
	}
	if err != nil {
		return nil, err
	}
	x.mu.Lock()
	over := x.over
	x.s, x.locked = s, x.locked || lock
	if s.token != nil {
		x.token = *s.token // of those that it has sent, the one that is alive
	}
	x.mu.Unlock()
	if over { // the Handler has returned meanwhile, and closed nothing
		x.close(ctx, s)
		return nil, ErrClosed
	}
	return s, nil
}

func (x *exchange) openingDone() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.opening = false
	if x.opened != nil {
		close(x.opened)
		x.opened = nil
	}
}

// open returns the first session that one of the tokens has, or a new one. A
// dead token must not hide one that is alive: two cookies of one name are what
// is left when their Path or Domain changes, and what a sibling host can plant.
func (x *exchange) open(ctx context.Context, m *Manager, tokens []string) (*Session, error) {
	var moved *movedError
	for _, token := range tokens {
		s, err := m.open(ctx, token, x)
		if err == nil {
			return s, nil
		}
		to := asMoved(err)
		switch {
		case to != nil:
			moved = cmp.Or(moved, to)
		case errors.Is(err, ErrNotFound),
			errors.Is(err, ErrDecode) && m.cfg.Undecodable == ReplaceUndecodable:
		default:
			return nil, err
		}
	}
	if moved != nil {
		return x.instead(ctx, m, moved)
	}
	return x.start(m), nil
}

func (x *exchange) start(m *Manager) *Session {
	s := m.Start()
	s.ctx, s.exchange = x.ctx, x
	return s
}

// instead returns what a request gets in place of a session that has moved.
func (x *exchange) instead(ctx context.Context, m *Manager, to *movedError) (*Session, error) {
	if to.recent() && safe(x.writer.r.Method) {
		return nil, errMoved
	}
	s := x.start(m)
	return s, s.instead(ctx, to)
}

// forget lets go of a session that was destroyed.
func (x *exchange) forget(s *Session) {
	x.mu.Lock()
	if x.s == s {
		x.s, x.dead = nil, x.dead || x.token != ""
		x.token, x.tokens = "", nil
	}
	x.mu.Unlock()
}

// discard drops the changes; those that are being saved, when that has failed.
func (x *exchange) discard() {
	s, _ := x.session()
	if s == nil {
		return
	}
	s.set(func() {
		if s.saving {
			s.dropped = true
		} else {
			s.discard()
		}
	})
}

// end closes the session: after the Handler nobody saves it any more.
func (x *exchange) end(ctx context.Context) {
	x.mu.Lock()
	s := x.s
	x.over = true
	x.mu.Unlock()
	if s != nil {
		x.close(ctx, s)
	}
}

func (x *exchange) close(ctx context.Context, s *Session) {
	s.use.end()
	locked := true
	s.set(func() {
		s.closed.Store(true)
		locked = s.hold != nil || s.saving // or it may come to be
	})
	if !locked {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), x.m.moveTimeout())
	defer cancel()
	err := s.exclusively(ctx, time.Time{}, func() error {
		s.unlock(ctx)
		return nil
	})
	if err != nil { // a goroutine is still at work with it
		s.set(func() {
			if s.hold != nil {
				s.hold.end()
			}
		})
	}
}

// commit saves the session, and before the response starts also touches it or
// frees its lock. Nothing that needs a new token comes after it, even if the
// response is started by another goroutine.
func (x *exchange) commit(ctx context.Context) error { return x.commitAs(ctx, !x.started.Load()) }

// commitAs is commit; first says whether the response has still to start.
func (x *exchange) commitAs(ctx context.Context, first bool) error {
	s, quiet := x.session()
	if s == nil {
		x.started.Store(true)
		return nil
	}
	s.use.end()
	quiet = quiet || !first
	idle := func() bool { return x.idle(s, quiet) }
	start := func() { x.started.Store(true) }
	spared := false
	// With the session's lock, so that no edit is in between.
	if s.quickly(idle, func() { spared = !quiet && !s.closed.Load() && s.spared(); start() }) {
		if spared {
			s.m.event(ctx, observe.Event{Kind: observe.EventTouchSkipped})
		}
		return nil
	}
	timeout := x.m.cfg.CommitTimeout
	limit := limits{try: timeout, all: time.Now().Add(timeout + x.m.cfg.Lock.MaxWait)}
	detached := context.WithoutCancel(ctx)
	err := s.exclusively(detached, limit.all, func() error {
		defer s.set(start)
		if idle() {
			return nil
		}
		changed := s.changed()
		if !changed && s.moving == nil {
			limit.try = x.m.moveTimeout()
		}
		err := s.outcome(s.save(detached, limit))
		if errors.Is(err, context.DeadlineExceeded) || !changed && uncertain(err) && !errors.Is(err, ErrLockLost) {
			x.m.rest()
		}
		if s.moving != nil { // the session may have its new ID: find out while it can be sent
			settle, cancel := context.WithTimeout(detached, timeout)
			defer cancel()
			if s.settleMove(settle) == nil && s.moving == nil && !s.changed() {
				return nil
			}
		}
		if changed || errors.Is(err, ErrLockLost) {
			return err
		}
		if errors.Is(err, context.DeadlineExceeded) {
			s.letGo() // the lock is left to its lease, as freeing it takes too long
		}
		return nil // also where the deadline was not moved
	})
	start() // also when another goroutine's work took all the time
	return err
}

// idle reports whether there is nothing to do for s in the store.
func (x *exchange) idle(s *Session, quiet bool) bool {
	switch {
	case s.closed.Load():
		return true
	case s.changed(), s.moving != nil && !x.started.Load():
		return false
	case s.failed:
		return true
	case s.hold != nil:
		return false
	case quiet:
		return true
	}
	_, stale := s.stale()
	return !stale || x.m.resting(s.due(time.Now()))
}

// announce tells the client what it needs to know about its token, in the
// headers of a response that is about to start. Only the goroutine that writes
// the response may touch them.
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
		if s.stored() {
			id, created = *s.token, s.rec.Created
		}
		s.mu.Unlock()
	}
	handsOut := id != was || id == "" && dead
	if handsOut {
		line := cfg.sendToken(h, id, created)
		for o := x.outer; o != nil && line != ""; o = o.outer {
			o.mu.Lock()
			o.cookies = append(o.cookies, line)
			o.mu.Unlock()
		}
	}
	// One allocation for both headers; who appends to one gets a copy.
	values := [...]string{cmp.Or(cfg.Header, "Cookie"), "no-store"}
	if vary := values[0]; !listed(h["Vary"], vary) {
		if len(h["Vary"]) == 0 {
			h["Vary"] = values[:1:1]
		} else {
			h.Add("Vary", vary)
		}
	}
	if len(h["Cache-Control"]) == 0 || handsOut && !unshared(h["Cache-Control"]) {
		h["Cache-Control"] = values[1:2:2]
	}
	if handsOut {
		for name, values := range h { // what some caches obey instead
			if forCaches(name) && !unshared(values) && name != "Cache-Control" && name != "Pragma" {
				delete(h, name)
			}
		}
	}
}

// unshared reports whether a Cache-Control keeps shared caches from storing.
func unshared(cache []string) bool { return listed(cache, "no-store") || listed(cache, "private") }

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

// responseWriter saves the session before the response starts. Handlers see a
// face of it.
type responseWriter struct {
	http.ResponseWriter
	x     *exchange
	r     *http.Request
	outer http.Header // what was set before the Handler
	err   error       // why the session could not be saved
	page  http.Header // of the answer that says so
}

// Unwrap is for http.ResponseController.
func (w *responseWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// start saves the session, once, and puts its headers into the response.
func (w *responseWriter) start() error {
	if w.x.started.Load() {
		return w.err
	}
	w.closeIfTooLarge()
	err := w.x.commit(w.r.Context())
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
	w.x.announce(h) // what an earlier Save has stored is as it is
	w.x.m.answer(w.ResponseWriter, w.r, err)
	w.page = h.Clone()
	return err
}

// announce is for when the handler has panicked: what it has saved is as it
// is, and whoever recovers may answer.
func (w *responseWriter) announce() {
	if !w.x.started.Load() {
		w.x.announce(w.Header())
	}
}

// finish runs when the handler has returned.
func (w *responseWriter) finish() {
	if !w.x.started.Load() {
		_ = w.start() // has answered
		return
	}
	if w.err != nil { // trailers of the page do not belong to the answer
		h := w.Header()
		clear(h)
		maps.Copy(h, w.page)
		return
	}
	if err := w.x.commit(w.r.Context()); err != nil {
		w.x.m.event(w.r.Context(), observe.Event{Kind: observe.EventLateFailed, Err: err})
		if w.x.m.cfg.Observer == nil && !left(w.r, err) {
			logError(w.r, fmt.Errorf("session: what changed after the response had started is not saved: %w", err))
		}
	}
}

func (w *responseWriter) WriteHeader(status int) {
	starts := status >= 200 && status <= 999 || status == http.StatusSwitchingProtocols // else it is informational, or panics
	if starts && w.start() != nil {
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
	if to, ok := w.ResponseWriter.(io.ReaderFrom); ok {
		return to.ReadFrom(src)
	}
	return io.Copy(w.ResponseWriter, src)
}

// Flush implements http.Flusher.
func (w *responseWriter) Flush() { _ = w.FlushError() }

// FlushError is what http.ResponseController calls.
func (w *responseWriter) FlushError() error {
	if canFlush(w.ResponseWriter) {
		if err := w.start(); err != nil {
			return err
		}
	}
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// Hijack implements http.Hijacker. No header of this response will be sent,
// so a session that needs a new token cannot be saved.
func (w *responseWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	if w.err != nil {
		return nil, nil, w.err
	}
	if !canHijack(w.ResponseWriter) {
		return nil, nil, http.ErrNotSupported
	}
	first := !w.x.started.Swap(true)
	var err error
	if first {
		err = w.x.commitAs(w.r.Context(), first)
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
