//go:build go1.25

package session_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/memory"
	"github.com/seed-a7bee19b/session/observe"
)

// TestTokenThatIsNotHandedOut: a slow request has come under an old ID, and its
// answer could hand out the new token. Where the session has ended meanwhile or has
// yet another ID, the cookie of that must not be displaced.
func TestTokenThatIsNotHandedOut(t *testing.T) {
	for _, tt := range []struct {
		name  string
		do    func(t *testing.T, b *leasingStore, m *session.Manager, s *session.Session, token string)
		calls []string // when the response starts
		sent  bool
		code  int

		cleared, again bool // the cookie is; Get is called again
	}{
		{name: "nothing happens", sent: true, calls: []string{"Load"}},
		{name: "a value is stored", sent: true, calls: []string{"Load"}, do: func(t *testing.T, _ *leasingStore, m *session.Manager, _ *session.Session, token string) {
			wrote(t, m, token)
		}},
		{name: "this request stores one", sent: true, calls: []string{"Save"}, do: func(t *testing.T, _ *leasingStore, _ *session.Manager, s *session.Session, _ string) {
			check(t, note.Set(s, "y"))
		}},
		{name: "this request has stored one", sent: true, do: func(t *testing.T, _ *leasingStore, _ *session.Manager, s *session.Session, _ string) {
			check(t, errors.Join(note.Set(s, "y"), s.Save(ctx)))
		}},
		{name: "a login", calls: []string{"Load"}, do: func(t *testing.T, _ *leasingStore, m *session.Manager, _ *session.Session, token string) {
			loggedIn(t, m, token)
		}},
		{name: "a rotation", calls: []string{"Load"}, do: func(t *testing.T, _ *leasingStore, m *session.Manager, _ *session.Session, token string) {
			rotated(t, m, token)
		}},
		{name: "a login, and a change that is too late", code: http.StatusConflict, calls: []string{"Save", "End", "Load"},
			do: func(t *testing.T, _ *leasingStore, m *session.Manager, s *session.Session, token string) {
				loggedIn(t, m, token)
				check(t, note.Set(s, "y"))
			}},
		{name: "a logout", calls: []string{"Load"}, do: func(t *testing.T, _ *leasingStore, m *session.Manager, _ *session.Session, token string) {
			check(t, open(t, m, token).Destroy(ctx))
		}},
		{name: "this request logs out", cleared: true, do: func(t *testing.T, _ *leasingStore, _ *session.Manager, s *session.Session, _ string) {
			check(t, s.Destroy(ctx))
		}},
		{name: "this request logs out, and gets a new session", cleared: true, again: true, do: func(t *testing.T, _ *leasingStore, _ *session.Manager, s *session.Session, _ string) {
			check(t, s.Destroy(ctx))
		}},
		{name: "the store fails", calls: []string{"Load"}, do: func(_ *testing.T, b *leasingStore, _ *session.Manager, _ *session.Session, _ string) {
			b.failing("Load", errStore)
		}},
		{name: "the store hangs", calls: []string{"Load"}, do: func(_ *testing.T, b *leasingStore, _ *session.Manager, _ *session.Session, _ string) {
			b.hanging("Load")
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var b leasingStore
				m := ways[0].manager(t, &b, session.Config{})
				old := begin(t, m, map[string]any{"note": "x"})
				time.Sleep(renewAfter)
				token := sent(visit(m, "GET", old, read(m)))
				w := visit(m, "GET", old, func(w http.ResponseWriter, r *http.Request) {
					s, err := m.Get(r.Context())
					check(t, err)
					time.Sleep(time.Minute)
					if tt.do != nil {
						tt.do(t, &b, m, s, token)
					}
					if tt.again {
						s, err = m.Get(r.Context())
						if check(t, err); !s.IsNew() {
							t.Error("the session is not new")
						}
					}
					b.took()
				})
				if got := len(w.Result().Cookies()) == 1 && w.Result().Cookies()[0].MaxAge < 0; got != tt.cleared {
					t.Errorf("cookies %v", w.Result().Cookies())
				}
				if tt.code == 0 {
					tt.code = http.StatusOK
				}
				if got := sent(w); w.Code != tt.code || (got != "") != tt.sent || tt.sent && got != token {
					t.Errorf("status %d, token %q", w.Code, got)
				}
				if tt.name != "a login, and a change that is too late" || len(b.calls) < 2 {
					b.wantCalls(t, tt.calls...)
				}
			})
		})
	}
}

