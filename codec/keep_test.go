package codec_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"net"
	"net/netip"
	"net/url"
	"reflect"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vmihailenco/msgpack/v5"
)

type (
	// Their methods are those of the embedded type, which encode only that type.
	stamped struct {
		time.Time
		Title string
	}
	stampedPtr struct {
		*time.Time
		Title string
	}
	addressed struct {
		netip.Addr
		Port int
	}
	numbered struct {
		*big.Int
		Name string
	}
	linked struct {
		url.URL
		Note string
	}
	deep3 struct {
		Deep2
		C int
	}
	Deep2 struct {
		Deep1
		B int
	}
	Deep1 struct {
		Textual
		A int
	}
	viaInterface struct {
		json.Marshaler
		X int
	}
	viaStringer struct {
		fmt.Stringer
		X int
	}
	secretly struct {
		time.Time
		note string
	}
	onlyStamp struct{ time.Time }
	declared  struct {
		time.Time
		Title string
	} // has methods of its own
	Textual struct{ S string }

	// Their methods are on the pointer.
	onPointer struct{ a, b int }
	lossy     struct{ A, B int }
	lossyText struct{ a, b int }
	jsonOnly  struct{ A int }
	noDecoder struct{ A, B int }
	rounded   struct{ at time.Time } // unexported, and with a monotonic clock
	price     struct {
		cents int64
		exp   int
	}
	weekday  int
	upperKey string
	mixed    struct {
		Name string
		note string
	}
	dash struct {
		A int `json:"-,"` //nolint:staticcheck // what it means differs between the codecs
		B int
	}
	opted struct {
		Name  string
		cache map[string]int `json:"-"`
	}
	guarded struct {
		mu sync.Mutex
		N  int
	}
	ambiguous struct {
		One
		Two
	}
	One        struct{ X int }
	Two        struct{ X int }
	hiddenText struct {
		named
		N int
	}
	emptyOut struct {
		List []int          `json:"list,omitempty"`
		Map  map[string]int `json:",omitempty"`
	}
	anyOut struct {
		Any any `json:"any,omitempty"`
	}
	quoted struct {
		N int    `json:",string"`
		S string `json:",string"`
	}
)

func (t Textual) MarshalText() ([]byte, error)    { return []byte(t.S), nil }
func (t *Textual) UnmarshalText(b []byte) error   { t.S = string(b); return nil }
func (p *onPointer) MarshalText() ([]byte, error) { return fmt.Appendf(nil, "%d/%d", p.a, p.b), nil }
func (p *onPointer) UnmarshalText(b []byte) error {
	_, err := fmt.Sscanf(string(b), "%d/%d", &p.a, &p.b)
	return err
}
func (l lossy) MarshalText() ([]byte, error)      { return fmt.Append(nil, l.A), nil }
func (l *lossy) UnmarshalText(b []byte) error     { _, err := fmt.Sscan(string(b), &l.A); return err }
func (l lossyText) MarshalText() ([]byte, error)  { return fmt.Append(nil, l.a), nil }
func (l *lossyText) UnmarshalText(b []byte) error { _, err := fmt.Sscan(string(b), &l.a); return err }
func (j jsonOnly) MarshalJSON() ([]byte, error)   { return fmt.Append(nil, j.A), nil }
func (n noDecoder) MarshalText() ([]byte, error)  { return fmt.Append(nil, n.A, n.B), nil }
func (r rounded) MarshalText() ([]byte, error)    { return r.at.MarshalText() }
func (r *rounded) UnmarshalText(b []byte) error   { return r.at.UnmarshalText(b) }
func (w weekday) MarshalText() ([]byte, error)    { return []byte(time.Weekday(w).String()), nil }
func (k upperKey) MarshalText() ([]byte, error)   { return []byte(strings.ToUpper(string(k))), nil }
func (k *upperKey) UnmarshalText(b []byte) error  { *k = upperKey(b); return nil }
func (p price) MarshalText() ([]byte, error)      { return fmt.Appendf(nil, "%g", p.value()), nil }
func (p price) value() float64                    { return float64(p.cents) * math.Pow10(p.exp) }
func (p price) Equal(other price) bool            { return p.value() == other.value() }
func (p *price) UnmarshalText(b []byte) error {
	var f float64
	_, err := fmt.Sscan(string(b), &f)
	*p = price{int64(f * 1000), -3}
	return err
}

func (w *weekday) UnmarshalText(b []byte) error {
	for d := range time.Weekday(7) {
		if d.String() == string(b) {
			*w = weekday(d)
			return nil
		}
	}
	return errors.New("no such day: " + string(b))
}

