package session

import (
	"context"
	"errors"
	"slices"

	"github.com/seed-a7bee19b/session/internal/index"
	"github.com/seed-a7bee19b/session/observe"
)

var errNoIndex = errors.New("there is no index of owners; set Owners.Index in the Config")

// Revoke ends every session that has all of the owners, and was listed by the time
// Revoke was called. When it has returned without an error, none of them is alive,
// whatever other requests do with them, and no request in flight can bring one
// back. A login that takes place meanwhile is not covered. In a handler, the session
// of the request is one of them if it has the owners: saving changes of it then
// fails with [ErrNotFound]. To keep it, use [Manager.RevokeOthers].
//
// If Revoke fails, some of the sessions may be alive, and are listed: call it
// again. The next Revoke for the owner finishes what it has begun, and so does a
// session that it covers when it is to get a new ID or its user logs in again.
//
// Cost: 1 Load, 2 Saves, and 1 Delete for each session, and 1 more for each that
// has got a new ID since its login; 1 Load, and at most 1 Save, if there is none.
// With many sessions, also 1 Load and 1 Delete for about each 100 of them. It sends
// 8 Deletes at a time.
func (m *Manager) Revoke(ctx context.Context, owners ...Owner) error {
	_, err := m.revoke(ctx, index.Revocation{}, owners)
	return wrap("revoke", err)
}

// RevokeOthers is Revoke for all sessions but the one with the handle keep, which
// [Session.Handle] returns. If keep is not a handle, such as "", it fails and ends
// none; if it is that of another owner's session, it ends all.
func (m *Manager) RevokeOthers(ctx context.Context, keep string, owners ...Owner) error {
	if !validHandle(keep) {
		return errNoHandle
	}
	_, err := m.revoke(ctx, index.Revocation{Except: []string{keep}}, owners)
	return wrap("revoke", err)
}

// RevokeOne is Revoke for the session of owner with that handle, which
// [Manager.Sessions] tells. It fails with [ErrNotFound] if none is listed. The
// handle may be what a client has sent.
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

var errNoHandle = errors.New("session: revoke: that is not the handle of a session")

