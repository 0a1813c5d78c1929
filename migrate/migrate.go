package migrate

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/admin"
)

// Source is a store that sessions move away from. [From] makes one of a backend of
// this module, and [SCS] one of a store of another library.
//
// What [session.Backend] says about concurrency, contexts and failures applies to
// a Source. A store that fails must not look like one that has no session.
type Source interface {
	// Load returns the session at key, with its data as the codec of the Manager
	// writes it. It fails with session.ErrNotFound if there is none. Its Version
	// may be empty.
	Load(ctx context.Context, key string) (session.Record, error)

	// Remove takes the session away for good, on condition that it still is what
	// Load returned. If it has changed, Remove fails with session.ErrConflict. If
	// it is gone already, that is no error, or session.ErrNotFound.
	Remove(ctx context.Context, key string, loaded session.Record) error
}

// Phase says which of the two stores is used for what. See the comment of the
// package.
type Phase int

const (
	// Move takes a session from the old store when it is used, and creates new
	// ones in the new store.
	Move Phase = iota
	// Hold leaves sessions in the old store, and creates new ones there. It needs a
	// Source of [From].
	Hold
	// Drain is Move after the last server has left Hold: no session is created in
	// the old store any more.
	Drain
	// Gone does not ask the old store.
	Gone
)

func (p Phase) String() string {
	switch p {
	case Move:
		return "Move"
	case Hold:
		return "Hold"
	case Drain:
		return "Drain"
	case Gone:
		return "Gone"
	}
	return "Phase(" + strconv.Itoa(int(p)) + ")"
}

// Config has the settings of [New]. The zero Config moves sessions.
type Config struct {
	// Phase is the same on all servers, or that of a neighbour while it changes.
	// Default Move.
	Phase Phase

	// TokenKeys is for a Source whose keys are the tokens themselves, as those of
	// other libraries are. The Manager must have [StoreKey] as its StoreKey.
	// Default false: both stores have the same keys.
	TokenKeys bool
}

const (
	// moveTime is the longest time from reading an old record to writing its copy.
	moveTime = time.Minute
	// tombLife must be longer than moveTime: a request that read an old record
	// before the logout finds the tombstone when it creates the copy. The rest is
	// for clocks that differ, and for requests that are late in the network.
	tombLife = 10 * moveTime
	// claimLife must be longer than a Save that creates takes.
	claimLife = 10 * time.Minute
	// maxTries is how often a call begins again because other requests were faster.
	maxTries = 100
)

var (
	errBusy       = errors.New("migrate: the session changed again and again while it was moved")
	errUnfinished = errors.New("migrate: a session has not completed its move; go back to phase Drain, and run sessionctl migrate")
)

// New returns a backend that keeps sessions in newBackend, and takes those that are
// still in old from there. It makes no request. It is a [session.LockingBackend],
// an [admin.Lister] and an [admin.Sweeper] if newBackend is one, and in phase Hold
// if both backends are.
//
// An unknown phase is an error, as is Hold with a Source that is not of From, and a
// Source that is missing in another phase than Gone.
func New(newBackend session.Backend, old Source, cfg Config) (session.Backend, error) {
	from, _ := old.(*fromBackend)
	switch {
	case newBackend == nil:
		return nil, errors.New("migrate: New needs a new backend")
	case cfg.Phase < Move || cfg.Phase > Gone:
		return nil, fmt.Errorf("migrate: unknown phase %v", cfg.Phase)
	case old == nil && cfg.Phase != Gone:
		return nil, fmt.Errorf("migrate: phase %v needs a Source", cfg.Phase)
	case from != nil && from.backend == nil:
		return nil, errors.New("migrate: From needs a backend")
	case from != nil && reflect.ValueOf(newBackend).Comparable() && from.backend == newBackend:
		return nil, errors.New("migrate: the old backend is the new one")
	case cfg.Phase == Hold && from == nil:
		return nil, fmt.Errorf("migrate: phase Hold creates sessions in the old store, and a %T cannot do that; use From", old)
	case from != nil && cfg.TokenKeys:
		return nil, errors.New("migrate: TokenKeys with a Source of From, whose keys are those of the Manager")
	}
	m := &mover{phase: cfg.Phase, source: old, tokens: cfg.TokenKeys}
	m.fresh = store{name: "new", backend: newBackend, key: m.newKey}
	m.fresh.locking, _ = newBackend.(session.LockingBackend)
	m.fresh.lister, _ = newBackend.(admin.Lister)
	if from != nil {
		m.old = store{name: "old", backend: from.backend, key: from.key}
		m.old.locking, _ = from.backend.(session.LockingBackend)
		m.mapped = from.mapped
		if !m.mapped {
			m.old.lister, _ = from.backend.(admin.Lister)
		}
	}
	if m.phase == Hold {
		m.fresh.tag = tag
	} else {
		m.old.tag = tag
	}
	return m.face(), nil
}

