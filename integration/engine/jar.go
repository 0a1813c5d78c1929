package engine

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// startJar runs scripts/dynamodb-local.sh, which downloads what is missing. The
// engine ends when its standard input is closed, so it also ends if this process
// is killed.
func startJar(ctx context.Context, log io.Writer) (*Engine, error) {
	script, err := findScript("dynamodb-local.sh")
	if err != nil {
		return nil, err
	}
	cmd := exec.Command("bash", script, "serve", "--stdin") //nolint:noctx // it outlives ctx, until Close
	var said strings.Builder
	cmd.Stderr = io.MultiWriter(log, &said)
	// Pipes that stay open must not keep Wait from returning.
	cmd.WaitDelay = 10 * time.Second
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("%s: %w", script, err)
	}
	stop := func() error { return errors.Join(stdin.Close(), cmd.Wait()) }

	line := make(chan string, 1)
	go func() {
		s, _ := bufio.NewReader(stdout).ReadString('\n') // empty if it ended
		line <- strings.TrimSpace(s)
	}()
	// A first run downloads, and installs Java where it may.
	ctx, cancel := context.WithTimeoutCause(ctx, 10*time.Minute, errors.New("not ready after 10 minutes"))
	defer cancel()
	select {
	case endpoint := <-line:
		if endpoint == "" {
			err := stop() // said is complete only now
			return nil, fmt.Errorf("%s (%w)", strings.TrimSpace(said.String()), err)
		}
		return &Engine{Endpoint: endpoint, way: "jar (Java)", stop: stop}, nil
	case <-ctx.Done():
		return nil, errors.Join(fmt.Errorf("%s: %w", script, context.Cause(ctx)), stop())
	}
}

// findScript looks for scripts/name in the folders above the working folder,
// because a test runs in the folder of its package.
func findScript(name string) (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		path := filepath.Join(dir, "scripts", name)
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", fmt.Errorf("scripts/%s is in no folder above the working folder", name)
		}
		dir = parent
	}
}
