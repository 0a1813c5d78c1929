package conformance

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/seed-a7bee19b/session"
)

// dataRules are about Data: it is kept unchanged, in memory that is not shared.
var dataRules = []backendRule{
	{name: "Data", run: ruleData, quotes: []string{
		"Save stores Data, Created and Expires of rec",
		"Data is the encoded session, opaque to the backend.",
	}},
	{name: "EmptyData", run: ruleEmptyData, quotes: []string{
		"Data is the encoded session, opaque to the backend. It may be empty.",
	}},
	{name: "TooLarge", run: ruleTooLarge, quotes: []string{
		"A record that the store cannot hold MUST be refused with ErrTooLarge; what was stored before stays, with its Expires and its lock.",
	}, needs: func(b Backend) bool { return b.MaxData > 0 }},
	{name: "CallersData", run: ruleCallersData, quotes: []string{
		"It MUST neither keep nor change the caller's slices,",
	}},
	{name: "ReturnedData", run: ruleReturnedData, quotes: []string{
		"and what it returns MUST NOT alias what it keeps,",
	}},
	{name: "SharedResults", run: ruleSharedResults, wide: true, quotes: []string{
		"and what it returns MUST NOT alias what it keeps, nor what it returns to another call.",
	}},
}

func ruleData(p *probe) {
	var every []byte
	for c := range 256 {
		every = append(every, byte(c))
	}
	samples := []struct {
		name string
		data []byte
		text bool
	}{
		{"ASCII", []byte(`{"a":"b\n\\'"<&>%20}`), true},
		{"surrounding space", []byte(" \t\na\n\t "), true},
		{"UTF-8", []byte("a\u00e9e\u0301\u20ac\U0001f600\u2028"), true},
		{"line ends", []byte("a\r\nb\rc\nd\n\r\ve\f\u0085"), true},
		{"a trailing line feed", []byte("a\n"), true},
		{"a byte order mark", []byte("\ufeffa\ufeff"), true},
		{"slashes", []byte(`\a\\b/c//\/\"\'\0\x41\u0041%41&#65;&amp;+`), true},
		{"surrounding quotes", []byte(`"a"`), true},
		{"a number", []byte("010e0"), true},
		{"JSON", []byte(`{"b" : 1.0, "a":[1e3,null],"b":"<\u003c"}`), true},
		{"null", []byte("null"), true},
		{"base64", []byte("YWI="), true},
		{"control characters", []byte("\x00\x01\b\x1a\x1b[0m\x7f"), true},
		{"composed characters", []byte("\u00e9\u212b\ufb01\u1e9e"), true},
		{"UPPER and lower case", []byte("aAbB\u0130\u0131"), true},
		{"4095 bytes", bytes.Repeat([]byte("x"), 4095), true},
		{"4097 bytes", bytes.Repeat([]byte("x"), 4097), true},
		{"the largest", bytes.Repeat([]byte("x"), p.large()), true},
		{"every byte", every, false},
		{"surrounding zero bytes", []byte("\x00\x00a\x00\x00"), false},
		{"bytes that are not UTF-8", []byte("a\xff\xc3"), false},
		{"a surrogate", []byte("a\xed\xa0\x80"), false},
		{"the header of a gzip file", []byte("\x1f\x8b\x08\x00\x00\x00\x00\x00"), false},
	}
	for i, sample := range samples {
		key := p.key(fmt.Sprint(i))
		rec := p.record("")
		rec.Data = sample.data
		if len(sample.data) > p.large() || isText(p.raw.b) && !sample.text {
			continue
		}
		if _, err := p.b.Save(p.ctx, key, rec); err != nil {
			p.Errorf("Save of Data with %s: got error %v, want none", sample.name, err)
			continue
		}
		if got := p.load(key).Data; !bytes.Equal(got, sample.data) {
			p.Errorf("Load after a Save of Data with %s: got %d bytes, want the %d bytes that were saved", sample.name, len(got), len(sample.data))
		}
	}
}

func ruleEmptyData(p *probe) {
	for _, data := range [][]byte{nil, {}} {
		key := p.key(fmt.Sprint("created ", data == nil))
		rec := p.record("")
		rec.Data = data
		if _, err := p.b.Save(p.ctx, key, rec); err != nil {
			p.Errorf("Save that creates a record without Data: got error %v, want none", err)
			continue
		}
		if got := p.load(key); len(got.Data) != 0 {
			p.Errorf("Load of a record that was created without Data: got %d bytes, want none", len(got.Data))
		}
		key = p.key(fmt.Sprint("replaced ", data == nil))
		rec.Version = p.save(key, p.record("1"))
		if _, err := p.b.Save(p.ctx, key, rec); err != nil {
			p.Errorf("Save that replaces Data by none: got error %v, want none", err)
			continue
		}
		if got := p.load(key); len(got.Data) != 0 {
			p.Errorf("Load after a Save that replaced Data by none: got %d bytes, want none", len(got.Data))
		}
	}
}

