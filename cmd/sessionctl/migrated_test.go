package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/memory"
	"github.com/seed-a7bee19b/session/codec"
	"github.com/seed-a7bee19b/session/migrate"
)

// noteOfMove is what package migrate leaves in the old store.
func noteOfMove(t *testing.T) []byte {
	t.Helper()
	old := &memory.Backend{}
	b, err := migrate.New(&memory.Backend{}, migrate.From(old, migrate.FromConfig{}), migrate.Config{})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	if _, err := old.Save(t.Context(), "k", session.Record{Created: now, Expires: now.Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Load(t.Context(), "k"); err != nil {
		t.Fatal(err)
	}
	rec, err := old.Load(t.Context(), "k")
	if err != nil {
		t.Fatal(err)
	}
	return rec.Data
}

// What package migrate writes beside the sessions is a kind of its own.
func TestMigratedRecords(t *testing.T) {
	ann := encoded(t, codec.MessagePack{}, map[string]any{userValue: "ann"})
	table := func() *fakeTable {
		f := newFakeTable(t)
		f.put("ann", ann, time.Hour, time.Hour, 0)
		f.put("note", noteOfMove(t), time.Hour, time.Hour, 0)
		f.put("tomb", []byte(migrateMark+"tomb\n"), time.Hour, time.Hour, 0)
		f.put("copy", append([]byte(migrateMark+"copy dg\n"), ann...), time.Hour, time.Hour, 0)
		f.put("sealed", []byte("\xc1sealed"), time.Hour, time.Hour, 0)
		return f
	}
	f := table()
	for args, want := range map[string]string{
		"list --migrated":               "copy note tomb",
		"list --live":                   "ann sealed",
		"list --migrated --sort key":    "copy note tomb",
		"list --migrated --live -n 100": "ann copy note sealed tomb",
	} {
		got := f.ctl(t.Context(), "", append(strings.Fields(args), "--json")...)
		var keys []string
		for d := json.NewDecoder(strings.NewReader(got.stdout)); d.More(); {
			var l listed
			if err := d.Decode(&l); err != nil {
				t.Fatal(err)
			}
			keys = append(keys, l.Key)
		}
		if got.code != codeDone || strings.Join(keys, " ") != want {
			t.Errorf("%s: got %v, want %s: %+v", args, keys, want, got)
		}
	}
	if got := f.ctl(t.Context(), "", "stats", "--json"); got.code != codeDone || !strings.Contains(got.stdout, `"migrated": 3`) || !strings.Contains(got.stdout, `"live": 2`) {
		t.Errorf("got %+v", got)
	}
	if got := f.ctl(t.Context(), "", "stats"); !strings.Contains(got.stdout, "of a move of the sessions to another store") {
		t.Errorf("got %+v", got)
	}
	if got := f.ctl(t.Context(), "", "show", "note"); got.code != codeDone || !strings.Contains(got.stdout, "a record of a move to another store") {
		t.Errorf("got %+v", got)
	}
	// A copy may be a session of the user.
	if got := f.ctl(t.Context(), "", "list", "--user=ann", "--scan"); got.code != codeFailed || !strings.Contains(got.stderr, "2 sessions do not decode") {
		t.Errorf("got %+v", got)
	}

	// The copy is a session on its way, so it ends too. A tombstone must stay.
	for _, tt := range []struct {
		args string
		code int
		want everyoneReport
		left string
	}{
		{"--dry-run", codeFailed, everyoneReport{DryRun: true, Scanned: 5, Revoked: 2, Migrated: 2, Undecodable: 1}, "ann copy note sealed tomb"},
		{"--yes", codeFailed, everyoneReport{Scanned: 5, Revoked: 2, Migrated: 2, Undecodable: 1}, "note sealed tomb"},
		{"--yes --undecodable", codeDone, everyoneReport{Complete: true, Scanned: 5, Revoked: 3, Migrated: 2}, "note tomb"},
	} {
		f := table()
		got := f.ctl(t.Context(), "", append(strings.Fields("revoke --everyone --json"), strings.Fields(tt.args)...)...)
		var r everyoneReport
		if err := json.Unmarshal([]byte(got.stdout), &r); err != nil {
			t.Fatalf("got %v, %+v", err, got)
		}
		r.ReadUnits, r.WriteUnits, r.Seconds, r.Store = 0, 0, 0, ""
		if left := strings.TrimSpace(f.keys()); got.code != tt.code || r != tt.want || left != tt.left {
			t.Errorf("%s: got %+v, left %s\nwant %+v, left %s\n%+v", tt.args, r, left, tt.want, tt.left, got)
		}
	}
}
