// Package admin has what operators do with a store of sessions: sweep expired
// ones, and list what is there.
package admin

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/observe"
)

// Sweeper is a [session.Backend] that deletes its expired records on demand, for a
// store that does not do it by itself, or not soon enough. What Backend says
// about contexts and failures applies to Sweep. An expired record is as good
// as none for every other method, so a sweep changes nothing but the room
// that the store takes.
type Sweeper interface {
	session.Backend

	// Sweep deletes the records whose Expires is at least opts.Grace past.
	//
	// It MUST delete every record that was so when it began and that nobody
	// wrote meanwhile. It MUST NOT delete a record that is live, or whose lock
	// is live, at the moment of the deletion, whatever it was when it was
	// found: on a store that others write to, each deletion carries that
	// condition. It MUST leave alone what the backend did not write, unless
	// opts.Foreign, and keys that do not begin with opts.KeyPrefix. With
	// opts.DryRun it MUST change nothing, and count what it would delete.
	//
	// It MUST call opts.BeforeBatch before the first deletion of each batch,
	// leave the batch alone after [SkipBatch], and end after any other error,
	// with that error. It MUST hand opts.OnError each error that cost it a
	// page or a record, and go on after a nil from it, as far as it knows what
	// comes next: the records of a page that could not be read are in no count
	// of the report, and the sweep has not come to its end. Without OnError it
	// MUST end at the first.
	//
	// Options that it cannot follow MUST be refused with an error that wraps
	// [errors.ErrUnsupported], before anything is deleted. Workers, Segments
	// and BatchSize it MAY ignore where they mean nothing.
	//
	// When it fails, the report says what was done until then.
	Sweep(ctx context.Context, opts SweepOptions) (SweepReport, error)
}

// SkipBatch is what [SweepOptions.BeforeBatch] returns to leave the records of
// a batch alone.
var SkipBatch = errors.New("admin: skip this batch") //nolint:revive,errname,staticcheck // a signal, like fs.SkipDir

// The defaults of [SweepOptions].
const (
	DefaultSweepGrace     = 5 * time.Minute
	DefaultSweepBatchSize = 25
	DefaultSweepWorkers   = 16
	DefaultSweepSegments  = 32
)

// SweepOptions says how to sweep. The zero value is useful: a zero field has
// the default that is named with it.
type SweepOptions struct {
	// Grace is how long ago a record must have expired. It protects sessions
	// from a sweeper whose clock is fast. Default 5 min; 1 ns is the least.
	Grace time.Duration

	// DryRun counts what would be deleted, and deletes nothing. It costs the
	// reads.
	DryRun bool

	// KeyPrefix restricts the sweep to keys that begin with it, in a store
	// that is shared. Default "", every key.
	KeyPrefix string

	// Foreign also deletes expired records that the backend did not write, as
	// far as it can tell when they expired: those of the PHP session handler,
	// for one. Default off.
	Foreign bool

	// ReadUnits and WriteUnits are the capacity units per second that the
	// sweep may use, as the store counts them. Default 0, as fast as it goes.
	ReadUnits  float64
	WriteUnits float64

	// Segments is into how many parts the store is divided for reading, each
	// read from its beginning to its end. Default 32.
	Segments int
	// Workers is how many requests are under way at once. Default 16.
	Workers int
	// BatchSize is how many records make a batch. Default 25.
	BatchSize int

	// BeforeBatch is called before a batch of n records is deleted, which were
	// found to be expired; those that are known to be locked may be left out. It
	// may take its time, which delays the batch; it may return [SkipBatch], which
	// leaves it alone, or another error, which ends the sweep. It is called by
	// several goroutines at once.
	BeforeBatch func(ctx context.Context, n int) error

	// OnError is called with each error that cost the sweep a page or a
	// record, after the retries. If it returns nil the sweep goes on, and does
	// not return that error at its end; else it ends with what OnError returns.
	// What BeforeBatch returns, and the end of ctx, are not for it. Default:
	// the sweep ends with the first error. It is never called by two
	// goroutines at once.
	OnError func(err error) error

	// OnProgress is called every now and then, at least every second if
	// anything was done, and at the end. It is never called by two goroutines
	// at once, and the sweep waits for it.
	OnProgress func(SweepReport)

	// Observer is told of the sweep, as a call of [observe.OpSweep]. Default
	// nil: nobody.
	Observer observe.Observer

	// Resume is the Checkpoint of a sweep that did not come to its end. The
	// sweep then goes on from there, with the options that it was begun with
	// as far as they decide what is deleted; others in these options are an
	// error. A zero Grace or Segments is as before.
	Resume []byte
}

// SweepReport is what a sweep has done. After a Resume it counts from the
// beginning of the sweep, Elapsed apart.
type SweepReport struct {
	Scanned int64 // records looked at; with an index of deadlines these may be the expired ones alone
	Expired int64 // of these, found to be past Expires and Grace, and ours to delete
	Deleted int64 // of these, deleted; with DryRun those that would be
	Kept    int64 // of these, not deleted, as they are locked, or were renewed or deleted since they were found
	Skipped int64 // of these, not deleted, as BeforeBatch said so
	Failed  int64 // of these, not deleted because of an error
	Foreign int64 // found to be expired, but not ours, and left alone
	Retried int64 // requests sent again

	// ReadUnits and WriteUnits are the capacity units used, where the store
	// tells.
	ReadUnits  float64
	WriteUnits float64

	Elapsed time.Duration

	// Checkpoint is where the sweep is, for [SweepOptions.Resume]; nil once it
	// has come to its end, and from a backend that cannot resume. One that had
	// to leave out a page has not come to its end. It contains keys of records:
	// keep it like them.
	Checkpoint []byte
}

// Complete returns o with its defaults, or an error that says what is wrong
// with it. Backends begin Sweep with it.
func (o SweepOptions) Complete() (SweepOptions, error) {
	switch {
	case o.Grace < 0:
		return o, fmt.Errorf("admin: SweepOptions.Grace %v is negative", o.Grace)
	case !(o.ReadUnits >= 0) || !(o.WriteUnits >= 0): // NaN too
		return o, fmt.Errorf("admin: SweepOptions.ReadUnits %v and WriteUnits %v must not be negative", o.ReadUnits, o.WriteUnits)
	}
	for _, n := range []struct {
		field string
		value *int
		def   int
		most  int
	}{
		{"Segments", &o.Segments, DefaultSweepSegments, 1_000_000},
		{"Workers", &o.Workers, DefaultSweepWorkers, 10_000},
		{"BatchSize", &o.BatchSize, DefaultSweepBatchSize, 10_000},
	} {
		if *n.value < 0 || *n.value > n.most {
			return o, fmt.Errorf("admin: SweepOptions.%s %d is not between 0 (default) and %d", n.field, *n.value, n.most)
		}
		if *n.value == 0 {
			*n.value = n.def
		}
	}
	if o.Grace == 0 {
		o.Grace = DefaultSweepGrace
	}
	return o, nil
}

// Sweep deletes expired sessions from the store; see [Sweeper]. It fails with
// an error that wraps [errors.ErrUnsupported] if b is no Sweeper. Run it from
// one place, now and then; several at once do no harm, but cost more.
func Sweep(ctx context.Context, b session.Backend, opts SweepOptions) (SweepReport, error) {
	opts, err := opts.Complete()
	if err != nil {
		return SweepReport{}, err
	}
	sweeper, ok := b.(Sweeper)
	if !ok {
		return SweepReport{}, fmt.Errorf("admin: a %T cannot sweep: %w", b, errors.ErrUnsupported)
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
