package conformance

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"
	"unsafe"

	"github.com/seed-a7bee19b/session/codec"
)

// codecMutants are codecs with one fault each, and the rule that has to fail on it.
// All other rules have to pass.
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
	{"nothing is joined to nothing and refused", "SplitEmpty"},
	{"check allows a name that join refuses", "Names"},
	{"check refuses a name that join takes", "Names"},
	{"split panics past the end", "SplitPanics"},
	{"split trusts the count", "SplitMemory"},
	{"unmarshal clears data", "Slices"},
	{"unmarshal aliases data", "Slices"},
	{"marshal empties the map", "Slices"},
	{"join empties the map", "Slices"},
	{"split clears data", "Slices"},
	{"one buffer for all", "Concurrent"},
	{"drops nil from a map", "RoundTrip"},
	{"nil pointer is zero", "RoundTrip"},
	{"nil is nothing", "RoundTrip"},
	{"large integers lose digits", "RoundTrip"},
	{"nan is zero", "Fidelity"},
	{"mends text", "Fidelity"},
	{"as encoding/json does", "Fidelity"},
	{"leaves out a channel", "MarshalRefuses"},
	{"leaves out a function within", "MarshalRefuses"},
	{"wraps integers", "UnmarshalRefuses"},
	{"wraps negative integers", "UnmarshalRefuses"},
	{"wraps integers in a list", "UnmarshalRefuses"},
	{"cuts a fraction", "UnmarshalRefuses"},
	{"unmarshal takes a name twice", "UnmarshalRefuses"},
	{"unmarshal takes spaces before", "UnmarshalRefuses"},
	{"unmarshal takes spaces after", "UnmarshalRefuses"},
	{"unmarshal takes spaces within", "UnmarshalRefuses"},
	{"join drops nil", "SplitReturns"},
	{"split takes names twice", "SplitRefuses"},
	{"split takes spaces before", "SplitRefuses"},
	{"split takes spaces after", "SplitRefuses"},
	{"marshal uses a buffer again", "Results"},
	{"marshal remembers", "Results"},
	{"join uses a buffer again", "Results"},
	{"split remembers", "Results"},
	{"values reach into the next", "Results"},
	{"unmarshal remembers", "Results"},
	{"marshal quotes the value", "Errors"},
	{"unmarshal quotes the value", "Errors"},
	{"repeats what a method says", "Errors"},
	{"split quotes the data", "Errors"},
	{"join quotes a name", "Errors"},
	{"binary is said to be text", "JoinText"},
	{"text but for the second plane", "JoinText"},
	{"text but for the last plane", "JoinText"},
	{"text but for a zero byte", "JoinText"},
	{"text but for what is long", "JoinText"},
	{"text but for other bytes", "JoinText"},
}

func TestCodecMutants(t *testing.T) {
	for _, mutant := range append(codecMutants, mutant{}) {
		t.Run(mutant.bug, func(t *testing.T) {
			for _, rule := range codecRulesFor(&modelCodec{bug: mutant.bug}) {
				ok, log := run(t, func(t testing.TB) { rule.test(t, &modelCodec{bug: mutant.bug}) })
				switch {
				case rule.name != mutant.rule && !ok:
					t.Errorf("rule %s fails as well:\n%s", rule.name, log)
				case rule.name == mutant.rule && ok:
					t.Errorf("rule %s passes", rule.name)
				case !ok && !quotes(log):
					t.Errorf("rule %s fails without quoting the contract:\n%s", rule.name, log)
				}
			}
		})
	}
}

// A modelCodec encodes values as codec.JSON does. Its blob is the number of values
// and then, in order, each name and value with their lengths.
type modelCodec struct {
	codec.JSON
	bug   string
	last  atomic.Value
	mu    sync.Mutex
	sink  []byte
	kept  map[string][]byte
	maps  map[string]map[string]int
	blobs map[string]map[string][]byte
}

// Text is true if the bug is about text. The blob then is that of codec.JSON with
// some bytes changed, except for one bug.
func (c *modelCodec) Text() bool {
	return strings.Contains(c.bug, "text but") || c.bug == "binary is said to be text"
}

// swapped returns data with the bytes a and b swapped.
func swapped(data []byte, a, b byte) []byte {
	data = bytes.Clone(data)
	for i, c := range data {
		switch c {
		case a:
			data[i] = b
		case b:
			data[i] = a
		}
	}
	return data
}

