package session_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/memory"
)

// store is a memory backend that counts its calls and fails or stalls on
// demand.
type store struct {
	memory.Backend

	mu     sync.Mutex
	calls  []string
	before func(ctx context.Context, op string) error // an error: the call does not reach the store
	after  func(op string) error                      // an error: the call reached the store, and the response is lost
}

var errStore = errors.New("store is down")

func (s *store) do(ctx context.Context, op string, call func() error) error {
	s.mu.Lock()
	s.calls = append(s.calls, op)
	before, after := s.before, s.after
	s.mu.Unlock()
	if before != nil {
		if err := before(ctx, op); err != nil {
			return err
		}
	}
	err := call()
	if err == nil && after != nil {
		err = after(op)
	}
	return err
}

func (s *store) Load(ctx context.Context, key string) (rec session.Record, err error) {
	err = s.do(ctx, "Load", func() error { rec, err = s.Backend.Load(ctx, key); return err })
	return rec, err
}

func (s *store) Save(ctx context.Context, key string, rec session.Record) (v session.Version, err error) {
	op := "Save"
	if rec.Version != "" && rec.Expired(time.Now()) {
		op = "End"
	}
	err = s.do(ctx, op, func() error { v, err = s.Backend.Save(ctx, key, rec); return err })
	return v, err
}

func (s *store) Touch(ctx context.Context, key string, expires time.Time) error {
	return s.do(ctx, "Touch", func() error { return s.Backend.Touch(ctx, key, expires) })
}

func (s *store) Delete(ctx context.Context, key string) error {
	return s.do(ctx, "Delete", func() error { return s.Backend.Delete(ctx, key) })
}

// took returns the calls since the last took.
func (s *store) took() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	calls := s.calls
	s.calls = nil
	return calls
}

func (s *store) wantCalls(t *testing.T, want ...string) {
	t.Helper()
	if got := s.took(); !slices.Equal(got, want) {
		t.Errorf("calls to the store: %v, want %v", got, want)
	}
}

// failing makes every call of op fail without reaching the store.
func (s *store) failing(op string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.before = func(_ context.Context, o string) error {
		if o == op {
			return err
		}
		return nil
	}
}

func (s *store) healthy() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.before, s.after = nil, nil
}

func newManager(t testing.TB, b session.Backend, cfg session.Config) *session.Manager {
	t.Helper()
	m, err := session.New(b, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// finish ends a session as a program does that keeps its changes.
func finish(m *session.Manager, s *session.Session) error {
	return errors.Join(s.Save(ctx), s.Close(ctx))
}

// begin stores a session with the given values and returns its token.
func begin(t testing.TB, m *session.Manager, values map[string]any) string {
	t.Helper()
	s := m.Start()
	for name, v := range values {
		check(t, s.Set(name, v))
	}
	check(t, finish(m, s))
	return s.Token().Reveal()
}

func open(t testing.TB, m *session.Manager, token string) *session.Session {
	t.Helper()
	s, err := m.Open(context.Background(), token)
	check(t, err)
	return s
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error %v, want %v", err, want)
	}
}

// wantValue checks the value that a later request would read.
func wantValue[T comparable](t testing.TB, m *session.Manager, token, name string, want T) {
	t.Helper()
	s := open(t, m, token)
	got, err := session.Key[T]{Name: name}.Get(s)
	check(t, errors.Join(err, s.Close(ctx)))
	if got != want {
		t.Errorf("%s is %v, want %v", name, got, want)
	}
}

// errOf returns the error of a call that also returns a value.
func errOf[T any](_ T, err error) error { return err }
