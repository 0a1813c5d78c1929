//go:build go1.25

package watch

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

var (
	errOver  = errors.New("it is over")
	errDown  = errors.New("the store is down")
	errWrong = errors.New("that is another")
	errGone  = errors.New("known to be gone")
)

const interval = 5 * time.Second

// A thing is what the tests look at.
type thing struct {
	do func(ctx context.Context, n int, key string) Outcome[string] // the nth look; nil: it is there

	mu sync.Mutex
	seen
	in int // looks in flight
}

// seen has the looks at a thing.
type seen struct {
	n     int // all of them; the rest counts from when the test looked
	looks []time.Time
	keys  []string
	keep  bool
	most  int // at a time
}

func (th *thing) look(ctx context.Context, key string, keep bool) Outcome[string] {
	th.mu.Lock()
	th.n++
	th.looks, th.keys, th.keep = append(th.looks, time.Now()), append(th.keys, key), keep
	th.in++
	th.most = max(th.most, th.in)
	n := th.n
	th.mu.Unlock()
	defer func() {
		th.mu.Lock()
		th.in--
		th.mu.Unlock()
	}()
	if th.do == nil {
		return Outcome[string]{Found: "there"}
	}
	return th.do(ctx, n, key)
}

// took returns the looks since the last took.
func (th *thing) took() seen {
	th.mu.Lock()
	defer th.mu.Unlock()
	got := th.seen
	th.looks, th.keys = nil, nil
	return got
}

func (th *thing) inFlight() int {
	th.mu.Lock()
	defer th.mu.Unlock()
	return th.in
}

// A viewer is a watcher of the tests.
type viewer struct {
	leave func()
	mu    sync.Mutex
	fate
}

// fate is how a viewer was ended.
type fate struct {
	at  time.Time
	why error
	n   int // how often
}

func (v *viewer) ended() fate {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.fate
}

func join(ws *Watches[string], key string, th *thing, w Wish[string]) *viewer {
	v := &viewer{}
	if w.Interval == 0 {
		w.Interval = interval
	}
	if w.Check == nil {
		w.Check = func(string) error { return nil }
	}
	w.End = func(why error) {
		v.mu.Lock()
		defer v.mu.Unlock()
		v.fate = fate{time.Now(), why, v.n + 1}
	}
	v.leave = ws.Join(key, th.look, w)
	return v
}

// inBubble runs f, and checks that nothing is left of the watches.
func inBubble(t *testing.T, f func(t *testing.T, ws *Watches[string])) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var ws Watches[string]
		f(t, &ws)
		ws.mu.Lock()
		if len(ws.m) != 0 {
			t.Errorf("%d watches are left", len(ws.m))
		}
		ws.mu.Unlock()
		// A timer that is left would fire, and a look be seen.
		time.Sleep(time.Hour)
		synctest.Wait()
	})
}

