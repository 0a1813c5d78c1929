package codec_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/big"
	"net/netip"
	"net/url"
	"os/exec"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vmihailenco/msgpack/v5"

	"github.com/seed-a7bee19b/session/codec"
)

type coder interface {
	Marshal(v any) ([]byte, error)
	Unmarshal(data []byte, v any) error
	Join(values map[string][]byte) ([]byte, error)
	Split(data []byte) (map[string][]byte, error)
}

var coders = []struct {
	name string
	coder
}{
	{"MessagePack", codec.MessagePack{}},
	{"JSON", codec.JSON{}},
}

type item struct {
	SKU   string  `json:"sku"`
	Name  string  `json:"name"`
	Qty   int     `json:"qty"`
	Price float64 `json:"price"`
}

// typical returns the values of a typical session.
func typical() map[string]any {
	cart := make([]item, 10)
	for i := range cart {
		cart[i] = item{fmt.Sprintf("SKU-%04d", i), fmt.Sprintf("Article %d", i), 1 + i, 9.95 + float64(i)}
	}
	return map[string]any{
		"user_id": "usr_01HV6Z8K3Q",
		"roles":   []string{"admin", "editor", "viewer"},
		"csrf":    "Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6cXV4",
		"flash":   "Your changes were saved.",
		"login":   time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC),
		"counter": 42,
		"cart":    cart,
	}
}

func encoded(t testing.TB, c coder, values map[string]any) map[string][]byte {
	t.Helper()
	out := make(map[string][]byte, len(values))
	for k, v := range values {
		b, err := c.Marshal(v)
		if err != nil {
			t.Fatalf("Marshal(%T): %v", v, err)
		}
		out[k] = b
	}
	return out
}

type (
	named   string
	namedB  []byte
	namedM  map[string]string
	node    struct{ Next *node }
	generic struct {
		Any  any
		List []any
		Map  map[string]any
	}
	base  struct{ ID int }
	outer struct {
		base
		*Inner
		Name string `json:"name,omitempty"`
		Skip string `json:"-"`
	}
	Inner struct {
		X, Y int `json:",omitempty"`
	}
)

type widths struct {
	A int8
	B int16
	C int32
	D int64
	E uint8
	F uint16
	G uint32
	H uint64
	I float32
	J float64
	K bool
	L time.Duration
	M [3]int
	N [4]byte
	O *int
	P **string
	Q map[int]string
	R map[named][]int
	S namedB
	T struct{}
}

// TestRoundTrip reads each value back into the type that it was written from.
func TestRoundTrip(t *testing.T) {
	one, text := 1, "deep"
	ptext := &text
	utc := time.Date(2026, 11, 22, 22, 22, 0, 123456789, time.UTC)
	addr := netip.MustParseAddr("192.0.2.1")
	page, err := url.Parse("https://example.org/a?b=c")
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []any{
		true, false, 0, 1, -1, 127, 128, -32, -33, 255, 256, 1 << 40, math.MinInt64, math.MaxInt64,
		int8(-128), int16(math.MinInt16), int32(math.MinInt32), uint8(255), uint16(65535), uint32(math.MaxUint32), uint64(math.MaxUint64),
		0.0, 1.5, math.MaxFloat64, math.SmallestNonzeroFloat64, float32(1.25), 3.0,
		"", "a", strings.Repeat("x", 31), strings.Repeat("x", 32), strings.Repeat("x", 256), strings.Repeat("x", 70000), "\u2028 <&> \ufffd \x00 é",
		[]byte{}, []byte{0, 1, 255}, bytes.Repeat([]byte{7}, 300), bytes.Repeat([]byte{7}, 70000), namedB("x"),
		[]string{}, []string{"a", "b"}, []int{1, -2, 300}, [][]int{{1}, {}, {2, 3}}, [2]string{"a", "b"},
		make([]int, 16), make([]int, 70000),
		map[string]int{"a": 1}, map[int]string{-1: "a", 200: "b"}, map[string]string{}, namedM{"k": "v"}, map[named]bool{"x": true},
		map[string]map[int][]string{"a": {1: {"b"}}},
		utc, time.Time{}, time.Unix(1, 0).UTC(), time.Unix(1<<33, 5).UTC(), time.Unix(-1, 999).UTC(), time.Second,
		&one, &ptext, named("n"), struct{}{},
		node{&node{&node{}}},
		widths{-1, -2, -3, -4, 5, 6, 7, 8, 9.5, 10.5, true, time.Hour, [3]int{1, 2, 3}, [4]byte{1, 2, 3, 4}, &one, &ptext,
			map[int]string{1: "a"}, map[named][]int{"k": {1}}, namedB{1}, struct{}{}},
		widths{},
		outer{base: base{1}, Inner: &Inner{2, 3}, Name: "n"},
		outer{base: base{1}},
		addr, map[netip.Addr]int{addr: 1}, *page, page, big.NewInt(0).Lsh(big.NewInt(1), 100),
		[]struct{ U url.URL }{{*page}},
		[]item{{"s", "n", 1, 2.5}},
	} {
		for _, c := range coders {
			name := fmt.Sprintf("%s/%T", c.name, v)
			data, err := c.Marshal(v)
			if err != nil {
				t.Errorf("%s: Marshal: %v", name, err)
				continue
			}
			p := reflect.New(reflect.TypeOf(v))
			if err := c.Unmarshal(data, p.Interface()); err != nil {
				t.Errorf("%s: Unmarshal: %v", name, err)
				continue
			}
			if got := p.Elem().Interface(); !reflect.DeepEqual(got, v) {
				t.Errorf("%s: wrote %#v, read %#v", name, v, got)
			}
			again, err := c.Marshal(p.Elem().Interface())
			if err != nil || !bytes.Equal(again, data) {
				t.Errorf("%s: the value read is encoded as %q (%v), the one written as %q", name, again, err, data)
			}
			for _, more := range []string{"x", " ", "\n", "\x00"} {
				if err := c.Unmarshal(append(slices.Clip(data), more...), p.Interface()); err == nil {
					t.Errorf("%s: %q after the value is accepted", name, more)
				}
			}
			if len(data) < 100 {
				for n := range data {
					// In JSON, a prefix of a number is a number.
					if err := c.Unmarshal(data[:n:n], p.Interface()); err == nil && c.name != "JSON" {
						t.Errorf("%s: %d of %d bytes are accepted", name, n, len(data))
					}
				}
			}
			if values, err := c.Join(map[string][]byte{"v": data}); err != nil {
				t.Errorf("%s: Join refuses what Marshal made: %v", name, err)
			} else if split, err := c.Split(values); err != nil || !bytes.Equal(split["v"], data) {
				t.Errorf("%s: Split gives %q (%v) for %q", name, split["v"], err, data)
			}
		}
	}
}

