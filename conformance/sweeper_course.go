package conformance

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-a7bee19b/session/admin"
)

// sweepCourseRules are about the course of a sweep: what it calls, what it reports,
// and how it ends and goes on.
var sweepCourseRules = []backendRule{
	{name: "SweepBeforeBatch", run: sweeping(ruleSweepBeforeBatch), waits: true, quotes: []string{
		"It MUST call opts.BeforeBatch before the first deletion of each batch,",
		"BeforeBatch is called before a batch of n records is deleted, which were found to be expired;",
	}},
	{name: "SweepSkip", run: sweeping(ruleSweepSkip), waits: true, quotes: []string{
		"leave the batch alone after SkipBatch,",
	}},
	{name: "SweepStop", run: sweeping(ruleSweepStop), waits: true, quotes: []string{
		"and end after any other error, with that error.",
	}},
	{name: "SweepFailedReport", run: sweeping(ruleSweepFailedReport), waits: true, quotes: []string{
		"When it fails, the report says what was done until then.",
	}},
	{name: "SweepReport", run: sweeping(ruleSweepReport), waits: true, quotes: []string{
		"SweepReport is what a sweep has done.",
		"nil once it has come to its end, and from a backend that cannot resume.",
	}},
	{name: "SweepProgress", run: sweeping(ruleSweepProgress), waits: true, quotes: []string{
		"OnProgress is called every now and then, at least every second if anything was done, and at the end. " +
			"It is never called by two goroutines at once, and the sweep waits for it.",
	}},
	{name: "SweepResume", run: sweeping(ruleSweepResume), waits: true, quotes: []string{
		"The sweep then goes on from there, with the options that it was begun with as far as they decide what is deleted; " +
			"others in these options are an error.",
		"After a Resume it counts from the beginning of the sweep,",
		everyRecord,
	}},
	{name: "SweepOptions", run: sweeping(ruleSweepOptions), waits: true, quotes: []string{
		"Backends begin Sweep with it.",
	}},
	{name: "SweepUnsupported", run: sweeping(ruleSweepUnsupported), waits: true, quotes: []string{
		"Options that it cannot follow MUST be refused with an error that wraps errors.ErrUnsupported, before anything is deleted.",
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
		"Without OnError it MUST end at the first.",
	}, needs: canFail, own: true},
	{name: "SweepOnError", run: sweeping(ruleSweepOnError), waits: true, quotes: []string{
		"It MUST hand opts.OnError each error that cost it a page or a record,",
		"else it ends with what OnError returns.",
	}, needs: canFail, own: true},
	{name: "SweepGoesOn", run: sweeping(ruleSweepGoesOn), waits: true, quotes: []string{
		"It MUST hand opts.OnError each error that cost it a page or a record, and go on after a nil from it, as far as it knows what comes next: " +
			"the records of a page that could not be read are in no count of the report, and the sweep has not come to its end.",
		"If it returns nil the sweep goes on, and does not return that error at its end;",
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
		first.Do(func() { // and batches at the same time wait
			got := len(p.seen(before))
			if len(before) > 0 && few(got, len(p.seen(inControl)), len(before)) {
				p.Errorf("at the first call of BeforeBatch, %d of %d expired records were left", got, len(before))
			}
		})
		if n < 1 {
			p.Errorf("BeforeBatch was called for a batch of %d records", n)
		}
		announced.Add(int64(n))
		return nil
	}
	if report := p.sweep(p.s, opts); announced.Load() < report.Deleted || announced.Load() > report.Expired {
		p.Errorf("a sweep has found %d expired records and deleted %d, and called BeforeBatch for %d",
			report.Expired, report.Deleted, announced.Load())
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
			p.Errorf("a sweep of which a batch was skipped: %v", err)
			continue
		}
		control := []group{groups[2], last}[i]
		got, want := p.left(g), int(skipped.Load())
		if got > want || want > 0 && few(got, p.left(control)*want/n, want) {
			p.Errorf("%d of %d records are left after a sweep of which %d were skipped", got, n, want)
		}
		if report.Skipped != skipped.Load() {
			p.Errorf("the report says that %d records were skipped, BeforeBatch has skipped %d", report.Skipped, skipped.Load())
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
				return nil // there may be more batches under way, but not all
			}
			return stop
		}
		opts.OnError = func(error) error { return nil }
		report, err := p.s.Sweep(p.ctx, opts)
		if calls.Load() == 0 {
			continue // the store has dropped them by itself
		}
		if !errors.Is(err, stop) {
			p.Errorf("BeforeBatch returned an error: the sweep ended with %v, want that error", err)
		}
		control := []group{groups[2], last}[i]
		if got, want := p.left(g), p.left(control); few(got, want, n) {
			p.Errorf("BeforeBatch returned an error: %d of %d expired records are left", got, want)
		}
		if i == 1 && report.Deleted != 0 {
			p.Errorf("BeforeBatch returned only errors: the report says that %d records were deleted", report.Deleted)
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
		return // it was one batch, or there is none
	}
	gone := n - p.left(g)
	if int(report.Deleted) > gone || gone > 0 && few(int(report.Deleted+report.Failed), p.left(control)*gone/n, gone) {
		p.Errorf("a sweep that was ended has deleted %d records; its report says %d", gone, report.Deleted)
	}
}

