package session_test

import (
	"bytes"
	"errors"
	"fmt"
	"log"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/memory"
	"github.com/seed-a7bee19b/session/codec"
	"github.com/seed-a7bee19b/session/observe"
	"github.com/seed-a7bee19b/session/sessiontest"
)

// demanding returns a view of m that demands a fresh authentication.
func demanding(t testing.TB, m *session.Manager, within time.Duration, mode session.Mode) *session.Manager {
	t.Helper()
	v, err := m.With(session.Route{FreshWithin: within, Mode: mode})
	check(t, err)
	return v
}

// as returns a function for sessiontest.NewRequest that logs a user in.
func as(user string, methods ...string) func(s *session.Session) error {
	return func(s *session.Session) error {
		return s.LoginWith(session.Login{User: user, Methods: methods})
	}
}

// ops is an Observer that lists the calls.
type ops struct{ events }

func (o *ops) took() []observe.Op {
	o.mu.Lock()
	defer o.mu.Unlock()
	all := o.ops
	o.ops = nil
	return all
}

// TestDemand: requests to a route that demands an authentication of the last ten
// minutes, in a session that is due for a touch.
func TestDemand(t *testing.T) {
	const (
		load, acquire, release, touch = observe.OpLoad, observe.OpAcquire, observe.OpRelease, observe.OpTouch
		ten                           = 10 * time.Minute
	)
	type wrap = func(t *testing.T, m *session.Manager, page asked) http.Handler
	route := func(within time.Duration, mode session.Mode) wrap {
		return func(t *testing.T, m *session.Manager, page asked) http.Handler {
			return demanding(t, m, within, mode).HandlerFunc(page)
		}
	}
	// in puts a route into the Handler of the site, which has asked for the session.
	in := func(inner wrap, outer func(t *testing.T, m *session.Manager) *session.Manager) wrap {
		return func(t *testing.T, m *session.Manager, page asked) http.Handler {
			next := inner(t, m, page)
			return outer(t, m).HandlerFunc(func(w http.ResponseWriter, r *http.Request, _ *session.Session) error {
				next.ServeHTTP(w, r)
				return nil
			})
		}
	}
	plain := func(_ *testing.T, m *session.Manager) *session.Manager { return m }
	demand := func(within time.Duration, mode session.Mode) func(t *testing.T, m *session.Manager) *session.Manager {
		return func(t *testing.T, m *session.Manager) *session.Manager { return demanding(t, m, within, mode) }
	}
	// unasked is a route whose handler does not ask for the session.
	unasked := func(within time.Duration) wrap {
		return func(t *testing.T, m *session.Manager, page asked) http.Handler {
			return demanding(t, m, within, 0).Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _ = page(w, r, nil) }))
		}
	}
	quiet := func(t *testing.T, m *session.Manager) *session.Manager {
		v, err := m.With(session.Route{Mode: session.ReadOnly})
		check(t, err)
		return v
	}
	noDemand := func(_ *testing.T, m *session.Manager, page asked) http.Handler { return m.HandlerFunc(page) }
	for _, tt := range []struct {
		name  string
		route wrap
		age   time.Duration
		pass  bool
		calls []observe.Op
	}{
		{"fresh", route(ten, 0), ten - time.Minute, true, []observe.Op{load}},
		{"fresh, and due for a touch", route(time.Hour, 0), 20 * time.Minute, true, []observe.Op{load, touch}},
		{"stale", route(ten, 0), 20 * time.Minute, false, []observe.Op{load}},
		{"fresh, read-only", route(time.Hour, session.ReadOnly), 20 * time.Minute, true, []observe.Op{load}},
		{"stale, read-only", route(ten, session.ReadOnly), 20 * time.Minute, false, []observe.Op{load}},
		{"fresh, the last write wins", route(ten, session.LastWrite), 0, true, []observe.Op{load}},
		{"fresh, with a lock", route(time.Hour, session.Exclusive), 20 * time.Minute, true, []observe.Op{load, acquire, release}},
		{"stale, with a lock", route(ten, session.Exclusive), 20 * time.Minute, false, []observe.Op{load}},
		{"fresh, nobody asks for the session", unasked(time.Hour), 20 * time.Minute, true, []observe.Op{load, touch}},
		{"stale, nobody asks for the session", unasked(ten), 20 * time.Minute, false, []observe.Op{load}},

		{"fresh, in the Handler of the site", in(route(time.Hour, 0), plain), 20 * time.Minute, true, []observe.Op{load, touch}},
		{"stale, in the Handler of the site", in(route(ten, 0), plain), 20 * time.Minute, false, []observe.Op{load, touch}},
		{"stale, with a lock, in the Handler of the site", in(route(ten, session.Exclusive), plain), 20 * time.Minute, false, []observe.Op{load, touch}},
		{"fresh, in a read-only Handler", in(route(time.Hour, session.Merge), quiet), 20 * time.Minute, true, []observe.Op{load}},
		{"stale, in a read-only Handler", in(route(ten, session.Merge), quiet), 20 * time.Minute, false, []observe.Op{load}},
		{"fresh, a plain route inside", in(noDemand, demand(ten, 0)), 0, true, []observe.Op{load}},
		{"stale, a plain route inside", in(noDemand, demand(ten, 0)), 20 * time.Minute, false, []observe.Op{load}},
		{"stale, a route with a lock inside", in(route(time.Hour, session.Exclusive), demand(ten, 0)), 20 * time.Minute, false, []observe.Op{load}},
		{"only the demand outside is met", in(route(ten, 0), demand(time.Hour, 0)), 20 * time.Minute, false, []observe.Op{load, touch}},
		{"only the demand inside is met", in(route(time.Hour, 0), demand(ten, 0)), 20 * time.Minute, false, []observe.Op{load}},
		{"both demands are met", in(route(ten, 0), demand(time.Hour, 0)), 0, true, []observe.Op{load}},
		{"stale inside, the lock is held outside", in(route(ten, 0), demand(time.Hour, session.Exclusive)), 20 * time.Minute, false, []observe.Op{load, acquire, release}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var b sessiontest.Store
			var h told
			var o ops
			m := newManager(t, &b, session.Config{IdleTimeout: 2 * time.Hour, ErrorHandler: h.handle, Observer: &o})
			r := sessiontest.NewRequest(t, m, "POST", "/", nil, as("ann"))
			b.Advance(tt.age)
			o.took()
			ran := false
			w := do(tt.route(t, m, func(_ http.ResponseWriter, r *http.Request, s *session.Session) error {
				ran = true
				if s == nil {
					return nil
				}
				got, err := m.Get(r.Context())
				if s != got {
					t.Errorf("Get returns another session, %v", err)
				}
				return err
			}), r)
			if got := o.took(); !slices.Equal(got, tt.calls) {
				t.Errorf("calls %v, want %v", got, tt.calls)
			}
			err := h.only(t)
			var stale *session.NotFreshError
			switch {
			case ran != tt.pass:
				t.Errorf("the page was called: %v", ran)
			case tt.pass && (err != nil || w.Code != http.StatusOK):
				t.Errorf("answered %d, %v", w.Code, err)
			case !tt.pass && (w.Code != http.StatusUnauthorized || !errors.Is(err, session.ErrNotFresh) || errors.Is(err, session.ErrStore)):
				t.Errorf("answered %d, %v", w.Code, err)
			case !tt.pass:
				wantText(t, tt.name, err)
				if !errors.As(err, &stale) || stale.Within <= 0 || time.Since(stale.At) < tt.age {
					t.Errorf("the error is %+v", stale)
				}
			}
			if o.saw(observe.EventCommitFailed) || o.saw(observe.EventLateFailed) {
				t.Errorf("events %v", o.kinds)
			}
			if w.Header().Get("Vary") != "Cookie" || w.Header().Get("Cache-Control") != "no-store" || len(w.Result().Cookies()) > 0 {
				t.Errorf("headers %v", w.Header())
			}
			// No lock is left.
			s, err := demanding(t, m, time.Hour, session.Exclusive).Open(ctx, carriedBy(r))
			check(t, err)
			check(t, s.Close(ctx))
		})
	}
}

