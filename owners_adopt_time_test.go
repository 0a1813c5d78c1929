//go:build go1.25

package session_test

import (
	"context"
	"errors"
	"maps"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-a7bee19b/session"
)

// elsewhere returns the token of a session of ann that no index has.
func elsewhere(t *testing.T, b session.Backend) string {
	t.Helper()
	return login(t, newManager(t, b, session.Config{}), session.Login{User: "ann"}).Token().Reveal()
}

// TestASessionIsListedWhenItIsSaved has sessions that logged in without an index.
func TestASessionIsListedWhenItIsSaved(t *testing.T) {
	set := func(s *session.Session) error { return note.Set(s, "x") }
	for name, tt := range map[string]struct {
		cfg    session.Config
		change func(s *session.Session) error
		calls  string // with the Load that opens it
		listed bool
	}{
		"changed":         {session.Config{}, set, "Load Load Save Save", true},
		"LastWrite":       {session.Config{Mode: session.LastWrite}, set, "Load Load Save Save", true},
		"Exclusive":       {session.Config{Mode: session.Exclusive}, set, "Load Save Save", true},
		"not changed":     {session.Config{}, func(*session.Session) error { return nil }, "Load Touch", false},
		"ReadOnly":        {session.Config{Mode: session.ReadOnly}, func(*session.Session) error { return nil }, "Load", false},
		"a new ID":        {session.Config{}, (*session.Session).Rotate, "Load Save Load Save Save", true},
		"authenticated":   {session.Config{}, func(s *session.Session) error { return s.Reauthenticate("pwd") }, "Load Save Load Save Save", true},
		"logged in again": {session.Config{}, func(s *session.Session) error { return s.Login("ann") }, "Load Save Load Save Save", true},
		"limited":         {session.Config{Owners: session.OwnersConfig{MaxSessions: 1}}, set, "Load Load Save Save", true},
		"no room":         {session.Config{MaxSize: 1}, set, "Load Save", false},
		"no room to move": {session.Config{MaxSize: 1}, (*session.Session).Rotate, "Load Save Save", false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var b store
				token := elsewhere(t, &b)
				tt.cfg.Owners.Index = true
				if tt.cfg.MaxSize > 0 {
					rec, err := b.Backend.Load(t.Context(), newManager(t, &b, tt.cfg).Config().StoreKey(token))
					check(t, err)
					tt.cfg.MaxSize = len(rec.Data) + 20
				}
				m := newManager(t, &b, tt.cfg)
				time.Sleep(time.Hour)
				b.took()
				s := open(t, m, token)
				handle := s.Handle()
				if user, err := s.User(); user != "ann" || err != nil || handle == "" {
					t.Errorf("user %q, %v, handle %q", user, err, handle)
				}
				check(t, tt.change(s))
				check(t, s.Save(t.Context()))
				calls := strings.Join(b.took(), " ")
				check(t, s.Close(t.Context()))
				if tt.cfg.Mode != session.Exclusive && calls != tt.calls {
					t.Errorf("the calls are %v", calls)
				}
				want := []string{handle}
				if !tt.listed {
					want = nil
				}
				if got := handles(t, m, ann); strings.Join(got, " ") != strings.Join(want, " ") || tt.listed && s.Handle() != handle {
					t.Errorf("listed are %v, the handle was %s and is %s", got, handle, s.Handle())
				}
				if !tt.listed {
					return
				}
				b.took()
				s = open(t, m, s.Token().Reveal())
				check(t, errors.Join(note.Set(s, "y"), s.Save(t.Context())))
				if tt.cfg.Mode != session.Exclusive {
					b.wantCalls(t, "Load", "Save")
				}
				check(t, m.Revoke(t.Context(), ann))
				if alive(t, m, s) {
					t.Error("it is alive")
				}
			})
		})
	}
}

