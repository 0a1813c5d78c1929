package redisstore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session"
)

// onBoth runs f on miniredis, whose clock pass moves, and on the real server,
// where pass waits.
func onBoth(t *testing.T, f func(t *testing.T, r *rig, pass func(time.Duration))) {
	t.Helper()
	t.Run("miniredis", func(t *testing.T) {
		t.Parallel()
		r := newMiniRig(t, Config{})
		f(t, r, func(d time.Duration) { r.ahead.Add(int64(d)) })
	})
	t.Run("redis-server", func(t *testing.T) {
		t.Parallel()
		f(t, newRig(t, Config{}), time.Sleep)
	})
}

// The must functions do not end the test if they fail, because goroutines of
// the client call some of them.

func record(data string, v session.Version) session.Record {
	return session.Record{
		Data:    []byte(data),
		Created: time.Now().Truncate(time.Millisecond),
		Expires: time.Now().Truncate(time.Second).Add(time.Hour),
		Version: v,
	}
}

func mustSave(t *testing.T, b session.Backend, key, data string, v session.Version) session.Version {
	t.Helper()
	v, err := b.Save(t.Context(), key, record(data, v))
	if err != nil {
		t.Errorf("Save of %q: %v", data, err)
	}
	return v
}

func mustAcquire(t *testing.T, b session.LockingBackend, key string, ttl time.Duration) session.Record {
	t.Helper()
	rec, err := b.Acquire(t.Context(), key, ttl)
	if err != nil {
		t.Errorf("Acquire: %v", err)
	}
	return rec
}

func mustLoad(t *testing.T, b session.Backend, key string) session.Record {
	t.Helper()
	rec, err := b.Load(t.Context(), key)
	if err != nil {
		t.Errorf("Load: %v", err)
	}
	return rec
}

func wantErr(t *testing.T, err, want error, doing string) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: got error %v, want %v", doing, err, want)
	}
}

func wantNil(t *testing.T, err error, doing string) {
	t.Helper()
	if err != nil {
		t.Errorf("%s: %v", doing, err)
	}
}

