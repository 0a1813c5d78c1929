package dynamodb

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/seed-a7bee19b/session"
)

const key = "7b1f-the-key"

func record(data string) session.Record {
	return session.Record{
		Data:    []byte(data),
		Created: time.Date(2024, 5, 6, 7, 8, 9, 123456789, time.UTC),
		Expires: time.Now().Add(time.Hour),
	}
}

func mustSave(t testing.TB, b *Backend, rec session.Record) session.Version {
	t.Helper()
	v, err := b.Save(context.Background(), key, rec)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func mustLoad(t testing.TB, b *Backend) session.Record {
	t.Helper()
	rec, err := b.Load(context.Background(), key)
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

// replaced returns rec with other data, to replace version v.
func replaced(rec session.Record, v session.Version, data string) session.Record {
	rec.Version, rec.Data = v, []byte(data)
	return rec
}

func TestRoundTrip(t *testing.T) {
	for _, tt := range []struct {
		name string
		c    Config
		data string
	}{
		{"binary", Config{}, "\x00\xff"},
		{"string", Config{DataType: String}, `{"a":1}`},
		{"empty", Config{}, ""},
		{"empty string", Config{DataType: String}, ""},
		{"other names", Config{
			Table: "T.1", KeyAttribute: "k", DataAttribute: "d", ExpiresAttribute: "ttl",
			CreatedAttribute: "c", VersionAttribute: "v", LockAttribute: "l", LockUntilAttribute: "u",
		}, "x"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFake()
			b := newBackend(t, f, tt.c)
			f.keyName = b.c.KeyAttribute
			want := record(tt.data)
			v := mustSave(t, b, want)
			got := mustLoad(t, b)
			if string(got.Data) != tt.data || got.Version != v {
				t.Errorf("got %q at %x, want %q at %x", got.Data, got.Version, tt.data, v)
			}
			if !got.Created.Equal(want.Created.Truncate(time.Millisecond)) {
				t.Errorf("Created = %v, want %v", got.Created, want.Created)
			}
			if late := got.Expires.Sub(want.Expires); late < 0 || late >= time.Second {
				t.Errorf("Expires = %v, want %v rounded up", got.Expires, want.Expires)
			}
			if f.requests() != "UpdateItem GetItem" {
				t.Errorf("requests: %s", f.requests())
			}
			if *f.lastUpdate.TableName != b.c.Table {
				t.Errorf("table %q", *f.lastUpdate.TableName)
			}
			if b.TextOnly() != (tt.c.DataType == String) {
				t.Errorf("TextOnly = %v", b.TextOnly())
			}
		})
	}
}

// An eventually consistent read that finds no session, or an expired one, is
// followed by a consistent read.
func TestConsistentRead(t *testing.T) {
	live, dead := record("1"), record("1")
	dead.Expires = time.Now().Add(-time.Minute)
	for _, tt := range []struct {
		name       string
		eventually bool
		stored     *session.Record
		stale      *session.Record // what an eventually consistent read finds; nil for nothing
		want       string          // the reads: c is consistent
		found      bool
	}{
		{"consistent, none", false, nil, nil, "c", false},
		{"consistent", false, &live, nil, "c", true},
		{"consistent, expired", false, &dead, nil, "c", true},
		{"none", true, nil, nil, "ec", false},
		{"found", true, &live, &live, "e", true},
		{"created a moment ago", true, &live, nil, "ec", true},
		{"renewed a moment ago", true, &live, &dead, "ec", true},
		{"expired", true, &dead, &dead, "ec", true},
		{"deleted a moment ago", true, nil, &dead, "ec", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFake()
			b := newBackend(t, f, Config{EventuallyConsistentReads: tt.eventually})
			items := func(rec *session.Record) map[string]item {
				f.items = map[string]item{}
				if rec != nil {
					mustSave(t, b, *rec)
				}
				return f.items
			}
			stored, stale := items(tt.stored), items(tt.stale)
			reads := ""
			f.reading = func(consistent bool) {
				f.items = stored
				if !consistent {
					f.items = stale
				}
				reads += map[bool]string{true: "c", false: "e"}[consistent]
			}
			rec, err := b.Load(t.Context(), key)
			if tt.found && err != nil || !tt.found && !errors.Is(err, session.ErrNotFound) || reads != tt.want {
				t.Errorf("reads %q, want %q: %v", reads, tt.want, err)
			}
			if tt.found && seconds(rec.Expires) != seconds(tt.stored.Expires) && tt.stored != &dead {
				t.Errorf("Expires = %v, want %v", rec.Expires, tt.stored.Expires)
			}
		})
	}
}

