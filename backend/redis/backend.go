package redisstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/seed-a7bee19b/session"
)

// The defaults and limits of [Config].
const (
	DefaultPrefix  = "session:"
	DefaultMaxSize = 8 << 20

	// MaxSize is the largest value that Redis accepts, in bytes, unless its
	// proto-max-bulk-len is set to another limit.
	MaxSize = 512 << 20
)

// Config configures a [Backend]. The zero value is useful: each zero field
// means its default.
type Config struct {
	// Prefix is put before every key: 1 to 128 bytes. Two applications on one
	// server need two prefixes. Default "session:".
	Prefix string

	// MaxSize is the largest Data that Save sends, in bytes. Save refuses
	// larger Data with session.ErrTooLarge. While the server copies the data,
	// it serves no other client. Default 8 MiB, at most 512 MiB; it must not
	// be larger than the server's proto-max-bulk-len.
	MaxSize int
}

// Backend stores sessions in Redis and locks them there. It is safe for
// concurrent use. It has no Close method; the caller closes the client. Make a
// Backend with [New].
type Backend struct {
	keys    keyspace
	maxSize int
	hmget   bool // the client sends read commands to masters
}

var _ session.LockingBackend = (*Backend)(nil)

// New returns a Backend that uses client, typically a [*redis.Client] or a
// [*redis.ClusterClient]. A client made by redis.NewFailoverClient is a
// *redis.Client. New sends nothing.
//
// It refuses a redis.Ring, and a client with ReadTimeout or WriteTimeout
// switched off.
func New(client Client, c Config) (*Backend, error) {
	keys, err := newKeyspace(client, "Config", cmp.Or(c.Prefix, DefaultPrefix))
	if err != nil {
		return nil, err
	}
	if c.MaxSize < 0 || c.MaxSize > MaxSize {
		return nil, fmt.Errorf("redisstore: Config.MaxSize is %d; it must be 0, for the default, or at most %d", c.MaxSize, MaxSize)
	}
	return &Backend{keys: keys, maxSize: cmp.Or(c.MaxSize, DefaultMaxSize), hmget: readsMaster(client)}, nil
}

// Load returns the record at key. It may return an expired record, for a
// minute after the deadline. It fails with [session.ErrNotFound] if there is
// no record, and with [session.ErrDecode] if this package did not write the
// value at key.
//
// LockedUntil is by the clock of this machine: the arrival of the reply plus
// the time that the lease still ran at the server. It is never too early, and
// too late by at most the time that the reply took.
//
// Load is one command; two if the record is locked or missing, or if this
// package did not write it.
func (b *Backend) Load(ctx context.Context, key string) (session.Record, error) {
	if b.hmget {
		// This is faster than the script. The script handles the other cases:
		// only the clock of the server tells whether a lock is live.
		r, err := b.keys.run(ctx, readCommand, key, "until", "data", "created", "expires", "version")
		if err != nil {
			return session.Record{}, err
		}
		if r.flaw == "" && !r.leased {
			return r.record(time.Now())
		}
	}
	r, err := b.keys.run(ctx, loadScript, key, "")
	if err != nil {
		return session.Record{}, err
	}
	if r.status == statusNone {
		return session.Record{}, session.ErrNotFound
	}
	return r.record(time.Now())
}

// Save stores rec and returns its new version. With a zero rec.Version it
// creates the record. Otherwise it replaces the state that the version names,
// and fails with a [*session.ConflictError] if another state is stored; the
// error has the current record. Save refuses Data larger than [Config].MaxSize
// with [session.ErrTooLarge] and does not send it. It rounds Expires up and
// Created down to the millisecond; both must be in the years 1 to 9999.
//
// While a lock is live, only a Save with the holder's version writes. Every
// other Save fails with a [*session.LockedError], also one that creates or has
// an older version. The Save of a holder whose lock was ended fails with a
// ConflictError. Every successful Save ends the lock.
//
// If Save fails with another error, and a response was lost, the record may or
// may not have been stored; the text of the error says so. A Save that creates
// is never sent again after that, whatever the options of the client: the
// record could have been deleted in between. The client does not retry such a
// Save either if it cannot connect, or if the server is still loading its
// data.
//
// Save is one command.
func (b *Backend) Save(ctx context.Context, key string, rec session.Record) (session.Version, error) {
	expires, created := millis(rec.Expires), rec.Created.UnixMilli()
	switch {
	case rec.Expires.IsZero():
		return "", errors.New("redisstore: the record has no Expires")
	case expires < minMillis || expires > maxMillis:
		return "", errYears("Expires")
	case created < minMillis || created > maxMillis:
		return "", errYears("Created")
	case len(rec.Data) > b.maxSize:
		return "", fmt.Errorf("redisstore: the data has %d bytes; at most %d are allowed: %w", len(rec.Data), b.maxSize, session.ErrTooLarge)
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
	// The data is copied, because Save may return before the client has sent it.
	r, err := b.keys.run(ctx, script, key, token, string(old), lock, string(rec.Data), created, deadline)
	if err != nil {
		return "", err
	}
	if err := r.saveError(old, time.Now()); err != nil {
		return "", err
	}
	// If an earlier attempt was applied, other clients may have written since.
	// The next Save with this version then fails with a conflict.
	return session.Version(token), nil
}

// Touch moves Expires forward, rounded up to the millisecond. It neither sends
// the data nor changes the version. If the stored Expires is not earlier,
// Touch does nothing. It fails with [session.ErrNotFound] if there is no
// record or the record has expired.
//
// Touch is one command.
func (b *Backend) Touch(ctx context.Context, key string, expires time.Time) error {
	until := millis(expires)
	if until > maxMillis {
		return errYears("Expires")
	}
	r, err := b.keys.run(ctx, touchScript, key, strconv.FormatInt(until, 10))
	if err == nil && r.status == statusNone {
		return session.ErrNotFound
	}
	return err
}

// Delete removes the record at key, whatever its version, and its lock. It
// succeeds if there is no record.
//
// Delete is one command.
func (b *Backend) Delete(ctx context.Context, key string) error {
	_, err := b.keys.run(ctx, deleteScript, key, "")
	return err
}

func errYears(field string) error {
	return fmt.Errorf("redisstore: %s is not in the years 1 to 9999", field)
}
