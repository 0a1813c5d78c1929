//go:build go1.25

package gorillastore_test

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/securecookie"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/migrate"
)

func TestSource(t *testing.T) {
	block := []byte("0123456789abcdef")
	for name, keys := range map[string][][]byte{
		"signed": {hashKey}, "encrypted": {hashKey, block}, "new keys": {[]byte("a new key of the site, 32 bytes."), block, hashKey, nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOldSite(t, keys...)
				// A session of which the browser, or a proxy, has several cookies.
				first := o.save(t, "", map[any]any{"name": "ann", "n": 1})
				time.Sleep(5 * time.Second)
				second := o.save(t, first, map[any]any{"n": 10})
				other := o.save(t, "", map[any]any{"name": "bob", "n": 100})
				if first == second || o.left(t) != 2 {
					t.Fatal("the cookies are equal, or there are not two sessions")
				}
				const long = 365 * 24 * time.Hour
				cfg := session.Config{IdleTimeout: long, AbsoluteTimeout: long}
				m := o.manager(t, cfg, migrate.Move)

				o.down = errors.New("down")
				ask(m, "/", first).want(t, "old store down", http.StatusServiceUnavailable, 0, "", 0)
				o.down = nil
				ask(m, "/", first).want(t, "first cookie", http.StatusOK, 11, "ann", 0)
				ask(m, "/", second).want(t, "second cookie", http.StatusOK, 12, "ann", 0)
				ask(m, "/", first, second).want(t, "both", http.StatusOK, 13, "ann", 0)
				if o.left(t) != 1 {
					t.Errorf("%d files left", o.left(t))
				}
				o.down = errors.New("down")
				ask(m, "/", first).want(t, "moved, old store down", http.StatusOK, 14, "ann", 0)
				o.down = nil
				ask(m, "/", other).want(t, "other session", http.StatusOK, 101, "bob", 0)

				if got := ask(m, "/logout", first); got.status != http.StatusOK {
					t.Errorf("logout: %d", got.status)
				}
				for _, wait := range []time.Duration{0, time.Minute, time.Hour} {
					time.Sleep(wait)
					for _, cookie := range []string{first, second} {
						got := ask(m, "/", cookie)
						got.want(t, "after the logout", http.StatusOK, 1, "", 1)
						if len(got.cookies) > 0 && got.cookies[0].Value == cookie {
							t.Error("a token of a client was adopted")
						}
					}
				}
				ask(m, "/", other).want(t, "other session", http.StatusOK, 102, "bob", 0)
				gone := o.manager(t, cfg, migrate.Gone)
				ask(gone, "/", other).want(t, "Gone", http.StatusOK, 103, "bob", 0)
				time.Sleep(29 * 24 * time.Hour)
				ask(m, "/", other).want(t, "in its time", http.StatusOK, 104, "bob", 0)
				time.Sleep(24 * time.Hour)
				ask(m, "/", other).want(t, "after its time", http.StatusOK, 1, "", 1)
			})
		})
	}
}

// A logout of a session that the new store does not have yet is final too, and so is
// one beside a slow request of a server with gorilla.
func TestSourceLogout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOldSite(t)
		cookie := o.save(t, "", map[any]any{"name": "ann"})
		m := o.manager(t, session.Config{}, migrate.Move)
		s, err := m.Open(t.Context(), cookie)
		if err != nil {
			t.Fatal(err)
		}
		ask(m, "/logout", cookie)
		names, err := filepath.Glob(filepath.Join(o.dir, "*"))
		if err != nil || len(names) > 0 {
			t.Fatalf("left in the old store: %v, %v", names, err)
		}
		// As the Save of a request that began before.
		var id string
		if err := securecookie.DecodeMulti("session", cookie, &id, o.files.Codecs...); err != nil {
			t.Fatal(err)
		}
		data, err := securecookie.EncodeMulti("session", map[any]any{"name": "ann"}, o.files.Codecs...)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(o.dir, "session_"+id), []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := user.Set(s, "late"); err != nil {
			t.Fatal(err)
		}
		if err := s.Save(t.Context()); !errors.Is(err, session.ErrNotFound) {
			t.Errorf("a slow save: %v", err)
		}
		ask(m, "/", cookie).want(t, "after the logout", http.StatusOK, 1, "", 1)
		if o.left(t) != 0 {
			t.Error("what came back is still there")
		}
	})
}

// With RenewAfter a visitor gets a cookie of the Manager in time.
func TestSourceRenews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOldSite(t)
		cookie := o.save(t, "", map[any]any{"name": "ann", "n": 1})
		m := o.manager(t, session.Config{RenewAfter: time.Hour, RenewOverlap: time.Minute}, migrate.Move)
		ask(m, "/", cookie).want(t, "at once", http.StatusOK, 2, "ann", 0)
		time.Sleep(61 * time.Minute)
		got := ask(m, "/", cookie)
		got.want(t, "renewed", http.StatusOK, 3, "ann", 1)
		ask(m, "/", got.cookies[0].Value).want(t, "new cookie", http.StatusOK, 4, "ann", 0)
		ask(m, "/", cookie).want(t, "old cookie in the overlap", http.StatusOK, 5, "ann", 1)
		time.Sleep(2 * time.Minute)
		ask(m, "/", cookie).want(t, "old cookie later", http.StatusOK, 1, "", 1)
	})
}

// A login, and a logout, with several cookies of one session.
func TestSourceSeveral(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOldSite(t)
		first := o.save(t, "", map[any]any{"name": "ann", "n": 1})
		time.Sleep(time.Second)
		second := o.save(t, first, nil)
		m := o.manager(t, session.Config{}, migrate.Move)
		in := ask(m, "/login", first, second)
		if in.status != http.StatusOK || len(in.cookies) != 1 {
			t.Fatalf("got %+v", in)
		}
		ask(m, "/", second).want(t, "old cookie after the login", http.StatusConflict, 0, "", 0) // as an old token of the Manager
		ask(m, "/", in.cookies[0].Value).want(t, "new cookie", http.StatusOK, 2, "ann", 0)

		first = o.save(t, "", map[any]any{"name": "bob"})
		time.Sleep(time.Second)
		second = o.save(t, first, nil)
		if got := ask(m, "/logout", first, second); got.status != http.StatusOK {
			t.Errorf("logout: %+v", got)
		}
		for _, cookie := range []string{first, second} {
			ask(m, "/", cookie).want(t, "after the logout", http.StatusOK, 1, "", 1)
		}
	})
}
