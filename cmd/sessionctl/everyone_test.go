package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/admin"
	"github.com/seed-a7bee19b/session/backend/memory"
	"github.com/seed-a7bee19b/session/codec"
	"github.com/seed-a7bee19b/session/observe"
)

// crowd is a table with records of each sort: 24 sessions and a marker, the index,
// one that has expired, one of others and two that do not decode.
func crowd(t *testing.T) (*indexedShop, *fakeTable) {
	t.Helper()
	shop := newIndexedShop(t, codec.MessagePack{})
	shop.begin(t)
	f := shop.table(t)
	f.put("old", encoded(t, codec.MessagePack{}, map[string]any{userValue: "ann"}), 30*time.Hour, -5*time.Hour, 0)
	f.put("locked", encoded(t, codec.JSON{}, map[string]any{userValue: "ann"}), time.Hour, time.Hour, time.Minute)
	f.put("sealed", []byte("\xc1sealed"), time.Hour, time.Hour, 0)
	f.put("sealed-too", []byte("\xc1"+movedValue), time.Hour, time.Hour, 0)
	f.rows["PHPSESSID_x"] = object{"id": object{"S": "PHPSESSID_x"}, "data": object{"S": "user|s:3"}}
	return shop, f
}

func TestRevokeEveryone(t *testing.T) {
	all := func(r everyoneReport) everyoneReport {
		r.Scanned, r.Expired, r.Index, r.Foreign = 35, 1, 5, 1
		return r
	}
	tests := []struct {
		args string
		code int
		want everyoneReport
		left int
		says string
	}{
		{"--dry-run", codeFailed, all(everyoneReport{DryRun: true, Revoked: 25, Markers: 1, Undecodable: 2}), 35, "2 sessions do not decode, and were left alone."},
		{"--dry-run --undecodable", codeDone, all(everyoneReport{DryRun: true, Complete: true, Revoked: 26, Markers: 2}), 35, "Looking at sessions in table"},
		{"--yes", codeFailed, all(everyoneReport{Revoked: 25, Markers: 1, Undecodable: 2}), 9, "If PHP uses the table, pass --php. If the application encrypts its sessions, add --undecodable."},
		{"-y --undecodable", codeDone, all(everyoneReport{Complete: true, Revoked: 26, Markers: 2}), 7, "Ending sessions in table"},
	}
	for _, tt := range tests {
		t.Run(tt.args, func(t *testing.T) {
			shop, f := crowd(t)
			got := f.ctl(t.Context(), "", append(strings.Fields("revoke --everyone --json"), strings.Fields(tt.args)...)...)
			var r everyoneReport
			if err := json.Unmarshal([]byte(got.stdout), &r); err != nil {
				t.Fatalf("got %v, %+v", err, got)
			}
			if r.ReadUnits == 0 || r.Seconds == 0 || r.Store == "" {
				t.Errorf("got %+v", r)
			}
			// A session that ends by way of its marker is absent when the scan comes by.
			if absent := r.Absent; absent > 1 || r.DryRun && absent > 0 {
				t.Errorf("%d are absent", absent)
			}
			r.ReadUnits, r.WriteUnits, r.Seconds, r.Store, r.Absent = 0, 0, 0, "", 0
			if got.code != tt.code || r != tt.want || !strings.Contains(got.stderr, tt.says) {
				t.Errorf("got %+v\nwant %+v\n%+v", r, tt.want, got)
			}
			if f.count() != tt.left {
				t.Errorf("left %s", f.keys())
			}
			if tt.want.DryRun {
				return
			}
			for name := range shop.keys {
				if shop.has(f, name) {
					t.Errorf("%s is there", name)
				}
			}
			for _, key := range []string{"old", "PHPSESSID_x", shop.ownerKey(t, session.User("ann")), shop.ownerKey(t, session.User("bob"))} {
				if !strings.Contains(f.keys(), key) {
					t.Errorf("%s is not there", key)
				}
			}
			again := f.ctl(t.Context(), "", append(strings.Fields("revoke --everyone --json"), strings.Fields(tt.args)...)...)
			if again.code != tt.code || f.count() != tt.left || !strings.Contains(again.stdout, `"revoked": 0,`) {
				t.Errorf("again: got %+v", again)
			}
		})
	}
}

func TestRevokeEveryoneText(t *testing.T) {
	_, f := crowd(t)
	got := f.ctl(t.Context(), "", "revoke", "--everyone", "--yes", "--undecodable")
	for _, want := range []string{"scanned", "35", "revoked", " 26  sessions ended", "index", "left to expire", "foreign", "read units"} {
		if !strings.Contains(got.stdout, want) {
			t.Errorf("there is no %q in\n%s", want, got.stdout)
		}
	}
	if !strings.Contains(got.stderr, "Sessions that began meanwhile are not covered. NotBefore in the Config of the application ends everybody's session at once, at no request.") {
		t.Errorf("got %s", got.stderr)
	}
}

