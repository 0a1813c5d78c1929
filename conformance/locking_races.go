package conformance

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-a7bee19b/session"
)

// lockingRaceRules are about concurrent calls, some of them of holders.
var lockingRaceRules = []backendRule{
	{name: "RaceAcquire", run: locking(ruleRaceAcquire), quotes: []string{
		"Of several at once, at most one MUST succeed.",
	}},
	{name: "RaceLock", run: locking(ruleRaceLock), quotes: append(concurrent,
		"the former holder's Save, Extend and Release then fail with ErrConflict.",
	)},
	{name: "RaceLockedSave", run: locking(ruleRaceLockedSave), quotes: append(concurrent,
		"Save with any Version but the holder's MUST fail with a *LockedError and write nothing.",
	)},
	{name: "RaceTakeover", run: locking(ruleRaceTakeover), waits: true, quotes: append(concurrent,
		"and MUST NOT unlock another's.",
	)},
	{name: "RaceLockTouch", run: locking(ruleRaceLockTouch), quotes: append(concurrent,
		"Touch and Delete MUST work as on a free record.",
	)},
	{name: "RaceLockDelete", run: locking(ruleRaceLockDelete), quotes: append(concurrent,
		"Touch and Delete MUST work as on a free record. A deleted record's lock is gone with it:",
	)},
}

// lockingPairRules are pairRules for locks.
var lockingPairRules = []backendRule{
	{name: "PairAcquire", run: locking(rulePairAcquire), alone: true, wide: true, quotes: []string{
		"Of several at once, at most one MUST succeed.",
		"Save with any Version but the holder's MUST fail with a *LockedError and write nothing.",
	}},
	{name: "PairRelease", run: locking(rulePairRelease), alone: true, wide: true, quotes: append(concurrent,
		"It MUST fail with ErrConflict if v is not that of a lock which is still there, and MUST NOT unlock another's.",
		"A non-zero expires is moved as by Touch, in the same request.",
	)},
	{name: "PairLockDelete", run: locking(rulePairLockDelete), alone: true, wide: true, quotes: append(concurrent,
		"Touch and Delete MUST work as on a free record. A deleted record's lock is gone with it:",
	)},
}

// soundLocks is sound for a LockingBackend: it reports whether locks work without
// concurrency.
func (p *lockingProbe) soundLocks() bool {
	if !p.sound() {
		return false
	}
	if !p.locksSoundly() {
		p.leaveOut("the backend fails already without concurrency")
		return false
	}
	return true
}

// locksSoundly reports whether locks work without concurrency.
func (p *lockingProbe) locksSoundly() bool {
	c := lockCheck{p, p.key("sound lock")}
	v, err := c.save(p.b, "1", "")
	if err != nil {
		return false
	}
	holder, ok := c.held(v)
	return ok && c.takenOver(v, holder) && c.late() && c.deleted()
}

// A lockCheck is a record whose lock soundLocks looks at.
type lockCheck struct {
	*lockingProbe
	key string
}

func (c lockCheck) save(b session.Backend, data string, v session.Version) (session.Version, error) {
	return b.Save(c.ctx, c.key, replacing(c.record(data), v))
}

func (c lockCheck) acquire(l session.LockingBackend, ttl time.Duration) (session.Version, error) {
	ctx, cancel := context.WithTimeout(c.ctx, c.patience)
	defer cancel()
	rec, err := l.Acquire(ctx, c.key, ttl)
	if err == nil && len(rec.Data) != 1 {
		err = errors.New("not the data")
	}
	return rec.Version, err
}

// stored reports whether b loads a record with this Data.
func (c lockCheck) stored(b session.Backend, data string) (session.Version, bool) {
	rec, err := b.Load(c.ctx, c.key)
	return rec.Version, err == nil && string(rec.Data) == data
}

// same reports whether b loads the first state of the record, with version v.
func (c lockCheck) same(b session.Backend, v session.Version) bool {
	now, ok := c.stored(b, "1")
	return ok && now == v
}

