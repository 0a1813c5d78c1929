package integration

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/seed-a7bee19b/session"
)

// lockOnce is one request with a lock: it reads a number, works for a while, and
// stores the next one.
func lockOnce(ctx context.Context, m *session.Manager, token string, hold time.Duration) error {
	s, err := m.Open(ctx, token)
	if err != nil {
		return err
	}
	n, err := visits.Get(s)
	if err != nil {
		return err
	}
	if hold > 0 {
		time.Sleep(hold)
	}
	return errors.Join(visits.Set(s, n+1), s.Save(ctx), s.Close(ctx))
}

// TestLockedRequest checks that a lock without contention costs as much as a
// read and a write without a lock.
func TestLockedRequest(t *testing.T) {
	eachStore(t, func(t *testing.T, a address) {
		token := a.begin(t)
		at, l := a.through(t)
		m := at.manager(t, session.Config{Mode: session.Exclusive})
		if err := lockOnce(t.Context(), m, token, 0); err != nil { // a first command may need its script
			t.Fatal(err)
		}
		l.Reset()
		if err := lockOnce(t.Context(), m, token, 0); err != nil {
			t.Fatal(err)
		}
		if got := total(l); got.Requests != 2 || got.Applied != 2 {
			t.Errorf("got %+v, want 2 requests", l.Counts())
		}
		if a.store() == dynamoStore {
			if got := total(l); got.Capacity != 2 {
				t.Errorf("%v units of capacity, want 2", got.Capacity)
			}
		}
	})
}

// contend has n goroutines of one process run f, which works for hold in it. It
// returns the longest time that one waited for its turn.
func contend(n int, hold time.Duration, f func() error) (longest time.Duration, err error) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	began := time.Now()
	for range n {
		wg.Go(func() {
			oneErr := f()
			mu.Lock()
			defer mu.Unlock()
			err = errors.Join(err, oneErr)
			longest = max(longest, time.Since(began)-hold)
		})
	}
	wg.Wait()
	return longest, err
}

// TestTenContendersInOneProcess checks that they pass the lock on without asking
// the store.
func TestTenContendersInOneProcess(t *testing.T) {
	eachStore(t, func(t *testing.T, a address) {
		const contenders, rounds, hold = 10, 5, 5 * time.Millisecond
		token := a.begin(t)
		at, l := a.through(t)
		m := at.manager(t, session.Config{Mode: session.Exclusive, Lock: session.LockConfig{MaxWait: time.Minute}})
		if err := lockOnce(t.Context(), m, token, 0); err != nil {
			t.Fatal(err)
		}
		l.Reset()
		var took []time.Duration
		for range rounds {
			began := time.Now()
			if _, err := contend(contenders, hold, func() error { return lockOnce(t.Context(), m, token, hold) }); err != nil {
				t.Fatal(err)
			}
			took = append(took, time.Since(began).Round(time.Millisecond))
		}
		if n, _, _ := stored(t, a, token); n != 1+rounds*contenders {
			t.Errorf("counted to %d", n)
		}
		requests := total(l).Requests
		t.Logf("%s requests for each lock, %v", perLock(requests, rounds*contenders), took)
		if requests > 3*rounds*contenders {
			t.Errorf("%d requests for %d locks, want at most 3 for each", requests, rounds*contenders)
		}
	})
}

// TestTenContendersInTenProcesses reports the cost of contention between
// processes, which cannot pass the lock on.
func TestTenContendersInTenProcesses(t *testing.T) {
	const processes, times, hold = 10, 10, 5 * time.Millisecond
	eachStore(t, func(t *testing.T, a address) {
		token := a.begin(t)
		var js []job
		var links []link
		for i := range processes {
			at, l := a.through(t)
			links = append(links, l)
			js = append(js, job{
				Kind: "count", Name: fmt.Sprint("p", i), At: at, Token: token, Mode: int(session.Exclusive),
				TTL: 10 * time.Second, MaxWait: time.Minute, Hold: hold, Count: times,
			})
		}
		c := count(t, 0, js...)
		c.check(t, a, token, processes*times)
		logCost(t, c, links)
	})
}

