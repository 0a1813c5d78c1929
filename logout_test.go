package session_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/memory"
	"github.com/seed-a7bee19b/session/observe"
	"github.com/seed-a7bee19b/session/sessiontest"
)

// TestClearSiteData: which responses carry the header, and what it says.
func TestClearSiteData(t *testing.T) {
	destroy := func(_ http.ResponseWriter, r *http.Request, s *session.Session) error { return s.Destroy(r.Context()) }
	var m *session.Manager
	renew := func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
		if err := destroy(w, r, s); err != nil {
			return err
		}
		s, err := m.Get(r.Context())
		if err != nil {
			return err
		}
		return note.Set(s, "you are logged out")
	}
	and := func(lines ...string) asked {
		return func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
			w.Header()["Clear-Site-Data"] = lines
			return destroy(w, r, s)
		}
	}
	some := []string{"storage", "cookies"}
	for _, tt := range []struct {
		name   string
		clear  []string
		header string
		known  bool // the token has a session
		token  bool // there is a token
		page   asked
		want   []string
	}{
		{"a logout", some, "", true, true, destroy, []string{`"storage", "cookies"`}},
		{"a logout by a header", some, "Authorization", true, true, destroy, []string{`"storage", "cookies"`}},
		{"all", []string{"*"}, "", true, true, destroy, []string{`"*"`}},
		{"none", nil, "", true, true, destroy, nil},
		{"a logout after the session has ended", some, "", false, true, destroy, []string{`"storage", "cookies"`}},
		{"a logout without a token", some, "", false, false, destroy, nil},
		{"a page", some, "", true, true, func(http.ResponseWriter, *http.Request, *session.Session) error { return nil }, nil},
		{"a page with an unknown token", some, "", false, true, func(http.ResponseWriter, *http.Request, *session.Session) error { return nil }, nil},
		{"a login", some, "", true, true, func(_ http.ResponseWriter, _ *http.Request, s *session.Session) error { return s.Login("ann") }, nil},
		{"the page sets some of it", some, "", true, true, and(`"cache", "cookies"`), []string{`"cache", "cookies"`, `"storage"`}},
		{"the page sets all of it", some, "", true, true, and(`"storage"`, `"cookies"`), []string{`"storage"`, `"cookies"`}},
		{"the page sets everything", some, "", true, true, and(`"*"`), []string{`"*"`}},
		{"a new session after it", some, "", true, true, renew, []string{`"storage"`}},
		{"a new session after it, and nothing else to clear", []string{"cookies"}, "", true, true, renew, nil},
		{"a new session after it, all", []string{"*"}, "", true, true, renew, []string{`"cache", "clientHints", "executionContexts", "prefetchCache", "prerenderCache", "storage"`}},
		{"a new session after it, by a header", []string{"*"}, "X-Token", true, true, renew, []string{`"*"`}},
		{"a page that fails after it", some, "", true, true, func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
			return errors.Join(and(`"cache"`)(w, r, s), errMine)
		}, []string{`"cache"`, `"storage", "cookies"`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var b sessiontest.Store
			var h told
			cfg := session.Config{ClearSiteData: tt.clear, Header: tt.header, ErrorHandler: h.handle}
			m = newManager(t, &b, cfg)
			r := sessiontest.NewRequest(t, m, "POST", "/", nil, setNote)
			switch {
			case !tt.token:
				r.Header.Del("Cookie")
			case !tt.known:
				b.Advance(3 * time.Hour)
			}
			w := do(m.HandlerFunc(tt.page), r)
			if got := w.Header()["Clear-Site-Data"]; !slices.Equal(got, tt.want) {
				t.Errorf("Clear-Site-Data is %q, want %q", got, tt.want)
			}
		})
	}
}

// TestFailedLogoutClearsNothing: neither the cookie nor the data, and the page that
// says so does not either.
func TestFailedLogoutClearsNothing(t *testing.T) {
	var b sessiontest.Store
	var h told
	m := newManager(t, &b, session.Config{ClearSiteData: []string{"*"}, ErrorHandler: h.handle})
	r := sessiontest.NewRequest(t, m, "POST", "/", nil, setNote)
	b.Fail(observe.OpDelete, errStore)
	w := do(m.HandlerFunc(func(_ http.ResponseWriter, r *http.Request, s *session.Session) error {
		return s.Destroy(r.Context())
	}), r)
	if err := h.only(t); !errors.Is(err, session.ErrStore) || w.Header()["Clear-Site-Data"] != nil || w.Header()["Set-Cookie"] != nil {
		t.Errorf("answered %d %v, %v", w.Code, w.Header(), err)
	}
}