func sleep(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestOneLookForAll(t *testing.T) {
	inBubble(t, func(t *testing.T, ws *Watches[string]) {
		var th thing
		start := time.Now()
		var all []*viewer
		for range 100 {
			all = append(all, join(ws, "a", &th, Wish[string]{}))
		}
		sleep(50 * time.Second)
		looks := th.took().looks
		if len(looks) != 10 || looks[0].Sub(start) > interval {
			t.Errorf("%d looks in 10 intervals, the first after %v", len(looks), looks[0].Sub(start))
		}
		for i := range looks[1:] {
			if d := looks[i+1].Sub(looks[i]); d != interval {
				t.Errorf("%v between two looks", d)
			}
		}

		fast := join(ws, "a", &th, Wish[string]{Interval: time.Second})
		sleep(10 * time.Second)
		if n := len(th.took().looks); n != 10 && n != 11 {
			t.Errorf("%d looks in 10 s with one that wants a second", n)
		}
		fast.leave()
		fast.leave()
		sleep(time.Second)
		th.took()
		sleep(50 * time.Second)
		if n := len(th.took().looks); n != 10 {
			t.Errorf("%d looks in 10 intervals after it has left", n)
		}
		for _, v := range all {
			v.leave()
		}
		th.took()
		sleep(time.Hour)
		if len(th.took().looks) != 0 {
			t.Error("a look after the last has left")
		}
	})
}

// TestSpread checks that watches that begin at once look at different times.
func TestSpread(t *testing.T) {
	inBubble(t, func(t *testing.T, ws *Watches[string]) {
		things := make([]thing, 100)
		start := time.Now()
		times := map[time.Duration]bool{}
		for i := range things {
			v := join(ws, fmt.Sprint(i), &things[i], Wish[string]{})
			defer v.leave()
		}
		sleep(interval)
		for i := range things {
			looks := things[i].took().looks
			if len(looks) != 1 {
				t.Fatalf("%d looks in the first interval", len(looks))
			}
			times[looks[0].Sub(start).Round(time.Second)] = true
		}
		if len(times) < 5 {
			t.Errorf("the looks are in %d of the seconds", len(times))
		}
	})
}

func TestOver(t *testing.T) {
	inBubble(t, func(t *testing.T, ws *Watches[string]) {
		th := thing{do: func(_ context.Context, n int, _ string) Outcome[string] {
			if n == 3 {
				return Outcome[string]{Over: errOver}
			}
			return Outcome[string]{Found: "there"}
		}}
		a, b := join(ws, "a", &th, Wish[string]{}), join(ws, "a", &th, Wish[string]{})
		sleep(time.Minute)
		looks := th.took().looks
		for _, v := range []*viewer{a, b} {
			if f := v.ended(); f.n != 1 || !errors.Is(f.why, errOver) || !f.at.Equal(looks[2]) {
				t.Errorf("ended %d times, at %v, with %v", f.n, f.at, f.why)
			}
			v.leave()
		}
		if len(looks) != 3 {
			t.Errorf("%d looks", len(looks))
		}
	})
}

func TestCheck(t *testing.T) {
	inBubble(t, func(t *testing.T, ws *Watches[string]) {
		var th thing
		picky := join(ws, "a", &th, Wish[string]{Check: func(s string) error {
			if s == "there" {
				return errWrong
			}
			return nil
		}})
		other := join(ws, "a", &th, Wish[string]{})
		sleep(interval)
		if p, o := picky.ended(), other.ended(); !errors.Is(p.why, errWrong) || o.n != 0 {
			t.Errorf("the picky one ended with %v, the other %d times", p.why, o.n)
		}
		other.leave()
	})
}

// TestNext checks that a look can ask for an earlier one, and By for the first.
func TestNext(t *testing.T) {
	inBubble(t, func(t *testing.T, ws *Watches[string]) {
		start := time.Now()
		by := start.Add(time.Millisecond)
		th := thing{do: func(_ context.Context, n int, _ string) Outcome[string] {
			return Outcome[string]{Next: time.Now().Add(time.Duration(n) * time.Second)}
		}}
		v := join(ws, "a", &th, Wish[string]{Interval: 3 * time.Second, By: by})
		sleep(time.Millisecond + 9*time.Second)
		var got []time.Duration
		for _, at := range th.took().looks {
			got = append(got, at.Sub(by))
		}
		if want := []time.Duration{0, time.Second, 3 * time.Second, 6 * time.Second, 9 * time.Second}; !slices.Equal(got, want) {
			t.Errorf("looks at %v, want %v", got, want)
		}
		v.leave()
	})
}

func TestKeep(t *testing.T) {
	inBubble(t, func(t *testing.T, ws *Watches[string]) {
		var th thing
		plain := join(ws, "a", &th, Wish[string]{})
		sleep(interval)
		if th.took().keep {
			t.Error("it is kept though nobody wants it")
		}
		keeper := join(ws, "a", &th, Wish[string]{Keep: true})
		sleep(interval)
		if !th.took().keep {
			t.Error("it is not kept")
		}
		keeper.leave()
		sleep(interval)
		if th.took().keep {
			t.Error("it is kept after the keeper has left")
		}
		plain.leave()
	})
}

// TestFailing checks how long watchers go on while the looks fail, at once or by
// hanging until their context ends.
func TestFailing(t *testing.T) {
	fails := func(context.Context) error { return errDown }
	hangs := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	for _, tt := range []struct {
		name     string
		interval time.Duration
		fail     func(context.Context) error
		limit    time.Duration // after the last success
		last     time.Duration // and this for the look that ends it
		timeout  time.Duration
	}{
		{"default", 5 * time.Second, fails, 30 * time.Second, 0, 0},
		{"quick", 100 * time.Millisecond, fails, 30 * time.Second, 0, 0},
		{"slow", time.Minute, fails, 3 * time.Minute, 0, 0},
		{"default, hanging", 5 * time.Second, hangs, 30 * time.Second, 5 * time.Second, 5 * time.Second},
		{"quick, hanging", 100 * time.Millisecond, hangs, 30 * time.Second, time.Second, time.Second},
		{"slow, hanging", time.Minute, hangs, 3 * time.Minute, 5 * time.Second, 5 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, ws *Watches[string]) {
				var good atomic.Pointer[time.Time]
				var v *viewer
				th := thing{do: func(ctx context.Context, n int, _ string) Outcome[string] {
					if n == 3 || n == 5 {
						now := time.Now()
						good.Store(&now)
						return Outcome[string]{Found: "there"}
					}
					began := time.Now()
					err := tt.fail(ctx)
					if took := time.Since(began); took != tt.timeout && v.ended().n == 0 {
						t.Errorf("a look had %v", took)
					}
					return Outcome[string]{Failed: err}
				}}
				v = join(ws, "a", &th, Wish[string]{Interval: tt.interval})
				patient := join(ws, "a", &th, Wish[string]{Interval: 5 * time.Minute})
				sleep(10 * time.Minute)
				f := v.ended()
				took := f.at.Sub(*good.Load())
				if took < tt.limit || took > tt.limit+tt.last {
					t.Errorf("it ended %v after the last success", took)
				}
				if !errors.Is(f.why, errDown) && !errors.Is(f.why, context.DeadlineExceeded) {
					t.Errorf("it ended with %v", f.why)
				}
				if most := th.took().most; most != 1 {
					t.Errorf("%d looks at a time", most)
				}
				if patient.ended().n != 0 {
					t.Error("one that is more patient was ended as well")
				}
				patient.leave()
			})
		})
	}
}

