package session_test

import (
	"errors"
	"fmt"
	"log"
	"strings"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/memory"
	"github.com/seed-a7bee19b/session/codec"
)

// TestPack: a Manager finds what another library had, and goes on with it.
func TestPack(t *testing.T) {
	type item struct{ Name string }
	for name, c := range map[string]session.Codec{"MessagePack": codec.MessagePack{}, "JSON": codec.JSON{}} {
		now := time.Now()
		var b memory.Backend
		m := newManager(t, &b, session.Config{Codec: c})
		rec, err := session.Pack(c, session.Foreign{
			Values: map[string]any{"note": "x", "counter": 7, "items": []item{{"tea"}}, "nothing": nil},
			User:   "ann", Created: now.Add(-time.Minute), Expires: now.Add(time.Hour), Used: now,
		})
		check(t, err)
		token := strings.Repeat("a", 32)
		_, err = b.Save(ctx, session.DefaultStoreKey(token), rec)
		check(t, err)
		s := open(t, m, token)
		user, err := s.User()
		check(t, err)
		items, err := session.Key[[]item]{Name: "items"}.Get(s)
		check(t, err)
		got, err := note.Get(s)
		check(t, err)
		n, err := counter.Update(s, inc)
		check(t, err)
		if user != "ann" || len(items) != 1 || items[0].Name != "tea" || got != "x" || n != 8 || s.IsNew() {
			t.Errorf("%s: user %q, items %v, note %q, counter %d", name, user, items, got, n)
		}
		if names := s.Names(); len(names) != 4 {
			t.Errorf("%s: names %v", name, names)
		}
		check(t, finish(m, s))
		wantValue(t, m, token, "counter", 8)
	}
}

// TestPackedTimes: a packed session ends as one of ours does.
func TestPackedTimes(t *testing.T) {
	const day = 24 * time.Hour
	now := time.Now()
	for name, tt := range map[string]struct {
		f     session.Foreign
		alive bool
	}{
		"no times but the end":                {session.Foreign{Expires: now.Add(time.Hour)}, true},
		"an end far ahead":                    {session.Foreign{Expires: now.Add(30 * day)}, true},
		"used long ago":                       {session.Foreign{Expires: now.Add(time.Hour), Used: now.Add(-3 * time.Hour)}, false},
		"used long ago, with an end far away": {session.Foreign{Expires: now.Add(30 * day), Used: now.Add(-3 * time.Hour)}, false},
		"used a moment ago":                   {session.Foreign{Expires: now.Add(30 * day), Used: now.Add(-time.Minute)}, true},
		"used at the end":                     {session.Foreign{Expires: now.Add(time.Hour), Used: now.Add(time.Hour)}, true},
		"older than the absolute timeout":     {session.Foreign{Expires: now.Add(time.Hour), Created: now.Add(-25 * time.Hour)}, false},
		"younger than the absolute timeout":   {session.Foreign{Expires: now.Add(time.Hour), Created: now.Add(-23 * time.Hour)}, true},
	} {
		var b memory.Backend
		m := newManager(t, &b, session.Config{})
		tt.f.Values = map[string]any{"note": "x"}
		rec, err := session.Pack(codec.MessagePack{}, tt.f)
		check(t, err)
		token := strings.Repeat("a", 32)
		_, err = b.Save(ctx, session.DefaultStoreKey(token), rec)
		check(t, err)
		s, err := m.Open(ctx, token)
		if alive := err == nil; alive != tt.alive || !alive && !errors.Is(err, session.ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil {
			check(t, s.Close(ctx))
		}
	}
}

func TestPackRefuses(t *testing.T) {
	soon := time.Now().Add(time.Hour)
	for name, tt := range map[string]struct {
		c    session.Codec
		f    session.Foreign
		want string
		kind error
	}{
		"no codec":                  {nil, session.Foreign{Expires: soon}, "no Codec", nil},
		"no end":                    {codec.JSON{}, session.Foreign{}, "Expires is zero", nil},
		"used after the end":        {codec.JSON{}, session.Foreign{Expires: soon, Used: soon.Add(1)}, "Used is after Expires", nil},
		"a reserved name":           {codec.JSON{}, session.Foreign{Expires: soon, Values: map[string]any{"_session.user": "root"}}, `"_session.user"`, session.ErrEncode},
		"another reserved name":     {codec.JSON{}, session.Foreign{Expires: soon, Values: map[string]any{"_session.new": 1}}, "reserved", session.ErrEncode},
		"an empty name":             {codec.JSON{}, session.Foreign{Expires: soon, Values: map[string]any{"": 1}}, "empty", session.ErrEncode},
		"a name that is not UTF-8":  {codec.JSON{}, session.Foreign{Expires: soon, Values: map[string]any{"\xff": 1}}, "UTF-8", session.ErrEncode},
		"a value without encoding":  {codec.MessagePack{}, session.Foreign{Expires: soon, Values: map[string]any{"secret": "hunter2", "x": make(chan int)}}, `pack "x"`, session.ErrEncode},
		"a value that is not UTF-8": {codec.JSON{}, session.Foreign{Expires: soon, Values: map[string]any{"x": "hunter2\xff"}}, `pack "x"`, session.ErrEncode},
		"a user that is not UTF-8":  {codec.JSON{}, session.Foreign{Expires: soon, User: "hunter2\xff"}, "the user", session.ErrEncode},
	} {
		rec, err := session.Pack(tt.c, tt.f)
		if err == nil || !strings.HasPrefix(err.Error(), "session: pack") || !strings.Contains(err.Error(), tt.want) || rec.Data != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if errors.Is(err, session.ErrEncode) != (tt.kind != nil) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A site moves the sessions of another library, whose tokens have 43 characters,
// and no visitor notices.
func ExamplePack() {
	backend := &memory.Backend{}
	manager, err := session.New(backend, session.Config{Tokens: session.Tokens{MaxLength: 43}})
	if err != nil {
		log.Fatal(err)
	}
	cfg := manager.Config()

	// What the other library had for one visitor.
	token := "q3Lw0YbZ5n8kV1xT6uJ2cR9dF4gH7mPsAeOiUyWzX-_"
	record, err := session.Pack(cfg.Codec, session.Foreign{
		Values:  map[string]any{"cart": []string{"tea"}},
		User:    "ann",
		Expires: time.Now().Add(time.Hour),
	})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := backend.Save(ctx, cfg.StoreKey(token), record); err != nil {
		log.Fatal(err)
	}

	s, err := manager.Open(ctx, token)
	if err != nil {
		log.Fatal(err)
	}
	user, _ := s.User()
	cart, _ := session.Key[[]string]{Name: "cart"}.Get(s)
	fmt.Println(user, cart)

	_, err = session.Pack(cfg.Codec, session.Foreign{Values: map[string]any{"_session.user": "root"}, Expires: time.Now().Add(time.Hour)})
	fmt.Println(err)
	// Output:
	// ann [tea]
	// session: pack "_session.user": cannot encode: names that begin with "_session." are reserved
}
