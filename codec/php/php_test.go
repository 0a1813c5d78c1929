package php_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/codec/php"
)

var (
	_ session.TextCodec = php.Codec{}
	_ session.NameCodec = php.Codec{}
)

type item struct {
	SKU   string   `php:"sku"`
	Qty   int      `php:"qty"`
	Price float64  `php:"price"`
	Tags  []string `php:"tags"`
}

type cart struct {
	Items []item    `php:"items"`
	Since time.Time `php:"since"`
	Note  *string   `php:"note"`
	Extra any       `php:"extra"`
	Skip  string    `php:"-"`
}

type customer struct {
	Name string `php:"name"`
	Age  int    `php:"age"`
}

func (customer) PHPClass() string { return `App\Customer` }

type node struct {
	Next *node `php:"next"`
}

// TestMarshal checks what is written, and that it is read back.
func TestMarshal(t *testing.T) {
	note := "n"
	at := time.Date(2026, 3, 29, 1, 59, 59, 123456789, time.FixedZone("", 3600))
	for _, tt := range []struct {
		v    any
		want string
	}{
		{nil, `N;`}, {true, `b:1;`}, {false, `b:0;`}, {0, `i:0;`}, {-5, `i:-5;`}, {int64(math.MinInt64), `i:-9223372036854775808;`}, {uint8(255), `i:255;`},
		{uint64(math.MaxInt64) + 1, `s:19:"9223372036854775808";`}, {uint64(math.MaxUint64), `s:20:"18446744073709551615";`},
		{1.0, `d:1;`}, {0.1, `d:0.1;`}, {math.Copysign(0, -1), `d:-0;`}, {1e25, `d:1.0E+25;`}, {1.5e-10, `d:1.5E-10;`}, {-2e-9, `d:-2.0E-9;`}, {1e16, `d:10000000000000000;`}, {1e17, `d:1.0E+17;`},
		{0.0001, `d:0.0001;`}, {0.00001, `d:1.0E-5;`}, {math.Inf(1), `d:INF;`}, {math.Inf(-1), `d:-INF;`}, {math.NaN(), `d:NAN;`}, {5e-324, `d:5.0E-324;`}, {float32(0.5), `d:0.5;`},
		{"", `s:0:"";`}, {`a"b`, `s:3:"a"b";`}, {"é\x00\xff", "s:4:\"é\x00\xff\";"}, {[]byte("\xff"), "s:1:\"\xff\";"}, {[2]byte{1, 2}, "s:2:\"\x01\x02\";"}, {[]byte(nil), `N;`}, {[]byte{}, `s:0:"";`},
		{[]int(nil), `N;`}, {[]int{}, `a:0:{}`}, {[]int{7, 8}, `a:2:{i:0;i:7;i:1;i:8;}`}, {[2]bool{true, false}, `a:2:{i:0;b:1;i:1;b:0;}`},
		{map[string]int{}, `a:0:{}`}, {map[string]int{"b": 1, "5": 2, "-3": 3, "a": 4, "05": 5}, `a:5:{i:-3;i:3;i:5;i:2;s:2:"05";i:5;s:1:"a";i:4;s:1:"b";i:1;}`},
		{map[string]int{"0": 1, "1": 2, "2": 3}, `a:3:{i:1;i:2;i:2;i:3;i:0;i:1;}`}, {map[string]any{"a": map[int]int{0: 1, 1: 2}}, `a:1:{s:1:"a";a:2:{i:1;i:2;i:0;i:1;}}`},
		{map[int]string{0: "a", 1: "b"}, `a:2:{i:0;s:1:"a";i:1;s:1:"b";}`}, {map[uint64]int{math.MaxUint64: 1, 3: 2}, `a:2:{i:3;i:2;s:20:"18446744073709551615";i:1;}`},
		{item{"x", 2, 1.5, []string{"t"}}, `a:4:{s:3:"sku";s:1:"x";s:3:"qty";i:2;s:5:"price";d:1.5;s:4:"tags";a:1:{i:0;s:1:"t";}}`},
		{cart{Items: []item{}, Note: &note, Extra: int64(1)}, `a:4:{s:5:"items";a:0:{}s:5:"since";s:20:"0001-01-01T00:00:00Z";s:4:"note";s:1:"n";s:5:"extra";i:1;}`},
		{customer{"Ann", 41}, `O:12:"App\Customer":2:{s:4:"name";s:3:"Ann";s:3:"age";i:41;}`},
		{[]*customer{nil, {"Bob", 1}}, `a:2:{i:0;N;i:1;O:12:"App\Customer":2:{s:4:"name";s:3:"Bob";s:3:"age";i:1;}}`},
		{at, `s:30:"2026-03-29T00:59:59.123456789Z";`}, {php.Time{Time: at.Truncate(time.Microsecond)}, `O:17:"DateTimeImmutable":3:{s:4:"date";s:26:"2026-03-29 00:59:59.123456";s:13:"timezone_type";i:3;s:8:"timezone";s:3:"UTC";}`},
		{php.Enum{Class: `App\Role`, Case: "Admin"}, `E:14:"App\Role:Admin";`}, {php.Opaque{Class: "Old", Data: []byte("a}b")}, `C:3:"Old":3:{a}b}`},
		{php.Object{Class: "A", Fields: []php.Field{{Name: "\x00*\x00p", Value: int64(1)}, {Name: "0", Value: nil}, {Name: "7", Int: true, Value: "x"}}}, "O:1:\"A\":3:{s:4:\"\x00*\x00p\";i:1;s:1:\"0\";N;i:7;s:1:\"x\";}"},
		{php.Array{{Name: "b", Value: true}, {Name: "1", Int: true, Value: "one"}}, `a:2:{s:1:"b";b:1;i:1;s:3:"one";}`}, {php.Array{}, `a:0:{}`}, {php.Array(nil), `N;`}, {php.Object{}, `N;`}, {php.Enum{}, `N;`}, {php.Opaque{}, `N;`},
		{php.Raw(`a:2:{i:0;O:1:"A":0:{}i:1;r:2;}`), `a:2:{i:0;O:1:"A":0:{}i:1;r:2;}`}, {php.Raw(nil), `N;`}, {[]php.Raw{php.Raw(`i:1;`)}, `a:1:{i:0;i:1;}`},
		{netip.MustParseAddr("10.0.0.1"), `s:8:"10.0.0.1";`}, {&node{&node{}}, `a:1:{s:4:"next";a:1:{s:4:"next";N;}}`}, {struct{}{}, `a:0:{}`}, {[3]struct{}{}, `a:3:{i:0;a:0:{}i:1;a:0:{}i:2;a:0:{}}`},
	} {
		for name, c := range handlers {
			got, err := c.Marshal(tt.v)
			if err != nil || string(got) != tt.want {
				t.Errorf("%s: Marshal of %#v: %q, %v; want %q", name, tt.v, got, err, tt.want)
				continue
			}
			target := reflect.TypeFor[any]()
			if tt.v != nil {
				target = reflect.TypeOf(tt.v)
			}
			back := reflect.New(target)
			if err := c.Unmarshal(got, back.Interface()); err != nil || !same(back.Elem().Interface(), tt.v) {
				t.Errorf("%s: Unmarshal of %q: %#v, %v; want %#v", name, got, back.Elem(), err, tt.v)
			}
			var v any
			if err := c.Unmarshal(got, &v); err != nil {
				t.Errorf("%s: Unmarshal of %q into an any: %v", name, got, err)
			}
		}
	}
}