// carriedBy returns the token of the cookie that r carries.
func carriedBy(r *http.Request) string {
	c, err := r.Cookie("__Host-session")
	if err != nil {
		return ""
	}
	return c.Value
}

// TestDemandOfNobody: requests without a user never meet a demand.
func TestDemandOfNobody(t *testing.T) {
	for _, tt := range []struct {
		name  string
		fill  func(s *session.Session) error
		token string
		calls []string
	}{
		{"no token", nil, "", nil},
		{"a malformed token", nil, "junk", nil},
		{"an unknown token", nil, strings.Repeat("A", 32), []string{"Load"}},
		{"a visitor", setNote, "", []string{"Load"}},
	} {
		for _, mode := range []session.Mode{session.Merge, session.Exclusive} {
			t.Run(fmt.Sprint(tt.name, " ", mode), func(t *testing.T) {
				var b leasingStore
				var h told
				m := newManager(t, &b, session.Config{ErrorHandler: h.handle})
				r := sessiontest.NewRequest(t, m, "GET", "/", nil, tt.fill)
				if tt.token != "" {
					r.AddCookie(&http.Cookie{Name: "__Host-session", Value: tt.token})
				}
				b.took()
				w := do(demanding(t, m, time.Hour, mode).HandlerFunc(func(http.ResponseWriter, *http.Request, *session.Session) error {
					t.Error("the page was called")
					return nil
				}), r)
				b.wantCalls(t, tt.calls...)
				var stale *session.NotFreshError
				if err := h.only(t); w.Code != http.StatusUnauthorized || !errors.As(err, &stale) || !stale.At.IsZero() || stale.Within != time.Hour {
					t.Errorf("answered %d, %v", w.Code, err)
				}
			})
		}
	}
}

