//go:build go1.25

package line

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

const key = "a"

// A member is one request that wants its turn.
type member struct {
	t    *testing.T
	ls   *Lines[string]
	turn Turn[string]
	err  error
	took time.Duration // how long it waited
	came chan struct{} // closed when Enter has returned
}

// want is how a member enters. The zero value waits an hour, behind whoever.
type want struct {
	ctx   context.Context
	key   string
	most  int
	wait  time.Duration
	stall time.Duration
	moves bool
}

// enter has a member enter, and returns when it has its turn, or waits for it.
func enter(t *testing.T, ls *Lines[string], w want) *member {
	t.Helper()
	if w.ctx == nil {
		w.ctx = t.Context()
	}
	if w.key == "" {
		w.key = key
	}
	if w.most == 0 {
		w.most = 100
	}
	if w.wait == 0 {
		w.wait = time.Hour
	}
	m := &member{t: t, ls: ls, came: make(chan struct{})}
	go func() {
		defer close(m.came)
		start := time.Now()
		m.turn, m.err = ls.Enter(w.ctx, w.key, w.most, start.Add(w.wait), w.stall, w.moves)
		m.took = time.Since(start)
	}()
	synctest.Wait()
	return m
}

// waits reports whether m has not been called yet.
func (m *member) waits() bool {
	synctest.Wait()
	select {
	case <-m.came:
		return false
	default:
		return true
	}
}

// inFront fails unless m has its turn, and the one before has done that; "" is
// nothing.
func (m *member) inFront(done string) {
	m.t.Helper()
	switch {
	case m.waits():
		m.t.Fatal("it still waits")
	case m.err != nil:
		m.t.Fatal(m.err)
	case done == "" && m.turn.Done != nil, done != "" && (m.turn.Done == nil || *m.turn.Done != done):
		m.t.Fatalf("it is told of %v, want %q", m.turn.Done, done)
	}
}

// gaveUp fails unless m has given up with err, after so long.
func (m *member) gaveUp(err error, after time.Duration) {
	m.t.Helper()
	if m.waits() {
		m.t.Fatal("it still waits")
	}
	if !errors.Is(m.err, err) || m.took != after || m.turn != (Turn[string]{}) {
		m.t.Fatalf("%v after %v, with %+v; want %v after %v", m.err, m.took, m.turn, err, after)
	}
}

// leave ends the turn of m; done is what it tells the next one, "" for nothing.
func (m *member) leave(done string) {
	m.turn.Done = nil
	if done != "" {
		m.turn.Done = &done
	}
	m.ls.Leave(key, &m.turn)
}

// in runs f in a bubble.
func in(t *testing.T, name string, f func(t *testing.T, ls *Lines[string])) {
	t.Run(name, func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { f(t, new(Lines[string])) })
	})
}

