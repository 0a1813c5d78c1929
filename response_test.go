package session_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"unicode"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/memory"
	"github.com/seed-a7bee19b/session/observe"
	sessionslog "github.com/seed-a7bee19b/session/observe/slog"
)

// cookied returns a request with these cookies.
func cookied(cookies string) *http.Request {
	r := httptest.NewRequest("GET", "/", nil)
	if cookies != "" {
		r.Header.Set("Cookie", cookies)
	}
	return r
}

// TestSaveFromAGoroutine saves while the handler sets headers, and checks that
// the save does not touch them.
func TestSaveFromAGoroutine(t *testing.T) {
	for name, f := range map[string]func(m *session.Manager, s *session.Session) error{
		"Save":    func(m *session.Manager, s *session.Session) error { return s.Save(ctx) },
		"Destroy": func(m *session.Manager, s *session.Session) error { return s.Destroy(ctx) },
	} {
		t.Run(name, func(t *testing.T) {
			m := newManager(t, &memory.Backend{}, session.Config{})
			w := serve(t, m, "", func(w http.ResponseWriter, r *http.Request, s *session.Session) {
				check(t, note.Set(s, "x"))
				var wg sync.WaitGroup
				wg.Add(1)
				go func() {
					defer wg.Done()
					if err := f(m, s); err != nil {
						t.Error(err)
					}
				}()
				for i := range 1000 {
					w.Header().Set(fmt.Sprint("X-", i), "y")
				}
				wg.Wait()
			})
			if token := sent(w); (token != "") != (name == "Save") {
				t.Errorf("token %q", token)
			}
		})
	}
}

// TestSavedTokenIsSent checks that a saved token is sent, whatever the handler
// does after it; see also TestOnlyTheLastTokenIsSent.
func TestSavedTokenIsSent(t *testing.T) {
	for name, rest := range map[string]func(w http.ResponseWriter){
		"nothing":        func(http.ResponseWriter) {},
		"error":          func(w http.ResponseWriter) { http.Error(w, "no", http.StatusTeapot) },
		"clears headers": func(w http.ResponseWriter) { clear(w.Header()) },
		"panic":          func(http.ResponseWriter) { panic("later") },
	} {
		t.Run(name, func(t *testing.T) {
			m := newManager(t, &memory.Backend{}, session.Config{})
			w := httptest.NewRecorder()
			func() {
				defer func() {
					if recover() != nil {
						w.WriteHeader(http.StatusInternalServerError)
					}
				}()
				m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					s, err := m.Get(r.Context())
					check(t, errors.Join(err, note.Set(s, "x"), s.Save(r.Context())))
					if len(w.Header()["Set-Cookie"]) != 0 {
						t.Error("the token is in the headers before the response starts")
					}
					rest(w)
				})).ServeHTTP(w, cookied(""))
			}()
			wantValue(t, m, sent(w), "note", "x")
		})
	}
}

func TestOnlyTheLastTokenIsSent(t *testing.T) {
	m := newManager(t, &memory.Backend{}, session.Config{})
	old := begin(t, m, map[string]any{"note": "x"})
	for _, tt := range []struct {
		name, token string
		f           func(ctx context.Context, s *session.Session) error
		cleared     bool
	}{
		{"saved and destroyed", "", func(ctx context.Context, s *session.Session) error {
			return errors.Join(note.Set(s, "x"), s.Save(ctx), s.Destroy(ctx))
		}, false},
		{"rotated, saved and destroyed", old, func(ctx context.Context, s *session.Session) error {
			return errors.Join(s.Rotate(), s.Save(ctx), s.Destroy(ctx))
		}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := serve(t, m, tt.token, func(_ http.ResponseWriter, r *http.Request, s *session.Session) {
				check(t, tt.f(r.Context(), s))
			})
			if c := w.Result().Cookies(); sent(w) != "" || (len(c) == 1) != tt.cleared {
				t.Errorf("cookies %v", c)
			}
		})
	}
	w := serve(t, m, "", func(_ http.ResponseWriter, r *http.Request, s *session.Session) {
		check(t, errors.Join(note.Set(s, "x"), s.Save(r.Context()), s.Rotate()))
	})
	if c := w.Result().Cookies(); len(c) != 1 {
		t.Errorf("cookies %v", c)
	}
	wantValue(t, m, sent(w), "note", "x")
}

