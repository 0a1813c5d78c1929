package redisstore

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session"
)

// Times as a hash has them, and as a reply has them.
const (
	createdText = "1700000000123"
	expiresText = "1800000000456"
)

var (
	createdTime = time.UnixMilli(1_700_000_000_123).UTC()
	expiresTime = time.UnixMilli(1_800_000_000_456).UTC()
)

func TestParse(t *testing.T) {
	const (
		noData    = `field "data" is missing`
		noCreated = `field "created" is not a time in epoch milliseconds`
		noExpires = `field "expires" is not a time in epoch milliseconds`
		noVersion = `field "version" has no token of 8 bytes`
	)
	whole := reply{status: statusOK, data: "x", created: createdTime, expires: expiresTime, version: "abcdefgh"}
	with := func(change func(*reply)) *reply {
		r := whole
		change(&r)
		return &r
	}
	command := func(leased bool) *reply {
		return with(func(r *reply) { r.status, r.leased = "", leased })
	}
	flawed := func(flaw string, change func(*reply)) *reply {
		return with(func(r *reply) { r.flaw = flaw; change(r) })
	}
	for _, tt := range []struct {
		name   string
		script *script
		fields []any
		want   *reply // nil: the script cannot have made it
	}{
		{"ok", saveScript, []any{"ok"}, &reply{status: statusOK}},
		{"none", saveScript, []any{"none"}, &reply{status: statusNone}},
		{"foreign", touchScript, []any{"foreign"}, &reply{status: statusForeign}},
		{"ended", acquireScript, []any{"ended"}, &reply{status: statusEnded}},
		{"conflict of Extend", extendScript, []any{"conflict"}, &reply{status: statusConflict}},
		{
			"conflict of Save", saveScript, []any{"conflict", int64(7), "x", createdText, expiresText, "abcdefgh", int64(1)},
			with(func(r *reply) { r.status, r.left, r.covered = statusConflict, 7*time.Millisecond, true }),
		},
		{
			"conflict of Release", releaseScript, []any{"conflict", int64(0), nil, nil, expiresText, "abcdefgh", int64(0)},
			flawed(noData, func(r *reply) { r.status, r.data, r.created = statusConflict, "", time.Time{} }),
		},
		{
			"locked", acquireScript, []any{"locked", int64(1500), nil, nil, expiresText, "abcdefgh", int64(0)},
			flawed(noData, func(r *reply) {
				r.status, r.left, r.data, r.created = statusLocked, 1500*time.Millisecond, "", time.Time{}
			}),
		},
		{
			"acquired", acquireScript, []any{"ok", int64(0), "x", createdText, expiresText, "abcdefgh", int64(1)},
			with(func(r *reply) { r.covered = true }),
		},
		{"loaded", loadScript, []any{"ok", int64(0), "x", createdText, expiresText, "abcdefgh"}, &whole},
		{"empty data", loadScript, []any{"ok", int64(0), "", createdText, expiresText, "abcdefgh"}, with(func(r *reply) { r.data = "" })},
		{"no data", loadScript, []any{"ok", int64(0), nil, createdText, expiresText, "abcdefgh"}, flawed(noData, func(r *reply) { r.data = "" })},
		{
			"no created", loadScript, []any{"ok", int64(0), "x", nil, expiresText, "abcdefgh"},
			flawed(noCreated, func(r *reply) { r.created = time.Time{} }),
		},
		{
			"created is a fraction", loadScript, []any{"ok", int64(0), "x", "1.5", expiresText, "abcdefgh"},
			flawed(noCreated, func(r *reply) { r.created = time.Time{} }),
		},
		{
			"created before the year 1", loadScript, []any{"ok", int64(0), "x", strconv.Itoa(minMillis - 1), expiresText, "abcdefgh"},
			flawed(noCreated, func(r *reply) { r.created = time.Time{} }),
		},
		{
			"no expires", loadScript, []any{"ok", int64(0), "x", createdText, nil, "abcdefgh"},
			flawed(noExpires, func(r *reply) { r.expires = time.Time{} }),
		},
		{
			"expires is hexadecimal", loadScript, []any{"ok", int64(0), "x", createdText, "0x99", "abcdefgh"},
			flawed(noExpires, func(r *reply) { r.expires = time.Time{} }),
		},
		{
			"expires after the year 9999", loadScript, []any{"ok", int64(0), "x", createdText, strconv.Itoa(maxMillis + 1), "abcdefgh"},
			flawed(noExpires, func(r *reply) { r.expires = time.Time{} }),
		},
		{
			"first and last time", loadScript, []any{"ok", int64(0), "x", strconv.Itoa(minMillis), strconv.Itoa(maxMillis), "abcdefgh"},
			with(func(r *reply) {
				r.created, r.expires = time.UnixMilli(minMillis).UTC(), time.UnixMilli(maxMillis).UTC()
			}),
		},
		{"no version", loadScript, []any{"ok", int64(0), "x", createdText, expiresText, nil}, flawed(noVersion, func(r *reply) { r.version = "" })},
		{
			"short version", loadScript, []any{"ok", int64(0), "x", createdText, expiresText, "abcdefg"},
			flawed(noVersion, func(r *reply) { r.version = "abcdefg" }),
		},
		{
			"the first flaw", loadScript, []any{"ok", int64(0), nil, "x", "y", ""},
			&reply{status: statusOK, flaw: noData},
		},
		{
			"a lease without end", loadScript, []any{"ok", int64(math.MaxInt64), "x", createdText, expiresText, "abcdefgh"},
			with(func(r *reply) { r.left = math.MaxInt64 / time.Millisecond * time.Millisecond }),
		},
		{
			"listed", listScript, []any{"ok", int64(5), "", createdText, expiresText, "abcdefgh", int64(99), int64(3), "abc"},
			with(func(r *reply) { r.left, r.data, r.size, r.dataSize, r.found = 5*time.Millisecond, "", 99, 3, "abc" }),
		},
		{"read", readCommand, []any{nil, "x", createdText, expiresText, "abcdefgh"}, command(false)},
		{"read, and the lock was ended", readCommand, []any{"0", "x", createdText, expiresText, "abcdefghijklmnop"}, command(false)},
		{"read, and the lease may run", readCommand, []any{"1", "x", createdText, expiresText, "abcdefgh"}, command(true)},
		{"read nothing", readCommand, []any{nil, nil, nil, nil, nil}, &reply{flaw: noData}},
		{"locker: locked", lockerAcquireScript, []any{"locked", int64(9)}, &reply{status: statusLocked, left: 9 * time.Millisecond}},
		{"locker: locked for ever", lockerAcquireScript, []any{"locked", int64(-1)}, &reply{status: statusLocked, left: -time.Millisecond}},
		{"locker: lost", lockerExtendScript, []any{"lost"}, &reply{status: statusLost}},

		{"nothing", loadScript, nil, nil},
		{"nothing to a command", readCommand, []any{}, nil},
		{"no status", loadScript, []any{nil}, nil},
		{"an empty status", loadScript, []any{""}, nil},
		{"a number as status", loadScript, []any{int64(1)}, nil},
		{"a status in capitals", saveScript, []any{"OK"}, nil},
		{"a status of another script", deleteScript, []any{"none"}, nil},
		{"too many fields", deleteScript, []any{"ok", "ok"}, nil},
		{"too few fields", loadScript, []any{"ok", int64(0), "x", createdText, expiresText}, nil},
		{"too few fields of a command", readCommand, []any{nil, "x", createdText, expiresText}, nil},
		{"text as lease", loadScript, []any{"ok", "0", "x", createdText, expiresText, "abcdefgh"}, nil},
		{"no lease", loadScript, []any{"ok", nil, "x", createdText, expiresText, "abcdefgh"}, nil},
		{"a number as data", loadScript, []any{"ok", int64(0), int64(1), createdText, expiresText, "abcdefgh"}, nil},
		{"a number as created", loadScript, []any{"ok", int64(0), "x", int64(1), expiresText, "abcdefgh"}, nil},
		{"a number as expires", loadScript, []any{"ok", int64(0), "x", createdText, int64(1), "abcdefgh"}, nil},
		{"a number as version", loadScript, []any{"ok", int64(0), "x", createdText, expiresText, int64(1)}, nil},
		{"a number as until", readCommand, []any{int64(0), "x", createdText, expiresText, "abcdefgh"}, nil},
		{"text as covered", saveScript, []any{"conflict", int64(7), "x", createdText, expiresText, "abcdefgh", "1"}, nil},
		{"text as size", listScript, []any{"ok", int64(5), "", createdText, expiresText, "abcdefgh", "1", int64(3), "abc"}, nil},
		{"text as size of the data", listScript, []any{"ok", int64(5), "", createdText, expiresText, "abcdefgh", int64(1), "3", "abc"}, nil},
		{"no data found", listScript, []any{"ok", int64(5), "", createdText, expiresText, "abcdefgh", int64(1), int64(3), nil}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := tt.script.parse(tt.fields)
			if tt.want == nil {
				if !errors.Is(err, errNotOurs) {
					t.Errorf("got %+v, %v; want an error", got, err)
				}
				return
			}
			if err != nil || !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got\n%+v, %v; want\n%+v", got, err, tt.want)
			}
		})
	}
}

