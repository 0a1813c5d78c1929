package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/seed-a7bee19b/session/internal/changes"
	"github.com/seed-a7bee19b/session/internal/line"
)

// Session is the session of one client, as one request sees it: the values that
// were read, and the changes that are to be saved. It is safe for concurrent use
// by the goroutines of that request. While it is being saved, reads go on and
// changes wait. When the Handler returns, it is closed.
type Session struct {
	m      *core
	client client          // the request that it is for; nil outside of HTTP
	ctx    context.Context // ends when the lock is lost
	mode   atomicMode
	use    use
	closed atomic.Bool // also by the end of the Handler, which does not wait for work

	mu      sync.Mutex
	work    work
	renewal renewal         // of the ID
	over    chan struct{}   // closed when the work is; made by a caller that waits for it
	then    func()          // what is to be done when the work is over, if anything
	stored  stored          // what the store has
	changes changes.Changes // of the values
	saving  saving
	origin  *origin // of a session in place of one that has moved, else nil

	hold     *hold                   // of the lock in mode Exclusive, nil if there is none
	lockless error                   // why a session of mode Exclusive has no lock
	cancel   context.CancelCauseFunc // of ctx, where it is the session's own
}

// client is the request that a session is for, as far as the session needs it.
type client interface {
	late() bool                                          // the response has started, and can carry no token any more
	gone() error                                         // why the client may have gone, nil if it waits
	fellows(s *Session) []string                         // the tokens that came with that of s
	forget(s *Session)                                   // s was destroyed
	context() (context.Context, context.CancelCauseFunc) // of the request; the function may be nil
}

// work tells what a goroutine is doing with the store for a session. There is at
// most one such goroutine.
type work int8

const (
	unattended work = iota // nobody is at work; edits are let in
	storing                // somebody is; edits wait
	replaying              // it runs functions of Updates; edits need not wait
)

// stored is the state of the record, as far as the session knows. The values are
// in its changes.
type stored struct {
	token *string // nil before it is stored
	key   string
	rec   Record        // without Data
	used  time.Duration // how long before rec.Expires it was used; 0 if that is not stored
	trail []byte        // the markers under the IDs that it had, encoded
	own   terms         // that it has of its own
	apart bool          // the values are not those of rec: mode LastWrite, overtaken
	fresh bool          // the deadline was written, or the observer was told that it need not be

	renewed time.Duration // how long after rec.Created it got its ID; 0 if that is not stored
}

// renewal tells what the next save does to the ID.
type renewal int8

const (
	sameID   renewal = iota
	byAge            // Config.RenewAfter: a new ID, unless that fails
	newID            // Rotate
	newAuth          // Reauthenticate
	newLogin         // Login: a new ID, and the absolute timeout starts anew
)

// saving is the state of a save that is under way or has failed.
type saving struct {
	moving  *move              // a rotation whose outcome is not known
	unknown error              // why it is not known whether the changes were stored
	failed  bool               // the store did not save it: a response does not wait for that again
	turn    *line.Turn[Record] // at the head of the line, while it saves there
}

// A move is a rotation under way: the record under the new ID is stored, and
// the old one is to be replaced by a marker that has the new one's key.
type move struct {
	token, key string
	rec        Record // as stored under key; no Version: it never was
	values     map[string][]byte
	renewal    renewal
	listed     bool          // in the records of its owners
	adopted    bool          // the listing is new, although nobody has logged in
	unlisted   bool          // it could not be listed anew, and goes on as it was
	until      []byte        // among the values when it was listed
	renewed    time.Duration // as in stored
	marker     Record        // for the old ID
	trail      []byte        // with that marker
	oldest     string        // the key of a marker that is to be deleted, "" if there is none
	err        error         // why it is not known whether the marker was stored
}

// origin is the session that this one replaces: the request came under an ID that
// the other session gave up.
type origin struct {
	*movedError
	barred bool // that was a moment ago: only a Login may be saved
}

// atomicMode is a Mode that a nested Handler sets while others read it.
type atomicMode struct{ v atomic.Int32 }

func (m *atomicMode) get() Mode     { return Mode(m.v.Load()) }
func (m *atomicMode) set(mode Mode) { m.v.Store(int32(mode)) }

// String returns "[session]".
func (s *Session) String() string { return "[session]" }

// Format writes "[session]", whatever the verb.
func (s *Session) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// LogValue returns "[session]".
func (s *Session) LogValue() slog.Value { return slog.StringValue(s.String()) }

// Token returns the session's token. It is the zero Token until the session is
// first saved; Rotate and Login change it at the next save, and
// [Config.RenewAfter] when a response starts.
func (s *Session) Token() Token {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stored.token == nil {
		return Token{}
	}
	return Token{secret: &secret{s.stored.token}}
}

// Context returns the context that the session was opened with. In mode
// [Exclusive] it is cancelled with the cause [ErrLockLost] if the lock is lost;
// in a handler, so is the request's own context.
func (s *Session) Context() context.Context {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ctx
}

