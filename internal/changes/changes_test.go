package changes_test

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/seed-a7bee19b/session/internal/changes"
)

// values are encoded values as text, so that tables can be read.
type values map[string]string

func (v values) encoded() map[string][]byte {
	m := make(map[string][]byte, len(v))
	for name, text := range v {
		m[name] = []byte(text)
	}
	return m
}

func decoded(m map[string][]byte) values {
	v := make(values, len(m))
	for name, data := range m {
		v[name] = string(data)
	}
	return v
}

func set(name, text string) func(*changes.Changes) {
	return func(c *changes.Changes) { c.Put(name, changes.Edit{Data: []byte(text)}) }
}

func del(name string) func(*changes.Changes) {
	return func(c *changes.Changes) { c.Put(name, changes.Edit{}) }
}

// redo makes an edit that depends on the stored value, as an Update does: after
// an edit of the same value that does not, the new one does not either.
func redo(name string, f func(data []byte) ([]byte, error)) func(*changes.Changes) {
	return func(c *changes.Changes) {
		data, err := f(c.Value(name))
		if err != nil {
			panic(err)
		}
		e := changes.Edit{Data: data, Redo: f}
		if before, ok := c.Edit(name); ok {
			e.Redo = nil
			if before.Redo != nil {
				e.Redo = func(theirs []byte) ([]byte, error) {
					data, err := before.Redo(theirs)
					if err != nil {
						return nil, err
					}
					return f(data)
				}
			}
		}
		c.Put(name, e)
	}
}

// add appends text to a value.
func add(name, text string) func(*changes.Changes) {
	return redo(name, func(data []byte) ([]byte, error) { return append(slices.Clone(data), text...), nil })
}

// take deletes a value, unless another request has changed it.
func take(name string) func(*changes.Changes) {
	return func(c *changes.Changes) {
		was := string(c.Value(name))
		redo(name, func(data []byte) ([]byte, error) {
			if string(data) == was {
				return nil, nil
			}
			return data, nil
		})(c)
	}
}

// firm sets a value, or deletes it, whatever is there.
func firm(name, text string) func(*changes.Changes) {
	e := changes.Edit{Firm: true}
	if text != "" {
		e.Data = []byte(text)
	}
	return func(c *changes.Changes) { c.Put(name, e) }
}

// clearBut clears all values but one.
func clearBut(name string) func(*changes.Changes) {
	return func(c *changes.Changes) { c.ClearExcept(func(n string) bool { return n == name }) }
}

func clearAll(c *changes.Changes)   { c.Clear() }
func discardAll(c *changes.Changes) { c.Discard() }

