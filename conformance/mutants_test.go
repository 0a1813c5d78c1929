package conformance

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/seed-a7bee19b/session"
)

// backendMutants are backends that are broken in one way each, and the one
// rule that has to say so. All others have to pass.
var backendMutants = []mutant{
	{"data truncated at 64 KiB", "Data"},
	{"data ends at a zero byte", "Data"},
	{"data trimmed", "Data"},
	{"data made UTF-8", "Data"},
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

type mutant struct{ bug, rule string }

// skips tells whether a rule is not run on the mutant: what a wide one would
// say is up to others.
func (m mutant) skips(rule string, wide bool) bool { return wide && m.bug != "" && rule != m.rule }

// testMutants runs all rules on each mutant. It does so by itself, because
// with t.Parallel only GOMAXPROCS of them would wait at the same time.
func testMutants(t *testing.T, mutants []mutant, failures func(t *testing.T, m mutant) map[string]string) {
	t.Helper()
	var wg sync.WaitGroup
	atOnce := make(chan struct{}, 24)
	for _, m := range append(mutants, mutant{}) {
		wg.Add(1)
		atOnce <- struct{}{}
		go func() {
			defer func() { <-atOnce; wg.Done() }()
			t.Run(cmp.Or(m.bug, "none"), func(t *testing.T) {
				failed := failures(t, m)
				// On a machine that is busy enough, a race may not meet, and time
				// may fail more rules. A fault that is there shows again.
				for range 3 {
					_, found := failed[m.rule]
					if (found || m.bug == "") && len(failed) <= 1 {
						break
					}
					again := failures(t, m)
					maps.DeleteFunc(failed, func(rule, _ string) bool {
						_, ok := again[rule]
						return !ok && rule != m.rule
					})
					if log, ok := again[m.rule]; ok {
						failed[m.rule] = log
					}
				}
				testMutant(t, m, failed)
			})
		}()
	}
	wg.Wait()
}

func testMutant(t *testing.T, m mutant, failed map[string]string) {
	t.Helper()
	log, ok := failed[m.rule]
	switch {
	case !ok && m.bug != "":
		t.Errorf("rule %s passes", m.rule)
	case ok && !strings.Contains(log, "the contract says: "):
		t.Errorf("rule %s fails without quoting the contract:\n%s", m.rule, log)
	}
	delete(failed, m.rule)
	for rule, log := range failed {
		t.Errorf("rule %s fails as well:\n%s", rule, log)
	}
}

func TestEveryRuleHasAMutant(t *testing.T) {
	has := map[string]bool{}
	for kind, mutants := range map[string][]mutant{
		"": backendMutants, "leaser ": leaserMutants, "locker ": append(lockerMutants, lockerKinds...), "codec ": codecMutants, "sweeper ": sweeperMutants,
		"lister ": listerMutants,
	} {
		for _, m := range mutants {
			has[kind+m.rule] = true
		}
	}
	also := slices.Clone(lateKinds)
	for _, k := range kinds {
		also = append(also, k.mutant)
	}
	for _, m := range also { // of which the kind is that of the rule
		for _, r := range allBackendRules {
			if r.name == m.rule {
				has[m.rule] = true
			}
		}
		for _, r := range allLeaserRules {
			if r.name == m.rule {
				has["leaser "+m.rule] = true
			}
		}
		for _, r := range sweeperRules {
			if r.name == m.rule {
				has["sweeper "+m.rule] = true
			}
		}
	}
	check := func(rule string) {
		if !has[rule] {
			t.Errorf("no mutant for %q", rule)
		}
		delete(has, rule)
	}
	for _, rule := range allBackendRules {
		check(rule.name)
	}
	for _, rule := range append(allLeaserRules, wantsLeaser) {
		check("leaser " + rule.name)
	}
	for _, rule := range slices.Concat(sweeperRules, sweptLockRules, []backendRule{wantsSweeper}) {
		check("sweeper " + rule.name)
	}
	for _, rule := range slices.Concat(listerRules, listedLockRules, []backendRule{wantsLister}) {
		check("lister " + rule.name)
	}
	for _, rule := range lockerRules {
		check("locker " + rule.name)
	}
	for _, rule := range codecRules {
		check("codec " + rule.name)
	}
	for name := range has {
		t.Errorf("a mutant is for %q, which is not there", name)
	}
}

// failures runs all rules against a backend with a bug, and returns what those
// that fail have logged.
func failures(t *testing.T, backend Backend, m mutant) map[string]string {
	return failuresOf(t, rulesFor(backend, backend.New(t)), backend, m)
}

func failuresOf(t *testing.T, rules []backendRule, backend Backend, m mutant) map[string]string {
	failed := map[string]string{}
	res := &results{spell: 5 * time.Millisecond}
	for _, rule := range rules {
		if m.skips(rule.name, rule.wide) {
			continue
		}
		if ok, log := run(t, func(t testing.TB) {
			rule.test(t, backend, backend.clients(t, backend.New(t)), patienceWith(m.bug), res)
		}); !ok {
			failed[rule.name] = log
		}
	}
	if why := res.unexplained(); why != "" && len(failed) == 0 {
		failed["left out"] = why
	}
	return failed
}

// patienceWith is short where a call hangs, which only few bugs cause.
func patienceWith(bug string) time.Duration {
	if strings.Contains(bug, "waits") || strings.Contains(bug, "hangs") {
		return 100 * time.Millisecond
	}
	return 10 * time.Second
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

// run runs f as a test of its own, of which a failure is only told.
func run(t testing.TB, f func(testing.TB)) (ok bool, log string) {
	r := &recorder{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer r.cleanUp()
		f(r)
	}()
	<-done
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.failed, r.log.String()
}

// recorder is a testing.TB that keeps its result to itself. What it does not
// override is not used by the rules.
type recorder struct {
	testing.TB
	mu       sync.Mutex
	failed   bool
	log      strings.Builder
	cleanups []func()
}

func (r *recorder) Helper()  {}
func (r *recorder) FailNow() { r.Fail(); runtime.Goexit() }
func (r *recorder) Fail()    { r.mu.Lock(); r.failed = true; r.mu.Unlock() }
func (r *recorder) Log(a ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	fmt.Fprintln(&r.log, a...)
}
func (r *recorder) Failed() bool                 { r.mu.Lock(); defer r.mu.Unlock(); return r.failed }
func (r *recorder) Logf(format string, a ...any) { r.Log(fmt.Sprintf(format, a...)) }
func (r *recorder) Error(a ...any)               { r.Log(a...); r.Fail() }
func (r *recorder) Errorf(format string, a ...any) {
	r.Logf(format, a...)
	r.Fail()
}
func (r *recorder) Fatal(a ...any)                 { r.Log(a...); r.FailNow() }
func (r *recorder) Fatalf(format string, a ...any) { r.Logf(format, a...); r.FailNow() }
func (r *recorder) Cleanup(f func())               { r.cleanups = append(r.cleanups, f) }
func (r *recorder) cleanUp() {
	for _, f := range slices.Backward(r.cleanups) {
		f()
	}
}

const modelMaxData = 100_000

// model is a client of a store in memory. It is written for its bugs, not as
// an example.
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
	drop  time.Time // when the store drops it by itself; zero: never
}

var errModelDown = errors.New("model: the store is down")

// enter begins each method. If it returns nil, the model is locked.
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

// errModelNil makes the method return no error at once.
var errModelNil = errors.New("model: nil")

func (m *model) isDown() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.down
}

// gap lets others in between two steps that should be one.
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

// get returns the record at key, nil if there is none. One that has expired
// stays, but for bugs in that.
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

// refuse returns the conflict between what is stored and a Save.
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
