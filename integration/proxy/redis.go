package proxy

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Redis is a proxy in front of a Redis server. It listens on a free port of the
// loopback interface until Close.
//
// It counts and harms only scripts, EVAL and EVALSHA, and forwards all other
// commands, such as those that set up a connection. A connection must have at
// most one script in flight. Throttle and InternalError are both the response of
// a server that is loading its data. Capacity is not counted, and Applied counts
// the responses other than errors.
type Redis struct {
	book
	target   string
	listener net.Listener
	late
	wg sync.WaitGroup
}

// NewRedis starts a proxy in front of target, a "host:port". It forwards
// everything until SetRule is called.
func NewRedis(target string) (*Redis, error) {
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &Redis{target: target, listener: l}
	p.init()
	p.wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return // closed
			}
			p.wg.Go(func() { p.serve(conn) })
		}
	})
	return p, nil
}

// URL is the address of the proxy for clients, a "host:port".
func (p *Redis) URL() string { return p.listener.Addr().String() }

// Close ends the proxy and every connection through it.
func (p *Redis) Close() error {
	p.end()
	err := p.listener.Close()
	p.wg.Wait()
	return err
}

// pair has a connection of a client, and the corresponding connection to the
// server.
type pair struct {
	p              *Redis
	client, server net.Conn

	mu  sync.Mutex
	op  string // of the script whose response has not begun
	act Action
}

func (p *Redis) serve(client net.Conn) {
	defer client.Close() //nolint:errcheck // it may be closed already
	server, err := new(net.Dialer).DialContext(p.ctx, "tcp", p.target)
	if err != nil {
		return
	}
	defer server.Close() //nolint:errcheck // it may be closed already
	c := &pair{p: p, client: client, server: server}
	ctx, cancel := context.WithCancel(p.ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() {
		_ = client.Close()
		_ = server.Close()
	})
	defer stop()
	answers := make(chan struct{})
	go func() {
		defer close(answers)
		defer cancel()
		c.answers()
	}()
	c.commands(ctx)
	cancel()
	<-answers
}

// commands forwards commands of the client until a fault stops it.
func (c *pair) commands(ctx context.Context) {
	r := bufio.NewReader(c.client)
	for {
		command, op, err := readCommand(r)
		if err != nil {
			return
		}
		if op != "EVAL" && op != "EVALSHA" {
			if _, err := c.server.Write(command); err != nil {
				return
			}
			continue
		}
		act := c.p.decide(op, command)
		if act.late() {
			c.p.deliver(act, func() { c.p.send(op, command) })
		} else if act.Delay > 0 {
			select {
			case <-time.After(act.Delay):
			case <-ctx.Done():
				return
			}
		}
		if act.Before != nil {
			act.Before()
		}
		switch act.Fault {
		case DropRequest, LateDropped:
			return
		case Hang, LateSilent:
			// Until the client disconnects, which is the only thing it may do
			// now.
			_, _ = r.ReadByte()
			return
		case Throttle, InternalError:
			if _, err := io.WriteString(c.client, "-LOADING Redis is loading the dataset in memory\r\n"); err != nil {
				return
			}
			continue
		}
		c.mu.Lock()
		c.op, c.act = op, act
		c.mu.Unlock()
		if _, err := c.server.Write(command); err != nil {
			return
		}
	}
}

// send sends a command on a connection of its own, and waits for the response.
func (p *Redis) send(op string, command []byte) {
	server, err := new(net.Dialer).DialContext(p.ctx, "tcp", p.target)
	if err != nil {
		return
	}
	defer server.Close() //nolint:errcheck // it may be closed already
	stop := context.AfterFunc(p.ctx, func() { _ = server.Close() })
	defer stop()
	if _, err := server.Write(command); err != nil {
		return
	}
	begin := make([]byte, 1)
	if _, err := server.Read(begin); err == nil && begin[0] != '-' {
		p.count(op, Count{Applied: 1})
	}
}

// answers forwards responses of the server until a fault stops it.
func (c *pair) answers() {
	buf := make([]byte, 32<<10)
	for {
		n, err := c.server.Read(buf)
		if n > 0 {
			c.mu.Lock()
			op, act := c.op, c.act
			c.op = ""
			c.mu.Unlock()
			if op != "" { // a script is done when its response begins
				if buf[0] != '-' {
					c.p.count(op, Count{Applied: 1})
				}
				if act.After != nil {
					act.After()
				}
				if act.Fault == DropResponse {
					return
				}
			}
			if _, err := c.client.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// readCommand reads one command in the form that clients send, an array of
// strings, and returns it with its name in upper case.
func readCommand(r *bufio.Reader) (command []byte, op string, err error) {
	var b bytes.Buffer
	number := func(kind byte) (int, error) {
		line, err := r.ReadString('\n')
		if err != nil {
			return 0, err
		}
		b.WriteString(line)
		if line[0] != kind {
			return 0, fmt.Errorf("proxy: a command has %q where %q should be", line[0], kind)
		}
		return strconv.Atoi(strings.TrimSpace(line[1:]))
	}
	n, err := number('*')
	for i := 0; i < n && err == nil; i++ {
		var size int
		if size, err = number('$'); err != nil {
			break
		}
		start := b.Len()
		if _, err = io.CopyN(&b, r, int64(size)+2); err == nil && i == 0 {
			op = strings.ToUpper(string(b.Bytes()[start : start+size]))
		}
	}
	return b.Bytes(), op, err
}
