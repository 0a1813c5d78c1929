package dynamodb

import (
	"crypto/rand"
	"encoding/base32"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/seed-a7bee19b/session"
)

// PHPConfig describes the other side of a table that the session handler of the AWS
// SDK for PHP uses too. The zero value says that there is none: then every item of
// the table must be of this package.
//
// Beside PHP, the rows, the keys, the cookie and the format of the values are those
// of the handler, so a Manager needs the codec of package codec/php, [PHPTokens] and
// [PHPStoreKey]. [session.New] refuses a Config that lacks one of them, because PHP
// destroys a session that it cannot decode.
type PHPConfig struct {
	// Connection says how PHP writes. It is required.
	Connection PHPConnection

	// SessionName is session.name of PHP, the name of the cookie. Default
	// "PHPSESSID".
	SessionName string

	// SerializeHandler is session.serialize_handler of PHP: "php", "php_binary" or
	// "php_serialize". Default "php".
	SerializeHandler string

	// SessionLifetime is session_lifetime of the handler, which is
	// session.gc_maxlifetime unless it is set. With each request PHP sets the deadline
	// to that time from now, whatever it was, so IdleTimeout and MaxIdleTimeout of the
	// Manager must be the same, and a Lifetime with a shorter idle timeout ends only on
	// pages in Go. So does the absolute timeout, which PHP does not know. Default 24
	// minutes.
	SessionLifetime time.Duration

	// ForeignLease bounds how long a lock of the stock handler is respected, because
	// that lock has no end. If this process has seen it for so long, and nothing was written
	// meanwhile, it takes the holder for dead and the lock for free. A holder that
	// lives overwrites later what was saved. Default 60 seconds; at least 1 second, and
	// longer than the longest request of PHP's. With StockLocking, TouchInterval of the
	// Manager must be longer, because a deadline that moves makes the lock a new one.
	ForeignLease time.Duration

	// AcceptLoss allows what loses changes or sessions: StockUnlocked, and mode
	// Exclusive with StockLocking.
	AcceptLoss bool
}

// PHPConnection says how the PHP side of a table writes.
type PHPConnection int

const (
	// VersionedConnection is php/VersionedConnection.php of this repository, on all
	// PHP servers: conditional writes, and locks with a lease. All promises of
	// package session hold, on both sides, with PHP's locking on or off. An item that
	// the stock handler has written last is read and replaced safely too, but that
	// handler must not write any more.
	VersionedConnection PHPConnection = iota + 1

	// StockLocking is the handler of the SDK with 'locking' => true. No change that
	// either side has acknowledged is lost, as long as no request waits for a lock for
	// longer than max_lock_wait_time: after that PHP goes on with an empty session, and
	// stores it. Logout is not final: a request of PHP's that has read the session
	// before brings it back, with its user, when it ends; so it does with a session
	// that has a new ID or has expired. A lock is not fenced: a request of PHP's that
	// takes longer than ForeignLease overwrites what was saved meanwhile. A page in
	// mode Exclusive whose process dies makes PHP wait until the lease ends, so that
	// mode needs AcceptLoss.
	StockLocking

	// StockUnlocked is the handler of the SDK without locking. PHP overwrites what
	// others have stored since it read the session: of 400 increments by ten requests
	// at a time of each side, 192 were left. It ignores the locks of mode Exclusive,
	// whose holder then fails to save. It brings sessions back as with StockLocking. A
	// Save of this package overwrites nothing. It needs AcceptLoss.
	StockUnlocked
)

const (
	defaultSessionName      = "PHPSESSID"
	defaultSerializeHandler = "php"
	defaultSessionLifetime  = 24 * time.Minute
	defaultForeignLease     = time.Minute
)

