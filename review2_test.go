package session_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/memory"
	"github.com/seed-a7bee19b/session/lock"
	"github.com/seed-a7bee19b/session/sessiontest"
)

// nested serves the request of token in a Handler of m: before runs first, and
// then f in a Handler of inner inside.
func nested(t *testing.T, m, inner *session.Manager, token string, before, f asked) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest("POST", "/", nil)
	if token != "" {
		r = request(token)
		r.Method = "POST"
	}
	return do(m.HandlerFunc(func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
		if err := before(w, r, s); err != nil {
			return err
		}
		inner.HandlerFunc(f).ServeHTTP(w, r)
		return nil
	}), r)
}

func withMode(t *testing.T, m *session.Manager, mode session.Mode) *session.Manager {
	t.Helper()
	view, err := m.With(session.Route{Mode: mode})
	check(t, err)
	return view
}

// TestTokenIsSentAfterAnUpgrade: an ID that a Save has made reaches the client,
// although a route inside locks the session.
func TestTokenIsSentAfterAnUpgrade(t *testing.T) {
	for name, change := range map[string]func(s *session.Session) error{
		"a new session": func(s *session.Session) error { return note.Set(s, "x") },
		"Login":         func(s *session.Session) error { return s.Login("ann") },
		"Rotate":        (*session.Session).Rotate,
	} {
		t.Run(name, func(t *testing.T) {
			m := newManager(t, &memory.Backend{}, session.Config{})
			locking := withMode(t, m, session.Exclusive)
			token := ""
			if name != "a new session" {
				token = begin(t, m, map[string]any{"note": "x"})
			}
			var made string
			w := nested(t, m, locking, token, func(_ http.ResponseWriter, r *http.Request, s *session.Session) error {
				check(t, errors.Join(change(s), s.Save(r.Context())))
				made = s.Token().Reveal()
				return nil
			}, func(_ http.ResponseWriter, _ *http.Request, s *session.Session) error { return counter.Set(s, 1) })
			if got := sent(w); w.Code != http.StatusOK || made == "" || got != made {
				t.Errorf("answered %d; the new token was sent: %v", w.Code, got == made)
			}
			wantValue(t, m, made, "counter", 1)
		})
	}
}

// TestUpgradeDuringASave: a goroutine of the outer handler gives the session a new
// ID meanwhile.
func TestUpgradeDuringASave(t *testing.T) {
	m := newManager(t, &memory.Backend{}, session.Config{})
	locking := withMode(t, m, session.Exclusive)
	for range 20 {
		token := begin(t, m, map[string]any{"note": "x"})
		var wg sync.WaitGroup
		nested(t, m, locking, token, func(_ http.ResponseWriter, r *http.Request, s *session.Session) error {
			wg.Add(1)
			go func() {
				defer wg.Done()
				if err := errors.Join(s.Rotate(), s.Save(r.Context())); err != nil {
					t.Error(err)
				}
			}()
			return nil
		}, func(http.ResponseWriter, *http.Request, *session.Session) error {
			wg.Wait()
			return nil
		})
	}
}

// TestLockOfALateView is lost: the first view that locks was made after the
// request had begun.
func TestLockOfALateView(t *testing.T) {
	m := newManager(t, &memory.Backend{}, session.Config{Lock: session.LockConfig{TTL: 100 * time.Millisecond, MaxHold: 100 * time.Millisecond}})
	token := begin(t, m, map[string]any{"note": "x"})
	w := do(m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		withMode(t, m, session.Exclusive).HandlerFunc(func(_ http.ResponseWriter, _ *http.Request, s *session.Session) error {
			select {
			case <-s.Context().Done():
				wantErr(t, context.Cause(s.Context()), session.ErrLockLost)
			case <-time.After(10 * time.Second):
				t.Error("the context of the session goes on")
			}
			return note.Set(s, "y")
		}).ServeHTTP(w, r)
	})), request(token))
	if w.Code != http.StatusServiceUnavailable {
		t.Errorf("answered %d", w.Code)
	}
	wantValue(t, m, token, "note", "x")
}