func (d declared) MarshalText() ([]byte, error) {
	return fmt.Appendf(nil, "%d %s", d.UnixNano(), d.Title), nil
}

func (d *declared) UnmarshalText(b []byte) error {
	var n int64
	_, err := fmt.Sscanf(string(b), "%d %s", &n, &d.Title)
	d.Time = time.Unix(0, n)
	return err
}

func (d declared) MarshalJSON() ([]byte, error)    { return jsonText(d) }
func (d *declared) UnmarshalJSON(b []byte) error   { return unjsonText(b, d) }
func (d declared) MarshalBinary() ([]byte, error)  { return d.MarshalText() }
func (d *declared) UnmarshalBinary(b []byte) error { return d.UnmarshalText(b) }
func jsonText(v interface{ MarshalText() ([]byte, error) }) ([]byte, error) {
	b, err := v.MarshalText()
	if err != nil {
		return nil, err
	}
	return json.Marshal(string(b))
}

func unjsonText(b []byte, v interface{ UnmarshalText([]byte) error }) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	return v.UnmarshalText([]byte(s))
}

// The fate of a value.
const (
	kept = iota
	refused
	refusedByJSON
	refusedByMessagePack
)

// TestKeptOrRefused checks that a value is read back equal, or is refused when
// it is set.
func TestKeptOrRefused(t *testing.T) {
	now := time.Now()
	one, null := 1, (*int)(nil)
	locked := &guarded{N: 1}
	locked.mu.Lock()
	// If this were written out, vet would complain about a duplicate name.
	twoNames := reflect.New(reflect.StructOf([]reflect.StructField{
		{Name: "A", Type: reflect.TypeFor[int](), Tag: `json:"x"`},
		{Name: "B", Type: reflect.TypeFor[int](), Tag: `json:"x"`},
	})).Elem()
	twoNames.Field(1).SetInt(2)
	for _, tt := range []struct {
		v    any
		want int
	}{
		{stamped{now, "x"}, refused},
		{&stamped{now, "x"}, refused},
		{[]stamped{{now, ""}, {now, "x"}}, refused},
		{map[string]stamped{"a": {now, "x"}}, refused},
		{struct{ S stamped }{stamped{now, "x"}}, refused},
		{[]any{stamped{now, "x"}}, refused},
		{map[string]any{"a": []any{&stamped{now, "x"}}}, refused},
		{stampedPtr{&now, "x"}, refused},
		{addressed{netip.MustParseAddr("::1"), 80}, refused},
		{numbered{big.NewInt(5), "five"}, refused},
		{linked{url.URL{Path: "/"}, "n"}, refusedByMessagePack}, // it has no method for JSON
		{deep3{Deep2{Deep1{Textual{"s"}, 1}, 2}, 3}, refused},
		{viaInterface{now, 1}, refused},
		{viaStringer{now, 1}, refused},
		{secretly{now, "x"}, refused},
		{onlyStamp{now}, kept},
		{declared{now, "x"}, kept},
		{[]declared{{now, "x"}}, kept},

		{onPointer{1, 2}, kept},
		{&onPointer{1, 2}, kept},
		{[]onPointer{{1, 2}}, kept},
		{struct{ P onPointer }{onPointer{1, 2}}, kept},
		{map[string]onPointer{"a": {1, 2}}, refused}, // values in a map have no address
		{[]any{onPointer{1, 2}}, refused},
		{lossy{1, 2}, refused},
		{lossy{1, 0}, kept},
		{lossyText{1, 2}, refused},
		{jsonOnly{1}, refusedByJSON},
		{noDecoder{1, 2}, refused},
		{rounded{now}, kept},
		{price{150, -2}, kept},
		{weekday(3), kept},
		{map[weekday]int{1: 2}, kept},
		{weekday(9), refused},
		{map[upperKey]int{"a": 1}, refusedByMessagePack}, // JSON writes the string itself
		{map[upperKey]int{"A": 1}, kept},

		{mixed{"a", "b"}, refused},
		{mixed{"a", ""}, kept},
		{opted{"a", map[string]int{"x": 1}}, kept},
		{dash{0, 1}, kept},
		{dash{1, 1}, refusedByMessagePack}, // its library leaves out what encoding/json calls "-"
		{locked, kept},
		{onlyHidden{}, refused},
		{[]onlyHidden{{}}, refused},
		{struct {
			A int
			H onlyHidden
		}{1, onlyHidden{}}, refused},
		{struct {
			A int
			C chan int
		}{A: 1}, refused},
		{struct {
			A int
			C chan int `json:"-"`
		}{A: 1, C: make(chan int)}, kept},
		{struct {
			A int
			F func()
		}{F: func() {}}, refused},
		{struct{ E error }{errors.New("x")}, refused},
		{struct {
			sync.Mutex
			N int
		}{N: 1}, kept},
		{ambiguous{One{1}, Two{2}}, refused},
		{hiddenText{"x", 1}, refused},
		{twoNames.Interface(), refused},
		{complex(1, 2), refused},

		{&null, refused},
		{struct{ P **int }{&null}, refused},
		{[]*[]int{new([]int)}, refused},
		{struct{ P *any }{new(any)}, refused},
		{[]*int{&one, nil}, kept},
		{map[string]*int{"a": nil}, kept},
		{map[string]any{"a": nil, "b": (*int)(nil), "c": []int(nil)}, kept},
		{emptyOut{List: []int{}, Map: map[string]int{}}, kept},
		{anyOut{0}, refusedByMessagePack}, // whose omitempty takes 0 in an any for empty
		{outer{Inner: &Inner{X: 1}}, kept},
		{outer{Inner: &Inner{}}, refused}, // all fields are left out, and it would be read back as nil
		{quoted{1, "a"}, kept},
		{[]int(nil), kept},
		{[]int{}, kept},

		{math.NaN(), refusedByJSON},
		{math.Inf(-1), refusedByJSON},
		{math.Copysign(0, -1), kept},
		{map[float64]string{math.NaN(): "a"}, refused},
		{"\xff", refusedByJSON},
		{map[string]int{"\xff": 1}, refusedByJSON},
		{map[*int]int{&one: 1}, refused},
		{map[time.Time]int{now: 1}, refused},
		{map[any]any{"a": 1, 2: "b", true: 2.5, uint64(1 << 63): nil}, refusedByJSON},
		{map[any]any{nil: 1}, refusedByJSON},
		{[]any{map[[2]int]int{{1, 2}: 3}}, refused},
		{struct{ N any }{1<<53 + 1}, refusedByJSON},
		{struct{ N any }{1 << 53}, kept},
		{struct{ N any }{struct{ ID uint64 }{math.MaxUint64}}, refusedByJSON},
		{map[string]any{"a": []int64{math.MaxInt64}}, refusedByJSON},
		{map[string]any{"a": float32(0.1), "b": big.NewInt(7), "c": time.Minute, "d": now}, kept},
		{[]any{new(big.Int).SetBytes([]byte("123456789"))}, refusedByJSON},
		{[]any{new(big.Int).Lsh(big.NewInt(1), 52)}, kept},

		{now, kept},
		{now.In(time.FixedZone("odd", 3208)), refusedByJSON},                               // RFC 3339 has no seconds in a zone
		{time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC), refusedByJSON},                      // nor five digits in a year
		{struct{ At time.Time }{time.Date(-9, 1, 1, 0, 0, 0, 0, time.UTC)}, refusedByJSON}, // nor a sign
		{json.Number("1.10"), kept},
		{json.Number(""), refusedByJSON},
		{json.RawMessage(`{"a":1}`), kept},
		{json.RawMessage(`{"a": 1}`), refusedByJSON}, // the space would be lost
		{new(big.Int).Sub(big.NewInt(1), big.NewInt(1)), kept},
		{*big.NewInt(7), kept},
		{net.IPv4(1, 2, 3, 4).To4(), kept},
		{regexp.MustCompile("a+(b)?"), kept},
		{url.URL{Host: "h", User: url.UserPassword("u", "p")}, refusedByJSON},
		{msgpack.RawMessage{0x01}, kept},
	} {
		for _, c := range coders {
			name := fmt.Sprintf("%s: %T %+v", c.name, tt.v, tt.v)
			data, err := c.Marshal(tt.v)
			want := tt.want == kept || tt.want == refusedByJSON && c.name != "JSON" || tt.want == refusedByMessagePack && c.name == "JSON"
			if (err == nil) != want {
				t.Errorf("%s: error %v", name, err)
			}
			if err != nil {
				continue
			}
			got := reflect.New(reflect.TypeOf(tt.v))
			if err := c.Unmarshal(data, got.Interface()); err != nil {
				t.Errorf("%s: cannot be read back: %v", name, err)
			}
		}
	}
}

