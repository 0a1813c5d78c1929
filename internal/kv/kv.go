// Package kv is a Backend as the libraries of the adapters see a store: bytes
// under a token. It remembers what a request has read, so that a write can name
// the version that it replaces.
package kv

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/seed-a7bee19b/session"
)

// DefaultTimeout is the default of Config.Timeout.
const DefaultTimeout = 5 * time.Second

// Config is what the adapters let their users set, and what they set themselves.
type Config struct {
	StoreKey func(token string) string // default session.DefaultStoreKey
	Timeout  time.Duration             // of a call; default DefaultTimeout

	// Same reports whether two encodings are of equal values. It is asked about
	// encodings that are not equal themselves.
	Same func(a, b []byte) bool
	// Binary says that the encoding is no text.
	Binary bool
}

// Store keeps bytes under tokens. It is safe for concurrent use.
type Store struct {
	name    string
	backend session.Backend
	cfg     Config
}

// New returns a Store. Errors begin with name.
func New(name string, b session.Backend, c Config) (*Store, error) {
	bad := func(format string, args ...any) (*Store, error) { return nil, fmt.Errorf(name+": "+format, args...) }
	if b == nil {
		return bad("no Backend")
	}
	if t, ok := b.(session.TextBackend); ok && t.TextOnly() && c.Binary {
		return bad("the Backend stores text only, and the encoding is binary")
	}
	if s, ok := b.(session.SharedBackend); ok && s.Shared() {
		return bad("the Backend shares its records with another program, which cannot read these")
	}
	if c.Timeout < 0 {
		return bad("the timeout is %v; it must not be negative", c.Timeout)
	}
	if c.Timeout == 0 {
		c.Timeout = DefaultTimeout
	}
	if c.StoreKey == nil {
		c.StoreKey = session.DefaultStoreKey
	}
	x, y := rand.Text(), rand.Text()
	switch key := c.StoreKey(x); {
	case key == "" || len(key) > 512:
		return bad("StoreKey makes a key of %d bytes; it must have 1 to 512", len(key))
	case key == c.StoreKey(y):
		return bad("StoreKey gives two tokens the same key")
	case key != c.StoreKey(x):
		return bad("StoreKey gives one token two keys")
	}
	return &Store{name, b, c}, nil
}

// Load returns the data under token, and remembers in seen what it has read. A
// record that seen knows already keeps the version of the first time: values that
// were read then may still be saved.
func (s *Store) Load(ctx context.Context, seen *Seen, token string) (data []byte, found bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	key, before := s.cfg.StoreKey(token), time.Now()
	rec, err := s.backend.Load(ctx, key)
	switch {
	case errors.Is(err, session.ErrNotFound), err == nil && rec.Expired(before):
		return nil, false, nil
	case err != nil:
		return nil, false, s.wrap("load", err)
	}
	data = rec.Data
	rec.Data = bytes.Clone(data) // the caller may change its own
	seen.add(key, rec)
	return data, true, nil
}

// Save stores data under token on condition of what seen knows: it replaces what
// was read, and creates where nothing was. Where the values are those that were
// read it only moves the deadline. Then it is no error that the session has changed
// since, but it is one that the session is gone: the library would send its token
// again, and displace one of a later login.
func (s *Store) Save(ctx context.Context, seen *Seen, token string, data []byte, expires time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	key := s.cfg.StoreKey(token)
	rec, known := seen.get(key)
	switch {
	case rec.ended:
		return s.wrap("save", &session.ConflictError{Gone: true})
	case known && !rec.unsure && s.same(rec.Data, data):
		err := s.moveDeadline(ctx, seen, key, rec, expires)
		if errors.Is(err, session.ErrConflict) && !errors.Is(err, session.ErrNotFound) {
			return nil
		}
		return err
	case !known:
		rec.Created = time.Now()
	}
	rec.Data, rec.Expires = bytes.Clone(data), expires
	return s.save(ctx, seen, key, rec)
}

