package php

import (
	"errors"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session"
)

// PHP's pages cannot make an authentication younger or another user's: by a new ID,
// by a login, or by having stored no time at all.
func TestFreshnessIsNotPHPs(t *testing.T) {
	t.Parallel()
	isFresh := func(t *testing.T, m *session.Manager, id string) bool {
		err := opened(t, m, id).FreshWithin(5 * time.Minute)
		var stale *session.NotFreshError
		if err != nil && !errors.As(err, &stale) {
			t.Fatal(err)
		}
		return err == nil
	}
	login := func(t *testing.T, m *session.Manager, w *worker) string {
		w.run(t, open(id1)+`$_SESSION['n'] = 1; session_write_close();`)
		s := saved(t, m, id1, func(s *session.Session) error {
			return s.LoginWith(session.Login{User: "ann", Methods: []string{"otp"}})
		})
		if !isFresh(t, m, s.Token().Reveal()) {
			t.Error("a login in Go is not fresh")
		}
		return s.Token().Reveal()
	}
	t.Run("PHP gives a new ID", func(t *testing.T) {
		t.Parallel()
		table := newTable(t)
		m, w := manager(t, table, besideVersioned, session.Config{}), start(t, versioned(table, true))
		id := login(t, m, w)
		time.Sleep(1100 * time.Millisecond)
		now := w.run(t, open(id)+`session_regenerate_id(true); $new = session_id(); session_write_close(); return $new;`)
		now = now[1 : len(now)-1]
		a, err := opened(t, m, now).Authentication()
		if err != nil || time.Since(a.At) < time.Second {
			t.Errorf("authentication %v, %v ago, %v", a, time.Since(a.At), err)
		}
	})
	t.Run("PHP logs another user in", func(t *testing.T) {
		t.Parallel()
		table := newTable(t)
		m, w := manager(t, table, besideVersioned, session.Config{}), start(t, versioned(table, true))
		id := login(t, m, w)
		w.run(t, open(id)+`$_SESSION['user'] = 'bob'; session_write_close();`)
		if a, err := opened(t, m, id).Authentication(); err != nil || len(a.Methods) > 0 {
			t.Errorf("bob has the authentication of ann: %v, %v", a, err)
		}
		if isFresh(t, m, id) {
			t.Error("bob is fresh by the login of ann")
		}
	})
	t.Run("the stock handler stores no time", func(t *testing.T) {
		t.Parallel()
		table := newTable(t)
		m := manager(t, table, besideStock, session.Config{})
		put(t, table, id1, attributes{"data": text(`user|s:3:"ann";`), "expires": number(time.Now().Add(20 * time.Minute).Unix())})
		if isFresh(t, m, id1) {
			t.Error("a session of unknown age is fresh")
		}
	})
}
