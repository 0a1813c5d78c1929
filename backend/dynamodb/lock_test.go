package dynamodb

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/seed-a7bee19b/session"
)

func mustAcquire(t testing.TB, b *Backend, ttl time.Duration) session.Record {
	t.Helper()
	rec, err := b.Acquire(context.Background(), key, ttl)
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

func mustRelease(t testing.TB, b *Backend, v session.Version) {
	t.Helper()
	if err := b.Release(context.Background(), key, v, time.Time{}); err != nil {
		t.Fatal(err)
	}
}

// someHolder is the version of a lock's holder.
var someHolder = lock{id: "0123456789abcdef"}.held(session.Record{Version: "12345678"}).Version

// state returns the stored item as text.
func (f *fake) state() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	it := f.items[key]
	if it == nil {
		return "none"
	}
	var s strings.Builder
	for _, name := range []string{"id", "data", "expires", "created", "version", "lock", "lock_until"} {
		switch v := it[name].(type) {
		case *types.AttributeValueMemberB:
			fmt.Fprintf(&s, "%s %x ", name, v.Value)
		case *types.AttributeValueMemberS:
			fmt.Fprintf(&s, "%s %q ", name, v.Value)
		case *types.AttributeValueMemberN:
			fmt.Fprintf(&s, "%s %s ", name, v.Value)
		}
	}
	return s.String()
}

// The outcomes of a call.
const (
	success = iota
	conflicts
	gone
	locked
	notFound
	unknown
)

// checkOutcome checks that err is exactly the one that is wanted.
func checkOutcome(t testing.TB, what string, err error, want int) {
	t.Helper()
	var (
		ce *session.ConflictError
		le *session.LockedError
	)
	got := unknown
	switch {
	case err == nil:
		got = success
	case errors.As(err, &ce) && ce.Gone:
		got = gone
	case errors.As(err, &ce):
		got = conflicts
	case errors.As(err, &le):
		got = locked
	case errors.Is(err, session.ErrNotFound):
		got = notFound
	}
	if got != want {
		t.Errorf("%s: %v (%d), want %d", what, err, got, want)
	}
	if got == locked && (le.Until.IsZero() || errors.Is(err, session.ErrConflict)) {
		t.Errorf("%s: locked until %v: %v", what, le.Until, err)
	}
	if ce != nil && ce.Current != nil {
		if held, h := split(ce.Current.Version); held.id != "" || !h.valid() && !packed(ce.Current.Version) {
			t.Errorf("%s: Current has a holder's version", what)
		}
	}
	if want == unknown && (!strings.Contains(err.Error(), "not known whether it was applied") || !errors.Is(err, errReset)) {
		t.Errorf("%s: %v", what, err)
	}
	if err != nil && strings.Contains(err.Error(), key) {
		t.Errorf("%s: the key is in the error", what)
	}
}

// A locked read, change and write takes two requests, and so does a locked read
// without a change.
func TestLockedReadModifyWrite(t *testing.T) {
	f := newFake()
	b := newBackend(t, f, Config{})
	v1 := mustSave(t, b, record("1"))
	free := mustLoad(t, b)
	if !free.LockedUntil.IsZero() {
		t.Errorf("free, but locked until %v", free.LockedUntil)
	}

	n := f.count()
	before := time.Now()
	rec := mustAcquire(t, b, time.Minute)
	after := time.Now().Add(time.Millisecond)
	if string(rec.Data) != "1" || !rec.Created.Equal(free.Created) || !rec.Expires.Equal(free.Expires) {
		t.Errorf("Acquire returns %+v, want %+v", rec, free)
	}
	if rec.LockedUntil.Before(before.Add(time.Minute)) || rec.LockedUntil.After(after.Add(time.Minute)) {
		t.Errorf("locked until %v, at %v", rec.LockedUntil, before)
	}
	if rec.Version == v1 {
		t.Error("the holder has no version of its own")
	}
	v2 := mustSave(t, b, replaced(rec, rec.Version, "2"))
	if got := f.requests(); f.count() != n+2 {
		t.Errorf("requests: %s", got)
	}
	got := mustLoad(t, b)
	if string(got.Data) != "2" || got.Version != v2 || !got.LockedUntil.IsZero() || len(v2) != 2*tokenSize {
		t.Errorf("after Save %+v at %x", got, v2)
	}
	if state := f.state(); strings.Contains(state, "lock") {
		t.Errorf("left behind: %s", state)
	}

	n = f.count()
	rec = mustAcquire(t, b, time.Minute)
	seen := mustLoad(t, b)
	if seen.Version != v2 || string(seen.Data) != "2" || !seen.LockedUntil.Equal(rec.LockedUntil) {
		t.Errorf("under the lock: %+v", seen)
	}
	mustRelease(t, b, rec.Version)
	if f.count() != n+3 {
		t.Errorf("requests: %s", f.requests())
	}
	if got := mustLoad(t, b); got.Version != v2 || !got.LockedUntil.IsZero() || strings.Contains(f.state(), "lock") {
		t.Errorf("after Release: %+v", got)
	}
	// Each holder has another version, even if nothing was written.
	if again := mustAcquire(t, b, time.Minute); again.Version == rec.Version {
		t.Error("two holders with one version")
	}
}

