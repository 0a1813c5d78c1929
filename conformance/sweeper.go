package conformance

import (
	"errors"
	"fmt"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/admin"
)

// wantsSweeper is the rule for a backend that has to be a Sweeper.
var wantsSweeper = backendRule{name: "Sweeper", run: ruleSweeper, quotes: []string{
	"Sweeper is an optional interface of a session.Backend that can delete its expired records on demand.",
}}

const everyRecord = "It MUST delete every record that had expired by then when the sweep began, unless somebody writes the record meanwhile."

// A sweepProbe is a probe of a Sweeper. It has the two clients of the probe once
// more.
type sweepProbe struct {
	*probe
	s, otherS admin.Sweeper
}

// sweeping makes a rule fail on clients that are no Sweeper.
func sweeping(run func(*sweepProbe)) func(*probe) {
	return func(p *probe) {
		p.Helper()
		if _, ok := p.raw.b.(admin.Sweeper); !ok {
			p.Fatalf("New returned a %T that is no admin.Sweeper, and one before that is; want the same each time", p.raw.b)
		}
		if _, ok := p.raw.other.(admin.Sweeper); !ok {
			p.Fatalf("Reopen returned a %T that is no admin.Sweeper, of a %T that is; want the same", p.raw.other, p.raw.b)
		}
		run(&sweepProbe{p, p.b.(admin.Sweeper), p.other.(admin.Sweeper)})
	}
}

// A group is a number of records that expire together.
//
// A store may drop expired records at any time, and Load may hide them. So rules
// make several groups of equal records, and sweep all but one of them, the
// control group. If most of a swept group is missing and most of the control
// group is not, then the sweep has deleted the records.
type group struct {
	prefix string
	keys   []string
}

// expired makes groups of n records each, and one more as the control group. It
// returns when the records have expired.
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

// whole returns options for a sweep of the whole group.
func (g group) whole() admin.SweepOptions {
	return admin.SweepOptions{KeyPrefix: g.prefix, Grace: 1, Segments: 2, Workers: 2}
}

// oneByOne returns options for a sweep of the group that handles one batch at a
// time, if the backend supports that.
func (g group) oneByOne(batch int) admin.SweepOptions {
	opts := g.whole()
	opts.BatchSize, opts.Workers, opts.Segments = batch, 1, 1
	return opts
}

// sweep makes a Sweep that has to succeed.
func (p *sweepProbe) sweep(s admin.Sweeper, opts admin.SweepOptions) admin.Report {
	p.Helper()
	report, err := s.Sweep(p.ctx, opts)
	if err != nil {
		p.Fatalf("Sweep with valid options: got error %v, want none", err)
	}
	return report
}

// seen returns the keys at which Load returns a record, expired or not.
func (p *sweepProbe) seen(keys []string) []string {
	p.Helper()
	var seen []string
	for _, key := range keys {
		_, err := p.b.Load(p.ctx, key)
		if err == nil {
			seen = append(seen, key)
		} else if !errors.Is(err, session.ErrNotFound) {
			p.Errorf("Load: got error %v, want none or ErrNotFound", err)
		}
	}
	return seen
}

// left returns the number of records of g in the store. If Load hides expired
// records, left counts them by a sweep, so call it at the end of a rule.
func (p *sweepProbe) left(g group) int {
	p.Helper()
	if n := len(p.seen(g.keys)); n > 0 {
		return n
	}
	return int(p.sweep(p.s, g.whole()).Deleted)
}

// few reports whether got of n records is so few, and control, of the control
// group, is so many, that the store cannot have dropped the rest on its own.
func few(got, control, n int) bool { return 8*got <= n && 8*control >= 7*n }

// intact reports an error if the records of g are missing and those of the
// control group are not.
func (p *sweepProbe) intact(g, control group, after string) {
	p.Helper()
	if got, want := p.left(g), p.left(control); few(got, want, len(g.keys)) {
		p.Errorf("%s, %d expired records are left, and %d in a group that was not swept; want the same", after, got, want)
	}
}

func ruleSweeper(p *probe) {
	if _, ok := p.raw.b.(admin.Sweeper); !ok {
		p.Errorf("WantsSweeper is set: New returned a %T, want an admin.Sweeper", p.raw.b)
	}
}
