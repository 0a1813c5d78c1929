package session_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/sessiontest"
)

func indexed(t *testing.T, b session.Backend, owners session.OwnersConfig) *session.Manager {
	t.Helper()
	owners.Index = true
	m, err := session.New(b, session.Config{Owners: owners})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// login returns a session that has logged in.
func login(t *testing.T, m *session.Manager, l session.Login) *session.Session {
	t.Helper()
	s := m.Start()
	if err := s.LoginWith(l); err != nil {
		t.Fatal(err)
	}
	if err := s.Save(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

func handles(t *testing.T, m *session.Manager, owners ...session.Owner) []string {
	t.Helper()
	var all []string
	for e, err := range m.Sessions(t.Context(), owners...) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, e.Handle)
	}
	return all
}

func alive(t *testing.T, m *session.Manager, s *session.Session) bool {
	t.Helper()
	found, err := m.Open(t.Context(), s.Token().Reveal())
	switch {
	case errors.Is(err, session.ErrNotFound):
		return false
	case err != nil:
		t.Fatal(err)
	}
	if err := found.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	return true
}

func TestSessionsOfAUser(t *testing.T) {
	for _, n := range []int{1, 3, 15, 16, 17, 33, 130, 300, 1100} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			var st sessiontest.Store
			m := indexed(t, &st, session.OwnersConfig{})
			var all []*session.Session
			for i := range n {
				all = append(all, login(t, m, session.Login{User: "ann", Owners: []session.Owner{{Kind: "half", ID: fmt.Sprint(i % 2)}}}))
			}
			other := login(t, m, session.Login{User: "bob", Owners: []session.Owner{{Kind: "half", ID: "0"}}})
			got := handles(t, m, session.User("ann"))
			if len(got) != n {
				t.Fatalf("%d are listed, want %d", len(got), n)
			}
			for i, s := range all {
				if got[n-1-i] != s.Handle() {
					t.Errorf("%d: got %s, want %s", i, got[n-1-i], s.Handle())
				}
			}
			if got := handles(t, m, session.User("ann"), session.Owner{Kind: "half", ID: "0"}); len(got) != (n+1)/2 {
				t.Errorf("%d of the half are listed, want %d", len(got), (n+1)/2)
			}
			// Every third gets a new ID.
			for i := 0; i < n; i += 3 {
				if err := all[i].Rotate(); err != nil {
					t.Fatal(err)
				}
				if err := all[i].Save(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			if got := handles(t, m, session.User("ann")); len(got) != n {
				t.Errorf("%d are listed, want %d", len(got), n)
			}
			if err := m.RevokeOne(t.Context(), all[0].Handle(), session.User("ann")); err != nil {
				t.Fatal(err)
			}
			if err := m.RevokeOne(t.Context(), all[0].Handle(), session.User("ann")); !errors.Is(err, session.ErrNotFound) {
				t.Errorf("got %v", err)
			}
			if err := m.Revoke(t.Context(), session.User("ann"), session.Owner{Kind: "half", ID: "1"}); err != nil {
				t.Fatal(err)
			}
			for i, s := range all {
				if want := i > 0 && i%2 == 0; alive(t, m, s) != want {
					t.Errorf("%d: alive is %v", i, !want)
				}
			}
			if got := handles(t, m, session.User("ann")); len(got) != (n+1)/2-1 {
				t.Errorf("%d are listed, want %d", len(got), (n+1)/2-1)
			}
			last := all[(n-1)/2*2]
			if err := m.RevokeOthers(t.Context(), last.Handle(), session.User("ann")); err != nil {
				t.Fatal(err)
			}
			for i, s := range all {
				if want := i > 0 && s == last; alive(t, m, s) != want {
					t.Errorf("%d: alive is %v", i, !want)
				}
			}
			if err := m.Revoke(t.Context(), session.User("ann")); err != nil {
				t.Fatal(err)
			}
			if got := handles(t, m, session.User("ann")); len(got) != 0 {
				t.Errorf("%d are listed", len(got))
			}
			if alive(t, m, last) || !alive(t, m, other) {
				t.Error("the last is alive, or the other user's is not")
			}
		})
	}
}

func TestSessionLimit(t *testing.T) {
	for _, policy := range []session.LimitPolicy{session.EndOldest, session.RefuseLogin} {
		for _, limit := range []int{1, 3, 20} {
			t.Run(fmt.Sprint(policy, limit), func(t *testing.T) {
				var st sessiontest.Store
				m := indexed(t, &st, session.OwnersConfig{MaxSessions: limit, AtLimit: policy})
				var all []*session.Session
				for range limit + 5 {
					s := m.Start()
					if err := s.Login("ann"); err != nil {
						t.Fatal(err)
					}
					err := s.Save(t.Context())
					if full := len(all) >= limit; full && policy == session.RefuseLogin {
						if !errors.Is(err, session.ErrSessionLimit) {
							t.Errorf("got %v", err)
						}
						if !s.IsNew() {
							t.Error("it is stored")
						}
						continue
					}
					if err != nil {
						t.Fatal(err)
					}
					all = append(all, s)
				}
				for i, s := range all {
					if want := i >= len(all)-limit; alive(t, m, s) != want {
						t.Errorf("%d: alive is %v", i, !want)
					}
				}
				// One that logs out makes room for one.
				if err := all[len(all)-1].Destroy(t.Context()); err != nil {
					t.Fatal(err)
				}
				login(t, m, session.Login{User: "ann"})
				if n := len(handles(t, m, session.User("ann"))); n != limit {
					t.Errorf("%d are listed", n)
				}
				for i, s := range all[len(all)-limit : len(all)-1] {
					if !alive(t, m, s) {
						t.Errorf("%d is not alive", i)
					}
				}
			})
		}
	}
}
