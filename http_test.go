package session_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/memory"
	"github.com/seed-a7bee19b/session/observe"
)

// serve runs one request with the given token through m's Handler.
func serve(t testing.TB, m *session.Manager, token string, f func(w http.ResponseWriter, r *http.Request, s *session.Session)) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest("GET", "/", nil)
	if token != "" {
		r.AddCookie(&http.Cookie{Name: "__Host-session", Value: token})
	}
	w := httptest.NewRecorder()
	asked := false
	m.HandlerFunc(func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
		asked = true
		f(w, r, s)
		return nil
	}).ServeHTTP(recorder{w}, r)
	if !asked {
		t.Fatalf("there is no session: %d %s", w.Code, w.Body)
	}
	return w
}

// recorder is a ResponseRecorder with the additional methods of the writer of an
// HTTP/1 server.
type recorder struct{ *httptest.ResponseRecorder }

func (w recorder) ReadFrom(src io.Reader) (int64, error) {
	return io.Copy(w.ResponseRecorder, src)
}

func (w recorder) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return nil, nil, errors.New("a recorder has no connection")
}

// sent returns the token that a response sends.
func sent(w *httptest.ResponseRecorder) string {
	for _, c := range w.Result().Cookies() {
		if c.MaxAge >= 0 {
			return c.Value
		}
	}
	return ""
}

// writers are the ways for a handler to start its response.
var writers = map[string]func(w http.ResponseWriter){
	"Write":       func(w http.ResponseWriter) { _, _ = w.Write([]byte("page")) },
	"WriteString": func(w http.ResponseWriter) { _, _ = io.WriteString(w, "page") },
	"WriteHeader": func(w http.ResponseWriter) { w.WriteHeader(http.StatusAccepted) },
	"Flush":       func(w http.ResponseWriter) { w.(http.Flusher).Flush() },
	"FlushError":  func(w http.ResponseWriter) { _ = http.NewResponseController(w).Flush() },
	"ReadFrom": func(w http.ResponseWriter) {
		_, _ = w.(io.ReaderFrom).ReadFrom(struct{ io.Reader }{strings.NewReader("page")})
	},
	"redirect": func(w http.ResponseWriter) {
		http.Redirect(w, httptest.NewRequest("GET", "/", nil), "/x", http.StatusSeeOther)
	},
	"return": func(http.ResponseWriter) {},
}

// TestSavedBeforeTheResponseStarts checks every way to start a response.
func TestSavedBeforeTheResponseStarts(t *testing.T) {
	for name, start := range writers {
		t.Run(name, func(t *testing.T) {
			var b store
			m := newManager(t, &b, session.Config{})
			w := serve(t, m, "", func(w http.ResponseWriter, r *http.Request, s *session.Session) {
				check(t, note.Set(s, "stored"))
				start(w)
				if name != "return" && s.IsNew() {
					t.Error("the response started before the session was stored")
				}
			})
			b.wantCalls(t, "Save")
			wantValue(t, m, sent(w), "note", "stored")
			c := w.Result().Cookies()[0]
			if c.Name != "__Host-session" || !c.Secure || !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Path != "/" || c.Domain != "" || c.MaxAge != 0 || !c.Expires.IsZero() {
				t.Errorf("cookie %v", c)
			}
			if w.Header().Get("Vary") != "Cookie" || w.Header().Get("Cache-Control") != "no-store" {
				t.Errorf("headers %v", w.Header())
			}
		})
	}
}

// TestInformationalResponsesDoNotCount checks that a handler may send early
// hints, and change its session after that.
func TestInformationalResponsesDoNotCount(t *testing.T) {
	m := newManager(t, &memory.Backend{}, session.Config{Cookie: session.Cookie{InsecureHTTP: true}})
	srv := httptest.NewServer(m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, err := m.Get(r.Context())
		check(t, err)
		w.Header().Set("Link", "</style.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		if err := note.Set(s, "x"); err != nil {
			t.Error(err)
		}
	})))
	defer srv.Close()
	hints := 0
	r, _ := http.NewRequestWithContext(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
			if hints++; h.Get("Set-Cookie") != "" {
				t.Error("a cookie before the session was stored")
			}
			return nil
		},
	}), "GET", srv.URL, nil)
	resp, err := srv.Client().Do(r)
	check(t, err)
	_ = resp.Body.Close()
	if hints != 1 || len(resp.Cookies()) != 1 {
		t.Errorf("%d hints, cookies %v", hints, resp.Cookies())
	}
}

