package integration

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/codec"
)

// TestRenewal has many requests at once whose session is due for a new ID, and two
// logins at once, on each store, with and without faults.
func TestRenewal(t *testing.T) {
	count := session.Key[int]{Name: "n"}
	eachLock(t, func(t *testing.T, a address) {
		for i, cfg := range []session.Config{{}, {Mode: session.Exclusive, SafeMode: session.Merge}} {
			for j, faults := range []bool{false, true} {
				t.Run(fmt.Sprintf("Mode %v, faults %v", cfg.Mode, faults), func(t *testing.T) {
					ctx := t.Context()
					backend := a.backend(t)
					a, link := a.through(t)
					cfg.RenewAfter, cfg.CommitTimeout = time.Hour, time.Minute
					cfg.Lock.TTL, cfg.Lock.MaxWait = time.Minute, time.Minute
					processes := []*session.Manager{a.manager(t, cfg), a.manager(t, cfg)}
					m := processes[0]

					// A session that began two hours ago.
					token := fmt.Sprintf("%032d", 2*i+j)
					data, err := codec.MessagePack{}.Join(map[string][]byte{"n": {0}})
					if err == nil {
						_, err = backend.Save(ctx, session.DefaultStoreKey(token), session.Record{
							Data: data, Created: time.Now().Add(-2 * time.Hour), Expires: time.Now().Add(time.Hour),
						})
					}
					if err != nil {
						t.Fatal(err)
					}

					visit := func(m *session.Manager, method, token string, f func(s *session.Session) error) (status int, sent string) {
						r := httptest.NewRequestWithContext(ctx, method, "/", nil)
						r.AddCookie(&http.Cookie{Name: "__Host-session", Value: token})
						w := httptest.NewRecorder()
						m.HandlerFunc(func(_ http.ResponseWriter, _ *http.Request, s *session.Session) error {
							return f(s)
						}).ServeHTTP(w, r)
						for _, c := range w.Result().Cookies() {
							sent = c.Value
						}
						return w.Code, sent
					}
					look := func(s *session.Session) error {
						if s.IsNew() {
							t.Error("the session is lost")
						}
						return nil
					}
					inc := func(s *session.Session) error { return errOf(count.Update(s, func(n int) int { return n + 1 })) }
					write := func(s *session.Session) error { return errors.Join(look(s), inc(s)) }
					login := func(s *session.Session) error { return errors.Join(s.Login("ann"), inc(s)) }

					const requests = 12
					counted, unknown := 0, 0
					fresh := ""
					var mu sync.Mutex
					together := func(n int, token string, f func(i int, m *session.Manager) (method string, do func(*session.Session) error)) {
						if faults {
							link.SetRule(a.store().faulty(seed(t)))
						}
						var wg sync.WaitGroup
						for i := range n {
							wg.Go(func() {
								m := processes[i%len(processes)]
								method, do := f(i, m)
								status, sent := visit(m, method, token, do)
								mu.Lock()
								defer mu.Unlock()
								switch {
								case status == http.StatusOK && method == "POST":
									counted++
								case status == http.StatusServiceUnavailable && faults:
									unknown++
								case status != http.StatusOK:
									t.Errorf("%s: status %d", method, status)
								}
								if sent != "" && fresh != "" && sent != fresh {
									t.Error("two responses have different tokens")
								}
								if sent != "" {
									fresh = sent
								}
							})
						}
						wg.Wait()
						link.SetRule(nil)
					}
					together(requests, token, func(i int, _ *session.Manager) (string, func(*session.Session) error) {
						if i%2 == 0 {
							return "GET", look
						}
						return "POST", write
					})
					if fresh == "" && !faults {
						t.Error("the ID was not renewed")
					}
					// The client received none of the answers.
					status, sent := visit(m, "GET", token, look)
					if status != http.StatusOK || sent == "" || fresh != "" && sent != fresh {
						t.Fatalf("under the old ID: status %d, token sent %v", status, sent != "")
					}
					token, fresh = sent, ""
					together(2, token, func(int, *session.Manager) (string, func(*session.Session) error) { return "POST", login })
					if fresh == "" {
						if !faults {
							t.Error("nobody is logged in")
						}
						return
					}
					s, err := m.Open(ctx, fresh)
					if err != nil {
						t.Fatal(err)
					}
					user, uerr := s.User()
					n, err := count.Get(s)
					if err := errors.Join(err, uerr, s.Close(ctx)); user != "ann" || n < counted || n > counted+unknown || err != nil {
						t.Errorf("%q counted %d, want %d, perhaps %d more, %v", user, n, counted, unknown, err)
					}
				})
			}
		}
	})
}