// same is reflect.DeepEqual, but for NaN and for the zone of a time.
func same(a, b any) bool {
	if f, ok := a.(float64); ok && math.IsNaN(f) {
		g, ok := b.(float64)
		return ok && math.IsNaN(g)
	}
	if at, ok := a.(time.Time); ok {
		return at.Equal(b.(time.Time))
	}
	if at, ok := a.(php.Time); ok {
		return at.Equal(b.(php.Time).Time)
	}
	if m, ok := b.(map[string]any); ok && fmt.Sprint(m) == fmt.Sprint(a) {
		return true // a part of another type
	}
	return reflect.DeepEqual(a, b)
}

type (
	hidden struct{ A, b int }
	twice  struct {
		A int
		B int `php:"A"`
	}
	option struct {
		A int `php:"a,omitempty"`
	}
	noDec   struct{}
	badName struct{ A int }
	forever *forever
	losing  struct{ N int }
	stamped struct {
		time.Time
		Title string
	}
)

func (noDec) MarshalText() ([]byte, error)     { return nil, nil }
func (badName) PHPClass() string               { return "no class" }
func (l losing) MarshalText() ([]byte, error)  { return []byte("x"), nil }
func (l *losing) UnmarshalText(b []byte) error { return nil }

// TestMarshalRefuses checks that what could not be read back is an error.
func TestMarshalRefuses(t *testing.T) {
	var null *int
	var self any
	self = &self
	var loop any = []any{nil}
	loop.([]any)[0] = loop
	m := map[string]any{}
	m["m"] = m
	ring := &node{}
	ring.Next = ring
	deep := any(1)
	for range 300 {
		deep = []any{deep}
	}
	for _, v := range []any{
		make(chan int), func() {}, complex(1, 2), uintptr(1), []any{make(chan int)}, map[string]any{"a": func() {}}, struct{ C chan int }{}, struct{ E error }{}, hidden{1, 2}, &hidden{0, 1},
		struct{ a int }{}, twice{}, option{}, noDec{}, badName{}, losing{1}, []losing{{1}}, stamped{time.Now(), "t"}, forever(nil), &null, struct{ P *[]int }{new([]int)}, []any{&null},
		map[float64]int{}, map[bool]int{}, map[netip.Addr]int{}, map[any]int{}, map[string]int{"0": 1}, []any{map[int]int{0: 1}}, []any{uint64(math.MaxUint64)}, map[string]any{"a": uint(math.MaxUint64)},
		php.Time{Time: time.Unix(0, 1)}, php.Time{Time: time.Date(12345, 1, 1, 0, 0, 0, 0, time.UTC)}, time.Date(-1, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC),
		php.Object{Fields: []php.Field{}}, php.Object{Class: `\A`}, php.Object{Class: "a b"}, php.Object{Class: "A", Fields: []php.Field{{Name: "\x00"}}}, php.Object{Class: "A", Fields: []php.Field{{Name: "\x00\x00a"}}}, php.Object{Class: "A", Fields: []php.Field{{Name: "a"}, {Name: "a"}}},
		php.Object{Class: "A", Fields: []php.Field{{Name: "a", Int: true}}}, php.Array{{Name: "5"}}, php.Array{{Name: "a", Int: true}}, php.Array{{Name: "a"}, {Name: "a"}}, php.Enum{Case: "A"}, php.Enum{Class: "A"}, php.Enum{Class: "A:B", Case: "C"}, php.Enum{Class: `\A`, Case: "B"},
		php.Opaque{Data: []byte{}}, php.Opaque{Class: "A"}, php.Opaque{Class: "A b", Data: []byte{}}, php.Opaque{Class: "A", Data: []byte("R:1;")}, php.Raw("i:1"), php.Raw("N;"), php.Raw("i:1;i:2;"), php.Raw("r:1;"), php.Raw{}, []php.Raw{php.Raw(`a:1:{i:0;R:1;}`)},
		self, loop, m, ring, deep, strings.Repeat("x", 5<<20), make([]int, 1<<20),
	} {
		for name, c := range codecs {
			if data, err := c.Marshal(v); err == nil {
				t.Errorf("%s: Marshal of a %T made %.100q, want an error", name, v, data)
			}
		}
	}
	for _, v := range []any{"\xff", []string{"\xff"}, map[string]int{"\xff": 1}, php.Object{Class: "A", Fields: []php.Field{{Name: "\xff"}}}, php.Array{{Name: "\xff"}}, php.Raw("s:1:\"\xff\";"), php.Opaque{Class: "A", Data: []byte{255}}} {
		if data, err := (php.Codec{UTF8: true}).Marshal(v); err == nil {
			if _, err = (php.Codec{UTF8: true}).Join(map[string][]byte{"a": data}); err == nil {
				t.Errorf("Marshal and Join of %#v took bytes that are not text", v)
			}
		}
	}
}

