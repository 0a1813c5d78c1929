package session

import (
	"context"
	"errors"
	"iter"
	"maps"
	"slices"
	"time"

	"github.com/seed-a7bee19b/session/internal/index"
)

// An Entry is a session in the list of [Manager.Sessions].
type Entry struct {
	// Handle names the session in [Manager.RevokeOne]. It is neither its token nor
	// its key, and stays the same when the session gets a new ID.
	Handle string
	// User is the user who logged in.
	User string
	// Created is when the user logged in.
	Created time.Time
	// LastUsed is when the session was last used, as far as it is known: a use
	// within [Config.TouchInterval] of an earlier one is not recorded, and neither
	// is one that cannot move the deadline, because the absolute timeout comes first.
	LastUsed time.Time
	// Expires is the deadline in the store.
	Expires time.Time
	// Note is what the application noted at the login, see [Login].
	Note map[string]string
	// Current reports whether it is the session of the request whose context
	// Sessions was given.
	Current bool
}

// Sessions lists the live sessions that have all of the owners, about in the order
// of their logins, the latest first. It ends with the first error. A session whose
// record does not decode has a Handle and times only. With more than 1,000 sessions,
// it can fail with [ErrStore] after the last of them, because a revocation has
// replaced a part of the list meanwhile: list them again. An owner without a Kind or
// an ID is an error, and so is User(""), for a visitor who has not logged in.
//
// Cost: 1 Load, and 1 for each session, of those too that have logged out or
// expired since the last login of the owner; with many sessions, 1 more for about
// each 100 of them. In memory, it keeps a few hundred of them, and the handles of
// 1,000 and of those that have got a new ID.
func (m *Manager) Sessions(ctx context.Context, owners ...Owner) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		more := true
		err := m.sessions(ctx, owners, func(e Entry) bool {
			more = yield(e, nil)
			return more
		})
		if err != nil && more {
			yield(Entry{}, wrap("list", err))
		}
	}
}

func (m *Manager) sessions(ctx context.Context, owners []Owner, yield func(Entry) bool) error {
	key, also, err := m.selection(owners)
	if err != nil {
		return err
	}
	current := ""
	if x := m.exchange(ctx); x != nil {
		if s, _ := x.session(); s != nil {
			current = s.Handle()
		}
	}
	const tries, mostKept = 10, 1024
	told, more := 0, true
	seen := map[string]bool{} // of the sessions that were told, the first ones and those listed twice
	for try := 0; ; try++ {
		o, err := m.loadOwner(ctx, key)
		if err != nil {
			return err
		}
		r, err := m.read(ctx, o.head)
		if err != nil {
			return err
		}
		again := func() bool { return r.lost && told <= mostKept && try < tries }
		err = r.each(ctx, func(e index.Entry) (bool, error) {
			has := func(o string) bool { return slices.Contains(e.Also, o) }
			switch {
			case again():
				return false, nil
			case seen[e.Handle] || slices.ContainsFunc(also, func(o string) bool { return !has(o) }):
				return true, nil
			}
			found, err := m.listed(ctx, e, owners)
			if err != nil || found == nil {
				return true, err
			}
			if told++; told <= mostKept || e.Repeats() || r.head.Lists(e.Handle) {
				seen[e.Handle] = true
			}
			found.Current = e.Handle == current && current != ""
			more = yield(*found)
			return more, nil
		})
		switch {
		case err != nil || !r.lost || !more:
			return err
		case !again():
			return errIndexLost
		}
		if err := backoff(ctx, try); err != nil { // pages have just been joined, or revoked
			return err
		}
	}
}

// A reading reads the entries of an owner.
type reading struct {
	m      *core
	head   index.Head
	recent []index.Entry // in the head and in its pages of level 0, which logins join
	lost   bool          // a page is missing
}

func (m *core) read(ctx context.Context, head index.Head) (reading, error) {
	r := reading{m: m, head: head}
	for _, p := range head.Pages {
		if p.Level == 0 {
			page, err := r.page(ctx, p)
			if err != nil {
				return r, err
			}
			r.recent = append(r.recent, page.Entries...)
		}
	}
	r.recent = append(r.recent, head.Entries...)
	return r, nil
}

