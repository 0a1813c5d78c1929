//go:build go1.25

package session_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/admin"
	"github.com/seed-a7bee19b/session/lock"
	"github.com/seed-a7bee19b/session/observe"
)

const renewAfter = time.Hour

// A way is a store and a mode in which sessions are renewed.
type way struct {
	name string
	mode session.Mode
	safe session.Mode
	lock string // "LockingBackend" or "Locker"
}

var ways = []way{
	{"Merge", session.Merge, 0, "LockingBackend"},
	{"LastWrite", session.LastWrite, 0, "LockingBackend"},
	{"Exclusive", session.Exclusive, 0, "LockingBackend"},
	{"Exclusive, SafeMode Merge", session.Exclusive, session.Merge, "LockingBackend"},
	{"Exclusive with a Locker", session.Exclusive, 0, "Locker"},
	{"Exclusive with a Locker, SafeMode Merge", session.Exclusive, session.Merge, "Locker"},
}

// eachWay runs f in a bubble for each of them. The timeouts leave room for some
// renewals.
func eachWay(t *testing.T, f func(t *testing.T, w way, b *leasingStore, m *session.Manager)) {
	for _, w := range ways {
		t.Run(w.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var b leasingStore
				f(t, w, &b, w.manager(t, &b, session.Config{}))
			})
		})
	}
}

// manager returns a Manager over b that renews.
func (w way) manager(t testing.TB, b *leasingStore, cfg session.Config) *session.Manager {
	t.Helper()
	cfg.Mode, cfg.SafeMode = w.mode, w.safe
	cfg.IdleTimeout, cfg.AbsoluteTimeout = 24*time.Hour, 240*time.Hour
	if cfg.RenewAfter == 0 {
		cfg.RenewAfter = renewAfter
	}
	var backend session.Backend = b
	if w.lock == "Locker" {
		backend, cfg.Lock.Locker = plain{b}, &lock.Local{}
	}
	return newManager(t, backend, cfg)
}

// read is a handler that only reads, and write one that counts.
func read(m *session.Manager) http.HandlerFunc {
	return m.HandlerFunc(func(w http.ResponseWriter, _ *http.Request, s *session.Session) error {
		got, err := note.Get(s)
		_, werr := fmt.Fprint(w, got)
		return errors.Join(err, werr)
	}).ServeHTTP
}

func write(m *session.Manager) http.HandlerFunc {
	return m.HandlerFunc(func(w http.ResponseWriter, _ *http.Request, s *session.Session) error {
		got, err := note.Get(s)
		return errors.Join(err, errOf(counter.Update(s, inc)), errOf(fmt.Fprint(w, got)))
	}).ServeHTTP
}

// sessions counts the records that are no markers, and fails the test if one of the
// secrets can be read in the store.
func sessions(t testing.TB, b *leasingStore, secrets ...string) int {
	t.Helper()
	n := 0
	_, err := b.List(ctx, admin.ListOptions{DataWith: "_session"}, func(e admin.Entry) error {
		for _, secret := range secrets {
			if strings.Contains(e.Data+e.Key, secret) {
				t.Error("a token is in the store")
			}
		}
		if e.Expires.After(time.Now()) && !strings.Contains(e.Data, "_session.moved") {
			n++
		}
		return nil
	})
	check(t, err)
	return n
}

// page fails the test unless a response is a page with this body.
func page(t testing.TB, w *httptest.ResponseRecorder, body string) {
	t.Helper()
	if w.Code != http.StatusOK || w.Body.String() != body {
		t.Fatalf("status %d, body %q, want %q", w.Code, w.Body, body)
	}
}

