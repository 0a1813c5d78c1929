package conformance

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-a7bee19b/session"
)

// raceRules are about concurrent calls.
var raceRules = []backendRule{
	{name: "RaceCreate", run: ruleRaceCreate, quotes: concurrent},
	{name: "RaceSave", run: ruleRaceSave, quotes: concurrent},
	{name: "RaceTouch", run: ruleRaceTouch, quotes: concurrent},
	{name: "RaceDelete", run: ruleRaceDelete, quotes: append(concurrent,
		"Once it has returned, no Save with an older version and no Touch may bring the record back.",
	)},
	{name: "RaceLoad", run: ruleRaceLoad, wide: true, quotes: append(concurrent,
		"a Load that begins after a write has returned MUST NOT answer with what was there before, whichever client of the store wrote.",
		"It may come from a second read, but MUST be one state of the record, whole.",
	)},
}

// pairRules are races of two calls that begin at the same moment, many times. They
// find a gap between a read and a write even if nothing widens it.
var pairRules = []backendRule{
	{name: "PairCreate", run: rulePairCreate, alone: true, wide: true, quotes: append(concurrent,
		"With a zero rec.Version it creates: it MUST fail with a *ConflictError if a live record exists.",
	)},
	{name: "PairCreateExpired", run: rulePairCreateExpired, waits: true, wide: true, quotes: append(concurrent,
		"With a zero rec.Version it creates: it MUST fail with a *ConflictError if a live record exists.",
		"It MUST keep a record until its Expires;",
	)},
	{name: "PairSave", run: rulePairSave, alone: true, wide: true, quotes: append(concurrent,
		"Otherwise it replaces, and MUST fail with a *ConflictError unless the stored version is still rec.Version, byte by byte.",
	)},
	{name: "PairTouch", run: rulePairTouch, alone: true, wide: true, quotes: append(concurrent,
		"Touch moves Expires forward; it MUST NOT change data, Created or version.",
		"then the later of the two MUST stay, as another request may have moved it by Touch since;",
	)},
	{name: "PairDelete", run: rulePairDelete, alone: true, wide: true, quotes: append(concurrent,
		"Once it has returned, no Save with an older version and no Touch may bring the record back.",
	)},
}

var (
	doneContext = []string{
		"a call that starts with a done ctx MUST fail with an error that wraps the ctx's error, and change nothing.",
	}
	concurrent = []string{
		"Every method MUST be safe for concurrent use, and its effect MUST be linearizable per key",
	}
)

// sound reports whether the backend works without concurrency. If it does not,
// other rules report that, and a race would only repeat it.
func (p *probe) sound() bool {
	ok := p.soundly()
	if !ok {
		p.leaveOut("the backend fails already without concurrency")
	}
	return ok
}

func (p *probe) soundly() bool {
	key := p.key("sound")
	is := func(b session.Backend, data string, v session.Version) bool {
		rec, err := b.Load(p.ctx, key)
		return err == nil && string(rec.Data) == data && rec.Version == v
	}
	refused := func(rec session.Record) bool {
		var conflict *session.ConflictError
		_, err := p.b.Save(p.ctx, key, rec)
		return errors.As(err, &conflict)
	}
	v1, err := p.b.Save(p.ctx, key, p.record("1"))
	if err != nil || !refused(p.record("2")) || !is(p.b, "1", v1) || !is(p.other, "1", v1) {
		return false
	}
	v2, err := p.other.Save(p.ctx, key, replacing(p.record("2"), v1))
	if err != nil || !refused(replacing(p.record("3"), v1)) || !is(p.b, "2", v2) || !is(p.other, "2", v2) {
		return false
	}
	until := p.later().Add(time.Hour)
	if p.b.Touch(p.ctx, key, until) != nil || p.b.Touch(p.ctx, key, until.Add(-time.Hour)) != nil || !is(p.b, "2", v2) {
		return false
	}
	if rec, err := p.b.Load(p.ctx, key); err != nil || rec.Expires.Before(until) {
		return false
	}
	if p.b.Delete(p.ctx, key) != nil || p.alive(key) || !refused(replacing(p.record("3"), v2)) ||
		p.b.Touch(p.ctx, key, until) == nil || p.alive(key) {
		return false
	}
	v3, err := p.b.Save(p.ctx, key, p.record("4"))
	return err == nil && v3 != v2 && v3 != v1 && is(p.other, "4", v3)
}

