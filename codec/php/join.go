package php

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// maxBinaryName is how long names are with php_binary.
const maxBinaryName = 127

var (
	errOrder  = errors.New("php: the order of the names is damaged")
	errShared = errors.New("php: a value shares an object or a reference with another value, which was changed, deleted or moved behind it: set or delete both")
	errUser   = errors.New("php: a value has the name that Codec.User says is that of the user, which Login sets")
)

// Join writes a session as PHP does. Values keep the place in which PHP has stored
// them; new ones follow, ordered by name. Values keep their bytes, but for the
// numbers of references. References between values stand as long as both values are
// as they were read: otherwise Join fails, until both are set or deleted. Only the cases
// of enums may be used by several values that are changed.
//
// Join refuses names that PHP would lose: one with a '|' with the handler [PHP], one
// of more than 127 bytes with [Binary], and with both one that PHP takes for an
// integer, such as "42". PHP drops such values silently, or all values.
func (c Codec) Join(values map[string][]byte) ([]byte, error) {
	if len(values) > c.maxValues()+1 {
		return nil, errValues
	}
	var room [16]entryToJoin
	entries, err := c.inOrder(values, room[:0])
	if err != nil {
		return nil, err
	}
	if len(entries) > c.maxValues() {
		return nil, errValues
	}
	size, slots, refs, opaque := 16, 0, false, false
	if c.Handler == Serialize {
		slots = 1
	}
	for i := range entries {
		e := &entries[i]
		if err := c.checkName(e.name); err != nil {
			return nil, err
		}
		if size += 24 + len(e.name) + len(e.value); size > c.maxSize()+24*len(entries)+16 {
			return nil, errSize
		}
		w := walker{data: e.value, most: c.maxDepth(), links: true}
		if err := w.one(); err != nil {
			return nil, err
		}
		e.base = slots
		slots += w.slots
		e.slots = w.slots
		e.refs = w.refs
		refs, opaque = refs || e.refs > 0, opaque || w.opaque
	}
	if refs && opaque {
		return nil, errOpaque
	}
	if refs {
		if err := c.attach(entries); err != nil {
			return nil, err
		}
	}

	out := make([]byte, 0, size)
	if c.Handler == Serialize {
		out = append(out, "a:"...)
		out = strconv.AppendInt(out, int64(len(entries)), 10)
		out = append(out, ":{"...)
	}
	for _, e := range entries {
		switch c.Handler {
		case PHP:
			out = append(append(out, e.name...), '|')
		case Binary:
			out = append(append(out, byte(len(e.name))), e.name...)
		default:
			out = appendKey(out, e.name)
		}
		out = append(out, e.value...)
	}
	if c.Handler == Serialize {
		out = append(out, '}')
	}
	if len(out) > c.maxSize() {
		return nil, errSize
	}
	if refs {
		w := walker{data: out, most: c.maxDepth(), record: true}
		if _, err := c.entries(&w, nil); err != nil {
			return nil, err
		}
	}
	return out, c.checkText(out)
}

// An entryToJoin is a value with its name.
type entryToJoin struct {
	name  string
	value []byte
	place int // from 1 in the order of PHP, 0 for one that is new
	base  int
	slots int
	refs  int
}

// inOrder returns the values, with the names of PHP, in the order of PHP.
func (c Codec) inOrder(values map[string][]byte, entries []entryToJoin) ([]entryToJoin, error) {
	user, loggedIn := values[userName]
	for name, value := range values {
		switch {
		case name == orderName:
			continue
		case c.User == "":
		case name == userName:
			var err error
			if value, err = c.userToPHP(user); err != nil {
				return nil, err
			}
			name = c.User
		case name == c.User:
			if string(value) != "N;" {
				return nil, errUser
			}
			if loggedIn {
				continue // nobody was logged in, and now somebody is
			}
		}
		entries = append(entries, entryToJoin{name: name, value: value})
	}
	slices.SortFunc(entries, func(a, b entryToJoin) int { return strings.Compare(a.name, b.name) })
	order, ok := values[orderName]
	if !ok {
		return entries, nil
	}
	w := walker{data: order}
	if !w.next('s') || !w.next(':') {
		return nil, errOrder
	}
	list, err := w.quoted()
	if err != nil || !w.next(';') || w.pos != len(order) {
		return nil, errOrder
	}
	names := string(list)
	w = walker{data: list}
	for place := 1; w.pos < len(list); place++ {
		n, err := w.length(1)
		if err != nil {
			return nil, errOrder
		}
		name := names[w.pos : w.pos+n]
		w.pos += n
		i, ok := slices.BinarySearchFunc(entries, name, func(e entryToJoin, name string) int { return strings.Compare(e.name, name) })
		if ok && entries[i].place == 0 {
			entries[i].place = place
		}
	}
	slices.SortStableFunc(entries, func(a, b entryToJoin) int {
		switch {
		case a.place == 0 || b.place == 0:
			return b.place - a.place
		default:
			return a.place - b.place
		}
	})
	return entries, nil
}