// maker makes types, and values of them.
type maker struct {
	*rand.Rand
	anys bool // an any may be in them
}

var scalars = []reflect.Type{
	reflect.TypeFor[bool](), reflect.TypeFor[int](), reflect.TypeFor[int8](), reflect.TypeFor[int64](), reflect.TypeFor[uint](), reflect.TypeFor[uint8](),
	reflect.TypeFor[uint64](), reflect.TypeFor[float32](), reflect.TypeFor[float64](), reflect.TypeFor[string](), reflect.TypeFor[named](),
	reflect.TypeFor[time.Duration](), reflect.TypeFor[weekday](),
}

// odd are types that a generator does not find.
var odd = []reflect.Type{
	reflect.TypeFor[time.Time](), reflect.TypeFor[stamped](), reflect.TypeFor[addressed](), reflect.TypeFor[deep3](), reflect.TypeFor[onlyStamp](),
	reflect.TypeFor[Textual](), reflect.TypeFor[lossy](), reflect.TypeFor[noDecoder](), reflect.TypeFor[jsonOnly](), reflect.TypeFor[ambiguous](),
	reflect.TypeFor[emptyOut](), reflect.TypeFor[quoted](), reflect.TypeFor[item](), reflect.TypeFor[outer](),
	reflect.TypeFor[Inner](), reflect.TypeFor[arrayed](), reflect.TypeFor[json.Number](), reflect.TypeFor[chan int](), reflect.TypeFor[complex64](),
	reflect.TypeFor[viaStringer](), reflect.TypeFor[node](),
}