// race calls f n times at once, with the two clients in turn.
func (p *probe) race(n int, f func(i int, b session.Backend)) {
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		b := p.b
		if i%2 == 1 {
			b = p.other
		}
		wg.Add(1)
		go func() {
			defer wg.Done()
			<-start
			f(i, b)
		}()
	}
	close(start)
	wg.Wait()
}

// pairs starts first and second at the same moment, again and again until the
// spell is over. While first runs, second is called again as long as it returns
// true. prepare runs before each round and check after it; the pairs end when
// one of them returns false.
func (s *scene) pairs(prepare func(round int) bool, first func(round int), second func(round int) bool, check func(round int) bool) {
	var turn, ready, over, done atomic.Int64
	defer turn.Store(-1)
	await := func(n *atomic.Int64, reached func(int64) bool) {
		for spins := 0; !reached(n.Load()) && !s.results.hung.Load(); spins++ {
			if spins < 1000 {
				runtime.Gosched()
			} else {
				time.Sleep(20 * time.Microsecond) // the store is slow
			}
		}
	}
	// Wait up to a microsecond, so that any two steps overlap in some round.
	jitter := func() {
		for range rand.IntN(1 << rand.IntN(11)) {
			turn.Load()
		}
	}
	go func() {
		for round := int64(1); ; round++ {
			await(&turn, func(n int64) bool { return n < 0 || n >= round })
			if turn.Load() < 0 || s.results.hung.Load() {
				return
			}
			ready.Store(round)
			jitter()
			for again := true; again; {
				again = second(int(round)-1) && over.Load() < round
			}
			done.Store(round)
		}
	}()
	s.oftenFor(2*s.results.spell, 10, manyPairs, func(round int) bool {
		if !prepare(round) {
			return false
		}
		turn.Store(int64(round) + 1)
		await(&ready, func(n int64) bool { return n > int64(round) })
		jitter()
		first(round)
		over.Store(int64(round) + 1)
		await(&done, func(n int64) bool { return n > int64(round) })
		return check(round)
	})
}

const manyPairs = 20_000

// once makes a second of pairs that runs once in a round.
func once(f func(round int)) func(round int) bool {
	return func(round int) bool { f(round); return false }
}

func ruleRaceCreate(p *probe) {
	if !p.sound() {
		return
	}
	const rounds, writers = 10, 8
	for round := range rounds {
		key := p.key(fmt.Sprint(round))
		var versions [writers]session.Version
		var errs [writers]error
		p.race(writers, func(i int, b session.Backend) {
			versions[i], errs[i] = b.Save(p.ctx, key, p.record(fmt.Sprint(i)))
		})
		won := -1
		for i, err := range errs {
			switch {
			case err != nil:
				p.conflict(err, "Save that creates a record that others create at the same time")
			case won >= 0:
				p.Fatalf("of %d concurrent Saves that create the same record, numbers %d and %d succeeded, want one to succeed", writers, won, i)
			default:
				won = i
			}
		}
		if won < 0 {
			p.Fatalf("of %d concurrent Saves that create the same record none succeeded, want one to succeed", writers)
		}
		if rec := p.load(key); string(rec.Data) != fmt.Sprint(won) || rec.Version != versions[won] {
			p.Fatalf("Load after number %d of %d concurrent Saves created the record: got Data %q, version %q; want Data %q, version %q",
				won, writers, rec.Data, rec.Version, fmt.Sprint(won), versions[won])
		}
	}
}

