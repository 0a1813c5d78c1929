package sessionotel_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	tracenoop "go.opentelemetry.io/otel/trace/noop"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/memory"
	"github.com/seed-a7bee19b/session/observe"
	sessionotel "github.com/seed-a7bee19b/session/observe/otel"
)

var (
	ctx      = context.Background()
	errStore = errors.New("store is down")
	visits   = session.Key[int]{Name: "visits"}
)

// sight has an Observer, and everything that it reported.
type sight struct {
	*sessionotel.Observer
	reader *metric.ManualReader
	spans  *tracetest.SpanRecorder
	tracer trace.Tracer // of the program
}

func newSight(t testing.TB, cfg sessionotel.Config) *sight {
	t.Helper()
	s := &sight{reader: metric.NewManualReader(), spans: tracetest.NewSpanRecorder()}
	tracers := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(s.spans))
	s.tracer = tracers.Tracer("program")
	cfg.TracerProvider = tracers
	cfg.MeterProvider = metric.NewMeterProvider(metric.WithReader(s.reader))
	var err error
	if s.Observer, err = sessionotel.New(cfg); err != nil {
		t.Fatal(err)
	}
	return s
}

// values returns all metrics, by name and attributes as in
// "session.merges{a=b}". The value of a histogram is "number sum".
func (s *sight) values(t testing.TB) map[string]string {
	t.Helper()
	var rm metricdata.ResourceMetrics
	if err := s.reader.Collect(ctx, &rm); err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, scope := range rm.ScopeMetrics {
		if scope.Scope.Name != sessionotel.ScopeName {
			t.Errorf("scope %q", scope.Scope.Name)
		}
		for _, m := range scope.Metrics {
			add := func(set attribute.Set, v string) {
				all[m.Name+"{"+set.Encoded(attribute.DefaultEncoder())+"}"] = v
			}
			switch d := m.Data.(type) {
			case metricdata.Sum[int64]:
				for _, p := range d.DataPoints {
					add(p.Attributes, fmt.Sprint(p.Value))
				}
			case metricdata.Sum[float64]:
				for _, p := range d.DataPoints {
					add(p.Attributes, fmt.Sprint(p.Value))
				}
			case metricdata.Gauge[int64]:
				for _, p := range d.DataPoints {
					add(p.Attributes, fmt.Sprint(p.Value))
				}
			case metricdata.Histogram[int64]:
				for _, p := range d.DataPoints {
					add(p.Attributes, fmt.Sprint(p.Count, " ", p.Sum))
				}
			case metricdata.Histogram[float64]:
				for _, p := range d.DataPoints {
					add(p.Attributes, fmt.Sprint(p.Count, " ", p.Sum))
				}
			default:
				t.Errorf("%s is a %T", m.Name, d)
			}
		}
	}
	return all
}

func newManager(t testing.TB, b session.Backend, cfg session.Config) *session.Manager {
	t.Helper()
	m, err := session.New(b, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestConfigIsChecked(t *testing.T) {
	tests := []struct {
		name  string
		attrs []attribute.KeyValue
		want  string // in the error; "": none
	}{
		{"none", nil, ""},
		{"one", []attribute.KeyValue{attribute.String("site", "shop")}, ""},
		{"no key", []attribute.KeyValue{attribute.String("", "x")}, "no key"},
		{"twice", []attribute.KeyValue{attribute.Int("x", 1), attribute.Int("x", 2)}, "twice"},
		{"ours", []attribute.KeyValue{attribute.String("session.outcome", "good")}, "by this package"},
		{"the conventions'", []attribute.KeyValue{attribute.String("db.collection.name", "t")}, "by this package"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o, err := sessionotel.New(sessionotel.Config{Attributes: tt.attrs})
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) || (o == nil) != (err != nil) {
				t.Errorf("got error %v", err)
			}
		})
	}
}

// apiError is like the errors of the AWS SDK.
type apiError struct{ code string }

func (e *apiError) Error() string     { return "api error " + e.code }
func (e *apiError) ErrorCode() string { return e.code }

