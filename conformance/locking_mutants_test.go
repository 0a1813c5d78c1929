package conformance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session"
)

// lockingMutants are LockingBackends with one fault each, and the rule that has to
// fail on it. All other rules have to pass, also those about a Backend.
var lockingMutants = []mutant{
	{"no LockingBackend", "LockingBackend"},
	{"acquire returns no data", "Acquire"},
	{"acquire returns the end of the lease as expires", "Acquire"},
	{"acquire waits", "AcquireLocked"},
	{"acquire is reentrant", "AcquireLocked"},
	{"acquire locked error of no type", "AcquireLocked"},
	{"acquire that is refused ends the lock", "AcquireLocked"},
	{"acquire creates", "AcquireAbsent"},
	{"acquire of absent is a conflict", "AcquireAbsent"},
	{"acquire takes what has expired", "AcquireExpired"},
	{"acquire revives expired", "AcquireExpired"},
	{"acquire takes any ttl", "AcquireTTL"},
	{"acquire locks, then looks at the ttl", "AcquireTTL"},
	{"acquire returns its own data", "AcquiredData"},
	{"save ignores the lock", "LockedSave"},
	{"create under a lock is a conflict", "LockedSave"},
	{"stale save under a lock is a conflict", "LockedSave"},
	{"save under a lock moves expires", "LockedSaveWritesNothing"},
	{"save under a lock takes any holder's version", "LockedSaveWritesNothing"},
	{"save under a lock ends it", "LockedSaveWritesNothing"},
	{"load without LockedUntil", "LockedLoad"},
	{"load returns the holder's version", "LockedLoad"},
	{"touch under a lock is refused", "LockedTouch"},
	{"touch ends the lock", "LockedTouch"},
	{"touch renews the holder's version", "LockedTouch"},
	{"delete under a lock is refused", "LockedDelete"},
	{"lock outlives delete", "LockedDelete"},
	{"lock outlives expiry", "LockedExpired"},
	{"release revives expired", "LockedExpired"},
	{"extend of expired is not found", "LockedExpired"},
	{"load says half of the lease", "LockedUntil"},
	{"locked error says now", "LockedUntil"},
	{"acquire does not say until when", "LockedUntil"},
	{"save keeps LockedUntil", "LockedUntilIgnored"},
	{"locks fold case", "LockKeys"},
	{"locks cut at 255", "LockKeys"},
	{"lock takes room", "LockLarge"},
	{"locks are the client's", "LockClients"},
	{"client remembers what it holds", "LockClients"},
	{"holder's save does not unlock", "HolderSave"},
	{"holder's save writes no data", "HolderSave"},
	{"holder's save returns its version", "HolderSave"},
	{"holder's save creates", "HolderAfterDelete"},
	{"holder of deleted is told not found", "HolderAfterDelete"},
	{"holder's version comes again", "HolderVersion"},
	{"lease of half its ttl", "LeaseHolds"},
	{"save sees half of the lease", "LeaseHolds"},
	{"lock without lease", "LeaseEnds"},
	{"lease ends by acquire only", "LeaseEnds"},
	{"save ignores the fence", "TakeoverByAcquire"},
	{"former holder is told locked", "TakeoverByAcquire"},
	{"extend after takeover is fine", "TakeoverByAcquire"},
	{"release after takeover unlocks", "TakeoverByAcquire"},
	{"lock outlives a save after its lease", "TakeoverBySave"},
	{"conflict carries the holder's version", "TakeoverBySave"},
	{"late save is another error", "SaveAfterLease"},
	{"late save writes and is a conflict", "SaveAfterLease"},
	{"late release clears data", "SaveAfterLease"},
	{"extend does nothing", "Extend"},
	{"extend changes the version", "Extend"},
	{"extend only lengthens", "Extend"},
	{"extend takes any ttl", "ExtendTTL"},
	{"extend takes any version", "ExtendLost"},
	{"extend locks what is free", "ExtendLost"},
	{"extend of absent is not found", "ExtendLost"},
	{"extend after the lease", "ExtendAfterLease"},
	{"release does not unlock", "Release"},
	{"release is a new state", "Release"},
	{"load under a lock has a version of its own", "Release"},
	{"release leaves no expires alone", "ReleaseExpires"},
	{"release ignores expires", "ReleaseExpires"},
	{"release shortens", "ReleaseExpires"},
	{"release of what is free is fine", "ReleaseLost"},
	{"release without owner check", "ReleaseLost"},
	{"release moves expires, then looks at the owner", "ReleaseLost"},
	{"acquire ignores a done context", "DoneContextAcquire"},
	{"extend ignores a done context", "DoneContextExtend"},
	{"extend hides the context's error", "DoneContextExtend"},
	{"release ignores a done context", "DoneContextRelease"},
	{"release waits without the context", "ContextEndsLease"},
	{"acquire hangs with the store", "ContextEndsLease"},
	{"acquire failure is locked", "StoreFailureLease"},
	{"acquire failure is not found", "StoreFailureLease"},
	{"extend failure is a conflict", "StoreFailureLease"},
	{"release failure is nil", "StoreFailureLease"},
	{"acquire checks, then writes", "RaceAcquire"},
	{"holder's save checks, then writes", "RaceLock"},
	{"save looks for a lock, then writes", "RaceLockedSave"},
	{"release checks, then unlocks", "RaceTakeover"},
	{"extend checks, then extends", "RaceTakeover"},
	{"acquire writes back what it read", "RaceLockTouch"},
	{"release writes back what it read", "RaceLockTouch"},
	{"acquire puts back what it read", "RaceLockDelete"},
	{"extend puts back what it read", "RaceLockDelete"},
}

