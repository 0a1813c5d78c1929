package session

import (
	"context"
	"net/http"

	"github.com/seed-a7bee19b/session/internal/transparent"
)

// Handler returns a handler that calls next with sessions: handlers inside call
// [Manager.Get]. See [Manager.HandlerFunc] for a handler that gets its session as
// an argument.
//
// The session is saved before the first byte of the response leaves: at the
// first call of WriteHeader, Write, ReadFrom, Flush or Hijack, or when next
// returns; informational responses (1xx) do not count. If saving fails,
// [Config.ErrorHandler] answers, and the client gets nothing of the page: neither
// its status nor the headers that describe it. Writes of the page fail with the
// same error.
//
// Changes that are made after that are saved when next returns, if the client
// already has its token. If that fails, it is only an [observe.Event], so a
// handler that streams should call [Session.Save]. If next panics, nothing more
// is saved. Then the session is closed, even for goroutines that next has left
// behind.
//
// With [Config.RenewAfter], a response also gives the session a new ID when the old
// one is old enough. If that fails, the response is sent as it would have been.
//
// Saving goes on when the client goes away. It has [Config.CommitTimeout], and
// [LockConfig.MaxWait] more to wait for its turn while another request holds the
// lock or saves the session. The context may have ended although the client
// still waits for the answer. So a new session is stored and its token sent all
// the same, and so is a Login of a session without a user, which also stays as it
// was under its old ID. Any other new ID is then refused with [ErrTooLate], and
// one whose context ends while it is being stored is taken back: the session
// stays as it was under its old ID. If only the idle deadline cannot be moved,
// that is an Event and no error page.
//
// If the handler asked for the session, the response gets "Vary: Cookie", and
// "Cache-Control: no-store" unless the handler set a Cache-Control. A response
// with a token gets no-store unless the handler set no-store or private, and
// loses the headers that say otherwise to shared caches: Expires,
// Surrogate-Control, CDN-Cache-Control and the like. Nothing else changes: next
// finds the optional interfaces of w, and middleware outside finds the changes
// that next has made to r, such as its Pattern and MultipartForm. Headers of the
// response are changed only when it starts, on the goroutine that writes it.
//
// The error page keeps the headers that middleware inside sets for every answer,
// such as those of CORS, and the token of another Manager inside. It loses the
// headers that describe the page, including its cookies. Headers that were set
// outside of the Handler stay.
//
// Put middleware that recovers from panics outside of the Handler: inside, it
// answers before the Handler can notice the panic, and the changes until then
// are saved with that answer. If it must be inside, let it answer with
// [Manager.Error]. Put [http.TimeoutHandler] outside: inside, the changes until
// the timeout are saved with the response that reports it. Put
// [http.MaxBytesHandler] outside: inside, the server cannot close the connection
// for it.
func (m *Manager) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mode := m.mode
		if m.safeMode != 0 && safeMethod(r.Method) {
			mode = m.safeMode
		}
		if x := m.exchange(r.Context()); x != nil { // nested: the inner settings rule
			defer x.use(x.enter(m, mode))
			m.serve(x, next, w, r)
			return
		}
		v := &visit{}
		lent := v.begin(m, mode, w, r)
		defer v.exchange.end(r.Context())
		defer transparent.GiveBack(r, lent)
		defer v.response.announce() // in the answer to a panic
		m.serve(&v.exchange, next, v.response.Face(), lent)
		v.response.finish()
	})
}

// serve calls next, unless m demands what the session does not meet.
func (m *Manager) serve(x *exchange, next http.Handler, w http.ResponseWriter, r *http.Request) {
	if m.freshWithin > 0 {
		if err := x.fresh(r.Context(), m); err != nil {
			m.Error(w, r, err)
			return
		}
	}
	next.ServeHTTP(w, r)
}

// visit is one request and its response. It is one allocation.
type visit struct {
	exchange exchange
	found    exchangeContext
	response responseWriter
}

