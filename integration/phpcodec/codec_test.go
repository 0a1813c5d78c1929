package phpcodec_test

import (
	"bytes"
	"compress/gzip"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session/codec/php"
)

// blobs returns what PHP has stored and what it has been given to decode, for c. The
// vectors are those of package codec/php.
func blobs(t testing.TB, c php.Codec) [][]byte {
	t.Helper()
	data, err := os.ReadFile("../../codec/php/testdata/vectors.json.gz")
	if err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	var v struct {
		Encode []struct {
			Handlers map[string]struct {
				Stored []byte `json:"handed_to_save_handler"`
			}
		}
		Decode []struct{ Handler, Hex string }
	}
	if err := json.NewDecoder(z).Decode(&v); err != nil {
		t.Fatal(err)
	}
	var all [][]byte
	for _, e := range v.Encode {
		all = append(all, e.Handlers[c.SerializeHandler()].Stored)
	}
	for _, d := range v.Decode {
		if b, err := hex.DecodeString(d.Hex); err == nil && d.Handler == c.SerializeHandler() {
			all = append(all, b)
		}
	}
	return all
}

// TestFromPHP checks that Split takes what PHP stores, that Join makes the same bytes
// again, and that values mean the same to PHP beside one that is new.
func TestFromPHP(t *testing.T) {
	p := startPHP(t)
	read, shared, refused := 0, 0, 0
	for _, c := range codecs {
		for seed := range 400 {
			stored := p.ask("fill", c, []byte(strconv.Itoa(seed)))
			if !stored.OK {
				t.Fatalf("seed %d: %q", seed, stored.Said)
			}
			values, err := c.Split(stored.Data)
			if err != nil {
				t.Fatalf("%s, seed %d: Split of %q: %v", c.Handler, seed, stored.Data, err)
			}
			again, err := c.Join(values)
			if err != nil || !bytes.Equal(again, stored.Data) {
				t.Fatalf("%s, seed %d: Join made %q, %v; want %q", c.Handler, seed, again, err, stored.Data)
			}
			for name, value := range values {
				var v any
				if err := c.Unmarshal(value, &v); err != nil {
					if !strings.Contains(err.Error(), "contains itself") && !strings.Contains(err.Error(), "with another value") {
						t.Errorf("%s, seed %d, %q: Unmarshal of %q: %v", c.Handler, seed, name, value, err)
					}
					shared++
					continue
				}
				read++
				// What is set again has to be the same value, but for what is shared.
				if set, err := c.Marshal(v); err != nil {
					t.Errorf("%s, seed %d, %q: Marshal of what Unmarshal made of %q: %v", c.Handler, seed, name, value, err)
				} else if bytes.Contains(value, []byte("r:")) || bytes.Contains(value, []byte("R:")) {
					continue
				} else if one, err := c.Join(map[string][]byte{"v": set}); err != nil {
					t.Error(err)
				} else if was, err := c.Join(map[string][]byte{"v": value}); err != nil {
					t.Error(err)
				} else if a, b := p.decode(c, one), p.decode(c, was); !a.OK || sortedDump(a.Dump) != sortedDump(b.Dump) {
					t.Errorf("%s, seed %d, %q: set again it is %s %q, want %s", c.Handler, seed, name, a.Dump, a.Said, b.Dump)
				}
			}
			refused += deleteOne(t, p, c, stored.Data, values, seed)
			// A new name that sorts before the others, and one that was there.
			before := p.decode(c, stored.Data)
			values["!new"] = []byte(`a:1:{i:0;s:3:"new";}`)
			more, err := c.Join(values)
			if err != nil {
				t.Fatalf("%s, seed %d: Join with a new value: %v", c.Handler, seed, err)
			}
			after := p.decode(c, more)
			if !after.OK || len(after.Said) > 0 || !sameBut(before.Dump, after.Dump, "s216e6577:[i0:s6e6577]") {
				t.Fatalf("%s, seed %d: with a new value PHP reads %s, %q; want %s and the value", c.Handler, seed, after.Dump, after.Said, before.Dump)
			}
		}
	}
	t.Logf("%d values were read, and %d not: they contain themselves, or refer to a part of another that does; %d were not deleted, as another refers to them", read, shared, refused)
}

