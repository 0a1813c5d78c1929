package php

import (
	"bytes"
	"encoding"
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/seed-a7bee19b/session/internal/nameset"
	"github.com/seed-a7bee19b/session/internal/readback"
	"github.com/seed-a7bee19b/session/internal/room"
)

// Marshal encodes v as PHP's serialize does. The package comment has a table of types.
// The result is the same for equal values: the keys of a map are in order, integers
// before strings.
//
// Marshal fails for channels, functions, complex numbers; interfaces with methods;
// structs that have fields but no exported one, or two fields of one name; maps with
// keys that are neither strings nor integers, or that have methods to encode them;
// types that have a method to encode them and none to decode them; a value that is
// nested too deep, contains itself or is too large; and every value that would not be
// read back equal. Among these are an unexported field that is not zero, a pointer to a
// nil pointer, a map of strings with the only key "0", which is a list for PHP, and in an
// any an unsigned integer of more than 63 bits.
func (c Codec) Marshal(v any) (_ []byte, err error) {
	defer caught("Marshal", &err)
	e := encoder{max: c.maxSize(), depth: c.maxDepth(), utf8: c.UTF8}
	perByte := 0
	switch v := v.(type) {
	case nil:
		return []byte("N;"), nil
	case bool:
		e.bool(v)
	case int:
		e.int(int64(v))
	case int64:
		e.int(v)
	case string:
		if len(v) <= e.max {
			e.b = make([]byte, 0, len(v)+12)
		}
		err = e.string(v)
	default:
		e.b = make([]byte, 0, 128)
		x := reflect.ValueOf(v)
		var p *plan
		if p, err = planFor(x.Type()); err != nil {
			return nil, err
		}
		perByte = p.perByte
		err = e.value(p, x, 0)
	}
	if err != nil {
		return nil, err
	}
	if len(e.b) > e.max {
		return nil, errSize
	}
	if e.raw { // its depth counts too
		w := walker{data: e.b, most: e.depth, links: true, record: true}
		if err := w.one(); err != nil {
			return nil, err
		}
	}
	if room.MayExceed(perByte, len(e.b)) {
		if err := c.Unmarshal(e.b, reflect.New(reflect.TypeOf(v)).Interface()); err != nil {
			return nil, fmt.Errorf("php: cannot keep this %T, because it could not be read back: %w", v, err)
		}
	}
	return e.b, nil
}

type encoder struct {
	b     []byte
	max   int // bytes
	depth int // levels that may follow
	utf8  bool
	inAny bool
	raw   bool // a Raw was there
}

func (e *encoder) bool(v bool) {
	if v {
		e.b = append(e.b, "b:1;"...)
	} else {
		e.b = append(e.b, "b:0;"...)
	}
}

func (e *encoder) int(n int64) {
	e.b = append(e.b, "i:"...)
	e.b = strconv.AppendInt(e.b, n, 10)
	e.b = append(e.b, ';')
}

func (e *encoder) null() { e.b = append(e.b, "N;"...) }

func (e *encoder) string(s string) error {
	if e.utf8 && !utf8.ValidString(s) {
		return errUTF8
	}
	if len(s) > e.max {
		return errSize
	}
	e.b = appendString(e.b, s)
	return nil
}

// bytes writes what is not text.
func (e *encoder) bytes(b []byte) error {
	if len(b) > e.max {
		return errSize
	}
	if e.utf8 {
		return e.string(base64.StdEncoding.EncodeToString(b))
	}
	return e.string(string(b))
}

// begin writes the begin of the elements of an array or an object.
func (e *encoder) begin(head string, n int) error {
	if e.depth--; e.depth < 0 {
		return errTooDeep
	}
	e.b = append(e.b, head...)
	e.b = strconv.AppendInt(e.b, int64(n), 10)
	e.b = append(e.b, ":{"...)
	return nil
}

func (e *encoder) end() {
	e.depth++
	e.b = append(e.b, '}')
}

