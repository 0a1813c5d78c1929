package integration

import (
	"context"
	"crypto/rand"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sdk "github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/dynamodb"
	"github.com/seed-a7bee19b/session/integration/proxy"
)

// awsConfig is the configuration that an application would load from its
// environment.
func awsConfig(endpoint string) aws.Config {
	return aws.Config{
		Region:       "us-east-1",
		Credentials:  credentials.NewStaticCredentialsProvider("local", "local", ""),
		BaseEndpoint: aws.String(endpoint),
	}
}

// client connects to the engine directly, without a proxy.
func client() *sdk.Client { return sdk.NewFromConfig(awsConfig(local.Endpoint)) }

func newProxy(t testing.TB) *proxy.Proxy {
	t.Helper()
	p, err := proxy.New(local.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// tableName returns the name of a table that is deleted with the test.
func tableName(t testing.TB) string {
	t.Helper()
	name := "test-" + rand.Text()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		// It is no error if the table was never made.
		_, _ = client().DeleteTable(ctx, &sdk.DeleteTableInput{TableName: &name})
	})
	return name
}

// newTable makes a table and returns c with its name. On a busy machine the
// engine may stall for seconds, which is not a fault under test: unless c says
// otherwise, an attempt may take long.
func newTable(t testing.TB, c dynamodb.Config) dynamodb.Config {
	t.Helper()
	c.Table = tableName(t)
	if c.AttemptTimeout == 0 {
		c.AttemptTimeout = time.Minute
	}
	b, err := dynamodb.NewFromClient(client(), c)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.CreateTable(t.Context(), dynamodb.TableOptions{}); err != nil {
		t.Fatal(err)
	}
	return c
}

// connect returns a backend and the proxy between it and the engine.
func connect(t testing.TB, c dynamodb.Config) (*dynamodb.Backend, *proxy.Proxy) {
	t.Helper()
	p := newProxy(t)
	b, err := dynamodb.New(awsConfig(p.URL()), c)
	if err != nil {
		t.Fatal(err)
	}
	return b, p
}

// key is the key of most tests, each in a table of its own.
const key = "key"

func record(data string) session.Record {
	now := time.Now()
	return session.Record{Data: []byte(data), Created: now, Expires: now.Add(time.Hour)}
}

func replacing(rec session.Record, v session.Version) session.Record {
	rec.Version = v
	return rec
}

func save(t testing.TB, b session.Backend, key string, rec session.Record) session.Version {
	t.Helper()
	v, err := b.Save(t.Context(), key, rec)
	if err != nil {
		t.Fatalf("Save: %v", err)
	}
	return v
}

func load(t testing.TB, b session.Backend, key string) session.Record {
	t.Helper()
	rec, err := b.Load(t.Context(), key)
	if err != nil {
		t.Fatalf("Load: %v", err)
	}
	return rec
}