// TestClearSiteDataIsNotShared: changing a slice afterwards changes nothing.
func TestClearSiteDataIsNotShared(t *testing.T) {
	directives := []string{"cache"}
	m := newManager(t, &memory.Backend{}, session.Config{ClearSiteData: directives})
	directives[0] = "\r\n"
	m.Config().ClearSiteData[0] = "\r\n"
	w := do(m.HandlerFunc(func(_ http.ResponseWriter, r *http.Request, s *session.Session) error {
		return s.Destroy(r.Context())
	}), sessiontest.NewRequest(t, m, "POST", "/", nil, setNote))
	if got := w.Header().Get("Clear-Site-Data"); got != `"cache"` {
		t.Errorf("Clear-Site-Data is %q", got)
	}
}

// TestLogoutOfAManagerInside keeps what it says in the error page of a Manager
// outside, whose session could not be saved.
func TestLogoutOfAManagerInside(t *testing.T) {
	var b sessiontest.Store
	outside := newManager(t, &b, session.Config{ErrorHandler: (&told{}).handle})
	inside := newManager(t, &memory.Backend{}, session.Config{Cookie: session.Cookie{Name: "inner", Path: "/"}, ClearSiteData: []string{"storage"}})
	r := sessiontest.NewRequest(t, outside, "POST", "/", nil, setNote)
	for range 2 {
		r.AddCookie(&http.Cookie{Name: "inner", Value: begin(t, inside, map[string]any{"note": "x"})})
	}
	site := outside.HandlerFunc(func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
		b.Fail(observe.OpSave, errStore)
		w.Header().Set("Clear-Site-Data", `"cache"`) // of the page that will not be sent
		http.SetCookie(w, &http.Cookie{Name: "page", Value: "x"})
		inside.HandlerFunc(func(_ http.ResponseWriter, r *http.Request, i *session.Session) error {
			return errors.Join(note.Set(s, "y"), i.Destroy(r.Context()))
		}).ServeHTTP(w, r)
		return nil
	})
	w := do(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.SetCookie(w, &http.Cookie{Name: "inner", MaxAge: -1, Path: "/outside"})
		w.Header().Set("Clear-Site-Data", `"clientHints"`)
		site.ServeHTTP(w, r)
	}), r)
	if w.Code != http.StatusServiceUnavailable {
		t.Fatalf("answered %d", w.Code)
	}
	if got := w.Header()["Clear-Site-Data"]; !slices.Equal(got, []string{`"clientHints"`, `"storage"`}) {
		t.Errorf("Clear-Site-Data is %q", got)
	}
	for _, c := range w.Result().Cookies() {
		if c.Name != "inner" || c.MaxAge >= 0 {
			t.Errorf("cookie %v", c)
		}
	}
	if n := len(w.Result().Cookies()); n != 3 { // of the middleware, the Domain and the host
		t.Errorf("%d cookies: %v", n, w.Result().Cookies())
	}
}

