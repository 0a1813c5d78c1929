package php

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"sort"
	"strconv"
)

// An entry is a value of a session in the order of PHP.
type entry struct {
	name  []byte
	value []byte
	at    int // where the value is in the data
	base  int // the number of slots before its own
	slots int
}

var (
	errTwice    = errors.New("php: a name occurs twice")
	errReserved = fmt.Errorf("php: a value has the name %s or %s, which are not PHP's", orderName, userName)
	errWhole    = errors.New("php: a reference to the session itself")
)

// Split takes a session apart that PHP or Join has written, in one pass, or in two
// if it has references. The values alias data, except for those with references. It
// refuses data that PHP does not write: numbers that are not in their shortest form,
// the escaped strings of type S, names that occur twice, anything after the session.
// No data is an empty session, except with the handler [Serialize].
func (c Codec) Split(data []byte) (map[string][]byte, error) {
	if len(data) == 0 && c.Handler == Serialize {
		return nil, errEmpty
	}
	if len(data) > c.maxSize() {
		return nil, errSize
	}
	if err := c.checkText(data); err != nil {
		return nil, err
	}
	var room [16]entry
	w := walker{data: data, most: c.maxDepth()}
	entries, err := c.entries(&w, room[:0])
	if err != nil {
		return nil, err
	}
	if w.refs > 0 {
		if w.opaque {
			return nil, errOpaque
		}
		w = w.recorder()
		if entries, err = c.entries(&w, entries[:0]); err != nil {
			return nil, err
		}
		if err := detach(data, entries, w.spans, w.found); err != nil {
			return nil, err
		}
	}
	return c.values(entries)
}

// entries reads the names, and goes over the values.
func (c Codec) entries(w *walker, entries []entry) ([]entry, error) {
	n := -1
	if c.Handler == Serialize {
		if !bytes.HasPrefix(w.data, []byte("a:")) {
			return nil, w.bad("a session of php_serialize is an array")
		}
		w.slot(0)
		w.pos = 2
		var err error
		if n, err = w.length(6); err != nil {
			return nil, err
		}
		if !w.next('{') {
			return nil, w.bad("nothing begins the elements")
		}
	}
	for ; n < 0 && w.pos < len(w.data) || n > 0; n-- {
		if len(entries) == c.maxValues() {
			return nil, errValues
		}
		e, err := c.name(w)
		if err != nil {
			return nil, err
		}
		e.at, e.base = w.pos, w.slots
		if err := w.value(w.most); err != nil {
			return nil, err
		}
		e.value, e.slots = w.data[e.at:w.pos:w.pos], w.slots-e.base
		entries = append(entries, e)
	}
	if c.Handler == Serialize {
		if !w.next('}') {
			return nil, w.bad("nothing ends the elements")
		}
		if w.pos != len(w.data) {
			return nil, w.bad("there is data after the session")
		}
	}
	return entries, nil
}

// name reads the name of a value.
func (c Codec) name(w *walker) (e entry, err error) {
	switch c.Handler {
	case PHP:
		i := bytes.IndexByte(w.data[w.pos:], '|')
		if i < 0 {
			return e, w.bad("no '|' ends a name")
		}
		e.name = w.data[w.pos : w.pos+i]
		w.pos += i + 1
	case Binary:
		n := int(w.data[w.pos])
		if n > maxBinaryName || n >= len(w.data)-w.pos {
			return e, w.bad("a name is too long, or is cut")
		}
		e.name = w.data[w.pos+1 : w.pos+1+n]
		w.pos += 1 + n
	case Serialize:
		start := w.pos
		if err := w.key(); err != nil {
			return e, err
		}
		key := w.data[start:w.pos]
		if key[0] == 'i' {
			e.name = key[2 : len(key)-1]
			return e, nil
		}
		e.name = key[bytes.IndexByte(key, '"')+1 : len(key)-2]
	default:
		return e, errHandler(c.Handler)
	}
	if isInt(string(e.name)) {
		return e, w.bad("PHP has no value with an integer for a name in this place")
	}
	return e, nil
}

func errHandler(h Handler) error { return fmt.Errorf("php: there is no %v", h) }

