package integration

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/seed-a7bee19b/session/admin"
	"github.com/seed-a7bee19b/session/backend/dynamodb"
	"github.com/seed-a7bee19b/session/integration/proxy"
)

type attributes = map[string]types.AttributeValue

func text(s string) types.AttributeValue { return &types.AttributeValueMemberS{Value: s} }

func epochSeconds(t time.Time) types.AttributeValue {
	return &types.AttributeValueMemberN{Value: strconv.FormatInt(t.Unix(), 10)}
}

// sweptTable has the rows of a table, every other one of them expired.
type sweptTable struct {
	n, size int
	now     time.Time
}

func sweepTable(n, size int) sweptTable { return sweptTable{n, size, time.Now()} }

// cutoff lies between the expired rows and the live ones.
func (s sweptTable) cutoff() time.Time { return s.now.Add(-10 * time.Minute) }

func (s sweptTable) expired(i int) bool { return i%2 == 0 }

func (s sweptTable) key(i int) string {
	sum := sha256.Sum256([]byte(strconv.Itoa(i)))
	return hex.EncodeToString(sum[:16])
}

func (s sweptTable) item(i int) attributes {
	expires := s.now.Add(time.Hour)
	if s.expired(i) {
		expires = s.now.Add(-time.Hour)
	}
	version := make([]byte, 8)
	rand.Read(version) // never fails
	return attributes{
		"id": text(s.key(i)), "data": &types.AttributeValueMemberB{Value: make([]byte, s.size)},
		"expires": epochSeconds(expires), "version": &types.AttributeValueMemberB{Value: version},
		"created": &types.AttributeValueMemberN{Value: strconv.FormatInt(expires.Add(-2*time.Hour).UnixMilli(), 10)},
	}
}

func (s sweptTable) items() func(yield func(attributes) bool) {
	return func(yield func(attributes) bool) {
		for i := range s.n {
			if !yield(s.item(i)) {
				return
			}
		}
	}
}

// fill puts items into a table.
func fill(t testing.TB, table string, items func(func(attributes) bool)) {
	t.Helper()
	db := sdk.NewFromConfig(awsConfig(local.Endpoint), func(o *sdk.Options) { o.HTTPClient = keptOpen })
	batches := make(chan []types.WriteRequest)
	var writers sync.WaitGroup
	var once sync.Once
	var failed error
	for range 8 {
		writers.Go(func() {
			for batch := range batches {
				out, err := db.BatchWriteItem(t.Context(), &sdk.BatchWriteItemInput{RequestItems: map[string][]types.WriteRequest{table: batch}})
				if err == nil && len(out.UnprocessedItems) > 0 {
					err = errors.New("unprocessed items")
				}
				if err != nil {
					once.Do(func() { failed = err })
				}
			}
		})
	}
	var batch []types.WriteRequest
	for it := range items {
		if batch = append(batch, types.WriteRequest{PutRequest: &types.PutRequest{Item: it}}); len(batch) == 25 {
			batches <- batch
			batch = nil
		}
	}
	if len(batch) > 0 {
		batches <- batch
	}
	close(batches)
	writers.Wait()
	if failed != nil {
		t.Fatal(failed)
	}
}

