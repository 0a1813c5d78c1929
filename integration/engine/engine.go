// Package engine starts a DynamoDB Local for tests: the one at
// DYNAMODB_ENDPOINT, a container, or the jar with Java. It also starts a Redis
// server.
package engine

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"
)

// Engine is a DynamoDB Local, or a Redis server, that is ready.
type Engine struct {
	// Endpoint is its address, "http://host:port".
	Endpoint string

	engine string // "": DynamoDB Local
	way    string
	stop   func() error
}

// String says in one line how the engine was started, and its address.
func (e *Engine) String() string {
	return fmt.Sprintf("%s: %s at %s", cmp.Or(e.engine, "DynamoDB Local"), e.way, e.Endpoint)
}

// Close stops an engine that Start started.
func (e *Engine) Close() error {
	if e.stop == nil {
		return nil
	}
	return e.stop()
}

// Start starts the engine that the environment selects:
//
//   - SESSION_DYNAMODB=endpoint, container or jar forces one way.
//   - Otherwise DYNAMODB_ENDPOINT is used if it is set, a container if a Docker
//     engine answers and can run it, and the jar if not.
//   - SESSION_DYNAMODB_IMAGE names the image of the container.
//
// It writes the reasons for a fallback to log. Without an engine it fails, and the
// error says what to install.
func Start(ctx context.Context, log io.Writer) (*Engine, error) {
	endpoint := os.Getenv("DYNAMODB_ENDPOINT")
	way := os.Getenv("SESSION_DYNAMODB")
	if way == "" && endpoint != "" {
		way = "endpoint"
	}
	switch way {
	case "endpoint":
		if endpoint == "" {
			return nil, fmt.Errorf("SESSION_DYNAMODB=endpoint needs DYNAMODB_ENDPOINT, as in http://127.0.0.1:8000")
		}
		e := &Engine{Endpoint: strings.TrimSuffix(endpoint, "/"), way: "DYNAMODB_ENDPOINT"}
		if err := waitReady(ctx, e.Endpoint, 10*time.Second, nil); err != nil {
			return nil, fmt.Errorf("DYNAMODB_ENDPOINT: %w", err)
		}
		return e, nil
	case "container":
		return startContainer(ctx)
	case "jar":
		return startJar(ctx, log)
	case "":
		e, err := startContainer(ctx)
		if err == nil {
			return e, nil
		}
		fmt.Fprintf(log, "DynamoDB Local: no container, so the jar with Java: %v\n", err)
		e, jarErr := startJar(ctx, log)
		if jarErr != nil {
			return nil, fmt.Errorf("no DynamoDB Local: %w; and no container: %w", jarErr, err)
		}
		return e, nil
	}
	return nil, fmt.Errorf("SESSION_DYNAMODB=%s: want endpoint, container or jar", way)
}

// waitReady returns after a real request was answered. An engine whose storage
// library did not load would still answer a bare GET. ended, which may be nil,
// is called each time and returns a reason to stop waiting.
func waitReady(ctx context.Context, endpoint string, limit time.Duration, ended func() error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit,
		fmt.Errorf("%s did not answer ListTables within %v", endpoint, limit))
	defer cancel()
	for {
		err := listTables(ctx, endpoint)
		if err == nil {
			return nil
		}
		if ended != nil {
			if err := ended(); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func listTables(ctx context.Context, endpoint string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint+"/", strings.NewReader("{}"))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-amz-json-1.0")
	req.Header.Set("X-Amz-Target", "DynamoDB_20120810.ListTables")
	// The engine requires a signature, and does not verify it.
	req.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=local/20200101/us-east-1/dynamodb/aws4_request, SignedHeaders=host, Signature=0")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close() //nolint:errcheck // read to its end below
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("ListTables answered %d: %s", resp.StatusCode, body)
	}
	return nil
}
