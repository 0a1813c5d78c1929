package conformance

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"reflect"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/seed-a7bee19b/session"
)

// TestCodec tests a codec against the contract of [session.Codec], one
// subtest for each rule. It measures memory, and so is best not called from a
// test that runs in parallel with others.
func TestCodec(t *testing.T, codec session.Codec) {
	t.Helper()
	for _, rule := range codecRulesFor(codec) {
		t.Run(rule.name, func(t *testing.T) { rule.test(t, codec) })
	}
}

// codecRulesFor returns the rules that apply to codec.
func codecRulesFor(codec session.Codec) []codecRule {
	return slices.DeleteFunc(slices.Clone(codecRules), func(r codecRule) bool { return r.needs != nil && !r.needs(codec) })
}

// A codecRule is one rule of the contract of session.Codec.
type codecRule struct {
	name   string
	quotes []string
	needs  func(session.Codec) bool // nil: nothing
	run    func(*codecProbe)
}

func (r codecRule) test(t testing.TB, codec session.Codec) {
	t.Helper()
	t.Cleanup(func() { logQuotes(t, r.quotes) })
	r.run(&codecProbe{TB: t, codec: codec})
}

var codecRules = []codecRule{
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
	{name: "UnmarshalPanics", run: ruleUnmarshalPanics, quotes: []string{
		"a name that is twice in a map included, and MUST NOT panic.",
	}},
	{name: "UnmarshalMemory", run: ruleUnmarshalMemory, quotes: []string{
		"Its memory MUST be bounded by a small multiple of len(data), whatever the lengths that data claims.",
	}},
	{name: "JoinEqual", run: ruleJoinEqual, quotes: []string{
		"Join makes one blob of encoded values, those of nil too. It MUST be deterministic.",
	}},
	{name: "SplitReturns", run: ruleSplitReturns, quotes: []string{
		"Split MUST return the values that Join was given, byte for byte.",
	}},
	{name: "SplitRefuses", run: ruleSplitRefuses, quotes: []string{
		"It MUST refuse what Join cannot have made, spaces, and names that are there twice or in another order included,",
	}},
	{name: "SplitEmpty", run: ruleSplitEmpty, quotes: []string{
		"Empty data is not a session: it MUST be refused.",
	}},
	{name: "SplitPanics", run: ruleSplitPanics, quotes: []string{
		"a small multiple of len(data), and MUST NOT panic.",
	}},
	{name: "SplitMemory", run: ruleSplitMemory, quotes: []string{
		"with work and memory bounded by a small multiple of len(data), and MUST NOT panic.",
	}},
	{name: "JoinText", run: ruleJoinText, quotes: []string{
		"Text reports whether what Join makes is text. If so, it MUST be valid UTF-8.",
	}, needs: makesText},
	{name: "Slices", run: ruleSlices, quotes: []string{
		"and MUST NOT keep or change the slices and maps they are given, except that results of Split may alias data.",
	}},
	{name: "Results", run: ruleResults, quotes: []string{
		"Results MUST NOT share memory with each other, nor with a buffer that is used again.",
	}},
	{name: "Errors", run: ruleErrors, quotes: []string{
		"Errors are logged, and so MUST NOT contain what is encoded:",
	}},
	{name: "Concurrent", run: ruleConcurrent, quotes: []string{
		"Methods MUST be safe for concurrent use",
	}},
}

type codecProbe struct {
	testing.TB
	codec session.Codec
}

type codecItem struct {
	SKU   string
	Qty   int
	Price float64
	Tags  map[string]int
}

type codecRecord struct {
	At    time.Time
	Raw   []byte
	Next  *codecRecord
	Sum   int64
	Items []codecItem
}