func ruleRaceSave(p *probe) {
	if !p.sound() {
		return
	}
	const writers, increments = 8, 10
	// Each conflict means that another writer made progress, so this is plenty.
	const attempts = 10 * writers * increments
	key := p.key("counter")
	var mu sync.Mutex
	seen := map[session.Version]bool{p.save(key, p.record("0")): true}
	p.race(writers, func(_ int, b session.Backend) {
		done := 0
		for range attempts {
			rec, err := b.Load(p.ctx, key)
			if err != nil {
				p.Errorf("Load among concurrent Saves: got error %v, want none", err)
				return
			}
			n, err := strconv.Atoi(string(rec.Data))
			if err != nil {
				p.Errorf("Load among concurrent Saves of numbers: got Data %q, want a number", rec.Data)
				return
			}
			v, err := b.Save(p.ctx, key, replacing(p.record(strconv.Itoa(n+1)), rec.Version))
			if errors.Is(err, session.ErrConflict) {
				continue
			}
			if err != nil {
				p.Errorf("Save among concurrent Saves: got error %v, want none or a conflict", err)
				return
			}
			mu.Lock()
			if seen[v] {
				p.Errorf("two of many concurrent Saves returned version %q, want new ones", v)
			}
			seen[v] = true
			mu.Unlock()
			if done++; done == increments {
				return
			}
		}
		p.Errorf("a writer among %d saved %d of %d increments in %d attempts, want all: each conflict has to mean that another Save succeeded", writers, done, increments, attempts)
	})
	if got := string(p.load(key).Data); got != strconv.Itoa(writers*increments) && !p.Failed() {
		p.Errorf("Load after %d concurrent increments were saved: got %s, want %[1]d", writers*increments, got)
	}
}

func ruleRaceTouch(p *probe) {
	if !p.sound() {
		return
	}
	p.saveAmongTouches(p.key("a"))
	p.touchTogether(p.key("b"))
}

// saveAmongTouches saves while others touch. No Save may be refused or lost.
func (p *probe) saveAmongTouches(key string) {
	until := p.later()
	v := p.save(key, p.record("0"))
	const saves, touchers = 20, 3
	done, touched := make(chan struct{}), make(chan struct{})
	p.race(1+touchers, func(i int, b session.Backend) {
		if i > 0 {
			for n := 1; ; n++ {
				select {
				case <-done:
					return
				default:
				}
				if err := b.Touch(p.ctx, key, until.Add(time.Duration(n*touchers+i)*time.Second)); err != nil {
					p.Errorf("Touch among concurrent Saves and Touches: got error %v, want none", err)
					return
				}
				select {
				case touched <- struct{}{}:
				case <-done:
				}
			}
		}
		defer close(done)
		for n := 1; n <= saves; n++ {
			var err error
			if v, err = b.Save(p.ctx, key, replacing(p.record(fmt.Sprint(n)), v)); err != nil {
				p.Errorf("Save among concurrent Touches: got error %v, want none", err)
				return
			}
			soon(touched) // and the next Touch begins
		}
	})
	if rec := p.load(key); !p.Failed() && (string(rec.Data) != fmt.Sprint(saves) || rec.Version != v) {
		p.Errorf("Load after %d Saves among concurrent Touches: got Data %q, version %q; want those of the last Save, \"%[1]d\", %[4]q",
			saves, rec.Data, rec.Version, v)
	}
}

// touchTogether makes concurrent Touches. The latest deadline has to win.
func (p *probe) touchTogether(key string) {
	p.save(key, p.record("1"))
	const rounds, writers = 10, 6
	for round := range rounds {
		base := p.later().Add(time.Duration(round*writers) * time.Minute)
		p.race(writers, func(i int, b session.Backend) {
			if err := b.Touch(p.ctx, key, base.Add(time.Duration(i)*time.Minute)); err != nil {
				p.Errorf("Touch among concurrent Touches: got error %v, want none", err)
			}
		})
		want := base.Add((writers - 1) * time.Minute)
		if got := p.load(key).Expires; got.Before(want) {
			p.Errorf("Load after %d concurrent Touches: got Expires %v, want the latest, %v", writers, got, want)
			return
		}
	}
}

