package php_test

import (
	"fmt"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session/codec/php"
)

// The factor and the constant that the package comment states for Unmarshal, and those
// that hold for Split.
const (
	statedFactor = 128
	statedBase   = 256 << 10
	splitFactor  = 100
)

// allocated returns how many bytes f allocates, the least of some runs, because other
// goroutines may allocate at the same time.
func allocated(limit uint64, f func()) uint64 {
	least := ^uint64(0)
	for range 4 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		f()
		runtime.ReadMemStats(&after)
		if least = min(least, after.TotalAlloc-before.TotalAlloc); least <= limit {
			break
		}
	}
	return least
}

type (
	huge  struct{ A [1024]int64 }
	small struct {
		A *huge
		B []small
		C map[string]*huge
		D any
	}
)

// laughs is an array in which each level refers to the one before it twice or more.
func laughs(levels, times int) string {
	s, n := `a:1:{i:0;O:1:"A":1:{s:1:"a";s:1:"x";}}`, 3
	body := "i:0;" + s
	last := 2 // the number of the level before
	for i := range levels {
		level := fmt.Sprintf("i:%d;a:%d:{", i+1, times)
		n++
		own := n + 1
		for k := range times {
			level += fmt.Sprintf("i:%d;R:%d;", k, last)
		}
		last = own
		body += level + "}"
	}
	return fmt.Sprintf("a:%d:{%s}", levels+1, body)
}

// TestMemory checks that decoding takes no more than the stated memory, for any data
// and any target, and no time without end.
func TestMemory(t *testing.T) {
	const n = 8 << 10
	list := func(of string) string {
		var b strings.Builder
		k := n / (len(of) + 6)
		for i := range k {
			fmt.Fprintf(&b, "i:%d;%s", i, of)
		}
		return fmt.Sprintf("a:%d:{%s}", k, b.String())
	}
	named := func(head, format, of string) string {
		var b strings.Builder
		k := n / (len(of) + 10)
		for i := range k {
			fmt.Fprintf(&b, format, fmt.Sprintf("%04x", i))
			b.WriteString(of)
		}
		return fmt.Sprintf("%s%d:{%s}", head, k, b.String())
	}
	var data []string
	for _, of := range []string{`N;`, `b:1;`, `i:0;`, `s:0:"";`, `a:0:{}`, `O:1:"A":0:{}`, `a:1:{i:0;N;}`, `a:1:{s:1:"A";a:0:{}}`, `a:1:{s:1:"B";a:1:{i:0;a:0:{}}}`, `a:1:{s:1:"C";a:0:{}}`, `a:1:{i:5;N;}`, `O:1:"A":1:{s:0:"";N;}`, `E:3:"A:B";`, `C:1:"A":0:{}`, `R:1;`, `R:2;`, `d:1;`} {
		data = append(data, list(of))
	}
	for _, of := range []string{`N;`, `a:0:{}`} {
		data = append(data, named("a:", `s:4:"%s";`, of), named(`O:1:"A":`, `s:4:"%s";`, of))
	}
	data = append(data,
		laughs(100, 2), laughs(100, 20), laughs(20, 200), laughs(2000, 2),
		`a:2:{i:0;`+list(`N;`)+`i:1;a:500:{`+many(500, `R:2;`)+`}}`, `a:2:{i:0;s:4000:"`+strings.Repeat("x", 4000)+`";i:1;a:500:{`+many(500, `R:2;`)+`}}`,
		`a:2:{i:0;O:1:"A":1:{s:1:"A";`+list(`N;`)+`}i:1;a:500:{`+many(500, `r:2;`)+`}}`,
		// The parts of a struct that are skipped cost time.
		`a:2:{s:1:"x";`+list(`N;`)+`s:1:"B";a:2:{i:0;a:1:{s:1:"y";R:2;}i:1;a:1:{s:1:"B";a:500:{`+many(500, `a:1:{s:1:"z";R:2;}`)+`}}}}`,
	)
	targets := []any{
		new(any), new([]any), new([]int), new([]string), new([]*int), new([][]int), new([]bool), new([]time.Time), new([]item), new([]huge), new([]*huge), new([]**huge), new([][]huge), new([][3]huge), new([1]huge),
		new([]map[string]huge), new([]map[string]any), new([]map[int]huge), new(map[string]huge), new(map[string]any), new(map[int]int), new(map[int][]huge), new([]struct{}), new(struct{}), new([]small), new(small), new(map[string]small), new(node), new([]node),
		new(php.Array), new([]php.Array), new([]php.Object), new(php.Object), new([]php.Enum), new([]php.Opaque), new([]php.Raw), new(map[string]php.Raw), new([][]byte), new(struct{ B []struct{} }),
	}
	var c php.Codec
	most := 0
	for _, d := range data {
		for _, v := range targets {
			target := reflect.New(reflect.TypeOf(v).Elem()).Interface()
			_ = c.Unmarshal([]byte("N;"), target) // caches the type
			limit := uint64(statedBase + statedFactor*len(d))
			var err error
			used := allocated(limit, func() { err = c.Unmarshal([]byte(d), target) })
			most = max(most, (int(used)-statedBase)/len(d))
			if used > limit {
				t.Errorf("%d bytes, %.40q..., into %T: %d bytes of memory, %d for each (%v)", len(d), d, v, used, int(used)/len(d), err)
			}
		}
	}
	t.Logf("at most %d for each byte of data", most)
}

// many returns n elements.
func many(n int, of string) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "i:%d;%s", i, of)
	}
	return b.String()
}

// TestSplitMemory checks that Split takes no more than the stated memory.
func TestSplitMemory(t *testing.T) {
	const n = 4000 // less than DefaultMaxValues
	var short, refs, binary, links, deep strings.Builder
	for i := range n {
		fmt.Fprintf(&short, "n%x|N;", i)
		fmt.Fprintf(&refs, "n%x|R:1;", i)
		fmt.Fprintf(&binary, "\x03n%sN;", []byte{byte(i), byte(i >> 8)})
		fmt.Fprintf(&links, "n%x|R:2;", i+1)
	}
	deep.WriteString(strings.Repeat("a:1:{i:0;", 250) + "N;" + strings.Repeat("}", 250))
	for _, data := range []string{
		short.String(), "x|i:1;" + refs.String(), "x|a:1:{i:0;s:500:\"" + strings.Repeat("x", 500) + "\";}" + links.String(), "x|" + "a:2000:{" + many(2000, "R:1;") + "}",
		strings.Repeat("x", 3000) + "|i:1;" + refs.String(), "x|i:1;y|a:2000:{" + many(2000, "R:1;") + "}", "x|" + deep.String() + refs.String(),
	} {
		var c php.Codec
		var values map[string][]byte
		var err error
		limit := uint64(statedBase + splitFactor*len(data))
		used := allocated(limit, func() { values, err = c.Split([]byte(data)) })
		if used > limit {
			t.Errorf("%.40q: %d bytes for each byte of %d", data, int(used)/len(data), len(data))
		}
		if err != nil {
			t.Errorf("%.40q: %v", data, err)
			continue
		}
		if blob, err := c.Join(values); err != nil || string(blob) != data {
			t.Errorf("%.40q: Join: %.100q, %v", data, blob, err)
		}
	}
	var c php.Codec
	c.Handler = php.Binary
	if _, err := c.Split([]byte(binary.String())); err != nil {
		t.Error(err)
	}
}
