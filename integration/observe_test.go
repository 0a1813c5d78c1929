package integration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/extra/redisotel/v9"
	goredis "github.com/redis/go-redis/v9"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/dynamodb"
	redisstore "github.com/seed-a7bee19b/session/backend/redis"
	"github.com/seed-a7bee19b/session/integration/proxy"
	sessionotel "github.com/seed-a7bee19b/session/observe/otel"
	sessionslog "github.com/seed-a7bee19b/session/observe/slog"
)

// meter has the counts of an Observer.
type meter struct{ reader *metric.ManualReader }

// sum adds up the data points of a metric that have all of the attributes; for a
// histogram, their numbers. An empty value means that there is no such
// attribute.
func (m meter) sum(t *testing.T, name string, attrs ...attribute.KeyValue) float64 {
	t.Helper()
	var rm metricdata.ResourceMetrics
	if err := m.reader.Collect(t.Context(), &rm); err != nil {
		t.Fatal(err)
	}
	var sum float64
	add := func(set attribute.Set, n float64) {
		for _, want := range attrs {
			if got, _ := set.Value(want.Key); got.AsString() != want.Value.AsString() {
				return
			}
		}
		sum += n
	}
	for _, scope := range rm.ScopeMetrics {
		for _, m := range scope.Metrics {
			if m.Name != name {
				continue
			}
			switch d := m.Data.(type) {
			case metricdata.Sum[int64]:
				for _, p := range d.DataPoints {
					add(p.Attributes, float64(p.Value))
				}
			case metricdata.Sum[float64]:
				for _, p := range d.DataPoints {
					add(p.Attributes, p.Value)
				}
			case metricdata.Histogram[int64]:
				for _, p := range d.DataPoints {
					add(p.Attributes, float64(p.Count))
				}
			case metricdata.Histogram[float64]:
				for _, p := range d.DataPoints {
					add(p.Attributes, float64(p.Count))
				}
			}
		}
	}
	return sum
}

// faults decides which requests fail, and counts them.
type faults struct {
	rule proxy.Rule

	mu sync.Mutex
	n  map[string]map[proxy.Fault]int // by operation
}

func (f *faults) decide(r proxy.Request) proxy.Action {
	act := f.rule(r)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.n == nil {
		f.n = map[string]map[proxy.Fault]int{}
	}
	if f.n[r.Op] == nil {
		f.n[r.Op] = map[proxy.Fault]int{}
	}
	f.n[r.Op][act.Fault]++
	return act
}

