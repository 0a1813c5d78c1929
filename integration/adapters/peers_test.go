package adapters

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alexedwards/scs/v2"
	ginsessions "github.com/gin-contrib/sessions"
	"github.com/gin-contrib/sessions/tester"
	"github.com/gofiber/fiber/v3"
	fibersession "github.com/gofiber/fiber/v3/middleware/session"
	"github.com/gofiber/fiber/v3/middleware/timeout"
	"github.com/gorilla/sessions"

	"github.com/seed-a7bee19b/session"
	fiberstore "github.com/seed-a7bee19b/session/adapter/fiber"
	ginstore "github.com/seed-a7bee19b/session/adapter/gin"
	gorillastore "github.com/seed-a7bee19b/session/adapter/gorilla"
	scsstore "github.com/seed-a7bee19b/session/adapter/scs"
	"github.com/seed-a7bee19b/session/backend/memory"
)

var (
	_ scs.CtxStore   = (*scsstore.Store)(nil)
	_ scsstore.Codec = scs.GobCodec{}
	_ sessions.Store = (*gorillastore.Store)(nil)
	_ fiber.Storage  = (*fiberstore.Storage)(nil)
)

// eachStore runs f on every store.
func eachStore(t *testing.T, f func(t *testing.T, b *backend)) {
	for _, st := range stores {
		t.Run(st.name, func(t *testing.T) {
			t.Parallel()
			f(t, st.room(t)(t))
		})
	}
}

// TestGin runs the test suite of gin-contrib for stores.
func TestGin(t *testing.T) {
	suite := []struct {
		name string
		run  func(*testing.T, func(*testing.T) ginsessions.Store)
	}{
		{"GetSet", func(t *testing.T, f func(*testing.T) ginsessions.Store) { tester.GetSet(t, f) }},
		{"DeleteKey", func(t *testing.T, f func(*testing.T) ginsessions.Store) { tester.DeleteKey(t, f) }},
		{"Flashes", func(t *testing.T, f func(*testing.T) ginsessions.Store) { tester.Flashes(t, f) }},
		{"Clear", func(t *testing.T, f func(*testing.T) ginsessions.Store) { tester.Clear(t, f) }},
		{"Options", func(t *testing.T, f func(*testing.T) ginsessions.Store) { tester.Options(t, f) }},
		{"Many", func(t *testing.T, f func(*testing.T) ginsessions.Store) { tester.Many(t, f) }},
	}
	eachStore(t, func(t *testing.T, b *backend) {
		for _, tt := range suite {
			t.Run(tt.name, func(t *testing.T) {
				tt.run(t, func(t *testing.T) ginsessions.Store {
					s, err := ginstore.New(b, ginstore.Config{})
					if err != nil {
						t.Fatal(err)
					}
					return s
				})
			})
		}
	})
}

