package conformance

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"time"
)

// codecValueRules are about Marshal and Unmarshal.
var codecValueRules = []codecRule{
	{name: "RoundTrip", run: ruleRoundTrip, quotes: []string{
		"Unmarshal decodes what Marshal made into the pointer v.",
		"Marshal encodes one value; nil is one too, and gives some bytes.",
	}},
	{name: "Fidelity", run: ruleFidelity, quotes: []string{
		"So MUST be a value that Unmarshal would not give back equal:",
	}},
	{name: "MarshalRefuses", run: ruleMarshalRefuses, quotes: []string{
		"A type that it cannot encode MUST be an error, also where it is that of a part.",
	}},
	{name: "MarshalEqual", run: ruleMarshalEqual, quotes: []string{
		"Equal values MUST give equal bytes, maps included:",
	}},
	{name: "UnmarshalRefuses", run: ruleUnmarshalRefuses, quotes: []string{
		"What does not fit MUST be an error: no number is cut, rounded or wrapped.",
		"Anything else MUST be an error, trailing bytes, spaces and a name that is twice in a map included,",
	}},
}

func ruleRoundTrip(p *codecProbe) {
	for _, pointer := range codecValues() {
		want := elem(pointer)
		got := blank(pointer)
		if err := p.codec.Unmarshal(p.marshal(want), got); err != nil {
			p.Errorf("Unmarshal of an encoded %T: got error %v, want none", want, err)
		} else if !equal(elem(got), want) {
			p.Errorf("Unmarshal of an encoded %T: got %.100v, want %.100v", want, elem(got), want)
		}
	}
	data := p.marshal(nil)
	if len(data) == 0 {
		p.Error("Marshal of nil: got no bytes and no error, want some bytes")
	}
	for _, target := range []any{ptr[any]("was there"), ptr(ptr(1))} {
		if err := p.codec.Unmarshal(bytes.Clone(data), target); err != nil || !reflect.ValueOf(target).Elem().IsNil() {
			p.Errorf("Unmarshal of an encoded nil into a %T: got %v, error %v; want nil", target, elem(target), err)
		}
	}
}

type codecTitled struct {
	time.Time // its methods leave Title out
	Title     string
}

type codecHidden struct {
	Name string
	note string
}

type codecText struct{ Text string }

