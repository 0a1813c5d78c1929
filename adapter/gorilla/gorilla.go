// Package gorillastore keeps the sessions of github.com/gorilla/sessions in a
// [session.Backend], with a version: what another request has changed since a
// request read it is not overwritten, and what was deleted does not come back.
// Libraries that take a sessions.Store can have it too, such as goth and
// echo-contrib; gin-contrib has adapter/gin.
//
// Before:
//
//	store := sessions.NewCookieStore(key)
//
// After, with any Backend:
//
//	store, err := gorillastore.New(backend, gorillastore.Config{})
//
// The cookie holds a random token of 192 bits and nothing else, so there is no key
// to keep. A cookie that names no session, as that of another store does, is a new
// visitor; its token is never adopted. To leave gorilla, and move the sessions of its
// own stores to a session.Manager, see [Source].
//
// # Conflicts
//
// If two requests change one session at the same time, the first one wins. For
// the other, Save fails with [session.ErrConflict]. A session that has ended
// meanwhile is [session.ErrNotFound] too, and a store that fails is
// [session.ErrStore]. [session.Status] has the status for each:
//
//	if err := s.Save(r, w); err != nil {
//		http.Error(w, "Please try again.", session.Status(err))
//		return
//	}
//
// A Save that changes nothing does not conflict: it moves the deadline, by a Touch. It
// fails if the session has ended meanwhile.
//
// Get returns a new, empty session together with an error if the store fails, or
// if what is stored does not decode. Programs that ignore that error are common,
// so such a session cannot be saved: Save fails with the same error, and what is
// stored stays. It can be deleted.
//
// # Expiry, and new IDs
//
// The store keeps a session for Options.MaxAge after its last Save. Save with an ID
// of "" gives the session a new ID: the old one is dead at once, and the Save of a
// slow request under it fails. If the store fails in between, neither may be left.
// Save with a negative MaxAge deletes the session.
//
// # Cost
//
// One Load for the first Get of a request with a token; one Save, Touch or Delete
// for a Save; two Saves for one that gives a new ID.
package gorillastore

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"time"

	"github.com/gorilla/securecookie"
	"github.com/gorilla/sessions"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/internal/kv"
)

// Config configures a [Store]. The zero value is a good default.
type Config struct {
	// Options are those of new sessions. MaxAge is in seconds, and also how long
	// the store keeps a session; if it is 0 the cookie ends with the browser, and
	// BrowserSession applies. It must not be negative. SameSite None needs Secure.
	// Default: path "/", 30 days, HttpOnly, Secure, SameSite Lax.
	Options sessions.Options

	// BrowserSession is how long after a Save the store keeps a session whose
	// MaxAge is 0. Default 24 hours.
	BrowserSession time.Duration

	// Serializer encodes the Values. Default securecookie.GobEncoder{}.
	Serializer securecookie.Serializer

	// StoreKey derives the key of a record from the token, as [session.Config] says.
	// Default [session.DefaultStoreKey], a digest.
	StoreKey func(token string) string

	// Timeout bounds each call of the store, besides the context of the request. A
	// Save goes on after its client has gone away. Default 5 seconds.
	Timeout time.Duration
}

// Store is a sessions.Store. It is safe for concurrent use, unlike a session.
type Store struct {
	cfg      Config
	kv       *kv.Store
	sessions memory
}

