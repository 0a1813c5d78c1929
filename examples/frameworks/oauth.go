package frameworks

import (
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"net/http"

	"golang.org/x/oauth2"

	"github.com/seed-a7bee19b/session"
)

// pending is what a login at the provider has to find again when it comes back. It
// may be larger than a cookie, and the browser does not have it.
type pending struct{ State, Verifier, ReturnTo string }

var logins = session.Key[[]pending]{Name: "oauth"}

var errState = errors.New("this login was not begun here, or has been used")

// OAuth logs a user in at a provider, with a state and PKCE. userOf asks the
// provider who it is. Several tabs can log in at once.
func OAuth(m *session.Manager, provider *oauth2.Config, userOf func(r *http.Request, t *oauth2.Token) (string, error)) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /login", m.HandlerFunc(func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
		p := pending{rand.Text(), oauth2.GenerateVerifier(), r.FormValue("return")}
		if len(p.ReturnTo) > 16<<10 {
			p.ReturnTo = ""
		}
		_, err := logins.Update(s, func(all []pending) []pending { return append(all[max(0, len(all)-3):], p) })
		if err == nil {
			http.Redirect(w, r, provider.AuthCodeURL(p.State, oauth2.S256ChallengeOption(p.Verifier)), http.StatusSeeOther)
		}
		return err
	}))
	mux.Handle("GET /callback", m.HandlerFunc(func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
		p, err := take(s, r.FormValue("state"))
		if err != nil {
			return err
		}
		token, err := provider.Exchange(r.Context(), r.FormValue("code"), oauth2.VerifierOption(p.Verifier))
		if err != nil {
			return err
		}
		user, err := userOf(r, token)
		if err != nil {
			return err
		}
		if err := s.Login(user); err != nil {
			return err
		}
		http.Redirect(w, r, local(p.ReturnTo), http.StatusSeeOther)
		return nil
	}))
	return mux
}

// take takes the login with that state out of the session: it serves once, also if
// two requests come with it.
func take(s *session.Session, state string) (found pending, err error) {
	_, err = logins.TryUpdate(s, func(all []pending) ([]pending, error) {
		var rest []pending
		found = pending{}
		for _, p := range all {
			if subtle.ConstantTimeCompare([]byte(p.State), []byte(state)) == 1 {
				found = p
			} else {
				rest = append(rest, p)
			}
		}
		if found.State == "" {
			return nil, errState
		}
		return rest, nil
	})
	return found, err
}

// local returns path if it is one of this site.
func local(path string) string {
	if len(path) < 1 || path[0] != '/' || len(path) > 1 && (path[1] == '/' || path[1] == '\\') {
		return "/"
	}
	return path
}