// codecValues are what sessions hold, each a pointer to a fresh value.
func codecValues() []any {
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	return []any{
		ptr(true), ptr(false),
		ptr(0), ptr(-1), ptr(127), ptr(128), ptr(math.MaxInt32), ptr(int64(math.MaxInt64)), ptr(int64(math.MinInt64)),
		ptr(uint64(math.MaxUint64)), ptr(uint8(255)), ptr(int8(-128)),
		ptr(0.1), ptr(-1e300), ptr(math.SmallestNonzeroFloat64), ptr(float32(1.5)),
		ptr(""), ptr("a"), ptr("<a href=\"x\">&\\\n\t\u00e9\u2028\U0001f600</a>"), ptr(strings.Repeat("long ", 20_000)),
		ptr(all), ptr([]byte{}),
		ptr([]string{"admin", "", "editor"}), ptr([]int{1, -300, 70_000}), ptr([3]int{1, 2, 3}),
		ptr(map[string]int{"a": 1, "": 2, "\u00e9": 3}), ptr(map[string]string{"a": "b"}), ptr(map[int]string{1: "a", -2: "b"}),
		ptr(map[string]map[string][]int{"a": {"b": {1, 2}, "c": {}}}),
		ptr(codecItem{"x-1", 2, 9.99, map[string]int{"red": 1, "blue": 2}}),
		ptr([]codecItem{{SKU: "a", Tags: map[string]int{}}, {Qty: -1, Tags: map[string]int{"b": 1}}}),
		ptr(ptr("pointed at")),
		ptr(time.Date(2026, 3, 29, 1, 59, 59, 123456789, time.UTC)),
		ptr(time.Date(1969, 12, 31, 23, 59, 59, 1, time.FixedZone("", -7200))), ptr(time.Time{}),
		ptr([]*int{nil, ptr(1), nil}), ptr(map[string]*string{"a": nil, "b": ptr("")}), ptr((*int)(nil)),
		ptr(map[string]any{"a": nil, "b": "text", "c": true}), ptr([]any{nil, "a", nil}),
		ptr([]int64{math.MaxInt64, 1<<53 + 1}), ptr(map[string]uint64{"a": math.MaxUint64}),
		ptr(codecRecord{At: time.Date(2026, 3, 29, 1, 59, 59, 123456789, time.UTC), Raw: all, Sum: math.MinInt64, Items: []codecItem{{SKU: "a", Tags: map[string]int{}}}}),
	}
}

func ptr[T any](v T) *T { return &v }

func (p *codecProbe) marshal(v any) []byte {
	p.Helper()
	data, err := p.codec.Marshal(v)
	if err != nil {
		p.Fatalf("Marshal of a %T: %v", v, err)
	}
	return data
}

func (p *codecProbe) join(values map[string][]byte) []byte {
	p.Helper()
	blob, err := p.codec.Join(values)
	if err != nil {
		p.Fatalf("Join: %v", err)
	}
	return blob
}

// session is a session's values, encoded.
func (p *codecProbe) session() map[string][]byte {
	p.Helper()
	return map[string][]byte{
		"user":  p.marshal("u-1"),
		"count": p.marshal(70_000),
		"roles": p.marshal([]string{"admin", "editor"}),
		"cart":  p.marshal([]codecItem{{SKU: "a", Qty: 1, Tags: map[string]int{"b": 1, "c": 2}}}),
	}
}

func elem(pointer any) any { return reflect.ValueOf(pointer).Elem().Interface() }

func blank(pointer any) any { return reflect.New(reflect.TypeOf(pointer).Elem()).Interface() }

func ruleRoundTrip(p *codecProbe) {
	for _, pointer := range codecValues() {
		want := elem(pointer)
		got := blank(pointer)
		if err := p.codec.Unmarshal(p.marshal(want), got); err != nil {
			p.Errorf("a %T: Unmarshal of what Marshal made: %v", want, err)
		} else if !equal(elem(got), want) {
			p.Errorf("a %T: %.100v came back as %.100v", want, want, elem(got))
		}
	}
	data := p.marshal(nil)
	if len(data) == 0 {
		p.Error("Marshal of nil: neither bytes nor an error")
	}
	for _, target := range []any{ptr[any]("was there"), ptr(ptr(1))} {
		if err := p.codec.Unmarshal(bytes.Clone(data), target); err != nil || !reflect.ValueOf(target).Elem().IsNil() {
			p.Errorf("nil came back as %v in a %T: %v", elem(target), elem(target), err)
		}
	}
}

type codecTitled struct {
	time.Time // its methods encode it alone
	Title     string
}

type codecHidden struct {
	Name string
	note string
}

type codecText struct{ Text string }

// ruleFidelity tries what codecs lose. Each may be refused, or kept.
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
			p.Errorf("Marshal of a %T panics: %v", v, r)
			continue
		}
		if err != nil {
			continue
		}
		if err := p.codec.Unmarshal(data, got.Interface()); err != nil {
			p.Errorf("a %T, %.100v, was encoded, but Unmarshal says: %v", v, v, err)
			continue
		}
		if is := got.Elem().Interface(); !equal(is, v) || !slices.Equal(notes(is), notes(v)) {
			p.Errorf("a %T: %.100v came back as %.100v, and Marshal gave no error", v, v, is)
		}
	}
}