// ruleFidelity tries values that codecs lose. Marshal may refuse each of them or
// encode it so that it is decoded unchanged.
func ruleFidelity(p *codecProbe) {
	at := time.Date(2026, 3, 29, 1, 59, 59, 0, time.UTC)
	var null *int
	for _, v := range []any{
		math.NaN(), math.Inf(1), math.Inf(-1), float32(math.NaN()), []float64{1, math.NaN()}, map[string]float64{"a": math.Inf(1)}, struct{ F float64 }{math.NaN()},
		"\xff", "a\x80b", "\xed\xa0\x80", []string{"ok", "\xff"}, map[string]int{"a\xff": 1}, map[string]string{"a": "\xc3"}, codecText{"\xfe\xff"}, map[string]int{"\xfe": 1, "\xff": 2},
		codecTitled{at, "title"}, &codecTitled{at, "title"}, []codecTitled{{at, "title"}}, map[string]codecTitled{"a": {at, "title"}}, struct{ In codecTitled }{codecTitled{at, "title"}},
		codecHidden{"name", "note"}, []codecHidden{{"name", "note"}}, &codecHidden{"name", "note"}, struct{ note string }{"note"},
		complex(1, 2), &null, []**int{&null}, struct{ P *[]int }{new([]int)}, map[float64]int{0.1: 1}, map[bool]int{true: 1, false: 2}, map[codecText]int{{"a"}: 1},
		map[[2]int]string{{1, 2}: "a"}, []byte("\xff\x00"), [2]byte{1, 255}, [0]int{}, struct{}{}, uintptr(7), []struct{}{{}, {}},
		time.Date(1850, 1, 1, 0, 0, 0, 0, time.FixedZone("", 3208)), time.Date(12345, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(-5, 1, 1, 0, 0, 0, 0, time.UTC),
		struct{ At *time.Time }{&at}, struct{ Err error }{errors.New("text")}, struct{ S fmt.Stringer }{at},
	} {
		got := reflect.New(reflect.TypeOf(v))
		var data []byte
		var err error
		if r := p.panics(func() error { data, err = p.codec.Marshal(v); return nil }); r != nil {
			p.Errorf("Marshal of a %T panicked with %v, want an error or some bytes", v, r)
			continue
		}
		if err != nil {
			continue
		}
		if err := p.codec.Unmarshal(data, got.Interface()); err != nil {
			p.Errorf("Unmarshal of an encoded %T, %.100v: got error %v, want none, or one from Marshal", v, v, err)
			continue
		}
		if is := got.Elem().Interface(); !equal(is, v) || !slices.Equal(notes(is), notes(v)) {
			p.Errorf("Unmarshal of an encoded %T: got %.100v, want %.100v, or an error from Marshal", v, is, v)
		}
	}
}

// notes returns the unexported fields, which equal does not compare.
func notes(v any) []string {
	switch v := v.(type) {
	case codecHidden:
		return []string{v.note}
	case *codecHidden:
		return []string{v.note}
	case []codecHidden:
		var all []string
		for _, h := range v {
			all = append(all, h.note)
		}
		return all
	case struct{ note string }:
		return []string{v.note}
	}
	return nil
}

func ruleMarshalRefuses(p *codecProbe) {
	type withChannel struct {
		A int
		C chan int
	}
	type withFunction struct {
		A int
		F func()
	}
	for _, v := range []any{
		make(chan int), func() {}, []any{1, make(chan int)}, map[string]any{"a": func() {}}, []chan int{make(chan int)}, map[string]func(){"a": func() {}},
		withChannel{1, make(chan int)}, &withFunction{1, func() {}}, []withFunction{{1, func() {}}}, map[string]withChannel{"a": {1, make(chan int)}},
		struct{ In withChannel }{withChannel{1, make(chan int)}},
	} {
		func() {
			defer func() {
				if r := recover(); r != nil {
					p.Errorf("Marshal of a %T panicked with %v, want an error", v, r)
				}
			}()
			if _, err := p.codec.Marshal(v); err == nil {
				p.Errorf("Marshal of a %T: got no error, want one", v)
			}
		}()
	}
}

func ruleMarshalEqual(p *codecProbe) {
	// Each call builds a new value and fills its maps in another order.
	builds := map[string]func(order []int) any{
		"map[string]int": func(order []int) any { return fill(order, func(i int) int { return i }) },
		"map[string]any": func(order []int) any { return fill(order, func(i int) any { return i }) },
		"map[string]string": func(order []int) any {
			return fill(order, func(i int) string { return fmt.Sprint(i) })
		},
		"map[string]map[string]bool": func(order []int) any {
			return fill(order[:4], func(int) map[string]bool { return fill(order, func(i int) bool { return i%2 == 0 }) })
		},
		"map[int]string": func(order []int) any {
			m := map[int]string{}
			for _, i := range order {
				m[i] = "x"
			}
			return m
		},
		"a struct with a map": func(order []int) any {
			return codecItem{Tags: fill(order, func(i int) int { return i })}
		},
		"[]any with a map": func(order []int) any {
			return []any{"a", fill(order, func(i int) any { return fmt.Sprint(i) })}
		},
	}
	for name, build := range builds {
		order := []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}
		first := p.marshal(build(order))
		for range 20 {
			rand.Shuffle(4, func(i, j int) { order[i], order[j] = order[j], order[i] })
			rand.Shuffle(12, func(i, j int) { order[4+i], order[4+j] = order[4+j], order[4+i] })
			if again := p.marshal(build(order)); !bytes.Equal(first, again) {
				p.Errorf("Marshal of a %s twice: got different bytes, want equal ones for equal values", name)
				break
			}
		}
	}
}

func fill[T any](order []int, value func(i int) T) map[string]T {
	m := map[string]T{}
	for _, i := range order {
		m[fmt.Sprint("key", i)] = value(i)
	}
	return m
}

func ruleUnmarshalRefuses(p *codecProbe) {
	for _, pointer := range codecValues() {
		data := p.marshal(elem(pointer))
		if len(data) > 1000 {
			data = p.marshal("not so long")
			pointer = ptr("")
		}
		p.refusesDamaged(data, pointer)
	}
	p.refusesNamesTwice()
	p.refusesMismatches()
	var nilPointer *int
	for _, target := range []any{nil, 0, nilPointer} {
		var err error
		r := p.panics(func() error { err = p.codec.Unmarshal(p.marshal(1), target); return err })
		if r == nil && err == nil {
			p.Errorf("Unmarshal into %#v: got no error, want one", target)
		}
	}
}

// refusesDamaged reports an error if Unmarshal accepts a part of data, or data with
// something added, for a value of the type that pointer points to.
func (p *codecProbe) refusesDamaged(data []byte, pointer any) {
	check := func(what string, other []byte) {
		got := blank(pointer)
		var err error
		if p.panics(func() error { err = p.codec.Unmarshal(bytes.Clone(other), got); return err }) != nil || err != nil {
			return // rule UnmarshalPanics reports a panic
		}
		// In a text format, a part of a number is a number.
		if len(bytes.Trim(other, "+-.0123456789Ee")) == 0 && reflect.ValueOf(elem(got)).CanConvert(reflect.TypeFor[float64]()) {
			return
		}
		// The names of a map may come in another order.
		if again, err := p.codec.Marshal(elem(got)); err != nil || !sameBytes(again, other) {
			p.Errorf("Unmarshal of %s, for a %T: got no error, want one", what, elem(pointer))
		}
	}
	check("no data", nil)
	for n := 1; n < len(data); n++ {
		check(fmt.Sprintf("the first %d of %d bytes of an encoded value", n, len(data)), data[:n])
	}
	for _, tail := range []string{"\x00", "\x01", "x", "}", "\xc0", "\xff", string(data)} {
		check(fmt.Sprintf("an encoded value with %q after it", tail), append(bytes.Clone(data), tail...))
	}
	for i, space := range spaces {
		for at := range len(data) + 1 {
			inside := at > 0 && at < len(data)
			if named := bytes.Contains(data, []byte("SKU")) || bytes.Contains(data, []byte("Raw")); inside && (named || at%len(spaces) != i) {
				continue // inside the name of a field it makes another name, which may be ignored
			}
			check(fmt.Sprintf("an encoded value with %q at byte %d", space, at), slices.Insert(bytes.Clone(data), at, []byte(space)...))
		}
	}
}

