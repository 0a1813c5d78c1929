package php

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/dynamodb"
)

// eachVersioned runs test beside VersionedConnection, with and without locking.
func eachVersioned(t *testing.T, test func(t *testing.T, table string, w *worker, m *session.Manager)) {
	connections(t, func(t *testing.T, table string, s site) {
		w := start(t, s.with("max_lock_wait_time", 120))
		w.run(t, open(id1)+`$_SESSION['n'] = 1; $_SESSION['user'] = 'ann'; session_write_close();`)
		test(t, table, w, manager(t, table, besideVersioned, session.Config{}))
	})
}

func TestGoHolderKilled(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"versioned", "stock"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			table := newTable(t)
			w := start(t, versioned(table, true).with("max_lock_wait_time", 120))
			w.run(t, open(id1)+`$_SESSION['n'] = 1; session_write_close();`)
			if kind == "versioned" {
				killHolder(t, table, 2*time.Second)
				w.want(t, open(id1)+`$s = $_SESSION; $_SESSION['n']++; session_write_close(); return $s;`, `{"n":1}`)
				w.want(t, show(id1), `{"n":2}`)
				return
			}
			// The stock handler does not know the lease. It goes on with an empty
			// session and stores it, so New refuses mode Exclusive beside it.
			killHolder(t, table, time.Second)
			w = start(t, stock(table, true).with("max_lock_wait_time", 2))
			w.want(t, open(id1)+`$s = $_SESSION; $_SESSION['m'] = 1; session_write_close(); return $s;`, `[]`)
			w.want(t, show(id1), `{"m":1}`)
		})
	}
}

func TestPHPHolderKilled(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		site   func(table string, locking bool) site
		beside dynamodb.PHPConfig
	}{
		{"VersionedConnection", versioned, besideVersioned},
		{"stock", stock, dynamodb.PHPConfig{Connection: dynamodb.StockLocking, ForeignLease: time.Second, AcceptLoss: true}},
	} {
		for _, mode := range []session.Mode{session.Merge, session.Exclusive} {
			t.Run(tt.name+" "+mode.String(), func(t *testing.T) {
				t.Parallel()
				table := newTable(t)
				m := manager(t, table, tt.beside, session.Config{Mode: mode})
				first := start(t, tt.site(table, true))
				first.run(t, open(id1)+`$_SESSION['n'] = 1; session_write_close();`)
				w := start(t, tt.site(table, true).with("lock_lease", 2))
				w.run(t, open(id1)+`$_SESSION['n'] = 8;`)
				w.kill(t)
				saved(t, m, id1, add)
				first.want(t, show(id1), `{"n":2}`)
				if row(t, table, id1)["lock"] != nil {
					t.Error("the lock was not freed")
				}
			})
		}
	}
}

// A stock holder that dies before it has stored anything leaves a row that is a
// lock alone.
func TestPHPKilledBeforeItsFirstWrite(t *testing.T) {
	t.Parallel()
	table := newTable(t)
	m := manager(t, table, besideStock, session.Config{})
	w := start(t, stock(table, true))
	w.run(t, open(id1)+`$_SESSION['n'] = 8;`)
	w.kill(t)
	none(t, m, id1)
	next := start(t, versioned(table, true).with("max_lock_wait_time", 1))
	next.want(t, open(id1)+`$s = $_SESSION; $_SESSION['n'] = 1; session_write_close(); return $s;`, `[]`)
	saved(t, m, id1, add)
	next.want(t, show(id1), `{"n":2}`)
}

// A holder whose lock Go has taken cannot write.
func TestSlowPHPHolder(t *testing.T) {
	t.Parallel()
	table := newTable(t)
	m := manager(t, table, besideVersioned, session.Config{Mode: session.Exclusive})
	w := start(t, versioned(table, true).with("lock_lease", 1).with("max_lock_wait_time", 120))
	w.run(t, open(id1)+`$_SESSION['n'] = 1; session_write_close();`)

	w.run(t, open(id1))
	s := opened(t, m, id1) // waits for the lease
	w.refused(t, `$_SESSION['n'] = 9; session_write_close();`, notSaved)
	if err := errors.Join(add(s), s.Save(t.Context())); err != nil {
		t.Error(err)
	}
	w.want(t, show(id1), `{"n":2}`)

	// Go has held the lock meanwhile and has changed nothing.
	w.run(t, open(id1))
	if err := opened(t, m, id1).Close(t.Context()); err != nil {
		t.Error(err)
	}
	w.refused(t, `$_SESSION['n'] = 9; session_write_close();`, notSaved)
	w.want(t, show(id1), `{"n":2}`)
}

