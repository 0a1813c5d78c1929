package php

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/seed-a7bee19b/session/internal/nameset"
	"github.com/seed-a7bee19b/session/internal/room"
)

// Unmarshal decodes data into the pointer v. It fails if the value does not fit the
// type of *v: a number that is out of range, a float for an integer, a string for a
// number, an array with other keys than 0, 1 and so on for a slice, a list for a map of
// strings or a struct. It also fails if anything follows the value. After an error *v is
// undefined.
//
// It replaces *v. In a struct, it leaves fields that are not in data unchanged, and
// ignores elements and properties that are only in data. Null gives the zero value.
// Times are in UTC, unless PHP has stored a zone. Nothing in *v aliases data.
//
// A reference is decoded as a copy of what it refers to. An array or an object that
// contains itself is an error, and so is a reference to a part of another value of the
// session that has references itself.
//
// Into an any, it decodes nil, bool, int64, float64, string, []any for an array with the
// keys 0, 1 and so on, and for one without elements, map[string]any for other arrays,
// [Object], [Enum] and [Opaque].
//
// Work is proportional to len(data), and memory is bounded as the package comment says.
func (c Codec) Unmarshal(data []byte, v any) (err error) {
	if len(data) > c.maxSize() {
		return errSize
	}
	if err := c.checkText(data); err != nil {
		return err
	}
	w := walker{data: data, most: c.maxDepth(), links: true}
	if err := w.one(); err != nil {
		return err
	}
	d := decoder{data: data, left: room.Allowance(len(data)), depth: c.maxDepth(), utf8: c.UTF8}
	if w.refs > 0 {
		if err := d.charge(w.recorded()); err != nil {
			return err
		}
		w = w.recorder()
		if err := w.one(); err != nil {
			return err
		}
		d.spans = w.spans
		d.work = 64*len(data) + 4096
	}
	defer caught("Unmarshal", &err)
	switch v := v.(type) {
	case *any:
		if v != nil {
			x, err := d.any()
			if err == nil {
				*v = x
			}
			return err
		}
	case *string:
		if v != nil && data[0] == 's' {
			*v = string(d.string())
			return nil
		}
	}
	rv := reflect.ValueOf(v)
	if rv.Kind() != reflect.Pointer || rv.IsNil() {
		return errPointer
	}
	p, err := planFor(rv.Type().Elem())
	if err != nil {
		return err
	}
	return d.value(p, rv.Elem())
}

// decoder reads a value that a walker has passed.
type decoder struct {
	data  []byte
	pos   int
	left  int // bytes of memory that may still be taken
	depth int // levels that may follow
	utf8  bool

	// For values with references only.
	spans []span // of the slots
	open  []int  // where the arrays and objects around pos begin
	work  int    // steps that may still be taken
}

// charge accounts for memory that is about to be allocated.
func (d *decoder) charge(size int) error {
	if d.left -= size; d.left < 0 {
		return errMemory
	}
	return nil
}

var kinds = map[byte]string{
	'N': "null", 'b': "a bool", 'i': "an integer", 'd': "a float", 's': "a string", 'a': "an array",
	'O': "an object", 'E': "a case of an enum", 'C': "an object with data of its own", 'r': "a reference", 'R': "a reference",
	linkMark: "a reference to another value",
}

func (d *decoder) misfit(pos int, t reflect.Type) error {
	return fmt.Errorf("php: %s does not fit %v (byte %d of %d)", kinds[d.data[pos]], t, pos, len(d.data))
}

// count reads digits and the byte after them.
func (d *decoder) count() int {
	n := 0
	for d.data[d.pos] >= '0' && d.data[d.pos] <= '9' {
		n = 10*n + int(d.data[d.pos]-'0')
		d.pos++
	}
	d.pos++
	return n
}

// quoted reads LENGTH:"BYTES".
func (d *decoder) quoted() []byte {
	n := d.count()
	b := d.data[d.pos+1 : d.pos+1+n]
	d.pos += n + 2
	return b
}

// string reads a string.
func (d *decoder) string() []byte {
	d.pos += 2
	b := d.quoted()
	d.pos++
	return b
}