// TestEdits: what a request sees after its edits, and what it has to store.
func TestEdits(t *testing.T) {
	type do = []func(*changes.Changes)
	for _, tt := range []struct {
		name    string
		base    values
		do      do
		want    values
		edits   string // the names of the values that are edited
		any     bool
		depend  bool
		cleared bool
	}{
		{name: "nothing", base: values{"a": "1"}, want: values{"a": "1"}},
		{name: "nothing on nothing", want: values{}},
		{name: "change a value", base: values{"a": "1", "b": "1"}, do: do{set("a", "2")}, want: values{"a": "2", "b": "1"}, edits: "a", any: true},
		{name: "add a value", base: values{"a": "1"}, do: do{set("b", "2")}, want: values{"a": "1", "b": "2"}, edits: "b", any: true},
		{name: "add to nothing", do: do{set("a", "1")}, want: values{"a": "1"}, edits: "a", any: true},
		{name: "set what is there", base: values{"a": "1"}, do: do{set("a", "1")}, want: values{"a": "1"}},
		{name: "set and set back", base: values{"a": "1"}, do: do{set("a", "2"), set("a", "1")}, want: values{"a": "1"}},
		{name: "set twice", base: values{"a": "1"}, do: do{set("a", "2"), set("a", "3")}, want: values{"a": "3"}, edits: "a", any: true},
		{name: "delete", base: values{"a": "1", "b": "1"}, do: do{del("a")}, want: values{"b": "1"}, edits: "a", any: true},
		{name: "delete what is not there", base: values{"a": "1"}, do: do{del("b")}, want: values{"a": "1"}},
		{name: "add and delete", base: values{"a": "1"}, do: do{set("b", "1"), del("b")}, want: values{"a": "1"}},
		{name: "delete and set", base: values{"a": "1"}, do: do{del("a"), set("a", "2")}, want: values{"a": "2"}, edits: "a", any: true},
		{name: "delete and set back", base: values{"a": "1"}, do: do{del("a"), set("a", "1")}, want: values{"a": "1"}},

		{name: "clear", base: values{"a": "1"}, do: do{clearAll}, want: values{}, any: true, cleared: true},
		{name: "clear nothing", do: do{clearAll}, want: values{}, cleared: true},
		{name: "clear twice", base: values{"a": "1"}, do: do{clearAll, clearAll}, want: values{}, any: true, cleared: true},
		{name: "set and clear", base: values{"a": "1"}, do: do{set("b", "1"), clearAll}, want: values{}, any: true, cleared: true},
		{name: "clear and set", base: values{"a": "1", "b": "1"}, do: do{clearAll, set("a", "2")}, want: values{"a": "2"}, edits: "a", any: true, cleared: true},
		{name: "clear nothing and set", do: do{clearAll, set("a", "2")}, want: values{"a": "2"}, edits: "a", any: true, cleared: true},
		// Of what others store, only this value is to be left: there is something to do.
		{name: "clear and set what was there", base: values{"a": "1"}, do: do{clearAll, set("a", "1")}, want: values{"a": "1"}, edits: "a", any: true, cleared: true},
		{name: "clear and delete", base: values{"a": "1"}, do: do{clearAll, del("a")}, want: values{}, edits: "a", any: true, cleared: true},
		{name: "clear nothing and delete", do: do{clearAll, del("a")}, want: values{}, edits: "a", cleared: true},
		{name: "clear, set and clear", base: values{"a": "1"}, do: do{clearAll, set("b", "2"), clearAll}, want: values{}, any: true, cleared: true},

		{name: "update", base: values{"a": "1"}, do: do{add("a", "x")}, want: values{"a": "1x"}, edits: "a", any: true, depend: true},
		{name: "update what is not there", do: do{add("a", "x")}, want: values{"a": "x"}, edits: "a", any: true, depend: true},
		{name: "update twice", base: values{"a": "1"}, do: do{add("a", "x"), add("a", "y")}, want: values{"a": "1xy"}, edits: "a", any: true, depend: true},
		{name: "update to what is there", base: values{"a": "1"}, do: do{add("a", "")}, want: values{"a": "1"}, edits: "a", depend: true},
		{name: "update and set", base: values{"a": "1"}, do: do{add("a", "x"), set("a", "2")}, want: values{"a": "2"}, edits: "a", any: true},
		{name: "update and set back", base: values{"a": "1"}, do: do{add("a", "x"), set("a", "1")}, want: values{"a": "1"}},
		{name: "set and update", base: values{"a": "1"}, do: do{set("a", "2"), add("a", "x")}, want: values{"a": "2x"}, edits: "a", any: true},
		{name: "take", base: values{"a": "1"}, do: do{take("a")}, want: values{}, edits: "a", any: true, depend: true},
		{name: "take what is not there", do: do{take("a")}, want: values{}, edits: "a", depend: true},
		{name: "clear and update", base: values{"a": "1"}, do: do{clearAll, add("a", "x")}, want: values{"a": "x"}, edits: "a", any: true, depend: true, cleared: true},

		{name: "clear but one", base: values{"a": "1", "b": "1"}, do: do{clearBut("a")}, want: values{"a": "1"}, any: true, cleared: true},
		{name: "clear but all there is", base: values{"a": "1"}, do: do{clearBut("a")}, want: values{"a": "1"}, cleared: true},
		{name: "clear nothing but one", do: do{clearBut("a")}, want: values{}, cleared: true},
		{name: "clear but one that was edited", base: values{"a": "1"}, do: do{set("a", "2"), set("b", "2"), clearBut("a")}, want: values{"a": "2"}, edits: "a", any: true, cleared: true},
		{name: "clear but one that was deleted", base: values{"a": "1", "b": "1"}, do: do{del("a"), clearBut("a")}, want: values{}, edits: "a", any: true, cleared: true},
		{name: "clear but one, and set it", base: values{"a": "1"}, do: do{clearBut("a"), set("a", "2")}, want: values{"a": "2"}, edits: "a", any: true, cleared: true},
		{name: "clear but one, and set it as it is", base: values{"a": "1"}, do: do{clearBut("a"), set("a", "1")}, want: values{"a": "1"}, cleared: true},
		{name: "clear but one, and update it", base: values{"a": "1", "b": "1"}, do: do{clearBut("a"), add("a", "x"), add("b", "x")}, want: values{"a": "1x", "b": "x"}, edits: "ab", any: true, depend: true, cleared: true},
		{name: "clear, and clear but one", base: values{"a": "1"}, do: do{clearAll, clearBut("a")}, want: values{}, any: true, cleared: true},
		{name: "clear, set, and clear but one", base: values{"a": "1"}, do: do{clearAll, set("a", "2"), set("b", "2"), clearBut("a")}, want: values{"a": "2"}, edits: "a", any: true, cleared: true},
		{name: "clear but one, and clear", base: values{"a": "1"}, do: do{clearBut("a"), clearAll}, want: values{}, any: true, cleared: true},
		{name: "clear but one, twice", base: values{"a": "1", "b": "1"}, do: do{clearBut("a"), clearBut("a")}, want: values{"a": "1"}, any: true, cleared: true},
		{name: "clear but one, and but another", base: values{"a": "1", "b": "1"}, do: do{clearBut("a"), clearBut("b")}, want: values{}, any: true, cleared: true},
		{name: "clear but one, and discard", base: values{"a": "1", "b": "1"}, do: do{clearBut("a"), discardAll}, want: values{"a": "1", "b": "1"}},
		{name: "clear but one, discard and clear", base: values{"a": "1"}, do: do{clearBut("a"), discardAll, clearAll}, want: values{}, any: true, cleared: true},

		{name: "firm", base: values{"a": "1"}, do: do{firm("a", "2")}, want: values{"a": "2"}, edits: "a", any: true},
		{name: "firm, as it is", base: values{"a": "1"}, do: do{firm("a", "1")}, want: values{"a": "1"}, edits: "a"},
		{name: "firm deletion of nothing", base: values{"a": "1"}, do: do{firm("b", "")}, want: values{"a": "1"}, edits: "b"},
		{name: "firm, and set back", base: values{"a": "1"}, do: do{firm("a", "2"), set("a", "1")}, want: values{"a": "1"}},
		{name: "firm, and discard", base: values{"a": "1"}, do: do{firm("a", "1"), discardAll}, want: values{"a": "1"}},

		{name: "discard", base: values{"a": "1"}, do: do{set("a", "2"), set("b", "2"), discardAll}, want: values{"a": "1"}},
		{name: "discard a clear", base: values{"a": "1"}, do: do{clearAll, set("b", "2"), discardAll}, want: values{"a": "1"}},
		{name: "discard an update", base: values{"a": "1"}, do: do{add("a", "x"), discardAll}, want: values{"a": "1"}},
		{name: "discard nothing", base: values{"a": "1"}, do: do{discardAll}, want: values{"a": "1"}},
		{name: "discard and set", base: values{"a": "1"}, do: do{clearAll, discardAll, set("b", "2")}, want: values{"a": "1", "b": "2"}, edits: "b", any: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			base := tt.base.encoded()
			c := changes.On(base)
			for _, do := range tt.do {
				do(&c)
			}
			if got := decoded(c.Values()); !maps.Equal(got, tt.want) {
				t.Errorf("the values are %v, want %v", got, tt.want)
			}
			if got := decoded(c.Base()); !maps.Equal(got, tt.base) {
				t.Errorf("the base is %v, want %v", got, tt.base)
			}
			edits := ""
			for _, name := range []string{"a", "b", "c"} {
				want, ok := tt.want[name]
				if got := c.Value(name); string(got) != want || (got != nil) != ok {
					t.Errorf("the value of %s is %q, want %q", name, got, want)
				}
				e, ok := c.Edit(name)
				if ok {
					edits += name
				}
				if string(e.Data) != want && ok {
					t.Errorf("the edit of %s is %q, want %q", name, e.Data, want)
				}
			}
			if edits != tt.edits {
				t.Errorf("edited are %q, want %q", edits, tt.edits)
			}
			if c.Any() != tt.any || c.Depend() != tt.depend || c.Cleared() != tt.cleared {
				t.Errorf("any %v, depend %v, cleared %v; want %v, %v, %v", c.Any(), c.Depend(), c.Cleared(), tt.any, tt.depend, tt.cleared)
			}
		})
	}
}

