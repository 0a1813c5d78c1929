package gorillastore

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strings"
	"time"

	"github.com/gorilla/securecookie"
	"github.com/gorilla/sessions"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/codec"
	"github.com/seed-a7bee19b/session/migrate"
)

// SourceConfig configures a [Source].
type SourceConfig struct {
	// Name is the name of the session, and of its cookie. It is required.
	Name string

	// Codecs are those of the store, such as Codecs of a sessions.FilesystemStore;
	// securecookie.CodecsFromPairs makes the same ones of the same keys. They are
	// required. How long a cookie is valid is theirs to say.
	Codecs []securecookie.Codec

	// MaxAge is how long the store keeps a session after a Save, MaxAge of its
	// Options. It bounds how long the record of a session that is not used again
	// stays in the new store. Default 30 days.
	MaxAge time.Duration

	// Pack makes a record of the values of a session, with [session.Pack]. From
	// equal values it must make equal data, as the codecs of this module do. If it
	// fails, the session cannot be opened, and stays where it is. Default: the
	// values as they are, for codec.MessagePack{}, without a user; a value whose
	// key is not a string fails with [session.ErrEncode].
	Pack func(values map[any]any, expires time.Time) (session.Record, error)

	// Missing reports whether an error of New of the store says that it has no
	// such session. Default: fs.ErrNotExist, and an expired timestamp. A store that
	// returns no error then, as most do, needs nothing.
	Missing func(err error) bool
}

// Source has the sessions of a store of gorilla/sessions, for [migrate.New]. It is for
// stores that keep the values on the server, under an ID that the cookie has with a
// signature, such as sessions.FilesystemStore and the stores for Redis and SQL.
//
// The cookies that visitors have stay valid for as long as they were. Each Save of
// gorilla has made another one, and all those of a session lead to the same session:
// its key is made from the ID in the cookie.
//
//	source, err := gorillastore.NewSource(store, gorillastore.SourceConfig{Name: "session", Codecs: store.Codecs})
//	backend, err := migrate.New(newBackend, source, migrate.Config{TokenKeys: true})
//	manager, err := session.New(backend, session.Config{
//		Cookie:   session.Cookie{Name: "session"},
//		Tokens:   source.Tokens(),
//		StoreKey: source.StoreKey,
//	})
//
// A cookie of gorilla expires as it says, though its session is used, because it is not
// set again. With session.Config.RenewAfter the visitor gets a new one in time, as with
// a login.
//
// Such a store has no conditions: Remove compares and deletes in two requests. So stop
// all servers that use it before the first one moves.
//
// Cost: 1 New of the store for Load; 1 New, and 1 Save that deletes, for Remove. A
// request takes the signature of its cookie two times, a few microseconds each.
type Source struct {
	store     sessions.Store
	cfg       SourceConfig
	ageless   []securecookie.Codec // without a look at the age, so that a token has one key for ever
	storeKeys func(token string) string
}

// maxCookie is the length of the longest cookie of gorilla.
const maxCookie = 4096

// maxID keeps a key within the bounds of package migrate.
const maxID = 400

// NewSource returns the sessions of store. It makes no request. It fails if a setting
// is missing, and for a sessions.CookieStore: its cookies are the sessions, so no
// server can end one before it expires, and there is nothing to move them from.
func NewSource(store sessions.Store, cfg SourceConfig) (*Source, error) {
	switch {
	case store == nil:
		return nil, errors.New("gorillastore: NewSource needs a store")
	case cfg.Name == "":
		return nil, errors.New("gorillastore: SourceConfig.Name is missing")
	case len(cfg.Codecs) == 0:
		return nil, errors.New("gorillastore: SourceConfig.Codecs are missing")
	case cfg.MaxAge < 0:
		return nil, fmt.Errorf("gorillastore: SourceConfig.MaxAge is %v; it must not be negative", cfg.MaxAge)
	}
	for _, c := range cfg.Codecs {
		if sc, ok := c.(*securecookie.SecureCookie); c == nil || ok && sc == nil {
			return nil, errors.New("gorillastore: one of SourceConfig.Codecs is nil")
		}
	}
	if inCookie(store, cfg) {
		return nil, errors.New("gorillastore: a CookieStore has no sessions on the server, so none can be moved or ended; read its cookie in the handler, once")
	}
	if cfg.MaxAge == 0 {
		cfg.MaxAge = 30 * 24 * time.Hour
	}
	if cfg.Pack == nil {
		cfg.Pack = pack
	}
	if cfg.Missing == nil {
		cfg.Missing = missing
	}
	s := &Source{store: store, cfg: cfg}
	for _, c := range cfg.Codecs {
		if sc, ok := c.(*securecookie.SecureCookie); ok {
			ageless := *sc
			c = ageless.MaxAge(0)
		}
		s.ageless = append(s.ageless, c)
	}
	s.storeKeys = migrate.StoreKeyOf(func(token string) (string, bool) { return s.id(token, s.ageless) })
	return s, nil
}