// deleteOne deletes each value in turn. Join has to refuse that if another refers to
// it; otherwise PHP has to find what it finds when it deletes the value itself.
func deleteOne(t *testing.T, p *peer, c php.Codec, stored []byte, values map[string][]byte, seed int) (refused int) {
	t.Helper()
	for name := range values {
		if name == "_session.order" {
			continue
		}
		rest := maps.Clone(values)
		delete(rest, name)
		data, err := c.Join(rest)
		if err != nil {
			if !strings.Contains(err.Error(), "shares an object") {
				t.Fatalf("%s, seed %d: Join without %q: %v", c.Handler, seed, name, err)
			}
			refused++
			continue
		}
		got, want := p.decode(c, data), p.ask("without", c, append([]byte(name+"\n"), stored...))
		if !got.OK || got.Dump != want.Dump || !bytes.Equal(got.Data, want.Data) {
			t.Fatalf("%s, seed %d: without %q, %q, PHP reads %s %q; want %s", c.Handler, seed, name, data, got.Dump, got.Said, want.Dump)
		}
	}
	return refused
}

// sameBut reports whether a dump is another with one value more. Numbers of objects
// and references differ.
func sameBut(before, after, added string) bool {
	for _, part := range []string{added + ",", "," + added, added} {
		if rest := strings.Replace(after, part, "", 1); rest != after {
			return rest == before
		}
	}
	return false
}

// sortedDump returns a dump with the elements of arrays in any order: what is left is
// the same for the same elements.
func sortedDump(dump string) string {
	parts := strings.FieldsFunc(dump, func(r rune) bool { return r == ',' || r == '[' || r == ']' || r == '{' || r == '}' })
	slices.Sort(parts)
	return strings.Join(parts, ",")
}

// TestJoined checks that PHP takes whatever Join makes of damaged blobs that Split
// takes: otherwise it would destroy the session.
func TestJoined(t *testing.T) {
	p := startPHP(t)
	random := rand.New(rand.NewPCG(1, 2))
	taken, tried := 0, 0
	for _, c := range codecs {
		seeds := blobs(t, c)
		for seed := range 40 {
			seeds = append(seeds, p.ask("fill", c, []byte(strconv.Itoa(seed))).Data)
		}
		for _, seed := range seeds {
			if len(seed) == 0 || len(seed) > 10_000 {
				continue
			}
			for range 150 {
				data := damage(random, seed)
				tried++
				values, err := c.Split(data)
				if err != nil {
					continue
				}
				taken++
				again, err := c.Join(values)
				if err != nil || !bytes.Equal(again, data) {
					t.Fatalf("%s: Join of Split of %q: %q, %v", c.Handler, data, again, err)
				}
				if a := p.decode(c, data); !a.OK && !excused(a.Said) {
					t.Errorf("%s: Split takes %q, and PHP does not: %q", c.Handler, data, a.Said)
				}
			}
		}
	}
	t.Logf("Split takes %d of %d damaged blobs", taken, tried)
}

// excused reports whether PHP refuses a session because of what its classes are, which
// nothing in the data tells: names of properties that only a class with methods of its
// own has, enums and cases that there are not, and values that a property or the
// method of a class does not take.
func excused(said []string) bool {
	for _, text := range said {
		for _, part := range []string{
			"Corrupt member variable name", "Undefined constant", "' not found", "is not an enum", "Invalid serialization data for", "Cannot assign", "has no unserializer", "Undefined array key",
		} {
			if strings.Contains(text, part) {
				return true
			}
		}
	}
	return false
}

