package dynamodb

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go"

	"github.com/seed-a7bee19b/session/observe"
)

// operation is the name of a request, as in the API and in IAM.
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

// sender sends a request once, and returns what it has cost, if that was asked
// for.
type sender func(context.Context) (*types.ConsumedCapacity, error)

// patience says how a call goes about its attempts.
type patience struct {
	attempts   int
	timeout    time.Duration // of an attempt
	base, most time.Duration // of the back-off
	// before, if not nil, is called before each attempt, outside of its
	// timeout. Its error ends the call.
	before func() error
	// once is for what must not be sent again after an attempt that may have
	// been applied.
	once bool
}

// call sends a request until it is answered, attempts have run out or ctx
// ends.
//
// unsure is the error of an earlier attempt that may have been applied, nil
// if there was none. A failed condition is returned as it is: the error holds
// the item, which must not end up in one that the caller sees.
func (b *Backend) call(ctx context.Context, op operation, send sender) (unsure, err error) {
	return b.callWith(ctx, op, b.patience, send)
}

// callWith is call with a patience of its own. Every request of the package
// goes through it.
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
		report := func(why string, also error) error {
			return b.callError(op, attempt, why, also, err, unsure != nil)
		}
		if ctxErr := contextError(ctx); ctxErr != nil {
			return unsure, report("", ctxErr)
		}
		if !again || attempt >= p.attempts || p.once && unsure != nil {
			return unsure, report(b.explain(op, err), nil)
		}
		wait := p.backoff(attempt)
		if attempt == 1 && applied && !timedOut {
			// The sooner a lost answer is asked for again, the fewer writes of
			// others there are among which our own has to be found.
			wait = 0
		}
		if !sleep(ctx, wait) {
			if ctxErr := contextError(ctx); ctxErr != nil {
				return unsure, report("", ctxErr)
			}
			return unsure, report("no time left for another attempt", errNoTime)
		}
	}
}

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

// request is what Config.OnRequest is told.
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

// unitsOf returns what a request has cost, if the answer says so.
func unitsOf(consumed *types.ConsumedCapacity) (units float64, ok bool) {
	if consumed == nil || consumed.CapacityUnits == nil {
		return 0, false
	}
	// What no request can cost is not known either: an engine that is not
	// DynamoDB may say NaN.
	if units = *consumed.CapacityUnits; !(units >= 0 && units <= 1e9) {
		return 0, false
	}
	return units, true
}

// backoff returns the wait before retry n: full jitter, so that clients which
// were throttled together do not come back together.
func (p patience) backoff(n int) time.Duration {
	limit := p.most
	if n <= 30 && p.base <= limit>>(n-1) {
		limit = p.base << (n - 1)
	}
	return rand.N(limit)
}

// errNoTime is the end of a context that has not come yet, but would come
// before another attempt.
var errNoTime = fmt.Errorf("%w", context.DeadlineExceeded)

// sleep reports whether it has slept for d. It does not start to if the
// deadline of ctx would come first.
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

// ended is what a call fails with that starts with a context which has ended.
func (b *Backend) ended(ctx context.Context, op operation) error {
	if err := contextError(ctx); err != nil {
		return fmt.Errorf("dynamodb: %s on table %q: not sent: %w", op, b.c.Table, err)
	}
	return nil
}

// contextError returns why ctx has ended, with its cause if it was given one.
func contextError(ctx context.Context) error {
	err := ctx.Err()
	if cause := context.Cause(ctx); err != nil && !errors.Is(cause, err) {
		return fmt.Errorf("%w: %w", err, cause)
	}
	return err
}

// throttles and transient are codes of answers that say "not now".
var throttles = retry.ThrottleErrorCode{Codes: retry.DefaultThrottleErrorCodes}

var transient = retry.IsErrorRetryables{
	retry.RetryableError{}, // a clock that is off, which the SDK has corrected
	retry.RetryableErrorCode{Codes: retry.DefaultRetryableErrorCodes},
	retry.RetryableErrorCode{Codes: map[string]struct{}{
		"ReplicatedWriteConflictException": {}, // another region is writing
		"TransactionConflictException":     {}, // a transaction of somebody else is
	}},
}

// classify tells whether the request may be sent again, and whether it may
// have been applied in spite of err. Where it is not known, it may.
func classify(err error) (again, applied bool) {
	var (
		api      smithy.APIError
		response interface{ HTTPStatusCode() int }
		status   int
	)
	if beforeSending(err) {
		return false, false
	}
	if errors.As(err, &response) {
		status = response.HTTPStatusCode()
	}
	if errors.As(err, &api) {
		refused := status >= 400 && status < 500 && status != http.StatusRequestTimeout
		if status == 0 {
			refused = api.ErrorFault() == smithy.FaultClient
		}
		again = isThrottle(err) || transient.IsErrorRetryable(err) == aws.TrueTernary ||
			status >= 500 || status == http.StatusTooManyRequests || status == http.StatusRequestTimeout ||
			status == 0 && api.ErrorFault() == smithy.FaultServer
		return again, !refused
	}

	var (
		dns         *net.DNSError
		op          *net.OpError
		certificate *tls.CertificateVerificationError
		network     net.Error
		garbled     *smithy.DeserializationError
	)
	switch {
	case errors.As(err, &certificate):
		return false, false
	case errors.As(err, &dns):
		return !dns.IsNotFound, false
	case errors.As(err, &op) && op.Op == "dial":
		return true, false
	case errors.As(err, &network), errors.As(err, &garbled), status != 0,
		errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF),
		retry.RetryableConnectionError{}.IsErrorRetryable(err) == aws.TrueTernary:
		return true, true
	}
	return false, true
}

func isThrottle(err error) bool { return throttles.IsErrorThrottle(err) == aws.TrueTernary }

// beforeSending recognises errors of the SDK that come before the request
// exists. An error about credentials may hold the answer of another service,
// so nothing else in it means anything.
func beforeSending(err error) bool {
	var (
		params  smithy.InvalidParamsError
		encode  *smithy.SerializationError
		signing *v4.SigningError
		op      *smithy.OperationError
	)
	if noCredentials(err) || errors.As(err, &params) || errors.As(err, &encode) || errors.As(err, &signing) {
		return true
	}
	if !errors.As(err, &op) || op.Err == nil {
		return false
	}
	text := op.Err.Error()
	return strings.HasPrefix(text, "resolve auth scheme:") || strings.HasPrefix(text, "failed to resolve service endpoint")
}

// noCredentials goes by the text: the SDK has no type for it.
func noCredentials(err error) bool {
	var op *smithy.OperationError
	return errors.As(err, &op) && op.Err != nil && strings.HasPrefix(op.Err.Error(), "get identity:")
}
