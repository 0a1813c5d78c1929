package redis

import (
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/conformance"
)

var minis sync.Map

func TestConformance(t *testing.T) {
	t.Run("redis-server", func(t *testing.T) {
		conformance.TestLocker(t, conformance.Locker{
			New: func(t testing.TB) session.Locker {
				return newRig(t, realServer, "conf"+time.Now().Format("150405.000000"))
			},
			Reopen: func(t testing.TB, l session.Locker) session.Locker { return l.(*rig).second(t) },
			Fail: func(_ testing.TB, l session.Locker) func() {
				k := l.(*rig).link
				k.setDown(true)
				return func() { k.setDown(false) }
			},
		})
	})
	t.Run("miniredis", func(t *testing.T) {
		conformance.TestLocker(t, conformance.Locker{
			New: func(t testing.TB) session.Locker {
				m := miniredis.RunT(t)
				r := newRig(t, m.Addr(), "")
				minis.Store(r, m)
				return r
			},
			Advance: func(_ testing.TB, l session.Locker, d time.Duration) {
				m, _ := minis.Load(l)
				m.(*miniredis.Miniredis).FastForward(d)
			},
			Reopen: func(t testing.TB, l session.Locker) session.Locker { return l.(*rig).second(t) },
		})
	})
}