// held reports whether a lock keeps others out until it is released.
func (c lockCheck) held(v session.Version) (holder session.Version, ok bool) {
	holder, err := c.acquire(c.l, long)
	if !c.same(c.b, v) || !c.same(c.other, v) || err != nil || holder == v ||
		!errors.Is(second(c.acquire(c.otherL, long)), session.ErrLocked) ||
		!errors.Is(second(c.acquire(c.l, long)), session.ErrLocked) ||
		!errors.Is(second(c.save(c.other, "2", v)), session.ErrLocked) ||
		!errors.Is(c.otherL.Release(c.ctx, c.key, v, time.Time{}), session.ErrConflict) ||
		c.l.Extend(c.ctx, c.key, holder, long) != nil ||
		c.b.Touch(c.ctx, c.key, c.later().Add(time.Hour)) != nil ||
		c.l.Release(c.ctx, c.key, holder, c.later()) != nil {
		return "", false
	}
	rec, err := c.b.Load(c.ctx, c.key)
	return holder, err == nil && !rec.Expires.Before(c.later().Add(time.Hour)) && rec.Version == v
}

// shortTTL is a ttl that a rule waits for even if it uses no brief one.
const shortTTL = 30 * time.Millisecond

// takenOver reports whether a lock is lost once its lease is over and another has
// acquired it, and whether that holder can save.
func (c lockCheck) takenOver(v, before session.Version) bool {
	former, err := c.acquire(c.otherL, shortTTL)
	if err != nil || former == before {
		return false
	}
	c.wait(c.now().Add(shortTTL))
	if !c.same(c.other, v) {
		return false
	}
	holder, err := c.acquire(c.l, long)
	if err != nil || holder == former ||
		!errors.Is(second(c.save(c.other, "2", former)), session.ErrConflict) ||
		!errors.Is(c.otherL.Extend(c.ctx, c.key, former, long), session.ErrConflict) ||
		!errors.Is(c.otherL.Release(c.ctx, c.key, former, time.Time{}), session.ErrConflict) ||
		!errors.Is(second(c.acquire(c.otherL, long)), session.ErrLocked) {
		return false
	}
	saved, err := c.save(c.b, "2", holder)
	if now, ok := c.stored(c.b, "2"); err != nil || !ok || now != saved || saved == v {
		return false
	}
	if !errors.Is(second(c.save(c.b, "3", holder)), session.ErrConflict) || second(c.save(c.other, "3", saved)) != nil {
		return false
	}
	now, ok := c.stored(c.b, "3")
	return ok && now != saved
}

// late reports whether the holder's Save after its lease either writes or fails
// with a conflict and writes nothing.
func (c lockCheck) late() bool {
	holder, err := c.acquire(c.otherL, shortTTL)
	if err != nil {
		return false
	}
	c.wait(c.now().Add(shortTTL))
	if _, err := c.save(c.other, "4", holder); err != nil {
		_, ok := c.stored(c.b, "3")
		return ok && errors.Is(err, session.ErrConflict)
	}
	return true
}

// deleted reports whether Delete ends the record and its lock.
func (c lockCheck) deleted() bool {
	holder, err := c.acquire(c.l, long)
	return err == nil && c.b.Delete(c.ctx, c.key) == nil &&
		errors.Is(second(c.save(c.b, "5", holder)), session.ErrConflict) &&
		errors.Is(second(c.acquire(c.l, long)), session.ErrNotFound) && !c.alive(c.key)
}

// race is the race of probe, for a LockingBackend.
func (p *lockingProbe) race(n int, f func(i int, l session.LockingBackend)) {
	p.probe.race(n, func(i int, b session.Backend) { f(i, b.(session.LockingBackend)) })
}

// A progress tells whether goroutines that wait for each other are stuck. They are
// not as long as one of them makes progress, even if a busy machine makes all of
// them take long.
type progress struct{ last atomic.Int64 }

func newProgress() *progress {
	p := new(progress)
	p.made()
	return p
}

func (p *progress) made() { p.last.Store(time.Now().UnixNano()) }

func (p *progress) stuck() bool { return time.Since(time.Unix(0, p.last.Load())) > patience }

// await tries to acquire again and again until it succeeds or giveUp returns true.
func (p *lockingProbe) await(l session.LockingBackend, key string, ttl time.Duration, giveUp func() bool) (session.Record, error) {
	for {
		rec, err := l.Acquire(p.ctx, key, ttl)
		if !errors.Is(err, session.ErrLocked) || giveUp() {
			return rec, err
		}
		time.Sleep(time.Duration(1+rand.IntN(1000)) * time.Microsecond)
	}
}