// TestRevokeEveryoneStops goes on with the rest if it is run again.
func TestRevokeEveryoneStops(t *testing.T) {
	t.Run("refused", func(t *testing.T) {
		shop, f := crowd(t)
		f.deny(shop.keys["bob-7"], true)
		got := f.ctl(t.Context(), "", "revoke", "--everyone", "--yes", "--undecodable", "--json")
		var r everyoneReport
		if err := json.Unmarshal([]byte(got.stdout), &r); err != nil || r.Complete || got.code != codeFailed ||
			!strings.Contains(got.stderr, "do not allow dynamodb:DeleteItem") || !strings.Contains(got.stderr, "What was ended stays so. The same command ends the rest.") {
			t.Errorf("got %v, %+v", err, got)
		}
		f.deny(shop.keys["bob-7"], false)
		if got := f.ctl(t.Context(), "", "revoke", "--everyone", "--yes", "--undecodable"); got.code != codeDone || f.count() != 7 {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("interrupted", func(t *testing.T) {
		_, f := crowd(t)
		ctx, cancel := context.WithCancel(t.Context())
		deletes := 0
		f.fakeDynamoDB.mu.Lock()
		f.does["DeleteItem"] = func(body map[string]any) (int, any) {
			f.fakeDynamoDB.mu.Lock()
			if deletes++; deletes == 5 {
				cancel()
			}
			f.fakeDynamoDB.mu.Unlock()
			return f.remove(body)
		}
		f.fakeDynamoDB.mu.Unlock()
		got := f.ctl(ctx, "", "revoke", "--everyone", "--yes", "--undecodable")
		if got.code != codeStopped || !strings.Contains(got.stderr, "Stopped before the end.\nWhat was ended stays so. The same command ends the rest.") || f.count() == 7 {
			t.Errorf("got %+v", got)
		}
		if got := f.ctl(t.Context(), "", "revoke", "--everyone", "--yes", "--undecodable"); got.code != codeDone || f.count() != 7 {
			t.Errorf("got %+v", got)
		}
	})
}

// passingStore lists the keys that were there at the beginning, as a scan does that
// has passed the keys that begin meanwhile, and lets others do something first.
type passingStore struct {
	*memStore
	before func(key string) // each visit
}

func (s *passingStore) List(ctx context.Context, opts admin.ListOptions, visit func(admin.Entry) error) (admin.Report, error) {
	var entries []admin.Entry
	opts.ReadUnits = 0
	report, err := s.memStore.List(ctx, opts, func(e admin.Entry) error {
		entries = append(entries, e)
		return nil
	})
	for _, e := range entries {
		s.before(e.Key)
		if err := visit(e); err != nil {
			return report, err
		}
	}
	return report, err
}

func memEveryone(t *testing.T, s store, f *revokeFlags) (everyoneReport, error) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	a := &app{stdin: strings.NewReader(""), stdout: &output{w: &stdout}, stderr: &output{w: &stderr}, globals: globals{json: true}}
	f.yes = true
	err := a.revokeEveryone(t.Context(), s, f, &spending{begun: time.Now(), perRead: f.readUnits, perWrite: f.writeUnits})
	var r everyoneReport
	if jerr := json.Unmarshal(stdout.Bytes(), &r); jerr != nil {
		t.Fatal(errors.Join(jerr, err))
	}
	return r, err
}

// TestRevokeEveryoneBesideRotation has every session get a new ID, under a key that
// the scan does not see, right before the scan comes to the old one.
func TestRevokeEveryoneBesideRotation(t *testing.T) {
	shop := newIndexedShop(t, codec.MessagePack{})
	const n = 30
	for range n {
		shop.login(t, shop.m, session.Login{User: "ann"})
	}
	s := &passingStore{memStore: &memStore{Backend: shop.Backend}}
	s.before = func(key string) {
		for name, k := range shop.keys {
			if k == key {
				moved, err := shop.m.Open(t.Context(), shop.tokens[name])
				if err := errors.Join(err, moved.Rotate(), moved.Save(t.Context())); err != nil {
					t.Fatal(err)
				}
				shop.tokens[name] = moved.Token().Reveal()
			}
		}
	}
	r, err := memEveryone(t, s, &revokeFlags{})
	if err != nil || r.Revoked != n || r.Markers != n || !r.Complete {
		t.Errorf("got %+v, %v", r, err)
	}
	for name, token := range shop.tokens {
		if _, err := shop.m.Open(t.Context(), token); !errors.Is(err, session.ErrNotFound) {
			t.Errorf("%s lives on: %v", name, err)
		}
	}
}

// TestRevokeEveryoneBesideLogin has users log in meanwhile: their sessions may live
// or not, but those that live are listed.
func TestRevokeEveryoneBesideLogin(t *testing.T) {
	shop := newIndexedShop(t, codec.MessagePack{})
	shop.begin(t)
	s := &passingStore{memStore: &memStore{Backend: shop.Backend}}
	s.before = func(string) { shop.login(t, shop.m, session.Login{User: "ann"}) }
	if _, err := memEveryone(t, s, &revokeFlags{}); err != nil {
		t.Fatal(err)
	}
	var listed []string
	for e, err := range shop.m.Sessions(t.Context(), session.User("ann")) {
		if err != nil {
			t.Fatal(err)
		}
		listed = append(listed, e.Handle)
	}
	alive := 0
	for name, token := range shop.tokens {
		switch found, err := shop.m.Open(t.Context(), token); {
		case errors.Is(err, session.ErrNotFound):
		case err != nil:
			t.Fatal(err)
		default:
			alive++
			if !slices.Contains(listed, found.Handle()) {
				t.Errorf("%s lives, and is not listed", name)
			}
		}
	}
	if alive == 0 || len(listed) != alive {
		t.Errorf("%d are alive, and %d listed", alive, len(listed))
	}
}

// TestRevokeEveryoneLocked does not wait for ever for the holder of a lock, nor for
// markers that lead to each other.
func TestRevokeEveryoneLocked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &passingStore{memStore: &memStore{Backend: &memory.Backend{}}, before: func(string) {}}
		now := time.Now()
		for key, values := range map[string]map[string]any{
			"locked": {"n": 1}, "a": {movedValue: "b"}, "b": {movedValue: "a"}, "lost": {movedValue: "none"},
		} {
			if _, err := s.Save(t.Context(), key, session.Record{Data: encoded(t, codec.MessagePack{}, values), Created: now, Expires: now.Add(time.Hour)}); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := s.Acquire(t.Context(), "locked", time.Hour); err != nil {
			t.Fatal(err)
		}
		r, err := memEveryone(t, s, &revokeFlags{})
		if err != nil || r.Revoked != 1 || !r.Complete {
			t.Errorf("got %+v, %v", r, err)
		}
		for _, key := range []string{"locked", "a", "b", "lost"} {
			if _, err := s.Load(t.Context(), key); !errors.Is(err, session.ErrNotFound) {
				t.Errorf("%s: got %v", key, err)
			}
		}
		if waited := time.Since(now); waited < lockWait || waited > 2*lockWait {
			t.Errorf("it waited %v", waited)
		}
	})
}

