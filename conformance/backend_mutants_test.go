package conformance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"path"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/seed-a7bee19b/session"
)

// backendMutants are backends with one fault each, and the rule that has to fail
// on it. All other rules have to pass.
var backendMutants = []mutant{
	{"data truncated at 64 KiB", "Data"},
	{"data ends at a zero byte", "Data"},
	{"data trimmed", "Data"},
	{"data made UTF-8", "Data"},
	{"data that is not UTF-8 refused", "Data"},
	{"empty data refused", "EmptyData"},
	{"nil data keeps what was there", "EmptyData"},
	{"created in seconds", "Created"},
	{"created never replaced", "Created"},
	{"expires rounded down", "Expires"},
	{"expires always a second later", "Expires"},
	{"dropped ten minutes early", "KeptUntilExpires"},
	{"dropped when first due", "KeptUntilExpires"},
	{"absent is an empty record", "LoadAbsent"},
	{"load without version", "VersionOfLoad"},
	{"version of load is not that of save", "VersionOfLoad"},
	{"version is a digest of the data", "VersionNew"},
	{"save returns the version before", "VersionNew"},
	{"save returns a version of its own", "VersionNew"},
	{"version begins again after delete", "VersionAfterDelete"},
	{"create overwrites", "CreateExisting"},
	{"create conflict of no type", "CreateExisting"},
	{"no create over expired", "CreateAfterEnd"},
	{"save ignores the version", "SaveStale"},
	{"bad version is another error", "SaveStale"},
	{"stale is gone", "SaveStaleIsNotGone"},
	{"conflict moves expires", "ConflictWritesNothing"},
	{"conflict writes", "ConflictWritesNothing"},
	{"conflict carries the caller's data", "ConflictCurrent"},
	{"conflict without version", "ConflictCurrent"},
	{"gone with a record", "ConflictCurrent"},
	{"save creates", "SaveAbsent"},
	{"save on absent is no conflict", "SaveAbsent"},
	{"save revives expired", "SaveExpired"},
	{"save keeps the later expires", "SaveEarlier"},
	{"past expires is a minute", "SavePast"},
	{"past expires refused", "SavePast"},
	{"zero expires accepted", "SaveZeroExpires"},
	{"too large is another error", "TooLarge"},
	{"too large deletes", "TooLarge"},
	{"touch does nothing", "Touch"},
	{"touch rounds down", "Touch"},
	{"touch moves only what is shown", "Touch"},
	{"touch changes version", "TouchKeeps"},
	{"touch clears data", "TouchKeeps"},
	{"touch shortens", "TouchEarlier"},
	{"touch refuses earlier", "TouchEarlier"},
	{"touch creates", "TouchAbsent"},
	{"touch of absent is fine", "TouchAbsent"},
	{"touch revives expired", "TouchExpired"},
	{"delete does nothing", "Delete"},
	{"delete only first version", "Delete"},
	{"delete of absent fails", "DeleteAbsent"},
	{"keys fold case", "Keys"},
	{"keys trimmed", "Keys"},
	{"keys cleaned as paths", "Keys"},
	{"keys cut at 255", "Keys"},
	{"keys end at a zero byte", "Keys"},
	{"delete takes keys that begin alike", "Keys"},
	{"keeps the caller's data", "CallersData"},
	{"appends to the caller's data", "CallersData"},
	{"returns its own data", "ReturnedData"},
	{"conflict returns its own data", "ReturnedData"},
	{"load ignores a done context", "DoneContextLoad"},
	{"load hides the context's error", "DoneContextLoad"},
	{"save ignores a done context", "DoneContextSave"},
	{"save writes, then looks at the context", "DoneContextSave"},
	{"touch ignores a done context", "DoneContextTouch"},
	{"delete ignores a done context", "DoneContextDelete"},
	{"waits without the context", "ContextEnds"},
	{"hangs with the store", "ContextEnds"},
	{"load failure is not found", "StoreFailure"},
	{"save failure is a conflict", "StoreFailure"},
	{"touch failure is nil", "StoreFailure"},
	{"delete failure is nil", "StoreFailure"},
	{"client caches", "Clients"},
	{"create checks, then writes", "RaceCreate"},
	{"save checks, then writes", "RaceSave"},
	{"touch writes back what it read", "RaceTouch"},
	{"touches overtake", "RaceTouch"},
	{"touch puts back what it read", "RaceDelete"},
	{"save puts back what it replaced", "RaceDelete"},
}

func TestBackendMutants(t *testing.T) {
	t.Parallel()
	testMutants(t, backendMutants, func(t *testing.T, m mutant) map[string]string { return failures(t, modelBackend(m.bug), m) })
}

