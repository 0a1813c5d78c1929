package session_test

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/memory"
	"github.com/seed-a7bee19b/session/observe"
	"github.com/seed-a7bee19b/session/sessiontest"
)

// told is an ErrorHandler that records errors.
type told struct {
	mu   sync.Mutex
	errs []error
}

func (h *told) handle(w http.ResponseWriter, _ *http.Request, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.errs = append(h.errs, err)
	http.Error(w, "the error page", session.Status(err))
}

// only returns the single error that it recorded, or nil if there was none.
func (h *told) only(t testing.TB) error {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.errs) > 1 {
		t.Errorf("the ErrorHandler was told %d times: %v", len(h.errs), h.errs)
	}
	if len(h.errs) == 0 {
		return nil
	}
	err := h.errs[0]
	h.errs = nil
	return err
}

// asked is a function for HandlerFunc.
type asked = func(w http.ResponseWriter, r *http.Request, s *session.Session) error

// setNote is an option for sessiontest.NewRequest.
func setNote(s *session.Session) error { return note.Set(s, "kept") }

func do(h http.Handler, r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func wantNote(t testing.TB, m *session.Manager, r *http.Request, w *httptest.ResponseRecorder, want string) {
	t.Helper()
	if got, err := note.Get(sessiontest.Stored(t, m, r, w.Result())); got != want || err != nil {
		t.Errorf("stored is %q, %v, want %q", got, err, want)
	}
}

var errMine = errors.New("an error of the application")

func TestHandlerFuncAlone(t *testing.T) {
	var b store
	m := newManager(t, &b, session.Config{})
	r := sessiontest.NewRequest(t, m, "POST", "/", nil, setNote)
	b.took()
	var got *session.Session
	w := do(m.HandlerFunc(func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
		if same, err := m.Get(r.Context()); same != s || err != nil {
			t.Errorf("Get gives another session: %v", err)
		}
		got = s
		_, err := counter.Update(s, inc)
		_, _ = io.WriteString(w, "page")
		return err
	}), r)
	b.wantCalls(t, "Load", "Save")
	if w.Code != http.StatusOK || w.Body.String() != "page" {
		t.Errorf("answered %d %q", w.Code, w.Body)
	}
	wantErr(t, note.Set(got, "late"), session.ErrClosed)
}

// TestHandlerFuncNested checks that there is one session, one Load and one Save,
// even in nested Handlers, and that the innermost settings apply.
func TestHandlerFuncNested(t *testing.T) {
	var b leasingStore
	m := newManager(t, &b, session.Config{})
	readOnly, err := m.With(session.Route{Mode: session.ReadOnly})
	check(t, err)
	locking, err := m.With(session.Route{Mode: session.Exclusive})
	check(t, err)
	var outer *session.Session
	around := func(next http.Handler) http.Handler {
		return m.HandlerFunc(func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
			outer = s
			_, err := counter.Update(s, inc)
			next.ServeHTTP(w, r)
			return err
		})
	}
	changing := func(_ http.ResponseWriter, _ *http.Request, s *session.Session) error {
		if s != outer {
			t.Error("the inner function has another session")
		}
		return note.Set(s, "new")
	}
	refused := func(_ http.ResponseWriter, _ *http.Request, s *session.Session) error {
		wantErr(t, note.Set(s, "new"), session.ErrReadOnly)
		return nil
	}
	for _, tt := range []struct {
		name  string
		h     http.Handler
		calls []string
		note  string
	}{
		{"in a HandlerFunc", around(m.HandlerFunc(changing)), []string{"Load", "Save"}, "new"},
		{"in two Handlers", m.Handler(m.Handler(around(m.HandlerFunc(changing)))), []string{"Load", "Save"}, "new"},
		{"a view in a Handler", m.Handler(readOnly.HandlerFunc(refused)), []string{"Load"}, "kept"},
		{"a view alone", readOnly.HandlerFunc(refused), []string{"Load"}, "kept"},
		{"a view in a HandlerFunc", around(readOnly.HandlerFunc(refused)), []string{"Load", "Save"}, "kept"},
		{"a view that locks, in a HandlerFunc", around(locking.HandlerFunc(changing)), []string{"Load", "Acquire", "Save"}, "new"},
		{"in the Handler of a view", readOnly.Handler(around(m.HandlerFunc(changing))), []string{"Load", "Save"}, "new"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := sessiontest.NewRequest(t, m, "POST", "/", nil, setNote)
			b.took()
			w := do(tt.h, r)
			b.wantCalls(t, tt.calls...)
			if w.Code != http.StatusOK {
				t.Errorf("status %d", w.Code)
			}
			wantNote(t, m, r, w, tt.note)
		})
	}
}

