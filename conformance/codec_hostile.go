package conformance

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"slices"
	"time"
)

// codecHostileRules are about data that was not encoded by the codec.
var codecHostileRules = []codecRule{
	{name: "UnmarshalPanics", run: ruleUnmarshalPanics, quotes: []string{
		"a name that is twice in a map included, and MUST NOT panic.",
	}},
	{name: "UnmarshalMemory", run: ruleUnmarshalMemory, quotes: []string{
		"Its memory MUST be bounded by a small multiple of len(data), whatever the lengths that data claims.",
	}},
	{name: "SplitPanics", run: ruleSplitPanics, quotes: []string{
		"a small multiple of len(data), and MUST NOT panic.",
	}},
	{name: "SplitMemory", run: ruleSplitMemory, quotes: []string{
		"with work and memory bounded by a small multiple of len(data), and MUST NOT panic.",
	}},
}

// codecTargets returns a pointer for each way of decoding.
func codecTargets() []any {
	return []any{
		new(any), new(string), new([]byte), new([]int), new([]string), new(map[string]any), new(map[string]int),
		new(map[string]string), new(codecItem), new([]codecItem), new(time.Time), new(float64), new([4]int), new(**int),
	}
}

// garbage calls f with arbitrary data and with damaged seeds. The data is the same
// each time.
func garbage(seeds [][]byte, f func(data []byte)) {
	random := rand.New(rand.NewPCG(1, 2))
	f(nil)
	f([]byte{})
	for c := range 256 {
		f([]byte{byte(c)})
		f([]byte{byte(c), 0xff})
		f([]byte{byte(c), 0})
	}
	for _, seed := range seeds {
		for range 40 {
			data := bytes.Clone(seed)
			for range 1 + random.IntN(3) {
				at := random.IntN(len(data) + 1)
				switch random.IntN(4) {
				case 0:
					data = data[:at]
				case 1:
					data = slices.Insert(data, at, byte(random.Uint32()))
				default:
					if at < len(data) {
						data[at] = byte(random.Uint32())
					}
				}
			}
			f(data)
		}
	}
}

// nested calls f with deeply nested data in JSON and in MessagePack.
func nested(f func(data []byte)) {
	for _, c := range []byte{'[', '{', 0x91, 0x81, 0xdc, 0xdf} {
		f(bytes.Repeat([]byte{c}, 200_000))
	}
	f(bytes.Repeat([]byte(`{"a":`), 50_000))
	f(bytes.Repeat([]byte("\x81\xa1a"), 50_000))
}

func (p *codecProbe) seeds() [][]byte {
	p.Helper()
	var seeds [][]byte
	for _, pointer := range codecValues() {
		if data := p.marshal(elem(pointer)); len(data) < 1000 {
			seeds = append(seeds, data)
		}
	}
	return seeds
}

// limitStack limits the stack, so that an infinite recursion ends soon. It ends the
// process, as there is no other way to detect it.
func limitStack() (restore func()) {
	before := debug.SetMaxStack(64 << 20)
	return func() { debug.SetMaxStack(before) }
}

func ruleUnmarshalPanics(p *codecProbe) {
	defer limitStack()()
	reported := map[string]bool{}
	try := func(data []byte, target any) {
		name := fmt.Sprintf("%T", target)
		r := p.panics(func() error { return p.codec.Unmarshal(data, target) })
		if r != nil && !reported[name] {
			reported[name] = true
			p.Errorf("Unmarshal of % .20x into a %s panicked with %v, want an error", data, name, r)
		}
	}
	garbage(p.seeds(), func(data []byte) {
		for _, target := range codecTargets() {
			try(data, target)
		}
	})
	nested(func(data []byte) {
		for _, target := range []any{new(any), new([]codecItem)} {
			try(data, target)
		}
	})
	var nilPointer *int
	for _, target := range []any{nil, 0, nilPointer} {
		try(p.marshal(1), target)
	}
}

// claims calls f with short data that claims great lengths.
func claims(seeds [][]byte, f func(data []byte)) {
	for c := range 256 {
		for _, n := range []int{2, 4, 8} {
			for _, first := range []byte{0xff, 0x7f, 0x0f} {
				data := append([]byte{byte(c), first}, bytes.Repeat([]byte{0xff}, n-1)...)
				f(data)
			}
		}
	}
	for _, seed := range seeds {
		if len(seed) > 100 {
			continue
		}
		for at := range seed {
			for _, n := range []int{1, 2, 4, 8} {
				if at+n > len(seed) {
					break
				}
				data := bytes.Clone(seed)
				for i := range n {
					data[at+i] = 0xff
				}
				f(data)
			}
		}
	}
}

// bounded reports an error if call allocates more than a megabyte for short data
// that claims great lengths. Other rules report panics.
func (p *codecProbe) bounded(what string, seeds [][]byte, call func(data []byte)) {
	p.Helper()
	const limit = 1 << 20
	// Other goroutines may allocate at the same time, so take the least of some
	// measurements.
	allocates := func(inputs ...[]byte) uint64 {
		var least uint64 = math.MaxUint64
		for range 3 {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			for _, data := range inputs {
				p.panics(func() error { call(data); return nil })
			}
			runtime.ReadMemStats(&after)
			if least = min(least, after.TotalAlloc-before.TotalAlloc); least < limit {
				break
			}
		}
		return least
	}
	// Measuring is slow, so first measure many inputs together.
	var all [][]byte
	claims(seeds, func(data []byte) { all = append(all, data) })
	for inputs := range slices.Chunk(all, 32) {
		if allocates(inputs...) < limit {
			continue
		}
		for _, data := range inputs {
			if n := allocates(data); n >= limit {
				p.Errorf("%s of %d bytes, % .20x, allocated %d bytes, want a small multiple of the length, less than %d", what, len(data), data, n, limit)
				return
			}
		}
	}
}

func ruleUnmarshalMemory(p *codecProbe) {
	defer limitStack()()
	seeds := p.seeds()
	p.bounded("Unmarshal", seeds, func(data []byte) {
		for _, target := range codecTargets() {
			_ = p.codec.Unmarshal(data, target)
		}
	})
}

func ruleSplitPanics(p *codecProbe) {
	defer limitStack()()
	failures := 0
	try := func(data []byte) {
		r := p.panics(func() error { _, err := p.codec.Split(data); return err })
		if r != nil && failures < 3 {
			failures++
			p.Errorf("Split of % .20x panicked with %v, want an error", data, r)
		}
	}
	garbage([][]byte{p.join(p.session()), p.join(nil)}, try)
	nested(try)
}

func ruleSplitMemory(p *codecProbe) {
	defer limitStack()()
	seeds := [][]byte{p.join(map[string][]byte{"user": p.marshal("u-1"), "roles": p.marshal([]string{"admin"})})}
	p.bounded("Split", seeds, func(data []byte) { _, _ = p.codec.Split(data) })
}
