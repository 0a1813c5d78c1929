package session

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session/codec"
)

// bothCodecs are those of package codec.
func bothCodecs() map[string]Codec {
	return map[string]Codec{"MessagePack": codec.MessagePack{}, "JSON": codec.JSON{}}
}

// codecCore returns a core that encodes with c, up to so many bytes.
func codecCore(c Codec, maxSize int) *core { return newCore(nil, Config{Codec: c, MaxSize: maxSize}) }

// encodedValues returns values as c encodes them.
func encodedValues(t testing.TB, c Codec, values map[string]any) map[string][]byte {
	t.Helper()
	m := make(map[string][]byte, len(values))
	for name, v := range values {
		data, err := c.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		m[name] = data
	}
	return m
}

func sameValues(a, b map[string][]byte) bool { return maps.EqualFunc(a, b, bytes.Equal) }

func (c contents) String() string {
	return fmt.Sprintf("values %q, trail %q, used %v, renewed %v", c.values, c.trail, c.used, c.renewed)
}

func sameContents(a, b contents) bool {
	return sameValues(a.values, b.values) && bytes.Equal(a.trail, b.trail) && a.used == b.used && a.renewed == b.renewed
}

// TestContents: what is joined is what is split.
func TestContents(t *testing.T) {
	const key = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
	for name, c := range bothCodecs() {
		m := codecCore(c, 0)
		some := encodedValues(t, c, map[string]any{"note": "x", "count": 3, "list": []string{"a", "b"}, userName: "ann", "": nil, "é\n\"": true})
		trail, err := m.encode("tmvcrg " + key + "\n" + "tmvcrh " + key)
		if err != nil {
			t.Fatal(err)
		}
		for used, read := range map[time.Duration]time.Duration{
			0: 0, time.Second: time.Second, 90 * time.Minute: 90 * time.Minute, 24 * time.Hour: 24 * time.Hour, 30 * 365 * 24 * time.Hour: 30 * 365 * 24 * time.Hour,
			time.Hour: 0, 2 * time.Hour: 0, 2*time.Hour + time.Millisecond: 0, 2*time.Hour - 1: 2*time.Hour - time.Second, // of whole seconds, and of two none
			1500 * time.Millisecond: time.Second, time.Second - 1: 0, -time.Second: 0,
		} {
			for _, values := range []map[string][]byte{some, {}, nil} {
				for _, trail := range [][]byte{trail, nil} {
					in := contents{values: values, trail: trail, used: used}
					before := maps.Clone(values)
					data, err := m.join(in)
					if err != nil {
						t.Fatalf("%s: %v: %v", name, in, err)
					}
					out, err := m.split(Record{Data: bytes.Clone(data)})
					if err != nil {
						t.Fatalf("%s: %v: %v", name, in, err)
					}
					if in.used = read; !sameContents(in, out) {
						t.Errorf("%s: %v became %v", name, in, out)
					}
					if !sameValues(values, before) {
						t.Errorf("%s: join has changed the values it was given to %q", name, values)
					}
					if again, err := m.join(contents{values: before, trail: trail, used: used}); err != nil || !bytes.Equal(again, data) {
						t.Errorf("%s: then joined as %q, %v", name, again, err)
					}
				}
			}
		}
	}
}

// TestUsualTimeoutsTakeNoRoom: of a session with one of the two most usual
// timeouts there is no more in the store than its values.
func TestUsualTimeoutsTakeNoRoom(t *testing.T) {
	for name, c := range bothCodecs() {
		m, values := codecCore(c, 0), encodedValues(t, c, map[string]any{"note": "x"})
		want, err := c.Join(values)
		if err != nil {
			t.Fatal(err)
		}
		for _, used := range []time.Duration{defaultIdle, hourIdle, hourIdle + time.Second/2} {
			if data, err := m.join(contents{values: values, used: used}); err != nil || !bytes.Equal(data, want) {
				t.Errorf("%s: %v is joined as %q, %v", name, used, data, err)
			}
		}
	}
}

