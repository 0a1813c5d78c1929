// Package readback tells whether a value was read back equal to the one that was
// written.
package readback

import (
	"bytes"
	"math"
	"reflect"
	"sync"
	"time"
)

var (
	timeType = reflect.TypeFor[time.Time]()
	anyType  = reflect.TypeFor[any]()
)

// A Comparer tells whether a value was read back equal, by the rules in the comment
// of package codec.
type Comparer struct {
	// Own reports whether values of a type encode themselves.
	Own func(reflect.Type) bool
	// LeftOut reports whether the tag of a field says to leave it out.
	LeftOut func(reflect.StructField) bool
	// Alone encodes a value by itself and checks that it can be read back. null
	// reports that its encoding is that of nil.
	Alone func(v any) (null bool, err error)

	seen map[[2]any]bool // pairs of pointers seen so far
}

// Back compares x, which was written, with y, which was read; both are
// addressable. It names the part that differs, or returns "".
func (c *Comparer) Back(x, y reflect.Value) string { return c.same(x, y, false) }

// same is Back for a part. inside is set in a value whose methods encode it: its
// unexported fields may have been read back too, and the methods decide about
// the values that it has in an any.
func (c *Comparer) same(x, y reflect.Value, inside bool) string {
	t := x.Type()
	if isLock(t) {
		return ""
	}
	if t == timeType {
		if x, y := reveal(x), reveal(y); x.CanInterface() && y.CanInterface() {
			return differs(x.Interface().(time.Time).Equal(y.Interface().(time.Time)), t)
		}
	}
	own := t.Kind() != reflect.Interface && c.Own(t)
	if own {
		if equal, ok := byMethod(x, y); ok {
			return differs(equal, t)
		}
	}
	inside = inside || own

	switch t.Kind() {
	case reflect.Bool:
		return differs(x.Bool() == y.Bool(), t)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return differs(x.Int() == y.Int(), t)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		return differs(x.Uint() == y.Uint(), t)
	case reflect.Float32, reflect.Float64:
		return differs(x.Float() == y.Float() || math.IsNaN(x.Float()) && math.IsNaN(y.Float()), t)
	case reflect.Complex64, reflect.Complex128:
		return differs(x.Complex() == y.Complex(), t)
	case reflect.String:
		return differs(x.String() == y.String(), t)
	case reflect.Slice, reflect.Array:
		return c.list(x, y, inside)
	case reflect.Map:
		return c.mapping(x, y, inside)
	case reflect.Pointer:
		if x.IsNil() || y.IsNil() || x.Pointer() == y.Pointer() {
			return differs(x.Pointer() == y.Pointer(), t)
		}
		if inside { // nothing else can contain itself
			pair := [2]any{x.UnsafePointer(), y.UnsafePointer()}
			if c.seen[pair] {
				return ""
			}
			if c.seen == nil {
				c.seen = make(map[[2]any]bool)
			}
			c.seen[pair] = true
		}
		return c.same(x.Elem(), y.Elem(), inside)
	case reflect.Interface:
		return c.content(x, y, inside)
	case reflect.Struct:
		return c.fields(x, y, inside)
	case reflect.Func:
		return differs(x.IsNil() == y.IsNil(), t)
	}
	return differs(x.Pointer() == y.Pointer(), t) // a channel, an unsafe pointer
}

func differs(equal bool, t reflect.Type) string {
	if equal {
		return ""
	}
	return "a " + t.String() + " in it"
}

// reveal gives access to an unexported field that has an address.
func reveal(v reflect.Value) reflect.Value {
	if !v.CanInterface() && v.CanAddr() {
		return reflect.NewAt(v.Type(), v.Addr().UnsafePointer()).Elem()
	}
	return v
}

// byMethod calls the method Equal, Cmp or Compare of the type, if it has one.
func byMethod(x, y reflect.Value) (equal, ok bool) {
	x, y = reveal(x), reveal(y)
	if !x.CanAddr() || !y.CanAddr() || !x.CanInterface() || !y.CanInterface() {
		return false, false
	}
	if k := x.Kind(); (k == reflect.Map || k == reflect.Slice) && (x.IsNil() || y.IsNil()) {
		return false, false
	}
	p := x.Addr()
	// The names are constants, because the linker would otherwise keep the methods
	// of all types.
	for _, m := range [...]reflect.Value{p.MethodByName("Equal"), p.MethodByName("Cmp"), p.MethodByName("Compare")} {
		if !m.IsValid() || m.Type().NumIn() != 1 || m.Type().NumOut() != 1 || m.Type().IsVariadic() {
			continue
		}
		arg := y
		switch m.Type().In(0) {
		case y.Type():
		case p.Type():
			arg = y.Addr()
		default:
			continue
		}
		switch m.Type().Out(0) {
		case reflect.TypeFor[bool]():
			return m.Call([]reflect.Value{arg})[0].Bool(), true
		case reflect.TypeFor[int]():
			return m.Call([]reflect.Value{arg})[0].Int() == 0, true
		}
	}
	return false, false
}

func (c *Comparer) list(x, y reflect.Value, inside bool) string {
	if x.Len() != y.Len() {
		return differs(false, x.Type())
	}
	if x.Kind() == reflect.Slice && x.Type().Elem().Kind() == reflect.Uint8 {
		return differs(bytes.Equal(x.Bytes(), y.Bytes()), x.Type())
	}
	for i := range x.Len() {
		if d := c.same(x.Index(i), y.Index(i), inside); d != "" {
			return d
		}
	}
	return ""
}

