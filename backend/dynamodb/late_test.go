package dynamodb

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session"
)

// content returns the stored item without its lock, which its lease bounds.
func (f *fake) content() string {
	content, _, _ := strings.Cut(f.state(), "lock") // PHP removes one attribute of the two
	return content
}

// The first attempt of each call arrives late, after others have used the record
// before the retry and after the call. Unless the call said that its outcome is
// not known, that attempt changes nothing: neither after a success, nor after an
// error that says that nothing was written.
func TestLateAttempt(t *testing.T) {
	t.Run("ordinary", func(t *testing.T) { testLateAttempt(t, Config{}) })
	for _, name := range []string{"versioned", "stock"} { // unlocked is the same
		t.Run(name, func(t *testing.T) { testLateAttempt(t, Config{PHP: besidePHP[name]}) })
	}
}

func testLateAttempt(t *testing.T, c Config) {
	const ttl = time.Minute
	type step struct {
		name string
		do   func(ctx context.Context, b *Backend, f *fake)
	}
	var lock session.Record // of the other client
	steps := []step{
		{"", func(context.Context, *Backend, *fake) {}},
		{"lock", func(ctx context.Context, b *Backend, _ *fake) {
			if rec, err := b.Acquire(ctx, key, ttl); err == nil {
				lock = rec
			}
		}},
		{"free", func(ctx context.Context, b *Backend, _ *fake) { _ = b.Release(ctx, key, lock.Version, time.Time{}) }},
		{"write", func(ctx context.Context, b *Backend, _ *fake) {
			if rec, err := b.Load(ctx, key); err == nil {
				_, _ = b.Save(ctx, key, replaced(rec, rec.Version, "theirs"))
			}
		}},
		{"touch", func(ctx context.Context, b *Backend, _ *fake) { _ = b.Touch(ctx, key, b.now().Add(90*time.Minute)) }},
		{"lapse", func(_ context.Context, _ *Backend, f *fake) { f.ahead.Add(int64(ttl + time.Millisecond)) }},
		{"expire", func(_ context.Context, _ *Backend, f *fake) { f.ahead.Add(int64(3 * time.Hour)) }},
		{"end", func(ctx context.Context, b *Backend, _ *fake) {
			if rec, err := b.Load(ctx, key); err == nil {
				_, _ = b.Save(ctx, key, session.Record{Expires: time.Unix(0, 0), Version: rec.Version})
			}
		}},
		{"delete", func(ctx context.Context, b *Backend, _ *fake) { _ = b.Delete(ctx, key) }},
	}
	if c.PHP.Connection != 0 {
		h := newHandler(t, nil)
		php := func(do func(h *handler)) func(context.Context, *Backend, *fake) {
			return func(_ context.Context, b *Backend, f *fake) {
				h.client, h.now = f, b.now
				do(h)
			}
		}
		steps = append(steps,
			step{"PHP uses", php(func(h *handler) { h.touch() })},
			step{"PHP locks", php(func(h *handler) { _, _ = h.lock() })},
			step{"PHP destroys", php(func(h *handler) { h.destroy() })},
		)
		if c.PHP.Connection != VersionedConnection {
			steps = append(steps,
				step{"PHP writes", php(func(h *handler) { h.write("theirs") })},
				step{"PHP writes it back", php(func(h *handler) { h.must("write (binary type)", bytesOf("old")) })},
			)
		}
	}
	save := func(change func(*session.Record)) func(context.Context, *Backend, session.Record) error {
		return func(ctx context.Context, b *Backend, rec session.Record) error {
			rec = replaced(record(""), rec.Version, "ours")
			rec.Expires = b.now().Add(time.Hour)
			change(&rec)
			_, err := b.Save(ctx, key, rec)
			return err
		}
	}
	calls := []struct {
		name string
		held bool
		do   func(context.Context, *Backend, session.Record) error
	}{
		{"Save", false, save(func(*session.Record) {})},
		{"Save of the holder", true, save(func(*session.Record) {})},
		{"Save that keeps", false, save(func(rec *session.Record) { rec.KeepLater = true })},
		{"Save that keeps, of the holder", true, save(func(rec *session.Record) { rec.KeepLater = true })},
		{"Save that ends", false, save(func(rec *session.Record) { rec.Expires = time.Unix(0, 0) })},
		{"Save that ends, of the holder", true, save(func(rec *session.Record) { rec.Expires = time.Unix(0, 0) })},
		{"Save that ends or keeps", false, save(func(rec *session.Record) { rec.Expires, rec.KeepLater = time.Unix(0, 0), true })},
		{"Save that creates", false, save(func(rec *session.Record) { rec.Version = "" })},
		{"Touch", false, func(ctx context.Context, b *Backend, _ session.Record) error {
			return b.Touch(ctx, key, b.now().Add(2*time.Hour))
		}},
		{"Acquire", false, func(ctx context.Context, b *Backend, _ session.Record) error {
			_, err := b.Acquire(ctx, key, ttl)
			return err
		}},
		{"Extend", true, func(ctx context.Context, b *Backend, rec session.Record) error {
			return b.Extend(ctx, key, rec.Version, ttl)
		}},
		{"Release", true, func(ctx context.Context, b *Backend, rec session.Record) error {
			return b.Release(ctx, key, rec.Version, time.Time{})
		}},
		{"Release that moves", true, func(ctx context.Context, b *Backend, rec session.Record) error {
			return b.Release(ctx, key, rec.Version, b.now().Add(2*time.Hour))
		}},
	}
	for _, call := range calls {
		unknowns, runs := 0, 0
		for _, withoutOld := range []bool{false, true} {
			for n := range len(steps) * len(steps) * len(steps) {
				var chosen []step
				for i := n; len(chosen) < 3; i /= len(steps) {
					chosen = append(chosen, steps[i%len(steps)])
				}
				switch first := chosen[0].name; {
				case first == "" && !withoutOld, first == "PHP destroys" && !withoutOld, first == "PHP writes" && !withoutOld:
				case c.PHP.Connection != 0:
					continue // tested without PHP
				case first == "":
				case withoutOld, first != "lapse" && first != "write" && first != "touch":
					continue // more of the same
				}
				ctx := context.Background()
				f := newFake()
				f.withoutOld = withoutOld
				b, other := newClockedBackend(t, f, c), newClockedBackend(t, f, c)
				rec := record("old")
				rec.Version = mustSave(t, b, rec)
				if call.held {
					rec = mustAcquire(t, b, ttl)
				}
				var deliver func()
				f.fail(fault{
					late: func(apply func()) { deliver = apply },
					then: func() { chosen[0].do(ctx, other, f); chosen[1].do(ctx, other, f) },
				})
				err := call.do(ctx, b, rec)
				chosen[2].do(ctx, other, f)
				before := f.content()
				deliver()
				runs++
				if err != nil && strings.Contains(err.Error(), "not known whether it was applied") {
					unknowns++
					for _, sentinel := range []error{session.ErrConflict, session.ErrNotFound, session.ErrLocked, session.ErrDecode} {
						if errors.Is(err, sentinel) {
							t.Fatalf("%s: %v is %v", call.name, err, sentinel)
						}
					}
					continue
				}
				movedBack := call.name == "Touch" && strings.HasPrefix(chosen[2].name, "PHP") // and so what it did is undone
				if after := f.content(); after != before && !movedBack {
					t.Fatalf("%s/%v, ALL_OLD ignored %v: it said %v, and then changed %s\nto %s", call.name, []string{chosen[0].name, chosen[1].name, chosen[2].name}, withoutOld, err, before, after)
				}
			}
		}
		if call.name == "Save that creates" != (unknowns == runs) {
			t.Errorf("%s: %d of %d outcomes were unknown", call.name, unknowns, runs)
		}
		t.Logf("%s: %d of %d outcomes unknown", call.name, unknowns, runs)
	}
}

