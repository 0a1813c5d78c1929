package dynamodb

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/seed-a7bee19b/session"
)

// Client has the methods of [*dynamodb.Client] that a [Backend] needs for
// sessions.
type Client interface {
	GetItem(context.Context, *dynamodb.GetItemInput, ...func(*dynamodb.Options)) (*dynamodb.GetItemOutput, error)
	UpdateItem(context.Context, *dynamodb.UpdateItemInput, ...func(*dynamodb.Options)) (*dynamodb.UpdateItemOutput, error)
	DeleteItem(context.Context, *dynamodb.DeleteItemInput, ...func(*dynamodb.Options)) (*dynamodb.DeleteItemOutput, error)
}

// TableClient has the methods of [*dynamodb.Client] that [Backend.CreateTable]
// and [Backend.CheckTable] need. These two fail with a [Client] that lacks them.
type TableClient interface {
	CreateTable(context.Context, *dynamodb.CreateTableInput, ...func(*dynamodb.Options)) (*dynamodb.CreateTableOutput, error)
	DescribeTable(context.Context, *dynamodb.DescribeTableInput, ...func(*dynamodb.Options)) (*dynamodb.DescribeTableOutput, error)
	UpdateTimeToLive(context.Context, *dynamodb.UpdateTimeToLiveInput, ...func(*dynamodb.Options)) (*dynamodb.UpdateTimeToLiveOutput, error)
	DescribeTimeToLive(context.Context, *dynamodb.DescribeTimeToLiveInput, ...func(*dynamodb.Options)) (*dynamodb.DescribeTimeToLiveOutput, error)
}

// Backend keeps sessions in a DynamoDB table. Its methods may be called by
// several goroutines at once, and leave no goroutine behind. A Backend need not
// be closed. Use [New] or [NewFromClient] to make one.
type Backend struct {
	client Client
	c      Config
	region string // for error texts, "" if not known
	opts   []func(*dynamodb.Options)
	now    func() time.Time

	patience patience
	consumed types.ReturnConsumedCapacity // "" for none
	expr     expressions
	fixed    int // bytes of all attribute names, and of a lock

	sightings sightings // of PHP's locks

	// returnsItems is set once an item has come with a refusal; see stored.
	returnsItems atomic.Bool
}

var _ session.LockingBackend = (*Backend)(nil)

// New returns a Backend for the credentials and the region in cfg, which
// LoadDefaultConfig of the SDK's package config returns. It fails if cfg has no
// credentials, or neither a region nor an endpoint, and if c is not valid. It
// sends no request.
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

// NewFromClient returns a Backend that uses client, usually a
// [*dynamodb.Client]. It fails if client is nil or c is not valid. It sends no
// request. Each call of the Backend tells the client not to retry by itself.
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
		fixed:    lockSize,
	}
	b.expr = b.newExpressions()
	if c.OnRequest != nil {
		b.consumed = types.ReturnConsumedCapacityTotal
	}
	if cl, ok := client.(*dynamodb.Client); ok {
		b.region = cl.Options().Region
	}
	for _, name := range []string{
		c.KeyAttribute, c.DataAttribute, c.ExpiresAttribute, c.CreatedAttribute, c.VersionAttribute,
		c.LockAttribute, c.LockUntilAttribute,
	} {
		b.fixed += len(name)
	}
	if b.Shared() {
		b.fixed += max(0, len(c.PrivateAttribute)-len(c.DataAttribute)) // an item has one of the two
	}
	return b, nil
}

// TextOnly reports whether the table accepts UTF-8 text only, which it does
// with DataType [String].
func (b *Backend) TextOnly() bool { return b.c.DataType == String }

// maxKey is the limit of the contract, in bytes. That of DynamoDB is 2048.
const maxKey = 512

// check refuses a call that must not send anything. The SDK would replace
// invalid UTF-8 in a key, and two keys could become one.
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
