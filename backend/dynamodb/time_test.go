//go:build go1.25

package dynamodb

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/seed-a7bee19b/session"
)

func forever(ft fault) []fault {
	faults := make([]fault, 100)
	for i := range faults {
		faults[i] = ft
	}
	return faults
}

// Every wait ends at once with the context of the caller. The error wraps that of
// the context and the last failure.
func TestWaits(t *testing.T) {
	hang, throttle := fault{hang: true}, fault{lost: errThrottle}
	// With full jitter a wait may be short; not one of these, in all likelihood.
	const century = 100 * 365 * 24 * time.Hour
	slow := Config{BackoffBase: century, MaxBackoff: century}
	for _, tt := range []struct {
		name     string
		c        Config
		faults   []fault
		deadline time.Duration // of ctx; none if 0
		cancel   time.Duration // when ctx is cancelled; never if 0
		atLeast  time.Duration // the call takes
		atMost   time.Duration
		requests int
		is       []error
	}{
		{
			name: "attempts time out", faults: forever(hang), atLeast: 8 * time.Second, atMost: 8*time.Second + 350*time.Millisecond,
			requests: 4, is: []error{context.DeadlineExceeded},
		},
		{
			name: "one attempt", c: Config{MaxAttempts: 1}, faults: forever(hang), atLeast: 2 * time.Second, atMost: 2 * time.Second,
			requests: 1, is: []error{context.DeadlineExceeded},
		},
		{
			name: "deadline in an attempt", faults: forever(hang), deadline: time.Second, atLeast: time.Second, atMost: time.Second,
			requests: 1, is: []error{context.DeadlineExceeded},
		},
		{
			name: "cancelled in an attempt", faults: forever(hang), cancel: time.Second, atLeast: time.Second, atMost: time.Second,
			requests: 1, is: []error{context.Canceled},
		},
		{
			name: "the wait does not fit", c: slow, faults: forever(throttle), deadline: time.Second, atMost: time.Second - 1,
			requests: 1, is: []error{context.DeadlineExceeded, errThrottle},
		},
		{
			name: "cancelled in the wait", c: slow, faults: forever(throttle), cancel: time.Millisecond, atLeast: time.Millisecond, atMost: time.Millisecond,
			requests: 1, is: []error{context.Canceled, errThrottle},
		},
		{
			name: "throttled for ever", faults: forever(throttle), atMost: 350 * time.Millisecond,
			requests: 4, is: []error{errThrottle},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for name, call := range map[string]func(context.Context, *Backend) error{
				"Load": func(ctx context.Context, b *Backend) error { _, err := b.Load(ctx, key); return err },
				"Save": func(ctx context.Context, b *Backend) error {
					_, err := b.Save(ctx, key, replaced(record(""), "12345678", "1"))
					return err
				},
				"Touch":  func(ctx context.Context, b *Backend) error { return b.Touch(ctx, key, time.Now()) },
				"Delete": func(ctx context.Context, b *Backend) error { return b.Delete(ctx, key) },
				"Acquire": func(ctx context.Context, b *Backend) error {
					_, err := b.Acquire(ctx, key, time.Hour)
					return err
				},
				"Extend":  func(ctx context.Context, b *Backend) error { return b.Extend(ctx, key, someHolder, time.Hour) },
				"Release": func(ctx context.Context, b *Backend) error { return b.Release(ctx, key, someHolder, time.Time{}) },
			} {
				synctest.Test(t, func(t *testing.T) {
					f := newFake()
					f.fail(tt.faults...)
					b := newBackend(t, f, tt.c)
					ctx, cancel := context.WithCancel(context.Background())
					defer cancel()
					if tt.deadline > 0 {
						ctx, cancel = context.WithTimeout(ctx, tt.deadline)
						defer cancel()
					}
					if tt.cancel > 0 {
						defer time.AfterFunc(tt.cancel, cancel).Stop()
					}
					start := time.Now()
					err := call(ctx, b)
					took := time.Since(start)
					if err == nil {
						t.Fatal(name, "succeeds")
					}
					if took < tt.atLeast || took > tt.atMost {
						t.Errorf("%s took %v, want %v to %v", name, took, tt.atLeast, tt.atMost)
					}
					if f.count() != tt.requests {
						t.Errorf("%s: %d requests, want %d", name, f.count(), tt.requests)
					}
					for _, is := range tt.is {
						if !errors.Is(err, is) {
							t.Errorf("%s: %v is not %v", name, err, is)
						}
					}
					hung := len(tt.faults) > 0 && tt.faults[0].hang
					if got := strings.Contains(err.Error(), "not known whether it was applied"); got != (hung && name != "Load") {
						t.Errorf("%s: %v", name, err)
					}
					if errors.Is(err, session.ErrNotFound) || errors.Is(err, session.ErrConflict) || errors.Is(err, session.ErrLocked) {
						t.Errorf("%s: %v", name, err)
					}
				})
			}
		})
	}
}