// TestMetricsAgreeWithTheProxy checks that the metrics agree with the requests
// and units on the wire.
//
// A client cannot see two costs. One is that of a response that was lost, so the
// second run has sessions of one unit each, and the difference is one unit for
// each lost response of a request that was applied. The other is that of a
// refused condition, which the engine reports to the proxy no more than to the
// client.
func TestMetricsAgreeWithTheProxy(t *testing.T) {
	tests := []struct {
		name   string
		note   string // in each session
		shares map[proxy.Fault]float64
	}{
		{"no answer lost", strings.Repeat("x", 2500), map[proxy.Fault]float64{
			proxy.DropRequest: 0.04, proxy.InternalError: 0.04, proxy.Throttle: 0.04,
		}},
		{"answers lost", strings.Repeat("x", 100), map[proxy.Fault]float64{
			proxy.DropRequest: 0.03, proxy.DropResponse: 0.05, proxy.InternalError: 0.03,
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := meter{metric.NewManualReader()}
			observer, err := sessionotel.New(sessionotel.Config{MeterProvider: metric.NewMeterProvider(metric.WithReader(m.reader))})
			if err != nil {
				t.Fatal(err)
			}
			p := newProxy(t)
			dc := newTable(t, dynamodb.Config{})
			dc.OnRequest = observer.Request
			dc.MaxAttempts = 10 // so that no call fails for good
			dc.BackoffBase, dc.MaxBackoff = time.Millisecond, 20*time.Millisecond
			cfg := awsConfig(p.URL())
			cfg.HTTPClient = keptOpen
			backend, err := dynamodb.New(cfg, dc)
			if err != nil {
				t.Fatal(err)
			}
			manager, err := session.New(backend, session.Config{
				Observer: observer, Lock: session.LockConfig{TTL: time.Minute, MaxWait: time.Minute},
			})
			if err != nil {
				t.Fatal(err)
			}
			f := &faults{rule: proxy.Random(seed(t), tt.shares)}
			p.SetRule(f.decide)
			const clients, rounds = 6, 8
			var wg sync.WaitGroup
			for range clients {
				wg.Go(func() {
					for range rounds {
						if err := mixed(t.Context(), manager, tt.note); err != nil {
							t.Error(err)
						}
					}
				})
			}
			wg.Wait()

			counts := p.Counts()
			equal := func(what string, got, want float64) {
				t.Helper()
				if got != want {
					t.Errorf("%s: %v by the metrics, %v by the proxy", what, got, want)
				}
			}
			const requests, units = "db.client.operation.duration", "session.capacity.consumed"
			system := attribute.String("db.system.name", "aws.dynamodb")
			table := attribute.String("db.collection.name", dc.Table)
			var failed, lost float64
			for op, c := range counts {
				name := attribute.String("db.operation.name", op)
				of := func(kind string) float64 {
					return m.sum(t, requests, name, system, table, attribute.String("error.type", kind))
				}
				injected := func(kind proxy.Fault) float64 { return float64(f.n[op][kind]) }
				equal(op, m.sum(t, requests, name, system, table), float64(c.Requests))
				equal(op+" without an answer", of("network"), injected(proxy.DropRequest)+injected(proxy.DropResponse))
				equal(op+" answered with 500", of("InternalServerError"), injected(proxy.InternalError))
				equal(op+" throttled", of("ProvisionedThroughputExceededException"), injected(proxy.Throttle))
				failures := injected(proxy.DropRequest) + injected(proxy.InternalError) + injected(proxy.Throttle)

				// Some of the lost responses said that the condition had failed.
				lostHere := float64(c.Applied) - of("")
				if refusals := injected(proxy.DropResponse) - lostHere; lostHere < 0 || refusals < 0 {
					t.Errorf("%s: of %v lost answers %v were of requests that were applied", op, injected(proxy.DropResponse), lostHere)
				} else {
					equal(op+" refused", of("ConditionalCheckFailedException"), float64(c.Requests-c.Applied)-failures-refusals)
				}
				lost += lostHere
				failed += failures + injected(proxy.DropResponse)

				kind := attribute.String("session.capacity.kind", map[bool]string{true: "read", false: "write"}[op == "GetItem"])
				equal(op+" units", m.sum(t, units, name, system, table, kind), c.Capacity-lostHere)
				equal(op+" units of any kind", m.sum(t, units, name), c.Capacity-lostHere)
			}
			retries := m.sum(t, "session.request.retries")
			outcome := func(s string) attribute.KeyValue { return attribute.String("session.outcome", s) }
			// Each failure except a refusal is tried again: by the backend, or,
			// if it may have created a record, by the Manager under another key.
			equal("retries", retries+m.sum(t, "session.operation.duration", outcome("error")), failed)
			equal("all requests", m.sum(t, requests), float64(total(p).Requests))
			equal("all units", m.sum(t, units), total(p).Capacity-lost)
			if (lost > 0) != (tt.shares[proxy.DropResponse] > 0) {
				t.Errorf("%v lost answers", lost)
			}

			// The known effects of the workload.
			const done = clients * rounds
			equal("created", m.sum(t, "session.creations"), done)
			equal("logged in", m.sum(t, "session.rotations"), done)
			equal("logged out", m.sum(t, "session.destructions"), done)
			equal("merged", m.sum(t, "session.merges"), done)
			equal("locked", m.sum(t, "session.lock.wait", outcome("ok")), done)
			equal("stored", m.sum(t, "session.payload.size"), 5*done)
			equal("unknown tokens", m.sum(t, "session.token.refusals", attribute.String("session.reason", "unknown")), done)
			equal("conflicts", m.sum(t, "session.operation.duration", outcome("conflict")), done)
			t.Logf("%v requests, %v retries, %v units, %v lost answers: %+v", m.sum(t, requests), retries, m.sum(t, units), lost, counts)
		})
	}
}

