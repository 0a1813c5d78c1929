package dynamodb

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

// ScanClient has the method of [*dynamodb.Client] that [Backend.Sweep] and
// [Backend.List] need. These two fail with a [Client] that lacks it.
type ScanClient interface {
	Scan(context.Context, *dynamodb.ScanInput, ...func(*dynamodb.Options)) (*dynamodb.ScanOutput, error)
}

func (b *Backend) scanClient() (ScanClient, error) {
	client, ok := b.client.(ScanClient)
	if !ok {
		return nil, fmt.Errorf("dynamodb: the client, a %T, cannot read a whole table: it lacks the method of ScanClient: %w",
			b.client, errors.ErrUnsupported)
	}
	return client, nil
}

// job sends the requests of a Sweep or a List. It limits the number of requests
// at once, keeps the budgets, and retries longer than a call for a visitor does.
type job struct {
	b      *Backend
	client ScanClient
	ctx    context.Context // of the caller
	stop   context.Context // done once no other request must begin
	cancel context.CancelFunc
	slots  chan struct{} // holds one for each request in flight
	reads  *budget
	writes *budget
	item   average // read units
	write  average // write units of a deletion
	page   float64 // read units that a page should cost; 0 for any

	mu         sync.Mutex
	err        error // that ended the job
	retried    int64
	readUnits  float64
	writeUnits float64
}

func (b *Backend) newJob(ctx context.Context, client ScanClient, workers int, readUnits, writeUnits float64) *job {
	j := &job{
		b: b, client: client, ctx: ctx, slots: make(chan struct{}, workers),
		reads: newBudget(readUnits), writes: newBudget(writeUnits),
	}
	j.stop, j.cancel = context.WithCancel(ctx)
	if j.reads != nil {
		// Small compared with the budget, but not so small that rounding up to
		// half a unit for each page would be most of the cost.
		const largest = 1 << 20 / 4096 / 2 // a page has at most 1 MB
		j.page = min(largest, max(readUnits/10, min(readUnits, 2)))
	}
	return j
}

// fail ends the job with err, unless it is ending already. It does not cancel
// the requests in flight, so that their effects are counted.
func (j *job) fail(err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.err == nil && j.stop.Err() == nil {
		j.err = err
	}
	j.cancel()
}

// ended reports whether no other request must begin. It looks at ctx too, because
// stop is done a moment after ctx.
func (j *job) ended() bool { return j.stop.Err() != nil || j.ctx.Err() != nil }

// close returns the error of the job after all of its goroutines have ended. A
// job that is complete does not fail because ctx ended a moment ago.
func (j *job) close(what string, complete bool) error {
	defer j.cancel()
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.err != nil {
		return j.err
	}
	if err := contextError(j.ctx); err != nil && !complete {
		return fmt.Errorf("dynamodb: the %s of table %q did not come to its end: %w", what, j.b.c.Table, err)
	}
	return nil
}

// The least patience of a job. It can wait longer than a visitor, and a page is
// more work than a session.
const (
	jobAttempts   = 10
	jobTimeout    = 10 * time.Second
	jobMaxBackoff = 5 * time.Second
)

// call sends a request as soon as the budget and the number of requests in
// flight allow it. If the job ends before that, it fails with the error of
// j.stop.
func (j *job) call(op operation, estimate func() float64, send sender) (unsure, err error) {
	budget, units := j.reads, &j.readUnits
	if op.writes() {
		budget, units = j.writes, &j.writeUnits
	}
	attempts, reserved := 0, 0.0
	p := j.b.patience
	p.attempts, p.timeout, p.most = max(p.attempts, jobAttempts), max(p.timeout, jobTimeout), max(p.most, jobMaxBackoff)
	p.before = func() (err error) {
		if reserved, err = budget.reserve(j.stop, estimate); err != nil {
			return err
		}
		select {
		case j.slots <- struct{}{}:
		case <-j.stop.Done():
			budget.settle(reserved, 0)
			return j.stop.Err()
		}
		if attempts++; attempts > 1 {
			j.mu.Lock()
			j.retried++
			j.mu.Unlock()
		}
		return nil
	}
	return j.b.callWith(j.ctx, op, p, func(ctx context.Context) (*types.ConsumedCapacity, error) {
		consumed, err := send(ctx)
		<-j.slots
		if err != nil {
			budget.settle(reserved, costOfFailure(err, reserved))
			return nil, err
		}
		cost, known := unitsOf(consumed)
		if !known && budget != nil {
			j.fail(fmt.Errorf("dynamodb: %s on table %q: the answer has no ConsumedCapacity, so a budget cannot be kept", op, j.b.c.Table))
		}
		budget.settle(reserved, cost)
		j.mu.Lock()
		*units += cost
		j.mu.Unlock()
		return consumed, nil
	})
}

// costOfFailure estimates the cost of a failed request, which no answer tells.
func costOfFailure(err error, reserved float64) float64 {
	var failed *types.ConditionalCheckFailedException
	if errors.As(err, &failed) {
		return float64(max(1, (itemSize(failed.Item)+1023)>>10))
	}
	if _, applied := classify(err); !applied {
		return 0
	}
	return reserved
}

// scan reads a page. It sets Limit so that the page suits the budget. most is
// the largest Limit for the caller, 0 for any.
func (j *job) scan(in *dynamodb.ScanInput, most int) (out *dynamodb.ScanOutput, err error) {
	in.Limit = nil
	if most > 0 {
		in.Limit = aws.Int32(int32(most)) // at most 1e6
	}
	estimate := func() float64 {
		n := 1.0
		each, known := j.item.get(0.5)
		if known {
			n = max(1, min(j.page/each, 1e6))
		}
		if most > 0 {
			n = min(n, float64(most))
		}
		in.Limit = aws.Int32(int32(n)) // at most 1e6
		return math.Floor(n) * each
	}
	in.TableName, in.ReturnConsumedCapacity = &j.b.c.Table, types.ReturnConsumedCapacityTotal
	_, err = j.call(opScan, estimate, func(ctx context.Context) (_ *types.ConsumedCapacity, err error) {
		if out, err = j.client.Scan(ctx, in, j.b.opts...); err != nil {
			return nil, err
		}
		return out.ConsumedCapacity, nil
	})
	if err != nil {
		return nil, err
	}
	if cost, known := unitsOf(out.ConsumedCapacity); known {
		j.item.add(cost, int(out.ScannedCount))
	}
	return out, nil
}

// next returns the key of the last item in out, after which the next page begins,
// or "" if out was the last page.
func (b *Backend) next(out *dynamodb.ScanOutput) (string, error) {
	if len(out.LastEvaluatedKey) == 0 {
		return "", nil
	}
	k, ok := out.LastEvaluatedKey[b.c.KeyAttribute].(*types.AttributeValueMemberS)
	if !ok || k.Value == "" || len(out.LastEvaluatedKey) > 1 {
		return "", fmt.Errorf("dynamodb: %s on table %q: the key of the table is not %q of type S: CheckTable tells",
			opScan, b.c.Table, b.c.KeyAttribute)
	}
	return k.Value, nil
}

// startAt returns the ExclusiveStartKey of the page after the item with key
// after, or of the first page if that is "".
func (b *Backend) startAt(after string) map[string]types.AttributeValue {
	if after == "" {
		return nil
	}
	return b.key(after)
}
