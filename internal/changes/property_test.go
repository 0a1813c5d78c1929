package changes_test

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"

	"github.com/seed-a7bee19b/session/internal/changes"
)

var names = []string{"a", "b", "c", "d"}

// A program is what a request does, as bytes: two sets of values, the ones that
// it has read and those that somebody else has stored since, and edits.
type program struct {
	data []byte
	// fresh: no edit sets a value back to what was read. One that does is no
	// change, whatever others store.
	fresh bool
	n     int // of the values that were made
}

func (p *program) next(n int) int {
	if len(p.data) == 0 {
		return 0
	}
	b := p.data[0]
	p.data = p.data[1:]
	return int(b) % n
}

func (p *program) values() map[string][]byte {
	m := make(map[string][]byte)
	for i, bits := 0, p.next(256); i < len(names); i++ {
		if v := bits >> (2 * i) & 3; v != 0 {
			m[names[i]] = []byte{byte('0' + v)}
		}
	}
	return m
}

// text returns a value that is nowhere else or, unless they are to be fresh, one
// that may be.
func (p *program) text() string {
	if kind := p.next(4); kind != 0 && !p.fresh {
		return string(rune('0' + kind))
	}
	p.n++
	return fmt.Sprintf("<%d>", p.n)
}

// An operation is one edit, for Changes and for a plain map of values.
type operation struct {
	name  string // of the value; "" for all
	edit  func(*changes.Changes)
	plain func(map[string][]byte)
	drops bool // edits from before
}

// operation returns the next one, of a request that sees the values of c.
func (p *program) operation(c *changes.Changes) operation {
	name := names[p.next(len(names))]
	switch p.next(8) {
	case 0:
		return operation{name: name, edit: del(name), plain: func(m map[string][]byte) { delete(m, name) }}
	case 1, 2:
		text := p.text()
		return operation{name: name, edit: add(name, text), plain: func(m map[string][]byte) { m[name] = append(bytes.Clone(m[name]), text...) }}
	case 3:
		was := c.Value(name)
		return operation{name: name, edit: take(name), plain: func(m map[string][]byte) {
			if bytes.Equal(m[name], was) {
				delete(m, name)
			}
		}}
	case 4:
		return operation{edit: clearAll, plain: func(m map[string][]byte) { clear(m) }}
	case 5:
		return operation{edit: discardAll, drops: true}
	}
	text := p.text()
	return operation{name: name, edit: set(name, text), plain: func(m map[string][]byte) { m[name] = []byte(text) }}
}

// setsBack reports whether op sets a value back to what was read.
func setsBack(c changes.Changes, op operation) bool {
	after := c.Clone()
	op.edit(&after)
	_, edited := after.Edit(op.name)
	return op.name != "" && !edited && !after.Cleared()
}

func equal(a, b map[string][]byte) bool {
	return maps.EqualFunc(a, b, func(x, y []byte) bool { return bytes.Equal(x, y) && (x == nil) == (y == nil) })
}

// apply returns the values after the operations, one by one.
func apply(values map[string][]byte, ops []operation) map[string][]byte {
	m := maps.Clone(values)
	for _, op := range ops {
		op.plain(m)
	}
	return m
}

