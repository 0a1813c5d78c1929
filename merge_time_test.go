//go:build go1.25

package session_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-a7bee19b/session"
)

// crowd makes many requests that all read a session before the first one saves,
// spread over the processes that managers stand for. It returns the errors of
// those that failed.
func crowd(n int, managers []*session.Manager, token string, work func(s *session.Session, i int) error) []error {
	var wg sync.WaitGroup
	var mu sync.Mutex
	var failed []error
	for i := range n {
		wg.Go(func() {
			m := managers[i%len(managers)]
			s, err := m.Open(ctx, token)
			if err == nil {
				err = errors.Join(work(s, i), finish(m, s))
			}
			if err != nil {
				mu.Lock()
				defer mu.Unlock()
				failed = append(failed, err)
			}
		})
	}
	wg.Wait()
	return failed
}

// distant is a store whose calls take a while.
func (s *store) distant(latency time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.before = func(context.Context, string) error {
		time.Sleep(latency)
		return nil
	}
}

func count(calls []string, op string) (n int) {
	for _, call := range calls {
		if call == op {
			n++
		}
	}
	return n
}

// TestManyWritersOfOneSession checks that the writers of one process line up
// after their first conflict, so that each needs its Load, one refused Save and
// one successful Save, and that none gives up. Conflicts with another process
// are possible.
func TestManyWritersOfOneSession(t *testing.T) {
	sum := session.Key[int]{Name: "counter", Resolve: func(base, mine, theirs int) int { return theirs + mine - base }}
	own := func(s *session.Session, i int) error { return s.Set(fmt.Sprint("own", i), i) }
	works := []struct {
		name  string
		mode  session.Mode
		n     int
		work  func(s *session.Session, i int) error
		total int // the final value of the counter
	}{
		{"Update", session.Merge, 1000, func(s *session.Session, _ int) error { return errOf(counter.Update(s, inc)) }, 1000},
		{"Resolve", session.Merge, 1000, func(s *session.Session, _ int) error { return sum.Set(s, 1) }, 1000},
		{"Set", session.Merge, 200, own, 0},
		{"LastWrite", session.LastWrite, 1000, own, 0},
	}
	for _, processes := range []int{1, 2} {
		for _, tt := range works {
			t.Run(fmt.Sprintf("%s, %d processes", tt.name, processes), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					n := tt.n
					var b store
					var managers []*session.Manager
					for range processes {
						managers = append(managers, newManager(t, &b, session.Config{Mode: tt.mode, Lock: session.LockConfig{MaxWaiters: 3}}))
					}
					m := managers[0]
					token := begin(t, m, map[string]any{"counter": 0})
					b.took()
					b.distant(5 * time.Millisecond)
					for _, err := range crowd(n, managers, token, tt.work) {
						t.Error(err)
					}
					calls := b.took()
					loads, saves := count(calls, "Load"), count(calls, "Save")
					if processes == 1 && (loads != n || saves != 2*n-1) || loads+saves > 4*n {
						t.Errorf("%d writers made %d Loads and %d Saves", n, loads, saves)
					}
					b.healthy()
					wantValue(t, m, token, "counter", tt.total)
					if names := open(t, m, token).Names(); tt.mode == session.Merge && tt.total == 0 && len(names) != n+1 {
						t.Errorf("%d values, want %d", len(names), n+1)
					}
				})
			})
		}
	}
}

// TestManyWritersUnderALock checks that all writers wait for the end of the
// lock. If it does not end in time they give up together, and not one after the
// other.
func TestManyWritersUnderALock(t *testing.T) {
	const n, wait = 300, 3 * time.Second
	for name, tt := range map[string]struct {
		held    time.Duration
		process bool // the holder's process is that of the writers
		refused int
	}{
		"freed, by another process":    {time.Second, false, 0},
		"freed, by this process":       {time.Second, true, 0},
		"not in time, by another":      {2 * wait, false, n},
		"not in time, by this process": {2 * wait, true, n},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var b leasingStore
				m := newManager(t, &b, session.Config{Lock: session.LockConfig{MaxWait: wait, MaxWaiters: 3}})
				locking, err := m.With(session.Route{Mode: session.Exclusive})
				check(t, err)
				if !tt.process {
					locking = newManager(t, &b, session.Config{Mode: session.Exclusive})
				}
				token := begin(t, m, map[string]any{"counter": 0})
				holder := open(t, locking, token)
				time.AfterFunc(tt.held, func() { check(t, finish(locking, holder)) })
				b.took()
				b.distant(time.Millisecond)
				began := time.Now()
				failed := crowd(n, []*session.Manager{m}, token, func(s *session.Session, _ int) error { return errOf(counter.Update(s, inc)) })
				if took := time.Since(began); tt.refused > 0 && took > wait+10*time.Millisecond {
					t.Errorf("the last one gave up after %v", took)
				}
				for _, err := range failed {
					wantErr(t, err, session.ErrLockTimeout)
					wantErr(t, err, session.ErrLocked)
				}
				calls := b.took()
				if saves := count(calls, "Save"); len(failed) != tt.refused || saves > 2*n+1 {
					t.Errorf("%d of %d writers gave up, want %d, after %d Saves", len(failed), n, tt.refused, saves)
				}
				time.Sleep(2 * wait)
				b.healthy()
				wantValue(t, m, token, "counter", n-tt.refused)
			})
		})
	}
}

