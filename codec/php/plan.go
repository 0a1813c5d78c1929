package php

import (
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"

	"github.com/seed-a7bee19b/session/internal/room"
)

// op names a way to write and read a value.
type op uint8

const (
	opUnknown op = iota
	opBool
	opInt
	opUint
	opFloat
	opString
	opBytes
	opByteArray
	opSlice
	opArray
	opMap
	opStruct
	opPtr
	opAny
	opTime
	opPHPTime
	opFields // Array
	opObject
	opEnum
	opOpaque
	opRaw
	opText   // MarshalText
	opBinary // MarshalBinary
)

// plan says how to encode and decode a type. Plans of recursive types are cyclic. A
// plan does not change after planFor has returned it.
type plan struct {
	typ       reflect.Type
	op        op
	key, elem *plan
	fields    []field
	hidden    [][]int        // fields that are not encoded, and so must be zero
	byName    map[string]int // index in fields
	class     string
	ints      bool // a name of a field is an integer for PHP

	// perByte bounds the memory for decoding one byte of data.
	perByte int
}

// field is an encoded field of a struct.
type field struct {
	name  string
	index []int
	plan  *plan
}

// plans caches the plan, or the error, of each type.
var plans sync.Map // reflect.Type to *plan or error

func planFor(t reflect.Type) (*plan, error) {
	if v, ok := plans.Load(t); ok {
		if p, ok := v.(*plan); ok {
			return p, nil
		}
		return nil, v.(error)
	}
	b := builder{plans: make(map[reflect.Type]*plan)}
	p, err := b.build(t)
	if err != nil {
		plans.Store(t, err)
		return nil, err
	}
	for changed := true; changed; {
		changed = false
		for _, p := range b.plans {
			was := p.perByte
			for _, part := range []*plan{p.key, p.elem} {
				if part != nil {
					p.perByte = max(p.perByte, part.perByte)
				}
			}
			for _, f := range p.fields {
				p.perByte = max(p.perByte, f.plan.perByte)
			}
			changed = changed || p.perByte != was
		}
	}
	plans.Store(t, p)
	return p, nil
}

type builder struct{ plans map[reflect.Type]*plan }

var (
	textEncoder   = reflect.TypeFor[encoding.TextMarshaler]()
	textDecoder   = reflect.TypeFor[encoding.TextUnmarshaler]()
	binaryEncoder = reflect.TypeFor[encoding.BinaryMarshaler]()
	binaryDecoder = reflect.TypeFor[encoding.BinaryUnmarshaler]()
)

// maxPointers bounds the pointers to pointers in a type, because a type can be a
// pointer to itself.
const maxPointers = 4

func (b *builder) build(t reflect.Type) (*plan, error) {
	if p, ok := b.plans[t]; ok {
		return p, nil
	}
	p := &plan{typ: t}
	b.plans[t] = p
	return p, b.fill(p)
}

