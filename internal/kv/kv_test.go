package kv_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/memory"
	"github.com/seed-a7bee19b/session/internal/kv"
)

// faulty is a backend whose calls can be replaced, and are counted by name.
type faulty struct {
	session.Backend
	fault func(ctx context.Context, op string) error
	lose  bool // the answer of a Save
	mu    sync.Mutex
	calls []string
}

func (b *faulty) call(ctx context.Context, op string) error {
	b.mu.Lock()
	b.calls = append(b.calls, op)
	b.mu.Unlock()
	if b.fault == nil {
		return nil
	}
	return b.fault(ctx, op)
}

func (b *faulty) Load(ctx context.Context, key string) (session.Record, error) {
	if err := b.call(ctx, "Load"); err != nil {
		return session.Record{}, err
	}
	return b.Backend.Load(ctx, key)
}

func (b *faulty) Save(ctx context.Context, key string, rec session.Record) (session.Version, error) {
	op := "Save"
	if rec.Version == "" {
		op = "create"
	}
	if err := b.call(ctx, op); err != nil {
		return "", err
	}
	v, err := b.Backend.Save(ctx, key, rec)
	if b.lose {
		return "", errors.New("no answer")
	}
	return v, err
}

func (b *faulty) Touch(ctx context.Context, key string, expires time.Time) error {
	if err := b.call(ctx, "Touch"); err != nil {
		return err
	}
	return b.Backend.Touch(ctx, key, expires)
}

func (b *faulty) Delete(ctx context.Context, key string) error {
	if err := b.call(ctx, "Delete"); err != nil {
		return err
	}
	return b.Backend.Delete(ctx, key)
}

// textOnly stores text only.
type textOnly struct{ session.Backend }

func (textOnly) TextOnly() bool { return true }

// shared is shared with another program.
type shared struct{ session.Backend }

func (shared) Shared() bool                     { return true }
func (shared) CheckConfig(session.Config) error { return nil }

func newStore(t *testing.T, c kv.Config) (*kv.Store, *faulty) {
	t.Helper()
	b := &faulty{Backend: &memory.Backend{}}
	s, err := kv.New("name", b, c)
	if err != nil {
		t.Fatal(err)
	}
	return s, b
}

