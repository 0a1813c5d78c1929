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

// lockingRaceRules are about calls at the same time, some of them of holders.
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

// soundLocks is sound for a LockingBackend.
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

func (p *lockingProbe) locksSoundly() bool {
	key := p.key("sound lock")
	save := func(b session.Backend, data string, v session.Version) (session.Version, error) {
		return b.Save(p.ctx, key, replacing(p.record(data), v))
	}
	acquire := func(l session.LockingBackend, ttl time.Duration) (session.Version, error) {
		ctx, cancel := context.WithTimeout(p.ctx, p.patience)
		defer cancel()
		rec, err := l.Acquire(ctx, key, ttl)
		if err == nil && len(rec.Data) != 1 {
			err = errors.New("not the data")
		}
		return rec.Version, err
	}
	is := func(err, want error) bool { return errors.Is(err, want) }
	v1, err := save(p.b, "1", "")
	if err != nil {
		return false
	}
	is1 := func(b session.Backend) bool {
		rec, err := b.Load(p.ctx, key)
		return err == nil && string(rec.Data) == "1" && rec.Version == v1
	}
	a, err := acquire(p.l, long)
	if !is1(p.b) || !is1(p.other) {
		return false
	}
	if err != nil || a == v1 || !is(second(acquire(p.otherL, long)), session.ErrLocked) || !is(second(acquire(p.l, long)), session.ErrLocked) ||
		!is(second(save(p.other, "2", v1)), session.ErrLocked) || !is(p.otherL.Release(p.ctx, key, v1, time.Time{}), session.ErrConflict) ||
		p.l.Extend(p.ctx, key, a, long) != nil || p.b.Touch(p.ctx, key, p.later().Add(time.Hour)) != nil ||
		p.l.Release(p.ctx, key, a, p.later()) != nil {
		return false
	}
	if rec, err := p.b.Load(p.ctx, key); err != nil || rec.Expires.Before(p.later().Add(time.Hour)) || rec.Version != v1 {
		return false
	}
	// The lease is over at the latest when the pause is.
	const ttl = 30 * time.Millisecond
	b, err := acquire(p.otherL, ttl)
	if err != nil || b == a {
		return false
	}
	p.wait(p.now().Add(ttl))
	if !is1(p.other) {
		return false
	}
	c, err := acquire(p.l, long)
	if err != nil || c == b || !is(second(save(p.other, "2", b)), session.ErrConflict) ||
		!is(p.otherL.Extend(p.ctx, key, b, long), session.ErrConflict) ||
		!is(p.otherL.Release(p.ctx, key, b, time.Time{}), session.ErrConflict) ||
		!is(second(acquire(p.otherL, long)), session.ErrLocked) {
		return false
	}
	v2, err := save(p.b, "2", c)
	if rec, err := p.b.Load(p.ctx, key); err != nil || string(rec.Data) != "2" || rec.Version != v2 {
		return false
	}
	if err != nil || v2 == v1 || !is(second(save(p.b, "3", c)), session.ErrConflict) || second(save(p.other, "3", v2)) != nil {
		return false
	}
	if rec, err := p.b.Load(p.ctx, key); err != nil || string(rec.Data) != "3" || rec.Version == v2 {
		return false
	}
	late, err := acquire(p.otherL, ttl)
	if err != nil {
		return false
	}
	p.wait(p.now().Add(ttl))
	if _, err := save(p.other, "4", late); err != nil {
		rec, err2 := p.b.Load(p.ctx, key)
		if !is(err, session.ErrConflict) || err2 != nil || string(rec.Data) != "3" {
			return false
		}
	}
	d, err := acquire(p.l, long)
	return err == nil && p.b.Delete(p.ctx, key) == nil && is(second(save(p.b, "5", d)), session.ErrConflict) &&
		is(second(acquire(p.l, long)), session.ErrNotFound) && !p.alive(key)
}

// race is the one of probe, for LockingBackends.
func (p *lockingProbe) race(n int, f func(i int, l session.LockingBackend)) {
	p.probe.race(n, func(i int, b session.Backend) { f(i, b.(session.LockingBackend)) })
}

// progress is for those who wait for each other. However long a busy machine
// takes for all of them, they are stuck only if none gets on.
type progress struct{ last atomic.Int64 }

func newProgress() *progress {
	p := new(progress)
	p.made()
	return p
}

func (p *progress) made() { p.last.Store(time.Now().UnixNano()) }

func (p *progress) stuck() bool { return time.Since(time.Unix(0, p.last.Load())) > patience }

// await acquires as soon as it can, until giveUp.
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
					p.Errorf("acquiring what others acquire as well: got error %v, want ErrLocked", err)
				}
			case won >= 0:
				p.Fatalf("%d and %d both acquired the lock", won, i)
			default:
				won = i
			}
		}
		if won < 0 {
			p.Fatal("nobody acquired a lock that was free")
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
				p.Errorf("Acquire: %v", err)
				return
			}
			progress.made()
			if n := holders.Add(1); n > 1 {
				p.Errorf("%d have the lock at the same time", n)
			}
			time.Sleep(time.Duration(rand.IntN(200)) * time.Microsecond)
			holders.Add(-1)
			if err := l.Release(p.ctx, key, rec.Version, time.Time{}); err != nil {
				p.Errorf("Release of a lock that is held: %v", err)
				return
			}
		}
	})
}