// TestLongRequestUnderAnOldID: its session stays alive under the new ID, although
// nobody else uses it.
func TestLongRequestUnderAnOldID(t *testing.T) {
	for _, work := range []time.Duration{20 * time.Minute, 3 * time.Hour, 12 * time.Hour} {
		for _, renewals := range []int{0, 1, 3} {
			t.Run(fmt.Sprintf("%v, %d renewals", work, renewals), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var b leasingStore
					m := newManager(t, &b, session.Config{RenewAfter: 5 * time.Minute, IdleTimeout: 30 * time.Minute, AbsoluteTimeout: 24 * time.Hour})
					token := begin(t, m, map[string]any{"note": "x"})
					fresh := token
					w := visit(m, "POST", token, func(w http.ResponseWriter, r *http.Request) {
						s, err := m.Get(r.Context())
						check(t, err)
						for range renewals {
							time.Sleep(6 * time.Minute)
							if fresh = sent(visit(m, "GET", fresh, read(m))); fresh == "" {
								t.Fatal("not renewed")
							}
						}
						time.Sleep(work)
						check(t, errOf(counter.Update(s, inc)))
					})
					if w.Code != http.StatusOK || renewals > 0 && sent(w) == "" {
						t.Fatalf("status %d, token %q", w.Code, sent(w))
					}
					if sent(w) != "" {
						fresh = sent(w)
					}
					wantValue(t, m, fresh, "counter", 1)
				})
			})
		}
	}
}

// TestLockAfterARenewal: a session that was opened without a lock gets one under
// the new ID.
func TestLockAfterARenewal(t *testing.T) {
	for _, w := range ways[4:] {
		for _, lockName := range []string{"LockingBackend", "Locker"} {
			w.lock, w.mode, w.safe = lockName, session.Merge, 0
			t.Run(lockName, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var b leasingStore
					m := w.manager(t, &b, session.Config{})
					locking, err := m.With(session.Route{Mode: session.Exclusive})
					check(t, err)
					token := begin(t, m, map[string]any{"note": "x"})
					time.Sleep(renewAfter)
					fresh := ""
					r := visit(m, "POST", token, func(w http.ResponseWriter, r *http.Request) {
						s, err := m.Get(r.Context())
						check(t, errors.Join(err, errOf(counter.Update(s, inc))))
						fresh = sent(visit(m, "POST", token, write(m)))
						locking.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
							s, err := locking.Get(r.Context())
							check(t, err)
							if n, err := counter.Get(s); n != 2 || err != nil {
								t.Errorf("the counter is %d, %v", n, err)
							}
							// It is locked, under the new ID.
							done := make(chan time.Duration)
							go func() {
								start := time.Now()
								page(t, visit(m, "POST", fresh, locking.HandlerFunc(func(_ http.ResponseWriter, _ *http.Request, s *session.Session) error {
									return errOf(counter.Update(s, inc))
								}).ServeHTTP), "")
								done <- time.Since(start)
							}()
							time.Sleep(3 * time.Second)
							check(t, s.Save(r.Context()))
							if waited := <-done; waited < 3*time.Second {
								t.Errorf("another request waited for %v", waited)
							}
						})).ServeHTTP(w, r)
					})
					if page(t, r, ""); sent(r) != fresh {
						t.Errorf("token %q, want %q", sent(r), fresh)
					}
					wantValue(t, m, fresh, "counter", 3)
					// What is left under the old ID is not locked.
					start := time.Now()
					page(t, visit(m, "GET", token, locking.HandlerFunc(func(http.ResponseWriter, *http.Request, *session.Session) error {
						return nil
					}).ServeHTTP), "")
					if waited := time.Since(start); waited != 0 {
						t.Errorf("a request under the old ID waited for %v", waited)
					}
				})
			})
		}
	}
}

