package dynamodb

import (
	"context"
	"math"
	"sync"
	"time"
)

// budget keeps to a number of capacity units per second. Requests stand in
// line: the first one waits until what it is thought to cost has come in, and
// takes it. What it has really cost is settled after the answer, so that a
// wrong guess is made up for by those that follow. What comes in while nobody
// wants it is lost, but for a tenth of a second's worth: more would be a burst.
//
// A nil budget is no limit.
type budget struct {
	rate float64       // units per second
	line chan struct{} // holds one while somebody waits at its head

	mu      sync.Mutex
	level   float64 // units that may be spent at the time at; negative: debts
	at      time.Time
	settled bool          // once: until then nobody knows what a request costs
	changed chan struct{} // holds one when level has changed but for the time
}

func newBudget(rate float64) *budget {
	if rate == 0 || math.IsInf(rate, 1) {
		return nil
	}
	return &budget{rate: rate, line: make(chan struct{}, 1), at: time.Now(), changed: make(chan struct{}, 1)}
}

// reserve waits until what estimate says, at the head of the line, may be
// spent. It fails only when ctx ends. Until the first request is settled, there
// is no other.
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
		wait := min((units-b.level)/b.rate, 1e6) // far from what overflows
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

// pass lets come in what time has brought, but not to more than most. What was
// given back is beyond that: it would have been spent already.
func (b *budget) pass(most float64) {
	now := time.Now()
	b.level = min(b.level+now.Sub(b.at).Seconds()*b.rate, max(b.level, most))
	b.at = now
}

// wait waits for d, or less if the level has changed meanwhile.
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

// settle puts what a request has cost in place of what it had reserved.
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

// average is a mean in which what is new counts more than what is old.
type average struct {
	mu     sync.Mutex
	sum, n float64
}

// get returns the mean, or what is given if there is none yet.
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
