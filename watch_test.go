//go:build go1.25

package session_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/codec"
	"github.com/seed-a7bee19b/session/observe"
)

// watch returns the context of a stream that watches the session of token.
func watch(t *testing.T, m *session.Manager, token string, w session.Watch) context.Context {
	t.Helper()
	s := open(t, m, token)
	ctx, stop, err := s.Watch(ctx, w)
	check(t, errors.Join(err, s.Close(t.Context())))
	t.Cleanup(stop)
	return ctx
}

// wantEnded checks that a stream ended at the time of the bubble, and why.
func wantEnded(t *testing.T, stream context.Context, want error, text string) {
	t.Helper()
	synctest.Wait()
	why := context.Cause(stream)
	if !errors.Is(why, want) || !strings.HasPrefix(why.Error(), "session: watch: ") || !strings.HasSuffix(why.Error(), text) {
		t.Fatalf("the stream ended with %v, want %v: %s", why, want, text)
	}
	if !errors.Is(stream.Err(), context.Canceled) {
		t.Errorf("its error is %v", stream.Err())
	}
}

func wantAlive(t *testing.T, streams ...context.Context) {
	t.Helper()
	synctest.Wait()
	for _, stream := range streams {
		if err := context.Cause(stream); err != nil {
			t.Fatalf("the stream has ended: %v", err)
		}
	}
}

// user begins a session of a user.
func user(t *testing.T, m *session.Manager, name string) (token string) {
	t.Helper()
	s := m.Start()
	check(t, s.Login(name))
	check(t, finish(m, s))
	return s.Token().Reveal()
}

// TestWatchEndsWithTheSession ends a session in another process.
func TestWatchEndsWithTheSession(t *testing.T) {
	destroy := func(t *testing.T, _ *store, there *session.Manager, token string) {
		check(t, open(t, there, token).Destroy(ctx))
	}
	for name, tt := range map[string]struct {
		end  func(t *testing.T, b *store, there *session.Manager, token string)
		want error
		text string
	}{
		"logout": {destroy, session.ErrNotFound, "logged out or revoked"},
		"revocation": {func(t *testing.T, b *store, _ *session.Manager, token string) {
			check(t, b.Delete(ctx, session.DefaultStoreKey(token)))
		}, session.ErrNotFound, "logged out or revoked"},
		"logout under a new ID": {func(t *testing.T, b *store, there *session.Manager, token string) {
			destroy(t, b, there, rotated(t, there, rotated(t, there, token)))
		}, session.ErrNotFound, "logged out or revoked"},
		"another user": {func(t *testing.T, _ *store, there *session.Manager, token string) {
			s := open(t, there, token)
			check(t, s.Login("bob"))
			check(t, finish(there, s))
		}, session.ErrNotFound, "another user has logged in"},
		"damage": {func(t *testing.T, b *store, _ *session.Manager, token string) {
			rec, err := b.Backend.Load(ctx, session.DefaultStoreKey(token))
			check(t, err)
			rec.Data = []byte("\xc1damaged")
			_, err = b.Backend.Save(ctx, session.DefaultStoreKey(token), rec)
			check(t, err)
		}, session.ErrDecode, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var b store
				here, there := newManager(t, &b, session.Config{}), newManager(t, &b, session.Config{})
				token := user(t, here, "ann")
				other := watch(t, here, user(t, here, "ann"), session.Watch{}) // of the same user
				stream := watch(t, here, token, session.Watch{})
				time.Sleep(time.Minute)
				wantAlive(t, stream, other)
				tt.end(t, &b, there, token)
				time.Sleep(5 * time.Second)
				wantEnded(t, stream, tt.want, tt.text)
				time.Sleep(time.Minute)
				wantAlive(t, other)
			})
		})
	}
}

// tombs is a store that keeps records that have ended, without their data.
type tombs struct{ *store }

func (s tombs) Load(ctx context.Context, key string) (session.Record, error) {
	rec, err := s.store.Load(ctx, key)
	if errors.Is(err, session.ErrNotFound) {
		return session.Record{Created: time.Unix(0, 0), Expires: time.Unix(0, 0), Version: "ended"}, nil
	}
	return rec, err
}

func TestWatchAndRecordsThatHaveEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := tombs{&store{}}
		here, there := newManager(t, b, session.Config{}), newManager(t, b, session.Config{})
		token := user(t, here, "ann")
		stream := watch(t, here, token, session.Watch{})
		time.Sleep(time.Minute)
		check(t, open(t, there, token).Destroy(ctx))
		time.Sleep(5 * time.Second)
		wantEnded(t, stream, session.ErrNotFound, "logged out or revoked")
		stream = watch(t, here, user(t, here, "ann"), session.Watch{})
		<-stream.Done()
		wantEnded(t, stream, session.ErrNotFound, "it has expired")
	})
}

