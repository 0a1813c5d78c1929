package adapters

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session"
)

func (a answer) want(t testing.TB, what string, status int) {
	t.Helper()
	if a.status != status {
		t.Errorf("%s: status %d, want %d: %s", what, a.status, status, a.body)
	}
}

func (s *site) wantValue(t testing.TB, cookie, name, want string) {
	t.Helper()
	if got := s.get(t, cookie, name); got != want {
		t.Errorf("%s=%s, want %s", name, got, want)
	}
}

// TestOneOfTen has 10 requests read one state of a session before any of them saves:
// one wins, and the others are told.
func TestOneOfTen(t *testing.T) {
	each(t, func(t *testing.T, connect func() (*site, *backend)) {
		s, _ := connect()
		cookie := s.begin(t)
		for round := 1; round <= 5; round++ {
			var read, wg sync.WaitGroup
			var mu sync.Mutex
			statuses := map[int]int{}
			read.Add(10)
			for i := range 10 {
				name := fmt.Sprintf("in-%d-%d", round, i)
				wg.Go(func() { <-s.gate(name); read.Done() })
				wg.Go(func() {
					got := s.do(t, cookie, fmt.Sprintf("get:n say:%s wait:go-%d inc:n save", name, round))
					mu.Lock()
					defer mu.Unlock()
					statuses[got.status]++
				})
			}
			read.Wait()
			close(s.gate(fmt.Sprint("go-", round)))
			wg.Wait()
			if statuses[http.StatusOK] != 1 || statuses[http.StatusConflict] != 9 {
				t.Errorf("round %d: statuses %v", round, statuses)
			}
			s.wantValue(t, cookie, "n", fmt.Sprint(round))
		}
	})
}

// TestSlow does something while a slow request has the session, which then does
// something too.
func TestSlow(t *testing.T) {
	tests := []struct {
		name        string
		quick, slow string
		status      int    // of the slow request
		a, b        string // values under the old cookie afterwards
		renews      bool
	}{
		{name: "logout, then a change", quick: "end", slow: "set:b=1 save", status: 409, a: "-", b: "-"},
		{name: "logout, then nothing", quick: "end", slow: "save", status: 409, a: "-", b: "-"},
		{name: "logout, then a change after Clear", quick: "end", slow: "clear set:b=1 save", status: 409, a: "-", b: "-"},
		{name: "logout, then a logout", quick: "end", slow: "end", status: 200, a: "-", b: "-"},
		{name: "change, then a change", quick: "set:b=1 save", slow: "set:a=2 save", status: 409, a: "1", b: "1"},
		{name: "change, then nothing", quick: "set:b=1 save", slow: "save", status: 200, a: "1", b: "1"},
		{name: "change, then a change after Clear", quick: "set:b=1 save", slow: "clear set:c=1 save", status: 409, a: "1", b: "1"},
		{name: "change, then a logout", quick: "set:b=1 save", slow: "end", status: 200, a: "-", b: "-"},
		{name: "new ID, then a change", quick: "renew save", slow: "set:b=1 save", status: 409, a: "-", b: "-", renews: true},
		{name: "new ID, then nothing", quick: "renew save", slow: "save", status: 409, a: "-", b: "-", renews: true},
	}
	each(t, func(t *testing.T, connect func() (*site, *backend)) {
		for _, tt := range tests {
			if tt.renews && strings.HasSuffix(t.Name(), "/gin") {
				continue // it has no call for it
			}
			s, _ := connect()
			other, _ := connect() // another server
			cookie := s.begin(t)
			finish := s.slow(t, cookie, tt.slow)
			quick := other.do(t, cookie, tt.quick)
			quick.want(t, tt.name+": quick request", http.StatusOK)
			slow := finish()
			status := tt.status
			if tt.slow == "save" && (strings.HasSuffix(t.Name(), "/scs") || strings.HasSuffix(t.Name(), "/gin")) {
				status = http.StatusOK // they save no session that has not changed
			}
			slow.want(t, tt.name+": slow request", status)
			if got, got2 := other.get(t, cookie, "a"), other.get(t, cookie, "b"); got != tt.a || got2 != tt.b {
				t.Errorf("%s: afterwards a=%s, b=%s; want %s, %s", tt.name, got, got2, tt.a, tt.b)
			}
			if tt.renews {
				other.wantValue(t, quick.cookie, "a", "1")
				other.wantValue(t, quick.cookie, "b", "-")
			}
			if slow.set && slow.cookie != "" && slow.cookie != quick.cookie {
				t.Errorf("%s: the slow response displaced the cookie", tt.name)
			}
		}
	})
}

