package conformance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/admin"
)

// wantsSweeper is the rule for a backend that has to be a Sweeper.
var wantsSweeper = backendRule{name: "Sweeper", run: ruleSweeper, quotes: []string{
	"Sweeper is an optional interface of a session.Backend that can delete its expired records on demand.",
}}

// sweeperRules are the rules of admin.Sweeper, for a backend that is one.
var sweeperRules = []backendRule{
	{name: "Sweep", run: sweeping(ruleSweep), waits: true, quotes: []string{
		"Sweep deletes the records that expired at least opts.Grace ago.",
		everyRecord,
	}},
	{name: "SweepLive", run: sweeping(ruleSweepLive), waits: true, quotes: []string{
		"It MUST NOT delete a record that is live, or whose lock is live, at the moment of the deletion.",
	}},
	{name: "SweepRenewed", run: sweeping(ruleSweepRenewed), waits: true, quotes: []string{
		"at the moment of the deletion. On a store that others write to, each deletion carries that condition, " +
			"because a record may have changed since the sweep found it.",
	}},
	{name: "SweepGrace", run: sweeping(ruleSweepGrace), waits: true, quotes: []string{
		"Sweep deletes the records that expired at least opts.Grace ago.",
		"Grace is the time that must have passed since a record expired.",
		"Default 5 min. The least is 1 ns.",
	}},
	{name: "SweepKeyPrefix", run: sweeping(ruleSweepKeyPrefix), waits: true, quotes: []string{
		"It MUST leave alone the keys that do not begin with opts.KeyPrefix",
		"Default \"\", every key.",
	}},
	{name: "SweepFraction", run: sweeping(ruleSweepFraction), waits: true, wide: true, quotes: []string{
		"Sweep deletes the records that expired at least opts.Grace ago.",
	}},
	{name: "SweepPattern", run: sweeping(ruleSweepPattern), waits: true, wide: true, quotes: []string{
		"It MUST leave alone the keys that do not begin with opts.KeyPrefix",
	}},
	{name: "SweepDryRun", run: sweeping(ruleSweepDryRun), waits: true, quotes: []string{
		"With opts.DryRun it MUST change nothing, and count what it would delete.",
	}},
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
	{name: "RaceSweep", run: sweeping(ruleRaceSweep), quotes: []string{
		"It MUST NOT delete a record that is live, or whose lock is live, at the moment of the deletion.",
	}},
}

// sweptLockRules are for a backend that is a Sweeper and a LockingBackend.
var sweptLockRules = []backendRule{
	{name: "SweepLocked", run: sweeping(ruleSweepLocked), waits: true, quotes: []string{
		"It MUST NOT delete a record that is live, or whose lock is live, at the moment of the deletion.",
	}},
	{name: "SweepLeaseOver", run: sweeping(ruleSweepLeaseOver), waits: true, quotes: []string{everyRecord}},
}

const everyRecord = "It MUST delete every record that had expired by then when the sweep began, unless somebody writes the record meanwhile."

func canFail(b Backend) bool { return b.Fail != nil }

// sweepProbe is what a rule about a Sweeper works with: the two clients of
// probe, once more.
type sweepProbe struct {
	*probe
	s, otherS admin.Sweeper
}

func sweeping(run func(*sweepProbe)) func(*probe) {
	return func(p *probe) {
		p.Helper()
		if _, ok := p.raw.b.(admin.Sweeper); !ok {
			p.Fatalf("New returned a %T that is no admin.Sweeper, and one that is before", p.raw.b)
		}
		if _, ok := p.raw.other.(admin.Sweeper); !ok {
			p.Fatalf("Reopen returned a %T that is no admin.Sweeper, of a %T that is", p.raw.other, p.raw.b)
		}
		run(&sweepProbe{p, p.b.(admin.Sweeper), p.other.(admin.Sweeper)})
	}
}

// group is a number of records that expire together.
type group struct {
	prefix string
	keys   []string
}

// A store may drop what has expired at any time, and Load may hide it. So
// rules make groups of equal records, of which one is not swept. If most of
// another is missing, and most of that one is not, the sweep was it.

