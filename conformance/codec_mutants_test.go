package conformance

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/seed-a7bee19b/session/codec"
)

// codecMutants are codecs that are broken in one way each, and the one rule
// that has to say so. All others have to pass.
var codecMutants = []mutant{
	{"time in seconds", "RoundTrip"},
	{"int64 as float64", "RoundTrip"},
	{"null for a channel", "MarshalRefuses"},
	{"panics at a function", "MarshalRefuses"},
	{"map in its own order", "MarshalEqual"},
	{"ignores what follows", "UnmarshalRefuses"},
	{"empty is zero", "UnmarshalRefuses"},
	{"other type is zero", "UnmarshalRefuses"},
	{"unmarshal panics at nothing", "UnmarshalPanics"},
	{"unmarshal panics at no pointer", "UnmarshalPanics"},
	{"unmarshal trusts a length", "UnmarshalMemory"},
	{"join in map order", "JoinEqual"},
	{"split cuts long values", "SplitReturns"},
	{"join trims names", "SplitReturns"},
	{"split takes what there is", "SplitRefuses"},
	{"split ignores what follows", "SplitRefuses"},
	{"split takes any order", "SplitRefuses"},
	{"split of nothing is empty", "SplitEmpty"},
	{"split panics past the end", "SplitPanics"},
	{"split trusts the count", "SplitMemory"},
	{"unmarshal clears data", "Slices"},
	{"unmarshal aliases data", "Slices"},
	{"marshal empties the map", "Slices"},
	{"join empties the map", "Slices"},
	{"split clears data", "Slices"},
	{"one buffer for all", "Concurrent"},
}

func TestCodecMutants(t *testing.T) {
	for _, mutant := range append(codecMutants, mutant{}) {
		t.Run(mutant.bug, func(t *testing.T) {
			for _, rule := range codecRules {
				ok, log := run(t, func(t testing.TB) { rule.test(t, &modelCodec{bug: mutant.bug}) })
				switch {
				case rule.name != mutant.rule && !ok:
					t.Errorf("rule %s fails as well:\n%s", rule.name, log)
				case rule.name == mutant.rule && ok:
					t.Errorf("rule %s passes", rule.name)
				case !ok && !strings.Contains(log, "the contract says: "):
					t.Errorf("rule %s fails without quoting the contract:\n%s", rule.name, log)
				}
			}
		})
	}
}

// modelCodec is codec.JSON for values, with a blob of its own: the number of
// values, then name and value of each, with their lengths, in order.
type modelCodec struct {
	codec.JSON
	bug  string
	last atomic.Value
	sink []byte
}

var errModelCodec = errors.New("model: bad data")

type boxed struct{ v any }

func (c *modelCodec) Marshal(v any) ([]byte, error) {
	kind := reflect.Invalid
	if v != nil {
		kind = reflect.TypeOf(v).Kind()
	}
	switch c.bug {
	case "time in seconds":
		if at, ok := v.(time.Time); ok {
			v = at.Truncate(time.Second)
		}
	case "int64 as float64":
		if n, ok := v.(int64); ok {
			v = int64(float64(n/2)) / 3 * 3
		}
	case "null for a channel":
		if kind == reflect.Chan {
			return []byte("null"), nil
		}
	case "panics at a function":
		if kind == reflect.Func {
			panic("model: a function")
		}
	case "map in its own order":
		if m, ok := v.(map[string]int); ok && len(m) > 10 {
			var out []byte
			for name, n := range m {
				item, _ := json.Marshal(map[string]int{name: n})
				out = append(append(out, ','), item[1:len(item)-1]...)
			}
			out[0] = '{'
			return append(out, '}'), nil
		}
	case "marshal empties the map":
		if m, ok := v.(map[string]int); ok && len(m) == 1 {
			defer clear(m)
		}
	case "one buffer for all":
		c.last.Store(boxed{v})
		if kind == reflect.String {
			time.Sleep(10 * time.Microsecond)
		}
		v = c.last.Load().(boxed).v
	}
	return c.JSON.Marshal(v)
}

func (c *modelCodec) Unmarshal(data []byte, v any) error {
	err := c.JSON.Unmarshal(data, v)
	switch c.bug {
	case "ignores what follows":
		if s, ok := v.(*string); ok && err != nil && s != nil {
			return json.NewDecoder(bytes.NewReader(data)).Decode(s)
		}
	case "empty is zero":
		if len(data) == 0 {
			return nil
		}
	case "other type is zero":
		if _, ok := v.(*int); ok && string(data) == `"text"` {
			return nil
		}
	case "unmarshal panics at nothing":
		_ = data[0]
	case "unmarshal panics at no pointer":
		reflect.ValueOf(v).Elem()
	case "unmarshal trusts a length":
		if len(data) > 4 && data[0] == 0xdd {
			c.sink = make([]byte, min(binary.BigEndian.Uint32(data[1:]), 8<<20))
		}
	case "unmarshal clears data":
		clear(data)
	case "unmarshal aliases data":
		if s, ok := v.(*string); ok && err == nil && len(data) > 2 && string(data[1:len(data)-1]) == *s {
			*s = unsafe.String(&data[1], len(*s))
		}
	}
	return err
}

func (c *modelCodec) Join(values map[string][]byte) ([]byte, error) {
	names := slices.Sorted(maps.Keys(values))
	if c.bug == "join in map order" {
		names = slices.Collect(maps.Keys(values))
	}
	blob := binary.BigEndian.AppendUint32(nil, uint32(len(names)))
	for _, name := range names {
		value := values[name]
		if c.bug == "join trims names" {
			name = strings.TrimRight(name, " ")
		}
		blob = binary.BigEndian.AppendUint32(blob, uint32(len(name)))
		blob = append(blob, name...)
		blob = binary.BigEndian.AppendUint32(blob, uint32(len(value)))
		blob = append(blob, value...)
	}
	if c.bug == "join empties the map" {
		clear(values)
	}
	return blob, nil
}

func (c *modelCodec) Split(data []byte) (map[string][]byte, error) {
	rest := data
	if len(rest) < 4 {
		if len(rest) == 0 && c.bug == "split of nothing is empty" {
			return nil, nil
		}
		return nil, errModelCodec
	}
	count := binary.BigEndian.Uint32(rest)
	rest = rest[4:]
	hint := 0
	if c.bug == "split trusts the count" {
		hint = int(min(count, 1<<18))
	}
	values := make(map[string][]byte, hint)
	next := func() (part []byte, ok bool) {
		if len(rest) < 4 {
			return nil, false
		}
		n := binary.BigEndian.Uint32(rest)
		rest = rest[4:]
		if uint64(n) > uint64(len(rest)) && c.bug != "split panics past the end" {
			return nil, false
		}
		part, rest = rest[:n:n], rest[n:]
		return part, true
	}
	var before string
	for i := range count {
		name, ok1 := next()
		value, ok2 := next()
		if !ok1 || !ok2 {
			if c.bug == "split takes what there is" {
				return values, nil
			}
			return nil, errModelCodec
		}
		if i > 0 && before >= string(name) && c.bug != "split takes any order" && c.bug != "join in map order" {
			return nil, errModelCodec
		}
		before = string(name)
		if c.bug == "split cuts long values" {
			value = value[:min(len(value), 10_000)]
		}
		values[before] = value
	}
	if len(rest) > 0 && c.bug != "split ignores what follows" {
		return nil, errModelCodec
	}
	if c.bug == "split clears data" {
		for name, value := range values {
			values[name] = bytes.Clone(value)
		}
		clear(data)
	}
	return values, nil
}