// TestUTC checks that a time is read back as the same instant, in UTC, from
// every zone.
func TestUTC(t *testing.T) {
	zone := time.FixedZone("", 3600)
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, zone)
	for _, c := range coders {
		data, err := c.Marshal(at)
		if err != nil {
			t.Fatal(err)
		}
		var got time.Time
		if err := c.Unmarshal(data, &got); err != nil || !got.Equal(at) {
			t.Errorf("%s: %v, %v; want %v", c.name, got, err, at)
		}
	}
}

// TestAny checks the types that values get in an any.
func TestAny(t *testing.T) {
	utc := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	for _, tt := range []struct{ in, msgpack, json any }{
		{nil, nil, nil},
		{true, true, true},
		{1, int64(1), 1.0},
		{200, int64(200), 200.0},
		{-200, int64(-200), -200.0},
		{int8(1), int64(1), 1.0},
		{uint64(1) << 63, uint64(1) << 63, math.Ldexp(1, 63)},
		{2.0, 2.0, 2.0},
		{float32(2.5), 2.5, 2.5},
		{"s", "s", "s"},
		{[]byte("hi"), []byte("hi"), "aGk="},
		{[]string{"a"}, []any{"a"}, []any{"a"}},
		{map[string]int{"a": 1}, map[string]any{"a": int64(1)}, map[string]any{"a": 1.0}},
		{map[int]int{2: 1}, map[any]any{int64(2): int64(1)}, map[string]any{"2": 1.0}},
		{map[any]any{"a": 1, 2: "b"}, map[any]any{"a": int64(1), int64(2): "b"}, nil},
		{item{"s", "n", 1, 2}, map[string]any{"sku": "s", "name": "n", "qty": int64(1), "price": 2.0},
			map[string]any{"sku": "s", "name": "n", "qty": 1.0, "price": 2.0}},
		{utc, utc, "2026-01-02T03:04:05.000000006Z"},
	} {
		for _, c := range coders {
			want := tt.msgpack
			if c.name == "JSON" {
				if want = tt.json; want == nil && tt.in != nil {
					continue // not for JSON
				}
			}
			data, err := c.Marshal(tt.in)
			if err != nil {
				t.Errorf("%s: Marshal(%T): %v", c.name, tt.in, err)
				continue
			}
			var got any = "not touched"
			if err := c.Unmarshal(data, &got); err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("%s: %#v comes back as %#v (%v), want %#v", c.name, tt.in, got, err, want)
			}
			var in struct{ V any }
			data, err = c.Marshal(struct{ V any }{tt.in})
			if err != nil {
				t.Errorf("%s: Marshal(%T in a struct): %v", c.name, tt.in, err)
			} else if err := c.Unmarshal(data, &in); err != nil || !reflect.DeepEqual(in.V, want) {
				t.Errorf("%s: %#v in a struct comes back as %#v (%v), want %#v", c.name, tt.in, in.V, err, want)
			}
		}
	}
}

// TestMisfit checks that a value that the target cannot hold is an error.
func TestMisfit(t *testing.T) {
	for _, tt := range []struct{ in, target any }{
		{300, new(int8)},
		{-129, new(int8)},
		{40000, new(int16)},
		{1 << 40, new(int32)},
		{uint64(math.MaxUint64), new(int64)},
		{uint64(math.MaxUint64), new(int)},
		{-1, new(uint)},
		{-1, new(uint8)},
		{256, new(uint8)},
		{1.5, new(int)},
		{"1", new(int)},
		{1, new(string)},
		{1, new(bool)},
		{1, new([]int)},
		{"s", new(time.Time)},
		{[]int{300}, new([]int8)},
		{map[string]int{"a": 300}, new(map[string]int8)},
		{map[int]int{300: 1}, new(map[int8]int)},
		{widths{D: 5}, new(struct{ D string })},
		{struct{ A int }{300}, new(widths)},
		{1e300, new(float32)},
		{[]int{1}, new(map[string]any)},
		{map[string]int{}, new([]int)},
		{map[string]int{}, new(string)},
		{1, new(chan int)},
		{1, new(func())},
		{1, new(fmt.Stringer)},
		{1, nil},
		{1, 1},
		{1, (*int)(nil)},
		{1, (*any)(nil)},
		{"s", (*string)(nil)},
	} {
		for _, c := range coders {
			data, err := c.Marshal(tt.in)
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Unmarshal(data, tt.target); err == nil {
				t.Errorf("%s: %#v fits %T", c.name, tt.in, tt.target)
			}
		}
	}
}

