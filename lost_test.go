package session_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/memory"
	"github.com/seed-a7bee19b/session/observe"
)

// losing lets the nth call of op from now on reach the store, and loses the
// response.
func (s *store) losing(op string, nth int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.after = func(o string) error {
		if o == op {
			if nth--; nth == 0 {
				return errStore
			}
		}
		return nil
	}
}

// losingAndDown is losing, and after that every Save fails.
func (s *store) losingAndDown(nth int) {
	s.losing("Save", nth)
	s.mu.Lock()
	defer s.mu.Unlock()
	left := nth
	s.before = func(_ context.Context, op string) error {
		if op == "Save" {
			if left--; left < 0 {
				return errStore
			}
		}
		return nil
	}
}

// TestLostAnswerToRotate checks a rotation whose response is lost after the old
// ID was ended. The session must live on under one of the two IDs.
func TestLostAnswerToRotate(t *testing.T) {
	t.Run("found out at once", func(t *testing.T) {
		var b store
		m := newManager(t, &b, session.Config{})
		token := begin(t, m, map[string]any{"note": "cart"})
		b.losing("Save", 2)
		w := serve(t, m, token, func(_ http.ResponseWriter, _ *http.Request, s *session.Session) { check(t, s.Login("ann")) })
		b.healthy()
		if w.Code != http.StatusOK || sent(w) == "" {
			t.Fatalf("status %d, token %q", w.Code, sent(w))
		}
		wantValue(t, m, sent(w), "note", "cart")
		_, err := m.Open(ctx, token)
		wantErr(t, err, session.ErrNotFound)
	})
	t.Run("found out by the next Save", func(t *testing.T) {
		var b store
		m := newManager(t, &b, session.Config{})
		s := open(t, m, begin(t, m, map[string]any{"note": "cart", "counter": 1}))
		check(t, s.Login("ann"))
		check(t, errOf(counter.Update(s, inc)))
		b.losingAndDown(2)
		wantErr(t, s.Save(ctx), errStore)
		b.healthy()
		check(t, s.Set("later", true))
		check(t, s.Save(ctx))
		token := s.Token().Reveal()
		wantValue(t, m, token, "note", "cart")
		wantValue(t, m, token, "counter", 2)
		wantValue(t, m, token, "later", true)
	})
	t.Run("and logged out meanwhile", func(t *testing.T) {
		var b store
		m := newManager(t, &b, session.Config{})
		s := open(t, m, begin(t, m, map[string]any{"note": "cart"}))
		other := open(t, m, s.Token().Reveal())
		check(t, s.Rotate())
		b.losingAndDown(2)
		wantErr(t, s.Save(ctx), errStore)
		b.healthy()
		check(t, other.Destroy(ctx))
		wantErr(t, s.Save(ctx), session.ErrNotFound)
		if b.Len() != 0 {
			t.Errorf("%d records are left", b.Len())
		}
	})
	t.Run("and destroyed by the same request", func(t *testing.T) {
		var b store
		m := newManager(t, &b, session.Config{})
		s := open(t, m, begin(t, m, map[string]any{"note": "cart"}))
		check(t, s.Rotate())
		b.losingAndDown(2)
		wantErr(t, s.Save(ctx), errStore)
		b.healthy()
		check(t, s.Destroy(ctx))
		if b.Len() != 0 {
			t.Errorf("%d records are left", b.Len())
		}
	})
}

// TestLostAnswerToSave checks that the second Save does not count again.
func TestLostAnswerToSave(t *testing.T) {
	var b store
	m := newManager(t, &b, session.Config{})
	token := begin(t, m, map[string]any{"counter": 0})
	s := open(t, m, token)
	check(t, errOf(counter.Update(s, inc)))
	b.losing("Save", 1)
	wantErr(t, s.Save(ctx), errStore)
	b.healthy()
	err := s.Save(ctx)
	wantErr(t, err, errStore)
	if errors.Is(err, session.ErrConflict) {
		t.Errorf("what may be our own write is called a conflict: %v", err)
	}
	wantValue(t, m, token, "counter", 1)

	// Changes that do not depend on the stored session can be stored twice.
	s = open(t, m, token)
	check(t, note.Set(s, "x"))
	b.losing("Save", 1)
	wantErr(t, s.Save(ctx), errStore)
	b.healthy()
	check(t, s.Save(ctx))

	// Changes that were certainly not stored can be stored too.
	check(t, errOf(counter.Update(s, inc)))
	b.failing("Save", errStore)
	wantErr(t, s.Save(ctx), errStore)
	b.healthy()
	check(t, s.Save(ctx))
	wantValue(t, m, token, "counter", 2)
}

