//go:build go1.25

package session_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/memory"
)

var errDown = errors.New("down")

var listAll = session.OwnersConfig{Index: true}

// renewing is the Config of sessions that are listed and get a new ID each hour.
func renewing() session.Config {
	return session.Config{
		IdleTimeout: 24 * time.Hour, AbsoluteTimeout: 240 * time.Hour, RenewAfter: renewAfter,
		Owners: listAll, StoreKey: keyed,
	}
}

// failWith fails with err what reaches the index of owners.
func failWith(err error) func(_ int, op, key string) error {
	return func(_ int, op, key string) error {
		if strings.HasPrefix(key, "owner.") {
			return err
		}
		return nil
	}
}

// TestRenewalThatCannotBeListed: the page is served, its changes are stored, and the
// old ID stays good.
func TestRenewalThatCannotBeListed(t *testing.T) {
	for _, tt := range []struct {
		name string
		fail func(p *process, b *memory.Backend, owner string)
	}{
		{"the store fails", func(p *process, _ *memory.Backend, _ string) { p.hooks(failWith(errDown), nil) }},
		{"each answer is lost", func(p *process, _ *memory.Backend, _ string) { p.hooks(nil, failWith(errDown)) }},
		{"it conflicts for ever", func(p *process, _ *memory.Backend, _ string) {
			p.hooks(func(_ int, op, key string) error {
				if op == "Save" && strings.HasPrefix(key, "owner.") {
					return &session.ConflictError{}
				}
				return nil
			}, nil)
		}},
		{"the store hangs", func(p *process, _ *memory.Backend, _ string) {
			p.hooks(func(_ int, _, key string) error {
				if strings.HasPrefix(key, "owner.") {
					time.Sleep(time.Minute)
					return context.DeadlineExceeded
				}
				return nil
			}, nil)
		}},
		{"the record does not decode", func(_ *process, b *memory.Backend, owner string) {
			rec, err := b.Load(ctx, owner)
			if err != nil {
				panic(err)
			}
			rec.Data = []byte("?")
			if _, err := b.Save(ctx, owner, rec); err != nil {
				panic(err)
			}
		}},
	} {
		for _, h := range []func(m *session.Manager) http.HandlerFunc{read, write} {
			t.Run(tt.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var b memory.Backend
					p := &process{Backend: &b}
					m := newManager(t, patient{p}, renewing())
					owner := ""
					p.hooks(func(_ int, _, key string) error {
						if strings.HasPrefix(key, "owner.") {
							owner = key
						}
						return nil
					}, nil)
					s := login(t, m, session.Login{User: "ann"})
					check(t, note.Set(s, "x"))
					check(t, finish(m, s))
					token := s.Token().Reveal()
					time.Sleep(renewAfter + time.Minute)
					tt.fail(p, &b, owner)
					defer time.Sleep(2 * time.Minute) // for the calls that hang
					w := visit(m, "POST", token, h(m))
					page(t, w, "x")
					if sent(w) != "" {
						t.Error("it has a new token")
					}
					p.hooks(nil, nil)
					want := 0
					if fmt.Sprintf("%p", h) == fmt.Sprintf("%p", write) {
						want = 1
					}
					if got, err := counter.Get(open(t, m, token)); got != want || err != nil {
						t.Errorf("counter %d, want %d, %v", got, want, err)
					}
				})
			})
		}
	}
}

// patient is a store that hangs no longer than its callers wait.
type patient struct{ session.Backend }

func (p patient) Load(ctx context.Context, key string) (session.Record, error) {
	return call(ctx, func() (session.Record, error) { return p.Backend.Load(ctx, key) })
}

func (p patient) Save(ctx context.Context, key string, rec session.Record) (session.Version, error) {
	return call(ctx, func() (session.Version, error) { return p.Backend.Save(ctx, key, rec) })
}

func call[T any](ctx context.Context, f func() (T, error)) (T, error) {
	type answer struct {
		v   T
		err error
	}
	c := make(chan answer, 1)
	go func() {
		v, err := f()
		c <- answer{v, err}
	}()
	select {
	case a := <-c:
		return a.v, a.err
	case <-ctx.Done():
		var none T
		return none, ctx.Err()
	}
}