// Each attempt reads the clock again: a record that expires during the retries is
// not revived.
func TestExpiresDuringRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		f := newFake()
		b := newBackend(t, f, Config{})
		rec := record("1")
		rec.Expires = time.Now().Add(time.Second)
		rec.Version = mustSave(t, b, rec)
		rec.Expires = time.Now().Add(time.Hour)

		f.fail(fault{hang: true}) // 2 s
		var ce *session.ConflictError
		if _, err := b.Save(ctx, key, rec); !errors.As(err, &ce) || !ce.Gone {
			t.Errorf("Save: %v", err)
		}
		if len(f.items) != 0 {
			t.Error("the first attempt could still be applied")
		}
		mustSave(t, b, record("1"))
		f.items[key]["expires"] = number(time.Now().Unix() + 1)
		f.fail(fault{hang: true})
		if err := b.Touch(ctx, key, rec.Expires); !errors.Is(err, session.ErrNotFound) {
			t.Errorf("Touch: %v", err)
		}
	})
}

// The deadline is exact: a record is live until the second of its Expires begins.
func TestDeadlineIsExact(t *testing.T) {
	for name, call := range map[string]func(context.Context, *Backend, session.Record) error{
		"Save": func(ctx context.Context, b *Backend, rec session.Record) error {
			_, err := b.Save(ctx, key, rec)
			return err
		},
		"Touch": func(ctx context.Context, b *Backend, rec session.Record) error { return b.Touch(ctx, key, rec.Expires) },
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx := context.Background()
			b := newBackend(t, newFake(), Config{})
			rec := record("1")
			rec.Expires = time.Now().Add(10 * time.Second)
			rec.Version = mustSave(t, b, rec)
			stored := mustLoad(t, b)

			time.Sleep(time.Until(stored.Expires) - 1)
			rec.Version = mustSave(t, b, rec)
			if err := b.Touch(ctx, key, stored.Expires); err != nil {
				t.Error(err)
			}
			time.Sleep(time.Nanosecond)
			rec.Expires = stored.Expires.Add(time.Hour)
			if err := call(ctx, b, rec); !errors.Is(err, session.ErrNotFound) {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
}

// A record that is saved after its Expires is dead at once, even within the second
// of its Expires.
func TestDeadAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		b := newBackend(t, newFake(), Config{})
		rec := record("1")
		rec.Version = mustSave(t, b, rec)
		time.Sleep(300 * time.Millisecond)
		rec.Expires = time.Now()
		mustSave(t, b, rec)
		if _, err := b.Load(ctx, key); !errors.Is(err, session.ErrNotFound) {
			t.Errorf("Load: %v", err)
		}
		rec.Expires = time.Now().Add(time.Hour)
		_, err := b.Save(ctx, key, rec)
		checkOutcome(t, "Save", err, gone)
		_, err = b.Acquire(ctx, key, time.Minute)
		checkOutcome(t, "Acquire", err, notFound)
	})
}

// A lease is exact too: it runs for ttl, and no longer, for all clients.
func TestLeaseIsExact(t *testing.T) {
	const ttl = 10 * time.Second
	others := map[string]func(context.Context, *Backend, session.Version) error{
		"Acquire": func(ctx context.Context, b *Backend, _ session.Version) error {
			_, err := b.Acquire(ctx, key, ttl)
			return err
		},
		"Save": func(ctx context.Context, b *Backend, v session.Version) error {
			_, err := b.Save(ctx, key, replaced(record(""), v, "theirs"))
			return err
		},
	}
	for name, call := range others {
		synctest.Test(t, func(t *testing.T) {
			ctx := context.Background()
			f := newFake()
			b, other := newBackend(t, f, Config{}), newBackend(t, f, Config{})
			v := mustSave(t, b, record("1"))
			start := time.Now()
			rec := mustAcquire(t, b, ttl)
			if !rec.LockedUntil.Equal(start.Add(ttl)) {
				t.Errorf("%s: locked until %v, want %v", name, rec.LockedUntil, start.Add(ttl))
			}
			time.Sleep(ttl - 1)
			checkOutcome(t, name+" in the lease", call(ctx, other, v), locked)
			if got := mustLoad(t, other); !got.LockedUntil.Equal(rec.LockedUntil) {
				t.Errorf("%s: in the lease: %v", name, got.LockedUntil)
			}
			if err := b.Extend(ctx, key, rec.Version, ttl); err != nil {
				t.Fatal(err)
			}

			// The lease now runs from here, rounded up to the millisecond.
			time.Sleep(ttl)
			checkOutcome(t, name+" in the second lease", call(ctx, other, v), locked)
			time.Sleep(time.Nanosecond)
			if got := mustLoad(t, other); !got.LockedUntil.IsZero() {
				t.Errorf("%s: after the lease: %v", name, got.LockedUntil)
			}
			checkOutcome(t, "Extend after the lease", b.Extend(ctx, key, rec.Version, ttl), conflicts)
			if err := call(ctx, other, v); err != nil {
				t.Errorf("%s after the lease: %v", name, err)
			}
			_, err := b.Save(ctx, key, replaced(rec, rec.Version, "late"))
			checkOutcome(t, "Save of the former holder", err, conflicts)
			checkOutcome(t, "Release of the former holder", b.Release(ctx, key, rec.Version, time.Time{}), conflicts)
		})
	}
}