// TestRenewal: a session gets a new ID when the old one is old. For a while the old
// one still opens it, and hands out the new token again.
func TestRenewal(t *testing.T) {
	for _, method := range []string{"GET", "POST"} {
		for _, h := range []struct {
			name    string
			handler func(m *session.Manager) http.HandlerFunc
			writes  int
		}{{"read", read, 0}, {"write", write, 1}} {
			eachWay(t, func(t *testing.T, _ way, b *leasingStore, m *session.Manager) {
				token := begin(t, m, map[string]any{"note": "x"})
				created := open(t, m, token).Created()
				writes := 0
				secrets := []string{token}
				renewed := time.Now()
				for range 3 {
					time.Sleep(time.Until(renewed.Add(renewAfter - time.Second)))
					w := visit(m, method, token, h.handler(m))
					if page(t, w, "x"); sent(w) != "" {
						t.Fatalf("%s: renewed too early", h.name)
					}
					time.Sleep(2 * time.Second)
					w = visit(m, method, token, h.handler(m))
					page(t, w, "x")
					fresh := sent(w)
					renewed = time.Now()
					if fresh == "" || fresh == token {
						t.Fatalf("%s: not renewed", h.name)
					}
					if cc := w.Header().Get("Cache-Control"); cc != "no-store" {
						t.Errorf("Cache-Control %q", cc)
					}
					secrets = append(secrets, fresh)
					writes += 2 * h.writes
					if n := sessions(t, b, secrets...); n != 1 {
						t.Errorf("%d sessions", n)
					}
					for range 2 { // the answer was lost
						time.Sleep(10 * time.Second)
						w = visit(m, method, token, h.handler(m))
						if page(t, w, "x"); sent(w) != fresh {
							t.Errorf("%s: under the old ID, the response has the token %q", h.name, sent(w))
						}
						writes += h.writes
					}
					s := open(t, m, token)
					if s.Token().Reveal() != fresh || !s.Created().Equal(created) {
						t.Error("Open under the old ID opens another session")
					}
					check(t, s.Close(ctx))
					w = visit(m, method, fresh, h.handler(m))
					if page(t, w, "x"); sent(w) != "" {
						t.Error("a token is sent to a client that has it")
					}
					writes += h.writes
					time.Sleep(11 * time.Second) // the overlap is over
					if _, err := m.Open(ctx, token); !errors.Is(err, session.ErrNotFound) {
						t.Errorf("after the overlap: %v", err)
					}
					w = visit(m, method, token, read(m))
					if page(t, w, ""); sent(w) != "" {
						t.Error("after the overlap, the old ID has a session")
					}
					token = fresh
				}
				wantValue(t, m, token, "counter", writes)
			})
		}
	}
}

// TestRenewalCosts: two Saves, of which one is that of the changes.
func TestRenewalCosts(t *testing.T) {
	for _, tt := range []struct {
		way            way
		method         string
		read, write    []string // that renew
		follow, saving []string // under the old ID
	}{
		{ways[0], "GET", []string{"Load", "Save", "Save"}, []string{"Load", "Save", "Save"}, []string{"Load", "Load", "Load"}, []string{"Load", "Load", "Save"}},
		{ways[1], "GET", []string{"Load", "Save", "Save"}, []string{"Load", "Save", "Save"}, []string{"Load", "Load", "Load"}, []string{"Load", "Load", "Save"}},
		{ways[2], "GET", []string{"Acquire", "Save", "Save"}, []string{"Acquire", "Save", "Save"},
			[]string{"Acquire", "Release", "Acquire", "Release", "Load"}, []string{"Acquire", "Release", "Acquire", "Save"}},
		{ways[3], "GET", []string{"Load", "Save", "Save"}, []string{"Load", "Save", "Save"}, []string{"Load", "Load", "Load"}, []string{"Load", "Load", "Save"}},
		// The store of a Locker is not asked for locks.
		{ways[4], "GET", []string{"Load", "Save", "Save"}, []string{"Load", "Save", "Save"}, []string{"Load", "Load", "Load"}, []string{"Load", "Load", "Save"}},
		{ways[5], "GET", []string{"Load", "Load", "Save", "Save"}, []string{"Load", "Load", "Save", "Save"}, []string{"Load", "Load", "Load"}, []string{"Load", "Load", "Save"}},
		{ways[5], "POST", []string{"Load", "Save", "Save"}, []string{"Load", "Save", "Save"}, []string{"Load", "Load", "Load"}, []string{"Load", "Load", "Save"}},
	} {
		t.Run(tt.way.name+" "+tt.method, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var b leasingStore
				m := tt.way.manager(t, &b, session.Config{})
				for want, h := range map[*[]string]func(*session.Manager) http.HandlerFunc{&tt.read: read, &tt.write: write} {
					token := begin(t, m, map[string]any{"note": "x"})
					time.Sleep(renewAfter)
					b.took()
					page(t, visit(m, tt.method, token, h(m)), "x")
					b.wantCalls(t, *want...)
					page(t, visit(m, tt.method, token, read(m)), "x")
					b.wantCalls(t, tt.follow...)
					page(t, visit(m, tt.method, token, write(m)), "x")
					b.wantCalls(t, tt.saving...)
				}
			})
		})
	}
}