// TestZeroChanges: the zero value can be used.
func TestZeroChanges(t *testing.T) {
	var c changes.Changes
	if c.Base() != nil || c.Values() != nil || c.Value("a") != nil || c.Any() || c.Depend() || c.Cleared() {
		t.Error("it has something")
	}
	replayed, err := c.Replay(nil)
	if err != nil || replayed.Values() != nil || len(c.Since(nil).Values()) != 0 {
		t.Errorf("replayed %v, %v", replayed.Values(), err)
	}
	clone := c.Clone()
	set("a", "1")(&clone)
	if c.Any() || !clone.Any() {
		t.Error("a change of the clone is not the clone's alone")
	}
}

// TestReplay: edits that meet what somebody else has stored.
func TestReplay(t *testing.T) {
	type do = []func(*changes.Changes)
	for _, tt := range []struct {
		name   string
		base   values
		do     do
		theirs values
		want   values
		any    bool
	}{
		{name: "nothing", base: values{"a": "1"}, theirs: values{"a": "2"}, want: values{"a": "2"}},
		{name: "other values", base: values{"a": "1", "b": "1"}, do: do{set("a", "2")}, theirs: values{"a": "1", "b": "2", "c": "2"},
			want: values{"a": "2", "b": "2", "c": "2"}, any: true},
		{name: "both set", base: values{"a": "1"}, do: do{set("a", "2")}, theirs: values{"a": "3"}, want: values{"a": "2"}, any: true},
		{name: "both set the same", base: values{"a": "1"}, do: do{set("a", "2")}, theirs: values{"a": "2"}, want: values{"a": "2"}},
		{name: "set what they deleted", base: values{"a": "1"}, do: do{set("a", "2")}, theirs: values{}, want: values{"a": "2"}, any: true},
		{name: "delete what they set", base: values{"a": "1"}, do: do{del("a")}, theirs: values{"a": "3"}, want: values{}, any: true},
		{name: "both delete", base: values{"a": "1"}, do: do{del("a")}, theirs: values{}, want: values{}},
		{name: "set back what they set", base: values{"a": "1"}, do: do{set("a", "2"), set("a", "1")}, theirs: values{"a": "3"}, want: values{"a": "3"}},
		{name: "update", base: values{"a": "1"}, do: do{add("a", "x")}, theirs: values{"a": "3"}, want: values{"a": "3x"}, any: true},
		{name: "update what they deleted", base: values{"a": "1"}, do: do{add("a", "x")}, theirs: values{}, want: values{"a": "x"}, any: true},
		{name: "update thrice", base: values{"a": "1"}, do: do{add("a", "x"), add("a", "y"), add("a", "z")}, theirs: values{"a": "3"}, want: values{"a": "3xyz"}, any: true},
		{name: "update after set", base: values{"a": "1"}, do: do{set("a", "2"), add("a", "x")}, theirs: values{"a": "3"}, want: values{"a": "2x"}, any: true},
		{name: "update after delete", base: values{"a": "1"}, do: do{del("a"), add("a", "x")}, theirs: values{"a": "3"}, want: values{"a": "x"}, any: true},
		{name: "set after update", base: values{"a": "1"}, do: do{add("a", "x"), set("a", "2")}, theirs: values{"a": "3"}, want: values{"a": "2"}, any: true},
		{name: "update that changed nothing", base: values{"a": "1"}, do: do{add("a", "")}, theirs: values{"a": "3"}, want: values{"a": "3"}},
		{name: "take", base: values{"a": "1"}, do: do{take("a")}, theirs: values{"a": "1", "b": "1"}, want: values{"b": "1"}, any: true},
		{name: "take what they changed", base: values{"a": "1"}, do: do{take("a")}, theirs: values{"a": "3"}, want: values{"a": "3"}},
		{name: "take what they took", base: values{"a": "1"}, do: do{take("a")}, theirs: values{}, want: values{}},
		{name: "take nothing", do: do{take("a")}, theirs: values{"a": "3"}, want: values{"a": "3"}},
		{name: "take and update", base: values{"a": "1"}, do: do{take("a"), add("a", "x")}, theirs: values{"a": "1"}, want: values{"a": "x"}, any: true},
		{name: "clear", base: values{"a": "1"}, do: do{clearAll}, theirs: values{"a": "3", "b": "3"}, want: values{}, any: true},
		{name: "clear nothing", do: do{clearAll}, theirs: values{"a": "3"}, want: values{}, any: true},
		{name: "clear what they cleared", base: values{"a": "1"}, do: do{clearAll}, theirs: values{}, want: values{}},
		{name: "clear and set", base: values{"a": "1"}, do: do{clearAll, set("b", "2")}, theirs: values{"a": "3", "b": "2"}, want: values{"b": "2"}, any: true},
		{name: "clear and update", base: values{"a": "1"}, do: do{clearAll, add("a", "x")}, theirs: values{"a": "3"}, want: values{"a": "x"}, any: true},
		{name: "clear but one", base: values{"a": "1", "b": "1"}, do: do{clearBut("a")}, theirs: values{"a": "3", "b": "3", "c": "3"}, want: values{"a": "3"}, any: true},
		{name: "clear but one that they added", base: values{"b": "1"}, do: do{clearBut("a")}, theirs: values{"a": "3", "b": "1"}, want: values{"a": "3"}, any: true},
		{name: "clear but one that they deleted", base: values{"a": "1", "b": "1"}, do: do{clearBut("a")}, theirs: values{"b": "1"}, want: values{}, any: true},
		{name: "clear but all they have", base: values{"a": "1", "b": "1"}, do: do{clearBut("a")}, theirs: values{"a": "3"}, want: values{"a": "3"}},
		{name: "clear but one, and set it", base: values{"a": "1"}, do: do{clearBut("a"), set("a", "2")}, theirs: values{"a": "3"}, want: values{"a": "2"}, any: true},
		{name: "clear but one, and set it as they did", base: values{"a": "1"}, do: do{clearBut("a"), set("a", "2")}, theirs: values{"a": "2"}, want: values{"a": "2"}},
		{name: "clear but one, and update it", base: values{"a": "1"}, do: do{clearBut("a"), add("a", "x")}, theirs: values{"a": "3"}, want: values{"a": "3x"}, any: true},
		{name: "clear, and clear but one", base: values{"a": "1"}, do: do{clearAll, clearBut("a")}, theirs: values{"a": "3"}, want: values{}, any: true},
		{name: "firm", base: values{"a": "1"}, do: do{firm("a", "2")}, theirs: values{"a": "3"}, want: values{"a": "2"}, any: true},
		{name: "firm, as it was", base: values{"a": "1"}, do: do{firm("a", "1")}, theirs: values{"a": "3"}, want: values{"a": "1"}, any: true},
		{name: "firm, as they have it", base: values{"a": "1"}, do: do{firm("a", "2")}, theirs: values{"a": "2"}, want: values{"a": "2"}},
		{name: "firm deletion of what they added", do: do{firm("a", "")}, theirs: values{"a": "3", "b": "3"}, want: values{"b": "3"}, any: true},
		{name: "discard", base: values{"a": "1"}, do: do{clearAll, set("b", "2"), discardAll}, theirs: values{"a": "3"}, want: values{"a": "3"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := changes.On(tt.base.encoded())
			for _, do := range tt.do {
				do(&c)
			}
			before, theirs := decoded(c.Values()), tt.theirs.encoded()
			replayed, err := c.Replay(theirs)
			if err != nil {
				t.Fatal(err)
			}
			if got := decoded(replayed.Values()); !maps.Equal(got, tt.want) || replayed.Any() != tt.any {
				t.Errorf("the values are %v, any %v; want %v, %v", got, replayed.Any(), tt.want, tt.any)
			}
			if !maps.Equal(decoded(replayed.Base()), tt.theirs) || !maps.Equal(decoded(theirs), tt.theirs) {
				t.Errorf("the base is %v, and was %v, want %v", replayed.Base(), theirs, tt.theirs)
			}
			if got := decoded(c.Values()); !maps.Equal(got, before) || !maps.Equal(decoded(c.Base()), tt.base) {
				t.Errorf("what was replayed is %v now, and was %v", got, before)
			}
		})
	}
}