func TestAcquireWhereNothingIs(t *testing.T) {
	ctx := context.Background()
	for _, withoutOld := range []bool{false, true} {
		f := newFake()
		f.withoutOld = withoutOld
		b := newBackend(t, f, Config{})
		_, err := b.Acquire(ctx, key, time.Minute)
		checkOutcome(t, "absent", err, notFound)
		if f.state() != "none" {
			t.Error("Acquire creates")
		}

		dead := record("1")
		dead.Expires = time.Now().Add(-time.Second)
		mustSave(t, b, dead)
		_, err = b.Acquire(ctx, key, time.Minute)
		checkOutcome(t, "expired", err, notFound)
		if f.state() != "none" {
			t.Error("a record is there that was said to be none")
		}

		mustSave(t, b, record("2"))
		mustAcquire(t, b, time.Minute)
		if err := b.Delete(ctx, key); err != nil {
			t.Fatal(err)
		}
		_, err = b.Acquire(ctx, key, time.Minute)
		checkOutcome(t, "deleted", err, notFound)
	}
}

// A live lock refuses the writes of others, and nothing else.
func TestUnderLock(t *testing.T) {
	ctx := context.Background()
	for _, withoutOld := range []bool{false, true} {
		f := newFake()
		f.withoutOld = withoutOld
		b, other := newBackend(t, f, Config{}), newBackend(t, f, Config{})
		v1 := mustSave(t, b, record("1"))
		v2 := mustSave(t, b, replaced(record(""), v1, "2"))
		rec := mustAcquire(t, b, time.Minute)
		before := f.state()

		save := func(v session.Version) error {
			_, err := other.Save(ctx, key, replaced(record(""), v, "3"))
			return err
		}
		acquire := func(session.Version) error { _, err := other.Acquire(ctx, key, time.Minute); return err }
		extend := func(v session.Version) error { return other.Extend(ctx, key, v, time.Minute) }
		release := func(v session.Version) error { return other.Release(ctx, key, v, time.Now().Add(2*time.Hour)) }
		forged := lock{id: strings.Repeat("x", lockIDSize)}.held(session.Record{Version: v2}).Version
		for _, tt := range []struct {
			name string
			call func(session.Version) error
			v    session.Version
			want int
		}{
			{"Acquire", acquire, "", locked},
			{"Save of the state that is stored", save, v2, locked},
			{"Save of an older state", save, v1, locked},
			{"Save of a state that never was", save, "bogus", locked},
			{"Save that creates", save, "", locked},
			{"Save of another holder", save, forged, conflicts},
			{"Extend without a lock", extend, v2, conflicts},
			{"Extend with no version", extend, "", conflicts},
			{"Extend of another holder", extend, forged, conflicts},
			{"Release without a lock", release, v2, conflicts},
			{"Release with no version", release, "", conflicts},
			{"Release of another holder", release, forged, conflicts},
		} {
			n := f.count()
			err := tt.call(tt.v)
			checkOutcome(t, tt.name, err, tt.want)
			var le *session.LockedError
			if errors.As(err, &le) && !le.Until.Equal(rec.LockedUntil) {
				t.Errorf("%s: until %v, want %v", tt.name, le.Until, rec.LockedUntil)
			}
			if !withoutOld && f.count() > n+1 {
				t.Errorf("%s: %d requests", tt.name, f.count()-n)
			}
			if f.state() != before {
				t.Fatalf("%s: the item was changed", tt.name)
			}
		}

		later := time.Now().Add(3 * time.Hour)
		if err := other.Touch(ctx, key, later); err != nil {
			t.Errorf("Touch: %v", err)
		}
		if got := mustLoad(t, other); got.Expires.Before(later) || got.Version != v2 || !got.LockedUntil.Equal(rec.LockedUntil) {
			t.Errorf("after Touch: %+v", got)
		}
		if err := b.Extend(ctx, key, rec.Version, time.Hour); err != nil {
			t.Errorf("Extend: %v", err)
		}
		if got := mustLoad(t, other); got.Version != v2 || time.Until(got.LockedUntil) < 59*time.Minute {
			t.Errorf("after Extend: %+v", got)
		}
		mustSave(t, b, replaced(rec, rec.Version, "holder's"))
		if err := save(v2); !errors.Is(err, session.ErrConflict) {
			t.Errorf("Save of what the holder has read: %v", err)
		}
	}
}

