package redis

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/seed-a7bee19b/session"
)

// The defaults of [Config], and its limits.
const (
	DefaultPrefix  = "session:"
	DefaultMaxSize = 8 << 20

	// MaxSize is the largest value that Redis takes unless its
	// proto-max-bulk-len says otherwise, in bytes.
	MaxSize = 512 << 20
)

// Config configures a [Backend]. The zero value is useful: a zero field has
// the default that is named with it.
type Config struct {
	// Prefix is put before every key: 1 to 128 bytes. Two applications on one
	// server need two prefixes. Default "session:".
	Prefix string

	// MaxSize is the largest Data that Save sends, in bytes; anything larger
	// is refused with session.ErrTooLarge. While the server copies it, nobody
	// else is served. Default 8 MiB, highest value 512 MiB; it must not be
	// larger than the server's proto-max-bulk-len.
	MaxSize int
}

// Backend keeps sessions in Redis. It is safe for concurrent use and need not
// be closed; the client is the caller's to close. Make one with [New].
type Backend struct {
	client Client
	c      Config
	hmget  bool // the client asks the master, also for what only reads
}

var _ session.LockingBackend = (*Backend)(nil)

// New returns a Backend that uses client, typically a [*redis.Client], also
// one made by redis.NewFailoverClient, or a [*redis.ClusterClient]. It sends
// nothing.
//
// It refuses a redis.Ring, and a client whose ReadTimeout or WriteTimeout is
// switched off.
func New(client Client, c Config) (*Backend, error) {
	if err := checkClient(client); err != nil {
		return nil, err
	}
	if c.Prefix == "" {
		c.Prefix = DefaultPrefix
	}
	if err := checkPrefix(c.Prefix); err != nil {
		return nil, err
	}
	switch {
	case c.MaxSize < 0 || c.MaxSize > MaxSize:
		return nil, fmt.Errorf("redis: Config.MaxSize %d is not between 0 (default) and %d", c.MaxSize, MaxSize)
	case c.MaxSize == 0:
		c.MaxSize = DefaultMaxSize
	}
	return &Backend{client: client, c: c, hmget: readsMaster(client)}, nil
}

// readsMaster reports whether client is known to send to masters what only
// reads. Scripts always go there.
func readsMaster(client Client) bool {
	switch c := client.(type) {
	case *redis.Client:
		return true
	case *redis.ClusterClient:
		return !c.Options().ReadOnly
	}
	return false
}

func (b *Backend) run(ctx context.Context, s *script, key string, first string, rest ...any) (*reply, error) {
	return b.runLate(ctx, s, key, nil, first, rest...)
}

func (b *Backend) runLate(ctx context.Context, s *script, key string, late func(*reply), first string, rest ...any) (*reply, error) {
	if err := checkKey(key); err != nil {
		return nil, err
	}
	r, err := run(ctx, b.client, s, b.c.Prefix+key, late, first, rest...)
	if err == nil && r.status() == "foreign" {
		return nil, fmt.Errorf("redis: %s: a hash was not written by this package: it has no deadline or no version: %w", s.op, session.ErrDecode)
	}
	return r, err
}

// Load returns the record at key; one that has expired too, for a minute. It
// fails with [session.ErrNotFound] if there is none, and with
// [session.ErrDecode] if the key holds what this package did not write.
//
// LockedUntil is by the clock of this machine: the time left at the server,
// counted from when the answer came. It is not early, and late by no more than
// the answer took.
//
// It is one command; two if the record is locked, or if there is none.
func (b *Backend) Load(ctx context.Context, key string) (session.Record, error) {
	if b.hmget {
		// Faster than the script, which has to tell the rest apart: a lock is
		// live or not by the clock of the server.
		r, err := b.run(ctx, readCommand, key, "until", "data", "created", "expires", "version")
		if err != nil {
			return session.Record{}, err
		}
		if free, ok := r.free(); ok {
			return decode(free)
		}
	}
	r, err := b.run(ctx, loadScript, key, "")
	if err != nil {
		return session.Record{}, err
	}
	if r.status() == "none" {
		return session.Record{}, session.ErrNotFound
	}
	rec, err := decode(r)
	if err != nil {
		return session.Record{}, err
	}
	rec.LockedUntil = lockedUntil(r)
	return rec, nil
}

