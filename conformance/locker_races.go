package conformance

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-a7bee19b/session"
)

// lockerRaceRules are about concurrent calls.
var lockerRaceRules = []lockerRule{
	{name: "RaceAcquire", run: ruleLockerRace, quotes: []string{
		"Of several at once, at most one MUST succeed;",
	}},
	{name: "RaceTakeover", run: ruleLockerRaceTakeover, waits: true, quotes: append(concurrent,
		"and MUST NOT take it back.", "and MUST NOT unlock another holder's.",
	)},
	{name: "RaceLease", run: ruleLockerRaceLease, quotes: append(concurrent,
		"and MUST NOT take it back.",
	)},
	{name: "PairAcquire", run: ruleLockerPairAcquire, alone: true, wide: true, quotes: []string{
		"Of several at once, at most one MUST succeed;",
	}},
	{name: "PairRelease", run: ruleLockerPairRelease, alone: true, wide: true, quotes: append(concurrent,
		"and MUST NOT take it back.", "and MUST NOT unlock another holder's.",
		"The lock MUST be that Lease's alone, whichever client of the store others use.",
	)},
}

// sound reports whether the locker works without concurrency. If it does not,
// other rules report that, and a race would only repeat it.
func (p *lockerProbe) sound() bool {
	if !p.soundly() {
		p.leaveOut("the locker fails already without concurrency")
		return false
	}
	return true
}

func (p *lockerProbe) soundly() bool {
	key := p.key("sound")
	locked := func(l session.Locker) bool { return errors.Is(p.try(l, key, long), session.ErrLocked) }
	a, err := p.l.Acquire(p.ctx, key, long)
	if err != nil || !locked(p.l) || !locked(p.other) || a.Extend(p.ctx, long) != nil || a.Release(p.ctx) != nil {
		return false
	}
	const ttl = 30 * time.Millisecond
	b, err := p.other.Acquire(p.ctx, key, ttl)
	if err != nil {
		return false
	}
	p.wait(p.now().Add(ttl))
	c, err := p.l.Acquire(p.ctx, key, long)
	if err != nil || !errors.Is(b.Extend(p.ctx, long), session.ErrConflict) || b.Release(p.ctx) != nil || a.Release(p.ctx) != nil ||
		!locked(p.l) || !locked(p.other) || c.Release(p.ctx) != nil {
		return false
	}
	d, err := p.other.Acquire(p.ctx, key, long)
	return err == nil && d.Release(p.ctx) == nil && errors.Is(d.Extend(p.ctx, long), session.ErrConflict)
}

// race calls f n times at once, with the two clients in turn.
func (p *lockerProbe) race(n int, f func(i int, l session.Locker)) {
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		l := p.l
		if i%2 == 1 {
			l = p.other
		}
		wg.Add(1)
		go func() {
			defer wg.Done()
			<-start
			f(i, l)
		}()
	}
	close(start)
	wg.Wait()
}

func ruleLockerRace(p *lockerProbe) {
	if !p.sound() {
		return
	}
	const rounds, contenders, cycles = 10, 8, 4
	for round := range rounds {
		key := p.key(fmt.Sprint(round))
		var errs [contenders]error
		p.race(contenders, func(i int, l session.Locker) { errs[i] = second(l.Acquire(p.ctx, key, long)) })
		won := -1
		for i, err := range errs {
			switch {
			case err != nil:
				if !errors.Is(err, session.ErrLocked) {
					p.Errorf("Acquire of a lock that others acquire at the same time: got error %v, want none or ErrLocked", err)
				}
			case won >= 0:
				p.Fatalf("of %d concurrent Acquires of one lock, numbers %d and %d succeeded, want one to succeed", contenders, won, i)
			default:
				won = i
			}
		}
		if won < 0 {
			p.Fatalf("of %d concurrent Acquires of a free lock none succeeded, want one to succeed", contenders)
		}
	}

	key := p.key("again and again")
	progress := newProgress()
	var holders atomic.Int64
	p.race(contenders, func(_ int, l session.Locker) {
		for range cycles {
			lease, err := l.Acquire(p.ctx, key, long)
			for errors.Is(err, session.ErrLocked) && !progress.stuck() {
				time.Sleep(time.Duration(rand.IntN(1000)) * time.Microsecond)
				lease, err = l.Acquire(p.ctx, key, long)
			}
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
			if err := lease.Release(p.ctx); err != nil {
				p.Errorf("Release of a lock that is held: got error %v, want none", err)
				return
			}
		}
	})
}