// TestWatchEndsAtOnce ends a session in the same process.
func TestWatchEndsAtOnce(t *testing.T) {
	for name, end := range map[string]func(t *testing.T, m *session.Manager, token string){
		"logout": func(t *testing.T, m *session.Manager, token string) {
			check(t, open(t, m, token).Destroy(ctx))
		},
		"logout by a view": func(t *testing.T, m *session.Manager, token string) {
			view, err := m.With(session.Route{Mode: session.LastWrite})
			check(t, err)
			check(t, open(t, view, token).Destroy(ctx))
		},
		"logout of a session that is gone": func(t *testing.T, m *session.Manager, token string) {
			s := open(t, m, token)
			check(t, open(t, newManager(t, m.Config().Observer.(*store), session.Config{}), token).Destroy(ctx))
			check(t, s.Destroy(ctx))
		},
		"logout of a session that was rotated": func(t *testing.T, m *session.Manager, token string) {
			s := open(t, m, token)
			rotated(t, m, rotated(t, m, token))
			check(t, s.Destroy(ctx))
		},
		"logout of a session that another process has rotated": func(t *testing.T, m *session.Manager, token string) {
			s := open(t, m, token)
			there := newManager(t, m.Config().Observer.(*store), session.Config{})
			rotated(t, there, rotated(t, there, token))
			check(t, s.Destroy(ctx))
		},
		"logout under an old ID": func(t *testing.T, m *session.Manager, token string) {
			there := newManager(t, m.Config().Observer.(*store), session.Config{})
			rotated(t, there, token)
			if w := visit(m, "POST", token, logout(m)); w.Code != http.StatusOK {
				t.Errorf("the logout got %d", w.Code)
			}
		},
		"another user": func(t *testing.T, m *session.Manager, token string) {
			s := open(t, m, token)
			check(t, s.Login("bob"))
			check(t, finish(m, s))
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var b store
				m := newManager(t, &b, session.Config{Observer: &b})
				token := user(t, m, "ann")
				stream := watch(t, m, token, session.Watch{Interval: 5 * time.Minute})
				other := watch(t, m, user(t, m, "ann"), session.Watch{Interval: 5 * time.Minute})
				began := time.Now()
				end(t, m, token)
				synctest.Wait()
				if took := time.Since(began); took > 0 {
					t.Fatalf("the test took %v", took)
				}
				wantEnded(t, stream, session.ErrNotFound, "")
				wantAlive(t, other)
			})
		})
	}
	synctest.Test(t, func(t *testing.T) {
		var b store
		m := newManager(t, &b, session.Config{})
		token := user(t, m, "ann")
		stream := watch(t, m, token, session.Watch{})
		s := open(t, m, token)
		b.took()
		check(t, s.Destroy(ctx))
		if stream.Err() == nil { // before the logout returns
			t.Error("the stream goes on")
		}
		wantEnded(t, stream, session.ErrNotFound, "it was logged out")
		b.wantCalls(t, "End") // and nothing is looked at
	})
}

// The store is an Observer too, for tests that need it from its Manager.
func (s *store) Call(ctx context.Context, _ observe.Op) (context.Context, func(error)) {
	return ctx, nil
}
func (s *store) Event(context.Context, observe.Event) {}

// TestWatchAfterAFailedLogout checks that a stream goes on as long as the session
// may be there.
func TestWatchAfterAFailedLogout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b store
		m := newManager(t, &b, session.Config{})
		token := user(t, m, "ann")
		stream := watch(t, m, token, session.Watch{})
		s := open(t, m, token)
		b.failing("End", errStore)
		wantErr(t, s.Destroy(ctx), session.ErrStore)
		b.healthy()
		time.Sleep(time.Minute)
		wantAlive(t, stream)
		check(t, s.Destroy(ctx))
		wantEnded(t, stream, session.ErrNotFound, "it was logged out")
	})
}

// TestWatchFollowsNewIDs gives a session new IDs, in this process and in others.
func TestWatchFollowsNewIDs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b store
		here, there := newManager(t, &b, session.Config{}), newManager(t, &b, session.Config{})
		token := user(t, here, "ann")
		streams := []context.Context{watch(t, here, token, session.Watch{})}
		for i := range 200 {
			token = rotated(t, []*session.Manager{here, there}[i%3/2], token)
			if i%10 == 0 {
				streams = append(streams, watch(t, here, token, session.Watch{}))
			}
			time.Sleep(time.Second)
			wantAlive(t, streams...)
		}
		time.Sleep(10 * time.Second)
		b.took()
		time.Sleep(50 * time.Second)
		if n := len(b.took()); n != 10 {
			t.Errorf("%d Loads in 10 intervals, for streams that began under several IDs", n)
		}
		check(t, open(t, there, token).Destroy(ctx))
		time.Sleep(5 * time.Second)
		for _, stream := range streams {
			wantEnded(t, stream, session.ErrNotFound, "logged out or revoked")
		}

		// More new IDs between two looks than can be followed.
		token = user(t, here, "ann")
		stream := watch(t, here, token, session.Watch{Interval: time.Minute})
		for range 8 {
			token = rotated(t, there, token)
		}
		time.Sleep(time.Minute)
		wantAlive(t, stream)
		for range 9 {
			token = rotated(t, there, token)
		}
		time.Sleep(time.Minute)
		wantEnded(t, stream, session.ErrNotFound, "")
	})
}