// until reads what is before a semicolon.
func (d *decoder) until() []byte {
	n := bytes.IndexByte(d.data[d.pos:], ';')
	b := d.data[d.pos : d.pos+n]
	d.pos += n + 1
	return b
}

// int reads an integer.
func (d *decoder) int() int64 {
	d.pos += 2
	n, _ := strconv.ParseInt(string(d.until()), 10, 64) // the walker has checked it
	return n
}

// float reads a float.
func (d *decoder) float() (float64, error) {
	start := d.pos
	d.pos += 2
	f, err := parseFloat(d.until())
	if err != nil {
		return 0, fmt.Errorf("php: a float is out of range (byte %d of %d)", start, len(d.data))
	}
	return f, nil
}

// skip goes over a value.
func (d *decoder) skip() error {
	w := walker{data: d.data, pos: d.pos, most: math.MaxInt, links: true, slots: math.MaxInt - len(d.data)}
	if err := w.value(w.most); err != nil {
		return err
	}
	if d.spans != nil {
		if d.work -= w.pos - d.pos; d.work < 0 {
			return errMemory
		}
	}
	d.pos = w.pos
	return nil
}

var errLink = errors.New("php: the value shares an object or a reference with another value of the session, and cannot be read alone")

// enterSize is the memory that following a reference takes.
const enterSize = 256

// enter calls read where the reference at pos leads to.
func (d *decoder) enter(read func() error) error {
	if err := d.charge(enterSize); err != nil {
		return err
	}
	r := d.pos
	to := r
	for d.data[to] == 'r' || d.data[to] == 'R' {
		d.pos = to + 2
		to = d.spans[d.count()-1].start
		if to == r {
			return errItself
		}
		if d.work--; d.work < 0 {
			return errMemory
		}
	}
	if slices.Contains(d.open, to) {
		return errItself
	}
	d.pos = to
	err := read()
	d.pos = r + 2
	d.count()
	return err
}

// enterLink calls read where the copy in the link at pos is.
func (d *decoder) enterLink(read func() error) error {
	if err := d.charge(enterSize); err != nil {
		return err
	}
	w := walker{data: d.data, pos: d.pos, most: math.MaxInt, links: true, record: true}
	if err := w.link(); err != nil {
		return err
	}
	inside := w.found[0].copy
	if inside == nil {
		return errLink
	}
	d.pos = w.pos - 1 - len(inside)
	err := read()
	d.pos = w.pos
	return err
}

var errItself = errors.New("php: an array or an object contains itself")

// nest goes one level deeper, into the array or object that begins at pos, and returns
// how to leave it.
func (d *decoder) nest() error {
	if d.depth--; d.depth < 0 {
		return errTooDeep
	}
	if d.spans != nil {
		d.open = append(d.open, d.pos)
	}
	return nil
}

// leave is the reverse of nest, at the end of the elements.
func (d *decoder) leave() {
	d.pos++
	d.depth++
	if d.spans != nil {
		d.open = d.open[:len(d.open)-1]
	}
}