// TestFailedSaveIsACleanError checks that no part of the page is sent, in every
// way to start a response.
func TestFailedSaveIsACleanError(t *testing.T) {
	for name, start := range writers {
		t.Run(name, func(t *testing.T) {
			var b store
			var events events
			m := newManager(t, &b, session.Config{Observer: &events})
			b.failing("Save", errStore)
			h := m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				s, err := m.Get(r.Context())
				check(t, err)
				check(t, note.Set(s, "x"))
				w.Header().Set("Content-Type", "text/x-page")
				w.Header().Set("Content-Length", "4")
				w.Header().Set("Etag", `"page"`)
				w.Header().Set("Set-Cookie", "page=1")
				w.Header().Set("X-Outer", "overwritten")
				start(w)
				if name != "return" {
					if _, err := w.Write([]byte("page")); !errors.Is(err, errStore) {
						t.Errorf("Write after a failed save: %v", err)
					}
				}
			}))
			w := httptest.NewRecorder()
			w.Header().Set("X-Outer", "middleware")
			h.ServeHTTP(recorder{w}, httptest.NewRequest("GET", "/", nil))
			if w.Code != http.StatusServiceUnavailable || strings.Contains(w.Body.String(), "page") {
				t.Errorf("status %d, body %q", w.Code, w.Body)
			}
			got := w.Header()
			if got.Get("X-Outer") != "middleware" || got.Get("Etag") != "" || got.Get("Set-Cookie") != "" || got.Get("Location") != "" ||
				strings.HasPrefix(got.Get("Content-Type"), "text/x-page") || got.Get("Content-Length") == "4" {
				t.Errorf("headers of the page are left: %v", got)
			}
			if !events.saw(observe.EventCommitFailed) {
				t.Error("no event")
			}
			if b.Len() != 0 {
				t.Error("something was stored")
			}
		})
	}
}

func TestFailedLoadGivesNoSession(t *testing.T) {
	var b store
	m := newManager(t, &b, session.Config{})
	token := begin(t, m, map[string]any{"note": "kept"})
	b.failing("Load", errStore)
	r := httptest.NewRequest("GET", "/", nil)
	r.AddCookie(&http.Cookie{Name: "__Host-session", Value: token})
	w := httptest.NewRecorder()
	b.took()
	m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, err := m.Get(r.Context())
		if s != nil || !errors.Is(err, errStore) {
			t.Errorf("got %v, %v", s, err)
		}
		m.Error(w, r, err)
	})).ServeHTTP(w, r)
	b.wantCalls(t, "Load")
	if w.Code != http.StatusServiceUnavailable || len(w.Result().Cookies()) != 0 || strings.Contains(w.Body.String(), "store is down") {
		t.Errorf("%d %v %s", w.Code, w.Result().Cookies(), w.Body)
	}
	b.healthy()
	wantValue(t, m, token, "note", "kept")
}

func TestErrorStatus(t *testing.T) {
	m := newManager(t, &memory.Backend{}, session.Config{})
	for err, want := range map[error]int{
		errStore: 500, fmt.Errorf("%w: %w", session.ErrStore, errStore): 503, context.DeadlineExceeded: 503, context.Canceled: 503,
		session.ErrConflict: 409, &session.ConflictError{Gone: true}: 409, session.ErrNotFound: 409,
		session.ErrTooLarge: 500, session.ErrDecode: 500, session.ErrEncode: 500, session.ErrReadOnly: 500, session.ErrClosed: 500, session.ErrTooLate: 500,
	} {
		w := httptest.NewRecorder()
		m.Error(w, httptest.NewRequest("GET", "/", nil), fmt.Errorf("wrapped: %w", err))
		if w.Code != want {
			t.Errorf("%v: status %d, want %d", err, w.Code, want)
		}
	}
	m = newManager(t, &memory.Backend{}, session.Config{ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
		http.Error(w, "ours", http.StatusTeapot)
	}})
	w := httptest.NewRecorder()
	m.Error(w, httptest.NewRequest("GET", "/", nil), errStore)
	if w.Code != http.StatusTeapot {
		t.Errorf("ErrorHandler was not asked: %d", w.Code)
	}
}

