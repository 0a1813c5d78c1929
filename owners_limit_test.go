package session_test

import (
	"testing"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/sessiontest"
)

// TestLimitAfterNewIDs: a session that gets a new ID after it was moved to a page
// is listed in two places, and counts once.
func TestLimitAfterNewIDs(t *testing.T) {
	for _, policy := range []session.LimitPolicy{session.EndOldest, session.RefuseLogin} {
		var st sessiontest.Store
		m := indexed(t, &st, session.OwnersConfig{MaxSessions: 20, AtLimit: policy})
		var all []*session.Session
		for range 20 {
			all = append(all, login(t, m, session.Login{User: "ann"}))
		}
		for _, s := range all[5:12] {
			check(t, s.Rotate())
			check(t, s.Save(t.Context()))
		}
		if policy == session.RefuseLogin {
			check(t, all[0].Destroy(t.Context()))
		}
		login(t, m, session.Login{User: "ann"})
		for i, s := range all[1:] {
			if !alive(t, m, s) {
				t.Errorf("%v: %d is not alive", policy, i)
			}
		}
		if alive(t, m, all[0]) {
			t.Errorf("%v: the oldest is alive", policy)
		}
		if n := len(handles(t, m, session.User("ann"))); n != 20 {
			t.Errorf("%v: %d are listed", policy, n)
		}
	}
}