func (p *PHPConfig) complete() error {
	if *p == (PHPConfig{}) {
		return nil
	}
	switch p.Connection {
	case VersionedConnection, StockLocking:
	case StockUnlocked:
		if !p.AcceptLoss {
			return errors.New("dynamodb: Config.PHP: without locking, the handler of the SDK overwrites what others have stored: " +
				"use VersionedConnection.php on the PHP side, or set AcceptLoss")
		}
	case 0:
		return errors.New("dynamodb: Config.PHP has no Connection: it is VersionedConnection, StockLocking or StockUnlocked")
	default:
		return fmt.Errorf("dynamodb: Config.PHP: unknown Connection %d", int(p.Connection))
	}
	if p.SessionName == "" {
		p.SessionName = defaultSessionName
	}
	if !isSessionName(p.SessionName) {
		return fmt.Errorf("dynamodb: Config.PHP: SessionName is %q; it can have letters, digits, '-' and '_', "+
			"not only digits and no '_' at its beginning, and at most %d bytes", p.SessionName, maxKey-1-maxPHPID)
	}
	switch p.SerializeHandler {
	case "":
		p.SerializeHandler = defaultSerializeHandler
	case "php", "php_binary", "php_serialize":
	default:
		return fmt.Errorf("dynamodb: Config.PHP: SerializeHandler is %q; it can be php, php_binary or php_serialize", p.SerializeHandler)
	}
	switch {
	case p.SessionLifetime == 0:
		p.SessionLifetime = defaultSessionLifetime
	case p.SessionLifetime < time.Second || p.SessionLifetime%time.Second != 0:
		return fmt.Errorf("dynamodb: Config.PHP: SessionLifetime is %v; it must be a number of seconds", p.SessionLifetime)
	}
	switch {
	case p.ForeignLease == 0:
		p.ForeignLease = defaultForeignLease
	case p.ForeignLease < time.Second:
		return fmt.Errorf("dynamodb: Config.PHP: ForeignLease is %v; it must be at least 1 second", p.ForeignLease)
	}
	return nil
}

// checkPHPAttributes refuses names that PHP cannot have. Those of the handler's own
// attributes are settings there too, except that of the lock.
func (c *Config) checkPHPAttributes() error {
	if c.PHP == (PHPConfig{}) {
		return nil
	}
	fixed := []struct{ field, value, name string }{{"LockAttribute", c.LockAttribute, DefaultLockAttribute}}
	if c.PHP.Connection == VersionedConnection {
		fixed = append(fixed, []struct{ field, value, name string }{
			{"CreatedAttribute", c.CreatedAttribute, DefaultCreatedAttribute},
			{"VersionAttribute", c.VersionAttribute, DefaultVersionAttribute},
			{"LockUntilAttribute", c.LockUntilAttribute, DefaultLockUntilAttribute},
			{"PrivateAttribute", c.PrivateAttribute, DefaultPrivateAttribute},
		}...)
	}
	for _, f := range fixed {
		if f.value != f.name {
			return fmt.Errorf("dynamodb: Config.%s is %q, and PHP calls that attribute %q", f.field, f.value, f.name)
		}
	}
	return nil
}

// isSessionName reports whether PHP can have name as its session.name, and its handler
// as the beginning of a key, from which it takes '_' off.
func isSessionName(name string) bool {
	const digits, others = "0123456789", "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_"
	return len(name) <= maxKey-1-maxPHPID && name[0] != '_' &&
		strings.Trim(name, digits) != "" && strings.Trim(name, digits+others) == ""
}

// serializer is a codec of package codec/php.
type serializer interface{ SerializeHandler() string }

var _ session.SharedBackend = (*Backend)(nil)