func TestWhatARequestCosts(t *testing.T) {
	var b store
	m := newManager(t, &b, session.Config{})
	token := begin(t, m, map[string]any{"note": "x"})
	type handler = func(http.ResponseWriter, *http.Request, *session.Session)
	tests := []struct {
		name  string
		token string
		f     handler // nil: does not get the session
		want  []string
	}{
		{"static", token, nil, nil},
		{"read", token, func(_ http.ResponseWriter, _ *http.Request, s *session.Session) { _, _ = note.Get(s) }, []string{"Load"}},
		{"write", token, func(_ http.ResponseWriter, _ *http.Request, s *session.Session) { _, _ = counter.Update(s, inc) }, []string{"Load", "Save"}},
		{"write and respond twice", token, func(w http.ResponseWriter, _ *http.Request, s *session.Session) {
			_, _ = counter.Update(s, inc)
			_, _ = io.WriteString(w, "a")
			_, _ = io.WriteString(w, "b")
		}, []string{"Load", "Save"}},
		{"visitor without data", "", func(_ http.ResponseWriter, _ *http.Request, s *session.Session) { _, _ = note.Get(s) }, nil},
		{"visitor whose data is taken back", "", func(_ http.ResponseWriter, _ *http.Request, s *session.Session) {
			_ = note.Set(s, "x")
			_ = note.Delete(s)
		}, nil},
		{"planted token", strings.Repeat("A", 32), func(http.ResponseWriter, *http.Request, *session.Session) {}, []string{"Load"}},
		{"malformed token", "1234", func(http.ResponseWriter, *http.Request, *session.Session) {}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b.took()
			records := b.Len()
			var w *httptest.ResponseRecorder
			if tt.f != nil {
				w = serve(t, m, tt.token, tt.f)
			} else {
				w = httptest.NewRecorder()
				r := httptest.NewRequest("GET", "/", nil)
				r.AddCookie(&http.Cookie{Name: "__Host-session", Value: tt.token})
				m.Handler(http.NotFoundHandler()).ServeHTTP(w, r)
				if w.Header().Get("Vary") != "" || w.Header().Get("Cache-Control") != "" {
					t.Errorf("headers of a response without session: %v", w.Header())
				}
			}
			b.wantCalls(t, tt.want...)
			if b.Len() != records {
				t.Error("a row was left")
			}
			if c := w.Result().Cookies(); len(c) != 0 {
				t.Errorf("cookies %v", c)
			}
		})
	}
}

func TestFixation(t *testing.T) {
	var b store
	m := newManager(t, &b, session.Config{})
	planted := strings.Repeat("A", 32)
	w := serve(t, m, planted, func(_ http.ResponseWriter, _ *http.Request, s *session.Session) { check(t, note.Set(s, "x")) })
	if token := sent(w); token == "" || token == planted {
		t.Errorf("token %q", token)
	}
	_, err := m.Open(ctx, planted)
	wantErr(t, err, session.ErrNotFound)
}

func TestSeveralCookies(t *testing.T) {
	m := newManager(t, &memory.Backend{}, session.Config{})
	token := begin(t, m, map[string]any{"note": "x"})
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("Cookie", "a=b; __Host-session=junk; __host-session=wrong; __Host-session="+token)
	m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, err := m.Get(r.Context())
		check(t, err)
		if v, _ := note.Get(s); v != "x" {
			t.Error("junk in front hid the session")
		}
	})).ServeHTTP(httptest.NewRecorder(), r)
}