// TestRaw decodes data of other encoders, and invalid data.
func TestRaw(t *testing.T) {
	type in struct{ A int }
	type emb struct{ *Inner }
	for _, tt := range []struct {
		data string
		v    any
		want any // nil if it must be refused
	}{
		{"\xd0\x05", new(int), 5},
		{"\xd1\x00\x05", new(uint8), uint8(5)},
		{"\xd3\xff\xff\xff\xff\xff\xff\xff\xfb", new(int8), int8(-5)},
		{"\xd2\xff\xff\xff\xfb", new(any), int64(-5)},
		{"\xcf\x00\x00\x00\x00\x00\x00\x00\x05", new(any), int64(5)},
		{"\xcf\x80\x00\x00\x00\x00\x00\x00\x00", new(any), uint64(1 << 63)},
		{"\xca\x3f\xc0\x00\x00", new(float64), 1.5},
		{"\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00", new(float32), float32(1.5)},
		{"\xcb\x3f\xb9\x99\x99\x99\x99\x99\x9a", new(float32), nil},
		{"\x07", new(float64), 7.0},
		{"\xf9", new(float64), -7.0},
		{"\xcf\xff\xff\xff\xff\xff\xff\xff\xff", new(float64), nil},
		{"\xd3\x80\x00\x00\x00\x00\x00\x00\x01", new(float64), nil},
		{"\xa1a", new(float64), nil},
		{"\xdd\x00\x00\x00\x01\x05", new([]int), []int{5}},
		{"\xa2hi", new([]byte), []byte("hi")},
		{"\xc4\x02hi", new(string), nil},
		{"\xa2hi", new([2]byte), nil},
		{"\xc4\x01h", new([2]byte), nil},
		{"\x91\x05", new([2]int), nil},
		{"\x92\x05\xa1a", new([2]int), nil},
		{"\x81\xa1A\x05", new(in), in{5}},
		{"\x82\xa1Z\x93\x01\x02\xc0\xa1A\x05", new(in), in{5}},
		{"\x81\x01\x05", new(in), nil},
		{"\x91\x05", new(in), nil},
		{"\x91\x05", new(arrayed), nil},
		{"\x92\x05\x05", new(arrayed), nil},
		{"\x82\xa1A\x05\xa1B\xa1b", new(arrayed), nil},
		{"\x81\xa1X\xc0", new(emb), emb{}},
		{"\x81\xa1X\x05", new(emb), emb{&Inner{X: 5}}},
		{"\x82\xa1a\x01\xa1a\x01", new(map[string]int), nil},
		{"\x82\xa1a\x01\xa1a\x01", new(any), nil},
		{"\x82\x01\x01\x01\x01", new(any), nil},
		{"\x82\xa1a\x01\x01\xd7\xff\xff\xff\xff\xff\xff\xff\xff\xff", new(any), nil},
		{"\x81\xd7\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", new(any), nil},
		{"\x81\xa1a\xd7\xff\xff\xff\xff\xff\xff\xff\xff\xff", new(any), nil},
		{"\x91\xd7\xff\xff\xff\xff\xff\xff\xff\xff\xff", new(any), nil},
		{"\xd7\xff\xff\xff\xff\xff\xff\xff\xff\xff", new(time.Time), nil},
		{"\x81\x90\x01", new(any), nil},
		{"\x81\x80\x01", new(map[any]int), nil},
		{"\x81\x01\x02", new(map[any]any), map[any]any{int64(1): int64(2)}},
		{"\x81\xa1a\x02", new(customMap), customMap{"a": 2}},
		{"\x81\xa1a", new(customMap), nil},
		{"\x81\xa1a\xa1b", new(customMap), nil},
		{"\x92\x01\x02", new(first), nil}, // leaves a part unread
		{"\xc1", new(any), nil},
		{"", new(any), nil},
	} {
		err := codec.MessagePack{}.Unmarshal([]byte(tt.data), tt.v)
		got := reflect.ValueOf(tt.v).Elem().Interface()
		switch {
		case tt.want == nil && err == nil:
			t.Errorf("%x is decoded as %#v", tt.data, got)
		case tt.want != nil && (err != nil || !reflect.DeepEqual(got, tt.want)):
			t.Errorf("%x: got %#v, %v; want %#v", tt.data, got, err, tt.want)
		}
	}
}

// first encodes one value and decodes one, even if there are more.
type first int

func (f first) EncodeMsgpack(enc *msgpack.Encoder) error { return enc.EncodeInt(int64(f)) }

func (f *first) DecodeMsgpack(dec *msgpack.Decoder) error {
	n, err := dec.DecodeArrayLen()
	*f = first(n)
	return err
}