// TestNewcomer checks that a look that began before a watcher came neither ends it
// nor counts for it.
func TestNewcomer(t *testing.T) {
	inBubble(t, func(t *testing.T, ws *Watches[string]) {
		th := thing{do: func(_ context.Context, n int, _ string) Outcome[string] {
			if n == 1 {
				time.Sleep(time.Second)
				return Outcome[string]{Over: errOver}
			}
			return Outcome[string]{Found: "there"}
		}}
		first := join(ws, "a", &th, Wish[string]{By: time.Now()})
		sleep(time.Millisecond)
		second := join(ws, "a", &th, Wish[string]{})
		sleep(time.Second)
		if a, b, n := first.ended().n, second.ended().n, th.took().n; a != 1 || b != 0 || n != 2 {
			t.Errorf("the first was ended %d times, the second %d times, in %d looks", a, b, n)
		}
		second.leave()

		// The store fails for 29 s before it comes.
		failing := thing{do: func(context.Context, int, string) Outcome[string] { return Outcome[string]{Failed: errDown} }}
		first = join(ws, "b", &failing, Wish[string]{})
		sleep(29 * time.Second)
		came := time.Now()
		second = join(ws, "b", &failing, Wish[string]{})
		sleep(time.Minute)
		if a, b := first.ended().at.Sub(came), second.ended().at.Sub(came); a != time.Second || b != 30*time.Second {
			t.Errorf("they were ended after %v and %v", a, b)
		}
	})
}

// TestWake checks that a look comes at once, and another one if it is in flight.
func TestWake(t *testing.T) {
	inBubble(t, func(t *testing.T, ws *Watches[string]) {
		th := thing{do: func(context.Context, int, string) Outcome[string] {
			time.Sleep(time.Second)
			return Outcome[string]{Found: "there"}
		}}
		ws.Wake("a")
		v := join(ws, "a", &th, Wish[string]{Interval: time.Hour})
		ws.Wake("b")
		ws.Wake("a")
		ws.Wake("a")
		sleep(time.Millisecond)
		ws.Wake("a")
		ws.Wake("a")
		sleep(time.Minute)
		if got := th.took(); got.n != 2 || got.most != 1 {
			t.Errorf("%d looks, %d at a time", got.n, got.most)
		}
		v.leave()
		ws.Wake("a")
	})
}

// TestTimers checks that a timer that fires when it was just set anew, or while a
// look is in flight, does nothing, and that none is left.
func TestTimers(t *testing.T) {
	inBubble(t, func(t *testing.T, ws *Watches[string]) {
		th := thing{do: func(context.Context, int, string) Outcome[string] {
			time.Sleep(time.Second)
			return Outcome[string]{Found: "there"}
		}}
		v := join(ws, "a", &th, Wish[string]{Interval: time.Hour})
		x := ws.m["a"]
		ws.run(x)
		ws.Wake("a")
		sleep(time.Millisecond)
		ws.run(x)
		sleep(time.Second)
		ws.run(x)
		if got := th.took(); got.n != 1 {
			t.Errorf("%d looks, %d at a time", got.n, got.most)
		}
		v.leave()
		if x.timer.Stop() {
			t.Error("its timer is left")
		}
	})
}

