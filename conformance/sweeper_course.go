package conformance

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-a7bee19b/session/admin"
)

// sweepCourseRules are about the course of a sweep: its callbacks, its report, how
// it ends and how it is resumed.
var sweepCourseRules = []backendRule{
	{name: "SweepBeforeBatch", run: sweeping(ruleSweepBeforeBatch), waits: true, quotes: []string{
		"It MUST call opts.BeforeBatch before the first deletion of each batch.",
		"BeforeBatch is called before a batch of n records is deleted. The sweep found all of them expired;",
	}},
	{name: "SweepSkip", run: sweeping(ruleSweepSkip), waits: true, quotes: []string{
		"It MUST leave the batch alone after SkipBatch,",
	}},
	{name: "SweepStop", run: sweeping(ruleSweepStop), waits: true, quotes: []string{
		"and end after any other error, with that error.",
	}},
	{name: "SweepFailedReport", run: sweeping(ruleSweepFailedReport), waits: true, quotes: []string{
		"If Sweep fails, the report says what it had done until then.",
	}},
	{name: "SweepReport", run: sweeping(ruleSweepReport), waits: true, quotes: []string{
		"Report counts what a sweep or a list has done.",
		"It is nil after a sweep that is complete, after a list, and from a backend that cannot resume.",
	}},
	{name: "SweepProgress", run: sweeping(ruleSweepProgress), waits: true, quotes: []string{
		"OnProgress is called now and then, at least once a second if there is progress, and at the end. " +
			"Two goroutines never call it at once, and the sweep waits for it.",
	}},
	{name: "SweepResume", run: sweeping(ruleSweepResume), waits: true, quotes: []string{
		"The sweep goes on from there, with the options that decided what it deletes. " +
			"It fails if these options have other values for them;",
		"After a Resume the counts are those of the whole sweep,",
		everyRecord,
	}},
	{name: "SweepOptions", run: sweeping(ruleSweepOptions), waits: true, quotes: []string{
		"A backend calls it at the beginning of Sweep.",
	}},
	{name: "SweepUnsupported", run: sweeping(ruleSweepUnsupported), waits: true, quotes: []string{
		"It MUST refuse an option that it cannot follow with an error that wraps errors.ErrUnsupported, before it deletes anything.",
	}},
	{name: "DoneContextSweep", run: sweeping(ruleDoneContextSweep), waits: true, quotes: append(doneContext,
		"What Backend says about contexts and failures applies to Sweep.",
	)},
	{name: "ContextEndsSweep", run: sweeping(ruleContextEndsSweep), waits: true, own: true, quotes: []string{
		"What Backend says about contexts and failures applies to Sweep.",
		"Once ctx is done it MUST return promptly,",
		everyRecord,
	}},
	{name: "StoreFailureSweep", run: sweeping(ruleStoreFailureSweep), waits: true, quotes: []string{
		"What Backend says about contexts and failures applies to Sweep.",
		"A failure of the store MUST be returned as an error that is none of the sentinels of this package;",
		"Without OnError it MUST end at the first error.",
	}, needs: canFail, own: true},
	{name: "SweepOnError", run: sweeping(ruleSweepOnError), waits: true, quotes: []string{
		"It MUST pass each error that cost it a page or a record to opts.OnError.",
		"If it returns an error, the sweep ends with that.",
	}, needs: canFail, own: true},
	{name: "SweepGoesOn", run: sweeping(ruleSweepGoesOn), waits: true, quotes: []string{
		"If that returns nil, it MUST go on as far as it knows what comes next: " +
			"the records of a page that it could not read are in no count of the report, and the sweep is not complete.",
		"If it returns nil, the sweep goes on, and does not return that error at its end.",
	}, needs: canFail, own: true},
}

