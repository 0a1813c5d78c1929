package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session/observe"
)

// everySentinel are the errors of this package, and whether the contract of a
// backend has them: then they are its answers.
var everySentinel = []struct {
	err    error
	answer bool
}{
	{ErrStore, false}, {ErrNotFound, true}, {ErrConflict, true}, {ErrTooLarge, true}, {ErrEncode, true}, {ErrDecode, true},
	{ErrReadOnly, false}, {ErrClosed, false}, {ErrLocked, true}, {ErrLockTimeout, false}, {ErrLockLost, false}, {ErrTooLate, false},
}

// variants are the ways in which a backend may return err.
func variants(err error) map[string]error {
	return map[string]error{
		"as it is":                  err,
		"wrapped":                   fmt.Errorf("backend: %w", err),
		"wrapped twice":             fmt.Errorf("backend: %w", fmt.Errorf("call: %w", err)),
		"with a cause":              fmt.Errorf("%w: %w", err, io.ErrUnexpectedEOF),
		"joined with an error":      errors.Join(io.ErrUnexpectedEOF, err),
		"joined with a cancelling":  errors.Join(context.Canceled, err),
		"joined with a deadline":    errors.Join(err, context.DeadlineExceeded),
		"wrapped with a cancelling": fmt.Errorf("%w: %w", context.Canceled, err),
	}
}

// TestFailure: an answer of the store is passed on as it is; all else is marked,
// and keeps its cause.
func TestFailure(t *testing.T) {
	for _, tt := range everySentinel {
		for how, err := range variants(tt.err) {
			checkFailure(t, fmt.Sprintf("%v, %s", tt.err, how), err, tt.answer)
		}
	}
	for what, err := range map[string]error{"a conflict": &ConflictError{}, "gone": &ConflictError{Gone: true}, "locked": &LockedError{}} {
		for how, err := range variants(err) {
			checkFailure(t, what+", "+how, err, true)
		}
	}
	for _, err := range []error{io.ErrUnexpectedEOF, context.Canceled, context.DeadlineExceeded, errors.New("not found")} {
		for how, err := range variants(err) {
			checkFailure(t, fmt.Sprintf("%v, %s", err, how), err, false)
		}
	}
	if failure(nil) != nil {
		t.Error("no error is one")
	}
}

func checkFailure(t *testing.T, what string, err error, answer bool) {
	t.Helper()
	got := failure(err)
	switch {
	case !errors.Is(got, err):
		t.Errorf("%s: the cause is lost: %v", what, got)
	case answer && got != err:
		t.Errorf("%s: an answer became %v", what, got)
	case !answer && !errors.Is(got, ErrStore):
		t.Errorf("%s: not marked: %v", what, got)
	case !answer && got.Error() != "store failed: "+err.Error():
		t.Errorf("%s: %v", what, got)
	}
}

// TestUncertain: a write may have been applied unless the store has answered, or
// was not asked.
func TestUncertain(t *testing.T) {
	for _, tt := range everySentinel {
		for how, err := range variants(tt.err) {
			ended := errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
			if got, want := uncertain(err), !tt.answer && (tt.err == ErrStore || ended); got != want {
				t.Errorf("%v, %s: %v", tt.err, how, got)
			}
			// As the call of the store has returned it.
			if got := uncertain(failure(err)); got == tt.answer {
				t.Errorf("%v, %s, of the store: %v", tt.err, how, got)
			}
		}
	}
	for what, tt := range map[string]struct {
		err  error
		want bool
	}{
		"none":                          {nil, false},
		"of ours":                       {errors.New("a function of an Update"), false},
		"the context has ended":         {context.Canceled, true},
		"its time has passed":           {fmt.Errorf("save: %w", context.DeadlineExceeded), true},
		"of the store":                  {failure(io.ErrUnexpectedEOF), true},
		"of the store, wrapped":         {fmt.Errorf("under a new ID: %w", failure(io.ErrUnexpectedEOF)), true},
		"a conflict":                    {&ConflictError{}, false},
		"gone":                          {&ConflictError{Gone: true}, false},
		"locked":                        {&LockedError{}, false},
		"a conflict, and then no time":  {fmt.Errorf("%w, while retrying after: %w", context.DeadlineExceeded, &ConflictError{}), false},
		"a conflict, and then no store": {errors.Join(failure(io.ErrUnexpectedEOF), &ConflictError{}), false},
		"locked, and then no time":      {lockError(ErrLockTimeout, &LockedError{}), false},
		"a lost lock":                   {fmt.Errorf("%w: %w", ErrLockLost, errLeaseOver), false},
		"moved":                         {&movedError{}, false},
		"expired":                       {errExpired, false},
	} {
		if got := uncertain(tt.err); got != tt.want {
			t.Errorf("%s: %v", what, got)
		}
	}
}

// stubStore answers every call with err, and notes it. It locks as well.
type stubStore struct {
	calls []string
	err   error
}

func (s *stubStore) call(op string) error {
	s.calls = append(s.calls, op)
	return s.err
}

