package session_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/memory"
)

// A village is a store with the sessions of ann, and processes that work on it. A
// client has each of the tokens.
type village struct {
	b     memory.Backend
	m     *session.Manager // of a process that nothing happens to
	cfg   session.Config
	first *session.Session // of ann, on the laptop
	other *session.Session // of ann, on the phone
	bob   *session.Session // on the laptop
	cart  string           // the token of a visitor
	more  []*session.Session
}

func newVillage(t *testing.T, mode session.Mode, more int) *village {
	v := &village{cfg: session.Config{
		Owners: session.OwnersConfig{Index: true}, StoreKey: keyed, Mode: mode,
		Lock: session.LockConfig{MaxWait: 1},
	}}
	v.m = newManager(t, &v.b, v.cfg)
	v.cart = begin(t, v.m, map[string]any{"note": "cart"})
	v.first = login(t, v.m, session.Login{User: "ann", Owners: []session.Owner{laptop}})
	v.other = login(t, v.m, session.Login{User: "ann", Owners: []session.Owner{phone}})
	v.bob = login(t, v.m, session.Login{User: "bob", Owners: []session.Owner{laptop}})
	for range more {
		v.more = append(v.more, login(t, v.m, session.Login{User: "ann"}))
	}
	return v
}

// process returns a process of its own and its Manager.
func (v *village) process(t *testing.T, limit int) (*process, *session.Manager) {
	p := &process{Backend: &v.b}
	cfg := v.cfg
	cfg.Owners.MaxSessions = limit
	return p, newManager(t, p, cfg)
}

// An operation is what a process does. It returns the session that its client has
// then; nil if there is none.
type operation struct {
	name   string
	login  []session.Owner // that a login has, which makes a session of its own
	handle bool            // the login keeps that of the first session
	ends   bool            // the first session, by a logout
	moves  bool            // the first session, if it has no error
	limit  bool

	// A revocation has:
	owners []session.Owner
	one    bool                                // only those with the handle of the first session
	covers func(v *village) []*session.Session // of the sessions that there were

	run func(ctx context.Context, v *village, m *session.Manager) (*session.Session, error)
}

func openTo(do func(s *session.Session) error, token func(v *village) string) func(context.Context, *village, *session.Manager) (*session.Session, error) {
	return func(ctx context.Context, v *village, m *session.Manager) (*session.Session, error) {
		s, err := m.Open(ctx, token(v))
		if err != nil {
			return nil, err
		}
		if err = do(s); err == nil {
			err = s.Save(ctx)
		}
		return s, errors.Join(err, s.Close(context.WithoutCancel(ctx)))
	}
}

func firstToken(v *village) string { return v.first.Token().Reveal() }
func cartToken(v *village) string  { return v.cart }

func annOn(device session.Owner) []session.Owner { return []session.Owner{session.User("ann"), device} }

func annsLogin(device session.Owner) func(s *session.Session) error {
	return func(s *session.Session) error {
		return s.LoginWith(session.Login{User: "ann", Owners: []session.Owner{device}})
	}
}

func revoking(owners ...session.Owner) operation {
	return operation{
		name:   fmt.Sprint("revoke ", owners),
		owners: owners,
		covers: func(v *village) []*session.Session {
			var all []*session.Session
			if !slices.Contains(owners, session.User("bob")) && !slices.Contains(owners, phone) {
				all = append(all, v.first)
			}
			if !slices.Contains(owners, session.User("bob")) && !slices.Contains(owners, laptop) {
				all = append(all, v.other)
			}
			if !slices.Contains(owners, session.User("ann")) && !slices.Contains(owners, phone) {
				all = append(all, v.bob)
			}
			if !slices.Contains(owners, laptop) && !slices.Contains(owners, phone) {
				all = append(all, v.more...)
			}
			return all
		},
		run: func(ctx context.Context, _ *village, m *session.Manager) (*session.Session, error) {
			return nil, m.Revoke(ctx, owners...)
		},
	}
}