func ruleSweepBeforeBatch(p *sweepProbe) {
	g, control := p.expiredPair(8)
	before, inControl := p.seen(g.keys), p.seen(control.keys)
	var first sync.Once
	var announced atomic.Int64
	opts := g.whole()
	opts.BatchSize = 7
	opts.BeforeBatch = func(_ context.Context, n int) error {
		first.Do(func() { // concurrent batches wait for this one
			got := len(p.seen(before))
			if len(before) > 0 && few(got, len(p.seen(inControl)), len(before)) {
				p.Errorf("at the first call of BeforeBatch %d of %d expired records are left, want all: no batch may have been deleted", got, len(before))
			}
		})
		if n < 1 {
			p.Errorf("BeforeBatch was called with n = %d, want at least 1", n)
		}
		announced.Add(int64(n))
		return nil
	}
	if report := p.sweep(p.s, opts); announced.Load() < report.Deleted || announced.Load() > report.Expired {
		p.Errorf("BeforeBatch was called for %d records by a sweep that deleted %d of %d expired ones, want a number between these",
			announced.Load(), report.Deleted, report.Expired)
	}
}

func ruleSweepSkip(p *sweepProbe) {
	const n = 10
	groups, last := p.expired(n, 3)
	for i, g := range groups[:2] {
		var calls, skipped atomic.Int64
		opts := g.oneByOne(5)
		opts.BeforeBatch = func(_ context.Context, n int) error {
			if calls.Add(1) > 1 && i == 0 {
				return nil
			}
			skipped.Add(int64(n))
			return admin.SkipBatch
		}
		report, err := p.s.Sweep(p.ctx, opts)
		if err != nil {
			p.Errorf("Sweep with a BeforeBatch that returns SkipBatch: got error %v, want none", err)
			continue
		}
		control := []group{groups[2], last}[i]
		got, want := p.left(g), int(skipped.Load())
		if got > want || want > 0 && few(got, p.left(control)*want/n, want) {
			p.Errorf("%d of %d expired records are left after a sweep whose BeforeBatch skipped %d, want those that were skipped", got, n, want)
		}
		if report.Skipped != skipped.Load() {
			p.Errorf("report of a sweep whose BeforeBatch skipped %d records: got Skipped %d", skipped.Load(), report.Skipped)
		}
	}
}

func ruleSweepStop(p *sweepProbe) {
	const n = 10
	stop := errors.New("stop, says BeforeBatch")
	groups, last := p.expired(n, 3)
	for i, g := range groups[:2] {
		var calls atomic.Int64
		opts := g.oneByOne(1)
		opts.BeforeBatch = func(context.Context, int) error {
			if calls.Add(1) > 1 && i == 0 {
				return nil // other batches may run at the same time, but not all of them
			}
			return stop
		}
		opts.OnError = func(error) error { return nil }
		report, err := p.s.Sweep(p.ctx, opts)
		if calls.Load() == 0 {
			continue // the store has dropped the records on its own
		}
		if !errors.Is(err, stop) {
			p.Errorf("Sweep with a BeforeBatch that returns an error: got error %v, want that error", err)
		}
		control := []group{groups[2], last}[i]
		if got, want := p.left(g), p.left(control); few(got, want, n) {
			p.Errorf("after a BeforeBatch returned an error, %d expired records are left, and %d in a group that was not swept; want the sweep to end", got, want)
		}
		if i == 1 && report.Deleted != 0 {
			p.Errorf("report of a sweep whose BeforeBatch returned only errors: got Deleted %d, want 0", report.Deleted)
		}
	}
}

func ruleSweepFailedReport(p *sweepProbe) {
	const n = 9
	stop := errors.New("stop, says BeforeBatch")
	g, control := p.expiredPair(n)
	var calls atomic.Int64
	opts := g.oneByOne(3)
	opts.BeforeBatch = func(context.Context, int) error {
		if calls.Add(1) > 1 {
			return stop
		}
		return nil
	}
	report, err := p.s.Sweep(p.ctx, opts)
	if err == nil {
		return // there was one batch, or none
	}
	gone := n - p.left(g)
	if int(report.Deleted) > gone || gone > 0 && few(int(report.Deleted+report.Failed), p.left(control)*gone/n, gone) {
		p.Errorf("report of a sweep that failed after it had deleted %d records: got Deleted %d", gone, report.Deleted)
	}
}