func ruleRaceAcquire(p *lockingProbe) {
	if !p.soundLocks() {
		return
	}
	const rounds, contenders, cycles = 10, 8, 4
	for round := range rounds {
		key := p.key(fmt.Sprint(round))
		p.save(key, p.record("1"))
		var errs [contenders]error
		p.race(contenders, func(i int, l session.LockingBackend) { errs[i] = second(l.Acquire(p.ctx, key, long)) })
		won := -1
		for i, err := range errs {
			switch {
			case err != nil:
				if !errors.Is(err, session.ErrLocked) {
					p.Errorf("Acquire of a record that others acquire at the same time: got error %v, want none or ErrLocked", err)
				}
			case won >= 0:
				p.Fatalf("of %d concurrent Acquires of one record, numbers %d and %d succeeded, want one to succeed", contenders, won, i)
			default:
				won = i
			}
		}
		if won < 0 {
			p.Fatalf("of %d concurrent Acquires of a free record none succeeded, want one to succeed", contenders)
		}
	}

	key := p.key("again and again")
	p.save(key, p.record("1"))
	progress := newProgress()
	var holders atomic.Int64
	p.race(contenders, func(_ int, l session.LockingBackend) {
		for range cycles {
			rec, err := p.await(l, key, long, progress.stuck)
			if err != nil {
				p.Errorf("Acquire among concurrent ones, tried until the lock is free: got error %v, want none", err)
				return
			}
			progress.made()
			if n := holders.Add(1); n > 1 {
				p.Errorf("%d holders have the lock at the same time, want one", n)
			}
			time.Sleep(time.Duration(rand.IntN(200)) * time.Microsecond)
			holders.Add(-1)
			if err := l.Release(p.ctx, key, rec.Version, time.Time{}); err != nil {
				p.Errorf("Release of a lock that is held: got error %v, want none", err)
				return
			}
		}
	})
}

// increment returns rec with the number in its Data increased by one.
func (p *lockingProbe) increment(rec session.Record) session.Record {
	n, err := strconv.Atoi(string(rec.Data))
	if err != nil {
		p.Errorf("Load or Acquire of a record with a number: got Data %q", rec.Data)
	}
	return replacing(p.record(strconv.Itoa(n+1)), rec.Version)
}

func ruleRaceLock(p *lockingProbe) {
	if !p.soundLocks() {
		return
	}
	for _, c := range []struct {
		name                 string
		ttl                  time.Duration
		contenders, tries    int
		pause                time.Duration // of half of the holders, before they save, at most
		everyIncrementCounts bool
	}{
		{"long", long, 6, 6, 200 * time.Microsecond, true},
		// Many holders lose the lock before they save, or at that moment.
		{"short", time.Millisecond, 6, 20, 2 * time.Millisecond, false},
	} {
		key := p.key(c.name)
		var mu sync.Mutex
		seen := map[session.Version]bool{p.save(key, p.record("0")): true}
		saved := 0
		over := time.Now().Add(p.patience / 2)
		giveUp := func() bool { return time.Now().After(over) }
		p.race(c.contenders, func(_ int, l session.LockingBackend) {
			for tries := 0; tries < c.tries && !giveUp(); {
				rec, err := p.await(l, key, c.ttl, giveUp)
				if err != nil {
					return
				}
				if rand.IntN(2) == 0 {
					time.Sleep(rand.N(c.pause))
				}
				v, err := l.Save(p.ctx, key, p.increment(rec))
				if err == nil || !c.everyIncrementCounts {
					tries++
				}
				if errors.Is(err, session.ErrConflict) || errors.Is(err, session.ErrLocked) {
					continue
				}
				if err != nil {
					p.Errorf("Save by the holder of a lock: got error %v, want none, ErrConflict or ErrLocked", err)
					return
				}
				mu.Lock()
				if seen[v] {
					p.Errorf("two of many Saves under locks returned version %q, want new ones", v)
				}
				seen[v] = true
				saved++
				mu.Unlock()
			}
		})
		if got := string(p.load(key).Data); got != strconv.Itoa(saved) && !p.Failed() {
			p.Errorf("Load after %d increments were saved under locks with a ttl of %v: got %s, want %[1]d", saved, c.ttl, got)
		}
	}
}

