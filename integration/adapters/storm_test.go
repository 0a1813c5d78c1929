package adapters

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
)

// TestStorm has 10 clients of two servers add 1 to a counter, 201 times in all.
// Each increment is applied or answered with an error.
func TestStorm(t *testing.T) {
	each(t, func(t *testing.T, connect func() (*site, *backend)) {
		var servers [2]*site
		for i := range servers {
			servers[i], _ = connect()
		}
		first := servers[0].do(t, "", "inc:n save")
		if first.status != http.StatusOK {
			t.Fatalf("%+v", first)
		}
		var applied, refused atomic.Int64
		applied.Add(1)
		var wg sync.WaitGroup
		for i := range 10 {
			wg.Go(func() {
				for j := range 20 {
					switch got := servers[(i+j)%2].do(t, first.cookie, "inc:n save"); got.status {
					case http.StatusOK:
						applied.Add(1)
					case http.StatusConflict:
						refused.Add(1)
					default:
						t.Errorf("%+v", got)
					}
				}
			})
		}
		wg.Wait()
		got := servers[0].get(t, first.cookie, "n")
		t.Logf("%s: %d applied, %d refused, stored %s", t.Name(), applied.Load(), refused.Load(), got)
		if want := fmt.Sprint(applied.Load()); got != want || applied.Load()+refused.Load() != 201 {
			t.Errorf("n=%s; %d of %d requests were told that they had added 1", got, applied.Load(), applied.Load()+refused.Load())
		}
	})
}

// TestRandomStorm has sessions that are changed, read and
// logged out at random, by two servers whose stores fail now and then. What was
// answered with success is stored, and what was logged out stays out.
func TestRandomStorm(t *testing.T) {
	each(t, func(t *testing.T, connect func() (*site, *backend)) {
		var servers [2]*site
		var backends [2]*backend
		for i := range servers {
			servers[i], backends[i] = connect()
		}
		type visitor struct {
			cookie  string
			applied atomic.Int64
			out     atomic.Bool
		}
		visitors := make([]visitor, 8)
		for i := range visitors {
			visitors[i].cookie = servers[0].begin(t)
		}
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for range 25 {
					v := &visitors[rand.IntN(len(visitors))]
					i := rand.IntN(2)
					switch n := rand.IntN(40); {
					case n == 0:
						if servers[i].do(t, v.cookie, "end").status == http.StatusOK {
							v.out.Store(true)
						}
					case n < 4:
						backends[i].down.Store(n == 1)
					case n < 10:
						servers[i].do(t, v.cookie, "get:n save")
					default:
						if servers[i].do(t, v.cookie, "get:a inc:n save").body == "1" {
							v.applied.Add(1)
						}
					}
				}
			})
		}
		wg.Wait()
		backends[0].down.Store(false)
		for i := range visitors {
			v := &visitors[i]
			want := fmt.Sprint(v.applied.Load())
			if want == "0" || v.out.Load() {
				want = "-"
			}
			servers[0].wantValue(t, v.cookie, "n", want)
		}
	})
}
