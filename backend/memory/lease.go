package memory

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/seed-a7bee19b/session"
)

var _ session.LockingBackend = (*Backend)(nil)

// lease is a lock of a record. The zero lease is no lock.
type lease struct {
	token uint64 // never the same twice in a shard
	until int64  // Unix milliseconds
}

func (l lease) live(now int64) bool { return l.until > now }

func (l lease) lockedUntil(now int64) time.Time {
	if !l.live(now) {
		return time.Time{}
	}
	return time.UnixMilli(l.until)
}

// ofHolder occurs in the Versions of holders, and in no others.
const ofHolder = "."

// holder returns the Version of the holder of l.
func (b *Backend) holder(e *entry, l lease) session.Version {
	return b.version(e.version) + session.Version(ofHolder+strconv.FormatUint(l.token, 36))
}

// isFormerHolder reports whether v, which is not the current holder's Version,
// is that of a former holder.
func isFormerHolder(v session.Version) bool { return strings.Contains(string(v), ofHolder) }

func (b *Backend) isHolder(v session.Version, e *entry, l lease) bool {
	return l.token != 0 && v == b.holder(e, l)
}

// Acquire implements [session.LockingBackend].
func (b *Backend) Acquire(ctx context.Context, key string, ttl time.Duration) (session.Record, error) {
	if err := ctx.Err(); err != nil {
		return session.Record{}, err
	}
	if ttl <= 0 {
		return session.Record{}, errTTL
	}
	s := b.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now().UnixMilli()
	e := s.records[key]
	if e == nil || e.expires <= now {
		return session.Record{}, session.ErrNotFound
	}
	if l := s.leases[key]; l.live(now) {
		return session.Record{}, &session.LockedError{Until: l.lockedUntil(now)}
	}
	s.version++
	l := lease{token: s.version, until: ceilMilli(time.Now().Add(ttl))}
	if s.leases == nil {
		s.leases = make(map[string]lease)
	}
	s.leases[e.key] = l
	rec := b.record(e)
	rec.Version, rec.LockedUntil = b.holder(e, l), l.lockedUntil(now)
	return rec, nil
}

// Extend implements [session.LockingBackend].
func (b *Backend) Extend(ctx context.Context, key string, v session.Version, ttl time.Duration) error {
	if ttl <= 0 {
		return errTTL
	}
	return b.held(ctx, key, v, func(s *shard, e *entry, l lease, now int64) error {
		if !l.live(now) {
			return &session.ConflictError{}
		}
		l.until = ceilMilli(time.Now().Add(ttl))
		s.leases[e.key] = l
		return nil
	})
}

// Release implements [session.LockingBackend].
func (b *Backend) Release(ctx context.Context, key string, v session.Version, expires time.Time) error {
	return b.held(ctx, key, v, func(s *shard, e *entry, _ lease, _ int64) error {
		delete(s.leases, e.key)
		if !expires.IsZero() {
			e.expires = max(e.expires, ceilMilli(expires))
		}
		return nil
	})
}

var errTTL = errors.New("memory: the ttl of a lease must be positive")

// held calls f if v is the Version of the last holder of the record's lock.
func (b *Backend) held(ctx context.Context, key string, v session.Version, f func(s *shard, e *entry, l lease, now int64) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s := b.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now().UnixMilli()
	e := s.records[key]
	if e == nil || e.expires <= now {
		return &session.ConflictError{Gone: true}
	}
	l := s.leases[key]
	if !b.isHolder(v, e, l) {
		return &session.ConflictError{}
	}
	return f(s, e, l, now)
}
