package conformance

import (
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/seed-a7bee19b/session"
)

// ruleClients is about two clients taking turns. Nothing is concurrent here.
func ruleClients(p *probe) {
	for name, c := range map[string]struct{ first, second session.Backend }{
		"a": {p.b, p.other}, "b": {p.other, p.b},
	} {
		key := p.key(name)
		see := func(b session.Backend, what, data string) {
			p.Helper()
			if rec, err := b.Load(p.ctx, key); err != nil || string(rec.Data) != data {
				p.Errorf("after %s, Load: %v, %q, want %q", what, err, rec.Data, data)
			}
		}
		v, err := c.first.Save(p.ctx, key, p.record("1"))
		if err != nil {
			p.Fatalf("Save: %v", err)
		}
		see(c.first, "Save", "1")
		see(c.second, "Save of another client", "1")
		if _, err = c.second.Save(p.ctx, key, replacing(p.record("2"), v)); err != nil {
			p.Fatalf("Save with a version from another client: %v", err)
		}
		see(c.second, "Save", "2")
		see(c.first, "Save of another client", "2")
		if err := c.second.Delete(p.ctx, key); err != nil {
			p.Fatalf("Delete: %v", err)
		}
		// Where the second client still has it, rule Delete says so.
		if !p.aliveAt(c.second, key) && p.aliveAt(c.first, key) {
			p.Error("after Delete of another client, Load returned the record")
		}
	}
}

// sound tells whether the backend does one thing after another as the races
// need it. If not, other rules say so, and a race would only repeat it.
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

// race calls f n times at once, half of them with the other client.
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

// soon waits for another goroutine, but not for long, since it may have ended.
func soon(c <-chan struct{}) {
	select {
	case <-c:
	case <-time.After(10 * time.Millisecond):
	}
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
				p.conflict(err, "creating what others create as well")
			case won >= 0:
				p.Fatalf("%d and %d both created the record", won, i)
			default:
				won = i
			}
		}
		if won < 0 {
			p.Fatal("nobody created the record")
		}
		if rec := p.load(key); string(rec.Data) != fmt.Sprint(won) || rec.Version != versions[won] {
			p.Fatalf("%d created the record with version %q; stored is the Data of %s with version %q",
				won, versions[won], rec.Data, rec.Version)
		}
	}
}

func ruleRaceSave(p *probe) {
	if !p.sound() {
		return
	}
	const writers, increments = 8, 10
	// Each conflict is an increment by somebody else, so this is plenty.
	const attempts = 10 * writers * increments
	key := p.key("counter")
	var mu sync.Mutex
	seen := map[session.Version]bool{p.save(key, p.record("0")): true}
	p.race(writers, func(_ int, b session.Backend) {
		done := 0
		for range attempts {
			rec, err := b.Load(p.ctx, key)
			if err != nil {
				p.Errorf("Load: %v", err)
				return
			}
			n, err := strconv.Atoi(string(rec.Data))
			if err != nil {
				p.Errorf("the counter is %q", rec.Data)
				return
			}
			v, err := b.Save(p.ctx, key, replacing(p.record(strconv.Itoa(n+1)), rec.Version))
			if errors.Is(err, session.ErrConflict) {
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
			mu.Unlock()
			if done++; done == increments {
				return
			}
		}
		p.Errorf("%d of %d increments in %d attempts", done, increments, attempts)
	})
	if got := string(p.load(key).Data); got != strconv.Itoa(writers*increments) && !p.Failed() {
		p.Errorf("%d increments were saved, the counter is %s", writers*increments, got)
	}
}

func ruleRaceTouch(p *probe) {
	if !p.sound() {
		return
	}
	// A Save among Touches is neither refused nor lost.
	key := p.key("a")
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
					p.Errorf("Touch: %v", err)
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
				p.Errorf("Save, with nobody else but Touch: %v", err)
				return
			}
			soon(touched) // and so the next Touch begins
		}
	})
	if rec := p.load(key); !p.Failed() && (string(rec.Data) != fmt.Sprint(saves) || rec.Version != v) {
		p.Errorf("the last Save was of %d with version %q; stored is %s with version %q", saves, v, rec.Data, rec.Version)
	}

	// Of Touches the latest deadline wins, whatever their order.
	key = p.key("b")
	p.save(key, p.record("1"))
	const rounds, writers = 10, 6
	for round := range rounds {
		base := until.Add(time.Duration(round*writers) * time.Minute)
		p.race(writers, func(i int, b session.Backend) {
			if err := b.Touch(p.ctx, key, base.Add(time.Duration(i)*time.Minute)); err != nil {
				p.Errorf("Touch: %v", err)
			}
		})
		want := base.Add((writers - 1) * time.Minute)
		if got := p.load(key).Expires; got.Before(want) {
			p.Errorf("after Touches up to %v at once, Expires is %v", want, got)
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
					p.Errorf("Delete: %v", err)
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
			p.Fatal("Delete has returned, and what ran at the same time brought the record back")
		}
	}
}