// TestOrder: first come, first served, and each is handed what the one before it
// has done.
func TestOrder(t *testing.T) {
	in(t, "one", func(t *testing.T, ls *Lines[string]) {
		if ls.Busy(key) {
			t.Error("busy before anybody came")
		}
		m := enter(t, ls, want{})
		m.inFront("")
		if m.turn.Waited || m.turn.StandBack || m.took != 0 || !ls.Busy(key) || ls.Busy("b") {
			t.Errorf("%+v after %v, busy %v, %v", m.turn, m.took, ls.Busy(key), ls.Busy("b"))
		}
		m.leave("x")
		if ls.Busy(key) {
			t.Error("busy when all have left")
		}
		m = enter(t, ls, want{})
		m.inFront("") // as nobody has waited for it
		if m.turn.Waited {
			t.Error("it waited for nobody")
		}
	})
	in(t, "many", func(t *testing.T, ls *Lines[string]) {
		front := enter(t, ls, want{})
		front.inFront("")
		var waiting []*member
		for range 20 {
			waiting = append(waiting, enter(t, ls, want{}))
		}
		other := enter(t, ls, want{key: "b"})
		other.inFront("") // of another key
		for i, m := range waiting {
			for _, later := range waiting[i:] {
				if !later.waits() {
					t.Fatal("two are in front")
				}
			}
			done := fmt.Sprint(i)
			if i%5 == 4 {
				done = "" // it has stored nothing
			}
			front.leave(done)
			m.inFront(done)
			if !m.turn.Waited || !ls.Busy(key) {
				t.Errorf("waited %v, busy %v", m.turn.Waited, ls.Busy(key))
			}
			front = m
		}
		front.leave("")
		if ls.Busy(key) || !ls.Busy("b") {
			t.Errorf("busy %v, and the other %v", ls.Busy(key), ls.Busy("b"))
		}
	})
	in(t, "a turn ends once", func(t *testing.T, ls *Lines[string]) {
		a, b, c := enter(t, ls, want{}), enter(t, ls, want{}), enter(t, ls, want{})
		a.leave("a")
		a.leave("again")
		b.inFront("a")
		a.leave("again")
		if !c.waits() {
			t.Error("a turn was ended by the one before")
		}
		b.leave("b")
		c.inFront("b")
	})
	in(t, "no turn", func(t *testing.T, ls *Lines[string]) {
		ls.Leave(key, &Turn[string]{}) // nothing happens
		ls.Moves(key, &Turn[string]{}, true)
		m := enter(t, ls, want{})
		ls.Leave(key, &Turn[string]{})
		if !ls.Busy(key) {
			t.Error("the turn of another was ended")
		}
		m.leave("")
	})
}

// TestTooMany: one more than may wait is told so at once.
func TestTooMany(t *testing.T) {
	in(t, "", func(t *testing.T, ls *Lines[string]) {
		front := enter(t, ls, want{most: 2})
		a, b := enter(t, ls, want{most: 2}), enter(t, ls, want{most: 2})
		enter(t, ls, want{most: 2}).gaveUp(ErrTimeout, 0)
		enter(t, ls, want{most: -1}).gaveUp(ErrTimeout, 0)
		c := enter(t, ls, want{most: 3}) // for which it is not too many
		front.leave("x")
		a.inFront("x")
		enter(t, ls, want{most: 2}).gaveUp(ErrTimeout, 0)
		a.leave("y")
		b.inFront("y")
		d := enter(t, ls, want{most: 2})
		b.leave("")
		c.inFront("")
		c.leave("")
		d.inFront("")
	})
}

// TestDeadline: where the line does not move, the wait has an end.
func TestDeadline(t *testing.T) {
	in(t, "it passes", func(t *testing.T, ls *Lines[string]) {
		front := enter(t, ls, want{})
		a, b := enter(t, ls, want{wait: time.Second}), enter(t, ls, want{wait: 3 * time.Second})
		time.Sleep(time.Second)
		a.gaveUp(ErrTimeout, time.Second)
		time.Sleep(time.Second)
		if !b.waits() {
			t.Error("another one gave up too")
		}
		front.leave("x")
		b.inFront("x")
		if b.took != 2*time.Second {
			t.Errorf("it waited %v", b.took)
		}
	})
	in(t, "it has passed", func(t *testing.T, ls *Lines[string]) {
		front := enter(t, ls, want{wait: -time.Second}) // nobody is there
		front.inFront("")
		enter(t, ls, want{wait: -time.Second}).gaveUp(ErrTimeout, 0)
		front.leave("")
	})
	in(t, "the turn comes at that moment", func(t *testing.T, ls *Lines[string]) {
		front := enter(t, ls, want{})
		a, b := enter(t, ls, want{wait: time.Second}), enter(t, ls, want{})
		time.Sleep(time.Second - 1)
		front.leave("x")
		time.Sleep(time.Second)
		a.inFront("x") // and does not end with the deadline
		a.leave("y")
		b.inFront("y")
	})
}

