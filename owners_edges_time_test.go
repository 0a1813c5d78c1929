//go:build go1.25

package session_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/memory"
	"github.com/seed-a7bee19b/session/codec"
	"github.com/seed-a7bee19b/session/observe"
	"github.com/seed-a7bee19b/session/sessiontest"
)

func TestLoginIsChecked(t *testing.T) {
	long := strings.Repeat("x", 513)
	many := make([]session.Owner, 9)
	for i := range many {
		many[i] = session.Owner{Kind: "device", ID: fmt.Sprint(i)}
	}
	for name, tt := range map[string]struct {
		login session.Login
		want  error // nil: none
		fails bool
	}{
		"no user":               {session.Login{Owners: annOn(laptop)}, nil, true},
		"an owner of no kind":   {session.Login{User: "ann", Owners: []session.Owner{{ID: "x"}}}, nil, true},
		"an owner without ID":   {session.Login{User: "ann", Owners: []session.Owner{{Kind: "x"}}}, nil, true},
		"an owner not in UTF-8": {session.Login{User: "ann", Owners: []session.Owner{{Kind: "x", ID: "\xff"}}}, nil, true},
		"a kind not in UTF-8":   {session.Login{User: "ann", Owners: []session.Owner{{Kind: "\xff", ID: "x"}}}, nil, true},
		"a long owner":          {session.Login{User: "ann", Owners: []session.Owner{{Kind: "x", ID: long}}}, nil, true},
		"the longest owner":     {session.Login{User: "ann", Owners: []session.Owner{{Kind: long[1:], ID: long[1:]}}}, nil, false},
		"a long user":           {session.Login{User: long}, nil, true},
		"many owners":           {session.Login{User: "ann", Owners: many}, nil, true},
		"8 owners":              {session.Login{User: "ann", Owners: many[1:]}, nil, false},
		"the user, and twice":   {session.Login{User: "ann", Owners: []session.Owner{session.User("ann"), laptop, laptop}}, nil, false},
		"a note not in UTF-8":   {session.Login{User: "ann", Note: map[string]string{"x": "\xff"}}, nil, true},
		"a long note":           {session.Login{User: "ann", Note: map[string]string{"xx": strings.Repeat("x", 1023)}}, session.ErrTooLarge, true},
		"the longest note":      {session.Login{User: "ann", Note: map[string]string{"x": strings.Repeat("x", 1023)}}, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			var b memory.Backend
			m := indexed(t, &b, session.OwnersConfig{})
			s := m.Start()
			check(t, note.Set(s, "kept"))
			err := s.LoginWith(tt.login)
			if (err != nil) != tt.fails || tt.want != nil && !errors.Is(err, tt.want) {
				t.Fatalf("got %v", err)
			}
			if err != nil && (strings.Contains(err.Error(), "xxx") || strings.Contains(err.Error(), "ann") || !strings.HasPrefix(err.Error(), "session: login: ")) {
				t.Errorf("the error is %v", err)
			}
			check(t, s.Save(ctx))
			user, _ := s.User()
			if listed := len(handles(t, m, session.User("ann"))); (user == "ann") == tt.fails || (listed == 1) == tt.fails || (s.Handle() == "") != tt.fails {
				t.Errorf("user %q, %d are listed, handle %q", user, listed, s.Handle())
			}
			wantValue(t, m, s.Token().Reveal(), "note", "kept")
		})
	}
}

