package codec_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// secret must not occur in any error; it is also a number.
const secret = "4711471147114711471147"

type (
	telling   string // its methods return errors that contain it
	shouting  string // they panic
	strictDay struct{ Day weekday }
)

func (t telling) MarshalText() ([]byte, error) {
	if t == secret {
		return nil, fmt.Errorf("cannot encode %q", string(t))
	}
	return []byte(t), nil
}

func (t *telling) UnmarshalText(b []byte) error { return &tellingError{string(b)} }
func (s shouting) MarshalText() ([]byte, error) {
	if s == secret {
		panic(string(s))
	}
	return []byte(s), nil
}
func (s *shouting) UnmarshalText(b []byte) error { panic(tellingError{string(b)}) }

type tellingError struct{ text string }

func (e tellingError) Error() string { return "bad text: " + e.text }

// TestQuietErrors checks that no error contains a part of a value, in any way to
// print it, and that the wrapped error can be reached.
func TestQuietErrors(t *testing.T) {
	check := func(what string, err error) {
		t.Helper()
		if err == nil {
			t.Errorf("%s: no error", what)
			return
		}
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
			if text := fmt.Sprintf(verb, err); strings.Contains(text, secret[:8]) {
				t.Errorf("%s: %s prints %s", what, verb, text)
			}
		}
	}
	for _, c := range coders {
		for _, v := range []any{
			telling(secret), shouting(secret), []telling{secret}, map[string]any{secret: telling(secret)}, map[telling]int{secret: 1},
			mixed{secret, secret}, stamped{time.Now(), secret}, map[string]any{secret: make(chan int)}, map[string]any{secret: stamped{time.Now(), secret}},
			json.Number(secret + "x"), json.RawMessage(secret + secret + "x"), secret + strings.Repeat("x", 5<<20),
			map[upperKey]stamped{secret: {Title: secret}}, []any{[]any{secret, func() {}}},
		} {
			if _, err := c.Marshal(v); err != nil || c.name == "JSON" {
				check(fmt.Sprintf("%s: Marshal(%T)", c.name, v), err)
			}
		}
		for _, tt := range []struct{ in, target any }{
			{secret, new(int)}, {secret, new(telling)}, {secret, new(shouting)}, {secret, new(time.Time)}, {secret, new(weekday)}, {secret, new(netip.Addr)},
			{secret, new([]int)}, {secret, new(item)}, {map[string]string{secret: secret}, new(map[string]int)}, {map[string]string{secret: secret}, new(map[int]string)},
			{map[string]string{"sku": secret, "qty": secret}, new(item)}, {map[string]string{"Day": secret}, new(strictDay)},
			{[]string{secret}, new([]weekday)}, {map[string]int{secret: 1}, new(map[weekday]int)}, {[]any{secret, secret}, new([1]time.Time)},
			{uint64(4711471147114711471), new(int8)}, {map[string]int{"qty": 4711471147114711471}, new(map[string]int8)}, {-4711471147114711471, new(uint)},
			{4711471147114711471, new(json.Number)}, {secret, new(json.Number)}, {secret, new([]byte)}, {4711471147114711471.5, new(int)}, {4711471147114711471, new(float32)},
		} {
			data, err := c.Marshal(tt.in)
			if err != nil {
				t.Fatal(err)
			}
			err = c.Unmarshal(data, tt.target)
			if err == nil {
				continue // it fits in one of the codecs
			}
			check(fmt.Sprintf("%s: Unmarshal of a %T into %T", c.name, tt.in, tt.target), err)
			switch tt.target.(type) {
			case *telling, *shouting:
				var pointer *tellingError
				var value tellingError
				if !errors.As(err, &pointer) && !errors.As(err, &value) {
					t.Errorf("%s: the cause cannot be reached in %v", c.name, err)
				}
			}
		}
		one, err := c.Marshal(secret)
		if err != nil {
			t.Fatal(err)
		}
		blob, err := c.Join(map[string][]byte{secret: one})
		if err != nil {
			t.Fatal(err)
		}
		for n := range blob {
			_, err := c.Split(blob[:n])
			check(fmt.Sprintf("%s: Split", c.name), err)
		}
		for n := range one {
			check(fmt.Sprintf("%s: Unmarshal of a part", c.name), c.Unmarshal(one[:n], new(string)))
		}
		_, err = c.Join(map[string][]byte{secret + "\xff": one})
		check(fmt.Sprintf("%s: Join", c.name), err)
		_, err = c.Join(map[string][]byte{secret: append(one, one...)})
		check(fmt.Sprintf("%s: Join", c.name), err)
	}
}
