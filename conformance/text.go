package conformance

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/seed-a7bee19b/session"
)

// wantsText is the rule for a backend that has to be a TextBackend.
var wantsText = backendRule{name: "TextBackend", run: ruleTextBackend, quotes: []string{
	"TextOnly reports whether Data has to be valid UTF-8.",
}}

// textRules are the rules of session.TextBackend, for one whose TextOnly is true.
var textRules = []backendRule{
	{name: "TextRefuses", run: texting(ruleTextRefuses), quotes: []string{
		"A Backend that says so MUST refuse other Data with ErrEncode and change nothing,",
	}},
	{name: "TextKeeps", run: texting(ruleTextKeeps), quotes: []string{
		"and store what is valid as it is, whatever characters it has.",
	}},
}

// lockedTextRules are for a TextBackend that is a LockingBackend too.
var lockedTextRules = []backendRule{
	{name: "LockedTextRefuses", run: texting(locking(ruleLockedTextRefuses)), wide: true, quotes: []string{
		"A Backend that says so MUST refuse other Data with ErrEncode and change nothing,",
	}},
}

// isText reports whether b is a session.TextBackend whose TextOnly is true.
func isText(b session.Backend) bool {
	t, ok := b.(session.TextBackend)
	return ok && t.TextOnly()
}

// texting makes a rule fail on clients that isText does not hold for.
func texting(run func(*probe)) func(*probe) {
	return func(p *probe) {
		p.Helper()
		if !isText(p.raw.b) {
			p.Fatalf("New returned a %T whose TextOnly is not true, and one before whose TextOnly is; want the same each time", p.raw.b)
		}
		if !isText(p.raw.other) {
			p.Fatalf("Reopen returned a %T whose TextOnly is not true, of one whose TextOnly is; want the same", p.raw.other)
		}
		run(p)
	}
}

func ruleTextBackend(p *probe) {
	if !isText(p.raw.b) {
		p.Errorf("WantsText is set: New returned a %T, want a session.TextBackend whose TextOnly is true", p.raw.b)
	}
}

// notText returns Data that is not UTF-8.
func (p *probe) notText() [][]byte {
	long := bytes.Repeat([]byte("x"), min(p.large(), 64<<10))
	long[len(long)-1] = 0xff
	return [][]byte{
		{0xff}, {0x80}, []byte("a\xc3"), []byte("\xe2\x82b"), // invalid bytes, and parts of characters
		[]byte("\xc0\x80"), []byte("\xe0\x9f\xbf"), // overlong
		[]byte("a\xed\xa0\x80"), []byte("\xed\xa0\xbd\xed\xb8\x80"), // surrogates
		[]byte("\xf4\x90\x80\x80"), []byte("\xf8\x88\x80\x80\x80"), // beyond U+10FFFF
		long,
	}
}

func ruleTextRefuses(p *probe) {
	late := p.later().Add(time.Hour)
	for i, data := range p.notText() {
		rec := session.Record{Data: data, Created: late, Expires: late}
		what := fmt.Sprintf("Data that is not UTF-8, %.20q, %d bytes", data, len(data))
		absent := p.key(fmt.Sprint("absent ", i))
		if _, err := p.b.Save(p.ctx, absent, rec); !errors.Is(err, session.ErrEncode) {
			p.Errorf("Save that creates a record with %s: got error %v, want ErrEncode", what, err)
		}
		if p.alive(absent) {
			p.Errorf("a Save of %s created a record, want none", what)
		}
		key := p.key(fmt.Sprint(i))
		rec.Version = p.save(key, p.record("1"))
		before := p.load(key)
		if _, err := p.b.Save(p.ctx, key, rec); !errors.Is(err, session.ErrEncode) {
			p.Errorf("Save that replaces a record by one with %s: got error %v, want ErrEncode", what, err)
		}
		p.unchanged(key, before, "a Save of "+what)
	}
}

