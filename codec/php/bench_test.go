package php_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/codec"
	"github.com/seed-a7bee19b/session/codec/php"
)

type article struct {
	SKU   string  `php:"sku" json:"sku"`
	Name  string  `php:"name" json:"name"`
	Qty   int     `php:"qty" json:"qty"`
	Price float64 `php:"price" json:"price"`
}

// typical returns the values of a typical session, those of the benchmarks of package
// codec.
func typical() map[string]any {
	cart := make([]article, 10)
	for i := range cart {
		cart[i] = article{fmt.Sprintf("SKU-%04d", i), fmt.Sprintf("Article %d", i), 1 + i, 9.95 + float64(i)}
	}
	return map[string]any{
		"user_id": "usr_01HV6Z8K3Q", "roles": []string{"admin", "editor", "viewer"}, "csrf": "Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6cXV4",
		"flash": "Your changes were saved.", "login": time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC), "counter": 42, "cart": cart,
	}
}

// benched are the codecs by name. In the last, values are not in the order of their
// names, as in most sessions of PHP.
var benched = []struct {
	name     string
	codec    session.Codec
	unsorted bool
}{
	{"MessagePack", codec.MessagePack{}, false}, {"php", php.Codec{}, false}, {"php_binary", php.Codec{Handler: php.Binary}, false},
	{"php_serialize", php.Codec{Handler: php.Serialize}, false}, {"php_unsorted", php.Codec{}, true},
}

func benchValues(b *testing.B, c session.Codec, unsorted bool) (values map[string][]byte, blob []byte) {
	b.Helper()
	values = map[string][]byte{}
	for name, v := range typical() {
		data, err := c.Marshal(v)
		if err != nil {
			b.Fatal(err)
		}
		values[name] = data
	}
	if unsorted {
		values["_session.order"] = fmt.Appendf(nil, "s:%d:%q;", len("7:user_id5:login4:csrf4:cart5:roles5:flash7:counter"), "7:user_id5:login4:csrf4:cart5:roles5:flash7:counter")
	}
	blob, err := c.Join(values)
	if err != nil {
		b.Fatal(err)
	}
	return values, blob
}

func BenchmarkSplit(b *testing.B) {
	for _, c := range benched {
		b.Run(c.name, func(b *testing.B) {
			_, blob := benchValues(b, c.codec, c.unsorted)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.codec.Split(blob); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(len(blob)), "B/blob")
		})
	}
}

func BenchmarkJoin(b *testing.B) {
	for _, c := range benched {
		b.Run(c.name, func(b *testing.B) {
			values, _ := benchValues(b, c.codec, c.unsorted)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.codec.Join(values); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkCart(b *testing.B) {
	cart := typical()["cart"].([]article)
	for _, c := range benched[:2] {
		data, err := c.codec.Marshal(cart)
		if err != nil {
			b.Fatal(err)
		}
		b.Run("Marshal/"+c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.codec.Marshal(cart); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("Unmarshal/"+c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				var v []article
				if err := c.codec.Unmarshal(data, &v); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("Unmarshal/any/"+c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				var v any
				if err := c.codec.Unmarshal(data, &v); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