func ruleRaceLockedSave(p *lockingProbe) {
	if !p.soundLocks() {
		return
	}
	const cycles, writers = 20, 4
	key := p.key("counter")
	p.save(key, p.record("0"))
	var saved atomic.Int64
	done := make(chan struct{})
	p.race(1+writers, func(i int, l session.LockingBackend) {
		if i > 0 { // does not lock
			for {
				select {
				case <-done:
					return
				default:
				}
				rec, err := l.Load(p.ctx, key)
				if err != nil {
					p.Errorf("Load of a record that others lock: got error %v, want none", err)
					return
				}
				switch _, err := l.Save(p.ctx, key, p.increment(rec)); {
				case err == nil:
					saved.Add(1)
				case !errors.Is(err, session.ErrConflict) && !errors.Is(err, session.ErrLocked):
					p.Errorf("Save without a lock, of a record that others lock: got error %v, want none, ErrConflict or ErrLocked", err)
					return
				}
				time.Sleep(time.Duration(rand.IntN(300)) * time.Microsecond)
			}
		}
		defer close(done)
		for n := range cycles {
			time.Sleep(time.Duration(rand.IntN(2000)) * time.Microsecond) // so that the others get to save
			rec, err := l.Acquire(p.ctx, key, long)
			if err != nil {
				p.Errorf("Acquire without another that locks: got error %v, want none", err)
				return
			}
			time.Sleep(time.Duration(rand.IntN(2000)) * time.Microsecond)
			if n%4 == 3 {
				if err := l.Release(p.ctx, key, rec.Version, time.Time{}); err != nil {
					p.Errorf("Release of a lock that is held: got error %v, want none", err)
					return
				}
				continue
			}
			if _, err := l.Save(p.ctx, key, p.increment(rec)); err != nil {
				p.Errorf("Save by the holder of a lock, among others that do not lock: got error %v, want none", err)
				return
			}
			saved.Add(1)
		}
	})
	if got := string(p.load(key).Data); got != fmt.Sprint(saved.Load()) && !p.Failed() {
		p.Errorf("Load after %d increments were saved, some of them under locks: got %s, want %[1]d", saved.Load(), got)
	}
}

// ruleRaceTakeover has a holder extend or release its lock at the moment when its
// lease runs out and another takes over.
func ruleRaceTakeover(p *lockingProbe) {
	if !p.soundLocks() {
		return
	}
	key := p.key("extended")
	p.save(key, p.record("1"))
	holder := p.acquire(key, p.brief())
	err := p.l.Extend(p.ctx, key, holder.Version, long)
	p.wait(p.now().Add(p.brief()))
	if err != nil || !p.held(key) {
		p.leaveOut("Extend fails already without concurrency")
		return
	}
	const rounds = 20
	for round := range rounds {
		p.takeover(p.key(fmt.Sprint(round)), round%2 == 1)
	}
}

// takeover is one round of ruleRaceTakeover. It ends the rule if both have the lock,
// or if the one that took it over has lost it.
func (p *lockingProbe) takeover(key string, extends bool) {
	const ttl = 10 * time.Millisecond
	p.save(key, p.record("1"))
	former := p.acquire(key, ttl)
	ends := time.Now().Add(ttl)
	var formerErr, holderErr error
	var holder session.Record
	answered := make(chan struct{})
	p.race(2, func(i int, l session.LockingBackend) {
		if i == 0 {
			defer close(answered)
			time.Sleep(time.Until(ends) - rand.N(3*time.Millisecond))
			if extends {
				formerErr = l.Extend(p.ctx, key, former.Version, long)
			} else {
				formerErr = l.Release(p.ctx, key, former.Version, time.Time{})
			}
			return
		}
		// The last try begins after the former holder has its answer.
		for last := false; ; {
			holder, holderErr = l.Acquire(p.ctx, key, long)
			if holderErr == nil || last || !errors.Is(holderErr, session.ErrLocked) {
				return
			}
			select {
			case <-answered:
				last = true
			case <-time.After(200 * time.Microsecond):
			}
		}
	})
	switch {
	case extends && formerErr == nil && holderErr == nil:
		p.Fatal("Extend at the end of a lease and a concurrent Acquire: both succeeded, want one to fail")
	case formerErr != nil:
		p.lost(formerErr, "Extend or Release at the end of the lease")
	}
	if holderErr != nil {
		return
	}
	if !p.held(key) {
		p.Fatal("an Extend or Release of the former holder ended the lock of one that took over at the same time, want it to stay")
	}
	if _, err := p.other.Save(p.ctx, key, replacing(p.record("2"), holder.Version)); err != nil {
		p.Fatalf("Save by the holder that took over: got error %v, want none", err)
	}
}

