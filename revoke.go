package session

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/seed-a7bee19b/session/internal/index"
	"github.com/seed-a7bee19b/session/observe"
)

var errNoIndex = errors.New("there is no index of owners; set Owners.Index in the Config")

// Revoke ends every session that has all of the owners, and was listed by the time
// Revoke was called. When it has returned without an error, none of them is alive,
// whatever other requests do with them, and no request in flight can bring one
// back. A login that takes place meanwhile is not covered.
//
// If Revoke fails, some of the sessions may be alive: call it again. The next
// login, Revoke or new ID of one of them also finishes what it has begun.
//
// Cost: 1 Load, 2 Saves, and 1 Delete for each session, and 1 more for each that
// has got a new ID since its login; 1 Load if there is none. With many sessions,
// also 1 Load and 1 Delete for about each 100 of them. It sends 8 Deletes at a
// time.
func (m *Manager) Revoke(ctx context.Context, owners ...Owner) error {
	_, err := m.revoke(ctx, index.Revocation{}, owners)
	return wrap("revoke", err)
}

// RevokeOthers is Revoke for all sessions but the one with the handle keep, which
// [Session.Handle] returns. An empty handle is an error.
func (m *Manager) RevokeOthers(ctx context.Context, keep string, owners ...Owner) error {
	if keep == "" {
		return errNoHandle
	}
	_, err := m.revoke(ctx, index.Revocation{Except: []string{keep}}, owners)
	return wrap("revoke", err)
}

// RevokeOne is Revoke for the session of owner with that handle, which
// [Manager.Sessions] tells. It fails with [ErrNotFound] if none is listed.
func (m *Manager) RevokeOne(ctx context.Context, handle string, owner Owner) error {
	if handle == "" {
		return errNoHandle
	}
	n, err := m.revoke(ctx, index.Revocation{Only: []string{handle}}, []Owner{owner})
	if err == nil && n == 0 {
		err = ErrNotFound
	}
	return wrap("revoke", err)
}

var errNoHandle = errors.New("session: revoke: the handle is empty")

// revoke carries out r for the sessions of owners, and returns how many were
// listed.
func (m *Manager) revoke(ctx context.Context, r index.Revocation, owners []Owner) (n int, err error) {
	key, also, err := m.selection(owners)
	if err != nil {
		return 0, err
	}
	r.Also = also
	known, err := m.loadOwner(ctx, key)
	if err != nil || known.version == "" {
		return 0, err
	}
	// Also if no session seems to be listed: only the Save tells, as a Load may be
	// stale.
	idle, listed, paged := false, false, false
	head, err := m.changeOwner(ctx, key, &known, func(o *ownerRecord) (bool, error) {
		if o.version == "" {
			return false, nil
		}
		before := o.head
		begun := o.head.Revoke(r)
		covers := slices.ContainsFunc(before.Entries, begun.Covers)
		idle = len(before.Ending) == 0 && len(before.Pages) == 0 && !covers
		paged = paged || len(before.Pages) > 0
		listed = listed || covers || o.unsure && paged
		if idle {
			o.head.Ending = nil
		}
		return true, nil
	})
	if err == nil && !idle {
		n, err = m.carryOut(ctx, key, head)
	}
	if n == 0 && listed {
		n = 1 // another request has carried out what an earlier try had begun
	}
	return n, err
}

// selection returns the key of the record that lists the sessions of owners, and
// what else they must have.
func (m *Manager) selection(owners []Owner) (key string, also []string, err error) {
	if !m.cfg.Owners.Index {
		return "", nil, errNoIndex
	}
	if len(owners) == 0 {
		return "", nil, errors.New("there is no Owner")
	}
	for _, o := range owners {
		if err := o.check(); err != nil {
			return "", nil, err
		}
		if o != owners[0] {
			also = append(also, o.short())
		}
	}
	return m.ownerKey(owners[0]), also, nil
}

// carryOut deletes the sessions that the revocations in head cover, takes these
// off, and returns how many sessions there were. If a page is replaced meanwhile,
// it begins anew.
func (m *core) carryOut(ctx context.Context, key string, head index.Head) (n int, err error) {
	lost := map[string]bool{}
	for len(head.Ending) > 0 {
		w := walk{m: m, covered: head.Covered, lost: lost, pages: map[string]index.Ref{}}
		if _, err = w.entries(ctx, head.Entries); err == nil {
			err = w.head(ctx, head.Pages)
		}
		n = max(n, w.n)
		if w.missing != "" {
			lost[w.missing] = true
			o, err := m.loadOwner(ctx, key)
			if err != nil {
				return 0, err
			}
			head = o.head
			continue
		}
		if err != nil {
			return 0, err
		}
		replaced := map[string]bool{}
		_, err = m.changeOwner(ctx, key, nil, func(o *ownerRecord) (bool, error) {
			clear(replaced)
			if !o.head.Ends(head.Ending) {
				return false, nil // done by another request, or by an earlier Save
			}
			for _, p := range o.head.Pages {
				replaced[p.Key] = true
			}
			o.head.Finish(head.Ending, w.pages)
			return true, nil
		})
		if err != nil {
			return 0, err
		}
		for _, old := range w.old {
			if replaced[old.under] { // otherwise a page that was packed meanwhile may refer to it
				m.retire(ctx, old.key, old.rec)
			}
		}
		if n > 0 {
			m.event(ctx, observe.Event{Kind: observe.EventSessionsRevoked, N: n})
		}
		if w.skipped {
			err = errIndexLost
		}
		return n, err
	}
	return n, nil
}

