package migrate_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/memory"
	"github.com/seed-a7bee19b/session/migrate"
)

type lastSave struct{ session.Backend }

func (b lastSave) Save(ctx context.Context, key string, rec session.Record) (session.Version, error) {
	_, err := b.Backend.Save(ctx, key, rec)
	return "", errors.Join(err, errors.New("no answer"))
}

// A server dies after the copy, and one in phase Hold prolongs the session before
// another server completes the move.
func TestMoveKeepsALaterDeadline(t *testing.T) {
	ctx, now, key := t.Context(), time.Now(), session.DefaultStoreKey("token")
	fresh, err := memory.New(memory.Config{})
	if err != nil {
		t.Fatal(err)
	}
	old, err := memory.New(memory.Config{})
	if err != nil {
		t.Fatal(err)
	}
	rec := session.Record{Data: []byte("data"), Created: now, Expires: now.Add(time.Hour)}
	if _, err := old.Save(ctx, key, rec); err != nil {
		t.Fatal(err)
	}
	load := func(b session.Backend) (session.Record, error) {
		m, err := migrate.New(b, migrate.From(old, migrate.FromConfig{}), migrate.Config{})
		if err != nil {
			t.Fatal(err)
		}
		return m.Load(ctx, key)
	}
	if _, err := load(lastSave{fresh}); err == nil {
		t.Fatal("the copy was answered")
	}
	later := now.Add(5 * time.Hour)
	if err := old.Touch(ctx, key, later); err != nil {
		t.Fatal(err)
	}
	if rec, err := load(fresh); err != nil || rec.Expires.Before(later) {
		t.Fatalf("moved: expires in %v, %v; want 5 hours", rec.Expires.Sub(now), err)
	}
	if rec, err := fresh.Load(ctx, key); err != nil || rec.Expires.Before(later) {
		t.Fatalf("stored: expires in %v, %v; want 5 hours", rec.Expires.Sub(now), err)
	}
}
