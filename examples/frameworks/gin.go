package frameworks

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/seed-a7bee19b/session"
)

// Gin has the Handler around the engine, outside of gin's own writer.
func Gin(m *session.Manager) http.Handler {
	with := func(f func(c *gin.Context, s *session.Session) error) gin.HandlerFunc {
		return func(c *gin.Context) {
			s, err := m.Get(c.Request.Context())
			if err == nil {
				err = f(c, s)
			}
			if err != nil {
				m.Error(c.Writer, c.Request, err)
			}
		}
	}
	e := gin.New()
	e.POST("/count", with(func(c *gin.Context, s *session.Session) error {
		n, err := visits.Update(s, next)
		if err == nil {
			c.JSON(http.StatusOK, n)
		}
		return err
	}))
	e.POST("/login", with(func(c *gin.Context, s *session.Session) error {
		return s.Login(c.PostForm("user")) // after a check of the password
	}))
	return m.Handler(e)
}
