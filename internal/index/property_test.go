package index

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// A life is a session from one login to the next, as its client knows it.
type life struct {
	handle, key string
	also        []string
	ended       bool
}

// A world is an owner with a head and pages, as they are stored, the records of the
// sessions, and what requests have begun and not completed.
type world struct {
	t       *testing.T
	r       *rand.Rand
	head    string
	pages   map[string]string
	records map[string]bool // that are sessions; a marker is none
	lives   []*life
	pending []func()
	made    int
	most    int // of the bytes of a head
	page    int // of the bytes of a page
}

var alsos = [][]string{nil, {"A"}, {"B"}, {"A", "B"}}

func newWorld(t *testing.T, seed uint64) *world {
	w := &world{t: t, r: rand.New(rand.NewPCG(seed, 1)), pages: map[string]string{}, records: map[string]bool{}}
	w.save(Head{})
	return w
}

func (w *world) name(kind string) string {
	w.made++
	return fmt.Sprintf("%s-%029d", kind, w.made) // about as long as a key
}

func (w *world) load() Head {
	h, err := DecodeHead(w.head)
	if err != nil {
		w.t.Fatal(err)
	}
	return h
}

func (w *world) save(h Head) {
	text, err := Encode(h)
	if err != nil {
		w.t.Fatal(err)
	}
	w.head, w.most = text, max(w.most, len(text))
}

func (w *world) loadPage(ref Ref) (Page, bool) {
	text, ok := w.pages[ref.Key]
	if !ok {
		return Page{}, false
	}
	p, err := DecodePage(text, ref.Level)
	if err != nil {
		w.t.Fatal(err)
	}
	return p, true
}

func (w *world) savePage(p Page, level int) Ref {
	ref := p.Ref(w.name("page"), level)
	text, err := Encode(p)
	if err != nil {
		w.t.Fatal(err)
	}
	w.pages[ref.Key], w.page = text, max(w.page, len(text))
	return ref
}

// all returns the entries that are listed.
func (w *world) all() []Entry {
	h := w.load()
	return append(w.inPages(h.Pages), h.Entries...)
}

func (w *world) inPages(refs []Ref) (all []Entry) {
	for _, ref := range refs {
		p, ok := w.loadPage(ref)
		if !ok {
			w.t.Fatal("a page that is referred to is missing")
		}
		all = append(append(all, p.Entries...), w.inPages(p.Pages)...)
	}
	return all
}

func (w *world) someone() *life {
	var alive []*life
	for _, l := range w.lives {
		if !l.ended {
			alive = append(alive, l)
		}
	}
	if len(alive) == 0 {
		return nil
	}
	return alive[w.r.IntN(len(alive))]
}

// list stores a record under a new key and lists it.
func (w *world) list(e Entry, from string) (key string, ok bool) {
	key = w.name("key")
	w.records[key] = true
	for {
		h := w.load()
		_, err := h.List(e, from, key)
		switch err {
		case nil:
			w.save(h)
			w.crowd()
			return key, true
		case ErrUnfinished:
			w.finish(h)
			continue
		case ErrManyKeys:
			gone := slices.DeleteFunc(h.Keys(e.Handle), func(k string) bool { return w.records[k] || k == key })
			h.Drop(gone)
			w.save(h)
			continue
		case ErrRevoked:
		default:
			w.t.Fatal(err)
		}
		delete(w.records, key)
		return "", false
	}
}

func (w *world) login() {
	l := &life{handle: w.name("h"), also: alsos[w.r.IntN(len(alsos))]}
	if w.r.IntN(8) == 0 { // the first try failed after it was listed
		key, _ := w.list(Entry{Handle: l.handle, Also: l.also}, "")
		delete(w.records, key)
	}
	l.key, _ = w.list(Entry{Handle: l.handle, Also: l.also}, "")
	w.lives = append(w.lives, l)
}

