//go:build unix

package filestore

import (
	"errors"
	"os"
	"testing"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/conformance"
)

func TestConformance(t *testing.T) {
	conformance.TestBackend(t, conformance.Backend{
		New:    func(t testing.TB) session.Backend { return open(t, t.TempDir()) },
		Reopen: func(t testing.TB, b session.Backend) session.Backend { return open(t, b.(*Store).dir) },
		Fail: func(t testing.TB, b session.Backend) func() {
			dir := b.(*Store).dir
			move(t, dir, dir+"-away")
			return func() { move(t, dir+"-away", dir) }
		},
	})
}

func open(t testing.TB, dir string) *Store {
	store, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return store
}

func move(t testing.TB, from, to string) {
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

// TestOwners lists and ends the sessions of a user: a Backend needs nothing for
// that but its four methods.
func TestOwners(t *testing.T) {
	m, err := session.New(open(t, t.TempDir()), session.Config{Owners: session.OwnersConfig{Index: true}})
	if err != nil {
		t.Fatal(err)
	}
	var tokens []string
	for range 40 { // more than one record has room for
		s := m.Start()
		if err := s.Login("ann"); err != nil {
			t.Fatal(err)
		}
		if err := s.Save(t.Context()); err != nil {
			t.Fatal(err)
		}
		tokens = append(tokens, s.Token().Reveal())
	}
	n := 0
	for _, err := range m.Sessions(t.Context(), session.User("ann")) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	if n != len(tokens) {
		t.Errorf("%d sessions are listed, want %d", n, len(tokens))
	}
	if err := m.Revoke(t.Context(), session.User("ann")); err != nil {
		t.Fatal(err)
	}
	for _, token := range tokens {
		if _, err := m.Open(t.Context(), token); !errors.Is(err, session.ErrNotFound) {
			t.Fatalf("got %v", err)
		}
	}
}
