package dynamodb

import (
	"crypto/rand"
	"fmt"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/seed-a7bee19b/session"
)

const (
	tokenSize = 8  // bytes
	tokens    = 16 // in a history
)

// history is the content of the version attribute: the tokens of the last
// writes to the item, newest first. It is also the session.Version, except for
// the holder of a lock. Each write draws its token at random, so no two states
// of a key have the same history, and a retry recognises its own first attempt
// even below later writes of others.
type history string

func newToken() string {
	var t [tokenSize]byte
	rand.Read(t[:]) // never fails
	return string(t[:])
}

// push returns the history after a write with token.
func (h history) push(token string) history {
	return history(token) + h[:min(len(h), (tokens-1)*tokenSize)]
}

// index returns the number of writes after the one with token, or -1 if token
// is not in h.
func (h history) index(token string) int {
	for i := 0; len(token) == tokenSize && (i+1)*tokenSize <= len(h); i++ {
		if string(h[i*tokenSize:(i+1)*tokenSize]) == token {
			return i
		}
	}
	return -1
}

// newest returns the token of the last write, or "" if there is none.
func (h history) newest() string { return string(h[:min(len(h), tokenSize)]) }

// full reports whether h may lack older writes.
func (h history) full() bool { return len(h) >= tokens*tokenSize }

func (h history) valid() bool {
	return len(h) > 0 && len(h) <= tokens*tokenSize && len(h)%tokenSize == 0
}

// The years 1 to 9999, as time.Time formats and compares no others well.
const (
	minSeconds = -62135596800
	maxSeconds = 253402300799
)

// seconds rounds up: a record must be kept until its Expires.
func seconds(t time.Time) int64 {
	s := t.Unix()
	if t.Nanosecond() > 0 {
		s++
	}
	return s
}

// milliseconds rounds up: a lease must run for all of its ttl.
func milliseconds(t time.Time) int64 { return t.Add(time.Millisecond - 1).UnixMilli() }

func number(n int64) *types.AttributeValueMemberN {
	return &types.AttributeValueMemberN{Value: strconv.FormatInt(n, 10)}
}

// decode reads an item that Save or Acquire wrote, or PHP if the table is beside it,
// and refuses any other. It sets LockedUntil if the lock is live at now.
func (b *Backend) decode(key string, item map[string]types.AttributeValue, now time.Time) (rec session.Record, l lock, err error) {
	if b.Shared() {
		return b.decodeShared(key, item, now)
	}
	switch data := item[b.c.DataAttribute].(type) {
	case *types.AttributeValueMemberB:
		rec.Data = data.Value
	case *types.AttributeValueMemberS:
		rec.Data = []byte(data.Value)
	default:
		return session.Record{}, lock{}, b.foreign(item, b.c.DataAttribute, "B or S")
	}

	expires, ok := epoch(item[b.c.ExpiresAttribute], 1)
	if !ok {
		return session.Record{}, lock{}, b.foreign(item, b.c.ExpiresAttribute, "N with epoch seconds")
	}
	rec.Expires = time.Unix(expires, 0).UTC()

	created, ok := epoch(item[b.c.CreatedAttribute], 1000)
	if !ok {
		return session.Record{}, lock{}, b.foreign(item, b.c.CreatedAttribute, "N with epoch milliseconds")
	}
	rec.Created = time.UnixMilli(created).UTC()

	version, ok := item[b.c.VersionAttribute].(*types.AttributeValueMemberB)
	if !ok || !history(version.Value).valid() {
		return session.Record{}, lock{}, b.foreign(item, b.c.VersionAttribute, "B with up to 16 tokens")
	}
	rec.Version = session.Version(version.Value)

	switch id := item[b.c.LockAttribute].(type) {
	case nil:
		// The other lock attribute does not matter without this one.
		return rec, lock{}, nil
	case *types.AttributeValueMemberB:
		l.id = string(id.Value)
	}
	if len(l.id) != lockIDSize {
		return session.Record{}, lock{}, b.foreign(item, b.c.LockAttribute, "B with 16 bytes")
	}
	l.until, ok = epoch(item[b.c.LockUntilAttribute], 1000)
	if !ok {
		return session.Record{}, lock{}, b.foreign(item, b.c.LockUntilAttribute, "N with epoch milliseconds")
	}
	if l.live(now) {
		rec.LockedUntil = l.end()
	}
	return rec, l, nil
}

// epoch reads a time in units of 1/perSecond s.
func epoch(v types.AttributeValue, perSecond int64) (int64, bool) {
	n, ok := v.(*types.AttributeValueMemberN)
	if !ok {
		return 0, false
	}
	i, err := strconv.ParseInt(n.Value, 10, 64)
	if err != nil || i < minSeconds*perSecond || i > maxSeconds*perSecond+perSecond-1 {
		return 0, false
	}
	return i, true
}

// foreign is the error for an item that this package did not write.
func (b *Backend) foreign(item map[string]types.AttributeValue, attribute, want string) error {
	what := "is missing"
	if v := item[attribute]; v != nil {
		what = "is not of type " + want
	}
	return fmt.Errorf("dynamodb: an item in table %q was not written by this package: attribute %q %s: %w",
		b.c.Table, attribute, what, session.ErrDecode)
}
