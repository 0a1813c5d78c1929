package redisstore

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/admin"
)

// ending returns a record that, when saved, ends the one of version v.
func ending(v session.Version) session.Record {
	past := time.Unix(0, 0)
	return session.Record{Created: past, Expires: past, Version: v}
}

// content describes the record at key without its lock, which the lease limits.
// For an expired record it returns "none".
func (r *rig) content(t *testing.T, key string) string {
	t.Helper()
	rec, err := r.Load(t.Context(), key)
	if errors.Is(err, session.ErrNotFound) || err == nil && rec.Expired(time.Now().Add(time.Duration(r.ahead.Load()))) {
		return "none"
	}
	if err != nil {
		t.Error(err)
	}
	return fmt.Sprintf("%s %v %q", rec.Data, rec.Expires, rec.Version)
}

// The first attempt of each call is late: it arrives only after another client
// has worked on the record, before the retry and after the call. The late
// attempt must change nothing, whether the call succeeded or failed with an
// error that says that nothing was written. It may change the record only if
// the call said that its outcome is not known.
func TestLateAttempt(t *testing.T) {
	const ttl = time.Minute
	type step struct {
		name string
		do   func(ctx context.Context, o *rig, key string)
	}
	var lock session.Record // of the other client
	steps := []step{
		{"", func(context.Context, *rig, string) {}},
		{"lock", func(ctx context.Context, o *rig, key string) {
			if rec, err := o.Acquire(ctx, key, ttl); err == nil {
				lock = rec
			}
		}},
		{"free", func(ctx context.Context, o *rig, key string) { _ = o.Release(ctx, key, lock.Version, time.Time{}) }},
		{"write", func(ctx context.Context, o *rig, key string) {
			if rec, err := o.Load(ctx, key); err == nil {
				_, _ = o.Save(ctx, key, rec)
			}
		}},
		{"touch", func(ctx context.Context, o *rig, key string) {
			if rec, err := o.Load(ctx, key); err == nil {
				_ = o.Touch(ctx, key, rec.Expires.Add(time.Hour))
			}
		}},
		{"lapse", func(_ context.Context, o *rig, _ string) { o.ahead.Add(int64(ttl + time.Millisecond)) }},
		{"expire", func(_ context.Context, o *rig, _ string) { o.ahead.Add(int64(3 * time.Hour)) }},
		{"end", func(ctx context.Context, o *rig, key string) {
			if rec, err := o.Load(ctx, key); err == nil {
				_, _ = o.Save(ctx, key, ending(rec.Version))
			}
		}},
		{"delete", func(ctx context.Context, o *rig, key string) { _ = o.Delete(ctx, key) }},
	}
	save := func(change func(*session.Record)) func(context.Context, *rig, string, session.Record) error {
		return func(ctx context.Context, r *rig, key string, rec session.Record) error {
			rec.Data = []byte("ours")
			change(&rec)
			_, err := r.Save(ctx, key, rec)
			return err
		}
	}
	for _, call := range []struct {
		name string
		held bool
		do   func(context.Context, *rig, string, session.Record) error
	}{
		{"Save", false, save(func(*session.Record) {})},
		{"Save of the holder", true, save(func(*session.Record) {})},
		{"Save that keeps", false, save(func(rec *session.Record) { rec.KeepLater = true })},
		{"Save that ends", false, save(func(rec *session.Record) { rec.Expires = time.Unix(0, 0) })},
		{"Save that ends, of the holder", true, save(func(rec *session.Record) { rec.Expires = time.Unix(0, 0) })},
		{"Save that ends or keeps", false, save(func(rec *session.Record) { rec.Expires, rec.KeepLater = time.Unix(0, 0), true })},
		{"Save that creates", false, save(func(rec *session.Record) { rec.Version = "" })},
		{"Touch", false, func(ctx context.Context, r *rig, key string, rec session.Record) error {
			return r.Touch(ctx, key, rec.Expires.Add(2*time.Hour))
		}},
		{"Acquire", false, func(ctx context.Context, r *rig, key string, _ session.Record) error {
			_, err := r.Acquire(ctx, key, ttl)
			return err
		}},
		{"Extend", true, func(ctx context.Context, r *rig, key string, rec session.Record) error {
			return r.Extend(ctx, key, rec.Version, ttl)
		}},
		{"Release", true, func(ctx context.Context, r *rig, key string, rec session.Record) error {
			return r.Release(ctx, key, rec.Version, rec.Expires.Add(2*time.Hour))
		}},
	} {
		r := newMiniRig(t, Config{})
		o := r.second(t)
		// From here on the server knows the scripts.
		warm := record("warm", "")
		warm.Version = mustSave(t, r, "warm", "1", "")
		_ = call.do(t.Context(), r, "warm", warm)
		unknowns := 0
		for n := range len(steps) * len(steps) {
			before, after := steps[n%len(steps)], steps[n/len(steps)]
			key := fmt.Sprint("k", n)
			ctx := t.Context()
			rec := record("old", "")
			rec.Expires = rec.Expires.Add(time.Duration(r.ahead.Load()))
			v, err := r.Save(ctx, key, rec)
			if rec.Version = v; err != nil {
				t.Fatal(err)
			}
			if call.held {
				rec = mustAcquire(t, r, key, ttl)
			}
			attempt := 0
			r.link.set(func() {
				r.link.lose = func(string) loss {
					if attempt++; attempt == 1 {
						return late
					}
					return nothing
				}
				r.link.pause = func(string) {
					if attempt == 2 {
						attempt++
						before.do(context.WithoutCancel(ctx), o, key)
					}
				}
			})
			err = call.do(ctx, r, key, rec)
			r.link.set(func() { r.link.lose, r.link.pause = nil, nil })
			after.do(ctx, o, key)
			stored := o.content(t, key)
			r.mini.SetTime(time.Now().Add(time.Duration(r.ahead.Load())))
			r.link.deliver()
			if err != nil && strings.Contains(err.Error(), "not known whether it was applied") {
				unknowns++
				if errors.Is(err, session.ErrConflict) || errors.Is(err, session.ErrNotFound) || errors.Is(err, session.ErrLocked) {
					t.Errorf("%s: a sentinel: %v", call.name, err)
				}
				continue
			}
			if got := o.content(t, key); got != stored {
				t.Errorf("%s, %q before the retry and %q after the call: it said %v, and then changed %s\nto %s",
					call.name, before.name, after.name, err, stored, got)
			}
		}
		if all := len(steps) * len(steps); call.name == "Save that creates" != (unknowns == all) {
			t.Errorf("%s: %d of %d outcomes were unknown", call.name, unknowns, all)
		}
	}
}