func ruleSweepReport(p *sweepProbe) {
	const n = 10
	groups, control := p.expired(n, 2)
	opts := groups[0].whole()
	opts.BatchSize = 3
	var least time.Duration // the least Elapsed that shows even on a coarse clock
	first := new(sync.Once)
	opts.BeforeBatch = func(context.Context, int) error {
		first.Do(func() { least = time.Nanosecond; time.Sleep(20 * time.Millisecond) })
		return nil
	}
	report := p.sweep(p.s, opts)
	p.consistent(report, n, p.left(control))
	if report.Elapsed < least {
		p.Errorf("report of a sweep that waited 20 ms in BeforeBatch: got Elapsed %v, want more than 0", report.Elapsed)
	}
	first = new(sync.Once)
	g := groups[1]
	opts.KeyPrefix = g.prefix
	opts.BeforeBatch = func(context.Context, int) error {
		first.Do(func() { // concurrent batches wait for this one
			if _, err := p.b.Save(p.ctx, g.keys[0], p.record("new")); err != nil {
				p.Errorf("Save that creates a record over one that has expired, during a sweep: got error %v, want none", err)
			}
		})
		return nil
	}
	p.consistent(p.sweep(p.s, opts), n, 0)
}

// consistent reports an error unless r is the report of a sweep of n records that
// came to its end and deleted at least least of them.
func (p *sweepProbe) consistent(r admin.Report, n, least int) {
	p.Helper()
	if sum := r.Deleted + r.Kept + r.Skipped + r.Failed; r.Expired != sum {
		p.Errorf("report of a sweep: Deleted, Kept, Skipped and Failed add up to %d, want Expired, %d", sum, r.Expired)
	}
	if r.Scanned < r.Expired {
		p.Errorf("report of a sweep: got Scanned %d and Expired %d, want at least as many scanned", r.Scanned, r.Expired)
	}
	if int(r.Deleted) > n || few(int(r.Deleted), least, n) || r.Skipped != 0 || r.Failed != 0 || r.Elapsed < 0 {
		p.Errorf("report of a sweep of %d expired records, none of which failed or was skipped: got %+v", n, r)
	}
	if r.Checkpoint != nil {
		p.Error("report of a sweep that came to its end: got a Checkpoint, want nil")
	}
}

func ruleSweepProgress(p *sweepProbe) {
	const n = 10
	g, _ := p.expiredPair(n)
	opts := g.whole()
	opts.BatchSize = 3
	var mu sync.Mutex // OnProgress should not need it
	var last admin.Report
	var calls, running atomic.Int64
	opts.OnProgress = func(r admin.Report) {
		if running.Add(1) > 1 {
			p.Error("OnProgress was called by two goroutines at once, want one at a time")
		}
		time.Sleep(time.Millisecond) // let a concurrent call begin
		mu.Lock()
		last = r
		mu.Unlock()
		calls.Add(1)
		running.Add(-1)
	}
	report := p.sweep(p.s, opts)
	if calls.Load() == 0 {
		p.Error("OnProgress was not called by a sweep that came to its end, want at least one call")
	} else if last.Scanned != report.Scanned || last.Deleted != report.Deleted {
		p.Errorf("last call of OnProgress: got %+v, want the report of the sweep, %+v", last, report)
	}
}

