// Package changes has what one request does to the values of its session: the
// values that it has read, and its edits, which can be replayed on the values
// that somebody else has stored since.
package changes

import (
	"bytes"
	"fmt"
	"maps"
)

// Edit is a change of one value.
type Edit struct {
	// Data is the encoded value; nil deletes it.
	Data []byte
	// Redo computes Data again from the value that a faster writer has stored,
	// nil if there is none. It is nil if Data holds whatever others have stored.
	Redo func(theirs []byte) ([]byte, error)
	// Firm keeps the edit even while it changes nothing: it overrides what others
	// store meanwhile.
	Firm bool
}

// Changes are the base, the encoded values that were read, and the edits of a
// request. The zero value has neither.
type Changes struct {
	base    map[string][]byte
	edits   map[string]Edit
	cleared bool                   // the edits apply to no values, not to base
	doubted bool                   // the stored values may not be the base
	spared  func(name string) bool // the values of base that are not cleared; nil: none
	count   int                    // of calls that have changed it
}

// On returns no changes on the values of base, which the caller must not change
// any more.
func On(base map[string][]byte) Changes { return Changes{base: base} }

// Base returns the values without the edits, and the caller must not change
// them.
func (c Changes) Base() map[string][]byte { return c.base }

// Edit returns the edit of the value called name, if there is one.
func (c Changes) Edit(name string) (Edit, bool) {
	e, ok := c.edits[name]
	return e, ok
}

// Cleared reports whether the edits apply to no values, and not to the base.
func (c Changes) Cleared() bool { return c.cleared }

// Value returns the value called name with the edits, nil if there is none.
func (c Changes) Value(name string) []byte {
	if e, ok := c.edits[name]; ok {
		return e.Data
	}
	if !c.stands(name) {
		return nil
	}
	return c.base[name]
}

// stands reports whether a stored value called name is not cleared.
func (c Changes) stands(name string) bool { return !c.cleared || c.spared != nil && c.spared(name) }

// Values returns all values with the edits. The caller must not change them.
func (c Changes) Values() map[string][]byte {
	if len(c.edits) == 0 && !c.cleared {
		return c.base
	}
	all := maps.Clone(c.base)
	if all == nil {
		all = make(map[string][]byte, len(c.edits))
	}
	if c.cleared {
		maps.DeleteFunc(all, func(name string, _ []byte) bool { return !c.stands(name) })
	}
	for name, e := range c.edits {
		if e.Data != nil {
			all[name] = e.Data
		} else {
			delete(all, name)
		}
	}
	return all
}

// Doubt says that the stored values may be other than the base, because it is not
// known whether edits were saved. From then on an edit counts even if it leads back
// to the base.
func (c *Changes) Doubt() { c.doubted = true }

// Any reports whether Values differs from the base.
func (c Changes) Any() bool {
	if c.doubted {
		return c.cleared || len(c.edits) > 0
	}
	if c.cleared {
		for name := range c.base {
			if !c.stands(name) {
				return true
			}
		}
	}
	for name, e := range c.edits {
		if !bytes.Equal(e.Data, c.base[name]) {
			return true
		}
	}
	return false
}

// Depend reports whether an edit depends on what is stored.
func (c Changes) Depend() bool {
	for _, e := range c.edits {
		if e.Redo != nil {
			return true
		}
	}
	return false
}

// Put makes e the edit of the value called name. One that changes nothing,
// whatever others store, is none, unless it is firm.
func (c *Changes) Put(name string, e Edit) {
	c.count++
	if e.Redo == nil && !e.Firm && !c.doubted && c.stands(name) && bytes.Equal(e.Data, c.base[name]) {
		delete(c.edits, name)
		return
	}
	if c.edits == nil {
		c.edits = make(map[string]Edit)
	}
	c.edits[name] = e
}

// Clear deletes every value, those too that others store meanwhile.
func (c *Changes) Clear() {
	c.count++
	c.edits, c.cleared, c.spared = nil, true, nil
}

// ClearExcept is Clear for all values but those whose names keep is true of. What an
// earlier Clear has deleted stays deleted.
func (c *Changes) ClearExcept(keep func(name string) bool) {
	c.count++
	maps.DeleteFunc(c.edits, func(name string, _ Edit) bool { return !keep(name) })
	switch before := c.spared; {
	case !c.cleared:
		c.spared = keep
	case before != nil:
		c.spared = func(name string) bool { return before(name) && keep(name) }
	}
	c.cleared = true
}

// Discard drops the edits.
func (c *Changes) Discard() {
	c.count++
	c.edits, c.cleared, c.spared = nil, false, nil
}

// Clone returns a copy that Put does not change.
func (c Changes) Clone() Changes {
	c.edits = maps.Clone(c.edits)
	return c
}

// Uncleared returns a copy whose edits apply to the base again.
func (c Changes) Uncleared() Changes {
	c = c.Clone()
	c.cleared, c.spared = false, nil
	return c
}

// Without returns a copy without the edit of the value called name.
func (c Changes) Without(name string) Changes {
	c = c.Clone()
	delete(c.edits, name)
	return c
}

// WithBase returns a copy with data as the value called name of the base, nil for
// none. The edits stay.
func (c Changes) WithBase(name string, data []byte) Changes {
	if bytes.Equal(c.base[name], data) {
		return c
	}
	base := make(map[string][]byte, len(c.base)+1)
	maps.Copy(base, c.base)
	base[name] = data
	if data == nil {
		delete(base, name)
	}
	c.base = base
	return c
}

// Replay returns the edits applied to base, those that depend on a value
// computed anew.
func (c Changes) Replay(base map[string][]byte) (Changes, error) {
	edits := maps.Clone(c.edits)
	for name, e := range edits {
		theirs := base[name]
		if !c.stands(name) {
			theirs = nil
		}
		switch {
		case e.Redo != nil:
			var err error
			if e.Data, err = e.Redo(theirs); err != nil {
				return c, fmt.Errorf("value %q: %w", name, err)
			}
			edits[name] = e
		case !e.Firm && c.stands(name) && bytes.Equal(e.Data, theirs):
			delete(edits, name)
		}
	}
	return Changes{base: base, edits: edits, cleared: c.cleared, spared: c.spared, count: c.count}, nil
}

// SameEdits reports whether c has not been changed since it was cloned as other.
func (c Changes) SameEdits(other Changes) bool { return c.count == other.count }

// Since returns the edits that are not in saved, which were the Values at some
// time before, on saved. They do not depend on what is stored any more.
func (c Changes) Since(saved map[string][]byte) Changes {
	later := Changes{base: saved, count: c.count}
	for name, e := range c.edits {
		if !bytes.Equal(e.Data, saved[name]) {
			later.Put(name, Edit{Data: e.Data})
		}
	}
	if c.cleared {
		for name := range saved {
			if _, ok := c.edits[name]; !ok && !c.stands(name) {
				later.Put(name, Edit{})
			}
		}
	}
	return later
}
