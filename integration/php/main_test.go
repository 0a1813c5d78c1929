package php

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"testing"

	"github.com/seed-a7bee19b/session/integration/engine"
)

// local is the DynamoDB Local that all tests share; each has its own table.
var local *engine.Engine

// interpreter is the path of PHP.
var interpreter string

func TestMain(m *testing.M) {
	if job := os.Getenv(holderVariable); job != "" {
		os.Exit(hold(job))
	}
	flag.Parse()
	// These tests mostly wait, for leases and for processes, so two at a time
	// would be too few on a machine with two cores.
	if f := flag.Lookup("test.parallel"); f.Value.String() == f.DefValue && runtime.GOMAXPROCS(0) < 4 {
		if err := flag.Set("test.parallel", "4"); err != nil {
			panic(err)
		}
	}
	os.Exit(run(m))
}

func run(m *testing.M) (code int) {
	name := os.Getenv("PHP")
	if name == "" {
		name = "php"
	}
	path, err := exec.LookPath(name)
	if err != nil {
		fmt.Fprintln(os.Stderr, "php: these tests need PHP 8.1 or later: install php-cli, or set PHP to its path:", err)
		return 1
	}
	interpreter = path
	e, err := engine.Start(context.Background(), os.Stderr)
	if err != nil {
		fmt.Fprintln(os.Stderr, "php:", err)
		return 1
	}
	defer func() {
		if err := e.Close(); err != nil {
			fmt.Fprintln(os.Stderr, "php: stop the engine:", err)
		}
	}()
	fmt.Println(e)
	local = e
	return m.Run()
}
