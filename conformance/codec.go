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

// TestCodec tests a codec against the contract of [session.Codec] and, if it is
// one whose Text is true, of [session.TextCodec]. Each rule is a subtest. Some
// rules measure memory, so do not call TestCodec from a parallel test.
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

// A codecRule is one rule of the contract of session.Codec or session.TextCodec.
type codecRule struct {
	name   string
	quotes []string
	needs  func(session.Codec) bool // the rule applies only if needs is nil or returns true
	run    func(*codecProbe)
}

func (r codecRule) test(t testing.TB, codec session.Codec) {
	t.Helper()
	t.Cleanup(func() { logQuotes(t, r.quotes) })
	r.run(&codecProbe{TB: t, codec: codec})
}

// codecMethodRules are about every method of session.Codec.
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

// A codecProbe is the codec under test, as the rules use it.
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

// codecValues returns pointers to values such as sessions hold. The values are new
// each time.
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
		p.Fatalf("Marshal of a %T: got error %v, want none", v, err)
	}
	return data
}

func (p *codecProbe) join(values map[string][]byte) []byte {
	p.Helper()
	blob, err := p.codec.Join(values)
	if err != nil {
		p.Fatalf("Join of encoded values: got error %v, want none", err)
	}
	return blob
}

// session returns the encoded values of a session.
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

// panics returns the value with which call panics, or nil.
func (p *codecProbe) panics(call func() error) (r any) {
	defer func() { r = recover() }()
	_ = call()
	return nil
}

func ruleSlices(p *codecProbe) {
	p.marshalKeeps()
	p.unmarshalKeeps()
	for _, values := range []map[string][]byte{p.session(), {"only": p.marshal("one value")}} {
		p.joinAndSplitKeep(values)
	}
}

// marshalKeeps reports an error if Marshal changes its argument, or if its result
// shares memory with it.
func (p *codecProbe) marshalKeeps() {
	in := []byte("caller's bytes")
	data := p.marshal(in)
	before := bytes.Clone(data)
	if string(in) != "caller's bytes" {
		p.Error("Marshal changed the []byte it was given, want no change")
	}
	clear(in)
	if !bytes.Equal(data, before) {
		p.Error("the caller changed a []byte after Marshal, and the encoded bytes changed; want them to be a copy")
	}
	m := map[string]int{"a": 1}
	p.marshal(m)
	if len(m) != 1 || m["a"] != 1 {
		p.Error("Marshal changed the map it was given, want no change")
	}
}

// unmarshalKeeps reports an error if Unmarshal changes data, or if the value shares
// memory with data.
func (p *codecProbe) unmarshalKeeps() {
	for _, pointer := range codecValues() {
		want := elem(pointer)
		data := p.marshal(want)
		before := bytes.Clone(data)
		got := blank(pointer)
		if p.codec.Unmarshal(data, got) != nil || !equal(elem(got), want) {
			continue // rule RoundTrip reports it
		}
		if !bytes.Equal(data, before) {
			p.Errorf("Unmarshal of a %T changed data, want no change", want)
		}
		clear(data)
		if !equal(elem(got), want) {
			p.Errorf("the caller changed data after Unmarshal of a %T, and the value changed; want it to be a copy", want)
		}
	}
}

// joinAndSplitKeep reports an error if Join or Split changes its argument, or if
// the blob shares memory with the values.
func (p *codecProbe) joinAndSplitKeep(values map[string][]byte) {
	original := map[string][]byte{}
	for name, value := range values {
		original[name] = bytes.Clone(value)
	}
	blob := p.join(values)
	if !maps.EqualFunc(values, original, bytes.Equal) {
		p.Error("Join changed the values it was given, want no change")
	}
	before := bytes.Clone(blob)
	for _, value := range values {
		clear(value)
	}
	if !bytes.Equal(blob, before) {
		p.Error("the caller changed the values after Join, and the blob changed; want it to be a copy")
	}
	if _, err := p.codec.Split(blob); err == nil && !bytes.Equal(blob, before) {
		p.Error("Split changed data, want no change")
	}
}

// ruleResults uses a result after another was made, and changes one of two.
func ruleResults(p *codecProbe) {
	if p.marshalShares() || p.joinShares() {
		return
	}
	p.splitShares()
	p.unmarshalShares()
}

// marshalShares reports an error if a result of Marshal is changed by the next
// call, or shares memory with its result. It returns true if no more can be tested.
func (p *codecProbe) marshalShares() bool {
	for _, pair := range [][2]any{{"first value", "second one!"}, {[]byte("first value"), []byte("second one!")}, {[]string{"a", "b"}, []string{"c", "d"}}, {1, 2}, {nil, true}} {
		first := p.marshal(pair[0])
		before := bytes.Clone(first)
		p.marshal(pair[1])
		if !bytes.Equal(first, before) {
			p.Errorf("the result of Marshal of a %T changed with the next call, want no change", pair[0])
			return true
		}
		clear(first)
		if !bytes.Equal(p.marshal(pair[0]), before) {
			p.Errorf("the caller changed a result of Marshal of a %T, and the next result was changed; want results of their own", pair[0])
		}
	}
	return false
}