// A Save that creates is sent again only if the server did not run it.
func TestCreateIsSentOnce(t *testing.T) {
	for _, what := range []loss{request, response, late} {
		onBoth(t, func(t *testing.T, r *rig, _ func(time.Duration)) {
			mustSave(t, r, "warm-up", "1", "")
			r.link.sent()
			r.link.loseNext(2, what)
			_, err := r.Save(t.Context(), "k", record("1", ""))
			if err == nil || !strings.Contains(err.Error(), "not known whether it was applied") || errors.Is(err, session.ErrConflict) {
				t.Errorf("%v: got %v", what, err)
			}
			if sent := r.link.sent(); len(sent) != 1 {
				t.Errorf("%v: sent %q", what, sent)
			}
		})
	}
	// A client that is not from go-redis may retry, too.
	r := newRig(t, Config{})
	mustSave(t, r, "warm-up", "1", "")
	b, err := New(struct{ Client }{r.client}, Config{Prefix: r.c.Prefix})
	if err != nil {
		t.Fatal(err)
	}
	wantNil(t, r.client.ScriptFlush(t.Context()).Err(), "SCRIPT FLUSH")
	v := mustSave(t, b, "k", "1", "") // EVALSHA, and then EVAL
	mustSave(t, b, "k", "2", v)
	r.link.sent()
	r.link.loseNext(1, request)
	if _, err := b.Save(t.Context(), "k2", record("1", "")); err == nil || !strings.Contains(err.Error(), "not known whether it was applied") {
		t.Errorf("got %v", err)
	}
	if sent := r.link.sent(); len(sent) != 1 {
		t.Errorf("sent %q", sent)
	}
}