func TestEnd(t *testing.T) {
	for _, flying := range []bool{false, true} {
		inBubble(t, func(t *testing.T, ws *Watches[string]) {
			th := thing{do: func(ctx context.Context, _ int, _ string) Outcome[string] {
				<-ctx.Done()
				return Outcome[string]{Failed: ctx.Err()}
			}}
			a, b := join(ws, "a", &th, Wish[string]{}), join(ws, "a", &th, Wish[string]{})
			if flying {
				ws.Wake("a")
				sleep(0)
			}
			ws.End("b", errGone)
			ws.End("a", errGone)
			ws.End("a", errGone)
			for _, v := range []*viewer{a, b} {
				if f := v.ended(); f.n != 1 || !errors.Is(f.why, errGone) || !f.at.Equal(time.Now()) {
					t.Errorf("ended %d times with %v", f.n, f.why)
				}
				v.leave()
			}
			sleep(0)
			if th.inFlight() != 0 {
				t.Error("the look goes on")
			}
		})
	}
}

// TestLeaveInFlight checks that the last who leaves stops the look.
func TestLeaveInFlight(t *testing.T) {
	inBubble(t, func(t *testing.T, ws *Watches[string]) {
		th := thing{do: func(ctx context.Context, _ int, _ string) Outcome[string] {
			<-ctx.Done()
			if !errors.Is(ctx.Err(), context.Canceled) {
				t.Errorf("the look ended with %v", ctx.Err())
			}
			return Outcome[string]{Moved: "b"}
		}}
		v := join(ws, "a", &th, Wish[string]{By: time.Now()})
		sleep(0)
		v.leave()
		again := join(ws, "a", &thing{}, Wish[string]{})
		sleep(time.Hour)
		if a, b, n := v.ended().n, again.ended().n, th.took().n; a != 0 || b != 0 || n != 1 {
			t.Errorf("ended %d and %d times after %d looks", a, b, n)
		}
		again.leave()
	})
}

func TestMoves(t *testing.T) {
	inBubble(t, func(t *testing.T, ws *Watches[string]) {
		th := thing{do: func(_ context.Context, n int, key string) Outcome[string] {
			if n > 1 && len(key) < 4 {
				return Outcome[string]{Moved: key + "a"}
			}
			return Outcome[string]{Found: "there"}
		}}
		v := join(ws, "a", &th, Wish[string]{})
		sleep(3 * interval)
		if got, want := th.took().keys, []string{"a", "a", "aa", "aaa", "aaaa", "aaaa"}; !slices.Equal(got, want) {
			t.Errorf("looks at %q, want %q", got, want)
		}
		ws.Wake("a")
		ws.End("a", errGone)
		if v.ended().n != 0 {
			t.Error("it is still found where it was")
		}
		ws.End("aaaa", errGone)
		if v.ended().n != 1 {
			t.Error("it is not found where it is")
		}
	})
}

// TestMerge checks that watchers that follow a thing join those who watch it there.
func TestMerge(t *testing.T) {
	inBubble(t, func(t *testing.T, ws *Watches[string]) {
		old := thing{do: func(context.Context, int, string) Outcome[string] { return Outcome[string]{Moved: "b"} }}
		var th thing
		a := join(ws, "a", &old, Wish[string]{})
		b := join(ws, "b", &th, Wish[string]{Interval: time.Minute, By: time.Now()})
		sleep(time.Minute)
		if was, is := old.took().n, th.took().n; was != 1 || is < 12 || is > 14 {
			t.Errorf("%d looks where it was, %d where it is", was, is)
		}
		a.leave()
		sleep(time.Minute)
		th.took()
		sleep(10 * time.Minute)
		if n := len(th.took().looks); n != 10 {
			t.Errorf("%d looks after it has left", n)
		}
		b.leave()
	})
}

// TestMoveInCircles checks that a thing that leads to itself costs few looks.
func TestMoveInCircles(t *testing.T) {
	inBubble(t, func(t *testing.T, ws *Watches[string]) {
		th := thing{do: func(_ context.Context, _ int, key string) Outcome[string] { return Outcome[string]{Moved: key} }}
		v := join(ws, "a", &th, Wish[string]{})
		sleep(interval)
		if n := th.took().n; n != maxMoves+1 {
			t.Errorf("%d looks at once", n)
		}
		sleep(time.Minute)
		if v.ended().n != 1 {
			t.Error("it goes on")
		}
	})
}