// TestASessionThatWasMovedIsListed has a session that Pack has made.
func TestASessionThatWasMovedIsListed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b store
		cfg := session.Config{IdleTimeout: 20 * time.Hour, Owners: session.OwnersConfig{Index: true}}
		m := newManager(t, &b, cfg)
		rec, err := session.Pack(m.Config().Codec, session.Foreign{User: "ann", Values: map[string]any{"note": "x"}, Expires: time.Now().Add(time.Hour)})
		check(t, err)
		token := strings.Repeat("A", 32)
		_, err = b.Backend.Save(t.Context(), m.Config().StoreKey(token), rec)
		check(t, err)
		if got := handles(t, m, ann); len(got) != 0 {
			t.Errorf("listed are %v", got)
		}
		s := open(t, m, token)
		check(t, errors.Join(note.Set(s, "y"), s.Save(t.Context())))
		if got := handles(t, m, ann); len(got) != 1 || got[0] != s.Handle() {
			t.Errorf("listed are %v", got)
		}
		// It ends when the index takes it for over.
		cfg.AbsoluteTimeout = 72 * time.Hour
		m = newManager(t, &b, cfg)
		time.Sleep(19 * time.Hour)
		check(t, open(t, m, token).Close(t.Context()))
		time.Sleep(6 * time.Hour)
		_, err = m.Open(t.Context(), token)
		wantErr(t, err, session.ErrNotFound)
	})
}

// TestUsersThatNoLoginHasMade has sessions whose user cannot be an Owner.
func TestUsersThatNoLoginHasMade(t *testing.T) {
	for name, user := range map[string]string{"long": strings.Repeat("x", 513), "not UTF-8": "\xff"} {
		t.Run(name, func(t *testing.T) {
			var b store
			m := indexed(t, &b, session.OwnersConfig{})
			plain := newManager(t, &b, session.Config{})
			s := plain.Start()
			if err := s.Login(user); err != nil {
				t.Skip(err) // the codec refuses it
			}
			check(t, s.Save(ctx))
			b.took()
			s = open(t, m, s.Token().Reveal())
			check(t, errors.Join(note.Set(s, "x"), s.Save(ctx)))
			b.wantCalls(t, "Load", "Save")
			if s.Handle() != "" {
				t.Error("it has a handle")
			}
			check(t, errors.Join(s.Rotate(), s.Save(ctx)))
			check(t, errors.Join(s.Login("ann"), s.Save(ctx)))
			if got := handles(t, m, ann); len(got) != 1 {
				t.Errorf("listed are %v", got)
			}
		})
	}
}