// TestReplayFails: an edit that cannot be made anew leaves everything as it was.
func TestReplayFails(t *testing.T) {
	refused := errors.New("refused")
	refuses := func(data []byte) ([]byte, error) {
		if strings.HasPrefix(string(data), "3") {
			return nil, refused
		}
		return append(slices.Clone(data), 'y'), nil
	}
	c := changes.On(values{"a": "1", "b": "1"}.encoded())
	set("b", "2")(&c)
	add("c", "x")(&c)
	add("a", "x")(&c)
	redo("a", refuses)(&c) // the second link of a chain
	before, clone := decoded(c.Values()), c.Clone()
	for range 10 { // in whichever order the edits come
		got, err := c.Replay(values{"a": "3", "b": "3", "c": "3"}.encoded())
		if !errors.Is(err, refused) || err.Error() != `value "a": refused` {
			t.Fatalf("error %v", err)
		}
		for _, c := range []changes.Changes{c, got} {
			if !maps.Equal(decoded(c.Values()), before) || !maps.Equal(decoded(c.Base()), values{"a": "1", "b": "1"}) || !c.SameEdits(clone) {
				t.Fatalf("the values are %v, on %v", c.Values(), c.Base())
			}
		}
	}
	if replayed, err := c.Replay(values{"a": "2"}.encoded()); err != nil || string(replayed.Value("a")) != "2xy" {
		t.Errorf("then %v, %v", replayed.Values(), err)
	}

	c.Clear()
	redo("a", refuses)(&c)
	// After Clear it never meets what others have stored.
	if replayed, err := c.Replay(values{"a": "3"}.encoded()); err != nil || !maps.Equal(decoded(replayed.Values()), values{"a": "y"}) {
		t.Errorf("after Clear: %v, %v", replayed.Values(), err)
	}
}