func ruleRaceDelete(p *probe) {
	if !p.sound() {
		return
	}
	const rounds, writers, tries = 20, 4, 10
	for round := range rounds {
		key := p.key(fmt.Sprint(round))
		first := p.save(key, p.record("1"))
		saved, touched := make(chan struct{}, writers*tries), make(chan struct{}, writers*tries)
		p.race(1+writers, func(i int, b session.Backend) {
			switch {
			case i == 0:
				switch round % 3 { // or at once
				case 1:
					soon(saved)
				case 2:
					soon(touched)
				}
				if err := b.Delete(p.ctx, key); err != nil {
					p.Errorf("Delete among concurrent Saves and Touches: got error %v, want none", err)
				}
			case i <= writers/2:
				v := first
				for range tries {
					next, err := b.Save(p.ctx, key, replacing(p.record("2"), v))
					if err != nil {
						return
					}
					v = next
					saved <- struct{}{}
				}
			default:
				for n := range tries {
					if b.Touch(p.ctx, key, p.later().Add(time.Duration(n)*time.Minute)) != nil {
						return
					}
					touched <- struct{}{}
				}
			}
		})
		if p.alive(key) {
			p.Fatal("a Save or Touch concurrent with a Delete brought the record back, want it to stay deleted")
		}
	}
}

func ruleRaceLoad(p *probe) {
	if !p.sound() {
		return
	}
	// Others load all the time, so that a Load may meet one that began before
	// the write.
	const readers = 4
	r := &loadRace{probe: p, key: p.key("a")}
	r.version = p.save(r.key, p.record("0"))
	r.states.Store(r.version, "0")
	done := make(chan struct{})
	p.race(1+readers, func(i int, b session.Backend) {
		if i > 0 {
			r.read(b, done)
			return
		}
		defer close(done)
		p.often(10, 5000, func(n int) bool { return r.replaced(n) && r.touched(n) && (n%8 != 7 || r.deleted()) })
	})
}

// A loadRace is a record that one client writes while others load it.
type loadRace struct {
	*probe
	key     string
	version session.Version // of the last Save
	states  sync.Map        // Data by version
}

// read loads the record until done, and causes conflicts, which carry it.
func (r *loadRace) read(b session.Backend, done <-chan struct{}) {
	whole := func(call string, rec session.Record) {
		if data, ok := r.states.Load(rec.Version); ok && data != string(rec.Data) {
			r.Errorf("%s among concurrent Saves: got the version of Data %q with Data %q, want one state of the record", call, data, rec.Data)
		}
	}
	for {
		select {
		case <-done:
			return
		default:
		}
		if rec, err := b.Load(r.ctx, r.key); err == nil {
			whole("Load", rec)
		}
		var conflict *session.ConflictError
		if err := second(b.Save(r.ctx, r.key, replacing(r.record("x"), "no such version"))); errors.As(err, &conflict) && conflict.Current != nil {
			whole("Current of a ConflictError", *conflict.Current)
		}
	}
}

// replaced replaces the record, and reports whether Loads see that.
func (r *loadRace) replaced(n int) bool {
	data := fmt.Sprint(n + 1)
	v, err := r.other.Save(r.ctx, r.key, replacing(r.record(data), r.version))
	if err != nil {
		r.Errorf("Save without another writer: got error %v, want none", err)
		return false
	}
	r.version = v
	r.states.Store(v, data)
	for _, b := range []session.Backend{r.b, r.other} {
		if rec, err := b.Load(r.ctx, r.key); err != nil || string(rec.Data) != data || rec.Version != v {
			r.Errorf("Load after a Save of Data %q, among concurrent Loads: got error %v, Data %q, version %q; want version %q", data, err, rec.Data, rec.Version, v)
			return false
		}
	}
	return true
}

// touched moves the deadline, and reports whether a Load sees that.
func (r *loadRace) touched(n int) bool {
	until := r.later().Add(time.Duration(n) * time.Second)
	if err := r.other.Touch(r.ctx, r.key, until); err != nil {
		r.Errorf("Touch of a live record: got error %v, want none", err)
		return false
	}
	if rec, err := r.b.Load(r.ctx, r.key); err != nil || rec.Expires.Before(until) {
		r.Errorf("Load after a Touch to %v, among concurrent Loads: got error %v, Expires %v", until, err, rec.Expires)
		return false
	}
	return true
}

