package codec

import (
	"encoding/json"
	"reflect"
	"strings"
	"sync"
	"unicode"

	"github.com/seed-a7bee19b/session/internal/room"
)

// jsonType has the facts about a type that JSON needs.
type jsonType struct {
	// doubtful: encoding a value may lose a part of it, so it is read back and
	// compared.
	doubtful bool
	// needsAddr: the type, or a part of it, has its methods on the pointer.
	needsAddr bool
	// perByte bounds the memory for decoding one byte of data.
	perByte int

	met map[reflect.Type]bool
}

// jsonTypes caches the jsonType of each type.
var jsonTypes sync.Map // reflect.Type to *jsonType

func jsonTypeFor(t reflect.Type) *jsonType {
	if v, ok := jsonTypes.Load(t); ok {
		return v.(*jsonType)
	}
	j := &jsonType{met: make(map[reflect.Type]bool)}
	j.look(t)
	j.met = nil
	jsonTypes.Store(t, j)
	return j
}

var (
	jsonNumber  = reflect.TypeFor[json.Number]()
	jsonEncoder = reflect.TypeFor[json.Marshaler]()
	jsonDecoder = reflect.TypeFor[json.Unmarshaler]()
)

// jsonWritesItself reports whether values of t have a method to encode them.
func jsonWritesItself(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	return p.Implements(jsonEncoder) || p.Implements(textEncoder)
}

// jsonReadsItself reports whether values of t have a method to decode them.
func jsonReadsItself(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	return p.Implements(jsonDecoder) || p.Implements(textDecoder)
}

// look examines t and the types of its parts.
func (j *jsonType) look(t reflect.Type) {
	if j.met[t] {
		return
	}
	j.met[t] = true
	if t.Kind() != reflect.Interface && (jsonWritesItself(t) || jsonReadsItself(t)) {
		j.doubtful = true
		j.needsAddr = j.needsAddr || jsonReadsItself(t) && !t.Implements(jsonEncoder) && !t.Implements(textEncoder)
		return
	}
	switch t.Kind() {
	case reflect.Bool, reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr,
		reflect.Float32, reflect.Float64:
	case reflect.String:
		j.doubtful = j.doubtful || t == jsonNumber
	case reflect.Array:
		j.look(t.Elem())
	case reflect.Slice:
		// Each element takes at least a digit and a comma, and may not fit.
		j.costs((grown(t.Elem()) + room.Pointed(t.Elem()) + errorRoom) / 2)
		j.look(t.Elem())
	case reflect.Map:
		switch t.Key().Kind() {
		case reflect.String, reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
			reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
			j.look(t.Key())
		default:
			j.doubtful = true
		}
		j.costs((room.Map(t, 1) + errorRoom) / 6) // {"":0}
		j.look(t.Elem())
	case reflect.Pointer:
		switch t.Elem().Kind() {
		case reflect.Pointer, reflect.Slice, reflect.Map, reflect.Interface:
			j.doubtful = true // nil at either level is written as null
		}
		j.costs(room.Pointed(t))
		j.look(t.Elem())
	case reflect.Struct:
		j.lookStruct(t)
	default:
		j.doubtful = true
	}
}

func (j *jsonType) costs(perByte int) { j.perByte = max(j.perByte, perByte) }

func (j *jsonType) lookStruct(t reflect.Type) {
	names := make(map[string]bool)
	for i := range t.NumField() {
		f := t.Field(i)
		if jsonLeftOut(f) {
			continue
		}
		if !f.IsExported() && !f.Anonymous {
			// Only a zero value may be left out without a tag.
			j.doubtful = j.doubtful || f.Type.Size() > 0
			continue
		}
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" {
			name = f.Name
		}
		if f.Anonymous || names[name] || strings.ContainsFunc(name, unusual) ||
			options != "" && options != "omitempty" && options != "omitzero" || options == "omitzero" && saysZero(f.Type) {
			j.doubtful = true
		}
		names[name] = true
		j.look(f.Type)
	}
}

func unusual(r rune) bool {
	return r != '_' && r != '-' && !unicode.IsLetter(r) && !unicode.IsDigit(r)
}

// jsonLeftOut reports whether the tag of a field says that it is not encoded.
func jsonLeftOut(f reflect.StructField) bool { return f.Tag.Get("json") == "-" }
