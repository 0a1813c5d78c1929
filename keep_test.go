package session_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/memory"
	"github.com/seed-a7bee19b/session/codec"
)

// titled has the methods of time.Time, which do not know the title.
type titled struct {
	time.Time
	Title string
}

// TestSetKeepsOrRefuses checks that a value that would not be read back equal is
// ErrEncode, and that the old value stays.
func TestSetKeepsOrRefuses(t *testing.T) {
	ctx := context.Background()
	for _, c := range []session.Codec{codec.MessagePack{}, codec.JSON{}} {
		var b memory.Backend
		m := newManager(t, &b, session.Config{Codec: c})
		s := m.Start()
		kept := titled{Time: time.Unix(1, 0)}
		if err := s.Set("note", kept); err != nil {
			t.Fatal(err)
		}
		lost := titled{time.Unix(2, 0), "secret title"}
		notes := session.Key[titled]{Name: "note"}
		for what, err := range map[string]error{
			"Set":     s.Set("note", lost),
			"Key.Set": notes.Set(s, lost),
			"Update":  errOf(notes.Update(s, func(titled) titled { return lost })),
			"in any":  s.Set("note", map[string]any{"n": lost}),
			"in all":  s.Set("note", []*titled{&lost}),
		} {
			if !errors.Is(err, session.ErrEncode) || strings.Contains(err.Error(), "secret") {
				t.Errorf("%T: %s: %v", c, what, err)
			}
		}
		if err := s.Save(ctx); err != nil {
			t.Fatal(err)
		}
		s, err := m.Open(ctx, s.Token().Reveal())
		if err != nil {
			t.Fatal(err)
		}
		if got, err := notes.Get(s); err != nil || !got.Equal(kept.Time) || got.Title != "" {
			t.Errorf("%T: read %+v, %v", c, got, err)
		}
	}
}

// TestErrorsHideValues checks that the contents of a session do not get into
// errors, and so not into logs, for any error of a codec.
func TestErrorsHideValues(t *testing.T) {
	for _, c := range []session.Codec{codec.MessagePack{}, codec.JSON{}} {
		var logged []error
		m := newManager(t, &memory.Backend{}, session.Config{Codec: c, ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			logged = append(logged, err)
			w.WriteHeader(http.StatusInternalServerError)
		}})
		h := m.HandlerFunc(func(_ http.ResponseWriter, _ *http.Request, s *session.Session) error {
			if err := s.Set("v", "hunter2 at 4711"); err != nil {
				t.Error(err)
			}
			_, err := s.Get("v", new(time.Time))
			return err
		})
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil))
		if len(logged) == 0 {
			t.Fatal("no error was reported")
		}
		for _, err := range logged {
			if !errors.Is(err, session.ErrDecode) || strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "4711") {
				t.Errorf("%T: %v", c, err)
			}
		}
	}
}
