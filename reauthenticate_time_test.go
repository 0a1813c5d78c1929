//go:build go1.25

package session_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/observe"
)

// confirm is a handler to which the user gives the password again. It takes a while
// to check it.
func confirm(m *session.Manager, check time.Duration) http.HandlerFunc {
	return m.HandlerFunc(func(w http.ResponseWriter, _ *http.Request, s *session.Session) error {
		if _, err := s.User(); err != nil {
			return err
		}
		time.Sleep(check)
		if err := errors.Join(errOf(counter.Update(s, inc)), s.Reauthenticate("pwd")); err != nil {
			return err
		}
		return errOf(fmt.Fprint(w, "thank you"))
	}).ServeHTTP
}

// TestDoubleReauthenticate: of two clicks on a page that asks for the password, both
// end in the session under its one new ID.
func TestDoubleReauthenticate(t *testing.T) {
	for _, w := range ways[:2] {
		for _, listed := range []bool{true, false} {
			for _, processes := range []int{1, 2} {
				for _, gap := range []time.Duration{0, time.Millisecond, 3 * time.Millisecond, 80 * time.Millisecond} {
					t.Run(fmt.Sprintf("%s, listed %v, %d processes, after %v", w.name, listed, processes, gap), func(t *testing.T) {
						synctest.Test(t, func(t *testing.T) {
							var b leasingStore
							var events events
							m := w.manager(t, &b, session.Config{Observer: &events, Owners: session.OwnersConfig{Index: listed}})
							managers := []*session.Manager{m, m}
							if processes == 2 {
								managers[1] = w.beside(t, &b, m)
							}
							token := loggedIn(t, m, begin(t, m, map[string]any{"note": "x"}))
							time.Sleep(30 * time.Minute)
							b.distant(2 * time.Millisecond)
							all := parallel(2, func(i int) *httptest.ResponseRecorder {
								time.Sleep(time.Duration(i) * gap)
								return visit(managers[i], "POST", token, confirm(managers[i], 100*time.Millisecond))
							})
							b.healthy()
							for _, r := range all {
								page(t, r, "thank you")
							}
							fresh := sent(all[0])
							if fresh == "" || fresh == token || sent(all[1]) != fresh {
								t.Fatalf("tokens %q and %q", fresh, sent(all[1]))
							}
							if !events.saw(observe.EventLoginJoined) {
								t.Error("the observer is not told")
							}
							s := open(t, m, fresh)
							n, err := counter.Get(s)
							want := 2
							if w.mode == session.LastWrite {
								want = n
							}
							if check(t, errors.Join(err, s.FreshWithin(time.Minute), s.Close(ctx))); n != want {
								t.Errorf("counted %d", n)
							}
							if _, err := m.Open(ctx, token); !errors.Is(err, session.ErrNotFound) {
								t.Errorf("the old ID opens: %v", err)
							}
							index := 0
							if listed {
								index = 1 // record of the owner
								if n := len(handles(t, m, session.User("ann"))); n != 1 {
									t.Errorf("%d are listed", n)
								}
							}
							if n := sessions(t, &b, token, fresh); n != 1+index {
								t.Errorf("%d sessions", n-index)
							}
						})
					})
				}
			}
		}
	}
}

// TestReauthenticateThatDoesNotJoin: nobody else gets the new ID.
func TestReauthenticateThatDoesNotJoin(t *testing.T) {
	again := func(s *session.Session) error { return s.Reauthenticate("pwd") }
	for name, tt := range map[string]struct {
		first, second func(s *session.Session) error
		after         time.Duration
	}{
		"nothing but a change": {again, func(s *session.Session) error { return note.Set(s, "mine") }, 0},
		"a rotation":           {again, func(s *session.Session) error { return s.Rotate() }, 0},
		"a login":              {again, func(s *session.Session) error { return s.Login("ann") }, 0},
		"another user's login": {again, func(s *session.Session) error { return s.Login("bob") }, 0},
		"a change and an undo": {again, func(s *session.Session) error {
			err := s.Reauthenticate("pwd")
			s.Discard()
			return errors.Join(err, note.Set(s, "mine"))
		}, 0},
		"after the overlap":     {again, again, 31 * time.Second},
		"after a rotation":      {func(s *session.Session) error { return s.Rotate() }, again, 0},
		"after a login":         {func(s *session.Session) error { return s.Login("ann") }, again, 0},
		"after another's login": {func(s *session.Session) error { return s.Login("bob") }, again, 0},
		"after a logout": {func(s *session.Session) error {
			return errors.Join(s.Reauthenticate("pwd"), s.Save(ctx), s.Destroy(ctx))
		}, again, 0},
	} {
		for _, w := range ways[:2] {
			t.Run(w.name+", "+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var b leasingStore
					m := w.manager(t, &b, session.Config{})
					token := loggedIn(t, m, begin(t, m, map[string]any{"note": "x"}))
					fresh := ""
					r := visit(m, "POST", token, m.HandlerFunc(func(_ http.ResponseWriter, _ *http.Request, s *session.Session) error {
						fresh = sent(visit(m, "POST", token, m.HandlerFunc(func(_ http.ResponseWriter, _ *http.Request, s *session.Session) error {
							return tt.first(s)
						}).ServeHTTP))
						time.Sleep(tt.after)
						return tt.second(s)
					}).ServeHTTP)
					if r.Code != http.StatusConflict || sent(r) != "" {
						t.Errorf("status %d, token %q, of the first one %q", r.Code, sent(r), fresh)
					}
				})
			})
		}
	}
}

