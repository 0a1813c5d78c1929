//go:build go1.25

package session_test

import (
	"errors"
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/memory"
	"github.com/seed-a7bee19b/session/codec"
)

// authenticating are the steps of TestAuthentication, one minute after each other.
var authenticating = map[string]func(s *session.Session) error{
	"write":                func(s *session.Session) error { return errOf(counter.Update(s, inc)) },
	"rotate":               (*session.Session).Rotate,
	"clear":                func(s *session.Session) error { return errors.Join(s.Clear(), note.Set(s, "x")) },
	"ann":                  as("ann"),
	"ann by pwd":           as("ann", "pwd"),
	"bob":                  as("bob"),
	"again":                func(s *session.Session) error { return s.Reauthenticate() },
	"again by otp":         func(s *session.Session) error { return s.Reauthenticate("otp", "mfa") },
	"ann by pwd, then otp": func(s *session.Session) error { return errors.Join(as("ann", "pwd")(s), s.Reauthenticate("otp")) },
	"again by otp, then bob": func(s *session.Session) error {
		return errors.Join(s.Reauthenticate("otp"), s.Login("bob"))
	},
	"again by otp and pwd": func(s *session.Session) error {
		return errors.Join(s.Reauthenticate("otp"), s.Reauthenticate("pwd"))
	},
	"ann by pwd, then clear": func(s *session.Session) error { return errors.Join(as("ann", "pwd")(s), s.Clear()) },
	"nothing":                func(*session.Session) error { return nil },
}

// TestAuthentication: when and how the user last authenticated, and what is
// stored of it.
func TestAuthentication(t *testing.T) {
	for _, tt := range []struct {
		name    string
		steps   []string
		at      int // the step that counts, from 1; 0: there is no user
		methods []string
		stored  bool
	}{
		{"a visitor", []string{"write"}, 0, nil, false},
		{"a login", []string{"ann"}, 1, nil, false},
		{"a login of a visitor", []string{"write", "ann"}, 2, nil, false},
		{"a login by a method", []string{"ann by pwd"}, 1, []string{"pwd"}, true},
		{"writes after that", []string{"ann by pwd", "write", "rotate", "clear", "write", "nothing"}, 1, []string{"pwd"}, true},
		{"again", []string{"ann", "again"}, 2, nil, true},
		{"again, by other methods", []string{"ann by pwd", "write", "again by otp"}, 3, []string{"otp", "mfa"}, true},
		{"again, without a method", []string{"ann by pwd", "again"}, 2, nil, true},
		{"again and again", []string{"ann by pwd", "again by otp", "again by otp and pwd"}, 3, []string{"pwd"}, true},
		{"writes after that", []string{"ann by pwd", "again by otp", "write", "rotate", "clear", "write"}, 2, []string{"otp", "mfa"}, true},
		{"another login", []string{"ann by pwd", "again by otp", "ann"}, 3, nil, false},
		{"another login by a method", []string{"ann", "again by otp", "ann by pwd"}, 3, []string{"pwd"}, true},
		{"a login of another user", []string{"ann by pwd", "again by otp", "bob"}, 3, nil, false},
		{"a login in two steps", []string{"write", "ann by pwd, then otp"}, 2, []string{"otp"}, true},
		{"two steps, then another user", []string{"ann", "again by otp, then bob"}, 2, nil, false},
		{"a login that clears", []string{"write", "ann by pwd, then clear"}, 2, []string{"pwd"}, true},
	} {
		for _, c := range []session.Codec{codec.MessagePack{}, codec.JSON{}} {
			synctest.Test(t, func(t *testing.T) {
				var b memory.Backend
				m := newManager(t, &b, session.Config{Codec: c, IdleTimeout: session.Never})
				wantFresh := func(s *session.Session, at time.Time) {
					t.Helper()
					a, err := s.Authentication()
					if err != nil || !a.At.Equal(at) {
						t.Errorf("%s: authenticated at %v, want %v; %v", tt.name, a.At, at, err)
					}
				}
				s := m.Start()
				var times []time.Time
				for _, step := range tt.steps {
					time.Sleep(time.Minute)
					if err := authenticating[step](s); err != nil {
						t.Fatalf("%s: %s: %v", tt.name, step, err)
					}
					times = append(times, time.Now())
					if len(times) == tt.at {
						wantFresh(s, time.Now()) // before it is saved
					}
					check(t, finish(m, s))
					s = open(t, m, s.Token().Reveal())
				}
				var at time.Time
				if tt.at > 0 {
					at = times[tt.at-1]
				}
				wantFresh(s, at)
				if a, _ := s.Authentication(); !slices.Equal(a.Methods, tt.methods) {
					t.Errorf("%s: the methods are %q, want %q", tt.name, a.Methods, tt.methods)
				}
				rec, err := b.Load(ctx, session.DefaultStoreKey(s.Token().Reveal()))
				check(t, err)
				values, err := c.Split(rec.Data)
				check(t, err)
				if got := values["_session.auth"]; (got != nil) != tt.stored {
					t.Errorf("%s: stored %q", tt.name, got)
				}
				if names := s.Names(); slices.ContainsFunc(names, func(name string) bool { return name == "_session.auth" }) {
					t.Errorf("%s: the names are %v", tt.name, names)
				}
			})
		}
	}
}

