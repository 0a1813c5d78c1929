package codec

import (
	"encoding"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vmihailenco/msgpack/v5"

	"github.com/seed-a7bee19b/session/internal/room"
)

// op names a way to read a value.
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
	opCustom // DecodeMsgpack
	opRaw    // UnmarshalMsgpack
	opBinary // UnmarshalBinary
	opText   // UnmarshalText
)

// plan says how to encode and decode a type. Plans of recursive types are
// cyclic. A plan does not change after planFor has returned it.
type plan struct {
	typ       reflect.Type
	op        op
	key, elem *plan
	fields    []field
	byName    map[string]int // index in fields
	asArray   bool

	// dynamic: a value may nest deeper than its type, or hold types that cannot
	// be known from its type.
	dynamic bool
	// unsorted: the encoder may write a map whose keys are in no order.
	unsorted bool
	// needsAddr: the type, or a part of it, has its methods on the pointer.
	needsAddr bool
	// doubtful: encoding a value may lose a part of it, so it is read back and
	// compared.
	doubtful bool
	// perByte bounds the memory for decoding one byte of data.
	perByte int

	busy bool
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
			changed = p.inherit(p.key) || changed
			changed = p.inherit(p.elem) || changed
			for i := range p.fields {
				changed = p.inherit(p.fields[i].plan) || changed
			}
		}
	}
	plans.Store(t, p)
	return p, nil
}

// inherit gives p the properties of a part of it.
func (p *plan) inherit(part *plan) bool {
	if part == nil {
		return false
	}
	was := *p
	p.dynamic = p.dynamic || part.dynamic
	p.unsorted = p.unsorted || part.unsorted
	p.needsAddr = p.needsAddr || part.needsAddr
	p.doubtful = p.doubtful || part.doubtful
	p.perByte = max(p.perByte, part.perByte)
	return was.dynamic != p.dynamic || was.unsorted != p.unsorted || was.needsAddr != p.needsAddr ||
		was.doubtful != p.doubtful || was.perByte != p.perByte
}

type builder struct{ plans map[reflect.Type]*plan }

var (
	timeType      = reflect.TypeFor[time.Time]()
	customEncoder = reflect.TypeFor[msgpack.CustomEncoder]()
	customDecoder = reflect.TypeFor[msgpack.CustomDecoder]()
	rawEncoder    = reflect.TypeFor[msgpack.Marshaler]()
	rawDecoder    = reflect.TypeFor[msgpack.Unmarshaler]()
	binaryEncoder = reflect.TypeFor[encoding.BinaryMarshaler]()
	binaryDecoder = reflect.TypeFor[encoding.BinaryUnmarshaler]()
	textEncoder   = reflect.TypeFor[encoding.TextMarshaler]()
	textDecoder   = reflect.TypeFor[encoding.TextUnmarshaler]()
)

func cannot(t reflect.Type, why string) error {
	return fmt.Errorf("codec: MessagePack: cannot encode %v: %s", t, why)
}

// maxPointers bounds the pointers to pointers in a type, because a type can be a
// pointer to itself.
const maxPointers = 4

func (b *builder) build(t reflect.Type) (*plan, error) {
	if p, ok := b.plans[t]; ok {
		p.dynamic = p.dynamic || p.busy
		return p, nil
	}
	p := &plan{typ: t, busy: true}
	b.plans[t] = p
	err := b.fill(p)
	p.busy = false
	return p, err
}