// TestReauthenticateUnderAnOldID: a request that comes when the session has its new ID
// is told nothing of it, not even by its user.
func TestReauthenticateUnderAnOldID(t *testing.T) {
	eachWay(t, func(t *testing.T, _ way, _ *leasingStore, m *session.Manager) {
		token := loggedIn(t, m, begin(t, m, map[string]any{"note": "x"}))
		page(t, visit(m, "POST", token, confirm(m, 0)), "thank you")
		for _, after := range []time.Duration{0, time.Second} {
			time.Sleep(after)
			if r := visit(m, "POST", token, confirm(m, 0)); r.Code != http.StatusConflict || sent(r) != "" {
				t.Errorf("status %d, token %q", r.Code, sent(r))
			}
		}
	})
}

// TestClicksAtOnce: several clicks on "log in" or on "confirm", of two processes, over a
// store that loses writes and their answers. Whoever gets a page is in the session, there
// is one, and a revocation ends it.
func TestClicksAtOnce(t *testing.T) {
	const clicks, faulty = 4, 0.15
	month := session.Lifetime{Idle: 30 * 24 * time.Hour, Absolute: 30 * 24 * time.Hour}
	kinds := map[string]func(s *session.Session, i int) error{
		"log in": func(s *session.Session, i int) error {
			return s.LoginWith(session.Login{User: "ann", Lifetime: []session.Lifetime{{}, month}[i%2]})
		},
		"confirm": func(s *session.Session, _ int) error { return errors.Join(errOf(s.User()), s.Reauthenticate("pwd")) },
	}
	for name, click := range kinds {
		for _, faults := range []float64{0, faulty} {
			for n := range 40 * len(ways) {
				w := ways[n%len(ways)]
				t.Run(fmt.Sprintf("%s, %s, faults %v, %d", name, w.name, faults, n), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						var b leasingStore
						m := w.manager(t, &b, session.Config{
							MaxIdleTimeout: month.Idle, MaxAbsoluteTimeout: month.Absolute,
							Owners:       session.OwnersConfig{Index: true},
							ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) { w.WriteHeader(session.Status(err)) },
						})
						managers := []*session.Manager{m, w.beside(t, &b, m)}
						token := loggedIn(t, m, begin(t, m, map[string]any{"note": "x"}))
						time.Sleep(time.Duration(rand.IntN(80)) * time.Minute) // it may be time for a new ID
						b.distant(2 * time.Millisecond)
						b.trouble(faults)
						all := parallel(clicks, func(i int) *httptest.ResponseRecorder {
							time.Sleep(rand.N(12 * time.Millisecond))
							m := managers[i%2]
							return visit(m, "POST", token, m.HandlerFunc(func(_ http.ResponseWriter, _ *http.Request, s *session.Session) error {
								time.Sleep(15 * time.Millisecond) // to check the password
								return click(s, i)
							}).ServeHTTP)
						})
						b.healthy()
						tokens, pages := map[string]bool{token: true}, 0
						for _, r := range all {
							switch {
							case r.Code == http.StatusOK:
								pages++
								tokens[sent(r)] = true
							case r.Code == http.StatusServiceUnavailable && faults > 0:
							case r.Code == http.StatusConflict && w.mode == session.Exclusive && name == "confirm":
							default:
								t.Errorf("status %d", r.Code)
							}
						}
						for token := range tokens { // the next page, which may have yet another token
							if r := visit(m, "GET", token, read(m)); sent(r) != "" {
								tokens[sent(r)] = true
							}
						}
						time.Sleep(31 * time.Second) // none of the tokens leads to another one
						alive := 0
						for token := range tokens {
							s, err := m.Open(ctx, token)
							if errors.Is(err, session.ErrNotFound) {
								continue
							}
							check(t, err)
							alive++
							if pages > 0 {
								check(t, s.FreshWithin(time.Minute))
							}
							check(t, s.Close(ctx))
						}
						if alive > 1 || alive == 0 && pages > 0 {
							t.Errorf("%d sessions after %d pages", alive, pages)
						}
						check(t, m.Revoke(ctx, session.User("ann")))
						for token := range tokens {
							if _, err := m.Open(ctx, token); !errors.Is(err, session.ErrNotFound) {
								t.Errorf("after a revocation: %v", err)
							}
						}
					})
				})
			}
		}
	}
}
