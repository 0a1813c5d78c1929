package redis

import (
	"context"
	"time"

	"github.com/seed-a7bee19b/session"
)

// DefaultPrefix is the default of [Config].Prefix.
const DefaultPrefix = "lock:"

// Config configures a [Locker]. The zero value is useful.
type Config struct {
	// Prefix is put before every key: 1 to 128 bytes. Lockers with the same
	// prefix on one server share their locks, so two applications need two.
	// It must not be the one of session/backend/redis. Default "lock:".
	Prefix string
}

// Locker makes locks in Redis. It is safe for concurrent use and need not be
// closed; the client is the caller's to close. Make one with [New].
type Locker struct {
	client Client
	prefix string
}

var _ session.Locker = (*Locker)(nil)

// New returns a Locker that uses client, typically a [*redis.Client], also one
// made by redis.NewFailoverClient, or a [*redis.ClusterClient]. It sends
// nothing.
//
// It refuses a redis.Ring, and a client whose ReadTimeout or WriteTimeout is
// switched off.
func New(client Client, c Config) (*Locker, error) {
	if err := checkClient(client); err != nil {
		return nil, err
	}
	if c.Prefix == "" {
		c.Prefix = DefaultPrefix
	}
	if err := checkPrefix(c.Prefix); err != nil {
		return nil, err
	}
	return &Locker{client: client, prefix: c.Prefix}, nil
}

// The scripts. A lock is a string, the token of its holder. A reply is a
// status, and the milliseconds that another's lock is live, -1 if for ever.
var (
	// token, ttl
	acquireScript = newScript("Acquire", true, replies{"ok": 1, "locked": 2}, `
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then
	return {'locked', redis.call('PTTL', KEYS[1])}
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return {'ok'}
`)

	// token, ttl
	extendScript = newScript("Extend", true, replies{"ok": 1, "lost": 1}, `
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return {'lost'} end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return {'ok'}
`)

	// token
	releaseScript = newScript("Release", true, replies{"ok": 1}, `
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
return {'ok'}
`)
)

// Acquire takes the lock called key for ttl, rounded up to the millisecond. It
// fails with a [*session.LockedError] while another's lock is live, and with
// [session.ErrDecode] if the key holds something else than a lock. Until is by
// the clock of this machine.
//
// If ctx is cancelled while the request is under way, and the lock comes
// nevertheless, it is released again in the background. It stays until ttl has
// passed if the connection fails.
//
// It is one command.
func (l *Locker) Acquire(ctx context.Context, key string, ttl time.Duration) (session.Lease, error) {
	ms, err := lease(ttl)
	if err != nil {
		return nil, err
	}
	if err := checkKey(key); err != nil {
		return nil, err
	}
	h := &held{client: l.client, key: l.prefix + key, token: newToken()}
	giveBack := func(r *reply) {
		if r.status() != "ok" {
			return
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = h.Release(ctx)
	}
	r, err := run(ctx, l.client, acquireScript, h.key, giveBack, h.token, ms)
	if err != nil {
		return nil, err
	}
	if r.status() == "ok" {
		return h, nil
	}
	locked := &session.LockedError{}
	if left := r.millis(1); left >= 0 {
		locked.Until = time.Now().Add(left)
	}
	return nil, locked
}

// held is a lock.
type held struct {
	client Client
	key    string
	token  string
}

func (h *held) Extend(ctx context.Context, ttl time.Duration) error {
	ms, err := lease(ttl)
	if err != nil {
		return err
	}
	r, err := run(ctx, h.client, extendScript, h.key, nil, h.token, ms)
	if err == nil && r.status() != "ok" {
		return &session.ConflictError{}
	}
	return err
}

func (h *held) Release(ctx context.Context) error {
	_, err := run(ctx, h.client, releaseScript, h.key, nil, h.token)
	return err
}
