package integration

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
)

// An op is one call of a backend, and its outcome.
//
// A version stands for the state that it names, and every Save writes data that
// no other Save writes. So the model identifies states by their data, and a
// history records the data of each version.
type op struct {
	Client int
	Key    string
	Kind   kind
	Base   string // Save: the version to replace; "" creates
	Lock   string // the lock that Acquire takes, and the holder's calls use; "" for everybody else's
	Data   string // the data to store (Save) or found (Load, Acquire)
	TTL    int64  // ns
	Call   int64  // ns, by the clock that all processes have
	Return int64
	Result result
	Locked bool   // Load: it said that a lock is live
	State  string // the version that was returned, if it is not a holder's; in hexadecimal, as JSON cannot hold its bytes
	Err    string // of an unknown outcome

	// Unsure is set if a request or a response of this call was dropped, so that
	// its retry cannot tell whether it was applied before. Lost is set if it was
	// a response: then it was applied.
	Unsure, Lost bool
	// Again is an additional op that the history did not have: the second time
	// that a call with a lost response may have been applied. See again.
	Again bool
	// Anew says that the record which a Save was to replace counts as gone if another
	// has been made under its key.
	Anew bool
}

type (
	kind   string
	result string
)

const (
	opLoad    kind = "Load"
	opSave    kind = "Save"
	opTouch   kind = "Touch"
	opDelete  kind = "Delete"
	opAcquire kind = "Acquire"
	opExtend  kind = "Extend"
	opRelease kind = "Release"

	isOK       result = "ok"
	isNotFound result = "not found"
	isConflict result = "conflict"
	isGone     result = "gone" // a conflict that is also not found
	isLocked   result = "locked"
	isUnknown  result = "unknown"
)

func (o op) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s(%s", o.Kind, o.Key)
	if o.Lock != "" {
		fmt.Fprintf(&b, " lock %s", o.Lock)
	}
	if o.Kind == opSave {
		fmt.Fprintf(&b, " %q -> %q", o.Base, o.Data)
	}
	if o.TTL > 0 {
		fmt.Fprintf(&b, " %v", time.Duration(o.TTL))
	}
	fmt.Fprintf(&b, ") %s", o.Result)
	if o.Result == isOK && o.Kind != opSave && o.Data != "" {
		fmt.Fprintf(&b, " %q", o.Data)
	}
	if o.Locked {
		b.WriteString(" locked")
	}
	switch {
	case o.Lost:
		b.WriteString(" (response lost)")
	case o.Unsure:
		b.WriteString(" (request lost)")
	}
	return b.String()
}

// register is the state of one key: a register with a lock.
//
// The end of a lease is known only as precisely as the time of its request: not
// before Earliest, not after Latest. In between, the outcome of each call
// decides.
type register struct {
	Exists   bool
	Data     string
	Lock     string // "" if there is none
	Earliest int64
	Latest   int64
}

// slack is how much the clocks that judge leases, which may be adjusted, can
// differ from the clock of the histories, plus rounding.
const slack = int64(5 * time.Millisecond)

const forever = math.MaxInt64

// mayBeLive and mayBeFree report whether o can have found another holder's lock
// in that state.
func (r register) mayBeLive(o op) bool {
	return r.Exists && r.Lock != "" && r.Lock != o.Lock && o.Call <= r.Latest
}

func (r register) mayBeFree(o op) bool { return r.Lock == "" || r.over(o) }

// over reports whether the lease can have run out by the end of o.
func (r register) over(o op) bool { return o.Return >= r.Earliest }

// holds reports whether o has the current lock.
func (r register) holds(o op) bool { return r.Exists && o.Lock != "" && r.Lock == o.Lock }

func (r register) saved(o op) register { return register{Exists: true, Data: o.Data} }

// leased is r with a lease that o requested.
func (r register) leased(o op) register {
	r.Lock, r.Earliest, r.Latest = o.Lock, o.Call+o.TTL-slack, forever
	if o.Result == isOK && !o.Lost {
		r.Latest = o.Return + o.TTL + slack
	}
	return r
}

// step returns the states in which o can have left r, or none if o cannot have
// had its outcome. The outcome of a call is unknown after a permanent fault:
// then it may have been applied, at any time until the end.
func step(r register, o op) []register {
	if o.Result == isUnknown {
		applied, ok := apply(r, o)
		if !ok || applied == r {
			return []register{r}
		}
		return []register{r, applied}
	}
	switch o.Result {
	case isOK:
		if applied, ok := apply(r, o); ok {
			return []register{applied}
		}
		if o.Kind == opRelease && o.Unsure && !r.holds(o) {
			return []register{r} // the first attempt may have freed it, which cannot be known
		}
		return nil
	case isLocked:
		return only(r, r.mayBeLive(o) && (o.Kind == opSave || o.Kind == opAcquire))
	case isNotFound:
		return only(r, !r.Exists && (o.Kind == opLoad || o.Kind == opTouch || o.Kind == opAcquire))
	case isGone:
		anew := o.Anew && o.Kind == opSave && r.Data != o.Base
		return only(r, (!r.Exists || anew) && (o.Lock != "" || o.Base != ""))
	case isConflict:
		switch {
		case o.Lock != "":
			return only(r, !r.holds(o) || r.over(o))
		case o.Base == "":
			return only(r, r.Exists && r.mayBeFree(o))
		default:
			return only(r, (!r.Exists || r.Data != o.Base) && r.mayBeFree(o))
		}
	}
	return nil
}

