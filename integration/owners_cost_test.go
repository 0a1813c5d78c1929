package integration

import (
	"context"
	"errors"
	"flag"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/memory"
	"github.com/seed-a7bee19b/session/integration/proxy"
)

var ann = session.User("ann")

// loggedIn returns a session of ann.
func loggedIn(t testing.TB, m *session.Manager) *session.Session {
	t.Helper()
	s := m.Start()
	if err := errors.Join(s.Login(ann.ID), note.Set(s, "kept"), s.Save(t.Context())); err != nil {
		t.Fatal(err)
	}
	return s
}

// TestCostOfOwners counts the requests of sessions that are listed, and of such
// that are not.
func TestCostOfOwners(t *testing.T) {
	type op struct {
		name  string
		other int // requests more than without an index
		do    func(ctx context.Context, m *session.Manager, token string) error
	}
	opened := func(f func(ctx context.Context, s *session.Session) error) func(context.Context, *session.Manager, string) error {
		return func(ctx context.Context, m *session.Manager, token string) error {
			s, err := m.Open(ctx, token)
			if err != nil {
				return err
			}
			return errors.Join(f(ctx, s), s.Close(ctx))
		}
	}
	saved := func(change func(s *session.Session) error) func(context.Context, *session.Manager, string) error {
		return opened(func(ctx context.Context, s *session.Session) error { return errors.Join(change(s), s.Save(ctx)) })
	}
	ops := []op{
		{"read", 0, opened(func(_ context.Context, s *session.Session) error { return errOf(note.Get(s)) })},
		{"write", 0, saved(func(s *session.Session) error { return note.Set(s, "changed") })},
		{"new ID", 2, saved((*session.Session).Rotate)},
		{"login again", 2, saved(func(s *session.Session) error { return s.Login(ann.ID) })},
		{"login", 2, func(ctx context.Context, m *session.Manager, _ string) error {
			s := m.Start()
			return errors.Join(s.Login(ann.ID), s.Save(ctx))
		}},
		{"login of a visitor", 2, func(ctx context.Context, m *session.Manager, _ string) error {
			s := m.Start()
			return errors.Join(note.Set(s, "cart"), s.Save(ctx), s.Login(ann.ID), s.Save(ctx))
		}},
		{"logout", 0, opened(func(ctx context.Context, s *session.Session) error { return s.Destroy(ctx) })},
	}
	eachStore(t, func(t *testing.T, a address) {
		at, l := a.through(t)
		count := func(m *session.Manager, do func(context.Context, *session.Manager, string) error, token string) proxy.Count {
			t.Helper()
			l.Reset()
			if err := do(t.Context(), m, token); err != nil {
				t.Fatal(err)
			}
			return total(l)
		}
		plain, listed := at.manager(t, session.Config{}), at.manager(t, withOwners)
		for _, o := range ops {
			for _, m := range []*session.Manager{plain, listed} { // a first command may need its script
				count(m, o.do, loggedIn(t, m).Token().Reveal())
			}
			without, with := count(plain, o.do, loggedIn(t, plain).Token().Reveal()), count(listed, o.do, loggedIn(t, listed).Token().Reveal())
			t.Logf("%-18s %d requests and %d if listed; %v and %v units", o.name, without.Requests, with.Requests, without.Capacity, with.Capacity)
			other := o.other
			if a.store() == redisStore {
				other /= 2 // the link counts no Loads
			}
			if with.Requests != without.Requests+other {
				t.Errorf("%s: %d requests, and %d if listed, want %d more", o.name, without.Requests, with.Requests, other)
			}
			if err := listed.Revoke(t.Context(), ann); err != nil {
				t.Fatal(err)
			}
		}
		revoke := func(ctx context.Context, m *session.Manager, _ string) error { return m.Revoke(ctx, ann) }
		for _, n := range []int{1, 2, 5, 15} {
			for range n {
				loggedIn(t, listed)
			}
			got := count(listed, revoke, "")
			t.Logf("revoking %d sessions: %d requests, %v units", n, got.Requests, got.Capacity)
			if got.Requests > n+3 {
				t.Errorf("revoking %d sessions: %d requests, want at most %d", n, got.Requests, n+3)
			}
		}
	})
}