func ruleRaceLockTouch(p *lockingProbe) {
	if !p.soundLocks() {
		return
	}
	const cycles, touchers = 15, 3
	key := p.key("a")
	until := p.later()
	p.save(key, p.record("0"))
	var (
		mu     sync.Mutex
		latest int64 // of the Touches that returned, in seconds after until
	)
	done := make(chan struct{})
	p.race(1+touchers, func(i int, l session.LockingBackend) {
		if i > 0 {
			for n := 1; ; n++ {
				select {
				case <-done:
					return
				default:
				}
				s := int64(n*touchers + i)
				if err := l.Touch(p.ctx, key, until.Add(time.Duration(s)*time.Second)); err != nil {
					p.Errorf("Touch of a record that others lock: got error %v, want none", err)
					return
				}
				mu.Lock()
				latest = max(latest, s)
				mu.Unlock()
				time.Sleep(time.Duration(rand.IntN(300)) * time.Microsecond)
			}
		}
		defer close(done)
		for n := range cycles {
			rec, err := l.Acquire(p.ctx, key, long)
			if err == nil && n%3 == 0 {
				err = l.Extend(p.ctx, key, rec.Version, long)
			}
			if err == nil {
				err = l.Release(p.ctx, key, rec.Version, until.Add(time.Duration(n)*time.Second))
			}
			if err != nil {
				p.Errorf("Acquire, Extend and Release among concurrent Touches: got error %v, want none", err)
				return
			}
			mu.Lock()
			want := until.Add(time.Duration(latest) * time.Second)
			mu.Unlock()
			if got := p.load(key).Expires; got.Before(want) {
				p.Errorf("Load after a Touch to %v, concurrent with a lock: got Expires %v, want that of the Touch or later", want, got)
				return
			}
		}
	})
}

func ruleRaceLockDelete(p *lockingProbe) {
	if !p.soundLocks() {
		return
	}
	const rounds, workers, tries = 24, 4, 8
	for round := range rounds {
		key := p.key(fmt.Sprint(round))
		p.save(key, p.record("1"))
		var holder session.Record
		if round%2 == 1 {
			holder = p.acquire(key, long)
		}
		acted := make(chan struct{}, 2*workers*tries)
		p.race(1+workers, func(i int, l session.LockingBackend) {
			if i == 0 {
				if round%4 > 1 { // or at once
					soon(acted)
				}
				if err := l.Delete(p.ctx, key); err != nil {
					p.Errorf("Delete among concurrent calls of holders: got error %v, want none", err)
				}
				return
			}
			for n := range tries {
				var err error
				switch {
				case holder.Version == "":
					var rec session.Record
					if rec, err = l.Acquire(p.ctx, key, long); err == nil {
						acted <- struct{}{}
						err = l.Release(p.ctx, key, rec.Version, p.later().Add(time.Duration(n)*time.Minute))
					}
				case i == 1 && round%8 == 3 && n > 1:
					_, err = l.Save(p.ctx, key, replacing(p.record("2"), holder.Version))
				case i == 2 && n > 1:
					err = l.Release(p.ctx, key, holder.Version, p.later().Add(time.Duration(n)*time.Minute))
				default:
					err = l.Extend(p.ctx, key, holder.Version, long)
				}
				if err != nil && !errors.Is(err, session.ErrLocked) {
					return
				}
				acted <- struct{}{}
			}
		})
		if p.alive(key) {
			p.Fatal("a call concurrent with a Delete brought the record back, want it to stay deleted")
		}
	}
}

func rulePairAcquire(p *lockingProbe) {
	if !p.soundLocks() {
		return
	}
	key := p.key("a")
	v := p.save(key, p.record("0"))
	var recs [2]session.Record
	var errs [2]error
	acquire := func(i int, l session.LockingBackend) func(int) {
		return func(int) { recs[i], errs[i] = l.Acquire(p.ctx, key, long) }
	}
	unlock := func(holder session.Version, round int) bool {
		var err error
		if v, err = p.b.Save(p.ctx, key, replacing(p.record(fmt.Sprint(round)), holder)); err != nil {
			p.Errorf("Save by the holder of a lock that another tried to acquire at the same moment: got error %v, want none", err)
		}
		return err == nil
	}
	p.pairs(func(int) bool { return true }, acquire(0, p.l), once(acquire(1, p.otherL)), func(round int) bool {
		won := 0
		if errs[0] != nil {
			won = 1
		}
		if errs[won] != nil || !errors.Is(errs[1-won], session.ErrLocked) {
			p.Errorf("two concurrent Acquires of one record: got errors %v and %v, want none and ErrLocked", errs[0], errs[1])
			return false
		}
		return unlock(recs[won].Version, round)
	})
	if p.Failed() {
		return
	}
	var saved session.Version
	p.pairs(func(int) bool { return true }, acquire(0, p.l), once(func(round int) {
		saved, errs[1] = p.other.Save(p.ctx, key, replacing(p.record(fmt.Sprint("saved ", round)), v))
	}), func(round int) bool {
		switch {
		case errs[0] != nil:
			p.Errorf("Acquire without another that locks: got error %v, want none", errs[0])
			return false
		case errs[1] == nil && string(recs[0].Data) != fmt.Sprint("saved ", round):
			p.Errorf("a Save concurrent with an Acquire succeeded, and Acquire returned Data %q, want that of the Save", recs[0].Data)
			return false
		case errs[1] == nil && saved == v, errs[1] != nil && !errors.Is(errs[1], session.ErrLocked):
			p.Errorf("Save concurrent with an Acquire: got version %q, error %v; want a new version or ErrLocked", saved, errs[1])
			return false
		}
		return unlock(recs[0].Version, round)
	})
}

