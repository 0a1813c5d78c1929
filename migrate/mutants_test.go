package migrate_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const mutantVariable = "SESSION_TEST_MUTANT"

const mutantFile = `package migrate

import "os"

var name = os.Getenv("` + mutantVariable + `")

func mutant(s string) bool { return s == name }
`

// buildMutants builds these tests with a package in which mutants can be switched
// on.
func buildMutants(t *testing.T) (program string, names []string) {
	t.Helper()
	dir := t.TempDir()
	text, err := os.ReadFile("testdata/mutants.txt")
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{"mutant.go": mutantFile}
	for _, part := range strings.Split(string(text), "\n== ")[1:] {
		name, hunk, _ := strings.Cut(part, "\n-- ")
		file, hunk, _ := strings.Cut(hunk, "\n")
		old, replace, ok := strings.Cut(strings.TrimRight(hunk, "\n"), "\n++\n")
		if !ok {
			t.Fatalf("testdata/mutants.txt: %s is not complete", name)
		}
		names = append(names, name)
		if files[file] == "" {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			files[file] = string(text)
		}
		if n := strings.Count(files[file], old); n != 1 {
			t.Fatalf("testdata/mutants.txt: %s: %s has this %d times:\n%s", name, file, n, old)
		}
		files[file] = strings.Replace(files[file], old, replace, 1)
	}
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	var overlay struct{ Replace map[string]string }
	overlay.Replace = map[string]string{}
	for file, text := range files {
		at := filepath.Join(dir, file)
		if err := os.WriteFile(at, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		overlay.Replace[filepath.Join(here, file)] = at
	}
	list := filepath.Join(dir, "overlay.json")
	text, err = json.Marshal(overlay)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(list, text, 0o600); err != nil {
		t.Fatal(err)
	}
	program = filepath.Join(dir, "mutants.test")
	cmd := exec.CommandContext(t.Context(), "go", "test", "-c", "-race=false", "-overlay", list, "-o", program, ".")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return program, names
}

// TestMutants checks that each mutant of a step is rejected by the directed tests.
func TestMutants(t *testing.T) {
	if os.Getenv(mutantVariable) != "" {
		t.Skip("this is one")
	}
	program, names := buildMutants(t)
	for _, name := range append(names, "") {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), program, "-test.run=^(TestSteps|TestCreateInBoth)$", "-test.failfast")
			cmd.Env = append(os.Environ(), mutantVariable+"="+name)
			out, err := cmd.CombinedOutput()
			if failed := err != nil; failed != (name != "") || failed && !strings.Contains(string(out), "_test.go:") {
				t.Errorf("failed: %t\n%s", failed, out)
			} else if failed {
				at := strings.Index(string(out), "_test.go:")
				t.Log(strings.TrimSpace(string(out)[at:min(len(out), at+300)]))
			}
		})
	}
}
