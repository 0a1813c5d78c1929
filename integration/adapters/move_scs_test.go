package adapters

import (
	"context"
	"encoding/gob"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/alexedwards/scs/goredisstore"
	"github.com/alexedwards/scs/v2"
	"github.com/alexedwards/scs/v2/memstore"
	goredis "github.com/redis/go-redis/v9"

	"github.com/seed-a7bee19b/session"
	scsstore "github.com/seed-a7bee19b/session/adapter/scs"
	"github.com/seed-a7bee19b/session/backend/memory"
	"github.com/seed-a7bee19b/session/codec"
	"github.com/seed-a7bee19b/session/migrate"
)

// basket is a value of a type that the site has registered with gob.
type basket struct {
	Items []string
	At    time.Time
}

// failing is a store of scs that fails while down is set.
type failing struct {
	scs.Store
	down error
}

func (f *failing) Find(token string) ([]byte, bool, error) {
	if f.down != nil {
		return nil, false, f.down
	}
	return f.Store.Find(token)
}

// failingCtx is failing for a store whose other methods panic.
type failingCtx struct {
	scs.CtxStore
	*failing
}

func (f *failingCtx) FindCtx(ctx context.Context, token string) ([]byte, bool, error) {
	if f.down != nil {
		return nil, false, f.down
	}
	return f.CtxStore.FindCtx(ctx, token)
}

func (f *failingCtx) Find(string) ([]byte, bool, error) { panic("Find of a CtxStore") }

func (f *failingCtx) Delete(string) error { panic("Delete of a CtxStore") }

// TestMoveFromSCS has scs begin sessions, and a Manager go on with them.
func TestMoveFromSCS(t *testing.T) {
	gob.Register(basket{})
	sources := []struct {
		name  string
		hash  bool
		store func(t *testing.T) scs.Store
	}{
		{"memstore", false, func(*testing.T) scs.Store { return memstore.NewWithCleanupInterval(0) }},
		{"hashed tokens", true, func(*testing.T) scs.Store { return memstore.NewWithCleanupInterval(0) }},
		{"goredisstore", false, func(t *testing.T) scs.Store {
			client := goredis.NewClient(&goredis.Options{Addr: server.Endpoint})
			t.Cleanup(func() { client.Close() })
			return goredisstore.NewWithPrefix(client, t.Name()+":")
		}},
	}
	for _, tt := range sources {
		t.Run(tt.name, func(t *testing.T) {
			old := &failing{Store: tt.store(t)}
			site := scs.New()
			site.Store, site.HashTokenInStore, site.Lifetime = old.Store, tt.hash, 5*time.Hour
			var store migrate.SCSStore = old
			if c, ok := old.Store.(scs.CtxStore); ok {
				store = &failingCtx{c, old}
			}
			at := time.Now().Round(0)
			begin := func() string {
				w := httptest.NewRecorder()
				site.LoadAndSave(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
					site.Put(r.Context(), "n", 41)
					site.Put(r.Context(), "user", "ann")
					site.Put(r.Context(), "basket", basket{[]string{"tea"}, at})
				})).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
				return w.Result().Cookies()[0].Value
			}
			token, other, left := begin(), begin(), begin()
			deadline := time.Now().Add(site.Lifetime)

			source, err := migrate.SCS(store, migrate.SCSConfig{
				HashTokens: tt.hash,
				Pack: func(values map[string]any, deadline time.Time) (session.Record, error) {
					user, _ := values["user"].(string)
					delete(values, "user")
					return session.Pack(codec.MessagePack{}, session.Foreign{Values: values, User: user, Expires: deadline})
				},
			})
			if err != nil {
				t.Fatal(err)
			}
			fresh := &memory.Backend{}
			manager := func(phase migrate.Phase) *session.Manager {
				b, err := migrate.New(fresh, source, migrate.Config{Phase: phase, TokenKeys: true})
				if err != nil {
					t.Fatal(err)
				}
				m, err := session.New(b, session.Config{
					Cookie:   session.Cookie{Name: "session"},
					Tokens:   session.Tokens{MaxLength: 43},
					StoreKey: migrate.StoreKey(migrate.SCSToken),
				})
				if err != nil {
					t.Fatal(err)
				}
				return m
			}
			m := manager(migrate.Move)

			old.down = errors.New("down")
			if got := askMoved(m, token); got.status != http.StatusServiceUnavailable || len(got.cookies) > 0 {
				t.Errorf("while the old store fails: %+v", got)
			}
			old.down = nil
			if s, err := m.Open(t.Context(), other); err != nil {
				t.Errorf("open: %v", err)
			} else if rec, err := fresh.Load(t.Context(), session.DefaultStoreKey(other)); err != nil || !near(rec.Expires, deadline) {
				t.Errorf("the record ends at %v, %v; scs had %v", rec.Expires, err, deadline)
			} else if user, err := s.User(); err != nil || user != "ann" {
				t.Errorf("user %q, %v", user, err)
			}
			for n := 42; n <= 44; n++ {
				got := askMoved(m, token)
				if got.status != http.StatusOK || len(got.cookies) > 0 || got.n != n || got.user != "ann" || !got.basket.At.Equal(at) || len(got.basket.Items) != 1 {
					t.Errorf("got %+v", got)
				}
			}
			if found, err := findSCS(site, token); found || err != nil {
				t.Errorf("left in the old store: %t, %v", found, err)
			}
			if got := askMoved(manager(migrate.Gone), token); got.n != 45 || len(got.cookies) > 0 {
				t.Errorf("Gone: %+v", got)
			}
			// Without package migrate the key is the same.
			alone, err := session.New(fresh, session.Config{Cookie: session.Cookie{Name: "session"}, Tokens: session.Tokens{MaxLength: 43}})
			if err != nil {
				t.Fatal(err)
			}
			if got := askMoved(alone, token); got.n != 46 || got.user != "ann" || len(got.cookies) > 0 {
				t.Errorf("without the package: %+v", got)
			}

			for _, token := range []string{token, left} {
				s, err := m.Open(t.Context(), token)
				if err != nil {
					t.Fatal(err)
				}
				if err := s.Destroy(t.Context()); err != nil {
					t.Fatal(err)
				}
				if got := askMoved(m, token); got.status != http.StatusOK || got.n != 1 || got.user != "" || len(got.cookies) != 1 || len(got.cookies[0].Value) != 32 {
					t.Errorf("after the logout: %+v", got)
				}
			}
			forged := []byte(other)
			forged[0] ^= 1
			if got := askMoved(m, string(forged)); got.n != 1 || len(got.cookies) != 1 || got.cookies[0].Value == string(forged) {
				t.Errorf("an unknown token: %+v", got)
			}
		})
	}
}

