package conformance_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/conformance"
)

// A Shelf is a backend under test: a client of a store.
type Shelf struct{ store *store }

// A store stands for a database. It is a map with a clock of its own.
type store struct {
	mu      sync.Mutex
	records map[string]session.Record
	ahead   time.Duration // of time.Now
	down    bool
}

const maxData = 64 << 10

// open locks the store, unless ctx is done or the store is down.
func (s *Shelf) open(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.store.mu.Lock()
	if s.store.down {
		s.store.mu.Unlock()
		return errors.New("shelf: the store is down")
	}
	return nil
}

// live returns the record at key, unless it has expired.
func (s *Shelf) live(key string) (session.Record, bool) {
	rec, ok := s.store.records[key]
	rec.Data = bytes.Clone(rec.Data)
	return rec, ok && !rec.Expired(time.Now().Add(s.store.ahead))
}

// Load implements session.Backend.
func (s *Shelf) Load(ctx context.Context, key string) (session.Record, error) {
	if err := s.open(ctx); err != nil {
		return session.Record{}, err
	}
	defer s.store.mu.Unlock()
	rec, ok := s.live(key)
	if !ok {
		return session.Record{}, session.ErrNotFound
	}
	return rec, nil
}

// Save implements session.Backend.
func (s *Shelf) Save(ctx context.Context, key string, rec session.Record) (session.Version, error) {
	if rec.Expires.IsZero() {
		return "", errors.New("shelf: a record without Expires")
	}
	if len(rec.Data) > maxData {
		return "", fmt.Errorf("shelf: %w: %d bytes", session.ErrTooLarge, len(rec.Data))
	}
	if err := s.open(ctx); err != nil {
		return "", err
	}
	defer s.store.mu.Unlock()
	stored, ok := s.live(key)
	switch {
	case !ok && rec.Version != "":
		return "", &session.ConflictError{Gone: true}
	case ok && rec.Version != stored.Version:
		return "", &session.ConflictError{Current: &stored}
	}
	if ok && rec.KeepLater && stored.Expires.After(rec.Expires) {
		rec.Expires = stored.Expires
	}
	rec = session.Record{Data: bytes.Clone(rec.Data), Created: rec.Created, Expires: rec.Expires, Version: session.Version(rand.Text())}
	s.store.records[key] = rec
	return rec.Version, nil
}

// Touch implements session.Backend.
func (s *Shelf) Touch(ctx context.Context, key string, expires time.Time) error {
	if err := s.open(ctx); err != nil {
		return err
	}
	defer s.store.mu.Unlock()
	rec, ok := s.live(key)
	if !ok {
		return session.ErrNotFound
	}
	if expires.After(rec.Expires) {
		rec.Expires = expires
		s.store.records[key] = rec
	}
	return nil
}

// Delete implements session.Backend.
func (s *Shelf) Delete(ctx context.Context, key string) error {
	if err := s.open(ctx); err != nil {
		return err
	}
	defer s.store.mu.Unlock()
	delete(s.store.records, key)
	return nil
}

// testShelf is called TestConformance in the package of the backend.
func testShelf(t *testing.T) {
	conformance.TestBackend(t, conformance.Backend{
		New: func(testing.TB) session.Backend {
			return &Shelf{&store{records: map[string]session.Record{}}}
		},
		// Another client of the same store.
		Reopen: func(_ testing.TB, b session.Backend) session.Backend {
			return &Shelf{b.(*Shelf).store}
		},
		// Without Advance, the test takes some seconds.
		Advance: func(_ testing.TB, b session.Backend, d time.Duration) {
			b.(*Shelf).set(func(s *store) { s.ahead += d })
		},
		// Without Fail, there is no test of a store that fails.
		Fail: func(_ testing.TB, b session.Backend) (restore func()) {
			b.(*Shelf).set(func(s *store) { s.down = true })
			return func() { b.(*Shelf).set(func(s *store) { s.down = false }) }
		},
		MaxData: maxData,
	})
}

func (s *Shelf) set(change func(s *store)) {
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	change(s.store)
}

// The whole test of a backend, here of one in memory. A backend that implements
// session.LockingBackend, session.TextBackend or admin.Sweeper is tested as that
// too; set WantsLocking, WantsText or WantsSweeper to make sure that it is.
func ExampleTestBackend() {
	_ = testShelf // go test calls it

	shelf := &Shelf{&store{records: map[string]session.Record{}}}
	rec := session.Record{Data: []byte("1"), Created: time.Now(), Expires: time.Now().Add(time.Hour)}
	for range 2 { // the second finds a live record
		_, err := shelf.Save(context.Background(), "key", rec)
		fmt.Println(errors.Is(err, session.ErrConflict))
	}
	// Output:
	// false
	// true
}