func TestEndingSave(t *testing.T) {
	onBoth(t, func(t *testing.T, r *rig, pass func(time.Duration)) {
		const short = 50 * time.Millisecond
		ctx := t.Context()
		for i, tt := range []struct {
			name    string
			prepare func(t *testing.T, key string, v session.Version) session.Version
			want    error
			lives   bool
		}{
			{"live", func(_ *testing.T, _ string, v session.Version) session.Version { return v }, nil, false},
			{"expired", func(_ *testing.T, _ string, v session.Version) session.Version { pass(4 * short); return v }, nil, false},
			{"held", func(t *testing.T, key string, _ session.Version) session.Version {
				return mustAcquire(t, r, key, time.Minute).Version
			}, nil, false},
			{"held, and expired", func(t *testing.T, key string, _ session.Version) session.Version {
				v := mustAcquire(t, r, key, short).Version
				pass(4 * short)
				return v
			}, nil, false},
			{"locked by another", func(t *testing.T, key string, v session.Version) session.Version {
				mustAcquire(t, r, key, time.Minute)
				return v
			}, session.ErrLocked, true},
			{"locked by another, and expired", func(t *testing.T, key string, v session.Version) session.Version {
				mustAcquire(t, r, key, time.Minute)
				pass(4 * short)
				return v
			}, nil, false},
			{"changed", func(t *testing.T, key string, v session.Version) session.Version {
				mustSave(t, r, key, "2", v)
				return v
			}, session.ErrConflict, true},
			{"gone", func(t *testing.T, key string, v session.Version) session.Version {
				wantNil(t, r.Delete(ctx, key), "Delete")
				return v
			}, session.ErrNotFound, false},
		} {
			key := fmt.Sprint("k", i)
			rec := record("1", "")
			if strings.Contains(tt.name, "expired") {
				rec.Expires = time.Now().Add(3 * short)
				if r.ahead != nil {
					rec.Expires = rec.Expires.Add(time.Duration(r.ahead.Load()))
				}
			}
			v, err := r.Save(ctx, key, rec)
			if err != nil {
				t.Fatal(err)
			}
			v = tt.prepare(t, key, v)
			r.link.sent()
			_, err = r.Save(ctx, key, ending(v))
			if tt.want == nil {
				wantNil(t, err, tt.name)
			} else {
				wantErr(t, err, tt.want, tt.name)
			}
			if sent := r.link.sent(); len(sent) > 2 {
				t.Errorf("%s: sent %q", tt.name, sent)
			}
			err = r.Touch(ctx, key, time.Now().Add(24*time.Hour))
			if lives := err == nil; lives != tt.lives {
				t.Errorf("%s: Touch: %v", tt.name, err)
			}
		}
	})
}

func TestKeepLater(t *testing.T) {
	hour := func(n int) time.Time { return time.UnixMilli(time.Now().UnixMilli()).Add(time.Duration(n) * time.Hour) }
	onBoth(t, func(t *testing.T, r *rig, pass func(time.Duration)) {
		ctx := t.Context()
		for _, tt := range []struct {
			name          string
			stored, given time.Time
			keeps         bool
			want          time.Time // zero if the record is gone
		}{
			{"later", hour(1), hour(2), true, hour(2)},
			{"same", hour(1), hour(1), true, hour(1)},
			{"earlier", hour(2), hour(1), true, hour(2)},
			{"past", hour(2), hour(-1), true, hour(2)},
			{"before 1970", hour(2), time.Unix(-1000, 0), true, hour(2)},
			{"earlier, and it means to", hour(2), hour(1), false, hour(1)},
			{"past, and it means to", hour(2), hour(-1), false, time.Time{}},
		} {
			rec := record("1", "")
			rec.Expires = tt.stored
			v, err := r.Save(ctx, tt.name, rec)
			if err != nil {
				t.Fatal(err)
			}
			rec = record("2", v)
			rec.Expires, rec.KeepLater = tt.given, tt.keeps
			if v, err = r.Save(ctx, tt.name, rec); err != nil {
				t.Fatal(err)
			}
			got, err := r.Load(ctx, tt.name)
			if err == nil && got.Expired(time.Now()) {
				err = session.ErrNotFound
			}
			if tt.want.IsZero() {
				wantErr(t, err, session.ErrNotFound, tt.name)
			} else if err != nil || got.Expires.Sub(tt.want).Abs() > 10*time.Second || string(got.Data) != "2" || got.Version != v {
				t.Errorf("%s: stored %+v, want %v: %v", tt.name, got, tt.want, err)
			}
		}
		rec := record("1", "")
		rec.Expires = time.Now().Add(50 * time.Millisecond)
		v, err := r.Save(ctx, "expired", rec)
		wantNil(t, err, "Save")
		pass(100 * time.Millisecond)
		rec.Version, rec.KeepLater = v, true
		if _, err := r.Save(ctx, "expired", rec); err != nil && !errors.Is(err, session.ErrNotFound) {
			t.Error(err)
		}
		wantErr(t, r.Touch(ctx, "expired", hour(1)), session.ErrNotFound, "Touch")
	})
}