// New returns a Store. It fails if a setting makes no sense, and for a
// [session.TextBackend] that stores text only unless there is a Serializer.
func New(b session.Backend, c Config) (*Store, error) {
	if c.Options == (sessions.Options{}) {
		c.Options = sessions.Options{Path: "/", MaxAge: 30 * 24 * 60 * 60, HttpOnly: true, Secure: true, SameSite: http.SameSiteLaxMode}
	}
	if c.Options.MaxAge < 0 {
		return nil, fmt.Errorf("gorillastore: Options.MaxAge is %d; it must not be negative", c.Options.MaxAge)
	}
	if c.Options.SameSite == http.SameSiteNoneMode && !c.Options.Secure {
		return nil, errors.New("gorillastore: Options.SameSite None needs Secure")
	}
	if c.BrowserSession < 0 {
		return nil, fmt.Errorf("gorillastore: BrowserSession is %v; it must not be negative", c.BrowserSession)
	}
	if c.BrowserSession == 0 {
		c.BrowserSession = 24 * time.Hour
	}
	binary := c.Serializer == nil
	if binary {
		c.Serializer = securecookie.GobEncoder{}
	}
	s := &Store{cfg: c}
	var err error
	s.kv, err = kv.New("gorillastore", b, kv.Config{StoreKey: c.StoreKey, Timeout: c.Timeout, Binary: binary, Same: s.same})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// SetOptions replaces Config.Options for sessions that are made later. Call it before
// the first request.
func (s *Store) SetOptions(o sessions.Options) { s.cfg.Options = o }

// Get implements sessions.Store: it returns the session of the request, which it
// reads once.
func (s *Store) Get(r *http.Request, name string) (*sessions.Session, error) {
	return sessions.GetRegistry(r).Get(s, name)
}

// New implements sessions.Store: it reads the session that the cookie names. An
// error is [session.ErrStore] or [session.ErrDecode], and the session with it cannot
// be saved.
func (s *Store) New(r *http.Request, name string) (*sessions.Session, error) {
	out := sessions.NewSession(s, name)
	opts := s.cfg.Options
	out.Options, out.IsNew = &opts, true
	st := s.sessions.of(out)
	token := ""
	if c, noCookie := r.Cookie(name); noCookie == nil {
		token = c.Value
	}
	if !validToken(token) {
		return out, nil
	}
	data, found, err := s.kv.Load(r.Context(), &st.seen, token)
	if err == nil && found {
		values := map[any]any{}
		if err = s.cfg.Serializer.Deserialize(data, &values); err == nil {
			out.ID, out.Values, out.IsNew = token, values, false
		} else {
			err = fmt.Errorf("gorillastore: load: %w: %w", session.ErrDecode, err)
		}
	}
	if err != nil || found {
		st.token, st.err = token, err
	}
	return out, err
}

// Save implements sessions.Store. It stores the session and sets the cookie; with a
// negative MaxAge it deletes both. It replaces what New has read, and fails with a
// [*session.ConflictError] if the session has changed since, or has ended, with
// [session.ErrTooLarge] if it is too large, and with [session.ErrEncode] if the
// Serializer does not take the values. What is stored then stays as it is, and there
// is no cookie.
func (s *Store) Save(r *http.Request, w http.ResponseWriter, ss *sessions.Session) error {
	ctx, cancel := kv.Detached(r.Context())
	defer cancel()
	st := s.sessions.of(ss)
	value := ""
	if ss.Options.MaxAge < 0 {
		if err := s.end(ctx, ss, st); err != nil {
			return err
		}
	} else {
		if err := s.save(ctx, ss, st); err != nil {
			return err
		}
		value = ss.ID
	}
	http.SetCookie(w, sessions.NewCookie(ss.Name(), value, ss.Options))
	return nil
}

func (s *Store) save(ctx context.Context, ss *sessions.Session, st *state) error {
	if st.err != nil {
		return fmt.Errorf("gorillastore: save: it could not be read: %w", st.err)
	}
	if ss.ID != "" && ss.ID != st.token {
		return errors.New("gorillastore: save: the ID is not one that this session was read or saved with")
	}
	data, err := s.cfg.Serializer.Serialize(ss.Values)
	if err != nil {
		return fmt.Errorf("gorillastore: save: %w: %w", session.ErrEncode, err)
	}
	age := time.Duration(min(int64(ss.Options.MaxAge), maxAge)) * time.Second
	if age == 0 {
		age = s.cfg.BrowserSession
	}
	token, expires := ss.ID, time.Now().Add(age)
	switch {
	case token != "":
		err = s.kv.Save(ctx, &st.seen, token, data, expires)
	case st.token == "":
		token = newToken()
		err = s.kv.Save(ctx, &st.seen, token, data, expires)
	default:
		token = newToken()
		err = s.kv.Renew(ctx, &st.seen, st.token, token, data, expires)
	}
	if err != nil {
		return err
	}
	ss.ID, st.token = token, token
	return nil
}

// end deletes the session, also one that could not be read. A later Save begins a
// new one.
func (s *Store) end(ctx context.Context, ss *sessions.Session, st *state) error {
	if token := cmp.Or(st.token, ss.ID); token != "" {
		if err := s.kv.Delete(ctx, &st.seen, token); err != nil {
			return err
		}
	}
	ss.ID, st.token, st.err = "", "", nil
	return nil
}

// same reports whether two encodings have equal values. Bytes do not tell: package
// gob writes a map in any order.
func (s *Store) same(a, b []byte) bool {
	x, y := map[any]any{}, map[any]any{}
	return s.cfg.Serializer.Deserialize(a, &x) == nil && s.cfg.Serializer.Deserialize(b, &y) == nil && reflect.DeepEqual(x, y)
}

// maxAge is a hundred years in seconds: a Backend keeps times up to the year 9999,
// and a Duration has fewer.
const maxAge = 100 * 365 * 24 * 60 * 60

const tokenBytes = 24

func newToken() string {
	var b [tokenBytes]byte
	rand.Read(b[:]) // never fails
	return base64.RawURLEncoding.EncodeToString(b[:])
}

func validToken(s string) bool {
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	return err == nil && len(b) == tokenBytes && base64.RawURLEncoding.EncodedLen(len(b)) == len(s)
}