func (b *builder) fill(p *plan) (err error) {
	t := p.typ
	if t == timeType {
		p.op = opTime
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
		p.elem, err = b.build(t.Elem())
		p.perByte = room.Pointed(t)
		switch t.Elem().Kind() {
		case reflect.Pointer, reflect.Slice, reflect.Map, reflect.Interface:
			p.doubtful = true // nil at either level is written as nil
		}
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
		case opBool, opInt, opUint, opString:
		default:
			p.doubtful = true // keys may become equal to each other, or be NaN
		}
		p.perByte = room.Map(t, 1)
		p.elem, err = b.build(t.Elem())
		// The encoder sorts only the keys of exactly these types.
		e := t.Elem()
		p.unsorted = t.Key() != reflect.TypeFor[string]() ||
			e != reflect.TypeFor[string]() && e != reflect.TypeFor[bool]() && e != reflect.TypeFor[any]()
	case reflect.Struct:
		p.op = opStruct
		p.byName = make(map[string]int)
		if err = b.addFields(p, t, nil, nil); err == nil && len(p.fields) == 0 && hasHidden(t) {
			err = cannot(t, "it has no exported field and no method to encode it")
		}
	case reflect.Interface:
		if t.NumMethod() != 0 {
			return cannot(t, "it could not be decoded; use any or a concrete type")
		}
		p.op = opAny
		p.dynamic = true
	default:
		return cannot(t, "there is no such value in MessagePack")
	}
	return err
}

// methods reports whether the encoder uses a method of the type, and finds the
// method that reads the value back.
func (p *plan) methods() (bool, error) {
	t, ptr := p.typ, reflect.PointerTo(p.typ)
	for _, m := range [...]struct {
		op       op
		enc, dec reflect.Type
	}{
		{opCustom, customEncoder, customDecoder},
		{opRaw, rawEncoder, rawDecoder},
		{opBinary, binaryEncoder, binaryDecoder},
		{opText, textEncoder, textDecoder},
	} {
		if !ptr.Implements(m.enc) {
			continue
		}
		p.op = m.op
		if !ptr.Implements(m.dec) {
			return false, cannot(t, "it has a method to encode it, and none to decode it")
		}
		// Maps that these methods write may be in any order.
		p.unsorted = m.op == opCustom || m.op == opRaw
		p.needsAddr = !t.Implements(m.enc)
		p.doubtful = true
		return true, nil
	}
	return false, nil
}

func hasHidden(t reflect.Type) bool {
	for i := range t.NumField() {
		if !t.Field(i).IsExported() {
			return true
		}
	}
	return false
}

var errIntern = errors.New("the tag option intern makes values depend on each other")

// addFields adds the fields of t by the rules of the encoder. t is the type of p,
// or is embedded in it at index.
func (b *builder) addFields(p *plan, t reflect.Type, index []int, path []reflect.Type) error {
	if slices.Contains(path, t) {
		return cannot(p.typ, "it embeds itself")
	}
	path = append(path, t)
	for i := range t.NumField() {
		f := t.Field(i)
		tag := f.Tag.Get("msgpack")
		if tag == "" {
			tag = f.Tag.Get("json")
		}
		options := strings.Split(tag, ",")
		name := options[0]
		options = options[1:]
		if name == "-" {
			// encoding/json takes "-" followed by an option for a name.
			p.doubtful = p.doubtful || tag != "-"
			continue
		}
		if f.Name == "_msgpack" {
			p.asArray = len(path) == 1 && (slices.Contains(options, "as_array") || slices.Contains(options, "asArray"))
		}
		if f.Name == "_msgpack" && slices.Contains(options, "omitempty") {
			p.doubtful = true
		}
		if !f.IsExported() && !f.Anonymous {
			// Only a zero value may be left out without a tag.
			p.doubtful = p.doubtful || f.Type.Size() > 0
			continue
		}
		if f.Anonymous && f.Type.Kind() != reflect.Struct || slices.Contains(options, "noinline") || slices.Contains(options, "inline") {
			p.doubtful = true
		}
		if slices.Contains(options, "omitempty") && !plainlyEmpty(f.Type) {
			p.doubtful = true
		}
		if slices.Contains(options, "intern") {
			return cannot(p.typ, errIntern.Error())
		}
		if name == "" {
			name = f.Name
		}
		at := append(slices.Clone(index), i)

		if f.Anonymous {
			e := f.Type
			if e.Kind() == reflect.Pointer {
				e = e.Elem()
			}
			if !f.IsExported() && (e.Kind() != reflect.Struct || f.Type.Kind() == reflect.Pointer) {
				return cannot(p.typ, "an embedded field that is not exported could not be decoded")
			}
			if e.Kind() == reflect.Struct && e != timeType && !slices.Contains(options, "noinline") {
				if slices.Contains(options, "inline") || !ownMethods(e) {
					if err := b.addFields(p, e, at, path); err != nil {
						return err
					}
					continue
				}
			}
		}

		fp, err := b.build(f.Type)
		if err != nil {
			return err
		}
		names := []string{name}
		for _, o := range options {
			if alias, ok := strings.CutPrefix(o, "alias:"); ok {
				names = append(names, alias)
			}
		}
		for _, n := range names {
			if _, ok := p.byName[n]; ok {
				return cannot(p.typ, fmt.Sprintf("two fields are encoded as %q", n))
			}
			p.byName[n] = len(p.fields)
		}
		p.fields = append(p.fields, field{name, at, fp})
	}
	return nil
}