// notes returns the fields that equal does not see.
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

// ruleResults uses one result after another was made, and changes one of two.
func ruleResults(p *codecProbe) {
	for _, pair := range [][2]any{{"first value", "second one!"}, {[]byte("first value"), []byte("second one!")}, {[]string{"a", "b"}, []string{"c", "d"}}, {1, 2}, {nil, true}} {
		first := p.marshal(pair[0])
		before := bytes.Clone(first)
		p.marshal(pair[1])
		if !bytes.Equal(first, before) {
			p.Errorf("a %T: the result of Marshal changed with the next call", pair[0])
			return
		}
		clear(first)
		if !bytes.Equal(p.marshal(pair[0]), before) {
			p.Errorf("a %T: the caller changed a result of Marshal, and the next one was changed as well", pair[0])
		}
	}

	values := map[string][]byte{"a": p.marshal("value a"), "b": p.marshal("value b"), "c": p.marshal("value c")}
	blob := p.join(maps.Clone(values))
	before := bytes.Clone(blob)
	p.join(map[string][]byte{"x": p.marshal("value x"), "y": p.marshal("value y"), "z": p.marshal("value z")})
	if !bytes.Equal(blob, before) {
		p.Error("the result of Join changed with the next call")
		return
	}
	clear(blob)
	if got, err := p.codec.Split(p.join(maps.Clone(values))); err != nil || !maps.EqualFunc(got, values, bytes.Equal) {
		p.Error("the caller changed a result of Join, and the next one was changed as well")
	}

	// Two results of Split may both alias data, but they are two maps, and no
	// value reaches into the next.
	for range 2 {
		got, err := p.codec.Split(bytes.Clone(before))
		if err != nil || !maps.EqualFunc(got, values, bytes.Equal) {
			if err == nil {
				p.Error("the caller changed a result of Split, and the next one was changed as well")
			}
			break
		}
		for name, value := range got {
			got[name] = append(value, "appended by the caller"...)
		}
		for name, value := range got {
			if !bytes.Equal(value[:len(values[name])], values[name]) {
				p.Error("the caller appended to one value that Split returned, and another changed")
			}
		}
		clear(got)
		got["more"] = nil
	}

	for _, pointer := range []any{
		ptr([]string{"a", "b"}), ptr(map[string]int{"a": 1}), ptr([]byte("bytes")), ptr(ptr(7)), ptr([]codecItem{{SKU: "a", Tags: map[string]int{"b": 1}}}),
		ptr[any](map[string]any{"a": "b"}), ptr[any]([]any{"a"}),
	} {
		want := elem(pointer)
		data := p.marshal(want)
		first, second := blank(pointer), blank(pointer)
		if p.codec.Unmarshal(bytes.Clone(data), first) != nil || !equal(elem(first), want) {
			continue // rule RoundTrip
		}
		spoil(reflect.ValueOf(first).Elem())
		if p.codec.Unmarshal(data, second) == nil && !equal(elem(second), want) {
			p.Errorf("a %T: the caller changed what Unmarshal gave, and the next result was changed as well", want)
		}
	}
}

// spoil changes what v refers to.
func spoil(v reflect.Value) {
	switch v.Kind() {
	case reflect.Interface:
		spoil(v.Elem())
	case reflect.Pointer:
		v.Elem().SetZero()
	case reflect.Slice:
		for i := range v.Len() {
			if v.Index(i).Kind() == reflect.Struct {
				spoil(v.Index(i).FieldByName("Tags"))
			}
			v.Index(i).SetZero()
		}
	case reflect.Map:
		v.Clear()
	}
}

// secret is in what ruleErrors encodes; it is a number too.
const secret = "4711471147"

type codecTelling string

func (c codecTelling) MarshalText() ([]byte, error) {
	return nil, fmt.Errorf("this cannot be encoded: %s", string(c))
}

func (c *codecTelling) UnmarshalText(text []byte) error {
	return fmt.Errorf("this cannot be decoded: %s", text)
}

