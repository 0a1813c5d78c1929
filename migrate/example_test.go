package migrate_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/memory"
	"github.com/seed-a7bee19b/session/migrate"
)

// A server takes sessions from the store that the site had, when they are used.
func ExampleNew() {
	oldBackend, newBackend := &memory.Backend{}, &memory.Backend{} // such as Redis and DynamoDB
	before, err := session.New(oldBackend, session.Config{})
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	cart := session.Key[[]string]{Name: "cart"}
	s := before.Start()
	if err := cart.Set(s, []string{"book"}); err != nil {
		log.Fatal(err)
	}
	if err := s.Save(ctx); err != nil {
		log.Fatal(err)
	}

	backend, err := migrate.New(newBackend, migrate.From(oldBackend, migrate.FromConfig{}), migrate.Config{})
	if err != nil {
		log.Fatal(err)
	}
	manager, err := session.New(backend, session.Config{})
	if err != nil {
		log.Fatal(err)
	}
	moved, err := manager.Open(ctx, s.Token().Reveal()) // as a request with the cookie does
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(cart.Get(moved))
	// Output: [book] <nil>
}

// The rest of the old store moves in bulk, and then it is empty.
func ExampleAll() {
	oldBackend, newBackend := &memory.Backend{}, &memory.Backend{}
	ctx := context.Background()
	now := time.Now()
	for _, key := range []string{"a", "b", "c"} {
		if _, err := oldBackend.Save(ctx, key, session.Record{Created: now, Expires: now.Add(time.Hour)}); err != nil {
			log.Fatal(err)
		}
	}
	report, err := migrate.All(ctx, newBackend, oldBackend, migrate.Options{Rate: 1000})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(report.Moved, "moved,", report.Rest, "left")
	// Output: 3 moved, 0 left
}