func (d *decoder) value(p *plan, v reflect.Value) error {
	if d.spans != nil {
		if d.work--; d.work < 0 {
			return errMemory
		}
	}
	start := d.pos
	t := d.data[start]
	switch t {
	case 'N':
		d.pos += 2
		v.SetZero()
		return nil
	case linkMark:
		if p.op != opRaw {
			return d.enterLink(func() error { return d.value(p, v) })
		}
	case 'r', 'R':
		if p.op != opRaw {
			return d.enter(func() error { return d.value(p, v) })
		}
	}
	switch p.op {
	case opPtr:
		if err := d.charge(room.Of(int(p.elem.typ.Size()))); err != nil {
			return err
		}
		e := reflect.New(p.elem.typ)
		v.Set(e)
		return d.value(p.elem, e.Elem())
	case opAny:
		x, err := d.any()
		if err == nil {
			v.Set(reflect.ValueOf(x)) // nil was handled above
		}
		return err
	case opBool:
		if t == 'b' {
			v.SetBool(d.data[start+2] == '1')
			d.pos += 4
			return nil
		}
	case opInt:
		if t == 'i' {
			n := d.int()
			if v.OverflowInt(n) {
				return d.outOfRange(start, p.typ)
			}
			v.SetInt(n)
			return nil
		}
	case opUint:
		switch t {
		case 'i':
			n := d.int()
			if n < 0 || v.OverflowUint(uint64(n)) {
				return d.outOfRange(start, p.typ)
			}
			v.SetUint(uint64(n))
			return nil
		case 's':
			if n, ok := bigUint(string(d.string())); ok {
				if v.OverflowUint(n) {
					return d.outOfRange(start, p.typ)
				}
				v.SetUint(n)
				return nil
			}
		}
	case opFloat:
		return d.floatInto(p, v)
	case opString:
		if t == 's' {
			s := d.string()
			if err := d.charge(room.Of(len(s))); err != nil {
				return err
			}
			v.SetString(string(s))
			return nil
		}
	case opBytes, opByteArray:
		if t == 's' {
			return d.bytes(p, v)
		}
	case opSlice, opArray:
		if t == 'a' {
			return d.list(p, v)
		}
	case opMap:
		if t == 'a' || t == 'O' {
			return d.mapping(p, v)
		}
	case opStruct:
		if t == 'a' || t == 'O' {
			return d.structure(p, v)
		}
	default:
		return d.special(p, v)
	}
	return d.misfit(start, p.typ)
}

func (d *decoder) outOfRange(start int, t reflect.Type) error {
	return fmt.Errorf("php: the number is out of range for %v (byte %d of %d)", t, start, len(d.data))
}

// bigUint reads an integer that is too great for PHP, and so is a string.
func bigUint(s string) (uint64, bool) {
	if len(s) < 19 || len(s) > 20 || s[0] == '0' || s[0] == '+' {
		return 0, false
	}
	n, err := strconv.ParseUint(s, 10, 64)
	return n, err == nil && n > math.MaxInt64
}

func (d *decoder) floatInto(p *plan, v reflect.Value) error {
	start := d.pos
	var f float64
	exact := true
	switch d.data[start] {
	case 'd':
		var err error
		if f, err = d.float(); err != nil {
			return err
		}
	case 'i':
		n := d.int()
		f = float64(n)
		exact = f < 1<<63 && int64(f) == n
	default:
		return d.misfit(start, p.typ)
	}
	if p.typ.Kind() == reflect.Float32 && !math.IsNaN(f) && float64(float32(f)) != f {
		exact = false
	}
	if !exact {
		return fmt.Errorf("php: %v cannot hold the number exactly (byte %d of %d)", p.typ, start, len(d.data))
	}
	v.SetFloat(f)
	return nil
}

// binary reads a string that is not text.
func (d *decoder) binary() ([]byte, error) {
	start := d.pos
	s := d.string()
	if err := d.charge(room.Of(len(s))); err != nil {
		return nil, err
	}
	if !d.utf8 {
		return append(make([]byte, 0, len(s)), s...), nil
	}
	b := make([]byte, base64.StdEncoding.DecodedLen(len(s)))
	n, err := base64.StdEncoding.Strict().Decode(b, s)
	if err != nil || bytes.ContainsAny(s, "\r\n") {
		return nil, fmt.Errorf("php: a string is not base64, which a []byte is with the option UTF8 (byte %d of %d)", start, len(d.data))
	}
	return b[:n], nil
}

func (d *decoder) bytes(p *plan, v reflect.Value) error {
	start := d.pos
	b, err := d.binary()
	if err != nil {
		return err
	}
	if p.op == opBytes {
		v.SetBytes(b)
		return nil
	}
	if len(b) != v.Len() {
		return d.misfit(start, p.typ)
	}
	reflect.Copy(v, reflect.ValueOf(b))
	return nil
}

// elements reads the head of an array or an object, and returns the class of the object
// and the number of the elements.
func (d *decoder) elements() (class []byte, n int) {
	object := d.data[d.pos] == 'O'
	d.pos += 2
	if object {
		class = d.quoted()
		d.pos++
	}
	n = d.count()
	d.pos++
	return class, n
}

