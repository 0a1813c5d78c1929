package codec

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
)

// kind is the kind of a MessagePack value. Integers are distinguished by sign,
// not by the width in which they were written.
type kind uint8

const (
	kindNil   kind = iota
	kindBool       // n is 0 or 1
	kindUint       // n is the number
	kindNeg        // int64(n) is the number, below zero
	kindFloat      // n is the bits of a float64
	kindStr        // n bytes follow
	kindBin        // n bytes follow
	kindExt        // a type byte and n bytes follow
	kindArray      // n values follow
	kindMap        // n keys, each with its value, follow
)

var kindNames = [...]string{
	"nil", "a bool", "an integer", "an integer", "a float",
	"a string", "binary", "an extension", "an array", "a map",
}

func (k kind) String() string { return kindNames[k] }

// header is the start of one value: its kind, and how much data follows. It has
// not been checked against the data that is really there.
type header struct {
	kind kind
	n    uint64
}

var (
	errTruncated = errors.New("codec: MessagePack: data ends inside a value")
	errReserved  = errors.New("codec: MessagePack: no value starts with byte 0xc1")
	errTrailing  = errors.New("codec: MessagePack: there is data after the value")
	errTooDeep   = errors.New("codec: MessagePack: nested deeper than MaxDepth")
	errLength    = errors.New("codec: MessagePack: a length is greater than the rest of the data allows")
	errExtension = errors.New("codec: MessagePack: an extension that is not a timestamp")
	errSize      = errors.New("codec: larger than MaxSize")
	errValues    = errors.New("codec: more values than MaxValues")
	errKeyUTF8   = errors.New("codec: a key is not valid UTF-8")
	errEmpty     = errors.New("codec: no data")
	errDuplicate = errors.New("codec: MessagePack: a key occurs twice in a map")
)

// be reads the width bytes of a big-endian number at pos.
func be(data []byte, pos, width int) (uint64, bool) {
	if len(data)-pos < width {
		return 0, false
	}
	switch width {
	case 1:
		return uint64(data[pos]), true
	case 2:
		return uint64(binary.BigEndian.Uint16(data[pos:])), true
	case 4:
		return uint64(binary.BigEndian.Uint32(data[pos:])), true
	default:
		return binary.BigEndian.Uint64(data[pos:]), true
	}
}

func number(n int64) header {
	if n < 0 {
		return header{kindNeg, uint64(n)}
	}
	return header{kindUint, uint64(n)}
}

// readHeader reads the header at pos and returns the position after it.
func readHeader(data []byte, pos int) (header, int, error) {
	if pos >= len(data) {
		return header{}, pos, errTruncated
	}
	c := data[pos]
	pos++
	switch {
	case c <= 0x7f:
		return header{kindUint, uint64(c)}, pos, nil
	case c <= 0x8f:
		return header{kindMap, uint64(c & 0x0f)}, pos, nil
	case c <= 0x9f:
		return header{kindArray, uint64(c & 0x0f)}, pos, nil
	case c <= 0xbf:
		return header{kindStr, uint64(c & 0x1f)}, pos, nil
	case c >= 0xe0:
		return number(int64(int8(c))), pos, nil
	}
	switch c {
	case 0xc0:
		return header{kindNil, 0}, pos, nil
	case 0xc1:
		return header{}, pos, errReserved
	case 0xc2, 0xc3:
		return header{kindBool, uint64(c & 1)}, pos, nil
	case 0xd4, 0xd5, 0xd6, 0xd7, 0xd8:
		return header{kindExt, 1 << (c - 0xd4)}, pos, nil
	}

	var k kind
	var width int
	switch {
	case c <= 0xc6:
		k, width = kindBin, 1<<(c-0xc4)
	case c <= 0xc9:
		k, width = kindExt, 1<<(c-0xc7)
	case c <= 0xcb:
		k, width = kindFloat, 4<<(c-0xca)
	case c <= 0xcf:
		k, width = kindUint, 1<<(c-0xcc)
	case c <= 0xd3:
		k, width = kindNeg, 1<<(c-0xd0)
	case c <= 0xdb:
		k, width = kindStr, 1<<(c-0xd9)
	case c <= 0xdd:
		k, width = kindArray, 2<<(c-0xdc)
	default:
		k, width = kindMap, 2<<(c-0xde)
	}
	n, ok := be(data, pos, width)
	if !ok {
		return header{}, pos, errTruncated
	}
	pos += width
	switch k {
	case kindFloat:
		if width == 4 {
			n = math.Float64bits(float64(math.Float32frombits(uint32(n))))
		}
	case kindNeg: // a signed code; the kind depends on the sign
		shift := 64 - 8*width
		return number(int64(n<<shift) >> shift), pos, nil
	}
	return header{k, n}, pos, nil
}

