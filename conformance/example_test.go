package conformance_test

import (
	"testing"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/memory"
	"github.com/seed-a7bee19b/session/codec"
	"github.com/seed-a7bee19b/session/conformance"
	"github.com/seed-a7bee19b/session/lock"
)

// The whole test of a backend. As a test function it has the name
// TestConformance.
func ExampleTestBackend() {
	_ = func(t *testing.T) {
		conformance.TestBackend(t, conformance.Backend{
			New: func(t testing.TB) session.Backend {
				b, err := memory.New(memory.Config{MaxData: 64 << 10})
				if err != nil {
					t.Fatal(err)
				}
				return b
			},
			WantsLocking: true,
			WantsSweeper: true,
			MaxData:      64 << 10,
		})
	}
}

// The whole test of a locker.
func ExampleTestLocker() {
	_ = func(t *testing.T) {
		conformance.TestLocker(t, conformance.Locker{
			New: func(testing.TB) session.Locker { return new(lock.Local) },
		})
	}
}

func ExampleTestCodec() {
	_ = func(t *testing.T) {
		conformance.TestCodec(t, codec.JSON{})
	}
}

func ExampleBenchmarkBackend() {
	_ = func(b *testing.B) {
		conformance.BenchmarkBackend(b, conformance.Backend{
			New: func(testing.TB) session.Backend { return new(memory.Backend) },
		})
	}
}