// key reads a key. PHP takes some strings for integers, except in an object.
func (d *decoder) key() (name []byte, isInt bool) {
	isInt = d.data[d.pos] == 'i'
	d.pos += 2
	if isInt {
		return d.until(), true
	}
	name = d.quoted()
	d.pos++
	return name, false
}

// index reports whether the next key is the integer i.
func (d *decoder) index(i int) bool {
	if d.data[d.pos] != 'i' || d.data[d.pos+2] == '-' {
		return false
	}
	start := d.pos
	d.pos += 2
	if end := bytes.IndexByte(d.data[d.pos:], ';'); end < 18 && d.count() == i {
		return true
	}
	d.pos = start
	return false
}

func (d *decoder) list(p *plan, v reflect.Value) error {
	start := d.pos
	if err := d.nest(); err != nil {
		return err
	}
	_, n := d.elements()
	out := v
	if p.op == opSlice {
		if err := d.charge(room.For(n, p.elem.typ)); err != nil {
			return err
		}
		out = reflect.MakeSlice(p.typ, n, n)
	} else if n != v.Len() {
		return d.misfit(start, p.typ)
	}
	for i := range n {
		if !d.index(i) {
			return fmt.Errorf("php: an array does not have the keys 0, 1 and so on, as %v needs (byte %d of %d)", p.typ, d.pos, len(d.data))
		}
		if err := d.value(p.elem, out.Index(i)); err != nil {
			return err
		}
	}
	d.leave()
	if p.op == opSlice {
		v.Set(out)
	}
	return nil
}

func (d *decoder) mapping(p *plan, v reflect.Value) error {
	start := d.pos
	if err := d.nest(); err != nil {
		return err
	}
	class, n := d.elements()
	if err := d.charge(room.Map(p.typ, n)); err != nil {
		return err
	}
	m := reflect.MakeMapWithSize(p.typ, n)
	key := reflect.New(p.key.typ).Elem()
	elem := reflect.New(p.elem.typ).Elem()
	list := class == nil && n > 0
	for i := range n {
		at := d.pos
		name, _ := d.key()
		list = list && string(name) == strconv.Itoa(i)
		if class != nil {
			name = []byte(plainName(string(name)))
		}
		if err := d.setKey(p, key, string(name), at); err != nil {
			return err
		}
		elem.SetZero()
		if err := d.value(p.elem, elem); err != nil {
			return err
		}
		m.SetMapIndex(key, elem)
		if m.Len() != i+1 {
			return errDuplicate
		}
	}
	if list && p.key.op == opString {
		return fmt.Errorf("php: an array has the keys 0, 1 and so on, which is no %v (byte %d of %d)", p.typ, start, len(d.data))
	}
	d.leave()
	v.Set(m)
	return nil
}

func (d *decoder) setKey(p *plan, key reflect.Value, name string, at int) error {
	if p.key.op == opString {
		if err := d.charge(room.Of(len(name))); err != nil {
			return err
		}
		key.SetString(name)
		return nil
	}
	if isInt(name) {
		n, _ := strconv.ParseInt(name, 10, 64)
		switch {
		case p.key.op == opInt && !key.OverflowInt(n):
			key.SetInt(n)
			return nil
		case p.key.op == opUint && n >= 0 && !key.OverflowUint(uint64(n)):
			key.SetUint(uint64(n))
			return nil
		}
	} else if n, ok := bigUint(name); ok && p.key.op == opUint && !key.OverflowUint(n) {
		key.SetUint(n)
		return nil
	}
	return fmt.Errorf("php: a key does not fit %v (byte %d of %d)", p.typ, at, len(d.data))
}

