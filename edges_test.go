package session

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session/codec"
)

// TestTouchMovesNothingBack: no plan brings a deadline forward by a Touch, or with a
// Release, which cannot.
func TestTouchMovesNothingBack(t *testing.T) {
	n := 0
	for s := range situations {
		if p := planTimes.plan(s); (p.step == doTouch || p.step == doRelease) && !p.expires.IsZero() && s.by < 0 {
			if n++; n <= 3 {
				t.Errorf("%s -> %s", describe(s), outcome(p))
			}
		}
	}
}

// TestTrailOfKeysWithNewlines: a key may have any characters. The trail must not
// name keys that are not the session's, because these are deleted.
func TestTrailOfKeysWithNewlines(t *testing.T) {
	m := codecCore(codec.MessagePack{}, 0)
	var trail []byte
	for i := range maxTrail + 1 {
		key := "prefix\n" + strconv.Itoa(i)
		var oldest string
		var err error
		if trail, oldest, err = m.extendTrail(trail, key, time.Now().Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
		if oldest != "" && !strings.Contains(oldest, "\n") {
			t.Errorf("%q is to be deleted", oldest)
		}
	}
}
