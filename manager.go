// Package session keeps the sessions of a web application in a store that all
// of its machines share.
//
// A [Manager] joins a [Backend], which stores records, to net/http. A handler
// gets its session as an argument, and reads and writes values through typed
// keys:
//
//	var visits = session.Key[int]{Name: "visits"}
//
//	m, err := session.New(&memory.Backend{}, session.Config{})
//	...
//	http.Handle("/", m.HandlerFunc(func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
//		n, err := visits.Update(s, func(n int) int { return n + 1 })
//		if err != nil {
//			return err
//		}
//		_, err = fmt.Fprintf(w, "visit %d\n", n)
//		return err
//	}))
//
// # Promises
//
//   - A store error never becomes an empty session. It is returned, and
//     nothing is written.
//   - Logout is final: no slow or concurrent request revives a session that
//     was destroyed, was rotated away or has expired.
//   - No update is lost: every write is conditional on the version that was
//     read. Changes that two requests make at once are merged value by value,
//     unless the mode says otherwise.
//   - A lock has a lease and is fenced: a holder that lost it cannot write.
//   - A retry after a lost response is not mistaken for a conflict.
//   - A value that cannot be stored or decoded is an error, and the stored
//     session stays as it was.
//   - Every wait is bounded by a context.
//
// # The life of a session
//
// Nothing is read until a handler asks for its session, and nothing is stored
// for a visitor without data. A [Session] collects changes until it is saved in
// one request: by the Handler before the first byte of the response leaves, or
// outside of HTTP by [Session.Save].
//
// # Users
//
// [Session.LoginWith] binds a session to a user, with a [Lifetime] of its own if
// wanted. [OwnersConfig] lists the sessions of each user, for [Manager.Sessions] and
// [Manager.Revoke], and limits them. [Route].FreshWithin demands that the user has
// authenticated a moment ago, see [Session.Reauthenticate]. [Config].RenewAfter gives
// a session a new ID now and then. [Session.Watch] ends a stream with its session,
// and [Session.Destroy] logs out.
//
// # Packages
//
// backend/dynamodb, backend/redis and backend/memory are backends; sessiontest is
// for tests of handlers; conformance tests a backend of your own; observe logs,
// traces and counts; admin sweeps and lists a store; and module oidc logs users out
// when their OpenID Provider does.
package session

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/seed-a7bee19b/session/observe"
)

// Manager opens sessions that are stored in a [Backend]. It is safe for
// concurrent use and has no goroutine of its own.
type Manager struct {
	*core
	mode     Mode
	safeMode Mode // 0: like mode
	view     bool // made by With

	freshWithin time.Duration // 0: no demand
}

// New returns a Manager over backend. It checks the whole configuration and
// makes no request. An unknown, contradictory or unsafe setting is an error.
func New(backend Backend, cfg Config) (*Manager, error) {
	if backend == nil {
		return nil, errors.New("session: New needs a Backend")
	}
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	if b, ok := backend.(TextBackend); ok && b.TextOnly() {
		if c, ok := cfg.Codec.(TextCodec); !ok || !c.Text() {
			return nil, fmt.Errorf("session: the backend stores text only, and codec %T is not a text codec; use codec.JSON, or beside PHP a php.Codec with UTF8", cfg.Codec)
		}
	}
	m := &Manager{core: newCore(backend, cfg), mode: cfg.Mode, safeMode: cfg.SafeMode}
	if err := m.canLock(cfg.Mode, cfg.SafeMode); err != nil {
		return nil, err
	}
	if err := m.shares(cfg.Mode, cfg.SafeMode); err != nil {
		return nil, err
	}
	return m, nil
}

// shares returns an error if another program could not go on to share the backend
// with a Manager that has these modes.
func (m *core) shares(mode, safeMode Mode) error {
	b, ok := m.backend.(SharedBackend)
	if !ok {
		return nil
	}
	cfg := m.cfg
	cfg.Mode, cfg.SafeMode = mode, safeMode
	if err := b.CheckConfig(cfg); err != nil {
		return fmt.Errorf("session: the Config does not suit the backend: %w", err)
	}
	return nil
}

