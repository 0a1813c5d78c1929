//go:build go1.25

package session_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/codec"
)

// TestAnotherIdleTimeout checks that a new timeout applies to existing sessions
// as soon as it is configured.
func TestAnotherIdleTimeout(t *testing.T) {
	const never = session.Never
	for _, tt := range []struct {
		was, is time.Duration // 0: the default, two hours
		unused  time.Duration
		alive   bool
		until   time.Duration // from the last use, if there is no later one
	}{
		{12 * time.Hour, time.Second, 2 * time.Second, false, 0},
		{12 * time.Hour, time.Second, 900 * time.Millisecond, true, time.Second},
		{12 * time.Hour, time.Hour, 59 * time.Minute, true, time.Hour},
		{12 * time.Hour, time.Hour, time.Hour, false, 0},
		{12 * time.Hour, 0, 119 * time.Minute, true, 2 * time.Hour},
		{12 * time.Hour, 0, 2 * time.Hour, false, 0},
		{0, time.Second, 2 * time.Second, false, 0},
		{0, time.Second, time.Hour, false, 0},
		{0, time.Second, 500 * time.Millisecond, true, time.Second},
		{0, 30 * time.Minute, 29 * time.Minute, true, 30 * time.Minute},
		{24 * time.Hour, time.Minute, 2 * time.Minute, false, 0}, // as long as the absolute one
		{never, time.Minute, 2 * time.Minute, false, 0},
		{never, time.Minute, 30 * time.Second, true, time.Minute},
		{never, 0, 3 * time.Hour, false, 0},
		{2500 * time.Millisecond, 1500 * time.Millisecond, 2400 * time.Millisecond, false, 0},
		{1500 * time.Millisecond, 1500 * time.Millisecond, 1499 * time.Millisecond, true, 1500 * time.Millisecond},

		{time.Hour, 12 * time.Hour, 59 * time.Minute, true, 12 * time.Hour},
		{time.Hour, 12 * time.Hour, time.Hour, false, 0}, // the store was told this deadline
		{time.Hour, 0, 30 * time.Minute, true, 2 * time.Hour},
		{0, 12 * time.Hour, 30 * time.Minute, true, 12 * time.Hour},
		{time.Hour, never, 30 * time.Minute, true, 23*time.Hour + 30*time.Minute},
		{2 * time.Hour, time.Hour, 30 * time.Minute, true, time.Hour},
		{time.Hour, time.Minute, 2 * time.Minute, false, 0},
		{time.Hour, time.Hour, time.Hour - time.Millisecond, true, time.Hour},
		{0, never, 90 * time.Minute, true, 22*time.Hour + 30*time.Minute},
	} {
		for _, mode := range []session.Mode{session.Merge, session.LastWrite, session.Exclusive} {
			for use, f := range map[string]func(s *session.Session) error{
				"read":  func(*session.Session) error { return nil },
				"write": func(s *session.Session) error { return note.Set(s, "y") },
			} {
				name := fmt.Sprintf("%v to %v, unused %v, %s in mode %v", tt.was, tt.is, tt.unused, use, mode)
				synctest.Test(t, func(t *testing.T) {
					var b leasingStore
					token := begin(t, newManager(t, &b, session.Config{IdleTimeout: tt.was}), map[string]any{"note": "x"})
					time.Sleep(tt.unused)
					m := newManager(t, &b, session.Config{IdleTimeout: tt.is, Mode: mode})
					s, err := m.Open(ctx, token)
					if alive := err == nil; alive != tt.alive {
						t.Errorf("%s: alive %v", name, alive)
						return
					}
					if err != nil {
						wantErr(t, err, session.ErrNotFound)
						if lived := cmp.Or(tt.was, 2*time.Hour); (lived == never || tt.unused < lived) && b.Len() != 0 {
							t.Errorf("%s: the record is still there", name)
						}
						return
					}
					check(t, f(s))
					check(t, finish(m, s))
					if left := time.Until(s.Expires()); left != tt.until {
						t.Errorf("%s: it expires in %v, want %v", name, left, tt.until)
					}
					// From now on the session has this timeout.
					b.took()
					check(t, finish(m, open(t, m, token)))
					if got := b.took(); len(got) > 2 || slices.Contains(got, "Save") {
						t.Errorf("%s: then a use costs %v", name, got)
					}
					time.Sleep(tt.until - 1)
					quiet, err := m.With(session.Route{Mode: session.ReadOnly})
					check(t, err)
					check(t, open(t, quiet, token).Close(ctx))
					time.Sleep(time.Nanosecond)
					if _, err = m.Open(ctx, token); !errors.Is(err, session.ErrNotFound) {
						t.Errorf("%s: %v after that", name, err)
					}
				})
			}
		}
	}
}