// A retry makes up for the lost response to any write, without a conflict and
// without a second effect.
func TestLostResponse(t *testing.T) {
	lost := []struct {
		name string
		f    fault
	}{
		{"connection reset", fault{after: errReset}},
		{"500", fault{after: errInternal}},
		{"503 of a proxy", fault{after: apiFault(503, "UnknownError", "")}},
		{"never answered", fault{mute: true}},
		{"not applied", fault{lost: errReset}},
		{"throttled", fault{lost: errThrottle}},
	}
	for _, tt := range lost {
		t.Run(tt.name, func(t *testing.T) {
			ctx := context.Background()
			f := newFake()
			b := newBackend(t, f, quick(Config{AttemptTimeout: 20 * time.Millisecond}))

			v := mustSave(t, b, record("1")) // which would not be sent again

			f.fail(tt.f)
			v2 := mustSave(t, b, replaced(record(""), v, "2"))
			if got := mustLoad(t, b); got.Version != v2 || string(got.Data) != "2" {
				t.Errorf("after replace: %q at %x, Save said %x", got.Data, got.Version, v2)
			}
			if len(v2) != 2*tokenSize {
				t.Errorf("two writes left %d tokens", len(v2)/tokenSize)
			}

			f.fail(tt.f)
			later := time.Now().Add(2 * time.Hour)
			if err := b.Touch(ctx, key, later); err != nil {
				t.Fatal(err)
			}
			if got := mustLoad(t, b); got.Version != v2 || got.Expires.Before(later) {
				t.Errorf("after touch: Expires %v at %x", got.Expires, got.Version)
			}

			// A Save whose Expires has passed: the retry finds no record.
			f.fail(tt.f)
			dead := replaced(record(""), v2, "3")
			dead.Expires = time.Now().Add(-time.Minute)
			mustSave(t, b, dead)

			f.fail(tt.f)
			if err := b.Delete(ctx, key); err != nil {
				t.Fatal(err)
			}
			if len(f.items) != 0 {
				t.Error("not deleted")
			}
			want := "UpdateItem UpdateItem UpdateItem GetItem UpdateItem UpdateItem GetItem DeleteItem DeleteItem DeleteItem DeleteItem"
			if got := f.requests(); got != want {
				t.Errorf("requests:\n%s, want\n%s", got, want)
			}
		})
	}
}

