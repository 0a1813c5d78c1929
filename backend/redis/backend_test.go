package redisstore

import (
	"context"
	"errors"
	"fmt"
	"net"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/seed-a7bee19b/session"
)

func TestNew(t *testing.T) {
	client := redis.NewClient(&redis.Options{})
	closeLater(t, client)
	endless := redis.NewClient(&redis.Options{ReadTimeout: -1})
	closeLater(t, endless)
	endlessWrites := redis.NewClient(&redis.Options{WriteTimeout: -2})
	closeLater(t, endlessWrites)
	cluster := redis.NewClusterClient(&redis.ClusterOptions{})
	closeLater(t, cluster)
	endlessCluster := redis.NewClusterClient(&redis.ClusterOptions{ReadTimeout: -1})
	closeLater(t, endlessCluster)
	ring := redis.NewRing(&redis.RingOptions{})
	closeLater(t, ring)
	failover := redis.NewFailoverClient(&redis.FailoverOptions{MasterName: "m", SentinelAddrs: []string{"127.0.0.1:1"}})
	closeLater(t, failover)

	for _, tt := range []struct {
		name   string
		client Client
		c      Config
		want   string // part of the error, "" for none
	}{
		{"zero", client, Config{}, ""},
		{"cluster", cluster, Config{}, ""},
		{"sentinel", failover, Config{}, ""},
		{"all set", client, Config{Prefix: "shop:", MaxSize: MaxSize}, ""},
		{"no client", nil, Config{}, "nil"},
		{"ring", ring, Config{}, "redis.Ring"},
		{"no read timeout", endless, Config{}, "ReadTimeout"},
		{"no write timeout", endlessWrites, Config{}, "WriteTimeout"},
		{"no read timeout, cluster", endlessCluster, Config{}, "ReadTimeout"},
		{"long prefix", client, Config{Prefix: strings.Repeat("x", 129)}, "Config.Prefix has 129 bytes"},
		{"hash tag", client, Config{Prefix: "a{b}:"}, "hash tag"},
		{"no hash tag", client, Config{Prefix: "a{b:"}, ""},
		{"negative size", client, Config{MaxSize: -1}, "Config.MaxSize"},
		{"large size", client, Config{MaxSize: MaxSize + 1}, "Config.MaxSize"},
	} {
		b, err := New(tt.client, tt.c)
		switch {
		case tt.want == "" && (err != nil || b == nil):
			t.Errorf("%s: %v", tt.name, err)
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%s: got error %v, want one about %q", tt.name, err, tt.want)
		}
	}
}

// Each call sends the commands that the package comment says.
func TestCommands(t *testing.T) {
	onBoth(t, func(t *testing.T, r *rig, _ func(time.Duration)) {
		ctx := t.Context()
		later := time.Now().Add(2 * time.Hour)
		var v session.Version
		var held session.Record
		calls := []struct {
			name string
			call func() error
			want error
		}{
			{"Load of nothing", func() error { _, err := r.Load(ctx, "absent"); return err }, session.ErrNotFound},
			{"Save", func() (err error) { v, err = r.Save(ctx, "k", record("1", "")); return err }, nil},
			{"Save again", func() (err error) { v, err = r.Save(ctx, "k", record("2", v)); return err }, nil},
			{"Save, conflict", func() error { _, err := r.Save(ctx, "k", record("3", "")); return err }, session.ErrConflict},
			{"Save of nothing", func() error { _, err := r.Save(ctx, "absent", record("3", v)); return err }, session.ErrNotFound},
			{"Load", func() error { _, err := r.Load(ctx, "k"); return err }, nil},
			{"Touch", func() error { return r.Touch(ctx, "k", later) }, nil},
			{"Touch, again", func() error { return r.Touch(ctx, "k", later) }, nil},
			{"Acquire", func() (err error) { held, err = r.Acquire(ctx, "k", time.Minute); return err }, nil},
			{"Acquire, locked", func() error { _, err := r.Acquire(ctx, "k", time.Minute); return err }, session.ErrLocked},
			{"Load, locked", func() error { _, err := r.Load(ctx, "k"); return err }, nil},
			{"Save, locked", func() error { _, err := r.Save(ctx, "k", record("3", v)); return err }, session.ErrLocked},
			{"Extend", func() error { return r.Extend(ctx, "k", held.Version, time.Minute) }, nil},
			{"Release", func() error { return r.Release(ctx, "k", held.Version, later.Add(time.Hour)) }, nil},
			{"Release, again", func() error { return r.Release(ctx, "k", held.Version, time.Time{}) }, session.ErrConflict},
			{"Acquire and read", func() (err error) { held, err = r.Acquire(ctx, "k", time.Minute); return err }, nil},
			{"write and release", func() (err error) { v, err = r.Save(ctx, "k", record("4", held.Version)); return err }, nil},
			{"Delete", func() error { return r.Delete(ctx, "k") }, nil},
			{"Delete of nothing", func() error { return r.Delete(ctx, "k") }, nil},
		}
		for round := range 2 {
			for _, c := range calls {
				r.link.sent()
				err := c.call()
				if !errors.Is(err, c.want) || c.want == nil && err != nil {
					t.Errorf("%s: got error %v, want %v", c.name, err, c.want)
				}
				// In the first round the server may have to learn the script.
				want := []string{"evalsha"}
				switch c.name {
				case "Load":
					want = []string{"hmget"}
				case "Load of nothing", "Load, locked":
					want = []string{"hmget", "evalsha"}
				}
				if sent := r.link.sent(); round > 0 && !reflect.DeepEqual(sent, want) {
					t.Errorf("%s sent %q, want %q", c.name, sent, want)
				}
			}
		}
	})
}