// TestHandlerFuncOfAnotherManager checks that another Manager has its own
// sessions.
func TestHandlerFuncOfAnotherManager(t *testing.T) {
	m := newManager(t, &memory.Backend{}, session.Config{})
	other := newManager(t, &memory.Backend{}, session.Config{Header: "X-Other"})
	r := sessiontest.NewRequest(t, m, "POST", "/", nil, setNote)
	w := do(m.HandlerFunc(func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
		other.HandlerFunc(func(_ http.ResponseWriter, _ *http.Request, o *session.Session) error {
			if o == s || !o.IsNew() {
				t.Error("two Managers share a session")
			}
			return note.Set(o, "other")
		}).ServeHTTP(w, r)
		return nil
	}), r)
	wantNote(t, m, r, w, "kept")
	wantNote(t, other, r, w, "other")
}

func TestHandlerFuncError(t *testing.T) {
	change := func(s *session.Session) error {
		return errors.Join(errOf(counter.Update(s, inc)), note.Set(s, "dropped"), s.Login("mallory"))
	}
	for _, tt := range []struct {
		name   string
		f      asked
		status int
		body   string
		note   string
	}{
		{"before it has written", func(_ http.ResponseWriter, _ *http.Request, s *session.Session) error {
			check(t, change(s))
			return errMine
		}, 500, "the error page\n", "kept"},
		{"after it has set a status", func(w http.ResponseWriter, _ *http.Request, s *session.Session) error {
			check(t, note.Set(s, "saved"))
			w.WriteHeader(http.StatusAccepted)
			check(t, note.Set(s, "dropped"))
			return errMine
		}, 202, "the error page\n", "saved"},
		{"after it has written", func(w http.ResponseWriter, _ *http.Request, s *session.Session) error {
			check(t, note.Set(s, "saved"))
			_, _ = io.WriteString(w, "half a page, ")
			check(t, note.Set(s, "dropped"))
			return errMine
		}, 200, "half a page, the error page\n", "saved"},
		{"after it has saved", func(_ http.ResponseWriter, r *http.Request, s *session.Session) error {
			check(t, errors.Join(note.Set(s, "saved"), s.Save(r.Context()), change(s)))
			return errMine
		}, 500, "the error page\n", "saved"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var h told
			m := newManager(t, &memory.Backend{}, session.Config{ErrorHandler: h.handle})
			for name, handler := range map[string]http.Handler{
				"alone":  m.HandlerFunc(tt.f),
				"nested": m.Handler(m.HandlerFunc(tt.f)),
			} {
				r := sessiontest.NewRequest(t, m, "POST", "/", nil, setNote)
				w := do(handler, r)
				if err := h.only(t); err != errMine {
					t.Errorf("%s: the ErrorHandler was told %v", name, err)
				}
				if w.Code != tt.status || w.Body.String() != tt.body {
					t.Errorf("%s: answered %d %q", name, w.Code, w.Body)
				}
				wantNote(t, m, r, w, tt.note)
				s := sessiontest.Stored(t, m, r, w.Result())
				if user, err := s.User(); user != "" || err != nil || s.Has("counter") {
					t.Errorf("%s: stored are %v of %q, %v", name, s.Names(), user, err)
				}
			}
		})
	}
}