// TestSavesThatListAtOnce has two requests save one session, and others come between.
func TestSavesThatListAtOnce(t *testing.T) {
	for _, mode := range []session.Mode{session.Merge, session.LastWrite} {
		for name, between := range map[string]func(t *testing.T, b *store, m *session.Manager, token string) (ended bool){
			"a Save": func(t *testing.T, b *store, m *session.Manager, token string) bool {
				s := open(t, m, token)
				check(t, errors.Join(s.Set("other", "y"), s.Save(t.Context())))
				return false
			},
			"a Save without an index": func(t *testing.T, b *store, m *session.Manager, token string) bool {
				cfg := m.Config()
				cfg.Owners = session.OwnersConfig{}
				s := open(t, newManager(t, b, cfg), token)
				check(t, errors.Join(s.Set("other", "y"), s.Save(t.Context())))
				return false
			},
			"a new ID": func(t *testing.T, b *store, m *session.Manager, token string) bool {
				s := open(t, m, token)
				check(t, errors.Join(s.Rotate(), s.Save(t.Context())))
				if got := handles(t, m, ann); len(got) != 1 || got[0] != s.Handle() {
					t.Errorf("listed are %v", got)
				}
				return true
			},
			"a logout": func(t *testing.T, _ *store, m *session.Manager, token string) bool {
				check(t, open(t, m, token).Destroy(t.Context()))
				return true
			},
			"a revocation": func(t *testing.T, _ *store, m *session.Manager, _ string) bool {
				check(t, m.Revoke(t.Context(), ann))
				return true
			},
			"a revocation of one": func(t *testing.T, b *store, m *session.Manager, token string) bool {
				check(t, m.RevokeOne(t.Context(), open(t, m, token).Handle(), ann))
				return true
			},
			"a revocation of the others": func(t *testing.T, b *store, m *session.Manager, token string) bool {
				check(t, m.RevokeOthers(t.Context(), open(t, m, token).Handle(), ann))
				return false
			},
			"a login at the limit": func(t *testing.T, b *store, m *session.Manager, _ string) bool {
				cfg := m.Config()
				cfg.Owners.MaxSessions = 2
				login(t, newManager(t, b, cfg), session.Login{User: "ann"})
				if got := handles(t, m, ann); len(got) != 2 {
					t.Errorf("listed are %v", got)
				}
				return false
			},
			"logins at the limit": func(t *testing.T, b *store, m *session.Manager, _ string) bool {
				cfg := m.Config()
				cfg.Owners.MaxSessions = 2
				other := newManager(t, b, cfg)
				login(t, other, session.Login{User: "ann"})
				login(t, other, session.Login{User: "ann"})
				return true
			},
		} {
			t.Run(strings.ReplaceAll(name, " ", "_")+"/"+mode.String(), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					b := &store{}
					m := newManager(t, b, session.Config{Mode: mode, Owners: session.OwnersConfig{Index: true}})
					token := elsewhere(t, b)
					s := open(t, m, token)
					saves, ended := 0, false
					b.before = func(_ context.Context, op string) error {
						if op != "Save" {
							return nil
						}
						if saves++; saves == 2 { // it is listed, and not saved
							b.mu.Lock()
							b.before = nil
							b.mu.Unlock()
							if got := handles(t, m, ann); len(got) != 1 || got[0] != s.Handle() {
								t.Errorf("before the save, listed are %v", got)
							}
							ended = between(t, b, m, token)
						}
						return nil
					}
					check(t, note.Set(s, "x"))
					err := s.Save(t.Context())
					if ended {
						wantErr(t, err, session.ErrNotFound)
						_, err = m.Open(t.Context(), token)
						wantErr(t, err, session.ErrNotFound)
					} else {
						check(t, err)
						wantValue(t, m, token, "note", "x")
						if n := strings.Count(strings.Join(handles(t, m, ann), " "), s.Handle()); n != 1 {
							t.Errorf("it is listed %d times", n)
						}
						check(t, m.RevokeOthers(t.Context(), s.Handle(), ann))
						if got := handles(t, m, ann); len(got) != 1 || !alive(t, m, s) {
							t.Errorf("after a revocation of the others, listed are %v", got)
						}
					}
					check(t, m.Revoke(t.Context(), ann))
					if len(handles(t, m, ann)) != 0 {
						t.Error("some are listed")
					}
				})
			})
		}
	}
}

// TestNoFailureOfTheIndexFailsASave fails each call of the store in turn.
func TestNoFailureOfTheIndexFailsASave(t *testing.T) {
	set := func(s *session.Session) error { return note.Set(s, "x") }
	for name, tt := range map[string]struct {
		change func(*session.Session) error
		calls  int // before the last one
	}{
		"changed":  {set, 2},
		"a new ID": {(*session.Session).Rotate, 3},
	} {
		for _, lost := range []bool{false, true} {
			for at := range tt.calls {
				synctest.Test(t, func(t *testing.T) {
					b := &store{}
					m := indexed(t, b, session.OwnersConfig{})
					token := elsewhere(t, b)
					s := open(t, m, token)
					check(t, tt.change(s))
					n := -1
					fail := func(now bool) error {
						if now && n == at {
							return errStore
						}
						return nil
					}
					b.before = func(context.Context, string) error { n++; return fail(!lost) }
					b.after = func(string) error { return fail(lost) }
					err := s.Save(t.Context())
					b.before, b.after = nil, nil
					if err != nil {
						t.Errorf("%s, call %d, lost %t: %v", name, at, lost, err)
						return
					}
					time.Sleep(time.Minute)
					s = open(t, m, s.Token().Reveal())
					check(t, errors.Join(note.Set(s, "y"), s.Save(t.Context())))
					if got := handles(t, m, ann); len(got) != 1 || got[0] != s.Handle() {
						t.Errorf("%s, call %d: listed are %v, and the handle is %s", name, at, got, s.Handle())
					}
					check(t, m.Revoke(t.Context(), ann))
					if alive(t, m, s) {
						t.Errorf("%s, call %d: it is alive", name, at)
					}
				})
			}
		}
	}
}

