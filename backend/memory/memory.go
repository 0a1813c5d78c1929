// Package memory keeps sessions in the memory of the process: for tests, for
// development, and for an application that is a single process and may lose its
// sessions when it restarts.
//
// The zero [Backend] is ready for use and has no bound; [New] makes one with
// bounds. There is no goroutine: each Save, Touch and Delete also reclaims a
// few records that have expired, earliest first, so memory follows the number
// of live sessions as long as there are writes. [Backend.Sweep] reclaims all of
// them.
package memory

import (
	"container/heap"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/maphash"
	"math"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-a7bee19b/session"
)

// ErrFull is the error of a Save that would create more than
// [Config.MaxRecords] records, after all records that expired a second ago or
// earlier were reclaimed. Existing records can still be loaded, replaced, touched
// and deleted.
var ErrFull = errors.New("memory: full")

// Config bounds a [Backend]. The zero Config sets no bound.
type Config struct {
	// MaxRecords is the largest number of records, 0 for no bound. A Save
	// that would create one more fails with [ErrFull], unless it gives an
	// existing session a new ID: a session has at most 10 records, including
	// those of its old IDs.
	MaxRecords int
	// MaxData is the largest Data of one record in bytes, 0 for no bound. A
	// Save with more data fails with [session.ErrTooLarge].
	MaxData int
}

// Backend is a [session.Backend] in memory. The zero value is ready for use
// and has no bound. It must not be copied after first use.
//
// A record takes about 130 bytes plus its key and its data: 240 MB for a million
// sessions of 60 bytes. Created and Expires are kept to the millisecond.
type Backend struct {
	config Config
	once   sync.Once
	seed   maphash.Seed
	nonce  string       // the prefix of every Version, so that those of two Backends differ
	count  atomic.Int64 // records in all shards; may briefly count one that is refused
	shards [shardCount]shard
}

const (
	shardCount = 64
	// reclaimSteps is the number of reclaim steps that each write makes. A
	// write makes at most one step necessary, so with more than one a backlog
	// shrinks.
	reclaimSteps = 3
)

// shard is 128 bytes, two cache lines, so that shards do not slow each other.
type shard struct {
	mu      sync.RWMutex
	records map[string]*entry
	due     dueHeap
	leases  map[string]lease // of records that are locked, or that were locked and not written since
	// version counts the states and leases of all keys of the shard. It never
	// decreases, so that no Version is used again after a Delete.
	version uint64
	_       [56]byte
}

// entry is 64 bytes. There is one per record; keep it small.
type entry struct {
	key     string
	data    string // immutable, so Load copies it after it has unlocked
	created int64  // Unix milliseconds
	expires int64  // Unix milliseconds
	version uint64
	index   uint32 // in shard.due
	// due is the time to check whether the record has expired, in Unix
	// seconds. It is at most one second after expires, but may be earlier:
	// moving expires forward does not change due, which makes Touch cheap.
	due uint32
}

// New returns a Backend with the bounds of config. A negative bound is an
// error.
func New(config Config) (*Backend, error) {
	if config.MaxRecords < 0 {
		return nil, fmt.Errorf("memory: negative MaxRecords %d", config.MaxRecords)
	}
	if config.MaxData < 0 {
		return nil, fmt.Errorf("memory: negative MaxData %d", config.MaxData)
	}
	return &Backend{config: config}, nil
}

// Load implements [session.Backend]. An expired record is not found.
func (b *Backend) Load(ctx context.Context, key string) (session.Record, error) {
	if err := ctx.Err(); err != nil {
		return session.Record{}, err
	}
	s := b.shard(key)
	s.mu.RLock()
	now := time.Now().UnixMilli()
	e := s.records[key]
	if e == nil || e.expires <= now {
		s.mu.RUnlock()
		return session.Record{}, session.ErrNotFound
	}
	state, l := *e, s.leases[key]
	s.mu.RUnlock()
	rec := b.record(&state)
	rec.LockedUntil = l.lockedUntil(now)
	return rec, nil
}