// TestConcurrentLoginsOfOneOwner has ten processes log in one user at the same time,
// several times over.
func TestConcurrentLoginsOfOneOwner(t *testing.T) {
	const processes, rounds = 10, 5
	eachStore(t, func(t *testing.T, a address) {
		var managers []*session.Manager
		var links []link
		for range processes {
			at, l := a.through(t)
			managers, links = append(managers, at.manager(t, withOwners)), append(links, l)
			loggedIn(t, managers[len(managers)-1])
		}
		for _, l := range links {
			l.Reset()
		}
		began, longest := time.Now(), time.Duration(0)
		for range rounds {
			took, err := contend(processes, 0, func() func() error {
				var next atomic.Int32
				return func() error {
					m := managers[next.Add(1)-1]
					s := m.Start()
					return errors.Join(s.Login(ann.ID), s.Save(t.Context()))
				}
			}())
			if err != nil {
				t.Fatal(err)
			}
			longest = max(longest, took)
		}
		n := 0
		for _, err := range managers[0].Sessions(t.Context(), ann) {
			if err != nil {
				t.Fatal(err)
			}
			n++
		}
		if want := processes * (rounds + 1); n != want {
			t.Errorf("%d are listed, want %d", n, want)
		}
		// Without a conflict each has 1 to create the session, and 2 to list it.
		requests := total(links...).Requests - n - 1 // but those of the list
		t.Logf("%d logins, %d at a time: %s requests for each, of which 3 are needed; %v, and the longest %v",
			processes*rounds, processes, perLock(requests, processes*rounds), time.Since(began).Round(time.Millisecond), longest.Round(time.Millisecond))
	})
}

var ownedSessions = flag.Int("owners.sessions", 300, "sessions that one owner has on DynamoDB in the test of large owners")

// TestLargeOwner has an owner with many sessions. It reports how long listing and
// revoking them takes, how much memory, and how large the records are.
func TestLargeOwner(t *testing.T) {
	t.Run("memory", func(t *testing.T) { // alone, as it measures the heap
		b := &measured{Backend: &memory.Backend{}, largest: map[string]int{}}
		cfg := withOwners
		cfg.StoreKey = func(token string) string { return token }
		listing, revoking := largeOwner(t, b, cfg, 10_000)
		t.Logf("the largest records: %v bytes", b.largest)
		// DynamoDB stores 400 KB, and bills a write for each KB.
		if b.largest["owner"] > 3<<10 || b.largest["page"] > 20<<10 {
			t.Error("the records are larger than is documented")
		}
		if listing > 4<<20 || revoking > 4<<20 {
			t.Errorf("a list takes %d KB, and a revocation %d KB", listing>>10, revoking>>10)
		}
	})
	t.Run("DynamoDB", func(t *testing.T) {
		t.Parallel()
		at, l := dynamoStore.room(t).through(t)
		largeOwner(t, at.backend(t), withOwners, *ownedSessions)
		for op, n := range l.Counts() {
			t.Logf("%s: %s requests and %.2f units for each session", op, perLock(n.Requests, *ownedSessions), n.Capacity/float64(*ownedSessions))
		}
	})
}

// largeOwner has ann log in so many times, lists her sessions and revokes them. It
// returns how much memory the list and the revocation took.
func largeOwner(t *testing.T, b session.Backend, cfg session.Config, n int) (listing, revoking int64) {
	t.Helper()
	m, err := session.New(b, cfg)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	took := func() time.Duration {
		d := time.Since(began).Round(time.Millisecond)
		began = time.Now()
		return d
	}
	var tokens []string
	for range n {
		tokens = append(tokens, loggedIn(t, m).Token().Reveal())
	}
	t.Logf("%d logins in %v", n, took())
	listed := 0
	listing = peak(func() {
		for _, err := range m.Sessions(t.Context(), ann) {
			if err != nil {
				t.Fatal(err)
			}
			listed++
		}
	})
	t.Logf("listed in %v, with %d KB more memory", took(), listing>>10)
	if listed != n {
		t.Errorf("%d are listed, want %d", listed, n)
	}
	revoking = peak(func() {
		if err := m.Revoke(t.Context(), ann); err != nil {
			t.Fatal(err)
		}
	})
	t.Logf("revoked in %v, with %d KB more memory", took(), revoking>>10)
	for i, token := range tokens {
		if i%(1+n/200) != 0 {
			continue
		}
		if _, err := m.Open(t.Context(), token); !errors.Is(err, session.ErrNotFound) {
			t.Fatalf("session %d: %v", i, err)
		}
	}
	for e, err := range m.Sessions(t.Context(), ann) {
		t.Fatalf("%+v, %v is listed", e, err)
	}
	return listing, revoking
}

// peak returns by how much f makes the heap grow, as far as samples of what is in
// use after a collection tell.
func peak(f func()) int64 {
	inUse := func() int64 {
		var s runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&s)
		return int64(s.HeapAlloc)
	}
	before := inUse()
	var most atomic.Int64
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			most.Store(max(most.Load(), inUse()-before))
			select {
			case <-done:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	})
	f()
	close(done)
	wg.Wait()
	return most.Load()
}

// measured has the sizes of the largest records that were stored: those of owners,
// of pages and of sessions.
type measured struct {
	session.Backend
	mu      sync.Mutex
	largest map[string]int
}

func (b *measured) Save(ctx context.Context, key string, rec session.Record) (session.Version, error) {
	kind, _, ok := strings.Cut(key, ".")
	if !ok {
		kind = "session"
	}
	b.mu.Lock()
	b.largest[kind] = max(b.largest[kind], len(rec.Data))
	b.mu.Unlock()
	return b.Backend.Save(ctx, key, rec)
}