// TestUnmarshal checks what values of PHP are in Go.
func TestUnmarshal(t *testing.T) {
	paris, err := time.LoadLocation("Europe/Paris")
	if err != nil {
		t.Fatal(err)
	}
	dateTime := `O:8:"DateTime":3:{s:4:"date";s:26:"2024-02-29 12:34:56.789000";s:13:"timezone_type";i:3;s:8:"timezone";s:12:"Europe/Paris";}`
	at := time.Date(2024, 2, 29, 12, 34, 56, 789e6, paris)
	for _, tt := range []struct {
		data string
		want any
	}{
		{`N;`, ""}, {`N;`, 0}, {`N;`, []int(nil)}, {`N;`, (*int)(nil)}, {`N;`, item{}}, {`i:5;`, uint8(5)}, {`i:5;`, 5.0}, {`i:5;`, float32(5)}, {`d:5;`, any(5.0)}, {`i:5;`, any(int64(5))}, {`d:0.10000000000000001;`, 0.1},
		{`d:1E5;`, 1e5}, {`a:0:{}`, any([]any{})}, {`a:0:{}`, map[string]int{}}, {`a:0:{}`, []int{}}, {`a:0:{}`, item{}}, {`a:0:{}`, [0]int{}},
		{`a:2:{i:0;i:1;i:1;s:1:"a";}`, any([]any{int64(1), "a"})}, {`a:2:{i:0;i:1;i:2;s:1:"a";}`, any(map[string]any{"0": int64(1), "2": "a"})}, {`a:2:{i:1;i:1;i:0;i:2;}`, any(map[string]any{"0": int64(2), "1": int64(1)})},
		{`a:2:{i:1;i:1;i:0;i:2;}`, map[string]int{"0": 2, "1": 1}}, {`a:1:{s:1:"5";i:1;}`, map[int]int{5: 1}}, {`a:1:{i:-1;i:1;}`, map[int8]int{-1: 1}}, {`a:1:{i:0;i:1;}`, map[uint]int{0: 1}},
		{`a:3:{s:1:"b";i:1;i:5;i:2;s:1:"a";a:0:{}}`, php.Array{{Name: "b", Value: int64(1)}, {Name: "5", Int: true, Value: int64(2)}, {Name: "a", Value: []any{}}}},
		{"O:1:\"P\":3:{s:6:\"\x00*\x00sku\";s:1:\"x\";s:6:\"\x00P\x00qty\";i:3;s:5:\"other\";a:1:{i:0;N;}}", item{SKU: "x", Qty: 3}}, {"O:1:\"P\":1:{s:4:\"\x00*\x00p\";s:1:\"x\";}", map[string]string{"p": "x"}},
		{`O:12:"app\customer":1:{s:3:"age";i:3;}`, customer{Age: 3}}, {`O:8:"stdClass":0:{}`, any(php.Object{Class: "stdClass"})}, {`O:8:"stdClass":0:{}`, struct{}{}},
		{`E:4:"A:B1";`, any(php.Enum{Class: "A", Case: "B1"})}, {`C:1:"A":2:{}}}`, any(php.Opaque{Class: "A", Data: []byte("}}")})}, {dateTime, at}, {`a:1:{i:0;` + dateTime + `}`, []time.Time{at}},
		{strings.Replace(dateTime, `i:3;s:8:"timezone";s:12:"Europe/Paris"`, `i:1;s:8:"timezone";s:6:"+01:00"`, 1), at}, {strings.Replace(dateTime, `"Europe/Paris"`, `"Asia/Kolkata"`, 1), at.Add(-270 * time.Minute)},
		{`s:25:"2024-02-29T12:34:56+01:00";`, at.Truncate(time.Second)}, {`s:20:"18446744073709551615";`, uint64(math.MaxUint64)},
		{`a:2:{i:0;O:1:"A":1:{s:1:"a";i:7;}i:1;r:2;}`, []map[string]int{{"a": 7}, {"a": 7}}}, {`a:2:{s:1:"x";i:1;s:1:"y";R:2;}`, map[string]int{"x": 1, "y": 1}}, {`a:3:{i:0;i:1;i:1;R:2;i:2;R:2;}`, any([]any{int64(1), int64(1), int64(1)})},
		{`a:3:{i:0;O:1:"A":0:{}i:1;r:2;i:2;r:3;}`, [3]struct{}{}}, {`a:2:{s:4:"skip";a:1:{i:0;i:1;}s:3:"sku";R:3;}`, struct {
			Sku int `php:"sku"`
		}{1}}, {`a:1:{s:1:"a";a:1:{i:0;R:1;}}`, php.Raw(`a:1:{s:1:"a";a:1:{i:0;R:1;}}`)},
	} {
		target := reflect.TypeOf(tt.want)
		c := php.Codec{}
		switch tt.want.(type) {
		case []any, map[string]any, php.Object, php.Enum, php.Opaque:
			target = reflect.TypeFor[any]()
		}
		got := reflect.New(target)
		if err := c.Unmarshal([]byte(tt.data), got.Interface()); err != nil {
			t.Errorf("Unmarshal of %q into %v: %v", tt.data, target, err)
		} else if list, ok := got.Elem().Interface().([]time.Time); ok {
			if !list[0].Equal(at) {
				t.Errorf("Unmarshal of %q: %v, want %v", tt.data, list, at)
			}
		} else if !same(got.Elem().Interface(), tt.want) {
			t.Errorf("Unmarshal of %q: %#v, want %#v", tt.data, got.Elem(), tt.want)
		}
	}
}