func TestWatchAndUsers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b store
		here, there := newManager(t, &b, session.Config{}), newManager(t, &b, session.Config{})
		token := begin(t, here, map[string]any{"note": "x"})
		login := func(name string) {
			t.Helper()
			s := open(t, there, token)
			check(t, s.Login(name))
			check(t, finish(there, s))
			token = s.Token().Reveal()
			time.Sleep(5 * time.Second)
		}
		nobody := watch(t, here, token, session.Watch{})
		time.Sleep(time.Minute)
		login("ann")
		wantAlive(t, nobody)
		ann := watch(t, here, token, session.Watch{})
		login("ann") // once more
		wantAlive(t, nobody, ann)
		login("bob")
		wantEnded(t, ann, session.ErrNotFound, "another user has logged in")
		wantEnded(t, nobody, session.ErrNotFound, "another user has logged in") // it was ann's by then
		bob := watch(t, here, token, session.Watch{})
		s := open(t, there, token)
		check(t, s.Clear())
		check(t, note.Set(s, "y"))
		check(t, finish(there, s))
		time.Sleep(time.Minute)
		wantAlive(t, bob)
	})
}

// TestWatchAfterALoginWithoutAnswer logs in again under the old ID: soon, which joins
// the session of the first login, and later, which takes its place.
func TestWatchAfterALoginWithoutAnswer(t *testing.T) {
	for _, later := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			var b store
			m := newManager(t, &b, session.Config{})
			token := begin(t, m, map[string]any{"note": "x"})
			stream := watch(t, m, token, session.Watch{})
			for range 2 {
				w := visit(m, "POST", token, func(w http.ResponseWriter, r *http.Request) {
					s, err := m.Get(r.Context())
					check(t, err)
					check(t, s.Login("ann"))
				})
				if w.Code != http.StatusOK {
					t.Fatalf("status %d", w.Code)
				}
				if later {
					time.Sleep(time.Minute)
				}
			}
			time.Sleep(5 * time.Second)
			if later { // the session of the first login was ended
				wantEnded(t, stream, session.ErrNotFound, "logged out or revoked")
			} else {
				wantAlive(t, stream)
			}
		})
	}
}

// TestWatchFollowsRenewals renews the ID of a session because of its age.
func TestWatchFollowsRenewals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b store
		cfg := session.Config{RenewAfter: time.Minute}
		here, there := newManager(t, &b, cfg), newManager(t, &b, cfg)
		token := user(t, here, "ann")
		stream := watch(t, here, token, session.Watch{})
		renewed := 0
		for range 100 {
			time.Sleep(61 * time.Second)
			w := serve(t, there, token, func(http.ResponseWriter, *http.Request, *session.Session) {})
			for _, c := range w.Result().Cookies() {
				token, renewed = c.Value, renewed+1
			}
			wantAlive(t, stream)
		}
		if renewed != 100 {
			t.Errorf("renewed %d times", renewed)
		}
		check(t, open(t, there, token).Destroy(ctx))
		time.Sleep(5 * time.Second)
		wantEnded(t, stream, session.ErrNotFound, "logged out or revoked")
	})
}

