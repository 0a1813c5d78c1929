package redisstore

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/conformance"
)

// lockRig is a Locker with the parts that a test needs.
type lockRig struct {
	*Locker
	link   *link
	client *redis.Client
	prefix string
	mini   *miniredis.Miniredis // nil with a real server
}

func newLockRig(t testing.TB, addr, prefix string) *lockRig {
	t.Helper()
	r := &lockRig{link: newLink()}
	r.client = redis.NewClient(r.link.options(addr))
	t.Cleanup(func() { _ = r.client.Close() })
	var err error
	if r.Locker, err = NewLocker(r.client, LockerConfig{Prefix: prefix}); err != nil {
		t.Fatal(err)
	}
	r.prefix = r.keys.prefix
	return r
}

// newMiniLockRig returns a Locker on a miniredis of its own.
func newMiniLockRig(t testing.TB) *lockRig {
	t.Helper()
	m := miniredis.RunT(t)
	r := newLockRig(t, m.Addr(), "")
	r.mini = m
	return r
}

// lockerOnBoth runs f on miniredis, whose clock pass moves, and on the real
// server, where pass waits.
func lockerOnBoth(t *testing.T, f func(t *testing.T, r *lockRig, pass func(time.Duration))) {
	t.Helper()
	t.Run("miniredis", func(t *testing.T) {
		t.Parallel()
		r := newMiniLockRig(t)
		f(t, r, r.mini.FastForward)
	})
	t.Run("redis-server", func(t *testing.T) {
		t.Parallel()
		f(t, newLockRig(t, realServer, newPrefix()), time.Sleep)
	})
}

// second returns another client of the same locks.
func (r *lockRig) second(t testing.TB) *lockRig {
	t.Helper()
	return newLockRig(t, r.client.Options().Addr, r.prefix)
}

func TestLockerConformance(t *testing.T) {
	suite := conformance.Locker{
		Reopen: func(t testing.TB, l session.Locker) session.Locker { return l.(*lockRig).second(t) },
	}
	t.Run("redis-server", func(t *testing.T) {
		suite := suite
		suite.New = func(t testing.TB) session.Locker { return newLockRig(t, realServer, newPrefix()) }
		suite.Fail = func(_ testing.TB, l session.Locker) func() {
			k := l.(*lockRig).link
			k.setDown(true)
			return func() { k.setDown(false) }
		}
		conformance.TestLocker(t, suite)
	})
	t.Run("miniredis", func(t *testing.T) {
		suite := suite
		suite.New = func(t testing.TB) session.Locker { return newMiniLockRig(t) }
		suite.Advance = func(_ testing.TB, l session.Locker, d time.Duration) { l.(*lockRig).mini.FastForward(d) }
		conformance.TestLocker(t, suite)
	})
}

func mustLock(t *testing.T, l session.Locker, ttl time.Duration) session.Lease {
	t.Helper()
	held, err := l.Acquire(t.Context(), "k", ttl)
	if err != nil {
		t.Fatalf("Acquire: %v", err)
	}
	return held
}

func wantLocked(t *testing.T, l session.Locker, most time.Duration) {
	t.Helper()
	_, err := l.Acquire(t.Context(), "k", time.Minute)
	var locked *session.LockedError
	if !errors.As(err, &locked) {
		t.Fatalf("Acquire of a live lock: got %v, want a *session.LockedError", err)
	}
	if d := time.Until(locked.Until); d <= 0 || d > most {
		t.Errorf("locked for %v", d)
	}
}

