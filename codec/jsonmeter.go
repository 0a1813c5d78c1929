package codec

import (
	"encoding/json"
	"math"
	"reflect"
	"slices"
	"strings"
	"unicode"

	"github.com/seed-a7bee19b/session/internal/room"
)

// A meter goes through JSON along with the type of its target, and adds up the
// memory that encoding/json will take. encoding/json has no limit of its own, and
// grows an array by a quarter at a time. The result may be too high, but never
// too low.
type meter struct {
	scanner // of data that was found valid
	left    int
	structs map[reflect.Type]*jsonFields
}

// jsonFields are the fields of a struct by the names that they have in JSON.
type jsonFields struct {
	byName   map[string]jsonField
	byFolded map[string][]string
	embedded int // memory for embedded pointers
}

type jsonField struct {
	typ    reflect.Type // nil if encoding/json knows no field by this name
	depth  int
	tagged bool
}

var anyType = reflect.TypeFor[any]()

// measure fails if data takes more memory, as a t, than its length allows.
func measure(data []byte, t reflect.Type) error {
	m := meter{scanner: scanner{data: data}, left: room.Allowance(len(data)), structs: make(map[reflect.Type]*jsonFields)}
	return m.read(t)
}

func (m *meter) charge(size int) error {
	if m.left -= size; m.left < 0 {
		return errMemory
	}
	return nil
}

// grown returns the memory that one more element takes while a list grows.
func grown(elem reflect.Type) int { return int(elem.Size()) * 25 / 4 }

// errorRoom is the memory that encoding/json takes to record that a value does
// not fit.
const errorRoom = 128

func (m *meter) skip() error { return m.value(math.MaxInt) }

// read measures the next value, whose target is a t.
func (m *meter) read(t reflect.Type) error {
	c := m.peek()
	for t.Kind() == reflect.Pointer && c != 'n' {
		t = t.Elem()
		if err := m.charge(room.Of(int(t.Size()))); err != nil {
			return err
		}
	}
	k := t.Kind()
	switch {
	case c == 'n' || k != reflect.Interface && jsonReadsItself(t):
		return m.skip()
	case c == '[' && (k == reflect.Slice || k == reflect.Array):
		return m.list(t.Elem())
	case c == '[' && k == reflect.Interface:
		if err := m.charge(24); err != nil {
			return err
		}
		return m.list(anyType)
	case c == '{' && (k == reflect.Map || k == reflect.Struct || k == reflect.Interface):
		return m.object(t)
	case k == reflect.Struct || k == reflect.Map || k == reflect.Array:
		if err := m.charge(errorRoom); err != nil {
			return err
		}
	}
	start := m.pos
	if err := m.skip(); err != nil {
		return err
	}
	size := room.Of(m.pos - start)
	if c != '"' && m.pos-start > 1 { // a number, which may be out of range
		size += errorRoom
	}
	if k == reflect.Interface {
		size += 16
	}
	return m.charge(size)
}

// items calls each for the elements of the array or object at hand.
func (m *meter) items(each func(i int) error) error {
	end := m.peek() + 2
	m.pos++
	for i := 0; ; i++ {
		if m.next(end) {
			return nil
		}
		if i > 0 {
			m.pos++ // the comma
		}
		if err := each(i); err != nil {
			return err
		}
	}
}

func (m *meter) list(elem reflect.Type) error {
	size := room.Of(int(elem.Size()))
	return m.items(func(i int) error {
		if i == 1 {
			size = grown(elem)
		}
		if err := m.charge(size); err != nil {
			return err
		}
		return m.read(elem)
	})
}

func (m *meter) object(t reflect.Type) error {
	switch t.Kind() {
	case reflect.Struct:
		return m.fields(t)
	case reflect.Interface:
		t = reflect.TypeFor[map[string]any]()
	}
	empty := room.Map(t, 0)
	size := room.Map(t, 1) - empty
	if err := m.charge(empty); err != nil {
		return err
	}
	return m.items(func(i int) error {
		if i == 1 {
			size = (room.Map(t, 100) - empty) / 100
		}
		start := m.pos
		if err := m.str(); err != nil {
			return err
		}
		if err := m.charge(size + room.Of(int(t.Key().Size())) + room.Of(m.pos-start-2)); err != nil {
			return err
		}
		m.pos++ // the colon
		return m.read(t.Elem())
	})
}

func (m *meter) fields(t reflect.Type) error {
	f := m.structs[t]
	if f == nil {
		f = fieldsOf(t)
		m.structs[t] = f
	}
	if err := m.charge(f.embedded); err != nil {
		return err
	}
	return m.items(func(int) error {
		start := m.pos
		if err := m.str(); err != nil {
			return err
		}
		name := string(m.data[start+1 : m.pos-1])
		if strings.ContainsRune(name, '\\') {
			if err := json.Unmarshal(m.data[start:m.pos], &name); err != nil {
				return err
			}
		}
		m.pos++ // the colon
		if t := f.find(name); t != nil {
			return m.read(t)
		}
		return m.skip()
	})
}

func fieldsOf(t reflect.Type) *jsonFields {
	f := &jsonFields{byName: make(map[string]jsonField), byFolded: make(map[string][]string)}
	f.add(t, 0, nil)
	for name := range f.byName {
		f.byFolded[fold(name)] = append(f.byFolded[fold(name)], name)
	}
	return f
}

// add adds the fields of t, which is embedded in path, by the rules of Go for
// embedded fields, as encoding/json extends them to tags.
func (f *jsonFields) add(t reflect.Type, depth int, path []reflect.Type) {
	if slices.Contains(path, t) {
		return
	}
	path = append(path, t)
	for i := range t.NumField() {
		sf := t.Field(i)
		if jsonLeftOut(sf) {
			continue
		}
		name, _, _ := strings.Cut(sf.Tag.Get("json"), ",")
		tagged := name != ""
		if sf.Anonymous && !tagged {
			e := sf.Type
			if e.Kind() == reflect.Pointer {
				e = e.Elem()
				f.embedded += room.Of(int(e.Size()))
			}
			if e.Kind() == reflect.Struct {
				f.add(e, depth+1, path)
				continue
			}
		}
		if !tagged {
			name = sf.Name
		}
		was, ok := f.byName[name]
		switch {
		case !ok || depth < was.depth || depth == was.depth && tagged && !was.tagged:
			f.byName[name] = jsonField{sf.Type, depth, tagged}
		case depth == was.depth && tagged == was.tagged:
			f.byName[name] = jsonField{nil, depth, tagged}
		}
	}
}

// find returns the type of the field with a name, the largest of several
// candidates, or nil.
func (f *jsonFields) find(name string) (t reflect.Type) {
	if f, ok := f.byName[name]; ok {
		return f.typ
	}
	for _, other := range f.byFolded[fold(name)] {
		if o := f.byName[other].typ; t == nil || o != nil && o.Size() > t.Size() {
			t = o
		}
	}
	return t
}

// fold returns one form for all names that encoding/json does not distinguish.
func fold(name string) string {
	return strings.Map(func(r rune) rune {
		least := r
		for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
			least = min(least, f)
		}
		return least
	}, name)
}
