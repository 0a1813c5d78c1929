// Package conformance tests implementations of [session.Backend],
// [session.LockingBackend], [admin.Sweeper], [admin.Lister], [session.Locker] and
// [session.Codec] against their contracts, the comments in packages session and
// admin.
//
// For a backend of one's own, this is the whole test:
//
//	func TestConformance(t *testing.T) {
//		conformance.TestBackend(t, conformance.Backend{
//			New: func(t testing.TB) session.Backend {
//				b, err := mystore.Open(t.TempDir())
//				if err != nil {
//					t.Fatal(err)
//				}
//				return b
//			},
//		})
//	}
//
// A test of a locker looks the same, with [TestLocker].
//
// Each rule of the contract is a subtest with a name, such as SaveStale. One
// that fails prints the sentence of the contract that does not hold. Rules are
// made not to overlap: one fault fails one rule, where that is possible, and
// some that look for much at once beside it. A rule that has to be left out, as
// a race means nothing where one call after the other fails already, says so;
// if no other rule fails, that is a failure of its own. Run them with -race;
// some rules rely on it.
//
// Four rules run at a time, each with a backend of its own from New, and
// besides them those that wait for a deadline or a lease to pass. Most of these
// share one backend, with some dozens of calls under way at once when they
// begin; those that make a store fail, or keep requests back, have their own.
// So there are up to 10 backends in use, and twice as many with Reopen. A
// database that allows a number of connections in all has to be shared out: with
// 97 of them, a pool of 4 in each. With Advance, nothing waits, and there are 4.
//
// A call that has not returned after 15 seconds hangs. It ends the run, with
// its name.
//
// Some of the contract cannot be tested from outside, and is up to the tests
// of the backend. That a retry inside it after a lost response is not reported
// as a conflict, nor as the lock of another holder: that needs a proxy which
// drops the response to a request that was carried out; without Hold, neither
// is what a request does that arrives late (the rules whose names begin with
// Late). That a sweep leaves alone the records that the backend did not write,
// and a list shows them as Foreign, that both keep to their budgets, and that a
// sweep goes on from a page that failed: only the backend knows the store. A
// Sweeper whose Load hides expired records is measured by its own reports.
//
// The package uses the standard library only.
package conformance

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/admin"
)

// Backend tells the suite how to get at the backend under test, and what it
// can do. Only New is needed.
type Backend struct {
	// New returns the backend. It is called once at first, and then for each
	// rule but those that only wait, which share the first one. Up to 10 of what
	// it returned are in use at the same time, each with up to 8 calls under way,
	// or some dozens where rules share it. All may use one store: the keys of a
	// rule begin with 16 random characters, and are at most 900.
	New func(t testing.TB) session.Backend

	// WantsLeaser says that the backend has to be a [session.LockingBackend]. The rules
	// of LockingBackend run for any backend that is one. With WantsLeaser, one that
	// is not, or is not any more, fails.
	WantsLeaser bool

	// WantsSweeper says likewise that the backend has to be a
	// [admin.Sweeper]. Rules about it sweep keys of their own; on a store
	// that is shared, each sweep may read all of it.
	WantsSweeper bool

	// WantsLister says likewise that the backend has to be an [admin.Lister]. On
	// a store that is shared, each list may read all of it.
	WantsLister bool

	// Reopen returns a second client on the store of b, as independent of b
	// as another process would be. Nil if the store lives inside the process:
	// then nothing is tested across clients.
	Reopen func(t testing.TB, b session.Backend) session.Backend

	// Advance makes d pass for b and for what Reopen made of it, an hour at a
	// time. The suite then counts on the clock of b being ahead of time.Now by
	// the sum of what it advanced, and on b not sharing that clock with other
	// results of New. Nil if time cannot be moved: then the rules about expiry
	// and leases wait, for about 2 seconds, all at once.
	Advance func(t testing.TB, b session.Backend, d time.Duration)

	// Fail makes the store of b fail or hang until restore is called, and no
	// store of another result of New. Nil if that cannot be done: then there is
	// no subtest StoreFailure, and the MUST that is about failures of the store
	// is not tested. A store behind a network can have a proxy between; a table
	// of an SQL database that is b's alone can be renamed, and renamed back.
	Fail func(t testing.TB, b session.Backend) (restore func())

	// Hold keeps back the next request with which b writes: its sender gets no
	// answer to that attempt, as if it were lost on its way. What b sends after
	// that arrives as usual. deliver lets the request arrive, and returns when
	// the store has answered it; it does nothing where there was none, and may
	// be called again. Nil if that cannot be done: then there are no subtests
	// whose names begin with Late, and what the contract says of requests that
	// arrive late is not tested.
	Hold func(t testing.TB, b session.Backend) (deliver func())

	// MaxData is the largest Data, in bytes, that the store holds under a key
	// of 512 bytes, and can lock. The suite saves that much, and twice that much is to be
	// refused. 0 is for no limit: the suite saves 1 MiB, and there is no
	// subtest TooLarge.
	MaxData int

	// Text says that the backend is for Data which is UTF-8 text. It may
	// refuse other Data, but not change it.
	Text bool
}

