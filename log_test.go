package session_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/seed-a7bee19b/session"
	sessionslog "github.com/seed-a7bee19b/session/observe/slog"
)

func newLogObserver(t testing.TB, w io.Writer, level slog.Level, cfg sessionslog.Config) *sessionslog.Observer {
	t.Helper()
	o, err := sessionslog.New(slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level})), cfg)
	check(t, err)
	return o
}

// logged is one line of a log.
type logged struct {
	Level, Msg, Event, Error, Op, Name, Table string
	Bytes, Conflicts, Wait, Duration          int64
	ReadUnits                                 float64 `json:"read_units"`
}

func lines(t testing.TB, b *bytes.Buffer) []logged {
	t.Helper()
	var all []logged
	for d := json.NewDecoder(b); ; {
		var l logged
		err := d.Decode(&l)
		if err == io.EOF {
			return all
		}
		check(t, err)
		all = append(all, l)
	}
}

// TestLogHasNoSecrets logs everything about a workload with failures, and
// searches the log for secrets.
func TestLogHasNoSecrets(t *testing.T) {
	var b bytes.Buffer
	o := newLogObserver(t, &b, slog.LevelDebug, sessionslog.Config{Calls: true})
	var keys, secrets []string
	var s store
	m := newManager(t, &s, session.Config{
		Observer: o,
		StoreKey: func(token string) string {
			keys = append(keys, "key-of-"+token[:8])
			return keys[len(keys)-1]
		},
	})
	login := func(_ http.ResponseWriter, _ *http.Request, s *session.Session) {
		secrets = append(secrets, s.Token().Reveal())
		check(t, note.Set(s, "what-is-in-it"))
		check(t, s.Login("the-user"))
	}
	token := begin(t, m, map[string]any{"note": "what-was-in-it"})
	secrets = append(secrets, token)
	first, second := open(t, m, token), open(t, m, token)
	check(t, note.Set(first, "what-is-in-it"))
	check(t, errOf(counter.Update(second, inc)))
	check(t, errors.Join(first.Save(ctx), second.Save(ctx)))
	w := serve(t, m, token, login)
	moved := w.Result().Cookies()[0].Value
	secrets = append(secrets, moved)
	serve(t, m, strings.Repeat("A", 32), login)
	serve(t, m, "not-a-token", login)
	for _, op := range []string{"Save", "End"} {
		s.failing(op, fmt.Errorf("%s: %w", op, errStore))
		serve(t, m, moved, func(w http.ResponseWriter, r *http.Request, s *session.Session) {
			check(t, note.Set(s, op))
			if op == "End" {
				wantErr(t, s.Destroy(r.Context()), errStore)
			}
		})
	}
	s.failing("Load", errStore)
	_, err := m.Open(ctx, moved)
	wantErr(t, err, errStore)
	s.healthy()
	check(t, open(t, m, moved).Destroy(ctx))

	text := b.String()
	for _, secret := range slices.Concat(keys, secrets, []string{"not-a-token", "what-is", "what-was", "the-user", "key-of"}) {
		if secret != "" && strings.Contains(text, secret) {
			t.Errorf("the log has %q", secret)
		}
	}
	got := lines(t, &b)
	for _, want := range []string{
		"SessionCreated", "SessionSaved", "Merged", "SessionRotated", "TokenUnknown", "TokenMalformed", "CommitFailed", "SessionDestroyed",
	} {
		if !slices.ContainsFunc(got, func(l logged) bool { return l.Event == want }) {
			t.Errorf("no %s in the log:\n%s", want, text)
		}
	}
}
