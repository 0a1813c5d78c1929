package session

import (
	"context"
	"errors"
	"slices"

	"github.com/seed-a7bee19b/session/internal/index"
)

// errFull says that an owner has as many sessions as are allowed, if all that are
// listed are alive.
var errFull = errors.New("too many sessions are listed")

// list lists the session of e under key in the record of an owner. from is the key
// that it had, "" if it is new there. limit is how many sessions the owner may
// have, 0 for any number.
func (m *core) list(ctx context.Context, owner string, e index.Entry, from, key string, limit int) error {
	const most = 20
	again := false
	for try := 0; ; try++ {
		head, err := m.changeOwner(ctx, owner, nil, func(o *ownerRecord) (bool, error) {
			if limit > 0 && o.head.Count() >= limit && !o.head.Lists(e.Handle) {
				return false, errFull
			}
			again = again || o.unsure
			e.Again = again
			return o.head.List(e, from, key)
		})
		switch {
		case err == nil:
			if head.Crowded() {
				m.pack(ctx, owner, head)
			}
			return nil
		case errors.Is(err, index.ErrRevoked):
			if err = m.finish(ctx, owner); err == nil {
				err = &ConflictError{Gone: true}
			}
			return err
		case try >= most:
			return err
		case errors.Is(err, errFull):
			err = m.makeRoom(ctx, owner, limit-1)
		case errors.Is(err, index.ErrUnfinished):
			err = m.finish(ctx, owner)
		}
		if err != nil {
			return err
		}
	}
}

// finish carries out the revocations that others have begun.
func (m *core) finish(ctx context.Context, owner string) error {
	o, err := m.loadOwner(ctx, owner)
	if err == nil {
		_, err = m.carryOut(ctx, owner, o.head)
	}
	return err
}

// makeRoom ends all sessions of an owner but the latest most that are alive, or
// fails with ErrSessionLimit if there are more and the policy is RefuseLogin.
func (m *core) makeRoom(ctx context.Context, owner string, most int) error {
	o, err := m.loadOwner(ctx, owner)
	if err != nil {
		return err
	}
	refuse := m.cfg.Owners.AtLimit == RefuseLogin
	var alive []string
	_, err = m.eachEntry(ctx, o.head, func(e index.Entry) (bool, error) {
		if o.head.Covered(e) || slices.Contains(alive, e.Handle) {
			return true, nil
		}
		if len(alive) == most && !refuse {
			return false, nil
		}
		found, err := m.listed(ctx, e)
		if err == nil && found != nil {
			alive = append(alive, e.Handle)
		}
		if len(alive) > most {
			err = ErrSessionLimit
		}
		return true, err
	})
	if err != nil && !errors.Is(err, errIndexLost) {
		return err
	}
	head, err := m.changeOwner(ctx, owner, &o, func(now *ownerRecord) (bool, error) {
		if now.version != o.version || now.version == "" {
			return false, nil // others have listed sessions: look again
		}
		now.head.Revoke(index.Revocation{Except: alive})
		return true, nil
	})
	if err == nil {
		_, err = m.carryOut(ctx, owner, head)
	}
	return err
}
