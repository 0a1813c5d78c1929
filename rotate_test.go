package session_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/memory"
)

func request(token string) *http.Request {
	r := httptest.NewRequest("POST", "/", nil)
	r.AddCookie(&http.Cookie{Name: "__Host-session", Value: token})
	return r
}

// TestNothingBetweenTheTwoWrites ends the context while the record under the new
// ID is written. Then there is no new record, and the old one is unchanged.
func TestNothingBetweenTheTwoWrites(t *testing.T) {
	changes := map[string]func(s *session.Session) error{
		"login":  func(s *session.Session) error { return s.Login("ann") },
		"rotate": func(s *session.Session) error { return s.Rotate() },
	}
	for name, change := range changes {
		for _, mode := range []session.Mode{session.Merge, session.LastWrite, session.Exclusive} {
			for _, how := range []string{"Handler", "Save", "Save with a context of its own"} {
				t.Run(fmt.Sprintf("%s, %v, %s", name, mode, how), func(t *testing.T) {
					var b leasingStore
					m := newManager(t, &b, session.Config{Mode: mode})
					token := begin(t, m, map[string]any{"note": "cart"})
					life, cancel := context.WithCancel(ctx)
					defer cancel()
					end := func() {
						b.after = func(op string) error {
							if op == "Save" {
								cancel()
							}
							return nil
						}
					}
					if how == "Save with a context of its own" {
						s := open(t, m, token)
						check(t, change(s))
						end()
						wantErr(t, s.Save(life), context.Canceled)
						b.healthy()
						check(t, s.Close(ctx))
					} else {
						r := request(token).WithContext(life)
						w := httptest.NewRecorder()
						m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
							s, err := m.Get(r.Context())
							check(t, errors.Join(err, change(s)))
							end()
							if how == "Save" {
								err = s.Save(r.Context())
								wantErr(t, err, context.Canceled)
								m.Error(w, r, err)
							}
						})).ServeHTTP(w, r)
						b.healthy()
						if w.Code == http.StatusOK || sent(w) != "" {
							t.Errorf("status %d, token %q", w.Code, sent(w))
						}
					}
					if b.Len() != 1 {
						t.Errorf("%d records, want 1", b.Len())
					}
					s := open(t, m, token)
					got, err := note.Get(s)
					user, uerr := s.User()
					if check(t, errors.Join(err, uerr)); got != "cart" || user != "" {
						t.Errorf("the old ID has %q of %q", got, user)
					}
					check(t, s.Close(ctx))
				})
			}
		}
	}
}

// TestContextEndedBefore checks that a client whose context has ended may wait
// all the same, and that one that does not wait has lost nothing.
func TestContextEndedBefore(t *testing.T) {
	for _, mode := range []session.Mode{session.Merge, session.LastWrite, session.Exclusive} {
		for _, tt := range []struct {
			name  string
			user  string // of the session, which is new if it is "new"
			do    func(s *session.Session) error
			token bool // is sent
			old   bool // still opens
		}{
			{"a new session", "new", func(s *session.Session) error { return note.Set(s, "x") }, true, false},
			{"a login at once", "new", func(s *session.Session) error { return s.Login("ann") }, true, false},
			{"a first login", "", func(s *session.Session) error { return s.Login("ann") }, true, true},
			{"a second login", "ann", func(s *session.Session) error { return s.Login("ann") }, false, true},
			{"another's login", "bob", func(s *session.Session) error { return s.Login("ann") }, false, true},
			{"a rotation", "", func(s *session.Session) error { return s.Rotate() }, false, true},
		} {
			t.Run(fmt.Sprintf("%s, %v", tt.name, mode), func(t *testing.T) {
				m := newManager(t, &memory.Backend{}, session.Config{Mode: mode})
				token := ""
				if tt.user != "new" {
					token = begin(t, m, map[string]any{"note": "cart"})
				}
				if tt.user != "" && tt.user != "new" {
					s := open(t, m, token)
					check(t, errors.Join(s.Login(tt.user), finish(m, s)))
					token = s.Token().Reveal()
				}
				life, cancel := context.WithCancel(ctx)
				w := httptest.NewRecorder()
				m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
					s, err := m.Get(r.Context())
					check(t, errors.Join(err, tt.do(s)))
					cancel()
				})).ServeHTTP(w, request(token).WithContext(life))
				if got := sent(w); (got != "") != tt.token || (w.Code == http.StatusOK) != tt.token {
					t.Fatalf("status %d, token %q", w.Code, got)
				} else if got != "" && tt.do != nil && !strings.HasPrefix(tt.name, "a new") {
					if user, err := open(t, m, got).User(); user != "ann" || err != nil {
						t.Errorf("logged in as %q, %v", user, err)
					}
				}
				if tt.old {
					s := open(t, m, token) // at once: it is not locked
					got, err := note.Get(s)
					user, uerr := s.User()
					if check(t, errors.Join(err, uerr)); got != "cart" || user != tt.user {
						t.Errorf("the old ID has %q of %q", got, user)
					}
				}
			})
		}
	}
}