func ruleSweepResume(p *sweepProbe) {
	const n = 9
	stop := errors.New("stop, says BeforeBatch")
	g, control := p.expiredPair(n)
	var calls atomic.Int64
	opts := g.oneByOne(8)
	opts.BeforeBatch = func(context.Context, int) error {
		if calls.Add(1) == 2 {
			return stop
		}
		return nil
	}
	report, err := p.s.Sweep(p.ctx, opts)
	if !errors.Is(err, stop) || report.Checkpoint == nil {
		return // there was no second batch, or the backend cannot resume
	}
	other := opts
	other.Resume, other.KeyPrefix = report.Checkpoint, control.prefix
	if _, err := p.s.Sweep(p.ctx, other); err == nil {
		p.Error("Sweep that resumes another, with another KeyPrefix: got no error, want one")
	}
	opts.Resume = report.Checkpoint
	report = p.sweep(p.s, opts)
	if left := p.left(g); left > 0 {
		p.Errorf("%d of %d expired records are left after a sweep that was ended and resumed, want none", left, n)
	}
	if int(report.Deleted) > n || few(int(report.Deleted), p.left(control), n) {
		p.Errorf("report of a sweep of %d expired records that was ended and resumed: got Deleted %d, want all of them", n, report.Deleted)
	}
	if report.Checkpoint != nil {
		p.Error("report of a resumed sweep that came to its end: got a Checkpoint, want nil")
	}
}

func ruleSweepOptions(p *sweepProbe) {
	g, control := p.expiredPair(8)
	for _, c := range []struct {
		name string
		opts admin.SweepOptions
	}{
		{"Grace", admin.SweepOptions{Grace: -time.Nanosecond}},
		{"BatchSize", admin.SweepOptions{Grace: 1, BatchSize: -1}},
		{"Workers", admin.SweepOptions{Grace: 1, Workers: -1}},
	} {
		c.opts.KeyPrefix = g.prefix
		if _, err := p.s.Sweep(p.ctx, c.opts); err == nil {
			p.Errorf("Sweep with a negative %s: got no error, want one", c.name)
		}
	}
	p.intact(g, control, "after sweeps with invalid options")
}

func ruleSweepUnsupported(p *sweepProbe) {
	cases := []struct {
		name string
		set  func(*admin.SweepOptions)
	}{
		{"ReadUnits", func(o *admin.SweepOptions) { o.ReadUnits = 1e6 }},
		{"WriteUnits", func(o *admin.SweepOptions) { o.WriteUnits = 1e6 }},
		{"Foreign", func(o *admin.SweepOptions) { o.Foreign = true }},
		{"Resume", func(o *admin.SweepOptions) { o.Resume = []byte("no checkpoint") }},
	}
	const n = 6
	groups, control := p.expired(n, len(cases))
	for i, c := range cases {
		opts := groups[i].whole()
		c.set(&opts)
		_, err := p.s.Sweep(p.ctx, opts)
		switch {
		case err == nil && c.name == "Resume":
			p.Error("Sweep with a Resume that is no checkpoint: got no error, want one")
		case err == nil:
			if left := p.left(groups[i]); left > 0 {
				p.Errorf("%d of %d expired records are left after a sweep with %s that succeeded, want none", left, n, c.name)
			}
			continue
		case !errors.Is(err, errors.ErrUnsupported) && c.name != "Resume":
			p.Errorf("Sweep with %s: got error %v, want none or one that wraps errors.ErrUnsupported", c.name, err)
		}
		if few(len(p.seen(groups[i].keys)), len(p.seen(control.keys)), n) {
			p.Errorf("a sweep with %s failed and deleted records, want it to fail before the first deletion", c.name)
		}
	}
}

func ruleDoneContextSweep(p *sweepProbe) {
	g, control := p.expiredPair(8)
	for _, ctx := range doneContexts(p.ctx) {
		if _, err := p.s.Sweep(ctx, g.whole()); !errors.Is(err, ctx.Err()) {
			p.Errorf("Sweep with a context that is done: got error %v, want one that wraps %v", err, ctx.Err())
		}
	}
	p.intact(g, control, "after sweeps with a context that is done")
}