// crowd packs if it has to, now or later.
func (w *world) crowd() {
	if h := w.load(); !h.Crowded() {
		return
	}
	if w.r.IntN(4) == 0 {
		return // it failed
	}
	w.pack(w.load())
}

func (w *world) pack(h Head) {
	pk, full := h.Pack()
	if !full {
		return
	}
	var read []Entry
	if pk.Read {
		for _, ref := range pk.Pages {
			p, ok := w.loadPage(ref)
			if !ok {
				return
			}
			read = h.Union(read, p.Entries)
		}
		read = Prune(read, func(key string) bool { return !w.records[key] })
	}
	var refs []Ref
	for _, p := range pk.New(read, 0) {
		refs = append(refs, w.savePage(p, pk.Level))
	}
	w.later(func() {
		h := w.load()
		if !h.Packed(pk, refs) {
			for _, ref := range refs {
				delete(w.pages, ref.Key)
			}
			return
		}
		w.save(h)
		if pk.Level == 1 {
			for _, p := range pk.Pages {
				delete(w.pages, p.Key)
			}
		}
		w.pack(h)
	})
}

// later does f, at once or after other steps.
func (w *world) later(f func()) {
	if w.r.IntN(2) == 0 {
		f()
		return
	}
	w.pending = append(w.pending, f)
}

func (w *world) rotate() {
	l := w.someone()
	if l == nil {
		return
	}
	from := l.key
	key, ok := w.list(Entry{Handle: l.handle, Also: l.also}, from)
	if !ok {
		return
	}
	w.later(func() {
		if w.r.IntN(3) == 0 || l.key != from || !w.records[from] || !w.records[key] { // or others were faster
			delete(w.records, key)
			return
		}
		delete(w.records, from)
		l.key = key
	})
}

// loginAgain is a login of the same user from a session.
func (w *world) loginAgain() {
	l := w.someone()
	if l == nil {
		return
	}
	from := l.key
	now := &life{handle: l.handle, also: alsos[w.r.IntN(len(alsos))]}
	listed := from
	if !slices.Equal(now.also, l.also) {
		listed = ""
	}
	var ok bool
	if now.key, ok = w.list(Entry{Handle: l.handle, Also: now.also}, listed); !ok {
		return
	}
	// A revocation before this may end either; one after this ends the new session
	// if it covers that.
	w.later(func() {
		if w.r.IntN(3) == 0 || l.key != from || !w.records[from] || !w.records[now.key] {
			delete(w.records, now.key)
			return
		}
		delete(w.records, from)
		l.ended = true
		w.lives = append(w.lives, now)
	})
}

func (w *world) logout() {
	if l := w.someone(); l != nil {
		delete(w.records, l.key)
		l.ended = true
	}
}

func (w *world) revoke() {
	var r Revocation
	switch l := w.someone(); {
	case l == nil:
	case w.r.IntN(3) == 0:
		r.Only = []string{l.handle}
	case w.r.IntN(2) == 0:
		r.Except = []string{l.handle}
	}
	if r.Only == nil && (r.Except == nil || w.r.IntN(2) == 0) && w.r.IntN(8) > 0 {
		r.Also = []string{"A"}
	}
	h := w.load()
	h.Revoke(r)
	w.save(h)
	w.later(func() { w.finish(h) })
}

// finish carries out the revocations of h, which was the head a while ago.
func (w *world) finish(h Head) {
	for len(h.Ending) > 0 {
		covered, missing := map[string]bool{}, false
		for _, e := range h.Entries {
			w.end(h, e, covered)
		}
		pages, old := map[string]Ref{}, map[string][]string{}
		for _, ref := range h.Pages {
			now, unused, ok := w.without(h, ref, covered)
			if !ok {
				missing = true
				break
			}
			if now != ref {
				pages[ref.Key], old[ref.Key] = now, unused
			}
		}
		now := w.load()
		if missing {
			h = now
			continue
		}
		if now.Ends(h.Ending) {
			for key := range pages {
				if now.Has(key) {
					for _, key := range old[key] {
						delete(w.pages, key)
					}
				}
			}
			now.Finish(h.Ending, pages)
			w.save(now)
		}
		for _, l := range w.lives {
			if !l.ended && covered[l.key] {
				l.ended = true
			}
		}
		return
	}
}