// Save implements [session.Backend]. A conflict carries the current record.
func (b *Backend) Save(ctx context.Context, key string, rec session.Record) (session.Version, error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	if rec.Expires.IsZero() {
		return "", errors.New("memory: the record has no Expires")
	}
	if limit := b.config.MaxData; limit > 0 && len(rec.Data) > limit {
		return "", fmt.Errorf("memory: %w: %d bytes of data, at most %d", session.ErrTooLarge, len(rec.Data), limit)
	}
	s := b.shard(key)
	for {
		version, err := b.save(s, key, &rec)
		if !errors.Is(err, ErrFull) || !b.makeRoom() {
			return version, err
		}
	}
}

func (b *Backend) save(s *shard, key string, rec *session.Record) (session.Version, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	// The clock is read under the lock, here and in every method: waiting for the
	// shard takes time, and by then another caller may have been told that the
	// record has expired.
	clock := time.Now()
	now := clock.UnixMilli()
	b.reclaim(s, now)

	e := s.records[key]
	if e != nil && e.expires <= now {
		b.remove(s, e)
		e = nil
	}
	if e == nil && rec.Version != "" {
		return "", &session.ConflictError{Gone: true}
	}
	if e != nil {
		l := s.leases[key]
		holder := b.isHolder(rec.Version, e, l)
		if l.live(now) && !holder && !isFormerHolder(rec.Version) {
			return "", &session.LockedError{Until: l.lockedUntil(now)}
		}
		if !holder && !b.isVersion(rec.Version, e.version) {
			current := b.record(e)
			return "", &session.ConflictError{Current: &current}
		}
		delete(s.leases, key)
	}

	s.version++
	if !rec.Expires.After(clock) && (e == nil || !rec.KeepLater) {
		// The record expires at once, so no caller can load it.
		if e != nil {
			b.remove(s, e)
		}
		return b.version(s.version), nil
	}
	if e != nil {
		before := e.expires
		e.set(rec, s.version)
		if rec.KeepLater {
			e.expires = max(e.expires, before)
		}
		if due := dueAt(e.expires); due < e.due {
			e.due = due
			heap.Fix(&s.due, int(e.index))
		}
		return b.version(s.version), nil
	}

	if n := b.count.Add(1); b.config.MaxRecords > 0 && n > int64(b.config.MaxRecords) && !rec.Continues {
		b.count.Add(-1)
		return "", ErrFull
	}
	// The key may be part of a larger string, which must not stay in memory.
	e = &entry{key: strings.Clone(key)}
	e.set(rec, s.version)
	e.due = dueAt(e.expires)
	if s.records == nil {
		s.records = make(map[string]*entry)
	}
	s.records[e.key] = e
	heap.Push(&s.due, e)
	return b.version(s.version), nil
}

// Touch implements [session.Backend].
func (b *Backend) Touch(ctx context.Context, key string, expires time.Time) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s := b.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now().UnixMilli()
	b.reclaim(s, now)
	e := s.records[key]
	if e == nil || e.expires <= now {
		return session.ErrNotFound
	}
	e.expires = max(e.expires, ceilMilli(expires))
	return nil
}

// Delete implements [session.Backend].
func (b *Backend) Delete(ctx context.Context, key string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s := b.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now().UnixMilli()
	b.reclaim(s, now)
	if e := s.records[key]; e != nil {
		b.remove(s, e)
	}
	return nil
}

// Len returns the number of records in memory, including expired records that
// are not reclaimed yet.
func (b *Backend) Len() int {
	n := 0
	for i := range b.shards {
		s := &b.shards[i]
		s.mu.RLock()
		n += len(s.records)
		s.mu.RUnlock()
	}
	return n
}

