//go:build unix

package filestore

import (
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
