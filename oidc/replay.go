package backchannel

import (
	"crypto/sha256"
	"sync"
	"time"
)

// A digest is that of a token's payload. The same claims are the same logout, with
// whatever signature and encoding they arrive.
type digest [sha256.Size]byte

// maxDone bounds the memory of the tokens that are done, to about 1 MiB.
const maxDone = 8192

// done remembers the tokens whose sessions have ended, until they are refused
// anyway, or until there are too many.
type done struct {
	mu    sync.Mutex
	set   map[digest]struct{}
	queue []ended // in the order of their ends
}

type ended struct {
	digest digest
	until  time.Time
}

// has reports whether the token is done.
func (d *done) has(id digest) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, ok := d.set[id]
	return ok
}

// add remembers a token that is done.
func (d *done) add(id digest, until, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, ok := d.set[id]; ok {
		return
	}
	for len(d.queue) > 0 && (len(d.queue) >= maxDone || !now.Before(d.queue[0].until)) {
		delete(d.set, d.queue[0].digest)
		d.queue = d.queue[1:]
	}
	if d.set == nil {
		d.set = map[digest]struct{}{}
	}
	d.set[id] = struct{}{}
	d.queue = append(d.queue, ended{digest: id, until: until})
}