// TestWatchGoesByTheLifetime has sessions with a lifetime of their own, which one of
// them gets while the stream is open.
func TestWatchGoesByTheLifetime(t *testing.T) {
	week, day := 7*24*time.Hour, 24*time.Hour
	for _, tt := range []struct {
		name        string
		login, then session.Lifetime // then after an hour, if it is not zero
		keep        bool
		lasts       time.Duration
	}{
		{"longer", session.Lifetime{Idle: day, Absolute: week}, session.Lifetime{}, false, day},
		{"longer and kept", session.Lifetime{Idle: day, Absolute: week}, session.Lifetime{}, true, week},
		{"shorter", session.Lifetime{Idle: time.Minute, Absolute: time.Hour}, session.Lifetime{}, false, time.Minute},
		{"shorter and kept", session.Lifetime{Idle: time.Minute, Absolute: time.Hour}, session.Lifetime{}, true, time.Hour},
		{"shortened", session.Lifetime{Idle: day, Absolute: week}, session.Lifetime{Idle: time.Hour, Absolute: 5 * time.Hour}, false, 2 * time.Hour},
		{"shortened and kept", session.Lifetime{Idle: day, Absolute: week}, session.Lifetime{Idle: time.Hour, Absolute: 5 * time.Hour}, true, 5 * time.Hour},
		{"lengthened", session.Lifetime{}, session.Lifetime{Idle: day, Absolute: week}, false, day + time.Hour},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var b store
				cfg := session.Config{MaxIdleTimeout: week, MaxAbsoluteTimeout: week}
				here, there := newManager(t, &b, cfg), newManager(t, &b, cfg)
				began := time.Now()
				s := here.Start()
				check(t, s.LoginWith(session.Login{User: "ann", Lifetime: tt.login}))
				check(t, finish(here, s))
				stream := watch(t, here, s.Token().Reveal(), session.Watch{Interval: time.Minute, KeepAlive: tt.keep})
				if tt.then != (session.Lifetime{}) {
					time.Sleep(time.Hour)
					s := open(t, there, s.Token().Reveal())
					check(t, s.SetLifetime(tt.then))
					check(t, finish(there, s))
				}
				<-stream.Done()
				if took := time.Since(began); took != tt.lasts {
					t.Errorf("it lasted %v, want %v", took, tt.lasts)
				}
				wantEnded(t, stream, session.ErrNotFound, "it has expired")
			})
		})
	}
}

// TestWatchAndExpiry checks when streams end that do not keep their session alive.
func TestWatchAndExpiry(t *testing.T) {
	for _, tt := range []struct {
		name  string
		cfg   session.Config
		use   time.Duration // a request uses the session then, if it is not 0
		lasts time.Duration
	}{
		{"idle", session.Config{IdleTimeout: time.Hour}, 0, time.Hour},
		{"absolute", session.Config{IdleTimeout: session.Never, AbsoluteTimeout: 3 * time.Hour}, 0, 3 * time.Hour},
		{"prolonged long before", session.Config{IdleTimeout: time.Hour}, 30 * time.Minute, 90 * time.Minute},
		{"prolonged at the last moment", session.Config{IdleTimeout: time.Hour}, time.Hour - time.Second, 2*time.Hour - time.Second},
		{"less than an interval", session.Config{IdleTimeout: time.Second, TouchInterval: 1}, 0, time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var b store
				here, there := newManager(t, &b, tt.cfg), newManager(t, &b, tt.cfg)
				token := user(t, here, "ann")
				began := time.Now()
				stream := watch(t, here, token, session.Watch{})
				if tt.use > 0 {
					time.Sleep(tt.use)
					check(t, finish(there, open(t, there, token)))
				}
				<-stream.Done()
				if took := time.Since(began); took != tt.lasts {
					t.Errorf("the stream lasted %v", took)
				}
				wantEnded(t, stream, session.ErrNotFound, "it has expired")
				if slices.Contains(b.took(), "Touch") != (tt.use > 0) {
					t.Error("the stream has prolonged its session")
				}
			})
		})
	}
}

// TestWatchAppliesShorterTimeouts has a session whose deadline was made with longer
// timeouts than those of this process.
func TestWatchAppliesShorterTimeouts(t *testing.T) {
	for _, keep := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			var b store
			long := newManager(t, &b, session.Config{IdleTimeout: 10 * time.Hour, AbsoluteTimeout: 20 * time.Hour})
			strict := newManager(t, &b, session.Config{IdleTimeout: 20 * time.Minute, AbsoluteTimeout: 15 * time.Hour})
			token := user(t, long, "ann")
			began := time.Now()
			s := open(t, strict, token)
			stream, stop, err := s.Watch(ctx, session.Watch{KeepAlive: keep})
			check(t, err)
			defer stop()
			<-stream.Done()
			took, calls := time.Since(began), b.took()
			switch {
			case !keep && took != 20*time.Minute:
				t.Errorf("it lasted %v", took)
			case keep && took != 15*time.Hour:
				t.Errorf("it lasted %v while it was kept", took)
			case keep && (!slices.Contains(calls, "Save") || !slices.Contains(calls, "Touch")):
				t.Error("the deadline was not brought forward, or not moved")
			}
			wantEnded(t, stream, session.ErrNotFound, "it has expired")
		})
	}
}

