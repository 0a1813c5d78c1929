package cost

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// ParseMix reads weights, as in "read=80,write=15,new=5". What is not named
// has none.
func ParseMix(s string) (Mix, error) {
	var m Mix
	seen := map[string]bool{}
	err := pairs(s, func(name, value string) error {
		for _, f := range m.fields() {
			if f.name != name {
				continue
			}
			if seen[name] {
				return fmt.Errorf("%q appears twice", name)
			}
			seen[name] = true
			var err error
			*f.weight, err = weight(value)
			return err
		}
		var names []string
		for _, f := range m.fields() {
			names = append(names, f.name)
		}
		return fmt.Errorf("unknown kind %q; there are %s", name, strings.Join(names, ", "))
	})
	if err == nil && m.sum() == 0 {
		err = fmt.Errorf("the weights must add up to more than 0")
	}
	if err != nil {
		return Mix{}, fmt.Errorf("cost: mix %q: %w", s, err)
	}
	return m, nil
}

// String returns the text that ParseMix reads.
func (m Mix) String() string {
	var parts []string
	for _, f := range m.fields() {
		if *f.weight != 0 {
			parts = append(parts, f.name+"="+number(*f.weight))
		}
	}
	return strings.Join(parts, ",")
}

// ParseSizes reads the bytes of encoded sessions: one size, as in "700", or
// several with weights, as in "300=60,2000=40".
func ParseSizes(s string) ([]SizeClass, error) {
	var sizes []SizeClass
	var sum float64
	err := pairs(s, func(name, value string) error {
		bytes, err := strconv.ParseUint(name, 10, 32)
		if err != nil || bytes > maxData {
			return fmt.Errorf("%q is not a size from 0 to %d bytes", name, maxData)
		}
		c := SizeClass{Data: int(bytes), Weight: 1}
		if value != "" {
			if c.Weight, err = weight(value); err != nil {
				return err
			}
		} else if strings.Contains(s, ",") {
			return fmt.Errorf("%q has no weight", name)
		}
		sum += c.Weight
		sizes = append(sizes, c)
		return nil
	})
	if err == nil && sum == 0 {
		err = fmt.Errorf("the weights must add up to more than 0")
	}
	if err != nil {
		return nil, fmt.Errorf("cost: sizes %q: %w", s, err)
	}
	return sizes, nil
}

func pairs(s string, f func(name, value string) error) error {
	for part := range strings.SplitSeq(s, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		if err := f(strings.TrimSpace(name), strings.TrimSpace(value)); err != nil {
			return err
		}
	}
	return nil
}

func weight(s string) (float64, error) {
	w, err := strconv.ParseFloat(s, 64)
	if err != nil || !isWeight(w) {
		return 0, fmt.Errorf("%q is not a weight; use 0, or a number from %g to %g", s, leastWeight, mostWeight)
	}
	return w, nil
}

func number(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }

// short is d without the zeros that time.Duration writes.
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
