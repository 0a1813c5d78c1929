package migrate_test

import (
	"bytes"
	"context"
	"encoding/gob"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/admin"
	"github.com/seed-a7bee19b/session/backend/memory"
	"github.com/seed-a7bee19b/session/migrate"
)

// scsStore is a store as scs has them.
type scsStore struct {
	m   map[string][]byte
	err error
}

func (s *scsStore) FindCtx(_ context.Context, token string) ([]byte, bool, error) {
	return s.Find(token)
}

func (s *scsStore) Find(token string) ([]byte, bool, error) {
	b, ok := s.m[token]
	return b, ok, s.err
}

func (s *scsStore) Delete(token string) error {
	delete(s.m, token)
	return s.err
}

// gobbed is what scs stores.
func gobbed(t *testing.T, values map[string]any) []byte {
	t.Helper()
	var b bytes.Buffer
	err := gob.NewEncoder(&b).Encode(&struct {
		Deadline time.Time
		Values   map[string]any
	}{time.Now().Add(time.Hour), values})
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func pack(values map[string]any, deadline time.Time) (session.Record, error) {
	text, _ := values["text"].(string)
	return session.Record{Data: []byte(text), Created: time.Now(), Expires: deadline}, nil
}

func TestSCS(t *testing.T) {
	token := strings.Repeat("a", 42) + "A"
	key := migrate.StoreKey(migrate.SCSToken)
	if got := key(strings.Repeat("a", 32)); got != session.DefaultStoreKey(strings.Repeat("a", 32)) {
		t.Errorf("the key of a token of ours is %q", got)
	}
	old := &scsStore{m: map[string][]byte{token: gobbed(t, map[string]any{"text": "hello", "n": 1})}}
	source, err := migrate.SCS(old, migrate.SCSConfig{Pack: pack})
	if err != nil {
		t.Fatal(err)
	}
	fresh := &memory.Backend{}
	b := open(t, fresh, source, migrate.Config{TokenKeys: true})

	old.err = errors.New("down")
	if _, err := b.Load(t.Context(), key(token)); err == nil || errors.Is(err, session.ErrNotFound) {
		t.Errorf("while the old store fails: %v", err)
	}
	old.err = nil
	rec, err := b.Load(t.Context(), key(token))
	if err != nil || string(rec.Data) != "hello" {
		t.Fatalf("got %q, %v", rec.Data, err)
	}
	if len(old.m) != 0 {
		t.Error("the session is still in the old store")
	}
	if rec, err := fresh.Load(t.Context(), session.DefaultStoreKey(token)); err != nil || string(rec.Data) != "hello" {
		t.Errorf("without this package: %q, %v", rec.Data, err)
	}
	past := time.Unix(0, 0)
	if _, err := b.Save(t.Context(), key(token), session.Record{Created: past, Expires: past, Version: rec.Version}); err != nil {
		t.Fatal(err)
	}
	old.m[token] = gobbed(t, map[string]any{"text": "back"}) // by a request of scs that was slow
	for range 2 {
		if rec, err := b.Load(t.Context(), key(token)); !errors.Is(err, session.ErrNotFound) {
			t.Errorf("after the logout: %q, %v", rec.Data, err)
		}
	}

	old.m[token] = []byte("no gob")
	other := open(t, &memory.Backend{}, source, migrate.Config{TokenKeys: true})
	if _, err := other.Load(t.Context(), key(token)); !errors.Is(err, session.ErrDecode) || len(old.m) != 1 {
		t.Errorf("what does not decode: %v, %d left", err, len(old.m))
	}
}

// inner is a Source that counts, and has one session.
type inner struct{ asked []string }

func (i *inner) Load(_ context.Context, key string) (session.Record, error) {
	i.asked = append(i.asked, "load "+key)
	rec, err := pack(map[string]any{"text": "hello"}, time.Now().Add(time.Hour))
	if key != "id" || len(i.asked) > 1 {
		err = session.ErrNotFound
	}
	return rec, err
}

func (i *inner) Remove(_ context.Context, key string, _ session.Record) error {
	i.asked = append(i.asked, "remove "+key)
	return nil
}

// The tokens of one session of the old store lead to one session.
func TestStoreKeyOf(t *testing.T) {
	key := migrate.StoreKeyOf(func(token string) (string, bool) {
		id, _, signed := strings.Cut(token, "=")
		return id, signed
	})
	for token, same := range map[string]bool{"id=2": true, "id": false, "di=1": false, strings.Repeat("a", 480) + "=": false} {
		if (key(token) == key("id=1")) != same {
			t.Errorf("%.9s: the key is %.50s", token, key(token))
		}
	}
	for _, token := range []string{"id", strings.Repeat("a", 480) + "="} {
		if key(token) != session.DefaultStoreKey(token) {
			t.Errorf("%.9s: not the default", token)
		}
	}
	if key("id=1") == migrate.StoreKey(func(string) bool { return true })("id") {
		t.Error("the key is that of the token that has the text of the inner one")
	}
	if migrate.StoreKeyOf(nil)("id=1") != session.DefaultStoreKey("id=1") {
		t.Error("nil: not the default")
	}

	old, fresh := &inner{}, &memory.Backend{}
	b := open(t, fresh, old, migrate.Config{TokenKeys: true})
	for _, token := range []string{"id=1", "id=2"} {
		if rec, err := b.Load(t.Context(), key(token)); err != nil || string(rec.Data) != "hello" {
			t.Errorf("got %q, %v", rec.Data, err)
		}
	}
	if got := strings.Join(old.asked, ", "); got != "load id, remove id" {
		t.Errorf("the old store was asked: %s", got)
	}
	if _, err := fresh.Load(t.Context(), session.DefaultStoreKey("id")); !errors.Is(err, session.ErrNotFound) {
		t.Errorf("the ID alone is a token: %v", err)
	}
}

func TestNewRefuses(t *testing.T) {
	a, b := &memory.Backend{}, &memory.Backend{}
	from := migrate.From(b, migrate.FromConfig{})
	for _, tt := range []struct {
		name  string
		fresh session.Backend
		old   migrate.Source
		cfg   migrate.Config
		part  string // of the error; "" for none
	}{
		{"zero", a, from, migrate.Config{}, ""},
		{"Hold", a, from, migrate.Config{Phase: migrate.Hold}, ""},
		{"Gone without a source", a, nil, migrate.Config{Phase: migrate.Gone}, ""},
		{"Gone with a source", a, from, migrate.Config{Phase: migrate.Gone}, ""},
		{"no backend", nil, from, migrate.Config{}, "needs a new backend"},
		{"no source", a, nil, migrate.Config{}, "phase Move needs a Source"},
		{"unknown phase", a, from, migrate.Config{Phase: 4}, "unknown phase Phase(4)"},
		{"negative phase", a, from, migrate.Config{Phase: -1}, "unknown phase"},
		{"Hold with a source of one's own", a, plain{b}, migrate.Config{Phase: migrate.Hold}, "use From"},
		{"From nothing", a, migrate.From(nil, migrate.FromConfig{}), migrate.Config{}, "From needs a backend"},
		{"one backend", a, migrate.From(a, migrate.FromConfig{}), migrate.Config{}, "is the new one"},
		{"token keys of a backend", a, from, migrate.Config{TokenKeys: true}, "TokenKeys"},
	} {
		_, err := migrate.New(tt.fresh, tt.old, tt.cfg)
		if (err != nil) != (tt.part != "") || err != nil && !strings.Contains(err.Error(), tt.part) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	if _, err := migrate.SCS(nil, migrate.SCSConfig{Pack: pack}); err == nil {
		t.Error("SCS without a store")
	}
	if _, err := migrate.SCS(&scsStore{}, migrate.SCSConfig{}); err == nil {
		t.Error("SCS without Pack")
	}
}

// What is none of the optional interfaces of the new backend does not become one.
func TestFaces(t *testing.T) {
	type locking struct{ session.LockingBackend }
	type bare struct{ session.Backend }
	m := &memory.Backend{}
	old := migrate.From(&memory.Backend{}, migrate.FromConfig{})
	for _, tt := range []struct {
		name       string
		fresh      session.Backend
		old        migrate.Source
		phase      migrate.Phase
		lock, list bool
	}{
		{"all", m, old, migrate.Move, true, true},
		{"locking", locking{m}, old, migrate.Move, true, false},
		{"bare", bare{m}, old, migrate.Move, false, false},
		{"Hold, both", m, old, migrate.Hold, true, true},
		{"Hold, bare old", m, migrate.From(bare{&memory.Backend{}}, migrate.FromConfig{}), migrate.Hold, false, false},
		{"Move, bare old", m, migrate.From(bare{&memory.Backend{}}, migrate.FromConfig{}), migrate.Move, true, true},
	} {
		b := open(t, tt.fresh, tt.old, migrate.Config{Phase: tt.phase})
		_, lock := b.(session.LockingBackend)
		_, list := b.(admin.Lister)
		if _, sweep := b.(admin.Sweeper); sweep != list {
			t.Errorf("%s: sweeps %t", tt.name, sweep)
		}
		if lock != tt.lock || list != tt.list {
			t.Errorf("%s: locks %t, lists %t", tt.name, lock, list)
		}
	}
}