func (d *decoder) structure(p *plan, v reflect.Value) error {
	start := d.pos
	if err := d.nest(); err != nil {
		return err
	}
	class, n := d.elements()
	if p.class != "" && !strings.EqualFold(string(class), p.class) {
		return fmt.Errorf("php: %s of another class than %v (byte %d of %d)", kinds[d.data[start]], p.typ, start, len(d.data))
	}
	var seen uint64 // the first 64 fields
	var others nameset.Set
	list := class == nil && n > 0
	for k := range n {
		name, _ := d.key()
		list = list && string(name) == strconv.Itoa(k)
		if class != nil {
			name = []byte(plainName(string(name)))
		}
		i, ok := p.byName[string(name)]
		if bit := uint64(1) << i; ok && bit != 0 {
			if seen&bit != 0 {
				return errDuplicate
			}
			seen |= bit
		} else if (ok || class == nil) && !others.Add(name) {
			return errDuplicate
		}
		if !ok {
			if err := d.skip(); err != nil {
				return err
			}
			continue
		}
		f := &p.fields[i]
		if err := d.value(f.plan, v.FieldByIndex(f.index)); err != nil {
			return err
		}
	}
	if list && !p.ints {
		return fmt.Errorf("php: an array has the keys 0, 1 and so on, which is no %v (byte %d of %d)", p.typ, start, len(d.data))
	}
	d.leave()
	return nil
}

// special reads a type of this package, a time, or a type with methods.
func (d *decoder) special(p *plan, v reflect.Value) error {
	start := d.pos
	t := d.data[start]
	switch p.op {
	case opText, opBinary:
		if t != 's' {
			break
		}
		var data []byte
		var err error
		if p.op == opText {
			data = bytes.Clone(d.string())
		} else if data, err = d.binary(); err != nil {
			return err
		}
		return decodeMethod(p, data, v.Addr().Interface())
	case opTime, opPHPTime:
		at, ok, err := d.time()
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		if p.op == opPHPTime {
			v.Set(reflect.ValueOf(Time{at}))
		} else {
			v.Set(reflect.ValueOf(at))
		}
		return nil
	case opFields:
		if t != 'a' {
			break
		}
		_, fields, err := d.fields()
		v.Set(reflect.ValueOf(Array(fields)))
		return err
	case opObject, opEnum, opOpaque:
		if t != 'O' && t != 'E' && t != 'C' {
			break
		}
		x, err := d.any()
		if err != nil {
			return err
		}
		if reflect.TypeOf(x) != p.typ {
			break
		}
		v.Set(reflect.ValueOf(x))
		return nil
	case opRaw:
		if err := d.skip(); err != nil {
			return err
		}
		raw := d.data[start:d.pos]
		if d.spans != nil && len(raw) != len(d.data) && hasReferences(raw) {
			return fmt.Errorf("php: a part of a value that is to be a %v has references (byte %d of %d)", p.typ, start, len(d.data))
		}
		if err := d.charge(room.Of(len(raw))); err != nil {
			return err
		}
		v.SetBytes(bytes.Clone(raw))
		return nil
	}
	return d.misfit(start, p.typ)
}

func hasReferences(value []byte) bool {
	w := walker{data: value, links: true, slots: math.MaxInt - len(value)}
	err := w.value(math.MaxInt)
	return err != nil || w.refs > 0
}

// time reads a time from a string or an object of PHP. ok reports whether it may be
// one.
func (d *decoder) time() (at time.Time, ok bool, err error) {
	start := d.pos
	switch d.data[start] {
	case 's':
		if err := at.UnmarshalText(d.string()); err != nil {
			return at, true, &quietError{fmt.Sprintf("php: a string is not a time of RFC 3339 (byte %d of %d)", start, len(d.data)), err}
		}
		return at.UTC(), true, nil
	case 'O':
		d.pos += 2
		class := string(d.quoted())
		d.pos = start
		if class != "DateTime" && class != "DateTimeImmutable" {
			return at, false, nil
		}
		p, err := planFor(reflect.TypeFor[date]())
		if err != nil {
			return at, true, err
		}
		var of date
		if err := d.value(p, reflect.ValueOf(&of).Elem()); err != nil {
			return at, true, err
		}
		at, err = of.time()
		return at, true, err
	}
	return at, false, nil
}

// fieldSize is the memory that a Field takes.
const fieldSize = 40

