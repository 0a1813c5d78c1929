package codec_test

import (
	"encoding/base64"
	"math"
	"math/big"
	"net/netip"
	"net/url"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"
)

// storedValues are the values in testdata/stored.txt, which the codecs wrote at
// commit b41085e.
func storedValues() map[string]any {
	one, text := 1, "deep"
	ptext := &text
	values := map[string]any{
		"nil pointer": (*int)(nil), "true": true, "small": 7, "negative": -300, "great": int64(math.MaxInt64), "greatest": uint64(math.MaxUint64),
		"float": -0.1, "float32": float32(1.25), "text": "\u2028 <&> \ufffd \x00 é", "long text": strings.Repeat("x", 300), "binary": []byte{0, 1, 255},
		"empty list": []string{}, "nil list": []string(nil), "lists": [][]int{{1}, {}, {2, 300}}, "array": [2]string{"a", "b"},
		"map": map[string]int{"b": 2, "a": 1}, "int keys": map[int]string{-1: "a", 200: "b"}, "named keys": map[named]bool{"x": true},
		"time": time.Date(2026, 11, 22, 22, 22, 0, 123456789, time.UTC), "zero time": time.Time{}, "seconds": time.Unix(1<<33, 0).UTC(),
		"duration": time.Hour, "pointer": &one, "struct": item{"s", "n", 1, 2.5}, "structs": []item{{"a", "b", 1, 2}, {}},
		"widths": widths{-1, -2, -3, -4, 5, 6, 7, 8, 9.5, 10.5, true, time.Hour, [3]int{1, 2, 3}, [4]byte{1, 2, 3, 4}, &one, &ptext,
			map[int]string{1: "a"}, map[named][]int{"k": {1}}, namedB{1}, struct{}{}},
		"embedded": outer{base: base{1}, Inner: &Inner{2, 3}, Name: "n"}, "linked": node{&node{}}, "as array": arrayed{A: 1, B: "b"},
		"any":     generic{Any: "a", List: []any{nil, "x", true, 1.5}, Map: map[string]any{"k": []any{"v"}}},
		"address": netip.MustParseAddr("192.0.2.1"), "url": url.URL{Scheme: "https", Host: "example.org", Path: "/a"}, "big": big.NewInt(1 << 40),
		"embedded time": onlyStamp{time.Unix(1, 0).UTC()},
	}
	for name, v := range typical() {
		values["typical "+name] = v
	}
	return values
}

// TestStored checks that data stored before is read, and is still written in the
// same way.
func TestStored(t *testing.T) {
	file, err := os.ReadFile("testdata/stored.txt")
	if err != nil {
		t.Fatal(err)
	}
	blobs := make(map[string][]byte)
	for line := range strings.Lines(string(file)) {
		name, blob, ok := strings.Cut(strings.TrimSpace(line), " ")
		if ok {
			if blobs[name], err = base64.StdEncoding.DecodeString(blob); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, c := range coders {
		stored, err := c.Split(blobs[c.name])
		if err != nil {
			t.Fatal(err)
		}
		values := storedValues()
		if len(stored) != len(values) {
			t.Errorf("%s: %d values are stored, want %d", c.name, len(stored), len(values))
		}
		for name, want := range values {
			got := reflect.New(reflect.TypeOf(want))
			if err := c.Unmarshal(stored[name], got.Interface()); err != nil || !reflect.DeepEqual(got.Elem().Interface(), want) {
				t.Errorf("%s: %s: read %#v, %v, want %#v", c.name, name, got.Elem(), err, want)
			}
			if data, err := c.Marshal(want); err != nil || string(data) != string(stored[name]) {
				t.Errorf("%s: %s: stored as %q, now %q, %v", c.name, name, stored[name], data, err)
			}
		}
		if blob, err := c.Join(encoded(t, c, values)); err != nil || string(blob) != string(blobs[c.name]) {
			t.Errorf("%s: another blob, %v", c.name, err)
		}
	}
}