func only(r register, ok bool) []register {
	if !ok {
		return nil
	}
	return []register{r}
}

// apply returns the state after a successful call, and whether it can succeed.
func apply(r register, o op) (register, bool) {
	switch o.Kind {
	case opLoad:
		if o.Result == isUnknown {
			return r, true
		}
		live := r.Lock != "" && o.Call <= r.Latest
		return r, r.Exists && r.Data == o.Data && (o.Locked && live || !o.Locked && r.mayBeFree(o))
	case opSave:
		switch {
		case o.Lock != "":
			return r.saved(o), r.holds(o) && r.Data == o.Base
		case o.Base == "":
			return r.saved(o), !r.Exists
		default:
			return r.saved(o), r.Exists && r.Data == o.Base && r.mayBeFree(o)
		}
	case opTouch:
		return r, r.Exists
	case opDelete:
		return register{}, true
	case opAcquire:
		return r.leased(o), r.Exists && r.mayBeFree(o) && (o.Result == isUnknown || r.Data == o.Data)
	case opExtend:
		renewed := r.leased(o)
		if o.Result == isUnknown {
			renewed.Earliest = min(renewed.Earliest, r.Earliest)
		}
		return renewed, r.holds(o) && (o.Result == isUnknown || o.Call <= r.Latest)
	case opRelease:
		freed := r
		freed.Lock, freed.Earliest, freed.Latest = "", 0, 0
		return freed, r.holds(o)
	}
	return r, false
}

// again reports whether o, which is part of a history of its key, may have been
// applied twice, or once before it was refused: its first attempt, whose
// response was lost, and its retry after that was undone. A create undoes a
// Delete, the end of a lease undoes a lock, and a Delete undoes everything. The
// retry of a create then succeeds, but only its caller knows the ID of a new
// session, so this does not happen to one.
//
// Writes or locks of others in between do not excuse it: the retry must see that
// the first attempt was applied.
func (o op) again(history []op) bool {
	deleted := slices.ContainsFunc(history, func(d op) bool {
		return d.Kind == opDelete && d.Call <= o.Return && (d.Return >= o.Call || d.Result == isUnknown)
	})
	over := o.TTL > 0 && o.Return-o.Call >= o.TTL-slack
	return o.Lost && (o.Kind == opDelete || deleted || over)
}

var model = (&porcupine.NondeterministicModel{
	Init: func() []any { return []any{register{}} },
	Step: func(state, input, _ any) []any {
		var next []any
		for _, r := range step(state.(register), input.(op)) {
			next = append(next, r)
		}
		return next
	},
	DescribeOperation: func(input, _ any) string { return input.(op).String() },
}).ToModel()

// judge reports whether the history of each key can be explained, and if not,
// the evidence.
func judge(history []op) (complaints []string) {
	byKey := map[string][]op{}
	states := map[string]string{} // data by version
	for _, o := range history {
		byKey[o.Key] = append(byKey[o.Key], o)
		if o.State == "" {
			continue
		}
		if data, ok := states[o.Key+o.State]; ok && data != o.Data {
			complaints = append(complaints, fmt.Sprintf("one version for %q and %q", data, o.Data))
		}
		states[o.Key+o.State] = o.Data
	}
	for key, ops := range byKey {
		var events []porcupine.Operation
		add := func(o op) {
			end := o.Return
			if o.Result == isUnknown && !o.Again {
				end = forever
			}
			events = append(events, porcupine.Operation{ClientId: o.Client, Input: o, Call: o.Call, Return: end})
		}
		for _, o := range ops {
			add(o)
			if o.again(ops) {
				o.Again, o.Result = true, isUnknown
				if o.Kind == opAcquire {
					o.Lock += "'" // not the caller's own
				}
				add(o)
			}
		}
		switch porcupine.CheckOperationsTimeout(model, events, 20*time.Second) {
		case porcupine.Illegal:
			slices.SortFunc(ops, func(a, b op) int { return cmp.Compare(a.Call, b.Call) })
			var b strings.Builder
			fmt.Fprintf(&b, "%s is not linearizable:\n", key)
			for _, o := range ops {
				fmt.Fprintf(&b, "%10.2f %10.2f  %d %v\n", float64(o.Call-ops[0].Call)/1e6, float64(o.Return-ops[0].Call)/1e6, o.Client, o)
			}
			complaints = append(complaints, b.String())
		case porcupine.Unknown:
			complaints = append(complaints, key+": the checker did not finish")
		}
	}
	return complaints
}
