package sessiontest

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session"
)

// Stored returns the session that the client has after resp, the response to r,
// as it is in the store now: that of the token which resp hands out, or else of
// the one that r came with. A nil resp stands for a response that says nothing
// of tokens. If the client has no session, the test ends here; see [NoSession].
//
// The session is read-only, reading it moves no deadline, and it is closed when
// the test ends.
func Stored(t testing.TB, m *session.Manager, r *http.Request, resp *http.Response) *session.Session {
	t.Helper()
	tokens, handedOut := handedOut(m.Config(), resp)
	if !handedOut {
		tokens = carried(m.Config(), r)
	}
	s := open(t, m, tokens)
	switch {
	case s != nil:
		return s
	case handedOut && len(tokens) == 0:
		t.Fatal("sessiontest: Stored: the client has no session: the response took its token away")
	case len(tokens) == 0:
		t.Fatal("sessiontest: Stored: the client has no session: it has never got a token")
	default:
		t.Fatal("sessiontest: Stored: the client has no session: its token opens none")
	}
	return nil
}

// NoSession fails the test if the client still has a session after resp, the
// response to r, or if the session that r came with is still in the store. So it
// tells a logout from a cookie that is merely taken away. A nil resp stands for
// a response that says nothing of tokens.
func NoSession(t testing.TB, m *session.Manager, r *http.Request, resp *http.Response) {
	t.Helper()
	tokens, handedOut := handedOut(m.Config(), resp)
	if open(t, m, tokens) != nil {
		t.Error("sessiontest: NoSession: the response hands out the token of a session")
	}
	switch {
	case open(t, m, carried(m.Config(), r)) == nil:
	case handedOut && len(tokens) == 0:
		t.Error("sessiontest: NoSession: the response took the token away, but it still opens the session")
	default:
		t.Error("sessiontest: NoSession: the token of the request still opens its session")
	}
}

// open returns the first session that one of the tokens opens, nil if there is
// none.
func open(t testing.TB, m *session.Manager, tokens []string) *session.Session {
	t.Helper()
	ctx := context.Background()
	for _, token := range tokens {
		s, err := view(t, m, session.ReadOnly).Open(ctx, token)
		switch {
		case err == nil:
			t.Cleanup(func() {
				if err := s.Close(ctx); err != nil {
					t.Errorf("sessiontest: %v", err)
				}
			})
			return s
		case !errors.Is(err, session.ErrNotFound):
			t.Fatalf("sessiontest: %v", err)
		}
	}
	return nil
}

// handedOut returns the token that resp gives to the client, as the last line
// of several counts; no token and true if it takes the client's away.
func handedOut(cfg session.Config, resp *http.Response) (tokens []string, ok bool) {
	if resp == nil {
		return nil, false
	}
	token := ""
	if cfg.Header != "" {
		for _, v := range resp.Header[cfg.Header] {
			token, ok = bare(v), true
		}
	} else {
		for _, c := range resp.Cookies() {
			if c.Name != cfg.Cookie.Name {
				continue
			}
			token, ok = c.Value, true
			if c.MaxAge < 0 || !c.Expires.IsZero() && !time.Now().Before(c.Expires) {
				token = ""
			}
		}
	}
	if token != "" {
		tokens = []string{token}
	}
	return tokens, ok
}

// carried returns the tokens that r came with.
func carried(cfg session.Config, r *http.Request) []string {
	var tokens []string
	if cfg.Header != "" {
		for _, v := range r.Header[cfg.Header] {
			tokens = append(tokens, bare(v))
		}
		return tokens
	}
	for _, c := range r.CookiesNamed(cfg.Cookie.Name) {
		tokens = append(tokens, c.Value)
	}
	return tokens
}

// bare returns the token in a header.
func bare(v string) string {
	if scheme, rest, ok := strings.Cut(v, " "); ok && strings.EqualFold(scheme, "Bearer") {
		return strings.TrimLeft(rest, " ")
	}
	return v
}
