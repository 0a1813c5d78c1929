package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/moby/moby/client"
	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/log"
)

const (
	defaultImage = "amazon/dynamodb-local:3.3.1"
	enginePort   = "8000/tcp"

	// Labels that identify the owner of a container, for sweep.
	labelHost = "session-test.host"
	labelPID  = "session-test.pid"
)

func startContainer(ctx context.Context) (_ *Engine, err error) {
	// A first pull may take minutes on a slow network.
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	log.SetDefault(log.NewNoopLogger()) // its errors have all that matters
	docker, err := dockerEngine(ctx)
	if err != nil {
		return nil, err
	}
	defer docker.Close() //nolint:errcheck // nothing was written to it
	host, err := os.Hostname()
	if err != nil {
		return nil, err
	}
	if err := sweep(ctx, docker.Client(), host); err != nil {
		return nil, fmt.Errorf("containers of earlier runs: %w", err)
	}

	image := cmp.Or(os.Getenv("SESSION_DYNAMODB_IMAGE"), defaultImage)
	c, err := testcontainers.Run(ctx, image,
		testcontainers.WithExposedPorts(enginePort),
		testcontainers.WithCmd("-jar", "DynamoDBLocal.jar", "-inMemory", "-sharedDb", "-disableTelemetry"),
		// This halves the start time: no run is long enough for the optimizing
		// compiler.
		testcontainers.WithEnv(map[string]string{"JAVA_TOOL_OPTIONS": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"}),
		testcontainers.WithLabels(map[string]string{labelHost: host, labelPID: strconv.Itoa(os.Getpid())}),
	)
	stop := func() error { return testcontainers.TerminateContainer(c, testcontainers.StopTimeout(0)) }
	defer func() {
		if err != nil {
			err = errors.Join(err, stop())
		}
	}()
	if err != nil {
		return nil, fmt.Errorf("container %s: %w", image, err)
	}
	endpoint, err := containerEndpoint(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("container %s: %w", image, err)
	}
	if err := waitReady(ctx, endpoint, time.Minute, func() error { return exited(ctx, c) }); err != nil {
		return nil, fmt.Errorf("container %s: %w", image, err)
	}
	return &Engine{Endpoint: endpoint, way: "container " + image + " (testcontainers)", stop: stop}, nil
}

// dockerEngine finds the engine that testcontainers uses.
func dockerEngine(ctx context.Context) (*testcontainers.DockerProvider, error) {
	const words = "no Docker engine answers: %w"
	docker, err := testcontainers.NewDockerProvider()
	if err != nil {
		return nil, fmt.Errorf(words, err)
	}
	err = docker.Health(ctx)
	if want := os.Getenv("DOCKER_HOST"); err == nil && want != "" && docker.Client().DaemonHost() != want {
		// testcontainers tries the default socket even if DOCKER_HOST is set.
		err = fmt.Errorf("not at DOCKER_HOST=%s", want)
	}
	if err != nil {
		return nil, fmt.Errorf(words, errors.Join(err, docker.Close()))
	}
	return docker, nil
}

// sweep removes containers of earlier runs on this machine that were killed.
// Ryuk does that if it runs, but it may be disabled.
func sweep(ctx context.Context, docker client.APIClient, host string) error {
	found, err := docker.ContainerList(ctx, client.ContainerListOptions{
		All:     true,
		Filters: client.Filters{}.Add("label", labelHost+"="+host),
	})
	if err != nil {
		return err
	}
	for _, c := range found.Items {
		pid, err := strconv.Atoi(c.Labels[labelPID])
		if err == nil && pid != os.Getpid() && alive(pid) {
			continue
		}
		if _, err := docker.ContainerRemove(ctx, c.ID, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true}); err != nil {
			return err
		}
	}
	return nil
}

func alive(pid int) bool {
	p, err := os.FindProcess(pid)
	return err == nil && p.Signal(syscall.Signal(0)) == nil
}

// containerEndpoint prefers the loopback interface if the port answers there.
// Inside a container, testcontainers takes the default gateway for the host, but
// that need not be the machine with the engine.
func containerEndpoint(ctx context.Context, c *testcontainers.DockerContainer) (string, error) {
	port, err := c.MappedPort(ctx, enginePort)
	if err != nil {
		return "", err
	}
	local := net.JoinHostPort("127.0.0.1", port.Port())
	var d net.Dialer
	if conn, err := d.DialContext(ctx, "tcp", local); err == nil {
		return "http://" + local, conn.Close()
	}
	return c.PortEndpoint(ctx, enginePort, "http")
}

// exited returns the output of a container that has ended.
func exited(ctx context.Context, c *testcontainers.DockerContainer) error {
	state, err := c.State(ctx)
	if err != nil || state.Running {
		return err
	}
	logs, err := c.Logs(ctx)
	if err != nil {
		return err
	}
	defer logs.Close() //nolint:errcheck // read to its end below
	text, err := io.ReadAll(io.LimitReader(logs, 1<<16))
	return errors.Join(fmt.Errorf("it ended with status %d: %s", state.ExitCode, text), err)
}
