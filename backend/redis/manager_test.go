package redisstore

import (
	"errors"
	"math/rand/v2"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session"
)

var counter = session.Key[int]{Name: "counter"}

// In mode Exclusive no increment is lost or done twice, although one message in
// twenty is lost.
func TestExclusive(t *testing.T) {
	const clients, times = 6, 15
	ctx := t.Context()
	first := newRig(t, Config{})
	managers := make([]*session.Manager, clients)
	for i := range managers {
		r := first.second(t)
		r.link.set(func() {
			r.link.lose = func(string) loss {
				switch n := rand.N(40); n {
				case 0:
					return request
				case 1:
					return response
				}
				return nothing
			}
		})
		managers[i] = newManager(t, r)
	}
	m := newManager(t, first)
	s := m.Start()
	wantNil(t, counter.Set(s, 0), "Set")
	wantNil(t, s.Save(ctx), "Save")
	token := s.Token().Reveal()
	wantNil(t, s.Close(ctx), "Close")

	var wg sync.WaitGroup
	for _, m := range managers {
		wg.Go(func() {
			for range times {
				if err := increment(t, m, token); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()

	first.link.sent()
	wantNil(t, increment(t, m, token), "increment")
	if sent := first.link.sent(); !reflect.DeepEqual(sent, []string{"evalsha", "evalsha"}) {
		// Another client has loaded the scripts.
		t.Errorf("an increment sent %q, want two evalsha", sent)
	}
	s, err := m.Open(ctx, token)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := counter.Get(s); n != clients*times+1 || err != nil {
		t.Errorf("%d increments were counted, want %d; %v", n, clients*times+1, err)
	}
	wantNil(t, s.Close(ctx), "Close")
}

func newManager(t *testing.T, b session.Backend) *session.Manager {
	t.Helper()
	m, err := session.New(b, session.Config{
		Mode: session.Exclusive,
		Lock: session.LockConfig{MinRetry: 2 * time.Millisecond, MaxRetry: 10 * time.Millisecond},
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func increment(t *testing.T, m *session.Manager, token string) error {
	s, err := m.Open(t.Context(), token)
	if err != nil {
		return err
	}
	n, err := counter.Get(s)
	return errors.Join(err, counter.Set(s, n+1), s.Save(t.Context()), s.Close(t.Context()))
}
