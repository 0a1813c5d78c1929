package session

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"time"

	"github.com/seed-a7bee19b/session/observe"
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
// holds. Where other writers or a lock are in its way, it waits for its turn.
// After an error the changes are still pending, and a lock is still held.
func (s *Session) save(ctx context.Context, limit limits) error {
	var err error
	if !s.lineUp() {
		if err = within(ctx, limit.next(), s.commit); !s.inTheWay(err) {
			return err
		}
	}
	return within(ctx, limit.all, func(ctx context.Context) error { return s.saveInTurn(ctx, limit, err) })
}

// outcome returns err, with which a save failed, unless that says that nothing
// was written and it may have been.
func (s *Session) outcome(err error) error {
	if errors.Is(err, ErrLockTimeout) && (s.unknown != nil || s.moving != nil) {
		return s.notKnown()
	}
	return err
}

// lineUp reports whether to wait for a turn without a try: where others of this
// process do already, a try would end in a conflict, one's own or theirs; and a
// rotation is two writes, between which nobody should come.
func (s *Session) lineUp() bool {
	return s.stored() && s.hold == nil && s.moving == nil && s.changed() && (s.rotating || s.m.writers.busy(s.key))
}

// inTheWay reports whether err, of a try to save, says that others were.
func (s *Session) inTheWay(err error) bool {
	if err == nil {
		return false // without an allocation
	}
	var conflict *ConflictError
	switch {
	case errors.Is(err, ErrLocked):
		return true
	case s.rotating, s.hold != nil, !s.stored(), !errors.As(err, &conflict):
		return false
	}
	return !conflict.Gone
}

// saveInTurn saves when those of this process who came earlier have done so.
// Each applies its changes to what the one before it has stored, and so meets
// the writers of other processes only. err is that of a first try, if there was
// one.
func (s *Session) saveInTurn(ctx context.Context, limit limits, err error) error {
	if s.hold != nil { // so the lock is another's by now
		return s.hold.lose(err)
	}
	line, key := &s.m.writers, s.key
	w := s.m.newWait(key)
	t, werr := line.enter(ctx, key, math.MaxInt, w.deadline, s.m.cfg.CommitTimeout, !errors.Is(err, ErrLocked))
	if werr != nil {
		return lockError(werr, &LockedError{})
	}
	stored := t.stored
	t.stored = nil
	s.turn = &t
	defer func() {
		s.turn = nil
		w.leave()
		line.leave(key, &t)
	}()
	if stored != nil { // so it was not locked a moment ago
		w = s.m.newWait(key)
		line.moves(key, &t, true)
	}
	if lk := &s.m.cfg.Lock; stored != nil && t.standBack {
		if err := sleep(ctx, lk.MaxRetry+lk.MinRetry); err != nil {
			return err
		}
	}
	for conflicts := 0; ; {
		if errors.Is(err, ErrConflict) {
			conflicts++
		}
		switch {
		case stored != nil && s.moving == nil:
			err = s.adopt(*stored)
		case errors.Is(err, ErrLocked):
			err = s.untilFree(ctx, w, err)
		case t.waited: // what a conflict has brought is old by now
			err = within(ctx, limit.next(), s.reload)
		case err != nil:
			err = within(ctx, limit.next(), func(ctx context.Context) error { return s.catchUp(ctx, err, conflicts-1) })
		}
		stored, t.waited = nil, false
		if err != nil || !s.changed() {
			return err // or what others stored is what we would have
		}
		if err = within(ctx, limit.next(), s.commit); !s.inTheWay(err) {
			if err == nil {
				s.merged(ctx, conflicts)
			}
			return err
		}
		line.moves(key, &t, !errors.Is(err, ErrLocked))
	}
}

// untilFree waits until nobody holds the lock that a save has met, and takes
// over what is stored then.
func (s *Session) untilFree(ctx context.Context, w *wait, locked error) error {
	if err := w.enter(ctx); err != nil {
		return lockError(err, locked)
	}
	rec, err := w.untilFree(ctx)
	switch {
	case errors.Is(err, ErrNotFound):
		return &ConflictError{Gone: true}
	case err != nil:
		return lockError(err, locked)
	case s.moving != nil: // it may be our own marker
		return nil
	}
	return s.adopt(rec)
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
		if stale && s.restamps(expires) {
			if err := s.restamp(ctx); !errors.Is(err, ErrTooLarge) {
				return err
			}
		}
		switch {
		case s.hold != nil:
			return s.release(ctx, expires)
		case stale:
			return s.touch(ctx, expires)
		}
		spared := false
		s.set(func() { spared = s.spared() })
		if spared {
			s.m.event(ctx, observe.Event{Kind: observe.EventTouchSkipped})
		}
		return nil
	}
	err := s.saveChanges(ctx)
	s.failed = uncertain(err) && !errors.Is(err, ErrTooLate)
	return err
}