func operations() []operation {
	return []operation{
		{name: "write", run: openTo(func(s *session.Session) error { return note.Set(s, "x") }, firstToken)},
		{name: "rotate", moves: true, run: openTo((*session.Session).Rotate, firstToken)},
		{name: "rotate and write", moves: true, run: openTo(func(s *session.Session) error {
			return errors.Join(s.Rotate(), errOf(counter.Update(s, inc)))
		}, firstToken)},
		{name: "login", login: annOn(laptop), run: func(ctx context.Context, _ *village, m *session.Manager) (*session.Session, error) {
			s := m.Start()
			if err := annsLogin(laptop)(s); err != nil {
				return nil, err
			}
			err := s.Save(ctx)
			return s, errors.Join(err, s.Close(context.WithoutCancel(ctx)))
		}},
		{name: "first login", login: annOn(laptop), run: openTo(annsLogin(laptop), cartToken)},
		{name: "login again", login: annOn(laptop), handle: true, moves: true, run: openTo(annsLogin(laptop), firstToken)},
		{name: "login again with the phone", login: annOn(phone), handle: true, moves: true, run: openTo(annsLogin(phone), firstToken)},
		{name: "login at the limit", login: annOn(laptop), limit: true, run: openTo(annsLogin(laptop), cartToken)},
		{name: "logout", ends: true, run: func(ctx context.Context, v *village, m *session.Manager) (*session.Session, error) {
			s, err := m.Open(ctx, firstToken(v))
			if err == nil {
				err = s.Destroy(ctx)
			}
			return nil, err
		}},
		revoking(session.User("ann")),
		revoking(session.User("ann"), laptop),
		revoking(laptop, session.User("ann")),
		revoking(laptop),
		{name: "revoke others", owners: []session.Owner{session.User("ann")}, covers: func(v *village) []*session.Session {
			return append([]*session.Session{v.first}, v.more...)
		}, run: func(ctx context.Context, v *village, m *session.Manager) (*session.Session, error) {
			return nil, m.RevokeOthers(ctx, v.other.Handle(), session.User("ann"))
		}},
		{name: "revoke one", owners: []session.Owner{session.User("ann")}, one: true, covers: func(v *village) []*session.Session {
			return []*session.Session{v.first}
		}, run: func(ctx context.Context, v *village, m *session.Manager) (*session.Session, error) {
			err := m.RevokeOne(ctx, v.first.Handle(), session.User("ann"))
			if errors.Is(err, session.ErrNotFound) {
				err = nil
			}
			return nil, err
		}},
	}
}

// recordOf returns the key of the record of an owner.
func (v *village) recordOf(t *testing.T, o session.Owner) (record string) {
	p, m := v.process(t, 0)
	p.hooks(func(_ int, _, key string) error {
		record = key
		return errStore
	}, nil)
	for _, err := range m.Sessions(ctx, o) {
		wantErr(t, err, session.ErrStore)
	}
	return record
}

// checkLogin checks that a login that was listed before a revocation has ended,
// and that one that was listed after it has not. inLogin and inRevocation tell when
// they saved which record.
func (v *village) checkLogin(t *testing.T, login, revocation operation, s *session.Session, inLogin, inRevocation map[string][]int) {
	t.Helper()
	if login.login == nil || revocation.owners == nil || revocation.one && !login.handle {
		return
	}
	covered := !slices.ContainsFunc(revocation.owners, func(o session.Owner) bool { return !slices.Contains(login.login, o) })
	record := v.recordOf(t, revocation.owners[0])
	listed, marked := inLogin[record], inRevocation[record]
	user, _ := v.live(t, s.Token().Reveal())
	switch {
	case covered && (len(listed) == 0 || len(marked) == 0):
		t.Errorf("%s or %s has not saved the record", login.name, revocation.name)
	case covered && listed[len(listed)-1] < marked[0] && user != "":
		t.Errorf("%s is alive, which %s covers", login.name, revocation.name)
	case (!covered || listed[0] > marked[0]) && user == "":
		t.Errorf("%s has ended, which %s does not cover", login.name, revocation.name)
	}
}

// live returns the user of the session of that token, "" if it is not alive, and
// its handle.
func (v *village) live(t *testing.T, token string) (user, handle string) {
	t.Helper()
	s, err := v.m.Open(ctx, token)
	if errors.Is(err, session.ErrNotFound) {
		return "", ""
	}
	check(t, err)
	user, err = s.User()
	check(t, errors.Join(err, s.Close(ctx)))
	if user == "" {
		user = "nobody"
	}
	return user, s.Handle()
}

// everyLiveOneIsListed checks that the list has all sessions that clients have.
func (v *village) everyLiveOneIsListed(t *testing.T, made ...*session.Session) {
	t.Helper()
	listed := map[string][]string{}
	for name, owners := range map[string][]session.Owner{
		"ann": {session.User("ann")}, "bob": {session.User("bob")},
		"ann, laptop": {session.User("ann"), laptop}, "laptop, ann": {laptop, session.User("ann")},
		"ann, phone": {session.User("ann"), phone}, "phone, ann": {phone, session.User("ann")},
	} {
		listed[name] = handles(t, v.m, owners...)
	}
	for _, s := range append(append([]*session.Session{v.first, v.other, v.bob}, v.more...), made...) {
		user, handle := v.live(t, s.Token().Reveal())
		if user == "" || user == "nobody" {
			continue
		}
		names := []string{user}
		switch {
		case user == "bob":
		case slices.Contains(v.more, s):
		case s == v.other:
			names = append(names, "ann, phone", "phone, ann")
		case s == v.first:
			names = append(names, "ann, laptop", "laptop, ann")
		}
		for _, name := range names {
			if !slices.Contains(listed[name], handle) {
				t.Errorf("a live session of %s is not listed", name)
			}
		}
	}
}

