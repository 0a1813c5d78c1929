package sessionotel

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/observe"
)

// ScopeName is the name of the instrumentation scope.
const ScopeName = "github.com/seed-a7bee19b/session/observe/otel"

// DefaultSystem is the default of [Config.System].
const DefaultSystem = "aws.dynamodb"

// Config configures an [Observer]. The zero value is a good default.
type Config struct {
	// TracerProvider makes the spans. Default: the global provider. One of
	// package go.opentelemetry.io/otel/trace/noop turns them off.
	TracerProvider trace.TracerProvider

	// MeterProvider makes the metrics. Default: the global provider. One of
	// package go.opentelemetry.io/otel/metric/noop turns them off.
	MeterProvider metric.MeterProvider

	// System is the db.system.name of the requests, from the semantic
	// conventions. Default [DefaultSystem], because the DynamoDB backend reports
	// its requests.
	System string

	// Attributes are added to all spans and metrics, to tell several Managers
	// of a process apart. They must not include attributes that this package
	// sets.
	Attributes []attribute.KeyValue

	// Active, if set, returns the number of sessions, for a backend that knows
	// it, such as Len of package memory. It is called at each collection of the
	// metrics, until [Observer.Close]. If it fails, that collection has no value.
	Active func(context.Context) (int64, error)
}

// Observer is an [observe.Observer] for OpenTelemetry. Make it with [New].
type Observer struct {
	tracer     trace.Tracer
	attributes []attribute.KeyValue
	system     attribute.KeyValue
	calls      [len(operations)]call
	active     metric.Registration

	mu       sync.RWMutex
	requests map[target]*request

	instruments
}

type instruments struct {
	requestDuration metric.Float64Histogram
	capacity        metric.Float64Counter
	retries         metric.Int64Counter
	callDuration    metric.Float64Histogram
	lockWait        metric.Float64Histogram
	payload         metric.Int64Histogram
	commitFailures  metric.Int64Counter

	// events has the counters of the events that only increment one counter.
	events map[observe.EventKind]counter
	// waits has the ordinary outcomes of waiting for a lock.
	waits [failed][]metric.RecordOption
	// fixed has the attributes of the Config.
	fixed []metric.RecordOption
}

// counter is an instrument with its attributes.
type counter struct {
	metric.Int64Counter
	opts []metric.AddOption
}

// operations are the calls whose spans and attributes are made in advance. An Op
// of a later version works too, but costs a bit more.
var operations = [...]observe.Op{
	observe.OpLoad, observe.OpSave, observe.OpTouch, observe.OpDelete,
	observe.OpAcquire, observe.OpExtend, observe.OpRelease, observe.OpSweep,
}

// call is an operation of the store.
type call struct {
	op       observe.Op
	span     string
	start    []trace.SpanStartOption
	ordinary [failed][]metric.RecordOption
}

// outcome is the outcome of a call.
type outcome int

const (
	succeeded outcome = iota
	notFound
	conflict
	locked
	canceled
	failed // the last one; only it has an error.type
)

var outcomes = [...]attribute.KeyValue{
	succeeded: outcomeKey.String("ok"),
	notFound:  outcomeKey.String("not_found"),
	conflict:  outcomeKey.String("conflict"),
	locked:    outcomeKey.String("locked"),
	canceled:  outcomeKey.String("canceled"),
	failed:    outcomeKey.String("error"),
}

const (
	operationKey = attribute.Key("session.operation")
	outcomeKey   = attribute.Key("session.outcome")
	capacityKey  = attribute.Key("session.capacity.kind")
	reasonKey    = attribute.Key("session.reason")
	lateKey      = attribute.Key("session.late")
)

// The boundaries of the histograms. Those of requests are recommended by the
// semantic conventions.
var (
	requestSeconds = []float64{0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10}
	callSeconds    = []float64{0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10}
	waitSeconds    = []float64{0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30}
	// These include the sizes at which DynamoDB takes another unit for a write
	// or a read, and the largest item.
	payloadBytes = []float64{128, 256, 512, 1 << 10, 2 << 10, 4 << 10, 8 << 10, 16 << 10, 32 << 10, 64 << 10, 128 << 10, 256 << 10, 400 << 10, 1 << 20}
)

