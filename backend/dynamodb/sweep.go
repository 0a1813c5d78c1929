package dynamodb

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/seed-a7bee19b/session/admin"
)

var _ admin.Sweeper = (*Backend)(nil)

// Sweep deletes the sessions that expired at least opts.Grace ago, as
// [admin.Sweeper] says. TTL does the same at no cost, but days late. Sweep is
// for a table without TTL, or for a table that needs the space now.
//
// It scans the table in parallel segments. It deletes each item that it finds
// with a DeleteItem of its own, on condition that the item is still expired,
// still written by this package and not locked. opts.Workers bounds the requests
// in flight, scans and deletions together. A scan waits when it is more than a
// page and a batch per worker ahead. The client should keep as many connections
// open; the client of the SDK keeps 10. A batch has at most opts.BatchSize
// items, all of one page. With opts.DryRun, opts.BeforeBatch is not called. With
// opts.Foreign an item whose time is 0 or less stays, because many writers mean
// "never" by it.
//
// Sweep costs 0.5 RCU per 4 KB of everything in the table, expired or not, and
// 1 WCU per KB of each item that it deletes, rounded up. DynamoDB also bills a
// deletion that it refuses because the session was renewed, but does not report
// the cost. So ReadUnits and WriteUnits of the report do not include it, while
// the budgets count it by the size of the item. Sweep needs dynamodb:Scan and
// dynamodb:DeleteItem. It fails with an error that wraps
// [errors.ErrUnsupported] if the client is not a [ScanClient].
//
// Beside PHP, Sweep deletes PHP's expired sessions too, and what its locks leave of
// sessions that were never stored. Nothing tells how old that is, so a request of PHP's
// in flight can lose the lock on a session that it has not stored yet.
//
// With a budget the pages are small, and the rate stays within some per cent of
// the budget over a few seconds. An answer without ConsumedCapacity ends the
// sweep.
//
// A request that fails is sent again as [Config] says, but at least 10 times in
// all, with pauses of up to 5 s, and with 10 s for each attempt. After that it
// counts as an error. If a page cannot be read and opts.OnError returns nil, the
// sweep leaves out the rest of that segment. The report then has a Checkpoint
// although Sweep returns nil, and a Resume reads the rest.
//
// A sweep decides once, at its beginning, what counts as expired. A Resume keeps
// that time and the number of segments, and reads again only the pages that were
// not finished. Reads are eventually consistent: a session that was stored
// already expired a moment ago may stay until the next sweep.
func (b *Backend) Sweep(ctx context.Context, opts admin.SweepOptions) (admin.Report, error) {
	opts, err := opts.Complete()
	if err != nil {
		return admin.Report{}, err
	}
	if !utf8.ValidString(opts.KeyPrefix) {
		return admin.Report{}, errors.New("dynamodb: SweepOptions.KeyPrefix is not UTF-8")
	}
	client, err := b.scanClient()
	if err != nil {
		return admin.Report{}, err
	}
	from, err := b.begin(opts)
	if err != nil {
		return admin.Report{}, err
	}
	if err := b.ended(ctx, opScan); err != nil {
		return admin.Report{}, err
	}

	s := &sweep{
		job:      b.newJob(ctx, client, opts.Workers, opts.ReadUnits, opts.WriteUnits),
		opts:     opts,
		from:     from,
		began:    time.Now(),
		segments: make([]segment, len(from.Segments)),
		batches:  make(chan batch),
		live:     from.Tally,
		done:     from.Tally,
	}
	for i, p := range from.Segments {
		s.segments[i].progress = p
	}
	s.expressions()
	quiet := s.tellProgress()
	s.run()
	quiet()
	report := s.report()
	err = s.close("sweep", report.Checkpoint == nil)
	if opts.OnProgress != nil {
		opts.OnProgress(report)
	}
	return report, err
}

// sweep is a sweep in progress.
type sweep struct {
	*job
	opts    admin.SweepOptions
	from    *checkpoint
	began   time.Time
	batches chan batch
	told    admin.Report // at the last OnProgress

	projection   string
	filter       string
	filterNames  map[string]string
	filterValues map[string]types.AttributeValue
	own, foreign expression // of a deletion
	remains      expression

	telling sync.Mutex // held while OnProgress or OnError runs

	// Guarded by job.mu.
	segments []segment
	live     admin.Report // of everything
	done     admin.Report // of the pages that are finished
}