func ruleContextEndsSweep(p *sweepProbe) {
	g, control := p.expiredPair(10)
	ctx, cancel := context.WithCancel(p.ctx)
	defer cancel()
	opts := g.oneByOne(2)
	var calls atomic.Int64
	opts.BeforeBatch = func(batch context.Context, _ int) error {
		calls.Add(1)
		cancel()
		<-batch.Done()
		return nil
	}
	var err error
	if !p.ends(func() { _, err = p.s.Sweep(ctx, opts) }) {
		p.Fatalf("a sweep whose BeforeBatch waits for its context has not returned %v after the context of the sweep ended, want it to return promptly", p.patience)
	}
	if calls.Load() == 0 {
		return // the store has dropped the records on its own
	}
	if left := p.left(g); err == nil && left > 0 {
		p.Errorf("Sweep whose context ended: got no error, want one, as %d of %d expired records are left", left, p.left(control))
	}
	if p.fail == nil {
		return
	}
	defer p.fail()()
	ctx, cancel = context.WithCancel(p.ctx)
	time.AfterFunc(20*time.Millisecond, cancel)
	if !p.ends(func() { _, _ = p.s.Sweep(ctx, g.whole()) }) {
		p.Errorf("while the store fails, a sweep has not returned %v after its context ended, want it to return promptly", p.patience)
	}
}

func ruleStoreFailureSweep(p *sweepProbe) {
	g, control := p.expiredPair(8)
	var report admin.Report
	p.failures(func(ctx context.Context) []namedCall {
		return []namedCall{{"Sweep", func() (err error) { report, err = p.s.Sweep(ctx, g.whole()); return err }}}
	})
	if report.Deleted != 0 {
		p.Errorf("report of a sweep while the store fails: got Deleted %d, want 0", report.Deleted)
	}
	p.intact(g, control, "after a sweep while the store failed")
}

func ruleSweepOnError(p *sweepProbe) {
	g, _ := p.expiredPair(8)
	ctx, cancel := context.WithTimeout(p.ctx, 2*time.Second)
	defer cancel()
	end := errors.New("end, says OnError")
	opts := g.oneByOne(3)
	var calls atomic.Int64
	opts.OnError = func(err error) error {
		if calls.Add(1); err == nil {
			p.Error("OnError was called with nil, want an error")
		}
		return end
	}
	restore := p.fail()
	_, err := p.s.Sweep(ctx, opts)
	late := ctx.Err() != nil || errors.Is(err, context.DeadlineExceeded)
	restore()
	switch {
	case calls.Load() == 0 && late:
		// The sweep spent its time on retries.
	case calls.Load() == 0:
		p.Errorf("OnError was not called by a sweep while the store failed, which ended with %v; want a call", err)
	case !errors.Is(err, end) && !late:
		p.Errorf("Sweep with an OnError that returns an error, while the store fails: got error %v, want that error", err)
	}
}

func ruleSweepGoesOn(p *sweepProbe) {
	const n, batch = 12, 4
	g, control := p.expiredPair(n)
	ctx, cancel := context.WithTimeout(p.ctx, 2*time.Second)
	defer cancel()
	var mu sync.Mutex // guards restore
	restore, broken := func() {}, false
	mend := func() {
		mu.Lock()
		defer mu.Unlock()
		restore()
		restore = func() {}
	}
	var batches, failures atomic.Int64
	opts := g.oneByOne(batch)
	opts.BeforeBatch = func(_ context.Context, n int) error {
		batches.Add(1)
		mu.Lock()
		defer mu.Unlock()
		if !broken { // now that the sweep has found records
			broken, restore = true, p.fail()
		}
		return nil
	}
	opts.OnError = func(error) error {
		failures.Add(1)
		mend()
		return nil
	}
	_, err := p.s.Sweep(ctx, opts)
	late := ctx.Err() != nil
	mend()
	if failures.Load() == 0 || late {
		return // rule SweepOnError reports it, or the store hangs
	}
	if err != nil {
		p.Errorf("Sweep with an OnError that returns nil, while the store fails for a moment: got error %v, want none", err)
	}
	if left := p.left(g); batches.Load() == 1 && left > batch && p.left(control) == n {
		p.Errorf("%d of %d expired records are left after a sweep with one error, for which OnError returned nil; want at most a batch, %d", left, n, batch)
	}
}
