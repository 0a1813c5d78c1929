package conformance

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/admin"
)

// wantsLister is the rule for a backend that has to be a Lister.
var wantsLister = backendRule{name: "Lister", run: ruleLister, quotes: []string{
	"Lister is an optional interface of a session.Backend that can go through all records of its store.",
}}

// listerRules are the rules of admin.Lister, for a backend that is one.
var listerRules = []backendRule{
	{name: "List", run: listing(ruleList), quotes: []string{everyLiveRecord}},
	{name: "ListWritten", run: listing(ruleListWritten), quotes: []string{everyLiveRecord}},
	{name: "ListKeyPrefix", run: listing(ruleListKeyPrefix), quotes: []string{
		"A record whose key does not begin with opts.KeyPrefix MUST NOT be visited.",
		"Default \"\", every key.",
	}},
	{name: "ListKeeps", run: listing(ruleListKeeps), quotes: []string{"List MUST change nothing."}},
	{name: "ListEntry", run: listing(ruleListEntry), quotes: []string{
		"The Entry of a record MUST tell the times and the lock as Load does at that moment, and the size of the data.",
		"DataSize is the length of session.Record.Data.",
	}},
	{name: "ListData", run: listing(ruleListData), quotes: []string{
		"Data is the Data of the record if it contains ListOptions.DataWith, else \"\".",
		"Default \"\", no data.",
	}},
	{name: "ListLimit", run: listing(ruleListLimit), quotes: []string{
		"After opts.Limit visits List MUST end without an error.",
	}},
	{name: "ListStop", run: listing(ruleListStop), quotes: []string{
		"If visit returns an error, List MUST call it no more and return that very error.",
	}},
	{name: "ListOneAtATime", run: listing(ruleListOneAtATime), quotes: []string{
		"It MUST NOT call visit from two goroutines at once, nor after it has returned.",
	}},
	{name: "ListVisitUsesStore", run: listing(ruleListVisitUsesStore), own: true, quotes: []string{
		"List MUST NOT hold anything meanwhile that a call of the backend waits for.",
	}},
	{name: "ListReport", run: listing(ruleListReport), quotes: []string{
		"The report MUST count each visit in Scanned, and each visit of a Foreign entry in Foreign, also when List fails.",
		"The counts of a deletion, from Expired to Failed, are 0 after a list.",
	}},
	{name: "ListOptions", run: listing(ruleListOptions), quotes: []string{"A backend calls it at the beginning of List."}},
	{name: "ListUnsupported", run: listing(ruleListUnsupported), quotes: []string{
		"It MUST refuse an option that it cannot follow with an error that wraps errors.ErrUnsupported, before the first visit.",
	}},
	{name: "DoneContextList", run: listing(ruleDoneContextList), quotes: append(doneContext,
		"What Backend says about contexts and failures applies to List.",
	)},
	{name: "ContextEndsList", run: listing(ruleContextEndsList), own: true, quotes: []string{
		"What Backend says about contexts and failures applies to List.",
		"Once ctx is done it MUST return promptly,",
	}},
	{name: "StoreFailureList", run: listing(ruleStoreFailureList), quotes: []string{
		"What Backend says about contexts and failures applies to List.",
		"A failure of the store MUST be returned as an error that is none of the sentinels of this package;",
	}, needs: canFail, own: true},
}

// listedLockRules are for a backend that is a Lister and a LockingBackend.
var listedLockRules = []backendRule{
	{name: "ListLocked", run: listing(ruleListLocked), waits: true, quotes: []string{
		"The Entry of a record MUST tell the times and the lock as Load does at that moment,",
		"LockedUntil is the end of the lease of a live lock, zero if the record is not locked.",
	}},
}

const everyLiveRecord = "It MUST visit every record that is live from the beginning to the end of the list, even if it is written meanwhile."

var untestedLister = map[string]string{
	"What the backend did not write, so that Load refuses it, MUST be visited as Foreign.": "only the backend knows how to write what it did not",
}

// listProbe is what a rule about a Lister works with.
type listProbe struct {
	*probe
	l, otherL admin.Lister
}