// The verdict of the retry of a Save after a lost response.
func TestWhatRetryFinds(t *testing.T) {
	const (
		success = iota
		conflict
		gone
		unknown
	)
	type step = func(testing.TB, *Backend, *fake)
	others := func(n int) step {
		return func(t testing.TB, b *Backend, _ *fake) {
			t.Helper()
			for range n {
				rec := mustLoad(t, b)
				rec.Data = []byte("theirs")
				mustSave(t, b, rec)
			}
		}
	}
	remove := func(t testing.TB, b *Backend, _ *fake) {
		t.Helper()
		if err := b.Delete(context.Background(), key); err != nil {
			t.Fatal(err)
		}
	}
	anew := func(t testing.TB, b *Backend, f *fake) {
		t.Helper()
		remove(t, b, f)
		mustSave(t, b, record("anew"))
	}
	theirs := func(t testing.TB, b *Backend, _ *fake) {
		t.Helper()
		mustSave(t, b, record("theirs"))
	}
	expire := func(_ testing.TB, _ *Backend, f *fake) {
		f.items[key]["expires"] = number(time.Now().Unix())
	}
	spoil := func(_ testing.TB, _ *Backend, f *fake) {
		f.items[key]["version"] = number(1)
	}
	afterwards := func(steps ...step) step {
		return func(t testing.TB, b *Backend, f *fake) {
			t.Helper()
			for _, s := range steps {
				s(t, b, f)
			}
		}
	}

	applied, dropped, refused := fault{after: errReset}, fault{lost: errReset}, fault{lost: errThrottle}
	for _, tt := range []struct {
		name      string
		create    bool
		first     fault
		meanwhile step
		want      int
	}{
		{"ours is stored", false, applied, others(0), success},
		{"ours, and 1 write on top", false, applied, others(1), success},
		{"ours, and just fewer writes on top", false, applied, others(tokens - 1), success},
		{"ours may be under as many writes as tokens", false, applied, others(tokens), unknown},
		{"ours was dropped before 1 write", false, dropped, others(1), conflict},
		{"ours was dropped before just fewer writes", false, dropped, others(tokens - 1), conflict},
		{"ours was dropped before as many writes as tokens", false, dropped, others(tokens), unknown},
		{"ours was throttled before 1 write", false, refused, others(1), conflict},
		{"ours was throttled before as many writes as tokens", false, refused, others(tokens), conflict},
		{"ours, then deleted", false, applied, remove, gone},
		{"dropped, then deleted", false, dropped, remove, gone},
		{"ours, then deleted and made anew", false, applied, anew, conflict},
		{"dropped, then expired", false, dropped, expire, gone},
		{"ours, then expired", false, applied, expire, success},
		{"dropped, then expired under as many writes as tokens", false, dropped, afterwards(others(tokens), expire), gone},
		{"throttled, then spoilt", false, refused, spoil, conflict},
		{"ours, then spoilt", false, applied, spoil, unknown},

		{"created", true, applied, others(0), unknown},
		{"created, then deleted", true, applied, remove, unknown},
		{"not created", true, dropped, others(0), unknown},
		{"not created, but by another", true, dropped, theirs, unknown},
		{"throttled, and by another", true, refused, theirs, conflict},
	} {
		for _, withoutOld := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/ALL_OLD ignored %v", tt.name, withoutOld), func(t *testing.T) {
				f := newFake()
				f.withoutOld = withoutOld
				b, other := newBackend(t, f, quick(Config{})), newBackend(t, f, quick(Config{}))

				rec := record("ours")
				if !tt.create {
					rec.Version = mustSave(t, b, record("old"))
				}
				first := tt.first
				first.then = func() { tt.meanwhile(t, other, f) }
				f.fail(first)

				v, err := b.Save(context.Background(), key, rec)
				var ce *session.ConflictError
				switch tt.want {
				case success:
					if err != nil {
						t.Fatal(err)
					}
					if history(mustLoad(t, b).Version).index(history(v).newest()) < 0 {
						t.Error("the version that Save returned was never stored")
					}
				case conflict:
					if !errors.As(err, &ce) || ce.Gone {
						t.Fatalf("got %v, want a conflict", err)
					}
					if ce.Current != nil && ce.Current.Version != mustLoad(t, b).Version {
						t.Error("Current is not what is stored")
					}
				case gone:
					if !errors.As(err, &ce) || !ce.Gone || !errors.Is(err, session.ErrNotFound) {
						t.Fatalf("got %v, want a conflict with Gone", err)
					}
				case unknown:
					if err == nil || errors.Is(err, session.ErrConflict) || errors.Is(err, session.ErrNotFound) {
						t.Fatalf("got %v, want an error that is no conflict", err)
					}
					if !errors.Is(err, errReset) || !strings.Contains(err.Error(), "not known whether it was applied") {
						t.Errorf("%v", err)
					}
				}
				if err != nil && strings.Contains(err.Error(), key) {
					t.Error("the key is in the error")
				}
			})
		}
	}
}

