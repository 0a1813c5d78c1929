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
	"github.com/seed-a7bee19b/session/lock"
)

// TestRenewalsOfAListedSession: requests at once renew a listed session again and
// again, and some had opened it before. Its handle, its authentication and its place
// in the list stay, and a revocation ends it under both IDs.
func TestRenewalsOfAListedSession(t *testing.T) {
	for _, w := range ways {
		for _, h := range []func(m *session.Manager) http.HandlerFunc{read, write} {
			t.Run(w.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var b leasingStore
					m := w.manager(t, &b, session.Config{Owners: listAll, StoreKey: keyed})
					other := login(t, m, session.Login{User: "ann"})
					check(t, other.Close(ctx))
					s := login(t, m, session.Login{User: "ann", Methods: []string{"pwd"}, Note: map[string]string{"d": "x"}})
					check(t, s.Close(ctx))
					handle := s.Handle()
					token := s.Token().Reveal()
					auth0 := time.Now()
					for range 10 {
						time.Sleep(renewAfter + time.Minute)
						inflight := open(t, withMode(t, m, session.Merge), token)
						b.distant(2 * time.Millisecond)
						all := parallel(4, func(i int) *httptest.ResponseRecorder { return visit(m, "POST", token, h(m)) })
						b.healthy()
						next := ""
						for _, r := range all {
							if r.Code != 200 {
								t.Fatalf("status %d", r.Code)
							}
							if sent(r) != "" && next != "" && sent(r) != next {
								t.Error("two tokens")
							}
							if sent(r) != "" {
								next = sent(r)
							}
						}
						if next == "" {
							t.Fatal("not renewed")
						}
						check(t, errors.Join(errOf(counter.Update(inflight, inc)), finish(m, inflight)))
						s := open(t, withMode(t, m, session.ReadOnly), next)
						if s.Handle() != handle {
							t.Errorf("handle %q", s.Handle())
						}
						a, err := s.Authentication()
						if err != nil || a.At.Sub(auth0).Abs() > time.Second || len(a.Methods) != 1 {
							t.Errorf("%v, %v", a, err)
						}
						check(t, s.Close(ctx))
						used := open(t, m, other.Token().Reveal())
						check(t, errors.Join(errOf(counter.Update(used, inc)), finish(m, used)))
						if n := len(handles(t, m, session.User("ann"))); n != 2 {
							t.Fatalf("%d sessions", n)
						}
						token = next
					}
					old := token
					time.Sleep(renewAfter + time.Minute)
					inflight := open(t, withMode(t, m, session.Merge), token)
					r := visit(m, "POST", token, h(m))
					token = sent(r)
					check(t, m.RevokeOthers(ctx, handle, session.User("ann")))
					if alive(t, m, other) {
						t.Error("the other session is alive")
					}
					x := open(t, m, old) // in the overlap
					check(t, x.Close(ctx))
					check(t, m.Revoke(ctx, session.User("ann")))
					for _, tok := range []string{old, token} {
						if _, err := m.Open(ctx, tok); !errors.Is(err, session.ErrNotFound) {
							t.Error(err)
						}
					}
					check(t, errOf(counter.Update(inflight, inc)))
					if err := inflight.Save(ctx); !errors.Is(err, session.ErrNotFound) {
						t.Error("in flight:", err)
					}
					check(t, inflight.Close(ctx))
				})
			})
		}
	}
}

// TestRememberMeWithRenewals: a user is seen once a day for half a year, each time
// under a new ID, whose cookie ends when the session does.
func TestRememberMeWithRenewals(t *testing.T) {
	for _, w := range ways {
		for _, lists := range []bool{true, false} {
			t.Run(fmt.Sprint(w.name, lists), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var b leasingStore
					day := 24 * time.Hour
					cfg := session.Config{Owners: session.OwnersConfig{Index: lists}, StoreKey: keyed, Mode: w.mode, SafeMode: w.safe, RenewAfter: day - time.Hour, MaxIdleTimeout: 30 * day, MaxAbsoluteTimeout: 180 * day}
					var backend session.Backend = &b
					if w.lock == "Locker" {
						backend, cfg.Lock.Locker = plain{&b}, &lock.Local{}
					}
					m := newManager(t, backend, cfg)
					s := login(t, m, session.Login{User: "ann", Lifetime: session.Lifetime{Idle: 30 * day, Absolute: 180 * day, Persistent: true}, Methods: []string{"pwd"}})
					check(t, s.Close(ctx))
					began := time.Now()
					token := s.Token().Reveal()
					n := 0
					for time.Since(began) < 179*day {
						time.Sleep(day)
						var r *httptest.ResponseRecorder
						if n%3 == 0 {
							r = visit(m, "POST", token, write(m))
						} else {
							r = visit(m, "GET", token, read(m))
						}
						n++
						if r.Code != 200 || sent(r) == "" {
							t.Fatal(n, r.Code, sent(r) != "")
						}
						c := r.Result().Cookies()[0]
						if want := int(time.Until(began.Add(180*day)) / time.Second); c.MaxAge < want-1 || c.MaxAge > want {
							t.Errorf("%d: max-age %d want %d", n, c.MaxAge, want)
						}
						token = sent(r)
						if n%30 == 0 && lists {
							for e, err := range m.Sessions(ctx, session.User("ann")) {
								check(t, err)
								if time.Since(e.LastUsed) > time.Second {
									t.Error("last used", time.Since(e.LastUsed))
								}
							}
							if k := len(handles(t, m, session.User("ann"))); k != 1 {
								t.Fatal(k)
							}
						}
					}
					x := open(t, withMode(t, m, session.ReadOnly), token)
					if err := x.FreshWithin(day); !errors.Is(err, session.ErrNotFresh) {
						t.Error(err)
					}
					l, err := x.Lifetime()
					if err != nil || l.Absolute != 180*day || !l.Persistent {
						t.Error(l, err)
					}
					check(t, x.Close(ctx))
					time.Sleep(day + time.Hour)
					if _, err := m.Open(ctx, token); !errors.Is(err, session.ErrNotFound) {
						t.Error(err)
					}
				})
			})
		}
	}
}