// TestLogoutAfterRenewals: a logout under an ID that is still known ends the session
// wherever it is now, in a request that was in flight or comes later, and in one that
// goes on under the new ID.
func TestLogoutAfterRenewals(t *testing.T) {
	for _, renewals := range []int{1, 2, 5, 8} {
		for _, how := range []string{"in flight", "in the overlap", "later", "in flight, behind a login", "later, behind a login"} {
			for _, w := range ways {
				switch {
				case w.mode == session.Exclusive && (how == "in flight" || how == "in flight, behind a login"):
					continue // the session is locked
				case renewals == 8 && (how == "in flight, behind a login" || how == "later, behind a login"):
					continue // the first ID is not known any more
				}
				t.Run(fmt.Sprintf("%d, %s, %s", renewals, how, w.name), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						var b leasingStore
						m := w.manager(t, &b, session.Config{})
						token := begin(t, m, map[string]any{"note": "x"})
						fresh := token
						renew := func() {
							for range renewals {
								time.Sleep(renewAfter)
								if fresh = sent(visit(m, "GET", fresh, read(m))); fresh == "" {
									t.Fatal("not renewed")
								}
							}
						}
						var r *httptest.ResponseRecorder
						switch how {
						case "in flight", "in flight, behind a login":
							r = visit(m, "POST", token, m.HandlerFunc(func(_ http.ResponseWriter, r *http.Request, s *session.Session) error {
								renew()
								if how != "in flight" {
									fresh = loggedIn(t, m, fresh)
								}
								return s.Destroy(r.Context())
							}).ServeHTTP)
						default:
							renew()
							switch how {
							case "in the overlap":
								time.Sleep(10 * time.Second)
							case "later":
								time.Sleep(10 * time.Minute)
							case "later, behind a login":
								time.Sleep(10 * time.Minute)
								fresh = loggedIn(t, m, fresh)
							}
							r = visit(m, "POST", token, logout(m))
						}
						if page(t, r, ""); sent(r) != "" || len(r.Result().Cookies()) != 1 {
							t.Errorf("the cookie is not taken away: %v", r.Result().Cookies())
						}
						if n := sessions(t, &b); n != 0 {
							t.Errorf("%d sessions are left", n)
						}
						for _, token := range []string{token, fresh} {
							if _, err := m.Open(ctx, token); !errors.Is(err, session.ErrNotFound) {
								t.Errorf("after the logout: %v", err)
							}
						}
						// A straggler revives nothing.
						w := visit(m, "GET", fresh, read(m))
						if page(t, w, ""); sent(w) != "" {
							t.Error("a straggler gets a token")
						}
					})
				})
			}
		}
	}
}

// TestOpenUnderAnOldID: the same outside of HTTP, for a session that was opened
// before the renewal, and for one that is opened after it.
func TestOpenUnderAnOldID(t *testing.T) {
	for _, mode := range []session.Mode{session.Merge, session.LastWrite, session.ReadOnly} {
		t.Run(mode.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var events events
				m := newManager(t, &memory.Backend{}, session.Config{RenewAfter: renewAfter, Observer: &events})
				view, err := m.With(session.Route{Mode: mode})
				check(t, err)
				token := begin(t, m, map[string]any{"note": "x"})
				before := open(t, view, token)
				time.Sleep(renewAfter)
				fresh := sent(visit(m, "GET", token, read(m)))
				after := open(t, view, token)
				if !events.saw(observe.EventTokenRenewed) || after.Token().Reveal() != fresh || before.Token().Reveal() != token {
					t.Errorf("they have the tokens %q and %q", before.Token().Reveal(), after.Token().Reveal())
				}
				check(t, before.Save(ctx)) // moves the deadline
				for _, s := range []*session.Session{before, after} {
					if mode == session.ReadOnly {
						wantErr(t, counter.Set(s, 1), session.ErrReadOnly)
						check(t, s.Close(ctx))
						continue
					}
					check(t, errors.Join(errOf(counter.Update(s, inc)), finish(m, s)))
					if s.Token().Reveal() != fresh {
						t.Error("it has not gone on under the new ID")
					}
				}
				if mode == session.Merge {
					wantValue(t, m, fresh, "counter", 2)
				}
			})
		})
	}
}

