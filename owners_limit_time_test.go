//go:build go1.25

package session_test

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-a7bee19b/session"
)

// TestLoginAtTheHighestLimit: there is time for it before the response.
func TestLoginAtTheHighestLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b store
		m := indexed(t, &b, session.OwnersConfig{MaxSessions: 1000})
		for range 1000 {
			login(t, m, session.Login{User: "ann"})
		}
		b.distant(10 * time.Millisecond)
		w := visit(m, "POST", "", func(_ http.ResponseWriter, r *http.Request) {
			s, err := m.Get(r.Context())
			check(t, err)
			check(t, s.Login("ann"))
		})
		if w.Code != http.StatusOK {
			t.Errorf("status %d", w.Code)
		}
		b.healthy()
		if n := len(handles(t, m, session.User("ann"))); n != 1000 {
			t.Errorf("%d are listed", n)
		}
	})
}

// TestEndOldestOfOne looks at one session only: all of them are to end.
func TestEndOldestOfOne(t *testing.T) {
	var b store
	m := indexed(t, &b, session.OwnersConfig{MaxSessions: 1})
	login(t, m, session.Login{User: "ann"})
	b.took()
	login(t, m, session.Login{User: "ann"})
	if calls := b.took(); count(calls, "Load") > 3 || len(calls) > 8 {
		t.Errorf("calls %v", calls)
	}
}
