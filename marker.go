package session

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"
)

const (
	// markerLife is how long what is left under an old ID is there at least:
	// longer than anybody tries to find out who ended it.
	markerLife = 10 * time.Minute
	// justMoved is how long requests under the old ID are taken to have been on
	// their way. What they change is not saved under yet another ID,
	// as its cookie would displace that of the new one.
	justMoved = 10 * time.Second
	// maxTrail is how many markers a session leaves behind.
	maxTrail = 8
)

// errMoved says that a session lives on under another ID.
var errMoved = fmt.Errorf("%w: it has a new ID", ErrNotFound)

// movedError is an errMoved that knows what the marker under the old ID says. It
// stays in here.
type movedError struct {
	key     string            // of the record under the new ID
	version Version           // that it began with, "" if that is not known
	at      time.Time         // when the session moved
	kept    map[string][]byte // the values from before a Login, nil if there are none
	from    string            // the key of the marker
	stored  Version           // of the marker
}

// asMoved returns the movedError in err, nil if there is none.
func asMoved(err error) *movedError {
	if err == nil {
		return nil // without an allocation
	}
	var to *movedError
	errors.As(err, &to)
	return to
}

func (e *movedError) Error() string { return errMoved.Error() }
func (e *movedError) Unwrap() error { return errMoved }

// marker is what is to be left under the session's ID: where it goes, and kept,
// what it was.
func (s *Session) marker(mv *move, kept map[string][]byte) (Record, error) {
	key, err := s.m.encode(mv.key)
	if err != nil {
		return Record{}, err
	}
	version, err := s.m.encode(base64.RawURLEncoding.EncodeToString([]byte(mv.rec.Version)))
	if err != nil {
		return Record{}, err
	}
	values := map[string][]byte{movedName: key, versionName: version}
	maps.Copy(values, kept)
	data, err := s.m.cfg.Codec.Join(values)
	if err != nil {
		return Record{}, fmt.Errorf("%w: %w", ErrEncode, err)
	}
	if limit := s.m.cfg.MaxSize; limit > 0 && len(data) > limit && len(kept) > 0 {
		return s.marker(mv, nil)
	}
	return Record{
		Data: data, Created: time.Now(), Expires: s.markedUntil(), KeepLater: true, Version: s.rec.Version,
	}, nil
}

// markedUntil returns how long a marker is to be left: as long as the old ID
// would have been good, so that whoever has it can log out.
func (s *Session) markedUntil() time.Time {
	now := time.Now()
	until := s.m.deadline(now, s.rec.Created)
	for _, t := range []time.Time{s.rec.Expires, now.Add(markerLife)} {
		if until.Before(t) {
			until = t
		}
	}
	return until
}

// firstLogin reports whether the session is nobody's yet and is to be somebody's.
// Its marker keeps what it was, for those whom the answer does not reach. One
// that was somebody's leaves nothing: its old ID must be worth nothing.
func (s *Session) firstLogin() bool { return s.login && s.base[userName] == nil }

// split is Codec.Split. It fails with a movedError for what Rotate left behind.
func (m *core) split(rec Record) (map[string][]byte, error) {
	values, err := m.cfg.Codec.Split(rec.Data)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDecode, err)
	}
	if values[movedName] == nil {
		return values, nil
	}
	to := &movedError{at: rec.Created, kept: maps.Clone(values)}
	if err := m.decode(values[movedName], &to.key); err != nil {
		return nil, err
	}
	if data := values[versionName]; data != nil { // there was none once
		var text string
		if err := m.decode(data, &text); err != nil {
			return nil, err
		}
		version, err := base64.RawURLEncoding.DecodeString(text)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrDecode, err)
		}
		to.version = Version(version)
	}
	delete(to.kept, movedName)
	delete(to.kept, versionName)
	if len(to.kept) == 0 {
		to.kept = nil
	}
	return nil, to
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

// recent reports whether the answer with the new ID may be on its way.
func (e *movedError) recent() bool { return time.Since(e.at) < justMoved }

// instead makes s, which is new, the session for a request that came under the
// old ID of one that has moved: Destroy ends that one. While the answer may be
// on its way, only a Login may be saved.
func (s *Session) instead(ctx context.Context, to *movedError) error {
	s.left, s.barred = to, to.recent()
	unused, err := s.m.unused(ctx, to)
	if unused {
		s.base = to.kept
	}
	return err
}

// inherit makes the session, just stored at key as version v with what a Login
// had left, the one that the marker leads to, and ends the one that the Login
// has made, which was of no use to anybody: there must be one of them to log
// out. If this answer is lost as well, the marker is as good for the next try.
func (s *Session) inherit(ctx context.Context, key string, v Version) error {
	to := s.left
	marker, err := s.marker(&move{key: key, rec: Record{Version: v}}, to.kept)
	if err == nil {
		marker.Version = to.stored
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

// hidden reports whether nothing is known of the session but that it has moved.
// The lock is held.
func (s *Session) hidden() bool { return s.barred && s.base == nil && !s.login }

// leaving returns the session's trail with the marker at key, which is to live
// until expires, and the key of the one that is to be deleted instead, "" if
// there is room. A trail is a line for each marker: when it ends, and its key.
// One that does not decode is as good as none.
func (m *core) leaving(trail []byte, key string, expires time.Time) (_ []byte, oldest string, err error) {
	var old string
	if trail != nil {
		_ = m.decode(trail, &old)
	}
	var marks []string
	now := time.Now().Unix()
	for mark := range strings.Lines(old) {
		until, _, _ := strings.Cut(mark, " ")
		if n, err := strconv.ParseInt(until, 36, 64); err == nil && n > now {
			marks = append(marks, strings.TrimSuffix(mark, "\n"))
		}
	}
	marks = append(marks, strconv.FormatInt(expires.Unix(), 36)+" "+key)
	if len(marks) > maxTrail {
		_, oldest, _ = strings.Cut(marks[0], " ")
		marks = marks[1:]
	}
	data, err := m.encode(strings.Join(marks, "\n"))
	return data, oldest, err
}