// TestHeaderOfARenewal: where the token travels in a header, so does the new one. A
// persistent cookie keeps its end.
func TestHeaderOfARenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, &memory.Backend{}, session.Config{RenewAfter: renewAfter, Header: "Session-Token"})
		token := begin(t, m, map[string]any{"note": "x"})
		time.Sleep(renewAfter)
		for range 2 {
			r := httptest.NewRequest("GET", "/", nil)
			r.Header.Set("Session-Token", token)
			w := httptest.NewRecorder()
			read(m)(w, r)
			if got := w.Header().Get("Session-Token"); got == "" || got == token {
				t.Errorf("header %q", got)
			} else {
				wantValue(t, m, got, "note", "x")
			}
		}
		m = newManager(t, &memory.Backend{}, session.Config{RenewAfter: renewAfter, Cookie: session.Cookie{Persistent: true}})
		token = begin(t, m, map[string]any{"note": "x"})
		time.Sleep(renewAfter)
		for _, c := range visit(m, "GET", token, read(m)).Result().Cookies() {
			if c.MaxAge != int((23 * time.Hour).Seconds()) {
				t.Errorf("cookie %v", c)
			}
		}
	})
}

// TestClientLeavesDuringRenewal: it only has the old ID, which stays good.
func TestClientLeavesDuringRenewal(t *testing.T) {
	for _, changed := range []bool{false, true} {
		for _, nth := range []int{1, 2} {
			synctest.Test(t, func(t *testing.T) {
				var b leasingStore
				m := ways[0].manager(t, &b, session.Config{})
				token := begin(t, m, map[string]any{"note": "x"})
				time.Sleep(renewAfter)
				life, cancel := context.WithCancel(ctx)
				n := 0
				b.after = func(op string) error {
					if op == "Save" {
						if n++; n == nth {
							cancel()
						}
					}
					return nil
				}
				h := read
				if changed {
					h = write
				}
				w := httptest.NewRecorder()
				h(m)(w, request(token).WithContext(life))
				b.healthy()
				page(t, w, "x")
				if (sent(w) != "") != (nth == 2) {
					t.Errorf("token %q", sent(w))
				}
				w = visit(m, "GET", token, read(m))
				if page(t, w, "x"); sent(w) == "" {
					t.Error("not renewed by the next response")
				}
				want := 0
				if changed {
					want = 1
				}
				wantValue(t, m, sent(w), "counter", want)
				if n := sessions(t, &b); n != 1 {
					t.Errorf("%d sessions", n)
				}
			})
		}
	}
}

