package session_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/memory"
	"github.com/seed-a7bee19b/session/codec"
)

// blunt is a store with only the four methods, which returns no more than the
// contract requires.
type blunt struct{ b memory.Backend }

func (s *blunt) Load(ctx context.Context, key string) (session.Record, error) {
	return s.b.Load(ctx, key)
}

func (s *blunt) Save(ctx context.Context, key string, rec session.Record) (session.Version, error) {
	v, err := s.b.Save(ctx, key, rec)
	if errors.Is(err, session.ErrConflict) {
		err = &session.ConflictError{}
	}
	return v, err
}

func (s *blunt) Touch(ctx context.Context, key string, expires time.Time) error {
	return s.b.Touch(ctx, key, expires)
}

func (s *blunt) Delete(ctx context.Context, key string) error { return s.b.Delete(ctx, key) }

// rotated gives the session of token a new ID, and returns the new token.
func rotated(t testing.TB, m *session.Manager, token string) string {
	t.Helper()
	s := open(t, m, token)
	check(t, errors.Join(s.Rotate(), finish(m, s)))
	return s.Token().Reveal()
}

// loggedIn logs ann in, and returns the new token.
func loggedIn(t testing.TB, m *session.Manager, token string) string {
	t.Helper()
	s := open(t, m, token)
	check(t, errors.Join(s.Login("ann"), finish(m, s)))
	return s.Token().Reveal()
}

func wrote(t testing.TB, m *session.Manager, token string) string {
	t.Helper()
	s := open(t, m, token)
	check(t, errors.Join(errOf(counter.Update(s, inc)), finish(m, s)))
	return token
}

// TestLogoutFollows logs out in a request that has read its session before
// others changed it or gave it new IDs.
func TestLogoutFollows(t *testing.T) {
	type step = func(testing.TB, *session.Manager, string) string
	several := func(n int, of step) []step {
		steps := make([]step, n)
		for i := range steps {
			steps[i] = of
		}
		return steps
	}
	between := map[string][]step{
		"nothing":                   nil,
		"a write":                   {wrote},
		"a rotation":                {rotated},
		"a login":                   {loggedIn},
		"a rotation, and a write":   {rotated, wrote},
		"a write, and a login":      {wrote, loggedIn},
		"a login, and three others": several(4, loggedIn),
		"as many as leave a marker": several(8, rotated),
		"rotations with writes":     {rotated, wrote, rotated, wrote, loggedIn, wrote},
		"a rotation, and the logout": {rotated, func(t testing.TB, m *session.Manager, token string) string {
			check(t, open(t, m, token).Destroy(ctx))
			return token
		}},
	}
	stores := map[string]func() session.Backend{
		"memory":       func() session.Backend { return &memory.Backend{} },
		"four methods": func() session.Backend { return plain{&memory.Backend{}} },
		"blunt":        func() session.Backend { return &blunt{} },
	}
	for what, steps := range between {
		for name, backend := range stores {
			for _, mode := range []session.Mode{session.Merge, session.LastWrite} {
				t.Run(fmt.Sprintf("%s, %s, %v", what, name, mode), func(t *testing.T) {
					b := backend()
					var c session.Codec
					if name == "blunt" {
						c = codec.JSON{}
					}
					m := newManager(t, b, session.Config{Mode: mode, Codec: c})
					others := newManager(t, b, session.Config{Codec: c}) // another process
					token := begin(t, m, map[string]any{"note": "x"})
					s := open(t, m, token)
					tokens := []string{token}
					for _, step := range steps {
						token = step(t, others, token)
						tokens = append(tokens, token)
					}
					check(t, s.Destroy(ctx))
					for i, token := range tokens {
						if _, err := m.Open(ctx, token); !errors.Is(err, session.ErrNotFound) {
							t.Errorf("ID %d of %d opens: %v", i+1, len(tokens), err)
						}
					}
					check(t, s.Destroy(ctx))
				})
			}
		}
	}
}

// TestLogoutCosts checks that a logout costs one request; two if a rotation was
// faster, and one more if the session has changed under the new ID.
func TestLogoutCosts(t *testing.T) {
	var b store
	m := newManager(t, &b, session.Config{})
	token := begin(t, m, map[string]any{"note": "x"})
	token = rotated(t, m, token) // a recent one costs nothing
	s := open(t, m, token)
	b.took()
	check(t, s.Destroy(ctx))
	b.wantCalls(t, "End")

	for _, steps := range [][]func(testing.TB, *session.Manager, string) string{{rotated}, {rotated, wrote}} {
		token = begin(t, m, map[string]any{"note": "x"})
		s = open(t, m, token)
		want := []string{"End"}
		for _, step := range steps {
			token = step(t, m, token)
			want = append(want, "End")
		}
		b.took()
		check(t, s.Destroy(ctx))
		b.wantCalls(t, want...)
	}
}

// slow is a store whose calls take a moment, so that they complete in any order.
type slow struct{ session.Backend }

func (s slow) Save(ctx context.Context, key string, rec session.Record) (session.Version, error) {
	time.Sleep(rand.N(100 * time.Microsecond))
	return s.Backend.Save(ctx, key, rec)
}

