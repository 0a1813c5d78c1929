package codec

import (
	"bytes"
	"encoding"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"reflect"
	"time"

	"github.com/vmihailenco/msgpack/v5"

	"github.com/seed-a7bee19b/session/internal/nameset"
	"github.com/seed-a7bee19b/session/internal/room"
)

// timestamp is the type of the only extension that this package reads and writes.
const timestamp = -1

// decoder reads a value that has passed walk: no length in it is greater than
// the rest of the data.
type decoder struct {
	data   []byte
	pos    int
	left   int // bytes of memory that may still be taken
	custom customDecoding
}

var errMemory = errors.New("codec: decoding takes too much memory for the size of the data")

// charge accounts for memory that is about to be allocated.
func (d *decoder) charge(size int) error {
	if d.left -= size; d.left < 0 {
		return errMemory
	}
	return nil
}

var errPointer = errors.New("codec: Unmarshal needs a non-nil pointer")

func misfit(h header, t reflect.Type) error {
	return fmt.Errorf("codec: MessagePack: %v does not fit %v", h.kind, t)
}

func unmarshal(data []byte, v any) error {
	d := decoder{data: data, left: room.Allowance(len(data))}
	switch v := v.(type) {
	case *any:
		if v != nil {
			x, err := d.any()
			if err == nil {
				*v = x
			}
			return err
		}
	case *string:
		if v != nil {
			h := d.head()
			switch h.kind {
			case kindNil:
				*v = ""
			case kindStr:
				*v = string(d.take(h.n))
			default:
				return misfit(h, reflect.TypeFor[string]())
			}
			return nil
		}
	}
	rv := reflect.ValueOf(v)
	if rv.Kind() != reflect.Pointer || rv.IsNil() {
		return errPointer
	}
	p, err := planFor(rv.Type().Elem())
	if err != nil {
		return err
	}
	return d.value(p, rv.Elem())
}

func (d *decoder) head() header {
	h, pos, _ := readHeader(d.data, d.pos)
	d.pos = pos
	return h
}

func (d *decoder) take(n uint64) []byte {
	start := d.pos
	d.pos += int(n)
	return d.data[start:d.pos]
}

// raw takes the next value without decoding it.
func (d *decoder) raw() ([]byte, error) {
	start := d.pos
	end, err := walk(d.data, start, math.MaxInt)
	d.pos = end
	return d.data[start:end:end], err
}

func (d *decoder) value(p *plan, v reflect.Value) error {
	if d.data[d.pos] == 0xc0 {
		d.pos++
		v.SetZero()
		return nil
	}
	switch p.op {
	case opPtr:
		if err := d.charge(room.Of(int(p.elem.typ.Size()))); err != nil {
			return err
		}
		e := reflect.New(p.elem.typ)
		v.Set(e)
		return d.value(p.elem, e.Elem())
	case opAny:
		x, err := d.any()
		if err != nil {
			return err
		}
		v.Set(reflect.ValueOf(x)) // nil was handled above
		return nil
	case opCustom, opRaw, opBinary, opText:
		return d.method(p, v.Addr().Interface())
	}

	h := d.head()
	switch p.op {
	case opBool:
		if h.kind == kindBool {
			v.SetBool(h.n == 1)
			return nil
		}
	case opInt:
		n := int64(h.n)
		if h.kind == kindNeg || h.kind == kindUint && n >= 0 {
			if v.OverflowInt(n) {
				return fmt.Errorf("codec: MessagePack: the integer is out of range for %v", p.typ)
			}
			v.SetInt(n)
			return nil
		}
		if h.kind == kindUint {
			return fmt.Errorf("codec: MessagePack: the integer is out of range for %v", p.typ)
		}
	case opUint:
		if h.kind == kindNeg || h.kind == kindUint && v.OverflowUint(h.n) {
			return fmt.Errorf("codec: MessagePack: the integer is out of range for %v", p.typ)
		}
		if h.kind == kindUint {
			v.SetUint(h.n)
			return nil
		}
	case opFloat:
		return d.float(h, p, v)
	case opString:
		if h.kind == kindStr {
			v.SetString(string(d.take(h.n)))
			return d.charge(room.Of(int(h.n)))
		}
	case opBytes:
		if h.kind == kindBin || h.kind == kindStr {
			v.SetBytes(append(make([]byte, 0, h.n), d.take(h.n)...))
			return d.charge(room.Of(int(h.n)))
		}
	case opByteArray:
		if h.kind == kindBin && h.n == uint64(v.Len()) {
			copy(v.Slice(0, v.Len()).Bytes(), d.take(h.n))
			return nil
		}
	case opSlice:
		if h.kind == kindArray {
			return d.slice(p, v, int(h.n))
		}
	case opArray:
		if h.kind == kindArray && h.n == uint64(v.Len()) {
			for i := range v.Len() {
				if err := d.value(p.elem, v.Index(i)); err != nil {
					return err
				}
			}
			return nil
		}
	case opMap:
		if h.kind == kindMap {
			return d.mapValue(p, v, int(h.n))
		}
	case opStruct:
		if h.kind == kindMap && !p.asArray {
			return d.structMap(p, v, h.n)
		}
		if h.kind == kindArray && p.asArray && h.n == uint64(len(p.fields)) {
			for i := range p.fields {
				if err := d.field(&p.fields[i], v); err != nil {
					return err
				}
			}
			return nil
		}
	case opTime:
		if h.kind == kindExt {
			t, err := d.time(h)
			if err != nil {
				return err
			}
			v.Set(reflect.ValueOf(t))
			return nil
		}
	}
	return misfit(h, p.typ)
}

