package dynamodb

import (
	"context"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

// Touch moves Expires forward, rounded up to the second. It does not send the
// data, and does not change the version. It does nothing if the stored Expires
// is not earlier. It fails with [session.ErrNotFound] if there is no record or
// it has expired.
//
// It sends one UpdateItem, which costs 1 WCU per KB of the whole item, rounded
// up. A Touch that finds an expired record removes it with a DeleteItem.
func (b *Backend) Touch(ctx context.Context, key string, expires time.Time) error {
	if err := b.check(ctx, opUpdateItem, key); err != nil {
		return err
	}
	until, err := untilOf(expires)
	if err != nil {
		return err
	}
	w := conditional{key: key, expr: &b.expr.touch, values: map[string]types.AttributeValue{":e": number(until)}}
	for range b.c.MaxAttempts {
		_, refused, err := b.update(ctx, w)
		if err != nil || refused == nil {
			return err
		}
		found := b.stored(ctx, key, refused)
		v := refusedTouch{
			row:     found.row(),
			expired: found.expired(refused.at),
			late:    found.rec.Expires.Unix() >= until,
		}.verdict()
		if v == verdictExpired {
			var r removal
			r, found.err = b.bury(ctx, key, found.rec)
			v = r.ofLook()
		}
		switch v {
		case verdictSuccess:
			return nil
		case verdictAgain:
		default:
			return b.verdictError(opUpdateItem, v, refused, found)
		}
	}
	return fmt.Errorf("dynamodb: %s on table %q: refused %d times, and the record changed each time before it could be read",
		opUpdateItem, b.c.Table, b.c.MaxAttempts)
}