func (s *stubStore) Load(context.Context, string) (Record, error) {
	return Record{Version: "1"}, s.call("Load")
}
func (s *stubStore) Save(_ context.Context, _ string, rec Record) (Version, error) {
	return "2", s.call(fmt.Sprintf("Save %q, expires %d, later %v", rec.Version, rec.Expires.Unix(), rec.KeepLater))
}
func (s *stubStore) Touch(context.Context, string, time.Time) error { return s.call("Touch") }
func (s *stubStore) Delete(context.Context, string) error           { return s.call("Delete") }

// stubLocks is a stubStore that is a LockingBackend.
type stubLocks struct{ *stubStore }

func (s stubLocks) Acquire(context.Context, string, time.Duration) (Record, error) {
	return Record{Version: "1"}, s.call("Acquire")
}
func (s stubLocks) Extend(_ context.Context, _ string, v Version, _ time.Duration) error {
	return s.call("Extend " + string(v))
}
func (s stubLocks) Release(_ context.Context, _ string, v Version, expires time.Time) error {
	return s.call(fmt.Sprintf("Release %s, expires %v", v, !expires.IsZero()))
}

// stubLocker is a Locker whose Lease notes its calls in the same place.
type stubLocker struct{ *stubStore }

func (s stubLocker) Acquire(context.Context, string, time.Duration) (Lease, error) {
	return stubLease(s), s.call("Acquire")
}

type stubLease struct{ *stubStore }

func (s stubLease) Extend(context.Context, time.Duration) error { return s.call("Extend") }
func (s stubLease) Release(context.Context) error               { return s.call("Release") }

// stubObserver notes what it is told, or will not be told how calls end.
type stubObserver struct {
	told []string
	deaf bool
}

func (o *stubObserver) Event(_ context.Context, e observe.Event) {
	o.told = append(o.told, fmt.Sprint("event ", e.Kind))
}
func (o *stubObserver) Call(ctx context.Context, op observe.Op) (context.Context, func(error)) {
	if o.deaf {
		return ctx, nil
	}
	return ctx, func(err error) { o.told = append(o.told, fmt.Sprint(op, ": ", err)) }
}

// TestDoor: each call of the store is told to the observer as it ended, and its
// failure is marked.
func TestDoor(t *testing.T) {
	ctx := t.Context()
	until := time.Unix(2_000_000_000, 0)
	type do = func(st *storage) error
	lock := func(f func(lease) error) do {
		return func(st *storage) error {
			if st.locking != nil {
				return f(lease{st: st, key: "k", v: "1"})
			}
			return f(lease{st: st, key: "k", l: stubLease{st.locker.(stubLocker).stubStore}})
		}
	}
	for what, tt := range map[string]struct {
		do     do
		calls  []string // of the store
		locker []string // of a store with a Locker, if other calls
		told   []string
	}{
		"load": {do: func(st *storage) error { _, err := st.load(ctx, "k"); return err }, calls: []string{"Load"}, told: []string{"Load"}},
		"save": {do: func(st *storage) error { _, err := st.save(ctx, "k", Record{Version: "1", Expires: until}); return err },
			calls: []string{`Save "1", expires 2000000000, later false`}, told: []string{"Save"}},
		"touch":  {do: func(st *storage) error { return st.touch(ctx, "k", until) }, calls: []string{"Touch"}, told: []string{"Touch"}},
		"delete": {do: func(st *storage) error { return st.delete(ctx, "k") }, calls: []string{"Delete"}, told: []string{"Delete"}},
		"end":    {do: func(st *storage) error { return st.end(ctx, "k", "1") }, calls: []string{`Save "1", expires 0, later false`}, told: []string{"Delete"}},
		"endUnlessTouched": {do: func(st *storage) error { return st.endUnlessTouched(ctx, "k", Record{Version: "1", Expires: until}) },
			calls: []string{`Save "1", expires 2000000000, later true`}, told: []string{"Delete"}},
		"extend": {do: lock(func(ls lease) error { return ls.extend(ctx, time.Second) }),
			calls: []string{"Extend 1"}, locker: []string{"Extend"}, told: []string{"Extend"}},
		"release": {do: lock(func(ls lease) error { return ls.release(ctx, time.Time{}) }),
			calls: []string{"Release 1, expires false"}, locker: []string{"Release"}, told: []string{"Release"}},
		"release and move": {do: lock(func(ls lease) error { return ls.release(ctx, until) }),
			calls: []string{"Release 1, expires true"}, locker: []string{"Release"}, told: []string{"Release"}},
	} {
		for _, failed := range []error{nil, io.ErrUnexpectedEOF, ErrNotFound, &ConflictError{}, context.Canceled} {
			for _, locking := range []bool{true, false} {
				for _, o := range []*stubObserver{nil, {}, {deaf: true}} {
					s := &stubStore{err: failed}
					st := &storage{backend: s}
					if o != nil {
						st.observer = o
					}
					calls, told := tt.calls, tt.told
					if locking {
						st.locking = stubLocks{s}
					} else {
						st.locker = stubLocker{s}
						if tt.locker != nil {
							calls = tt.locker
						}
					}
					err := tt.do(st)
					if !errors.Is(err, failed) || (err == nil) != (failed == nil) || errors.Is(err, ErrStore) != (failed == io.ErrUnexpectedEOF || failed == context.Canceled) {
						t.Errorf("%s: %v became %v", what, failed, err)
					}
					if !slices.Equal(s.calls, calls) {
						t.Errorf("%s: calls %q, want %q", what, s.calls, calls)
					}
					if o == nil || o.deaf {
						continue
					}
					var want []string
					for _, op := range told {
						want = append(want, fmt.Sprintf("%s: %v", op, failed))
					}
					if !slices.Equal(o.told, want) {
						t.Errorf("%s: told %q, want %q", what, o.told, want)
					}
				}
			}
		}
	}
}

