package main

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/dynamodb"
	"github.com/seed-a7bee19b/session/backend/memory"
)

// store is a Backend that counts calls, can fail, and can run a function before a
// Save.
type store struct {
	session.Backend
	calls, conflicts atomic.Int64
	down             atomic.Bool
	beforeSave       atomic.Pointer[func()]
}

var errDown = errors.New("the store is down for the test")

func (s *store) Load(ctx context.Context, key string) (session.Record, error) {
	s.calls.Add(1)
	if s.down.Load() {
		return session.Record{}, errDown
	}
	return s.Backend.Load(ctx, key)
}

func (s *store) Save(ctx context.Context, key string, rec session.Record) (session.Version, error) {
	s.calls.Add(1)
	if f := s.beforeSave.Load(); f != nil {
		(*f)()
	}
	if s.down.Load() {
		return "", errDown
	}
	v, err := s.Backend.Save(ctx, key, rec)
	if errors.Is(err, session.ErrConflict) {
		s.conflicts.Add(1)
	}
	return v, err
}

func (s *store) Delete(ctx context.Context, key string) error {
	s.calls.Add(1)
	if s.down.Load() {
		return errDown
	}
	return s.Backend.Delete(ctx, key)
}

// meet makes the next two Saves wait for each other, so that both begin from the
// same version.
func (s *store) meet() {
	var pair sync.WaitGroup
	pair.Add(2)
	var n atomic.Int64
	f := func() {
		if n.Add(1) <= 2 {
			pair.Done()
			pair.Wait()
		}
	}
	s.beforeSave.Store(&f)
}

// forEachStore runs f on memory, and on DynamoDB if DYNAMODB_ENDPOINT is set.
func forEachStore(t *testing.T, f func(t *testing.T, s *store)) {
	t.Run("memory", func(t *testing.T) { f(t, &store{Backend: &memory.Backend{}}) })
	if endpoint := os.Getenv("DYNAMODB_ENDPOINT"); endpoint != "" {
		t.Run("dynamodb", func(t *testing.T) {
			b, err := openTable(t.Context(), dynamodb.Config{Table: "shop-test"}, endpoint)
			if err != nil {
				t.Fatal(err)
			}
			f(t, &store{Backend: b})
		})
	}
}

// open serves the shop until the test ends. It returns the shop's URL and its
// log.
func open(t *testing.T, backend session.Backend) (string, *logs) {
	t.Helper()
	var log logs
	h, err := newShop(backend, site{store: "memory"}, slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})), t.Context().Done())
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return server.URL, &log
}

type logs struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// visitor is a browser without a screen.
type visitor struct {
	t      *testing.T
	url    string
	agent  string // the User-Agent, if not that of package http
	client *http.Client
}

func newVisitor(t *testing.T, shop string) *visitor {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &visitor{t: t, url: shop, client: &http.Client{Jar: jar, Timeout: time.Minute}}
}

// answer is a response, after redirects.
type answer struct {
	status int
	path   string
	header http.Header
	body   string
}

func (a answer) has(text string) bool { return strings.Contains(a.body, text) }

func (v *visitor) do(method, path string, form url.Values) answer {
	v.t.Helper()
	req, err := http.NewRequestWithContext(v.t.Context(), method, v.url+path, strings.NewReader(form.Encode()))
	if err != nil {
		v.t.Fatal(err)
	}
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if v.agent != "" {
		req.Header.Set("User-Agent", v.agent)
	}
	res, err := v.client.Do(req)
	if err != nil {
		v.t.Error(err)
		return answer{}
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		v.t.Error(err)
	}
	return answer{res.StatusCode, res.Request.URL.Path, res.Header, string(body)}
}

func (v *visitor) get(path string) answer { v.t.Helper(); return v.do("GET", path, nil) }

