package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/seed-a7bee19b/session"
	redisstore "github.com/seed-a7bee19b/session/backend/redis"
)

func ExampleNewLocker() {
	client := redis.NewClient(&redis.Options{
		Addr:                  "localhost:6379",
		ReadTimeout:           time.Second,
		ContextTimeoutEnabled: true,
	})
	locker, err := redisstore.NewLocker(client, redisstore.LockerConfig{Prefix: "shop:lock:"})
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	lease, err := locker.Acquire(ctx, "key", 10*time.Second)
	var locked *session.LockedError
	switch {
	case errors.As(err, &locked):
		fmt.Println("the lock is held until", locked.Until)
		return
	case err != nil:
		log.Fatal(err)
	}
	// Work, and call lease.Extend well before 10 s have passed.
	if err := lease.Release(ctx); err != nil {
		log.Print(err)
	}
}