// A server with a full memory still ends locks and sessions and moves
// deadlines.
func TestOutOfMemory(t *testing.T) {
	addr, stop, err := startServer("--maxmemory-policy", "noeviction")
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	r := rigOn(t, addr, Config{})
	ctx := t.Context()
	keys := []string{"free", "held", "end", "end held", "delete", "save"}
	held := map[string]session.Version{}
	for _, key := range keys {
		held[key] = mustSave(t, r, key, "1", "")
		if key != "free" && key != "end" {
			held[key] = mustAcquire(t, r, key, time.Minute).Version
		}
	}
	for _, known := range []bool{true, false} { // whether the server knows the scripts
		full := func(bytes int) {
			wantNil(t, r.client.ConfigSet(ctx, "maxmemory", fmt.Sprint(bytes)).Err(), "CONFIG SET")
		}
		if !known {
			full(0)
			wantNil(t, r.client.ScriptFlush(ctx).Err(), "SCRIPT FLUSH")
			for _, key := range keys {
				if v, err := r.Save(ctx, key, record("2", "")); err == nil {
					held[key] = v
				} else if v, err = r.Save(ctx, key, record("2", mustLoad(t, r, key).Version)); err == nil {
					held[key] = v
				}
				if key != "free" && key != "end" {
					held[key] = mustAcquire(t, r, key, time.Minute).Version
				}
			}
			wantNil(t, r.client.ScriptFlush(ctx).Err(), "SCRIPT FLUSH")
		}
		full(1)
		for what, err := range map[string]error{
			"create":  second(r.Save(ctx, "new", record("1", ""))),
			"replace": second(r.Save(ctx, "save", record("larger", held["save"]))),
			"Acquire": second(r.Acquire(ctx, "free", time.Minute)),
		} {
			if !says(err, "OOM") {
				t.Errorf("%s: %v", what, err)
			}
		}
		until := time.UnixMilli(time.Now().Add(9 * time.Hour).UnixMilli())
		wantNil(t, r.Extend(ctx, "held", held["held"], 2*time.Minute), "Extend")
		wantNil(t, r.Release(ctx, "held", held["held"], until), "Release")
		wantNil(t, r.Release(ctx, "save", held["save"], time.Time{}), "Release without a deadline")
		wantNil(t, r.Touch(ctx, "free", until), "Touch")
		wantNil(t, second(r.Save(ctx, "end", ending(held["end"]))), "ending")
		wantNil(t, second(r.Save(ctx, "end held", ending(held["end held"]))), "ending what is held")
		wantNil(t, r.Delete(ctx, "delete"), "Delete")
		for _, key := range keys {
			switch rec, err := r.Load(ctx, key); {
			case key == "delete":
				wantErr(t, err, session.ErrNotFound, key)
			case strings.HasPrefix(key, "end"):
				if err == nil && !rec.Expired(time.Now()) {
					t.Errorf("%s: it is there", key)
				}
			case err != nil || !rec.LockedUntil.IsZero() || key != "save" && !rec.Expires.Equal(until):
				t.Errorf("%s: %+v, %v", key, rec, err)
			}
		}
	}
}

func second[T any](_ T, err error) error { return err }

// scripted answers every command with the same reply.
type scripted struct{ reply any }

func (s scripted) Eval(ctx context.Context, _ string, _ []string, _ ...any) *redis.Cmd {
	cmd := redis.NewCmd(ctx)
	if s.reply == nil {
		cmd.SetErr(redis.Nil)
	}
	cmd.SetVal(s.reply)
	return cmd
}

