package session

import (
	"context"
	"net/http"

	"github.com/seed-a7bee19b/session/internal/transparent"
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
		if m.safeMode != 0 && safeMethod(r.Method) {
			mode = m.safeMode
		}
		if x := m.exchange(r.Context()); x != nil { // nested: the inner settings rule
			defer x.use(x.enter(m, mode))
			next.ServeHTTP(w, r)
			return
		}
		v := &visit{}
		lent := v.begin(m, mode, w, r)
		defer v.exchange.end(r.Context())
		defer transparent.GiveBack(r, lent)
		defer v.response.announce() // in the answer to a panic
		next.ServeHTTP(v.response.Face(), lent)
		v.response.finish()
	})
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
	x.m, x.request, x.inner, x.mode, x.safe = m, r.Header, m, mode, safeMethod(r.Method)
	x.outer, _ = r.Context().Value(exchangeKey{}).(*exchange)
	v.found = exchangeContext{r.Context(), x}
	x.ctx = &v.found
	if m.locks.Load() {
		x.ctx, x.cancel = context.WithCancelCause(x.ctx) // ends with the request, which may outlast next
	}
	lent := transparent.Lend(x.ctx, r)
	v.response = responseWriter{Writer: transparent.Writer{ResponseWriter: w}, x: x, r: lent}
	v.response.Hooks = &v.response
	if h := w.Header(); len(h) > 0 {
		v.response.outer = h.Clone()
	}
	return lent
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

func safeMethod(method string) bool {
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
