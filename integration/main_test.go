package integration

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"testing"

	"github.com/seed-a7bee19b/session/integration/engine"
)

// local is the DynamoDB Local that all tests share, and server the Redis server.
// Each test has its own tables and prefixes.
var local, server *engine.Engine

func TestMain(m *testing.M) {
	if os.Getenv(jobVariable) != "" {
		os.Exit(work())
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
	starts := []struct {
		engine **engine.Engine
		start  func(context.Context, io.Writer) (*engine.Engine, error)
	}{{&local, engine.Start}, {&server, engine.StartRedis}}
	for _, s := range starts {
		e, err := s.start(context.Background(), os.Stderr)
		if err != nil {
			fmt.Fprintln(os.Stderr, "integration:", err)
			return 1
		}
		defer func() {
			if err := e.Close(); err != nil {
				fmt.Fprintln(os.Stderr, "integration: stop the engine:", err)
			}
		}()
		fmt.Println(e)
		*s.engine = e
	}
	return m.Run()
}