func ruleLockedTextRefuses(p *lockingProbe) {
	key := p.key("a")
	p.save(key, p.record("1"))
	holder := p.acquire(key, long)
	before := p.load(key)
	late := p.later().Add(time.Hour)
	rec := session.Record{Data: []byte("a\xff"), Created: late, Expires: late, Version: holder.Version}
	if _, err := p.b.Save(p.ctx, key, rec); !errors.Is(err, session.ErrEncode) {
		p.Errorf("the holder's Save of Data that is not UTF-8: got error %v, want ErrEncode", err)
	}
	p.unchanged(key, before, "the holder's Save of Data that is not UTF-8")
	if err := p.l.Extend(p.ctx, key, holder.Version, long); err != nil {
		p.Errorf("Extend by the holder, after its Save of Data that is not UTF-8 was refused: got error %v, want none", err)
	}
	if !p.held(key) {
		p.Error("the holder's Save of Data that is not UTF-8 ended the lock, want it to stay")
	}
}

func ruleTextKeeps(p *probe) {
	texts := []string{
		"", "\x00", "a\x00b", "\x00a\x00", // a store might take them for the end
		"\ufffd", "a\ufffd\ufffdb", // a decoder puts it in place of invalid bytes
		"a\n", "\r\n", "\ra\r", "a\u0085b\u2028c\u2029",
		"\ufeff", "\ufeffa", "a\ufeffb\ufeff", "\ufffe",
		"\U00010000", "\U0001f600\U0001f468\u200d\U0001f469", "\U0010fffd", "\U0010ffff",
		"\ufdd0\ufdef\uffff\U0001fffe\U0001ffff", // noncharacters, which are valid in UTF-8
		"e\u0301\u00e9", "\u0041\u030a\u00c5\u212b", "\u0130\u0131\u1e9e\ufb01",
		`\ud83d\ude00 \u0000 \xff &#0; %00 \0`, " \t a \t ",
	}
	texts = append(texts, everyPlane(min(p.large()-1, 64<<10))...)
	for i, text := range texts {
		what := fmt.Sprintf("text, %.20q, %d bytes", text, len(text))
		key := p.key(fmt.Sprint(i))
		kept := func(how string, got []byte) {
			p.Helper()
			if string(got) != text {
				p.Errorf("%s %s: got %d bytes that differ from byte %d on, want the text as it was saved", how, what, len(got), differ(string(got), text))
			}
		}
		v, err := p.b.Save(p.ctx, key, p.record(text))
		if err != nil {
			p.Errorf("Save that creates a record with %s: got error %v, want none", what, err)
			continue
		}
		kept("Load after a Save that created a record with", p.load(key).Data)
		var conflict *session.ConflictError
		if err := second(p.b.Save(p.ctx, key, p.record("x"))); errors.As(err, &conflict) && conflict.Current != nil {
			kept("Current of a ConflictError, of a record with", conflict.Current.Data)
		}
		if v, err = p.other.Save(p.ctx, key, replacing(p.record("x"+text), v)); err == nil {
			_, err = p.other.Save(p.ctx, key, replacing(p.record(text), v))
		}
		if err != nil {
			p.Errorf("Save that replaces a record by one with %s: got error %v, want none", what, err)
			continue
		}
		kept("Load after a Save that replaced a record by one with", p.load(key).Data)
	}
}

// differ returns the index of the first byte in which a and b differ.
func differ(a, b string) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

// everyPlane returns texts of at most most bytes. Together they have every code
// point of the first plane of Unicode, and some of each other plane.
func everyPlane(most int) (texts []string) {
	var text strings.Builder
	flush := func() {
		texts = append(texts, text.String())
		text.Reset()
	}
	for r := rune(0); r <= utf8.MaxRune; {
		if utf8.ValidRune(r) { // not a surrogate
			if text.Len()+utf8.RuneLen(r) > most {
				flush()
			}
			text.WriteRune(r)
		}
		if in := r & 0xffff; r < 0xffff || in < 2 || in >= 0xfffd {
			r++
		} else {
			r = min(r+61, r|0xffff-2)
		}
	}
	flush()
	return texts
}
