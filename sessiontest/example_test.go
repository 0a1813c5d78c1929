package sessiontest_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/observe"
	"github.com/seed-a7bee19b/session/sessiontest"
)

// What is tested below.
var (
	visits = session.Key[int]{Name: "visits"}

	countVisit = func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
		n, err := visits.Update(s, func(n int) int { return n + 1 })
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "visit %d", n)
		return nil
	}
	login = func(_ http.ResponseWriter, r *http.Request, s *session.Session) error {
		return s.Login(r.FormValue("user"))
	}
	logout = func(_ http.ResponseWriter, r *http.Request, s *session.Session) error {
		return s.Destroy(r.Context())
	}
)

// newTestManager is a helper as a package would have in its tests.
func newTestManager(t testing.TB, store session.Backend) *session.Manager {
	t.Helper()
	m, err := session.New(store, session.Config{})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func ExampleNewRequest() {
	t := &testing.T{} // that of the test

	m := newTestManager(t, &sessiontest.Store{})
	r := sessiontest.NewRequest(t, m, "GET", "/", nil, func(s *session.Session) error {
		return visits.Set(s, 41)
	})
	w := httptest.NewRecorder()
	m.HandlerFunc(countVisit).ServeHTTP(w, r)
	fmt.Println(w.Body)
	// Output: visit 42
}

// The session of a visitor is that of the cookie which the response sets.
func ExampleStored() {
	t := &testing.T{} // that of the test

	m := newTestManager(t, &sessiontest.Store{})
	r := httptest.NewRequest("GET", "/", nil)
	w := httptest.NewRecorder()
	m.HandlerFunc(countVisit).ServeHTTP(w, r)

	s := sessiontest.Stored(t, m, r, w.Result())
	fmt.Println(visits.Get(s))
	// Output: 1 <nil>
}

func ExampleNoSession() {
	t := &testing.T{} // that of the test

	m := newTestManager(t, &sessiontest.Store{})
	r := sessiontest.NewRequest(t, m, "POST", "/logout", nil, func(s *session.Session) error {
		return s.Login("ann")
	})
	w := httptest.NewRecorder()
	m.HandlerFunc(logout).ServeHTTP(w, r)

	sessiontest.NoSession(t, m, r, w.Result())
	fmt.Println(t.Failed())
	// Output: false
}

// After a login the client goes on with the token that the response has given
// to it.
func ExampleAddTo() {
	t := &testing.T{} // that of the test

	m := newTestManager(t, &sessiontest.Store{})
	r := httptest.NewRequest("POST", "/login?user=ann", nil)
	w := httptest.NewRecorder()
	m.HandlerFunc(login).ServeHTTP(w, r)
	s := sessiontest.Stored(t, m, r, w.Result())
	fmt.Println(s.User())

	r = httptest.NewRequest("GET", "/", nil)
	sessiontest.AddTo(t, m, r, s)
	w = httptest.NewRecorder()
	m.HandlerFunc(countVisit).ServeHTTP(w, r)
	fmt.Println(w.Body)
	// Output:
	// ann <nil>
	// visit 1
}

// A session that was not used for longer than Config.IdleTimeout is gone.
func ExampleStore_Advance() {
	t := &testing.T{} // that of the test

	var store sessiontest.Store
	m := newTestManager(t, &store) // IdleTimeout is 2 hours
	r := sessiontest.NewRequest(t, m, "GET", "/", nil, func(s *session.Session) error {
		return visits.Set(s, 41)
	})
	for _, d := range []time.Duration{time.Hour, 3 * time.Hour} {
		store.Advance(d)
		w := httptest.NewRecorder()
		m.HandlerFunc(countVisit).ServeHTTP(w, r)
		fmt.Println(w.Body)
	}
	// Output:
	// visit 42
	// visit 1
}

// The visitor is told that the visit was not counted.
func ExampleStore_Fail() {
	t := &testing.T{} // that of the test

	var store sessiontest.Store
	m, err := session.New(&store, session.Config{
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			http.Error(w, err.Error(), session.Status(err))
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	r := sessiontest.NewRequest(t, m, "GET", "/", nil, func(s *session.Session) error {
		return visits.Set(s, 41)
	})
	store.Fail(observe.OpSave, errors.New("no connection"))
	w := httptest.NewRecorder()
	m.HandlerFunc(countVisit).ServeHTTP(w, r)
	fmt.Print(w.Code, " ", w.Body)

	store.Fail(observe.OpSave, nil)
	fmt.Println(visits.Get(sessiontest.Stored(t, m, r, w.Result())))
	// Output:
	// 503 session: save: store failed: no connection
	// 41 <nil>
}

// The store has saved the session, and its answer is lost on the way.
func ExampleStore_LoseNext() {
	t := &testing.T{} // that of the test

	var store sessiontest.Store
	m := newTestManager(t, &store)
	r := sessiontest.NewRequest(t, m, "GET", "/", nil, func(s *session.Session) error {
		return visits.Set(s, 41)
	})
	store.LoseNext(observe.OpSave, 1, errors.New("connection reset"))
	w := httptest.NewRecorder()
	m.HandlerFunc(countVisit).ServeHTTP(w, r)
	fmt.Println(w.Code)
	fmt.Println(visits.Get(sessiontest.Stored(t, m, r, w.Result())))
	// Output:
	// 503
	// 42 <nil>
}
