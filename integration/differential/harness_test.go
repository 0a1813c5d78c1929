package differential

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/labstack/echo/v4"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/memory"
)

// A behaviour is a handler's way to treat a request. Its outcome must not depend
// on the session Handler.
type behaviour struct {
	name string

	// One of them is the handler. handle is tried in every framework.
	handle func(w http.ResponseWriter, r *http.Request, p *probe)
	gin    func(c *gin.Context, p *probe)
	echo   func(c echo.Context, p *probe) error

	outside  middleware         // outside of the session Handler
	inside   middleware         // inside, around the framework
	server   func(*http.Server) // changes its configuration
	ask      func(c *client)    // nil: GET /
	only     string             // the protocols that have it: "1" or "2"
	in       string             // the framework that it is about
	headless bool               // there is no response to send a token with, so no new session either
}

type middleware func(next http.Handler, p *probe) http.Handler

// A variant is a way to use the session Handler.
type variant struct {
	name string
	mode session.Mode // 0: not used
	use  func(m *session.Manager, r *http.Request) error

	makes bool // a new session
}

var note = session.Key[string]{Name: "note"}

var variants = []variant{
	{name: "without"},
	{name: "not asked", mode: session.Merge},
	{name: "read", mode: session.Merge, use: func(m *session.Manager, r *http.Request) error {
		_, err := m.Get(r.Context())
		return err
	}},
	{name: "new session", makes: true, mode: session.Merge, use: func(m *session.Manager, r *http.Request) error {
		s, err := m.Get(r.Context())
		return errors.Join(err, note.Set(s, "x"))
	}},
	{name: "locked", makes: true, mode: session.Exclusive, use: func(m *session.Manager, r *http.Request) error {
		s, err := m.Get(r.Context())
		return errors.Join(err, note.Set(s, "x"))
	}},
}

const cookieName = "session"

var protocols = []string{"HTTP/1.1", "HTTP/2", "h2c"}

// A framework serves a behaviour; sessions is the session Handler, which it
// puts where its name says.
type framework struct {
	name  string
	serve func(b behaviour, p *probe, sessions func(http.Handler) http.Handler) http.Handler
}

func around(build func(b behaviour, p *probe) http.Handler) func(behaviour, *probe, func(http.Handler) http.Handler) http.Handler {
	return func(b behaviour, p *probe, sessions func(http.Handler) http.Handler) http.Handler {
		h := build(b, p)
		if b.inside != nil {
			h = b.inside(h, p)
		}
		return sessions(h)
	}
}

var frameworks = []framework{
	{"net/http", around(func(b behaviour, p *probe) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { p.serve(b, w, r) })
	})},
	{"ServeMux", around(func(b behaviour, p *probe) http.Handler {
		mux := http.NewServeMux()
		f := func(w http.ResponseWriter, r *http.Request) { p.serve(b, w, r) }
		mux.HandleFunc("/", f)
		mux.HandleFunc("/items/{id}/{rest...}", f)
		mux.HandleFunc("POST /post", f)
		mux.HandleFunc("/folder/", f)
		return mux
	})},
	{"gin", around(func(b behaviour, p *probe) http.Handler {
		engine := gin.New()
		engine.Any("/*path", func(c *gin.Context) {
			if b.gin != nil {
				p.use(c.Request)
				b.gin(c, p)
				return
			}
			p.serve(b, c.Writer, c.Request)
		})
		return engine
	})},
	{"echo", around(func(b behaviour, p *probe) http.Handler { return echoed(b, p) })},
	{"echo, inside", func(b behaviour, p *probe, sessions func(http.Handler) http.Handler) http.Handler {
		if b.inside != nil {
			outer := sessions
			sessions = func(h http.Handler) http.Handler { return outer(b.inside(h, p)) }
		}
		return echoed(b, p, echo.WrapMiddleware(sessions))
	}},
}

func echoed(b behaviour, p *probe, middleware ...echo.MiddlewareFunc) http.Handler {
	e := echo.New()
	e.Logger.SetOutput(io.Discard)
	e.Use(middleware...)
	e.Any("/*", func(c echo.Context) error {
		if b.echo != nil {
			p.use(c.Request())
			return b.echo(c, p)
		}
		p.serve(b, c.Response(), c.Request())
		return nil
	})
	return e
}

// probe records the server's side.
type probe struct {
	t        *testing.T
	v        variant
	m        *session.Manager
	step     chan struct{} // messages between handlers and clients
	returned chan struct{} // closed when the outermost handler has returned
	once     sync.Once     // closes it
	serving  sync.WaitGroup

	mu    sync.Mutex
	notes []string
}

func (p *probe) note(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.notes = append(p.notes, fmt.Sprintf(format, args...))
}