// end deletes the session of e, if it is covered.
func (w *world) end(h Head, e Entry, covered map[string]bool) bool {
	if !h.Covered(e) {
		return false
	}
	for _, key := range e.Keys {
		delete(w.records, key)
		covered[key] = true
	}
	return true
}

// without returns the page in place of that of ref, and the pages that it needs no
// more.
func (w *world) without(h Head, ref Ref, covered map[string]bool) (now Ref, old []string, ok bool) {
	p, ok := w.loadPage(ref)
	if !ok {
		return ref, nil, false
	}
	var left Page
	for _, e := range p.Entries {
		if !w.end(h, e, covered) {
			left.Entries = append(left.Entries, e)
		}
	}
	for _, sub := range p.Pages {
		now, unused, ok := w.without(h, sub, covered)
		if !ok {
			return ref, nil, false
		}
		old = append(old, unused...)
		if now.Count > 0 {
			left.Pages = append(left.Pages, now)
		}
	}
	if len(left.Entries) == len(p.Entries) && slices.Equal(left.Pages, p.Pages) {
		return ref, nil, true
	}
	old = append(old, ref.Key)
	if left.Ref("", ref.Level).Count == 0 {
		return left.Ref("", ref.Level), old, true
	}
	return w.savePage(left, ref.Level), old, true
}

// check checks that each live session is listed with its key, that there is nothing
// alive that a finished revocation covers, and that nothing else has ended.
func (w *world) check() {
	keys := map[string][]Entry{}
	for _, e := range w.all() {
		for _, key := range e.Keys {
			keys[key] = append(keys[key], e)
		}
	}
	h := w.load()
	for _, l := range w.lives {
		switch {
		case l.ended:
			if w.records[l.key] {
				w.t.Fatalf("%s is alive", l.handle)
			}
			continue
		case !w.records[l.key]:
			// The client does not know it yet: a revocation that is being carried
			// out has ended it, or has to.
			if !slices.ContainsFunc(keys[l.key], h.Covered) {
				w.t.Fatalf("%s has ended, and nothing covers it", l.handle)
			}
			continue
		}
		if !slices.ContainsFunc(keys[l.key], func(e Entry) bool { return e.Handle == l.handle && slices.Equal(e.Also, l.also) }) {
			w.t.Fatalf("%s is alive, and is not listed", l.handle)
		}
	}
}

// TestLivesAreListed makes and ends sessions at random, and leaves steps of
// requests for later.
func TestLivesAreListed(t *testing.T) {
	seeds := 40
	if testing.Short() {
		seeds = 10
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			w := newWorld(t, uint64(seed))
			logins := 30 + w.r.IntN(60) // of 100 steps
			for step := range 600 {
				switch n := w.r.IntN(100); {
				case n < logins:
					w.login()
				case n < logins+(100-logins)/2:
					w.rotate()
				case n%8 == 0:
					w.loginAgain()
				case n%8 == 1:
					w.logout()
				case n%8 == 2 && w.r.IntN(6) == 0:
					w.revoke()
				case len(w.pending) > 0:
					i := w.r.IntN(len(w.pending))
					f := w.pending[i]
					w.pending = slices.Delete(w.pending, i, i+1)
					f()
				}
				if step%20 == 0 {
					w.check()
				}
			}
			for len(w.pending) > 0 {
				f := w.pending[0]
				w.pending = w.pending[1:]
				f()
			}
			w.check()
			h := w.load()
			if alive := len(w.records); h.Count() < alive-len(w.lives) && len(h.Ending) == 0 {
				t.Errorf("%d are listed, and %d are alive", h.Count(), alive)
			}
			h.Revoke(Revocation{})
			w.save(h)
			w.finish(h)
			for _, l := range w.lives {
				if w.records[l.key] {
					t.Fatalf("%s is alive in the end", l.handle)
				}
			}
			if all := w.all(); len(all) > 0 {
				t.Errorf("%d are listed in the end", len(all))
			}
			if w.most > 20_000 || w.page > 25_000 { // half of the packings are late
				t.Errorf("a head of %d bytes, a page of %d", w.most, w.page)
			}
		})
	}
}

