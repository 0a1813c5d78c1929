package gorillastore_test

import (
	"context"
	"encoding/base32"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/securecookie"
	"github.com/gorilla/sessions"

	"github.com/seed-a7bee19b/session"
	gorillastore "github.com/seed-a7bee19b/session/adapter/gorilla"
	"github.com/seed-a7bee19b/session/backend/memory"
	"github.com/seed-a7bee19b/session/codec"
	"github.com/seed-a7bee19b/session/migrate"
)

// The cookie of a visitor of a site with gorilla goes on with a Manager.
func ExampleNewSource() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	store := sessions.NewFilesystemStore(dir, []byte("the key of the cookies, 32 bytes"))

	// Before, the site had this in a handler.
	r, w := httptest.NewRequest("GET", "/", nil), httptest.NewRecorder()
	s, _ := store.Get(r, "session")
	s.Values["visits"] = 1
	if err := s.Save(r, w); err != nil {
		fmt.Println(err)
		return
	}
	cookie := w.Result().Cookies()[0]

	source, err := gorillastore.NewSource(store, gorillastore.SourceConfig{Name: "session", Codecs: store.Codecs})
	if err != nil {
		fmt.Println(err)
		return
	}
	backend, err := migrate.New(&memory.Backend{}, source, migrate.Config{TokenKeys: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	manager, err := session.New(backend, session.Config{
		Cookie:   session.Cookie{Name: "session"},
		Tokens:   source.Tokens(),
		StoreKey: source.StoreKey,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	visits := session.Key[int]{Name: "visits"}
	h := manager.HandlerFunc(func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
		n, err := visits.Update(s, func(n int) int { return n + 1 })
		fmt.Println(n, err)
		return err
	})
	r, w = httptest.NewRequest("GET", "/", nil), httptest.NewRecorder()
	r.AddCookie(cookie)
	h.ServeHTTP(w, r)
	fmt.Println(len(w.Result().Cookies()), "new cookies")
	// Output:
	// 2 <nil>
	// 0 new cookies
}

var (
	hashKey = []byte("0123456789abcdef0123456789abcdef")
	user    = session.Key[string]{Name: "name"}
	number  = session.Key[int]{Name: "n"}
)

// oldSite is a site on gorilla that moves.
type oldSite struct {
	dir   string
	files *sessions.FilesystemStore
	fresh *memory.Backend
	down  error // what the old store fails with
}

// Get, New and Save are those of the store of files, or fail.
func (o *oldSite) Get(r *http.Request, name string) (*sessions.Session, error) {
	return sessions.GetRegistry(r).Get(o, name)
}

func (o *oldSite) New(r *http.Request, name string) (*sessions.Session, error) {
	s, err := o.files.New(r, name)
	if o.down != nil {
		s, err = sessions.NewSession(o, name), o.down
		s.IsNew = true
	}
	return s, err
}

func (o *oldSite) Save(r *http.Request, w http.ResponseWriter, s *sessions.Session) error {
	if o.down != nil {
		return o.down
	}
	return o.files.Save(r, w, s)
}

func newOldSite(t *testing.T, keys ...[]byte) *oldSite {
	o := &oldSite{dir: t.TempDir(), fresh: &memory.Backend{}}
	if keys == nil {
		keys = [][]byte{hashKey}
	}
	o.files = sessions.NewFilesystemStore(o.dir, keys...)
	return o
}

// save is a request to gorilla, and returns its cookie.
func (o *oldSite) save(t *testing.T, cookie string, values map[any]any) string {
	t.Helper()
	r, w := httptest.NewRequest("GET", "/", nil), httptest.NewRecorder()
	if cookie != "" {
		r.AddCookie(&http.Cookie{Name: "session", Value: cookie})
	}
	s, err := o.files.Get(r, "session")
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range values {
		s.Values[k] = v
	}
	if err := s.Save(r, w); err != nil {
		t.Fatal(err)
	}
	return w.Result().Cookies()[0].Value
}

func (o *oldSite) left(t *testing.T) int {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(o.dir, "session_*"))
	if err != nil {
		t.Fatal(err)
	}
	return len(names)
}

// manager is the site after.
func (o *oldSite) manager(t *testing.T, cfg session.Config, phase migrate.Phase) *session.Manager {
	t.Helper()
	source, err := gorillastore.NewSource(o, gorillastore.SourceConfig{Name: "session", Codecs: o.files.Codecs})
	if err != nil {
		t.Fatal(err)
	}
	b, err := migrate.New(o.fresh, source, migrate.Config{Phase: phase, TokenKeys: true})
	if err != nil {
		t.Fatal(err)
	}
	cfg.Cookie.Name, cfg.Tokens, cfg.StoreKey = "session", source.Tokens(), source.StoreKey
	m, err := session.New(b, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// seen is what a request to a Manager found.
type seen struct {
	status, n int
	name      string
	cookies   []*http.Cookie
}

// ask is a request, with the cookies, that adds 1 to n; or a logout.
func ask(m *session.Manager, path string, cookies ...string) (got seen) {
	r, w := httptest.NewRequest("GET", path, nil), httptest.NewRecorder()
	for _, c := range cookies {
		r.AddCookie(&http.Cookie{Name: "session", Value: c})
	}
	m.HandlerFunc(func(w http.ResponseWriter, r *http.Request, s *session.Session) (err error) {
		switch r.URL.Path {
		case "/logout":
			return s.Destroy(r.Context())
		case "/login":
			return s.Login("ann")
		}
		if got.name, err = user.Get(s); err == nil {
			got.n, err = number.Update(s, func(n int) int { return n + 1 })
		}
		return err
	}).ServeHTTP(w, r)
	got.status, got.cookies = w.Code, w.Result().Cookies()
	return got
}

func (s seen) want(t *testing.T, what string, status, n int, name string, cookies int) {
	t.Helper()
	if s.status != status || s.n != n || s.name != name || len(s.cookies) != cookies {
		t.Errorf("%s: status %d, n %d, name %q, %d cookies; want %d, %d, %q, %d", what, s.status, s.n, s.name, len(s.cookies), status, n, name, cookies)
	}
}

func TestSourceTokens(t *testing.T) {
	o := newOldSite(t)
	cookie := o.save(t, "", map[any]any{"n": 1})
	var id string
	if err := securecookie.DecodeMulti("session", cookie, &id, o.files.Codecs...); err != nil {
		t.Fatal(err)
	}
	encode := func(name string, v any, key []byte) string {
		s, err := securecookie.EncodeMulti(name, v, securecookie.CodecsFromPairs(key)...)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	forged := []byte(cookie)
	forged[len(forged)-6] ^= 1
	m := o.manager(t, session.Config{}, migrate.Move)
	for name, token := range map[string]string{
		"forged":                   string(forged),
		"of another key":           encode("session", id, []byte("another key, also of 32 bytes...")),
		"of another cookie":        encode("other", id, hashKey),
		"the ID alone":             id,
		"the key":                  "token:." + id,
		"no ID":                    encode("session", "", hashKey),
		"a long ID":                encode("session", strings.Repeat("A", 401), hashKey),
		"values, not an ID":        encode("session", map[any]any{"n": 1}, hashKey),
		"of a session that is not": encode("session", base32.StdEncoding.EncodeToString([]byte("none")), hashKey),
		"an ID as a token of ours": strings.Repeat("a", 32),
	} {
		got := ask(m, "/", token)
		got.want(t, name, http.StatusOK, 1, "", 1)
		if len(got.cookies) > 0 && got.cookies[0].Value == token {
			t.Errorf("%s: adopted", name)
		}
	}
	ask(m, "/", cookie).want(t, "the cookie", http.StatusOK, 2, "", 0)
}

func TestSourceErrors(t *testing.T) {
	o := newOldSite(t)
	bad := o.save(t, "", map[any]any{"name": "ann", 7: "seven"})
	m := o.manager(t, session.Config{}, migrate.Move)
	ask(m, "/", bad).want(t, "a key that is no string", http.StatusInternalServerError, 0, "", 0)
	if o.left(t) != 1 {
		t.Error("what cannot be packed is gone")
	}

	cookie := o.save(t, "", map[any]any{"name": "ann"})
	var id string
	if err := securecookie.DecodeMulti("session", cookie, &id, o.files.Codecs...); err != nil {
		t.Fatal(err)
	}
	source, err := gorillastore.NewSource(o.files, gorillastore.SourceConfig{
		Name: "session", Codecs: o.files.Codecs, MaxAge: time.Hour,
		Pack: func(values map[any]any, expires time.Time) (session.Record, error) {
			return session.Pack(codec.MessagePack{}, session.Foreign{User: values["name"].(string), Expires: expires})
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	rec, err := source.Load(t.Context(), id)
	if err != nil || !rec.Expires.Before(time.Now().Add(time.Hour+time.Minute)) {
		t.Fatal(rec.Expires, err)
	}
	o.save(t, cookie, map[any]any{"name": "bob"})
	if err := source.Remove(t.Context(), id, rec); !errors.Is(err, session.ErrConflict) || o.left(t) != 2 {
		t.Errorf("Remove of what has changed: %v, %d left", err, o.left(t))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := source.Load(ctx, id); !errors.Is(err, context.Canceled) {
		t.Errorf("Load without time: %v", err)
	}

	path := filepath.Join(o.dir, "session_"+id)
	if err := os.WriteFile(path, []byte("no cookie"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := source.Load(t.Context(), id); err == nil || errors.Is(err, session.ErrNotFound) {
		t.Errorf("a file that does not decode: %v", err)
	}
	if err := errors.Join(os.Remove(path), os.Mkdir(path, 0o700)); err != nil {
		t.Fatal(err)
	}
	if _, err := source.Load(t.Context(), id); err == nil || errors.Is(err, session.ErrNotFound) || strings.Contains(err.Error(), id) {
		t.Errorf("a file that cannot be read: %v", err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := source.Load(t.Context(), id); !errors.Is(err, session.ErrNotFound) {
		t.Errorf("no file: %v", err)
	}
	if err := source.Remove(t.Context(), id, rec); !errors.Is(err, session.ErrNotFound) {
		t.Errorf("Remove of no file: %v", err)
	}
}

func TestNewSourceRefuses(t *testing.T) {
	files := sessions.NewFilesystemStore(t.TempDir(), hashKey)
	good := gorillastore.SourceConfig{Name: "session", Codecs: files.Codecs}
	for _, tt := range []struct {
		store sessions.Store
		cfg   gorillastore.SourceConfig
		part  string
	}{
		{files, good, ""},
		{nil, good, "needs a store"},
		{sessions.NewCookieStore(hashKey), good, "CookieStore"},
		{files, gorillastore.SourceConfig{Codecs: files.Codecs}, "Name"},
		{files, gorillastore.SourceConfig{Name: "session"}, "Codecs"},
		{files, gorillastore.SourceConfig{Name: "session", Codecs: slices.Concat(files.Codecs, []securecookie.Codec{(*securecookie.SecureCookie)(nil)})}, "nil"},
		{files, gorillastore.SourceConfig{Name: "session", Codecs: files.Codecs, MaxAge: -1}, "MaxAge"},
	} {
		_, err := gorillastore.NewSource(tt.store, tt.cfg)
		if (err != nil) != (tt.part != "") || err != nil && !strings.Contains(err.Error(), tt.part) {
			t.Errorf("%q: %v", tt.part, err)
		}
	}
}