func TestLostAnswerToCreate(t *testing.T) {
	var b store
	m := newManager(t, &b, session.Config{})
	s := m.Start()
	check(t, note.Set(s, "x"))
	b.after = func(string) error { return errStore }
	wantErr(t, s.Save(ctx), errStore)
	b.healthy()
	check(t, s.Save(ctx))
	wantValue(t, m, s.Token().Reveal(), "note", "x")
	check(t, s.Destroy(ctx))
	_, err := m.Open(ctx, s.Token().Reveal())
	wantErr(t, err, session.ErrNotFound)
}

// TestErrorDropsChanges checks that nothing is saved if the page reports a
// failure.
func TestErrorDropsChanges(t *testing.T) {
	var b store
	answers := 0
	m := newManager(t, &b, session.Config{ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
		answers++
		w.WriteHeader(session.Status(err))
	}})
	token := begin(t, m, map[string]any{"counter": 0})
	w := serve(t, m, token, func(w http.ResponseWriter, r *http.Request, s *session.Session) {
		check(t, s.Login("ann"))
		check(t, errOf(counter.Update(s, inc)))
		m.Error(w, r, s.Set("x", make(chan int)))
	})
	if w.Code != http.StatusInternalServerError || sent(w) != "" || answers != 1 {
		t.Errorf("status %d, token %q, %d answers", w.Code, sent(w), answers)
	}
	b.losing("Save", 1)
	w = serve(t, m, token, func(w http.ResponseWriter, r *http.Request, s *session.Session) {
		check(t, note.Set(s, "lost answer"))
		m.Error(w, r, s.Save(r.Context()))
	})
	b.healthy()
	if w.Code != http.StatusServiceUnavailable || answers != 2 {
		t.Errorf("status %d, %d answers", w.Code, answers)
	}
	wantValue(t, m, token, "counter", 0)
	if user, err := open(t, m, token).User(); user != "" || err != nil {
		t.Errorf("logged in as %q, %v", user, err)
	}
}

// TestTokenIsSent checks that the client gets the new token after it was stored,
// whatever fails later, because the old one is dead.
func TestTokenIsSent(t *testing.T) {
	for name, then := range map[string]func(b *store, m *session.Manager, w http.ResponseWriter, r *http.Request, s *session.Session){
		"closed": func(_ *store, m *session.Manager, _ http.ResponseWriter, r *http.Request, s *session.Session) {
			check(t, s.Close(r.Context()))
		},
		"saved again": func(_ *store, m *session.Manager, _ http.ResponseWriter, r *http.Request, s *session.Session) {
			check(t, s.Rotate())
			check(t, s.Save(r.Context()))
		},
		"a later change fails": func(b *store, _ *session.Manager, _ http.ResponseWriter, _ *http.Request, s *session.Session) {
			check(t, errOf(counter.Update(s, inc)))
			b.failing("Save", errStore)
		},
		"error": func(_ *store, m *session.Manager, w http.ResponseWriter, r *http.Request, _ *session.Session) {
			m.Error(w, r, errStore)
		},
		"panic": func(*store, *session.Manager, http.ResponseWriter, *http.Request, *session.Session) {
			panic("recovered by a middleware")
		},
	} {
		for _, fresh := range []bool{false, true} {
			var b store
			m := newManager(t, &b, session.Config{})
			token := ""
			if !fresh {
				token = begin(t, m, map[string]any{"note": "x"})
			}
			r := httptest.NewRequest("GET", "/", nil)
			r.AddCookie(&http.Cookie{Name: "__Host-session", Value: token})
			w := httptest.NewRecorder()
			func() {
				defer func() {
					if recover() != nil {
						w.WriteHeader(http.StatusInternalServerError)
					}
				}()
				m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					s, err := m.Get(r.Context())
					check(t, errors.Join(err, note.Set(s, "y"), s.Login("ann"), s.Save(r.Context())))
					then(&b, m, w, r, s)
				})).ServeHTTP(w, r)
			}()
			b.healthy()
			if cookies := w.Result().Cookies(); len(cookies) != 1 {
				t.Errorf("%s, new %v: status %d, cookies %v", name, fresh, w.Code, cookies)
			} else if user, err := open(t, m, cookies[0].Value).User(); user != "ann" || err != nil {
				t.Errorf("%s, new %v: logged in as %q, %v", name, fresh, user, err)
			}
		}
	}
}

