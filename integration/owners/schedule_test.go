package owners

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/memory"
	"github.com/seed-a7bee19b/session/migrate"
)

// A world has clients that share a store in memory, and decides in which order
// their calls of the store are done. One call is done at a time, and then all is
// still until the next is chosen. So what was chosen makes a schedule, which can
// be repeated. Time passes only when that is chosen, or when nobody has a call to
// make.
type world struct {
	store   memory.Backend
	old     memory.Backend  // where sessions move away from, if there are phases
	phases  []migrate.Phase // of the machines; the last is also that of the others
	begun   int             // machines
	choose  chooser
	faults  []fault // that may be chosen
	budget  int     // how many faults there may be
	kill    kill    // one that is not left to choice
	ages    []time.Duration
	trace   []string
	history []Op

	mu      sync.Mutex
	free    bool // calls are done at once, in no order
	clients []*client
	calls   []*call // that wait
	flying  []*call // that have failed, and may still be done
	arrived chan struct{}
	clock   int64
	ranks   map[string]int
	pool    Pool
}

// A chooser chooses one of several possibilities, which are in the same order each
// time. clients has the client that goes on in each; other and mishap stand for no
// client.
type chooser func(clients []int) int

const (
	other  = -1 // time passes, or a late request arrives
	mishap = -2 // a fault, or the end of all sessions
)

// A machine is a process with one Manager.
type machine struct {
	m    *session.Manager
	ctx  context.Context
	stop context.CancelFunc
	dead bool
	calm bool // no call has failed
}

// A client does one Op after the other on a machine.
type client struct {
	*machine
	w       *world
	n       int
	ctx     context.Context // has the client
	next    func() *Op      // nil at the end
	done    bool
	calls   int
	pending *Op
}

// clientKey is the key of the client in a context.
type clientKey struct{}

// A call waits until it is chosen.
type call struct {
	c     *client
	what  string
	rank  int
	write bool
	do    func() // nil: a client begins an Op
	err   error
	chose chan struct{}
	op    *Op
}

// A fault is what can happen to a call, beside that it is done.
type fault string

const (
	dropped  fault = "request lost"
	lost     fault = "response lost"
	late     fault = "request late" // it fails, and may be done later
	killed   fault = "client killed"
	killedIn fault = "client killed, request done"
	killedBy fault = "client killed, request late"
)

var allFaults = []fault{dropped, lost, late, killed, killedIn, killedBy}

// A kill stops a client at its call number at, from 1.
type kill struct {
	client, at int
	fault      fault
	reached    *bool
}

var (
	errLost   = errors.New("no answer from the store")
	errKilled = errors.New("this client is dead")
)

func newWorld(choose chooser) *world {
	return &world{
		choose: choose, arrived: make(chan struct{}, 1), ranks: map[string]int{},
	}
}

// config has timeouts so long that only an Age ends a session.
var config = session.Config{
	IdleTimeout: 20 * time.Hour, AbsoluteTimeout: 24 * time.Hour,
	StoreKey: func(token string) string { return token },
	Owners:   session.OwnersConfig{Index: true}, ErrorHandler: HandleError,
}

func (w *world) machine(t testing.TB) *machine {
	t.Helper()
	return w.machineWith(t, config)
}

func (w *world) machineWith(t testing.TB, config session.Config) *machine {
	t.Helper()
	mc := machine{calm: true}
	mc.ctx, mc.stop = context.WithCancel(t.Context())
	var err error
	var b session.Backend = &gate{w, &w.store}
	if len(w.phases) > 0 {
		phase := w.phases[min(w.begun, len(w.phases)-1)]
		w.begun++
		if b, err = migrate.New(b, migrate.From(&gate{w, &w.old}, migrate.FromConfig{}), migrate.Config{Phase: phase}); err != nil {
			t.Fatal(err)
		}
	}
	if mc.m, err = session.New(b, config); err != nil {
		t.Fatal(err)
	}
	return &mc
}

// add adds a client.
func (w *world) add(mc *machine, next func() *Op) *client {
	c := &client{machine: mc, w: w, n: len(w.clients), next: next}
	c.ctx = context.WithValue(mc.ctx, clientKey{}, c)
	w.clients = append(w.clients, c)
	return c
}

func (w *world) tick() int64 {
	w.clock++
	return w.clock
}

// run runs the client.
func (c *client) run() {
	for {
		begin := &call{c: c, what: "begins", rank: -1, chose: make(chan struct{})}
		if !c.w.wait(c.ctx, begin) || begin.err != nil {
			break
		}
		c.w.mu.Lock()
		o := c.next()
		if o == nil {
			c.w.mu.Unlock()
			break
		}
		c.w.begins(c, o)
		c.w.mu.Unlock()
		c.w.do(c, o)
	}
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	c.done = true
	c.w.signal()
}

