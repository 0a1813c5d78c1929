package gorillastore_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/securecookie"
	"github.com/gorilla/sessions"

	"github.com/seed-a7bee19b/session"
	gorillastore "github.com/seed-a7bee19b/session/adapter/gorilla"
	"github.com/seed-a7bee19b/session/backend/memory"
)

func Example() {
	store, err := gorillastore.New(&memory.Backend{}, gorillastore.Config{}) // before: sessions.NewCookieStore(key)
	if err != nil {
		fmt.Println(err)
		return
	}
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, err := store.Get(r, "session")
		if err != nil {
			http.Error(w, "Please try again.", session.Status(err))
			return
		}
		n, _ := s.Values["visits"].(int)
		s.Values["visits"] = n + 1
		if err := s.Save(r, w); err != nil {
			http.Error(w, "Please try again.", session.Status(err))
			return
		}
		fmt.Fprintln(w, n+1)
	})

	w := httptest.NewRecorder()
	h(w, httptest.NewRequest(http.MethodGet, "/", nil))
	fmt.Print(w.Body)
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.AddCookie(w.Result().Cookies()[0])
	w = httptest.NewRecorder()
	h(w, r)
	fmt.Print(w.Body)
	// Output:
	// 1
	// 2
}

// textOnly stores text only.
type textOnly struct{ session.Backend }

func (textOnly) TextOnly() bool { return true }

// asJSON is a Serializer of text.
type asJSON struct{}

func (asJSON) Serialize(src any) ([]byte, error) {
	out := map[string]any{}
	for k, v := range src.(map[any]any) {
		out[k.(string)] = v
	}
	return json.Marshal(out)
}

func (asJSON) Deserialize(src []byte, dst any) error {
	in := map[string]any{}
	err := json.Unmarshal(src, &in)
	for k, v := range in {
		(*dst.(*map[any]any))[k] = v
	}
	return err
}

var _ securecookie.Serializer = asJSON{}

func TestNew(t *testing.T) {
	b := &memory.Backend{}
	tests := []struct {
		name string
		b    session.Backend
		c    gorillastore.Config
		want string // "": no error
	}{
		{"defaults", b, gorillastore.Config{}, ""},
		{"no Backend", nil, gorillastore.Config{}, "no Backend"},
		{"MaxAge", b, gorillastore.Config{Options: sessions.Options{MaxAge: -1}}, "MaxAge"},
		{"SameSite", b, gorillastore.Config{Options: sessions.Options{SameSite: http.SameSiteNoneMode}}, "Secure"},
		{"SameSite, Secure", b, gorillastore.Config{Options: sessions.Options{SameSite: http.SameSiteNoneMode, Secure: true}}, ""},
		{"BrowserSession", b, gorillastore.Config{BrowserSession: -1}, "BrowserSession"},
		{"Timeout", b, gorillastore.Config{Timeout: -1}, "timeout"},
		{"text", textOnly{b}, gorillastore.Config{Serializer: asJSON{}}, ""},
		{"text, gob", textOnly{b}, gorillastore.Config{}, "text only"},
	}
	for _, tt := range tests {
		_, err := gorillastore.New(tt.b, tt.c)
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
}

// visit saves a session that has a value, and returns its cookie.
func visit(t *testing.T, store *gorillastore.Store, cookies ...*http.Cookie) *http.Cookie {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	for _, c := range cookies {
		r.AddCookie(c)
	}
	s, err := store.Get(r, "session")
	if err != nil {
		t.Fatal(err)
	}
	n, _ := s.Values["n"].(int)
	s.Values["n"] = n + 1
	w := httptest.NewRecorder()
	if err := s.Save(r, w); err != nil {
		t.Fatal(err)
	}
	return w.Result().Cookies()[0]
}

// TestMemory checks that the Store forgets sessions that nobody has any more.
func TestMemory(t *testing.T) {
	store, err := gorillastore.New(&memory.Backend{}, gorillastore.Config{})
	if err != nil {
		t.Fatal(err)
	}
	cookie := visit(t, store)
	for range 100 {
		visit(t, store, cookie)
	}
	for until := time.Now().Add(30 * time.Second); gorillastore.Remembered(store) > 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(until) {
			t.Fatalf("it remembers %d sessions", gorillastore.Remembered(store))
		}
		runtime.GC()
	}
}
