package dynamodb

import (
	"context"
	"errors"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/seed-a7bee19b/session"
)

// Load returns the record at key. It also returns one that has expired, until
// that is removed. LockedUntil is set while a lock is live by the clock of this
// machine. Load fails with [session.ErrNotFound] if there is no record, and
// with [session.ErrDecode] if the item was not written by this package.
//
// It sends one GetItem, which costs 1 RCU per 4 KB of the item, rounded up, and
// half of that with EventuallyConsistentReads. With those, a read that finds no
// record, or an expired one, is followed by a consistent read.
func (b *Backend) Load(ctx context.Context, key string) (session.Record, error) {
	if b.c.EventuallyConsistentReads {
		rec, _, err := b.get(ctx, key, false)
		if !errors.Is(err, session.ErrNotFound) && (err != nil || !rec.Expired(b.now())) {
			return rec, err
		}
		// The record may have been created or renewed a moment ago.
	}
	rec, _, err := b.get(ctx, key, true)
	return rec, err
}

func (b *Backend) get(ctx context.Context, key string, consistent bool) (session.Record, lock, error) {
	if err := b.check(ctx, opGetItem, key); err != nil {
		return session.Record{}, lock{}, err
	}
	in := &dynamodb.GetItemInput{
		TableName:                &b.c.Table,
		Key:                      b.key(key),
		ConsistentRead:           &consistent,
		ProjectionExpression:     &b.expr.load.text,
		ExpressionAttributeNames: b.expr.load.names,
		ReturnConsumedCapacity:   b.consumed,
	}
	var out *dynamodb.GetItemOutput
	_, err := b.call(ctx, opGetItem, func(ctx context.Context) (_ *types.ConsumedCapacity, err error) {
		if out, err = b.client.GetItem(ctx, in, b.opts...); err != nil {
			return nil, err
		}
		return out.ConsumedCapacity, nil
	})
	if err != nil {
		return session.Record{}, lock{}, err
	}
	// An item that has none of the attributes comes as an empty map, not as nil.
	if out.Item == nil {
		return session.Record{}, lock{}, session.ErrNotFound
	}
	return b.decode(key, out.Item, b.now())
}
