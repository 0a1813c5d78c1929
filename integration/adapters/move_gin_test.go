package adapters

import (
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	ginsessions "github.com/gin-contrib/sessions"
	gincookie "github.com/gin-contrib/sessions/cookie"
	"github.com/gin-gonic/gin"
	"github.com/gorilla/sessions"

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
	dir := t.TempDir()
	key := []byte("0123456789abcdef0123456789abcdef")
	store := ginFiles{sessions.NewFilesystemStore(dir, key)}
	r := gin.New()
	r.Use(ginsessions.Sessions("session", store))
	r.GET("/", func(c *gin.Context) {
		s := ginsessions.Default(c)
		s.Set("n", 41)
		if err := s.Save(); err != nil {
			t.Error(err)
		}
	})
	w := httptest.NewRecorder()
	r.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
	if len(w.Result().Cookies()) != 1 {
		t.Fatalf("gin set %v", w.Result().Cookies())
	}
	token := w.Result().Cookies()[0].Value

	source, err := gorillastore.NewSource(store, gorillastore.SourceConfig{Name: "session", Codecs: store.Codecs})
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
	for n := 42; n <= 43; n++ {
		if got := askMoved(m, token); got.status != http.StatusOK || got.n != n || len(got.cookies) > 0 {
			t.Errorf("got %+v", got)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left in the old store: %v, %v", left, err)
	}

	_, err = gorillastore.NewSource(gincookie.NewStore(key), gorillastore.SourceConfig{Name: "session", Codecs: store.Codecs})
	if err == nil || !strings.Contains(err.Error(), "CookieStore") {
		t.Errorf("a store of cookies: %v", err)
	}
}