// Each call of a holder that has lost its lock, in whichever way, fails and
// changes nothing.
func TestFormerHolder(t *testing.T) {
	ctx := context.Background()
	lapse := func(_ testing.TB, b *Backend, _ session.Version) {
		b.client.(*fake).ahead.Add(int64(time.Minute + time.Millisecond))
	}
	takeOver := func(t testing.TB, b *Backend, v session.Version) { lapse(t, b, v); mustAcquire(t, b, time.Hour) }
	remove := func(t testing.TB, b *Backend, _ session.Version) {
		if err := b.Delete(ctx, key); err != nil {
			t.Fatal(err)
		}
	}
	anew := func(t testing.TB, b *Backend, v session.Version) { remove(t, b, v); mustSave(t, b, record("anew")) }
	for _, tt := range []struct {
		name string
		lose func(testing.TB, *Backend, session.Version)
		want int
	}{
		{"taken over", takeOver, conflicts},
		{"taken over, and written", func(t testing.TB, b *Backend, v session.Version) {
			lapse(t, b, v)
			mustSave(t, b, mustAcquire(t, b, time.Hour))
		}, conflicts},
		{"taken over, and released", func(t testing.TB, b *Backend, v session.Version) {
			lapse(t, b, v)
			mustRelease(t, b, mustAcquire(t, b, time.Hour).Version)
		}, conflicts},
		{"taken over twice", func(t testing.TB, b *Backend, v session.Version) {
			lapse(t, b, v)
			mustAcquire(t, b, time.Minute)
			takeOver(t, b, v)
		}, conflicts},
		{"overtaken by a Save without a lock", func(t testing.TB, b *Backend, v session.Version) {
			lapse(t, b, v)
			mustSave(t, b, mustLoad(t, b))
		}, conflicts},
		{"saved", func(t testing.TB, b *Backend, v session.Version) {
			mustSave(t, b, replaced(record(""), v, "mine"))
		}, conflicts},
		{"saved, and locked by another", func(t testing.TB, b *Backend, v session.Version) {
			mustSave(t, b, replaced(record(""), v, "mine"))
			mustAcquire(t, b, time.Hour)
		}, conflicts},
		{"released", func(t testing.TB, b *Backend, v session.Version) { mustRelease(t, b, v) }, conflicts},
		{"released, and locked by another", func(t testing.TB, b *Backend, v session.Version) {
			mustRelease(t, b, v)
			mustAcquire(t, b, time.Hour)
		}, conflicts},
		{"deleted", remove, gone},
		{"expired", func(_ testing.TB, b *Backend, _ session.Version) {
			b.client.(*fake).ahead.Add(int64(2 * time.Hour))
		}, gone},
		{"deleted and made anew", anew, conflicts},
		{"deleted, made anew and locked", func(t testing.TB, b *Backend, v session.Version) {
			anew(t, b, v)
			mustAcquire(t, b, time.Hour)
		}, conflicts},
		{"expired and made anew", func(t testing.TB, b *Backend, _ session.Version) {
			b.client.(*fake).ahead.Add(int64(2 * time.Hour))
			rec := record("anew")
			rec.Expires = rec.Expires.Add(2 * time.Hour)
			mustSave(t, b, rec)
			if strings.Contains(b.client.(*fake).state(), "lock") {
				t.Error("a record is born locked")
			}
		}, conflicts},
	} {
		for _, withoutOld := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/ALL_OLD ignored %v", tt.name, withoutOld), func(t *testing.T) {
				f := newFake()
				f.withoutOld = withoutOld
				b, other := newClockedBackend(t, f, Config{}), newClockedBackend(t, f, Config{})
				mustSave(t, b, record("1"))
				rec := mustAcquire(t, b, time.Minute)
				tt.lose(t, other, rec.Version)
				before := f.state()

				checkOutcome(t, "Extend", b.Extend(ctx, key, rec.Version, time.Hour), tt.want)
				late := replaced(record(""), rec.Version, "late")
				late.Expires = b.now().Add(time.Hour)
				_, err := b.Save(ctx, key, late)
				checkOutcome(t, "Save", err, tt.want)
				checkOutcome(t, "Release", b.Release(ctx, key, rec.Version, time.Time{}), tt.want)
				checkOutcome(t, "Release with Expires", b.Release(ctx, key, rec.Version, time.Now().Add(9*time.Hour)), tt.want)
				if tt.name == "expired" {
					before = "none" // what was said to be gone is
				}
				if f.state() != before {
					t.Errorf("the item was changed: %s, was %s", f.state(), before)
				}
			})
		}
	}
}

// A holder whose lease has run out can write and release as long as nobody has
// taken the lock over, but cannot extend it.
func TestLapsedLock(t *testing.T) {
	ctx := context.Background()
	for _, end := range []string{"Save", "Release"} {
		f := newFake()
		b := newClockedBackend(t, f, Config{})
		v := mustSave(t, b, record("1"))
		rec := mustAcquire(t, b, time.Minute)
		f.ahead.Add(int64(time.Minute + time.Millisecond))
		if got := mustLoad(t, b); !got.LockedUntil.IsZero() || got.Version != v {
			t.Errorf("Load: %+v", got)
		}
		err := b.Extend(ctx, key, rec.Version, time.Minute)
		checkOutcome(t, "Extend", err, conflicts)
		if end == "Save" {
			mustSave(t, b, replaced(rec, rec.Version, "2"))
		} else {
			mustRelease(t, b, rec.Version)
		}
		if strings.Contains(f.state(), "lock") {
			t.Errorf("%s: %s", end, f.state())
		}
	}
}

