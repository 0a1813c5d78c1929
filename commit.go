package session

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// save stores what there is to store, and frees the lock that the session
// holds. The session's lock is held. Each try has limit to succeed, if that is
// not zero; between them it waits while another holder's lock is live. After
// an error the changes are still pending, and a lock is still held.
func (s *Session) save(ctx context.Context, limit time.Duration) error {
	var w *wait
	for {
		err := s.within(ctx, limit, s.commit)
		if !errors.Is(err, ErrLocked) {
			return err
		}
		if w == nil {
			w = s.m.newWait(s.key)
			if werr := w.enter(ctx); werr != nil {
				return lockError(werr, err)
			}
			defer w.leave()
		}
		rec, werr := w.untilFree(ctx)
		switch {
		case errors.Is(werr, ErrNotFound):
			return &ConflictError{Gone: true}
		case werr != nil:
			return lockError(werr, err)
		}
		if err := s.adopt(rec); err != nil {
			return err
		}
	}
}

func (s *Session) within(ctx context.Context, limit time.Duration, f func(context.Context) error) error {
	if limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	return f(ctx)
}

// commit is save without waiting: it fails with ErrLocked.
func (s *Session) commit(ctx context.Context) error {
	if s.hold != nil {
		if err := s.hold.check(); err != nil {
			return err
		}
	}
	if !s.changed() {
		expires, stale := s.stale()
		switch {
		case s.hold != nil:
			return s.release(ctx, expires)
		case stale:
			return s.touch(ctx, expires)
		}
		return nil
	}
	if !s.stored() {
		return s.create(ctx)
	}
	if s.m.expired(s.rec, time.Now()) {
		// The deadline that we know has passed. Another request may have
		// moved it; if not, nothing may be written.
		if err := s.reload(ctx); err != nil {
			return err
		}
	}
	if s.rotating {
		return s.rotate(ctx)
	}
	return s.replace(ctx)
}

// stale returns the deadline to move the stored one to, and whether that is
// older than the TouchInterval allows.
func (s *Session) stale() (time.Time, bool) {
	now := time.Now()
	if !s.stored() || s.mode == ReadOnly || s.m.cfg.IdleTimeout < 0 || s.m.expired(s.rec, now) {
		return time.Time{}, false
	}
	expires := s.m.deadline(now, s.rec.Created)
	return expires, expires.Sub(s.rec.Expires) >= s.m.cfg.TouchInterval
}

// touch moves the idle deadline.
func (s *Session) touch(ctx context.Context, expires time.Time) error {
	err := s.m.touch(ctx, s.key, expires)
	switch {
	case errors.Is(err, ErrNotFound):
		return nil // ended by another request, and nothing to save
	case err != nil:
		s.m.event(ctx, Event{Kind: TouchFailed, Err: err})
		return err
	}
	s.rec.Expires = expires
	return nil
}

// create stores a session that never was, if it has data.
func (s *Session) create(ctx context.Context) error {
	values := s.values()
	if len(values) == 0 {
		return nil
	}
	if s.exchange.late() {
		return ErrTooLate
	}
	id := s.id
	if s.rotating || id == (ID{}) {
		id = newID()
	}
	key := s.m.cfg.StoreKey(id.token)
	rec, err := s.record(values, time.Now())
	if err != nil {
		return err
	}
	if rec.Version, err = s.m.save(ctx, key, rec); err != nil {
		return err
	}
	s.id, s.key = id, key
	s.settle(ctx, SessionCreated, rec, values)
	return nil
}

// replace stores the session where it is.
func (s *Session) replace(ctx context.Context) error {
	for try := 0; s.changed(); try++ {
		values := s.values()
		rec, err := s.record(values, s.rec.Created)
		if err != nil {
			return err
		}
		rec.Version = s.rec.Version
		if rec.Version, err = s.m.save(ctx, s.key, rec); err == nil {
			s.settle(ctx, SessionSaved, rec, values)
			s.merged(ctx, try)
			return nil
		}
		if err = s.catchUp(ctx, err, try); err != nil {
			return err
		}
	}
	return nil // what others stored is what we would have
}

