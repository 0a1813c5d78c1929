package owners

import (
	"math/rand/v2"
	"testing"

	"github.com/seed-a7bee19b/session/migrate"
)

// TestMigrate has the machines in neighbouring phases of a move to another store. What
// sessions promise holds as if there were one.
func TestMigrate(t *testing.T) {
	const hold, move, drain = migrate.Hold, migrate.Move, migrate.Drain
	for name, phases := range map[string][]migrate.Phase{ // the first one only begins some sessions
		"Hold and Move":  {hold, hold, move, hold, move},
		"Move and Hold":  {hold, move, hold, move, hold},
		"Move":           {hold, move},
		"Move and Drain": {hold, move, drain},
	} {
		t.Run(name, func(t *testing.T) {
			var n tally
			for i := range uint64(*histories) {
				rng := rand.New(rand.NewPCG(*seed, i))
				n.check(t, random(rng), func(t *testing.T, w *world) {
					w.phases = phases
					w.draw(t, rng)
				})
				if t.Failed() {
					t.Fatalf("history %d", i)
				}
			}
			for _, sc := range scenarios {
				explore(max(1, *schedules/5), func(choose chooser) bool {
					return n.check(t, choose, func(t *testing.T, w *world) {
						w.phases = phases
						sc.setUp(t, w)
					})
				})
			}
			t.Log(n)
		})
	}
}
