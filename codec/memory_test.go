package codec_test

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
)

// The factor and the constant that the package comment states.
const (
	statedFactor = 128
	statedBase   = 256 << 10
)

type (
	huge     struct{ A [1024]int64 }
	wide     struct{ A [100]*huge }
	optional struct {
		A, B, C, D, E, F, G, H string    `json:",omitempty"`
		I                      [64]int64 `json:",omitzero"`
	}
	embeds struct {
		*huge2
		N int
	}
	huge2 struct{ B [1024]int64 }
	tree  struct {
		Kids []tree
		Pad  [100]int64
	}
	chain struct{ P **huge }
)

// TestMemory checks that decoding takes no more than the stated memory, for any
// data and any target.
func TestMemory(t *testing.T) {
	const n = 32 << 10
	var msgpack, json [][]byte
	for _, e := range []string{"\xc0", "\x01", "\xff", "\x80", "\x90", "\x91\xc0", "\xa0", "\xa1a", "\xc4\x00", "\xca\x00\x00\x00\x00",
		"\x81\xa0\xc0", "\x81\xa1a\x01", "\x81\xff\xff", "\x82\xa0\xc0\xc0\xc0", "\x91\x91\x81\xa0\x90", "\x81\xa1P\x80", "\x81\xa1N\x01", "\x81\xa1B\xc0",
		"\x81\xa4Kids\x91\x80", "\x81\xa4Kids\x90", "\xd6\xff\x00\x00\x00\x00", "\xcd\x01\x00", strings.Repeat("\x91", 60) + "\xc0"} {
		k := n / len(e)
		head := []byte{0xdd, byte(k >> 24), byte(k >> 16), byte(k >> 8), byte(k)}
		msgpack = append(msgpack, append(head, strings.Repeat(e, k)...))
	}
	var pairs, odd strings.Builder
	for i := range n / 8 {
		fmt.Fprintf(&pairs, "\xa5%05x\xc0", i)
		fmt.Fprintf(&odd, "\xce%c%c%c%c\xc0", byte(i>>24), byte(i>>16), byte(i>>8), byte(i))
	}
	for _, s := range []string{pairs.String(), odd.String()} {
		msgpack = append(msgpack, append([]byte{0xdf, 0, byte(n / 8 >> 16), byte(n / 8 >> 8 & 0xff), byte(n / 8 & 0xff)}, s...))
	}
	for _, e := range []string{"null", "0", "-1", "300", "{}", "[]", `""`, `"a"`, "[null]", "[0]", `{"":0}`, `{"a":null}`, `{"a":{}}`, `{"A":[]}`, `{"A":0}`,
		`{"P":[]}`, `{"p":{}}`, `{"\u0050":{}}`, `{"N":1}`, `{"B":[]}`, `{"Kids":[{}]}`, `{"kids":[0,0]}`, "1.5", "true", strings.Repeat("[", 60) + strings.Repeat("]", 60)} {
		k := n / (len(e) + 1)
		json = append(json, []byte("["+strings.TrimSuffix(strings.Repeat(e+",", k), ",")+"]"))
	}
	pairs.Reset()
	for i := range n / 10 {
		fmt.Fprintf(&pairs, `,"%05x":0`, i)
	}
	json = append(json, []byte("{"+pairs.String()[1:]+"}"))

	targets := []any{
		new(any), new([]any), new([]int), new([]string), new([]*int), new([][]int), new([]bool), new([]time.Time), new([]item), new([]huge), new([]*huge),
		new([]**huge), new([]wide), new([][]huge), new([][3]huge), new([1]huge), new([1 << 12]*huge), new([]map[string]huge), new([]map[string]any),
		new([]map[string]int), new([]map[int]huge), new(map[string]huge), new(map[string]any), new(map[int]int), new(map[any]any), new(map[[40]int]int),
		new([]map[[40]int]int), new([]optional), new([]embeds), new([]tree), new([]chain), new([]generic), new([]outer), new([]widths), new([]struct{}),
		new(map[int8]*huge), new([][]byte), new([][]string), new([]Textual),
	}
	for i, data := range [][][]byte{msgpack, json} {
		c, most := coders[i], 0
		for _, d := range data {
			for _, v := range targets {
				target := reflect.New(reflect.TypeOf(v).Elem()).Interface()
				var err error
				used := allocated(func() { err = c.Unmarshal(d, target) })
				most = max(most, (int(used)-statedBase)/len(d))
				if limit := uint64(statedBase + statedFactor*len(d)); used > limit {
					t.Errorf("%s: %d bytes, %.20q..., into %T: %d bytes of memory, %d for each (%v)", c.name, len(d), d, v, used, int(used)/len(d), err)
				}
			}
		}
		t.Logf("%s: at most %d for each byte of data", c.name, most)
	}
}

// TestLargeElements checks a case that was reported, in which a megabyte of nils
// became a gigabyte of structs, and similar cases.
func TestLargeElements(t *testing.T) {
	const n = 1 << 20
	nils := append([]byte{0xdd, n >> 24, n >> 16 & 0xff, n >> 8 & 0xff, n & 0xff}, strings.Repeat("\xc0", n)...)
	objects := []byte("[" + strings.Repeat("{},", n/3) + "{}]")
	for _, v := range []any{new([]huge), new([][2]huge), new([]struct {
		H []int
		A [100]string
	})} {
		for i, data := range [][]byte{nils, objects} {
			var err error
			used := allocated(func() { err = coders[i].Unmarshal(data, v) })
			if err == nil || used > 1<<20 {
				t.Errorf("%s: %T: %d bytes of memory, %v", coders[i].name, v, used, err)
			}
		}
	}
	// Values that are as large when they are written are read back, or refused
	// at that time.
	for _, c := range coders {
		for _, v := range []any{make([]huge, 4), make([]huge, 100), make([]*huge, 1000), make([]optional, 300), make([]optional, 5000), make([]struct{ S []optional }, 20000)} {
			data, err := c.Marshal(v)
			if err != nil {
				continue
			}
			if err := c.Unmarshal(data, reflect.New(reflect.TypeOf(v)).Interface()); err != nil {
				t.Errorf("%s: %d of %T: %v", c.name, reflect.ValueOf(v).Len(), v, err)
			}
		}
		for _, v := range []any{make([]huge, 100), make([]optional, 50), make([]item, 20000), make([]*huge, 20000), make([]string, 100000), make([]struct{ S []string }, 50000), make([]widths, 10000)} {
			if _, err := c.Marshal(v); err != nil {
				t.Errorf("%s: %d of %T: %v", c.name, reflect.ValueOf(v).Len(), v, err)
			}
		}
	}
}