// mixed is the life of a session: it begins, is read, is changed by two requests
// at once, is locked, logged in and logged out, and is requested again in vain.
func mixed(ctx context.Context, m *session.Manager, text string) error {
	s := m.Start()
	if err := errors.Join(note.Set(s, text), s.Save(ctx), s.Close(ctx)); err != nil {
		return fmt.Errorf("new: %w", err)
	}
	token := s.Token().Reveal()

	s, err := m.Open(ctx, token)
	if err != nil {
		return fmt.Errorf("read: %w", err)
	}
	if err := s.Close(ctx); err != nil {
		return fmt.Errorf("read: %w", err)
	}

	first, err := m.Open(ctx, token)
	if err != nil {
		return fmt.Errorf("write: %w", err)
	}
	second, err := m.Open(ctx, token)
	if err != nil {
		return fmt.Errorf("write: %w", err)
	}
	for _, s := range []*session.Session{first, second} { // the second conflicts
		if err := errors.Join(errOf(visits.Update(s, inc)), s.Save(ctx), s.Close(ctx)); err != nil {
			return fmt.Errorf("write: %w", err)
		}
	}

	exclusive, err := m.With(session.Route{Mode: session.Exclusive})
	if err != nil {
		return err
	}
	if s, err = exclusive.Open(ctx, token); err != nil {
		return fmt.Errorf("lock: %w", err)
	}
	if err := errors.Join(errOf(visits.Update(s, inc)), s.Save(ctx), s.Close(ctx)); err != nil {
		return fmt.Errorf("lock: %w", err)
	}

	if s, err = m.Open(ctx, token); err != nil {
		return fmt.Errorf("log in: %w", err)
	}
	if err := errors.Join(s.Login("ann"), s.Save(ctx)); err != nil {
		return fmt.Errorf("log in: %w", err)
	}
	token = s.Token().Reveal()
	if err := s.Destroy(ctx); err != nil {
		return fmt.Errorf("log out: %w", err)
	}
	if _, err := m.Open(ctx, token); !errors.Is(err, session.ErrNotFound) {
		return fmt.Errorf("after log out: %w", err)
	}
	return nil
}

// TestLogIsQuiet checks that at level Info nothing is logged for ordinary
// outcomes, including conflicts and locks, and that a throttled request is
// logged once, even if the call succeeded.
func TestLogIsQuiet(t *testing.T) {
	var b bytes.Buffer
	o, err := sessionslog.New(slog.New(slog.NewTextHandler(&b, nil)), sessionslog.Config{Slow: session.Never})
	if err != nil {
		t.Fatal(err)
	}
	dc := newTable(t, dynamodb.Config{})
	dc.OnRequest = o.Request
	backend, p := connect(t, dc)
	m, err := session.New(backend, session.Config{Observer: o})
	if err != nil {
		t.Fatal(err)
	}
	if err := mixed(t.Context(), m, "some text"); err != nil {
		t.Fatal(err)
	}
	if b.Len() > 0 {
		t.Errorf("logged:\n%s", &b)
	}
	p.SetRule(proxy.Nth("UpdateItem", 1, proxy.Action{Fault: proxy.Throttle}))
	s := m.Start()
	if err := errors.Join(note.Set(s, "some text"), s.Save(t.Context())); err != nil {
		t.Fatal(err)
	}
	if text := b.String(); strings.Count(text, "\n") != 1 || !strings.Contains(text, "level=WARN") ||
		!strings.Contains(text, "ProvisionedThroughputExceededException") {
		t.Errorf("logged:\n%s", text)
	}
}

