package dynamodb

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/conformance"
)

// The contract, on the fake. The real engine has its turn in the integration
// tests.
func TestConformance(t *testing.T) {
	for _, tt := range []struct {
		name       string
		c          Config
		withoutOld bool
	}{
		{"binary", Config{}, false},
		{"string", Config{DataType: String}, false},
		{"ALL_OLD ignored", Config{}, true},
		{"beside PHP", Config{PHP: PHPConfig{Connection: VersionedConnection}}, false},
		{"beside PHP's handler", Config{DataType: String, PHP: PHPConfig{Connection: StockLocking}}, false},
		{"beside PHP's handler, ALL_OLD ignored", Config{PHP: PHPConfig{Connection: StockUnlocked, AcceptLoss: true}}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			conformance.TestBackend(t, conformance.Backend{
				New: func(t testing.TB) session.Backend {
					t.Helper()
					f := newFake()
					f.withoutOld = tt.withoutOld
					return newClockedBackend(t, f, tt.c)
				},
				Reopen: func(t testing.TB, b session.Backend) session.Backend {
					t.Helper()
					return newClockedBackend(t, fakeOf(b), tt.c)
				},
				Advance: func(_ testing.TB, b session.Backend, d time.Duration) {
					fakeOf(b).ahead.Add(int64(d))
				},
				Fail: func(_ testing.TB, b session.Backend) func() {
					f := fakeOf(b)
					f.setDown(true)
					return func() { f.setDown(false) }
				},
				Hold: func(_ testing.TB, b session.Backend) func() { return hold(b) },
				// All but names, key, numbers, a full history and a lock.
				WantsLocking: true,
				WantsSweeper: true,
				WantsLister:  true,
				MaxData:      MaxItemSize - 41 - 512 - 20 - tokens*tokenSize - lockSize,
				WantsText:    tt.c.DataType == String,
			})
		})
	}
}

func newClockedBackend(t testing.TB, f *fake, c Config) *Backend {
	t.Helper()
	b := newBackend(t, f, quick(c))
	b.now = func() time.Time { return time.Now().Add(time.Duration(f.ahead.Load())) }
	return b
}

func (f *fake) setDown(down bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.down = down
}

// base is the fake behind a client.
func (f *fake) base() *fake { return f }

func fakeOf(b session.Backend) *fake {
	return b.(*Backend).client.(interface{ base() *fake }).base()
}

// keeper is a client that keeps back its next write.
type keeper struct {
	*fake
	once    sync.Once
	deliver func()
}

func (h *keeper) hold() {
	h.once.Do(func() { h.fail(fault{late: func(apply func()) { h.deliver = sync.OnceFunc(apply) }}) })
}

func (h *keeper) UpdateItem(ctx context.Context, in *dynamodb.UpdateItemInput, o ...func(*dynamodb.Options)) (*dynamodb.UpdateItemOutput, error) {
	h.hold()
	return h.fake.UpdateItem(ctx, in, o...)
}

func (h *keeper) DeleteItem(ctx context.Context, in *dynamodb.DeleteItemInput, o ...func(*dynamodb.Options)) (*dynamodb.DeleteItemOutput, error) {
	h.hold()
	return h.fake.DeleteItem(ctx, in, o...)
}

func hold(b session.Backend) (deliver func()) {
	h := &keeper{fake: fakeOf(b), deliver: func() {}}
	b.(*Backend).client = h
	return func() { h.deliver() }
}