// stream begins the stream of a page of a member. The function that it returns waits
// for the end, and returns what the stream has said.
func (v *visitor) stream(name string) func() string {
	v.t.Helper()
	req, err := http.NewRequestWithContext(v.t.Context(), "GET", v.url+"/events?user="+name, nil)
	if err != nil {
		v.t.Fatal(err)
	}
	res, err := v.client.Do(req)
	if err != nil {
		v.t.Fatal(err)
	}
	return func() string {
		defer func() { _ = res.Body.Close() }()
		text, err := io.ReadAll(res.Body)
		if err != nil {
			v.t.Error(err)
		}
		return string(text)
	}
}

func (v *visitor) login(name string) answer {
	v.t.Helper()
	a := v.do("POST", "/login", url.Values{"name": {name}, "password": {demoPassword}})
	if a.status != http.StatusOK || a.path != "/" || !a.has("Good to see you, "+name) {
		v.t.Fatalf("after logging in: %d at %s", a.status, a.path)
	}
	return a
}

func (v *visitor) change(tea, do string) answer {
	v.t.Helper()
	return v.do("POST", "/cart", url.Values{"tea": {tea}, "do": {do}})
}

// cookie returns the session's cookie.
func (v *visitor) cookie() string {
	u, _ := url.Parse(v.url)
	for _, c := range v.client.Jar.Cookies(u) {
		if c.Name == "session" {
			return c.Value
		}
	}
	return ""
}

// with returns a visitor who has the given cookie.
func (v *visitor) with(cookie string) *visitor {
	w := newVisitor(v.t, v.url)
	u, _ := url.Parse(v.url)
	w.client.Jar.SetCookies(u, []*http.Cookie{{Name: "session", Value: cookie, Path: "/"}})
	return w
}

// quantities reads the quantities on a page of the cart, by the name of the tea.
var quantity = regexp.MustCompile(`(?s)<h2>([^<]*)</h2>.*?Quantity: </span>(\d+)<`)

func quantities(a answer) map[string]string {
	m := make(map[string]string)
	for _, g := range quantity.FindAllStringSubmatch(a.body, -1) {
		m[g[1]] = g[2]
	}
	return m
}

func TestPages(t *testing.T) {
	forEachStore(t, func(t *testing.T, s *store) {
		shop, log := open(t, s)
		member := newVisitor(t, shop)
		member.login("Ada " + rand.Text()[:8]) // who has no sessions from other tests
		tests := []struct {
			visitor *visitor
			path    string
			status  int
			at      string // after redirects
			text    string
			cache   string
			calls   int64
		}{
			{newVisitor(t, shop), "/style.css", 200, "/style.css", "--ground", "max-age=600", 0},
			{newVisitor(t, shop), "/live.js", 200, "/live.js", "EventSource", "max-age=600", 0},
			{newVisitor(t, shop), "/events?user=Ada", 200, "/events", "event: ended", "no-store", 0},
			{newVisitor(t, shop), "/login", 200, "/login", "Your name", "no-store", 0},
			{newVisitor(t, shop), "/", 200, "/login", "Your name", "no-store", 0},
			{newVisitor(t, shop), "/cart", 200, "/login", "Your name", "no-store", 0},
			{newVisitor(t, shop), "/account", 200, "/login", "Your name", "no-store", 0},
			{newVisitor(t, shop), "/nothing", 404, "/nothing", "Nothing on this shelf", "no-store", 0},
			{member, "/", 200, "/", "This page cost 1 Load, 1 Save.", "no-store", 2},
			{member, "/cart", 200, "/cart", "Your cart is empty", "no-store", 1},
			{member, "/account", 200, "/account", "<code>visits</code>", "no-store", 3},
			{member, "/style.css", 200, "/style.css", "--ground", "max-age=600", 0},
			{member, "/login", 200, "/", "Good to see you, Ada", "no-store", 3},
		}
		for _, test := range tests {
			before := s.calls.Load()
			a := test.visitor.get(test.path)
			if a.status != test.status || a.path != test.at || !a.has(test.text) {
				t.Errorf("GET %s: %d at %s, want %d at %s with %q", test.path, a.status, a.path, test.status, test.at, test.text)
			}
			if got := a.header.Get("Cache-Control"); got != test.cache {
				t.Errorf("GET %s: Cache-Control is %q, want %q", test.path, got, test.cache)
			}
			if a.header.Get("Content-Security-Policy") == "" {
				t.Errorf("GET %s: no Content-Security-Policy", test.path)
			}
			if got := s.calls.Load() - before; got != test.calls {
				t.Errorf("GET %s cost %d store calls, want %d", test.path, got, test.calls)
			}
		}
		if token := member.cookie(); token == "" || strings.Contains(log.String(), token) {
			t.Error("there is no cookie, or the log shows it")
		}
	})
}

