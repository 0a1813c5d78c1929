package dynamodb

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

// Delete removes the record at key and its lock, whatever its version. It
// succeeds if there is no record.
//
// It sends one DeleteItem, which costs 1 WCU per KB of the item, rounded up, and
// at least 1.
func (b *Backend) Delete(ctx context.Context, key string) error {
	if err := b.check(ctx, opDeleteItem, key); err != nil {
		return err
	}
	b.sightings.forget(key)
	in := &dynamodb.DeleteItemInput{TableName: &b.c.Table, Key: b.key(key), ReturnConsumedCapacity: b.consumed}
	_, err := b.call(ctx, opDeleteItem, func(ctx context.Context) (*types.ConsumedCapacity, error) {
		out, err := b.client.DeleteItem(ctx, in, b.opts...)
		if err != nil {
			return nil, err
		}
		return out.ConsumedCapacity, nil
	})
	return err
}
