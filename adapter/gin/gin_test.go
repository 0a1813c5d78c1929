package ginstore_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/gin-contrib/sessions"
	"github.com/gin-gonic/gin"

	"github.com/seed-a7bee19b/session"
	ginstore "github.com/seed-a7bee19b/session/adapter/gin"
	"github.com/seed-a7bee19b/session/backend/memory"
)

func Example() {
	gin.SetMode(gin.ReleaseMode)
	store, err := ginstore.New(&memory.Backend{}, ginstore.Config{}) // before: cookie.NewStore(key)
	if err != nil {
		fmt.Println(err)
		return
	}
	e := gin.New()
	e.Use(sessions.Sessions("session", store))
	e.GET("/", func(c *gin.Context) {
		s := sessions.Default(c)
		n, _ := s.Get("visits").(int)
		s.Set("visits", n+1)
		if err := s.Save(); err != nil {
			c.AbortWithStatus(session.Status(err))
			return
		}
		c.String(http.StatusOK, "%d\n", n+1)
	})

	w := httptest.NewRecorder()
	e.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
	fmt.Print(w.Body)
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.AddCookie(w.Result().Cookies()[0])
	w = httptest.NewRecorder()
	e.ServeHTTP(w, r)
	fmt.Print(w.Body)
	// Output:
	// 1
	// 2
}

var _ sessions.Store = (*ginstore.Store)(nil)

func TestNew(t *testing.T) {
	if _, err := ginstore.New(nil, ginstore.Config{}); err == nil {
		t.Error("New without a Backend is no error")
	}
}