func TestLogin(t *testing.T) {
	forEachStore(t, func(t *testing.T, s *store) {
		shop, _ := open(t, s)
		v := newVisitor(t, shop)
		for _, form := range []url.Values{
			nil,
			{"name": {"  "}, "password": {demoPassword}},
			{"name": {strings.Repeat("é", 41)}, "password": {demoPassword}},
			{"name": {"Ada"}, "password": {"coffee"}},
		} {
			a := v.do("POST", "/login", form)
			if a.status != http.StatusUnprocessableEntity || !a.has(`role="alert"`) || v.cookie() != "" {
				t.Errorf("POST /login with %v: %d, cookie %t", form, a.status, v.cookie() != "")
			}
		}
		v.login("Ada")
		first := v.cookie()
		v.change("assam", "add")
		v.login("Ada") // again, as before an action that needs a fresh login
		if v.cookie() == first {
			t.Error("logging in did not rotate the ID")
		}
		if a := v.with(first).get("/cart"); a.status != http.StatusConflict || a.has("Assam") {
			t.Errorf("the ID from before the login leads to %s, %d", a.path, a.status)
		}
		if got := quantities(v.get("/cart")); got["Assam Second Flush"] != "1" {
			t.Errorf("after logging in again the cart has %v", got)
		}
		v.login("Grace")
		if a := v.get("/cart"); !a.has("Your cart is empty") {
			t.Error("Grace sees the cart of Ada")
		}
	})
}

func TestCart(t *testing.T) {
	forEachStore(t, func(t *testing.T, s *store) {
		shop, _ := open(t, s)
		v := newVisitor(t, shop)
		if a := v.login("Ada"); !a.has("first time") {
			t.Error("the first visit is not the first")
		}
		a := v.change("assam", "add")
		if a.path != "/" || !a.has("Assam Second Flush is in your cart.") || !a.has("looked at this page 2 times") {
			t.Error("the page after adding does not show the message, or was not counted")
		}
		if a = v.get("/"); a.has("is in your cart.") {
			t.Error("the message was shown twice")
		}
		for _, step := range []struct {
			tea, do   string
			assam     string
			peony     string
			total     string
			status    int
			wantEmpty bool
		}{
			{tea: "assam", do: "more", status: 200, assam: "2", total: "€19.60"},
			{tea: "peony", do: "more", status: 200, assam: "2", peony: "1", total: "€35.80"},
			{tea: "assam", do: "fewer", status: 200, assam: "1", peony: "1", total: "€26.00"},
			{tea: "peony", do: "fewer", status: 200, assam: "1", total: "€9.80"},
			{tea: "coffee", do: "add", status: 404},
			{tea: "assam", do: "steal", status: 400},
			{tea: "assam", do: "remove", status: 200, wantEmpty: true},
			{tea: "assam", do: "fewer", status: 200, wantEmpty: true},
		} {
			a := v.change(step.tea, step.do)
			got := quantities(a)
			if a.status != step.status || got["Assam Second Flush"] != step.assam || got["White Peony"] != step.peony ||
				!a.has(step.total) || a.has("Your cart is empty") != step.wantEmpty {
				t.Errorf("%s %s: %d, %v", step.do, step.tea, a.status, got)
			}
		}
	})
}

