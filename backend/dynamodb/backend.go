package dynamodb

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/observe"
)

// Client has the calls of [*dynamodb.Client] that sessions need.
type Client interface {
	GetItem(context.Context, *dynamodb.GetItemInput, ...func(*dynamodb.Options)) (*dynamodb.GetItemOutput, error)
	UpdateItem(context.Context, *dynamodb.UpdateItemInput, ...func(*dynamodb.Options)) (*dynamodb.UpdateItemOutput, error)
	DeleteItem(context.Context, *dynamodb.DeleteItemInput, ...func(*dynamodb.Options)) (*dynamodb.DeleteItemOutput, error)
}

// TableClient has the calls of [*dynamodb.Client] that [Backend.CreateTable]
// and [Backend.CheckTable] need. A [Client] without them serves sessions only.
type TableClient interface {
	CreateTable(context.Context, *dynamodb.CreateTableInput, ...func(*dynamodb.Options)) (*dynamodb.CreateTableOutput, error)
	DescribeTable(context.Context, *dynamodb.DescribeTableInput, ...func(*dynamodb.Options)) (*dynamodb.DescribeTableOutput, error)
	UpdateTimeToLive(context.Context, *dynamodb.UpdateTimeToLiveInput, ...func(*dynamodb.Options)) (*dynamodb.UpdateTimeToLiveOutput, error)
	DescribeTimeToLive(context.Context, *dynamodb.DescribeTimeToLiveInput, ...func(*dynamodb.Options)) (*dynamodb.DescribeTimeToLiveOutput, error)
}

// DataType is the type of the attribute that holds the encoded session.
type DataType int

const (
	// Binary suits every codec.
	Binary DataType = iota
	// String suits codecs that make UTF-8 text, such as JSON. The session is
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

	DefaultMaxAttempts    = 4
	DefaultAttemptTimeout = 2 * time.Second
	DefaultBackoffBase    = 50 * time.Millisecond
	DefaultMaxBackoff     = time.Second

	// MaxItemSize is the largest item that DynamoDB takes, in bytes.
	MaxItemSize = 400 << 10
)

// Config configures a [Backend]. The zero value is useful: a zero field has
// the default that is named with it.
type Config struct {
	// Table is the name of the table: 3 to 255 letters, digits, '_', '-' and
	// '.'. Default "sessions".
	Table string

	// The names of the attributes: 1 to 255 bytes, all different. Defaults
	// "id", "data", "expires", "created", "version", "lock" and "lock_until".
	// The key must be the table's partition key, of type S; ExpiresAttribute is
	// the one that the table's TTL has to be set on.
	KeyAttribute       string
	DataAttribute      string
	ExpiresAttribute   string
	CreatedAttribute   string
	VersionAttribute   string
	LockAttribute      string
	LockUntilAttribute string

	// DataType is the type that Save gives to DataAttribute. Load reads both,
	// so it can be changed at any time. Default Binary.
	DataType DataType

	// EventuallyConsistentReads halves the price of Load. A Load may then
	// return an older state, also of a session that has been renewed, given a
	// new ID or destroyed within the last second or so. Before it returns that
	// there is no session, or one that has expired, it asks again with a
	// consistent read: such a Load costs 1.5 times a consistent one. Saves stay
	// safe, but conflict more often. Default off.
	EventuallyConsistentReads bool

	// MaxItemSize is the largest item that Save sends, in bytes, attribute
	// names and room for a lock included; anything larger is refused with
	// session.ErrTooLarge. Default and highest value 409600, the limit of
	// DynamoDB.
	MaxItemSize int

	// MaxAttempts is how often a call sends its request at most, the first
	// one included. 1 means no retries. Default 4.
	MaxAttempts int

	// AttemptTimeout bounds one attempt, with connecting and, if need be,
	// fetching credentials. It is what cuts a connection that hangs.
	// Default 2 s.
	AttemptTimeout time.Duration

	// Before retry n, counted from 1, a call waits for a random time of up to
	// BackoffBase * 2^(n-1), and of at most MaxBackoff. Defaults 50 ms and 1 s.
	// If the wait does not fit into the deadline of the caller's context, the
	// call fails at once instead.
	BackoffBase time.Duration
	MaxBackoff  time.Duration

	// OnRequest is told of each request once it is over, retries and those
	// about the table included. ctx is that of the call, so it has what an
	// observer put there. OnRequest is called by several goroutines at once
	// and must not block. Default none.
	//
	// With it every request about items asks for its units, which costs
	// nothing. A request that fails reports none. One whose condition failed
	// is billed like one that succeeded, but neither DynamoDB nor DynamoDB
	// Local says how much; nor is it known of one whose response was lost. The
	// Err of a failed condition is without the stored item.
	OnRequest func(ctx context.Context, r observe.Request)
}

