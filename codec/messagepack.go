package codec

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"sync"
	"unicode/utf8"

	"github.com/vmihailenco/msgpack/v5"

	"github.com/seed-a7bee19b/session/internal/readback"
	"github.com/seed-a7bee19b/session/internal/room"
)

// The limits that apply where a field of [MessagePack] or [JSON] is zero.
const (
	DefaultMaxDepth  = 64      // levels
	DefaultMaxValues = 4096    // values
	DefaultMaxSize   = 4 << 20 // bytes
)

// greatestDepth bounds MaxDepth itself, because each level takes stack.
const greatestDepth = 10_000

// MessagePack is the default codec: compact and fast. Its zero value is ready
// to use; it is safe for concurrent use.
//
// Marshal writes with the encoder of github.com/vmihailenco/msgpack/v5, so
// struct tags and the methods EncodeMsgpack, MarshalMsgpack, MarshalBinary and
// MarshalText work as they do there. A field without a msgpack tag uses its
// json tag, so that one struct serves both codecs. Unmarshal reads with a
// decoder of this package; see the package comment for the reasons.
type MessagePack struct {
	// MaxDepth limits how deep arrays, maps and structs are nested in one
	// value. It is at most 10,000. Zero or less means [DefaultMaxDepth].
	MaxDepth int
	// MaxValues limits the number of values in one session. Zero or less means
	// [DefaultMaxValues].
	MaxValues int
	// MaxSize limits the bytes of one value, and of one joined session.
	// Zero or less means [DefaultMaxSize].
	MaxSize int
}

func orDefault(n, def int) int {
	if n <= 0 {
		return def
	}
	return n
}

func (c MessagePack) maxDepth() int {
	return min(orDefault(c.MaxDepth, DefaultMaxDepth), greatestDepth)
}
func (c MessagePack) maxValues() int { return orDefault(c.MaxValues, DefaultMaxValues) }
func (c MessagePack) maxSize() int   { return orDefault(c.MaxSize, DefaultMaxSize) }

// scratch is the buffer of Marshal. It refuses to grow past max, which also
// ends the encoding of a value that contains itself.
type scratch struct {
	b   []byte
	max int
}

func (s *scratch) Write(p []byte) (int, error) {
	if len(p) > s.max-len(s.b) {
		return 0, errSize
	}
	s.b = append(s.b, p...)
	return len(p), nil
}

func (s *scratch) WriteByte(c byte) error {
	if len(s.b) >= s.max {
		return errSize
	}
	s.b = append(s.b, c)
	return nil
}

// keepScratch is the largest buffer worth keeping between calls.
const keepScratch = 16 << 10

var scratches = sync.Pool{New: func() any { return new(scratch) }}

func (s *scratch) free() {
	if cap(s.b) > keepScratch {
		return
	}
	clear(s.b) // it holds values of users
	s.b = s.b[:0]
	scratches.Put(s)
}