// TestContext: whoever does not wait any more is in nobody's way, and what it was
// handed is not lost.
func TestContext(t *testing.T) {
	in(t, "cancelled", func(t *testing.T, ls *Lines[string]) {
		ctx, cancel := context.WithCancel(t.Context())
		front := enter(t, ls, want{})
		a, b := enter(t, ls, want{ctx: ctx}), enter(t, ls, want{})
		time.Sleep(time.Second)
		cancel()
		a.gaveUp(context.Canceled, time.Second)
		front.leave("x")
		b.inFront("x")
	})
	in(t, "timed out", func(t *testing.T, ls *Lines[string]) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		front := enter(t, ls, want{})
		a := enter(t, ls, want{ctx: ctx})
		time.Sleep(2 * time.Second)
		a.gaveUp(context.DeadlineExceeded, time.Second)
		front.leave("x")
		if ls.Busy(key) {
			t.Error("somebody is left")
		}
	})
	in(t, "before it comes", func(t *testing.T, ls *Lines[string]) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		front := enter(t, ls, want{ctx: ctx})
		front.inFront("") // as it need not wait
		enter(t, ls, want{ctx: ctx}).gaveUp(context.Canceled, 0)
		front.leave("")
		if ls.Busy(key) {
			t.Error("somebody is left")
		}
	})
	in(t, "as the turn comes", func(t *testing.T, ls *Lines[string]) {
		// Which of the two a waiter sees first is left to chance.
		var cancelled, served int
		for range 200 {
			ctx, cancel := context.WithCancel(t.Context())
			front := enter(t, ls, want{})
			a, b := enter(t, ls, want{ctx: ctx}), enter(t, ls, want{})
			cancel()
			front.leave("x")
			synctest.Wait()
			if a.err == nil {
				served++
				a.inFront("x")
				a.leave("y")
				b.inFront("y")
			} else {
				cancelled++
				a.gaveUp(context.Canceled, 0)
				b.inFront("x") // what it was handed it has passed on
			}
			b.leave("")
			if ls.Busy(key) {
				t.Fatal("somebody is left")
			}
		}
		t.Logf("%d cancelled, %d served", cancelled, served)
	})
	in(t, "as the turn comes, and nobody is behind", func(t *testing.T, ls *Lines[string]) {
		for range 200 {
			ctx, cancel := context.WithCancel(t.Context())
			front := enter(t, ls, want{})
			a := enter(t, ls, want{ctx: ctx})
			cancel()
			front.leave("x")
			if synctest.Wait(); a.err == nil {
				a.leave("")
			}
			if ls.Busy(key) {
				t.Fatal("somebody is left")
			}
		}
	})
}

