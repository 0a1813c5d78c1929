package behaviour

import (
	"bufio"
	"context"
	"io"
	"net"
	"sync"
)

// streamed flushes and then writes.
func streamed(body string) func(*bufio.Writer) {
	return func(w *bufio.Writer) {
		_ = w.Flush() // the client may have disconnected
		_, _ = w.WriteString(body)
	}
}

// cut is a proxy of a server that can be cut off: then it closes its connections,
// and closes new ones at once.
type cut struct {
	target string
	l      net.Listener
	wg     sync.WaitGroup

	mu     sync.Mutex
	broken bool
	conns  map[net.Conn]bool
}

func newCut(target string) (*cut, error) {
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	c := &cut{target: target, l: l, conns: map[net.Conn]bool{}}
	c.wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return // closed
			}
			c.wg.Go(func() { c.serve(conn) })
		}
	})
	return c, nil
}

func (c *cut) addr() string { return c.l.Addr().String() }

func (c *cut) set(broken bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.broken = broken
	if broken {
		for conn := range c.conns {
			_ = conn.Close() // so that a request in flight fails
		}
	}
}

func (c *cut) close() error {
	c.set(true)
	err := c.l.Close()
	c.wg.Wait()
	return err
}

// keep records a connection, unless the server is cut off.
func (c *cut) keep(conn net.Conn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.broken {
		c.conns[conn] = true
	}
	return !c.broken
}

func (c *cut) drop(conn net.Conn) {
	_ = conn.Close() // may be closed already
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.conns, conn)
}

func (c *cut) serve(client net.Conn) {
	defer c.drop(client)
	if !c.keep(client) {
		return
	}
	server, err := new(net.Dialer).DialContext(context.Background(), "tcp", c.target)
	if err != nil {
		return
	}
	defer c.drop(server)
	if !c.keep(server) {
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(server, client) // returns when either is closed
		c.drop(server)
	}()
	_, _ = io.Copy(client, server)
	c.drop(client)
	<-done
}