// TestAnIndexThatHangs leaves time for the Save.
func TestAnIndexThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &store{}
		m := indexed(t, b, session.OwnersConfig{})
		s := open(t, m, elsewhere(t, b))
		check(t, note.Set(s, "x"))
		b.before = func(ctx context.Context, op string) error {
			if op == "Load" {
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		began := time.Now()
		check(t, s.Save(ctx))
		if d := time.Since(began); d != 5*time.Second {
			t.Errorf("it took %v", d)
		}
		check(t, errors.Join(note.Set(s, "y"), s.Save(ctx))) // does not try again at once
		if d := time.Since(began); d != 5*time.Second {
			t.Errorf("it took %v", d)
		}
	})
}

// TestTheLimitWhenASessionIsListed lists one session more than are allowed.
func TestTheLimitWhenASessionIsListed(t *testing.T) {
	for name, tt := range map[string]struct {
		policy session.LimitPolicy
		want   int
	}{
		"EndOldest":   {session.EndOldest, 2},
		"RefuseLogin": {session.RefuseLogin, 3},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := &store{}
				m := indexed(t, b, session.OwnersConfig{MaxSessions: 2, AtLimit: tt.policy})
				first, second := login(t, m, session.Login{User: "ann"}), login(t, m, session.Login{User: "ann"})
				for _, change := range []func(*session.Session) error{
					func(s *session.Session) error { return note.Set(s, "x") }, (*session.Session).Rotate,
				} {
					s := open(t, m, elsewhere(t, b))
					check(t, errors.Join(change(s), s.Save(t.Context())))
					if got := handles(t, m, ann); len(got) != tt.want || got[0] != s.Handle() {
						t.Errorf("listed are %v", got)
					}
					if alive(t, m, first) != (tt.policy == session.RefuseLogin) || !alive(t, m, s) {
						t.Error("the wrong one has ended")
					}
					first, second = second, s
					tt.want++
					if tt.policy == session.EndOldest {
						tt.want = 2
					}
				}
				s := m.Start()
				check(t, s.Login("ann"))
				if err := s.Save(t.Context()); errors.Is(err, session.ErrSessionLimit) != (tt.policy == session.RefuseLogin) {
					t.Errorf("a login: %v", err)
				}
			})
		})
	}
}

// sharedStore is a store whose records another program writes too.
type sharedStore struct{ store }

func (*sharedStore) Shared() bool { return true }

func (*sharedStore) CheckConfig(session.Config) error { return nil }

// write has the other program write the values of the session of token under the
// token to, after f has changed them.
func (b *sharedStore) write(t *testing.T, m *session.Manager, token, to string, f func(values map[string][]byte)) {
	t.Helper()
	c, key := m.Config().Codec, m.Config().StoreKey
	rec, err := b.Backend.Load(t.Context(), key(token))
	check(t, err)
	values, err := c.Split(rec.Data)
	check(t, err)
	values = maps.Clone(values)
	f(values)
	rec.Data, err = c.Join(values)
	check(t, err)
	if token != to {
		rec.Version = ""
	}
	_, err = b.Backend.Save(t.Context(), key(to), rec)
	check(t, err)
}

