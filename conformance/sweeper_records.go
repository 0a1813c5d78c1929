package conformance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/admin"
)

// sweptRules are about the records that a sweep deletes, and those that it leaves
// alone.
var sweptRules = []backendRule{
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
			p.Errorf("Load after a sweep of %d expired records: got %d of them, want none", len(g.keys), len(left))
		}
		if i == 0 && few(int(report.Deleted), p.left(control), len(control.keys)) {
			p.Errorf("report of a sweep of %d expired records: got Deleted %d, want all of them", len(g.keys), report.Deleted)
		}
	}
	if again := p.sweep(p.s, g.whole()); again.Deleted != 0 {
		p.Errorf("a second sweep of %d expired records deleted %d, want the first one to delete all", len(g.keys), again.Deleted)
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
		p.unchanged(p.key(suffix+name), rec, "a sweep, of a live record that was "+name[1:]+",")
	}
	if report.Deleted != 0 {
		p.Errorf("report of a sweep of live records: got Deleted %d, want 0", report.Deleted)
	}
}

func ruleSweepRenewed(p *sweepProbe) {
	g, _ := p.expiredPair(8)
	opts := g.whole()
	opts.BatchSize = 3
	var renew sync.Once
	opts.BeforeBatch = func(context.Context, int) error {
		renew.Do(func() { // concurrent batches wait for this one
			for _, key := range g.keys {
				if _, err := p.b.Save(p.ctx, key, p.record("new")); err != nil {
					p.Errorf("Save that creates a record over one that has expired, during a sweep: got error %v, want none", err)
				}
			}
		})
		return nil
	}
	report := p.sweep(p.s, opts)
	idle := false
	renew.Do(func() { idle = true })
	if idle {
		return // the store has dropped the records on its own
	}
	for _, key := range g.keys {
		if !p.alive(key) {
			p.Fatal("a sweep deleted a record that had expired when it was found and was live by the time of the deletion, want it left alone")
		}
	}
	if report.Deleted != 0 {
		p.Errorf("report of a sweep during which all records were created again: got Deleted %d, want 0", report.Deleted)
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
	g, control := p.expiredPair(16)
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
			p.Errorf("Load after a sweep with a Grace of %s: got %d records that expired %v ago or earlier, want none", c.name, len(old), ages[c.kept])
		}
		last := each * (c.kept - 1)
		got, want := p.seen(swept[last:last+each]), p.seen(spared[last:last+each])
		if few(len(got), len(want), each) {
			p.Errorf("Load after a sweep with a Grace of %s: got %d records that expired %v ago, and %d of a group that was not swept; want the same", c.name, len(got), ages[c.kept-1], len(want))
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
		p.Errorf("report of a dry run without a KeyPrefix: got Scanned %d, want the %d records that are there, or more", all.Scanned, seen)
	}
	report := p.sweep(p.s, group{prefix: prefix}.whole())
	if report.Deleted > n {
		p.Errorf("report of a sweep, where the keys of %d expired records begin with KeyPrefix: got Deleted %d", n, report.Deleted)
	}
}

// ruleSweepFraction sweeps with a Grace that is not in whole seconds.
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
	// Less than 0.9 seconds have passed, unless the machine is busy.
	opts := groups["early"].whole()
	opts.Grace = 900 * time.Millisecond
	if p.now().Sub(soon) < 200*time.Millisecond {
		p.sweep(p.s, opts)
		if p.now().Sub(soon) < opts.Grace {
			p.intact(groups["early"], control, "after a sweep of records that expired a moment ago, with a Grace of 0.9 s")
		}
	}
	// More than 1.1 seconds have passed.
	p.wait(soon.Add(1150 * time.Millisecond))
	opts = groups["late"].whole()
	opts.Grace = 1100 * time.Millisecond
	p.sweep(p.s, opts)
	if left := p.seen(groups["late"].keys); len(left) > 0 {
		p.Errorf("Load after a sweep with a Grace of 1.1 s, of %d records that expired longer ago: got %d of them, want none", n, len(left))
	}
}

// ruleSweepPattern sweeps with a KeyPrefix that other systems take for a pattern.
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
			p.Errorf("report of a sweep with a KeyPrefix that ends in %q, of %d records: got Deleted %d", prefix[len(p.prefix):], n, report.Deleted)
		}
		var left []string
		for j := range n {
			left = append(left, fmt.Sprint(prefix, j))
		}
		if left = p.seen(left); len(left) > 0 {
			p.Errorf("Load after a sweep with a KeyPrefix that ends in %q, of %d records: got %d of them, want none", prefix[len(p.prefix):], n, len(left))
		}
		if p.intact(all[i], control, fmt.Sprintf("after a sweep with a KeyPrefix that ends in %q, which matches other keys if it is taken for a pattern", prefix[len(p.prefix):])); p.Failed() {
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
		p.Errorf("after a dry run, %d expired records are left, and %d in a group that was not swept; want the same", got, want)
	}
	if few(int(report.Deleted), want, n) || report.Deleted > n {
		p.Errorf("report of a dry run of %d expired records: got Deleted %d, want all of them", n, report.Deleted)
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
				p.Errorf("Sweep concurrent with Saves: got error %v, want none", err)
			}
		}()
		go func() {
			defer wg.Done()
			if round%4 > 0 { // or at once
				soon(found)
			}
			for _, key := range keys {
				if _, err := p.b.Save(p.ctx, key, p.record("new")); err != nil {
					p.Errorf("Save that creates a record over one that has expired, during a sweep: got error %v, want none", err)
				}
			}
		}()
		wg.Wait()
		for _, key := range keys {
			if !p.alive(key) {
				p.Fatal("a sweep deleted a record that was created at the same time over one that had expired, want it left alone")
			}
		}
	}
}

// lock locks records that expire soon, and returns when they have expired. It
// returns false if they expired before they were locked, on a busy machine.
func (p *sweepProbe) lock(ttl time.Duration, keys ...string) bool {
	p.Helper()
	soon := p.soon()
	for _, key := range keys {
		p.save(key, expiring(p.record("1"), soon))
		switch _, err := p.b.(session.LockingBackend).Acquire(p.ctx, key, ttl); {
		case errors.Is(err, session.ErrNotFound):
			return false
		case err != nil:
			p.Fatalf("Acquire of a free record: got error %v, want none", err)
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
	var keys [2][]string // to be swept, and not to be swept
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
		p.Errorf("report of a sweep of expired records with live locks: got Deleted %d, want 0", report.Deleted)
	}
	if locked > 0 && few(len(p.seen(keys[0])), len(p.seen(keys[1])), locked) {
		p.Errorf("Load after a sweep of expired records with live locks: got none of them, want all")
	}
}

func ruleSweepLeaseOver(p *sweepProbe) {
	key := p.key("lease over")
	if !p.lock(p.brief(), key) {
		return
	}
	p.sweep(p.s, group{prefix: p.prefix}.whole())
	if len(p.seen([]string{key})) > 0 {
		p.Error("Load after a sweep returned an expired record whose lease is over, want it deleted")
	}
}