// TestJoinMaxSize: the trail is left out rather than that nothing is stored; the
// rest is not.
func TestJoinMaxSize(t *testing.T) {
	for name, c := range bothCodecs() {
		m := codecCore(c, 0)
		trail, err := m.encode("tmvcrg AAAA")
		if err != nil {
			t.Fatal(err)
		}
		in := contents{values: encodedValues(t, c, map[string]any{"note": "x"}), trail: trail, used: time.Minute}
		whole, err := m.join(in)
		if err != nil {
			t.Fatal(err)
		}
		in.trail = nil
		short, err := m.join(in)
		if err != nil {
			t.Fatal(err)
		}
		for _, tt := range []struct {
			max   int
			trail []byte
			want  []byte
		}{
			{0, trail, whole}, {len(whole) + 1, trail, whole}, {len(whole), trail, whole},
			{len(whole) - 1, trail, short}, {len(short), trail, short}, {len(short), nil, short},
			{len(short) - 1, trail, nil}, {len(short) - 1, nil, nil}, {1, trail, nil},
		} {
			in.trail = tt.trail
			data, err := codecCore(c, tt.max).join(in)
			if !bytes.Equal(data, tt.want) || errors.Is(err, ErrTooLarge) != (tt.want == nil) || err != nil && tt.want != nil {
				t.Errorf("%s: MaxSize %d: %q, %v", name, tt.max, data, err)
			}
			if tt.want == nil && err.Error() != fmt.Sprintf("too large: %d bytes, and MaxSize is %d", len(short), tt.max) {
				t.Errorf("%s: error %v", name, err)
			}
		}
	}
}

// TestContentsThatCannotBe: what is no session, and what cannot become one.
func TestContentsThatCannotBe(t *testing.T) {
	other := map[string]string{"MessagePack": `{"note":"x"}`, "JSON": "\x81\xa4note\xa1x"}
	for name, c := range bothCodecs() {
		m := codecCore(c, 0)
		for _, data := range []string{"", "x", other[name]} {
			if out, err := m.split(Record{Data: []byte(data)}); !errors.Is(err, ErrDecode) || asMoved(err) != nil || out.values != nil {
				t.Errorf("%s: %q is split into %v, %v", name, data, out, err)
			}
		}
		for what, in := range map[string]contents{
			"a name that is not UTF-8": {values: map[string][]byte{"\xff": encodedValues(t, c, map[string]any{"a": 1})["a"]}},
			"a value that is none":     {values: map[string][]byte{"a": {}}},
		} {
			if data, err := m.join(in); !errors.Is(err, ErrEncode) || data != nil {
				t.Errorf("%s: %s is joined as %q, %v", name, what, data, err)
			}
		}
	}
}

// TestIdleStampThatDoesNotDecode counts as none: it never keeps a session from
// being read.
func TestIdleStampThatDoesNotDecode(t *testing.T) {
	for name, c := range bothCodecs() {
		m := codecCore(c, 0)
		for _, tt := range []struct {
			stamp any
			want  time.Duration
		}{
			{5400, 90 * time.Minute}, {0, 0}, {-1, 0}, {math.MinInt64, 0}, {math.MaxInt64, 0}, {uint64(math.MaxUint64), 0},
			{math.MaxInt64 / int64(time.Second), math.MaxInt64 / time.Second * time.Second}, {math.MaxInt64/int64(time.Second) + 1, 0},
			{"90m", 0}, {nil, 0}, {true, 0}, {1.5, 0}, {[]int{1}, 0},
			{7200, 2 * time.Hour}, // which join leaves out
		} {
			data, err := c.Join(encodedValues(t, c, map[string]any{"note": "x", idleName: tt.stamp}))
			if err != nil {
				t.Fatal(err)
			}
			out, err := m.split(Record{Data: data})
			want := contents{values: encodedValues(t, c, map[string]any{"note": "x"}), used: tt.want}
			if err != nil || !sameContents(out, want) {
				t.Errorf("%s: %v: %v, %v", name, tt.stamp, out, err)
			}
		}
	}
}

// TestRenewedThatDoesNotDecode counts as none.
func TestRenewedThatDoesNotDecode(t *testing.T) {
	for name, c := range bothCodecs() {
		m := codecCore(c, 0)
		for _, tt := range []struct {
			stored any
			want   time.Duration
		}{{2700, 45 * time.Minute}, {1, time.Second}, {0, 0}, {-1, 0}, {math.MaxInt64, 0}, {"45m", 0}, {nil, 0}, {1.5, 0}} {
			data, err := c.Join(encodedValues(t, c, map[string]any{"note": "x", renewedName: tt.stored}))
			if err != nil {
				t.Fatal(err)
			}
			out, err := m.split(Record{Data: data})
			if err != nil || !sameContents(out, contents{values: encodedValues(t, c, map[string]any{"note": "x"}), renewed: tt.want}) {
				t.Errorf("%s: %v: %v, %v", name, tt.stored, out, err)
			}
		}
		for renewed, want := range map[time.Duration]time.Duration{0: 0, -1: 0, time.Second - 1: 0, time.Second: time.Second, 90*time.Minute + 1: 90 * time.Minute} {
			data, err := m.join(contents{renewed: renewed, used: time.Minute})
			if err != nil {
				t.Fatal(err)
			}
			if out, err := m.split(Record{Data: data}); err != nil || out.renewed != want {
				t.Errorf("%s: %v: %v, %v", name, renewed, out, err)
			}
		}
	}
}

