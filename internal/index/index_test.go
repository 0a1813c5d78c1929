package index

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestCovers(t *testing.T) {
	e := Entry{Handle: "h", Epoch: 2, Also: []string{"A", "B"}}
	for _, tt := range []struct {
		name string
		r    Revocation
		want bool
	}{
		{"all", Revocation{Epoch: 3}, true},
		{"an earlier one", Revocation{Epoch: 2}, false},
		{"this one", Revocation{Epoch: 3, Only: []string{"g", "h"}}, true},
		{"another one", Revocation{Epoch: 3, Only: []string{"g"}}, false},
		{"all but this one", Revocation{Epoch: 3, Except: []string{"g", "h"}}, false},
		{"all but another one", Revocation{Epoch: 3, Except: []string{"g"}}, true},
		{"of an owner", Revocation{Epoch: 3, Also: []string{"B"}}, true},
		{"of two owners", Revocation{Epoch: 3, Also: []string{"B", "A"}}, true},
		{"of another owner", Revocation{Epoch: 3, Also: []string{"C"}}, false},
		{"of an owner and another", Revocation{Epoch: 3, Also: []string{"A", "C"}}, false},
		{"of an owner but this one", Revocation{Epoch: 3, Also: []string{"A"}, Except: []string{"h"}}, false},
	} {
		if got := tt.r.Covers(e); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
}

func TestList(t *testing.T) {
	x := func(keys ...string) Entry { return Entry{Handle: "x", Keys: keys, Also: []string{"A"}} }
	all, others := Revocation{Epoch: 1}, Revocation{Epoch: 1, Also: []string{"B"}}
	later := func(e Entry) Entry {
		e.Epoch = 1
		return e
	}
	for _, tt := range []struct {
		name      string
		entries   []Entry
		ending    []Revocation
		from, key string
		want      []Entry // nil: as before
		err       error
	}{
		{"a login", nil, nil, "", "k", []Entry{x("k")}, nil},
		{"a login during a revocation", nil, []Revocation{all}, "", "k", []Entry{later(x("k"))}, nil},
		{"once more", []Entry{x("k")}, nil, "", "k", nil, nil},
		{"under another key", []Entry{x("j")}, nil, "", "k", []Entry{x("j", "k")}, nil},
		{"under another key during a revocation", []Entry{x("j")}, []Revocation{all}, "", "k", []Entry{x("j"), later(x("k"))}, nil},
		{"a new ID", []Entry{x("j")}, nil, "j", "k", []Entry{x("j", "k")}, nil},
		{"another new ID", []Entry{x("i", "j")}, nil, "j", "k", []Entry{x("j", "k")}, nil},
		{"after one that was not completed", []Entry{x("i", "j")}, nil, "i", "k", []Entry{x("i", "j", "k")}, nil},
		{"a new ID once more", []Entry{x("j", "k")}, nil, "j", "k", nil, nil},
		{"a new ID of one that is covered", []Entry{x("j")}, []Revocation{all}, "j", "k", nil, ErrRevoked},
		{"a new ID of one that is not covered", []Entry{x("j")}, []Revocation{others}, "j", "k", []Entry{x("j", "k")}, nil},
		{"a new ID of one in a page", nil, nil, "j", "k", []Entry{x("j", "k")}, nil},
		{"a new ID of one in a page that may be covered", nil, []Revocation{all}, "j", "k", nil, ErrUnfinished},
		{"a new ID of one in a page that is not covered", nil, []Revocation{others}, "j", "k", []Entry{later(x("j", "k"))}, nil},
		{"of other owners", []Entry{{Handle: "x", Keys: []string{"j"}}}, nil, "", "k", []Entry{{Handle: "x", Keys: []string{"j"}}, x("k")}, nil},
		{"with many keys", []Entry{x("1", "2", "3", "4", "5", "6", "7", "8")}, nil, "1", "k", nil, ErrManyKeys},
		{"with many keys of which most are of markers", []Entry{x("1", "2", "3", "4", "5", "6", "7", "8")}, nil, "7", "k", []Entry{x("7", "8", "k")}, nil},
	} {
		h := Head{Entries: tt.entries, Ending: tt.ending}
		if tt.ending != nil {
			h.Epoch = 1
		}
		before := slices.Clone(h.Entries)
		changed, err := h.List(Entry{Handle: "x", Also: []string{"A"}}, tt.from, tt.key)
		want := tt.want
		if want == nil {
			want = tt.entries
		}
		if !errors.Is(err, tt.err) || changed != (tt.want != nil) || !slices.EqualFunc(h.Entries, want, sameEntry) {
			t.Errorf("%s: %+v, %v, %v", tt.name, h.Entries, changed, err)
		}
		if !slices.EqualFunc(before, tt.entries, sameEntry) {
			t.Errorf("%s: what it was given has changed", tt.name)
		}
	}
}

func TestDrop(t *testing.T) {
	h := Head{Entries: []Entry{{Handle: "x", Keys: []string{"i", "j", "k"}}, {Handle: "y", Keys: []string{"j"}}}}
	before := h.Entries
	h.Drop([]string{"j", "i"})
	if !slices.Equal(h.Keys("x"), []string{"k"}) || !slices.Equal(h.Keys("y"), []string{"j"}) || len(before[0].Keys) != 3 {
		t.Errorf("%+v", h.Entries)
	}
}

func TestUnion(t *testing.T) {
	entries := func(text string) (all []Entry) {
		for _, f := range strings.Fields(text) {
			handle, keys, _ := strings.Cut(f, ":")
			e := Entry{Handle: handle[:1], Keys: strings.Split(keys, "")}
			if len(handle) > 1 {
				e.Also = []string{handle[1:]}
			}
			all = append(all, e)
		}
		return all
	}
	for _, tt := range []struct{ older, newer, want string }{
		{"", "", ""},
		{"x:a", "", "x:a"},
		{"", "x:a", "x:a"},
		{"x:a y:b", "z:c", "x:a y:b z:c"},
		{"x:a y:b", "x:ac z:d", "y:b x:ac z:d"},
		{"x:ab", "x:bc", "x:bc"},
		{"x:abc", "x:bd", "x:bcd"},
		{"x:ab", "x:c", "x:abc"},
		{"xP:a", "xQ:b", "xP:a xQ:b"},
		{"xP:a", "xQ:b xP:c", "xQ:b xP:ac"},
	} {
		older, newer := entries(tt.older), entries(tt.newer)
		if got := new(Head).Union(older, newer); !slices.EqualFunc(got, entries(tt.want), sameEntry) {
			t.Errorf("%s and %s: %+v", tt.older, tt.newer, got)
		}
		if !slices.EqualFunc(older, entries(tt.older), sameEntry) || !slices.EqualFunc(newer, entries(tt.newer), sameEntry) {
			t.Errorf("%s and %s: what it was given has changed", tt.older, tt.newer)
		}
	}
}

// TestUnionOfThePruned: of two new IDs that are begun at once, the one that the
// session gets stays listed, also if the key of the other one is listed again, after a
// lost answer, and has a record for ever.
func TestUnionOfThePruned(t *testing.T) {
	e := Entry{Handle: "x"}
	var h Head
	for _, key := range []string{"b", "c", "d"} {
		if _, err := h.List(e, "a", key); err != nil {
			t.Fatal(err)
		}
	}
	older := h.Entries
	h.Entries = nil // they are in a page
	if _, err := h.List(e, "a", "c"); err != nil {
		t.Fatal(err)
	}
	h.Drop([]string{"a"})
	pruned := Prune(h.Entries, func(key string) bool { return key == "a" })
	for name, newer := range map[string][]Entry{"a page": pruned, "a head": h.Entries} {
		all := h.Union(older, newer)
		if len(all) != 1 || !slices.Contains(all[0].Keys, "b") || !all[0].Repeats() {
			t.Errorf("%s: %+v", name, all)
		}
	}
	// A request that has read the session long ago does not change that.
	if _, err := h.List(e, "a", "e"); err != nil {
		t.Fatal(err)
	}
	if all := h.Union(older, h.Entries); len(all) != 1 || !slices.Contains(all[0].Keys, "b") {
		t.Errorf("%+v", all)
	}
}

// TestUnionOfTheCovered: a later login does not keep the keys of a session that a
// revocation is about to delete.
func TestUnionOfTheCovered(t *testing.T) {
	older, newer := []Entry{{Handle: "x", Keys: []string{"a"}}}, []Entry{{Handle: "x", Keys: []string{"b"}, Epoch: 1}}
	var h Head
	if got := h.Union(older, newer); len(got) != 1 {
		t.Errorf("%+v", got)
	}
	done := h.Revoke(Revocation{})
	if got := h.Union(older, newer); len(got) != 2 || !h.Covered(got[0]) || h.Covered(got[1]) {
		t.Errorf("%+v", got)
	}
	h.Finish([]Revocation{done}, nil)
	h.Revoke(Revocation{}) // covers both
	if got := h.Union(older, newer); len(got) != 1 || !h.Covered(got[0]) {
		t.Errorf("%+v", got)
	}
}

// TestPackedBesideAnEarlierVersion: an earlier version stores a head without what it
// does not know of its pages. They are the same pages.
func TestPackedBesideAnEarlierVersion(t *testing.T) {
	h := Head{Epoch: 2}
	for i := range maxPages {
		p := Page{Entries: []Entry{{Handle: fmt.Sprint("h", i), Keys: []string{"a", "b"}}}}
		h.Pages = append(h.Pages, p.Ref(fmt.Sprint("page", i), 0))
	}
	pk, full := h.Pack()
	text, err := Encode(h)
	if !full || err != nil || !strings.Contains(text, `,"r":1`) {
		t.Fatal(text, err)
	}
	earlier, err := DecodeHead(strings.ReplaceAll(text, `,"r":1`, ""))
	if err != nil || !earlier.Packed(pk, []Ref{{Key: "page", Level: 1, Count: 8}}) || len(earlier.Pages) != 1 {
		t.Errorf("%+v, %v", earlier, err)
	}
}

func TestPrune(t *testing.T) {
	all := []Entry{{Handle: "x", Keys: []string{"a", "b"}}, {Handle: "y", Keys: []string{"c"}}, {Handle: "z", Keys: []string{"d"}}}
	left := Prune(all, func(key string) bool { return key == "a" || key == "d" })
	if len(left) != 2 || !slices.Equal(left[0].Keys, []string{"b"}) || !left[0].Repeats() || left[1].Repeats() || len(all[0].Keys) != 2 {
		t.Errorf("%+v", left)
	}
}

// TestUntil: the record of a head, and a reference to a page, last as long as the
// last session.
func TestUntil(t *testing.T) {
	for _, tt := range []struct {
		entries, pages []int64
		want           int64
	}{
		{nil, nil, -1},
		{[]int64{5, 3}, nil, 5},
		{[]int64{5, 0, 7}, nil, 0},
		{[]int64{5}, []int64{9}, 9},
		{[]int64{5}, []int64{0}, 0},
		{nil, []int64{4, 9}, 9},
	} {
		var h Head
		for _, until := range tt.entries {
			h.Entries = append(h.Entries, Entry{Handle: "h", Keys: []string{"k"}, Until: until})
		}
		for _, until := range tt.pages {
			h.Pages = append(h.Pages, Ref{Key: "k", Level: 1, Count: 2, Until: until})
		}
		ref := Page{Entries: h.Entries, Pages: h.Pages}.Ref("p", 2)
		if h.Until() != tt.want || ref.Until != tt.want {
			t.Errorf("%v, %v: %d, %d", tt.entries, tt.pages, h.Until(), ref.Until)
		}
		if want := len(tt.entries) + 2*len(tt.pages); h.Count() != want || ref.Count != want {
			t.Errorf("%v, %v: %d, %d are counted", tt.entries, tt.pages, h.Count(), ref.Count)
		}
		h.Tidy(5)
		for _, e := range h.Entries {
			if e.Until != 0 && e.Until <= 5 {
				t.Errorf("%v: one that has ended is left", tt.entries)
			}
		}
	}
}

// stored is what testdata/stored.txt has, a line for each: the first word names it,
// and the rest is how it is stored.
func stored(t testing.TB) map[string]string {
	data, err := os.ReadFile("testdata/stored.txt")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for line := range strings.Lines(string(data)) {
		name, text, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		all[name] = text
	}
	return all
}

// TestStored: what is stored today is read by every later version, and stored
// again as it is.
func TestStored(t *testing.T) {
	const handle, key, page = "AAAAAAAAAAAAAAAAAAAAAA", "BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB", "CCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCC"
	full := Entry{Handle: handle, Keys: []string{key, "k2"}, Until: 4_102_444_800, Epoch: 3, Also: []string{"aaaaaaaa", "bbbbbbbb"}}
	least := Entry{Handle: "h", Keys: []string{"k"}}
	refs := []Ref{{Key: page, Level: 1, Count: 128, Until: 4_102_444_800}, {Key: "p", Count: 16}}
	text := stored(t)
	for name, want := range map[string]Head{
		"empty-head": {},
		"head":       {Entries: []Entry{least}},
		"full-head": {Epoch: 4, Entries: []Entry{full, least}, Pages: refs, Ending: []Revocation{
			{Epoch: 3},
			{Epoch: 4, Only: []string{handle}, Except: []string{"h"}, Also: []string{"aaaaaaaa"}},
		}},
	} {
		got, err := DecodeHead(text[name])
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: read %+v, %v", name, got, err)
		}
		if now, err := Encode(want); err != nil || now != text[name] {
			t.Errorf("%s: is stored now as %s, %v", name, now, err)
		}
		delete(text, name)
	}
	for name, want := range map[string]struct {
		page  Page
		level int
	}{
		"page":          {Page{Entries: []Entry{least, full}}, 0},
		"page-of-pages": {Page{Pages: refs}, 2},
	} {
		got, err := DecodePage(text[name], want.level)
		if err != nil || !reflect.DeepEqual(got, want.page) {
			t.Errorf("%s: read %+v, %v", name, got, err)
		}
		if now, err := Encode(want.page); err != nil || now != text[name] {
			t.Errorf("%s: is stored now as %s, %v", name, now, err)
		}
		delete(text, name)
	}
	// A later version may store more.
	if h, err := DecodeHead(text["later-head"]); err != nil || !h.Lists("h") {
		t.Errorf("a head of a later version: %+v, %v", h, err)
	}
	delete(text, "later-head")
	for name := range text {
		t.Errorf("nothing reads %s", name)
	}
}

