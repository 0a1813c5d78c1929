package integration

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/memory"
	"github.com/seed-a7bee19b/session/integration/proxy"
)

// now reads a clock that all processes of the machine share, and that is never
// set.
func now() int64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		panic(err)
	}
	return t.Nano()
}

// A chronicler makes random calls of a backend, and records them.
type chronicler struct {
	client int
	b      session.LockingBackend
	rng    *rand.Rand
	known  map[string]*known
	n      int // of data and locks so far
	ops    []op
}

// known is the state of a key that a chronicler knows. It may be out of date.
type known struct {
	version, holder session.Version // the holder's own is kept after its lease has ended
	data, held      string
	lock            string
}

func newChronicler(client int, b session.LockingBackend, seed uint64) *chronicler {
	return &chronicler{client: client, b: b, rng: rand.New(rand.NewPCG(seed, uint64(client))), known: map[string]*known{}}
}

// leases are short, so that many run out.
var leases = []time.Duration{15 * time.Millisecond, 40 * time.Millisecond, 120 * time.Millisecond}

// round makes n calls for keys.
func (c *chronicler) round(ctx context.Context, keys []string, n int) {
	for range n {
		key := keys[c.rng.IntN(len(keys))]
		k := c.known[key]
		if k == nil {
			k = &known{}
			c.known[key] = k
		}
		c.call(ctx, key, k, 0)
		if last := c.ops[len(c.ops)-1]; last.Kind == opAcquire && last.Result == isOK && c.rng.IntN(4) == 0 {
			// Come late, and check whether that is noticed.
			time.Sleep(time.Duration(last.TTL) + leases[0])
			c.call(ctx, key, k, c.rng.IntN(3)+1)
		}
		switch x := c.rng.IntN(100); {
		case x < 8:
			time.Sleep(leases[1] + leases[0])
		case x < 40:
			time.Sleep(time.Duration(c.rng.IntN(8)) * time.Millisecond)
		}
	}
}

// call makes one random call; calls that make sense are likelier. If late is not
// zero, it is one of the holder's.
func (c *chronicler) call(ctx context.Context, key string, k *known, late int) {
	c.n++
	name := fmt.Sprintf("%d.%d", c.client, c.n)
	o := op{Client: c.client, Key: key}
	weight := map[kind]int{opLoad: 25, opSave: 25, opAcquire: 20, opDelete: 2, opTouch: 2}
	if k.lock != "" {
		weight[opExtend], weight[opRelease] = 12, 12
	}
	sum := 0
	order := []kind{opLoad, opSave, opAcquire, opDelete, opTouch, opExtend, opRelease}
	for _, kind := range order {
		sum += weight[kind]
	}
	x := c.rng.IntN(sum)
	for _, kind := range order {
		if x -= weight[kind]; x < 0 {
			o.Kind = kind
			break
		}
	}
	if late > 0 {
		o.Kind = []kind{opSave, opExtend, opRelease}[late-1]
	}
	ttl := leases[c.rng.IntN(len(leases))]
	expires := time.Now().Add(time.Hour)
	rec := session.Record{Data: []byte(name), Created: time.Now(), Expires: expires}

	var got session.Record
	var err error
	switch o.Kind {
	case opLoad:
		wall := time.Now()
		o.Call = now()
		got, err = c.b.Load(ctx, key)
		o.Return = now()
		o.Locked = got.LockedUntil.After(wall)
		if err == nil {
			o.Data, o.State = string(got.Data), fmt.Sprintf("%x", got.Version)
			k.version, k.data = got.Version, o.Data
		}
	case opSave:
		o.Data = name
		switch x := c.rng.IntN(10); {
		case k.lock != "" && (x < 7 || late > 0):
			o.Lock, o.Base, rec.Version = k.lock, k.held, k.holder
		case k.version != "" && x < 9 || k.lock != "":
			o.Base, rec.Version = k.data, k.version
		}
		o.Call = now()
		v, serr := c.b.Save(ctx, key, rec)
		o.Return = now()
		if err = serr; err == nil {
			o.State = fmt.Sprintf("%x", v)
			k.version, k.data = v, name
			if o.Lock != "" && c.rng.IntN(3) > 0 { // else try again with a lock that has ended
				k.lock = ""
			}
		}
		var conflict *session.ConflictError
		if errors.As(err, &conflict) && conflict.Current != nil && c.rng.IntN(2) == 0 {
			k.version, k.data = conflict.Current.Version, string(conflict.Current.Data)
		}
	case opAcquire:
		o.Lock, o.TTL = name, int64(ttl)
		o.Call = now()
		got, err = c.b.Acquire(ctx, key, ttl)
		o.Return = now()
		if err == nil {
			o.Data = string(got.Data)
			k.holder, k.held, k.lock = got.Version, o.Data, name
		}
	case opExtend:
		o.Lock, o.TTL = k.lock, int64(ttl)
		o.Call = now()
		err = c.b.Extend(ctx, key, k.holder, ttl)
		o.Return = now()
	case opRelease:
		o.Lock = k.lock
		var move time.Time
		if c.rng.IntN(2) == 0 {
			move = expires
		}
		o.Call = now()
		err = c.b.Release(ctx, key, k.holder, move)
		o.Return = now()
		if err == nil && c.rng.IntN(2) == 0 {
			k.lock = ""
		}
	case opDelete:
		o.Call = now()
		err = c.b.Delete(ctx, key)
		o.Return = now()
	case opTouch:
		o.Call = now()
		err = c.b.Touch(ctx, key, expires)
		o.Return = now()
	}
	switch {
	case err == nil:
		o.Result = isOK
	case errors.Is(err, session.ErrLocked):
		o.Result = isLocked
	case errors.Is(err, session.ErrConflict) && errors.Is(err, session.ErrNotFound):
		o.Result = isGone
		if c.rng.IntN(2) == 0 {
			k.version, k.data = "", "" // the next Save creates
		}
	case errors.Is(err, session.ErrConflict):
		o.Result = isConflict
	case errors.Is(err, session.ErrNotFound):
		o.Result = isNotFound
	default:
		o.Result, o.Err = isUnknown, err.Error()
	}
	c.ops = append(c.ops, o)
}

