package php_test

import (
	"bytes"
	"encoding/base64"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session/codec/php"
)

// handlerOf returns a codec for a number.
func handlerOf(n byte) php.Codec {
	c := php.Codec{Handler: php.Handler(n % 3)}
	if n/3%2 == 1 {
		c.User = "uid"
	}
	c.UserInt = n/6%2 == 1
	c.UTF8 = n/12%2 == 1
	return c
}

func addBlobs(f *testing.F) {
	v := readVectors(f)
	for _, e := range v.Encode {
		for handler, x := range e.Handlers {
			if data, err := base64.StdEncoding.DecodeString(x.Stored); err == nil && len(data) < 2000 {
				f.Add(byte(handlers[handler].Handler), data)
			}
		}
	}
	for _, d := range v.Decode {
		f.Add(byte(handlers[d.Handler].Handler), []byte(unhex(f, d.Hex)))
	}
	for n := range byte(24) {
		f.Add(n, []byte(`uid|i:5;b|a:2:{i:0;r:2;i:1;E:3:"A:B";}a|r:4;`))
		f.Add(n, []byte("\x03uidi:5;\x01aO:1:\"A\":0:{}\x01br:2;"))
		f.Add(n, []byte(`a:3:{s:3:"uid";s:1:"5";i:5;a:1:{i:0;R:2;}s:0:"";R:4;}`))
	}
}

// FuzzSplit checks that Join makes the same bytes again from anything that Split
// accepts, within the stated memory.
func FuzzSplit(f *testing.F) {
	addBlobs(f)
	f.Fuzz(func(t *testing.T, n byte, data []byte) {
		c := handlerOf(n)
		in := bytes.Clone(data)
		var values map[string][]byte
		var err error
		limit := uint64(statedBase + splitFactor*len(data))
		if used := allocated(limit, func() { values, err = c.Split(data) }); used > limit {
			t.Fatalf("%d bytes of data cost %d", len(data), used)
		}
		if err != nil {
			return
		}
		blob, err := c.Join(values)
		if err != nil {
			t.Fatalf("Join refuses what Split gave: %v", err)
		}
		if !bytes.Equal(blob, in) || !bytes.Equal(data, in) {
			t.Fatalf("Split(%q) joins to %q", in, blob)
		}
		for _, value := range values {
			var v any
			if err := c.Unmarshal(value, &v); err != nil && strings.Contains(err.Error(), "panic") {
				t.Fatal(err)
			}
		}
	})
}

type everything struct {
	I8    int8
	U     uint64
	F     float32
	S     string
	B     []byte
	A     [2]byte
	T     time.Time
	PT    php.Time
	L     []item
	M     map[string][]any
	N     map[int]string
	K     map[uint8]*int
	C     customer
	O     php.Object
	E     php.Enum
	X     php.Opaque
	R     php.Raw
	Y     php.Array
	Any   any
	Ptr   **int
	Nodes []node
}