func rulePairRelease(p *lockingProbe) {
	if !p.soundLocks() {
		return
	}
	p.releaseTwice(p.key("a"))
	if !p.Failed() {
		p.releaseAndTouch(p.key("b"))
	}
}

// releaseTwice has a holder end its lock, and use it once more at the same
// moment, while the lock is acquired again. The new lock must stay.
func (p *lockingProbe) releaseTwice(key string) {
	p.save(key, p.record("0"))
	var holder, next session.Record
	var err error
	p.pairs(func(round int) bool {
		if round > 0 {
			holder = next
		} else {
			holder = p.acquire(key, long)
		}
		return true
	}, func(round int) {
		if round%4 == 3 {
			_, _ = p.b.Save(p.ctx, key, replacing(p.record(fmt.Sprint(round)), holder.Version))
		} else {
			_ = p.l.Release(p.ctx, key, holder.Version, time.Time{})
		}
		next, err = p.l.Acquire(p.ctx, key, long)
	}, func(round int) bool {
		if round%2 == 0 {
			_ = p.otherL.Extend(p.ctx, key, holder.Version, long)
		} else {
			_ = p.otherL.Release(p.ctx, key, holder.Version, p.later().Add(time.Duration(round)*time.Second))
		}
		return true
	}, func(int) bool {
		if err != nil {
			p.Errorf("Acquire after the holder's Release or Save: got error %v, want none", err)
			return false
		}
		if err := p.l.Extend(p.ctx, key, next.Version, long); err != nil {
			p.Errorf("Extend by a holder, after the former holder ended its lock twice, the second time while this one acquired it: got error %v, want none", err)
			return false
		}
		return true
	})
}

// releaseAndTouch moves the deadline by Release and by Touch at the same moment.
// Neither may undo the other.
func (p *lockingProbe) releaseAndTouch(key string) {
	p.save(key, p.record("0"))
	at := func(round int) time.Time { return p.later().Add(time.Duration(round+1) * time.Minute) }
	var holder session.Record
	var err, touchErr error
	p.pairs(func(int) bool { holder = p.acquire(key, long); return true }, func(round int) {
		err = p.l.Release(p.ctx, key, holder.Version, at(round).Add(-30*time.Second))
	}, func(round int) bool {
		touchErr = p.other.Touch(p.ctx, key, at(round))
		return touchErr == nil
	}, func(round int) bool {
		if got := p.load(key).Expires; err != nil || touchErr != nil || got.Before(at(round)) {
			p.Errorf("a Release and a concurrent Touch to %v, which is later: got errors %v and %v, and Expires %v; want that of the Touch", at(round), err, touchErr, got)
			return false
		}
		return true
	})
}

func rulePairLockDelete(p *lockingProbe) {
	if !p.soundLocks() {
		return
	}
	key := p.key("a")
	var holder session.Record
	var err error
	p.pairs(func(round int) bool {
		p.save(key, p.record("1"))
		if round%4 > 0 {
			holder = p.acquire(key, long)
		}
		return true
	}, func(int) { err = p.b.Delete(p.ctx, key) }, func(round int) bool {
		switch round % 4 {
		case 0:
			_, _ = p.otherL.Acquire(p.ctx, key, long)
		case 1:
			_ = p.otherL.Extend(p.ctx, key, holder.Version, long)
		case 2:
			_ = p.otherL.Release(p.ctx, key, holder.Version, p.later().Add(time.Hour))
		case 3:
			_, _ = p.otherL.Save(p.ctx, key, replacing(p.record("2"), holder.Version))
		}
		return true
	}, func(int) bool {
		if err != nil || p.alive(key) {
			p.Errorf("Delete concurrent with a call of the holder: got error %v, or a record that is live again; want none", err)
			return false
		}
		return true
	})
}
