package integration

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session"
)

// TestManyWritersInOneProcess has writers that have all read the session before
// the first one saves. After its one conflict each gets its turn, and none is
// refused.
func TestManyWritersInOneProcess(t *testing.T) {
	const writers = 200
	for _, processes := range []int{1, 2} {
		eachStore(t, func(t *testing.T, a address) {
			token := a.begin(t)
			at, l := a.through(t)
			var sessions []*session.Session
			var managers []*session.Manager
			for range processes { // each process has a Manager
				managers = append(managers, at.manager(t, session.Config{}))
			}
			for i := range writers {
				m := managers[i%processes]
				s := mustOpen(t, m, token)
				if _, err := visits.Update(s, inc); err != nil {
					t.Fatal(err)
				}
				sessions = append(sessions, s)
			}
			began := time.Now()
			var wg sync.WaitGroup
			for _, s := range sessions {
				wg.Go(func() {
					if err := errors.Join(s.Save(t.Context()), s.Close(t.Context())); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			if n, _, _ := stored(t, a, token); n != writers {
				t.Errorf("counted to %d, want %d", n, writers)
			}
			requests := total(l).Requests
			t.Logf("%d processes: %s requests for each writer, %v", processes, perLock(requests, writers), time.Since(began).Round(time.Millisecond))
			if requests > 4*writers {
				t.Errorf("%d requests for %d writers", requests, writers)
			}
		})
	}
}