// lateStore holds back Saves, so that they arrive late.
type lateStore struct {
	memory.Backend
	mu    sync.Mutex
	saves int
	save  func(n int) error // the fate of the nth Save
	late  func()
}

var errLate = errors.New("no answer, and the request is still on its way")

func (s *lateStore) Save(ctx context.Context, key string, rec session.Record) (session.Version, error) {
	s.mu.Lock()
	s.saves++
	n, save := s.saves, s.save
	s.mu.Unlock()
	if save != nil {
		if err := save(n); errors.Is(err, errLate) {
			s.late = func() { _, _ = s.Backend.Save(context.Background(), key, rec) }
			return "", err
		} else if err != nil {
			return "", err
		}
	}
	return s.Backend.Save(ctx, key, rec)
}

// TestLateMarker delays the marker, and the second marker meets another holder's
// lock. The first one arrives while we wait for the lock, or later.
func TestLateMarker(t *testing.T) {
	for _, soon := range []bool{true, false} {
		b := &lateStore{}
		m := newManager(t, b, session.Config{Lock: session.LockConfig{MaxWait: 50 * time.Millisecond}})
		token := begin(t, m, map[string]any{"note": "cart", "counter": 1})
		b.saves = 0
		b.save = func(n int) error {
			switch {
			case n == 1: // the record under the new ID
				return nil
			case n == 2:
				return errLate
			case n == 3 && soon:
				b.late()
			case soon:
				return nil
			}
			return &session.LockedError{}
		}
		login := func(_ http.ResponseWriter, r *http.Request) {
			s, err := m.Get(r.Context())
			check(t, errors.Join(err, s.Login("ann"), errOf(counter.Update(s, inc))))
		}
		w := visit(m, "POST", token, login)
		if !soon {
			if w.Code != http.StatusServiceUnavailable || sent(w) != "" {
				t.Fatalf("status %d, token %q", w.Code, sent(w))
			}
			b.late()
			b.save = nil
			w = visit(m, "POST", token, login)
		}
		if w.Code != http.StatusOK || sent(w) == "" {
			t.Fatalf("soon %v: status %d, token %q", soon, w.Code, sent(w))
		}
		wantValue(t, m, sent(w), "note", "cart")
		if soon {
			wantValue(t, m, sent(w), "counter", 2)
		} else { // what was in flight arrived, so the second login has joined the first: both count
			wantValue(t, m, sent(w), "counter", 3)
		}
	}
}