// TestTwoTabs adds to one cart twice, from the same stored state.
func TestTwoTabs(t *testing.T) {
	forEachStore(t, func(t *testing.T, s *store) {
		shop, _ := open(t, s)
		v := newVisitor(t, shop)
		v.login("Ada")
		v.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		for _, both := range [][2]string{{"assam", "peony"}, {"sencha", "sencha"}} {
			s.meet()
			var tabs sync.WaitGroup
			for _, tea := range both {
				tabs.Go(func() {
					if a := v.change(tea, "add"); a.status != http.StatusSeeOther {
						t.Errorf("adding %s: %d", tea, a.status)
					}
				})
			}
			tabs.Wait()
		}
		got := quantities(v.get("/cart"))
		if got["Assam Second Flush"] != "1" || got["White Peony"] != "1" || got["Uji Sencha"] != "2" {
			t.Errorf("the cart has %v", got)
		}
		if s.conflicts.Load() != 2 {
			t.Errorf("%d conflicts; the test wants 2", s.conflicts.Load())
		}
	})
}

func TestLogout(t *testing.T) {
	forEachStore(t, func(t *testing.T, s *store) {
		shop, _ := open(t, s)
		v := newVisitor(t, shop)
		v.login("Ada")
		v.change("assam", "add")
		old := v.cookie()
		if a := v.do("POST", "/logout", url.Values{}); a.path != "/login" || !a.has("You are logged out") {
			t.Errorf("logging out leads to %s", a.path)
		}
		if v.cookie() != "" {
			t.Error("the cookie is still there")
		}
		for _, back := range []*visitor{v, v.with(old)} {
			for _, path := range []string{"/", "/cart", "/account"} {
				if a := back.get(path); a.path != "/login" || a.has("Ada") {
					t.Errorf("after logging out, %s leads to %s", path, a.path)
				}
			}
		}
	})
}

// TestOtherSite posts forms that another site could make a browser send.
func TestOtherSite(t *testing.T) {
	shop, _ := open(t, &memory.Backend{})
	v := newVisitor(t, shop)
	v.login("Ada")
	req, err := http.NewRequestWithContext(t.Context(), "POST", shop+"/logout", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Sec-Fetch-Site", "cross-site")
	if v.agent != "" {
		req.Header.Set("User-Agent", v.agent)
	}
	res, err := v.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusForbidden {
		t.Errorf("a logout from another site: %d", res.StatusCode)
	}
	if a := v.get("/"); a.path != "/" {
		t.Error("another site logged Ada out")
	}
}

func TestStoreDown(t *testing.T) {
	s := &store{Backend: &memory.Backend{}}
	shop, log := open(t, s)
	v := newVisitor(t, shop)
	v.login("Ada")
	v.change("assam", "add")
	cookie := v.cookie()
	s.down.Store(true)
	check := func(a answer, what string) {
		t.Helper()
		if a.status != http.StatusServiceUnavailable || strings.Count(a.body, "<h1>Back in a moment</h1>") != 1 {
			t.Errorf("%s: %d", what, a.status)
		}
		if a.has("Ada") || a.has("Assam") || a.has(errDown.Error()) || a.has(cookie) {
			t.Errorf("%s: the page shows details of the error", what)
		}
		if a.header.Get("Cache-Control") != "no-store" || a.header.Get("Retry-After") == "" || a.header.Get("Set-Cookie") != "" ||
			a.header.Get("Location") != "" || a.header.Get("Content-Security-Policy") == "" {
			t.Errorf("%s: %v", what, a.header)
		}
	}
	for _, path := range []string{"/", "/cart", "/account", "/login"} {
		check(v.get(path), "GET "+path)
	}
	check(v.change("assam", "add"), "POST /cart")
	check(v.do("POST", "/logout", url.Values{}), "POST /logout")
	check(newVisitor(t, shop).do("POST", "/login", url.Values{"name": {"Ada"}, "password": {demoPassword}}), "POST /login")
	if a := v.get("/style.css"); a.status != http.StatusOK {
		t.Errorf("the style sheet: %d", a.status)
	}

	breaks := func() { s.down.Store(true) } // between the Load and the Save
	s.beforeSave.Store(&breaks)
	s.down.Store(false)
	check(v.get("/"), "GET / while it goes down")
	s.down.Store(false)
	check(v.change("assam", "add"), "POST /cart while it goes down")
	s.beforeSave.Store(nil)
	s.down.Store(false)
	if got := quantities(v.get("/cart")); got["Assam Second Flush"] != "1" {
		t.Errorf("when the store is back the cart has %v", got)
	}
	if text := log.String(); !strings.Contains(text, errDown.Error()) || strings.Contains(text, cookie) {
		t.Error("the log does not name the cause, or shows a cookie")
	}
}

// TestEndedMeanwhile logs out in one tab while another is busy.
func TestEndedMeanwhile(t *testing.T) {
	forEachStore(t, func(t *testing.T, s *store) {
		shop, _ := open(t, s)
		v := newVisitor(t, shop)
		v.login("Ada")
		logout := func() {
			s.beforeSave.Store(nil)
			v.do("POST", "/logout", url.Values{})
		}
		slow := v.with(v.cookie())
		s.beforeSave.Store(&logout)
		if a := slow.change("assam", "add"); a.status != http.StatusConflict || !a.has("Your session changed or ended") {
			t.Errorf("the slow tab got %d", a.status)
		}
		if a := slow.get("/cart"); a.path != "/login" {
			t.Errorf("after that, the slow tab is led to %s", a.path)
		}
	})
}

func TestRun(t *testing.T) {
	for _, args := range [][]string{
		{"-store", "redis"},
		{"-nothing"},
		{"memory"},
		{"-addr", "127.0.0.1:port"},
		{"-endpoint", "http://127.0.0.1:1", "-table", "no"},
	} {
		if err := run(t.Context(), args, io.Discard); err == nil {
			t.Errorf("run %q: no error", args)
		}
	}

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var out logs
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, []string{"-addr", "127.0.0.1:0"}, &out) }()
	var shop string
	for address := regexp.MustCompile(`http://127\.0\.0\.1:\d+`); shop == ""; shop = address.FindString(out.String()) {
		select {
		case err := <-ended:
			t.Fatalf("run ended: %v", err)
		case <-time.After(5 * time.Millisecond):
		}
	}
	v := newVisitor(t, shop)
	v.login("Ada")
	stream := v.stream("Ada")
	if !strings.Contains(out.String(), "make demo ARGS=") {
		t.Errorf("it does not say how to use DynamoDB: %s", out.String())
	}
	stop()
	if err := <-ended; err != nil { // it would wait for the stream, and give up
		t.Errorf("run ended with %v", err)
	}
	if text := stream(); strings.Contains(text, "ended") {
		t.Errorf("the stream says %q, and the session has not ended", text)
	}
}