func ruleSweepReport(p *sweepProbe) {
	const n = 10
	groups, control := p.expired(n, 2)
	opts := groups[0].whole()
	opts.BatchSize = 3
	var least time.Duration // of Elapsed: clocks may be coarse, and sweeps quick
	first := new(sync.Once)
	opts.BeforeBatch = func(context.Context, int) error {
		first.Do(func() { least = time.Nanosecond; time.Sleep(20 * time.Millisecond) })
		return nil
	}
	report := p.sweep(p.s, opts)
	p.consistent(report, n, p.left(control))
	if report.Elapsed < least {
		p.Errorf("a sweep of which a batch waited 20 ms in BeforeBatch says that it took %v", report.Elapsed)
	}
	first = new(sync.Once)
	g := groups[1]
	opts.KeyPrefix = g.prefix
	opts.BeforeBatch = func(context.Context, int) error {
		first.Do(func() { // and batches at the same time wait
			if _, err := p.b.Save(p.ctx, g.keys[0], p.record("new")); err != nil {
				p.Errorf("creating a record over one that has expired: %v", err)
			}
		})
		return nil
	}
	p.consistent(p.sweep(p.s, opts), n, 0)
}

// consistent looks at the report of a sweep of n records, of which least were
// to be deleted, and that has come to its end.
func (p *sweepProbe) consistent(r admin.SweepReport, n, least int) {
	p.Helper()
	if sum := r.Deleted + r.Kept + r.Skipped + r.Failed; r.Expired != sum {
		p.Errorf("Deleted, Kept, Skipped and Failed are %d together, and Expired is %d", sum, r.Expired)
	}
	if r.Scanned < r.Expired {
		p.Errorf("of %d records that were looked at, %d had expired", r.Scanned, r.Expired)
	}
	if int(r.Deleted) > n || few(int(r.Deleted), least, n) || r.Skipped != 0 || r.Failed != 0 || r.Elapsed < 0 {
		p.Errorf("after a sweep of %d expired records, of which none failed or was skipped, the report is %+v", n, r)
	}
	if r.Checkpoint != nil {
		p.Error("a sweep that has come to its end has a Checkpoint")
	}
}

