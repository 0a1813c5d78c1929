package redis_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/admin"
	"github.com/seed-a7bee19b/session/backend/redis"
)

func ExampleNew() {
	client := goredis.NewClient(&goredis.Options{
		Addr:                  "localhost:6379",
		ReadTimeout:           time.Second,
		ContextTimeoutEnabled: true,
	})
	backend, err := redis.New(client, redis.Config{Prefix: "shop:session:"})
	if err != nil {
		log.Fatal(err)
	}
	sessions, err := session.New(backend, session.Config{})
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(http.ListenAndServe(":8080", sessions.Handler(http.DefaultServeMux)))
}

func ExampleNew_cluster() {
	client := goredis.NewClusterClient(&goredis.ClusterOptions{
		Addrs:                 []string{"redis-1:6379", "redis-2:6379"},
		ReadTimeout:           time.Second,
		ContextTimeoutEnabled: true,
	})
	backend, err := redis.New(client, redis.Config{})
	if err != nil {
		log.Fatal(err)
	}
	_ = backend
}

// With Sentinel, the client follows the master.
func ExampleNew_sentinel() {
	client := goredis.NewFailoverClient(&goredis.FailoverOptions{
		MasterName:            "sessions",
		SentinelAddrs:         []string{"sentinel-1:26379", "sentinel-2:26379", "sentinel-3:26379"},
		ReadTimeout:           time.Second,
		ContextTimeoutEnabled: true,
	})
	backend, err := redis.New(client, redis.Config{})
	if err != nil {
		log.Fatal(err)
	}
	_ = backend
}

func ExampleConfig() {
	client := goredis.NewClient(&goredis.Options{})
	_, err := redis.New(client, redis.Config{Prefix: "{session}:"})
	fmt.Println(err)
	// Output: redis: Config.Prefix "{session}:" has a hash tag in braces, which would put all keys on one server of a cluster
}

// The Manager does this in mode Exclusive, and waits, and renews the lease.
func ExampleBackend_Acquire() {
	client := goredis.NewClient(&goredis.Options{Addr: "localhost:6379"})
	backend, err := redis.New(client, redis.Config{})
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	rec, err := backend.Acquire(ctx, "key", 10*time.Second)
	var locked *session.LockedError
	switch {
	case errors.As(err, &locked):
		fmt.Println("somebody holds it until", locked.Until)
		return
	case err != nil:
		log.Fatal(err)
	}
	rec.Data = append(rec.Data, "more"...)
	if _, err := backend.Save(ctx, "key", rec); err != nil { // writes and unlocks
		log.Fatal(err)
	}
}

// How many sessions are live, and how much room they take.
func ExampleBackend_List() {
	client := goredis.NewClient(&goredis.Options{Addr: "localhost:6379"})
	backend, err := redis.New(client, redis.Config{})
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	live, bytes := 0, 0
	_, err = backend.List(ctx, admin.ListOptions{}, func(e admin.Entry) error {
		if !e.Foreign && time.Now().Before(e.Expires) {
			live, bytes = live+1, bytes+e.Size
		}
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(live, "sessions,", bytes, "bytes")
}