func TestOutcomes(t *testing.T) {
	throttled := fmt.Errorf("dynamodb: 4 attempts: %w", &apiError{"ThrottlingException"})
	tests := []struct {
		name string
		err  error
		want string // session.outcome, and error.type
	}{
		{"success", nil, "ok"},
		{"absent", fmt.Errorf("load: %w", session.ErrNotFound), "not_found"},
		{"conflict", &session.ConflictError{}, "conflict"},
		{"conflict with nothing", &session.ConflictError{Gone: true}, "not_found"},
		{"locked", &session.LockedError{}, "locked"},
		{"caller gone", fmt.Errorf("load: %w", context.Canceled), "canceled"},
		{"no answer in time", context.DeadlineExceeded, "error timeout"},
		{"too large", session.ErrTooLarge, "error too_large"},
		{"not ours", session.ErrDecode, "error decode"},
		{"throttled", throttled, "error ThrottlingException"},
		{"throttled for long", fmt.Errorf("%w: %w", context.DeadlineExceeded, throttled), "error ThrottlingException"},
		{"code without words", &apiError{}, "error _OTHER"},
		{"refused connection", &net.OpError{Op: "dial", Err: errors.New("refused")}, "error network"},
		{"closed connection", fmt.Errorf("read: %w", io.EOF), "error network"},
		{"name server too slow", &net.DNSError{IsTimeout: true}, "error timeout"},
		{"anything", errStore, "error _OTHER"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newSight(t, sessionotel.Config{Attributes: []attribute.KeyValue{attribute.String("site", "shop")}})
			_, done := s.Call(ctx, observe.OpSave)
			done(tt.err)
			outcome, kind, isError := strings.Cut(tt.want, " ")

			attrs := "session.operation=Save,session.outcome=" + outcome + ",site=shop"
			if isError {
				attrs = "error.type=" + kind + "," + attrs
			}
			got := s.values(t)
			if v := got["session.operation.duration{"+attrs+"}"]; len(got) != 1 || !strings.HasPrefix(v, "1 ") {
				t.Errorf("got %v, want one with %s", got, attrs)
			}

			span := s.spans.Ended()[0]
			want := []attribute.KeyValue{attribute.String("site", "shop"), attribute.String("session.outcome", outcome)}
			status := sdktrace.Status{}
			if isError {
				want = append(want, attribute.String("error.type", kind))
				status = sdktrace.Status{Code: codes.Error, Description: tt.err.Error()}
			}
			if span.Name() != "session.Save" || span.SpanKind() != trace.SpanKindInternal ||
				!slices.Equal(span.Attributes(), want) || span.Status() != status {
				t.Errorf("got span %s, %v, %v, %+v", span.Name(), span.SpanKind(), span.Attributes(), span.Status())
			}
		})
	}
}