// A walk deletes the sessions that are covered, page by page, and replaces the
// pages by others without them.
type walk struct {
	m       *core
	covered func(index.Entry) bool
	lost    map[string]bool // pages that were missing before

	n       int                  // of sessions that are covered
	pages   map[string]index.Ref // what to replace the pages of the head with; nothing if it has no entries
	old     []oldPage            // that nothing refers to then
	under   string               // the page of the head that is walked
	missing string               // a page that there is not
	skipped bool                 // a lost one is still referred to
}

// An oldPage is to be replaced, together with the page of the head that leads to
// it.
type oldPage struct {
	under, key string
	rec        Record
}

// head walks the pages of the head, the latest first, as deleteEntry does.
func (w *walk) head(ctx context.Context, pages []index.Ref) error {
	for _, p := range slices.Backward(pages) {
		w.under = p.Key
		now, err := w.ref(ctx, p)
		if err != nil {
			return err
		}
		if now != p {
			w.pages[p.Key] = now
		}
	}
	return nil
}

// refs returns the pages in place of pages.
func (w *walk) refs(ctx context.Context, pages []index.Ref) ([]index.Ref, error) {
	var left []index.Ref
	for _, p := range slices.Backward(pages) {
		now, err := w.ref(ctx, p)
		if err != nil {
			return nil, err
		}
		if now.Count > 0 {
			left = append(left, now)
		}
	}
	slices.Reverse(left)
	return left, nil
}

// ref returns the page in place of the one at p.
func (w *walk) ref(ctx context.Context, p index.Ref) (index.Ref, error) {
	page, rec, err := w.m.loadPage(ctx, p.Key)
	switch {
	case errors.Is(err, ErrNotFound) && w.lost[p.Key]:
		w.skipped = true
		return index.Ref{}, nil
	case err != nil:
		if errors.Is(err, ErrNotFound) {
			w.missing = p.Key
		}
		return p, err
	}
	var left index.Page
	if left.Entries, err = w.entries(ctx, page.Entries); err == nil {
		left.Pages, err = w.refs(ctx, page.Pages)
	}
	if err != nil || len(left.Entries) == len(page.Entries) && slices.Equal(left.Pages, page.Pages) {
		return p, err
	}
	w.old = append(w.old, oldPage{w.under, p.Key, rec})
	now := left.Ref(w.m.newPageKey(), p.Level)
	if now.Count == 0 {
		return now, nil
	}
	rec, err = w.m.indexRecord(left, now.Until)
	if err == nil {
		_, err = w.m.save(ctx, now.Key, rec)
	}
	return now, err
}

// entries deletes the sessions of entries that are covered, and returns the
// others.
func (w *walk) entries(ctx context.Context, entries []index.Entry) (left []index.Entry, err error) {
	var covered []index.Entry
	for _, e := range entries {
		if w.covered(e) {
			covered = append(covered, e)
		} else {
			left = append(left, e)
		}
	}
	w.n += len(covered)
	return left, w.m.deleteAll(ctx, covered)
}

// deleteEntry deletes the records of a session, the latest first: as long as it
// lives, the markers under its old IDs lead to it.
func (m *core) deleteEntry(ctx context.Context, e index.Entry) error {
	for _, key := range slices.Backward(e.Keys) {
		if err := m.delete(ctx, key); err != nil {
			return err
		}
	}
	return nil
}

// deleteAll deletes the records of the sessions of entries, several sessions at a
// time.
func (m *core) deleteAll(ctx context.Context, entries []index.Entry) error {
	const atOnce = 8
	switch len(entries) {
	case 0:
		return nil
	case 1:
		return m.deleteEntry(ctx, entries[0])
	}
	var (
		wg   sync.WaitGroup
		once sync.Once
		err  error
		next = make(chan index.Entry)
	)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for range min(atOnce, len(entries)) {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for e := range next {
				if derr := m.deleteEntry(ctx, e); derr != nil {
					once.Do(func() { err = derr; cancel() })
					return
				}
			}
		}()
	}
feed:
	for _, e := range entries {
		select {
		case next <- e:
		case <-ctx.Done():
			break feed
		}
	}
	close(next)
	wg.Wait()
	if err == nil {
		err = ctx.Err()
	}
	return err
}