func classHead(class string) string { return "O:" + strconv.Itoa(len(class)) + ":\"" + class + "\":" }

// value writes v. nest counts the pointers and interfaces around it that write
// nothing.
func (e *encoder) value(p *plan, v reflect.Value, nest int) error {
	if len(e.b) > e.max {
		return errSize
	}
	switch p.op {
	case opBool:
		e.bool(v.Bool())
	case opInt:
		e.int(v.Int())
	case opUint:
		n := v.Uint()
		if n <= math.MaxInt64 {
			e.int(int64(n))
			return nil
		}
		if e.inAny {
			return lost(p.typ, "it is more than PHP's greatest integer, and in an any it would become a string")
		}
		e.b = appendString(e.b, strconv.FormatUint(n, 10))
	case opFloat:
		e.b = appendFloat(append(e.b, "d:"...), v.Float())
		e.b = append(e.b, ';')
	case opString:
		return e.string(v.String())
	case opBytes:
		if v.IsNil() {
			e.null()
			return nil
		}
		return e.bytes(v.Bytes())
	case opByteArray:
		b := make([]byte, v.Len())
		reflect.Copy(reflect.ValueOf(b), v)
		return e.bytes(b)
	case opPtr:
		if v.IsNil() {
			e.null()
			return nil
		}
		if nest++; nest > e.depth+2*maxPointers {
			return errTooDeep
		}
		before := len(e.b)
		if err := e.value(p.elem, v.Elem(), nest); err != nil {
			return err
		}
		if string(e.b[before:]) == "N;" {
			return lost(p.typ, "it points to a nil, which would be read back as a nil pointer")
		}
	case opAny:
		return e.any(v, nest)
	case opSlice, opArray:
		return e.list(p, v)
	case opMap:
		return e.mapping(p, v)
	case opStruct:
		return e.structure(p, v)
	default:
		return e.special(p, v)
	}
	return nil
}

func (e *encoder) any(v reflect.Value, nest int) error {
	if v.IsNil() {
		e.null()
		return nil
	}
	v = v.Elem()
	if nest++; nest > e.depth+2*maxPointers {
		return errTooDeep
	}
	was := e.inAny
	e.inAny = true
	defer func() { e.inAny = was }()
	p, err := planFor(v.Type())
	if err != nil {
		return err
	}
	return e.value(p, v, nest)
}

func (e *encoder) list(p *plan, v reflect.Value) error {
	if p.op == opSlice && v.IsNil() {
		e.null()
		return nil
	}
	if err := e.begin("a:", v.Len()); err != nil {
		return err
	}
	for i := range v.Len() {
		e.int(int64(i))
		if err := e.value(p.elem, v.Index(i), 0); err != nil {
			return err
		}
	}
	e.end()
	return nil
}

// mapKey is the key of a map, as PHP has it.
type mapKey struct {
	text string
	n    int64
	int  bool
	v    reflect.Value
}

func keyOf(key reflect.Value) mapKey {
	switch {
	case key.CanInt():
		return mapKey{"", key.Int(), true, key}
	case key.CanUint():
		if n := key.Uint(); n <= math.MaxInt64 {
			return mapKey{"", int64(n), true, key}
		}
		return mapKey{strconv.FormatUint(key.Uint(), 10), 0, false, key}
	}
	text := key.String()
	if isInt(text) {
		n, _ := strconv.ParseInt(text, 10, 64)
		return mapKey{text, n, true, key}
	}
	return mapKey{text, 0, false, key}
}

// compareKeys has integers before strings.
func compareKeys(a, b mapKey) int {
	switch {
	case a.int && b.int:
		if a.n < b.n {
			return -1
		}
		return 1 // no key is twice in a map
	case a.int:
		return -1
	case b.int:
		return 1
	}
	return strings.Compare(a.text, b.text)
}

