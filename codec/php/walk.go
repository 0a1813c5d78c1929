package php

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"

	"github.com/seed-a7bee19b/session/internal/room"
)

// A walker goes over values that PHP has serialized and checks their form. It
// allocates nothing, unless record is set.
type walker struct {
	data  []byte
	pos   int
	most  int  // levels of nesting
	links bool // links may be there, as Split writes them

	slots  int  // values so far, as PHP numbers them for references
	refs   int  // references and links so far
	opaque bool // the data of a Serializable was there

	record bool
	spans  []span      // of the slots
	found  []reference // in order
}

// A span is where a slot is in the data. It is plain if no reference is in it.
type span struct {
	start, end int
	plain      bool
}

// A reference is r:N; or R:N; in PHP's format, or a link.
type reference struct {
	start, end int
	kind       byte // 'r' or 'R'
	to         int  // the number of a slot

	// Of a link only.
	link []byte // the digest
	copy []byte // what it refers to, if the link has a copy
}

// linkMark begins a link, which stands for a reference to another value of the
// session: the kind, the number of the slot in that value, and the digest of its
// name and its data, so that it cannot come to mean anything else. If there are no
// references in what it refers to, a copy may follow, so that the value can be read
// alone. PHP's types are letters.
//
//	@r:2:0123456789abcdef;
//	@r:2:0123456789abcdef:6:{s:0:"";}
const (
	linkMark  = '@'
	digestLen = 16
)

var errOpaque = errors.New("php: the data of a Serializable beside references, which may be numbered in it")

func (w *walker) bad(what string) error {
	return fmt.Errorf("php: %s (byte %d of %d)", what, w.pos, len(w.data))
}

// at returns a byte of the data, or behind its end zero, which starts nothing.
func (w *walker) at(i int) byte {
	if i < len(w.data) {
		return w.data[i]
	}
	return 0
}

func (w *walker) next(c byte) bool {
	if w.pos < len(w.data) && w.data[w.pos] == c {
		w.pos++
		return true
	}
	return false
}

func digit(c byte) bool { return '0' <= c && c <= '9' }

// number reads a number without a sign, in its shortest form, and the byte end.
func (w *walker) number(end byte) (int, error) {
	start, n := w.pos, 0
	for digit(w.at(w.pos)) && w.pos-start < 18 {
		n = 10*n + int(w.data[w.pos]-'0')
		w.pos++
	}
	if w.pos == start || w.data[start] == '0' && w.pos-start > 1 || !w.next(end) {
		return 0, w.bad("a number is missing, or not in its shortest form")
	}
	return n, nil
}

const tooLong = "a length is greater than the rest of the data allows"

// length reads the number of units that follow, each of at least size bytes.
func (w *walker) length(size int) (int, error) {
	n, err := w.number(':')
	if err == nil && n > (len(w.data)-w.pos)/size {
		err = w.bad(tooLong)
	}
	return n, err
}

// quoted reads LENGTH:"BYTES".
func (w *walker) quoted() ([]byte, error) {
	n, err := w.length(1)
	if err != nil {
		return nil, err
	}
	if !w.next('"') || len(w.data)-w.pos < n {
		return nil, w.bad("a string does not begin, or is cut")
	}
	b := w.data[w.pos : w.pos+n]
	w.pos += n
	if !w.next('"') {
		return nil, w.bad("a string does not end where its length says")
	}
	return b, nil
}

// integer reads a 64-bit integer as PHP writes it, and a semicolon.
func (w *walker) integer() error {
	start := w.pos
	w.next('-')
	first := w.pos
	for digit(w.at(w.pos)) {
		w.pos++
	}
	digits := w.data[first:w.pos]
	ok := len(digits) > 0 && (digits[0] != '0' || len(digits) == 1 && first == start)
	if ok && len(digits) >= 19 {
		_, err := strconv.ParseInt(string(w.data[start:w.pos]), 10, 64)
		ok = err == nil
	}
	if !ok || !w.next(';') {
		w.pos = start
		return w.bad("no integer of 64 bits, or not in the form in which PHP writes it")
	}
	return nil
}

