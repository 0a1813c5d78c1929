//go:build go1.25

package session_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/codec"
	"github.com/seed-a7bee19b/session/sessiontest"
)

const day = 24 * time.Hour

// longest is a Config with the default timeouts, and ceilings above them.
func longest(cfg session.Config) session.Config {
	cfg.MaxIdleTimeout, cfg.MaxAbsoluteTimeout = 30*day, 90*day
	return cfg
}

// remembered is the lifetime of users who want to be remembered.
var remembered = session.Lifetime{Idle: 30 * day, Absolute: 90 * day, Persistent: true}

// everyMode has those in which a session is used by writing and reading.
var everyMode = []session.Mode{session.Merge, session.LastWrite, session.Exclusive}

func wantLifetime(t testing.TB, s *session.Session, want session.Lifetime) {
	t.Helper()
	if got, err := s.Lifetime(); got != want || err != nil {
		t.Errorf("the lifetime is %+v, %v, want %+v", got, err, want)
	}
}

// alive reports whether a client with that token has a session, without using it.
func isAlive(t testing.TB, m *session.Manager, token string) bool {
	t.Helper()
	quiet, err := m.With(session.Route{Mode: session.ReadOnly})
	check(t, err)
	s, err := quiet.Open(ctx, token)
	if errors.Is(err, session.ErrNotFound) {
		return false
	}
	check(t, err)
	check(t, s.Close(ctx))
	return true
}

// beginWith stores a session with a value and the given lifetime.
func beginWith(t testing.TB, m *session.Manager, l session.Lifetime) string {
	t.Helper()
	s := m.Start()
	check(t, errors.Join(note.Set(s, "x"), s.SetLifetime(l), finish(m, s)))
	return s.Token().Reveal()
}

// TestRememberMe checks a user who is seen now and then, by several processes, for
// as long as the absolute timeout of the session allows.
func TestRememberMe(t *testing.T) {
	for _, mode := range everyMode {
		synctest.Test(t, func(t *testing.T) {
			var b leasingStore
			m, other := newManager(t, &b, longest(session.Config{Mode: mode, TouchInterval: 1})), newManager(t, &b, longest(session.Config{TouchInterval: 1}))
			token := begin(t, m, map[string]any{"note": "x"})
			s := open(t, m, token)
			check(t, s.LoginWith(session.Login{User: "ann", Lifetime: remembered}))
			check(t, finish(m, s))
			began := time.Now()

			uses := []func(s *session.Session) error{
				func(*session.Session) error { return nil },
				func(s *session.Session) error { return errOf(counter.Update(s, inc)) },
				func(s *session.Session) error { return s.Rotate() },
				func(s *session.Session) error { return s.Clear() },
				func(s *session.Session) error { return errors.Join(s.Rotate(), note.Set(s, "y"), s.Clear()) },
			}
			for i := 0; time.Since(began) < 90*day-29*day; i++ {
				time.Sleep(29 * day / 5)
				for _, m := range []*session.Manager{m, other} {
					u := open(t, m, s.Token().Reveal())
					wantLifetime(t, u, remembered)
					if user, err := u.User(); user != "ann" || err != nil {
						t.Errorf("user %q, %v", user, err)
					}
					check(t, errors.Join(uses[i%len(uses)](u), finish(m, u)))
					if left := time.Until(u.Expires()); left != min(30*day, time.Until(began.Add(90*day))) {
						t.Errorf("mode %v, use %d: it expires in %v", mode, i, left)
					}
					s = u
				}
			}
			token = s.Token().Reveal()
			check(t, finish(m, open(t, m, token)))
			time.Sleep(time.Until(began.Add(90*day - 1)))
			if !isAlive(t, m, token) || !isAlive(t, other, token) {
				t.Error("it has ended before its time")
			}
			check(t, finish(other, open(t, other, token)))
			time.Sleep(time.Nanosecond)
			if isAlive(t, m, token) || isAlive(t, other, token) {
				t.Error("it has not ended")
			}
		})
	}
}

// TestOwnTimeoutsEndASession checks the moment at which a session with a lifetime of
// its own ends, and that the one who says so has ended the record. It is used once,
// in time.
func TestOwnTimeoutsEndASession(t *testing.T) {
	const ms, s, m, h = time.Millisecond, time.Second, time.Minute, time.Hour // stores round to one
	for _, tt := range []struct {
		l    session.Lifetime
		used time.Duration // since it began
		ends time.Duration
	}{
		{session.Lifetime{}, 0, 2 * h},
		{session.Lifetime{Persistent: true}, 0, 2 * h},
		{session.Lifetime{Idle: 5 * m}, 0, 5 * m},
		{session.Lifetime{Idle: 5 * m}, 4 * m, 9 * m},
		{session.Lifetime{Idle: s}, s - ms, 2*s - ms},
		{session.Lifetime{Absolute: h}, 0, h},
		{session.Lifetime{Absolute: h}, h - ms, h},
		{session.Lifetime{Idle: 5 * m, Absolute: 10 * m}, 4 * m, 9 * m},
		{session.Lifetime{Idle: 5 * m, Absolute: 7 * m}, 4 * m, 7 * m},
		{session.Lifetime{Absolute: 90 * day}, h, 3 * h}, // idle for as long as the others
		{session.Lifetime{Idle: 24 * h}, 23 * h, 24 * h}, // no older than the others
		{session.Lifetime{Idle: 12 * h}, 11 * h, 23 * h},
		{session.Lifetime{Idle: 12 * h}, 0, 12 * h},
		{remembered, 0, 30 * day},
		{remembered, 30*day - ms, 60*day - ms},
		{session.Lifetime{Idle: 30 * day, Absolute: 30 * day}, 29 * day, 30 * day},
	} {
		for _, mode := range everyMode {
			for use, f := range map[string]func(s *session.Session) error{
				"read":   func(*session.Session) error { return nil },
				"write":  func(s *session.Session) error { return note.Set(s, "y") },
				"rotate": func(s *session.Session) error { return s.Rotate() },
			} {
				synctest.Test(t, func(t *testing.T) {
					name := fmt.Sprintf("%+v, %s after %v in mode %v", tt.l, use, tt.used, mode)
					var b leasingStore
					m := newManager(t, &b, longest(session.Config{Mode: mode, TouchInterval: 1}))
					token := beginWith(t, m, tt.l)
					began := time.Now()
					if tt.used > 0 {
						time.Sleep(tt.used)
						s := open(t, m, token)
						check(t, errors.Join(f(s), finish(m, s)))
						token = s.Token().Reveal()
					}
					if s := open(t, m, token); !s.Expires().Equal(began.Add(tt.ends)) {
						t.Errorf("%s: it expires after %v", name, s.Expires().Sub(began))
					} else {
						check(t, s.Close(ctx))
					}
					time.Sleep(time.Until(began.Add(tt.ends - 1)))
					if !isAlive(t, m, token) {
						t.Errorf("%s: it has ended before", name)
					}
					time.Sleep(time.Nanosecond)
					_, err := m.Open(ctx, token)
					wantErr(t, err, session.ErrNotFound)
				})
			}
		}
	}
}