// TestUnmarshalRefuses checks that what does not fit is an error that quotes nothing.
func TestUnmarshalRefuses(t *testing.T) {
	for _, tt := range []struct {
		data   string
		target any
	}{
		{``, new(any)}, {`i:1`, new(any)}, {`i:1;;`, new(any)}, {`i:1;i:1;`, new(any)}, {`i:01;`, new(int)}, {`i:+1;`, new(int)}, {`i:-0;`, new(int)}, {`i: 1;`, new(int)}, {`i:9223372036854775808;`, new(any)}, {`i:-9223372036854775809;`, new(any)}, {`i:;`, new(int)},
		{`d:;`, new(float64)}, {`d:.5;`, new(float64)}, {`d:5.;`, new(float64)}, {`d:1e;`, new(float64)}, {`d:inf;`, new(float64)}, {`d:1e999;`, new(float64)}, {`d:0x1;`, new(any)}, {`b:2;`, new(bool)}, {`b:1`, new(bool)}, {`S:1:"a";`, new(string)}, {`s:2:"a";`, new(string)}, {`s:01:"a";`, new(string)}, {`s:1:"ab";`, new(string)}, {`s:-1:"";`, new(string)}, {`s:1:'a';`, new(string)},
		{`a:1:{}`, new(any)}, {`a:0:{i:0;i:1;}`, new(any)}, {`a:-1:{}`, new(any)}, {`a:1:{d:1;i:1;}`, new(any)}, {`a:1:{N;i:1;}`, new(any)}, {`a:99999999:{i:0;N;}`, new(any)}, {`a:2:{s:1:"a";i:1;s:1:"a";i:2;}`, new(map[string]int)}, {`a:2:{s:1:"a";i:1;s:1:"a";i:2;}`, new(any)}, {`a:2:{i:5;i:1;s:1:"5";i:2;}`, new(any)}, {`a:2:{s:3:"qty";i:1;s:3:"qty";i:2;}`, new(item)}, {`a:2:{s:3:"zzz";i:1;s:3:"zzz";i:2;}`, new(item)},
		{`O:0:"":0:{}`, new(any)}, {`O:2:"\A":0:{}`, new(any)}, {`O:3:"a b":0:{}`, new(any)}, {`O:1:"A":1:{s:1:"a";N;}`, new(customer)}, {`a:1:{s:3:"age";i:1;}`, new(customer)}, {"O:1:\"P\":2:{s:6:\"\x00*\x00sku\";s:1:\"x\";s:3:\"sku\";s:1:\"y\";}", new(item)}, {`E:1:"A";`, new(any)}, {`E:2:":B";`, new(any)}, {`C:1:"A":5:{}`, new(any)}, {`o:1:{}`, new(any)}, {`x:1;`, new(any)},
		{`r:1;`, new(any)}, {`R:1;`, new(any)}, {`a:1:{i:0;r:0;}`, new(any)}, {`a:1:{i:0;r:9;}`, new(any)}, {`a:1:{i:0;r:1;}`, new(any)}, {`a:2:{i:0;i:1;i:1;r:2;}`, new([]int)}, {`a:1:{i:0;R:1;}`, new(any)}, {`O:1:"A":1:{s:1:"a";r:1;}`, new(any)}, {`O:1:"A":1:{s:1:"a";r:1;}`, new(map[string]any)}, {`O:1:"A":1:{s:4:"next";r:1;}`, new(node)}, {`a:2:{i:0;C:1:"A":0:{}i:1;r:2;}`, new(any)}, {`C:1:"A":4:{r:1;}`, new(any)}, {`a:1:{i:0;a:1:{i:0;R:2;}}`, new([]php.Raw)},
		{`i:300;`, new(int8)}, {`i:-1;`, new(uint)}, {`d:1;`, new(int)}, {`i:9007199254740993;`, new(float64)}, {`d:0.1;`, new(float32)}, {`s:1:"1";`, new(int)}, {`i:1;`, new(string)}, {`b:1;`, new(int)}, {`i:1;`, new(bool)}, {`i:1;`, new([]int)}, {`s:20:"18446744073709551616";`, new(uint64)}, {`s:2:"12";`, new(uint64)}, {`s:19:"9223372036854775808";`, new(uint32)},
		{`a:1:{i:0;s:1:"a";}`, new(map[string]string)}, {`a:1:{i:0;s:1:"a";}`, new(item)}, {`a:1:{s:1:"a";i:1;}`, new([]int)}, {`a:1:{i:1;i:1;}`, new([]int)}, {`a:2:{i:1;i:1;i:0;i:1;}`, new([]int)}, {`a:1:{i:0;i:1;}`, new([2]int)}, {`a:1:{s:1:"a";i:1;}`, new(map[int]int)}, {`a:1:{i:300;i:1;}`, new(map[int8]int)}, {`a:1:{i:-1;i:1;}`, new(map[uint]int)}, {`O:1:"A":0:{}`, new([]int)}, {`O:1:"A":0:{}`, new(php.Array)}, {`a:0:{}`, new(php.Object)}, {`i:1;`, new(php.Enum)}, {`O:1:"A":0:{}`, new(php.Opaque)},
		{`s:1:"x";`, new(time.Time)}, {`O:1:"A":0:{}`, new(time.Time)}, {`O:8:"DateTime":0:{}`, new(time.Time)}, {`O:8:"DateTime":3:{s:4:"date";s:26:"2024-02-29 12:34:56.789000";s:13:"timezone_type";i:2;s:8:"timezone";s:3:"EST";}`, new(time.Time)}, {`O:8:"DateTime":3:{s:4:"date";s:26:"2024-02-29 12:34:56.789000";s:13:"timezone_type";i:3;s:8:"timezone";s:5:"../..";}`, new(time.Time)}, {`O:8:"DateTime":3:{s:4:"date";s:27:"-2024-02-29 12:34:56.789000";s:13:"timezone_type";i:3;s:8:"timezone";s:3:"UTC";}`, new(time.Time)},
		{`s:4:"nope";`, new(netip.Addr)}, {`@r:1:0123456789abcdef;`, new(any)}, {`@r:1:0123456789abcdef:4:{r:1;}`, new(any)}, {`@x:1:0123456789abcdef;`, new(any)}, {`@r:1:01234567`, new(any)}, {`@R:1:0123456789abcdef;`, new(struct{})}, {`N;`, nil}, {`N;`, 5}, {`i:1;`, (*int)(nil)}, {`i:1;`, (*any)(nil)}, {`s:1:"a";`, (*string)(nil)}, {`i:1;`, new(chan int)}, {`i:1;`, new(error)},
	} {
		for name, c := range handlers {
			err := c.Unmarshal([]byte(tt.data), tt.target)
			if err == nil || strings.Contains(err.Error(), "panic") {
				t.Errorf("%s: Unmarshal of %q into a %T: %v, want an error", name, tt.data, tt.target, err)
			}
		}
	}
	for depth, ok := range map[int]bool{php.DefaultMaxDepth: true, php.DefaultMaxDepth + 1: false, 100_000: false} {
		data := []byte(strings.Repeat("a:1:{i:0;", depth) + "N;" + strings.Repeat("}", depth))
		var v any
		if err := (php.Codec{}).Unmarshal(data, &v); (err == nil) != ok {
			t.Errorf("Unmarshal of %d levels: %v", depth, err)
		}
		if _, err := (php.Codec{}).Join(map[string][]byte{"v": data}); (err == nil) != ok {
			t.Errorf("Join of %d levels: %v", depth, err)
		}
		if _, err := (php.Codec{}).Split(append([]byte("v|"), data...)); (err == nil) != ok {
			t.Errorf("Split of %d levels: %v", depth, err)
		}
	}
}

