//go:build go1.25

package backchannel_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	backchannel "github.com/seed-a7bee19b/session/oidc"
)

// jwksURI stands in for that of a provider.
type jwksURI struct {
	mu    sync.Mutex
	keys  map[string]any
	err   error
	takes time.Duration
	calls int
}

func (u *jwksURI) fetch(t testing.TB) func(context.Context) ([]byte, error) {
	return func(ctx context.Context) ([]byte, error) {
		u.mu.Lock()
		defer u.mu.Unlock()
		u.calls++
		if u.takes > 0 {
			select {
			case <-time.After(u.takes):
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		if u.err != nil {
			return nil, u.err
		}
		return jwks(t, u.keys), nil
	}
}

// TestFetchedKeys follows a provider through a day.
func TestFetchedKeys(t *testing.T) {
	k := testKeys()
	down := errors.New("down")
	synctest.Test(t, func(t *testing.T) {
		u := &jwksURI{keys: map[string]any{"1": k.ec.Public()}}
		keys, err := backchannel.FetchedKeys(u.fetch(t))
		if err != nil {
			t.Fatal(err)
		}
		steps := []struct {
			name   string
			after  time.Duration
			change func()
			keyID  string
			found  int
			calls  int
			err    error
		}{
			{name: "no call before the first token", calls: 1, keyID: "1", found: 1},
			{name: "remembered", after: 59 * time.Minute, keyID: "1", found: 1, calls: 1},
			{name: "an hour old", after: time.Minute, keyID: "1", found: 1, calls: 2},
			{name: "all", after: 9 * time.Second, keyID: "", found: 1, calls: 2},
			{name: "unknown too early", keyID: "2", calls: 2},
			{name: "unknown", after: time.Second, keyID: "2", calls: 3},
			{name: "unknown again", keyID: "3", calls: 3},
			{name: "new key", after: 10 * time.Second, change: func() { u.keys = map[string]any{"2": k.ed.Public()} }, keyID: "2", found: 1, calls: 4},
			{name: "old key gone", keyID: "1", calls: 4},
			{name: "down and known", after: 10 * time.Second, change: func() { u.err = down }, keyID: "2", found: 1, calls: 4},
			{name: "down and unknown", keyID: "3", calls: 5, err: down},
			{name: "down and unknown again", after: 9 * time.Second, keyID: "4", calls: 5, err: down},
			{name: "down and old", after: time.Hour, keyID: "2", found: 1, calls: 6},
			{name: "down and old again", keyID: "2", found: 1, calls: 6},
			{name: "down and almost too old", after: 22*time.Hour + 59*time.Minute - 20*time.Second, keyID: "2", found: 1, calls: 7},
			{name: "down and too old", after: time.Minute + time.Second, keyID: "2", calls: 8, err: down},
			{name: "no set", after: 10 * time.Second, change: func() { u.err = nil; u.keys = nil }, keyID: "2", calls: 9, err: errAny},
			{name: "up too early", after: 9 * time.Second, change: func() { u.keys = map[string]any{"2": k.ed.Public()} }, keyID: "2", calls: 9, err: errAny},
			{name: "up", after: time.Second, keyID: "2", found: 1, calls: 10},
			{name: "up and unknown", keyID: "3", calls: 10},
			{name: "all, of which one is new", after: 10 * time.Second, change: func() { u.keys = map[string]any{"": k.rsa.Public(), "2": k.ed.Public()} }, keyID: "", found: 2, calls: 11},
			{name: "all again", after: 9 * time.Second, keyID: "", found: 2, calls: 11},
			{name: "all, and down", after: time.Second, change: func() { u.err = down }, keyID: "", found: 2, calls: 12},
			{name: "all, and down again", keyID: "", found: 2, calls: 12},
		}
		for _, s := range steps {
			time.Sleep(s.after)
			if s.change != nil {
				s.change()
			}
			found, err := keys(t.Context(), s.keyID)
			if len(found) != s.found || u.calls != s.calls || (err != nil) != (s.err != nil) || s.err != nil && s.err != errAny && !errors.Is(err, s.err) {
				t.Errorf("%s: %d keys, %d calls, %v", s.name, len(found), u.calls, err)
			}
		}
	})
}

var errAny = errors.New("any")

// TestFetchSlow checks that requests wait for one fetch, and each for no longer
// than its context; and that a client that hangs up does not stop it.
func TestFetchSlow(t *testing.T) {
	k := testKeys()
	synctest.Test(t, func(t *testing.T) {
		u := &jwksURI{keys: map[string]any{"1": k.ec.Public()}, takes: 3 * time.Second}
		keys, err := backchannel.FetchedKeys(u.fetch(t))
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		var wg sync.WaitGroup
		look := func(wait time.Duration, found int, is error, took time.Duration) {
			wg.Add(1)
			go func() {
				defer wg.Done()
				ctx, cancel := context.WithTimeout(t.Context(), wait)
				defer cancel()
				got, err := keys(ctx, "1")
				if len(got) != found || !errors.Is(err, is) || time.Since(start) != took {
					t.Errorf("waiting for %v: %d keys after %v, %v", wait, len(got), time.Since(start), err)
				}
			}()
		}
		look(time.Second, 1, nil, 3*time.Second) // it fetches
		synctest.Wait()
		look(time.Second, 0, context.DeadlineExceeded, time.Second)
		look(time.Minute, 1, nil, 3*time.Second)
		look(time.Minute, 1, nil, 3*time.Second)
		wg.Wait()
		if u.calls != 1 {
			t.Errorf("%d calls", u.calls)
		}
	})
}

// TestFetchHangs checks that a fetch ends.
func TestFetchHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := &jwksURI{takes: time.Hour}
		keys, err := backchannel.FetchedKeys(u.fetch(t))
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		found, err := keys(t.Context(), "1")
		if len(found) != 0 || !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 5*time.Second {
			t.Errorf("%d keys after %v, %v", len(found), time.Since(start), err)
		}
	})
}

// TestFetchPanics checks that a panic of fetch does not keep others waiting.
func TestFetchPanics(t *testing.T) {
	calls := 0
	keys, err := backchannel.FetchedKeys(func(context.Context) ([]byte, error) {
		if calls++; calls == 1 {
			panic("bug")
		}
		return jwks(t, map[string]any{"1": testKeys().ec.Public()}), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic is hidden")
			}
		}()
		_, _ = keys(t.Context(), "1")
	}()
	if found, err := keys(t.Context(), "1"); len(found) != 1 || err != nil {
		t.Errorf("%d keys, %v", len(found), err)
	}
}