// New returns an Observer, or an error if cfg is invalid.
func New(cfg Config) (*Observer, error) {
	if cfg.TracerProvider == nil {
		cfg.TracerProvider = otel.GetTracerProvider()
	}
	if cfg.MeterProvider == nil {
		cfg.MeterProvider = otel.GetMeterProvider()
	}
	if cfg.System == "" {
		cfg.System = DefaultSystem
	}
	seen := map[attribute.Key]bool{}
	for _, a := range cfg.Attributes {
		switch {
		case !a.Valid():
			return nil, errors.New("sessionotel: Config.Attributes: an attribute has no key")
		case seen[a.Key]:
			return nil, fmt.Errorf("sessionotel: Config.Attributes: %q occurs twice", a.Key)
		case ours(a.Key):
			return nil, fmt.Errorf("sessionotel: Config.Attributes: %q is set by this package", a.Key)
		}
		seen[a.Key] = true
	}
	o := &Observer{
		tracer:     cfg.TracerProvider.Tracer(ScopeName, trace.WithSchemaURL(semconv.SchemaURL)),
		attributes: slices.Clone(cfg.Attributes),
		system:     semconv.DBSystemNameKey.String(cfg.System),
		requests:   map[target]*request{},
	}
	for i, op := range operations {
		o.calls[i] = o.newCall(op)
	}
	if err := o.instrument(cfg.MeterProvider.Meter(ScopeName, metric.WithSchemaURL(semconv.SchemaURL)), cfg.Active); err != nil {
		return nil, fmt.Errorf("sessionotel: %w", err)
	}
	return o, nil
}

func ours(k attribute.Key) bool {
	switch k {
	case operationKey, outcomeKey, capacityKey, reasonKey, lateKey,
		semconv.DBSystemNameKey, semconv.DBOperationNameKey, semconv.DBCollectionNameKey, semconv.ErrorTypeKey:
		return true
	}
	return false
}