func TestLease(t *testing.T) {
	const short, long = 50 * time.Millisecond, time.Minute
	tests := []struct {
		name string
		run  func(t *testing.T, r *rig, pass func(time.Duration))
	}{
		{"acquire reads", func(t *testing.T, r *rig, _ func(time.Duration)) {
			v := mustSave(t, r, "k", "1", "")
			before := time.Now()
			rec := mustAcquire(t, r, "k", long)
			if string(rec.Data) != "1" || rec.Expires.IsZero() || rec.Created.IsZero() {
				t.Errorf("got %+v", rec)
			}
			if rec.LockedUntil.Before(before.Add(long)) || rec.LockedUntil.After(time.Now().Add(long)) {
				t.Errorf("LockedUntil is %v from now", time.Until(rec.LockedUntil))
			}
			other := mustLoad(t, r.second(t), "k")
			if other.Version != v || rec.Version == v {
				t.Errorf("Load has version %q and the holder %q; saved was %q", other.Version, rec.Version, v)
			}
			if d := other.LockedUntil.Sub(rec.LockedUntil); d < 0 || d > 10*time.Second {
				t.Errorf("others see the lock until %v after the holder", d)
			}
		}},
		{"acquire never creates", func(t *testing.T, r *rig, pass func(time.Duration)) {
			_, err := r.Acquire(t.Context(), "k", long)
			wantErr(t, err, session.ErrNotFound, "Acquire of nothing")
			rec := record("1", "")
			rec.Expires = time.Now().Add(short)
			if _, err := r.Save(t.Context(), "k", rec); err != nil {
				t.Fatal(err)
			}
			pass(2 * short)
			_, err = r.Acquire(t.Context(), "k", long)
			wantErr(t, err, session.ErrNotFound, "Acquire of an expired record")
		}},
		{"ttl", func(t *testing.T, r *rig, _ func(time.Duration)) {
			mustSave(t, r, "k", "1", "")
			for _, ttl := range []time.Duration{0, -1} {
				if _, err := r.Acquire(t.Context(), "k", ttl); err == nil {
					t.Errorf("Acquire for %v: no error", ttl)
				}
			}
			rec := mustAcquire(t, r, "k", long)
			if err := r.Extend(t.Context(), "k", rec.Version, 0); err == nil {
				t.Error("Extend by 0: no error")
			}
		}},
		{"others are locked out", func(t *testing.T, r *rig, _ func(time.Duration)) {
			v := mustSave(t, r, "k", "1", "")
			v = mustSave(t, r, "k", "2", v)
			held := mustAcquire(t, r, "k", long)
			o := r.second(t)
			for _, old := range []session.Version{"", v, v[:4], "foreign"} {
				_, err := o.Save(t.Context(), "k", record("x", old))
				var locked *session.LockedError
				if !errors.As(err, &locked) || errors.Is(err, session.ErrConflict) {
					t.Errorf("Save with version %q: got %v, want a *session.LockedError", old, err)
				} else if d := time.Until(locked.Until); d <= 0 || d > long+time.Second {
					t.Errorf("locked for %v", d)
				}
			}
			_, err := o.Acquire(t.Context(), "k", long)
			var locked *session.LockedError
			if !errors.As(err, &locked) || time.Until(locked.Until) <= 0 {
				t.Errorf("second Acquire: got %v, want a *session.LockedError with a time", err)
			}
			wantErr(t, o.Extend(t.Context(), "k", v, long), session.ErrConflict, "Extend without lock")
			wantErr(t, o.Release(t.Context(), "k", v, time.Time{}), session.ErrConflict, "Release without lock")

			mustSave(t, r, "k", "3", held.Version)
			if rec := mustLoad(t, o, "k"); string(rec.Data) != "3" || !rec.LockedUntil.IsZero() {
				t.Errorf("after the holder's Save: %+v", rec)
			}
			wantErr(t, r.Release(t.Context(), "k", held.Version, time.Time{}), session.ErrConflict, "Release after Save")
			_, err = r.Save(t.Context(), "k", record("4", held.Version))
			wantErr(t, err, session.ErrConflict, "second Save with the holder's version")
		}},
		{"release", func(t *testing.T, r *rig, _ func(time.Duration)) {
			v := mustSave(t, r, "k", "1", "")
			before := mustLoad(t, r, "k")
			held := mustAcquire(t, r, "k", long)
			wantNil(t, r.Release(t.Context(), "k", held.Version, before.Expires.Add(-time.Minute)), "Release")
			after := mustLoad(t, r, "k")
			if after.Version != v || string(after.Data) != "1" || !after.LockedUntil.IsZero() || !after.Expires.Equal(before.Expires) {
				t.Errorf("before Acquire %+v, after Release %+v", before, after)
			}
			wantErr(t, r.Release(t.Context(), "k", held.Version, time.Time{}), session.ErrConflict, "second Release")
			wantErr(t, r.Extend(t.Context(), "k", held.Version, long), session.ErrConflict, "Extend after Release")
			_, err := r.Save(t.Context(), "k", record("2", held.Version))
			wantErr(t, err, session.ErrConflict, "Save after Release")

			held = mustAcquire(t, r, "k", long)
			until := before.Expires.Add(time.Hour)
			wantNil(t, r.Release(t.Context(), "k", held.Version, until), "Release")
			if rec := mustLoad(t, r, "k"); !rec.Expires.Equal(until) || rec.Version != v {
				t.Errorf("after Release with a new deadline: %+v", rec)
			}
			mustSave(t, r, "k", "2", v)
		}},
		{"extend", func(t *testing.T, r *rig, pass func(time.Duration)) {
			mustSave(t, r, "k", "1", "")
			held := mustAcquire(t, r, "k", 2*time.Second)
			wantNil(t, r.Extend(t.Context(), "k", held.Version, long), "Extend")
			if d := time.Until(mustLoad(t, r, "k").LockedUntil); d < long/2 {
				t.Errorf("the lock is live for %v after Extend", d)
			}
			wantNil(t, r.Extend(t.Context(), "k", held.Version, short), "Extend to an earlier end")
			pass(2 * short)
			wantErr(t, r.Extend(t.Context(), "k", held.Version, long), session.ErrConflict, "Extend after the lease ran out")
		}},
		{"a lease that ran out, nobody came", func(t *testing.T, r *rig, pass func(time.Duration)) {
			mustSave(t, r, "k", "1", "")
			held := mustAcquire(t, r, "k", short)
			pass(2 * short)
			if rec := mustLoad(t, r, "k"); !rec.LockedUntil.IsZero() {
				t.Errorf("LockedUntil is %v after the lease", rec.LockedUntil)
			}
			v := mustSave(t, r, "k", "2", held.Version)
			held = mustAcquire(t, r, "k", short)
			pass(2 * short)
			wantNil(t, r.Release(t.Context(), "k", held.Version, time.Time{}), "Release")
			mustSave(t, r, "k", "3", v)
		}},
		{"takeover", func(t *testing.T, r *rig, pass func(time.Duration)) {
			mustSave(t, r, "k", "1", "")
			first := mustAcquire(t, r, "k", short)
			pass(2 * short)
			second := mustAcquire(t, r.second(t), "k", long)
			fenced(t, r, first.Version)
			wantNil(t, r.Extend(t.Context(), "k", second.Version, long), "Extend by the new holder")
			mustSave(t, r, "k", "2", second.Version)
			fenced(t, r, first.Version)
			if rec := mustLoad(t, r, "k"); string(rec.Data) != "2" {
				t.Errorf("stored is %q", rec.Data)
			}
		}},
		{"ended by a Save", func(t *testing.T, r *rig, pass func(time.Duration)) {
			v := mustSave(t, r, "k", "1", "")
			held := mustAcquire(t, r, "k", short)
			pass(2 * short)
			mustSave(t, r.second(t), "k", "2", v)
			fenced(t, r, held.Version)
			mustAcquire(t, r, "k", long)
			fenced(t, r, held.Version)
		}},
		{"delete under lock", func(t *testing.T, r *rig, _ func(time.Duration)) {
			mustSave(t, r, "k", "1", "")
			held := mustAcquire(t, r, "k", long)
			wantNil(t, r.second(t).Delete(t.Context(), "k"), "Delete")
			fenced(t, r, held.Version)
			_, err := r.Load(t.Context(), "k")
			wantErr(t, err, session.ErrNotFound, "Load")
			mustSave(t, r, "k", "2", "")
			fenced(t, r, held.Version)
			mustAcquire(t, r, "k", long)
		}},
		{"touch under lock", func(t *testing.T, r *rig, _ func(time.Duration)) {
			mustSave(t, r, "k", "1", "")
			held := mustAcquire(t, r, "k", long)
			until := held.Expires.Add(time.Hour)
			wantNil(t, r.second(t).Touch(t.Context(), "k", until), "Touch")
			rec := mustLoad(t, r, "k")
			if !rec.Expires.Equal(until) || rec.LockedUntil.IsZero() {
				t.Errorf("after Touch: %+v", rec)
			}
			wantNil(t, r.Extend(t.Context(), "k", held.Version, long), "Extend")
			mustSave(t, r, "k", "2", held.Version)
		}},
		{"expiry under lock", func(t *testing.T, r *rig, pass func(time.Duration)) {
			rec := record("1", "")
			rec.Expires = time.Now().Add(2 * short)
			if _, err := r.Save(t.Context(), "k", rec); err != nil {
				t.Fatal(err)
			}
			held := mustAcquire(t, r, "k", long)
			pass(3 * short)
			fenced(t, r, held.Version)
			wantErr(t, r.Touch(t.Context(), "k", rec.Expires.Add(time.Hour)), session.ErrNotFound, "Touch")
			v := mustSave(t, r, "k", "2", "") // the lock ended with the record
			fenced(t, r, held.Version)
			mustSave(t, r, "k", "3", v)
		}},
		{"of several one", func(t *testing.T, r *rig, _ func(time.Duration)) {
			mustSave(t, r, "k", "1", "")
			o := r.second(t)
			for range 20 {
				var won atomic.Pointer[session.Record]
				var wg sync.WaitGroup
				for i := range 8 {
					wg.Go(func() {
						b := r
						if i%2 == 1 {
							b = o
						}
						rec, err := b.Acquire(t.Context(), "k", long)
						switch {
						case err == nil && !won.CompareAndSwap(nil, &rec):
							t.Error("two hold the lock")
						case err != nil && !errors.Is(err, session.ErrLocked):
							t.Errorf("Acquire: %v", err)
						}
					})
				}
				wg.Wait()
				if won.Load() == nil {
					t.Fatal("nobody holds the lock")
				}
				wantNil(t, r.Release(t.Context(), "k", won.Load().Version, time.Time{}), "Release")
			}
		}},
		{"done context", func(t *testing.T, r *rig, _ func(time.Duration)) {
			v := mustSave(t, r, "k", "1", "")
			held := mustAcquire(t, r, "k", long)
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			_, err := r.Acquire(ctx, "k", long)
			wantErr(t, err, context.Canceled, "Acquire")
			for _, v := range []session.Version{v, held.Version} {
				wantErr(t, r.Extend(ctx, "k", v, long), context.Canceled, "Extend")
				wantErr(t, r.Release(ctx, "k", v, time.Time{}), context.Canceled, "Release")
			}
			mustSave(t, r, "k", "2", held.Version)
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { onBoth(t, tt.run) })
	}
}

// fenced fails the test if the former holder with version v can still write,
// extend or release.
func fenced(t *testing.T, r *rig, v session.Version) {
	t.Helper()
	ctx := t.Context()
	_, err := r.Save(ctx, "k", record("x", v))
	wantErr(t, err, session.ErrConflict, "Save by the former holder")
	var conflict *session.ConflictError
	if !errors.As(err, &conflict) || errors.Is(err, session.ErrLocked) {
		t.Errorf("Save by the former holder: got %v, want a *session.ConflictError", err)
	}
	wantErr(t, r.Extend(ctx, "k", v, time.Minute), session.ErrConflict, "Extend by the former holder")
	wantErr(t, r.Release(ctx, "k", v, time.Now().Add(24*time.Hour)), session.ErrConflict, "Release by the former holder")
}

// A call does not take its own first attempt for the work of another client,
// and does nothing twice.
func TestLost(t *testing.T) {
	ops := []struct {
		name string
		// call prepares the record. It returns the call that loses a message,
		// and a check of its effect.
		call func(t *testing.T, r *rig) (call func() error, check func())
	}{
		{"replace", func(t *testing.T, r *rig) (func() error, func()) {
			old := mustSave(t, r, "k", "1", "")
			var v session.Version
			return func() (err error) { v, err = r.Save(t.Context(), "k", record("2", old)); return err },
				func() {
					if rec := mustLoad(t, r, "k"); rec.Version != v || string(rec.Data) != "2" || v == old {
						t.Errorf("Save returned %q, stored is %+v", v, rec)
					}
				}
		}},
		{"end at once", func(t *testing.T, r *rig) (func() error, func()) {
			old := mustSave(t, r, "k", "1", "")
			rec := record("2", old)
			rec.Expires = time.Now().Add(-time.Hour)
			return func() error { _, err := r.Save(t.Context(), "k", rec); return err },
				func() {
					wantErr(t, r.Touch(t.Context(), "k", time.Now().Add(time.Hour)), session.ErrNotFound, "Touch")
					mustSave(t, r, "k", "3", "")
				}
		}},
		{"save and unlock", func(t *testing.T, r *rig) (func() error, func()) {
			mustSave(t, r, "k", "1", "")
			held := mustAcquire(t, r, "k", time.Minute)
			var v session.Version
			return func() (err error) { v, err = r.Save(t.Context(), "k", record("2", held.Version)); return err },
				func() { mustSave(t, r, "k", "3", v) }
		}},
		{"touch", func(t *testing.T, r *rig) (func() error, func()) {
			mustSave(t, r, "k", "1", "")
			until := time.Now().Truncate(time.Second).Add(2 * time.Hour)
			return func() error { return r.Touch(t.Context(), "k", until) },
				func() {
					if rec := mustLoad(t, r, "k"); !rec.Expires.Equal(until) {
						t.Errorf("Expires is %v", rec.Expires)
					}
				}
		}},
		{"delete", func(t *testing.T, r *rig) (func() error, func()) {
			mustSave(t, r, "k", "1", "")
			return func() error { return r.Delete(t.Context(), "k") },
				func() { _, err := r.Load(t.Context(), "k"); wantErr(t, err, session.ErrNotFound, "Load") }
		}},
		{"load", func(t *testing.T, r *rig) (func() error, func()) {
			mustSave(t, r, "k", "1", "")
			return func() error { _, err := r.Load(t.Context(), "k"); return err }, func() {}
		}},
		{"acquire", func(t *testing.T, r *rig) (func() error, func()) {
			mustSave(t, r, "k", "1", "")
			var held session.Record
			return func() (err error) { held, err = r.Acquire(t.Context(), "k", time.Minute); return err },
				func() {
					_, err := r.Acquire(t.Context(), "k", time.Minute)
					wantErr(t, err, session.ErrLocked, "another Acquire")
					mustSave(t, r, "k", "2", held.Version)
				}
		}},
		{"extend", func(t *testing.T, r *rig) (func() error, func()) {
			mustSave(t, r, "k", "1", "")
			held := mustAcquire(t, r, "k", time.Second)
			return func() error { return r.Extend(t.Context(), "k", held.Version, time.Hour) },
				func() {
					if d := time.Until(mustLoad(t, r, "k").LockedUntil); d < time.Minute {
						t.Errorf("locked for %v", d)
					}
				}
		}},
		{"release", func(t *testing.T, r *rig) (func() error, func()) {
			v := mustSave(t, r, "k", "1", "")
			held := mustAcquire(t, r, "k", time.Minute)
			until := time.Now().Truncate(time.Second).Add(2 * time.Hour)
			return func() error { return r.Release(t.Context(), "k", held.Version, until) },
				func() {
					if rec := mustLoad(t, r, "k"); !rec.Expires.Equal(until) || rec.Version != v {
						t.Errorf("stored is %+v", rec)
					}
					mustSave(t, r, "k", "2", v)
				}
		}},
	}
	for _, op := range ops {
		t.Run(op.name, func(t *testing.T) {
			for _, tt := range []struct {
				name string
				what loss
			}{{"request", request}, {"response", response}} {
				t.Run(tt.name, func(t *testing.T) {
					onBoth(t, func(t *testing.T, r *rig, _ func(time.Duration)) {
						call, check := op.call(t, r)
						// If the script is new to miniredis, both EVALSHA and EVAL
						// are lost.
						r.link.sent()
						r.link.loseNext(2, tt.what)
						if err := call(); err != nil {
							t.Fatal(err)
						}
						if n := len(r.link.sent()); n < 3 {
							t.Errorf("%d commands were sent, want 3 or more: the test lost none", n)
						}
						check()
					})
				})
			}
		})
	}
}

// A write loses its request or response, and other clients write before the
// retry.
func TestLostThenOthers(t *testing.T) {
	for _, tt := range []struct {
		others int
		held   bool // the last other write is followed by a lock
		lost   loss
		want   error // nil: applied
	}{
		{others: 1, lost: response},
		{others: 127, lost: response},
		{others: 127, lost: response, held: true},
		{others: 128, lost: response, want: errUnknown},
		{others: 128, lost: response, held: true, want: errUnknown},
		{others: 1, lost: request, want: session.ErrConflict},
		{others: 1, lost: request, held: true, want: session.ErrLocked},
		{others: 127, lost: request, want: session.ErrConflict},
		{others: 0, lost: request, held: true, want: errUnknown}, // the request may arrive after the lock was freed
		{others: 129, lost: request, want: errUnknown},
	} {
		t.Run(fmt.Sprintf("%+v", tt), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, Config{})
			o := r.second(t)
			mustSave(t, r, "warm-up", "1", "") // loads the script
			old := mustSave(t, r, "k", "1", "")
			for range 3 {
				old = mustSave(t, r, "k", "1", old)
			}
			attempt := 0
			r.link.set(func() {
				r.link.lose = func(string) loss {
					if attempt++; attempt == 1 {
						return tt.lost
					}
					return nothing
				}
				r.link.pause = func(string) {
					if attempt != 2 {
						return
					}
					var v session.Version
					if rec, err := o.Load(t.Context(), "k"); err == nil {
						v = rec.Version
					}
					for range tt.others {
						v = mustSave(t, o, "k", "other", v)
					}
					if tt.held {
						mustAcquire(t, o, "k", time.Minute)
					}
				}
			})
			v, err := r.Save(t.Context(), "k", record("mine", old))
			switch {
			case tt.want == nil && err != nil:
				t.Errorf("got %v, want success", err)
			case tt.want == nil:
				_, err = r.Save(t.Context(), "k", record("next", v))
				if !errors.Is(err, session.ErrConflict) && !errors.Is(err, session.ErrLocked) {
					t.Errorf("the next Save: got %v", err)
				}
			case errors.Is(tt.want, errUnknown):
				if err == nil || errors.Is(err, session.ErrConflict) || errors.Is(err, session.ErrLocked) ||
					!strings.Contains(err.Error(), "not known whether it was applied") {
					t.Errorf("got %v, want that it is not known", err)
				}
			default:
				wantErr(t, err, tt.want, "Save")
			}
		})
	}
}

