package dynamodb

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/seed-a7bee19b/session"
)

const (
	lockIDSize = 16             // bytes
	lockSize   = lockIDSize + 8 // and the largest number of milliseconds before the year 5138
)

// lock is the content of the two lock attributes. The zero lock is none.
type lock struct {
	id    string // drawn by the holder
	until int64  // epoch milliseconds
}

// live reports whether the lease runs at now. The conditions say the same.
func (l lock) live(now time.Time) bool { return l.id != "" && l.until > now.UnixMilli() }

func (l lock) end() time.Time { return time.UnixMilli(l.until).UTC() }

func newLockID() string {
	var id [lockIDSize]byte
	rand.Read(id[:]) // never fails
	return string(id[:])
}

// holding is what the Version of a lock's holder has in front of the history:
// a letter, the ID of the lock, and eight bytes with the Expires that Acquire
// found, which saves Release a request, and a checksum, as nothing in the item
// says whether these are right. The length of a history is a multiple
// of eight, so the two kinds of Version cannot be taken for each other.
type holding struct {
	id      string
	expires int64 // epoch seconds
}

const (
	holderMark  = "L"
	holdingSize = len(holderMark) + lockIDSize + 8
)

// held returns rec as the holder of l gets it.
func (l lock) held(rec session.Record) session.Record {
	v := binary.BigEndian.AppendUint64([]byte(holderMark+l.id), holding{l.id, rec.Expires.Unix()}.tail())
	rec.Version = session.Version(v) + rec.Version
	rec.LockedUntil = l.end()
	return rec
}

// tail has the expires in five bytes, and a checksum in three.
func (h holding) tail() uint64 {
	sum := fnv.New32a()
	_, _ = fmt.Fprint(sum, h.id, h.expires) // never fails
	return uint64(h.expires-minSeconds)<<24 | uint64(sum.Sum32()>>8)
}

// split takes v apart. The holding has no ID if v is no holder's.
func split(v session.Version) (holding, history) {
	if len(v) < holdingSize || !strings.HasPrefix(string(v), holderMark) || !history(v[holdingSize:]).valid() {
		return holding{}, history(v)
	}
	const idEnd = len(holderMark) + lockIDSize
	tail := binary.BigEndian.Uint64([]byte(v[idEnd:holdingSize]))
	h := holding{id: string(v[len(holderMark):idEnd]), expires: int64(tail>>24) + minSeconds}
	if h.tail() != tail {
		return holding{}, history(v)
	}
	return h, history(v[holdingSize:])
}

// Acquire locks the record at key for ttl, counted in whole milliseconds by
// the clock of this machine from when the request was sent, and returns it
// with the holder's version. LockedUntil is when the lease ends. It fails with
// [session.ErrNotFound] if there is no record or it has expired, with a
// [*session.LockedError] while another's lock is live, and with
// [session.ErrDecode] if the item was not written by this package. It does not
// wait.
//
// If it fails with an error that is none of these, the record may stay locked
// for ttl: the lock was taken, and no response came.
//
// It is one UpdateItem, which also reads: 1 WCU per KB of the item, rounded
// up, whether it succeeds or finds a lock. A Load is what tells cheaply
// whether a lock has been freed. One that finds an expired record removes it
// with a DeleteItem.
func (b *Backend) Acquire(ctx context.Context, key string, ttl time.Duration) (session.Record, error) {
	if err := b.checkLease(ctx, key, ttl); err != nil {
		return session.Record{}, err
	}
	id := newLockID()
	values := mine(id)
	for range b.c.MaxAttempts {
		item, refused, err := b.update(ctx, key, &b.acquire, values, ttl)
		if err != nil {
			return session.Record{}, err
		}
		if refused == nil {
			rec, l, err := b.decode(item, b.now())
			if err != nil {
				// What cannot be read is not left locked, if that is possible.
				_, _, _ = b.update(ctx, key, &b.release, mine(id), 0)
				return session.Record{}, err
			}
			return l.held(rec), nil
		}
		rec, l, err := b.stored(ctx, key, refused)
		switch {
		case err != nil:
			return session.Record{}, err
		case refused.expired(rec):
			if err := b.bury(ctx, key, rec); err == nil {
				return session.Record{}, session.ErrNotFound
			} else if !errors.Is(err, errChanged) {
				return session.Record{}, err
			}
		case l.id == id:
			// An attempt whose response was lost was applied.
			return l.held(rec), nil
		case l.live(refused.at):
			return session.Record{}, &session.LockedError{Until: l.end()}
		}
		// Without ALL_OLD: what the read found is not what refused the lock.
	}
	// Each time it was locked, and free again before that could be read.
	return session.Record{}, &session.LockedError{}
}

