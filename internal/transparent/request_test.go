package transparent

import (
	"context"
	"crypto/tls"
	"io"
	"maps"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
)

type ctxKey struct{}

func lendTo(r *http.Request) *http.Request {
	return Lend(context.WithValue(r.Context(), ctxKey{}, "inside"), r)
}

// TestLend: the handlers have another context, and everything else as it is.
func TestLend(t *testing.T) {
	r := httptest.NewRequest("POST", "/a?b=c", strings.NewReader("x"))
	r.Pattern = "/a"
	r.SetPathValue("id", "7")
	before := *r
	lent := lendTo(r)
	if lent == r || lent.Context().Value(ctxKey{}) != "inside" || r.Context().Value(ctxKey{}) != nil {
		t.Error("both have one context")
	}
	for i := range reflect.TypeFor[http.Request]().NumField() {
		f := reflect.TypeFor[http.Request]().Field(i)
		if !f.IsExported() {
			continue
		}
		is, was := reflect.ValueOf(lent).Elem().Field(i), reflect.ValueOf(&before).Elem().Field(i)
		if !same(is, was) || !same(reflect.ValueOf(r).Elem().Field(i), was) {
			t.Errorf("%s is another", f.Name)
		}
	}
	if lent.PathValue("id") != "7" {
		t.Error("it has lost its path value")
	}
}

// same compares two fields of requests, maps and pointers by what they point to.
func same(a, b reflect.Value) bool {
	switch a.Kind() {
	case reflect.Map, reflect.Pointer, reflect.Chan, reflect.Func:
		return a.Pointer() == b.Pointer()
	}
	return reflect.DeepEqual(a.Interface(), b.Interface())
}

// TestLendTrailers: trailers that were not announced come into the server's own
// request, and the handlers see them.
func TestLendTrailers(t *testing.T) {
	for _, tt := range []struct {
		name     string
		encoding []string
		trailer  http.Header
		shared   bool
	}{
		{"no body", nil, nil, false},
		{"a body in chunks", []string{"chunked"}, nil, true},
		{"announced", []string{"chunked"}, http.Header{"X-Sum": nil}, true},
	} {
		r := httptest.NewRequest("POST", "/", nil)
		r.TransferEncoding, r.Trailer = tt.encoding, tt.trailer
		lent := lendTo(r)
		if (r.Trailer != nil) != tt.shared || (lent.Trailer != nil) != tt.shared {
			t.Errorf("%s: trailers %v, lent %v", tt.name, r.Trailer, lent.Trailer)
		}
		if tt.shared {
			r.Trailer.Set("X-Sum", "7")
			if lent.Trailer.Get("X-Sum") != "7" {
				t.Errorf("%s: the trailer is lost", tt.name)
			}
		}
	}
}

// What handlers, routers and middleware inside may do to a request, by the field;
// nil for fields that are left as they are: of these the server has no use.
var toRequests = map[string]func(r *http.Request){
	"Method":        func(r *http.Request) { r.Method = "PUT" },
	"URL":           func(r *http.Request) { r.URL = &url.URL{Path: "/stripped"} },
	"Header":        func(r *http.Request) { r.Header = http.Header{"X-New": {"1"}} },
	"Body":          func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader("other")) },
	"ContentLength": func(r *http.Request) { r.ContentLength = 5 },
	"Close":         func(r *http.Request) { r.Close = true },
	"Host":          func(r *http.Request) { r.Host = "other.example" },
	"Form":          func(r *http.Request) { r.Form = url.Values{"a": {"1"}} },
	"PostForm":      func(r *http.Request) { r.PostForm = url.Values{"b": {"2"}} },
	"MultipartForm": func(r *http.Request) { r.MultipartForm = &multipart.Form{} },
	"Trailer":       func(r *http.Request) { r.Trailer = http.Header{"X-Sum": {"7"}} },
	"RemoteAddr":    func(r *http.Request) { r.RemoteAddr = "192.0.2.7:1" },
	"RequestURI":    func(r *http.Request) { r.RequestURI = "/other" },
	"Pattern":       func(r *http.Request) { r.Pattern = "/other" },
	"Proto":         nil, "ProtoMajor": nil, "ProtoMinor": nil, "TransferEncoding": nil, "TLS": nil, "Cancel": nil, "Response": nil, "GetBody": nil,
}