// TestFiberStorage has what fiber documents for a Storage, and what its
// compatibility kit for storages asks: that kit is not a module that can be
// required. All of it but Reset.
func TestFiberStorage(t *testing.T) {
	eachStore(t, func(t *testing.T, b *backend) {
		s, err := fiberstore.New(b, fiberstore.Config{})
		if err != nil {
			t.Fatal(err)
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		check := func(what string, err, want error) {
			t.Helper()
			if !errors.Is(err, want) {
				t.Errorf("%s: %v, want %v", what, err, want)
			}
		}
		value := func(what, key, want string) {
			t.Helper()
			got, err := s.Get(key)
			if err != nil || string(got) != want || got == nil != (want == "") {
				t.Errorf("%s: %q, %v; want %q", what, got, err, want)
			}
		}
		value("missing", "missing", "")
		check("Set", s.Set("k", []byte("one"), 0), nil)
		value("Set", "k", "one")
		check("Set", s.Set("k", []byte("two"), time.Hour), nil)
		value("Set again", "k", "two")
		check("Set, context ended", s.SetWithContext(ended, "k", []byte("three"), 0), context.Canceled)
		_, err = s.GetWithContext(ended, "k")
		check("Get, context ended", err, context.Canceled)
		check("Delete, context ended", s.DeleteWithContext(ended, "k"), context.Canceled)
		value("after an ended context", "k", "two")
		check("Set without a key", s.Set("", []byte("x"), 0), nil)
		check("Set without a value", s.Set("k", nil, 0), nil)
		check("Delete without a key", s.Delete(""), nil)
		value("no key", "", "")
		value("after nothing", "k", "two")
		check("Delete", s.Delete("k"), nil)
		value("Delete", "k", "")
		check("Delete again", s.Delete("k"), nil)
		check("Set after Delete", s.Set("k", []byte("four"), 0), nil)
		value("Set after Delete", "k", "four")

		check("Set for a moment", s.Set("short", []byte("x"), 500*time.Millisecond), nil)
		for until := time.Now().Add(10 * time.Second); ; time.Sleep(50 * time.Millisecond) {
			if got, err := s.Get("short"); err != nil || got == nil || time.Now().After(until) {
				if got != nil || err != nil {
					t.Errorf("it does not expire: %v", err)
				}
				break
			}
		}

		check("Reset, context ended", s.ResetWithContext(ended), context.Canceled)
		check("Reset", s.Reset(), errors.ErrUnsupported)
		value("Reset", "k", "four")
		if s.Set("k", []byte("x"), -time.Second) == nil {
			t.Error("a negative expiration is no error")
		}
		check("Close", s.Close(), nil)
	})
}

// TestFiberOutside has what fiberstore says it does not keep, and the timeout
// middleware.
func TestFiberOutside(t *testing.T) {
	eachStore(t, func(t *testing.T, b *backend) {
		storage, err := fiberstore.New(b, fiberstore.Config{})
		if err != nil {
			t.Fatal(err)
		}
		store := fibersession.NewStore(fibersession.Config{Storage: storage})
		app := fiber.New(fiber.Config{ErrorHandler: func(c fiber.Ctx, err error) error {
			return c.Status(session.Status(err)).SendString(err.Error())
		}})
		var id string
		app.Get("/", func(c fiber.Ctx) error {
			s, err := store.Get(c)
			if err != nil {
				return err
			}
			defer s.Release()
			s.Set("a", "1")
			id = s.ID()
			return s.Save()
		})
		app.Get("/late", timeout.New(func(c fiber.Ctx) error {
			<-c.Context().Done()
			s, err := store.Get(c)
			if err == nil {
				s.Release()
			}
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("past the timeout of the handler: %v", err)
			}
			return err
		}, timeout.Config{Timeout: 50 * time.Millisecond}))
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		resp, err := app.Test(r, fiber.TestConfig{})
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatal(err, resp)
		}

		s, err := store.GetByID(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if err := storage.Delete(id); err != nil {
			t.Fatal(err)
		}
		s.Set("b", "1")
		if err := s.Save(); err != nil {
			t.Errorf("a session of GetByID: %v", err)
		}
		if got, err := storage.Get(id); err != nil || got == nil {
			t.Errorf("a session of GetByID was not saved: %v", err)
		}

		r = httptest.NewRequest(http.MethodGet, "/late", nil)
		r.Header.Set("Cookie", "session_id="+id)
		if resp, err = app.Test(r, fiber.TestConfig{}); err != nil || resp.StatusCode != http.StatusRequestTimeout {
			t.Error(err, resp)
		}
	})
}

// TestSCS has what scs documents for its methods.
func TestSCS(t *testing.T) {
	eachStore(t, func(t *testing.T, b *backend) {
		store, err := scsstore.New(b, scsstore.Config{})
		if err != nil {
			t.Fatal(err)
		}
		m := scs.New()
		m.Store = store
		load := func(token string) context.Context {
			t.Helper()
			ctx, err := m.Load(store.Context(t.Context()), token)
			if err != nil {
				t.Fatal(err)
			}
			return ctx
		}
		commit := func(ctx context.Context) string {
			t.Helper()
			token, _, err := m.Commit(ctx)
			if err != nil {
				t.Fatal(err)
			}
			return token
		}
		begin := func(name, value string) string {
			ctx := load("")
			m.Put(ctx, name, value)
			return commit(ctx)
		}

		// Commit by hand, and again, as LoadAndSave does after it.
		ctx := load(begin("a", "1"))
		m.Put(ctx, "b", "2")
		token := commit(ctx)
		m.Put(ctx, "b", "3")
		if commit(ctx) != token || m.GetString(load(token), "b") != "3" {
			t.Error("a second Commit changed the token, or was lost")
		}

		// MergeSession takes the values of another session, and deletes it.
		other := begin("c", "4")
		ctx = load(token)
		if err := m.MergeSession(ctx, other); err != nil {
			t.Fatal(err)
		}
		commit(ctx)
		ctx = load(token)
		if m.GetString(ctx, "b") != "3" || m.GetString(ctx, "c") != "4" || len(m.Keys(load(other))) != 0 {
			t.Error("MergeSession lost values, or left the other session")
		}

		// Its own session is read anew, and must not count as read now.
		quick := load(token)
		m.Put(quick, "d", "5")
		commit(quick)
		if err := m.MergeSession(ctx, token); err != nil {
			t.Fatal(err)
		}
		m.Put(ctx, "b", "6")
		if _, _, err := m.Commit(ctx); !errors.Is(err, session.ErrConflict) {
			t.Errorf("Commit after another one: %v", err)
		}

		// The values that programs see have nothing of the adapter.
		if keys := m.Keys(load(token)); len(keys) != 4 {
			t.Errorf("keys %q", keys)
		}

		// A new deadline is a change.
		ctx = load(token)
		m.SetDeadline(ctx, time.Now().Add(time.Hour))
		commit(ctx)
		if d := time.Until(m.Deadline(load(token))); d > time.Hour {
			t.Errorf("the deadline is in %v", d)
		}

		// A logout by a token alone.
		if err := store.Delete(token); err != nil {
			t.Fatal(err)
		}
		if _, found, err := store.Find(token); found || err != nil {
			t.Errorf("after Delete: %t, %v", found, err)
		}

		// Without a scope there is no version.
		ctx, err = m.Load(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		m.Put(ctx, "a", "1")
		if _, _, err := m.Commit(ctx); err == nil {
			t.Error("Commit without Handler or Context is no error")
		}
		if store.Commit("t", nil, time.Now().Add(time.Hour)) == nil {
			t.Error("Commit without a context is no error")
		}
	})
}

// TestExpiry: idle and absolute timeouts are those of the library.
func TestExpiry(t *testing.T) {
	tests := []struct {
		name  string
		start func(t testing.TB, b session.Backend) *site
		idle  bool // each request that saves moves the deadline
		after time.Duration
		in    time.Duration // the session is gone
	}{
		{"scs", func(t testing.TB, b session.Backend) *site { return startSCS(t, b, 0) }, false, 23 * time.Hour, 25 * time.Hour},
		{"scs with IdleTimeout", func(t testing.TB, b session.Backend) *site { return startSCS(t, b, time.Hour) }, true, 59 * time.Minute, 61 * time.Minute},
		{"gorilla", startGorilla, true, 59 * time.Minute, 61 * time.Minute},
		{"gin", startGin, true, 59 * time.Minute, 61 * time.Minute},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := tt.start(t, &memory.Backend{})
				cookie := s.begin(t)
				time.Sleep(tt.after)
				s.do(t, cookie, "set:b=1 save")
				s.wantValue(t, cookie, "a", "1")
				if tt.idle {
					time.Sleep(tt.after)
					s.do(t, cookie, "get:a set:b=1 save") // unchanged
					time.Sleep(tt.after)
					s.wantValue(t, cookie, "a", "1")
					s.do(t, cookie, "get:a save")
				}
				time.Sleep(tt.in)
				s.wantValue(t, cookie, "a", "-")
			})
		})
	}
	t.Run("scs, both", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := startSCS(t, &memory.Backend{}, time.Hour)
			cookie := s.begin(t)
			for range 25 {
				time.Sleep(59 * time.Minute)
				s.do(t, cookie, "get:a")
			}
			s.wantValue(t, cookie, "a", "-")
		})
	})
}

