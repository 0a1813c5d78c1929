package conformance

import (
	"context"
	"errors"
	"fmt"
	"runtime/pprof"
	"time"

	"github.com/seed-a7bee19b/session"
)

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
			p.Errorf("of two that acquire the same lock at once, the one: %v, the other: %v", errs[0], errs[1])
			return false
		}
		if err := leases[won].Release(p.ctx); err != nil {
			p.Errorf("Release: %v", err)
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
			p.Errorf("Acquire after Release: %v", err)
			return false
		}
		if err := next.Extend(p.ctx, long); err != nil {
			p.Errorf("Extend by a holder, when the former one has used its lease once more at the same time: %v", err)
			return false
		}
		holder = next
		return true
	})
}

func ruleLockerMany(p *lockerProbe) {
	const n = 300
	key := func(i int) string { return p.key(fmt.Sprint("locked ", i)) }
	together(n, func(i int) {
		if _, err := p.l.Acquire(p.ctx, key(i), long); err != nil {
			p.Errorf("Acquire of lock %d of %d: %v", i, n, err)
		}
	})
	if p.Failed() {
		return
	}
	together(n, func(i int) {
		if err := p.try(p.other, key(i), long); err == nil {
			p.Errorf("of %d locks that are held, number %d could be taken", n, i)
		}
	})
}

func ruleLockerHanging(p *lockerProbe) {
	holder := p.acquire(p.key("held"), long)
	calls := func(key string) []func(ctx context.Context) error {
		return []func(ctx context.Context) error{
			func(ctx context.Context) error { return second(p.l.Acquire(ctx, key, long)) },
			func(ctx context.Context) error { return holder.Extend(ctx, long) },
			func(ctx context.Context) error { return holder.Release(ctx) },
		}
	}
	p.hanging(calls(p.key("a")), append(calls(p.key("a")), calls(p.key("b"))...))
}

func ruleLockerGoroutines(p *lockerProbe) {
	p.goroutines(func(ctx context.Context, key string) {
		lease, err := p.l.Acquire(ctx, key, time.Minute)
		if err != nil {
			return
		}
		_, _ = p.l.Acquire(ctx, key, time.Minute)
		_ = lease.Extend(ctx, time.Minute)
		_ = lease.Release(ctx)
	})
}

// goroutines complains if use leaves goroutines behind.
func (s *scene) goroutines(use func(ctx context.Context, key string)) {
	const calls = 60
	label := s.key("goroutines")
	pprof.Do(s.ctx, pprof.Labels("rule", label), func(ctx context.Context) {
		for i := range calls {
			ctx, cancel := context.WithCancel(ctx)
			use(ctx, s.key(fmt.Sprint(i)))
			if i%2 == 0 {
				cancel() // and half of the contexts do not end before the rule does
			} else {
				defer cancel()
			}
		}
		// A goroutine inherits the labels of the one that starts it. Those that
		// are to end may need a moment, as others use the machine.
		for giveUp := time.Now().Add(s.patience); ; time.Sleep(10 * time.Millisecond) {
			left := labelled(label)
			if left <= calls/3 { // this one, and those that serve the client
				return
			}
			if time.Now().After(giveUp) {
				s.Errorf("%d goroutines are there %v after the calls that started them have returned", left, s.patience)
				return
			}
		}
	})
}
