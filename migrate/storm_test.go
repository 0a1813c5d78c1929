package migrate_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/memory"
	"github.com/seed-a7bee19b/session/migrate"
)

// Two servers use 200 sessions at once, of which a quarter are logged out, while
// both stores are slow and fail, before and after they have applied a request.
// Meanwhile everything is moved in bulk.
func TestStorm(t *testing.T) {
	for _, tt := range []struct {
		name     string
		source   bool
		one, two migrate.Phase
	}{
		{"Hold and Move", false, migrate.Hold, migrate.Move},
		{"Move", false, migrate.Move, migrate.Move},
		{"Move and Drain", false, migrate.Move, migrate.Drain},
		{"Source", true, migrate.Move, migrate.Move},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			storm(t, tt.source, tt.one, tt.two)
		})
	}
}

func storm(t *testing.T, source bool, one, two migrate.Phase) {
	t.Helper()
	const sessions, clients = 200, 4
	var faulty atomic.Bool
	s := stores{flaky{&memory.Backend{}, 0.05, &faulty}, flaky{&memory.Backend{}, 0.05, &faulty}}
	var from migrate.Source = plain{s.old}
	if !source {
		from = s.from()
	}
	servers := []session.Backend{
		open(t, s.fresh, from, migrate.Config{Phase: one}),
		open(t, s.fresh, from, migrate.Config{Phase: two}),
	}
	type tally struct {
		mu            sync.Mutex
		added, unsure int
		ended, maybe  bool
	}
	tallies := make([]*tally, sessions)
	key := func(i int) string { return fmt.Sprint("key-", i) }
	now := time.Now()
	for i := range tallies {
		tallies[i] = &tally{}
		_, err := s.old.Save(t.Context(), key(i), session.Record{Data: []byte("0"), Created: now, Expires: now.Add(time.Hour)})
		if err != nil {
			t.Fatal(err)
		}
	}
	faulty.Store(true)
	var g group
	for c := range clients {
		g.Go(func() {
			for _, i := range rand.Perm(sessions) {
				ta := tallies[i]
				for range 4 {
					b := servers[rand.IntN(2)]
					me := &counter{t: t, b: b, key: key(i)}
					if c == 0 && i%4 == 0 && rand.IntN(3) == 0 {
						err := me.end()
						ta.mu.Lock()
						ta.maybe = true
						ta.ended = ta.ended || err == nil
						ta.mu.Unlock()
						if err != nil && !errors.Is(err, errFault) {
							t.Errorf("logout: %v", err)
						}
						continue
					}
					ta.mu.Lock()
					ended := ta.ended
					ta.mu.Unlock()
					ok, err := me.add()
					ta.mu.Lock()
					switch {
					case ok && ended:
						t.Error("revived: a number was stored after the logout")
					case ok:
						ta.added++
					case errors.Is(err, errFault):
						ta.unsure++
					case errors.Is(err, session.ErrNotFound) && i%4 != 0:
						t.Error("lost: an add finds no session")
					case !errors.Is(err, session.ErrNotFound):
						t.Errorf("add: %v", err)
					}
					ta.mu.Unlock()
				}
			}
		})
	}
	if !source && one != migrate.Hold {
		g.Go(func() {
			_, err := migrate.All(t.Context(), s.fresh, s.old, migrate.Options{OnError: func(err error) error {
				if errors.Is(err, errFault) {
					return nil
				}
				return err
			}})
			if err != nil && !errors.Is(err, errFault) {
				t.Errorf("All: %v", err)
			}
		})
	}
	g.Wait()
	faulty.Store(false)
	for i, ta := range tallies {
		for _, b := range append(servers, servers...) {
			rec, err := b.Load(t.Context(), key(i))
			n, _ := strconv.Atoi(string(rec.Data))
			switch {
			case ta.ended && !errors.Is(err, session.ErrNotFound):
				t.Errorf("session %d is there after the logout: %q, %v", i, rec.Data, err)
			case ta.ended, ta.maybe && errors.Is(err, session.ErrNotFound):
			case err != nil:
				t.Errorf("session %d is lost: %v", i, err)
			case n < ta.added || n > ta.added+ta.unsure:
				t.Errorf("session %d has %d, want %d, or up to %d more", i, n, ta.added, ta.unsure)
			}
		}
	}
}
