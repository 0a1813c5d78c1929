package admin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/observe"
)

// Sweeper is an optional interface of a [session.Backend] that can delete its
// expired records on demand. It is for a store that does not delete them by
// itself, or not soon enough. What Backend says about contexts and failures
// applies to Sweep. All other methods treat an expired record as absent, so a
// sweep changes only the space that the store takes.
type Sweeper interface {
	session.Backend

	// Sweep deletes the records that expired at least opts.Grace ago.
	//
	// It MUST delete every record that had expired by then when the sweep began,
	// unless somebody writes the record meanwhile. It MUST NOT delete a record
	// that is live, or whose lock is live, at the moment of the deletion. On a
	// store that others write to, each deletion carries that condition, because
	// a record may have changed since the sweep found it. It MUST leave alone
	// the keys that do not begin with opts.KeyPrefix and, unless opts.Foreign is
	// set, the records that the backend did not write. With opts.DryRun it MUST
	// change nothing, and count what it would delete.
	//
	// It MUST call opts.BeforeBatch before the first deletion of each batch. It
	// MUST leave the batch alone after [SkipBatch], and end after any other
	// error, with that error. It MUST pass each error that cost it a page or a
	// record to opts.OnError. If that returns nil, it MUST go on as far as it
	// knows what comes next: the records of a page that it could not read are in
	// no count of the report, and the sweep is not complete. Without OnError it
	// MUST end at the first error.
	//
	// It MUST refuse an option that it cannot follow with an error that wraps
	// [errors.ErrUnsupported], before it deletes anything. It MAY ignore
	// Workers, Segments and BatchSize if they mean nothing to the store.
	//
	// If Sweep fails, the report says what it had done until then.
	Sweep(ctx context.Context, opts SweepOptions) (Report, error)
}

// SkipBatch is the error that [SweepOptions.BeforeBatch] returns to leave the
// records of a batch alone.
var SkipBatch = errors.New("admin: skip this batch") //nolint:revive,errname,staticcheck // a signal, like fs.SkipDir

// The defaults of [SweepOptions].
const (
	DefaultSweepGrace     = 5 * time.Minute
	DefaultSweepBatchSize = 25
	DefaultSweepWorkers   = 16
	DefaultSweepSegments  = 32
)

// SweepOptions says what to sweep, and how. A zero field has the default that
// its comment names, so the zero value is useful.
type SweepOptions struct {
	// Grace is the time that must have passed since a record expired. It
	// protects sessions from a sweeper whose clock is fast. Default 5 min. The
	// least is 1 ns.
	Grace time.Duration

	// DryRun counts the records that a sweep would delete, and deletes none. It
	// costs the reads.
	DryRun bool

	// KeyPrefix restricts the sweep to keys that begin with it, in a store with
	// several users. Default "", every key.
	KeyPrefix string

	// Foreign also deletes expired records that the backend did not write, such
	// as those of the PHP session handler, if the backend can tell when they
	// expired. Default false.
	Foreign bool

	// ReadUnits and WriteUnits are the largest numbers of capacity units per
	// second that the sweep may use, as the store counts them. Default 0, no
	// limit.
	ReadUnits  float64
	WriteUnits float64

	// Segments is the number of parts into which the store is divided for
	// reading. Each is read from its beginning to its end. Default 32.
	Segments int
	// Workers is the number of requests in flight. Default 16.
	Workers int
	// BatchSize is the number of records in a batch. Default 25.
	BatchSize int

	// BeforeBatch is called before a batch of n records is deleted. The sweep
	// found all of them expired; it may leave out records that it knows to be
	// locked. BeforeBatch may take its time to delay the batch. It may return
	// [SkipBatch] to leave the batch alone, or another error to end the sweep.
	// Several goroutines may call it at once.
	BeforeBatch func(ctx context.Context, n int) error

	// OnError is called with each error that cost the sweep a page or a record,
	// after the retries. If it returns nil, the sweep goes on, and does not
	// return that error at its end. If it returns an error, the sweep ends with
	// that. OnError is not called for an error of BeforeBatch, nor for the end
	// of ctx. By default the sweep ends at the first error. Two goroutines never
	// call it at once.
	OnError func(err error) error

	// OnProgress is called now and then, at least once a second if there is
	// progress, and at the end. Two goroutines never call it at once, and the
	// sweep waits for it.
	OnProgress func(Report)

	// Observer sees the sweep as one call of [observe.OpSweep]. Default nil, no
	// observer.
	Observer observe.Observer

	// Resume is the Checkpoint of an unfinished sweep. The sweep goes on from
	// there, with the options that decided what it deletes. It fails if these
	// options have other values for them; a Grace or Segments of zero keeps the
	// value. A backend that cannot resume refuses it.
	Resume []byte
}

const (
	mostSegments  = 1_000_000
	mostWorkers   = 10_000
	mostBatchSize = 10_000
)

// Complete returns o with its defaults, or an error about a field that is not
// valid. A backend calls it at the beginning of Sweep.
func (o SweepOptions) Complete() (SweepOptions, error) {
	switch {
	case o.Grace < 0:
		return o, fmt.Errorf("admin: SweepOptions.Grace %v is negative", o.Grace)
	case !(o.ReadUnits >= 0) || !(o.WriteUnits >= 0): // NaN too
		return o, fmt.Errorf("admin: SweepOptions.ReadUnits %v and WriteUnits %v must not be negative", o.ReadUnits, o.WriteUnits)
	}
	o.Grace = cmp.Or(o.Grace, DefaultSweepGrace)
	err := cmp.Or(
		complete("SweepOptions.Segments", &o.Segments, DefaultSweepSegments, mostSegments),
		complete("SweepOptions.Workers", &o.Workers, DefaultSweepWorkers, mostWorkers),
		complete("SweepOptions.BatchSize", &o.BatchSize, DefaultSweepBatchSize, mostBatchSize),
	)
	return o, err
}

// complete gives a field its default, and refuses a value that is out of range.
func complete(field string, n *int, def, most int) error {
	if *n < 0 || *n > most {
		return fmt.Errorf("admin: %s %d is not between 0 (default) and %d", field, *n, most)
	}
	*n = cmp.Or(*n, def)
	return nil
}

// Sweep deletes the expired sessions in the store of b, as [Sweeper] says. It
// fails with an error that wraps [errors.ErrUnsupported] if b is not a Sweeper.
// Run it from one place, now and then. Several sweeps at once do no harm, but
// cost more.
func Sweep(ctx context.Context, b session.Backend, opts SweepOptions) (Report, error) {
	opts, err := opts.Complete()
	if err != nil {
		return Report{}, err
	}
	sweeper, ok := b.(Sweeper)
	if !ok {
		return Report{}, fmt.Errorf("admin: a %T cannot sweep: %w", b, errors.ErrUnsupported)
	}
	if opts.Observer == nil {
		return sweeper.Sweep(ctx, opts)
	}
	ctx, done := opts.Observer.Call(ctx, observe.OpSweep)
	report, err := sweeper.Sweep(ctx, opts)
	if done != nil {
		done(err)
	}
	return report, err
}
