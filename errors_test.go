package session_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/memory"
	"github.com/seed-a7bee19b/session/codec"
	"github.com/seed-a7bee19b/session/lock"
	"github.com/seed-a7bee19b/session/observe"
	"github.com/seed-a7bee19b/session/sessiontest"
)

// wantText reports an error unless each line of err begins with the prefix,
// exactly once.
func wantText(t testing.TB, what string, err error) {
	t.Helper()
	for line := range strings.SplitSeq(err.Error(), "\n") {
		if !strings.HasPrefix(line, "session: ") || strings.Count(line, "session:") != 1 {
			t.Errorf("%s: the error is %q", what, line)
		}
	}
}

// ours has the sentinels except ErrStore.
var ours = []error{
	session.ErrNotFound, session.ErrConflict, session.ErrTooLarge, session.ErrEncode, session.ErrDecode, session.ErrReadOnly,
	session.ErrClosed, session.ErrLocked, session.ErrLockTimeout, session.ErrLockLost, session.ErrTooLate,
	session.ErrNotFresh,
}

// methods are the methods of a Session and a Key that fail without the store.
var methods = []struct {
	name    string
	changes bool
	call    func(s *session.Session) error
}{
	{"Session.Get", false, func(s *session.Session) error { return errOf(s.Get("note", new(string))) }},
	{"Session.Set", true, func(s *session.Session) error { return s.Set("note", "x") }},
	{"Session.Delete", true, func(s *session.Session) error { return s.Delete("note") }},
	{"Session.Clear", true, (*session.Session).Clear},
	{"Session.Rotate", true, (*session.Session).Rotate},
	{"Session.Login", true, func(s *session.Session) error { return s.Login("ann") }},
	{"Session.Reauthenticate", true, func(s *session.Session) error { return s.Reauthenticate("pwd") }},
	{"Session.Authentication", false, func(s *session.Session) error { return errOf(s.Authentication()) }},
	{"Session.FreshWithin", false, func(s *session.Session) error { return s.FreshWithin(time.Hour) }},
	{"Session.User", false, func(s *session.Session) error { return errOf(s.User()) }},
	{"Key.Get", false, func(s *session.Session) error { return errOf(note.Get(s)) }},
	{"Key.Lookup", false, func(s *session.Session) error { _, _, err := note.Lookup(s); return err }},
	{"Key.Set", true, func(s *session.Session) error { return note.Set(s, "x") }},
	{"Key.Update", true, func(s *session.Session) error { return errOf(note.Update(s, func(string) string { return "x" })) }},
	{"Key.TryUpdate", true, func(s *session.Session) error {
		return errOf(note.TryUpdate(s, func(string) (string, error) { return "x", nil }))
	}},
	{"Key.Take", true, func(s *session.Session) error { _, _, err := note.Take(s); return err }},
	{"Key.Delete", true, func(s *session.Session) error { return note.Delete(s) }},
}

