package conformance_test

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/memory"
	"github.com/seed-a7bee19b/session/conformance"
)

var unbounded = conformance.Backend{
	New: func(testing.TB) session.Backend { return new(memory.Backend) },
}

func TestMemory(t *testing.T) {
	t.Parallel()
	conformance.TestBackend(t, unbounded)
}

func TestMemoryBounded(t *testing.T) {
	t.Parallel()
	conformance.TestBackend(t, conformance.Backend{
		New: func(t testing.TB) session.Backend {
			b, err := memory.New(memory.Config{MaxRecords: 1000, MaxData: 4096})
			if err != nil {
				t.Fatal(err)
			}
			return b
		},
		MaxData: 4096,
	})
}

// The keys of the rules do not meet, so that a backend may be shared.
func TestMemoryShared(t *testing.T) {
	t.Parallel()
	var b memory.Backend
	conformance.TestBackend(t, conformance.Backend{
		New: func(testing.TB) session.Backend { return &b },
	})
}

func BenchmarkMemory(b *testing.B) {
	conformance.BenchmarkBackend(b, unbounded)
}

func TestNoForeignDependencies(t *testing.T) {
	for _, args := range [][]string{{"-deps"}, {"-deps", "-test"}} {
		args = append(append([]string{"list"}, args...), "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", ".")
		out, err := exec.Command("go", args...).CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		for _, path := range strings.Fields(string(out)) {
			for _, foreign := range []string{"aws", "smithy", "redis", "testify", "gomega", "testcontainers", "go-cmp"} {
				if strings.Contains(path, foreign) {
					t.Errorf("go %s: depends on %s", strings.Join(args, " "), path)
				}
			}
		}
	}
}
