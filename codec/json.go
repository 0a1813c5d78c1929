package codec

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"reflect"
	"slices"
	"unicode/utf8"

	"github.com/seed-a7bee19b/session/internal/nameset"
	"github.com/seed-a7bee19b/session/internal/readback"
	"github.com/seed-a7bee19b/session/internal/room"
)

// JSON is a codec for sessions that people read in the store, or that programs
// in other languages read. It uses encoding/json and its struct tags. Its zero
// value is ready to use; it is safe for concurrent use.
//
// It writes compact, valid UTF-8 without spaces, and does not escape <, > and &.
// It reads only data of that form.
type JSON struct {
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

func (c JSON) maxDepth() int  { return min(orDefault(c.MaxDepth, DefaultMaxDepth), greatestDepth) }
func (c JSON) maxValues() int { return orDefault(c.MaxValues, DefaultMaxValues) }
func (c JSON) maxSize() int   { return orDefault(c.MaxSize, DefaultMaxSize) }

// Text reports that the results of Marshal and Join are text: a store may keep
// them as a string.
func (c JSON) Text() bool { return true }

var (
	errJSONKeys = errors.New("codec: JSON: keys are not in order, or one occurs twice")
	errJSONUTF8 = errors.New("codec: JSON: a string is not valid UTF-8 and would be changed")
)

// Marshal encodes v. Equal values give equal bytes, provided that their
// MarshalJSON methods do.
//
// Marshal fails for values that encoding/json refuses (channels, functions, NaN,
// cycles), for a string that is not valid UTF-8, for a name that occurs twice in
// an object, for a value that is nested too deep or too large, and for every
// value that would not be read back equal; see the package comment. It detects
// invalid UTF-8, which encoding/json would silently replace, by the escape
// \ufffd, so a MarshalJSON method must not write that escape.
func (c JSON) Marshal(v any) (_ []byte, err error) {
	defer caught("JSON: Marshal", &err)
	return c.marshal(v, true)
}

// marshal encodes v. With address set, it may copy v to give it an address.
func (c JSON) marshal(v any, address bool) ([]byte, error) {
	doubtful, perByte := false, 0
	written := v
	if v != nil {
		t := jsonTypeFor(reflect.TypeOf(v))
		doubtful, perByte = t.doubtful, t.perByte
		if address && t.needsAddr {
			// Methods on pointers can only be called where there is an address.
			written = addressable(v).Addr().Interface()
		}
	}
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(written); err != nil {
		return nil, quiet("JSON: Marshal", err)
	}
	out := bytes.TrimSuffix(buf.Bytes(), []byte{'\n'})
	if len(out) > c.maxSize() {
		return nil, errSize
	}
	if err := c.scanOne(out, doubtful); err != nil {
		return nil, err
	}
	if replaced(out) {
		return nil, errJSONUTF8
	}
	if doubtful || room.MayExceed(perByte, len(out)) {
		if err := c.readBack(out, v); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// readBack returns an error if data does not decode to v.
func (c JSON) readBack(data []byte, v any) error {
	x := addressable(v)
	y := reflect.New(x.Type())
	if err := c.Unmarshal(data, y.Interface()); err != nil {
		return fmt.Errorf("codec: JSON: cannot keep this %T, because it could not be read back: %w", v, err)
	}
	same := readback.Comparer{Own: jsonWritesItself, LeftOut: jsonLeftOut, Alone: func(v any) (bool, error) {
		data, err := c.marshal(v, false) // as it is in an any
		if err == nil && !wholeInAny(data) {
			err = errInAny
		}
		return string(data) == "null", err
	}}
	if where := same.Back(x, y.Elem()); where != "" {
		return lost("JSON", x.Type(), where)
	}
	return nil
}

var errInAny = errors.New("codec: JSON: an integer is too great for a float64, which it becomes in an any")

// wholeInAny reports whether all integers in data keep their value as a float64.
func wholeInAny(data []byte) bool {
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case c == '"':
			for i++; data[i] != '"'; i++ {
				if data[i] == '\\' {
					i++
				}
			}
		case digit(c):
			start := i
			for i < len(data) && bytes.IndexByte([]byte("+-.0123456789Ee"), data[i]) >= 0 {
				i++
			}
			number := string(data[start:i])
			i--
			if n, ok := new(big.Int).SetString(number, 10); ok && len(number) > 15 { // numbers with fewer digits are always exact
				if _, accuracy := new(big.Float).SetInt(n).Float64(); accuracy != big.Exact {
					return false
				}
			}
		}
	}
	return true
}

// replaced reports whether data contains the escape that encoding/json writes
// for a byte that is not UTF-8. It does not escape a replacement character that
// was in the string.
func replaced(data []byte) bool {
	for {
		i := bytes.IndexByte(data, '\\')
		if i < 0 {
			return false
		}
		if bytes.HasPrefix(data[i:], []byte(`\ufffd`)) {
			return true
		}
		data = data[i+2:] // there is no lone backslash in valid JSON
	}
}

// Unmarshal decodes data into the pointer v by the rules of [json.Unmarshal].
// It fails for data that Marshal does not write: spaces between values, anything
// after the value, strings that are not valid UTF-8, a name that occurs twice in
// an object. After an error *v is undefined.
//
// An integer is read exactly into an integer type, and it is an error if it does
// not fit. Into an any, encoding/json reads every number as a float64, which is
// exact only up to 2^53.
//
// Work is proportional to len(data), and memory is bounded as the package
// comment says.
func (c JSON) Unmarshal(data []byte, v any) (err error) {
	if len(data) > c.maxSize() {
		return errSize
	}
	if err := c.scanOne(data, true); err != nil {
		return err
	}
	defer caught("JSON: Unmarshal", &err)
	if t := reflect.TypeOf(v); t != nil && t.Kind() == reflect.Pointer {
		if room.MayExceed(jsonTypeFor(t.Elem()).perByte, len(data)) {
			if err := measure(data, t.Elem()); err != nil {
				return err
			}
		}
	}
	if err := json.Unmarshal(data, v); err != nil {
		return quiet("JSON: Unmarshal", err)
	}
	return nil
}

// Join makes one JSON object of values, with the keys in order and the values
// unchanged. A key that is not valid UTF-8, or a value that is not one
// encoded value, is an error.
func (c JSON) Join(values map[string][]byte) ([]byte, error) {
	if len(values) > c.maxValues() {
		return nil, errValues
	}
	keys := make([]string, 0, len(values))
	size := 2
	for k, v := range values {
		if !utf8.ValidString(k) {
			return nil, errKeyUTF8
		}
		if len(v) > c.maxSize() {
			return nil, errSize
		}
		if err := c.scanOne(v, false); err != nil {
			return nil, err
		}
		keys = append(keys, k)
		if size += 4 + len(k) + len(v); size > c.maxSize()+2+len(values) {
			return nil, errSize
		}
	}
	slices.Sort(keys)

	out := append(make([]byte, 0, size), '{')
	for i, k := range keys {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(appendKey(out, k), ':')
		out = append(out, values[k]...)
	}
	out = append(out, '}')
	if len(out) > c.maxSize() {
		return nil, errSize
	}
	return out, nil
}

// Split takes a blob of Join apart, in one pass. The values alias data. It
// refuses data that Join does not make.
func (c JSON) Split(data []byte) (map[string][]byte, error) {
	if len(data) == 0 {
		return nil, errEmpty
	}
	if len(data) > c.maxSize() {
		return nil, errSize
	}
	s := scanner{data: data}
	if !s.next('{') {
		return nil, s.bad("a session is an object")
	}
	values := make(map[string][]byte)
	if s.next('}') {
		if s.pos != len(data) {
			return nil, s.bad("there is data after the object")
		}
		return values, nil
	}
	prev := ""
	for {
		key, err := s.key()
		if err != nil {
			return nil, err
		}
		if len(values) > 0 && key <= prev {
			return nil, errJSONKeys
		}
		prev = key
		if len(values) == c.maxValues() {
			return nil, errValues
		}
		if !s.next(':') {
			return nil, s.bad("no colon after a key")
		}
		start := s.pos
		if err := s.value(c.maxDepth()); err != nil {
			return nil, err
		}
		values[key] = data[start:s.pos:s.pos]
		if s.next(',') {
			continue
		}
		if !s.next('}') {
			return nil, s.bad("neither a comma nor the end follows a value")
		}
		if s.pos != len(data) {
			return nil, s.bad("there is data after the object")
		}
		return values, nil
	}
}

// scanOne checks that data is one value and nothing else, and with once set
// that no name occurs twice in an object.
func (c JSON) scanOne(data []byte, once bool) error {
	if len(data) == 0 {
		return errEmpty
	}
	s := scanner{data: data, once: once}
	if err := s.value(c.maxDepth()); err != nil {
		return err
	}
	if s.pos != len(data) {
		return s.bad("there is data after the value")
	}
	return nil
}

const hexDigits = "0123456789abcdef"

// appendKey writes a key with only the escapes that JSON requires, so that each
// key has one form.
func appendKey(b []byte, key string) []byte {
	b = append(b, '"')
	for i := range len(key) {
		switch c := key[i]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < ' ':
			b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&0xf])
		default:
			b = append(b, c)
		}
	}
	return append(b, '"')
}

