package integration

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/integration/owners"
	"github.com/seed-a7bee19b/session/integration/proxy"
)

var withOwners = session.Config{Owners: session.OwnersConfig{Index: true}, ErrorHandler: owners.HandleError}

// owners is the job of a process that does what it is told.
func (w *worker) owners() error {
	m, err := session.New(w.backend, withOwners)
	if err != nil {
		return err
	}
	w.tell(event{Kind: "ready"})
	for {
		var o owners.Op
		if err := json.Unmarshal([]byte(w.hear()), &o); err != nil {
			return err
		}
		o.Do(w.ctx, m)
		w.tell(event{Kind: "did", Done: &o})
	}
}

// herd is a number of processes that have the sessions of the same owners.
type herd struct {
	t     *testing.T
	procs []*process
	jobs  []job

	mu      sync.Mutex
	pool    owners.Pool
	history []owners.Op
	kills   int
}

// begin starts process i, and waits until it is ready.
func (h *herd) begin(i int) error {
	h.procs[i] = start(h.t, h.jobs[i])
	e, ok, err := h.hear(i)
	if err == nil && (!ok || e.Kind != "ready") {
		err = fmt.Errorf("%s has not begun: %s", h.procs[i].name, e.Err)
	}
	return err
}

// hear returns the next event of process i, or false if it has ended.
func (h *herd) hear(i int) (event, bool, error) {
	select {
	case e, ok := <-h.procs[i].events:
		return e, ok, nil
	case <-time.After(time.Minute):
		return event{}, false, fmt.Errorf("%s has said nothing for a minute", h.procs[i].name)
	}
}

// next has process i do what is drawn. If the process is killed meanwhile, the
// outcome is not known, and next starts another one.
func (h *herd) next(i int) error {
	h.mu.Lock()
	o := h.pool.Next()
	o.Client, o.Call = i, now()
	h.pool.Began(o)
	kill := h.pool.Rand.IntN(25) == 0
	after := time.Duration(h.pool.Rand.Int64N(int64(15 * time.Millisecond)))
	h.mu.Unlock()
	text, err := json.Marshal(o)
	if err != nil {
		return err
	}
	p := h.procs[i]
	p.say(string(text))
	if kill {
		time.Sleep(after)
		p.signal(syscall.SIGKILL)
	}
	switch e, ok, err := h.hear(i); {
	case err != nil:
		return err
	case !ok:
		o.Result, o.Err = owners.Unknown, "killed"
	case e.Done == nil:
		return fmt.Errorf("%s: %s", p.name, e.Err)
	default:
		o = *e.Done
	}
	o.Return = now()
	h.mu.Lock()
	h.history = append(h.history, o)
	h.pool.Learn(o)
	h.mu.Unlock()
	if !kill {
		return nil
	}
	p.stop()
	h.mu.Lock()
	h.kills++
	h.mu.Unlock()
	return h.begin(i)
}

// inspect finds out how things are in the end.
func (h *herd) inspect(m *session.Manager) {
	do := func(o owners.Op) {
		o.Client, o.Call = len(h.procs), now()
		o.Do(h.t.Context(), m)
		o.Return = now()
		h.history = append(h.history, o)
		h.pool.Learn(o)
	}
	all := append(h.pool.Users(), h.pool.Devices()...)
	look := func() {
		for name, tokens := range h.pool.Tokens {
			for _, token := range tokens {
				do(owners.Op{Kind: owners.Read, Session: name, Token: token})
			}
		}
		for _, o := range all {
			do(owners.Op{Kind: owners.List, Owners: []session.Owner{o}})
		}
	}
	look()
	for _, o := range all {
		do(owners.Op{Kind: owners.Revoke, Owners: []session.Owner{o}})
	}
	look()
}

// TestOwnersInProcesses has processes log in, list, revoke and so on, while requests
// and responses get lost or late, and processes are killed. It checks each history
// against the model.
func TestOwnersInProcesses(t *testing.T) {
	const processes, ops = 4, 6
	rounds := map[*store]int{dynamoStore: 40, redisStore: 120}
	eachStore(t, func(t *testing.T, a address) {
		seed := seed(t)
		h := &herd{t: t, procs: make([]*process, processes)}
		for i := range processes {
			at, l := a.through(t)
			at.Attempts = 2 // so that some outcomes are unknown
			l.SetRule(proxy.Random(seed+uint64(i), map[proxy.Fault]float64{
				proxy.DropRequest: 0.03, proxy.DropResponse: 0.03, proxy.LateDropped: 0.01, a.store().busy: 0.03,
			}))
			h.jobs = append(h.jobs, job{Kind: "owners", Name: fmt.Sprint("p", i), At: at})
			if err := h.begin(i); err != nil {
				t.Fatal(err)
			}
		}
		m := a.manager(t, withOwners)
		began, all, unknown := time.Now(), 0, 0
		for round := range rounds[a.store()] {
			h.history = nil
			h.pool = owners.Pool{Rand: rand.New(rand.NewPCG(seed, uint64(round))), Prefix: fmt.Sprint(round, ".")}
			var wg sync.WaitGroup
			for i := range processes {
				wg.Go(func() {
					for range ops {
						if err := h.next(i); err != nil {
							t.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			if t.Failed() {
				return
			}
			h.inspect(m)
			for _, o := range h.history {
				if o.Result == owners.Unknown {
					unknown++
				}
			}
			all += len(h.history)
			for _, complaint := range owners.Judge(h.history) {
				t.Errorf("round %d: %s", round, complaint)
			}
		}
		t.Logf("%d histories, %d operations, %d with an unknown outcome, %d kills, %v",
			rounds[a.store()], all, unknown, h.kills, time.Since(began).Round(time.Millisecond))
	})
}