// TestStreamAndTimeouts checks that the timeouts of the server and of the store do
// not end a stream, and that it is for one member.
func TestStreamAndTimeouts(t *testing.T) {
	h, err := newShop(&memory.Backend{}, site{store: "memory"}, slog.New(slog.DiscardHandler), t.Context().Done())
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(h)
	server.Config.ReadTimeout, server.Config.WriteTimeout = 200*time.Millisecond, 200*time.Millisecond
	server.Start()
	t.Cleanup(server.Close)
	v := newVisitor(t, server.URL)
	v.login("Ada")
	stream := v.stream("Ada")
	time.Sleep(time.Second)
	if text := v.stream("Bob")(); text != "event: ended\ndata:\n\n" {
		t.Errorf("the page of another member is told %q", text)
	}
	v.do("POST", "/logout", url.Values{})
	if text := stream(); text != ": still here\n\nevent: ended\ndata:\n\n" {
		t.Errorf("the stream says %q", text)
	}
}

func TestListenOnTakenPort(t *testing.T) {
	taken, err := listen(t.Context(), "127.0.0.1:0", false, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	if l, err := listen(t.Context(), taken.Addr().String(), false, io.Discard); err == nil {
		_ = l.Close()
		t.Error("two listen on the same address")
	}
	var out strings.Builder
	free, err := listen(t.Context(), taken.Addr().String(), true, &out)
	if err != nil {
		t.Fatal(err)
	}
	_ = free.Close()
	if !strings.Contains(out.String(), "in use") {
		t.Errorf("it says %q", out.String())
	}
}