// TestOwnAbsoluteTimeoutIsNotPutOff checks a session whose deadline was moved past
// its own absolute timeout, by a process that does not know of it: it is over, and
// so is its record, even while a request holds its lock.
func TestOwnAbsoluteTimeoutIsNotPutOff(t *testing.T) {
	for _, mode := range append(everyMode, session.ReadOnly) {
		for _, locked := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				var b leasingStore
				m := newManager(t, &b, longest(session.Config{Mode: mode}))
				writer := newManager(t, &b, session.Config{})
				token := beginWith(t, writer, session.Lifetime{Absolute: time.Hour})
				key := session.DefaultStoreKey(token)
				check(t, b.Touch(ctx, key, time.Now().Add(2*time.Hour)))
				late := open(t, writer, token)
				check(t, note.Set(late, "late"))
				time.Sleep(time.Hour - 1)
				if !isAlive(t, m, token) {
					t.Errorf("mode %v: it has ended before", mode)
				}
				if locked && mode != session.Exclusive { // which would wait for it
					_, err := b.Acquire(ctx, key, time.Minute)
					check(t, err)
				}
				time.Sleep(time.Nanosecond)
				_, err := m.Open(ctx, token)
				wantErr(t, err, session.ErrNotFound)
				if mode != session.ReadOnly && b.Len() != 0 {
					t.Errorf("mode %v, locked %v: the record is still there", mode, locked)
				}
				wantErr(t, late.Save(ctx), session.ErrNotFound)
				if b.Len() != 0 {
					t.Errorf("mode %v, locked %v: the record is there again", mode, locked)
				}
			})
		}
	}
}

// TestRaisedCeilingsAreForOthers checks that sessions without a lifetime of their own
// end as before when the ceilings are raised, and with the same calls.
func TestRaisedCeilingsAreForOthers(t *testing.T) {
	for _, cfg := range []session.Config{{}, longest(session.Config{}), {MaxIdleTimeout: session.Never, MaxAbsoluteTimeout: session.Never}} {
		synctest.Test(t, func(t *testing.T) {
			b := &lingering{end: func() error { return nil }}
			m := newManager(t, b, cfg)
			token := begin(t, m, map[string]any{"note": "x"})
			key := session.DefaultStoreKey(token)
			found, err := b.Load(ctx, key)
			check(t, err)
			found.Expires = found.Created.Add(48 * time.Hour) // by a longer AbsoluteTimeout of then
			time.Sleep(24*time.Hour - 1)
			b.found = found
			s := open(t, m, token)
			check(t, s.Close(ctx))
			time.Sleep(time.Nanosecond)
			b.took()
			b.found = found
			_, err = m.Open(ctx, token)
			wantErr(t, err, session.ErrNotFound)
			b.wantCalls(t, "Load", "end")
		})
	}
}

// TestLoweredCeilings apply at once to sessions that are stored, and to no others. A
// process that has the higher ones still finds what was set.
func TestLoweredCeilings(t *testing.T) {
	const h = time.Hour
	usual := session.Lifetime{Idle: 2 * h, Absolute: 24 * h}
	lasting := usual
	lasting.Persistent = true
	for _, tt := range []struct {
		cfg    session.Config
		age    time.Duration
		unused time.Duration
		want   session.Lifetime
		alive  bool
		left   time.Duration // after a use
	}{
		{session.Config{}, 23 * h, h, lasting, true, h},
		{session.Config{}, 20 * h, 2*h - 1, lasting, true, 2 * h},
		{session.Config{}, 20 * h, 2 * h, lasting, false, 0},
		{session.Config{}, 24*h - 1, 0, lasting, true, 1},
		{session.Config{}, 24 * h, 0, lasting, false, 0},
		{session.Config{}, 40 * day, 0, lasting, false, 0},
		{session.Config{MaxIdleTimeout: 7 * day, MaxAbsoluteTimeout: 60 * day}, 50 * day, 7*day - 1, session.Lifetime{Idle: 7 * day, Absolute: 60 * day, Persistent: true}, true, 7 * day},
		{session.Config{MaxIdleTimeout: 7 * day, MaxAbsoluteTimeout: 60 * day}, 50 * day, 7 * day, session.Lifetime{Idle: 7 * day, Absolute: 60 * day, Persistent: true}, false, 0},
		{session.Config{MaxIdleTimeout: 7 * day, MaxAbsoluteTimeout: 60 * day}, 60 * day, 0, session.Lifetime{}, false, 0},
		{session.Config{MaxAbsoluteTimeout: 90 * day}, 50 * day, h, session.Lifetime{Idle: 2 * h, Absolute: 90 * day, Persistent: true}, true, 2 * h},
	} {
		for _, mode := range everyMode {
			synctest.Test(t, func(t *testing.T) {
				name := fmt.Sprintf("age %v, unused %v, mode %v", tt.age, tt.unused, mode)
				var b leasingStore
				high := newManager(t, &b, longest(session.Config{TouchInterval: 1}))
				token := beginWith(t, high, remembered)
				began := time.Now()
				for used := tt.age - tt.unused; time.Since(began) < used; {
					time.Sleep(min(20*day, used-time.Since(began)))
					check(t, finish(high, open(t, high, token)))
				}
				time.Sleep(tt.unused)
				tt.cfg.Mode = mode
				low := newManager(t, &b, tt.cfg)
				s, err := low.Open(ctx, token)
				if (err == nil) != tt.alive {
					t.Fatalf("%s: %v", name, err)
				}
				if err != nil {
					wantErr(t, err, session.ErrNotFound)
					if b.Len() != 0 {
						t.Errorf("%s: the record is still there", name)
					}
					return
				}
				wantLifetime(t, s, tt.want)
				b.took()
				check(t, finish(low, s))
				if left := time.Until(s.Expires()); left > tt.left {
					t.Errorf("%s: it expires in %v, want %v", name, left, tt.left)
				}
				check(t, alikeUntil(t, low, token, tt.left))
				if isAlive(t, low, token) {
					t.Errorf("%s: it lives for longer", name)
				}
				if b.Len() > 0 { // not ended, as it was only looked at
					h, err := high.Open(ctx, token)
					if err == nil {
						wantLifetime(t, h, remembered)
						check(t, h.Close(ctx))
					} else {
						wantErr(t, err, session.ErrNotFound)
					}
				}
			})
		}
	}
}

// alikeUntil sleeps until the session is to end, and returns an error if it has
// ended before.
func alikeUntil(t testing.TB, m *session.Manager, token string, left time.Duration) error {
	t.Helper()
	time.Sleep(left - 1)
	if !isAlive(t, m, token) {
		return errors.New("it has ended before")
	}
	time.Sleep(time.Nanosecond)
	return nil
}