func (p *probe) use(r *http.Request) {
	if p.v.use == nil {
		return
	}
	if err := p.v.use(p.m, r); err != nil {
		p.note("the session: %v", err)
	}
}

func (p *probe) serve(b behaviour, w http.ResponseWriter, r *http.Request) {
	p.use(r)
	b.handle(w, r, p)
}

// wait waits for the other side, with a timeout.
func (p *probe) wait() {
	select {
	case <-p.step:
	case <-time.After(20 * time.Second):
		p.note("waited in vain")
	}
}

// outermost records what middleware and the server find in their request after
// the handlers have returned.
func (p *probe) outermost(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.serving.Add(1)
		defer p.serving.Done()
		defer p.once.Do(func() { close(p.returned) })
		defer func() {
			p.note("method %s, host %v, remote %v, URI %s, path %s, length %d, close %v", r.Method, r.Host != "", r.RemoteAddr != "", r.RequestURI, r.URL.Path, r.ContentLength, r.Close)
			p.note("pattern %q, id %q, rest %q, other %q", r.Pattern, r.PathValue("id"), r.PathValue("rest"), r.PathValue("*"))
			p.note("form %v, post form %v, trailer %v", r.Form, r.PostForm, len(r.Trailer) > 0)
			if r.MultipartForm != nil {
				p.note("multipart form: %v, files %d", r.MultipartForm.Value, len(r.MultipartForm.File))
			}
			if v := recover(); v != nil {
				p.note("panic: %v", v)
				panic(v)
			}
		}()
		next.ServeHTTP(w, r)
	})
}

// client sends requests, and records the responses.
type client struct {
	p     *probe
	srv   *httptest.Server
	http  *http.Client
	proto string
	notes []string
}

func (c *client) note(format string, args ...any) {
	c.notes = append(c.notes, boundary.ReplaceAllString(fmt.Sprintf(format, args...), "${1}boundary"))
}

// boundary matches the random boundary of several ranges.
var boundary = regexp.MustCompile(`(boundary=|--)[0-9a-f]{60}`)

// own has the headers that a response may have because of the session.
func (c *client) own(name string, values []string) []string {
	asked := c.p.v.use != nil
	values = slices.DeleteFunc(slices.Clone(values), func(v string) bool {
		switch name {
		case "Date":
			return true
		case "Set-Cookie":
			return strings.HasPrefix(v, cookieName+"=")
		case "Cache-Control":
			return v == "no-store" && asked
		case "Vary":
			return v == "Cookie" && asked
		}
		return false
	})
	return values
}

func (c *client) headers(what string, h http.Header) {
	for _, name := range slices.Sorted(maps.Keys(h)) {
		if values := c.own(name, h[name]); len(values) > 0 {
			c.note("%s %s: %q", what, name, values)
		}
	}
}

func (c *client) request(method, path string, body io.Reader) *http.Request {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	c.p.t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
			c.note("informational %d", code)
			c.headers("informational", http.Header(h))
			return nil
		},
	}), method, c.srv.URL+path, body)
	if err != nil {
		c.p.t.Fatal(err)
	}
	return r
}

func (c *client) get(path string) { c.do(c.request("GET", path, nil)) }

func (c *client) do(r *http.Request) {
	if resp := c.send(r); resp != nil {
		c.rest(resp)
	}
}

// send records the head of the response.
func (c *client) send(r *http.Request) *http.Response {
	resp, err := c.http.Do(r)
	if err != nil {
		c.note("no response") // the cause differs from run to run
		return nil
	}
	c.note("%s %s, length %d, encoding %v, close %v", resp.Proto, resp.Status, resp.ContentLength, resp.TransferEncoding, resp.Close)
	c.headers("header", resp.Header)
	return resp
}

// rest records the rest of it.
func (c *client) rest(resp *http.Response) {
	body, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if len(body) > 2000 {
		body = fmt.Appendf(nil, "%d bytes, %x", len(body), bytes.Count(body, []byte("x")))
	}
	c.note("body %q, complete %v", body, err == nil)
	c.headers("trailer", resp.Trailer)
}

// raw sends bytes on a connection of its own, and records the bytes that come
// back until it is closed.
func (c *client) raw(text string) {
	conn, err := net.Dial("tcp", c.srv.Listener.Addr().String())
	if err != nil {
		c.p.t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	_, _ = io.WriteString(conn, text)
	c.lines(conn)
}

func (c *client) lines(r io.Reader) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		name, value, isHeader := strings.Cut(lines.Text(), ": ")
		if !isHeader || len(c.own(name, []string{value})) > 0 {
			c.note("line %q", lines.Text())
		}
	}
}