// TestLockTimeoutAfterAnUnknownSave checks that the error does not say that
// nothing was written.
func TestLockTimeoutAfterAnUnknownSave(t *testing.T) {
	for name, change := range map[string]func(s *session.Session) error{
		"value":  func(s *session.Session) error { return errOf(counter.Update(s, inc)) },
		"rotate": func(s *session.Session) error { return s.Rotate() },
	} {
		t.Run(name, func(t *testing.T) {
			b := &lateStore{}
			m := newManager(t, b, session.Config{Lock: session.LockConfig{MaxWait: 20 * time.Millisecond}})
			token := begin(t, m, map[string]any{"counter": 0})
			s := open(t, m, token)
			check(t, change(s))
			first := 1
			if name == "rotate" {
				first = 2
			}
			b.saves = 0
			b.save = func(n int) error {
				switch {
				case n < first:
					return nil
				case n == first:
					return errLate
				}
				return &session.LockedError{}
			}
			for range 2 {
				err := s.Save(ctx)
				wantErr(t, err, errLate)
				if errors.Is(err, session.ErrLockTimeout) || errors.Is(err, session.ErrLocked) {
					t.Errorf("it claims that nothing was written: %v", err)
				}
			}
			b.late()
			b.save = nil
			if name == "value" {
				wantErr(t, s.Save(ctx), errLate)
				wantValue(t, m, token, "counter", 1)
				return
			}
			check(t, s.Save(ctx))
			wantValue(t, m, s.Token().Reveal(), "counter", 0)
		})
	}
}

// TestLateCreate checks that a session whose creation has no response gets
// another ID, so that a create that arrives after the logout makes a record that
// no client can load.
func TestLateCreate(t *testing.T) {
	for _, mode := range []string{"a new session", "a login", "a rotation"} {
		for _, late := range []int{1, 2, 4, 5} {
			t.Run(fmt.Sprint(mode, ", late: ", late), func(t *testing.T) {
				b := &lateStore{}
				m := newManager(t, b, session.Config{})
				s := m.Start()
				check(t, note.Set(s, "x"))
				if mode != "a new session" {
					check(t, s.Save(ctx))
				}
				switch mode {
				case "a login":
					check(t, s.Login("ann"))
				case "a rotation":
					check(t, s.Rotate())
				}
				var arrive []func()
				b.saves = 0
				b.save = func(n int) error {
					if n <= late {
						return errLate
					}
					return nil
				}
				keep := b.save
				b.save = func(n int) error {
					if b.late != nil {
						arrive, b.late = append(arrive, b.late), nil
					}
					return keep(n)
				}
				err := s.Save(ctx)
				if late == 5 {
					wantErr(t, err, errLate)
				} else {
					check(t, err)
					wantValue(t, m, s.Token().Reveal(), "note", "x")
				}
				if b.saves > 6 {
					t.Errorf("%d Saves", b.saves)
				}
				check(t, s.Destroy(ctx))
				for _, f := range arrive {
					f()
				}
				if token := s.Token().Reveal(); token != "" {
					_, err = m.Open(ctx, token)
					wantErr(t, err, session.ErrNotFound)
				}
			})
		}
	}
}

// TestCreateThatWasApplied checks that a create whose response is lost leaves
// nothing behind.
func TestCreateThatWasApplied(t *testing.T) {
	var b store
	m := newManager(t, &b, session.Config{})
	b.losing("Save", 1)
	token := begin(t, m, map[string]any{"note": "x"})
	b.healthy()
	b.losing("Save", 1)
	token = loggedIn(t, m, token)
	b.healthy()
	wantValue(t, m, token, "note", "x")
	check(t, open(t, m, token).Destroy(ctx))
	if b.Len() != 1 { // the marker
		t.Errorf("%d records", b.Len())
	}
}

// TestCloseSettlesARotation checks that Close completes a rotation with an
// unknown outcome, and that the client gets the new ID.
func TestCloseSettlesARotation(t *testing.T) {
	var b store
	m := newManager(t, &b, session.Config{})
	token := begin(t, m, map[string]any{"note": "x"})
	w := visit(m, "POST", token, func(_ http.ResponseWriter, r *http.Request) {
		s, err := m.Get(r.Context())
		check(t, errors.Join(err, s.Rotate()))
		b.losingAndDown(2)
		wantErr(t, s.Save(r.Context()), errStore)
		b.healthy()
		check(t, s.Close(r.Context()))
	})
	if sent(w) == "" {
		t.Fatal("no token is sent")
	}
	wantValue(t, m, sent(w), "note", "x")
}