func TestEvents(t *testing.T) {
	const size = "session.payload.size{}"
	noLock := fmt.Errorf("%w: %w", session.ErrLockTimeout, session.ErrLocked)
	tests := []struct {
		event observe.Event
		want  map[string]string
	}{
		{observe.Event{Kind: observe.EventTokenMalformed}, map[string]string{"session.token.refusals{session.reason=malformed}": "1"}},
		{observe.Event{Kind: observe.EventTokenUnknown}, map[string]string{"session.token.refusals{session.reason=unknown}": "1"}},
		{observe.Event{Kind: observe.EventTokenMoved}, map[string]string{"session.token.refusals{session.reason=moved}": "1"}},
		{observe.Event{Kind: observe.EventSessionExpired}, map[string]string{"session.expirations{}": "1"}},
		{observe.Event{Kind: observe.EventUndecodable, Err: errStore}, map[string]string{"session.decode.failures{}": "1"}},
		{observe.Event{Kind: observe.EventSessionCreated, N: 700}, map[string]string{"session.creations{}": "1", size: "1 700"}},
		{observe.Event{Kind: observe.EventSessionSaved, N: 700}, map[string]string{size: "1 700"}},
		{observe.Event{Kind: observe.EventSessionRotated, N: 700}, map[string]string{"session.rotations{}": "1", size: "1 700"}},
		{observe.Event{Kind: observe.EventSessionDestroyed}, map[string]string{"session.destructions{}": "1"}},
		{observe.Event{Kind: observe.EventMerged, N: 3}, map[string]string{"session.merges{}": "1"}},
		{observe.Event{Kind: observe.EventTouchSkipped}, map[string]string{"session.touch.savings{}": "1"}},
		{observe.Event{Kind: observe.EventTouchFailed, Err: errStore}, map[string]string{"session.touch.failures{}": "1"}},
		{
			observe.Event{Kind: observe.EventCommitFailed, Err: fmt.Errorf("%w: %w", session.ErrLockLost, &session.ConflictError{Gone: true})},
			map[string]string{"session.commit.failures{error.type=lock_lost,session.late=false}": "1"},
		},
		{
			observe.Event{Kind: observe.EventLateFailed, Err: session.ErrTooLate},
			map[string]string{"session.commit.failures{error.type=too_late,session.late=true}": "1"},
		},
		{observe.Event{Kind: observe.EventLockAcquired, Wait: time.Second}, map[string]string{"session.lock.wait{session.outcome=ok}": "1 1"}},
		{
			observe.Event{Kind: observe.EventLockFailed, Wait: time.Second, Err: noLock},
			map[string]string{"session.lock.wait{error.type=lock_timeout,session.outcome=error}": "1 1"},
		},
		{
			observe.Event{Kind: observe.EventLockFailed, Wait: time.Second, Err: errStore},
			map[string]string{"session.lock.wait{error.type=_OTHER,session.outcome=error}": "1 1"},
		},
		{
			observe.Event{Kind: observe.EventLockFailed, Wait: time.Second, Err: session.ErrNotFound},
			map[string]string{"session.lock.wait{session.outcome=not_found}": "1 1"},
		},
		{
			observe.Event{Kind: observe.EventLockFailed, Wait: time.Second, Err: context.Canceled},
			map[string]string{"session.lock.wait{session.outcome=canceled}": "1 1"},
		},
		{observe.Event{Kind: observe.EventLockLost, Err: errStore}, map[string]string{"session.lock.losses{}": "1"}},
		{observe.Event{Kind: observe.EventTokenDuplicate, N: 2}, map[string]string{"session.token.duplicates{}": "1"}},
		{observe.Event{Kind: observe.EventSessionsRevoked, N: 2}, map[string]string{"session.revocations{}": "1"}},
		{observe.Event{Kind: observe.EventTokenRenewed}, map[string]string{"session.renewal.follows{}": "1"}},
		{observe.Event{Kind: observe.EventRenewFailed, Err: errStore}, map[string]string{"session.renewal.failures{}": "1"}},
		{observe.Event{Kind: observe.EventLoginJoined}, map[string]string{"session.login.joins{}": "1"}},
		{observe.Event{Kind: 99, N: 3}, map[string]string{}}, // of a later version
	}
	seen := map[observe.EventKind]bool{}
	for _, tt := range tests {
		t.Run(fmt.Sprint(tt.event.Kind, " ", tt.event.Err), func(t *testing.T) {
			s := newSight(t, sessionotel.Config{})
			s.Event(ctx, tt.event)
			wantValues(t, s.values(t), tt.want)
			seen[tt.event.Kind] = true
		})
	}
	for k := observe.EventKind(1); !strings.HasPrefix(k.String(), "EventKind("); k++ {
		if !seen[k] {
			t.Errorf("%v is not tested, and so perhaps not counted", k)
		}
	}
}

func wantValues(t *testing.T, got, want map[string]string) {
	t.Helper()
	for name, v := range got {
		if want[name] != v {
			t.Errorf("%s is %s, want %q", name, v, want[name])
		}
	}
	for name, v := range want {
		if _, ok := got[name]; !ok {
			t.Errorf("no %s, want %s", name, v)
		}
	}
}

func TestRequests(t *testing.T) {
	s := newSight(t, sessionotel.Config{})
	for _, r := range []observe.Request{
		{Name: "GetItem", Table: "sessions", Attempt: 1, Duration: time.Second, Err: &apiError{"InternalServerError"}},
		{Name: "GetItem", Table: "sessions", Attempt: 2, Duration: time.Second, ReadUnits: 0.5},
		{Name: "GetItem", Table: "sessions", Attempt: 1, Duration: 2 * time.Second, ReadUnits: 1},
		{Name: "UpdateItem", Table: "sessions", Attempt: 1, Duration: time.Second, Err: &apiError{"ConditionalCheckFailedException"}, Refused: true},
		{Name: "UpdateItem", Table: "sessions", Attempt: 1, Duration: time.Second, WriteUnits: 2},
		{Name: "Ping", Attempt: 1, Err: context.Canceled},
	} {
		s.Request(ctx, r)
	}
	const get, update = "db.collection.name=sessions,db.operation.name=GetItem,db.system.name=aws.dynamodb",
		"db.collection.name=sessions,db.operation.name=UpdateItem,db.system.name=aws.dynamodb"
	wantValues(t, s.values(t), map[string]string{
		"db.client.operation.duration{" + get + "}":                                                            "2 3",
		"db.client.operation.duration{" + get + ",error.type=InternalServerError}":                             "1 1",
		"db.client.operation.duration{" + update + "}":                                                         "1 1",
		"db.client.operation.duration{" + update + ",error.type=ConditionalCheckFailedException}":              "1 1",
		"db.client.operation.duration{db.operation.name=Ping,db.system.name=aws.dynamodb,error.type=canceled}": "1 0",
		"session.request.retries{" + get + "}":                                                                 "1",
		"session.capacity.consumed{" + get + ",session.capacity.kind=read}":                                    "1.5",
		"session.capacity.consumed{" + update + ",session.capacity.kind=write}":                                "2",
	})
}

