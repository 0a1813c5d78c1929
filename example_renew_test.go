package session_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/sessiontest"
)

// A session gets a new ID every 15 minutes. A request that comes under the old ID a
// moment later goes on with the session; one that comes much later has none.
func ExampleConfig_renewAfter() {
	var store sessiontest.Store
	m, err := session.New(&store, session.Config{RenewAfter: 15 * time.Minute})
	if err != nil {
		log.Fatal(err)
	}
	page := m.HandlerFunc(func(w http.ResponseWriter, _ *http.Request, s *session.Session) error {
		user, err := s.User()
		fmt.Fprintf(w, "user %q", user)
		return err
	})
	login := m.Start()
	if err := login.Login("ann"); err != nil {
		log.Fatal(err)
	}
	if err := login.Save(context.Background()); err != nil {
		log.Fatal(err)
	}
	request := httptest.NewRequest("GET", "/", nil)
	request.AddCookie(&http.Cookie{Name: "__Host-session", Value: login.Token().Reveal()})

	for _, later := range []time.Duration{0, 15 * time.Minute, 10 * time.Second, time.Minute} {
		store.Advance(later)
		w := httptest.NewRecorder()
		page.ServeHTTP(w, request)
		fmt.Printf("%s, a new cookie: %v\n", w.Body, len(w.Result().Cookies()) > 0)
	}
	// Output:
	// user "ann", a new cookie: false
	// user "ann", a new cookie: true
	// user "ann", a new cookie: true
	// user "", a new cookie: false
}