// TestMarkersOfRenewalsDoNotPileUp: a session leaves eight, and the ninth renewal
// deletes the oldest.
func TestMarkersOfRenewalsDoNotPileUp(t *testing.T) {
	eachWay(t, func(t *testing.T, w way, b *leasingStore, m *session.Manager) {
		token := begin(t, m, map[string]any{"note": "x"})
		var tokens []string
		for i := range 20 {
			tokens = append(tokens, token)
			time.Sleep(renewAfter)
			b.took()
			token = sent(visit(m, "GET", token, read(m)))
			calls := b.took()
			if deleted := count(calls, "Delete"); deleted != 0 && i < 8 || deleted != 1 && i >= 8 {
				t.Errorf("renewal %d: %v", i+1, calls)
			}
			if n := b.Len(); n != min(i+2, 9) {
				t.Errorf("%d records after %d renewals", n, i+1)
			}
		}
		// Each of the old IDs that is still known can log out.
		page(t, visit(m, "POST", tokens[len(tokens)-8], logout(m)), "")
		if n := sessions(t, b); n != 0 {
			t.Errorf("after a logout under an old ID, %d sessions are left", n)
		}
	})
}

// takenOver is a recorder whose connection a handler can take over.
type takenOver struct{ *httptest.ResponseRecorder }

func (w takenOver) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, _ := net.Pipe()
	return conn, nil, nil
}

// TestNotRenewed: responses that leave the ID as it is.
func TestNotRenewed(t *testing.T) {
	gone := func(m *session.Manager, token string) *httptest.ResponseRecorder {
		life, cancel := context.WithCancel(ctx)
		w := httptest.NewRecorder()
		m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if _, err := m.Get(r.Context()); err != nil {
				m.Error(w, r, err)
			}
			cancel()
		})).ServeHTTP(w, request(token).WithContext(life))
		return w
	}
	for _, tt := range []struct {
		name  string
		after time.Duration
		cfg   session.Config
		do    func(m *session.Manager, token string) *httptest.ResponseRecorder
		calls []string
	}{
		{name: "the ID is not old", after: renewAfter - time.Second},
		{name: "mode ReadOnly", cfg: session.Config{Mode: session.ReadOnly}},
		{name: "SafeMode ReadOnly", cfg: session.Config{SafeMode: session.ReadOnly}},
		{name: "the client has gone", do: gone},
		{name: "the handler does not ask for the session", calls: []string{}, do: func(m *session.Manager, token string) *httptest.ResponseRecorder {
			return visit(m, "GET", token, func(http.ResponseWriter, *http.Request) {})
		}},
		{name: "it asks for it when the response has started", do: func(m *session.Manager, token string) *httptest.ResponseRecorder {
			return visit(m, "GET", token, func(w http.ResponseWriter, r *http.Request) {
				w.WriteHeader(http.StatusOK)
				if _, err := m.Get(r.Context()); err != nil {
					panic(err)
				}
			})
		}},
		{name: "it is taken over", do: func(m *session.Manager, token string) *httptest.ResponseRecorder {
			w := httptest.NewRecorder()
			m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if _, err := m.Get(r.Context()); err != nil {
					panic(err)
				}
				_, _, _ = w.(http.Hijacker).Hijack()
			})).ServeHTTP(takenOver{w}, request(token))
			return w
		}},
		{name: "the session is destroyed", calls: []string{"Load", "End"}, do: func(m *session.Manager, token string) *httptest.ResponseRecorder {
			return visit(m, "POST", token, logout(m))
		}},
		{name: "the handler panics", do: func(m *session.Manager, token string) *httptest.ResponseRecorder {
			w := httptest.NewRecorder()
			func() {
				defer func() { _ = recover() }()
				m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					_, _ = m.Get(r.Context())
					panic("a bug")
				})).ServeHTTP(w, request(token))
			}()
			return w
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var b leasingStore
				m := newManager(t, &b, session.Config{})
				token := begin(t, m, map[string]any{"note": "x"})
				cfg := tt.cfg
				cfg.RenewAfter, cfg.TouchInterval = renewAfter, 2*time.Hour-1
				m = newManager(t, &b, cfg)
				if tt.after == 0 {
					tt.after = renewAfter + time.Second
				}
				time.Sleep(tt.after)
				b.took()
				if tt.do == nil {
					tt.do = func(m *session.Manager, token string) *httptest.ResponseRecorder {
						return visit(m, "GET", token, read(m))
					}
				}
				if w := tt.do(m, token); sent(w) != "" {
					t.Error("a token is sent")
				}
				if tt.calls == nil {
					tt.calls = []string{"Load"}
				}
				if got := b.took(); !slices.Equal(got, tt.calls) {
					t.Errorf("calls %v, want %v", got, tt.calls)
				}
			})
		})
	}
}

