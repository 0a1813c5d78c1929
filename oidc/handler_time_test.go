//go:build go1.25

package backchannel_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-a7bee19b/session"
	backchannel "github.com/seed-a7bee19b/session/oidc"
)

// TestTimes checks the bounds of iat and exp to the second.
func TestTimes(t *testing.T) {
	const never = time.Duration(-1)
	tests := []struct {
		name     string
		iat, exp time.Duration // from now
		change   func(*backchannel.Config)
		want     int
	}{
		{name: "at iat + MaxAge + ClockSkew", iat: -6 * time.Minute, exp: time.Hour, want: 400},
		{name: "before iat + MaxAge + ClockSkew", iat: -6*time.Minute + time.Second, exp: time.Hour, want: 200},
		{name: "after iat - ClockSkew", iat: time.Minute, exp: time.Hour, want: 200},
		{name: "before iat - ClockSkew", iat: time.Minute + time.Second, exp: time.Hour, want: 400},
		{name: "at exp + ClockSkew", iat: -2 * time.Minute, exp: -time.Minute, want: 400},
		{name: "before exp + ClockSkew", iat: -2 * time.Minute, exp: -time.Minute + time.Second, want: 200},
		{name: "exp long ago", iat: 0, exp: -time.Hour, want: 400},
		{name: "MaxAge", iat: -time.Hour, exp: time.Hour, want: 200, change: func(c *backchannel.Config) { c.MaxAge = time.Hour }},
		{name: "short MaxAge", iat: -2 * time.Second, exp: time.Hour, want: 400, change: func(c *backchannel.Config) { c.MaxAge, c.ClockSkew = time.Second, time.Second }},
		{name: "ClockSkew", iat: 10 * time.Minute, exp: time.Hour, want: 200, change: func(c *backchannel.Config) { c.ClockSkew = 10 * time.Minute }},
		{name: "no exp", iat: -6*time.Minute + time.Second, exp: never, want: 200, change: func(c *backchannel.Config) { c.AllowNoExpiry = true }},
		{name: "no exp and old", iat: -6 * time.Minute, exp: never, want: 400, change: func(c *backchannel.Config) { c.AllowNoExpiry = true }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			k := testKeys()
			synctest.Test(t, func(t *testing.T) {
				cfg := setting(t, &revoker{})
				if tt.change != nil {
					tt.change(&cfg)
				}
				claims := logoutClaims(object{"iat": time.Now().Add(tt.iat).Unix(), "exp": time.Now().Add(tt.exp).Unix()})
				if tt.exp == never {
					delete(claims, "exp")
				}
				if w := post(t, newHandler(t, cfg), sign(t, header("ES256", "ec", nil), claims, k.ec)); w.Code != tt.want {
					t.Errorf("status %d, want %d", w.Code, tt.want)
				}
			})
		})
	}
}

// TestAgainUntilRefused checks that there is no moment at which a token that has
// done its work does it again: it is remembered until it is refused.
func TestAgainUntilRefused(t *testing.T) {
	for _, tt := range []struct {
		name  string
		exp   any
		lasts time.Duration
	}{
		{"exp first", 2 * time.Minute, 3 * time.Minute},
		{"MaxAge first", time.Hour, 6 * time.Minute},
		{"no exp", nil, 6 * time.Minute},
	} {
		t.Run(tt.name, func(t *testing.T) {
			k := testKeys()
			synctest.Test(t, func(t *testing.T) {
				var r revoker
				cfg := setting(t, &r)
				cfg.AllowNoExpiry = true
				h := newHandler(t, cfg)
				claims := logoutClaims(object{"exp": nil})
				if d, ok := tt.exp.(time.Duration); ok {
					claims["exp"] = time.Now().Add(d).Unix()
				}
				token := sign(t, header("ES256", "ec", nil), claims, k.ec)
				start := time.Now()
				for age := time.Duration(0); age < 7*time.Minute; age = time.Since(start) {
					want := 200
					if age >= tt.lasts {
						want = 400
					}
					if w := post(t, h, token); w.Code != want {
						t.Fatalf("status %d after %v", w.Code, age)
					}
					// Others come meanwhile, and make the handler forget what it may.
					post(t, h, sign(t, header("ES256", "ec", nil), logoutClaims(nil), k.ec))
					time.Sleep(10 * time.Second)
				}
				if got := r.revoked(); len(got) != 1+42 {
					t.Errorf("%d calls of Revoke", len(got))
				}
			})
		})
	}
}

// waiting is a Revoker that takes a time, and ends with its context.
type waiting struct {
	takes time.Duration
	err   error
	done  chan error
}

