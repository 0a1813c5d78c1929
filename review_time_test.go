//go:build go1.25

package session_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-a7bee19b/session"
)

// TestPanicDuringAUse checks a handler that panics while the deadline is being
// moved, and while one of its goroutines is saving.
func TestPanicDuringAUse(t *testing.T) {
	for _, save := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			var b store
			m := newManager(t, &b, session.Config{IdleTimeout: 9 * time.Second})
			token := begin(t, m, map[string]any{"note": "x"})
			b.before = func(ctx context.Context, op string) error {
				if op == "Touch" || op == "Save" {
					<-ctx.Done()
					return ctx.Err()
				}
				return nil
			}
			h := m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				s, err := m.Get(r.Context())
				check(t, err)
				if save {
					check(t, note.Set(s, "y"))
					go func() {
						ctx, cancel := context.WithTimeout(context.Background(), time.Second)
						defer cancel()
						_ = s.Save(ctx)
					}()
					time.Sleep(100 * time.Millisecond)
				} else {
					time.Sleep(6*time.Second + 100*time.Millisecond)
				}
				panic("boom")
			}))
			func() {
				defer func() { _ = recover() }()
				h.ServeHTTP(httptest.NewRecorder(), request(token))
			}()
			time.Sleep(time.Minute)
		})
	}
}

// TestLogoutWhileTheMarkerIsLocked checks a logout after a request that opened
// the marker in mode Exclusive has crashed. The session has its new ID, and
// ends.
func TestLogoutWhileTheMarkerIsLocked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b leasingStore
		m := newManager(t, &b, session.Config{Lock: session.LockConfig{MaxWait: time.Second}})
		token := begin(t, m, map[string]any{"note": "x"})
		s := open(t, m, token)
		now := rotated(t, m, token)
		_, err := b.Acquire(ctx, session.DefaultStoreKey(token), time.Minute)
		check(t, err)
		check(t, s.Destroy(ctx))
		_, err = m.Open(ctx, now)
		wantErr(t, err, session.ErrNotFound)
	})
}

// TestOneWriterHangs checks a writer that hangs in the store at the head of the
// line. The others wait no longer for it than they would for the store.
func TestOneWriterHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b store
		m := newManager(t, &b, session.Config{})
		token := begin(t, m, map[string]any{"counter": 0})
		type hanging struct{}
		hangs, cancel := context.WithCancel(context.WithValue(context.Background(), hanging{}, true))
		s := open(t, m, token)
		check(t, errOf(counter.Update(s, inc)))
		wrote(t, m, token)
		saves := 0
		b.before = func(ctx context.Context, op string) error {
			if ctx.Value(hanging{}) != nil && op == "Save" {
				if saves++; saves == 2 {
					<-ctx.Done()
					return ctx.Err()
				}
			}
			return nil
		}
		done := make(chan error)
		go func() { done <- s.Save(hangs) }()
		synctest.Wait()
		start := time.Now()
		w := serve(t, m, token, func(_ http.ResponseWriter, _ *http.Request, s *session.Session) {
			check(t, errOf(counter.Update(s, inc)))
		})
		if w.Code != http.StatusOK {
			t.Errorf("status %d after %v", w.Code, time.Since(start))
		}
		t.Log(time.Since(start))
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		wantValue(t, m, token, "counter", 2)
	})
}

// TestTouchedMeanwhile checks a request that began in time and moves the
// deadline. Its Touch arrives after another request has found the session
// expired, but before that request could end it, so the session is alive.
func TestTouchedMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &passing{}
		m := newManager(t, b, session.Config{IdleTimeout: 10 * time.Second})
		token := begin(t, m, map[string]any{"note": "x"})
		key := session.DefaultStoreKey(token)
		found, err := b.Load(ctx, key)
		check(t, err)
		check(t, b.Touch(ctx, key, time.Now().Add(15*time.Second)))
		time.Sleep(10 * time.Second)
		b.found = found
		wantValue(t, m, token, "note", "x")
		wantValue(t, m, token, "note", "x")
		time.Sleep(20 * time.Second)
		b.found = found // and without a Touch it is gone
		_, err = m.Open(ctx, token)
		wantErr(t, err, session.ErrNotFound)
		if b.Len() != 0 {
			t.Error("it is still there")
		}
	})
}

// TestClockAheadOfTheStores checks a session that has expired by our clock, but
// not by the store's.
func TestClockAheadOfTheStores(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &passing{}
		m := newManager(t, b, session.Config{IdleTimeout: 10 * time.Second})
		token := begin(t, m, map[string]any{"note": "x"})
		key := session.DefaultStoreKey(token)
		b.ahead = 2 * time.Second
		time.Sleep(9 * time.Second)
		b.took()
		_, err := m.Open(ctx, token)
		wantErr(t, err, session.ErrNotFound)
		b.wantCalls(t, "Load", "Save", "Load", "End")
		_, err = b.store.Load(ctx, key)
		wantErr(t, err, session.ErrNotFound)
	})
}

// passing once returns a record that has been touched since.
type passing struct {
	store
	found session.Record
	ahead time.Duration // by how much the reader's clock is
}

func (p *passing) Load(ctx context.Context, key string) (session.Record, error) {
	if rec := p.found; rec.Version != "" {
		p.found = session.Record{}
		return rec, nil
	}
	rec, err := p.store.Load(ctx, key)
	rec.Expires = rec.Expires.Add(-p.ahead)
	return rec, err
}

func (p *passing) Save(ctx context.Context, key string, rec session.Record) (session.Version, error) {
	rec.Expires = rec.Expires.Add(p.ahead)
	return p.store.Save(ctx, key, rec)
}