// TestDemandAndTheStore: if the session cannot be read, that is the error.
func TestDemandAndTheStore(t *testing.T) {
	for _, tt := range []struct {
		name string
		err  error
		want error
		code int
	}{
		{"the store fails", errStore, session.ErrStore, http.StatusServiceUnavailable},
		{"it does not decode", session.ErrDecode, session.ErrDecode, http.StatusInternalServerError},
	} {
		var b store
		var h told
		m := newManager(t, &b, session.Config{ErrorHandler: h.handle})
		r := sessiontest.NewRequest(t, m, "GET", "/", nil, as("ann"))
		b.failing("Load", tt.err)
		w := do(demanding(t, m, time.Hour, 0).Handler(http.NotFoundHandler()), r)
		if err := h.only(t); w.Code != tt.code || !errors.Is(err, tt.want) || errors.Is(err, session.ErrNotFresh) {
			t.Errorf("%s: answered %d, %v", tt.name, w.Code, err)
		} else {
			wantText(t, tt.name, err)
		}
	}
}

// TestStepUp goes the way of a browser: a route refuses, the ErrorHandler sends it
// to a page that asks for the password, and from there it comes back.
func TestStepUp(t *testing.T) {
	back := session.Key[string]{Name: "back"}
	for _, mode := range []session.Mode{session.Merge, session.LastWrite, session.Exclusive} {
		for _, nested := range []bool{false, true} {
			t.Run(fmt.Sprint(mode, " nested ", nested), func(t *testing.T) {
				var b sessiontest.Store
				var o ops
				var m *session.Manager
				m = newManager(t, &b, session.Config{Observer: &o, ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
					var stale *session.NotFreshError
					if !errors.As(err, &stale) {
						t.Errorf("the error is %v", err)
						return
					}
					s, err := m.Get(r.Context())
					if err != nil {
						t.Errorf("Get of the page that asks for the password: %v", err)
						return
					}
					check(t, back.Set(s, r.URL.Path))
					http.Redirect(w, r, "/confirm", http.StatusSeeOther)
				}})
				mux := http.NewServeMux()
				mux.Handle("POST /confirm", m.HandlerFunc(func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
					to, _, err := back.Take(s)
					check(t, errors.Join(err, s.Reauthenticate("pwd")))
					http.Redirect(w, r, to, http.StatusSeeOther)
					return nil
				}))
				paid := 0
				mux.Handle("/pay", demanding(t, m, 10*time.Minute, mode).HandlerFunc(func(http.ResponseWriter, *http.Request, *session.Session) error {
					paid++
					return nil
				}))
				site := http.Handler(mux)
				if nested {
					site = m.Handler(mux)
				}
				r := sessiontest.NewRequest(t, m, "GET", "/pay", nil, as("ann"))
				b.Advance(time.Hour)
				o.took()
				w := do(site, r)
				if w.Code != http.StatusSeeOther || w.Header().Get("Location") != "/confirm" || paid != 0 {
					t.Fatalf("answered %d %v, paid %d times", w.Code, w.Header(), paid)
				}
				if calls := o.took(); !slices.Equal(calls, []observe.Op{observe.OpLoad, observe.OpSave}) {
					t.Errorf("the page that asks for the password costs %v", calls)
				}
				confirm := httptest.NewRequest("POST", "/confirm", nil)
				sessiontest.AddTo(t, m, confirm, sessiontest.Stored(t, m, r, w.Result()))
				w = do(site, confirm)
				if w.Code != http.StatusSeeOther || w.Header().Get("Location") != "/pay" {
					t.Fatalf("answered %d %v", w.Code, w.Header())
				}
				sessiontest.NoSession(t, m, r, nil) // under the old ID
				again := httptest.NewRequest("GET", "/pay", nil)
				sessiontest.AddTo(t, m, again, sessiontest.Stored(t, m, confirm, w.Result()))
				if w := do(site, again); w.Code != http.StatusOK || paid != 1 {
					t.Errorf("answered %d, paid %d times", w.Code, paid)
				}
				b.Advance(11 * time.Minute)
				if w := do(site, again); w.Code != http.StatusSeeOther || paid != 1 {
					t.Errorf("11 minutes later: answered %d, paid %d times", w.Code, paid)
				}
			})
		}
	}
}