// TestLifetimesMerge checks two requests that overlap, one of which sets a lifetime.
func TestLifetimesMerge(t *testing.T) {
	short := session.Lifetime{Idle: 5 * time.Minute}
	usual := session.Lifetime{Idle: 2 * time.Hour, Absolute: 24 * time.Hour}
	shortened := session.Lifetime{Idle: 5 * time.Minute, Absolute: 24 * time.Hour}
	set := func(l session.Lifetime) func(*session.Session) error {
		return func(s *session.Session) error { return s.SetLifetime(l) }
	}
	count := func(s *session.Session) error { return errOf(counter.Update(s, inc)) }
	clearAll := func(s *session.Session) error { return s.Clear() }
	login := func(l session.Lifetime) func(*session.Session) error {
		return func(s *session.Session) error { return s.LoginWith(session.Login{User: "ann", Lifetime: l}) }
	}
	rotate := func(s *session.Session) error { return s.Rotate() }
	for _, tt := range []struct {
		name          string
		begins        session.Lifetime
		first, second func(*session.Session) error // in the order of their saves
		want          session.Lifetime
		gone          bool             // for the second
		lastWrite     session.Lifetime // want in that mode, if it is another
	}{
		{name: "set, then count", first: set(short), second: count, want: shortened, lastWrite: usual},
		{name: "count, then set", first: count, second: set(short), want: shortened},
		{name: "set, then clear", first: set(short), second: clearAll, want: shortened, lastWrite: usual},
		{name: "clear, then set", first: clearAll, second: set(short), want: shortened},
		{name: "another one set, then clear", begins: remembered, first: set(short), second: clearAll, want: shortened, lastWrite: remembered},
		{name: "both set", first: set(remembered), second: set(short), want: shortened},
		{name: "both set the same", first: set(short), second: set(short), want: shortened},
		{name: "set and unset", begins: remembered, first: set(short), second: set(session.Lifetime{}), want: usual},
		{name: "unset and set", begins: remembered, first: set(session.Lifetime{}), second: set(short), want: shortened},
		{name: "set, then rotate", first: set(short), second: rotate, want: shortened, lastWrite: usual},
		{name: "rotate, then set", first: rotate, second: set(short), want: usual, gone: true},
		{name: "set, then log in", first: set(remembered), second: login(session.Lifetime{}), want: usual},
		{name: "set, then log in with another", first: set(remembered), second: login(short), want: shortened},
		{name: "set the same, then log in", begins: remembered, first: count, second: login(session.Lifetime{}), want: usual},
		{name: "log in, then set", first: login(remembered), second: set(short), want: remembered, gone: true},
	} {
		for _, mode := range everyMode {
			synctest.Test(t, func(t *testing.T) {
				name := fmt.Sprintf("%s, in mode %v", tt.name, mode)
				want := tt.want
				if mode == session.LastWrite && tt.lastWrite != (session.Lifetime{}) {
					want = tt.lastWrite
				}
				var b leasingStore
				m := newManager(t, &b, longest(session.Config{Mode: mode}))
				merging, err := m.With(session.Route{Mode: session.Merge})
				check(t, err)
				token := beginWith(t, m, tt.begins)
				var first, second *session.Session
				if mode == session.Exclusive { // the other one only wants to save
					first, second = open(t, m, token), open(t, merging, token)
				} else {
					first, second = open(t, m, token), open(t, m, token)
				}
				time.Sleep(time.Second)
				check(t, errors.Join(tt.first(first), tt.second(second)))
				check(t, finish(m, first))
				live := second
				if tt.gone {
					wantErr(t, second.Save(ctx), session.ErrNotFound)
					check(t, second.Close(ctx))
					live = first
				} else {
					check(t, finish(m, second))
				}
				s := open(t, m, live.Token().Reveal())
				wantLifetime(t, s, want)
				if left := time.Until(s.Expires()); left > want.Idle || left < want.Idle-time.Second {
					t.Errorf("%s: it expires in %v", name, left)
				}
				check(t, finish(m, s))
				if t.Failed() {
					t.Log(name)
				}
			})
		}
	}
}

// TestOnlyAnOwnLifetimeCosts checks the calls and the bytes of sessions with and
// without a lifetime of their own.
func TestOnlyAnOwnLifetimeCosts(t *testing.T) {
	for _, tt := range []struct {
		name     string
		l        session.Lifetime
		interval time.Duration
		bytes    int
	}{
		{"none", session.Lifetime{}, 12 * time.Minute, 0},
		{"long", remembered, 3 * day, 64},
		{"short", session.Lifetime{Idle: 10 * time.Minute}, time.Minute, 41},
	} {
		synctest.Test(t, func(t *testing.T) {
			var b leasingStore
			m := newManager(t, &b, longest(session.Config{}))
			begin(t, m, map[string]any{"note": "x"})
			b.wantCalls(t, "Save")
			token := beginWith(t, m, tt.l)
			b.wantCalls(t, "Save")
			rec, err := b.Load(ctx, session.DefaultStoreKey(token))
			check(t, err)
			if got, want := len(rec.Data), len("\x81\xa4note\xa1x")+tt.bytes; got != want {
				t.Errorf("%s: %d bytes, want %d: %q", tt.name, got, want, rec.Data)
			}
			b.took()
			time.Sleep(tt.interval - 1)
			check(t, finish(m, open(t, m, token)))
			b.wantCalls(t, "Load")
			time.Sleep(time.Nanosecond)
			check(t, finish(m, open(t, m, token)))
			b.wantCalls(t, "Load", "Touch")
			check(t, finish(m, open(t, m, token)))
			b.wantCalls(t, "Load")
			s := open(t, m, token)
			check(t, errors.Join(note.Set(s, "y"), finish(m, s)))
			b.wantCalls(t, "Load", "Save")
			s = open(t, m, token)
			check(t, errors.Join(s.SetLifetime(tt.l), finish(m, s)))
			b.wantCalls(t, "Load") // it has that lifetime
			s = open(t, m, token)
			check(t, errors.Join(s.Rotate(), finish(m, s)))
			b.wantCalls(t, "Load", "Save", "Save")
			check(t, s.Destroy(ctx))
		})
	}
}

// TestALifetimeAloneIsNotStored checks that it waits for data.
func TestALifetimeAloneIsNotStored(t *testing.T) {
	var b store
	m := newManager(t, &b, longest(session.Config{}))
	s := m.Start()
	check(t, s.SetLifetime(remembered))
	check(t, s.Save(ctx))
	b.wantCalls(t)
	if !s.IsNew() {
		t.Error("it is stored")
	}
	wantLifetime(t, s, remembered)
	check(t, note.Set(s, "x"))
	check(t, finish(m, s))
	b.wantCalls(t, "Save")
	s = open(t, m, s.Token().Reveal())
	wantLifetime(t, s, remembered)
	check(t, s.Clear())
	check(t, finish(m, s))
	wantLifetime(t, open(t, m, s.Token().Reveal()), remembered)

	w := serve(t, m, "", func(_ http.ResponseWriter, _ *http.Request, s *session.Session) { check(t, s.SetLifetime(remembered)) })
	if c := w.Result().Cookies(); len(c) != 0 {
		t.Errorf("cookies %v", c)
	}
}

