package session

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"time"
)

// exclusively runs f as the only one at work with the store for s; it waits
// for that until the deadline, if there is one. What f reads of s it may read
// without the lock, as edits wait; what it writes needs the lock, as reading
// goes on.
func (s *Session) exclusively(ctx context.Context, deadline time.Time, f func() error) error {
	for {
		s.mu.Lock()
		if !s.saving {
			break
		}
		saved := s.whenSaved()
		s.mu.Unlock()
		if err := within(ctx, deadline, func(ctx context.Context) error {
			select {
			case <-saved:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}); err != nil {
			return err
		}
	}
	s.saving = true
	s.mu.Unlock()
	defer s.set(func() {
		s.saving = false
		if s.dropped {
			s.dropped = false
			s.discard()
		}
		if s.saved != nil {
			close(s.saved)
			s.saved = nil
		}
	})
	return f()
}

// whenSaved returns what is closed when the work that is under way is done.
func (s *Session) whenSaved() <-chan struct{} {
	if s.saved == nil {
		s.saved = make(chan struct{})
	}
	return s.saved
}

// quickly does f with the lock held if there is nothing to do with the store,
// which idle tells, and nobody at work with it. Otherwise it returns false.
func (s *Session) quickly(idle func() bool, f func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.saving || !idle() {
		return false
	}
	f()
	return true
}

// set runs f with the lock held.
func (s *Session) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

// limits are the deadlines of a save whose ctx has none. There are contexts
// for them only while they are needed, as most saves wait for nobody. Zero is
// no limit.
type limits struct {
	try time.Duration // for each try
	all time.Time     // when to give up
}

// next is the deadline of a try that begins now.
func (l limits) next() time.Time {
	if l.try == 0 {
		return l.all
	}
	return earlier(l.all, time.Now().Add(l.try))
}

// save stores what there is to store, and frees the lock that the session
// holds. Between its tries it waits while another holder's lock is live. After
// an error the changes are still pending, and a lock is still held.
func (s *Session) save(ctx context.Context, limit limits) error {
	err := within(ctx, limit.next(), s.commit)
	if errors.Is(err, ErrLocked) {
		return within(ctx, limit.all, func(ctx context.Context) error { return s.saveLocked(ctx, limit, err) })
	}
	return err
}

// outcome returns err, with which a save failed, unless that says that nothing
// was written and it may have been.
func (s *Session) outcome(err error) error {
	if errors.Is(err, ErrLockTimeout) && (s.unknown != nil || s.moving != nil) {
		return s.notKnown()
	}
	return err
}

// saveLocked goes on with a save that failed with err, which is ErrLocked.
func (s *Session) saveLocked(ctx context.Context, limit limits, err error) error {
	w := s.m.newWait(s.key)
	defer w.leave()
	for errors.Is(err, ErrLocked) {
		if s.hold != nil { // so the lock is another's by now
			return s.hold.lose(err)
		}
		if werr := w.enter(ctx); werr != nil {
			return lockError(werr, err)
		}
		rec, werr := w.untilFree(ctx)
		switch {
		case errors.Is(werr, ErrNotFound):
			return &ConflictError{Gone: true}
		case werr != nil:
			return lockError(werr, err)
		}
		if s.moving == nil { // else it may be our own marker
			if err := s.adopt(rec); err != nil {
				return err
			}
		}
		err = within(ctx, limit.next(), s.commit)
	}
	return err
}

// within runs f with a context that ends at the deadline, if there is one.
func within(ctx context.Context, deadline time.Time, f func(context.Context) error) error {
	if !deadline.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, deadline)
		defer cancel()
	}
	return f(ctx)
}

