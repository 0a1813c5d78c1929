// Package behaviour shows the behaviour of session libraries if requests overlap
// or fail. Each library serves the same pages over real HTTP, as its documentation
// says. Each behaviour is a program of requests that reports the responses.
package behaviour

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// Verdict is the short form of a result.
type Verdict int

// The verdicts.
const (
	Kept          Verdict = iota + 1 // nothing was lost, revived or hidden
	Lost                             // something was lost, revived or hidden
	NotApplicable                    // the library has no such feature; the text has the result instead
)

func (v Verdict) String() string {
	return [...]string{"", "keeps", "loses", "n/a"}[v]
}

// Result is the result of one library in one behaviour.
type Result struct {
	Peer    string
	Verdict Verdict
	Short   string // for a cell of a table
	Seen    string // in a sentence or two
}

// Behaviour is one program.
type Behaviour struct {
	Name  string
	Title string
	What  string // the steps, and the expected result
	Run   func(ctx context.Context, a *App) (Result, error)
}

// All returns every behaviour.
func All() []Behaviour {
	return []Behaviour{
		parallelKeys, parallelCounter, logout, rotation, flush, failingLoad, failingSave, undecodable, clientGone, planted,
	}
}

// Against starts a library and runs the behaviour against it.
func (b Behaviour) Against(ctx context.Context, p Peer, env Env) (Result, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	a, err := p.start(ctx, env)
	if err != nil {
		return Result{}, fmt.Errorf("%s: start %s: %w", b.Name, p.Name, err)
	}
	r, err := b.Run(ctx, a)
	if err = errors.Join(err, a.close()); err != nil {
		return Result{}, fmt.Errorf("%s: %s: %w", b.Name, p.Name, err)
	}
	r.Peer = p.Name
	return r, nil
}

// App is a running application: one library with its store.
type App struct {
	peer    Peer
	url     string
	cookie  string // its name
	planted string // an ID that looks like one of its own

	status func(error) int // of the error page

	// fail makes every call of the store fail, or heals it; nil if there is
	// no store.
	fail func(bool) error
	// garble replaces the stored data of the only session by bytes that do not
	// decode; garbled reports whether they are still there.
	garble  func() error
	garbled func() (bool, error)

	closers []func() error
	mu      sync.Mutex
	gates   map[string]chan struct{}
}

func (a *App) onClose(f func() error) { a.closers = append(a.closers, f) }

func (a *App) close() error {
	var err error
	for i := len(a.closers) - 1; i >= 0; i-- {
		err = errors.Join(err, a.closers[i]())
	}
	return err
}

func (a *App) gate(name string) chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.gates == nil {
		a.gates = map[string]chan struct{}{}
	}
	if a.gates[name] == nil {
		a.gates[name] = make(chan struct{})
	}
	return a.gates[name]
}

// visit is the session of a request in the API of a library.
type visit interface {
	Get(name string) (string, error)
	Set(name, value string) error
	// Increment adds 1 with the means of the library.
	Increment(name string) error
	// Rotate gives the session a new ID; errNoCall if the library cannot.
	Rotate() error
	Destroy() error
	// Save must be called at the end of a handler. It does nothing if the
	// library saves by itself.
	Save() error
	// Opened is the error that the library returned together with a session,
	// if it did.
	Opened() error
}

var errNoCall = errors.New("the library has no call for it")