// TestLockedSessionIsNotRenewed: a page does not wait for a lock in order to renew
// an ID, and the holder of the lock finds its session under the old one.
func TestLockedSessionIsNotRenewed(t *testing.T) {
	for _, w := range ways[3:] {
		if w.safe == 0 {
			continue
		}
		t.Run(w.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var b leasingStore
				m := w.manager(t, &b, session.Config{Lock: session.LockConfig{MaxHold: time.Hour}})
				token := begin(t, m, map[string]any{"note": "x"})
				time.Sleep(renewAfter)
				post := visit(m, "POST", token, func(rw http.ResponseWriter, r *http.Request) {
					s, err := m.Get(r.Context())
					check(t, err)
					start := time.Now()
					b.took()
					get := visit(m, "GET", token, read(m))
					if page(t, get, "x"); sent(get) != "" || time.Since(start) != 0 {
						t.Errorf("token %q, after %v", sent(get), time.Since(start))
					}
					b.wantCalls(t, "Load")
					check(t, errOf(counter.Update(s, inc)))
				})
				if page(t, post, ""); sent(post) == "" {
					t.Error("the holder of the lock does not renew the ID")
				}
				wantValue(t, m, sent(post), "counter", 1)
				if n := sessions(t, &b); n != 1 {
					t.Errorf("%d sessions", n)
				}
			})
		})
	}
}

// TestLockerIsFreeAfterARenewal: a request under the old ID that locks need not wait.
func TestLockerIsFreeAfterARenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b leasingStore
		m := ways[5].manager(t, &b, session.Config{})
		token := begin(t, m, map[string]any{"note": "x"})
		time.Sleep(renewAfter)
		start := time.Now()
		fresh := sent(visit(m, "GET", token, read(m)))
		for _, token := range []string{token, fresh} {
			page(t, visit(m, "POST", token, write(m)), "x")
		}
		if took := time.Since(start); fresh == "" || took != 0 {
			t.Errorf("token %q, after %v", fresh, took)
		}
	})
}

// TestRenewalWaitsForNobody: a page that only reads is served at once while another
// request stores the session.
func TestRenewalWaitsForNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b leasingStore
		m := ways[0].manager(t, &b, session.Config{})
		token := begin(t, m, map[string]any{"note": "x"})
		time.Sleep(renewAfter)
		b.before = func(_ context.Context, op string) error {
			if op == "Save" {
				time.Sleep(time.Second)
			}
			return nil
		}
		slow := make(chan *httptest.ResponseRecorder)
		go func() { slow <- visit(m, "POST", token, write(m)) }()
		synctest.Wait()
		start := time.Now()
		w := visit(m, "GET", token, read(m))
		if page(t, w, "x"); sent(w) != "" || time.Since(start) != 0 {
			t.Errorf("token %q, after %v", sent(w), time.Since(start))
		}
		if w = <-slow; w.Code != http.StatusOK || sent(w) == "" {
			t.Errorf("the slow one: status %d, token %q", w.Code, sent(w))
		}
	})
}

// TestRenewalsRest: after one has failed, the pages of the next seconds do not try.
func TestRenewalsRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b leasingStore
		m := ways[0].manager(t, &b, session.Config{})
		token := begin(t, m, map[string]any{"note": "x"})
		time.Sleep(renewAfter)
		b.hanging("Save")
		start := time.Now()
		page(t, visit(m, "GET", token, read(m)), "x")
		if took := time.Since(start); took != m.Config().CommitTimeout/10 {
			t.Errorf("the first page took %v", took)
		}
		b.took()
		page(t, visit(m, "GET", token, read(m)), "x")
		b.wantCalls(t, "Load")
		b.healthy()
		time.Sleep(6 * time.Second)
		w := visit(m, "GET", token, read(m))
		if page(t, w, "x"); sent(w) == "" {
			t.Error("not renewed when the store has recovered")
		}
	})
}

