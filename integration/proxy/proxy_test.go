package proxy

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// engine stands in for DynamoDB: it counts the requests that reach it, and
// answers with their consumed capacity.
type engine struct {
	*httptest.Server
	reached atomic.Int32
	asked   atomic.Int32 // that asked for the consumed capacity
}

func newEngine(t *testing.T, answer string) *engine {
	t.Helper()
	e := &engine{}
	e.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e.reached.Add(1)
		body, err := io.ReadAll(r.Body)
		if err != nil || int64(len(body)) != r.ContentLength {
			t.Errorf("body of %d bytes, Content-Length %d, %v", len(body), r.ContentLength, err)
		}
		var in struct{ ReturnConsumedCapacity string }
		if json.Unmarshal(body, &in) == nil && in.ReturnConsumedCapacity == "TOTAL" {
			e.asked.Add(1)
		}
		w.Header().Set("X-Amz-Crc32", "12345")
		_, _ = io.WriteString(w, answer)
	}))
	t.Cleanup(e.Close)
	return e
}

func newProxy(t *testing.T, target string) *Proxy {
	t.Helper()
	p, err := New(target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func send(ctx context.Context, url, op string) (*http.Response, string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(`{"TableName":"t"}`))
	if err != nil {
		return nil, "", err
	}
	req.Header.Set("X-Amz-Target", "DynamoDB_20120810."+op)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp, string(body), err
}

func TestPassesOnAndCounts(t *testing.T) {
	const answer = `{"ConsumedCapacity":{"TableName":"t","CapacityUnits":0.5}}`
	e := newEngine(t, answer)
	p := newProxy(t, e.URL)
	for range 3 {
		resp, body, err := send(t.Context(), p.URL(), "GetItem")
		if err != nil || resp.StatusCode != http.StatusOK || body != answer || resp.Header.Get("X-Amz-Crc32") != "12345" {
			t.Fatalf("got %v %q, %v", resp, body, err)
		}
	}
	if _, _, err := send(t.Context(), p.URL(), "DescribeTable"); err != nil {
		t.Fatal(err)
	}
	if got := p.Counts()["GetItem"]; got != (Count{Requests: 3, Applied: 3, Capacity: 1.5}) {
		t.Errorf("GetItem: %+v", got)
	}
	if n := e.asked.Load(); n != 3 {
		t.Errorf("%d requests asked for the capacity, want those 3 that can", n)
	}
	p.Reset()
	if got := p.Counts(); len(got) != 0 {
		t.Errorf("after Reset: %v", got)
	}
}

func TestFaults(t *testing.T) {
	tests := []struct {
		fault   Fault
		status  int // 0: the connection is closed
		body    string
		reached int32
	}{
		{None, 200, "{}", 1},
		{DropRequest, 0, "", 0},
		{DropResponse, 0, "", 1},
		{Throttle, 400, "ProvisionedThroughputExceededException", 0},
		{InternalError, 500, "InternalServerError", 0},
	}
	for _, tt := range tests {
		t.Run(tt.fault.String(), func(t *testing.T) {
			e := newEngine(t, "{}")
			p := newProxy(t, e.URL)
			p.SetRule(Always("PutItem", Action{Fault: tt.fault}))
			resp, body, err := send(t.Context(), p.URL(), "PutItem")
			switch {
			case tt.status == 0 && err == nil:
				t.Errorf("answered %d, want a closed connection", resp.StatusCode)
			case tt.status != 0 && (err != nil || resp.StatusCode != tt.status || !strings.Contains(body, tt.body)):
				t.Errorf("got %v %q, %v", resp, body, err)
			}
			if n := e.reached.Load(); n != tt.reached {
				t.Errorf("reached the engine %d times, want %d", n, tt.reached)
			}
			if _, _, err := send(t.Context(), p.URL(), "GetItem"); err != nil {
				t.Errorf("another operation: %v", err)
			}
		})
	}
}

func TestHangEndsWithTheClientAndWithTheProxy(t *testing.T) {
	e := newEngine(t, "{}")
	p := newProxy(t, e.URL)
	ctx, cancel := context.WithCancel(t.Context())
	p.SetRule(Always("GetItem", Action{Fault: Hang, Before: cancel}))
	if _, _, err := send(ctx, p.URL(), "GetItem"); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}

	arrived := make(chan struct{})
	p.SetRule(Always("GetItem", Action{Fault: Hang, Before: func() { close(arrived) }}))
	done := make(chan error, 1)
	go func() {
		_, _, err := send(t.Context(), p.URL(), "GetItem")
		done <- err
	}()
	<-arrived
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if err := <-done; err == nil {
		t.Error("answered")
	}
	if n := e.reached.Load(); n != 0 {
		t.Errorf("reached the engine %d times", n)
	}
}

