package session

import (
	"bytes"
	"encoding/hex"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session/internal/index"
)

// TestStoredOwners: the keys of the index of owners, its records and the listings
// of sessions are made today as they were when testdata/owners.txt was written. A
// line has a name and the bytes in hex.
func TestStoredOwners(t *testing.T) {
	data, err := os.ReadFile("testdata/owners.txt")
	if err != nil {
		t.Fatal(err)
	}
	stored := map[string][]byte{}
	for line := range strings.Lines(string(data)) {
		name, text, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		if stored[name], err = hex.DecodeString(text); err != nil {
			t.Fatal(err)
		}
	}
	same := func(name string, now []byte) {
		t.Helper()
		if want, ok := stored[name]; !ok || !bytes.Equal(now, want) {
			t.Errorf("%s: is made now as %x, want %x", name, now, want)
		}
		delete(stored, name)
	}
	for name, o := range map[string]Owner{"user": User("ann"), "device": {"device", "the laptop"}, "another device": {"devicethe", " laptop"}} {
		m := newCore(nil, Config{StoreKey: DefaultStoreKey})
		same("key of a "+name, []byte(m.ownerKey(o)))
		same("short name of a "+name, []byte(o.short()))
	}
	ls := listing{
		Handle: "AAAAAAAAAAAAAAAAAAAAAA",
		Owners: []Owner{{"device", "the laptop"}, {"sid", "<1>"}},
		Note:   map[string]string{"device": "Firefox on Linux", "address": "192.0.2.1"},
	}
	head := index.Head{Epoch: 1, Entries: []index.Entry{{Handle: ls.Handle, Keys: []string{"k"}, Until: 4_102_444_800}}}
	for name, c := range bothCodecs() {
		m := codecCore(c, 0)
		got, owners, err := m.listingOf(map[string][]byte{
			listedName: stored[name+", listing"], userName: encodedValues(t, c, map[string]any{"user": "ann"})["user"],
		})
		if err != nil || !reflect.DeepEqual(got, ls) || len(owners) != 3 || owners[0] != User("ann") || owners[2] != ls.Owners[1] {
			t.Errorf("%s: read %+v, %v, %v", name, got, owners, err)
		}
		now, err := m.encodeListing(ls)
		if err != nil {
			t.Fatal(err)
		}
		same(name+", listing", now)
		o, err := m.decodeOwner(Record{Data: stored[name+", head"], Version: "1"})
		if err != nil || !reflect.DeepEqual(o, ownerRecord{head: head, version: "1"}) {
			t.Errorf("%s: read %+v, %v", name, o, err)
		}
		rec, err := m.indexRecord(head, head.Until())
		if err != nil || !rec.Expires.Equal(time.Unix(head.Until(), 0).Add(24*time.Hour)) || !rec.Continues {
			t.Fatal(rec.Expires, err)
		}
		same(name+", head", rec.Data)
	}
	for name := range stored {
		t.Errorf("nothing reads %s", name)
	}
}
