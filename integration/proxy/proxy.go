// Package proxy has proxies for a DynamoDB engine and for a Redis server. They
// count requests and, for DynamoDB, the consumed capacity of each operation, and
// inject faults that a local engine never has.
package proxy

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Count has the counts of one operation.
type Count struct {
	Requests int     // that arrived from the client, retries included
	Applied  int     // that the engine answered with 200
	Capacity float64 // consumed units, as the engine reported them
}

// Proxy is a reverse proxy in front of a DynamoDB engine. It listens on a free
// port of the loopback interface until Close.
type Proxy struct {
	book
	target string
	url    string
	server *http.Server
	client *http.Client
	served chan struct{}
	late
}

// book has the rule of a proxy, and its counts.
type book struct {
	mu     sync.Mutex
	rule   Rule
	counts map[string]Count
}

// New starts a proxy in front of target, an "http://host:port". It forwards
// everything until SetRule is called.
func New(target string) (*Proxy, error) {
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &Proxy{
		target: strings.TrimSuffix(target, "/"),
		url:    "http://" + l.Addr().String(),
		client: &http.Client{Transport: &http.Transport{
			MaxIdleConnsPerHost: 64,
			// The body and its checksum must reach the client unchanged.
			DisableCompression: true,
		}},
		served: make(chan struct{}),
	}
	p.init()
	p.server = &http.Server{Handler: http.HandlerFunc(p.serve), ReadHeaderTimeout: 10 * time.Second}
	go func() {
		defer close(p.served)
		_ = p.server.Serve(l) // ends with ErrServerClosed
	}()
	return p, nil
}

// URL is the address of the proxy for clients.
func (p *Proxy) URL() string { return p.url }

// Close ends the proxy and every request in it.
func (p *Proxy) Close() error {
	p.end()
	err := p.server.Close()
	<-p.served
	p.client.CloseIdleConnections()
	return err
}

// SetRule sets the rule for requests from now on; nil forwards them. The numbers
// that the rule sees start again at 1.
func (b *book) SetRule(r Rule) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.rule = numbered(r)
}

// Reset sets the counts to zero.
func (b *book) Reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	clear(b.counts)
}

// Counts returns the counts since the start or the last Reset, by operation:
// "GetItem", "UpdateItem" and so on.
func (b *book) Counts() map[string]Count {
	b.mu.Lock()
	defer b.mu.Unlock()
	return maps.Clone(b.counts)
}

func (b *book) count(op string, add Count) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.counts == nil {
		b.counts = map[string]Count{}
	}
	c := b.counts[op]
	c.Requests += add.Requests
	c.Applied += add.Applied
	c.Capacity += add.Capacity
	b.counts[op] = c
}

func (b *book) decide(op string, body []byte) Action {
	b.count(op, Count{Requests: 1})
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.rule == nil {
		return Action{}
	}
	return b.rule(Request{Op: op, Body: body})
}