// TestHandlerFuncErrorIsAnsweredOnce nests one function in another.
func TestHandlerFuncErrorIsAnsweredOnce(t *testing.T) {
	var h told
	m := newManager(t, &memory.Backend{}, session.Config{ErrorHandler: h.handle})
	inner := m.HandlerFunc(func(http.ResponseWriter, *http.Request, *session.Session) error { return errMine })
	w := do(m.HandlerFunc(func(w http.ResponseWriter, r *http.Request, _ *session.Session) error {
		inner.ServeHTTP(w, r)
		return nil
	}), httptest.NewRequest("POST", "/", nil))
	if err := h.only(t); err != errMine || w.Code != 500 {
		t.Errorf("answered %d, told %v", w.Code, err)
	}
}

// TestHandlerFuncWithoutASession checks that the function is not called.
func TestHandlerFuncWithoutASession(t *testing.T) {
	var store sessiontest.Store
	var h told
	for _, handler := range []func(http.ResponseWriter, *http.Request, error){h.handle, nil} {
		m := newManager(t, &store, session.Config{ErrorHandler: handler})
		r := sessiontest.NewRequest(t, m, "POST", "/", nil, setNote)
		store.Fail(observe.OpLoad, errStore)
		w := do(m.HandlerFunc(func(http.ResponseWriter, *http.Request, *session.Session) error {
			t.Error("the function was called")
			return nil
		}), r)
		store.Fail(observe.OpLoad, nil)
		if err := h.only(t); handler != nil && !errors.Is(err, errStore) {
			t.Errorf("told %v", err)
		}
		if w.Code != http.StatusServiceUnavailable || len(w.Result().Cookies()) != 0 {
			t.Errorf("answered %d with cookies %v", w.Code, w.Result().Cookies())
		}
		wantNote(t, m, r, w, "kept")
	}
}

func TestHandlerFuncPanics(t *testing.T) {
	var h told
	m := newManager(t, &memory.Backend{}, session.Config{ErrorHandler: h.handle})
	for name, wrap := range map[string]func(http.Handler) http.Handler{
		"alone":  func(next http.Handler) http.Handler { return next },
		"nested": m.Handler,
	} {
		r := sessiontest.NewRequest(t, m, "POST", "/", nil, setNote)
		var got *session.Session
		w := httptest.NewRecorder()
		func() {
			defer func() {
				if v := recover(); v != http.ErrAbortHandler {
					t.Errorf("%s: the panic is %v", name, v)
				}
			}()
			wrap(m.HandlerFunc(func(_ http.ResponseWriter, _ *http.Request, s *session.Session) error {
				got = s
				check(t, note.Set(s, "half"))
				panic(http.ErrAbortHandler)
			})).ServeHTTP(w, r)
		}()
		if err := h.only(t); err != nil {
			t.Errorf("%s: the ErrorHandler was told %v", name, err)
		}
		wantErr(t, note.Set(got, "late"), session.ErrClosed)
		wantNote(t, m, r, w, "kept")
	}
}

// TestUpdateReturnsWhatTheRequestSees checks that each goroutine of a request
// gets the value that it made.
func TestUpdateReturnsWhatTheRequestSees(t *testing.T) {
	const n = 16
	for _, mode := range []session.Mode{session.Merge, session.LastWrite, session.Exclusive} {
		t.Run(mode.String(), func(t *testing.T) {
			m := newManager(t, &memory.Backend{}, session.Config{Mode: mode})
			token := begin(t, m, map[string]any{"counter": 100})
			s := open(t, m, token)
			values := make([]int, n)
			var wg sync.WaitGroup
			for i := range n {
				wg.Add(1)
				go func() {
					defer wg.Done()
					var err error
					if values[i], err = counter.Update(s, inc); err != nil {
						t.Error(err)
					}
				}()
			}
			wg.Wait()
			slices.Sort(values)
			for i, v := range values {
				if v != 101+i {
					t.Fatalf("the values are %v", values)
				}
			}
			check(t, finish(m, s))
			wantValue(t, m, token, "counter", 100+n)
		})
	}
}