func TestLoginAndLogout(t *testing.T) {
	m := newManager(t, &memory.Backend{}, session.Config{})
	anonymous := begin(t, m, map[string]any{"note": "cart"})
	w := serve(t, m, anonymous, func(w http.ResponseWriter, r *http.Request, s *session.Session) { check(t, s.Login("ann")) })
	token := sent(w)
	if token == "" || token == anonymous {
		t.Fatalf("token %q", token)
	}
	_, err := m.Open(ctx, anonymous)
	wantErr(t, err, session.ErrNotFound)

	w = serve(t, m, token, func(w http.ResponseWriter, r *http.Request, s *session.Session) {
		check(t, s.Destroy(r.Context()))
		wantErr(t, note.Set(s, "x"), session.ErrClosed)
	})
	if c := w.Result().Cookies(); len(c) != 1 || c[0].MaxAge >= 0 || c[0].Value != "" {
		t.Errorf("cookies after logout: %v", c)
	}
	_, err = m.Open(ctx, token)
	wantErr(t, err, session.ErrNotFound)

	// A message for the page after it goes into a new session.
	token = begin(t, m, map[string]any{"note": "x"})
	w = serve(t, m, token, func(w http.ResponseWriter, r *http.Request, s *session.Session) {
		check(t, s.Destroy(r.Context()))
		s, err := m.Get(r.Context())
		check(t, err)
		check(t, note.Set(s, "bye"))
	})
	if got := sent(w); got == token || len(w.Result().Cookies()) != 1 {
		t.Errorf("cookies %v", w.Result().Cookies())
	} else {
		wantValue(t, m, got, "note", "bye")
	}
}

// TestUnknownTokenIsLeftAlone checks that a request that was in flight when its
// session was rotated does not remove the new cookie.
func TestUnknownTokenIsLeftAlone(t *testing.T) {
	m := newManager(t, &memory.Backend{}, session.Config{})
	w := serve(t, m, strings.Repeat("A", 32), func(http.ResponseWriter, *http.Request, *session.Session) {})
	if c := w.Result().Cookies(); len(c) != 0 {
		t.Errorf("cookies %v", c)
	}
}

func TestParallelRequests(t *testing.T) {
	const n = 20
	var b memory.Backend
	m := newManager(t, &b, session.Config{Cookie: session.Cookie{InsecureHTTP: true}})
	var ready sync.WaitGroup
	ready.Add(n)
	srv := httptest.NewServer(m.HandlerFunc(func(_ http.ResponseWriter, r *http.Request, s *session.Session) error {
		key := r.FormValue("key")
		if key == "" {
			return note.Set(s, "x")
		}
		ready.Done()
		ready.Wait() // all have read before one writes
		return s.Set(key, key)
	}))
	defer srv.Close()
	client := srv.Client()
	client.Jar, _ = cookiejar.New(nil)
	get := func(query string) {
		resp, err := client.Get(srv.URL + query)
		if err != nil {
			t.Error(err)
			return
		}
		_ = resp.Body.Close()
		if resp.StatusCode != 200 {
			t.Errorf("%s: %s", query, resp.Status)
		}
	}
	get("/")
	var wg sync.WaitGroup
	for i := range n {
		wg.Add(1)
		go func() { defer wg.Done(); get(fmt.Sprintf("/?key=key%d", i)) }()
	}
	wg.Wait()
	u, _ := url.Parse(srv.URL)
	s := open(t, m, client.Jar.Cookies(u)[0].Value)
	if got := len(s.Names()); got != n+1 {
		t.Errorf("%d of %d writes survived", got-1, n)
	}
}

// TestStreaming checks that changes after the response started are saved at the
// end, and that a change that needs a new token fails at once.
func TestStreaming(t *testing.T) {
	var b store
	var events events
	m := newManager(t, &b, session.Config{Observer: &events})
	token := begin(t, m, map[string]any{"counter": 0})
	b.took()
	serve(t, m, token, func(w http.ResponseWriter, r *http.Request, s *session.Session) {
		for range 3 {
			check(t, http.NewResponseController(w).Flush())
			check(t, errOf(counter.Update(s, inc)))
		}
		wantErr(t, s.Rotate(), session.ErrTooLate)
		wantErr(t, s.Login("x"), session.ErrTooLate)
	})
	b.wantCalls(t, "Load", "Save")
	wantValue(t, m, token, "counter", 3)

	serve(t, m, "", func(w http.ResponseWriter, r *http.Request, s *session.Session) {
		check(t, http.NewResponseController(w).Flush())
		wantErr(t, note.Set(s, "x"), session.ErrTooLate)
	})

	serve(t, m, token, func(w http.ResponseWriter, r *http.Request, s *session.Session) {
		check(t, http.NewResponseController(w).Flush())
		check(t, note.Set(s, "x"))
		b.failing("Save", errStore)
	})
	if !events.saw(observe.EventLateFailed) {
		t.Error("no event about what could not be saved")
	}
	b.healthy()

	serve(t, m, token, func(w http.ResponseWriter, r *http.Request, s *session.Session) {
		check(t, http.NewResponseController(w).Flush())
		check(t, s.Destroy(r.Context())) // logging out is never too late
	})
	_, err := m.Open(ctx, token)
	wantErr(t, err, session.ErrNotFound)
}

