package conformance

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session"
)

// BenchmarkBackend measures the calls of a backend. Each call has a sub-benchmark
// with a small record of 60 bytes and one with a typical record of 700. For a
// [session.LockingBackend] there are also two that lock and unlock a record.
// BenchmarkBackend uses only [Backend.New], which may return the same backend
// each time.
func BenchmarkBackend(b *testing.B, backend Backend) {
	for _, size := range []struct {
		name  string
		bytes int
	}{{"small", 60}, {"typical", 700}} {
		data := []byte(strings.Repeat("x", size.bytes))
		for _, bench := range backendBenchmarks {
			if _, ok := backend.New(b).(session.LockingBackend); bench.locks && !ok {
				continue
			}
			b.Run(bench.name+"/"+size.name, func(b *testing.B) {
				b.ReportAllocs()
				now := time.Now()
				bench.run(b, backend.New(b), session.Record{Data: data, Created: now, Expires: now.Add(time.Hour)})
			})
		}
	}
}

var backendBenchmarks = []struct {
	name string
	run  func(*testing.B, session.Backend, session.Record)
	// locks is true if the benchmark needs a session.LockingBackend.
	locks bool
}{
	{name: "Load", run: benchmarkLoad},
	{name: "LoadParallel", run: benchmarkLoadParallel},
	{name: "Save", run: benchmarkSave},
	{name: "SaveContended", run: benchmarkSaveContended},
	{name: "Touch", run: benchmarkTouch},
	{name: "Create", run: benchmarkCreate},
	{name: "Delete", run: benchmarkDelete},
	{name: "AcquireSave", run: benchmarkAcquireSave, locks: true},
	{name: "AcquireRelease", run: benchmarkAcquireRelease, locks: true},
}

// benchmarkKeys is the number of records, unless a benchmark needs b.N.
const benchmarkKeys = 64

// benchmarkKey returns a function that makes keys that no other benchmark uses.
// They have 43 characters, the length of a SHA-256 digest in base64.
func benchmarkKey() func(i int) string {
	prefix := rand.Text()[:16]
	return func(i int) string { return fmt.Sprintf("%s%027d", prefix, i) }
}

func create(b *testing.B, backend session.Backend, rec session.Record, n int) (keys []string, versions []session.Version) {
	b.Helper()
	name := benchmarkKey()
	for i := range n {
		key := name(i)
		v, err := backend.Save(context.Background(), key, rec)
		if err != nil {
			b.Fatal(err)
		}
		keys, versions = append(keys, key), append(versions, v)
	}
	b.ResetTimer()
	return keys, versions
}

func benchmarkLoad(b *testing.B, backend session.Backend, rec session.Record) {
	keys, _ := create(b, backend, rec, benchmarkKeys)
	for i := range b.N {
		if _, err := backend.Load(context.Background(), keys[i%len(keys)]); err != nil {
			b.Fatal(err)
		}
	}
}

func benchmarkLoadParallel(b *testing.B, backend session.Backend, rec session.Record) {
	keys, _ := create(b, backend, rec, benchmarkKeys)
	var worker atomic.Int64
	b.RunParallel(func(pb *testing.PB) {
		for i := int(worker.Add(1)) * 7; pb.Next(); i++ {
			if _, err := backend.Load(context.Background(), keys[i%len(keys)]); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

func benchmarkSave(b *testing.B, backend session.Backend, rec session.Record) {
	keys, versions := create(b, backend, rec, benchmarkKeys)
	for i := range b.N {
		rec.Version = versions[i%len(keys)]
		v, err := backend.Save(context.Background(), keys[i%len(keys)], rec)
		if err != nil {
			b.Fatal(err)
		}
		versions[i%len(keys)] = v
	}
}

// benchmarkSaveContended measures Saves of one key by several goroutines. One
// operation is a Save that succeeds, with its Loads and conflicts.
func benchmarkSaveContended(b *testing.B, backend session.Backend, rec session.Record) {
	keys, _ := create(b, backend, rec, 1)
	var conflicts atomic.Int64
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			for {
				current, err := backend.Load(context.Background(), keys[0])
				if err == nil {
					_, err = backend.Save(context.Background(), keys[0], replacing(rec, current.Version))
				}
				if err == nil {
					break
				}
				if !errors.Is(err, session.ErrConflict) {
					b.Error(err)
					return
				}
				conflicts.Add(1)
			}
		}
	})
	b.ReportMetric(float64(conflicts.Load())/float64(b.N), "conflicts/op")
}

func benchmarkTouch(b *testing.B, backend session.Backend, rec session.Record) {
	keys, _ := create(b, backend, rec, benchmarkKeys)
	for i := range b.N {
		if err := backend.Touch(context.Background(), keys[i%len(keys)], rec.Expires.Add(time.Duration(i)*time.Second)); err != nil {
			b.Fatal(err)
		}
	}
}

func benchmarkCreate(b *testing.B, backend session.Backend, rec session.Record) {
	key := benchmarkKey()
	for i := range b.N {
		if _, err := backend.Save(context.Background(), key(i), rec); err != nil {
			b.Fatal(err)
		}
	}
}

func benchmarkDelete(b *testing.B, backend session.Backend, rec session.Record) {
	keys, _ := create(b, backend, rec, b.N)
	for _, key := range keys {
		if err := backend.Delete(context.Background(), key); err != nil {
			b.Fatal(err)
		}
	}
}

func benchmarkAcquireSave(b *testing.B, backend session.Backend, rec session.Record) {
	benchmarkAcquire(b, backend, rec, func(l session.LockingBackend, key string, held session.Record) error {
		return second(l.Save(context.Background(), key, replacing(rec, held.Version)))
	})
}

func benchmarkAcquireRelease(b *testing.B, backend session.Backend, rec session.Record) {
	benchmarkAcquire(b, backend, rec, func(l session.LockingBackend, key string, held session.Record) error {
		return l.Release(context.Background(), key, held.Version, time.Time{})
	})
}

// benchmarkAcquire locks a record that is free, and calls unlock.
func benchmarkAcquire(b *testing.B, backend session.Backend, rec session.Record, unlock func(l session.LockingBackend, key string, held session.Record) error) {
	keys, _ := create(b, backend, rec, benchmarkKeys)
	l := backend.(session.LockingBackend)
	for i := range b.N {
		key := keys[i%len(keys)]
		held, err := l.Acquire(context.Background(), key, time.Minute)
		if err == nil {
			err = unlock(l, key, held)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}
