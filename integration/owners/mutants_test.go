package owners

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const (
	mutantVariable = "SESSION_TEST_MUTANT" // the name of a mutant
	pagesVariable  = "SESSION_TEST_PAGES"  // how many entries, and how many pages of a kind, make a page
)

// A hunk replaces a text in a file of the module.
type hunk struct{ file, old, new string }

// readMutants returns the names of the mutants, and the hunks of all.
func readMutants(t *testing.T) (names []string, hunks []hunk) {
	t.Helper()
	f, err := os.Open("testdata/mutants.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var into *string
	for lines := bufio.NewScanner(f); lines.Scan(); {
		line := lines.Text()
		if name, ok := strings.CutPrefix(line, "== "); ok {
			names, into = append(names, name), nil
		} else if file, ok := strings.CutPrefix(line, "-- "); ok {
			hunks = append(hunks, hunk{file: file})
			into = &hunks[len(hunks)-1].old
		} else if line == "++" {
			into = &hunks[len(hunks)-1].new
		} else if into != nil {
			*into += line + "\n"
		}
	}
	return names, hunks
}

// mutantFile is added to a package that has mutants.
const mutantFile = `
import (
	"os"
	"strconv"
)

var name = os.Getenv("` + mutantVariable + `")

func mutant(s string) bool { return s == name }

func pageSize(usual int) int {
	if n, err := strconv.Atoi(os.Getenv("` + pagesVariable + `")); err == nil {
		return n
	}
	return usual
}
`

// buildMutants builds these tests, and with them a session package in which mutants
// can be switched on.
func buildMutants(t *testing.T) (program string, names []string) {
	t.Helper()
	dir := t.TempDir()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	names, hunks := readMutants(t)
	hunks = append(hunks, hunk{
		"internal/index/pack.go", "const (\n\tmaxEntries = 16\n\tmaxPages   = 8\n\tmostJoined = maxEntries * maxPages\n)\n",
		"var maxEntries, maxPages, mostJoined = pageSize(16), pageSize(8), pageSize(16) * pageSize(8)\n",
	}, hunk{
		"sessions.go", "const tries, mostKept = 10, 1024\n", "tries, mostKept := 10, pageSize(1024)\n",
	})
	files := map[string]string{
		"mutant.go":                "package session\n" + mutantFile,
		"internal/index/mutant.go": "package index\n" + mutantFile,
	}
	for _, h := range hunks {
		h.old, h.new = strings.TrimRight(h.old, "\n"), strings.TrimRight(h.new, "\n")
		if files[h.file] == "" {
			text, err := os.ReadFile(filepath.Join(root, h.file))
			if err != nil {
				t.Fatal(err)
			}
			files[h.file] = string(text)
		}
		if n := strings.Count(files[h.file], h.old); n != 1 {
			t.Fatalf("testdata/mutants.txt: %s has this %d times:\n%s", h.file, n, h.old)
		}
		files[h.file] = strings.Replace(files[h.file], h.old, h.new, 1)
	}
	var overlay struct{ Replace map[string]string }
	overlay.Replace = map[string]string{}
	for file, text := range files {
		at := filepath.Join(dir, strings.ReplaceAll(file, "/", "_"))
		if err := os.WriteFile(at, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		overlay.Replace[filepath.Join(root, file)] = at
	}
	text, err := json.Marshal(overlay)
	if err != nil {
		t.Fatal(err)
	}
	list := filepath.Join(dir, "overlay.json")
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

// runTests runs the tests of histories in program, until one fails.
func runTests(t *testing.T, program string, env ...string) (out string, failed bool) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program,
		"-test.run=^(TestFaultAtEachCall|TestEverySchedule|TestAtRandom)$", "-test.failfast", "-test.v",
		fmt.Sprint("-owners.histories=", max(*histories, 600)), fmt.Sprint("-owners.seed=", *seed),
		fmt.Sprint("-owners.schedules=", max(*schedules, 30)), fmt.Sprint("-owners.kills=", max(*kills, 1)))
	cmd.Env = append(os.Environ(), env...)
	text, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return string(text), err != nil
}

var (
	rejection = regexp.MustCompile(`is not linearizable|is listed twice`)
	tallies   = regexp.MustCompile(`\d+ histories.*`)
	rejecter  = regexp.MustCompile(`--- FAIL: (\S+/\S+|TestAtRandom) `)
)

// TestMutants checks that each mutant of the order of writes is rejected.
func TestMutants(t *testing.T) {
	if os.Getenv(mutantVariable) != "" || os.Getenv(pagesVariable) != "" {
		t.Skip("this is one")
	}
	program, names := buildMutants(t)
	run := func(name, pages string, rejected bool) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, failed := runTests(t, program, mutantVariable+"="+name, pagesVariable+"="+pages)
			switch {
			case failed != rejected || failed && !rejection.MatchString(out):
				if at := rejection.FindStringIndex(out); at != nil {
					out = out[max(0, at[0]-100):]
				}
				t.Errorf("failed: %t\n%s", failed, out[:min(len(out), 10_000)])
			case rejected:
				t.Logf("rejected by %s", rejecter.FindStringSubmatch(out)[1])
			default:
				t.Log(strings.Join(tallies.FindAllString(out, -1), "; "))
			}
		})
	}
	for _, name := range names {
		if name, ok := strings.CutSuffix(name, " (small pages)"); ok {
			run(name, "2", true)
		} else {
			run(name, "", true)
		}
	}
	run("none", "", false)
	// So small that a few sessions have pages of pages.
	run("none, with small pages", "2", false)
}
