package session_test

import (
	"os/exec"
	"strings"
	"testing"
)

const self = "github.com/seed-a7bee19b/session"

// TestDependencies checks that a program with sessions in memory gets neither an
// AWS nor a Redis client, through the imports of these packages or of their
// tests, which are downloaded too.
func TestDependencies(t *testing.T) {
	tests := []struct {
		pkg     string
		allowed []string // of the module's own packages
	}{
		{"codec", nil},
		{"codec/php", nil},
		{"", []string{"codec", "observe"}},
		{"backend/memory", []string{"", "codec", "observe", "admin"}},
		{"conformance", []string{"", "codec", "observe", "admin"}},
		{"lock", []string{"", "codec", "observe"}},
		{"adapter/scs", []string{"", "codec", "observe"}},
		{"adapter/fiber", []string{"", "codec", "observe"}},
		{"migrate", []string{"", "codec", "observe", "admin"}},
		{"sessiontest", []string{"", "codec", "observe", "admin", "backend/memory"}},
	}
	for _, tt := range tests {
		for _, dep := range deps(t, "./"+tt.pkg) {
			own := dep == join(tt.pkg) || strings.HasPrefix(dep, join("internal/"))
			for _, a := range tt.allowed {
				own = own || dep == join(a)
			}
			if !own && !thirdParty(dep) {
				t.Errorf("package %s imports %s", join(tt.pkg), dep)
			}
		}
		for _, dep := range deps(t, "-test", "./"+tt.pkg) {
			if !strings.HasPrefix(dep, self) && !thirdParty(dep) {
				t.Errorf("the tests of package %s import %s", join(tt.pkg), dep)
			}
			if strings.HasPrefix(dep, join("backend/")) && !strings.HasPrefix(dep, join("backend/memory")) {
				t.Errorf("the tests of package %s import %s", join(tt.pkg), dep)
			}
		}
	}
}

// TestNoTestsInProduction checks that a program does not import package testing
// through these packages.
func TestNoTestsInProduction(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".", "./admin", "./backend/...", "./codec/...", "./lock", "./migrate", "./observe/...", "./adapter/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	for dep := range strings.Lines(string(out)) {
		if dep = strings.TrimSpace(dep); dep == "testing" || dep == "net/http/httptest" || dep == join("sessiontest") {
			t.Errorf("a package for programs imports %s", dep)
		}
	}
}

func join(pkg string) string { return strings.TrimSuffix(self+"/"+pkg, "/") }

// thirdParty reports whether dep is a dependency that every user gets.
func thirdParty(dep string) bool { return strings.HasPrefix(dep, "github.com/vmihailenco/") }

// deps returns the dependencies outside the standard library.
func deps(t *testing.T, args ...string) []string {
	t.Helper()
	args = append([]string{"list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}"}, args...)
	out, err := exec.Command("go", args...).Output()
	if err != nil {
		t.Fatalf("go %v: %v", args, err)
	}
	var list []string
	for line := range strings.Lines(string(out)) {
		if dep, _, _ := strings.Cut(strings.TrimSpace(line), " "); dep != "" { // the rest names a test variant
			list = append(list, dep)
		}
	}
	return list
}