// TestUpdateAndOtherRequests checks that with a lock Update returns the stored
// value, and without a lock the value that the request could know.
func TestUpdateAndOtherRequests(t *testing.T) {
	const n = 8
	for mode, want := range map[session.Mode]func(values []int, stored int) bool{
		session.Exclusive: func(values []int, stored int) bool {
			return stored == n && slices.Equal(values, []int{1, 2, 3, 4, 5, 6, 7, 8})
		},
		session.Merge:     func(values []int, stored int) bool { return stored == n && slices.Max(values) <= n },
		session.LastWrite: func(values []int, stored int) bool { return slices.Contains(values, stored) },
	} {
		t.Run(mode.String(), func(t *testing.T) {
			m := newManager(t, &memory.Backend{}, session.Config{Mode: mode})
			r := sessiontest.NewRequest(t, m, "POST", "/", nil, setNote)
			values := make([]int, n)
			var wg sync.WaitGroup
			for i := range n {
				wg.Add(1)
				go func() {
					defer wg.Done()
					w := do(m.HandlerFunc(func(_ http.ResponseWriter, _ *http.Request, s *session.Session) (err error) {
						values[i], err = counter.Update(s, inc)
						return err
					}), r.Clone(ctx))
					if w.Code != http.StatusOK {
						t.Errorf("status %d", w.Code)
					}
				}()
			}
			wg.Wait()
			slices.Sort(values)
			stored, err := counter.Get(sessiontest.Stored(t, m, r, nil))
			if err != nil || !want(values, stored) {
				t.Errorf("stored is %d, %v, and the requests have seen %v", stored, err, values)
			}
		})
	}
}

// TestUpdateReturnsNothingWithAnError checks that Update changes nothing either.
func TestUpdateReturnsNothingWithAnError(t *testing.T) {
	m := newManager(t, &memory.Backend{}, session.Config{})
	readOnly, err := m.With(session.Route{Mode: session.ReadOnly})
	check(t, err)
	token := begin(t, m, map[string]any{"counter": 1, "note": "text"})
	for name, tt := range map[string]struct {
		m    *session.Manager
		key  session.Key[int]
		want error
	}{
		"ReadOnly": {readOnly, counter, session.ErrReadOnly},
		"decode":   {m, session.Key[int]{Name: "note"}, session.ErrDecode},
		"name":     {m, session.Key[int]{Name: "_session.x"}, session.ErrEncode},
	} {
		s := open(t, tt.m, token)
		v, err := tt.key.Update(s, func(int) int { return 99 })
		if v != 0 || !errors.Is(err, tt.want) {
			t.Errorf("%s: got %d, %v", name, v, err)
		}
		v, err = tt.key.TryUpdate(s, func(int) (int, error) { return 99, nil })
		if v != 0 || !errors.Is(err, tt.want) {
			t.Errorf("%s: got %d, %v", name, v, err)
		}
		check(t, s.Close(ctx))
	}
	wantValue(t, m, token, "counter", 1)
	wantValue(t, m, token, "note", "text")
}

// refusing returns a unique error, and a change of the counter that fails with
// it if the counter has reached limit.
func refusing(limit int) (*json.SyntaxError, func(s *session.Session) error) {
	refusal := &json.SyntaxError{Offset: 1}
	return refusal, func(s *session.Session) error {
		v, err := counter.TryUpdate(s, func(n int) (int, error) {
			if n >= limit {
				return n + 1000, refusal
			}
			return n + 1, nil
		})
		if err != nil && v != 0 {
			return fmt.Errorf("a refused value is returned: %d", v)
		}
		return err
	}
}

func TestRefusalAtTheCall(t *testing.T) {
	for _, mode := range []session.Mode{session.Merge, session.LastWrite, session.Exclusive} {
		t.Run(mode.String(), func(t *testing.T) {
			var b leasingStore
			m := newManager(t, &b, session.Config{Mode: mode})
			token := begin(t, m, map[string]any{"counter": 5})
			refusal, count := refusing(5)
			s := open(t, m, token)
			check(t, note.Set(s, "mine"))
			if err := count(s); err != error(refusal) {
				t.Errorf("got %v", err)
			}
			if n, err := counter.Get(s); n != 5 || err != nil {
				t.Errorf("counter is %d, %v", n, err)
			}
			check(t, finish(m, s)) // the other changes are unaffected
			wantValue(t, m, token, "counter", 5)
			wantValue(t, m, token, "note", "mine")

			b.took()
			s = open(t, m, token)
			if err := count(s); err != error(refusal) {
				t.Errorf("got %v", err)
			}
			check(t, s.Save(ctx))
			if calls := b.took(); slices.Contains(calls, "Save") || slices.Contains(calls, "Touch") {
				t.Errorf("a request that was refused has written: %v", calls)
			}
			check(t, s.Close(ctx))
		})
	}
}