// FuzzUnmarshal checks that no data makes Unmarshal panic or use memory without bound,
// and that what it has decoded can be written, read, and written again.
func FuzzUnmarshal(f *testing.F) {
	for _, s := range []string{
		`N;`, `b:1;`, `i:-5;`, `d:1.5E-10;`, `s:1:"a";`, `a:2:{i:0;i:1;i:1;s:1:"x";}`, `a:1:{s:1:"a";a:1:{i:-5;N;}}`, `O:1:"A":1:{s:1:"a";r:1;}`, "O:1:\"A\":1:{s:4:\"\x00*\x00a\";i:1;}", `E:3:"A:B";`, `C:1:"A":1:{x}`, `a:2:{i:0;O:1:"A":0:{}i:1;r:2;}`,
		`O:8:"DateTime":3:{s:4:"date";s:26:"2024-02-29 12:34:56.789000";s:13:"timezone_type";i:3;s:8:"timezone";s:3:"UTC";}`, `@r:1:0123456789abcdef:4:{i:1;}`, `a:1:{i:0;@R:1:0123456789abcdef;}`, `O:12:"App\Customer":1:{s:4:"name";N;}`, `s:20:"18446744073709551615";`,
		`a:3:{s:2:"I8";i:5;s:1:"N";a:1:{i:5;s:0:"";}s:3:"Any";R:2;}`,
	} {
		for n := range byte(2) {
			f.Add(n, []byte(s))
		}
	}
	f.Fuzz(func(t *testing.T, n byte, data []byte) {
		c := handlerOf(n * 12)
		in := bytes.Clone(data)
		for _, v := range []any{
			new(any), new(everything), new([]item), new(map[string]any), new(map[int]string), new([]int16), new(time.Time), new(string), new(float32), new(php.Object), new(php.Array), new(php.Raw), new(customer), new([]php.Raw), new(uint64), new([]byte),
		} {
			var err error
			limit := uint64(statedBase + statedFactor*len(data))
			if used := allocated(limit, func() { err = c.Unmarshal(data, v) }); used > limit {
				t.Fatalf("%T: %d bytes of data cost %d", v, len(data), used)
			}
			if !bytes.Equal(data, in) {
				t.Fatalf("%T: the data has changed", v)
			}
			if err != nil {
				if strings.Contains(err.Error(), "panic") { // one that was caught is still a bug
					t.Fatalf("%T: %v", v, err)
				}
				continue
			}
			first, err := c.Marshal(reflect.ValueOf(v).Elem().Interface())
			if err != nil {
				// What PHP can write and Marshal cannot: see the texts.
				if _, ok := v.(*everything); ok || excused(err) {
					continue
				}
				t.Fatalf("%T: what was decoded cannot be encoded: %v", v, err)
			}
			again := reflect.New(reflect.TypeOf(v).Elem())
			if err := c.Unmarshal(first, again.Interface()); err != nil {
				t.Fatalf("%T: what was encoded, %q, cannot be decoded: %v", v, first, err)
			}
			second, err := c.Marshal(again.Elem().Interface())
			if err != nil || !bytes.Equal(first, second) {
				t.Fatalf("%T: encoded again it is %q, %v; want %q", v, second, err, first)
			}
			if _, err := c.Join(map[string][]byte{"v": first}); err != nil && !strings.Contains(err.Error(), "another value") && !strings.Contains(err.Error(), "UTF-8") {
				t.Fatalf("%T: Join of %q: %v", v, first, err)
			}
		}
	})
}

// excused reports whether Marshal may refuse what Unmarshal has decoded: names of
// properties that only a class with methods of its own has, a year that is not in RFC
// 3339, an object with the only property 0 that was read into a map, and references that make the whole too deep or too large.
func excused(err error) bool {
	for _, text := range []string{"zero byte", "its year", "nested deeper", "too much memory", "larger than MaxSize", "occurs twice", "Name is an integer", "beside references", "only the key 0"} {
		if strings.Contains(err.Error(), text) {
			return true
		}
	}
	return false
}

// FuzzJoin checks that what Join makes of any value is taken apart again into that
// value.
func FuzzJoin(f *testing.F) {
	f.Add(byte(0), "a", []byte(`a:1:{i:0;R:1;}`), "b", []byte(`N;`), []byte(`s:6:"1:b1:a";`))
	f.Add(byte(1), "", []byte(`O:1:"A":1:{s:1:"a";r:1;}`), "5", []byte(`i:5;`), []byte(``))
	f.Add(byte(5), "_session.user", []byte(`s:1:"5";`), "uid", []byte(`N;`), []byte(``))
	f.Add(byte(2), "x", []byte(`@r:1:0123456789abcdef:10:{E:3:"A:B";}`), "y", []byte(`C:1:"A":0:{}`), []byte(``))
	f.Fuzz(func(t *testing.T, n byte, name1 string, value1 []byte, name2 string, value2, order []byte) {
		c := handlerOf(n)
		values := map[string][]byte{name1: bytes.Clone(value1), name2: bytes.Clone(value2)}
		if len(order) > 0 {
			values["_session.order"] = bytes.Clone(order)
		}
		blob, err := c.Join(values)
		if err != nil {
			return
		}
		got, err := c.Split(blob)
		if err != nil {
			t.Fatalf("Split refuses what Join made of %q, %q: %v", values, blob, err)
		}
		if again, err := c.Join(got); err != nil || !bytes.Equal(again, blob) {
			t.Fatalf("%q: Join of Split of %q: %q, %v", values, blob, again, err)
		}
		for name, value := range values {
			if name == "_session.order" || bytes.Contains(value, []byte("@")) || name == "uid" && c.User != "" {
				continue
			}
			if !bytes.Equal(got[name], value) {
				t.Fatalf("%q: %q came back as %q", values, name, got[name])
			}
		}
	})
}