func TestDelayAndHooks(t *testing.T) {
	e := newEngine(t, "{}")
	p := newProxy(t, e.URL)
	var before, after int32
	p.SetRule(Nth("PutItem", 2, Action{
		Delay:  time.Millisecond,
		Before: func() { before = e.reached.Load() },
		After:  func() { after = e.reached.Load() },
	}))
	for range 3 {
		if _, _, err := send(t.Context(), p.URL(), "PutItem"); err != nil {
			t.Fatal(err)
		}
	}
	if before != 1 || after != 2 {
		t.Errorf("the engine had seen %d requests before and %d after, want 1 and 2", before, after)
	}
}

func TestRules(t *testing.T) {
	rule := numbered(First(Nth("A", 2, Action{Fault: Hang}), Always("A", Action{Fault: Throttle})))
	var got []Fault
	for _, op := range []string{"A", "B", "A", "A"} {
		got = append(got, rule(Request{Op: op}).Fault)
	}
	want := []Fault{Throttle, None, Hang, Throttle}
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("got %v, want %v", got, want)
		}
	}
}

func TestRandomKeepsItsSharesAndItsSeed(t *testing.T) {
	shares := map[Fault]float64{DropRequest: 0.05, DropResponse: 0.1, InternalError: 0.2}
	draw := func(seed uint64) (seq []byte, count map[Fault]int) {
		rule, count := Random(seed, shares), map[Fault]int{}
		for n := range 10_000 {
			f := rule(Request{Op: "UpdateItem", N: n + 1}).Fault
			count[f]++
			seq = append(seq, byte(f))
		}
		return seq, count
	}
	seq, count := draw(1)
	for f := None; f <= InternalError; f++ {
		want := shares[f] * 10_000
		if f == None {
			want = 0.65 * 10_000
		}
		if got := float64(count[f]); got < want*0.8 || got > want*1.2 {
			t.Errorf("%v: %v of 10000, want about %v", f, got, want)
		}
	}
	if again, _ := draw(1); !bytes.Equal(seq, again) {
		t.Error("the same seed gave another sequence")
	}
	if other, _ := draw(2); bytes.Equal(seq, other) {
		t.Error("another seed gave the same sequence")
	}
}

// A late request reaches the engine long after its client has failed, but not
// after the proxy has been closed.
func TestLate(t *testing.T) {
	for _, fault := range []Fault{LateSilent, LateDropped} {
		t.Run(fault.String(), func(t *testing.T) {
			e := newEngine(t, `{}`)
			p := newProxy(t, e.URL)
			until, after := make(chan struct{}), make(chan struct{})
			ctx, cancel := context.WithCancel(t.Context())
			p.SetRule(Nth("PutItem", 1, Action{
				Fault: fault, Delay: time.Millisecond, Until: until,
				Before: func() {
					if fault == LateSilent {
						cancel()
					}
				},
				After: func() { close(after) },
			}))
			if resp, _, err := send(ctx, p.URL(), "PutItem"); err == nil {
				t.Errorf("answered %d", resp.StatusCode)
			}
			cancel()
			if _, _, err := send(t.Context(), p.URL(), "PutItem"); err != nil || e.reached.Load() != 1 {
				t.Fatalf("the next request: %v, and %d have reached the engine", err, e.reached.Load())
			}
			close(until)
			<-after
			if got := p.Counts()["PutItem"]; e.reached.Load() != 2 || got.Requests != 2 || got.Applied != 2 {
				t.Errorf("%d have reached the engine, counted %+v", e.reached.Load(), got)
			}

			rule, deliver := Hold("PutItem")
			p.SetRule(rule)
			if resp, _, err := send(t.Context(), p.URL(), "PutItem"); err == nil {
				t.Errorf("answered %d", resp.StatusCode)
			}
			if err := p.Close(); err != nil {
				t.Error(err)
			}
			deliver()
			if n := e.reached.Load(); n != 2 {
				t.Errorf("%d have reached the engine, one after Close", n)
			}
		})
	}
}

func TestHold(t *testing.T) {
	e := newEngine(t, `{}`)
	p := newProxy(t, e.URL)
	rule, deliver := Hold("PutItem", "UpdateItem")
	p.SetRule(rule)
	for i, op := range []string{"GetItem", "UpdateItem", "UpdateItem", "PutItem"} {
		if _, _, err := send(t.Context(), p.URL(), op); (err != nil) != (i == 1) {
			t.Errorf("%d: %v", i, err)
		}
	}
	if n := e.reached.Load(); n != 3 {
		t.Errorf("%d have reached the engine, want 3", n)
	}
	deliver()
	deliver()
	if n := e.reached.Load(); n != 4 {
		t.Errorf("%d have reached the engine, want 4", n)
	}
	_, deliver = Hold("PutItem")
	deliver() // no request was held back
}
