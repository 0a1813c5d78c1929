package conformance

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/admin"
)

// Backend describes the backend under test. Only New is required.
type Backend struct {
	// New returns a backend. TestBackend calls it once at the start, for the
	// rules that wait, and once for each other rule. Up to 13 of its results are
	// in use at the same time, each with up to 8 calls in flight; the first one
	// has some dozens. All results may use one store: the keys of a rule begin
	// with 16 random characters, and a rule has at most 900 keys.
	New func(t testing.TB) session.Backend

	// WantsLocking requires that the backend is a [session.LockingBackend]. The
	// rules of LockingBackend run for every backend that is one. WantsLocking
	// makes the test fail if the backend is none, or is none any more.
	WantsLocking bool

	// WantsSweeper requires in the same way that the backend is an
	// [admin.Sweeper]. Its rules sweep keys of their own. If backends share a
	// store, each sweep may read all of it.
	WantsSweeper bool

	// WantsLister requires in the same way that the backend is an [admin.Lister].
	// If backends share a store, each list may read all of it.
	WantsLister bool

	// WantsText requires in the same way that the backend is a
	// [session.TextBackend] whose TextOnly returns true.
	WantsText bool

	// Reopen returns a second client of the store of b, as independent of b as
	// another process would be. Leave it nil if the store lives inside the
	// process; then nothing is tested across clients.
	Reopen func(t testing.TB, b session.Backend) session.Backend

	// Advance moves the clock of b, and that of its results of Reopen, forward
	// by d. The suite then expects that clock to be ahead of time.Now by the sum
	// of all calls, and the clocks of other results of New to be unchanged. Most
	// calls advance an hour. Leave it nil if the clock cannot be moved; then the
	// rules about expiry and leases wait, all at once, for 3 seconds or, with
	// Hold, for 6.
	Advance func(t testing.TB, b session.Backend, d time.Duration)

	// Fail makes the store of b fail or hang until restore is called. It must
	// not affect the stores of other results of New. Leave it nil if the store
	// cannot be made to fail; then there is no subtest StoreFailure, and the
	// MUST about failures of the store is not tested. A store behind a network
	// can fail in a proxy; a table of an SQL database that only b uses can be
	// renamed.
	Fail func(t testing.TB, b session.Backend) (restore func())

	// Hold keeps back the next request with which b writes. Its sender gets no
	// answer to that attempt, as if the request were lost. Requests that b sends
	// after it arrive as usual. deliver lets the request arrive and returns when
	// the store has answered it. If no request was kept back, or deliver was
	// called before, it does nothing. Leave Hold nil if requests cannot be kept
	// back; then there are no subtests with names that begin with Late, and
	// requests that arrive late are not tested.
	Hold func(t testing.TB, b session.Backend) (deliver func())

	// MaxData is the largest Data, in bytes, that the store holds under a key
	// of 512 bytes and can lock. The suite saves as much as that, and expects
	// twice as much to be refused. 0 means no limit; then the suite saves 1 MiB,
	// and there is no subtest TooLarge.
	MaxData int
}

// TestBackend tests a backend against the contract of [session.Backend]. If the
// backend is a [session.LockingBackend], a [session.TextBackend] or an
// [admin.Sweeper], it tests that contract too. Each rule is a subtest. TestBackend
// returns when all rules are done: after a few seconds and some thousand
// requests, or sooner with Advance. A call that hangs ends the test, and is named.
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
	backendRules = slices.Concat(
		dataRules, keyRules, timeRules, versionRules, readRules, saveRules, touchRules, deleteRules,
		contextRules, failureRules, raceRules, pairRules, lateRules,
	)
	lockingBackendRules = slices.Concat(
		acquireRules, lockedRules, holderRules, leaseRules, lockingRules, lockingRaceRules, lockingPairRules, lateLockingRules,
	)
	sweeperRules = slices.Concat(sweptRules, sweepCourseRules)
)

// rulesFor returns the rules that apply to b.
func rulesFor(backend Backend, b session.Backend) []backendRule {
	_, isLocking := b.(session.LockingBackend)
	_, isSweeper := b.(admin.Sweeper)
	_, isLister := b.(admin.Lister)
	var rules []backendRule
	for _, set := range []struct {
		applies bool
		rules   []backendRule
	}{
		{true, backendRules},
		{backend.WantsLocking, []backendRule{wantsLocking}},
		{isLocking, lockingBackendRules},
		{backend.WantsSweeper, []backendRule{wantsSweeper}},
		{isSweeper, sweeperRules},
		{isSweeper && isLocking, sweptLockRules},
		{backend.WantsLister, []backendRule{wantsLister}},
		{isLister, listerRules},
		{isLister && isLocking, listedLockRules},
		{backend.WantsText, []backendRule{wantsText}},
		{isText(b), textRules},
		{isText(b) && isLocking, lockedTextRules},
	} {
		if set.applies {
			rules = append(rules, set.rules...)
		}
	}
	return slices.DeleteFunc(rules, func(r backendRule) bool { return r.needs != nil && !r.needs(backend) })
}

// A backendRule is one rule of the contract of session.Backend,
// session.LockingBackend, session.TextBackend or admin.Sweeper.
type backendRule struct {
	name string
	// quotes are the parts of the contract that the rule checks, word for word
	// except for line breaks and brackets.
	quotes []string
	needs  func(Backend) bool // the rule applies only if needs is nil or returns true
	waits  bool               // the rule waits for a deadline or a lease
	own    bool               // the rule needs its own clients: it makes their store fail, or holds their requests
	alone  bool               // the rule is a race that needs the whole machine
	wide   bool               // the rule looks at many things, so it fails beside others
	run    func(*probe)
}

