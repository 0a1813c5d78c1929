package adapters

import (
	"bytes"
	"context"
	"encoding/gob"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/gofiber/fiber/v3"
	fibersession "github.com/gofiber/fiber/v3/middleware/session"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/memory"
	"github.com/seed-a7bee19b/session/codec"
	"github.com/seed-a7bee19b/session/migrate"
)

// fiberSessions makes a store of fiber one for migrate.SCS: both have bytes under
// tokens. It is in docs/migration.md.
type fiberSessions struct{ fiber.Storage }

func (f fiberSessions) Find(id string) ([]byte, bool, error) {
	return f.FindCtx(context.Background(), id)
}

func (f fiberSessions) FindCtx(ctx context.Context, id string) ([]byte, bool, error) {
	data, err := f.GetWithContext(ctx, id)
	return data, data != nil, err
}

func (f fiberSessions) DeleteCtx(ctx context.Context, id string) error {
	return f.DeleteWithContext(ctx, id)
}

// decodeFiber decodes what the middleware has stored. The storage does not tell
// when a session ends.
func decodeFiber(data []byte) (time.Time, map[string]any, error) {
	var all map[any]any
	if err := gob.NewDecoder(bytes.NewReader(data)).Decode(&all); err != nil {
		return time.Time{}, nil, err
	}
	values := map[string]any{}
	for key, v := range all {
		if name, ok := key.(string); ok { // the others are fiber's own
			values[name] = v
		}
	}
	return time.Now().Add(30 * time.Minute), values, nil // IdleTimeout of fiber
}

// fiberMap is a store of fiber.
type fiberMap struct {
	fiber.Storage // nil
	mu            sync.Mutex
	m             map[string][]byte
}

func (s *fiberMap) GetWithContext(_ context.Context, key string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.m[key], nil
}

func (s *fiberMap) SetWithContext(_ context.Context, key string, data []byte, _ time.Duration) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.m[key] = data
	return nil
}

func (s *fiberMap) DeleteWithContext(_ context.Context, key string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.m, key)
	return nil
}

// TestMoveFromFiber has the middleware of fiber begin sessions, and a Manager go on
// with them.
func TestMoveFromFiber(t *testing.T) {
	storage := &fiberMap{m: map[string][]byte{}}
	app := fiber.New()
	app.Use(fibersession.New(fibersession.Config{Storage: storage, AbsoluteTimeout: 24 * time.Hour}))
	app.Get("/", func(c fiber.Ctx) error {
		fibersession.FromContext(c).Set("n", 41)
		return nil
	})
	res, err := app.Test(httptest.NewRequest(http.MethodGet, "/", nil))
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if len(res.Cookies()) != 1 || res.Cookies()[0].Name != "session_id" || len(storage.m) != 1 {
		t.Fatalf("fiber set %v, and has %d sessions", res.Cookies(), len(storage.m))
	}
	token := res.Cookies()[0].Value

	source, err := migrate.SCS(fiberSessions{storage}, migrate.SCSConfig{
		Decode: decodeFiber,
		Pack: func(values map[string]any, ends time.Time) (session.Record, error) {
			return session.Pack(codec.MessagePack{}, session.Foreign{Values: values, Expires: ends})
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	backend, err := migrate.New(&memory.Backend{}, source, migrate.Config{TokenKeys: true})
	if err != nil {
		t.Fatal(err)
	}
	m, err := session.New(backend, session.Config{
		Cookie:   session.Cookie{Name: "session"},
		Tokens:   session.Tokens{MaxLength: 43},
		StoreKey: migrate.StoreKey(migrate.SCSToken),
	})
	if err != nil {
		t.Fatal(err)
	}
	for n := 42; n <= 43; n++ {
		if got := askMoved(m, token); got.status != http.StatusOK || got.n != n || len(got.cookies) > 0 {
			t.Errorf("got %+v", got)
		}
	}
	if len(storage.m) != 0 {
		t.Error("the session is still in the old store")
	}
	s, err := m.Open(t.Context(), token)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Destroy(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := askMoved(m, token); got.n != 1 || len(got.cookies) != 1 {
		t.Errorf("after the logout: %+v", got)
	}
}