// segment is a part of the table.
type segment struct {
	progress
	pages []*page // that were read and are not finished, or come after one that is not
}

// page is one answer to a Scan.
type page struct {
	segment *segment
	next    string // the key of its last item, "" if the segment ends here
	left    int    // records without an outcome yet
	tally   admin.Report
}

// batch is some records of a page.
type batch struct {
	page    *page
	records []found
}

// found is a record that had expired when it was read.
type found struct {
	key     string
	foreign bool
	remains bool // of a lock of PHP's, see ownedByNone
}

// outcome says what became of a record.
type outcome int

const (
	undone outcome = iota // not known, because the sweep ended before
	deleted
	kept
	skipped
	failed
)

func count(r *admin.Report, o outcome, n int64) {
	switch o {
	case undone:
	case deleted:
		r.Deleted += n
	case kept:
		r.Kept += n
	case skipped:
		r.Skipped += n
	case failed:
		r.Failed += n
	}
}

func (s *sweep) expressions() {
	s.projection = "#k, #c, #v"
	// In an item of another writer 0 is not a time. Many mean "never" by it, and
	// TTL leaves it alone too.
	s.filter = "#e <= :cutoff AND (NOT (#e <= :zero) OR attribute_exists(#v))"
	s.filterNames = s.b.names("#k", "#e", "#c", "#v")
	s.filterValues = map[string]types.AttributeValue{":cutoff": number(s.from.Cutoff), ":zero": number(0)}
	if s.from.Prefix != "" {
		s.filter += " AND begins_with(#k, :prefix)"
		s.filterValues[":prefix"] = &types.AttributeValueMemberS{Value: s.from.Prefix}
	}
	s.own = expression{
		condition: "#e <= :cutoff AND attribute_exists(#v) AND (attribute_not_exists(#l) OR #u <= :ms)",
		names:     s.b.names("#e", "#v", "#l", "#u"),
	}
	if s.b.Shared() {
		s.expressionsShared()
	}
	s.foreign = expression{
		// Another writer may use these names, but hardly both types too.
		condition: "#e <= :cutoff AND NOT (#e <= :zero) AND attribute_not_exists(#l) AND NOT (attribute_type(#c, :number) AND attribute_type(#v, :binary))",
		names:     s.b.names("#e", "#c", "#v", "#l"),
	}
}

// run returns when all work is done and all of its goroutines have ended.
func (s *sweep) run() {
	var readers, deleters sync.WaitGroup
	segments := make(chan int)
	for range min(s.opts.Workers, len(s.segments)) {
		readers.Add(1)
		go func() {
			defer readers.Done()
			for n := range segments {
				s.read(n)
			}
		}()
	}
	for range s.opts.Workers {
		deleters.Add(1)
		go func() {
			defer deleters.Done()
			for batch := range s.batches {
				s.work(batch)
			}
		}()
	}
	for n := range s.segments {
		if s.from.Segments[n].Done {
			continue
		}
		select {
		case segments <- n:
		case <-s.stop.Done():
		}
	}
	close(segments)
	readers.Wait()
	close(s.batches)
	deleters.Wait()
}

// read reads a segment to its end.
func (s *sweep) read(n int) {
	in := &dynamodb.ScanInput{
		// Not the data. The version and the start show who wrote the item.
		ProjectionExpression:      &s.projection,
		FilterExpression:          &s.filter,
		ExpressionAttributeNames:  s.filterNames,
		ExpressionAttributeValues: s.filterValues,
		Segment:                   aws.Int32(int32(n)),               // at most maxSegments
		TotalSegments:             aws.Int32(int32(len(s.segments))), // at most maxSegments
		ExclusiveStartKey:         s.b.startAt(s.from.Segments[n].After),
	}
	for !s.ended() {
		out, err := s.scan(in, 0)
		var next string
		if err == nil {
			next, err = s.b.next(out)
		}
		if err != nil {
			s.goOn(err) // with other segments
			return
		}
		p, records := s.page(&s.segments[n], next, out)
		for records := range slices.Chunk(records, s.opts.BatchSize) {
			select {
			case s.batches <- batch{p, records}:
			case <-s.stop.Done():
				return
			}
		}
		if next == "" {
			return
		}
		in.ExclusiveStartKey = s.b.startAt(next)
	}
}

