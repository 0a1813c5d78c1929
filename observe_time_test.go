//go:build go1.25

package session_test

import (
	"context"
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/observe"
)

// silent is an Observer that ignores outcomes and requests.
type silent struct{}

func (silent) Call(ctx context.Context, _ observe.Op) (context.Context, func(error)) { return ctx, nil }
func (silent) Event(context.Context, observe.Event)                                  {}

// touches records the events about deadlines.
type touches struct {
	silent
	got []observe.EventKind
}

func (o *touches) Event(_ context.Context, e observe.Event) {
	if e.Kind == observe.EventTouchSkipped || e.Kind == observe.EventTouchFailed {
		o.got = append(o.got, e.Kind)
	}
}

// TestTouchesSaved checks that there is one event for each request that would
// have written the deadline without the TouchInterval.
func TestTouchesSaved(t *testing.T) {
	const interval = time.Minute
	saved := []observe.EventKind{observe.EventTouchSkipped}
	type handler = func(http.ResponseWriter, *http.Request, *session.Session)
	read := func(_ http.ResponseWriter, _ *http.Request, s *session.Session) { _, _ = note.Get(s) }
	tests := []struct {
		name  string
		after time.Duration // that the session was written
		cfg   session.Config
		f     handler // in a request
		do    func(t *testing.T, m *session.Manager, token string)
		want  []observe.EventKind
	}{
		{name: "read", after: interval - 1, f: read, want: saved},
		{name: "read in the same moment", f: read},
		{name: "read that touches", after: interval, f: read},
		{name: "read after the response", after: 1, f: func(w http.ResponseWriter, r *http.Request, s *session.Session) {
			w.WriteHeader(http.StatusOK)
			read(w, r, s)
		}, want: saved},
		{name: "write", after: 1, f: func(_ http.ResponseWriter, _ *http.Request, s *session.Session) { _ = note.Set(s, "y") }},
		{name: "write, and then nothing", after: 1, f: func(w http.ResponseWriter, r *http.Request, s *session.Session) {
			_ = note.Set(s, "y")
			_, _ = w.Write(nil)
			time.Sleep(time.Nanosecond)
		}},
		{name: "destroy", after: 1, f: func(_ http.ResponseWriter, r *http.Request, s *session.Session) {
			_ = s.Clear()
		}},
		{name: "read-only", after: 1, cfg: session.Config{Mode: session.ReadOnly}, f: read},
		{name: "lock", after: 1, cfg: session.Config{Mode: session.Exclusive}, f: read}, // frees the lock, and moves the deadline if necessary
		{name: "no idle timeout", after: 1, cfg: session.Config{IdleTimeout: session.Never}, f: read},
		{name: "at the absolute deadline", after: 1, cfg: session.Config{IdleTimeout: time.Hour, AbsoluteTimeout: time.Hour}, f: read},
		{
			name: "save and close", after: 1, want: saved,
			do: func(t *testing.T, m *session.Manager, token string) { check(t, finish(m, open(t, m, token))) },
		},
		{
			name: "close", after: 1, want: saved,
			do: func(t *testing.T, m *session.Manager, token string) { check(t, open(t, m, token).Close(ctx)) },
		},
		{
			name: "write, save and close", after: 1,
			do: func(t *testing.T, m *session.Manager, token string) {
				s := open(t, m, token)
				check(t, note.Set(s, "y"))
				check(t, s.Save(ctx))
				time.Sleep(time.Nanosecond)
				check(t, s.Close(ctx))
			},
		},
		{
			name: "lock, save and close", after: 1, cfg: session.Config{Mode: session.Exclusive},
			do: func(t *testing.T, m *session.Manager, token string) { check(t, finish(m, open(t, m, token))) },
		},
		{
			name: "touch and close", after: interval,
			do: func(t *testing.T, m *session.Manager, token string) {
				s := open(t, m, token)
				check(t, s.Save(ctx))
				time.Sleep(time.Nanosecond)
				check(t, s.Close(ctx))
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var b store
				var o touches
				cfg := tt.cfg
				cfg.Observer = &o
				if cfg.IdleTimeout != session.Never {
					cfg.TouchInterval = interval
				}
				begins := cfg
				begins.Mode = 0
				token := begin(t, newManager(t, &b, begins), map[string]any{"note": "x"})
				m := newManager(t, &b, cfg)
				time.Sleep(tt.after)
				if tt.f != nil {
					serve(t, m, token, tt.f)
				} else {
					tt.do(t, m, token)
				}
				if !slices.Equal(o.got, tt.want) {
					t.Errorf("got %v, want %v", o.got, tt.want)
				}
			})
		})
	}
}