// TestPanicInAnUpgrade leaves no lock behind, and the next try starts anew.
func TestPanicInAnUpgrade(t *testing.T) {
	m := newManager(t, &memory.Backend{}, session.Config{})
	locking := withMode(t, m, session.Exclusive)
	token := begin(t, m, map[string]any{"counter": 1})
	boom := false
	w := nested(t, m, m, token, func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
		_, err := counter.Update(s, func(n int) int {
			if boom {
				panic("boom")
			}
			return n + 10
		})
		check(t, err)
		boom = true
		func() {
			defer func() {
				if v := recover(); v != "boom" {
					t.Errorf("the panic is %v", v)
				}
			}()
			locking.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				_, _ = m.Get(r.Context())
			})).ServeHTTP(w, r)
		}()
		boom = false
		other := open(t, m, token)
		_, err = counter.Update(other, inc)
		return errors.Join(err, finish(m, other)) // it would wait for a lock
	}, func(http.ResponseWriter, *http.Request, *session.Session) error { return nil })
	if w.Code != http.StatusOK {
		t.Errorf("answered %d", w.Code)
	}
	wantValue(t, m, token, "counter", 12)
}

// TestPanicInASave leaves the session as it was: it can be edited and saved.
func TestPanicInASave(t *testing.T) {
	for _, more := range []func(*session.Session) error{
		func(*session.Session) error { return nil },
		(*session.Session).Rotate,
	} {
		m := newManager(t, &memory.Backend{}, session.Config{})
		token := begin(t, m, map[string]any{"counter": 1})
		s := open(t, m, token)
		boom := false
		_, err := counter.Update(s, func(n int) int {
			if boom {
				panic("boom")
			}
			return n + 10
		})
		check(t, errors.Join(err, more(s)))
		other := open(t, m, token)
		check(t, errors.Join(errOf(counter.Update(other, inc)), finish(m, other)))
		boom = true
		func() {
			defer func() {
				if v := recover(); v != "boom" {
					t.Errorf("the panic is %v", v)
				}
			}()
			_ = s.Save(ctx)
		}()
		boom = false
		c, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		check(t, errors.Join(note.Set(s, "y"), s.Save(c)))
		wantValue(t, m, s.Token().Reveal(), "counter", 12)
	}
}

// refusals are errors of an application that could be taken for ours.
func refusals() map[string]error {
	return map[string]error{
		"ErrConflict":            fmt.Errorf("mine: %w", session.ErrConflict),
		"ConflictError":          &session.ConflictError{Current: &session.Record{}},
		"ConflictError, gone":    &session.ConflictError{Gone: true, Current: &session.Record{}},
		"ErrNotFound":            fmt.Errorf("mine: %w", session.ErrNotFound),
		"ErrStore":               fmt.Errorf("mine: %w", session.ErrStore),
		"LockedError":            &session.LockedError{},
		"ErrLockTimeout":         fmt.Errorf("mine: %w", session.ErrLockTimeout),
		"ErrLockLost":            fmt.Errorf("mine: %w", session.ErrLockLost),
		"Canceled":               fmt.Errorf("mine: %w", context.Canceled),
		"DeadlineExceeded":       fmt.Errorf("mine: %w", context.DeadlineExceeded),
		"ErrStore, ErrTooLarge":  errors.Join(session.ErrStore, session.ErrTooLarge),
		"an error of this kind":  errors.Join(errMine, &session.ConflictError{}, context.Canceled),
		"ErrTooLate, ErrClosed":  errors.Join(session.ErrTooLate, session.ErrClosed),
		"nothing of this module": errMine,
	}
}

// TestRefusalIsAskedForOnce whatever it wraps: it is no conflict, no lock and no
// failure of the store.
func TestRefusalIsAskedForOnce(t *testing.T) {
	for what, change := range map[string]func(s *session.Session) error{
		"Save":   func(*session.Session) error { return nil },
		"Rotate": (*session.Session).Rotate,
		"Login":  func(s *session.Session) error { return s.Login("ann") },
	} {
		for name, refusal := range refusals() {
			t.Run(what+" "+name, func(t *testing.T) {
				var b store
				m := newManager(t, &b, session.Config{})
				token := begin(t, m, map[string]any{"counter": 4})
				asked := 0
				s, fast := open(t, m, token), open(t, m, token)
				_, err := counter.TryUpdate(s, func(n int) (int, error) {
					if asked++; n >= 5 {
						return 0, refusal
					}
					return n + 1, nil
				})
				check(t, errors.Join(err, change(s), errOf(counter.Update(fast, inc)), finish(m, fast)))
				asked = 0
				if err := s.Save(ctx); err != refusal {
					t.Errorf("got %v", err)
				}
				if asked != 1 {
					t.Errorf("it was asked %d times", asked)
				}
				var conflict *session.ConflictError
				if errors.As(refusal, &conflict) && refusal == error(conflict) && conflict.Current == nil {
					t.Error("the error of the application was changed")
				}
				s.Discard()
				check(t, errors.Join(note.Set(s, "later"), s.Save(ctx)))
				wantValue(t, m, token, "counter", 5)
				wantValue(t, m, token, "note", "later")
				if n := b.Len(); n != 1 {
					t.Errorf("there are %d records", n)
				}
			})
		}
	}
}