func TestForeign(t *testing.T) {
	onBoth(t, func(t *testing.T, r *rig, _ func(time.Duration)) {
		ctx := t.Context()
		full := func(change ...string) map[string]string {
			m := map[string]string{
				"data": "x", "created": "1700000000000", "expires": "9900000000000", "version": "12345678",
			}
			for i := 0; i < len(change); i += 2 {
				if m[change[i]] = change[i+1]; change[i+1] == "" {
					delete(m, change[i])
				}
			}
			return m
		}
		for _, tt := range []struct {
			name string
			hash map[string]string // nil: a string
			half bool              // Touch works on it
			ok   bool
		}{
			{name: "string"},
			{name: "other hash", hash: map[string]string{"user": "1"}},
			{name: "ours", hash: full(), ok: true},
			{name: "more fields", hash: full("user", "1"), ok: true},
			{name: "no version", hash: full("version", "")},
			{name: "no expires", hash: full("expires", "")},
			{name: "expires is text", hash: full("expires", "soon")},
			{name: "no data", hash: full("data", ""), half: true},
			{name: "no created", hash: full("created", ""), half: true},
			{name: "created is text", hash: full("created", "1.5"), half: true},
			{name: "created out of range", hash: full("created", "999999999999999999"), half: true},
			{name: "expires is hexadecimal", hash: full("expires", "0x9999999999999"), half: true},
			{name: "short version", hash: full("version", "1234567"), half: true},
		} {
			key := tt.name
			if tt.hash == nil {
				wantNil(t, r.client.Set(ctx, r.c.Prefix+key, "x", 0).Err(), "SET")
			} else {
				wantNil(t, r.client.HSet(ctx, r.c.Prefix+key, tt.hash).Err(), "HSET")
			}
			if _, err := r.Load(ctx, key); tt.ok != (err == nil) || !tt.ok && !errors.Is(err, session.ErrDecode) {
				t.Errorf("%s: Load: %v", tt.name, err)
			} else if err != nil && strings.Contains(err.Error(), key) && tt.hash == nil {
				t.Errorf("%s: the error has the key: %v", tt.name, err)
			}
			if tt.ok {
				continue
			}
			_, err := r.Acquire(ctx, key, time.Minute)
			wantErr(t, err, session.ErrDecode, tt.name+": Acquire")
			rec, loadErr := r.Load(ctx, key)
			if loadErr == nil || !rec.LockedUntil.IsZero() {
				t.Errorf("%s: locked", tt.name)
			}
			for _, v := range []session.Version{"", "87654321", "12345678abcdefgh"} {
				_, err := r.Save(ctx, key, record("y", v))
				if tt.half {
					wantErr(t, err, session.ErrConflict, tt.name+": Save")
				} else {
					wantErr(t, err, session.ErrDecode, tt.name+": Save")
				}
			}
			if !tt.half {
				wantErr(t, r.Touch(ctx, key, time.Now().Add(time.Hour)), session.ErrDecode, tt.name+": Touch")
			}
			if tt.hash == nil {
				if got := r.client.Get(ctx, r.c.Prefix+key).Val(); got != "x" {
					t.Errorf("%s: changed to %q", tt.name, got)
				}
			} else {
				got := r.client.HGetAll(ctx, r.c.Prefix+key).Val()
				delete(got, "lock") // Acquire releases a record that it cannot decode
				delete(got, "until")
				if !reflect.DeepEqual(got, tt.hash) {
					t.Errorf("%s: changed from %v to %v", tt.name, tt.hash, got)
				}
			}
			wantNil(t, r.Delete(ctx, key), tt.name+": Delete")
		}
	})
}