// moveDeadline moves it forward by a Touch, and back by a Save. A Backend may have
// rounded the one that was read up by a second.
func (s *Store) moveDeadline(ctx context.Context, seen *Seen, key string, rec state, expires time.Time) error {
	if rec.Expires.Sub(expires) <= time.Second {
		if expires.After(rec.Expires) { // also if the Touch fails, as it may have been applied
			rec.Expires = expires
			seen.set(key, rec)
		}
		return s.wrap("touch", s.backend.Touch(ctx, key, expires))
	}
	rec.Expires = expires
	return s.save(ctx, seen, key, rec)
}

func (s *Store) save(ctx context.Context, seen *Seen, key string, rec state) (err error) {
	if rec.Version, err = s.backend.Save(ctx, key, rec.Record); err != nil {
		err = s.wrap("save", err)
		if errors.Is(err, session.ErrStore) {
			seen.doubt(key)
		}
		return err
	}
	rec.Continues, rec.unsure = false, false
	seen.set(key, rec)
	return nil
}

// Put stores data under token, whatever is there.
func (s *Store) Put(ctx context.Context, token string, data []byte, expires time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	key := s.cfg.StoreKey(token)
	for {
		rec, err := s.backend.Load(ctx, key)
		switch {
		case errors.Is(err, session.ErrNotFound), err == nil && rec.Expired(time.Now()):
			rec = session.Record{Created: time.Now()}
		case err != nil:
			return s.wrap("load", err)
		}
		rec.Data, rec.Expires = data, expires
		if _, err = s.backend.Save(ctx, key, rec); err == nil || !errors.Is(err, session.ErrConflict) {
			return s.wrap("save", err)
		}
		if ctx.Err() != nil {
			return s.wrap("save", ctx.Err())
		}
	}
}

// Delete deletes the record under token. A Save with the same seen then fails.
func (s *Store) Delete(ctx context.Context, seen *Seen, token string) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	key := s.cfg.StoreKey(token)
	if err := s.backend.Delete(ctx, key); err != nil {
		return s.wrap("delete", err)
	}
	seen.end(key)
	return nil
}

// Renew creates data under a new token, and ends the record under old on condition
// of what seen knows. If that fails the new one is taken back.
func (s *Store) Renew(ctx context.Context, seen *Seen, old, token string, data []byte, expires time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	rec := state{Record: session.Record{Data: bytes.Clone(data), Created: time.Now(), Expires: expires, Continues: true}}
	if err := s.save(ctx, seen, s.cfg.StoreKey(token), rec); err != nil {
		return err
	}
	key := s.cfg.StoreKey(old)
	rec, _ = seen.get(key)
	rec.Data, rec.Expires = nil, time.Now().Add(-time.Second)
	_, err := s.backend.Save(ctx, key, rec.Record)
	if err == nil {
		return nil
	}
	return errors.Join(s.wrap("end the old session", err), s.Delete(ctx, seen, token))
}

// Detached returns a context without the cancellation of ctx, but with its
// deadline: a client that goes away does not lose what it did.
func Detached(ctx context.Context) (context.Context, context.CancelFunc) {
	detached := context.WithoutCancel(ctx)
	if d, ok := ctx.Deadline(); ok {
		return context.WithDeadline(detached, d)
	}
	return detached, func() {}
}

func (s *Store) same(a, b []byte) bool {
	return bytes.Equal(a, b) || s.cfg.Same != nil && s.cfg.Same(a, b)
}

// answers are the errors of the contract, which are no failures of the store.
var answers = []error{
	session.ErrNotFound, session.ErrConflict, session.ErrLocked, session.ErrTooLarge, session.ErrEncode, session.ErrDecode,
}

// wrap marks failures of the store, as a Manager does.
func (s *Store) wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	for _, a := range answers {
		if errors.Is(err, a) {
			return fmt.Errorf("%s: %s: %w", s.name, what, err)
		}
	}
	return fmt.Errorf("%s: %s: %w: %w", s.name, what, session.ErrStore, err)
}
