package integration

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/seed-a7bee19b/session"
)

// TestAfterARotation checks that a logout follows a rotation, and that a login
// whose response was lost costs nothing, on stores with versions of their own.
func TestAfterARotation(t *testing.T) {
	eachStore(t, func(t *testing.T, a address) {
		for _, mode := range []session.Mode{session.Merge, session.Exclusive} {
			t.Run(fmt.Sprint(mode), func(t *testing.T) {
				ctx := t.Context()
				m := a.manager(t, session.Config{Mode: mode})
				cart := session.Key[string]{Name: "cart"}
				login := func(token string, changes ...func(*session.Session) error) string {
					s, err := m.Open(ctx, token)
					if err != nil {
						t.Fatal(err)
					}
					for _, change := range append(changes, func(s *session.Session) error { return s.Login("ann") }) {
						err = errors.Join(err, change(s))
					}
					if err := errors.Join(err, s.Save(ctx), s.Close(ctx)); err != nil {
						t.Fatal(err)
					}
					return s.Token().Reveal()
				}
				post := func(token string, f func(r *http.Request, s *session.Session) error) (status int, sent string) {
					r := httptest.NewRequestWithContext(ctx, "POST", "/", nil)
					r.AddCookie(&http.Cookie{Name: "__Host-session", Value: token})
					w := httptest.NewRecorder()
					m.HandlerFunc(func(_ http.ResponseWriter, r *http.Request, s *session.Session) error {
						return f(r, s)
					}).ServeHTTP(w, r)
					for _, c := range w.Result().Cookies() {
						sent = c.Value
					}
					return w.Code, sent
				}
				gone := func(what, token string) {
					t.Helper()
					if _, err := m.Open(ctx, token); !errors.Is(err, session.ErrNotFound) {
						t.Errorf("%s opens: %v", what, err)
					}
				}

				old := a.begin(t)
				first := login(old, func(s *session.Session) error { return nil })
				s, err := m.Open(ctx, first) // reading does not count as use
				if err := errors.Join(err, s.Close(ctx)); err != nil {
					t.Fatal(err)
				}
				var kept []string
				status, second := post(old, func(_ *http.Request, s *session.Session) error {
					kept = s.Names()
					return s.Login("ann")
				})
				if status != http.StatusOK || second == "" || len(kept) == 0 {
					t.Fatalf("the second login: %d, token %q, values %v", status, second, kept)
				}
				logout := func(r *http.Request, s *session.Session) error { return s.Destroy(r.Context()) }
				if status, _ := post(old, logout); status != http.StatusOK {
					t.Errorf("logout under the old ID: %d", status)
				}
				gone("the first login", first)
				gone("the second login", second)
				if status, _ := post(old, func(_ *http.Request, s *session.Session) error { _, err := cart.Get(s); return err }); status != http.StatusConflict {
					t.Errorf("after the logout the old ID gets %d", status)
				}

				// A request that has the session while the session gets new IDs.
				merge, err := m.With(session.Route{Mode: session.Merge})
				if err != nil {
					t.Fatal(err)
				}
				busy := login(a.begin(t))
				slow, err := merge.Open(ctx, busy)
				if err != nil {
					t.Fatal(err)
				}
				third := login(login(busy))
				third = login(third, func(s *session.Session) error { return cart.Set(s, "tea") })
				if err := slow.Destroy(ctx); err != nil {
					t.Fatal(err)
				}
				gone("what followed", third)
			})
		}
	})
}