func ruleErrors(p *codecProbe) {
	check := func(what string, call func() error) {
		var err error
		if p.panics(func() error { err = call(); return nil }) == nil && err != nil && strings.Contains(err.Error(), secret) {
			p.Errorf("%s: the error has the value in it: %v", what, err)
		}
	}
	for _, v := range []any{
		codecTelling(secret), []any{secret, codecTelling(secret)}, map[string]any{secret: func() {}}, map[string]any{"a": secret, "b": make(chan int)}, secret + "\xff",
		codecTitled{Title: secret}, codecHidden{secret, secret}, map[string]string{secret + "\xff": secret}, []any{secret, math.NaN()}, map[codecTelling]int{secret: 1},
	} {
		check(fmt.Sprintf("Marshal of a %T", v), func() error { _, err := p.codec.Marshal(v); return err })
	}
	for _, v := range []any{secret, 4711471147, 4711471147.5, -4711471147, []string{secret}, map[string]string{secret: secret}, map[string]int{secret: 4711471147}, codecItem{SKU: secret}} {
		data := p.marshal(v)
		for _, target := range []any{
			new(int8), new(uint8), new(int), new(bool), new(string), new(codecTelling), new(time.Time), new([]int), new([]int8), new([]codecTelling), new([]time.Time), new(map[string]int8),
			new(map[int]string), new(map[string]bool), new(map[string]codecTelling), new(map[codecTelling]string), new(codecItem), new(struct{ SKU int }), new(struct{ SKU codecTelling }), new([]byte),
		} {
			check(fmt.Sprintf("Unmarshal of a %T into a %T", v, elem(target)), func() error { return p.codec.Unmarshal(bytes.Clone(data), target) })
		}
		for n := range data {
			check("Unmarshal of a part", func() error { return p.codec.Unmarshal(bytes.Clone(data[:n]), blank(&v)) })
		}
		check("Unmarshal of a value and more", func() error { return p.codec.Unmarshal(append(bytes.Clone(data), data...), blank(&v)) })
	}
	values := map[string][]byte{secret: p.marshal(secret), "b": p.marshal(secret)}
	blob := p.join(values)
	garbage([][]byte{blob}, func(data []byte) {
		check("Split", func() error { _, err := p.codec.Split(data); return err })
	})
	for n := range blob {
		check("Split of a part", func() error { _, err := p.codec.Split(bytes.Clone(blob[:n])); return err })
	}
	for _, values := range []map[string][]byte{{"a": []byte(secret + "\xff\xc1")}, {secret + "\xff": p.marshal(1)}, {secret: nil}} {
		check("Join", func() error { _, err := p.codec.Join(values); return err })
	}
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
					p.Errorf("Marshal of a %T panics: %v", v, r)
				}
			}()
			if _, err := p.codec.Marshal(v); err == nil {
				p.Errorf("Marshal of a %T: no error", v)
			}
		}()
	}
}

func ruleMarshalEqual(p *codecProbe) {
	// Each call builds the value anew, with its maps in another order.
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
				p.Errorf("a %s: the same value gave other bytes the second time", name)
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
		check := func(what string, other []byte) {
			got := blank(pointer)
			var err error
			if p.panics(func() error { err = p.codec.Unmarshal(bytes.Clone(other), got); return err }) != nil || err != nil {
				return // a panic is for rule UnmarshalPanics
			}
			// In a text, part of a number is a number.
			if len(bytes.Trim(other, "+-.0123456789Ee")) == 0 && reflect.ValueOf(elem(got)).CanConvert(reflect.TypeFor[float64]()) {
				return
			}
			// Names of a map may come in another order.
			if again, err := p.codec.Marshal(elem(got)); err != nil || !sameBytes(again, other) {
				p.Errorf("a %T: Unmarshal of %s: no error", elem(pointer), what)
			}
		}
		check("no data", nil)
		for n := 1; n < len(data); n++ {
			check(fmt.Sprintf("the first %d of %d bytes", n, len(data)), data[:n])
		}
		for _, tail := range []string{"\x00", "\x01", "x", "}", "\xc0", "\xff", string(data)} {
			check(fmt.Sprintf("what Marshal made and %q after it", tail), append(bytes.Clone(data), tail...))
		}
		for i, space := range spaces {
			for at := range len(data) + 1 {
				inside := at > 0 && at < len(data)
				if named := bytes.Contains(data, []byte("SKU")) || bytes.Contains(data, []byte("Raw")); inside && (named || at%len(spaces) != i) {
					continue // in the name of a field it makes another one, which may be ignored
				}
				check(fmt.Sprintf("what Marshal made and %q at byte %d", space, at), slices.Insert(bytes.Clone(data), at, []byte(space)...))
			}
		}
	}
	for _, pointer := range []any{ptr(map[string]int{"name1": 1, "name2": 2}), ptr(map[string]any{"name1": "a", "name2": "b"}), ptr(map[string]codecItem{"name1": {}, "name2": {}})} {
		data := bytes.ReplaceAll(p.marshal(elem(pointer)), []byte("name2"), []byte("name1"))
		got := blank(pointer)
		if err := p.codec.Unmarshal(data, got); err == nil && reflect.ValueOf(got).Elem().Len() < 2 {
			p.Errorf("a %T: Unmarshal of data that has a name twice: no error", elem(pointer))
		}
	}
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
			p.Errorf("Unmarshal of a %T into a %T: no error", mismatch.value, elem(mismatch.target))
		}
	}
	var nilPointer *int
	for _, target := range []any{nil, 0, nilPointer} {
		var err error
		r := p.panics(func() error { err = p.codec.Unmarshal(p.marshal(1), target); return err })
		if r == nil && err == nil {
			p.Errorf("Unmarshal into %#v: no error", target)
		}
	}
}