// scanner checks JSON without spaces. It allocates only keys.
type scanner struct {
	data []byte
	pos  int
	once bool // refuse a name that occurs twice in an object
}

func (s *scanner) bad(what string) error {
	return fmt.Errorf("codec: JSON: %s (byte %d of %d)", what, s.pos, len(s.data))
}

// peek returns the next byte, or at the end zero, which no valid JSON contains.
func (s *scanner) peek() byte {
	if s.pos < len(s.data) {
		return s.data[s.pos]
	}
	return 0
}

func (s *scanner) next(c byte) bool {
	if s.peek() == c && s.pos < len(s.data) {
		s.pos++
		return true
	}
	return false
}

func (s *scanner) value(depth int) error {
	switch c := s.peek(); {
	case c == '"':
		return s.str()
	case c == '{' || c == '[':
		if depth <= 0 {
			return s.bad("nested deeper than MaxDepth")
		}
		return s.nested(c, depth-1)
	case c == '-' || digit(c):
		return s.number()
	case c == 't':
		return s.literal("true")
	case c == 'f':
		return s.literal("false")
	case c == 'n':
		return s.literal("null")
	}
	return s.bad("no value")
}

func (s *scanner) literal(word string) error {
	if !bytes.HasPrefix(s.data[s.pos:], []byte(word)) {
		return s.bad("no value")
	}
	s.pos += len(word)
	return nil
}

