package php

import "testing"

func TestThin(t *testing.T) {
	for _, locking := range []bool{false, true} {
		table := newTable(t)
		for _, s := range []site{stock(table, locking), versioned(table, locking)} {
			w := start(t, s)
			w.run(t, open("abc")+"$_SESSION['n'] = ($_SESSION['n'] ?? 0) + 1; session_write_close();")
		}
		w := start(t, versioned(table, locking))
		w.want(t, show("abc"), `{"n":2}`)
		t.Log(row(t, table, "abc"))
	}
}
