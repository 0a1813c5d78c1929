package main

import (
	"context"
	"encoding/gob"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"
)

// item is a line of the cart in the typical session.
type item struct {
	SKU   string  `msgpack:"sku"`
	Name  string  `msgpack:"name"`
	Qty   int     `msgpack:"qty"`
	Price float64 `msgpack:"price"`
}

// The sizes of a session.
const (
	small   = "small"   // 3 values
	typical = "typical" // 7 values, one a cart of 10 items: about 700 bytes in MessagePack
)

var sizes = []string{small, typical}

// values has the values of a session.
func values(size string) map[string]any {
	cart := make([]item, 10)
	for i := range cart {
		cart[i] = item{fmt.Sprintf("SKU-%04d", i), fmt.Sprintf("Product %d", i), i%3 + 1, 9.99 + float64(i)}
	}
	if size == small {
		return map[string]any{"user": "u-12345678", "csrf": "abcdefghijklmnop", "n": 1}
	}
	return map[string]any{
		"user": "u-12345678", "roles": []string{"admin", "editor", "viewer"}, "csrf": "abcdefghijklmnopqrstuvwxyz012345",
		"flash": "Your changes have been saved.", "login": time.Unix(1700000000, 0), "n": 1, "cart": cart,
	}
}

// unique has the values of a small session with strings of its own, so that a
// store that keeps Go values does not share their bytes.
func unique() map[string]any {
	return map[string]any{"user": fmt.Sprintf("u-%08d", rand.IntN(1e8)), "csrf": fmt.Sprintf("%016x", rand.Uint64()), "n": 1}
}

func init() { // encoding/gob offers no other way
	gob.Register([]item{})
	gob.Register([]string{})
	gob.Register(time.Time{})
}

// work is the work of one request.
type work string

const (
	read  work = "read one value"
	write work = "write one value"
	fresh work = "new session"
)

var works = []work{read, write, fresh}

// kind is a way to make requests.
type kind int

const (
	whole kind = iota // from a new request to a recorded response, with package httptest
	lean              // a reused request and response writer: the handler, and little else
)

// running is a subject that serves: a library with a store.
type running struct {
	// caller returns a function that makes one request, for one goroutine,
	// with a session of its own.
	caller func(w work, k kind) (func() error, error)
	close  func() error
}

var page = []byte("ok")

// caller makes requests to handlers of net/http.
func caller(ctx context.Context, handlers map[work]http.Handler) func(work, kind) (func() error, error) {
	return func(w work, k kind) (func() error, error) {
		cookie := ""
		if w != fresh {
			var err error
			if cookie, err = cookieOf(ctx, handlers[fresh]); err != nil {
				return nil, err
			}
		}
		if k == lean {
			return leanly(ctx, handlers[w], cookie), nil
		}
		return withCookie(ctx, handlers[w], cookie), nil
	}
}

// leanly is withCookie without package httptest, whose 18 objects and 6 KB a
// request keep the collector busier than most handlers do.
func leanly(ctx context.Context, h http.Handler, cookie string) func() error {
	base := httptest.NewRequestWithContext(ctx, http.MethodGet, "/", nil)
	if cookie != "" {
		base.Header.Set("Cookie", cookie)
	}
	w := &sink{header: http.Header{}}
	return func() error {
		r := *base // some handlers change it
		clear(w.header)
		w.code = http.StatusOK
		h.ServeHTTP(w, &r)
		if w.code != http.StatusOK {
			return fmt.Errorf("status %d", w.code)
		}
		return nil
	}
}

// sink discards a response.
type sink struct {
	header http.Header
	code   int
}

func (w *sink) Header() http.Header         { return w.header }
func (w *sink) WriteHeader(code int)        { w.code = code }
func (w *sink) Write(p []byte) (int, error) { return len(p), nil }

// withCookie makes a request with a cookie, which may be "", and the context
// ctx.
func withCookie(ctx context.Context, h http.Handler, cookie string) func() error {
	return func() error {
		r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/", nil)
		if cookie != "" {
			r.Header.Set("Cookie", cookie)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != http.StatusOK {
			return fmt.Errorf("status %d", w.Code)
		}
		return nil
	}
}

// cookieOf returns the "name=value" that a handler sets when it begins a session.
func cookieOf(ctx context.Context, h http.Handler) (string, error) {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(ctx, http.MethodGet, "/", nil))
	cookie, _, _ := strings.Cut(w.Header().Get("Set-Cookie"), ";")
	if cookie == "" {
		return "", fmt.Errorf("a new session: status %d, and no cookie", w.Code)
	}
	return cookie, nil
}
