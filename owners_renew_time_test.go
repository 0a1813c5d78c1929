//go:build go1.25

package session_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
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