// shared returns the values that joinShares and splitShares use.
func (p *codecProbe) shared() map[string][]byte {
	return map[string][]byte{"a": p.marshal("value a"), "b": p.marshal("value b"), "c": p.marshal("value c")}
}

// joinShares is marshalShares for Join.
func (p *codecProbe) joinShares() bool {
	values := p.shared()
	blob := p.join(maps.Clone(values))
	before := bytes.Clone(blob)
	p.join(map[string][]byte{"x": p.marshal("value x"), "y": p.marshal("value y"), "z": p.marshal("value z")})
	if !bytes.Equal(blob, before) {
		p.Error("the result of Join changed with the next call, want no change")
		return true
	}
	clear(blob)
	if got, err := p.codec.Split(p.join(maps.Clone(values))); err != nil || !maps.EqualFunc(got, values, bytes.Equal) {
		p.Error("the caller changed a result of Join, and the next result was changed; want results of their own")
	}
	return false
}

// splitShares reports an error if two results of Split share memory. Both may alias
// data, but they have to be two maps, and no value may reach into the next.
func (p *codecProbe) splitShares() {
	values := p.shared()
	blob := p.join(maps.Clone(values))
	for range 2 {
		got, err := p.codec.Split(bytes.Clone(blob))
		if err != nil || !maps.EqualFunc(got, values, bytes.Equal) {
			if err == nil {
				p.Error("the caller changed a result of Split, and the next result was changed; want results of their own")
			}
			break
		}
		for name, value := range got {
			got[name] = append(value, "appended by the caller"...)
		}
		for name, value := range got {
			if !bytes.Equal(value[:len(values[name])], values[name]) {
				p.Error("the caller appended to a value that Split returned, and another value changed; want no room behind a value")
			}
		}
		clear(got)
		got["more"] = nil
	}
}

// unmarshalShares reports an error if two results of Unmarshal share memory.
func (p *codecProbe) unmarshalShares() {
	for _, pointer := range []any{
		ptr([]string{"a", "b"}), ptr(map[string]int{"a": 1}), ptr([]byte("bytes")), ptr(ptr(7)), ptr([]codecItem{{SKU: "a", Tags: map[string]int{"b": 1}}}),
		ptr[any](map[string]any{"a": "b"}), ptr[any]([]any{"a"}),
	} {
		want := elem(pointer)
		data := p.marshal(want)
		first, second := blank(pointer), blank(pointer)
		if p.codec.Unmarshal(bytes.Clone(data), first) != nil || !equal(elem(first), want) {
			continue // rule RoundTrip reports it
		}
		spoil(reflect.ValueOf(first).Elem())
		if p.codec.Unmarshal(data, second) == nil && !equal(elem(second), want) {
			p.Errorf("the caller changed a %T that Unmarshal had decoded, and the next result was changed; want results of their own", want)
		}
	}
}

// spoil changes the memory that v refers to.
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

// secret is part of each value in ruleErrors. It is a string and a number.
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
			p.Errorf("%s: got error %q, which contains the value; want one without it", what, err)
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
			check("Unmarshal of a part of an encoded value", func() error { return p.codec.Unmarshal(bytes.Clone(data[:n]), blank(&v)) })
		}
		check("Unmarshal of an encoded value with trailing bytes", func() error { return p.codec.Unmarshal(append(bytes.Clone(data), data...), blank(&v)) })
	}
	values := map[string][]byte{"n" + secret: p.marshal(secret), "b": p.marshal(secret)}
	blob := p.join(values)
	garbage([][]byte{blob}, func(data []byte) {
		check("Split of a damaged blob", func() error { _, err := p.codec.Split(data); return err })
	})
	for n := range blob {
		check("Split of a part of a blob", func() error { _, err := p.codec.Split(bytes.Clone(blob[:n])); return err })
	}
	for _, values := range []map[string][]byte{{"a": []byte(secret + "\xff\xc1")}, {secret + "\xff": p.marshal(1)}, {secret: nil}, {"n" + secret: nil}, {secret + "|": p.marshal(1)}, {strings.Repeat(secret, 30): nil}} {
		check("Join of a value or a name that is invalid", func() error { _, err := p.codec.Join(values); return err })
		if c, ok := p.codec.(session.NameCodec); ok {
			for name := range values {
				check("CheckName", func() error { return c.CheckName(name) })
			}
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
					p.Errorf("Marshal, Join, Split and Unmarshal in %d goroutines: %v", workers, err)
					return
				}
			}
		}()
	}
	wg.Wait()
}

// useAlone takes a value through all methods.
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
		return fmt.Errorf("got value %q, want %q", got, value)
	}
	return nil
}
