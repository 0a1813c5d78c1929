package proxy

import (
	"hash/fnv"
	"math/rand/v2"
	"time"
)

// Fault is what goes wrong with a request.
type Fault int

// The faults. The zero Fault is none.
const (
	None          Fault = iota
	DropRequest         // it never reaches the engine; the connection is closed
	DropResponse        // the engine applies it; the connection is closed without an answer
	Hang                // it never reaches the engine, and nothing happens until the client gives up
	Throttle            // 400 ProvisionedThroughputExceededException
	InternalError       // 500 InternalServerError

	LateSilent  // it reaches the engine after Action.Delay, whether or not the client still waits for the answer, which never comes
	LateDropped // the same, but the connection is closed at once
)

func (f Fault) String() string {
	switch f {
	case None:
		return "none"
	case DropRequest:
		return "request dropped"
	case DropResponse:
		return "response dropped"
	case Hang:
		return "hang"
	case Throttle:
		return "throttled"
	case InternalError:
		return "internal error"
	case LateSilent:
		return "late, in silence"
	case LateDropped:
		return "late, connection dropped"
	}
	return "unknown fault"
}

// Action is what the proxy does with one request. The zero Action passes it on.
type Action struct {
	Fault  Fault
	Delay  time.Duration   // before anything else; of a late request, before it reaches the engine
	Until  <-chan struct{} // of a late request: it waits until this is closed, if not nil
	Before func()          // called before the request is passed on or fails
	After  func()          // called once the engine has answered, before the client hears of it
}

// Request is what a Rule decides about.
type Request struct {
	Op   string // "GetItem", "UpdateItem" and so on
	N    int    // the how many-th request of this operation, from 1
	Body []byte // JSON; not to be changed
}

// Rule decides about each request as it arrives, one at a time. It must not
// call the proxy: that is for the hooks of an Action.
type Rule func(Request) Action

// Always does a to every request of op.
func Always(op string, a Action) Rule {
	return func(r Request) Action {
		if r.Op == op {
			return a
		}
		return Action{}
	}
}

// Nth does a to the nth request of op, counted from 1 since SetRule.
func Nth(op string, n int, a Action) Rule {
	return func(r Request) Action {
		if r.Op == op && r.N == n {
			return a
		}
		return Action{}
	}
}

// First asks the rules in turn and does what the first one wants that wants
// anything.
func First(rules ...Rule) Rule {
	return func(r Request) Action {
		for _, rule := range rules {
			if a := rule(r); a.Fault != None || a.Delay != 0 || a.Before != nil || a.After != nil {
				return a
			}
		}
		return Action{}
	}
}

// Random has each fault at its share of the requests, which is between 0 and
// 1. The nth request of an operation always meets the same fate under the
// same seed. What is late is so by up to two seconds.
func Random(seed uint64, shares map[Fault]float64) Rule {
	return func(r Request) Action {
		h := fnv.New64a()
		_, _ = h.Write([]byte(r.Op)) // never fails
		drawn := rand.New(rand.NewPCG(seed, h.Sum64()+uint64(r.N)))
		x := drawn.Float64()
		for f := DropRequest; f <= LateDropped; f++ {
			if x < shares[f] {
				a := Action{Fault: f}
				if f == LateSilent || f == LateDropped {
					a.Delay = time.Duration(drawn.Int64N(int64(2 * time.Second)))
				}
				return a
			}
			x -= shares[f]
		}
		return Action{}
	}
}

// numbered fills in N, counting from now.
func numbered(rule Rule) Rule {
	if rule == nil {
		return nil
	}
	seen := map[string]int{}
	return func(r Request) Action {
		seen[r.Op]++
		r.N = seen[r.Op]
		return rule(r)
	}
}