func TestWithoutAnIndex(t *testing.T) {
	var b store
	m := newManager(t, &b, session.Config{})
	s := m.Start()
	for name, err := range map[string]error{
		"Owners":       s.LoginWith(session.Login{User: "ann", Owners: annOn(laptop)}),
		"Note":         s.LoginWith(session.Login{User: "ann", Note: map[string]string{"a": "b"}}),
		"Revoke":       m.Revoke(ctx, session.User("ann")),
		"RevokeOne":    m.RevokeOne(ctx, strings.Repeat("A", 22), session.User("ann")),
		"RevokeOthers": m.RevokeOthers(ctx, strings.Repeat("A", 22), session.User("ann")),
		"Sessions":     listError(m.Sessions(ctx, session.User("ann"))),
	} {
		if err == nil || !strings.Contains(err.Error(), "Owners.Index") {
			t.Errorf("%s: %v", name, err)
		}
	}
	check(t, s.LoginWith(session.Login{User: "ann"}))
	check(t, s.Save(ctx))
	b.wantCalls(t, "Save")
	if s.Handle() != "" {
		t.Error("it has a handle")
	}
	// A process without the index gives a listed session a new ID, also by another
	// login of its user.
	other := indexed(t, &b, session.OwnersConfig{})
	for _, change := range []func(s *session.Session) error{
		(*session.Session).Rotate,
		func(s *session.Session) error { return s.Login("ann") },
	} {
		s = open(t, m, login(t, other, session.Login{User: "ann"}).Token().Reveal())
		check(t, errors.Join(change(s), s.Save(ctx)))
		if got := handles(t, other, session.User("ann")); len(got) != 1 || got[0] != s.Handle() {
			t.Errorf("%v are listed", got)
		}
		check(t, other.Revoke(ctx, session.User("ann")))
		if alive(t, m, s) {
			t.Error("it is alive")
		}
	}
}

// listError returns the error of a list, and checks that nothing comes after it.
func listError(list func(func(session.Entry, error) bool)) (err error) {
	for _, e := range list {
		err = errors.Join(err, e)
	}
	return err
}

