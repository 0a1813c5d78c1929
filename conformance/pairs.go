package conformance

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/seed-a7bee19b/session"
)

// pairRules are races of two calls that begin at the same moment, many times:
// a gap between a look and a write shows although nothing makes it longer.
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

// pairs has first and second begin at the same moment, again and again, until
// the spell is over. As long as second returns true it is called again until
// first has returned. prepare runs before each time and check after it; the
// pairs end when one of them returns false.
func (s *scene) pairs(prepare func(round int) bool, first func(round int), second func(round int) bool, check func(round int) bool) {
	var turn, ready, over, done atomic.Int64
	defer turn.Store(-1)
	await := func(n *atomic.Int64, reached func(int64) bool) {
		for spins := 0; !reached(n.Load()) && !s.results.hung.Load(); spins++ {
			if spins < 1000 {
				runtime.Gosched()
			} else {
				time.Sleep(20 * time.Microsecond) // the store takes its time
			}
		}
	}
	// From nothing to a microsecond, so that all that may overlap does some time.
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

// once is for pairs: what happens only once in a round.
func once(f func(round int)) func(round int) bool {
	return func(round int) bool { f(round); return false }
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

// oneCreated complains unless one of two calls has created the record.
func (p *probe) oneCreated(key string, round int, v [2]session.Version, errs [2]error) bool {
	won := 0
	if errs[0] != nil {
		won = 1
	}
	if errs[won] != nil || errs[1-won] == nil {
		p.Errorf("of two that create the same record at once, the one: %v, the other: %v", errs[0], errs[1])
		return false
	}
	p.conflict(errs[1-won], "creating what another creates as well")
	rec, err := p.b.Load(p.ctx, key)
	if err != nil || string(rec.Data) != fmt.Sprint(round, won) || rec.Version != v[won] {
		p.Errorf("one of two has created a record; then Load: %v, %q, version %q; want %q, version %q",
			err, rec.Data, rec.Version, fmt.Sprint(round, won), v[won])
	}
	return !p.Failed()
}

// rulePairCreateExpired has a record created over one that has expired, while
// others may tidy that one away.
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
			p.Errorf("Save: %v", err)
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
		var err error // what was created before ends, and is as good as expired
		old[round%n], err = p.b.Save(p.ctx, key(round), replacing(expiring(p.record("old"), past), old[round%n]))
		return err == nil // or rule SavePast says so
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
				p.Error("a Save with the version of a record that has expired: no error")
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
			p.Errorf("of two Saves at once that replace the same version, the one: %v, the other: %v", errs[0], errs[1])
			return false
		}
		rec, err := p.b.Load(p.ctx, key)
		if err != nil || string(rec.Data) != fmt.Sprint(round, won) || rec.Version != next[won] {
			p.Errorf("one of two Saves at once has succeeded; then Load: %v, %q, version %q; want %q, version %q",
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
	// Every time the deadline to be is a minute further.
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
			p.Errorf("a Save and a Touch at once: %v, %v", saveErr, touchErr)
			return false
		}
		rec := p.load(key)
		if string(rec.Data) != fmt.Sprint(round) || rec.Version != v || rec.Expires.Before(at(round)) {
			p.Errorf("after a Save of %d, version %q, and a Touch to %v, at once: %s, %q", round, v, at(round), describe(rec), rec.Data)
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
				p.Errorf("after two Touches at once, the later to %v: %v, Expires is %v", want, errors.Join(errs[:]...), rec.Expires)
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
			p.Errorf("Delete: %v, and a Touch or Save at the same time has brought the record back", err)
			return false
		}
		return true
	})
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
