package conformance

import (
	"bytes"
	"crypto/md5"  //nolint:gosec // of keys that backends may shorten with it
	"crypto/sha1" //nolint:gosec // likewise
	"crypto/sha256"
	"fmt"
	"hash/adler32"
	"hash/crc32"
	"hash/fnv"
	"strconv"
	"strings"

	"github.com/seed-a7bee19b/session"
)

// keyRules are about keys that a store might confuse, and about many keys.
var keyRules = []backendRule{
	{name: "Keys", run: ruleKeys, quotes: []string{
		"Keys are non-empty strings of at most 512 bytes of UTF-8; a backend MUST keep any two of them apart, byte by byte.",
	}},
	{name: "ManyRecords", run: ruleManyRecords, wide: true, quotes: []string{
		"It MUST keep a record until its Expires;",
		"a backend MUST keep any two of them apart, byte by byte.",
	}},
	{name: "ShortHashes", run: ruleShortHashes, wide: true, quotes: []string{
		"a backend MUST keep any two of them apart, byte by byte.",
		"Save stores Data, Created and Expires of rec",
	}},
}

func ruleKeys(p *probe) {
	names := []string{
		"a", "A", "b", "a ", " a", "  a", "a\n", "a\t", "aa", "a0", "a00",
		"a/", "/a", "a/b", "a//b", "a/./b", "a/../b", "/../a", "/../../a", `\..\a`, "a.", "..", ".a",
		"a:", "a:b", "a::b", "a#b", "a|b", "a,b", "a;b", "a=b", "a&b",
		"a%", "a_", "a*", "a?", "a[b]", "ab", "a.*", "^a", "a\r", "a\r\n", "a\\", "a\\b", "a%2Fb", "a%2fb", "a+b", "a%20b", "a b", "'", `"`, "`", `\`, "$a", "{a}", "<a>",
		"1", "01", "1.0", "1e0", "null",
		"\u00e9", "e\u0301", "\u212b", "\u00c5", "A\u030a", "\ufb01", "fi", "\u00b2", "2", // equal if normalized
		"\u00df", "ss", "\u017f", "s", "\u212a", "K", "k", "\u0130", "i", "I", // equal if case is folded
		"\uff41", "\u200ba", "a\u200b", "\ufeffa", "\U0001f600", "\U0001f601",
		"a\x00", "a\x00b", "\x7f",
	}
	for _, end := range []string{"", "a", "b", "\u00e9"} {
		long := strings.Repeat("x", 512-len(p.prefix)-len(end)) + end
		names = append(names, long, long[:255-len(p.prefix)])
	}
	keys := map[string]session.Record{}
	for _, name := range names {
		key := p.key(name)
		if _, ok := keys[key]; ok {
			continue
		}
		rec := p.record(fmt.Sprintf("data of %q", name))
		v, err := p.b.Save(p.ctx, key, rec)
		if err != nil {
			p.Errorf("Save that creates a record at a new key that ends in %q: got error %v, want none", end(name), err)
			continue
		}
		rec.Version = v
		keys[key] = rec
	}
	same := func(name string) {
		rec, err := p.b.Load(p.ctx, p.key(name))
		want := keys[p.key(name)]
		if err != nil || !bytes.Equal(rec.Data, want.Data) {
			p.Errorf("Load at the key that ends in %q: got error %v and %d bytes, want the %d bytes that were saved there", end(name), err, len(rec.Data), len(want.Data))
		}
	}
	for _, name := range names {
		same(name)
	}
	// A store might take one of these for a pattern, or for the beginning of
	// another key.
	for _, name := range []string{"a", "a%", "a_", "a*", "a?", "a[b]", "a.*", "a/", " a", "k", "e\u0301"} {
		if err := p.b.Delete(p.ctx, p.key(name)); err != nil {
			p.Errorf("Delete at the key that ends in %q: got error %v, want none", end(name), err)
		}
		delete(keys, p.key(name))
	}
	for _, name := range names {
		if _, ok := keys[p.key(name)]; ok {
			same(name)
		}
	}
}

func ruleManyRecords(p *probe) {
	const n = 900
	versions := make([]session.Version, n)
	key := func(i int) string { return p.key(fmt.Sprint("record ", i)) }
	together(n, func(i int) {
		var err error
		if versions[i], err = p.b.Save(p.ctx, key(i), p.record(fmt.Sprint(i))); err != nil {
			p.Errorf("Save that creates record %d of %d: got error %v, want none", i, n, err)
		}
	})
	if p.Failed() {
		return
	}
	together(n, func(i int) {
		switch rec, err := p.b.Load(p.ctx, key(i)); {
		case err != nil || string(rec.Data) != fmt.Sprint(i) || rec.Version != versions[i]:
			p.Errorf("Load of record %d of %d, all live: got error %v, Data %q, version %q; want Data %q, version %q", i, n, err, rec.Data, rec.Version, fmt.Sprint(i), versions[i])
		case i%90 == 0:
			if _, err := p.b.Save(p.ctx, key(i), replacing(p.record("2"), versions[i])); err != nil {
				p.Errorf("Save that replaces record %d of %d, all live: got error %v, want none", i, n, err)
			}
		}
	})
}

// ruleShortHashes saves pairs of keys, and pairs of Data, that have the same
// short hash.
func ruleShortHashes(p *probe) {
	hash32 := func(h interface {
		Write([]byte) (int, error)
		Sum32() uint32
		Reset()
	}) func([]byte) uint32 {
		return func(b []byte) uint32 { h.Reset(); _, _ = h.Write(b); return h.Sum32() }
	}
	first4 := func(b []byte) uint32 { return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3]) }
	castagnoli := crc32.MakeTable(crc32.Castagnoli)
	for name, hash := range map[string]func([]byte) uint32{
		"CRC-32":   crc32.ChecksumIEEE,
		"CRC-32C":  func(b []byte) uint32 { return crc32.Checksum(b, castagnoli) },
		"Adler-32": adler32.Checksum,
		"FNV-1":    hash32(fnv.New32()),
		"FNV-1a":   hash32(fnv.New32a()),
		"MD5":      func(b []byte) uint32 { sum := md5.Sum(b); return first4(sum[:]) },
		"SHA-1":    func(b []byte) uint32 { sum := sha1.Sum(b); return first4(sum[:]) },
		"SHA-256":  func(b []byte) uint32 { sum := sha256.Sum256(b); return first4(sum[:]) },
		"31":       func(b []byte) uint32 { return polynomial(b, 31) },
		"33":       func(b []byte) uint32 { return polynomial(b, 33) },
	} {
		one, two := collision(p.key(name), hash)
		v := p.save(one, p.record(one))
		if _, err := p.b.Save(p.ctx, two, p.record(two)); err != nil {
			p.Errorf("Save that creates a record at a new key that has the same 32 bit %s hash as another key: got error %v, want none", name, err)
			continue
		}
		if got := p.load(one).Data; string(got) != one {
			p.Errorf("two keys have the same 32 bit %s hash: a Save at one changed the record at the other, want no change", name)
		}
		p.save(one, replacing(p.record(two), v))
		if got := p.load(one).Data; string(got) != two {
			p.Errorf("a Save of new Data that has the same 32 bit %s hash as the old: Load returned the old Data, want the new", name)
		}
	}
}

func polynomial(b []byte, by uint32) (sum uint32) {
	for _, c := range b {
		sum = by*sum + uint32(c)
	}
	return sum
}

// collision returns two strings with the same prefix and the same hash.
func collision(prefix string, hash func([]byte) uint32) (one, two string) {
	seen := map[uint32]uint64{}
	buf := []byte(prefix)
	for i := uint64(0); ; i++ {
		// Consecutive numbers do not collide in a CRC.
		n := i * 0x9e3779b97f4a7c15
		buf = strconv.AppendUint(buf[:len(prefix)], n, 36)
		h := hash(buf)
		if m, ok := seen[h]; ok {
			return prefix + strconv.FormatUint(m, 36), string(buf)
		}
		seen[h] = n
	}
}