// TestAgeOfAnID counts from when the session got it.
func TestAgeOfAnID(t *testing.T) {
	for name, renew := range map[string]func(testing.TB, *session.Manager, string) string{"login": loggedIn, "rotation": rotated} {
		eachWay(t, func(t *testing.T, _ way, b *leasingStore, m *session.Manager) {
			token := begin(t, m, map[string]any{"note": "x"})
			for range 3 {
				time.Sleep(renewAfter - time.Minute)
				token = renew(t, m, token)
				time.Sleep(renewAfter - time.Second)
				w := visit(m, "GET", token, read(m))
				if page(t, w, "x"); sent(w) != "" {
					t.Fatalf("renewed too early after a %s", name)
				}
				time.Sleep(time.Second)
				w = visit(m, "POST", token, write(m))
				if token = sent(w); token == "" {
					t.Fatalf("not renewed in time after a %s", name)
				}
			}
		})
	}
}

// TestLockerThatIsNotAsked: a process without a route that locks renews the ID of a
// session that another process has locked. The holder goes on under the new one.
func TestLockerThatIsNotAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b leasingStore
		m := ways[4].manager(t, &b, session.Config{})
		other := newManager(t, plain{&b}, session.Config{RenewAfter: renewAfter, Lock: session.LockConfig{Locker: &lock.Local{}}})
		token := begin(t, m, map[string]any{"note": "x"})
		time.Sleep(renewAfter)
		fresh := ""
		post := visit(m, "POST", token, func(_ http.ResponseWriter, r *http.Request) {
			s, err := m.Get(r.Context())
			check(t, errors.Join(err, errOf(counter.Update(s, inc))))
			fresh = sent(visit(other, "POST", token, write(other)))
		})
		if page(t, post, ""); fresh == "" || sent(post) != fresh {
			t.Errorf("tokens %q and %q", fresh, sent(post))
		}
		wantValue(t, m, fresh, "counter", 2)
	})
}