// TestLogoutEndsFellows: what a logout costs and ends, for a request with several
// tokens.
func TestLogoutEndsFellows(t *testing.T) {
	const dead = "-"
	for _, tt := range []struct {
		tokens string // a letter for each: alive a to d; the moved token m, whose session is n; dead -
		ended  string
		calls  string // of Destroy
	}{
		{"a", "a", "End"},
		{"aa", "a", "End"},
		{"ab", "ab", "End Load End"},
		{"a-", "a", "End Load"},
		{"-a", "a", "End"},
		{"-a-", "a", "End"},
		{"abcd", "abcd", "End Load End Load End Load End"},
		{"ab-d", "abd", "End Load End Load Load End"},
		{"-", "", ""},
		{"--", "", ""},
		{"mn", "n", "End Load End"},
		{"nm", "n", "End Load End"},
		{"am", "an", "End Load End"},
		{"ma", "an", "End Load End"},
		{"m", "n", "End"},
		{"m-", "n", "End"},
	} {
		for _, header := range []string{"Cookie", "Session-Token"} {
			t.Run(header+" "+tt.tokens, func(t *testing.T) {
				var b store
				cfg := session.Config{}
				if header != "Cookie" {
					cfg.Header = header
				}
				m := newManager(t, &b, cfg)
				all := map[string]string{dead: strings.Repeat("A", 32)}
				for _, name := range []string{"a", "b", "c", "d", "m"} {
					all[name] = loggedIn(t, m, begin(t, m, map[string]any{"note": name}))
				}
				all["n"] = rotated(t, m, all["m"])
				var tokens []string
				for _, name := range strings.Split(tt.tokens, "") {
					tokens = append(tokens, all[name])
				}
				r := carrying(header, tokens...)
				r.Method = http.MethodPost
				w := do(m.HandlerFunc(func(_ http.ResponseWriter, r *http.Request, s *session.Session) error {
					b.took()
					err := s.Destroy(r.Context())
					b.wantCalls(t, strings.Fields(tt.calls)...)
					return err
				}), r)
				if w.Code != http.StatusOK {
					t.Errorf("answered %d", w.Code)
				}
				for _, name := range []string{"a", "b", "c", "d", "n"} {
					_, err := m.Open(ctx, all[name])
					if ended := errors.Is(err, session.ErrNotFound); ended != strings.Contains(tt.ended, name) {
						t.Errorf("session %s: %v", name, err)
					}
				}
				if header == "Cookie" && len(w.Result().Cookies()) != 1 { // there is one __Host- cookie only
					t.Errorf("cookies %v", w.Result().Cookies())
				}
			})
		}
	}
}

// TestLogoutOfFellowsFails: the error is returned, nothing is announced, and a
// second Destroy goes on.
func TestLogoutOfFellowsFails(t *testing.T) {
	for _, mode := range []session.Mode{session.Merge, session.LastWrite, session.Exclusive} {
		for failing := range 3 {
			t.Run(fmt.Sprint(mode, failing), func(t *testing.T) {
				var b leasingStore
				var h told
				m := newManager(t, &b, session.Config{Mode: mode, ErrorHandler: h.handle})
				var tokens []string
				for range 3 {
					tokens = append(tokens, begin(t, m, map[string]any{"note": "x"}))
				}
				again := false
				page := m.HandlerFunc(func(_ http.ResponseWriter, r *http.Request, s *session.Session) error {
					ends := 0
					b.before = func(_ context.Context, op string) error {
						if op == "End" {
							if ends++; ends == failing+1 {
								return errStore
							}
						}
						return nil
					}
					err := s.Destroy(r.Context())
					wantErr(t, err, session.ErrStore)
					wantText(t, "Destroy", err)
					b.healthy()
					if again {
						return s.Destroy(r.Context())
					}
					return err
				})
				for _, again = range []bool{false, true} {
					w := do(page, carrying("Cookie", tokens...))
					if told := len(w.Result().Cookies()) == 1; told != again || (h.only(t) == nil) != again {
						t.Errorf("again %v: cookies %v", again, w.Result().Cookies())
					}
					for i := range tokens {
						_, err := m.Open(ctx, tokens[i])
						if alive := err == nil; alive != (!again && (i == failing || failing == 0)) {
							t.Errorf("again %v: session %d: %v", again, i, err)
						}
						tokens[i] = begin(t, m, map[string]any{"note": "x"}) // for the next turn
					}
				}
			})
		}
	}
}

// TestLogoutOfALockedFellow ends it all the same, after Lock.MaxWait.
func TestLogoutOfALockedFellow(t *testing.T) {
	var b leasingStore
	m := newManager(t, &b, session.Config{Lock: session.LockConfig{MaxWait: 20 * time.Millisecond}})
	locking, err := m.With(session.Route{Mode: session.Exclusive})
	check(t, err)
	tokens := []string{begin(t, m, map[string]any{"note": "x"}), begin(t, m, map[string]any{"note": "y"})}
	holder := open(t, locking, tokens[1])
	check(t, errOf(counter.Update(holder, inc)))
	w := do(locking.HandlerFunc(func(_ http.ResponseWriter, r *http.Request, s *session.Session) error {
		return s.Destroy(r.Context())
	}), carrying("Cookie", tokens...))
	if w.Code != http.StatusOK {
		t.Errorf("answered %d", w.Code)
	}
	if err := holder.Save(ctx); err == nil {
		t.Error("the holder has saved a session that was logged out")
	}
	for _, token := range tokens {
		_, err := m.Open(ctx, token)
		wantErr(t, err, session.ErrNotFound)
	}
}