// begin returns the request for the handlers inside.
func (v *visit) begin(m *Manager, mode Mode, w http.ResponseWriter, r *http.Request) *http.Request {
	x := &v.exchange
	x.m, x.request, x.inner, x.mode = m, r.Header, m, mode
	x.outer, _ = r.Context().Value(exchangeKey{}).(*exchange)
	v.found = exchangeContext{r.Context(), x}
	x.ctx = &v.found
	if m.locks.Load() {
		x.ctx, x.cancel = context.WithCancelCause(x.ctx) // ends with the request, which may outlast next
	}
	lent := transparent.Lend(x.ctx, r)
	x.lent = lent
	v.response = responseWriter{Writer: transparent.Writer{ResponseWriter: w}, x: x, r: lent}
	v.response.Hooks = &v.response
	if h := w.Header(); len(h) > 0 {
		v.response.outer = h.Clone()
	}
	return lent
}

// HandlerFunc returns a handler that calls f with the session of the request. If
// [Manager.Get] or f fails, [Manager.Error] answers with the error and drops
// unsaved changes. The handler saves the session as [Manager.Handler] does: it may
// be nested in the Handler of the whole site, or stand alone. If Handlers are
// nested, the settings of the innermost one apply; so for a route with other
// settings, use the HandlerFunc of the view that [Manager.With] returns.
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

// Get returns the session of the request whose context is ctx. A visitor whose
// token is missing, unknown or expired gets a new session. If the request has
// several tokens, Get tries up to four, until one is alive.
//
// Cost: 1 Load at the first call, nothing at later ones or if the request has no
// token; in mode [Exclusive], and for an expired session, see [Manager.Open].
//
// Get fails with [ErrStore], [ErrDecode], [ErrLockTimeout], with [ErrClosed] after
// the Handler has returned, and if the request did not come through
// [Manager.Handler].
//
// For a while after a renewal, a request under the old ID gets the session under the
// new one: see [Config.RenewOverlap]. The rest is about IDs that were given up by a
// Login or Rotate.
//
// It fails with [ErrNotFound] if the method is safe, such as GET, and the request
// came under an ID that its session gave up less than 10 seconds ago. Such a
// request may have been in flight when the session got its new ID, and the cookie
// of a new session would displace the cookie that the client has just been sent.
// There is no session then, and nothing will be written: answer with
// [Manager.Error], or try again.
//
// If the method is not safe, or after the 10 seconds, a request under an old ID
// gets a new session, which can log out: [Session.Destroy] ends the session that
// has moved. It has no values, and during the 10 seconds everything but Destroy
// and [Session.Login] fails with ErrNotFound. There is one exception. If the new
// ID came from a Login of a session without a user, and nothing was saved under it
// since, the answer may have been lost. Then, at the cost of 1 more Load, the new
// session has the values from before that Login, and the client can log in again:
// at the cost of 2 more Saves, the session that the first Login has made is ended.
// During the 10 seconds, saving anything else fails with ErrNotFound.
//
// Within [Config.RenewOverlap] after a Login, another Login of the same user under
// the old ID makes no session of its own, but joins the one that is there, at the
// cost of 1 Load: see [Session.LoginWith].
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

// Error answers a request that failed with err, and drops unsaved changes of the
// session. It calls [Config.ErrorHandler], if that is set. Otherwise it answers
// with [Status], in words that say nothing about err, with Retry-After if a lock
// could not be acquired or was lost; and if the status is 500 or more, it logs err
// to the log of the http.Server, unless only the client has gone away. If saving
// the session failed with err, the Handler has answered already, and Error does
// nothing more.
func (m *Manager) Error(w http.ResponseWriter, r *http.Request, err error) {
	if x := m.exchange(r.Context()); x != nil {
		x.discard()
	}
	if x, _ := r.Context().Value(exchangeKey{}).(*exchange); x.told(err) {
		return // a Write of the handler has failed with it
	}
	m.answer(w, r, err)
}