// rotate stores the session under a new ID and then ends the old one: not
// with Delete, but with a conditional Save of a record past its deadline, so
// that what another request saved in between is merged and not lost. Until
// both are done nobody has the new ID.
func (s *Session) rotate(ctx context.Context) (err error) {
	if s.exchange.late() {
		return ErrTooLate
	}
	id := newID()
	key := s.m.cfg.StoreKey(id.token)
	var stored Version // of the record under the new ID
	defer func() {
		if err != nil && stored != "" {
			_ = s.m.delete(ctx, key) // if this fails too, the record waits for its deadline
		}
	}()
	for try := 0; ; try++ {
		created := s.rec.Created
		if s.login {
			created = time.Now()
		}
		values := s.values()
		rec, err := s.record(values, created)
		if err != nil {
			return err
		}
		rec.Version = stored
		if rec.Version, err = s.m.save(ctx, key, rec); err != nil {
			return fmt.Errorf("under a new ID: %w", err)
		}
		stored = rec.Version
		_, err = s.m.save(ctx, s.key, Record{
			Created: s.rec.Created,
			Expires: time.Now().Add(-tombstone),
			Version: s.rec.Version,
		})
		if err == nil {
			s.id, s.key = id, key
			s.settle(ctx, SessionRotated, rec, values)
			s.merged(ctx, try)
			return nil
		}
		if err = s.catchUp(ctx, err, try); err != nil {
			return err
		}
	}
}

// destroy deletes the session from the store.
func (s *Session) destroy(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mode == ReadOnly {
		return ErrReadOnly
	}
	s.closed = true // whatever comes of it, nothing of s may be saved any more
	if !s.stored() {
		return nil
	}
	if err := s.m.delete(ctx, s.key); err != nil {
		return err
	}
	s.rec.Version = ""
	s.m.event(ctx, Event{Kind: SessionDestroyed})
	s.unlocked(ctx)
	return nil
}

// acquire locks the record and returns it. What it does if there is no lock in
// time is up to the policy.
func (s *Session) acquire(ctx context.Context, lost context.CancelCauseFunc) (Record, error) {
	rec, h, err := s.m.acquire(ctx, s.key, lost)
	if errors.Is(err, ErrLockTimeout) && s.m.cfg.Lock.OnTimeout != FailOnTimeout {
		s.mode = Merge
		if s.m.cfg.Lock.OnTimeout == ReadOnlyOnTimeout {
			s.mode = ReadOnly
		}
		return s.m.load(ctx, s.key)
	}
	if err != nil {
		return Record{}, err
	}
	s.mode, s.hold = Exclusive, h
	return rec, nil
}

// upgrade locks a session that was opened without a lock, and applies its
// changes to what is stored now.
func (s *Session) upgrade(ctx context.Context, lost context.CancelCauseFunc) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.hold != nil || s.closed || !s.stored() {
		return nil
	}
	rec, err := s.acquire(ctx, lost)
	if err == nil {
		err = s.adopt(rec)
	}
	if err != nil {
		s.unlock(ctx)
	}
	return err
}

// release frees the lock without writing data.
func (s *Session) release(ctx context.Context, expires time.Time) error {
	h := s.hold
	s.hold = nil
	err := h.release(ctx, expires)
	if err == nil && !expires.IsZero() {
		s.rec.Expires = expires
	}
	return err
}

// unlock frees the lock of a session that will not be saved any more. If it
// cannot, the lease ends it.
func (s *Session) unlock(ctx context.Context) {
	if s.hold != nil {
		_ = s.release(ctx, time.Time{})
	}
}