// joinText changes a blob of codec.JSON as the bug demands.
func (c *modelCodec) joinText(blob []byte) []byte {
	switch c.bug {
	case "text but for the second plane":
		return swapped(blob, 0xf0, 0xff)
	case "text but for the last plane":
		return swapped(blob, 0xf4, 0xff)
	case "text but for a zero byte":
		return bytes.ReplaceAll(blob, []byte(`\u0000`), []byte{0xff})
	case "text but for what is long":
		if len(blob) > modelLong {
			return append([]byte{0xff}, blob...)
		}
	case "text but for other bytes":
		return bytes.ReplaceAll(blob, []byte("/4"), []byte{0xff}) // 0xff and 0x80 in base64
	}
	return blob
}

const modelLong = 64 << 10

// splitText undoes joinText.
func (c *modelCodec) splitText(data []byte) ([]byte, error) {
	switch c.bug {
	case "text but for a zero byte":
		if bytes.Contains(data, []byte(`\u0000`)) {
			return nil, errModelCodec
		}
		return bytes.ReplaceAll(data, []byte{0xff}, []byte(`\u0000`)), nil
	case "text but for other bytes":
		if bytes.Contains(data, []byte("/4")) {
			return nil, errModelCodec
		}
		return bytes.ReplaceAll(data, []byte{0xff}, []byte("/4")), nil
	case "text but for what is long":
		rest, marked := bytes.CutPrefix(data, []byte{0xff})
		if marked != (len(rest) > modelLong) {
			return nil, errModelCodec
		}
		return rest, nil
	}
	return c.joinText(data), nil
}

func (c *modelCodec) keep(name string, data []byte) {
	if c.kept == nil {
		c.kept = make(map[string][]byte)
	}
	c.kept[name] = data
}