func damage(random *rand.Rand, seed []byte) []byte {
	data := bytes.Clone(seed)
	for range 1 + random.IntN(2) {
		at := random.IntN(len(data))
		switch random.IntN(6) {
		case 0:
			data[at] = byte(random.Uint32())
		case 1:
			data[at] = "0123456789abdisrRNOEC:;{}\"|-+.\x00"[random.IntN(31)]
		case 2:
			data[at] ^= 1 << random.IntN(8)
		case 3:
			n := min(len(data)-at, 1+random.IntN(8))
			data = slices.Delete(data, at, at+n)
		case 4:
			n := min(len(data)-at, 1+random.IntN(12))
			data = slices.Insert(data, at, data[at:at+n]...)
		case 5:
			digits := 0
			for ; digits < len(data) && (data[at] < '0' || data[at] > '9'); digits++ {
				at = (at + 1) % len(data)
			}
			data[at] = '0' + byte(random.IntN(10))
		}
		if len(data) == 0 {
			return []byte{'x'}
		}
	}
	return data
}

// point is an object of a class of testdata/codec.php.
type point struct {
	X any    `php:"x"`
	Y string `php:"y"` // protected in PHP
	Z int    `php:"z"` // private
}

func (point) PHPClass() string { return "Point" }

// TestToPHP checks that PHP reads random values of Go as they are, and stores the same
// bytes again: so it writes them as Marshal does.
func TestToPHP(t *testing.T) {
	p := startPHP(t)
	random := rand.New(rand.NewPCG(3, 4))
	for _, c := range codecs {
		for range 500 {
			values, want := map[string][]byte{}, map[string]any{}
			for i := range random.IntN(5) + 1 {
				name := []string{"a", "user", "é", "x y", "cart", "_"}[random.IntN(6)] + strings.Repeat("n", i)
				v := randomValue(random, 4)
				data, err := c.Marshal(v)
				if err != nil {
					t.Fatalf("Marshal of %#v: %v", v, err)
				}
				values[name], want[name] = data, v
				// Go reads it back into the same type.
				if v == nil {
					continue
				}
				back := reflect.New(reflect.TypeOf(v))
				if err := c.Unmarshal(data, back.Interface()); err != nil || dumpOf(back.Elem().Interface()) != dumpOf(v) {
					t.Fatalf("Unmarshal of %q: %#v, %v; want %#v", data, back.Elem(), err, v)
				}
			}
			blob, err := c.Join(values)
			if err != nil {
				t.Fatal(err)
			}
			a := p.decode(c, blob)
			if dump := dumpOf(want); !a.OK || "["+a.Dump+"]" != dump {
				t.Fatalf("%s: PHP reads %q as %s, %q; want %s", c.Handler, blob, a.Dump, a.Said, dump)
			}
			if !bytes.Equal(a.Data, blob) {
				t.Fatalf("%s: PHP stores %q as %q", c.Handler, blob, a.Data)
			}
		}
	}
}

// randomValue returns a value of a type that does not change in an any.
func randomValue(random *rand.Rand, depth int) any {
	n := 8
	if depth > 0 {
		n = 12
	}
	switch random.IntN(n) {
	case 0:
		return nil
	case 1:
		return random.IntN(2) == 0
	case 2:
		return []int64{0, -1, math.MaxInt64, math.MinInt64, 1 << 40, random.Int64()}[random.IntN(6)]
	case 3, 4:
		return randomFloat(random)
	case 5, 6:
		return randomText(random)
	case 7:
		return php.Enum{Class: "Suit", Case: []string{"Hearts", "Spades"}[random.IntN(2)]}.Case // twice the same case would be a reference
	case 8:
		list := make([]any, random.IntN(5))
		for i := range list {
			list[i] = randomValue(random, depth-1)
		}
		return list
	case 9, 10:
		m := map[string]any{"k": 1.0}
		for range random.IntN(5) {
			name := randomText(random)
			if random.IntN(2) == 0 {
				name = strconv.Itoa(random.IntN(100) - 50)
			}
			m[name] = randomValue(random, depth-1)
		}
		return m
	default:
		o := php.Object{Class: "stdClass"}
		for i := range random.IntN(4) {
			o.Fields = append(o.Fields, php.Field{Name: fmt.Sprint("p", i), Value: randomValue(random, depth-1)})
		}
		return o
	}
}

