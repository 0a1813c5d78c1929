package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/admin"
	redisstore "github.com/seed-a7bee19b/session/backend/redis"
)

func ExampleNew() {
	client := redis.NewClient(&redis.Options{
		Addr:                  "localhost:6379",
		ReadTimeout:           time.Second,
		ContextTimeoutEnabled: true,
	})
	backend, err := redisstore.New(client, redisstore.Config{Prefix: "shop:session:"})
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
	client := redis.NewClusterClient(&redis.ClusterOptions{
		Addrs:                 []string{"redis-1:6379", "redis-2:6379"},
		ReadTimeout:           time.Second,
		ContextTimeoutEnabled: true,
	})
	backend, err := redisstore.New(client, redisstore.Config{})
	if err != nil {
		log.Fatal(err)
	}
	_ = backend
}

// With Sentinel, the client follows the master.
func ExampleNew_sentinel() {
	client := redis.NewFailoverClient(&redis.FailoverOptions{
		MasterName:            "sessions",
		SentinelAddrs:         []string{"sentinel-1:26379", "sentinel-2:26379", "sentinel-3:26379"},
		ReadTimeout:           time.Second,
		ContextTimeoutEnabled: true,
	})
	backend, err := redisstore.New(client, redisstore.Config{})
	if err != nil {
		log.Fatal(err)
	}
	_ = backend
}

func ExampleConfig() {
	client := redis.NewClient(&redis.Options{})
	_, err := redisstore.New(client, redisstore.Config{Prefix: "{session}:"})
	fmt.Println(err)
	// Output: redisstore: Config.Prefix "{session}:" has a hash tag in braces, which would put all keys on one server of a cluster
}

// In mode Exclusive the Manager does this. It also waits and renews the lease.
func ExampleBackend_Acquire() {
	client := redis.NewClient(&redis.Options{Addr: "localhost:6379"})
	backend, err := redisstore.New(client, redisstore.Config{})
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	rec, err := backend.Acquire(ctx, "key", 10*time.Second)
	var locked *session.LockedError
	switch {
	case errors.As(err, &locked):
		fmt.Println("the session is locked until", locked.Until)
		return
	case err != nil:
		log.Fatal(err)
	}
	rec.Data = append(rec.Data, "more"...)
	if _, err := backend.Save(ctx, "key", rec); err != nil { // writes and unlocks
		log.Fatal(err)
	}
}

// This counts the live sessions and the bytes that they use.
func ExampleBackend_List() {
	client := redis.NewClient(&redis.Options{Addr: "localhost:6379"})
	backend, err := redisstore.New(client, redisstore.Config{})
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
