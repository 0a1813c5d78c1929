package session_test

import (
	"fmt"
	"testing"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/memory"
)

// TestRevokeWithStaleReads packs pages while a revocation reads them. The
// revocation looks again, and is told what the record of the owner was before.
func TestRevokeWithStaleReads(t *testing.T) {
	for _, marked := range []bool{false, true} { // in what it is told
		for _, looks := range []int{0, 1, 2, 5, 1000} {
			t.Run(fmt.Sprint(marked, looks), func(t *testing.T) {
				var b memory.Backend
				l := &lagging{process: process{Backend: &b}, first: 2, last: 1 + looks}
				mr, m := indexed(t, l, session.OwnersConfig{}), indexed(t, &b, session.OwnersConfig{})
				var all []*session.Session
				for range 127 {
					all = append(all, login(t, m, session.Login{User: "ann"}))
				}
				saved := false
				l.hooks(func(n int, _, key string) error {
					if n == 1 {
						l.key = key
						l.old, _ = b.Load(ctx, key)
					}
					return nil
				}, func(_ int, op, key string) error {
					if op == "Save" && key == l.key && !saved {
						saved = true
						if marked {
							l.old, _ = b.Load(ctx, key)
						}
						all = append(all, login(t, m, session.Login{User: "ann"}))
					}
					return nil
				})
				err := mr.Revoke(t.Context(), session.User("ann"))
				if looks < 1000 {
					check(t, err)
				}
				for i, s := range all[:127] {
					if err == nil && alive(t, m, s) {
						t.Fatalf("%d is alive", i)
					}
				}
				if !alive(t, m, all[127]) {
					t.Error("the login that came later is not alive")
				}
				check(t, m.Revoke(t.Context(), session.User("ann")))
				for i, s := range all {
					if alive(t, m, s) {
						t.Fatalf("%d is alive", i)
					}
				}
			})
		}
	}
}
