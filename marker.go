package session

import (
	"context"
	"errors"
	"time"

	"github.com/seed-a7bee19b/session/internal/changes"
)

// markerLife is the shortest life of a marker: longer than settleMove tries to find
// out who ended the old ID.
const markerLife = 10 * time.Minute

// marker returns the record to leave under the session's ID. It leads to key, where
// the session began as version v, and has the sealed token and the values in kept.
func (s *Session) marker(key string, v Version, sealed sealedToken, kept map[string][]byte) (Record, error) {
	data, err := s.m.joinMarker(key, v, sealed, kept)
	if err != nil {
		return Record{}, err
	}
	return Record{
		Data: data, Created: time.Now(), Expires: s.markedUntil(), KeepLater: true, Private: true, Version: s.stored.rec.Version,
	}, nil
}

// markedUntil returns when a marker expires: not before the old ID would have
// expired, so that a client that has the old ID can log out.
func (s *Session) markedUntil() time.Time {
	now := time.Now()
	until := s.times().deadline(now, s.stored.rec.Created)
	for _, t := range []time.Time{s.stored.rec.Expires, now.Add(markerLife)} {
		if until.Before(t) {
			until = t
		}
	}
	return until
}

// firstLogin reports whether the session has no user and is to get one. Its marker
// keeps the values, for a client that the answer does not reach. A session that
// had a user leaves no values: its old ID must be worth nothing.
func (s *Session) firstLogin() bool {
	return s.renewal == newLogin && s.changes.Base()[userName] == nil
}

// find returns the record at key, which is current if that is not nil; and, if it
// is a marker, where the session went.
func (m *core) find(ctx context.Context, key string, current *Record) (rec Record, to *movedError, err error) {
	if current != nil {
		rec = *current
	} else if rec, err = m.load(ctx, key); err != nil {
		return Record{}, nil, err
	}
	if _, err = m.split(rec); errors.As(err, &to) {
		err = nil
	}
	return rec, to, err
}

// instead makes s, a new session, replace the one that has moved, for a request
// under its old ID: Destroy ends that one. While the answer with the new ID may be
// in flight, only a Login may be saved.
func (s *Session) instead(ctx context.Context, to *movedError) error {
	s.origin = &origin{movedError: to, barred: to.recent()}
	unused, err := s.m.unused(ctx, to)
	if unused {
		s.changes = changes.On(to.kept)
	}
	return err
}

// inherit makes the marker lead to this session, which was just stored at key as
// version v with the values that a Login had left, and ends the session that the
// Login has made, whose ID reached no client: a logout must have one session to
// end. If this answer is lost as well, the marker serves for the next try.
func (s *Session) inherit(ctx context.Context, token, key string, v Version) error {
	to := s.origin.movedError
	marker, err := s.marker(key, v, seal(sealLogin, token, key, to.token), to.kept)
	if err == nil {
		marker.Version = to.found
		err = s.lead(ctx, to, key, marker)
	}
	if err != nil {
		if isAny(err, ErrConflict, ErrTooLarge, ErrEncode) { // otherwise the marker may lead to it
			s.m.remove(ctx, key)
		}
		return err
	}
	_ = s.m.end(ctx, to.key, to.version) // if that fails, the session stays until its deadline
	return nil
}

// lead replaces the marker that to came from by one that leads to key. It fails if
// another request has made it lead elsewhere.
func (s *Session) lead(ctx context.Context, to *movedError, key string, marker Record) error {
	var err error
	for range 3 {
		if _, err = s.m.save(ctx, to.from, marker); err == nil || ctx.Err() != nil {
			return err
		}
		var conflict *ConflictError
		switch {
		case uncertain(err):
			continue
		case !errors.As(err, &conflict) || conflict.Gone:
			return err
		}
		rec, now, ferr := s.m.find(ctx, to.from, conflict.Current)
		switch {
		case ferr != nil:
			return ferr
		case now != nil && now.key == key:
			return nil // an earlier try was applied
		case now == nil || now.key != to.key:
			return err
		}
		marker.Version = rec.Version // freeing a lock has changed it
	}
	return err
}

// unused reports whether the session is as its Login has made it. Then, as far as
// one can tell, no client has the new ID, and the kept values are good.
func (m *core) unused(ctx context.Context, to *movedError) (bool, error) {
	if to.kept == nil {
		return false, nil
	}
	rec, err := m.load(ctx, to.key)
	if err != nil {
		return false, unlessGone(err)
	}
	return rec.Version == to.version && !m.timeoutsOf(rec).expired(rec, time.Now()), nil
}
