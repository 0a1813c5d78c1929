package adapters

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alexedwards/scs/v2"
	ginsessions "github.com/gin-contrib/sessions"
	"github.com/gin-gonic/gin"
	"github.com/gofiber/fiber/v3"
	fiberrecover "github.com/gofiber/fiber/v3/middleware/recover"
	fibersession "github.com/gofiber/fiber/v3/middleware/session"
	"github.com/gorilla/sessions"
	echosession "github.com/labstack/echo-contrib/session"
	"github.com/labstack/echo/v4"

	"github.com/seed-a7bee19b/session"
	fiberstore "github.com/seed-a7bee19b/session/adapter/fiber"
	ginstore "github.com/seed-a7bee19b/session/adapter/gin"
	gorillastore "github.com/seed-a7bee19b/session/adapter/gorilla"
	scsstore "github.com/seed-a7bee19b/session/adapter/scs"
)

// A site serves pages with one of the libraries. Several sites can share a store.
type site struct {
	cookie string
	serve  func(r *http.Request) (*http.Response, error)

	mu    sync.Mutex
	gates map[string]chan struct{}
}

func (s *site) gate(name string) chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gates == nil {
		s.gates = map[string]chan struct{}{}
	}
	if s.gates[name] == nil {
		s.gates[name] = make(chan struct{})
	}
	return s.gates[name]
}

// visit is the session of a request in the API of a library.
type visit struct {
	get   func(name string) any
	set   func(name string, v any)
	clear func()
	end   func() error // logout
	renew func() error // nil if the library has no call for it
	save  func() error // at the end; nil if the library saves by itself
}

// libraries that the adapters are for.
var libraries = []struct {
	name  string
	start func(t testing.TB, b session.Backend) *site
}{
	{"scs", func(t testing.TB, b session.Backend) *site { return startSCS(t, b, 0) }},
	{"scs with IdleTimeout", func(t testing.TB, b session.Backend) *site { return startSCS(t, b, time.Hour) }},
	{"gorilla", startGorilla},
	{"echo-contrib", startEcho},
	{"gin", startGin},
	{"fiber", startFiber},
}

// each runs f with every library on every store. connect starts one more site on
// the same store, with a client of its own.
func each(t *testing.T, f func(t *testing.T, connect func() (*site, *backend))) {
	for _, st := range stores {
		t.Run(st.name, func(t *testing.T) {
			t.Parallel()
			for _, lib := range libraries {
				t.Run(lib.name, func(t *testing.T) {
					t.Parallel()
					r := st.room(t)
					f(t, func() (*site, *backend) {
						b := r(t)
						return lib.start(t, b), b
					})
				})
			}
		})
	}
}