// TestGiveBack: what the handlers have made of the request is that of the server
// and of middleware outside, field by field.
func TestGiveBack(t *testing.T) {
	typ := reflect.TypeFor[http.Request]()
	for i := range typ.NumField() {
		field := typ.Field(i)
		if !field.IsExported() {
			continue
		}
		do, known := toRequests[field.Name]
		if !known {
			t.Errorf("what is to become of %s?", field.Name) // a new version of Go has it
		}
		if do == nil {
			continue
		}
		t.Run(field.Name, func(t *testing.T) {
			r := httptest.NewRequest("POST", "/", strings.NewReader("x"))
			r.TLS = &tls.ConnectionState{}
			before, ctx := *r, r.Context()
			lent := lendTo(r)
			do(lent)
			if same(reflect.ValueOf(lent).Elem().Field(i), reflect.ValueOf(r).Elem().Field(i)) {
				t.Fatal("nothing was done")
			}
			GiveBack(r, lent)
			for j := range typ.NumField() {
				if !typ.Field(j).IsExported() {
					continue
				}
				want := reflect.ValueOf(&before).Elem().Field(j)
				if j == i {
					want = reflect.ValueOf(lent).Elem().Field(j)
				}
				if !same(reflect.ValueOf(r).Elem().Field(j), want) {
					t.Errorf("%s is %v, want %v", typ.Field(j).Name, reflect.ValueOf(r).Elem().Field(j), want)
				}
			}
			if r.Context() != ctx {
				t.Error("it has the context of the handlers")
			}
		})
	}
}

// TestGiveBackNothing: what was not changed is not written, as somebody may be
// reading it. The race detector looks.
func TestGiveBackNothing(t *testing.T) {
	r := httptest.NewRequest("POST", "/?a=1", strings.NewReader("b=2"))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if err := r.ParseForm(); err != nil {
		t.Fatal(err)
	}
	r.TransferEncoding = []string{"chunked"}
	r.Pattern = "/{id}"
	r.SetPathValue("id", "7")
	lent := lendTo(r)
	var wg sync.WaitGroup
	start := make(chan struct{})
	wg.Add(1)
	go func() {
		defer wg.Done()
		<-start
		got := []any{r.Method, r.URL.Path, r.Header.Get("Content-Type"), r.ContentLength, r.Close, r.Host, r.Form.Get("a"), r.PostForm.Get("b"),
			r.MultipartForm == nil, r.Trailer != nil, r.RemoteAddr != "", r.RequestURI, r.Pattern, r.PathValue("id")}
		want := []any{"POST", "/", "application/x-www-form-urlencoded", int64(3), false, "example.com", "1", "2", true, true, true, "/?a=1", "/{id}", "7"}
		if !slices.Equal(got, want) {
			t.Errorf("read %v, want %v", got, want)
		}
	}()
	close(start)
	GiveBack(r, lent)
	wg.Wait()
}

// TestGiveBackUncomparable: a body need not be comparable.
func TestGiveBackUncomparable(t *testing.T) {
	r := httptest.NewRequest("POST", "/", strings.NewReader("x"))
	r.Body = body{}
	lent := lendTo(r)
	GiveBack(r, lent)
	lent.Body = body{"other"}
	GiveBack(r, lent)
	if b, ok := r.Body.(body); !ok || len(b) != 1 {
		t.Errorf("the body is %v", r.Body)
	}
}

type body []string

func (body) Read([]byte) (int, error) { return 0, io.EOF }
func (body) Close() error             { return nil }