// everyOneCanBeEnded revokes all.
func (v *village) everyOneCanBeEnded(t *testing.T, made ...*session.Session) {
	t.Helper()
	for _, user := range []string{"ann", "bob"} {
		check(t, v.m.Revoke(ctx, session.User(user)))
	}
	v.allHaveEnded(t, made...)
	for _, user := range []string{"ann", "bob"} {
		if n := len(handles(t, v.m, session.User(user))); n != 0 {
			t.Errorf("%d of %s are listed in the end", n, user)
		}
	}
}

func (v *village) allHaveEnded(t *testing.T, made ...*session.Session) {
	t.Helper()
	for _, s := range append(append([]*session.Session{v.first, v.other, v.bob}, v.more...), made...) {
		if user, _ := v.live(t, s.Token().Reveal()); user != "" && user != "nobody" {
			t.Errorf("a session of %s is alive in the end", user)
		}
	}
}

// TestTwoOperations does each operation with every other one in between, before
// each of its calls of the store.
func TestTwoOperations(t *testing.T) {
	sizes := []int{0, 13, 20}
	if testing.Short() {
		sizes = sizes[:1]
	}
	for _, more := range sizes {
		for _, one := range operations() {
			for _, two := range operations() {
				t.Run(fmt.Sprintf("%s, %s, %d", one.name, two.name, more), func(t *testing.T) {
					for at := 1; ; at++ {
						if !interleaved(t, one, two, more, at) {
							return
						}
						if t.Failed() {
							t.Fatalf("before call %d", at)
						}
					}
				})
			}
		}
	}
}

// interleaved does two before the call of one with that number. It reports whether
// there was one.
func interleaved(t *testing.T, one, two operation, more, at int) (reached bool) {
	v := newVillage(t, session.Merge, more)
	limit := map[bool]int{true: 2 + more}
	p1, m1 := v.process(t, limit[one.limit])
	p2, m2 := v.process(t, limit[two.limit])
	var s2 *session.Session
	var err2 error
	saved1, saved2, clock := map[string][]int{}, map[string][]int{}, 0
	var mu sync.Mutex // a revocation has calls at once
	note := func(saved map[string][]int) func(int, string, string) error {
		return func(_ int, op, key string) error {
			mu.Lock()
			defer mu.Unlock()
			if clock++; op == "Save" {
				saved[key] = append(saved[key], clock)
			}
			return nil
		}
	}
	p1.hooks(func(n int, _, _ string) error {
		if n == at {
			reached = true
			p2.hooks(nil, note(saved2))
			s2, err2 = two.run(ctx, v, m2)
		}
		return nil
	}, note(saved1))
	s1, err1 := one.run(ctx, v, m1)
	if !reached {
		return false
	}
	if err1 == nil && err2 == nil {
		v.checkLogin(t, one, two, s1, saved1, saved2)
		v.checkLogin(t, two, one, s2, saved2, saved1)
	}
	for what, err := range map[string]error{one.name: err1, two.name: err2} {
		if err != nil && !errors.Is(err, session.ErrNotFound) && !errors.Is(err, session.ErrConflict) {
			t.Errorf("%s: %v", what, err)
		}
	}
	var made []*session.Session
	if s1 != nil {
		made = append(made, s1)
	}
	if s2 != nil {
		made = append(made, s2)
	}
	v.everyLiveOneIsListed(t, made...)
	ended := map[*session.Session]bool{}
	for i, op := range []operation{one, two} {
		err := []error{err1, err2}[i]
		if op.covers == nil || err != nil {
			continue
		}
		covered := op.covers(v)
		for _, s := range covered {
			ended[s] = true
			if user, _ := v.live(t, s.Token().Reveal()); user != "" {
				t.Errorf("%s has left a session", op.name)
			}
		}
		// One that only has a new ID is the same session.
		other, made := two, s2
		if i == 1 {
			other, made = one, s1
		}
		if other.login == nil && made != nil && slices.Contains(covered, v.first) {
			if user, _ := v.live(t, made.Token().Reveal()); user != "" {
				t.Errorf("%s has left a session that got a new ID or was saved", op.name)
			}
		}
	}
	for _, op := range []operation{one, two} {
		if op.ends || op.moves {
			ended[v.first] = true
		}
		if op.limit { // it may be any of these that is the oldest
			for _, s := range append([]*session.Session{v.first, v.other}, v.more...) {
				ended[s] = true
			}
		}
	}
	for _, s := range append([]*session.Session{v.other, v.bob}, v.more...) {
		if user, _ := v.live(t, s.Token().Reveal()); user == "" && !ended[s] {
			t.Error("a session ended that nothing covers")
		}
	}
	if user, _ := v.live(t, firstToken(v)); user == "" && !ended[v.first] {
		t.Error("the first session ended, and nothing covers it")
	}
	v.everyOneCanBeEnded(t, made...)
	return true
}