// detach writes the references of entries anew: those within a value are numbered
// from the beginning of the value, and those to another value become links.
func detach(data []byte, entries []entry, spans []span, found []reference) error {
	digests := make(map[int]string)
	left := 16*len(data) + 4096 // for copies, which a reference of a few bytes can make large
	for i := range entries {
		e := &entries[i]
		end := e.at + len(e.value)
		n := sort.Search(len(found), func(k int) bool { return found[k].start >= end })
		refs := found[:n]
		found = found[n:]
		if len(refs) == 0 {
			continue
		}
		out := make([]byte, 0, len(e.value))
		from := e.at
		for _, r := range refs {
			out = append(out, data[from:r.start]...)
			from = r.end
			if r.to > e.base {
				out = appendReference(out, r.kind, r.to-e.base)
				continue
			}
			k := sort.Search(i, func(k int) bool { return r.to <= entries[k].base+entries[k].slots })
			if r.to <= entries[k].base {
				return errWhole
			}
			digest, ok := digests[k]
			if !ok {
				digest = digestOf(entries[k].name, entries[k].value)
				digests[k] = digest
			}
			out = append(out, linkMark, r.kind, ':')
			out = strconv.AppendInt(out, int64(r.to-entries[k].base), 10)
			out = append(out, ':')
			out = append(out, digest...)
			at := spans[r.to-1]
			if size := at.end - at.start; at.plain && size <= left {
				left -= size
				out = append(out, ':')
				out = strconv.AppendInt(out, int64(size), 10)
				out = append(out, ":{"...)
				out = append(append(out, data[at.start:at.end]...), '}')
				continue
			}
			out = append(out, ';')
		}
		e.value = append(out, data[from:end]...)
	}
	return nil
}

func appendReference(b []byte, kind byte, to int) []byte {
	b = append(b, kind, ':')
	b = strconv.AppendInt(b, int64(to), 10)
	return append(b, ';')
}

// digestOf returns what a link says of the value that it refers to.
func digestOf(name, value []byte) string {
	h := sha256.New()
	fmt.Fprintf(h, "%d:%s", len(name), name)
	h.Write(value)
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:12])
}

// values makes the result of Split.
func (c Codec) values(entries []entry) (map[string][]byte, error) {
	size, sorted := 0, true
	for i, e := range entries {
		size += len(e.name)
		sorted = sorted && (i == 0 || bytes.Compare(entries[i-1].name, e.name) < 0)
	}
	var roomForNames [256]byte
	names := roomForNames[:0]
	if size > len(roomForNames) {
		names = make([]byte, 0, size)
	}
	for _, e := range entries {
		names = append(names, e.name...)
	}
	all := string(names) // one allocation for all of them
	count := len(entries)
	if !sorted {
		count++
	}
	values := make(map[string][]byte, count)
	for _, e := range entries {
		name, value := all[:len(e.name)], e.value
		all = all[len(e.name):]
		if name == orderName || c.User != "" && name == userName {
			return nil, errReserved
		}
		if c.User != "" && name == c.User && string(value) != "N;" {
			var err error
			if value, err = c.userFromPHP(value); err != nil {
				return nil, err
			}
			name = userName
		}
		values[name] = value
	}
	if len(values) != len(entries) {
		return nil, errTwice
	}
	if !sorted {
		values[orderName] = appendOrder(entries, size)
	}
	return values, nil
}

// userFromPHP returns the user as a string.
func (c Codec) userFromPHP(value []byte) ([]byte, error) {
	if !c.UserInt {
		return value, nil
	}
	if value[0] != 'i' {
		return nil, errors.New("php: the user is not an integer, as UserInt says")
	}
	return appendString(nil, string(value[2:len(value)-1])), nil
}

// userToPHP is the reverse.
func (c Codec) userToPHP(value []byte) ([]byte, error) {
	if !c.UserInt {
		return value, nil
	}
	w := walker{data: value}
	if !w.next('s') || !w.next(':') {
		return nil, errUserInt
	}
	id, err := w.quoted()
	if err != nil || !isInt(string(id)) || !w.next(';') || w.pos != len(value) {
		return nil, errUserInt
	}
	return append(append([]byte("i:"), id...), ';'), nil
}

var errUserInt = errors.New("php: the user is not an integer as PHP writes it, as UserInt demands")

// appendOrder writes the names, each with its length, as a string of PHP.
func appendOrder(entries []entry, size int) []byte {
	list := make([]byte, 0, size+4*len(entries))
	for _, e := range entries {
		list = strconv.AppendInt(list, int64(len(e.name)), 10)
		list = append(list, ':')
		list = append(list, e.name...)
	}
	return appendString(make([]byte, 0, len(list)+16), string(list))
}