// TestShorterIdleBringsTheDeadlineForward, in the Save that stores it, also if a
// request has moved the deadline meanwhile; a longer one puts it off.
func TestShorterIdleBringsTheDeadlineForward(t *testing.T) {
	const h = time.Hour
	for _, tt := range []struct {
		name    string
		was, is session.Lifetime
		touched time.Duration // to when from now, by another request
		left    time.Duration
	}{
		{"shorter", session.Lifetime{}, session.Lifetime{Idle: 5 * time.Minute}, 0, 5 * time.Minute},
		{"shorter by a second", session.Lifetime{}, session.Lifetime{Idle: 2*h - time.Second}, 0, 2*h - time.Second},
		{"shorter, and touched", session.Lifetime{}, session.Lifetime{Idle: 5 * time.Minute}, 2 * h, 5 * time.Minute},
		{"forgotten", remembered, session.Lifetime{}, 30 * day, 2 * h},
		{"longer", session.Lifetime{}, remembered, 2 * h, 30 * day},
		{"a shorter absolute one", session.Lifetime{}, session.Lifetime{Absolute: 90 * time.Minute}, 2 * h, 30 * time.Minute},
		{"a shorter absolute one, which is far", remembered, session.Lifetime{Idle: 30 * day, Absolute: 60 * day}, 30 * day, 30 * day},
		{"a longer absolute one", session.Lifetime{Absolute: 2 * h}, session.Lifetime{}, 0, 2 * h},
		{"the cookie only", session.Lifetime{}, session.Lifetime{Persistent: true}, 0, 2 * h},
		{"the cookie only, and touched", session.Lifetime{}, session.Lifetime{Persistent: true}, 2*h + time.Minute, 2*h + time.Minute}, // by a clock ahead
	} {
		for _, mode := range everyMode {
			synctest.Test(t, func(t *testing.T) {
				var b leasingStore
				m := newManager(t, &b, longest(session.Config{Mode: mode}))
				token := beginWith(t, m, tt.was)
				time.Sleep(h)
				s := open(t, m, token)
				if tt.touched > 0 {
					check(t, b.Touch(ctx, session.DefaultStoreKey(token), time.Now().Add(tt.touched)))
				}
				b.took()
				check(t, errors.Join(s.SetLifetime(tt.is), s.Save(ctx)))
				b.wantCalls(t, "Save")
				rec, err := b.Load(ctx, session.DefaultStoreKey(token))
				check(t, err)
				if left := time.Until(rec.Expires); left != tt.left {
					t.Errorf("%s, mode %v: it expires in %v, want %v", tt.name, mode, left, tt.left)
				}
				check(t, s.Close(ctx))
				check(t, alikeUntil(t, m, token, tt.left))
				if isAlive(t, m, token) {
					t.Errorf("%s, mode %v: it has not ended", tt.name, mode)
				}
			})
		}
	}
}

// TestLifetimesThatAreRefused change nothing.
func TestLifetimesThatAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b store
		m := newManager(t, &b, session.Config{MaxIdleTimeout: 3 * time.Hour, MaxAbsoluteTimeout: 48 * time.Hour})
		token := beginWith(t, m, session.Lifetime{Absolute: 48 * time.Hour})
		for range 24 {
			time.Sleep(time.Hour)
			check(t, finish(m, open(t, m, token)))
		}
		s := open(t, m, token)
		for _, tt := range []struct {
			l     session.Lifetime
			want  string
			login bool // takes it
		}{
			{session.Lifetime{Idle: 4 * time.Hour}, "Idle is 4h0m0s, longer than Config.MaxIdleTimeout, which is 3h0m0s", false},
			{session.Lifetime{Absolute: session.Never}, "Absolute is Never, and Config.MaxAbsoluteTimeout is 48h0m0s", false},
			{session.Lifetime{Idle: time.Millisecond}, "Idle is 1ms; it must be at least 1s, or Never", false},
			{session.Lifetime{Idle: 2 * time.Hour, Absolute: time.Hour}, "the Idle of 2h0m0s is longer than Absolute, which is 1h0m0s and would always come first", false},
			{session.Lifetime{Absolute: time.Hour}, "the session began 24h0m0s ago, and Absolute is 1h0m0s", true},
			{session.Lifetime{}, "the session began 24h0m0s ago, and Absolute is 24h0m0s", true}, // Created is of then
		} {
			if err := s.SetLifetime(tt.l); err == nil || err.Error() != "session: set lifetime: "+tt.want {
				t.Errorf("%+v: %v", tt.l, err)
			}
			if err := s.LoginWith(session.Login{User: "ann", Lifetime: tt.l}); tt.login && err != nil || !tt.login && (err == nil || err.Error() != "session: login: "+tt.want) {
				t.Errorf("log in with %+v: %v", tt.l, err)
			}
			if tt.login {
				check(t, s.SetLifetime(tt.l)) // as the session begins anew
				s.Discard()
			}
			if user, err := s.User(); user != "" || err != nil {
				t.Errorf("user %q, %v", user, err)
			}
			wantLifetime(t, s, session.Lifetime{Idle: 2 * time.Hour, Absolute: 48 * time.Hour})
		}
		b.took()
		check(t, finish(m, s))
		b.wantCalls(t)
		wantErr(t, s.SetLifetime(session.Lifetime{Idle: time.Hour}), session.ErrClosed)
		_, err := s.Lifetime()
		wantErr(t, err, session.ErrClosed)

		quiet, err := m.With(session.Route{Mode: session.ReadOnly})
		check(t, err)
		s = open(t, quiet, token)
		wantErr(t, s.SetLifetime(session.Lifetime{Idle: time.Hour}), session.ErrReadOnly)
		wantLifetime(t, s, session.Lifetime{Idle: 2 * time.Hour, Absolute: 48 * time.Hour})
		wantErr(t, s.Set("_session.lifetime", "1 1"), session.ErrEncode)
	})
}

