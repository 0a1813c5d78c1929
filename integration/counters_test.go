package integration

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session"
)

// tally has the name of each increment of visits, stored with it. So an
// increment with an unknown outcome can be looked up, and in the end each must
// be there once.
var tally = session.Key[[]string]{Name: "tally"}

// count is the job of a process that increments.
func (w *worker) count() error {
	w.tell(event{Kind: "ready"})
	w.hear()
	for i := w.From; i < w.Count; i++ {
		name := fmt.Sprintf("%s.%d", w.Name, i)
		if err := w.increment(name, w.Resolve && i == w.From); err != nil {
			return err
		}
		w.tell(event{Kind: "done", Name: name})
	}
	return nil
}

// increment tries until the increment is stored. Only after a try with an
// unknown outcome may it find that it is stored: maybe says that there was one.
func (w *worker) increment(name string, maybe bool) error {
	for w.ctx.Err() == nil {
		stored, unsure, err := w.try(name)
		switch {
		case stored && !maybe:
			return fmt.Errorf("%s is stored, and every try was refused", name)
		case stored || err == nil:
			return nil
		}
		kind := "refused"
		if unsure {
			kind, maybe = "unsure", true
		}
		w.tell(failed(kind, name, err))
	}
	return w.ctx.Err()
}

func (w *worker) try(name string) (stored, unsure bool, err error) {
	s, err := w.m.Open(w.ctx, w.Token)
	if err != nil {
		return false, false, err
	}
	defer func() { _ = s.Close(w.ctx) }() // if it fails, the lease ends the lock
	names, err := tally.Get(s)
	if err != nil {
		return false, false, err
	}
	if slices.Contains(names, name) {
		return true, false, nil
	}
	if session.Mode(w.Mode) == session.Exclusive {
		n, gerr := visits.Get(s)
		err = errors.Join(gerr, visits.Set(s, n+1), tally.Set(s, append(names, name)))
	} else {
		err = errors.Join(errOf(visits.Update(s, inc)), errOf(tally.Update(s, func(names []string) []string { return append(names, name) })))
	}
	if err != nil {
		return false, false, err
	}
	w.tell(event{Kind: "holding", Name: name})
	time.Sleep(w.Hold)
	err = s.Save(w.ctx)
	for _, sentinel := range sentinels {
		if errors.Is(err, sentinel) {
			return false, false, err
		}
	}
	return false, err != nil, err
}

// counting is a run of processes that increment one session.
type counting struct {
	acknowledged map[string]int
	waits        []time.Duration // for locks
	refused      map[string]int  // tries, by the sentinels
	unsure       int             // tries with an unknown outcome
	kills        int
	took         time.Duration
}

// count runs a process for each job until all is counted. If every is not zero,
// it kills a process that has the lock that often, and starts it again.
func count(t *testing.T, every time.Duration, jobs ...job) *counting {
	t.Helper()
	type said struct {
		event
		from int // index in jobs
		end  bool
	}
	all := make(chan said)
	procs := make([]*process, len(jobs))
	run := func(i int) {
		p := start(t, jobs[i])
		procs[i] = p
		go func() {
			for e := range p.events {
				select {
				case all <- said{e, i, false}:
				case <-t.Context().Done():
				}
			}
			select {
			case all <- said{event{}, i, true}:
			case <-t.Context().Done():
			}
		}()
	}
	for i := range jobs {
		run(i)
	}
	c := &counting{acknowledged: map[string]int{}, refused: map[string]int{}}
	done := make([]int, len(jobs))
	ready, left, killed := 0, len(jobs), map[int]bool{}
	var began, last time.Time
	for left > 0 {
		var e said
		select {
		case e = <-all:
		case <-time.After(time.Minute):
			t.Fatal("nothing has happened for a minute")
		}
		j := &jobs[e.from]
		switch {
		case e.end && killed[e.from]:
			delete(killed, e.from)
			j.From, j.Resolve = done[e.from], true
			run(e.from)
		case e.end:
			left--
			if want := j.Count; done[e.from] != want {
				procs[e.from].stop()
				t.Errorf("%s ended after %d of %d: %s", j.Name, done[e.from], want, &procs[e.from].said)
			}
		case e.Kind == "error":
			t.Errorf("%s: %s", j.Name, e.Err)
		case e.Kind == "ready":
			if ready++; ready == len(jobs) {
				began = time.Now()
				last = began.Add(-every / 2)
				for _, p := range procs {
					p.say("go")
				}
			} else if ready > len(jobs) {
				procs[e.from].say("go")
			}
		case e.Kind == "done":
			done[e.from]++
			c.acknowledged[e.Name]++
		case e.Kind == "locked":
			c.waits = append(c.waits, e.Waits)
		case e.Kind == "refused":
			slices.Sort(e.Is)
			c.refused[fmt.Sprint(e.Is)]++
		case e.Kind == "unsure":
			c.unsure++
		case e.Kind == "holding" && every > 0 && time.Since(last) >= every && !killed[e.from]:
			procs[e.from].signal(syscall.SIGKILL)
			killed[e.from] = true
			last = time.Now()
			c.kills++
		}
	}
	c.took = time.Since(began)
	return c
}