func (p *Proxy) serve(w http.ResponseWriter, r *http.Request) {
	// Read the body first: only then does the server notice that the client has
	// disconnected, which ends Hang and Delay.
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	_, op, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	act := p.decide(op, body)

	if act.late() {
		method, uri, header := r.Method, r.URL.RequestURI(), r.Header.Clone() // the server reuses r
		p.deliver(act, func() {
			if status, _, answer, err := p.forward(method, uri, header, op, body); err == nil {
				p.answered(op, status, answer)
			}
		})
	} else if act.Delay > 0 {
		t := time.NewTimer(act.Delay)
		defer t.Stop()
		select {
		case <-t.C:
		case <-r.Context().Done():
			panic(http.ErrAbortHandler)
		case <-p.ctx.Done():
			panic(http.ErrAbortHandler)
		}
	}
	if act.Before != nil {
		act.Before()
	}
	switch act.Fault {
	case DropRequest, LateDropped:
		panic(http.ErrAbortHandler)
	case Hang, LateSilent:
		select {
		case <-r.Context().Done():
		case <-p.ctx.Done():
		}
		panic(http.ErrAbortHandler)
	case Throttle:
		fail(w, http.StatusBadRequest, "com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException",
			"The level of configured provisioned throughput for the table was exceeded.")
		return
	case InternalError:
		fail(w, http.StatusInternalServerError, "com.amazonaws.dynamodb.v20120810#InternalServerError",
			"Internal server error")
		return
	}

	status, header, answer, err := p.forward(r.Method, r.URL.RequestURI(), r.Header.Clone(), op, body)
	if err != nil {
		// This is not an injected fault: say so in words, at the client.
		fail(w, http.StatusBadGateway, "ProxyError", err.Error())
		return
	}
	p.answered(op, status, answer)
	if act.After != nil {
		act.After()
	}
	if act.Fault == DropResponse {
		panic(http.ErrAbortHandler)
	}
	maps.Copy(w.Header(), header)
	w.WriteHeader(status)
	_, _ = w.Write(answer) // the client may have disconnected
}

func (b *book) answered(op string, status int, answer []byte) {
	if status == http.StatusOK {
		b.count(op, Count{Applied: 1, Capacity: consumed(answer)})
	}
}

// forward sends the request on, outside the client's context: a request that has
// reached the engine is applied, even if the client has disconnected.
func (p *Proxy) forward(method, uri string, header http.Header, op string, body []byte) (int, http.Header, []byte, error) {
	if counted[op] {
		body = withCapacity(body)
	}
	ctx, cancel := context.WithTimeout(p.ctx, 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, p.target+uri, bytes.NewReader(body))
	if err != nil {
		return 0, nil, nil, err
	}
	req.Header = header
	req.Header.Del("Connection")
	resp, err := p.client.Do(req)
	if err != nil {
		return 0, nil, nil, fmt.Errorf("no answer from the engine: %w", err)
	}
	defer resp.Body.Close() //nolint:errcheck // read to its end below
	answer, err := io.ReadAll(resp.Body)
	return resp.StatusCode, resp.Header, answer, err
}

// counted has the operations that report the consumed capacity.
var counted = map[string]bool{
	"GetItem": true, "PutItem": true, "UpdateItem": true, "DeleteItem": true,
	"BatchGetItem": true, "BatchWriteItem": true, "Query": true, "Scan": true,
}

// withCapacity asks for the consumed capacity, unless the client did.
func withCapacity(body []byte) []byte {
	var in map[string]json.RawMessage
	if json.Unmarshal(body, &in) != nil || in == nil {
		return body
	}
	if _, ok := in["ReturnConsumedCapacity"]; ok {
		return body
	}
	in["ReturnConsumedCapacity"] = json.RawMessage(`"TOTAL"`)
	out, err := json.Marshal(in)
	if err != nil {
		return body
	}
	return out
}

// consumed adds up the capacity in a response: one object, or a list of them if
// the operation is a batch.
func consumed(answer []byte) float64 {
	type capacity struct{ CapacityUnits float64 }
	var out struct{ ConsumedCapacity json.RawMessage }
	if json.Unmarshal(answer, &out) != nil {
		return 0
	}
	var one capacity
	if json.Unmarshal(out.ConsumedCapacity, &one) == nil {
		return one.CapacityUnits
	}
	var list []capacity
	_ = json.Unmarshal(out.ConsumedCapacity, &list) // absent: none
	var sum float64
	for _, c := range list {
		sum += c.CapacityUnits
	}
	return sum
}

func fail(w http.ResponseWriter, status int, kind, message string) {
	body, err := json.Marshal(map[string]string{"__type": kind, "message": message})
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("Content-Type", "application/x-amz-json-1.0")
	w.Header().Set("X-Amzn-Requestid", "injected-by-proxy")
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client may have disconnected
}