// TestGiveBackPathValues: middleware outside sees what a router inside has found
// in the path.
func TestGiveBackPathValues(t *testing.T) {
	for _, tt := range []struct {
		name    string
		outer   string            // the pattern of a ServeMux outside
		inner   string            // and of one inside; "" if that is the router of somebody else
		pattern string            // which leaves this one
		values  map[string]string // and these
		want    map[string]string
	}{
		{name: "inside alone", inner: "/a/{id}/{rest...}", want: map[string]string{"id": "7", "rest": "b/c"}},
		{name: "inside as outside", outer: "/a/{id}/", inner: "/a/{id}/{rest...}", want: map[string]string{"id": "7", "rest": "b/c"}},
		{name: "another name", outer: "/a/{user}/", inner: "/a/{id}/", want: map[string]string{"id": "7", "user": ""}},
		{name: "with a method and a host", outer: "example.com/{x}/", inner: "GET example.com/a/{id}/b/c", want: map[string]string{"id": "7", "x": ""}},
		{name: "the end of a path", inner: "/a/7/b/c/{$}", want: map[string]string{"$": ""}},
		{name: "no router inside", outer: "/a/{id}/", pattern: "/a/{id}/", want: map[string]string{"id": "7"}},
		{name: "a router with expressions", pattern: "/a/{id:[0-9]+}/*", values: map[string]string{"id": "7", "*": "b/c"}, want: map[string]string{"id": "7", "*": "b/c"}},
		{name: "in place of one outside", outer: "/a/{id}/", pattern: "/{kind}/{id}/*", values: map[string]string{"kind": "a", "id": "seven", "*": "b/c"},
			want: map[string]string{"kind": "a", "id": "seven", "*": "b/c"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var pattern string
			handler := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				lent := lendTo(r)
				inside := http.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
					for name, v := range tt.values {
						r.SetPathValue(name, v)
					}
					if tt.pattern != "" {
						r.Pattern = tt.pattern
					}
				}))
				if tt.inner != "" {
					mux := http.NewServeMux()
					mux.Handle(tt.inner, inside)
					inside = mux
				}
				inside.ServeHTTP(httptest.NewRecorder(), lent)
				GiveBack(r, lent)
				pattern = lent.Pattern
			})
			outside := http.Handler(handler)
			if tt.outer != "" {
				mux := http.NewServeMux()
				mux.Handle(tt.outer, handler)
				outside = mux
			}
			path := "/a/7/b/c"
			if strings.HasSuffix(tt.inner, "{$}") {
				path += "/"
			}
			r := httptest.NewRequest("GET", path, nil)
			outside.ServeHTTP(httptest.NewRecorder(), r)
			got := make(map[string]string)
			for name := range tt.want {
				got[name] = r.PathValue(name)
			}
			if !maps.Equal(got, tt.want) || r.Pattern != pattern || pattern == "" {
				t.Errorf("%q with %v, want %q with %v", r.Pattern, got, pattern, tt.want)
			}
		})
	}
}

func TestWildcards(t *testing.T) {
	for pattern, want := range map[string]string{
		"": "", "/": "", "/a/b": "", "GET example.com/a": "",
		"/{id}": "id", "/a/{id}/b/{name}": "id name", "/{rest...}": "rest", "/{$}": "$", "POST /{a}/{b...}": "a b",
		"/{id:[0-9]+}": "id", "/{y:[0-9]{4}}-{m}": "y 4 m", "/*": "*", "/{id}/*": "id *",
		"/{": "", "/{a": "a", "/a}": "", "/{}": "",
	} {
		got := wildcards(pattern)
		got = slices.DeleteFunc(got, func(name string) bool { return name == "" })
		if strings.Join(got, " ") != want {
			t.Errorf("%q: %q, want %q", pattern, got, want)
		}
	}
}

// TestCloseIfTooLarge: a body that is larger than the handler allows is not read
// to its end before the next request of the connection.
func TestCloseIfTooLarge(t *testing.T) {
	for _, tt := range []struct {
		name         string
		limit, reads int64
		close        bool
	}{
		{"no limit", 0, 100, false},
		{"below the limit", 1000, 100, false},
		{"at the limit", 100, 100, false},
		{"not read that far", 50, 10, false},
		{"above the limit", 50, 100, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				lent := lendTo(r)
				if tt.limit > 0 {
					// Around a face, which the server's own writer is not.
					lent.Body = http.MaxBytesReader((&Writer{ResponseWriter: w}).Face(), lent.Body, tt.limit)
				}
				_, _ = io.CopyN(io.Discard, lent.Body, tt.reads)
				CloseIfTooLarge(w, lent)
				if left, err := io.ReadAll(lent.Body); tt.reads < tt.limit && (err == nil) != (tt.limit >= 100) || tt.close && len(left) > 0 {
					t.Errorf("then %d bytes are read, %v", len(left), err)
				}
				w.WriteHeader(http.StatusNoContent)
			}))
			defer srv.Close()
			resp, err := http.Post(srv.URL, "text/plain", strings.NewReader(strings.Repeat("x", 100)))
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if resp.Close != tt.close {
				t.Errorf("the connection is closed: %v", resp.Close)
			}
		})
	}
}