// expired makes groups of n records, and returns when they have expired.
func (p *sweepProbe) expired(n, groups int) (swept []group, control group) {
	p.Helper()
	all := make([]group, groups+1)
	soon := p.soon()
	for i := range n {
		for j := range all {
			g := &all[j]
			g.prefix = p.key(fmt.Sprintf("group %d/", j))
			g.keys = append(g.keys, fmt.Sprint(g.prefix, i))
			p.save(g.keys[i], expiring(p.record("old"), soon))
		}
	}
	p.wait(soon)
	return all[:groups], all[groups]
}

func (p *sweepProbe) expiredPair(n int) (swept, control group) {
	p.Helper()
	groups, control := p.expired(n, 1)
	return groups[0], control
}

// whole is a sweep of a group for as long as it takes.
func (g group) whole() admin.SweepOptions {
	return admin.SweepOptions{KeyPrefix: g.prefix, Grace: 1, Segments: 2, Workers: 2}
}

// oneByOne makes what happens in a sweep follow an order, as far as the
// backend knows of one.
func (g group) oneByOne(batch int) admin.SweepOptions {
	opts := g.whole()
	opts.BatchSize, opts.Workers, opts.Segments = batch, 1, 1
	return opts
}

// sweep is a Sweep that must succeed.
func (p *sweepProbe) sweep(s admin.Sweeper, opts admin.SweepOptions) admin.Report {
	p.Helper()
	report, err := s.Sweep(p.ctx, opts)
	if err != nil {
		p.Fatalf("Sweep: %v", err)
	}
	return report
}

// seen returns those of keys that Load shows, expired or not.
func (p *sweepProbe) seen(keys []string) []string {
	p.Helper()
	var seen []string
	for _, key := range keys {
		_, err := p.b.Load(p.ctx, key)
		if err == nil {
			seen = append(seen, key)
		} else if !errors.Is(err, session.ErrNotFound) {
			p.Errorf("Load: %v", err)
		}
	}
	return seen
}

// left returns how many records of g are in the store. Where Load hides what
// has expired, it takes a sweep to count them. It is for the end of a rule.
func (p *sweepProbe) left(g group) int {
	p.Helper()
	if n := len(p.seen(g.keys)); n > 0 {
		return n
	}
	return int(p.sweep(p.s, g.whole()).Deleted)
}

// few tells whether got of n records are so few, and those of the control
// group so many, that a store which drops some by itself is no explanation.
func few(got, control, n int) bool { return 8*got <= n && 8*control >= 7*n }

// intact complains if records of g are missing and those of control are not.
func (p *sweepProbe) intact(g, control group, after string) {
	p.Helper()
	if got, want := p.left(g), p.left(control); few(got, want, len(g.keys)) {
		p.Errorf("%s: %d of %d expired records are left", after, got, want)
	}
}

func ruleSweeper(p *probe) {
	if _, ok := p.raw.b.(admin.Sweeper); !ok {
		p.Errorf("WantsSweeper is set, and %T is no admin.Sweeper", p.raw.b)
	}
}

func ruleSweep(p *sweepProbe) {
	for i, ago := range []time.Duration{time.Minute, time.Hour, 30 * 24 * time.Hour, 20 * 365 * 24 * time.Hour} {
		p.save(p.key(fmt.Sprint("group 0/dead ", i)), expiring(p.record(""), p.now().Add(-ago)))
	}
	g, control := p.expiredPair(12)
	for i := range 4 {
		g.keys = append(g.keys, p.key(fmt.Sprint("group 0/dead ", i)))
	}
	for i, s := range []admin.Sweeper{p.otherS, p.s} {
		opts := g.whole()
		opts.BatchSize = 5
		report := p.sweep(s, opts)
		if left := p.seen(g.keys); len(left) > 0 {
			p.Errorf("%d of %d expired records are there after a sweep", len(left), len(g.keys))
		}
		if i == 0 && few(int(report.Deleted), p.left(control), len(control.keys)) {
			p.Errorf("a sweep of %d expired records says that it has deleted %d", len(g.keys), report.Deleted)
		}
	}
	if again := p.sweep(p.s, g.whole()); again.Deleted != 0 {
		p.Errorf("a sweep has left %d of %d expired records to the next", again.Deleted, len(g.keys))
	}
}