// CheckConfig implements [session.SharedBackend]. On a table beside PHP it refuses a
// Config whose sessions PHP would destroy or would not find, one whose deadlines PHP
// would undo, and one that loses changes if [PHPConfig].AcceptLoss is not set.
//
// On another table it refuses what PHP would destroy for certain if it used that table:
// a codec for PHP, and the keys that PHP's handler has by default. Set Config.PHP
// there; with VersionedConnection it costs the same requests, also if no PHP is left.
func (b *Backend) CheckConfig(cfg session.Config) error {
	if cfg.Tokens.New == nil || cfg.Tokens.Valid == nil || cfg.StoreKey == nil || cfg.Codec == nil {
		return errors.New("dynamodb: CheckConfig needs a Config with its defaults filled in")
	}
	token := cfg.Tokens.New()
	key := cfg.StoreKey(token)
	codec, isPHP := cfg.Codec.(serializer)
	php := &b.c.PHP
	switch {
	case !b.Shared() && isPHP:
		return fmt.Errorf("dynamodb: codec %T is for sessions that PHP uses too, and Config.PHP is not set: "+
			"PHP's handler and this table would overwrite each other's sessions", cfg.Codec)
	case !b.Shared() && key == defaultSessionName+"_"+token:
		return errors.New("dynamodb: StoreKey makes the keys of the session handler of the AWS SDK for PHP, and Config.PHP is not set: " +
			"PHP destroys a session that it opens and cannot decode")
	case !b.Shared():
		return nil
	case !isPHP:
		return fmt.Errorf("dynamodb: codec %T beside PHP, which destroys a session that it opens and cannot decode: use codec/php", cfg.Codec)
	case codec.SerializeHandler() != php.SerializeHandler:
		return fmt.Errorf("dynamodb: the codec is for the serialize handler %q, and Config.PHP has %q", codec.SerializeHandler(), php.SerializeHandler)
	case mayTrim(cfg.Tokens, token):
		return errors.New("dynamodb: Tokens has tokens that begin or end with '_', which PHP's handler takes off: use PHPTokens()")
	case key != php.SessionName+"_"+token:
		return fmt.Errorf("dynamodb: StoreKey makes other keys than PHP's handler: use PHPStoreKey(%q)", php.SessionName)
	case cfg.Header == "" && cfg.Cookie.Name != php.SessionName:
		return fmt.Errorf("dynamodb: the cookie is called %q, and that of PHP %q", cfg.Cookie.Name, php.SessionName)
	case cfg.IdleTimeout != php.SessionLifetime:
		return fmt.Errorf("dynamodb: IdleTimeout is %v, and PHP's SessionLifetime is %v: each side would undo the deadlines of the other",
			cfg.IdleTimeout, php.SessionLifetime)
	case cfg.MaxIdleTimeout != cfg.IdleTimeout:
		return fmt.Errorf("dynamodb: MaxIdleTimeout is %v, and PHP ends each session after its SessionLifetime, %v",
			cfg.MaxIdleTimeout, php.SessionLifetime)
	}
	return php.checkLocks(cfg)
}

// checkLocks judges what only the handler of the SDK does.
func (p *PHPConfig) checkLocks(cfg session.Config) error {
	switch {
	case p.Connection == VersionedConnection:
		return nil
	case p.Connection == StockLocking && !p.AcceptLoss && (cfg.Mode == session.Exclusive || cfg.SafeMode == session.Exclusive):
		return errors.New("dynamodb: mode Exclusive beside the handler of the SDK: if a process dies with a lock, " +
			"PHP goes on with an empty session and stores it: use VersionedConnection.php on the PHP side, or set AcceptLoss")
	case p.Connection == StockLocking && cfg.TouchInterval <= p.ForeignLease:
		return fmt.Errorf("dynamodb: TouchInterval is %v, and must be longer than ForeignLease, which is %v: "+
			"a lock beside another deadline is taken for a new one", cfg.TouchInterval, p.ForeignLease)
	}
	return nil
}

// mayTrim reports whether t may have a token with '_' at one of its ends.
func mayTrim(t session.Tokens, token string) bool {
	return strings.Trim(token, "_") != token || t.Valid("_"+token[1:]) || t.Valid(token[:len(token)-1]+"_")
}

// PHPTokens returns the tokens of a Manager beside PHP. It accepts the IDs of PHP: 22
// to 256 letters, digits and '-'. It draws 32 of 0-9 and a-v, 160 random bits. PHP's
// handler takes '_' off both ends of an ID, so no token has one. IDs with a comma,
// which session.sid_bits_per_character = 6 makes, are not accepted.
func PHPTokens() session.Tokens {
	return session.Tokens{
		New: func() string {
			var b [20]byte
			rand.Read(b[:]) // never fails
			return strings.ToLower(base32.HexEncoding.EncodeToString(b[:]))
		},
		Valid:     isPHPID,
		MinLength: minPHPID,
		MaxLength: maxPHPID,
	}
}

// The lengths of session.sid_length.
const (
	minPHPID = 22
	maxPHPID = 256
)

func isPHPID(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-':
		default:
			return false
		}
	}
	return true
}

// PHPStoreKey returns a [session.Config].StoreKey for the keys of PHP's handler: the
// name of the session, '_' and the token. See there what it gives up.
func PHPStoreKey(sessionName string) func(token string) string {
	return func(token string) string { return sessionName + "_" + token }
}
