package conformance

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/seed-a7bee19b/session"
)

// codecBlobRules are about Join and Split.
var codecBlobRules = []codecRule{
	{name: "JoinEqual", run: ruleJoinEqual, quotes: []string{
		"Join makes one blob of encoded values, those of nil too. It MUST be deterministic.",
	}},
	{name: "JoinText", run: ruleJoinText, quotes: []string{
		"Text reports whether what Join makes is text. If so, it MUST be valid UTF-8.",
	}, needs: makesText},
	{name: "SplitReturns", run: ruleSplitReturns, quotes: []string{
		"Split MUST return the values that Join was given, byte for byte.",
	}},
	{name: "SplitRefuses", run: ruleSplitRefuses, quotes: []string{
		"It MUST refuse what Join cannot have made, spaces, and names that are there twice or in another order included,",
	}},
	{name: "SplitEmpty", run: ruleSplitEmpty, quotes: []string{
		"Empty data MUST be refused, unless that is what Join makes of no values.",
	}},
	{name: "Names", run: ruleNames, quotes: []string{
		"Join MUST refuse the names that it refuses, and no others.",
	}, needs: checksNames},
}

func checksNames(codec session.Codec) bool {
	_, ok := codec.(session.NameCodec)
	return ok
}

// allows reports whether the codec may store a value called name.
func (p *codecProbe) allows(name string) bool {
	c, ok := p.codec.(session.NameCodec)
	return !ok || c.CheckName(name) == nil
}

// makesText reports whether codec is a session.TextCodec whose Text is true.
func makesText(codec session.Codec) bool {
	c, ok := codec.(session.TextCodec)
	return ok && c.Text()
}

func ruleJoinEqual(p *codecProbe) {
	values := p.session()
	for i := range 20 {
		values[fmt.Sprint("more", i)] = p.marshal(i)
	}
	first := p.join(maps.Clone(values))
	for range 20 {
		if !bytes.Equal(first, p.join(maps.Clone(values))) {
			p.Fatal("Join of the same values twice: got different blobs, want equal ones")
		}
	}
}

func ruleJoinText(p *codecProbe) {
	check := func(what string, values map[string][]byte) {
		p.Helper()
		blob, err := p.codec.Join(values)
		if err == nil && !utf8.Valid(blob) { // rule SplitReturns reports an error
			p.Errorf("Join of %s, by a codec whose Text is true: got %d bytes that are not UTF-8, want UTF-8", what, len(blob))
		}
	}
	check("no values", nil)
	check("a session", p.session())
	for _, pointer := range codecValues() {
		value := p.marshal(elem(pointer))
		check(fmt.Sprintf("a %T", elem(pointer)), map[string][]byte{"a": value, "b": value})
	}
	for size := range 300 {
		data := bytes.Repeat([]byte{0xff, 0x80, byte(size)}, size)
		check(fmt.Sprintf("a []byte of %d bytes", len(data)), map[string][]byte{"a": p.marshal(data)})
	}
	for i, text := range everyPlane(512) {
		check(fmt.Sprintf("text, %.20q", text), map[string][]byte{"a": p.marshal(text), "b": p.marshal(map[string]string{text: text})})
		check(fmt.Sprintf("values with the names %.20q", text), map[string][]byte{text: p.marshal(i), "x" + text: p.marshal("x"), text + "x": p.marshal(nil)})
	}
	long := strings.Join(everyPlane(512), "")
	check("a long text", map[string][]byte{"a": p.marshal(long)})
	check("a value with a long name", map[string][]byte{long: p.marshal(1)})
	for _, value := range []any{"\xff", []string{"a\xc3"}, map[string]string{"\xed\xa0\x80": "\xed\xa0\x80"}, codecText{"\xff"}, [2]byte{0xff, 0xfe}} {
		if data, err := p.codec.Marshal(value); err == nil { // Marshal may refuse it; see rule Fidelity
			check(fmt.Sprintf("%q, which is not UTF-8", value), map[string][]byte{"a": data})
		}
	}
	for _, name := range []string{"\xff", "a\xc3", "\xed\xa0\x80"} {
		check(fmt.Sprintf("a value with the name %q, which is not UTF-8", name), map[string][]byte{name: p.marshal(1)})
	}
}