// embeddable have no methods, because reflect does not make a working type from
// types with methods.
var embeddable = []reflect.Type{reflect.TypeFor[Inner](), reflect.TypeFor[One](), reflect.TypeFor[Two]()}

func (m maker) typ(depth int) reflect.Type {
	if depth <= 0 {
		return scalars[m.IntN(len(scalars))]
	}
	switch m.IntN(10) {
	case 0, 1:
		return reflect.SliceOf(m.typ(depth - 1))
	case 2:
		return reflect.ArrayOf(m.IntN(3), m.typ(depth-1))
	case 3, 4:
		if key := m.typ(m.IntN(2)); key.Comparable() && key.Kind() != reflect.Interface {
			return reflect.MapOf(key, m.typ(depth-1))
		}
		return reflect.MapOf(reflect.TypeFor[string](), m.typ(depth-1))
	case 5:
		return reflect.PointerTo(m.typ(depth - 1))
	case 6:
		return odd[m.IntN(len(odd))]
	case 7:
		if m.anys {
			return reflect.TypeFor[any]()
		}
	case 8:
		return m.typ(0)
	}
	return m.structure(depth)
}

func (m maker) structure(depth int) (t reflect.Type) {
	var fields []reflect.StructField
	for i := range m.IntN(5) {
		f := reflect.StructField{Name: string(rune('A' + i)), Type: m.typ(depth - 1)}
		switch m.IntN(12) {
		case 0:
			f.Tag = `json:"a"`
		case 1:
			f.Tag = `json:"b,omitempty"`
		case 2:
			f.Tag = `json:",omitzero"`
		case 3:
			f.Tag = `json:",string"`
		case 4:
			f.Tag = `msgpack:"c" json:"d"`
		case 5:
			e := embeddable[m.IntN(len(embeddable))]
			f.Name, f.Type, f.Anonymous = e.Name(), e, true
		}
		fields = append(fields, f)
	}
	defer func() {
		if recover() != nil { // duplicate names, or methods that reflect cannot promote
			t = reflect.TypeFor[item]()
		}
	}()
	return reflect.StructOf(fields)
}

func (m maker) fill(v reflect.Value, depth int) {
	if !v.CanSet() || m.IntN(8) == 0 {
		return
	}
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(m.IntN(2) == 0)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(int64(m.Uint64()) >> m.IntN(64))
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(m.Uint64() >> m.IntN(64))
	case reflect.Float32, reflect.Float64:
		v.SetFloat([]float64{0, 1, -2.5, math.NaN(), math.Inf(1), m.NormFloat64(), math.MaxFloat64}[m.IntN(7)])
	case reflect.String:
		v.SetString([]string{"", "a", "é\u2028<", "1.5", "\xff", "\x00", strings.Repeat("x", 40)}[m.IntN(7)])
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), m.IntN(3), 3))
		for i := range v.Len() {
			m.fill(v.Index(i), depth-1)
		}
	case reflect.Array:
		for i := range v.Len() {
			m.fill(v.Index(i), depth-1)
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for range m.IntN(3) {
			key, elem := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			m.fill(key, depth-1)
			m.fill(elem, depth-1)
			v.SetMapIndex(key, elem)
		}
	case reflect.Pointer:
		if depth > -5 {
			v.Set(reflect.New(v.Type().Elem()))
			m.fill(v.Elem(), depth-1)
		}
	case reflect.Interface:
		if v.NumMethod() == 0 {
			x := reflect.New(m.typ(max(0, depth-1))).Elem()
			m.fill(x, depth-1)
			v.Set(x)
		} else if reflect.TypeFor[time.Time]().Implements(v.Type()) {
			v.Set(reflect.ValueOf(time.Unix(1, 0)))
		}
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(time.Unix(m.Int64N(1e10), m.Int64N(1e9)).UTC()))
			return
		}
		for i := range v.NumField() {
			m.fill(v.Field(i), depth-1)
		}
	}
}