// float reads a float, and a semicolon.
func (w *walker) float() error {
	for _, word := range [...]string{"INF;", "-INF;", "NAN;"} {
		if bytes.HasPrefix(w.data[w.pos:], []byte(word)) {
			w.pos += len(word)
			return nil
		}
	}
	w.next('-')
	ok := w.digits()
	if ok && w.next('.') {
		ok = w.digits()
	}
	if ok && (w.next('E') || w.next('e')) {
		if !w.next('+') {
			w.next('-')
		}
		ok = w.digits()
	}
	if !ok || !w.next(';') {
		return w.bad("no float")
	}
	return nil
}

func (w *walker) digits() bool {
	start := w.pos
	for digit(w.at(w.pos)) {
		w.pos++
	}
	return w.pos > start
}

// key reads the key of an element, or the name of a property.
func (w *walker) key() error {
	t := w.at(w.pos)
	if w.at(w.pos+1) != ':' || t != 'i' && t != 's' {
		return w.bad("no key")
	}
	w.pos += 2
	if t == 'i' {
		return w.integer()
	}
	if _, err := w.quoted(); err != nil {
		return err
	}
	if !w.next(';') {
		return w.bad("nothing ends a key")
	}
	return nil
}

// recorder returns a walker that goes over the data of w again and records. Its lists
// have room for what w has found.
func (w *walker) recorder() walker {
	return walker{data: w.data, most: w.most, links: w.links, record: true, spans: make([]span, 0, w.slots), found: make([]reference, 0, w.refs)}
}

// recorded is the memory that a recorder takes.
func (w *walker) recorded() int { return room.Of(24*w.slots) + room.Of(80*w.refs) }

// slot counts a value that begins at start.
func (w *walker) slot(start int) {
	w.slots++
	if w.record {
		w.spans = append(w.spans, span{start: start})
	}
}

// value goes over one value, in which arrays and objects may be nested depth levels
// deep.
func (w *walker) value(depth int) error {
	if !w.record {
		return w.read(depth)
	}
	n, refs := len(w.spans), w.refs
	err := w.read(depth)
	if len(w.spans) > n {
		w.spans[n].end, w.spans[n].plain = w.pos, w.refs == refs
	}
	return err
}

func (w *walker) read(depth int) error {
	start := w.pos
	t := w.at(start)
	if t == 'N' {
		if w.at(start+1) != ';' {
			return w.bad("nothing ends a null")
		}
		w.pos += 2
		w.slot(start)
		return nil
	}
	if w.at(start+1) != ':' {
		if t == linkMark && w.links {
			return w.link()
		}
		return w.bad("no value")
	}
	w.pos += 2
	switch t {
	case 'b':
		if c := w.at(w.pos); c != '0' && c != '1' || w.at(w.pos+1) != ';' {
			return w.bad("no bool")
		}
		w.pos += 2
		w.slot(start)
		return nil
	case 'i':
		w.slot(start)
		return w.integer()
	case 'd':
		w.slot(start)
		return w.float()
	case 's':
		w.slot(start)
		if _, err := w.quoted(); err != nil {
			return err
		}
		if !w.next(';') {
			return w.bad("nothing ends a string")
		}
		return nil
	case 'E':
		w.slot(start)
		name, err := w.quoted()
		if err != nil {
			return err
		}
		class, of, ok := bytes.Cut(name, []byte{':'})
		if !ok || !isClass(class) || !isName(of) || !w.next(';') {
			return w.bad("no case of an enum")
		}
		return nil
	case 'C':
		w.slot(start)
		return w.serializable()
	case 'a':
		w.slot(start)
		return w.elements(depth)
	case 'O':
		w.slot(start)
		class, err := w.quoted()
		if err != nil {
			return err
		}
		if !isClass(class) || !w.next(':') {
			return w.bad("no name of a class")
		}
		return w.elements(depth)
	case 'r', 'R':
		to, err := w.number(';')
		if err != nil {
			return err
		}
		return w.refer(reference{start: start, end: w.pos, kind: t, to: to})
	}
	w.pos = start
	return w.bad("no value")
}

// elements reads COUNT:{…} of an array or an object.
func (w *walker) elements(depth int) error {
	if depth <= 0 {
		return errTooDeep
	}
	n, err := w.length(6) // i:0;N;
	if err != nil {
		return err
	}
	if !w.next('{') {
		return w.bad("nothing begins the elements")
	}
	for range n {
		if err := w.key(); err != nil {
			return err
		}
		if err := w.value(depth - 1); err != nil {
			return err
		}
	}
	if !w.next('}') {
		return w.bad("nothing ends the elements")
	}
	return nil
}

