package adapters

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/sessions"
	"github.com/markbates/goth"
	"github.com/markbates/goth/gothic"
	"github.com/markbates/goth/providers/openidConnect"

	"github.com/seed-a7bee19b/session"
	gorillastore "github.com/seed-a7bee19b/session/adapter/gorilla"
)

// noise returns n characters that do not compress well: gothic compresses its session.
func noise(n int) string {
	b := make([]byte, n)
	rand.Read(b)
	return base64.RawURLEncoding.EncodeToString(b)[:n]
}

// provider is an OpenID provider. Its access and ID tokens are longer than a cookie.
type provider struct {
	url string

	mu     sync.Mutex
	codes  map[string]bool
	before map[string]func() // what a page does first, once
}

func (p *provider) do(page string, f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.before[page] = f
}

func startProvider(t *testing.T) *provider {
	p := &provider{codes: map[string]bool{}, before: map[string]func(){}}
	access := noise(5000)
	mux := http.NewServeMux()
	page := func(path string, f func(r *http.Request) (status int, body map[string]any)) {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			p.mu.Lock()
			before := p.before[path]
			delete(p.before, path)
			p.mu.Unlock()
			if before != nil {
				before()
			}
			status, body := f(r)
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			_ = json.NewEncoder(w).Encode(body)
		})
	}
	page("/discovery", func(*http.Request) (int, map[string]any) {
		return http.StatusOK, map[string]any{
			"issuer": p.url, "authorization_endpoint": p.url + "/authorize",
			"token_endpoint": p.url + "/token", "userinfo_endpoint": p.url + "/userinfo",
		}
	})
	mux.HandleFunc("/authorize", func(w http.ResponseWriter, r *http.Request) {
		code := rand.Text()
		p.mu.Lock()
		p.codes[code] = true
		p.mu.Unlock()
		q := url.Values{"code": {code}, "state": {r.FormValue("state")}}
		http.Redirect(w, r, r.FormValue("redirect_uri")+"?"+q.Encode(), http.StatusFound)
	})
	page("/token", func(r *http.Request) (int, map[string]any) {
		code := r.FormValue("code")
		p.mu.Lock()
		good := p.codes[code]
		delete(p.codes, code)
		p.mu.Unlock()
		if !good {
			return http.StatusBadRequest, map[string]any{"error": "invalid_grant"}
		}
		claims, err := json.Marshal(map[string]any{
			"iss": p.url, "aud": "client", "sub": "alice", "exp": time.Now().Add(time.Hour).Unix(), "groups": noise(5000),
		})
		if err != nil {
			t.Error(err)
		}
		return http.StatusOK, map[string]any{
			"access_token": access, "token_type": "Bearer", "expires_in": 3600,
			"id_token": "e30." + base64.RawURLEncoding.EncodeToString(claims) + ".", // gothic checks no signature
		}
	})
	page("/userinfo", func(r *http.Request) (int, map[string]any) {
		if r.Header.Get("Authorization") != "Bearer "+access {
			return http.StatusUnauthorized, nil
		}
		return http.StatusOK, map[string]any{"sub": "alice"}
	})
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	p.url = srv.URL
	return p
}

// gothSite is a site with a login by gothic, which keeps the ID token of its users
// in a session of its own. Only one can be there at a time: gothic has globals.
type gothSite struct {
	*provider
	url string
}

func startGoth(t *testing.T, store sessions.Store) *gothSite {
	s := &gothSite{provider: startProvider(t)}
	mux := http.NewServeMux()
	page := func(path string, f func(w http.ResponseWriter, r *http.Request) error) {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			if err := f(w, gothic.GetContextWithProvider(r, "openid-connect")); err != nil {
				fail(w, err)
			}
		})
	}
	page("/login", func(w http.ResponseWriter, r *http.Request) error {
		to, err := gothic.GetAuthURL(w, r)
		if err == nil {
			http.Redirect(w, r, to, http.StatusSeeOther)
		}
		return err
	})
	page("/callback", func(w http.ResponseWriter, r *http.Request) error {
		user, err := gothic.CompleteUserAuth(w, r)
		if err != nil {
			return err
		}
		own, err := store.Get(r, "session")
		if err != nil {
			return err
		}
		own.Values["user"], own.Values["token"] = user.UserID, user.IDToken
		if err := own.Save(r, w); err != nil {
			return err
		}
		http.Redirect(w, r, "/", http.StatusSeeOther)
		return nil
	})
	page("/logout", func(w http.ResponseWriter, r *http.Request) error {
		own, err := store.Get(r, "session")
		if err != nil {
			return err
		}
		own.Options.MaxAge = -1
		return own.Save(r, w)
	})
	page("/", func(w http.ResponseWriter, r *http.Request) error {
		own, err := store.Get(r, "session")
		if err != nil {
			return err
		}
		user, _ := own.Values["user"].(string)
		if token, _ := own.Values["token"].(string); user != "" && len(token) < 5000 {
			return errors.New("the ID token is not whole")
		}
		_, err = io.WriteString(w, "user "+user)
		return err
	})
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	s.url = srv.URL

	oidc, err := openidConnect.New("client", "secret", s.url+"/callback", s.provider.url+"/discovery")
	if err != nil {
		t.Fatal(err)
	}
	was := gothic.Store
	gothic.Store = store
	goth.UseProviders(oidc)
	t.Cleanup(func() { gothic.Store = was; goth.ClearProviders() })
	return s
}