// TestLogoutRacesWithRotation checks that the user is logged out in either
// order.
func TestLogoutRacesWithRotation(t *testing.T) {
	for name, backend := range map[string]session.Backend{"memory": &memory.Backend{}, "blunt": &blunt{}} {
		t.Run(name, func(t *testing.T) {
			pairs := 1000
			if name == "blunt" || testing.Short() {
				pairs = 100
			}
			b := slow{backend}
			m, other := newManager(t, b, session.Config{}), newManager(t, b, session.Config{})
			survivors := 0
			for range pairs {
				token := begin(t, m, map[string]any{"note": "x"})
				leaving, rotating := open(t, m, token), open(t, other, token)
				check(t, rotating.Login("ann"))
				var wg sync.WaitGroup
				start := make(chan struct{})
				wg.Add(1)
				go func() {
					defer wg.Done()
					<-start
					if err := rotating.Save(ctx); err != nil && !errors.Is(err, session.ErrNotFound) {
						t.Error(err)
					}
				}()
				close(start)
				time.Sleep(rand.N(300 * time.Microsecond))
				check(t, leaving.Destroy(ctx))
				wg.Wait()
				for _, token := range []string{token, rotating.Token().Reveal()} {
					if _, err := m.Open(ctx, token); !errors.Is(err, session.ErrNotFound) {
						survivors++
					}
				}
			}
			if survivors != 0 {
				t.Errorf("%d of %d sessions outlived their logout", survivors, pairs)
			}
		})
	}
}

// TestLogoutTriedAgain loses a response of any call, and checks that a second
// Destroy ends the session.
func TestLogoutTriedAgain(t *testing.T) {
	for rotations := range 4 {
		for lost := 1; lost <= rotations+1; lost++ {
			for _, applied := range []bool{true, false} {
				var b store
				m := newManager(t, &b, session.Config{})
				token := begin(t, m, map[string]any{"note": "x"})
				s := open(t, m, token)
				for range rotations {
					token = rotated(t, m, token)
				}
				left := lost
				fail := func(op string) error {
					if op == "End" {
						if left--; left == 0 {
							return errStore
						}
					}
					return nil
				}
				if applied {
					b.after = fail
					left = 1 // the only request
				} else {
					b.before = func(_ context.Context, op string) error { return fail(op) }
				}
				wantErr(t, s.Destroy(ctx), errStore)
				b.healthy()
				check(t, s.Destroy(ctx))
				_, err := m.Open(ctx, token)
				wantErr(t, err, session.ErrNotFound)
			}
		}
	}
}

// TestLogoutDuringARotation logs out in the request whose rotation has an
// unknown outcome.
func TestLogoutDuringARotation(t *testing.T) {
	for name, applied := range map[string]bool{"it was": true, "it was not": false} {
		t.Run(name, func(t *testing.T) {
			var b store
			m := newManager(t, &b, session.Config{})
			token := begin(t, m, map[string]any{"note": "x"})
			s := open(t, m, token)
			check(t, s.Login("ann"))
			b.losingAndDown(2)
			if !applied {
				b.losingAndDown(1)
				b.after = nil
			}
			wantErr(t, s.Save(ctx), errStore)
			b.healthy()
			check(t, s.Destroy(ctx))
			if b.Len() != 0 {
				t.Errorf("%d records are left", b.Len())
			}
		})
	}
}

// TestOldMarkers checks markers of earlier versions, which have only the key. A
// logout follows them, but not in a circle.
func TestOldMarkers(t *testing.T) {
	var b memory.Backend
	m := newManager(t, &b, session.Config{})
	mark := func(token, to string) {
		key, err := codec.MessagePack{}.Marshal(session.DefaultStoreKey(to))
		check(t, err)
		data, err := codec.MessagePack{}.Join(map[string][]byte{"_session.moved": key})
		check(t, err)
		rec, err := b.Load(ctx, session.DefaultStoreKey(token))
		check(t, err)
		rec.Data = data
		_, err = b.Save(ctx, session.DefaultStoreKey(token), rec)
		check(t, err)
	}
	old, current := begin(t, m, map[string]any{"note": "x"}), begin(t, m, map[string]any{"note": "x"})
	s := open(t, m, old)
	mark(old, current)
	_, err := m.Open(ctx, old)
	wantErr(t, err, session.ErrNotFound)
	check(t, s.Destroy(ctx))
	_, err = m.Open(ctx, current)
	wantErr(t, err, session.ErrNotFound)

	old = begin(t, m, map[string]any{"note": "x"})
	s = open(t, m, old)
	mark(old, old)
	if err = s.Destroy(ctx); err == nil || errors.Is(err, session.ErrNotFound) {
		t.Errorf("logout in a circle: %v", err)
	}
}

// visit sends a request with a token through the Handler.
func visit(m *session.Manager, method, token string, h http.HandlerFunc) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "/", nil)
	if token != "" {
		r.AddCookie(&http.Cookie{Name: "__Host-session", Value: token})
	}
	w := httptest.NewRecorder()
	m.Handler(h).ServeHTTP(w, r)
	return w
}

// logout is the handler from the documentation.
func logout(m *session.Manager) http.HandlerFunc {
	return m.HandlerFunc(func(_ http.ResponseWriter, r *http.Request, s *session.Session) error {
		return s.Destroy(r.Context())
	}).ServeHTTP
}