// A Save without a lock removes one that has run out.
func TestSaveEndsLapsedLock(t *testing.T) {
	f := newFake()
	b := newClockedBackend(t, f, Config{})
	v := mustSave(t, b, record("1"))
	mustAcquire(t, b, time.Minute)
	f.ahead.Add(int64(time.Minute + time.Millisecond))
	mustSave(t, b, replaced(record(""), v, "2"))
	if strings.Contains(f.state(), "lock") {
		t.Error(f.state())
	}
}

func TestReleaseMovesExpires(t *testing.T) {
	ctx := context.Background()
	stored := time.Unix(time.Now().Unix()+100, 0)
	for _, tt := range []struct {
		name           string
		release, touch time.Time
		want           time.Time
		requests       int
	}{
		{"not", time.Time{}, time.Time{}, stored, 1},
		{"earlier", stored.Add(-50 * time.Second), time.Time{}, stored, 1},
		{"past", time.Unix(1, 0), time.Time{}, stored, 1},
		{"same", stored, time.Time{}, stored, 1},
		{"later", stored.Add(1), time.Time{}, stored.Add(time.Second), 1},
		{"later than a Touch", stored.Add(time.Hour), stored.Add(time.Minute), stored.Add(time.Hour), 1},
		{"as late as a Touch", stored.Add(time.Minute), stored.Add(time.Minute), stored.Add(time.Minute), 2},
		{"earlier than a Touch", stored.Add(time.Minute), stored.Add(time.Hour), stored.Add(time.Hour), 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFake()
			b := newBackend(t, f, Config{})
			rec := record("1")
			rec.Expires = stored
			v := mustSave(t, b, rec)
			rec = mustAcquire(t, b, time.Minute)
			if err := b.Touch(ctx, key, tt.touch); err != nil {
				t.Fatal(err)
			}
			n := f.count()
			if err := b.Release(ctx, key, rec.Version, tt.release); err != nil {
				t.Fatal(err)
			}
			if f.count() != n+tt.requests {
				t.Errorf("%d requests, want %d", f.count()-n, tt.requests)
			}
			if got := mustLoad(t, b); !got.Expires.Equal(tt.want) || got.Version != v || strings.Contains(f.state(), "lock") {
				t.Errorf("%v, want %v: %s", got.Expires, tt.want, f.state())
			}
		})
	}
}

// A retry makes up for the lost response to any request about a lock.
func TestLostResponseWithLock(t *testing.T) {
	ctx := context.Background()
	later := time.Now().Add(2 * time.Hour)
	for _, ft := range []struct {
		name string
		f    fault
	}{
		{"connection reset", fault{after: errReset}},
		{"500", fault{after: errInternal}},
		{"never answered", fault{mute: true}},
		{"not applied", fault{lost: errReset}},
		{"throttled", fault{lost: errThrottle}},
	} {
		for _, withoutOld := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/ALL_OLD ignored %v", ft.name, withoutOld), func(t *testing.T) {
				f := newFake()
				f.withoutOld = withoutOld
				b := newBackend(t, f, quick(Config{AttemptTimeout: 20 * time.Millisecond}))
				mustSave(t, b, record("1"))
				twice := func(what string, call func() error) {
					t.Helper()
					f.fail(ft.f)
					n := f.count()
					if err := call(); err != nil {
						t.Fatalf("%s: %v", what, err)
					}
					if got := f.count() - n; got != 2 && (!withoutOld || got != 3) {
						t.Errorf("%s: %d requests", what, got)
					}
				}

				var rec session.Record
				acquire := func() (err error) { rec, err = b.Acquire(ctx, key, time.Minute); return err }
				twice("Acquire", acquire)
				if got := mustLoad(t, b); string(rec.Data) != "1" || !got.LockedUntil.Equal(rec.LockedUntil) || got.Version == rec.Version {
					t.Errorf("after Acquire: %+v, stored %+v", rec, got)
				}
				twice("Extend", func() error { return b.Extend(ctx, key, rec.Version, time.Hour) })
				if got := mustLoad(t, b); time.Until(got.LockedUntil) < 59*time.Minute {
					t.Errorf("after Extend: %v", got.LockedUntil)
				}
				twice("Save", func() error { _, err := b.Save(ctx, key, replaced(rec, rec.Version, "2")); return err })
				if got := mustLoad(t, b); string(got.Data) != "2" || len(got.Version) != 2*tokenSize || !got.LockedUntil.IsZero() {
					t.Errorf("after Save: %+v", got)
				}
				twice("Acquire", acquire)
				twice("Release", func() error { return b.Release(ctx, key, rec.Version, time.Time{}) })
				twice("Acquire", acquire)
				twice("Release with Expires", func() error { return b.Release(ctx, key, rec.Version, later) })
				if got := mustLoad(t, b); got.Expires.Before(later) || !got.LockedUntil.IsZero() {
					t.Errorf("after Release: %+v", got)
				}
			})
		}
	}
}

