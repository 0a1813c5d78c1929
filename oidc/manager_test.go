package backchannel_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/memory"
	"github.com/seed-a7bee19b/session/observe"
	backchannel "github.com/seed-a7bee19b/session/oidc"
	"github.com/seed-a7bee19b/session/sessiontest"
)

// A Manager is a Revoker.
var _ backchannel.Revoker = (*session.Manager)(nil)

func newManager(t testing.TB, b session.Backend, cfg session.Config) *session.Manager {
	t.Helper()
	m, err := session.New(b, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

var indexed = session.Config{Owners: session.OwnersConfig{Index: true}}

// login returns the token of a session that has logged in.
func login(t testing.TB, m *session.Manager, l session.Login) string {
	t.Helper()
	s := m.Start()
	if err := s.LoginWith(l); err != nil {
		t.Fatal(err)
	}
	if err := s.Save(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s.Token().Reveal()
}

func alive(t testing.TB, m *session.Manager, token string) bool {
	t.Helper()
	s, err := m.Open(t.Context(), token)
	if errors.Is(err, session.ErrNotFound) {
		return false
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	return true
}

// TestManager checks which sessions a token ends.
func TestManager(t *testing.T) {
	k := testKeys()
	const other = "https://other.example.com"
	sessions := []session.Login{
		{User: "1", Owners: backchannel.Owners(issuer, "ann", "sid-1")},
		{User: "1", Owners: backchannel.Owners(issuer, "ann", "sid-2")},
		{User: "1", Owners: backchannel.Owners(issuer, "ann", "")}, // logged in without a sid
		{User: "2", Owners: backchannel.Owners(issuer, "bob", "sid-3")},
		{User: "3", Owners: backchannel.Owners(other, "ann", "sid-1")},
		{User: "ann"}, // with a password
	}
	tests := []struct {
		name   string
		claims object
		change func(*backchannel.Config)
		ended  []int
	}{
		{name: "sid", claims: object{}, ended: []int{0}},
		{name: "sid without sub", claims: object{"sub": nil}, ended: []int{0}},
		{name: "sub", claims: object{"sid": nil}, ended: []int{0, 1, 2}},
		{name: "other issuer", claims: object{"iss": other}, ended: []int{4}, change: func(c *backchannel.Config) { c.Issuer = other }},
		{name: "other issuer and sub", claims: object{"iss": other, "sid": nil}, ended: []int{4}, change: func(c *backchannel.Config) { c.Issuer = other }},
		{name: "unknown sid", claims: object{"sid": "sid-9"}},
		{name: "unknown sub", claims: object{"sub": "eve", "sid": nil}},
		{name: "all devices", claims: object{}, ended: []int{0, 1, 2}, change: func(c *backchannel.Config) {
			c.Owner = func(_ context.Context, t backchannel.Token) (session.Owner, error) {
				return backchannel.Subject(t.Issuer, t.Subject), nil
			}
		}},
		{name: "user", claims: object{}, ended: []int{5}, change: func(c *backchannel.Config) {
			c.Owner = func(_ context.Context, t backchannel.Token) (session.Owner, error) {
				return session.User(t.Subject), nil
			}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := newManager(t, &memory.Backend{}, indexed)
			var tokens []string
			for _, l := range sessions {
				tokens = append(tokens, login(t, m, l))
			}
			cfg := setting(t, m)
			if tt.change != nil {
				tt.change(&cfg)
			}
			h := newHandler(t, cfg)
			for range 2 { // the second time, there is nothing left
				if w := post(t, h, sign(t, header("ES256", "ec", nil), logoutClaims(tt.claims), k.ec)); w.Code != 200 {
					t.Errorf("status %d", w.Code)
				}
				for i, token := range tokens {
					want := true
					for _, n := range tt.ended {
						want = want && n != i
					}
					if alive(t, m, token) != want {
						t.Errorf("session %d is alive: %v", i, !want)
					}
				}
			}
		})
	}
}

// TestLoginAfterLogout checks that a token that is sent again does not end a
// session that the user has begun since, and that a new token does.
func TestLoginAfterLogout(t *testing.T) {
	k := testKeys()
	m := newManager(t, &memory.Backend{}, indexed)
	h := newHandler(t, setting(t, m))
	sub := func() string { return sign(t, header("ES256", "ec", nil), logoutClaims(object{"sid": nil}), k.ec) }
	l := session.Login{User: "1", Owners: backchannel.Owners(issuer, "ann", "sid-1")}
	first, token := login(t, m, l), sub()
	if w := post(t, h, token); w.Code != 200 || alive(t, m, first) {
		t.Errorf("status %d, alive: %v", w.Code, alive(t, m, first))
	}
	second := login(t, m, l)
	if w := post(t, h, token); w.Code != 200 || !alive(t, m, second) {
		t.Errorf("again: status %d, alive: %v", w.Code, alive(t, m, second))
	}
	if w := post(t, h, sub()); w.Code != 200 || alive(t, m, second) {
		t.Errorf("new token: status %d, alive: %v", w.Code, alive(t, m, second))
	}
}

// TestNewID checks that a session is found after it got a new ID.
func TestNewID(t *testing.T) {
	m := newManager(t, &memory.Backend{}, indexed)
	token := login(t, m, session.Login{User: "1", Owners: backchannel.Owners(issuer, "ann", "sid-1")})
	s, err := m.Open(t.Context(), token)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Rotate(), s.Save(t.Context()), s.Close(t.Context())); err != nil {
		t.Fatal(err)
	}
	if !alive(t, m, s.Token().Reveal()) {
		t.Fatal("the session is gone")
	}
	if w := post(t, newHandler(t, setting(t, m)), sign(t, header("ES256", "ec", nil), logoutClaims(nil), testKeys().ec)); w.Code != 200 {
		t.Errorf("status %d", w.Code)
	}
	if alive(t, m, s.Token().Reveal()) {
		t.Error("the session is alive")
	}
}

// TestStoreFails checks that an answer of 200 is never given while the session is
// alive, and that the token works when it is sent again.
func TestStoreFails(t *testing.T) {
	down := errors.New("down")
	for _, op := range []observe.Op{observe.OpLoad, observe.OpSave, observe.OpDelete} {
		t.Run(op.String(), func(t *testing.T) {
			var store sessiontest.Store
			m := newManager(t, &store, indexed)
			session := login(t, m, session.Login{User: "1", Owners: backchannel.Owners(issuer, "ann", "sid-1")})
			cfg := setting(t, m)
			var reported error
			cfg.OnError = func(_ *http.Request, _ int, err error) { reported = err }
			h := newHandler(t, cfg)
			token := sign(t, header("ES256", "ec", nil), logoutClaims(nil), testKeys().ec)
			store.Fail(op, down)
			for range 2 {
				if w := post(t, h, token); w.Code != 503 || !errors.Is(reported, down) {
					t.Errorf("status %d, %v", w.Code, reported)
				}
			}
			store.Fail(op, nil)
			if w := post(t, h, token); w.Code != 200 {
				t.Errorf("status %d", w.Code)
			}
			if alive(t, m, session) {
				t.Error("the session is alive")
			}
		})
	}
}

// TestNoIndex checks that a Manager that lists no sessions is a failure.
func TestNoIndex(t *testing.T) {
	m := newManager(t, &memory.Backend{}, session.Config{})
	w := post(t, newHandler(t, setting(t, m)), sign(t, header("ES256", "ec", nil), logoutClaims(nil), testKeys().ec))
	if w.Code != 500 {
		t.Errorf("status %d", w.Code)
	}
}

// counted counts the calls of a Backend.
type counted struct {
	session.Backend
	calls int
}

func (c *counted) Load(ctx context.Context, key string) (session.Record, error) {
	c.calls++
	return c.Backend.Load(ctx, key)
}

func (c *counted) Save(ctx context.Context, key string, rec session.Record) (session.Version, error) {
	c.calls++
	return c.Backend.Save(ctx, key, rec)
}

func (c *counted) Touch(ctx context.Context, key string, d time.Time) error {
	c.calls++
	return c.Backend.Touch(ctx, key, d)
}

func (c *counted) Delete(ctx context.Context, key string) error {
	c.calls++
	return c.Backend.Delete(ctx, key)
}

// TestCost checks the requests that the package comment names, inside the Handler
// of the Manager too.
func TestCost(t *testing.T) {
	k := testKeys()
	store := &counted{Backend: &memory.Backend{}}
	m := newManager(t, store, indexed)
	l := session.Login{User: "1", Owners: backchannel.Owners(issuer, "ann", "sid-1")}
	login(t, m, l)
	store.calls = 0
	if err := m.Revoke(t.Context(), bySID); err != nil {
		t.Fatal(err)
	}
	revoke := store.calls
	login(t, m, l)
	h := m.Handler(newHandler(t, setting(t, m)))
	good := sign(t, header("ES256", "ec", nil), logoutClaims(nil), k.ec)
	for _, s := range []struct {
		name, token string
		calls       int
	}{
		{"refused", good[1:], 0},
		{"one session", good, revoke},
		{"again", good, 0},
		{"unknown", sign(t, header("ES256", "ec", nil), logoutClaims(object{"sid": "sid-9"}), k.ec), 1},
	} {
		store.calls = 0
		h.ServeHTTP(httptest.NewRecorder(), request(t.Context(), url.Values{"logout_token": {s.token}}.Encode()))
		if store.calls != s.calls {
			t.Errorf("%s: %d calls of the store, want %d", s.name, store.calls, s.calls)
		}
	}
}