func modelBackend(bug string) Backend {
	return Backend{
		New: func(t testing.TB) session.Backend {
			store := &modelStore{records: map[string]*modelRecord{}, ended: make(chan struct{})}
			t.Cleanup(func() { close(store.ended) })
			return &model{modelStore: store, bug: bug}
		},
		Reopen: func(_ testing.TB, b session.Backend) session.Backend {
			return &model{modelStore: b.(*model).modelStore, bug: bug}
		},
		Advance: func(_ testing.TB, b session.Backend, d time.Duration) {
			m := b.(*model)
			m.mu.Lock()
			defer m.mu.Unlock()
			m.ahead += d
		},
		Fail: func(_ testing.TB, b session.Backend) func() {
			m := b.(*model)
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

const modelMaxData = 100_000

// A model is a client of a store in memory. It is written for its bugs and is no
// example of a backend.
type model struct {
	*modelStore
	bug   string
	cache sync.Map // key to session.Record
}

type modelStore struct {
	mu      sync.Mutex
	records map[string]*modelRecord
	last    int
	ahead   time.Duration
	down    bool
	ended   chan struct{} // closed after the rule, for calls that hang
}

type modelRecord struct {
	rec   session.Record
	saves int
	drop  time.Time // when the store drops the record on its own; zero means never
}

var errModelDown = errors.New("model: the store is down")

// enter begins each method. If it returns nil, it has locked the model.
func (m *model) enter(ctx context.Context, method string) error {
	if err := ctx.Err(); err != nil && m.bug != method+" ignores a done context" && m.bug != method+" writes, then looks at the context" {
		if m.bug == method+" hides the context's error" {
			return errors.New("model: gave up")
		}
		return err
	}
	if m.bug == "waits without the context" && ctx.Done() != nil && !m.isDown() {
		<-m.ended
	}
	m.mu.Lock()
	if !m.down {
		return nil
	}
	m.mu.Unlock()
	if m.bug == "hangs with the store" {
		if _, ok := ctx.Deadline(); !ok {
			<-m.ended
		}
	}
	switch m.bug {
	case method + " failure is not found":
		return fmt.Errorf("%w: %w", session.ErrNotFound, errModelDown)
	case method + " failure is a conflict":
		return &session.ConflictError{}
	case method + " failure is nil":
		return errModelNil
	}
	return errModelDown
}

// errModelNil makes a method return at once without an error.
var errModelNil = errors.New("model: nil")

func (m *model) isDown() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.down
}

// gap lets other calls run between two steps that should be one.
func (m *model) gap() {
	m.mu.Unlock()
	time.Sleep(time.Millisecond)
	m.mu.Lock()
}

func (m *model) now() time.Time { return time.Now().Add(m.ahead) }

func (m *model) key(key string) string {
	switch m.bug {
	case "keys fold case":
		return strings.ToLower(key)
	case "keys trimmed":
		return strings.TrimSpace(key)
	case "keys cleaned as paths":
		return path.Clean(key)
	case "keys cut at 255":
		return key[:min(len(key), 255)]
	case "keys end at a zero byte":
		key, _, _ = strings.Cut(key, "\x00")
	}
	return key
}

// get returns the record at key, or nil. Expired records stay, unless the bug is
// that they do not.
func (m *model) get(key string) *modelRecord {
	r := m.records[key]
	if r == nil {
		return nil
	}
	if m.bug == "dropped ten minutes early" && m.now().After(r.rec.Expires.Add(-10*time.Minute)) ||
		!r.drop.IsZero() && m.now().After(r.drop) {
		delete(m.records, key)
		return nil
	}
	return r
}

func (m *model) Load(ctx context.Context, key string) (session.Record, error) {
	if m.bug == "client caches" {
		if rec, ok := m.cache.Load(key); ok && ctx.Err() == nil && !m.isDown() {
			rec := rec.(session.Record)
			rec.Data = bytes.Clone(rec.Data)
			return rec, nil
		}
	}
	if err := m.enter(ctx, "load"); err != nil {
		return session.Record{}, err
	}
	defer m.mu.Unlock()
	r := m.get(m.key(key))
	if r == nil {
		if m.bug == "absent is an empty record" {
			return session.Record{}, nil
		}
		return session.Record{}, session.ErrNotFound
	}
	rec := r.rec
	if m.bug != "returns its own data" {
		rec.Data = bytes.Clone(rec.Data)
	}
	switch m.bug {
	case "load without version":
		rec.Version = ""
	case "version of load is not that of save":
		rec.Version += "+"
	case "client caches":
		cached := rec
		cached.Data = bytes.Clone(rec.Data)
		m.cache.Store(key, cached)
	}
	return rec, nil
}

func (m *model) Save(ctx context.Context, key string, rec session.Record) (session.Version, error) {
	m.cache.Delete(key)
	if err := m.enter(ctx, "save"); err == errModelNil {
		return "", nil
	} else if err != nil {
		return "", err
	}
	defer m.mu.Unlock()
	key = m.key(key)
	now := m.now()
	if rec.Expires.IsZero() && m.bug != "zero expires accepted" {
		return "", errors.New("model: no Expires")
	}
	if len(rec.Data) == 0 && m.bug == "empty data refused" {
		return "", errors.New("model: no Data")
	}
	if m.bug == "data that is not UTF-8 refused" && !utf8.Valid(rec.Data) {
		return "", session.ErrEncode // the model is no TextBackend
	}
	if len(rec.Data) > modelMaxData {
		switch m.bug {
		case "too large is another error":
			return "", errors.New("model: too large")
		case "too large deletes":
			delete(m.records, key)
		}
		return "", session.ErrTooLarge
	}
	if rec.Expires.Before(now) && !rec.Expires.IsZero() {
		switch m.bug {
		case "past expires is a minute":
			rec.Expires = now.Add(time.Minute)
		case "past expires refused":
			return "", errors.New("model: expired")
		}
	}
	if m.bug == "version of load is not that of save" {
		rec.Version = session.Version(strings.TrimSuffix(string(rec.Version), "+"))
	}

	stored := m.get(key)
	if err := m.refuse(stored, rec, now); err != nil {
		return "", err
	}
	create := rec.Version == ""
	switch {
	case m.bug == "create checks, then writes" && create && stored == nil:
		m.gap()
	case m.bug == "save checks, then writes" && !create:
		m.gap()
		if m.get(key) == nil {
			return "", &session.ConflictError{Gone: true}
		}
	case m.bug == "save puts back what it replaced" && !create:
		before := stored.rec.Version
		m.gap()
		if now := m.get(key); now != nil && now.rec.Version != before {
			return "", &session.ConflictError{}
		}
	}
	if m.bug == "save creates" && stored == nil {
		create = true
	}
	return m.write(ctx, key, stored, rec, create)
}

// refuse returns the error of a Save that the stored record does not allow.
func (m *model) refuse(stored *modelRecord, rec session.Record, now time.Time) error {
	create := rec.Version == ""
	expired := stored != nil && stored.rec.Expired(now)
	switch {
	case create && stored == nil:
		return nil
	case create && expired:
		if m.bug != "no create over expired" {
			return nil
		}
	case create:
		switch m.bug {
		case "create overwrites":
			return nil
		case "create conflict of no type":
			return session.ErrConflict
		}
	case stored == nil:
		switch m.bug {
		case "save creates":
			return nil
		case "save on absent is no conflict":
			return session.ErrNotFound
		case "gone with a record":
			return &session.ConflictError{Gone: true, Current: &session.Record{}}
		}
		return &session.ConflictError{Gone: true}
	case rec.Version == stored.rec.Version && !expired:
		return nil
	case rec.Version == stored.rec.Version && m.bug == "save revives expired":
		return nil
	case expired:
		return &session.ConflictError{Gone: true}
	case m.bug == "save ignores the version":
		return nil
	case m.bug == "bad version is another error" && strings.Contains(string(rec.Version), " "):
		return errors.New("model: not a version")
	}

	switch m.bug {
	case "stale is gone":
		return &session.ConflictError{Gone: true}
	case "conflict moves expires":
		stored.rec.Expires = rec.Expires
	case "conflict writes":
		stored.rec.Data = bytes.Clone(rec.Data)
	}
	current := stored.rec
	current.Data = bytes.Clone(current.Data)
	switch m.bug {
	case "conflict carries the caller's data":
		current.Data = bytes.Clone(rec.Data)
	case "conflict without version":
		current.Version = ""
	case "conflict returns its own data":
		current.Data = stored.rec.Data
	}
	return &session.ConflictError{Current: &current}
}

func (m *model) write(ctx context.Context, key string, stored *modelRecord, rec session.Record, create bool) (session.Version, error) {
	before := rec.Version
	data := rec.Data
	rec.Data = bytes.Clone(data)
	if stored != nil && !create && rec.KeepLater && stored.rec.Expires.After(rec.Expires) {
		rec.Expires = stored.rec.Expires
	}
	rec.KeepLater = false
	next := &modelRecord{rec: rec}
	if stored != nil && !create {
		next.saves, next.drop = stored.saves+1, stored.drop
	}
	m.last++
	next.rec.Version = session.Version(fmt.Sprintf("v%d", m.last))
	switch m.bug {
	case "data truncated at 64 KiB":
		next.rec.Data = next.rec.Data[:min(len(data), 64<<10)]
	case "data ends at a zero byte":
		next.rec.Data, _, _ = bytes.Cut(next.rec.Data, []byte{0})
	case "data trimmed":
		next.rec.Data = bytes.TrimSpace(next.rec.Data)
	case "data made UTF-8":
		next.rec.Data = bytes.ToValidUTF8(next.rec.Data, []byte(string(utf8.RuneError)))
	case "nil data keeps what was there":
		if data == nil && stored != nil {
			next.rec.Data = stored.rec.Data
		}
	case "created in seconds":
		next.rec.Created = rec.Created.Truncate(time.Second)
	case "created never replaced":
		if stored != nil && !create {
			next.rec.Created = stored.rec.Created
		}
	case "expires rounded down":
		next.rec.Expires = rec.Expires.Truncate(time.Second)
	case "expires always a second later":
		if rec.Expires.Nanosecond() != 0 {
			next.rec.Expires = rec.Expires.Truncate(time.Second).Add(2 * time.Second)
		}
	case "dropped when first due":
		if create {
			next.drop = rec.Expires
		}
	case "touch moves only what is shown":
		next.drop = rec.Expires
	case "version is a digest of the data":
		h := fnv.New64a()
		h.Write(data)
		next.rec.Version = session.Version(fmt.Sprintf("%x", h.Sum64()))
	case "version begins again after delete":
		next.rec.Version = session.Version(fmt.Sprintf("v%d", next.saves))
	case "save keeps the later expires":
		if stored != nil && !create && rec.Expires.Before(stored.rec.Expires) && rec.Expires.After(m.now()) {
			next.rec.Expires = stored.rec.Expires
		}
	case "keeps the caller's data":
		next.rec.Data = data
	case "appends to the caller's data":
		next.rec.Data = bytes.Clone(append(data, 0)[:len(data)])
	}
	m.records[key] = next
	if m.bug == "save returns the version before" && before != "" {
		return before, nil
	}
	if m.bug == "save returns a version of its own" && before != "" {
		return next.rec.Version + "+", nil
	}
	if m.bug == "save writes, then looks at the context" {
		return next.rec.Version, ctx.Err()
	}
	return next.rec.Version, nil
}

func (m *model) Touch(ctx context.Context, key string, expires time.Time) error {
	m.cache.Delete(key)
	if err := m.enter(ctx, "touch"); err == errModelNil {
		return nil
	} else if err != nil {
		return err
	}
	defer m.mu.Unlock()
	key = m.key(key)
	stored := m.get(key)
	switch {
	case stored == nil && m.bug == "touch creates":
		m.records[key] = &modelRecord{rec: session.Record{Expires: expires, Version: "touched"}}
		return session.ErrNotFound
	case stored == nil && m.bug == "touch of absent is fine":
		return nil
	case stored == nil:
		return session.ErrNotFound
	case stored.rec.Expired(m.now()) && m.bug != "touch revives expired":
		return session.ErrNotFound
	}
	earlier := expires.Before(stored.rec.Expires)
	read := *stored
	switch m.bug {
	case "touch writes back what it read", "touches overtake", "touch puts back what it read":
		m.gap()
	}
	now := m.get(key)
	switch m.bug {
	case "touch does nothing":
		return nil
	case "touch rounds down":
		expires = expires.Truncate(time.Second)
	case "touch changes version":
		m.last++
		stored.rec.Version = session.Version(fmt.Sprintf("v%d", m.last))
	case "touch clears data":
		stored.rec.Data = nil
	case "touch shortens":
		earlier = false
	case "touch refuses earlier":
		if earlier {
			return errors.New("model: earlier")
		}
	case "touch writes back what it read":
		if now == nil {
			return session.ErrNotFound
		}
		if expires.After(now.rec.Expires) {
			read.rec.Expires = expires
			m.records[key] = &read
		}
		return nil
	case "touches overtake":
		if now == nil {
			return session.ErrNotFound
		}
		stored = now
	case "touch puts back what it read":
		if now == nil {
			m.records[key] = &read
		} else {
			stored = now
		}
		earlier = expires.Before(stored.rec.Expires)
	}
	if earlier {
		return nil
	}
	stored.rec.Expires = expires
	if m.bug == "dropped when first due" {
		stored.drop = expires
	}
	return nil
}

func (m *model) Delete(ctx context.Context, key string) error {
	m.cache.Delete(key)
	if err := m.enter(ctx, "delete"); err == errModelNil {
		return nil
	} else if err != nil {
		return err
	}
	defer m.mu.Unlock()
	key = m.key(key)
	stored := m.get(key)
	switch {
	case m.bug == "delete does nothing":
		return nil
	case m.bug == "delete only first version" && stored != nil && stored.saves > 0:
		return nil
	case m.bug == "delete of absent fails" && stored == nil:
		return session.ErrNotFound
	case m.bug == "delete takes keys that begin alike":
		for other := range m.records {
			if strings.HasPrefix(other, key) && !strings.HasPrefix(key, "other") {
				delete(m.records, other)
			}
		}
	}
	delete(m.records, key)
	return nil
}
