package proxy

import (
	"hash/fnv"
	"math/rand/v2"
	"time"
)

// Fault is the fault of a request.
type Fault int

// The faults. The zero Fault is no fault.
const (
	None          Fault = iota
	DropRequest         // the request never reaches the engine; the connection is closed
	DropResponse        // the engine applies the request; the connection is closed without a response
	Hang                // the request never reaches the engine, and nothing happens until the client gives up
	Throttle            // 400 ProvisionedThroughputExceededException
	InternalError       // 500 InternalServerError

	LateSilent  // the request reaches the engine after Action.Delay, even if the client has given up; the client never gets the response
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

// Action is the proxy's treatment of one request. The zero Action forwards it.
type Action struct {
	Fault  Fault
	Delay  time.Duration   // before anything else; of a late request, before it reaches the engine
	Until  <-chan struct{} // of a late request: it waits until this is closed, if not nil
	Before func()          // called before the request is forwarded or fails
	After  func()          // called after the engine has answered, before the client gets the response
}

// Request is a request that a Rule decides about.
type Request struct {
	Op   string // "GetItem", "UpdateItem" and so on
	N    int    // the number of this request among those of its operation, from 1
	Body []byte // JSON; not to be changed
}

// Rule decides about each request when it arrives, one at a time. It must not
// call the proxy; the hooks of an Action may.
type Rule func(Request) Action

// Always applies a to every request of op.
func Always(op string, a Action) Rule {
	return func(r Request) Action {
		if r.Op == op {
			return a
		}
		return Action{}
	}
}

// Nth applies a to the nth request of op, counted from 1 since SetRule.
func Nth(op string, n int, a Action) Rule {
	return func(r Request) Action {
		if r.Op == op && r.N == n {
			return a
		}
		return Action{}
	}
}

// First calls the rules in turn, and returns the first Action that is not zero.
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

// Random applies each fault to its share of the requests, which is between 0 and
// 1. With the same seed, the nth request of an operation always gets the same
// fault. Late requests are delayed by up to two seconds.
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
