//go:build go1.25

package session_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-a7bee19b/session"
)

// TestDoubleLoginForLonger: the user has ticked "remember me" between two clicks on
// "log in". The session lasts as long as the second login says, although the first
// one has listed it for less.
func TestDoubleLoginForLonger(t *testing.T) {
	month := session.Lifetime{Idle: 30 * 24 * time.Hour, Absolute: 30 * 24 * time.Hour, Persistent: true}
	for _, w := range ways {
		for _, listed := range []bool{true, false} {
			for _, before := range []string{"", "ann"} { // whom the session belongs to
				for _, gap := range []time.Duration{0, time.Millisecond, 3 * time.Millisecond, time.Second, 20 * time.Second} {
					for _, processes := range []int{1, 2} {
						t.Run(fmt.Sprintf("%s, listed %v, of %q, %d processes, after %v", w.name, listed, before, processes, gap), func(t *testing.T) {
							synctest.Test(t, func(t *testing.T) {
								var b leasingStore
								m := w.manager(t, &b, session.Config{
									MaxIdleTimeout: month.Idle, MaxAbsoluteTimeout: month.Absolute,
									Owners: session.OwnersConfig{Index: listed},
								})
								managers := []*session.Manager{m, m}
								if processes == 2 {
									managers[1] = w.beside(t, &b, m)
								}
								token := begin(t, m, map[string]any{"note": "cart"})
								if before != "" {
									token = loggedIn(t, m, token)
									time.Sleep(time.Minute)
								}
								b.distant(2 * time.Millisecond)
								all := parallel(2, func(i int) *httptest.ResponseRecorder {
									time.Sleep(time.Duration(i) * gap)
									return visit(managers[i], "POST", token, managers[i].HandlerFunc(func(_ http.ResponseWriter, _ *http.Request, s *session.Session) error {
										l := session.Login{User: "ann"}
										if i == 1 {
											l.Lifetime = month
										}
										return s.LoginWith(l)
									}).ServeHTTP)
								})
								b.healthy()
								for i, r := range all {
									if r.Code != http.StatusOK || sent(r) == "" {
										t.Fatalf("click %d: status %d, token %q", i, r.Code, sent(r))
									}
								}
								// Whichever answer has come last.
								first := visit(m, "GET", sent(all[0]), read(m))
								page(t, first, "cart")
								last := sent(all[1])
								if got := sent(first); got != "" && got != last {
									t.Errorf("the first token leads to %q", got)
								}
								s := open(t, m, last)
								l, err := s.Lifetime()
								check(t, err)
								if gap > 0 && l != month {
									t.Errorf("the lifetime is %v", l)
								}
								check(t, s.Close(ctx))
								index := 0
								if listed {
									index = 1 // record of the owner
								}
								if n := sessions(t, &b, token, sent(all[0]), last); n != 1+index {
									t.Errorf("%d sessions", n-index)
								}
								if listed {
									if n := len(handles(t, m, session.User("ann"))); n != 1 {
										t.Errorf("%d are listed", n)
									}
								}
								if l == month {
									time.Sleep(month.Absolute - time.Hour)
									check(t, open(t, m, last).Close(ctx))
								}
								if listed {
									check(t, m.Revoke(ctx, session.User("ann")))
									if n := sessions(t, &b); n != index {
										t.Errorf("%d sessions after a revocation", n-index)
									}
								}
							})
						})
					}
				}
			}
		}
	}
}
