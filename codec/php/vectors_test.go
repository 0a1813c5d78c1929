package php_test

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/seed-a7bee19b/session/codec/php"
)

// vectors are what PHP has made of some sessions, and what it says of some blobs.
type vectors struct {
	Encode []struct {
		Name     string
		Handlers map[string]struct {
			OK     bool   `json:"encode_ok"`
			Stored string `json:"handed_to_save_handler"`
			Typed  typed  `json:"typed"`
		}
	}
	Decode []verdict
}

type verdict struct {
	Handler string
	Hex     string
	OK      bool `json:"decode_ok"`
}

// typed is a value as PHP has read it back.
type typed struct {
	T     string
	V     json.RawMessage
	Hex   string
	Bits  string
	Class string
	Case  string
	Props []struct {
		Name  string `json:"name_hex"`
		Value typed
	}
}

func readVectors(t testing.TB) (v vectors) {
	t.Helper()
	data, err := os.ReadFile("testdata/vectors.json.gz")
	if err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.NewDecoder(z).Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

func unhex(t testing.TB, s string) string {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// handlers are the codecs by the name of their handler.
var handlers = map[string]php.Codec{"php": {}, "php_binary": {Handler: php.Binary}, "php_serialize": {Handler: php.Serialize}}

func split(t testing.TB, c php.Codec, data string) map[string][]byte {
	t.Helper()
	values, err := c.Split([]byte(data))
	if err != nil {
		t.Fatalf("Split of %q: %v", data, err)
	}
	return values
}

// TestVectors checks that Join makes the blobs of PHP again from what Split makes of
// them, byte for byte, and that values are read as PHP reads them.
func TestVectors(t *testing.T) {
	blobs, values, untouched := 0, 0, 0
	for _, e := range readVectors(t).Encode {
		for handler, x := range e.Handlers {
			c := handlers[handler]
			data, err := base64.StdEncoding.DecodeString(x.Stored)
			if err != nil {
				t.Fatal(err)
			}
			got, err := c.Split(data)
			if err != nil {
				t.Errorf("%s, %s: Split: %v", e.Name, handler, err)
				continue
			}
			if again, err := c.Join(got); err != nil || !bytes.Equal(again, data) {
				t.Errorf("%s, %s: Join made %.200q, %v; want %.200q", e.Name, handler, again, err, data)
			}
			blobs++
			if !x.OK || x.Typed.T == "" { // PHP gave up, or what it has read back is not recorded
				continue
			}
			delete(got, "_session.order")
			var pairs [][2]typed
			if err := json.Unmarshal(x.Typed.V, &pairs); err != nil {
				t.Fatal(err)
			}
			if len(pairs) != len(got) {
				t.Errorf("%s, %s: %d values, want %d", e.Name, handler, len(got), len(pairs))
			}
			for _, pair := range pairs {
				name := unhex(t, pair[0].Hex)
				values++
				if bytes.Contains(data, got[name]) {
					untouched++
				}
				var v any
				err := c.Unmarshal(got[name], &v)
				if strings.HasPrefix(e.Name, "object-cycle") {
					if err == nil {
						t.Errorf("%s, %s, %q: it contains itself, and Unmarshal made %v of it", e.Name, handler, name, v)
					}
					continue
				}
				if err != nil {
					t.Errorf("%s, %s, %q: Unmarshal: %v", e.Name, handler, name, err)
				} else if err := agrees(t, v, pair[1]); err != nil {
					t.Errorf("%s, %s, %q: %v", e.Name, handler, name, err)
				}
				// Set again, it is the same, unless it has references, or its floats have
				// more digits than they need.
				again, err := c.Marshal(v)
				if !strings.Contains(e.Name, "ref-") && e.Name != "floats-precision17" && !sameValue(t, c, again, got[name]) {
					t.Errorf("%s, %s, %q: set again, it is %.100q, %v; want %.100q", e.Name, handler, name, again, err, got[name])
				}
			}
		}
	}
	if blobs != 51 || values != 150 || untouched != 146 {
		t.Errorf("tested %d blobs and %d values, of which Split has left %d as they were", blobs, values, untouched)
	}
	t.Logf("all of %d blobs byte for byte; %d of %d values are the bytes of PHP", blobs, untouched, values)
}

// sameValue reports whether a and b are the same value, but for the order of the keys.
func sameValue(t *testing.T, c php.Codec, a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	var x, y any
	if c.Unmarshal(a, &x) != nil || c.Unmarshal(b, &y) != nil {
		return false
	}
	return fmt.Sprintf("%#v", x) == fmt.Sprintf("%#v", y)
}

// agrees compares a value with that of PHP.
func agrees(t *testing.T, v any, want typed) error {
	t.Helper()
	var text string
	_ = json.Unmarshal(want.V, &text)
	same := false
	switch want.T {
	case "null":
		same = v == nil
	case "bool":
		b, ok := v.(bool)
		same = ok && strconv.FormatBool(b) == string(want.V)
	case "int":
		n, ok := v.(int64)
		same = ok && strconv.FormatInt(n, 10) == text
	case "float":
		f, ok := v.(float64)
		bits, err := strconv.ParseUint(want.Bits, 16, 64)
		same = ok && err == nil && (math.Float64bits(f) == bits || math.IsNaN(f) && math.IsNaN(math.Float64frombits(bits)))
	case "string":
		s, ok := v.(string)
		same = ok && (s == unhex(t, want.Hex))
	case "enum":
		same = v == php.Enum{Class: want.Class, Case: want.Case}
	case "array":
		return arrayAgrees(t, v, want)
	case "object":
		switch o := v.(type) {
		case php.Opaque:
			same = o.Class == want.Class && string(o.Data) == "raw:payload"
		case php.Object:
			same = o.Class == want.Class
			switch {
			case !same || want.Class == "Magic" || strings.HasPrefix(want.Class, "Date"): // their methods make other properties
			case len(o.Fields) != len(want.Props):
				same = false
			default:
				for i, p := range want.Props {
					if o.Fields[i].Name != unhex(t, p.Name) {
						same = false
					} else if err := agrees(t, o.Fields[i].Value, p.Value); err != nil {
						return err
					}
				}
			}
		}
	}
	if !same {
		return fmt.Errorf("%#.100v, want %.100q", v, fmt.Sprint(want))
	}
	return nil
}

func arrayAgrees(t *testing.T, v any, want typed) error {
	var pairs [][2]typed
	if err := json.Unmarshal(want.V, &pairs); err != nil {
		return err
	}
	all := map[string]any{}
	switch v := v.(type) {
	case []any:
		for i, x := range v {
			all[strconv.Itoa(i)] = x
		}
	case map[string]any:
		all = v
	default:
		return fmt.Errorf("%T for an array", v)
	}
	if len(all) != len(pairs) {
		return fmt.Errorf("%d elements, want %d", len(all), len(pairs))
	}
	for _, pair := range pairs {
		name := unhex(t, pair[0].Hex)
		if pair[0].T == "int" {
			_ = json.Unmarshal(pair[0].V, &name)
		}
		if err := agrees(t, all[name], pair[1]); err != nil {
			return fmt.Errorf("%q: %w", name, err)
		}
	}
	return nil
}

// stricter are blobs that PHP reads and Split refuses, by handler and data.
var stricter = map[string]string{
	"php a|S:3:\"\\61bc\";":         "PHP writes no escaped strings",
	"php a|i:99999999999999999999;": "PHP reads another number than is written, with a warning",
	"php a|i:+5;b|i:007;":           "PHP writes numbers in their shortest form",
	"php_binary \x81ai:1;":          "PHP writes no name with the top bit of its length set",
	"php_serialize i:5;":            "a session that is no array; PHP makes $_SESSION an integer",
}

// TestVerdicts compares what Split refuses with what PHP does.
func TestVerdicts(t *testing.T) {
	agree := 0
	seen := map[string]bool{}
	for _, v := range readVectors(t).Decode {
		data := unhex(t, v.Hex)
		_, err := handlers[v.Handler].Split([]byte(data))
		reason, ok := stricter[v.Handler+" "+data]
		switch {
		case ok && v.OK && err != nil:
			seen[v.Handler+" "+data] = true
			t.Logf("%s %q: stricter than PHP: %s", v.Handler, data, reason)
		case (err == nil) != v.OK:
			t.Errorf("%s %q: %v; PHP takes it: %v", v.Handler, data, err, v.OK)
		default:
			agree++
		}
	}
	for name := range stricter {
		if !seen[name] {
			t.Errorf("%q is not among the verdicts, or Split takes it", name)
		}
	}
	t.Logf("%d verdicts are those of PHP, and %d are stricter", agree, len(seen))
}
