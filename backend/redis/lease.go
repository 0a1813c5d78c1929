package redisstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/seed-a7bee19b/session"
)

// Acquire locks the record at key for ttl, rounded up to the millisecond, and
// returns the record with the holder's version. It fails with a
// [*session.LockedError] while another lock is live, and with
// [session.ErrNotFound] if there is no record or the record has expired.
// LockedUntil is by the clock of this machine, and not later than the end of
// the lease at the server.
//
// If ctx ends while the request is in flight and the lock is acquired
// nevertheless, Acquire releases it in the background. If that fails, the lock
// lasts until ttl has passed.
//
// Acquire is one command.
func (b *Backend) Acquire(ctx context.Context, key string, ttl time.Duration) (session.Record, error) {
	ms, err := leaseMillis(ttl)
	if err != nil {
		return session.Record{}, err
	}
	for range 3 {
		lock := newToken()
		late := func(r *reply) {
			if r.status == statusOK {
				b.giveBack(ctx, key, lock)
			}
		}
		r, err := b.keys.runLate(ctx, acquireScript, key, late, lock, ms)
		if err != nil {
			return session.Record{}, err
		}
		switch r.status {
		case statusNone:
			return session.Record{}, session.ErrNotFound
		case statusLocked:
			return session.Record{}, r.locked(time.Now())
		case statusEnded:
			// The response was lost, the lease ran out, and another client
			// ended the lock before the retry.
			continue
		}
		rec, err := r.record(time.Now())
		if err != nil {
			b.giveBack(ctx, key, lock)
			return session.Record{}, err
		}
		rec.Version = holderVersion(lock, rec.Version)
		rec.LockedUntil = r.sent.Add(ttl)
		return rec, nil
	}
	return session.Record{}, errors.New("redisstore: Acquire: responses were lost, and each time the lock was ended before the retry")
}

func (b *Backend) giveBack(ctx context.Context, key, lock string) {
	giveBack(ctx, func(ctx context.Context) {
		_, _ = b.keys.run(ctx, releaseScript, key, lock, int64(minMillis))
	})
}

// Extend renews the lease of the lock that v belongs to: the lease then runs
// for ttl from now, rounded up to the millisecond. It fails with a
// [*session.ConflictError] if the lock was ended or taken over, if its lease
// has run out, or if the record is gone.
//
// Extend is one command.
func (b *Backend) Extend(ctx context.Context, key string, v session.Version, ttl time.Duration) error {
	ms, err := leaseMillis(ttl)
	if err != nil {
		return err
	}
	_, err = b.held(ctx, extendScript, key, v, ms)
	return err
}

// Release frees the lock that v belongs to, also if its lease has run out. If
// expires is not zero, Release also moves Expires forward as Touch does. It
// fails with a [*session.ConflictError] if the lock was ended or taken over, or
// if the record is gone.
//
// If a response was lost, and the retry finds no lock or another client's, then
// Release succeeds: its first attempt may have freed the lock, and the caller
// has lost nothing. It still fails if it was to move Expires and the record
// shows that Expires was not moved.
//
// Release is one command.
func (b *Backend) Release(ctx context.Context, key string, v session.Version, expires time.Time) error {
	until := int64(minMillis)
	if !expires.IsZero() {
		until = millis(expires)
	}
	if until > maxMillis {
		return errYears("Expires")
	}
	r, err := b.held(ctx, releaseScript, key, v, until)
	if _, old := split(v); r != nil && r.releasedBefore(old, time.UnixMilli(until)) {
		return nil
	}
	return err
}

// held runs a script of the holder with version v. If it fails with a
// ConflictError, it also returns the reply, if there was one.
func (b *Backend) held(ctx context.Context, s *script, key string, v session.Version, arg int64) (*reply, error) {
	lock, _ := split(v)
	if lock == "" {
		if err := contextError(ctx); err != nil {
			return nil, fmt.Errorf("redisstore: %s: not sent: %w", s.op, err)
		}
		return nil, &session.ConflictError{}
	}
	r, err := b.keys.run(ctx, s, key, lock, arg)
	switch {
	case err != nil:
		return nil, err
	case r.status == statusOK:
		return r, nil
	}
	return r, &session.ConflictError{Gone: r.status == statusNone}
}
