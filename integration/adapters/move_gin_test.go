package adapters

import (
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	ginsessions "github.com/gin-contrib/sessions"
	gincookie "github.com/gin-contrib/sessions/cookie"
	ginredis "github.com/gin-contrib/sessions/redis"
	"github.com/gin-gonic/gin"
	"github.com/gorilla/securecookie"
	"github.com/gorilla/sessions"
	goredis "github.com/redis/go-redis/v9"

	"github.com/seed-a7bee19b/session"
	gorillastore "github.com/seed-a7bee19b/session/adapter/gorilla"
	"github.com/seed-a7bee19b/session/backend/memory"
	"github.com/seed-a7bee19b/session/migrate"
)

// ginFiles is a store of gin-contrib, made of one of gorilla as all of them are.
type ginFiles struct{ *sessions.FilesystemStore }

func (g ginFiles) Options(o ginsessions.Options) { g.FilesystemStore.Options = o.ToGorillaOptions() }

// TestMoveFromGin has gin-contrib begin a session, and a Manager go on with it.
func TestMoveFromGin(t *testing.T) {
	key := []byte("0123456789abcdef0123456789abcdef")
	codecs := securecookie.CodecsFromPairs(key)
	dir := t.TempDir()
	client := goredis.NewClient(&goredis.Options{Addr: server.Endpoint})
	t.Cleanup(func() { client.Close() })
	inRedis, err := ginredis.NewStore(1, "tcp", server.Endpoint, "", "", key)
	if err != nil {
		t.Fatal(err)
	}
	down, err := ginredis.NewStore(1, "tcp", server.Endpoint, "", "", key)
	if err != nil {
		t.Fatal(err)
	}
	inner, err := ginredis.GetRedisStore(down)
	if err != nil {
		t.Fatal(err)
	}
	if err := inner.Close(); err != nil {
		t.Fatal(err)
	}
	stores := []struct {
		name  string
		store ginsessions.Store
		left  func() int
	}{
		{"files", ginFiles{sessions.NewFilesystemStore(dir, key)}, func() int {
			left, err := os.ReadDir(dir)
			if err != nil {
				t.Error(err)
			}
			return len(left)
		}},
		{"redis", inRedis, func() int {
			left, err := client.Keys(t.Context(), "session_*").Result()
			if err != nil {
				t.Error(err)
			}
			return len(left)
		}},
	}
	manager := func(t *testing.T, store sessions.Store) *session.Manager {
		source, err := gorillastore.NewSource(store, gorillastore.SourceConfig{Name: "session", Codecs: codecs})
		if err != nil {
			t.Fatal(err)
		}
		backend, err := migrate.New(&memory.Backend{}, source, migrate.Config{TokenKeys: true})
		if err != nil {
			t.Fatal(err)
		}
		m, err := session.New(backend, session.Config{
			Cookie:   session.Cookie{Name: "session"},
			Tokens:   source.Tokens(),
			StoreKey: source.StoreKey,
		})
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	for _, tt := range stores {
		t.Run(tt.name, func(t *testing.T) {
			r := gin.New()
			r.Use(ginsessions.Sessions("session", tt.store))
			r.GET("/", func(c *gin.Context) {
				s := ginsessions.Default(c)
				s.Set("n", 41)
				if err := s.Save(); err != nil {
					t.Error(err)
				}
			})
			w := httptest.NewRecorder()
			r.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
			if len(w.Result().Cookies()) != 1 || tt.left() != 1 {
				t.Fatalf("gin set %v, and has %d sessions", w.Result().Cookies(), tt.left())
			}
			token := w.Result().Cookies()[0].Value
			if got := askMoved(manager(t, down), token); got.status != http.StatusServiceUnavailable || len(got.cookies) > 0 {
				t.Errorf("without a connection: %+v", got)
			}
			m := manager(t, tt.store)
			for n := 42; n <= 43; n++ {
				if got := askMoved(m, token); got.status != http.StatusOK || got.n != n || len(got.cookies) > 0 {
					t.Errorf("got %+v", got)
				}
			}
			if n := tt.left(); n != 0 {
				t.Errorf("%d left in the old store", n)
			}
			s, err := m.Open(t.Context(), token)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Destroy(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := askMoved(m, token); got.n != 1 || len(got.cookies) != 1 {
				t.Errorf("after the logout: %+v", got)
			}
		})
	}
	_, err = gorillastore.NewSource(gincookie.NewStore(key), gorillastore.SourceConfig{Name: "session", Codecs: codecs})
	if err == nil || !strings.Contains(err.Error(), "CookieStore") {
		t.Errorf("a store of cookies: %v", err)
	}
}