// TestErrorsOfEachMethod checks the errors of all methods on a session that is
// closed or read-only, or whose response has started.
func TestErrorsOfEachMethod(t *testing.T) {
	m := newManager(t, &memory.Backend{}, session.Config{})
	readOnly, err := m.With(session.Route{Mode: session.ReadOnly})
	check(t, err)
	token := begin(t, m, map[string]any{"note": "kept"})
	want := func(what string, err, cause error) {
		t.Helper()
		if err == nil || !errors.Is(err, cause) {
			t.Errorf("%s: got %v, want %v", what, err, cause)
			return
		}
		wantText(t, what, err)
		if errors.Is(err, session.ErrStore) {
			t.Errorf("%s: %v is taken for a failure of the store", what, err)
		}
	}
	closed, read := open(t, m, token), open(t, readOnly, token)
	check(t, closed.Close(ctx))
	for _, f := range methods {
		want(f.name+" of a closed session", f.call(closed), session.ErrClosed)
		if f.changes {
			want(f.name+" of a read-only session", f.call(read), session.ErrReadOnly)
		}
	}
	want("Save of a closed session", closed.Save(ctx), session.ErrClosed)
	want("Destroy of a read-only session", read.Destroy(ctx), session.ErrReadOnly)

	do(m.HandlerFunc(func(w http.ResponseWriter, _ *http.Request, s *session.Session) error {
		w.WriteHeader(http.StatusOK)
		for _, f := range methods {
			if f.changes {
				want(f.name+" of a new session, after the response has started", f.call(s), session.ErrTooLate)
			}
		}
		return nil
	}), httptest.NewRequest("GET", "/", nil))
	do(m.HandlerFunc(func(w http.ResponseWriter, _ *http.Request, s *session.Session) error {
		w.WriteHeader(http.StatusOK)
		want("Rotate after the response has started", s.Rotate(), session.ErrTooLate)
		want("Login after the response has started", s.Login("ann"), session.ErrTooLate)
		want("Reauthenticate after the response has started", s.Reauthenticate(), session.ErrTooLate)
		return nil
	}), request(token))

	// A session that got a new ID a moment ago.
	moved := rotated(t, m, begin(t, m, map[string]any{"note": "x"}))
	old := moved
	moved = loggedIn(t, m, old)
	loggedIn(t, m, moved)
	visit(m, "POST", moved, m.HandlerFunc(func(_ http.ResponseWriter, _ *http.Request, s *session.Session) error {
		for _, f := range methods {
			if f.name != "Session.Login" && f.name != "Session.User" {
				want(f.name+" under an ID that was given up", f.call(s), session.ErrNotFound)
			}
		}
		return nil
	}).ServeHTTP)
	wantValue(t, m, token, "note", "kept")
}

// faulty is one way to make a call fail.
type faulty struct {
	name string
	cfg  session.Config
	// fails causes the failure between the beginning and the call. It may return
	// a function that repairs it.
	fails func(t *testing.T, b *sessiontest.Store, m *session.Manager, token string) error
	want  []error // causes
	store bool    // ErrStore is one of them
}