// mover is the backend that New returns, without its optional methods.
type mover struct {
	phase  Phase
	source Source
	tokens bool
	mapped bool  // the old store has other keys
	fresh  store // the new store
	old    store // the old store, if it is a backend
}

// store is one of the two backends.
type store struct {
	name    string
	backend session.Backend
	locking session.LockingBackend // nil if it does not lock
	lister  admin.Lister           // nil if it does not list
	key     func(string) string
	tag     string // in front of the versions of this store, for a Manager
}

// tag marks the versions of the store that the phase does not write to by itself.
// The versions of the other one are as they will be without this package, because
// a Manager stores some of them.
const tag = "session/migrate:"

// of returns the store that a version of the Manager is of, and the version there.
func (m *mover) of(v session.Version) (*store, session.Version) {
	tagged := len(v) >= len(tag) && v[:len(tag)] == tag
	switch {
	case tagged && m.phase == Hold:
		return &m.fresh, v[len(tag):]
	case tagged && m.old.backend != nil && m.phase != Gone:
		return &m.old, v[len(tag):]
	case m.phase == Hold:
		return &m.old, v
	}
	return &m.fresh, v
}

// load returns the record at key, whatever its kind.
func (s *store) load(ctx context.Context, key string) (found, error) {
	rec, err := s.backend.Load(ctx, s.key(key))
	return s.found(rec, err)
}

func (s *store) found(rec session.Record, err error) (found, error) {
	switch {
	case errors.Is(err, session.ErrNotFound):
		return found{}, nil
	case err != nil:
		return found{}, fmt.Errorf("migrate: %s store: %w", s.name, err)
	}
	return read(rec)
}

func (s *store) save(ctx context.Context, key string, rec session.Record) (session.Version, error) {
	v, err := s.backend.Save(ctx, s.key(key), rec)
	if err != nil {
		return "", fmt.Errorf("migrate: %s store: %w", s.name, err)
	}
	return v, nil
}

// refused returns the record that made a Save fail with err, read again if the
// store did not hand it over; or ok false if err is not a conflict.
func (s *store) refused(ctx context.Context, key string, err error) (f found, ok bool, _ error) {
	var conflict *session.ConflictError
	if !errors.As(err, &conflict) {
		return found{}, false, err
	}
	if conflict.Current != nil {
		f, err = read(*conflict.Current)
	} else {
		f, err = s.load(ctx, key)
	}
	return f, err == nil, err
}

// tagged returns rec with its version as the Manager gets it.
func (s *store) tagged(rec session.Record) session.Record {
	rec.Version = session.Version(s.tag) + rec.Version
	return rec
}

// Load implements [session.Backend].
func (m *mover) Load(ctx context.Context, key string) (session.Record, error) {
	s, rec, err := m.find(ctx, key)
	if err != nil {
		return session.Record{}, err
	}
	return s.tagged(rec), nil
}

// Touch implements [session.Backend].
func (m *mover) Touch(ctx context.Context, key string, expires time.Time) error {
	s, _, err := m.find(ctx, key)
	if err != nil {
		return err
	}
	return s.backend.Touch(ctx, s.key(key), expires)
}

// TextOnly implements [session.TextBackend].
func (m *mover) TextOnly() bool {
	text := func(b session.Backend) bool {
		t, ok := b.(session.TextBackend)
		return ok && t.TextOnly()
	}
	return text(m.fresh.backend) || m.phase == Hold && text(m.old.backend)
}

// Shared implements [session.SharedBackend].
func (m *mover) Shared() bool { return m.fresh.shared() || m.old.shared() }

func (s *store) shared() bool {
	b, ok := s.backend.(session.SharedBackend)
	return ok && b.Shared()
}

// CheckConfig implements [session.SharedBackend]. Nothing can be moved into a store
// that another program uses, because that would find what this package keeps there.
func (m *mover) CheckConfig(cfg session.Config) error {
	if m.fresh.shared() {
		return fmt.Errorf("migrate: the new backend, a %T, is shared with another program, which would find copies and tombstones there", m.fresh.backend)
	}
	for _, s := range []*store{&m.fresh, &m.old} {
		b, ok := s.backend.(session.SharedBackend)
		if !ok {
			continue
		}
		of := cfg
		of.StoreKey = func(token string) string { return s.key(cfg.StoreKey(token)) }
		if err := b.CheckConfig(of); err != nil {
			return err
		}
	}
	return nil
}

// pause lets other requests go first, after some tries.
func pause(ctx context.Context, try int) error {
	if try < 3 {
		return ctx.Err()
	}
	t := time.NewTimer(time.Duration(min(try, 20)) * time.Millisecond)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
