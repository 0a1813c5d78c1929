//go:build go1.25

package session_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/observe"
)

// loginAs is a handler that logs a user in and counts. If it looks, it wants to see a
// value first, as a handler does that checks a CSRF token.
func loginAs(m *session.Manager, user string, looks bool) http.HandlerFunc {
	return m.HandlerFunc(func(w http.ResponseWriter, _ *http.Request, s *session.Session) error {
		if looks {
			if got, err := note.Get(s); got != "cart" || err != nil {
				return fmt.Errorf("forbidden: %q, %w", got, err)
			}
		}
		if err := errors.Join(s.Login(user), errOf(counter.Update(s, inc))); err != nil {
			return err
		}
		return errOf(fmt.Fprint(w, "welcome"))
	}).ServeHTTP
}

// beside returns a Manager over b of another process than that of m.
func (w way) beside(t testing.TB, b *leasingStore, m *session.Manager) *session.Manager {
	t.Helper()
	if w.lock == "Locker" {
		return newManager(t, plain{b}, m.Config())
	}
	return newManager(t, b, m.Config())
}

// TestDoubleLogin: two clicks on "log in" end in one session, in which both requests
// have counted, and whichever answer arrives last has its token.
func TestDoubleLogin(t *testing.T) {
	for _, w := range ways {
		for _, before := range []string{"", "ann", "bob"} { // whom the session belongs to
			for _, processes := range []int{1, 2} {
				for _, gap := range []time.Duration{0, time.Millisecond, 3 * time.Millisecond, time.Second, 29 * time.Second} {
					t.Run(fmt.Sprintf("%s, of %q, %d processes, after %v", w.name, before, processes, gap), func(t *testing.T) {
						synctest.Test(t, func(t *testing.T) {
							var b leasingStore
							var events events
							cfg := session.Config{Observer: &events}
							m := w.manager(t, &b, cfg)
							managers := []*session.Manager{m, m}
							if processes == 2 {
								managers[1] = w.beside(t, &b, m)
							}
							token := begin(t, m, map[string]any{"note": "cart"})
							if before != "" {
								s := open(t, m, token)
								check(t, errors.Join(s.Login(before), finish(m, s)))
								token = s.Token().Reveal()
								time.Sleep(time.Minute)
							}
							b.distant(2 * time.Millisecond)
							all := parallel(2, func(i int) *httptest.ResponseRecorder {
								time.Sleep(time.Duration(i) * gap)
								return visit(managers[i], "POST", token, loginAs(managers[i], "ann", before == ""))
							})
							b.healthy()
							for _, r := range all {
								page(t, r, "welcome")
							}
							fresh := sent(all[0])
							if fresh == "" || fresh == token || sent(all[1]) != fresh {
								t.Fatalf("tokens %q and %q", fresh, sent(all[1]))
							}
							if !events.saw(observe.EventLoginJoined) {
								t.Error("the observer is not told")
							}
							want := 2
							if w.mode == session.LastWrite && gap < 10*time.Millisecond {
								s := open(t, m, fresh)
								want, _ = counter.Get(s)
								check(t, s.Close(ctx))
							}
							wantValue(t, m, fresh, "counter", want)
							cart := "cart"
							if before == "bob" {
								cart = ""
							}
							wantValue(t, m, fresh, "note", cart)
							s := open(t, m, fresh)
							if user, err := s.User(); user != "ann" || err != nil {
								t.Errorf("user %q, %v", user, err)
							}
							check(t, s.Close(ctx))
							if _, err := m.Open(ctx, token); !errors.Is(err, session.ErrNotFound) {
								t.Errorf("the old ID opens: %v", err)
							}
							if n := sessions(t, &b, token, fresh); n != 1 {
								t.Errorf("%d sessions", n)
							}
							// A logout ends it, under whichever ID.
							visit(m, "POST", token, logout(m))
							if n := sessions(t, &b); n != 0 {
								t.Errorf("%d sessions after a logout", n)
							}
						})
					})
				}
			}
		}
	}
}

