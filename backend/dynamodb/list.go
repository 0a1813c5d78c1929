package dynamodb

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/seed-a7bee19b/session/admin"
)

var _ admin.Lister = (*Backend)(nil)

// List calls visit for each item of the table, as [admin.Lister] says, expired
// and foreign items too. Reads are eventually consistent: an item that is
// written meanwhile may be missed, or be out of date.
//
// Beside PHP, its sessions are listed like others, but without Created. A lock of
// PHP's without a session is a foreign item.
//
// Entry.Size is the size that DynamoDB counts for the item, the names and the
// values of all attributes. Of a foreign item an Entry has the times that List
// can read.
//
// List scans the table, data included, whatever opts.KeyPrefix is. It costs
// 0.5 RCU per 4 KB of everything in the table, or of the part before visit or
// opts.Limit ends the list, and needs dynamodb:Scan. It fails with an error that
// wraps [errors.ErrUnsupported] if the client is not a [ScanClient]. Requests
// that fail are sent again as in [Backend.Sweep].
func (b *Backend) List(ctx context.Context, opts admin.ListOptions, visit func(admin.Entry) error) (admin.Report, error) {
	began := time.Now()
	opts, err := opts.Complete()
	if err != nil {
		return admin.Report{}, err
	}
	if !utf8.ValidString(opts.KeyPrefix) {
		return admin.Report{}, errors.New("dynamodb: ListOptions.KeyPrefix is not UTF-8")
	}
	client, err := b.scanClient()
	if err != nil {
		return admin.Report{}, err
	}
	if err := b.ended(ctx, opScan); err != nil {
		return admin.Report{}, err
	}
	workers := min(opts.Workers, opts.Segments)
	l := &list{job: b.newJob(ctx, client, workers, opts.ReadUnits, 0), opts: opts, visit: visit}
	segments := make(chan int)
	var readers sync.WaitGroup
	for range workers {
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
	if l.stopped != nil {
		err = l.stopped
	}
	l.report.Retried, l.report.ReadUnits, l.report.Elapsed = l.retried, l.readUnits, time.Since(began)
	return l.report, err
}

type list struct {
	*job
	opts  admin.ListOptions
	visit func(admin.Entry) error

	visiting sync.Mutex // guards what follows
	visited  int
	stopped  error // of visit
	report   admin.Report
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
		if err != nil {
			l.fail(err)
			return
		}
		l.visitPage(out)
		if after == "" {
			return
		}
		in.ExclusiveStartKey = l.b.startAt(after)
	}
}

// visitPage visits the items of a page, until one of them ends the list.
func (l *list) visitPage(out *dynamodb.ScanOutput) {
	now := l.b.now()
	l.visiting.Lock()
	defer l.visiting.Unlock()
	l.report.Scanned += int64(out.ScannedCount)
	for _, it := range out.Items {
		if l.ended() {
			return
		}
		e := l.b.entry(it, now, l.opts.DataWith)
		if e.Foreign {
			l.report.Foreign++
		}
		l.visited++
		if l.stopped = l.visit(e); l.stopped != nil || l.full() {
			l.cancel() // before another page is visited
		}
	}
}

func (b *Backend) entry(it map[string]types.AttributeValue, now time.Time, with string) admin.Entry {
	e := admin.Entry{Size: itemSize(it)}
	if k, ok := it[b.c.KeyAttribute].(*types.AttributeValueMemberS); ok {
		e.Key = k.Value
	}
	rec, _, err := b.decode("", it, now)
	if b.Shared() && it[b.c.CreatedAttribute] == nil {
		rec.Created = time.Time{} // PHP does not say
	}
	if err == nil && (!b.Shared() || b.ownerOf(it, e.Key) != ownedByOthers) {
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