func TestErrorsAndTheirCauses(t *testing.T) {
	change := func(s *session.Session) error { return errOf(counter.Update(s, inc)) }
	quick := session.LockConfig{MaxWait: 20 * time.Millisecond}
	for _, tt := range []faulty{
		{"Open of what cannot be a token", session.Config{}, func(_ *testing.T, _ *sessiontest.Store, m *session.Manager, _ string) error {
			return errOf(m.Open(ctx, "short"))
		}, []error{session.ErrNotFound}, false},
		{"Open of an unknown token", session.Config{}, func(_ *testing.T, _ *sessiontest.Store, m *session.Manager, _ string) error {
			return errOf(m.Open(ctx, strings.Repeat("A", 32)))
		}, []error{session.ErrNotFound}, false},
		{"Open of an expired session", session.Config{}, func(_ *testing.T, b *sessiontest.Store, m *session.Manager, token string) error {
			b.Advance(3 * time.Hour)
			return errOf(m.Open(ctx, token))
		}, []error{session.ErrNotFound}, false},
		{"Open of one that has moved", session.Config{}, func(t *testing.T, _ *sessiontest.Store, m *session.Manager, token string) error {
			rotated(t, m, token)
			return errOf(m.Open(ctx, token))
		}, []error{session.ErrNotFound}, false},
		{"Open with a context that has ended", session.Config{}, func(_ *testing.T, _ *sessiontest.Store, m *session.Manager, token string) error {
			ctx, cancel := context.WithCancel(ctx)
			cancel()
			return errOf(m.Open(ctx, token))
		}, []error{context.Canceled}, true},
		{"Open of what is locked", session.Config{Mode: session.Exclusive, Lock: quick}, func(t *testing.T, _ *sessiontest.Store, m *session.Manager, token string) error {
			holder := open(t, m, token)
			defer holder.Close(ctx)
			return errOf(m.Open(ctx, token))
		}, []error{session.ErrLockTimeout}, false},
		{"Get without a Handler", session.Config{}, func(_ *testing.T, _ *sessiontest.Store, m *session.Manager, _ string) error {
			return errOf(m.Get(ctx))
		}, nil, false},
		{"Get of a view that is not around", session.Config{}, func(t *testing.T, _ *sessiontest.Store, m *session.Manager, token string) (err error) {
			v, verr := m.With(session.Route{Mode: session.ReadOnly})
			check(t, verr)
			visit(m, "GET", token, func(_ http.ResponseWriter, r *http.Request) { _, err = v.Get(r.Context()) })
			return err
		}, nil, false},
		{"Get after the Handler", session.Config{}, func(_ *testing.T, _ *sessiontest.Store, m *session.Manager, token string) error {
			var over *http.Request
			visit(m, "GET", token, func(_ http.ResponseWriter, r *http.Request) { over = r })
			return errOf(m.Get(over.Context()))
		}, []error{session.ErrClosed}, false},

		{"Save of what was destroyed", session.Config{}, func(t *testing.T, _ *sessiontest.Store, m *session.Manager, token string) error {
			s := open(t, m, token)
			check(t, errors.Join(open(t, m, token).Destroy(ctx), change(s)))
			return s.Save(ctx)
		}, []error{session.ErrNotFound, session.ErrConflict}, false},
		{"Save of what was rotated away", session.Config{}, func(t *testing.T, _ *sessiontest.Store, m *session.Manager, token string) error {
			s := open(t, m, token)
			rotated(t, m, token)
			check(t, change(s))
			return s.Save(ctx)
		}, []error{session.ErrNotFound, session.ErrConflict}, false},
		{"Save of what has expired", session.Config{}, func(t *testing.T, b *sessiontest.Store, m *session.Manager, token string) error {
			s := open(t, m, token)
			check(t, change(s))
			b.Advance(3 * time.Hour)
			return s.Save(ctx)
		}, []error{session.ErrNotFound, session.ErrConflict}, false},
		{"Save of what changes again and again", session.Config{MaxMerges: 1}, func(t *testing.T, b *sessiontest.Store, m *session.Manager, token string) error {
			s := open(t, m, token)
			check(t, change(s))
			b.Fail(observe.OpSave, &session.ConflictError{})
			return s.Save(ctx)
		}, []error{session.ErrConflict}, false},
		{"Save of too much", session.Config{MaxSize: 100}, func(t *testing.T, _ *sessiontest.Store, m *session.Manager, token string) error {
			s := open(t, m, token)
			check(t, note.Set(s, strings.Repeat("x", 200)))
			return s.Save(ctx)
		}, []error{session.ErrTooLarge}, false},
		{"Save of too much for the store", session.Config{}, func(t *testing.T, b *sessiontest.Store, m *session.Manager, token string) error {
			s := open(t, m, token)
			check(t, change(s))
			b.Fail(observe.OpSave, session.ErrTooLarge)
			return s.Save(ctx)
		}, []error{session.ErrTooLarge}, false},
		{"Save of what the store cannot encode", session.Config{}, func(t *testing.T, b *sessiontest.Store, m *session.Manager, token string) error {
			s := open(t, m, token)
			check(t, change(s))
			b.Fail(observe.OpSave, session.ErrEncode)
			return s.Save(ctx)
		}, []error{session.ErrEncode}, false},
		{"Save of what is locked", session.Config{Lock: quick}, func(t *testing.T, _ *sessiontest.Store, m *session.Manager, token string) error {
			locking, err := m.With(session.Route{Mode: session.Exclusive})
			check(t, err)
			holder, s := open(t, locking, token), open(t, m, token)
			defer holder.Close(ctx)
			check(t, change(s))
			return s.Save(ctx)
		}, []error{session.ErrLockTimeout}, false},
		{"a change after the lock has timed out", session.Config{Mode: session.Exclusive, Lock: session.LockConfig{MaxWait: quick.MaxWait, OnTimeout: session.ReadOnlyOnTimeout}},
			func(t *testing.T, _ *sessiontest.Store, m *session.Manager, token string) error {
				holder := open(t, m, token)
				defer holder.Close(ctx)
				return change(open(t, m, token))
			}, []error{session.ErrReadOnly, session.ErrLockTimeout}, false},
		{"Save of a lock that is lost", session.Config{Mode: session.Exclusive}, func(t *testing.T, b *sessiontest.Store, m *session.Manager, token string) error {
			s := open(t, m, token)
			check(t, change(s))
			b.Advance(time.Minute)
			return s.Save(ctx)
		}, []error{session.ErrLockLost}, false},
		{"Save of no change, and the lock is lost", session.Config{Mode: session.Exclusive}, func(t *testing.T, b *sessiontest.Store, m *session.Manager, token string) error {
			s := open(t, m, token)
			b.Advance(time.Minute)
			return s.Save(ctx)
		}, []error{session.ErrLockLost}, false},
		{"Close, and the lock is lost", session.Config{Mode: session.Exclusive}, func(t *testing.T, b *sessiontest.Store, m *session.Manager, token string) error {
			s := open(t, m, token)
			b.Advance(time.Minute)
			return s.Close(ctx)
		}, []error{session.ErrLockLost}, false},
		{"Save that an earlier one makes doubtful", session.Config{}, func(t *testing.T, b *sessiontest.Store, m *session.Manager, token string) error {
			s := open(t, m, token)
			check(t, change(s))
			b.LoseNext(observe.OpSave, 1, errStore)
			wantErr(t, s.Save(ctx), errStore)
			other := open(t, m, token)
			check(t, errors.Join(change(other), other.Save(ctx)))
			return s.Save(ctx)
		}, []error{errStore}, true},

		{"Get of another type", session.Config{}, func(t *testing.T, _ *sessiontest.Store, m *session.Manager, token string) error {
			return errOf(open(t, m, token).Get("note", new(int)))
		}, []error{session.ErrDecode}, false},
		{"Key.Get of another type", session.Config{}, func(t *testing.T, _ *sessiontest.Store, m *session.Manager, token string) error {
			return errOf(session.Key[int]{Name: "note"}.Get(open(t, m, token)))
		}, []error{session.ErrDecode}, false},
		{"Key.Lookup of another type", session.Config{}, func(t *testing.T, _ *sessiontest.Store, m *session.Manager, token string) error {
			_, _, err := session.Key[int]{Name: "note"}.Lookup(open(t, m, token))
			return err
		}, []error{session.ErrDecode}, false},
		{"Key.Update of another type", session.Config{}, func(t *testing.T, _ *sessiontest.Store, m *session.Manager, token string) error {
			return errOf(session.Key[int]{Name: "note"}.Update(open(t, m, token), inc))
		}, []error{session.ErrDecode}, false},
		{"Key.Take of another type", session.Config{}, func(t *testing.T, _ *sessiontest.Store, m *session.Manager, token string) error {
			_, _, err := session.Key[int]{Name: "note"}.Take(open(t, m, token))
			return err
		}, []error{session.ErrDecode}, false},
		{"Save after another has changed the type", session.Config{}, func(t *testing.T, _ *sessiontest.Store, m *session.Manager, token string) error {
			s, other := open(t, m, token), open(t, m, token)
			check(t, errors.Join(change(s), other.Set("counter", "text"), other.Save(ctx)))
			return s.Save(ctx)
		}, []error{session.ErrDecode}, false},
		{"Reauthenticate of nobody", session.Config{}, func(t *testing.T, _ *sessiontest.Store, m *session.Manager, token string) error {
			return open(t, m, token).Reauthenticate("pwd")
		}, []error{session.ErrNotFresh}, false},
		{"Login by a method without a name", session.Config{}, func(t *testing.T, _ *sessiontest.Store, m *session.Manager, token string) error {
			return open(t, m, token).LoginWith(session.Login{User: "ann", Methods: []string{""}})
		}, nil, false},
		{"FreshWithin of nobody", session.Config{}, func(t *testing.T, _ *sessiontest.Store, m *session.Manager, token string) error {
			return open(t, m, token).FreshWithin(time.Hour)
		}, []error{session.ErrNotFresh}, false},
		{"FreshWithin of a login that was long ago", session.Config{}, func(t *testing.T, b *sessiontest.Store, m *session.Manager, token string) error {
			token = loggedIn(t, m, token)
			b.Advance(time.Hour)
			return open(t, m, token).FreshWithin(time.Minute)
		}, []error{session.ErrNotFresh}, false},
		{"FreshWithin no time", session.Config{}, func(t *testing.T, _ *sessiontest.Store, m *session.Manager, token string) error {
			return open(t, m, token).FreshWithin(0)
		}, nil, false},
		{"Set of what has no encoding", session.Config{}, func(t *testing.T, _ *sessiontest.Store, m *session.Manager, token string) error {
			return open(t, m, token).Set("x", make(chan int))
		}, []error{session.ErrEncode}, false},
		{"Key.Set of what has no encoding", session.Config{}, func(t *testing.T, _ *sessiontest.Store, m *session.Manager, token string) error {
			return session.Key[chan int]{Name: "x"}.Set(open(t, m, token), make(chan int))
		}, []error{session.ErrEncode}, false},
		{"Key.Update to what has no encoding", session.Config{}, func(t *testing.T, _ *sessiontest.Store, m *session.Manager, token string) error {
			return errOf(session.Key[any]{Name: "x"}.Update(open(t, m, token), func(any) any { return make(chan int) }))
		}, []error{session.ErrEncode}, false},
		{"Set of a reserved name", session.Config{}, func(t *testing.T, _ *sessiontest.Store, m *session.Manager, token string) error {
			return open(t, m, token).Set("_session.user", "mallory")
		}, []error{session.ErrEncode}, false},
		{"Set of a name that is not UTF-8", session.Config{}, func(t *testing.T, _ *sessiontest.Store, m *session.Manager, token string) error {
			return open(t, m, token).Set("\xff", "x")
		}, []error{session.ErrEncode}, false},
		{"Login of nobody", session.Config{}, func(t *testing.T, _ *sessiontest.Store, m *session.Manager, token string) error {
			return open(t, m, token).Login("")
		}, nil, false},
		{"Login of what is not UTF-8", session.Config{Codec: codec.JSON{}}, func(t *testing.T, _ *sessiontest.Store, m *session.Manager, token string) error {
			return open(t, m, token).Login("\xff")
		}, []error{session.ErrEncode}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var b sessiontest.Store
			m := newManager(t, &b, tt.cfg)
			token := begin(t, m, map[string]any{"note": "kept"})
			err := tt.fails(t, &b, m, token)
			if err == nil {
				t.Fatal("it does not fail")
			}
			wantText(t, tt.name, err)
			for _, want := range tt.want {
				if !errors.Is(err, want) {
					t.Errorf("%v is not %v", err, want)
				}
			}
			if errors.Is(err, session.ErrStore) != tt.store {
				t.Errorf("%v: ErrStore is %v", err, !tt.store)
			}
			if len(tt.want) == 0 {
				for _, sentinel := range ours {
					if errors.Is(err, sentinel) {
						t.Errorf("%v is %v", err, sentinel)
					}
				}
			}
			if strings.Contains(err.Error(), token) || strings.Contains(err.Error(), session.DefaultStoreKey(token)) {
				t.Errorf("%v has the token or the key", err)
			}
		})
	}
}