func randomFloat(random *rand.Rand) float64 {
	f := math.Float64frombits(random.Uint64())
	if math.IsNaN(f) {
		f = math.NaN()
	}
	return []float64{
		0, math.Copysign(0, -1), 1, -1, 0.1, 1e25, 1.5e-10, math.Inf(1), math.Inf(-1), math.NaN(), 1e15, 1e16, 1e17, 1e18, 123456789012345678, 1e-4, 1e-5, 0.00012345,
		math.MaxFloat64, math.SmallestNonzeroFloat64, 1 << 53, f, f, f, random.Float64(), random.NormFloat64() * 1e10, float64(random.Int64()),
	}[random.IntN(27)]
}

func randomText(random *rand.Rand) string {
	b := make([]byte, random.IntN(20))
	for i := range b {
		b[i] = byte(random.Uint32())
	}
	return string(b)
}

// dumpOf returns what testdata/codec.php dumps of v.
func dumpOf(v any) string {
	objects := 0
	return dumpWith(v, &objects)
}

func dumpWith(v any, objects *int) string {
	var parts []string
	switch v := v.(type) {
	case nil:
		return "null"
	case bool:
		return strconv.FormatBool(v)
	case int64:
		return "i" + strconv.FormatInt(v, 10)
	case float64:
		if math.IsNaN(v) {
			return "dnan"
		}
		return fmt.Sprintf("d%016x", math.Float64bits(v))
	case string:
		return "s" + hex.EncodeToString([]byte(v))
	case []any:
		for i, x := range v {
			parts = append(parts, fmt.Sprintf("i%d:%s", i, dumpWith(x, objects)))
		}
		return "[" + strings.Join(parts, ",") + "]"
	case map[string]any:
		var ints []int
		var names []string
		for k := range v {
			if n, err := strconv.Atoi(k); err == nil && strconv.Itoa(n) == k {
				ints = append(ints, n)
			} else {
				names = append(names, k)
			}
		}
		slices.Sort(ints)
		slices.Sort(names)
		for _, n := range ints {
			parts = append(parts, fmt.Sprintf("i%d:%s", n, dumpWith(v[strconv.Itoa(n)], objects)))
		}
		for _, k := range names {
			parts = append(parts, "s"+hex.EncodeToString([]byte(k))+":"+dumpWith(v[k], objects))
		}
		return "[" + strings.Join(parts, ",") + "]"
	case php.Object:
		*objects++
		head := fmt.Sprintf("O%d=%s{", *objects-1, v.Class)
		for _, f := range v.Fields {
			parts = append(parts, "s"+hex.EncodeToString([]byte(f.Name))+":"+dumpWith(f.Value, objects))
		}
		return head + strings.Join(parts, ",") + "}"
	}
	return fmt.Sprintf("%T", v)
}