// IsNew reports whether the session is not in the store, because it was never
// saved or was destroyed.
func (s *Session) IsNew() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.isStored()
}

func (s *Session) isStored() bool { return s.stored.rec.Version != "" }

// Created returns when the session began, or when its user last logged in. It is
// zero until the session is saved.
func (s *Session) Created() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stored.rec.Created
}

// Expires returns the deadline in the store. Use moves it, by at least
// [Config.TouchInterval] at a time. It is zero until the session is saved.
func (s *Session) Expires() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stored.rec.Expires
}

// Get decodes the value called name into dst, a pointer, and reports whether
// there is one. If the value does not decode into dst, the error is [ErrDecode]
// and the value stays. See [Key] for typed access. The name is checked as by
// [Session.Set].
func (s *Session) Get(name string, dst any) (bool, error) {
	err := checkName(name)
	ok := false
	if err == nil {
		ok, err = s.get(name, dst)
	}
	return ok, wrapValue("get", name, err)
}

// get is Get, also for our own names.
func (s *Session) get(name string, dst any) (bool, error) {
	s.mu.Lock()
	data := s.changes.Value(name)
	closed, hidden := s.closed.Load(), s.hidden()
	s.mu.Unlock()
	switch {
	case closed:
		return false, ErrClosed
	case hidden:
		return false, errMoved
	case data == nil:
		return false, nil
	}
	return true, s.m.decode(data, dst)
}

// Set sets the value called name to v. It encodes v at once, so a later change to
// what v points to has no effect. Setting an equal value is no change.
//
// It fails with [ErrEncode] if the codec cannot encode v, or if name is empty, is
// not UTF-8 or begins with "_session."; and with [ErrReadOnly], [ErrClosed] or
// [ErrTooLate]. If it fails, nothing has changed.
func (s *Session) Set(name string, v any) error {
	data, err := s.m.encodeValue(name, v)
	if err != nil {
		return wrapValue("set", name, err)
	}
	return s.edit("set", name, func() error {
		s.changes.Put(name, changes.Edit{Data: data})
		return nil
	})
}

// Delete deletes the value called name, if there is one. It fails as
// [Session.Set] does.
func (s *Session) Delete(name string) error {
	if err := checkName(name); err != nil {
		return wrapValue("delete", name, err)
	}
	return s.edit("delete", name, func() error {
		s.changes.Put(name, changes.Edit{})
		return nil
	})
}

// Clear deletes every value, including those that another request adds before
// this session is saved. The session and its user stay; see [Session.Destroy].
func (s *Session) Clear() error {
	return s.edit("clear", "", func() error {
		s.changes.ClearExcept(func(name string) bool { return strings.HasPrefix(name, reserved) })
		return nil
	})
}

// Discard drops every change that is not saved, including Rotate and Login.
// [Manager.Error] does so for a request that failed.
func (s *Session) Discard() {
	s.lockToEdit()
	defer s.mu.Unlock()
	s.discard()
}

func (s *Session) discard() {
	s.changes.Discard()
	s.renewal = sameID
}

// Has reports whether there is a value called name.
func (s *Session) Has(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changes.Value(name) != nil
}

