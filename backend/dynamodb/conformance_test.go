package dynamodb

import (
	"testing"
	"time"

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
					return newClockedBackend(t, b.(*Backend).client.(*fake), tt.c)
				},
				Advance: func(_ testing.TB, b session.Backend, d time.Duration) {
					b.(*Backend).client.(*fake).ahead.Add(int64(d))
				},
				Fail: func(_ testing.TB, b session.Backend) func() {
					f := b.(*Backend).client.(*fake)
					f.setDown(true)
					return func() { f.setDown(false) }
				},
				// All but names, key, numbers, a full history and a lock.
				WantsLeaser:  true,
				WantsSweeper: true,
				MaxData:      MaxItemSize - 41 - 512 - 20 - tokens*tokenSize - lockSize,
				Text:         tt.c.DataType == String,
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
