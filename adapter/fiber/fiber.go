// Package fiberstore keeps the sessions of the session middleware of
// github.com/gofiber/fiber/v3 in a [session.Backend], with a version: what another
// request has changed since a request read it is not overwritten, and what was
// destroyed does not come back. It imports nothing of fiber.
//
// Before:
//
//	app.Use(fibersession.New(fibersession.Config{Storage: redis.New()}))
//
// After, with any Backend:
//
//	storage, err := fiberstore.New(backend, fiberstore.Config{})
//	app.Use(recoverer.New(), fibersession.New(fibersession.Config{Storage: storage}))
//
// # Conflicts
//
// A fiber.Storage has no place for a version, so it is kept in the Locals of the
// request. If two requests change one session at the same time, the first one
// wins. For the other, saving fails with [session.ErrConflict], and the
// ErrorHandler of the middleware answers; its default is a page with status 500. A
// session that has ended meanwhile is [session.ErrNotFound] too, and a store that
// fails is [session.ErrStore]. [session.Status] has the status for each. By then the
// middleware has put the token into the response, where it could displace that of a
// login; so take it out:
//
//	ErrorHandler: func(c fiber.Ctx, err error) {
//		c.Response().Header.DelCookie("session_id")
//		_ = c.Status(session.Status(err)).SendString("Please try again.")
//	},
//
// The middleware saves after each request. If nothing has changed, only the
// deadline moves, by a Touch, and there is no conflict; that fails too if the session
// has ended meanwhile. If the store fails while reading, the middleware panics: put
// fiber's recover middleware around it.
//
// # What is lost
//
// Outside of a request nothing is known of what was read. So a session of
// Store.GetByID is saved whatever is stored: it overwrites changes, and brings
// back a session that was destroyed meanwhile. Get it by Store.Get in a request
// instead. So does a Set without a context, or with another one than that of the
// request. Regenerate deletes the old session before the new one is stored, so a
// request that fails in between loses the session; [session.Session.Rotate] does
// not. Reset, which is to delete the sessions of everybody, fails with
// [errors.ErrUnsupported], because a Backend has no list; and Storage is for
// sessions, not for the caches and limits of other middleware.
//
// A fiber.Ctx ends neither with its client nor at a deadline. So Config.Timeout
// bounds each call, and so does the context that the handler has set by
// SetContext, as fiber's timeout middleware does.
//
// # Cost
//
// One Load for a request with a token; one Save if the session has changed, and
// one Touch if not; one Delete for Destroy, Reset and Regenerate of a session.
package fiberstore

import (
	"bytes"
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/internal/kv"
)

// Config configures a [Storage]. The zero value is a good default.
type Config struct {
	// StoreKey derives the key of a record from the session ID, as [session.Config]
	// says. Default [session.DefaultStoreKey], a digest.
	StoreKey func(token string) string

	// Timeout bounds each call of the store. Default 5 seconds.
	Timeout time.Duration
}

// Storage is a fiber.Storage for sessions. It is safe for concurrent use.
type Storage struct{ kv *kv.Store }

// New returns a Storage. It fails if a setting makes no sense, and for a
// [session.TextBackend] that stores text only.
func New(b session.Backend, c Config) (*Storage, error) {
	s, err := kv.New("fiberstore", b, kv.Config{StoreKey: c.StoreKey, Timeout: c.Timeout, Binary: true, Same: same})
	if err != nil {
		return nil, err
	}
	return &Storage{s}, nil
}

// request is the part of a fiber.Ctx that is needed.
type request interface {
	Locals(key any, value ...any) any
	Context() context.Context
}

type seenKey struct{ storage *Storage }

// scope returns the context for a call, and what the request knows; nil if ctx is
// not that of a request.
func (s *Storage) scope(ctx context.Context) (context.Context, *kv.Seen) {
	r, ok := ctx.(request)
	if !ok {
		return ctx, nil
	}
	seen, ok := r.Locals(seenKey{s}).(*kv.Seen)
	if !ok {
		seen = new(kv.Seen)
		r.Locals(seenKey{s}, seen)
	}
	return r.Context(), seen
}

// GetWithContext implements fiber.Storage. A store that fails is an error, never a
// session that is not found.
func (s *Storage) GetWithContext(ctx context.Context, key string) ([]byte, error) {
	if key == "" {
		return nil, nil
	}
	ctx, seen := s.scope(ctx)
	b, found, err := s.kv.Load(ctx, seen, key)
	if err != nil || !found {
		return nil, err
	}
	return b, nil
}

// SetWithContext implements fiber.Storage. With the context of a request it
// replaces what GetWithContext has found, and creates the session if there was
// nothing. It fails with a [*session.ConflictError] if the session has changed
// since, or has ended, and with [session.ErrTooLarge] if it is too large; what is
// stored then stays as it is. With another context it replaces whatever is stored.
// An exp of 0 is a hundred years.
func (s *Storage) SetWithContext(ctx context.Context, key string, val []byte, exp time.Duration) error {
	if key == "" || len(val) == 0 {
		return nil // as fiber.Storage demands
	}
	if exp < 0 {
		return fmt.Errorf("fiberstore: save: the expiration is %v; it must not be negative", exp)
	}
	now := time.Now()
	expires := now.Add(exp)
	if exp == 0 {
		expires = now.AddDate(100, 0, 0)
	}
	ctx, seen := s.scope(ctx)
	if seen == nil {
		return s.kv.Put(ctx, key, val, expires)
	}
	return s.kv.Save(ctx, seen, key, val, expires)
}

// DeleteWithContext implements fiber.Storage. Once it has returned, no
// SetWithContext of a request that had read the session brings it back.
func (s *Storage) DeleteWithContext(ctx context.Context, key string) error {
	if key == "" {
		return nil
	}
	ctx, seen := s.scope(ctx)
	return s.kv.Delete(ctx, seen, key)
}

// ResetWithContext implements fiber.Storage. It fails with
// [errors.ErrUnsupported].
func (s *Storage) ResetWithContext(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("fiberstore: reset: %w", err)
	}
	return fmt.Errorf("fiberstore: reset: %w", errors.ErrUnsupported)
}

// Get implements fiber.Storage: GetWithContext without a request.
func (s *Storage) Get(key string) ([]byte, error) { return s.GetWithContext(context.Background(), key) }

// Set implements fiber.Storage: SetWithContext without a request.
func (s *Storage) Set(key string, val []byte, exp time.Duration) error {
	return s.SetWithContext(context.Background(), key, val, exp)
}

// Delete implements fiber.Storage: DeleteWithContext without a request.
func (s *Storage) Delete(key string) error { return s.DeleteWithContext(context.Background(), key) }

// Reset implements fiber.Storage. It fails with [errors.ErrUnsupported].
func (s *Storage) Reset() error { return s.ResetWithContext(context.Background()) }

// Close implements fiber.Storage. It does nothing: the Backend is its maker's.
func (s *Storage) Close() error { return nil }

// same reports whether two encodings of the middleware have equal values. Bytes do
// not tell: package gob writes a map in any order, in the same number of bytes.
func same(a, b []byte) bool {
	if len(a) != len(b) {
		return false
	}
	var x, y map[any]any
	return gob.NewDecoder(bytes.NewReader(a)).Decode(&x) == nil &&
		gob.NewDecoder(bytes.NewReader(b)).Decode(&y) == nil && reflect.DeepEqual(x, y)
}
