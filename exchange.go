package session

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-a7bee19b/session/internal/transparent"
	"github.com/seed-a7bee19b/session/observe"
)

var (
	errNoHandler = errors.New("the context is not that of a request that came through Manager.Handler")
	errNoView    = errors.New("the request did not come through the Handler of this Manager, which With has made")
)

type exchangeKey struct{ *core }

func (m *Manager) exchange(ctx context.Context) *exchange {
	x, _ := ctx.Value(exchangeKey{m.core}).(*exchange)
	return x
}

// exchangeContext is the context of the request, with its exchange.
type exchangeContext struct {
	context.Context
	x *exchange
}

// Value returns the exchange for its key, and otherwise the value of the request's
// own context. For a key without a core it returns the innermost exchange, which
// may be that of another Manager.
func (c *exchangeContext) Value(key any) any {
	if k, ok := key.(exchangeKey); ok && (k.core == c.x.m.core || k.core == nil) {
		return c.x
	}
	return c.Context.Value(key)
}

// String names the context, as those of package context do, and shows no values.
func (c *exchangeContext) String() string {
	outer := fmt.Sprintf("%T", c.Context)
	if s, ok := c.Context.(fmt.Stringer); ok {
		outer = s.String()
	}
	return outer + ".WithSession"
}

// exchange is a request and its response, as far as the session is concerned.
type exchange struct {
	m       *Manager
	outer   *exchange               // of another Manager, whose Handler is outside
	ctx     context.Context         // of the request
	cancel  context.CancelCauseFunc // of ctx, if there are locks
	request http.Header
	lent    *http.Request // as the handlers inside have it
	started atomic.Bool   // the response has; no token can be sent any more

	mu      sync.Mutex
	inner   *Manager // whose Handler is the innermost
	mode    Mode
	s       *Session
	opening bool          // a Get is under way
	opened  chan struct{} // closed when it is done; made by a goroutine that waits for it
	asked   bool          // the handler asked for the session
	quiet   bool          // it did so in mode ReadOnly: nothing is touched
	locked  bool          // it has, or was refused and goes on without
	over    bool          // the Handler has returned
	first   [1]string     // room for tokens
	tokens  []string      // those that the client has sent, until it logs out; once s is open, the others that may be alive
	token   string        // the client's, as far as it is alive
	unsure  *unsure       // the one to hand out in its place, if that is not sure
	term    time.Duration // of the client's cookie, as far as it is alive
	several bool          // the client has sent more than one
	dead    bool          // the client's was destroyed
	lines   []string      // of Set-Cookie and Clear-Site-Data that Managers inside have sent
	failed  error         // of the save, that the error page has been sent for
}

// enter applies the settings of a nested Handler, and returns those from before.
func (x *exchange) enter(m *Manager, mode Mode) (*Manager, Mode) {
	x.mu.Lock()
	outer, outerMode := x.inner, x.mode
	x.mu.Unlock()
	x.use(m, mode)
	return outer, outerMode
}

// use applies the settings of the Handler of m.
func (x *exchange) use(m *Manager, mode Mode) {
	x.mu.Lock()
	x.inner, x.mode = m, mode
	s := x.s
	x.mu.Unlock()
	if s != nil && mode != Exclusive { // a lock comes with the next Get
		s.mode.set(mode)
	}
}

func (x *exchange) late() bool { return x.started.Load() }

func (x *exchange) context() (context.Context, context.CancelCauseFunc) { return x.ctx, x.cancel }

// gone returns why the client may have gone, nil if it waits.
func (x *exchange) gone() error {
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
	return x.take(ctx, m, false)
}

// take is get. If it is only to look at the session, it takes no lock, and the
// session is not used by that.
func (x *exchange) take(ctx context.Context, m *Manager, look bool) (*Session, error) {
	if err := x.enterGet(ctx, m); err != nil {
		return nil, err
	}
	mode := x.mode
	if look && mode == Exclusive {
		mode = Merge
	}
	lock := mode == Exclusive && !x.locked && !x.late()
	if x.s != nil && !lock {
		defer x.mu.Unlock()
		x.quiet = x.quiet && (look || mode == ReadOnly)
		return x.s, nil
	}
	sent := x.readTokens()
	x.opening = true
	x.quiet = look || mode == ReadOnly
	s, tokens := x.s, x.tokens
	x.mu.Unlock()
	defer x.openingDone()

	if sent.malformed {
		x.m.event(ctx, observe.Event{Kind: observe.EventTokenMalformed})
	}
	if sent.values > 0 {
		x.m.event(ctx, observe.Event{Kind: observe.EventTokenDuplicate, N: sent.values})
	}
	var err error
	alive := "" // of the tokens that the client has sent
	if s != nil {
		err = s.upgrade(ctx)
	} else {
		s, alive, tokens, err = x.open(ctx, &Manager{core: x.m.core, mode: mode}, tokens)
	}
	if err != nil {
		return nil, err
	}
	x.follows(s, alive)
	return x.keep(ctx, s, alive, tokens, lock)
}