func ruleSplitReturns(p *codecProbe) {
	many := map[string][]byte{}
	for i, pointer := range codecValues() {
		many[fmt.Sprint("value ", i)] = p.marshal(elem(pointer))
	}
	for _, c := range []struct {
		what   string
		values map[string][]byte
	}{
		{"no values", nil},
		{"no values", map[string][]byte{}},
		{"a value", map[string][]byte{"a": p.marshal(1)}},
		{"a session", p.session()},
		{"a value that is nil", map[string][]byte{"a": p.marshal(nil), "b": p.marshal((*int)(nil)), "c": p.marshal(0), "d": p.marshal("")}},
		{"nothing but a nil", map[string][]byte{"a": p.marshal(nil)}},
		{"every type of value", many},
		{"odd names", map[string][]byte{
			"": p.marshal(1), " ": p.marshal(2), "A": p.marshal(3), "a": p.marshal(4), `"\`: p.marshal(5), "<&>": p.marshal(6),
			"\u00e9": p.marshal(7), "e\u0301": p.marshal(8), "\u2028\x00\n": p.marshal(9), "\U0001f600": p.marshal(10),
			strings.Repeat("n", 300): p.marshal(11),
		}},
		{"a name that is not UTF-8", map[string][]byte{"a\xff": p.marshal(1)}},
	} {
		maps.DeleteFunc(c.values, func(name string, _ []byte) bool { return !p.allows(name) }) // rule Names is about these
		blob, err := p.codec.Join(maps.Clone(c.values))
		if err != nil {
			for name := range c.values {
				if !utf8.ValidString(name) {
					err = nil // a codec may refuse it
				}
			}
			if err != nil {
				p.Errorf("Join of %s: got error %v, want none", c.what, err)
			}
			continue
		}
		got, err := p.codec.Split(blob)
		if err != nil {
			if len(blob) > 0 || len(c.values) > 0 { // rule SplitEmpty reports other blobs of no bytes
				p.Errorf("Split of a blob of %s: got error %v, want none", c.what, err)
			}
			continue
		}
		if !maps.EqualFunc(got, c.values, bytes.Equal) {
			p.Errorf("Split of a blob of %s: got values or names that differ, want those that Join was given", c.what)
		}
	}
}

func ruleSplitRefuses(p *codecProbe) {
	blob := p.join(p.session())
	for range 20 {
		if !bytes.Equal(blob, p.join(p.session())) {
			p.Log("left out: Join is not deterministic; see rule JoinEqual")
			return
		}
	}
	failures := 0
	check := func(what string, data []byte) {
		if len(data) == 0 || failures == 3 {
			return // rule SplitEmpty is about no data
		}
		values, err := p.split(bytes.Clone(data))
		if err != nil {
			return
		}
		// If Join can have made data, it makes the same from these values.
		if again, err := p.codec.Join(values); err != nil || !bytes.Equal(again, data) {
			failures++
			p.Errorf("Split of %s, which Join does not make: got no error, want one", what)
		}
	}
	for n := range blob {
		check(fmt.Sprintf("the first %d of %d bytes of a blob", n, len(blob)), blob[:n])
	}
	for _, tail := range []string{"\x00", "\x01", "x", " ", "\n", "}", "\xc0", "\xff", string(blob)} {
		check(fmt.Sprintf("a blob with %q after it", tail), append(bytes.Clone(blob), tail...))
	}
	for _, space := range spaces {
		for at := range len(blob) + 1 {
			check(fmt.Sprintf("a blob with %q at byte %d", space, at), slices.Insert(bytes.Clone(blob), at, []byte(space)...))
		}
	}
	named := string(p.join(map[string][]byte{"name1": p.marshal(1), "name2": p.marshal(2), "name3": p.marshal(3)}))
	for _, rename := range [][]string{
		{"name1", "name2"}, {"name2", "name1"}, {"name3", "name2"}, {"name2", "name3"}, {"name1", "name2", "name2", "name1"}, {"name2", "name3", "name3", "name2"},
	} {
		check(fmt.Sprintf("a blob with changed names, %q", rename), []byte(strings.NewReplacer(rename...).Replace(named)))
	}
	garbage([][]byte{blob, p.join(map[string][]byte{"a": p.marshal(1)}), p.join(nil)}, func(data []byte) {
		check(fmt.Sprintf("damaged data, % .60x", data), data)
	})
}

var errPanic = errors.New("panic")

// split calls Split and turns a panic into an error. Rule SplitPanics reports
// panics.
func (p *codecProbe) split(data []byte) (values map[string][]byte, err error) {
	if p.panics(func() error { values, err = p.codec.Split(data); return nil }) != nil {
		return nil, errPanic
	}
	return values, err
}

func ruleSplitEmpty(p *codecProbe) {
	none := p.join(nil)
	for _, data := range [][]byte{nil, {}} {
		values, err := p.split(data)
		switch {
		case len(none) > 0 && err == nil:
			p.Error("Split of no data, which Join does not make of no values: got no error, want one")
		case len(none) == 0 && err != nil:
			p.Errorf("Split of no data, which Join makes of no values: got error %v, want none", err)
		case len(none) == 0 && len(values) > 0:
			p.Errorf("Split of no data, which Join makes of no values: got %d values, want none", len(values))
		}
	}
	if len(none) > 0 {
		return
	}
	for _, values := range []map[string][]byte{{"a": p.marshal(nil)}, {"a": p.marshal("")}, {"a": p.marshal(0)}} {
		if len(p.join(values)) == 0 {
			p.Error("Join of a value: got no bytes, as of no values; want some")
		}
	}
}

// ruleNames joins a value under each of some names.
func ruleNames(p *codecProbe) {
	names := []string{
		"a", "A", "user_id", "a b", "a.b", "a-b", "_", "\"", "'", "\\", "|", "a|b", "a|", "||", "!", "!a", ":", ";", "{", "}", "\x00", "a\x00b", "\n", "\t", " ", "a=b", "<&>",
		"0", "1", "42", "-1", "-0", "007", "+1", "1.5", "1e3", "0x1", " 1", "1 ", "9223372036854775807", "9223372036854775808", "-9223372036854775808", "-9223372036854775809",
		"\u00e9", "\u2028", "\U0001f600", "\ufeff", "true", "null",
	}
	for _, n := range []int{31, 32, 127, 128, 255, 256, 65_535, 65_536} {
		names = append(names, strings.Repeat("n", n), strings.Repeat("\u00e9", n/2))
	}
	for _, name := range names {
		_, err := p.codec.Join(map[string][]byte{name: p.marshal(1)})
		if allowed := p.allows(name); allowed != (err == nil) {
			p.Errorf("Join of a value called %.40q: got error %v, but CheckName allows the name: %v", name, err, allowed)
		}
	}
}