func TestLockingMutants(t *testing.T) {
	t.Parallel()
	testMutants(t, lockingMutants, func(t *testing.T, m mutant) map[string]string { return failures(t, modelLocking(m.bug), m) })
}

func modelLocking(bug string) Backend {
	of := func(b session.Backend) *lockingModel {
		if hidden, ok := b.(struct{ session.Backend }); ok {
			b = hidden.Backend
		}
		return b.(*lockingModel)
	}
	wrap := func(l *lockingModel) session.Backend {
		if bug == "no LockingBackend" {
			return struct{ session.Backend }{l}
		}
		return l
	}
	return Backend{
		WantsLocking: true,
		New: func(t testing.TB) session.Backend {
			store := &lockingStore{
				records: map[string]*leased{}, known: map[string]bool{}, issued: map[session.Version]bool{}, ended: make(chan struct{}),
			}
			t.Cleanup(func() { close(store.ended) })
			return wrap(&lockingModel{lockingStore: store, bug: bug})
		},
		Reopen: func(_ testing.TB, b session.Backend) session.Backend {
			return wrap(&lockingModel{lockingStore: of(b).lockingStore, bug: bug})
		},
		Advance: func(_ testing.TB, b session.Backend, d time.Duration) {
			m := of(b)
			m.mu.Lock()
			defer m.mu.Unlock()
			m.ahead += d
		},
		Fail: func(_ testing.TB, b session.Backend) func() {
			m := of(b)
			set := func(down bool) {
				m.mu.Lock()
				defer m.mu.Unlock()
				m.down = down
			}
			set(true)
			return func() { set(false) }
		},
		MaxData: modelMaxData,
	}
}

// A lockingModel is a client of a store in memory that locks. It is written for its
// bugs and is no example of a backend.
type lockingModel struct {
	*lockingStore
	bug  string
	mine sync.Map // versions of the locks that this client holds, to true
}

type lockingStore struct {
	mu      sync.Mutex
	records map[string]*leased
	known   map[string]bool          // keys that have had a record
	issued  map[session.Version]bool // versions of holders that have not released
	last    int
	ahead   time.Duration
	down    bool
	ended   chan struct{} // closed after the rule, for calls that hang
}

// A leased is a record with its last lock. Without a token the lock is over.
type leased struct {
	rec    session.Record
	token  string
	until  time.Time
	ttl    time.Duration
	client *lockingModel
}

func (m *lockingModel) now() time.Time { return time.Now().Add(m.ahead) }

// gap lets other calls run between two steps that should be one.
func (m *lockingModel) gap() {
	m.mu.Unlock()
	time.Sleep(rand.N(4 * time.Millisecond))
	m.mu.Lock()
}

func (m *lockingModel) enter(ctx context.Context, method string) error {
	if err := ctx.Err(); err != nil && m.bug != method+" ignores a done context" {
		if m.bug == method+" hides the context's error" {
			return errors.New("model: gave up")
		}
		return err
	}
	m.mu.Lock()
	down := m.down
	if m.bug == method+" waits without the context" && ctx.Done() != nil && !down {
		m.mu.Unlock()
		<-m.ended
		m.mu.Lock()
	}
	if !down {
		return nil
	}
	m.mu.Unlock()
	if _, ok := ctx.Deadline(); m.bug == method+" hangs with the store" && !ok {
		<-m.ended
	}
	switch m.bug {
	case method + " failure is locked":
		return &session.LockedError{}
	case method + " failure is not found":
		return session.ErrNotFound
	case method + " failure is a conflict":
		return &session.ConflictError{}
	case method + " failure is nil":
		return errModelNil
	}
	return errModelDown
}