// TestBackend tests a backend against the contract of [session.Backend], and
// of [session.LockingBackend], [admin.Sweeper] and [admin.Lister] if it is one; one
// subtest for each rule. It returns when all are done: after a few seconds and some thousand
// requests, or sooner if Advance is there. A call that hangs ends it, by name.
func TestBackend(t *testing.T, backend Backend) {
	t.Helper()
	if backend.New == nil {
		t.Fatal("conformance: Backend.New is nil")
	}
	first := backend.New(t)
	clients := backend.clients(t, first)
	var tests []subtest
	for _, rule := range rulesFor(backend, first) {
		waits := rule.waits && backend.Advance == nil
		tests = append(tests, subtest{rule.name, waits, rule.alone, func(t *testing.T, res *results) {
			t.Helper()
			if waits && !rule.own {
				rule.test(t, backend, clients, patience, res)
			} else {
				rule.test(t, backend, backend.clients(t, backend.New(t)), patience, res)
			}
		}})
	}
	runAll(t, tests)
}

var (
	allBackendRules = slices.Concat(backendRules, versionRules, readRules, pairRules, endRules, lateRules)
	allLeaserRules  = slices.Concat(leaserRules, leaserPairRules, endLeaserRules, lateLeaserRules)
)

// rulesFor returns the rules that apply to b.
func rulesFor(backend Backend, b session.Backend) []backendRule {
	_, isLeaser := b.(session.LockingBackend)
	_, isSweeper := b.(admin.Sweeper)
	_, isLister := b.(admin.Lister)
	var rules []backendRule
	for _, set := range []struct {
		applies bool
		rules   []backendRule
	}{
		{true, allBackendRules},
		{backend.WantsLeaser, []backendRule{wantsLeaser}},
		{isLeaser, allLeaserRules},
		{backend.WantsSweeper, []backendRule{wantsSweeper}},
		{isSweeper, sweeperRules},
		{isSweeper && isLeaser, sweptLockRules},
		{backend.WantsLister, []backendRule{wantsLister}},
		{isLister, listerRules},
		{isLister && isLeaser, listedLockRules},
	} {
		if set.applies {
			rules = append(rules, set.rules...)
		}
	}
	return slices.DeleteFunc(rules, func(r backendRule) bool { return r.needs != nil && !r.needs(backend) })
}

// A backendRule is one rule of the contract of session.Backend, session.LockingBackend,
// admin.Sweeper or admin.Lister.
type backendRule struct {
	name string
	// quotes are the parts of the contract that the rule checks, word for
	// word but for line breaks and brackets.
	quotes []string
	needs  func(Backend) bool // nil: nothing
	waits  bool               // for records to expire or leases to run out
	own    bool               // needs clients of its own, as it makes their store fail or keeps back what they send
	alone  bool               // is a race that needs the machine for itself
	wide   bool               // looks at so much that it fails beside other rules
	run    func(*probe)
}

// clients are two clients of one store; the same if it has only one.
type clients struct{ b, other session.Backend }