func listing(run func(*listProbe)) func(*probe) {
	return func(p *probe) {
		p.Helper()
		if _, ok := p.raw.b.(admin.Lister); !ok {
			p.Fatalf("New returned a %T that is no admin.Lister, and one that is before", p.raw.b)
		}
		if _, ok := p.raw.other.(admin.Lister); !ok {
			p.Fatalf("Reopen returned a %T that is no admin.Lister, of a %T that is", p.raw.other, p.raw.b)
		}
		run(&listProbe{p, p.b.(admin.Lister), p.other.(admin.Lister)})
	}
}

// fill saves n records, and returns their keys and a KeyPrefix of theirs.
func (p *listProbe) fill(prefix string, n int) (keys []string, opts admin.ListOptions) {
	p.Helper()
	for i := range n {
		keys = append(keys, p.key(fmt.Sprint(prefix, "/", i)))
		p.save(keys[i], p.record("old"))
	}
	return keys, admin.ListOptions{KeyPrefix: p.key(prefix + "/")}
}

// list returns the last entry of each key that a list visits, which must
// succeed.
func (p *listProbe) list(l admin.Lister, opts admin.ListOptions) map[string]admin.Entry {
	p.Helper()
	var mu sync.Mutex // in case that the backend has a fault in that
	entries := map[string]admin.Entry{}
	if _, err := l.List(p.ctx, opts, func(e admin.Entry) error {
		mu.Lock()
		defer mu.Unlock()
		entries[e.Key] = e
		return nil
	}); err != nil {
		p.Fatalf("List: %v", err)
	}
	return entries
}

// visits counts the visits of a list with visit, which is told the number of
// each.
func (p *listProbe) visits(ctx context.Context, opts admin.ListOptions, visit func(n int) error) (n int, report admin.Report, err error) {
	var visits atomic.Int64
	report, err = p.l.List(ctx, opts, func(admin.Entry) error { return visit(int(visits.Add(1))) })
	return int(visits.Load()), report, err
}

func noVisit(int) error { return nil }

// missing returns how many of keys are not in entries.
func missing(keys []string, entries map[string]admin.Entry) (n int) {
	for _, key := range keys {
		if _, ok := entries[key]; !ok {
			n++
		}
	}
	return n
}

func ruleLister(p *probe) {
	if _, ok := p.raw.b.(admin.Lister); !ok {
		p.Errorf("WantsLister is set, and %T is no admin.Lister", p.raw.b)
	}
}

func ruleList(p *listProbe) {
	keys, opts := p.fill("listed", 20)
	add := func(name string, rec session.Record) session.Version {
		keys = append(keys, p.key("listed/"+name))
		return p.save(keys[len(keys)-1], rec)
	}
	add("empty", p.record(""))
	add("large", p.record(strings.Repeat("x", 1000)))
	v := add("replaced", p.record("1"))
	p.save(keys[len(keys)-1], replacing(p.record("2"), v))
	add("touched", p.record("1"))
	if err := p.b.Touch(p.ctx, keys[len(keys)-1], p.later().Add(time.Hour)); err != nil {
		p.Fatalf("Touch: %v", err)
	}
	old := p.record("begun long ago")
	old.Created = p.now().Add(-365 * 24 * time.Hour)
	add("begun long ago", old)
	add("expired", expiring(p.record("1"), p.now().Add(-time.Hour))) // which may be there, or not
	keys = keys[:len(keys)-1]
	for _, l := range []admin.Lister{p.l, p.otherL} {
		for _, segments := range []int{1, 3} {
			opts.Segments = segments
			if n := missing(keys, p.list(l, opts)); n > 0 {
				p.Errorf("a list, with %d Segments, leaves out %d of %d live records", segments, n, len(keys))
			}
		}
	}
}