func TestReplyRecord(t *testing.T) {
	now := time.Now()
	r := &reply{data: "x", created: createdTime, expires: expiresTime, version: "abcdefgh"}
	want := session.Record{Data: []byte("x"), Created: createdTime, Expires: expiresTime, Version: "abcdefgh"}
	if got, err := r.record(now); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	r.left = time.Second
	want.LockedUntil = now.Add(time.Second)
	if got, err := r.record(now); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("with a live lock: got %+v, %v; want %+v", got, err, want)
	}
	r.flaw = `field "data" is missing`
	got, err := r.record(now)
	wantErr(t, err, session.ErrDecode, "with a flaw")
	if err != nil && !strings.Contains(err.Error(), r.flaw) || !reflect.DeepEqual(got, session.Record{}) {
		t.Errorf("with a flaw: got %+v, %v", got, err)
	}
}

// What a Save returns for each reply.
func TestSaveError(t *testing.T) {
	now := time.Now()
	const old, other = session.Version("abcdefgh"), session.Version("ijklmnop")
	stored := reply{data: "x", created: createdTime, expires: expiresTime, version: other, covered: true, sent: now}
	current := session.Record{Data: []byte("x"), Created: createdTime, Expires: expiresTime, Version: other}
	for _, tt := range []struct {
		name   string
		change func(r *reply)
		want   error
	}{
		{"ok", func(r *reply) { r.status = statusOK }, nil},
		{"ok after a retry", func(r *reply) { r.status, r.retry = statusOK, true }, nil},
		{"none", func(r *reply) { r.status = statusNone }, &session.ConflictError{Gone: true}},
		{"none after a retry", func(r *reply) { r.status, r.retry = statusNone, true }, &session.ConflictError{Gone: true}},
		{"conflict", func(r *reply) { r.status = statusConflict }, &session.ConflictError{Current: &current}},
		{"conflict with a foreign hash", func(r *reply) { r.status, r.flaw = statusConflict, "x" }, &session.ConflictError{}},
		{"conflict, few tokens are left", func(r *reply) { r.status, r.covered = statusConflict, false }, &session.ConflictError{Current: &current}},
		{"conflict after a retry", func(r *reply) { r.status, r.retry = statusConflict, true }, &session.ConflictError{Current: &current}},
		{"conflict after a retry, few tokens are left", func(r *reply) { r.status, r.retry, r.covered = statusConflict, true, false }, errUnknown},
		{"conflict after a late retry", func(r *reply) { r.status, r.retry, r.sent = statusConflict, true, now.Add(-50*time.Second) }, errUnknown},
		{"locked", func(r *reply) { r.status, r.left = statusLocked, time.Second }, &session.LockedError{Until: now.Add(time.Second)}},
		{"locked, unchanged", func(r *reply) { r.status, r.left, r.version = statusLocked, time.Second, old }, &session.LockedError{Until: now.Add(time.Second)}},
		{"locked after a retry", func(r *reply) { r.status, r.left, r.retry = statusLocked, time.Second, true }, &session.LockedError{Until: now.Add(time.Second)}},
		{"locked after a retry, unchanged", func(r *reply) { r.status, r.left, r.retry, r.version = statusLocked, time.Second, true, old }, errUnknown},
		{"locked after a retry, few tokens are left", func(r *reply) { r.status, r.left, r.retry, r.covered = statusLocked, time.Second, true, false }, errUnknown},
		{"locked after a late retry", func(r *reply) {
			r.status, r.left, r.retry, r.sent = statusLocked, time.Second, true, now.Add(-time.Minute)
		}, errUnknown},
	} {
		r := stored
		tt.change(&r)
		got := r.saveError(old, now)
		if errors.Is(tt.want, errUnknown) {
			var conflict *session.ConflictError
			var locked *session.LockedError
			if got == nil || !strings.Contains(got.Error(), "not known whether it was applied") || errors.As(got, &conflict) || errors.As(got, &locked) {
				t.Errorf("%s: got %v, want that the outcome is not known", tt.name, got)
			}
			continue
		}
		if got, want := describe(got), describe(tt.want); got != want {
			t.Errorf("%s: got %s, want %s", tt.name, got, want)
		}
	}
}