// TestDemandIsMetOnce: a route that has checked its demand can go on with another
// session.
func TestDemandIsMetOnce(t *testing.T) {
	m := newManager(t, &memory.Backend{}, session.Config{})
	r := sessiontest.NewRequest(t, m, "POST", "/", nil, as("ann"))
	w := do(demanding(t, m, time.Minute, 0).HandlerFunc(func(_ http.ResponseWriter, r *http.Request, s *session.Session) error {
		check(t, s.Destroy(r.Context()))
		s, err := m.Get(r.Context())
		check(t, err)
		return note.Set(s, "your account is deleted")
	}), r)
	wantNote(t, m, r, w, "your account is deleted")
}

// TestFreshnessInTheMiddle: FreshWithin outside of HTTP, and in a handler that has
// changed the session.
func TestFreshnessInTheMiddle(t *testing.T) {
	var b sessiontest.Store
	m := newManager(t, &b, session.Config{})
	r := sessiontest.NewRequest(t, m, "POST", "/", nil, as("ann", "pwd"))
	check(t, open(t, m, carriedBy(r)).FreshWithin(time.Minute))
	b.Advance(2 * time.Minute)
	s := open(t, m, carriedBy(r))
	wantErr(t, s.FreshWithin(time.Minute), session.ErrNotFresh)
	check(t, s.FreshWithin(3*time.Minute))
	wantText(t, "FreshWithin", s.FreshWithin(time.Minute))
	w := do(m.HandlerFunc(func(_ http.ResponseWriter, _ *http.Request, s *session.Session) error {
		check(t, note.Set(s, "dropped"))
		return s.FreshWithin(time.Minute)
	}), r)
	if w.Code != http.StatusUnauthorized || w.Header().Get("WWW-Authenticate") != "" {
		t.Errorf("answered %d %v", w.Code, w.Header())
	}
	wantNote(t, m, r, w, "")
	wantErr(t, m.Start().FreshWithin(math.MaxInt64), session.ErrNotFresh)
	for _, d := range []time.Duration{0, -1, time.Second - 1} {
		if err := s.FreshWithin(d); err == nil || errors.Is(err, session.ErrNotFresh) {
			t.Errorf("FreshWithin(%v): %v", d, err)
		} else {
			wantText(t, "FreshWithin", err)
		}
	}
}

// TestRouteFreshWithin: what With takes, and what a view inherits.
func TestRouteFreshWithin(t *testing.T) {
	m := newManager(t, &memory.Backend{}, session.Config{})
	for _, d := range []time.Duration{-1, session.Never, -time.Hour, 1, time.Second - 1} {
		_, err := m.With(session.Route{FreshWithin: d})
		if err == nil || !strings.Contains(err.Error(), "FreshWithin") {
			t.Errorf("%v: %v", d, err)
		} else {
			wantText(t, "With", err)
		}
	}
	var b sessiontest.Store
	m = newManager(t, &b, session.Config{})
	r := sessiontest.NewRequest(t, m, "GET", "/", nil, as("ann"))
	b.Advance(30 * time.Minute)
	ten := demanding(t, m, 10*time.Minute, 0)
	for _, tt := range []struct {
		name string
		view *session.Manager
		want int
	}{
		{"inherited", demanding(t, ten, 0, session.ReadOnly), http.StatusUnauthorized},
		{"another", demanding(t, ten, time.Hour, 0), http.StatusOK},
	} {
		w := do(tt.view.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})), r)
		if w.Code != tt.want {
			t.Errorf("%s: answered %d, want %d", tt.name, w.Code, tt.want)
		}
	}
}