// checkProgram runs a program and holds Changes against a plain map.
func checkProgram(t *testing.T, data []byte) {
	p := program{data: data}
	p.fresh = p.next(2) == 0
	base, theirs := p.values(), p.values()
	base0, theirs0 := maps.Clone(base), maps.Clone(theirs)
	savedAt, clonedAt := p.next(8), p.next(8)

	c := changes.On(base)
	clone, cloned := c.Clone(), maps.Clone(base)
	saved := maps.Clone(base)
	sinceClone, dropped := 0, false
	var ops []operation
	for i := 0; len(p.data) > 0 && i < 64; i++ {
		if i == savedAt {
			saved, dropped = maps.Clone(c.Values()), false
		}
		if i == clonedAt {
			clone, cloned, sinceClone = c.Clone(), maps.Clone(c.Values()), 0
		}
		op := p.operation(&c)
		if p.fresh && setsBack(c, op) {
			continue
		}
		op.edit(&c)
		sinceClone++
		if op.drops {
			ops, dropped = nil, true
		} else {
			ops = append(ops, op)
		}

		now := c.Values()
		if want := apply(base, ops); !equal(now, want) {
			t.Fatalf("the values are %q, want %q", now, want)
		}
		for _, name := range names {
			if !bytes.Equal(c.Value(name), now[name]) {
				t.Fatalf("the value of %s is %q, and among all %q", name, c.Value(name), now[name])
			}
		}
		if same := equal(now, base); !c.Any() && !same || c.Any() && same && !c.Cleared() {
			t.Fatalf("any %v: %q on %q", c.Any(), now, base)
		}
	}

	checkReplay(t, c, base, c.Values(), true)
	if p.fresh {
		checkReplay(t, c, theirs, apply(theirs, ops), true)
	} else {
		checkReplay(t, c, theirs, nil, false)
	}
	if later := c.Since(saved); p.fresh && !dropped && !equal(later.Values(), c.Values()) {
		t.Errorf("since %q: %q, want %q", saved, later.Values(), c.Values())
	} else if later.Depend() || later.Cleared() || !equal(later.Base(), saved) || later.Any() == equal(later.Values(), saved) {
		t.Errorf("since %q: depend %v, cleared %v, any %v", saved, later.Depend(), later.Cleared(), later.Any())
	}
	if !equal(clone.Values(), cloned) || clone.SameEdits(c) != (sinceClone == 0) {
		t.Errorf("the clone has %q, want %q; the same %v after %d edits", clone.Values(), cloned, clone.SameEdits(c), sinceClone)
	}
	now := maps.Clone(c.Values())
	clone = c.Clone()
	for _, name := range names {
		set(name, "other")(&clone)
	}
	clone.Clear()
	if !equal(c.Values(), now) || !equal(base, base0) || !equal(theirs, theirs0) {
		t.Errorf("the values are %q, want %q; base %q, theirs %q", c.Values(), now, base, theirs)
	}
	c.Discard()
	if !equal(c.Values(), base0) || c.Any() || c.Depend() || c.Cleared() {
		t.Errorf("after Discard: %q, any %v", c.Values(), c.Any())
	}
}

// checkReplay replays c on base, twice. If all is set, the values must be want.
func checkReplay(t *testing.T, c changes.Changes, base, want map[string][]byte, all bool) {
	t.Helper()
	replayed, err := c.Replay(base)
	if err != nil {
		t.Fatal(err)
	}
	if all && !equal(replayed.Values(), want) {
		t.Errorf("replayed on %q: %q, want %q", base, replayed.Values(), want)
	}
	for _, name := range names { // what the request did not touch, and what it set
		e, ok := c.Edit(name)
		want := e.Data
		switch {
		case ok && e.Redo != nil:
			continue
		case !ok && !c.Cleared():
			want = base[name]
		}
		if got := replayed.Value(name); !bytes.Equal(got, want) {
			t.Errorf("replayed on %q: %s is %q, want %q", base, name, got, want)
		}
		// What they have stored as well is no edit any more, unless all else goes.
		if _, left := replayed.Edit(name); left != (ok && (c.Cleared() || !bytes.Equal(e.Data, base[name]))) {
			t.Errorf("replayed on %q: %s is edited %v", base, name, left)
		}
	}
	if !equal(replayed.Base(), base) || replayed.Cleared() != c.Cleared() || replayed.Depend() != c.Depend() || !replayed.SameEdits(c) {
		t.Errorf("replayed on %q: base %q, cleared %v, depend %v", base, replayed.Base(), replayed.Cleared(), replayed.Depend())
	}
	again, err := replayed.Replay(base)
	if err != nil || !equal(again.Values(), replayed.Values()) {
		t.Errorf("replayed again: %q, %v, want %q", again.Values(), err, replayed.Values())
	}
}

// TestPrograms: whatever a request does, Changes are to be what a plain map is.
func TestPrograms(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for i := range 5_000 {
		data := make([]byte, r.IntN(60))
		for i := range data {
			data[i] = byte(r.Uint32())
		}
		if checkProgram(t, data); t.Failed() {
			t.Fatalf("program %d: %q", i, data)
		}
	}
}

func FuzzPrograms(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte("\x00\x1b\x2d\x01\x02\x00\x06\x01\x01\x02\x03\x04\x05\x06\x07"))
	f.Add([]byte("\x01\x1b\x2d\x00\x00\x00\x06\x02\x00\x06\x01\x01\x04\x00\x00"))
	f.Fuzz(checkProgram)
}