func (c *Comparer) mapping(x, y reflect.Value, inside bool) string {
	if x.Len() != y.Len() {
		return differs(false, x.Type())
	}
	for it := x.MapRange(); it.Next(); {
		key := it.Key()
		if key.Kind() == reflect.Interface {
			key = keyInAny(key.Elem())
		}
		other := reflect.Value{}
		if key.IsValid() {
			other = y.MapIndex(key)
		}
		if !other.IsValid() {
			return "a key of a " + x.Type().String() + " in it"
		}
		if d := c.same(it.Value(), other, inside); d != "" {
			return d
		}
	}
	return ""
}

// keyInAny returns the value as which a key of type any is read back, or no value
// if that is not known.
func keyInAny(key reflect.Value) reflect.Value {
	switch key.Kind() {
	case reflect.Invalid:
		return reflect.Zero(anyType)
	case reflect.Bool:
		return reflect.ValueOf(key.Bool())
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return reflect.ValueOf(key.Int())
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		if key.Uint() <= math.MaxInt64 {
			return reflect.ValueOf(int64(key.Uint()))
		}
		return reflect.ValueOf(key.Uint())
	case reflect.Float32, reflect.Float64:
		return reflect.ValueOf(key.Float())
	case reflect.String:
		return reflect.ValueOf(key.String())
	}
	if key.Type() == timeType && key.CanInterface() {
		return reflect.ValueOf(key.Interface().(time.Time).UTC().Round(0))
	}
	return reflect.Value{}
}

// content compares the values in two interfaces. Their types may differ: see
// codec.MessagePack.Unmarshal for the types that an any gets.
func (c *Comparer) content(x, y reflect.Value, inside bool) string {
	t := x.Type()
	x, y = x.Elem(), y.Elem()
	switch {
	case !x.IsValid():
		return differs(!y.IsValid(), t)
	case y.IsValid() && x.Type() == y.Type():
		return c.same(x, y, inside)
	case !inside && x.CanInterface():
		if !y.IsValid() && isEmpty(x) {
			return ""
		}
		if c.Own(x.Type()) || !y.IsValid() || !simple(x.Kind()) {
			null, err := c.Alone(x.Interface())
			if err != nil || !y.IsValid() && !null {
				return differs(false, x.Type())
			}
			return ""
		}
	}
	return differs(y.IsValid() && sameScalar(x, y), x.Type())
}

// isEmpty reports whether v may become nil in an any, because of omitempty or
// because it was nil.
func isEmpty(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Pointer:
		return v.IsNil()
	case reflect.Map, reflect.Slice, reflect.Array:
		return v.Len() == 0
	}
	return false
}

func simple(k reflect.Kind) bool { return k <= reflect.Float64 || k == reflect.String }

// sameScalar compares values of different types.
func sameScalar(x, y reflect.Value) bool {
	switch {
	case x.Kind() == reflect.Bool && y.Kind() == reflect.Bool:
		return x.Bool() == y.Bool()
	case x.Kind() == reflect.String && y.Kind() == reflect.String:
		return x.String() == y.String()
	case x.Kind() == reflect.Float32 && y.CanFloat(): // as short as float32 allows, in JSON
		return float32(x.Float()) == float32(y.Float()) || math.IsNaN(x.Float()) && math.IsNaN(y.Float())
	case x.CanFloat() && y.CanFloat():
		return x.Float() == y.Float() || math.IsNaN(x.Float()) && math.IsNaN(y.Float())
	case x.CanInt() && y.CanInt():
		return x.Int() == y.Int()
	case x.CanUint() && y.CanUint():
		return x.Uint() == y.Uint()
	case x.CanInt() && y.CanUint():
		return x.Int() >= 0 && uint64(x.Int()) == y.Uint()
	case x.CanUint() && y.CanInt():
		return y.Int() >= 0 && uint64(y.Int()) == x.Uint()
	case x.CanInt() && y.CanFloat():
		f := y.Float()
		return f >= -1<<63 && f < 1<<63 && int64(f) == x.Int() && float64(int64(f)) == f
	case x.CanUint() && y.CanFloat():
		f := y.Float()
		return f >= 0 && f < 1<<64 && uint64(f) == x.Uint() && float64(uint64(f)) == f
	}
	return false
}

func (c *Comparer) fields(x, y reflect.Value, inside bool) string {
	t := x.Type()
	if !inside && isHidden(t) {
		return "a " + t.String() + ", which has no exported field,"
	}
	for i := range t.NumField() {
		f := t.Field(i)
		if c.LeftOut(f) {
			continue
		}
		fx, fy := x.Field(i), y.Field(i)
		e := f.Type
		if !inside && (!f.IsExported() && !f.Anonymous || f.Anonymous && isHidden(e) && !c.Own(e)) {
			// It is not encoded, so it must be zero.
			if !fx.IsZero() && !isLock(e) {
				return "the field " + f.Name + " of " + t.String() + ", which is not exported,"
			}
			continue
		}
		if d := c.same(fx, fy, inside); d != "" {
			return "the field " + f.Name + " of " + t.String()
		}
	}
	return ""
}

// isLock reports whether t is a lock, whose state is not a part of a value.
func isLock(t reflect.Type) bool {
	return t == reflect.TypeFor[sync.Mutex]() || t == reflect.TypeFor[sync.RWMutex]()
}

// isHidden reports whether t is a struct that has fields, but no exported or
// embedded one.
func isHidden(t reflect.Type) bool {
	if t.Kind() != reflect.Struct {
		return false
	}
	for i := range t.NumField() {
		if f := t.Field(i); f.IsExported() || f.Anonymous {
			return false
		}
	}
	return t.NumField() > 0
}
