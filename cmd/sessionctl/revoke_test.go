package main

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session/codec"
)

func (f *fakeTable) keys() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return strings.Join(slices.Sorted(maps.Keys(f.rows)), " ")
}

func TestRevoke(t *testing.T) {
	const all = "PHPSESSID_x ann-1 ann-2 bob-1 guest moved old-ann older"
	tests := []struct {
		args, stdin string
		code        int
		left        string
		stderr      string
	}{
		{"ann-1", "", codeDone, strings.Replace(all, "ann-1 ", "", 1), ""},
		{"nobody", "", codeDone, all, "1 session was not there."},
		{"--token-stdin", "kGx4w9sXl8bKzQZ1aJ0m3Yt6uRfEoNvC", codeDone, all, "1 session was not there."},
		{"- --yes", "nobody\n", codeDone, all, "1 session was not there."},
		{"moved", "", codeDone, strings.Replace(strings.Replace(all, "ann-1 ", "", 1), "moved ", "", 1), ""},
		{"moved --dry-run", "", codeDone, all, ""},
		{"ann-1 ann-1", "", codeDone, strings.Replace(all, "ann-1 ", "", 1), ""},
		{"ann-1 ann-2", "", codeUsage, all, "add --yes"},
		{"ann-1 ann-2 --yes", "", codeDone, strings.Replace(all, "ann-1 ann-2 ", "", 1), ""},
		{"ann-1 ann-2 --dry-run", "", codeDone, all, ""},
		{"- -y", "ann-1\r\n\nbob-1\n", codeDone, strings.Replace(strings.Replace(all, "ann-1 ", "", 1), "bob-1 ", "", 1), ""},
		{"--user ann", "", codeUsage, all, "Revoke 2 sessions in"},
		{"--user ann --yes", "", codeDone, strings.Replace(all, "ann-1 ann-2 ", "", 1), "2 sessions of the user among 8 records"},
		{"--user bob", "", codeDone, strings.Replace(all, "bob-1 ", "", 1), "1 sessions of the user"},
		{"--user eve", "", codeDone, all, "No live session is bound to a user \"eve\""},
		{"--user ann --dry-run", "", codeDone, all, ""},
	}
	for _, tt := range tests {
		t.Run(tt.args, func(t *testing.T) {
			f := shopTable(t)
			got := f.ctl(t.Context(), tt.stdin, strings.Fields("revoke "+tt.args)...)
			if got.code != tt.code || !strings.Contains(got.stderr, tt.stderr) {
				t.Errorf("got %+v", got)
			}
			if left := f.keys(); left != tt.left {
				t.Errorf("left %s", left)
			}
			if again := f.ctl(t.Context(), tt.stdin, strings.Fields("revoke "+tt.args)...); again.code != tt.code || f.keys() != tt.left {
				t.Errorf("again: got %+v", again)
			}
		})
	}
}

func TestRevokeFails(t *testing.T) {
	f := shopTable(t)
	f.refuse["ann-1"] = true
	got := f.ctl(t.Context(), "", "revoke", "ann-1", "ann-2", "--yes", "--json")
	var r revokeReport
	if err := json.Unmarshal([]byte(got.stdout), &r); err != nil {
		t.Fatal(err)
	}
	if got.code != codeFailed || r.Failed != 1 || r.Revoked != 1 || r.Sessions[0].Error == "" || !r.Sessions[1].Revoked {
		t.Errorf("got %+v", got)
	}
	if !strings.Contains(got.stderr, "1 of 2 sessions were not revoked") {
		t.Errorf("got %s", got.stderr)
	}
	got = f.ctl(t.Context(), "", "revoke", "ann-1")
	if got.code != codeFailed || !strings.Contains(got.stderr, "not revoked: ann-1") || got.stdout != "" {
		t.Errorf("got %+v", got)
	}
}

// TestRevokeUndecodable does what it can for a user, and says that it is not
// all.
func TestRevokeUndecodable(t *testing.T) {
	f := shopTable(t)
	f.put("junk", []byte("\xc1"), time.Hour, time.Hour, 0)
	got := f.ctl(t.Context(), "", "revoke", "--user", "bob")
	if got.code != codeFailed || !strings.Contains(got.stderr, "1 sessions do not decode") || got.stdout != "revoked bob-1\n" {
		t.Errorf("got %+v", got)
	}
}

// TestRevokeAbsent does not say that it has ended what was not there.
func TestRevokeAbsent(t *testing.T) {
	f := shopTable(t)
	for _, args := range []string{"revoke nobody", "revoke nobody --dry-run"} {
		if got := f.ctl(t.Context(), "", strings.Fields(args)...); got.code != codeDone || got.stdout != "no session nobody\n" {
			t.Errorf("%s: got %+v", args, got)
		}
	}
	got := f.ctl(t.Context(), "", "revoke", "nobody", "ann-1", "--yes", "--json")
	var r revokeReport
	if err := json.Unmarshal([]byte(got.stdout), &r); err != nil {
		t.Fatal(err)
	}
	if len(r.Sessions) != 2 || !r.Sessions[0].Absent || r.Sessions[1].Absent {
		t.Errorf("got %+v", r)
	}
}

// TestRevokeClock ends sessions that only this machine, whose clock is fast,
// takes for expired.
func TestRevokeClock(t *testing.T) {
	f := shopTable(t)
	f.put("eve-1", encoded(t, codec.MessagePack{}, map[string]any{userValue: "eve"}), time.Hour, -10*time.Minute, 0)
	if got := f.ctl(t.Context(), "", "revoke", "--user", "eve"); got.code != codeDone || got.stdout != "revoked eve-1\n" {
		t.Errorf("got %+v", got)
	}
}