func TestNew(t *testing.T) {
	m := &memory.Backend{}
	random := func() func(string) string {
		n := 0
		return func(token string) string { n++; return token + strings.Repeat("x", n) }
	}()
	tests := []struct {
		name string
		b    session.Backend
		c    kv.Config
		want string // "": no error
	}{
		{"defaults", m, kv.Config{}, ""},
		{"no Backend", nil, kv.Config{}, "no Backend"},
		{"timeout", m, kv.Config{Timeout: -1}, "must not be negative"},
		{"text", textOnly{m}, kv.Config{}, ""},
		{"text, binary", textOnly{m}, kv.Config{Binary: true}, "text only"},
		{"shared", shared{m}, kv.Config{}, "another program"},
		{"empty key", m, kv.Config{StoreKey: func(string) string { return "" }}, "0 bytes"},
		{"long key", m, kv.Config{StoreKey: func(t string) string { return strings.Repeat(t, 40) }}, "1 to 512"},
		{"one key", m, kv.Config{StoreKey: func(string) string { return "k" }}, "the same key"},
		{"random key", m, kv.Config{StoreKey: random}, "two keys"},
	}
	for _, tt := range tests {
		_, err := kv.New("name", tt.b, tt.c)
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.HasPrefix(err.Error(), "name: ") || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
}

// hour is a deadline of most tests.
func hour() time.Time { return time.Now().Add(time.Hour) }

func save(t *testing.T, s *kv.Store, seen *kv.Seen, token, data string) {
	t.Helper()
	if err := s.Save(t.Context(), seen, token, []byte(data), hour()); err != nil {
		t.Fatal(err)
	}
}

func load(t *testing.T, s *kv.Store, seen *kv.Seen, token string) string {
	t.Helper()
	data, found, err := s.Load(t.Context(), seen, token)
	if err != nil {
		t.Fatal(err)
	}
	if !found {
		return "-"
	}
	return string(data)
}

// TestOrders has two requests, one and two, that work with the token "t".
func TestOrders(t *testing.T) {
	type request struct {
		s    *kv.Store
		seen *kv.Seen
	}
	ctx := context.Background()
	set := func(v string) func(r request) error {
		return func(r request) error { return r.s.Save(ctx, r.seen, "t", []byte(v), hour()) }
	}
	early := func(v string) func(r request) error {
		return func(r request) error {
			return r.s.Save(ctx, r.seen, "t", []byte(v), time.Now().Add(time.Minute))
		}
	}
	read := func(r request) error { _, _, err := r.s.Load(ctx, r.seen, "t"); return err }
	end := func(r request) error { return r.s.Delete(ctx, r.seen, "t") }
	renew := func(r request) error { return r.s.Renew(ctx, r.seen, "t", "new", []byte("new"), hour()) }
	put := func(r request) error { return r.s.Put(ctx, "t", []byte("put"), hour()) }
	type step struct {
		who  int
		do   func(request) error
		want error
	}
	tests := []struct {
		name  string
		steps []step
		want  string // under "t", then under "new"
	}{
		{"one after the other", []step{{1, read, nil}, {1, set("1"), nil}, {2, read, nil}, {2, set("2"), nil}}, "2 -"},
		{"twice", []step{{1, read, nil}, {1, set("1"), nil}, {1, set("2"), nil}}, "2 -"},
		{"overtaken", []step{{1, read, nil}, {2, read, nil}, {2, set("2"), nil}, {1, set("1"), session.ErrConflict}}, "2 -"},
		{"overtaken, unchanged", []step{{1, read, nil}, {2, read, nil}, {2, set("2"), nil}, {1, set("0"), nil}}, "2 -"},
		{"overtaken, unchanged, earlier deadline", []step{{1, read, nil}, {2, read, nil}, {2, set("2"), nil}, {1, early("0"), nil}}, "2 -"},
		{"ended, unchanged, earlier deadline", []step{{1, read, nil}, {2, end, nil}, {1, early("0"), session.ErrNotFound}}, "- -"},
		{"renewed, then saved under the old token", []step{{1, read, nil}, {1, renew, nil}, {1, set("1"), session.ErrNotFound}}, "- new"},
		{"read again", []step{{1, read, nil}, {2, read, nil}, {2, set("2"), nil}, {1, read, nil}, {1, set("1"), session.ErrConflict}}, "2 -"},
		{"not read", []step{{1, set("1"), session.ErrConflict}}, "0 -"},
		{"ended", []step{{1, read, nil}, {2, end, nil}, {1, set("1"), session.ErrNotFound}}, "- -"},
		{"ended, unchanged", []step{{1, read, nil}, {2, end, nil}, {1, set("0"), session.ErrNotFound}}, "- -"},
		{"ended by itself", []step{{1, read, nil}, {1, end, nil}, {1, set("1"), session.ErrNotFound}}, "- -"},
		{"ended by itself, not read", []step{{1, end, nil}, {1, set("1"), session.ErrConflict}}, "- -"},
		{"renewed", []step{{1, read, nil}, {1, renew, nil}}, "- new"},
		{"renewed, slow request", []step{{1, read, nil}, {2, read, nil}, {1, renew, nil}, {2, set("2"), session.ErrNotFound}}, "- new"},
		{"renewed, overtaken", []step{{1, read, nil}, {2, read, nil}, {2, set("2"), nil}, {1, renew, session.ErrConflict}}, "2 -"},
		{"renewed, ended", []step{{1, read, nil}, {2, end, nil}, {1, renew, session.ErrNotFound}}, "- -"},
		{"put", []step{{1, read, nil}, {2, put, nil}, {1, set("1"), session.ErrConflict}}, "put -"},
		{"put after end", []step{{2, end, nil}, {2, put, nil}}, "put -"},
	}
	for _, tt := range tests {
		s, _ := newStore(t, kv.Config{})
		save(t, s, new(kv.Seen), "t", "0")
		requests := []request{{}, {s, new(kv.Seen)}, {s, new(kv.Seen)}}
		for i, step := range tt.steps {
			if err := step.do(requests[step.who]); !errors.Is(err, step.want) {
				t.Errorf("%s: step %d: %v, want %v", tt.name, i+1, err, step.want)
			}
		}
		if got := load(t, s, nil, "t") + " " + load(t, s, nil, "new"); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

// TestErrors: a failure of the store is marked, and an answer is not.
func TestErrors(t *testing.T) {
	down := errors.New("down")
	calls := map[string]func(s *kv.Store, seen *kv.Seen) error{
		"load":   func(s *kv.Store, seen *kv.Seen) error { _, _, err := s.Load(t.Context(), seen, "t"); return err },
		"save":   func(s *kv.Store, seen *kv.Seen) error { return s.Save(t.Context(), seen, "t", []byte("1"), hour()) },
		"create": func(s *kv.Store, seen *kv.Seen) error { return s.Save(t.Context(), seen, "u", nil, hour()) },
		"touch":  func(s *kv.Store, seen *kv.Seen) error { return s.Save(t.Context(), seen, "t", []byte("0"), hour()) },
		"put":    func(s *kv.Store, _ *kv.Seen) error { return s.Put(t.Context(), "t", nil, hour()) },
		"delete": func(s *kv.Store, seen *kv.Seen) error { return s.Delete(t.Context(), seen, "t") },
		"renew": func(s *kv.Store, seen *kv.Seen) error {
			return s.Renew(t.Context(), seen, "t", "u", nil, hour())
		},
	}
	for name, call := range calls {
		s, b := newStore(t, kv.Config{})
		save(t, s, new(kv.Seen), "t", "0")
		seen := new(kv.Seen)
		load(t, s, seen, "t")
		b.fault = func(context.Context, string) error { return down }
		if err := call(s, seen); !errors.Is(err, session.ErrStore) || !errors.Is(err, down) || !strings.HasPrefix(err.Error(), "name: ") {
			t.Errorf("%s, store down: %v", name, err)
		}
		b.fault = func(context.Context, string) error { return session.ErrTooLarge }
		if err := call(s, seen); !errors.Is(err, session.ErrTooLarge) || errors.Is(err, session.ErrStore) {
			t.Errorf("%s, too large: %v", name, err)
		}
		b.fault = nil
		if got := load(t, s, nil, "t"); got != "0" {
			t.Errorf("%s: %q is stored", name, got)
		}
	}
}

// TestLostAnswer: a Save that failed may have been applied. Then the values that were
// read are a change.
func TestLostAnswer(t *testing.T) {
	s, b := newStore(t, kv.Config{})
	seen := new(kv.Seen)
	save(t, s, seen, "t", "0")
	b.lose = true
	if err := s.Save(t.Context(), seen, "t", []byte("1"), hour()); !errors.Is(err, session.ErrStore) {
		t.Errorf("a Save without an answer: %v", err)
	}
	b.lose = false
	if err := s.Save(t.Context(), seen, "t", []byte("0"), hour()); !errors.Is(err, session.ErrConflict) {
		t.Errorf("the values before: %v", err)
	}
	if got := load(t, s, nil, "t"); got != "1" {
		t.Errorf("%q is stored", got)
	}
}

// TestRenewFails: if the old session cannot be ended, the new one is taken back.
func TestRenewFails(t *testing.T) {
	s, b := newStore(t, kv.Config{})
	seen := new(kv.Seen)
	save(t, s, seen, "t", "0")
	b.fault = func(_ context.Context, op string) error {
		if op == "Save" {
			return errors.New("down")
		}
		return nil
	}
	if err := s.Renew(t.Context(), seen, "t", "new", []byte("1"), hour()); !errors.Is(err, session.ErrStore) {
		t.Errorf("Renew: %v", err)
	}
	if got := load(t, s, nil, "t") + load(t, s, nil, "new"); got != "0-" {
		t.Errorf("%q is stored", got)
	}
}

// TestAliases: what a library does with its bytes does not change what was read.
func TestAliases(t *testing.T) {
	s, b := newStore(t, kv.Config{})
	save(t, s, new(kv.Seen), "t", "0")
	seen := new(kv.Seen)
	data, _, err := s.Load(t.Context(), seen, "t")
	if err != nil {
		t.Fatal(err)
	}
	data[0] = '1'
	b.calls = nil
	save(t, s, seen, "t", "1")
	if b.calls[0] != "Save" || load(t, s, nil, "t") != "1" {
		t.Errorf("a change was taken for none: %v", b.calls)
	}
}

// keeper returns a record that has expired, as a store does that has not removed it
// yet.
type keeper struct{ session.Backend }

func (keeper) Load(context.Context, string) (session.Record, error) {
	return session.Record{Data: []byte("0"), Version: "1", Expires: time.Now().Add(-time.Millisecond)}, nil
}

// TestExpired: a record that has expired is none, wherever it is still stored.
func TestExpired(t *testing.T) {
	s, err := kv.New("name", keeper{&memory.Backend{}}, kv.Config{})
	if err != nil {
		t.Fatal(err)
	}
	seen := new(kv.Seen)
	if got := load(t, s, seen, "t"); got != "-" {
		t.Errorf("%q", got)
	}
	save(t, s, seen, "t", "1") // with the version it would conflict
	if err := s.Put(t.Context(), "u", []byte("2"), hour()); err != nil {
		t.Error(err)
	}
}

// A Touch moves no deadline back, so a second Save of a request must know of the
// first one's, also of one that may have been applied.
func TestDeadlineMovesBackAfterATouch(t *testing.T) {
	for name, fault := range map[string]error{"answered": nil, "answer lost": errors.New("no answer")} {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			s, b := newStore(t, kv.Config{})
			save(t, s, new(kv.Seen), "token", "data")
			var seen kv.Seen
			load(t, s, &seen, "token")
			late, soon := time.Now().Add(24*time.Hour), time.Now().Add(time.Hour)
			b.fault = func(ctx context.Context, op string) error {
				if op == "Touch" && fault != nil {
					return errors.Join(fault, b.Backend.Touch(ctx, session.DefaultStoreKey("token"), late))
				}
				return nil
			}
			if err := s.Save(ctx, &seen, "token", []byte("data"), late); (err != nil) != (fault != nil) {
				t.Fatalf("first Save: %v", err)
			}
			b.fault = nil
			if err := s.Save(ctx, &seen, "token", []byte("data"), soon); err != nil {
				t.Fatalf("second Save: %v", err)
			}
			rec, err := b.Backend.Load(ctx, session.DefaultStoreKey("token"))
			if err != nil || rec.Expires.After(soon.Add(2*time.Second)) {
				t.Fatalf("expires in %v, %v; want an hour", time.Until(rec.Expires), err)
			}
		})
	}
}