// A Go page that has lost its lock to PHP cannot write.
func TestSlowGoHolder(t *testing.T) {
	t.Parallel()
	table := newTable(t)
	m := manager(t, table, besideVersioned, session.Config{Mode: session.Exclusive,
		Lock: session.LockConfig{TTL: 200 * time.Millisecond, MaxHold: 200 * time.Millisecond}})
	w := start(t, versioned(table, true).with("max_lock_wait_time", 120))
	w.run(t, open(id1)+`$_SESSION['n'] = 1; session_write_close();`)
	s := opened(t, m, id1)
	w.run(t, open(id1)) // waits for the lease
	if err := add(s); err != nil {
		t.Error(err)
	}
	if err := s.Save(t.Context()); !errors.Is(err, session.ErrLockLost) {
		t.Errorf("Save after the lock was lost: %v", err)
	}
	w.run(t, `$_SESSION['n'] = 5; session_write_close();`)
	w.want(t, show(id1), `{"n":5}`)
}

func TestLogout(t *testing.T) {
	t.Parallel()
	eachVersioned(t, func(t *testing.T, table string, w *worker, _ *session.Manager) {
		// A logout does not wait longer than this for PHP's lock.
		m := manager(t, table, besideVersioned, session.Config{Lock: session.LockConfig{MaxWait: 200 * time.Millisecond}})
		// Go logs out while PHP works.
		s := opened(t, m, id1)
		w.run(t, open(id1))
		if err := s.Destroy(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.refused(t, `$_SESSION['n']++; session_write_close();`, notSaved)
		none(t, m, id1)
		w.want(t, show(id1), `[]`)

		// PHP logs out while Go works.
		w.run(t, open(id2)+`$_SESSION['n'] = 1; session_write_close();`)
		s = opened(t, m, id2)
		w.run(t, open(id2)+`session_destroy();`)
		if err := errors.Join(add(s), s.Save(t.Context())); !errors.Is(err, session.ErrNotFound) && !errors.Is(err, session.ErrConflict) {
			t.Errorf("Save after a logout: %v", err)
		}
		none(t, m, id2)
		w.want(t, show(id2), `[]`)
	})
}

// What the stock handler does is no promise of this module. The test shows it for
// docs/php.md.
func TestStockHandlerRevives(t *testing.T) {
	t.Parallel()
	for _, locking := range []bool{false, true} {
		table := newTable(t)
		beside := dynamodb.PHPConfig{Connection: dynamodb.StockUnlocked, AcceptLoss: true}
		if locking {
			beside = dynamodb.PHPConfig{Connection: dynamodb.StockLocking}
		}
		m := manager(t, table, beside, session.Config{Lock: session.LockConfig{MaxWait: 200 * time.Millisecond}})
		w := start(t, stock(table, locking))
		w.run(t, open(id1)+`$_SESSION['user'] = 'ann'; session_write_close();`)
		s := opened(t, m, id1)
		w.run(t, open(id1)+`$_SESSION['n'] = 1;`)
		if err := s.Destroy(t.Context()); err != nil {
			t.Errorf("locking %t: Destroy: %v", locking, err)
		}
		none(t, m, id1)
		w.run(t, `session_write_close();`)
		w.want(t, show(id1), `{"user":"ann","n":1}`)

		// After a Login, the old ID stays dead for Go, and PHP brings it back for
		// itself.
		s = opened(t, m, id1)
		if !locking {
			w.run(t, open(id1)+`$_SESSION['n'] = 2;`)
		}
		if err := errors.Join(s.Login("bob"), s.Save(t.Context()), s.Close(t.Context())); err != nil {
			t.Fatal(err)
		}
		if !locking {
			w.run(t, `session_write_close();`)
			w.want(t, show(id1), `{"user":"ann","n":2}`)
		}
		if _, err := m.Open(t.Context(), id1); err == nil {
			t.Errorf("locking %t: Go opens the ID that it has replaced", locking)
		}
		w.want(t, open(s.Token().Reveal())+`session_write_close(); return $_SESSION['user'];`, `"bob"`)
	}
}

// Go gives the session a new ID while PHP has it open.
func TestGoRotates(t *testing.T) {
	t.Parallel()
	moves := map[string]func(s *session.Session) error{
		"Login":  func(s *session.Session) error { return s.Login("ann") },
		"Rotate": func(s *session.Session) error { return s.Rotate() },
	}
	for name, move := range moves {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			table := newTable(t)
			m := manager(t, table, besideVersioned, session.Config{})
			w, other := start(t, versioned(table, false)), start(t, versioned(table, true))
			begin := open(id1) + `$_SESSION['n'] = 1; $_SESSION['user'] = 'ann'; session_write_close();`
			w.run(t, begin)
			w.run(t, open(id1))
			s := saved(t, m, id1, move)
			now := s.Token().Reveal()
			if row(t, table, id1)["private"] == nil {
				t.Fatal("the old row is no marker")
			}
			w.refused(t, `$_SESSION['n']++; session_write_close();`, notSaved)
			w.want(t, show(id1), `[]`)
			other.want(t, open(now)+`$_SESSION['n']++; session_write_close(); return $_SESSION['n'];`, `2`)
			saved(t, m, now, add)
			other.want(t, open(now)+`session_write_close(); return $_SESSION['n'];`, `3`)

			// A logout that has not seen the new ID says that it was none.
			w.run(t, open(now))
			s = saved(t, m, now, move)
			w.refused(t, `session_destroy();`, "moved")
			other.want(t, open(s.Token().Reveal())+`session_destroy();`, `null`)
			none(t, m, s.Token().Reveal())

			// A browser that has only the old ID begins anew under it, with
			// nothing of the session.
			w.want(t, open(id1)+`$s = $_SESSION; $_SESSION['n'] = 7; session_write_close(); return $s;`, `[]`)
			n, err := counter.Get(opened(t, m, id1))
			if n != 7 || err != nil {
				t.Errorf("Go reads %d %v", n, err)
			}
		})
	}
}