// canLock returns an error if one of the modes needs locks and there are none.
func (m *core) canLock(modes ...Mode) error {
	if !slices.Contains(modes, Exclusive) {
		return nil
	}
	m.locks.Store(true)
	if m.locking == nil && m.locker == nil {
		return fmt.Errorf("session: mode Exclusive needs a Backend that is a LockingBackend, which %T is not, or a Lock.Locker", m.backend)
	}
	return nil
}

// Config returns the configuration of m, with every default filled in.
func (m *Manager) Config() Config {
	cfg := m.cfg
	cfg.ClearSiteData = slices.Clone(cfg.ClearSiteData)
	return cfg
}

// Route has the settings that can differ from route to route.
type Route struct {
	// Mode is as [Config.Mode]; zero inherits.
	Mode Mode
	// SafeMode is as [Config.SafeMode]. Zero inherits if Mode is zero too;
	// with a Mode, it is the mode of safe methods as well.
	SafeMode Mode

	// FreshWithin demands that the user authenticated at most so long ago, by a
	// Login or by [Session.Reauthenticate]: for changing a password, or paying.
	// The Handler and the HandlerFunc of the view check it before they call yours.
	// A request that does not meet it, and one without a user, is answered with a
	// [*NotFreshError] by [Manager.Error], so that [Config.ErrorHandler] can ask
	// for the password; it writes nothing and takes no lock. If Handlers are
	// nested, the demand of each counts. At least 1 second; zero inherits.
	//
	// A browser that is sent away from a form loses what was filled in. So demand
	// more of the page with the form than of the request that the form makes. Put
	// a middleware that answers CORS preflights outside: they carry no token.
	//
	// Cost: the Load of [Manager.Get], which is free after that; in mode
	// [Exclusive], 1 Load more.
	FreshWithin time.Duration
}

// With returns a view of m with other settings, which shares everything else.
// Wrap the route in the view's Handler or HandlerFunc. It may be nested in the
// Handler of m: the settings of the inner one apply, but the FreshWithin of each,
// and both Managers return the same session there.
func (m *Manager) With(rt Route) (*Manager, error) {
	v := *m
	v.view = true
	if rt.Mode != 0 {
		if err := rt.Mode.check(); err != nil {
			return nil, err
		}
		v.mode, v.safeMode = rt.Mode, 0
	}
	if rt.SafeMode != 0 {
		if err := rt.SafeMode.check(); err != nil {
			return nil, err
		}
		v.safeMode = rt.SafeMode
	}
	if rt.FreshWithin != 0 {
		if err := checkFreshWithin(rt.FreshWithin); err != nil {
			return nil, fmt.Errorf("session: %w", err)
		}
		v.freshWithin = rt.FreshWithin
	}
	if err := m.canLock(v.mode, v.safeMode); err != nil {
		return nil, err
	}
	if err := m.shares(v.mode, v.safeMode); err != nil {
		return nil, err
	}
	return &v, nil
}

// Start returns a new session. It makes no request; nothing is stored before
// the session has data and is saved.
func (m *Manager) Start() *Session {
	return m.newSession(context.Background(), nil)
}

// Open returns the session of a token that a client sent.
//
// Cost: 1 Load; in mode [Exclusive] 1 Acquire, and 1 Load for each look while it
// waits. A session that is found past its deadline costs 1 Save, which ends it
// before the caller is told, and another Load if the deadline passed less than
// 30 seconds ago, because another request may have moved it in time. In mode
// [ReadOnly] nothing is written. Under an ID that was renewed less than
// [Config.RenewOverlap] ago, Open opens the session under the new one, which
// [Session.Token] returns, at the cost of 1 Load more; in mode Exclusive, 1 Acquire
// and 1 Release.
//
// An open session is in use: its deadline is moved before it passes, so that a
// long request keeps its session. In a handler this lasts until the response
// starts; outside of HTTP, until the session is saved, closed or destroyed, or
// ctx ends. With a context that cannot end, such as [context.Background], the
// deadline is not moved. Cost: 1 Touch each time that two thirds of the remaining
// time have passed, so none for a short request.
//
// Open fails with [ErrNotFound] if there is no live session (a malformed token is
// refused without a request), with [ErrDecode] if the record is not a session,
// and with [ErrStore] if the store fails. In mode Exclusive it can fail with
// [ErrLockTimeout], and the session must be saved, closed or destroyed: until
// then it holds its lock, even if ctx has ended, for at most
// [LockConfig.MaxHold].
func (m *Manager) Open(ctx context.Context, token string) (*Session, error) {
	s, err := m.open(ctx, token, nil)
	if errors.Is(err, errMoved) {
		err = errMoved // without the contents of the marker
	}
	if err != nil {
		return nil, wrap("open", err)
	}
	return s, nil
}