// The verdict of a retry after a lost response. Before the retry the lease may run
// out, and others may use the record.
func TestWhatRetryFindsWithLock(t *testing.T) {
	ctx := context.Background()
	const ttl = time.Minute
	type step = func(testing.TB, *Backend, *fake)
	nothing := func(testing.TB, *Backend, *fake) {}
	lapse := func(_ testing.TB, _ *Backend, f *fake) { f.ahead.Add(int64(ttl + time.Millisecond)) }
	lockIt := func(t testing.TB, b *Backend, _ *fake) { mustAcquire(t, b, ttl) }
	lockAndWrite := func(n int) step {
		return func(t testing.TB, b *Backend, _ *fake) {
			for range n {
				mustSave(t, b, replaced(record(""), mustAcquire(t, b, ttl).Version, "theirs"))
			}
		}
	}
	write := func(n int) step {
		return func(t testing.TB, b *Backend, _ *fake) {
			for range n {
				mustSave(t, b, replaced(record(""), mustLoad(t, b).Version, "theirs"))
			}
		}
	}
	look := func(t testing.TB, b *Backend, _ *fake) { mustRelease(t, b, mustAcquire(t, b, ttl).Version) }
	touch := func(t testing.TB, b *Backend, _ *fake) {
		if err := b.Touch(ctx, key, time.Now().Add(9*time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	remove := func(t testing.TB, b *Backend, _ *fake) {
		if err := b.Delete(ctx, key); err != nil {
			t.Fatal(err)
		}
	}
	anew := func(t testing.TB, b *Backend, f *fake) { remove(t, b, f); mustSave(t, b, record("anew")) }
	expire := func(_ testing.TB, b *Backend, f *fake) { f.items[key]["expires"] = number(b.now().Unix()) }
	spoil := func(_ testing.TB, _ *Backend, f *fake) { f.items[key]["version"] = number(1) }
	steps := func(all ...step) step {
		return func(t testing.TB, b *Backend, f *fake) {
			for _, s := range all {
				s(t, b, f)
			}
		}
	}

	const (
		doAcquire = "Acquire"
		doSave    = "Save of the holder"
		doPlain   = "Save without a lock"
		doExtend  = "Extend"
		doRelease = "Release"
		doMove    = "Release with Expires"
	)
	applied, dropped, refused := fault{after: errReset}, fault{lost: errReset}, fault{lost: errThrottle}
	for _, tt := range []struct {
		call      string
		name      string
		first     fault
		meanwhile step
		want      int
	}{
		{doAcquire, "ours", applied, nothing, success},
		{doAcquire, "ours, and touched", applied, touch, success},
		{doAcquire, "ours has run out", applied, lapse, success},
		{doAcquire, "ours has run out, and was taken over", applied, steps(lapse, lockIt), locked},
		{doAcquire, "ours has run out, and others have written", applied, steps(lapse, write(9)), success},
		{doAcquire, "ours, then deleted", applied, remove, notFound},
		{doAcquire, "ours, then expired", applied, expire, notFound},
		{doAcquire, "ours, then deleted and made anew", applied, anew, success},
		{doAcquire, "dropped, and another was faster", dropped, lockIt, locked},
		{doAcquire, "throttled, and another was faster", refused, lockIt, locked},
		{doAcquire, "dropped, and another was faster and ready", dropped, lockAndWrite(1), success},

		{doSave, "applied", applied, nothing, success},
		{doSave, "applied, then locked", applied, lockIt, success},
		{doSave, "applied, then locked and written", applied, lockAndWrite(1), success},
		{doSave, "applied, then locked, written and locked again", applied, steps(lockAndWrite(tokens-1), lockIt), success},
		{doSave, "may be under as many writes as tokens", applied, lockAndWrite(tokens), unknown},
		{doSave, "may be under as many writes as tokens, locked", applied, steps(lockAndWrite(tokens), lockIt), unknown},
		{doSave, "applied, then locked and released", applied, look, success},
		{doSave, "applied, then expired", applied, expire, success},
		{doSave, "applied, then deleted", applied, remove, gone},
		{doSave, "applied, then spoilt", applied, spoil, unknown},
		{doSave, "dropped, and ours has run out", dropped, lapse, success},
		{doSave, "dropped, then taken over", dropped, steps(lapse, lockIt), conflicts},
		{doSave, "dropped, then taken over and released", dropped, steps(lapse, look), conflicts},
		{doSave, "dropped, then taken over and written", dropped, steps(lapse, lockAndWrite(1)), conflicts},
		{doSave, "dropped, then taken over by a Save", dropped, steps(lapse, write(1)), conflicts},
		{doSave, "dropped, then taken over as often", dropped, steps(lapse, lockAndWrite(tokens)), unknown},
		{doSave, "throttled, then taken over as often", refused, steps(lapse, lockAndWrite(tokens)), conflicts},
		{doSave, "dropped, then deleted", dropped, remove, gone},
		{doSave, "dropped, then deleted and made anew", dropped, anew, conflicts},

		{doPlain, "applied, then locked", applied, lockIt, success},
		{doPlain, "applied, then written just less often and locked", applied, steps(write(tokens-1), lockIt), success},
		{doPlain, "may be under as many writes as tokens, locked", applied, steps(write(tokens), lockIt), unknown},
		{doPlain, "dropped, then locked", dropped, lockIt, unknown},
		{doPlain, "throttled, then locked", refused, lockIt, locked},
		{doPlain, "dropped, then written and locked", dropped, steps(write(1), lockIt), locked},
		{doPlain, "dropped, then written as often as there are tokens and locked", dropped, steps(write(tokens), lockIt), unknown},
		{doPlain, "throttled, then written as often as there are tokens and locked", refused, steps(write(tokens), lockIt), locked},
		{doPlain, "dropped, then locked and written", dropped, lockAndWrite(1), conflicts},
		{doPlain, "dropped, then locked and released", dropped, look, success},
		{doPlain, "dropped, then locked and deleted", dropped, steps(lockIt, remove), gone},
		{doPlain, "dropped, then locked and expired", dropped, steps(lockIt, expire), gone},
		{doPlain, "dropped, then locked until it ran out", dropped, steps(lockIt, lapse), success},

		{doExtend, "applied", applied, nothing, success},
		{doExtend, "applied, and touched", applied, touch, success},
		{doExtend, "dropped, and ours has run out", dropped, lapse, conflicts},
		{doExtend, "dropped, then taken over", dropped, steps(lapse, lockIt), conflicts},
		{doExtend, "dropped, then taken over and written", dropped, steps(lapse, lockAndWrite(9)), conflicts},
		{doExtend, "applied, then deleted", applied, remove, gone},
		{doExtend, "applied, then expired", applied, expire, gone},
		{doExtend, "applied, then made anew", applied, anew, conflicts},
		{doExtend, "applied, then spoilt", applied, steps(anew, spoil), conflicts},

		{doRelease, "applied", applied, nothing, success},
		{doRelease, "applied, then locked", applied, lockIt, success},
		{doRelease, "applied, then written", applied, write(1), success},
		{doRelease, "applied, then locked and written 9 times", applied, lockAndWrite(9), success},
		{doRelease, "applied, then deleted", applied, remove, gone},
		{doRelease, "applied, then spoilt", applied, spoil, unknown},
		{doRelease, "dropped, then taken over", dropped, steps(lapse, lockIt), success},
		{doRelease, "throttled, then taken over", refused, steps(lapse, lockIt), conflicts},
		{doRelease, "throttled, then taken over and spoilt", refused, steps(lapse, lockIt, spoil), conflicts},
		{doRelease, "dropped, and ours has run out", dropped, lapse, success},

		{doMove, "applied", applied, nothing, success},
		{doMove, "applied, then locked", applied, lockIt, success},
		{doMove, "applied, then locked and written", applied, lockAndWrite(1), success},
		{doMove, "applied, then touched", applied, touch, success},
		{doMove, "applied, then deleted", applied, remove, gone},
		{doMove, "dropped, then touched", dropped, touch, success},
		{doMove, "dropped, then taken over", dropped, steps(lapse, lockIt), conflicts},
		{doMove, "dropped, then taken over and touched", dropped, steps(lapse, lockIt, touch), success},
		{doMove, "dropped, then taken over and written", dropped, steps(lapse, lockAndWrite(1)), success},
		{doMove, "throttled, then taken over and written", refused, steps(lapse, lockAndWrite(1)), conflicts},
	} {
		for _, withoutOld := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/%s/ALL_OLD ignored %v", tt.call, tt.name, withoutOld), func(t *testing.T) {
				f := newFake()
				f.withoutOld = withoutOld
				b, other := newClockedBackend(t, f, Config{}), newClockedBackend(t, f, Config{})
				rec := record("old")
				rec.Version = mustSave(t, b, rec)
				switch tt.call {
				case doSave, doExtend, doRelease, doMove:
					rec = mustAcquire(t, b, ttl)
				}
				first := tt.first
				first.then = func() { tt.meanwhile(t, other, f) }
				f.fail(first)

				var (
					err error
					v   session.Version
				)
				switch tt.call {
				case doAcquire:
					rec, err = b.Acquire(ctx, key, ttl)
				case doSave, doPlain:
					v, err = b.Save(ctx, key, replaced(record(""), rec.Version, "ours"))
				case doExtend:
					err = b.Extend(ctx, key, rec.Version, ttl)
				case doRelease:
					err = b.Release(ctx, key, rec.Version, time.Time{})
				case doMove:
					err = b.Release(ctx, key, rec.Version, time.Now().Add(2*time.Hour))
				}
				checkOutcome(t, tt.call, err, tt.want)
				if err != nil {
					return
				}
				switch tt.call {
				case doAcquire:
					// The lock is there, and the record is the stored one.
					got := mustLoad(t, other)
					if string(got.Data) != string(rec.Data) || !got.Expires.Equal(rec.Expires) || !got.LockedUntil.Equal(rec.LockedUntil) {
						t.Errorf("got %+v, stored %+v", rec, got)
					}
					mustSave(t, b, replaced(rec, rec.Version, "ours"))
				case doSave, doPlain:
					if history(mustLoad(t, b).Version).index(history(v).newest()) < 0 {
						t.Error("the version that Save returned was never stored")
					}
				case doMove:
					if got := mustLoad(t, b); time.Until(got.Expires) < time.Hour && string(got.Data) != "theirs" {
						t.Errorf("Expires was not moved: %v", got.Expires)
					}
				}
			})
		}
	}
}