// TestTypes checks what PHP makes of the types that have a meaning to it.
func TestTypes(t *testing.T) {
	p := startPHP(t)
	at := time.Date(2026, 10, 25, 0, 30, 0, 123456000, time.UTC)
	for _, tt := range []struct {
		v    any
		want string
	}{
		{point{1.5, "y", 7}, "O0=Point{s78:d3ff8000000000000,s002a0079:s79,s00506f696e74007a:i7}"},
		{&point{nil, "", 0}, "O0=Point{s78:null,s002a0079:s,s00506f696e74007a:i0}"},
		{php.Object{Class: "Point", Fields: []php.Field{{Name: "x"}, {Name: "\x00*\x00y", Value: "y"}, {Name: "\x00Point\x00z", Value: 1}}}, "O0=Point{s78:null,s002a0079:s79,s00506f696e74007a:i1}"},
		{php.Object{Class: "Magic", Fields: []php.Field{{Name: "x", Value: 1}, {Name: "7", Int: true, Value: "seven"}}}, "O0=Magic{s61:i1}"},
		{php.Enum{Class: "Suit", Case: "Hearts"}, "ESuit:Hearts"},
		{php.Opaque{Class: "Old", Data: []byte("raw")}, "O0=Old{s73:s726177}"},
		{php.Time{Time: at}, "O0=DateTimeImmutable(1792888200.123456 UTC)"},
		{[]php.Time{{Time: time.Unix(0, 0)}}, "[i0:O0=DateTimeImmutable(0.000000 UTC)]"},
		{php.Raw(`a:1:{s:1:"a";R:1;}`), ""},
		{at, "s" + hex.EncodeToString([]byte("2026-10-25T00:30:00.123456Z"))},
		{map[int]string{5: "five", -3: "neg"}, "[i-3:s6e6567,i5:s66697665]"},
		{php.Array{{Name: "b", Value: 1}, {Name: "5", Int: true, Value: 2}, {Name: "a", Value: 3}}, "[s62:i1,i5:i2,s61:i3]"},
		{[]string{}, "[]"}, {map[string]int{}, "[]"}, {uint64(math.MaxUint64), "s" + hex.EncodeToString([]byte("18446744073709551615"))},
		{[]byte{0, 255}, "s00ff"}, {float32(1.5), "d3ff8000000000000"}, {int8(-5), "i-5"},
	} {
		for _, c := range codecs {
			data, err := c.Marshal(tt.v)
			if err != nil {
				t.Errorf("Marshal of %#v: %v", tt.v, err)
				continue
			}
			blob, err := c.Join(map[string][]byte{"v": data})
			if err != nil {
				t.Error(err)
				continue
			}
			if a := p.decode(c, blob); tt.want != "" && (!a.OK || a.Dump != "s76:"+tt.want) {
				t.Errorf("%s: PHP reads %q as %s, %q; want %s", c.Handler, blob, a.Dump, a.Said, tt.want)
			}
		}
	}
}

// TestTimes checks that times of PHP are read as the same instants, in the hours too
// that a clock shows twice.
func TestTimes(t *testing.T) {
	p := startPHP(t)
	c := php.Codec{}
	for _, zone := range []string{"UTC", "Europe/Paris", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "+05:30", "-11:00", "+00:00"} {
		kind := 3
		if zone[0] == '+' || zone[0] == '-' {
			kind = 1
		}
		for _, date := range []string{
			"2026-01-01 00:00:00.000000", "2026-07-01 12:34:56.789012", "2026-10-25 02:30:00.000000", "2026-11-01 01:30:00.500000", "2026-04-05 01:45:00.000000", "1969-12-31 23:59:59.999999", "0001-01-01 00:00:00.000000", "9999-12-31 23:59:59.000000",
		} {
			value := fmt.Sprintf(`O:8:"DateTime":3:{s:4:"date";s:%d:"%s";s:13:"timezone_type";i:%d;s:8:"timezone";s:%d:"%s";}`, len(date), date, kind, len(zone), zone)
			var at time.Time
			if err := c.Unmarshal([]byte(value), &at); err != nil {
				t.Errorf("%s %s: %v", date, zone, err)
				continue
			}
			a := p.decode(c, []byte("v|"+value))
			seconds := fmt.Sprintf("(%d.%06d ", at.Unix(), at.Nanosecond()/1000)
			if !strings.Contains(a.Dump, seconds) {
				t.Errorf("%s %s: %v is %s, and PHP reads %s", date, zone, at, seconds, a.Dump)
			}
		}
	}
}
