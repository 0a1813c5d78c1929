package conformance_test

import (
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/memory"
	"github.com/seed-a7bee19b/session/conformance"
)

var unbounded = conformance.Backend{
	New:          func(testing.TB) session.Backend { return new(memory.Backend) },
	WantsLeaser:  true,
	WantsSweeper: true,
	WantsLister:  true,
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
		WantsLeaser:  true,
		WantsSweeper: true,
		WantsLister:  true,
		MaxData:      4096,
	})
}

// The keys of the rules do not meet, so that a backend may be shared.
func TestMemoryShared(t *testing.T) {
	t.Parallel()
	var b memory.Backend
	conformance.TestBackend(t, conformance.Backend{
		New:          func(testing.TB) session.Backend { return &b },
		WantsLeaser:  true,
		WantsSweeper: true,
		WantsLister:  true,
	})
}

func BenchmarkMemory(b *testing.B) {
	conformance.BenchmarkBackend(b, unbounded)
}

func TestNoForeignDependencies(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "-test", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", ".").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	allowed := regexp.MustCompile(`^github\.com/(seed-a7bee19b/session|vmihailenco/(msgpack|tagparser))(/|\.test|$)`)
	for _, line := range strings.Split(strings.TrimSpace(string(out)), "\n") {
		path, _, _ := strings.Cut(line, " ")
		if !allowed.MatchString(path) || strings.Contains(path, "dynamodb") {
			t.Errorf("depends on %s", path)
		}
	}
}
