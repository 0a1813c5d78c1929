package redisstore

import (
	"crypto/rand"
	"fmt"
	"time"

	"github.com/seed-a7bee19b/session"
)

const tokenSize = 8 // bytes

// newToken returns a random token that tells one write, or one lock, from all
// others.
func newToken() string {
	var t [tokenSize]byte
	rand.Read(t[:]) // never fails
	return string(t[:])
}

// A Version is the token of the last write. The version of a lock's holder has
// the token of the lock before it.
const holderMark = "L"

func holderVersion(lock string, v session.Version) session.Version {
	return session.Version(holderMark+lock) + v
}

// split returns the lock of a holder's version, and the version without it.
// lock is "" if v is not a holder's.
func split(v session.Version) (lock string, old session.Version) {
	const start = len(holderMark) + tokenSize
	if len(v) == start+tokenSize && v[:1] == holderMark {
		return string(v[1:start]), v[start:]
	}
	return "", v
}

// The times that time.Time can format and compare, the years 1 to 9999, in
// epoch milliseconds.
const (
	minMillis = -62135596800_000
	maxMillis = 253402300799_999
)

// millis returns t in epoch milliseconds, rounded up: a record must be kept
// until its Expires.
func millis(t time.Time) int64 {
	ms := t.UnixMilli()
	if t.Nanosecond()%int(time.Millisecond) > 0 {
		ms++
	}
	return ms
}

// leaseMillis returns the length of a lease in milliseconds, rounded up.
func leaseMillis(ttl time.Duration) (int64, error) {
	if ttl <= 0 {
		return 0, fmt.Errorf("redisstore: the lease of a lock is %v; it must be longer than 0", ttl)
	}
	return int64((ttl-1)/time.Millisecond) + 1, nil
}
