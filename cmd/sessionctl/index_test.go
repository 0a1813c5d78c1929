package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/admin"
	"github.com/seed-a7bee19b/session/backend/memory"
	"github.com/seed-a7bee19b/session/codec"
)

func TestIndexOf(t *testing.T) {
	head := `{"e":3,"s":[{"h":"a","k":["b"]},{"h":"c","k":["d"]}],"p":[{"k":"e","n":16},{"k":"f","l":1,"n":128}],"r":[{"e":3}]}`
	for _, c := range []session.Codec{codec.MessagePack{}, codec.JSON{}} {
		tests := []struct {
			values  map[string]any
			want    indexRecord
			is, bad bool
		}{
			{map[string]any{ownerValue: head}, indexRecord{Entries: 2, Pages: 2, InPages: 144, Revocations: 1}, true, false},
			{map[string]any{ownerValue: "{}"}, indexRecord{}, true, false},
			{map[string]any{ownerValue: "{"}, indexRecord{}, true, true},
			{map[string]any{ownerValue: `{"p":[{"n":-1}]}`}, indexRecord{}, true, true},
			{map[string]any{ownerValue: `{"s":1}`}, indexRecord{}, true, true},
			{map[string]any{ownerValue: 12}, indexRecord{}, true, true},
			{map[string]any{"note": ownerValue}, indexRecord{}, false, false},
			{map[string]any{"note": map[string]any{ownerValue: head}}, indexRecord{}, false, false},
			{map[string]any{userValue: "ann"}, indexRecord{}, false, false},
			{nil, indexRecord{}, false, false},
		}
		for _, tt := range tests {
			got, is, err := indexOf(string(encoded(t, c, tt.values)))
			if is != tt.is || (err != nil) != tt.bad || !tt.bad && got != tt.want {
				t.Errorf("%T, %v: got %+v, %v, %v", c, tt.values, got, is, err)
			}
		}
	}
	// A client that can have its text stored must not make a session look like it.
	if _, is, err := indexOf("sealed " + ownerValue); is || err != nil {
		t.Errorf("got %v, %v", is, err)
	}
}

// indexedShop has sessions of several owners, in a store of its own. Its keys have
// names: "ann-1" is that of the first session of ann.
type indexedShop struct {
	*memory.Backend
	m       *session.Manager
	keys    map[string]string // of sessions
	handles map[string]string
	tokens  map[string]string
	n       map[string]int
}

func newIndexedShop(t *testing.T, c session.Codec) *indexedShop {
	t.Helper()
	shop := &indexedShop{Backend: &memory.Backend{}, keys: map[string]string{}, handles: map[string]string{}, tokens: map[string]string{}, n: map[string]int{}}
	var err error
	if shop.m, err = session.New(shop, session.Config{Codec: c, Owners: session.OwnersConfig{Index: true}}); err != nil {
		t.Fatal(err)
	}
	return shop
}

// login begins a session of l.User, and returns its name.
func (shop *indexedShop) login(t *testing.T, m *session.Manager, l session.Login) string {
	t.Helper()
	s := m.Start()
	if err := errors.Join(s.Set("cart", "tea"), s.LoginWith(l), s.Save(t.Context())); err != nil {
		t.Fatal(err)
	}
	shop.n[l.User]++
	name := fmt.Sprint(l.User, "-", shop.n[l.User])
	shop.tokens[name], shop.handles[name] = s.Token().Reveal(), s.Handle()
	shop.keys[name] = session.DefaultStoreKey(s.Token().Reveal())
	return name
}

// begin stores the sessions of the tests: three of ann, one of which is older than
// the index and one of which has got a new ID since; 20 of bob, so that there is a
// page; and a guest.
func (shop *indexedShop) begin(t *testing.T) {
	t.Helper()
	cfg := shop.m.Config()
	cfg.Owners = session.OwnersConfig{}
	plain, err := session.New(shop, cfg)
	if err != nil {
		t.Fatal(err)
	}
	shop.login(t, plain, session.Login{User: "ann"})
	shop.login(t, shop.m, session.Login{User: "ann", Owners: []session.Owner{{Kind: "tenant", ID: "acme"}}, Note: map[string]string{"device": "a phone"}})
	name := shop.login(t, shop.m, session.Login{User: "ann"})
	s, err := shop.m.Open(t.Context(), shop.tokens[name])
	if err := errors.Join(err, s.Rotate(), s.Save(t.Context())); err != nil {
		t.Fatal(err)
	}
	shop.keys["marker"] = shop.keys[name]
	shop.tokens[name], shop.keys[name] = s.Token().Reveal(), session.DefaultStoreKey(s.Token().Reveal())
	for range 20 {
		shop.login(t, shop.m, session.Login{User: "bob", Owners: []session.Owner{{Kind: "tenant", ID: "acme"}}})
	}
	guest := shop.m.Start()
	if err := errors.Join(guest.Set("n", 1), guest.Save(t.Context())); err != nil {
		t.Fatal(err)
	}
	shop.keys["guest"], shop.tokens["guest"] = session.DefaultStoreKey(guest.Token().Reveal()), guest.Token().Reveal()
}

