// Package index has the sessions of one owner as they are kept in a store: a
// short head, which each login writes, and pages for the rest. It makes no
// requests; package session reads and writes the records.
//
// Everything takes place in the head, which is only replaced by version. A page
// never changes. It is stored before a head refers to it, and removed when none
// does any more.
package index

import (
	"encoding/json"
	"errors"
	"slices"
)

// An Entry is a session.
type Entry struct {
	// Handle stays with the session when it gets a new ID.
	Handle string `json:"h"`
	// Keys are those of the records that the session may have. The session is
	// under the last of them that there is. A rotation adds the new key before it
	// ends the record at the old one, and may fail in between.
	Keys []string `json:"k"`
	// Until is when the session ends at the latest, in Unix seconds; 0 if it need
	// not end.
	Until int64 `json:"u,omitempty"`
	// Epoch is that of the head when the session was listed.
	Epoch int64 `json:"e,omitempty"`
	// Also has short digests of the other owners of the session, in order.
	Also []string `json:"o,omitempty"`
	// Again says that the session may be listed before, whatever Keys says, and that it
	// need not have been under the first of them.
	Again bool `json:"a,omitempty"`
}

// Repeats reports whether an older page may have an entry of the same session.
func (e Entry) Repeats() bool { return e.Again || len(e.Keys) > 1 }

// sameAs reports whether e and other are the same session, of the same owners. A
// login with other owners makes an entry of its own, because until it has succeeded
// the session has the old ones.
func (e Entry) sameAs(other Entry) bool {
	return e.Handle == other.Handle && slices.Equal(e.Also, other.Also)
}

// over reports whether the session has ended by now, in Unix seconds.
func (e Entry) over(now int64) bool { return e.Until != 0 && e.Until <= now }

// A Revocation covers sessions that were listed before it.
type Revocation struct {
	// Epoch is that of the head from this revocation on.
	Epoch int64 `json:"e"`
	// Only, if not empty, has the handles of the sessions that are covered.
	Only []string `json:"h,omitempty"`
	// Except has handles of sessions that are not.
	Except []string `json:"x,omitempty"`
	// Also: only sessions that have all of these other owners are covered.
	Also []string `json:"o,omitempty"`
}

// Covers reports whether r ends the session of e.
func (r Revocation) Covers(e Entry) bool { return e.Epoch < r.Epoch && r.matches(e.Handle, e.Also) }

func (r Revocation) matches(handle string, also []string) bool {
	if len(r.Only) > 0 && !slices.Contains(r.Only, handle) || slices.Contains(r.Except, handle) {
		return false
	}
	for _, o := range r.Also {
		if !slices.Contains(also, o) {
			return false
		}
	}
	return true
}

// A Ref refers to a page.
type Ref struct {
	Key   string `json:"k"`           // of its record
	Level int    `json:"l,omitempty"` // 0: few entries; 1: many; more: it refers to pages
	Count int    `json:"n"`           // of the entries in it, and in the pages that it refers to
	Until int64  `json:"u,omitempty"` // the latest of their Until; 0 if one of them need not end
	// Repeats is how many of the entries in it may be repeated in an older page.
	Repeats int `json:"r,omitempty"`
}

// A Head is the record of an owner.
type Head struct {
	Epoch   int64        `json:"e,omitempty"`
	Entries []Entry      `json:"s,omitempty"` // the latest last
	Pages   []Ref        `json:"p,omitempty"` // of older ones, the latest last
	Ending  []Revocation `json:"r,omitempty"` // that are not carried out yet
}

// A Page is a record of older entries, or refers to such.
type Page struct {
	Entries []Entry `json:"s,omitempty"`
	Pages   []Ref   `json:"p,omitempty"`
}

var (
	// ErrRevoked says that a revocation covers the session.
	ErrRevoked = errors.New("revoked")
	// ErrUnfinished says that a revocation that is not carried out yet may cover
	// the session.
	ErrUnfinished = errors.New("a revocation is not carried out yet")
	// ErrManyKeys says that so many new IDs of the session were begun and not
	// completed that its entry has no room for another key. Drop those that have no
	// record.
	ErrManyKeys = errors.New("too many new IDs were not completed")
)

const maxKeys = 8 // of an entry in a head

