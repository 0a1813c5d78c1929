package session_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/memory"
)

type benchItem struct {
	SKU   string  `msgpack:"sku"`
	Name  string  `msgpack:"name"`
	Qty   int     `msgpack:"qty"`
	Price float64 `msgpack:"price"`
}

// benchValues has a small session, and a session of about 700 bytes, such as
// that of a shop.
func benchValues() map[string]map[string]any {
	cart := make([]benchItem, 10)
	for i := range cart {
		cart[i] = benchItem{fmt.Sprintf("SKU-%04d", i), fmt.Sprintf("Product %d", i), i%3 + 1, 9.99 + float64(i)}
	}
	return map[string]map[string]any{
		"small": {"user": "u-12345678", "csrf": "abcdefghijklmnop", "n": 1},
		"typical": {
			"user": "u-12345678", "roles": []string{"admin", "editor", "viewer"}, "csrf": "abcdefghijklmnopqrstuvwxyz012345",
			"flash": "Your changes have been saved.", "login": time.Unix(1700000000, 0), "n": 1, "cart": cart,
		},
	}
}

// BenchmarkRequest measures one request through the handler chain of net/http to
// a store in memory. "none" is the chain without sessions.
func BenchmarkRequest(b *testing.B) {
	run := func(b *testing.B, h http.Handler, token string) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				r := httptest.NewRequest("GET", "/", nil)
				if token != "" {
					r.Header.Set("Cookie", "__Host-session="+token)
				}
				w := httptest.NewRecorder()
				h.ServeHTTP(w, r)
				if w.Code != http.StatusOK {
					b.Fatal(w.Code)
				}
			}
		})
	}
	page := []byte("ok")
	b.Run("none", func(b *testing.B) {
		run(b, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write(page) }), "")
	})
	n := session.Key[int]{Name: "n"}
	user := session.Key[string]{Name: "user"}
	for _, size := range []string{"small", "typical"} {
		values := benchValues()[size]
		var store memory.Backend
		m := newManager(b, &store, session.Config{})
		handler := func(f func(s *session.Session) error) http.Handler {
			return m.HandlerFunc(func(w http.ResponseWriter, _ *http.Request, s *session.Session) error {
				if err := f(s); err != nil {
					return err
				}
				_, _ = w.Write(page)
				return nil
			})
		}
		b.Run("read/"+size, func(b *testing.B) {
			run(b, handler(func(s *session.Session) error { _, err := user.Get(s); return err }), begin(b, m, values))
		})
		b.Run("write/"+size, func(b *testing.B) {
			b.SetParallelism(1)
			token := begin(b, m, values)
			h := handler(func(s *session.Session) error { return errOf(n.Update(s, inc)) })
			b.ReportAllocs()
			for b.Loop() { // one writer: this does not measure contention
				r := httptest.NewRequest("GET", "/", nil)
				r.Header.Set("Cookie", "__Host-session="+token)
				w := httptest.NewRecorder()
				h.ServeHTTP(w, r)
				if w.Code != http.StatusOK {
					b.Fatal(w.Code)
				}
			}
		})
		b.Run("new/"+size, func(b *testing.B) {
			run(b, handler(func(s *session.Session) error {
				for name, v := range values {
					if err := s.Set(name, v); err != nil {
						return err
					}
				}
				return nil
			}), "")
		})
	}
}