// Save stores rec and returns its new version. With a zero rec.Version it
// creates, otherwise it replaces the state that the version names, and fails
// with a [*session.ConflictError] if that is not what is stored. The error has
// the current record. Data larger than [Config].MaxSize is refused with
// [session.ErrTooLarge], and not sent. Expires is rounded up and Created down
// to the millisecond; both must lie in the years 1 to 9999.
//
// While a lock is live, only the holder's version writes, and other Saves fail
// with a [*session.LockedError], also those that create or have read an older
// state. A former holder's fails with a ConflictError if its lock was ended.
// Every Save ends the lock.
//
// An error that is none of these leaves open whether the record was stored if
// a response was lost; its text says so. A Save that creates is not sent again
// then, whatever the options of the client: the record could have been deleted
// in between. Nor does the client try it again when it cannot connect, or the
// server answers that it is loading.
//
// It is one command.
func (b *Backend) Save(ctx context.Context, key string, rec session.Record) (session.Version, error) {
	expires, created := millis(rec.Expires), rec.Created.UnixMilli()
	switch {
	case rec.Expires.IsZero():
		return "", errors.New("redis: the record has no Expires")
	case expires < minMillis || expires > maxMillis:
		return "", errYears("Expires")
	case created < minMillis || created > maxMillis:
		return "", errYears("Created")
	case len(rec.Data) > b.c.MaxSize:
		return "", fmt.Errorf("redis: the data has %d bytes, and %d are allowed: %w", len(rec.Data), b.c.MaxSize, session.ErrTooLarge)
	}
	lock, old := split(rec.Version)
	token := newToken()
	script, deadline := saveScript, strconv.FormatInt(expires, 10)
	if rec.Version == "" {
		script = createScript
	}
	if rec.KeepLater {
		deadline = "+" + deadline
	}
	// A copy of the data, since the call may return before the client is done.
	r, err := b.run(ctx, script, key, token, string(old), lock, string(rec.Data), created, deadline)
	if err != nil {
		return "", err
	}
	switch status := r.status(); {
	case status == "ok":
		// Perhaps an attempt whose response was lost was applied, and others
		// have written since: then the next Save with this version conflicts.
		return session.Version(token), nil
	case status == "none":
		return "", &session.ConflictError{Gone: true}
	case r.retry && status == "locked" && r.text(5) == string(old):
		return "", errors.New("redis: Save: it is not known whether it was applied: " +
			"a response was lost, and the record is as it was, and locked")
	case r.retry && !r.proves(time.Now()):
		return "", errors.New("redis: Save: it is not known whether it was applied: " +
			"a response was lost, and there were too many other writes, or too much time, until the retry")
	case status == "locked":
		return "", locked(r)
	default:
		return "", conflict(r)
	}
}

// proves reports whether a refused retry knows that no earlier attempt was
// applied: its token would still be there. The minute is that of the scripts,
// less what clocks and networks may be off.
func (r *reply) proves(now time.Time) bool {
	covered, _ := r.fields[len(r.fields)-1].(int64)
	return covered == 1 && now.Sub(r.sent) < 50*time.Second
}

// Touch moves Expires forward, rounded up to the millisecond, without sending
// the data or changing the version. It does nothing if the stored Expires is
// as late already, and fails with [session.ErrNotFound] if there is no record
// or it has expired.
//
// It is one command.
func (b *Backend) Touch(ctx context.Context, key string, expires time.Time) error {
	until := millis(expires)
	if until > maxMillis {
		return errYears("Expires")
	}
	r, err := b.run(ctx, touchScript, key, strconv.FormatInt(until, 10))
	if err == nil && r.status() == "none" {
		return session.ErrNotFound
	}
	return err
}

// Delete removes the record at key, whatever its version, and with it its
// lock. It is not an error if there is none.
//
// It is one command.
func (b *Backend) Delete(ctx context.Context, key string) error {
	_, err := b.run(ctx, deleteScript, key, "")
	return err
}

