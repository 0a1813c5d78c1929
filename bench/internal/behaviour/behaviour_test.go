package behaviour

import "testing"

// TestOurs checks that our library keeps everything. The comparison reports the
// others, which may change.
func TestOurs(t *testing.T) {
	Quiet()
	for _, b := range All() {
		t.Run(b.Name, func(t *testing.T) {
			t.Parallel()
			r, err := b.Against(t.Context(), ours("memory"), Env{})
			if err != nil {
				t.Fatal(err)
			}
			if r.Verdict != Kept {
				t.Errorf("%v, %s: %s", r.Verdict, r.Short, r.Seen)
			}
		})
	}
}

// TestSeesLosses checks that the programs find losses where there are some.
func TestSeesLosses(t *testing.T) {
	Quiet()
	for _, p := range Peers() {
		if p.Needs != "" || p.Module != "github.com/gorilla/sessions" {
			continue
		}
		t.Run(p.Name, func(t *testing.T) {
			t.Parallel()
			for _, b := range []Behaviour{parallelKeys, logout} {
				r, err := b.Against(t.Context(), p, Env{})
				if err != nil {
					t.Fatal(err)
				}
				if r.Verdict != Lost {
					t.Errorf("%s: %v, %s: %s", b.Name, r.Verdict, r.Short, r.Seen)
				}
			}
		})
	}
}

// TestAdapters checks what survives through the adapters. What they lose is what
// their library loses before it asks a store: scs does not see a Flush.
func TestAdapters(t *testing.T) {
	Quiet()
	for _, p := range []Peer{adapterSCS, adapterGorilla, adapterGin, adapterFiber} {
		for _, b := range All() {
			t.Run(p.Name+", "+b.Name, func(t *testing.T) {
				t.Parallel()
				r, err := b.Against(t.Context(), p, Env{})
				if err != nil {
					t.Fatal(err)
				}
				want := Kept
				switch {
				case p.Name == adapterSCS.Name && b.Name == flush.Name:
					want = Lost
				case p.Name == adapterGin.Name && b.Name == rotation.Name:
					want = NotApplicable
				}
				if r.Verdict != want {
					t.Errorf("%v, want %v, %s: %s", r.Verdict, want, r.Short, r.Seen)
				}
			})
		}
	}
}
