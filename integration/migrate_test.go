package integration

import (
	"encoding/json"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/dynamodb"
	"github.com/seed-a7bee19b/session/conformance"
	"github.com/seed-a7bee19b/session/integration/proxy"
	"github.com/seed-a7bee19b/session/migrate"
)

// directions are the ways that sessions move between the stores.
func directions(t *testing.T, f func(t *testing.T, old, fresh address)) {
	for _, d := range [][2]*store{{redisStore, dynamoStore}, {dynamoStore, redisStore}} {
		t.Run(d[0].name+" to "+d[1].name, func(t *testing.T) {
			f(t, d[0].room(t), d[1].room(t))
		})
	}
}

// moving returns the backend of a server in phase p.
func moving(t testing.TB, old, fresh address, p migrate.Phase) session.LockingBackend {
	t.Helper()
	o, err := old.store().connect(old)
	if err != nil {
		t.Fatal(err)
	}
	n, err := fresh.store().connect(fresh)
	if err != nil {
		t.Fatal(err)
	}
	b, err := migrate.New(n, migrate.From(o, migrate.FromConfig{}), migrate.Config{Phase: p})
	if err != nil {
		t.Fatal(err)
	}
	return b.(session.LockingBackend)
}

// through returns an address behind a proxy that loses some requests and answers.
func through(t testing.TB, a address, seed uint64) address {
	t.Helper()
	l, err := a.store().link(a.URL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	l.SetRule(proxy.Random(seed, map[proxy.Fault]float64{proxy.DropRequest: 0.04, proxy.DropResponse: 0.04, proxy.Throttle: 0.02}))
	a.URL, a.Attempts = l.URL(), 2
	return a
}

// The contract holds on real stores, also between two servers.
func TestMigrateConformance(t *testing.T) {
	directions(t, func(t *testing.T, old, fresh address) {
		limit := 0
		if fresh.store() == dynamoStore {
			limit = 300 << 10
		}
		conformance.TestBackend(t, conformance.Backend{
			New:          func(t testing.TB) session.Backend { return moving(t, old, fresh, migrate.Move) },
			Reopen:       func(t testing.TB, _ session.Backend) session.Backend { return moving(t, old, fresh, migrate.Drain) },
			WantsLocking: true, WantsLister: true,
			MaxData: limit,
		})
	})
}

// Two servers use 200 sessions, of which a quarter log out, while requests and
// answers of both stores get lost, and while the rest is moved in bulk. No session is
// lost, no count is wrong, and no session comes back.
func TestMigrateStorm(t *testing.T) {
	for _, phases := range [][2]migrate.Phase{{migrate.Move, migrate.Move}, {migrate.Hold, migrate.Move}} {
		t.Run(phases[0].String()+" and "+phases[1].String(), func(t *testing.T) {
			directions(t, func(t *testing.T, old, fresh address) { migrateStorm(t, old, fresh, phases) })
		})
	}
}

func migrateStorm(t *testing.T, old, fresh address, phases [2]migrate.Phase) {
	const sessions, clients, times = 200, 4, 2
	manager := func(b session.Backend) *session.Manager {
		m, err := session.New(b, session.Config{MaxMerges: 1000})
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	before, err := old.store().connect(old)
	if err != nil {
		t.Fatal(err)
	}
	first := manager(before)
	type tally struct {
		mu            sync.Mutex
		token         string
		added, unsure int
		ended, maybe  bool
	}
	all := make([]*tally, sessions)
	for i := range all {
		s := first.Start()
		if err := errors.Join(visits.Set(s, 0), s.Save(t.Context())); err != nil {
			t.Fatal(err)
		}
		all[i] = &tally{token: s.Token().Reveal()}
	}
	var servers [2]*session.Manager
	for i, p := range phases {
		servers[i] = manager(moving(t, through(t, old, rand.Uint64()), through(t, fresh, rand.Uint64()), p))
	}
	var wg sync.WaitGroup
	for c := range clients {
		wg.Go(func() {
			for _, i := range rand.Perm(sessions) {
				ta, m := all[i], servers[c%2]
				leaves := c == 0 && i%4 == 0
				for try := range times {
					ta.mu.Lock()
					ended := ta.ended
					ta.mu.Unlock()
					s, err := m.Open(t.Context(), ta.token)
					wrote := false
					switch {
					case err != nil:
					case leaves && try == times-1:
						ta.mu.Lock()
						ta.maybe = true
						ta.mu.Unlock()
						err = s.Destroy(t.Context())
						ta.mu.Lock()
						ta.ended = ta.ended || err == nil
						ta.mu.Unlock()
					default:
						wrote = true
						if _, err = visits.Update(s, inc); err == nil {
							err = s.Save(t.Context())
						}
					}
					ta.mu.Lock()
					switch {
					case err == nil && wrote && ended:
						t.Error("revived: a Save after the logout")
					case err == nil && wrote:
						ta.added++
					case errors.Is(err, session.ErrStore):
						if wrote {
							ta.unsure++
						}
					case err != nil && !ta.maybe:
						t.Errorf("lost: %v", err)
					}
					ta.mu.Unlock()
				}
			}
		})
	}
	if phases[0] != migrate.Hold {
		wg.Go(func() {
			o, oerr := old.store().connect(through(t, old, rand.Uint64()))
			n, nerr := fresh.store().connect(through(t, fresh, rand.Uint64()))
			if err := errors.Join(oerr, nerr); err != nil {
				t.Error(err)
				return
			}
			// A list that fails is not an error here: the servers go on.
			_, _ = migrate.All(t.Context(), n, o, migrate.Options{Workers: 2, OnError: func(error) error { return nil }})
		})
	}
	wg.Wait()

	check := manager(moving(t, old, fresh, migrate.Move))
	for i, ta := range all {
		s, err := check.Open(t.Context(), ta.token)
		switch {
		case ta.ended:
			if !errors.Is(err, session.ErrNotFound) {
				t.Errorf("session %d is there after the logout: %v", i, err)
			}
			continue
		case ta.maybe && errors.Is(err, session.ErrNotFound):
			continue
		case err != nil:
			t.Errorf("session %d is lost: %v", i, err)
			continue
		}
		n, err := visits.Get(s)
		if err != nil || n < ta.added || n > ta.added+ta.unsure {
			t.Errorf("session %d has counted %d, %v; want %d, or up to %d more", i, n, err, ta.added, ta.unsure)
		}
	}
}

// TestSessionctlMigrate moves a store with the program, and back.
func TestSessionctlMigrate(t *testing.T) {
	c := buildSessionctl(t)
	table, room := newTable(t, dynamodb.Config{}).Table, redisStore.room(t)
	old, err := redisStore.connect(room)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	const sessions = 30
	for i := range sessions {
		rec := session.Record{Data: []byte{0x80}, Created: now, Expires: now.Add(time.Hour)}
		if _, err := old.Save(t.Context(), string(rune('a'+i)), rec); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := old.Acquire(t.Context(), "a", time.Hour); err != nil {
		t.Fatal(err)
	}
	there := []string{
		"migrate", "--redis", "redis://" + room.URL, "--prefix", room.Room, "--to-table", table,
		"--to-region", "us-east-1", "--to-endpoint", local.Endpoint, "--json",
	}
	run := func(code int, moved, rest, locked int64, args ...string) {
		t.Helper()
		var got struct {
			Moved, Rest, Locked int64
			Empty               bool
		}
		if err := json.Unmarshal([]byte(c.run(t, code, "", "", args...)), &got); err != nil {
			t.Fatal(err)
		}
		if got.Moved != moved || got.Rest != rest || got.Locked != locked || got.Empty != (rest == 0) {
			t.Errorf("%q: got %+v, want %d moved, %d left, of which %d locked", args, got, moved, rest, locked)
		}
	}
	run(3, sessions, sessions, 0, append(there, "--dry-run")...)
	run(3, sessions-1, 1, 1, append(there, "--rate=1000")...)
	if err := old.Delete(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	run(0, 0, 0, 0, there...)
	back := on(table, "migrate", "--to-redis", "redis://"+room.URL, "--to-prefix", room.Room, "--json")
	run(0, sessions-1, 0, 0, back...)
	run(3, sessions-1, sessions-1, 0, append(there, "--dry-run")...)
}
