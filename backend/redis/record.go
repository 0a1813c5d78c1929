package redis

import (
	"fmt"
	"strconv"
	"time"

	"github.com/seed-a7bee19b/session"
)

// A Version is the token of the last write. That of a lock's holder has the
// token of the lock before it.
const holderMark = "L"

func holderVersion(lock string, v session.Version) session.Version {
	return session.Version(holderMark+lock) + v
}

// split returns the lock that v belongs to, "" if there is none.
func split(v session.Version) (lock string, old session.Version) {
	const start = len(holderMark) + tokenSize
	if len(v) == start+tokenSize && v[:1] == holderMark {
		return string(v[1:start]), v[start:]
	}
	return "", v
}

// The range of times that time.Time formats and compares well, years 1 to
// 9999, in epoch milliseconds.
const (
	minMillis = -62135596800_000
	maxMillis = 253402300799_999
)

// millis rounds up: a record must be kept until its Expires.
func millis(t time.Time) int64 {
	ms := t.UnixMilli()
	if t.Nanosecond()%int(time.Millisecond) > 0 {
		ms++
	}
	return ms
}

// free makes of the reply of readCommand that of loadScript, if there is a
// record that nobody has locked since the last Save.
func (r *reply) free() (*reply, bool) {
	until, locked := r.field(0)
	version, ok := r.field(4)
	if _, there := r.field(3); !there || !ok || locked && until != "0" {
		return nil, false
	}
	newest := version[:min(len(version), tokenSize)]
	return &reply{fields: []any{"ok", int64(0), r.fields[1], r.fields[2], r.fields[3], newest}}, true
}

// decode reads a record that Save made, and refuses everything else.
func decode(r *reply) (session.Record, error) {
	data, ok := r.field(2)
	if !ok {
		return session.Record{}, foreign("data", "is missing")
	}
	rec := session.Record{Data: []byte(data)}
	for i, t := range []*time.Time{&rec.Created, &rec.Expires} {
		s, ok := r.field(3 + i)
		ms, err := strconv.ParseInt(s, 10, 64)
		if !ok || err != nil || ms < minMillis || ms > maxMillis {
			return session.Record{}, foreign([]string{"created", "expires"}[i], "is no time in epoch milliseconds")
		}
		*t = time.UnixMilli(ms).UTC()
	}
	if len(r.text(5)) != tokenSize {
		return session.Record{}, foreign("version", "has no token of 8 bytes")
	}
	rec.Version = session.Version(r.text(5))
	return rec, nil
}

func foreign(field, how string) error {
	return fmt.Errorf("redis: a hash was not written by this package: field %q %s: %w", field, how, session.ErrDecode)
}