// A browser has cookies. It follows no redirect by itself.
type browser struct {
	client *http.Client
	long   string // the name of a cookie that is longer than a token
}

func newBrowser(t *testing.T) *browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &browser{client: &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}}
}

// open returns the page, and where it redirects to.
func (b *browser) open(t *testing.T, address string) (a answer, to string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := b.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range resp.Cookies() {
		if len(c.Value) > 32 {
			b.long = c.Name
		}
	}
	if loc, err := resp.Location(); err == nil {
		to = loc.String()
	}
	return answer{status: resp.StatusCode, body: strings.TrimSpace(string(body))}, to
}

// consent goes from the login page to the provider, and returns the address that the
// provider sends the browser back to.
func (s *gothSite) consent(t *testing.T, b *browser) (callback string) {
	t.Helper()
	got, to := b.open(t, s.url+"/login")
	if got.status != http.StatusSeeOther || !strings.HasPrefix(to, s.provider.url+"/authorize?") {
		t.Fatalf("login: %+v, redirects to %q", got, to)
	}
	got, callback = b.open(t, to)
	if got.status != http.StatusFound || !strings.HasPrefix(callback, s.url+"/callback?") {
		t.Fatalf("authorize: %+v, redirects to %q", got, callback)
	}
	return callback
}

func (s *gothSite) wantUser(t *testing.T, b *browser, what, user string) {
	t.Helper()
	got, _ := b.open(t, s.url+"/")
	if got.status != http.StatusOK || got.body != strings.TrimSpace("user "+user) {
		t.Errorf("%s: %+v, want user %q", what, got, user)
	}
}

// keep returns a browser that has the cookies of b as they are now.
func (s *gothSite) keep(t *testing.T, b *browser) *browser {
	t.Helper()
	u, err := url.Parse(s.url)
	if err != nil {
		t.Fatal(err)
	}
	copied := newBrowser(t)
	copied.client.Jar.SetCookies(u, b.client.Jar.Cookies(u))
	return copied
}

// stored returns the key and the size of the record that was saved last, -1 if it is
// gone.
func (b *backend) stored(t *testing.T, key string) (string, int) {
	b.mu.Lock()
	if key == "" {
		key = b.key
	}
	b.mu.Unlock()
	rec, err := b.Backend.Load(t.Context(), key)
	if errors.Is(err, session.ErrNotFound) {
		return key, -1
	}
	if err != nil {
		t.Error(err)
	}
	return key, len(rec.Data)
}

// TestGothCookies shows what a store on the server is for.
func TestGothCookies(t *testing.T) {
	store := sessions.NewCookieStore([]byte(rand.Text()))
	store.Options = &sessions.Options{Path: "/", MaxAge: 3600, HttpOnly: true}
	s := startGoth(t, store)
	b := newBrowser(t)
	got, _ := b.open(t, s.consent(t, b))
	if got.status != http.StatusInternalServerError || !strings.Contains(got.body, "the value is too long") {
		t.Errorf("%+v", got)
	}
	s.wantUser(t, b, "afterwards", "")
}

// eachGoth runs f on every store, one at a time.
func eachGoth(t *testing.T, f func(t *testing.T, s *gothSite, b *backend)) {
	for _, st := range stores {
		t.Run(st.name, func(t *testing.T) {
			b := st.room(t)(t)
			store, err := gorillastore.New(b, gorillastore.Config{Options: insecure})
			if err != nil {
				t.Fatal(err)
			}
			f(t, startGoth(t, store), b)
		})
	}
}