var errUnknown = errors.New("not known")

// The tokens are kept until a minute has passed without writes, at most 128 of
// them.
func TestTokens(t *testing.T) {
	r := newMiniRig(t, Config{})
	size := func() int { return len(r.client.HGet(t.Context(), r.c.Prefix+"k", "version").Val()) / tokenSize }
	v := mustSave(t, r, "k", "1", "")
	for i := 2; i < 200; i++ {
		v = mustSave(t, r, "k", "1", v)
		if got, want := size(), min(i, 128); got != want {
			t.Fatalf("%d tokens after %d writes", got, i)
		}
	}
	for i, tt := range []struct {
		pause  time.Duration
		tokens int
	}{{50 * time.Second, 128}, {61 * time.Second, 2}, {61 * time.Second, 2}, {50 * time.Second, 3}} {
		r.ahead.Add(int64(tt.pause))
		v = mustSave(t, r, "k", "1", v)
		if got := size(); got != tt.tokens {
			t.Errorf("%d: after a pause of %v: %d tokens, want %d", i, tt.pause, got, tt.tokens)
		}
	}
	now := time.Now()
	for _, tt := range []struct {
		covered bool
		sent    time.Duration // ago
		want    bool
	}{{true, 0, true}, {false, 0, false}, {true, 49 * time.Second, true}, {true, 51 * time.Second, false}} {
		if got := (&reply{status: statusConflict, covered: tt.covered, sent: now.Add(-tt.sent)}).settles(now); got != tt.want {
			t.Errorf("%+v: got %v", tt, got)
		}
	}
}

