package session_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/observe"
)

// TestSeveralTokens checks that the first live token of a request counts.
func TestSeveralTokens(t *testing.T) {
	dead := func(c string) string { return strings.Repeat(c, 32) }
	for _, header := range []string{"Cookie", "Session-Token", "Authorization"} {
		var b store
		var events events
		cfg := session.Config{Observer: &events}
		if header != "Cookie" {
			cfg.Header = header
		}
		m := newManager(t, &b, cfg)
		alive := begin(t, m, map[string]any{"note": "alive"})
		other := begin(t, m, map[string]any{"note": "other"})
		for _, tt := range []struct {
			name      string
			tokens    []string
			want      string // the note; "": a new session
			loads     int
			duplicate bool
		}{
			{"one", []string{alive}, "alive", 1, false},
			{"twice the same", []string{alive, alive}, "alive", 1, false},
			{"the dead one first", []string{dead("A"), alive}, "alive", 2, true},
			{"the dead one last", []string{alive, dead("A")}, "alive", 1, true},
			{"junk first", []string{"junk", "", alive}, "alive", 1, true},
			{"two that are alive", []string{other, alive}, "other", 1, true},
			{"two dead ones", []string{dead("A"), dead("B")}, "", 2, true},
			{"the fourth", []string{dead("A"), dead("A"), dead("B"), dead("C"), alive}, "alive", 4, true},
			{"no more than four", []string{dead("A"), dead("B"), dead("C"), dead("D"), alive}, "", 4, true},
		} {
			t.Run(header+"/"+tt.name, func(t *testing.T) {
				b.took()
				events.kinds = nil
				w := httptest.NewRecorder()
				m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
					s, err := m.Get(r.Context())
					check(t, err)
					if got, err := note.Get(s); got != tt.want || err != nil {
						t.Errorf("got %q, %v", got, err)
					}
				})).ServeHTTP(w, carrying(header, tt.tokens...))
				b.wantCalls(t, slices.Repeat([]string{"Load"}, tt.loads)...)
				if events.saw(observe.EventTokenDuplicate) != tt.duplicate || len(w.Result().Cookies()) != 0 || w.Header().Get(header) != "" {
					t.Errorf("events %v, headers %v", events.kinds, w.Header())
				}
			})
		}
	}
}

// carrying returns a request with these tokens.
func carrying(header string, tokens ...string) *http.Request {
	r := httptest.NewRequest("GET", "/", nil)
	for _, token := range tokens {
		switch header {
		case "Cookie":
			r.Header.Add(header, "__Host-session="+token)
		case "Authorization":
			r.Header.Add(header, "Bearer "+token)
		default:
			r.Header.Add(header, token)
		}
	}
	return r
}

// TestDeadTokenDoesNotShadow checks that a dead token does not hide a new one
// while the client sends both.
func TestDeadTokenDoesNotShadow(t *testing.T) {
	var b store
	m := newManager(t, &b, session.Config{})
	planted := strings.Repeat("A", 32)
	tokens := []string{planted}
	do := func(f func(r *http.Request, s *session.Session) error) *httptest.ResponseRecorder {
		t.Helper()
		w := httptest.NewRecorder()
		m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			s, err := m.Get(r.Context())
			check(t, err)
			check(t, f(r, s))
		})).ServeHTTP(w, carrying("Cookie", tokens...))
		if token := sent(w); token != "" {
			tokens = []string{planted, token} // the browser replaces only its own
		}
		return w
	}
	as := func(user string) {
		t.Helper()
		do(func(_ *http.Request, s *session.Session) error {
			got, err := s.User()
			if got != user {
				t.Errorf("the user is %q, want %q", got, user)
			}
			return err
		})
	}
	do(func(_ *http.Request, s *session.Session) error { return s.Login("ann") })
	as("ann")
	do(func(_ *http.Request, s *session.Session) error { return s.Rotate() })
	as("ann")
	records := b.Len()
	do(func(_ *http.Request, s *session.Session) error { return s.Login("bob") })
	as("bob")
	if n := b.Len(); n != records+1 { // and the record that is left under the old ID
		t.Errorf("%d records, before the login %d", n, records)
	}
	w := do(func(r *http.Request, s *session.Session) error {
		if err := s.Destroy(r.Context()); err != nil {
			return err
		}
		s, err := m.Get(r.Context())
		if err != nil || !s.IsNew() {
			t.Errorf("after the logout: %v, new %v", err, s.IsNew())
		}
		return nil
	})
	if c := w.Result().Cookies(); len(c) != 1 || c[0].MaxAge >= 0 {
		t.Errorf("cookies after the logout %v", c)
	}
	as("")
}

// TestFailureForOneOfSeveralTokens checks that a store failure for one token is
// an error, because that token may have the session.
func TestFailureForOneOfSeveralTokens(t *testing.T) {
	for _, failing := range []int{1, 2} {
		var b store
		m := newManager(t, &b, session.Config{})
		tokens := []string{strings.Repeat("A", 32), begin(t, m, map[string]any{"note": "x"})}
		loads := 0
		w := httptest.NewRecorder()
		m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			b.before = func(context.Context, string) error {
				if loads++; loads == failing {
					return errStore
				}
				return nil
			}
			s, err := m.Get(r.Context())
			if s != nil || !errors.Is(err, errStore) {
				t.Errorf("Load %d fails: got %v, %v", failing, s, err)
			}
			s, err = m.Get(r.Context()) // again: all of them count
			if err != nil || s.IsNew() {
				t.Errorf("the second Get: %v", err)
			}
		})).ServeHTTP(w, carrying("Cookie", tokens...))
	}
}

// TestMovedTokenBesideADeadOne checks that a token that was in flight during a
// rotation is treated as it would be alone.
func TestMovedTokenBesideADeadOne(t *testing.T) {
	var b store
	m := newManager(t, &b, session.Config{IdleTimeout: time.Hour})
	old := begin(t, m, map[string]any{"note": "x"})
	s := open(t, m, old)
	check(t, errors.Join(s.Rotate(), finish(m, s)))
	now := s.Token().Reveal()
	for _, tt := range []struct {
		tokens []string
		want   error
	}{
		{[]string{old, strings.Repeat("A", 32)}, session.ErrNotFound},
		{[]string{strings.Repeat("A", 32), old}, session.ErrNotFound},
		{[]string{old, now}, nil},
		{[]string{now, old}, nil},
	} {
		m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			s, err := m.Get(r.Context())
			if !errors.Is(err, tt.want) || tt.want == nil && s.IsNew() {
				t.Errorf("%v: %v", tt.tokens, err)
			}
		})).ServeHTTP(httptest.NewRecorder(), carrying("Cookie", tt.tokens...))
	}
}
