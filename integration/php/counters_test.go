package php

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// full runs the sizes of the tables in docs/php.md.
var full = flag.Bool("php.full", false, "count with 10 processes and 20 increments each; minutes")

// crowd returns how many writers each side has, and how often each increases.
func crowd() (writers, times int) {
	if *full {
		return 10, 20
	}
	return 3, 5
}

// A tally is what some writers have done.
type tally struct {
	acknowledged int
	refused      int // and tried again
	empty        int // sessions that were empty when they were opened
	errors       map[string]int
}

func (t *tally) add(u tally) {
	t.acknowledged += u.acknowledged
	t.refused += u.refused
	t.empty += u.empty
	if t.errors == nil {
		t.errors = map[string]int{}
	}
	for e, n := range u.errors {
		t.errors[e] += n
	}
}

func (t tally) String() string {
	s := fmt.Sprintf("%d acknowledged", t.acknowledged)
	if t.refused > 0 {
		s += fmt.Sprintf(", %d refused and repeated", t.refused)
	}
	if t.empty > 0 {
		s += fmt.Sprintf(", %d empty", t.empty)
	}
	for _, e := range slices.Sorted(maps.Keys(t.errors)) {
		s += fmt.Sprintf(", %d %s", t.errors[e], e)
	}
	return s
}

// increase has each worker increase name and "n" so many times, all at once.
func increase(t *testing.T, workers []*worker, id, name string, times int) (sum tally) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, w := range workers {
		wg.Go(func() {
			for range times {
				a, err := w.try(fmt.Sprintf(`return increase('%s', '%s', 'n');`, id, name))
				if err != nil || a.Exception != "" {
					t.Errorf("PHP: %v %s %s", err, a.Exception, w.stderr)
					return
				}
				var done struct{ Refused, Empty int }
				if err := json.Unmarshal(a.Value, &done); err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				sum.add(tally{acknowledged: 1, refused: done.Refused, empty: done.Empty})
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return sum
}

// counters returns the integers in a session.
func counters(t *testing.T, table, id string) map[string]int {
	t.Helper()
	var c map[string]int
	a := start(t, versioned(table, false)).run(t, open(id)+`$s = array_filter($_SESSION, 'is_int'); session_abort(); return (object) $s;`)
	if err := json.Unmarshal([]byte(a), &c); err != nil {
		t.Fatal(err)
	}
	return c
}

func startAll(t *testing.T, n int, s site) (workers []*worker) {
	for range n {
		workers = append(workers, start(t, s))
	}
	return workers
}

// PHP beside PHP: a site that moves to VersionedConnection server by server.
func TestPHPIncrements(t *testing.T) {
	t.Parallel()
	kinds := map[string]func(string, bool) site{"stock": stock, "versioned": versioned}
	tests := []struct {
		a        string
		aLocking bool
		b        string
		bLocking bool
		loses    string // whose acknowledged updates may be lost, by name
	}{
		{"versioned", true, "versioned", true, ""},
		{"versioned", true, "versioned", false, ""},
		{"versioned", false, "versioned", false, ""},
		{"versioned", true, "stock", true, ""},
		{"versioned", false, "stock", true, ""},
		{"versioned", true, "stock", false, "ab"},
		{"versioned", false, "stock", false, "ab"},
		{"stock", true, "stock", true, ""},
		{"stock", true, "stock", false, "ab"},
		{"stock", false, "stock", false, "ab"},
	}
	for _, tt := range tests {
		name := fmt.Sprintf("%s locking=%t beside %s locking=%t", tt.a, tt.aLocking, tt.b, tt.bLocking)
		t.Run(name, func(t *testing.T) {
			if !*full {
				t.Parallel()
			}
			table := newTable(t)
			writers, times := crowd()
			a := startAll(t, writers, kinds[tt.a](table, tt.aLocking).with("max_lock_wait_time", 120))
			b := startAll(t, writers, kinds[tt.b](table, tt.bLocking).with("max_lock_wait_time", 120))
			a[0].run(t, open("id")+`$_SESSION['user'] = 'ann'; session_write_close();`)
			began := time.Now()
			var both [2]tally
			var wg sync.WaitGroup
			wg.Go(func() { both[0] = increase(t, a, "id", "a", times) })
			wg.Go(func() { both[1] = increase(t, b, "id", "b", times) })
			wg.Wait()
			took := time.Since(began).Round(100 * time.Millisecond)
			c := counters(t, table, "id")
			for i, name := range []string{"a", "b"} {
				lost := both[i].acknowledged - c[name]
				t.Logf("%s: %v; lost %d; %v", name, both[i], lost, took)
				if lost != 0 && !strings.Contains(tt.loses, name) {
					t.Errorf("%s: %d of %d acknowledged updates were lost", name, lost, both[i].acknowledged)
				}
				if both[i].empty > 0 {
					t.Errorf("%s: a page saw an empty session", name)
				}
			}
		})
	}
}