// TestAlone has one request at a time do what is allowed.
func TestAlone(t *testing.T) {
	tests := []struct{ name, steps, a, b string }{
		{"change", "set:b=1 save", "1", "1"},
		{"two saves", "set:b=1 save set:b=2 save", "1", "2"},
		{"clear", "clear save", "-", "-"},
		{"clear, then a change", "clear set:b=1 save", "-", "1"},
		{"nothing", "save", "1", "-"},
		{"logout, then a change", "end set:b=1 save", "-", "-"},
	}
	each(t, func(t *testing.T, connect func() (*site, *backend)) {
		for _, tt := range tests {
			s, _ := connect()
			cookie := s.begin(t)
			got := s.do(t, cookie, tt.steps)
			got.want(t, tt.name, http.StatusOK)
			if a, b := s.get(t, cookie, "a"), s.get(t, cookie, "b"); a != tt.a || b != tt.b {
				t.Errorf("%s: afterwards a=%s, b=%s; want %s, %s", tt.name, a, b, tt.a, tt.b)
			}
		}
	})
}

// TestUnchanged has requests that change nothing at the same time. They have
// several values, as package gob writes those in any order.
func TestUnchanged(t *testing.T) {
	each(t, func(t *testing.T, connect func() (*site, *backend)) {
		s, b := connect()
		cookie := s.do(t, "", "set:a=1 set:b=2 set:c=3 set:d=4 set:e=5 save").cookie
		saves := b.saves.Load()
		_, before := b.last(t)
		var read, wg sync.WaitGroup
		read.Add(10)
		for i := range 10 {
			name := fmt.Sprint("in-", i)
			wg.Go(func() { <-s.gate(name); read.Done() })
			wg.Go(func() {
				s.do(t, cookie, "get:a say:"+name+" wait:go save").want(t, "a request that changes nothing", http.StatusOK)
			})
		}
		read.Wait()
		close(s.gate("go"))
		wg.Wait()
		_, after := b.last(t)
		if b.saves.Load() != saves || after.Version != before.Version || after.Expires.Before(before.Expires) {
			t.Errorf("%d Saves, version changed: %t, deadline %v, before %v", b.saves.Load()-saves, after.Version != before.Version, after.Expires, before.Expires)
		}
	})
}

// TestFailingStore: a store that fails is never an empty session.
func TestFailingStore(t *testing.T) {
	each(t, func(t *testing.T, connect func() (*site, *backend)) {
		s, b := connect()
		cookie := s.begin(t)

		b.down.Store(true)
		read := s.do(t, cookie, "get:a set:b=1 save")
		b.down.Store(false)
		read.want(t, "a request that could not read", http.StatusServiceUnavailable)
		if read.cookie != cookie {
			t.Error("it lost the cookie")
		}
		s.wantValue(t, cookie, "a", "1")

		finish := s.slow(t, cookie, "set:b=1 save")
		b.down.Store(true)
		saved := finish()
		b.down.Store(false)
		saved.want(t, "a request that could not save", http.StatusServiceUnavailable)
		s.wantValue(t, cookie, "a", "1")
		s.wantValue(t, cookie, "b", "-")

		b.down.Store(true)
		ended := s.do(t, cookie, "end")
		b.down.Store(false)
		ended.want(t, "a logout that failed", http.StatusServiceUnavailable)
		s.wantValue(t, cookie, "a", "1")
	})
}

// TestReadFailsOnly: the store works again when the request saves.
func TestReadFailsOnly(t *testing.T) {
	tests := []struct {
		name, steps string
		status      int
		a           string
	}{
		{"change", "set:b=2 save", 503, "1"},
		{"change after Clear", "clear set:b=2 save", 503, "1"},
		{"logout", "end", 200, "-"},
	}
	for _, lib := range libraries {
		if lib.name != "gorilla" && lib.name != "echo-contrib" && lib.name != "gin" {
			continue // the others do not call the handler
		}
		for _, tt := range tests {
			t.Run(lib.name+", "+tt.name, func(t *testing.T) {
				b := stores[0].room(t)(t)
				s := lib.start(t, b)
				cookie := s.begin(t)
				b.down.Store(true)
				go func() {
					<-s.gate("read")
					b.down.Store(false)
					close(s.gate("mended"))
				}()
				got := s.do(t, cookie, "get:a say:read wait:mended "+tt.steps)
				got.want(t, "the request", tt.status)
				s.wantValue(t, cookie, "a", tt.a)
			})
		}
	}
}

// TestRefused: what cannot be stored or decoded is an error, and what was stored
// stays.
func TestRefused(t *testing.T) {
	each(t, func(t *testing.T, connect func() (*site, *backend)) {
		s, b := connect()
		cookie := s.begin(t)
		key, before := b.last(t)
		same := func(what string) {
			t.Helper()
			rec, err := b.Backend.Load(t.Context(), key)
			if err != nil || !bytes.Equal(rec.Data, before.Data) || rec.Version != before.Version {
				t.Errorf("%s: what was stored has changed: %v", what, err)
			}
		}
		size := "big:1000000" // more than an item of DynamoDB can have
		if strings.Contains(t.Name(), "/dynamodb/") {
			b.limit.Store(0)
		} else {
			b.limit.Store(1000)
		}
		if got := s.do(t, cookie, size+" save"); got.status != http.StatusInternalServerError || !strings.Contains(got.body, "too large") {
			t.Errorf("too large: %+v", got)
		}
		same("too large")
		if got := s.do(t, cookie, "func save"); got.status != http.StatusInternalServerError {
			t.Errorf("a value of a wrong type: %+v", got)
		}
		same("a value of a wrong type")

		before.Data = []byte("\xc1 not a session")
		var err error
		if before.Version, err = b.Backend.Save(t.Context(), key, before); err != nil {
			t.Fatal(err)
		}
		got := s.do(t, cookie, "set:b=2 save")
		got.want(t, "undecodable", http.StatusInternalServerError)
		if got.cookie != cookie {
			t.Error("undecodable: it lost the cookie")
		}
		same("undecodable")
	})
}

