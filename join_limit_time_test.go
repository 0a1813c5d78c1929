//go:build go1.25

package session_test

import (
	"fmt"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/memory"
)

// TestDoubleLoginAtTheLimit: two processes log in the user of one session, and there
// is room for one. The second login finds the first one listed, whose marker is stored
// while the second looks which sessions are alive.
func TestDoubleLoginAtTheLimit(t *testing.T) {
	for _, policy := range []session.LimitPolicy{session.EndOldest, session.RefuseLogin} {
		for limit := 1; limit <= 3; limit++ {
			t.Run(fmt.Sprint(policy, limit), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var b memory.Backend
					p1, p2 := &process{Backend: &b}, &process{Backend: &b}
					cfg := renewing()
					cfg.Owners.MaxSessions, cfg.Owners.AtLimit = limit, policy
					m1, m2 := newManager(t, p1, cfg), newManager(t, p2, cfg)
					for range limit - 1 {
						check(t, login(t, m1, session.Login{User: "ann"}).Close(ctx))
					}
					token := begin(t, m1, map[string]any{"note": "cart"})
					var second *httptest.ResponseRecorder
					var wg sync.WaitGroup
					var once1, once2 sync.Once
					listed, stored := make(chan bool), make(chan bool)
					full := false
					p2.hooks(func(_ int, op, key string) error {
						switch {
						case strings.HasPrefix(key, "owner."):
							full = true
						case full && op == "Load" && key != keyed(token):
							once2.Do(func() { close(listed); <-stored })
						}
						return nil
					}, nil)
					p1.hooks(func(_ int, op, key string) error {
						if op == "Save" && key == keyed(token) {
							once1.Do(func() {
								wg.Add(1)
								go func() {
									defer wg.Done()
									second = visit(m2, "POST", token, loginAs(m2, "ann", true))
								}()
								<-listed
							})
						}
						return nil
					}, nil)
					first := visit(m1, "POST", token, loginAs(m1, "ann", true))
					close(stored)
					wg.Wait()
					page(t, first, "welcome")
					page(t, second, "welcome")
					if sent(first) != sent(second) {
						t.Error("two tokens")
					}
					check(t, open(t, m1, sent(first)).Close(ctx))
					if n := len(handles(t, m1, session.User("ann"))); n != limit {
						t.Errorf("%d sessions", n)
					}
				})
			})
		}
	}
}
