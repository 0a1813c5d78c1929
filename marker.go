package session

import (
	"context"
	"errors"
	"time"

	"github.com/seed-a7bee19b/session/internal/changes"
)

// markerLife is how long what is left under an old ID is there at least: longer
// than anybody tries to find out who ended it.
const markerLife = 10 * time.Minute

// marker is what is to be left under the session's ID: that it went to key, where
// it began as version v, and kept, what it was.
func (s *Session) marker(key string, v Version, kept map[string][]byte) (Record, error) {
	data, err := s.m.joinMarker(key, v, kept)
	if err != nil {
		return Record{}, err
	}
	return Record{
		Data: data, Created: time.Now(), Expires: s.markedUntil(), KeepLater: true, Version: s.stored.rec.Version,
	}, nil
}

// markedUntil returns how long a marker is to be left: as long as the old ID
// would have been good, so that whoever has it can log out.
func (s *Session) markedUntil() time.Time {
	now := time.Now()
	until := s.m.deadline(now, s.stored.rec.Created)
	for _, t := range []time.Time{s.stored.rec.Expires, now.Add(markerLife)} {
		if until.Before(t) {
			until = t
		}
	}
	return until
}

// firstLogin reports whether the session is nobody's yet and is to be somebody's.
// Its marker keeps what it was, for those whom the answer does not reach. One
// that was somebody's leaves nothing: its old ID must be worth nothing.
func (s *Session) firstLogin() bool {
	return s.renewal == newLogin && s.changes.Base()[userName] == nil
}

// find returns what is at key, which is current if that is not nil; and where
// the session went, if it is a marker.
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

// instead makes s, which is new, the session for a request that came under the
// old ID of one that has moved: Destroy ends that one. While the answer may be
// on its way, only a Login may be saved.
func (s *Session) instead(ctx context.Context, to *movedError) error {
	s.origin = &origin{movedError: to, barred: to.recent()}
	unused, err := s.m.unused(ctx, to)
	if unused {
		s.changes = changes.On(to.kept)
	}
	return err
}

// inherit makes the session, just stored at key as version v with what a Login
// had left, the one that the marker leads to, and ends the one that the Login
// has made, which was of no use to anybody: there must be one of them to log
// out. If this answer is lost as well, the marker is as good for the next try.
func (s *Session) inherit(ctx context.Context, key string, v Version) error {
	to := s.origin.movedError
	marker, err := s.marker(key, v, to.kept)
	if err == nil {
		marker.Version = to.found
		err = s.lead(ctx, to, key, marker)
	}
	if err != nil {
		if isAny(err, ErrConflict, ErrTooLarge, ErrEncode) { // else the marker may lead to it yet
			s.m.remove(ctx, key)
		}
		return err
	}
	_ = s.m.end(ctx, to.key, to.version) // if it cannot, that waits for its deadline
	return nil
}

// lead replaces the marker that to comes from by one that leads to key. Others
// may have led it elsewhere meanwhile.
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

// unused reports whether the session is as its Login has made it: so the new ID
// was of no use to anybody, as far as one can tell, and what was kept is good.
func (m *core) unused(ctx context.Context, to *movedError) (bool, error) {
	if to.kept == nil {
		return false, nil
	}
	rec, err := m.load(ctx, to.key)
	if err != nil {
		return false, unlessGone(err)
	}
	return rec.Version == to.version && !m.expired(rec, time.Now()), nil
}