func TestConflict(t *testing.T) {
	ctx := context.Background()
	f := newFake()
	b := newBackend(t, f, Config{})
	v1 := mustSave(t, b, record("1"))
	v2 := mustSave(t, b, replaced(record(""), v1, "2"))

	for _, v := range []session.Version{"", v1, "bogus", session.Version(strings.Repeat("x", 200))} {
		n := f.count()
		_, err := b.Save(ctx, key, replaced(record(""), v, "3"))
		var ce *session.ConflictError
		if !errors.As(err, &ce) || ce.Gone || ce.Current == nil || ce.Current.Version != v2 || string(ce.Current.Data) != "2" {
			t.Errorf("version %x: %v", v, err)
		}
		var failed *types.ConditionalCheckFailedException
		if errors.As(err, &failed) {
			t.Error("the item of the failed condition leaks into the error")
		}
		if f.count() != n+1 {
			t.Errorf("version %x: %d requests", v, f.count()-n)
		}
	}
}

func TestGoneAndDead(t *testing.T) {
	ctx := context.Background()
	for _, withoutOld := range []bool{false, true} {
		f := newFake()
		f.withoutOld = withoutOld
		b := newBackend(t, f, Config{})
		v := mustSave(t, b, record("1"))

		dead := replaced(record(""), v, "dead")
		dead.Expires = time.Now().Add(-time.Second)
		mustSave(t, b, dead)
		isGone := func(name string, err error) {
			t.Helper()
			var ce *session.ConflictError
			if !errors.As(err, &ce) || !ce.Gone || ce.Current != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		_, err := b.Save(ctx, key, replaced(record(""), v, "2"))
		isGone("save over an expired record", err)
		if err := b.Touch(ctx, key, time.Now().Add(time.Hour)); !errors.Is(err, session.ErrNotFound) {
			t.Errorf("touch of an expired record: %v", err)
		}
		if len(f.items) != 0 {
			t.Error("what was ended is there")
		}

		// The key is free again.
		v2 := mustSave(t, b, record("anew"))
		if len(v2) != tokenSize {
			t.Error("the history of the expired record goes on")
		}

		if err := b.Delete(ctx, key); err != nil {
			t.Fatal(err)
		}
		if err := b.Delete(ctx, key); err != nil {
			t.Fatal(err)
		}
		_, err = b.Save(ctx, key, replaced(record(""), v2, "2"))
		isGone("save over a deleted record", err)
		if err := b.Touch(ctx, key, time.Now().Add(time.Hour)); !errors.Is(err, session.ErrNotFound) {
			t.Errorf("touch of a deleted record: %v", err)
		}
		if len(f.items) != 0 {
			t.Error("revived")
		}
	}
}

// After DynamoDB has sent an item with a refusal, a refusal without one means that
// there is no record, and takes no read.
func TestGoneCostsOneRequest(t *testing.T) {
	ctx := context.Background()
	f := newFake()
	b := newBackend(t, f, Config{})
	gone := func() int {
		n := f.count()
		if err := b.Touch(ctx, "nobody", time.Now().Add(time.Hour)); !errors.Is(err, session.ErrNotFound) {
			t.Fatal(err)
		}
		return f.count() - n
	}
	if n := gone(); n != 2 {
		t.Errorf("%d requests before it is known", n)
	}
	mustSave(t, b, record("1"))
	if _, err := b.Save(ctx, key, record("2")); !errors.Is(err, session.ErrConflict) {
		t.Fatal(err)
	}
	if n := gone(); n != 1 {
		t.Errorf("%d requests afterwards", n)
	}
}

func TestTouch(t *testing.T) {
	ctx := context.Background()
	f := newFake()
	b := newBackend(t, f, Config{})
	rec := record("1")
	rec.Expires = time.Unix(time.Now().Unix()+100, 0)
	v := mustSave(t, b, rec)
	for _, tt := range []struct{ touch, want time.Time }{
		{rec.Expires.Add(-50 * time.Second), rec.Expires},
		{time.Time{}, rec.Expires},
		{rec.Expires, rec.Expires},
		{rec.Expires.Add(1), rec.Expires.Add(time.Second)},
		{rec.Expires.Add(time.Hour), rec.Expires.Add(time.Hour)},
	} {
		n := f.count()
		if err := b.Touch(ctx, key, tt.touch); err != nil {
			t.Fatal(err)
		}
		if f.count() != n+1 {
			t.Errorf("%d requests", f.count()-n)
		}
		if got := mustLoad(t, b); !got.Expires.Equal(tt.want) || got.Version != v || string(got.Data) != "1" {
			t.Errorf("after Touch to %v: %v, want %v", tt.touch, got.Expires, tt.want)
		}
	}
}

// With an engine that ignores ALL_OLD, a read after the refusal may find a
// record that would not have refused. Touch tries again, but not for ever.
func TestTouchRacesWithRead(t *testing.T) {
	for _, races := range []int{1, 2, 100} {
		f := newFake()
		f.withoutOld = true
		b, other := newBackend(t, f, quick(Config{MaxAttempts: 3})), newBackend(t, f, Config{})
		again := fault{then: func() { mustSave(t, other, record("anew")) }}
		for range races {
			// Absent when Touch arrives, there when the read does.
			f.fail(again, fault{}, fault{then: func() {
				if err := other.Delete(context.Background(), key); err != nil {
					t.Fatal(err)
				}
			}}, fault{})
		}
		f.faults = f.faults[:len(f.faults)-2]
		err := b.Touch(context.Background(), key, time.Now().Add(2*time.Hour))
		if races < 3 && err != nil || races == 100 && (err == nil || !strings.Contains(err.Error(), "refused 3 times") || errors.Is(err, session.ErrNotFound)) {
			t.Errorf("%d races: %v", races, err)
		}
	}
}

// An item that others wrote is reported, and stays.
func TestForeignItem(t *testing.T) {
	ctx := context.Background()
	ours := func() item {
		return item{
			"id":      &types.AttributeValueMemberS{Value: key},
			"data":    &types.AttributeValueMemberB{Value: []byte("x")},
			"expires": number(time.Now().Add(time.Hour).Unix()),
			"created": number(time.Now().UnixMilli()),
			"version": &types.AttributeValueMemberB{Value: []byte("12345678")},
		}
	}
	N := func(s string) types.AttributeValue { return &types.AttributeValueMemberN{Value: s} }
	for _, tt := range []struct {
		attribute string
		value     types.AttributeValue
	}{
		{"data", nil},
		{"data", N("1")},
		{"expires", nil},
		{"expires", &types.AttributeValueMemberS{Value: "1700000000"}},
		{"expires", N("9999999999.5")},
		{"expires", N("253402300800")},
		{"expires", N("99999999999999999999999999999999999999")},
		{"created", nil},
		{"created", &types.AttributeValueMemberBOOL{Value: true}},
		{"created", N("-62135596800001")},
		{"version", nil},
		{"version", &types.AttributeValueMemberS{Value: "12345678"}},
		{"version", &types.AttributeValueMemberB{Value: []byte("1234567")}},
		{"version", &types.AttributeValueMemberB{}},
		{"version", &types.AttributeValueMemberB{Value: make([]byte, (tokens+1)*tokenSize)}},
	} {
		t.Run(fmt.Sprintf("%s/%T", tt.attribute, tt.value), func(t *testing.T) {
			f := newFake()
			b := newBackend(t, f, Config{})
			it := ours()
			f.items[key] = it
			mustLoad(t, b)
			if it[tt.attribute] = tt.value; tt.value == nil {
				delete(it, tt.attribute)
			}
			_, err := b.Load(ctx, key)
			if !errors.Is(err, session.ErrDecode) || !strings.Contains(err.Error(), `"`+tt.attribute+`"`) ||
				!strings.Contains(err.Error(), "not written by this package") || strings.Contains(err.Error(), key) {
				t.Errorf("Load: %v", err)
			}
			if _, err := b.Save(ctx, key, record("2")); !errors.Is(err, session.ErrConflict) || errors.Is(err, session.ErrNotFound) {
				t.Errorf("Save: %v", err)
			}
			if fmt.Sprint(f.items[key]) != fmt.Sprint(it) {
				t.Error("overwritten")
			}
		})
	}

	t.Run("of the PHP handler", func(t *testing.T) {
		f := newFake()
		b := newBackend(t, f, Config{})
		f.items[key] = item{
			"id":      &types.AttributeValueMemberS{Value: key},
			"data":    &types.AttributeValueMemberS{Value: "a|i:1;"},
			"expires": number(time.Now().Add(-time.Hour).Unix()),
		}
		if err := b.Touch(ctx, key, time.Now().Add(time.Hour)); !errors.Is(err, session.ErrDecode) {
			t.Errorf("Touch: %v", err)
		}
		if _, err := b.Acquire(ctx, key, time.Hour); !errors.Is(err, session.ErrDecode) {
			t.Errorf("Acquire: %v", err)
		}
		f.items[key]["expires"] = number(time.Now().Add(time.Hour).Unix())
		if _, err := b.Acquire(ctx, key, time.Hour); !errors.Is(err, session.ErrDecode) || strings.Contains(f.state(), "lock") {
			t.Errorf("Acquire of a live one: %v: %s", err, f.state())
		}
		f.items[key]["expires"] = number(time.Now().Add(-time.Hour).Unix())
		// Even an expired item of others is not overwritten.
		if _, err := b.Save(ctx, key, record("2")); !errors.Is(err, session.ErrConflict) {
			t.Errorf("Save: %v", err)
		}
		if _, ok := f.items[key]["version"]; ok {
			t.Error("overwritten")
		}
	})

	t.Run("with none of our attributes", func(t *testing.T) {
		f := newFake()
		f.items[key] = item{"id": &types.AttributeValueMemberS{Value: key}}
		if _, err := newBackend(t, f, Config{}).Load(ctx, key); !errors.Is(err, session.ErrDecode) {
			t.Errorf("Load: %v", err)
		}
	})
}

func TestSize(t *testing.T) {
	ctx := context.Background()
	expires, created := time.Unix(2000000000, 0), time.UnixMilli(1700000000001)
	// Names 2+4+7+7+7+4+10, key, N of 1 and of 7 bytes in base 100 and one
	// each, a token, and room for a lock of 16 bytes with an N of 7 and one.
	overhead := 41 + len(key) + 2 + 8 + tokenSize + 16 + 8
	for _, tt := range []struct{ limit, effective int }{{0, 409600}, {1000, 1000}} {
		f := newFake()
		b := newBackend(t, f, Config{MaxItemSize: tt.limit})
		rec := session.Record{Created: created, Expires: expires, Data: bytes.Repeat([]byte("x"), tt.effective-overhead)}
		v := mustSave(t, b, rec)

		n := f.count()
		over := rec
		over.Data = append(bytes.Clone(rec.Data), 'x')
		_, err := b.Save(ctx, "other-key-12", over)
		if !errors.Is(err, session.ErrTooLarge) {
			t.Fatal(err)
		}
		for _, size := range []int{tt.effective, tt.effective + 1} {
			if !strings.Contains(err.Error(), strconv.Itoa(size)) {
				t.Errorf("%v lacks the size %d", err, size)
			}
		}
		// The second write has two tokens.
		if _, err := b.Save(ctx, key, replaced(rec, v, string(rec.Data))); !errors.Is(err, session.ErrTooLarge) {
			t.Errorf("second write: %v", err)
		}
		if f.count() != n {
			t.Error("something was sent")
		}
		mustSave(t, b, replaced(rec, v, string(rec.Data[tokenSize:])))
	}

	// Attributes that others have added count, and only DynamoDB knows them.
	f := newFake()
	b := newBackend(t, f, Config{})
	f.fail(fault{lost: apiFault(400, "ValidationException", "Item size to update has exceeded the maximum allowed size")})
	if _, err := b.Save(ctx, key, record("x")); !errors.Is(err, session.ErrTooLarge) {
		t.Errorf("refused by DynamoDB: %v", err)
	}
}

func TestNumberSize(t *testing.T) {
	for n, want := range map[int64]int{
		0: 1, 1: 2, 9: 2, 10: 2, 99: 2, 100: 2, 101: 3, 1000: 2, 1700000000: 2, 1700000001: 6,
		1700000000000: 3, 1700000000001: 8, -1: 3, -100: 3, -101: 4,
	} {
		if got := numberSize(n); got != want {
			t.Errorf("numberSize(%d) = %d, want %d", n, got, want)
		}
	}
}

// Save refuses these without a request.
func TestRefused(t *testing.T) {
	ctx := context.Background()
	ended, cancel := context.WithCancelCause(ctx)
	why := errors.New("the lock was lost")
	cancel(why)

	f := newFake()
	b := newBackend(t, f, Config{DataType: String})
	calls := map[string]func(ctx context.Context, key string) error{
		"Load":   func(ctx context.Context, key string) error { _, err := b.Load(ctx, key); return err },
		"Save":   func(ctx context.Context, key string) error { _, err := b.Save(ctx, key, record("1")); return err },
		"Touch":  func(ctx context.Context, key string) error { return b.Touch(ctx, key, time.Now().Add(time.Hour)) },
		"Delete": b.Delete,

		"Acquire": func(ctx context.Context, key string) error { _, err := b.Acquire(ctx, key, time.Hour); return err },
		"Extend":  func(ctx context.Context, key string) error { return b.Extend(ctx, key, someHolder, time.Hour) },
		"Release": func(ctx context.Context, key string) error { return b.Release(ctx, key, someHolder, time.Time{}) },
	}
	for name, call := range calls {
		for _, key := range []string{"", strings.Repeat("k", 513), "\xff"} {
			if err := call(ctx, key); err == nil {
				t.Errorf("%s: the key %.10q passes", name, key)
			}
		}
		if err := call(ended, key); !errors.Is(err, context.Canceled) || !errors.Is(err, why) {
			t.Errorf("%s with an ended ctx: %v", name, err)
		}
	}
	for name, change := range map[string]func(*session.Record){
		"no Expires":     func(r *session.Record) { r.Expires = time.Time{} },
		"Expires late":   func(r *session.Record) { r.Expires = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) },
		"Expires rounds": func(r *session.Record) { r.Expires = time.Date(9999, 12, 31, 23, 59, 59, 1, time.UTC) },
		"Expires early":  func(r *session.Record) { r.Expires = time.Date(-1, 1, 1, 0, 0, 0, 0, time.UTC) },
		"Created late":   func(r *session.Record) { r.Created = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) },
	} {
		rec := record("1")
		change(&rec)
		if _, err := b.Save(ctx, key, rec); err == nil {
			t.Errorf("%s passes", name)
		}
	}
	if _, err := b.Save(ctx, key, record("\xff")); !errors.Is(err, session.ErrEncode) {
		t.Errorf("data that is not text: %v", err)
	}
	if err := b.Touch(ctx, key, time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)); err == nil {
		t.Error("Touch to the year 10000 passes")
	}
	if err := b.Release(ctx, key, someHolder, time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)); err == nil {
		t.Error("Release to the year 10000 passes")
	}
	for _, ttl := range []time.Duration{0, -1} {
		if _, err := b.Acquire(ctx, key, ttl); err == nil {
			t.Errorf("Acquire for %v passes", ttl)
		}
		if err := b.Extend(ctx, key, someHolder, ttl); err == nil || errors.Is(err, session.ErrConflict) {
			t.Errorf("Extend for %v: %v", ttl, err)
		}
	}
	if f.count() != 0 {
		t.Errorf("sent: %s", f.requests())
	}

	// The ends of the range can be stored.
	rec := record("1")
	rec.Created, rec.Expires = time.Time{}, time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
	mustSave(t, b, rec)
	if got := mustLoad(t, b); !got.Created.IsZero() || !got.Expires.Equal(rec.Expires) {
		t.Errorf("got %v, %v", got.Created, got.Expires)
	}
}

