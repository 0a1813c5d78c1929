package integration

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"slices"
	"sync"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/dynamodb"
	redisstore "github.com/seed-a7bee19b/session/backend/redis"
	"github.com/seed-a7bee19b/session/integration/proxy"
)

var browse = flag.Duration("browse", 12*time.Second, "how long the browsers of TestBrowsers are at work with each store")

// mark is the value that a visitor's first page stores. It identifies a session
// under all its IDs.
var mark = session.Key[string]{Name: "mark"}

// shown has the contents of a page.
type shown struct {
	Mark, User string
	New        bool // the handler has just set Mark
	N          int
	Names      []string
}

// shop is a Manager behind its own proxy, and its pages.
func shop(m *session.Manager) http.Handler {
	return m.HandlerFunc(func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
		var p shown
		var err error
		name := r.FormValue("name")
		if r.URL.Path == "/login" {
			err = s.Login(name)
		}
		if err == nil && r.URL.Path == "/logout" {
			err = s.Destroy(r.Context())
		} else if err == nil {
			err = p.fill(r, s, name)
		}
		if err != nil {
			return err
		}
		_ = json.NewEncoder(w).Encode(p) // the browser may have disconnected
		return nil
	})
}

// fill does what r asks for, and reads the session's values.
func (p *shown) fill(r *http.Request, s *session.Session, name string) (err error) {
	if p.Mark, err = mark.Get(s); err != nil {
		return err
	}
	if p.Mark == "" && r.URL.Path != "/look" {
		p.Mark, p.New = r.FormValue("mark"), true
		err = mark.Set(s, p.Mark)
	}
	if err == nil && r.URL.Path == "/add" {
		err = errors.Join(errOf(visits.Update(s, inc)), errOf(tally.Update(s, func(names []string) []string { return append(names, name) })))
	}
	var errs [3]error
	p.User, errs[0] = s.User()
	p.N, errs[1] = visits.Get(s)
	p.Names, errs[2] = tally.Get(s)
	return errors.Join(err, errors.Join(errs[:]...))
}