// TestGorilla has what gorilla documents for a Store, and what programs do with it.
func TestGorilla(t *testing.T) {
	eachStore(t, func(t *testing.T, b *backend) {
		store, err := gorillastore.New(b, gorillastore.Config{BrowserSession: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		open := func(cookies []*http.Cookie) (*http.Request, *sessions.Session) {
			t.Helper()
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			for _, c := range cookies {
				r.AddCookie(c)
			}
			s, err := store.Get(r, "a")
			if err != nil {
				t.Fatal(err)
			}
			if again, _ := store.Get(r, "a"); again != s {
				t.Error("a second Get has another session")
			}
			return r, s
		}
		save := func(r *http.Request, s *sessions.Session) []*http.Cookie {
			t.Helper()
			w := httptest.NewRecorder()
			if err := s.Save(r, w); err != nil {
				t.Fatal(err)
			}
			return w.Result().Cookies()
		}

		r, s := open(nil)
		if !s.IsNew || s.ID != "" {
			t.Errorf("a new session: IsNew %t", s.IsNew)
		}
		s.AddFlash("hello")
		other, err := store.Get(r, "b") // a session of its own
		if err != nil {
			t.Fatal(err)
		}
		other.Values["x"] = 1
		w := httptest.NewRecorder()
		if err := sessions.Save(r, w); err != nil {
			t.Fatal(err)
		}
		cookies := w.Result().Cookies()
		if len(cookies) != 2 || !cookies[0].Secure || !cookies[0].HttpOnly || cookies[0].MaxAge != 30*24*60*60 {
			t.Errorf("cookies %v", len(cookies))
		}
		r, s = open(cookies)
		if got := s.Flashes(); s.IsNew || len(got) != 1 || len(s.Values) != 0 {
			t.Errorf("IsNew %t, flashes %v, values %v", s.IsNew, got, s.Values)
		}
		s.Options.MaxAge = 0
		cookies = save(r, s)
		if _, rec := b.last(t); cookies[0].MaxAge != 0 || time.Until(rec.Expires) > time.Hour+2*time.Second {
			t.Errorf("a session of the browser: MaxAge %d, kept for %v", cookies[0].MaxAge, time.Until(rec.Expires))
		}

		// A copy of a session has no version, and must not guess.
		r, s = open(cookies)
		dup := *s
		dup.Values = map[any]any{"x": 2}
		if err := store.Save(r, httptest.NewRecorder(), &dup); err == nil {
			t.Error("Save of a copy is no error")
		}
		// One that has only an ID can be deleted.
		byID := sessions.NewSession(store, "a")
		byID.ID, byID.Options.MaxAge = s.ID, -1
		if err := store.Save(r, httptest.NewRecorder(), byID); err != nil {
			t.Error(err)
		}
		if _, s = open(cookies); !s.IsNew {
			t.Error("a session that was deleted by its ID is there")
		}
	})
}