// A site that has had scs with the adapter goes on without scs: the store of the
// adapter is a source too.
func TestMoveFromSCSAdapter(t *testing.T) {
	gob.Register(basket{})
	records := &memory.Backend{}
	old, err := scsstore.New(records, scsstore.Config{})
	if err != nil {
		t.Fatal(err)
	}
	site := scs.New()
	site.Store = old
	w := httptest.NewRecorder()
	old.Handler(site.LoadAndSave(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		site.Put(r.Context(), "n", 41)
	}))).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
	token := w.Result().Cookies()[0].Value

	source, err := migrate.SCS(old, migrate.SCSConfig{Pack: func(values map[string]any, deadline time.Time) (session.Record, error) {
		for name := range values {
			if name != "n" {
				t.Errorf("a value %q", name)
			}
		}
		return session.Pack(codec.MessagePack{}, session.Foreign{Values: values, Expires: deadline})
	}})
	if err != nil {
		t.Fatal(err)
	}
	b, err := migrate.New(&memory.Backend{}, source, migrate.Config{TokenKeys: true})
	if err != nil {
		t.Fatal(err)
	}
	m, err := session.New(b, session.Config{Cookie: session.Cookie{Name: "session"}, Tokens: session.Tokens{MaxLength: 43}, StoreKey: migrate.StoreKey(migrate.SCSToken)})
	if err != nil {
		t.Fatal(err)
	}
	if got := askMoved(m, token); got.n != 42 || len(got.cookies) > 0 {
		t.Errorf("got %+v", got)
	}
}

// moved is what a Manager found of a session.
type moved struct {
	status, n int
	user      string
	basket    basket
	cookies   []*http.Cookie
}

func askMoved(m *session.Manager, token string) (got moved) {
	r, w := httptest.NewRequest(http.MethodGet, "/", nil), httptest.NewRecorder()
	r.AddCookie(&http.Cookie{Name: "session", Value: token})
	m.HandlerFunc(func(_ http.ResponseWriter, _ *http.Request, s *session.Session) (err error) {
		if got.user, err = s.User(); err != nil {
			return err
		}
		if got.basket, err = (session.Key[basket]{Name: "basket"}).Get(s); err != nil {
			return err
		}
		got.n, err = (session.Key[int]{Name: "n"}).Update(s, func(n int) int { return n + 1 })
		return err
	}).ServeHTTP(w, r)
	got.status, got.cookies = w.Code, w.Result().Cookies()
	return got
}

// near compares with what the library rounds.
func near(a, b time.Time) bool { return a.Sub(b).Abs() < time.Minute }

// findSCS asks scs whether it has the session.
func findSCS(site *scs.SessionManager, token string) (bool, error) {
	ctx, err := site.Load(context.Background(), token)
	return err == nil && site.Exists(ctx, "n"), err
}