// TestErrorsOfNewAndWith checks that each mistake has a line of its own.
func TestErrorsOfNewAndWith(t *testing.T) {
	_, err := session.New(nil, session.Config{})
	wantText(t, "New without a Backend", err)
	_, err = session.New(&memory.Backend{}, session.Config{
		IdleTimeout: 1, AbsoluteTimeout: 1, TouchInterval: -1, Mode: 9, SafeMode: 9, MaxSize: -1, Undecodable: 9, CommitTimeout: -1, MaxMerges: -1,
		Lock:     session.LockConfig{TTL: 1, MaxHold: -1, MaxWait: -1, MinRetry: -1, MaxRetry: -1, MaxWaiters: -1, OnTimeout: 9},
		Cookie:   session.Cookie{Name: "__Host-x y", Path: "x", Domain: "a b", SameSite: 9, InsecureHTTP: true, Partitioned: true},
		StoreKey: func(string) string { return "" },
	})
	wantText(t, "New with many mistakes", err)
	if n := len(strings.Split(err.Error(), "\n")); n < 20 {
		t.Errorf("New names %d mistakes: %v", n, err)
	}
	_, err = session.New(&memory.Backend{}, session.Config{Header: "Cookie", Cookie: session.Cookie{Name: "x"}})
	wantText(t, "New with a Header that is taken", err)
	_, err = session.New(plain{&memory.Backend{}}, session.Config{Mode: session.Exclusive})
	wantText(t, "New without locks", err)
	m := newManager(t, plain{&memory.Backend{}}, session.Config{})
	for _, rt := range []session.Route{{Mode: 9}, {SafeMode: 9}, {Mode: session.Exclusive}, {FreshWithin: -1}} {
		_, err := m.With(rt)
		wantText(t, "With", err)
	}
}

