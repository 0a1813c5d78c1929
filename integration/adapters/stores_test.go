package adapters

import (
	"context"
	"crypto/rand"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	goredis "github.com/redis/go-redis/v9"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/dynamodb"
	"github.com/seed-a7bee19b/session/backend/memory"
	redisstore "github.com/seed-a7bee19b/session/backend/redis"
)

// A room is a store of its own. Each call of connect is another client of it.
type room func(t testing.TB) *backend

var stores = []struct {
	name string
	room func(t testing.TB) room
}{
	{"memory", func(testing.TB) room {
		m := &memory.Backend{}
		return func(testing.TB) *backend { return &backend{Backend: m} }
	}},
	{"redis", func(testing.TB) room {
		prefix := rand.Text() + ":"
		return func(t testing.TB) *backend {
			client := goredis.NewClient(&goredis.Options{Addr: server.Endpoint})
			t.Cleanup(func() { client.Close() })
			b, err := redisstore.New(client, redisstore.Config{Prefix: prefix})
			if err != nil {
				t.Fatal(err)
			}
			return &backend{Backend: b}
		}
	}},
	{"dynamodb", func(t testing.TB) room {
		table := "test-" + rand.Text()
		connect := func(t testing.TB) *dynamodb.Backend {
			b, err := dynamodb.New(aws.Config{
				Region:       "us-east-1",
				Credentials:  credentials.NewStaticCredentialsProvider("local", "local", ""),
				BaseEndpoint: aws.String(local.Endpoint),
			}, dynamodb.Config{Table: table, AttemptTimeout: time.Minute})
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
		if err := connect(t).CreateTable(t.Context(), dynamodb.TableOptions{}); err != nil {
			t.Fatal(err)
		}
		return func(t testing.TB) *backend { return &backend{Backend: connect(t)} }
	}},
}

var errDown = errors.New("the store is down")

// backend fails on demand, counts, and remembers the key of the last Save.
type backend struct {
	session.Backend
	down    atomic.Bool
	limit   atomic.Int64 // of Data; 0: none
	saves   atomic.Int64
	touches atomic.Int64
	mu      sync.Mutex
	key     string
}

func (b *backend) failing() error {
	if b.down.Load() {
		return errDown
	}
	return nil
}

func (b *backend) Load(ctx context.Context, key string) (session.Record, error) {
	if err := b.failing(); err != nil {
		return session.Record{}, err
	}
	return b.Backend.Load(ctx, key)
}

func (b *backend) Save(ctx context.Context, key string, rec session.Record) (session.Version, error) {
	if err := b.failing(); err != nil {
		return "", err
	}
	if limit := b.limit.Load(); limit > 0 && int64(len(rec.Data)) > limit {
		return "", session.ErrTooLarge
	}
	b.saves.Add(1)
	b.mu.Lock()
	b.key = key
	b.mu.Unlock()
	return b.Backend.Save(ctx, key, rec)
}

func (b *backend) Touch(ctx context.Context, key string, expires time.Time) error {
	if err := b.failing(); err != nil {
		return err
	}
	b.touches.Add(1)
	return b.Backend.Touch(ctx, key, expires)
}

func (b *backend) Delete(ctx context.Context, key string) error {
	if err := b.failing(); err != nil {
		return err
	}
	return b.Backend.Delete(ctx, key)
}

// last returns the record of the last Save.
func (b *backend) last(t testing.TB) (string, session.Record) {
	t.Helper()
	rec, err := b.Backend.Load(t.Context(), b.key)
	if err != nil {
		t.Fatal(err)
	}
	return b.key, rec
}
