package conformance

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/admin"
)

// listerMutants are Listers that are broken in one way each, and the one rule
// about listing that has to say so.
var listerMutants = []mutant{
	{"no lister", "Lister"},
	{"list forgets the last", "List"},
	{"list forgets what was touched", "List"},
	{"list forgets empty data", "List"},
	{"list forgets a segment", "List"},
	{"list of another client's records is empty", "List"},
	{"list forgets what was written meanwhile", "ListWritten"},
	{"prefix of a list ignored", "ListKeyPrefix"},
	{"prefix of a list folds case", "ListKeyPrefix"},
	{"prefix of a list is a part", "ListKeyPrefix"},
	{"prefix of a list is a pattern", "ListKeyPrefix"},
	{"list without a prefix is empty", "ListKeyPrefix"},
	{"list moves expires", "ListKeeps"},
	{"list makes versions", "ListKeeps"},
	{"list clears data", "ListKeeps"},
	{"entry has the first expires", "ListEntry"},
	{"entry has no created", "ListEntry"},
	{"entry has the size in characters", "ListEntry"},
	{"entry has no size", "ListEntry"},
	{"entry is foreign", "ListEntry"},
	{"entry has data that nobody asked for", "ListData"},
	{"data is found in other case", "ListData"},
	{"data is found by a pattern", "ListData"},
	{"data is found in the key", "ListData"},
	{"data is what was looked for", "ListData"},
	{"data is left out", "ListData"},
	{"limit ignored", "ListLimit"},
	{"limit is one more", "ListLimit"},
	{"limit is an error", "ListLimit"},
	{"limit before the prefix", "ListLimit"},
	{"visit's error is wrapped", "ListStop"},
	{"visit's error is lost", "ListStop"},
	{"visit's error ends a segment", "ListStop"},
	{"visits at the same time", "ListOneAtATime"},
	{"visit after the end", "ListOneAtATime"},
	{"list hangs if visit loads", "ListVisitUsesStore"},
	{"list hangs if visit saves", "ListVisitUsesStore"},
	{"list counts nothing", "ListReport"},
	{"failed list counts nothing", "ListReport"},
	{"list counts foreign entries", "ListReport"},
	{"list counts what has expired", "ListReport"},
	{"list has a checkpoint", "ListReport"},
	{"list takes no time", "ListReport"},
	{"list takes any options", "ListOptions"},
	{"unsupported list is another error", "ListUnsupported"},
	{"unsupported after the visits", "ListUnsupported"},
	{"list of a budget stops halfway", "ListUnsupported"},
	{"list ignores a done context", "DoneContextList"},
	{"list hides the context's error", "DoneContextList"},
	{"list visits, then looks at the context", "DoneContextList"},
	{"list waits after its context has ended", "ContextEndsList"},
	{"list hangs with the store", "ContextEndsList"},
	{"list that is ended is complete", "ContextEndsList"},
	{"list failure is not found", "StoreFailureList"},
	{"list failure is locked", "StoreFailureList"},
	{"list failure is nil", "StoreFailureList"},
	{"list forgets what is locked", "ListLocked"},
	{"entry hides the lock", "ListLocked"},
	{"entry has a lock that is over", "ListLocked"},
}

func TestListerMutants(t *testing.T) {
	t.Parallel()
	testMutants(t, listerMutants, func(t *testing.T, m mutant) map[string]string {
		// The others do not list.
		rules := slices.Concat(listerRules, listedLockRules, []backendRule{wantsLister})
		if m.bug == "no lister" {
			rules = []backendRule{wantsLister}
		}
		return failuresOf(t, rules, modelLister(m.bug), m)
	})
}

// Stores list in ways of their own. No rule may fail because of that.
func TestListerKinds(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"visits twice", "hides", "no budget", "stops at the end of its context", "backwards", "hangs when it fails"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			rules := slices.Concat(listerRules, listedLockRules, []backendRule{wantsLister})
			for rule, log := range failuresOf(t, rules, modelLister(kind), mutant{}) {
				t.Errorf("rule %s fails:\n%s", rule, log)
			}
		})
	}
}

func modelLister(bug string) Backend {
	backend := modelLeaser(bug)
	of := func(b session.Backend) *leaser {
		if l, ok := b.(*leaser); ok {
			return l
		}
		return b.(*lister).leaser
	}
	made, reopen, advance, fail := backend.New, backend.Reopen, backend.Advance, backend.Fail
	wrap := func(b session.Backend, s *listerStore) session.Backend {
		if bug == "no lister" {
			return b
		}
		return &lister{leaser: b.(*leaser), listerStore: s}
	}
	backend.WantsLister = true
	backend.New = func(t testing.TB) session.Backend { return wrap(made(t), &listerStore{}) }
	backend.Reopen = func(t testing.TB, b session.Backend) session.Backend {
		var s *listerStore
		if l, ok := b.(*lister); ok {
			s = l.listerStore
		}
		return wrap(reopen(t, of(b)), s)
	}
	backend.Advance = func(t testing.TB, b session.Backend, d time.Duration) { advance(t, of(b), d) }
	backend.Fail = func(t testing.TB, b session.Backend) func() { return fail(t, of(b)) }
	return backend
}