// TestRequestInFlightDuringLogin checks that such a request does not replace the
// new cookie by that of a new session.
func TestRequestInFlightDuringLogin(t *testing.T) {
	var events events
	m := newManager(t, &memory.Backend{}, session.Config{Observer: &events})
	token := begin(t, m, map[string]any{"note": "x"})
	serve(t, m, token, func(_ http.ResponseWriter, _ *http.Request, s *session.Session) { check(t, s.Login("ann")) })
	r := httptest.NewRequest("GET", "/", nil)
	r.AddCookie(&http.Cookie{Name: "__Host-session", Value: token})
	w := httptest.NewRecorder()
	m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, err := m.Get(r.Context())
		wantErr(t, err, session.ErrNotFound)
		m.Error(w, r, err)
	})).ServeHTTP(w, r)
	if w.Code != http.StatusConflict || len(w.Result().Cookies()) != 0 || !events.saw(observe.EventTokenMoved) {
		t.Errorf("status %d, cookies %v", w.Code, w.Result().Cookies())
	}
}

// TestClientGoneGetsNoNewToken checks that no new token is made, because it
// would be lost, and the session with it.
func TestClientGoneGetsNoNewToken(t *testing.T) {
	var b store
	m := newManager(t, &b, session.Config{})
	token := begin(t, m, map[string]any{"note": "x"})
	for _, sent := range []string{token, ""} {
		gone, cancel := context.WithCancel(ctx)
		r := httptest.NewRequestWithContext(gone, "GET", "/", nil)
		r.AddCookie(&http.Cookie{Name: "__Host-session", Value: sent})
		m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			s, err := m.Get(r.Context())
			check(t, errors.Join(err, s.Login("ann")))
			cancel()
		})).ServeHTTP(httptest.NewRecorder(), r)
	}
	wantValue(t, m, token, "note", "x")
	if b.Len() != 3 { // and one for each token in the request
		t.Errorf("%d records", b.Len())
	}
}

// TestNothingAfterTheHandler checks that a goroutine that outlives the handler
// cannot change the session, because the change would never be saved.
func TestNothingAfterTheHandler(t *testing.T) {
	m := newManager(t, &memory.Backend{}, session.Config{})
	token := begin(t, m, map[string]any{"note": "x"})
	for _, asked := range []bool{true, false} {
		var kept *http.Request
		var s *session.Session
		r := httptest.NewRequest("GET", "/", nil)
		r.AddCookie(&http.Cookie{Name: "__Host-session", Value: token})
		m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			kept = r
			if asked {
				s, _ = m.Get(r.Context())
			}
		})).ServeHTTP(httptest.NewRecorder(), r)
		if _, err := m.Get(kept.Context()); !errors.Is(err, session.ErrClosed) {
			t.Errorf("Get after the Handler: %v", err)
		}
		if asked {
			wantErr(t, note.Set(s, "y"), session.ErrClosed)
			wantErr(t, s.Save(ctx), session.ErrClosed)
		}
	}
}

// TestEditRacesWithTheStart checks that an edit that needs a token either is in
// the response or fails with ErrTooLate.
func TestEditRacesWithTheStart(t *testing.T) {
	m := newManager(t, &memory.Backend{}, session.Config{})
	for range 300 {
		var err error
		w := serve(t, m, "", func(w http.ResponseWriter, _ *http.Request, s *session.Session) {
			var wg sync.WaitGroup
			wg.Add(1)
			go func() { defer wg.Done(); err = note.Set(s, "x") }()
			_, _ = io.WriteString(w, "page")
			wg.Wait()
		})
		if (err == nil) != (sent(w) != "") {
			t.Fatalf("Set says %v, and the token is %q", err, sent(w))
		}
	}
}

