//go:build go1.25

package sessiontest_test

import (
	"fmt"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/memory"
	"github.com/seed-a7bee19b/session/sessiontest"
)

// In a bubble of testing/synctest time passes as soon as everybody waits, for
// the Manager too. Here a checkout waits for the lock of another, which takes
// long.
func Example_synctest() {
	t := &testing.T{} // that of the test

	synctest.Test(t, func(t *testing.T) {
		m, err := session.New(&memory.Backend{}, session.Config{Mode: session.Exclusive})
		if err != nil {
			t.Fatal(err)
		}
		r := sessiontest.NewRequest(t, m, "POST", "/checkout", nil, func(s *session.Session) error {
			return s.Login("ann")
		})
		slow, err := m.Open(t.Context(), sessiontest.Stored(t, m, r, nil).Token().Reveal())
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			time.Sleep(7 * time.Second)
			_ = slow.Close(t.Context()) // frees the lock
		}()

		began := time.Now()
		w := httptest.NewRecorder()
		m.HandlerFunc(countVisit).ServeHTTP(w, r)
		fmt.Println(w.Body, "after", time.Since(began).Round(time.Second))

		time.Sleep(3 * time.Hour) // longer than Config.IdleTimeout
		sessiontest.NoSession(t, m, r, w.Result())
	})
	fmt.Println(t.Failed())
	// Output:
	// visit 1 after 7s
	// false
}
