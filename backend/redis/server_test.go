package redisstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// realServer is the address of the redis-server that all tests share.
var realServer string

func TestMain(m *testing.M) {
	redis.SetLogger(silence{}) // it logs each broken connection, and the tests break most
	code := 1
	addr, stop, err := startServer()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	} else {
		realServer = addr
		code = m.Run()
		stop()
	}
	os.Exit(code)
}

type silence struct{}

func (silence) Printf(context.Context, string, ...any) {}

func closeLater(t *testing.T, c io.Closer) { t.Cleanup(func() { _ = c.Close() }) }

// startServer starts a redis-server of its own on a free port.
func startServer(options ...string) (addr string, stop func(), err error) {
	cmd := exec.Command(filepath.Join("..", "..", "scripts", "redis.sh"))
	cmd.Stderr = os.Stderr
	path, err := cmd.Output()
	if err != nil {
		return "", nil, fmt.Errorf("no redis-server to test with: %w", err)
	}
	for range 5 {
		addr, stop, err = startOn(strings.TrimSpace(string(path)), options)
		if err == nil {
			break
		}
	}
	return addr, stop, err
}

func startOn(path string, options []string) (addr string, stop func(), err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	addr = l.Addr().String()
	_ = l.Close()
	_, port, _ := net.SplitHostPort(addr)
	dir, err := os.MkdirTemp("", "session-redis")
	if err != nil {
		return "", nil, err
	}
	args := append([]string{"--port", port, "--bind", "127.0.0.1", "--dir", dir, "--save", "", "--daemonize", "no"}, options...)
	// The shell ends the server when its input is closed, also if this process
	// dies.
	server := exec.Command("sh", append([]string{"-c", `"$@" & cat >/dev/null; kill -9 $!; wait; rm -rf "$0"`, dir, path}, args...)...)
	log := new(strings.Builder)
	server.Stdout, server.Stderr = log, log
	stdin, err := server.StdinPipe()
	if err != nil {
		return "", nil, err
	}
	if err := server.Start(); err != nil {
		return "", nil, err
	}
	stop = func() {
		_ = stdin.Close()
		_ = server.Wait()
	}
	client := redis.NewClient(&redis.Options{Addr: addr, MaxRetries: -1, DialerRetries: 1})
	defer func() { _ = client.Close() }()
	for range 200 {
		if err = client.Ping(context.Background()).Err(); err == nil || strings.HasPrefix(err.Error(), "NOAUTH") {
			return addr, stop, nil
		}
		time.Sleep(25 * time.Millisecond)
	}
	stop()
	return "", nil, fmt.Errorf("redis-server did not start: %w\n%s", err, log)
}

// link lies between a client and its server. It records the commands, and can
// lose them.
type link struct {
	mu       sync.Mutex
	commands []string // the names of those sent, without the set-up of connections
	down     bool     // nothing comes through
	hung     bool     // nothing comes back
	lose     func(string) loss
	before   func()       // called before each command
	pause    func(string) // called with the name of a command before it is sent
	conns    map[*linkConn]struct{}
	deliver  func() // delivers the last late command
}

// loss says how one command is lost.
type loss int

const (
	nothing  loss = iota
	request       // the request does not reach the server
	response      // the server runs the command, and the response is lost
	late          // the request reaches the server when deliver is called
)

func newLink() *link { return &link{conns: make(map[*linkConn]struct{})} }

func (l *link) set(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
}

// loseNext loses the next n commands.
func (l *link) loseNext(n int, what loss) {
	l.set(func() {
		l.lose = func(string) loss {
			if n--; n >= 0 {
				return what
			}
			return nothing
		}
	})
}

// sent returns the commands since the last call.
func (l *link) sent() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	sent := l.commands
	l.commands = nil
	return sent
}

func (l *link) setDown(down bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down = down
	if down {
		for c := range l.conns {
			_ = c.Conn.Close()
		}
	}
}

