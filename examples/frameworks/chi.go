package frameworks

import (
	"net/http"

	"github.com/go-chi/chi/v5"

	"github.com/seed-a7bee19b/session"
)

// Chi has the Handler as a middleware. Handlers that take a session are those of
// net/http.
func Chi(m *session.Manager) http.Handler {
	r := chi.NewRouter()
	r.Use(m.Handler)
	r.Method(http.MethodPost, "/count", m.HandlerFunc(count))
	r.Post("/login", func(w http.ResponseWriter, r *http.Request) {
		s, err := m.Get(r.Context())
		if err == nil {
			err = login(w, r, s)
		}
		if err != nil {
			m.Error(w, r, err)
		}
	})
	return r
}