// The version of a holder and that of another client are never confused.
func TestSplit(t *testing.T) {
	id := strings.Repeat("i", lockIDSize)
	for n := 1; n <= tokens; n++ {
		h := history(strings.Repeat("L", n*tokenSize))
		if held, got := split(session.Version(h)); held.id != "" || got != h {
			t.Errorf("%d tokens: %q, %q", n, held.id, got)
		}
		expires := time.Unix(int64(n)*1e9, 0)
		v := lock{id: id}.held(session.Record{Version: session.Version(h), Expires: expires}).Version
		if held, got := split(v); held.id != id || held.expires != expires.Unix() || got != h {
			t.Errorf("%d tokens: %+v, %q", n, held, got)
		}
		for i := range holdingSize { // a version that no Acquire returned is nobody's
			forged := []byte(v)
			forged[i] ^= 1
			if held, got := split(session.Version(forged)); held.id != "" || session.Version(got) != session.Version(forged) {
				t.Errorf("%d tokens, byte %d changed: %+v, %q", n, i, held, got)
			}
		}
	}
	for _, v := range []string{"", "L", "L" + id, "L" + id + "12345678", "L" + id + "123456781234567", strings.Repeat("L", 1+16+8+tokens*tokenSize+tokenSize), "M" + id + "1234567812345678"} {
		if held, h := split(session.Version(v)); held.id != "" || h != history(v) {
			t.Errorf("%q: %+v, %q", v, held, h)
		}
	}
}

