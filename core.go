package session

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/seed-a7bee19b/session/internal/line"
	"github.com/seed-a7bee19b/session/internal/watch"
)

// core is shared by a Manager and the views that [Manager.With] returns.
type core struct {
	storage
	cfg       Config // with every default filled in
	lifetimes lifetimes
	waiters   line.Lines[Record]    // of requests that want a lock
	writers   line.Lines[Record]    // of requests that save and are in the way of each other
	owners    line.Lines[Record]    // of requests that change the record of an owner
	watches   watch.Watches[[]byte] // of streams; a look finds the user, encoded
	locks     atomic.Bool           // there is a Manager with mode Exclusive
	shared    bool                  // another program reads and writes the sessions too
	rests     atomic.Int64          // until when no deadline is moved; Unix nanoseconds
}

func newCore(backend Backend, cfg Config) *core {
	cfg.Tokens = cfg.Tokens.withDefaults()
	m := &core{cfg: cfg, lifetimes: newLifetimes(cfg)}
	m.storage = storage{backend: backend, locker: cfg.Lock.Locker, observer: cfg.Observer}
	if m.locker == nil {
		m.locking, _ = backend.(LockingBackend)
	}
	if b, ok := backend.(SharedBackend); ok {
		m.shared = b.Shared()
	}
	return m
}

func (m *core) encode(v any) ([]byte, error) {
	data, err := m.cfg.Codec.Marshal(v)
	if err == nil && len(data) == 0 {
		err = errors.New("the codec made nothing of it")
	}
	if err != nil {
		return nil, fmt.Errorf("%w a %T: %w", ErrEncode, v, err)
	}
	return data, nil
}

// decode decodes data into dst, a pointer.
func (m *core) decode(data []byte, dst any) error {
	if err := m.cfg.Codec.Unmarshal(data, dst); err != nil {
		return fmt.Errorf("%w into a %T: %w", ErrDecode, dst, err)
	}
	return nil
}

// moveTimeout bounds a call that only moves a deadline or frees a lock before a
// response, so that no page waits long for it.
func (m *core) moveTimeout() time.Duration { return m.cfg.CommitTimeout / 10 }

// restTime is how long responses do not wait for a deadline to be moved, after that
// has failed for one, unless the session would end by then.
const restTime = 5 * time.Second

func (m *core) rest() { m.rests.Store(time.Now().Add(restTime).UnixNano()) }

// resting reports whether not to move the deadline due.
func (m *core) resting(due time.Time) bool {
	until := time.Unix(0, m.rests.Load())
	return time.Now().Before(until) && due.After(until)
}

// troubled reports whether that was a moment ago.
func (m *core) troubled() bool { return time.Now().Before(time.Unix(0, m.rests.Load())) }