// Each attempt asks for a lease from its own time. The one that was applied
// counts, and LockedUntil is its end.
func TestLeaseOfRetry(t *testing.T) {
	const ttl = 10 * time.Second
	for _, tt := range []struct {
		name  string
		first fault
		later bool // whether the lease is that of the retry
	}{
		{"applied", fault{mute: true}, false},
		{"not applied", fault{hang: true}, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx := context.Background()
			f := newFake()
			b := newBackend(t, f, Config{})
			mustSave(t, b, record("1"))

			f.fail(tt.first) // 2 s
			start := time.Now()
			rec := mustAcquire(t, b, ttl)
			took := time.Since(start)
			want := start.Add(ttl)
			if tt.later {
				want = time.UnixMilli(milliseconds(time.Now().Add(ttl)))
			}
			if took < 2*time.Second || !rec.LockedUntil.Equal(want) {
				t.Errorf("%s: after %v locked until %v, want %v", tt.name, took, rec.LockedUntil, want)
			}
			if got := mustLoad(t, b); !got.LockedUntil.Equal(want) {
				t.Errorf("%s: stored %v, want %v", tt.name, got.LockedUntil, want)
			}

			f.fail(tt.first)
			if err := b.Extend(ctx, key, rec.Version, ttl); err != nil {
				t.Fatal(err)
			}
			// The retry of an Extend always counts.
			if got := mustLoad(t, b).LockedUntil; got.Before(time.Now().Add(ttl)) {
				t.Errorf("%s: extended to %v", tt.name, got)
			}
		})
	}
}

// An Extend fails if the lease has run out before its retry arrives.
func TestLeaseEndsDuringRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		f := newFake()
		b := newBackend(t, f, Config{})
		mustSave(t, b, record("1"))
		rec := mustAcquire(t, b, time.Second)
		f.fail(fault{hang: true}) // 2 s
		checkOutcome(t, "Extend", b.Extend(ctx, key, rec.Version, time.Hour), conflicts)
		if !mustLoad(t, b).LockedUntil.IsZero() {
			t.Error("revived")
		}

		// The same with the record.
		rec = mustAcquire(t, b, time.Hour)
		f.items[key]["expires"] = number(time.Now().Unix() + 1)
		f.fail(fault{hang: true})
		checkOutcome(t, "Release", b.Release(ctx, key, rec.Version, time.Now().Add(time.Hour)), gone)
		checkOutcome(t, "Extend", b.Extend(ctx, key, rec.Version, time.Hour), gone)
		_, err := b.Save(ctx, key, rec)
		checkOutcome(t, "Save", err, gone)
	})
}

// If clocks differ, the end of a lease moves by the difference, and no stored data
// is lost.
func TestClocksDiffer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		f := newFake()
		b, ahead := newBackend(t, f, Config{}), newBackend(t, f, Config{})
		ahead.now = func() time.Time { return time.Now().Add(time.Second) }
		v := mustSave(t, b, record("1"))
		rec := mustAcquire(t, b, 10*time.Second)

		time.Sleep(9*time.Second - 1)
		_, err := ahead.Save(ctx, key, replaced(record(""), v, "theirs"))
		checkOutcome(t, "Save", err, locked)
		time.Sleep(time.Nanosecond)
		theirs := mustAcquire(t, ahead, 10*time.Second)
		_, err = b.Save(ctx, key, replaced(rec, rec.Version, "late"))
		checkOutcome(t, "Save of the former holder", err, conflicts)
		mustSave(t, ahead, replaced(theirs, theirs.Version, "theirs"))
	})
}

func TestTableWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newTables()
		f.creating, f.enabling = 5, 10
		b := newBackend(t, f, Config{})
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := b.CreateTable(ctx, TableOptions{}); err != nil {
			t.Fatal(err)
		}
		if f.table.TableStatus != types.TableStatusActive || f.ttl.TimeToLiveStatus != types.TimeToLiveStatusEnabled {
			t.Errorf("%v, %v", f.table.TableStatus, f.ttl.TimeToLiveStatus)
		}
	})
	for _, tt := range []struct {
		creating, enabling int
		words              string
	}{
		{1000, 0, "is still being created: run CreateTable again"},
		{0, 1000, "can be used, but its TTL"},
	} {
		synctest.Test(t, func(t *testing.T) {
			f := newTables()
			f.creating, f.enabling = tt.creating, tt.enabling
			b := newBackend(t, f, Config{})
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			start := time.Now()
			err := b.CreateTable(ctx, TableOptions{})
			if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), tt.words) {
				t.Errorf("%v", err)
			}
			if took := time.Since(start); took > time.Minute {
				t.Errorf("took %v", took)
			}
			if n := f.count(); n > 30 {
				t.Errorf("%d requests in a minute", n)
			}
		})
	}
}