// A renewal of the ID is the work of a response.
func TestGoRenews(t *testing.T) {
	t.Parallel()
	eachVersioned(t, func(t *testing.T, table string, w *worker, _ *session.Manager) {
		m := manager(t, table, besideVersioned, session.Config{RenewAfter: time.Hour})
		change(t, table, id1, attributes{"created": number(time.Now().Add(-2 * time.Hour).UnixMilli())})
		w.run(t, open(id1))
		if row(t, table, id1)["lock"] != nil {
			w.run(t, `session_write_close();`) // Go would leave the ID as it is
		}
		request := httptest.NewRequest(http.MethodGet, "/", nil)
		request.AddCookie(&http.Cookie{Name: "PHPSESSID", Value: id1})
		response := httptest.NewRecorder()
		m.HandlerFunc(func(_ http.ResponseWriter, _ *http.Request, s *session.Session) error {
			_, err := counter.Get(s)
			return err
		}).ServeHTTP(response, request)
		var now string
		for _, c := range response.Result().Cookies() {
			if c.Name == "PHPSESSID" {
				now = c.Value
			}
		}
		if now == "" || now == id1 {
			t.Fatalf("the response has the ID %q", now)
		}
		a := w.page(t, `if (session_status() === PHP_SESSION_ACTIVE) { $_SESSION['n'] = 9; session_write_close(); }`)
		if a.Exception != "" {
			t.Error(a.Exception)
		}
		w.want(t, show(id1), `[]`)
		w.want(t, open(now)+`session_write_close(); return $_SESSION['n'];`, `1`)
	})
}