const historyCalls = 40 // of each process in each round

// history is the job of a process that makes random calls, in rounds: one list
// of keys for each.
func (w *worker) history() error {
	c := newChronicler(w.From, w.backend, w.Seed)
	w.tell(event{Kind: "ready"})
	for {
		var keys []string
		for range w.Count {
			keys = append(keys, w.hear())
		}
		c.round(w.ctx, keys, historyCalls)
		w.tell(event{Kind: "round", Ops: c.ops})
		c.ops = nil
	}
}

// TestHistories has processes make random calls of the backend, while requests
// and responses get lost. It checks that the results can be explained by one
// order of all calls, in which each call comes between its beginning and its
// end, and does what the contract says.
func TestHistories(t *testing.T) {
	const processes, rounds, keys = 5, 10, 3
	eachBackend(t, func(t *testing.T, a address) {
		seed := seed(t)
		var procs []*process
		requests, responses := make([]losses, processes), make([]losses, processes)
		for i := range processes {
			at, l := a.through(t)
			at.Attempts = 2 // so that some outcomes are unknown
			faults := a.store().faulty(seed + uint64(i))
			l.SetRule(func(r proxy.Request) proxy.Action {
				act := faults(r)
				switch act.Fault {
				case proxy.DropRequest, a.store().mistaken:
					act.Before = requests[i].add
				case proxy.DropResponse:
					act.After = responses[i].add
				}
				return act
			})
			p := start(t, job{Kind: "history", Name: fmt.Sprint("p", i), At: at, From: i, Count: keys, Seed: seed})
			procs = append(procs, p)
		}
		for _, p := range procs {
			p.wait("ready")
		}
		calls, results := 0, map[string]int{}
		for round := range rounds {
			for _, p := range procs {
				for k := range keys {
					p.say(fmt.Sprintf("k%d.%d", round, k))
				}
			}
			var history []op
			for i, p := range procs {
				for _, o := range p.wait("round").Ops {
					o.Lost = responses[i].during(o)
					o.Unsure = o.Lost || requests[i].during(o)
					o.Anew = a.Store == besideStore.name
					history = append(history, o)
					results[string(o.Kind)+" "+string(o.Result)]++
				}
			}
			calls += len(history)
			for _, complaint := range judge(history) {
				t.Errorf("round %d: %s", round, complaint)
			}
		}
		t.Logf("%d calls: %v", calls, results)
	})
}

// losses are the times at which a proxy dropped a request or a response.
type losses struct {
	mu sync.Mutex
	at []int64
}

func (l *losses) add() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.at = append(l.at, now())
}

// during reports whether there was a loss while o was in flight.
func (l *losses) during(o op) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(l.at, func(at int64) bool { return o.Call <= at && at <= o.Return })
}

