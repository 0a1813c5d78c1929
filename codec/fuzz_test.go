package codec_test

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session/codec"
)

// perByte is the number of bytes of memory that a byte of data may cost in
// Split. baseCost is the cost that any call may have, including errors and
// caches of types.
const (
	perByte  = 100
	baseCost = 256 << 10
)

func addBlobs(f *testing.F, c coder) {
	for _, v := range []map[string]any{{}, {"k": 1}, typical(), {"": nil, "\x00\"\\é": []any{1, -1, 2.5, "s", true, map[string]any{"a": nil}}}} {
		blob, err := c.Join(encoded(f, c, v))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(blob)
	}
}

func addValues(f *testing.F, c coder) {
	one := 1
	for _, v := range []any{
		nil, true, 1, -1, 300, -300, 1 << 40, 2.5, "s", []byte{1}, []string{"a"}, time.Unix(1, 2), time.Time{}, map[int]string{1: "a"},
		widths{A: 1, O: &one, Q: map[int]string{1: "a"}}, outer{Inner: &Inner{1, 2}}, generic{Any: 1, List: []any{1}, Map: map[string]any{"a": 1}},
		node{&node{}}, typical()["cart"],
	} {
		data, err := c.Marshal(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
}

// fuzzSplit checks that Join makes the same bytes again from anything that Split
// accepts.
func fuzzSplit(f *testing.F, c coder) {
	f.Fuzz(func(t *testing.T, data []byte) {
		in := bytes.Clone(data)
		var values map[string][]byte
		var err error
		used := allocated(func() { values, err = c.Split(data) })
		if limit := uint64(baseCost + perByte*len(data)); used > limit {
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
	})
}

// everything has a field for each kind of target.
type everything struct {
	generic
	outer
	W     widths           `json:"w"`
	N     node             `json:"n"`
	T     time.Time        `json:"t"`
	Items []item           `json:"items"`
	Deep  map[string][]any `json:"deep"`
	Ints  []int8           `json:"ints"`
	Keys  map[any]any      `json:"-" msgpack:"keys"`
	Arr   arrayed          `json:"arr"`
}

// fuzzUnmarshal checks that no data makes Unmarshal panic or use memory without
// bound, and that accepted data can be written, read, and written again, or is
// refused because something would be lost.
func fuzzUnmarshal(f *testing.F, c coder) {
	f.Fuzz(func(t *testing.T, data []byte) {
		in := bytes.Clone(data)
		for _, v := range []any{
			new(any), new(everything), new(widths), new(outer), new([]item), new(map[string]any), new(map[int]string), new([]int16), new(time.Time), new(string), new(float32),
		} {
			var err error
			used := allocated(func() { err = c.Unmarshal(data, v) })
			if limit := uint64(statedBase + statedFactor*len(data)); used > limit {
				t.Fatalf("%T: %d bytes of data cost %d", v, len(data), used)
			}
			if !bytes.Equal(data, in) {
				t.Fatalf("%T: the data has changed", v)
			}
			if err != nil {
				// A panic that was caught is still a bug.
				if strings.Contains(err.Error(), "panic") {
					t.Fatalf("%T: %v", v, err)
				}
				continue
			}
			first, err := c.Marshal(reflect.ValueOf(v).Elem().Interface())
			if err != nil && strings.Contains(err.Error(), "would not be read back equal") {
				continue // an embedded pointer to a struct in which all fields are left out
			}
			if err != nil {
				t.Fatalf("%T: what was decoded cannot be encoded: %v", v, err)
			}
			again := reflect.New(reflect.TypeOf(v).Elem())
			if err := c.Unmarshal(first, again.Interface()); err != nil {
				t.Fatalf("%T: what was encoded cannot be decoded: %v", v, err)
			}
			second, err := c.Marshal(again.Elem().Interface())
			if err != nil || !bytes.Equal(first, second) {
				t.Fatalf("%T: %x is written as %x (%v)", v, first, second, err)
			}
		}
	})
}

func FuzzMessagePackSplit(f *testing.F) {
	addBlobs(f, codec.MessagePack{})
	for _, s := range []string{"", "\xdf\xff\xff\xff\xff", "\x81\xa1a\xdd\xff\xff\xff\xff", "\x82\xa1b\x01\xa1a\x01", "\xde\x00\x01\xa1a\x01"} {
		f.Add([]byte(s))
	}
	fuzzSplit(f, codec.MessagePack{})
}

func FuzzJSONSplit(f *testing.F) {
	addBlobs(f, codec.JSON{})
	for _, s := range []string{"", `{"a":1,"a":1}`, `{"\u0001":[1,{"b":"\ud800"}]}`, `{"a":` + strings.Repeat("[", 70)} {
		f.Add([]byte(s))
	}
	fuzzSplit(f, codec.JSON{})
}

func FuzzMessagePackUnmarshal(f *testing.F) {
	addValues(f, codec.MessagePack{})
	for _, s := range []string{"\xd7\xff\xdf\xff\xff\xff\xff\x00\x00\x00", "\xdd\xff\xff\xff\xff", "\x82\xa1a\x01\x01\x01", "\x91\xd6\xff\xdf\xff\xff\xff"} {
		f.Add([]byte(s))
	}
	fuzzUnmarshal(f, codec.MessagePack{})
}

func FuzzJSONUnmarshal(f *testing.F) {
	addValues(f, codec.JSON{})
	for _, s := range []string{`{"a":1,"a":2}`, `"\ud800"`, `1e400`, `-0`, `[1 ]`} {
		f.Add([]byte(s))
	}
	fuzzUnmarshal(f, codec.JSON{})
}