// PHP gives the session a new ID while Go has it open.
func TestPHPRotates(t *testing.T) {
	t.Parallel()
	eachVersioned(t, func(t *testing.T, table string, w *worker, m *session.Manager) {
		s := opened(t, m, id1)
		now := w.run(t, open(id1)+`session_regenerate_id(true); $_SESSION['n']++; $new = session_id(); session_write_close(); return $new;`)
		now = now[1 : len(now)-1]
		if err := errors.Join(add(s), s.Save(t.Context())); err == nil {
			t.Error("Go has saved a session under an ID that PHP has replaced")
		}
		none(t, m, id1)
		s = opened(t, m, now)
		n, err := counter.Get(s)
		user, userErr := s.User()
		if err := errors.Join(err, userErr); n != 2 || err != nil || user != "ann" {
			t.Errorf("Go reads %d %v of %q", n, err, user)
		}
		// With false, both IDs go on, as the manual of PHP says.
		w.run(t, open(now)+`session_regenerate_id(false); $_SESSION['n'] = 10; session_write_close();`)
		if err := errors.Join(add(s), s.Save(t.Context())); err != nil {
			t.Error(err)
		}
		w.want(t, open(now)+`session_write_close(); return $_SESSION['n'];`, `3`)
	})
}

func TestExpiry(t *testing.T) {
	t.Parallel()
	eachVersioned(t, func(t *testing.T, table string, w *worker, m *session.Manager) {
		// Each side keeps the session alive for the other.
		soon := time.Now().Add(time.Minute).Unix()
		change(t, table, id1, attributes{"expires": number(soon)})
		w.run(t, show(id1))
		if integer(t, row(t, table, id1)["expires"]) <= soon {
			t.Error("PHP has not moved the end")
		}
		change(t, table, id1, attributes{"expires": number(soon)})
		saved(t, m, id1, add)
		if integer(t, row(t, table, id1)["expires"]) <= soon {
			t.Error("Go has not moved the end")
		}
		// PHP does not know Go's absolute timeout. Go ends the session for both.
		change(t, table, id1, attributes{"created": number(time.Now().Add(-48 * time.Hour).UnixMilli())})
		w.want(t, open(id1)+`session_write_close(); return $_SESSION['n'];`, `2`)
		none(t, m, id1)
		w.want(t, show(id1), `[]`)
		// An expired row is no session, and no obstacle.
		w.run(t, open(id1)+`$_SESSION['n'] = 1; session_write_close();`)
		change(t, table, id1, attributes{"expires": number(time.Now().Add(-time.Minute).Unix())})
		w.want(t, open(id1)+`$s = $_SESSION; session_write_close(); return $s;`, `[]`)
		none(t, m, id1)
		w.run(t, open(id1)+`$_SESSION['n'] = 4; session_write_close();`)
		saved(t, m, id1, add)
		w.want(t, show(id1), `{"n":5}`)
	})
}

// A cart as a site has it.
type cartLine struct {
	SKU      string  `json:"sku" php:"sku"`
	Quantity int     `json:"qty" php:"qty"`
	Price    float64 `json:"price" php:"price"`
}

var cart = session.Key[[]cartLine]{Name: "cart"}

func TestValues(t *testing.T) {
	t.Parallel()
	eachVersioned(t, func(t *testing.T, table string, w *worker, m *session.Manager) {
		saved(t, m, id1, func(s *session.Session) error {
			return cart.Set(s, []cartLine{{"Köln-1", 2, 9.5}})
		})
		w.want(t, open(id1)+`$s = $_SESSION['cart']; $_SESSION['cart'][0]['qty']++; $_SESSION['cart'][] = ['sku' => 'B', 'qty' => 1, 'price' => 0.25]; session_write_close(); return $s;`,
			`[{"sku":"Köln-1","qty":2,"price":9.5}]`)
		saved(t, m, id1, func(s *session.Session) error {
			lines, err := cart.Get(s)
			if err != nil || len(lines) != 2 || lines[0] != (cartLine{"Köln-1", 3, 9.5}) || lines[1] != (cartLine{"B", 1, 0.25}) {
				t.Errorf("Go reads %v %v", lines, err)
			}
			return cart.Set(s, lines[1:])
		})
		w.want(t, show(id1), `{"cart":[{"sku":"B","qty":1,"price":0.25}],"n":1,"user":"ann"}`)
	})
}