// TestLoginThatDoesNotJoin: logins under an old ID that get a session of their own,
// or none, as nobody else's is theirs.
func TestLoginThatDoesNotJoin(t *testing.T) {
	const conflict, ok = http.StatusConflict, http.StatusOK
	for _, tt := range []struct {
		name  string
		first func(t *testing.T, m *session.Manager, token string) string // what happens under the old ID first
		after time.Duration
		user  string // who logs in then
		// In flight, or coming later: the status.
		inFlight, later int
	}{
		{"another user", loginOf("ann"), time.Second, "bob", conflict, ok},
		{"after the overlap", loginOf("ann"), 31 * time.Second, "ann", conflict, ok},
		{"after a rotation", func(t *testing.T, m *session.Manager, token string) string { return rotated(t, m, token) }, time.Second, "ann", conflict, ok},
		{"after a logout", func(t *testing.T, m *session.Manager, token string) string {
			fresh := loginOf("ann")(t, m, token)
			check(t, open(t, m, fresh).Destroy(ctx))
			return fresh
		}, time.Second, "ann", conflict, ok},
		{"after a login and a rotation", func(t *testing.T, m *session.Manager, token string) string {
			return rotated(t, m, loginOf("ann")(t, m, token))
		}, time.Second, "ann", conflict, ok},
		{"after another user's second login", func(t *testing.T, m *session.Manager, token string) string {
			return loginOf("bob")(t, m, loginOf("ann")(t, m, token))
		}, time.Second, "ann", conflict, ok},
	} {
		for _, w := range ways[:3] {
			for _, inFlight := range []bool{true, false} {
				if inFlight && w.mode == session.Exclusive {
					continue // one of them waits for the other
				}
				t.Run(fmt.Sprintf("%s, %s, in flight %v", tt.name, w.name, inFlight), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						var b leasingStore
						m := w.manager(t, &b, session.Config{})
						token := begin(t, m, map[string]any{"note": "cart"})
						first, want := "", tt.later
						if !inFlight {
							first = tt.first(t, m, token)
							time.Sleep(tt.after)
						}
						r := visit(m, "POST", token, m.HandlerFunc(func(_ http.ResponseWriter, _ *http.Request, s *session.Session) error {
							if inFlight {
								want = tt.inFlight
								first = tt.first(t, m, token)
								time.Sleep(tt.after)
							}
							return s.Login(tt.user)
						}).ServeHTTP)
						fresh := sent(r)
						if r.Code != want || (fresh != "") != (want == ok) || fresh == first || fresh == token {
							t.Fatalf("status %d, token %q, of the first one %q", r.Code, fresh, first)
						}
						if fresh != "" {
							s := open(t, m, fresh)
							user, err := s.User()
							got, gerr := secret.Get(s)
							if check(t, errors.Join(err, gerr, s.Close(ctx))); user != tt.user || got != "" {
								t.Errorf("it has %q of %q", got, user)
							}
						}
					})
				})
			}
		}
	}
}

var secret = session.Key[string]{Name: "secret"}

// loginOf logs a user in who then stores a secret.
func loginOf(user string) func(*testing.T, *session.Manager, string) string {
	return func(t *testing.T, m *session.Manager, token string) string {
		s := open(t, m, token)
		check(t, errors.Join(s.Login(user), finish(m, s)))
		s = open(t, m, s.Token().Reveal())
		check(t, errors.Join(secret.Set(s, "of "+user), finish(m, s)))
		return s.Token().Reveal()
	}
}

