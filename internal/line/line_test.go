package line_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session/internal/line"
)

// TestOneInFront: whatever many requests do at once, one of them is in front of
// each line, and it has what the one before has done.
func TestOneInFront(t *testing.T) {
	const keys, requests, turns = 5, 16, 200
	var ls line.Lines[int]
	var front [keys]atomic.Int32
	var counts, gaveUp [keys]int // by the one in front alone
	var handed atomic.Int32
	var wg sync.WaitGroup
	for i := range requests {
		wg.Add(1)
		go func() {
			defer wg.Done()
			r := rand.New(rand.NewPCG(1, uint64(i)))
			for range turns {
				k := r.IntN(keys)
				key := fmt.Sprint(k)
				ctx, cancel := context.WithCancel(context.Background())
				if r.IntN(4) == 0 {
					go cancel()
				}
				turn, err := ls.Enter(ctx, key, requests, time.Now().Add(time.Hour), 0, false)
				cancel()
				if err != nil {
					if !errors.Is(err, context.Canceled) {
						t.Error(err)
					}
					continue
				}
				if n := front[k].Add(1); n != 1 {
					t.Errorf("%d are in front", n)
				}
				if turn.Done != nil {
					handed.Add(1)
					if *turn.Done != counts[k] {
						t.Errorf("it was handed %d, and the last one was %d", *turn.Done, counts[k])
					}
				}
				counts[k]++
				done := counts[k]
				turn.Done = &done
				if r.IntN(8) == 0 {
					turn.Done = nil
					gaveUp[k]++
				}
				if !ls.Busy(key) {
					t.Error("nobody is there")
				}
				ls.Moves(key, &turn, false)
				front[k].Add(-1)
				ls.Leave(key, &turn)
			}
		}()
	}
	wg.Wait()
	for k := range keys {
		if ls.Busy(fmt.Sprint(k)) {
			t.Error("somebody is left")
		}
	}
	t.Logf("%v turns, of which %v handed on nothing; %d were handed something", counts, gaveUp, handed.Load())
}