// downLocker is a Locker whose calls fail on demand.
type downLocker struct {
	lock.Local
	mu   sync.Mutex
	down observe.Op
}

func (l *downLocker) fail(op observe.Op) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down = op
}

func (l *downLocker) err(op observe.Op) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.down == op {
		return errStore
	}
	return nil
}

func (l *downLocker) Acquire(ctx context.Context, key string, ttl time.Duration) (session.Lease, error) {
	if err := l.err(observe.OpAcquire); err != nil {
		return nil, err
	}
	lease, err := l.Local.Acquire(ctx, key, ttl)
	return downLease{lease, l}, err
}

type downLease struct {
	session.Lease
	l *downLocker
}

func (l downLease) Extend(ctx context.Context, ttl time.Duration) error {
	if err := l.l.err(observe.OpExtend); err != nil {
		return err
	}
	return l.Lease.Extend(ctx, ttl)
}

func (l downLease) Release(ctx context.Context) error {
	if err := l.l.err(observe.OpRelease); err != nil {
		return err
	}
	return l.Lease.Release(ctx)
}

// TestStoreFailuresAreMarked checks every call in every mode.
func TestStoreFailuresAreMarked(t *testing.T) {
	all := []session.Mode{session.Merge, session.LastWrite, session.Exclusive, session.ReadOnly}
	writing := all[:3]
	free := all[:2]
	locking := all[2:3]
	type setting struct {
		b     *sessiontest.Store
		m     *session.Manager
		token string
		fail  func()
	}
	begun := func(t *testing.T, s setting, changes ...func(s *session.Session) error) *session.Session {
		t.Helper()
		sess := open(t, s.m, s.token)
		for _, change := range changes {
			check(t, change(sess))
		}
		s.fail()
		return sess
	}
	change := func(s *session.Session) error { return note.Set(s, "changed") }
	login := func(s *session.Session) error { return s.Login("ann") }
	save := func(changes ...func(s *session.Session) error) func(*testing.T, setting) error {
		return func(t *testing.T, s setting) error { return begun(t, s, changes...).Save(ctx) }
	}
	stale := func(f func(s *session.Session) error) func(*testing.T, setting) error {
		return func(t *testing.T, s setting) error {
			s.b.Advance(time.Hour)
			return f(begun(t, s))
		}
	}
	get := func(t *testing.T, s setting) (err error) {
		s.fail()
		visit(s.m, "POST", s.token, func(_ http.ResponseWriter, r *http.Request) { _, err = s.m.Get(r.Context()) })
		return err
	}
	handled := func(f func(s *session.Session) error) func(*testing.T, setting) error {
		return func(t *testing.T, s setting) error {
			var h told
			cfg := s.m.Config()
			cfg.ErrorHandler = h.handle
			m := newManager(t, s.b, cfg)
			visit(m, "POST", s.token, m.HandlerFunc(func(_ http.ResponseWriter, _ *http.Request, sess *session.Session) error {
				defer s.fail()
				return f(sess)
			}).ServeHTTP)
			return h.only(t)
		}
	}
	for _, tt := range []struct {
		name  string
		op    observe.Op
		modes []session.Mode
		call  func(t *testing.T, s setting) error
	}{
		{"Open", observe.OpLoad, []session.Mode{session.Merge, session.LastWrite, session.ReadOnly}, func(_ *testing.T, s setting) error {
			s.fail()
			return errOf(s.m.Open(ctx, s.token))
		}},
		{"Open", observe.OpAcquire, locking, func(_ *testing.T, s setting) error {
			s.fail()
			return errOf(s.m.Open(ctx, s.token))
		}},
		{"Get", observe.OpLoad, []session.Mode{session.Merge, session.LastWrite, session.ReadOnly}, get},
		{"Get", observe.OpAcquire, locking, get},
		{"Get that ends an expired session", observe.OpDelete, writing, func(t *testing.T, s setting) error {
			cfg := s.m.Config()
			cfg.IdleTimeout, cfg.AbsoluteTimeout, cfg.TouchInterval = time.Hour, time.Hour, 0
			s.m = newManager(t, s.b, cfg)
			s.b.Advance(90 * time.Minute)
			return get(t, s)
		}},
		{"Save of a new session", observe.OpSave, writing, func(t *testing.T, s setting) error {
			sess := s.m.Start()
			check(t, change(sess))
			s.fail()
			return sess.Save(ctx)
		}},
		{"Save of a change", observe.OpSave, writing, save(change)},
		{"Save after Rotate", observe.OpSave, writing, save((*session.Session).Rotate)},
		{"Save after Login", observe.OpSave, writing, save(login)},
		{"Save of a change that met another", observe.OpLoad, []session.Mode{session.Merge}, func(t *testing.T, s setting) error {
			sess := begun(t, setting{s.b, s.m, s.token, func() {}}, change)
			s.b.FailNext(observe.OpSave, 1, &session.ConflictError{})
			s.fail()
			return sess.Save(ctx)
		}},
		{"Save of no change", observe.OpTouch, free, stale(func(s *session.Session) error { return s.Save(ctx) })},
		{"Save of no change", observe.OpRelease, locking, save()},
		{"Close", observe.OpTouch, free, stale(func(s *session.Session) error { return s.Close(ctx) })},
		{"Close", observe.OpRelease, locking, func(t *testing.T, s setting) error { return begun(t, s, change).Close(ctx) }},
		{"Destroy", observe.OpDelete, writing, func(t *testing.T, s setting) error { return begun(t, s, change).Destroy(ctx) }},
		{"Destroy of what was changed", observe.OpLoad, free, func(t *testing.T, s setting) error {
			sess := begun(t, setting{s.b, s.m, s.token, func() {}})
			s.b.FailNext(observe.OpDelete, 1, &session.ConflictError{})
			s.fail()
			return sess.Destroy(ctx)
		}},
		{"the Handler's save of a change", observe.OpSave, writing, handled(change)},
		{"the Handler's save after Login", observe.OpSave, writing, handled(login)},
		{"the Handler's save of a new session", observe.OpSave, writing, func(t *testing.T, s setting) error {
			s.token = ""
			return handled(change)(t, s)
		}},
	} {
		for _, mode := range tt.modes {
			for _, lost := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, %v fails, %v, lost %v", tt.name, tt.op, mode, lost), func(t *testing.T) {
					var b sessiontest.Store
					m := newManager(t, &b, session.Config{})
					token := begin(t, m, map[string]any{"note": "kept"})
					view := newManager(t, &b, session.Config{Mode: mode})
					err := tt.call(t, setting{&b, view, token, func() {
						if lost {
							b.LoseNext(tt.op, 100, errStore)
						} else {
							b.Fail(tt.op, errStore)
						}
					}})
					wantStoreError(t, err)
					if lost {
						b.LoseNext(tt.op, 0, nil)
						return
					}
					b.Fail(tt.op, nil)
					wantValue(t, m, token, "note", "kept")
				})
			}
		}
	}
	for _, tt := range []struct {
		name string
		op   observe.Op
		call func(t *testing.T, s setting) error
	}{
		{"Open", observe.OpAcquire, func(_ *testing.T, s setting) error { s.fail(); return errOf(s.m.Open(ctx, s.token)) }},
		{"Get", observe.OpAcquire, get},
		{"Save of no change", observe.OpRelease, save()},
		{"Close", observe.OpRelease, func(t *testing.T, s setting) error { return begun(t, s).Close(ctx) }},
	} {
		t.Run(fmt.Sprintf("%s, %v of a Locker fails", tt.name, tt.op), func(t *testing.T) {
			var b sessiontest.Store
			var l downLocker
			m := newManager(t, &b, session.Config{Mode: session.Exclusive, Lock: session.LockConfig{Locker: &l}})
			token := begin(t, m, map[string]any{"note": "kept"})
			wantStoreError(t, tt.call(t, setting{&b, m, token, func() { l.fail(tt.op) }}))
		})
	}
}