// deleted deletes the record and creates it again, and reports whether Loads see
// that.
func (r *loadRace) deleted() bool {
	if err := r.other.Delete(r.ctx, r.key); err != nil {
		r.Errorf("Delete of a live record: got error %v, want none", err)
		return false
	}
	if r.alive(r.key) {
		r.Error("Load after a Delete, among concurrent Loads, returned the record, want ErrNotFound")
		return false
	}
	v, err := r.other.Save(r.ctx, r.key, r.record("new"))
	if err != nil {
		r.Errorf("Save that creates a record after Delete: got error %v, want none", err)
		return false
	}
	r.version = v
	r.states.Store(v, "new")
	if !r.alive(r.key) {
		r.Error("Load after a Save that created a record, among concurrent Loads: got ErrNotFound, want the record")
		return false
	}
	return true
}

func rulePairCreate(p *probe) {
	if !p.sound() {
		return
	}
	key := p.key("a")
	var v [2]session.Version
	var errs [2]error
	create := func(i int, b session.Backend) func(int) {
		return func(round int) { v[i], errs[i] = b.Save(p.ctx, key, p.record(fmt.Sprint(round, i))) }
	}
	p.pairs(func(int) bool { return p.b.Delete(p.ctx, key) == nil }, create(0, p.b), once(create(1, p.other)), func(round int) bool {
		return p.oneCreated(key, round, v, errs)
	})
}

// oneCreated reports an error unless one of two calls created the record.
func (p *probe) oneCreated(key string, round int, v [2]session.Version, errs [2]error) bool {
	won := 0
	if errs[0] != nil {
		won = 1
	}
	if errs[won] != nil || errs[1-won] == nil {
		p.Errorf("two concurrent Saves that create the same record: got errors %v and %v, want one to succeed", errs[0], errs[1])
		return false
	}
	p.conflict(errs[1-won], "Save that creates a record that another creates at the same time")
	rec, err := p.b.Load(p.ctx, key)
	if err != nil || string(rec.Data) != fmt.Sprint(round, won) || rec.Version != v[won] {
		p.Errorf("Load after one of two concurrent Saves created a record: got error %v, Data %q, version %q; want Data %q, version %q",
			err, rec.Data, rec.Version, fmt.Sprint(round, won), v[won])
	}
	return !p.Failed()
}

// rulePairCreateExpired creates a record over one that has expired, while another
// call may remove that one.
func rulePairCreateExpired(p *probe) {
	if !p.sound() {
		return
	}
	const n = 100
	key := func(round int) string { return p.key(fmt.Sprint(round % n)) }
	soon := p.soon()
	var old [n]session.Version
	together(n, func(i int) {
		var err error
		if old[i], err = p.b.Save(p.ctx, key(i), expiring(p.record("old"), soon)); err != nil {
			p.Errorf("Save of a valid record: got error %v, want none", err)
		}
	})
	p.wait(soon)
	past := p.now().Add(-time.Hour)
	var v [2]session.Version
	var errs [2]error
	create := func(i int, b session.Backend, round int) {
		v[i], errs[i] = b.Save(p.ctx, key(round), p.record(fmt.Sprint(round, i)))
	}
	p.pairs(func(round int) bool {
		if round < n {
			return true
		}
		var err error // end the record of an earlier round, which is as good as expiry
		old[round%n], err = p.b.Save(p.ctx, key(round), replacing(expiring(p.record("old"), past), old[round%n]))
		return err == nil // or rule SavePast reports it
	}, func(round int) { create(0, p.b, round) }, func(round int) bool {
		was := old[round%n]
		switch round % 8 {
		case 0, 1:
			create(1, p.other, round)
			return false
		case 4:
			_ = p.other.Touch(p.ctx, key(round), p.later().Add(time.Hour))
		case 5:
			if _, err := p.other.Save(p.ctx, key(round), replacing(p.record("revived"), was)); err == nil {
				p.Error("Save with the version of a record that has expired, while another is created: got no error, want a conflict")
			}
		case 6:
			_, _ = p.other.Save(p.ctx, key(round), replacing(expiring(p.record("ended"), past), was))
		}
		_, _ = p.other.Load(p.ctx, key(round))
		v[1], errs[1] = "", &session.ConflictError{}
		return true
	}, func(round int) bool {
		old[round%n] = max(v[0], v[1]) // one is empty
		return p.oneCreated(key(round), round, v, errs)
	})
}