// TestManyWritersAndOneLogin checks that acknowledged changes are in the session
// under its new ID, and that the other requests fail because the old ID has
// ended.
func TestManyWritersAndOneLogin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 200
		var b store
		m := newManager(t, &b, session.Config{})
		token := begin(t, m, map[string]any{"counter": 0})
		b.distant(5 * time.Millisecond)
		var rotated *session.Session
		failed := crowd(n, []*session.Manager{m}, token, func(s *session.Session, i int) error {
			if i == n/2 {
				time.Sleep(100 * time.Millisecond)
				rotated = s
				return errors.Join(s.Login("ann"), errOf(counter.Update(s, inc)))
			}
			return errOf(counter.Update(s, inc))
		})
		for _, err := range failed {
			wantErr(t, err, session.ErrNotFound)
		}
		b.healthy()
		wantValue(t, m, rotated.Token().Reveal(), "counter", n-len(failed))
	})
}

// TestHandlersThatSaveTheSameSession checks that a handler is answered with 503
// if its turn does not come in time, and with 200 if it does.
func TestHandlersThatSaveTheSameSession(t *testing.T) {
	const n = 400
	for latency, late := range map[time.Duration]bool{10 * time.Millisecond: false, 50 * time.Millisecond: true} {
		synctest.Test(t, func(t *testing.T) {
			var b store
			m := newManager(t, &b, session.Config{
				CommitTimeout: time.Second, Lock: session.LockConfig{MaxWait: 6 * time.Second},
				ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) { w.WriteHeader(session.Status(err)) },
			})
			token := begin(t, m, map[string]any{"counter": 0})
			b.distant(latency)
			var wg sync.WaitGroup
			var stored, other atomic.Int32
			began := time.Now()
			for range n {
				wg.Go(func() {
					w := serve(t, m, token, func(_ http.ResponseWriter, _ *http.Request, s *session.Session) {
						check(t, errOf(counter.Update(s, inc)))
					})
					switch w.Code {
					case http.StatusOK:
						stored.Add(1)
					case http.StatusServiceUnavailable:
					default:
						other.Add(1)
					}
				})
			}
			wg.Wait()
			if took := time.Since(began); other.Load() > 0 || (stored.Load() < n) != late || took > 7*time.Second+2*latency {
				t.Errorf("%v away: %d of %d stored, %d with another status than 200 and 503, after %v", latency, stored.Load(), n, other.Load(), took)
			}
			b.healthy()
			wantValue(t, m, token, "counter", int(stored.Load()))
		})
	}
}

// TestManyWritersAmongHolders checks that holders and writers without a lock
// pass the session on to each other, and that nothing is lost.
func TestManyWritersAmongHolders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 200
		var b leasingStore
		m := newManager(t, &b, session.Config{Lock: session.LockConfig{MaxWait: time.Minute}})
		locking, err := m.With(session.Route{Mode: session.Exclusive})
		check(t, err)
		token := begin(t, m, map[string]any{"counter": 0})
		b.distant(time.Millisecond)
		work := func(s *session.Session, i int) error {
			if i%4 > 0 {
				return errOf(counter.Update(s, inc))
			}
			time.Sleep(time.Millisecond)
			v, err := counter.Get(s)
			return errors.Join(err, counter.Set(s, v+1))
		}
		for _, err := range crowd(n, []*session.Manager{locking, m, m, m}, token, work) {
			t.Error(err)
		}
		b.healthy()
		wantValue(t, m, token, "counter", n)
	})
}

// TestManyWritersAndAStoreThatFails checks that a writer whose call fails gets
// the error, and that the others behind it continue.
func TestManyWritersAndAStoreThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 200
		var b store
		m := newManager(t, &b, session.Config{})
		token := begin(t, m, map[string]any{"counter": 0})
		b.before = func(_ context.Context, op string) error {
			time.Sleep(5 * time.Millisecond)
			b.mu.Lock()
			defer b.mu.Unlock()
			if op == "Save" && len(b.calls)%10 == 0 {
				return errStore
			}
			return nil
		}
		failed := crowd(n, []*session.Manager{m}, token, func(s *session.Session, _ int) error { return errOf(counter.Update(s, inc)) })
		for _, err := range failed {
			wantErr(t, err, errStore)
		}
		if len(failed) < n/20 || len(failed) > n/2 {
			t.Errorf("%d of %d failed", len(failed), n)
		}
		b.healthy()
		wantValue(t, m, token, "counter", n-len(failed))
	})
}
