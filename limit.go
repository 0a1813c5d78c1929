package session

import (
	"context"
	"slices"

	"github.com/seed-a7bee19b/session/internal/index"
)

// makeRoom ends all sessions in o, the record of an owner, but the latest most that
// are alive, and the one with the handle newcomer. It returns o if there is nothing to end: a session that has moved to
// a page and got a new ID since is listed twice, so that o lists more than there
// are. refused is the error of check, or ErrSessionLimit if there are more sessions
// and the policy is RefuseLogin. check is called last: the latest session may be that
// of a login that this one is to join, and whose marker is stored a moment after it
// was listed.
func (m *core) makeRoom(ctx context.Context, owner string, o ownerRecord, newcomer string, most int, check func(context.Context) error) (room *ownerRecord, refused, err error) {
	if len(o.head.Ending) > 0 { // do not add to what others have begun
		_, err = m.carryOut(ctx, owner, o)
		return nil, nil, err
	}
	alive, more, full, err := m.alive(ctx, o.head, newcomer, most)
	switch {
	case err != nil:
		return nil, nil, err
	case !more && !full:
		return &o, nil, nil
	}
	if refused = check(ctx); refused == nil && full {
		refused = ErrSessionLimit
	}
	if refused != nil {
		return nil, refused, nil
	}
	marked, err := m.changeOwner(ctx, owner, &o, func(now *ownerRecord) (bool, error) {
		if now.version != o.version || now.version == "" {
			return false, nil // others have listed sessions, or joined pages: look again
		}
		now.head.Revoke(index.Revocation{Except: append(alive, newcomer)})
		return true, nil
	})
	if err == nil {
		_, err = m.carryOut(ctx, owner, marked)
	}
	return nil, nil, err
}

// alive returns the handles of the latest most sessions in head that are alive; more
// reports whether others are listed, and full whether others are alive and the policy
// is RefuseLogin. It looks at several sessions at a time, and passes over the one with
// the handle newcomer.
func (m *core) alive(ctx context.Context, head index.Head, newcomer string, most int) (handles []string, more, full bool, err error) {
	refuse := m.cfg.Owners.AtLimit == RefuseLogin
	r, err := m.read(ctx, head)
	if err != nil {
		return nil, false, false, err
	}
	count := func(e index.Entry, found *Entry) (goOn bool) {
		switch {
		case slices.Contains(handles, e.Handle):
		case len(handles) == most && most > 0 && !refuse:
			more = true
			return false
		case found == nil:
			more = true
		case len(handles) == most:
			more, full = true, refuse
			return false
		default:
			handles = append(handles, e.Handle)
		}
		return true
	}
	var batch []index.Entry
	goOn := true
	look := func() (bool, error) {
		found := make([]*Entry, len(batch))
		err := atOnce(ctx, len(batch), func(ctx context.Context, i int) (err error) {
			found[i], err = m.listed(ctx, batch[i], nil)
			return err
		})
		for i := 0; i < len(batch) && goOn && err == nil; i++ {
			goOn = count(batch[i], found[i])
		}
		batch = batch[:0]
		return goOn, err
	}
	err = r.each(ctx, func(e index.Entry) (bool, error) {
		if e.Handle == newcomer || slices.Contains(handles, e.Handle) {
			return true, nil
		}
		if batch = append(batch, e); len(batch) < min(mostAtOnce, max(most, 1)) {
			return true, nil
		}
		return look()
	})
	if err == nil && goOn {
		_, err = look()
	}
	return handles, more, full, err
}