// wrap decodes a number that does not fit into a T by cutting it.
func wrap[T int8 | uint](data []byte, v any, err error) error {
	var n int64
	if small, ok := v.(*T); ok && err != nil && json.Unmarshal(data, &n) == nil {
		*small = T(n)
		return nil
	}
	return err
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
	case "drops nil from a map":
		if m, ok := v.(map[string]any); ok {
			v = maps.Clone(m)
			maps.DeleteFunc(v.(map[string]any), func(_ string, v any) bool { return v == nil })
		}
	case "nil pointer is zero":
		if p, ok := v.(*int); ok && p == nil {
			v = 0
		}
	case "nil is nothing":
		if v == nil {
			return []byte{}, nil
		}
	case "large integers lose digits":
		if list, ok := v.([]int64); ok {
			v = slices.Collect(func(yield func(float64) bool) {
				for _, n := range list {
					yield(float64(n))
				}
			})
		}
	case "nan is zero":
		if f, ok := v.(float64); ok && f != f {
			v = 0
		}
	case "mends text":
		if s, ok := v.(string); ok {
			v = strings.ToValidUTF8(s, "?")
		}
	case "as encoding/json does":
		if kind == reflect.Struct {
			return json.Marshal(v)
		}
	case "leaves out a channel":
		if kind == reflect.Struct && reflect.TypeOf(v).NumField() == 2 && reflect.TypeOf(v).Field(1).Type.Kind() == reflect.Chan {
			v = map[string]any{"A": reflect.ValueOf(v).Field(0).Interface()}
		}
	case "leaves out a function within":
		if m, ok := v.(map[string]any); ok && m["a"] != nil && reflect.TypeOf(m["a"]).Kind() == reflect.Func {
			v = map[string]any{}
		}
	case "marshal uses a buffer again":
		data, err := c.JSON.Marshal(v)
		if _, ok := v.(string); !ok || err != nil {
			return data, err
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if len(data) == 13 { // "first value", "second one!"
			c.sink = append(c.sink[:0], data...)
			return c.sink, nil
		}
		return data, nil
	case "marshal remembers":
		c.mu.Lock()
		defer c.mu.Unlock()
		if list, ok := v.([]string); ok && len(list) == 2 {
			if c.kept[list[0]] == nil {
				data, err := c.JSON.Marshal(v)
				if err != nil {
					return nil, err
				}
				c.keep(list[0], data)
			}
			return c.kept[list[0]], nil
		}
	case "marshal quotes the value":
		data, err := c.JSON.Marshal(v)
		if err != nil {
			err = fmt.Errorf("model: %v: %w", v, err)
		}
		return data, err
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
	case "wraps integers":
		return wrap[int8](data, v, err)
	case "wraps negative integers":
		return wrap[uint](data, v, err)
	case "wraps integers in a list":
		var wide []int64
		if list, ok := v.(*[]int8); ok && err != nil && c.JSON.Unmarshal(data, &wide) == nil {
			for _, n := range wide {
				*list = append(*list, int8(n))
			}
			return nil
		}
	case "cuts a fraction":
		var f float64
		if n, ok := v.(*int); ok && n != nil && err != nil && c.JSON.Unmarshal(data, &f) == nil {
			*n = int(f)
			return nil
		}
	case "unmarshal takes a name twice":
		if _, ok := v.(*map[string]any); ok && err != nil && !bytes.ContainsAny(data, " \t\n") {
			return json.Unmarshal(data, v)
		}
	case "unmarshal takes spaces before":
		return c.JSON.Unmarshal(bytes.TrimLeft(data, " "), v)
	case "unmarshal takes spaces after":
		return c.JSON.Unmarshal(bytes.TrimRight(data, "\r\n"), v)
	case "unmarshal takes spaces within":
		var b bytes.Buffer
		if _, ok := v.(*[]int); ok && err != nil && json.Compact(&b, data) == nil {
			return c.JSON.Unmarshal(b.Bytes(), v)
		}
	case "unmarshal remembers":
		c.mu.Lock()
		defer c.mu.Unlock()
		if m, ok := v.(*map[string]int); ok && err == nil && len(*m) == 1 {
			if c.maps[string(data)] == nil {
				if c.maps == nil {
					c.maps = map[string]map[string]int{}
				}
				c.maps[string(data)] = *m
			}
			*m = c.maps[string(data)]
		}
	case "unmarshal quotes the value":
		if err != nil {
			return fmt.Errorf("model: %s: %w", data, err)
		}
	case "repeats what a method says":
		if _, ok := v.(*codecTelling); ok {
			return json.Unmarshal(data, v)
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

func (c *modelCodec) CheckName(name string) error {
	if len(name) > 1000 && c.bug == "check refuses a name that join takes" {
		return errModelCodec
	}
	return nil
}

func (c *modelCodec) Join(values map[string][]byte) (blob []byte, _ error) {
	if strings.Contains(c.bug, "text but") {
		blob, err := c.JSON.Join(values)
		if err != nil {
			return nil, err
		}
		return c.joinText(blob), nil
	}
	names := slices.Sorted(maps.Keys(values))
	if len(names) == 0 && c.bug == "nothing is joined to nothing and refused" {
		return []byte{}, nil
	}
	if c.bug == "check allows a name that join refuses" && slices.ContainsFunc(names, func(name string) bool { return strings.Contains(name, "|") }) {
		return nil, errModelCodec
	}
	if c.bug == "join in map order" {
		names = slices.Collect(maps.Keys(values))
	}
	if c.bug == "join drops nil" {
		names = slices.DeleteFunc(names, func(name string) bool { return string(values[name]) == "null" })
	}
	if c.bug == "join quotes a name" && !utf8.ValidString(strings.Join(names, "")) {
		return nil, fmt.Errorf("model: %q", names)
	}
	var start []byte
	if c.bug == "join uses a buffer again" {
		c.mu.Lock()
		defer c.mu.Unlock()
		if len(names) == 3 && len(values[names[0]]) == 9 {
			defer func() { c.sink = blob }()
			start = c.sink[:0]
		}
	}
	blob = binary.BigEndian.AppendUint32(start, uint32(len(names)))
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
	switch c.bug {
	case "split takes spaces before":
		data = bytes.TrimLeft(data, " ")
	case "split takes spaces after":
		data = bytes.TrimRight(data, "\r\n")
	case "split remembers":
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.blobs[string(data)] == nil {
			values, err := c.split(data)
			if err != nil || len(values) != 3 {
				return values, err
			}
			if c.blobs == nil {
				c.blobs = map[string]map[string][]byte{}
			}
			c.blobs[string(data)] = values
		}
		return c.blobs[string(data)], nil
	case "split quotes the data":
		values, err := c.split(data)
		if err != nil {
			err = fmt.Errorf("model: %q: %w", data, err)
		}
		return values, err
	}
	return c.split(data)
}

func (c *modelCodec) split(data []byte) (map[string][]byte, error) {
	if strings.Contains(c.bug, "text but") {
		text, err := c.splitText(data)
		if err != nil {
			return nil, err
		}
		return c.JSON.Split(text)
	}
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
		if c.bug == "values reach into the next" {
			end := len(data) - len(rest)
			value = data[end-len(value) : end]
		}
		if i > 0 && before == string(name) && c.bug == "split takes names twice" {
			continue
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
