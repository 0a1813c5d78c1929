//go:build go1.25

package session_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/lock"
)

// A browser has the cookie that it received last, and sends many requests at once.
type browser struct {
	mu    sync.Mutex
	token string
}

func (b *browser) cookie() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.token
}

func (b *browser) received(w *httptest.ResponseRecorder) {
	if token := sent(w); token != "" {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.token = token
	}
}

// trouble makes some of the writes fail, and loses the answers to others.
func (s *store) trouble(share float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	writes := func(op string) bool { return op == "Save" || op == "Touch" || op == "Delete" }
	before := s.before
	s.before = func(ctx context.Context, op string) error {
		if writes(op) && rand.Float64() < share/2 {
			return errStore
		}
		return before(ctx, op)
	}
	s.after = func(op string) error {
		if writes(op) && rand.Float64() < share/2 {
			return errStore
		}
		return nil
	}
}

// TestRenewalStorm: clients with requests in parallel, on a slow network that loses
// answers and delays them, over several renewals. Nobody is logged out, every change
// is counted once, and each client ends with one session. A store that loses writes,
// or their answers, breaks no page that only reads.
func TestRenewalStorm(t *testing.T) {
	const clients, lanes, minutes = 10, 4, 6
	for _, w := range ways {
		for _, processes := range []int{1, -3} {
			faults := processes < 0
			processes := max(processes, -processes)
			t.Run(fmt.Sprintf("%s, %d processes, faults %v", w.name, processes, faults), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var b leasingStore
					locker := &lock.Local{}
					var managers []*session.Manager
					for range processes {
						c := w.manager(t, &b, session.Config{}).Config()
						c.RenewAfter = time.Minute
						if w.lock == "Locker" {
							c.Lock.Locker = locker
							managers = append(managers, newManager(t, plain{&b}, c))
						} else {
							managers = append(managers, newManager(t, &b, c))
						}
					}
					b.distant(time.Millisecond)
					if faults {
						b.trouble(0.05)
					}
					var renewals, lost, failed atomic.Int64
					var all sync.WaitGroup
					for c := range clients {
						all.Go(func() {
							m := managers[0]
							s := m.Start()
							check(t, errors.Join(note.Set(s, "x"), s.Login(fmt.Sprint("user", c))))
							err := s.Save(ctx)
							for err != nil {
								err = s.Save(ctx)
							}
							br := &browser{token: s.Token().Reveal()}
							var counted, unknown atomic.Int64
							var requests sync.WaitGroup
							for l := range lanes {
								requests.Go(func() {
									r := rand.New(rand.NewPCG(uint64(c), uint64(l)))
									for end := time.Now().Add(minutes * time.Minute); time.Now().Before(end); {
										m := managers[r.IntN(len(managers))]
										token, slow := br.cookie(), time.Duration(r.IntN(5))*time.Second
										method, writes := "GET", r.IntN(3) == 0
										if writes {
											method = "POST"
										}
										w := visit(m, method, token, m.HandlerFunc(func(_ http.ResponseWriter, _ *http.Request, s *session.Session) error {
											user, err := s.User()
											if user != fmt.Sprint("user", c) || err != nil {
												t.Errorf("client %d is %q, %v", c, user, err)
											}
											if r.IntN(4) == 0 && m.Config().Mode != session.Exclusive {
												time.Sleep(slow)
											}
											if writes {
												return errOf(counter.Update(s, inc))
											}
											return nil
										}).ServeHTTP)
										switch {
										case w.Code == http.StatusOK && writes:
											counted.Add(1)
										case w.Code == http.StatusServiceUnavailable && writes && faults:
											unknown.Add(1)
											failed.Add(1)
										case w.Code != http.StatusOK:
											t.Errorf("%s: status %d", method, w.Code)
											return
										}
										if sent(w) != "" {
											renewals.Add(1)
										}
										if r.IntN(5) > 0 {
											time.Sleep(time.Duration(r.IntN(2000)) * time.Millisecond) // the answer is on its way
											br.received(w)
										} else if sent(w) != "" {
											lost.Add(1)
										}
										time.Sleep(time.Until(time.Now().Truncate(time.Second).Add(time.Duration(1+r.IntN(9)) * time.Second)))
									}
								})
							}
							requests.Wait()
							got := visit(m, "GET", br.cookie(), read(m))
							br.received(got)
							s, err = m.Open(ctx, br.cookie())
							if err != nil {
								t.Errorf("client %d: %v", c, err)
								return
							}
							n, err := counter.Get(s)
							check(t, err)
							_ = s.Close(ctx)
							if least := counted.Load(); w.mode != session.LastWrite && (int64(n) < least || int64(n) > least+unknown.Load()) {
								t.Errorf("client %d counted %d, perhaps %d more, and the session has %d", c, least, unknown.Load(), n)
							}
						})
					}
					all.Wait()
					b.healthy()
					if n := sessions(t, &b); n != clients && !faults || n > 2*clients {
						t.Errorf("%d sessions", n)
					}
					if renewals.Load() < clients*(minutes-2) || lost.Load() == 0 {
						t.Errorf("%d tokens were sent, of which %d were lost", renewals.Load(), lost.Load())
					}
					t.Logf("%d tokens were sent, of which %d were lost; %d pages could not be saved", renewals.Load(), lost.Load(), failed.Load())
				})
			})
		}
	}
}
