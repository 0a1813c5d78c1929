package dynamodb_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"os"
	"os/signal"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsdynamodb "github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/admin"
	"github.com/seed-a7bee19b/session/backend/dynamodb"
	"github.com/seed-a7bee19b/session/codec/php"
	"github.com/seed-a7bee19b/session/observe"
)

// loadConfig stands for config.LoadDefaultConfig of the SDK's package config,
// which finds the region and the credentials.
func loadConfig(context.Context) (aws.Config, error) { return aws.Config{}, nil }

func ExampleNew() {
	cfg, err := loadConfig(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	backend, err := dynamodb.New(cfg, dynamodb.Config{Table: "my-sessions"})
	if err != nil {
		log.Fatal(err)
	}
	sessions, err := session.New(backend, session.Config{})
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(http.ListenAndServe(":8080", sessions.Handler(http.DefaultServeMux)))
}

// A table that was set up for the session handler of the AWS SDK for PHP, with
// other names, on DynamoDB Local.
func ExampleNewFromClient() {
	cfg, err := loadConfig(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	client := awsdynamodb.NewFromConfig(cfg, func(o *awsdynamodb.Options) {
		o.BaseEndpoint = aws.String("http://127.0.0.1:8000")
	})
	backend, err := dynamodb.NewFromClient(client, dynamodb.Config{
		Table:            "php-sessions",
		KeyAttribute:     "sid",
		ExpiresAttribute: "ttl",
	})
	if err != nil {
		log.Fatal(err)
	}
	_ = backend
}

func ExampleConfig() {
	_, err := dynamodb.New(aws.Config{Region: "eu-west-1", Credentials: aws.AnonymousCredentials{}}, dynamodb.Config{
		DataAttribute:    "value",
		ExpiresAttribute: "value",
	})
	fmt.Println(err)
	// Output: dynamodb: Config.DataAttribute and Config.ExpiresAttribute are both "value"
}

func ExampleBackend_CreateTable() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	cfg, err := loadConfig(ctx)
	if err != nil {
		log.Fatal(err)
	}
	backend, err := dynamodb.New(cfg, dynamodb.Config{})
	if err != nil {
		log.Fatal(err)
	}
	// On-demand, with TTL. This changes nothing if the table exists.
	err = backend.CreateTable(ctx, dynamodb.TableOptions{
		DeletionProtection: true,
		Tags:               map[string]string{"team": "web"},
	})
	if err != nil {
		log.Fatal(err)
	}
}

func ExampleBackend_CheckTable() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	cfg, err := loadConfig(ctx)
	if err != nil {
		log.Fatal(err)
	}
	backend, err := dynamodb.New(cfg, dynamodb.Config{})
	if err != nil {
		log.Fatal(err)
	}
	err = backend.CheckTable(ctx)
	var wrong *dynamodb.TableError
	switch {
	case errors.As(err, &wrong):
		for _, problem := range wrong.Problems {
			fmt.Println("-", problem)
		}
	case err != nil:
		log.Fatal(err)
	}
}

// A Manager in mode Exclusive sends these two requests. The second one also frees
// the lock.
func ExampleBackend_Acquire() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	cfg, err := loadConfig(ctx)
	if err != nil {
		log.Fatal(err)
	}
	backend, err := dynamodb.New(cfg, dynamodb.Config{})
	if err != nil {
		log.Fatal(err)
	}
	const key = "some-key"
	rec, err := backend.Acquire(ctx, key, 5*time.Second)
	var locked *session.LockedError
	switch {
	case errors.As(err, &locked):
		fmt.Println("another request has it until", locked.Until)
		return
	case err != nil:
		log.Fatal(err)
	}
	rec.Data = append(rec.Data, "more"...)
	if _, err := backend.Save(ctx, key, rec); err != nil {
		log.Fatal(err) // session.ErrConflict if the lease ran out and another client took the lock
	}
}

// A sweep for cron, with a budget. If it is interrupted, the next one goes on from
// there.
func ExampleBackend_Sweep() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	cfg, err := loadConfig(ctx)
	if err != nil {
		log.Fatal(err)
	}
	backend, err := dynamodb.New(cfg, dynamodb.Config{})
	if err != nil {
		log.Fatal(err)
	}
	const file = "sweep.checkpoint" // with keys of sessions in it
	checkpoint, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		log.Fatal(err)
	}
	report, err := backend.Sweep(ctx, admin.SweepOptions{
		ReadUnits:  100, // per second
		WriteUnits: 50,
		OnError: func(err error) error {
			log.Print(err)
			return nil // go on
		},
		Resume: checkpoint, // nil: from the beginning
	})
	fmt.Printf("%d of %d deleted, %d failed, for %.0f read and %.0f write units\n",
		report.Deleted, report.Expired, report.Failed, report.ReadUnits, report.WriteUnits)
	if report.Checkpoint == nil {
		_ = os.Remove(file) // it may not be there
	} else if err := os.WriteFile(file, report.Checkpoint, 0o600); err != nil {
		log.Print(err)
	}
	if err != nil {
		log.Fatal(err)
	}
}

func ExampleBackend_List() {
	cfg, err := loadConfig(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	backend, err := dynamodb.New(cfg, dynamodb.Config{})
	if err != nil {
		log.Fatal(err)
	}
	expired := 0
	report, err := backend.List(context.Background(), admin.ListOptions{Segments: 8, ReadUnits: 100}, func(e admin.Entry) error {
		if !e.Foreign && time.Now().After(e.Expires) {
			expired++
		}
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%d of %d have expired\n", expired, report.Scanned)
}

// Log the cost of each request.
func ExampleConfig_onRequest() {
	cfg, err := loadConfig(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	_, err = dynamodb.New(cfg, dynamodb.Config{
		OnRequest: func(_ context.Context, r observe.Request) {
			log.Printf("%s #%d: %v, %.1f RCU, %.1f WCU, %v", r.Name, r.Attempt, r.Duration, r.ReadUnits, r.WriteUnits, r.Err)
		},
	})
	if err != nil {
		log.Fatal(err)
	}
}

// A Manager on a table that a site's pages in PHP go on using, with the session handler
// of the AWS SDK for PHP and php/VersionedConnection.php.
func Example_php() {
	cfg, err := loadConfig(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	backend, err := dynamodb.New(cfg, dynamodb.Config{
		DataType: dynamodb.String, // data_attribute_type of the handler, whose default is "string"
		PHP:      dynamodb.PHPConfig{Connection: dynamodb.VersionedConnection},
	})
	if err != nil {
		log.Fatal(err)
	}
	sessions, err := session.New(backend, session.Config{
		Codec:       php.Codec{User: "user", UTF8: true}, // $_SESSION['user'] is the user
		Cookie:      session.Cookie{Name: "PHPSESSID"},
		Tokens:      dynamodb.PHPTokens(),
		StoreKey:    dynamodb.PHPStoreKey("PHPSESSID"),
		IdleTimeout: 24 * time.Minute, // session_lifetime of the handler
	})
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(http.ListenAndServe(":8080", sessions.Handler(http.DefaultServeMux)))
}
