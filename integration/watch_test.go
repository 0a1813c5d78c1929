package integration

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/integration/proxy"
	"github.com/seed-a7bee19b/session/observe"
)

// watch opens the session of token, and returns the context of a stream for it.
func watch(ctx context.Context, m *session.Manager, token string, w session.Watch) (context.Context, context.CancelFunc, error) {
	s, err := m.Open(ctx, token)
	if err != nil {
		return nil, nil, err
	}
	stream, stop, err := s.Watch(ctx, w)
	return stream, stop, errors.Join(err, s.Close(ctx))
}

// TestStreamsEndWithTheirSession ends sessions in another process than that of the
// streams, after their IDs have changed there.
func TestStreamsEndWithTheirSession(t *testing.T) {
	for name, end := range map[string]func(ctx context.Context, m *session.Manager, s *session.Session) error{
		"logout": func(ctx context.Context, _ *session.Manager, s *session.Session) error { return s.Destroy(ctx) },
		"revocation": func(ctx context.Context, m *session.Manager, _ *session.Session) error {
			return m.Revoke(ctx, session.User("ann"))
		},
		"another user": func(ctx context.Context, _ *session.Manager, s *session.Session) error {
			return errors.Join(s.Login("bob"), s.Save(ctx))
		},
	} {
		t.Run(name, func(t *testing.T) {
			eachStore(t, func(t *testing.T, a address) {
				ctx := t.Context()
				cfg := session.Config{Owners: session.OwnersConfig{Index: true}}
				here, there := a.manager(t, cfg), a.manager(t, cfg)
				s := there.Start()
				if err := errors.Join(s.Login("ann"), s.Save(ctx)); err != nil {
					t.Fatal(err)
				}
				stream, stop, err := watch(ctx, here, s.Token().Reveal(), session.Watch{Interval: 200 * time.Millisecond})
				if err != nil {
					t.Fatal(err)
				}
				defer stop()
				for range 3 {
					if err := errors.Join(s.Rotate(), s.Save(ctx)); err != nil {
						t.Fatal(err)
					}
				}
				time.Sleep(300 * time.Millisecond) // a look at least
				if err := context.Cause(stream); err != nil {
					t.Fatalf("the stream has not followed its session: %v", err)
				}
				if err := end(ctx, there, s); err != nil {
					t.Fatal(err)
				}
				<-stream.Done()
				if err := context.Cause(stream); !errors.Is(err, session.ErrNotFound) {
					t.Errorf("the stream ended with %v", err)
				}
			})
		})
	}
}

// loads is an Observer that counts them; the proxy of Redis sees only scripts.
type loads struct{ n atomic.Int64 }

func (l *loads) Call(ctx context.Context, op observe.Op) (context.Context, func(error)) {
	if op == observe.OpLoad {
		l.n.Add(1)
	}
	return ctx, nil
}

func (*loads) Event(context.Context, observe.Event) {}

// TestCostOfStreams counts the requests of many streams, also while the store fails
// for a moment.
func TestCostOfStreams(t *testing.T) {
	eachStore(t, func(t *testing.T, a address) {
		ctx, token := t.Context(), a.begin(t)
		at, l := a.through(t)
		var loads loads
		m := at.manager(t, session.Config{Observer: &loads})
		const interval = 100 * time.Millisecond
		var streams []context.Context
		for range 50 {
			stream, stop, err := watch(ctx, m, token, session.Watch{Interval: interval})
			if err != nil {
				t.Fatal(err)
			}
			defer stop()
			streams = append(streams, stream)
		}
		l.Reset()
		before, began := loads.n.Load(), time.Now()
		time.Sleep(time.Second)
		looks, requests, intervals := int(loads.n.Load()-before), total(l).Requests, int(time.Since(began)/interval)
		t.Logf("50 streams of a session: %d Loads in %d intervals", looks, intervals)
		if most := intervals + 2; looks == 0 || looks > most || requests > most { // one in flight at each end
			t.Errorf("%d Loads and %d requests", looks, requests)
		}
		l.SetRule(func(proxy.Request) proxy.Action { return proxy.Action{Fault: proxy.DropRequest} })
		time.Sleep(500 * time.Millisecond)
		l.SetRule(nil)
		time.Sleep(500 * time.Millisecond)
		for _, stream := range streams {
			if err := context.Cause(stream); err != nil {
				t.Fatalf("a stream has ended: %v", err)
			}
		}
	})
}

// TestStreamsAndExpiry lets the idle timeout pass, with a stream that keeps its
// session alive and with one that does not.
func TestStreamsAndExpiry(t *testing.T) {
	eachStore(t, func(t *testing.T, a address) {
		ctx := t.Context()
		m := a.manager(t, session.Config{IdleTimeout: 8 * time.Second})
		begin := func(keep bool) context.Context {
			s := m.Start()
			if err := errors.Join(note.Set(s, "x"), s.Save(ctx)); err != nil {
				t.Fatal(err)
			}
			stream, stop, err := s.Watch(ctx, session.Watch{KeepAlive: keep})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(stop)
			return stream
		}
		kept, left := begin(true), begin(false)
		<-left.Done()
		if err := context.Cause(left); !errors.Is(err, session.ErrNotFound) {
			t.Errorf("the stream ended with %v", err)
		}
		time.Sleep(9 * time.Second)
		if err := context.Cause(kept); err != nil {
			t.Errorf("the stream that keeps its session has ended: %v", err)
		}
	})
}
