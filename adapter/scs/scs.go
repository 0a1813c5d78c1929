// Package scsstore keeps the sessions of github.com/alexedwards/scs/v2 in a
// [session.Backend], with a version: what another request has changed since a
// request read it is not overwritten, and what was destroyed does not come back.
// It imports nothing of scs.
//
// Before:
//
//	m := scs.New()
//	m.Store = redisstore.New(pool)
//	http.ListenAndServe(addr, m.LoadAndSave(mux))
//
// After, with any Backend:
//
//	m := scs.New()
//	store, err := scsstore.New(backend, scsstore.Config{})
//	m.Store = store
//	http.ListenAndServe(addr, store.Handler(m.LoadAndSave(mux)))
//
// # Conflicts
//
// If two requests change one session at the same time, the first one wins. For
// the other, Commit fails with [session.ErrConflict], and the ErrorFunc of the
// SessionManager answers. A session that has ended meanwhile is
// [session.ErrNotFound] too, and a store that fails is [session.ErrStore].
// [session.Status] has the status for each:
//
//	m.ErrorFunc = func(w http.ResponseWriter, r *http.Request, err error) {
//		http.Error(w, "Please try again.", session.Status(err))
//	}
//
// LoadAndSave commits at the first Write. If it fails there, it appends the page
// of the handler to that of ErrorFunc, as with any store.
//
// There is no middleware that tries a request again: the handler has read its
// body, and may have charged a card. A site that needs both changes to be made
// can move to [session.Manager], which merges.
//
// A request that has changed nothing does not conflict. With an IdleTimeout, scs
// commits after each request; then only the deadline moves, by a Touch. If the
// session has ended meanwhile, that fails too: scs would send its token again, and
// displace the cookie of a login.
//
// # Cost
//
// One Load for a request with a token. One Save for a Commit that changes
// something, or one Touch; one Delete for Destroy, and for RenewToken.
//
// # Limits
//
// Keys are digests of tokens, so there is no list of tokens and Iterate panics.
// Leave HashTokenInStore off: it would digest them twice. RenewToken deletes the
// old session before the new one is stored, so a request that fails in between
// loses the session; [session.Session.Rotate] does not. A handler that flushes
// before it writes sends no cookie: scs does not see a Flush.
package scsstore

import (
	"bytes"
	"context"
	"encoding/gob"
	"errors"
	"net/http"
	"reflect"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/internal/kv"
)

// Config configures a [Store]. The zero value is a good default.
type Config struct {
	// Codec is the Codec of the SessionManager. It tells whether a request has
	// changed anything. Default nil: scs.GobCodec, which is also the default of a
	// SessionManager. With a Codec that does not fit, requests that change nothing
	// may conflict.
	Codec Codec

	// StoreKey derives the key of a record from the token, as [session.Config] says.
	// Default [session.DefaultStoreKey], a digest.
	StoreKey func(token string) string

	// Timeout bounds each call of the store, besides the context of the request.
	// Default 5 seconds.
	Timeout time.Duration
}

// Codec is an scs.Codec.
type Codec interface {
	Encode(deadline time.Time, values map[string]any) ([]byte, error)
	Decode(b []byte) (deadline time.Time, values map[string]any, err error)
}

// Store is an scs.CtxStore. It is safe for concurrent use.
type Store struct{ kv *kv.Store }

// New returns a Store. It fails if a setting makes no sense, and for a
// [session.TextBackend] that stores text only unless there is a Codec.
func New(b session.Backend, c Config) (*Store, error) {
	decode := decodeGob
	if c.Codec != nil {
		decode = c.Codec.Decode
	}
	s, err := kv.New("scsstore", b, kv.Config{
		StoreKey: c.StoreKey, Timeout: c.Timeout, Binary: c.Codec == nil,
		Same: func(a, b []byte) bool { return same(decode, a, b) },
	})
	if err != nil {
		return nil, err
	}
	return &Store{s}, nil
}

// scope is what a context carries for a Store.
type scope struct {
	seen     kv.Seen
	detached bool // writes go on when the client has gone
}