// TestNoCacheKeepsAToken checks the headers that some caches obey before
// Cache-Control.
func TestNoCacheKeepsAToken(t *testing.T) {
	others := []string{
		"Cdn-Cache-Control", "Cloudflare-Cdn-Cache-Control", "Vercel-Cdn-Cache-Control", "Surrogate-Control", "Edge-Control",
		"X-Accel-Expires", "Expires",
	}
	for _, token := range []bool{false, true} {
		for _, value := range []string{"max-age=600", "public, s-maxage=600", "private", "no-store"} {
			m := newManager(t, &memory.Backend{}, session.Config{})
			w := serve(t, m, "", func(w http.ResponseWriter, r *http.Request, s *session.Session) {
				w.Header().Set("Cache-Control", value)
				for _, name := range others {
					w.Header().Set(name, value)
				}
				if token {
					check(t, note.Set(s, "x"))
				}
			})
			safe := value == "private" || value == "no-store"
			for _, name := range others {
				if got, kept := w.Header().Get(name), !token || safe; (got == value) != kept || got != value && got != "" {
					t.Errorf("token %v: %s: %q became %q", token, name, value, got)
				}
			}
		}
	}
}

// TestErrorPageKeepsWhatIsNotThePages checks the headers that an error page
// keeps.
func TestErrorPageKeepsWhatIsNotThePages(t *testing.T) {
	kept := http.Header{
		"Access-Control-Allow-Origin": {"https://example.com"}, "Access-Control-Allow-Credentials": {"true"},
		"Strict-Transport-Security": {"max-age=1"}, "Content-Security-Policy": {"default-src 'self'"},
		"Content-Security-Policy-Report-Only": {"default-src 'self'"}, "X-Frame-Options": {"DENY"}, "X-Request-Id": {"7"},
		"Referrer-Policy": {"no-referrer"}, "Permissions-Policy": {"camera=()"}, "Server-Timing": {"db;dur=5"}, "Traceparent": {"00-1-2-01"},
		"Cross-Origin-Opener-Policy": {"same-origin"},
	}
	page := http.Header{}
	for _, name := range []string{
		"Content-Encoding", "Content-Language", "Content-Range", "Content-Disposition", "Content-Location", "Content-Digest", "Etag",
		"Last-Modified", "Accept-Ranges", "Location", "Refresh", "Trailer", "Link", "Digest", "Repr-Digest", "Cdn-Cache-Control",
		"Surrogate-Control", "Surrogate-Key", "Cache-Tag", "Expires", "Pragma", "Age", "Set-Cookie", "X-Accel-Redirect", "X-Sendfile",
		"Hx-Redirect", "Clear-Site-Data", "Retry-After", "Allow", "Www-Authenticate", "Upgrade", http.TrailerPrefix + "Sum",
	} {
		page[name] = []string{"of the page"}
	}
	outer := http.Header{"X-Outer": {"1"}, "Etag": {"outer"}, "Set-Cookie": {"outer=1"}, "Vary": {"Accept"}}
	var b store
	m := newManager(t, &b, session.Config{})
	b.failing("Save", errStore)
	w := httptest.NewRecorder()
	maps.Copy(w.Header(), outer.Clone())
	m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, err := m.Get(r.Context())
		check(t, errors.Join(err, note.Set(s, "x")))
		maps.Copy(w.Header(), kept.Clone())
		maps.Copy(w.Header(), page.Clone())
		w.Header().Set("X-Outer", "2")
		w.Header().Add("Vary", "Origin")
		w.WriteHeader(http.StatusOK)
		w.Header().Set(http.TrailerPrefix+"Sum", "of the page") // a trailer of the page
	})).ServeHTTP(w, cookied(""))
	got := w.Header() // with the trailers
	for name, values := range kept {
		if !slices.Equal(got[name], values) {
			t.Errorf("%s is %q", name, got[name])
		}
	}
	for name := range page {
		if !slices.Equal(got[name], outer[name]) {
			t.Errorf("%s is %q", name, got[name])
		}
	}
	if got.Get("X-Outer") != "1" || !strings.Contains(strings.Join(got["Vary"], ","), "Origin") || got.Get("Cache-Control") != "no-store" {
		t.Errorf("headers %v", got)
	}
}

// TestTwoManagers uses two Managers in one request. The inner one has saved, and
// the outer one's error page must not remove its token.
func TestTwoManagers(t *testing.T) {
	between := map[string]func(http.Handler) http.Handler{
		"nothing": func(h http.Handler) http.Handler { return h },
		"headers of its own": func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				inner := httptest.NewRecorder()
				h.ServeHTTP(inner, r)
				maps.Copy(w.Header(), inner.Header())
				w.WriteHeader(inner.Code)
			})
		},
	}
	for name, wrap := range between {
		t.Run(name, func(t *testing.T) {
			var b store
			outer := newManager(t, &b, session.Config{Cookie: session.Cookie{Name: "__Host-outer"}})
			inner := newManager(t, &memory.Backend{}, session.Config{Cookie: session.Cookie{Name: "__Host-inner"}})
			b.failing("Save", errStore)
			w := httptest.NewRecorder()
			outer.Handler(wrap(inner.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				o, err := outer.Get(r.Context())
				check(t, errors.Join(err, note.Set(o, "lost")))
				i, err := inner.Get(r.Context())
				check(t, errors.Join(err, note.Set(i, "kept"), i.Login("ann")))
				http.SetCookie(w, &http.Cookie{Name: "page", Value: "1"})
				w.WriteHeader(http.StatusNoContent)
			})))).ServeHTTP(w, cookied(""))
			c := w.Result().Cookies()
			if w.Code != http.StatusServiceUnavailable || len(c) != 1 || c[0].Name != "__Host-inner" {
				t.Fatalf("status %d, cookies %v", w.Code, c)
			}
			wantValue(t, inner, c[0].Value, "note", "kept")
		})
	}
}