// TestSpansOfClientsNest checks that the spans of the DynamoDB and Redis clients
// are children of those of the calls, which are children of the caller's, and
// that they contain no secrets.
func TestSpansOfClientsNest(t *testing.T) {
	tests := []struct {
		name    string
		connect func(t *testing.T, tracers trace.TracerProvider) session.Backend
		client  string // the names of its spans
	}{
		{"DynamoDB", func(t *testing.T, tracers trace.TracerProvider) session.Backend {
			cfg := awsConfig(local.Endpoint)
			cfg.HTTPClient = &http.Client{Transport: otelhttp.NewTransport(keptOpen.Transport, otelhttp.WithTracerProvider(tracers))}
			b, err := dynamodb.New(cfg, newTable(t, dynamodb.Config{}))
			if err != nil {
				t.Fatal(err)
			}
			return b
		}, "HTTP POST"},
		{"Redis", func(t *testing.T, tracers trace.TracerProvider) session.Backend {
			a := redisStore.room(t)
			client := goredis.NewClient(&goredis.Options{Addr: a.URL, ContextTimeoutEnabled: true})
			t.Cleanup(func() { _ = client.Close() })
			if err := redisotel.InstrumentTracing(client, redisotel.WithTracerProvider(tracers), redisotel.WithDBStatement(false)); err != nil {
				t.Fatal(err)
			}
			b, err := redisstore.New(client, redisstore.Config{Prefix: a.Room})
			if err != nil {
				t.Fatal(err)
			}
			return b
		}, "evalsha"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			spans := tracetest.NewSpanRecorder()
			tracers := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))
			observer, err := sessionotel.New(sessionotel.Config{TracerProvider: tracers})
			if err != nil {
				t.Fatal(err)
			}
			var keys []string
			m, err := session.New(tt.connect(t, tracers), session.Config{
				Observer: observer, Mode: session.Exclusive,
				StoreKey: func(token string) string {
					keys = append(keys, "key-of-"+token[:16])
					return keys[len(keys)-1]
				},
			})
			if err != nil {
				t.Fatal(err)
			}
			ctx, root := tracers.Tracer("test").Start(t.Context(), "caller")
			s := m.Start()
			if err := errors.Join(note.Set(s, "what nobody may see"), s.Save(ctx), s.Close(ctx)); err != nil {
				t.Fatal(err)
			}
			if s, err = m.Open(ctx, s.Token().Reveal()); err != nil {
				t.Fatal(err)
			}
			token := s.Token().Reveal()
			if err := errors.Join(s.Close(ctx), s.Destroy(ctx)); err != nil {
				t.Fatal(err)
			}
			root.End()

			byID := map[trace.SpanID]sdktrace.ReadOnlySpan{}
			for _, span := range spans.Ended() {
				byID[span.SpanContext().SpanID()] = span
			}
			calls := map[string]int{} // and the number of spans of the client below them
			for _, span := range byID {
				parent := byID[span.Parent().SpanID()]
				switch {
				case strings.HasPrefix(span.Name(), "session."):
					if parent == nil || parent.Name() != "caller" {
						t.Errorf("%s is not under its caller", span.Name())
					}
				case span.Name() == tt.client:
					if parent == nil || !strings.HasPrefix(parent.Name(), "session.") {
						t.Errorf("%s is not under a call", span.Name())
						continue
					}
					calls[parent.Name()]++
				}
				text := fmt.Sprint(span.Name(), span.Attributes(), span.Events(), span.Status())
				for _, secret := range append(keys, token, "what nobody may see") {
					if strings.Contains(text, secret) {
						t.Errorf("%s has %q in it", span.Name(), secret)
					}
				}
			}
			// The first attempt to end it has the version of the lock that was released.
			want := map[string]int{"session.Save": 1, "session.Acquire": 1, "session.Release": 1, "session.Delete": 2}
			if !maps.Equal(calls, want) {
				t.Errorf("spans of the client by call: %v, want %v", calls, want)
			}
		})
	}
}