// TestReplayAgain: an Update is computed from what is stored at last, and once.
func TestReplayAgain(t *testing.T) {
	c := changes.On(values{"a": "1"}.encoded())
	add("a", "x")(&c)
	add("a", "y")(&c)
	for _, theirs := range []string{"2", "2", "3", ""} {
		base := values{"a": theirs}
		if theirs == "" {
			base = nil
		}
		var err error
		if c, err = c.Replay(base.encoded()); err != nil || string(c.Value("a")) != theirs+"xy" {
			t.Errorf("on %q: %q, %v", theirs, c.Value("a"), err)
		}
		if !c.Depend() {
			t.Error("it does not depend on what is stored any more")
		}
	}
}

// TestReplayFirmly: a firm edit that met its own value still overrides the next.
func TestReplayFirmly(t *testing.T) {
	c := changes.On(values{"a": "1"}.encoded())
	firm("a", "2")(&c)
	firm("b", "")(&c)
	for _, theirs := range []values{{"a": "2"}, {"a": "3", "b": "3"}, {}, {"a": "2", "b": "2"}} {
		var err error
		if c, err = c.Replay(theirs.encoded()); err != nil || !maps.Equal(decoded(c.Values()), values{"a": "2"}) || c.Depend() {
			t.Errorf("on %v: %v, %v, depend %v", theirs, decoded(c.Values()), err, c.Depend())
		}
	}
}

