package session_test

import (
	"strings"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/memory"
	"github.com/seed-a7bee19b/session/codec/php"
)

// storePHP stores what PHP has written under the ID of token.
func storePHP(t *testing.T, b *memory.Backend, cfg session.Config, data string) (token, key string) {
	t.Helper()
	token = strings.Repeat("p", 32)
	key = token
	if cfg.StoreKey != nil {
		key = cfg.StoreKey(token)
	}
	if _, err := b.Save(ctx, key, session.Record{Data: []byte(data), Created: time.Now(), Expires: time.Now().Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	return token, key
}

// TestPHPCodec takes a session of PHP through a Manager: what is not changed stays as
// PHP has written it, names that PHP would lose are refused at once, and users are the
// same on both sides.
func TestPHPCodec(t *testing.T) {
	var b memory.Backend
	cfg := session.Config{
		Codec:    php.Codec{User: "uid", UserInt: true},
		StoreKey: func(token string) string { return token },
	}
	m := newManager(t, &b, cfg)
	token, key := storePHP(t, &b, cfg, `z|O:1:"A":1:{s:1:"s";r:1;}counter|i:41;uid|i:7;flash|a:2:{i:0;s:1:"x";i:1;d:1;}`)
	stored := func() string {
		t.Helper()
		rec, err := b.Load(ctx, key)
		check(t, err)
		return string(rec.Data)
	}

	s := open(t, m, token)
	user, err := s.User()
	if n, nerr := counter.Get(s); err != nil || nerr != nil || user != "7" || n != 41 {
		t.Fatalf("user %q, %v; counter %d, %v", user, err, n, nerr)
	}
	if names := strings.Join(s.Names(), " "); names != "counter flash z" {
		t.Errorf("names %q", names)
	}
	for _, name := range []string{"a|b", "5", "uid"} {
		k := session.Key[int]{Name: name}
		wantErr(t, k.Set(s, 1), session.ErrEncode)
		wantErr(t, s.Set(name, 1), session.ErrEncode)
		wantErr(t, errOf(k.Update(s, inc)), session.ErrEncode)
		check(t, k.Delete(s))
	}
	check(t, errOf(counter.Update(s, inc)))
	check(t, s.Save(ctx))
	if got := stored(); !strings.HasPrefix(got, `z|O:1:"A":1:{s:1:"s";r:1;}counter|i:42;uid|i:7;flash|a:2:{i:0;s:1:"x";i:1;d:1;}`) {
		t.Errorf("stored: %s", got)
	}
	var loop any
	_, err = s.Get("z", &loop)
	wantErr(t, err, session.ErrDecode)
	check(t, s.Clear())
	check(t, finish(m, s))
	if got := stored(); !strings.HasPrefix(got, `uid|i:7;`) || strings.Contains(got, "counter") {
		t.Errorf("stored: %s", got)
	}

	// A user that PHP could not take is refused when it is stored, and what was stored
	// stays.
	before := stored()
	s = open(t, m, token)
	check(t, s.Login("ann"))
	wantErr(t, finish(m, s), session.ErrEncode)
	if got := stored(); got != before {
		t.Errorf("stored: %s, want %s", got, before)
	}
}

// TestPHPEmpty checks that a session without values, which PHP stores as no data, is a
// session.
func TestPHPEmpty(t *testing.T) {
	var b memory.Backend
	cfg := session.Config{Codec: php.Codec{}, StoreKey: func(token string) string { return token }}
	m := newManager(t, &b, cfg)
	token, _ := storePHP(t, &b, cfg, "")
	s := open(t, m, token)
	if names := s.Names(); len(names) > 0 {
		t.Errorf("names %q", names)
	}
	check(t, counter.Set(s, 1))
	check(t, finish(m, s))
	wantValue(t, m, token, "counter", 1)
}
