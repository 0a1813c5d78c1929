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