// TestIdleTimeoutOfOldSessions checks sessions that were stored without their
// time of last use. They get the shorter deadline at their first use, and an
// unchanged timeout does not end them.
func TestIdleTimeoutOfOldSessions(t *testing.T) {
	for _, c := range []session.Codec{codec.MessagePack{}, codec.JSON{}} {
		synctest.Test(t, func(t *testing.T) {
			var b store
			put := func(token string, expires time.Duration) {
				data, err := c.Marshal("x")
				check(t, err)
				data, err = c.Join(map[string][]byte{"note": data})
				check(t, err)
				now := time.Now()
				_, err = b.Save(ctx, session.DefaultStoreKey(token), session.Record{Data: data, Created: now, Expires: now.Add(expires)})
				check(t, err)
			}
			long, same := "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB"
			m := newManager(t, &b, session.Config{IdleTimeout: 30 * time.Minute, Codec: c})
			put(long, 12*time.Hour)
			put(same, 30*time.Minute)
			time.Sleep(29 * time.Minute)
			for _, token := range []string{long, same} {
				s := open(t, m, token)
				check(t, finish(m, s))
				if left := time.Until(s.Expires()); left != 30*time.Minute {
					t.Errorf("it expires in %v", left)
				}
				wantValue(t, m, token, "note", "x")
			}
		})
	}
}

// TestIdleIsNoValue checks that the stored time of last use is not visible as a
// value, costs no write of its own, and does not cause an empty session to be
// stored.
func TestIdleIsNoValue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b store
		m := newManager(t, &b, session.Config{IdleTimeout: time.Hour})
		token := begin(t, m, map[string]any{"note": "x"})
		s := open(t, m, token)
		if names := s.Names(); !slices.Equal(names, []string{"note"}) || s.Has("_session.idle") {
			t.Errorf("names %v", names)
		}
		check(t, s.Clear())
		check(t, finish(m, s))
		s = open(t, m, token)
		b.took()
		check(t, s.Clear())
		check(t, finish(m, s))
		b.wantCalls(t) // there is nothing to clear
		n := m.Start()
		check(t, n.Clear())
		check(t, finish(m, n))
		b.wantCalls(t)
	})
}

// TestAnotherIdleTimeoutWithoutRoom checks that the lock is freed even if the
// time of last use does not fit in the record.
func TestAnotherIdleTimeoutWithoutRoom(t *testing.T) {
	var b leasingStore
	token := begin(t, newManager(t, &b, session.Config{}), map[string]any{"note": "x"})
	rec, err := b.Load(ctx, session.DefaultStoreKey(token))
	check(t, err)
	m := newManager(t, &b, session.Config{Mode: session.Exclusive, IdleTimeout: 30 * time.Minute, MaxSize: len(rec.Data)})
	b.took()
	check(t, finish(m, open(t, m, token)))
	b.wantCalls(t, "Acquire", "Release")
}

// TestLastWriteKeepsWhatItDidNotMeanToReplace checks a writer that was overtaken
// and whose Save then failed, so that it drops its changes. Moving the deadline
// for another IdleTimeout must not restore the data that it had read.
func TestLastWriteKeepsWhatItDidNotMeanToReplace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b store
		other := newManager(t, &b, session.Config{})
		token := begin(t, other, map[string]any{"note": "x"})
		m := newManager(t, &b, session.Config{IdleTimeout: 30 * time.Minute, Mode: session.LastWrite})
		s := open(t, m, token)
		check(t, counter.Set(s, 1))
		o := open(t, other, token)
		check(t, note.Set(o, "y"))
		check(t, finish(other, o))
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
		check(t, finish(m, s))
		wantValue(t, other, token, "note", "y")
	})
}