// Names returns the names of all values, sorted.
func (s *Session) Names() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []string
	for name := range s.changes.Values() {
		if !strings.HasPrefix(name, reserved) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// Rotate gives the session a new ID at the next save, and keeps its data and
// deadline. Once the new ID is stored, the old one opens nothing, and can only be
// used to log out. Call Rotate whenever the privileges of the session change;
// [Session.Login] does.
//
// It fails with [ErrReadOnly], [ErrClosed], or [ErrTooLate] if the response
// has started and could not carry the new ID.
func (s *Session) Rotate() error {
	return s.edit("rotate", "", func() error {
		if s.late() {
			return ErrTooLate
		}
		s.renewal = max(s.renewal, newID)
		return nil
	})
}

// User returns the user that [Session.Login] bound the session to, or "".
func (s *Session) User() (string, error) {
	var user string
	_, err := s.get(userName, &user)
	return user, wrap("user", err)
}

// lockToEdit takes s.mu when edits are let in.
func (s *Session) lockToEdit() {
	for {
		s.mu.Lock()
		if s.work != storing {
			return
		}
		over := s.whenOver()
		s.mu.Unlock()
		<-over
	}
}

// edit runs f, with the lock held, if the session may be changed.
func (s *Session) edit(what, name string, f func() error) error {
	s.lockToEdit()
	defer s.mu.Unlock()
	err := func() error {
		switch {
		case s.closed.Load():
			return ErrClosed
		case s.mode.get() == ReadOnly && s.lockless != nil:
			return fmt.Errorf("%w: %w", ErrReadOnly, s.lockless)
		case s.mode.get() == ReadOnly:
			return ErrReadOnly
		case !s.isStored() && s.late():
			return ErrTooLate
		case s.hidden() && what != "login":
			return errMoved
		}
		return f()
	}()
	return wrapValue(what, name, err)
}

// late reports whether the response has started, and can carry no token any
// more.
func (s *Session) late() bool { return s.client != nil && s.client.late() }

// gone returns why the client may have gone, nil if it waits.
func (s *Session) gone() error {
	if s.client == nil {
		return nil
	}
	return s.client.gone()
}

// hidden reports whether the session is known to have moved, and nothing else is
// known of it. The lock is held.
func (s *Session) hidden() bool {
	return s.origin != nil && s.origin.barred && s.changes.Base() == nil && s.renewal != newLogin
}

// changed reports whether there is anything to save.
func (s *Session) changed() bool { return s.renewal != sameID || s.changes.Any() }

// set runs f with the lock held.
func (s *Session) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

// exclusively runs f when no other goroutine is at work with the store for s. It
// waits for that until the deadline, if there is one. f may read s without the
// lock, because edits wait, and must take the lock to write, because reads go on.
func (s *Session) exclusively(ctx context.Context, deadline time.Time, f func() error) error {
	for {
		s.mu.Lock()
		if s.work == unattended {
			break
		}
		over := s.whenOver()
		s.mu.Unlock()
		if err := within(ctx, deadline, func(ctx context.Context) error {
			select {
			case <-over:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}); err != nil {
			return err
		}
	}
	s.work = storing
	s.mu.Unlock()
	defer s.set(func() {
		s.work = unattended
		if s.then != nil {
			s.then()
			s.then = nil
		}
		if s.over != nil {
			close(s.over)
			s.over = nil
		}
	})
	return f()
}

// with is exclusively for an exported method.
func (s *Session) with(ctx context.Context, what string, f func() error) error {
	return wrap(what, s.exclusively(ctx, time.Time{}, f))
}

// whenOver returns a channel that is closed when the work that is under way is
// over. The lock is held.
func (s *Session) whenOver() <-chan struct{} {
	if s.over == nil {
		s.over = make(chan struct{})
	}
	return s.over
}

// quickly runs f with the lock held if no goroutine is at work and idle returns
// true. Otherwise it returns false.
func (s *Session) quickly(idle func() bool, f func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.work != unattended || !idle() {
		return false
	}
	f()
	return true
}

// discardWhenOver drops the changes. If they are being saved, it drops those that
// are left afterwards.
func (s *Session) discardWhenOver() {
	s.set(func() {
		if s.work == unattended {
			s.discard()
		} else {
			s.then = s.discard
		}
	})
}

// rebase applies the pending changes to rec. The caller must be at work with the
// store.
func (s *Session) rebase(rec Record) error {
	c, err := s.m.split(rec)
	if err != nil {
		return err
	}
	return s.rebaseOn(rec, c, changes.Changes.Clone)
}

// rebaseOn is rebase on c, the contents of rec. It applies what mine makes of the
// changes.
func (s *Session) rebaseOn(rec Record, c contents, mine func(changes.Changes) changes.Changes) error {
	rec.Data = nil
	for range 10 {
		done, err := s.replay(rec, c, mine)
		if done || err != nil {
			return err
		}
	}
	return errors.New("a function of an Update or Resolve changes the session")
}

// replay applies the pending changes to c. The functions of Updates run without
// the lock, and edits may be made meanwhile, even by these functions. If one was
// made, replay changes nothing and returns false.
func (s *Session) replay(rec Record, c contents, mine func(changes.Changes) changes.Changes) (done bool, err error) {
	s.mu.Lock()
	edits, was := mine(s.changes), s.work
	s.work = replaying
	s.mu.Unlock()
	defer s.set(func() { s.work = was })

	replayed, err := edits.Replay(c.values)
	if err != nil {
		return false, err
	}
	s.set(func() {
		if done = s.changes.SameEdits(edits); done {
			s.changes = replayed
			s.stored.rec, s.stored.trail, s.stored.used, s.stored.own, s.stored.apart = rec, c.trail, c.used, c.own, false
			s.stored.renewed = c.renewed
		}
	})
	return done, nil
}

// end ends the session's own context.
func (s *Session) end() {
	if s.cancel != nil {
		s.cancel(nil)
	}
}

func checkName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("%w: the name of the value is empty", ErrEncode)
	case !utf8.ValidString(name):
		return fmt.Errorf("%w: the name of the value is not UTF-8", ErrEncode)
	case strings.HasPrefix(name, reserved):
		return fmt.Errorf("%w: names that begin with %q are reserved", ErrEncode, reserved)
	}
	return nil
}

// checkNewName is checkName for a value that is to be stored.
func (m *core) checkNewName(name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	if c, ok := m.cfg.Codec.(NameCodec); ok {
		if err := c.CheckName(name); err != nil {
			return fmt.Errorf("%w: %w", ErrEncode, err)
		}
	}
	return nil
}

// encodeValue is encode for a value with a name.
func (m *core) encodeValue(name string, v any) ([]byte, error) {
	if err := m.checkNewName(name); err != nil {
		return nil, err
	}
	return m.encode(v)
}
