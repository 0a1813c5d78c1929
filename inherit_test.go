package session_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/seed-a7bee19b/session"
)

// TestLogoutAfterLostLogins loses the responses of some logins; the next one
// arrives, and its user logs out. That ends the sessions of all those logins,
// and the session from before.
func TestLogoutAfterLostLogins(t *testing.T) {
	for _, mode := range []session.Mode{session.Merge, session.Exclusive} {
		for lost := range 3 {
			t.Run(mode.String(), func(t *testing.T) {
				var b store
				m := newManager(t, &b, session.Config{Mode: mode})
				cart := begin(t, m, map[string]any{"note": "cart"})
				post := func(token string, f func(s *session.Session)) *httptest.ResponseRecorder {
					r := httptest.NewRequest(http.MethodPost, "/", nil)
					r.AddCookie(&http.Cookie{Name: "__Host-session", Value: token})
					w := httptest.NewRecorder()
					m.HandlerFunc(func(_ http.ResponseWriter, _ *http.Request, s *session.Session) error {
						f(s)
						return nil
					}).ServeHTTP(w, r)
					return w
				}
				tokens := []string{cart}
				for try := range lost + 1 {
					if try > 0 {
						b.losing("Save", 2) // the one that makes the old ID lead to the new one
					}
					w := post(cart, func(s *session.Session) {
						check(t, s.Login("ann"))
						if got, err := note.Get(s); got != "cart" || err != nil {
							t.Errorf("the cart is %q, %v", got, err)
						}
					})
					b.healthy()
					if w.Code != http.StatusOK {
						t.Fatalf("status %d", w.Code)
					}
					tokens = append(tokens, sent(w))
				}
				post(tokens[len(tokens)-1], func(s *session.Session) {
					if user, err := s.User(); user != "ann" || err != nil {
						t.Errorf("user %q, %v", user, err)
					}
					check(t, s.Destroy(t.Context()))
				})
				for i, token := range tokens {
					post(token, func(s *session.Session) {
						if s.Has("note") {
							t.Errorf("token %d of %d has the cart after the logout", i, len(tokens))
						}
						if user, err := s.User(); user != "" && err == nil {
							t.Errorf("token %d of %d is still %s", i, len(tokens), user)
						}
					})
				}
			})
		}
	}
}