// Redis removes a record a minute after its deadline.
func TestExpiry(t *testing.T) {
	r := newRig(t, Config{})
	mustSave(t, r, "k", "1", "")
	until := time.Now().Add(time.Hour)
	check := func(doing string) {
		t.Helper()
		ttl := r.client.PTTL(t.Context(), r.c.Prefix+"k").Val()
		if d := ttl - time.Until(until) - time.Minute; d < -2*time.Second || d > 2*time.Second {
			t.Errorf("%s: Redis removes the key in %v, want %v after the deadline", doing, ttl, time.Minute)
		}
	}
	check("Save")
	until = until.Add(time.Hour)
	wantNil(t, r.Touch(t.Context(), "k", until), "Touch")
	check("Touch")
	held := mustAcquire(t, r, "k", 24*time.Hour)
	check("Acquire")
	until = until.Add(time.Hour)
	wantNil(t, r.Release(t.Context(), "k", held.Version, until), "Release")
	check("Release")
	until = time.Now()
	rec := record("2", mustLoad(t, r, "k").Version)
	rec.Expires = until.Add(-time.Hour)
	if _, err := r.Save(t.Context(), "k", rec); err != nil {
		t.Fatal(err)
	}
	check("Save with a deadline that has passed")
}

// fixed answers every command with an error.
type fixed struct{ err error }

func (f fixed) Eval(ctx context.Context, _ string, _ []string, _ ...any) *redis.Cmd {
	cmd := redis.NewCmd(ctx)
	cmd.SetErr(f.err)
	return cmd
}

func (f fixed) EvalSha(ctx context.Context, _ string, _ []string, _ ...any) *redis.Cmd {
	return f.Eval(ctx, "", nil)
}

// The error of a server gets an explanation for the operator and loses the key.
func TestErrors(t *testing.T) {
	for _, tt := range []struct{ err, words string }{
		{"READONLY You can't write against a read only replica.", "failover"},
		{"ERR Error running script (call to f_1): @user_script:2: @user_script: 2: -READONLY You can't write against a read only replica.", "failover"},
		{"LOADING Redis is loading the dataset in memory", "loading its data"},
		{"MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.", "lost its master"},
		{"CLUSTERDOWN Hash slot not served", "part of the cluster"},
		{"MOVED 3999 127.0.0.1:6381", "NewClusterClient"},
		{"NOAUTH Authentication required.", "Username and Password"},
		{"WRONGPASS invalid username-password pair or user is disabled.", "does not accept"},
		{"NOPERM this user has no permissions to run the 'evalsha' command", "Permissions"},
		{"OOM command not allowed when used memory > 'maxmemory'. script: 12, on @user_script:1.", "maxmemory"},
		{"MISCONF Redis is configured to save RDB snapshots", "disk"},
		{"NOREPLICAS Not enough good replicas to write.", "min-replicas-to-write"},
		{"BUSY Redis is busy running a script.", "SCRIPT KILL"},
		{"ERR max number of clients reached", "maxclients"},
		{"ERR unknown command 'EVALSHA', with args beginning with: 'f00' '1' 'session:secret' ", "does not run scripts"},
		{"ERR something about session:secret", "..."},
	} {
		b, err := New(fixed{answer(tt.err)}, Config{})
		if err != nil {
			t.Fatal(err)
		}
		_, err = b.Save(t.Context(), "secret", record("1", ""))
		if err == nil || !strings.Contains(err.Error(), tt.words) {
			t.Errorf("%s: the error is %q, want something about %q", tt.err, err, tt.words)
			continue
		}
		if strings.Contains(err.Error(), "secret") {
			t.Errorf("the error has the key: %v", err)
		}
		var cause redis.Error
		if !errors.As(err, &cause) {
			t.Errorf("%v: no redis.Error in it", err)
		}
		for _, sentinel := range []error{session.ErrNotFound, session.ErrConflict, session.ErrDecode, session.ErrLocked, session.ErrTooLarge} {
			if errors.Is(err, sentinel) {
				t.Errorf("%v: is %v", err, sentinel)
			}
		}
	}
	for _, text := range []string{
		"WRONGTYPE Operation against a key holding the wrong kind of value",
		"ERR Error running script (call to f_1): @user_script:5: WRONGTYPE Operation against a key holding the wrong kind of value",
	} {
		b, _ := New(fixed{answer(text)}, Config{})
		_, err := b.Load(t.Context(), "secret")
		wantErr(t, err, session.ErrDecode, text)
	}
}