func TestNotStored(t *testing.T) {
	for _, text := range []string{
		``, `null x`, `[]`, `{"s":[{}]}`, `{"s":[{"h":"x"}]}`, `{"s":[{"h":"x","k":[]}]}`, `{"s":[{"h":"x","k":[""]}]}`, `{"s":[{"k":["x"]}]}`,
		`{"p":[{}]}`, `{"p":[{"k":"x","n":-1}]}`, `{"p":[{"k":"x","l":-1}]}`, `{"p":[{"k":"x","l":51}]}`, `{"s":"1"}`, `{"p":[{"k":"x","u":1e99}]}`,
		strings.Repeat(`{"s":`, 20_000),
	} {
		if _, err := DecodeHead(text); err == nil {
			t.Errorf("a head is read from %.40s", text)
		}
		if _, err := DecodePage(text, 60); err == nil {
			t.Errorf("a page is read from %.40s", text)
		}
	}
	if _, err := DecodePage(`{"p":[{"k":"x","l":2}]}`, 2); err == nil {
		t.Error("a page may lead back to itself")
	}
}

// FuzzDecode: whatever is stored, it is refused or read, and all that can be done
// with what is read ends.
func FuzzDecode(f *testing.F) {
	for _, text := range stored(f) {
		f.Add(text, "k", "new")
	}
	f.Fuzz(func(t *testing.T, text, from, key string) {
		if p, err := DecodePage(text, 1); err == nil {
			p.Ref(key, 1)
			new(Head).Union(p.Entries, p.Entries)
			Prune(p.Entries, func(k string) bool { return k == from })
			p.Tidy(1)
		}
		h, err := DecodeHead(text)
		if err != nil {
			return
		}
		again, err := Encode(h)
		if err != nil {
			t.Fatal(err)
		}
		if now, err := DecodeHead(again); err != nil || !sameHead(t, now, h) {
			t.Fatalf("%+v became %+v, %v", h, now, err)
		}
		before := h
		for _, e := range h.Entries[:min(len(h.Entries), 3)] {
			_, _ = h.List(Entry{Handle: e.Handle, Also: e.Also}, from, key)
			_, _ = h.List(Entry{Handle: e.Handle}, "", key)
		}
		h.Drop([]string{from, key})
		for range len(text) { // a Packing leaves less
			pk, full := h.Pack()
			if !full {
				break
			}
			var refs []Ref
			for _, page := range pk.New(h.Entries, 0) {
				refs = append(refs, page.Ref(fmt.Sprint(key, len(refs)), pk.Level))
			}
			if !h.Packed(pk, refs) {
				break
			}
		}
		r := h.Revoke(Revocation{Only: []string{from}})
		h.Finish(append(before.Ending, r), map[string]Ref{key: {}})
		h.Tidy(1)
		if !sameHead(t, before, mustDecode(t, again)) {
			t.Fatal("what was read has changed")
		}
	})
}

func mustDecode(t *testing.T, text string) Head {
	h, err := DecodeHead(text)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func sameHead(t *testing.T, a, b Head) bool {
	x, err := Encode(a)
	y, yerr := Encode(b)
	if err = errors.Join(err, yerr); err != nil {
		t.Fatal(err)
	}
	return bytes.Equal([]byte(x), []byte(y))
}