// do performs o and records it.
func (w *world) do(c *client, o *Op) {
	o.Do(c.ctx, c.m)
	w.mu.Lock()
	defer w.mu.Unlock()
	c.pending = nil
	o.Calm = c.calm
	if o.Return == 0 { // otherwise it was killed
		o.Return = w.tick()
	}
	if c.dead {
		o.Result, o.NewToken, o.NewHandle, o.Seen = Unknown, "", "", nil
	}
	if o.Result == Unknown {
		o.Over = max(o.Over, o.Return)
	}
	w.history = append(w.history, *o)
	w.pool.Learn(*o)
	w.note("%d returns: %v", c.n, *o)
}

// begins fills in o. The lock is held.
func (w *world) begins(c *client, o *Op) {
	if o.Session != "" && o.Token == "" {
		tokens := w.pool.Tokens[o.Session]
		o.Token = tokens[len(tokens)-1]
	}
	if name, ok := strings.CutPrefix(o.Handle, "of "); ok {
		o.Handle = w.pool.Handles[name]
	}
	o.Client, o.Call = c.n, w.tick()
	w.pool.Began(*o)
	c.pending = o
}

func (w *world) note(format string, args ...any) {
	w.trace = append(w.trace, fmt.Sprintf(format, args...))
}

func (w *world) signal() {
	select {
	case w.arrived <- struct{}{}:
	default:
	}
}