func (b Backend) clients(t testing.TB, first session.Backend) clients {
	t.Helper()
	c := clients{first, first}
	if b.Reopen != nil {
		c.other = b.Reopen(t, first)
	}
	return c
}

// test runs the rule. A call that does not return within patience hangs.
func (r backendRule) test(t testing.TB, backend Backend, c clients, patience time.Duration, res *results) {
	t.Helper()
	t.Cleanup(func() { logQuotes(t, r.quotes) })
	guarded(t, res, func(g *guard) {
		s := newScene(g, r.name, patience, res)
		p := &probe{scene: s, backend: backend, raw: c, b: watched{c.b, s.watch}, other: watched{c.other, s.watch}}
		if backend.Advance != nil {
			p.advance = func(d time.Duration) { backend.Advance(g, c.b, d) }
		}
		if backend.Fail != nil {
			p.fail = func() func() { return backend.Fail(g, c.b) }
		}
		r.run(p)
	})
}

func logQuotes(t testing.TB, quotes []string) {
	if t.Failed() {
		for _, quote := range quotes {
			t.Logf("the contract says: %s", quote)
		}
	}
}

// scene is what a rule needs, whatever it is about.
type scene struct {
	testing.TB
	rule     string
	ctx      context.Context
	prefix   string
	patience time.Duration
	watch    watch
	results  *results
	begun    time.Time
	advanced time.Duration
	advance  func(d time.Duration)   // nil if time cannot be moved
	fail     func() (restore func()) // nil if the store cannot be made to fail
}

func newScene(g *guard, rule string, patience time.Duration, res *results) *scene {
	return &scene{
		TB: g, rule: rule, ctx: context.Background(), prefix: rand.Text()[:16], patience: patience,
		// More than a rule that looks for calls which hang waits itself.
		watch:   watch{g, max(patience*3/2, time.Second)},
		results: res, begun: time.Now(),
	}
}

// leaveOut notes that the rule cannot be tested, because of what another rule
// has to say.
func (s *scene) leaveOut(why string) {
	s.Logf("left out: %s; see the other rules", why)
	s.results.mu.Lock()
	defer s.results.mu.Unlock()
	s.results.leftOut = append(s.results.leftOut, s.rule+": "+why)
}

func (s *scene) key(name string) string { return s.prefix + name }

func (s *scene) freshKey() string { return s.key(rand.Text()) }

// now is the time at the store.
func (s *scene) now() time.Time { return time.Now().Add(s.advanced) }

// wait returns when deadline has passed at the store.
func (s *scene) wait(deadline time.Time) {
	d := deadline.Sub(s.now()) + 20*time.Millisecond
	if d <= 0 {
		return
	}
	if s.advance == nil {
		time.Sleep(d)
		return
	}
	s.advance(d)
	s.advanced += d
}

// waitWithin waits for d, or until a moment before deadline.
func (s *scene) waitWithin(d time.Duration, deadline time.Time) {
	const before = 50 * time.Millisecond
	next := s.now().Add(d)
	if last := deadline.Add(-before); next.After(last) && s.now().Before(last) {
		next = last
	}
	s.wait(next)
}

// ends reports whether f returns before patience ends.
func (s *scene) ends(f func()) bool {
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	timeout := time.NewTimer(s.patience)
	defer timeout.Stop()
	select {
	case <-done:
		return true
	case <-timeout.C:
		return false
	}
}

// probe is what a rule about a backend works with.
type probe struct {
	*scene
	backend  Backend
	raw      clients
	b, other session.Backend // the clients, watched
}

// soon and later are deadlines in whole seconds, which no backend rounds.
// Rules can afford to wait for soon.
func (p *probe) soon() time.Time {
	life := 3 * time.Second
	if p.advance != nil {
		life = time.Hour
	}
	return p.now().Truncate(time.Second).Add(life)
}

