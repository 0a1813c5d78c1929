package session

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/seed-a7bee19b/session/internal/index"
)

// ownerRecord is the record of an owner as it was read.
type ownerRecord struct {
	head    index.Head
	version Version // "" if there is none
	unsure  bool    // whether an earlier try of the same change was applied
}

// maxOwnerConflicts is how often a change of the record of an owner tries again.
// Each time it waits for up to a tenth of a second.
const maxOwnerConflicts = 200

var errIndexLost = fmt.Errorf("%w: a part of the index of owners is missing", ErrStore)

// loadOwner returns the record at key.
func (m *core) loadOwner(ctx context.Context, key string) (ownerRecord, error) {
	rec, err := m.load(ctx, key)
	if errors.Is(err, ErrNotFound) {
		return ownerRecord{}, nil
	} else if err != nil {
		return ownerRecord{}, err
	}
	return m.decodeOwner(rec)
}

func (m *core) decodeOwner(rec Record) (ownerRecord, error) {
	text, err := m.splitIndex(rec)
	if err != nil {
		return ownerRecord{}, err
	}
	head, err := index.DecodeHead(text)
	if err != nil {
		return ownerRecord{}, fmt.Errorf("%w: %w", ErrDecode, err)
	}
	head.Tidy(time.Now().Unix())
	return ownerRecord{head: head, version: rec.Version}, nil
}

func (m *core) splitIndex(rec Record) (text string, err error) {
	values, err := m.cfg.Codec.Split(rec.Data)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrDecode, err)
	}
	if values[ownerName] == nil {
		return "", fmt.Errorf("%w: not a record of the index of owners", ErrDecode)
	}
	return text, m.decode(values[ownerName], &text)
}

// indexRecord returns the record of v, a head or a page whose last session ends at
// until; a head of no sessions stays for a while.
func (m *core) indexRecord(v any, until int64) (Record, error) {
	text, err := index.Encode(v)
	if err != nil {
		return Record{}, fmt.Errorf("%w: %w", ErrEncode, err)
	}
	encoded, err := m.encode(text)
	if err != nil {
		return Record{}, err
	}
	data, err := m.cfg.Codec.Join(map[string][]byte{ownerName: encoded})
	if err != nil {
		return Record{}, fmt.Errorf("%w: %w", ErrEncode, err)
	}
	const margin, never = 24 * time.Hour, 100 * 365 * 24 * time.Hour
	now := time.Now()
	expires := now.Add(margin)
	switch {
	case until == 0:
		expires = now.Add(never)
	case until > now.Unix():
		expires = time.Unix(until, 0).Add(margin)
	}
	return Record{Data: data, Created: now, Expires: expires, Continues: true, Private: true}, nil
}

// changeOwner replaces the head of the record at key by what f makes of it, with a
// conditional Save, and returns the record as it is then. If f returns false, it
// changes nothing. f is called again after a conflict, and when it is not known whether
// the head was replaced: then it has to find out that its work is done. If that
// stays unknown, changeOwner fails with ErrStore. known is the record as it was
// read, if it was.
//
// The requests of this process take turns, so that they have no conflicts with
// each other.
func (m *core) changeOwner(ctx context.Context, key string, known *ownerRecord, f func(o *ownerRecord) (bool, error)) (ownerRecord, error) {
	t, err := m.owners.Enter(ctx, key, math.MaxInt, time.Now().Add(m.cfg.Lock.MaxWait), m.cfg.CommitTimeout, true)
	switch {
	case err == nil:
		defer m.owners.Leave(key, &t)
		if t.Waited {
			known = nil // it is old by now
		}
		if lk := &m.cfg.Lock; t.StandBack {
			t.Done = nil
			if err := sleep(ctx, lk.MaxRetry+lk.MinRetry); err != nil {
				return ownerRecord{}, err
			}
		}
	case ctx.Err() != nil:
		return ownerRecord{}, err
	}
	const maxFailures = 3
	failures := 0
	for try := 0; ; try++ {
		var o ownerRecord
		if known != nil {
			o, known = *known, nil
		} else if t.Done != nil {
			o, err = m.decodeOwner(*t.Done)
			if t.Done = nil; err != nil {
				return ownerRecord{}, err
			}
		} else if o, err = m.loadOwner(ctx, key); err != nil {
			return ownerRecord{}, err
		}
		o.unsure = failures > 0
		if change, err := f(&o); err != nil || !change {
			return o, err
		}
		rec, err := m.indexRecord(o.head, o.head.Until())
		if err != nil {
			return ownerRecord{}, err
		}
		rec.Version = o.version
		rec.Version, err = m.save(ctx, key, rec)
		var conflict *ConflictError
		switch {
		case err == nil:
			t.Done, o.version = &rec, rec.Version
			return o, nil
		case errors.As(err, &conflict):
			current := conflict.Current
			conflict.Current = nil // not for the caller
			if try >= maxOwnerConflicts {
				return ownerRecord{}, fmt.Errorf("%w: the record of an owner (%d times in a row)", ErrConflict, try+1)
			}
			if current != nil && try == 0 {
				o, err := m.decodeOwner(*current)
				if err != nil {
					return ownerRecord{}, err
				}
				known = &o
				continue
			}
			if conflict.Gone {
				known = &ownerRecord{}
				continue
			}
		case uncertain(err) && failures < maxFailures && ctx.Err() == nil:
			failures++
		default:
			return ownerRecord{}, err
		}
		if werr := backoff(ctx, try); werr != nil {
			return ownerRecord{}, fmt.Errorf("%w, while retrying after: %w", werr, err)
		}
	}
}