// If no message was lost, an old version is a conflict, however old it is.
func TestVeryStale(t *testing.T) {
	r := newRig(t, Config{})
	first := mustSave(t, r, "k", "1", "")
	v := first
	for range 200 {
		v = mustSave(t, r, "k", "2", v)
	}
	for _, old := range []session.Version{first, ""} {
		_, err := r.Save(t.Context(), "k", record("3", old))
		var conflict *session.ConflictError
		if !errors.As(err, &conflict) || conflict.Current == nil || conflict.Current.Version != v {
			t.Errorf("got %v, want a conflict with the current record", err)
		}
	}
	// The same holds if the server has forgotten the script.
	wantNil(t, r.client.ScriptFlush(t.Context()).Err(), "SCRIPT FLUSH")
	_, err := r.Save(t.Context(), "k", record("3", first))
	wantErr(t, err, session.ErrConflict, "Save")
}

// A release loses its response, and other clients come before the retry.
func TestLostReleaseThenOthers(t *testing.T) {
	for _, tt := range []struct {
		name   string
		expiry bool
		others func(t *testing.T, o *rig, v session.Version)
	}{
		{"acquire", false, func(t *testing.T, o *rig, _ session.Version) { mustAcquire(t, o, "k", time.Minute) }},
		{"acquire, with expiry", true, func(t *testing.T, o *rig, _ session.Version) { mustAcquire(t, o, "k", time.Minute) }},
		{"save", true, func(t *testing.T, o *rig, v session.Version) { mustSave(t, o, "k", "2", v) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, Config{})
			v := mustSave(t, r, "k", "1", "")
			held := mustAcquire(t, r, "k", time.Minute)
			wantNil(t, r.Release(t.Context(), "k", held.Version, time.Time{}), "warm-up")
			held = mustAcquire(t, r, "k", time.Minute)
			o := r.second(t)
			n := 0
			r.link.set(func() {
				r.link.lose = func(string) loss {
					if n++; n == 1 {
						return response
					}
					return nothing
				}
				r.link.pause = func(string) {
					if n == 2 {
						tt.others(t, o, v)
					}
				}
			})
			var expires time.Time
			if tt.expiry {
				expires = held.Expires.Add(time.Hour)
			}
			wantNil(t, r.Release(t.Context(), "k", held.Version, expires), "Release")
		})
	}
}