// TestNil checks that nil is the zero value of every type in MessagePack.
func TestNil(t *testing.T) {
	one := 1
	p, m, s, n, str, a := &one, map[string]int{"a": 1}, []int{1}, 1, "s", any(1)
	var c codec.MessagePack
	data, err := c.Marshal(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []any{&p, &m, &s, &n, &str, &a, new(time.Time), new(url.URL)} {
		if err := c.Unmarshal(data, v); err != nil || !reflect.ValueOf(v).Elem().IsZero() {
			t.Errorf("nil into %T: %v, %v", v, reflect.ValueOf(v).Elem(), err)
		}
	}
	for _, v := range []any{(*int)(nil), map[string]int(nil), []int(nil), []byte(nil), (*url.URL)(nil)} {
		if data, err := c.Marshal(v); err != nil || !bytes.Equal(data, []byte{0xc0}) {
			t.Errorf("%T: %x, %v", v, data, err)
		}
	}
}

// TestReplace checks that Unmarshal does not write through pointers that the
// target held before.
func TestReplace(t *testing.T) {
	var c codec.MessagePack
	data, err := c.Marshal(struct {
		B []byte
		S []int
		M map[string]int
		P *int
	}{[]byte{9}, []int{9}, map[string]int{"z": 9}, new(int)})
	if err != nil {
		t.Fatal(err)
	}
	one := 1
	b, s, m, p := []byte{1}, []int{1}, map[string]int{"a": 1}, &one
	v := struct {
		B    []byte
		S    []int
		M    map[string]int
		P    *int
		Kept string
	}{b, s, m, p, "kept"}
	if err := c.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	if b[0] != 1 || s[0] != 1 || len(m) != 1 || one != 1 {
		t.Error("what was there before has changed")
	}
	if v.B[0] != 9 || v.S[0] != 9 || len(v.M) != 1 || *v.P != 0 || v.Kept != "kept" {
		t.Errorf("read %+v", v)
	}
	clear(data)
	if v.B[0] != 9 || v.M["z"] != 9 {
		t.Error("what was read aliases the data")
	}
}

type (
	CyclicEmbed struct{ *CyclicEmbed }
	endless     *endless
	onlyHidden  struct{ secret int }
	interned    struct {
		S string `msgpack:",intern"`
	}
	twice struct {
		base
		ID int
	}
	panics    struct{}
	twoValues struct{}
	oneSide   struct{}
	failing   struct{}
)

var errFailing = errors.New("failing")

func (panics) MarshalMsgpack() ([]byte, error)    { panic("on purpose") }
func (panics) MarshalJSON() ([]byte, error)       { panic("on purpose") }
func (*panics) UnmarshalMsgpack([]byte) error     { panic(errFailing) }
func (*panics) UnmarshalJSON([]byte) error        { panic(errFailing) }
func (twoValues) MarshalMsgpack() ([]byte, error) { return []byte{1, 2}, nil }
func (twoValues) MarshalJSON() ([]byte, error)    { return []byte("1 2"), nil }
func (oneSide) MarshalMsgpack() ([]byte, error)   { return []byte{1}, nil }
func (failing) MarshalMsgpack() ([]byte, error)   { return nil, errFailing }
func (*failing) UnmarshalMsgpack([]byte) error    { return errFailing }
func (failing) MarshalJSON() ([]byte, error)      { return nil, errFailing }

// TestMarshalErrors checks values that cannot be encoded.
func TestMarshalErrors(t *testing.T) {
	var self any
	self = &self
	loop := &node{}
	loop.Next = loop
	selfMap := map[string]any{}
	selfMap["m"] = selfMap
	selfSlice := make([]any, 1)
	selfSlice[0] = selfSlice
	type tree struct{ L, R *tree }
	shared := &tree{}
	for range 60 {
		shared = &tree{shared, shared}
	}
	deep := any(1)
	for range 65 {
		deep = []any{deep}
	}
	both := []any{
		make(chan int), func() {}, complex(1, 2), []any{make(chan int)}, map[string]any{"f": func() {}},
		struct{ C chan int }{make(chan int)}, self, loop, selfMap, selfSlice, deep,
		panics{}, twoValues{}, []any{panics{}}, failing{}, strings.Repeat("x", codec.DefaultMaxSize),
	}
	for _, v := range both {
		for _, c := range coders {
			if data, err := c.Marshal(v); err == nil {
				t.Errorf("%s: %T is encoded in %d bytes", c.name, v, len(data))
			}
		}
	}
	for _, v := range []any{
		uintptr(1), CyclicEmbed{}, endless(nil), onlyHidden{1}, errFailing, interned{"s"}, twice{}, shared,
		struct{ E error }{}, map[string]url.URL{"a": {}}, []any{url.URL{}}, struct{ F fmt.Stringer }{}, []chan int{}, (*func())(nil), struct{ named }{"x"},
		msgpack.RawMessage{}, []msgpack.RawMessage{{}}, msgpack.RawMessage{0xc1}, msgpack.RawMessage{0xdd, 0xff, 0xff, 0xff, 0xff},
		msgpack.RawMessage{0xd4, 5, 5}, map[any]int{int8(1): 1, int64(1): 2}, map[float64]int{math.NaN(): 1, math.NaN(): 2},
	} {
		if data, err := (codec.MessagePack{}).Marshal(v); err == nil {
			t.Errorf("MessagePack: %T is encoded as %x", v, data)
		}
	}
	for _, v := range []any{math.NaN(), math.Inf(1), "\xff", []string{"\\", "a\xffb"}, map[string]int{"\xff": 1}} {
		if data, err := (codec.JSON{}).Marshal(v); err == nil {
			t.Errorf("JSON: %#v is encoded as %s", v, data)
		}
	}
	for _, c := range coders {
		if _, err := c.Marshal(failing{}); !errors.Is(err, errFailing) {
			t.Errorf("%s: the cause cannot be reached in %v", c.name, err)
		}
		one, err := c.Marshal(1)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Unmarshal(one, new(panics)); !errors.Is(err, errFailing) {
			t.Errorf("%s: the cause cannot be reached in %v", c.name, err)
		}
	}
	if err := (codec.MessagePack{}).Unmarshal([]byte{1}, new(oneSide)); err == nil {
		t.Error("a type without a method to decode it is decoded")
	}
	if data, err := (codec.MessagePack{}).Marshal(oneSide{}); err == nil {
		t.Errorf("a type without a method to decode it is encoded as %x", data)
	}
}

// TestDeterministic checks that equal values give equal bytes, including maps of
// all types.
func TestDeterministic(t *testing.T) {
	const n = 40
	build := func(reverse bool) []any {
		order := make([]int, n)
		for i := range order {
			order[i] = i
		}
		if reverse {
			slices.Reverse(order)
		}
		a, b, c, d := map[string]int{}, map[int]string{}, map[string]any{}, map[named]map[int8]bool{}
		e, f, g, h := map[any]any{}, map[[2]int]int{}, map[string]string{}, map[string]bool{}
		k, l := map[string]struct{}{}, map[netip.Addr]int{}
		for _, i := range order {
			s := strings.Repeat("k", i%7) + fmt.Sprint(i)
			a[s], b[i*100-1000], g[s], h[s], k[s] = i, s, s, true, struct{}{}
			c[s] = map[uint16]int{uint16(i): 1, uint16(i + 300): 2, 7: 3}
			d[named(s)] = map[int8]bool{int8(i): true, int8(-i - 1): false}
			e[i], e[s] = map[int]int{i: 1, -1000: 2}, s
			f[[2]int{i, -i}] = i
			l[netip.AddrFrom4([4]byte{1, 2, 3, byte(i)})] = i
		}
		return []any{a, b, c, d, e, f, g, h, k, l, []any{a, b, c}, struct{ A, B any }{b, d}, &a,
			map[string]map[string]int{"a": a}, customMap(a)}
	}
	for _, c := range coders {
		first := build(false)
		for i, v := range first {
			want, err := c.Marshal(v)
			if err != nil {
				if c.name == "JSON" {
					continue // JSON does not allow every kind of key
				}
				t.Fatalf("%s: %T: %v", c.name, v, err)
			}
			for round := range 20 {
				got, err := c.Marshal(build(round%2 == 0)[i])
				if err != nil || !bytes.Equal(got, want) {
					t.Errorf("%s: %T: another encoding for an equal value (%v)", c.name, v, err)
					break
				}
			}
			p := reflect.New(reflect.TypeOf(v))
			if err := c.Unmarshal(want, p.Interface()); err != nil {
				t.Errorf("%s: %T: %v", c.name, v, err)
			}
		}
		values := encoded(t, c, typical())
		want, err := c.Join(values)
		if err != nil {
			t.Fatal(err)
		}
		for range 20 {
			if got, err := c.Join(maps.Clone(values)); err != nil || !bytes.Equal(got, want) {
				t.Fatalf("%s: another Join of equal values (%v)", c.name, err)
			}
		}
	}
}

// customMap encodes itself in the order of the map.
type customMap map[string]int

func (m customMap) EncodeMsgpack(enc *msgpack.Encoder) error {
	if err := enc.EncodeMapLen(len(m)); err != nil {
		return err
	}
	for k, v := range m {
		if err := enc.EncodeMulti(k, v); err != nil {
			return err
		}
	}
	return nil
}

func (m *customMap) DecodeMsgpack(dec *msgpack.Decoder) error {
	n, err := dec.DecodeMapLen()
	if err != nil {
		return err
	}
	*m = make(customMap)
	for range n {
		var k string
		var v int
		if err := dec.DecodeMulti(&k, &v); err != nil {
			return err
		}
		(*m)[k] = v
	}
	return nil
}

// TestJoinSplit checks that Split returns the values given to Join.
func TestJoinSplit(t *testing.T) {
	many := make(map[string]any)
	for i := range 1000 {
		many[fmt.Sprint(i)] = i
	}
	for _, c := range coders {
		for _, v := range []map[string]any{
			nil, {}, typical(), many,
			{"": 1, "\x00": 2, "\"": 3, "\\": 4, "\n\t\x1f\x7f": 5, "é": 6, "\u2028": 7, "<&>": 8, "\ufffd": 9, "\U0001f36a": 10, "\\u0000": 11, "/": 12},
			{strings.Repeat("a", 31): 1, strings.Repeat("b", 32): 2, strings.Repeat("c", 255): 3, strings.Repeat("d", 256): 4, strings.Repeat("e", 70000): 5},
		} {
			values := encoded(t, c, v)
			blob, err := c.Join(values)
			if err != nil || len(blob) == 0 {
				t.Fatalf("%s: Join gives %d bytes, %v", c.name, len(blob), err)
			}
			got, err := c.Split(blob)
			if err != nil || got == nil || !maps.EqualFunc(got, values, bytes.Equal) {
				t.Fatalf("%s: Split gives %q, %v; want %q", c.name, got, err, values)
			}
			for k := range got {
				if cap(got[k]) != len(got[k]) {
					t.Fatalf("%s: appending to a value would write over the next", c.name)
				}
			}
			for n := range min(len(blob), 300) {
				if _, err := c.Split(blob[:n]); err == nil {
					t.Fatalf("%s: Split accepts %d of %d bytes", c.name, n, len(blob))
				}
			}
			if _, err := c.Split(append(slices.Clip(blob), ' ')); err == nil {
				t.Fatalf("%s: Split accepts a byte after the blob", c.name)
			}
		}
		one := encoded(t, c, map[string]any{"k": 1})["k"]
		for _, values := range []map[string][]byte{
			{"k": nil}, {"k": {}}, {"\xff": one}, {"k": append(slices.Clip(one), ',')}, {"k": {0xc1}},
			{"k": []byte("[1")}, {"k": []byte(`{"a":1`)}, {"k": {0x92, 1}}, {"k": []byte(" 1")},
		} {
			if blob, err := c.Join(values); err == nil {
				t.Errorf("%s: Join(%q) gives %q", c.name, values, blob)
			}
		}
	}
}

// TestBlobsDiffer checks that neither codec accepts the other's blob.
func TestBlobsDiffer(t *testing.T) {
	for i, c := range coders {
		for _, v := range []map[string]any{{}, {"k": 1}, typical()} {
			blob, err := c.Join(encoded(t, c, v))
			if err != nil {
				t.Fatal(err)
			}
			other := coders[1-i]
			if _, err := other.Split(blob); err == nil {
				t.Errorf("%s splits a blob of %s", other.name, c.name)
			}
		}
	}
}

// TestSplitHostile checks that Split refuses data that Join cannot have made.
func TestSplitHostile(t *testing.T) {
	rep := func(b byte, n int) string { return strings.Repeat(string([]byte{b}), n) }
	for i, tables := range [][]string{{
		"", "\xc0", "\x01", "\x90", "\xa1a", "\xc1",
		"\x80\x80",                           // trailing
		"\x81", "\x81\xa1a", "\x81\xa1a\xc1", // cut off, no value
		"\x81\x01\x01", "\x81\xc4\x01a\x01", "\x81\xc0\x01", // keys that are not strings
		"\x82\xa1a\x01\xa1a\x01", "\x82\xa1b\x01\xa1a\x01", // twice, out of order
		"\xde\x00\x01\xa1a\x01", "\xdf\x00\x00\x00\x01\xa1a\x01", "\xde\x00\x00", // long lengths
		"\x81\xd9\x01a\x01", "\x81\xda\x00\x01a\x01", "\x81\xdb\x00\x00\x00\x01a\x01",
		"\xdf\xff\xff\xff\xff", "\xde\xff\xff", "\x8f", "\x8f\xa1a\x01",
		"\x81\xdb\xff\xff\xff\xff", "\x81\xdbaaaa", "\x81\xa1\xff\x01",
		"\x81\xa1a\xdd\xff\xff\xff\xff", "\x81\xa1a\xdf\xff\xff\xff\xff", "\x81\xa1a\xdf\x80\x00\x00\x00",
		"\x81\xa1a\xc6\xff\xff\xff\xff", "\x81\xa1a\xdb\xff\xff\xff\xff", "\x81\xa1a\xc9\xff\xff\xff\xff\xff",
		"\x81\xa1a\xd4\x05\x00", "\x81\xa1a\xd4\xff\x00", "\x81\xa1a\xc7\x04\xff\x00", "\x81\xa1a\xc7\x00\xff", // extensions
		"\x81\xa1a" + rep(0x91, 64) + "\x91\xc0", "\x81\xa1a" + rep(0x91, 1_000_000), "\x81\xa1a" + rep(0x81, 1_000_000),
		"\x81\xa1a" + rep(0, 5<<20),
	}, {
		"", "null", "1", "[]", `"a"`, "{", "}", "{}{}", "{} ", " {}", "{ }", "{},", "\ufeff{}",
		`{"a"}`, `{"a":}`, `{"a":1,}`, `{,}`, `{"a":1 }`, `{"a": 1}`, `{"a":1,"a":2}`, `{"b":1,"a":2}`, `{a:1}`, `{1:1}`,
		`{"a":01}`, `{"a":1.}`, `{"a":.1}`, `{"a":+1}`, `{"a":1e}`, `{"a":-}`, `{"a":nul}`, `{"a":NaN}`, `{"a":tru`, `{"a":[1,]}`, `{"a":[}`,
		`{"a":[1}`, `{"a":{"b":1]}`, `{"a":{1:1}}`, `{"a":{"b"1}}`, `{"a":"}`, `{"a":"\x"}`, `{"a":"\u12"}`, `{"a":"\u12g4"}`, "{\"a\":\"\x01\"}", "{\"a\":\"\n\"}",
		"{\"\xff\":1}", "{\"a\":\"\xff\"}", "{\"a\":\"\x00\"}", `{"a":1`, `{"a":1;"b":2}`, `{"a";1}`,
		`{"\u0041":1}`, `{"\n":1}`, `{"\/":1}`, `{"\u001F":1}`, `{"\u0020":1}`, `{"\u1000":1}`, `{"\ud800":1}`,
		`{"a":` + rep('[', 65) + rep(']', 65) + "}", `{"a":` + rep('[', 1_000_000), `{"a":` + strings.Repeat(`{"a":`, 500_000),
		`{"a":"` + rep('x', 5<<20) + `"}`,
	}} {
		c := coders[i]
		for _, data := range tables {
			if got, err := c.Split([]byte(data)); err == nil {
				t.Errorf("%s: Split(%.40q) gives %q", c.name, data, got)
			}
		}
	}
}

// TestLimits checks that the limits hold for writing as well as for reading, and
// are inclusive.
func TestLimits(t *testing.T) {
	for _, mk := range []struct {
		name string
		with func(depth, values, size int) coder
	}{
		{"MessagePack", func(d, v, s int) coder { return codec.MessagePack{MaxDepth: d, MaxValues: v, MaxSize: s} }},
		{"JSON", func(d, v, s int) coder { return codec.JSON{MaxDepth: d, MaxValues: v, MaxSize: s} }},
	} {
		free := mk.with(0, 0, 0)
		nested, err := free.Marshal([][]int{{1}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := mk.with(1, 0, 0).Marshal([][]int{{1}}); err == nil {
			t.Errorf("%s: Marshal ignores MaxDepth", mk.name)
		}
		var v [][]int
		if err := mk.with(1, 0, 0).Unmarshal(nested, &v); err == nil {
			t.Errorf("%s: Unmarshal ignores MaxDepth", mk.name)
		}
		if err := mk.with(2, 0, len(nested)).Unmarshal(nested, &v); err != nil {
			t.Errorf("%s: %v", mk.name, err)
		}
		if err := mk.with(0, 0, len(nested)-1).Unmarshal(nested, &v); err == nil {
			t.Errorf("%s: Unmarshal ignores MaxSize", mk.name)
		}
		if got, err := mk.with(2, 0, len(nested)).Marshal([][]int{{1}}); err != nil || !bytes.Equal(got, nested) {
			t.Errorf("%s: %q, %v", mk.name, got, err)
		}
		if _, err := mk.with(0, 0, len(nested)-1).Marshal([][]int{{1}}); err == nil {
			t.Errorf("%s: Marshal ignores MaxSize", mk.name)
		}

		values := map[string][]byte{"a": nested, "b": nested}
		blob, err := free.Join(values)
		if err != nil {
			t.Fatal(err)
		}
		for _, tt := range []struct {
			what string
			c    coder
			ok   bool
		}{
			{"within all limits", mk.with(2, 2, len(blob)), true},
			{"MaxDepth", mk.with(1, 2, len(blob)), false},
			{"MaxValues", mk.with(2, 1, len(blob)), false},
			{"MaxSize", mk.with(2, 2, len(blob)-1), false},
		} {
			if _, err := tt.c.Join(values); (err == nil) != tt.ok {
				t.Errorf("%s: %s: Join: %v", mk.name, tt.what, err)
			}
			if _, err := tt.c.Split(blob); (err == nil) != tt.ok {
				t.Errorf("%s: %s: Split: %v", mk.name, tt.what, err)
			}
		}
	}
}

// allocated returns how many bytes f allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// TestClaimedLengths checks that a few bytes that claim 2^32 elements cost under
// 1 MB, for every target.
func TestClaimedLengths(t *testing.T) {
	var c codec.MessagePack
	for _, tt := range []struct {
		data  string
		valid bool
	}{
		{"\xdf\xff\xff\xff\xff", false},
		{"\xdd\xff\xff\xff\xff", false},
		{"\xdb\xff\xff\xff\xff", false},
		{"\xc6\xff\xff\xff\xff", false},
		{"\xc9\xff\xff\xff\xff\xff", false},
		{"\xdd\xff\xff\xff\xff\x00", false},
		{"\x81\xa1a\xdd\xff\xff\xff\xff", false},
		{"\x81\xa1a\xdf\xff\xff\xff\xff", false},
		{"\xde\xff\xff", false},
		{"\xdc\xff\xff", false},
		// Timestamps whose content looks like the length of a map.
		{"\xd7\xff\xdf\xff\xff\xff\xff\x00\x00\x00", true},
		{"\xd7\xff\x00\x00\x00\xdf\xff\xff\xff\xff", true},
		{"\x92\xd6\xff\xdf\xff\xff\xff\xff", true},
	} {
		data := []byte(tt.data)
		targets := []any{
			new(any), new(string), new([]byte), new([]string), new([]int), new([]any), new(map[string]string), new(map[string]any),
			new(map[any]any), new(map[int]int), new([]map[string]any), new(generic), new(widths), new(time.Time), new([1 << 4]int),
		}
		used := allocated(func() {
			for _, v := range targets {
				if err := c.Unmarshal(data, v); err == nil && !tt.valid {
					t.Errorf("%x is decoded into %T", data, v)
				}
			}
			if _, err := c.Split(data); err == nil {
				t.Errorf("%x is split", data)
			}
		})
		if used > 1<<20 {
			t.Errorf("%x costs %d bytes", data, used)
		}
	}
}

// TestBoundedMemory checks that the decoded value, and the work, are bounded by
// a multiple of the data.
func TestBoundedMemory(t *testing.T) {
	const n = 64 << 10
	type big [256]int64
	array := func(e string) string { return "\xdd\x00\x01\x00\x00" + strings.Repeat(e, n) }
	pairs := func(e string) string { return "\xdf\x00\x01\x00\x00" + strings.Repeat(e, n) }
	var c codec.MessagePack
	for _, tt := range []struct {
		name, data string
		v          any
		times      int
	}{
		{"any, nils", array("\xc0"), new(any), 60},
		{"any, empty arrays", array("\x90"), new(any), 60},
		{"any, empty maps", array("\x80"), new(any), 80},
		{"any, floats", array("\xca\x00\x00\x00\x00"), new(any), 60},
		{"any, one key", pairs("\xa0\xc0"), new(any), 60},
		{"map, one key", pairs("\xa0\xc0"), new(map[string]any), 60},
		{"map, one number", pairs("\x01\x01"), new(map[int]big), 60},
		{"large elements that do not fit", array("\x01"), new([]big), 60},
	} {
		used := allocated(func() {
			if err := c.Unmarshal([]byte(tt.data), tt.v); err != nil {
				t.Logf("%s: %v", tt.name, err)
			}
		})
		if limit := uint64(tt.times * len(tt.data)); used > limit {
			t.Errorf("%s: %d bytes of data cost %d, more than %d", tt.name, len(tt.data), used, limit)
		}
	}
	// Maps in maps, each with a key at its end that is not a string: work must
	// not double with each level.
	nested := "\xc0"
	for range 60 {
		nested = "\x82\xa1a" + nested + "\x01\xc0"
	}
	if err := c.Unmarshal([]byte(nested), new(any)); err != nil {
		t.Error(err)
	}
}

// TestInterchange checks that the library reads values written here, and the
// other way round.
func TestInterchange(t *testing.T) {
	var c codec.MessagePack
	for _, v := range []any{
		1, "s", []string{"a"}, 2.5, map[string]int{"a": 1, "b": 2}, item{"s", "n", 1, 2.5},
		outer{base: base{1}, Inner: &Inner{2, 3}, Name: "n"}, time.Unix(1, 2).UTC(), []byte{1},
		arrayed{A: 1, B: "b"}, &Inner{1, 2},
	} {
		data, err := c.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		p := reflect.New(reflect.TypeOf(v))
		dec := msgpack.NewDecoder(bytes.NewReader(data))
		dec.SetCustomStructTag("json")
		if err := dec.DecodeValue(p.Elem()); err != nil {
			t.Errorf("%T: %v", v, err)
		} else if tm, ok := p.Elem().Interface().(time.Time); ok {
			if !tm.Equal(v.(time.Time)) {
				t.Errorf("wrote %v, the library read %v", v, tm)
			}
		} else if !reflect.DeepEqual(p.Elem().Interface(), v) {
			t.Errorf("wrote %#v, the library read %#v", v, p.Elem())
		}

		var buf bytes.Buffer
		enc := msgpack.NewEncoder(&buf)
		enc.SetCustomStructTag("json")
		if err := enc.Encode(v); err != nil {
			t.Fatal(err)
		}
		p = reflect.New(reflect.TypeOf(v))
		if err := c.Unmarshal(buf.Bytes(), p.Interface()); err != nil || !reflect.DeepEqual(p.Elem().Interface(), v) {
			t.Errorf("the library wrote %#v, read %#v, %v", v, p.Elem(), err)
		}
	}
}

type arrayed struct {
	_msgpack struct{} `msgpack:",as_array"` //nolint:unused // read by its tag
	A        int
	B        string
}

// TestTags checks that one struct serves both codecs, and that a msgpack tag
// takes precedence over json.
func TestTags(t *testing.T) {
	type tagged struct {
		A int `json:"a,omitempty"`
		B int `msgpack:"bee,alias:b2" json:"b"`
		C int `json:"-"`
	}
	var c codec.MessagePack
	data, err := c.Marshal(tagged{0, 2, 3})
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]int
	if err := c.Unmarshal(data, &m); err != nil || !maps.Equal(m, map[string]int{"bee": 2}) {
		t.Errorf("%v, %v", m, err)
	}
	old, err := c.Marshal(map[string]any{"a": 1, "b2": 2, "gone": []any{1, map[string]any{"x": 1}}, "C": 9})
	if err != nil {
		t.Fatal(err)
	}
	var got tagged
	if err := c.Unmarshal(old, &got); err != nil || got != (tagged{1, 2, 0}) {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestText checks that JSON says that it is text, and MessagePack does not.
func TestText(t *testing.T) {
	if !(codec.JSON{}).Text() {
		t.Error("JSON is not text")
	}
	if c, ok := any(codec.MessagePack{}).(interface{ Text() bool }); ok && c.Text() {
		t.Error("MessagePack is text")
	}
}

// TestConcurrent is for the race detector: pools and caches are shared.
func TestConcurrent(t *testing.T) {
	done := make(chan error)
	for range 4 {
		go func() {
			var err error
			for range 50 {
				for _, c := range coders {
					for _, v := range typical() {
						data, e := c.Marshal(v)
						if e == nil {
							e = c.Unmarshal(data, reflect.New(reflect.TypeOf(v)).Interface())
						}
						err = errors.Join(err, e)
					}
				}
			}
			done <- err
		}()
	}
	for range 4 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// TestImports checks that package codec does not depend on the root package or a
// store.
func TestImports(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").CombinedOutput()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, out)
	}
	const self = "github.com/seed-a7bee19b/session"
	own := []string{self + "/codec", self + "/internal/nameset", self + "/internal/readback", self + "/internal/room"}
	for pkg := range strings.FieldsSeq(string(out)) {
		if strings.Contains(pkg, "aws") || pkg == self || strings.HasPrefix(pkg, self+"/") && !slices.Contains(own, pkg) {
			t.Errorf("codec depends on %s", pkg)
		}
	}
}

// TestElements checks that data is accepted as an element of an array exactly if
// it is accepted as a value.
func TestElements(t *testing.T) {
	var c codec.MessagePack
	for first := range 256 {
		for size := 1; size <= 40; size++ {
			value := make([]byte, size)
			value[0] = byte(first)
			_, alone := c.Join(map[string][]byte{"v": value})
			_, within := c.Join(map[string][]byte{"v": append([]byte{0x91}, value...)})
			if (alone == nil) != (within == nil) {
				t.Errorf("%#x and %d bytes: %v; in an array: %v", first, size-1, alone, within)
			}
		}
	}
}
