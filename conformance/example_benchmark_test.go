package conformance_test

import (
	"testing"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/conformance"
)

// benchmarkShelf is called BenchmarkBackend in the package of the backend. Run it
// with go test -bench=Backend, for example before and after a change:
//
//	BenchmarkBackend/Load/small
//	BenchmarkBackend/Save/typical
func benchmarkShelf(b *testing.B) {
	conformance.BenchmarkBackend(b, conformance.Backend{
		New: func(testing.TB) session.Backend {
			return &Shelf{&store{records: map[string]session.Record{}}}
		},
	})
}

// Benchmarks of the calls of a backend.
func ExampleBenchmarkBackend() {
	_ = benchmarkShelf // go test -bench calls it
}