// TestErrorIsAnsweredOnce: the function returns the error of a Write, which the
// client has been told of.
func TestErrorIsAnsweredOnce(t *testing.T) {
	write := func(w http.ResponseWriter, _ *http.Request, s *session.Session) error {
		check(t, note.Set(s, "x"))
		if _, err := io.WriteString(w, "page"); err != nil {
			return fmt.Errorf("rendering: %w", err)
		}
		return nil
	}
	for name, around := range map[string]func(m *session.Manager, h http.Handler) http.Handler{
		"alone":  func(_ *session.Manager, h http.Handler) http.Handler { return h },
		"nested": func(m *session.Manager, h http.Handler) http.Handler { return m.Handler(h) },
	} {
		t.Run(name, func(t *testing.T) {
			var b store
			var h told
			m := newManager(t, &b, session.Config{ErrorHandler: h.handle})
			b.failing("Save", errStore)
			w := do(around(m, m.HandlerFunc(write)), httptest.NewRequest("POST", "/", nil))
			wantErr(t, h.only(t), errStore)
			if w.Code != http.StatusServiceUnavailable || w.Body.String() != "the error page\n" {
				t.Errorf("answered %d %q", w.Code, w.Body)
			}
		})
	}
	t.Run("another Manager", func(t *testing.T) {
		var b store
		var outside, inside told
		outer := newManager(t, &b, session.Config{ErrorHandler: outside.handle})
		inner := newManager(t, &memory.Backend{}, session.Config{Header: "X-Inner", ErrorHandler: inside.handle})
		b.failing("Save", errStore)
		w := do(outer.HandlerFunc(func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
			check(t, note.Set(s, "x"))
			inner.HandlerFunc(write).ServeHTTP(w, r)
			return nil
		}), httptest.NewRequest("POST", "/", nil))
		wantErr(t, outside.only(t), errStore)
		if err := inside.only(t); err != nil {
			t.Errorf("the inner ErrorHandler was told %v", err)
		}
		if w.Code != http.StatusServiceUnavailable || w.Body.String() != "the error page\n" {
			t.Errorf("answered %d %q", w.Code, w.Body)
		}
	})
}

// TestErrorHandlerOfAnotherManager answers for a Manager inside.
func TestErrorHandlerOfAnotherManager(t *testing.T) {
	var b store
	var h told
	outer := newManager(t, &memory.Backend{}, session.Config{ErrorHandler: h.handle})
	inner := newManager(t, &b, session.Config{Header: "X-Inner", ErrorHandler: outer.Error})
	b.failing("Save", errStore)
	w := do(outer.Handler(inner.HandlerFunc(func(_ http.ResponseWriter, _ *http.Request, s *session.Session) error {
		return note.Set(s, "x")
	})), httptest.NewRequest("POST", "/", nil))
	wantErr(t, h.only(t), errStore)
	if w.Code != http.StatusServiceUnavailable || w.Body.String() != "the error page\n" {
		t.Errorf("answered %d %q", w.Code, w.Body)
	}
}

// TestErrorThatChangesNothing: the session is as it was.
func TestErrorThatChangesNothing(t *testing.T) {
	var b leasingStore
	var h told
	for _, mode := range []session.Mode{session.Merge, session.Exclusive} {
		m := newManager(t, &b, session.Config{Mode: mode, ErrorHandler: h.handle})
		r := sessiontest.NewRequest(t, m, "POST", "/", nil, setNote)
		w := do(m.HandlerFunc(func(http.ResponseWriter, *http.Request, *session.Session) error { return errMine }), r)
		if err := h.only(t); err != errMine || w.Code != 500 {
			t.Errorf("answered %d, told %v", w.Code, err)
		}
		wantNote(t, m, r, w, "kept")
	}
}

