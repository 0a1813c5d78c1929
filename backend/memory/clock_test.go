package memory

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session"
)

// A call that waits for its shard reads the clock when it has the shard: by then
// another caller may have been told that the record has expired.
func TestExpiresWhileWaiting(t *testing.T) {
	ctx := context.Background()
	for name, call := range map[string]func(*Backend, session.Record) error{
		"Load":    func(b *Backend, _ session.Record) error { _, err := b.Load(ctx, "k"); return err },
		"Save":    func(b *Backend, rec session.Record) error { _, err := b.Save(ctx, "k", rec); return err },
		"Touch":   func(b *Backend, rec session.Record) error { return b.Touch(ctx, "k", rec.Expires) },
		"Acquire": func(b *Backend, _ session.Record) error { _, err := b.Acquire(ctx, "k", time.Minute); return err },
	} {
		var b Backend
		rec := session.Record{Created: time.Now(), Expires: time.Now().Add(50 * time.Millisecond)}
		var err error
		if rec.Version, err = b.Save(ctx, "k", rec); err != nil {
			t.Fatal(err)
		}
		s := b.shard("k")
		s.mu.Lock()
		done := make(chan error)
		go func() { done <- call(&b, session.Record{Expires: time.Now().Add(time.Hour), Version: rec.Version}) }()
		time.Sleep(100 * time.Millisecond)
		s.mu.Unlock()
		if err := <-done; !errors.Is(err, session.ErrNotFound) {
			t.Errorf("%s of a record that has expired: %v", name, err)
		}
	}
}
