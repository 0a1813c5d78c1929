package session_test

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/memory"
	"github.com/seed-a7bee19b/session/sessiontest"
)

// A page that changes the password wants a user who has given the old one in the
// last ten minutes. The ErrorHandler sends others to a page that asks for it, and
// that page sends them back.
func ExampleRoute_freshWithin() {
	var manager *session.Manager
	back := session.Key[string]{Name: "back"}
	stepUp := func(w http.ResponseWriter, r *http.Request, err error) {
		var stale *session.NotFreshError
		switch {
		case !errors.As(err, &stale):
			http.Error(w, "Please try again.", session.Status(err))
		case stale.At.IsZero():
			http.Redirect(w, r, "/login", http.StatusSeeOther)
		default:
			if s, err := manager.Get(r.Context()); err == nil {
				_ = back.Set(s, r.URL.Path)
			}
			http.Redirect(w, r, "/confirm", http.StatusSeeOther)
		}
	}
	var store sessiontest.Store
	manager, _ = session.New(&store, session.Config{ErrorHandler: stepUp})
	fresh, err := manager.With(session.Route{FreshWithin: 10 * time.Minute})
	if err != nil {
		fmt.Println(err)
	}

	mux := http.NewServeMux()
	mux.Handle("/password", fresh.HandlerFunc(func(w http.ResponseWriter, _ *http.Request, _ *session.Session) error {
		_, err := fmt.Fprintln(w, "And your new password?")
		return err
	}))
	mux.Handle("POST /login", manager.HandlerFunc(func(_ http.ResponseWriter, _ *http.Request, s *session.Session) error {
		// Check the password first.
		return s.LoginWith(session.Login{User: "ann", Methods: []string{"pwd"}})
	}))
	mux.Handle("POST /confirm", manager.HandlerFunc(func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
		// Check the password of s.User first.
		to, _, err := back.Take(s)
		if err != nil {
			return err
		}
		if err := s.Reauthenticate("pwd"); err != nil {
			return err
		}
		http.Redirect(w, r, cmp.Or(to, "/"), http.StatusSeeOther)
		return nil
	}))

	browse := newBrowser(mux)
	browse("GET", "/password", "")
	browse("POST", "/login", "")
	browse("GET", "/password", "")
	store.Advance(time.Hour)
	browse("GET", "/password", "")
	browse("POST", "/confirm", "")
	browse("GET", "/password", "")
	// Output:
	// GET /password 303 to /login
	// POST /login 200
	// GET /password 200 And your new password?
	// GET /password 303 to /confirm
	// POST /confirm 303 to /password
	// GET /password 200 And your new password?
}

// A handler that only sometimes needs a fresh authentication asks for it itself.
func ExampleSession_FreshWithin() {
	manager, _ := session.New(&memory.Backend{}, session.Config{})
	http.Handle("POST /transfer", manager.HandlerFunc(func(_ http.ResponseWriter, r *http.Request, s *session.Session) error {
		if len(r.FormValue("amount")) > 3 {
			if err := s.FreshWithin(5 * time.Minute); err != nil {
				return err // 401, or what the ErrorHandler makes of it
			}
		}
		// Transfer it.
		return nil
	}))
}

// A session says when and how its user has authenticated.
func ExampleSession_Authentication() {
	manager, _ := session.New(&memory.Backend{}, session.Config{})
	s := manager.Start()
	_ = s.LoginWith(session.Login{User: "ann", Methods: []string{"pwd", "otp"}})
	a, err := s.Authentication()
	fmt.Println(time.Since(a.At) < time.Minute, a.Methods, err)
	// Output: true [pwd otp] <nil>
}

// The response to a logout tells the browser to delete what the site has stored.
func ExampleConfig_clearSiteData() {
	manager, err := session.New(&memory.Backend{}, session.Config{ClearSiteData: []string{"storage"}})
	if err != nil {
		fmt.Println(err)
	}
	handler := manager.HandlerFunc(func(_ http.ResponseWriter, r *http.Request, s *session.Session) error {
		if r.URL.Path == "/logout" {
			return s.Destroy(r.Context())
		}
		return s.Login("ann")
	})

	w := httptest.NewRecorder()
	handler.ServeHTTP(w, httptest.NewRequest("POST", "/login", nil))
	logout := httptest.NewRequest("POST", "/logout", nil)
	for _, c := range w.Result().Cookies() {
		logout.AddCookie(c)
	}
	w = httptest.NewRecorder()
	handler.ServeHTTP(w, logout)
	fmt.Println(w.Header().Get("Clear-Site-Data"))
	fmt.Println(w.Header().Get("Set-Cookie"))
	// Output:
	// "storage"
	// __Host-session=; Path=/; Max-Age=0; HttpOnly; Secure; SameSite=Lax
}