// TestRotationOvertakenByARenewal: it is not known whether a rotation was stored, and
// another request renews the ID before that is found out. Then it has failed, and is
// done under the new ID.
func TestRotationOvertakenByARenewal(t *testing.T) {
	for name, do := range map[string]func(s *session.Session) error{
		"rotate": func(s *session.Session) error { return s.Rotate() },
		"login":  func(s *session.Session) error { return s.Login("ann") },
	} {
		for _, mode := range []session.Mode{session.Merge, session.LastWrite} {
			t.Run(fmt.Sprintf("%s, %v", name, mode), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var b leasingStore
					m := ways[0].manager(t, &b, session.Config{})
					view, err := m.With(session.Route{Mode: mode})
					check(t, err)
					token := begin(t, m, map[string]any{"note": "x"})
					s := open(t, view, token)
					check(t, errors.Join(errOf(counter.Update(s, inc)), do(s)))
					saves := 0
					b.before = func(_ context.Context, op string) error {
						if op == "Save" {
							if saves++; saves > 1 {
								return errStore // the marker does not reach the store
							}
						}
						return nil
					}
					wantErr(t, s.Save(ctx), errStore)
					b.healthy()
					time.Sleep(renewAfter)
					fresh := sent(visit(m, "POST", token, write(m)))
					if fresh == "" {
						t.Fatal("not renewed")
					}
					check(t, s.Save(ctx))
					got := s.Token().Reveal()
					if got == fresh || got == token {
						t.Error("it has no new ID")
					}
					want := 2
					if mode == session.LastWrite {
						want = 1
					}
					wantValue(t, m, got, "counter", want)
					wantValue(t, m, got, "note", "x")
					if _, err := m.Open(ctx, fresh); !errors.Is(err, session.ErrNotFound) {
						t.Errorf("the ID before opens: %v", err)
					}
					if n := sessions(t, &b); n != 1 {
						t.Errorf("%d sessions", n)
					}
				})
			})
		}
	}
}

// TestLoginAfterAnUnknownRotation gets an ID of its own, and a new beginning.
func TestLoginAfterAnUnknownRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b store
		m := newManager(t, &b, session.Config{})
		s := open(t, m, begin(t, m, map[string]any{"note": "x"}))
		check(t, s.Rotate())
		b.losingAndDown(2)
		wantErr(t, s.Save(ctx), errStore)
		b.healthy()
		time.Sleep(time.Minute)
		check(t, s.Login("ann"))
		b.took()
		check(t, s.Save(ctx))
		b.wantCalls(t, "Save", "Load", "Save", "Save") // to settle it, and to log in
		if !s.Created().Equal(time.Now()) {
			t.Errorf("it began %v ago", time.Since(s.Created()))
		}
		wantValue(t, m, s.Token().Reveal(), "note", "x")
	})
}

// TestRenewalInModeLastWrite has nothing of its own to store, and replaces nothing.
func TestRenewalInModeLastWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b leasingStore
		m := ways[1].manager(t, &b, session.Config{})
		other := newManager(t, &b, session.Config{IdleTimeout: 24 * time.Hour})
		token := begin(t, m, map[string]any{"note": "x"})
		time.Sleep(renewAfter)
		w := visit(m, "GET", token, m.HandlerFunc(func(_ http.ResponseWriter, _ *http.Request, s *session.Session) error {
			wrote(t, other, token)
			return nil
		}).ServeHTTP)
		if page(t, w, ""); sent(w) == "" {
			t.Fatal("not renewed")
		}
		wantValue(t, m, sent(w), "counter", 1)
		wantValue(t, m, sent(w), "note", "x")
	})
}

// TestFollowToALockedSession: a request in flight finds its session under the new ID,
// locked, and waits until it is free.
func TestFollowToALockedSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b leasingStore
		m := ways[0].manager(t, &b, session.Config{})
		locking, err := m.With(session.Route{Mode: session.Exclusive})
		check(t, err)
		token := begin(t, m, map[string]any{"note": "x"})
		time.Sleep(renewAfter)
		s := open(t, m, token)
		check(t, errOf(counter.Update(s, inc)))
		fresh := sent(visit(m, "POST", token, write(m)))
		holder := open(t, locking, fresh)
		check(t, errOf(counter.Update(holder, inc)))
		go func() {
			time.Sleep(3 * time.Second)
			check(t, finish(m, holder))
		}()
		check(t, s.Save(ctx))
		if s.Token().Reveal() != fresh {
			t.Error("it has another token")
		}
		wantValue(t, m, fresh, "counter", 3)
	})
}