type scopeKey struct{ store *Store }

// Handler goes around the LoadAndSave of the SessionManager. It lets the Store
// remember what a request has read. A Commit, Destroy or RenewToken of a request
// goes on after its client has gone away, for Config.Timeout at most.
func (s *Store) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r.WithContext(s.with(r.Context(), true)))
	})
}

// Context does what Handler does for work that is no request. Give its context to
// Load of the SessionManager. The work must not share it with other work on the
// same session.
func (s *Store) Context(ctx context.Context) context.Context { return s.with(ctx, false) }

func (s *Store) with(ctx context.Context, detached bool) context.Context {
	if s.scope(ctx) != nil {
		return ctx // a Handler in a Handler: scs loads once, too
	}
	return context.WithValue(ctx, scopeKey{s}, &scope{detached: detached})
}

func (s *Store) scope(ctx context.Context) *scope {
	sc, _ := ctx.Value(scopeKey{s}).(*scope)
	return sc
}

// writing returns the context for a write.
func (sc *scope) writing(ctx context.Context) (context.Context, context.CancelFunc) {
	if sc != nil && sc.detached {
		return kv.Detached(ctx)
	}
	return ctx, func() {}
}

func (sc *scope) known() *kv.Seen {
	if sc == nil {
		return nil
	}
	return &sc.seen
}

// FindCtx implements scs.CtxStore. A store that fails is an error, never a session
// that is not found.
func (s *Store) FindCtx(ctx context.Context, token string) (b []byte, found bool, err error) {
	return s.kv.Load(ctx, s.scope(ctx).known(), token)
}

var errNoHandler = errors.New("scsstore: save: it is not known which version was read: put Store.Handler around LoadAndSave, or use Store.Context")

// CommitCtx implements scs.CtxStore. It replaces what FindCtx has found with the
// same context, and creates the session if there was nothing. It fails with a
// [*session.ConflictError] if the session has changed since, or has ended, and with
// [session.ErrTooLarge] if it is too large; what is stored then stays as it is.
// Without Handler or Context it fails.
func (s *Store) CommitCtx(ctx context.Context, token string, b []byte, expiry time.Time) error {
	sc := s.scope(ctx)
	if sc == nil {
		return errNoHandler
	}
	ctx, cancel := sc.writing(ctx)
	defer cancel()
	return s.kv.Save(ctx, &sc.seen, token, b, expiry)
}

// DeleteCtx implements scs.CtxStore. Once it has returned, no Commit brings the
// session back.
func (s *Store) DeleteCtx(ctx context.Context, token string) error {
	sc := s.scope(ctx)
	ctx, cancel := sc.writing(ctx)
	defer cancel()
	return s.kv.Delete(ctx, sc.known(), token)
}

// Find implements scs.Store, within Config.Timeout. A SessionManager does not call
// it.
func (s *Store) Find(token string) (b []byte, found bool, err error) {
	return s.FindCtx(context.Background(), token)
}

// Commit implements scs.Store. It always fails, as it has no version; a
// SessionManager does not call it.
func (s *Store) Commit(string, []byte, time.Time) error { return errNoHandler }

// Delete implements scs.Store, within Config.Timeout. A SessionManager does not
// call it.
func (s *Store) Delete(token string) error { return s.DeleteCtx(context.Background(), token) }

// same reports whether two encodings have equal values and deadlines. Bytes do not
// tell: package gob writes a map in any order.
func same(decode func([]byte) (time.Time, map[string]any, error), a, b []byte) bool {
	deadline, values, err := decode(a)
	if err != nil {
		return false
	}
	deadline2, values2, err := decode(b)
	return err == nil && deadline.Equal(deadline2) && reflect.DeepEqual(values, values2)
}

// decodeGob reads what scs.GobCodec writes.
func decodeGob(b []byte) (time.Time, map[string]any, error) {
	var v struct {
		Deadline time.Time
		Values   map[string]any
	}
	err := gob.NewDecoder(bytes.NewReader(b)).Decode(&v)
	return v.Deadline, v.Values, err
}