func ruleTooLarge(p *probe) {
	// Every field differs from the stored one, so that any change shows.
	late := p.later().Add(time.Hour)
	tooLarge := session.Record{Data: bytes.Repeat([]byte("x"), 2*p.backend.MaxData), Created: late, Expires: late}
	absent := p.key("absent")
	if _, err := p.b.Save(p.ctx, absent, tooLarge); !errors.Is(err, session.ErrTooLarge) {
		p.Errorf("Save that creates a record with %d bytes, twice MaxData: got error %v, want ErrTooLarge", len(tooLarge.Data), err)
	}
	if p.alive(absent) {
		p.Error("a Save that failed with ErrTooLarge created the record, want none")
	}
	key := p.key("a")
	tooLarge.Version = p.save(key, p.record("1"))
	before := p.load(key)
	if _, err := p.b.Save(p.ctx, key, tooLarge); !errors.Is(err, session.ErrTooLarge) {
		p.Errorf("Save that replaces a record by one with %d bytes, twice MaxData: got error %v, want ErrTooLarge", len(tooLarge.Data), err)
	}
	p.unchanged(key, before, "a Save of Data that is too large")
}

func ruleCallersData(p *probe) {
	key := p.key("a")
	buf := []byte("12345678")
	rec := p.record("")
	rec.Data = buf[:4]
	for range 2 {
		v := p.save(key, rec)
		if string(buf) != "12345678" {
			p.Fatalf("Save changed the array behind Data from 12345678 to %s, want no change", buf)
		}
		copy(buf, "abcd")
		if got := p.load(key).Data; string(got) != "1234" {
			p.Fatalf("the caller changed its Data after Save; Load returned %q, want 1234, as it was saved", got)
		}
		copy(buf, "1234")
		rec.Version = v
	}
	// In a conflict the backend has the caller's record and the stored one.
	rec.Version = "no such version"
	if _, err := p.b.Save(p.ctx, key, rec); err != nil && string(buf) != "12345678" {
		p.Errorf("a Save that failed with a conflict changed the array behind Data from 12345678 to %s, want no change", buf)
	}
}

func ruleReturnedData(p *probe) {
	key := p.key("a")
	p.save(key, p.record("1234"))
	spoil := func(what string, data []byte) {
		want := string(p.load(key).Data)
		clear(data)
		clear(data[len(data):cap(data)])
		if got := p.load(key).Data; string(got) != want {
			p.Fatalf("the caller changed the Data %s; Load then returned %q, want %q, as it was saved", what, got, want)
		}
	}
	spoil("that Load had returned", p.load(key).Data)
	var conflict *session.ConflictError
	_, err := p.b.Save(p.ctx, key, p.record("5678"))
	if errors.As(err, &conflict) && conflict.Current != nil {
		spoil("of the record in a ConflictError", conflict.Current.Data)
	}
}

func ruleSharedResults(p *probe) {
	const n = 4
	data := func(i int) string { return strings.Repeat(strconv.Itoa(i), 100) }
	for i := range n {
		p.save(p.key(fmt.Sprint(i)), p.record(data(i)))
	}
	// One after the other, with all results kept.
	var kept [2 * n][]byte
	for i := range kept {
		kept[i] = p.load(p.key(fmt.Sprint(i % n))).Data
	}
	for i := range kept {
		if string(kept[i]) != data(i%n) {
			p.Fatalf("a second Load changed the Data that the first had returned, want no change")
		}
	}
	spoiled := func(results [][]byte, want string, what string) bool {
		for i, data := range results {
			for j := range results {
				if j > i && string(results[j]) != want {
					p.Errorf("one caller changed the Data from %s, and the Data of another caller changed with it", what)
					return true
				}
			}
			clear(data[:cap(data)])
		}
		return false
	}
	if spoiled(append(append([][]byte{}, kept[0]), kept[n]), data(0), "a Load") {
		return
	}
	var conflicts [][]byte
	for range 2 {
		var conflict *session.ConflictError
		if err := second(p.b.Save(p.ctx, p.key("1"), p.record("x"))); errors.As(err, &conflict) && conflict.Current != nil {
			conflicts = append(conflicts, conflict.Current.Data)
		}
	}
	if spoiled(append(conflicts, p.load(p.key("1")).Data), data(1), "a ConflictError") {
		return
	}
	// At the same time.
	const callers = 4
	p.often(10, 2000, func(int) bool {
		var results [callers][]byte
		p.race(callers, func(i int, b session.Backend) {
			if rec, err := b.Load(p.ctx, p.key("2")); err == nil {
				results[i] = rec.Data
			}
		})
		return !spoiled(results[:], data(2), "a Load at the same time")
	})
}
