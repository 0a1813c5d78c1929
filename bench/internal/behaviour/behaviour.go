// Package behaviour shows what session libraries do where requests overlap and
// things fail. Each library serves the same pages over real HTTP, as its
// documentation says; each behaviour is a program of requests, and what it
// reports is what came back.
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

// Verdict is the short form of what was seen.
type Verdict int

// The verdicts.
const (
	Kept          Verdict = iota + 1 // nothing was lost, revived or hidden
	Lost                             // something was
	NotApplicable                    // the library has no such thing; the text says what was seen instead
)

func (v Verdict) String() string {
	return [...]string{"", "keeps", "loses", "n/a"}[v]
}

// Result is what one library did in one behaviour.
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
	What  string // what is done, and what should come of it
	Run   func(ctx context.Context, a *App) (Result, error)
}

// All returns every behaviour.
func All() []Behaviour {
	return []Behaviour{
		parallelKeys, parallelCounter, logout, rotation, flush, failingLoad, failingSave, undecodable, clientGone, planted,
	}
}

// Against runs the behaviour against a library that is started for it.
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

// App is an application that runs: one library with its store.
type App struct {
	peer    Peer
	url     string
	cookie  string // its name
	planted string // an ID that looks like one of its own

	// fail makes every call of the store fail, or heals it; nil if there is
	// no store.
	fail func(bool) error
	// garble replaces what is stored, of the one session that there is, by
	// bytes that do not decode; garbled reports whether they are still there.
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
	// Increment adds 1, in the way that the library has for it.
	Increment(name string) error
	// Rotate gives the session a new ID; errNoCall if the library cannot.
	Rotate() error
	Destroy() error
	// Save is what has to be called at the end of a handler; it does nothing
	// where the library saves by itself.
	Save() error
	// Opened is the error with which the library handed out the session, if it
	// handed out one all the same.
	Opened() error
}

var errNoCall = errors.New("the library has no call for it")

// page runs the steps that the client asked for, in the query as "do". They
// are separated by blanks:
//
//	check          fail if the session came with an error
//	read:NAME      read the value of NAME
//	get:NAME       and write it
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

// answer is what a client got.
type answer struct {
	status int
	body   string
	cookie string // the session's as the client has it now, "" if it was told to drop it
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
	defer resp.Body.Close() //nolint:errcheck // read to its end below
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

// begin has a client with a session in which a is 1.
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

// get reads a value as a later request sees it; "-" is none.
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

// slow starts a request that has its session and then waits; release lets it
// go on and returns its answer.
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
// one has the session, changes it and ends. It returns the cookie with which
// both began, and their answers.
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