// TestServerErrors is TestErrors with a real server.
func TestServerErrors(t *testing.T) {
	addr, stop, err := startServer("--requirepass", "pass")
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	admin := redis.NewClient(&redis.Options{Addr: addr, Password: "pass"})
	closeLater(t, admin)
	ctx := t.Context()
	for _, tt := range []struct {
		name    string
		set     [][]any
		undo    [][]any
		options func(*redis.Options)
		words   string
		loads   bool // reading still works
	}{
		{name: "no password", options: func(o *redis.Options) { o.Password = "" }, words: "Username and Password"},
		{name: "wrong password", options: func(o *redis.Options) { o.Password = "x" }, words: "does not accept"},
		{
			name: "out of memory", words: "maxmemory", loads: true,
			set:  [][]any{{"config", "set", "maxmemory", "1"}},
			undo: [][]any{{"config", "set", "maxmemory", "0"}},
		},
		{
			name: "replica", words: "failover", loads: true,
			set:  [][]any{{"replicaof", "127.0.0.1", "1"}},
			undo: [][]any{{"replicaof", "no", "one"}},
		},
		{
			name: "replicas missing", words: "min-replicas-to-write", loads: true,
			set:  [][]any{{"config", "set", "min-replicas-to-write", "1"}},
			undo: [][]any{{"config", "set", "min-replicas-to-write", "0"}},
		},
		{
			name: "permission", words: "Permissions",
			set:     [][]any{{"acl", "setuser", "u", "on", ">pw", "~session:*", "+ping", "+get"}},
			options: func(o *redis.Options) { o.Username, o.Password = "u", "pw" },
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := newLink().options(addr)
			o.Password = "pass"
			if tt.options != nil {
				tt.options(o)
			}
			client := redis.NewClient(o)
			closeLater(t, client)
			b, err := New(client, Config{})
			if err != nil {
				t.Fatal(err)
			}
			for _, set := range tt.set {
				wantNil(t, admin.Do(ctx, set...).Err(), fmt.Sprint(set))
			}
			_, err = b.Save(ctx, "secret", record("1", ""))
			if err == nil || !strings.Contains(err.Error(), tt.words) || strings.Contains(err.Error(), "secret") {
				t.Errorf("Save: got %v, want something about %q", err, tt.words)
			}
			t.Log(err)
			if _, err := b.Load(ctx, "secret"); tt.loads != errors.Is(err, session.ErrNotFound) {
				t.Errorf("Load: %v", err)
			}
			for _, undo := range tt.undo {
				wantNil(t, admin.Do(ctx, undo...).Err(), fmt.Sprint(undo))
			}
		})
	}
}

// The permissions of the package comment are enough.
func TestPermissions(t *testing.T) {
	admin := redis.NewClient(&redis.Options{Addr: realServer})
	closeLater(t, admin)
	ctx := t.Context()
	rules := []any{"acl", "setuser", "app", "on", ">pw", "~app:*"}
	for _, rule := range strings.Fields("+eval +evalsha +time +exists +hmget +hset +pexpireat +del") {
		rules = append(rules, rule)
	}
	wantNil(t, admin.Do(ctx, rules...).Err(), "ACL SETUSER")
	o := newLink().options(realServer)
	o.Username, o.Password = "app", "pw"
	client := redis.NewClient(o)
	closeLater(t, client)
	b, err := New(client, Config{Prefix: "app:"})
	if err != nil {
		t.Fatal(err)
	}
	mustSave(t, b, "k", "1", "")
	held := mustAcquire(t, b, "k", time.Minute)
	wantNil(t, b.Extend(ctx, "k", held.Version, time.Minute), "Extend")
	wantNil(t, b.Touch(ctx, "k", time.Now().Add(2*time.Hour)), "Touch")
	wantNil(t, b.Release(ctx, "k", held.Version, time.Now().Add(3*time.Hour)), "Release")
	mustLoad(t, b, "k")
	wantNil(t, b.Delete(ctx, "k"), "Delete")
}