func (s *scanner) nested(open byte, depth int) error {
	s.pos++
	end := open + 2 // '{' and '}', '[' and ']' are two apart
	if s.next(end) {
		return nil
	}
	var names nameset.Set
	for {
		if open == '{' {
			start := s.pos
			if err := s.str(); err != nil {
				return err
			}
			if s.once && !names.Add(unescaped(s.data[start:s.pos])) {
				return s.bad("a name occurs twice in an object")
			}
			if !s.next(':') {
				return s.bad("no colon after a key")
			}
		}
		if err := s.value(depth); err != nil {
			return err
		}
		if s.next(',') {
			continue
		}
		if s.next(end) {
			return nil
		}
		return s.bad("neither a comma nor the end follows a value")
	}
}

// unescaped returns the text of a string in JSON. One name can be written in
// several ways.
func unescaped(raw []byte) []byte {
	if bytes.IndexByte(raw, '\\') < 0 {
		return raw[1 : len(raw)-1]
	}
	var text string
	if json.Unmarshal(raw, &text) != nil { // str has checked it
		return raw
	}
	return []byte(text)
}

func digit(c byte) bool { return '0' <= c && c <= '9' }

func (s *scanner) digits() bool {
	start := s.pos
	for digit(s.peek()) {
		s.pos++
	}
	return s.pos > start
}

func (s *scanner) number() error {
	s.next('-')
	if !s.next('0') && !s.digits() {
		return s.bad("no digit in a number")
	}
	if s.next('.') && !s.digits() {
		return s.bad("no digit in a number")
	}
	if s.next('e') || s.next('E') {
		if !s.next('+') {
			s.next('-')
		}
		if !s.digits() {
			return s.bad("no digit in a number")
		}
	}
	return nil
}

func (s *scanner) str() error {
	if !s.next('"') {
		return s.bad("no string")
	}
	start := s.pos
	for {
		c := s.peek()
		switch {
		case c == '"':
			if !utf8.Valid(s.data[start:s.pos]) {
				return s.bad("a string is not valid UTF-8")
			}
			s.pos++
			return nil
		case c < ' ':
			return s.bad("a string does not end, or has a control character in it")
		case c == '\\':
			s.pos++
			switch s.peek() {
			case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
			case 'u':
				for range 4 {
					s.pos++
					if c := s.peek(); !digit(c) && (c|0x20 < 'a' || c|0x20 > 'f') {
						return s.bad("an invalid escape")
					}
				}
			default:
				return s.bad("an invalid escape")
			}
		}
		s.pos++
	}
}

// key reads a key as appendKey writes it.
func (s *scanner) key() (string, error) {
	start := s.pos
	if err := s.str(); err != nil {
		return "", err
	}
	raw := s.data[start+1 : s.pos-1]
	if bytes.IndexByte(raw, '\\') < 0 {
		return string(raw), nil
	}
	key := make([]byte, 0, len(raw))
	for i := 0; i < len(raw); i++ {
		c := raw[i]
		if c == '\\' {
			i++
			switch c = raw[i]; c {
			case '"', '\\':
			case 'u':
				hi := bytes.IndexByte([]byte(hexDigits), raw[i+3])
				lo := bytes.IndexByte([]byte(hexDigits), raw[i+4])
				if raw[i+1] != '0' || raw[i+2] != '0' || hi < 0 || hi > 1 || lo < 0 {
					return "", s.bad("a key is not written in its shortest form")
				}
				c = byte(hi<<4 | lo)
				i += 4
			default:
				return "", s.bad("a key is not written in its shortest form")
			}
		}
		key = append(key, c)
	}
	return string(key), nil
}