// TestWatchKeepsAlive counts what it costs to keep a session for a day.
func TestWatchKeepsAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b store
		m := newManager(t, &b, session.Config{})
		token := user(t, m, "ann")
		var streams []context.Context
		for range 10 {
			streams = append(streams, watch(t, m, token, session.Watch{KeepAlive: true}))
		}
		b.took()
		began := time.Now()
		time.Sleep(20 * time.Hour)
		wantAlive(t, streams...)
		// 14,400 intervals; each of the 15 looks that move the deadline is one more at
		// the most, as the intervals count from it.
		calls := b.took()
		loads, touches := 0, 0
		for _, call := range calls {
			switch call {
			case "Load":
				loads++
			case "Touch":
				touches++
			default:
				t.Errorf("a %s", call)
			}
		}
		if touches != 15 || loads < 14400 || loads > 14400+15 {
			t.Errorf("%d Loads and %d Touches in 20 hours", loads, touches)
		}
		<-streams[0].Done()
		if calls := b.took(); !slices.Equal(slices.DeleteFunc(calls, func(call string) bool { return call == "Load" }), []string{"Touch", "Touch"}) {
			t.Error("the absolute deadline does not move, and a Touch was sent")
		}
		if took := time.Since(began); took != 24*time.Hour {
			t.Errorf("the stream lasted %v", took)
		}
		for _, stream := range streams {
			wantEnded(t, stream, session.ErrNotFound, "it has expired")
		}
	})
}

// TestWatchKeepsAliveAtAnyAge begins a stream when the session is old, or after the
// deadline that its request knows.
func TestWatchKeepsAliveAtAnyAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b store
		cfg := session.Config{IdleTimeout: time.Minute}
		m, there := newManager(t, &b, cfg), newManager(t, &b, cfg)
		for _, age := range []time.Duration{0, time.Minute - 10*time.Millisecond} {
			token := user(t, m, "ann")
			s := open(t, m, token)
			time.Sleep(age)
			stream, stop, err := s.Watch(ctx, session.Watch{KeepAlive: true, Interval: 5 * time.Minute})
			check(t, err)
			time.Sleep(time.Hour)
			wantAlive(t, stream)
			stop()
		}

		token := user(t, m, "ann")
		s := open(t, m, token)
		time.Sleep(50 * time.Second)
		check(t, finish(there, open(t, there, token)))
		time.Sleep(50 * time.Second)
		for range 2 { // the second joins the first
			stream, stop, err := s.Watch(ctx, session.Watch{KeepAlive: true, Interval: 5 * time.Minute})
			check(t, err)
			defer stop()
			time.Sleep(time.Hour)
			wantAlive(t, stream)
		}

		// How such a session has ended is not known.
		token = user(t, m, "ann")
		s = open(t, m, token)
		time.Sleep(50 * time.Second)
		check(t, finish(there, open(t, there, token)))
		time.Sleep(20 * time.Second)
		stream, stop, err := s.Watch(ctx, session.Watch{})
		check(t, err)
		defer stop()
		check(t, open(t, there, token).Destroy(ctx))
		time.Sleep(5 * time.Second)
		wantEnded(t, stream, session.ErrNotFound, "watch: not found")

		// A stream that keeps the session joins one that does not.
		token = user(t, m, "ann")
		plain := watch(t, m, token, session.Watch{})
		time.Sleep(59 * time.Second)
		keeper := watch(t, m, token, session.Watch{KeepAlive: true})
		time.Sleep(time.Hour)
		wantAlive(t, plain, keeper)
	})
}

// TestWatchKeepsAliveThroughFailures checks that a Touch that fails is tried again
// in time, and that the Observer is told.
func TestWatchKeepsAliveThroughFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b store
		var events eventLog
		m := newManager(t, &b, session.Config{IdleTimeout: time.Hour, Observer: &events})
		token := user(t, m, "ann")
		stream := watch(t, m, token, session.Watch{KeepAlive: true})
		b.failing("Touch", errStore)
		time.Sleep(50 * time.Minute)
		b.healthy()
		time.Sleep(time.Hour)
		wantAlive(t, stream)
		if n := events.count(observe.EventTouchFailed); n != 1 {
			t.Errorf("%d events", n)
		}
		began := time.Now()
		b.failing("Touch", errStore)
		<-stream.Done()
		wantEnded(t, stream, session.ErrNotFound, "it has expired")
		if took := time.Since(began); took > time.Hour {
			t.Errorf("it lasted %v more", took)
		}
		if n := events.count(observe.EventTouchFailed); n < 5 || n > 20 {
			t.Errorf("%d events", n)
		}

		// A deadline to be brought forward, and other requests in the way.
		b.healthy()
		token = user(t, newManager(t, &b, session.Config{IdleTimeout: 10 * time.Hour}), "ann")
		before := events.count(observe.EventTouchFailed)
		stream = watch(t, m, token, session.Watch{KeepAlive: true})
		b.failing("Save", &session.LockedError{})
		time.Sleep(50 * time.Minute)
		b.healthy()
		time.Sleep(5 * time.Hour)
		wantAlive(t, stream)
		if n := events.count(observe.EventTouchFailed); n != before {
			t.Errorf("%d events", n-before)
		}
	})
}

