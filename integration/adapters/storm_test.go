package adapters

import (
	"fmt"
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
