package dynamodb

import (
	"context"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/seed-a7bee19b/session/observe"
)

// DataType is the type of the attribute that holds the encoded session.
type DataType int

const (
	// Binary suits every codec.
	Binary DataType = iota
	// String suits codecs that write UTF-8 text, such as JSON. The session is
	// then readable in the console and in exports.
	String
)

// The defaults of [Config].
const (
	DefaultTable              = "sessions"
	DefaultKeyAttribute       = "id"
	DefaultDataAttribute      = "data"
	DefaultExpiresAttribute   = "expires"
	DefaultCreatedAttribute   = "created"
	DefaultVersionAttribute   = "version"
	DefaultLockAttribute      = "lock"
	DefaultLockUntilAttribute = "lock_until"
	DefaultPrivateAttribute   = "private"

	DefaultMaxAttempts    = 4
	DefaultAttemptTimeout = 2 * time.Second
	DefaultBackoffBase    = 50 * time.Millisecond
	DefaultMaxBackoff     = time.Second

	// MaxItemSize is the size of the largest item that DynamoDB stores, in
	// bytes.
	MaxItemSize = 400 << 10
)

// Config configures a [Backend]. A zero field has the default that its comment
// gives, so the zero Config is ready to use.
type Config struct {
	// Table is the name of the table: 3 to 255 letters, digits, '_', '-' and
	// '.'. Default "sessions".
	Table string

	// The names of the attributes: 1 to 255 bytes of UTF-8, all different.
	// Defaults "id", "data", "expires", "created", "version", "lock" and
	// "lock_until". KeyAttribute must be the partition key of the table, of type
	// S. ExpiresAttribute must be the TTL attribute of the table.
	KeyAttribute       string
	DataAttribute      string
	ExpiresAttribute   string
	CreatedAttribute   string
	VersionAttribute   string
	LockAttribute      string
	LockUntilAttribute string

	// PrivateAttribute is for a table beside PHP, and is not used on another. It holds
	// the data of records that are not sessions, instead of DataAttribute, so that PHP
	// sees no session there. Default "private".
	PrivateAttribute string

	// DataType is the type that Save gives to DataAttribute. Load reads both
	// types, so it can be changed at any time. Default Binary.
	DataType DataType

	// EventuallyConsistentReads halves the cost of a Load. That Load may return
	// an older state, even of a session that was renewed, given a new ID or
	// destroyed within the last second or so. A Load that finds no session, or
	// an expired one, repeats the read consistently, and costs 1.5 times as much
	// as a consistent one. Saves stay safe, but conflict more often. Default
	// false.
	EventuallyConsistentReads bool

	// MaxItemSize is the size of the largest item that Save sends, in bytes. It
	// includes the attribute names and room for a lock. Save refuses a larger
	// one with session.ErrTooLarge. Default and maximum 409600, the limit of
	// DynamoDB.
	MaxItemSize int

	// MaxAttempts is the largest number of times that a call sends a request,
	// including the first. 1 means no retries. Default 4.
	MaxAttempts int

	// AttemptTimeout limits one attempt, including the time to connect and to
	// fetch credentials. It ends attempts on connections that hang. Default 2 s.
	AttemptTimeout time.Duration

	// Before retry n, counted from 1, a call waits for a random time of up to
	// BackoffBase * 2^(n-1), and of at most MaxBackoff. The call fails at once
	// if the context would end first. Defaults 50 ms and 1 s.
	BackoffBase time.Duration
	MaxBackoff  time.Duration

	// PHP describes the session handler of the AWS SDK for PHP, if that uses the table
	// too. Default: it does not.
	PHP PHPConfig

	// OnRequest is called after each request, including retries and requests
	// about the table. ctx is that of the call, with the values that an observer
	// has put there. OnRequest is called by several goroutines at once, and must
	// not block. Default nil.
	//
	// If it is set, every request about items asks for its consumed capacity,
	// which costs nothing. Three kinds of requests report no units: one that
	// failed, one whose condition failed, although that is billed like a
	// success, and one whose response was lost. The Err of a failed condition
	// does not have the stored item.
	OnRequest func(ctx context.Context, r observe.Request)
}