// TestWatchEndsWhenATouchFindsNothing ends the session between the look and the
// Touch.
func TestWatchEndsWhenATouchFindsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b store
		m := newManager(t, &b, session.Config{})
		token := user(t, m, "ann")
		stream := watch(t, m, token, session.Watch{KeepAlive: true})
		b.mu.Lock()
		b.before = func(_ context.Context, op string) error {
			if op == "Touch" {
				return b.Backend.Delete(ctx, session.DefaultStoreKey(token))
			}
			return nil
		}
		b.mu.Unlock()
		time.Sleep(80 * time.Minute)
		wantEnded(t, stream, session.ErrNotFound, "logged out or revoked")
	})
}

// eventLog counts events, and what was called.
type eventLog struct {
	mu     sync.Mutex
	events []observe.EventKind
	ops    []observe.Op
}

func (l *eventLog) Call(ctx context.Context, op observe.Op) (context.Context, func(error)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ops = append(l.ops, op)
	return ctx, nil
}

func (l *eventLog) Event(_ context.Context, e observe.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = append(l.events, e.Kind)
}

func (l *eventLog) count(kind observe.EventKind) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, k := range l.events {
		if k == kind {
			n++
		}
	}
	return n
}

// TestWatchIsShared checks that 100 streams of a session cost one Load an interval.
func TestWatchIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b store
		var events eventLog
		m := newManager(t, &b, session.Config{Observer: &events})
		view, err := m.With(session.Route{Mode: session.ReadOnly})
		check(t, err)
		token := user(t, m, "ann")
		var stops []context.CancelFunc
		for i := range 100 {
			s := open(t, []*session.Manager{m, view}[i%2], token)
			stream, stop, err := s.Watch(ctx, session.Watch{})
			check(t, err)
			defer wantEndedByItself(t, stream)
			stops = append(stops, stop)
		}
		b.took()
		events.mu.Lock()
		events.ops = nil
		events.mu.Unlock()
		time.Sleep(50 * time.Second)
		b.wantCalls(t, slices.Repeat([]string{"Load"}, 10)...)
		events.mu.Lock()
		if want := slices.Repeat([]observe.Op{observe.OpLoad}, 10); !slices.Equal(events.ops, want) {
			t.Errorf("the Observer saw %v", events.ops)
		}
		events.mu.Unlock()
		for _, stop := range stops {
			stop()
			stop()
		}
		time.Sleep(time.Hour)
		b.wantCalls(t)
	})
}

func wantEndedByItself(t *testing.T, stream context.Context) {
	t.Helper()
	if why := context.Cause(stream); !errors.Is(why, context.Canceled) {
		t.Errorf("it ended with %v", why)
	}
}

// TestWatchEndsWithItsContext checks that a look in flight is stopped as well.
func TestWatchEndsWithItsContext(t *testing.T) {
	errLeft := errors.New("the client has left")
	for _, flying := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			var b store
			m := newManager(t, &b, session.Config{})
			s := open(t, m, user(t, m, "ann"))
			parent, leave := context.WithCancelCause(ctx)
			stream, stop, err := s.Watch(parent, session.Watch{})
			check(t, err)
			defer stop()
			stopped := make(chan error, 1)
			if flying {
				b.mu.Lock()
				b.before = func(ctx context.Context, _ string) error {
					<-ctx.Done()
					stopped <- ctx.Err()
					return ctx.Err()
				}
				b.mu.Unlock()
				time.Sleep(5 * time.Second)
			}
			leave(errLeft)
			synctest.Wait()
			if why := context.Cause(stream); !errors.Is(why, errLeft) {
				t.Errorf("the stream ended with %v", why)
			}
			if flying {
				if err := <-stopped; !errors.Is(err, context.Canceled) {
					t.Errorf("the look ended with %v", err)
				}
			}
			b.healthy()
			b.took()
			time.Sleep(time.Hour)
			b.wantCalls(t)

			// A context that has ended already.
			stream, stop, err = s.Watch(parent, session.Watch{})
			check(t, err)
			defer stop()
			if stream.Err() == nil {
				t.Error("it has not ended")
			}
			time.Sleep(time.Hour)
			b.wantCalls(t)
		})
	}
}

// TestWatchFailsClosed has a store that fails for a while, and then for good.
func TestWatchFailsClosed(t *testing.T) {
	hang := func(ctx context.Context, _ string) error { <-ctx.Done(); return ctx.Err() }
	fail := func(context.Context, string) error { return errStore }
	for name, before := range map[string]func(context.Context, string) error{"fails": fail, "hangs": hang} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var b store
				m := newManager(t, &b, session.Config{})
				token := user(t, m, "ann")
				stream := watch(t, m, token, session.Watch{})
				set := func(f func(context.Context, string) error) {
					b.mu.Lock()
					defer b.mu.Unlock()
					b.before = f
				}
				for range 10 { // for 20 s, again and again
					time.Sleep(10 * time.Second)
					set(before)
					time.Sleep(20 * time.Second)
					set(nil)
				}
				wantAlive(t, stream)
				time.Sleep(10 * time.Second)
				set(before)
				began := time.Now()
				<-stream.Done()
				if took := time.Since(began); took < 25*time.Second || took > 35*time.Second {
					t.Errorf("it went on for %v", took)
				}
				wantEnded(t, stream, session.ErrStore, "")
				b.took()
				time.Sleep(time.Hour)
				b.wantCalls(t)
			})
		})
	}
}