// alike is deep equality, except that NaN equals NaN and empty values may be
// nil.
func alike(x, y reflect.Value) bool {
	if x.Type() == reflect.TypeFor[time.Time]() {
		return x.Interface().(time.Time).Equal(y.Interface().(time.Time))
	}
	switch x.Kind() {
	case reflect.Float32, reflect.Float64:
		return x.Float() == y.Float() || x.Float() != x.Float() && y.Float() != y.Float()
	case reflect.Slice, reflect.Array:
		if x.Len() != y.Len() {
			return false
		}
		for i := range x.Len() {
			if !alike(x.Index(i), y.Index(i)) {
				return false
			}
		}
		return true
	case reflect.Map:
		for it := x.MapRange(); it.Next(); {
			if e := y.MapIndex(it.Key()); !e.IsValid() || !alike(it.Value(), e) {
				return false
			}
		}
		return x.Len() == y.Len()
	case reflect.Pointer:
		return x.IsNil() && y.IsNil() || !x.IsNil() && !y.IsNil() && alike(x.Elem(), y.Elem())
	case reflect.Struct:
		for i := range x.NumField() {
			f := x.Type().Field(i)
			if f.Tag.Get("json") != "-" && (f.IsExported() || f.Anonymous) && x.Field(i).CanInterface() && !alike(x.Field(i), y.Field(i)) {
				return false
			}
		}
		return true
	}
	return reflect.DeepEqual(x.Interface(), y.Interface())
}

// checkKept makes a value of a generated type, and reports whether it was kept.
func checkKept(t *testing.T, c coder, seed uint64, anys bool) bool {
	m := maker{rand.New(rand.NewPCG(seed, 1)), anys}
	typ := m.typ(4)
	v := reflect.New(typ)
	m.fill(v.Elem(), 6)
	want := v.Elem().Interface()
	if want == nil {
		return false
	}
	data, err := c.Marshal(want)
	if err != nil {
		if strings.Contains(err.Error(), "panic") {
			t.Errorf("%T, seed %d: %v: %v", c, seed, typ, err)
		}
		return false
	}
	got := reflect.New(reflect.TypeOf(want))
	if err := c.Unmarshal(data, got.Interface()); err != nil {
		t.Errorf("%T, seed %d: %v: what was written cannot be read: %v\n%#v\n%q", c, seed, typ, err, want, data)
		return false
	}
	if !anys && !alike(reflect.ValueOf(want), got.Elem()) {
		t.Errorf("%T, seed %d: %v:\nwrote %#v\nread  %#v\n%q", c, seed, typ, want, got.Elem(), data)
	}
	again, err := c.Marshal(got.Elem().Interface())
	if err != nil || !anys && string(again) != string(data) {
		t.Errorf("%T, seed %d: %v: wrote %q, and of what was read %q, %v", c, seed, typ, data, again, err)
	}
	return true
}

// TestGeneratedTypes checks that values of generated types are kept or refused.
func TestGeneratedTypes(t *testing.T) {
	const n = 1500
	for _, c := range coders {
		for _, anys := range []bool{false, true} {
			held := 0
			for seed := range uint64(n) {
				if checkKept(t, c.coder, seed, anys) {
					held++
				}
				if t.Failed() {
					return
				}
			}
			if held < n/4 {
				t.Errorf("%s: only %d of %d values were kept", c.name, held, n)
			}
		}
	}
}

func FuzzKept(f *testing.F) {
	f.Add(uint64(1), false)
	f.Fuzz(func(t *testing.T, seed uint64, anys bool) {
		for _, c := range coders {
			checkKept(t, c.coder, seed, anys)
		}
	})
}