// TestClassStays checks that an object that is read into an any and set again is an
// object of its class, and that one read into a struct is what the struct says.
func TestClassStays(t *testing.T) {
	c := php.Codec{}
	data := []byte("O:9:\"App\\Order\":3:{s:2:\"id\";i:7;s:8:\"\x00*\x00total\";d:9.5;s:16:\"\x00App\\Order\x00lines\";a:1:{i:0;O:8:\"stdClass\":1:{s:1:\"n\";N;}}}")
	var v any
	if err := c.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	again, err := c.Marshal(v)
	if err != nil || !bytes.Equal(again, data) {
		t.Errorf("set again it is %q, %v; want %q", again, err, data)
	}
	o := v.(php.Object)
	if o.Get("id") != int64(7) || o.Get("total") != 9.5 || len(o.Get("lines").([]any)) != 1 || o.Get("App") != nil {
		t.Errorf("got %#v", o)
	}
}

// TestNames checks that Join and CheckName refuse names that PHP would lose.
func TestNames(t *testing.T) {
	long := strings.Repeat("n", 128)
	for _, tt := range []struct {
		name    string
		refused string // the handlers
	}{
		{"a", ""}, {"", ""}, {"!a", ""}, {"a b", ""}, {"é", ""}, {"\x00", ""}, {"\xff", ""}, {"-0", ""}, {"05", ""}, {"1.5", ""}, {"9223372036854775808", ""}, {long[1:], ""},
		{"a|b", "php"}, {"|", "php"}, {long, "php_binary"}, {"5", "php php_binary"}, {"-5", "php php_binary"}, {"0", "php php_binary"}, {"9223372036854775807", "php php_binary"}, {"-9223372036854775808", "php php_binary"},
		{"_session.order", "php php_binary php_serialize"},
	} {
		for handler, c := range handlers {
			blob, err := c.Join(map[string][]byte{tt.name: []byte("i:1;")})
			refused := slices.Contains(strings.Fields(tt.refused), handler)
			if (err != nil) != refused || (c.CheckName(tt.name) != nil) != refused {
				t.Errorf("%s: a value called %q: Join: %v, CheckName: %v; refused: %v", handler, tt.name, err, c.CheckName(tt.name), refused)
				continue
			}
			if !refused && !maps.EqualFunc(split(t, c, string(blob)), map[string][]byte{tt.name: []byte("i:1;")}, bytes.Equal) {
				t.Errorf("%s: a value called %q is not in %q", handler, tt.name, blob)
			}
		}
	}
	blob, err := handlers["php_serialize"].Join(map[string][]byte{"5": []byte("i:1;"), "a": []byte("N;")})
	if want := `a:2:{i:5;i:1;s:1:"a";N;}`; err != nil || string(blob) != want {
		t.Errorf("php_serialize: an integer for a name: %q, %v; want %q", blob, err, want)
	}
}