// describe returns all that the errors of a refused Save have in them.
func describe(err error) string {
	var conflict *session.ConflictError
	var locked *session.LockedError
	switch {
	case errors.As(err, &conflict) && conflict.Current != nil:
		return fmt.Sprintf("a conflict, gone %v, with %+v", conflict.Gone, *conflict.Current)
	case errors.As(err, &conflict):
		return fmt.Sprintf("a conflict, gone %v", conflict.Gone)
	case errors.As(err, &locked):
		return fmt.Sprintf("locked until %v", locked.Until)
	}
	return fmt.Sprint(err)
}

// When a refused Release may have succeeded on its first attempt.
func TestReleasedBefore(t *testing.T) {
	const old, other = session.Version("abcdefgh"), session.Version("ijklmnop")
	for _, tt := range []struct {
		name    string
		reply   reply
		expires time.Time
		want    bool
	}{
		{"no retry", reply{status: statusConflict, version: old, expires: expiresTime}, time.Time{}, false},
		{"gone", reply{status: statusNone, retry: true}, time.Time{}, false},
		{"free", reply{status: statusConflict, retry: true, version: old, expires: expiresTime}, time.Time{}, true},
		{"free, and Expires was moved", reply{status: statusConflict, retry: true, version: old, expires: expiresTime}, expiresTime, true},
		{"free, and Expires was not moved", reply{status: statusConflict, retry: true, version: old, expires: expiresTime}, expiresTime.Add(1), false},
		{"changed since", reply{status: statusConflict, retry: true, version: other, expires: expiresTime}, expiresTime.Add(1), true},
		{"foreign", reply{status: statusConflict, retry: true, version: other}, time.Time{}, false},
	} {
		if got := tt.reply.releasedBefore(old, tt.expires); got != tt.want {
			t.Errorf("%s: got %v", tt.name, got)
		}
	}
}