// lister is a leaser that lists. It is written for its bugs, not as an example.
// Its bug may also be a way of being right.
type lister struct {
	*leaser
	*listerStore
	own sync.Map // keys that this client has saved, to true
}

type listerStore struct {
	visiting sync.Mutex // for bugs that hold it
	first    sync.Map   // record to its first expires
}

func (m *lister) Load(ctx context.Context, key string) (session.Record, error) {
	if m.bug == "list hangs if visit loads" {
		m.visiting.Lock()
		defer m.visiting.Unlock()
	}
	return m.leaser.Load(ctx, key)
}

func (m *lister) Save(ctx context.Context, key string, rec session.Record) (session.Version, error) {
	if m.bug == "list hangs if visit saves" {
		m.visiting.Lock()
		defer m.visiting.Unlock()
	}
	m.own.Store(key, true)
	return m.leaser.Save(ctx, key, rec)
}

func (m *lister) Touch(ctx context.Context, key string, expires time.Time) error {
	m.mu.Lock()
	if r := m.records[key]; r != nil {
		m.first.LoadOrStore(r, r.rec.Expires)
	}
	m.mu.Unlock()
	return m.leaser.Touch(ctx, key, expires)
}

func (m *lister) List(ctx context.Context, opts admin.ListOptions, visit func(admin.Entry) error) (admin.Report, error) {
	if m.bug == "list takes any options" {
		opts.Limit, opts.Segments, opts.Workers = max(opts.Limit, 0), max(opts.Segments, 0), max(opts.Workers, 0)
		if !(opts.ReadUnits > 0) {
			opts.ReadUnits = 0
		}
	}
	opts, err := opts.Complete()
	if err != nil {
		return admin.Report{}, err
	}
	l := &modelList{m: m, opts: opts, visit: visit}
	begun := time.Now()
	if opts.ReadUnits > 0 {
		switch m.bug {
		case "no budget":
			return admin.Report{}, fmt.Errorf("model: %w", errors.ErrUnsupported)
		case "unsupported list is another error":
			return admin.Report{}, errors.New("model: no such option")
		case "unsupported after the visits":
			_ = l.run(ctx)
			return admin.Report{}, fmt.Errorf("model: %w", errors.ErrUnsupported)
		case "list of a budget stops halfway":
			l.opts.Limit = 2
		}
	}
	err = l.run(ctx)
	r := l.report
	if r.Elapsed = time.Since(begun); m.bug == "list takes no time" {
		r.Elapsed = 0
	}
	switch m.bug {
	case "list counts nothing":
		r.Scanned = 0
	case "failed list counts nothing":
		if err != nil {
			r = admin.Report{Elapsed: r.Elapsed}
		}
	case "list counts foreign entries":
		r.Foreign = r.Scanned
	case "list counts what has expired":
		r.Expired = 1
	case "list has a checkpoint":
		r.Checkpoint = []byte("here")
	}
	return r, err
}

// modelList is one call of List.
type modelList struct {
	m      *lister
	opts   admin.ListOptions
	visit  func(admin.Entry) error
	report admin.Report
}

// listed is a record when the list began.
type listed struct {
	key     string
	version session.Version
}

func (l *modelList) run(ctx context.Context) error {
	m := l.m
	m.mu.Lock()
	down := m.down
	m.mu.Unlock()
	if down && m.bug == "hangs when it fails" {
		<-ctx.Done()
	}
	if ctx.Err() != nil && m.bug == "list visits, then looks at the context" {
		_ = l.visit(admin.Entry{})
	}
	if err := m.enter(ctx, "list"); err == errModelNil {
		return nil
	} else if err != nil {
		return err
	}
	var all []listed
	for _, key := range slices.Sorted(maps.Keys(m.records)) {
		if l.finds(key) {
			all = append(all, listed{key, m.records[key].rec.Version})
		}
	}
	m.mu.Unlock()
	switch m.bug {
	case "list forgets the last":
		if len(all) > 20 {
			all = all[:len(all)-1]
		}
	case "visits twice":
		if l.opts.Limit == 0 {
			all = append(all, all...)
		}
	case "backwards":
		slices.Reverse(all)
	case "limit before the prefix":
		if l.opts.Limit > 0 && l.opts.Limit < 10 {
			all = all[:min(1, len(all))]
		}
	case "list hangs if visit loads", "list hangs if visit saves":
		m.visiting.Lock()
		defer m.visiting.Unlock()
	}
	return l.visitAll(ctx, all)
}