// wait waits until x was chosen. It returns false if ctx has ended before.
func (w *world) wait(ctx context.Context, x *call) bool {
	w.mu.Lock()
	switch {
	case x.c.dead:
		w.mu.Unlock()
		x.err = errKilled
		return true
	case w.free:
		w.mu.Unlock()
		if x.do != nil {
			x.do()
		}
		return true
	}
	x.op = x.c.pending
	w.calls = append(w.calls, x)
	w.signal()
	w.mu.Unlock()
	select {
	case <-x.chose:
		return true
	case <-ctx.Done():
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	i := slices.Index(w.calls, x)
	if i < 0 {
		return true // it was chosen
	}
	w.calls = slices.Delete(w.calls, i, i+1)
	w.fly(x)
	return false
}

func (w *world) fly(x *call) {
	if x.write {
		w.flying = append(w.flying, x)
	}
}

// run lets the clients run until all are done, and returns what is wrong with the
// history.
func (w *world) run() {
	for _, c := range w.clients {
		go c.run()
	}
	for w.step() {
		continue
	}
}

// close ends everything.
func (w *world) close() {
	w.mu.Lock()
	for _, c := range w.clients {
		c.dead = true
		c.stop()
	}
	for len(w.calls) > 0 {
		w.take(w.calls[0], false, errKilled)
	}
	w.mu.Unlock()
	time.Sleep(10 * time.Minute) // for what a mutant does in the background
}

// step does one thing, and returns false if all clients are done.
func (w *world) step() bool {
	synctest.Wait()
	w.mu.Lock()
	type action struct {
		what string
		do   func()
	}
	var actions []action
	var about []int // which clients
	may := func(client int, what string, do func()) {
		actions = append(actions, action{what, do})
		about = append(about, client)
	}
	slices.SortFunc(w.calls, func(a, b *call) int {
		return cmp.Or(cmp.Compare(a.c.n, b.c.n), cmp.Compare(a.rank, b.rank))
	})
	left, apart, busy := 0, 0, map[*client]bool{}
	for _, x := range w.calls {
		busy[x.c] = true
		what := fmt.Sprintf("%d %s", x.c.n, x.what)
		if k := w.kill; k.at > 0 && x.c.n == k.client && x.do != nil && x.c.calls+1 == k.at {
			may(x.c.n, what+": "+string(k.fault), func() { *k.reached = true; w.fail(x, k.fault) })
			continue
		}
		may(x.c.n, what, func() { w.take(x, true, nil) })
	}
	for _, c := range w.clients {
		if !c.done {
			left++
		}
		if !c.done && !busy[c] {
			apart++
		}
	}
	switch {
	case left == 0:
		w.mu.Unlock()
		return false
	case len(actions) == 0:
		w.mu.Unlock()
		<-w.arrived // time passes
		return true
	case apart > 0:
		may(other, "time passes", nil)
	}
	for _, x := range w.flying {
		may(other, fmt.Sprintf("%d %s arrives", x.c.n, x.what), func() { w.land(x) })
	}
	if w.budget > 0 {
		for _, x := range w.calls {
			for _, f := range w.faults {
				if x.do == nil || !x.write && (f == late || f == lost || f == killedIn || f == killedBy) {
					continue
				}
				may(mishap, fmt.Sprintf("%d %s: %s", x.c.n, x.what, f), func() { w.budget--; w.fail(x, f) })
			}
		}
	}
	ages := len(actions)
	for _, d := range w.ages {
		may(mishap, "for "+d.String(), nil)
	}
	i := w.choose(about)
	a := actions[i]
	w.note("%s", a.what)
	switch {
	case i >= ages:
		d := w.ages[i-ages]
		w.ages = nil
		o := Op{Client: -1, Kind: Age, Call: w.tick(), Result: OK}
		w.mu.Unlock()
		time.Sleep(d)
		synctest.Wait()
		w.mu.Lock()
		o.Return = w.tick()
		w.history = append(w.history, o)
	case a.do == nil:
		w.mu.Unlock()
		time.Sleep(time.Second) // longer than a client pauses
		return true
	default:
		a.do()
	}
	w.mu.Unlock()
	return true
}

// take ends the wait of x: with err, or when it was done.
func (w *world) take(x *call, do bool, err error) {
	w.calls = slices.DeleteFunc(w.calls, func(c *call) bool { return c == x })
	x.c.calls++
	if do && x.do != nil {
		x.do()
	}
	if err != nil {
		x.err = err
	}
	close(x.chose)
}

func (w *world) land(x *call) {
	w.flying = slices.DeleteFunc(w.flying, func(c *call) bool { return c == x })
	x.do()
	if x.op != nil {
		x.op.Over = w.clock + 1
		for i, o := range w.history {
			if o.Client == x.op.Client && o.Call == x.op.Call && o.Result == Unknown {
				w.history[i].Over = w.tick()
			}
		}
	}
}

func (w *world) fail(x *call, f fault) {
	x.c.calm = false
	switch f {
	case lost, killedIn:
		x.do()
	case late, killedBy:
		w.fly(&call{c: x.c, what: x.what, write: x.write, do: x.do, op: x.op})
	}
	switch f {
	case killed, killedIn, killedBy:
		c := x.c
		c.dead = true
		for _, other := range w.clients {
			if other.machine == c.machine && other.pending != nil {
				other.pending.Return = w.tick()
			}
		}
		for _, other := range slices.Clone(w.calls) {
			if other.c.machine == c.machine {
				w.take(other, false, errKilled)
			}
		}
		c.stop()
		return
	}
	w.take(x, false, errLost)
}

// A gate is the store as a client sees it.
type gate struct {
	w     *world
	store *memory.Backend
}

func (g *gate) wait(ctx context.Context, what, key string, write bool, do func()) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	w, c := g.w, ctx.Value(clientKey{}).(*client)
	w.mu.Lock()
	rank, ok := w.ranks[key]
	if !ok {
		rank = len(w.ranks)
		w.ranks[key] = rank
	}
	w.mu.Unlock()
	name := fmt.Sprintf("key %d", rank)
	if kind, _, ok := strings.Cut(key, "."); ok {
		name = fmt.Sprintf("%s %d", kind, rank)
	}
	x := &call{c: c, what: what + " " + name, rank: rank, write: write, do: do, chose: make(chan struct{})}
	if !w.wait(ctx, x) {
		return ctx.Err()
	}
	return x.err
}

func (g *gate) Load(ctx context.Context, key string) (rec session.Record, err error) {
	gerr := g.wait(ctx, "loads", key, false, func() { rec, err = g.store.Load(context.Background(), key) })
	if gerr != nil {
		return session.Record{}, gerr
	}
	return rec, err
}

func (g *gate) Save(ctx context.Context, key string, rec session.Record) (v session.Version, err error) {
	rec.Data = slices.Clone(rec.Data)
	gerr := g.wait(ctx, "saves", key, true, func() { v, err = g.store.Save(context.Background(), key, rec) })
	if gerr != nil {
		return "", gerr
	}
	return v, err
}

func (g *gate) Touch(ctx context.Context, key string, expires time.Time) (err error) {
	gerr := g.wait(ctx, "touches", key, true, func() { err = g.store.Touch(context.Background(), key, expires) })
	return cmp.Or(gerr, err)
}

func (g *gate) Delete(ctx context.Context, key string) (err error) {
	gerr := g.wait(ctx, "deletes", key, true, func() { err = g.store.Delete(context.Background(), key) })
	return cmp.Or(gerr, err)
}
