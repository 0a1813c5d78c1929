package conformance

import (
	"cmp"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// A mutant is the name of a fault, and of the rule that has to fail on it.
type mutant struct{ bug, rule string }

func mutantsOf(hooked []hookedMutant) (mutants []mutant) {
	for _, h := range hooked {
		mutants = append(mutants, h.mutant)
	}
	return mutants
}

// skips reports whether a rule is not run on the mutant. A wide rule may fail
// beside the one that has to.
func (m mutant) skips(rule string, wide bool) bool { return wide && m.bug != "" && rule != m.rule }

// testMutants runs all rules on each mutant. It does not use t.Parallel, with which
// only GOMAXPROCS mutants would wait at the same time.
func testMutants(t *testing.T, mutants []mutant, failures func(t *testing.T, m mutant) map[string]string) {
	t.Helper()
	var wg sync.WaitGroup
	atOnce := make(chan struct{}, 24)
	for _, m := range append(mutants, mutant{}) {
		wg.Add(1)
		atOnce <- struct{}{}
		go func() {
			defer func() { <-atOnce; wg.Done() }()
			t.Run(cmp.Or(m.bug, "none"), func(t *testing.T) {
				failed := failures(t, m)
				// On a busy machine the steps of a race may not meet, a rule may notice
				// a call only after its end, and rules may fail for lack of time. A
				// real failure shows again.
				for range 3 {
					if (quotes(failed[m.rule]) || m.bug == "") && len(failed) <= 1 {
						break
					}
					again := failures(t, m)
					maps.DeleteFunc(failed, func(rule, _ string) bool {
						_, ok := again[rule]
						return !ok && rule != m.rule
					})
					if log, ok := again[m.rule]; ok {
						failed[m.rule] = log
					}
				}
				testMutant(t, m, failed)
			})
		}()
	}
	wg.Wait()
}

func quotes(log string) bool { return strings.Contains(log, "the contract says: ") }

func testMutant(t *testing.T, m mutant, failed map[string]string) {
	t.Helper()
	log, ok := failed[m.rule]
	switch {
	case !ok && m.bug != "":
		t.Errorf("rule %s passes, want it to fail", m.rule)
	case ok && !quotes(log):
		t.Errorf("rule %s fails without a quote of the contract:\n%s", m.rule, log)
	}
	delete(failed, m.rule)
	for rule, log := range failed {
		t.Errorf("rule %s fails too, want it to pass:\n%s", rule, log)
	}
}

func TestEveryRuleHasAMutant(t *testing.T) {
	has := map[string]bool{}
	for kind, mutants := range map[string][]mutant{
		"": backendMutants, "locking ": lockingMutants, "locker ": append(lockerMutants, wideLockerMutants...), "codec ": codecMutants, "sweeper ": sweeperMutants, "lister ": listerMutants, "text ": mutantsOf(textMutants),
	} {
		for _, m := range mutants {
			has[kind+m.rule] = true
		}
	}
	for _, m := range append(mutantsOf(hookedMutants), lateMutants...) { // they may be of any kind of rule
		for _, r := range backendRules {
			if r.name == m.rule {
				has[m.rule] = true
			}
		}
		for _, r := range lockingBackendRules {
			if r.name == m.rule {
				has["locking "+m.rule] = true
			}
		}
		for _, r := range sweeperRules {
			if r.name == m.rule {
				has["sweeper "+m.rule] = true
			}
		}
	}
	check := func(rule string) {
		if !has[rule] {
			t.Errorf("rule %q has no mutant", rule)
		}
		delete(has, rule)
	}
	for _, rule := range backendRules {
		check(rule.name)
	}
	for _, rule := range slices.Concat(lockingBackendRules, []backendRule{wantsLocking}) {
		check("locking " + rule.name)
	}
	for _, rule := range slices.Concat(sweeperRules, sweptLockRules, []backendRule{wantsSweeper}) {
		check("sweeper " + rule.name)
	}
	for _, rule := range slices.Concat(listerRules, listedLockRules, []backendRule{wantsLister}) {
		check("lister " + rule.name)
	}
	for _, rule := range slices.Concat(textRules, lockedTextRules, []backendRule{wantsText}) {
		check("text " + rule.name)
	}
	for _, rule := range lockerRules {
		check("locker " + rule.name)
	}
	for _, rule := range codecRules {
		check("codec " + rule.name)
	}
	for name := range has {
		t.Errorf("a mutant names rule %q, which does not exist", name)
	}
}

// failures runs all rules on a backend with a bug. It returns the logs of those
// that fail, by name.
func failures(t *testing.T, backend Backend, m mutant) map[string]string {
	return failuresOf(t, rulesFor(backend, backend.New(t)), backend, m)
}

func failuresOf(t *testing.T, rules []backendRule, backend Backend, m mutant) map[string]string {
	failed := map[string]string{}
	res := &results{spell: 5 * time.Millisecond}
	for _, rule := range rules {
		if m.skips(rule.name, rule.wide) {
			continue
		}
		if ok, log := run(t, func(t testing.TB) {
			rule.test(t, backend, backend.clients(t, backend.New(t)), patienceWith(m.bug), res)
		}); !ok {
			failed[rule.name] = log
		}
	}
	if why := res.unexplained(); why != "" && len(failed) == 0 {
		failed["left out"] = why
	}
	return failed
}

// patienceWith returns a short patience for bugs that make a call hang.
func patienceWith(bug string) time.Duration {
	if strings.Contains(bug, "waits") || strings.Contains(bug, "hangs") {
		return 100 * time.Millisecond
	}
	return 10 * time.Second
}

// run runs f as a test whose failure does not fail t.
func run(t testing.TB, f func(testing.TB)) (ok bool, log string) {
	r := &recorder{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer r.cleanUp()
		f(r)
	}()
	<-done
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.failed, r.log.String()
}

// A recorder is a testing.TB that keeps its result to itself. It overrides all
// methods that rules use.
type recorder struct {
	testing.TB
	mu       sync.Mutex
	failed   bool
	log      strings.Builder
	cleanups []func()
}

func (r *recorder) Helper() {}

func (r *recorder) FailNow() { r.Fail(); runtime.Goexit() }

func (r *recorder) Fail() { r.mu.Lock(); r.failed = true; r.mu.Unlock() }

func (r *recorder) Log(a ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	fmt.Fprintln(&r.log, a...)
}

func (r *recorder) Failed() bool { r.mu.Lock(); defer r.mu.Unlock(); return r.failed }

func (r *recorder) Logf(format string, a ...any) { r.Log(fmt.Sprintf(format, a...)) }

func (r *recorder) Error(a ...any) { r.Log(a...); r.Fail() }

func (r *recorder) Errorf(format string, a ...any) {
	r.Logf(format, a...)
	r.Fail()
}

func (r *recorder) Fatal(a ...any) { r.Log(a...); r.FailNow() }

func (r *recorder) Fatalf(format string, a ...any) { r.Logf(format, a...); r.FailNow() }

func (r *recorder) Cleanup(f func()) { r.cleanups = append(r.cleanups, f) }

func (r *recorder) cleanUp() {
	for _, f := range slices.Backward(r.cleanups) {
		f()
	}
}