// revoke carries out r for the sessions of owners, and returns how many were
// listed.
func (m *Manager) revoke(ctx context.Context, r index.Revocation, owners []Owner) (n int, err error) {
	key, also, err := m.selection(owners)
	if err != nil {
		return 0, err
	}
	if len(r.Only) > 0 && !validHandle(r.Only[0]) {
		return 0, nil
	}
	r.Also = also
	known, err := m.loadOwner(ctx, key)
	if err != nil || known.version == "" {
		return 0, err
	}
	// Also if no session seems to be listed: only the Save tells, as a Load may be
	// stale.
	idle, paged, listed := false, false, false
	o, err := m.changeOwner(ctx, key, &known, func(o *ownerRecord) (bool, error) {
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
		n, err = m.carryOut(ctx, key, o)
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

// carryOut deletes the sessions that the revocations in o cover, takes these
// off, and returns how many sessions there were. If a page is replaced meanwhile,
// it begins anew. If another request is faster, it may return 1, whatever there was.
func (m *core) carryOut(ctx context.Context, key string, o ownerRecord) (n int, err error) {
	if len(o.head.Ending) == 0 {
		return 0, nil
	}
	lost := map[string]bool{}
	for len(o.head.Ending) > 0 {
		head := o.head
		w := walk{m: m, covered: head.Covered, lost: lost, pages: map[string]replacement{}}
		w.kept = head.Kept()
		err = w.head(ctx, head)
		n = max(n, w.n)
		if w.missing != "" {
			lost[w.missing] = true
			if o, err = m.since(ctx, key, head); err != nil {
				return 0, err
			}
			continue
		}
		if err != nil {
			return 0, err
		}
		// What is loaded may be stale: that a page is lost is known when the head
		// that refers to it can be replaced.
		sent, taken, elsewhere := false, false, false
		now, err := m.changeOwner(ctx, key, &o, func(o *ownerRecord) (bool, error) {
			stale := o.head.Epoch < head.Epoch // then it cannot be replaced
			taken = !stale && !o.head.Ends(head.Ending)
			elsewhere = !stale && !taken && slices.ContainsFunc(w.skipped, func(page string) bool { return !o.head.Has(page) })
			if taken || elsewhere {
				return false, nil // by another request, or by an earlier Save
			}
			w.finish(&o.head, head.Ending)
			sent = true
			return true, nil
		})
		switch {
		case err != nil:
			return 0, err
		case elsewhere:
			o = now
			continue
		case !taken:
			w.tidy(ctx)
		}
		if w.n > 0 {
			m.event(ctx, observe.Event{Kind: observe.EventSessionsRevoked, N: w.n})
		}
		if sent && len(w.skipped) > 0 {
			err = errIndexLost
		}
		return n, err
	}
	return max(n, 1), nil
}

// since returns the head at key as it is now, or was after it was head, which has a
// revocation: a Load may be stale.
func (m *core) since(ctx context.Context, key string, head index.Head) (ownerRecord, error) {
	for try := range 20 {
		o, err := m.loadOwner(ctx, key)
		if err != nil || o.head.Epoch >= head.Epoch {
			return o, err
		}
		if err := backoff(ctx, try); err != nil {
			return ownerRecord{}, err
		}
	}
	return ownerRecord{}, errIndexLost
}

// A walk deletes the sessions that are covered, page by page, and stores other
// pages without them.
type walk struct {
	m       *core
	covered func(index.Entry) bool
	lost    map[string]bool // pages that were missing before
	kept    []string        // keys of sessions that are to stay

	n       int                    // of sessions that are covered
	pages   map[string]replacement // of pages of the head
	made    []string               // pages, for the page of the head that is being read
	old     []string               // pages that nothing refers to without them
	missing string                 // a page that there is not
	skipped []string               // pages of the head in which a lost one is
}

// A replacement is what a page of the head is to be replaced with.
type replacement struct {
	now       index.Ref // nothing if it has no entries
	made, old []string
	done      bool
}

// head walks the head, the latest entries first, as deleteEntry does.
func (w *walk) head(ctx context.Context, head index.Head) error {
	if _, err := w.entries(ctx, head.Entries); err != nil {
		return err
	}
	for _, p := range slices.Backward(head.Pages) {
		w.made, w.old = nil, nil
		skipped := len(w.skipped)
		now, err := w.ref(ctx, p)
		if err != nil {
			return err
		}
		if len(w.skipped) > skipped {
			w.skipped = append(w.skipped[:skipped], p.Key)
		}
		if now != p {
			w.pages[p.Key] = replacement{now: now, made: w.made, old: w.old}
		}
	}
	return nil
}

// finish takes done off head, and replaces the pages that are still in it.
func (w *walk) finish(head *index.Head, done []index.Revocation) {
	pages := map[string]index.Ref{}
	for key, r := range w.pages {
		r.done = head.Has(key)
		w.pages[key] = r
		pages[key] = r.now
	}
	head.Finish(done, pages)
}

// tidy deletes the pages that nothing refers to. A page that is not in the head any
// more may be in another page.
func (w *walk) tidy(ctx context.Context) {
	var all []string
	for _, r := range w.pages {
		unused := r.made
		if r.done {
			unused = r.old
		}
		all = append(all, unused...)
	}
	w.m.removeAll(ctx, all)
}

// ref returns the page in place of the one at p.
func (w *walk) ref(ctx context.Context, p index.Ref) (index.Ref, error) {
	page, err := w.m.loadPage(ctx, p)
	switch {
	case errors.Is(err, ErrNotFound) && w.lost[p.Key]:
		w.skipped = append(w.skipped, p.Key)
		return index.Ref{}, nil
	case err != nil:
		if errors.Is(err, ErrNotFound) {
			w.missing = p.Key
		}
		return p, err
	}
	var left index.Page
	if left.Entries, err = w.entries(ctx, page.Entries); err != nil {
		return p, err
	}
	for _, sub := range slices.Backward(page.Pages) {
		now, err := w.ref(ctx, sub)
		if err != nil {
			return p, err
		}
		if now.Count > 0 {
			left.Pages = append(left.Pages, now)
		}
	}
	slices.Reverse(left.Pages)
	if len(left.Entries) == len(page.Entries) && slices.Equal(left.Pages, page.Pages) {
		return p, nil
	}
	w.old = append(w.old, p.Key)
	now := left.Ref(w.m.newPageKey(), p.Level)
	if now.Count == 0 {
		return now, nil
	}
	rec, err := w.m.indexRecord(left, now.Until)
	if err == nil {
		w.made = append(w.made, now.Key)
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
	for i, e := range covered {
		covered[i].Keys = slices.DeleteFunc(slices.Clone(e.Keys), func(key string) bool { return slices.Contains(w.kept, key) })
	}
	return left, w.m.deleteAll(ctx, covered)
}

// deleteEntry deletes the records of a session, the latest first: as long as it
// lives, the markers under its old IDs lead to it. It ends the streams of the
// session.
func (m *core) deleteEntry(ctx context.Context, e index.Entry) error {
	for _, key := range slices.Backward(e.Keys) {
		if err := m.delete(ctx, key); err != nil {
			return err
		}
		m.ended(key, errRevoked)
	}
	return nil
}

// deleteAll deletes the records of the sessions of entries, several sessions at a
// time.
func (m *core) deleteAll(ctx context.Context, entries []index.Entry) error {
	return atOnce(ctx, len(entries), func(ctx context.Context, i int) error { return m.deleteEntry(ctx, entries[i]) })
}