// refusesNamesTwice reports an error if Unmarshal accepts a map that has a name
// twice.
func (p *codecProbe) refusesNamesTwice() {
	for _, pointer := range []any{ptr(map[string]int{"name1": 1, "name2": 2}), ptr(map[string]any{"name1": "a", "name2": "b"}), ptr(map[string]codecItem{"name1": {}, "name2": {}})} {
		data := bytes.ReplaceAll(p.marshal(elem(pointer)), []byte("name2"), []byte("name1"))
		got := blank(pointer)
		if err := p.codec.Unmarshal(data, got); err == nil && reflect.ValueOf(got).Elem().Len() < 2 {
			p.Errorf("Unmarshal of a %T that has a name twice: got no error, want one", elem(pointer))
		}
	}
}

// refusesMismatches reports an error if Unmarshal decodes a value into a type that
// it does not fit.
func (p *codecProbe) refusesMismatches() {
	for _, mismatch := range []struct{ value, target any }{
		{"text", ptr(0)}, {"text", ptr([]int{})}, {1, ptr("")}, {[]string{"a"}, ptr(map[string]string{})},
		{[]string{"a"}, ptr([]int{})}, {map[string]int{"a": 1}, ptr(0.5)}, {true, ptr(codecItem{})},
		{128, ptr(int8(0))}, {-129, ptr(int8(0))}, {300, ptr(uint8(0))}, {-1, ptr(uint(0))}, {-1, ptr(uint8(0))}, {70_000, ptr(int16(0))}, {-1, ptr(uint64(0))},
		{int64(1) << 40, ptr(int32(0))}, {int64(1) << 40, ptr(uint32(0))}, {uint64(math.MaxUint64), ptr(int64(0))}, {1.5, ptr(0)}, {-0.5, ptr(uint(0))},
		{1e300, ptr(float32(0))}, {1e300, ptr(int64(0))},
		{[]int{1, 300}, ptr([]int8{})}, {map[string]int{"a": 300}, ptr(map[string]uint8{})}, {map[int]string{300: "a"}, ptr(map[int8]string{})},
		{map[string]int{"Qty": -1}, ptr(struct{ Qty uint16 }{})},
	} {
		if err := p.codec.Unmarshal(p.marshal(mismatch.value), mismatch.target); err == nil {
			p.Errorf("Unmarshal of an encoded %T, %.100v, into a %T: got no error, want one", mismatch.value, mismatch.value, elem(mismatch.target))
		}
	}
}

var spaces = []string{" ", "\t", "\r\n"}

// sameBytes reports whether a and b have the same bytes in any order.
func sameBytes(a, b []byte) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}

// equal reports whether a and b are deeply equal. It compares times as instants,
// and NaN equals NaN.
func equal(a, b any) bool {
	if a == nil || b == nil {
		return a == b
	}
	return equalValues(reflect.ValueOf(a), reflect.ValueOf(b))
}

func equalValues(a, b reflect.Value) bool {
	if a.Type() != b.Type() {
		return false
	}
	switch a.Kind() {
	case reflect.Float32, reflect.Float64:
		return a.Float() == b.Float() || math.IsNaN(a.Float()) && math.IsNaN(b.Float())
	case reflect.Pointer, reflect.Interface:
		return a.IsNil() && b.IsNil() || !a.IsNil() && !b.IsNil() && equalValues(a.Elem(), b.Elem())
	case reflect.Slice, reflect.Array:
		if a.Kind() == reflect.Slice && a.IsNil() != b.IsNil() || a.Len() != b.Len() {
			return false
		}
		for i := range a.Len() {
			if !equalValues(a.Index(i), b.Index(i)) {
				return false
			}
		}
		return true
	case reflect.Map:
		for it := a.MapRange(); it.Next(); {
			if other := b.MapIndex(it.Key()); !other.IsValid() || !equalValues(it.Value(), other) {
				return false
			}
		}
		return a.IsNil() == b.IsNil() && a.Len() == b.Len()
	case reflect.Struct:
		if a.Type() == reflect.TypeFor[time.Time]() {
			return a.Interface().(time.Time).Equal(b.Interface().(time.Time))
		}
		for i := range a.NumField() {
			if a.Type().Field(i).IsExported() && !equalValues(a.Field(i), b.Field(i)) {
				return false
			}
		}
		return true
	case reflect.Chan, reflect.Func:
		return a.Pointer() == b.Pointer()
	}
	return a.Equal(b)
}
