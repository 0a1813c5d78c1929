package integration

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/dynamodb"
	"github.com/seed-a7bee19b/session/integration/proxy"
)

var (
	visits = session.Key[int]{Name: "visits"}
	note   = session.Key[string]{Name: "note"}
)

func inc(n int) int { return n + 1 }

// site is a web application with sessions in DynamoDB, and a browser.
type site struct {
	t       *testing.T
	manager *session.Manager
	proxy   *proxy.Proxy
	table   string
	url     string
	browser *http.Client
}

type page = func(w http.ResponseWriter, r *http.Request, s *session.Session)

// newSite serves the pages by their paths, and /static, which does not get its
// session.
func newSite(t *testing.T, cfg session.Config, dc dynamodb.Config, pages map[string]page) *site {
	t.Helper()
	dc = newTable(t, dc)
	backend, p := connect(t, dc)
	cfg.Cookie.InsecureHTTP = true
	manager, err := session.New(backend, cfg)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/static", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "static") })
	for path, f := range pages {
		mux.Handle(path, manager.HandlerFunc(func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
			f(w, r, s)
			_, _ = io.WriteString(w, "the page")
			return nil
		}))
	}
	srv := httptest.NewServer(manager.Handler(mux))
	t.Cleanup(srv.Close)
	s := &site{t: t, manager: manager, proxy: p, table: dc.Table, url: srv.URL, browser: srv.Client()}
	s.browser.Jar, _ = cookiejar.New(nil)
	return s
}

func (s *site) get(path string) (status int, body string) {
	resp, err := s.browser.Get(s.url + path)
	if err != nil {
		s.t.Error(err)
		return 0, ""
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Error(err)
	}
	return resp.StatusCode, string(b)
}

func (s *site) want(path string, status int) {
	s.t.Helper()
	if got, body := s.get(path); got != status {
		s.t.Fatalf("%s answers %d %q, want %d", path, got, body, status)
	}
}

// token is the token in the browser's jar.
func (s *site) token() string {
	u, _ := url.Parse(s.url)
	for _, c := range s.browser.Jar.Cookies(u) {
		return c.Value
	}
	return ""
}

// open reads the session without faults.
func (s *site) open(token string) (*session.Session, error) {
	s.proxy.SetRule(nil)
	return s.manager.Open(context.Background(), token)
}