// walk returns the end of the value at pos. It allocates nothing, recurses at
// most depth times and looks at each byte at most once, even if the lengths in
// data are wrong.
func walk(data []byte, pos, depth int) (int, error) {
	h, pos, err := readHeader(data, pos)
	if err != nil {
		return pos, err
	}
	rest := uint64(len(data) - pos)
	switch h.kind {
	case kindStr, kindBin:
		if h.n > rest {
			return pos, errLength
		}
		return pos + int(h.n), nil
	case kindExt:
		if rest == 0 || h.n > rest-1 {
			return pos, errLength
		}
		if int8(data[pos]) != timestamp || h.n != 4 && h.n != 8 && h.n != 12 {
			return pos, errExtension
		}
		return pos + 1 + int(h.n), nil
	case kindArray, kindMap:
		n := h.n
		if h.kind == kindMap {
			n *= 2
		}
		if n > rest {
			return pos, errLength
		}
		if depth <= 0 {
			return pos, errTooDeep
		}
		for ; n > 0; n-- {
			if pos < len(data) { // most values are short: no call for those
				if size := sizeOf(data[pos]); size > 0 && size <= len(data)-pos {
					pos += size
					continue
				}
			}
			if pos, err = walk(data, pos, depth-1); err != nil {
				return pos, err
			}
		}
	}
	return pos, nil
}

// sizeOf returns the size in bytes of a value that begins with c, including c,
// or 0 if c alone does not determine it.
func sizeOf(c byte) int {
	switch {
	case c <= 0x7f, c >= 0xe0:
		return 1
	case c >= 0xa0 && c <= 0xbf:
		return 1 + int(c&0x1f)
	case c == 0xcb, c == 0xcf, c == 0xd3:
		return 9
	}
	return 0
}

// walkOne checks that data is one value and nothing else.
func walkOne(data []byte, depth int) error {
	if len(data) == 0 {
		return errEmpty
	}
	end, err := walk(data, 0, depth)
	if err != nil {
		return fmt.Errorf("%w (byte %d of %d)", err, end, len(data))
	}
	if end != len(data) {
		return fmt.Errorf("%w (byte %d of %d)", errTrailing, end, len(data))
	}
	return nil
}

// entry has the positions of a key in a map and of its value.
type entry struct{ start, value, end int }

// sortMaps puts the keys of every map in the value at pos in order, in place,
// and returns the end of the value. data must have passed walk.
func sortMaps(data []byte, pos int) (int, error) {
	start := pos
	h, pos, err := readHeader(data, pos)
	if err != nil {
		return pos, err
	}
	switch h.kind {
	case kindArray:
		for range h.n {
			if pos, err = sortMaps(data, pos); err != nil {
				return pos, err
			}
		}
		return pos, nil
	case kindMap:
	default:
		return walk(data, start, 0)
	}

	first, sorted := pos, true
	var prev []byte
	for i := range h.n {
		value, err := sortMaps(data, pos)
		if err != nil {
			return pos, err
		}
		key := data[pos:value]
		if i > 0 {
			switch c := compareKeys(prev, key); {
			case c == 0:
				return pos, errDuplicate
			case c > 0:
				sorted = false
			}
		}
		prev = key
		if pos, err = sortMaps(data, value); err != nil {
			return pos, err
		}
	}
	if sorted {
		return pos, nil
	}

	old := bytes.Clone(data[first:pos])
	entries := make([]entry, 0, h.n)
	for at := 0; at < len(old); {
		e := entry{start: at}
		// The depth was checked before; math.MaxInt does not limit it again.
		if e.value, err = walk(old, at, math.MaxInt); err != nil {
			return first, err
		}
		if e.end, err = walk(old, e.value, math.MaxInt); err != nil {
			return first, err
		}
		entries = append(entries, e)
		at = e.end
	}
	slices.SortFunc(entries, func(a, b entry) int {
		return compareKeys(old[a.start:a.value], old[b.start:b.value])
	})
	out := data[first:first]
	for i, e := range entries {
		if i > 0 {
			p := entries[i-1]
			if compareKeys(old[p.start:p.value], old[e.start:e.value]) == 0 {
				return first, errDuplicate
			}
		}
		out = append(out, old[e.start:e.end]...)
	}
	return pos, nil
}

// compareKeys orders encoded keys. Strings come first, ordered by their text:
// the encoder writes maps of strings in that order anyway.
func compareKeys(a, b []byte) int {
	ta, sa := text(a)
	tb, sb := text(b)
	switch {
	case sa && sb:
		return bytes.Compare(ta, tb)
	case sa:
		return -1
	case sb:
		return 1
	}
	return bytes.Compare(a, b)
}

func text(key []byte) ([]byte, bool) {
	h, pos, err := readHeader(key, 0)
	if err != nil || h.kind != kindStr {
		return nil, false
	}
	return key[pos:], true
}