// TestOrder checks that values keep their places.
func TestOrder(t *testing.T) {
	for handler, c := range handlers {
		blob := func(names ...string) string {
			var b strings.Builder
			for i, name := range names {
				switch handler {
				case "php":
					fmt.Fprintf(&b, "%s|i:%d;", name, i)
				case "php_binary":
					fmt.Fprintf(&b, "%c%si:%d;", len(name), name, i)
				default:
					fmt.Fprintf(&b, "s:%d:\"%s\";i:%d;", len(name), name, i)
				}
			}
			if handler == "php_serialize" {
				return fmt.Sprintf("a:%d:{%s}", len(names), b.String())
			}
			return b.String()
		}
		values := split(t, c, blob("d", "b", "c"))
		values["d"], values["c"], values["a"], values["e"] = []byte("i:0;"), []byte("i:1;"), []byte("i:2;"), []byte("i:3;")
		delete(values, "b")
		got, err := c.Join(values)
		if want := blob("d", "c", "a", "e"); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v; want %q", handler, got, err, want)
		}
		if values := split(t, c, blob("a", "b")); len(values) != 2 {
			t.Errorf("%s: %q for names in order", handler, values)
		}
		for _, order := range []string{`i:1;`, `s:1:"a";`, `s:3:"9:a";`, `s:3:"1:a";x`, `s:4:"01:a";`, ``} {
			if blob, err := c.Join(map[string][]byte{"a": []byte("N;"), "_session.order": []byte(order)}); err == nil {
				t.Errorf("%s: with the order %q: %q", handler, order, blob)
			}
		}
		for _, names := range [][]string{{"a", "a"}, {"b", "a", "b"}, {"_session.order"}} {
			if _, err := c.Split([]byte(blob(names...))); err == nil {
				t.Errorf("%s: Split of the names %q: no error", handler, names)
			}
		}
	}
}

// TestUser checks that PHP's user is that of the session, and the other way round.
func TestUser(t *testing.T) {
	const name = "_session.user"
	text, number := php.Codec{User: "uid"}, php.Codec{User: "uid", UserInt: true}
	for _, tt := range []struct {
		c      php.Codec
		data   string
		values map[string]string
	}{
		{text, `uid|s:3:"ann";`, map[string]string{name: `s:3:"ann";`}}, {text, `uid|N;`, map[string]string{"uid": `N;`}}, {text, `a|i:1;uid|s:1:"5";z|N;`, map[string]string{"a": `i:1;`, name: `s:1:"5";`, "z": `N;`}},
		{text, `uid|i:5;`, map[string]string{name: `i:5;`}}, {number, `uid|i:5;`, map[string]string{name: `s:1:"5";`}}, {number, `uid|i:-12;`, map[string]string{name: `s:3:"-12";`}}, {number, `uid|N;`, map[string]string{"uid": `N;`}},
		{php.Codec{}, `uid|i:5;`, map[string]string{"uid": `i:5;`}}, {php.Codec{}, `_session.user|s:1:"5";`, map[string]string{name: `s:1:"5";`}},
	} {
		values, err := tt.c.Split([]byte(tt.data))
		if err != nil {
			t.Errorf("Split of %q: %v", tt.data, err)
			continue
		}
		got := map[string]string{}
		for name, value := range values {
			got[name] = string(value)
		}
		if !maps.Equal(got, tt.values) {
			t.Errorf("Split of %q: %q, want %q", tt.data, got, tt.values)
		}
		if again, err := tt.c.Join(values); err != nil || string(again) != tt.data {
			t.Errorf("Join of Split of %q: %q, %v", tt.data, again, err)
		}
	}
	for _, tt := range []struct {
		c    php.Codec
		data string
	}{{number, `uid|s:1:"5";`}, {number, `uid|b:0;`}, {text, `_session.user|s:1:"5";`}, {text, `uid|s:1:"5";_session.user|s:1:"6";`}} {
		if values, err := tt.c.Split([]byte(tt.data)); err == nil {
			t.Errorf("Split of %q: %q, want an error", tt.data, values)
		}
	}
	for _, tt := range []struct {
		c      php.Codec
		values map[string][]byte
		want   string // "" is an error
	}{
		{text, map[string][]byte{name: []byte(`s:3:"ann";`), "uid": []byte(`N;`)}, `uid|s:3:"ann";`}, // logged in where nobody was
		{text, map[string][]byte{"uid": []byte(`s:3:"ann";`)}, ""}, {text, map[string][]byte{name: []byte(`s:3:"ann";`), "uid": []byte(`s:3:"bob";`)}, ""},
		{number, map[string][]byte{name: []byte(`s:2:"42";`)}, `uid|i:42;`}, {number, map[string][]byte{name: []byte(`s:3:"042";`)}, ""}, {number, map[string][]byte{name: []byte(`s:3:"ann";`)}, ""},
		{number, map[string][]byte{name: []byte(`s:20:"99999999999999999999";`)}, ""}, {number, map[string][]byte{name: []byte(`i:42;`)}, ""}, {number, map[string][]byte{name: []byte(`s:0:"";`)}, ""}, {number, map[string][]byte{name: []byte(`s:2:"42";x`)}, ""},
	} {
		got, err := tt.c.Join(tt.values)
		if (err == nil) != (tt.want != "") || string(got) != tt.want {
			t.Errorf("Join of %q: %q, %v; want %q", tt.values, got, err, tt.want)
		}
	}
	if text.CheckName("uid") == nil || (php.Codec{}).CheckName("uid") != nil {
		t.Error("CheckName of the name of the user: want an error if it has one")
	}
}