// commit is save without waiting: it fails with ErrLocked.
func (s *Session) commit(ctx context.Context) error {
	if h := s.hold; h != nil {
		if err := h.check(); err != nil {
			if s.unknown != nil {
				return s.notKnown()
			}
			return err
		}
		h.write(true)
		defer h.write(false)
	}
	if s.moving != nil {
		if err := s.settleMove(ctx); err != nil {
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
		spared := false
		s.set(func() { spared = s.spared() })
		if spared {
			s.m.event(ctx, Event{Kind: TouchSaved})
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

// behind returns the deadline that a use of the session gives it now, and by
// how much the stored one is earlier; 0 if it is not to be moved.
func (s *Session) behind() (time.Time, time.Duration) {
	now := time.Now()
	if !s.stored() || s.mode.get() == ReadOnly || s.m.cfg.IdleTimeout < 0 || s.m.expired(s.rec, now) {
		return time.Time{}, 0
	}
	expires := s.m.deadline(now, s.rec.Created)
	return expires, max(0, expires.Sub(s.rec.Expires))
}

// stale returns the deadline to move the stored one to, and whether that is
// older than the TouchInterval allows.
func (s *Session) stale() (time.Time, bool) {
	expires, by := s.behind()
	if by == 0 || by < s.m.cfg.TouchInterval {
		return time.Time{}, false
	}
	return expires, true
}

// spared reports, once, whether only the TouchInterval saves the write of a
// deadline. The lock is held.
func (s *Session) spared() bool {
	if s.m.cfg.Observer == nil {
		return false // nobody to tell
	}
	_, by := s.behind()
	if s.fresh || by == 0 || by >= s.m.cfg.TouchInterval {
		return false
	}
	s.fresh = true
	return true
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
	s.set(func() { s.rec.Expires, s.fresh = expires, true })
	return nil
}

// create stores a session that never was, if it has data.
func (s *Session) create(ctx context.Context) error {
	values := s.values()
	switch {
	case s.barred && !s.login:
		return fmt.Errorf("%w: %w", &ConflictError{Gone: true}, errMoved)
	case len(values) == 0:
		return nil
	case s.exchange.late():
		return ErrTooLate
	}
	rec, err := s.record(values, time.Now())
	if err != nil {
		return err
	}
	token, key, v, err := s.m.create(ctx, rec)
	if err != nil {
		return err
	}
	rec.Version = v
	s.set(func() { s.token, s.key, s.left, s.barred = &token, key, nil, false })
	s.settle(ctx, SessionCreated, rec, values)
	return nil
}

// create stores rec under a new ID. Where it is not known whether it has, it
// does so under another one, as the first may still be on its way: what arrives
// when the session has been ended by then must not be one that anybody has the
// ID of.
func (m *core) create(ctx context.Context, rec Record) (token, key string, v Version, err error) {
	const most = 5
	var abandoned []string
	for {
		token = newToken()
		key = m.cfg.StoreKey(token)
		v, err = m.save(ctx, key, rec)
		if !uncertain(err) || len(abandoned) == most-1 || backoff(ctx, len(abandoned)) != nil {
			break
		}
		abandoned = append(abandoned, key)
	}
	if err == nil {
		for _, key := range abandoned {
			m.remove(ctx, key)
		}
	}
	return token, key, v, err
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

// record encodes values into what the store is to hold.
func (s *Session) record(values map[string][]byte, created time.Time) (Record, error) {
	return s.recordWith(s.trail, values, created)
}

// recordWith is record with a trail, which it leaves out rather than to fail
// because of it.
func (s *Session) recordWith(trail []byte, values map[string][]byte, created time.Time) (Record, error) {
	all := values
	if trail != nil {
		all = make(map[string][]byte, len(values)+1)
		maps.Copy(all, values)
		all[trailName] = trail
	}
	data, err := s.m.cfg.Codec.Join(all)
	if err != nil {
		return Record{}, fmt.Errorf("%w: %w", ErrEncode, err)
	}
	if limit := s.m.cfg.MaxSize; limit > 0 && len(data) > limit {
		if trail != nil {
			return s.recordWith(nil, values, created)
		}
		return Record{}, fmt.Errorf("%w: %d bytes, and MaxSize is %d", ErrTooLarge, len(data), limit)
	}
	return Record{Data: data, Created: created, Expires: s.m.deadline(time.Now(), created)}, nil
}

// settle takes over what has been stored.
func (s *Session) settle(ctx context.Context, kind EventKind, rec Record, values map[string][]byte) {
	size := len(rec.Data)
	rec.Data = nil
	s.set(func() {
		s.rec, s.base, s.changes, s.fresh = rec, values, nil, true
		s.cleared, s.rotating, s.login, s.unknown = false, false, false, nil
	})
	s.m.event(ctx, Event{Kind: kind, N: size})
	s.unlocked(ctx)
}

func (s *Session) merged(ctx context.Context, conflicts int) {
	if conflicts > 0 {
		s.m.event(ctx, Event{Kind: Merged, N: conflicts})
	}
}

// uncertain reports whether a Save that failed with err may have been applied.
func uncertain(err error) bool {
	return err != nil && !isAny(err, ErrConflict, ErrNotFound, ErrLocked, ErrTooLarge, ErrEncode, ErrDecode)
}

// catchUp takes the error of a Save. After a conflict that may be tried again
// it applies the changes to what is stored now, and returns nil.
func (s *Session) catchUp(ctx context.Context, err error, try int) error {
	if uncertain(err) {
		s.unknown = err
	}
	var conflict *ConflictError
	if !errors.As(err, &conflict) {
		return err
	}
	current := conflict.Current
	conflict.Current = nil // not for the caller of Save
	switch {
	case conflict.Gone:
		s.unlocked(ctx)
		return err
	case s.hold != nil && s.unknown != nil:
		return s.notKnown()
	case s.hold != nil && s.m.leaser != nil:
		return s.hold.lose(err) // as nobody can write under a lock that is held
	case s.hold != nil:
		if lost := s.hold.check(); lost != nil {
			return lost
		}
		return err // of somebody who does not lock: what this request has read is no longer true
	case try >= s.m.cfg.MaxMerges:
		return fmt.Errorf("%w (%d times in a row)", err, try+1)
	case try == 0 && current != nil:
		return s.adopt(*current)
	}
	// Others are busy with this session. Step back, and then look again, as
	// what the conflict brought is old by then.
	if werr := backoff(ctx, try); werr != nil {
		return fmt.Errorf("%w, while retrying after: %w", werr, err)
	}
	return s.reload(ctx)
}

// notKnown is the error of a Save that cannot tell whether an earlier one was
// applied.
func (s *Session) notKnown() error {
	err := s.unknown
	if s.moving != nil {
		err = s.moving.err
	}
	return fmt.Errorf("it is not known whether the changes were stored: %w", err)
}

// redoes reports whether a change depends on what is stored.
func (s *Session) redoes() bool {
	for _, c := range s.changes {
		if c.redo != nil {
			return true
		}
	}
	return false
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
		s.set(func() { s.rec.Expires = rec.Expires })
		return nil
	}
	return s.adopt(rec)
}

// adopt makes rec what the changes apply to.
func (s *Session) adopt(rec Record) error {
	if s.m.expired(rec, time.Now()) {
		return &ConflictError{Gone: true}
	}
	if s.unknown != nil && rec.Version != s.rec.Version && s.redoes() {
		// What is stored may be what an earlier Save of ours has made.
		return s.notKnown()
	}
	var err error
	if s.mode.get() == LastWrite {
		// All of this session replaces all of theirs, so the base stays; but
		// it must not replace what Rotate left behind.
		if _, err = s.m.split(rec); err == nil {
			rec.Data = nil
			s.set(func() { s.rec = rec })
		}
	} else {
		err = s.rebase(rec)
	}
	if errors.Is(err, errMoved) {
		return fmt.Errorf("%w: %w", &ConflictError{Gone: true}, errMoved)
	}
	return err
}

// backoff waits between 2 ms and a bound that doubles up to 50 ms.
func backoff(ctx context.Context, try int) error {
	const shortest, longest = 2 * time.Millisecond, 50 * time.Millisecond
	most := min(shortest<<min(try, 8), longest)
	return sleep(ctx, shortest+rand.N(most))
}
