package redisstore

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/conformance"
)

const testMaxSize = 256 << 10

// rig is a Backend with the parts that a test needs.
type rig struct {
	*Backend
	c      Config
	link   *link
	client *redis.Client
	mini   *miniredis.Miniredis // nil with a real server
	ahead  *atomic.Int64        // how far the clock of mini is ahead
}

// newRig returns a Backend on the real server, with a prefix of its own.
func newRig(t testing.TB, c Config) *rig {
	t.Helper()
	return rigOn(t, realServer, c)
}

func rigOn(t testing.TB, addr string, c Config) *rig {
	t.Helper()
	r := &rig{link: newLink()}
	r.client = redis.NewClient(r.link.options(addr))
	t.Cleanup(func() { _ = r.client.Close() })
	if c.Prefix == "" {
		c.Prefix = newPrefix()
	}
	var err error
	if r.Backend, err = New(r.client, c); err != nil {
		t.Fatal(err)
	}
	r.c = c
	return r
}

var prefixes atomic.Int64

func newPrefix() string {
	return "test" + time.Now().Format("150405.000000000") + string(rune('a'+prefixes.Add(1)%26)) + ":"
}

// newMiniRig returns a Backend on a miniredis of its own. Adding to ahead moves
// the clock of that.
func newMiniRig(t testing.TB, c Config) *rig {
	t.Helper()
	m := miniredis.RunT(t)
	m.ClockTTL(true)
	return onMini(t, m, new(atomic.Int64), c)
}

func onMini(t testing.TB, m *miniredis.Miniredis, ahead *atomic.Int64, c Config) *rig {
	t.Helper()
	r := rigOn(t, m.Addr(), c)
	r.mini, r.ahead = m, ahead
	r.link.before = func() { m.SetTime(time.Now().Add(time.Duration(ahead.Load()))) }
	return r
}

// second returns another client of the same store.
func (r *rig) second(t testing.TB) *rig {
	t.Helper()
	if r.mini != nil {
		return onMini(t, r.mini, r.ahead, r.c)
	}
	return rigOn(t, r.client.Options().Addr, r.c)
}

func TestConformance(t *testing.T) {
	suite := conformance.Backend{
		Reopen: func(t testing.TB, b session.Backend) session.Backend {
			t.Helper()
			return b.(*rig).second(t)
		},
		Fail: func(_ testing.TB, b session.Backend) func() {
			l := b.(*rig).link
			l.setDown(true)
			return func() { l.setDown(false) }
		},
		Hold:         func(_ testing.TB, b session.Backend) func() { return b.(*rig).link.hold() },
		WantsLocking: true,
		MaxData:      testMaxSize,
	}
	t.Run("miniredis", func(t *testing.T) {
		suite := suite
		suite.New = func(t testing.TB) session.Backend {
			t.Helper()
			return newMiniRig(t, Config{MaxSize: testMaxSize})
		}
		suite.Advance = func(_ testing.TB, b session.Backend, d time.Duration) { b.(*rig).ahead.Add(int64(d)) }
		conformance.TestBackend(t, suite)
	})
	t.Run("redis-server", func(t *testing.T) {
		suite := suite
		suite.New = func(t testing.TB) session.Backend {
			t.Helper()
			return newRig(t, Config{MaxSize: testMaxSize})
		}
		// Here the failing server hangs.
		suite.Fail = func(_ testing.TB, b session.Backend) func() {
			l := b.(*rig).link
			l.set(func() { l.hung = true })
			return func() { l.set(func() { l.hung = false }) }
		}
		conformance.TestBackend(t, suite)
	})
}

// hold keeps back the next script. Its sender sees the connection break.
func (l *link) hold() (deliver func()) {
	l.set(func() {
		l.deliver = nil
		l.lose = func(name string) loss {
			if !strings.HasPrefix(name, "eval") {
				return nothing
			}
			l.lose = nil
			return late
		}
	})
	return func() {
		var deliver func()
		l.set(func() { deliver, l.deliver = l.deliver, nil })
		if deliver != nil {
			deliver()
		}
	}
}