func ruleListWritten(p *listProbe) {
	keys, opts := p.fill("written", 20)
	versions := map[string]session.Version{}
	for _, key := range keys {
		versions[key] = p.load(key).Version
	}
	write := func(data string) bool {
		for _, key := range keys {
			v, err := p.other.Save(p.ctx, key, replacing(p.record(data), versions[key]))
			if err != nil {
				return false // or another rule says so
			}
			versions[key] = v
		}
		return true
	}
	// Others write all records once before the list goes on, and then again and
	// again.
	var writer sync.WaitGroup
	defer writer.Wait()
	begin, once, end := make(chan struct{}), make(chan struct{}), make(chan struct{})
	defer close(end)
	writer.Add(1)
	go func() {
		defer writer.Done()
		<-begin
		going := write("new")
		close(once)
		for i := 0; going; i++ {
			select {
			case <-end:
				return
			case <-time.After(time.Millisecond):
				going = write(strings.Repeat("new", i%5))
			}
		}
	}()
	var first sync.Once
	var mu sync.Mutex
	entries := map[string]admin.Entry{}
	_, err := p.l.List(p.ctx, opts, func(e admin.Entry) error {
		first.Do(func() {
			close(begin)
			select {
			case <-once:
			case <-time.After(500 * time.Millisecond): // rule ListVisitUsesStore has a store that hangs
			}
		})
		mu.Lock()
		defer mu.Unlock()
		entries[e.Key] = e
		return nil
	})
	first.Do(func() { close(begin) })
	if err != nil {
		p.Errorf("List: %v", err)
	}
	if n := missing(keys, entries); err == nil && n > 0 {
		p.Errorf("a list leaves out %d of %d records that were written meanwhile, and live all the time", n, len(keys))
	}
}

func ruleListKeyPrefix(p *listProbe) {
	live := func(names ...string) (keys []string) {
		for _, name := range names {
			keys = append(keys, p.key(name))
			p.save(p.key(name), p.record("1"))
		}
		return keys
	}
	ours := live("a/", "a/b", "a/a/", "a/%")
	others := live("a", "A/", "A/b", "b/"+p.key("a/"), "ab", "%", "a%", "a\\/")
	visited := p.list(p.l, admin.ListOptions{KeyPrefix: p.key("a/")})
	if n := missing(ours, visited); n > 0 {
		p.Errorf("a list leaves out %d of %d records that begin with KeyPrefix", n, len(ours))
	}
	if n := len(others) - missing(others, visited); n > 0 || len(visited) > len(ours) {
		p.Errorf("a list visits %d records, of which only %d begin with KeyPrefix", len(visited), len(ours))
	}
	all := slices.Concat(ours, others)
	if n := missing(all, p.list(p.l, admin.ListOptions{})); n > 0 {
		p.Errorf("a list without a KeyPrefix leaves out %d of %d records", n, len(all))
	}
	// What is a pattern elsewhere is none here.
	for i, pattern := range [][2]string{
		{"*", "zz"}, {"?", "z"}, {"[yz]", "z"}, {"_", "z"}, {".*", "zz"}, {"\\z", "z"}, {"(z)", "z"},
	} {
		in, out := live("p/" + pattern[0] + "/in")[0], live(fmt.Sprint("p/", pattern[1], "/out", i))[0]
		visited := p.list(p.l, admin.ListOptions{KeyPrefix: p.key("p/" + pattern[0] + "/")})
		if missing([]string{in}, visited) > 0 {
			p.Errorf("a list with a KeyPrefix that ends in %q leaves out a record that begins with it", pattern[0]+"/")
		}
		if missing([]string{out}, visited) == 0 {
			p.Errorf("a list with a KeyPrefix that ends in %q visits a record of which the key has %q there", pattern[0]+"/", pattern[1]+"/")
		}
	}
}

func ruleListKeeps(p *listProbe) {
	keys, opts := p.fill("kept", 5)
	before := map[string]session.Record{}
	for _, key := range keys {
		before[key] = p.load(key)
	}
	opts.DataWith = "old"
	p.list(p.l, opts)
	for _, key := range keys {
		p.unchanged(key, before[key], "a list")
	}
}