// TestNotFreshIsNotLogged: the default answer.
func TestNotFreshIsNotLogged(t *testing.T) {
	var logged bytes.Buffer
	defer func(w interface{ Write([]byte) (int, error) }, flags int) { log.SetOutput(w); log.SetFlags(flags) }(log.Writer(), log.Flags())
	log.SetOutput(&logged)
	for _, tt := range []struct {
		header, want string
		fill         func(s *session.Session) error
	}{
		{"", "", as("ann")},
		{"X-Token", "", as("ann")},
		{"Authorization", `Bearer error="insufficient_user_authentication", max_age="90"`, as("ann")},
		{"Authorization", "Bearer", nil},
	} {
		var b sessiontest.Store
		m := newManager(t, &b, session.Config{Header: tt.header})
		r := sessiontest.NewRequest(t, m, "GET", "/", nil, tt.fill)
		b.Advance(time.Hour)
		w := do(demanding(t, m, 90*time.Second, 0).Handler(http.NotFoundHandler()), r)
		if got := w.Header().Get("WWW-Authenticate"); w.Code != http.StatusUnauthorized || got != tt.want || strings.TrimSpace(w.Body.String()) != "Unauthorized" {
			t.Errorf("%q: answered %d %q %v", tt.header, w.Code, w.Body, w.Header())
		}
	}
	if logged.Len() > 0 {
		t.Errorf("logged %s", &logged)
	}
}

// TestRefusedIsNotRenewed: a refused request does not get a new ID because of the
// age of the old one, and one that is served does.
func TestRefusedIsNotRenewed(t *testing.T) {
	var b store
	m := newManager(t, &b, session.Config{RenewAfter: time.Minute})
	for _, refused := range []bool{false, true} {
		token := loggedIn(t, m, begin(t, m, map[string]any{"note": "x"}))
		key := session.DefaultStoreKey(token)
		rec, err := b.Backend.Load(ctx, key)
		check(t, err)
		rec.Created = rec.Created.Add(-5 * time.Minute)
		_, err = b.Backend.Save(ctx, key, rec)
		check(t, err)
		within, calls := time.Hour, []string{"Load", "Save", "Save"}
		if refused {
			within, calls = 4*time.Minute, []string{"Load"}
		}
		b.took()
		w := visit(m, "GET", token, demanding(t, m, within, 0).HandlerFunc(func(http.ResponseWriter, *http.Request, *session.Session) error {
			return nil
		}).ServeHTTP)
		b.wantCalls(t, calls...)
		if renewed := sent(w) != ""; renewed == refused {
			t.Errorf("refused %v: cookies %v", refused, w.Result().Cookies())
		}
	}
}

// TestMethodsAreChecked: what Login and Reauthenticate take.
func TestMethodsAreChecked(t *testing.T) {
	long := strings.Repeat("m", 64)
	for _, tt := range []struct {
		name    string
		methods []string
		ok      bool
	}{
		{"none", nil, true},
		{"usual ones", []string{"pwd", "otp", "mfa"}, true},
		{"any text", []string{"hardware key, \"blue\"\n", " ", "ключ"}, true},
		{"as many and as long as can be", slices.Repeat([]string{long}, 16), true},
		{"too many", slices.Repeat([]string{"x"}, 17), false},
		{"too long", []string{long + "m"}, false},
		{"empty", []string{"pwd", ""}, false},
		{"not UTF-8", []string{"\xff"}, false},
	} {
		for _, c := range []session.Codec{codec.MessagePack{}, codec.JSON{}} {
			m := newManager(t, &memory.Backend{}, session.Config{Codec: c})
			token := begin(t, m, map[string]any{"note": "x"})
			for what, authenticate := range map[string]func(s *session.Session) error{
				"Login":          as("ann", tt.methods...),
				"Reauthenticate": func(s *session.Session) error { return s.Reauthenticate(tt.methods...) },
			} {
				s := open(t, m, loggedIn(t, m, begin(t, m, map[string]any{"note": "x"})))
				err := authenticate(s)
				if (err == nil) != tt.ok {
					t.Fatalf("%s, %s: %v", tt.name, what, err)
				}
				if err != nil {
					wantText(t, what, err)
					continue
				}
				check(t, finish(m, s))
				a, err := open(t, m, s.Token().Reveal()).Authentication()
				if err != nil || !slices.Equal(a.Methods, tt.methods) {
					t.Errorf("%s, %s: the methods are %q, %v", tt.name, what, a.Methods, err)
				}
			}
			if s := open(t, m, token); s.Reauthenticate(tt.methods...) == nil {
				t.Errorf("%s: nobody has authenticated again", tt.name)
			}
		}
	}
}

