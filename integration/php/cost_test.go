package php

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// TestCost counts the requests and capacity units of a page with a small session.
func TestCost(t *testing.T) {
	t.Parallel()
	table := newTable(t)
	pages := []struct{ name, code string }{
		{"visitor without values", `session_write_close();`},
		{"begins a session", `$_SESSION['n'] = 1; session_write_close();`},
		{"reads", `session_write_close();`},
		{"changes", `$_SESSION['n']++; session_write_close();`},
		{"destroys", `session_destroy();`},
	}
	for n, tt := range []struct {
		name string
		site site
		want []string // for each page
	}{
		{"stock handler", stock(table, false),
			[]string{"GetItem 1, UpdateItem 1", "GetItem 1, UpdateItem 1", "GetItem 1, UpdateItem 1", "GetItem 1, UpdateItem 1", "DeleteItem 1, GetItem 1"}},
		{"stock handler, locking", stock(table, true),
			[]string{"UpdateItem 2", "UpdateItem 2", "UpdateItem 2", "UpdateItem 2", "DeleteItem 1, UpdateItem 1"}},
		{"VersionedConnection", versioned(table, false),
			[]string{"GetItem 1", "GetItem 1, UpdateItem 1", "GetItem 1, UpdateItem 1", "GetItem 1, UpdateItem 1", "DeleteItem 1, GetItem 1"}},
		{"VersionedConnection, locking", versioned(table, true),
			[]string{"GetItem 1, UpdateItem 1", "GetItem 1, UpdateItem 2", "UpdateItem 2", "UpdateItem 2", "DeleteItem 1, UpdateItem 1"}},
	} {
		p := newProxy(t)
		w := start(t, tt.site.through(p.URL()))
		for i, page := range pages {
			p.Reset()
			w.run(t, open(fmt.Sprintf("id%d", n))+page.code)
			var sent []string
			read, written := 0.0, 0.0
			for _, op := range slices.Sorted(maps.Keys(p.Counts())) {
				c := p.Counts()[op]
				sent = append(sent, fmt.Sprintf("%s %d", op, c.Requests))
				if op == "GetItem" {
					read += c.Capacity
				} else {
					// A refused write costs 1, and the engine does not say so.
					written += c.Capacity + float64(c.Requests-c.Applied)
				}
			}
			got := strings.Join(sent, ", ")
			t.Logf("%s | %s | %s | %g WCU, %g RCU", tt.name, page.name, got, written, read)
			if got != tt.want[i] {
				t.Errorf("%s, a page that %s has sent %s, want %s", tt.name, page.name, got, tt.want[i])
			}
		}
	}
}