func ruleSweepLive(p *sweepProbe) {
	suffix, soon := p.inTime(func(suffix string, soon time.Time) error {
		touched, replaced := p.key(suffix+"/touched"), p.key(suffix+"/replaced")
		p.save(touched, expiring(p.record("1"), soon))
		v := p.save(replaced, expiring(p.record("1"), soon))
		return errors.Join(p.b.Touch(p.ctx, touched, p.later()), second(p.b.Save(p.ctx, replaced, replacing(p.record("2"), v))))
	})
	rec := p.record("1")
	rec.Created = p.now().Add(-365 * 24 * time.Hour)
	p.save(p.key(suffix+"/begun long ago"), rec)
	p.save(p.key(suffix+"/created again"), expiring(p.record("1"), p.now().Add(-time.Hour)))
	p.save(p.key(suffix+"/created again"), p.record("2"))
	p.wait(soon)
	before := map[string]session.Record{}
	for _, name := range []string{"/touched", "/replaced", "/begun long ago", "/created again"} {
		before[name] = p.load(p.key(suffix + name))
	}
	report := p.sweep(p.s, group{prefix: p.key(suffix + "/")}.whole())
	for name, rec := range before {
		p.unchanged(p.key(suffix+name), rec, "a sweep of a live record that was "+name[1:])
	}
	if report.Deleted != 0 {
		p.Errorf("a sweep of live records says that it has deleted %d", report.Deleted)
	}
}

func ruleSweepRenewed(p *sweepProbe) {
	g, _ := p.expiredPair(8)
	opts := g.whole()
	opts.BatchSize = 3
	var renew sync.Once
	opts.BeforeBatch = func(context.Context, int) error {
		renew.Do(func() { // and batches at the same time wait
			for _, key := range g.keys {
				if _, err := p.b.Save(p.ctx, key, p.record("new")); err != nil {
					p.Errorf("creating a record over one that has expired: %v", err)
				}
			}
		})
		return nil
	}
	report := p.sweep(p.s, opts)
	idle := false
	renew.Do(func() { idle = true })
	if idle {
		return // the store has dropped them by itself
	}
	for _, key := range g.keys {
		if !p.alive(key) {
			p.Fatal("a sweep has deleted a record that had expired when it was found, and was live when it was deleted")
		}
	}
	if report.Deleted != 0 {
		p.Errorf("a sweep, during which all records were created again, says that it has deleted %d", report.Deleted)
	}
}

func ruleSweepGrace(p *sweepProbe) {
	const each = 6
	ages := []time.Duration{time.Minute, 10 * time.Minute, time.Hour, 3 * time.Hour}
	soon := p.soon()
	var swept, spared []string // each of an age, the youngest first
	for _, ago := range ages {
		for i := range each {
			for prefix, keys := range map[string]*[]string{"dead/": &swept, "spared/": &spared} {
				*keys = append(*keys, p.key(fmt.Sprint(prefix, ago, i)))
				p.save((*keys)[len(*keys)-1], expiring(p.record("1"), soon.Add(-ago)))
			}
		}
	}
	g, control := p.expiredPair(8)
	for _, c := range []struct {
		grace time.Duration
		name  string
		kept  int // of ages
	}{
		{2 * time.Hour, "2h", 3},
		{0, "the default, 5m,", 1},
	} {
		opts := g.whole()
		opts.Grace = c.grace
		p.sweep(p.s, opts)
		opts.KeyPrefix = p.key("dead/")
		p.sweep(p.s, opts)
		if old := p.seen(swept[each*c.kept:]); len(old) > 0 {
			p.Errorf("with a Grace of %s, a record that expired %v or longer ago is there after a sweep", c.name, ages[c.kept])
		}
		last := each * (c.kept - 1)
		got, want := p.seen(swept[last:last+each]), p.seen(spared[last:last+each])
		if few(len(got), len(want), each) {
			p.Errorf("with a Grace of %s, a sweep has deleted records that expired %v ago", c.name, ages[c.kept-1])
		}
	}
	p.intact(g, control, "after sweeps of records that expired a moment ago, with a Grace of minutes")
}

