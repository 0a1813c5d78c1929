package dynamodb

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

// Entry is an item of the table, as [Backend.List] finds it.
type Entry struct {
	Key string
	// Size is what DynamoDB counts for the item, in bytes: the names and the
	// values of all attributes. DataSize is that of the encoded session.
	Size     int
	DataSize int
	// Data is the encoded session where it contains [ListOptions].DataWith, ""
	// elsewhere.
	Data string

	Created time.Time
	Expires time.Time
	// LockedUntil is when the lease of a live lock runs out, zero if there is
	// none.
	LockedUntil time.Time

	// Foreign is set for an item that this package did not write, which Load
	// refuses. Of the times it then has those that can be read.
	Foreign bool
}

// ListOptions says how to list. The zero value is useful: a zero field has the
// default that is named with it.
type ListOptions struct {
	// KeyPrefix restricts the list to keys that begin with it. It costs the
	// same. Default "", every key.
	KeyPrefix string

	// DataWith is a text. Of the sessions that contain it Entry.Data is there,
	// too. Default "", none.
	DataWith string

	// Limit is how many entries are visited at most. Default 0, all.
	Limit int

	// ReadUnits is the capacity units per second that may be used. Default 0,
	// as fast as it goes.
	ReadUnits float64

	// Segments is into how many parts the table is divided, and Workers how
	// many of them are read at once. Defaults 1, and Segments but at most 16.
	Segments int
	Workers  int
}

// ListReport is what a List has done.
type ListReport struct {
	Scanned   int64 // items looked at
	Foreign   int64 // of those visited, not written by this package
	ReadUnits float64
}

const (
	maxSegments = 1_000_000 // of DynamoDB
	maxWorkers  = 10_000    // of admin.SweepOptions
)

func (o *ListOptions) complete() error {
	switch {
	case !utf8.ValidString(o.KeyPrefix):
		return fmt.Errorf("dynamodb: ListOptions.KeyPrefix is not UTF-8")
	case o.Limit < 0:
		return fmt.Errorf("dynamodb: ListOptions.Limit %d is negative", o.Limit)
	case !(o.ReadUnits >= 0): // NaN too
		return fmt.Errorf("dynamodb: ListOptions.ReadUnits %v must not be negative", o.ReadUnits)
	case o.Segments < 0 || o.Segments > maxSegments:
		return fmt.Errorf("dynamodb: ListOptions.Segments %d is not between 0 (default) and %d", o.Segments, maxSegments)
	case o.Workers < 0 || o.Workers > maxWorkers:
		return fmt.Errorf("dynamodb: ListOptions.Workers %d is not between 0 (default) and %d", o.Workers, maxWorkers)
	}
	if o.Segments == 0 {
		o.Segments = 1
	}
	if o.Workers == 0 {
		o.Workers = 16
	}
	o.Workers = min(o.Workers, o.Segments)
	return nil
}

// List calls visit with each item of the table, expired and foreign ones
// included, in no order that means anything. It reads eventually consistent:
// an item that is written meanwhile may be missed or be out of date. visit is
// never called by two goroutines at once. An error from it ends the list, and
// is what List returns; the report then says what was done until then.
//
// It scans the table, data included: 0.5 RCU per 4 KB of everything in it, or
// of the part until visit or Limit ends it, and permission dynamodb:Scan. It
// fails with an error that wraps [errors.ErrUnsupported] if the client is no
// [ScanClient]. Requests that fail are sent again as by [Backend.Sweep].
func (b *Backend) List(ctx context.Context, opts ListOptions, visit func(Entry) error) (ListReport, error) {
	if err := opts.complete(); err != nil {
		return ListReport{}, err
	}
	client, err := b.scanClient()
	if err != nil {
		return ListReport{}, err
	}
	if err := b.ended(ctx, opScan); err != nil {
		return ListReport{}, err
	}
	l := &list{job: b.newJob(ctx, client, opts.Workers, opts.ReadUnits, 0), opts: opts, visit: visit}
	segments := make(chan int)
	var readers sync.WaitGroup
	for range opts.Workers {
		readers.Add(1)
		go func() {
			defer readers.Done()
			for n := range segments {
				l.read(n)
			}
		}()
	}
	for n := range opts.Segments {
		select {
		case segments <- n:
		case <-l.stop.Done():
		}
	}
	close(segments)
	readers.Wait()
	err = l.close("list", l.full())
	l.report.ReadUnits = l.readUnits
	return l.report, err
}