func TestOwnersConfigIsChecked(t *testing.T) {
	for name, tt := range map[string]struct {
		cfg  session.Config
		want string // in the error; "" for none
	}{
		"index":            {session.Config{Owners: session.OwnersConfig{Index: true}}, ""},
		"limit":            {session.Config{Owners: session.OwnersConfig{Index: true, MaxSessions: 1000, AtLimit: session.RefuseLogin}}, ""},
		"no index":         {session.Config{Owners: session.OwnersConfig{MaxSessions: 1}}, "Index"},
		"negative":         {session.Config{Owners: session.OwnersConfig{Index: true, MaxSessions: -1}}, "MaxSessions"},
		"too many":         {session.Config{Owners: session.OwnersConfig{Index: true, MaxSessions: 1001}}, "MaxSessions"},
		"unknown policy":   {session.Config{Owners: session.OwnersConfig{Index: true, MaxSessions: 1, AtLimit: 9}}, "LimitPolicy"},
		"policy, no limit": {session.Config{Owners: session.OwnersConfig{Index: true, AtLimit: session.RefuseLogin}}, "AtLimit"},
		"one key for all owners": {session.Config{Owners: session.OwnersConfig{Index: true}, StoreKey: func(token string) string {
			text, _, _ := strings.Cut(token, ".")
			return text
		}}, "StoreKey"},
		"no key for owners": {session.Config{Owners: session.OwnersConfig{Index: true}, StoreKey: func(token string) string {
			if strings.Contains(token, ".") {
				return ""
			}
			return token
		}}, "StoreKey"},
		"that StoreKey without an index": {session.Config{StoreKey: func(token string) string {
			text, _, _ := strings.Cut(token, ".")
			return text
		}}, ""},
		"a prefix": {session.Config{Owners: session.OwnersConfig{Index: true}, StoreKey: func(token string) string { return "s/" + token }}, ""},
	} {
		_, err := session.New(&memory.Backend{}, tt.cfg)
		if (err != nil) != (tt.want != "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestNoTokenLeadsToTheIndex tries what a visitor can send.
func TestNoTokenLeadsToTheIndex(t *testing.T) {
	for name, cfg := range map[string]session.Config{
		"default": {}, "plain": {StoreKey: func(token string) string { return token }},
	} {
		var b memory.Backend
		p := &process{Backend: &b}
		var keys []string
		p.hooks(func(_ int, _, key string) error {
			keys = append(keys, key)
			return nil
		}, nil)
		cfg.Owners.Index = true
		m := newManager(t, p, cfg)
		for range 20 {
			login(t, m, session.Login{User: "ann"})
		}
		for _, key := range keys {
			rec, err := b.Load(ctx, key)
			if err != nil || !strings.Contains(string(rec.Data), "_session.owner") {
				continue
			}
			for _, token := range []string{key, strings.TrimPrefix(key, "owner."), strings.TrimPrefix(key, "page."), "owner." + key, "page." + key} {
				if _, err := m.Open(ctx, token); !errors.Is(err, session.ErrNotFound) {
					t.Errorf("%s: a token of %d characters opens a record of the index: %v", name, len(token), err)
				}
			}
		}
	}
}

func TestEntries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b memory.Backend
		m := indexed(t, &b, session.OwnersConfig{})
		start := time.Now()
		visitor := begin(t, m, map[string]any{"note": "x"})
		time.Sleep(time.Hour)
		s := open(t, m, visitor)
		noted := map[string]string{"device": "Firefox", "address": "192.0.2.1"}
		check(t, errors.Join(s.LoginWith(session.Login{User: "ann", Owners: annOn(laptop), Note: noted}), s.Save(ctx)))
		noted["device"] = "changed later"
		handle := s.Handle()
		only := func() session.Entry {
			t.Helper()
			var all []session.Entry
			for e, err := range m.Sessions(ctx, session.User("ann")) {
				check(t, err)
				all = append(all, e)
			}
			if len(all) != 1 {
				t.Fatalf("%d are listed", len(all))
			}
			return all[0]
		}
		want := func(e session.Entry, created, used, expires time.Duration) {
			t.Helper()
			if e.Handle != handle || e.User != "ann" || e.Current || len(e.Note) != 2 || e.Note["device"] != "Firefox" || e.Note["address"] != "192.0.2.1" {
				t.Errorf("got %+v", e)
			}
			if c, u, x := e.Created.Sub(start), e.LastUsed.Sub(start), e.Expires.Sub(start); c != created || u != used || x != expires {
				t.Errorf("created %v, used %v, expires %v", c, u, x)
			}
		}
		want(only(), time.Hour, time.Hour, 3*time.Hour)
		time.Sleep(5 * time.Minute) // less than the TouchInterval
		check(t, open(t, m, s.Token().Reveal()).Close(ctx))
		want(only(), time.Hour, time.Hour, 3*time.Hour)
		time.Sleep(25 * time.Minute)
		check(t, open(t, m, s.Token().Reveal()).Close(ctx))
		want(only(), time.Hour, 90*time.Minute, 210*time.Minute)
		time.Sleep(30 * time.Minute)
		check(t, errors.Join(s.Rotate(), s.Save(ctx)))
		want(only(), time.Hour, 2*time.Hour, 4*time.Hour)
		time.Sleep(time.Hour)
		check(t, errors.Join(s.LoginWith(session.Login{User: "ann", Owners: annOn(laptop), Note: maps.Clone(map[string]string{"device": "Firefox", "address": "192.0.2.1"})}), s.Save(ctx)))
		want(only(), 3*time.Hour, 3*time.Hour, 5*time.Hour)

		// A shorter timeout of another process.
		short := newManager(t, &b, session.Config{IdleTimeout: 30 * time.Minute, Owners: session.OwnersConfig{Index: true}})
		time.Sleep(40 * time.Minute)
		if n := len(handles(t, short, session.User("ann"))); n != 0 {
			t.Errorf("%d are listed that have ended by a shorter timeout", n)
		}
		if n := len(handles(t, m, session.User("ann"))); n != 1 {
			t.Errorf("%d are listed", n)
		}
		time.Sleep(24 * time.Hour)
		if n := len(handles(t, m, session.User("ann"))); n != 0 {
			t.Errorf("%d are listed that have ended", n)
		}
	})
}

func TestCurrentEntry(t *testing.T) {
	var b memory.Backend
	m := indexed(t, &b, session.OwnersConfig{})
	view := withMode(t, m, session.ReadOnly)
	other := login(t, m, session.Login{User: "ann"})
	s := login(t, m, session.Login{User: "ann"})
	for name, h := range map[string]*session.Manager{"m": m, "a view": view} {
		seen := 0
		w := visit(h, "GET", s.Token().Reveal(), func(_ http.ResponseWriter, r *http.Request) {
			_, err := h.Get(r.Context())
			check(t, err)
			for _, list := range []*session.Manager{m, view} {
				for e, err := range list.Sessions(r.Context(), session.User("ann")) {
					check(t, err)
					if seen++; e.Current != (e.Handle == s.Handle()) {
						t.Errorf("%s: the current one is %v", name, e.Handle == other.Handle())
					}
				}
			}
		})
		if w.Code != http.StatusOK || seen != 4 {
			t.Errorf("%s: status %d, %d are listed", name, w.Code, seen)
		}
	}
	// A request that has not asked for its session, and one of another Manager.
	visit(m, "GET", s.Token().Reveal(), func(_ http.ResponseWriter, r *http.Request) {
		for _, list := range []*session.Manager{m, indexed(t, &b, session.OwnersConfig{})} {
			for e, err := range list.Sessions(r.Context(), session.User("ann")) {
				if err != nil || e.Current {
					t.Errorf("%+v, %v", e.Current, err)
				}
			}
		}
	})
}

