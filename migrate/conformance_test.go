package migrate_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/memory"
	"github.com/seed-a7bee19b/session/conformance"
	"github.com/seed-a7bee19b/session/migrate"
)

// plain is a Source of one's own.
type plain struct{ old session.Backend }

func (p plain) Load(ctx context.Context, key string) (session.Record, error) {
	return p.old.Load(ctx, key)
}

func (p plain) Remove(ctx context.Context, key string, loaded session.Record) error {
	loaded.Expires = time.Unix(0, 0)
	_, err := p.old.Save(ctx, key, loaded)
	var conflict *session.ConflictError
	if errors.As(err, &conflict) && conflict.Gone {
		return session.ErrNotFound
	}
	return err
}

func open(t testing.TB, fresh session.Backend, source migrate.Source, cfg migrate.Config) session.Backend {
	t.Helper()
	b, err := migrate.New(fresh, source, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// stores are the two stores behind a backend of this package.
type stores struct{ fresh, old session.Backend }

func (s stores) from() migrate.Source { return migrate.From(s.old, migrate.FromConfig{}) }

// The contract holds in every phase, and also between two servers. Left out are Hold
// beside Move: there a record moves when the second server reads it, and has another
// version then. The Manager of the first one meets a conflict that it need not have
// met, and merges.
func TestConformance(t *testing.T) {
	phase := func(p migrate.Phase) func(testing.TB, stores) session.Backend {
		return func(t testing.TB, s stores) session.Backend {
			return open(t, s.fresh, s.from(), migrate.Config{Phase: p})
		}
	}
	source := func(t testing.TB, s stores) session.Backend {
		return open(t, s.fresh, plain{s.old}, migrate.Config{})
	}
	for _, tt := range []struct {
		name      string
		one, both func(testing.TB, stores) session.Backend
	}{
		{"Hold", phase(migrate.Hold), phase(migrate.Hold)},
		{"Move", phase(migrate.Move), phase(migrate.Move)},
		{"Drain", phase(migrate.Drain), phase(migrate.Drain)},
		{"Gone", phase(migrate.Gone), phase(migrate.Gone)},
		{"OldAndHold", func(_ testing.TB, s stores) session.Backend { return s.old }, phase(migrate.Hold)},
		{"HoldAndOld", phase(migrate.Hold), func(_ testing.TB, s stores) session.Backend { return s.old }},
		{"MoveAndDrain", phase(migrate.Move), phase(migrate.Drain)},
		{"DrainAndMove", phase(migrate.Drain), phase(migrate.Move)},
		{"HoldAndBack", phase(migrate.Hold), func(t testing.TB, s stores) session.Backend {
			return open(t, s.old, migrate.From(s.fresh, migrate.FromConfig{}), migrate.Config{})
		}},
		{"BackAndHold", func(t testing.TB, s stores) session.Backend {
			return open(t, s.old, migrate.From(s.fresh, migrate.FromConfig{}), migrate.Config{})
		}, phase(migrate.Hold)},
		{"Source", source, source},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var behind sync.Map
			conformance.TestBackend(t, conformance.Backend{
				New: func(t testing.TB) session.Backend {
					s := stores{&memory.Backend{}, &memory.Backend{}}
					b := tt.one(t, s)
					behind.Store(b, s)
					return b
				},
				Reopen: func(t testing.TB, b session.Backend) session.Backend {
					s, _ := behind.Load(b)
					return tt.both(t, s.(stores))
				},
				WantsLocking: true,
			})
		})
	}
}
