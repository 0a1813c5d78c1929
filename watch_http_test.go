package session_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/memory"
)

// quick is a Watch for tests on the real clock.
var quick = session.Watch{Interval: 100 * time.Millisecond}

// streams are two servers on one store, as behind a load balancer, with a user who
// is logged in.
type streams struct {
	here, there *httptest.Server
	token       string
	began       chan bool  // polls have
	ended       chan error // why the streams have ended
}

func newStreams(t *testing.T) *streams {
	t.Helper()
	x := &streams{began: make(chan bool, 100), ended: make(chan error, 100)}
	var b memory.Backend
	serve := func() (*session.Manager, *httptest.Server) {
		m := newManager(t, &b, session.Config{Cookie: session.Cookie{InsecureHTTP: true}})
		mux := http.NewServeMux()
		mux.Handle("GET /events", m.HandlerFunc(x.events))
		mux.Handle("GET /socket", m.HandlerFunc(x.socket))
		mux.Handle("GET /poll", m.HandlerFunc(x.poll))
		mux.Handle("POST /logout", m.HandlerFunc(func(_ http.ResponseWriter, r *http.Request, s *session.Session) error {
			return s.Destroy(r.Context())
		}))
		mux.Handle("POST /rotate", m.HandlerFunc(func(_ http.ResponseWriter, _ *http.Request, s *session.Session) error {
			return s.Rotate()
		}))
		server := httptest.NewServer(mux)
		t.Cleanup(server.Close)
		return m, server
	}
	var m *session.Manager
	m, x.here = serve()
	_, x.there = serve()
	s := m.Start()
	check(t, s.Login("ann"))
	check(t, finish(m, s))
	x.token = s.Token().Reveal()
	return x
}

// events sends events until the session ends.
func (x *streams) events(w http.ResponseWriter, r *http.Request, s *session.Session) error {
	ctx, stop, err := s.Watch(r.Context(), quick)
	if err != nil {
		return err
	}
	defer stop()
	w.Header().Set("Content-Type", "text/event-stream")
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for n := 0; ; n++ {
		fmt.Fprintf(w, "data: %d\n\n", n)
		if http.NewResponseController(w).Flush() != nil {
			return nil // the client has left
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			x.ended <- context.Cause(ctx)
			fmt.Fprint(w, "event: ended\ndata:\n\n")
			return nil
		}
	}
}

// poll answers when there is news: here, when the session has ended.
func (x *streams) poll(w http.ResponseWriter, r *http.Request, s *session.Session) error {
	ctx, stop, err := s.Watch(r.Context(), quick)
	if err != nil {
		return err
	}
	defer stop()
	x.began <- true
	<-ctx.Done()
	x.ended <- context.Cause(ctx)
	return context.Cause(ctx)
}

// socket takes the connection over, and returns while it is used.
func (x *streams) socket(w http.ResponseWriter, r *http.Request, s *session.Session) error {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return err
	}
	ctx, stop, err := s.Watch(context.WithoutCancel(r.Context()), quick)
	if err != nil {
		return errors.Join(err, conn.Close())
	}
	go func() {
		defer stop()
		fmt.Fprint(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: test\r\n\r\nhello\n")
		<-ctx.Done()
		x.ended <- context.Cause(ctx)
		fmt.Fprint(conn, "bye\n")
		_ = conn.Close()
	}()
	return nil
}

// do sends a request with the cookie, and returns the response and the token.
func (x *streams) do(t *testing.T, method, url string) *http.Response {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	check(t, err)
	r.AddCookie(&http.Cookie{Name: "session", Value: x.token})
	res, err := http.DefaultClient.Do(r)
	check(t, err)
	t.Cleanup(func() { _ = res.Body.Close() })
	for _, c := range res.Cookies() {
		x.token = c.Value
	}
	return res
}

// wantLogout logs out in another process, and checks that n streams end.
func (x *streams) wantLogout(t *testing.T, n int) {
	t.Helper()
	if res := x.do(t, "POST", x.there.URL+"/logout"); res.StatusCode != http.StatusOK {
		t.Fatalf("the logout got %s", res.Status)
	}
	for range n {
		wantErr(t, <-x.ended, session.ErrNotFound)
	}
}

func TestWatchServerSentEvents(t *testing.T) {
	x := newStreams(t)
	res := x.do(t, "GET", x.here.URL+"/events")
	lines := bufio.NewScanner(res.Body)
	until := func(want string) {
		t.Helper()
		for lines.Scan() {
			if lines.Text() == want {
				return
			}
		}
		t.Fatalf("the stream ended without %q: %v", want, lines.Err())
	}
	until("data: 3") // it is flushed
	x.do(t, "POST", x.there.URL+"/rotate")
	until("data: 50") // it goes on
	x.wantLogout(t, 1)
	until("event: ended")
	if rest, err := io.ReadAll(res.Body); err != nil {
		t.Errorf("after that: %q, %v", rest, err)
	}
}

func TestWatchHijacked(t *testing.T) {
	x := newStreams(t)
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", x.here.Listener.Addr().String())
	check(t, err)
	defer func() { _ = conn.Close() }()
	fmt.Fprintf(conn, "GET /socket HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: test\r\nCookie: session=%s\r\n\r\n", x.token)
	lines := bufio.NewScanner(conn)
	for lines.Text() != "hello" && lines.Scan() {
		continue // it is the handshake
	}
	x.wantLogout(t, 1)
	if !lines.Scan() || lines.Text() != "bye" {
		t.Errorf("the connection said %q, %v", lines.Text(), lines.Err())
	}
	if lines.Scan() || lines.Err() != nil {
		t.Errorf("the connection is not closed: %v", lines.Err())
	}
}

func TestWatchLongPoll(t *testing.T) {
	x := newStreams(t)
	var status string
	var err error
	r, rerr := http.NewRequestWithContext(t.Context(), "GET", x.here.URL+"/poll", nil)
	check(t, rerr)
	r.AddCookie(&http.Cookie{Name: "session", Value: x.token})
	var poll sync.WaitGroup
	poll.Add(1)
	go func() {
		defer poll.Done()
		var res *http.Response
		if res, err = http.DefaultClient.Do(r); err == nil {
			status = res.Status
			_ = res.Body.Close()
		}
	}()
	<-x.began
	x.wantLogout(t, 1)
	poll.Wait()
	if err != nil || !strings.HasPrefix(status, "409") {
		t.Errorf("the poll got %s, %v", status, err)
	}
}