// traced is a backend whose client makes spans, like the AWS SDK or go-redis.
type traced struct {
	memory.Backend
	tracer trace.Tracer
}

func (b *traced) Load(ctx context.Context, key string) (session.Record, error) {
	ctx, span := b.tracer.Start(ctx, "GET", trace.WithSpanKind(trace.SpanKindClient))
	defer span.End()
	return b.Backend.Load(ctx, key)
}

// TestSpansNest checks that the request's span is the parent of those of the
// calls, and these of those of the client.
func TestSpansNest(t *testing.T) {
	s := newSight(t, sessionotel.Config{})
	b := &traced{tracer: s.tracer}
	m := newManager(t, b, session.Config{Observer: s})
	x := m.Start()
	check(t, visits.Set(x, 1))
	check(t, x.Save(ctx))
	h := m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		x, err := m.Get(r.Context())
		if err == nil {
			err = visits.Set(x, 2)
		}
		check(t, err)
	}))
	before := len(s.spans.Ended())
	root, span := s.tracer.Start(ctx, "GET /")
	r := httptest.NewRequestWithContext(root, "GET", "/", nil)
	r.AddCookie(&http.Cookie{Name: "__Host-session", Value: x.Token().Reveal()})
	h.ServeHTTP(httptest.NewRecorder(), r)
	span.End()
	parents := map[string]string{}
	names := map[trace.SpanID]string{}
	ended := s.spans.Ended()[before:]
	for _, span := range ended {
		names[span.SpanContext().SpanID()] = span.Name()
	}
	for _, span := range ended {
		parents[span.Name()] = names[span.Parent().SpanID()]
	}
	want := map[string]string{"GET /": "", "session.Load": "GET /", "GET": "session.Load", "session.Save": "GET /"}
	for name, parent := range want {
		if got, ok := parents[name]; !ok || got != parent {
			t.Errorf("%s is under %q, want %q", name, got, parent)
		}
	}
	if len(parents) != len(want) {
		t.Errorf("got %v", parents)
	}
}

// TestManager counts the events of a Manager on memory.
func TestManager(t *testing.T) {
	var b memory.Backend
	s := newSight(t, sessionotel.Config{Active: func(context.Context) (int64, error) { return int64(b.Len()), nil }})
	m := newManager(t, &b, session.Config{Observer: s})
	x := m.Start()
	check(t, visits.Set(x, 1))
	check(t, x.Save(ctx))
	token := x.Token().Reveal()
	first, err := m.Open(ctx, token)
	check(t, err)
	second, err := m.Open(ctx, token)
	check(t, err)
	check(t, visits.Set(first, 2))
	check(t, visits.Set(second, 3))
	check(t, first.Save(ctx))
	check(t, second.Save(ctx))
	check(t, second.Login("ann"))
	check(t, second.Save(ctx))
	check(t, second.Destroy(ctx))

	got := s.values(t)
	for name, v := range got {
		if strings.HasPrefix(name, "session.operation.duration") || strings.HasPrefix(name, "session.payload.size") {
			got[name], _, _ = strings.Cut(v, " ") // the number
		}
	}
	const calls = "session.operation.duration{session.operation="
	wantValues(t, got, map[string]string{
		calls + "Save,session.outcome=ok}":       "5",
		calls + "Save,session.outcome=conflict}": "1",
		calls + "Load,session.outcome=ok}":       "2",
		calls + "Delete,session.outcome=ok}":     "1",
		"session.creations{}":                    "1",
		"session.rotations{}":                    "1",
		"session.destructions{}":                 "1",
		"session.merges{}":                       "1",
		"session.payload.size{}":                 "4",
		"session.active{}":                       "1", // the marker of the old ID
	})
	check(t, s.Close())
	check(t, s.Close())
	if v, ok := s.values(t)["session.active{}"]; ok {
		t.Errorf("after Close there are %s active sessions", v)
	}
}