func TestHijack(t *testing.T) {
	m := newManager(t, &memory.Backend{}, session.Config{Cookie: session.Cookie{InsecureHTTP: true}})
	token := begin(t, m, map[string]any{"note": "x"})
	h := m.HandlerFunc(func(w http.ResponseWriter, _ *http.Request, s *session.Session) error {
		if _, err := counter.Update(s, inc); err != nil {
			t.Error(err)
		}
		conn, buf, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }()
		if _, err := counter.Update(s, inc); err != nil {
			t.Error(err)
		}
		_, _ = buf.WriteString("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
		_ = buf.Flush()
		return nil
	})
	returned := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(w, r)
		close(returned)
	}))
	defer srv.Close()
	get := func(token string) int {
		r, _ := http.NewRequest("GET", srv.URL, nil)
		r.AddCookie(&http.Cookie{Name: "session", Value: token})
		resp, err := srv.Client().Do(r)
		check(t, err)
		_ = resp.Body.Close()
		return resp.StatusCode
	}
	if got := get(token); got != 200 {
		t.Errorf("status %d", got)
	}
	<-returned // changes after Hijack are saved at that time
	wantValue(t, m, token, "counter", 2)
}

func TestHijackOfANewSessionIsRefused(t *testing.T) {
	var b store
	m := newManager(t, &b, session.Config{})
	w := serve(t, m, "", func(w http.ResponseWriter, r *http.Request, s *session.Session) {
		check(t, note.Set(s, "x"))
		_, _, err := w.(http.Hijacker).Hijack()
		wantErr(t, err, session.ErrTooLate)
		b.wantCalls(t)
		_, _ = io.WriteString(w, "page")
	})
	if w.Code != 200 || sent(w) == "" {
		t.Error("the handler could not answer after the refusal")
	}
}

func TestPanicSavesNothing(t *testing.T) {
	var b store
	m := newManager(t, &b, session.Config{})
	token := begin(t, m, map[string]any{"note": "kept"})
	func() {
		defer func() { _ = recover() }()
		serve(t, m, token, func(w http.ResponseWriter, r *http.Request, s *session.Session) {
			check(t, note.Set(s, "half"))
			panic(http.ErrAbortHandler)
		})
	}()
	wantValue(t, m, token, "note", "kept")
}

func TestClientGoneDoesNotLoseTheWrite(t *testing.T) {
	var b store
	m := newManager(t, &b, session.Config{})
	token := begin(t, m, map[string]any{"note": "old"})
	gone, cancel := context.WithCancel(ctx)
	r := httptest.NewRequestWithContext(gone, "GET", "/", nil)
	r.AddCookie(&http.Cookie{Name: "__Host-session", Value: token})
	m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, err := m.Get(r.Context())
		check(t, err)
		check(t, note.Set(s, "new"))
		cancel()
	})).ServeHTTP(httptest.NewRecorder(), r)
	wantValue(t, m, token, "note", "new")
}

func TestFailedTouchIsNoErrorPage(t *testing.T) {
	var b store
	var events events
	m := newManager(t, &b, session.Config{Observer: &events, TouchInterval: 1})
	token := begin(t, m, map[string]any{"note": "x"})
	b.failing("Touch", errStore)
	b.took()
	time.Sleep(5 * time.Millisecond)
	w := serve(t, m, token, func(w http.ResponseWriter, r *http.Request, s *session.Session) { _, _ = io.WriteString(w, "page") })
	b.wantCalls(t, "Load", "Touch")
	if w.Body.String() != "page" || !events.saw(observe.EventTouchFailed) {
		t.Errorf("body %q, events %v", w.Body, events.kinds)
	}
	wantErr(t, finish(m, open(t, m, token)), errStore) // outside HTTP it is returned
}