// impatient returns the backend at a, with a short timeout for each attempt.
func (a address) impatient(t *testing.T, timeout time.Duration) session.Backend {
	t.Helper()
	if a.Store == redisStore.name {
		goredis.SetLogger(silence{})
		c := goredis.NewClient(&goredis.Options{
			Addr: a.URL, MaxRetries: 3, MinRetryBackoff: 2 * time.Millisecond, MaxRetryBackoff: 20 * time.Millisecond,
			ContextTimeoutEnabled: true, ReadTimeout: timeout, WriteTimeout: timeout,
		})
		t.Cleanup(func() { _ = c.Close() }) // of a connection that a proxy has closed
		b, err := redisstore.New(c, redisstore.Config{Prefix: a.Room})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	cfg := awsConfig(a.URL)
	cfg.HTTPClient = keptOpen
	b, err := dynamodb.New(cfg, dynamodb.Config{
		Table: a.Room, AttemptTimeout: timeout, BackoffBase: 2 * time.Millisecond, MaxBackoff: 20 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// weather is a rule with all faults. Late requests are counted in late until
// they arrive.
func weather(seed uint64, late *sync.WaitGroup) proxy.Rule {
	r := rand.New(rand.NewPCG(seed, 0)) // a rule is called by one goroutine at a time
	faults := []proxy.Fault{
		proxy.DropRequest, proxy.DropResponse, proxy.Throttle, proxy.InternalError, proxy.Hang,
		proxy.LateSilent, proxy.LateDropped, proxy.LateSilent, proxy.LateDropped, proxy.None,
	}
	return func(proxy.Request) proxy.Action {
		if r.Float64() >= 0.2 {
			return proxy.Action{}
		}
		a := proxy.Action{Fault: faults[r.IntN(len(faults))]}
		delay := 100*time.Millisecond + time.Duration(r.Int64N(int64(2900*time.Millisecond)))
		switch a.Fault {
		case proxy.LateSilent, proxy.LateDropped:
			late.Add(1)
			a.Delay, a.After = delay, late.Done
		case proxy.None:
			a.Delay = delay / 2
		}
		return a
	}
}

// town has the servers and the knowledge of the browsers.
type town struct {
	t     *testing.T
	idle  time.Duration
	sites []string // their addresses
	clean string   // the address of one without faults
	began time.Time

	mu     sync.Mutex
	tokens map[string]*cookie
	marks  map[string]*visit
	logins map[string]bool // marks of logins without a response; they may be stored yet
	counts map[string]int
}

// cookie is a token that a browser has been sent.
type cookie struct {
	line *visit
	told time.Time // when a browser with it was told that there is no session
	left bool      // a Login under it began
}

// visit is a session, under all its IDs.
type visit struct {
	mark   string
	added  map[string]added // acknowledged
	logout time.Time        // when one was acknowledged
	tokens []string
}

type added struct {
	began, ended time.Time
	token        string // that it was sent with
}

func (w *town) count(what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.counts[what]++
}

var world = &url.URL{Scheme: "https", Host: "shop.example", Path: "/"}

// browser is a browser with its own jar.
type browser struct {
	*town
	name string
	r    *rand.Rand
	jar  *cookiejar.Jar
	n    int
	deaf bool // the response does not reach it
}

func (b *browser) token() string {
	for _, c := range b.jar.Cookies(world) {
		return c.Value
	}
	return ""
}

// ask sends one request and judges the response. It returns the status, or 0 if
// the outcome is not known.
func (b *browser) ask(ctx context.Context, site, method, path, token, name string) (int, shown) {
	b.mu.Lock()
	b.n++
	fresh := fmt.Sprintf("%s-%d", b.name, b.n)
	if path == "/login" {
		b.logins[fresh] = true
	}
	b.mu.Unlock()
	req, err := http.NewRequestWithContext(ctx, method, site+path+"?"+url.Values{"mark": {fresh}, "name": {name}}.Encode(), nil)
	if err != nil {
		b.t.Error(err)
		return 0, shown{}
	}
	if token != "" {
		req.AddCookie(&http.Cookie{Name: "session", Value: token})
	}
	began := time.Now()
	resp, err := keptOpen.Do(req)
	if err != nil {
		b.count(path + " lost")
		return 0, shown{}
	}
	text, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close() // it was read to its end
	if err != nil || b.deaf {
		b.count(path + " lost")
		return 0, shown{}
	}
	ended := time.Now()
	b.count(fmt.Sprint(path, " ", resp.StatusCode))
	var p shown
	if resp.StatusCode == http.StatusOK {
		if err := json.Unmarshal(text, &p); err != nil {
			b.t.Errorf("%s: %v", text, err)
		}
	}
	if resp.StatusCode == http.StatusConflict {
		wait(ctx, 20*time.Millisecond) // a user is not so quick
	}
	b.judge(path, token, name, began, ended, resp, p)
	return resp.StatusCode, p
}

func (b *browser) judge(path, token, name string, began, ended time.Time, resp *http.Response, p shown) {
	b.mu.Lock()
	defer b.mu.Unlock()
	at := func(t time.Time) time.Duration { return t.Sub(b.town.began).Round(time.Millisecond) }
	bad := func(format string, args ...any) {
		b.t.Errorf("%s %s %v..%v under %.6s: %s; %d, %+v", b.name, path, at(began), at(ended), token,
			fmt.Sprintf(format, args...), resp.StatusCode, p)
	}
	k := b.tokens[token]
	if resp.StatusCode == http.StatusOK {
		l := b.marks[p.Mark]
		if p.New {
			delete(b.logins, p.Mark)
		}
		if p.Mark != "" && l == nil {
			l = &visit{added: map[string]added{}}
			if k != nil && b.logins[p.Mark] {
				// Two logins under an old ID have joined its session. Both found no
				// mark and set one, and the later save wins.
				l = k.line
			}
			l.mark = p.Mark
			b.marks[p.Mark] = l
		}
		if k != nil && path != "/logout" {
			switch none := p.New || p.Mark == ""; {
			case none:
				for name, a := range k.line.added {
					if a.token == token && !k.left && k.line.logout.IsZero() && a.ended.Before(began) &&
						ended.Before(a.began.Add(b.idle-100*time.Millisecond)) {
						bad("a live session is reported as none: %s was added to %s at %v..%v", name, k.line.mark, at(a.began), at(a.ended))
					}
				}
				if k.told.IsZero() {
					k.told = ended
				}
			case !k.told.IsZero() && k.told.Before(began):
				bad("it was told that there is none at %v", at(k.told))
			case !k.line.logout.IsZero() && k.line.logout.Before(began):
				bad("it logged out at %v", at(k.line.logout))
			case p.Mark != k.line.mark:
				bad("it was %s", k.line.mark)
			}
		}
		// The count is read from the store, so it includes everything that was
		// acknowledged before.
		if l != nil {
			for name, a := range l.added {
				if a.ended.Before(began) && !slices.Contains(p.Names, name) {
					bad("%s is missing, added at %v..%v under %.6s", name, at(a.began), at(a.ended), a.token)
				}
			}
		}
		names := slices.Sorted(slices.Values(p.Names))
		if len(slices.Compact(names)) != len(p.Names) || p.N != len(p.Names) {
			bad("something was counted twice, or not at all")
		}
		now := token
		for _, c := range resp.Cookies() {
			if now = c.Value; now != "" && l != nil {
				b.tokens[now] = &cookie{line: l}
				l.tokens = append(l.tokens, now)
			}
		}
		switch {
		case path == "/logout":
			if k != nil && k.line.logout.IsZero() {
				k.line.logout = ended
			}
		case path == "/add" && l != nil:
			l.added[name] = added{began, ended, now}
		}
	}
	if path != "/look" {
		b.jar.SetCookies(world, resp.Cookies())
	}
}

func (b *browser) any() string { return b.sites[b.r.IntN(len(b.sites))] }

// do is one action of the user.
func (b *browser) do(ctx context.Context) {
	token := b.token()
	b.n++
	name := fmt.Sprintf("%s.%d", b.name, b.n)
	switch x := b.r.IntN(100); {
	case x < 30:
		b.ask(ctx, b.any(), "GET", "/visit", token, "")
	case x < 55:
		b.ask(ctx, b.any(), "POST", "/add", token, name)
	case x < 65: // two at once
		if token == "" {
			return
		}
		sites := []string{b.any(), b.any()}
		var wg sync.WaitGroup
		for i, site := range sites {
			wg.Go(func() { b.ask(ctx, site, "POST", "/add", token, fmt.Sprint(name, "/", i)) })
		}
		wg.Wait()
	case x < 80:
		b.login(ctx, token)
	case x < 90:
		if b.logout(ctx, token) && b.r.IntN(2) == 0 {
			b.look(ctx, token)
		}
	case x < 93: // idle past the deadline
		if b.idle < 5*time.Second {
			wait(ctx, b.idle+time.Duration(b.r.Int64N(int64(1500*time.Millisecond))))
		}
	case x < 96:
		wait(ctx, time.Duration(b.r.Int64N(int64(500*time.Millisecond))))
	default: // and nearly so
		if b.idle < 5*time.Second {
			wait(ctx, b.idle-time.Duration(b.r.Int64N(int64(500*time.Millisecond))))
		}
	}
}

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// login logs in. Sometimes the response is lost; then the browser still has its
// cart, and logs in again.
func (b *browser) login(ctx context.Context, token string) {
	b.mu.Lock()
	k := b.tokens[token]
	if k != nil {
		k.left = true
	}
	b.mu.Unlock()
	site, patience := b.any(), time.Minute
	_, before := b.ask(ctx, b.clean, "GET", "/look", token, "")
	switch b.r.IntN(4) {
	case 0:
		patience = time.Duration(b.r.Int64N(int64(20 * time.Millisecond)))
	case 1:
		b.deaf = true
	}
	soon, cancel := context.WithTimeout(ctx, patience)
	began := time.Now()
	status, _ := b.ask(soon, site, "POST", "/login", token, b.name)
	cancel()
	b.deaf = false
	if status == http.StatusOK || k == nil || before.User != "" || before.Mark == "" {
		return
	}
	// A request with an unsafe method sees the earlier data even while the
	// response may be in flight.
	for range 20 {
		if ctx.Err() != nil {
			return
		}
		status, now := b.ask(ctx, b.clean, "POST", "/look", token, "")
		if status != http.StatusOK {
			continue
		}
		if time.Since(began) < b.idle-100*time.Millisecond && now.Mark != before.Mark {
			b.t.Errorf("%s: after a login under %.6s that was answered %d there is %+v, before it %+v", b.name, token, status, now, before)
		}
		if b.idle > 10*time.Second && b.r.IntN(4) == 0 { // come back when nothing can be in flight
			wait(ctx, 10500*time.Millisecond)
			if status, now = b.ask(ctx, b.clean, "GET", "/look", token, ""); status == http.StatusOK &&
				time.Since(began) < b.idle-100*time.Millisecond && now.Mark != before.Mark {
				b.t.Errorf("%s: 10 s after a login under %.6s there is %+v, before it %+v", b.name, token, now, before)
			}
		}
		break
	}
	for range 5 {
		if status, _ := b.ask(ctx, b.any(), "POST", "/login", token, b.name); status == http.StatusOK {
			return
		}
	}
}

// logout tries until it is acknowledged, a few times.
func (b *browser) logout(ctx context.Context, token string) bool {
	for range 4 {
		if status, _ := b.ask(ctx, b.any(), "POST", "/logout", token, ""); status == http.StatusOK {
			return true
		}
	}
	return false
}

// look requests a page with every token that the session had.
func (b *browser) look(ctx context.Context, token string) {
	b.mu.Lock()
	var tokens []string
	if k := b.tokens[token]; k != nil {
		tokens = slices.Clone(k.line.tokens)
	}
	b.mu.Unlock()
	for _, token := range tokens {
		for _, method := range []string{"GET", "POST"} {
			b.ask(ctx, b.clean, method, "/look", token, "")
		}
	}
}

// TestBrowsers has browsers that visit, count, log in and out, and come back too
// late, at servers whose requests to the store are lost, refused or late.
func TestBrowsers(t *testing.T) {
	for _, idle := range []time.Duration{2 * time.Second, 15 * time.Second} {
		t.Run(idle.String(), func(t *testing.T) {
			t.Parallel()
			eachStore(t, func(t *testing.T, a address) { browsers(t, a, idle) })
		})
	}
}

func browsers(t *testing.T, a address, idle time.Duration) {
	w := &town{
		t: t, idle: idle, began: time.Now(), tokens: map[string]*cookie{}, marks: map[string]*visit{}, logins: map[string]bool{}, counts: map[string]int{},
	}
	seed := seed(t)
	var late sync.WaitGroup
	var links []link
	serve := func(b session.Backend) string {
		m, err := session.New(b, session.Config{
			IdleTimeout: idle, TouchInterval: 50 * time.Millisecond, CommitTimeout: 4 * time.Second,
			Cookie: session.Cookie{InsecureHTTP: true},
			// The default logs, and would fill the output.
			ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
				http.Error(w, err.Error(), session.Status(err))
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		srv := httptest.NewServer(shop(m))
		t.Cleanup(srv.Close)
		return srv.URL
	}
	w.clean = serve(a.backend(t))
	for i := range 3 {
		at, l := a.through(t)
		links = append(links, l)
		w.sites = append(w.sites, serve(at.impatient(t, []time.Duration{300, 800, 1500}[i]*time.Millisecond)))
		l.SetRule(weather(seed+uint64(i), &late))
	}

	const many = 8
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	over := time.Now().Add(*browse)
	all := make([]*browser, many)
	var wg sync.WaitGroup
	for i := range all {
		jar, err := cookiejar.New(nil)
		if err != nil {
			t.Fatal(err)
		}
		b := &browser{town: w, name: fmt.Sprint("b", i), r: rand.New(rand.NewPCG(seed, uint64(i)+100)), jar: jar}
		all[i] = b
		wg.Go(func() {
			for time.Now().Before(over) {
				b.do(ctx)
			}
		})
	}
	wg.Wait()
	for _, l := range links {
		l.SetRule(nil)
	}
	for _, b := range all { // before the live sessions expire
		b.ask(ctx, w.clean, "GET", "/visit", b.token(), "")
	}
	late.Wait()
	b := all[0]
	for token, k := range w.tokens {
		if !k.told.IsZero() || !k.line.logout.IsZero() {
			for _, method := range []string{"GET", "POST"} {
				b.ask(ctx, w.clean, method, "/look", token, "")
			}
		}
	}
	t.Logf("%d tokens of %d sessions: %v", len(w.tokens), len(w.marks), w.counts)
}