// ownerKey is the key of the record of an owner.
func (shop *indexedShop) ownerKey(t *testing.T, o session.Owner) string {
	t.Helper()
	l := &firstLoad{Backend: shop}
	m, err := session.New(l, shop.m.Config())
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range m.Sessions(t.Context(), o) {
		if err != nil {
			t.Fatal(err)
		}
		break
	}
	return l.key
}

type firstLoad struct {
	session.Backend
	key string
}

func (l *firstLoad) Load(ctx context.Context, key string) (session.Record, error) {
	if l.key == "" {
		l.key = key
	}
	return l.Backend.Load(ctx, key)
}

// table has the same records in DynamoDB.
func (shop *indexedShop) table(t *testing.T) *fakeTable {
	t.Helper()
	f := newFakeTable(t)
	now := time.Now()
	_, err := admin.List(t.Context(), shop, admin.ListOptions{}, func(e admin.Entry) error {
		rec, err := shop.Load(t.Context(), e.Key)
		f.put(e.Key, rec.Data, now.Sub(rec.Created), rec.Expires.Sub(now), 0)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// has reports whether the table has the session of that name.
func (shop *indexedShop) has(f *fakeTable, name string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.rows[shop.keys[name]] != nil
}

// asked are the requests since the last time.
func (f *fakeTable) asked() map[string]int {
	f.fakeDynamoDB.mu.Lock()
	defer f.fakeDynamoDB.mu.Unlock()
	n := map[string]int{}
	for _, op := range f.sent {
		n[op]++
	}
	f.sent = nil
	return n
}

var bothCodecs = map[string]session.Codec{"msgpack": codec.MessagePack{}, "json": codec.JSON{}}

// TestIndexIsNoSession has every command tell records of the index from sessions,
// whichever codec wrote them, and whichever --codec is given.
func TestIndexIsNoSession(t *testing.T) {
	for name, c := range bothCodecs {
		shop := newIndexedShop(t, c)
		shop.begin(t)
		f := shop.table(t)
		const sessions, index = 24, 4 // the heads of ann, bob and acme, of which two have a page
		bobs := shop.ownerKey(t, session.User("bob"))

		var r statsReport
		if err := json.Unmarshal([]byte(f.ctl(t.Context(), "", "stats", "--json").stdout), &r); err != nil {
			t.Fatal(err)
		}
		if r.Live != sessions || r.Moved != 1 || r.Index < index || r.Total != r.Live+r.Moved+r.Index {
			t.Errorf("%s: got %+v", name, r)
		}
		if got := f.ctl(t.Context(), "", "stats"); !strings.Contains(got.stdout, "of the owners of sessions") {
			t.Errorf("got %s", got.stdout)
		}
		for args, want := range map[string]int64{"--live": sessions, "--index": r.Index, "--moved": 1, "--live --index --sort key": sessions + r.Index, "": r.Total} {
			got := f.ctl(t.Context(), "", strings.Fields("list --json "+args)...)
			if lines := int64(strings.Count(got.stdout, "\n")); lines != want {
				t.Errorf("%s, list %s: got %d lines, want %d", name, args, lines, want)
			}
		}
		if got := f.ctl(t.Context(), "", "list", "--index"); !strings.Contains(got.stdout, bobs) || strings.Contains(got.stdout, "live") {
			t.Errorf("got %s", got.stdout)
		}
		if got := f.ctl(t.Context(), "", "doctor", "--reads=0"); !strings.Contains(got.stdout, fmt.Sprintf("1 are left under the old IDs of sessions, and %d are of the index of owners", r.Index)) {
			t.Errorf("got %s", got.stdout)
		}

		var v shown
		got := f.ctl(t.Context(), "", "show", "--json", "--values", bobs)
		if err := json.Unmarshal([]byte(got.stdout), &v); err != nil || got.code != codeDone || got.stderr != "" {
			t.Fatalf("got %v, %+v", err, got)
		}
		if v.Kind != "index" || v.Index == nil || v.Index.Entries+v.Index.InPages != 20 || v.Index.Pages != 1 || len(v.Values) != 0 {
			t.Errorf("got %+v, %+v", v, v.Index)
		}
		for _, args := range []string{"show", "show --values", "show --json"} {
			got := f.ctl(t.Context(), "", append(strings.Fields(args), bobs)...)
			for name, key := range shop.keys {
				if strings.Contains(got.stdout, key) || strings.Contains(got.stdout, shop.tokens[name]) && shop.tokens[name] != "" {
					t.Errorf("%s has the key or token of %s: %s", args, name, got.stdout)
				}
			}
		}
		if got := f.ctl(t.Context(), "", "show", bobs); !strings.Contains(got.stdout, "a record of the index of owners") || !strings.Contains(got.stdout, "and 1 page with up to 16") {
			t.Errorf("got %s", got.stdout)
		}

		before := f.keys()
		for _, args := range []string{"revoke", "revoke --dry-run", "revoke --json"} {
			got := f.ctl(t.Context(), "", append(strings.Fields(args), bobs)...)
			if got.code != codeFailed || !strings.Contains(got.stderr, "1 of 1 sessions were not revoked") || !strings.Contains(got.stderr, "To end these sessions, use --user or --owner.") {
				t.Errorf("%s: got %+v", args, got)
			}
		}
		if got := f.ctl(t.Context(), bobs+"\n", "revoke", "-"); got.code != codeFailed || !strings.Contains(got.stderr, "not revoked: "+bobs+": This is a record of the index of owners, and no session.") {
			t.Errorf("got %+v", got)
		}
		if f.keys() != before {
			t.Errorf("before %s, now %s", before, f.keys())
		}

		// They expire as other records do.
		f.mu.Lock()
		f.rows[bobs]["expires"] = object{"N": "1"}
		f.mu.Unlock()
		if got := f.ctl(t.Context(), "", "list", "--expired", "--json"); !strings.Contains(got.stdout, bobs) {
			t.Errorf("got %+v", got)
		}
		if got := f.ctl(t.Context(), "", "sweep", "--json"); got.code != codeDone || strings.Contains(f.keys(), bobs) {
			t.Errorf("got %+v", got)
		}
	}
}

func TestShowDamagedIndex(t *testing.T) {
	f := newFakeTable(t)
	f.put("bad", encoded(t, codec.MessagePack{}, map[string]any{ownerValue: "{"}), time.Hour, time.Hour, 0)
	f.put("marked", encoded(t, codec.MessagePack{}, map[string]any{ownerValue: `{"s":[{"h":"a","k":["b"]}],"r":[{"e":3}]}`}), time.Hour, time.Hour, 0)
	if got := f.ctl(t.Context(), "", "show", "bad"); got.code != codeFound || !strings.Contains(got.stderr, "The record of the index does not decode.") {
		t.Errorf("got %+v", got)
	}
	if got := f.ctl(t.Context(), "", "show", "marked"); got.code != codeDone || !strings.Contains(got.stdout, `1 revocation is not complete; "sessionctl revoke" completes it`) {
		t.Errorf("got %+v", got)
	}
}

// TestShowListing shows where a session is listed.
func TestShowListing(t *testing.T) {
	shop := newIndexedShop(t, codec.MessagePack{})
	shop.begin(t)
	f := shop.table(t)
	got := f.ctl(t.Context(), "", "show", shop.keys["ann-2"])
	if got.code != codeDone || !strings.Contains(got.stdout, "in the index of owners, with handle "+shop.handles["ann-2"]) || strings.Contains(got.stdout, "acme") || strings.Contains(got.stdout, "phone") {
		t.Errorf("got %+v", got)
	}
	got = f.ctl(t.Context(), "", "show", "--values", shop.keys["ann-2"])
	if !strings.Contains(got.stdout, "Owner     tenant=acme\nNote      device: a phone\n") {
		t.Errorf("got %+v", got)
	}
	var v shown
	if err := json.Unmarshal([]byte(f.ctl(t.Context(), "", "show", "--json", "--values", shop.keys["ann-2"]).stdout), &v); err != nil {
		t.Fatal(err)
	}
	if v.Listed == nil || v.Listed.Handle != shop.handles["ann-2"] || len(v.Listed.Owners) != 1 || v.Listed.Note["device"] != "a phone" || len(v.Values) != 1 {
		t.Errorf("got %+v, %+v", v, v.Listed)
	}
}
