package main

import (
	"crypto/subtle"
	"net/http"
	"time"

	"github.com/seed-a7bee19b/session"
)

// freshWithin is how long ago the password may be that a member gave before ending
// other sessions. For others, sessionError asks for it again.
const freshWithin = 10 * time.Minute

func isPassword(password string) bool {
	return subtle.ConstantTimeCompare([]byte(password), []byte(demoPassword)) == 1
}

func (sh *shop) confirmPage(w http.ResponseWriter, r *http.Request, s *session.Session) error {
	return sh.render(w, r, s, "confirm", page{Title: "Your password", Data: loginForm{}})
}

// confirm is the answer to the confirm page.
func (sh *shop) confirm(w http.ResponseWriter, r *http.Request, s *session.Session) error {
	if !isPassword(r.PostFormValue("password")) {
		form := loginForm{Problem: wrongPassword}
		return sh.render(w, r, s, "confirm", page{Title: "Your password", Status: http.StatusUnprocessableEntity, Data: form})
	}
	err := s.Reauthenticate("pwd")
	if err == nil {
		err = message.Set(s, "Thank you. Now you can end your other sessions.")
	}
	if err != nil {
		return err
	}
	http.Redirect(w, r, "/account", http.StatusSeeOther)
	return nil
}