// TestClientsThatLeaveAreNotLogged checks that the ErrorHandler is still called,
// and that contexts that end for other reasons are logged.
func TestClientsThatLeaveAreNotLogged(t *testing.T) {
	for _, tt := range []struct {
		name   string
		end    func(context.Context) (context.Context, context.CancelFunc)
		err    error // of the store; nil: that of the context
		logged bool
	}{
		{"left", context.WithCancel, nil, false},
		{"left, and the store is down", context.WithCancel, errStore, true},
		{"timeout", func(c context.Context) (context.Context, context.CancelFunc) { return context.WithTimeout(c, 0) }, nil, true},
		{"another cause", func(c context.Context) (context.Context, context.CancelFunc) {
			c, cancel := context.WithCancelCause(c)
			return c, func() { cancel(errors.New("shed load")) }
		}, nil, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var logged bytes.Buffer
			for _, handled := range []bool{false, true} {
				var b store
				b.before = func(ctx context.Context, _ string) error {
					<-ctx.Done()
					if tt.err != nil {
						return tt.err
					}
					return ctx.Err()
				}
				told := 0
				cfg := session.Config{}
				if handled {
					cfg.ErrorHandler = func(http.ResponseWriter, *http.Request, error) { told++ }
				}
				m := newManager(t, &b, cfg)
				ctx, cancel := tt.end(context.WithValue(t.Context(), http.ServerContextKey, &http.Server{ErrorLog: log.New(&logged, "", 0)}))
				cancel()
				w := httptest.NewRecorder()
				m.HandlerFunc(func(http.ResponseWriter, *http.Request, *session.Session) error {
					t.Error("there is a session, and the store has failed")
					return nil
				}).ServeHTTP(w, cookied("__Host-session="+strings.Repeat("A", 32)).WithContext(ctx))
				if handled != (told == 1) || !handled && w.Code != http.StatusServiceUnavailable {
					t.Errorf("status %d, the ErrorHandler was told %d times", w.Code, told)
				}
			}
			if (logged.Len() > 0) != tt.logged {
				t.Errorf("logged %q", &logged)
			}
		})
	}
}

// rawHandler prints attributes unchanged, as many handlers do.
type rawHandler struct {
	slog.Handler
	w *bytes.Buffer
}

func (rawHandler) Enabled(context.Context, slog.Level) bool { return true }

func (h rawHandler) Handle(_ context.Context, r slog.Record) error {
	h.w.WriteString(r.Message)
	r.Attrs(func(a slog.Attr) bool { fmt.Fprint(h.w, " ", a); return true })
	return nil
}

// TestLogsCannotBeForged checks texts from a client and from the store.
func TestLogsCannotBeForged(t *testing.T) {
	const evil = "x\r\n2026/01/01 GET /admin: granted\x1b[2J\u202e\u2028\x00\xff"
	var lines, structured bytes.Buffer
	logs, err := sessionslog.New(slog.New(rawHandler{slog.DiscardHandler, &structured}), sessionslog.Config{})
	check(t, err)
	for _, observer := range []observe.Observer{nil, logs} {
		var b store
		m := newManager(t, &b, session.Config{Observer: observer})
		b.failing("Load", errors.New("store: "+evil))
		r := cookied("__Host-session=" + strings.Repeat("A", 32))
		r.Method, r.URL.Path = "GET"+evil, "/"+evil
		ctx := context.WithValue(r.Context(), http.ServerContextKey, &http.Server{ErrorLog: log.New(&lines, "", 0)})
		m.HandlerFunc(func(http.ResponseWriter, *http.Request, *session.Session) error {
			t.Error("there is a session, and the store has failed")
			return nil
		}).ServeHTTP(httptest.NewRecorder(), r.WithContext(ctx))
	}
	for name, text := range map[string]string{"net/http's log": lines.String(), "slog": structured.String()} {
		for line := range strings.SplitSeq(strings.TrimSuffix(text, "\n"), "\n") {
			if !strings.Contains(line, "store: ") || strings.ContainsFunc(line, func(r rune) bool { return !unicode.IsPrint(r) || r == unicode.ReplacementChar }) {
				t.Errorf("%s: %q", name, line)
			}
		}
	}
}
