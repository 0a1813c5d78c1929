package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/codec"
)

// names turns keys into the names that the shop has for them.
func (shop *indexedShop) names(keys []string) string {
	var names []string
	for _, key := range keys {
		name := "?" + key
		for n, k := range shop.keys {
			if k == key {
				name = n
			}
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

func bobs(n int) string {
	var names []string
	for i := range n {
		names = append(names, fmt.Sprint("bob-", i+1))
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

// TestOwners lists and revokes the sessions of owners. The requests are those that
// it may send at most.
func TestOwners(t *testing.T) {
	tests := []struct {
		args   string
		want   string // sessions
		list   map[string]int
		revoke map[string]int // besides those of list
		search search
		note   string
	}{
		{
			"--user ann", "ann-2 ann-3",
			map[string]int{"GetItem": 3}, map[string]int{"GetItem": 2, "UpdateItem": 2, "DeleteItem": 3},
			search{Indexed: true, Listed: 2, NotSearched: notSearched}, "2 sessions of the user in the index of owners. Not searched: sessions whose user logged in before Owners.Index was set",
		},
		{
			"--user bob", bobs(20),
			map[string]int{"GetItem": 22}, map[string]int{"GetItem": 4, "UpdateItem": 3, "DeleteItem": 22},
			search{Indexed: true, Listed: 20, NotSearched: notSearched}, "20 sessions of the user in the index",
		},
		{
			"--user ann --owner tenant=acme", "ann-2",
			map[string]int{"GetItem": 2}, map[string]int{"GetItem": 2, "UpdateItem": 2, "DeleteItem": 1},
			search{Indexed: true, Listed: 1, NotSearched: notSearched}, "1 session of the owner in the index",
		},
		{
			"--owner tenant=acme --owner user=ann", "ann-2",
			map[string]int{"GetItem": 25}, nil,
			search{Indexed: true, Listed: 1, NotSearched: notSearched}, "1 session of the owner in the index",
		},
		{
			"--owner tenant=acme", "ann-2 " + bobs(20),
			map[string]int{"GetItem": 25}, nil,
			search{Indexed: true, Listed: 21, NotSearched: notSearched}, "21 sessions of the owner in the index",
		},
		{
			"--user ann --scan", "ann-1 ann-2 ann-3",
			nil, nil,
			search{Complete: true, Indexed: true, Listed: 2, Scanned: 30, Searched: 25, Index: 5}, "3 sessions of the user among 30 records",
		},
		{
			"--user eve", "",
			nil, nil,
			search{Complete: true, Scanned: 30, Searched: 25, Index: 5}, "The index of owners has no record of the user \"eve\", so this reads all of",
		},
		{
			"--owner tenant=none", "",
			nil, nil,
			search{Complete: true, Scanned: 30, Searched: 25, Index: 5}, "There is no live session of the owner \"tenant=none\"",
		},
		{
			"--user " + strings.Repeat("x", 600), "", // no login lists it
			nil, nil,
			search{Complete: true, Scanned: 30, Searched: 25, Index: 5}, "so this reads all of",
		},
	}
	for name, c := range bothCodecs {
		for _, tt := range tests {
			t.Run(name+" "+tt.args[:min(len(tt.args), 40)], func(t *testing.T) {
				shop := newIndexedShop(t, c)
				shop.begin(t)
				f := shop.table(t)
				args := append(strings.Fields(tt.args), "--codec="+name)
				within := func(what string, most map[string]int) {
					t.Helper()
					got := f.asked()
					for op, n := range got {
						if most != nil && n > most[op] {
							t.Errorf("%s: sent %v, want at most %v", what, got, most)
						}
					}
				}

				var keys []string
				got := f.ctl(t.Context(), "", append([]string{"list", "--json"}, args...)...)
				d := json.NewDecoder(strings.NewReader(got.stdout))
				for d.More() {
					var o owned
					if err := d.Decode(&o); err != nil {
						t.Fatal(err)
					}
					if o.State != stateLive || o.Created.IsZero() || o.Expires.IsZero() || o.DataSize == 0 || o.Note != nil {
						t.Errorf("got %+v", o)
					}
					if name := shop.names([]string{o.Key}); name != "ann-1" && o.Handle != shop.handles[name] {
						t.Errorf("%s has handle %s, want %s", name, o.Handle, shop.handles[name])
					}
					keys = append(keys, o.Key)
				}
				if got.code != codeDone || shop.names(keys) != tt.want || !strings.Contains(got.stderr, tt.note) {
					t.Errorf("list: got %v, %+v", shop.names(keys), got)
				}
				within("list", tt.list)
				text := f.ctl(t.Context(), "", append([]string{"list"}, args...)...)
				if lines := strings.Count(text.stdout, "\n"); lines != len(keys)+min(1, len(keys)) {
					t.Errorf("got %d lines:\n%s", lines, text.stdout)
				}

				before := f.keys()
				f.asked()
				var r revokeReport
				got = f.ctl(t.Context(), "", append([]string{"revoke", "--json", "--dry-run"}, args...)...)
				if err := json.Unmarshal([]byte(got.stdout), &r); err != nil || got.code != codeDone || len(r.Sessions) != len(keys) || r.Revoked != 0 || f.keys() != before {
					t.Errorf("dry run: got %v, %+v", err, got)
				}
				within("dry run", tt.list)

				got = f.ctl(t.Context(), "", append([]string{"revoke", "--json", "--yes"}, args...)...)
				r = revokeReport{}
				if err := json.Unmarshal([]byte(got.stdout), &r); err != nil || got.code != codeDone {
					t.Fatalf("got %v, %+v", err, got)
				}
				keys = nil
				for _, s := range r.Sessions {
					keys = append(keys, s.Key)
					if !s.Revoked || s.Absent || s.Error != "" {
						t.Errorf("got %+v", s)
					}
				}
				if shop.names(keys) != tt.want || r.Revoked != len(keys) || r.Failed != 0 || *r.Search != tt.search || !strings.Contains(got.stderr, tt.note) {
					t.Errorf("revoke: got %v, %+v, %+v", shop.names(keys), got, r.Search)
				}
				if tt.revoke != nil {
					for op, n := range tt.list {
						tt.revoke[op] += n
					}
					within("revoke", tt.revoke)
				}
				for name := range shop.handles {
					if ended := slices.Contains(strings.Fields(tt.want), name); shop.has(f, name) == ended {
						t.Errorf("%s is there: %v", name, !ended)
					}
				}
				again := f.ctl(t.Context(), "", append([]string{"revoke", "--json", "--yes"}, args...)...)
				if err := json.Unmarshal([]byte(again.stdout), &r); err != nil || again.code != codeDone || r.Revoked != 0 {
					t.Errorf("again: got %v, %+v", err, again)
				}
			})
		}
	}
}

// TestOwnersText has the words of an operator's session.
func TestOwnersText(t *testing.T) {
	shop := newIndexedShop(t, codec.MessagePack{})
	shop.begin(t)
	f := shop.table(t)
	got := f.ctl(t.Context(), "", "list", "--user=ann", "--notes")
	want := fmt.Sprintf(`KEY                               BEGAN           LAST USED       ENDS            STATE
%s  0 s ago         -               in 120 min      live
%s  0 s ago         -               in 120 min      live
  device: a phone
`, shop.keys["ann-3"], shop.keys["ann-2"])
	if text := regexp.MustCompile(`\d s ago`).ReplaceAllString(got.stdout, "0 s ago"); text != want {
		t.Errorf("got\n%s\nwant\n%s", text, want)
	}
	if got := f.ctl(t.Context(), "", "list", "--user=ann"); strings.Contains(got.stdout, "phone") {
		t.Errorf("got %+v", got)
	}
	if got := f.ctl(t.Context(), "", "list", "--user=bob", "-n", "5"); strings.Count(got.stdout, "\n") != 6 ||
		!strings.Contains(got.stderr, "The first 5 sessions of the user") || !strings.Contains(got.stderr, "These are the first 5. --limit 0 lists all.") || f.asked()["Scan"] > 0 {
		t.Errorf("got %+v", got)
	}
	if got := f.ctl(t.Context(), "", "list", "--owner=tenant=acme", "--scan", "-n", "5"); strings.Count(got.stdout, "\n") != 6 {
		t.Errorf("got %+v", got)
	}
	if got := f.ctl(t.Context(), "", "revoke", "--user=ann"); got.code != codeUsage || !strings.Contains(got.stderr, "Revoke 2 sessions in") {
		t.Errorf("got %+v", got)
	}
	if got := f.ctl(t.Context(), "", "revoke", "--user=ann", "--dry-run"); got.stdout != "would revoke "+shop.keys["ann-3"]+"\nwould revoke "+shop.keys["ann-2"]+"\n" {
		t.Errorf("got %+v", got)
	}
	if got := f.ctl(t.Context(), "", "revoke", "--user=ann", "-y"); got.stdout != "revoked "+shop.keys["ann-3"]+"\nrevoked "+shop.keys["ann-2"]+"\n" {
		t.Errorf("got %+v", got)
	}
	if got := f.ctl(t.Context(), "", "revoke", "--user=ann"); got.code != codeDone || got.stdout != "" || !strings.Contains(got.stderr, `The index lists no live session of the user "ann".`) {
		t.Errorf("got %+v", got)
	}
}

// TestOwnersOfAnotherCodec reads the whole table if it cannot read the index, and
// says that it cannot look into the sessions either.
func TestOwnersOfAnotherCodec(t *testing.T) {
	shop := newIndexedShop(t, codec.JSON{})
	shop.begin(t)
	f := shop.table(t)
	for _, args := range []string{"list --user ann", "revoke --user ann --yes"} {
		before := f.keys()
		got := f.ctl(t.Context(), "", strings.Fields(args)...)
		if got.code != codeFailed || got.stdout != "" || f.keys() != before ||
			!strings.Contains(got.stderr, `The record of the user "ann" in the index of owners does not decode with codec msgpack, so this reads all of`) ||
			!strings.Contains(got.stderr, "25 sessions do not decode with codec msgpack: they could not be searched, and may belong to the user.") {
			t.Errorf("%s: got %+v", args, got)
		}
	}
}

// TestRevokeListedFails leaves sessions alive, and says so.
func TestRevokeListedFails(t *testing.T) {
	shop := newIndexedShop(t, codec.MessagePack{})
	shop.begin(t)
	f := shop.table(t)
	f.deny(shop.ownerKey(t, session.User("ann")), true)
	got := f.ctl(t.Context(), "", "revoke", "--user=ann", "--yes")
	if got.code != codeFailed || shop.has(f, "ann-2") || shop.has(f, "ann-3") || !shop.has(f, "ann-1") || strings.Count(got.stdout, "revoked ") != 2 ||
		!strings.Contains(got.stderr, "The revocation by the index is not complete: The AWS credentials do not allow dynamodb:UpdateItem on table") ||
		!strings.Contains(got.stderr, "What was found is revoked, but other sessions of the user may be alive.\nGrant it: \"sessionctl iam operator\" prints the policy. Then run it again.") {
		t.Errorf("got %+v", got)
	}

	// One of them cannot be ended either; the scan finds one more.
	f = shop.table(t)
	f.deny(shop.ownerKey(t, session.User("ann")), true)
	f.deny(shop.keys["ann-2"], true)
	got = f.ctl(t.Context(), "", "revoke", "--user=ann", "--yes", "--scan", "--json")
	var r revokeReport
	if err := json.Unmarshal([]byte(got.stdout), &r); err != nil {
		t.Fatal(err)
	}
	if got.code != codeFailed || r.Revoked != 2 || r.Failed != 1 || shop.has(f, "ann-1") || !strings.Contains(got.stderr, "1 of 3 sessions were not revoked, and other sessions of the user may be alive.") {
		t.Errorf("got %+v", got)
	}

	// In the middle of it: the mark is there.
	f = shop.table(t)
	f.deny(shop.keys["ann-2"], true)
	if got := f.ctl(t.Context(), "", "revoke", "--user=ann", "--yes"); got.code != codeFailed || !shop.has(f, "ann-2") || !strings.Contains(got.stderr, "do not allow dynamodb:DeleteItem") {
		t.Errorf("got %+v", got)
	}
	got = f.ctl(t.Context(), "", "list", "--user=ann")
	if got.code != codeDone || !strings.Contains(got.stderr, `A revocation of the user "ann" is not complete: sessions that it covers are not listed.`) {
		t.Errorf("got %+v", got)
	}
	f.deny(shop.keys["ann-2"], false)
	if got := f.ctl(t.Context(), "", "revoke", "--user=ann"); got.code != codeDone || shop.has(f, "ann-2") || shop.has(f, "ann-3") {
		t.Errorf("got %+v", got)
	}
	if got := f.ctl(t.Context(), "", "list", "--user=ann"); strings.Contains(got.stderr, "not complete") {
		t.Errorf("got %+v", got)
	}
}

// TestIndexWithoutAPage ends what it finds all the same, with --scan.
func TestIndexWithoutAPage(t *testing.T) {
	shop := newIndexedShop(t, codec.MessagePack{})
	shop.begin(t)
	f := shop.table(t)
	var index []listed
	d := json.NewDecoder(strings.NewReader(f.ctl(t.Context(), "", "list", "--index", "--json").stdout))
	for d.More() {
		var l listed
		if err := d.Decode(&l); err != nil {
			t.Fatal(err)
		}
		index = append(index, l)
	}
	heads := []string{shop.ownerKey(t, session.User("ann")), shop.ownerKey(t, session.User("bob")), shop.ownerKey(t, session.Owner{Kind: "tenant", ID: "acme"})}
	for _, l := range index {
		if !slices.Contains(heads, l.Key) {
			delete(f.rows, l.Key)
		}
	}
	got := f.ctl(t.Context(), "", "list", "--user=bob")
	if got.code != codeFailed || !strings.Contains(got.stderr, "Run it again, or with --scan, which does not rely on the index.") {
		t.Errorf("got %+v", got)
	}
	got = f.ctl(t.Context(), "", "revoke", "--user=bob", "--scan", "--yes")
	if got.code != codeFailed || !strings.Contains(got.stderr, "The index of owners cannot be read") || strings.Count(got.stdout, "revoked ") != 20 {
		t.Errorf("got %+v", got)
	}
	for name := range shop.handles {
		if strings.HasPrefix(name, "bob") && shop.has(f, name) {
			t.Errorf("%s is alive", name)
		}
	}
	if got := f.ctl(t.Context(), "", "revoke", "--user=bob"); got.code != codeDone || got.stdout != "" {
		t.Errorf("again: got %+v", got)
	}
}

// TestIndexWithoutEnd has pages that are part of themselves.
func TestIndexWithoutEnd(t *testing.T) {
	shop := newIndexedShop(t, codec.MessagePack{})
	f := newFakeTable(t)
	page := encoded(t, codec.MessagePack{}, map[string]any{ownerValue: `{"p":[{"k":"loop","l":3,"n":1},{"k":"loop","l":2,"n":1}]}`})
	f.put(shop.ownerKey(t, session.User("ann")), page, time.Hour, time.Hour, 0)
	f.put("loop", page, time.Hour, time.Hour, 0)
	f.put("ann-1", encoded(t, codec.MessagePack{}, map[string]any{userValue: "ann"}), time.Hour, time.Hour, 0)
	if got := f.ctl(t.Context(), "", "list", "--user=ann"); got.code != codeDone || !strings.Contains(got.stdout, "ann-1") || !strings.Contains(got.stderr, "does not decode") {
		t.Errorf("got %+v", got)
	}
	if got := f.ctl(t.Context(), "", "revoke", "--user=ann"); got.code != codeDone || got.stdout != "revoked ann-1\n" {
		t.Errorf("got %+v", got)
	}
}

// TestRevokeListedBesideLogin has the user log in while the sessions are being
// ended: the new session lives, and is found.
func TestRevokeListedBesideLogin(t *testing.T) {
	shop := newIndexedShop(t, codec.MessagePack{})
	shop.begin(t)
	var name string
	s := &deletingStore{memStore: &memStore{Backend: shop.Backend}}
	s.before = func() { name = shop.login(t, shop.m, session.Login{User: "ann"}) }
	r, err := memRevoke(t, s, &revokeFlags{yes: true, of: owners{session.User("ann")}})
	if err != nil || r.Revoked != 2 {
		t.Fatalf("got %+v, %v", r, err)
	}
	var handles []string
	for e, err := range shop.m.Sessions(t.Context(), session.User("ann")) {
		if err != nil {
			t.Fatal(err)
		}
		handles = append(handles, e.Handle)
	}
	if len(handles) != 1 || handles[0] != shop.handles[name] {
		t.Errorf("got %v, want %s", handles, shop.handles[name])
	}
}

// deletingStore lets others do something before the first Delete.
type deletingStore struct {
	*memStore
	once   sync.Once
	before func()
}

func (s *deletingStore) Delete(ctx context.Context, key string) error {
	s.once.Do(s.before)
	return s.memStore.Delete(ctx, key)
}

func memRevoke(t *testing.T, s store, f *revokeFlags) (revokeReport, error) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	a := &app{stdin: strings.NewReader(""), stdout: &output{w: &stdout}, stderr: &output{w: &stderr}, globals: globals{json: true, codec: "msgpack"}}
	err := a.revoke(t.Context(), s, nil, f)
	var r revokeReport
	if jerr := json.Unmarshal(stdout.Bytes(), &r); jerr != nil {
		t.Fatal(errors.Join(jerr, err))
	}
	return r, err
}