// complete sets the defaults, and refuses what cannot work.
func (c *Config) complete() error {
	if c.Table == "" {
		c.Table = DefaultTable
	}
	if err := c.completeAttributes(); err != nil {
		return err
	}
	if !validTableName(c.Table) {
		return fmt.Errorf("dynamodb: Config.Table %q is not the name of a table: 3 to 255 of a-z, A-Z, 0-9, '_', '-' and '.'", c.Table)
	}
	if c.DataType != Binary && c.DataType != String {
		return fmt.Errorf("dynamodb: Config.DataType %d is neither Binary nor String", int(c.DataType))
	}
	switch {
	case c.MaxItemSize < 0 || c.MaxItemSize > MaxItemSize:
		return fmt.Errorf("dynamodb: Config.MaxItemSize %d is not between 0 (default) and %d", c.MaxItemSize, MaxItemSize)
	case c.MaxItemSize == 0:
		c.MaxItemSize = MaxItemSize
	}
	if err := c.PHP.complete(); err != nil {
		return err
	}
	if err := c.checkPHPAttributes(); err != nil {
		return err
	}
	return c.completeRetries()
}

func (c *Config) completeAttributes() error {
	type attribute struct {
		field string
		value *string
		def   string
	}
	attributes := []attribute{
		{"KeyAttribute", &c.KeyAttribute, DefaultKeyAttribute},
		{"DataAttribute", &c.DataAttribute, DefaultDataAttribute},
		{"ExpiresAttribute", &c.ExpiresAttribute, DefaultExpiresAttribute},
		{"CreatedAttribute", &c.CreatedAttribute, DefaultCreatedAttribute},
		{"VersionAttribute", &c.VersionAttribute, DefaultVersionAttribute},
		{"LockAttribute", &c.LockAttribute, DefaultLockAttribute},
		{"LockUntilAttribute", &c.LockUntilAttribute, DefaultLockUntilAttribute},
	}
	if c.PHP != (PHPConfig{}) {
		attributes = append(attributes, attribute{"PrivateAttribute", &c.PrivateAttribute, DefaultPrivateAttribute})
	}
	used := make(map[string]string, len(attributes))
	for _, a := range attributes {
		if *a.value == "" {
			*a.value = a.def
		}
		if len(*a.value) > 255 || !utf8.ValidString(*a.value) {
			return fmt.Errorf("dynamodb: Config.%s is not at most 255 bytes of UTF-8", a.field)
		}
		if other, taken := used[*a.value]; taken {
			return fmt.Errorf("dynamodb: Config.%s and Config.%s are both %q", other, a.field, *a.value)
		}
		used[*a.value] = a.field
	}
	return nil
}

func (c *Config) completeRetries() error {
	switch {
	case c.MaxAttempts < 0:
		return fmt.Errorf("dynamodb: Config.MaxAttempts %d is negative", c.MaxAttempts)
	case c.MaxAttempts == 0:
		c.MaxAttempts = DefaultMaxAttempts
	}
	for _, d := range []struct {
		field string
		value time.Duration
	}{
		{"AttemptTimeout", c.AttemptTimeout},
		{"BackoffBase", c.BackoffBase},
		{"MaxBackoff", c.MaxBackoff},
	} {
		if d.value < 0 {
			return fmt.Errorf("dynamodb: Config.%s %v is negative", d.field, d.value)
		}
	}
	if c.AttemptTimeout == 0 {
		c.AttemptTimeout = DefaultAttemptTimeout
	}
	// If only one of the two is set, the default of the other gives way.
	switch {
	case c.BackoffBase == 0 && c.MaxBackoff == 0:
		c.BackoffBase, c.MaxBackoff = DefaultBackoffBase, DefaultMaxBackoff
	case c.BackoffBase == 0:
		c.BackoffBase = min(DefaultBackoffBase, c.MaxBackoff)
	case c.MaxBackoff == 0:
		c.MaxBackoff = max(DefaultMaxBackoff, c.BackoffBase)
	case c.BackoffBase > c.MaxBackoff:
		return fmt.Errorf("dynamodb: Config.BackoffBase %v is longer than Config.MaxBackoff %v", c.BackoffBase, c.MaxBackoff)
	}
	return nil
}

func validTableName(s string) bool {
	const allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-."
	return len(s) >= 3 && len(s) <= 255 && strings.Trim(s, allowed) == ""
}
