package backchannel

import (
	"encoding/binary"
	"testing"
	"time"
)

// TestDoneBounds checks that the memory of the tokens that are done has a limit,
// and that the oldest is forgotten first.
func TestDoneBounds(t *testing.T) {
	var d done
	id := func(n int) (id digest) {
		binary.BigEndian.PutUint64(id[:], uint64(n))
		return id
	}
	start := time.Now()
	at := func(n int) time.Time { return start.Add(time.Duration(n) * time.Millisecond) }
	for n := range 3 * maxDone {
		d.add(id(n), at(n+4*maxDone), at(n))
		d.add(id(n), at(n+4*maxDone), at(n))
		if len(d.set) != len(d.queue) || len(d.set) != min(n+1, maxDone) {
			t.Fatalf("%d of %d after %d", len(d.set), len(d.queue), n)
		}
	}
	for n, want := range map[int]bool{0: false, 2*maxDone - 1: false, 2 * maxDone: true, 3*maxDone - 1: true, 3 * maxDone: false} {
		if d.has(id(n)) != want {
			t.Errorf("has %d: %v", n, !want)
		}
	}
	d.add(id(-1), at(10*maxDone), at(9*maxDone))
	if len(d.set) != 1 || len(d.queue) != 1 || !d.has(id(-1)) {
		t.Errorf("%d of %d, after all but one have ended", len(d.set), len(d.queue))
	}
}