// TestMethodsAreNotShared: changing a slice afterwards changes nothing.
func TestMethodsAreNotShared(t *testing.T) {
	m := newManager(t, &memory.Backend{}, session.Config{})
	s := m.Start()
	methods := []string{"pwd"}
	check(t, s.LoginWith(session.Login{User: "ann", Methods: methods}))
	methods[0] = "otp"
	a, err := s.Authentication()
	check(t, err)
	a.Methods[0] = "sms"
	if a, err := s.Authentication(); err != nil || !slices.Equal(a.Methods, []string{"pwd"}) {
		t.Errorf("the methods are %q, %v", a.Methods, err)
	}
}

// TestReauthenticateAndOthers: what a request that works with the session
// meanwhile has changed stays, and does not undo the authentication.
func TestReauthenticateAndOthers(t *testing.T) {
	for _, mode := range []session.Mode{session.Merge, session.LastWrite, session.Exclusive} {
		t.Run(mode.String(), func(t *testing.T) {
			var b sessiontest.Store
			m := newManager(t, &b, session.Config{RenewAfter: 8 * time.Hour}) // whose overlap is not for this
			old := loggedIn(t, m, begin(t, m, map[string]any{"note": "old"}))
			b.Advance(time.Hour)
			v, err := m.With(session.Route{Mode: mode})
			check(t, err)
			early, late := open(t, m, old), open(t, m, old)
			s := open(t, v, old)
			if mode != session.Exclusive { // which keeps others from saving
				check(t, errors.Join(counter.Set(early, 7), finish(m, early)))
			}
			check(t, errors.Join(note.Set(s, "new"), s.Reauthenticate("otp"), finish(v, s)))
			now := open(t, m, s.Token().Reveal())
			a, err := now.Authentication()
			if err != nil || time.Since(a.At) > time.Minute || !slices.Equal(a.Methods, []string{"otp"}) {
				t.Errorf("authenticated %v ago by %q, %v", time.Since(a.At), a.Methods, err)
			}
			if mode == session.Merge {
				if n, err := counter.Get(now); n != 7 || err != nil {
					t.Errorf("the other request's counter is %d, %v", n, err)
				}
			}
			if created := now.Created(); time.Since(created) < time.Hour {
				t.Errorf("the absolute timeout has started anew %v ago", time.Since(created))
			}
			check(t, errors.Join(counter.Set(late, 8), late.Clear()))
			wantErr(t, late.Save(ctx), session.ErrNotFound)
			_, err = m.Open(ctx, old)
			wantErr(t, err, session.ErrNotFound)
			// Ordinary requests under the new ID.
			check(t, errors.Join(now.Clear(), note.Set(now, "later"), finish(m, now)))
			check(t, open(t, m, s.Token().Reveal()).FreshWithin(time.Minute))
		})
	}
}

// TestReauthenticateThatIsNotSaved leaves everything as it was.
func TestReauthenticateThatIsNotSaved(t *testing.T) {
	var b sessiontest.Store
	m := newManager(t, &b, session.Config{})
	old := loggedIn(t, m, begin(t, m, map[string]any{"note": "x"}))
	b.Advance(time.Hour)
	for name, f := range map[string]func(s *session.Session){
		"discarded": func(s *session.Session) { s.Discard(); check(t, s.Save(ctx)) },
		"closed":    func(*session.Session) {},
		"failed": func(s *session.Session) {
			b.Fail(observe.OpSave, errStore)
			wantErr(t, s.Save(ctx), errStore)
			b.Fail(observe.OpSave, nil)
		},
	} {
		s := open(t, m, old)
		check(t, s.Reauthenticate("pwd"))
		check(t, s.FreshWithin(time.Minute)) // for the rest of this request
		f(s)
		check(t, s.Close(ctx))
		s = open(t, m, old)
		if a, err := s.Authentication(); err != nil || time.Since(a.At) < time.Hour || a.Methods != nil {
			t.Errorf("%s: authenticated %v ago by %q, %v", name, time.Since(a.At), a.Methods, err)
		}
		check(t, s.Close(ctx))
	}
}

