package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/admin"
)

// errWhereMoved says that a session has a new ID, and nobody can tell which.
var errWhereMoved = errors.New("the session has a new ID, but the record with its new key does not decode")

// movedTo returns the key of the record that a session has moved to, if data is
// what was left under its old ID. It tries all codecs: a wrong --codec must not
// make an old ID look like a session.
func movedTo(data []byte) (key string, moved bool, err error) {
	if !bytes.Contains(data, []byte(movedValue)) {
		return "", false, nil
	}
	for _, c := range allCodecs() {
		values, err := c.Split(data)
		if err != nil {
			continue
		}
		to, ok := values[movedValue]
		if !ok {
			return "", false, nil // it stands in a value
		}
		if err := c.Unmarshal(to, &key); err != nil || key == "" {
			return "", true, errWhereMoved
		}
		return key, true, nil
	}
	return "", true, errWhereMoved
}

// isMoved reports whether e is what was left under the old ID of a session. The
// list has to ask for the data with movedValue.
func isMoved(e *admin.Entry) bool {
	_, moved, _ := movedTo([]byte(e.Data))
	return moved
}

// maxHops is the number of new IDs that follow follows. A session leaves no trace
// of more.
const maxHops = 32

var errManyMoves = fmt.Errorf("the session got a new ID more than %d times", maxHops)

// follow loads the record at key. If a session has left it under its old ID,
// follow loads the session instead. It returns the key of the session, and the
// keys that led there.
func follow(ctx context.Context, s store, key string) (at string, trail []string, rec session.Record, err error) {
	for range maxHops {
		if rec, err = s.Load(ctx, key); err != nil {
			return key, trail, rec, err
		}
		to, moved, err := movedTo(rec.Data)
		if err != nil || !moved {
			return key, trail, rec, err
		}
		trail = append(trail, key)
		key = to
	}
	return key, trail, session.Record{}, errManyMoves
}

const (
	maxEnds  = 16              // times that others may change a session while it is being ended
	lockWait = 2 * time.Second // how long the holder of a lock is waited for
)

// end ends the session at key, under the key at that it has by now. absent is set
// if there was none.
func end(ctx context.Context, s store, key string) (at string, absent bool, err error) {
	e := ending{refuse: func(rec session.Record) error { return notIndex(rec.Data) }}
	err = e.end(ctx, s, key)
	switch {
	case e.foreign: // it was asked for
		return e.at, false, s.Delete(ctx, e.at)
	case err != nil:
		return e.at, false, err
	case !e.absent: // Redis keeps what has ended for a minute
		e.trail = append([]string{e.at}, e.trail...)
	}
	return e.at, e.absent && !e.tried, forget(ctx, s, e.trail)
}

// ending is the end of a session.
type ending struct {
	refuse func(rec session.Record) error // that keeps a record from being ended

	at      string   // the key of the session
	trail   []string // the keys that led there
	absent  bool     // there is no session there
	tried   bool     // but there was one
	foreign bool     // what is there is not of the session package
	barred  bool     // it was locked, or changed all the time, and is there still
}

// end ends the record of the session on condition that it has not changed: a
// Delete could remove the only trace of a session that moved a moment ago.
func (e *ending) end(ctx context.Context, s store, key string) error {
	begun := time.Now()
	for try := 0; ; {
		var (
			rec session.Record
			err error
		)
		e.at, e.trail, rec, err = follow(ctx, s, key)
		switch {
		case errors.Is(err, session.ErrNotFound):
			e.absent, e.tried = true, try > 0
			return nil
		case err != nil:
			e.foreign = errors.Is(err, session.ErrDecode)
			return err
		}
		if err := e.refuse(rec); err != nil {
			return err
		}
		past := time.Unix(0, 0)
		_, err = s.Save(ctx, e.at, session.Record{Created: past, Expires: past, Version: rec.Version})
		var conflict *session.ConflictError
		switch {
		case errors.Is(err, session.ErrLocked) && time.Since(begun) < lockWait:
			if err := pause(ctx, 50*time.Millisecond); err != nil {
				return err
			}
			continue
		case errors.As(err, &conflict) && try < maxEnds:
			try++
			continue
		case errors.Is(err, session.ErrLocked), errors.As(err, &conflict):
			e.barred, err = true, nil // nobody can keep it alive for ever
		}
		return err
	}
}

// forget deletes the records of a session that has ended. After an error the rest
// stays, so that another try finds the way.
func forget(ctx context.Context, s store, keys []string) error {
	for _, key := range keys {
		if err := s.Delete(ctx, key); err != nil {
			return err
		}
	}
	return nil
}
