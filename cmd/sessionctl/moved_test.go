package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/memory"
	"github.com/seed-a7bee19b/session/codec"
)

func TestMovedTo(t *testing.T) {
	for _, c := range []session.Codec{codec.MessagePack{}, codec.JSON{}} {
		tests := []struct {
			values map[string]any
			key    string
			moved  bool
		}{
			{map[string]any{movedValue: "new"}, "new", true},
			{map[string]any{movedValue: "new", "_session.version": "x", "cart": 1}, "new", true},
			{map[string]any{movedValue: 12}, "", true},
			{map[string]any{movedValue: ""}, "", true},
			{map[string]any{"note": movedValue}, "", false},
			{map[string]any{"note": map[string]any{movedValue: "new"}}, "", false},
			{map[string]any{"n": 1}, "", false},
			{nil, "", false},
		}
		for _, tt := range tests {
			key, moved, err := movedTo(encoded(t, c, tt.values))
			if key != tt.key || moved != tt.moved || (err != nil) != (moved && key == "") {
				t.Errorf("%T, %v: got %q, %v, %v", c, tt.values, key, moved, err)
			}
		}
	}
	if key, moved, err := movedTo([]byte("sealed " + movedValue)); key != "" || !moved || !errors.Is(err, errWhereMoved) {
		t.Errorf("got %q, %v, %v", key, moved, err)
	}
}

// TestMovedIsNoSession has markers counted apart, whichever codec wrote them.
func TestMovedIsNoSession(t *testing.T) {
	for _, c := range []session.Codec{codec.MessagePack{}, codec.JSON{}} {
		f := newFakeTable(t)
		f.put("new", encoded(t, c, map[string]any{userValue: "ann"}), time.Hour, time.Hour, 0)
		f.put("old", encoded(t, c, map[string]any{movedValue: "new", "cart": "tea"}), time.Hour, time.Hour, 0)
		f.put("older", encoded(t, c, map[string]any{movedValue: "old"}), time.Hour, time.Hour, 0)
		f.put("note", encoded(t, c, map[string]any{"note": movedValue}), time.Hour, time.Hour, 0)
		var r statsReport
		if err := json.Unmarshal([]byte(f.ctl(t.Context(), "", "stats", "--json").stdout), &r); err != nil || r.Live != 2 || r.Moved != 2 {
			t.Errorf("got %+v, %v", r, err)
		}
		if got := f.ctl(t.Context(), "", "stats"); !strings.Contains(got.stdout, "Moved") {
			t.Errorf("got %s", got.stdout)
		}
		if got := f.ctl(t.Context(), "", "list", "--live"); strings.Contains(got.stdout, "old") || strings.Count(got.stdout, "\n") != 3 {
			t.Errorf("got %s", got.stdout)
		}
		if got := f.ctl(t.Context(), "", "doctor", "--reads=0"); !strings.Contains(got.stdout, "Of 4 records, 0 have expired, and 2 are left under the old IDs") {
			t.Errorf("got %s", got.stdout)
		}
		name := "msgpack"
		if c == (codec.JSON{}) {
			name = "json"
		}
		got := f.ctl(t.Context(), "", "revoke", "--user=ann", "--codec="+name)
		if got.code != codeDone || got.stdout != "revoked new\n" {
			t.Errorf("got %+v", got)
		}
	}
}

// memCtl runs revoke on a store in memory.
func memCtl(t *testing.T, s store, keys ...string) (revokeReport, error) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	a := &app{stdin: strings.NewReader(""), stdout: &output{w: &stdout}, stderr: &output{w: &stderr}, globals: globals{json: true, codec: "msgpack"}}
	err := a.revoke(t.Context(), s, keys, &revokeFlags{yes: true})
	var r revokeReport
	if err := json.Unmarshal(stdout.Bytes(), &r); err != nil {
		t.Fatal(err)
	}
	return r, err
}

// racingStore lets others do something before each Save.
type racingStore struct {
	*memStore
	before func()
	err    error
}

func (s *racingStore) Save(ctx context.Context, key string, rec session.Record) (session.Version, error) {
	if before := s.before; before != nil {
		s.before = nil
		before()
	}
	if s.err != nil {
		return "", s.err
	}
	return s.memStore.Save(ctx, key, rec)
}

// TestRevokeBesideLogin has the session get a new ID when it was looked at and
// not ended yet: it must not live on under that.
func TestRevokeBesideLogin(t *testing.T) {
	s := &racingStore{memStore: &memStore{Backend: &memory.Backend{}}}
	keys := map[string]string{}
	m, err := session.New(s, session.Config{StoreKey: func(token string) string { keys[token] = session.DefaultStoreKey(token); return keys[token] }})
	if err != nil {
		t.Fatal(err)
	}
	old := m.Start()
	if err := errors.Join(old.Set("n", 1), old.Save(t.Context())); err != nil {
		t.Fatal(err)
	}
	key := keys[old.Token().Reveal()]
	var token string
	s.before = func() {
		for range 2 {
			if err := errors.Join(old.Login("ann"), old.Save(t.Context())); err != nil {
				t.Fatal(err)
			}
		}
		token = old.Token().Reveal()
	}
	r, err := memCtl(t, s, key)
	if err != nil || r.Revoked != 1 || r.Sessions[0].MovedTo != keys[token] {
		t.Errorf("got %+v, %v", r, err)
	}
	if _, err := m.Open(t.Context(), token); !errors.Is(err, session.ErrNotFound) {
		t.Errorf("it lives on: %v", err)
	}
	if r, err := memCtl(t, s, key); err != nil || !r.Sessions[0].Absent {
		t.Errorf("again: got %+v, %v", r, err)
	}
}

