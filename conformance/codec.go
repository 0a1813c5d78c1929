package conformance

import (
	"bytes"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

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

var codecRules = slices.Concat(codecValueRules, codecBlobRules, codecHostileRules, codecMethodRules)

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

// codecMethodRules are about all methods of session.Codec.
var codecMethodRules = []codecRule{
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

// panics returns what call panics with.
func (p *codecProbe) panics(call func() error) (r any) {
	defer func() { r = recover() }()
	_ = call()
	return nil
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