// TestReferences checks what becomes of references when values are changed.
func TestReferences(t *testing.T) {
	c := php.Codec{}
	join := func(values map[string][]byte) string {
		blob, err := c.Join(values)
		if err != nil {
			return err.Error()
		}
		return string(blob)
	}
	// Within a value the numbers are its own, so that it can be moved.
	values := split(t, c, `a|i:1;o|O:1:"A":1:{s:1:"s";r:2;}`)
	if got := string(values["o"]); got != `O:1:"A":1:{s:1:"s";r:1;}` {
		t.Errorf("Split has made %q", got)
	}
	values["a"] = []byte(`a:2:{i:0;N;i:1;N;}`)
	if got, want := join(values), `a|a:2:{i:0;N;i:1;N;}o|O:1:"A":1:{s:1:"s";r:4;}`; got != want {
		t.Errorf("%s, want %s", got, want)
	}

	// One to another value stands while both stay, wherever that value is.
	shared := `a|i:1;b|a:1:{i:0;O:1:"A":0:{}}c|r:3;d|a:1:{i:0;R:3;}`
	changed := func(change func(values map[string][]byte)) string {
		values := split(t, c, shared)
		change(values)
		return join(values)
	}
	const refused = "php: a value shares an object"
	for _, tt := range []struct {
		what   string
		change func(values map[string][]byte)
		want   string
	}{
		{"nothing", func(map[string][]byte) {}, shared},
		{"a is longer", func(v map[string][]byte) { v["a"] = []byte(`a:1:{i:0;N;}`) }, `a|a:1:{i:0;N;}b|a:1:{i:0;O:1:"A":0:{}}c|r:4;d|a:1:{i:0;R:4;}`},
		{"a is gone", func(v map[string][]byte) { delete(v, "a") }, `b|a:1:{i:0;O:1:"A":0:{}}c|r:2;d|a:1:{i:0;R:2;}`},
		{"b is changed", func(v map[string][]byte) { v["b"] = []byte(`a:1:{i:0;O:1:"B":0:{}}`) }, refused},
		{"b is gone", func(v map[string][]byte) { delete(v, "b") }, refused},
		{"b is called e", func(v map[string][]byte) { v["e"] = v["b"]; delete(v, "b") }, refused},
		{"b, c and d are gone", func(v map[string][]byte) { clear(v); v["a"] = []byte("N;") }, `a|N;`},
		{"c is gone", func(v map[string][]byte) { delete(v, "c") }, `a|i:1;b|a:1:{i:0;O:1:"A":0:{}}d|a:1:{i:0;R:3;}`},
	} {
		if got := changed(tt.change); got != tt.want && (tt.want != refused || !strings.HasPrefix(got, refused)) {
			t.Errorf("%s: %s, want %s", tt.what, got, tt.want)
		}
	}
	values = split(t, c, shared)
	var o php.Object
	var list []struct{}
	if err := errors.Join(c.Unmarshal(values["c"], &o), c.Unmarshal(values["d"], &list)); err != nil || o.Class != "A" || len(list) != 1 {
		t.Errorf("%v, %v, %v", o, list, err)
	}
	// There is one of each case of an enum.
	values = split(t, c, `a|E:6:"Suit:H";b|a:2:{i:0;r:1;i:1;i:5;}`)
	delete(values, "a")
	if got, want := join(values), `b|a:2:{i:0;E:6:"Suit:H";i:1;i:5;}`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	// The numbers in the data of a Serializable are not known.
	for _, data := range []string{`a|C:1:"A":0:{}b|O:1:"B":1:{s:1:"b";r:2;}`, `a|C:1:"A":4:{r:1;}`, `a|C:1:"A":8:{i:1;R:1;}`} {
		if values, err := c.Split([]byte(data)); err == nil {
			t.Errorf("Split of %q: %q, want an error", data, values)
		}
	}
	if _, err := c.Join(map[string][]byte{"a": []byte(`C:1:"A":0:{}`), "b": []byte(`O:1:"B":1:{s:1:"b";r:1;}`)}); err == nil {
		t.Error("Join of a Serializable and a reference: want an error")
	}
	if _, err := (php.Codec{Handler: php.Serialize}).Split([]byte(`a:1:{s:1:"a";R:1;}`)); err == nil {
		t.Error("Split of a reference to the session: want an error")
	}
	if _, err := c.Split([]byte(`a|@r:1:0123456789abcdef;`)); err == nil {
		t.Error("Split of a link: want an error")
	}
}