// wait is the job of a process in which many requests wait for a lock, and give
// up. It stands for as many processes as From says, because each Manager shares
// nothing with the others, like a process.
func (w *worker) wait() error {
	if w.From < 1 {
		return errors.New("no process to stand for")
	}
	goroutines := runtime.NumGoroutine()
	var before, during runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	var wg sync.WaitGroup
	var gaveUp atomic.Int32
	for range w.From {
		m, err := session.New(w.backend, session.Config{
			Mode: session.Exclusive, Lock: session.LockConfig{MaxWait: w.MaxWait, MaxWaiters: w.Count},
		})
		if err != nil {
			return err
		}
		for range w.Count / w.From {
			wg.Go(func() {
				if _, err := m.Open(w.ctx, w.Token); errors.Is(err, session.ErrLockTimeout) {
					gaveUp.Add(1)
				}
			})
		}
	}
	time.Sleep(w.MaxWait / 2)
	grown := runtime.NumGoroutine() - goroutines
	runtime.GC()
	runtime.ReadMemStats(&during)
	wg.Wait()
	w.tell(event{Kind: "waited", N: []int64{
		int64(gaveUp.Load()), int64(grown), int64(during.HeapAlloc+during.StackInuse) - int64(before.HeapAlloc+before.StackInuse),
	}})
	return nil
}

// TestTwoHundredWaiters has as many requests wait for a lock that is held for
// ten seconds, in one process and in ten. All give up. The cost in writes is
// compared with waiters that look as often by trying to write, each of which
// DynamoDB bills even though it is refused.
func TestTwoHundredWaiters(t *testing.T) {
	t.Parallel()
	const waiters, wait = 200, 10 * time.Second
	for _, processes := range []int{1, 10} {
		t.Run(fmt.Sprintf("%d processes", processes), func(t *testing.T) {
			t.Parallel()
			a := dynamoStore.room(t)
			token := a.begin(t)
			holder := a.manager(t, session.Config{Mode: session.Exclusive, Lock: session.LockConfig{TTL: 6 * wait}})
			s := mustOpen(t, holder, token)
			at, l := a.through(t)
			p := start(t, job{Kind: "wait", Name: "waiters", At: at, Token: token, From: processes, Count: waiters, MaxWait: wait})
			got := p.wait("waited").N
			gaveUp, goroutines, memory := got[0], got[1], got[2]
			if err := s.Close(t.Context()); err != nil {
				t.Error(err)
			}
			looks := l.Counts()["GetItem"].Requests
			writes := l.Counts()["UpdateItem"]
			refused := writes.Requests - writes.Applied
			t.Logf("%d looks and %d refused writes, %.2f %% of what polling with writes would spend; %d more goroutines, %d KB more memory",
				looks, refused, 100*float64(refused)/float64(looks+refused), goroutines, memory>>10)
			if gaveUp != waiters || writes.Applied != 0 {
				t.Errorf("%d gave up, want %d; %d writes were applied", gaveUp, waiters, writes.Applied)
			}
			if float64(refused) > 0.05*float64(looks+refused) {
				t.Errorf("%d refused writes and %d looks", refused, looks)
			}
			// One for each waiter, and those of a connection for each process.
			if most := int64(waiters + 3*processes + 20); goroutines > most {
				t.Errorf("%d more goroutines, want at most %d", goroutines, most)
			}
			if memory > 32<<20 {
				t.Errorf("%d MB more memory", memory>>20)
			}
		})
	}
}