func ruleSweepKeyPrefix(p *sweepProbe) {
	const n = 4
	prefix := p.key("a/")
	soon := p.soon()
	dead := func(names ...string) (keys []string) {
		for _, name := range names {
			key := p.key(name)
			p.save(key, expiring(p.record("1"), soon))
			keys = append(keys, key)
		}
		return keys
	}
	ours := dead("a/", "a/b", "a/a/", "a/%")
	others := dead("a", "A/", "A/b", "b/"+prefix, "ab", "%", "a%", "a\\/")
	p.wait(soon)
	opts := group{}.whole()
	opts.DryRun = true
	all := p.sweep(p.s, opts)
	if seen := len(p.seen(ours)) + len(p.seen(others)); int(all.Scanned) < seen {
		p.Errorf("without a KeyPrefix, a dry run has looked at %d records; there are %d or more", all.Scanned, seen)
	}
	report := p.sweep(p.s, group{prefix: prefix}.whole())
	if report.Deleted > n {
		p.Errorf("a sweep says that it has deleted %d records, of which %d begin with KeyPrefix", report.Deleted, n)
	}
}

// ruleSweepFraction is about a Grace that is no whole seconds.
func ruleSweepFraction(p *sweepProbe) {
	const n = 6
	soon := p.soon()
	groups := map[string]group{}
	for _, name := range []string{"early", "spared", "late"} {
		g := group{prefix: p.key(name + "/")}
		for i := range n {
			g.keys = append(g.keys, fmt.Sprint(g.prefix, i))
			p.save(g.keys[i], expiring(p.record("old"), soon))
		}
		groups[name] = g
	}
	control := groups["spared"]
	p.wait(soon)
	// Just now: 0.9 seconds are not over. If they are, on a machine that is
	// busy, there is nothing to see.
	opts := groups["early"].whole()
	opts.Grace = 900 * time.Millisecond
	if p.now().Sub(soon) < 200*time.Millisecond {
		p.sweep(p.s, opts)
		if p.now().Sub(soon) < opts.Grace {
			p.intact(groups["early"], control, "after a sweep of what expired a moment ago, with a Grace of 0.9 s")
		}
	}
	// And 1.1 seconds are.
	p.wait(soon.Add(1150 * time.Millisecond))
	opts = groups["late"].whole()
	opts.Grace = 1100 * time.Millisecond
	p.sweep(p.s, opts)
	if left := p.seen(groups["late"].keys); len(left) > 0 {
		p.Errorf("%d of %d records that expired more than 1.1 s ago are there after a sweep with that Grace", len(left), n)
	}
}

// ruleSweepPattern is about a KeyPrefix that is a pattern elsewhere.
func ruleSweepPattern(p *sweepProbe) {
	const n = 4
	var all []group
	soon := p.soon()
	patterns := [][2]string{
		{"*", "zz"}, {"?", "z"}, {"[yz]", "z"}, {"%", "zz"}, {"_", "z"}, {".", "z"}, {".*", "zz"}, {"z+", "zz"}, {"\\z", "z"}, {"(z)", "z"}, {"z|y", "y"},
	}
	save := func(prefix string) group {
		g := group{prefix: prefix}
		for i := range n {
			g.keys = append(g.keys, fmt.Sprint(prefix, i))
			p.save(g.keys[i], expiring(p.record("old"), soon))
		}
		return g
	}
	for i, pattern := range patterns {
		all = append(all, save(p.key(fmt.Sprintf("%d/%s/", i, pattern[1]))))
		save(p.key(fmt.Sprintf("%d/%s/", i, pattern[0])))
	}
	control := save(p.key("control/"))
	p.wait(soon)
	for i, pattern := range patterns {
		prefix := p.key(fmt.Sprintf("%d/%s/", i, pattern[0]))
		report := p.sweep(p.s, group{prefix: prefix}.whole())
		if report.Deleted > n {
			p.Errorf("a sweep of keys that begin with one that ends in %q has deleted %d records; there were %d", pattern[0], report.Deleted, n)
		}
		var left []string
		for j := range n {
			left = append(left, fmt.Sprint(prefix, j))
		}
		if left = p.seen(left); len(left) > 0 {
			p.Errorf("a sweep of keys that begin with one that ends in %q has left %d of %d", pattern[0], len(left), n)
		}
		if p.intact(all[i], control, fmt.Sprintf("a sweep of keys that begin with one that ends in %q, which matches others as a pattern", pattern[0])); p.Failed() {
			return
		}
	}
}

