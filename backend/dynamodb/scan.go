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

// ScanClient has the call of [*dynamodb.Client] that [Backend.Sweep] and
// [Backend.List] need besides. A [Client] without it serves sessions only.
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

// job is what the requests of a Sweep or a List have in common: a number of
// them at once, budgets, and more patience than a visitor's request has.
type job struct {
	b      *Backend
	client ScanClient
	ctx    context.Context // of the caller
	stop   context.Context // done when no request is to begin any more
	cancel context.CancelFunc
	slots  chan struct{} // holds one for each request under way
	reads  *budget
	writes *budget
	item   average // read units
	write  average // write units of a deletion
	page   float64 // read units that a page should have; 0 if it does not matter

	mu         sync.Mutex
	err        error // what ended the job
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
		// Small against the budget, but not so small that rounding up to half
		// a unit for each page would be most of the price.
		const largest = 1 << 20 / 4096 / 2 // a page has 1 MB
		j.page = min(largest, max(readUnits/10, min(readUnits, 2)))
	}
	return j
}

// fail ends the job with err, unless it is ending already. Requests under way
// are not cut off, so that what they do is counted.
func (j *job) fail(err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.err == nil && j.stop.Err() == nil {
		j.err = err
	}
	j.cancel()
}

// ended reports whether nothing is to begin any more. stop learns of the end of
// ctx a moment after those who wait for ctx itself.
func (j *job) ended() bool { return j.stop.Err() != nil || j.ctx.Err() != nil }

// close returns what the job fails with, when all of its goroutines are done.
// One that is complete does not fail because ctx ended a moment ago.
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

// The least patience of a job: it can wait longer than a visitor, and a page
// is more work than a session.
const (
	jobAttempts   = 10
	jobTimeout    = 10 * time.Second
	jobMaxBackoff = 5 * time.Second
)

// call sends a request when the budget and the number of those under way
// allow it. It fails with j.stop's error, and nothing else, if the job ended
// before that.
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

// costOfFailure is what a failed request is taken to have cost: no answer says.
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

// scan reads a page. It sets Limit, so that the page suits the budget; most is
// what the caller has for it, 0 for no limit.
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

// next is where the page after out begins: the key of its last item, "" if it
// was the last page.
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

// startAt is where a page begins that comes after an item with key after.
func (b *Backend) startAt(after string) map[string]types.AttributeValue {
	if after == "" {
		return nil
	}
	return b.key(after)
}

// itemSize is what DynamoDB counts for an item, names included.
func itemSize(it map[string]types.AttributeValue) (size int) {
	for name, v := range it {
		size += len(name) + valueSize(v)
	}
	return size
}

func valueSize(v types.AttributeValue) int {
	size := 0
	switch v := v.(type) {
	case *types.AttributeValueMemberS:
		return len(v.Value)
	case *types.AttributeValueMemberB:
		return len(v.Value)
	case *types.AttributeValueMemberN:
		return digitsSize(v.Value)
	case *types.AttributeValueMemberSS:
		for _, s := range v.Value {
			size += len(s)
		}
	case *types.AttributeValueMemberBS:
		for _, b := range v.Value {
			size += len(b)
		}
	case *types.AttributeValueMemberNS:
		for _, n := range v.Value {
			size += digitsSize(n)
		}
	case *types.AttributeValueMemberL:
		size = 3
		for _, e := range v.Value {
			size += 1 + valueSize(e)
		}
	case *types.AttributeValueMemberM:
		size = 3
		for name, e := range v.Value {
			size += 1 + len(name) + valueSize(e)
		}
	default: // BOOL, NULL
		size = 1
	}
	return size
}
