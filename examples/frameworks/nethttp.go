package frameworks

import (
	"fmt"
	"net/http"

	"github.com/seed-a7bee19b/session"
)

// NetHTTP has a session in each route.
func NetHTTP(m *session.Manager) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("POST /count", m.HandlerFunc(count))
	mux.Handle("POST /login", m.HandlerFunc(login))
	return mux
}

func count(w http.ResponseWriter, _ *http.Request, s *session.Session) error {
	n, err := visits.Update(s, next)
	if err != nil {
		return err
	}
	_, err = fmt.Fprint(w, n)
	return err
}

func login(_ http.ResponseWriter, r *http.Request, s *session.Session) error {
	return s.Login(r.FormValue("user")) // after a check of the password
}