// splits counts how often data is taken apart.
type splits struct {
	codec.MessagePack
	n atomic.Int64
}

func (c *splits) Split(data []byte) (map[string][]byte, error) {
	c.n.Add(1)
	return c.MessagePack.Split(data)
}

// TestWatchReadsOnlyWhatIsNew checks that a look at what has not changed does not
// decode it.
func TestWatchReadsOnlyWhatIsNew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b store
		var c splits
		m, there := newManager(t, &b, session.Config{Codec: &c}), newManager(t, &b, session.Config{})
		token := user(t, m, "ann")
		stream := watch(t, m, token, session.Watch{})
		c.n.Store(0)
		time.Sleep(time.Minute)
		check(t, finish(there, open(t, there, token)))
		time.Sleep(time.Minute)
		if n := c.n.Load(); n != 1 {
			t.Errorf("it was decoded %d times", n)
		}
		s := open(t, there, token)
		check(t, note.Set(s, "x"))
		check(t, finish(there, s))
		time.Sleep(time.Minute)
		if n := c.n.Load(); n != 2 {
			t.Errorf("it was decoded %d times after a change", n)
		}
		wantAlive(t, stream)
	})
}

func TestWatchErrors(t *testing.T) {
	var b store
	m := newManager(t, &b, session.Config{})
	readOnly, err := m.With(session.Route{Mode: session.ReadOnly})
	check(t, err)
	token := user(t, m, "ann")
	fresh := m.Start()
	check(t, note.Set(fresh, "x"))
	login, again := open(t, m, token), open(t, m, token)
	check(t, login.Login("bob"))
	check(t, again.Login("ann")) // a new ID for the same user
	closed := open(t, m, token)
	check(t, closed.Close(ctx))
	never := m.Start()
	check(t, never.Close(ctx))
	destroyed := open(t, m, user(t, m, "ann"))
	check(t, destroyed.Destroy(ctx))
	for name, tt := range map[string]struct {
		s    *session.Session
		w    session.Watch
		want error  // nil: no error, unless there is a text
		text string // of an error that is no sentinel
	}{
		"open":                    {s: open(t, m, token)},
		"closed":                  {s: closed},
		"read-only":               {s: open(t, readOnly, token)},
		"read-only and kept":      {open(t, readOnly, token), session.Watch{KeepAlive: true}, session.ErrReadOnly, ""},
		"not stored":              {fresh, session.Watch{}, session.ErrNotFound, ""},
		"a login that is pending": {login, session.Watch{}, session.ErrNotFound, ""},
		"a new ID pending":        {s: again},
		"never stored, closed":    {never, session.Watch{}, session.ErrClosed, ""},
		"destroyed":               {destroyed, session.Watch{}, session.ErrClosed, ""},
		"shortest":                {s: open(t, m, token), w: session.Watch{Interval: 100 * time.Millisecond}},
		"longest":                 {s: open(t, m, token), w: session.Watch{Interval: 5 * time.Minute}},
		"too short":               {open(t, m, token), session.Watch{Interval: 100*time.Millisecond - 1}, nil, "from 100ms to 5m"},
		"too long":                {open(t, m, token), session.Watch{Interval: 5*time.Minute + 1}, nil, "from 100ms to 5m"},
		"negative":                {open(t, m, token), session.Watch{Interval: -1}, nil, "from 100ms to 5m"},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		stream, stop, err := tt.s.Watch(ctx, tt.w)
		switch {
		case tt.want == nil && tt.text == "":
			check(t, err)
			wantAlive := stream.Err()
			stop()
			if wantAlive != nil || stream.Err() == nil {
				t.Errorf("%s: %v, then %v", name, wantAlive, stream.Err())
			}
		case tt.want != nil && !errors.Is(err, tt.want), err == nil, !strings.HasPrefix(err.Error(), "session: watch: "), !strings.Contains(err.Error(), tt.text):
			t.Errorf("%s: error %v", name, err)
		case stream != nil || stop != nil:
			t.Errorf("%s: a context beside the error", name)
		}
		cancel()
	}
}

