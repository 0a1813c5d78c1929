//go:build ignore

// Gotest runs "go test" in the module folders that it is given and prints a
// result that one can read: a line when a package starts and one when it ends,
// what packages say on their own, and failed tests in full. While nothing else
// is printed, it says from time to time what is running. It fails if a test
// failed or was skipped, or if a module has no test that ran.
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
	"slices"
	"strings"
	"time"
)

// heartbeat is how long the output may be silent.
const heartbeat = 30 * time.Second

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
	began := time.Now()
	for i, dir := range flag.Args() {
		fmt.Printf("== module %s, %d of %d\n", dir, i+1, flag.NArg())
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
	fmt.Printf("%d passed, %d failed, %d skipped, %v\n", total.passed, total.failed, total.skipped, since(began))
	if !ok || total.failed > 0 || total.skipped > 0 {
		os.Exit(1)
	}
}

// run tests the module in dir. The error is for what is wrong beyond its tests.
func run(dir string, flags []string) (result, error) {
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
	running := map[string]time.Time{} // when a package's first test began
	began := time.Now()
	lines, readErr := make(chan []byte), make(chan error, 1)
	go func() {
		readErr <- split(out, lines)
		close(lines)
	}()
	silent := time.NewTicker(heartbeat)
	defer silent.Stop()
	for {
		var line []byte
		var more bool
		select {
		case <-silent.C:
			fmt.Printf("...  %s; %d tests of this module have passed\n", state(running, began), r.passed)
			continue
		case line, more = <-lines:
			if !more {
				return r, <-readErr
			}
		}
		var e event
		if json.Unmarshal(line, &e) != nil {
			fmt.Printf("%s", line) // not JSON: go itself has something to say
			continue
		}
		if _, known := running[e.Package]; !known && e.Action == "run" {
			running[e.Package] = time.Now()
			fmt.Printf("run  %s\n", e.Package)
			silent.Reset(heartbeat)
		}
		if e.Test == "" && (e.Action == "pass" || e.Action == "fail" || e.Action == "skip") {
			delete(running, e.Package)
			silent.Reset(heartbeat)
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

// split sends what it reads, line by line.
func split(r io.Reader, lines chan<- []byte) error {
	buf := bufio.NewReader(r)
	for {
		line, err := buf.ReadBytes('\n')
		if len(line) > 0 {
			lines <- line
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// state says what is running, and for how long.
func state(running map[string]time.Time, began time.Time) string {
	if len(running) == 0 {
		return fmt.Sprintf("compiling, %v since the module began", since(began))
	}
	var list []string
	for pkg, t := range running {
		list = append(list, fmt.Sprintf("%s, %v", pkg, since(t)))
	}
	slices.Sort(list)
	return "still running: " + strings.Join(list, "; ")
}

func since(t time.Time) time.Duration { return time.Since(t).Round(time.Second) }

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
