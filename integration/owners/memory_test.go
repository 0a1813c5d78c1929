package owners

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// explore calls play with all schedules, at most so many. It stops when play
// returns false.
func explore(most int, play func(choose chooser) bool) (n int, all bool) {
	type choice struct{ i, of int }
	var path []choice
	for n < most {
		at := 0
		n++
		if !play(func(clients []int) int {
			if at == len(path) {
				path = append(path, choice{0, len(clients)})
			}
			c := path[at]
			if c.of != len(clients) {
				panic("the schedule cannot be repeated")
			}
			at++
			return c.i
		}) {
			return n, false
		}
		path = path[:at]
		for len(path) > 0 && path[len(path)-1].i == path[len(path)-1].of-1 {
			path = path[:len(path)-1]
		}
		if len(path) == 0 {
			return n, true
		}
		path[len(path)-1].i++
	}
	return n, false
}

// first lets one client go before the others.
func first(client int) chooser {
	return func(clients []int) int { return max(0, slices.Index(clients, client)) }
}

// random chooses at random. Most of the time it goes on with the same client, as
// it takes few changes to find what is wrong.
func random(rng *rand.Rand) chooser {
	last := -1
	return func(clients []int) int {
		if at := slices.Index(clients, last); at >= 0 && rng.IntN(3) > 0 {
			return at
		}
		for {
			i := rng.IntN(len(clients))
			if clients[i] == mishap && rng.IntN(40) > 0 {
				continue
			}
			if clients[i] >= 0 {
				last = clients[i]
			}
			return i
		}
	}
}

// A tally counts histories.
type tally struct{ histories, ops, unknown int }

// check plays one history, and reports whether it is good.
func (n *tally) check(t *testing.T, choose chooser, f func(t *testing.T, w *world)) bool {
	t.Helper()
	w := play(t, choose, f)
	n.histories++
	n.ops += len(w.history)
	for _, o := range w.history {
		if o.Result == Unknown {
			n.unknown++
		}
	}
	complaints := Judge(w.history)
	if len(complaints) > 0 {
		t.Errorf("%s\n%s", strings.Join(complaints[:min(2, len(complaints))], "\n"), strings.Join(w.trace, "\n"))
	}
	return len(complaints) == 0
}

func (n *tally) add(m tally) {
	n.histories, n.ops, n.unknown = n.histories+m.histories, n.ops+m.ops, n.unknown+m.unknown
}

func (n tally) String() string {
	return fmt.Sprintf("%d histories, %d operations, %d with an unknown outcome", n.histories, n.ops, n.unknown)
}

var (
	schedules = flag.Int("owners.schedules", 15, "how many schedules of each scenario to try systematically, and as many at random")
	kills     = flag.Int("owners.kills", 0, "how many schedules to draw for each fault at each call, beside those in which one client goes first")
	histories = flag.Int("owners.histories", 150, "how many histories to draw")
	seed      = flag.Uint64("owners.seed", 5, "seed of what is drawn")
)

// TestEverySchedule has two clients work at once in every order of their calls of
// the store, if these are not too many, and otherwise in some.
func TestEverySchedule(t *testing.T) {
	var all tally
	for _, sc := range scenarios {
		t.Run(sc.name, func(t *testing.T) {
			var n tally
			_, every := explore(*schedules, func(choose chooser) bool { return n.check(t, choose, sc.setUp) })
			rng := rand.New(rand.NewPCG(*seed, 1))
			for i := 0; i < *schedules && !every && !t.Failed(); i++ {
				n.check(t, random(rng), sc.setUp)
			}
			all.add(n)
		})
	}
	t.Log(all)
}

// TestFaultAtEachCall has each fault happen to each call of one client: it is killed
// between any two writes.
func TestFaultAtEachCall(t *testing.T) {
	var all tally
	for _, sc := range scenarios {
		t.Run(sc.name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(*seed, 2))
			var n tally
			defer func() { all.add(n) }()
			for client := range sc.clients {
				for _, f := range allFaults {
					reached := true
					for at := 2; reached; at++ { // the first is not of the store
						reached = false
						for i := range len(sc.clients) + *kills {
							choose := random(rng)
							if i < len(sc.clients) {
								choose = first(i)
							}
							ok := n.check(t, choose, func(t *testing.T, w *world) {
								sc.setUp(t, w)
								w.kill = kill{client: client, at: at, fault: f, reached: &reached}
							})
							if !ok {
								return
							}
						}
					}
				}
			}
		})
	}
	t.Log(all)
}

// TestAtRandom has some machines do what they draw, with faults that are drawn too.
func TestAtRandom(t *testing.T) {
	var n tally
	for i := range uint64(*histories) {
		rng := rand.New(rand.NewPCG(*seed, i))
		n.check(t, random(rng), func(t *testing.T, w *world) { w.draw(t, rng) })
		if t.Failed() {
			t.Fatalf("history %d", i)
		}
	}
	t.Log(n)
}

// draw adds clients that do what they draw.
func (w *world) draw(t *testing.T, rng *rand.Rand) {
	w.pool.Rand = rng
	w.faults, w.budget = allFaults, rng.IntN(4)
	if rng.IntN(3) == 0 {
		w.ages = []time.Duration{[]time.Duration{21 * time.Hour, 25 * time.Hour, 100 * time.Hour}[rng.IntN(3)]}
	}
	w.freely(t, func(do func(func() *Op)) {
		do(one(Op{Kind: Visit}))
		for i := range 14 * (rng.IntN(4) / 3) { // so that there will be pages
			do(login(fmt.Sprint("c", i)))
		}
	})
	mc := w.machine(t)
	for range 3 {
		if rng.IntN(3) > 0 {
			mc = w.machine(t)
		}
		ops := 5
		w.add(mc, func() *Op {
			if ops == 0 {
				return nil
			}
			ops--
			o := w.pool.Next()
			return &o
		})
	}
}