// TestRefusalAtAMerge checks that Save fails with the function's own error, the
// store keeps the data of the other request, and no deadline is moved.
func TestRefusalAtAMerge(t *testing.T) {
	for name, more := range map[string]func(s *session.Session) error{
		"alone":              func(*session.Session) error { return nil },
		"with other changes": func(s *session.Session) error { return note.Set(s, "mine") },
		"with Rotate":        func(s *session.Session) error { return s.Rotate() },
		"with Login":         func(s *session.Session) error { return s.Login("ann") },
		"with a first Login": func(s *session.Session) error { return s.Login("ann") },
	} {
		user := "ann"
		if strings.Contains(name, "first") {
			user = ""
		}
		for _, web := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, HTTP %v", name, web), func(t *testing.T) {
				var b sessiontest.Store
				var h told
				m := newManager(t, &b, session.Config{TouchInterval: time.Minute, ErrorHandler: h.handle})
				r := sessiontest.NewRequest(t, m, "POST", "/", nil, func(s *session.Session) error {
					if user != "" {
						check(t, s.Login(user))
					}
					return errors.Join(counter.Set(s, 4), note.Set(s, "kept"))
				})
				token := sessiontest.Stored(t, m, r, nil).Token().Reveal()
				refusal, count := refusing(5)
				var before *session.Session
				change := func(s *session.Session) {
					check(t, errors.Join(count(s), more(s)))
					fast := open(t, m, token)
					check(t, errors.Join(count(fast), finish(m, fast)))
					b.Advance(time.Hour) // so that a deadline could be moved
					before = sessiontest.Stored(t, m, r, nil)
				}
				var err error
				if web {
					w := do(m.HandlerFunc(func(_ http.ResponseWriter, _ *http.Request, s *session.Session) error { change(s); return nil }), r)
					err = h.only(t)
					if w.Code != 500 || sent(w) != "" {
						t.Errorf("status %d, token sent %v", w.Code, sent(w) != "")
					}
				} else {
					s := open(t, m, token)
					change(s)
					err = s.Save(ctx)
					if again := s.Save(ctx); again != error(refusal) { // it is still pending
						t.Errorf("the second Save: %v", again)
					}
				}
				if err != error(refusal) {
					t.Errorf("got %v", err)
				}
				if errors.Is(err, session.ErrStore) || errors.Is(err, session.ErrConflict) {
					t.Errorf("got %v, which is taken for something else", err)
				}
				after := sessiontest.Stored(t, m, r, nil)
				n, nerr := counter.Get(after)
				text, terr := note.Get(after)
				who, uerr := after.User()
				if err := errors.Join(nerr, terr, uerr); err != nil || n != 5 || text != "kept" || who != user {
					t.Errorf("stored are %d, %q, %q, %v", n, text, who, err)
				}
				if !after.Expires().Equal(before.Expires()) || !after.Created().Equal(before.Created()) {
					t.Errorf("the deadline was %v, and is %v", before.Expires(), after.Expires())
				}
			})
		}
	}
}