var spaces = []string{" ", "\t", "\r\n"}

// sameBytes reports whether a has the bytes of b, in any order.
func sameBytes(a, b []byte) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}

// panics returns what call panics with.
func (p *codecProbe) panics(call func() error) (r any) {
	defer func() { r = recover() }()
	_ = call()
	return nil
}

// codecTargets is one pointer for each way of decoding.
func codecTargets() []any {
	return []any{
		new(any), new(string), new([]byte), new([]int), new([]string), new(map[string]any), new(map[string]int),
		new(map[string]string), new(codecItem), new([]codecItem), new(time.Time), new(float64), new([4]int), new(**int),
	}
}

// garbage calls f with data that nobody made, and with damaged seeds. It is
// the same each time.
func garbage(seeds [][]byte, f func(data []byte)) {
	random := rand.New(rand.NewPCG(1, 2))
	f(nil)
	f([]byte{})
	for c := range 256 {
		f([]byte{byte(c)})
		f([]byte{byte(c), 0xff})
		f([]byte{byte(c), 0})
	}
	for _, seed := range seeds {
		for range 40 {
			data := bytes.Clone(seed)
			for range 1 + random.IntN(3) {
				at := random.IntN(len(data) + 1)
				switch random.IntN(4) {
				case 0:
					data = data[:at]
				case 1:
					data = slices.Insert(data, at, byte(random.Uint32()))
				default:
					if at < len(data) {
						data[at] = byte(random.Uint32())
					}
				}
			}
			f(data)
		}
	}
}

// nested calls f with deep nesting, as it is in JSON and in MessagePack.
func nested(f func(data []byte)) {
	for _, c := range []byte{'[', '{', 0x91, 0x81, 0xdc, 0xdf} {
		f(bytes.Repeat([]byte{c}, 200_000))
	}
	f(bytes.Repeat([]byte(`{"a":`), 50_000))
	f(bytes.Repeat([]byte("\x81\xa1a"), 50_000))
}

func (p *codecProbe) seeds() [][]byte {
	p.Helper()
	var seeds [][]byte
	for _, pointer := range codecValues() {
		if data := p.marshal(elem(pointer)); len(data) < 1000 {
			seeds = append(seeds, data)
		}
	}
	return seeds
}

// limitStack makes endless recursion end soon. It ends the process: there is
// no other way to see it.
func limitStack() (restore func()) {
	before := debug.SetMaxStack(64 << 20)
	return func() { debug.SetMaxStack(before) }
}

func ruleUnmarshalPanics(p *codecProbe) {
	defer limitStack()()
	reported := map[string]bool{}
	try := func(data []byte, target any) {
		name := fmt.Sprintf("%T", target)
		r := p.panics(func() error { return p.codec.Unmarshal(data, target) })
		if r != nil && !reported[name] {
			reported[name] = true
			p.Errorf("Unmarshal of % .20x into a %s panics: %v", data, name, r)
		}
	}
	garbage(p.seeds(), func(data []byte) {
		for _, target := range codecTargets() {
			try(data, target)
		}
	})
	nested(func(data []byte) {
		for _, target := range []any{new(any), new([]codecItem)} {
			try(data, target)
		}
	})
	var nilPointer *int
	for _, target := range []any{nil, 0, nilPointer} {
		try(p.marshal(1), target)
	}
}