func (e *encoder) mapping(p *plan, v reflect.Value) error {
	if v.IsNil() {
		e.null()
		return nil
	}
	if v.Len() > e.max {
		return errSize
	}
	keys := make([]mapKey, 0, v.Len())
	for it := v.MapRange(); it.Next(); {
		keys = append(keys, keyOf(it.Key()))
	}
	slices.SortFunc(keys, compareKeys)
	if n := len(keys); n > 0 && keys[0].int && keys[0].n == 0 && keys[n-1].int && keys[n-1].n == int64(n-1) && (p.key.op == opString || e.inAny) {
		// In this order it would be a list.
		if n == 1 {
			return lost(p.typ, "it has only the key 0, which is a list for PHP; use a slice, or a map of integers that is not in an any")
		}
		keys = append(keys[1:], keys[0])
	}
	if err := e.begin("a:", len(keys)); err != nil {
		return err
	}
	for _, k := range keys {
		if err := e.key(k); err != nil {
			return err
		}
		if err := e.value(p.elem, v.MapIndex(k.v), 0); err != nil {
			return err
		}
	}
	e.end()
	return nil
}

func (e *encoder) key(k mapKey) error {
	if k.int {
		e.int(k.n)
		return nil
	}
	return e.string(k.text)
}

func (e *encoder) structure(p *plan, v reflect.Value) error {
	for _, at := range p.hidden {
		if !v.FieldByIndex(at).IsZero() {
			return lost(p.typ, "it has a field that is not exported and not zero")
		}
	}
	head := "a:"
	if p.class != "" {
		head = classHead(p.class)
	}
	if e.inAny && p.class == "" && p.ints {
		return lost(p.typ, "in an any, its fields with the names of integers could be a list for PHP")
	}
	if err := e.begin(head, len(p.fields)); err != nil {
		return err
	}
	for i := range p.fields {
		f := &p.fields[i]
		if p.class == "" {
			e.b = appendKey(e.b, f.name)
		} else {
			e.b = appendString(e.b, f.name)
		}
		if err := e.value(f.plan, v.FieldByIndex(f.index), 0); err != nil {
			return err
		}
	}
	e.end()
	return nil
}

// special writes a type of this package, a time, or a type with methods.
func (e *encoder) special(p *plan, v reflect.Value) error {
	switch p.op {
	case opText, opBinary:
		return e.method(p, v)
	}
	switch x := v.Interface().(type) {
	case time.Time:
		text, err := x.UTC().MarshalText()
		if err != nil {
			return lost(p.typ, "its year is not between 0 and 9999")
		}
		return e.string(string(text))
	case Time:
		at := x.UTC()
		if at.Nanosecond()%1000 != 0 || at.Year() < 0 || at.Year() > 9999 {
			return lost(p.typ, "it has a part of a microsecond, or its year is not between 0 and 9999")
		}
		if err := e.begin(classHead("DateTimeImmutable"), 3); err != nil {
			return err
		}
		e.b = appendString(appendString(e.b, "date"), at.Format(dateLayout))
		e.b = append(appendString(e.b, "timezone_type"), "i:3;"...)
		e.b = appendString(appendString(e.b, "timezone"), "UTC")
		e.end()
	case Array:
		if x == nil {
			e.null()
			return nil
		}
		return e.fields("a:", x, false)
	case Object:
		if x.Class == "" && x.Fields == nil {
			e.null()
			return nil
		}
		if !isClass([]byte(x.Class)) {
			return lost(p.typ, "its Class is not the name of a class")
		}
		return e.fields(classHead(x.Class), x.Fields, true)
	case Enum:
		if x == (Enum{}) {
			e.null()
			return nil
		}
		if !isClass([]byte(x.Class)) || !isName([]byte(x.Case)) {
			return lost(p.typ, "its Class or its Case is no name")
		}
		name := x.Class + ":" + x.Case
		e.b = append(e.b, "E:"...)
		e.b = strconv.AppendInt(e.b, int64(len(name)), 10)
		e.b = append(append(append(e.b, ":\""...), name...), "\";"...)
	case Opaque:
		if x.Class == "" && x.Data == nil {
			e.null()
			return nil
		}
		if !isClass([]byte(x.Class)) || x.Data == nil {
			return lost(p.typ, "its Class is not the name of a class, or its Data is nil")
		}
		e.raw = true
		e.b = append(e.b, 'C')
		e.b = append(e.b, classHead(x.Class)[1:]...)
		e.b = strconv.AppendInt(e.b, int64(len(x.Data)), 10)
		e.b = append(append(append(e.b, ":{"...), x.Data...), '}')
	case Raw:
		if x == nil {
			e.null()
			return nil
		}
		if string(x) == "N;" {
			return lost(p.typ, "it is null, which is read as a nil Raw")
		}
		w := walker{data: x, most: max(e.depth, 1), links: true, record: true}
		if err := w.one(); err != nil {
			return err
		}
		if len(e.b) > 0 && w.refs > 0 {
			return lost(p.typ, "it has references, and is a part of another value")
		}
		e.raw = true
		e.b = append(e.b, x...)
	}
	return nil
}