// live reports whether the lock of r is live.
func (m *lockingModel) live(r *leased) bool {
	if r == nil || r.token == "" {
		return false
	}
	switch m.bug {
	case "lock without lease":
		return true
	case "lease of half its ttl":
		return m.now().Before(r.until.Add(-r.ttl / 2))
	}
	return m.now().Before(r.until)
}

func (m *lockingModel) version() session.Version {
	m.last++
	return session.Version(fmt.Sprintf("v%d", m.last))
}

func (r *leased) holder() session.Version { return r.rec.Version + session.Version("."+r.token) }

// isHolder reports whether v is the version of the last lock of r.
func (m *lockingModel) isHolder(r *leased, v session.Version) bool {
	if m.bug == "client remembers what it holds" {
		if _, ok := m.mine.Load(v); !ok && strings.Contains(string(v), ".") {
			return false
		}
	}
	if m.bug == "lock outlives a save after its lease" && r != nil && r.token != "" && strings.HasSuffix(string(v), "."+r.token) {
		return true
	}
	return r != nil && r.token != "" && v == r.holder()
}

// formerOf reports whether v is the version of a holder that has lost its lock of r.
func (m *lockingModel) formerOf(r *leased, v session.Version) bool {
	return m.live(r) && m.issued[v] && v != r.holder() && strings.HasPrefix(string(v), string(r.rec.Version)+".")
}

func (m *lockingModel) lockedError(r *leased) error {
	if m.bug == "locked error says now" {
		return &session.LockedError{Until: m.now()}
	}
	return &session.LockedError{Until: r.until}
}

func (m *lockingModel) Load(ctx context.Context, key string) (session.Record, error) {
	if err := m.enter(ctx, "load"); err != nil {
		return session.Record{}, err
	}
	defer m.mu.Unlock()
	r := m.records[key]
	if r == nil {
		return session.Record{}, session.ErrNotFound
	}
	rec := r.rec
	rec.Data = bytes.Clone(rec.Data)
	if !m.live(r) {
		if m.bug != "save keeps LockedUntil" {
			rec.LockedUntil = time.Time{}
		}
		return rec, nil
	}
	rec.LockedUntil = r.until
	switch m.bug {
	case "load without LockedUntil":
		rec.LockedUntil = time.Time{}
	case "load returns the holder's version":
		rec.Version = r.holder()
	case "load says half of the lease":
		rec.LockedUntil = r.until.Add(-r.ttl / 2)
	case "load under a lock has a version of its own":
		rec.Version += "~"
	}
	return rec, nil
}

