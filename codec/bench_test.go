package codec_test

import (
	"reflect"
	"testing"
)

func BenchmarkSplit(b *testing.B) {
	for _, c := range coders {
		b.Run(c.name, func(b *testing.B) {
			blob, err := c.Join(encoded(b, c, typical()))
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.Split(blob); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(len(blob)), "B/blob")
		})
	}
}

func BenchmarkJoin(b *testing.B) {
	for _, c := range coders {
		b.Run(c.name, func(b *testing.B) {
			values := encoded(b, c, typical())
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.Join(values); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// benched are the values of the typical session that stand for a scalar, a small
// slice, and all values of a session.
var benched = []string{"user_id", "counter", "roles", "login", "cart"}

func BenchmarkMarshal(b *testing.B) {
	values := typical()
	for _, c := range coders {
		for _, key := range benched {
			b.Run(c.name+"/"+key, func(b *testing.B) {
				v := values[key]
				b.ReportAllocs()
				for b.Loop() {
					if _, err := c.Marshal(v); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
		b.Run(c.name+"/map", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.Marshal(values); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkUnmarshal(b *testing.B) {
	values := typical()
	for _, c := range coders {
		data := encoded(b, c, values)
		for _, key := range benched {
			b.Run(c.name+"/"+key, func(b *testing.B) {
				t := reflect.TypeOf(values[key])
				b.ReportAllocs()
				for b.Loop() {
					if err := c.Unmarshal(data[key], reflect.New(t).Interface()); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
		b.Run(c.name+"/any", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				var v any
				if err := c.Unmarshal(data["cart"], &v); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