func TestForeignLock(t *testing.T) {
	ctx := context.Background()
	B := func(n int) types.AttributeValue { return &types.AttributeValueMemberB{Value: make([]byte, n)} }
	future := number(time.Now().Add(time.Hour).UnixMilli())
	for _, tt := range []struct {
		name        string
		lock, until types.AttributeValue
		words       string // in the error of Load; "" if the record is free
	}{
		{"of the PHP handler", number(1), nil, `"lock" is not of type B`},
		{"too short", B(15), future, `"lock" is not of type B`},
		{"empty", B(0), future, `"lock" is not of type B`},
		{"without an end", B(16), nil, `"lock_until" is missing`},
		{"with an end that is text", B(16), &types.AttributeValueMemberS{Value: "1"}, `"lock_until" is not of type N`},
		{"with a fraction", B(16), &types.AttributeValueMemberN{Value: "99999999999999.5"}, `"lock_until" is not of type N`},
		{"with an end that is no time", B(16), &types.AttributeValueMemberN{Value: "253402300800000"}, `"lock_until" is not of type N`},
		{"an end alone", nil, future, ""},
		{"an end alone that is text", nil, &types.AttributeValueMemberS{Value: "1"}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFake()
			b := newBackend(t, f, Config{})
			v := mustSave(t, b, record("1"))
			it := maps.Clone(f.items[key])
			for name, value := range map[string]types.AttributeValue{"lock": tt.lock, "lock_until": tt.until} {
				if value != nil {
					it[name] = value
				}
			}
			f.items[key] = it
			before := f.state()

			rec, err := b.Load(ctx, key)
			if tt.words == "" {
				if err != nil || !rec.LockedUntil.IsZero() {
					t.Errorf("Load: %+v, %v", rec, err)
				}
				rec = mustAcquire(t, b, time.Minute)
				mustSave(t, b, replaced(rec, rec.Version, "2"))
				if strings.Contains(f.state(), "lock") {
					t.Error(f.state())
				}
				return
			}
			if !errors.Is(err, session.ErrDecode) || !strings.Contains(err.Error(), tt.words) {
				t.Errorf("Load: %v", err)
			}
			if _, err := b.Acquire(ctx, key, time.Minute); !errors.Is(err, session.ErrDecode) || !strings.Contains(err.Error(), tt.words) {
				t.Errorf("Acquire: %v", err)
			}
			if _, err := b.Save(ctx, key, replaced(record(""), v, "2")); !errors.Is(err, session.ErrConflict) {
				t.Errorf("Save: %v", err)
			}
			if f.state() != before {
				t.Error("overwritten")
			}
		})
	}

	// An item that cannot be read does not stay locked.
	f := newFake()
	b := newBackend(t, f, Config{})
	mustSave(t, b, record("1"))
	f.items[key]["data"] = number(1)
	before := f.state()
	if _, err := b.Acquire(ctx, key, time.Minute); !errors.Is(err, session.ErrDecode) {
		t.Errorf("Acquire: %v", err)
	}
	if f.state() != before {
		t.Errorf("left behind: %s", f.state())
	}
}

