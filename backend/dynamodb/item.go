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

// history is the content of the version attribute, and the session.Version of
// all but the holder of a lock: the tokens of the last writes to the item,
// newest first. Each write draws its token at random, so no two states of a
// key have the same history, and a retry finds its own first attempt even
// under later writes of others.
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

// index returns how many writes came after the one with token, -1 if it is
// not in h.
func (h history) index(token string) int {
	for i := 0; len(token) == tokenSize && (i+1)*tokenSize <= len(h); i++ {
		if string(h[i*tokenSize:(i+1)*tokenSize]) == token {
			return i
		}
	}
	return -1
}

// newest returns the token of the last write, "" if there is none.
func (h history) newest() string { return string(h[:min(len(h), tokenSize)]) }

// full reports whether there may have been writes before those in h.
func (h history) full() bool { return len(h) >= tokens*tokenSize }

func (h history) valid() bool {
	return len(h) > 0 && len(h) <= tokens*tokenSize && len(h)%tokenSize == 0
}

// The range of times that time.Time formats and compares well: years 1 to 9999.
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

// numberSize is the size that DynamoDB counts for n: it keeps numbers in base
// 100 without trailing zeros, and needs one byte more, and one for a minus.
func numberSize(n int64) int {
	if n == 0 {
		return 1
	}
	size := 1
	if n < 0 {
		size++
	}
	for n%100 == 0 {
		n /= 100
	}
	for ; n != 0; n /= 100 {
		size++
	}
	return size
}

// digitsSize is numberSize of any number; where it is no integer, nearly.
func digitsSize(n string) int {
	if i, err := strconv.ParseInt(n, 10, 64); err == nil {
		return numberSize(i)
	}
	return len(n)/2 + 2
}

// decode reads an item that Save and Acquire made, and refuses everything
// else. The record is locked if the lock is live at now.
func (b *Backend) decode(item map[string]types.AttributeValue, now time.Time) (rec session.Record, l lock, err error) {
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
		// The other attribute alone locks nothing.
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

// epoch returns a time in units of 1/perSecond s.
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

func (b *Backend) foreign(item map[string]types.AttributeValue, attribute, want string) error {
	what := "is missing"
	if v := item[attribute]; v != nil {
		what = "is not of type " + want
	}
	return fmt.Errorf("dynamodb: an item in table %q was not written by this package: attribute %q %s: %w",
		b.c.Table, attribute, what, session.ErrDecode)
}
