package integration

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/seed-a7bee19b/session/integration/engine"
)

// local is the DynamoDB Local that all tests share. Each test has tables of
// its own.
var local *engine.Engine

func TestMain(m *testing.M) {
	if os.Getenv(jobVariable) != "" {
		os.Exit(work())
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	var err error
	local, err = engine.Start(context.Background(), os.Stderr)
	if err != nil {
		fmt.Fprintln(os.Stderr, "integration:", err)
		return 1
	}
	defer func() {
		if err := local.Close(); err != nil {
			fmt.Fprintln(os.Stderr, "integration: stop the engine:", err)
		}
	}()
	fmt.Println(local)
	return m.Run()
}