// A copy of an Acquire that arrives after its lock was ended does not lock.
func TestLateAcquire(t *testing.T) {
	onBoth(t, func(t *testing.T, r *rig, _ func(time.Duration)) {
		v := mustSave(t, r, "k", "1", "")
		lock := newToken()
		acquire := func() status {
			t.Helper()
			reply, err := r.keys.run(t.Context(), acquireScript, "k", lock, int64(60000))
			if err != nil {
				t.Fatal(err)
			}
			return reply.status
		}
		if got := acquire(); got != "ok" {
			t.Fatalf("first copy: %s", got)
		}
		if got := acquire(); got != "ok" {
			t.Fatalf("second copy, at once: %s", got)
		}
		wantNil(t, r.Release(t.Context(), "k", holderVersion(lock, v), time.Time{}), "Release")
		if got := acquire(); got != "ended" {
			t.Errorf("copy after Release: %s", got)
		}
		mustSave(t, r, "k", "2", v)
		if got := acquire(); got != "ended" {
			t.Errorf("copy after a Save: %s", got)
		}
	})
}

// Acquire loses its response, the lease runs out, and another client ends the
// lock before the retry: Acquire then acquires a new lock.
func TestLostAcquireEnded(t *testing.T) {
	r := newRig(t, Config{})
	v := mustSave(t, r, "k", "1", "")
	o := r.second(t)
	held := mustAcquire(t, r, "k", time.Minute)
	wantNil(t, r.Release(t.Context(), "k", held.Version, time.Time{}), "warm-up")
	n := 0
	r.link.set(func() {
		r.link.lose = func(string) loss {
			if n++; n == 1 {
				return response
			}
			return nothing
		}
		r.link.pause = func(string) {
			if n == 2 {
				time.Sleep(60 * time.Millisecond)
				v = mustSave(t, o, "k", "2", v)
			}
		}
	})
	rec, err := r.Acquire(t.Context(), "k", 50*time.Millisecond)
	if err != nil || string(rec.Data) != "2" {
		t.Fatalf("got %q, %v", rec.Data, err)
	}
}

// A lock that arrives after its caller has gone is released.
func TestAbandonedAcquire(t *testing.T) {
	r := newRig(t, Config{})
	v := mustSave(t, r, "k", "1", "")
	held := mustAcquire(t, r, "k", time.Minute)
	wantNil(t, r.Release(t.Context(), "k", held.Version, time.Time{}), "warm-up")
	ctx, cancel := context.WithCancel(t.Context())
	applied := make(chan struct{})
	r.link.set(func() { r.link.hung = true })
	go func() {
		defer close(applied)
		defer cancel()
		o := r.second(t)
		for mustLoad(t, o, "k").LockedUntil.IsZero() && !t.Failed() {
			time.Sleep(time.Millisecond)
		}
	}()
	_, err := r.Acquire(ctx, "k", time.Hour)
	wantErr(t, err, context.Canceled, "Acquire")
	<-applied
	if !strings.Contains(err.Error(), "not known whether it was applied") {
		t.Errorf("the error is %q", err)
	}
	r.link.set(func() { r.link.hung = false })
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		if mustLoad(t, r, "k").LockedUntil.IsZero() {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the lock was not given back")
		}
	}
	mustSave(t, r, "k", "2", v)
}