func (o *Observer) instrument(m metric.Meter, active func(context.Context) (int64, error)) error {
	var errs []error
	histogram := func(name, unit, description string, boundaries []float64) metric.Float64Histogram {
		h, err := m.Float64Histogram(name, metric.WithUnit(unit), metric.WithDescription(description),
			metric.WithExplicitBucketBoundaries(boundaries...))
		errs = append(errs, err)
		return h
	}
	count := func(name, unit, description string) metric.Int64Counter {
		c, err := m.Int64Counter(name, metric.WithUnit(unit), metric.WithDescription(description))
		errs = append(errs, err)
		return c
	}
	var err error
	o.requestDuration = histogram("db.client.operation.duration", "s", "Duration of database client operations.", requestSeconds)
	o.capacity, err = m.Float64Counter("session.capacity.consumed", metric.WithUnit("{capacity_unit}"),
		metric.WithDescription("Capacity units that the store charged."))
	errs = append(errs, err)
	o.retries = count("session.request.retries", "{request}", "Requests that were sent again.")
	o.callDuration = histogram("session.operation.duration", "s", "Duration of calls of the store, including retries.", callSeconds)
	o.lockWait = histogram("session.lock.wait", "s", "How long requests waited for a lock.", waitSeconds)
	o.payload, err = m.Int64Histogram("session.payload.size", metric.WithUnit("By"),
		metric.WithDescription("Size of encoded sessions as they are stored."), metric.WithExplicitBucketBoundaries(payloadBytes...))
	errs = append(errs, err)
	o.commitFailures = count("session.commit.failures", "{request}", "Requests whose session could not be saved.")

	refusals := count("session.token.refusals", "{token}", "Tokens of requests for which there was no session.")
	simple := func(name, unit, description string) counter {
		return counter{count(name, unit, description), o.add()}
	}
	o.events = map[observe.EventKind]counter{
		observe.EventTokenMalformed:   {refusals, o.add(reasonKey.String("malformed"))},
		observe.EventTokenUnknown:     {refusals, o.add(reasonKey.String("unknown"))},
		observe.EventTokenMoved:       {refusals, o.add(reasonKey.String("moved"))},
		observe.EventSessionExpired:   simple("session.expirations", "{session}", "Sessions that were found past their deadline."),
		observe.EventUndecodable:      simple("session.decode.failures", "{session}", "Stored sessions that do not decode."),
		observe.EventSessionCreated:   simple("session.creations", "{session}", "New sessions that were stored."),
		observe.EventSessionRotated:   simple("session.rotations", "{session}", "Sessions that got a new ID."),
		observe.EventSessionDestroyed: simple("session.destructions", "{session}", "Sessions that were destroyed."),
		observe.EventMerged:           simple("session.merges", "{save}", "Saves that succeeded after a conflict."),
		observe.EventTouchSkipped:     simple("session.touch.savings", "{write}", "Writes of a deadline that the touch interval avoided."),
		observe.EventTouchFailed:      simple("session.touch.failures", "{write}", "Deadlines that could not be moved."),
		observe.EventLockLost:         simple("session.lock.losses", "{lock}", "Locks that were lost while they were held."),
		observe.EventTokenDuplicate:   simple("session.token.duplicates", "{request}", "Requests with several tokens that are not all equal."),
		observe.EventSessionsRevoked:  simple("session.revocations", "{revocation}", "Revocations of the sessions of an owner."),
		observe.EventTokenRenewed:     simple("session.renewal.follows", "{request}", "Requests that went on under a new ID after a renewal."),
		observe.EventRenewFailed:      simple("session.renewal.failures", "{session}", "Sessions that could not get a new ID when it was time."),
		observe.EventLoginJoined:      simple("session.login.joins", "{request}", "Logins, and new authentications, that joined the session of another one of the same user."),
	}
	for outcome := range o.waits {
		o.waits[outcome] = o.record(outcomes[outcome])
	}
	o.fixed = o.record()
	if active != nil {
		gauge, err := m.Int64ObservableGauge("session.active", metric.WithUnit("{session}"), metric.WithDescription("Sessions in the store."))
		errs = append(errs, err)
		set := o.set()
		o.active, err = m.RegisterCallback(func(ctx context.Context, obs metric.Observer) error {
			n, err := active(ctx)
			if err == nil {
				obs.ObserveInt64(gauge, n, set)
			}
			return err
		}, gauge)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Close ends the calls of [Config.Active]. Everything else goes on.
func (o *Observer) Close() error {
	if o.active == nil {
		return nil
	}
	return o.active.Unregister()
}

// set returns the given attributes and those of the Config.
func (o *Observer) set(attrs ...attribute.KeyValue) metric.MeasurementOption {
	return metric.WithAttributeSet(attribute.NewSet(slices.Concat(attrs, o.attributes)...)) // NewSet sorts its argument
}

func (o *Observer) record(attrs ...attribute.KeyValue) []metric.RecordOption {
	return []metric.RecordOption{o.set(attrs...)}
}

func (o *Observer) add(attrs ...attribute.KeyValue) []metric.AddOption {
	return []metric.AddOption{o.set(attrs...)}
}

func (o *Observer) newCall(op observe.Op) call {
	c := call{
		op:    op,
		span:  "session." + op.String(),
		start: []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindInternal), trace.WithAttributes(o.attributes...)},
	}
	for outcome := range c.ordinary {
		c.ordinary[outcome] = o.record(operationKey.String(op.String()), outcomes[outcome])
	}
	return c
}

// call returns the call that was made in advance for op.
func (o *Observer) call(op observe.Op) *call {
	if i := int(op - observe.OpLoad); i >= 0 && i < len(o.calls) && o.calls[i].op == op {
		return &o.calls[i]
	}
	c := o.newCall(op)
	return &c
}