func (m *lockingModel) Save(ctx context.Context, key string, rec session.Record) (session.Version, error) {
	if err := m.enter(ctx, "save"); err != nil {
		return "", err
	}
	defer m.mu.Unlock()
	now := m.now()
	if rec.Expires.IsZero() {
		return "", errors.New("model: no Expires")
	}
	if len(rec.Data) > modelMaxData {
		return "", session.ErrTooLarge
	}
	r := m.records[key]
	live := r != nil && !r.rec.Expired(now)
	ofHolder := strings.Contains(string(rec.Version), ".")
	switch deleted := r == nil && ofHolder; {
	case live || rec.Version == "":
	case deleted && m.bug == "holder's save creates":
	case deleted && m.bug == "holder of deleted is told not found":
		return "", session.ErrNotFound
	default:
		return "", &session.ConflictError{Gone: true}
	}
	if m.bug == "lock outlives expiry" && r != nil && !live && m.live(r) {
		return "", m.lockedError(r)
	}
	if !live {
		next := &leased{rec: rec}
		if m.bug == "lock outlives delete" && rec.Version == "" {
			if lock := m.records["lock of "+key]; lock != nil {
				next.token, next.until = lock.token, lock.until
			}
		}
		return m.write(key, next, rec), nil
	}

	held, holder := m.live(r), m.isHolder(r, rec.Version)
	switch m.bug {
	case "save sees half of the lease":
		held = held && now.Before(r.until.Add(-r.ttl/2))
	case "lease ends by acquire only":
		held = r.token != ""
	case "locks are the client's":
		held = held && r.client == m
	case "save ignores the fence":
		holder = holder || m.formerOf(r, rec.Version)
	case "save under a lock takes any holder's version":
		holder = holder || held && strings.HasPrefix(string(rec.Version), string(r.rec.Version)+".") && len(rec.Version) > len(r.holder())
	}
	if holder {
		return m.saveByHolder(key, r, rec, now)
	}
	if held && (!ofHolder || m.bug == "former holder is told locked") {
		switch {
		case m.bug == "save ignores the lock" && rec.Version == r.rec.Version:
			return m.write(key, &leased{rec: rec}, rec), nil
		case m.bug == "create under a lock is a conflict" && rec.Version == "",
			m.bug == "stale save under a lock is a conflict" && rec.Version != "" && rec.Version != r.rec.Version:
			return "", m.conflict(r)
		case m.bug == "save under a lock moves expires":
			r.rec.Expires = rec.Expires
		case m.bug == "save under a lock ends it" && rec.Version == "no such version":
			r.token = ""
		}
		return "", m.lockedError(r)
	}
	if rec.Version != r.rec.Version {
		return "", m.conflict(r)
	}
	if m.bug == "save looks for a lock, then writes" {
		m.gap()
		if now := m.records[key]; now == nil || now.rec.Version != rec.Version {
			return "", &session.ConflictError{}
		}
	}
	next := &leased{rec: rec}
	if m.bug == "lock outlives a save after its lease" {
		next.token, next.until = r.token, r.until
		next.rec.LockedUntil = time.Time{}
		v := m.write(key, next, rec)
		next.client = r.client
		return v, nil
	}
	return m.write(key, next, rec), nil
}

func (m *lockingModel) conflict(r *leased) error {
	current := r.rec
	current.Data = bytes.Clone(current.Data)
	if m.bug == "conflict carries the holder's version" && r.token != "" {
		current.Version = r.holder()
	}
	return &session.ConflictError{Current: &current}
}

func (m *lockingModel) saveByHolder(key string, r *leased, rec session.Record, now time.Time) (session.Version, error) {
	if !now.Before(r.until) {
		switch m.bug {
		case "late save is another error":
			return "", errors.New("model: late")
		case "late save writes and is a conflict":
			r.rec.Data = bytes.Clone(rec.Data)
			return "", &session.ConflictError{}
		}
	}
	before, next := rec.Version, &leased{rec: rec}
	switch m.bug {
	case "holder's save checks, then writes":
		m.gap()
		if m.records[key] == nil {
			return "", &session.ConflictError{Gone: true}
		}
	case "holder's save does not unlock":
		next.token, next.until, next.ttl, next.client = r.token+"x", r.until, r.ttl, r.client
	case "holder's save writes no data":
		rec.Data = r.rec.Data
	}
	v := m.write(key, next, rec)
	if m.bug == "holder's save returns its version" {
		return before, nil
	}
	return v, nil
}

func (m *lockingModel) write(key string, next *leased, rec session.Record) session.Version {
	if m.bug != "save keeps LockedUntil" {
		rec.LockedUntil = time.Time{}
	}
	if r := m.records[key]; r != nil && rec.Version != "" && rec.KeepLater && r.rec.Expires.After(rec.Expires) {
		rec.Expires = r.rec.Expires
	}
	rec.KeepLater = false
	rec.Data = bytes.Clone(rec.Data)
	rec.Version = m.version()
	next.rec = rec
	m.records[key], m.known[key] = next, true
	return rec.Version
}

func (m *lockingModel) Touch(ctx context.Context, key string, expires time.Time) error {
	if err := m.enter(ctx, "touch"); err != nil {
		return err
	}
	defer m.mu.Unlock()
	r := m.records[key]
	if r == nil || r.rec.Expired(m.now()) {
		return session.ErrNotFound
	}
	if m.live(r) {
		switch m.bug {
		case "touch under a lock is refused":
			return m.lockedError(r)
		case "touch ends the lock":
			r.token = ""
		case "touch renews the holder's version":
			r.token += "x"
		}
	}
	if expires.After(r.rec.Expires) {
		r.rec.Expires = expires
	}
	return nil
}

