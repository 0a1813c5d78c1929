package redis

import (
	"fmt"
	"strconv"
	"time"

	"github.com/seed-a7bee19b/session"
)

const tokens = 8 // in a history

// history is the content of the field version: the tokens of the last writes,
// newest first. Each write draws its token at random, so no two states of a
// key have the same history, and a retry finds its own first attempt even
// under later writes of others.
type history string

// push returns the history after a write with token.
func (h history) push(token string) history {
	return history(token) + h[:min(len(h), (tokens-1)*tokenSize)]
}

func (h history) has(token string) bool {
	for i := 0; len(token) == tokenSize && i+tokenSize <= len(h); i += tokenSize {
		if string(h[i:i+tokenSize]) == token {
			return true
		}
	}
	return false
}

// follows reports whether h shows every write since old, or since the record
// was created anew.
func (h history) follows(old history) bool {
	return len(h) < tokens*tokenSize || h.has(string(old[:min(len(old), tokenSize)]))
}

func (h history) valid() bool {
	return len(h) > 0 && len(h) <= tokens*tokenSize && len(h)%tokenSize == 0
}

// A Version is a history. That of a lock's holder has the lock before it, and
// no other Version has its length.
const holderMark = "L"

func holderVersion(lock string, h history) session.Version {
	return session.Version(holderMark + lock + string(h))
}

// split returns the lock that v belongs to, "" if there is none.
func split(v session.Version) (lock string, h history) {
	const start = len(holderMark) + tokenSize
	if len(v) > start && len(v)%tokenSize == start%tokenSize && v[:1] == holderMark {
		return string(v[1:start]), history(v[start:])
	}
	return "", history(v)
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
	h := history(r.text(5))
	if !h.valid() {
		return session.Record{}, foreign("version", "is not one to eight tokens")
	}
	rec.Version = session.Version(h)
	return rec, nil
}

func foreign(field, how string) error {
	return fmt.Errorf("redis: a hash was not written by this package: field %q %s: %w", field, how, session.ErrDecode)
}