// TestSpending keeps to a number of units a second.
func TestSpending(t *testing.T) {
	for _, tt := range []struct {
		perRead, perWrite float64
		want              time.Duration // of 1000 records of 1 read and 2 write units
	}{{0, 0, 0}, {100, 0, 10 * time.Second}, {0, 50, 40 * time.Second}, {10, 1000, 100 * time.Second}} {
		t.Run(fmt.Sprint(tt), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &passingStore{memStore: &memStore{Backend: &memory.Backend{}}}
				now := time.Now()
				for i := range 1000 {
					if _, err := s.Save(t.Context(), fmt.Sprint(i), session.Record{Data: encoded(t, codec.MessagePack{}, nil), Created: now, Expires: now.Add(time.Hour)}); err != nil {
						t.Fatal(err)
					}
				}
				sp := &spending{begun: now, perRead: tt.perRead, perWrite: tt.perWrite}
				s.before = func(string) { sp.add(t.Context(), observe.Request{ReadUnits: 1, WriteUnits: 2}) }
				var stdout, stderr bytes.Buffer
				a := &app{stdin: strings.NewReader(""), stdout: &output{w: &stdout}, stderr: &output{w: &stderr}}
				if err := a.revokeEveryone(t.Context(), s, &revokeFlags{yes: true}, sp); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(now); took < tt.want-time.Second || took > tt.want+2*time.Second {
					t.Errorf("it took %v, want %v", took, tt.want)
				}
				if s.deleted.Load() != 1000 {
					t.Errorf("%d were deleted", s.deleted.Load())
				}
				ctx, cancel := context.WithCancel(t.Context())
				cancel()
				sp.read *= 2
				if err := sp.wait(ctx); (err != nil) != (tt.perRead > 0) {
					t.Errorf("got %v", err)
				}
			})
		})
	}
}
