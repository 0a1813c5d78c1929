package session

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/seed-a7bee19b/session/internal/watch"
	"github.com/seed-a7bee19b/session/observe"
)

// A Watch says how a stream watches its session. The zero value is a good default.
type Watch struct {
	// Interval is the time between two looks at the stored session. Default 5
	// seconds; from 100 milliseconds to 5 minutes.
	Interval time.Duration

	// KeepAlive makes the stream a use of the session: its deadline is moved before
	// it passes, up to the absolute timeout. Without KeepAlive the session expires,
	// and ends the stream, unless requests use it. In mode [ReadOnly] it is an error.
	KeepAlive bool
}

const (
	defaultWatchInterval = 5 * time.Second
	minWatchInterval     = 100 * time.Millisecond
	// maxWatchInterval lets two looks fall into the life of a marker.
	maxWatchInterval = markerLife / 2
)

func (w Watch) withDefaults() (Watch, error) {
	if w.Interval == 0 {
		w.Interval = defaultWatchInterval
	}
	if w.Interval < minWatchInterval || w.Interval > maxWatchInterval {
		return w, fmt.Errorf("the Interval is %v; it must be from %v to %v", w.Interval, minWatchInterval, maxWatchInterval)
	}
	return w, nil
}

// Why a watch ends, where more is known than that there is no such session.
var (
	errVanished  = fmt.Errorf("%w: it was logged out or revoked", ErrNotFound)
	errLoggedOut = fmt.Errorf("%w: it was logged out", ErrNotFound)
	errRevoked   = fmt.Errorf("%w: it was revoked", ErrNotFound)
	errOtherUser = fmt.Errorf("%w: another user has logged in", ErrNotFound)
	errNotStored = fmt.Errorf("%w: it is not stored yet", ErrNotFound)
	errLoginOpen = fmt.Errorf("%w: its login is not saved yet", ErrNotFound)
)

// Watch returns a context for a stream that relies on the session, such as
// server-sent events, a WebSocket or a long poll. It is ctx, and it is also
// cancelled when the session ends: at once if the session is destroyed or revoked
// through this Manager, and otherwise within w.Interval and the time of one Load (at
// most 5 seconds) after a logout or revocation in another process, or after the
// deadline has passed. Then close the stream. [context.Cause] says why it was
// cancelled; for errors.Is it is
//
//   - [ErrNotFound] if the session was logged out, was revoked or has expired, or if
//     another user has logged in; the text says which, as far as it is known
//   - [ErrDecode] if the stored session does not decode
//   - [ErrStore] if no look has succeeded for three intervals, and for 30 seconds at
//     least: a session of which nothing is known is not taken to be alive
//
// A stream goes on when its session gets a new ID. One that began without a user
// goes on as that of the first user who logs in. It loses a session that gets more
// than 8 new IDs between two looks.
//
// Call cancel when the stream ends. After that, or when ctx ends, nothing is left
// of the watch. It needs the stored session and not s: Watch may be called after
// the response has started, after a Hijack, and when s is closed, and the context
// outlives the Handler if ctx does. The context of a request ends with the Handler,
// even if the connection was hijacked; for a connection that goes on, use
// [context.WithoutCancel].
//
// To watch a session is no use of it: see KeepAlive. But the request that begins the
// stream is, and browsers repeat it whenever the connection breaks. Give the route
// mode [ReadOnly] if that is not to keep the session alive.
//
// Cost: nothing for the call. All streams of a session that watch it through one
// Manager share 1 Load in each interval, the shortest one that any of them wants,
// and 1 more when its deadline passes or it gets a new ID. KeepAlive costs 1 Load
// and 1 Touch more each time that two thirds of the remaining time have passed, and
// if a shorter timeout than the session's own was configured meanwhile, once 1 Save
// in place of the Touch.
//
// Watch fails with [ErrNotFound] if the session or its new Login is not saved yet,
// with [ErrClosed] after [Session.Destroy], with [ErrReadOnly] for KeepAlive in mode
// ReadOnly, and if the Interval is out of its bounds.
func (s *Session) Watch(ctx context.Context, w Watch) (_ context.Context, cancel context.CancelFunc, err error) {
	w, err = w.withDefaults()
	var l *lookout
	var key string
	var user []byte
	if err == nil {
		l, key, user, err = s.lookout(w)
	}
	if err != nil {
		return nil, nil, wrap("watch", err)
	}
	ctx, end := context.WithCancelCause(ctx)
	leave := s.m.watches.Join(key, l.look, watch.Wish[[]byte]{
		Interval: w.Interval,
		By:       l.by(w.KeepAlive),
		Keep:     w.KeepAlive,
		Check: func(now []byte) error {
			if user == nil {
				user = now
			}
			if !bytes.Equal(user, now) {
				return errOtherUser
			}
			return nil
		},
		End: func(why error) { end(wrap("watch", why)) },
	})
	left := context.AfterFunc(ctx, leave)
	return ctx, func() {
		left()
		leave()
		end(nil)
	}, nil
}

// lookout returns the lookout for the session, its key, and its user as it is
// stored, nil if there is none.
func (s *Session) lookout(w Watch) (l *lookout, key string, user []byte, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	user = bytes.Clone(s.changes.Base()[userName])
	switch {
	case !s.isStored() && s.closed.Load():
		return nil, "", nil, ErrClosed
	case !s.isStored():
		return nil, "", nil, errNotStored
	case !bytes.Equal(user, s.changes.Value(userName)):
		return nil, "", nil, errLoginOpen
	case w.KeepAlive && s.mode.get() == ReadOnly:
		return nil, "", nil, fmt.Errorf("%w: KeepAlive moves the deadline", ErrReadOnly)
	}
	l = &lookout{m: s.m, kept: contents{used: s.stored.used, own: s.stored.own}}
	if now := time.Now(); now.Before(l.times().due(s.stored.rec, l.kept.used, now)) { // otherwise others may have moved it
		l.learn(s.stored.rec, now)
	}
	return l, s.stored.key, user, nil
}

