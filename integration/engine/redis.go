package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"time"
)

// StartRedis starts a Redis server that keeps nothing on disk. scripts/redis.sh
// finds or installs it. It ends with Close, and also if this process is killed.
// Its Endpoint is a "host:port".
func StartRedis(ctx context.Context, log io.Writer) (*Engine, error) {
	script, err := findScript("redis.sh")
	if err != nil {
		return nil, err
	}
	find := exec.CommandContext(ctx, "bash", script)
	find.Stderr = log
	path, err := find.Output()
	if err != nil {
		return nil, fmt.Errorf("no Redis server: %s: %w", script, err)
	}
	for range 5 { // another program may take the port
		var e *Engine
		if e, err = startRedisOnce(ctx, strings.TrimSpace(string(path))); err == nil {
			return e, nil
		}
	}
	return nil, err
}

func startRedisOnce(ctx context.Context, path string) (*Engine, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		return nil, err
	}
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "session-redis")
	if err != nil {
		return nil, err
	}
	// The shell ends the server when its own standard input is closed.
	const until = `"$@" </dev/null & server=$!; while read -r _; do :; done; kill $server; wait $server`
	cmd := exec.Command("bash", "-c", until, "bash", //nolint:noctx // it outlives ctx, until Close
		path, "--port", port, "--bind", "127.0.0.1", "--dir", dir, "--save", "", "--daemonize", "no")
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.WaitDelay = 10 * time.Second
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	stop := func() error {
		err := stdin.Close()
		_ = cmd.Wait() // it was killed
		return errors.Join(err, os.RemoveAll(dir))
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for {
		if err = ping(ctx, addr); err == nil {
			return &Engine{Endpoint: addr, engine: "Redis", way: path, stop: stop}, nil
		}
		select {
		case <-ctx.Done():
			err = errors.Join(err, stop()) // said is complete only now
			return nil, fmt.Errorf("the Redis server does not answer: %w\n%s", err, &said)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func ping(ctx context.Context, addr string) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // nothing was written that could be lost
	if err := conn.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return err
	}
	if _, err := io.WriteString(conn, "PING\r\n"); err != nil {
		return err
	}
	answer := make([]byte, len("+PONG"))
	if _, err := io.ReadFull(conn, answer); err != nil {
		return err
	}
	if string(answer) != "+PONG" {
		return fmt.Errorf("PING was answered with %q", answer)
	}
	return nil
}