func ruleListEntry(p *listProbe) {
	opts := admin.ListOptions{KeyPrefix: p.key("entry/")}
	for i, data := range []string{"", "x", "äöü", strings.Repeat("y", 1000)} {
		key := p.key(fmt.Sprint("entry/", i))
		rec := p.record(data)
		rec.Created = rec.Created.Add(time.Duration(i) * time.Hour)
		rec.Expires = rec.Expires.Add(time.Duration(i) * time.Hour)
		v := p.save(key, rec)
		switch i {
		case 1: // Entry has the deadline that was moved
			if err := p.b.Touch(p.ctx, key, rec.Expires.Add(48*time.Hour)); err != nil {
				p.Fatalf("Touch: %v", err)
			}
		case 3: // and the data that was replaced
			p.save(key, replacing(p.record("another"), v))
		}
	}
	records := map[string]session.Record{}
	for i := range 4 {
		key := p.key(fmt.Sprint("entry/", i))
		records[key] = p.load(key)
	}
	for key, e := range p.list(p.otherL, opts) {
		rec := records[key]
		if !e.Created.Equal(rec.Created) || !e.Expires.Equal(rec.Expires) {
			p.Errorf("an Entry has the times %v and %v, and Load returns %v and %v", e.Created.UTC(), e.Expires.UTC(), rec.Created.UTC(), rec.Expires.UTC())
		}
		if e.DataSize != len(rec.Data) || e.Size < e.DataSize {
			p.Errorf("an Entry of a record with %d bytes of Data has the DataSize %d and the Size %d", len(rec.Data), e.DataSize, e.Size)
		}
		if e.Foreign || !e.LockedUntil.IsZero() || e.Data != "" {
			p.Errorf("the Entry of a record that Save wrote, and that is not locked, is %+v", e)
		}
	}
}

func ruleListData(p *listProbe) {
	opts := admin.ListOptions{KeyPrefix: p.key("data/mark/")}
	data := map[string]string{
		"alone": "mark", "within": "a mark, and more", "at the end": "it ends in mark", "twice": "markmark", "long": strings.Repeat("x", 3000) + "mark",
		"case": "Mark MARK", "pattern": "m?rk m.rk %ark", "parts": "ma rk", "empty": "", "none": "nothing of it",
	}
	for name, text := range data {
		p.save(opts.KeyPrefix+name, p.record(text))
	}
	for _, with := range []string{"", "mark", "m?rk", "m.rk", "%ark", "absent"} {
		opts.DataWith = with
		for key, e := range p.list(p.l, opts) {
			want := data[strings.TrimPrefix(key, opts.KeyPrefix)]
			if with == "" || !strings.Contains(want, with) {
				want = ""
			}
			if e.Data != want {
				p.Errorf("with DataWith %q, an Entry has %d bytes of Data that begin with %.40q, want %d: %.40q", with, len(e.Data), e.Data, len(want), want)
			}
		}
	}
}

func ruleListLimit(p *listProbe) {
	keys, opts := p.fill("some", 10)
	p.fill("other", 10)
	for _, segments := range []int{1, 3} {
		opts.Segments = segments
		for _, limit := range []int{1, 3, len(keys)} {
			opts.Limit = limit
			if n, _, err := p.visits(p.ctx, opts, noVisit); n != limit || err != nil {
				p.Errorf("a list of %d records with Limit %d and %d Segments: %d visits, and error %v", len(keys), limit, segments, n, err)
			}
		}
	}
	opts.Limit = 10 * len(keys)
	if n, _, err := p.visits(p.ctx, opts, noVisit); n < len(keys) || err != nil {
		p.Errorf("a list of %d records with Limit %d: %d visits, and error %v", len(keys), opts.Limit, n, err)
	}
}

func ruleListStop(p *listProbe) {
	_, opts := p.fill("some", 10)
	stop := errors.New("stop, says visit")
	for _, segments := range []int{1, 3} {
		opts.Segments = segments
		for _, at := range []int{1, 4} {
			n, _, err := p.visits(p.ctx, opts, func(n int) error {
				if n >= at {
					return stop
				}
				return nil
			})
			if err != stop { //nolint:errorlint // the very error
				p.Errorf("visit returned an error: the list ended with %v, want that very error", err)
			}
			if n != at {
				p.Errorf("visit returned an error at visit %d, and was called %d times", at, n)
			}
		}
	}
}