// ended ends the streams of the session at key, which this process has ended.
func (m *core) ended(key string, why error) { m.watches.End(key, why) }

// moved makes the streams of the session at key look where it is now: this process
// has given it a new ID.
func (m *core) moved(key string) { m.watches.Wake(key) }

// A lookout looks at a session for its streams. It has at most one look in flight,
// and remembers what the last one has found.
type lookout struct {
	m       *core
	version Version
	kept    contents  // of that version, without the values
	user    []byte    // of that version, encoded
	due     time.Time // when the session ends; zero if that is not known
	touch   time.Time // when to move that deadline; due if it cannot be moved
}

// by returns when to look for the first time, at the latest; zero if it does not
// matter.
func (l *lookout) by(keep bool) time.Time {
	if keep && l.due.IsZero() {
		return time.Now() // it may end soon
	}
	return l.next(keep)
}

func (l *lookout) next(keep bool) time.Time {
	if keep {
		return l.touch
	}
	return l.due
}

// look looks at the session at key.
func (l *lookout) look(ctx context.Context, key string, keep bool) (out watch.Outcome[[]byte]) {
	asked := time.Now()
	rec, err := l.m.load(ctx, key)
	switch {
	case err != nil:
	case rec.Expired(asked): // it may have no data any more
		err = ErrNotFound
	case rec.Version != l.version:
		err = l.read(rec)
	}
	switch to := asMoved(err); {
	case to != nil:
		out.Moved, l.version = to.key, "" // a version is one of its key
	case errors.Is(err, ErrNotFound):
		out.Over = l.gone(asked)
	case errors.Is(err, ErrDecode):
		l.m.event(ctx, observe.Event{Kind: observe.EventUndecodable, Err: err})
		out.Over = err
	case err != nil:
		out.Failed = err
	default:
		out.Next, out.Over = l.judge(ctx, key, rec, asked, keep)
		out.Found = l.user
	}
	return out
}

// read takes rec apart, which is of another version than the last one.
func (l *lookout) read(rec Record) error {
	c, err := l.m.split(rec)
	if err != nil {
		return err
	}
	l.version, l.user = rec.Version, bytes.Clone(c.values[userName]) // the rest of the data is let go
	c.values, c.trail = nil, nil
	l.kept = c
	return nil
}

// gone returns why there is no session any more.
func (l *lookout) gone(asked time.Time) error {
	switch {
	case l.due.IsZero():
		return ErrNotFound
	case asked.Before(l.due):
		return errVanished
	}
	return errExpired
}

// judge decides whether the session of rec, which was asked for at asked, is alive,
// and when to look again at the latest. If keep is set and it is time, it moves the
// deadline.
func (l *lookout) judge(ctx context.Context, key string, rec Record, asked time.Time, keep bool) (next time.Time, over error) {
	l.learn(rec, asked)
	if !asked.Before(l.due) {
		return time.Time{}, errExpired
	}
	if keep && !asked.Before(l.touch) {
		over = l.prolong(ctx, key, rec)
	}
	return l.next(keep), over
}

// times returns the timeouts of the session.
func (l *lookout) times() timeouts { return l.m.lifetimes.by(l.kept.own) }

// learn notes the deadline of rec.
func (l *lookout) learn(rec Record, now time.Time) {
	if due := l.times().due(rec, l.kept.used, now); !due.Equal(l.due) {
		l.due = due
		l.plan(rec, now)
	}
}

// plan decides when to move the deadline: when two thirds of the remaining time have
// passed, if it can be moved then.
func (l *lookout) plan(rec Record, now time.Time) {
	l.touch = now.Add(l.due.Sub(now) * 2 / 3)
	if l.due.Sub(l.touch) < shortestUse || !l.times().deadline(l.touch, rec.Created).After(l.due) {
		l.touch = l.due
	}
}

// prolong moves the deadline. It fails if the session has ended. Any other failure
// is for the next try, in two thirds of the time that is left.
func (l *lookout) prolong(ctx context.Context, key string, rec Record) error {
	now := time.Now()
	expires := l.times().deadline(now, rec.Created)
	var err error
	if expires.Before(rec.Expires) { // a longer timeout has made that one
		err = l.restamp(ctx, key, rec, expires, now)
	} else {
		err = l.m.touch(ctx, key, expires)
	}
	switch {
	case err == nil:
		l.due = expires
	case errors.Is(err, ErrNotFound):
		return errVanished
	case isAny(err, ErrConflict, ErrLocked), errors.Is(ctx.Err(), context.Canceled):
		// A request is at work with it, or the streams have left.
	default:
		l.m.event(ctx, observe.Event{Kind: observe.EventTouchFailed, Err: err})
	}
	l.plan(rec, now)
	return nil
}

// restamp brings the deadline of rec forward, which a Touch cannot.
func (l *lookout) restamp(ctx context.Context, key string, rec Record, expires, now time.Time) error {
	c, err := l.m.split(rec)
	if err != nil {
		return err
	}
	c.used = expires.Sub(now)
	data, err := l.m.join(c)
	if err != nil {
		return err
	}
	v, err := l.m.save(ctx, key, Record{Data: data, Created: rec.Created, Expires: expires, Version: rec.Version})
	if err == nil {
		l.version, l.kept.used = v, c.used
	}
	return err
}