// TestRefusalLeavesNothing checks that no record is left under the new ID.
func TestRefusalLeavesNothing(t *testing.T) {
	for name, more := range map[string]func(s *session.Session) error{
		"Rotate": (*session.Session).Rotate,
		"Login":  func(s *session.Session) error { return s.Login("ann") },
	} {
		for _, mode := range []session.Mode{session.Merge, session.LastWrite} {
			t.Run(fmt.Sprint(name, " ", mode), func(t *testing.T) {
				var b store
				m := newManager(t, &b, session.Config{})
				view := newManager(t, &b, session.Config{Mode: mode})
				token := begin(t, m, map[string]any{"counter": 4})
				refusal, count := refusing(5)
				late := open(t, view, token)
				fast := open(t, m, token)
				check(t, errors.Join(count(late), more(late), count(fast), finish(m, fast)))
				err := late.Save(ctx)
				if mode == session.LastWrite { // it does not call the function again
					check(t, err)
					return
				}
				if err != error(refusal) || b.Len() != 1 || late.Token().Reveal() != token {
					t.Errorf("got %v, and there are %d records", err, b.Len())
				}
				late.Discard()
				check(t, errors.Join(more(late), late.Save(ctx)))
				wantValue(t, m, late.Token().Reveal(), "counter", 5)
			})
		}
	}
}

// TestRefusalIsTheErrorOfTheWriter checks that the writer that starts the
// response returns the error of the function.
func TestRefusalIsTheErrorOfTheWriter(t *testing.T) {
	for name, start := range map[string]func(w http.ResponseWriter) error{
		"Write": func(w http.ResponseWriter) error { return errOf(io.WriteString(w, "page")) },
		"Flush": func(w http.ResponseWriter) error { return http.NewResponseController(w).Flush() },
	} {
		t.Run(name, func(t *testing.T) {
			m := newManager(t, &memory.Backend{}, session.Config{})
			token := begin(t, m, map[string]any{"counter": 4})
			refusal, count := refusing(5)
			serve(t, m, token, func(w http.ResponseWriter, _ *http.Request, s *session.Session) {
				fast := open(t, m, token)
				check(t, errors.Join(count(s), count(fast), finish(m, fast)))
				if err := start(w); err != error(refusal) {
					t.Errorf("got %v", err)
				}
			})
		})
	}
}

// TestRefusalInGet checks a refusal when an inner route locks the session and
// reads the current state.
func TestRefusalInGet(t *testing.T) {
	var b leasingStore
	var h told
	m := newManager(t, &b, session.Config{ErrorHandler: h.handle})
	locking, err := m.With(session.Route{Mode: session.Exclusive})
	check(t, err)
	r := sessiontest.NewRequest(t, m, "POST", "/", nil, func(s *session.Session) error { return counter.Set(s, 4) })
	token := sessiontest.Stored(t, m, r, nil).Token().Reveal()
	refusal, count := refusing(5)
	w := do(m.HandlerFunc(func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
		check(t, count(s))
		fast := open(t, m, token)
		check(t, errors.Join(count(fast), finish(m, fast)))
		locking.HandlerFunc(func(http.ResponseWriter, *http.Request, *session.Session) error {
			t.Error("the function was called")
			return nil
		}).ServeHTTP(w, r)
		return nil
	}), r)
	if err := h.only(t); err != error(refusal) || w.Code != 500 {
		t.Errorf("answered %d, told %v", w.Code, err)
	}
	wantValue(t, m, token, "counter", 5)
}

// TestRefusalMayWrap checks that the error is the application's even if it wraps
// an error of this package.
func TestRefusalMayWrap(t *testing.T) {
	m := newManager(t, &memory.Backend{}, session.Config{})
	for _, sentinel := range []error{session.ErrConflict, session.ErrNotFound, session.ErrStore, session.ErrLocked, &session.ConflictError{Gone: true}} {
		token := begin(t, m, map[string]any{"counter": 4})
		refusal := fmt.Errorf("mine: %w", sentinel)
		count := func(s *session.Session) error {
			return errOf(counter.TryUpdate(s, func(n int) (int, error) {
				if n >= 5 {
					return 0, refusal
				}
				return n + 1, nil
			}))
		}
		late, fast := open(t, m, token), open(t, m, token)
		check(t, errors.Join(count(late), count(fast), finish(m, fast)))
		if err := late.Save(ctx); err != refusal {
			t.Errorf("%v: got %v", sentinel, err)
		}
		wantValue(t, m, token, "counter", 5)
	}
}

