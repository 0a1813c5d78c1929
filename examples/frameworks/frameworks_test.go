package frameworks

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"

	"connectrpc.com/connect"
	"github.com/gin-gonic/gin"
	"github.com/gofiber/fiber/v3"
	"golang.org/x/oauth2"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/observe"
	"github.com/seed-a7bee19b/session/sessiontest"
)

func newManager(t *testing.T, b session.Backend) *session.Manager {
	t.Helper()
	m, err := session.New(b, session.Config{
		Cookie: session.Cookie{InsecureHTTP: true}, // the servers of the tests have no TLS
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			http.Error(w, "our error page", session.Status(err))
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// serve returns the address of a server.
func serve(t *testing.T, h http.Handler) string {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return srv.URL
}

func serveFiber(t *testing.T, app *fiber.App) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- app.Listener(l, fiber.ListenConfig{DisableStartupMessage: true}) }()
	t.Cleanup(func() {
		if err := errors.Join(app.Shutdown(), <-done); err != nil {
			t.Error(err)
		}
	})
	return "http://" + l.Addr().String()
}

type browser struct {
	*http.Client
	t    *testing.T
	base string
}

func newBrowser(t *testing.T, base string) browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return browser{&http.Client{Jar: jar}, t, base}
}

// post returns the status and the body of the answer.
func (b browser) post(path, kind, body string) (int, string) {
	b.t.Helper()
	resp, err := b.Post(b.base+path, kind, strings.NewReader(body))
	return b.read(resp, err)
}

func (b browser) get(path string) (int, string) {
	b.t.Helper()
	resp, err := b.Get(b.base + path)
	return b.read(resp, err)
}

func (b browser) read(resp *http.Response, err error) (int, string) {
	b.t.Helper()
	if err != nil {
		b.t.Error(err)
		return 0, ""
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Error(err)
	}
	return resp.StatusCode, strings.TrimSpace(string(text))
}

func (b browser) cookie() string {
	b.t.Helper()
	u, err := url.Parse(b.base)
	if err != nil {
		b.t.Fatal(err)
	}
	cookies := b.Jar.Cookies(u)
	if len(cookies) != 1 {
		b.t.Fatalf("%d cookies", len(cookies))
	}
	return cookies[0].Value
}

func TestFrameworks(t *testing.T) {
	gin.SetMode(gin.TestMode)
	const form, json = "application/x-www-form-urlencoded", "application/json"
	for _, tt := range []struct {
		name        string
		start       func(t *testing.T, m *session.Manager) string
		kind        string
		count, user string // bodies of requests
	}{
		{"net/http", func(t *testing.T, m *session.Manager) string { return serve(t, NetHTTP(m)) }, form, "", "user=ann"},
		{"chi", func(t *testing.T, m *session.Manager) string { return serve(t, Chi(m)) }, form, "", "user=ann"},
		{"gin", func(t *testing.T, m *session.Manager) string { return serve(t, Gin(m)) }, form, "", "user=ann"},
		{"echo", func(t *testing.T, m *session.Manager) string { return serve(t, Echo(m)) }, form, "", "user=ann"},
		{"connect", func(t *testing.T, m *session.Manager) string { return serve(t, Connect(m)) }, json, "{}", `"ann"`},
		{"fiber", func(t *testing.T, m *session.Manager) string { return serveFiber(t, Fiber(m)) }, form, "", "user=ann"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var b sessiontest.Store
			m := newManager(t, &b)
			c := newBrowser(t, tt.start(t, m))
			for n := 1; n <= 3; n++ {
				if status, body := c.post("/count", tt.kind, tt.count); status != http.StatusOK || body != fmt.Sprint(n) {
					t.Fatalf("visit %d: status %d, %q", n, status, body)
				}
			}
			before := c.cookie()
			if status, body := c.post("/login", tt.kind, tt.user); status != http.StatusOK {
				t.Fatalf("login: status %d, %q", status, body)
			}
			s, err := m.Open(t.Context(), c.cookie())
			if err != nil {
				t.Fatal(err)
			}
			if user, err := s.User(); user != "ann" || err != nil || c.cookie() == before {
				t.Errorf("user %q, %v; the same cookie: %v", user, err, c.cookie() == before)
			}
			if _, err := m.Open(t.Context(), before); !errors.Is(err, session.ErrNotFound) {
				t.Errorf("the old token: %v", err)
			}

			var both sync.WaitGroup
			for range 2 {
				both.Go(func() {
					if status, body := c.post("/count", tt.kind, tt.count); status != http.StatusOK {
						t.Errorf("at once: status %d, %q", status, body)
					}
				})
			}
			both.Wait()
			b.FailNext(observe.OpSave, 1, errors.New("down"))
			if status, body := c.post("/count", tt.kind, tt.count); status != http.StatusServiceUnavailable || body != "our error page" {
				t.Errorf("when the store fails: status %d, %q", status, body)
			}
			if status, body := c.post("/count", tt.kind, tt.count); status != http.StatusOK || body != "6" {
				t.Errorf("in the end: status %d, %q", status, body)
			}
		})
	}
}