// TestErrorHandlerPanics: the panic goes on, the lock is free, and nothing was
// saved.
func TestErrorHandlerPanics(t *testing.T) {
	for name, f := range map[string]asked{
		"the function failed": func(_ http.ResponseWriter, _ *http.Request, s *session.Session) error {
			return errors.Join(note.Set(s, "y"), errMine)
		},
		"the save failed": func(_ http.ResponseWriter, _ *http.Request, s *session.Session) error {
			return note.Set(s, "too large to be saved, as it has more than a hundred bytes: it goes on and on and on and on and on and on")
		},
		"a Write failed": func(w http.ResponseWriter, _ *http.Request, s *session.Session) error {
			check(t, note.Set(s, "too large to be saved, as it has more than a hundred bytes: it goes on and on and on and on and on and on"))
			return errOf(io.WriteString(w, "page"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := newManager(t, &memory.Backend{}, session.Config{
				Mode: session.Exclusive, MaxSize: 100,
				ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic("boom") },
			})
			token := begin(t, m, map[string]any{"note": "x"})
			w := httptest.NewRecorder()
			func() {
				defer func() {
					if v := recover(); v != "boom" {
						t.Errorf("the panic is %v", v)
					}
				}()
				m.HandlerFunc(f).ServeHTTP(w, request(token))
			}()
			if w.Body.Len() != 0 {
				t.Errorf("answered %q", w.Body)
			}
			c, cancel := context.WithTimeout(ctx, 2*time.Second)
			defer cancel()
			s, err := m.Open(c, token)
			check(t, err)
			check(t, s.Close(c))
			wantValue(t, m, token, "note", "x")
		})
	}
}

// TestHandlerFuncOfNothing panics, as package http does, and leaves no lock.
func TestHandlerFuncOfNothing(t *testing.T) {
	m := newManager(t, &memory.Backend{}, session.Config{Mode: session.Exclusive})
	token := begin(t, m, map[string]any{"note": "x"})
	func() {
		defer func() {
			if recover() == nil {
				t.Error("no panic")
			}
		}()
		m.HandlerFunc(nil).ServeHTTP(httptest.NewRecorder(), request(token))
	}()
	wantValue(t, m, token, "note", "x")
}

// TestRefusalUnderALocker, which keeps out only requests that lock: the lock is
// not lost because of what the application says.
func TestRefusalUnderALocker(t *testing.T) {
	m := newManager(t, &memory.Backend{}, session.Config{Lock: session.LockConfig{Locker: &lock.Local{}}})
	locking := withMode(t, m, session.Exclusive)
	token := begin(t, m, map[string]any{"counter": 4})
	refusal := fmt.Errorf("mine: %w", session.ErrLocked)
	w := nested(t, m, locking, token, func(_ http.ResponseWriter, _ *http.Request, s *session.Session) error {
		_, err := counter.TryUpdate(s, func(n int) (int, error) {
			if n >= 5 {
				return 0, refusal
			}
			return n + 1, nil
		})
		other := open(t, m, token)
		return errors.Join(err, errOf(counter.Update(other, inc)), finish(m, other))
	}, func(http.ResponseWriter, *http.Request, *session.Session) error {
		t.Error("the function was called")
		return nil
	})
	if w.Code != http.StatusServiceUnavailable { // as Status says of ErrLocked
		t.Errorf("answered %d", w.Code)
	}
	wantValue(t, m, token, "counter", 5)
}

// TestRoutesInsideDuringEdits: goroutines of one request edit, read and save the
// session, start the response, and enter routes with other modes, while another
// request changes the session. It is for the race detector.
func TestRoutesInsideDuringEdits(t *testing.T) {
	m := newManager(t, &memory.Backend{}, session.Config{})
	views := []*session.Manager{
		withMode(t, m, session.Exclusive), withMode(t, m, session.LastWrite), withMode(t, m, session.ReadOnly), m,
	}
	token := begin(t, m, map[string]any{"counter": 0})
	for range 20 {
		do(m.HandlerFunc(func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
			var wg sync.WaitGroup
			run := func(f func()) {
				wg.Add(1)
				go func() {
					defer wg.Done()
					f()
				}()
			}
			for i := range 4 {
				run(func() { _, _ = counter.TryUpdate(s, func(n int) (int, error) { return n + 1, nil }) })
				run(func() { _, _ = counter.TryUpdate(s, func(n int) (int, error) { return n, errMine }) })
				run(func() { _ = s.Save(r.Context()) })
				run(func() { _, _, _, _, _ = s.Names(), s.Token(), s.Expires(), s.Created(), s.IsNew() })
				run(func() { _, _, _ = errOf(counter.Get(s)), errOf(s.User()), s.Context() })
				run(func() { _, _, _ = note.Take(s); _ = note.Set(s, fmt.Sprint(i)) })
				run(func() {
					views[i].Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
						_, _ = m.Get(r.Context())
					})).ServeHTTP(w, r)
				})
				run(func() {
					if other, err := m.Open(ctx, token); err == nil {
						_, _ = counter.Update(other, inc)
						_ = finish(m, other)
					}
				})
			}
			run(s.Discard)
			run(func() { w.WriteHeader(http.StatusOK) })
			wg.Wait()
			return nil
		}), request(token))
	}
}