// page returns the page of p without what has ended; an empty one if it is missing.
func (r *reading) page(ctx context.Context, p index.Ref) (index.Page, error) {
	page, err := r.m.loadPage(ctx, p)
	if errors.Is(err, ErrNotFound) {
		r.lost = true
		return index.Page{}, nil
	}
	page.Tidy(time.Now().Unix())
	return page, err
}

// each calls f for the entries, the latest first, until it returns false.
func (r *reading) each(ctx context.Context, f func(index.Entry) (bool, error)) error {
	more, err := each(r.recent, f)
	if err == nil && more {
		_, err = r.older(ctx, r.head.Pages, f)
	}
	return err
}

func each(entries []index.Entry, f func(index.Entry) (bool, error)) (more bool, err error) {
	for _, e := range slices.Backward(entries) {
		if more, err := f(e); err != nil || !more {
			return false, err
		}
	}
	return true, nil
}

// older is each for pages and what they refer to, without those of level 0.
func (r *reading) older(ctx context.Context, pages []index.Ref, f func(index.Entry) (bool, error)) (more bool, err error) {
	for _, p := range slices.Backward(pages) {
		if p.Level == 0 {
			continue
		}
		page, err := r.page(ctx, p)
		if err != nil {
			return false, err
		}
		if more, err := each(page.Entries, f); err != nil || !more {
			return false, err
		}
		if more, err := r.older(ctx, page.Pages, f); err != nil || !more {
			return false, err
		}
	}
	return true, nil
}

// listed returns the session of e, nil if it is not alive or does not have all of
// owners. It follows the session to new IDs that it has got since e was read.
func (m *core) listed(ctx context.Context, e index.Entry, owners []Owner) (*Entry, error) {
	for _, key := range slices.Backward(e.Keys) {
		for hops := 0; key != "" && hops <= maxHops; hops++ {
			found, to, err := m.listedAt(ctx, e.Handle, owners, key)
			if found != nil || err != nil {
				return found, err
			}
			key = to
			if slices.Contains(e.Keys, to) {
				break
			}
		}
	}
	return nil, nil
}

// listedAt returns the session with that handle and owners that lives at key. If
// there is none, it returns nil and the key of the record to which a marker at key
// leads, "" if there is no marker.
func (m *core) listedAt(ctx context.Context, handle string, owners []Owner, key string) (found *Entry, to string, err error) {
	now := time.Now()
	rec, err := m.load(ctx, key)
	switch {
	case errors.Is(err, ErrNotFound):
		return nil, "", nil
	case err != nil:
		return nil, "", err
	}
	c, err := m.split(rec)
	if moved := asMoved(err); moved != nil {
		return nil, moved.key, nil //nolint:nilerr // the marker leads there
	}
	if m.lifetimes.most.expired(rec, now) {
		return nil, "", nil
	}
	found = &Entry{Handle: handle, Created: rec.Created, LastUsed: rec.Created, Expires: rec.Expires}
	if err != nil {
		return found, "", nil //nolint:nilerr // it is alive, and can be revoked
	}
	times := m.lifetimes.by(c.own)
	if times.expired(rec, now) || !now.Before(times.due(rec, c.used, now)) {
		return nil, "", nil
	}
	ls, its, _, err := m.listingAt(c.values, key)
	others := func(o Owner) bool { return !slices.Contains(its, o) }
	switch {
	case err != nil:
		return found, "", nil //nolint:nilerr // likewise
	case ls.Handle != handle || slices.ContainsFunc(owners, others):
		return nil, "", nil
	}
	_ = m.decode(c.values[userName], &found.User)
	found.Note = maps.Clone(ls.Note)
	found.LastUsed = times.lastUse(rec, c.used)
	return found, "", nil
}

// lastUse returns when the session of rec was last used, as far as it is known.
func (t timeouts) lastUse(rec Record, used time.Duration) time.Time {
	if used == 0 {
		used = t.idle
	}
	at := rec.Expires.Add(-used)
	if t.idle < 0 || at.Before(rec.Created) {
		at = rec.Created
	}
	if now := time.Now(); at.After(now) {
		at = now
	}
	return at
}