func TestLocker(t *testing.T) {
	const short, long = 50 * time.Millisecond, time.Minute
	tests := []struct {
		name string
		run  func(t *testing.T, r *lockRig, pass func(time.Duration))
	}{
		{"acquire and release", func(t *testing.T, r *lockRig, _ func(time.Duration)) {
			o := r.second(t)
			for range 3 {
				held := mustLock(t, r, long)
				wantLocked(t, r, long)
				wantLocked(t, o, long)
				wantNil(t, held.Release(t.Context()), "Release")
				held = mustLock(t, o, long)
				wantNil(t, held.Release(t.Context()), "Release")
			}
			if _, err := r.Acquire(t.Context(), "other", long); err != nil {
				t.Error(err)
			}
		}},
		{"ttl", func(t *testing.T, r *lockRig, _ func(time.Duration)) {
			for _, ttl := range []time.Duration{0, -1} {
				if _, err := r.Acquire(t.Context(), "k", ttl); err == nil {
					t.Errorf("Acquire for %v: no error", ttl)
				}
			}
			held := mustLock(t, r, long)
			if err := held.Extend(t.Context(), 0); err == nil {
				t.Error("Extend by 0: no error")
			}
			wantLocked(t, r, long)
		}},
		{"shortest ttl", func(t *testing.T, r *lockRig, pass func(time.Duration)) {
			mustLock(t, r, 1)
			pass(5 * time.Millisecond)
			mustLock(t, r, long)
		}},
		{"extend", func(t *testing.T, r *lockRig, pass func(time.Duration)) {
			held := mustLock(t, r, 2*time.Second)
			wantNil(t, held.Extend(t.Context(), long), "Extend")
			_, err := r.Acquire(t.Context(), "k", long)
			var locked *session.LockedError
			if !errors.As(err, &locked) || time.Until(locked.Until) < long/2 {
				t.Errorf("after Extend: %v", err)
			}
			wantNil(t, held.Extend(t.Context(), short), "Extend to an earlier end")
			pass(2 * short)
			wantErr(t, held.Extend(t.Context(), long), session.ErrConflict, "Extend after the lease ran out")
			mustLock(t, r, long)
		}},
		{"takeover", func(t *testing.T, r *lockRig, pass func(time.Duration)) {
			first := mustLock(t, r, short)
			pass(2 * short)
			second := mustLock(t, r.second(t), long)
			wantErr(t, first.Extend(t.Context(), long), session.ErrConflict, "Extend by the former holder")
			wantNil(t, first.Release(t.Context()), "Release by the former holder")
			wantLocked(t, r, long)
			wantNil(t, second.Extend(t.Context(), long), "Extend by the new holder")
			wantNil(t, second.Release(t.Context()), "Release by the new holder")
			wantErr(t, second.Extend(t.Context(), long), session.ErrConflict, "Extend after Release")
			wantNil(t, second.Release(t.Context()), "Release, again")
			mustLock(t, r, long)
		}},
		{"of several one", func(t *testing.T, r *lockRig, _ func(time.Duration)) {
			o := r.second(t)
			for range 20 {
				var won atomic.Pointer[session.Lease]
				var wg sync.WaitGroup
				for i := range 8 {
					wg.Go(func() {
						l := r
						if i%2 == 1 {
							l = o
						}
						held, err := l.Acquire(t.Context(), "k", long)
						switch {
						case err == nil && !won.CompareAndSwap(nil, &held):
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
				wantNil(t, (*won.Load()).Release(t.Context()), "Release")
			}
		}},
		{"done context", func(t *testing.T, r *lockRig, _ func(time.Duration)) {
			held := mustLock(t, r, long)
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			_, err := r.Acquire(ctx, "other", long)
			wantErr(t, err, context.Canceled, "Acquire")
			wantErr(t, held.Extend(ctx, time.Hour), context.Canceled, "Extend")
			wantErr(t, held.Release(ctx), context.Canceled, "Release")
			wantLocked(t, r, long)
			if _, err := r.Acquire(t.Context(), "other", long); err != nil {
				t.Error(err)
			}
		}},
		{"keys", func(t *testing.T, r *lockRig, _ func(time.Duration)) {
			if _, err := r.Acquire(t.Context(), "", long); err == nil {
				t.Error("an empty key: no error")
			}
			if _, err := r.Acquire(t.Context(), strings.Repeat("x", 513), long); err == nil {
				t.Error("a key of 513 bytes: no error")
			}
			for _, key := range []string{"a", "A", "a ", "a\x00", "{a}", strings.Repeat("x", 512), strings.Repeat("x", 511)} {
				if _, err := r.Acquire(t.Context(), key, long); err != nil {
					t.Errorf("%q: %v", key, err)
				}
			}
		}},
		{"foreign", func(t *testing.T, r *lockRig, _ func(time.Duration)) {
			wantNil(t, r.client.HSet(t.Context(), r.prefix+"k", "a", "b").Err(), "HSET")
			_, err := r.Acquire(t.Context(), "k", long)
			wantErr(t, err, session.ErrDecode, "Acquire of a hash")
			wantNil(t, r.client.Set(t.Context(), r.prefix+"s", "mine", 0).Err(), "SET")
			_, err = r.Acquire(t.Context(), "s", long)
			var locked *session.LockedError
			if !errors.As(err, &locked) || !locked.Until.IsZero() {
				t.Errorf("Acquire of a string without end: %v", err)
			}
			if got := r.client.Get(t.Context(), r.prefix+"s").Val(); got != "mine" {
				t.Errorf("changed to %q", got)
			}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { lockerOnBoth(t, tt.run) })
	}
}

// Each call of a Locker sends one command.
func TestLockerCommands(t *testing.T) {
	lockerOnBoth(t, func(t *testing.T, r *lockRig, _ func(time.Duration)) {
		for round := range 2 {
			var held session.Lease
			for _, c := range []struct {
				name string
				call func() error
			}{
				{"Acquire", func() error { held = mustLock(t, r, time.Minute); return nil }},
				{"Acquire, locked", func() error { wantLocked(t, r, time.Minute); return nil }},
				{"Extend", func() error { return held.Extend(t.Context(), time.Minute) }},
				{"Release", func() error { return held.Release(t.Context()) }},
			} {
				r.link.sent()
				wantNil(t, c.call(), c.name)
				if sent := r.link.sent(); round > 0 && !reflect.DeepEqual(sent, []string{"evalsha"}) {
					t.Errorf("%s sent %q, want one evalsha", c.name, sent)
				}
			}
		}
	})
}

// A call does not take its own first attempt for the work of another client.
func TestLockerLost(t *testing.T) {
	for _, tt := range []struct {
		name string
		what loss
	}{{"request", request}, {"response", response}} {
		t.Run(tt.name, func(t *testing.T) {
			lockerOnBoth(t, func(t *testing.T, r *lockRig, _ func(time.Duration)) {
				lose := func() { r.link.loseNext(2, tt.what) }
				lose()
				held := mustLock(t, r, time.Second)
				wantLocked(t, r, time.Second)
				lose()
				wantNil(t, held.Extend(t.Context(), time.Minute), "Extend")
				wantLocked(t, r, time.Minute)
				lose()
				wantNil(t, held.Release(t.Context()), "Release")
				mustLock(t, r, time.Minute)
				if n := len(r.link.sent()); n < 11 {
					t.Errorf("%d commands were sent: the test lost too few", n)
				}
			})
		})
	}
}

// If the server fails, no call says that the lock is held or lost.
func TestLockerDown(t *testing.T) {
	lockerOnBoth(t, func(t *testing.T, r *lockRig, _ func(time.Duration)) {
		held := mustLock(t, r, time.Minute)
		r.link.setDown(true)
		_, err := r.Acquire(t.Context(), "secret", time.Minute)
		for doing, err := range map[string]error{
			"Acquire": err,
			"Extend":  held.Extend(t.Context(), time.Minute),
			"Release": held.Release(t.Context()),
		} {
			if err == nil || errors.Is(err, session.ErrLocked) || errors.Is(err, session.ErrConflict) || errors.Is(err, session.ErrNotFound) {
				t.Errorf("%s: %v", doing, err)
			} else if strings.Contains(err.Error(), "secret") {
				t.Errorf("%s: the error has the key: %v", doing, err)
			}
		}
		r.link.setDown(false)
		wantNil(t, held.Release(t.Context()), "Release")
	})
}

// A call ends with its context, and a lock that arrives later is released.
func TestLockerAbandoned(t *testing.T) {
	lockerOnBoth(t, func(t *testing.T, r *lockRig, _ func(time.Duration)) {
		wantNil(t, mustLock(t, r, time.Minute).Release(t.Context()), "warm-up")
		r.link.set(func() { r.link.hung = true })
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			o := r.second(t)
			for o.client.Exists(t.Context(), r.prefix+"k").Val() == 0 {
				time.Sleep(time.Millisecond)
			}
			cancel()
		}()
		_, err := r.Acquire(ctx, "k", time.Hour)
		wantErr(t, err, context.Canceled, "Acquire")
		r.link.set(func() { r.link.hung = false })
		for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
			if r.client.Exists(t.Context(), r.prefix+"k").Val() == 0 {
				return
			}
			if time.Now().After(deadline) {
				t.Fatal("the lock was not given back")
			}
		}
	})
}

func TestLockerNew(t *testing.T) {
	client := redis.NewClient(&redis.Options{})
	closeLater(t, client)
	endless := redis.NewClient(&redis.Options{ReadTimeout: -1})
	closeLater(t, endless)
	ring := redis.NewRing(&redis.RingOptions{})
	closeLater(t, ring)
	for _, tt := range []struct {
		name   string
		client Client
		prefix string
		want   string // part of the error, "" for none
	}{
		{"zero", client, "", ""},
		{"prefix", client, "a:", ""},
		{"no client", nil, "", "nil"},
		{"ring", ring, "", "redis.Ring"},
		{"no timeout", endless, "", "ReadTimeout"},
		{"hash tag", client, "{a}", "hash tag"},
		{"long prefix", client, strings.Repeat("x", 129), "129 bytes"},
	} {
		_, err := NewLocker(tt.client, LockerConfig{Prefix: tt.prefix})
		switch {
		case tt.want == "" && err != nil:
			t.Errorf("%s: %v", tt.name, err)
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%s: got error %v, want one about %q", tt.name, err, tt.want)
		}
	}
}

// The permissions that the package comment lists for a Locker are enough.
func TestLockerPermissions(t *testing.T) {
	admin := redis.NewClient(&redis.Options{Addr: realServer})
	closeLater(t, admin)
	rules := []any{"acl", "setuser", "lockapp", "on", ">pw", "~lockapp:*"}
	for _, rule := range strings.Fields("+eval +evalsha +get +set +pttl +pexpire +del") {
		rules = append(rules, rule)
	}
	wantNil(t, admin.Do(t.Context(), rules...).Err(), "ACL SETUSER")
	o := newLink().options(realServer)
	o.Username, o.Password = "lockapp", "pw"
	client := redis.NewClient(o)
	closeLater(t, client)
	l, err := NewLocker(client, LockerConfig{Prefix: "lockapp:"})
	if err != nil {
		t.Fatal(err)
	}
	held := mustLock(t, l, time.Minute)
	wantLocked(t, l, time.Minute)
	wantNil(t, held.Extend(t.Context(), time.Minute), "Extend")
	wantNil(t, held.Release(t.Context()), "Release")
}

// If something other than the server answers, no call takes that for an answer
// of the server.
func TestLockerImpostors(t *testing.T) {
	for _, reply := range []any{nil, "OK", int64(1), []any{}, []any{nil}, []any{"OK"}, []any{"ok", "ok"}, []any{"locked"}, []any{int64(1)}} {
		l, err := NewLocker(scripted{reply}, LockerConfig{})
		if err != nil {
			t.Fatal(err)
		}
		h := &lease{keys: l.keys, key: "k", token: newToken()}
		for name, call := range map[string]func() error{
			"Acquire": func() error { _, err := l.Acquire(t.Context(), "k", time.Minute); return err },
			"Extend":  func() error { return h.Extend(t.Context(), time.Minute) },
			"Release": func() error { return h.Release(t.Context()) },
		} {
			if err := call(); err == nil || errors.Is(err, session.ErrLocked) || errors.Is(err, session.ErrConflict) {
				t.Errorf("%s answered with %v: %v", name, reply, err)
			}
		}
	}
}

// A server with a full memory still frees and renews locks.
func TestLockerOutOfMemory(t *testing.T) {
	addr, stop, err := startServer("--maxmemory-policy", "noeviction")
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	client := redis.NewClient(&redis.Options{Addr: addr})
	closeLater(t, client)
	l, err := NewLocker(client, LockerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	h, err := l.Acquire(t.Context(), "k", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if err := client.ConfigSet(t.Context(), "maxmemory", "1").Err(); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Acquire(t.Context(), "k2", time.Minute); err == nil || errors.Is(err, session.ErrLocked) {
		t.Errorf("Acquire: %v", err)
	}
	if err := h.Extend(t.Context(), time.Hour); err != nil {
		t.Errorf("Extend: %v", err)
	}
	if err := h.Release(t.Context()); err != nil {
		t.Errorf("Release: %v", err)
	}
	if n := client.Exists(t.Context(), DefaultLockPrefix+"k").Val(); n != 0 {
		t.Error("the lock is there")
	}
}
