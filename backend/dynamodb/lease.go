package dynamodb

import (
	"context"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/seed-a7bee19b/session"
)

// Acquire locks the record at key and returns it with the version of the
// lock's holder. The lease runs for ttl, in whole milliseconds, from when the
// request was sent, by the clock of this machine. LockedUntil of the record is
// its end. Acquire does not wait.
//
// It fails with [session.ErrNotFound] if there is no record or it has expired,
// with a [*session.LockedError] while another's lock is live, and with
// [session.ErrDecode] if the item was not written by this package. After any
// other error the record may be locked for ttl: the lock was taken, and the
// response was lost.
//
// It sends one UpdateItem, which also reads the record. That costs 1 WCU per KB
// of the item, rounded up, whether it takes the lock or finds another's: a Load
// is the cheaper way to see whether a lock is free. An Acquire that finds an
// expired record removes it with a DeleteItem.
func (b *Backend) Acquire(ctx context.Context, key string, ttl time.Duration) (session.Record, error) {
	if err := b.checkLease(ctx, key, ttl); err != nil {
		return session.Record{}, err
	}
	id := newLockID()
	w := conditional{key: key, expr: &b.expr.acquire, values: mine(id), ttl: ttl}
	for range b.c.MaxAttempts {
		item, refused, err := b.update(ctx, w)
		if err != nil {
			return session.Record{}, err
		}
		if refused == nil {
			return b.acquired(ctx, key, id, item)
		}
		found := b.stored(ctx, key, refused)
		if found.lock.dead(refused.at) {
			w.dead = &found.lock
		}
		v := refusedAcquire{
			row:     found.row(),
			expired: found.expired(refused.at),
			lock:    found.lock.state(id, refused.at),
		}.verdict()
		if v == verdictExpired {
			var r removal
			r, found.err = b.bury(ctx, key, found.rec)
			v = r.ofLook()
		}
		switch v {
		case verdictSuccess:
			return found.lock.held(found.rec), nil
		case verdictAgain:
		default:
			return session.Record{}, b.verdictError(opUpdateItem, v, refused, found)
		}
	}
	// Each time the record was locked, and free again before it could be read.
	return session.Record{}, &session.LockedError{}
}

// acquired returns what the holder of the lock gets: the item that Acquire has
// just locked. It tries to free one that it cannot read.
func (b *Backend) acquired(ctx context.Context, key, id string, item map[string]types.AttributeValue) (session.Record, error) {
	rec, l, err := b.decode(key, item, b.now())
	if err != nil {
		_, _, _ = b.update(ctx, conditional{key: key, expr: &b.expr.release, values: mine(id)})
		return session.Record{}, err
	}
	return l.held(rec), nil
}

// Extend renews the lease of the lock that v names: it then runs for ttl from
// now, by the clock of this machine. It fails with a [*session.ConflictError]
// if the lease has run out, if the lock was freed or taken over, or if the
// record is gone.
//
// It sends one UpdateItem, which costs 1 WCU per KB of the item, rounded up.
func (b *Backend) Extend(ctx context.Context, key string, v session.Version, ttl time.Duration) error {
	if err := b.checkLease(ctx, key, ttl); err != nil {
		return err
	}
	held, _ := split(v)
	if held.id == "" {
		return &session.ConflictError{}
	}
	_, refused, err := b.update(ctx, conditional{key: key, expr: &b.expr.extend, values: mine(held.id), ttl: ttl})
	if err != nil || refused == nil {
		return err
	}
	found := b.stored(ctx, key, refused)
	verdict := refusedExtend{row: found.row(), expired: found.expired(refused.at)}.verdict()
	return b.verdictError(opUpdateItem, verdict, refused, found)
}

// Release frees the lock that v names, even if its lease has run out. If expires
// is not zero, it moves Expires forward like Touch. It fails with a
// [*session.ConflictError] if the lock was freed or taken over, or if the
// record is gone.
//
// If a response was lost, and the lock is then free or another's, Release
// succeeds, because its first attempt may have freed it. It fails in that case
// only if it was to move Expires and the item shows that it did not.
//
// It sends one UpdateItem, which costs 1 WCU per KB of the item, rounded up. It
// sends a second one if a Touch since Acquire has moved Expires as far as
// Release would. A Release that finds an expired record removes it with a
// DeleteItem.
func (b *Backend) Release(ctx context.Context, key string, v session.Version, expires time.Time) error {
	if err := b.check(ctx, opUpdateItem, key); err != nil {
		return err
	}
	r, err := b.newRelease(key, v, expires)
	if err != nil {
		return err
	}
	for {
		_, refused, err := b.update(ctx, r.request)
		if err != nil || refused == nil {
			return err
		}
		found := b.stored(ctx, key, refused)
		v := r.refused(refused, found).verdict()
		if v == verdictExpired {
			removed, err := b.bury(ctx, key, found.rec)
			if err != nil {
				found.err = fmt.Errorf("dynamodb: the lock was not freed in time: %w", err)
			}
			v = removed.ofRelease()
		}
		switch v {
		case verdictSuccess:
			return nil
		case verdictAgain:
			b.leaveDeadline(r)
		default:
			return b.verdictError(opUpdateItem, v, refused, found)
		}
	}
}

// release is a Release in progress.
type release struct {
	lock    string // its ID
	old     base   // of the record that Acquire returned
	until   int64  // Expires to move to, epoch seconds
	moves   bool   // Expires
	request conditional
}

// newRelease prepares a Release, and refuses one that must not be sent.
func (b *Backend) newRelease(key string, v session.Version, expires time.Time) (*release, error) {
	until, err := untilOf(expires)
	if err != nil {
		return nil, err
	}
	held, old := b.was(v)
	if held.id == "" {
		return nil, &session.ConflictError{}
	}
	r := &release{lock: held.id, old: old, until: until, moves: !expires.IsZero() && until > held.expires}
	r.request = conditional{key: key, expr: &b.expr.release, values: mine(held.id)}
	if r.moves {
		r.request.expr, r.request.values[":e"] = &b.expr.releaseMove, number(until)
	}
	return r, nil
}

// leaveDeadline makes r a Release that only frees the lock. No request can say
// "move Expires unless it is later", so that takes another one.
func (b *Backend) leaveDeadline(r *release) {
	r.moves, r.request.expr = false, &b.expr.release
	delete(r.request.values, ":e")
}

// refused returns the inputs for the verdict on r.
func (r *release) refused(refused *refusal, found stored) refusedRelease {
	return refusedRelease{
		moves:   r.moves,
		lost:    refused.unsure != nil,
		row:     found.row(),
		expired: found.expired(refused.at),
		own:     found.lock.id == r.lock,
		unmoved: found.rec.Version == r.old.version() && found.rec.Expires.Unix() < r.until,
	}
}

func (b *Backend) checkLease(ctx context.Context, key string, ttl time.Duration) error {
	if err := b.check(ctx, opUpdateItem, key); err != nil {
		return err
	}
	if ttl <= 0 {
		return fmt.Errorf("dynamodb: a lock for %v: it must be for longer than 0", ttl)
	}
	return nil
}

// mine are the values of a request for the lock id.
func mine(id string) map[string]types.AttributeValue {
	return map[string]types.AttributeValue{":mine": &types.AttributeValueMemberB{Value: []byte(id)}}
}