// options returns options for a client that uses the link and retries soon.
func (l *link) options(addr string) *redis.Options {
	return &redis.Options{
		Addr:            addr,
		Dialer:          l.dial,
		DialerRetries:   1,
		MinRetryBackoff: time.Millisecond,
		MaxRetryBackoff: 5 * time.Millisecond,
		PoolSize:        20,
	}
}

func (l *link) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	l.mu.Lock()
	down := l.down
	l.mu.Unlock()
	if down {
		return nil, &net.OpError{Op: "dial", Net: network, Err: errors.New("the link is down")}
	}
	conn, err := new(net.Dialer).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	c := &linkConn{Conn: conn, link: l}
	l.set(func() { l.conns[c] = struct{}{} })
	return c, nil
}

type linkConn struct {
	net.Conn
	link  *link
	mu    sync.Mutex
	named bool // a command was sent, other than to set up the connection
	lost  bool
	until time.Time
}

// command returns the name of the command at the start of p, "" for one that
// sets up a connection.
func command(p []byte) string {
	lines := strings.SplitN(string(p[:min(len(p), 64)]), "\r\n", 4)
	if len(lines) < 4 || !strings.HasPrefix(lines[0], "*") {
		return ""
	}
	if n, err := strconv.Atoi(strings.TrimPrefix(lines[1], "$")); err != nil || n != len(lines[2]) {
		return ""
	}
	switch name := strings.ToLower(lines[2]); name {
	case "hello", "client", "ping", "cluster", "command":
		return ""
	default:
		return name
	}
}

func (c *linkConn) Write(p []byte) (int, error) {
	name := command(p)
	if name == "" {
		return c.Conn.Write(p)
	}
	c.mu.Lock()
	c.named = true
	c.mu.Unlock()
	l := c.link
	var what loss
	l.mu.Lock()
	l.commands = append(l.commands, name)
	if l.lose != nil {
		what = l.lose(name)
	}
	before, pause := l.before, l.pause
	l.mu.Unlock()
	if before != nil {
		before()
	}
	if pause != nil {
		pause(name)
	}
	switch what {
	case request:
		_ = c.Conn.Close()
		return len(p), nil // the read fails then
	case late:
		command, addr := bytes.Clone(p), c.RemoteAddr()
		l.set(func() { l.deliver = func() { deliver(addr, command) } })
		_ = c.Conn.Close()
		return len(p), nil
	case response:
		c.mu.Lock()
		c.lost = true
		c.mu.Unlock()
	}
	return c.Conn.Write(p)
}

// deliver sends a command on a connection of its own, and waits for the answer.
func deliver(addr net.Addr, command []byte) {
	conn, err := net.Dial(addr.Network(), addr.String())
	if err != nil {
		return
	}
	defer func() { _ = conn.Close() }()
	if _, err := conn.Write(command); err == nil {
		_, _ = conn.Read(make([]byte, 1))
	}
}

func (c *linkConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.mu.Lock()
	lost, named := c.lost, c.named
	c.mu.Unlock()
	if lost && err == nil {
		// The response has arrived, so the server has run the command.
		_ = c.Conn.Close()
		return 0, io.EOF
	}
	for err == nil && named {
		c.link.mu.Lock()
		hung := c.link.hung
		c.link.mu.Unlock()
		if !hung {
			break
		}
		c.mu.Lock()
		until := c.until
		c.mu.Unlock()
		if !until.IsZero() && time.Now().After(until) {
			_ = c.Conn.Close()
			return 0, os.ErrDeadlineExceeded
		}
		time.Sleep(time.Millisecond)
	}
	return n, err
}

func (c *linkConn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	c.until = t
	c.mu.Unlock()
	return c.Conn.SetReadDeadline(t)
}

func (c *linkConn) Close() error {
	c.link.set(func() { delete(c.link.conns, c) })
	return c.Conn.Close()
}
