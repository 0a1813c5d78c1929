package dynamodb

import (
	"context"
	"errors"
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

// Sweep deletes the sessions that have expired at least opts.Grace ago, as
// [admin.Sweeper] says. TTL does the same at no cost, days late; a sweep is
// for a table without TTL, or when the room is needed now.
//
// It scans the table in parallel segments, and deletes what it finds by one
// DeleteItem each, on condition that the item is still expired, still of this
// package and not locked. opts.Workers bounds the requests under way, those of
// both kinds together; the scan waits when it is more than a page and a batch
// per worker ahead. The client should keep as many connections open: that of
// the SDK keeps 10. A batch has opts.BatchSize items of one page at most.
// opts.BeforeBatch is not called with opts.DryRun. With opts.Foreign an item
// whose time is 0 or less stays: that is how many write "never".
//
// It costs 0.5 RCU per 4 KB of everything in the table, whether expired or
// not, and 1 WCU per KB of each item that it deletes, rounded up. A deletion
// that is refused, as the session was renewed, is billed too. DynamoDB does
// not report that: ReadUnits and WriteUnits of the report lack it, while the
// budgets count what the item's size says. It needs dynamodb:Scan and
// dynamodb:DeleteItem, and a client that is a [ScanClient], or it fails with
// an error that wraps [errors.ErrUnsupported].
//
// With a budget, pages are small, the rate is kept to within some per cent
// over a few seconds, and an answer without ConsumedCapacity ends the sweep.
//
// Requests that fail are sent again as [Config] says, but at least 10 times in
// all with pauses of up to 5 s, and an attempt may take 10 s; only then do
// they count as errors. If a page cannot be had, and opts.OnError wants to go
// on, the rest of its segment is left out: the report then has a Checkpoint
// though Sweep returns nil, and a Resume tries it again.
//
// What expired is decided once, when the sweep begins: a Resume goes on with
// that time, and with the Segments that it was begun with. It reads again only
// the pages that were not finished. Reads are eventually consistent: a session
// that was stored a moment ago, already expired, may wait for the next sweep.
func (b *Backend) Sweep(ctx context.Context, opts admin.SweepOptions) (admin.SweepReport, error) {
	opts, err := opts.Complete()
	if err != nil {
		return admin.SweepReport{}, err
	}
	if !utf8.ValidString(opts.KeyPrefix) {
		return admin.SweepReport{}, errors.New("dynamodb: SweepOptions.KeyPrefix is not UTF-8")
	}
	client, err := b.scanClient()
	if err != nil {
		return admin.SweepReport{}, err
	}
	from, err := b.begin(opts)
	if err != nil {
		return admin.SweepReport{}, err
	}
	if err := b.ended(ctx, opScan); err != nil {
		return admin.SweepReport{}, err
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

// sweep is one that is going on.
type sweep struct {
	*job
	opts    admin.SweepOptions
	from    *checkpoint
	began   time.Time
	batches chan batch
	told    tally // at the last OnProgress

	filter       string
	filterNames  map[string]string
	filterValues map[string]types.AttributeValue
	own, foreign expression // of a deletion

	telling sync.Mutex // held while OnProgress or OnError runs

	// Guarded by job.mu.
	segments []segment
	live     tally // of everything
	done     tally // of the pages that are finished
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
	left    int    // records that nothing has become of yet
	tally   tally
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
}

// outcome is what has become of a record.
type outcome int

const (
	undone outcome = iota // nothing: the sweep ended before that was known
	deleted
	kept
	skipped
	failed
)

func (t *tally) count(o outcome, n int64) {
	switch o {
	case undone:
	case deleted:
		t.Deleted += n
	case kept:
		t.Kept += n
	case skipped:
		t.Skipped += n
	case failed:
		t.Failed += n
	}
}

func (s *sweep) expressions() {
	// Of an item of others, 0 is no time: to many it means "never", and TTL
	// leaves it alone too.
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
	s.foreign = expression{
		// Others may have attributes with these names, but hardly both types.
		condition: "#e <= :cutoff AND NOT (#e <= :zero) AND attribute_not_exists(#l) AND NOT (attribute_type(#c, :number) AND attribute_type(#v, :binary))",
		names:     s.b.names("#e", "#c", "#v", "#l"),
	}
}

// run returns when everything is done that is to be done, and no goroutine of
// it is left.
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
		// The data stays where it is; the other two tell whose the item is.
		ProjectionExpression:      aws.String("#k, #c, #v"),
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

// page takes in what a Scan has found, and returns what is to be deleted.
func (s *sweep) page(seg *segment, next string, out *dynamodb.ScanOutput) (*page, []found) {
	p := &page{segment: seg, next: next, tally: tally{Scanned: int64(out.ScannedCount)}}
	var records []found
	for _, it := range out.Items {
		key, ok := it[s.b.c.KeyAttribute].(*types.AttributeValueMemberS)
		if !ok {
			continue // a partition key of type S is always there
		}
		foreign := !s.b.ours(it)
		if foreign && !s.from.Foreign {
			p.tally.Foreign++
			continue
		}
		records = append(records, found{key.Value, foreign})
	}
	p.tally.Expired = int64(len(records))
	if s.from.DryRun {
		p.tally.Deleted, records = p.tally.Expired, nil
	}
	p.left = len(records)

	s.mu.Lock()
	defer s.mu.Unlock()
	s.live.add(p.tally)
	seg.pages = append(seg.pages, p)
	seg.advance(s)
	return p, records
}

// ours reports whether an item with created and version was written by this
// package.
func (b *Backend) ours(it map[string]types.AttributeValue) bool {
	_, ok := epoch(it[b.c.CreatedAttribute], 1000)
	version, isBinary := it[b.c.VersionAttribute].(*types.AttributeValueMemberB)
	return ok && isBinary && history(version.Value).valid()
}

// advance moves the segment on over the pages that are finished. Pages are
// finished in any order, but it is only the first ones that a Resume can skip.
func (seg *segment) advance(s *sweep) {
	for len(seg.pages) > 0 && seg.pages[0].left == 0 {
		p := seg.pages[0]
		seg.pages = seg.pages[1:]
		seg.progress = progress{After: p.next, Done: p.next == ""}
		s.done.add(p.tally)
	}
}

// settle counts what has become of n records of a page.
func (s *sweep) settle(p *page, o outcome, n int) {
	if o == undone {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.live.count(o, int64(n))
	p.tally.count(o, int64(n))
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

// estimate is what a deletion is thought to cost.
func (s *sweep) estimate() float64 {
	units, _ := s.write.get(1)
	return units
}

func (s *sweep) delete(r found) outcome {
	expr, values := &s.own, map[string]types.AttributeValue{":cutoff": s.filterValues[":cutoff"]}
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
		if !r.foreign {
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
		// Where it is gone after a lost response, it was us.
		if refused.Item == nil && unsure != nil {
			return deleted
		}
		return kept
	case s.goOn(err):
		return failed
	}
	return undone
}

// goOn decides about what has cost a page or a record. The end of the context
// is no such thing: a Resume has to find what it left.
func (s *sweep) goOn(err error) bool {
	if s.opts.OnError != nil {
		s.telling.Lock() // which may take long enough for the sweep to end
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

// tellProgress calls OnProgress every now and then until the function that it
// returns is called.
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
			if now := s.now(); now != s.told {
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

// now returns the counters as they are.
func (s *sweep) now() tally {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counters()
}

func (s *sweep) counters() tally {
	t := s.live
	t.add(tally{Retried: s.retried, ReadUnits: s.readUnits, WriteUnits: s.writeUnits})
	return t
}

func (s *sweep) report() admin.SweepReport {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.counters()
	r := t.report()
	r.Elapsed = time.Since(s.began)

	c := *s.from
	c.Segments = make([]progress, len(s.segments))
	for i := range s.segments {
		c.Segments[i] = s.segments[i].progress
	}
	if c.finished() {
		return r
	}
	// A Resume finds the records of unfinished pages once more, but for those
	// that were deleted: so these count now, and the others then.
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