// TestCallbacksMayRead checks that callbacks may read the session, and that
// other goroutines may while it is saved.
func TestCallbacksMayRead(t *testing.T) {
	var b store
	m := newManager(t, &b, session.Config{})
	token := begin(t, m, map[string]any{"note": "x", "counter": 1})
	s, other := open(t, m, token), open(t, m, token)
	check(t, errOf(counter.Update(other, inc)))
	check(t, finish(m, other))
	read := func(n int) int {
		v, err := note.Get(s)
		check(t, err)
		return n + len(v)
	}
	check(t, errOf(counter.Update(s, read)))
	b.before = func(context.Context, string) error { _, err := note.Get(s); return err }
	check(t, s.Save(ctx)) // applies read again
	b.healthy()
	wantValue(t, m, token, "counter", 3)
}

// TestWaitingForAnotherGoroutine has a goroutine that hangs in the store. The
// others end with their own contexts.
func TestWaitingForAnotherGoroutine(t *testing.T) {
	var b store
	m := newManager(t, &b, session.Config{CommitTimeout: 50 * time.Millisecond, Lock: session.LockConfig{MaxWait: time.Millisecond}})
	s := open(t, m, begin(t, m, map[string]any{"note": "x"}))
	check(t, note.Set(s, "y"))
	inStore := make(chan struct{})
	hanging, release := context.WithCancel(ctx)
	b.before = func(ctx context.Context, _ string) error {
		close(inStore)
		<-ctx.Done()
		return ctx.Err()
	}
	done := make(chan error)
	go func() { done <- s.Save(hanging) }()
	<-inStore
	short, cancel := context.WithTimeout(ctx, time.Millisecond)
	defer cancel()
	wantErr(t, s.Save(short), context.DeadlineExceeded)
	wantErr(t, s.Close(short), context.DeadlineExceeded)
	wantErr(t, s.Destroy(short), context.DeadlineExceeded)
	if v, err := note.Get(s); v != "y" || err != nil { // reading does not wait
		t.Errorf("read %q, %v", v, err)
	}
	release()
	wantErr(t, <-done, context.Canceled)

	// The same for Get in a handler, and for the response.
	b.healthy()
	serve(t, m, "", func(w http.ResponseWriter, r *http.Request, _ *session.Session) {})
	token := begin(t, m, map[string]any{"note": "x"})
	inStore = make(chan struct{})
	hanging, release = context.WithCancel(ctx)
	b.before = func(ctx context.Context, op string) error {
		if op == "Load" {
			close(inStore)
			<-ctx.Done()
		}
		return ctx.Err()
	}
	r := httptest.NewRequestWithContext(hanging, "GET", "/", nil)
	r.AddCookie(&http.Cookie{Name: "__Host-session", Value: token})
	m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		go func() { _, err := m.Get(r.Context()); done <- err }()
		<-inStore
		short, cancel := context.WithTimeout(r.Context(), time.Millisecond)
		defer cancel()
		_, err := m.Get(short)
		wantErr(t, err, context.DeadlineExceeded)
		_, _ = io.WriteString(w, "page")
		release()
		wantErr(t, <-done, context.Canceled)
	})).ServeHTTP(httptest.NewRecorder(), r)
}

func TestTakeLeavesWhatOthersAdd(t *testing.T) {
	m := newManager(t, &memory.Backend{}, session.Config{})
	token := begin(t, m, map[string]any{"note": "one"})
	taker, writer := open(t, m, token), open(t, m, token)
	if v, _, err := note.Take(taker); v != "one" || err != nil {
		t.Errorf("took %q, %v", v, err)
	}
	check(t, note.Set(writer, "two"))
	check(t, finish(m, writer))
	check(t, finish(m, taker))
	wantValue(t, m, token, "note", "two")
}

func TestMisuse(t *testing.T) {
	var b store
	m := newManager(t, &b, session.Config{})
	s := open(t, m, begin(t, m, map[string]any{"note": "x"}))
	check(t, s.Login("ann"))
	wantErr(t, s.Delete("_session.user"), session.ErrEncode)
	wantErr(t, s.Delete(""), session.ErrEncode)
	s.Discard()
	b.took()
	check(t, s.Save(ctx))
	b.wantCalls(t)
	check(t, errOf(counter.Update(s, func(n int) int { return n })))
	check(t, s.Delete("counter"))
	check(t, s.Save(ctx))
	b.wantCalls(t)
	check(t, note.Set(s, "dropped"))
	check(t, s.Close(ctx))
	b.wantCalls(t)
}

