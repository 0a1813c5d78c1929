package redisstore

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/admin"
)

// listed returns the entries that List visits, by key.
func listed(t *testing.T, b *Backend, opts admin.ListOptions) map[string]admin.Entry {
	t.Helper()
	got := map[string]admin.Entry{}
	report, err := b.List(t.Context(), opts, func(e admin.Entry) error {
		got[e.Key] = e // a key may be visited twice
		return nil
	})
	if err != nil {
		t.Errorf("List: %v", err)
	}
	if int(report.Scanned) < len(got) {
		t.Errorf("%d keys: %+v", len(got), report)
	}
	return got
}

func TestList(t *testing.T) {
	onBoth(t, func(t *testing.T, r *rig, pass func(time.Duration)) {
		ctx := t.Context()
		// Keys of other applications. They would match if the prefix were a
		// pattern.
		const pattern = `a*b?c[d]e\f-^`
		for _, key := range []string{"other", pattern, "axbxcdef-^" + r.c.Prefix} {
			wantNil(t, r.client.Set(ctx, key, "x", time.Hour).Err(), "SET")
		}
		if got := listed(t, r.Backend, admin.ListOptions{}); len(got) != 0 {
			t.Errorf("nothing is there, and listed are %v", got)
		}

		const n = 1200 // several pages
		want := map[string]admin.Entry{}
		put := func(key, data string, expires time.Time) {
			rec := session.Record{Data: []byte(data), Created: time.UnixMilli(1_700_000_000_123), Expires: expires}
			if _, err := r.Save(ctx, key, rec); err != nil {
				t.Fatalf("Save: %v", err)
			}
			want[key] = admin.Entry{Key: key, DataSize: len(data), Created: rec.Created, Expires: expires}
		}
		now := time.Now().Truncate(time.Millisecond)
		for i := range n {
			put(fmt.Sprint("key", i), strings.Repeat("x", i%7), now.Add(time.Hour+time.Duration(i)*time.Millisecond))
		}
		put("large", strings.Repeat("x", 100_000), now.Add(time.Hour))
		put("expired", "1", now.Add(-time.Hour))
		put(pattern, "1", now.Add(time.Hour))
		put(`a\*b`, "1", now.Add(time.Hour))
		put("locked", "12", now.Add(time.Hour))
		put("lease over", "12", now.Add(time.Hour))
		held := mustAcquire(t, r, "locked", 30*time.Minute)
		mustAcquire(t, r, "lease over", time.Millisecond)
		pass(2 * time.Millisecond)
		for _, kind := range []string{"string", "hash", "list"} {
			key := r.c.Prefix + "foreign " + kind
			var err error
			switch kind {
			case "string":
				err = r.client.Set(ctx, key, "x", time.Hour).Err()
			case "hash":
				err = r.client.HSet(ctx, key, "user", "1").Err()
			case "list":
				err = r.client.RPush(ctx, key, "x").Err()
			}
			wantNil(t, err, kind)
			want["foreign "+kind] = admin.Entry{Key: "foreign " + kind, Foreign: true}
		}

		got := listed(t, r.Backend, admin.ListOptions{})
		for key, w := range want {
			e, ok := got[key]
			if !ok {
				t.Errorf("%q is missing", key)
				continue
			}
			if !e.Foreign {
				size := len(r.c.Prefix + key)
				for name, value := range r.client.HGetAll(ctx, r.c.Prefix+key).Val() {
					size += len(name) + len(value)
				}
				w.Size = size
			}
			locked := e.LockedUntil
			e.LockedUntil, e.Created, e.Expires = time.Time{}, e.Created.Local(), e.Expires.Local()
			if w.Foreign {
				e.Created, e.Expires = w.Created, w.Expires
			}
			if w.Created, w.Expires = w.Created.Local(), w.Expires.Local(); w.Foreign {
				w.Created, w.Expires = e.Created, e.Expires
			}
			if !reflect.DeepEqual(e, w) {
				t.Errorf("%q: got\n%+v, want\n%+v", key, e, w)
			}
			if d := locked.Sub(held.LockedUntil); key == "locked" && d.Abs() > time.Minute || key != "locked" && !locked.IsZero() {
				t.Errorf("%q: locked until %v", key, locked)
			}
		}
		if len(got) != len(want) {
			t.Errorf("listed are %d keys, want %d", len(got), len(want))
		}

		for prefix, n := range map[string]int{
			"key1": 311, "key119": 11, "foreign": 3, pattern: 1, "a": 2, `a\`: 1, "a*": 1, "key*": 0, "large": 1, "none": 0,
		} {
			got := listed(t, r.Backend, admin.ListOptions{KeyPrefix: prefix})
			if len(got) != n {
				t.Errorf("with prefix %q: %d keys, want %d", prefix, len(got), n)
			}
			for key := range got {
				if !strings.HasPrefix(key, prefix) {
					t.Errorf("with prefix %q: %q", prefix, key)
				}
			}
		}
		stop := errors.New("stop")
		calls := 0
		report, err := r.List(ctx, admin.ListOptions{KeyPrefix: "key"}, func(admin.Entry) error {
			if calls++; calls == 300 {
				return stop
			}
			return nil
		})
		if err != stop || calls != 300 || report.Scanned != 300 {
			t.Errorf("ended after %d calls: %v, %+v", calls, err, report)
		}
	})
}

// A key is foreign if and only if Load refuses it.
func TestListForeign(t *testing.T) {
	r := newRig(t, Config{})
	ctx := t.Context()
	full := map[string]any{"data": "", "created": "1700000000000", "expires": "9900000000000", "version": "12345678"}
	for i, change := range []map[string]any{
		{}, {"user": "1"}, {"data": nil}, {"created": nil}, {"expires": nil}, {"version": nil}, {"created": "1.5"},
		{"expires": "soon"}, {"expires": "0x9"}, {"expires": "999999999999999999"}, {"version": "1234567"}, {"until": "0"},
	} {
		key := fmt.Sprint(r.c.Prefix, i)
		for _, fields := range []map[string]any{full, change} {
			for name, value := range fields {
				if value == nil {
					wantNil(t, r.client.HDel(ctx, key, name).Err(), "HDEL")
				} else {
					wantNil(t, r.client.HSet(ctx, key, name, value).Err(), "HSET")
				}
			}
		}
	}
	entries := listed(t, r.Backend, admin.ListOptions{})
	if len(entries) != 12 {
		t.Errorf("%d keys, want 12", len(entries))
	}
	for key, e := range entries {
		if _, err := r.Load(ctx, key); e.Foreign != errors.Is(err, session.ErrDecode) {
			t.Errorf("%v: Foreign is %v, and Load returns %v", r.client.HGetAll(ctx, r.c.Prefix+key).Val(), e.Foreign, err)
		}
	}
}

// List ends with its context, whatever it is doing.
func TestListContext(t *testing.T) {
	r := newRig(t, Config{})
	for i := range 600 {
		mustSave(t, r, fmt.Sprint("key", i), "1", "")
	}
	cause := errors.New("the operator has gone home")
	done, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	r.link.sent()
	_, err := r.List(done, admin.ListOptions{}, func(admin.Entry) error { t.Error("visited"); return nil })
	wantErr(t, err, context.Canceled, "with a done context")
	wantErr(t, err, cause, "with a done context")
	if sent := r.link.sent(); len(sent) != 0 {
		t.Errorf("with a done context, sent were %q", sent)
	}

	ctx, cancel2 := context.WithCancel(t.Context())
	visited := 0
	report, err := r.List(ctx, admin.ListOptions{}, func(admin.Entry) error { visited++; cancel2(); return nil })
	wantErr(t, err, context.Canceled, "cancelled by visit")
	if visited != 1 || report.Scanned != 1 {
		t.Errorf("after its context ended, %d were visited: %+v", visited, report)
	}

	for _, at := range []string{"scan", "evalsha"} {
		ctx, cancel := context.WithCancel(t.Context())
		var once atomic.Bool
		r.link.set(func() {
			r.link.pause = func(name string) {
				if name == at && once.CompareAndSwap(false, true) {
					r.link.set(func() { r.link.hung = true })
					cancel()
				}
			}
		})
		_, err := r.List(ctx, admin.ListOptions{}, func(admin.Entry) error { return nil })
		wantErr(t, err, context.Canceled, "hanging at "+at)
		if !once.Load() {
			t.Errorf("no %s was sent", at)
		}
		r.link.set(func() { r.link.hung, r.link.pause = false, nil })
		cancel()
	}
}

// The error of a failed List has no key in it.
func TestListFails(t *testing.T) {
	r := newRig(t, Config{})
	for i := range 300 {
		mustSave(t, r, fmt.Sprint("secret", i), "1", "")
	}
	// The client retries by itself.
	r.link.loseNext(2, response)
	if got := listed(t, r.Backend, admin.ListOptions{}); len(got) != 300 {
		t.Errorf("with two answers lost: %d keys, want 300", len(got))
	}
	r.link.setDown(true)
	_, err := r.List(t.Context(), admin.ListOptions{}, func(admin.Entry) error { return nil })
	r.link.setDown(false)
	if err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("while the server is down: %v", err)
	}
	for _, sentinel := range []error{session.ErrNotFound, session.ErrDecode, session.ErrConflict} {
		if errors.Is(err, sentinel) {
			t.Errorf("%v is %v", err, sentinel)
		}
	}

	b, err := New(fixed{answer("ERR x")}, Config{})
	wantNil(t, err, "New")
	_, err = b.List(t.Context(), admin.ListOptions{}, func(admin.Entry) error { return nil })
	wantErr(t, err, errors.ErrUnsupported, "with a client that cannot")
}

// A server that has forgotten the script learns it again.
func TestListNoScript(t *testing.T) {
	addr, stop, err := startServer()
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	r := rigOn(t, addr, Config{})
	for i := range 300 {
		mustSave(t, r, fmt.Sprint("key", i), "1", "")
	}
	wantNil(t, r.client.Set(t.Context(), r.c.Prefix+"foreign", "x", 0).Err(), "SET")
	for range 3 {
		wantNil(t, r.client.ScriptFlush(t.Context()).Err(), "SCRIPT FLUSH")
		if got := listed(t, r.Backend, admin.ListOptions{}); len(got) != 301 {
			t.Errorf("%d keys, want 301", len(got))
		}
	}
}

// The permissions of the package comment are enough.
func TestListPermissions(t *testing.T) {
	root := redis.NewClient(&redis.Options{Addr: realServer})
	closeLater(t, root)
	ctx := t.Context()
	c := Config{Prefix: newPrefix()}
	owner, err := New(root, c)
	wantNil(t, err, "New")
	mustSave(t, owner, "k", "", "")
	mustAcquire(t, owner, "k", time.Minute)
	rules := []any{"acl", "setuser", "operator", "reset", "on", ">pw", "~" + c.Prefix + "*"}
	for _, rule := range strings.Fields("+scan +eval +evalsha +time +exists +hmget +hexists +hstrlen") {
		rules = append(rules, rule)
	}
	wantNil(t, root.Do(ctx, rules...).Err(), "ACL SETUSER")
	o := newLink().options(realServer)
	o.Username, o.Password = "operator", "pw"
	client := redis.NewClient(o)
	closeLater(t, client)
	b, err := New(client, c)
	wantNil(t, err, "New")
	if got := listed(t, b, admin.ListOptions{}); len(got) != 1 || got["k"].LockedUntil.IsZero() {
		t.Errorf("listed %+v", got)
	}
	wantNil(t, root.Do(ctx, "acl", "setuser", "operator", "-scan").Err(), "ACL SETUSER")
	_, err = b.List(ctx, admin.ListOptions{}, func(admin.Entry) error { return nil })
	if err == nil || !strings.Contains(err.Error(), "Permissions") {
		t.Errorf("without SCAN: got %v, want something about Permissions", err)
	}
}

// List transfers the data of the sessions that contain the text, and no other
// data.
func TestListData(t *testing.T) {
	onBoth(t, func(t *testing.T, r *rig, _ func(time.Duration)) {
		for key, data := range map[string]string{"other": "m.rk", "here": "a mark\xff", "empty": ""} {
			rec := session.Record{Data: []byte(data), Created: time.Now(), Expires: time.Now().Add(time.Hour)}
			if _, err := r.Save(t.Context(), key, rec); err != nil {
				t.Fatal(err)
			}
		}
		for mark, want := range map[string]string{"": "", "mark": "a mark\xff", "m.rk": "m.rk", "%a": ""} {
			var found string
			for key, e := range listed(t, r.Backend, admin.ListOptions{DataWith: mark}) {
				if found += e.Data; e.Data != "" && e.DataSize != len(e.Data) {
					t.Errorf("%q: got %+v", key, e)
				}
			}
			if found != want {
				t.Errorf("%q: got %q", mark, found)
			}
		}
	})
}
