package index

import "slices"

// A head has fewer entries than maxEntries, and fewer pages of each level than
// maxPages. When it has as many, they are packed. A page has up to mostJoined entries.
const (
	maxEntries = 16
	maxPages   = 8
	mostJoined = maxEntries * maxPages
)

// A Packing makes room in a head: it moves entries into a page, joins pages into
// fewer ones, or replaces them by one that refers to them.
type Packing struct {
	// Level is that of the new pages.
	Level int
	// Entries are to be in the new page, at level 0.
	Entries []Entry
	// Pages are to be replaced, at other levels.
	Pages []Ref
	// Read says that the entries of Pages are to be read and joined.
	Read bool
}

// Crowded reports whether to pack. Of several logins at once, few are told to.
func (h *Head) Crowded() bool {
	n := len(h.Entries)
	return n >= maxEntries && n%(maxEntries/2) == 0
}

// Pack returns what is to be packed next, and false if there is room.
func (h *Head) Pack() (Packing, bool) {
	if len(h.Entries) >= maxEntries {
		return Packing{Entries: h.Entries[:maxEntries]}, true
	}
	count := map[int]int{}
	for _, p := range h.Pages {
		count[p.Level]++
	}
	for level, n := range count {
		if n < maxPages {
			continue
		}
		pages := slices.DeleteFunc(slices.Clone(h.Pages), func(p Ref) bool { return p.Level != level })[:maxPages]
		total, repeats := 0, 0
		for _, p := range pages {
			total, repeats = total+p.Count, repeats+p.Repeats
		}
		again := level == 1 && total <= maxPages*mostJoined && 2*repeats >= total
		return Packing{Level: level + 1, Pages: pages, Read: level == 0 || again}, true
	}
	return Packing{}, false
}

// New returns the new pages of pk. read has the entries of Pages if they were to be
// read. What has ended by now, in Unix seconds, is left out. If the entries of
// pages that were joined before fill more than half as many pages again, New returns a
// page that refers to these.
func (pk *Packing) New(read []Entry, now int64) (pages []Page) {
	if pk.Level == 0 {
		return []Page{{Entries: pk.Entries}}
	}
	read = slices.DeleteFunc(slices.Clone(read), func(e Entry) bool { return e.over(now) })
	if !pk.Read || pk.Level > 1 && len(read) > maxPages/2*mostJoined {
		return []Page{{Pages: pk.Pages}}
	}
	pk.Level = 1
	for entries := range slices.Chunk(read, mostJoined) {
		pages = append(pages, Page{Entries: entries})
	}
	return pages
}

// Ref returns a reference to the page at key.
func (p Page) Ref(key string, level int) Ref {
	ref := Ref{Key: key, Level: level, Until: -1}
	for _, e := range p.Entries {
		ref.Count, ref.Until = ref.Count+1, later(ref.Until, e.Until)
		if e.Repeats() {
			ref.Repeats++
		}
	}
	for _, sub := range p.Pages {
		ref.Count, ref.Until, ref.Repeats = ref.Count+sub.Count, later(ref.Until, sub.Until), ref.Repeats+sub.Repeats
	}
	return ref
}

// Packed replaces what pk has packed by the pages of refs. It returns false, and
// changes nothing, if the head has changed there since.
func (h *Head) Packed(pk Packing, refs []Ref) bool {
	if len(pk.Pages) == 0 {
		if len(h.Entries) < len(pk.Entries) || !slices.EqualFunc(h.Entries[:len(pk.Entries)], pk.Entries, sameEntry) {
			return false
		}
		h.Entries = slices.Clone(h.Entries[len(pk.Entries):])
		h.Pages = append(slices.Clip(h.Pages), refs...)
		return true
	}
	var rest []Ref
	at := -1
	for _, p := range h.Pages {
		if slices.ContainsFunc(pk.Pages, func(old Ref) bool { return old.Key == p.Key }) { // pages never change
			if at < 0 {
				at = len(rest)
			}
			continue
		}
		rest = append(rest, p)
	}
	if len(h.Pages)-len(rest) != len(pk.Pages) {
		return false
	}
	h.Pages = slices.Insert(rest, at, refs...)
	return true
}

func sameEntry(a, b Entry) bool {
	return a.Handle == b.Handle && slices.Equal(a.Keys, b.Keys) && a.Until == b.Until && a.Epoch == b.Epoch && slices.Equal(a.Also, b.Also)
}