// page counts the items of a Scan, and returns those to be deleted.
func (s *sweep) page(seg *segment, next string, out *dynamodb.ScanOutput) (*page, []found) {
	p := &page{segment: seg, next: next, tally: admin.Report{Scanned: int64(out.ScannedCount)}}
	var records []found
	for _, it := range out.Items {
		key, ok := it[s.b.c.KeyAttribute].(*types.AttributeValueMemberS)
		if !ok {
			continue // a partition key of type S is always there
		}
		r := found{key: key.Value}
		switch s.b.ownerOf(it, key.Value) {
		case ownedByUs:
		case ownedByNone:
			r.remains = true
		default:
			if r.foreign = true; !s.from.Foreign {
				p.tally.Foreign++
				continue
			}
		}
		records = append(records, r)
	}
	p.tally.Expired = int64(len(records))
	if s.from.DryRun {
		p.tally.Deleted, records = p.tally.Expired, nil
	}
	p.left = len(records)

	s.mu.Lock()
	defer s.mu.Unlock()
	add(&s.live, p.tally)
	seg.pages = append(seg.pages, p)
	seg.advance(s)
	return p, records
}

// owner says whose an item is.
type owner int

const (
	ownedByOthers owner = iota
	ownedByUs           // or a session of PHP's, beside PHP
	// ownedByNone: a lock of PHP's without a session. A request that ends without
	// storing one, or dies, leaves it behind. TTL leaves it alone, as it has no Expires.
	ownedByNone
)

// ownerOf tells by the start and the version whether this package wrote an item.
func (b *Backend) ownerOf(it map[string]types.AttributeValue, key string) owner {
	if b.Shared() && it[b.c.VersionAttribute] == nil {
		return b.ownerShared(it, key)
	}
	_, ok := epoch(it[b.c.CreatedAttribute], 1000)
	version, isBinary := it[b.c.VersionAttribute].(*types.AttributeValueMemberB)
	if (ok || b.Shared()) && isBinary && history(version.Value).valid() {
		return ownedByUs
	}
	return ownedByOthers
}

// advance moves the segment past its finished pages. Pages finish in any order,
// but a Resume can skip only the first ones.
func (seg *segment) advance(s *sweep) {
	for len(seg.pages) > 0 && seg.pages[0].left == 0 {
		p := seg.pages[0]
		seg.pages = seg.pages[1:]
		seg.progress = progress{After: p.next, Done: p.next == ""}
		add(&s.done, p.tally)
	}
}

