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
	// within [Config.TouchInterval] of an earlier one is not recorded.
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
// of their logins, the latest first. It ends with the first error. A session whose record does not decode has
// a Handle and times only.
//
// Cost: 1 Load, and 1 for each session, of those too that have logged out or
// expired since the last login of the owner; with many sessions, 1 more for about
// each 100 of them. It keeps about 100 of them in memory at a time.
func (m *Manager) Sessions(ctx context.Context, owners ...Owner) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		if err := m.sessions(ctx, owners, func(e Entry) bool { return yield(e, nil) }); err != nil {
			yield(Entry{}, wrap("list", err))
		}
	}
}

func (m *Manager) sessions(ctx context.Context, owners []Owner, yield func(Entry) bool) error {
	key, also, err := m.selection(owners)
	if err != nil {
		return err
	}
	o, err := m.loadOwner(ctx, key)
	if err != nil {
		return err
	}
	current := ""
	if x := m.exchange(ctx); x != nil {
		if s, _ := x.session(); s != nil {
			current = s.Handle()
		}
	}
	// A session that got a new ID since it was moved to a page is listed twice.
	seen := map[string]bool{}
	_, err = m.eachEntry(ctx, o.head, func(e index.Entry) (bool, error) {
		has := func(o string) bool { return slices.Contains(e.Also, o) }
		if seen[e.Handle] || slices.ContainsFunc(also, func(o string) bool { return !has(o) }) {
			return true, nil
		}
		found, err := m.listed(ctx, e)
		if err != nil || found == nil {
			return true, err
		}
		if e.Repeats() {
			seen[e.Handle] = true
		}
		found.Current = e.Handle == current && current != ""
		return yield(*found), nil
	})
	return err
}

// eachEntry calls f for the entries of head, the latest first, until it returns
// false. If a page is missing, it goes on with the others, and fails with
// errIndexLost in the end.
func (m *core) eachEntry(ctx context.Context, head index.Head, f func(index.Entry) (bool, error)) (more bool, err error) {
	for _, e := range slices.Backward(head.Entries) {
		if more, err := f(e); err != nil || !more {
			return false, err
		}
	}
	return m.eachPage(ctx, head.Pages, f)
}

func (m *core) eachPage(ctx context.Context, pages []index.Ref, f func(index.Entry) (bool, error)) (more bool, err error) {
	now := time.Now().Unix()
	var lost error
	for _, p := range slices.Backward(pages) {
		page, _, err := m.loadPage(ctx, p.Key)
		if err == nil {
			h := index.Head{Entries: page.Entries, Pages: page.Pages}
			h.Tidy(now)
			more, err = m.eachEntry(ctx, h, f)
			if err == nil && !more {
				return false, lost
			}
		}
		switch {
		case errors.Is(err, ErrNotFound), errors.Is(err, errIndexLost):
			lost = errIndexLost
		case err != nil:
			return false, err
		}
	}
	return true, lost
}

// listed returns the session of e, nil if it is not alive. It follows the session to
// a new ID that it has got since e was read.
func (m *core) listed(ctx context.Context, e index.Entry) (*Entry, error) {
	for _, key := range slices.Backward(e.Keys) {
		for hops := 0; key != "" && hops <= maxHops; hops++ {
			found, to, err := m.listedAt(ctx, e.Handle, key)
			if found != nil || err != nil {
				return found, err
			}
			key = to
		}
	}
	return nil, nil
}

// listedAt returns the session with that handle at key, nil if it is not there
// alive, and then the key to which it has moved, "" if it has not.
func (m *core) listedAt(ctx context.Context, handle, key string) (found *Entry, to string, err error) {
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
		return nil, moved.key, nil
	}
	if m.expired(rec, now) {
		return nil, "", nil
	}
	found = &Entry{Handle: handle, Created: rec.Created, LastUsed: rec.Created, Expires: rec.Expires}
	if err != nil {
		return found, "", nil //nolint:nilerr // it is alive, and can be revoked
	}
	if !now.Before(m.due(rec, c.used, now)) {
		return nil, "", nil
	}
	ls, _, err := m.listingOf(c.values)
	if err != nil || ls.Handle != handle {
		return nil, "", nil //nolint:nilerr // another session, of another user
	}
	_ = m.decode(c.values[userName], &found.User)
	found.Note = maps.Clone(ls.Note)
	found.LastUsed = m.lastUse(rec, c.used)
	return found, "", nil
}

// lastUse returns when the session of rec was last used, as far as it is known.
func (m *core) lastUse(rec Record, used time.Duration) time.Time {
	if used == 0 {
		used = m.idle
	}
	at := rec.Expires.Add(-used)
	if m.idle < 0 || at.Before(rec.Created) {
		at = rec.Created
	}
	if now := time.Now(); at.After(now) {
		at = now
	}
	return at
}