// keysOf reads the keys of a table.
func keysOf(t testing.TB, table string) map[string]bool {
	t.Helper()
	const segments = 64
	keys := map[string]bool{}
	var mu sync.Mutex
	var readers sync.WaitGroup
	for n := range segments {
		readers.Go(func() {
			pages := sdk.NewScanPaginator(client(), &sdk.ScanInput{
				TableName: &table, ProjectionExpression: aws.String("id"), ConsistentRead: aws.Bool(true),
				Segment: aws.Int32(int32(n)), TotalSegments: aws.Int32(segments),
			})
			for pages.HasMorePages() {
				out, err := pages.NextPage(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				for _, it := range out.Items {
					keys[it["id"].(*types.AttributeValueMemberS).Value] = true
				}
				mu.Unlock()
			}
		})
	}
	readers.Wait()
	return keys
}

// newSweptTable makes a table without TTL, because DynamoDB Local deletes a few
// expired items each second, which would look like the sweep's work.
func newSweptTable(t testing.TB) dynamodb.Config {
	t.Helper()
	c := dynamodb.Config{Table: tableName(t), AttemptTimeout: time.Minute}
	_, err := client().CreateTable(t.Context(), &sdk.CreateTableInput{
		TableName: &c.Table, BillingMode: types.BillingModePayPerRequest,
		AttributeDefinitions: []types.AttributeDefinition{{AttributeName: aws.String("id"), AttributeType: types.ScalarAttributeTypeS}},
		KeySchema:            []types.KeySchemaElement{{AttributeName: aws.String("id"), KeyType: types.KeyTypeHash}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// foreignRows are rows of other programs: of the PHP session handler, and with a
// deadline that is not a number.
func foreignRows(now time.Time, n int) func(func(attributes) bool) {
	return func(yield func(attributes) bool) {
		for i := range n {
			php := attributes{"id": text(fmt.Sprint("php-", i)), "data": text("a|i:1;"), "expires": epochSeconds(now.Add(-time.Hour))}
			other := attributes{"id": text(fmt.Sprint("other-", i)), "expires": text("yesterday"), "created": text("before")}
			if !yield(php) || !yield(other) {
				return
			}
		}
	}
}

// A diversion sends the requests of one operation through a proxy, so that they
// are counted and the others stay quick.
type diversion struct {
	op, host string
	next     http.RoundTripper
}

func (d diversion) RoundTrip(r *http.Request) (*http.Response, error) {
	if _, op, _ := strings.Cut(r.Header.Get("X-Amz-Target"), "."); op == d.op {
		r = r.Clone(r.Context())
		r.URL.Host = d.host
	}
	return d.next.RoundTrip(r)
}

// diverted returns a backend whose Scans go through a proxy.
func diverted(scans string, a address) (*dynamodb.Backend, error) {
	cfg := awsConfig(a.URL)
	cfg.HTTPClient = &http.Client{Transport: diversion{"Scan", strings.TrimPrefix(scans, "http://"), keptOpen.Transport}}
	return dynamodb.New(cfg, dynamodb.Config{Table: a.Room, AttemptTimeout: time.Minute})
}

// sweep is the job of a process that sweeps, and that may be killed.
func (w *worker) sweep() error {
	backend, err := diverted(w.Scans, w.At)
	if err != nil {
		return err
	}
	var writeErr error
	_, err = backend.Sweep(w.ctx, admin.SweepOptions{
		Segments: sweptSegments,
		OnProgress: func(r admin.Report) {
			// A process that is killed while it writes leaves the file before.
			next := w.File + ".next"
			writeErr = errors.Join(writeErr, os.WriteFile(next, r.Checkpoint, 0o600), os.Rename(next, w.File))
			w.tell(event{Kind: "swept", Name: w.Name, N: []int64{r.Deleted}})
		},
	})
	return errors.Join(err, writeErr)
}

// rival renews and locks expired rows in turn while they are swept.
type rival struct {
	table   string
	rows    sweptTable
	goal    atomic.Int64 // the number of rows that should be changed by now
	changed map[string]string
	done    atomic.Int64 // the number of rows that are changed
}

// wait returns when the goal is reached.
func (v *rival) wait(ctx context.Context) {
	for waiting := true; waiting && v.done.Load() < v.goal.Load(); {
		waiting = sleepFor(ctx, time.Millisecond)
	}
}

func (v *rival) run(ctx context.Context) error {
	db := client()
	for len(v.changed) < int(v.goal.Load()) || sleepFor(ctx, time.Millisecond) {
		if len(v.changed) >= int(v.goal.Load()) {
			continue
		}
		i := mathrand.IntN(v.rows.n)
		k := v.rows.key(i)
		if !v.rows.expired(i) || v.changed[k] != "" {
			continue
		}
		in := &sdk.UpdateItemInput{
			TableName: &v.table, Key: attributes{"id": text(k)},
			// Rows that have been deleted stay deleted.
			ConditionExpression: aws.String("attribute_exists(id)"),
		}
		what := "renewed"
		if len(v.changed)%2 == 0 {
			in.UpdateExpression = aws.String("SET expires = :e")
			in.ExpressionAttributeValues = attributes{":e": epochSeconds(time.Now().Add(time.Hour))}
		} else {
			what = "locked"
			in.UpdateExpression = aws.String("SET #l = :l, lock_until = :u")
			in.ExpressionAttributeNames = map[string]string{"#l": "lock"}
			in.ExpressionAttributeValues = attributes{
				":l": &types.AttributeValueMemberB{Value: make([]byte, 16)},
				":u": &types.AttributeValueMemberN{Value: strconv.FormatInt(time.Now().Add(time.Hour).UnixMilli(), 10)},
			}
		}
		_, err := db.UpdateItem(ctx, in)
		var gone *types.ConditionalCheckFailedException
		switch {
		case errors.As(err, &gone):
		case err != nil:
			return err
		default:
			v.changed[k] = what
			v.done.Add(1)
		}
	}
	return nil
}

// sleepFor reports whether ctx has not ended meanwhile.
func sleepFor(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

const sweptSegments = 128

// TestSweepWhileOthersWrite sweeps a large table, half of whose rows are
// expired: -sweep.rows=200000 takes about two minutes. Meanwhile others renew
// and lock 500 of these, and the sweeping process is killed when a quarter is
// done; another one continues from its last checkpoint.
func TestSweepWhileOthersWrite(t *testing.T) {
	const (
		changes = 500
		others  = 100
	)
	n := *sweepRows
	c, rows := newSweptTable(t), sweepTable(n, 100)
	began := time.Now()
	fill(t, c.Table, rows.items())
	fill(t, c.Table, foreignRows(rows.now, others))
	t.Logf("filled in %v", time.Since(began))

	v := &rival{table: c.Table, rows: rows, changed: map[string]string{}}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- v.run(ctx) }()
	// All are changed when four fifths are swept.
	progress := func(deleted int64) { v.goal.Store(min(changes, 1+deleted*changes/int64(n/2*4/5))) }

	p := newProxy(t)
	// On a busy machine the rival may be slower than the sweep.
	p.SetRule(proxy.Always("Scan", proxy.Action{Before: func() { v.wait(ctx) }}))
	a := address{Store: dynamoStore.name, URL: local.Endpoint, Room: c.Table}
	file := filepath.Join(t.TempDir(), "checkpoint")
	began = time.Now()
	first := start(t, job{Kind: "sweep", Name: "the first", At: a, Scans: p.URL(), File: file})
	for deleted := int64(0); deleted < int64(n/2/4); progress(deleted) {
		deleted = first.wait("swept").N[0]
	}
	first.signal(syscall.SIGKILL)
	first.stop()
	checkpoint, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	scans := p.Counts()["Scan"].Applied
	t.Logf("killed after %v and %d scans; %d bytes of checkpoint", time.Since(began), scans, len(checkpoint))

	backend, err := diverted(p.URL(), a)
	if err != nil {
		t.Fatal(err)
	}
	began = time.Now()
	r, err := admin.Sweep(t.Context(), backend, admin.SweepOptions{
		Resume: checkpoint, OnProgress: func(r admin.Report) { progress(r.Deleted) },
	})
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	all := p.Counts()["Scan"].Applied
	t.Logf("resumed: %v, %d scans; %+v", time.Since(began), all-scans, r)

	// Here a segment is a page of the table. The segments in progress are read
	// again, a few for each worker.
	if all > sweptSegments*4/3 {
		t.Errorf("%d scans of %d segments in all, %d of them before the end of the first", all, sweptSegments, scans)
	}
	if most := int64(n + 2*others); r.Scanned > most || r.Scanned < most*9/10 {
		t.Errorf("%d rows scanned of %d", r.Scanned, most)
	}
	if r.Kept == 0 || r.Foreign != others || r.Failed != 0 || r.Checkpoint != nil || r.Expired != r.Deleted+r.Kept {
		t.Errorf("report %+v", r)
	}

	left := keysOf(t, c.Table)
	lost := map[string]int{}
	for k, what := range v.changed {
		if !left[k] {
			lost[what]++
		}
	}
	kept := 0
	for i := range n {
		switch k := rows.key(i); {
		case !rows.expired(i) && !left[k]:
			lost["live"]++
		case rows.expired(i) && v.changed[k] == "" && left[k]:
			kept++
		}
	}
	for it := range foreignRows(rows.now, others) {
		if !left[it["id"].(*types.AttributeValueMemberS).Value] {
			lost["foreign"]++
		}
	}
	if len(lost) > 0 || kept > 0 || len(v.changed) != changes {
		t.Errorf("of %d changed rows and the others these are gone: %v; %d expired ones are left", len(v.changed), lost, kept)
	}
}

// TestSweepBudget compares the budget of a sweep with the capacity that the
// engine reports.
func TestSweepBudget(t *testing.T) {
	for _, tt := range []struct {
		name     string
		op       string
		rows     int
		opts     admin.SweepOptions
		expected float64 // units per second
	}{
		{"reads", "Scan", 6000, admin.SweepOptions{ReadUnits: 50, DryRun: true}, 50},
		{"writes", "DeleteItem", 1200, admin.SweepOptions{ReadUnits: 100, WriteUnits: 50}, 50},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c, rows := newSweptTable(t), sweepTable(tt.rows, len(typical))
			fill(t, c.Table, rows.items())
			b, p := connect(t, c)
			began := time.Now()
			r, err := b.Sweep(t.Context(), tt.opts)
			took := time.Since(began)
			if err != nil || r.Deleted != int64(tt.rows/2) {
				t.Fatalf("%v, %+v", err, r)
			}
			counts := p.Counts()
			if got, want := counts["Scan"].Capacity, r.ReadUnits; got != want {
				t.Errorf("the report says %v read units, the engine %v", want, got)
			}
			if got, want := counts["DeleteItem"].Capacity, r.WriteUnits; got != want {
				t.Errorf("the report says %v write units, the engine %v", want, got)
			}
			rate := counts[tt.op].Capacity / took.Seconds()
			t.Logf("%.1f units a second for %v, %v allowed: %+v", rate, took, tt.expected, counts)
			// A busy machine makes it slower. A test with a fake clock checks
			// that it is not slower than necessary.
			if rate > tt.expected*1.05 {
				t.Errorf("%.1f units a second, want %v", rate, tt.expected)
			}
		})
	}
}

// TestSweepOptions checks the options that need an engine: it must accept the
// expressions.
func TestSweepOptions(t *testing.T) {
	now := time.Now()
	for _, tt := range []struct {
		name    string
		opts    admin.SweepOptions
		deleted int64
		foreign int64
		left    int
	}{
		{"default", admin.SweepOptions{}, 100, 10, 120},
		{"foreign", admin.SweepOptions{Foreign: true}, 110, 0, 110},
		{"prefix", admin.SweepOptions{KeyPrefix: "php-1", Foreign: true}, 1, 0, 219},
		{"dry run", admin.SweepOptions{DryRun: true}, 100, 10, 220},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, rows := newSweptTable(t), sweepTable(200, 10)
			fill(t, c.Table, rows.items())
			fill(t, c.Table, foreignRows(now, 10))
			b, p := connect(t, c)
			p.SetRule(proxy.Random(seed(t), map[proxy.Fault]float64{proxy.Throttle: 0.1, proxy.DropResponse: 0.1, proxy.DropRequest: 0.05}))
			r, err := b.Sweep(t.Context(), tt.opts)
			if err != nil || r.Deleted != tt.deleted || r.Foreign != tt.foreign || r.Expired != r.Deleted || r.Retried == 0 || r.Checkpoint != nil {
				t.Errorf("%v, %+v", err, r)
			}
			if left := keysOf(t, c.Table); len(left) != tt.left {
				t.Errorf("%d rows are left, want %d", len(left), tt.left)
			}
		})
	}
}

func TestList(t *testing.T) {
	c, rows := newSweptTable(t), sweepTable(500, 700)
	fill(t, c.Table, rows.items())
	fill(t, c.Table, foreignRows(rows.now, 10))
	b, p := connect(t, c)
	seen, size, expired := map[string]bool{}, 0, 0
	r, err := b.List(t.Context(), admin.ListOptions{Segments: 4}, func(e admin.Entry) error {
		seen[e.Key] = true
		size += e.Size
		if !e.Foreign && e.Expires.Before(rows.cutoff()) {
			expired++
		}
		return nil
	})
	if err != nil || len(seen) != 520 || expired != 250 || r.Scanned != 520 || r.Foreign != 20 {
		t.Errorf("%v, %+v, %d entries, %d expired", err, r, len(seen), expired)
	}
	// Each page is rounded up to half a unit.
	if exact := float64(size) / 8192; r.ReadUnits != p.Counts()["Scan"].Capacity || r.ReadUnits < exact || r.ReadUnits > exact+4 {
		t.Errorf("%v read units for %d bytes, the engine says %+v", r.ReadUnits, size, p.Counts())
	}
}