// wordless is a codec that cannot encode numbers, or makes nothing of them.
type wordless struct {
	Codec
	err error
}

func (c wordless) Marshal(v any) ([]byte, error) {
	if _, ok := v.(int64); ok {
		return nil, c.err
	}
	return c.Codec.Marshal(v)
}

// TestIdleStampThatIsNotEncoded is left out: a session is stored all the same.
func TestIdleStampThatIsNotEncoded(t *testing.T) {
	for name, c := range bothCodecs() {
		values := encodedValues(t, c, map[string]any{"note": "x"})
		for _, cerr := range []error{nil, errors.New("no numbers")} {
			m := codecCore(wordless{c, cerr}, 0)
			data, err := m.join(contents{values: values, used: time.Minute})
			if err != nil {
				t.Fatal(err)
			}
			if out, err := m.split(Record{Data: data}); err != nil || !sameContents(out, contents{values: values}) {
				t.Errorf("%s: %v, %v", name, out, err)
			}
			if _, err := m.encode(int64(1)); !errors.Is(err, ErrEncode) {
				t.Errorf("%s: a value that the codec makes nothing of: %v", name, err)
			}
		}
	}
}

// TestMarker: what is left under an old ID is found there again.
func TestMarker(t *testing.T) {
	const key = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
	for name, c := range bothCodecs() {
		kept := encodedValues(t, c, map[string]any{"note": "x", "count": 3})
		for _, key := range []string{key, "sessions:é\n\"x", strings.Repeat("k", 512)} {
			for _, v := range []Version{"1", "", "\x00\xff\x10\n", Version(strings.Repeat("v", 128))} {
				for _, kept := range []map[string][]byte{kept, {}, nil} {
					m := codecCore(c, 0)
					before := maps.Clone(kept)
					data, err := m.joinMarker(key, v, "", kept)
					if err != nil {
						t.Fatal(err)
					}
					out, err := m.split(Record{Data: data, Created: someDay, Version: "of the marker"})
					to := asMoved(err)
					if to == nil || out.values != nil || out.trail != nil {
						t.Fatalf("%s: a marker is split into %v, %v", name, out, err)
					}
					if to.key != key || to.version != v || !to.at.Equal(someDay) || to.from != "" || to.found != "" {
						t.Errorf("%s: it leads to %q, version %q, at %v", name, to.key, to.version, to.at)
					}
					if !sameValues(to.kept, kept) || (to.kept == nil) != (len(kept) == 0) || !sameValues(kept, before) {
						t.Errorf("%s: kept are %q, want %q", name, to.kept, kept)
					}
					// What the caller of Open sees has no key, and is not that it
					// cannot be decoded.
					if !errors.Is(err, ErrNotFound) || !errors.Is(err, errMoved) || errors.Is(err, ErrDecode) || err.Error() != errMoved.Error() {
						t.Errorf("%s: error %v", name, err)
					}
				}
			}
		}
	}
}

// TestMarkerVersion: a version that is too long for a marker is left out.
func TestMarkerVersion(t *testing.T) {
	for _, n := range []int{maxMarkedVersion, maxMarkedVersion + 1, 400 << 10} {
		m := codecCore(codec.JSON{}, 0)
		data, err := m.joinMarker("AAAA", Version(strings.Repeat("v", n)), "", nil)
		if err != nil {
			t.Fatal(err)
		}
		_, err = m.split(Record{Data: data})
		want := 0
		if n <= maxMarkedVersion {
			want = n
		}
		if to := asMoved(err); to == nil || to.key != "AAAA" || len(to.version) != want || len(data) > 1000 {
			t.Errorf("%d bytes: %v, %d bytes of data", n, err, len(data))
		}
	}
}