func TestHandlers(t *testing.T) {
	for name, c := range handlers {
		if c.SerializeHandler() != name || c.Text() || !(php.Codec{Handler: c.Handler, UTF8: true}).Text() {
			t.Errorf("%s: handler %q, text %v", name, c.SerializeHandler(), c.Text())
		}
	}
	c := php.Codec{Handler: 7}
	if _, err := c.Split([]byte("a|N;")); err == nil {
		t.Error("Split with a handler that there is not: want an error")
	}
	if _, err := c.Join(map[string][]byte{"a": []byte("N;")}); err == nil {
		t.Error("Join with a handler that there is not: want an error")
	}
	for _, c := range []php.Codec{{}, {Handler: php.Binary}} {
		if values, err := c.Split(nil); err != nil || values == nil || len(values) > 0 {
			t.Errorf("%v: Split of no data: %v, %v", c.Handler, values, err)
		}
	}
}

// TestLimits checks the limits of a session.
func TestLimits(t *testing.T) {
	for name, c := range handlers {
		c.MaxValues, c.MaxSize = 3, 60
		values := map[string][]byte{"c": []byte("N;"), "a": []byte("N;"), "b": []byte("N;")}
		blob, err := c.Join(values)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := c.Split(blob); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		values["d"] = []byte("N;")
		if _, err := c.Join(values); err == nil {
			t.Errorf("%s: Join of 4 values: want an error", name)
		}
		wide := handlers[name]
		if blob, err = wide.Join(values); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Split(blob); err == nil {
			t.Errorf("%s: Split of 4 values: want an error", name)
		}
		long := []byte(`s:60:"` + strings.Repeat("x", 60) + `";`)
		if _, err := c.Join(map[string][]byte{"a": long}); err == nil {
			t.Errorf("%s: Join of too many bytes: want an error", name)
		}
		if c.Unmarshal(long, new(string)) == nil {
			t.Errorf("%s: Unmarshal of too many bytes: want an error", name)
		}
	}
}

// TestQuiet checks that no error contains a part of a value.
func TestQuiet(t *testing.T) {
	const secret = "4711471147"
	check := func(what string, err error) {
		t.Helper()
		for _, verb := range []string{"%v", "%+v", "%#v", "%q"} {
			if text := fmt.Sprintf(verb, err); strings.Contains(text, secret) {
				t.Errorf("%s: %s prints %s", what, verb, text)
			}
		}
	}
	var c php.Codec
	for _, data := range []string{
		`s:10:"4711471147";`, `i:4711471147;`, `d:4711471147.5;`, `a:1:{s:10:"4711471147";s:10:"4711471147";}`, `a:2:{s:3:"qty";s:10:"4711471147";s:3:"qty";N;}`, `O:11:"C4711471147":1:{s:3:"qty";d:4711471147;}`, `E:13:"A:C4711471147";`, `C:1:"A":10:{4711471147}`,
		`O:8:"DateTime":3:{s:4:"date";s:10:"4711471147";s:13:"timezone_type";i:3;s:8:"timezone";s:10:"4711471147";}`, `O:8:"DateTime":3:{s:4:"date";s:10:"4711471147";s:13:"timezone_type";i:3;s:8:"timezone";s:3:"UTC";}`, `O:8:"DateTime":3:{s:4:"date";s:10:"4711471147";s:13:"timezone_type";i:1;s:8:"timezone";s:10:"4711471147";}`,
	} {
		for _, target := range []any{new(int8), new(bool), new(string), new(float32), new([]int), new(item), new([]item), new(map[string]int), new(map[int8]string), new(time.Time), new(php.Time), new(netip.Addr), new(customer), new(php.Enum), new(map[string]time.Time), new(map[string]netip.Addr)} {
			check(fmt.Sprintf("Unmarshal of %q into a %T", data, target), c.Unmarshal([]byte(data), target))
		}
		for n := range data {
			check("Unmarshal of a part", c.Unmarshal([]byte(data[:n]), new(any)))
			_, err := c.Split([]byte("n4711471147|" + data[:n]))
			check("Split of a part", err)
			_, err = c.Join(map[string][]byte{"n4711471147": []byte(data[:n])})
			check("Join of a part", err)
		}
	}
	for _, c := range []php.Codec{{User: "n" + secret}, {Handler: php.Binary, UTF8: true}, {User: "uid", UserInt: true}} {
		for _, name := range []string{secret, "n" + secret, secret + "|", strings.Repeat(secret, 20), secret + "\xff", "_session.user"} {
			check("CheckName", c.CheckName(name))
			_, err := c.Join(map[string][]byte{name: []byte(`s:11:"x4711471147";`)})
			check("Join", err)
		}
		_, err := c.Split([]byte(`uid|s:11:"x4711471147";`))
		check("Split", err)
	}
}