func (w *waiting) Revoke(ctx context.Context, _ ...session.Owner) error {
	err := w.err
	select {
	case <-time.After(w.takes):
	case <-ctx.Done():
		err = ctx.Err()
	}
	w.done <- err
	return err
}

// TestHangUp checks that a revocation goes on when the provider does not wait for
// it, and that it has an end.
func TestHangUp(t *testing.T) {
	k := testKeys()
	tests := []struct {
		name    string
		takes   time.Duration
		timeout time.Duration
		lasts   time.Duration
		want    int
		is      error
	}{
		{"goes on", 20 * time.Second, 0, 20 * time.Second, 200, nil},
		{"ends", time.Hour, 0, 30 * time.Second, 503, context.DeadlineExceeded},
		{"own timeout", time.Hour, time.Minute, time.Minute, 503, context.DeadlineExceeded},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := &waiting{takes: tt.takes, done: make(chan error, 1)}
				cfg := setting(t, r)
				cfg.Timeout = tt.timeout
				h := newHandler(t, cfg)
				ctx, hangUp := context.WithTimeout(t.Context(), time.Second)
				defer hangUp()
				token := sign(t, header("ES256", "ec", nil), logoutClaims(nil), k.ec)
				start := time.Now()
				w := httptest.NewRecorder()
				h.ServeHTTP(w, request(ctx, url.Values{"logout_token": {token}}.Encode()))
				if err := <-r.done; !errors.Is(err, tt.is) || w.Code != tt.want || time.Since(start) != tt.lasts {
					t.Errorf("status %d after %v, %v", w.Code, time.Since(start), err)
				}
			})
		})
	}
}

// TestHangUpBeforeKeys checks that nothing is done for a client that has left
// before its token was verified.
func TestHangUpBeforeKeys(t *testing.T) {
	k := testKeys()
	synctest.Test(t, func(t *testing.T) {
		var r revoker
		cfg := setting(t, &r)
		cfg.Keys = func(ctx context.Context, _ string) ([]backchannel.Key, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		cfg.OnError = func(_ *http.Request, status int, err error) {
			if status != 503 || !errors.Is(err, context.Canceled) {
				t.Errorf("OnError is told of status %d, %v", status, err)
			}
		}
		h := newHandler(t, cfg)
		ctx, hangUp := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, hangUp)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, request(ctx, url.Values{"logout_token": {sign(t, header("ES256", "ec", nil), logoutClaims(nil), k.ec)}}.Encode()))
		if w.Code != 503 || len(r.revoked()) != 0 {
			t.Errorf("status %d, revoked %v", w.Code, r.revoked())
		}
	})
}

// TestRotation checks a token that is signed with a key that is new.
func TestRotation(t *testing.T) {
	k := testKeys()
	synctest.Test(t, func(t *testing.T) {
		u := &jwksURI{keys: map[string]any{"old": k.rsa.Public()}}
		keys, err := backchannel.FetchedKeys(u.fetch(t))
		if err != nil {
			t.Fatal(err)
		}
		cfg := setting(t, &revoker{})
		cfg.Keys = keys
		h := newHandler(t, cfg)
		token := func(kid string, key any, alg string) string {
			return sign(t, header(alg, kid, nil), logoutClaims(nil), key)
		}
		steps := []struct {
			name  string
			token string
			want  int
			calls int
		}{
			{"old key", token("old", k.rsa, "RS256"), 200, 1},
			{"new key", token("new", k.ec, "ES256"), 200, 2},
			{"old key after it was withdrawn", token("old", k.rsa, "RS256"), 400, 3},
			{"name of the new key", token("new", k.rsa, "RS256"), 400, 3},
		}
		for i, s := range steps {
			if i == 1 {
				u.keys = map[string]any{"new": k.ec.Public()}
			}
			time.Sleep(10 * time.Second)
			if w := post(t, h, s.token); w.Code != s.want || u.calls != s.calls {
				t.Errorf("%s: status %d, %d calls", s.name, w.Code, u.calls)
			}
		}
		u.err = errors.New("down")
		time.Sleep(10 * time.Second)
		if w := post(t, h, token("newer", k.ed, "EdDSA")); w.Code != 503 {
			t.Errorf("down: status %d", w.Code)
		}
		u.err, u.keys = nil, map[string]any{"newer": k.ed.Public()}
		time.Sleep(10 * time.Second)
		if w := post(t, h, token("newer", k.ed, "EdDSA")); w.Code != 200 {
			t.Errorf("up: status %d", w.Code)
		}
	})
}
