package php

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/dynamodb"
)

// goIncrease increases "go" and "n" by requests to the Managers, all at once.
func goIncrease(ctx context.Context, managers []*session.Manager, id string, times int) (sum tally) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	var failures sync.Once
	var first error
	for _, m := range managers {
		wg.Go(func() {
			for range times {
				err := func() error {
					s, err := m.Open(ctx, id)
					if err != nil {
						return err
					}
					_, goErr := goes.Update(s, plusOne)
					err = errors.Join(goErr, add(s), s.Save(ctx))
					return errors.Join(err, s.Close(ctx))
				}()
				var one tally
				switch {
				case err == nil:
					one.acknowledged = 1
				case errors.Is(err, session.ErrLockLost):
					one.errors = map[string]int{"locks lost": 1}
				case errors.Is(err, session.ErrNotFound):
					one.errors = map[string]int{"not found": 1}
				case errors.Is(err, session.ErrLockTimeout):
					one.errors = map[string]int{"lock timeouts": 1}
				case errors.Is(err, session.ErrConflict):
					one.errors = map[string]int{"conflicts": 1}
				default:
					one.errors = map[string]int{"other errors": 1}
					failures.Do(func() { first = err })
				}
				mu.Lock()
				sum.add(one)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if first != nil {
		fmt.Println("Go:", first)
	}
	return sum
}

// TestIncrements has PHP pages and Go pages increase a number in one session. The
// table of docs/php.md is what it prints with -php.full.
func TestIncrements(t *testing.T) {
	t.Parallel()
	versionedSide := besideVersioned
	lossy := dynamodb.PHPConfig{Connection: dynamodb.StockLocking, AcceptLoss: true}
	unlocked := dynamodb.PHPConfig{Connection: dynamodb.StockUnlocked, AcceptLoss: true}
	tests := []struct {
		name   string
		site   func(table string, locking bool) site
		locked bool
		beside dynamodb.PHPConfig
		mode   session.Mode
		loses  bool // what was acknowledged
	}{
		{"VersionedConnection, locking", versioned, true, versionedSide, session.Merge, false},
		{"VersionedConnection, locking", versioned, true, versionedSide, session.Exclusive, false},
		{"VersionedConnection", versioned, false, versionedSide, session.Merge, false},
		{"VersionedConnection", versioned, false, versionedSide, session.Exclusive, false},
		{"stock handler, locking", stock, true, besideStock, session.Merge, false},
		{"stock handler, locking", stock, true, lossy, session.Exclusive, false},
		{"stock handler", stock, false, unlocked, session.Merge, true},
		{"stock handler", stock, false, unlocked, session.Exclusive, true},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%s; Go %v", tt.name, tt.mode), func(t *testing.T) {
			if !*full {
				t.Parallel()
			}
			table := newTable(t)
			writers, times := crowd()
			pages := startAll(t, writers, tt.site(table, tt.locked).with("max_lock_wait_time", 120))
			pages[0].run(t, open(id1)+`$_SESSION['user'] = 'ann'; session_write_close();`)
			// Two Managers, as on two machines.
			m := []*session.Manager{
				manager(t, table, tt.beside, session.Config{Mode: tt.mode}),
				manager(t, table, tt.beside, session.Config{Mode: tt.mode}),
			}
			var managers []*session.Manager
			for i := range writers {
				managers = append(managers, m[i%2])
			}
			began := time.Now()
			var byPHP, byGo tally
			var wg sync.WaitGroup
			wg.Go(func() { byPHP = increase(t, pages, id1, "php", times) })
			wg.Go(func() { byGo = goIncrease(t.Context(), managers, id1, times) })
			wg.Wait()
			took := time.Since(began).Round(100 * time.Millisecond)
			c := counters(t, table, id1)
			lostPHP, lostGo := byPHP.acknowledged-c["php"], byGo.acknowledged-c["go"]
			t.Logf("%d of %d survive in %v; PHP: %v, lost %d; Go: %v, lost %d",
				c["n"], byPHP.acknowledged+byGo.acknowledged, took, byPHP, lostPHP, byGo, lostGo)
			if tt.loses {
				return
			}
			if lostPHP != 0 || lostGo != 0 || c["n"] != c["php"]+c["go"] {
				t.Errorf("what was acknowledged was lost: %v", c)
			}
			if byPHP.empty > 0 || len(byGo.errors) > 0 {
				t.Errorf("PHP: %v; Go: %v", byPHP, byGo)
			}
			if got := pages[0].run(t, open(id1)+`session_write_close(); return $_SESSION['user'];`); got != `"ann"` {
				t.Errorf("the user is %s", got)
			}
		})
	}
}
