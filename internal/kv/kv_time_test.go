//go:build go1.25

package kv_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/internal/kv"
)

// TestBounds: each call ends after the timeout, and when its context does.
func TestBounds(t *testing.T) {
	calls := map[string]func(ctx context.Context, s *kv.Store) error{
		"load":   func(ctx context.Context, s *kv.Store) error { _, _, err := s.Load(ctx, nil, "t"); return err },
		"save":   func(ctx context.Context, s *kv.Store) error { return s.Save(ctx, new(kv.Seen), "t", nil, hour()) },
		"put":    func(ctx context.Context, s *kv.Store) error { return s.Put(ctx, "t", nil, hour()) },
		"delete": func(ctx context.Context, s *kv.Store) error { return s.Delete(ctx, nil, "t") },
	}
	tests := []struct {
		name    string
		timeout time.Duration
		ctx     func(context.Context) (context.Context, context.CancelFunc)
		want    time.Duration
	}{
		{"default", 0, context.WithCancel, kv.DefaultTimeout},
		{"timeout", time.Second, context.WithCancel, time.Second},
		{"context", time.Minute, func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, 2*time.Second)
		}, 2 * time.Second},
		{"detached", time.Minute, func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
			detached, cancel2 := kv.Detached(ctx)
			return detached, func() { cancel(); cancel2() }
		}, 2 * time.Second},
		{"detached, cancelled", time.Second, func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(ctx)
			cancel()
			return kv.Detached(ctx)
		}, time.Second},
	}
	for _, tt := range tests {
		for name, call := range calls {
			synctest.Test(t, func(t *testing.T) {
				s, b := newStore(t, kv.Config{Timeout: tt.timeout})
				b.fault = func(ctx context.Context, _ string) error { <-ctx.Done(); return ctx.Err() }
				ctx, cancel := tt.ctx(t.Context())
				defer cancel()
				began := time.Now()
				err := call(ctx, s)
				if took := time.Since(began); took != tt.want || !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, session.ErrStore) {
					t.Errorf("%s, %s: after %v, want %v: %v", name, tt.name, took, tt.want, err)
				}
			})
		}
	}
}

// TestDeadline: where values are the same, a Save moves the deadline, either way.
func TestDeadline(t *testing.T) {
	fold := func(a, b []byte) bool { return bytes.EqualFold(a, b) }
	tests := []struct {
		name string
		data string
		in   time.Duration
		want string
	}{
		{"same bytes, later", "a", 2 * time.Hour, "Touch"},
		{"same values, later", "A", 2 * time.Hour, "Touch"},
		{"same values, the same time", "A", time.Hour, "Touch"},
		{"same values, earlier by what a Backend rounds", "A", time.Hour - time.Second, "Touch"},
		{"same values, earlier", "A", time.Minute, "Save"},
		{"other values", "b", 2 * time.Hour, "Save"},
	}
	for _, tt := range tests {
		synctest.Test(t, func(t *testing.T) {
			s, b := newStore(t, kv.Config{Same: fold})
			save(t, s, new(kv.Seen), "t", "a")
			seen := new(kv.Seen)
			load(t, s, seen, "t")
			b.calls = nil
			if err := s.Save(t.Context(), seen, "t", []byte(tt.data), time.Now().Add(tt.in)); err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(b.calls, " "); got != tt.want {
				t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
			}
			save(t, s, seen, "t", "c") // the version is known
			if err := s.Save(t.Context(), seen, "t", []byte("d"), time.Now().Add(tt.in)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(tt.in - time.Second)
			if got := load(t, s, nil, "t"); got != "d" {
				t.Errorf("%s: a second before the deadline: %q", tt.name, got)
			}
			time.Sleep(time.Second)
			if got := load(t, s, nil, "t"); got != "-" {
				t.Errorf("%s: at the deadline: %q", tt.name, got)
			}
		})
	}
}