// A Save or a Touch that was sent before the deadline, by the clock of its
// sender, is not applied after a call has reported that the session has expired.
func TestLateAfterExpiry(t *testing.T) {
	ctx := context.Background()
	tells := map[string]func(b *Backend) error{
		"Acquire": func(b *Backend) error { _, err := b.Acquire(ctx, key, time.Minute); return err },
		"Touch":   func(b *Backend) error { return b.Touch(ctx, key, b.now().Add(time.Hour)) },
		"Save": func(b *Backend) error {
			rec := mustLoad(t, b)
			rec.Expires = b.now().Add(time.Hour)
			_, err := b.Save(ctx, key, rec)
			return err
		},
		"Save that ends": func(b *Backend) error {
			_, err := b.Save(ctx, key, session.Record{Expires: time.Unix(0, 0), Version: mustLoad(t, b).Version})
			return errors.Join(err, session.ErrNotFound)
		},
	}
	late := map[string]func(b *Backend, rec session.Record) error{
		"Save":    func(b *Backend, rec session.Record) error { _, err := b.Save(ctx, key, rec); return err },
		"Touch":   func(b *Backend, rec session.Record) error { return b.Touch(ctx, key, rec.Expires) },
		"Acquire": func(b *Backend, _ session.Record) error { _, err := b.Acquire(ctx, key, time.Minute); return err },
	}
	for told, tell := range tells {
		for name, call := range late {
			f := newFake()
			b := newClockedBackend(t, f, Config{MaxAttempts: 1})
			rec := record("1")
			rec.Version = mustSave(t, b, rec)
			rec.Expires = rec.Expires.Add(2 * time.Hour)
			var deliver func()
			f.fail(fault{late: func(apply func()) { deliver = apply }})
			checkOutcome(t, name, call(b, rec), unknown)
			f.ahead.Add(int64(time.Hour + time.Second))
			if err := tell(b); !errors.Is(err, session.ErrNotFound) {
				t.Errorf("%s: %v", told, err)
			}
			deliver()
			if f.state() != "none" {
				t.Errorf("%s was told that there is none, and then a late %s was applied: %s", told, name, f.state())
			}
		}
	}
}

