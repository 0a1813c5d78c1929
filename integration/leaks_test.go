package integration

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/integration/proxy"
)

// TestNoGoroutineIsLeft ends waits and locks in every way, and then looks for
// new goroutines. It must not run in parallel with other tests.
func TestNoGoroutineIsLeft(t *testing.T) {
	const times = 10
	ends := []struct {
		name string
		lock session.LockConfig
		run  func(ctx context.Context, m, other *session.Manager, token string, l link) error
		want error
	}{
		{"waiter is cancelled", session.LockConfig{}, func(ctx context.Context, m, other *session.Manager, token string, _ link) error {
			s, err := other.Open(ctx, token)
			if err != nil {
				return err
			}
			waiting, cancel := context.WithCancel(ctx)
			var wg sync.WaitGroup
			var mu sync.Mutex
			for range times {
				wg.Go(func() {
					_, oneErr := m.Open(waiting, token)
					mu.Lock()
					defer mu.Unlock()
					err = errors.Join(err, oneErr)
				})
			}
			time.Sleep(20 * time.Millisecond)
			cancel()
			wg.Wait()
			return errors.Join(err, s.Close(ctx))
		}, context.Canceled},
		{"waiter gives up", session.LockConfig{MaxWait: 30 * time.Millisecond}, func(ctx context.Context, m, other *session.Manager, token string, _ link) error {
			s, err := other.Open(ctx, token)
			if err != nil {
				return err
			}
			var wg sync.WaitGroup
			var mu sync.Mutex
			for range times {
				wg.Go(func() {
					_, oneErr := m.Open(ctx, token)
					mu.Lock()
					defer mu.Unlock()
					err = errors.Join(err, oneErr)
				})
			}
			wg.Wait()
			return errors.Join(err, s.Close(ctx))
		}, session.ErrLockTimeout},
		{"holder is cancelled", session.LockConfig{TTL: 100 * time.Millisecond, MaxHold: 300 * time.Millisecond}, func(ctx context.Context, m, other *session.Manager, token string, _ link) error {
			holding, cancel := context.WithCancel(ctx)
			if _, err := m.Open(holding, token); err != nil { // and never closed
				cancel()
				return err
			}
			time.Sleep(50 * time.Millisecond) // it renews
			cancel()
			s, err := other.Open(ctx, token)
			if err != nil {
				return err
			}
			time.Sleep(300 * time.Millisecond) // the timers run out
			return errors.Join(context.Canceled, s.Close(ctx))
		}, context.Canceled},
		{"store does not answer", session.LockConfig{TTL: 100 * time.Millisecond}, func(ctx context.Context, m, _ *session.Manager, token string, l link) error {
			s, err := m.Open(ctx, token)
			if err != nil {
				return err
			}
			l.SetRule(func(proxy.Request) proxy.Action { return proxy.Action{Fault: proxy.Hang} })
			<-s.Context().Done()
			l.SetRule(nil)
			return errors.Join(visits.Set(s, 1), s.Save(ctx), s.Close(ctx))
		}, session.ErrLockLost},
		{"lock is broken", session.LockConfig{TTL: 100 * time.Millisecond}, func(ctx context.Context, m, other *session.Manager, token string, _ link) error {
			s, err := m.Open(ctx, token)
			if err != nil {
				return err
			}
			// With the session goes its lock.
			merge, err := other.With(session.Route{Mode: session.Merge})
			if err != nil {
				return err
			}
			d, err := merge.Open(ctx, token)
			if err != nil {
				return err
			}
			if err := d.Destroy(ctx); err != nil {
				return err
			}
			<-s.Context().Done() // a renewal reports it
			return errors.Join(visits.Set(s, 1), s.Save(ctx), s.Close(ctx))
		}, session.ErrLockLost},
		{"handler's client goes away", session.LockConfig{TTL: 100 * time.Millisecond}, func(ctx context.Context, m, _ *session.Manager, token string, _ link) error {
			r, cancel := context.WithCancel(ctx)
			h := m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				if _, err := m.Get(r.Context()); err == nil {
					cancel()
					<-r.Context().Done()
				}
			}))
			req := httptest.NewRequestWithContext(r, http.MethodPost, "/", nil)
			req.AddCookie(&http.Cookie{Name: "__Host-session", Value: token})
			h.ServeHTTP(httptest.NewRecorder(), req)
			return r.Err()
		}, context.Canceled},
		{"stream ends with its session", session.LockConfig{}, func(ctx context.Context, m, other *session.Manager, token string, l link) error {
			stream, stop, err := watch(ctx, m, token, session.Watch{Interval: 100 * time.Millisecond, KeepAlive: true})
			if err != nil {
				return err
			}
			defer stop()
			s, err := other.Open(ctx, token)
			if err != nil {
				return err
			}
			err = s.Destroy(ctx)
			<-stream.Done()
			return errors.Join(err, context.Cause(stream))
		}, session.ErrNotFound},
		{"stream is left while the store does not answer", session.LockConfig{}, func(ctx context.Context, m, _ *session.Manager, token string, l link) error {
			stream, stop, err := watch(ctx, m, token, session.Watch{Interval: 100 * time.Millisecond})
			if err != nil {
				return err
			}
			l.SetRule(func(proxy.Request) proxy.Action { return proxy.Action{Fault: proxy.Hang} })
			time.Sleep(200 * time.Millisecond)
			stop()
			l.SetRule(nil)
			return stream.Err()
		}, context.Canceled},
		{"session is saved", session.LockConfig{}, func(ctx context.Context, m, _ *session.Manager, token string, _ link) error {
			return lockOnce(ctx, m, token, 0)
		}, nil},
	}
	for _, tt := range ends {
		for _, s := range append([]*store{apartStore}, stores...) {
			if s == apartStore && tt.name == "lock is broken" {
				continue // by deleting a session that is not its own
			}
			t.Run(tt.name+"/"+s.name, func(t *testing.T) {
				a := s.room(t)
				token := a.begin(t)
				idle(a)
				before := goleak.IgnoreCurrent()
				t.Run("run", func(t *testing.T) { // when it has returned, its proxies are closed
					at, l := a.through(t)
					lock := tt.lock
					if lock.MaxWait == 0 {
						lock.MaxWait = time.Minute
					}
					m := at.manager(t, session.Config{Mode: session.Exclusive, Lock: lock})
					other := at.manager(t, session.Config{Mode: session.Exclusive, Lock: session.LockConfig{MaxWait: time.Minute}})
					if err := tt.run(t.Context(), m, other, token, l); !errors.Is(err, tt.want) {
						t.Errorf("got error %v, want %v", err, tt.want)
					}
				})
				idle(a)
				if err := goleak.Find(before); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// idle closes idle connections of clients.
func idle(a address) {
	if a.store().idle != nil {
		a.store().idle()
	}
}