func rulePairSave(p *probe) {
	if !p.sound() {
		return
	}
	key := p.key("a")
	v := p.save(key, p.record("0"))
	var next [2]session.Version
	var errs [2]error
	save := func(i int, b session.Backend) func(int) {
		return func(round int) { next[i], errs[i] = b.Save(p.ctx, key, replacing(p.record(fmt.Sprint(round, i)), v)) }
	}
	p.pairs(func(int) bool { return true }, save(0, p.b), once(save(1, p.other)), func(round int) bool {
		won := 0
		if errs[0] != nil {
			won = 1
		}
		if errs[won] != nil || errs[1-won] == nil {
			p.Errorf("two concurrent Saves that replace the same version: got errors %v and %v, want one to succeed", errs[0], errs[1])
			return false
		}
		rec, err := p.b.Load(p.ctx, key)
		if err != nil || string(rec.Data) != fmt.Sprint(round, won) || rec.Version != next[won] {
			p.Errorf("Load after one of two concurrent Saves succeeded: got error %v, Data %q, version %q; want Data %q, version %q",
				err, rec.Data, rec.Version, fmt.Sprint(round, won), next[won])
			return false
		}
		v = next[won]
		return true
	})
}

func rulePairTouch(p *probe) {
	if !p.sound() {
		return
	}
	key := p.key("a")
	v := p.save(key, p.record("0"))
	var saveErr, touchErr error
	until := p.later()
	// In every round the deadline is a minute later.
	at := func(round int) time.Time { return until.Add(time.Duration(round+1) * time.Minute) }
	p.pairs(func(int) bool { return true }, func(round int) {
		rec := replacing(expiring(p.record(fmt.Sprint(round)), at(round).Add(-30*time.Second)), v)
		rec.KeepLater = true
		v, saveErr = p.b.Save(p.ctx, key, rec)
	}, func(round int) bool {
		touchErr = p.other.Touch(p.ctx, key, at(round))
		return touchErr == nil
	}, func(round int) bool {
		if saveErr != nil || touchErr != nil {
			p.Errorf("a Save and a concurrent Touch: got errors %v and %v, want none", saveErr, touchErr)
			return false
		}
		rec := p.load(key)
		if string(rec.Data) != fmt.Sprint(round) || rec.Version != v || rec.Expires.Before(at(round)) {
			p.Errorf("Load after a Save with KeepLater of Data \"%d\", version %q, and a concurrent Touch to %v: got %s, Data %q; want the Data and version of the Save and the Expires of the Touch",
				round, v, at(round), describe(rec), rec.Data)
			return false
		}
		return true
	})
	until = until.Add(manyPairs * time.Minute)
	var errs [2]error
	p.pairs(func(int) bool { return true },
		func(round int) { errs[0] = p.b.Touch(p.ctx, key, at(round).Add(time.Duration(round%2)*30*time.Second)) },
		once(func(round int) {
			errs[1] = p.other.Touch(p.ctx, key, at(round).Add(time.Duration(1-round%2)*30*time.Second))
		}),
		func(round int) bool {
			want := at(round).Add(30 * time.Second)
			if rec := p.load(key); errors.Join(errs[:]...) != nil || rec.Expires.Before(want) {
				p.Errorf("Load after two concurrent Touches, the later to %v: got errors %v and Expires %v, want the later Expires", want, errors.Join(errs[:]...), rec.Expires)
				return false
			}
			return true
		})
}

func rulePairDelete(p *probe) {
	if !p.sound() {
		return
	}
	key := p.key("a")
	var v session.Version
	var err error
	p.pairs(func(int) bool {
		v = p.save(key, p.record("1"))
		return true
	}, func(int) { err = p.b.Delete(p.ctx, key) }, func(round int) bool {
		if round%2 == 0 {
			return p.other.Touch(p.ctx, key, p.later().Add(time.Hour)) == nil
		}
		next, err := p.other.Save(p.ctx, key, replacing(p.record("2"), v))
		v = next
		return err == nil
	}, func(int) bool {
		if err != nil || p.alive(key) {
			p.Errorf("Delete with a concurrent Touch or Save: got error %v, or a record that is live again; want none", err)
			return false
		}
		return true
	})
}