// check compares the stored names with the acknowledged ones: every acknowledged
// name is stored once, and no other name is stored.
func (c *counting) check(t *testing.T, a address, token string, want int) {
	t.Helper()
	m := a.manager(t, session.Config{})
	s, err := m.Open(t.Context(), token)
	if err != nil {
		t.Fatal(err)
	}
	n, err := visits.Get(s)
	names, nerr := tally.Get(s)
	kept, kerr := note.Get(s)
	if err := errors.Join(err, nerr, kerr); err != nil {
		t.Fatal(err)
	}
	if kept != "kept" {
		t.Errorf("what was in the session before is %q", kept)
	}
	once := map[string]bool{}
	for _, name := range names {
		if once[name] {
			t.Errorf("%s is stored twice", name)
		}
		once[name] = true
		if c.acknowledged[name] == 0 {
			t.Errorf("%s is stored, and was not acknowledged", name)
		}
	}
	for name, times := range c.acknowledged {
		if times != 1 || !once[name] {
			t.Errorf("%s was acknowledged %d times, and stored is %t", name, times, once[name])
		}
	}
	if n != want || len(once) != want || len(c.acknowledged) != want {
		t.Errorf("counted to %d with %d names, %d were acknowledged, want %d", n, len(once), len(c.acknowledged), want)
	}
	slices.Sort(c.waits)
	text := ""
	if len(c.waits) > 0 {
		text = fmt.Sprintf("; %d locks, waits: median %v, longest %v", len(c.waits),
			c.waits[len(c.waits)/2].Round(time.Millisecond), c.waits[len(c.waits)-1].Round(time.Millisecond))
	}
	t.Logf("%d of %d in %v; %d killed, %d outcomes unknown, refused %v%s",
		n, want, c.took.Round(time.Millisecond), c.kills, c.unsure, c.refused, text)
}

func logCost(t *testing.T, c *counting, links []link) {
	t.Helper()
	var counts []string
	for op, n := range allCounts(links...) {
		counts = append(counts, fmt.Sprintf("%d %s of which %d succeeded", n.Requests, op, n.Applied))
	}
	slices.Sort(counts)
	t.Logf("%s requests for each lock: %s", perLock(total(links...).Requests, len(c.waits)), strings.Join(counts, ", "))
}

// TestExclusiveCountersInProcesses has ten processes that read a number and
// store the next one under a lock. Each number occurs once, even if requests are
// lost and processes are killed.
//
// A process that was killed is started again, and continues with the increment
// that it did not acknowledge. It acquires the lock first, so a request that its
// predecessor had in flight is either stored by then, and found by name, or
// fenced off for good. So the count is exact here, too.
func TestExclusiveCountersInProcesses(t *testing.T) {
	const processes, increments = 10, 20
	tests := []struct {
		name   string
		faults bool
		kill   time.Duration
		ttl    time.Duration
		hold   time.Duration
	}{
		{name: "no fault", ttl: 10 * time.Second},
		{name: "faults", faults: true, ttl: time.Second},
		{name: "holders killed", kill: time.Second, ttl: 400 * time.Millisecond, hold: 5 * time.Millisecond},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			eachLock(t, func(t *testing.T, a address) {
				token := a.begin(t)
				var js []job
				var links []link
				var seed = seed(t)
				for i := range processes {
					at, l := a.through(t)
					links = append(links, l)
					if tt.faults {
						at.Attempts = 3 // so that some outcomes are unknown
						l.SetRule(a.store().faulty(seed + uint64(i)))
					}
					js = append(js, job{
						Kind: "count", Name: fmt.Sprint("p", i), At: at, Token: token, Mode: int(session.Exclusive),
						TTL: tt.ttl, MaxWait: time.Minute, Hold: tt.hold, Count: increments,
					})
				}
				c := count(t, tt.kill, js...)
				c.check(t, a, token, processes*increments)
				if tt.kill > 0 && c.kills < 2 {
					t.Errorf("only %d were killed", c.kills)
				}
				logCost(t, c, links)
			})
		})
	}
}

// TestMergeAndExclusiveInProcesses mixes writers that lock with writers that do
// not, and checks that no write of either is lost.
func TestMergeAndExclusiveInProcesses(t *testing.T) {
	const processes, increments = 6, 20
	eachBackend(t, func(t *testing.T, a address) {
		token := a.begin(t)
		seed := seed(t)
		var js []job
		for i := range processes {
			at, l := a.through(t)
			at.Attempts = 3
			l.SetRule(a.store().faulty(seed + uint64(i)))
			j := job{
				Kind: "count", Name: fmt.Sprint("p", i), At: at, Token: token, Mode: int(session.Exclusive),
				TTL: time.Second, MaxWait: time.Minute, Hold: 2 * time.Millisecond, Count: increments,
			}
			if i%2 > 0 {
				j.Mode = int(session.Merge)
			}
			js = append(js, j)
		}
		c := count(t, 0, js...)
		c.check(t, a, token, processes*increments)
	})
}

// errOf returns the error of a call that also returns a value.
func errOf[T any](_ T, err error) error { return err }
