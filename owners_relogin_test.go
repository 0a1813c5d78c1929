package session_test

import (
	"fmt"
	"testing"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/memory"
)

var (
	laptop = session.Owner{Kind: "device", ID: "laptop"}
	phone  = session.Owner{Kind: "device", ID: "phone"}
)

// TestLoginWithOtherOwnersFails: the new record is listed, and then the old one
// cannot be replaced. The session is what it was, also for the list.
func TestLoginWithOtherOwnersFails(t *testing.T) {
	for _, more := range []int{0, 20, 150} { // sessions, that move it to a page
		t.Run(fmt.Sprint(more), func(t *testing.T) {
			var b memory.Backend
			p := &process{Backend: &b}
			mp, m := indexed(t, p, session.OwnersConfig{}), indexed(t, &b, session.OwnersConfig{})
			s := login(t, m, session.Login{User: "ann", Owners: []session.Owner{laptop}})
			for range more {
				login(t, m, session.Login{User: "ann"})
			}
			again := open(t, mp, s.Token().Reveal())
			check(t, again.LoginWith(session.Login{User: "ann", Owners: []session.Owner{phone}}))
			key := session.DefaultStoreKey(s.Token().Reveal())
			p.hooks(func(_ int, op, k string) error {
				if op == "Save" && k == key {
					return errStore
				}
				return nil
			}, nil)
			wantErr(t, again.Save(t.Context()), errStore)
			for range more {
				login(t, m, session.Login{User: "ann"})
			}
			if n := len(handles(t, m, session.User("ann"), laptop)); n != 1 {
				t.Errorf("%d are listed", n)
			}
			check(t, m.Revoke(t.Context(), session.User("ann"), phone))
			if !alive(t, m, s) {
				t.Error("it ended with those that have another owner")
			}
			check(t, m.Revoke(t.Context(), session.User("ann"), laptop))
			if alive(t, m, s) {
				t.Error("it is alive")
			}
		})
	}
}

// TestLoginWithOtherOwners: the session has those that the last login has named.
func TestLoginWithOtherOwners(t *testing.T) {
	for _, more := range []int{0, 20} {
		var b memory.Backend
		m := indexed(t, &b, session.OwnersConfig{MaxSessions: 50})
		s := login(t, m, session.Login{User: "ann", Owners: []session.Owner{laptop}})
		for range more {
			login(t, m, session.Login{User: "ann"})
		}
		check(t, s.LoginWith(session.Login{User: "ann", Owners: []session.Owner{phone}}))
		check(t, s.Save(t.Context()))
		if n := len(handles(t, m, session.User("ann"))); n != 1+more {
			t.Errorf("%d are listed", n)
		}
		for _, owners := range [][]session.Owner{{session.User("ann"), laptop}, {laptop, session.User("ann")}, {laptop}} {
			if n := len(handles(t, m, owners...)); n != 0 {
				t.Errorf("%d are listed", n)
			}
			check(t, m.Revoke(t.Context(), owners...))
			if !alive(t, m, s) {
				t.Error("it ended")
			}
		}
		for _, owners := range [][]session.Owner{{session.User("ann"), phone}, {phone}} {
			if n := len(handles(t, m, owners...)); n != 1 {
				t.Errorf("%d are listed", n)
			}
		}
		check(t, m.RevokeOne(t.Context(), s.Handle(), session.User("ann")))
		if alive(t, m, s) {
			t.Error("it is alive")
		}
	}
}

// TestSecondLoginAfterAnUnknownOne: the outcome of a login is not known when
// another user logs in.
func TestSecondLoginAfterAnUnknownOne(t *testing.T) {
	for name, second := range map[string]session.Login{
		"another user":     {User: "bob"},
		"with other owner": {User: "ann", Owners: []session.Owner{phone}},
		"the same":         {User: "ann"},
	} {
		t.Run(name, func(t *testing.T) {
			var b store
			m := indexed(t, &b, session.OwnersConfig{})
			s := open(t, m, begin(t, m, map[string]any{"note": "x"}))
			check(t, s.Login("ann"))
			b.losingAndDown(3) // the marker, and all that come after it
			wantErr(t, s.Save(ctx), errStore)
			b.healthy()
			check(t, s.LoginWith(second))
			check(t, s.Save(ctx))
			if user, err := open(t, m, s.Token().Reveal()).User(); user != second.User || err != nil {
				t.Errorf("logged in as %q, %v", user, err)
			}
			for _, o := range append(second.Owners, session.User(second.User)) {
				if n := len(handles(t, m, o)); n != 1 {
					t.Errorf("%v: %d are listed", o, n)
				}
			}
			check(t, m.Revoke(ctx, session.User(second.User)))
			if alive(t, m, s) {
				t.Error("it is alive")
			}
		})
	}
}

// TestListAfterLoginWithOtherOwners: the session is told once, however many are told
// before it.
func TestListAfterLoginWithOtherOwners(t *testing.T) {
	m := indexed(t, new(memory.Backend), session.OwnersConfig{})
	s := login(t, m, session.Login{User: "ann", Owners: []session.Owner{laptop}})
	more := func(n int) {
		for range n {
			login(t, m, session.Login{User: "ann"})
		}
	}
	more(20)
	s = open(t, m, s.Token().Reveal())
	check(t, s.LoginWith(session.Login{User: "ann", Owners: []session.Owner{phone}}))
	check(t, s.Save(t.Context()))
	more(1100)
	told := map[string]bool{}
	for _, h := range handles(t, m, session.User("ann")) {
		if told[h] {
			t.Error("one is told twice")
		}
		told[h] = true
	}
	if len(told) != 1121 {
		t.Errorf("%d are told", len(told))
	}
}
