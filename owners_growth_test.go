package session_test

import (
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/memory"
	"github.com/seed-a7bee19b/session/codec"
)

// A sizer keeps the sizes of the records of the index of owners.
type sizer struct {
	memory.Backend
	mu         sync.Mutex
	heads      int
	head, page int // the largest
	headTotal  int
	pages      int
}

func (z *sizer) Save(ctx context.Context, key string, rec session.Record) (session.Version, error) {
	z.mu.Lock()
	switch size := len(rec.Data); {
	case strings.HasPrefix(key, "owner."):
		z.head = max(z.head, size)
		z.heads++
		z.headTotal += size
	case strings.HasPrefix(key, "page."):
		z.page = max(z.page, size)
		z.pages++
	}
	z.mu.Unlock()
	return z.Backend.Save(ctx, key, rec)
}

// keyed is a StoreKey that tells what a record is.
func keyed(token string) string {
	if kind, _, found := strings.Cut(token, "."); found {
		return kind + "." + session.DefaultStoreKey(token)
	}
	return session.DefaultStoreKey(token)
}

// TestNewIDsThatAreNotCompleted: a client that goes away in the middle of each
// new ID does not make the record of its owner grow, and so cannot keep the owner
// from logging in and from revoking.
func TestNewIDsThatAreNotCompleted(t *testing.T) {
	for _, more := range []int{0, 20} {
		var b sizer
		p := &process{Backend: &b}
		cfg := session.Config{Owners: session.OwnersConfig{Index: true}, StoreKey: keyed}
		m := newManager(t, p, cfg)
		s := login(t, m, session.Login{User: "ann"})
		for range more {
			login(t, m, session.Login{User: "ann"})
		}
		b.head = 0
		for range 300 {
			again := open(t, m, s.Token().Reveal())
			check(t, again.Rotate())
			ctx, cancel := context.WithCancel(ctx)
			p.hooks(nil, func(_ int, op, key string) error {
				if op == "Save" && strings.HasPrefix(key, "owner.") {
					cancel()
				}
				return nil
			})
			wantErr(t, again.Save(ctx), context.Canceled)
			p.hooks(nil, nil)
			cancel()
			check(t, again.Close(t.Context()))
		}
		if b.head > 2000 {
			t.Errorf("the record has %d bytes", b.head)
		}
		check(t, s.Rotate())
		check(t, s.Save(t.Context()))
		if !alive(t, m, s) || len(handles(t, m, session.User("ann"))) != 1+more {
			t.Error("it is not alive, or not listed")
		}
		check(t, m.Revoke(t.Context(), session.User("ann")))
		if alive(t, m, s) {
			t.Error("it is alive")
		}
	}
}

// TestSizesOfTheIndex: the record that each login writes stays short, however many
// sessions there are.
func TestSizesOfTheIndex(t *testing.T) {
	n := 10000
	if testing.Short() {
		n = 1000
	}
	for name, c := range map[string]session.Codec{"MessagePack": codec.MessagePack{}, "JSON": codec.JSON{}} {
		var b sizer
		m := newManager(t, &b, session.Config{Owners: session.OwnersConfig{Index: true}, StoreKey: keyed, Codec: c})
		for range n {
			login(t, m, session.Login{User: "ann"})
		}
		t.Logf("%s: %d logins, %d Saves of a head of %d bytes on average and %d at most, %d pages of at most %d",
			name, n, b.heads, b.headTotal/b.heads, b.head, b.pages, b.page)
		if b.head > 6000 || b.page > 20000 {
			t.Errorf("%s: a head of %d bytes, a page of %d", name, b.head, b.page)
		}
	}
}