// size returns the size that DynamoDB counts for it.
func size(it item) int {
	n := 0
	for name, v := range it {
		n += len(name)
		switch v := v.(type) {
		case *types.AttributeValueMemberB:
			n += len(v.Value)
		case *types.AttributeValueMemberS:
			n += len(v.Value)
		case *types.AttributeValueMemberN:
			i, _ := strconv.ParseInt(v.Value, 10, 64)
			n += numberSize(i)
		}
	}
	return n
}

// The largest record that Save accepts can still be locked.
func TestSizeOfLockedItem(t *testing.T) {
	f := newFake()
	b := newBackend(t, f, Config{MaxItemSize: 500})
	rec := record("")
	for {
		next := rec
		next.Data = append(bytes.Clone(rec.Data), 'x')
		if _, _, err := b.fits(key, next, history("12345678")); err != nil {
			break
		}
		rec = next
	}
	mustSave(t, b, rec)
	free := size(f.items[key])
	got := mustAcquire(t, b, time.Minute)
	if locked := size(f.items[key]); locked > 500 || locked < 498 || locked <= free {
		t.Errorf("the item has %d bytes, locked %d", free, locked)
	}
	mustRelease(t, b, got.Version)

	// Only DynamoDB knows about the attributes of others.
	f.fail(fault{lost: apiFault(400, "ValidationException", "Item size to update has exceeded the maximum allowed size")})
	if _, err := b.Acquire(context.Background(), key, time.Minute); !errors.Is(err, session.ErrTooLarge) {
		t.Errorf("refused by DynamoDB: %v", err)
	}
}

// With an engine that ignores ALL_OLD, a read after the refusal may find a
// record that is free. Acquire tries again, but not for ever.
func TestAcquireRacesWithRead(t *testing.T) {
	ctx := context.Background()
	for _, races := range []int{1, 2, 3} {
		f := newFake()
		f.withoutOld = true
		b, other := newBackend(t, f, quick(Config{MaxAttempts: 3})), newBackend(t, f, Config{})
		mustSave(t, b, record("1"))
		v := mustAcquire(t, other, time.Minute).Version
		for i := range races {
			f.fail(fault{then: func() { mustRelease(t, other, v) }}, fault{})
			if i < races-1 {
				f.fail(fault{then: func() { v = mustAcquire(t, other, time.Minute).Version }}, fault{})
			}
		}
		_, err := b.Acquire(ctx, key, time.Minute)
		if races < 3 && err != nil || races == 3 && !errors.Is(err, session.ErrLocked) {
			t.Errorf("%d races: %v", races, err)
		}
	}
}

// The same for a Save. It fails because the record was locked, unless an earlier
// attempt may find the record free.
func TestSaveRacesWithRead(t *testing.T) {
	for _, tt := range []struct {
		first []fault
		want  int
	}{{nil, locked}, {[]fault{{lost: errThrottle}}, locked}, {[]fault{{lost: errReset}}, unknown}} {
		f := newFake()
		f.withoutOld = true
		b, other := newBackend(t, f, quick(Config{})), newBackend(t, f, Config{})
		v := mustSave(t, b, record("1"))
		held := mustAcquire(t, other, time.Minute).Version
		f.fail(append(tt.first, fault{then: func() { mustRelease(t, other, held) }})...)
		_, err := b.Save(t.Context(), key, replaced(record(""), v, "2"))
		if tt.want == locked && !errors.Is(err, session.ErrLocked) {
			t.Errorf("%v", err)
		} else if tt.want == unknown {
			checkOutcome(t, "Save", err, tt.want)
		}
		if got := mustLoad(t, b); string(got.Data) != "1" {
			t.Errorf("stored: %q", got.Data)
		}
	}
}

// Holders and a writer without a lock count together, and no count is lost.
func TestLockedCount(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	const workers, each = 8, 10
	f := newFake()
	first := newBackend(t, f, Config{})
	mustSave(t, first, record("0"))
	var (
		wg     sync.WaitGroup
		inside sync.Mutex
	)
	for w := range workers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			b := newBackend(t, f, Config{})
			for done := 0; done < each; {
				var (
					rec session.Record
					err error
				)
				if w == 0 {
					rec, err = b.Load(ctx, key)
				} else if rec, err = b.Acquire(ctx, key, time.Hour); err == nil && !inside.TryLock() {
					t.Error("two hold the lock")
					return
				}
				if err == nil {
					n, _ := strconv.Atoi(string(rec.Data))
					if w != 0 {
						inside.Unlock()
					}
					_, err = b.Save(ctx, key, replaced(record(""), rec.Version, strconv.Itoa(n+1)))
				}
				switch {
				case err == nil:
					done++
				case w == 0 && errors.Is(err, session.ErrConflict), errors.Is(err, session.ErrLocked):
					time.Sleep(100 * time.Microsecond)
				default:
					t.Error(err)
					return
				}
			}
		}()
	}
	wg.Wait()
	if got := mustLoad(t, first); string(got.Data) != strconv.Itoa(workers*each) {
		t.Errorf("counted to %s of %d", got.Data, workers*each)
	}
}
