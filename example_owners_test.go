package session_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"strings"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/memory"
)

// account has the pages of a user's sessions.
type account struct{ m *session.Manager }

func (a account) logIn(w http.ResponseWriter, r *http.Request, s *session.Session) error {
	user := r.PostFormValue("user")
	if !checkPassword(user, r.PostFormValue("password")) {
		http.Error(w, "That is not the password.", http.StatusUnauthorized)
		return nil
	}
	err := s.LoginWith(session.Login{User: user, Note: map[string]string{"device": r.PostFormValue("device")}})
	if err != nil {
		return err
	}
	http.Redirect(w, r, "/sessions", http.StatusSeeOther)
	return nil
}

// list shows the sessions of the user, each with a button that sends its handle.
func (a account) list(w http.ResponseWriter, r *http.Request, s *session.Session) error {
	user, err := s.User()
	if err != nil {
		return err
	}
	if user == "" {
		http.Redirect(w, r, "/login", http.StatusSeeOther)
		return nil
	}
	var lines []string
	for e, err := range a.m.Sessions(r.Context(), session.User(user)) {
		if err != nil {
			return err
		}
		line := e.Note["device"]
		if e.Current {
			line += " (this one)"
		}
		lines = append(lines, line)
	}
	fmt.Fprintln(w, strings.Join(lines, ", "))
	return nil
}

// end ends the session with the handle that the form has, or all but this one.
func (a account) end(w http.ResponseWriter, r *http.Request, s *session.Session) error {
	user, err := s.User()
	if err != nil {
		return err
	}
	if user == "" {
		http.Redirect(w, r, "/login", http.StatusSeeOther)
		return nil
	}
	if r.PostFormValue("others") != "" {
		err = a.m.RevokeOthers(r.Context(), s.Handle(), session.User(user))
	} else {
		err = a.m.RevokeOne(r.Context(), r.PostFormValue("handle"), session.User(user))
	}
	if err != nil && !errors.Is(err, session.ErrNotFound) { // not found: it has ended already
		return err
	}
	http.Redirect(w, r, "/sessions", http.StatusSeeOther)
	return nil
}

// A page on which users see their sessions, and end those that they do not know.
// The owner in each call is the user who asks, so nobody can end the session of
// somebody else.
func ExampleManager_Sessions() {
	m, err := session.New(&memory.Backend{}, session.Config{Owners: session.OwnersConfig{Index: true}})
	if err != nil {
		log.Fatal(err)
	}
	pages := account{m}
	mux := http.NewServeMux()
	mux.Handle("POST /login", m.HandlerFunc(pages.logIn))
	mux.Handle("GET /sessions", m.HandlerFunc(pages.list))
	mux.Handle("POST /sessions", m.HandlerFunc(pages.end))

	laptop, phone, stranger := newBrowser(mux), newBrowser(mux), newBrowser(mux)
	laptop("POST", "/login", "user=ann&password=tea&device=laptop")
	phone("POST", "/login", "user=ann&password=tea&device=phone")
	stranger("POST", "/login", "user=ann&password=tea&device=stranger")
	laptop("GET", "/sessions", "")

	var handle string
	for e, err := range m.Sessions(context.Background(), session.User("ann")) {
		if err != nil {
			log.Fatal(err)
		}
		if e.Note["device"] == "stranger" {
			handle = e.Handle
		}
	}
	laptop("POST", "/sessions", "handle="+handle)
	stranger("GET", "/sessions", "")
	laptop("GET", "/sessions", "")
	laptop("POST", "/sessions", "others=1")
	phone("GET", "/sessions", "")
	laptop("GET", "/sessions", "")
	// Output:
	// POST /login 303 to /sessions
	// POST /login 303 to /sessions
	// POST /login 303 to /sessions
	// GET /sessions 200 stranger, phone, laptop (this one)
	// POST /sessions 303 to /sessions
	// GET /sessions 303 to /login
	// GET /sessions 200 phone, laptop (this one)
	// POST /sessions 303 to /sessions
	// GET /sessions 303 to /login
	// GET /sessions 200 laptop (this one)
}

// logInAt logs a user in and returns the session, as a handler does.
func logInAt(m *session.Manager, l session.Login) (*session.Session, error) {
	s := m.Start()
	if err := s.LoginWith(l); err != nil {
		return nil, err
	}
	return s, s.Save(context.Background())
}

// A user has a new password: nobody stays logged in with the old one. In a handler,
// RevokeOthers spares the session of the user who has just set it.
func ExampleManager_Revoke() {
	m, err := session.New(&memory.Backend{}, session.Config{Owners: session.OwnersConfig{Index: true}})
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	s, err := logInAt(m, session.Login{User: "ann"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(m.Revoke(ctx, session.User("ann")))

	_, err = m.Open(ctx, s.Token().Reveal())
	fmt.Println(err)
	// Output:
	// <nil>
	// session: open: not found
}

// Sessions of a user in two tenants. Those in one of them end; with the tenant
// alone, those of all its users would.
func ExampleSession_LoginWith() {
	m, err := session.New(&memory.Backend{}, session.Config{Owners: session.OwnersConfig{Index: true}})
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	tenant := func(name string) session.Owner { return session.Owner{Kind: "tenant", ID: name} }
	for _, name := range []string{"acme", "globex"} {
		_, err := logInAt(m, session.Login{
			User:   "ann",
			Owners: []session.Owner{tenant(name)},
			Note:   map[string]string{"tenant": name, "device": "Firefox on Linux"},
		})
		if err != nil {
			log.Fatal(err)
		}
	}
	if err := m.Revoke(ctx, session.User("ann"), tenant("acme")); err != nil {
		log.Fatal(err)
	}
	for e, err := range m.Sessions(ctx, session.User("ann")) {
		fmt.Println(e.Note["tenant"], e.Note["device"], err)
	}
	// Output:
	// globex Firefox on Linux <nil>
}

// A user has two sessions at most. One more ends the oldest; with
// [session.RefuseLogin] it fails with ErrSessionLimit.
func ExampleOwnersConfig() {
	m, err := session.New(&memory.Backend{}, session.Config{Owners: session.OwnersConfig{Index: true, MaxSessions: 2}})
	if err != nil {
		log.Fatal(err)
	}
	for _, device := range []string{"laptop", "phone", "tablet"} {
		if _, err := logInAt(m, session.Login{User: "ann", Note: map[string]string{"device": device}}); err != nil {
			log.Fatal(err)
		}
	}
	for e, err := range m.Sessions(context.Background(), session.User("ann")) {
		fmt.Println(e.Note["device"], err)
	}
	// Output:
	// tablet <nil>
	// phone <nil>
}
