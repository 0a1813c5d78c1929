package dynamodb

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go"

	"github.com/seed-a7bee19b/session"
)

// Load returns the record at key; one that has expired too, until TTL has
// removed it. It fails with [session.ErrNotFound] if there is none, and with
// [session.ErrDecode] if the item was not written by this package. LockedUntil
// is set while a lock is live by the clock of this machine.
//
// It is one GetItem: 1 RCU per 4 KB of the item, rounded up, half of that with
// EventuallyConsistentReads. These find no record, or one that has expired,
// only where a consistent read says the same: then it is two.
func (b *Backend) Load(ctx context.Context, key string) (session.Record, error) {
	if b.c.EventuallyConsistentReads {
		rec, _, err := b.get(ctx, key, false)
		if !errors.Is(err, session.ErrNotFound) && (err != nil || !rec.Expired(b.now())) {
			return rec, err
		}
		// It may have been created or renewed a moment ago.
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
		ProjectionExpression:     &b.load.text,
		ExpressionAttributeNames: b.load.names,
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
	// An item that has none of our attributes comes as an empty map.
	if out.Item == nil {
		return session.Record{}, lock{}, session.ErrNotFound
	}
	return b.decode(out.Item, b.now())
}

// Save stores rec and returns its new version. With a zero rec.Version it
// creates, otherwise it replaces the state that the version names, and fails
// with a [*session.ConflictError] if that is not what is stored. The error has
// the current record. An item larger than [Config].MaxItemSize is refused with
// [session.ErrTooLarge], and data that is not UTF-8 with [session.ErrEncode]
// where DataType is String; neither is sent. Expires is rounded up to the
// second, unless it has passed, and Created down to the millisecond; both must
// lie in the years 1 to 9999.
//
// While a lock is live, only the holder's version writes, and others fail with
// a [*session.LockedError], also those that create or have read an older
// state. Every Save ends the lock.
//
// An error that is none of these leaves open whether the record was stored if
// a response was lost; its text says so. A Save that creates is not sent again
// then: the record could have been deleted in between.
//
// It is one UpdateItem: 1 WCU per KB of the larger of the old and the new
// item, rounded up, whether it succeeds or conflicts. It is two where KeepLater
// finds a later Expires. One that replaces a record by one whose Expires has
// passed is a DeleteItem, and one that finds an expired record removes it with
// another.
func (b *Backend) Save(ctx context.Context, key string, rec session.Record) (session.Version, error) {
	if err := b.check(ctx, opUpdateItem, key); err != nil {
		return "", err
	}
	held, old := split(rec.Version)
	token := newToken()
	next := old.push(token)
	expires, created, err := b.fits(key, rec, next)
	if err != nil {
		return "", err
	}

	values := map[string]types.AttributeValue{
		":d": b.data(rec.Data),
		":e": number(expires),
		":c": number(created),
		":v": &types.AttributeValueMemberB{Value: []byte(next)},
	}
	expr, end := &b.create, &b.end
	if old != "" {
		expr = &b.replace
		values[":old"] = &types.AttributeValueMemberB{Value: []byte(old)}
	}
	if held.id != "" {
		expr, end = &b.unlock, &b.endHeld
		maps.Copy(values, mine(held.id))
	}
	ends := old != "" && !rec.Expires.After(b.now())
	keeps := old != "" && rec.KeepLater
	for {
		var refused *refusal
		if ends {
			refused, err = b.remove(ctx, key, end.unlessLater(keeps), values)
		} else {
			_, refused, err = b.update(ctx, key, expr.unlessLater(keeps), values, 0)
		}
		switch {
		case err != nil:
			return "", err
		case refused == nil:
			return session.Version(next), nil
		}
		unsure := refused.unsure
		current, l, err := b.stored(ctx, key, refused)
		found := history(current.Version)
		free := !l.live(refused.at)
		if held.id != "" {
			free = l.id == held.id
		}
		switch {
		case err == nil && found.index(token) >= 0:
			// An attempt whose response was lost was applied. If others have
			// written since, the next Save with this version conflicts.
			return session.Version(next), nil
		case old == "" && err != nil:
			// What stood in the way of a create may be gone already.
			return "", &session.ConflictError{}
		case errors.Is(err, session.ErrNotFound) && ends && unsure != nil:
			return session.Version(next), nil //nolint:nilerr // it has ended, by whomever
		case errors.Is(err, session.ErrNotFound):
			return "", &session.ConflictError{Gone: true}
		case unsure != nil && err != nil:
			return "", b.unknown(unsure, err)
		case err != nil:
			return "", &session.ConflictError{}
		case old != "" && !ends && refused.expired(current):
			err := b.bury(ctx, key, current)
			switch {
			case err == nil:
				return "", &session.ConflictError{Gone: true}
			case unsure != nil:
				return "", b.unknown(unsure, err)
			case errors.Is(err, errChanged):
				return "", &session.ConflictError{}
			}
			return "", err
		case unsure != nil && found.index(old.newest()) < 0 && found.full():
			return "", fmt.Errorf("dynamodb: %s on table %q: it is not known whether it was applied: "+
				"a response was lost, and there were %d or more other writes since: %w", opUpdateItem, b.c.Table, tokens, unsure)
		case found == old && free && keeps && current.Expires.Unix() > expires:
			// No request can say "the later of the two", so this is another
			// one, which leaves Expires as it is. No attempt of the first will
			// be applied any more: under one version Expires only goes forward.
			ends, keeps = false, false
			expr = expr.keepingExpires()
			delete(values, ":e")
			continue
		case held.id != "" || found != old && free:
			// Nothing was applied, nor will be: if an attempt may have been,
			// then every write since the old version, or since the item was
			// created anew, is in the history, and ours is not.
			return "", conflict(current, nil)
		case found == old && unsure != nil:
			// That attempt may be under way still, and find the record free.
			return "", b.unknown(unsure, errors.New("the record is as it was, and locked"))
		case free:
			// Without ALL_OLD: it was locked when it refused, and that was not
			// to be read any more.
			return "", &session.LockedError{}
		}
		return "", &session.LockedError{Until: l.end()}
	}
}

// unlessLater adds to the condition, if later is set, that the stored Expires
// is not later than :e.
func (e *expression) unlessLater(later bool) *expression {
	if !later {
		return e
	}
	with := *e
	with.condition += " AND #e <= :e"
	return &with
}

// keepingExpires is e without setting Expires.
func (e *expression) keepingExpires() *expression {
	with := *e
	with.text = strings.Replace(e.text, "#e = :e, ", "", 1)
	return &with
}

// unknown is the error of a write after which nothing tells what became of an
// attempt whose response was lost. It is no sentinel, whatever err is.
func (b *Backend) unknown(unsure, err error) error {
	if errors.Is(err, session.ErrDecode) {
		err = errors.New(err.Error())
	}
	return fmt.Errorf("dynamodb: %s on table %q: it is not known whether it was applied: "+
		"a response was lost, and what is stored does not tell: %w: %w", opUpdateItem, b.c.Table, unsure, err)
}

// fits refuses what the table cannot hold, and returns the times to store.
func (b *Backend) fits(key string, rec session.Record, version history) (expires, created int64, err error) {
	expires, created = seconds(rec.Expires), rec.Created.UnixMilli()
	if !rec.Expires.After(b.now()) {
		expires = rec.Expires.Unix() // rounding up must not give it another second
	}
	switch {
	case rec.Expires.IsZero():
		return 0, 0, errors.New("dynamodb: the record has no Expires")
	case expires < minSeconds || expires > maxSeconds:
		return 0, 0, errors.New("dynamodb: Expires is not in the years 1 to 9999")
	case rec.Created.Year() < 1 || rec.Created.Year() > 9999:
		return 0, 0, errors.New("dynamodb: Created is not in the years 1 to 9999")
	}
	size := b.fixed + len(key) + len(rec.Data) + numberSize(expires) + numberSize(created) + len(version)
	if size > b.c.MaxItemSize {
		return 0, 0, fmt.Errorf("dynamodb: the item would have %d bytes, and %d are allowed: %w",
			size, b.c.MaxItemSize, session.ErrTooLarge)
	}
	if b.c.DataType == String && !utf8.Valid(rec.Data) {
		return 0, 0, fmt.Errorf("dynamodb: the data is not UTF-8 text, as DataType String needs: %w", session.ErrEncode)
	}
	return expires, created, nil
}

func (b *Backend) data(data []byte) types.AttributeValue {
	switch {
	case b.c.DataType == String:
		return &types.AttributeValueMemberS{Value: string(data)}
	case data == nil:
		data = []byte{}
	}
	return &types.AttributeValueMemberB{Value: data}
}

// Touch moves Expires forward, rounded up to the second, without sending the
// data or changing the version. It does nothing if the stored Expires is as
// late already, and fails with [session.ErrNotFound] if there is no record or
// it has expired.
//
// It is one UpdateItem: 1 WCU per KB of the whole item, rounded up. One that
// finds an expired record removes it with a DeleteItem.
func (b *Backend) Touch(ctx context.Context, key string, expires time.Time) error {
	if err := b.check(ctx, opUpdateItem, key); err != nil {
		return err
	}
	until := seconds(expires)
	if until > maxSeconds {
		return errors.New("dynamodb: Expires is not in the years 1 to 9999")
	}
	values := map[string]types.AttributeValue{":e": number(until)}
	for range b.c.MaxAttempts {
		_, refused, err := b.update(ctx, key, &b.touch, values, 0)
		if err != nil || refused == nil {
			return err
		}
		current, _, err := b.stored(ctx, key, refused)
		switch {
		case err != nil:
			return err
		case refused.expired(current):
			if err := b.bury(ctx, key, current); err == nil {
				return session.ErrNotFound
			} else if !errors.Is(err, errChanged) {
				return err
			}
		case current.Expires.Unix() >= until:
			// It was as late already, or a first attempt whose response was
			// lost has moved it.
			return nil
		}
		// Without ALL_OLD: what the read found is not what refused the Touch.
	}
	return b.raced()
}

// raced is the error of a call that lost too many races with its own reads.
func (b *Backend) raced() error {
	return fmt.Errorf("dynamodb: %s on table %q: refused %d times, and the record changed each time before it could be read",
		opUpdateItem, b.c.Table, b.c.MaxAttempts)
}

// Delete removes the record at key, whatever its version, and with it its
// lock. It is not an error if there is none.
//
// It is one DeleteItem: 1 WCU per KB of the item, rounded up, at least 1.
func (b *Backend) Delete(ctx context.Context, key string) error {
	if err := b.check(ctx, opDeleteItem, key); err != nil {
		return err
	}
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

// refusal is what a failed condition tells.
type refusal struct {
	item   map[string]types.AttributeValue // what is stored; see stored
	at     time.Time                       // when it was judged, by the clock of this machine
	unsure error                           // of an earlier attempt that may have been applied
}

// expired reports whether the condition took rec for expired.
func (r *refusal) expired(rec session.Record) bool { return rec.Expires.Unix() <= r.at.Unix() }

// update sends expr, with what ttl makes of the time of each attempt as
// :until. It returns what expr asks for, or a refusal if the condition failed.
func (b *Backend) update(
	ctx context.Context, key string, expr *expression, values map[string]types.AttributeValue, ttl time.Duration,
) (map[string]types.AttributeValue, *refusal, error) {
	in := &dynamodb.UpdateItemInput{
		TableName:                 &b.c.Table,
		Key:                       b.key(key),
		UpdateExpression:          &expr.text,
		ConditionExpression:       &expr.condition,
		ExpressionAttributeNames:  expr.names,
		ExpressionAttributeValues: values,
		ReturnValues:              expr.returns,
		ReturnConsumedCapacity:    b.consumed,

		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	}
	var out *dynamodb.UpdateItemOutput
	refused, err := b.conditional(ctx, opUpdateItem, expr, values, func(ctx context.Context, now time.Time) (_ *types.ConsumedCapacity, err error) {
		if ttl > 0 {
			values[":until"] = number(milliseconds(now.Add(ttl)))
		}
		if out, err = b.client.UpdateItem(ctx, in, b.opts...); err != nil {
			return nil, err
		}
		if expr.returns != "" && out.Attributes == nil {
			return nil, &smithy.DeserializationError{Err: errImpostor}
		}
		return out.ConsumedCapacity, nil
	})
	switch {
	case itemTooLarge(err):
		return nil, nil, fmt.Errorf("dynamodb: the item, with attributes that others have added to it, is larger than DynamoDB allows: %w: %w",
			session.ErrTooLarge, err)
	case err != nil || refused != nil:
		return nil, refused, err
	}
	return out.Attributes, nil, nil
}

// remove deletes the item if the condition of expr holds, and returns a refusal
// otherwise. It takes from values what the condition needs.
func (b *Backend) remove(ctx context.Context, key string, expr *expression, values map[string]types.AttributeValue) (*refusal, error) {
	values = maps.Clone(values)
	maps.DeleteFunc(values, func(name string, _ types.AttributeValue) bool { return !strings.Contains(expr.condition, name) })
	in := &dynamodb.DeleteItemInput{
		TableName:                 &b.c.Table,
		Key:                       b.key(key),
		ConditionExpression:       &expr.condition,
		ExpressionAttributeNames:  expr.names,
		ExpressionAttributeValues: values,
		ReturnConsumedCapacity:    b.consumed,

		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	}
	return b.conditional(ctx, opDeleteItem, expr, values, func(ctx context.Context, _ time.Time) (*types.ConsumedCapacity, error) {
		out, err := b.client.DeleteItem(ctx, in, b.opts...)
		if err != nil {
			return nil, err
		}
		return out.ConsumedCapacity, nil
	})
}

// conditional makes a request on the condition of expr, with the time of each
// attempt as :now and :ms.
func (b *Backend) conditional(
	ctx context.Context, op operation, expr *expression, values map[string]types.AttributeValue,
	send func(context.Context, time.Time) (*types.ConsumedCapacity, error),
) (*refusal, error) {
	var now time.Time
	millis := strings.Contains(expr.condition, ":ms") // an unused value is an error
	p := b.patience
	p.once = expr.once
	unsure, err := b.callWith(ctx, op, p, func(ctx context.Context) (*types.ConsumedCapacity, error) {
		now = b.now()
		values[":now"] = number(now.Unix())
		if millis {
			values[":ms"] = number(now.UnixMilli())
		}
		return send(ctx, now)
	})
	var failed *types.ConditionalCheckFailedException
	if errors.As(err, &failed) {
		return &refusal{item: failed.Item, at: now, unsure: unsure}, nil
	}
	return nil, err
}

// bury removes a record that has expired, before anybody is told so: a request
// that was sent before the deadline, and is still under way, would find it and
// go on. It fails with errChanged if it is not as rec any more.
func (b *Backend) bury(ctx context.Context, key string, rec session.Record) error {
	refused, err := b.remove(ctx, key, &b.overdue, map[string]types.AttributeValue{
		":old": &types.AttributeValueMemberB{Value: []byte(rec.Version)},
	})
	if err != nil || refused == nil {
		return err
	}
	_, _, err = b.stored(ctx, key, refused)
	switch {
	case errors.Is(err, session.ErrNotFound):
		return nil
	case err != nil:
		return err
	}
	return errChanged
}

// errChanged never leaves this package alone.
var errChanged = errors.New("the record was changed or renewed at the last moment")

// stored decodes the item that came with a failed condition.
//
// From DynamoDB no item means that there is none. Some look-alikes never send
// it; with them a read has to tell. Which of the two this is shows with the
// first item that comes: until then a refusal without one costs a GetItem.
func (b *Backend) stored(ctx context.Context, key string, refused *refusal) (session.Record, lock, error) {
	if refused.item != nil {
		b.returnsItems.Store(true)
		return b.decode(refused.item, refused.at)
	}
	if b.returnsItems.Load() {
		return session.Record{}, lock{}, session.ErrNotFound
	}
	return b.get(ctx, key, true)
}
