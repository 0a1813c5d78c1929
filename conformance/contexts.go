package conformance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime/pprof"
	"strings"
	"sync"
	"time"

	"github.com/seed-a7bee19b/session"
)

// contextRules are about contexts that end, calls that hang, and goroutines that
// are left behind.
var contextRules = []backendRule{
	{name: "DoneContextLoad", run: ruleDoneContextLoad, quotes: doneContext},
	{name: "DoneContextSave", run: ruleDoneContextSave, quotes: doneContext},
	{name: "DoneContextTouch", run: ruleDoneContextTouch, quotes: doneContext},
	{name: "DoneContextDelete", run: ruleDoneContextDelete, quotes: doneContext},
	{name: "ContextEnds", run: ruleContextEnds, own: true, quotes: []string{
		"Once ctx is done it MUST return promptly,",
	}},
	{name: "HangingCall", run: ruleHangingCall, wide: true, own: true, quotes: []string{
		"Once ctx is done it MUST return promptly, whatever other calls wait for,",
		"and if it fails because of that, then with an error that wraps ctx.Err(); to wrap the cause of ctx is not enough.",
	}, needs: canFail},
	{name: "Goroutines", run: ruleGoroutines, wide: true, quotes: []string{
		"It MUST NOT leave behind a goroutine for each call.",
	}},
}

// doneContexts returns contexts that are done, each in another way.
func doneContexts(ctx context.Context) []context.Context {
	past := time.Now().Add(-time.Hour)
	canceled, cancel := context.WithCancel(ctx)
	cancel()
	late, cancel := context.WithDeadline(ctx, past)
	cancel()
	withCause, cancelCause := context.WithCancelCause(ctx)
	cancelCause(errCause)
	lateWithCause, cancel := context.WithDeadlineCause(ctx, past, errCause)
	cancel()
	return []context.Context{canceled, late, withCause, lateWithCause}
}

// errCause is the cause of contexts that are done. It is not their error.
var errCause = errors.New("the cause of the end of a context")

// doneContexts calls f, which makes the named call, with a record and a context
// that is done.
func (p *probe) doneContexts(call string, f func(ctx context.Context, key string, rec session.Record) error) {
	for i, ctx := range doneContexts(p.ctx) {
		key := p.key(fmt.Sprint(i))
		p.save(key, p.record("1"))
		before := p.load(key)
		if err := f(ctx, key, before); !errors.Is(err, ctx.Err()) {
			p.Errorf("%s with a context that is done: got error %v, want one that wraps %v", call, err, ctx.Err())
		}
		p.unchanged(key, before, "a "+call+" with a context that is done")
	}
}

func ruleDoneContextLoad(p *probe) {
	p.doneContexts("Load", func(ctx context.Context, key string, _ session.Record) error {
		_, err := p.b.Load(ctx, key)
		return err
	})
}

func ruleDoneContextSave(p *probe) {
	p.doneContexts("Save", func(ctx context.Context, key string, rec session.Record) error {
		absent := key + "absent"
		if _, err := p.b.Save(ctx, absent, p.record("2")); !errors.Is(err, ctx.Err()) {
			p.Errorf("Save that creates a record, with a context that is done: got error %v, want one that wraps %v", err, ctx.Err())
		}
		if p.alive(absent) {
			p.Error("a Save with a context that is done created a record, want none")
		}
		_, err := p.b.Save(ctx, key, replacing(p.record("2"), rec.Version))
		return err
	})
}

func ruleDoneContextTouch(p *probe) {
	p.doneContexts("Touch", func(ctx context.Context, key string, rec session.Record) error {
		return p.b.Touch(ctx, key, rec.Expires.Add(time.Hour))
	})
}

func ruleDoneContextDelete(p *probe) {
	p.doneContexts("Delete", func(ctx context.Context, key string, _ session.Record) error {
		return p.b.Delete(ctx, key)
	})
}

func ruleContextEnds(p *probe) {
	p.returnsWhenDone(func(ctx context.Context, key string) []func(i int) error {
		rec := p.record("1")
		return []func(i int) error{
			func(int) error {
				current, err := p.b.Load(ctx, key)
				if err != nil && !errors.Is(err, session.ErrNotFound) {
					return err
				}
				return second(p.b.Save(ctx, key, replacing(rec, current.Version)))
			},
			func(i int) error { return p.b.Touch(ctx, key, rec.Expires.Add(time.Duration(i)*time.Second)) },
			func(i int) error {
				if i%8 == 0 {
					return p.b.Delete(ctx, key)
				}
				return nil
			},
		}
	})
}

// ruleHangingCall lets calls wait for a store that hangs, and then others whose
// contexts end. It finds nothing if the store fails without hanging.
func ruleHangingCall(p *probe) {
	key := p.key("a")
	v := p.save(key, p.record("1"))
	calls := func(key string) []func(ctx context.Context) error {
		list := []func(ctx context.Context) error{
			func(ctx context.Context) error { return second(p.b.Load(ctx, key)) },
			func(ctx context.Context) error { return second(p.b.Save(ctx, key, replacing(p.record("2"), v))) },
			func(ctx context.Context) error { return p.b.Touch(ctx, key, p.later().Add(time.Hour)) },
			func(ctx context.Context) error { return p.b.Delete(ctx, key) },
		}
		if l, ok := p.raw.b.(session.LockingBackend); ok {
			list = append(list,
				func(ctx context.Context) error { return second(l.Acquire(ctx, key, long)) },
				func(ctx context.Context) error { return l.Extend(ctx, key, v, long) },
				func(ctx context.Context) error { return l.Release(ctx, key, v, time.Time{}) },
			)
		}
		return list
	}
	p.hanging(calls(key), append(calls(key), calls(p.key("b"))...))
}