// Call implements [observe.Observer].
func (o *Observer) Call(ctx context.Context, op observe.Op) (_ context.Context, done func(error)) {
	c := o.call(op)
	began := time.Now()
	ctx, span := o.tracer.Start(ctx, c.span, c.start...)
	return ctx, func(err error) {
		seconds := time.Since(began).Seconds()
		outcome := judge(err)
		if outcome != failed {
			o.callDuration.Record(ctx, seconds, c.ordinary[outcome]...)
			if span.IsRecording() {
				span.SetAttributes(outcomes[outcome])
			}
		} else {
			kind := errorType(err)
			if o.callDuration.Enabled(ctx) {
				o.callDuration.Record(ctx, seconds, o.record(operationKey.String(op.String()), outcomes[failed], kind)...)
			}
			if span.IsRecording() {
				span.SetAttributes(outcomes[failed], kind)
				span.SetStatus(codes.Error, err.Error())
			}
		}
		span.End()
	}
}

// target has the parts of a request that its attributes depend on.
type target struct{ name, table string }

// request has the attributes of the requests with one target.
type request struct {
	attrs       []attribute.KeyValue
	success     []metric.RecordOption
	retries     []metric.AddOption
	read, write []metric.AddOption
}

// request returns the request of t, and makes it the first time. There are as
// many as the backend has kinds of requests.
func (o *Observer) request(t target) *request {
	o.mu.RLock()
	known := o.requests[t]
	o.mu.RUnlock()
	if known != nil {
		return known
	}
	attrs := []attribute.KeyValue{o.system, semconv.DBOperationName(t.name)}
	if t.table != "" {
		attrs = append(attrs, semconv.DBCollectionName(t.table))
	}
	attrs = slices.Clip(attrs) // so that append allocates a new array
	r := &request{
		attrs:   attrs,
		success: o.record(attrs...),
		retries: o.add(attrs...),
		read:    o.add(append(attrs, capacityKey.String("read"))...),
		write:   o.add(append(attrs, capacityKey.String("write"))...),
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.requests[t] = r // another goroutine may have stored an equal one
	return r
}

// Request counts a request of the backend. Use it as dynamodb.Config.OnRequest.
func (o *Observer) Request(ctx context.Context, r observe.Request) {
	known := o.request(target{r.Name, r.Table})
	opts := known.success
	if r.Err != nil {
		opts = o.record(append(known.attrs, errorType(r.Err))...)
	}
	o.requestDuration.Record(ctx, r.Duration.Seconds(), opts...)
	if r.Attempt > 1 {
		o.retries.Add(ctx, 1, known.retries...)
	}
	if r.ReadUnits > 0 {
		o.capacity.Add(ctx, r.ReadUnits, known.read...)
	}
	if r.WriteUnits > 0 {
		o.capacity.Add(ctx, r.WriteUnits, known.write...)
	}
}

// Event implements [observe.Observer].
func (o *Observer) Event(ctx context.Context, e observe.Event) {
	if c, ok := o.events[e.Kind]; ok {
		c.Add(ctx, 1, c.opts...)
	}
	switch e.Kind {
	case observe.EventSessionCreated, observe.EventSessionSaved, observe.EventSessionRotated:
		o.payload.Record(ctx, int64(e.N), o.fixed...)
	case observe.EventLockAcquired, observe.EventLockFailed:
		outcome := judge(e.Err)
		opts := o.waits[min(outcome, canceled)]
		if outcome == locked || outcome == failed { // the lock was not acquired in time
			opts = o.record(outcomes[failed], errorType(e.Err))
		}
		o.lockWait.Record(ctx, e.Wait.Seconds(), opts...)
	case observe.EventCommitFailed, observe.EventLateFailed:
		o.commitFailures.Add(ctx, 1, o.add(lateKey.Bool(e.Kind == observe.EventLateFailed), errorType(e.Err))...)
	}
}

// judge returns the outcome of a call. Outcomes that a Manager expects are not
// failures.
func judge(err error) outcome {
	switch {
	case err == nil:
		return succeeded
	case errors.Is(err, session.ErrNotFound): // even if it is a conflict
		return notFound
	case errors.Is(err, session.ErrConflict):
		return conflict
	case errors.Is(err, session.ErrLocked):
		return locked
	case errors.Is(err, context.Canceled):
		return canceled
	}
	return failed
}
