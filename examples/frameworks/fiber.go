package frameworks

import (
	"github.com/gofiber/fiber/v3"
	"github.com/gofiber/fiber/v3/middleware/adaptor"

	"github.com/seed-a7bee19b/session"
)

// Fiber has handlers of net/http, by its adaptor. The session is saved when such a
// handler writes its first byte, or returns. The adaptor keeps the response until
// then, unless it is flushed.
//
// It cannot give fiber's own handlers and middleware a session: fasthttp has no
// writer through which its responses pass, and so no moment at which to save. And
// the context of a request does not end when its client goes away.
func Fiber(m *session.Manager) *fiber.App {
	app := fiber.New()
	app.Post("/count", adaptor.HTTPHandler(m.HandlerFunc(count)))
	app.Post("/login", adaptor.HTTPHandler(m.HandlerFunc(login)))
	return app
}
