package memory

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/seed-a7bee19b/session/admin"
)

var _ admin.Lister = (*Backend)(nil)

// recordSize is about the size of a record without its key and data.
const recordSize = 130

// List implements [admin.Lister]. It copies a few hundred records at a time and
// visits them in the caller's goroutine, while requests go on. It visits expired
// records that were not reclaimed yet. Entry.Size is the key, the data and 130
// bytes.
//
// opts.ReadUnits is refused. Segments and Workers mean nothing, and no record
// is foreign.
func (b *Backend) List(ctx context.Context, opts admin.ListOptions, visit func(admin.Entry) error) (admin.Report, error) {
	opts, err := opts.Complete()
	if err != nil {
		return admin.Report{}, err
	}
	if opts.ReadUnits != 0 {
		return admin.Report{}, fmt.Errorf("memory: List: memory has no ReadUnits: %w", errors.ErrUnsupported)
	}
	l := &list{opts: opts, visit: visit}
	begun := time.Now()
	for i := range b.shards {
		if err = l.shard(ctx, &b.shards[i]); err != nil {
			break
		}
	}
	if errors.Is(err, errLimit) {
		err = nil
	}
	l.report.Elapsed = time.Since(begun)
	return l.report, err
}

// errLimit ends a list without an error.
var errLimit = errors.New("memory: limit")

// list is one call of List.
type list struct {
	opts   admin.ListOptions
	visit  func(admin.Entry) error
	report admin.Report
	page   []admin.Entry
}

// shard visits the records of s. It gives up the lock in the middle of the map
// to visit a page. The map may change then, but a record that stays in it comes
// up once.
func (l *list) shard(ctx context.Context, s *shard) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	seen := 0
	for key, e := range s.records {
		if seen++; seen%sweepHold == 0 {
			if err := l.flush(ctx, s); err != nil {
				return err
			}
		}
		if strings.HasPrefix(key, l.opts.KeyPrefix) {
			l.page = append(l.page, l.entry(s, e))
		}
	}
	return l.flush(ctx, s)
}

func (l *list) entry(s *shard, e *entry) admin.Entry {
	entry := admin.Entry{
		Key: e.key, Size: recordSize + len(e.key) + len(e.data), DataSize: len(e.data),
		Created: time.UnixMilli(e.created), Expires: time.UnixMilli(e.expires),
		LockedUntil: s.leases[e.key].lockedUntil(time.Now().UnixMilli()),
	}
	if with := l.opts.DataWith; with != "" && strings.Contains(e.data, with) {
		entry.Data = e.data
	}
	return entry
}

// flush visits the page. The shard is not locked meanwhile.
func (l *list) flush(ctx context.Context, s *shard) error {
	s.mu.RUnlock()
	defer s.mu.RLock()
	page := l.page
	l.page = l.page[:0]
	for _, e := range page {
		if err := ctx.Err(); err != nil {
			return err
		}
		l.report.Scanned++
		if err := l.visit(e); err != nil {
			return err
		}
		if l.report.Scanned == int64(l.opts.Limit) {
			return errLimit
		}
	}
	return ctx.Err()
}