// TestFreshWithin: to the millisecond, and with clocks that differ.
func TestFreshWithin(t *testing.T) {
	const ten = 10 * time.Minute
	for _, again := range []bool{false, true} {
		for _, tt := range []struct {
			age   time.Duration // negative: the time lies ahead
			fresh bool
		}{
			{0, true},
			{ten - time.Millisecond, true},
			{ten, true},
			{ten + time.Millisecond, false},
			{time.Hour, false},
			{-time.Millisecond, true},
			{-5 * time.Minute, true},
			{-5*time.Minute - time.Millisecond, false},
			{-time.Hour, false},
			{-24 * 365 * time.Hour, false},
		} {
			synctest.Test(t, func(t *testing.T) {
				var b memory.Backend
				m := newManager(t, &b, session.Config{AbsoluteTimeout: session.Never})
				s := m.Start()
				check(t, errors.Join(s.Login("ann"), s.Save(ctx)))
				if again {
					check(t, errors.Join(s.Reauthenticate("otp"), s.Save(ctx)))
				}
				token := s.Token().Reveal()
				now := time.Now()
				if tt.age < 0 { // as a machine whose clock is ahead has written it
					rec, err := b.Load(ctx, session.DefaultStoreKey(token))
					check(t, err)
					rec.Created = now.Add(-tt.age)
					_, err = b.Save(ctx, session.DefaultStoreKey(token), rec)
					check(t, err)
				} else {
					time.Sleep(tt.age)
				}
				s = open(t, m, token)
				if err := s.FreshWithin(ten); (err == nil) != tt.fresh {
					t.Errorf("again %v, %v ago: %v", again, tt.age, err)
				}
			})
		}
	}
}

// TestLoginByAnEarlierVersion leaves what it does not know of, and must not make
// it newer than that Login.
func TestLoginByAnEarlierVersion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b memory.Backend
		m := newManager(t, &b, session.Config{IdleTimeout: session.Never})
		s := m.Start()
		check(t, errors.Join(s.Login("ann"), s.Save(ctx)))
		time.Sleep(3 * time.Hour)
		check(t, errors.Join(s.Reauthenticate("otp"), s.Save(ctx)))
		key := session.DefaultStoreKey(s.Token().Reveal())
		time.Sleep(time.Hour)
		rec, err := b.Load(ctx, key)
		check(t, err)
		rec.Created = time.Now()
		_, err = b.Save(ctx, key, rec)
		check(t, err)
		s = open(t, m, s.Token().Reveal())
		check(t, s.FreshWithin(time.Second))
		for range 5 {
			time.Sleep(time.Hour)
			wantErr(t, s.FreshWithin(59*time.Minute), session.ErrNotFresh)
		}
	})
}

// TestRefusedIsNotUse: a request that does not meet the demand keeps no session
// alive, however long its answer takes, unless a Handler outside uses the session.
func TestRefusedIsNotUse(t *testing.T) {
	for _, tt := range []struct {
		refused, inside bool
		calls           []string
	}{
		{false, false, []string{"Load", "Touch", "Touch"}},
		{true, false, []string{"Load"}},
		{true, true, []string{"Load", "Touch", "Touch"}},
	} {
		synctest.Test(t, func(t *testing.T) {
			var b store
			m := newManager(t, &b, session.Config{IdleTimeout: time.Hour, TouchInterval: time.Minute, ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
				time.Sleep(50 * time.Minute)
				w.WriteHeader(session.Status(err))
			}})
			token := loggedIn(t, m, begin(t, m, map[string]any{"note": "x"}))
			time.Sleep(10 * time.Minute)
			within := time.Hour
			if tt.refused {
				within = time.Minute
			}
			b.took()
			w := visit(m, "GET", token, func(w http.ResponseWriter, r *http.Request) {
				if tt.inside {
					check(t, errOf(m.Get(r.Context())))
				}
				demanding(t, m, within, 0).HandlerFunc(func(_ http.ResponseWriter, _ *http.Request, _ *session.Session) error {
					time.Sleep(50 * time.Minute)
					return nil
				}).ServeHTTP(w, r)
			})
			b.wantCalls(t, tt.calls...)
			if (w.Code == http.StatusUnauthorized) != tt.refused {
				t.Errorf("answered %d", w.Code)
			}
		})
	}
}