// fresh returns nil if the session of the request meets the demand of the view m.
// It takes no lock, and a session that does not meet it is not used by that.
func (x *exchange) fresh(ctx context.Context, m *Manager) error {
	s, err := x.take(ctx, m, true)
	if err != nil {
		return wrap("get", err)
	}
	err = s.freshWithin(m.freshWithin)
	x.mu.Lock()
	quiet, mode := x.quiet, x.mode
	if err == nil {
		x.quiet = quiet && mode == ReadOnly
	}
	x.mu.Unlock()
	if err != nil && quiet { // nobody else uses it
		s.use.end()
	}
	if err != nil && mode == Exclusive {
		x.use(m, Merge) // the page that says so needs no lock
	}
	return wrap("freshness", err)
}

// enterGet takes x.mu when no other get is under way.
func (x *exchange) enterGet(ctx context.Context, m *Manager) error {
	for {
		x.mu.Lock()
		switch {
		case x.over:
			x.mu.Unlock()
			return ErrClosed
		case m.view && x.inner != m:
			x.mu.Unlock()
			return errNoView // or it would run in a mode that its caller did not choose
		case !x.opening:
			return nil
		}
		if x.opened == nil {
			x.opened = make(chan struct{})
		}
		opened := x.opened
		x.mu.Unlock()
		select {
		case <-opened:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// readTokens reads the tokens of the request, once. The lock is held.
func (x *exchange) readTokens() carried {
	if x.asked {
		return carried{}
	}
	x.asked = true
	sent := x.m.cfg.carried(x.request, x.first[:0])
	x.several = sent.several
	if x.tokens = sent.tokens; len(x.tokens) > 0 {
		x.token = x.tokens[0]
	}
	return sent
}

// keep makes s, which was just locked, or opened with the token alive, the session
// of the exchange. The other tokens may be alive too.
func (x *exchange) keep(ctx context.Context, s *Session, alive string, others []string, lock bool) (*Session, error) {
	x.mu.Lock()
	over := x.over
	x.s, x.tokens, x.locked = s, others, x.locked || lock
	if alive != "" {
		x.token, x.term = alive, x.m.cookieTerm(s.stored.own.life)
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

// open returns the session of the first token that has one, and that token, or a new
// session; and the other tokens that may have one. A dead token must not hide a live
// one: a browser sends two cookies of one name if their Path or Domain has changed,
// or if a sibling host has planted one.
func (x *exchange) open(ctx context.Context, m *Manager, tokens []string) (s *Session, alive string, others []string, err error) {
	var first *movedError
	var moved []string
	for i, token := range tokens {
		s, err := m.open(ctx, token, x)
		if err == nil {
			others := tokens[i+1:]
			if moved != nil {
				others = append(moved, others...)
			}
			return s, token, others, nil
		}
		to := asMoved(err)
		switch {
		case to != nil:
			first, moved = cmp.Or(first, to), append(moved, token)
		case errors.Is(err, ErrNotFound),
			errors.Is(err, ErrDecode) && m.cfg.Undecodable == ReplaceUndecodable:
		default:
			return nil, "", tokens, err
		}
	}
	if first != nil {
		s, err = x.instead(ctx, m, first)
		return s, "", moved[1:], err
	}
	return x.start(m), "", nil, nil
}

func (x *exchange) start(m *Manager) *Session {
	return m.newSession(x.ctx, x)
}

// instead returns the session for a request whose own session has moved.
func (x *exchange) instead(ctx context.Context, m *Manager, to *movedError) (*Session, error) {
	if to.recent() && safeMethod(x.lent.Method) {
		return nil, errMoved
	}
	s := x.start(m)
	return s, s.instead(ctx, to)
}

// fellows returns the tokens that the client has sent beside that of s, and whose
// sessions may be alive.
func (x *exchange) fellows(s *Session) []string {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.s != s {
		return nil
	}
	return x.tokens
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

// told reports whether the client has an error page for err: from this exchange,
// or from one outside.
func (x *exchange) told(err error) bool {
	for ; x != nil; x = x.outer {
		x.mu.Lock()
		failed := x.failed
		x.mu.Unlock()
		if failed != nil && errors.Is(err, failed) {
			return true
		}
	}
	return false
}

// discard drops the changes of the session.
func (x *exchange) discard() {
	if s, _ := x.session(); s != nil {
		s.discardWhenOver()
	}
}

// end closes the session: after the Handler has returned it cannot be saved.
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
		s.end()
		locked = s.hold != nil || s.work != unattended // or it may come to be
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
				s.hold.abandon()
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
	start := func() { x.started.Store(true) }
	s, quiet := x.session()
	if s == nil {
		start()
		return nil
	}
	s.use.end()
	quiet = quiet || !first
	var p plan
	idle := func() bool {
		p = x.plan(s, quiet)
		return p.step == doNothing
	}
	// With the session's lock, so that no edit is in between.
	if s.quickly(idle, func() { s.stored.fresh = s.stored.fresh || p.spared; start() }) {
		if p.spared {
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
		return x.save(detached, s, p, limit)
	})
	start() // also when another goroutine's work took all the time
	return err
}

// plan makes the plan for the start of the response or, if it has started, for its
// end.
func (x *exchange) plan(s *Session, quiet bool) plan {
	sit := s.situation()
	sit.response, sit.closed, sit.started = true, s.closed.Load(), x.started.Load()
	sit.failed, sit.quiet = s.saving.failed, quiet
	times := s.times()
	sit.aged = x.aged(s, sit.changed)
	if sit.aged || times.stale(sit.by) {
		sit.resting = x.m.resting(s.due(time.Now()))
	}
	return times.plan(sit)
}

// save saves s as planned. It is no error if only the deadline is not moved, the lock
// not freed or the ID not renewed.
func (x *exchange) save(ctx context.Context, s *Session, p plan, limit limits) error {
	changed := s.changed()
	if !changed && s.saving.moving == nil {
		limit.try = x.m.moveTimeout()
	}
	if p.step == doRenew {
		limit.all = limit.next() // it waits for nobody
	}
	if p.renew || p.step == doRenew {
		s.set(func() { s.renewal = max(s.renewal, byAge) })
		defer s.set(func() {
			if s.renewal == byAge {
				s.renewal = sameID
			}
		})
	}
	err := s.outcome(s.save(ctx, limit))
	if errors.Is(err, context.DeadlineExceeded) || !changed && uncertain(err) && !errors.Is(err, ErrLockLost) {
		x.m.rest()
	}
	if s.saving.moving != nil { // the session may have its new ID: find out while it can be sent
		settle, cancel := context.WithTimeout(ctx, x.m.cfg.CommitTimeout)
		defer cancel()
		if s.settleMove(settle) == nil && s.saving.moving == nil && !s.changed() {
			return nil
		}
	}
	if changed || errors.Is(err, ErrLockLost) {
		return err
	}
	if p.step == doRenew && err != nil {
		s.notRenewed(ctx, err)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		s.abandon() // freeing the lock takes too long; the lease ends it
	}
	return nil
}

// announce puts a new token, or the end of the old one, into the headers of a
// response that is about to start. Only the goroutine that writes the response
// may call it.
func (x *exchange) announce(h http.Header) {
	x.mu.Lock()
	s, asked, was, dead, term, unsure := x.s, x.asked, x.token, x.dead, x.term, x.unsure
	x.mu.Unlock()
	if !asked {
		return
	}
	cfg := &x.m.cfg
	var id, created, now = was, time.Time{}, term
	if s != nil {
		s.mu.Lock()
		if s.isStored() {
			id, created, now = *s.stored.token, s.stored.rec.Created, x.m.cookieTerm(s.stored.own.life)
		}
		s.mu.Unlock()
	}
	if unsure != nil && id == unsure.token {
		id, now = was, term
	}
	if dead {
		x.sent(x.sayLoggedOut(h, id != "")...)
	}
	handsOut := id != was || id == "" && dead || now != term
	if handsOut {
		if line := cfg.sendToken(h, id, maxAge(now, created)); line != "" {
			x.sent(line)
		}
	}
	// One allocation for both headers; appending to one copies it.
	values := [...]string{cmp.Or(cfg.Header, "Cookie"), "no-store"}
	if vary := values[0]; !transparent.Listed(h["Vary"], vary) {
		if len(h["Vary"]) == 0 {
			h["Vary"] = values[:1:1]
		} else {
			h.Add("Vary", vary)
		}
	}
	if len(h["Cache-Control"]) == 0 || handsOut && !transparent.Unshared(h["Cache-Control"]) {
		h["Cache-Control"] = values[1:2:2]
	}
	if handsOut {
		for name, values := range h { // what some caches obey instead
			if transparent.ForCaches(name) && !transparent.Unshared(values) && name != "Cache-Control" && name != "Pragma" {
				delete(h, name)
			}
		}
	}
}

// sayLoggedOut puts the lines of a logout into h, and returns them. The line with
// the token comes after them.
func (x *exchange) sayLoggedOut(h http.Header, handsOut bool) (lines []string) {
	cfg := &x.m.cfg
	if x.several && cfg.Header == "" {
		lines = cfg.Cookie.fellows(x.lent.Host)
		for _, line := range lines {
			h.Add("Set-Cookie", line)
		}
	}
	if line := cfg.clears(h, handsOut); line != "" {
		h.Add(clearSiteData, line)
		lines = append(lines, line)
	}
	return lines
}

// sent tells the Managers outside which lines of this response are not of the page.
func (x *exchange) sent(lines ...string) {
	for o := x.outer; o != nil; o = o.outer {
		o.mu.Lock()
		o.lines = append(o.lines, lines...)
		o.mu.Unlock()
	}
}

func safeMethod(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return true
	}
	return false
}