// Acquire locks the record at key for ttl, rounded up to the millisecond, and
// returns it with the holder's version. It fails with a [*session.LockedError]
// while another lock is live, and with [session.ErrNotFound] if there is no
// record or it has expired. LockedUntil, by the clock of this machine, is not
// later than the end of the lease at the server.
//
// If ctx is cancelled while the request is under way, and the lock comes
// nevertheless, it is released again in the background. It stays until ttl has
// passed if the connection fails.
//
// It is one command.
func (b *Backend) Acquire(ctx context.Context, key string, ttl time.Duration) (session.Record, error) {
	ms, err := lease(ttl)
	if err != nil {
		return session.Record{}, err
	}
	for range 3 {
		lock := newToken()
		r, err := b.runLate(ctx, acquireScript, key, func(r *reply) { b.giveBack(ctx, key, lock, r) }, lock, ms)
		if err != nil {
			return session.Record{}, err
		}
		switch r.status() {
		case "none":
			return session.Record{}, session.ErrNotFound
		case "locked":
			return session.Record{}, locked(r)
		case "ended":
			// A response was lost until the lease had run out and somebody
			// else had ended it.
			continue
		}
		rec, err := decode(r)
		if err != nil {
			b.giveBack(ctx, key, lock, r)
			return session.Record{}, err
		}
		rec.Version = holderVersion(lock, rec.Version)
		rec.LockedUntil = r.sent.Add(ttl)
		return rec, nil
	}
	return session.Record{}, errors.New("redis: Acquire: responses were lost, and each time the lock was ended before the retry")
}

// giveBack releases a lock that nobody will use. What it cannot do the lease
// does.
func (b *Backend) giveBack(ctx context.Context, key, lock string, r *reply) {
	if r.status() != "ok" {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_, _ = b.run(ctx, releaseScript, key, lock, int64(minMillis))
}

// Extend renews the lease of the lock that v belongs to: it then runs for ttl
// from now, rounded up to the millisecond. It fails with a
// [*session.ConflictError] if the lock was ended or taken over, if its lease
// has run out, or if the record is gone.
//
// It is one command.
func (b *Backend) Extend(ctx context.Context, key string, v session.Version, ttl time.Duration) error {
	ms, err := lease(ttl)
	if err != nil {
		return err
	}
	return b.held(ctx, extendScript, key, v, ms, nil)
}

// Release frees the lock that v belongs to, also if its lease has run out. If
// expires is not zero, it moves Expires forward as Touch does. It fails with a
// [*session.ConflictError] if the lock was ended or taken over, or if the
// record is gone.
//
// If a response was lost and the lock is then not there any more, or another's,
// Release succeeds: it may have freed it, and has nothing to lose. It fails
// only if it was to move Expires, and the record shows that it has not.
//
// It is one command.
func (b *Backend) Release(ctx context.Context, key string, v session.Version, expires time.Time) error {
	until := int64(minMillis)
	if !expires.IsZero() {
		until = millis(expires)
	}
	if until > maxMillis {
		return errYears("Expires")
	}
	return b.held(ctx, releaseScript, key, v, until, func(r *reply) bool {
		_, old := split(v)
		stored, err := strconv.ParseInt(r.text(4), 10, 64)
		return err == nil && (session.Version(r.text(5)) != old || stored >= until)
	})
}

// held runs a script of the holder. maybeDone tells whether a retry may have
// been refused because the first attempt was applied.
func (b *Backend) held(ctx context.Context, s *script, key string, v session.Version, arg int64, maybeDone func(*reply) bool) error {
	lock, _ := split(v)
	if lock == "" {
		if err := contextError(ctx); err != nil {
			return fmt.Errorf("redis: %s: not sent: %w", s.op, err)
		}
		return &session.ConflictError{}
	}
	r, err := b.run(ctx, s, key, lock, arg)
	switch {
	case err != nil:
		return err
	case r.status() == "ok":
		return nil
	case r.status() == "none":
		return &session.ConflictError{Gone: true}
	case r.retry && maybeDone != nil && maybeDone(r):
		return nil
	}
	return &session.ConflictError{}
}

// locked has the end of the lease by the clock of this machine.
func locked(r *reply) error { return &session.LockedError{Until: time.Now().Add(r.millis(1))} }

// lockedUntil is the same, and zero if there is no live lock.
func lockedUntil(r *reply) time.Time {
	left := r.millis(1)
	if left == 0 {
		return time.Time{}
	}
	return time.Now().Add(left)
}

// conflict has the record that is stored, if it is one of ours.
func conflict(r *reply) error {
	current, err := decode(r)
	if err != nil {
		return &session.ConflictError{}
	}
	current.LockedUntil = lockedUntil(r)
	return &session.ConflictError{Current: &current}
}

func errYears(field string) error {
	return fmt.Errorf("redis: %s is not in the years 1 to 9999", field)
}