func TestConnectStream(t *testing.T) {
	var b sessiontest.Store
	m := newManager(t, &b)
	c := newBrowser(t, serve(t, Connect(m)))
	client := connect.NewClient[wrapperspb.Int32Value, wrapperspb.Int32Value](c, c.base+"/countdown")
	stream := func() (got []int32, err error) {
		s, err := client.CallServerStream(t.Context(), connect.NewRequest(wrapperspb.Int32(3)))
		if err != nil {
			return nil, err
		}
		defer s.Close()
		for s.Receive() {
			got = append(got, s.Msg().Value)
		}
		return got, s.Err()
	}
	for range 2 {
		if got, err := stream(); fmt.Sprint(got) != "[3 2 1]" || err != nil {
			t.Errorf("got %v, %v", got, err)
		}
	}
	if _, body := c.post("/count", "application/json", "{}"); body != "3" {
		t.Errorf("after two streams: %q", body)
	}
	for _, op := range []observe.Op{observe.OpLoad, observe.OpSave} {
		b.FailNext(op, 1, errors.New("down"))
		if got, err := stream(); connect.CodeOf(err) != connect.CodeUnavailable || got != nil {
			t.Errorf("%v fails: got %v, %v", op, got, err)
		}
	}
}

func TestFlash(t *testing.T) {
	var b sessiontest.Store
	c := newBrowser(t, serve(t, Flash(newManager(t, &b))))
	const shown = `<p class="flash">Added a &lt;b&gt; tea</p>`
	if status, body := c.post("/", "application/x-www-form-urlencoded", "item=a+%3Cb%3E+tea"); status != http.StatusOK || !strings.HasPrefix(body, shown) {
		t.Errorf("status %d, %q", status, body)
	}
	if status, body := c.get("/"); status != http.StatusOK || strings.Contains(body, "flash") {
		t.Errorf("a second time: status %d, %q", status, body)
	}
	b.FailNext(observe.OpLoad, 1, errors.New("down"))
	if status, body := c.get("/"); status != http.StatusServiceUnavailable || body != "our error page" {
		t.Errorf("when the store fails: status %d, %q", status, body)
	}
}

// provider is an OAuth provider that logs everybody in as ann.
func provider(t *testing.T) string {
	t.Helper()
	var mu sync.Mutex
	challenges := map[string]string{} // of each code
	mux := http.NewServeMux()
	mux.HandleFunc("GET /authorize", func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		code := fmt.Sprint("code", len(challenges))
		challenges[code] = r.FormValue("code_challenge")
		mu.Unlock()
		back := url.Values{"code": {code}, "state": {r.FormValue("state")}}
		http.Redirect(w, r, r.FormValue("redirect_uri")+"?"+back.Encode(), http.StatusSeeOther)
	})
	mux.HandleFunc("POST /token", func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if challenges[r.FormValue("code")] != oauth2.S256ChallengeFromVerifier(r.FormValue("code_verifier")) {
			http.Error(w, "wrong verifier", http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"access_token": "access", "token_type": "Bearer"}`)
	})
	return serve(t, mux)
}

func TestOAuth(t *testing.T) {
	var b sessiontest.Store
	m := newManager(t, &b)
	at := provider(t)
	cfg := &oauth2.Config{ClientID: "shop", Endpoint: oauth2.Endpoint{AuthURL: at + "/authorize", TokenURL: at + "/token"}}
	mux := http.NewServeMux()
	mux.Handle("/", OAuth(m, cfg, func(_ *http.Request, t *oauth2.Token) (string, error) {
		if t.AccessToken != "access" {
			return "", errors.New("another token")
		}
		return "ann", nil
	}))
	mux.Handle("GET /account", m.HandlerFunc(func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
		user, err := s.User()
		fmt.Fprint(w, user, " ", len(r.FormValue("filter")))
		return err
	}))
	c := newBrowser(t, serve(t, mux))
	cfg.RedirectURL = c.base + "/callback"

	// Two tabs, and a return URL that no cookie could hold.
	var callback string
	c.CheckRedirect = func(r *http.Request, _ []*http.Request) error {
		if r.URL.Path == "/callback" {
			callback = r.URL.RequestURI()
			return http.ErrUseLastResponse
		}
		return nil
	}
	back := "/account?filter=" + strings.Repeat("x", 8000)
	c.get("/login?return=" + url.QueryEscape(back))
	first, before := callback, c.cookie()
	c.get("/login?return=" + url.QueryEscape("//elsewhere.example"))
	second := callback
	c.CheckRedirect = nil
	if status, body := c.get(first); status != http.StatusOK || body != "ann 8000" || c.cookie() == before {
		t.Errorf("status %d, %q; the same cookie: %v", status, body, c.cookie() == before)
	}
	if status, body := c.get(first); status != http.StatusInternalServerError || body != "our error page" {
		t.Errorf("the same state again: status %d, %q", status, body)
	}
	if status, _ := c.get(second); status != http.StatusNotFound { // "/", which there is not
		t.Errorf("the other tab: status %d", status)
	}
	// A victim is led to the callback of an attacker's login.
	victim := newBrowser(t, c.base)
	if status, body := victim.get(first); status != http.StatusInternalServerError || body != "our error page" {
		t.Errorf("a foreign state: status %d, %q", status, body)
	}
}