func TestGoth(t *testing.T) {
	eachGoth(t, func(t *testing.T, s *gothSite, b *backend) {
		visitor := newBrowser(t)
		callback := s.consent(t, visitor)
		pending := s.keep(t, visitor)
		var key string
		size := 0
		s.do("/userinfo", func() { key, size = b.stored(t, "") }) // gothic has stored its tokens now
		got, _ := visitor.open(t, callback)
		got.want(t, "callback", http.StatusSeeOther)
		if size <= 4096 {
			t.Errorf("the session of gothic has %d bytes, want more than a cookie has", size)
		}
		if _, size = b.stored(t, key); size != -1 {
			t.Errorf("the session of gothic is there after the login, with %d bytes", size)
		}
		if visitor.long != "" {
			t.Errorf("cookie %s is longer than a token", visitor.long)
		}
		s.wantUser(t, visitor, "after the login", "alice")

		for name, again := range map[string]*browser{
			"the same browser": visitor, "the cookies of before": pending, "no cookies": newBrowser(t),
		} {
			got, _ := again.open(t, callback)
			got.want(t, "the callback again, "+name, http.StatusInternalServerError)
		}
		s.wantUser(t, pending, "after a callback that was refused", "")
		s.wantUser(t, visitor, "after the callbacks that were refused", "alice")

		kept := s.keep(t, visitor)
		got, _ = visitor.open(t, s.url+"/logout")
		got.want(t, "logout", http.StatusOK)
		s.wantUser(t, visitor, "after logout", "")
		s.wantUser(t, kept, "after logout, with the old cookie", "")
	})
}

// TestGothTwice has two callbacks of one login in flight, of which the provider
// accepts one.
func TestGothTwice(t *testing.T) {
	eachGoth(t, func(t *testing.T, s *gothSite, _ *backend) {
		visitor := newBrowser(t)
		callback := s.consent(t, visitor)
		twin := s.keep(t, visitor)
		var second answer
		s.do("/token", func() { second, _ = twin.open(t, callback) })
		first, _ := visitor.open(t, callback)
		second.want(t, "the callback that is first at the provider", http.StatusSeeOther)
		first.want(t, "the other one", http.StatusInternalServerError)
		s.wantUser(t, twin, "the one that was accepted", "alice")
		s.wantUser(t, visitor, "the one that was refused", "")
	})
}

// TestGothFailingStore has the store fail at each step of a login.
func TestGothFailingStore(t *testing.T) {
	eachGoth(t, func(t *testing.T, s *gothSite, b *backend) {
		visitor := newBrowser(t)
		failing := func(what, page string, status int) {
			t.Helper()
			b.down.Store(true)
			got, _ := visitor.open(t, page)
			b.down.Store(false)
			got.want(t, what, status)
		}
		failing("login", s.url+"/login", http.StatusServiceUnavailable)

		callback := s.consent(t, visitor)
		key, before := b.stored(t, "")
		failing("callback", callback, http.StatusInternalServerError) // gothic hides the cause
		if _, size := b.stored(t, key); size != before {
			t.Errorf("the session of gothic has %d bytes, before %d", size, before)
		}
		s.wantUser(t, visitor, "after a login that failed", "")
		got, _ := visitor.open(t, callback)
		got.want(t, "callback, the store works again", http.StatusSeeOther)
		s.wantUser(t, visitor, "after it works again", "alice")

		failing("a page", s.url+"/", http.StatusServiceUnavailable)
		failing("logout", s.url+"/logout", http.StatusServiceUnavailable)
		s.wantUser(t, visitor, "after the store failed", "alice")

		steps := []struct {
			name, page string
			tokens     bool // gothic has stored them
			again      int  // status of the same callback
			user       string
		}{
			{"to store the tokens", "/token", false, http.StatusInternalServerError, ""}, // the code is used up
			{"to end the login", "/userinfo", true, http.StatusSeeOther, "alice"},
		}
		for _, tt := range steps {
			visitor := newBrowser(t)
			callback := s.consent(t, visitor)
			key, before := b.stored(t, "")
			s.do(tt.page, func() { b.down.Store(true) })
			got, _ := visitor.open(t, callback)
			b.down.Store(false)
			got.want(t, "the store fails "+tt.name, http.StatusServiceUnavailable)
			if _, size := b.stored(t, key); size < before || size > 4096 != tt.tokens {
				t.Errorf("the store fails %s: the session of gothic has %d bytes, before %d", tt.name, size, before)
			}
			s.wantUser(t, visitor, "the store fails "+tt.name, "")
			got, _ = visitor.open(t, callback)
			got.want(t, "again, after the store failed "+tt.name, tt.again)
			s.wantUser(t, visitor, "again, after the store failed "+tt.name, tt.user)
			if _, size := b.stored(t, key); size != -1 {
				t.Errorf("again, after the store failed %s: the session of gothic is there", tt.name)
			}
		}
	})
}
