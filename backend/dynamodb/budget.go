package dynamodb

import (
	"context"
	"math"
	"sync"
	"time"
)

// budget limits the capacity units per second. Requests queue. The first one
// waits until the units that it is expected to cost are there, and takes them.
// The answer settles the real cost, so that later requests make up for a wrong
// estimate. Units that no request wants are lost, except those of the last tenth
// of a second: more would be a burst.
//
// A nil budget has no limit.
type budget struct {
	rate float64       // units per second
	line chan struct{} // holds one while a request waits at its head

	mu      sync.Mutex
	level   float64 // units that may be spent at the time at; negative for a debt
	at      time.Time
	settled bool          // the cost of a request is known
	changed chan struct{} // holds one when level has changed other than by time
}

func newBudget(rate float64) *budget {
	if rate == 0 || math.IsInf(rate, 1) {
		return nil
	}
	return &budget{rate: rate, line: make(chan struct{}, 1), at: time.Now(), changed: make(chan struct{}, 1)}
}

// reserve waits until the units that estimate returns may be spent. It calls
// estimate at the head of the line. It fails only if ctx ends. Until the first
// request is settled, no other one gets units.
func (b *budget) reserve(ctx context.Context, estimate func() float64) (units float64, err error) {
	if b == nil {
		return 0, ctx.Err()
	}
	select {
	case b.line <- struct{}{}:
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	units = estimate()
	b.mu.Lock()
	b.pass(b.rate / 10)
	for b.level < units {
		wait := min((units-b.level)/b.rate, 1e6) // seconds, so that a Duration cannot overflow
		b.mu.Unlock()
		err := b.wait(ctx, time.Duration(math.Ceil(wait*float64(time.Second))))
		b.mu.Lock()
		b.pass(math.Inf(1))
		if err != nil {
			b.mu.Unlock()
			<-b.line
			return 0, err
		}
	}
	b.level -= units
	if b.settled {
		<-b.line
	}
	b.mu.Unlock()
	return units, nil
}

// pass adds the units of the time since the last call, up to the level most. A
// level that is higher stays: units that were given back are not lost.
func (b *budget) pass(most float64) {
	now := time.Now()
	b.level = min(b.level+now.Sub(b.at).Seconds()*b.rate, max(b.level, most))
	b.at = now
}

// wait waits for d, or until the level changes.
func (b *budget) wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-b.changed:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// settle replaces the units that a request has reserved by its real cost.
func (b *budget) settle(reserved, cost float64) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.level += reserved - cost
	if !b.settled {
		b.settled = true
		<-b.line
	}
	select {
	case b.changed <- struct{}{}:
	default:
	}
}

// average is a mean in which new values count more than old ones.
type average struct {
	mu     sync.Mutex
	sum, n float64
}

// get returns the mean, or otherwise if there is none yet.
func (a *average) get(otherwise float64) (mean float64, known bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.n == 0 {
		return otherwise, false
	}
	return a.sum / a.n, true
}

func (a *average) add(sum float64, n int) {
	const old = 0.9
	if n == 0 {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.sum, a.n = a.sum*old+sum, a.n*old+float64(n)
}