// page runs the steps in the parameter "do":
//
//	get:NAME         write the value
//	set:NAME=VALUE, clear, end, renew, save
//	inc:NAME         read a number, and set it to 1 more
//	big:N            set a value of N bytes
//	func             set a value that no codec takes
//	say:GATE, wait:GATE
func (s *site) page(do string, v visit, w io.Writer) error {
	for step := range strings.FieldsSeq(do) {
		op, arg, _ := strings.Cut(step, ":")
		var err error
		switch op {
		case "get":
			_, err = fmt.Fprint(w, cmp.Or(v.get(arg), any("-")))
		case "set":
			name, value, _ := strings.Cut(arg, "=")
			v.set(name, value)
		case "inc":
			n, _ := v.get(arg).(int)
			v.set(arg, n+1)
		case "big":
			n := 0
			if _, err = fmt.Sscan(arg, &n); err == nil {
				v.set("big", strings.Repeat("x", n))
			}
		case "func":
			v.set("func", func() {})
		case "clear":
			v.clear()
		case "end":
			err = v.end()
		case "renew":
			err = v.renew()
		case "save":
			if v.save != nil {
				err = v.save()
			}
		case "say":
			close(s.gate(arg))
		case "wait":
			<-s.gate(arg)
		default:
			err = fmt.Errorf("unknown step %s", step)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// answer is a response.
type answer struct {
	status int
	body   string
	cookie string // what the client has now, "" if it was deleted
	set    bool
}

func (s *site) do(t testing.TB, cookie, steps string) answer {
	t.Helper()
	return s.doContext(context.Background(), t, cookie, steps)
}

func (s *site) doContext(ctx context.Context, t testing.TB, cookie, steps string) answer {
	t.Helper()
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/?do="+url.QueryEscape(steps), nil)
	if cookie != "" {
		r.Header.Set("Cookie", s.cookie+"="+cookie)
	}
	resp, err := s.serve(r)
	if err != nil {
		t.Errorf("%s: %v", steps, err)
		return answer{}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Error(err)
	}
	out := answer{status: resp.StatusCode, body: strings.TrimSpace(string(body)), cookie: cookie}
	for _, c := range resp.Cookies() {
		if c.Name == s.cookie {
			out.set, out.cookie = true, c.Value
			if c.MaxAge < 0 {
				out.cookie = ""
			}
		}
	}
	return out
}

// begin makes a session with a=1.
func (s *site) begin(t testing.TB) (cookie string) {
	t.Helper()
	got := s.do(t, "", "set:a=1 save")
	if got.status != http.StatusOK || got.cookie == "" {
		t.Fatalf("begin: %+v", got)
	}
	return got.cookie
}

func (s *site) get(t testing.TB, cookie, name string) string {
	t.Helper()
	got := s.do(t, cookie, "get:"+name)
	if got.status != http.StatusOK {
		t.Errorf("get %s: status %d: %s", name, got.status, got.body)
	}
	return got.body
}

// slow starts a request that reads the session and then waits. finish lets it go
// on.
func (s *site) slow(t testing.TB, cookie, steps string) (finish func() answer) {
	t.Helper()
	done := make(chan answer, 1)
	go func() { done <- s.do(t, cookie, "get:a say:in wait:go "+steps) }()
	select {
	case <-s.gate("in"):
	case got := <-done:
		t.Fatalf("the slow request ended at once: %+v", got)
	}
	return func() answer {
		close(s.gate("go"))
		return <-done
	}
}

func handler(cookie string, h http.Handler) *site {
	return &site{cookie: cookie, serve: func(r *http.Request) (*http.Response, error) {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Result(), nil
	}}
}

// fail is the error page of a program that follows the documentation.
func fail(w http.ResponseWriter, err error) { http.Error(w, err.Error(), session.Status(err)) }

func startSCS(t testing.TB, b session.Backend, idle time.Duration) *site {
	store, err := scsstore.New(b, scsstore.Config{})
	if err != nil {
		t.Fatal(err)
	}
	m := &scs.SessionManager{ // as scs.New, which starts a goroutine for its own store
		Store: store, Codec: scs.GobCodec{}, IdleTimeout: idle, Lifetime: 24 * time.Hour,
		Cookie:    scs.SessionCookie{Name: "session", Path: "/", HttpOnly: true, Persist: true},
		ErrorFunc: func(w http.ResponseWriter, _ *http.Request, err error) { fail(w, err) },
	}
	var s *site
	h := store.Handler(m.LoadAndSave(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := r.Context()
		var body strings.Builder
		err := s.page(r.FormValue("do"), visit{
			get:   func(name string) any { return m.Get(ctx, name) },
			set:   func(name string, v any) { m.Put(ctx, name, v) },
			clear: func() { _ = m.Clear(ctx) },
			end:   func() error { return m.Destroy(ctx) },
			renew: func() error { return m.RenewToken(ctx) },
		}, &body)
		switch {
		case err != nil:
			fail(w, err)
		case body.Len() > 0: // otherwise LoadAndSave commits at the end
			_, _ = io.WriteString(w, body.String())
		}
	})))
	s = handler("session", h)
	return s
}

// insecure lets the cookies of the tests travel over http.
var insecure = sessions.Options{Path: "/", MaxAge: 3600, HttpOnly: true}

func startGorilla(t testing.TB, b session.Backend) *site {
	store, err := gorillastore.New(b, gorillastore.Config{Options: insecure})
	if err != nil {
		t.Fatal(err)
	}
	var s *site
	s = handler("session", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ss, _ := store.Get(r, "session") // as many programs do
		var body strings.Builder
		err := s.page(r.FormValue("do"), visit{
			get:   func(name string) any { return ss.Values[name] },
			set:   func(name string, v any) { ss.Values[name] = v },
			clear: func() { ss.Values = map[any]any{} },
			end:   func() error { ss.Options.MaxAge = -1; return ss.Save(r, w) },
			renew: func() error { ss.ID = ""; return nil },
			save:  func() error { return ss.Save(r, w) },
		}, &body)
		if err != nil {
			fail(w, err)
			return
		}
		_, _ = io.WriteString(w, body.String())
	}))
	return s
}