// Extend makes the lease of the lock that v belongs to run for ttl from now,
// by the clock of this machine. It fails with a [*session.ConflictError] if
// the lease has run out, if the lock was freed or taken over, or if the record
// is gone.
//
// It is one UpdateItem: 1 WCU per KB of the item, rounded up.
func (b *Backend) Extend(ctx context.Context, key string, v session.Version, ttl time.Duration) error {
	if err := b.checkLease(ctx, key, ttl); err != nil {
		return err
	}
	held, _ := split(v)
	if held.id == "" {
		return &session.ConflictError{}
	}
	_, refused, err := b.update(ctx, key, &b.extend, mine(held.id), ttl)
	if err != nil || refused == nil {
		return err
	}
	// An attempt whose response was lost does not matter: applied or not, it
	// leaves the lock to its holder, for the ttl from when it was sent.
	current, _, err := b.stored(ctx, key, refused)
	if errors.Is(err, session.ErrNotFound) || err == nil && refused.expired(current) {
		return &session.ConflictError{Gone: true}
	}
	return conflict(current, err)
}

// Release frees the lock that v belongs to, also if its lease has run out. If
// expires is not zero, it moves Expires forward as Touch does. It fails with a
// [*session.ConflictError] if the lock was freed or taken over, or if the
// record is gone.
//
// If a response was lost and the lock is then not there any more, or another's,
// Release succeeds: it may have freed it, and has nothing to lose. It fails
// only if it was to move Expires, and the item shows that it has not.
//
// It is one UpdateItem: 1 WCU per KB of the item, rounded up. It is two if a
// Touch since Acquire has moved Expires to where Release would, or further. One
// that finds an expired record removes it with a DeleteItem.
func (b *Backend) Release(ctx context.Context, key string, v session.Version, expires time.Time) error {
	if err := b.check(ctx, opUpdateItem, key); err != nil {
		return err
	}
	until := seconds(expires)
	if until > maxSeconds {
		return errors.New("dynamodb: Expires is not in the years 1 to 9999")
	}
	held, old := split(v)
	if held.id == "" {
		return &session.ConflictError{}
	}
	expr, values := &b.release, mine(held.id)
	if !expires.IsZero() && until > held.expires {
		expr = &b.releaseMove
		values[":e"] = number(until)
	}
	for {
		_, refused, err := b.update(ctx, key, expr, values, 0)
		if err != nil || refused == nil {
			return err
		}
		current, l, err := b.stored(ctx, key, refused)
		switch {
		case errors.Is(err, session.ErrNotFound):
			return &session.ConflictError{Gone: true}
		case err == nil && refused.expired(current):
			if err := b.bury(ctx, key, current); err != nil {
				return fmt.Errorf("dynamodb: a lock was not freed in time: %w", err)
			}
			return &session.ConflictError{Gone: true}
		case err == nil && l.id == held.id && expr == &b.releaseMove:
			// A Touch has moved it. No update can say "move it if", so this
			// is another request.
			expr = &b.release
			delete(values, ":e")
			continue
		case refused.unsure == nil:
			return conflict(current, err)
		case err != nil:
			return b.unknown(refused.unsure, err)
		case expr == &b.releaseMove && history(current.Version) == old && current.Expires.Unix() < until:
			return conflict(current, nil)
		default:
			return nil
		}
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

func mine(id string) map[string]types.AttributeValue {
	return map[string]types.AttributeValue{":mine": &types.AttributeValueMemberB{Value: []byte(id)}}
}

// conflict has the record that is stored, unless err says that it could not
// be had.
func conflict(current session.Record, err error) error {
	if err != nil {
		return &session.ConflictError{}
	}
	return &session.ConflictError{Current: &current}
}