// TestIDsDoNotPileUp checks that rotations leave only a few records, in all
// modes and even if the values change.
func TestIDsDoNotPileUp(t *testing.T) {
	const bound = 1 + 1 + 8 // with the marker of the first login
	for _, mode := range []session.Mode{session.Merge, session.LastWrite, session.Exclusive} {
		var b leasingStore
		m := newManager(t, &b, session.Config{Mode: mode})
		token := begin(t, m, map[string]any{"note": "x"})
		for i := range 40 {
			s := open(t, m, token)
			switch i % 5 {
			case 0:
				check(t, s.Rotate())
			case 1:
				check(t, s.Login("ann"))
			case 2:
				check(t, errors.Join(s.Clear(), s.Save(ctx), s.Login("ann")))
			case 3:
				check(t, s.Login(fmt.Sprint("somebody else", i)))
			case 4:
				other := newManager(t, &b, session.Config{})
				check(t, s.Rotate())
				if mode != session.Exclusive { // a write in between
					wrote(t, other, token)
				}
			}
			check(t, finish(m, s))
			token = s.Token().Reveal()
			if names := open(t, newManager(t, &b, session.Config{Mode: session.ReadOnly}), token).Names(); len(names) > 2 {
				t.Fatalf("the names are %v", names)
			}
		}
		if b.Len() > bound {
			t.Errorf("%v: %d records, want at most %d", mode, b.Len(), bound)
		}
		b.took()
		token = rotated(t, m, token)
		if calls := b.took(); len(calls) != 4 { // to read, two Saves, and the oldest marker
			t.Errorf("%v: calls %v", mode, calls)
		}
		check(t, open(t, m, token).Destroy(ctx))
	}
}

// TestTrailDoesNotMakeTooLarge checks that the list of old IDs does not make a
// session too large.
func TestTrailDoesNotMakeTooLarge(t *testing.T) {
	m := newManager(t, &memory.Backend{}, session.Config{MaxSize: 100})
	token := begin(t, m, map[string]any{"note": strings.Repeat("x", 80)})
	s := open(t, m, token)
	check(t, counter.Set(s, 1))
	check(t, s.Set("y", strings.Repeat("y", 20)))
	wantErr(t, s.Save(ctx), session.ErrTooLarge)
	token = loggedIn(t, m, rotated(t, m, begin(t, m, map[string]any{"note": strings.Repeat("x", 60)})))
	wantValue(t, m, token, "note", strings.Repeat("x", 60))
}

// TestFullStoreServesThoseInside checks that a visitor with a session can log in
// again and again, and that a new visitor cannot.
func TestFullStoreServesThoseInside(t *testing.T) {
	const records, users, logins = 100, 5, 600
	b, err := memory.New(memory.Config{MaxRecords: records})
	check(t, err)
	m := newManager(t, b, session.Config{Cookie: session.Cookie{InsecureHTTP: true}})
	srv := httptest.NewServer(m.HandlerFunc(func(_ http.ResponseWriter, r *http.Request, s *session.Session) error {
		if r.URL.Path == "/login" {
			return s.Login("ann")
		}
		return errOf(counter.Update(s, inc))
	}))
	defer srv.Close()
	get := func(jar http.CookieJar, path string) int {
		client := *srv.Client()
		client.Jar = jar
		resp, err := client.Post(srv.URL+path, "", nil)
		check(t, err)
		check(t, resp.Body.Close())
		return resp.StatusCode
	}
	jars := make([]http.CookieJar, users)
	for i := range jars {
		jars[i], _ = cookiejar.New(nil)
		if got := get(jars[i], "/"); got != http.StatusOK {
			t.Fatalf("status %d", got)
		}
	}
	for b.Len() < records {
		begin(t, m, map[string]any{"note": "x"})
	}
	for range logins {
		for _, jar := range jars {
			if got := get(jar, "/login"); got != http.StatusOK {
				t.Fatalf("a login from inside: %d", got)
			}
		}
	}
	if got := get(nil, "/login"); got != http.StatusServiceUnavailable {
		t.Errorf("a new visitor: %d", got)
	}
	if n := b.Len(); n > records+9*users {
		t.Errorf("%d records", n)
	}
}
