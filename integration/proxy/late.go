package proxy

import (
	"context"
	"slices"
	"sync"
	"time"
)

// late has the requests that reach the engine after their clients have given up.
// They end with the proxy.
type late struct {
	ctx    context.Context // done at Close: ends Hang and Delay, too
	cancel context.CancelFunc
	mu     sync.Mutex
	wg     sync.WaitGroup
}

func (l *late) init() { l.ctx, l.cancel = context.WithCancel(context.Background()) }

// end drops requests that have not been delivered.
func (l *late) end() {
	l.mu.Lock()
	l.cancel()
	l.mu.Unlock()
	l.wg.Wait()
}

// deliver calls send when act says so, and then act.After.
func (l *late) deliver(act Action, send func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ctx.Err() != nil {
		return
	}
	l.wg.Go(func() {
		if act.After != nil {
			defer act.After()
		}
		timer := time.NewTimer(act.Delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-l.ctx.Done():
			return
		}
		if act.Until != nil {
			select {
			case <-act.Until:
			case <-l.ctx.Done():
				return
			}
		}
		send()
	})
}

func (a Action) late() bool { return a.Fault == LateSilent || a.Fault == LateDropped }

// Hold returns a rule that holds back the first request of one of ops, whose
// client gets no response, and a function that lets it arrive. That function
// returns when the engine has answered; if no request was held back, it does
// nothing.
func Hold(ops ...string) (rule Rule, deliver func()) {
	var once sync.Once
	kept, until, answered := make(chan struct{}), make(chan struct{}), make(chan struct{})
	rule = func(r Request) (a Action) {
		if slices.Contains(ops, r.Op) {
			once.Do(func() {
				close(kept)
				a = Action{Fault: LateDropped, Until: until, After: func() { close(answered) }}
			})
		}
		return a
	}
	deliver = sync.OnceFunc(func() {
		close(until)
		select {
		case <-kept:
			<-answered
		default:
		}
	})
	return rule, deliver
}