// transcript is everything that can be observed of a behaviour.
func transcript(t *testing.T, b behaviour, f framework, proto string, v variant) []string {
	t.Helper()
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	p := &probe{t: t, v: v, step: make(chan struct{}), returned: make(chan struct{})}
	sessions := func(h http.Handler) http.Handler { return h }
	if v.mode != 0 {
		m, err := session.New(&memory.Backend{}, session.Config{Mode: v.mode, Cookie: session.Cookie{InsecureHTTP: true, Name: cookieName}})
		if err != nil {
			t.Fatal(err)
		}
		p.m, sessions = m, m.Handler
	}
	h := f.serve(b, p, sessions)
	if b.outside != nil {
		h = b.outside(h, p)
	}
	srv := httptest.NewUnstartedServer(p.outermost(h))
	var logged lockedBuffer
	srv.Config.ErrorLog = log.New(&logged, "", 0)
	if b.server != nil {
		b.server(srv.Config)
	}
	transport := &http.Transport{DisableCompression: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	switch proto {
	case "HTTP/2":
		srv.EnableHTTP2 = true
		transport.ForceAttemptHTTP2 = true
		srv.StartTLS()
	case "h2c":
		srv.Config.Protocols, transport.Protocols = new(http.Protocols), new(http.Protocols)
		srv.Config.Protocols.SetUnencryptedHTTP2(true)
		transport.Protocols.SetUnencryptedHTTP2(true)
		srv.Start()
	default:
		srv.Start()
	}
	c := &client{p: p, srv: srv, proto: proto, http: &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	if b.ask != nil {
		b.ask(c)
	} else {
		c.get("/")
	}
	p.serving.Wait() // Close waits neither for HTTP/2 nor for hijacked connections
	transport.CloseIdleConnections()
	srv.Close()
	left, err := os.ReadDir(temp)
	if err != nil {
		t.Fatal(err)
	}
	all := slices.Concat(p.notes, c.notes)
	for line := range strings.SplitSeq(logged.String(), "\n") {
		// Without the stack of a panic, which HTTP/2 logs some time later.
		if strings.HasPrefix(line, "http:") {
			all = append(all, "log "+varying.ReplaceAllString(line, ""))
		}
	}
	return append(all, fmt.Sprintf("temporary files: %d", len(left)))
}

// varying matches text that differs each time, or that names the caller, which
// is the Handler's writer.
var varying = regexp.MustCompile(`127\.0\.0\.1:\d+| from .*`)

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// TestNothingElseChanges compares all behaviours.
func TestNothingElseChanges(t *testing.T) {
	gin.SetMode(gin.ReleaseMode)
	compared := map[string]bool{}
	for _, b := range behaviours {
		for _, f := range frameworks {
			about := b.in
			switch {
			case b.gin != nil:
				about = "gin"
			case b.echo != nil:
				about = "echo"
			}
			if about != "" && !strings.HasPrefix(f.name, about) {
				continue
			}
			for _, proto := range protocols {
				if b.only == "1" && proto != "HTTP/1.1" || b.only == "2" && proto == "HTTP/1.1" {
					continue
				}
				compared[strings.Join([]string{b.name, f.name, proto}, "|")] = true
				t.Run(strings.Join([]string{b.name, f.name, proto}, "/"), func(t *testing.T) {
					var want []string
					for _, v := range variants {
						if b.headless && v.makes {
							continue
						}
						got := transcript(t, b, f, proto, v)
						if v.makes { // no cache may keep the token
							want, got = withoutCaching(want), withoutCaching(got)
						}
						if want == nil {
							want = got
							if len(got) < 4 {
								t.Fatalf("nothing was seen: %q", got)
							}
							if testing.Verbose() {
								t.Log(strings.Join(got, "\n"))
							}
						} else if !slices.Equal(got, want) {
							t.Errorf("%s: %s", v.name, difference(want, got))
						}
					}
				})
			}
		}
	}
	t.Logf("%d behaviours, %d protocols, %d frameworks: %d comparisons with %d ways to use the session",
		len(behaviours), len(protocols), len(frameworks), len(compared), len(variants)-1)
}

func withoutCaching(lines []string) []string {
	return slices.DeleteFunc(slices.Clone(lines), func(line string) bool { return strings.HasPrefix(line, "header Cache-Control: ") })
}

// difference returns the lines in which two transcripts differ.
func difference(want, got []string) string {
	var s strings.Builder
	for _, line := range want {
		if !slices.Contains(got, line) {
			s.WriteString("\n\twithout: " + line)
		}
	}
	for _, line := range got {
		if !slices.Contains(want, line) {
			s.WriteString("\n\twith:    " + line)
		}
	}
	if s.Len() == 0 {
		return fmt.Sprintf("another order: %q, %q", want, got)
	}
	return s.String()
}