// lingering is a store that keeps returning an expired record, like DynamoDB.
type lingering struct {
	store
	found session.Record // returned first, if it has a Version
	end   func() error   // answers the Save that ends it
	ended []session.Version
}

func (l *lingering) Load(ctx context.Context, key string) (session.Record, error) {
	if rec := l.found; rec.Version != "" {
		l.found = session.Record{}
		return rec, l.do(ctx, "Load", func() error { return nil })
	}
	return l.store.Load(ctx, key)
}

func (l *lingering) Save(ctx context.Context, key string, rec session.Record) (session.Version, error) {
	if rec.Version == "" || rec.Expires.After(time.Now()) {
		return l.store.Save(ctx, key, rec)
	}
	l.ended = append(l.ended, rec.Version)
	return "", l.do(ctx, "end", l.end)
}

// TestWhoSaysExpiredMakesItSo checks that the record is ended before a visitor
// is told that there is no session, and that the session is returned if another
// request was faster.
func TestWhoSaysExpiredMakesItSo(t *testing.T) {
	gone := func() error { return nil }
	alive := []string{"Load", "end", "Load"}
	for _, tt := range []struct {
		name     string
		cfg      session.Config
		age      time.Duration // of the record that was found; its idle timeout is 2 h
		end      func() error
		renewed  bool // by another request
		want     error
		absolute bool
		calls    []string
	}{
		{name: "ended", end: gone, want: session.ErrNotFound, calls: []string{"Load", "end"}},
		{name: "gone", end: func() error { return &session.ConflictError{Gone: true} }, want: session.ErrNotFound, calls: []string{"Load", "end"}},
		{name: "renewed", renewed: true, end: func() error { return &session.ConflictError{} }, calls: alive},
		{name: "deleted meanwhile", end: func() error { return &session.ConflictError{} }, want: session.ErrNotFound, calls: alive},
		{name: "locked", end: func() error { return &session.LockedError{} }, calls: []string{"Load", "end"}},
		{name: "locked, and past the absolute deadline", absolute: true, end: func() error { return &session.LockedError{} },
			want: session.ErrNotFound, calls: []string{"Load", "end", "Delete"}},
		{name: "the store fails", end: func() error { return errStore }, want: errStore, calls: []string{"Load", "end"}},
		{name: "read-only", cfg: session.Config{Mode: session.ReadOnly}, end: gone, want: session.ErrNotFound, calls: []string{"Load"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := &lingering{end: tt.end}
				m := newManager(t, b, tt.cfg)
				token := begin(t, newManager(t, b, session.Config{}), map[string]any{"note": "x"})
				key := session.DefaultStoreKey(token)
				found, err := b.Load(ctx, key)
				check(t, err)
				if tt.renewed {
					check(t, b.Touch(ctx, key, time.Now().Add(5*time.Hour)))
				}
				time.Sleep(3 * time.Hour)
				if tt.absolute {
					time.Sleep(22 * time.Hour)
				}
				for _, ask := range []string{"Open", "Get"} {
					b.found, b.ended = found, nil
					b.took()
					var err error
					if ask == "Open" {
						_, err = m.Open(ctx, token)
					} else {
						m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
							var s *session.Session
							if s, err = m.Get(r.Context()); err == nil && s.IsNew() {
								err = session.ErrNotFound
							}
							if err == nil {
								err = s.Close(r.Context())
							}
						})).ServeHTTP(httptest.NewRecorder(), request(token))
					}
					if !errors.Is(err, tt.want) {
						t.Errorf("%s: %v, want %v", ask, err, tt.want)
					}
					if got := b.took(); len(got) < len(tt.calls) || !slices.Equal(got[:len(tt.calls)], tt.calls) {
						t.Errorf("%s: calls %v, want %v", ask, got, tt.calls)
					}
					if tt.cfg.Mode != session.ReadOnly && !slices.Equal(b.ended, []session.Version{found.Version}) {
						t.Errorf("%s: ended %q", ask, b.ended)
					}
				}
			})
		})
	}

	// The same if only the configuration has ended it, and for a request that
	// finds out when it saves.
	synctest.Test(t, func(t *testing.T) {
		var b store
		other := newManager(t, &b, session.Config{})
		token := begin(t, other, map[string]any{"note": "x"})
		late := open(t, other, token)
		check(t, note.Set(late, "late"))
		m := newManager(t, &b, session.Config{AbsoluteTimeout: time.Hour})
		slow := open(t, m, token)
		check(t, note.Set(slow, "slow"))
		time.Sleep(time.Hour)
		wantErr(t, slow.Save(ctx), session.ErrNotFound)
		if b.Len() != 0 {
			t.Error("the record is still there")
		}
		wantErr(t, late.Save(ctx), session.ErrNotFound)
	})
}