// TestPlantedID: an attacker has planted the ID under which the victim logs in.
// Whatever the attacker does with it, the victim's session is not shown.
func TestPlantedID(t *testing.T) {
	attacks := map[string]func(s *session.Session) error{
		"read":      func(*session.Session) error { return nil },
		"write":     func(s *session.Session) error { return note.Set(s, "mine") },
		"log in":    func(s *session.Session) error { return s.Login("mallory") },
		"rotate":    func(s *session.Session) error { return s.Rotate() },
		"clear":     func(s *session.Session) error { return errors.Join(s.Clear(), s.Login("mallory")) },
		"twice":     func(s *session.Session) error { return errors.Join(s.Login("ann2"), s.Login("mallory")) },
		"save, too": func(s *session.Session) error { return errors.Join(s.Login("mallory"), s.Save(ctx)) },
	}
	for name, attack := range attacks {
		for _, method := range []string{"GET", "POST"} {
			for _, after := range []time.Duration{0, time.Second, 15 * time.Second, time.Minute} {
				for _, w := range ways[:3] {
					t.Run(fmt.Sprintf("%s, %s, after %v, %s", name, method, after, w.name), func(t *testing.T) {
						synctest.Test(t, func(t *testing.T) {
							var b leasingStore
							m := w.manager(t, &b, session.Config{})
							planted := begin(t, m, map[string]any{"note": "planted"})
							victim := loginOf("ann")(t, m, planted)
							time.Sleep(after)
							token := planted
							for range 3 {
								r := visit(m, method, token, m.HandlerFunc(func(_ http.ResponseWriter, _ *http.Request, s *session.Session) error {
									user, _ := s.User()
									if got, _ := secret.Get(s); got != "" || user == "ann" {
										t.Errorf("the attacker sees %q of %q", got, user)
									}
									err := attack(s)
									user, _ = s.User()
									if got, _ := secret.Get(s); got != "" || user == "ann" {
										t.Errorf("after the attack: %q of %q", got, user)
									}
									return err
								}).ServeHTTP)
								if got := sent(r); got == victim {
									t.Fatal("the attacker gets the victim's token")
								} else if got != "" {
									token = got
								}
							}
							s := open(t, m, victim)
							if got, err := secret.Get(s); got != "of ann" || err != nil {
								t.Errorf("the victim has %q, %v", got, err)
							}
						})
					})
				}
			}
		}
	}
}

// TestLoginJoinsThroughAnother: the session of the first login has got yet another ID
// by a login of the same user.
func TestLoginJoinsThroughAnother(t *testing.T) {
	eachWay(t, func(t *testing.T, _ way, b *leasingStore, m *session.Manager) {
		token := begin(t, m, map[string]any{"note": "cart"})
		second := loggedIn(t, m, loggedIn(t, m, token))
		for range 3 {
			w := visit(m, "POST", token, loginAs(m, "ann", false))
			page(t, w, "welcome")
			if sent(w) != second {
				t.Fatal("it has not joined the session")
			}
		}
		wantValue(t, m, second, "counter", 3)
		wantValue(t, m, second, "note", "cart")
		if n := sessions(t, b); n != 1 {
			t.Errorf("%d sessions", n)
		}
	})
}

// TestLoginJoinsAsAMerge: the second login keeps what was stored since the first,
// and applies its own changes to it.
func TestLoginJoinsAsAMerge(t *testing.T) {
	tooMuch := errors.New("too much")
	add := func(limit int) func(*session.Session) error {
		return func(s *session.Session) error {
			return errOf(counter.TryUpdate(s, func(n int) (int, error) {
				if n >= limit {
					return n, tooMuch
				}
				return n + 1, nil
			}))
		}
	}
	for _, tt := range []struct {
		name    string
		before  string // whom the session belongs to
		do      func(s *session.Session) error
		note    string
		other   bool // what was stored in between is there
		counter int
		refused bool
	}{
		{name: "nothing more", do: func(*session.Session) error { return nil }, note: "cart", other: true, counter: 5},
		{name: "set", do: func(s *session.Session) error { return note.Set(s, "set") }, note: "set", other: true, counter: 5},
		{name: "update", do: func(s *session.Session) error { return errOf(counter.Update(s, inc)) }, note: "cart", other: true, counter: 6},
		{name: "an update that has room", do: add(6), note: "cart", other: true, counter: 6},
		{name: "an update that is refused", do: add(5), note: "cart", other: true, counter: 5, refused: true},
		{name: "clear", do: func(s *session.Session) error { return s.Clear() }},
		{name: "clear, in a session of the user", before: "ann", do: func(s *session.Session) error { return s.Clear() }},
		{name: "another user's session", before: "bob", do: func(*session.Session) error { return nil }, other: true, counter: 5},
		{name: "another user's session, and update", before: "bob", do: func(s *session.Session) error { return errOf(counter.Update(s, inc)) }, other: true, counter: 6},
		{name: "another user's session, and set", before: "bob", do: func(s *session.Session) error { return note.Set(s, "set") }, note: "set", other: true, counter: 5},
	} {
		for _, mode := range []session.Mode{session.Merge, session.LastWrite} {
			for _, inFlight := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s, %v, in flight %v", tt.name, mode, inFlight), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						var b leasingStore
						m := newManager(t, &b, session.Config{Mode: mode})
						token := begin(t, m, map[string]any{"note": "cart"})
						if tt.before != "" {
							s := open(t, m, token)
							check(t, errors.Join(s.Login(tt.before), finish(m, s)))
							token = s.Token().Reveal()
						}
						fresh := ""
						first := func() {
							fresh = loggedIn(t, m, token)
							s := open(t, m, fresh)
							check(t, errors.Join(s.Set("other", true), counter.Set(s, 5), finish(m, s)))
						}
						if !inFlight {
							first()
						}
						r := visit(m, "POST", token, m.HandlerFunc(func(_ http.ResponseWriter, _ *http.Request, s *session.Session) error {
							if inFlight {
								first()
							}
							err := errors.Join(s.Login("ann"), tt.do(s))
							if tt.refused && errors.Is(err, tooMuch) {
								t.Error("refused too early")
							}
							return err
						}).ServeHTTP)
						if tt.refused {
							if r.Code != http.StatusInternalServerError || sent(r) != "" {
								t.Errorf("status %d, token %q", r.Code, sent(r))
							}
						} else if r.Code != http.StatusOK || sent(r) != fresh {
							t.Fatalf("status %d, token %q, want %q", r.Code, sent(r), fresh)
						}
						s := open(t, m, fresh)
						got, err := note.Get(s)
						n, nerr := counter.Get(s)
						user, uerr := s.User()
						if check(t, errors.Join(err, nerr, uerr)); got != tt.note || n != tt.counter || s.Has("other") != tt.other || user != "ann" {
							t.Errorf("note %q, counter %d, other %v, user %q", got, n, s.Has("other"), user)
						}
					})
				})
			}
		}
	}
}