// TestLifetimeThatIsOverWhenItIsSaved: the session ends, for this request and for the
// others.
func TestLifetimeThatIsOverWhenItIsSaved(t *testing.T) {
	for _, mode := range everyMode {
		for name, more := range map[string]func(s *session.Session) error{
			"alone":  func(*session.Session) error { return nil },
			"rotate": func(s *session.Session) error { return s.Rotate() },
		} {
			for _, other := range []string{"", "saves", "holds the lock", "has ended it"} {
				if mode == session.Exclusive && other != "" {
					continue // this one has the lock
				}
				synctest.Test(t, func(t *testing.T) {
					var b leasingStore
					m := newManager(t, &b, session.Config{Mode: mode})
					token := begin(t, m, map[string]any{"note": "x"})
					time.Sleep(time.Hour - 1)
					s := open(t, m, token)
					check(t, errors.Join(s.SetLifetime(session.Lifetime{Absolute: time.Hour}), more(s)))
					o := m
					if other == "holds the lock" {
						var err error
						o, err = m.With(session.Route{Mode: session.Exclusive})
						check(t, err)
					}
					var u *session.Session
					if other != "" {
						u = open(t, o, token)
					}
					time.Sleep(time.Nanosecond)
					switch other {
					case "saves":
						check(t, errors.Join(counter.Set(u, 1), u.Save(ctx)))
					case "has ended it":
						check(t, u.Destroy(ctx))
					case "holds the lock":
						go func() {
							time.Sleep(time.Second)
							check(t, errors.Join(counter.Set(u, 1), u.Save(ctx)))
						}()
					}
					b.took()
					err := s.Save(ctx)
					wantErr(t, err, session.ErrNotFound)
					wantErr(t, err, session.ErrConflict)
					if b.Len() != 0 {
						t.Errorf("mode %v, %s, the other %s: the record is still there", mode, name, other)
					}
					check(t, s.Close(ctx))
					if u != nil && other != "has ended it" {
						check(t, errors.Join(counter.Set(u, 2)))
						wantErr(t, u.Save(ctx), session.ErrNotFound)
						check(t, u.Close(ctx))
					}
					_, err = m.Open(ctx, token)
					wantErr(t, err, session.ErrNotFound)
				})
			}
		}
	}
}

// TestUseAfterALifetimeIsSaved checks that a long request keeps its session when it
// has given it a shorter idle timeout, or one at all.
func TestUseAfterALifetimeIsSaved(t *testing.T) {
	for name, tt := range map[string]struct {
		cfg session.Config
		is  session.Lifetime
	}{
		"shorter":            {session.Config{}, session.Lifetime{Idle: time.Minute}},
		"usually off":        {session.Config{IdleTimeout: session.Never}, session.Lifetime{Idle: time.Minute}},
		"longer":             {longest(session.Config{IdleTimeout: time.Minute, TouchInterval: time.Second}), remembered},
		"both, one by one":   {session.Config{}, session.Lifetime{Idle: 10 * time.Minute}},
		"shorter, read only": {session.Config{SafeMode: session.Merge}, session.Lifetime{Idle: time.Minute}},
	} {
		synctest.Test(t, func(t *testing.T) {
			var b store
			m := newManager(t, &b, tt.cfg)
			token := begin(t, m, map[string]any{"note": "x"})
			serve(t, m, token, func(_ http.ResponseWriter, _ *http.Request, s *session.Session) {
				if name == "both, one by one" {
					check(t, errors.Join(s.SetLifetime(session.Lifetime{Idle: time.Minute}), s.Save(ctx)))
				}
				check(t, errors.Join(s.SetLifetime(tt.is), s.Save(ctx)))
				for range 10 {
					time.Sleep(6 * time.Minute)
					if !isAlive(t, m, token) {
						t.Fatalf("%s: it has ended during the request", name)
					}
				}
			})
			time.Sleep(time.Minute - time.Second)
			if !isAlive(t, m, token) {
				t.Errorf("%s: it has ended after the request", name)
			}
		})
	}
}

// TestLongUseOfAnOwnLifetime checks that a long request moves the deadline by the
// timeouts of its session, also if another process has moved it too far.
func TestLongUseOfAnOwnLifetime(t *testing.T) {
	const m, h = time.Minute, time.Hour
	for _, tt := range []struct {
		l       session.Lifetime
		touched bool // by another process, to 2 hours from now
		save    bool // during the request
		lasts   time.Duration
		then    time.Duration // it ends so long after the request
	}{
		{session.Lifetime{Idle: 5 * m}, false, false, h, 5 * m},
		{session.Lifetime{Idle: 5 * m}, true, false, h, 5 * m},
		{session.Lifetime{Idle: 5 * m}, true, true, h, 5 * m},
		{session.Lifetime{Idle: 12 * h}, false, false, 20 * h, 4 * h}, // which is the absolute timeout
		{session.Lifetime{Absolute: 3 * h}, false, false, 2*h + 30*m, 30 * m},
		{remembered, false, false, 50 * day, 30 * day},
	} {
		synctest.Test(t, func(t *testing.T) {
			var b store
			manager := newManager(t, &b, longest(session.Config{TouchInterval: 1}))
			token := beginWith(t, manager, tt.l)
			if tt.touched {
				check(t, b.Touch(ctx, session.DefaultStoreKey(token), time.Now().Add(2*h)))
			}
			serve(t, manager, token, func(_ http.ResponseWriter, _ *http.Request, s *session.Session) {
				if tt.save {
					check(t, s.Save(ctx))
				}
				for range 10 {
					time.Sleep(tt.lasts / 10)
					if !isAlive(t, manager, token) {
						t.Fatalf("%+v: it has ended during the request", tt.l)
					}
				}
			})
			check(t, alikeUntil(t, manager, token, tt.then))
			if isAlive(t, manager, token) {
				t.Errorf("%+v: it has not ended", tt.l)
			}
		})
	}
}

// TestLastWriteAndAShorterLifetime checks a writer that was overtaken by a request which
// has shortened the lifetime, and whose own changes are then dropped: it does not put
// off the deadline.
func TestLastWriteAndAShorterLifetime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b store
		m := newManager(t, &b, session.Config{Mode: session.LastWrite, TouchInterval: 1})
		token := begin(t, m, map[string]any{"note": "x"})
		s, o := open(t, m, token), open(t, m, token)
		check(t, counter.Set(s, 1))
		check(t, errors.Join(o.SetLifetime(session.Lifetime{Idle: time.Minute}), finish(m, o)))
		saves := 0
		b.before = func(_ context.Context, op string) error {
			if op == "Save" {
				if saves++; saves == 2 {
					return errStore
				}
			}
			return nil
		}
		wantErr(t, s.Save(ctx), errStore)
		b.healthy()
		s.Discard()
		time.Sleep(time.Second)
		check(t, finish(m, s))
		if left := time.Until(s.Expires()); left != time.Minute {
			t.Errorf("it expires in %v", left)
		}
		check(t, alikeUntil(t, m, token, time.Minute))
		if isAlive(t, m, token) {
			t.Error("it has not ended")
		}
	})
}

