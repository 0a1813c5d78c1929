package sessionotel_test

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/dynamodb"
	"github.com/seed-a7bee19b/session/backend/memory"
	"github.com/seed-a7bee19b/session/observe"
	sessionotel "github.com/seed-a7bee19b/session/observe/otel"
	sessionslog "github.com/seed-a7bee19b/session/observe/slog"
)

// loadConfig stands for config.LoadDefaultConfig of the AWS SDK.
func loadConfig(context.Context) (aws.Config, error) { return aws.Config{}, nil }

// The DynamoDB backend reports its requests, with their cost. For spans of them
// as well, give cfg an HTTPClient with the Transport of otelhttp.
func ExampleObserver_Request() {
	cfg, err := loadConfig(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	observer, err := sessionotel.New(sessionotel.Config{})
	if err != nil {
		log.Fatal(err)
	}
	backend, err := dynamodb.New(cfg, dynamodb.Config{OnRequest: observer.Request})
	if err != nil {
		log.Fatal(err)
	}
	manager, err := session.New(backend, session.Config{Observer: observer})
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(http.ListenAndServe(":8080", manager.Handler(http.DefaultServeMux)))
}

// With the global providers, the zero Config suffices. Sessions in memory can be
// counted.
func ExampleNew() {
	var backend memory.Backend
	reader := metric.NewManualReader() // in a program an exporter
	observer, err := sessionotel.New(sessionotel.Config{
		MeterProvider: metric.NewMeterProvider(metric.WithReader(reader)),
		Active:        func(context.Context) (int64, error) { return int64(backend.Len()), nil },
	})
	if err != nil {
		log.Fatal(err)
	}
	defer observer.Close()
	manager, err := session.New(&backend, session.Config{Observer: observer})
	if err != nil {
		log.Fatal(err)
	}

	ctx := context.Background()
	s := manager.Start()
	_ = s.Set("x", 1)
	_ = s.Save(ctx)

	var rm metricdata.ResourceMetrics
	_ = reader.Collect(ctx, &rm)
	for _, m := range rm.ScopeMetrics[0].Metrics {
		fmt.Println(m.Name, m.Unit)
	}
	// Output:
	// session.operation.duration s
	// session.payload.size By
	// session.creations {session}
	// session.active {session}
}

// Spans and metrics, and a log whose lines belong to the spans: so the observer
// that traces comes first.
func ExampleNew_withLog() {
	traces, err := sessionotel.New(sessionotel.Config{})
	if err != nil {
		log.Fatal(err)
	}
	logs, err := sessionslog.New(slog.Default(), sessionslog.Config{})
	if err != nil {
		log.Fatal(err)
	}
	manager, err := session.New(&memory.Backend{}, session.Config{Observer: observe.Observers{traces, logs}})
	if err != nil {
		log.Fatal(err)
	}
	http.Handle("/", manager.Handler(http.NotFoundHandler()))
}
