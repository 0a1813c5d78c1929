package redisstore

import (
	"cmp"
	"context"
	"time"

	"github.com/seed-a7bee19b/session"
)

// DefaultLockPrefix is the default of [LockerConfig].Prefix.
const DefaultLockPrefix = "lock:"

// LockerConfig configures a [Locker]. The zero value is useful.
type LockerConfig struct {
	// Prefix is put before every key: 1 to 128 bytes. Lockers with the same
	// prefix on one server share their locks, so two applications need two
	// prefixes. It must differ from the [Config].Prefix of a Backend in the
	// same database. Default "lock:".
	Prefix string
}

// Locker makes locks in Redis for sessions that are stored elsewhere, in a
// [session.Backend] that cannot lock. A [Backend] needs no Locker. A Locker is
// safe for concurrent use. It has no Close method; the caller closes the
// client. Make a Locker with [NewLocker].
type Locker struct {
	keys keyspace
}

var _ session.Locker = (*Locker)(nil)

// NewLocker returns a Locker that uses client. It accepts the clients that
// [New] accepts, and sends nothing.
func NewLocker(client Client, c LockerConfig) (*Locker, error) {
	keys, err := newKeyspace(client, "LockerConfig", cmp.Or(c.Prefix, DefaultLockPrefix))
	if err != nil {
		return nil, err
	}
	return &Locker{keys: keys}, nil
}

// The scripts of a Locker. A lock is a string, the token of its holder. A reply
// is a status and, for a lock of another holder, the milliseconds that its
// lease still runs, -1 if it never ends.
var (
	// Arguments: token, ttl.
	lockerAcquireScript = newScript("Acquire", true, replies{statusOK: noFields, statusLocked: leftField}, `
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then
	return {'locked', redis.call('PTTL', KEYS[1])}
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return {'ok'}
`)

	// Arguments: token, ttl.
	lockerExtendScript = newScript("Extend", true, replies{statusOK: noFields, statusLost: noFields}, `
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return {'lost'} end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return {'ok'}
`)

	// Argument: token.
	lockerReleaseScript = newScript("Release", true, replies{statusOK: noFields}, `
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
return {'ok'}
`)
)

// Acquire acquires the lock called key for ttl, rounded up to the millisecond.
// It fails with a [*session.LockedError] while another holder's lock is live;
// Until is by the clock of this machine, and zero if the lock never ends.
// Acquire fails with [session.ErrDecode] if the value at key is not a string.
//
// If ctx ends while the request is in flight and the lock is acquired
// nevertheless, Acquire releases it in the background. If that fails, the lock
// lasts until ttl has passed.
//
// Acquire is one command. So are Extend and Release of the lease.
func (l *Locker) Acquire(ctx context.Context, key string, ttl time.Duration) (session.Lease, error) {
	ms, err := leaseMillis(ttl)
	if err != nil {
		return nil, err
	}
	h := &lease{keys: l.keys, key: key, token: newToken()}
	late := func(r *reply) {
		if r.status == statusOK {
			giveBack(ctx, func(ctx context.Context) { _ = h.Release(ctx) })
		}
	}
	r, err := l.keys.runLate(ctx, lockerAcquireScript, key, late, h.token, ms)
	if err != nil {
		return nil, err
	}
	if r.status == statusLocked {
		return nil, r.locked(time.Now())
	}
	return h, nil
}

// lease is a lock of a Locker.
type lease struct {
	keys  keyspace
	key   string
	token string
}

func (h *lease) Extend(ctx context.Context, ttl time.Duration) error {
	ms, err := leaseMillis(ttl)
	if err != nil {
		return err
	}
	r, err := h.keys.run(ctx, lockerExtendScript, h.key, h.token, ms)
	if err == nil && r.status == statusLost {
		return &session.ConflictError{}
	}
	return err
}

func (h *lease) Release(ctx context.Context) error {
	_, err := h.keys.run(ctx, lockerReleaseScript, h.key, h.token)
	return err
}