// fields reads an array or an object.
func (d *decoder) fields() (class []byte, fields []Field, err error) {
	if err := d.nest(); err != nil {
		return nil, nil, err
	}
	class, n := d.elements()
	if err := d.charge(room.Of(n * fieldSize)); err != nil {
		return nil, nil, err
	}
	if n > 0 || class == nil {
		fields = make([]Field, 0, n)
	}
	var names nameset.Set
	for range n {
		name, number := d.key()
		if !names.Add(name) {
			return nil, nil, errDuplicate
		}
		if err := d.charge(room.Of(len(name))); err != nil {
			return nil, nil, err
		}
		f := Field{Name: string(name), Int: number}
		f.Int = number || class == nil && isInt(f.Name)
		if f.Value, err = d.any(); err != nil {
			return nil, nil, err
		}
		fields = append(fields, f)
	}
	d.leave()
	return class, fields, nil
}

// boxed returns the memory that an any takes for a value of size bytes. The any itself
// is counted with the value that contains it.
func (d *decoder) boxed(size int, x any) (any, error) { return x, d.charge(room.Of(size)) }

func (d *decoder) any() (x any, err error) {
	if d.spans != nil {
		if d.work--; d.work < 0 {
			return nil, errMemory
		}
	}
	switch d.data[d.pos] {
	case 'N':
		d.pos += 2
		return nil, nil
	case 'b':
		d.pos += 4
		return d.data[d.pos-2] == '1', nil
	case 'i':
		return d.boxed(8, d.int())
	case 'd':
		f, err := d.float()
		if err != nil {
			return nil, err
		}
		return d.boxed(8, f)
	case 's':
		s := d.string()
		return d.boxed(16+room.Of(len(s)), string(s))
	case 'E':
		name := string(d.string())
		class, of, _ := strings.Cut(name, ":")
		return d.boxed(32+room.Of(len(name)), Enum{class, of})
	case 'C':
		d.pos += 2
		class := string(d.quoted())
		d.pos++
		n := d.count()
		data := d.data[d.pos+1 : d.pos+1+n]
		d.pos += n + 2
		if err := d.charge(room.Of(40) + room.Of(len(class)) + room.Of(n)); err != nil {
			return nil, err
		}
		return Opaque{class, append(make([]byte, 0, n), data...)}, nil
	case 'O':
		class, fields, err := d.fields()
		if err != nil {
			return nil, err
		}
		return d.boxed(40+room.Of(len(class)), Object{string(class), fields})
	case 'r', 'R':
		err = d.enter(func() error {
			var err error
			x, err = d.any()
			return err
		})
		return x, err
	case linkMark:
		err = d.enterLink(func() error {
			var err error
			x, err = d.any()
			return err
		})
		return x, err
	}
	return d.anyArray()
}

// anyArray reads an array as a list as long as its keys are 0, 1 and so on, and
// continues as a map after the first that is not.
func (d *decoder) anyArray() (any, error) {
	if err := d.nest(); err != nil {
		return nil, err
	}
	_, n := d.elements()
	if n == 0 || d.index(0) {
		if err := d.charge(24 + room.Of(16*n)); err != nil {
			return nil, err
		}
		list := make([]any, 0, n)
		for i := range n {
			if i > 0 && !d.index(i) {
				return d.anyMap(list, n)
			}
			x, err := d.any()
			if err != nil {
				return nil, err
			}
			list = append(list, x)
		}
		d.leave()
		return list, nil
	}
	return d.anyMap(nil, n)
}

func (d *decoder) anyMap(read []any, n int) (any, error) {
	if err := d.charge(room.Entries(32, n) + 16*len(read)); err != nil {
		return nil, err
	}
	m := make(map[string]any, n)
	for i, x := range read {
		m[strconv.Itoa(i)] = x
	}
	for i := len(read); i < n; i++ {
		name, _ := d.key()
		if err := d.charge(room.Of(len(name))); err != nil {
			return nil, err
		}
		key := string(name)
		x, err := d.any()
		if err != nil {
			return nil, err
		}
		m[key] = x
		if len(m) != i+1 {
			return nil, errDuplicate
		}
	}
	d.leave()
	return m, nil
}