// serializable reads the class and the data of a Serializable. Nothing tells what
// the data is, but it may have been made by PHP's serialize, which numbers
// references through the whole session.
func (w *walker) serializable() error {
	class, err := w.quoted()
	if err != nil {
		return err
	}
	if !isClass(class) || !w.next(':') {
		return w.bad("no name of a class")
	}
	n, err := w.length(1)
	if err != nil {
		return err
	}
	if !w.next('{') || len(w.data)-w.pos < n {
		return w.bad("nothing begins the data of a Serializable")
	}
	raw := w.data[w.pos : w.pos+n]
	w.pos += n
	if !w.next('}') {
		return w.bad("nothing ends the data of a Serializable")
	}
	w.opaque = true
	for i := 0; i+2 < len(raw); i++ {
		if (raw[i] == 'r' || raw[i] == 'R') && raw[i+1] == ':' && digit(raw[i+2]) {
			w.refs++
			break
		}
	}
	return nil
}

// refer counts a reference in the value.
func (w *walker) refer(r reference) error {
	w.pos = r.end
	w.refs++
	if r.link == nil && (r.to == 0 || r.to > w.slots) {
		return w.bad("a reference to a value that does not come before it")
	}
	if w.record {
		if r.kind == 'r' && r.link == nil {
			switch w.data[w.spans[r.to-1].start] {
			case 'O', 'E', 'C', 'r', linkMark: // Split writes a link with a number for an object only
			default:
				return w.bad("a reference to an object, and this is none")
			}
		}
		w.found = append(w.found, r)
	}
	if r.kind == 'r' {
		w.slot(r.start)
	}
	return nil
}

// link reads a link.
func (w *walker) link() error {
	r := reference{start: w.pos, kind: w.at(w.pos + 1)}
	if r.kind != 'r' && r.kind != 'R' || w.at(w.pos+2) != ':' {
		return w.bad("no value")
	}
	w.pos += 3
	var err error
	if r.to, err = w.number(':'); err != nil {
		return err
	}
	if r.to == 0 || len(w.data)-w.pos < digestLen {
		return w.bad("no link")
	}
	r.link = w.data[w.pos : w.pos+digestLen]
	w.pos += digestLen
	switch {
	case w.next(';'):
	case w.next(':'):
		n, err := w.length(1)
		if err != nil {
			return err
		}
		if !w.next('{') || len(w.data)-w.pos < n {
			return w.bad("nothing begins the copy in a link")
		}
		r.copy = w.data[w.pos : w.pos+n]
		in := walker{data: r.copy, most: w.most}
		if err := in.one(); err != nil {
			return err
		}
		w.pos += n
		if in.refs > 0 || in.opaque || !w.next('}') {
			return w.bad("the copy in a link has references, or does not end")
		}
	default:
		return w.bad("no link")
	}
	r.end = w.pos
	return w.refer(r)
}

// one checks that data is one value and nothing else.
func (w *walker) one() error {
	if len(w.data) == 0 {
		return errEmpty
	}
	if err := w.value(w.most); err != nil {
		return err
	}
	if w.pos != len(w.data) {
		return w.bad("there is data after the value")
	}
	if w.opaque && w.refs > 0 {
		return errOpaque
	}
	return nil
}

// isClass reports whether PHP takes name for the name of a class. With a backslash at
// its begin, PHP would destroy the session.
func isClass(name []byte) bool {
	if len(name) > 0 && name[0] == '\\' {
		return false
	}
	for _, c := range name {
		if !letter(c) && c != '\\' {
			return false
		}
	}
	return len(name) > 0
}

// isName reports whether name is that of a case of an enum.
func isName(name []byte) bool {
	for _, c := range name {
		if !letter(c) {
			return false
		}
	}
	return len(name) > 0
}

func letter(c byte) bool {
	return digit(c) || 'a' <= c|0x20 && c|0x20 <= 'z' || c == '_' || c >= 0x7f
}

// isInt reports whether PHP takes a string that is a key for an integer.
func isInt(name string) bool {
	digits := name
	if len(name) > 0 && name[0] == '-' {
		digits = name[1:]
	}
	if len(digits) == 0 || len(digits) > 19 || digits[0] == '0' && len(name) > 1 {
		return false
	}
	for i := range len(digits) {
		if !digit(digits[i]) {
			return false
		}
	}
	if len(digits) == 19 {
		_, err := strconv.ParseInt(name, 10, 64)
		return err == nil
	}
	return true
}
