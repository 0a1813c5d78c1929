package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"

	redisstore "github.com/seed-a7bee19b/session/backend/redis"
)

// redisStore is a store in Redis.
type redisStore struct {
	*redisstore.Backend
	client goredis.UniversalClient
	addr   string
	prefix string
}

var _ store = (*redisStore)(nil)

const defaultRedisURL = "redis://127.0.0.1:6379"

// quietRedis keeps the client from writing to standard error what its errors
// say too.
var quietRedis = sync.OnceFunc(logging.Disable)

func (a *app) openRedis() (*redisStore, error) {
	// The URL may hold a password: what is said of it must not show it.
	from := cmp.Or(a.redisURL, os.Getenv("REDIS_URL"), defaultRedisURL)
	opts, err := goredis.ParseURL(from)
	if err != nil {
		return nil, usageError("the URL of Redis is not of the form redis://user:password@host:port/db")
	}
	opts.ReadTimeout = cmp.Or(opts.ReadTimeout, 2*time.Second)
	opts.WriteTimeout = cmp.Or(opts.WriteTimeout, 2*time.Second)
	opts.ContextTimeoutEnabled = true
	opts.DialerRetries = 1 // commands are tried again anyway
	quietRedis()
	s := &redisStore{addr: opts.Addr, prefix: a.prefix}
	a.redis = s // what explains errors needs it
	if a.redisCluster {
		if opts.DB != 0 {
			return nil, usageError("a Redis cluster has only database 0: remove the %d from the URL", opts.DB)
		}
		s.client = goredis.NewClusterClient(&goredis.ClusterOptions{
			Addrs: []string{opts.Addr}, Username: opts.Username, Password: opts.Password, TLSConfig: opts.TLSConfig,
			ReadTimeout: opts.ReadTimeout, WriteTimeout: opts.WriteTimeout, ContextTimeoutEnabled: true,
		})
	} else {
		s.client = goredis.NewClient(opts)
	}
	if s.Backend, err = redisstore.New(s.client, redisstore.Config{Prefix: a.prefix}); err != nil {
		return nil, &exitError{code: codeUsage, err: err}
	}
	return s, nil
}

func (s *redisStore) String() string {
	return fmt.Sprintf("Redis at %s, prefix %q", s.addr, s.prefix)
}

func (s *redisStore) Close() error { return s.client.Close() }

// About is one DBSIZE, which counts the keys of others too.
func (s *redisStore) About(ctx context.Context) (estimate, error) {
	n, err := s.client.DBSize(ctx).Result()
	return estimate{Records: n}, err
}