func TestListIsStopped(t *testing.T) {
	for _, n := range []int{1, 20, 300} {
		var b store
		m := indexed(t, &b, session.OwnersConfig{})
		for range n {
			login(t, m, session.Login{User: "ann"})
		}
		for _, stop := range []int{1, n / 2, n} {
			b.took()
			seen := 0
			for _, err := range m.Sessions(ctx, session.User("ann")) {
				check(t, err)
				if seen++; seen >= stop {
					break
				}
			}
			if calls := len(b.took()); seen != max(stop, 1) || calls > seen+20 {
				t.Errorf("%d of %d: %d are listed with %d requests", stop, n, seen, calls)
			}
		}
	}
}

// TestListFails: a failure of the store is the last that the list has, and a page
// or a session that the store fails for is not left out.
func TestListFails(t *testing.T) {
	var b store
	m := indexed(t, &b, session.OwnersConfig{})
	const n = 40
	for range n {
		login(t, m, session.Login{User: "ann"})
	}
	for at := 1; at <= n+3; at++ {
		var calls atomic.Int64
		b.before = func(context.Context, string) error {
			if calls.Add(1) == int64(at) {
				return errStore
			}
			return nil
		}
		var last error
		seen := 0
		for e, err := range m.Sessions(ctx, session.User("ann")) {
			if last != nil {
				t.Fatal("more comes after the error")
			}
			if last = err; err == nil {
				seen++
			} else if e.Handle != "" {
				t.Error("an error comes with an entry")
			}
		}
		wantErr(t, last, session.ErrStore)
		wantErr(t, last, errStore)
		if !strings.HasPrefix(last.Error(), "session: list: ") || session.Status(last) != http.StatusServiceUnavailable {
			t.Errorf("the error is %v", last)
		}
	}
	b.healthy()
	ended, cancel := context.WithCancel(ctx)
	cancel()
	for name, err := range map[string]error{
		"Sessions":     listError(m.Sessions(ended, session.User("ann"))),
		"Revoke":       m.Revoke(ended, session.User("ann")),
		"RevokeOne":    m.RevokeOne(ended, strings.Repeat("A", 22), session.User("ann")),
		"RevokeOthers": m.RevokeOthers(ended, strings.Repeat("A", 22), session.User("ann")),
	} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := len(handles(t, m, session.User("ann"))); got != n {
		t.Errorf("%d are listed", got)
	}
}

func TestOwnersAreChecked(t *testing.T) {
	var b store
	m := indexed(t, &b, session.OwnersConfig{})
	handle := login(t, m, session.Login{User: "ann"}).Handle()
	b.took()
	for name, owners := range map[string][]session.Owner{
		"none": nil, "no kind": {{ID: "x"}}, "the second has no ID": {session.User("ann"), {Kind: "x"}}, "not UTF-8": {session.User("\xff")},
	} {
		for what, err := range map[string]error{
			"Sessions": listError(m.Sessions(ctx, owners...)), "Revoke": m.Revoke(ctx, owners...), "RevokeOthers": m.RevokeOthers(ctx, handle, owners...),
		} {
			if err == nil {
				t.Errorf("%s of %s: no error", what, name)
			}
		}
	}
	for name, keep := range map[string]string{"empty": "", "short": handle[1:], "long": handle + "A", "a line": handle[:21] + "\n", "a star": handle[:21] + "*"} {
		if err := m.RevokeOthers(ctx, keep, session.User("ann")); err == nil {
			t.Errorf("RevokeOthers with a handle that is %s: no error", name)
		}
		if err := m.RevokeOne(ctx, keep, session.User("ann")); err == nil || keep != "" && !errors.Is(err, session.ErrNotFound) {
			t.Errorf("RevokeOne with a handle that is %s: %v", name, err)
		}
	}
	b.wantCalls(t)
	// One that is well formed.
	wantErr(t, m.RevokeOne(ctx, strings.Repeat("A", 22), session.User("ann")), session.ErrNotFound)
	wantErr(t, m.RevokeOne(ctx, handle, session.User("bob")), session.ErrNotFound)
	if n := len(handles(t, m, session.User("ann"))); n != 1 {
		t.Errorf("%d are listed", n)
	}
	check(t, m.RevokeOthers(ctx, strings.Repeat("A", 22), session.User("ann")))
	if n := len(handles(t, m, session.User("ann"))); n != 0 {
		t.Errorf("%d are listed", n)
	}
}