// method decodes a value with the method of *v.
func (d *decoder) method(p *plan, v any) (err error) {
	start := d.pos
	if p.op == opBinary || p.op == opText {
		h := d.head()
		if h.kind != kindBin && h.kind != kindStr {
			return misfit(h, p.typ)
		}
		b := bytes.Clone(d.take(h.n))
		if p.op == opBinary {
			err = v.(encoding.BinaryUnmarshaler).UnmarshalBinary(b)
		} else {
			err = v.(encoding.TextUnmarshaler).UnmarshalText(b)
		}
	} else {
		var raw []byte
		if raw, err = d.raw(); err != nil {
			return err
		}
		if p.op == opRaw {
			err = v.(msgpack.Unmarshaler).UnmarshalMsgpack(bytes.Clone(raw))
		} else {
			var all bool
			if all, err = d.custom.run(raw, v.(msgpack.CustomDecoder)); err == nil && !all {
				return fmt.Errorf("codec: MessagePack: the method of %v that decodes it left a part of its value unread", p.typ)
			}
		}
	}
	if err != nil {
		return &quietError{fmt.Sprintf("codec: MessagePack: the method of %v that decodes it failed with a %T (byte %d of %d)",
			p.typ, err, start, len(d.data)), err}
	}
	return nil
}

// customDecoding is the input of DecodeMsgpack methods. Each call of Unmarshal
// makes its own: in a pool, it would keep data of a value that failed.
type customDecoding struct {
	r   *bytes.Reader
	dec *msgpack.Decoder
}

// run runs a DecodeMsgpack method and reports whether it read all of raw.
func (c *customDecoding) run(raw []byte, v msgpack.CustomDecoder) (all bool, err error) {
	if c.dec == nil {
		c.r = bytes.NewReader(nil)
		c.dec = msgpack.NewDecoder(c.r)
	}
	c.r.Reset(raw)
	c.dec.Reset(c.r)
	c.dec.SetCustomStructTag("json")
	err = v.DecodeMsgpack(c.dec)
	return c.r.Len() == 0, err
}

func (d *decoder) float(h header, p *plan, v reflect.Value) error {
	var f float64
	exact := true
	switch h.kind {
	case kindFloat:
		f = math.Float64frombits(h.n)
	case kindUint:
		f = float64(h.n)
		// The conversion of 2^64 itself back to an integer would overflow.
		exact = f < 1<<64 && uint64(f) == h.n
	case kindNeg:
		f = float64(int64(h.n))
		exact = int64(f) == int64(h.n)
	default:
		return misfit(h, p.typ)
	}
	if p.typ.Kind() == reflect.Float32 && !math.IsNaN(f) && float64(float32(f)) != f {
		exact = false
	}
	if !exact {
		return fmt.Errorf("codec: MessagePack: %v cannot hold the number exactly", p.typ)
	}
	v.SetFloat(f)
	return nil
}

func (d *decoder) slice(p *plan, v reflect.Value, n int) error {
	if err := d.charge(room.For(n, p.elem.typ)); err != nil {
		return err
	}
	s := reflect.MakeSlice(p.typ, n, n)
	for i := range n {
		if err := d.value(p.elem, s.Index(i)); err != nil {
			return err
		}
	}
	v.Set(s)
	return nil
}

func (d *decoder) mapValue(p *plan, v reflect.Value, n int) error {
	if err := d.charge(room.Map(p.typ, n)); err != nil {
		return err
	}
	m := reflect.MakeMapWithSize(p.typ, n)
	key := reflect.New(p.key.typ).Elem()
	elem := reflect.New(p.elem.typ).Elem()
	for i := range n {
		key.SetZero()
		elem.SetZero()
		if err := d.value(p.key, key); err != nil {
			return err
		}
		if !key.Comparable() {
			return fmt.Errorf("codec: MessagePack: a key does not fit %v", p.typ)
		}
		if err := d.value(p.elem, elem); err != nil {
			return err
		}
		m.SetMapIndex(key, elem)
		if m.Len() != i+1 {
			return errDuplicate
		}
	}
	v.Set(m)
	return nil
}

