package memory_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/memory"
)

var _ session.Backend = (*memory.Backend)(nil)

func record(data string, life time.Duration) session.Record {
	now := time.Now()
	return session.Record{Data: []byte(data), Created: now, Expires: now.Add(life)}
}

func newBackend(t testing.TB, config memory.Config) *memory.Backend {
	t.Helper()
	b, err := memory.New(config)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func save(t testing.TB, b *memory.Backend, key string, rec session.Record) session.Version {
	t.Helper()
	v, err := b.Save(context.Background(), key, rec)
	if err != nil {
		t.Fatalf("Save: %v", err)
	}
	return v
}

func TestNewRefuses(t *testing.T) {
	for _, config := range []memory.Config{{MaxRecords: -1}, {MaxData: -1}} {
		if _, err := memory.New(config); err == nil {
			t.Errorf("New(%+v) gave no error", config)
		}
	}
}

func TestFull(t *testing.T) {
	ctx := context.Background()
	b := newBackend(t, memory.Config{MaxRecords: 2})
	v := save(t, b, "a", record("1", time.Hour))
	save(t, b, "b", record("1", time.Hour))

	_, err := b.Save(ctx, "c", record("1", time.Hour))
	if !errors.Is(err, memory.ErrFull) {
		t.Fatalf("third record: got %v, want ErrFull", err)
	}
	for _, sentinel := range []error{session.ErrNotFound, session.ErrConflict, session.ErrTooLarge} {
		if errors.Is(err, sentinel) {
			t.Errorf("ErrFull is also %v", sentinel)
		}
	}
	if _, err := b.Load(ctx, "c"); !errors.Is(err, session.ErrNotFound) {
		t.Errorf("Load of the refused record: %v", err)
	}

	rec := record("2", time.Hour)
	rec.Version = v
	save(t, b, "a", rec)
	if err := b.Touch(ctx, "b", time.Now().Add(2*time.Hour)); err != nil {
		t.Errorf("Touch when full: %v", err)
	}
	if err := b.Delete(ctx, "b"); err != nil {
		t.Fatal(err)
	}
	save(t, b, "c", record("1", time.Hour))
	if n := b.Len(); n != 2 {
		t.Errorf("Len is %d, want 2", n)
	}
}

func TestFullUnderLoad(t *testing.T) {
	const limit = 100
	b := newBackend(t, memory.Config{MaxRecords: limit})
	var wg sync.WaitGroup
	var saved atomic.Int64
	for g := range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range 50 {
				_, err := b.Save(context.Background(), fmt.Sprint(g, "/", i), record("", time.Hour))
				switch {
				case err == nil:
					saved.Add(1)
				case !errors.Is(err, memory.ErrFull):
					t.Error(err)
				}
			}
		}()
	}
	wg.Wait()
	if n := b.Len(); n != limit || saved.Load() != limit {
		t.Errorf("%d records, %d saves succeeded, want %d", n, saved.Load(), limit)
	}
}

func TestMaxData(t *testing.T) {
	b := newBackend(t, memory.Config{MaxData: 3})
	save(t, b, "a", record("123", time.Hour))
	_, err := b.Save(context.Background(), "b", record("1234", time.Hour))
	if !errors.Is(err, session.ErrTooLarge) {
		t.Errorf("got %v, want ErrTooLarge", err)
	}
}

func TestVersionsOfTwoBackendsDiffer(t *testing.T) {
	var a, b memory.Backend
	va, vb := save(t, &a, "k", record("", time.Hour)), save(t, &b, "k", record("", time.Hour))
	if va == vb {
		t.Errorf("both gave %q", va)
	}
}

// Sessions that never expire have distant deadlines, for which nanoseconds since
// 1970 overflow.
func TestTimesFarOut(t *testing.T) {
	var b memory.Backend
	for _, expires := range []time.Time{
		time.Date(2107, 1, 1, 0, 0, 0, 0, time.UTC), // the reclaiming clock ends in 2106
		time.Date(9999, 12, 31, 23, 59, 59, 999999999, time.UTC),
	} {
		key := expires.String()
		rec := session.Record{Expires: expires} // Created is year 1
		save(t, &b, key, rec)
		got, err := b.Load(context.Background(), key)
		if err != nil {
			t.Fatal(err)
		}
		if !got.Created.IsZero() || got.Expires.Before(expires) || got.Expires.Sub(expires) > time.Millisecond {
			t.Errorf("got %v, %v; want %v, %v", got.Created, got.Expires, rec.Created, expires)
		}
	}
}

func TestNoForeignDependencies(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "-test", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", ".").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	allowed := regexp.MustCompile(`^github\.com/(seed-a7bee19b/session|vmihailenco/(msgpack|tagparser))(/|\.test|$)`)
	for _, line := range strings.Split(strings.TrimSpace(string(out)), "\n") {
		path, _, _ := strings.Cut(line, " ")
		if !allowed.MatchString(path) || strings.Contains(path, "dynamodb") {
			t.Errorf("depends on %s", path)
		}
	}
}

func BenchmarkBytesPerSession(b *testing.B) {
	const sessions = 1_000_000
	data := bytes.Repeat([]byte("x"), 60)
	for b.Loop() {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		var backend memory.Backend
		expires := time.Now().Add(time.Hour)
		for i := range sessions {
			// 43 characters: a 32-byte digest in base64.
			key := fmt.Sprintf("%043d", i)
			rec := session.Record{Data: data, Created: expires, Expires: expires.Add(time.Duration(i*7919%3600) * time.Second)}
			if _, err := backend.Save(context.Background(), key, rec); err != nil {
				b.Fatal(err)
			}
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/sessions, "B/session")
		runtime.KeepAlive(&backend)
	}
}

// The highest cost of a write: the session that was moved last in a full shard.
func BenchmarkTouchAmongMillion(b *testing.B) {
	var backend memory.Backend
	const sessions = 1_000_000
	keys := make([]string, sessions)
	for i := range keys {
		keys[i] = fmt.Sprintf("%043d", i)
		if _, err := backend.Save(context.Background(), keys[i], record("x", time.Hour)); err != nil {
			b.Fatal(err)
		}
	}
	expires := time.Now().Add(2 * time.Hour)
	i := 0
	for b.Loop() {
		i = (i + 7919) % sessions
		expires = expires.Add(time.Millisecond)
		if err := backend.Touch(context.Background(), keys[i], expires); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkLoadParallel(b *testing.B) {
	var backend memory.Backend
	const sessions = 10_000
	keys := make([]string, sessions)
	for i := range keys {
		keys[i] = fmt.Sprintf("%043d", i)
		if _, err := backend.Save(context.Background(), keys[i], record(strings.Repeat("x", 60), time.Hour)); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	var start atomic.Int64
	b.RunParallel(func(pb *testing.PB) {
		i := int(start.Add(1)) * 1237
		for pb.Next() {
			i++
			if _, err := backend.Load(context.Background(), keys[i%sessions]); err != nil {
				b.Error(err)
				return
			}
		}
	})
}