// claims calls f with short data in which some bytes claim a great length.
func claims(seeds [][]byte, f func(data []byte)) {
	for c := range 256 {
		for _, n := range []int{2, 4, 8} {
			for _, first := range []byte{0xff, 0x7f, 0x0f} {
				data := append([]byte{byte(c), first}, bytes.Repeat([]byte{0xff}, n-1)...)
				f(data)
			}
		}
	}
	for _, seed := range seeds {
		if len(seed) > 100 {
			continue
		}
		for at := range seed {
			for _, n := range []int{1, 2, 4, 8} {
				if at+n > len(seed) {
					break
				}
				data := bytes.Clone(seed)
				for i := range n {
					data[at+i] = 0xff
				}
				f(data)
			}
		}
	}
}

// bounded complains if call allocates more than a megabyte for data that is
// short and claims to be long. A panic is for another rule.
func (p *codecProbe) bounded(what string, seeds [][]byte, call func(data []byte)) {
	p.Helper()
	const limit = 1 << 20
	// Others may allocate at the same time, so that the least of some
	// measurements counts.
	allocates := func(inputs ...[]byte) uint64 {
		var least uint64 = math.MaxUint64
		for range 3 {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			for _, data := range inputs {
				p.panics(func() error { call(data); return nil })
			}
			runtime.ReadMemStats(&after)
			if least = min(least, after.TotalAlloc-before.TotalAlloc); least < limit {
				break
			}
		}
		return least
	}
	// Measuring is slow. What is fine together is fine one by one.
	var all [][]byte
	claims(seeds, func(data []byte) { all = append(all, data) })
	for inputs := range slices.Chunk(all, 32) {
		if allocates(inputs...) < limit {
			continue
		}
		for _, data := range inputs {
			if n := allocates(data); n >= limit {
				p.Errorf("%s of %d bytes, % .20x, allocates %d bytes", what, len(data), data, n)
				return
			}
		}
	}
}

func ruleUnmarshalMemory(p *codecProbe) {
	defer limitStack()()
	seeds := p.seeds()
	p.bounded("Unmarshal", seeds, func(data []byte) {
		for _, target := range codecTargets() {
			_ = p.codec.Unmarshal(data, target)
		}
	})
}

func ruleJoinEqual(p *codecProbe) {
	values := p.session()
	for i := range 20 {
		values[fmt.Sprint("more", i)] = p.marshal(i)
	}
	first := p.join(maps.Clone(values))
	for range 20 {
		if !bytes.Equal(first, p.join(maps.Clone(values))) {
			p.Fatal("Join of the same values gave another blob")
		}
	}
}

// makesText reports whether what Join makes is said to be text.
func makesText(codec session.Codec) bool {
	c, ok := codec.(session.TextCodec)
	return ok && c.Text()
}

func ruleJoinText(p *codecProbe) {
	check := func(what string, values map[string][]byte) {
		p.Helper()
		blob, err := p.codec.Join(values)
		if err == nil && !utf8.Valid(blob) { // or rule SplitReturns says that it is refused
			p.Errorf("Text is true, and Join of %s makes %d bytes that are not UTF-8", what, len(blob))
		}
	}
	check("no values", nil)
	check("a session", p.session())
	for _, pointer := range codecValues() {
		value := p.marshal(elem(pointer))
		check(fmt.Sprintf("a %T", elem(pointer)), map[string][]byte{"a": value, "b": value})
	}
	for size := range 300 {
		data := bytes.Repeat([]byte{0xff, 0x80, byte(size)}, size)
		check(fmt.Sprintf("a []byte of %d bytes", len(data)), map[string][]byte{"a": p.marshal(data)})
	}
	for i, text := range everyPlane(512) {
		check(fmt.Sprintf("text, %.20q", text), map[string][]byte{"a": p.marshal(text), "b": p.marshal(map[string]string{text: text})})
		check(fmt.Sprintf("names, %.20q", text), map[string][]byte{text: p.marshal(i), "x" + text: p.marshal("x"), text + "x": p.marshal(nil)})
	}
	long := strings.Join(everyPlane(512), "")
	check("a long text", map[string][]byte{"a": p.marshal(long)})
	check("a long name", map[string][]byte{long: p.marshal(1)})
	for _, value := range []any{"\xff", []string{"a\xc3"}, map[string]string{"\xed\xa0\x80": "\xed\xa0\x80"}, codecText{"\xff"}, [2]byte{0xff, 0xfe}} {
		if data, err := p.codec.Marshal(value); err == nil { // or it cannot be given back, as rule Fidelity has it
			check(fmt.Sprintf("%q, which is not UTF-8", value), map[string][]byte{"a": data})
		}
	}
	for _, name := range []string{"\xff", "a\xc3", "\xed\xa0\x80"} {
		check(fmt.Sprintf("a name, %q, that is not UTF-8", name), map[string][]byte{name: p.marshal(1)})
	}
}

