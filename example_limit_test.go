package session_test

import (
	"errors"
	"fmt"
	"log"
	"net/http"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/memory"
)

// A user who may have one session, and has it on a device that is not at hand, can
// end it where the login is refused: the password has been checked.
func ExampleOwnersConfig_refuseLogin() {
	m, err := session.New(&memory.Backend{}, session.Config{
		Owners: session.OwnersConfig{Index: true, MaxSessions: 1, AtLimit: session.RefuseLogin},
	})
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("POST /login", m.HandlerFunc(func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
		user := r.PostFormValue("user")
		// Check the password first.
		if r.PostFormValue("end") != "" {
			if err := m.Revoke(r.Context(), session.User(user)); err != nil {
				return err
			}
		}
		err := s.Login(user)
		if err == nil {
			err = s.Save(r.Context()) // now, and not when the response starts, to answer here
		}
		if errors.Is(err, session.ErrSessionLimit) {
			s.Discard()
			http.Error(w, "You are logged in elsewhere. End that session?", session.Status(err))
			return nil
		}
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(w, "Welcome.")
		return err
	}))

	newBrowser(mux)("POST", "/login", "user=ann")
	phone := newBrowser(mux)
	phone("POST", "/login", "user=ann")
	phone("POST", "/login", "user=ann&end=1")
	// Output:
	// POST /login 200 Welcome.
	// POST /login 409 You are logged in elsewhere. End that session?
	// POST /login 200 Welcome.
}
