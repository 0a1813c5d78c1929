package php

import (
	"strings"
	"testing"
	"time"
)

// begun makes a table with the session {"n":1} under "id".
func begun(t *testing.T) (table string) {
	t.Helper()
	table = newTable(t)
	start(t, versioned(table, false)).run(t, open("id")+`$_SESSION['n'] = 1; session_write_close();`)
	return table
}

// A holder that dies keeps others waiting for its lease, and no longer. They go
// on with the session, never with an empty one.
func TestHolderKilled(t *testing.T) {
	t.Parallel()
	table := begun(t)
	holder := start(t, versioned(table, true).with("lock_lease", 1))
	holder.run(t, open("id")+`$_SESSION['n'] = 5;`)
	holder.kill(t)
	next := start(t, versioned(table, true).with("max_lock_wait_time", 60))
	next.want(t, open("id")+`$s = $_SESSION; $_SESSION['n']++; session_write_close(); return $s;`, `{"n":1}`)
	next.want(t, show("id"), `{"n":2}`)
}

func TestLockTimeout(t *testing.T) {
	t.Parallel()
	table := begun(t)
	holder := start(t, versioned(table, true).with("lock_lease", 600))
	other := start(t, versioned(table, true).with("max_lock_wait_time", 1))
	holder.run(t, open("id"))
	other.throws(t, open("id"), "lock")
	other.want(t, `return session_status() === PHP_SESSION_NONE;`, `true`)
	holder.run(t, `$_SESSION['n']++; session_write_close();`)
	other.want(t, show("id"), `{"n":2}`)
}

// A holder that has lost its lock cannot write.
func TestSlowHolder(t *testing.T) {
	t.Parallel()
	table := begun(t)
	holder := start(t, versioned(table, true).with("lock_lease", 1))
	other := start(t, versioned(table, true).with("max_lock_wait_time", 60))

	// If nobody has taken the lock, it harms nobody.
	holder.run(t, open("id")+`usleep(1200000); $_SESSION['n']++; session_write_close();`)
	other.want(t, show("id"), `{"n":2}`)

	// Another holds the lock, and has changed nothing yet.
	holder.run(t, open("id"))
	other.run(t, open("id"))
	holder.refused(t, `$_SESSION['n'] = 9; session_write_close();`, notSaved)
	other.run(t, `$_SESSION['n']++; session_write_close();`)
	other.want(t, show("id"), `{"n":3}`)

	// Another has held it, and has changed nothing.
	holder.run(t, open("id"))
	other.run(t, show("id"))
	holder.refused(t, `$_SESSION['n'] = 9; session_write_close();`, notSaved)
	other.want(t, show("id"), `{"n":3}`)

	// A holder that has changed nothing frees no lock of others.
	holder.run(t, open("id"))
	other.run(t, open("id"))
	holder.run(t, `session_write_close();`)
	other.run(t, `$_SESSION['n']++; session_write_close();`)
	other.want(t, show("id"), `{"n":4}`)
}

// The stock handler's lock has no lease.
func TestStockLock(t *testing.T) {
	t.Parallel()
	past, soon := number(time.Now().Add(-time.Minute).Unix()), number(time.Now().Add(time.Hour).Unix())
	tests := []struct {
		name   string
		row    attributes
		reads  string // "": it throws
		writes bool
	}{
		{"session", attributes{"data": text("n|i:1;"), "expires": soon}, "", false},
		{"session, and an old lease", attributes{"data": text("n|i:1;"), "expires": soon, "lock_until": number(1), "version": blob("12345678")}, "", false},
		{"expired", attributes{"data": text("n|i:1;"), "expires": past}, "[]", true},
		{"a lock alone", nil, "[]", true},
		{"marker", attributes{"private": blob("m"), "expires": soon, "version": blob("12345678")}, "[]", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			table := newTable(t)
			r := attributes{"lock": number(1)}
			for name, v := range tt.row {
				r[name] = v
			}
			put(t, table, "id", r)
			w := start(t, versioned(table, true).with("max_lock_wait_time", 1))
			if tt.reads == "" {
				w.throws(t, open("id"), "lock")
			} else {
				w.want(t, open("id")+`$s = $_SESSION; $_SESSION['m'] = 1; session_write_close(); return $s;`, tt.reads)
			}
			// Without locking, a write has to respect it, too.
			put(t, table, "id", r)
			w = start(t, versioned(table, false).with("max_lock_wait_time", 1))
			code := open("id") + `$_SESSION['m'] = 1; session_write_close();`
			if tt.writes {
				w.run(t, code)
			} else {
				w.refused(t, code, notSaved)
			}
		})
	}
}

// A page waits for one with the stock handler.
func TestWaitForStock(t *testing.T) {
	t.Parallel()
	table := begun(t)
	for _, id := range []string{"id", "new"} {
		holder := start(t, stock(table, true))
		next := start(t, versioned(table, true).with("max_lock_wait_time", 60))
		holder.run(t, open(id)+`$_SESSION['n'] = 7;`)
		done := make(chan answer, 1)
		go func() {
			a, err := next.try(open(id) + `$_SESSION['n']++; session_write_close();`)
			if err != nil {
				a.Exception = err.Error()
			}
			done <- a
		}()
		holder.run(t, `usleep(100000); session_write_close();`)
		if a := <-done; a.Exception != "" || len(a.Warnings) > 0 {
			t.Fatalf("%+v", a)
		}
		next.want(t, show(id), `{"n":8}`)
	}
}

// A write without a lock waits for a lock whose holder changes nothing, and is
// refused after one whose holder does.
func TestUnlockedWriteMeetsLock(t *testing.T) {
	t.Parallel()
	table := begun(t)
	holder := start(t, versioned(table, true).with("lock_lease", 600))
	writer := start(t, versioned(table, false).with("max_lock_wait_time", 60))
	for _, tt := range []struct{ page, reason string }{{``, ""}, {`$_SESSION['m'] = 1;`, notSaved}} {
		writer.run(t, open("id"))
		holder.run(t, open("id"))
		done := make(chan answer, 1)
		go func() {
			a, err := writer.try(`$_SESSION['n']++; session_write_close();`)
			if err != nil {
				a.Exception = err.Error()
			}
			done <- a
		}()
		holder.run(t, `usleep(100000);`+tt.page+`session_write_close();`)
		a := <-done
		if a.Exception != "" || (len(a.Warnings) > 0) != (tt.reason != "") || !strings.Contains(strings.Join(a.Warnings, ""), tt.reason) {
			t.Errorf("after %q: %+v", tt.page, a)
		}
	}
	writer.want(t, show("id"), `{"n":2,"m":1}`)

	holder.run(t, open("id"))
	writer = start(t, versioned(table, false).with("max_lock_wait_time", 1))
	writer.refused(t, open("id")+`$_SESSION['n']++; session_write_close();`, notSaved)
	// The end of a session may move under a lock.
	writer.run(t, show("id"))
	holder.run(t, `$_SESSION['n']++; session_write_close();`)
	writer.want(t, show("id"), `{"n":3,"m":1}`)
}

// session_reset reads again under the lock that the page holds.
func TestResetUnderLock(t *testing.T) {
	t.Parallel()
	table := begun(t)
	w := start(t, versioned(table, true).with("max_lock_wait_time", 1))
	w.want(t, open("id")+`$_SESSION['n'] = 5; session_reset(); $n = $_SESSION['n']; $_SESSION['n'] = 2; session_write_close(); return $n;`, `1`)
	w.want(t, show("id"), `{"n":2}`)
}