// saveChanges stores the changes.
func (s *Session) saveChanges(ctx context.Context) error {
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
// how much the stored one is earlier; 0 if it is not to be moved. It is
// negative where a longer timeout than today's has made the stored one.
func (s *Session) behind() (time.Time, time.Duration) {
	now := time.Now()
	if !s.stored() || s.mode.get() == ReadOnly || s.m.expired(s.rec, now) {
		return time.Time{}, 0
	}
	expires := s.m.deadline(now, s.rec.Created)
	by := expires.Sub(s.rec.Expires)
	if by < 0 && (by >= -rounding || by >= -skew && s.madeBy(now) <= s.m.cfg.IdleTimeout) {
		by = 0
	}
	return expires, by
}

// stale returns the deadline to move the stored one to, and whether that is
// older than the TouchInterval allows, or too late.
func (s *Session) stale() (time.Time, bool) {
	expires, by := s.behind()
	if by == 0 || by > 0 && by < s.m.cfg.TouchInterval {
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
	if s.fresh || by <= 0 || by >= s.m.cfg.TouchInterval {
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
		s.notMoved(ctx, err)
		return err
	}
	s.set(func() { s.rec.Expires, s.fresh = expires, true })
	return nil
}

// restamps reports whether to move the deadline to expires by restamp.
func (s *Session) restamps(expires time.Time) bool {
	return expires.Before(s.rec.Expires) && !s.apart
}

// restamp brings forward the deadline that a longer timeout has made, which no
// Touch can. Whoever else is at work with the session does it in our place.
func (s *Session) restamp(ctx context.Context) error {
	rec, err := s.record(maps.Clone(s.base), s.rec.Created)
	if err == nil {
		rec.Version = s.rec.Version
		rec.Version, err = s.m.save(ctx, s.key, rec)
	}
	switch {
	case err == nil:
		rec.Data = nil
		s.set(func() { s.rec, s.idle, s.fresh = rec, s.m.idle(), true })
		s.unlocked(ctx)
	case s.hold != nil && errors.Is(err, ErrNotFound):
		s.unlocked(ctx)
		return nil
	case s.hold != nil && errors.Is(err, ErrConflict):
		return s.hold.lose(err)
	case isAny(err, ErrConflict, ErrLocked):
		return nil
	case !errors.Is(err, ErrTooLarge):
		s.notMoved(ctx, err)
	}
	return err
}

// notMoved tells that the deadline could not be moved, unless it need not be
// any more.
func (s *Session) notMoved(ctx context.Context, err error) {
	if !errors.Is(ctx.Err(), context.Canceled) {
		s.m.event(ctx, observe.Event{Kind: observe.EventTouchFailed, Err: err})
	}
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
	if s.left != nil && s.base != nil {
		if err := s.inherit(ctx, key, v); err != nil {
			return err
		}
	}
	s.set(func() { s.token, s.key, s.left, s.barred = &token, key, nil, false })
	s.settle(ctx, observe.EventSessionCreated, rec, values)
	if s.exchange != nil {
		s.use.begin(s.exchange.ctx, s)
	}
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
	values := s.values()
	rec, err := s.record(values, s.rec.Created)
	if err != nil {
		return err
	}
	rec.Version = s.rec.Version
	// A deadline that is later than ours is that of a use since we read it, or
	// by a clock that is ahead, unless a longer timeout has made it.
	_, by := s.behind()
	rec.KeepLater = by >= 0
	if rec.Version, err = s.m.save(ctx, s.key, rec); err != nil {
		return s.refused(ctx, err)
	}
	s.settle(ctx, observe.EventSessionSaved, rec, values)
	if s.turn != nil {
		s.turn.stored = &Record{Data: rec.Data, Created: rec.Created, Expires: rec.Expires, Version: rec.Version}
	}
	return nil
}

// record encodes values into what the store is to hold.
func (s *Session) record(values map[string][]byte, created time.Time) (Record, error) {
	return s.recordWith(s.trail, values, created)
}

// recordWith is record with a trail, which it leaves out rather than to fail
// because of it.
func (s *Session) recordWith(trail []byte, values map[string][]byte, created time.Time) (Record, error) {
	now := time.Now()
	rec := Record{Created: created, Expires: s.m.deadline(now, created)}
	idle := s.m.encodeIdle(rec.Expires.Sub(now))
	all := values
	if trail != nil || idle != nil {
		all = make(map[string][]byte, len(values)+2)
		maps.Copy(all, values)
		putUnlessNil(all, trailName, trail)
		putUnlessNil(all, idleName, idle)
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
	rec.Data = data
	return rec, nil
}

func putUnlessNil(values map[string][]byte, name string, data []byte) {
	if data != nil {
		values[name] = data
	}
}

// settle takes over what has been stored.
func (s *Session) settle(ctx context.Context, kind observe.EventKind, rec Record, values map[string][]byte) {
	size := len(rec.Data)
	rec.Data = nil
	if rec.KeepLater && s.rec.Expires.After(rec.Expires) {
		rec.Expires = s.rec.Expires
	}
	s.set(func() {
		s.rec, s.base, s.changes, s.fresh = rec, values, nil, true
		s.idle, s.apart = s.m.idle(), false
		s.cleared, s.rotating, s.login, s.unknown, s.failed = false, false, false, nil, false
	})
	s.m.event(ctx, observe.Event{Kind: kind, N: size})
	s.unlocked(ctx)
}

func (s *Session) merged(ctx context.Context, conflicts int) {
	if conflicts > 0 {
		s.m.event(ctx, observe.Event{Kind: observe.EventMerged, N: conflicts})
	}
}

// uncertain reports whether a Save that failed with err may have been applied.
func uncertain(err error) bool {
	return err != nil && isAny(err, ErrStore, context.Canceled, context.DeadlineExceeded) &&
		!isAny(err, ErrConflict, ErrNotFound, ErrLocked, ErrTooLarge, ErrEncode, ErrDecode)
}

// refused takes the error of a Save, and returns that for the caller. A
// conflict that may be tried again is returned as it is.
func (s *Session) refused(ctx context.Context, err error) error {
	if uncertain(err) {
		s.unknown = err
	}
	var conflict *ConflictError
	if !errors.As(err, &conflict) || !conflict.Gone && s.hold == nil {
		return err
	}
	conflict.Current = nil // not for the caller of Save
	switch {
	case conflict.Gone:
		// It may be there, past its deadline by the clock that the store went
		// by: then nobody may revive it either.
		if eerr := s.m.end(ctx, s.key, s.rec.Version); uncertain(eerr) {
			return eerr
		}
		s.unlocked(ctx)
		return err
	case s.unknown != nil:
		return s.notKnown()
	case s.m.leaser != nil:
		return s.hold.lose(err) // as nobody can write under a lock that is held
	}
	if lost := s.hold.check(); lost != nil {
		return lost
	}
	return err // of somebody who does not lock: what this request has read is no longer true
}

// catchUp takes the error of a Save. After a conflict that may be tried again
// it applies the changes to what is stored now, and returns nil.
func (s *Session) catchUp(ctx context.Context, err error, try int) error {
	err = s.refused(ctx, err)
	var conflict *ConflictError
	if !errors.As(err, &conflict) || conflict.Gone || s.hold != nil {
		return err
	}
	current := conflict.Current
	conflict.Current = nil // not for the caller of Save
	switch {
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
	holder := s.hold != nil && s.m.leaser != nil
	asked := time.Now()
	rec, err := s.m.load(ctx, s.key)
	for looks := 0; err == nil && s.m.expired(rec, asked); looks++ {
		if holder {
			rec.Version = s.rec.Version // the one that counts
		}
		rec, asked, err = s.conclude(ctx, rec, asked, looks)
	}
	if errors.Is(err, ErrNotFound) {
		s.unlocked(ctx)
		return &ConflictError{Gone: true}
	} else if err != nil {
		return err
	}
	if holder { // the data is as it was
		s.set(func() { s.rec.Expires = rec.Expires })
		return nil
	}
	return s.adopt(rec)
}

// adopt makes rec what the changes apply to.
func (s *Session) adopt(rec Record) error {
	if s.unknown != nil && rec.Version != s.rec.Version && s.redoes() {
		// What is stored may be what an earlier Save of ours has made.
		return s.notKnown()
	}
	var err error
	if s.mode.get() == LastWrite {
		// All of this session replaces all of theirs, so the base stays; but
		// it must not replace what Rotate left behind.
		var theirs map[string][]byte
		if theirs, err = s.m.split(rec); err == nil {
			rec.Data = nil
			idle := s.m.takeIdle(theirs)
			s.set(func() { s.rec, s.idle, s.apart = rec, idle, true })
		}
	} else {
		err = s.rebase(rec)
	}
	if errors.Is(err, errMoved) {
		return fmt.Errorf("%w: %w", &ConflictError{Gone: true}, errMoved)
	}
	return err
}

// backoff waits between 2 ms and a bound that doubles up to 100 ms.
func backoff(ctx context.Context, try int) error {
	const shortest, longest = 2 * time.Millisecond, 100 * time.Millisecond
	most := min(shortest<<min(try, 8), longest)
	return sleep(ctx, shortest+rand.N(most))
}
