package session

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"
)

// A move is a rotation under way: the record under the new ID is stored, and
// the old one is to be replaced by a marker that has the new one's key.
type move struct {
	token, key string
	rec        Record // as stored under key; no Version: it never was
	values     map[string][]byte
	login      bool
}

const (
	// markerLife is how long what is left under an old ID tells who ended it:
	// longer than anybody tries to find out.
	markerLife = 10 * time.Minute
	// justMoved is how long requests under the old ID are taken for such that
	// were on their way. They get an error, and not a new session, whose
	// cookie would displace that of the new ID.
	justMoved = 10 * time.Second
)

// rotate stores the session under a new ID and then ends the old one: not
// with Delete, but with a conditional Save, so that what another request
// saved in between is merged and not lost, and so that we can tell afterwards
// who ended it. Until both are done nobody has the new ID.
func (s *Session) rotate(ctx context.Context) error {
	if s.exchange.late() {
		return ErrTooLate
	}
	token := newToken()
	mv := &move{token: token, key: s.m.cfg.StoreKey(token)}
	for try := 0; ; try++ {
		created := s.rec.Created
		if s.login {
			created = time.Now()
		}
		values := s.values()
		rec, err := s.record(values, created)
		if err != nil {
			return s.undo(ctx, mv, err)
		}
		rec.Version = mv.rec.Version
		if rec.Version, err = s.m.save(ctx, mv.key, rec); err != nil {
			return s.undo(ctx, mv, fmt.Errorf("under a new ID: %w", err))
		}
		mv.rec, mv.values, mv.login = rec, values, s.login

		marker, err := s.marker(mv.key)
		if err != nil {
			return s.undo(ctx, mv, err)
		}
		_, err = s.m.save(ctx, s.key, marker)
		switch {
		case err == nil:
			s.moved(ctx, mv)
			s.merged(ctx, try)
			return nil
		case uncertain(err):
			s.moving = mv
			serr := s.settleMove(ctx)
			switch {
			case errors.Is(serr, ErrNotFound): // ended by another request
				return serr
			case serr != nil || s.rotating:
				return err
			}
			return nil
		}
		if err = s.catchUp(ctx, err, try); err != nil {
			return s.undo(ctx, mv, err)
		}
	}
}

// marker is what is left under an old ID.
func (s *Session) marker(newKey string) (Record, error) {
	data, err := s.m.encode(movedName, newKey)
	if err != nil {
		return Record{}, err
	}
	if data, err = s.m.cfg.Codec.Join(map[string][]byte{movedName: data}); err != nil {
		return Record{}, fmt.Errorf("%w: %w", ErrEncode, err)
	}
	return Record{Data: data, Created: s.rec.Created, Expires: time.Now().Add(markerLife), Version: s.rec.Version}, nil
}

// undo takes back the new record of a rotation that certainly did not end the
// old one, and returns err. If that fails, the record waits for its deadline:
// nobody has its ID.
func (s *Session) undo(ctx context.Context, mv *move, err error) error {
	if mv.rec.Version != "" {
		_ = s.m.delete(ctx, mv.key)
	}
	return err
}

// settleMove finds out how a rotation ended of which that is not known.
func (s *Session) settleMove(ctx context.Context) error {
	mv := s.moving
	rec, err := s.m.load(ctx, s.key)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	ended := err != nil
	if err == nil {
		values, err := s.m.cfg.Codec.Split(rec.Data)
		var key string
		if err == nil && values[movedName] != nil {
			ended = true
			err = s.m.unmarshal(movedName, values[movedName], &key)
		}
		if err == nil && key == mv.key { // we ended it
			s.moving = nil
			s.moved(ctx, mv)
			return nil
		}
	}
	s.moving = nil
	_ = s.m.delete(ctx, mv.key)
	if ended {
		return &ConflictError{Gone: true}
	}
	return nil // the old ID is as it was, or changed by others: rotate anew
}

// moved makes the session that of the new ID. What changed after a try whose
// outcome was not known stays pending.
func (s *Session) moved(ctx context.Context, mv *move) {
	later, again := make(map[string]change), s.login && !mv.login
	for name, c := range s.changes {
		if !bytes.Equal(c.data, mv.values[name]) {
			later[name] = change{data: c.data}
		}
	}
	if s.cleared {
		for name := range mv.values {
			if _, ok := s.changes[name]; !ok {
				later[name] = change{}
			}
		}
	}
	s.set(func() { s.token, s.key = &mv.token, mv.key })
	s.settle(ctx, SessionRotated, mv.rec, mv.values)
	s.set(func() { s.changes, s.rotating, s.login = later, again, again })
}
