package index

import "slices"

// A head has fewer entries than maxEntries, and fewer pages of each level than
// maxPages. When it has as many, they are packed into one page.
const (
	maxEntries = 16
	maxPages   = 8
)

// A Packing makes room in a head: it moves entries or pages into one new page.
type Packing struct {
	// Level is that of the new page.
	Level int
	// Entries are to be in the new page, at level 0.
	Entries []Entry
	// Pages are to be read, at level 1, for the new page to have their entries; at
	// higher levels, the new page refers to them.
	Pages []Ref
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
		pages := slices.DeleteFunc(slices.Clone(h.Pages), func(p Ref) bool { return p.Level != level })
		return Packing{Level: level + 1, Pages: pages[:maxPages]}, true
	}
	return Packing{}, false
}

// Page returns the new page of pk. read has the entries of Pages if it is of level
// 1. What has ended by now, in Unix seconds, is left out.
func (pk Packing) Page(read []Entry, now int64) Page {
	var page Page
	switch pk.Level {
	case 0:
		page.Entries = pk.Entries
	case 1:
		page.Entries = slices.DeleteFunc(slices.Clone(read), func(e Entry) bool { return e.over(now) })
	default:
		page.Pages = pk.Pages
	}
	return page
}

// Ref returns a reference to the page at key.
func (p Page) Ref(key string, level int) Ref {
	ref := Ref{Key: key, Level: level, Until: -1}
	for _, e := range p.Entries {
		ref.Count, ref.Until = ref.Count+1, later(ref.Until, e.Until)
	}
	for _, sub := range p.Pages {
		ref.Count, ref.Until = ref.Count+sub.Count, later(ref.Until, sub.Until)
	}
	return ref
}

// Packed replaces what pk has packed by the page of ref. It returns false, and
// changes nothing, if the head has changed there since.
func (h *Head) Packed(pk Packing, ref Ref) bool {
	if pk.Level == 0 {
		if len(h.Entries) < len(pk.Entries) || !slices.EqualFunc(h.Entries[:len(pk.Entries)], pk.Entries, sameEntry) {
			return false
		}
		h.Entries = slices.Clone(h.Entries[len(pk.Entries):])
		h.Pages = append(slices.Clip(h.Pages), ref)
		return true
	}
	var rest []Ref
	at := -1
	for _, p := range h.Pages {
		if slices.Contains(pk.Pages, p) {
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
	if ref.Count > 0 {
		rest = slices.Insert(rest, at, ref)
	}
	h.Pages = rest
	return true
}

func sameEntry(a, b Entry) bool {
	return a.Handle == b.Handle && slices.Equal(a.Keys, b.Keys) && a.Until == b.Until && a.Epoch == b.Epoch && slices.Equal(a.Also, b.Also)
}