// TestUndecodableIsListed: a session that this process cannot read is alive, and
// can be ended.
func TestUndecodableIsListed(t *testing.T) {
	var b memory.Backend
	m := indexed(t, &b, session.OwnersConfig{})
	s := login(t, m, session.Login{User: "ann", Note: map[string]string{"a": "b"}})
	key := session.DefaultStoreKey(s.Token().Reveal())
	whole, err := b.Load(ctx, key)
	check(t, err)
	listing := strings.Replace(string(whole.Data), `{"h"`, `{"x"`, 1)
	for name, data := range map[string]string{"the record": "\xc1", "the listing": listing} {
		rec, err := b.Load(ctx, key)
		check(t, err)
		rec.Data = []byte(data)
		if _, err = b.Save(ctx, key, rec); err != nil {
			t.Fatal(err)
		}
		var all []session.Entry
		for e, err := range m.Sessions(ctx, session.User("ann")) {
			check(t, err)
			all = append(all, e)
		}
		if len(all) != 1 || all[0].Handle != s.Handle() || all[0].User != "" || all[0].Note != nil || all[0].Created.IsZero() || all[0].Expires.IsZero() {
			t.Errorf("%s: got %+v", name, all)
		}
	}
	check(t, m.RevokeOne(ctx, s.Handle(), session.User("ann")))
	if _, err := b.Load(ctx, key); !errors.Is(err, session.ErrNotFound) {
		t.Errorf("it is alive: %v", err)
	}
}

// TestIndexInEachStore: text, other keys, small sessions, small records.
func TestIndexInEachStore(t *testing.T) {
	small, err := memory.New(memory.Config{MaxData: 16 << 10, MaxRecords: 100})
	check(t, err)
	for name, tt := range map[string]struct {
		b   session.Backend
		cfg session.Config
	}{
		"text":          {&textBackend{text: true}, session.Config{Codec: codec.JSON{}}},
		"JSON":          {&memory.Backend{}, session.Config{Codec: codec.JSON{}}},
		"long keys":     {&memory.Backend{}, session.Config{StoreKey: func(token string) string { return strings.Repeat("/", 400) + token }}},
		"small session": {&memory.Backend{}, session.Config{MaxSize: 200}},
		"small record":  {small, session.Config{}},
		"ages":          {&sessiontest.Store{}, session.Config{}},
	} {
		t.Run(name, func(t *testing.T) {
			tt.cfg.Owners = session.OwnersConfig{Index: true}
			m := newManager(t, tt.b, tt.cfg)
			n := 40
			var all []*session.Session
			for range n {
				all = append(all, login(t, m, session.Login{User: `a"n<n>` + "\u2028", Owners: []session.Owner{laptop}}))
			}
			for _, s := range all[:5] {
				check(t, errors.Join(s.Rotate(), s.Save(ctx)))
			}
			user := session.User(`a"n<n>` + "\u2028")
			if got := len(handles(t, m, user, laptop)); got != n {
				t.Errorf("%d are listed", got)
			}
			check(t, m.RevokeOthers(ctx, all[0].Handle(), laptop, user))
			for i, s := range all {
				if alive(t, m, s) != (i == 0) {
					t.Errorf("%d: alive is %v", i, i != 0)
				}
			}
		})
	}
}