// TestSince: what is left to do when a save has stored the values as they were.
func TestSince(t *testing.T) {
	type do = []func(*changes.Changes)
	for _, tt := range []struct {
		name    string
		base    values
		before  do // the save
		after   do
		want    values
		pending string
	}{
		{name: "nothing", base: values{"a": "1"}, before: do{set("a", "2")}, want: values{"a": "2"}},
		{name: "another value", base: values{"a": "1"}, before: do{set("a", "2")}, after: do{set("b", "2")}, want: values{"a": "2", "b": "2"}, pending: "b"},
		{name: "the same value", base: values{"a": "1"}, before: do{set("a", "2")}, after: do{set("a", "3")}, want: values{"a": "3"}, pending: "a"},
		{name: "delete", base: values{"a": "1", "b": "1"}, before: do{set("a", "2")}, after: do{del("b")}, want: values{"a": "2"}, pending: "b"},
		{name: "update what was saved", base: values{"a": "1"}, before: do{add("a", "x")}, after: do{add("a", "y")}, want: values{"a": "1xy"}, pending: "a"},
		{name: "clear", base: values{"a": "1"}, before: do{set("b", "2")}, after: do{clearAll}, want: values{}, pending: "ab"},
		{name: "clear and set", base: values{"a": "1"}, before: do{set("b", "2")}, after: do{clearAll, set("b", "2")}, want: values{"b": "2"}, pending: "a"},
		{name: "clear but one", base: values{"a": "1", "b": "1"}, before: do{set("c", "2")}, after: do{clearBut("a")}, want: values{"a": "1"}, pending: "bc"},
		{name: "cleared but one before", base: values{"a": "1", "b": "1"}, before: do{clearBut("a"), set("c", "2")}, after: do{set("b", "2")}, want: values{"a": "1", "b": "2", "c": "2"}, pending: "b"},
		{name: "firm", base: values{"a": "1"}, before: do{firm("a", "1")}, after: do{set("b", "2")}, want: values{"a": "1", "b": "2"}, pending: "b"},
		{name: "cleared before", base: values{"a": "1"}, before: do{clearAll, set("b", "2")}, after: do{set("c", "2")}, want: values{"b": "2", "c": "2"}, pending: "c"},
		{name: "discard", base: values{"a": "1"}, before: do{set("a", "2")}, after: do{discardAll}, want: values{"a": "2"}}, // it is stored
		{name: "discard a clear", base: values{"a": "1"}, before: do{set("a", "2")}, after: do{clearAll, discardAll}, want: values{"a": "2"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := changes.On(tt.base.encoded())
			for _, do := range tt.before {
				do(&c)
			}
			saved := maps.Clone(c.Values())
			was := decoded(saved)
			for _, do := range tt.after {
				do(&c)
			}
			later := c.Since(saved)
			if got := decoded(later.Values()); !maps.Equal(got, tt.want) || later.Any() != (tt.pending != "") {
				t.Errorf("the values are %v, any %v; want %v", got, later.Any(), tt.want)
			}
			pending := ""
			for _, name := range []string{"a", "b", "c"} {
				if _, ok := later.Edit(name); ok {
					pending += name
				}
			}
			if pending != tt.pending || later.Depend() || later.Cleared() {
				t.Errorf("pending are %q, want %q; depend %v, cleared %v", pending, tt.pending, later.Depend(), later.Cleared())
			}
			if !maps.Equal(decoded(later.Base()), was) || !maps.Equal(decoded(saved), was) {
				t.Errorf("the base is %v, want %v", later.Base(), was)
			}
		})
	}
}

