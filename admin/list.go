package admin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/seed-a7bee19b/session"
)

// Lister is an optional interface of a [session.Backend] that can go through
// all records of its store. An operator needs it to see and to count sessions;
// a Manager does not use it. What Backend says about contexts and failures
// applies to List.
type Lister interface {
	session.Backend

	// List calls visit for each record, in no particular order.
	//
	// It MUST visit every record that is live from the beginning to the end of
	// the list, even if it is written meanwhile. It MAY visit a record twice.
	// Records that begin or end meanwhile, or have expired, it MAY visit or leave
	// out. A store with eventually consistent reads may miss a record that began
	// a moment before. A record whose key does not begin with opts.KeyPrefix
	// MUST NOT be visited. List MUST change nothing.
	//
	// The Entry of a record MUST tell the times and the lock as Load does at
	// that moment, and the size of the data. What the backend did not write, so
	// that Load refuses it, MUST be visited as Foreign.
	//
	// It MUST NOT call visit from two goroutines at once, nor after it has
	// returned. visit may take its time, and may use the backend: List MUST NOT
	// hold anything meanwhile that a call of the backend waits for. If visit
	// returns an error, List MUST call it no more and return that very error.
	// After opts.Limit visits List MUST end without an error.
	//
	// It MUST refuse an option that it cannot follow with an error that wraps
	// [errors.ErrUnsupported], before the first visit. Segments and Workers it
	// MAY ignore if they mean nothing to the store.
	//
	// The report MUST count each visit in Scanned, and each visit of a Foreign
	// entry in Foreign, also when List fails.
	List(ctx context.Context, opts ListOptions, visit func(Entry) error) (Report, error)
}

// Entry describes a record that [List] visits.
type Entry struct {
	Key string

	// Size is the number of bytes that the record takes, as the store counts
	// them. DataSize is the length of [session.Record].Data.
	Size     int
	DataSize int

	// Data is the Data of the record if it contains [ListOptions.DataWith], else
	// "".
	Data string

	Created time.Time
	Expires time.Time

	// LockedUntil is the end of the lease of a live lock, zero if the record is
	// not locked.
	LockedUntil time.Time

	// Foreign marks a record that the backend did not write. Other fields of it
	// are set as far as the backend can read them.
	Foreign bool
}

// DefaultListWorkers is the default of [ListOptions.Workers].
const DefaultListWorkers = 16

// ListOptions says what to list, and how. The zero value lists everything.
type ListOptions struct {
	// KeyPrefix restricts the list to keys that begin with it. A store without
	// an order of keys reads everything all the same. Default "", every key.
	KeyPrefix string

	// DataWith asks for the Data of the records that contain this text. A store
	// that can search does so itself, and sends the data of these records only.
	// Default "", no data.
	DataWith string

	// Limit is the largest number of visits. Default 0, no limit.
	Limit int

	// ReadUnits is the largest number of capacity units per second that the
	// list may use, as the store counts them. A backend of a store that does not
	// count them refuses it. Default 0, no limit.
	ReadUnits float64

	// Segments is the number of parts into which the store is divided for
	// reading. Default 1.
	Segments int
	// Workers is the number of requests in flight. A backend that reads each
	// segment in order has no more than Segments. Default 16.
	Workers int
}

// Complete returns o with its defaults, or an error about a field that is not
// valid. A backend calls it at the beginning of List.
func (o ListOptions) Complete() (ListOptions, error) {
	switch {
	case o.Limit < 0:
		return o, fmt.Errorf("admin: ListOptions.Limit %d is negative", o.Limit)
	case !(o.ReadUnits >= 0): // NaN too
		return o, fmt.Errorf("admin: ListOptions.ReadUnits %v must not be negative", o.ReadUnits)
	}
	err := cmp.Or(
		complete("ListOptions.Segments", &o.Segments, 1, mostSegments),
		complete("ListOptions.Workers", &o.Workers, DefaultListWorkers, mostWorkers),
	)
	return o, err
}

// List calls visit for each record in the store of b, as [Lister] says. It
// fails with an error that wraps [errors.ErrUnsupported] if b is not a Lister.
func List(ctx context.Context, b session.Backend, opts ListOptions, visit func(Entry) error) (Report, error) {
	opts, err := opts.Complete()
	if err != nil {
		return Report{}, err
	}
	if visit == nil {
		return Report{}, errors.New("admin: List without a function that visits")
	}
	lister, ok := b.(Lister)
	if !ok {
		return Report{}, fmt.Errorf("admin: a %T cannot list: %w", b, errors.ErrUnsupported)
	}
	return lister.List(ctx, opts, visit)
}