// List adds a session, or gives one that is listed another key. from is the key
// that it had, "" after a login with which it is listed anew: then it also stays
// listed as it was. If from is key, another program has given the session that key, and
// may have left any number of others. An earlier Until does not replace a later one, as the session may
// not get the key in the end. List reports whether the head has changed.
func (h *Head) List(e Entry, from, key string) (changed bool, err error) {
	e.Epoch = h.Epoch
	i := -1
	for j, old := range h.Entries {
		if old.sameAs(e) {
			i = j
		}
	}
	switch {
	case i >= 0 && !h.Covered(h.Entries[i]):
		old := h.Entries[i]
		e.Epoch, e.Until, e.Again = old.Epoch, later(old.Until, e.Until), e.Again || old.Again
		if slices.Contains(old.Keys, key) {
			if e.Until == old.Until {
				return false, nil
			}
			e.Keys = old.Keys
		} else {
			// The session is under from or a key after it: one before is that of a marker.
			e.Keys = append(slices.Clone(old.Keys[max(0, slices.Index(old.Keys, from)):]), key)
			if len(e.Keys) > maxKeys && from == key {
				e.Keys, e.Epoch, e.Again = []string{key}, h.Epoch, true
				break
			}
			if len(e.Keys) > maxKeys {
				return false, ErrManyKeys
			}
		}
		h.Entries = slices.Clone(h.Entries)
		h.Entries[i] = e
		return true, nil
	case from == "":
		e.Keys = []string{key}
	case i >= 0:
		return false, ErrRevoked
	case slices.ContainsFunc(h.Ending, func(r Revocation) bool { return r.matches(e.Handle, e.Also) }):
		return false, ErrUnfinished // it is in a page, and so is its epoch
	default:
		e.Keys = []string{from, key}
		if from == key {
			e.Keys, e.Again = []string{key}, true
		}
	}
	h.Entries = append(slices.Clip(h.Entries), e)
	return true, nil
}

// Keys returns the keys of the session with that handle.
func (h *Head) Keys(handle string) (keys []string) {
	for _, e := range h.Entries {
		if e.Handle == handle {
			keys = append(keys, e.Keys...)
		}
	}
	return keys
}

// without leaves e the keys in left, some of those that it has. The first one of
// these need no longer be one that the session had.
func (e *Entry) without(left []string) {
	e.Again = e.Again || len(e.Keys) > 1 && (len(left) == 1 || left[0] != e.Keys[0])
	e.Keys = left
}

// Drop takes keys, which have no record any more, off the entries that have others.
func (h *Head) Drop(keys []string) {
	h.Entries = slices.Clone(h.Entries)
	for i := range h.Entries {
		e := &h.Entries[i]
		left := slices.DeleteFunc(slices.Clone(e.Keys), func(key string) bool { return slices.Contains(keys, key) })
		if len(left) > 0 {
			e.without(left)
		}
	}
}

// Revoke begins r, and returns it with its epoch.
func (h *Head) Revoke(r Revocation) Revocation {
	h.Epoch++
	r.Epoch = h.Epoch
	h.Ending = append(slices.Clip(h.Ending), r)
	return r
}

// Covered reports whether a revocation that is not carried out yet covers e.
func (h *Head) Covered(e Entry) bool {
	return slices.ContainsFunc(h.Ending, func(r Revocation) bool { return r.Covers(e) })
}

// Kept returns the keys of the sessions in the head that all revocations except: another
// program can have logged in the same user anew under the key of an older entry.
func (h *Head) Kept() (keys []string) {
	for _, e := range h.Entries {
		if !slices.ContainsFunc(h.Ending, func(r Revocation) bool { return !slices.Contains(r.Except, e.Handle) }) {
			keys = append(keys, e.Keys...)
		}
	}
	return keys
}

// Finish takes off the revocations of done, which have been carried out, with the
// entries that they cover, and replaces the pages in pages. One that is not in the
// head takes nothing off: a head that was stored anew, long after the one before
// had expired, has no such revocation, and its epochs begin at 0 again.
func (h *Head) Finish(done []Revocation, pages map[string]Ref) {
	var begun []Revocation
	h.Ending = slices.DeleteFunc(slices.Clone(h.Ending), func(r Revocation) bool {
		is := slices.ContainsFunc(done, func(d Revocation) bool { return d.Epoch == r.Epoch })
		if is {
			begun = append(begun, r)
		}
		return is
	})
	h.Entries = slices.DeleteFunc(slices.Clone(h.Entries), func(e Entry) bool {
		return slices.ContainsFunc(begun, func(r Revocation) bool { return r.Covers(e) })
	})
	var left []Ref
	for _, p := range h.Pages {
		if now, ok := pages[p.Key]; ok {
			p = now
		}
		if p.Count > 0 {
			left = append(left, p)
		}
	}
	h.Pages = left
}

// Tidy drops what has ended by now, in Unix seconds.
func (h *Head) Tidy(now int64) { h.Entries, h.Pages = tidy(h.Entries, h.Pages, now) }

// Tidy drops what has ended by now, in Unix seconds.
func (p *Page) Tidy(now int64) { p.Entries, p.Pages = tidy(p.Entries, p.Pages, now) }