// TestJoinMeetsAFault: an error of the store is no new session.
func TestJoinMeetsAFault(t *testing.T) {
	for _, w := range ways[:3] {
		for _, tt := range []struct {
			name string
			do   func(b *leasingStore)
		}{
			{"Load", func(b *leasingStore) { b.failingNth("Load", 3) }}, // to look whether it is unused, and to join it
			{"Save", func(b *leasingStore) { b.failingNth("Save", 1) }},
			{"answer to Save", func(b *leasingStore) { b.losing("Save", 1) }},
		} {
			t.Run(w.name+", "+tt.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var b leasingStore
					m := w.manager(t, &b, session.Config{})
					token := begin(t, m, map[string]any{"note": "cart"})
					fresh := loggedIn(t, m, token)
					if tt.do(&b); w.mode == session.Exclusive && tt.name == "Load" {
						b.failingNth("Load", 2) // the first one is an Acquire
					}
					r := visit(m, "POST", token, loginAs(m, "ann", false))
					if b.healthy(); r.Code != http.StatusServiceUnavailable {
						t.Fatalf("status %d", r.Code)
					}
					if n := sessions(t, &b); n != 1 {
						t.Errorf("%d sessions", n)
					}
					r = visit(m, "POST", token, loginAs(m, "ann", false))
					if page(t, r, "welcome"); sent(r) != fresh {
						t.Error("another try gets another session")
					}
				})
			})
		}
	}
}

// TestLoginJoinsALaterOne: a login after the overlap gets a session of its own. The
// next one joins that.
func TestLoginJoinsALaterOne(t *testing.T) {
	eachWay(t, func(t *testing.T, _ way, b *leasingStore, m *session.Manager) {
		token := begin(t, m, map[string]any{"note": "cart"})
		var got []string
		for _, after := range []time.Duration{0, 40 * time.Second, 20 * time.Second, 20 * time.Second} {
			time.Sleep(after)
			w := visit(m, "POST", token, loginAs(m, "ann", false))
			page(t, w, "welcome")
			got = append(got, sent(w))
		}
		if got[0] == got[1] || got[1] == "" || got[2] != got[1] {
			t.Errorf("the tokens are %q", got)
		}
		if n := sessions(t, b); n > 2 {
			t.Errorf("%d sessions", n)
		}
	})
}