func ruleSweepProgress(p *sweepProbe) {
	const n = 10
	g, _ := p.expiredPair(n)
	opts := g.whole()
	opts.BatchSize = 3
	var mu sync.Mutex // in case that it is needed, after all
	var last admin.SweepReport
	var calls, running atomic.Int64
	opts.OnProgress = func(r admin.SweepReport) {
		if running.Add(1) > 1 {
			p.Error("OnProgress was called by two goroutines at once")
		}
		time.Sleep(time.Millisecond) // for others to come in
		mu.Lock()
		last = r
		mu.Unlock()
		calls.Add(1)
		running.Add(-1)
	}
	report := p.sweep(p.s, opts)
	if calls.Load() == 0 {
		p.Error("OnProgress was not called")
	} else if last.Scanned != report.Scanned || last.Deleted != report.Deleted {
		p.Errorf("at the end, OnProgress was told %+v, and the report is %+v", last, report)
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
		return // it had nothing to end, or cannot resume
	}
	other := opts
	other.Resume, other.KeyPrefix = report.Checkpoint, control.prefix
	if _, err := p.s.Sweep(p.ctx, other); err == nil {
		p.Error("a sweep was resumed with another KeyPrefix: no error")
	}
	opts.Resume = report.Checkpoint
	report = p.sweep(p.s, opts)
	if left := p.left(g); left > 0 {
		p.Errorf("%d of %d expired records are left after a sweep that was ended and resumed", left, n)
	}
	if int(report.Deleted) > n || few(int(report.Deleted), p.left(control), n) {
		p.Errorf("a sweep of %d records that was ended and resumed says that it has deleted %d", n, report.Deleted)
	}
	if report.Checkpoint != nil {
		p.Error("a resumed sweep that has come to its end has a Checkpoint")
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
			p.Errorf("a sweep with a negative %s: no error", c.name)
		}
	}
	p.intact(g, control, "after sweeps with options that are not valid")
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
			p.Error("a sweep was resumed from what is no checkpoint: no error")
		case err == nil:
			if left := p.left(groups[i]); left > 0 {
				p.Errorf("a sweep with %s has left %d of %d expired records", c.name, left, n)
			}
			continue
		case !errors.Is(err, errors.ErrUnsupported) && c.name != "Resume":
			p.Errorf("a sweep with %s: got error %v, want none, or one that wraps errors.ErrUnsupported", c.name, err)
		}
		if few(len(p.seen(groups[i].keys)), len(p.seen(control.keys)), n) {
			p.Errorf("a sweep with %s failed, and has deleted records", c.name)
		}
	}
}

func ruleDoneContextSweep(p *sweepProbe) {
	g, control := p.expiredPair(8)
	for _, ctx := range doneContexts(p.ctx) {
		if _, err := p.s.Sweep(ctx, g.whole()); !errors.Is(err, ctx.Err()) {
			p.Errorf("with a done context: got error %v, want one that wraps %v", err, ctx.Err())
		}
	}
	p.intact(g, control, "after sweeps with a done context")
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
		p.Fatalf("a sweep has not returned %v after its context ended, which BeforeBatch waits for", p.patience)
	}
	if calls.Load() == 0 {
		return // the store has dropped them by itself
	}
	if left := p.left(g); err == nil && left > 0 {
		p.Errorf("the context ended during a sweep: no error, and %d of %d expired records are left", left, p.left(control))
	}
	if p.fail == nil {
		return
	}
	defer p.fail()()
	ctx, cancel = context.WithCancel(p.ctx)
	time.AfterFunc(20*time.Millisecond, cancel)
	if !p.ends(func() { _, _ = p.s.Sweep(ctx, g.whole()) }) {
		p.Errorf("while the store fails, a sweep has not returned %v after its context ended", p.patience)
	}
}

func ruleStoreFailureSweep(p *sweepProbe) {
	g, control := p.expiredPair(8)
	var report admin.SweepReport
	p.failures(func(ctx context.Context) []namedCall {
		return []namedCall{{"Sweep", func() (err error) { report, err = p.s.Sweep(ctx, g.whole()); return err }}}
	})
	if report.Deleted != 0 {
		p.Errorf("a sweep while the store failed says that it has deleted %d records", report.Deleted)
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
			p.Error("OnError was called with nil")
		}
		return end
	}
	restore := p.fail()
	_, err := p.s.Sweep(ctx, opts)
	late := ctx.Err() != nil || errors.Is(err, context.DeadlineExceeded)
	restore()
	switch {
	case calls.Load() == 0 && late:
		// The time was up, or not enough was left, before the retries were.
	case calls.Load() == 0:
		p.Errorf("while the store failed, a sweep ended with %v, and OnError was not called", err)
	case !errors.Is(err, end) && !late:
		p.Errorf("OnError returned an error: the sweep ended with %v, want that error", err)
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
		if !broken { // only now, as something was found
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
		return // OnError has a rule of its own; and some stores hang
	}
	if err != nil {
		p.Errorf("OnError returned nil each time: the sweep ended with %v", err)
	}
	if left := p.left(g); batches.Load() == 1 && left > batch && p.left(control) == n {
		p.Errorf("after an error of which OnError said to go on, %d of %d expired records are left", left, n)
	}
}
