package migrate_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/memory"
	"github.com/seed-a7bee19b/session/migrate"
)

// counted counts the requests of a store.
type counted struct {
	*memory.Backend
	n map[string]int
}

func (c counted) Load(ctx context.Context, key string) (session.Record, error) {
	c.n["Load"]++
	return c.Backend.Load(ctx, key)
}

func (c counted) Save(ctx context.Context, key string, rec session.Record) (session.Version, error) {
	c.n["Save"]++
	return c.Backend.Save(ctx, key, rec)
}

func (c counted) Touch(ctx context.Context, key string, expires time.Time) error {
	c.n["Touch"]++
	return c.Backend.Touch(ctx, key, expires)
}

func (c counted) Delete(ctx context.Context, key string) error {
	c.n["Delete"]++
	return c.Backend.Delete(ctx, key)
}

func (c counted) Acquire(ctx context.Context, key string, ttl time.Duration) (session.Record, error) {
	c.n["Acquire"]++
	return c.Backend.Acquire(ctx, key, ttl)
}

// The requests that docs/migration.md names.
func TestCost(t *testing.T) {
	now := time.Now()
	rec := session.Record{Data: []byte("x"), Created: now, Expires: now.Add(time.Hour)}
	load := func(b session.Backend) error { _, err := b.Load(t.Context(), "k"); return err }
	create := func(b session.Backend) error { _, err := b.Save(t.Context(), "new", rec); return err }
	touch := func(b session.Backend) error { return b.Touch(t.Context(), "k", now.Add(2*time.Hour)) }
	remove := func(b session.Backend) error { return b.Delete(t.Context(), "k") }
	acquire := func(b session.Backend) error {
		_, err := b.(session.LockingBackend).Acquire(t.Context(), "k", time.Minute)
		return err
	}
	unknown := func(b session.Backend) error {
		if _, err := b.Load(t.Context(), "unknown"); !errors.Is(err, session.ErrNotFound) {
			return fmt.Errorf("got %w", err)
		}
		return nil
	}
	type call = func(session.Backend) error
	for _, tt := range []struct {
		name       string
		phase      migrate.Phase
		source     bool
		first      call // not counted
		call       call
		fresh, old string
	}{
		{"a move", migrate.Move, false, nil, load, "map[Load:1 Save:2]", "map[Load:1 Save:1]"},
		{"a move from a Source", migrate.Move, true, nil, load, "map[Load:1 Save:2]", "map[Load:1 Save:1]"},
		{"Load", migrate.Move, false, load, load, "map[Load:1]", "map[]"},
		{"Load beside a Source", migrate.Move, true, load, load, "map[Load:1]", "map[]"},
		{"create", migrate.Move, false, nil, create, "map[Save:1]", "map[]"},
		{"Touch", migrate.Move, false, load, touch, "map[Load:1 Touch:1]", "map[]"},
		{"Acquire", migrate.Move, false, load, acquire, "map[Acquire:1 Load:1]", "map[]"},
		{"Delete", migrate.Move, false, load, remove, "map[Delete:1]", "map[Delete:1]"},
		{"Delete beside a Source", migrate.Move, true, load, remove, "map[Delete:1 Save:1]", "map[Load:1]"},
		{"unknown", migrate.Move, false, nil, unknown, "map[Load:1]", "map[Load:1]"},
		{"unknown beside a Source", migrate.Move, true, nil, unknown, "map[Load:2]", "map[Load:1]"},
		{"Load in Drain", migrate.Drain, false, load, load, "map[Load:1]", "map[]"},
		{"Load in Gone", migrate.Gone, false, nil, unknown, "map[Load:1]", "map[]"},
		{"Load in Hold", migrate.Hold, false, nil, load, "map[]", "map[Load:1]"},
		{"create in Hold", migrate.Hold, false, nil, create, "map[Save:1]", "map[Save:1]"},
		{"Touch in Hold", migrate.Hold, false, nil, touch, "map[]", "map[Load:1 Touch:1]"},
		{"Acquire in Hold", migrate.Hold, false, nil, acquire, "map[]", "map[Acquire:1 Load:1]"},
		{"Delete in Hold", migrate.Hold, false, nil, remove, "map[Delete:1]", "map[Delete:1]"},
		{"unknown in Hold", migrate.Hold, false, nil, unknown, "map[Load:1]", "map[Load:1]"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			fresh := counted{&memory.Backend{}, map[string]int{}}
			old := counted{&memory.Backend{}, map[string]int{}}
			if _, err := old.Save(t.Context(), "k", rec); err != nil {
				t.Fatal(err)
			}
			source := migrate.From(old, migrate.FromConfig{})
			if tt.source {
				source = plain{old}
			}
			b := open(t, fresh, source, migrate.Config{Phase: tt.phase})
			if tt.first != nil {
				if err := tt.first(b); err != nil {
					t.Fatal(err)
				}
			}
			clear(fresh.n)
			clear(old.n)
			if err := tt.call(b); err != nil {
				t.Fatal(err)
			}
			if got := fmt.Sprint(fresh.n); got != tt.fresh {
				t.Errorf("the new store got %s, want %s", got, tt.fresh)
			}
			if got := fmt.Sprint(old.n); got != tt.old {
				t.Errorf("the old store got %s, want %s", got, tt.old)
			}
		})
	}
}
