package conformance

import (
	"context"
	"crypto/rand"
	"sync"
	"testing"
	"time"
)

// A scene is the part of a probe that does not depend on the interface under
// test.
type scene struct {
	testing.TB
	rule     string
	ctx      context.Context
	prefix   string
	patience time.Duration
	watch    watch
	results  *results
	begun    time.Time
	advanced time.Duration
	advance  func(d time.Duration)   // nil if time cannot be moved
	fail     func() (restore func()) // nil if the store cannot be made to fail
}

func newScene(g *guard, rule string, patience time.Duration, res *results) *scene {
	return &scene{
		TB: g, rule: rule, ctx: context.Background(), prefix: rand.Text()[:16], patience: patience,
		// A rule that looks for calls that hang waits for patience. It has to
		// report them first. And a busy disk can stall for 15 seconds.
		watch:   watch{g, max(6*patience, time.Second)},
		results: res, begun: time.Now(),
	}
}

// leaveOut notes that the rule was not tested, because of a fault that another
// rule reports.
func (s *scene) leaveOut(why string) {
	s.Logf("left out: %s; see the other rules", why)
	s.results.mu.Lock()
	defer s.results.mu.Unlock()
	s.results.leftOut = append(s.results.leftOut, s.rule+": "+why)
}

func (s *scene) key(name string) string { return s.prefix + name }

func (s *scene) freshKey() string { return s.key(rand.Text()) }

func end(name string) string { return name[max(0, len(name)-8):] }

// now returns the time by the store's clock.
func (s *scene) now() time.Time { return time.Now().Add(s.advanced) }

// wait returns when deadline has passed by the store's clock.
func (s *scene) wait(deadline time.Time) {
	d := deadline.Sub(s.now()) + 20*time.Millisecond
	if d <= 0 {
		return
	}
	if s.advance == nil {
		time.Sleep(d)
		return
	}
	s.advance(d)
	s.advanced += d
}

// waitWithin waits for d, but at most until shortly before deadline.
func (s *scene) waitWithin(d time.Duration, deadline time.Time) {
	const before = 50 * time.Millisecond
	next := s.now().Add(d)
	if last := deadline.Add(-before); next.After(last) && s.now().Before(last) {
		next = last
	}
	s.wait(next)
}

// ends reports whether f returns before patience ends.
func (s *scene) ends(f func()) bool {
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	timeout := time.NewTimer(s.patience)
	defer timeout.Stop()
	select {
	case <-done:
		return true
	case <-timeout.C:
		return false
	}
}

// brief returns a ttl that rules can wait for. It is not in whole seconds.
func (s *scene) brief() time.Duration {
	if s.advance != nil {
		return time.Minute + 300*time.Millisecond
	}
	return 1300 * time.Millisecond
}

// long is a ttl that no rule waits for.
const long = 2 * time.Hour

// together calls f for 0 to n-1, with 8 calls at a time.
func together(n int, f func(i int)) {
	var wg sync.WaitGroup
	next := make(chan int)
	for range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range next {
				f(i)
			}
		}()
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
}

// soon waits for a signal of another goroutine, but not for long, since that
// goroutine may have ended.
func soon(c <-chan struct{}) {
	select {
	case <-c:
	case <-time.After(10 * time.Millisecond):
	}
}
