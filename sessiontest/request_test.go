package sessiontest_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/sessiontest"
)

// trial is a testing.TB that remembers what it is told, and ends its own
// goroutine on FailNow.
type trial struct {
	testing.TB
	mu       sync.Mutex
	said     string
	cleanups []func()
}

// try runs f as a test, and returns what it failed with, "" if it passed.
func try(t *testing.T, f func(t testing.TB)) string {
	t.Helper()
	tr := &trial{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		f(tr)
	}()
	<-done
	for _, f := range tr.cleanups {
		f()
	}
	return tr.said
}

func (tr *trial) Helper() {}

func (tr *trial) Error(a ...any) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.said += fmt.Sprintln(a...)
}

func (tr *trial) Fatal(a ...any) {
	tr.Error(a...)
	runtime.Goexit()
}

func (tr *trial) Errorf(format string, a ...any) { tr.Error(fmt.Sprintf(format, a...)) }
func (tr *trial) Fatalf(format string, a ...any) { tr.Fatal(fmt.Sprintf(format, a...)) }
func (tr *trial) Cleanup(f func())               { tr.cleanups = append(tr.cleanups, f) }

func wantFailure(t *testing.T, got, want string) {
	t.Helper()
	if want == "" && got != "" || !strings.Contains(got, want) {
		t.Errorf("the test says %q, want %q", got, want)
	}
}

// configs are ways in which a token can travel.
var configs = map[string]session.Config{
	"default":       {},
	"cookie":        {Cookie: session.Cookie{Name: "sid", Path: "/shop"}},
	"insecure":      {Cookie: session.Cookie{InsecureHTTP: true, Persistent: true}},
	"authorization": {Header: "authorization"},
	"header":        {Header: "X-Session"},
	"exclusive":     {Mode: session.Exclusive},
	"read-only":     {Mode: session.ReadOnly},
	"safe":          {Mode: session.Exclusive, SafeMode: session.ReadOnly},
}

