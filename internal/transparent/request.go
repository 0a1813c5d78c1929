package transparent

import (
	"context"
	"errors"
	"io"
	"net/http"
	"reflect"
	"strings"
)

// Lend returns r with another context, for the handlers inside. It is a copy:
// the server, and all else outside, knows only r.
func Lend(ctx context.Context, r *http.Request) *http.Request {
	if r.Trailer == nil && len(r.TransferEncoding) > 0 {
		// The server puts trailers that were not announced into its own
		// request. A map that is there already both have.
		r.Trailer = http.Header{}
	}
	return r.WithContext(ctx)
}

// GiveBack makes r what it would be if the handlers had had it and not lent:
// the server removes the files of its MultipartForm, and middleware asks for
// the Pattern. It writes what has changed and no more, as somebody may be
// reading the rest.
func GiveBack(r, lent *http.Request) {
	if lent.Pattern != r.Pattern {
		for _, names := range [][]string{wildcards(r.Pattern), wildcards(lent.Pattern)} {
			for _, name := range names {
				if v := lent.PathValue(name); v != r.PathValue(name) {
					r.SetPathValue(name, v)
				}
			}
		}
		r.Pattern = lent.Pattern
	}
	give(&r.MultipartForm, lent.MultipartForm)
	giveMap(&r.Form, lent.Form)
	giveMap(&r.PostForm, lent.PostForm)
	giveMap(&r.Trailer, lent.Trailer)
	giveMap(&r.Header, lent.Header)
	r.Body = lent.Body // which may not be comparable
	give(&r.URL, lent.URL)
	give(&r.Method, lent.Method)
	give(&r.Host, lent.Host)
	give(&r.RemoteAddr, lent.RemoteAddr)
	give(&r.RequestURI, lent.RequestURI)
	give(&r.ContentLength, lent.ContentLength)
	give(&r.Close, lent.Close)
}

func give[T comparable](to *T, v T) {
	if *to != v {
		*to = v
	}
}

func giveMap[M ~map[string][]string](to *M, v M) {
	if reflect.ValueOf(*to).Pointer() != reflect.ValueOf(v).Pointer() {
		*to = v
	}
}

// wildcards returns the names in a pattern of http.ServeMux, or of a router
// that writes its patterns alike.
func wildcards(pattern string) []string {
	var names []string
	for {
		_, rest, ok := strings.Cut(pattern, "{")
		if !ok {
			break
		}
		name := rest
		if end := strings.IndexAny(rest, ":.}"); end >= 0 {
			name = rest[:end]
		}
		names, pattern = append(names, name), rest
	}
	if strings.HasSuffix(pattern, "*") {
		names = append(names, "*")
	}
	return names
}

var maxBytesReader = reflect.TypeOf(http.MaxBytesReader(nil, nil, 0))

// CloseIfTooLarge does what an [http.MaxBytesReader] of the handler cannot do
// with a face: if the body of r has met its limit, it has the server behind w
// close the connection instead of reading the rest.
func CloseIfTooLarge(w http.ResponseWriter, r *http.Request) {
	if reflect.TypeOf(r.Body) != maxBytesReader {
		return
	}
	_, err := r.Body.Read(nil) // reads nothing, and repeats the error that it has returned
	if limit := new(http.MaxBytesError); !errors.As(err, &limit) {
		return
	}
	one := io.NopCloser(strings.NewReader("x"))
	_, _ = http.MaxBytesReader(w, one, 0).Read(make([]byte, 1))
}