type list struct {
	*job
	opts  ListOptions
	visit func(Entry) error

	visiting sync.Mutex // guards what follows
	visited  int
	report   ListReport
}

// full reports whether the Limit is reached.
func (l *list) full() bool { return l.opts.Limit > 0 && l.visited >= l.opts.Limit }

// read reads a segment from its beginning to its end.
func (l *list) read(segment int) {
	in := &dynamodb.ScanInput{}
	if l.opts.Segments > 1 {
		in.Segment, in.TotalSegments = aws.Int32(int32(segment)), aws.Int32(int32(l.opts.Segments)) // at most maxSegments
	}
	if l.opts.KeyPrefix != "" {
		in.FilterExpression = aws.String("begins_with(#k, :prefix)")
		in.ExpressionAttributeNames = l.b.names("#k")
		in.ExpressionAttributeValues = map[string]types.AttributeValue{":prefix": &types.AttributeValueMemberS{Value: l.opts.KeyPrefix}}
	}
	for !l.ended() {
		most := 0
		if l.opts.Limit > 0 && l.opts.KeyPrefix == "" {
			l.visiting.Lock()
			most = min(l.opts.Limit-l.visited, 1e6)
			l.visiting.Unlock()
			if most <= 0 {
				return
			}
		}
		out, err := l.scan(in, most)
		if err != nil {
			l.fail(err)
			return
		}
		after, err := l.b.next(out)
		if err == nil {
			err = l.visitPage(out)
		}
		if err != nil {
			l.fail(err)
			return
		}
		if after == "" {
			return
		}
		in.ExclusiveStartKey = l.b.startAt(after)
	}
}

func (l *list) visitPage(out *dynamodb.ScanOutput) error {
	now := l.b.now()
	l.visiting.Lock()
	defer l.visiting.Unlock()
	l.report.Scanned += int64(out.ScannedCount)
	for _, it := range out.Items {
		if l.ended() {
			return nil
		}
		e := l.b.entry(it, now, l.opts.DataWith)
		if e.Foreign {
			l.report.Foreign++
		}
		l.visited++
		if err := l.visit(e); err != nil {
			return err
		}
		if l.full() {
			l.cancel()
		}
	}
	return nil
}

func (b *Backend) entry(it map[string]types.AttributeValue, now time.Time, with string) Entry {
	e := Entry{Size: itemSize(it)}
	if k, ok := it[b.c.KeyAttribute].(*types.AttributeValueMemberS); ok {
		e.Key = k.Value
	}
	rec, _, err := b.decode(it, now)
	if err == nil {
		e.DataSize, e.Created, e.Expires, e.LockedUntil = len(rec.Data), rec.Created, rec.Expires, rec.LockedUntil
		if with != "" && bytes.Contains(rec.Data, []byte(with)) {
			e.Data = string(rec.Data)
		}
		return e
	}
	e.Foreign = true
	if data := it[b.c.DataAttribute]; data != nil {
		e.DataSize = valueSize(data)
	}
	if s, ok := epoch(it[b.c.ExpiresAttribute], 1); ok {
		e.Expires = time.Unix(s, 0).UTC()
	}
	if ms, ok := epoch(it[b.c.CreatedAttribute], 1000); ok {
		e.Created = time.UnixMilli(ms).UTC()
	}
	return e
}