func TestRoutes(t *testing.T) {
	var b store
	m := newManager(t, &b, session.Config{})
	ro, err := m.With(session.Route{Mode: session.ReadOnly})
	check(t, err)
	token := begin(t, m, map[string]any{"note": "x"})
	b.took()
	run := func(h http.Handler) {
		r := httptest.NewRequest("GET", "/", nil)
		r.AddCookie(&http.Cookie{Name: "__Host-session", Value: token})
		h.ServeHTTP(httptest.NewRecorder(), r)
	}
	refused := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, err := m.Get(r.Context())
		check(t, err)
		wantErr(t, note.Set(s, "y"), session.ErrReadOnly)
	})
	run(ro.Handler(refused))
	run(m.Handler(ro.Handler(refused)))
	b.wantCalls(t, "Load", "Load")
	run(m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, err := m.Get(r.Context())
		check(t, err)
		check(t, errOf(counter.Update(s, inc))) // a middleware's change is saved, though the route is read-only
		ro.Handler(refused).ServeHTTP(w, r)
	})))
	b.wantCalls(t, "Load", "Save")

	other := newManager(t, &memory.Backend{}, session.Config{Cookie: session.Cookie{Name: "__Host-other"}})
	run(other.Handler(m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, err := m.Get(r.Context())
		check(t, err)
		o, err := other.Get(r.Context())
		check(t, err)
		if s.IsNew() || !o.IsNew() {
			t.Error("two managers share a session")
		}
	}))))
}

func TestGetOutsideHandler(t *testing.T) {
	m := newManager(t, &memory.Backend{}, session.Config{})
	if s, err := m.Get(ctx); s != nil || err == nil {
		t.Errorf("got %v, %v", s, err)
	}
}

func TestUndecodable(t *testing.T) {
	for _, policy := range []session.UndecodablePolicy{session.FailUndecodable, session.ReplaceUndecodable} {
		t.Run(fmt.Sprint(policy), func(t *testing.T) {
			var b store
			m := newManager(t, &b, session.Config{Undecodable: policy, StoreKey: func(token string) string { return token }})
			token := begin(t, m, map[string]any{"note": "x"})
			rec, err := b.Backend.Load(ctx, token)
			check(t, err)
			rec.Data = []byte("junk")
			_, err = b.Backend.Save(ctx, token, rec)
			check(t, err)
			r := httptest.NewRequest("GET", "/", nil)
			r.AddCookie(&http.Cookie{Name: "__Host-session", Value: token})
			w := httptest.NewRecorder()
			m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				s, err := m.Get(r.Context())
				if err != nil {
					wantErr(t, err, session.ErrDecode)
					m.Error(w, r, err)
					return
				}
				check(t, note.Set(s, "fresh"))
			})).ServeHTTP(w, r)
			if policy == session.FailUndecodable {
				if w.Code != 500 || sent(w) != "" {
					t.Errorf("status %d, token %q", w.Code, sent(w))
				}
			} else if got := sent(w); got == "" || got == token {
				t.Errorf("token %q", got)
			}
			rec, err = b.Backend.Load(ctx, token)
			if string(rec.Data) != "junk" || err != nil {
				t.Errorf("what was stored is now %q, %v", rec.Data, err)
			}
		})
	}
}