// TestLogoutUnderAnIDThatWasRenewed: the session has got a new ID since, and perhaps
// another user, or the request has several cookies with old IDs.
func TestLogoutUnderAnIDThatWasRenewed(t *testing.T) {
	for _, w := range ways {
		t.Run(w.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var b leasingStore
				m := w.manager(t, &b, session.Config{Owners: listAll, StoreKey: keyed})
				s := login(t, m, session.Login{User: "ann"})
				check(t, s.Close(ctx))
				t0 := s.Token().Reveal()
				time.Sleep(renewAfter + time.Minute)
				t1 := sent(visit(m, "POST", t0, write(m)))
				for _, user := range []string{"", "ann", "bob"} {
					tok := t1
					if user != "" {
						r := visit(m, "POST", t1, m.HandlerFunc(func(_ http.ResponseWriter, _ *http.Request, s *session.Session) error { return s.Login(user) }).ServeHTTP)
						if tok = sent(r); tok == "" {
							t.Fatal(user)
						}
					}
					r := visit(m, "POST", t0, logout(m))
					if r.Code != 200 {
						t.Fatal(r.Code)
					}
					if _, err := m.Open(ctx, tok); !errors.Is(err, session.ErrNotFound) {
						t.Error(user, err)
					}
					s = login(t, m, session.Login{User: "ann"})
					check(t, s.Close(ctx))
					t0 = s.Token().Reveal()
					time.Sleep(renewAfter + time.Minute)
					t1 = sent(visit(m, "POST", t0, write(m)))
				}
				// several cookies: an old ID, another session's old ID
				s2 := login(t, m, session.Login{User: "ann"})
				check(t, s2.Close(ctx))
				time.Sleep(renewAfter + time.Minute)
				u0 := s2.Token().Reveal()
				u1 := sent(visit(m, "POST", u0, write(m)))
				t2 := sent(visit(m, "POST", t1, write(m)))
				rq := httptest.NewRequest("POST", "/", nil)
				for _, k := range []string{t1, u0} {
					rq.AddCookie(&http.Cookie{Name: "__Host-session", Value: k})
				}
				rec := httptest.NewRecorder()
				m.Handler(logout(m)).ServeHTTP(rec, rq)
				if rec.Code != 200 {
					t.Error(rec.Code)
				}
				for _, k := range []string{t0, t1, t2, u0, u1} {
					if k == "" {
						t.Error("empty")
						continue
					}
					if _, err := m.Open(ctx, k); !errors.Is(err, session.ErrNotFound) {
						t.Error(err)
					}
				}
				if k := len(handles(t, m, session.User("ann"))); k != 0 {
					t.Error(k)
				}
			})
		})
	}
}

// TestLastWriteBesideANewID: a request in mode LastWrite cannot undo a login or a
// Reauthenticate, and brings back nothing from before it after a renewal.
func TestLastWriteBesideANewID(t *testing.T) {
	for _, what := range []func(s *session.Session) error{
		func(s *session.Session) error {
			return s.LoginWith(session.Login{User: "ann", Methods: []string{"otp"}, Lifetime: session.Lifetime{Absolute: 50 * time.Hour}})
		},
		func(s *session.Session) error { return s.Reauthenticate("otp") },
		func(s *session.Session) error { return s.Rotate() },
	} {
		synctest.Test(t, func(t *testing.T) {
			var st leasingStore
			cfg := renewing()
			cfg.Mode = session.LastWrite
			m := newManager(t, &st, cfg)
			s := login(t, m, session.Login{User: "ann", Methods: []string{"pwd"}})
			slow := open(t, m, s.Token().Reveal())
			x := open(t, m, s.Token().Reveal())
			check(t, what(x))
			check(t, finish(m, x))
			check(t, note.Set(slow, "y"))
			err := finish(m, slow)
			if !errors.Is(err, session.ErrNotFound) {
				t.Error(err)
			}
			// and then a renewal, before slow2's save
			slow2 := open(t, m, x.Token().Reveal())
			time.Sleep(renewAfter + time.Minute)
			r := visit(m, "POST", x.Token().Reveal(), m.HandlerFunc(func(_ http.ResponseWriter, _ *http.Request, s *session.Session) error { return note.Set(s, "a") }).ServeHTTP)
			check(t, note.Set(slow2, "z"))
			check(t, finish(m, slow2))
			wantValue(t, m, sent(r), "note", "z")
			y := open(t, m, sent(r))
			if y.Handle() != s.Handle() {
				t.Error("handle")
			}
			check(t, y.Close(ctx))
			check(t, m.Revoke(ctx, session.User("ann")))
			if _, err := m.Open(ctx, sent(r)); !errors.Is(err, session.ErrNotFound) {
				t.Error(err)
			}
		})
	}
}
