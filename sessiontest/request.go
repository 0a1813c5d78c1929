package sessiontest

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/seed-a7bee19b/session"
)

// NewRequest is [httptest.NewRequest] for a client that has a session: fill
// gives the session its content, and NewRequest saves it. Where fill leaves the
// session empty, or is nil, nothing is stored, and the client is a visitor
// without a session.
func NewRequest(t testing.TB, m *session.Manager, method, target string, body io.Reader, fill func(s *session.Session) error) *http.Request {
	t.Helper()
	r := httptest.NewRequestWithContext(context.Background(), method, target, body)
	if fill == nil {
		return r
	}
	s := view(t, m, session.Merge).Start()
	if err := fill(s); err != nil {
		t.Fatalf("sessiontest: NewRequest: fill: %v", err)
	}
	ctx := context.Background()
	if err := s.Save(ctx); err != nil {
		t.Fatalf("sessiontest: NewRequest: %v", err)
	}
	if err := s.Close(ctx); err != nil {
		t.Fatalf("sessiontest: NewRequest: %v", err)
	}
	if !s.IsNew() {
		AddTo(t, m, r, s)
	}
	return r
}

// AddTo makes r a request of the client that has s, in place of the session
// that r came with, if any. So two requests can have one session, and a test can
// go on with the session that [Stored] returns after a login.
func AddTo(t testing.TB, m *session.Manager, r *http.Request, s *session.Session) {
	t.Helper()
	token := s.Token().Reveal()
	if token == "" {
		t.Fatal("sessiontest: AddTo: the session is not stored, so no client can have it")
	}
	cfg := m.Config()
	switch {
	case cfg.Header == "Authorization":
		r.Header.Set(cfg.Header, "Bearer "+token)
	case cfg.Header != "":
		r.Header.Set(cfg.Header, token)
	default:
		others := r.Cookies()
		r.Header.Del("Cookie")
		for _, c := range others {
			if c.Name != cfg.Cookie.Name {
				r.AddCookie(c)
			}
		}
		r.AddCookie(&http.Cookie{Name: cfg.Cookie.Name, Value: token})
	}
}

// view returns a view of m with another mode.
func view(t testing.TB, m *session.Manager, mode session.Mode) *session.Manager {
	t.Helper()
	v, err := m.With(session.Route{Mode: mode})
	if err != nil {
		t.Fatalf("sessiontest: %v", err)
	}
	return v
}
