package session_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/memory"
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

// TestDoubleLoginIsListedOnce has two requests log in the same user under one ID at
// once. They get one session, which is listed once, and a revocation ends it.
func TestDoubleLoginIsListedOnce(t *testing.T) {
	for _, opened := range []string{"before the first login", "after it"} {
		t.Run(opened, func(t *testing.T) {
			var st sessiontest.Store
			m := indexed(t, &st, session.OwnersConfig{MaxSessions: 1})
			token := begin(t, m, map[string]any{"note": "cart"})
			post := func() (*http.Request, *httptest.ResponseRecorder) { return request(token), httptest.NewRecorder() }
			logIn := func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
				return s.LoginWith(session.Login{User: "ann", Note: map[string]string{"device": "phone"}})
			}
			r, second := post()
			if opened == "after it" {
				r1, first := post()
				m.HandlerFunc(logIn).ServeHTTP(first, r1)
				m.HandlerFunc(logIn).ServeHTTP(second, r)
				if sent(first) != sent(second) {
					t.Error("the two have different tokens")
				}
			} else {
				first := httptest.NewRecorder()
				m.HandlerFunc(func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
					r1, _ := post()
					m.HandlerFunc(logIn).ServeHTTP(first, r1)
					return logIn(w, r, s)
				}).ServeHTTP(second, r)
				if sent(first) != sent(second) {
					t.Error("the two have different tokens")
				}
			}
			if second.Code != http.StatusOK {
				t.Errorf("status %d", second.Code)
			}
			s := open(t, m, sent(second))
			if got := handles(t, m, session.User("ann")); len(got) != 1 || got[0] != s.Handle() {
				t.Errorf("got %v, want %s", got, s.Handle())
			}
			check(t, m.Revoke(t.Context(), session.User("ann")))
			_, err := m.Open(t.Context(), sent(second))
			wantErr(t, err, session.ErrNotFound)
		})
	}
}

// TestRevokeCost counts the calls that a revocation makes.
func TestRevokeCost(t *testing.T) {
	for _, n := range []int{0, 1, 3, 15} {
		st := &counted{}
		m := indexed(t, st, session.OwnersConfig{})
		for range n {
			login(t, m, session.Login{User: "ann"})
		}
		st.loads.Store(0)
		st.writes.Store(0)
		check(t, m.Revoke(t.Context(), session.User("ann")))
		loads, writes := st.loads.Load(), st.writes.Load()
		if want := int64(n + 2); loads != 1 || n > 0 && writes != want || n == 0 && writes != 0 {
			t.Errorf("%d sessions: %d Loads, %d writes", n, loads, writes)
		}
	}
}

// counted counts calls.
type counted struct {
	memory.Backend
	loads, writes atomic.Int64
}

func (c *counted) Load(ctx context.Context, key string) (session.Record, error) {
	c.loads.Add(1)
	return c.Backend.Load(ctx, key)
}

func (c *counted) Save(ctx context.Context, key string, rec session.Record) (session.Version, error) {
	c.writes.Add(1)
	return c.Backend.Save(ctx, key, rec)
}

func (c *counted) Delete(ctx context.Context, key string) error {
	c.writes.Add(1)
	return c.Backend.Delete(ctx, key)
}
