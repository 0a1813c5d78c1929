package dynamodb

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go"

	"github.com/seed-a7bee19b/session"
)

// conditional is a write of an item that has a condition. An attempt sets the
// values :now, :ms and :until to its own time.
type conditional struct {
	key    string
	expr   *expression
	values map[string]types.AttributeValue
	ttl    time.Duration // of the lock that :until ends; 0 if there is no :until
	was    base          // the state that sameState stands for
	dead   *lock         // of PHP's, which is not in the way of freeLock; or nil
}

// refusal is the answer of DynamoDB that a condition does not hold.
type refusal struct {
	item   map[string]types.AttributeValue // see stored
	at     time.Time                       // of the attempt, by the clock of this machine
	unsure error                           // of an earlier attempt that may have been applied, or nil
}

// update changes the item. It returns the attributes that the expression asks
// for, or a refusal if the condition does not hold.
func (b *Backend) update(ctx context.Context, w conditional) (map[string]types.AttributeValue, *refusal, error) {
	w = b.resolve(w)
	in := &dynamodb.UpdateItemInput{
		TableName:                 &b.c.Table,
		Key:                       b.key(w.key),
		UpdateExpression:          &w.expr.text,
		ConditionExpression:       &w.expr.condition,
		ExpressionAttributeNames:  w.expr.names,
		ExpressionAttributeValues: w.values,
		ReturnValues:              w.expr.returns,
		ReturnConsumedCapacity:    b.consumed,

		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	}
	var out *dynamodb.UpdateItemOutput
	refused, err := b.send(ctx, opUpdateItem, w, func(ctx context.Context) (_ *types.ConsumedCapacity, err error) {
		if out, err = b.client.UpdateItem(ctx, in, b.opts...); err != nil {
			return nil, err
		}
		if w.expr.returns != "" && out.Attributes == nil {
			return nil, &smithy.DeserializationError{Err: errImpostor}
		}
		return out.ConsumedCapacity, nil
	})
	switch {
	case itemTooLarge(err):
		return nil, nil, fmt.Errorf("dynamodb: the item, with attributes that others added to it, is larger than DynamoDB allows: %w: %w",
			session.ErrTooLarge, err)
	case err != nil || refused != nil:
		return nil, refused, err
	}
	return out.Attributes, nil, nil
}

// remove deletes the item, or returns a refusal if the condition does not
// hold. It sends only the values that the condition uses.
func (b *Backend) remove(ctx context.Context, w conditional) (*refusal, error) {
	w.values = maps.Clone(w.values)
	w = b.resolve(w)
	maps.DeleteFunc(w.values, func(name string, _ types.AttributeValue) bool { return !strings.Contains(w.expr.condition, name) })
	in := &dynamodb.DeleteItemInput{
		TableName:                 &b.c.Table,
		Key:                       b.key(w.key),
		ConditionExpression:       &w.expr.condition,
		ExpressionAttributeNames:  w.expr.names,
		ExpressionAttributeValues: w.values,
		ReturnConsumedCapacity:    b.consumed,

		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	}
	return b.send(ctx, opDeleteItem, w, func(ctx context.Context) (*types.ConsumedCapacity, error) {
		out, err := b.client.DeleteItem(ctx, in, b.opts...)
		if err != nil {
			return nil, err
		}
		return out.ConsumedCapacity, nil
	})
}

// send sends w by do, and sets the times in its values before each attempt.
func (b *Backend) send(ctx context.Context, op operation, w conditional, do sender) (*refusal, error) {
	var now time.Time
	millis := strings.Contains(w.expr.condition, ":ms") // DynamoDB refuses values that are not used
	p := b.patience
	p.once = w.expr.once
	unsure, err := b.callWith(ctx, op, p, func(ctx context.Context) (*types.ConsumedCapacity, error) {
		now = b.now()
		w.values[":now"] = number(now.Unix())
		if millis {
			w.values[":ms"] = number(now.UnixMilli())
		}
		if w.ttl > 0 {
			w.values[":until"] = number(milliseconds(now.Add(w.ttl)))
		}
		return do(ctx)
	})
	var failed *types.ConditionalCheckFailedException
	if errors.As(err, &failed) {
		return &refusal{item: failed.Item, at: now, unsure: unsure}, nil
	}
	return nil, err
}

// stored returns the record that refused a write.
//
// DynamoDB sends the item with the refusal, and none if there is none. Some
// engines with the same API never send it. Until the first item has come, a
// refusal without one is followed by a GetItem that tells the two apart.
func (b *Backend) stored(ctx context.Context, key string, refused *refusal) (s stored) {
	switch {
	case refused.item != nil:
		b.returnsItems.Store(true)
		s.rec, s.lock, s.err = b.decode(key, refused.item, refused.at)
	case b.returnsItems.Load():
		s.err = session.ErrNotFound
	default:
		s.rec, s.lock, s.err = b.get(ctx, key, true)
	}
	return s
}

// bury removes a record that has expired, before a caller is told so: a request
// that was sent before the deadline, and is still in flight, would find the
// record and be applied. The error says why the record was not removed.
func (b *Backend) bury(ctx context.Context, key string, rec session.Record) (removal, error) {
	_, was := b.was(rec.Version)
	refused, err := b.remove(ctx, conditional{key: key, expr: &b.expr.overdue, was: was, values: map[string]types.AttributeValue{
		":old": &types.AttributeValueMemberB{Value: []byte(was.history)},
	}})
	switch {
	case err != nil:
		return removalFailed, err
	case refused == nil:
		return removalDone, nil
	}
	found := b.stored(ctx, key, refused)
	switch r := removalOf(found.row()); r {
	case removalGone:
		return r, nil
	case removalChanged:
		return r, errChanged
	default:
		return r, found.err
	}
}

// errChanged is always wrapped before it leaves this package.
var errChanged = errors.New("the record was changed or renewed at the last moment")

// verdictError returns the error of a call that ends with v.
func (b *Backend) verdictError(op operation, v verdict, refused *refusal, found stored) error {
	switch v {
	case verdictGone:
		return &session.ConflictError{Gone: true}
	case verdictConflict:
		return &session.ConflictError{Current: &found.rec}
	case verdictUnseen:
		return &session.ConflictError{}
	case verdictLocked:
		return &session.LockedError{Until: found.lock.end()}
	case verdictWasLocked:
		return &session.LockedError{}
	case verdictNotFound:
		return session.ErrNotFound
	case verdictUnknown:
		return b.unknown(op, refused.unsure, found.err)
	}
	return found.err
}

// unknown is the error of a write that may have been applied. unsure is the error
// of that attempt, and why says why the stored item does not tell. The error does
// not match a sentinel, even if why does.
func (b *Backend) unknown(op operation, unsure, why error) error {
	if errors.Is(why, session.ErrDecode) {
		why = errors.New(why.Error())
	}
	return fmt.Errorf("dynamodb: %s on table %q: it is not known whether it was applied: "+
		"a response was lost, and the stored item does not tell: %w: %w", op, b.c.Table, unsure, why)
}
