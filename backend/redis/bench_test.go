package redisstore

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/conformance"
)

func newBenchBackend(b testing.TB) (*Backend, *redis.Client) {
	b.Helper()
	client := redis.NewClient(&redis.Options{Addr: realServer})
	b.Cleanup(func() { _ = client.Close() })
	backend, err := New(client, Config{Prefix: newPrefix()})
	if err != nil {
		b.Fatal(err)
	}
	return backend, client
}

// BenchmarkBackend uses a server on this machine: most of the time is the round
// trip.
func BenchmarkBackend(b *testing.B) {
	conformance.BenchmarkBackend(b, conformance.Backend{New: func(t testing.TB) session.Backend {
		t.Helper()
		backend, _ := newBenchBackend(t)
		return backend
	}})
}

// BenchmarkRaw measures the same reads and writes without this package.
func BenchmarkRaw(b *testing.B) {
	backend, client := newBenchBackend(b)
	data := strings.Repeat("x", 700)
	key := backend.keys.prefix + "k"
	b.Run("HMGET", func(b *testing.B) {
		client.HSet(b.Context(), key, "data", data, "created", 1, "expires", 2, "version", "12345678")
		for b.Loop() {
			if err := client.HMGet(b.Context(), key, "data", "created", "expires", "version").Err(); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("HSET", func(b *testing.B) {
		for b.Loop() {
			if err := client.HSet(b.Context(), key, "data", data, "created", 1, "expires", 2, "version", "12345678").Err(); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkLockedWrite measures an Acquire followed by a Save.
func BenchmarkLockedWrite(b *testing.B) {
	backend, _ := newBenchBackend(b)
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	rec := session.Record{Data: make([]byte, 700), Created: time.Now(), Expires: time.Now().Add(time.Hour)}
	if _, err := backend.Save(ctx, "k", rec); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		held, err := backend.Acquire(ctx, "k", time.Minute)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := backend.Save(ctx, "k", held); err != nil {
			b.Fatal(err)
		}
	}
}