// TestRevokeLocked does not wait for ever for the holder of a lock.
func TestRevokeLocked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &memStore{Backend: &memory.Backend{}}
		ctx := t.Context()
		now := time.Now()
		if _, err := s.Save(ctx, "k", session.Record{Data: encoded(t, codec.MessagePack{}, nil), Created: now, Expires: now.Add(time.Hour)}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Acquire(ctx, "k", time.Hour); err != nil {
			t.Fatal(err)
		}
		r, err := memCtl(t, s, "k")
		if _, lerr := s.Load(ctx, "k"); err != nil || r.Revoked != 1 || !errors.Is(lerr, session.ErrNotFound) {
			t.Errorf("got %+v, %v, %v", r, err, lerr)
		}
		if waited := time.Since(now); waited < lockWait || waited > 2*lockWait {
			t.Errorf("it waited %v", waited)
		}
	})
}

// TestRevokeInCircles ends with an error what has no end.
func TestRevokeInCircles(t *testing.T) {
	f := newFakeTable(t)
	c := codec.MessagePack{}
	f.put("a", encoded(t, c, map[string]any{movedValue: "b"}), time.Hour, time.Hour, 0)
	f.put("b", encoded(t, c, map[string]any{movedValue: "a"}), time.Hour, time.Hour, 0)
	f.put("sealed", []byte("xx"+movedValue), time.Hour, time.Hour, 0)
	if got := f.ctl(t.Context(), "", "revoke", "a"); got.code != codeFailed || !strings.Contains(got.stderr, "more than 32 times") {
		t.Errorf("got %+v", got)
	}
	if got := f.ctl(t.Context(), "", "revoke", "sealed"); got.code != codeFailed || !strings.Contains(got.stderr, "not revoked: sealed: The session has a new ID") {
		t.Errorf("got %+v", got)
	}
	if got := f.ctl(t.Context(), "", "revoke", "--user", "ann"); got.code != codeFailed || !strings.Contains(got.stderr, "more than 32 times") {
		t.Errorf("got %+v", got)
	}
}

// TestRevokeSaysWhatItMissed has records that may be the user's.
func TestRevokeSaysWhatItMissed(t *testing.T) {
	number := func(n string) object { return object{"N": n} }
	c := codec.MessagePack{}
	tests := []struct {
		name string
		put  func(f *fakeTable)
		want search
		says string
	}{
		{"nothing", func(*fakeTable) {}, search{Complete: true, Scanned: 8, Searched: 5, Expired: 3}, ""},
		{"another codec", func(f *fakeTable) {
			f.put("json", encoded(t, codec.JSON{}, map[string]any{userValue: "eve"}), time.Hour, time.Hour, 0)
		}, search{Scanned: 9, Searched: 5, Expired: 3, Undecodable: 1}, "1 sessions do not decode with codec msgpack"},
		{"sealed", func(f *fakeTable) { f.put("sealed", []byte("\x01\x02\x03"), time.Hour, time.Hour, 0) },
			search{Scanned: 9, Searched: 5, Expired: 3, Undecodable: 1}, "1 sessions do not decode"},
		{"sealed user", func(f *fakeTable) {
			f.put("sealed", encoded(t, c, map[string]any{userValue: []int{1}}), time.Hour, time.Hour, 0)
		}, search{Scanned: 9, Searched: 5, Expired: 3, Undecodable: 1}, "1 sessions do not decode"},
		{"foreign", func(f *fakeTable) {
			f.rows["x"] = object{"id": object{"S": "x"}, "data": object{"S": "user|s:3:\"eve\""}}
			f.rows["y"] = object{"id": object{"S": "y"}, "expires": number("99999999999")}
		}, search{Scanned: 10, Searched: 5, Expired: 3, Foreign: 2}, "package session did not write 2 records"},
		{"moved who knows where", func(f *fakeTable) { f.put("m", []byte(movedValue), time.Hour, time.Hour, 0) },
			search{Scanned: 9, Searched: 5, Expired: 3, Undecodable: 1}, "1 sessions do not decode"},
		{"both", func(f *fakeTable) {
			f.put("junk", []byte("\xc1"), time.Hour, time.Hour, 0)
			f.rows["x"] = object{"id": object{"S": "x"}}
		}, search{Scanned: 10, Searched: 5, Expired: 3, Undecodable: 1, Foreign: 1}, "do not decode with codec msgpack, and package session did not write 1 records"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, user := range []string{"eve", "ann"} {
				f := shopTable(t)
				tt.put(f)
				got := f.ctl(t.Context(), "", "revoke", "--yes", "--json", "--user", user)
				var r revokeReport
				if err := json.Unmarshal([]byte(got.stdout), &r); err != nil || r.Search == nil || *r.Search != tt.want {
					t.Errorf("%s: got %v, %+v", user, err, r.Search)
				}
				code := codeFailed
				if tt.want.Complete {
					code = codeDone
				}
				if got.code != code || !strings.Contains(got.stderr, tt.says) || user == "ann" && r.Revoked != 2 {
					t.Errorf("%s: got %+v", user, got)
				}
			}
		})
	}
}