// TestMarkerMaxSize: what a session was is left out rather than that the old ID
// stays; the way to the new one is not.
func TestMarkerMaxSize(t *testing.T) {
	for name, c := range bothCodecs() {
		kept := encodedValues(t, c, map[string]any{"note": "x"})
		whole, err := codecCore(c, 0).joinMarker("AAAA", "1", "", kept)
		if err != nil {
			t.Fatal(err)
		}
		short, err := codecCore(c, 0).joinMarker("AAAA", "1", "", nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, tt := range []struct {
			max  int
			want []byte
		}{{0, whole}, {len(whole), whole}, {len(whole) - 1, short}, {len(short), short}, {len(short) - 1, short}, {1, short}} {
			if data, err := codecCore(c, tt.max).joinMarker("AAAA", "1", "", kept); err != nil || !bytes.Equal(data, tt.want) {
				t.Errorf("%s: MaxSize %d: %q, %v", name, tt.max, data, err)
			}
		}
	}
}

// TestMarkerThatDoesNotDecode leads nowhere.
func TestMarkerThatDoesNotDecode(t *testing.T) {
	for name, c := range bothCodecs() {
		for _, values := range []map[string]any{
			{movedName: 1}, {movedName: []string{"AAAA"}},
			{movedName: "AAAA", versionName: 1}, {movedName: "AAAA", versionName: "not base64!"}, {movedName: "AAAA", versionName: "AA=="},
		} {
			data, err := c.Join(encodedValues(t, c, values))
			if err != nil {
				t.Fatal(err)
			}
			if out, err := codecCore(c, 0).split(Record{Data: data}); !errors.Is(err, ErrDecode) || asMoved(err) != nil || out.values != nil {
				t.Errorf("%s: %v is split into %v, %v", name, values, out, err)
			}
		}
	}
	if asMoved(nil) != nil || asMoved(ErrNotFound) != nil || asMoved(errMoved) != nil {
		t.Error("an error that says nothing of it leads somewhere")
	}
}

// TestRecentlyMoved: for ten seconds the answer with the new ID may be in flight.
func TestRecentlyMoved(t *testing.T) {
	for ago, want := range map[time.Duration]bool{0: true, 5 * time.Second: true, 15 * time.Second: false, time.Hour: false, -time.Minute: true} {
		if got := (&movedError{at: time.Now().Add(-ago)}).recent(); got != want {
			t.Errorf("%v ago: %v", ago, got)
		}
	}
}

// TestExtendTrail: a session knows the markers that it has left, the last eight of
// those that are still there.
func TestExtendTrail(t *testing.T) {
	mark := func(in time.Duration, key string) string {
		return strconv.FormatInt(time.Now().Add(in).Unix(), 36) + " " + key
	}
	join := func(marks ...string) string { return strings.Join(marks, "\n") }
	var eight []string
	for i := range maxTrail {
		eight = append(eight, mark(time.Hour, fmt.Sprintf("k%d", i)))
	}
	for name, c := range bothCodecs() {
		m := codecCore(c, 0)
		for _, tt := range []struct {
			name   string
			old    any // nil: none
			want   string
			oldest string
		}{
			{name: "the first", want: join()},
			{name: "the second", old: join(mark(time.Hour, "a")), want: join(mark(time.Hour, "a"))},
			{name: "one that is over", old: join(mark(-time.Hour, "a"), mark(time.Hour, "b")), want: join(mark(time.Hour, "b"))},
			{name: "all are over", old: join(mark(-time.Hour, "a"), mark(-time.Minute, "b")), want: join()},
			{name: "a key with spaces", old: join(mark(time.Hour, "a b c")), want: join(mark(time.Hour, "a b c"))},
			{name: "the eighth", old: join(eight[1:]...), want: join(eight[1:]...)},
			{name: "the ninth", old: join(eight...), want: join(eight[1:]...), oldest: "k0"},
			{name: "the ninth, after one that is over", old: join(append([]string{mark(-time.Hour, "a")}, eight[1:]...)...), want: join(eight[1:]...)},
			{name: "text that is none", old: "not\na trail\n\n", want: join()},
			{name: "some that is", old: join("x", mark(time.Hour, "a"), ""), want: join(mark(time.Hour, "a"))},
			{name: "no text", old: 7, want: join()},
		} {
			var old []byte
			if tt.old != nil {
				old = encodedValues(t, c, map[string]any{"trail": tt.old})["trail"]
			}
			before := bytes.Clone(old)
			until := time.Now().Add(2 * time.Hour)
			data, oldest, err := m.extendTrail(old, "new key", until)
			if err != nil {
				t.Fatal(err)
			}
			var got string
			if err := m.decode(data, &got); err != nil {
				t.Fatal(err)
			}
			want := strconv.FormatInt(until.Unix(), 36) + " new key"
			if tt.want != "" {
				want = tt.want + "\n" + want
			}
			// The clock may have gone on by a second since the table was made.
			if !sameMarks(got, want) || oldest != tt.oldest || !bytes.Equal(old, before) {
				t.Errorf("%s, %s: %q, and %q goes; want %q, %q", name, tt.name, got, oldest, want, tt.oldest)
			}
		}
	}
}

// sameMarks compares two trails, but for a few seconds.
func sameMarks(a, b string) bool {
	return slices.EqualFunc(strings.Split(a, "\n"), strings.Split(b, "\n"), func(a, b string) bool {
		ta, a, _ := strings.Cut(a, " ")
		tb, b, _ := strings.Cut(b, " ")
		na, aerr := strconv.ParseInt(ta, 36, 64)
		nb, berr := strconv.ParseInt(tb, 36, 64)
		return a == b && errors.Join(aerr, berr) == nil && max(na-nb, nb-na) < 30
	})
}

// TestStoredContents reads testdata/contents.txt, which has what this version
// stores, and what earlier ones did. Sessions outlive the program that has stored
// them: a later version must read this, so lines may be added, and never changed.
func TestStoredContents(t *testing.T) {
	const (
		key     = "q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQ"
		version = Version("\x00\x01v\xff")
		trail   = "1vuhmo0 AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n1vuhmo1 BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB" // until 2100
	)
	file, err := os.ReadFile("testdata/contents.txt")
	if err != nil {
		t.Fatal(err)
	}
	stored := make(map[string][]byte)
	for line := range strings.Lines(string(file)) {
		what, quoted, ok := strings.Cut(strings.TrimSpace(line), ": ")
		if !ok || strings.HasPrefix(line, "#") {
			continue
		}
		text, err := strconv.Unquote(quoted)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		stored[what] = []byte(text)
	}
	lines := 0
	for name, c := range bothCodecs() {
		m := codecCore(c, 0)
		values := encodedValues(t, c, map[string]any{"cart": []string{"pen", "ink"}, "visits": 3, userName: "ann"})
		marks := encodedValues(t, c, map[string]any{"trail": trail})["trail"]
		with := func(lifetime string) map[string][]byte {
			all := maps.Clone(values)
			maps.Copy(all, encodedValues(t, c, map[string]any{lifetimeName: lifetime}))
			return all
		}
		for what, want := range map[string]contents{
			"empty":                  {},
			"values":                 {values: values},
			"values and idle":        {values: values, used: 90 * time.Minute},
			"values, trail and idle": {values: values, trail: marks, used: 90 * time.Minute},
			"trail":                  {trail: marks},
			"long lifetime":          {values: with("2592000 7776000 persistent"), used: 30 * 24 * time.Hour},
			"short lifetime":         {values: with("0 7200"), used: 2 * time.Hour},
			"values and renewed":     {values: values, renewed: 45 * time.Minute},
		} {
			lines++
			data := stored[name+", "+what]
			got, err := m.split(Record{Data: data})
			if err != nil || !sameContents(got, want) {
				t.Errorf("%s, %s: read %v, %v, want %v", name, what, got, err, want)
			}
			if want.used == 0 {
				want.used = defaultIdle
			}
			if now, err := m.join(want); err != nil || !bytes.Equal(now, data) {
				t.Errorf("%s, %s: is stored now as %q, %v, want %q", name, what, now, err, data)
			}
		}
		for what, want := range map[string]movedError{
			"marker":                       {key: key, version: version},
			"marker of a first login":      {key: key, version: version, kept: encodedValues(t, c, map[string]any{"cart": []string{"pen", "ink"}, "visits": 3})},
			"marker of an earlier version": {key: key},
			"marker of a renewal":          {key: key, version: version, sealed: "rMDEyMzQ1Njc4OWFiY2RlZmdoaWprbG1u"},
			"marker of a login": {
				key: key, version: version, sealed: "lMDEyMzQ1Njc4OWFiY2RlZmdoaWprbG1u",
				kept: encodedValues(t, c, map[string]any{"cart": []string{"pen", "ink"}, "visits": 3}),
			},
		} {
			lines++
			data := stored[name+", "+what]
			_, err := m.split(Record{Data: data})
			got := asMoved(err)
			if got == nil || got.key != want.key || got.version != want.version || got.sealed != want.sealed || !sameValues(got.kept, want.kept) {
				t.Fatalf("%s, %s: read %+v, %v", name, what, got, err)
			}
			if want.version == "" { // nobody writes that any more
				continue
			}
			if now, err := m.joinMarker(want.key, want.version, want.sealed, want.kept); err != nil || !bytes.Equal(now, data) {
				t.Errorf("%s, %s: is stored now as %q, %v, want %q", name, what, now, err, data)
			}
		}
		// The trail is understood, too.
		longer, oldest, err := m.extendTrail(marks, "CCCC", time.Unix(4_102_444_802, 0))
		var text string
		if err = errors.Join(err, m.decode(longer, &text)); err != nil || text != trail+"\n1vuhmo2 CCCC" || oldest != "" {
			t.Errorf("%s: the trail becomes %q, and %q goes, %v", name, text, oldest, err)
		}
	}
	if lines != len(stored) {
		t.Errorf("%d lines, of which %d are read", len(stored), lines)
	}
}

// FuzzSplit: whatever is stored, it is refused or read, and what is read is
// stored again as what it was.
func FuzzSplit(f *testing.F) {
	for _, c := range bothCodecs() {
		m := codecCore(c, 0)
		values := encodedValues(f, c, map[string]any{"note": "x", userName: "ann"})
		trail, err := m.encode("1vuhmo0 AAAA")
		if err != nil {
			f.Fatal(err)
		}
		session, err := m.join(contents{values: values, trail: trail, used: time.Minute, renewed: time.Hour})
		if err != nil {
			f.Fatal(err)
		}
		own := encodedValues(f, c, map[string]any{"note": "x", lifetimeName: "7200 -1 persistent"})
		remembered, err := m.join(contents{values: own, used: 2 * time.Hour})
		if err != nil {
			f.Fatal(err)
		}
		marker, err := m.joinMarker("AAAA", "1", "", values)
		if err != nil {
			f.Fatal(err)
		}
		sealed, err := m.joinMarker("AAAA", "1", seal(sealLogin, newToken(), "AAAA", newToken()), values)
		if err != nil {
			f.Fatal(err)
		}
		_, isJSON := c.(codec.JSON)
		f.Add(isJSON, session)
		f.Add(isJSON, marker)
		f.Add(isJSON, remembered)
		f.Add(isJSON, sealed)
	}
	f.Fuzz(func(t *testing.T, isJSON bool, data []byte) {
		var c Codec = codec.MessagePack{}
		if isJSON {
			c = codec.JSON{}
		}
		m := codecCore(c, 0)
		before := bytes.Clone(data)
		out, err := m.split(Record{Data: data})
		if !bytes.Equal(data, before) {
			t.Fatal("split has changed what it was given")
		}
		if to := asMoved(err); to != nil {
			fuzzMarker(t, m, to)
			return
		}
		if err != nil {
			if !errors.Is(err, ErrDecode) || out.values != nil || out.trail != nil || out.used != 0 {
				t.Fatalf("%v, %v", out, err)
			}
			return
		}
		for _, name := range []string{movedName, trailName, idleName, renewedName} {
			if out.values[name] != nil {
				t.Fatalf("%s is among the values", name)
			}
		}
		if out.used < 0 || out.used%time.Second != 0 {
			t.Fatalf("used %v before", out.used)
		}
		again, err := m.join(out)
		if err != nil {
			t.Fatalf("%v is not joined: %v", out, err)
		}
		if (out.used == defaultIdle || out.used == hourIdle) && out.own.life == nil {
			out.used = 0 // as it is left out
		}
		if now, err := m.split(Record{Data: again}); err != nil || !sameContents(now, out) {
			t.Fatalf("%v became %v, %v", out, now, err)
		}
		if _, _, err := m.extendTrail(out.trail, "new", time.Now().Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
	})
}

func fuzzMarker(t *testing.T, m *core, to *movedError) {
	if to.kept[movedName] != nil || to.kept[versionName] != nil || to.kept[sealedName] != nil {
		t.Fatal("what it keeps has where it leads")
	}
	again, err := m.joinMarker(to.key, to.version, to.sealed, to.kept)
	if err != nil {
		t.Fatal(err)
	}
	_, err = m.split(Record{Data: again})
	if now := asMoved(err); now == nil || now.key != to.key || now.version != to.version || now.sealed != to.sealed || !sameValues(now.kept, to.kept) {
		t.Fatalf("%q, %q, %q became %v", to.key, to.version, to.kept, now)
	}
}