// settle counts the outcome of n records of a page.
func (s *sweep) settle(p *page, o outcome, n int) {
	if o == undone {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	count(&s.live, o, int64(n))
	count(&p.tally, o, int64(n))
	p.left -= n
	p.segment.advance(s)
}

// work deletes a batch.
func (s *sweep) work(batch batch) {
	if s.opts.BeforeBatch != nil && !s.ended() {
		err := s.opts.BeforeBatch(s.stop, len(batch.records))
		switch {
		case errors.Is(err, admin.SkipBatch):
			s.settle(batch.page, skipped, len(batch.records))
			return
		case err != nil:
			s.fail(err)
			return
		}
	}
	for _, r := range batch.records {
		if s.ended() {
			return
		}
		s.settle(batch.page, s.delete(r), 1)
	}
}

// estimate returns the expected cost of a deletion.
func (s *sweep) estimate() float64 {
	units, _ := s.write.get(1)
	return units
}

func (s *sweep) delete(r found) outcome {
	expr, values := &s.own, map[string]types.AttributeValue{":cutoff": s.filterValues[":cutoff"]}
	millis := !r.foreign && !r.remains
	if r.remains {
		expr, values = &s.remains, map[string]types.AttributeValue{":number": &types.AttributeValueMemberS{Value: "N"}}
	} else if millis && s.b.Shared() {
		values[":binary"] = &types.AttributeValueMemberS{Value: "B"}
	}
	if r.foreign {
		expr = &s.foreign
		values[":zero"] = s.filterValues[":zero"]
		values[":number"] = &types.AttributeValueMemberS{Value: "N"}
		values[":binary"] = &types.AttributeValueMemberS{Value: "B"}
	}
	in := &dynamodb.DeleteItemInput{
		TableName:                 &s.b.c.Table,
		Key:                       s.b.key(r.key),
		ConditionExpression:       &expr.condition,
		ExpressionAttributeNames:  expr.names,
		ExpressionAttributeValues: values,
		ReturnConsumedCapacity:    types.ReturnConsumedCapacityTotal,

		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	}
	var consumed *types.ConsumedCapacity
	unsure, err := s.call(opDeleteItem, s.estimate, func(ctx context.Context) (*types.ConsumedCapacity, error) {
		if millis {
			values[":ms"] = number(s.b.now().UnixMilli())
		}
		out, err := s.b.client.DeleteItem(ctx, in, s.b.opts...)
		if err != nil {
			return nil, err
		}
		consumed = out.ConsumedCapacity
		return consumed, nil
	})
	var refused *types.ConditionalCheckFailedException
	switch {
	case err == nil:
		if cost, known := unitsOf(consumed); known {
			s.write.add(cost, 1)
		}
		return deleted
	case errors.As(err, &refused):
		// If the item is gone after a lost response, we deleted it.
		if refused.Item == nil && unsure != nil {
			return deleted
		}
		return kept
	case s.goOn(err):
		return failed
	}
	return undone
}

// goOn reports whether the sweep goes on after an error that cost it a page or a
// record. After the end of the context it does not, so that a Resume finds what
// is left.
func (s *sweep) goOn(err error) bool {
	if s.opts.OnError != nil {
		s.telling.Lock() // the sweep may end while it waits
		defer s.telling.Unlock()
	}
	if s.ended() {
		return false
	}
	if s.opts.OnError != nil && !errors.Is(err, errNoTime) {
		err = s.opts.OnError(err)
	}
	if err != nil {
		s.fail(err)
	}
	return err == nil
}

// tellProgress calls OnProgress now and then. The function that it returns ends
// that.
func (s *sweep) tellProgress() (stop func()) {
	if s.opts.OnProgress == nil {
		return func() {}
	}
	const interval = 250 * time.Millisecond
	stopped, over := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(over)
		t := time.NewTicker(interval)
		defer t.Stop()
		for {
			select {
			case <-stopped:
				return
			case <-t.C:
			}
			if now := s.now(); !reflect.DeepEqual(now, s.told) {
				s.told = now
				report := s.report()
				s.telling.Lock()
				s.opts.OnProgress(report)
				s.telling.Unlock()
			}
		}
	}()
	return func() {
		close(stopped)
		<-over
	}
}

// now returns the present counts.
func (s *sweep) now() admin.Report {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counters()
}

func (s *sweep) counters() admin.Report {
	r := s.live
	add(&r, admin.Report{Retried: s.retried, ReadUnits: s.readUnits, WriteUnits: s.writeUnits})
	return r
}

func (s *sweep) report() admin.Report {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.counters()
	r := t
	r.Elapsed = time.Since(s.began)

	c := *s.from
	c.Segments = make([]progress, len(s.segments))
	for i := range s.segments {
		c.Segments[i] = s.segments[i].progress
	}
	if c.finished() {
		return r
	}
	// A Resume finds the records of unfinished pages again, except those that
	// were deleted. So the deleted ones count now, and the others later.
	c.Tally = s.done
	if !c.DryRun {
		c.Tally.Scanned += t.Deleted - c.Tally.Deleted
		c.Tally.Deleted = t.Deleted
		c.Tally.Expired = t.Deleted + c.Tally.Kept + c.Tally.Skipped + c.Tally.Failed
	}
	c.Tally.Retried, c.Tally.ReadUnits, c.Tally.WriteUnits = t.Retried, t.ReadUnits, t.WriteUnits
	r.Checkpoint = c.encode()
	return r
}