// inTime does what has to be done before a deadline for which rules can wait,
// and returns that. On a machine that is so busy that it came too late, f is
// called again, with another suffix for its keys and more time.
func (p *probe) inTime(f func(suffix string, soon time.Time) error) (suffix string, soon time.Time) {
	p.Helper()
	for more := time.Duration(0); ; more = 2*more + 2*time.Second {
		suffix, soon = fmt.Sprint(" ", more), p.soon().Add(more)
		err := f(suffix, soon)
		if err == nil && p.now().Before(soon) {
			return suffix, soon
		}
		if p.now().Before(soon) || more > p.patience {
			p.Fatal(err)
		}
	}
}

// later is the same each time, so that rules may ask again.
func (p *probe) later() time.Time { return p.begun.Truncate(time.Second).Add(24 * time.Hour) }

// record is one that began a while ago: a backend that takes the time of the
// call for Created shows.
func (p *probe) record(data string) session.Record {
	return session.Record{Data: []byte(data), Created: p.begun.Add(-time.Hour), Expires: p.later()}
}

func expiring(rec session.Record, expires time.Time) session.Record {
	rec.Expires = expires
	return rec
}

func replacing(rec session.Record, v session.Version) session.Record {
	rec.Version = v
	return rec
}

// save saves what must be possible to save.
func (p *probe) save(key string, rec session.Record) session.Version {
	p.Helper()
	v, err := p.b.Save(p.ctx, key, rec)
	if err != nil {
		p.Fatalf("Save: %v", err)
	}
	return v
}

// load loads what must be there.
func (p *probe) load(key string) session.Record {
	p.Helper()
	rec, err := p.b.Load(p.ctx, key)
	if err != nil {
		p.Fatalf("Load: %v", err)
	}
	return rec
}

// alive tells whether there is a record that has not expired. It is right for
// a backend that drops expired records and for one that does not.
func (p *probe) alive(key string) bool {
	p.Helper()
	return p.aliveAt(p.b, key)
}

func (p *probe) aliveAt(b session.Backend, key string) bool {
	p.Helper()
	rec, err := b.Load(p.ctx, key)
	if err != nil && !errors.Is(err, session.ErrNotFound) {
		p.Fatalf("Load: %v", err)
	}
	return err == nil && !rec.Expired(p.now())
}

// kill makes and ends a record in each way there is, and calls f with its key
// and last version. A way that does not work is left out: other rules say so.
func (p *probe) kill(byDelete, byExpiry bool, f func(how, key string, v session.Version)) {
	p.Helper()
	type victim struct {
		how, key string
		v        session.Version
	}
	var victims []victim
	if byDelete {
		key := p.key("deleted")
		v := p.save(key, p.record("1"))
		if err := p.b.Delete(p.ctx, key); err != nil {
			p.Fatalf("Delete: %v", err)
		}
		victims = append(victims, victim{"deleted", key, v})
	}
	if byExpiry {
		key := p.key("ended")
		v := p.save(key, p.record("1"))
		if v, err := p.b.Save(p.ctx, key, replacing(expiring(p.record("2"), p.now().Add(-time.Hour)), v)); err == nil {
			victims = append(victims, victim{"ended by a Save", key, v})
		}

		key = p.key("expired")
		soon := p.soon()
		v = p.save(key, expiring(p.record("1"), soon))
		p.wait(soon)
		victims = append(victims, victim{"expired", key, v})
	}
	for _, v := range victims {
		if !p.alive(v.key) {
			f(v.how, v.key, v.v)
		}
	}
}

// unchanged complains unless the record at key is as before.
func (p *probe) unchanged(key string, before session.Record, after string) {
	p.Helper()
	rec, err := p.b.Load(p.ctx, key)
	if err != nil {
		p.Errorf("Load after %s: %v", after, err)
		return
	}
	if string(rec.Data) != string(before.Data) || rec.Version != before.Version ||
		!rec.Expires.Equal(before.Expires) || !rec.Created.Equal(before.Created) {
		p.Errorf("%s changed the record from %s to %s", after, describe(before), describe(rec))
	}
}

// conflict complains unless err is a *session.ConflictError.
func (p *probe) conflict(err error, doing string) {
	p.Helper()
	var conflict *session.ConflictError
	if !errors.As(err, &conflict) {
		p.Errorf("%s: got error %v, want a *session.ConflictError", doing, err)
	}
}
