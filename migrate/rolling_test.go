package migrate_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/admin"
	"github.com/seed-a7bee19b/session/backend/memory"
	"github.com/seed-a7bee19b/session/migrate"
)

var (
	number = session.Key[int]{Name: "number"}
	known  = session.Key[bool]{Name: "known"}
)

// app is a site: it counts for each visitor, logs in and out, and says when a
// visitor whom it knows comes with a token that it does not know.
func app(t testing.TB, b session.Backend) http.Handler {
	t.Helper()
	m, err := session.New(b, session.Config{
		Cookie: session.Cookie{Name: "id", InsecureHTTP: true},
		Owners: session.OwnersConfig{Index: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/begin", m.HandlerFunc(func(_ http.ResponseWriter, _ *http.Request, s *session.Session) error {
		return known.Set(s, true)
	}))
	mux.Handle("/add", m.HandlerFunc(func(w http.ResponseWriter, _ *http.Request, s *session.Session) error {
		if ok, err := known.Get(s); err != nil || !ok {
			w.WriteHeader(http.StatusGone)
			return err
		}
		n, err := number.Update(s, func(n int) int { return n + 1 })
		if err != nil {
			return err
		}
		_, err = io.WriteString(w, strconv.Itoa(n))
		return err
	}))
	mux.Handle("/login", m.HandlerFunc(func(_ http.ResponseWriter, r *http.Request, s *session.Session) error {
		return s.LoginWith(session.Login{User: r.FormValue("user")})
	}))
	mux.Handle("/logout", m.HandlerFunc(func(_ http.ResponseWriter, r *http.Request, s *session.Session) error {
		return s.Destroy(r.Context())
	}))
	mux.Handle("/mine", m.HandlerFunc(func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
		user, err := s.User()
		if err != nil {
			return err
		}
		n := 0
		for _, err := range m.Sessions(r.Context(), session.User(user)) {
			if err != nil {
				return err
			}
			n++
		}
		_, err = io.WriteString(w, strconv.Itoa(n))
		return err
	}))
	mux.Handle("/revoke", m.HandlerFunc(func(_ http.ResponseWriter, r *http.Request, _ *session.Session) error {
		return m.Revoke(r.Context(), session.User(r.FormValue("user")))
	}))
	return mux
}

// group is a WaitGroup that starts goroutines.
type group struct{ sync.WaitGroup }

func (g *group) Go(f func()) {
	g.Add(1)
	go func() {
		defer g.Done()
		f()
	}()
}

// proxy sends each request to one of two servers.
type proxy struct{ one, two atomic.Pointer[http.Handler] }

func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := p.one.Load()
	if rand.IntN(2) == 0 {
		h = p.two.Load()
	}
	(*h).ServeHTTP(w, r)
}

// visitor is a browser.
type visitor struct {
	t      testing.TB
	url    string
	client http.Client
}

func newVisitor(t testing.TB, server *httptest.Server) *visitor {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &visitor{t, server.URL, http.Client{Jar: jar, Transport: server.Client().Transport}}
}

func (v *visitor) get(path string) (body string, status int) {
	res, err := v.client.Get(v.url + path)
	if err != nil {
		v.t.Error(err)
		return "", 0
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		v.t.Error(err)
	}
	return string(text), res.StatusCode
}

// ok is get for a page that must be there.
func (v *visitor) ok(path string) string {
	body, status := v.get(path)
	if status != http.StatusOK {
		v.t.Errorf("%s: status %d: %s", path, status, body)
	}
	return body
}

