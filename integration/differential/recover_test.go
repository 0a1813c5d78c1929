package differential

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/gin-gonic/gin"
	"github.com/labstack/echo/v4"
	echomiddleware "github.com/labstack/echo/v4/middleware"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/memory"
)

// TestRecoverers checks the recover middleware of frameworks. Outside the
// Handler, nothing is saved that a handler did before it panicked. Inside, the
// middleware ends the panic before the Handler can see it; then its page is like
// any other, and changes are saved with it, unless it answers with
// Manager.Error.
func TestRecoverers(t *testing.T) {
	gin.SetMode(gin.ReleaseMode)
	var errPanic = errors.New("on purpose")
	for _, tt := range []struct {
		name  string
		serve func(m *session.Manager, work func(r *http.Request)) http.Handler
		saved bool
	}{
		{"gin.Recovery outside", func(m *session.Manager, work func(r *http.Request)) http.Handler {
			engine := gin.New()
			engine.Use(gin.RecoveryWithWriter(io.Discard))
			engine.Any("/", gin.WrapH(m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { work(r) }))))
			return engine
		}, false},
		{"gin.Recovery inside", func(m *session.Manager, work func(r *http.Request)) http.Handler {
			engine := gin.New()
			engine.Use(gin.RecoveryWithWriter(io.Discard))
			engine.Any("/", func(c *gin.Context) { work(c.Request) })
			return m.Handler(engine)
		}, true},
		{"gin.Recovery inside, with Manager.Error", func(m *session.Manager, work func(r *http.Request)) http.Handler {
			engine := gin.New()
			engine.Use(gin.CustomRecoveryWithWriter(io.Discard, func(c *gin.Context, _ any) { m.Error(c.Writer, c.Request, errPanic); c.Abort() }))
			engine.Any("/", func(c *gin.Context) { work(c.Request) })
			return m.Handler(engine)
		}, false},
		{"echo's Recover outside", func(m *session.Manager, work func(r *http.Request)) http.Handler {
			e := echo.New()
			e.Logger.SetOutput(io.Discard)
			e.Use(echomiddleware.Recover(), echo.WrapMiddleware(m.Handler))
			e.Any("/", func(c echo.Context) error { work(c.Request()); return nil })
			return e
		}, false},
		{"echo's Recover inside", func(m *session.Manager, work func(r *http.Request)) http.Handler {
			e := echo.New()
			e.Logger.SetOutput(io.Discard)
			e.Use(echo.WrapMiddleware(m.Handler), echomiddleware.Recover())
			e.Any("/", func(c echo.Context) error { work(c.Request()); return nil })
			return e
		}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var b memory.Backend
			m, err := session.New(&b, session.Config{Cookie: session.Cookie{InsecureHTTP: true}, ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) {
				w.WriteHeader(http.StatusInternalServerError)
			}})
			if err != nil {
				t.Fatal(err)
			}
			w := httptest.NewRecorder()
			tt.serve(m, func(r *http.Request) {
				s, err := m.Get(r.Context())
				if err := errors.Join(err, note.Set(s, "half")); err != nil {
					t.Error(err)
				}
				panic(errPanic)
			}).ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
			cookies := len(w.Header()["Set-Cookie"])
			if w.Code != http.StatusInternalServerError || b.Len() > 0 != tt.saved || (cookies > 0) != tt.saved {
				t.Errorf("status %d, %d records, %d cookies", w.Code, b.Len(), cookies)
			}
		})
	}
}