func (b *builder) fill(p *plan) (err error) {
	t := p.typ
	switch t {
	case timeType:
		p.op = opTime
	case phpTimeType:
		p.op = opPHPTime
	case arrayType:
		p.op = opFields
	case objectType:
		p.op = opObject
	case enumType:
		p.op = opEnum
	case opaqueType:
		p.op = opOpaque
	case rawType:
		p.op = opRaw
	}
	if p.op != opUnknown {
		return nil
	}
	if t.Kind() == reflect.Pointer {
		e := t
		for range maxPointers {
			if e.Kind() == reflect.Pointer {
				e = e.Elem()
			}
		}
		if e.Kind() == reflect.Pointer {
			return cannot(t, "too many pointers to pointers")
		}
		p.op = opPtr
		p.perByte = room.Pointed(t)
		p.elem, err = b.build(t.Elem())
		return err
	}
	if t.Kind() != reflect.Interface {
		if ok, err := p.methods(); ok || err != nil {
			return err
		}
	}

	switch t.Kind() {
	case reflect.Bool:
		p.op = opBool
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		p.op = opInt
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		p.op = opUint
	case reflect.Float32, reflect.Float64:
		p.op = opFloat
	case reflect.String:
		p.op = opString
	case reflect.Slice, reflect.Array:
		switch {
		case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8:
			p.op = opBytes
			return nil
		case t.Elem().Kind() == reflect.Uint8:
			p.op = opByteArray
			return nil
		case t.Kind() == reflect.Slice:
			p.op = opSlice
			p.perByte = room.Of(int(t.Elem().Size())) + room.Pointed(t.Elem())
		default:
			p.op = opArray
		}
		p.elem, err = b.build(t.Elem())
	case reflect.Map:
		p.op = opMap
		if p.key, err = b.build(t.Key()); err != nil {
			return err
		}
		switch p.key.op {
		case opInt, opUint, opString:
		default:
			return cannot(t, "a key has to be a string or an integer without methods to encode it")
		}
		p.perByte = room.Map(t, 1)
		p.elem, err = b.build(t.Elem())
	case reflect.Struct:
		p.op = opStruct
		p.byName = make(map[string]int)
		if err = b.addFields(p, t, nil, nil); err != nil {
			return err
		}
		if len(p.fields) == 0 && len(p.hidden) > 0 {
			return cannot(t, "it has no exported field and no method to encode it")
		}
		if ptr := reflect.PointerTo(t); ptr.Implements(classedType) {
			p.class = reflect.New(t).Interface().(Classed).PHPClass()
			if !isClass([]byte(p.class)) {
				return cannot(t, "its method PHPClass returns no name of a class")
			}
		}
	case reflect.Interface:
		if t.NumMethod() != 0 {
			return cannot(t, "it could not be decoded; use any or a concrete type")
		}
		p.op = opAny
	default:
		return cannot(t, "there is no such value in PHP")
	}
	return err
}

// methods reports whether the type has methods that encode and decode it.
func (p *plan) methods() (bool, error) {
	ptr := reflect.PointerTo(p.typ)
	for _, m := range [...]struct {
		op       op
		enc, dec reflect.Type
	}{
		{opText, textEncoder, textDecoder},
		{opBinary, binaryEncoder, binaryDecoder},
	} {
		if !ptr.Implements(m.enc) {
			continue
		}
		if !ptr.Implements(m.dec) {
			return false, cannot(p.typ, "it has a method to encode it, and none to decode it")
		}
		p.op = m.op
		return true, nil
	}
	return false, nil
}

// addFields adds the fields of t. t is the type of p, or is embedded in it at index.
func (b *builder) addFields(p *plan, t reflect.Type, index []int, path []reflect.Type) error {
	if slices.Contains(path, t) {
		return cannot(p.typ, "it embeds itself")
	}
	path = append(path, t)
	for i := range t.NumField() {
		f := t.Field(i)
		name, tagged := f.Tag.Lookup("php")
		if name == "-" {
			continue
		}
		at := append(slices.Clone(index), i)
		if f.Anonymous && !tagged && f.Type.Kind() == reflect.Struct && !ownMethods(f.Type) {
			if err := b.addFields(p, f.Type, at, path); err != nil {
				return err
			}
			continue
		}
		if !f.IsExported() {
			if f.Type.Size() > 0 && !isLock(f.Type) {
				p.hidden = append(p.hidden, at)
			}
			continue
		}
		if strings.ContainsAny(name, ",\x00") {
			return cannot(p.typ, "the tag of "+f.Name+" has a comma or a zero byte in it: it is a name, and has no options")
		}
		if name == "" {
			name = f.Name
		}
		if _, ok := p.byName[name]; ok {
			return cannot(p.typ, fmt.Sprintf("two fields are encoded as %q", name))
		}
		fp, err := b.build(f.Type)
		if err != nil {
			return err
		}
		p.byName[name] = len(p.fields)
		p.ints = p.ints || isInt(name)
		p.fields = append(p.fields, field{name, at, fp})
	}
	return nil
}

// isLock reports whether t is a lock, whose state is not a part of a value.
func isLock(t reflect.Type) bool {
	return t == reflect.TypeFor[sync.Mutex]() || t == reflect.TypeFor[sync.RWMutex]()
}

// ownMethods reports whether an embedded struct stays one value.
func ownMethods(t reflect.Type) bool {
	ptr := reflect.PointerTo(t)
	for _, i := range [...]reflect.Type{textEncoder, textDecoder, binaryEncoder, binaryDecoder, classedType} {
		if ptr.Implements(i) {
			return true
		}
	}
	switch t {
	case objectType, enumType, opaqueType:
		return true
	}
	return false
}