// TestRenewals: an index does not grow with the IDs that sessions have had.
func TestRenewals(t *testing.T) {
	for seed, sessions := range []int{20, 100, 400} {
		w := newWorld(t, uint64(seed))
		for range sessions {
			w.login()
		}
		ids := 6000
		if testing.Short() {
			ids = 2000
		}
		for step := range ids {
			if w.rotate(); step%1000 == 0 {
				w.check()
			}
			if len(w.pending) > 5 {
				w.pending[0]()
				w.pending = w.pending[1:]
			}
		}
		for _, f := range w.pending {
			f()
		}
		w.check()
		keys := 0
		for _, e := range w.all() {
			keys += len(e.Keys)
		}
		h := w.load()
		t.Logf("%d sessions, %d new IDs: %d entries with %d keys", sessions, ids, h.Count(), keys)
		// 8 pages of few entries and 8 of many, with a key to spare for each.
		if most := 3*sessions + 300 + 8*min(128, sessions); h.Count() > most || keys > 2*most || slices.ContainsFunc(h.Pages, func(p Ref) bool { return p.Level > 1 }) {
			t.Errorf("%d sessions have %d entries with %d keys, %+v", sessions, h.Count(), keys, h.Pages)
		}
	}
}

// TestSizes: a head stays short, however many sessions there are.
func TestSizes(t *testing.T) {
	eight := strings.Fields("AAAAAAAA BBBBBBBB CCCCCCCC DDDDDDDD EEEEEEEE FFFFFFFF GGGGGGGG HHHHHHHH")
	for n, also := range map[int][]string{100_000: nil, 10_000: eight} {
		var h Head
		pages := map[string]Page{}
		count := func(size int) string { return fmt.Sprintf("%0*d", size, h.Count()) }
		most, page := 0, 0
		for i := range n {
			if _, err := h.List(Entry{Handle: count(22), Until: 1_800_000_000, Also: also}, "", count(32)); err != nil {
				t.Fatal(err)
			}
			if i%16 > 13 { // it is longest before it is packed
				text, err := Encode(h)
				if err != nil {
					t.Fatal(err)
				}
				most = max(most, len(text))
			}
			for {
				pk, full := h.Pack()
				if !full {
					break
				}
				var read []Entry
				if pk.Read {
					for _, p := range pk.Pages {
						read = h.Union(read, pages[p.Key].Entries)
						delete(pages, p.Key)
					}
				}
				var refs []Ref
				for i, p := range pk.New(read, 0) {
					ref := p.Ref(fmt.Sprintf("%032d", i+len(pages)+1000*h.Count()), pk.Level)
					text, err := Encode(p)
					if err != nil {
						t.Fatal(err)
					}
					refs = append(refs, ref)
					pages[ref.Key], page = p, max(page, len(text))
				}
				if !h.Packed(pk, refs) {
					t.Fatal("the head has changed")
				}
			}
		}
		if h.Count() != n {
			t.Errorf("%d are counted", h.Count())
		}
		t.Logf("%d sessions with %d other owners: a head has %d bytes at most, a page %d; %d pages",
			n, len(also), most, page, len(pages))
		if most > 6000 || page > 25_000 {
			t.Errorf("a head of %d bytes, a page of %d", most, page)
		}
	}
}
