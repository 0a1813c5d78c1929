package conformance

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/seed-a7bee19b/session"
)

// versionRules are about versions: that they are new, and how they are compared.
var versionRules = []backendRule{
	{name: "VersionOfLoad", run: ruleVersionOfLoad, quotes: []string{
		"Version is set by the backend on Load, and names the state that a Save replaces.",
	}},
	{name: "VersionNew", run: ruleVersionNew, quotes: []string{
		"returns the new version, which MUST be one that the key never had.",
	}},
	{name: "VersionAfterDelete", run: ruleVersionAfterDelete, quotes: []string{
		"A backend never gives two states of a key the same Version, not even across a Delete.",
	}},
	{name: "VersionMany", run: ruleVersionMany, wide: true, quotes: []string{
		"A backend never gives two states of a key the same Version, not even across a Delete.",
		"returns the new version, which MUST be one that the key never had.",
	}},
	{name: "VersionBytes", run: ruleVersionBytes, wide: true, quotes: []string{
		"A Version that is handed in may be any string: one that this backend never made MUST be treated as one that is no longer stored, " +
			"whatever its bytes and its length.",
		"MUST fail with a *ConflictError unless the stored version is still rec.Version, byte by byte.",
	}},
}

func ruleVersionOfLoad(p *probe) {
	key := p.key("a")
	v := p.save(key, p.record("1"))
	if got := p.load(key).Version; got != v || v == "" {
		p.Errorf("Save returned version %q, and then Load %q; want the same one, not empty", v, got)
	}
	for i := range 3 {
		if _, err := p.b.Save(p.ctx, key, replacing(p.record(fmt.Sprint(i)), p.load(key).Version)); err != nil {
			p.Fatalf("Save with the version that Load returned: got error %v, want none", err)
		}
	}
}

func ruleVersionNew(p *probe) {
	key := p.key("a")
	seen := map[session.Version]bool{"": true}
	var v session.Version
	// The same record is a new state, and so is an earlier one.
	for _, data := range []string{"1", "1", "2", "1"} {
		var err error
		if v, err = p.b.Save(p.ctx, key, replacing(p.record(data), v)); err != nil {
			p.Fatalf("Save with the version that Save returned: got error %v, want none", err)
		}
		if seen[v] {
			p.Fatalf("Save returned version %q, which the key had before; want a new one", v)
		}
		seen[v] = true
	}
}

func ruleVersionAfterDelete(p *probe) {
	key := p.key("a")
	seen := map[session.Version]bool{}
	for life := range 5 {
		v, err := p.b.Save(p.ctx, key, p.record(fmt.Sprint(life, "a")))
		if err != nil {
			p.Logf("Save after Delete: got error %v", err)
			return // rule Delete reports it
		}
		w := p.save(key, replacing(p.record(fmt.Sprint(life, "b")), v))
		if seen[v] || seen[w] {
			p.Fatalf("after a Delete, two Saves returned versions %q and %q; the key had one of them before, want new ones", v, w)
		}
		seen[v], seen[w] = true, true
		if err := p.b.Delete(p.ctx, key); err != nil {
			p.Fatalf("Delete of a live record: got error %v, want none", err)
		}
	}
}

func ruleVersionMany(p *probe) {
	key := p.key("a")
	rec := p.record("1") // always the same, and yet each Save makes a new state
	seen := map[session.Version]bool{"": true}
	clients := []session.Backend{p.b, p.other}
	p.oftenFor(3*p.results.spell, 100, 70_000, func(i int) bool {
		b := clients[i/2%2]
		if i%7 == 6 {
			if err := b.Delete(p.ctx, key); err != nil {
				p.Errorf("Delete of a live record: got error %v, want none", err)
				return false
			}
			rec.Version = ""
		}
		v, err := b.Save(p.ctx, key, rec)
		if err != nil {
			p.Errorf("Save number %d of one key: got error %v, want none", i, err)
			return false
		}
		if seen[v] {
			p.Errorf("Save number %d of one key, by two clients in turn, returned version %q, which the key had before; want a new one", i, v)
			return false
		}
		seen[v], rec.Version = true, v
		return true
	})
}

