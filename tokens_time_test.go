//go:build go1.25

package session_test

import (
	"errors"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/memory"
	"github.com/seed-a7bee19b/session/observe"
)

// TestForeignTokenIsRenewed: a token of another library gets old as ours do. For a
// while it leads to the session under the new one, and so does that when it is old.
func TestForeignTokenIsRenewed(t *testing.T) {
	eachLibrary(t, func(t *testing.T, l library, cfg session.Config) {
		synctest.Test(t, func(t *testing.T) {
			var b memory.Backend
			cfg.RenewAfter, cfg.IdleTimeout, cfg.AbsoluteTimeout = renewAfter, 24*time.Hour, 240*time.Hour
			m := newManager(t, &b, cfg)
			token := l.token()
			packed(t, &b, m.Config().StoreKey(token))
			for round := range 3 {
				time.Sleep(renewAfter)
				long := open(t, m, token)
				first := do(write(m), withToken(m, token))
				next := handedOut(m, first)
				if next == "" || next == token || !m.Config().Tokens.Valid(next) {
					t.Fatalf("round %d: the renewal hands out %q", round, next)
				}
				page(t, first, "from elsewhere")
				second := do(read(m), withToken(m, token))
				page(t, second, "from elsewhere")
				if got := handedOut(m, second); got != next {
					t.Fatalf("round %d: the old token leads to %q, want %q", round, got, next)
				}
				time.Sleep(m.Config().RenewOverlap)
				check(t, errors.Join(errOf(counter.Update(long, inc)), long.Save(ctx), long.Close(ctx)))
				if long.Token().Reveal() != next {
					t.Errorf("round %d: a long request saves under %q", round, long.Token().Reveal())
				}
				if _, err := m.Open(ctx, token); !errors.Is(err, session.ErrNotFound) {
					t.Errorf("round %d: after the overlap: %v", round, err)
				}
				token = next
				wantValue(t, m, token, "counter", 2*(round+1))
			}
		})
	})
}

// TestForeignTokenThatIsNoLongerValid: a marker does not lead to a token that the
// Config has come to refuse.
func TestForeignTokenThatIsNoLongerValid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b memory.Backend
		l := libraries["tokens that are all signed"]
		cfg := session.Config{RenewAfter: renewAfter, Tokens: l.tokens}
		m := newManager(t, &b, cfg)
		token := begin(t, m, map[string]any{"note": "x"})
		time.Sleep(renewAfter)
		next := handedOut(m, do(read(m), withToken(m, token)))
		for what, tokens := range map[string]session.Tokens{
			"as it was":      l.tokens,
			"that one alone": {New: l.tokens.New, MaxLength: 64, Valid: func(s string) bool { return s != next }},
		} {
			cfg.Tokens = tokens
			m := newManager(t, &b, cfg)
			s, err := m.Open(ctx, token)
			if valid := m.Config().Tokens.Valid(next); valid != (err == nil) {
				t.Errorf("%s: %v", what, err)
			}
			if err == nil && s.Token().Reveal() != next {
				t.Errorf("%s: another token", what)
			}
		}
	})
}

// TestForeignLoginsJoin: two clicks on "log in" with a token of another library end
// in one session.
func TestForeignLoginsJoin(t *testing.T) {
	eachLibrary(t, func(t *testing.T, l library, cfg session.Config) {
		synctest.Test(t, func(t *testing.T) {
			var b memory.Backend
			var seen events
			cfg.Observer = &seen
			m := newManager(t, &b, cfg)
			token := l.token()
			packed(t, &b, m.Config().StoreKey(token))
			var both, clicks sync.WaitGroup
			both.Add(2)
			logIn := m.HandlerFunc(func(_ http.ResponseWriter, _ *http.Request, s *session.Session) error {
				both.Done()
				both.Wait()
				return errors.Join(s.Login("ann"), errOf(counter.Update(s, inc)))
			})
			var got [2]string
			for i := range got {
				clicks.Go(func() {
					w := do(logIn, withToken(m, token))
					if got[i] = handedOut(m, w); w.Code != http.StatusOK {
						t.Errorf("status %d: %s", w.Code, w.Body)
					}
				})
			}
			clicks.Wait()
			if got[0] != got[1] || got[0] == "" || got[0] == token {
				t.Fatalf("tokens %q", got)
			}
			if !seen.saw(observe.EventLoginJoined) {
				t.Error("no login has joined the other")
			}
			wantValue(t, m, got[0], "counter", 2)
			wantValue(t, m, got[0], "note", "from elsewhere")
		})
	})
}