func (d *decoder) structMap(p *plan, v reflect.Value, n uint64) error {
	seen := uint64(0) // the first 64 fields
	var others nameset.Set
	for range n {
		h := d.head()
		if h.kind != kindStr {
			return fmt.Errorf("codec: MessagePack: the name of a field must be a string, and this is %v", h.kind)
		}
		name := d.take(h.n)
		i, ok := p.byName[string(name)]
		if bit := uint64(1) << i; ok && bit != 0 {
			if seen&bit != 0 {
				return errDuplicate
			}
			seen |= bit
		} else if !others.Add(name) {
			return errDuplicate
		}
		if ok {
			if err := d.field(&p.fields[i], v); err != nil {
				return err
			}
		} else if _, err := d.raw(); err != nil {
			return err
		}
	}
	return nil
}

func (d *decoder) field(f *field, v reflect.Value) error {
	for i, x := range f.index {
		if i > 0 && v.Kind() == reflect.Pointer {
			if v.IsNil() {
				if d.data[d.pos] == 0xc0 {
					d.pos++ // how a nil embedded pointer is written
					return nil
				}
				if err := d.charge(room.Of(int(v.Type().Elem().Size()))); err != nil {
					return err
				}
				v.Set(reflect.New(v.Type().Elem()))
			}
			v = v.Elem()
		}
		v = v.Field(x)
	}
	return d.value(f.plan, v)
}

func (d *decoder) time(h header) (time.Time, error) {
	b := d.take(h.n + 1)[1:]
	var sec int64
	var nsec uint64
	switch len(b) {
	case 4:
		sec = int64(binary.BigEndian.Uint32(b))
	case 8:
		n := binary.BigEndian.Uint64(b)
		sec, nsec = int64(n&(1<<34-1)), n>>34
	default:
		nsec = uint64(binary.BigEndian.Uint32(b))
		sec = int64(binary.BigEndian.Uint64(b[4:]))
	}
	if nsec >= 1e9 {
		return time.Time{}, errors.New("codec: MessagePack: a timestamp has more than 999,999,999 nanoseconds")
	}
	return time.Unix(sec, int64(nsec)).UTC(), nil
}

// boxed returns the memory that an any takes for a value of size bytes. The any
// itself is counted with the value that contains it.
func (d *decoder) boxed(size int, x any) (any, error) { return x, d.charge(room.Of(size)) }

func (d *decoder) any() (any, error) {
	h := d.head()
	switch h.kind {
	case kindNil:
		return nil, nil
	case kindBool:
		return h.n == 1, nil
	case kindUint:
		if h.n > math.MaxInt64 {
			return d.boxed(8, h.n)
		}
		return d.boxed(8, int64(h.n))
	case kindNeg:
		return d.boxed(8, int64(h.n))
	case kindFloat:
		return d.boxed(8, math.Float64frombits(h.n))
	case kindStr:
		return d.boxed(16+room.Of(int(h.n)), string(d.take(h.n)))
	case kindBin:
		return d.boxed(24+room.Of(int(h.n)), append(make([]byte, 0, h.n), d.take(h.n)...))
	case kindExt:
		t, err := d.time(h)
		if err != nil {
			return nil, err
		}
		return d.boxed(24, t)
	case kindArray:
		if err := d.charge(24 + room.Of(16*int(h.n))); err != nil {
			return nil, err
		}
		s := make([]any, 0, h.n)
		for range h.n {
			x, err := d.any()
			if err != nil {
				return nil, err
			}
			s = append(s, x)
		}
		return s, nil
	}

	if kh, _, _ := readHeader(d.data, d.pos); h.n > 0 && kh.kind != kindStr {
		return d.anyMap(nil, h.n)
	}
	if err := d.charge(room.Entries(32, int(h.n))); err != nil {
		return nil, err
	}
	m := make(map[string]any, h.n)
	for i := range h.n {
		kh, pos, _ := readHeader(d.data, d.pos)
		if kh.kind != kindStr {
			return d.anyMap(m, h.n)
		}
		d.pos = pos
		key := string(d.take(kh.n))
		if err := d.charge(room.Of(int(kh.n))); err != nil {
			return nil, err
		}
		x, err := d.any()
		if err != nil {
			return nil, err
		}
		m[key] = x
		if uint64(len(m)) != i+1 {
			return nil, errDuplicate
		}
	}
	return m, nil
}

// anyMap continues a map after the first key that is not a string. It does not
// start again, because nested maps would then double the work at each level.
func (d *decoder) anyMap(read map[string]any, n uint64) (any, error) {
	if err := d.charge(room.Entries(32, int(n)) + 16*len(read)); err != nil {
		return nil, err
	}
	m := make(map[any]any, n)
	for k, x := range read {
		m[k] = x
	}
	for i := uint64(len(read)); i < n; i++ {
		key, err := d.any()
		if err != nil {
			return nil, err
		}
		switch key.(type) {
		case []byte, []any, map[string]any, map[any]any:
			return nil, fmt.Errorf("codec: MessagePack: %T cannot be the key of a map", key)
		}
		x, err := d.any()
		if err != nil {
			return nil, err
		}
		m[key] = x
		if uint64(len(m)) != i+1 {
			return nil, errDuplicate
		}
	}
	return m, nil
}