// inCookie reports whether store takes its values from the cookie. Other libraries
// wrap a CookieStore, so the type does not tell. A store with an ID in the cookie finds
// none in this one, so it has nothing to ask its server for.
func inCookie(store sessions.Store, cfg SourceConfig) bool {
	if _, is := store.(*sessions.CookieStore); is {
		return true
	}
	cookie, err := securecookie.EncodeMulti(cfg.Name, map[any]any{"n": 1}, cfg.Codecs...)
	if err != nil {
		return false
	}
	r, err := http.NewRequest(http.MethodGet, "/", nil) //nolint:noctx // nothing waits
	if err != nil {
		return false
	}
	r.AddCookie(&http.Cookie{Name: cfg.Name, Value: cookie})
	s, err := store.New(r, cfg.Name)
	return err == nil && s != nil && !s.IsNew
}

// Tokens are the cookies of the store whose signature is good, and which have not
// expired, and the default tokens of a Manager.
func (s *Source) Tokens() session.Tokens {
	return session.Tokens{MaxLength: maxCookie, Valid: func(token string) bool {
		if validToken(token) {
			return true
		}
		_, ok := s.id(token, s.cfg.Codecs)
		return ok
	}}
}

// StoreKey is for session.Config.StoreKey: for a cookie of the store it makes a key of
// the ID in it, and for others it is [session.DefaultStoreKey].
func (s *Source) StoreKey(token string) string { return s.storeKeys(token) }

// id returns the ID in a cookie.
func (s *Source) id(cookie string, codecs []securecookie.Codec) (id string, ok bool) {
	if len(cookie) > maxCookie || validToken(cookie) {
		return "", false
	}
	err := securecookie.DecodeMulti(s.cfg.Name, cookie, &id, codecs...)
	return id, err == nil && id != "" && len(id) <= maxID
}

// read returns the session with an ID, and a request with its cookie.
func (s *Source) read(ctx context.Context, id string) (*sessions.Session, *http.Request, error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	cookie, err := securecookie.EncodeMulti(s.cfg.Name, id, s.cfg.Codecs...)
	if err != nil {
		return nil, nil, fmt.Errorf("gorillastore: source: cookie: %w", err)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "/", nil)
	if err != nil {
		return nil, nil, err
	}
	r.AddCookie(&http.Cookie{Name: s.cfg.Name, Value: cookie})
	old, err := s.store.New(r, s.cfg.Name)
	switch {
	case err != nil && s.cfg.Missing(err):
		return nil, nil, session.ErrNotFound
	case err != nil:
		return nil, nil, fmt.Errorf("gorillastore: source: %w", hide(err))
	case old == nil || old.IsNew:
		return nil, nil, session.ErrNotFound
	}
	return old, r, nil
}

// Load implements [migrate.Source].
func (s *Source) Load(ctx context.Context, id string) (session.Record, error) {
	rec, _, _, err := s.load(ctx, id)
	return rec, err
}

func (s *Source) load(ctx context.Context, id string) (session.Record, *sessions.Session, *http.Request, error) {
	old, r, err := s.read(ctx, id)
	if err != nil {
		return session.Record{}, nil, nil, err
	}
	rec, err := s.cfg.Pack(old.Values, time.Now().Add(s.cfg.MaxAge))
	if err != nil {
		return session.Record{}, nil, nil, err
	}
	h := sha256.Sum256(rec.Data)
	rec.Version = session.Version(hex.EncodeToString(h[:16]))
	return rec, old, r, nil
}

// Remove implements [migrate.Source].
func (s *Source) Remove(ctx context.Context, id string, loaded session.Record) error {
	rec, old, r, err := s.load(ctx, id)
	switch {
	case err != nil:
		return err
	case rec.Version != loaded.Version:
		return &session.ConflictError{}
	}
	if old.Options == nil {
		old.Options = &sessions.Options{}
	}
	old.Options.MaxAge = -1
	if err := s.store.Save(r, discard{}, old); err != nil && !s.cfg.Missing(err) {
		return fmt.Errorf("gorillastore: source: remove: %w", hide(err))
	}
	return nil
}

// discard is a response that nobody gets.
type discard struct{}

func (discard) Header() http.Header         { return http.Header{} }
func (discard) Write(b []byte) (int, error) { return len(b), nil }
func (discard) WriteHeader(int)             {}

func pack(values map[any]any, expires time.Time) (session.Record, error) {
	named := make(map[string]any, len(values))
	for key, v := range values {
		name, ok := key.(string)
		if !ok {
			return session.Record{}, fmt.Errorf("gorillastore: source: %w: the key of a value is a %T, not a string", session.ErrEncode, key)
		}
		named[name] = v
	}
	return session.Pack(codec.MessagePack{}, session.Foreign{Values: named, Expires: expires})
}

func missing(err error) bool {
	if errors.Is(err, fs.ErrNotExist) {
		return true
	}
	// securecookie does not export the error. Of several keys, the others fail with
	// the signature.
	var several securecookie.MultiError
	if !errors.As(err, &several) {
		several = securecookie.MultiError{err}
	}
	for _, err := range several {
		var e securecookie.Error
		if errors.As(err, &e) && e.IsDecode() && strings.HasSuffix(e.Error(), "expired timestamp") {
			return true
		}
	}
	return false
}

// hide takes the ID out of the error of a file.
func hide(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return fmt.Errorf("%s: %w", path.Op, path.Err)
	}
	return err
}