// TestMovingLine: where the one in front is at work, those behind it wait on, and
// whoever hangs there loses its turn.
func TestMovingLine(t *testing.T) {
	const stall = 5 * time.Second
	in(t, "they wait as long once more", func(t *testing.T, ls *Lines[string]) {
		front := enter(t, ls, want{moves: true})
		a := enter(t, ls, want{wait: 2 * time.Second, stall: stall})
		for range 10 {
			time.Sleep(3 * time.Second)
			ls.Moves(key, &front.turn, true)
		}
		if !a.waits() {
			t.Fatalf("%v after %v", a.err, a.took)
		}
		front.leave("x")
		a.inFront("x")
	})
	in(t, "until it does not move", func(t *testing.T, ls *Lines[string]) {
		front := enter(t, ls, want{moves: true})
		a := enter(t, ls, want{wait: 2 * time.Second, stall: stall})
		time.Sleep(3 * time.Second)
		ls.Moves(key, &front.turn, false)
		time.Sleep(2 * time.Second)
		a.gaveUp(ErrTimeout, 4*time.Second)
		front.leave("")
	})
	in(t, "from when it does", func(t *testing.T, ls *Lines[string]) {
		front := enter(t, ls, want{})
		a := enter(t, ls, want{wait: 2 * time.Second, stall: stall})
		time.Sleep(time.Second)
		ls.Moves(key, &front.turn, true)
		time.Sleep(3 * time.Second)
		if !a.waits() {
			t.Fatal(a.err)
		}
		front.leave("")
		a.inFront("")
	})
	in(t, "the one in front hangs", func(t *testing.T, ls *Lines[string]) {
		front := enter(t, ls, want{moves: true})
		a, b := enter(t, ls, want{wait: 2 * time.Second, stall: stall}), enter(t, ls, want{wait: 2 * time.Second, stall: stall})
		time.Sleep(stall - 1)
		if !a.waits() {
			t.Fatal("it was too early")
		}
		time.Sleep(time.Nanosecond)
		a.inFront("")
		if !a.turn.Waited || a.took != stall {
			t.Errorf("waited %v, %v", a.turn.Waited, a.took)
		}
		// What the one that hung says now is nothing to the line.
		front.leave("late")
		ls.Moves(key, &front.turn, false)
		if !b.waits() {
			t.Fatal("two are in front")
		}
		time.Sleep(stall - 1)
		a.leave("a")
		b.inFront("a")
		if b.took != 2*stall-1 {
			t.Errorf("it waited %v", b.took)
		}
	})
	in(t, "one after the other hangs", func(t *testing.T, ls *Lines[string]) {
		enter(t, ls, want{moves: true}).inFront("")
		var all []*member
		for range 4 {
			all = append(all, enter(t, ls, want{wait: 2 * time.Second, stall: stall}))
		}
		for i, m := range all {
			time.Sleep(stall)
			m.inFront("")
			if m.took != time.Duration(i+1)*stall {
				t.Errorf("the next waited %v", m.took)
			}
		}
	})
	in(t, "a sign of life counts", func(t *testing.T, ls *Lines[string]) {
		front := enter(t, ls, want{moves: true})
		a := enter(t, ls, want{wait: 2 * time.Second, stall: stall})
		time.Sleep(4 * time.Second)
		ls.Moves(key, &front.turn, true)
		time.Sleep(stall - 1)
		if !a.waits() {
			t.Fatal("its turn is lost")
		}
		front.leave("x")
		a.inFront("x")
	})
	in(t, "a lock keeps it", func(t *testing.T, ls *Lines[string]) {
		front := enter(t, ls, want{})
		a := enter(t, ls, want{wait: 20 * time.Second, stall: stall})
		time.Sleep(20*time.Second - 1)
		if !a.waits() {
			t.Fatal("it has lost its turn, and waits for a lock")
		}
		time.Sleep(time.Nanosecond)
		a.gaveUp(ErrTimeout, 20*time.Second)
		front.leave("")
	})
	in(t, "a late one waits at least a little", func(t *testing.T, ls *Lines[string]) {
		front := enter(t, ls, want{moves: true})
		a := enter(t, ls, want{wait: -time.Second, stall: stall})
		time.Sleep(breather / 2)
		if !a.waits() {
			t.Fatal(a.err)
		}
		front.leave("x")
		a.inFront("x")
	})
	in(t, "the first says whether it moves", func(t *testing.T, ls *Lines[string]) {
		front := enter(t, ls, want{moves: true})
		front.leave("")
		front = enter(t, ls, want{})
		enter(t, ls, want{wait: -time.Second, stall: stall, moves: true}).gaveUp(ErrTimeout, 0)
		front.leave("")
	})
}