// TestEvent: an event is told to the observer, if there is one.
func TestEvent(t *testing.T) {
	o := &stubObserver{}
	for _, st := range []*storage{{}, {observer: o}} {
		st.event(t.Context(), observe.Event{Kind: observe.EventMerged})
	}
	if !slices.Equal(o.told, []string{"event Merged"}) {
		t.Errorf("told %q", o.told)
	}
}

// TestAcquire: a lock comes with the record, of either kind, and is not kept where
// the record cannot be read.
func TestAcquire(t *testing.T) {
	s := &stubStore{}
	st := &storage{backend: s, locking: stubLocks{s}}
	ls, rec, err := st.acquire(t.Context(), "k", time.Second)
	if err != nil || rec.Version != "1" || ls.v != "1" || ls.l != nil || !slices.Equal(s.calls, []string{"Acquire"}) {
		t.Errorf("%+v, %v, %v, calls %q", ls, rec, err, s.calls)
	}
	s.err = io.ErrUnexpectedEOF
	if _, _, err = st.acquire(t.Context(), "k", time.Second); !errors.Is(err, ErrStore) {
		t.Errorf("error %v", err)
	}

	s = &stubStore{}
	st = &storage{backend: s, locker: stubLocker{s}}
	ls, rec, err = st.acquire(t.Context(), "k", time.Second)
	if err != nil || rec.Version != "1" || ls.l == nil || !slices.Equal(s.calls, []string{"Acquire", "Load"}) {
		t.Errorf("%+v, %v, %v, calls %q", ls, rec, err, s.calls)
	}
	s.calls, s.err = nil, &LockedError{}
	if _, _, err = st.acquire(t.Context(), "k", time.Second); !errors.Is(err, ErrLocked) || errors.Is(err, ErrStore) || len(s.calls) != 1 {
		t.Errorf("error %v, calls %q", err, s.calls)
	}
	for _, failed := range []error{ErrNotFound, io.ErrUnexpectedEOF} {
		s = &stubStore{}
		unread := &stubStore{err: failed}
		st = &storage{backend: unread, locker: stubLocker{s}}
		if _, _, err = st.acquire(t.Context(), "k", time.Second); !errors.Is(err, failed) || !slices.Equal(s.calls, []string{"Acquire", "Release"}) {
			t.Errorf("error %v, calls %q", err, s.calls)
		}
	}
}

// TestRemove: what nobody needs is deleted even for a caller that has left.
func TestRemove(t *testing.T) {
	s := &contextStore{}
	st := &storage{backend: s}
	st.remove(t.Context(), "k")
	if s.ctx != t.Context() {
		t.Error("it has another context")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	st.remove(ctx, "k")
	if deadline, ok := s.ctx.Deadline(); s.err != nil || !ok || time.Until(deadline) > time.Second {
		t.Errorf("the context ends %v, %v, and has ended: %v", ok, deadline, s.err)
	}
}

// contextStore remembers the context of a Delete.
type contextStore struct {
	stubStore
	ctx context.Context
	err error // of ctx, then
}

func (s *contextStore) Delete(ctx context.Context, _ string) error {
	s.ctx, s.err = ctx, ctx.Err()
	return nil
}

// TestSentinels: each error is itself alone.
func TestSentinels(t *testing.T) {
	for _, a := range everySentinel {
		for _, b := range everySentinel {
			if errors.Is(a.err, b.err) != (a == b) {
				t.Errorf("%v is %v", a.err, b.err)
			}
		}
		if got := slices.Contains(answers, a.err); got != a.answer {
			t.Errorf("%v is an answer: %v", a.err, got)
		}
	}
	gone, changed, locked := error(&ConflictError{Gone: true}), error(&ConflictError{}), error(&LockedError{})
	for _, s := range everySentinel {
		if errors.Is(gone, s.err) != (s.err == ErrConflict || s.err == ErrNotFound) || errors.Is(changed, s.err) != (s.err == ErrConflict) || errors.Is(locked, s.err) != (s.err == ErrLocked) {
			t.Errorf("%v in %v, %v or %v", s.err, gone, changed, locked)
		}
	}
	if isAny(ErrLocked) || isAny(nil, answers...) || !isAny(ErrLocked, ErrStore, ErrLocked) || isAny(ErrLocked, ErrStore) {
		t.Error("isAny is wrong")
	}
	if unlessGone(nil) != nil || unlessGone(gone) != nil || unlessGone(errMoved) != nil || unlessGone(changed) != changed {
		t.Error("unlessGone is wrong")
	}
}