// open is Open for a client, which may be nil.
func (m *Manager) open(ctx context.Context, token string, c client) (_ *Session, err error) {
	if !m.cfg.Tokens.valid(token) {
		m.event(ctx, observe.Event{Kind: observe.EventTokenMalformed})
		return nil, ErrNotFound
	}
	s := m.newSession(ctx, c)
	s.stored.token, s.stored.key = &token, m.cfg.StoreKey(token)
	opened := false
	defer func() {
		if !opened { // also when something panics
			s.unlock(ctx)
			s.end()
		}
	}()
	rec, decoded, err := s.readOn(ctx)
	switch to := asMoved(decoded); {
	case errors.Is(err, errExpired):
		s.unlocked(ctx) // the lock has gone with the record
		m.event(ctx, observe.Event{Kind: observe.EventSessionExpired})
		return nil, ErrNotFound
	case errors.Is(err, ErrNotFound):
		m.event(ctx, observe.Event{Kind: observe.EventTokenUnknown})
		return nil, ErrNotFound
	case err != nil:
		return nil, err
	case to != nil:
		to.from, to.found, to.token = s.stored.key, rec.Version, *s.stored.token
		kind := observe.EventTokenUnknown
		if to.recent() {
			kind = observe.EventTokenMoved
		}
		m.event(ctx, observe.Event{Kind: kind})
		return nil, decoded
	case decoded != nil:
		m.event(ctx, observe.Event{Kind: observe.EventUndecodable, Err: decoded})
		return nil, decoded
	}
	opened = true
	s.beginUse(s.ctx)
	return s, nil
}

// newSession returns a session without an ID.
func (m *Manager) newSession(ctx context.Context, c client) *Session {
	s := &Session{m: m.core, client: c, ctx: ctx}
	if c != nil {
		s.ctx, _ = c.context()
	}
	s.mode.set(m.mode)
	return s
}

// read reads the record and makes it the base of s. If the session has expired,
// it is ended first. decoded is why the record is no session.
func (s *Session) read(ctx context.Context) (rec Record, decoded, err error) {
	asked := time.Now()
	if s.mode.get() == Exclusive {
		rec, err = s.acquire(ctx, s.stored.key)
	} else {
		rec, err = s.m.load(ctx, s.stored.key)
	}
	for looks := 0; err == nil; looks++ {
		if !s.m.lifetimes.most.expired(rec, asked) { // what it has of its own is in the data
			if decoded = s.rebase(rec); decoded != nil || asked.Before(s.due(asked)) {
				break
			}
		}
		rec, asked, err = s.conclude(ctx, s.stored.key, rec, asked, looks)
	}
	return rec, decoded, err
}

// upgrade locks a session that was opened without a lock, and applies its
// changes to what is stored now.
func (s *Session) upgrade(ctx context.Context) error {
	return s.exclusively(ctx, time.Time{}, func() error {
		if s.hold != nil || s.closed.Load() || !s.isStored() {
			return nil
		}
		adopted := false
		defer func() {
			if !adopted { // also when a function of an Update panics
				s.unlock(ctx)
			}
		}()
		rec, err := s.acquire(ctx, s.stored.key)
		if err == nil {
			err = s.adopt(ctx, rec)
		}
		adopted = err == nil
		return err
	})
}