func TestEndingSave(t *testing.T) {
	ctx := context.Background()
	past := time.Unix(0, 0)
	for _, tt := range []struct {
		name    string
		prepare func(t *testing.T, b *Backend, f *fake) session.Version
		want    int
		left    bool
	}{
		{"live", func(t *testing.T, b *Backend, _ *fake) session.Version { return mustLoad(t, b).Version }, success, false},
		{"expired", func(t *testing.T, b *Backend, f *fake) session.Version {
			f.ahead.Add(int64(2 * time.Hour))
			return mustLoad(t, b).Version
		}, success, false},
		{"expired and locked", func(t *testing.T, b *Backend, f *fake) session.Version {
			mustAcquire(t, b, 9*time.Hour)
			f.ahead.Add(int64(2 * time.Hour))
			return mustLoad(t, b).Version
		}, success, false},
		{"held", func(t *testing.T, b *Backend, _ *fake) session.Version { return mustAcquire(t, b, time.Hour).Version }, success, false},
		{"held, and lapsed", func(t *testing.T, b *Backend, f *fake) session.Version {
			v := mustAcquire(t, b, time.Minute).Version
			f.ahead.Add(int64(2 * time.Minute))
			return v
		}, success, false},
		{"held, and expired", func(t *testing.T, b *Backend, f *fake) session.Version {
			v := mustAcquire(t, b, time.Minute).Version
			f.ahead.Add(int64(2 * time.Hour))
			return v
		}, success, false},
		{"locked by another", func(t *testing.T, b *Backend, _ *fake) session.Version {
			mustAcquire(t, b, time.Hour)
			return mustLoad(t, b).Version
		}, locked, true},
		{"taken over", func(t *testing.T, b *Backend, f *fake) session.Version {
			v := mustAcquire(t, b, time.Minute).Version
			f.ahead.Add(int64(2 * time.Minute))
			mustAcquire(t, b, time.Minute)
			return v
		}, conflicts, true},
		{"changed", func(t *testing.T, b *Backend, _ *fake) session.Version {
			rec := mustLoad(t, b)
			mustSave(t, b, rec)
			return rec.Version
		}, conflicts, true},
		{"changed, and expired", func(t *testing.T, b *Backend, f *fake) session.Version {
			rec := mustLoad(t, b)
			mustSave(t, b, rec)
			f.ahead.Add(int64(2 * time.Hour))
			return rec.Version
		}, conflicts, true}, // and the caller looks again
		{"gone", func(t *testing.T, b *Backend, _ *fake) session.Version {
			rec := mustLoad(t, b)
			if err := b.Delete(ctx, key); err != nil {
				t.Fatal(err)
			}
			return rec.Version
		}, gone, false},
	} {
		for _, withoutOld := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/ALL_OLD ignored %v", tt.name, withoutOld), func(t *testing.T) {
				f := newFake()
				f.withoutOld = withoutOld
				b := newClockedBackend(t, f, Config{})
				mustSave(t, b, record("1"))
				v := tt.prepare(t, b, f)
				n := f.count()
				_, err := b.Save(ctx, key, session.Record{Created: past, Expires: past, Version: v})
				checkOutcome(t, "Save", err, tt.want)
				var conflict *session.ConflictError
				if tt.want == conflicts && (!errors.As(err, &conflict) || conflict.Current == nil) {
					t.Error("the conflict is without the record")
				}
				if sent := f.count() - n; !withoutOld && sent > 1 && tt.want != gone || tt.want == success && f.sent[n] != "DeleteItem" {
					t.Errorf("requests: %v", f.sent[n:])
				}
				if left := f.state() != "none"; left != tt.left {
					t.Errorf("stored: %s", f.state())
				}
			})
		}
	}
}