// TestLostLoginOfARememberedVisitor: as long as the old ID would have lived, and the new
// one is unused, a client without the answer has what it had.
func TestLostLoginOfARememberedVisitor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b store
		m := newManager(t, &b, longest(session.Config{}))
		token := beginWith(t, m, remembered)
		s := open(t, m, token)
		check(t, errors.Join(s.LoginWith(session.Login{User: "ann", Lifetime: remembered}), finish(m, s)))
		time.Sleep(29 * day)
		r := request(token)
		w := do(m.HandlerFunc(func(_ http.ResponseWriter, _ *http.Request, s *session.Session) error {
			if got, err := note.Get(s); got != "x" || err != nil {
				t.Errorf("note is %q, %v", got, err)
			}
			wantLifetime(t, s, remembered)
			return s.Login("ann")
		}), r)
		wantNote(t, m, r, w, "x")
		if isAlive(t, m, s.Token().Reveal()) {
			t.Error("there are two sessions")
		}
		wantLifetime(t, sessiontest.Stored(t, m, r, w.Result()), session.Lifetime{Idle: 2 * time.Hour, Absolute: day})
	})
}

// TestOldIDOfARememberedSession can log out for as long as it could have been used.
func TestOldIDOfARememberedSession(t *testing.T) {
	for name, change := range map[string]func(s *session.Session) error{
		"rotate":          func(s *session.Session) error { return s.Rotate() },
		"log in again":    func(s *session.Session) error { return s.LoginWith(session.Login{User: "ann", Lifetime: remembered}) },
		"log in for less": func(s *session.Session) error { return s.Login("ann") },
	} {
		synctest.Test(t, func(t *testing.T) {
			var b store
			m := newManager(t, &b, longest(session.Config{}))
			token := beginWith(t, m, remembered)
			s := open(t, m, token)
			check(t, errors.Join(s.Login("ann"), s.SetLifetime(remembered), finish(m, s)))
			old := s.Token().Reveal()
			time.Sleep(day)
			s = open(t, m, old)
			check(t, errors.Join(change(s), finish(m, s)))
			renewed := s.Token().Reveal()
			for range 29 {
				time.Sleep(day)
				if name != "log in for less" {
					check(t, finish(m, open(t, m, renewed)))
				}
			}
			time.Sleep(day - time.Second)
			if name == "log in for less" { // it is over, but the marker is there
				if rec, err := b.Load(ctx, session.DefaultStoreKey(old)); err != nil || time.Until(rec.Expires) != time.Second {
					t.Errorf("%s: %v, %v", name, rec.Expires, err)
				}
				return
			}
			w := httptest.NewRecorder()
			m.HandlerFunc(func(_ http.ResponseWriter, r *http.Request, s *session.Session) error {
				return s.Destroy(r.Context())
			}).ServeHTTP(w, request(old))
			if isAlive(t, m, renewed) || w.Code != http.StatusOK {
				t.Errorf("%s: the session lives on, status %d", name, w.Code)
			}
		})
	}
}

// TestLifetimeThatCannotBeRead: an error to everybody, nothing is overwritten, and a
// logout works.
func TestLifetimeThatCannotBeRead(t *testing.T) {
	for _, c := range []session.Codec{codec.MessagePack{}, codec.JSON{}} {
		var b leasingStore
		cfg := session.Config{Codec: c, Lock: session.LockConfig{MaxWait: time.Second}}
		m := newManager(t, &b, cfg)
		token := begin(t, m, map[string]any{"note": "x"})
		before := open(t, m, token)
		key := session.DefaultStoreKey(token)
		rec, err := b.Load(ctx, key)
		check(t, err)
		values, err := c.Split(rec.Data)
		check(t, err)
		values["_session.lifetime"], err = c.Marshal("for ever")
		check(t, err)
		rec.Data, err = c.Join(values)
		check(t, err)
		_, err = b.Save(ctx, key, rec)
		check(t, err)
		for _, mode := range append(everyMode, session.ReadOnly) {
			v, err := m.With(session.Route{Mode: mode})
			check(t, err)
			_, err = v.Open(ctx, token)
			wantErr(t, err, session.ErrDecode)
			if strings.Contains(err.Error(), "for ever") || !strings.Contains(err.Error(), "lifetime") {
				t.Errorf("error %v", err)
			}
		}
		check(t, note.Set(before, "y"))
		wantErr(t, before.Save(ctx), session.ErrDecode) // it cannot be merged
		if now, err := b.Load(ctx, key); err != nil || string(now.Data) != string(rec.Data) {
			t.Errorf("the record has changed: %q, %v", now.Data, err)
		}
		cfg.Undecodable = session.ReplaceUndecodable
		w := serve(t, newManager(t, &b, cfg), token, func(_ http.ResponseWriter, _ *http.Request, s *session.Session) {
			if !s.IsNew() {
				t.Error("it is the stored one")
			}
			check(t, note.Set(s, "z"))
		})
		if got := w.Result().Cookies(); len(got) != 1 || got[0].Value == token {
			t.Errorf("cookies %v", got)
		}
		check(t, before.Destroy(ctx))
		_, err = b.Load(ctx, key)
		wantErr(t, err, session.ErrNotFound)
	}
}

// TestLifetimeInTests checks package sessiontest with sessions that have a lifetime.
func TestLifetimeInTests(t *testing.T) {
	var st sessiontest.Store
	m := newManager(t, &st, longest(session.Config{}))
	r := sessiontest.NewRequest(t, m, "POST", "/", nil, func(s *session.Session) error {
		return s.LoginWith(session.Login{User: "ann", Lifetime: remembered})
	})
	s := sessiontest.Stored(t, m, r, nil)
	wantLifetime(t, s, remembered)
	st.Advance(29 * day)
	w := do(m.HandlerFunc(func(_ http.ResponseWriter, _ *http.Request, s *session.Session) error {
		return s.SetLifetime(session.Lifetime{Idle: day, Absolute: 30 * day, Persistent: true})
	}), r)
	s = sessiontest.Stored(t, m, r, w.Result())
	wantLifetime(t, s, session.Lifetime{Idle: day, Absolute: 30 * day, Persistent: true})
	if left := time.Until(s.Expires()); left > day || left < day-time.Minute {
		t.Errorf("it expires in %v", left)
	}
	st.Advance(day)
	sessiontest.NoSession(t, m, r, w.Result())
	r = sessiontest.NewRequest(t, m, "GET", "/", nil, func(s *session.Session) error { return s.SetLifetime(remembered) })
	if len(r.Cookies()) != 0 {
		t.Error("a lifetime alone has made a session")
	}
}

// A cookieCase is a request of a client that has a session, or none.
type cookieCase struct {
	name   string
	cfg    session.Config
	begins session.Lifetime
	none   bool // the client has no session
	do     func(s *session.Session) error
	before func(b *store) // the handler
	status int            // if not 200
	want   string         // the line of Set-Cookie, from after the token; "": no line; "gone"
	same   bool           // it has the token that the client has
}