// TestListingIsTooLarge: a session that is too large with its listing stays as it
// was, and its user is not logged in.
func TestListingIsTooLarge(t *testing.T) {
	var b memory.Backend
	m := newManager(t, &b, session.Config{MaxSize: 100, Owners: session.OwnersConfig{Index: true}})
	token := begin(t, m, map[string]any{"note": strings.Repeat("x", 30)})
	s := open(t, m, token)
	check(t, s.Login("ann"))
	wantErr(t, s.Save(ctx), session.ErrTooLarge)
	s.Discard()
	check(t, s.Close(ctx))
	wantValue(t, m, token, "note", strings.Repeat("x", 30))
	if n := len(handles(t, m, session.User("ann"))); n != 0 {
		t.Errorf("%d are listed", n)
	}
}

// TestDiscardedLogin lists nothing.
func TestDiscardedLogin(t *testing.T) {
	var b store
	m := indexed(t, &b, session.OwnersConfig{})
	s := open(t, m, begin(t, m, map[string]any{"note": "x"}))
	check(t, s.Login("ann"))
	s.Discard()
	if s.Handle() != "" {
		t.Error("it has a handle")
	}
	b.took()
	check(t, s.Save(ctx))
	b.wantCalls(t)
	check(t, errors.Join(s.Login("ann"), s.Clear(), s.Save(ctx)))
	if got := handles(t, m, session.User("ann")); len(got) != 1 || got[0] != s.Handle() {
		t.Errorf("%v are listed", got)
	}
	// Clear leaves the session listed.
	handle := s.Handle()
	check(t, errors.Join(note.Set(s, "y"), s.Save(ctx), s.Clear(), s.Save(ctx), s.Rotate(), s.Save(ctx)))
	if got := handles(t, m, session.User("ann")); s.Handle() != handle || len(got) != 1 || got[0] != handle {
		t.Errorf("%v are listed", got)
	}
}

// TestCostOfTheIndex counts the requests.
func TestCostOfTheIndex(t *testing.T) {
	var b store
	m := indexed(t, &b, session.OwnersConfig{MaxSessions: 1000})
	s := m.Start()
	check(t, s.Login("ann"))
	check(t, s.Save(ctx))
	b.wantCalls(t, "Save", "Load", "Save")
	check(t, note.Set(s, "x"))
	check(t, s.Save(ctx))
	b.wantCalls(t, "Save")
	check(t, errors.Join(s.Rotate(), s.Save(ctx)))
	b.wantCalls(t, "Save", "Load", "Save", "Save")
	check(t, errors.Join(s.LoginWith(session.Login{User: "ann", Owners: []session.Owner{laptop}}), s.Save(ctx)))
	b.wantCalls(t, "Save", "Load", "Save", "Load", "Save", "Save")
	check(t, open(t, m, s.Token().Reveal()).Destroy(ctx))
	b.wantCalls(t, "Load", "End")
	check(t, m.Revoke(ctx, session.User("nobody")))
	b.wantCalls(t, "Load")
	for range 5 {
		login(t, m, session.Login{User: "bob"})
	}
	b.took()
	check(t, m.Revoke(ctx, session.User("bob")))
	if calls := b.took(); count(calls, "Load") != 1 || count(calls, "Save") != 2 || count(calls, "Delete") != 5 || len(calls) != 8 {
		t.Errorf("to revoke 5: %v", calls)
	}
	check(t, m.Revoke(ctx, session.User("bob")))
	b.wantCalls(t, "Load", "Save")
	for i := range 128 {
		b.took()
		login(t, m, session.Login{User: "eve"})
		loads, saves, deletes := 1, 2, 0
		switch {
		case i == 127:
			loads, saves, deletes = 9, 6, 8
		case i%16 == 15:
			saves = 4
		}
		if calls := b.took(); count(calls, "Load") != loads || count(calls, "Save") != saves || count(calls, "Delete") != deletes {
			t.Errorf("login %d: %v", i+1, calls)
		}
	}
}

// TestRevocationsAreObserved: an Observer is told of each.
func TestRevocationsAreObserved(t *testing.T) {
	var e events
	m := newManager(t, &memory.Backend{}, session.Config{Observer: &e, Owners: session.OwnersConfig{Index: true}})
	login(t, m, session.Login{User: "ann"})
	check(t, m.Revoke(ctx, session.User("ann")))
	if !e.saw(observe.EventSessionsRevoked) {
		t.Error("there was no event")
	}
}