// Marshal encodes v. The result is the same for equal values, even if they
// contain maps. Integers and lengths take as few bytes as possible.
//
// Marshal fails for channels, functions, complex numbers; interfaces with
// methods; structs that have fields but no exported one, or two fields that are
// encoded under one name, or a field tagged intern; types that have a method to
// encode them and none to decode them; extensions other than the timestamp;
// values in maps, or in any, whose methods are on the pointer; a value that is
// nested too deep, contains itself or is too large; and every value that would
// not be read back equal. See the package comment.
func (c MessagePack) Marshal(v any) (_ []byte, err error) {
	defer caught("MessagePack: Marshal", &err)
	unsorted, doubtful, perByte := false, false, 0
	written := v
	switch v.(type) {
	case nil, bool, string, []byte, int, int64, uint, uint64, float64:
	default:
		p, err := planFor(reflect.TypeOf(v))
		if err != nil {
			return nil, err
		}
		unsorted, doubtful, perByte = p.unsorted, p.doubtful, p.perByte
		if p.dynamic {
			ck := checker{left: c.maxSize(), unsorted: unsorted}
			// A level of nesting takes at most an interface, the pointers in
			// it, and the value itself.
			if err := ck.check(p, reflect.ValueOf(v), (2+maxPointers)*(c.maxDepth()+1)); err != nil {
				return nil, err
			}
			unsorted, doubtful = ck.unsorted, doubtful || ck.doubtful
		}
		if p.needsAddr {
			// Methods on pointers can only be called where there is an address.
			written = addressable(v).Addr().Interface()
		}
	}

	s := scratches.Get().(*scratch)
	s.max = c.maxSize()
	enc := msgpack.GetEncoder()
	enc.Reset(s)
	enc.SetSortMapKeys(true)
	enc.UseCompactInts(true)
	enc.SetCustomStructTag("json")
	err = enc.Encode(written)
	// After a panic neither is returned to its pool, because it may be half used.
	enc.Reset(nil)
	msgpack.PutEncoder(enc)
	defer s.free()

	if err != nil {
		if errors.Is(err, errSize) {
			return nil, errSize
		}
		return nil, quiet("MessagePack: Marshal", err)
	}
	if err := walkOne(s.b, c.maxDepth()); err != nil {
		return nil, err
	}
	if unsorted {
		if _, err := sortMaps(s.b, 0); err != nil {
			return nil, err
		}
	}
	out := bytes.Clone(s.b)
	if doubtful || room.MayExceed(perByte, len(out)) {
		if err := c.readBack(out, v); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// addressable returns a copy of v that has an address.
func addressable(v any) reflect.Value {
	x := reflect.New(reflect.TypeOf(v)).Elem()
	x.Set(reflect.ValueOf(v))
	return x
}

// readBack returns an error if data does not decode to v.
func (c MessagePack) readBack(data []byte, v any) error {
	x := addressable(v)
	y := reflect.New(x.Type())
	if err := c.Unmarshal(data, y.Interface()); err != nil {
		return fmt.Errorf("codec: MessagePack: cannot keep this %T, because it could not be read back: %w", v, err)
	}
	same := readback.Comparer{Own: writesItself, LeftOut: leftOut, Alone: func(v any) (bool, error) {
		data, err := c.Marshal(v)
		return len(data) == 1 && data[0] == 0xc0, err
	}}
	if where := same.Back(x, y.Elem()); where != "" {
		return lost("MessagePack", x.Type(), where)
	}
	return nil
}

// Unmarshal decodes data into the pointer v. It fails if the value does not fit
// the type of *v: a number that is out of range, a float for an integer, an
// array of another length for an array. It also fails if anything follows the
// value. After an error *v is undefined.
//
// It replaces *v. In a struct, it leaves fields that are not in data unchanged,
// and ignores fields that are only in data. Nil gives the zero value. Times are in UTC. Nothing in *v aliases data.
//
// Into an any, it decodes nil, bool, int64 (uint64 if the number is too great
// for int64), float64, string, []byte, [time.Time], []any, and map[string]any, or
// map[any]any if not all keys are strings. A struct becomes a map, and a []string
// becomes a []any: read into the type that was written wherever it is known.
//
// Work is proportional to len(data), and memory is bounded as the package
// comment says.
func (c MessagePack) Unmarshal(data []byte, v any) (err error) {
	if len(data) > c.maxSize() {
		return errSize
	}
	if err := walkOne(data, c.maxDepth()); err != nil {
		return err
	}
	defer caught("MessagePack: Unmarshal", &err)
	return unmarshal(data, v)
}

// Join makes one map of values, with the keys in order and the values unchanged.
// A key that is not valid UTF-8, or a value that is not one encoded
// value, is an error. It allocates the result, and the keys of more than 16
// values.
func (c MessagePack) Join(values map[string][]byte) ([]byte, error) {
	if len(values) > c.maxValues() {
		return nil, errValues
	}
	var room [16]string
	keys := slices.Grow(room[:0], len(values))
	size := mapHeaderSize(uint64(len(values)))
	for k, v := range values {
		if !utf8.ValidString(k) {
			return nil, errKeyUTF8
		}
		size += strHeaderSize(uint64(len(k))) + len(k) + len(v)
		if size > c.maxSize() {
			return nil, errSize
		}
		if err := walkOne(v, c.maxDepth()); err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	slices.Sort(keys)

	out := appendMapHeader(make([]byte, 0, size), len(keys))
	for _, k := range keys {
		out = appendStrHeader(out, len(k))
		out = append(out, k...)
		out = append(out, values[k]...)
	}
	return out, nil
}

// Split takes a blob of Join apart, in one pass. The values alias data. It
// refuses data that Join does not make.
func (c MessagePack) Split(data []byte) (map[string][]byte, error) {
	if len(data) == 0 {
		return nil, errEmpty
	}
	if len(data) > c.maxSize() {
		return nil, errSize
	}
	h, pos, err := readHeader(data, 0)
	if err != nil {
		return nil, err
	}
	if h.kind != kindMap {
		return nil, fmt.Errorf("codec: MessagePack: a session must be a map, and this is %v", h.kind)
	}
	rest := uint64(len(data) - pos)
	if h.n > rest/2 {
		return nil, errLength
	}
	if h.n > uint64(c.maxValues()) {
		return nil, errValues
	}
	if pos != mapHeaderSize(h.n) {
		return nil, errNotShortest
	}
	var (
		roomForEntries [16]place
		roomForNames   [256]byte
		entries        = roomForEntries[:0]
		names          = roomForNames[:0]
	)
	var prev []byte
	for i := range h.n {
		kh, start, err := readHeader(data, pos)
		if err != nil {
			return nil, err
		}
		if kh.kind != kindStr {
			return nil, fmt.Errorf("codec: MessagePack: a key must be a string, and this is %v", kh.kind)
		}
		if kh.n > uint64(len(data)-start) {
			return nil, errLength
		}
		if start-pos != strHeaderSize(kh.n) {
			return nil, errNotShortest
		}
		pos = start + int(kh.n)
		key := data[start:pos]
		if !utf8.Valid(key) {
			return nil, errKeyUTF8
		}
		if i > 0 && bytes.Compare(prev, key) >= 0 {
			return nil, errOrder
		}
		prev = key
		value := pos
		if pos, err = walk(data, value, c.maxDepth()); err != nil {
			return nil, fmt.Errorf("%w (byte %d of %d)", err, pos, len(data))
		}
		names = append(names, key...)
		entries = append(entries, place{len(names), value, pos})
	}
	if pos != len(data) {
		return nil, fmt.Errorf("%w (byte %d of %d)", errTrailing, pos, len(data))
	}
	values := make(map[string][]byte, len(entries))
	all, from := string(names), 0 // one allocation for all of them
	for _, e := range entries {
		values[all[from:e.name]] = data[e.value:e.end:e.end]
		from = e.name
	}
	return values, nil
}

// place has the end of a name among the names, and the position of its value in
// the data.
type place struct{ name, value, end int }

var (
	errNotShortest = errors.New("codec: MessagePack: a length is not written in its shortest form")
	errOrder       = errors.New("codec: keys are not in order, or one occurs twice")
)

func mapHeaderSize(n uint64) int {
	switch {
	case n < 16:
		return 1
	case n <= math.MaxUint16:
		return 3
	}
	return 5
}

func appendMapHeader(b []byte, n int) []byte {
	switch mapHeaderSize(uint64(n)) {
	case 1:
		return append(b, 0x80|byte(n))
	case 3:
		return binary.BigEndian.AppendUint16(append(b, 0xde), uint16(n))
	}
	return binary.BigEndian.AppendUint32(append(b, 0xdf), uint32(n))
}

func strHeaderSize(n uint64) int {
	switch {
	case n < 32:
		return 1
	case n <= math.MaxUint8:
		return 2
	case n <= math.MaxUint16:
		return 3
	}
	return 5
}

func appendStrHeader(b []byte, n int) []byte {
	switch strHeaderSize(uint64(n)) {
	case 1:
		return append(b, 0xa0|byte(n))
	case 2:
		return append(b, 0xd9, byte(n))
	case 3:
		return binary.BigEndian.AppendUint16(append(b, 0xda), uint16(n))
	}
	return binary.BigEndian.AppendUint32(append(b, 0xdb), uint32(n))
}