func TestActiveFails(t *testing.T) {
	reader := metric.NewManualReader()
	o, err := sessionotel.New(sessionotel.Config{
		MeterProvider: metric.NewMeterProvider(metric.WithReader(reader)),
		Active:        func(context.Context) (int64, error) { return 7, errStore },
	})
	check(t, err)
	o.Event(ctx, observe.Event{Kind: observe.EventSessionDestroyed})
	var rm metricdata.ResourceMetrics
	if err := reader.Collect(ctx, &rm); !errors.Is(err, errStore) {
		t.Errorf("got error %v", err)
	}
	for _, m := range rm.ScopeMetrics[0].Metrics {
		if g, ok := m.Data.(metricdata.Gauge[int64]); ok && len(g.DataPoints) > 0 {
			t.Errorf("got %+v", m)
		}
	}
	check(t, o.Close())
}

// TestCanceledContextCounts checks that the metrics of a request whose client is
// gone are not lost.
func TestCanceledContextCounts(t *testing.T) {
	s := newSight(t, sessionotel.Config{})
	ctx, cancel := context.WithCancel(ctx)
	_, done := s.Call(ctx, observe.OpLoad)
	cancel()
	done(ctx.Err())
	s.Event(ctx, observe.Event{Kind: observe.EventLockLost, Err: errStore})
	s.Request(ctx, observe.Request{Name: "GetItem", Err: ctx.Err()})
	if got := s.values(t); len(got) != 3 {
		t.Errorf("got %v", got)
	}
}

// TestLaterOperation uses an Op that this package does not know yet.
func TestLaterOperation(t *testing.T) {
	s := newSight(t, sessionotel.Config{})
	for _, op := range []observe.Op{0, 99} {
		_, done := s.Call(ctx, op)
		done(nil)
	}
	if got := s.values(t); len(got) != 2 {
		t.Errorf("got %v", got)
	}
	if got := s.spans.Ended(); got[1].Name() != "session.Op(99)" {
		t.Errorf("got %v", got)
	}
}

// BenchmarkRequest is a request that reads and saves a session in memory, with
// and without an Observer.
func BenchmarkRequest(b *testing.B) {
	observers := []struct {
		name string
		make func() (sessionotel.Config, bool)
	}{
		{"none", func() (sessionotel.Config, bool) { return sessionotel.Config{}, false }},
		{"noop", func() (sessionotel.Config, bool) {
			return sessionotel.Config{TracerProvider: tracenoop.NewTracerProvider(), MeterProvider: metricnoop.NewMeterProvider()}, true
		}},
		{"metrics", func() (sessionotel.Config, bool) {
			return sessionotel.Config{
				TracerProvider: tracenoop.NewTracerProvider(),
				MeterProvider:  metric.NewMeterProvider(metric.WithReader(metric.NewManualReader())),
			}, true
		}},
		{"metrics and unsampled spans", func() (sessionotel.Config, bool) {
			return sessionotel.Config{
				TracerProvider: sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.NeverSample())),
				MeterProvider:  metric.NewMeterProvider(metric.WithReader(metric.NewManualReader())),
			}, true
		}},
		{"metrics and spans", func() (sessionotel.Config, bool) {
			return sessionotel.Config{
				TracerProvider: sdktrace.NewTracerProvider(),
				MeterProvider:  metric.NewMeterProvider(metric.WithReader(metric.NewManualReader())),
			}, true
		}},
	}
	for _, tt := range observers {
		b.Run(tt.name, func(b *testing.B) {
			var cfg session.Config
			if c, ok := tt.make(); ok {
				o, err := sessionotel.New(c)
				check(b, err)
				cfg.Observer = o
			}
			m := newManager(b, &memory.Backend{}, cfg)
			x := m.Start()
			check(b, visits.Set(x, 1))
			check(b, x.Save(ctx))
			token := x.Token().Reveal()
			b.ReportAllocs()
			for b.Loop() {
				x, err := m.Open(ctx, token)
				check(b, err)
				check(b, errOf(visits.Update(x, func(n int) int { return n + 1 })))
				check(b, errors.Join(x.Save(ctx), x.Close(ctx)))
			}
		})
	}
}

// BenchmarkBackendRequest measures the report of one request of a backend.
func BenchmarkBackendRequest(b *testing.B) {
	s := newSight(b, sessionotel.Config{})
	b.ReportAllocs()
	for b.Loop() {
		s.Request(ctx, observe.Request{Name: "GetItem", Table: "sessions", Attempt: 1, Duration: time.Millisecond, ReadUnits: 1})
	}
}

// errOf returns the error of a call that also returns a value.
func errOf[T any](_ T, err error) error { return err }
