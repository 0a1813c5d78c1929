package cost

import (
	"math"
	"time"
)

// The sizes of backend/dynamodb's item, in bytes, as DynamoDB counts them.
const (
	// DefaultKey is the length of what the default session.Config.StoreKey
	// makes of a token.
	DefaultKey = 32
	// DefaultNames is the length of the names id, data, expires, created and
	// version together, DefaultLockNames that of lock and lock_until.
	DefaultNames     = 27
	DefaultLockNames = 14

	numbers     = 6 + 8  // expires, in seconds, and created, in milliseconds
	tokenSize   = 8      // of one write in the version
	tokens      = 16     // that the version has at most
	lockValues  = 16 + 8 // who holds the lock, and until when
	markerData  = 130    // what a login leaves: a key, a version and a sealed token, and their names
	indexData   = 350    // a record of the index of owners with three sessions
	rowOverhead = 100    // bytes that DynamoDB adds to each item for storage
	readBlock   = 4 << 10
	writeBlock  = 1 << 10
	scanPage    = 1 << 20
	gigabyte    = 1 << 30
)

// indexMargin is how long a record of the index stays after its last session.
const indexMargin = 24 * time.Hour

// Item has the sizes of the parts of a stored session, without its data.
type Item struct {
	Key       int // bytes of the key; default 32
	Names     int // bytes of the names of the attributes, those of a lock apart; default 27
	LockNames int // bytes of the names of the two of a lock; default 14
}

func (i Item) withDefaults() Item {
	if i.Key == 0 {
		i.Key = DefaultKey
	}
	if i.Names == 0 {
		i.Names = DefaultNames
	}
	if i.LockNames == 0 {
		i.LockNames = DefaultLockNames
	}
	return i
}

// Size returns how large DynamoDB counts the item of a session with data bytes
// of encoded data, after so many writes, and while it is locked or not.
func (i Item) Size(data, writes int, locked bool) int {
	i = i.withDefaults()
	size := i.Names + i.Key + data + numbers + tokenSize*min(max(writes, 1), tokens)
	if locked {
		size += i.LockNames + lockValues
	}
	return size
}

// ReadUnits returns the cost of a strongly consistent GetItem of size bytes: 1 RCU
// for each 4 KB begun, also without an item.
func ReadUnits(size int) float64 { return units(size, readBlock) }

// WriteUnits returns the cost of a write if the larger of the old and the new
// item has size bytes: 1 WCU for each KB begun, also without an item.
func WriteUnits(size int) float64 { return units(size, writeBlock) }

func units(size, block int) float64 { return max(1, math.Ceil(float64(size)/float64(block))) }