// TestWatchOutlivesTheHandler has a handler that leaves its stream to a goroutine.
func TestWatchOutlivesTheHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b store
		m := newManager(t, &b, session.Config{})
		token := user(t, m, "ann")
		var streams []context.Context
		var kept *session.Session
		watch := func(ctx context.Context) {
			stream, stop, err := kept.Watch(context.WithoutCancel(ctx), session.Watch{})
			check(t, err)
			t.Cleanup(stop)
			streams = append(streams, stream)
		}
		ctx, end := context.WithCancel(ctx)
		r := request(token).WithContext(ctx)
		m.HandlerFunc(func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
			kept = s
			watch(r.Context())
			w.WriteHeader(http.StatusOK)
			watch(r.Context())
			return nil
		}).ServeHTTP(httptest.NewRecorder(), r)
		end() // as the server does
		watch(r.Context())
		time.Sleep(time.Hour)
		wantAlive(t, streams...)
		check(t, open(t, m, token).Destroy(t.Context()))
		for _, stream := range streams {
			wantEnded(t, stream, session.ErrNotFound, "it was logged out")
		}
	})
}

// TestWatchUnderLoad begins and ends streams while the session moves and ends.
func TestWatchUnderLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b store
		here, there := newManager(t, &b, session.Config{}), newManager(t, &b, session.Config{})
		for round := range 20 {
			token := user(t, here, "ann")
			s := open(t, here, token)
			var wg sync.WaitGroup
			for i := range 20 {
				wg.Go(func() {
					for range 20 {
						stream, stop, err := s.Watch(ctx, session.Watch{Interval: time.Second, KeepAlive: i%2 == 0})
						if err != nil {
							t.Error(err)
							return
						}
						time.Sleep(time.Duration(i*37+round) * time.Millisecond)
						if i%3 == 0 {
							<-stream.Done()
						}
						stop()
					}
				})
			}
			for range 5 {
				time.Sleep(time.Second)
				token = rotated(t, there, rotated(t, here, token))
			}
			check(t, open(t, []*session.Manager{here, there}[round%2], token).Destroy(ctx))
			wg.Wait()
		}
		b.took()
		time.Sleep(time.Hour)
		b.wantCalls(t)
	})
}

// TestWatchAndRevocation revokes sessions by their owner, in this process and in
// another.
func TestWatchAndRevocation(t *testing.T) {
	for name, within := range map[string]time.Duration{"here": 0, "there": 5 * time.Second} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var b store
				m, there := indexed(t, &b, session.OwnersConfig{}), indexed(t, &b, session.OwnersConfig{})
				by, text := m, "it was revoked"
				if within > 0 {
					by, text = there, "logged out or revoked"
				}
				ann, bob := session.Login{User: "ann"}, session.Login{User: "bob"}
				watching := func(l session.Login) (stream context.Context, handle string) {
					s := login(t, m, l)
					stream, stop, err := s.Watch(ctx, session.Watch{})
					check(t, err)
					t.Cleanup(stop)
					token := rotated(t, m, s.Token().Reveal())
					return stream, open(t, m, token).Handle()
				}
				kept, keep := watching(ann)
				one, handle := watching(ann)
				other, _ := watching(ann)
				bobs, _ := watching(bob)
				time.Sleep(time.Minute)
				check(t, by.RevokeOne(ctx, handle, session.User("ann")))
				time.Sleep(within)
				wantEnded(t, one, session.ErrNotFound, text)
				wantAlive(t, kept, other, bobs)
				check(t, by.RevokeOthers(ctx, keep, session.User("ann")))
				time.Sleep(within)
				wantEnded(t, other, session.ErrNotFound, text)
				wantAlive(t, kept, bobs)
				check(t, by.Revoke(ctx, session.User("ann")))
				time.Sleep(within)
				wantEnded(t, kept, session.ErrNotFound, text)
				time.Sleep(time.Hour)
				wantAlive(t, bobs)
			})
		})
	}
	synctest.Test(t, func(t *testing.T) { // by a login on another device
		m := indexed(t, &store{}, session.OwnersConfig{MaxSessions: 1})
		s := login(t, m, session.Login{User: "ann"})
		stream, stop, err := s.Watch(ctx, session.Watch{})
		check(t, err)
		defer stop()
		login(t, m, session.Login{User: "ann"})
		wantEnded(t, stream, session.ErrNotFound, "it was revoked")
	})
	synctest.Test(t, func(t *testing.T) { // of everybody's session, in a process that has been told
		var b store
		m := newManager(t, &b, session.Config{})
		s := open(t, m, user(t, m, "ann"))
		time.Sleep(time.Minute)
		told := newManager(t, &b, session.Config{NotBefore: time.Now()})
		_, err := told.Open(ctx, s.Token().Reveal())
		wantErr(t, err, session.ErrNotFound)
		stream, stop, err := s.Watch(ctx, session.Watch{})
		check(t, err)
		defer stop()
		time.Sleep(5 * time.Second)
		wantEnded(t, stream, session.ErrNotFound, "") // the open has ended the record
	})
}