// Visitors use two servers behind one proxy, while one after the other goes through
// all phases, forward and back again. Nobody meets an unknown token, no number is
// lost, all sessions of a user are listed and revoked.
func TestRollingDeployment(t *testing.T) {
	s := stores{&memory.Backend{}, &memory.Backend{}}
	forward := func(p migrate.Phase) http.Handler {
		return app(t, open(t, s.fresh, s.from(), migrate.Config{Phase: p}))
	}
	back := func(p migrate.Phase) http.Handler {
		return app(t, open(t, s.old, migrate.From(s.fresh, migrate.FromConfig{}), migrate.Config{Phase: p}))
	}
	before, after := app(t, s.old), app(t, s.fresh)
	hold, move, drain, gone := forward(migrate.Hold), forward(migrate.Move), forward(migrate.Drain), forward(migrate.Gone)
	backMove, backDrain, backGone := back(migrate.Move), back(migrate.Drain), back(migrate.Gone)

	p := &proxy{}
	set := func(one, two http.Handler) { p.one.Store(&one); p.two.Store(&two) }
	set(before, before)
	server := httptest.NewServer(p)
	defer server.Close()

	const visitors, users = 200, 20
	all := make([]*visitor, visitors)
	counts := make([]int, visitors)
	each := func(f func(i int, v *visitor)) {
		var g group
		for w := range 8 {
			g.Go(func() {
				for i := w; i < visitors; i += 8 {
					f(i, all[i])
				}
			})
		}
		g.Wait()
	}
	user := func(i int) string { return fmt.Sprint("user-", i%users) }
	for i := range all {
		all[i] = newVisitor(t, server)
	}
	each(func(i int, v *visitor) { v.ok("/begin"); v.ok("/login?user=" + user(i)) })

	empty := func(name string, fresh, old session.Backend) {
		t.Helper()
		report, err := migrate.All(t.Context(), fresh, old, migrate.Options{})
		if err != nil || report.Rest != 0 || report.Failed != 0 {
			t.Errorf("%s: %+v, %v", name, report, err)
		}
	}
	for n, stage := range []struct {
		name     string
		one, two http.Handler
		then     func()
	}{
		{"before", before, before, nil},
		{"old and Hold", before, hold, nil},
		{"Hold", hold, hold, nil},
		{"Hold and Move", hold, move, nil},
		{"Move", move, move, nil},
		{"back to Hold", move, hold, nil},
		{"forward again", hold, move, nil},
		{"Move and Drain", move, drain, nil},
		{"Drain", drain, drain, func() { empty("drain", s.fresh, s.old) }},
		{"Drain and Gone", drain, gone, nil},
		{"Gone", gone, gone, func() { tenMinutes(t, s.fresh) }},
		{"Gone and after", gone, after, nil},
		{"after", after, after, nil},
		{"after and Drain", gone, drain, nil},
		{"Drain back to Move", drain, move, nil},
		{"Move back to Hold", move, hold, nil},
		{"Hold and the other way", hold, backMove, nil},
		{"the other way", backMove, backDrain, nil},
		{"drain the other way", backDrain, backDrain, func() { empty("drain back", s.old, s.fresh) }},
		{"gone the other way", backDrain, backGone, func() { tenMinutes(t, s.old) }},
		{"before again", backGone, before, nil},
	} {
		set(stage.one, stage.two)
		each(func(i int, v *visitor) {
			switch i % 10 {
			case n % 10: // two requests at the same time
				var g group
				for range 2 {
					g.Go(func() { v.ok("/add") })
				}
				g.Wait()
				counts[i] += 2
			case (n + 1) % 10: // a new visitor in the place of one who leaves
				v.ok("/logout")
				if body, status := v.get("/add"); status != http.StatusGone {
					t.Errorf("%s: after the logout: %d, %s", stage.name, status, body)
				}
				v.ok("/begin")
				v.ok("/login?user=" + user(i))
				counts[i] = 0
			case (n + 2) % 10: // a new ID
				v.ok("/login?user=" + user(i))
			}
			counts[i]++
			if got := v.ok("/add"); got != strconv.Itoa(counts[i]) {
				t.Errorf("%s: visitor %d has %s, want %d", stage.name, i, got, counts[i])
			}
		})
		each(func(i int, v *visitor) {
			if i < users {
				if got := v.ok("/mine"); got != strconv.Itoa(visitors/users) {
					t.Errorf("%s: %s has %s sessions listed, want %d", stage.name, user(i), got, visitors/users)
				}
			}
		})
		// One user is revoked at each stage, and comes back.
		gone := n % users
		all[(gone+1)%users].ok("/revoke?user=" + user(gone))
		each(func(i int, v *visitor) {
			if i%users != gone {
				return
			}
			if body, status := v.get("/add"); status != http.StatusGone {
				t.Errorf("%s: after the revocation: %d, %s", stage.name, status, body)
			}
			v.ok("/begin")
			v.ok("/login?user=" + user(i))
			counts[i] = 0
		})
		if stage.then != nil {
			stage.then()
		}
		if t.Failed() {
			t.Fatal(stage.name)
		}
	}
}

// tenMinutes removes the claims from a store, as ten minutes do.
func tenMinutes(t *testing.T, b session.Backend) {
	t.Helper()
	_, err := admin.List(t.Context(), b, admin.ListOptions{DataWith: "session/migrate claim"}, func(e admin.Entry) error {
		if e.Data != "" {
			return b.Delete(t.Context(), e.Key)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A store that fails and is slow.
type flaky struct {
	*memory.Backend
	rate float64
	on   *atomic.Bool
}

func (f flaky) call(apply func() error) error {
	if !f.on.Load() {
		return apply()
	}
	if rand.Float64() < 0.1 {
		time.Sleep(time.Duration(rand.IntN(5)) * time.Millisecond)
	}
	switch r := rand.Float64(); {
	case r < f.rate/2:
		return errFault
	case r < f.rate:
		_ = apply()
		return errFault
	}
	return apply()
}

func (f flaky) Save(ctx context.Context, key string, rec session.Record) (v session.Version, err error) {
	err = f.call(func() (err error) { v, err = f.Backend.Save(ctx, key, rec); return err })
	return v, err
}

func (f flaky) Load(ctx context.Context, key string) (rec session.Record, err error) {
	err = f.call(func() (err error) { rec, err = f.Backend.Load(ctx, key); return err })
	return rec, err
}

func (f flaky) Touch(ctx context.Context, key string, expires time.Time) error {
	return f.call(func() error { return f.Backend.Touch(ctx, key, expires) })
}

func (f flaky) Delete(ctx context.Context, key string) error {
	return f.call(func() error { return f.Backend.Delete(ctx, key) })
}
