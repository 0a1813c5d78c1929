//go:build go1.25

package session_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/memory"
)

// TestPackingInSpiteOfOne: a session whose record cannot be read does not keep the index
// of its owner from being packed.
func TestPackingInSpiteOfOne(t *testing.T) {
	for _, bad := range []error{session.ErrDecode, errDown} {
		synctest.Test(t, func(t *testing.T) {
			const sessions, ids = 20, 100
			var b sizer
			p := &process{Backend: &b}
			m := newManager(t, p, session.Config{Owners: listAll, StoreKey: keyed})
			var all []*session.Session
			for range sessions {
				all = append(all, login(t, m, session.Login{User: "ann"}))
			}
			for n := range ids {
				for i, s := range all {
					if i == 0 && n > 0 {
						continue // its record is bad
					}
					s = open(t, m, s.Token().Reveal())
					check(t, s.Rotate())
					check(t, s.Save(t.Context()))
					all[i] = s
				}
				key := keyed(all[0].Token().Reveal())
				p.hooks(func(_ int, op, k string) error {
					if op == "Load" && k == key {
						return bad
					}
					return nil
				}, nil)
				time.Sleep(time.Minute)
			}
			t.Logf("%v: a head of %d bytes, a page of %d", bad, b.head, b.page)
			if b.head > 6000 || b.page > 20000 {
				t.Errorf("%v: a head of %d bytes, a page of %d", bad, b.head, b.page)
			}
			p.hooks(nil, nil)
			check(t, m.Revoke(t.Context(), session.User("ann")))
			for _, s := range all {
				if alive(t, m, s) {
					t.Fatal("one is alive")
				}
			}
		})
	}
}

// TestPackingTakesLong: when the store is slow, the login whose turn it is to pack has
// time to end the old ID, and the record of the owner stays short.
func TestPackingTakesLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const sessions, ids = 130, 8
		var b sizer
		p := &process{Backend: &b}
		m := newManager(t, patient{p}, session.Config{Owners: listAll, StoreKey: keyed})
		var all []*session.Session
		for range sessions {
			all = append(all, login(t, m, session.Login{User: "ann"}))
		}
		p.hooks(func(_ int, op, key string) error {
			if op == "Load" && !strings.Contains(key, ".") {
				time.Sleep(150 * time.Millisecond)
			}
			return nil
		}, nil)
		for range ids {
			for i, s := range all {
				s = open(t, m, s.Token().Reveal())
				check(t, s.Rotate())
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				check(t, s.Save(ctx))
				cancel()
				all[i] = s
			}
		}
		t.Logf("a head of %d bytes, a page of %d", b.head, b.page)
		if b.head > 6000 || b.page > 20000 {
			t.Errorf("a head of %d bytes, a page of %d", b.head, b.page)
		}
		p.hooks(nil, nil)
		if n := len(handles(t, m, session.User("ann"))); n != sessions {
			t.Errorf("%d are listed", n)
		}
		check(t, m.Revoke(t.Context(), session.User("ann")))
		for _, s := range all {
			if alive(t, m, s) {
				t.Fatal("one is alive")
			}
		}
		time.Sleep(time.Minute) // for the calls that nobody waits for
	})
}

// TestPagesThatCannotBeRemoved: the login whose turn it is to join pages does not wait
// for each of them.
func TestPagesThatCannotBeRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b memory.Backend
		p := &process{Backend: &b}
		m := newManager(t, removing{patient{p}}, session.Config{Owners: listAll, StoreKey: keyed})
		p.hooks(func(_ int, op, key string) error {
			if op == "Delete" && strings.HasPrefix(key, "page.") {
				time.Sleep(time.Minute)
			}
			return nil
		}, nil)
		for range 128 {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			s := m.Start()
			check(t, s.Login("ann"))
			check(t, s.Save(ctx))
			check(t, ctx.Err())
			cancel()
		}
		time.Sleep(time.Hour) // for the calls that nobody waits for
		if n := len(handles(t, m, session.User("ann"))); n != 128 {
			t.Errorf("%d are listed", n)
		}
	})
}

// removing is a patient store whose Delete does not hang either.
type removing struct{ patient }

func (r removing) Delete(ctx context.Context, key string) error {
	_, err := call(ctx, func() (struct{}, error) { return struct{}{}, r.Backend.Delete(ctx, key) })
	return err
}

// TestRevokeWithPagesThatCannotBeRemoved: a revocation that has ended the sessions
// returns about when its time is up, however many pages there were.
func TestRevokeWithPagesThatCannotBeRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b memory.Backend
		p := &process{Backend: &b}
		m := newManager(t, removing{patient{p}}, session.Config{Owners: listAll, StoreKey: keyed})
		var all []*session.Session
		for range 120 {
			all = append(all, login(t, m, session.Login{User: "ann"}))
		}
		p.hooks(func(_ int, op, key string) error {
			if op == "Delete" && strings.HasPrefix(key, "page.") {
				time.Sleep(time.Minute)
			}
			return nil
		}, nil)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		begun := time.Now()
		check(t, m.Revoke(ctx, session.User("ann")))
		if took := time.Since(begun); took > 6*time.Second {
			t.Errorf("it took %v", took)
		}
		time.Sleep(time.Hour) // for the calls that nobody waits for
		for _, s := range all {
			if alive(t, m, s) {
				t.Fatal("one is alive")
			}
		}
	})
}