// TestUnknownToken: a token that names no session is not adopted.
func TestUnknownToken(t *testing.T) {
	each(t, func(t *testing.T, connect func() (*site, *backend)) {
		s, _ := connect()
		for _, planted := range []string{
			"plantedplantedplantedplantedplan", "c2hvcnQsIHBsYW50ZWQgYW5kIGtub3duIHRvIG1lLi4", "x", strings.Repeat("x", 3000),
		} {
			got := s.do(t, planted, "set:a=1 save")
			got.want(t, "a planted token", http.StatusOK)
			if got.cookie == planted || got.cookie == "" {
				t.Errorf("the cookie is the one that was planted: %t", got.cookie == planted)
			}
			s.wantValue(t, planted, "a", "-")
			s.wantValue(t, got.cookie, "a", "1")
		}
	})
}

// TestClientGone: a client that goes away does not lose what it did.
func TestClientGone(t *testing.T) {
	for _, lib := range libraries {
		if lib.name == "fiber" {
			continue // its requests do not end with their clients
		}
		t.Run(lib.name, func(t *testing.T) {
			s := lib.start(t, stores[0].room(t)(t))
			cookie := s.begin(t)
			ctx, cancel := context.WithCancel(t.Context())
			go func() { <-s.gate("in"); cancel(); close(s.gate("go")) }()
			s.doContext(ctx, t, cookie, "get:a say:in wait:go set:b=1 save")
			s.wantValue(t, cookie, "b", "1")

			late, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
			defer cancel()
			if got := s.doContext(late, t, "", "set:b=1 save"); got.status != http.StatusServiceUnavailable {
				t.Errorf("a request past its deadline: %+v", got)
			}
		})
	}
}

// TestSecrets: neither keys nor errors have the token.
func TestSecrets(t *testing.T) {
	each(t, func(t *testing.T, connect func() (*site, *backend)) {
		s, b := connect()
		cookie := s.begin(t)
		key, _ := b.last(t)
		if key != session.DefaultStoreKey(cookie) {
			t.Error("the key is no digest of the token")
		}
		var said []string
		b.down.Store(true)
		said = append(said, s.do(t, cookie, "set:b=1 save").body, s.do(t, cookie, "end").body)
		b.down.Store(false)
		finish := s.slow(t, cookie, "set:b=1 save")
		s.do(t, cookie, "set:c=1 save")
		said = append(said, finish().body)
		for _, text := range said {
			if text == "" || strings.Contains(text, cookie) || strings.Contains(text, key) {
				t.Errorf("an error says %q", strings.NewReplacer(cookie, "TOKEN", key, "KEY").Replace(text))
			}
		}
	})
}

// unconditional is a mutant: a store without versions.
type unconditional struct{ session.Backend }

func (b unconditional) Save(ctx context.Context, key string, rec session.Record) (session.Version, error) {
	for {
		stored, err := b.Load(ctx, key)
		if err != nil && !errors.Is(err, session.ErrNotFound) {
			return "", err
		}
		rec.Version = stored.Version
		if v, err := b.Backend.Save(ctx, key, rec); !errors.Is(err, session.ErrConflict) {
			return v, err
		}
	}
}

// TestMutant checks that these programs find what a store without versions loses.
func TestMutant(t *testing.T) {
	for _, lib := range libraries {
		t.Run(lib.name, func(t *testing.T) {
			s := lib.start(t, unconditional{stores[0].room(t)(t)})
			cookie := s.begin(t)
			finish := s.slow(t, cookie, "set:a=2 save")
			s.do(t, cookie, "set:b=1 save")
			if got := finish(); got.status != http.StatusOK || s.get(t, cookie, "b") != "-" {
				t.Errorf("nothing was lost: %+v", got)
			}
		})
		t.Run(lib.name+", logout", func(t *testing.T) {
			s := lib.start(t, unconditional{stores[0].room(t)(t)})
			cookie := s.begin(t)
			finish := s.slow(t, cookie, "set:a=2 save")
			s.do(t, cookie, "end")
			if got := finish(); got.status != http.StatusOK || s.get(t, cookie, "a") != "2" {
				t.Errorf("nothing was revived: %+v", got)
			}
		})
	}
}