func TestHeaderTransport(t *testing.T) {
	for _, header := range []string{"Session-Token", "authorization"} {
		t.Run(header, func(t *testing.T) {
			m := newManager(t, &memory.Backend{}, session.Config{Header: header})
			do := func(token string, f func(s *session.Session)) http.Header {
				r := httptest.NewRequest("GET", "/", nil)
				r.Header.Set(header, token)
				w := httptest.NewRecorder()
				m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					s, err := m.Get(r.Context())
					check(t, err)
					f(s)
				})).ServeHTTP(w, r)
				return w.Header()
			}
			h := do("", func(s *session.Session) { check(t, note.Set(s, "x")) })
			token := h.Get(header)
			if token == "" || h.Get("Set-Cookie") != "" || !strings.EqualFold(h.Get("Vary"), header) {
				t.Fatalf("headers %v", h)
			}
			for _, form := range []string{token, "Bearer " + strings.TrimPrefix(token, "Bearer "), "bearer  " + strings.TrimPrefix(token, "Bearer ")} {
				h = do(form, func(s *session.Session) {
					if s.IsNew() {
						t.Errorf("the token was not found in %q", header)
					}
				})
				if len(h.Values(header)) != 0 {
					t.Errorf("the token was sent again: %v", h)
				}
			}
			h = do(token, func(s *session.Session) { check(t, s.Destroy(ctx)) })
			if v, ok := h[http.CanonicalHeaderKey(header)]; !ok || v[0] != "" {
				t.Errorf("headers after logout: %v", h)
			}
		})
	}
}

func TestCacheControl(t *testing.T) {
	for _, tt := range []struct {
		set   string
		token bool // the response hands out a token
		want  string
	}{
		{"", false, "no-store"},
		{"public, max-age=60", false, "public, max-age=60"},
		{"public, max-age=60", true, "no-store"},
		{"private, max-age=60", true, "private, max-age=60"},
		{"max-age=0, No-Store", true, "max-age=0, No-Store"},
	} {
		m := newManager(t, &memory.Backend{}, session.Config{})
		w := serve(t, m, "", func(w http.ResponseWriter, r *http.Request, s *session.Session) {
			w.Header().Set("Vary", "Accept, cookie")
			if tt.set != "" {
				w.Header().Set("Cache-Control", tt.set)
			}
			if tt.token {
				check(t, note.Set(s, "x"))
			}
		})
		if got := w.Header().Get("Cache-Control"); got != tt.want || len(w.Header()["Vary"]) != 1 {
			t.Errorf("%q, token %v: headers %v", tt.set, tt.token, w.Header())
		}
	}
}

func TestServerSentEvents(t *testing.T) {
	m := newManager(t, &memory.Backend{}, session.Config{Cookie: session.Cookie{InsecureHTTP: true}})
	release := make(chan struct{})
	srv := httptest.NewServer(m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, err := m.Get(r.Context())
		check(t, err)
		_ = note.Set(s, "x")
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "data: one\n\n")
		if err := http.NewResponseController(w).Flush(); err != nil {
			t.Error(err)
		}
		<-release
	})))
	defer srv.Close()
	resp, err := srv.Client().Get(srv.URL)
	check(t, err)
	defer func() { _ = resp.Body.Close() }()
	line, err := bufio.NewReader(resp.Body).ReadString('\n') // arrives while the handler runs
	close(release)
	if line != "data: one\n" || err != nil || len(resp.Cookies()) != 1 {
		t.Errorf("%q, %v, %v", line, err, resp.Cookies())
	}
}

// events is an Observer that records events.
type events struct {
	mu    sync.Mutex
	kinds []observe.EventKind
	ops   []observe.Op
}

func (e *events) Call(ctx context.Context, op observe.Op) (context.Context, func(error)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.ops = append(e.ops, op)
	return ctx, nil
}

func (e *events) Event(_ context.Context, ev observe.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.kinds = append(e.kinds, ev.Kind)
}

func (e *events) saw(kind observe.EventKind) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, k := range e.kinds {
		if k == kind {
			return true
		}
	}
	return false
}

// userContext is the context of a middleware that authenticates users.
type userContext struct {
	context.Context
	password string
}

// Printing the context of a request shows none of the values of others.
func TestContextPrintsNoValues(t *testing.T) {
	m, err := session.New(&memory.Backend{}, session.Config{})
	check(t, err)
	type key struct{}
	outer := context.WithValue(userContext{t.Context(), "hunter2"}, key{}, struct{ s string }{"hunter2"})
	for _, ctx := range []context.Context{outer, userContext{outer, "hunter2"}} {
		m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			for _, format := range []string{"%v", "%+v", "%s"} {
				if text := fmt.Sprintf(format, r.Context()); strings.Contains(text, "hunter2") || !strings.Contains(text, "userContext") {
					t.Errorf("%s: %s", format, text)
				}
			}
		})).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil).WithContext(ctx))
	}
}