func newManager(t testing.TB, b session.Backend, cfg session.Config) *session.Manager {
	t.Helper()
	m, err := session.New(b, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// run has a handler around f answer r.
func run(m *session.Manager, r *http.Request, f func(s *session.Session) error) *http.Response {
	w := httptest.NewRecorder()
	m.HandlerFunc(func(_ http.ResponseWriter, _ *http.Request, s *session.Session) error { return f(s) }).ServeHTTP(w, r)
	return w.Result()
}

func set(n int) func(*session.Session) error {
	return func(s *session.Session) error { return visits.Set(s, n) }
}

func wantVisits(t *testing.T, s *session.Session, want int) {
	t.Helper()
	if got, err := visits.Get(s); got != want || err != nil {
		t.Errorf("visits is %d, %v, want %d", got, err, want)
	}
}

func TestNewRequest(t *testing.T) {
	for name, cfg := range configs {
		t.Run(name, func(t *testing.T) {
			m := newManager(t, &sessiontest.Store{}, cfg)
			r := sessiontest.NewRequest(t, m, "PUT", "/shop?x=1", strings.NewReader("body"), func(s *session.Session) error {
				if err := s.Login("ann"); err != nil {
					return err
				}
				return visits.Set(s, 41)
			})
			if r.Method != "PUT" || r.URL.String() != "/shop?x=1" || r.ContentLength != 4 {
				t.Errorf("got %s %s with %d bytes", r.Method, r.URL, r.ContentLength)
			}
			ran := false
			resp := run(m, r, func(s *session.Session) error {
				ran = true
				user, err := s.User()
				if user != "ann" || err != nil || s.IsNew() {
					t.Errorf("user is %q, %v", user, err)
				}
				wantVisits(t, s, 41)
				return nil
			})
			if !ran || resp.StatusCode != http.StatusOK {
				t.Errorf("status %d", resp.StatusCode)
			}
		})
	}
}

func TestNewRequestOfAVisitor(t *testing.T) {
	m := newManager(t, &sessiontest.Store{}, session.Config{})
	for name, fill := range map[string]func(*session.Session) error{
		"nil":   nil,
		"empty": func(*session.Session) error { return nil },
	} {
		r := sessiontest.NewRequest(t, m, "GET", "/", nil, fill)
		if len(r.Header) != 0 {
			t.Errorf("%s: headers %v", name, r.Header)
		}
		resp := run(m, r, func(s *session.Session) error {
			if !s.IsNew() {
				t.Errorf("%s: there is a session", name)
			}
			return nil
		})
		sessiontest.NoSession(t, m, r, resp)
	}
}

func TestNewRequestFails(t *testing.T) {
	var store sessiontest.Store
	m := newManager(t, &store, session.Config{})
	wantFailure(t, try(t, func(t testing.TB) {
		sessiontest.NewRequest(t, m, "GET", "/", nil, func(*session.Session) error { return errDown })
	}), "fill: store is down")
	defer breakAll(&store)()
	wantFailure(t, try(t, func(t testing.TB) { sessiontest.NewRequest(t, m, "GET", "/", nil, set(1)) }), "session: save: store failed: store is down")
}

func TestAddTo(t *testing.T) {
	for name, cfg := range configs {
		t.Run(name, func(t *testing.T) {
			m := newManager(t, &sessiontest.Store{}, cfg)
			first := sessiontest.NewRequest(t, m, "GET", "/", nil, set(1))
			r := sessiontest.NewRequest(t, m, "GET", "/", nil, set(2))
			r.AddCookie(&http.Cookie{Name: "other", Value: "kept"})
			sessiontest.AddTo(t, m, r, sessiontest.Stored(t, m, first, nil))
			wantVisits(t, sessiontest.Stored(t, m, r, nil), 1)
			if c, err := r.Cookie("other"); err != nil || c.Value != "kept" {
				t.Errorf("another cookie is %v, %v", c, err)
			}
			run(m, r, func(s *session.Session) error { wantVisits(t, s, 1); return nil })
		})
	}
	m := newManager(t, &sessiontest.Store{}, session.Config{})
	wantFailure(t, try(t, func(t testing.TB) {
		sessiontest.AddTo(t, m, httptest.NewRequest("GET", "/", nil), m.Start())
	}), "not stored")
}

func TestStored(t *testing.T) {
	for name, cfg := range configs {
		t.Run(name, func(t *testing.T) {
			var store sessiontest.Store
			m := newManager(t, &store, cfg)
			merging, err := m.With(session.Route{Mode: session.Merge})
			if err != nil {
				t.Fatal(err)
			}

			visitor := httptest.NewRequest("GET", "/", nil)
			wantFailure(t, try(t, func(t testing.TB) { sessiontest.Stored(t, m, visitor, nil) }), "never got a token")
			resp := run(merging, visitor, set(1))
			s := sessiontest.Stored(t, m, visitor, resp)
			wantVisits(t, s, 1)
			if err := visits.Set(s, 2); err == nil {
				t.Error("a session of Stored can be changed")
			}

			// The response to one whose token stays has none.
			r := sessiontest.NewRequest(t, m, "GET", "/", nil, set(1))
			resp = run(merging, r, set(2))
			wantVisits(t, sessiontest.Stored(t, m, r, resp), 2)
			wantVisits(t, s, 1)

			// After a login, it is the session of the new token.
			resp = run(merging, r, func(s *session.Session) error { return s.Login("ann") })
			if user, err := sessiontest.Stored(t, m, r, resp).User(); user != "ann" || err != nil {
				t.Errorf("user is %q, %v", user, err)
			}
			wantFailure(t, try(t, func(t testing.TB) { sessiontest.Stored(t, m, r, nil) }), "its token opens none")

			// Of several tokens, it is the one that is alive.
			next := sessiontest.NewRequest(t, m, "GET", "/", nil, set(3))
			if cfg.Header == "" {
				next.Header.Set("Cookie", r.Header.Get("Cookie")+"; "+next.Header.Get("Cookie"))
				wantVisits(t, sessiontest.Stored(t, m, next, nil), 3)
			}

			resp = run(merging, next, func(s *session.Session) error { return s.Destroy(ctx) })
			wantFailure(t, try(t, func(t testing.TB) { sessiontest.Stored(t, m, next, resp) }), "took its token away")

			store.Advance(25 * time.Hour)
			wantFailure(t, try(t, func(t testing.TB) { sessiontest.Stored(t, m, visitor, resp) }), "took its token away")
			wantFailure(t, try(t, func(t testing.TB) { sessiontest.Stored(t, m, r, nil) }), "its token opens none")
		})
	}
}

// TestStoredWritesNothing: what a test looks at is as it was.
func TestStoredWritesNothing(t *testing.T) {
	var store sessiontest.Store
	m := newManager(t, &store, session.Config{Mode: session.Exclusive, TouchInterval: 1})
	r := sessiontest.NewRequest(t, m, "GET", "/", nil, set(1))
	mend := breakAll(&store)
	wantFailure(t, try(t, func(t testing.TB) { sessiontest.Stored(t, m, r, nil) }), "session: open: store failed: store is down")
	mend()
	for _, op := range ops[1:] {
		store.Fail(op, errDown)
	}
	store.Advance(time.Hour)
	var s *session.Session
	wantFailure(t, try(t, func(t testing.TB) {
		s = sessiontest.Stored(t, m, r, nil)
		if n, err := visits.Get(s); n != 1 || err != nil {
			t.Errorf("visits is %d, %v", n, err)
		}
	}), "")
	if _, err := visits.Get(s); err == nil {
		t.Error("the session is not closed when the test has ended")
	}
}

func TestNoSession(t *testing.T) {
	for name, cfg := range configs {
		t.Run(name, func(t *testing.T) {
			var store sessiontest.Store
			m := newManager(t, &store, cfg)
			merging, err := m.With(session.Route{Mode: session.Merge})
			if err != nil {
				t.Fatal(err)
			}
			none := func(r *http.Request, resp *http.Response) string {
				return try(t, func(t testing.TB) { sessiontest.NoSession(t, m, r, resp) })
			}
			destroy := func(s *session.Session) error { return s.Destroy(ctx) }

			r := sessiontest.NewRequest(t, m, "GET", "/", nil, set(1))
			wantFailure(t, none(r, nil), "still opens its session")
			resp := run(merging, r, func(*session.Session) error { return nil })
			wantFailure(t, none(r, resp), "still opens its session")
			resp = run(merging, r, func(s *session.Session) error { return s.Rotate() })
			wantFailure(t, none(r, resp), "hands out the token of a session")
			wantFailure(t, none(r, nil), "")
			sessiontest.AddTo(t, m, r, sessiontest.Stored(t, m, r, resp))
			resp = run(merging, r, destroy)
			wantFailure(t, none(r, resp), "")
			wantFailure(t, none(httptest.NewRequest("GET", "/", nil), nil), "")

			// A logout that takes the token away and leaves the session.
			r = sessiontest.NewRequest(t, m, "GET", "/", nil, set(1))
			wantFailure(t, none(r, resp), "took the token away, but it still opens the session")
			store.Advance(2*time.Hour + time.Second)
			wantFailure(t, none(r, nil), "")

			defer breakAll(&store)()
			wantFailure(t, none(r, nil), "session: open: store failed: store is down")
		})
	}
}