func (l *modelList) finds(key string) bool {
	m, prefix := l.m, l.opts.KeyPrefix
	r := m.records[key]
	_, touched := m.first.Load(r)
	_, own := m.own.Load(key)
	switch {
	case m.bug == "hides" && r.rec.Expired(m.now()),
		m.bug == "list forgets what was touched" && touched && strings.HasSuffix(key, "listed/touched"),
		m.bug == "list forgets empty data" && len(r.rec.Data) == 0 && strings.HasSuffix(key, "listed/empty"),
		m.bug == "list forgets a segment" && l.opts.Segments > 1 && strings.HasSuffix(key, "listed/7"),
		m.bug == "list of another client's records is empty" && !own && strings.Contains(key, "listed/"),
		m.bug == "list forgets what is locked" && m.live(r),
		m.bug == "list without a prefix is empty" && prefix == "":
		return false
	case m.bug == "prefix of a list ignored" && strings.HasSuffix(prefix, "a/"):
		return true
	case m.bug == "prefix of a list folds case":
		return strings.HasPrefix(strings.ToLower(key), strings.ToLower(prefix))
	case m.bug == "prefix of a list is a part":
		return strings.Contains(key, prefix)
	case m.bug == "prefix of a list is a pattern":
		// A Match of the whole, of which the rest has slashes too.
		matched, _ := path.Match(strings.ReplaceAll(prefix, "/", ":")+"*", strings.ReplaceAll(key, "/", ":"))
		return matched
	}
	return strings.HasPrefix(key, prefix)
}

func (l *modelList) visitAll(ctx context.Context, all []listed) error {
	m := l.m
	for i, found := range all {
		if err := ctx.Err(); err != nil && m.bug != "list ignores a done context" {
			switch m.bug {
			case "list waits after its context has ended":
				<-m.ended
			case "list that is ended is complete":
				return nil
			}
			return err
		}
		m.mu.Lock()
		r := m.records[found.key]
		if r == nil || m.bug == "list forgets what was written meanwhile" && r.rec.Version != found.version {
			m.mu.Unlock()
			continue
		}
		e := l.entry(found.key, r)
		l.spoil(r)
		m.mu.Unlock()
		l.report.Scanned++
		if m.bug == "visits at the same time" && l.opts.Workers == 4 && i == 0 {
			go func() { _ = l.visit(e) }()
		}
		if err := l.visit(e); err != nil {
			switch m.bug {
			case "visit's error is wrapped":
				return fmt.Errorf("model: %w", err)
			case "visit's error is lost":
				return nil
			case "visit's error ends a segment":
				if l.opts.Segments > 1 {
					_ = l.visit(e)
				}
			case "visit after the end":
				if l.opts.Workers == 4 {
					time.AfterFunc(5*time.Millisecond, func() { _ = l.visit(e) })
				}
			}
			return err
		}
		limit := l.opts.Limit
		if m.bug == "limit is one more" && limit > 0 {
			limit++
		}
		if i+1 == limit && m.bug != "limit ignored" {
			if m.bug == "limit is an error" {
				return errors.New("model: limit")
			}
			return nil
		}
	}
	if m.bug == "stops at the end of its context" {
		return ctx.Err()
	}
	return nil
}

// spoil changes what a list is to leave alone. The model is locked.
func (l *modelList) spoil(r *leased) {
	switch l.m.bug {
	case "list moves expires":
		r.rec.Expires = r.rec.Expires.Add(time.Minute)
	case "list makes versions":
		r.rec.Version = l.m.version()
	case "list clears data":
		if l.opts.DataWith == "old" {
			r.rec.Data = nil
		}
	}
}

// entry tells of a record. The model is locked.
func (l *modelList) entry(key string, r *leased) admin.Entry {
	m, data := l.m, string(r.rec.Data)
	e := admin.Entry{Key: key, Size: len(key) + len(data), DataSize: len(data), Created: r.rec.Created, Expires: r.rec.Expires}
	if m.live(r) && m.bug != "entry hides the lock" || m.bug == "entry has a lock that is over" && r.token != "" {
		e.LockedUntil = r.until
	}
	switch m.bug {
	case "entry has the first expires":
		if first, ok := m.first.Load(r); ok {
			e.Expires = first.(time.Time)
		}
	case "entry has no created":
		e.Created = time.Time{}
	case "entry has the size in characters":
		e.DataSize = len([]rune(data))
	case "entry has no size":
		e.Size = 0
	case "entry is foreign":
		e.Foreign = true
	}
	with, found := l.opts.DataWith, false
	switch {
	case with == "":
		found = m.bug == "entry has data that nobody asked for" && strings.Contains(key, "data/")
	case m.bug == "data is found in other case":
		found = strings.Contains(strings.ToLower(data), strings.ToLower(with))
	case m.bug == "data is found by a pattern":
		found, _ = path.Match("*"+with+"*", data)
	case m.bug == "data is found in the key":
		found = strings.Contains(key+data, with)
	case m.bug == "data is left out":
	default:
		found = strings.Contains(data, with)
	}
	if found {
		if e.Data = data; m.bug == "data is what was looked for" {
			e.Data = with
		}
	}
	return e
}