// plainlyEmpty reports whether a value of t that omitempty leaves out is zero,
// or an empty slice or map.
func plainlyEmpty(t reflect.Type) bool {
	return !saysZero(t) && t.Kind() != reflect.Interface && t.Kind() != reflect.Struct
}

// saysZero reports whether values of t have a method IsZero.
func saysZero(t reflect.Type) bool {
	_, ok := t.MethodByName("IsZero")
	if !ok {
		_, ok = reflect.PointerTo(t).MethodByName("IsZero")
	}
	return ok
}

// writesItself reports whether values of t have a method to encode them.
func writesItself(t reflect.Type) bool {
	ptr := reflect.PointerTo(t)
	return ptr.Implements(customEncoder) || ptr.Implements(rawEncoder) ||
		ptr.Implements(binaryEncoder) || ptr.Implements(textEncoder)
}

// leftOut reports whether the tag of a field says that it is not encoded.
func leftOut(f reflect.StructField) bool {
	tag := f.Tag.Get("msgpack")
	if tag == "" {
		tag = f.Tag.Get("json")
	}
	return tag == "-" || f.Name == "_msgpack"
}

// ownMethods reports whether an embedded struct stays one value because it
// encodes or decodes itself.
func ownMethods(t reflect.Type) bool {
	ptr := reflect.PointerTo(t)
	for _, i := range [...]reflect.Type{
		customEncoder, customDecoder, rawEncoder, rawDecoder,
		binaryEncoder, binaryDecoder, textEncoder, textDecoder,
	} {
		if ptr.Implements(i) {
			return true
		}
	}
	return false
}

// checker examines a value of a dynamic type before it is encoded: the encoder
// has no limit of its own, and a value that contains itself would end the
// program.
type checker struct {
	left     int // steps, so that shared parts cannot multiply without end
	unsorted bool
	doubtful bool
}

func (c *checker) check(p *plan, v reflect.Value, depth int) error {
	if !p.dynamic {
		return nil
	}
	if depth <= 0 {
		return errTooDeep
	}
	if c.left--; c.left < 0 {
		return errSize
	}
	depth--
	switch p.op {
	case opAny:
		if v.IsNil() {
			return nil
		}
		dp, err := planFor(v.Elem().Type())
		if err != nil {
			return err
		}
		c.unsorted = c.unsorted || dp.unsorted
		c.doubtful = c.doubtful || dp.doubtful
		return c.check(dp, v.Elem(), depth)
	case opPtr:
		if v.IsNil() {
			return nil
		}
		return c.check(p.elem, v.Elem(), depth)
	case opSlice, opArray:
		for i := range v.Len() {
			if err := c.check(p.elem, v.Index(i), depth); err != nil {
				return err
			}
		}
	case opMap:
		for it := v.MapRange(); it.Next(); {
			if p.key.dynamic { // checked here because Key and Value allocate
				if err := c.check(p.key, it.Key(), depth); err != nil {
					return err
				}
			}
			if p.elem.dynamic {
				if err := c.check(p.elem, it.Value(), depth); err != nil {
					return err
				}
			}
		}
	case opStruct:
		for i := range p.fields {
			f, err := v.FieldByIndexErr(p.fields[i].index)
			if err != nil {
				continue // behind a nil embedded pointer
			}
			if err := c.check(p.fields[i].plan, f, depth); err != nil {
				return err
			}
		}
	}
	return nil
}