func startEcho(t testing.TB, b session.Backend) *site {
	store, err := gorillastore.New(b, gorillastore.Config{Options: insecure})
	if err != nil {
		t.Fatal(err)
	}
	e := echo.New()
	e.HTTPErrorHandler = func(err error, c echo.Context) { _ = c.String(session.Status(err), err.Error()) }
	e.Use(echosession.Middleware(store))
	s := handler("session", e)
	e.GET("/", func(c echo.Context) error {
		ss, _ := echosession.Get("session", c) // as many programs do
		var body strings.Builder
		err := s.page(c.QueryParam("do"), visit{
			get:   func(name string) any { return ss.Values[name] },
			set:   func(name string, v any) { ss.Values[name] = v },
			clear: func() { ss.Values = map[any]any{} },
			end:   func() error { ss.Options.MaxAge = -1; return ss.Save(c.Request(), c.Response()) },
			renew: func() error { ss.ID = ""; return nil },
			save:  func() error { return ss.Save(c.Request(), c.Response()) },
		}, &body)
		if err != nil {
			return err
		}
		return c.String(http.StatusOK, body.String())
	})
	return s
}

func startGin(t testing.TB, b session.Backend) *site {
	store, err := ginstore.New(b, ginstore.Config{})
	if err != nil {
		t.Fatal(err)
	}
	store.Options(ginsessions.Options{Path: "/", MaxAge: 3600, HttpOnly: true})
	e := gin.New()
	e.Use(ginsessions.Sessions("session", store))
	s := handler("session", e)
	e.GET("/", func(c *gin.Context) {
		ss := ginsessions.Default(c)
		var body strings.Builder
		err := s.page(c.Query("do"), visit{
			get:   func(name string) any { return ss.Get(name) },
			set:   func(name string, v any) { ss.Set(name, v) },
			clear: ss.Clear,
			end: func() error {
				ss.Clear()
				ss.Options(ginsessions.Options{Path: "/", MaxAge: -1})
				return ss.Save()
			},
			save: ss.Save,
		}, &body)
		if err != nil {
			c.String(session.Status(err), "%v", err)
			return
		}
		c.String(http.StatusOK, "%s", body.String())
	})
	return s
}

func startFiber(t testing.TB, b session.Backend) *site {
	storage, err := fiberstore.New(b, fiberstore.Config{})
	if err != nil {
		t.Fatal(err)
	}
	failed := func(c fiber.Ctx, err error) error { return c.Status(session.Status(err)).SendString(err.Error()) }
	app := fiber.New(fiber.Config{ErrorHandler: failed})
	app.Use(fiberrecover.New(), fibersession.New(fibersession.Config{
		Storage: storage, ErrorHandler: func(c fiber.Ctx, err error) {
			c.Response().Header.DelCookie("session_id")
			_ = failed(c, err)
		},
	}))
	s := &site{cookie: "session_id"}
	s.serve = func(r *http.Request) (*http.Response, error) {
		return app.Test(r, fiber.TestConfig{Timeout: 0})
	}
	app.Get("/", func(c fiber.Ctx) error {
		m := fibersession.FromContext(c)
		var body strings.Builder
		err := s.page(strings.Clone(c.Query("do")), visit{
			get: func(name string) any { return m.Get(name) },
			set: func(name string, v any) { m.Set(name, v) },
			clear: func() {
				for _, k := range m.Keys() {
					m.Delete(k)
				}
			},
			end:   m.Destroy,
			renew: m.Regenerate,
		}, &body)
		if err != nil {
			return err
		}
		return c.SendString(body.String())
	})
	return s
}