// TestTheCookieFollows checks the lines of Set-Cookie of sessions that began an hour
// ago.
func TestTheCookieFollows(t *testing.T) {
	const h, always = time.Hour, "; HttpOnly; Secure; SameSite=Lax"
	const plain = "; Path=/" + always
	age := func(d time.Duration) string { return fmt.Sprintf("; Path=/; Max-Age=%d%s", d/time.Second, always) }
	lasting := longest(session.Config{Cookie: session.Cookie{Persistent: true}})
	unlimited := session.Config{MaxIdleTimeout: session.Never, MaxAbsoluteTimeout: session.Never}
	set := func(l session.Lifetime) func(*session.Session) error {
		return func(s *session.Session) error { return s.SetLifetime(l) }
	}
	login := func(l session.Lifetime) func(*session.Session) error {
		return func(s *session.Session) error { return s.LoginWith(session.Login{User: "ann", Lifetime: l}) }
	}
	also := func(fs ...func(*session.Session) error) func(*session.Session) error {
		return func(s *session.Session) error {
			var errs []error
			for _, f := range fs {
				errs = append(errs, f(s))
			}
			return errors.Join(errs...)
		}
	}
	read := func(*session.Session) error { return nil }
	write := func(s *session.Session) error { return note.Set(s, "y") }
	rotate := func(s *session.Session) error { return s.Rotate() }
	save := func(s *session.Session) error { return s.Save(ctx) }
	failing := func(b *store) { b.failing("Save", errStore) }
	losing := func(b *store) { // the answers to one Save and its retries
		lost := false
		b.after = func(op string) error {
			if op == "Save" && !lost {
				lost = true
				return errStore
			}
			return nil
		}
	}
	for _, tt := range []cookieCase{
		{name: "none", cfg: longest(session.Config{}), do: read},
		{name: "new", cfg: longest(session.Config{}), none: true, do: write, want: plain},
		{name: "new, for long", cfg: longest(session.Config{}), none: true, do: also(write, set(remembered)), want: age(90 * day)},
		{name: "new, for long, until the browser closes", cfg: longest(session.Config{}), none: true, do: also(write, set(session.Lifetime{Idle: 30 * day, Absolute: 90 * day})), want: plain},
		{name: "log in", cfg: longest(session.Config{}), do: login(session.Lifetime{}), want: plain},
		{name: "log in, to be remembered", cfg: longest(session.Config{}), do: login(remembered), want: age(90 * day)},
		{name: "log in, not to be remembered any more", cfg: longest(session.Config{}), begins: remembered, do: login(session.Lifetime{}), want: plain},
		{name: "rotate, remembered", cfg: longest(session.Config{}), begins: remembered, do: rotate, want: age(90*day - h)},
		{name: "read, remembered", cfg: longest(session.Config{}), begins: remembered, do: read},
		{name: "write, remembered", cfg: longest(session.Config{}), begins: remembered, do: write},
		{name: "clear, remembered", cfg: longest(session.Config{}), begins: remembered, do: func(s *session.Session) error { return s.Clear() }},

		// With the token that the client has.
		{name: "remember", cfg: longest(session.Config{}), do: set(remembered), want: age(90*day - h), same: true},
		{name: "remember, and save", cfg: longest(session.Config{}), do: also(set(remembered), save), want: age(90*day - h), same: true},
		{name: "remember, save and write", cfg: longest(session.Config{}), do: also(set(remembered), save, write), want: age(90*day - h), same: true},
		{name: "forget", cfg: longest(session.Config{}), begins: remembered, do: set(session.Lifetime{}), want: plain, same: true},
		{name: "forget by closing the browser", cfg: longest(session.Config{}), begins: remembered, do: set(session.Lifetime{Idle: 30 * day, Absolute: 90 * day}), want: plain, same: true},
		{name: "remember for less", cfg: longest(session.Config{}), begins: remembered, do: set(session.Lifetime{Absolute: 12 * h, Persistent: true}), want: age(11 * h), same: true},
		{name: "only the cookie", do: set(session.Lifetime{Persistent: true}), want: age(23 * h), same: true},
		{name: "for almost no time", do: set(session.Lifetime{Absolute: h + time.Second, Idle: time.Second, Persistent: true}), want: age(time.Second), same: true},
		{name: "without an end", cfg: unlimited, do: set(session.Lifetime{Absolute: session.Never, Persistent: true}), want: age(400 * day), same: true},
		{name: "for longer than browsers allow", cfg: unlimited, do: set(session.Lifetime{Absolute: 500 * day, Persistent: true}), want: age(400 * day), same: true},
		{name: "every cookie is persistent, remember", cfg: lasting, do: set(remembered), want: age(90*day - h), same: true},
		{name: "every cookie is persistent, a shorter one", cfg: lasting, do: set(session.Lifetime{Absolute: 2 * h}), want: age(h), same: true},

		// The same as before, as far as a cookie goes.
		{name: "remember again", cfg: longest(session.Config{}), begins: remembered, do: set(remembered)},
		{name: "remember again, and write", cfg: longest(session.Config{}), begins: remembered, do: also(set(remembered), write)},
		{name: "there and back", cfg: longest(session.Config{}), begins: remembered, do: also(set(session.Lifetime{}), set(remembered), write)},
		{name: "another idle timeout", cfg: longest(session.Config{}), begins: remembered, do: set(session.Lifetime{Idle: day, Absolute: 90 * day, Persistent: true})},
		{name: "another absolute timeout, until the browser closes", cfg: longest(session.Config{}), do: set(session.Lifetime{Absolute: 90 * day})},
		{name: "every cookie is persistent, and so is this one", cfg: lasting, do: set(session.Lifetime{Persistent: true})},
		{name: "every cookie is persistent, another idle timeout", cfg: lasting, do: set(session.Lifetime{Idle: time.Minute})},
		{name: "discarded", cfg: longest(session.Config{}), do: also(set(remembered), func(s *session.Session) error { s.Discard(); return nil })},
		{name: "a fraction of a second", cfg: longest(session.Config{}), begins: remembered, do: set(session.Lifetime{Idle: 30 * day, Absolute: 90 * day, Persistent: true})},

		// The end, and failures.
		{name: "log out", cfg: longest(session.Config{}), begins: remembered, do: also(set(session.Lifetime{}), func(s *session.Session) error { return s.Destroy(ctx) }), want: "gone"},
		{name: "not saved", cfg: longest(session.Config{}), do: set(remembered), before: failing, status: 503},
		{name: "saved at the second try", cfg: longest(session.Config{}), before: losing, want: age(90*day - h), same: true,
			do: func(s *session.Session) error {
				err := errors.Join(s.SetLifetime(remembered), s.Save(ctx))
				if !errors.Is(err, session.ErrStore) {
					return fmt.Errorf("the first try: %w", err)
				}
				return s.Save(ctx)
			}},
		{name: "saved, and then not", cfg: longest(session.Config{}), status: 500, want: age(90*day - h), same: true,
			do: also(set(remembered), save, write, func(*session.Session) error { return errMine })},

		{name: "in a header", cfg: longest(session.Config{Header: "X-Token"}), do: set(remembered)},
	} {
		synctest.Test(t, func(t *testing.T) {
			var b store
			m := newManager(t, &b, tt.cfg)
			r := httptest.NewRequest("POST", "/", nil)
			token := ""
			if !tt.none {
				token = beginWith(t, m, tt.begins)
				sessiontest.AddTo(t, m, r, open(t, m, token))
			}
			time.Sleep(time.Hour)
			if tt.before != nil {
				tt.before(&b)
			}
			w := do(m.HandlerFunc(func(_ http.ResponseWriter, _ *http.Request, s *session.Session) error { return tt.do(s) }), r)
			status := tt.status
			if status == 0 {
				status = http.StatusOK
			}
			lines := slices.Clone(w.Header()["Set-Cookie"])
			if w.Code != status || len(w.Header()["X-Token"]) > 0 {
				t.Errorf("%s: status %d, header %q", tt.name, w.Code, w.Header()["X-Token"])
			}
			want := []string{}
			switch {
			case tt.want == "gone":
				want = append(want, "__Host-session=; Path=/; Max-Age=0; HttpOnly; Secure; SameSite=Lax")
			case tt.want != "":
				want = append(want, "__Host-session="+token+tt.want)
			}
			if len(lines) == 1 && !tt.same && tt.want != "gone" && tt.want != "" {
				sent, rest, _ := strings.Cut(lines[0], "; ")
				if sent == "__Host-session="+token {
					t.Errorf("%s: the token is the same", tt.name)
				}
				lines[0] = "__Host-session=" + token + "; " + rest
			}
			if !slices.Equal(lines, want) {
				t.Errorf("%s: lines %q, want %q", tt.name, lines, want)
			}
			if cc := w.Header().Get("Cache-Control"); cc != "no-store" {
				t.Errorf("%s: Cache-Control %q", tt.name, cc)
			}
			// The next response says nothing.
			b.healthy()
			if tt.want == "gone" || status != http.StatusOK {
				return
			}
			next := sessiontest.Stored(t, m, r, w.Result())
			r = httptest.NewRequest("GET", "/", nil)
			sessiontest.AddTo(t, m, r, next)
			w = do(m.HandlerFunc(func(http.ResponseWriter, *http.Request, *session.Session) error { return nil }), r)
			if lines := w.Header()["Set-Cookie"]; len(lines) > 0 {
				t.Errorf("%s: then lines %q", tt.name, lines)
			}
		})
	}
}