// ruleLockerRaceTakeover has a holder extend or release its lock at the moment when
// its lease runs out and another takes over.
func ruleLockerRaceTakeover(p *lockerProbe) {
	if !p.sound() {
		return
	}
	key := p.key("extended")
	lease := p.acquire(key, p.brief())
	err := lease.Extend(p.ctx, long)
	p.wait(p.now().Add(p.brief()))
	if err != nil || p.free(key) {
		p.leaveOut("Extend fails already without concurrency")
		return
	}
	const rounds = 20
	for round := range rounds {
		p.takeover(p.key(fmt.Sprint(round)), round%2 == 1)
	}
}

// takeover is one round of ruleLockerRaceTakeover. It ends the rule if both have the
// lock, or if the one that took it over has lost it.
func (p *lockerProbe) takeover(key string, extends bool) {
	const ttl = 10 * time.Millisecond
	former := p.acquire(key, ttl)
	ends := time.Now().Add(ttl)
	var formerErr, holderErr error
	answered := make(chan struct{})
	p.race(2, func(i int, l session.Locker) {
		if i == 0 {
			defer close(answered)
			time.Sleep(time.Until(ends) - rand.N(3*time.Millisecond))
			if extends {
				formerErr = former.Extend(p.ctx, long)
			} else {
				formerErr = former.Release(p.ctx)
			}
			return
		}
		// The last try begins after the former holder has its answer.
		for last := false; ; {
			_, holderErr = l.Acquire(p.ctx, key, long)
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
	case extends && formerErr != nil:
		p.lost(formerErr, "Extend at the end of the lease")
	}
	if holderErr == nil && p.free(key) {
		p.Fatal("an Extend or Release of the former holder ended the lock of one that took over at the same time, want it to stay")
	}
}

// ruleLockerRaceLease uses one lease in several goroutines.
func ruleLockerRaceLease(p *lockerProbe) {
	if !p.sound() {
		return
	}
	const rounds, users, tries = 15, 4, 8
	for round := range rounds {
		key := p.key(fmt.Sprint(round))
		lease := p.acquire(key, long)
		extended := make(chan struct{}, users*tries)
		p.race(1+users, func(i int, _ session.Locker) {
			if i == 0 {
				if round%2 == 0 { // or at once
					soon(extended)
				}
				if err := lease.Release(p.ctx); err != nil {
					p.Errorf("Release among concurrent Extends: got error %v, want none", err)
				}
				return
			}
			for range tries {
				if lease.Extend(p.ctx, long) != nil {
					return
				}
				extended <- struct{}{}
			}
		})
		if !p.free(key) {
			p.Fatal("an Extend concurrent with Release acquired the lock again, want it free")
		}
	}
}

func ruleLockerPairAcquire(p *lockerProbe) {
	if !p.sound() {
		return
	}
	key := p.key("a")
	var leases [2]session.Lease
	var errs [2]error
	acquire := func(i int, l session.Locker) func(int) {
		return func(int) { leases[i], errs[i] = l.Acquire(p.ctx, key, long) }
	}
	p.pairs(func(int) bool { return true }, acquire(0, p.l), once(acquire(1, p.other)), func(int) bool {
		won := 0
		if errs[0] != nil {
			won = 1
		}
		if errs[won] != nil || !errors.Is(errs[1-won], session.ErrLocked) {
			p.Errorf("two concurrent Acquires of one lock: got errors %v and %v, want none and ErrLocked", errs[0], errs[1])
			return false
		}
		if err := leases[won].Release(p.ctx); err != nil {
			p.Errorf("Release of a lock that is held: got error %v, want none", err)
			return false
		}
		return true
	})
}

// ruleLockerPairRelease is rulePairRelease for a Locker.
func ruleLockerPairRelease(p *lockerProbe) {
	if !p.sound() {
		return
	}
	key := p.key("a")
	holder := p.acquire(key, long)
	var next session.Lease
	var err error
	p.pairs(func(int) bool { return true }, func(int) {
		_ = holder.Release(p.ctx)
		next, err = p.other.Acquire(p.ctx, key, long)
	}, func(round int) bool {
		if round%2 == 0 {
			_ = holder.Extend(p.ctx, long)
		} else {
			_ = holder.Release(p.ctx)
		}
		return true
	}, func(int) bool {
		if err != nil {
			p.Errorf("Acquire after the holder's Release: got error %v, want none", err)
			return false
		}
		if err := next.Extend(p.ctx, long); err != nil {
			p.Errorf("Extend by a holder, after the former holder used its lease once more while this one acquired it: got error %v, want none", err)
			return false
		}
		holder = next
		return true
	})
}
