package main

import (
	"bufio"
	"context"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

// meter is a proxy of a Redis server that counts the commands of any client.
type meter struct {
	target string
	l      net.Listener
	n      atomic.Int64
	wg     sync.WaitGroup

	mu    sync.Mutex
	conns []net.Conn
}

func newMeter(target string) (*meter, error) {
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	m := &meter{target: target, l: l}
	m.wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return // closed
			}
			m.wg.Go(func() { m.serve(conn) })
		}
	})
	return m, nil
}

func (m *meter) addr() string { return m.l.Addr().String() }

func (m *meter) close() error {
	err := m.l.Close()
	m.mu.Lock()
	for _, c := range m.conns {
		_ = c.Close() // may be closed already
	}
	m.mu.Unlock()
	m.wg.Wait()
	return err
}

func (m *meter) serve(client net.Conn) {
	defer client.Close() //nolint:errcheck // may be closed already
	server, err := new(net.Dialer).DialContext(context.Background(), "tcp", m.target)
	if err != nil {
		return
	}
	defer server.Close() //nolint:errcheck // may be closed already
	m.mu.Lock()
	m.conns = append(m.conns, client, server)
	m.mu.Unlock()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(client, server) // returns when either is closed
		_ = client.Close()
	}()
	m.count(io.TeeReader(client, server))
	_ = server.Close()
	<-done
}

// count reads commands until the client disconnects. A command is an array of bulk
// strings.
func (m *meter) count(from io.Reader) {
	r := bufio.NewReader(from)
	length := func(kind byte) (int, bool) {
		line, err := r.ReadString('\n')
		if err != nil || line[0] != kind {
			return 0, false
		}
		n, err := strconv.Atoi(strings.TrimSpace(line[1:]))
		return n, err == nil
	}
	for {
		parts, ok := length('*')
		if !ok {
			break
		}
		m.n.Add(1)
		for range parts {
			size, ok := length('$')
			if !ok {
				return
			}
			if _, err := r.Discard(size + 2); err != nil {
				return
			}
		}
	}
	_, _ = io.Copy(io.Discard, r) // not the Redis protocol: forward it uncounted
}