func ruleListOneAtATime(p *listProbe) {
	keys, opts := p.fill("some", 16)
	opts.Segments, opts.Workers = 4, 4
	for _, stop := range []error{nil, errors.New("stop, says visit")} {
		var running, visits atomic.Int64
		var over atomic.Bool
		_, err := p.l.List(p.ctx, opts, func(admin.Entry) error {
			if over.Load() {
				p.Error("visit was called after List had returned")
			}
			if running.Add(1) > 1 {
				p.Error("visit was called from two goroutines at once")
			}
			time.Sleep(2 * time.Millisecond) // for others to come in
			running.Add(-1)
			if visits.Add(1) == int64(len(keys)/2) {
				return stop
			}
			return nil
		})
		over.Store(true)
		if stop == nil && err != nil {
			p.Errorf("List: %v", err)
		}
		time.Sleep(20 * time.Millisecond) // for others to come late
	}
}

func ruleListVisitUsesStore(p *listProbe) {
	_, opts := p.fill("used", 8)
	var err error
	returned := p.ends(func() {
		_, err = p.l.List(p.ctx, opts, func(e admin.Entry) error {
			rec, err := p.b.Load(p.ctx, e.Key)
			if err == nil {
				_, err = p.b.Save(p.ctx, e.Key, replacing(rec, rec.Version))
			}
			return errors.Join(err, p.b.Touch(p.ctx, e.Key, p.later()), p.b.Delete(p.ctx, p.key("other")))
		})
	})
	if !returned {
		p.Fatalf("a list has not returned after %v while visit calls the backend", p.patience)
	}
	if err != nil && !errors.Is(err, session.ErrNotFound) {
		p.Errorf("a list whose visit calls the backend: %v", err)
	}
}

func ruleListReport(p *listProbe) {
	keys, opts := p.fill("some", 10)
	stop := errors.New("stop, says visit")
	const pause = 20 * time.Millisecond
	for _, at := range []int{0, len(keys) / 2} {
		visits, r, err := p.visits(p.ctx, opts, func(n int) error {
			if n == 1 {
				time.Sleep(pause)
			}
			if n == at {
				return stop
			}
			return nil
		})
		if at == 0 && err != nil {
			p.Errorf("List: %v", err)
		}
		if r.Scanned < int64(visits) {
			p.Errorf("after %d visits, and error %v, the report says that %d records were looked at", visits, err, r.Scanned)
		}
		if r.Foreign != 0 || r.Checkpoint != nil || max(r.Expired, r.Deleted, r.Kept, r.Skipped, r.Failed) != 0 {
			p.Errorf("after a list of %d records that Save wrote, and error %v, the report is %+v", visits, err, r)
		}
		if r.Elapsed < pause/2 { // clocks may be coarse
			p.Errorf("a list with a visit of %v says that it took %v", pause, r.Elapsed)
		}
	}
}

func ruleListOptions(p *listProbe) {
	_, opts := p.fill("some", 3)
	for name, set := range map[string]func(*admin.ListOptions){
		"a negative Limit":       func(o *admin.ListOptions) { o.Limit = -1 },
		"negative ReadUnits":     func(o *admin.ListOptions) { o.ReadUnits = -1 },
		"ReadUnits of no number": func(o *admin.ListOptions) { o.ReadUnits = math.NaN() },
		"negative Segments":      func(o *admin.ListOptions) { o.Segments = -1 },
		"negative Workers":       func(o *admin.ListOptions) { o.Workers = -1 },
	} {
		opts := opts
		set(&opts)
		if n, _, err := p.visits(p.ctx, opts, noVisit); err == nil || n > 0 {
			p.Errorf("a list with %s: error %v after %d visits, want an error before the first", name, err, n)
		}
	}
}