// pack moves entries of o, the record at key, into pages, if it has too many. If that
// fails, the next login tries again. The login goes on after it, so pack takes half of
// the time at most.
func (m *core) pack(ctx context.Context, key string, o ownerRecord) {
	ctx, cancel := halfOf(ctx)
	defer cancel()
	for {
		pk, full := o.head.Pack()
		if !full {
			return
		}
		var read []index.Entry
		if pk.Read {
			var err error
			if read, err = m.union(ctx, o.head, &pk); err != nil {
				return
			}
		}
		pages := pk.New(read, time.Now().Unix())
		refs, err := m.savePages(ctx, pages, pk.Level)
		if err != nil {
			return
		}
		packed, sent := false, 0
		o, err = m.changeOwner(ctx, key, &o, func(o *ownerRecord) (bool, error) {
			if !o.unsure {
				sent = 0 // or it was refused
			}
			if len(refs) > 0 && o.head.Has(refs[0].Key) {
				packed = true
				return false, nil
			}
			packed = o.head.Packed(pk, refs)
			if packed {
				sent++
			}
			return packed, nil
		})
		if err != nil || !packed {
			if sent == 0 { // otherwise a Save may be in flight that refers to them
				m.removePages(ctx, refs)
			}
			return
		}
		if pk.Level == 1 {
			m.removePages(ctx, pk.Pages)
		}
	}
}

// halfOf returns a context with half of the time that ctx has left.
func halfOf(ctx context.Context) (context.Context, context.CancelFunc) {
	end, ok := ctx.Deadline()
	if !ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, time.Until(end)/2)
}

// union returns the entries of the pages of pk, which are in head, without keys of old
// IDs that have no record any more. None of them gets one again. If the store does not
// tell in time, all keys stay, and pages that were joined before are not joined again.
func (m *core) union(ctx context.Context, head index.Head, pk *index.Packing) (read []index.Entry, err error) {
	for _, p := range pk.Pages {
		page, err := m.loadPage(ctx, p)
		if err != nil {
			return nil, err
		}
		read = head.Union(read, page.Entries)
	}
	var keys []string
	for _, e := range read {
		if len(e.Keys) > 1 {
			keys = append(keys, e.Keys...)
		}
	}
	try, cancel := halfOf(ctx)
	defer cancel()
	gone, err := m.gone(try, keys)
	if err != nil {
		pk.Read = pk.Level == 1
		return read, ctx.Err()
	}
	is := map[string]bool{}
	for _, key := range gone {
		is[key] = true
	}
	return index.Prune(read, func(key string) bool { return is[key] }), nil
}

// savePages stores pages under new keys, all of them or none.
func (m *core) savePages(ctx context.Context, pages []index.Page, level int) (refs []index.Ref, err error) {
	for _, page := range pages {
		ref := page.Ref(m.newPageKey(), level)
		rec, err := m.indexRecord(page, ref.Until)
		if err == nil {
			_, err = m.save(ctx, ref.Key, rec)
		}
		if err != nil {
			m.removePages(ctx, refs)
			return nil, err
		}
		refs = append(refs, ref)
	}
	return refs, nil
}

func (m *core) removePages(ctx context.Context, pages []index.Ref) {
	var keys []string
	for _, p := range pages {
		keys = append(keys, p.Key)
	}
	m.removeAll(ctx, keys)
}

// removeAll is remove for records of the index, several at a time. If the context of
// the caller has ended, it takes a second at most for all.
func (m *core) removeAll(ctx context.Context, keys []string) {
	try := func(ctx context.Context) {
		_ = atOnce(ctx, len(keys), func(ctx context.Context, i int) error {
			_ = m.delete(ctx, keys[i])
			return nil
		})
	}
	if try(ctx); ctx.Err() != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		try(ctx)
	}
}

// loadPage returns the page of p.
func (m *core) loadPage(ctx context.Context, p index.Ref) (index.Page, error) {
	rec, err := m.load(ctx, p.Key)
	if err != nil {
		return index.Page{}, err
	}
	text, err := m.splitIndex(rec)
	if err != nil {
		return index.Page{}, err
	}
	page, err := index.DecodePage(text, p.Level)
	if err != nil {
		err = fmt.Errorf("%w: %w", ErrDecode, err)
	}
	return page, err
}

// gone returns those of keys that have no record. None of them gets one again.
func (m *core) gone(ctx context.Context, keys []string) (gone []string, err error) {
	is := make([]bool, len(keys))
	err = atOnce(ctx, len(keys), func(ctx context.Context, i int) error {
		_, err := m.load(ctx, keys[i])
		if is[i] = errors.Is(err, ErrNotFound); uncertain(err) {
			return err
		}
		return nil // there is one, also if the backend cannot read it
	})
	if err != nil {
		return nil, err
	}
	for i, key := range keys {
		if is[i] {
			gone = append(gone, key)
		}
	}
	return gone, nil
}