// increment makes the Data of rec, a number, one more.
func (p *lockingProbe) increment(rec session.Record) session.Record {
	n, err := strconv.Atoi(string(rec.Data))
	if err != nil {
		p.Errorf("the counter is %q", rec.Data)
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
		// Many holders lose the lock before they save, or just then.
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
					p.Errorf("Save: %v", err)
					return
				}
				mu.Lock()
				if seen[v] {
					p.Errorf("two Saves returned version %q", v)
				}
				seen[v] = true
				saved++
				mu.Unlock()
			}
		})
		if got := string(p.load(key).Data); got != strconv.Itoa(saved) && !p.Failed() {
			p.Errorf("%d increments were saved under locks with a lease of %v, the counter is %s", saved, c.ttl, got)
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
					p.Errorf("Load: %v", err)
					return
				}
				switch _, err := l.Save(p.ctx, key, p.increment(rec)); {
				case err == nil:
					saved.Add(1)
				case !errors.Is(err, session.ErrConflict) && !errors.Is(err, session.ErrLocked):
					p.Errorf("Save: %v", err)
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
				p.Errorf("Acquire, with nobody else who locks: %v", err)
				return
			}
			time.Sleep(time.Duration(rand.IntN(2000)) * time.Microsecond)
			if n%4 == 3 {
				if err := l.Release(p.ctx, key, rec.Version, time.Time{}); err != nil {
					p.Errorf("Release of a lock that is held: %v", err)
					return
				}
				continue
			}
			if _, err := l.Save(p.ctx, key, p.increment(rec)); err != nil {
				p.Errorf("Save by the holder of a lock, among others that do not lock: %v", err)
				return
			}
			saved.Add(1)
		}
	})
	if got := string(p.load(key).Data); got != fmt.Sprint(saved.Load()) && !p.Failed() {
		p.Errorf("%d increments were saved, the counter is %s", saved.Load(), got)
	}
}

// ruleRaceTakeover has a holder do something just when its lease runs out and
// another takes over.
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
	const rounds, ttl = 20, 10 * time.Millisecond
	for round := range rounds {
		key := p.key(fmt.Sprint(round))
		p.save(key, p.record("1"))
		former := p.acquire(key, ttl)
		ends := time.Now().Add(ttl)
		extends := round%2 == 1
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
			// Until there can be no answer but this.
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
			p.Fatal("one has extended its lease, and another has taken the lock over")
		case formerErr != nil:
			p.lost(formerErr, "Extend or Release, as the lease runs out")
		}
		if holderErr != nil {
			continue
		}
		if !p.held(key) {
			p.Fatal("the former holder has ended the lock of one that took over at the same time")
		}
		if _, err := p.other.Save(p.ctx, key, replacing(p.record("2"), holder.Version)); err != nil {
			p.Fatalf("Save by the holder that took over: %v", err)
		}
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
					p.Errorf("Touch: %v", err)
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
				p.Errorf("Acquire, Extend, Release, with nobody else but Touch: %v", err)
				return
			}
			mu.Lock()
			want := until.Add(time.Duration(latest) * time.Second)
			mu.Unlock()
			if got := p.load(key).Expires; got.Before(want) {
				p.Errorf("after a Touch to %v, and a lock at the same time, Expires is %v", want, got)
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
					p.Errorf("Delete: %v", err)
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
			p.Fatal("Delete has returned, and what ran at the same time brought the record back")
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
			p.Errorf("Save by the holder of a lock that another wanted at the same moment: %v", err)
		}
		return err == nil
	}
	p.pairs(func(int) bool { return true }, acquire(0, p.l), once(acquire(1, p.otherL)), func(round int) bool {
		won := 0
		if errs[0] != nil {
			won = 1
		}
		if errs[won] != nil || !errors.Is(errs[1-won], session.ErrLocked) {
			p.Errorf("of two that acquire the same lock at once, the one: %v, the other: %v", errs[0], errs[1])
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
			p.Errorf("Acquire, with nobody else who locks: %v", errs[0])
			return false
		case errs[1] == nil && string(recs[0].Data) != fmt.Sprint("saved ", round):
			p.Errorf("a Save has succeeded under a lock that was acquired at the same moment")
			return false
		case errs[1] == nil && saved == v, errs[1] != nil && !errors.Is(errs[1], session.ErrLocked):
			p.Errorf("a Save at the moment at which another locks: %q, %v", saved, errs[1])
			return false
		}
		return unlock(recs[0].Version, round)
	})
}

func rulePairRelease(p *lockingProbe) {
	if !p.soundLocks() {
		return
	}
	// The holder ends its lock twice, or renews it as it ends it, and another
	// takes the lock in between. That other's must stay.
	key := p.key("a")
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
			p.Errorf("Acquire after Release or Save: %v", err)
			return false
		}
		if err := p.l.Extend(p.ctx, key, next.Version, long); err != nil {
			p.Errorf("Extend by a holder, when the former one has ended its lock once more at the same time: %v", err)
			return false
		}
		return true
	})
	if p.Failed() {
		return
	}
	// Release moves the deadline as Touch does, and neither undoes the other.
	key = p.key("b")
	p.save(key, p.record("0"))
	at := func(round int) time.Time { return p.later().Add(time.Duration(round+1) * time.Minute) }
	var touchErr error
	p.pairs(func(int) bool { holder = p.acquire(key, long); return true }, func(round int) {
		err = p.l.Release(p.ctx, key, holder.Version, at(round).Add(-30*time.Second))
	}, func(round int) bool {
		touchErr = p.other.Touch(p.ctx, key, at(round))
		return touchErr == nil
	}, func(round int) bool {
		if got := p.load(key).Expires; err != nil || touchErr != nil || got.Before(at(round)) {
			p.Errorf("a Release and a Touch to %v at once: %v, %v, Expires is %v", at(round), err, touchErr, got)
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
			p.Errorf("Delete: %v, and what the holder of its lock did at the same time has brought the record back", err)
			return false
		}
		return true
	})
}
