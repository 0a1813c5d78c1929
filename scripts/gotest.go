//go:build ignore

// Gotest runs "go test" in the module folders that it is given and prints a
// result that one can read: a line per package, what packages say on their
// own, and failed tests in full. It fails if a test failed or was skipped, or
// if a module has no test that ran.
//
//	go run scripts/gotest.go [-flags "-race -count=1"] FOLDER...
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
)

// event is a line of "go test -json".
type event struct {
	Action      string
	Package     string
	ImportPath  string // instead of Package where a build failed
	Test        string
	Elapsed     float64
	Output      string
	FailedBuild string
}

type result struct {
	passed, failed, skipped int
	broken                  bool // a package failed outside its tests, or go test itself
}

func main() {
	flags := flag.String("flags", "-race -count=1", "flags of go test, separated by blanks")
	flag.Parse()
	if flag.NArg() == 0 {
		fmt.Fprintln(os.Stderr, "gotest: no folder given")
		os.Exit(2)
	}
	var total result
	ok := true
	for _, dir := range flag.Args() {
		r, err := run(dir, strings.Fields(*flags))
		if err != nil {
			fmt.Printf("FAIL %s: %v\n", dir, err)
			ok = false
		}
		if r.passed+r.failed+r.skipped == 0 {
			fmt.Printf("FAIL %s: no test ran\n", dir)
			ok = false
		}
		ok = ok && !r.broken
		total.passed += r.passed
		total.failed += r.failed
		total.skipped += r.skipped
	}
	if total.skipped > 0 {
		fmt.Println("FAIL a skipped test is a test that did not run")
	}
	fmt.Printf("%d passed, %d failed, %d skipped\n", total.passed, total.failed, total.skipped)
	if !ok || total.failed > 0 || total.skipped > 0 {
		os.Exit(1)
	}
}

// run tests the module in dir. The error is for what is wrong beyond its tests.
func run(dir string, flags []string) (result, error) {
	fmt.Printf("== %s\n", dir)
	cmd := exec.Command("go", append(append([]string{"test", "-json"}, flags...), "./...")...)
	cmd.Dir = dir
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return result{}, err
	}
	if err := cmd.Start(); err != nil {
		return result{}, err
	}
	r, readErr := read(out)
	err = cmd.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) && (r.failed > 0 || r.broken) {
		err = nil // said already
	}
	return r, errors.Join(readErr, err)
}

func read(out io.Reader) (result, error) {
	var r result
	logs := map[[2]string]*strings.Builder{} // what a test or a build wrote
	log := func(pkg, test string) *strings.Builder {
		key := [2]string{pkg, test}
		if logs[key] == nil {
			logs[key] = new(strings.Builder)
		}
		return logs[key]
	}
	failedIn := map[string]int{}
	lines := bufio.NewReader(out)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) == 0 {
			if err == io.EOF {
				err = nil
			}
			return r, err
		}
		var e event
		if json.Unmarshal(line, &e) != nil {
			fmt.Printf("%s", line) // not JSON: go itself has something to say
			continue
		}
		switch {
		case e.Action == "build-output":
			log(e.ImportPath, "build").WriteString(e.Output)
		case e.Action == "output" && e.Test == "":
			if !noise(e.Output) {
				fmt.Print(e.Output)
			}
		case e.Action == "output":
			log(e.Package, e.Test).WriteString(e.Output)
		case e.Test == "":
			switch e.Action {
			case "pass":
				fmt.Printf("ok   %s (%.1f s)\n", e.Package, e.Elapsed)
			case "fail":
				if e.FailedBuild != "" {
					fmt.Print(log(e.FailedBuild, "build"))
				}
				// A panic or an early exit leaves a test without an end.
				if failedIn[e.Package] == 0 {
					r.broken = true
					for key, l := range logs {
						if key[0] == e.Package && key[1] != "build" {
							fmt.Print(l)
						}
					}
				}
				fmt.Printf("FAIL %s (%.1f s)\n", e.Package, e.Elapsed)
			}
		case e.Action == "pass":
			r.passed++
			delete(logs, [2]string{e.Package, e.Test})
		case e.Action == "skip":
			r.skipped++
			fmt.Print(log(e.Package, e.Test))
			delete(logs, [2]string{e.Package, e.Test})
		case e.Action == "fail":
			r.failed++
			failedIn[e.Package]++
			fmt.Print(log(e.Package, e.Test))
			delete(logs, [2]string{e.Package, e.Test})
		}
	}
}

// noise is what go test says about a package beside what the package says.
func noise(s string) bool {
	switch {
	case s == "PASS\n", s == "FAIL\n":
		return true
	case strings.HasPrefix(s, "\t") && strings.Contains(s, "\tcoverage: "): // a package without tests
		return true
	}
	for _, prefix := range []string{"ok  \t", "FAIL\t", "?   \t", "coverage: ", "exit status "} {
		if strings.HasPrefix(s, prefix) {
			return true
		}
	}
	return false
}