// TestRequestInFlightDuringRenewal: a request that has opened the session under the
// old ID goes on with it, however long it takes.
func TestRequestInFlightDuringRenewal(t *testing.T) {
	type handler = func(t *testing.T, m *session.Manager, w http.ResponseWriter, r *http.Request, s *session.Session)
	update := func(t *testing.T, _ *session.Manager, _ http.ResponseWriter, _ *http.Request, s *session.Session) {
		check(t, errOf(counter.Update(s, inc)))
	}
	for _, tt := range []struct {
		name    string
		f       handler
		counter int // as stored in the end; the renewal stores 1
		unsent  bool
		user    string
		ended   bool
		fresh   bool // it gets yet another ID
	}{
		{name: "update", f: update, counter: 2},
		{name: "read", f: func(*testing.T, *session.Manager, http.ResponseWriter, *http.Request, *session.Session) {}, counter: 1},
		{name: "save twice", counter: 3, f: func(t *testing.T, m *session.Manager, w http.ResponseWriter, r *http.Request, s *session.Session) {
			update(t, m, w, r, s)
			check(t, s.Save(r.Context()))
			update(t, m, w, r, s)
		}},
		{name: "when the response has started", counter: 2, unsent: true, f: func(t *testing.T, m *session.Manager, w http.ResponseWriter, r *http.Request, s *session.Session) {
			w.WriteHeader(http.StatusOK)
			time.Sleep(5 * time.Second)
			update(t, m, w, r, s)
		}},
		{name: "rotate", counter: 1, fresh: true, f: func(t *testing.T, _ *session.Manager, _ http.ResponseWriter, _ *http.Request, s *session.Session) {
			check(t, s.Rotate())
		}},
		{name: "login", counter: 2, fresh: true, user: "ann", f: func(t *testing.T, m *session.Manager, w http.ResponseWriter, r *http.Request, s *session.Session) {
			update(t, m, w, r, s)
			check(t, s.Login("ann"))
		}},
		{name: "logout", ended: true, unsent: true, f: func(t *testing.T, _ *session.Manager, _ http.ResponseWriter, r *http.Request, s *session.Session) {
			check(t, s.Destroy(r.Context()))
		}},
		{name: "close", counter: 1, unsent: true, f: func(t *testing.T, _ *session.Manager, _ http.ResponseWriter, r *http.Request, s *session.Session) {
			check(t, s.Close(r.Context()))
		}},
	} {
		for _, mode := range []session.Mode{session.Merge, session.LastWrite} {
			for _, delay := range []time.Duration{time.Second, 10 * time.Minute} {
				for _, where := range []string{"in one process", "in two", "with a Locker"} {
					t.Run(fmt.Sprintf("%s, %v, %v, %s", tt.name, mode, delay, where), func(t *testing.T) {
						synctest.Test(t, func(t *testing.T) {
							var b leasingStore
							way := ways[0]
							if where == "with a Locker" {
								way.lock = "Locker"
							}
							m := way.manager(t, &b, session.Config{})
							other := m
							switch where {
							case "in two":
								other = way.manager(t, &b, session.Config{})
							case "with a Locker": // which must not be held by others
								_, err := m.With(session.Route{Mode: session.Exclusive})
								check(t, err)
							}
							view, err := m.With(session.Route{Mode: mode})
							check(t, err)
							token := begin(t, m, map[string]any{"note": "x"})
							// Old enough when the other one responds.
							time.Sleep(renewAfter)
							fresh, early := "", tt.name == "when the response has started"
							w := visit(view, "POST", token, func(w http.ResponseWriter, r *http.Request) {
								s, err := view.Get(r.Context())
								check(t, err)
								if early { // this response would renew the ID
									view, err := m.With(session.Route{Mode: session.ReadOnly})
									check(t, err)
									view.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
										_, _ = view.Get(r.Context())
										w.WriteHeader(http.StatusOK)
									})).ServeHTTP(w, r)
								}
								fresh = sent(visit(other, "POST", token, write(other)))
								if fresh == "" {
									t.Fatal("not renewed")
								}
								time.Sleep(delay)
								tt.f(t, m, w, r, s)
							})
							if w.Code != http.StatusOK {
								t.Fatalf("status %d", w.Code)
							}
							got := sent(w)
							switch {
							case tt.unsent || early:
								if got != "" {
									t.Error("a token is sent")
								}
							case tt.fresh:
								if got == "" || got == fresh {
									t.Errorf("token %q, the other one had %q", got, fresh)
								}
								if _, err := m.Open(ctx, fresh); !errors.Is(err, session.ErrNotFound) {
									t.Errorf("the ID before opens: %v", err)
								}
								fresh = got
							case got != fresh:
								t.Errorf("token %q, want %q", got, fresh)
							}
							if tt.ended {
								if n := sessions(t, &b); n != 0 {
									t.Errorf("%d sessions are left", n)
								}
								return
							}
							want := tt.counter
							if mode == session.LastWrite && (want > 1 || tt.fresh) {
								want-- // it replaces what the other one has stored
							}
							wantValue(t, m, fresh, "counter", want)
							wantValue(t, m, fresh, "note", "x")
							if user, err := open(t, m, fresh).User(); user != tt.user || err != nil {
								t.Errorf("user %q, %v", user, err)
							}
							if n := sessions(t, &b); n != 1 {
								t.Errorf("%d sessions", n)
							}
						})
					})
				}
			}
		}
	}
}

// parallel sends requests under one token at once, and returns the responses.
func parallel(n int, send func(i int) *httptest.ResponseRecorder) []*httptest.ResponseRecorder {
	all := make([]*httptest.ResponseRecorder, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { all[i] = send(i) })
	}
	wg.Wait()
	return all
}

