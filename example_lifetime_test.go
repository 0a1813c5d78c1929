package session_test

import (
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/memory"
)

// A login form has a box "remember me". A user who ticks it stays logged in for 90
// days on this browser, unless 30 days pass without a visit. The others stay for a
// day, or until they close the browser.
func ExampleLifetime() {
	const day = 24 * time.Hour
	manager, err := session.New(&memory.Backend{}, session.Config{
		MaxIdleTimeout:     30 * day,
		MaxAbsoluteTimeout: 90 * day,
	})
	if err != nil {
		log.Fatal(err)
	}
	logIn := manager.HandlerFunc(func(_ http.ResponseWriter, r *http.Request, s *session.Session) error {
		login := session.Login{User: r.FormValue("user")}
		if r.FormValue("remember") != "" {
			login.Lifetime = session.Lifetime{Idle: 30 * day, Absolute: 90 * day, Persistent: true}
		}
		return s.LoginWith(login)
	})
	for _, form := range []string{"/?user=ann", "/?user=ann&remember=yes"} {
		w := httptest.NewRecorder()
		logIn.ServeHTTP(w, httptest.NewRequest("POST", form, nil))
		cookie := w.Result().Cookies()[0]
		s, err := manager.Open(ctx, cookie.Value)
		if err != nil {
			log.Fatal(err)
		}
		l, err := s.Lifetime()
		if err != nil {
			log.Fatal(err)
		}
		age := time.Duration(cookie.MaxAge) * time.Second
		fmt.Printf("unused %v, at most %v, cookie for %v\n", l.Idle, l.Absolute, age.Round(time.Hour))
	}
	// Output:
	// unused 2h0m0s, at most 24h0m0s, cookie for 0s
	// unused 720h0m0s, at most 2160h0m0s, cookie for 2160h0m0s
}

// A bank ends sessions early on computers that others use, too.
func ExampleSession_SetLifetime() {
	manager, err := session.New(&memory.Backend{}, session.Config{})
	if err != nil {
		log.Fatal(err)
	}
	s := manager.Start()
	err = s.SetLifetime(session.Lifetime{Idle: 5 * time.Minute, Absolute: time.Hour})
	fmt.Println(err)

	// It cannot be longer than the Config allows.
	err = s.SetLifetime(session.Lifetime{Absolute: 30 * 24 * time.Hour})
	fmt.Println(err)
	// Output:
	// <nil>
	// session: set lifetime: Absolute is 720h0m0s, longer than Config.MaxAbsoluteTimeout, which is 24h0m0s
}
