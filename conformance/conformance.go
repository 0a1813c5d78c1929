// Package conformance tests implementations of [session.Backend] and
// [session.Codec] against their contracts, the comments in package session.
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
// Each rule of the contract is a subtest with a name, such as SaveStale. One
// that fails prints the sentence of the contract that does not hold. Rules are
// made not to overlap: one fault fails one rule, where that is possible. Run
// them with -race; some rules rely on it.
//
// One MUST cannot be tested from outside: that a retry inside the backend
// after a lost response is not reported as a conflict. That needs a proxy
// which drops the response to a request that was carried out, and is up to the
// tests of the backend.
//
// The package uses the standard library only.
package conformance

import (
	"context"
	"crypto/rand"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session"
)

// Backend tells the suite how to get at the backend under test, and what it
// can do. Only New is needed.
type Backend struct {
	// New returns the backend. It is called once for each rule, also at the
	// same time. All may use one store: the keys of a rule begin with 16
	// random characters, and are less than 200.
	New func(t testing.TB) session.Backend

	// Reopen returns a second client on the store of b, as independent of b
	// as another process would be. Nil if the store lives inside the process:
	// then nothing is tested across clients.
	Reopen func(t testing.TB, b session.Backend) session.Backend

	// Advance makes d pass for b, an hour at a time. The suite then counts on
	// the clock of b being ahead of time.Now by the sum of what it advanced,
	// and on b not sharing that clock with other results of New. Nil if time
	// cannot be moved: then the rules about expiry wait, for about 2 seconds,
	// all at once.
	Advance func(t testing.TB, b session.Backend, d time.Duration)

	// Fail makes the store of b fail or hang until restore is called. Nil if
	// that cannot be done: then there is no subtest StoreFailure, and the
	// MUST that is about failures of the store is not tested.
	Fail func(t testing.TB, b session.Backend) (restore func())

	// MaxData is the largest Data, in bytes, that the store holds under a key
	// of 512 bytes. The suite saves that much, and twice that much is to be
	// refused. 0 is for no limit: the suite saves 1 MiB, and there is no
	// subtest TooLarge.
	MaxData int

	// Text says that the backend is for Data which is UTF-8 text. It may
	// refuse other Data, but not change it.
	Text bool
}

// TestBackend tests a backend against the contract of [session.Backend], one
// subtest for each rule. It returns when all are done: after about 2 seconds
// and some thousand requests, or much sooner if Advance is there.
func TestBackend(t *testing.T, backend Backend) {
	t.Helper()
	if backend.New == nil {
		t.Fatal("conformance: Backend.New is nil")
	}
	// With t.Parallel only GOMAXPROCS rules would wait at the same time, and
	// all would begin after the caller has closed what they use.
	var wg sync.WaitGroup
	run := func(rules <-chan backendRule) {
		defer wg.Done()
		for rule := range rules {
			t.Run(rule.name, func(t *testing.T) { rule.test(t, backend, 10*time.Second) })
		}
	}
	rules := make(chan backendRule, len(backendRules))
	for _, rule := range backendRules {
		switch {
		case !rule.applies(backend):
		case rule.waits && backend.Advance == nil:
			waiting := make(chan backendRule, 1)
			waiting <- rule
			close(waiting)
			wg.Add(1)
			go run(waiting)
		default:
			rules <- rule
		}
	}
	for range workers {
		wg.Add(1)
		go run(rules)
	}
	close(rules)
	wg.Wait()
}

// workers is how many rules run at a time, besides those that wait.
const workers = 4

// A backendRule is one rule of the contract of session.Backend.
type backendRule struct {
	name string
	// quotes are the parts of the contract that the rule checks, word for
	// word but for line breaks and brackets.
	quotes []string
	needs  func(Backend) bool // nil: nothing
	waits  bool               // for records to expire
	run    func(*probe)
}

func (r backendRule) applies(backend Backend) bool { return r.needs == nil || r.needs(backend) }

// test runs the rule. A call that does not return within patience hangs.
func (r backendRule) test(t testing.TB, backend Backend, patience time.Duration) {
	t.Helper()
	t.Cleanup(func() { logQuotes(t, r.quotes) })
	p := &probe{TB: t, backend: backend, patience: patience, ctx: context.Background()}
	p.prefix = rand.Text()[:16]
	p.b = backend.New(t)
	p.other = p.b
	if backend.Reopen != nil {
		p.other = backend.Reopen(t, p.b)
	}
	r.run(p)
}

func logQuotes(t testing.TB, quotes []string) {
	if t.Failed() {
		for _, quote := range quotes {
			t.Logf("the contract says: %s", quote)
		}
	}
}

// probe is what a rule works with.
type probe struct {
	testing.TB
	backend  Backend
	b, other session.Backend // two clients of one store; the same if it has only one
	ctx      context.Context
	prefix   string
	patience time.Duration
	advanced time.Duration
}

func (p *probe) key(name string) string { return p.prefix + name }

// now is the time at the backend.
func (p *probe) now() time.Time { return time.Now().Add(p.advanced) }

// soon and later are deadlines in whole seconds, which no backend rounds.
// Rules can afford to wait for soon.
func (p *probe) soon() time.Time {
	life := 2 * time.Second
	if p.backend.Advance != nil {
		life = time.Hour
	}
	return p.now().Truncate(time.Second).Add(life)
}

func (p *probe) later() time.Time { return p.now().Truncate(time.Second).Add(24 * time.Hour) }

// wait returns when deadline has passed at the backend.
func (p *probe) wait(deadline time.Time) {
	d := deadline.Sub(p.now()) + 20*time.Millisecond
	if d <= 0 {
		return
	}
	if p.backend.Advance == nil {
		time.Sleep(d)
		return
	}
	p.backend.Advance(p.TB, p.b, d)
	p.advanced += d
}

func (p *probe) record(data string) session.Record {
	return session.Record{Data: []byte(data), Created: p.now(), Expires: p.later()}
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
