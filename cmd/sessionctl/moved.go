package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/admin"
	"github.com/seed-a7bee19b/session/codec"
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
	for _, c := range []session.Codec{codec.MessagePack{}, codec.JSON{}} {
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

// maxHops is how many new IDs a session is followed to. More do not leave a
// trace.
const maxHops = 32

// follow loads what is at key, and where that is what an old ID has left, the
// session itself. It returns the key of that, and those that led there.
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
	return key, trail, session.Record{}, fmt.Errorf("the session got a new ID more than %d times", maxHops)
}

const (
	maxEnds  = 16              // times that others may change a session while it is being ended
	lockWait = 2 * time.Second // how long the holder of a lock is waited for
)

// end ends the session at key, under whichever key it lives by now. at is that,
// and absent is set if there was none. What is there is ended on condition that
// it is what was looked at: a Delete could remove the only trace of where the
// session went a moment ago.
func end(ctx context.Context, s store, key string) (at string, absent bool, err error) {
	begun := time.Now()
	for try := 0; ; {
		at, trail, rec, err := follow(ctx, s, key)
		switch {
		case errors.Is(err, session.ErrNotFound):
			return at, try == 0, forget(ctx, s, trail)
		case errors.Is(err, session.ErrDecode): // it is not of the session package, and was asked for
			return at, false, s.Delete(ctx, at)
		case err != nil:
			return at, false, err
		}
		past := time.Unix(0, 0)
		_, err = s.Save(ctx, at, session.Record{Created: past, Expires: past, Version: rec.Version})
		var conflict *session.ConflictError
		switch {
		case errors.Is(err, session.ErrLocked) && time.Since(begun) < lockWait:
			if err := pause(ctx, 50*time.Millisecond); err != nil {
				return at, false, err
			}
			continue
		case errors.As(err, &conflict) && try < maxEnds:
			try++
			continue
		case errors.Is(err, session.ErrLocked), errors.As(err, &conflict):
			err = nil // nobody can keep it alive for ever
		}
		if err == nil { // Redis keeps what has ended for a minute
			err = forget(ctx, s, append([]string{at}, trail...))
		}
		return at, false, err
	}
}

// forget deletes what is left of a session that has ended. Where that fails the
// rest stays, so that whoever tries again finds the way.
func forget(ctx context.Context, s store, keys []string) error {
	for _, key := range keys {
		if err := s.Delete(ctx, key); err != nil {
			return err
		}
	}
	return nil
}