// page runs the steps in the parameter "do" of the query, separated by spaces:
//
//	check          fail if the session came with an error
//	read:NAME      read the value of NAME
//	get:NAME       read the value of NAME and write it to the response
//	set:NAME=VALUE
//	inc:NAME
//	rotate, destroy, save
//	say:GATE       open a gate
//	wait:GATE      wait for one
//	break, heal    the store
//	flush, write
//
// The error is for the library's own error page, or a status of 500.
func (a *App) page(do string, v visit, w io.Writer, flush func() error) error {
	for step := range strings.FieldsSeq(do) {
		op, arg, _ := strings.Cut(step, ":")
		var err error
		switch op {
		case "check":
			err = v.Opened()
		case "read":
			_, err = v.Get(arg)
		case "get":
			var s string
			if s, err = v.Get(arg); err == nil {
				_, err = io.WriteString(w, cmp.Or(s, "-"))
			}
		case "set":
			name, value, _ := strings.Cut(arg, "=")
			err = v.Set(name, value)
		case "inc":
			err = v.Increment(arg)
		case "rotate":
			err = v.Rotate()
		case "destroy":
			err = v.Destroy()
		case "save":
			err = v.Save()
		case "say":
			close(a.gate(arg))
		case "wait":
			select {
			case <-a.gate(arg):
			case <-time.After(10 * time.Second):
				err = fmt.Errorf("nobody opened gate %s", arg)
			}
		case "break":
			err = a.fail(true)
		case "heal":
			err = a.fail(false)
		case "flush":
			err = flush()
		case "write":
			_, err = io.WriteString(w, "ok")
		default:
			err = fmt.Errorf("unknown step %s", step)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", op, err)
		}
	}
	return nil
}

// answer is a client's response.
type answer struct {
	status int
	body   string
	cookie string // the session's cookie in the client now, "" if the response deleted it
	set    bool   // the response set the cookie
}

// do makes a request with a cookie, which may be "".
func (a *App) do(ctx context.Context, cookie string, steps ...string) (answer, error) {
	u := a.url + "/?do=" + url.QueryEscape(strings.Join(steps, " "))
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u, nil)
	if err != nil {
		return answer{}, err
	}
	if cookie != "" {
		req.Header.Set("Cookie", a.cookie+"="+cookie)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close() //nolint:errcheck // it is read to its end below
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return answer{}, err
	}
	out := answer{status: resp.StatusCode, body: strings.TrimSpace(string(body)), cookie: cookie}
	for _, c := range resp.Cookies() {
		if c.Name == a.cookie {
			out.set, out.cookie = true, c.Value
			if c.MaxAge < 0 {
				out.cookie = ""
			}
		}
	}
	return out, nil
}

// begin makes a client with a session in which a is 1.
func (a *App) begin(ctx context.Context) (cookie string, err error) {
	got, err := a.do(ctx, "", "set:a=1", "save", "write")
	if err != nil {
		return "", err
	}
	if got.status != http.StatusOK || got.cookie == "" {
		return "", fmt.Errorf("begin: status %d, cookie set: %t", got.status, got.set)
	}
	return got.cookie, nil
}

// get reads a value in a later request; "-" means that there is none.
func (a *App) get(ctx context.Context, cookie, name string) (string, error) {
	got, err := a.do(ctx, cookie, "get:"+name)
	if err != nil {
		return "", err
	}
	if got.status != http.StatusOK {
		return fmt.Sprintf("nothing, status %d", got.status), nil
	}
	return got.body, nil
}

// slow starts a request that gets its session and then waits. release lets it
// continue and returns its answer.
func (a *App) slow(ctx context.Context, cookie string, before, after []string) (release func() (answer, error), err error) {
	type outcome struct {
		answer
		error
	}
	done := make(chan outcome, 1)
	steps := append(append(append([]string{}, before...), "say:in", "wait:go"), after...)
	go func() {
		got, err := a.do(ctx, cookie, steps...)
		done <- outcome{got, err}
	}()
	select {
	case <-a.gate("in"):
	case got := <-done:
		return nil, fmt.Errorf("the slow request ended at once: %+v, %w", got.answer, got.error)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return func() (answer, error) {
		close(a.gate("go"))
		got := <-done
		return got.answer, got.error
	}, nil
}

// during begins a session, and does op in a request of its own while a slow
// request has the session. The slow one then changes it and ends. during returns
// the cookie that both sent, and their answers.
func (a *App) during(ctx context.Context, op string) (cookie string, quick, slow answer, err error) {
	if cookie, err = a.begin(ctx); err != nil {
		return "", answer{}, answer{}, err
	}
	release, err := a.slow(ctx, cookie, []string{"read:a"}, []string{"set:slow=1", "save", "write"})
	if err != nil {
		return "", answer{}, answer{}, err
	}
	if quick, err = a.do(ctx, cookie, op, "save", "write"); err != nil {
		return "", answer{}, answer{}, err
	}
	slow, err = release()
	return cookie, quick, slow, err
}