// TestRenewedOften: what it costs to list and to revoke the sessions of an owner does
// not grow with the IDs that they have had.
func TestRenewedOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const sessions, ids = 20, 200
		var b counted
		m := newManager(t, &b, session.Config{Owners: session.OwnersConfig{Index: true}, StoreKey: keyed})
		var all []*session.Session
		for range sessions {
			all = append(all, login(t, m, session.Login{User: "ann"}))
		}
		for range ids {
			for i, s := range all {
				s = open(t, m, s.Token().Reveal())
				check(t, s.Rotate())
				check(t, s.Save(t.Context()))
				all[i] = s
			}
			time.Sleep(time.Minute) // the markers have expired
		}
		calls := func() int64 { return b.loads.Swap(0) + b.writes.Swap(0) }
		calls()
		if n := len(handles(t, m, session.User("ann"))); n != sessions {
			t.Errorf("%d are listed", n)
		}
		list := calls()
		check(t, m.Revoke(t.Context(), session.User("ann")))
		revoke := calls()
		t.Logf("%d sessions with %d IDs each: %d calls list them, %d revoke them", sessions, ids, list, revoke)
		// Up to 8 pages have 16 entries with 2 keys, and 8 have a key of each session.
		if list > 3*sessions || revoke > 8*16*2+8*sessions+50 {
			t.Errorf("%d calls list %d sessions, %d revoke them", list, sessions, revoke)
		}
		for _, s := range all {
			if alive(t, m, s) {
				t.Fatal("one is alive")
			}
		}
	})
}

// TestListWhilePagesGo: a list goes on when what it has yet to read is replaced, tells
// no session twice, and stops when its caller does.
func TestListWhilePagesGo(t *testing.T) {
	for _, stop := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			const sessions = 300
			m := newManager(t, new(memory.Backend), session.Config{Owners: session.OwnersConfig{Index: true}})
			for i := range sessions {
				own := session.Login{User: "ann", Owners: []session.Owner{{Kind: "parity", ID: fmt.Sprint(i % 2)}}}
				login(t, m, own)
			}
			told := map[string]bool{}
			for e, err := range m.Sessions(t.Context(), session.User("ann")) {
				check(t, err)
				if told[e.Handle] {
					t.Fatal("one is told twice")
				}
				if told[e.Handle] = true; len(told) == 20 {
					check(t, m.Revoke(t.Context(), session.User("ann"), session.Owner{Kind: "parity", ID: "0"}))
				} else if stop && len(told) == 21 {
					break
				}
			}
			if want := sessions/2 + 10; len(told) != want && !stop {
				t.Errorf("%d are told, not %d", len(told), want)
			}
		})
	}
}

// TestPackingWithoutAnswers: when it is not known which old IDs have a record, nothing
// is taken off the index.
func TestPackingWithoutAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var down atomic.Bool
		p := &process{Backend: new(memory.Backend)}
		p.hooks(func(_ int, op, key string) error {
			if down.Load() && op == "Load" && !strings.Contains(key, ".") {
				return errDown
			}
			return nil
		}, nil)
		m := newManager(t, p, session.Config{Owners: listAll, StoreKey: keyed})
		var all []*session.Session
		for range 20 {
			all = append(all, login(t, m, session.Login{User: "ann"}))
		}
		for i := range 128 - len(all) { // the last one joins 8 pages
			time.Sleep(time.Minute) // the markers have expired
			s := open(t, m, all[i%len(all)].Token().Reveal())
			check(t, s.Rotate())
			down.Store(true) // what is read from here on is for the index
			check(t, s.Save(t.Context()))
			down.Store(false)
			all[i%len(all)] = s
		}
		if n := len(handles(t, m, session.User("ann"))); n != len(all) {
			t.Errorf("%d are listed", n)
		}
		check(t, m.Revoke(t.Context(), session.User("ann")))
		for _, s := range all {
			if alive(t, m, s) {
				t.Fatal("one is alive")
			}
		}
	})
}