// A Save with KeepLater leaves a later Expires as it is. Only then does it cost
// one request more.
func TestKeepLater(t *testing.T) {
	ctx := context.Background()
	hour := func(n int) time.Time { return time.Unix(time.Now().Unix(), 0).Add(time.Duration(n) * time.Hour) }
	for _, tt := range []struct {
		name          string
		stored, given time.Time
		keeps         bool
		want          time.Time // zero: the record is gone
		requests      int
	}{
		{"later", hour(1), hour(2), true, hour(2), 1},
		{"same", hour(1), hour(1), true, hour(1), 1},
		{"earlier", hour(2), hour(1), true, hour(2), 2},
		{"earlier by less than a second", hour(2), hour(2).Add(-time.Millisecond), true, hour(2), 1},
		{"past", hour(2), hour(-1), true, hour(2), 2},
		{"earlier, and it means to", hour(2), hour(1), false, hour(1), 1},
		{"past, and it means to", hour(2), hour(-1), false, time.Time{}, 1},
	} {
		for _, held := range []bool{false, true} {
			for _, withoutOld := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/held %v/ALL_OLD ignored %v", tt.name, held, withoutOld), func(t *testing.T) {
					f := newFake()
					f.withoutOld = withoutOld
					b := newBackend(t, f, quick(Config{}))
					rec := record("1")
					rec.Expires = tt.stored
					rec.Version = mustSave(t, b, rec)
					if held {
						rec = mustAcquire(t, b, time.Minute)
					}
					n := f.count()
					rec = replaced(rec, rec.Version, "2")
					rec.Expires, rec.KeepLater = tt.given, tt.keeps
					v := mustSave(t, b, rec)
					if got := f.count() - n; got != tt.requests && (!withoutOld || got != tt.requests+1) {
						t.Errorf("%d requests, want %d", got, tt.requests)
					}
					if tt.want.IsZero() {
						if f.state() != "none" {
							t.Error(f.state())
						}
						return
					}
					if got := mustLoad(t, b); !got.Expires.Equal(tt.want) || string(got.Data) != "2" || got.Version != v || !got.LockedUntil.IsZero() {
						t.Errorf("stored %+v, want Expires %v", got, tt.want)
					}
				})
			}
		}
	}

	// An expired record stays expired.
	f := newFake()
	b := newClockedBackend(t, f, Config{})
	rec := record("1")
	rec.Version = mustSave(t, b, rec)
	rec.KeepLater = true
	f.ahead.Add(int64(2 * time.Hour))
	if _, err := b.Save(ctx, key, rec); err != nil && !errors.Is(err, session.ErrNotFound) || f.state() != "none" {
		t.Errorf("%v: %s", err, f.state())
	}
}

// With an engine that ignores ALL_OLD, and many callers, Acquire fails only
// because the lock is taken.
func TestContendedAcquire(t *testing.T) {
	f := newFake()
	f.withoutOld = true
	mustSave(t, newBackend(t, f, Config{}), record("1"))
	done := make(chan error, 8)
	for range cap(done) {
		go func() {
			b := newBackend(t, f, quick(Config{}))
			for range 400 {
				rec, err := b.Acquire(context.Background(), key, time.Minute)
				if err == nil {
					err = b.Release(context.Background(), key, rec.Version, time.Time{})
				}
				if err != nil && !errors.Is(err, session.ErrLocked) {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for range cap(done) {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}