// wantStoreError reports an error unless err is a failure of the store and no
// other sentinel.
func wantStoreError(t testing.TB, err error) {
	t.Helper()
	if !errors.Is(err, session.ErrStore) || !errors.Is(err, errStore) {
		t.Fatalf("got %v, want a failure of the store", err)
	}
	wantText(t, "it", err)
	for _, sentinel := range ours {
		if errors.Is(err, sentinel) {
			t.Errorf("%v is %v", err, sentinel)
		}
	}
	if got := session.Status(err); got != http.StatusServiceUnavailable {
		t.Errorf("status %d of %v", got, err)
	}
}

// TestErrorsOfTheHandler checks that its ErrorHandler gets errors with exactly
// one prefix.
func TestErrorsOfTheHandler(t *testing.T) {
	for name, tt := range map[string]struct {
		cfg  session.Config
		f    func(t *testing.T, b *sessiontest.Store, m *session.Manager, s *session.Session) error
		want error
	}{
		"too large": {session.Config{MaxSize: 100}, func(_ *testing.T, _ *sessiontest.Store, _ *session.Manager, s *session.Session) error {
			return note.Set(s, strings.Repeat("x", 200))
		}, session.ErrTooLarge},
		"destroyed": {session.Config{}, func(t *testing.T, _ *sessiontest.Store, m *session.Manager, s *session.Session) error {
			return errors.Join(open(t, m, s.Token().Reveal()).Destroy(ctx), note.Set(s, "x"))
		}, session.ErrNotFound},
		"conflict": {session.Config{MaxMerges: 1}, func(_ *testing.T, b *sessiontest.Store, _ *session.Manager, s *session.Session) error {
			b.Fail(observe.OpSave, &session.ConflictError{})
			return note.Set(s, "x")
		}, session.ErrConflict},
		"lost lock": {session.Config{Mode: session.Exclusive}, func(_ *testing.T, b *sessiontest.Store, _ *session.Manager, s *session.Session) error {
			b.Advance(time.Minute)
			return note.Set(s, "x")
		}, session.ErrLockLost},
		"lost lock, and no change": {session.Config{Mode: session.Exclusive}, func(_ *testing.T, b *sessiontest.Store, _ *session.Manager, s *session.Session) error {
			b.Advance(time.Minute)
			return nil
		}, session.ErrLockLost},
		"decode": {session.Config{}, func(t *testing.T, _ *sessiontest.Store, m *session.Manager, s *session.Session) error {
			other := open(t, m, s.Token().Reveal())
			return errors.Join(other.Set("counter", "text"), other.Save(ctx), errOf(counter.Update(s, inc)))
		}, session.ErrDecode},
	} {
		t.Run(name, func(t *testing.T) {
			var b sessiontest.Store
			var h told
			tt.cfg.ErrorHandler = h.handle
			m := newManager(t, &b, tt.cfg)
			r := sessiontest.NewRequest(t, m, "POST", "/", nil, setNote)
			do(m.HandlerFunc(func(_ http.ResponseWriter, _ *http.Request, s *session.Session) error {
				check(t, tt.f(t, &b, m, s))
				return nil
			}), r)
			err := h.only(t)
			if !errors.Is(err, tt.want) || errors.Is(err, session.ErrStore) {
				t.Fatalf("the ErrorHandler was told %v, want %v", err, tt.want)
			}
			wantText(t, "it", err)
		})
	}
}
