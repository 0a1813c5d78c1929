package dynamodb

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/seed-a7bee19b/session"
)

const (
	lockIDSize = 16             // bytes
	lockSize   = lockIDSize + 8 // with a number of milliseconds until the year 5138
)

// lock is the content of the two lock attributes. The zero lock means that there
// is none.
type lock struct {
	id    string // drawn by the holder
	until int64  // epoch milliseconds

	// A lock of PHP's stock handler has no ID and no end. Until is then when it is
	// taken for that of a dead holder, and seen is the Expires beside it.
	foreign types.AttributeValue
	seen    types.AttributeValue // nil if there was none
	sum     uint64               // of the state of the item
}

// live reports whether the lease runs at now. The conditions use the same rule.
func (l lock) live(now time.Time) bool {
	return (l.id != "" || l.foreign != nil) && l.until > now.UnixMilli()
}

// dead reports whether l is a lock of PHP's whose holder is taken for dead.
func (l lock) dead(now time.Time) bool { return l.foreign != nil && !l.live(now) }

func (l lock) end() time.Time { return time.UnixMilli(l.until).UTC() }

func newLockID() string {
	var id [lockIDSize]byte
	rand.Read(id[:]) // never fails
	return string(id[:])
}

// holding is the prefix of the history in the Version of a lock's holder. It is
// encoded as a letter, the ID of the lock, and eight bytes with Expires and a
// checksum. Expires is the one that Acquire found, which saves Release a
// request. The checksum is there because nothing in the item shows whether
// Expires is right. The length of a history is a multiple of eight, and that of
// a holding is not, so the two kinds of Version differ.
type holding struct {
	id      string
	expires int64 // epoch seconds
}

const (
	holderMark  = "L"
	holdingSize = len(holderMark) + lockIDSize + 8
)

// held returns rec for the holder of l.
func (l lock) held(rec session.Record) session.Record {
	v := binary.BigEndian.AppendUint64([]byte(holderMark+l.id), holding{l.id, rec.Expires.Unix()}.tail())
	rec.Version = session.Version(v) + rec.Version
	rec.LockedUntil = l.end()
	return rec
}

// tail encodes expires in five bytes and a checksum in three.
func (h holding) tail() uint64 {
	sum := fnv.New32a()
	_, _ = fmt.Fprint(sum, h.id, h.expires) // never fails
	return uint64(h.expires-minSeconds)<<24 | uint64(sum.Sum32()>>8)
}

// split decodes v. The holding has no ID if v is not that of a holder.
func split(v session.Version) (holding, history) {
	if len(v) < holdingSize || !strings.HasPrefix(string(v), holderMark) {
		return holding{}, history(v)
	}
	if _, packed := unpack(v[holdingSize:]); !packed && !history(v[holdingSize:]).valid() {
		return holding{}, history(v)
	}
	const idEnd = len(holderMark) + lockIDSize
	tail := binary.BigEndian.Uint64([]byte(v[idEnd:holdingSize]))
	h := holding{id: string(v[len(holderMark):idEnd]), expires: int64(tail>>24) + minSeconds}
	if h.tail() != tail {
		return holding{}, history(v)
	}
	return h, history(v[holdingSize:])
}
