package proxy

import (
	"bufio"
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// newServer stands in for Redis: it answers every command with "+OK", and
// counts the scripts that reach it.
func newServer(t *testing.T) (addr string, reached *atomic.Int32) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	reached = new(atomic.Int32)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				for r := bufio.NewReader(conn); ; {
					_, op, err := readCommand(r)
					if err != nil {
						return
					}
					if op == "EVALSHA" {
						reached.Add(1)
					}
					if _, err := io.WriteString(conn, "+OK\r\n"); err != nil {
						return
					}
				}
			}()
		}
	}()
	return l.Addr().String(), reached
}

const (
	hello   = "*1\r\n$5\r\nHELLO\r\n"
	evalsha = "*3\r\n$7\r\nevalsha\r\n$2\r\nab\r\n$4\r\n\r\n\r\n\r\n"
)

func TestRedisFaults(t *testing.T) {
	tests := []struct {
		fault   Fault
		answer  string // "": the connection is closed
		reached int32
	}{
		{None, "+OK\r\n", 1},
		{DropRequest, "", 0},
		{DropResponse, "", 1},
		{Throttle, "-LOADING Redis is loading the dataset in memory\r\n", 0},
	}
	for _, tt := range tests {
		t.Run(tt.fault.String(), func(t *testing.T) {
			addr, reached := newServer(t)
			p, err := NewRedis(addr)
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			p.SetRule(Always("EVALSHA", Action{Fault: tt.fault}))
			conn, err := net.Dial("tcp", p.URL())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
				t.Fatal(err)
			}
			r := bufio.NewReader(conn)
			if got := exchange(t, conn, r, hello); got != "+OK\r\n" {
				t.Errorf("a command that is not a script was answered with %q", got)
			}
			if got := exchange(t, conn, r, evalsha); got != tt.answer {
				t.Errorf("answered with %q, want %q", got, tt.answer)
			}
			if n := reached.Load(); n != tt.reached {
				t.Errorf("reached the server %d times, want %d", n, tt.reached)
			}
			want := Count{Requests: 1, Applied: int(tt.reached)}
			if got := p.Counts(); len(got) != 1 || got["EVALSHA"] != want {
				t.Errorf("counted %+v, want %+v", got, want)
			}
		})
	}
}

func TestRedisHangEndsWithTheProxy(t *testing.T) {
	addr, reached := newServer(t)
	p, err := NewRedis(addr)
	if err != nil {
		t.Fatal(err)
	}
	arrived := make(chan struct{})
	p.SetRule(Always("EVALSHA", Action{Fault: Hang, Before: func() { close(arrived) }}))
	conn, err := net.Dial("tcp", p.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.Copy(conn, strings.NewReader(evalsha)); err != nil {
		t.Fatal(err)
	}
	<-arrived
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if got, _ := io.ReadAll(conn); len(got) > 0 || reached.Load() > 0 {
		t.Errorf("answered with %q, and reached the server %d times", got, reached.Load())
	}
}

// exchange sends a command and returns the response, "" if there is none.
func exchange(t *testing.T, conn net.Conn, r *bufio.Reader, command string) string {
	t.Helper()
	if _, err := io.WriteString(conn, command); err != nil {
		t.Fatal(err)
	}
	line, err := r.ReadString('\n')
	if err != nil {
		return ""
	}
	return line
}

func TestRedisLate(t *testing.T) {
	for _, fault := range []Fault{LateSilent, LateDropped} {
		t.Run(fault.String(), func(t *testing.T) {
			addr, reached := newServer(t)
			p, err := NewRedis(addr)
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			until, after, arrived := make(chan struct{}), make(chan struct{}), make(chan struct{})
			p.SetRule(Always("EVALSHA", Action{
				Fault: fault, Delay: time.Millisecond, Until: until,
				Before: func() { close(arrived) }, After: func() { close(after) },
			}))
			conn, err := net.Dial("tcp", p.URL())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(conn, evalsha); err != nil {
				t.Fatal(err)
			}
			<-arrived
			if fault == LateDropped {
				if got, err := io.ReadAll(conn); len(got) > 0 || err != nil && !errors.Is(err, syscall.ECONNRESET) {
					t.Errorf("answered with %q, %v", got, err)
				}
			}
			_ = conn.Close()
			if n := reached.Load(); n != 0 {
				t.Errorf("reached the server %d times already", n)
			}
			close(until)
			<-after
			if n, got := reached.Load(), p.Counts()["EVALSHA"]; n != 1 || got != (Count{Requests: 1, Applied: 1}) {
				t.Errorf("reached the server %d times, counted %+v", n, got)
			}
		})
	}
}