// TestALifetimeThatIsTooLate: once the response has started, no cookie can follow, and
// what needs none is saved.
func TestALifetimeThatIsTooLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, cfg := range []session.Config{longest(session.Config{}), longest(session.Config{Header: "X-Token"})} {
			var b store
			m := newManager(t, &b, cfg)
			token := begin(t, m, map[string]any{"note": "x"})
			r := httptest.NewRequest("POST", "/", nil)
			sessiontest.AddTo(t, m, r, open(t, m, token))
			w := do(m.HandlerFunc(func(w http.ResponseWriter, _ *http.Request, s *session.Session) error {
				_, _ = w.Write([]byte("page"))
				err := s.SetLifetime(remembered)
				if cfg.Header == "" {
					wantErr(t, err, session.ErrTooLate)
				} else {
					check(t, err)
				}
				return s.SetLifetime(session.Lifetime{Idle: time.Minute, Absolute: 90 * day})
			}), r)
			if w.Code != http.StatusOK || len(w.Header()["Set-Cookie"]) > 0 {
				t.Errorf("status %d, %q", w.Code, w.Header())
			}
			wantLifetime(t, open(t, m, token), session.Lifetime{Idle: time.Minute, Absolute: 90 * day})

			// A session that is not stored needs a token, too.
			w = do(m.HandlerFunc(func(w http.ResponseWriter, _ *http.Request, s *session.Session) error {
				_, _ = w.Write([]byte("page"))
				wantErr(t, s.SetLifetime(session.Lifetime{Idle: time.Minute}), session.ErrTooLate)
				return nil
			}), httptest.NewRequest("POST", "/", nil))
			if w.Code != http.StatusOK {
				t.Errorf("status %d", w.Code)
			}
		}
	})
}

// TestTheCookieOfARequestThatMerges follows what another request has stored, so that
// the client has the right one in whichever order the responses come.
func TestTheCookieOfARequestThatMerges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b store
		m := newManager(t, &b, longest(session.Config{}))
		token := begin(t, m, map[string]any{"note": "x"})
		w := serve(t, m, token, func(_ http.ResponseWriter, _ *http.Request, s *session.Session) {
			serve(t, m, token, func(_ http.ResponseWriter, _ *http.Request, s *session.Session) { check(t, s.SetLifetime(remembered)) })
			check(t, counter.Set(s, 1))
		})
		if c := w.Result().Cookies(); len(c) != 1 || c[0].Value != token || c[0].MaxAge != int(90*day/time.Second) {
			t.Errorf("cookies %v", c)
		}
		s := open(t, m, token)
		wantLifetime(t, s, remembered)
		check(t, s.Close(ctx))
	})
}

// TestLifetimeOfAnUnknownOutcome checks a Save whose answer is lost for good: what was
// set is there, or set by the next try, and applied once.
func TestLifetimeOfAnUnknownOutcome(t *testing.T) {
	for _, applied := range []bool{true, false} {
		for name, change := range map[string]func(s *session.Session) error{
			"set":    func(s *session.Session) error { return s.SetLifetime(remembered) },
			"login":  func(s *session.Session) error { return s.LoginWith(session.Login{User: "ann", Lifetime: remembered}) },
			"forget": func(s *session.Session) error { return s.SetLifetime(session.Lifetime{Idle: time.Hour}) },
		} {
			synctest.Test(t, func(t *testing.T) {
				var b store
				m := newManager(t, &b, longest(session.Config{}))
				token := begin(t, m, map[string]any{"note": "x"})
				s := open(t, m, token)
				check(t, change(s))
				want, err := s.Lifetime()
				check(t, err)
				b.mu.Lock()
				if applied {
					b.after = func(op string) error {
						if op == "Save" {
							return errStore
						}
						return nil
					}
				} else {
					b.before = func(_ context.Context, op string) error {
						if op == "Save" {
							return errStore
						}
						return nil
					}
				}
				b.mu.Unlock()
				wantErr(t, s.Save(ctx), session.ErrStore)
				b.healthy()
				check(t, s.Save(ctx))
				wantLifetime(t, s, want)
				if left := time.Until(s.Expires()); left != want.Idle {
					t.Errorf("%s, applied %v: it expires in %v", name, applied, left)
				}
				check(t, s.Close(ctx))
				wantLifetime(t, open(t, m, s.Token().Reveal()), want)
			})
		}
	}
}