func ruleListUnsupported(p *listProbe) {
	keys, opts := p.fill("some", 5)
	opts.ReadUnits = 1e6
	switch n, _, err := p.visits(p.ctx, opts, noVisit); {
	case err == nil && n < len(keys):
		p.Errorf("a list with ReadUnits: no error, and %d visits of %d records", n, len(keys))
	case err != nil && !errors.Is(err, errors.ErrUnsupported):
		p.Errorf("a list with ReadUnits: got error %v, want none, or one that wraps errors.ErrUnsupported", err)
	case err != nil && n > 0:
		p.Errorf("a list with ReadUnits failed after %d visits, want an error before the first", n)
	}
}

func ruleDoneContextList(p *listProbe) {
	_, opts := p.fill("some", 3)
	for _, ctx := range doneContexts(p.ctx) {
		n, _, err := p.visits(ctx, opts, noVisit)
		if !errors.Is(err, ctx.Err()) {
			p.Errorf("with a done context: got error %v, want one that wraps %v", err, ctx.Err())
		}
		if n > 0 {
			p.Errorf("with a done context: %d visits", n)
		}
	}
}

func ruleContextEndsList(p *listProbe) {
	keys, opts := p.fill("some", 12)
	list := func(visit func(context.CancelFunc) error) (n int, err error) {
		ctx, cancel := context.WithCancel(p.ctx)
		defer cancel()
		if !p.ends(func() { n, _, err = p.visits(ctx, opts, func(int) error { return visit(cancel) }) }) {
			p.Fatalf("a list has not returned %v after its context ended", p.patience)
		}
		return n, err
	}
	n, err := list(func(cancel context.CancelFunc) error { cancel(); return nil })
	switch {
	case err == nil && n < len(keys):
		p.Errorf("the context ended during a list: no error, and %d visits of %d records", n, len(keys))
	case err != nil && !errors.Is(err, context.Canceled):
		p.Errorf("the context ended during a list: got error %v, want one that wraps %v", err, context.Canceled)
	}
	if p.fail == nil {
		return
	}
	defer p.fail()()
	ctx, cancel := context.WithCancel(p.ctx)
	time.AfterFunc(20*time.Millisecond, cancel)
	if !p.ends(func() { _, _, _ = p.visits(ctx, opts, noVisit) }) {
		p.Errorf("while the store fails, a list has not returned %v after its context ended", p.patience)
	}
}

func ruleStoreFailureList(p *listProbe) {
	_, opts := p.fill("some", 5)
	var n int
	p.failures(func(ctx context.Context) []namedCall {
		return []namedCall{{"List", func() (err error) { n, _, err = p.visits(ctx, opts, noVisit); return err }}}
	})
	if n > 0 {
		p.Errorf("a list while the store failed: %d visits", n)
	}
}

func ruleListLocked(p *listProbe) {
	opts := admin.ListOptions{KeyPrefix: p.key("lock/")}
	const free, held, freed, brief = "free", "held", "freed", "lease over"
	acquire := func(name string, ttl time.Duration) session.Record {
		rec, err := p.b.(session.LockingBackend).Acquire(p.ctx, opts.KeyPrefix+name, ttl)
		if err != nil {
			p.Fatalf("Acquire: %v", err)
		}
		return rec
	}
	for _, name := range []string{free, held, freed, brief} {
		p.save(opts.KeyPrefix+name, p.record("1"))
	}
	rec := acquire(freed, long)
	if err := p.b.(session.LockingBackend).Release(p.ctx, opts.KeyPrefix+freed, rec.Version, time.Time{}); err != nil {
		p.Fatalf("Release: %v", err)
	}
	acquire(brief, p.brief())
	over := p.now().Add(p.brief())
	acquire(held, long)
	p.wait(over)
	entries := p.list(p.otherL, opts)
	if len(entries) != 4 {
		p.Errorf("a list visits %d of 4 records, of which one is locked, and two were", len(entries))
	}
	for key, e := range entries {
		until := p.load(key).LockedUntil
		name := strings.TrimPrefix(key, opts.KeyPrefix)
		if d := e.LockedUntil.Sub(until).Abs(); e.LockedUntil.IsZero() != until.IsZero() || d > time.Minute {
			p.Errorf("the Entry of the record %q is locked until %v, and Load says %v", name, e.LockedUntil.UTC(), until.UTC())
		}
	}
}