// hasSecret reports whether text contains the token in any form in which package
// fmt can print it.
func hasSecret(text, token string) bool {
	var bytes []string
	for _, b := range []byte(token) {
		bytes = append(bytes, fmt.Sprint(b))
	}
	for _, spelling := range []string{
		token,
		fmt.Sprintf("%x", token), fmt.Sprintf("%X", token), fmt.Sprintf("% x", token), fmt.Sprintf("%#x", token),
		strings.Join(bytes, " "), strings.Join(bytes, ","), strings.Join(bytes, ", "),
	} {
		if strings.Contains(text, spelling) || strings.Contains(text, spelling[:len(spelling)/2]) {
			return true
		}
	}
	return false
}

// TestTokenIsUnprintable prints a token in every way, alone and inside other
// values.
func TestTokenIsUnprintable(t *testing.T) {
	m := newManager(t, &memory.Backend{}, session.Config{})
	s := open(t, m, begin(t, m, map[string]any{"note": "x"}))
	token := s.Token()
	secret := token.Reveal()
	if !hasSecret("a"+secret, secret) || !hasSecret(fmt.Sprintf("%v", []byte(secret)), secret) || !hasSecret(fmt.Sprintf("%x", secret), secret) {
		t.Fatal("the test would not notice")
	}
	type fields struct {
		Exported session.Token
		hidden   session.Token
		pointer  *session.Token
		any      any
		list     []session.Token
		m        map[string]session.Token
		s        *session.Session
	}
	inside := fields{token, token, &token, token, []session.Token{token}, map[string]session.Token{"k": token}, s}
	pointer := &token
	var stringer fmt.Stringer = token
	values := []any{
		token, &token, &pointer, stringer, &stringer,
		inside, &inside, []fields{inside}, []*fields{&inside}, map[string]fields{"k": inside}, map[string]*fields{"k": &inside},
		[]session.Token{token}, &[]session.Token{token}, [1]session.Token{token}, &[1]session.Token{token}, []*session.Token{&token},
		map[int]session.Token{1: token}, map[*session.Token]bool{&token: true}, []any{token, &token}, &[]any{token},
		struct{ a any }{token}, struct{ a any }{&inside}, reflect.ValueOf(token), reflect.ValueOf(inside), reflect.ValueOf(&inside),
		s, &s, m, session.Token{},
	}
	flags := []string{"", "+", "#", " ", "-40", "40", "0", ".3", "+#"}
	for i, v := range values {
		var out strings.Builder
		for verb := rune(' '); verb <= 'z'; verb++ {
			for _, flag := range flags {
				fmt.Fprintf(&out, "%"+flag+string(verb)+"\n", v)
			}
		}
		fmt.Fprint(&out, v)
		fmt.Fprintln(&out, v)
		for _, careless := range []string{"%w", "%!", "%[2]*[1]d", "%[3]v", "%", "no verb"} {
			fmt.Fprintf(&out, careless, v, 7)
			fmt.Fprintln(&out, fmt.Errorf(careless, v, 7))
		}
		for _, handler := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
			l := slog.New(handler)
			l.Info("m", "v", v, slog.Any("any", v), slog.Group("g", "v", v))
			l.With("v", v).WithGroup("g").Info("m", "list", []any{v})
		}
		for _, encode := range []func(any) ([]byte, error){json.Marshal, xml.Marshal} {
			data, err := encode(v)
			fmt.Fprintln(&out, string(data), err)
		}
		if hasSecret(out.String(), secret) {
			t.Errorf("value %d, a %T, shows the token", i, v)
		}
	}
	for _, text := range []string{token.String(), fmt.Sprint(token), fmt.Sprintf("%s", token), fmt.Sprintf("%v", &token), fmt.Sprintf("%#v", []session.Token{token})} {
		if !strings.Contains(text, "[session token]") {
			t.Errorf("a token prints as %q", text)
		}
	}
}