// TestStandBack: a process that has handed a session from one to the next for long
// enough lets others have it.
func TestStandBack(t *testing.T) {
	const step = patience / 5
	// run has members come and go, each with its turn for step, and returns which
	// of them are to stand back. They come so long after the one before has left,
	// or else wait for it.
	run := func(t *testing.T, ls *Lines[string], n int, pause time.Duration) (back []int) {
		var front *member
		for i := range n {
			next := enter(t, ls, want{})
			if front != nil && pause == 0 {
				front.leave("")
			}
			next.inFront("")
			if next.turn.StandBack {
				back = append(back, i)
			}
			if front = next; pause > 0 {
				time.Sleep(step)
				front.leave("")
				time.Sleep(pause)
			} else {
				time.Sleep(step)
			}
		}
		return back
	}
	in(t, "from one to the next", func(t *testing.T, ls *Lines[string]) {
		if back := run(t, ls, 16, 0); !slices.Equal(back, []int{5, 10, 15}) {
			t.Errorf("%v stand back", back)
		}
	})
	in(t, "with short breaks", func(t *testing.T, ls *Lines[string]) {
		if back := run(t, ls, 13, breather-1); !slices.Equal(back, []int{2, 4, 6, 8, 10, 12}) {
			t.Errorf("%v stand back", back)
		}
	})
	in(t, "after a break", func(t *testing.T, ls *Lines[string]) {
		if back := run(t, ls, 13, breather); back != nil {
			t.Errorf("%v stand back", back)
		}
	})
	in(t, "after one that had it for long", func(t *testing.T, ls *Lines[string]) {
		front := enter(t, ls, want{})
		a, b := enter(t, ls, want{}), enter(t, ls, want{})
		time.Sleep(time.Minute)
		front.leave("x")
		a.inFront("x")
		a.leave("y")
		b.inFront("y")
		if !a.turn.StandBack || b.turn.StandBack {
			t.Errorf("stand back: %v, then %v", a.turn.StandBack, b.turn.StandBack)
		}
	})
	in(t, "each key by itself", func(t *testing.T, ls *Lines[string]) {
		front := enter(t, ls, want{})
		a := enter(t, ls, want{})
		time.Sleep(patience)
		other := enter(t, ls, want{key: "b"})
		other.inFront("")
		front.leave("")
		a.inFront("")
		if !a.turn.StandBack || other.turn.StandBack {
			t.Errorf("stand back: %v, the other %v", a.turn.StandBack, other.turn.StandBack)
		}
	})
}

// TestForget: what is kept of lines that nobody is in any more is bounded, and a
// line that somebody is in is not forgotten.
func TestForget(t *testing.T) {
	visit := func(t *testing.T, ls *Lines[string], key string) {
		t.Helper()
		turn, err := ls.Enter(t.Context(), key, 0, time.Now(), 0, false)
		if err != nil {
			t.Fatal(err)
		}
		ls.Leave(key, &turn)
	}
	in(t, "one after the other", func(t *testing.T, ls *Lines[string]) {
		most := 0
		for i := range 20_000 {
			visit(t, ls, fmt.Sprint(i))
			time.Sleep(breather / 10)
			most = max(most, len(ls.m))
		}
		// At least those of the last breather, and not many times as many.
		if most < 10 || most > 40 {
			t.Errorf("%d lines are kept", most)
		}
	})
	in(t, "after a crowd", func(t *testing.T, ls *Lines[string]) {
		const crowd = 5000
		for i := range crowd {
			visit(t, ls, fmt.Sprint(i))
		}
		if len(ls.m) != crowd {
			t.Errorf("%d lines are kept, and all were used just now", len(ls.m))
		}
		for i := range crowd {
			time.Sleep(breather)
			visit(t, ls, fmt.Sprint("later", i))
		}
		if len(ls.m) > 10 {
			t.Errorf("%d lines are kept", len(ls.m))
		}
	})
	in(t, "not those that are busy", func(t *testing.T, ls *Lines[string]) {
		front := enter(t, ls, want{})
		a := enter(t, ls, want{wait: 100 * time.Hour})
		for i := range 2000 {
			time.Sleep(breather)
			visit(t, ls, fmt.Sprint(i))
		}
		if !ls.Busy(key) || !a.waits() {
			t.Fatal("the line is gone")
		}
		front.leave("x")
		a.inFront("x")
		a.leave("")
	})
	in(t, "and what was forgotten begins anew", func(t *testing.T, ls *Lines[string]) {
		visit(t, ls, key)
		for len(ls.m) > 0 && ls.m[key] != nil {
			time.Sleep(breather)
			visit(t, ls, fmt.Sprint(time.Now().UnixNano()))
		}
		m := enter(t, ls, want{})
		m.inFront("")
		if m.turn.StandBack || m.turn.Waited {
			t.Errorf("%+v", m.turn)
		}
	})
}
