// Package ginstore keeps the sessions of github.com/gin-contrib/sessions in a
// [session.Backend], with a version: what another request has changed since a
// request read it is not overwritten, and what was deleted does not come back.
//
// Before:
//
//	store, err := redis.NewStore(10, "tcp", addr, "", "", key)
//	r.Use(sessions.Sessions("session", store))
//
// After, with any Backend:
//
//	store, err := ginstore.New(backend, ginstore.Config{})
//	r.Use(sessions.Sessions("session", store))
//
// # Conflicts
//
// If two requests change one session at the same time, the first one wins. For
// the other, Save fails with [session.ErrConflict], and [session.Status] has the
// status for it:
//
//	if err := s.Save(); err != nil {
//		c.AbortWithStatus(session.Status(err))
//		return
//	}
//
// gin-contrib logs an error of reading and goes on with an empty session. Such a
// session cannot be saved: Save fails with the same error, and what is stored stays.
// So check the error of Save.
//
// gin-contrib has no call for a new ID; a logout is Clear, Options with MaxAge -1,
// and Save. Expiry, cost and the rest are those of [gorillastore].
package ginstore

import (
	"github.com/gin-contrib/sessions"

	"github.com/seed-a7bee19b/session"
	gorillastore "github.com/seed-a7bee19b/session/adapter/gorilla"
)

// Config configures a [Store]. The zero value is a good default.
type Config = gorillastore.Config

// Store is a sessions.Store of gin-contrib. It is safe for concurrent use, except
// for Options.
type Store struct{ *gorillastore.Store }

// New returns a Store. It fails as [gorillastore.New] does.
func New(b session.Backend, c Config) (*Store, error) {
	s, err := gorillastore.New(b, c)
	if err != nil {
		return nil, err
	}
	return &Store{s}, nil
}

// Options implements sessions.Store: it replaces Config.Options, for the sessions of
// requests that come later. Call it before the first request.
func (s *Store) Options(o sessions.Options) { s.SetOptions(*o.ToGorillaOptions()) }
