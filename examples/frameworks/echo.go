package frameworks

import (
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/seed-a7bee19b/session"
)

// Echo has the Handler around it, and leaves its errors to the ErrorHandler.
func Echo(m *session.Manager) http.Handler {
	e := echo.New()
	e.HTTPErrorHandler = func(err error, c echo.Context) { m.Error(c.Response(), c.Request(), err) }
	e.POST("/count", func(c echo.Context) error {
		s, err := m.Get(c.Request().Context())
		if err != nil {
			return err
		}
		n, err := visits.Update(s, next)
		if err != nil {
			return err
		}
		return c.JSON(http.StatusOK, n)
	})
	e.POST("/login", func(c echo.Context) error {
		s, err := m.Get(c.Request().Context())
		if err != nil {
			return err
		}
		return s.Login(c.FormValue("user")) // after a check of the password
	})
	return m.Handler(e)
}