// TestLostAnswerToReauthenticate: the second write had no answer.
func TestLostAnswerToReauthenticate(t *testing.T) {
	var b sessiontest.Store
	m := newManager(t, &b, session.Config{})
	s := open(t, m, loggedIn(t, m, begin(t, m, map[string]any{"note": "x"})))
	b.Advance(time.Hour)
	check(t, s.Reauthenticate("pwd"))
	b.LoseNext(observe.OpSave, 2, errStore)
	check(t, s.Save(ctx))
	s = open(t, m, s.Token().Reveal())
	if a, err := s.Authentication(); err != nil || time.Since(a.At) > time.Minute || !slices.Equal(a.Methods, []string{"pwd"}) {
		t.Errorf("authenticated %v ago by %q, %v", time.Since(a.At), a.Methods, err)
	}
}

// TestUndecodableAuthentication: it is an error, and no demand is met.
func TestUndecodableAuthentication(t *testing.T) {
	for _, auth := range []any{nil, 7, "text", []string{}, []string{"x"}, []string{"! !"}, []string{"1"}, []string{"1 -1"}, []string{"1 zzzzzzzzzzzz"}, []int{1}} {
		var b memory.Backend
		c := codec.MessagePack{}
		values := map[string][]byte{}
		for name, v := range map[string]any{"_session.user": "ann", "_session.auth": auth, "note": "x"} {
			data, err := c.Marshal(v)
			check(t, err)
			values[name] = data
		}
		data, err := c.Join(values)
		check(t, err)
		token := strings.Repeat("A", 32)
		now := time.Now()
		_, err = b.Save(ctx, session.DefaultStoreKey(token), session.Record{Data: data, Created: now, Expires: now.Add(time.Hour)})
		check(t, err)
		m := newManager(t, &b, session.Config{})
		s := open(t, m, token)
		if _, err := s.Authentication(); !errors.Is(err, session.ErrDecode) {
			t.Errorf("%v: Authentication: %v", auth, err)
		}
		if err := s.FreshWithin(time.Hour); !errors.Is(err, session.ErrDecode) {
			t.Errorf("%v: FreshWithin: %v", auth, err)
		}
		if user, err := s.User(); user != "ann" || err != nil {
			t.Errorf("%v: the user is %q, %v", auth, user, err)
		}
		check(t, errors.Join(s.Reauthenticate("pwd"), finish(m, s)))
		check(t, open(t, m, s.Token().Reveal()).FreshWithin(time.Minute))
	}
}

// TestReauthenticateAtTheLogin: it is a part of the Login, whose time counts.
func TestReauthenticateAtTheLogin(t *testing.T) {
	var b sessiontest.Store
	m := newManager(t, &b, session.Config{})
	token := begin(t, m, map[string]any{"note": "x"})
	b.Advance(time.Hour)
	s := open(t, m, token)
	check(t, errors.Join(s.Login("ann"), s.Reauthenticate("otp"), finish(m, s)))
	b.Advance(30 * time.Minute)
	s = open(t, m, s.Token().Reveal())
	wantErr(t, s.FreshWithin(29*time.Minute), session.ErrNotFresh)
	check(t, s.FreshWithin(31*time.Minute))
}

// TestReauthenticateIsListed: the new ID is listed in place of the old one.
func TestReauthenticateIsListed(t *testing.T) {
	m := newManager(t, &memory.Backend{}, session.Config{Owners: session.OwnersConfig{Index: true}})
	s := open(t, m, loggedIn(t, m, begin(t, m, map[string]any{"note": "x"})))
	handle := s.Handle()
	check(t, errors.Join(s.Reauthenticate("pwd"), finish(m, s)))
	var handles []string
	for e, err := range m.Sessions(ctx, session.User("ann")) {
		check(t, err)
		handles = append(handles, e.Handle)
	}
	if !slices.Equal(handles, []string{handle}) || s.Handle() != handle {
		t.Errorf("listed are %q, want %q", handles, handle)
	}
	check(t, m.Revoke(ctx, session.User("ann")))
	_, err := m.Open(ctx, s.Token().Reveal())
	wantErr(t, err, session.ErrNotFound)
}