// Whatever a server sends, a reply is parsed or refused, and a record is only
// what Save can have written.
func FuzzReply(f *testing.F) {
	for status := range 10 {
		f.Add(uint8(status), "ok", int64(7), "x", createdText, expiresText, "abcdefgh", "1", uint32(0))
		f.Add(uint8(status), "locked", int64(-1), "", "0x1", "-1", "abcdefghi", "0", uint32(0b010101))
		f.Add(uint8(status), "conflict", int64(1<<62), "", "", "1e9", "a", "", uint32(0b100100))
	}
	f.Fuzz(func(t *testing.T, which uint8, first string, n int64, data, created, expires, version, until string, kinds uint32) {
		all := []*script{
			readCommand, loadScript, saveScript, touchScript, deleteScript, acquireScript, extendScript, releaseScript, listScript,
			lockerAcquireScript, lockerExtendScript, lockerReleaseScript,
		}
		s := all[int(which)%len(all)]
		layout := s.replies[status(first)]
		fields := []any{first, n, data, created, expires, version, n, n, data}[:1+len(layout)]
		if s.command != "" {
			fields = []any{until, data, created, expires, version}
		}
		for i := range fields { // two bits each: as it is, missing, a number, a text
			switch kinds >> (2 * i) & 3 {
			case 1:
				fields[i] = nil
			case 2:
				fields[i] = n
			case 3:
				fields[i] = until
			}
		}
		r, err := s.parse(fields)
		if err != nil {
			if r != nil || !errors.Is(err, errNotOurs) {
				t.Fatalf("got %+v, %v", r, err)
			}
			return
		}
		at := 2 // the data in a reply that has a record
		if s.command != "" {
			at = 1
		} else if len(fields) <= at {
			return
		}
		text := func(i int) string { s, _ := fields[at+i].(string); return s }
		millis := func(i int) (int64, bool) {
			ms, err := strconv.ParseInt(text(i), 10, 64)
			return ms, err == nil && ms >= minMillis && ms <= maxMillis
		}
		_, hasData := fields[at].(string)
		c, hasCreated := millis(1)
		e, hasExpires := millis(2)
		whole := hasData && hasCreated && hasExpires && len(text(3)) >= tokenSize
		rec, err := r.record(time.Now())
		switch {
		case whole != (err == nil):
			t.Fatalf("%q: got %+v, %v", fields, rec, err)
		case err != nil && !errors.Is(err, session.ErrDecode):
			t.Fatalf("%q: got %v", fields, err)
		case err == nil && (string(rec.Data) != text(0) || rec.Created.UnixMilli() != c || rec.Expires.UnixMilli() != e ||
			string(rec.Version) != text(3)[:tokenSize]):
			t.Fatalf("%q: got %+v", fields, rec)
		}
		_, _, _ = r.locked(time.Now()), r.conflict(time.Now()), r.saveError("abcdefgh", time.Now())
	})
}