func (m *lockingModel) Delete(ctx context.Context, key string) error {
	if err := m.enter(ctx, "delete"); err != nil {
		return err
	}
	defer m.mu.Unlock()
	r := m.records[key]
	if m.live(r) {
		switch m.bug {
		case "delete under a lock is refused":
			return m.lockedError(r)
		case "lock outlives delete":
			m.records["lock of "+key] = r
		}
	}
	delete(m.records, key)
	return nil
}

func (m *lockingModel) Acquire(ctx context.Context, key string, ttl time.Duration) (session.Record, error) {
	for {
		rec, err := m.acquire(ctx, key, ttl)
		if m.bug != "acquire waits" || !errors.Is(err, session.ErrLocked) {
			return rec, err
		}
		time.Sleep(time.Millisecond)
	}
}

func (m *lockingModel) acquire(ctx context.Context, key string, ttl time.Duration) (session.Record, error) {
	none := session.Record{}
	if err := m.enter(ctx, "acquire"); err == errModelNil {
		return none, nil
	} else if err != nil {
		return none, err
	}
	defer m.mu.Unlock()
	if ttl <= 0 {
		switch m.bug {
		case "acquire takes any ttl":
			ttl = time.Minute
		case "acquire locks, then looks at the ttl":
			if r := m.records[key]; r != nil {
				r.token, r.until = "?", m.now().Add(time.Minute)
			}
		}
		if ttl <= 0 {
			return none, errors.New("model: no ttl")
		}
	}
	r := m.records[key]
	if r == nil {
		switch m.bug {
		case "acquire creates":
			m.records[key] = &leased{rec: session.Record{Expires: m.now().Add(time.Hour), Version: m.version()}}
		case "acquire of absent is a conflict":
			return none, &session.ConflictError{}
		}
		return none, session.ErrNotFound
	}
	if r.rec.Expired(m.now()) && m.bug != "acquire takes what has expired" {
		if m.bug == "acquire revives expired" {
			r.rec.Expires = m.now().Add(time.Hour)
		}
		return none, session.ErrNotFound
	}
	held := m.live(r)
	switch m.bug {
	case "acquire is reentrant":
		held = held && r.client != m
	case "locks are the client's":
		held = held && r.client == m
	case "locks fold case", "locks cut at 255":
		for other, o := range m.records {
			fold := m.bug == "locks fold case" && strings.EqualFold(other, key)
			cut := m.bug == "locks cut at 255" && len(key) > 255 && len(other) > 255 && other[:255] == key[:255]
			if m.live(o) && (fold || cut) {
				held, r = true, o
			}
		}
	}
	if held {
		switch m.bug {
		case "acquire locked error of no type":
			return none, session.ErrLocked
		case "acquire that is refused ends the lock":
			r.token += "x"
		}
		return none, m.lockedError(r)
	}
	if m.bug == "lock takes room" && len(r.rec.Data) > modelMaxData-16 {
		return none, session.ErrTooLarge
	}
	read := *r
	switch m.bug {
	case "acquire checks, then writes", "acquire writes back what it read", "acquire puts back what it read":
		m.gap()
		now := m.records[key]
		switch {
		case now == nil && m.bug == "acquire puts back what it read":
			m.records[key] = r
		case now == nil:
			return none, session.ErrNotFound
		case m.live(now) && m.bug != "acquire checks, then writes":
			return none, m.lockedError(now)
		default:
			r = now
		}
		if m.bug == "acquire writes back what it read" {
			r.rec.Expires = read.rec.Expires
		}
	}
	m.last++
	r.token, r.until, r.ttl, r.client = fmt.Sprint(m.last), m.now().Add(ttl), ttl, m
	if m.bug == "holder's version comes again" {
		r.token = "locked" + strings.TrimPrefix(read.token, "locked") // except after Release
		if read.token != "" {
			r.token += "+"
		}
	}
	rec := r.rec
	rec.Version, rec.LockedUntil = r.holder(), m.now().Add(ttl)
	m.issued[rec.Version] = true
	m.mine.Store(rec.Version, true)
	rec.Data = bytes.Clone(rec.Data)
	switch m.bug {
	case "acquire returns no data":
		rec.Data = nil
	case "acquire returns its own data":
		rec.Data = r.rec.Data
	case "acquire returns the end of the lease as expires":
		rec.Expires = r.until
	case "acquire does not say until when":
		rec.LockedUntil = time.Time{}
	}
	return rec, nil
}