// A call ends with its context, whatever the options of the client say.
func TestHangs(t *testing.T) {
	for _, enabled := range []bool{false, true} {
		l := newLink()
		o := l.options(realServer)
		o.ContextTimeoutEnabled = enabled
		o.ReadTimeout = 2 * time.Second // ends the goroutines that are left behind
		client := redis.NewClient(o)
		b, err := New(client, Config{Prefix: newPrefix()})
		if err != nil {
			t.Fatal(err)
		}
		v := mustSave(t, b, "k", "1", "")
		l.set(func() { l.hung = true })

		ctx, cancel := context.WithCancelCause(t.Context())
		why := errors.New("the visitor has gone")
		time.AfterFunc(20*time.Millisecond, func() { cancel(why) })
		_, err = b.Load(ctx, "k")
		wantErr(t, err, context.Canceled, "Load")
		wantErr(t, err, why, "Load")

		late, stop := context.WithTimeout(t.Context(), 20*time.Millisecond)
		_, err = b.Save(late, "k", record("2", v))
		stop()
		wantErr(t, err, context.DeadlineExceeded, "Save")
		if !strings.Contains(err.Error(), "not known whether it was applied") {
			t.Errorf("Save: %v", err)
		}
		l.set(func() { l.hung = false })
		_ = client.Close() // some connections are broken
	}
}

// The goroutines of abandoned calls end with the client.
func TestGoroutinesEnd(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0") // accepts connections and never answers
	if err != nil {
		t.Fatal(err)
	}
	closeLater(t, silent)
	client := redis.NewClient(&redis.Options{Addr: silent.Addr().String(), PoolSize: 3, ReadTimeout: time.Hour})
	b, err := New(client, Config{})
	if err != nil {
		t.Fatal(err)
	}
	working := func() int {
		stacks := make([]byte, 1<<20)
		stacks = stacks[:runtime.Stack(stacks, true)]
		return strings.Count(string(stacks), "session/backend/redis.(*call).run.func")
	}
	before := working()
	for range 10 {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(20*time.Millisecond, cancel)
		_, err := b.Load(ctx, "k")
		wantErr(t, err, context.Canceled, "Load")
	}
	// falls waits, because a goroutine may be about to end.
	falls := func(most int, when string) {
		t.Helper()
		for deadline := time.Now().Add(10 * time.Second); working()-before > most; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s: %d goroutines, want at most %d", when, working()-before, most)
			}
		}
	}
	falls(3, "with 3 connections")
	wantNil(t, client.Close(), "Close")
	falls(0, "after Close")
}

// gate is a hook that holds commands back until open is closed, and then sends
// them even if their context has ended.
type gate struct{ waiting, open chan struct{} }

func (g *gate) DialHook(next redis.DialHook) redis.DialHook { return next }

func (g *gate) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (g *gate) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if cmd.Name() != "evalsha" {
			return next(ctx, cmd) // sets up a connection
		}
		close(g.waiting)
		<-g.open
		return next(context.WithoutCancel(ctx), cmd)
	}
}

// Save does not read the caller's data after it has returned.
func TestDataAfterCancel(t *testing.T) {
	r := newRig(t, Config{})
	o := r.second(t)
	v := mustSave(t, o, "k", "1", "")
	g := &gate{make(chan struct{}), make(chan struct{})}
	r.client.AddHook(g)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-g.waiting; cancel() }()
	rec := record("22222222", v)
	_, err := r.Save(ctx, "k", rec)
	wantErr(t, err, context.Canceled, "Save")
	copy(rec.Data, "xxxxxxxx")
	close(g.open)
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		got := mustLoad(t, o, "k")
		if string(got.Data) == "22222222" {
			return
		}
		if string(got.Data) != "1" || time.Now().After(deadline) {
			t.Fatalf("stored is %q", got.Data)
		}
	}
}

func TestTimes(t *testing.T) {
	r := newRig(t, Config{})
	ctx := t.Context()
	for _, tt := range []struct {
		name             string
		created, expires time.Time
		ok               bool
	}{
		{"first", time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC), true},
		{"created early", time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC), time.Now().Add(time.Hour), false},
		{"expires late", time.Now(), time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC), false},
		{"expires long ago", time.Now(), time.Date(1, 1, 1, 0, 0, 0, 1, time.UTC), true},
	} {
		rec := session.Record{Created: tt.created, Expires: tt.expires}
		if _, err := r.Save(ctx, tt.name, rec); tt.ok != (err == nil) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	if rec := mustLoad(t, r, "first"); rec.Created.Year() != 1 || rec.Expires.Year() != 9999 {
		t.Errorf("got %+v", rec)
	}
	if err := r.Touch(ctx, "first", time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)); err == nil {
		t.Error("Touch to the year 10000: no error")
	}
	mustAcquire(t, r, "first", 1<<63-1)
}