// chronicle has goroutines make random calls of b.
func chronicle(ctx context.Context, b session.LockingBackend, seed uint64) []op {
	const clients, calls = 5, 40
	var wg sync.WaitGroup
	all := make([]*chronicler, clients)
	for i := range all {
		c := newChronicler(i, b, seed)
		all[i] = c
		wg.Go(func() { c.round(ctx, []string{"k0", "k1", "k2"}, calls) })
	}
	wg.Wait()
	var history []op
	for _, c := range all {
		history = append(history, c.ops...)
	}
	return history
}

// TestHistoriesOfMemory checks the backend in memory with the same model.
func TestHistoriesOfMemory(t *testing.T) {
	seed := seed(t)
	for i := range uint64(5) {
		for _, complaint := range judge(chronicle(t.Context(), &slow{LockingBackend: &memory.Backend{}}, seed+i)) {
			t.Error(complaint)
		}
	}
}

// TestHistoriesOfMutants checks that the checker finds errors: each of these
// stores has one.
func TestHistoriesOfMutants(t *testing.T) {
	t.Parallel()
	mutants := map[string]func(s *toy){
		"Save ignores the version":                 func(s *toy) { s.anyVersion = true },
		"Save ignores the lock":                    func(s *toy) { s.anyLock = true },
		"Save of a former holder is applied":       func(s *toy) { s.noFence = true },
		"Save leaves a lock that has run out":      func(s *toy) { s.keepsLock = true },
		"Save brings back what was deleted":        func(s *toy) { s.revives = true },
		"Save creates over what is there":          func(s *toy) { s.overwrites = true },
		"Save says conflict, and has written":      func(s *toy) { s.falseConflict = true },
		"Save says ok, and has not written":        func(s *toy) { s.lostWrite = true },
		"Load is late":                             func(s *toy) { s.staleRead = true },
		"Load sees no locks":                       func(s *toy) { s.hidesLocks = true },
		"Acquire of what is locked":                func(s *toy) { s.sharedLock = true },
		"Acquire creates":                          func(s *toy) { s.acquireCreates = true },
		"Acquire returns what was there before":    func(s *toy) { s.staleAcquire = true },
		"leases end early":                         func(s *toy) { s.leaseTimes = 0.3 },
		"leases do not end":                        func(s *toy) { s.leaseTimes = 1000 },
		"Extend of a lease that has run out":       func(s *toy) { s.extendsLate = true },
		"Extend takes the lock back":               func(s *toy) { s.extendsLost = true },
		"Extend does not":                          func(s *toy) { s.noExtend = true },
		"Release of another's lock":                func(s *toy) { s.releasesAny = true },
		"Release does not":                         func(s *toy) { s.noRelease = true },
		"Delete leaves the record if it is locked": func(s *toy) { s.noDelete = true },
		"the lock outlives the record":             func(s *toy) { s.lockOutlives = true },
	}
	for name, mutate := range mutants {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			seed := seed(t)
			for i := range uint64(50) {
				s := &toy{}
				mutate(s)
				if complaints := judge(chronicle(t.Context(), &slow{LockingBackend: s}, seed+i)); len(complaints) > 0 {
					t.Logf("rejected in round %d", i)
					return
				}
			}
			t.Error("not rejected in 50 rounds")
		})
	}
	t.Run("none", func(t *testing.T) {
		t.Parallel()
		seed := seed(t)
		for i := range uint64(3) {
			for _, complaint := range judge(chronicle(t.Context(), &slow{LockingBackend: &toy{}}, seed+i)) {
				t.Error(complaint)
			}
		}
	})
}

// slow makes calls take a while before and after they are done, so that they
// overlap.
type slow struct{ session.LockingBackend }

func (s *slow) pause() { time.Sleep(rand.N(time.Millisecond)) }

func (s *slow) Load(ctx context.Context, key string) (session.Record, error) {
	s.pause()
	defer s.pause()
	return s.LockingBackend.Load(ctx, key)
}

func (s *slow) Save(ctx context.Context, key string, rec session.Record) (session.Version, error) {
	s.pause()
	defer s.pause()
	return s.LockingBackend.Save(ctx, key, rec)
}

func (s *slow) Acquire(ctx context.Context, key string, ttl time.Duration) (session.Record, error) {
	s.pause()
	defer s.pause()
	return s.LockingBackend.Acquire(ctx, key, ttl)
}

func (s *slow) Extend(ctx context.Context, key string, v session.Version, ttl time.Duration) error {
	s.pause()
	defer s.pause()
	return s.LockingBackend.Extend(ctx, key, v, ttl)
}

func (s *slow) Release(ctx context.Context, key string, v session.Version, expires time.Time) error {
	s.pause()
	defer s.pause()
	return s.LockingBackend.Release(ctx, key, v, expires)
}
