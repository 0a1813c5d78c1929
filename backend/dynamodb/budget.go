package dynamodb

import (
	"context"
	"math"
	"sync"
	"time"
)

// budget keeps to a number of capacity units per second. A request reserves
// what it is thought to cost and waits until that much has come in; what it has
// really cost is settled after the answer, so that a wrong guess is made up for
// by those that follow. What comes in while nobody wants it is lost but for a
// tenth of a second's worth: more would be a burst.
//
// A nil budget is no limit.
type budget struct {
	rate float64 // units per second

	mu    sync.Mutex
	level float64 // units that may be spent at the time at; negative: promised already
	at    time.Time
}

func newBudget(rate float64) *budget {
	if rate == 0 || math.IsInf(rate, 1) {
		return nil
	}
	return &budget{rate: rate, at: time.Now()}
}

// reserve waits until units may be spent. It fails only when ctx ends.
func (b *budget) reserve(ctx context.Context, units float64) error {
	if b == nil {
		return ctx.Err()
	}
	b.mu.Lock()
	now := time.Now()
	// What was given back counts in full: others may have waited for it.
	b.level = min(b.level+now.Sub(b.at).Seconds()*b.rate, max(b.level, b.rate/10)) - units
	b.at = now
	wait := seconds64(-b.level / b.rate)
	b.mu.Unlock()
	if wait <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		b.settle(units, 0)
		return ctx.Err()
	}
}

// settle puts what a request has cost in place of what it had reserved.
func (b *budget) settle(reserved, cost float64) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.level += reserved - cost
}

func seconds64(s float64) time.Duration {
	const most = 1e6 // far from what overflows
	return time.Duration(min(s, most) * float64(time.Second))
}

// average is a mean in which what is new counts more than what is old.
type average struct {
	mu     sync.Mutex
	sum, n float64
}

func (a *average) get() float64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.sum / a.n
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