// fields writes the elements of an array or the properties of an object.
func (e *encoder) fields(head string, fields []Field, object bool) error {
	if err := e.begin(head, len(fields)); err != nil {
		return err
	}
	var names nameset.Set
	for i := range fields {
		f := &fields[i]
		asInt := isInt(f.Name)
		switch {
		case f.Int && !asInt:
			return errors.New("php: a Field says that its Name is an integer, and it is none")
		case object && !wellNamed(f.Name):
			return errors.New("php: a Field has a Name that begins with a zero byte, and is not of the form of a private or a protected one")
		case !object && asInt != f.Int:
			return errors.New("php: the Name of a Field is an integer for PHP, and Int does not say so")
		}
		if !names.Add([]byte(f.Name)) {
			return errDuplicate
		}
		if f.Int {
			e.b = append(append(append(e.b, "i:"...), f.Name...), ';')
		} else if err := e.string(f.Name); err != nil {
			return err
		}
		if err := e.any(reflect.ValueOf(&f.Value).Elem(), 0); err != nil {
			return err
		}
	}
	e.end()
	return nil
}

// method writes what the method of a value makes, and checks that the value can be
// read back from it.
func (e *encoder) method(p *plan, v reflect.Value) error {
	x := reflect.New(p.typ).Elem()
	x.Set(v)
	var data []byte
	var err error
	if p.op == opText {
		data, err = x.Addr().Interface().(encoding.TextMarshaler).MarshalText()
	} else {
		data, err = x.Addr().Interface().(encoding.BinaryMarshaler).MarshalBinary()
	}
	if err != nil {
		return failed("encodes", p.typ, err)
	}
	y := reflect.New(p.typ)
	if err := decodeMethod(p, bytes.Clone(data), y.Interface()); err != nil {
		return err
	}
	if where := newComparer().Back(x, y.Elem()); where != "" {
		return lost(p.typ, where+" would not be read back equal")
	}
	if p.op == opText {
		return e.string(string(data))
	}
	return e.bytes(data)
}

func failed(what string, t reflect.Type, err error) error {
	return &quietError{fmt.Sprintf("php: the method of %v that %s it failed with a %T", t, what, err), err}
}

// decodeMethod calls a method of the pointer y, which may keep data.
func decodeMethod(p *plan, data []byte, y any) (err error) {
	if p.op == opText {
		err = y.(encoding.TextUnmarshaler).UnmarshalText(data)
	} else {
		err = y.(encoding.BinaryUnmarshaler).UnmarshalBinary(data)
	}
	if err != nil {
		return failed("decodes", p.typ, err)
	}
	return nil
}

// newComparer returns a comparer for a value whose methods encode it.
func newComparer() *readback.Comparer {
	return &readback.Comparer{
		Own:     ownsText,
		LeftOut: func(reflect.StructField) bool { return false },
	}
}

func ownsText(t reflect.Type) bool {
	ptr := reflect.PointerTo(t)
	return ptr.Implements(textEncoder) || ptr.Implements(binaryEncoder)
}