// TestAnotherProgramMovesSessions has another program do to sessions what no Manager
// does.
func TestAnotherProgramMovesSessions(t *testing.T) {
	nothing := func(map[string][]byte) {}
	encode := func(t *testing.T, m *session.Manager, v any) []byte {
		data, err := m.Config().Codec.Marshal(v)
		check(t, err)
		return data
	}
	save := func(t *testing.T, m *session.Manager, token string) *session.Session {
		t.Helper()
		s := open(t, m, token)
		check(t, errors.Join(s.Set("n", time.Now().UnixNano()), s.Save(t.Context())))
		time.Sleep(time.Second)
		return s
	}
	token := func(i int) string { return strings.Repeat(string(rune('A'+i)), 32) }
	for name, f := range map[string]func(t *testing.T, b *sharedStore, m *session.Manager, s *session.Session) (live []*session.Session){
		"a login costs one look more": func(t *testing.T, b *sharedStore, m *session.Manager, s *session.Session) []*session.Session {
			b.took()
			save(t, m, s.Token().Reveal())
			b.wantCalls(t, "Load", "Load", "Load", "Save") // one for each owner
			save(t, m, s.Token().Reveal())
			b.wantCalls(t, "Load", "Save")
			return []*session.Session{s}
		},
		"a copy under another key": func(t *testing.T, b *sharedStore, m *session.Manager, s *session.Session) []*session.Session {
			b.write(t, m, s.Token().Reveal(), token(1), nothing)
			check(t, open(t, m, s.Token().Reveal()).Destroy(t.Context()))
			b.took()
			moved := save(t, m, token(1))
			b.wantCalls(t, "Load", "Load", "Save", "Load", "Save", "Save")
			if moved.Handle() != s.Handle() {
				t.Error("it has another handle")
			}
			return []*session.Session{moved}
		},
		"many copies": func(t *testing.T, b *sharedStore, m *session.Manager, s *session.Session) []*session.Session {
			from, all := s.Token().Reveal(), []*session.Session{s}
			for i := range 20 {
				b.write(t, m, from, token(i), nothing)
				from = token(i)
				all = append(all, save(t, m, from))
				if got := handles(t, m, ann); len(got) != 1 || got[0] != s.Handle() {
					t.Errorf("after %d, listed are %v", i, got)
				}
			}
			return all
		},
		"a copy that gets a new ID": func(t *testing.T, b *sharedStore, m *session.Manager, s *session.Session) []*session.Session {
			b.write(t, m, s.Token().Reveal(), token(1), nothing)
			moved := open(t, m, token(1))
			check(t, errors.Join(moved.Rotate(), moved.Save(t.Context())))
			return []*session.Session{s, save(t, m, moved.Token().Reveal())}
		},
		"another user": func(t *testing.T, b *sharedStore, m *session.Manager, s *session.Session) []*session.Session {
			b.write(t, m, s.Token().Reveal(), s.Token().Reveal(), func(values map[string][]byte) { values["_session.user"] = encode(t, m, "bob") })
			s = save(t, m, s.Token().Reveal())
			if got := handles(t, m, session.User("bob")); len(got) != 1 || got[0] != s.Handle() || len(handles(t, m, laptop)) > 0 || len(handles(t, m, ann)) > 0 {
				t.Errorf("listed are %v", got)
			}
			for e, err := range m.Sessions(t.Context(), session.User("bob")) {
				check(t, err)
				if len(e.Note) > 0 || e.User != "bob" {
					t.Errorf("got %+v", e)
				}
			}
			check(t, m.Revoke(t.Context(), session.User("bob")))
			if alive(t, m, s) {
				t.Error("it is alive")
			}
			return nil
		},
		"no user, and then again": func(t *testing.T, b *sharedStore, m *session.Manager, s *session.Session) []*session.Session {
			var user []byte
			at := s.Token().Reveal()
			b.write(t, m, at, at, func(values map[string][]byte) {
				user = values["_session.user"]
				delete(values, "_session.user")
			})
			visitor := save(t, m, at)
			if visitor.Handle() != "" || len(handles(t, m, ann)) != 0 {
				t.Error("a visitor is listed")
			}
			check(t, errors.Join(visitor.Rotate(), visitor.Save(t.Context())))
			at = visitor.Token().Reveal()
			b.write(t, m, at, at, func(values map[string][]byte) { values["_session.user"] = user })
			return []*session.Session{save(t, m, at)}
		},
		"a new login under the same key": func(t *testing.T, b *sharedStore, m *session.Manager, s *session.Session) []*session.Session {
			at := s.Token().Reveal()
			b.write(t, m, at, at, func(values map[string][]byte) {
				maps.DeleteFunc(values, func(name string, _ []byte) bool { return name != "_session.user" })
			})
			now := save(t, m, at)
			if now.Handle() == s.Handle() {
				t.Error("it has the same handle")
			}
			check(t, m.RevokeOthers(t.Context(), now.Handle(), ann))
			return []*session.Session{now}
		},
		"a revocation comes first": func(t *testing.T, b *sharedStore, m *session.Manager, s *session.Session) []*session.Session {
			b.write(t, m, s.Token().Reveal(), token(1), nothing)
			check(t, m.Revoke(t.Context(), ann))
			return []*session.Session{save(t, m, token(1))} // it comes too late for it
		},
		"a revocation is under way": func(t *testing.T, b *sharedStore, m *session.Manager, s *session.Session) []*session.Session {
			b.write(t, m, s.Token().Reveal(), token(1), nothing)
			copied := open(t, m, token(1))
			b.before = func(_ context.Context, op string) error {
				if op == "Delete" {
					return errStore
				}
				return nil
			}
			wantErr(t, m.Revoke(t.Context(), ann), session.ErrStore)
			b.before = nil
			wantErr(t, errors.Join(note.Set(copied, "x"), copied.Save(t.Context())), session.ErrNotFound)
			if alive(t, m, s) || alive(t, m, copied) {
				t.Error("one is alive")
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := &sharedStore{}
				m := indexed(t, b, session.OwnersConfig{})
				s := login(t, m, session.Login{User: "ann", Owners: annOn(laptop)[1:], Note: map[string]string{"a": "b"}})
				live := f(t, b, m, s)
				for range 2 {
					want := 0
					if len(live) > 0 {
						want = 1
					}
					if got := handles(t, m, ann); len(got) != want {
						t.Errorf("listed are %v, want %d", got, want)
					}
					for _, s := range live {
						if !alive(t, m, s) {
							t.Error("one is not alive")
						}
					}
					for i := range 20 { // so that it gets into a page
						check(t, login(t, m, session.Login{User: "ann", Note: map[string]string{"i": string(rune(i))}}).Destroy(t.Context()))
					}
				}
				check(t, m.Revoke(t.Context(), ann))
				for i, s := range live {
					if alive(t, m, s) {
						t.Errorf("number %d is alive", i)
					}
				}
			})
		})
	}
}

// TestListingsStayShort checks what a store that nobody shares has of a login.
func TestListingsStayShort(t *testing.T) {
	var b store
	m := indexed(t, &b, session.OwnersConfig{})
	s := login(t, m, session.Login{User: "ann"})
	rec, err := b.Backend.Load(ctx, m.Config().StoreKey(s.Token().Reveal()))
	check(t, err)
	if !strings.Contains(string(rec.Data), `{"h":"`+s.Handle()+`"}`) {
		t.Errorf("the data is %q", rec.Data)
	}
	for range 2 { // another one that logged in elsewhere
		s = open(t, m, elsewhere(t, &b))
		check(t, errors.Join(note.Set(s, "x"), s.Save(ctx)))
		if rec, err = b.Backend.Load(ctx, m.Config().StoreKey(s.Token().Reveal())); err != nil || !strings.Contains(string(rec.Data), `{"h":"`+s.Handle()+`"}`) {
			t.Errorf("the data is %q", rec.Data)
		}
	}
}
