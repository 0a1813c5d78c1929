package integration

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/seed-a7bee19b/session"
)

// toy is a store that keeps to the contract, unless an option breaks it.
type toy struct {
	anyVersion, anyLock, noFence, keepsLock, revives, overwrites, falseConflict, lostWrite bool

	staleRead, hidesLocks, sharedLock, acquireCreates, staleAcquire bool

	extendsLate, extendsLost, noExtend, releasesAny, noRelease, noDelete, lockOutlives bool

	leaseTimes float64 // a lease is that many times its ttl; 0: once

	mu   sync.Mutex
	n    int
	keys map[string]*toyRecord
}

type toyRecord struct {
	rec, before session.Record
	exists      bool
	lock        string
	until       time.Time
}

func (s *toy) at(key string) *toyRecord {
	if s.keys == nil {
		s.keys = map[string]*toyRecord{}
	}
	if s.keys[key] == nil {
		s.keys[key] = &toyRecord{}
	}
	return s.keys[key]
}

func (r *toyRecord) live() bool { return r.lock != "" && time.Now().Before(r.until) }

func (r *toyRecord) locked() error { return &session.LockedError{Until: r.until} }

// every is true every tenth time: an error in every call would leave nothing to
// check.
func (s *toy) every() bool {
	s.n++
	return s.n%10 == 0
}

func (s *toy) next(prefix string) string {
	s.n++
	return fmt.Sprint(prefix, s.n)
}

// parts splits a version into the holder's lock and the version of the data.
func parts(v session.Version) (lock string, data session.Version) {
	if lock, data, ok := strings.Cut(string(v), "/"); ok {
		return lock, session.Version(data)
	}
	return "", v
}

func (s *toy) Load(_ context.Context, key string) (session.Record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.at(key)
	if !r.exists {
		return session.Record{}, session.ErrNotFound
	}
	rec := r.rec
	if s.staleRead && r.before.Version != "" && s.every() {
		rec = r.before
	}
	if r.live() && !s.hidesLocks {
		rec.LockedUntil = r.until
	}
	return rec, nil
}

func (s *toy) Save(_ context.Context, key string, rec session.Record) (session.Version, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.at(key)
	lock, old := parts(rec.Version)
	mine := lock != "" && lock == r.lock
	switch {
	case s.overwrites && old == "" && !r.live(), s.anyVersion && r.exists && old != "" && lock == "" && !r.live():
	case !r.exists && old != "" && (!s.revives || lock != ""):
		return "", &session.ConflictError{Gone: true}
	case s.noFence && lock != "":
	case lock != "" && !mine:
		return "", &session.ConflictError{}
	case lock == "" && r.live() && !s.anyLock:
		return "", r.locked()
	case old != r.rec.Version && (r.exists || !s.revives):
		return "", &session.ConflictError{}
	}
	if s.lostWrite && s.every() {
		return session.Version(s.next("v")), nil
	}
	r.before = r.rec
	r.rec, r.exists = rec, true
	r.rec.Version = session.Version(s.next("v"))
	if mine || !s.keepsLock {
		r.lock = ""
	}
	if s.falseConflict && s.every() {
		return "", &session.ConflictError{}
	}
	return r.rec.Version, nil
}

func (s *toy) Touch(_ context.Context, key string, _ time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.at(key).exists {
		return session.ErrNotFound
	}
	return nil
}

func (s *toy) Delete(_ context.Context, key string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.at(key)
	if s.noDelete && r.live() {
		return nil
	}
	r.exists, r.rec = false, session.Record{}
	if !s.lockOutlives {
		r.lock = ""
	}
	return nil
}

func (s *toy) lease(ttl time.Duration) time.Time {
	if s.leaseTimes > 0 {
		ttl = time.Duration(float64(ttl) * s.leaseTimes)
	}
	return time.Now().Add(ttl)
}

func (s *toy) Acquire(_ context.Context, key string, ttl time.Duration) (session.Record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.at(key)
	switch {
	case !r.exists && !s.acquireCreates:
		return session.Record{}, session.ErrNotFound
	case !r.exists:
		r.exists, r.rec = true, session.Record{Version: session.Version(s.next("v"))}
	case r.live() && !s.sharedLock:
		return session.Record{}, r.locked()
	}
	r.lock, r.until = s.next("l"), s.lease(ttl)
	rec := r.rec
	if s.staleAcquire && r.before.Version != "" && s.every() {
		rec = r.before
	}
	rec.Version = session.Version(r.lock) + "/" + rec.Version
	return rec, nil
}

// held returns the record if v has its lock.
func (s *toy) held(key string, v session.Version, others bool) (*toyRecord, error) {
	r := s.at(key)
	lock, _ := parts(v)
	switch {
	case !r.exists:
		return nil, &session.ConflictError{Gone: true}
	case lock == "" || lock != r.lock && !others:
		return nil, &session.ConflictError{}
	}
	return r, nil
}

func (s *toy) Extend(_ context.Context, key string, v session.Version, ttl time.Duration) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, err := s.held(key, v, s.extendsLost)
	switch {
	case err != nil:
		return err
	case s.extendsLost:
		r.lock, _ = parts(v)
	case !r.live() && !s.extendsLate:
		return &session.ConflictError{}
	}
	if !s.noExtend {
		r.until = s.lease(ttl)
	}
	return nil
}

func (s *toy) Release(_ context.Context, key string, v session.Version, _ time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, err := s.held(key, v, s.releasesAny)
	if err == nil && !s.noRelease {
		r.lock = ""
	}
	return err
}