// lockOf returns the record at key, and an error unless v is the version of its
// lock.
func (m *lockingModel) lockOf(key string, v session.Version) (*leased, error) {
	r := m.records[key]
	if r == nil || r.rec.Expired(m.now()) {
		return r, &session.ConflictError{Gone: true}
	}
	if !m.isHolder(r, v) {
		return r, &session.ConflictError{}
	}
	return r, nil
}

func (m *lockingModel) Extend(ctx context.Context, key string, v session.Version, ttl time.Duration) error {
	if err := m.enter(ctx, "extend"); err == errModelNil {
		return nil
	} else if err != nil {
		return err
	}
	defer m.mu.Unlock()
	if ttl <= 0 && m.bug != "extend takes any ttl" {
		return errors.New("model: no ttl")
	}
	r, err := m.lockOf(key, v)
	ofHolder := strings.Contains(string(v), ".")
	switch {
	case r == nil && m.bug == "extend of absent is not found" && !m.known[key]:
		return session.ErrNotFound
	case r != nil && err != nil && r.rec.Expired(m.now()) && m.bug == "extend of expired is not found":
		return session.ErrNotFound
	case r == nil || r.rec.Expired(m.now()):
		return err
	case m.bug == "extend takes any version" && m.live(r) && !ofHolder,
		m.bug == "extend after takeover is fine" && m.formerOf(r, v):
		return nil
	case m.bug == "extend locks what is free" && r.token == "" && !ofHolder && v != "":
		r.token, r.until = "extended", m.now().Add(ttl)
		return err
	case err != nil:
		return err
	case !m.live(r) && m.bug != "extend after the lease":
		return &session.ConflictError{}
	}
	until := m.now().Add(ttl)
	switch m.bug {
	case "extend does nothing":
		return nil
	case "extend changes the version":
		if strings.HasPrefix(key[16:], "extended") { // so not in a race
			r.token += "x"
		}
	case "extend only lengthens":
		if until.Before(r.until) {
			return nil
		}
	case "extend checks, then extends":
		m.gap()
		r.until, r.ttl = until, ttl
		return nil
	case "extend puts back what it read":
		m.gap()
		if m.records[key] == nil {
			m.records[key] = r
		}
		if r = m.records[key]; !m.isHolder(r, v) || !m.live(r) {
			return &session.ConflictError{}
		}
	}
	r.until, r.ttl = until, ttl
	return nil
}

func (m *lockingModel) Release(ctx context.Context, key string, v session.Version, expires time.Time) error {
	if err := m.enter(ctx, "release"); err == errModelNil {
		return nil
	} else if err != nil {
		return err
	}
	defer m.mu.Unlock()
	r, err := m.lockOf(key, v)
	ofHolder := strings.Contains(string(v), ".")
	switch {
	case r == nil:
		return err
	case r.rec.Expired(m.now()):
		if m.bug == "release revives expired" && r.token != "" && v == r.holder() {
			r.rec.Expires = expires
		}
		return err
	case err != nil && m.bug == "release of what is free is fine" && r.token == "" && !ofHolder,
		err != nil && m.bug == "release without owner check" && m.live(r) && !ofHolder:
		r.token = ""
		return nil
	case m.bug == "release after takeover unlocks" && m.formerOf(r, v):
		r.token = ""
		return nil
	case err != nil && m.bug == "release moves expires, then looks at the owner" && v == r.rec.Version:
		r.rec.Expires = expires
		return err
	case err != nil:
		return err
	}
	if m.now().After(r.until) && m.bug == "late release clears data" {
		r.rec.Data = nil
	}
	read := *r
	switch m.bug {
	case "release does not unlock":
		if expires.After(r.rec.Expires) {
			r.rec.Expires = expires
		}
		return nil
	case "release is a new state":
		r.rec.Version = m.version()
	case "release ignores expires":
		expires = time.Time{}
	case "release leaves no expires alone":
		if expires.IsZero() {
			r.rec.Expires = m.now().Add(time.Hour)
		}
	case "release shortens":
		if !expires.IsZero() {
			r.rec.Expires = expires
		}
	case "release checks, then unlocks":
		m.gap()
		if m.records[key] == nil {
			return nil
		}
	case "release writes back what it read":
		m.gap()
		if r = m.records[key]; !m.isHolder(r, v) {
			return &session.ConflictError{}
		}
		r.rec = read.rec
	}
	r.token = ""
	delete(m.issued, v)
	if expires.After(r.rec.Expires) {
		r.rec.Expires = expires
	}
	return nil
}

func (m *lockingModel) isDown() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.down
}
