package conformance

import (
	"errors"
	"fmt"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/admin"
)

// wantsSweeper is the rule for a backend that has to be a Sweeper.
var wantsSweeper = backendRule{name: "Sweeper", run: ruleSweeper, quotes: []string{
	"Sweeper is a session.Backend that deletes its expired records on demand,",
}}

const everyRecord = "It MUST delete every record that was so when it began and that nobody wrote meanwhile."

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
func (p *sweepProbe) sweep(s admin.Sweeper, opts admin.SweepOptions) admin.SweepReport {
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