// CheckName returns an error for a name that Join refuses, and for the one that is
// that of the user: see [Codec].
func (c Codec) CheckName(name string) error {
	switch {
	case name == orderName:
		return errReserved
	case c.User != "" && name == c.User:
		return errUser
	}
	if err := c.checkText([]byte(name)); err != nil {
		return err
	}
	return c.checkName(name)
}

// checkName returns an error if PHP could not keep a value with this name.
func (c Codec) checkName(name string) error {
	switch c.Handler {
	case PHP:
		if strings.IndexByte(name, '|') >= 0 {
			return fmt.Errorf("php: the name of a value has a '|' in it (%d bytes), for which PHP drops all values with the handler %v", len(name), c.Handler)
		}
	case Binary:
		if len(name) > maxBinaryName {
			return fmt.Errorf("php: the name of a value has %d bytes, and PHP drops values with more than %d with the handler %v", len(name), maxBinaryName, c.Handler)
		}
	case Serialize:
		return nil
	default:
		return errHandler(c.Handler)
	}
	if isInt(name) {
		return fmt.Errorf("php: the name of a value is an integer (%d bytes), and PHP drops such values with the handler %v", len(name), c.Handler)
	}
	return nil
}

// attach numbers the references of entries through the session again.
func (c Codec) attach(entries []entryToJoin) error {
	var byDigest map[string]int
	attached := make([][]byte, len(entries))
	for i := range entries {
		e := &entries[i]
		if e.refs == 0 {
			continue
		}
		w := walker{data: e.value, most: c.maxDepth(), links: true, slots: e.slots, refs: e.refs}
		w = w.recorder()
		if err := w.one(); err != nil {
			return err
		}
		out := make([]byte, 0, len(e.value))
		from := 0
		for _, r := range w.found {
			out = append(out, e.value[from:r.start]...)
			from = r.end
			to := e.base + r.to
			if r.link != nil {
				if byDigest == nil {
					byDigest = make(map[string]int, len(entries))
					for k, other := range entries {
						byDigest[digestOf([]byte(other.name), other.value)] = k
					}
				}
				k, ok := byDigest[string(r.link)]
				if !ok || k >= i || r.to > entries[k].slots {
					if r.kind == 'r' && len(r.copy) > 0 && r.copy[0] == 'E' {
						out = append(out, r.copy...) // there is one of each case
						continue
					}
					return errShared
				}
				to = entries[k].base + r.to
			}
			out = appendReference(out, r.kind, to)
		}
		attached[i] = append(out, e.value[from:]...)
	}
	for i, value := range attached {
		if value != nil {
			entries[i].value = value
		}
	}
	return nil
}

// appendString writes a string of PHP.
func appendString(b []byte, s string) []byte {
	b = append(b, "s:"...)
	b = strconv.AppendInt(b, int64(len(s)), 10)
	b = append(b, ':', '"')
	b = append(b, s...)
	return append(b, '"', ';')
}

// appendKey writes the key of an element: PHP makes an integer of a string that
// looks like one.
func appendKey(b []byte, key string) []byte {
	if isInt(key) {
		b = append(b, "i:"...)
		b = append(b, key...)
		return append(b, ';')
	}
	return appendString(b, key)
}