// Save and Load neither keep nor change the slices of the caller.
func TestSlicesStayTheCallers(t *testing.T) {
	b := newBackend(t, newFake(), Config{})
	rec := record("abc")
	mustSave(t, b, rec)
	rec.Data[0] = 'X'
	if got := mustLoad(t, b); string(got.Data) != "abc" {
		t.Errorf("stored: %q", got.Data)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte("data"), "1700000000", "1700000000000", []byte("12345678"), []byte("0123456789abcdef"), "1700000000000")
	f.Add([]byte{}, "-1", "0", make([]byte, 64), make([]byte, 16), "99999999999999")
	f.Add([]byte{}, "1e3", "", make([]byte, 65), make([]byte, 15), "")
	b := newBackend(f, newFake(), Config{})
	f.Fuzz(func(t *testing.T, data []byte, expires, created string, version, id []byte, until string) {
		now := time.UnixMilli(1700000000000)
		rec, l, err := b.decode("k", item{
			"data":    &types.AttributeValueMemberB{Value: data},
			"expires": &types.AttributeValueMemberN{Value: expires},
			"created": &types.AttributeValueMemberN{Value: created},
			"version": &types.AttributeValueMemberB{Value: version},

			"lock":       &types.AttributeValueMemberB{Value: id},
			"lock_until": &types.AttributeValueMemberN{Value: until},
		}, now)
		if err != nil {
			if !errors.Is(err, session.ErrDecode) {
				t.Fatal(err)
			}
			return
		}
		if rec.LockedUntil.IsZero() == l.live(now) || l.live(now) && !rec.LockedUntil.After(now) {
			t.Fatalf("lock %+v, LockedUntil %v", l, rec.LockedUntil)
		}
		if held, h := split(rec.Version); held.id != "" || session.Version(h) != rec.Version {
			t.Fatalf("version %x is a holder's", rec.Version)
		}
		if held, h := split(l.held(rec).Version); held.id != l.id || held.expires != rec.Expires.Unix() || session.Version(h) != rec.Version {
			t.Fatalf("version %x of %q became %x of %q", rec.Version, l.id, h, held.id)
		}
		// A record that was read can be written, and is then the same.
		h := history(rec.Version)
		next := h.push(newToken())
		if !next.valid() || next.index(next.newest()) != 0 || next.index(h.newest()) < 0 {
			t.Fatalf("history %x, then %x", h, next)
		}
		if rec.Expires.IsZero() {
			return
		}
		e, c, err := b.fits(key, rec, next)
		if err != nil && !errors.Is(err, session.ErrTooLarge) {
			t.Fatal(err)
		}
		if err == nil && (!time.Unix(e, 0).Equal(rec.Expires) || !time.UnixMilli(c).Equal(rec.Created)) {
			t.Fatalf("%v and %v become %d and %d", rec.Expires, rec.Created, e, c)
		}
	})
}