// clients are two clients of one store. Without Reopen they are the same.
type clients struct{ b, other session.Backend }

func (b Backend) clients(t testing.TB, first session.Backend) clients {
	t.Helper()
	c := clients{first, first}
	if b.Reopen != nil {
		c.other = b.Reopen(t, first)
	}
	return c
}

// test runs the rule. A call that takes longer than patience hangs.
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

// A probe is the backend under test, as the rules use it.
type probe struct {
	*scene
	backend  Backend
	raw      clients
	b, other session.Backend // the clients, watched
}

// soon returns a deadline that rules can wait for. Like later it is in whole
// seconds, which no backend rounds.
func (p *probe) soon() time.Time {
	life := 3 * time.Second
	if p.advance != nil {
		life = time.Hour
	}
	return p.now().Truncate(time.Second).Add(life)
}

// inTime calls f, which has to return before the deadline soon, and returns that
// deadline. If a busy machine makes it late, inTime calls f again with another
// suffix for its keys and more time.
func (p *probe) inTime(f func(suffix string, soon time.Time) error) (suffix string, soon time.Time) {
	p.Helper()
	for more := time.Duration(0); ; more = 2*more + 2*time.Second {
		suffix, soon = fmt.Sprint(" ", more), p.soon().Add(more)
		err := f(suffix, soon)
		if err == nil && p.now().Before(soon) {
			return suffix, soon
		}
		if p.now().Before(soon) || more > p.patience {
			p.Fatalf("calls before the deadline of a live record: got error %v, want none", err)
		}
	}
}

// later returns a deadline that no rule waits for. It is always the same.
func (p *probe) later() time.Time { return p.begun.Truncate(time.Second).Add(24 * time.Hour) }

// record returns a record that was created an hour ago, which reveals a backend
// that stores the time of the call as Created.
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

// save saves a record that nothing prevents from being saved.
func (p *probe) save(key string, rec session.Record) session.Version {
	p.Helper()
	v, err := p.b.Save(p.ctx, key, rec)
	if err != nil {
		p.Fatalf("Save of a valid record: got error %v, want none", err)
	}
	return v
}

// load loads a record that is live.
func (p *probe) load(key string) session.Record {
	p.Helper()
	rec, err := p.b.Load(p.ctx, key)
	if err != nil {
		p.Fatalf("Load of a live record: got error %v, want none", err)
	}
	return rec
}

// alive reports whether there is a live record at key, whether or not the
// backend drops expired records.
func (p *probe) alive(key string) bool {
	p.Helper()
	return p.aliveAt(p.b, key)
}

func (p *probe) aliveAt(b session.Backend, key string) bool {
	p.Helper()
	rec, err := b.Load(p.ctx, key)
	if err != nil && !errors.Is(err, session.ErrNotFound) {
		p.Fatalf("Load: got error %v, want none or ErrNotFound", err)
	}
	return err == nil && !rec.Expired(p.now())
}

// kill creates records, ends each of them in another way, and calls f with their
// keys and last versions. It skips a way that does not work, as other rules
// report that.
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
			p.Fatalf("Delete of a live record: got error %v, want none", err)
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

// unchanged reports an error unless the record at key is the same as before.
func (p *probe) unchanged(key string, before session.Record, after string) {
	p.Helper()
	rec, err := p.b.Load(p.ctx, key)
	if err != nil {
		p.Errorf("Load after %s: got error %v, want none", after, err)
		return
	}
	if string(rec.Data) != string(before.Data) || rec.Version != before.Version ||
		!rec.Expires.Equal(before.Expires) || !rec.Created.Equal(before.Created) {
		p.Errorf("%s changed the record from %s to %s, want no change", after, describe(before), describe(rec))
	}
}

func sameContent(a, b session.Record) bool {
	return string(a.Data) == string(b.Data) && a.Created.Equal(b.Created) && a.Expires.Equal(b.Expires)
}

func describe(rec session.Record) string {
	return fmt.Sprintf("{%d bytes, created %s, expires %s, version %q}", len(rec.Data),
		rec.Created.UTC().Format(time.RFC3339Nano), rec.Expires.UTC().Format(time.RFC3339Nano), rec.Version)
}

// roundedUp reports an error unless got is want, or want rounded up to at most
// the next second.
func (p *probe) roundedUp(what string, got, want time.Time) {
	p.Helper()
	if got.Before(want) || got.Sub(want) >= time.Second {
		p.Errorf("%s: stored with Expires %v, loaded with %v; want the same, or up to the next second", what, want, got)
	}
}

// conflict reports an error unless err is a *session.ConflictError.
func (p *probe) conflict(err error, doing string) {
	p.Helper()
	var conflict *session.ConflictError
	if !errors.As(err, &conflict) {
		p.Errorf("%s: got error %v, want a *session.ConflictError", doing, err)
	}
}

// second returns the error of a call whose result does not matter.
func second[T any](_ T, err error) error { return err }

// large returns the largest Data that the suite saves.
func (p *probe) large() int {
	if p.backend.MaxData > 0 {
		return p.backend.MaxData
	}
	return 1 << 20
}