func tidy(entries []Entry, pages []Ref, now int64) ([]Entry, []Ref) {
	return slices.DeleteFunc(slices.Clone(entries), func(e Entry) bool { return e.over(now) }),
		slices.DeleteFunc(slices.Clone(pages), func(p Ref) bool { return p.Until != 0 && p.Until <= now })
}

// Count returns how many sessions are listed, at most.
func (h *Head) Count() int {
	n := len(h.Entries)
	for _, p := range h.Pages {
		n += p.Count
	}
	return n
}

// Lists reports whether the session with that handle is in the head.
func (h *Head) Lists(handle string) bool {
	return slices.ContainsFunc(h.Entries, func(e Entry) bool { return e.Handle == handle })
}

// Ends reports whether any of the revocations is not carried out yet.
func (h *Head) Ends(revocations []Revocation) bool {
	return slices.ContainsFunc(h.Ending, func(r Revocation) bool {
		return slices.ContainsFunc(revocations, func(d Revocation) bool { return d.Epoch == r.Epoch })
	})
}

// Has reports whether the head refers to the page at key.
func (h *Head) Has(key string) bool {
	return slices.ContainsFunc(h.Pages, func(p Ref) bool { return p.Key == key })
}

// Until returns when the last of the sessions ends; 0 if one need not end. An
// empty head has ended.
func (h *Head) Until() int64 {
	latest := int64(-1)
	for _, e := range h.Entries {
		latest = later(latest, e.Until)
	}
	for _, p := range h.Pages {
		latest = later(latest, p.Until)
	}
	return latest
}

// later returns the later of two Untils, where 0 is never, and -1 is none.
func later(a, b int64) int64 {
	if a == 0 || b == 0 {
		return 0
	}
	return max(a, b)
}

// Union returns the entries of older and newer, which are in pages of h, in their
// order. A session that is in both has the keys of both, and the later Until, unless
// a revocation that is not carried out yet covers only the older one: the keys of
// that one are to be deleted.
func (h *Head) Union(older, newer []Entry) []Entry {
	if len(older) == 0 {
		return newer
	}
	at := make(map[string]int, len(newer)) // the last entry with that handle
	newer = slices.Clone(newer)
	for i, e := range newer {
		at[e.Handle] = i
	}
	var all []Entry
	for _, old := range older {
		i, ok := at[old.Handle]
		if !ok || !newer[i].sameAs(old) || h.Covered(old) != h.Covered(newer[i]) {
			all = append(all, old)
			continue
		}
		e := &newer[i]
		keys := slices.Clone(old.Keys)
		if !e.Again { // the session was under the first key, so older ones are those of markers
			keys = keys[max(0, slices.Index(keys, e.Keys[0])):]
		}
		for _, key := range e.Keys {
			if !slices.Contains(keys, key) {
				keys = append(keys, key)
			}
		}
		e.Keys, e.Until, e.Again = keys, later(old.Until, e.Until), e.Again || old.Again
	}
	return append(all, newer...)
}

// Prune returns entries without the keys that gone reports to have no record. A
// session that has no other is left out.
func Prune(entries []Entry, gone func(key string) bool) (left []Entry) {
	for _, e := range entries {
		keys := slices.DeleteFunc(slices.Clone(e.Keys), gone)
		if len(keys) == 0 {
			continue
		}
		e.without(keys)
		left = append(left, e)
	}
	return left
}

// Encode returns the text of a head or a page.
func Encode(v any) (string, error) {
	data, err := json.Marshal(v)
	return string(data), err
}

// DecodeHead is the reverse of Encode.
func DecodeHead(text string) (h Head, err error) {
	if err = json.Unmarshal([]byte(text), &h); err == nil {
		err = check(h.Entries, h.Pages)
	}
	return h, err
}

// DecodePage is the reverse of Encode, for a page of that level. The pages that it
// refers to have lower levels, so no page leads back to itself.
func DecodePage(text string, level int) (p Page, err error) {
	if err = json.Unmarshal([]byte(text), &p); err == nil {
		err = check(p.Entries, p.Pages)
	}
	if err == nil && slices.ContainsFunc(p.Pages, func(sub Ref) bool { return sub.Level >= level }) {
		err = errors.New("a page refers to one of its own level, or of a higher one")
	}
	return p, err
}

func check(entries []Entry, pages []Ref) error {
	for _, e := range entries {
		if e.Handle == "" || len(e.Keys) == 0 || slices.Contains(e.Keys, "") {
			return errors.New("an entry has no handle or no key")
		}
	}
	for _, p := range pages {
		if p.Key == "" || p.Level < 0 || p.Level > 50 || p.Count < 0 {
			return errors.New("a reference to a page has no key, or a number that cannot be")
		}
	}
	return nil
}
