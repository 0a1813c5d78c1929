package dynamodb

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/seed-a7bee19b/session/observe"
)

// operation is the name of a request in the API and in IAM.
type operation string

const (
	opGetItem            operation = "GetItem"
	opUpdateItem         operation = "UpdateItem"
	opDeleteItem         operation = "DeleteItem"
	opScan               operation = "Scan"
	opCreateTable        operation = "CreateTable"
	opDescribeTable      operation = "DescribeTable"
	opUpdateTimeToLive   operation = "UpdateTimeToLive"
	opDescribeTimeToLive operation = "DescribeTimeToLive"
)

func (op operation) writes() bool {
	return op != opGetItem && op != opScan && op != opDescribeTable && op != opDescribeTimeToLive
}

// sender sends a request once. It returns the consumed capacity, if the request
// asked for it.
type sender func(context.Context) (*types.ConsumedCapacity, error)

// patience configures the attempts of a call.
type patience struct {
	attempts   int
	timeout    time.Duration // of an attempt
	base, most time.Duration // of the back-off
	// before, if not nil, is called before each attempt, outside of its
	// timeout. Its error ends the call.
	before func() error
	// once is set if the request must not be sent again after an attempt that
	// may have been applied.
	once bool
}

// call sends a request until it is answered, no attempts are left or ctx ends.
//
// unsure is the error of an earlier attempt that may have been applied, or nil
// if there was none. call returns the error of a failed condition as it is. The
// caller must not pass it on, because it contains the item.
func (b *Backend) call(ctx context.Context, op operation, send sender) (unsure, err error) {
	return b.callWith(ctx, op, b.patience, send)
}

// callWith is call with another patience. It sends every request of the package.
func (b *Backend) callWith(ctx context.Context, op operation, p patience, send sender) (unsure, err error) {
	if err := b.ended(ctx, op); err != nil {
		return nil, err
	}
	for attempt := 1; ; attempt++ {
		if p.before != nil {
			if err := p.before(); err != nil {
				return unsure, err
			}
		}
		timedOut, err := b.attempt(ctx, op, attempt, p.timeout, send)
		if err == nil {
			return unsure, nil
		}
		var failed *types.ConditionalCheckFailedException
		if errors.As(err, &failed) {
			return unsure, failed
		}

		again, applied := classify(err)
		if timedOut {
			again = true
			err = fmt.Errorf("no answer within %v: %w", p.timeout, err)
		}
		if applied && op.writes() {
			unsure = err
		}
		f := failure{op: op, attempts: attempt, unsure: unsure != nil, err: err}
		if f.ended = contextError(ctx); f.ended != nil {
			return unsure, b.callError(f)
		}
		if !again || attempt >= p.attempts || p.once && unsure != nil {
			f.why = b.explain(op, err)
			return unsure, b.callError(f)
		}
		wait := p.backoff(attempt)
		if attempt == 1 && applied && !timedOut {
			// The sooner the retry after a lost response, the fewer writes of
			// others may push our token out of the history.
			wait = 0
		}
		if !sleep(ctx, wait) {
			if f.ended = contextError(ctx); f.ended == nil {
				f.why, f.ended = "no time left for another attempt", errNoTime
			}
			return unsure, b.callError(f)
		}
	}
}

// attempt sends a request once, and tells Config.OnRequest about it.
func (b *Backend) attempt(ctx context.Context, op operation, n int, timeout time.Duration, send sender) (timedOut bool, err error) {
	attemptCtx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var began time.Time
	if b.c.OnRequest != nil {
		began = time.Now()
	}
	consumed, err := send(attemptCtx)
	if b.c.OnRequest != nil {
		b.c.OnRequest(ctx, b.request(op, n, time.Since(began), consumed, err))
	}
	return err != nil && attemptCtx.Err() != nil && ctx.Err() == nil, err
}

// request returns the argument of Config.OnRequest.
func (b *Backend) request(op operation, n int, took time.Duration, consumed *types.ConsumedCapacity, err error) observe.Request {
	r := observe.Request{Name: string(op), Table: b.c.Table, Attempt: n, Duration: took, Err: err}
	var failed *types.ConditionalCheckFailedException
	if errors.As(err, &failed) {
		r.Refused = true
		r.Err = &types.ConditionalCheckFailedException{Message: failed.Message} // without the item
	}
	units, _ := unitsOf(consumed)
	if op.writes() {
		r.WriteUnits = units
	} else {
		r.ReadUnits = units
	}
	return r
}

// unitsOf returns the capacity units of a request, if the answer has them.
func unitsOf(consumed *types.ConsumedCapacity) (units float64, ok bool) {
	if consumed == nil || consumed.CapacityUnits == nil {
		return 0, false
	}
	// Ignore what no request can cost. Another engine may answer NaN.
	if units = *consumed.CapacityUnits; !(units >= 0 && units <= 1e9) {
		return 0, false
	}
	return units, true
}

// backoff returns the wait before retry n. It has full jitter, so that clients
// that were throttled together do not retry together.
func (p patience) backoff(n int) time.Duration {
	limit := p.most
	if n <= 30 && p.base <= limit>>(n-1) {
		limit = p.base << (n - 1)
	}
	return rand.N(limit)
}

// errNoTime means that the deadline of the context comes before another attempt.
var errNoTime = fmt.Errorf("%w", context.DeadlineExceeded)

// sleep sleeps for d and returns true, or returns false as soon as ctx ends. It
// returns false at once if the deadline of ctx would come first.
func sleep(ctx context.Context, d time.Duration) bool {
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= d {
		return false
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// ended returns the error of a call that begins after the end of its context.
func (b *Backend) ended(ctx context.Context, op operation) error {
	if err := contextError(ctx); err != nil {
		return fmt.Errorf("dynamodb: %s on table %q: not sent: %w", op, b.c.Table, err)
	}
	return nil
}

// contextError returns the error of ctx with its cause, or nil if ctx has not
// ended.
func contextError(ctx context.Context) error {
	err := ctx.Err()
	if cause := context.Cause(ctx); err != nil && !errors.Is(cause, err) {
		return fmt.Errorf("%w: %w", err, cause)
	}
	return err
}