// TestConcurrentRenewals: of many requests at once, one renews the ID, and the
// others go on with the session.
func TestConcurrentRenewals(t *testing.T) {
	for _, w := range ways {
		for _, processes := range []int{1, 3} {
			for _, kind := range []string{"read", "write", "both"} {
				t.Run(fmt.Sprintf("%s, %d processes, %s", w.name, processes, kind), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						var b leasingStore
						cfg := session.Config{}
						if w.lock == "Locker" {
							cfg.Lock.Locker = &lock.Local{}
						}
						var managers []*session.Manager
						for range processes {
							m := w.manager(t, &b, cfg)
							if w.lock == "Locker" { // they share it
								c := m.Config()
								c.Lock.Locker = cfg.Lock.Locker
								m = newManager(t, plain{&b}, c)
							}
							managers = append(managers, m)
						}
						m := managers[0]
						token := begin(t, m, map[string]any{"note": "x", "counter": 0})
						b.distant(3 * time.Millisecond)
						writes := 0
						for range 3 {
							time.Sleep(renewAfter)
							const n = 10
							all := parallel(n, func(i int) *httptest.ResponseRecorder {
								m := managers[i%len(managers)]
								if kind == "read" || kind == "both" && i%2 == 0 {
									return visit(m, "GET", token, read(m))
								}
								return visit(m, "POST", token, write(m))
							})
							fresh := ""
							for _, w := range all {
								page(t, w, "x")
								if got := sent(w); got != "" && fresh != "" && got != fresh {
									t.Error("two responses have different tokens")
								} else if got != "" {
									fresh = got
								}
							}
							switch kind {
							case "write":
								writes += n
							case "both":
								writes += n / 2
							}
							if fresh == "" {
								t.Fatal("not renewed")
							}
							if n := sessions(t, &b); n != 1 {
								t.Errorf("%d sessions", n)
							}
							token = fresh
						}
						if w.mode != session.LastWrite {
							wantValue(t, m, token, "counter", writes)
						}
					})
				})
			}
		}
	}
}

// TestRenewalWhoseAnswerIsLost: the client comes under the old ID again, and gets
// the token. So it does where only the store's answer was lost.
func TestRenewalThatFails(t *testing.T) {
	for _, w := range ways {
		for _, op := range []struct {
			name string
			do   func(b *leasingStore)
		}{
			{"first Save", func(b *leasingStore) { b.failingNth("Save", 1) }},
			{"both Saves", func(b *leasingStore) { b.failing("Save", errStore) }},
			{"second Save", func(b *leasingStore) { b.failingNth("Save", 2) }},
			{"answer to the first Save", func(b *leasingStore) { b.losing("Save", 1) }},
			{"answer to the second Save", func(b *leasingStore) { b.losing("Save", 2) }},
			{"answer to the second Save, and then all Saves", func(b *leasingStore) { b.losingAndDown(2) }},
			{"Saves hang", func(b *leasingStore) { b.hanging("Save") }},
			{"everything but Loads and locks", func(b *leasingStore) {
				b.before = func(_ context.Context, op string) error {
					if op == "Save" || op == "Touch" || op == "Delete" || op == "End" {
						return errStore
					}
					return nil
				}
			}},
		} {
			for _, changed := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, %s, changed %v", w.name, op.name, changed), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						var b leasingStore
						var events events
						m := w.manager(t, &b, session.Config{Observer: &events})
						token := begin(t, m, map[string]any{"note": "x", "counter": 0})
						time.Sleep(renewAfter)
						op.do(&b)
						h := read(m)
						if changed {
							h = write(m)
						}
						start := time.Now()
						rec := visit(m, "GET", token, h)
						if !changed {
							page(t, rec, "x")
						}
						if took := time.Since(start); took > 6*time.Second {
							t.Errorf("the page took %v", took)
						}
						b.healthy()
						if sent(rec) == "" && !events.saw(observe.EventRenewFailed) && !events.saw(observe.EventCommitFailed) {
							t.Error("the observer is not told")
						}
						stored := 0
						if changed && rec.Code == http.StatusOK {
							stored = 1
						}
						// The client has a session, whether or not it got a token.
						for range 2 {
							if got := sent(rec); got != "" {
								token = got
							}
							time.Sleep(8 * time.Second) // the store is tried again after 5
							rec = visit(m, "GET", token, read(m))
							page(t, rec, "x")
						}
						if got := sent(rec); got != "" {
							token = got
						}
						s := open(t, m, token)
						n, err := counter.Get(s)
						check(t, errors.Join(err, s.Close(ctx)))
						if n != stored && (stored == 1 || n > 1) { // an error page does not say whether it was stored
							t.Errorf("the counter is %d, want %d", n, stored)
						}
					})
				})
			}
		}
	}
}

// failingNth makes the nth call of op fail without reaching the store.
func (s *store) failingNth(op string, nth int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.before = func(_ context.Context, o string) error {
		if o == op {
			if nth--; nth == 0 {
				return errStore
			}
		}
		return nil
	}
}

// hanging makes each call of op hang until its context ends.
func (s *store) hanging(op string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.before = func(ctx context.Context, o string) error {
		if o == op {
			<-ctx.Done()
			return ctx.Err()
		}
		return nil
	}
}
