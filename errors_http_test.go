package session_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/observe"
	"github.com/seed-a7bee19b/session/sessiontest"
)

// TestErrorsOfHijack checks the prefix of the errors. Hijack returns the error
// of commitAs, and the other ways to start a response wrap it.
func TestErrorsOfHijack(t *testing.T) {
	var b sessiontest.Store
	m := newManager(t, &b, session.Config{})
	hijack := func(w http.ResponseWriter) error { _, _, err := w.(http.Hijacker).Hijack(); return err }
	serve(t, m, begin(t, m, map[string]any{"note": "kept"}), func(w http.ResponseWriter, _ *http.Request, s *session.Session) {
		check(t, note.Set(s, "x"))
		b.Fail(observe.OpSave, errStore)
		err := hijack(w)
		b.Fail(observe.OpSave, nil)
		wantErr(t, err, session.ErrStore)
		wantText(t, "Hijack", err)
	})
	serve(t, m, "", func(w http.ResponseWriter, _ *http.Request, s *session.Session) {
		check(t, note.Set(s, "x"))
		err := hijack(w)
		wantErr(t, err, session.ErrTooLate)
		wantText(t, "Hijack of a new session", err)
	})
}

// TestRefusalInHijack checks that it is the function's own error, and that the
// ErrorHandler of a HandlerFunc that returns it gets that error.
func TestRefusalInHijack(t *testing.T) {
	var h told
	m := newManager(t, &sessiontest.Store{}, session.Config{ErrorHandler: h.handle})
	token := begin(t, m, map[string]any{"counter": 4})
	refusal, count := refusing(5)
	m.HandlerFunc(func(w http.ResponseWriter, _ *http.Request, s *session.Session) error {
		fast := open(t, m, token)
		check(t, errors.Join(count(s), count(fast), finish(m, fast)))
		_, _, err := w.(http.Hijacker).Hijack()
		if err != error(refusal) {
			t.Errorf("Hijack: %v", err)
		}
		return err
	}).ServeHTTP(recorder{httptest.NewRecorder()}, request(token))
	if err := h.only(t); err != error(refusal) {
		t.Errorf("the ErrorHandler was told %v", err)
	}
}

// TestErrorsOfLateFailed checks that these errors have the form of those of
// CommitFailed.
func TestErrorsOfLateFailed(t *testing.T) {
	var b sessiontest.Store
	var seen causes
	m := newManager(t, &b, session.Config{Observer: &seen})
	token := begin(t, m, map[string]any{"counter": 4})
	serve(t, m, token, func(w http.ResponseWriter, _ *http.Request, s *session.Session) {
		w.WriteHeader(http.StatusOK)
		check(t, note.Set(s, "x"))
		b.Fail(observe.OpSave, errStore)
	})
	b.Fail(observe.OpSave, nil)
	wantErr(t, seen.late, session.ErrStore)
	wantText(t, "LateFailed", seen.late)

	refusal, count := refusing(5)
	serve(t, m, token, func(w http.ResponseWriter, _ *http.Request, s *session.Session) {
		w.WriteHeader(http.StatusOK)
		fast := open(t, m, token)
		check(t, errors.Join(count(s), count(fast), finish(m, fast)))
	})
	if seen.late != error(refusal) {
		t.Errorf("LateFailed: %v", seen.late)
	}
}

// causes is an Observer that records the causes of failed late saves.
type causes struct{ late error }

func (c *causes) Call(ctx context.Context, _ observe.Op) (context.Context, func(error)) {
	return ctx, nil
}

func (c *causes) Event(_ context.Context, e observe.Event) {
	if e.Kind == observe.EventLateFailed {
		c.late = e.Err
	}
}