// BenchmarkLocked is one request with a lock without contention, and a loop
// without the package that does the same without a lock.
func BenchmarkLocked(b *testing.B) {
	for _, s := range stores {
		b.Run(s.name, func(b *testing.B) {
			a := s.room(b)
			token := a.begin(b)
			m := a.manager(b, session.Config{Mode: session.Exclusive})
			for b.Loop() {
				if err := lockOnce(b.Context(), m, token, 0); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("DynamoDB/conditional update", func(b *testing.B) {
		r := newRaw(b, dynamoStore.room(b))
		for b.Loop() {
			if err := r.once(b.Context(), 0); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkLockedContenders has ten goroutines that want the session at once and
// keep it for 5 ms.
func BenchmarkLockedContenders(b *testing.B) {
	const contenders, hold = 10, 5 * time.Millisecond
	run := func(b *testing.B, a address, connect func(a address) func() (longest time.Duration, err error)) {
		// Requests are counted through a proxy, and time is measured without
		// one.
		at, l := a.through(b)
		counted, timed := connect(at), connect(a)
		if _, err := counted(); err != nil {
			b.Fatal(err)
		}
		l.Reset()
		const rounds = 5
		for range rounds {
			if _, err := counted(); err != nil {
				b.Fatal(err)
			}
		}
		var longest time.Duration
		for b.Loop() {
			wait, err := timed()
			if err != nil {
				b.Fatal(err)
			}
			longest = max(longest, wait)
		}
		b.ReportMetric(float64(total(l).Requests)/(rounds*contenders), "requests/lock")
		b.ReportMetric(float64(longest)/1e6, "max-wait-ms")
	}
	for _, s := range stores {
		b.Run(s.name, func(b *testing.B) {
			a := s.room(b)
			token := a.begin(b)
			run(b, a, func(a address) func() (time.Duration, error) {
				m := a.manager(b, session.Config{Mode: session.Exclusive, Lock: session.LockConfig{MaxWait: time.Minute}})
				return func() (time.Duration, error) {
					return contend(contenders, hold, func() error { return lockOnce(b.Context(), m, token, hold) })
				}
			})
		})
	}
	b.Run("DynamoDB/conditional update", func(b *testing.B) {
		run(b, dynamoStore.room(b), func(a address) func() (time.Duration, error) {
			r := newRaw(b, a)
			return func() (time.Duration, error) {
				return contend(contenders, hold, func() error { return r.once(b.Context(), hold) })
			}
		})
	})
}

// raw counts in an item of a table without this package: it reads, works, and
// writes if no other writer was first; otherwise it backs off and starts again.
type raw struct {
	client *sdk.Client
	table  string
}

func newRaw(b *testing.B, a address) raw {
	b.Helper()
	cfg := awsConfig(a.URL)
	cfg.HTTPClient = keptOpen
	r := raw{client: sdk.NewFromConfig(cfg), table: a.Room}
	_, err := r.client.PutItem(b.Context(), &sdk.PutItemInput{TableName: &r.table, Item: map[string]types.AttributeValue{
		"id": &types.AttributeValueMemberS{Value: key}, "n": &types.AttributeValueMemberN{Value: "0"},
	}})
	if err != nil {
		b.Fatal(err)
	}
	return r
}

func (r raw) once(ctx context.Context, hold time.Duration) error {
	for {
		item := map[string]types.AttributeValue{"id": &types.AttributeValueMemberS{Value: key}}
		got, err := r.client.GetItem(ctx, &sdk.GetItemInput{TableName: &r.table, Key: item, ConsistentRead: aws.Bool(true)})
		if err != nil {
			return err
		}
		if hold > 0 {
			time.Sleep(hold)
		}
		n := got.Item["n"].(*types.AttributeValueMemberN).Value
		var v int
		if _, err := fmt.Sscan(n, &v); err != nil {
			return err
		}
		_, err = r.client.UpdateItem(ctx, &sdk.UpdateItemInput{
			TableName: &r.table, Key: item,
			UpdateExpression:    aws.String("SET n = :next"),
			ConditionExpression: aws.String("n = :n"),
			ExpressionAttributeValues: map[string]types.AttributeValue{
				":n":    &types.AttributeValueMemberN{Value: n},
				":next": &types.AttributeValueMemberN{Value: fmt.Sprint(v + 1)},
			},
		})
		var first *types.ConditionalCheckFailedException
		if !errors.As(err, &first) {
			return err
		}
		time.Sleep(10*time.Millisecond + rand.N(70*time.Millisecond))
	}
}