// shard returns the shard of key. Every method calls it first, so it also
// initializes the zero Backend.
func (b *Backend) shard(key string) *shard {
	b.once.Do(func() {
		b.seed = maphash.MakeSeed()
		var nonce [8]byte
		rand.Read(nonce[:]) // never fails
		b.nonce = hex.EncodeToString(nonce[:]) + "-"
	})
	return &b.shards[maphash.String(b.seed, key)%shardCount]
}

// makeRoom removes one expired record from any shard, and reports whether there
// was one.
func (b *Backend) makeRoom() bool {
	now := time.Now().UnixMilli()
	for i := range b.shards {
		s := &b.shards[i]
		s.mu.Lock()
		removed, more := false, true
		for more && !removed {
			removed, more = b.reclaimStep(s, now)
		}
		s.mu.Unlock()
		if removed {
			return true
		}
	}
	return false
}

// reclaim makes the reclaim steps of one write. The caller holds s.mu.
func (b *Backend) reclaim(s *shard, now int64) {
	for range reclaimSteps {
		if _, more := b.reclaimStep(s, now); !more {
			return
		}
	}
}

// reclaimStep examines the record that is due first. It removes an expired
// record, and gives a record whose Expires was moved a new due time. more is false
// if no record is due. The caller holds s.mu.
func (b *Backend) reclaimStep(s *shard, now int64) (removed, more bool) {
	if len(s.due) == 0 {
		return false, false
	}
	e := s.due[0]
	if int64(e.due) > now/1000 {
		return false, false
	}
	if e.expires <= now {
		b.remove(s, e)
		return true, true
	}
	before := e.due
	e.due = dueAt(e.expires)
	heap.Fix(&s.due, 0)
	return false, e.due > before // false in 2106, where due ends
}

// remove drops e. The caller holds s.mu.
func (b *Backend) remove(s *shard, e *entry) {
	delete(s.records, e.key)
	delete(s.leases, e.key)
	heap.Remove(&s.due, int(e.index))
	b.count.Add(-1)
}

// record returns a copy of e that shares nothing with it.
func (b *Backend) record(e *entry) session.Record {
	return session.Record{
		Data:    []byte(e.data),
		Created: time.UnixMilli(e.created),
		Expires: time.UnixMilli(e.expires),
		Version: b.version(e.version),
	}
}

func (b *Backend) appendVersion(buf []byte, n uint64) []byte {
	return strconv.AppendUint(append(buf, b.nonce...), n, 36)
}

func (b *Backend) version(n uint64) session.Version {
	var buf [32]byte
	return session.Version(b.appendVersion(buf[:0], n))
}

func (b *Backend) isVersion(v session.Version, n uint64) bool {
	var buf [32]byte
	return string(v) == string(b.appendVersion(buf[:0], n))
}

func (e *entry) set(rec *session.Record, version uint64) {
	e.data = string(rec.Data)
	e.created = rec.Created.UnixMilli()
	e.expires = ceilMilli(rec.Expires)
	e.version = version
}

// ceilMilli rounds up, because a record is kept until its Expires.
func ceilMilli(t time.Time) int64 {
	ms := t.UnixMilli()
	if t.Nanosecond()%int(time.Millisecond) != 0 {
		ms++
	}
	return ms
}

// dueAt returns the first second that begins after expires.
func dueAt(expires int64) uint32 {
	return uint32(min(max(expires/1000+1, 0), math.MaxUint32))
}

// dueHeap has the record that is due first at index 0.
type dueHeap []*entry

func (h dueHeap) Len() int           { return len(h) }
func (h dueHeap) Less(i, j int) bool { return h[i].due < h[j].due }
func (h dueHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = uint32(i), uint32(j)
}

func (h *dueHeap) Push(x any) {
	e := x.(*entry)
	e.index = uint32(len(*h))
	*h = append(*h, e)
}

func (h *dueHeap) Pop() any {
	old := *h
	last := len(old) - 1
	e := old[last]
	old[last] = nil // for the garbage collector
	*h = old[:last]
	return e
}