// TestInnerModeEndsWithTheRoute checks that the outer mode applies again after
// the route; but a read-only route writes nothing.
func TestInnerModeEndsWithTheRoute(t *testing.T) {
	var b store
	m := newManager(t, &b, session.Config{TouchInterval: 1})
	ro, err := m.With(session.Route{Mode: session.ReadOnly})
	check(t, err)
	token := begin(t, m, map[string]any{"note": "x"})
	b.took()
	time.Sleep(5 * time.Millisecond)
	get := func(after func()) {
		r := httptest.NewRequest("GET", "/", nil)
		r.AddCookie(&http.Cookie{Name: "__Host-session", Value: token})
		m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			var s *session.Session
			ro.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				s, _ = m.Get(r.Context())
			})).ServeHTTP(w, r)
			if after != nil {
				check(t, note.Set(s, "y"))
			}
		})).ServeHTTP(httptest.NewRecorder(), r)
	}
	get(nil)
	b.wantCalls(t, "Load")
	get(func() {})
	b.wantCalls(t, "Load", "Save")
}

// TestUpdateFunctionsMayEdit checks that a function that edits the session does
// not hang, alone or in a merge. It is a bad idea, because functions can run
// again.
func TestUpdateFunctionsMayEdit(t *testing.T) {
	m := newManager(t, &memory.Backend{}, session.Config{})
	token := begin(t, m, map[string]any{"counter": 1})
	s, other := open(t, m, token), open(t, m, token)
	check(t, errOf(counter.Update(other, inc)))
	check(t, finish(m, other))
	check(t, errOf(counter.Update(s, func(n int) int {
		check(t, note.Set(s, "edited"))
		return n + 1
	})))
	if err := s.Save(ctx); err == nil || !strings.Contains(err.Error(), "changes the session") {
		t.Errorf("Save: %v", err)
	}
	wantValue(t, m, token, "counter", 2)
}

// TestViewWithoutItsHandler checks that a session of a view only runs in the
// view's mode.
func TestViewWithoutItsHandler(t *testing.T) {
	m := newManager(t, &memory.Backend{}, session.Config{})
	ro, err := m.With(session.Route{Mode: session.ReadOnly})
	check(t, err)
	get := func(h func(http.Handler) http.Handler, of *session.Manager) (err error) {
		h(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			_, err = of.Get(r.Context())
		})).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
		return err
	}
	nested := func(h http.Handler) http.Handler { return m.Handler(ro.Handler(h)) }
	check(t, errors.Join(get(m.Handler, m), get(ro.Handler, ro), get(ro.Handler, m), get(nested, ro), get(nested, m)))
	if err := get(m.Handler, ro); err == nil || session.Status(err) != http.StatusInternalServerError {
		t.Errorf("Get of the view: %v", err)
	}
	_, err = m.Get(ctx)
	if err == nil || session.Status(err) != http.StatusInternalServerError {
		t.Errorf("Get without a Handler: %v", err)
	}
}

// TestFailuresAreLogged checks that failures are logged with the log of net/http
// if there is no Observer or ErrorHandler.
func TestFailuresAreLogged(t *testing.T) {
	var b store
	m := newManager(t, &b, session.Config{Cookie: session.Cookie{InsecureHTTP: true}})
	var buf bytes.Buffer
	srv := httptest.NewUnstartedServer(m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, err := m.Get(r.Context())
		check(t, errors.Join(err, note.Set(s, "x")))
	})))
	srv.Config.ErrorLog = log.New(&buf, "", 0)
	srv.Start()
	b.failing("Save", errStore)
	resp, err := srv.Client().Get(srv.URL + "/page")
	check(t, err)
	check(t, resp.Body.Close())
	srv.Close()
	if got := buf.String(); !strings.Contains(got, "GET /page: ") || !strings.Contains(got, errStore.Error()) {
		t.Errorf("logged %q", got)
	}
}