func ruleGoroutines(p *probe) {
	p.goroutines(func(ctx context.Context, key string) {
		_, _ = p.b.Load(ctx, key)
		v, _ := p.b.Save(ctx, key, p.record("1"))
		_, _ = p.b.Save(ctx, key, replacing(p.record("2"), "no such version"))
		_ = p.b.Touch(ctx, key, p.later().Add(time.Hour))
		if l, ok := p.raw.b.(session.LockingBackend); ok {
			rec, _ := l.Acquire(ctx, key, time.Minute)
			_ = l.Extend(ctx, key, rec.Version, time.Minute)
			_ = l.Release(ctx, key, rec.Version, time.Time{})
		}
		_, _ = p.b.Save(ctx, key, replacing(p.record("2"), v))
		_ = p.b.Delete(ctx, key)
	})
}

// returnsWhenDone ends the context of calls in flight, on a store that works and
// on one that fails. On one that works, a call can then only fail because of its
// context.
func (s *scene) returnsWhenDone(calls func(ctx context.Context, key string) []func(i int) error) {
	during := func(when string, works bool) {
		ctx, cancel := context.WithCancelCause(s.ctx)
		defer cancel(nil)
		var wg, started sync.WaitGroup
		for _, call := range calls(ctx, s.key("busy")) {
			for range 4 {
				wg.Add(1)
				started.Add(1)
				go func() {
					defer wg.Done()
					started.Done()
					for i := 0; ctx.Err() == nil; i++ {
						if err := call(i); works && err != nil && !isSentinel(err) && !errors.Is(err, context.Canceled) {
							if ctx.Err() != nil { // else other rules report it
								s.Errorf("%s, a call failed because its context ended: got error %v, want one that wraps %v", when, err, context.Canceled)
							}
							return
						}
						time.Sleep(100 * time.Microsecond) // leave the machine to other tests
					}
				}()
			}
		}
		started.Wait()
		time.Sleep(20 * time.Millisecond)
		cancel(errCause)
		if !s.ends(wg.Wait) {
			s.Errorf("%s, a call has not returned %v after its context ended, want it to return promptly", when, s.patience)
		}
	}
	during("on a busy key", true)
	if s.fail != nil {
		defer s.fail()()
		during("while the store fails", false)
	}
}

// hanging starts the calls of first on a store that fails, then those of then,
// and ends the contexts of these.
func (s *scene) hanging(first, then []func(ctx context.Context) error) {
	defer s.fail()()
	hang, cancel := context.WithCancel(s.ctx)
	var wg sync.WaitGroup
	// The same calls hang on several connections, if there are several.
	for range 3 {
		for _, call := range first {
			wg.Add(1)
			go func() { defer wg.Done(); _ = call(hang) }()
		}
	}
	time.Sleep(20 * time.Millisecond)
	ctx, end := context.WithCancelCause(s.ctx)
	var others sync.WaitGroup
	var mu sync.Mutex
	waiting := len(then)
	for _, call := range then {
		others.Add(1)
		go func() {
			defer others.Done()
			err := call(ctx)
			mu.Lock()
			defer mu.Unlock()
			if waiting--; ctx.Err() != nil && errors.Is(err, errCause) && !errors.Is(err, context.Canceled) {
				s.Errorf("a call failed because its context ended: got error %v, want one that wraps %v", err, context.Canceled)
			}
		}()
	}
	time.Sleep(20 * time.Millisecond)
	end(errCause)
	if !s.ends(others.Wait) {
		mu.Lock()
		s.Errorf("while calls wait for a store that fails, %d others have not returned %v after their contexts ended, want them to return promptly", waiting, s.patience)
		mu.Unlock()
	}
	cancel()
	if !s.ends(wg.Wait) {
		s.Errorf("while the store fails, a call has not returned %v after its context ended, want it to return promptly", s.patience)
	}
}

// goroutines reports an error if use leaves goroutines behind.
func (s *scene) goroutines(use func(ctx context.Context, key string)) {
	const calls = 60
	label := s.key("goroutines")
	pprof.Do(s.ctx, pprof.Labels("rule", label), func(ctx context.Context) {
		for i := range calls {
			ctx, cancel := context.WithCancel(ctx)
			use(ctx, s.key(fmt.Sprint(i)))
			if i%2 == 0 {
				cancel() // the other contexts do not end before the rule
			} else {
				defer cancel()
			}
		}
		// A goroutine inherits the labels of the one that starts it. On a busy
		// machine it may take a moment to end.
		for giveUp := time.Now().Add(s.patience); ; time.Sleep(10 * time.Millisecond) {
			left := labelled(label)
			if left <= calls/3 { // this goroutine, and those that serve the client
				return
			}
			if time.Now().After(giveUp) {
				s.Errorf("%d goroutines are left %v after the calls that started them returned, want none that stays for each call", left, s.patience)
				return
			}
		}
	})
}

// labelled returns the number of goroutines with a label.
func labelled(label string) (n int) {
	var buf bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&buf, 1); err != nil {
		return 0
	}
	_, stacks, _ := strings.Cut(buf.String(), "\n") // after the total
	for _, stack := range strings.Split(stacks, "\n\n") {
		if strings.Contains(stack, label) {
			var some int
			_, _ = fmt.Sscanf(stack, "%d @", &some)
			n += some
		}
	}
	return n
}
