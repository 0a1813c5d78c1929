package migrate

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/seed-a7bee19b/session"
)

// Save implements [session.Backend].
func (m *mover) Save(ctx context.Context, key string, rec session.Record) (session.Version, error) {
	if err := refuse(rec); err != nil {
		return "", err
	}
	if rec.Version == "" {
		return m.create(ctx, key, rec)
	}
	s, v := m.of(rec.Version)
	rec.Version = v
	ends := m.buries(key) && !rec.KeepLater && !rec.Expires.IsZero() && rec.Expired(time.Now())
	if ends {
		rec = tombstone(v)
	}
	for try := range maxTries {
		if err := pause(ctx, try); err != nil {
			return "", err
		}
		v, err := s.save(ctx, key, rec)
		switch {
		case err == nil && ends:
			return tag + v, nil // which is no version of the tombstone
		case err == nil:
			return session.Version(s.tag) + v, nil
		}
		// The session may be in the other store. Then that one has the answer, which
		// is a conflict unless the version comes from a server in another phase.
		other, err := m.elsewhere(ctx, key, s, err)
		if err != nil {
			return "", err
		}
		s = other
	}
	return "", errBusy
}

// buries reports whether the end of a session leaves a tombstone.
func (m *mover) buries(key string) bool {
	return m.old.backend == nil && m.phase != Gone && m.asks(key)
}

func tombstone(v session.Version) session.Record {
	now := time.Now()
	return session.Record{Data: tombData, Created: now, Expires: now.Add(tombLife), Version: v}
}

// elsewhere returns the store that has the session, if it is not s, where a Save has
// failed with err. Otherwise it returns the error for the Manager.
func (m *mover) elsewhere(ctx context.Context, key string, s *store, err error) (*store, error) {
	var conflict *session.ConflictError
	if !errors.As(err, &conflict) {
		return nil, err
	}
	if conflict.Current != nil {
		f, err := read(*conflict.Current)
		switch {
		case err != nil:
			return nil, err
		case f.kind == plain:
			current := s.tagged(f.Record)
			return nil, &session.ConflictError{Current: &current}
		}
	} else if !conflict.Gone {
		return nil, &session.ConflictError{}
	}
	other, rec, err := m.find(ctx, key)
	switch {
	case errors.Is(err, session.ErrNotFound):
		return nil, &session.ConflictError{Gone: true}
	case err != nil:
		return nil, err
	case other == s:
		current := s.tagged(rec)
		return nil, &session.ConflictError{Current: &current}
	}
	return other, nil
}

// create stores a record that has no version. In phase Hold it goes to the old
// store, in the others to the new one. Both stores must not get one at the same key,
// and all servers know the key of an owner. So Hold leaves a claim in the new store
// first, and in phase Move, too, whoever finds a claim goes to the old store.
func (m *mover) create(ctx context.Context, key string, rec session.Record) (session.Version, error) {
	for try := range maxTries {
		if err := pause(ctx, try); err != nil {
			return "", err
		}
		v, err := m.tryCreate(ctx, key, rec)
		if !errors.Is(err, errAgain) {
			return v, err
		}
	}
	return "", errBusy
}

var errAgain = errors.New("migrate: another request was faster")

func (m *mover) tryCreate(ctx context.Context, key string, rec session.Record) (session.Version, error) {
	first := rec
	if m.phase == Hold {
		now := time.Now()
		first = session.Record{Data: claimData, Created: now, Expires: now.Add(claimLife), Continues: true}
	}
	v, n, err := m.fresh.create(ctx, key, first)
	switch {
	case err != nil:
		return "", err
	case n.kind == plain:
		current := m.fresh.tagged(n.Record)
		return "", &session.ConflictError{Current: &current}
	case m.phase == Hold:
		if n.kind == claim { // which may be about to expire
			first.Version = n.Version
			if _, err := m.fresh.save(ctx, key, first); err != nil {
				return "", again(err)
			}
		}
		return m.createOld(ctx, key, rec)
	case n.kind == absent:
		return v, nil
	case n.kind != tomb && m.phase != Gone:
		if err := m.vacant(ctx, key); err != nil {
			return "", err
		}
		if m.phase == Move && m.old.backend != nil {
			return m.createOld(ctx, key, rec)
		}
	}
	rec.Version = n.Version
	v, err = m.fresh.save(ctx, key, rec)
	return v, again(err)
}

// createOld creates a record in the old store.
func (m *mover) createOld(ctx context.Context, key string, rec session.Record) (session.Version, error) {
	v, o, err := m.old.create(ctx, key, rec)
	switch {
	case err != nil:
		return "", err
	case o.kind == absent:
		return session.Version(m.old.tag) + v, nil
	case o.kind == plain:
		current := m.old.tagged(o.Record)
		return "", &session.ConflictError{Current: &current}
	}
	if err := m.vacant(ctx, key); err != nil {
		return "", err
	}
	rec.Version = o.Version
	v, err = m.old.save(ctx, key, rec)
	return session.Version(m.old.tag) + v, again(err)
}

// vacant fails with a conflict if there is a session at key.
func (m *mover) vacant(ctx context.Context, key string) error {
	current, err := m.Load(ctx, key)
	switch {
	case err == nil:
		return &session.ConflictError{Current: &current}
	case errors.Is(err, session.ErrNotFound):
		return nil
	}
	return err
}

// create creates a record, or returns the one that is there, with a kind that is not
// absent.
func (s *store) create(ctx context.Context, key string, rec session.Record) (session.Version, found, error) {
	v, err := s.save(ctx, key, rec)
	if err == nil {
		return v, found{}, nil
	}
	n, refused, err := s.refused(ctx, key, err)
	switch {
	case !refused:
		return "", found{}, err
	case n.kind == absent:
		return "", found{}, errAgain
	}
	return "", n, nil
}

// again returns errAgain for a conflict.
func again(err error) error {
	if errors.Is(err, session.ErrConflict) {
		return errAgain
	}
	return err
}

// Delete implements [session.Backend].
func (m *mover) Delete(ctx context.Context, key string) error {
	switch {
	case m.phase == Gone, !m.asks(key):
		return m.fresh.delete(ctx, key)
	case m.old.backend != nil:
		// In this order: what is being moved has left the old store by now, or
		// cannot leave it any more.
		if err := m.old.delete(ctx, key); err != nil {
			return err
		}
		return m.fresh.delete(ctx, key)
	}
	if err := m.bury(ctx, key); err != nil {
		return err
	}
	for try := range maxTries {
		if err := pause(ctx, try); err != nil {
			return err
		}
		o, err := m.loadOld(ctx, key)
		if err != nil || o.kind == absent {
			return err
		}
		if err := m.remove(ctx, key, o); !errors.Is(err, session.ErrConflict) {
			return err
		}
	}
	return errBusy
}

// bury leaves a tombstone in the new store, in the place of what is there.
func (m *mover) bury(ctx context.Context, key string) error {
	for try := range maxTries {
		if err := pause(ctx, try); err != nil {
			return err
		}
		if err := m.fresh.delete(ctx, key); err != nil {
			return err
		}
		_, n, err := m.fresh.create(ctx, key, tombstone(""))
		switch {
		case errors.Is(err, errAgain), err == nil && n.kind != absent && n.kind != tomb:
			continue // a move was faster
		default:
			return err
		}
	}
	return errBusy
}

func (s *store) delete(ctx context.Context, key string) error {
	if err := s.backend.Delete(ctx, s.key(key)); err != nil {
		return fmt.Errorf("migrate: %s store: %w", s.name, err)
	}
	return nil
}
