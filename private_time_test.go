//go:build go1.25

package session_test

import (
	"context"
	"maps"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/memory"
)

// privates notes which records are private.
type privates struct {
	memory.Backend
	is    map[string]bool
	stale *session.Record // is loaded, once
}

func (p *privates) Save(ctx context.Context, key string, rec session.Record) (session.Version, error) {
	p.is[key] = rec.Private
	return p.Backend.Save(ctx, key, rec)
}

func (p *privates) Load(ctx context.Context, key string) (session.Record, error) {
	if rec := p.stale; rec != nil {
		p.stale = nil
		return *rec, nil
	}
	return p.Backend.Load(ctx, key)
}

// TestPrivate checks that markers and the records of the index of owners are private,
// and sessions are not.
func TestPrivate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &privates{is: map[string]bool{}}
		m := newManager(t, b, session.Config{
			StoreKey: func(token string) string { return token }, Owners: session.OwnersConfig{Index: true},
		})
		s := m.Start()
		check(t, note.Set(s, "x"))
		check(t, s.Save(ctx))
		old := s.Token().Reveal()
		check(t, s.Login("ann"))
		check(t, s.Save(ctx))
		rest := maps.Clone(b.is)
		delete(rest, old)
		delete(rest, s.Token().Reveal())
		if !b.is[old] || b.is[s.Token().Reveal()] || len(rest) == 0 {
			t.Errorf("private are %v", b.is)
		}
		for key, private := range rest {
			if !private {
				t.Errorf("%s, of the index, is not private", key)
			}
		}

		// One that has expired is ended by a Save that would keep it if its deadline had
		// been moved.
		rec, err := b.Load(ctx, old)
		check(t, err)
		time.Sleep(time.Until(rec.Expires) + time.Second)
		b.is[old], b.stale = false, &rec
		_, err = m.Open(ctx, old)
		wantErr(t, err, session.ErrNotFound)
		if !b.is[old] {
			t.Error("a marker that is kept would become a session")
		}
	})
}