func ruleVersionBytes(p *probe) {
	key := p.key("a")
	v := p.save(key, replacing(p.record("2"), p.save(key, p.record("1"))))
	before := p.load(key)
	wrong := slices.Concat(others(v), flips(v), digits(v), foreign)
	for range 600 { // many, to find a backend that compares only a few bits
		other := []byte(v)
		rand.Shuffle(len(other), func(i, j int) { other[i], other[j] = other[j], other[i] })
		if other[rand.IntN(len(other))] ^= byte(1 + rand.IntN(15)); string(other) != string(v) {
			wrong = append(wrong, session.Version(other))
		}
	}
	together(len(wrong), func(i int) {
		if p.Failed() {
			return
		}
		rec := replacing(p.record("3"), wrong[i])
		rec.Expires = p.later().Add(time.Hour)
		_, err := p.b.Save(p.ctx, key, rec)
		p.conflict(err, "Save that replaces version "+show(wrong[i])+", where "+show(v)+" is stored")
	})
	if p.Failed() {
		return
	}
	p.unchanged(key, before, "a Save that replaces another version")
	for _, other := range foreign {
		_, err := p.b.Save(p.ctx, p.key("absent"), replacing(p.record("3"), other))
		p.conflict(err, "Save that replaces version "+show(other)+" at a key that never had a record")
	}
}

// others returns versions that differ little from v.
func others(v session.Version) []session.Version {
	s := string(v)
	var list []session.Version
	add := func(other string) {
		if other != s && other != "" {
			list = append(list, session.Version(other))
		}
	}
	for _, other := range []string{
		strings.ToUpper(s), strings.ToLower(s), s + "0", s + " ", s + "\n", s + "\x00", s + "=", " " + s, "0" + s, "+" + s, "\x00" + s,
		s + s, s[1:], s[:len(s)-1], s[:(len(s)+1)/2], s[len(s)/2:], strings.TrimLeft(s, "0"), strings.Trim(s, "\""), s + ";", s + "/x",
	} {
		add(other)
	}
	return list
}

// flips returns versions that differ from v in one byte.
func flips(v session.Version) (list []session.Version) {
	for i := range len(v) {
		other := []byte(v)
		other[i] ^= 1
		list = append(list, session.Version(other))
	}
	return list
}

// digits returns versions that equal v for a backend that ignores some bits.
func digits(v session.Version) (list []session.Version) {
	s := string(v)
	for i := range len(s) {
		for _, bit := range []byte{0x20, 2, 4, 8, 16, 64, 128} { // 0x20 changes the case of a letter
			if bit == 0x20 || i == 0 || i == len(s)-1 {
				other := []byte(s)
				other[i] ^= bit
				list = append(list, session.Version(other))
			}
		}
	}
	for _, c := range []byte("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz+/-_=.") {
		if other := s[:len(s)-1] + string(c); other != s {
			list = append(list, session.Version(other)) // a decoder may ignore some bits of the last digit
		}
	}
	return list
}

// foreign are versions of other stores.
var foreign = []session.Version{
	"x", "0", "1", "-1", "no such version", "\x00", "\xff\x00", "\xff\xfe\xfd", "\u00e9\u2028", "'; --", "*", "%", "null", "W/\"1\"",
	session.Version(make([]byte, 16)), session.Version(strings.Repeat("v", 300)), session.Version(strings.Repeat("\xff.", 32<<10)),
}

func show(v session.Version) string {
	if len(v) > 64 {
		return fmt.Sprintf("%q... (%d bytes)", string(v[:64]), len(v))
	}
	return fmt.Sprintf("%q", string(v))
}