// unlocked does what is left to do after a write of the holder.
func (s *Session) unlocked(ctx context.Context) {
	switch {
	case s.hold == nil:
	case s.m.leaser == nil:
		s.unlock(ctx)
	default: // the store has freed the lock in the same request
		s.hold.end()
		s.hold = nil
	}
}

// tombstone is how long ago an ended record expired: longer than clocks of
// machines that share a store may differ.
const tombstone = 24 * time.Hour

// record encodes values into what the store is to hold.
func (s *Session) record(values map[string][]byte, created time.Time) (Record, error) {
	data, err := s.m.cfg.Codec.Join(values)
	if err != nil {
		return Record{}, fmt.Errorf("%w: %w", ErrEncode, err)
	}
	if limit := s.m.cfg.MaxSize; limit > 0 && len(data) > limit {
		return Record{}, fmt.Errorf("%w: %d bytes, and MaxSize is %d", ErrTooLarge, len(data), limit)
	}
	return Record{Data: data, Created: created, Expires: s.m.deadline(time.Now(), created)}, nil
}

// settle takes over what has been stored.
func (s *Session) settle(ctx context.Context, kind EventKind, rec Record, values map[string][]byte) {
	s.m.event(ctx, Event{Kind: kind, N: len(rec.Data)})
	rec.Data = nil
	s.rec, s.base, s.changes = rec, values, nil
	s.cleared, s.rotating, s.login = false, false, false
	s.unlocked(ctx)
}

func (s *Session) merged(ctx context.Context, conflicts int) {
	if conflicts > 0 {
		s.m.event(ctx, Event{Kind: Merged, N: conflicts})
	}
}

// catchUp takes the error of a Save. After a conflict that may be tried again
// it applies the changes to what is stored now, and returns nil.
func (s *Session) catchUp(ctx context.Context, err error, try int) error {
	var conflict *ConflictError
	switch {
	case !errors.As(err, &conflict):
		return err
	case conflict.Gone:
		if s.hold != nil {
			s.hold.end()
			s.hold = nil
		}
		return err
	case s.hold != nil && s.m.leaser != nil:
		// Nobody can write under a lock that is held.
		return s.hold.conflicted(err)
	}
	if try >= s.m.cfg.MaxMerges {
		return fmt.Errorf("%w (%d times in a row)", err, try+1)
	}
	if try == 0 && conflict.Current != nil {
		return s.adopt(*conflict.Current)
	}
	// Others are busy with this session. Step back, and then look again, as
	// what the conflict brought is old by then.
	if werr := backoff(ctx, try); werr != nil {
		return fmt.Errorf("%w, while retrying after: %w", werr, err)
	}
	return s.reload(ctx)
}

// reload takes over what is stored now. It fails if there is no live session.
func (s *Session) reload(ctx context.Context) error {
	rec, err := s.m.load(ctx, s.key)
	if errors.Is(err, ErrNotFound) {
		return &ConflictError{Gone: true}
	} else if err != nil {
		return err
	}
	if s.hold != nil && s.m.leaser != nil && !s.m.expired(rec, time.Now()) {
		// The data is as it was, and the version that counts is the holder's.
		s.rec.Expires = rec.Expires
		return nil
	}
	return s.adopt(rec)
}

// adopt makes rec what the changes apply to.
func (s *Session) adopt(rec Record) error {
	if s.m.expired(rec, time.Now()) {
		return &ConflictError{Gone: true}
	}
	if s.mode == LastWrite {
		rec.Data = nil
		s.rec = rec // and the base stays: all of this session replaces all of theirs
		return nil
	}
	return s.rebase(rec)
}

// backoff waits between 2 ms and a bound that doubles up to 50 ms.
func backoff(ctx context.Context, try int) error {
	const shortest, longest = 2 * time.Millisecond, 50 * time.Millisecond
	most := min(shortest<<min(try, 8), longest)
	t := time.NewTimer(shortest + rand.N(most))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