// rows counts the items of sessions, without the markers that rotations leave.
func (s *site) rows() int {
	s.t.Helper()
	out, err := client().Scan(s.t.Context(), &sdk.ScanInput{
		TableName:                 &s.table,
		FilterExpression:          aws.String("NOT contains(#data, :moved)"),
		ExpressionAttributeNames:  map[string]string{"#data": "data"},
		ExpressionAttributeValues: map[string]types.AttributeValue{":moved": &types.AttributeValueMemberB{Value: []byte("_session.moved")}},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return int(out.Count)
}

// typicalCart fills a session up to about 700 bytes.
type item struct {
	SKU, Name string
	Qty       int
	Price     float64
}

func fillTypical(s *session.Session) error {
	cart := make([]item, 10)
	for i := range cart {
		cart[i] = item{fmt.Sprintf("SKU-%04d", i), fmt.Sprintf("Product %d", i), 2, 9.99}
	}
	return errors.Join(s.Set("user", "u-12345678"), s.Set("roles", []string{"admin", "editor", "viewer"}),
		s.Set("csrf", "abcdefghijklmnopqrstuvwxyz012345"), s.Set("flash", "Saved."), s.Set("login", time.Now()),
		s.Set("visits", 1), s.Set("cart", cart))
}

// TestRequestsPerHTTPRequest checks the table of costs in the README.
func TestRequestsPerHTTPRequest(t *testing.T) {
	var s *site
	s = newSite(t, session.Config{}, dynamodb.Config{}, map[string]page{
		"/visit": func(_ http.ResponseWriter, _ *http.Request, s *session.Session) { _, _ = visits.Get(s) },
		"/fill":  func(_ http.ResponseWriter, _ *http.Request, s *session.Session) { _ = fillTypical(s) },
		"/write": func(_ http.ResponseWriter, _ *http.Request, s *session.Session) { _, _ = visits.Update(s, inc) },
		"/same":  func(_ http.ResponseWriter, _ *http.Request, s *session.Session) { _ = s.Set("user", "u-12345678") },
		"/login": func(_ http.ResponseWriter, _ *http.Request, s *session.Session) { _ = s.Login("ann") },
		"/logout": func(_ http.ResponseWriter, r *http.Request, sess *session.Session) {
			if err := sess.Destroy(r.Context()); err != nil {
				t.Error(err)
			}
		},
		"/overtaken": func(_ http.ResponseWriter, r *http.Request, sess *session.Session) {
			other, err := s.manager.Open(r.Context(), sess.Token().Reveal())
			if err != nil {
				t.Error(err)
				return
			}
			if err := errors.Join(other.Rotate(), other.Save(r.Context()), sess.Destroy(r.Context())); err != nil {
				t.Error(err)
			}
		},
	})
	one := func(units float64) proxy.Count { return proxy.Count{Requests: 1, Applied: 1, Capacity: units} }
	steps := []struct {
		path string
		want map[string]proxy.Count
		rows int
	}{
		{"/static", map[string]proxy.Count{}, 0},
		{"/visit", map[string]proxy.Count{}, 0}, // a visitor without data
		{"/fill", map[string]proxy.Count{"UpdateItem": one(1)}, 1},
		{"/visit", map[string]proxy.Count{"GetItem": one(1)}, 1},
		{"/static", map[string]proxy.Count{}, 1},
		{"/write", map[string]proxy.Count{"GetItem": one(1), "UpdateItem": one(1)}, 1},
		{"/same", map[string]proxy.Count{"GetItem": one(1)}, 1},
		{"/login", map[string]proxy.Count{"GetItem": one(1), "UpdateItem": {Requests: 2, Applied: 2, Capacity: 2}}, 1},
		{"/logout", map[string]proxy.Count{"GetItem": one(1), "DeleteItem": one(1)}, 0},
		{"/fill", map[string]proxy.Count{"UpdateItem": one(1)}, 1},
		// A logout that a rotation has overtaken: the first DeleteItem is
		// refused.
		{"/overtaken", map[string]proxy.Count{"GetItem": {Requests: 2, Applied: 2, Capacity: 2}, "UpdateItem": {Requests: 2, Applied: 2, Capacity: 2}, "DeleteItem": {Requests: 2, Applied: 1, Capacity: 1}}, 0},
	}
	for _, step := range steps {
		s.proxy.Reset()
		s.want(step.path, http.StatusOK)
		if got := s.proxy.Counts(); fmt.Sprint(got) != fmt.Sprint(step.want) {
			t.Errorf("%s costs %v, want %v", step.path, got, step.want)
		}
		if got := s.rows(); got != step.rows {
			t.Errorf("after %s there are %d rows, want %d", step.path, got, step.rows)
		}
	}
}

// TestParallelWritesOfDifferentKeys has requests that have all read the session
// before one of them writes.
func TestParallelWritesOfDifferentKeys(t *testing.T) {
	const n = 20
	var ready sync.WaitGroup
	ready.Add(n)
	s := newSite(t, session.Config{}, dynamodb.Config{}, map[string]page{
		"/start": func(_ http.ResponseWriter, _ *http.Request, s *session.Session) { _ = note.Set(s, "x") },
		"/set": func(_ http.ResponseWriter, r *http.Request, s *session.Session) {
			ready.Done()
			ready.Wait()
			_ = s.Set(r.FormValue("key"), true)
			_, _ = visits.Update(s, inc)
		},
	})
	s.want("/start", http.StatusOK)
	s.proxy.Reset()
	var wg sync.WaitGroup
	for i := range n {
		wg.Add(1)
		go func() {
			defer wg.Done()
			if status, body := s.get(fmt.Sprintf("/set?key=key%d", i)); status != http.StatusOK {
				t.Errorf("%d %s", status, body)
			}
		}()
	}
	wg.Wait()
	t.Logf("requests for %d parallel writes: %v", n, s.proxy.Counts())
	sess, err := s.open(s.token())
	if err != nil {
		t.Fatal(err)
	}
	if got := len(sess.Names()) - 2; got != n {
		t.Errorf("%d of %d keys survived", got, n)
	}
	if got, err := visits.Get(sess); got != n || err != nil {
		t.Errorf("the counter is %d, %v", got, err)
	}
}

// TestNoRevival has a request that has read its session before another one ends
// it, and that writes afterwards.
func TestNoRevival(t *testing.T) {
	for _, mode := range []session.Mode{session.Merge, session.LastWrite} {
		for _, end := range []string{"/logout", "/rotate", "/login"} {
			t.Run(fmt.Sprint(mode, end), func(t *testing.T) {
				read, ended := make(chan struct{}), make(chan struct{})
				s := newSite(t, session.Config{Mode: mode}, dynamodb.Config{}, map[string]page{
					"/start":  func(_ http.ResponseWriter, _ *http.Request, s *session.Session) { _ = note.Set(s, "x") },
					"/rotate": func(_ http.ResponseWriter, _ *http.Request, s *session.Session) { _ = s.Rotate() },
					"/login":  func(_ http.ResponseWriter, _ *http.Request, s *session.Session) { _ = s.Login("ann") },
					"/logout": func(_ http.ResponseWriter, r *http.Request, sess *session.Session) {
						if err := sess.Destroy(r.Context()); err != nil {
							t.Error(err)
						}
					},
					"/slow": func(_ http.ResponseWriter, _ *http.Request, s *session.Session) {
						close(read)
						<-ended
						_ = note.Set(s, "late")
					},
				})
				s.want("/start", http.StatusOK)
				token := s.token()
				slow := make(chan int)
				go func() { status, _ := s.get("/slow"); slow <- status }()
				<-read
				s.want(end, http.StatusOK)
				after, rows := s.token(), s.rows()
				close(ended)
				if status := <-slow; status != http.StatusConflict {
					t.Errorf("the slow request got %d", status)
				}
				if _, err := s.open(token); !errors.Is(err, session.ErrNotFound) {
					t.Errorf("the old ID opens: %v", err)
				}
				if got := s.rows(); got != rows {
					t.Errorf("%d rows, before the slow write %d", got, rows)
				}
				if got := s.token(); got != after {
					t.Error("the slow response changed the cookie")
				}
			})
		}
	}
}

// TestLostResponses loses the response of the nth write of a page, which the
// engine applied. The page must be the same as without a fault.
func TestLostResponses(t *testing.T) {
	tests := []struct {
		path   string
		op     string
		nth    int
		fresh  bool // without a session beforehand
		visits int  // afterwards; -1: no session
	}{
		{"/visit", "UpdateItem", 1, true, 1},
		{"/visit", "UpdateItem", 1, false, 11},
		{"/login", "UpdateItem", 1, false, 11},
		{"/login", "UpdateItem", 2, false, 11},
		{"/touch", "UpdateItem", 1, false, 10},
		{"/logout", "DeleteItem", 1, false, -1},
	}
	for _, tt := range tests {
		for _, fault := range []proxy.Fault{proxy.DropResponse, proxy.DropRequest, proxy.Throttle, proxy.InternalError} {
			t.Run(fmt.Sprintf("%s %v of write %d, new %v", tt.path, fault, tt.nth, tt.fresh), func(t *testing.T) {
				s := newSite(t, session.Config{TouchInterval: 1}, dynamodb.Config{}, map[string]page{
					"/start": func(_ http.ResponseWriter, _ *http.Request, s *session.Session) { _ = visits.Set(s, 10) },
					"/touch": func(http.ResponseWriter, *http.Request, *session.Session) {},
					"/visit": func(_ http.ResponseWriter, _ *http.Request, s *session.Session) { _, _ = visits.Update(s, inc) },
					"/login": func(_ http.ResponseWriter, _ *http.Request, s *session.Session) {
						_, _ = visits.Update(s, inc)
						_ = s.Login("ann")
					},
					"/logout": func(_ http.ResponseWriter, r *http.Request, sess *session.Session) {
						if err := sess.Destroy(r.Context()); err != nil {
							t.Error(err)
						}
					},
				})
				if !tt.fresh {
					s.want("/start", http.StatusOK)
				}
				token := s.token()
				if tt.path == "/touch" {
					time.Sleep(1100 * time.Millisecond) // deadlines are whole seconds
				}
				s.proxy.SetRule(proxy.Nth(tt.op, tt.nth, proxy.Action{Fault: fault}))
				s.proxy.Reset()
				s.want(tt.path, http.StatusOK)
				if c := s.proxy.Counts()[tt.op]; c.Requests != tt.nth+1 && tt.path != "/login" || c.Requests < 2 {
					t.Errorf("%d requests: was there a fault?", c.Requests)
				}
				if tt.visits < 0 {
					if _, err := s.open(token); !errors.Is(err, session.ErrNotFound) {
						t.Errorf("still there: %v", err)
					}
					return
				}
				sess, err := s.open(s.token())
				if err != nil {
					t.Fatal(err)
				}
				if got, err := visits.Get(sess); got != tt.visits || err != nil {
					t.Errorf("visits is %d, %v, want %d", got, err, tt.visits)
				}
				if got := s.rows(); got != 1 {
					t.Errorf("%d rows", got)
				}
			})
		}
	}
}

// TestBrokenStore checks every permanent fault: the client gets an error page,
// the stored session stays, and the wait ends.
func TestBrokenStore(t *testing.T) {
	quick := dynamodb.Config{MaxAttempts: 2, AttemptTimeout: 300 * time.Millisecond, BackoffBase: time.Millisecond}
	for _, fault := range []proxy.Fault{proxy.DropRequest, proxy.Hang, proxy.Throttle, proxy.InternalError} {
		for _, op := range []string{"GetItem", "UpdateItem", "DeleteItem"} {
			t.Run(fmt.Sprint(op, " ", fault), func(t *testing.T) {
				var s *site
				s = newSite(t, session.Config{}, quick, map[string]page{
					"/start": func(_ http.ResponseWriter, _ *http.Request, s *session.Session) { _ = note.Set(s, "kept") },
					"/use": func(w http.ResponseWriter, r *http.Request, sess *session.Session) {
						if op == "DeleteItem" {
							err := sess.Destroy(r.Context())
							if err == nil {
								t.Error("Destroy reports success")
							}
							s.manager.Error(w, r, err)
							return
						}
						_ = note.Set(sess, "lost")
						_, _ = io.WriteString(w, "the page")
					},
				})
				s.want("/start", http.StatusOK)
				token := s.token()
				s.proxy.SetRule(proxy.Always(op, proxy.Action{Fault: fault}))
				status, body := s.get("/use")
				if status != http.StatusServiceUnavailable || (op != "DeleteItem" && body != "Service Unavailable\n") {
					t.Errorf("%d %q", status, body)
				}
				if s.token() != token {
					t.Error("the cookie changed")
				}
				sess, err := s.open(token)
				if err != nil {
					t.Fatal(err)
				}
				if got, err := note.Get(sess); got != "kept" || err != nil {
					t.Errorf("stored is %q, %v", got, err)
				}
			})
		}
	}
}

// TestCountersUnderFaults has ten machines, each with its own Manager, that
// count in one session while requests and responses get lost. No increment is
// counted twice or lost.
func TestCountersUnderFaults(t *testing.T) {
	const machines, times = 10, 20
	dc := newTable(t, dynamodb.Config{MaxAttempts: 12, BackoffBase: 2 * time.Millisecond, MaxBackoff: 20 * time.Millisecond})
	direct, _ := connect(t, dc)
	first, err := session.New(direct, session.Config{})
	if err != nil {
		t.Fatal(err)
	}
	s := first.Start()
	if err := errors.Join(visits.Set(s, 0), s.Save(t.Context())); err != nil {
		t.Fatal(err)
	}
	token := s.Token().Reveal()

	var wg sync.WaitGroup
	for i := range machines {
		backend, p := connect(t, dc)
		p.SetRule(proxy.Random(uint64(i), map[proxy.Fault]float64{proxy.DropRequest: 0.05, proxy.DropResponse: 0.05, proxy.Throttle: 0.05}))
		m, err := session.New(backend, session.Config{MaxMerges: 1000})
		if err != nil {
			t.Fatal(err)
		}
		wg.Add(1)
		go func() {
			defer wg.Done()
			for range times {
				s, err := m.Open(t.Context(), token)
				if err == nil {
					err = errors.Join(errOf(visits.Update(s, inc)), s.Save(t.Context()))
				}
				if err != nil {
					t.Error(err)
				}
			}
		}()
	}
	wg.Wait()
	s, err = first.Open(t.Context(), token)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := visits.Get(s); got != machines*times || err != nil {
		t.Errorf("counted %d, %v, want %d", got, err, machines*times)
	}
}