func ruleSweepDryRun(p *sweepProbe) {
	const n = 8
	g, control := p.expiredPair(n)
	opts := g.oneByOne(1)
	opts.DryRun = true
	report := p.sweep(p.s, opts)
	got, want := p.left(g), p.left(control)
	if few(got, want, n) {
		p.Errorf("after a dry run, %d of %d expired records are left", got, want)
	}
	if few(int(report.Deleted), want, n) || report.Deleted > n {
		p.Errorf("a dry run says that it would delete %d records of %d that have expired", report.Deleted, n)
	}
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
func (p *sweepProbe) consistent(r admin.Report, n, least int) {
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
	var last admin.Report
	var calls, running atomic.Int64
	opts.OnProgress = func(r admin.Report) {
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
	var report admin.Report
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

// lock locks records that expire soon, and returns when they have; false if
// they had before, on a machine that is slow.
func (p *sweepProbe) lock(ttl time.Duration, keys ...string) bool {
	p.Helper()
	soon := p.soon()
	for _, key := range keys {
		p.save(key, expiring(p.record("1"), soon))
		switch _, err := p.b.(session.LockingBackend).Acquire(p.ctx, key, ttl); {
		case errors.Is(err, session.ErrNotFound):
			return false
		case err != nil:
			p.Fatalf("Acquire: %v", err)
		}
	}
	over := p.now().Add(ttl)
	p.wait(soon)
	if ttl != long {
		p.wait(over)
	}
	return true
}

func ruleSweepLocked(p *sweepProbe) {
	var keys [2][]string // of which those of the second are not swept
	prefix := p.key("swept/")
	for i := range 6 {
		keys[0] = append(keys[0], fmt.Sprint(prefix, i))
		keys[1] = append(keys[1], p.key(fmt.Sprint("spared/", i)))
	}
	if !p.lock(long, slices.Concat(keys[0], keys[1])...) {
		return
	}
	var locked int // says Load
	for _, key := range p.seen(keys[0]) {
		if rec, err := p.b.Load(p.ctx, key); err == nil && rec.LockedUntil.After(p.now()) {
			locked++
		}
	}
	report := p.sweep(p.s, group{prefix: prefix}.whole())
	if report.Deleted != 0 {
		p.Errorf("a sweep of expired records with live locks says that it has deleted %d", report.Deleted)
	}
	if locked > 0 && few(len(p.seen(keys[0])), len(p.seen(keys[1])), locked) {
		p.Errorf("a sweep has deleted expired records with live locks")
	}
}

func ruleSweepLeaseOver(p *sweepProbe) {
	key := p.key("lease over")
	if !p.lock(p.brief(), key) {
		return
	}
	p.sweep(p.s, group{prefix: p.prefix}.whole())
	if len(p.seen([]string{key})) > 0 {
		p.Error("an expired record is there after a sweep, and the lease of its lock is over")
	}
}

func ruleRaceSweep(p *sweepProbe) {
	const rounds = 12
	for round := range rounds {
		opts := group{prefix: p.prefix}.whole()
		found := make(chan struct{}, 1)
		opts.BeforeBatch = func(context.Context, int) error {
			select {
			case found <- struct{}{}:
			default:
			}
			return nil
		}
		var keys []string
		for range 6 {
			key := p.freshKey()
			p.save(key, expiring(p.record("old"), p.now().Add(-time.Hour)))
			keys = append(keys, key)
		}
		var wg sync.WaitGroup
		wg.Add(2)
		go func() {
			defer wg.Done()
			if _, err := p.otherS.Sweep(p.ctx, opts); err != nil {
				p.Errorf("Sweep: %v", err)
			}
		}()
		go func() {
			defer wg.Done()
			if round%4 > 0 { // or at once
				soon(found)
			}
			for _, key := range keys {
				if _, err := p.b.Save(p.ctx, key, p.record("new")); err != nil {
					p.Errorf("creating a record over one that has expired: %v", err)
				}
			}
		}()
		wg.Wait()
		for _, key := range keys {
			if !p.alive(key) {
				p.Fatal("a sweep has deleted a record that was created over one that had expired")
			}
		}
	}
}