func (s scripted) EvalSha(ctx context.Context, _ string, _ []string, args ...any) *redis.Cmd {
	if len(args) > 0 {
		_, _ = args[0].(*counted).MarshalBinary() // counts as sent
	}
	return s.Eval(ctx, "", nil)
}

// If something other than the server answers, no call takes that for an answer
// of the server.
func TestImpostors(t *testing.T) {
	ctx := t.Context()
	v := holderVersion("12345678", "abcdefgh")
	for _, reply := range []any{
		nil, "OK", int64(1), true, []any{}, []any{nil}, []any{""}, []any{"OK"}, []any{int64(1)}, []any{"ok", "ok"}, []any{"none", nil},
		[]any{"conflict", int64(0)}, []any{"locked"}, []any{"foreign", ""}, []any{nil, nil, nil, nil}, []any{[]any{"ok"}}, map[any]any{"ok": 1},
		[]any{"later"}, []any{"ended", ""},
	} {
		b, err := New(scripted{reply}, Config{})
		if err != nil {
			t.Fatal(err)
		}
		for name, call := range map[string]func() error{
			"Load":    func() error { return second(b.Load(ctx, "k")) },
			"create":  func() error { return second(b.Save(ctx, "k", record("1", ""))) },
			"Save":    func() error { return second(b.Save(ctx, "k", record("1", "12345678"))) },
			"end":     func() error { return second(b.Save(ctx, "k", ending("12345678"))) },
			"Touch":   func() error { return b.Touch(ctx, "k", time.Now()) },
			"Delete":  func() error { return b.Delete(ctx, "k") },
			"Acquire": func() error { return second(b.Acquire(ctx, "k", time.Minute)) },
			"Extend":  func() error { return b.Extend(ctx, "k", v, time.Minute) },
			"Release": func() error { return b.Release(ctx, "k", v, time.Time{}) },
		} {
			err := call()
			if err == nil {
				t.Errorf("%s answered with %v succeeds", name, reply)
				continue
			}
			for _, sentinel := range []error{session.ErrNotFound, session.ErrConflict, session.ErrLocked, session.ErrDecode} {
				if errors.Is(err, sentinel) {
					t.Errorf("%s answered with %v: %v", name, reply, err)
				}
			}
			if unknown := strings.Contains(err.Error(), "not known whether it was applied"); unknown != (name != "Load") {
				t.Errorf("%s answered with %v: %v", name, reply, err)
			}
		}
	}
}

// TestImpostorOnTheWire is TestImpostors with a real client, with which Load
// begins with HMGET.
func TestImpostorOnTheWire(t *testing.T) {
	for _, reply := range []string{
		"*0\r\n", "*-1\r\n", "$-1\r\n", "$0\r\n\r\n", "+OK\r\n", ":1\r\n", "*1\r\n$-1\r\n", "*4\r\n$-1\r\n$-1\r\n$-1\r\n$-1\r\n",
		"*5\r\n$-1\r\n$-1\r\n$-1\r\n$-1\r\n$-1\r\n", "*5\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n", "<html>\r\n",
	} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		closeLater(t, l)
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				go func() {
					for buf := make([]byte, 64<<10); ; {
						if _, err := conn.Read(buf); err != nil {
							return
						}
						_, _ = conn.Write([]byte(reply))
					}
				}()
			}
		}()
		client := redis.NewClient(&redis.Options{Addr: l.Addr().String(), Protocol: 2, DisableIdentity: true, MaxRetries: -1})
		closeLater(t, client)
		b, err := New(client, Config{})
		if err != nil {
			t.Fatal(err)
		}
		for name, call := range map[string]func() error{
			"Load": func() error { return second(b.Load(t.Context(), "k")) },
			"Save": func() error { return second(b.Save(t.Context(), "k", record("1", ""))) },
			"List": func() error {
				return second(b.List(t.Context(), admin.ListOptions{}, func(admin.Entry) error { return nil }))
			},
		} {
			err := call()
			if err == nil || errors.Is(err, session.ErrNotFound) || errors.Is(err, session.ErrConflict) {
				t.Errorf("%s answered with %q: %v", name, reply, err)
			}
		}
	}
}