// TestTokenCannotBeCompared checks that a Token is not comparable and so cannot
// be the key of a map: a comparison would not compare the secrets.
func TestTokenCannotBeCompared(t *testing.T) {
	if reflect.TypeFor[session.Token]().Comparable() {
		t.Error("tokens can be compared")
	}
	m := newManager(t, &memory.Backend{}, session.Config{})
	token := begin(t, m, map[string]any{"note": "x"})
	if a, b := open(t, m, token).Token(), open(t, m, token).Token(); a.Reveal() != b.Reveal() || a.Reveal() != token {
		t.Error("two tokens of a session reveal different secrets")
	}
	if (session.Token{}).Reveal() != "" || m.Start().Token().Reveal() != "" {
		t.Error("a token of no session reveals something")
	}
}

// TestTokenStaysWhatItWas checks that a Token from before a rotation is still
// the old token.
func TestTokenStaysWhatItWas(t *testing.T) {
	m := newManager(t, &memory.Backend{}, session.Config{})
	s := open(t, m, begin(t, m, map[string]any{"note": "x"}))
	before := s.Token()
	secret := before.Reveal()
	check(t, errors.Join(s.Rotate(), s.Save(ctx)))
	if before.Reveal() != secret || s.Token().Reveal() == secret {
		t.Error("a token changes when its session rotates")
	}
}

func TestStatusOfUnknownErrors(t *testing.T) {
	for _, err := range []error{errMine, io.EOF, http.ErrNoCookie, fmt.Errorf("page: %w", errMine), errors.Join(errMine, io.EOF), nil} {
		if got := session.Status(err); got != http.StatusInternalServerError {
			t.Errorf("%v: status %d", err, got)
		}
	}
	if got := session.Status(fmt.Errorf("page: %w", session.ErrStore)); got != http.StatusServiceUnavailable {
		t.Errorf("status %d of a store error", got)
	}
	var h told
	m := newManager(t, &memory.Backend{}, session.Config{ErrorHandler: h.handle})
	quiet := newManager(t, &memory.Backend{}, session.Config{})
	for _, m := range []*session.Manager{m, quiet} {
		w := do(m.HandlerFunc(func(http.ResponseWriter, *http.Request, *session.Session) error { return errMine }), httptest.NewRequest("GET", "/", nil))
		if w.Code != http.StatusInternalServerError || w.Header().Get("Retry-After") != "" || strings.Contains(w.Body.String(), "application") {
			t.Errorf("answered %d %v %q", w.Code, w.Header(), w.Body)
		}
	}
}

// TestEmptyNameIsAnError checks that every method fails and changes nothing.
func TestEmptyNameIsAnError(t *testing.T) {
	m := newManager(t, &memory.Backend{}, session.Config{})
	token := begin(t, m, map[string]any{"note": "x"})
	s := open(t, m, token)
	var k session.Key[string]
	fail := func(string) (string, error) { t.Error("the function was called"); return "", nil }
	for name, f := range map[string]func() (string, bool, error){
		"Get":    func() (string, bool, error) { v, err := k.Get(s); return v, false, err },
		"Lookup": func() (string, bool, error) { return k.Lookup(s) },
		"Set":    func() (string, bool, error) { return "", false, k.Set(s, "x") },
		"Update": func() (string, bool, error) {
			v, err := k.Update(s, func(v string) string { return v })
			return v, false, err
		},
		"TryUpdate": func() (string, bool, error) { v, err := k.TryUpdate(s, fail); return v, false, err },
		"Take":      func() (string, bool, error) { return k.Take(s) },
		"Delete":    func() (string, bool, error) { return "", false, k.Delete(s) },

		"Session.Get":    func() (string, bool, error) { ok, err := s.Get("", new(string)); return "", ok, err },
		"Session.Set":    func() (string, bool, error) { return "", false, s.Set("", "x") },
		"Session.Delete": func() (string, bool, error) { return "", false, s.Delete("") },
	} {
		v, ok, err := f()
		if err == nil || !strings.HasPrefix(err.Error(), "session: ") || !strings.Contains(err.Error(), "name") || v != "" || ok {
			t.Errorf("%s: got %q, %v, %v", name, v, ok, err)
		}
	}
	check(t, finish(m, s))
	if names := open(t, m, token).Names(); !slices.Equal(names, []string{"note"}) {
		t.Errorf("stored are %v", names)
	}
}