// TestClone: neither of two copies sees what becomes of the other, and both know
// whether they are still the same.
func TestClone(t *testing.T) {
	start := func() changes.Changes {
		c := changes.On(values{"a": "1", "b": "1"}.encoded())
		set("a", "2")(&c)
		add("c", "x")(&c)
		return c
	}
	for name, do := range map[string]func(*changes.Changes){
		"set": set("b", "2"), "set again": set("a", "3"), "set back": set("a", "1"), "set what is there": set("b", "1"),
		"delete": del("b"), "update": add("c", "y"), "clear": clearAll, "discard": discardAll,
	} {
		t.Run(name, func(t *testing.T) {
			c := start()
			want := decoded(c.Values())
			clone := c.Clone()
			if !c.SameEdits(clone) || !clone.SameEdits(c) {
				t.Fatal("a clone is another")
			}
			do(&c)
			if got := decoded(clone.Values()); !maps.Equal(got, want) || c.SameEdits(clone) {
				t.Errorf("the clone has %v, want %v; the same %v", got, want, c.SameEdits(clone))
			}
			c = start()
			clone = c.Clone()
			do(&clone)
			if got := decoded(c.Values()); !maps.Equal(got, want) || c.SameEdits(clone) {
				t.Errorf("the original has %v, want %v; the same %v", got, want, c.SameEdits(clone))
			}
		})
	}
	c := start()
	clone := c.Clone()
	replayed, err := clone.Replay(values{"a": "3"}.encoded())
	if err != nil || !replayed.SameEdits(c) {
		t.Errorf("a replay has other edits, %v", err)
	}
	set("b", "2")(&replayed)
	if string(c.Value("b")) != "1" || string(clone.Value("b")) != "1" {
		t.Error("an edit of the replay is one of the original")
	}
}

// TestUncleared: the edits that were made after a Clear, without it.
func TestUncleared(t *testing.T) {
	c := changes.On(values{"a": "1", "b": "1"}.encoded())
	c.Clear()
	set("a", "2")(&c)
	add("c", "x")(&c)
	un := c.Uncleared()
	set("d", "1")(&un)
	if !c.Cleared() || c.Value("d") != nil || un.Cleared() {
		t.Errorf("cleared %v and %v; the copy's edit is the original's: %q", c.Cleared(), un.Cleared(), c.Value("d"))
	}
	replayed, err := c.Uncleared().Replay(values{"a": "3", "c": "3", "e": "3"}.encoded())
	if got, want := decoded(replayed.Values()), (values{"a": "2", "c": "3x", "e": "3"}); err != nil || !maps.Equal(got, want) {
		t.Errorf("replayed as %v, %v, want %v", got, err, want)
	}
	if !c.SameEdits(c.Uncleared()) {
		t.Error("it counts as changed")
	}
}