func ruleSplitReturns(p *codecProbe) {
	many := map[string][]byte{}
	for i, pointer := range codecValues() {
		many[fmt.Sprint("value ", i)] = p.marshal(elem(pointer))
	}
	for _, c := range []struct {
		what   string
		values map[string][]byte
	}{
		{"no values", nil},
		{"no values", map[string][]byte{}},
		{"a value", map[string][]byte{"a": p.marshal(1)}},
		{"a session", p.session()},
		{"a value that is nil", map[string][]byte{"a": p.marshal(nil), "b": p.marshal((*int)(nil)), "c": p.marshal(0), "d": p.marshal("")}},
		{"nothing but a nil", map[string][]byte{"a": p.marshal(nil)}},
		{"every type of value", many},
		{"odd names", map[string][]byte{
			"": p.marshal(1), " ": p.marshal(2), "A": p.marshal(3), "a": p.marshal(4), `"\`: p.marshal(5), "<&>": p.marshal(6),
			"\u00e9": p.marshal(7), "e\u0301": p.marshal(8), "\u2028\x00\n": p.marshal(9), "\U0001f600": p.marshal(10),
			strings.Repeat("n", 300): p.marshal(11),
		}},
		{"a name that is not UTF-8", map[string][]byte{"a\xff": p.marshal(1)}},
	} {
		blob, err := p.codec.Join(maps.Clone(c.values))
		if err != nil {
			for name := range c.values {
				if !utf8.ValidString(name) {
					err = nil // refused, not changed
				}
			}
			if err != nil {
				p.Errorf("%s: Join: %v", c.what, err)
			}
			continue
		}
		got, err := p.codec.Split(blob)
		if err != nil {
			if len(blob) > 0 { // rule SplitEmpty
				p.Errorf("%s: Split of what Join made: %v", c.what, err)
			}
			continue
		}
		if !maps.EqualFunc(got, c.values, bytes.Equal) {
			p.Errorf("%s: Split returned other values, or other names, than Join was given", c.what)
		}
	}
}

func ruleSplitRefuses(p *codecProbe) {
	blob := p.join(p.session())
	for range 20 {
		if !bytes.Equal(blob, p.join(p.session())) {
			p.Log("left out, because Join is not deterministic; see rule JoinEqual")
			return
		}
	}
	failures := 0
	check := func(what string, data []byte) {
		if len(data) == 0 || failures == 3 {
			return // rule SplitEmpty
		}
		values, err := p.split(bytes.Clone(data))
		if err != nil {
			return
		}
		// What Join can have made, it makes again.
		if again, err := p.codec.Join(values); err != nil || !bytes.Equal(again, data) {
			failures++
			p.Errorf("Split of %s: no error, though Join does not make it", what)
		}
	}
	for n := range blob {
		check(fmt.Sprintf("the first %d of %d bytes", n, len(blob)), blob[:n])
	}
	for _, tail := range []string{"\x00", "\x01", "x", " ", "\n", "}", "\xc0", "\xff", string(blob)} {
		check(fmt.Sprintf("a blob and %q after it", tail), append(bytes.Clone(blob), tail...))
	}
	for _, space := range spaces {
		for at := range len(blob) + 1 {
			check(fmt.Sprintf("a blob and %q at byte %d", space, at), slices.Insert(bytes.Clone(blob), at, []byte(space)...))
		}
	}
	named := string(p.join(map[string][]byte{"name1": p.marshal(1), "name2": p.marshal(2), "name3": p.marshal(3)}))
	for _, rename := range [][]string{
		{"name1", "name2"}, {"name2", "name1"}, {"name3", "name2"}, {"name2", "name3"}, {"name1", "name2", "name2", "name1"}, {"name2", "name3", "name3", "name2"},
	} {
		check(fmt.Sprintf("a blob with names changed, %q", rename), []byte(strings.NewReplacer(rename...).Replace(named)))
	}
	garbage([][]byte{blob, p.join(map[string][]byte{"a": p.marshal(1)}), p.join(nil)}, func(data []byte) {
		check(fmt.Sprintf("damaged data, % .60x", data), data)
	})
}

var errPanic = errors.New("panic")

// split is Split without its panics, which are for rule SplitPanics.
func (p *codecProbe) split(data []byte) (values map[string][]byte, err error) {
	if p.panics(func() error { values, err = p.codec.Split(data); return nil }) != nil {
		return nil, errPanic
	}
	return values, err
}

func ruleSplitEmpty(p *codecProbe) {
	for _, data := range [][]byte{nil, {}} {
		if _, err := p.split(data); err == nil {
			p.Error("Split of no data: no error")
		}
	}
	if len(p.join(nil)) == 0 {
		p.Error("Join of no values makes no data, which Split has to refuse")
	}
}

func ruleSplitPanics(p *codecProbe) {
	defer limitStack()()
	failures := 0
	try := func(data []byte) {
		r := p.panics(func() error { _, err := p.codec.Split(data); return err })
		if r != nil && failures < 3 {
			failures++
			p.Errorf("Split of % .20x panics: %v", data, r)
		}
	}
	garbage([][]byte{p.join(p.session()), p.join(nil)}, try)
	nested(try)
}

func ruleSplitMemory(p *codecProbe) {
	defer limitStack()()
	seeds := [][]byte{p.join(map[string][]byte{"user": p.marshal("u-1"), "roles": p.marshal([]string{"admin"})})}
	p.bounded("Split", seeds, func(data []byte) { _, _ = p.codec.Split(data) })
}

func ruleSlices(p *codecProbe) {
	// Marshal: the value stays, and the result is its own.
	in := []byte("caller's bytes")
	data := p.marshal(in)
	before := bytes.Clone(data)
	if string(in) != "caller's bytes" {
		p.Error("Marshal changed its argument")
	}
	clear(in)
	if !bytes.Equal(data, before) {
		p.Error("the caller changed the value after Marshal, and the encoded bytes changed")
	}
	m := map[string]int{"a": 1}
	p.marshal(m)
	if len(m) != 1 || m["a"] != 1 {
		p.Error("Marshal changed the map it was given")
	}

	// Unmarshal: data stays, and the value does not alias it.
	for _, pointer := range codecValues() {
		want := elem(pointer)
		data := p.marshal(want)
		before := bytes.Clone(data)
		got := blank(pointer)
		if p.codec.Unmarshal(data, got) != nil || !equal(elem(got), want) {
			continue // rule RoundTrip
		}
		if !bytes.Equal(data, before) {
			p.Errorf("a %T: Unmarshal changed its data", want)
		}
		clear(data)
		if !equal(elem(got), want) {
			p.Errorf("a %T: the caller changed data after Unmarshal, and the value changed", want)
		}
	}

	// Join: the map and its values stay, and the blob does not alias them.
	for _, values := range []map[string][]byte{p.session(), {"only": p.marshal("one value")}} {
		original := map[string][]byte{}
		for name, value := range values {
			original[name] = bytes.Clone(value)
		}
		blob := p.join(values)
		if !maps.EqualFunc(values, original, bytes.Equal) {
			p.Error("Join changed the values it was given")
		}
		before = bytes.Clone(blob)
		for _, value := range values {
			clear(value)
		}
		if !bytes.Equal(blob, before) {
			p.Error("the caller changed the values after Join, and the blob changed")
		}
		// Split: data stays.
		if _, err := p.codec.Split(blob); err == nil && !bytes.Equal(blob, before) {
			p.Error("Split changed its data")
		}
	}
}

func ruleConcurrent(p *codecProbe) {
	const workers, rounds = 8, 50
	var wg sync.WaitGroup
	for worker := range workers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for round := range rounds {
				if err := p.useAlone(fmt.Sprint(worker, "/", round)); err != nil {
					p.Errorf("among %d goroutines: %v", workers, err)
					return
				}
			}
		}()
	}
	wg.Wait()
}

// useAlone takes one value the whole way.
func (p *codecProbe) useAlone(value string) error {
	data, err := p.codec.Marshal(value)
	if err != nil {
		return err
	}
	blob, err := p.codec.Join(map[string][]byte{"a": data, "b": data})
	if err != nil {
		return err
	}
	values, err := p.codec.Split(blob)
	if err != nil {
		return err
	}
	var got string
	if err := p.codec.Unmarshal(values["b"], &got); err != nil {
		return err
	}
	if got != value {
		return fmt.Errorf("%q came back as %q", value, got)
	}
	return nil
}