// Backend keeps sessions in a DynamoDB table. It is safe for concurrent use,
// leaves no goroutine behind when a method returns, and need not be closed.
// Make one with [New] or [NewFromClient].
type Backend struct {
	client Client
	c      Config
	region string // for error texts; may be unknown
	opts   []func(*dynamodb.Options)
	now    func() time.Time

	patience patience
	consumed types.ReturnConsumedCapacity // "" for none

	expr  expressions
	fixed int // bytes of all attribute names, and of a lock

	// returnsItems is set once the engine has handed over an item with a
	// failed condition, as DynamoDB does; see stored.
	returnsItems atomic.Bool
}

var _ session.LockingBackend = (*Backend)(nil)

// New returns a Backend that talks to DynamoDB as cfg says, which is best
// made by LoadDefaultConfig of the SDK's package config. It sends nothing.
func New(cfg aws.Config, c Config) (*Backend, error) {
	if cfg.Credentials == nil {
		return nil, errors.New("dynamodb: the aws.Config has no Credentials; make it with config.LoadDefaultConfig")
	}
	client := dynamodb.NewFromConfig(cfg)
	if o := client.Options(); o.Region == "" && o.BaseEndpoint == nil {
		return nil, errors.New("dynamodb: the aws.Config has no Region; set it there, or AWS_REGION in the environment")
	}
	return NewFromClient(client, c)
}

// NewFromClient returns a Backend that uses client, typically a
// [*dynamodb.Client]. It sends nothing. With every call the client is told
// not to retry on its own.
func NewFromClient(client Client, c Config) (*Backend, error) {
	if client == nil {
		return nil, errors.New("dynamodb: the client is nil")
	}
	if err := c.complete(); err != nil {
		return nil, err
	}
	b := &Backend{
		client: client,
		c:      c,
		now:    time.Now,
		opts: []func(*dynamodb.Options){func(o *dynamodb.Options) {
			o.Retryer = aws.NopRetryer{}
			o.APIOptions = append(o.APIOptions, checkAnswers)
		}},
		patience: patience{attempts: c.MaxAttempts, timeout: c.AttemptTimeout, base: c.BackoffBase, most: c.MaxBackoff},
	}
	if c.OnRequest != nil {
		b.consumed = types.ReturnConsumedCapacityTotal
	}
	if cl, ok := client.(*dynamodb.Client); ok {
		b.region = cl.Options().Region
	}
	b.fixed = lockSize
	for _, name := range []string{
		c.KeyAttribute, c.DataAttribute, c.ExpiresAttribute, c.CreatedAttribute, c.VersionAttribute,
		c.LockAttribute, c.LockUntilAttribute,
	} {
		b.fixed += len(name)
	}
	b.expr = newExpressions(b.names)
	return b, nil
}

// complete fills in the defaults, and refuses what cannot work.
func (c *Config) complete() error {
	attributes := []struct {
		field string
		value *string
		def   string
	}{
		{"KeyAttribute", &c.KeyAttribute, DefaultKeyAttribute},
		{"DataAttribute", &c.DataAttribute, DefaultDataAttribute},
		{"ExpiresAttribute", &c.ExpiresAttribute, DefaultExpiresAttribute},
		{"CreatedAttribute", &c.CreatedAttribute, DefaultCreatedAttribute},
		{"VersionAttribute", &c.VersionAttribute, DefaultVersionAttribute},
		{"LockAttribute", &c.LockAttribute, DefaultLockAttribute},
		{"LockUntilAttribute", &c.LockUntilAttribute, DefaultLockUntilAttribute},
	}
	used := make(map[string]string, len(attributes))
	for _, a := range attributes {
		if *a.value == "" {
			*a.value = a.def
		}
		if len(*a.value) > 255 || !utf8.ValidString(*a.value) {
			return fmt.Errorf("dynamodb: Config.%s must be at most 255 bytes of UTF-8", a.field)
		}
		if other, taken := used[*a.value]; taken {
			return fmt.Errorf("dynamodb: Config.%s and Config.%s are both %q", other, a.field, *a.value)
		}
		used[*a.value] = a.field
	}

	if c.Table == "" {
		c.Table = DefaultTable
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

// TextOnly reports whether the table can only hold the output of codecs that
// make UTF-8 text, as with DataType [String].
func (b *Backend) TextOnly() bool { return b.c.DataType == String }

// maxKey is the limit of the contract; that of DynamoDB is 2048.
const maxKey = 512

// check refuses what must not be sent. Invalid UTF-8 would be replaced on its
// way into JSON, and two keys could become one.
func (b *Backend) check(ctx context.Context, op operation, key string) error {
	if err := b.ended(ctx, op); err != nil {
		return err
	}
	switch {
	case key == "":
		return errors.New("dynamodb: the key is empty")
	case len(key) > maxKey:
		return fmt.Errorf("dynamodb: the key has %d bytes, more than %d", len(key), maxKey)
	case !utf8.ValidString(key):
		return errors.New("dynamodb: the key is not UTF-8")
	}
	return nil
}

func (b *Backend) key(key string) map[string]types.AttributeValue {
	return map[string]types.AttributeValue{b.c.KeyAttribute: &types.AttributeValueMemberS{Value: key}}
}
