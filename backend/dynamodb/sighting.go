package dynamodb

import (
	"hash/fnv"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/seed-a7bee19b/session"
)

// sightings are the locks of PHP's that this process has seen, by key. Such a lock has
// no end, and nothing in the item says when it began.
type sightings struct {
	count atomic.Int32 // of seen, to be read without mu
	mu    sync.Mutex
	seen  map[string]sighting
}

type sighting struct {
	first, last time.Time
	sum         uint64 // of the item
}

// maxSightings bounds the memory. If there are more locks at once, their time begins
// anew now and then.
const maxSightings = 4096

// since notes that the lock on an item was seen, and returns when it was first.
func (s *sightings) since(key string, sum uint64, now time.Time, lease time.Duration) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	old, ok := s.seen[key]
	if !ok || old.sum != sum {
		old = sighting{first: now, sum: sum}
	}
	old.last = now
	if s.seen == nil {
		s.seen = make(map[string]sighting)
	}
	if len(s.seen) >= maxSightings && !ok {
		for k, e := range s.seen {
			if now.Sub(e.last) > 2*lease {
				delete(s.seen, k)
			}
		}
		if len(s.seen) >= maxSightings {
			clear(s.seen)
		}
	}
	s.seen[key] = old
	s.count.Store(int32(len(s.seen))) // at most maxSightings
	return old.first
}

// forget is called for an item without a lock of PHP's.
func (s *sightings) forget(key string) {
	if s.count.Load() == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.seen, key)
	s.count.Store(int32(len(s.seen))) // at most maxSightings
}

// foreignLock returns the lock of PHP's on an item whose version is v. expires is nil
// if PHP has not stored the session yet. Each write of PHP's moves the deadline, so a
// lock beside the same deadline and version has had the same holder, unless one second
// had two. key is "" for a look that does not count.
func (b *Backend) foreignLock(key string, id, expires types.AttributeValue, v session.Version, now time.Time) lock {
	l := lock{foreign: id, seen: expires, sum: sumOf(id, expires, v)}
	lease, first := b.c.PHP.ForeignLease, now
	if key != "" {
		first = b.sightings.since(key, l.sum, now, lease)
	}
	l.until = milliseconds(now.Add(lease - now.Sub(first))) // which a step of the clock does not shorten
	return l
}

func sumOf(id, expires types.AttributeValue, v session.Version) uint64 {
	h := fnv.New64a()
	for _, a := range []types.AttributeValue{id, expires} {
		if n, ok := a.(*types.AttributeValueMemberN); ok {
			_, _ = io.WriteString(h, n.Value) // never fails
		}
		_, _ = io.WriteString(h, "\x00")
	}
	_, _ = io.WriteString(h, string(v))
	return h.Sum64()
}