// TestLogoutOfOneCookie: there is one line, whatever the cookie is.
func TestLogoutOfOneCookie(t *testing.T) {
	for want, cookie := range map[string]session.Cookie{
		"__Host-session=; Path=/; Max-Age=0; HttpOnly; Secure; SameSite=Lax":                               {},
		"sid=; Path=/; Max-Age=0; HttpOnly; Secure; SameSite=Lax":                                          {Name: "sid"},
		"sid=; Path=/app; Domain=example.com; Max-Age=0; HttpOnly; Secure; SameSite=None; Partitioned":     {Name: "sid", Path: "/app", Domain: "example.com", SameSite: http.SameSiteNoneMode, Partitioned: true},
		"__Secure-session=; Path=/; Domain=shop.example.com; Max-Age=0; HttpOnly; Secure; SameSite=Strict": {Domain: "shop.example.com", SameSite: http.SameSiteStrictMode, Persistent: true},
	} {
		m := newManager(t, &memory.Backend{}, session.Config{Cookie: cookie})
		w := do(m.HandlerFunc(func(_ http.ResponseWriter, r *http.Request, s *session.Session) error {
			return s.Destroy(r.Context())
		}), sessiontest.NewRequest(t, m, "POST", "https://shop.example.com/app", nil, setNote))
		if got := w.Header()["Set-Cookie"]; !slices.Equal(got, []string{want}) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// TestLogoutThenAnother: after a logout, a session that begins in the same request
// is not ended with it, and its cookie outlives the lines that delete the others.
func TestLogoutThenAnother(t *testing.T) {
	m := newManager(t, &memory.Backend{}, session.Config{Cookie: session.Cookie{Name: "sid"}})
	r := httptest.NewRequest("POST", "https://shop.example.com/", nil)
	for range 2 {
		r.AddCookie(&http.Cookie{Name: "sid", Value: begin(t, m, map[string]any{"note": "x"})})
	}
	w := do(m.HandlerFunc(func(_ http.ResponseWriter, r *http.Request, s *session.Session) error {
		check(t, s.Destroy(r.Context()))
		s, err := m.Get(r.Context())
		check(t, errors.Join(err, s.Login("bob")))
		wantErr(t, s.Save(r.Context()), nil)
		return nil
	}), r)
	s := sessiontest.Stored(t, m, r, w.Result())
	if user, err := s.User(); user != "bob" || err != nil {
		t.Errorf("the user is %q, %v", user, err)
	}
	cookies := w.Result().Cookies()
	if last := cookies[len(cookies)-1]; len(cookies) != 3 || last.MaxAge < 0 || last.Value == "" || last.Domain != "" {
		t.Errorf("cookies %v", cookies)
	}
}

// TestBrowserIsLoggedOutForGood: a browser with several cookies of one name, each
// with a session, by way of its jar.
func TestBrowserIsLoggedOutForGood(t *testing.T) {
	for _, tt := range []struct {
		name    string
		cookie  session.Cookie
		planted []*http.Cookie // with sessions
		left    int            // cookies that cannot be deleted, as their Path is not known
	}{
		{"one", session.Cookie{}, nil, 0},
		{"one with a Domain", session.Cookie{Domain: "example.com"}, nil, 0},
		{"an older one for the host", session.Cookie{Domain: "example.com"}, []*http.Cookie{{}}, 0},
		{"an older one for the domain", session.Cookie{Name: "__Secure-session"}, []*http.Cookie{{Domain: "example.com"}}, 0},
		{"an older one with another Path", session.Cookie{Path: "/shop"}, []*http.Cookie{{Path: "/"}}, 0},
		{"from all domains", session.Cookie{Name: "sid"}, []*http.Cookie{{Domain: "example.com"}, {Domain: "eu.example.com"}, {Domain: "shop.eu.example.com"}}, 0},
		{"all of them at once", session.Cookie{Name: "sid", Path: "/shop", Domain: "example.com"}, []*http.Cookie{{Path: "/"}, {Path: "/shop"}, {Path: "/", Domain: "example.com"}}, 0},
		{"of a Path that nobody knows", session.Cookie{Name: "sid"}, []*http.Cookie{{Path: "/shop/"}}, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var b memory.Backend
			m := newManager(t, &b, session.Config{Cookie: tt.cookie})
			site := http.NewServeMux()
			site.Handle("/shop/", m.HandlerFunc(func(w http.ResponseWriter, _ *http.Request, s *session.Session) error {
				user, err := s.User()
				_, _ = io.WriteString(w, user)
				return err
			}))
			site.Handle("POST /shop/login", m.HandlerFunc(func(_ http.ResponseWriter, _ *http.Request, s *session.Session) error {
				return s.Login("ann")
			}))
			site.Handle("POST /shop/logout", m.HandlerFunc(func(_ http.ResponseWriter, r *http.Request, s *session.Session) error {
				return s.Destroy(r.Context())
			}))
			client, jar, shop := visitor(t, site, "https://shop.eu.example.com/shop/")
			fetch := func(method, page string) string {
				t.Helper()
				r, err := http.NewRequestWithContext(t.Context(), method, page, nil)
				check(t, err)
				resp, err := client.Do(r)
				check(t, err)
				body, err := io.ReadAll(resp.Body)
				check(t, errors.Join(err, resp.Body.Close()))
				if resp.StatusCode != http.StatusOK {
					t.Errorf("%s %s: %s", method, page, resp.Status)
				}
				return string(body)
			}
			fetch("POST", shop.String()+"login")
			for _, c := range tt.planted {
				c.Name, c.Value, c.Secure = m.Config().Cookie.Name, loggedIn(t, m, begin(t, m, map[string]any{"note": "x"})), true
				if c.Path == "" {
					c.Path = "/"
				}
				jar.SetCookies(shop, []*http.Cookie{c})
			}
			if user := fetch("GET", shop.String()); user != "ann" {
				t.Fatalf("the user is %q", user)
			}
			fetch("POST", shop.String()+"logout")
			if left := jar.Cookies(shop); len(left) != tt.left {
				t.Errorf("cookies after the logout: %v", left)
			}
			if user := fetch("GET", shop.String()); user != "" {
				t.Errorf("after the logout the user is %q", user)
			}
		})
	}
}

// browser returns a client with cookies whose requests all go to site.
func visitor(t *testing.T, site http.Handler, page string) (*http.Client, *cookiejar.Jar, *url.URL) {
	t.Helper()
	srv := httptest.NewTLSServer(site)
	t.Cleanup(srv.Close)
	jar, err := cookiejar.New(nil)
	check(t, err)
	at, err := url.Parse(page)
	check(t, err)
	client := srv.Client()
	client.Jar = jar
	client.Transport = &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, srv.Listener.Addr().String())
		},
		DisableKeepAlives: true,
	}
	return client, jar, at
}

// TestLogoutsAtOnce: two goroutines of a request log out, and others use it.
func TestLogoutsAtOnce(t *testing.T) {
	m := newManager(t, &memory.Backend{}, session.Config{})
	tokens := []string{begin(t, m, map[string]any{"note": "x"}), begin(t, m, map[string]any{"note": "y"})}
	do(m.HandlerFunc(func(_ http.ResponseWriter, r *http.Request, s *session.Session) error {
		var wg sync.WaitGroup
		for range 2 {
			wg.Add(2)
			go func() {
				defer wg.Done()
				if err := s.Destroy(r.Context()); err != nil {
					t.Error(err)
				}
			}()
			go func() {
				defer wg.Done()
				_, _ = m.Get(r.Context())
			}()
		}
		wg.Wait()
		return nil
	}), carrying("Cookie", tokens...))
	for _, token := range tokens {
		_, err := m.Open(ctx, token)
		wantErr(t, err, session.ErrNotFound)
	}
}