// TestAnAnswerIsJudgedByWhenItWasAsked checks a Load that takes longer than the
// rest of the session's life, while another request renews the session.
func TestAnAnswerIsJudgedByWhenItWasAsked(t *testing.T) {
	for _, cfg := range []session.Config{{}, {Mode: session.Exclusive}, {Mode: session.ReadOnly}} {
		synctest.Test(t, func(t *testing.T) {
			var b leasingStore
			cfg.IdleTimeout = 2 * time.Second
			m := newManager(t, &b, cfg)
			other := newManager(t, &b.Backend, session.Config{IdleTimeout: 2 * time.Second})
			token := begin(t, other, map[string]any{"note": "x"})
			time.Sleep(time.Second)
			b.after = func(op string) error {
				if op == "Load" || op == "Acquire" {
					o := open(t, other, token)
					check(t, finish(other, o)) // moves the deadline
					time.Sleep(1500 * time.Millisecond)
				}
				return nil
			}
			w := serve(t, m, token, func(_ http.ResponseWriter, _ *http.Request, s *session.Session) {
				if s.IsNew() {
					t.Errorf("mode %v: the visitor gets a new session", cfg.Mode)
				}
				if cfg.Mode != session.ReadOnly {
					check(t, note.Set(s, "y"))
				}
			})
			if w.Code != http.StatusOK || sent(w) != "" {
				t.Errorf("mode %v: status %d, token %q", cfg.Mode, w.Code, sent(w))
			}
		})
	}
}

// TestASaveUndoesNoTouch checks a Save that is in flight, or that comes from a
// machine whose clock is behind, while another request moves the deadline.
func TestASaveUndoesNoTouch(t *testing.T) {
	for _, mode := range []session.Mode{session.Merge, session.LastWrite, session.Exclusive} {
		synctest.Test(t, func(t *testing.T) {
			var b leasingStore
			m := newManager(t, &b, session.Config{Mode: mode})
			token := begin(t, m, map[string]any{"note": "x"})
			s := open(t, m, token)
			check(t, note.Set(s, "y"))
			var later time.Time
			b.before = func(ctx context.Context, op string) error {
				if op == "Save" {
					time.Sleep(time.Second)
					later = time.Now().Add(2 * time.Hour)
					check(t, b.Backend.Touch(ctx, session.DefaultStoreKey(token), later))
				}
				return nil
			}
			check(t, finish(m, s))
			b.healthy()
			rec, err := b.Load(ctx, session.DefaultStoreKey(token))
			check(t, err)
			if !rec.Expires.Equal(later) {
				t.Errorf("mode %v: the deadline is %v early", mode, later.Sub(rec.Expires))
			}
		})
	}
}

// TestASaveThatIsTooLateEndsTheSession checks a request whose clock is behind,
// when the store's clock says that the session has expired. It must not revive a
// session after another request was told that it is gone.
func TestASaveThatIsTooLateEndsTheSession(t *testing.T) {
	for _, mode := range []session.Mode{session.Merge, session.Exclusive} {
		var b leasingStore
		m := newManager(t, &b, session.Config{Mode: mode})
		token := begin(t, m, map[string]any{"note": "x"})
		s := open(t, m, token)
		check(t, note.Set(s, "y"))
		refused := false
		b.before = func(_ context.Context, op string) error {
			if op == "Save" && !refused {
				refused = true
				return &session.ConflictError{Gone: true}
			}
			return nil
		}
		wantErr(t, finish(m, s), session.ErrNotFound)
		b.healthy()
		wantErr(t, b.Touch(ctx, session.DefaultStoreKey(token), time.Now().Add(time.Hour)), session.ErrNotFound)
	}
}
