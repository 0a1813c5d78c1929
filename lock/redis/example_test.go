package redis_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/lock/redis"
)

func ExampleNew() {
	client := goredis.NewClient(&goredis.Options{
		Addr:                  "localhost:6379",
		ReadTimeout:           time.Second,
		ContextTimeoutEnabled: true,
	})
	locks, err := redis.New(client, redis.Config{Prefix: "shop:lock:"})
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	lease, err := locks.Acquire(ctx, "key", 10*time.Second)
	var locked *session.LockedError
	switch {
	case errors.As(err, &locked):
		fmt.Println("somebody holds it until", locked.Until)
		return
	case err != nil:
		log.Fatal(err)
	}
	// Work, and call lease.Extend well before 10 s have passed.
	if err := lease.Release(ctx); err != nil {
		log.Print(err)
	}
}
