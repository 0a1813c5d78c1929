package integration

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/integration/proxy"
)

// held delays the next write through l. Its client gets no response.
func held(l link) (deliver func()) {
	rule, deliver := proxy.Hold("UpdateItem", "DeleteItem", "EVALSHA")
	l.SetRule(rule)
	return deliver
}

// once makes its clients send each request once.
func (a address) once() address {
	a.Attempts = 1
	return a
}

func notKnown(err error) bool {
	return err != nil && !isSentinel(err) && strings.Contains(err.Error(), "not known whether it was applied")
}

// TestLateBeforeLock delays a Save, and its retry meets a lock. The outcome is
// then unknown, because the first request can still arrive after the lock is
// freed.
func TestLateBeforeLock(t *testing.T) {
	eachBackend(t, func(t *testing.T, a address) {
		at, l := a.through(t)
		b, other := at.backend(t), a.backend(t)
		rec := record("before")
		rec.Version = save(t, b, key, rec)
		rule, deliver := proxy.Hold(a.store().writes)
		var lock session.Record
		l.SetRule(proxy.First(rule, proxy.Nth(a.store().writes, 2, proxy.Action{Before: func() {
			var err error
			if lock, err = other.Acquire(t.Context(), key, time.Minute); err != nil {
				t.Error(err)
			}
		}})))
		_, err := b.Save(t.Context(), key, replacing(record("ours"), rec.Version))
		if !notKnown(err) {
			t.Errorf("got %v, want that it is not known", err)
		}
		if err := other.Release(t.Context(), key, lock.Version, time.Time{}); err != nil {
			t.Error(err)
		}
		deliver()
		if got := load(t, other, key); string(got.Data) != "ours" {
			t.Errorf("stored is %q: the test delivered nothing", got.Data)
		}
	})
}

// TestLateCreate delays a Save that creates, which is not retried. So no Delete
// can come between the attempts.
func TestLateCreate(t *testing.T) {
	eachBackend(t, func(t *testing.T, a address) {
		at, l := a.through(t)
		b := at.backend(t)
		save(t, b, "warm-up", record("")) // its script is known
		l.Reset()
		deliver := held(l)
		if _, err := b.Save(t.Context(), key, record("ours")); !notKnown(err) {
			t.Errorf("got %v, want that it is not known", err)
		}
		if n := total(l).Requests; n != 1 {
			t.Errorf("%d requests", n)
		}
		deliver()
		if got := load(t, b, key); string(got.Data) != "ours" {
			t.Errorf("stored is %q: the test delivered nothing", got.Data)
		}
	})
}

// TestLateAfterTheEnd sends a request while the session lives. It arrives after
// another request has ended the session, because it had expired or its user
// logged out, and must not bring it back.
func TestLateAfterTheEnd(t *testing.T) {
	end := func(t *testing.T, b session.LockingBackend, key string) {
		t.Helper()
		rec, err := b.Load(t.Context(), key)
		if errors.Is(err, session.ErrNotFound) {
			return // DynamoDB Local removes expired items within seconds
		}
		past := time.Unix(0, 0)
		if err == nil {
			_, err = b.Save(t.Context(), key, session.Record{Created: past, Expires: past, Version: rec.Version})
		}
		if err != nil && !errors.Is(err, session.ErrNotFound) {
			t.Errorf("ending: %v", err)
		}
	}
	ends := []struct {
		name  string
		waits bool // until it has expired
		end   func(t *testing.T, b session.LockingBackend, key string)
	}{
		{"ended", false, end},
		{"expired and ended", true, end},
		{"expired, and looked for", true, func(t *testing.T, b session.LockingBackend, key string) {
			t.Helper()
			if _, err := b.Acquire(t.Context(), key, time.Minute); !errors.Is(err, session.ErrNotFound) {
				t.Errorf("Acquire: %v", err)
			}
		}},
		{"deleted", false, func(t *testing.T, b session.LockingBackend, key string) {
			t.Helper()
			if err := b.Delete(t.Context(), key); err != nil {
				t.Error(err)
			}
		}},
	}
	later := time.Now().Add(time.Hour)
	calls := []struct {
		name  string
		holds bool
		do    func(ctx context.Context, b session.LockingBackend, key string, rec session.Record) error
	}{
		{"Save", false, func(ctx context.Context, b session.LockingBackend, key string, rec session.Record) error {
			_, err := b.Save(ctx, key, replacing(record("late"), rec.Version))
			return err
		}},
		{"Save that keeps", false, func(ctx context.Context, b session.LockingBackend, key string, rec session.Record) error {
			next := replacing(record("late"), rec.Version)
			next.KeepLater = true
			_, err := b.Save(ctx, key, next)
			return err
		}},
		{"Touch", false, func(ctx context.Context, b session.LockingBackend, key string, _ session.Record) error {
			return b.Touch(ctx, key, later)
		}},
		{"Acquire", false, func(ctx context.Context, b session.LockingBackend, key string, _ session.Record) error {
			_, err := b.Acquire(ctx, key, time.Minute)
			return err
		}},
		{"Extend", true, func(ctx context.Context, b session.LockingBackend, key string, rec session.Record) error {
			return b.Extend(ctx, key, rec.Version, time.Minute)
		}},
		{"Release", true, func(ctx context.Context, b session.LockingBackend, key string, rec session.Record) error {
			return b.Release(ctx, key, rec.Version, later)
		}},
	}
	eachBackend(t, func(t *testing.T, a address) {
		other := a.backend(t)
		var expires time.Time
		delivers := map[string]func(){}
		for _, e := range ends {
			for _, c := range calls {
				at, l := a.once().through(t)
				b, key := at.backend(t), e.name+"/"+c.name
				prepare := func(rec session.Record, ttl time.Duration) session.Record {
					rec.Version = save(t, b, key, rec)
					if c.holds {
						rec.Version = acquire(t, b, key, ttl).Version
					}
					return rec
				}
				if err := c.do(t.Context(), b, key, prepare(record("before"), time.Minute)); err != nil { // so that its script is known
					t.Fatal(err)
				}
				if err := b.Delete(t.Context(), key); err != nil {
					t.Fatal(err)
				}
				rec := record("before")
				if e.waits {
					rec.Expires = time.Now().Truncate(time.Second).Add(10 * time.Second)
					expires = rec.Expires
				}
				// A lease that has run out does not keep others from ending the
				// record.
				rec = prepare(rec, time.Second)
				delivers[key] = held(l)
				if err := c.do(t.Context(), b, key, rec); !notKnown(err) {
					t.Fatalf("%s: got %v, want that it is not known", key, err)
				}
			}
		}
		time.Sleep(max(time.Second, time.Until(expires)) + 10*time.Millisecond)
		for _, e := range ends {
			for _, c := range calls {
				key := e.name + "/" + c.name
				e.end(t, other, key)
				delivers[key]()
				if got, err := other.Load(t.Context(), key); err == nil && !got.Expired(time.Now()) {
					t.Errorf("%s: it is back: %+v", key, got)
				}
				if err := other.Touch(t.Context(), key, later); !errors.Is(err, session.ErrNotFound) {
					t.Errorf("%s: Touch: %v", key, err)
				}
			}
		}
	})
}

func acquire(t testing.TB, b session.LockingBackend, key string, ttl time.Duration) session.Record {
	t.Helper()
	rec, err := b.Acquire(t.Context(), key, ttl)
	if err != nil {
		t.Fatalf("Acquire: %v", err)
	}
	return rec
}
