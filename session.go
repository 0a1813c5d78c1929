package session

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"
)

// Session is one client's session, as one request sees it: the values that
// were read, and the changes to be saved. It is safe for concurrent use by
// the goroutines of that request; when the Handler has returned, it is closed.
// While it is being saved, reading goes on, and changes wait.
type Session struct {
	m   *core
	ctx context.Context // ends when the lock is lost

	mode atomicMode

	mu       sync.Mutex
	saving   bool          // somebody is at work with the store
	saved    chan struct{} // closed when that is done; made by who waits for it
	token    *string       // nil before it is stored
	key      string
	rec      Record            // as in the store; Data is in base
	base     map[string][]byte // the values as in the store, encoded
	idle     time.Duration     // how long before rec.Expires it was used, of takeIdle
	changes  map[string]change
	apart    bool        // base is not what is stored: mode LastWrite, overtaken
	cleared  bool        // the changes apply to an empty session, not to base
	rotating bool        // the next save moves the session to a new ID
	login    bool        // and restarts the absolute timeout
	moving   *move       // a rotation whose outcome is not known
	turn     *turn       // at the head of the line, while it saves there
	unknown  error       // why it is not known whether the changes were stored
	fresh    bool        // the deadline was written, or it was told that it need not be
	failed   bool        // the store did not save it: the response is not to wait for that again
	dropped  bool        // the changes are to be discarded when the work is done
	redoing  bool        // the work is in functions of Updates: edits need not wait
	edits    int         // how many there were
	lockless error       // why a session of mode Exclusive has no lock
	closed   atomic.Bool // also by the end of the Handler, which does not wait for others' work

	trail  []byte      // the keys of the markers under the IDs that it had, encoded
	left   *movedError // where the session went in whose place this one is, as the request has its old ID
	barred bool        // that was a moment ago: only a Login may be saved

	cancel   context.CancelCauseFunc // of ctx, where it is the session's own
	hold     *hold                   // of the lock in mode Exclusive, nil if there is none
	use      use
	exchange *exchange // nil outside HTTP
}

// atomicMode is a Mode that a nested Handler sets while others read it.
type atomicMode struct{ v atomic.Int32 }

func (m *atomicMode) get() Mode     { return Mode(m.v.Load()) }
func (m *atomicMode) set(mode Mode) { m.v.Store(int32(mode)) }

// change is what a request did to one value.
type change struct {
	data []byte // encoded; nil: deleted
	// redo computes data again from the value of a writer that was faster. It
	// is nil if data holds whatever others wrote.
	redo func(theirs []byte) ([]byte, error)
}

// Names with this prefix are ours: userName is where Login keeps the user;
// movedName and versionName, in the record of an old ID, have the key of the
// new one and the version that it began with. Beside the values, and not among
// them in a Session, are trailName, with the keys of such records, and idleName.
const (
	reserved    = "_session."
	userName    = reserved + "user"
	movedName   = reserved + "moved"
	versionName = reserved + "version"
	trailName   = reserved + "trail"
	idleName    = reserved + "idle"
)

// String says that it is a session, and nothing more.
func (s *Session) String() string { return "[session]" }

// Format hides what is in the session, whatever the verb.
func (s *Session) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// LogValue hides what is in the session.
func (s *Session) LogValue() slog.Value { return slog.StringValue(s.String()) }

// Token returns the session's token: that of the zero value before it is first
// saved. Rotate and Login change it at the next save.
func (s *Session) Token() Token {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.token == nil {
		return Token{}
	}
	return Token{secret: &secret{s.token}}
}

// Context returns the context that the session was opened with. In mode
// [Exclusive] it is cancelled with the cause [ErrLockLost] when the lock is
// lost; in a handler the request's own context is.
func (s *Session) Context() context.Context { return s.ctx }

// IsNew reports whether the session is not in the store: it never was, or is
// destroyed.
func (s *Session) IsNew() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.stored()
}

func (s *Session) stored() bool { return s.rec.Version != "" }

// Created returns when the session began, or when its user last logged in.
// It is zero before the session is saved.
func (s *Session) Created() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rec.Created
}

// Expires returns the deadline that the store knows: that of a session which
// is used is moved by at least [Config.TouchInterval] at a time. It is zero
// before the session is saved.
func (s *Session) Expires() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rec.Expires
}

// Get decodes the value called name into dst, a pointer, and reports whether
// there is one. If it does not decode into dst, the error is [ErrDecode] and
// the value stays. See [Key] for access with a type.
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
	data := s.value(name)
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

// Set changes the value called name to v, encoded now: a later change to what
// v points to has no effect. A value equal to the one there is no change.
//
// It fails with [ErrEncode] if the codec cannot encode v or name is empty, not
// UTF-8 or begins with "_session."; and with [ErrReadOnly], [ErrClosed] or
// [ErrTooLate]. Nothing has changed then.
func (s *Session) Set(name string, v any) error {
	data, err := s.m.encodeValue(name, v)
	if err != nil {
		return wrapValue("set", name, err)
	}
	return s.edit("set", name, func() error {
		s.put(name, change{data: data})
		return nil
	})
}

// Delete removes the value called name, if there is one. It fails as
// [Session.Set] does.
func (s *Session) Delete(name string) error {
	if err := checkName(name); err != nil {
		return wrapValue("delete", name, err)
	}
	return s.edit("delete", name, func() error {
		s.put(name, change{})
		return nil
	})
}

// Clear removes every value, those too that another request adds before this
// one is saved. The session and its user stay; see [Manager.Destroy].
func (s *Session) Clear() error {
	return s.edit("clear", "", func() error {
		user := s.value(userName)
		s.changes, s.cleared = nil, true
		if user != nil {
			s.put(userName, change{data: user})
		}
		return nil
	})
}

// Discard drops every change that is not saved, Rotate and Login included.
// [Manager.Error] does so for a request that failed.
func (s *Session) Discard() {
	s.lock()
	defer s.mu.Unlock()
	s.discard()
}

func (s *Session) discard() {
	s.edits++
	s.changes, s.cleared, s.rotating, s.login = nil, false, false, false
}

// Has reports whether there is a value called name.
func (s *Session) Has(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.value(name) != nil
}

// Names returns the names of all values, sorted.
func (s *Session) Names() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []string
	for name := range s.values() {
		if !strings.HasPrefix(name, reserved) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// Rotate gives the session a new ID at the next save, and keeps its data and
// deadline. The old ID is dead as soon as the new one is stored: it opens
// nothing, and is good for logging out alone. Call Rotate whenever what the
// session is allowed to do changes; [Session.Login] does.
//
// It fails with [ErrReadOnly], [ErrClosed], or [ErrTooLate] if the response
// has started and could not carry the new ID.
func (s *Session) Rotate() error {
	return s.edit("rotate", "", func() error {
		if s.exchange.late() {
			return ErrTooLate
		}
		s.rotating = true
		return nil
	})
}

// Login binds the session to user, a name or ID of your choice. It rotates,
// and the absolute timeout starts anew. If the session was bound to somebody
// else, that one's values are removed first. If it was bound to nobody, what it
// was stays with the old ID, for a client that never hears of the new one: see
// [Manager.Get]. Errors are those of [Session.Rotate]; an empty user is an
// error.
func (s *Session) Login(user string) error {
	if user == "" {
		return errors.New("session: login: the user is empty")
	}
	data, err := s.m.encode(user)
	if err != nil {
		return wrap("login", err)
	}
	return s.edit("login", "", func() error {
		if s.exchange.late() {
			return ErrTooLate
		}
		if was := s.value(userName); was != nil && !bytes.Equal(was, data) {
			s.changes, s.cleared = nil, true
		}
		s.put(userName, change{data: data})
		s.rotating, s.login = true, true
		return nil
	})
}

// User returns whom [Session.Login] bound the session to, or "".
func (s *Session) User() (string, error) {
	var user string
	_, err := s.get(userName, &user)
	return user, wrap("user", err)
}

// Save stores the changes of s, if there are any. The session stays open.
// In a handler it is not needed: the Handler saves before the response starts.
//
// Cost: nothing for an unchanged session within [Config.TouchInterval] of the
// last write, 1 Touch after that; 1 Save for changes, and one more for each
// conflict; 2 Saves after Rotate or Login. Where several requests of this
// process save one session, they do so in turn, and each has one conflict at
// most, unless other processes write it too. In mode [Exclusive] it frees the
// lock: with the same Save, or with 1 Release if nothing changed.
//
// It fails with [ErrNotFound] if the session was destroyed, got a new ID or
// has expired in the meantime, with [ErrConflict] if it was changed by others
// again and again, with [ErrLockTimeout] if it stays locked, with [ErrLockLost],
// with [ErrTooLarge], or with the store's error. The changes are then still
// pending: call Save again, or [Session.Discard]. If the store's error leaves
// open whether they were stored, and somebody has changed the session since,
// a second Save returns that error again rather than apply a [Key.Update]
// twice.
func (s *Session) Save(ctx context.Context) error {
	return s.with(ctx, "save", func() error {
		if s.closed.Load() {
			return ErrClosed
		}
		err := s.outcome(s.save(ctx, limits{}))
		if err == nil && s.exchange == nil {
			s.use.end()
		}
		return err
	})
}

// Close ends the use of s: what was not saved is dropped, the idle deadline is
// moved if it is time, and a lock is freed. So a deferred Close after an
// error leaves what is stored as it is. Closing twice is no error.
//
// Cost: nothing; 1 Touch if [Config.TouchInterval] has passed; 1 Release in
// mode [Exclusive] if it was not saved.
func (s *Session) Close(ctx context.Context) error {
	s.use.end()
	return s.with(ctx, "close", func() error {
		defer s.end()
		defer s.unlock(ctx)
		if s.closed.Load() {
			return nil
		}
		s.set(func() { s.discard(); s.closed.Store(true) })
		return s.outcome(s.save(ctx, limits{}))
	})
}

// Destroy ends the session in the store at once: log out. Pending changes
// are dropped, and s can no longer be used; in a handler, the next
// [Manager.Get] gives a new session. After an error the session may still be
// there: say so to the user, or call Destroy again.
//
// It ends the session whatever others have made of it since s was opened, also
// under another ID; not any other session of the same user. While another
// holder's lock is live it waits, at most for [LockConfig.MaxWait], and then does not
// mind the lock.
//
// Cost: 1 Save that ends the record, and one more for each time that it was
// changed or got a new ID since, with 1 Load where the backend has not said
// what there is now; nothing for a session that was never stored.
func (s *Session) Destroy(ctx context.Context) error {
	s.use.end()
	return s.with(ctx, "destroy", func() error {
		err := s.destroy(ctx)
		if err == nil {
			s.end()
			if s.exchange != nil {
				s.exchange.forget(s)
			}
		}
		return err
	})
}

// with runs f as the only one at work with the store for s.
func (s *Session) with(ctx context.Context, what string, f func() error) error {
	return wrap(what, s.exclusively(ctx, time.Time{}, f))
}

// lock takes s.mu when no save is under way.
func (s *Session) lock() {
	for {
		s.mu.Lock()
		if !s.saving || s.redoing {
			return
		}
		saved := s.whenSaved()
		s.mu.Unlock()
		<-saved
	}
}

// edit runs f, with the lock held, if the session may be changed.
func (s *Session) edit(what, name string, f func() error) error {
	s.lock()
	defer s.mu.Unlock()
	err := func() error {
		switch {
		case s.closed.Load():
			return ErrClosed
		case s.mode.get() == ReadOnly && s.lockless != nil:
			return fmt.Errorf("%w: %w", ErrReadOnly, s.lockless)
		case s.mode.get() == ReadOnly:
			return ErrReadOnly
		case !s.stored() && s.exchange.late():
			return ErrTooLate
		case s.hidden() && what != "login":
			return errMoved
		}
		s.edits++
		return f()
	}()
	return wrapValue(what, name, err)
}

// value returns the encoded value as the request sees it, nil if there is none.
func (s *Session) value(name string) []byte {
	if c, ok := s.changes[name]; ok {
		return c.data
	}
	if s.cleared {
		return nil
	}
	return s.base[name]
}

// values returns all of them.
func (s *Session) values() map[string][]byte {
	if len(s.changes) == 0 && !s.cleared {
		return s.base
	}
	var all map[string][]byte
	if !s.cleared {
		all = maps.Clone(s.base)
	}
	if all == nil {
		all = make(map[string][]byte, len(s.changes))
	}
	for name, c := range s.changes {
		if c.data != nil {
			all[name] = c.data
		} else {
			delete(all, name)
		}
	}
	return all
}

// put records a change, or that there is none.
func (s *Session) put(name string, c change) {
	if c.redo == nil && !s.cleared && bytes.Equal(c.data, s.base[name]) {
		delete(s.changes, name)
		return
	}
	if s.changes == nil {
		s.changes = make(map[string]change)
	}
	s.changes[name] = c
}

// changed reports whether there is anything to save.
func (s *Session) changed() bool {
	if s.rotating || s.cleared && len(s.base) > 0 {
		return true
	}
	for name, c := range s.changes {
		if !bytes.Equal(c.data, s.base[name]) {
			return true
		}
	}
	return false
}

// rebase makes rec the state that the pending changes apply to. Only who is at
// work with the store calls it.
func (s *Session) rebase(rec Record) error {
	base, err := s.m.split(rec)
	if err != nil {
		return err
	}
	trail := base[trailName]
	delete(base, trailName)
	idle := s.m.takeIdle(base)
	rec.Data = nil
	for range 10 {
		done, err := s.redo(rec, base, trail, idle)
		if done || err != nil {
			return err
		}
	}
	return errors.New("a function of an Update or Resolve changes the session")
}

// redo applies the pending changes to base. The functions of Updates run
// without the lock, and edits are let in meanwhile, also theirs; if there were
// any, it has done nothing.
func (s *Session) redo(rec Record, base map[string][]byte, trail []byte, idle time.Duration) (done bool, err error) {
	s.mu.Lock()
	edits, cleared := s.edits, s.cleared
	changes := maps.Clone(s.changes)
	s.redoing = true
	s.mu.Unlock()
	defer s.set(func() { s.redoing = false })

	for name, c := range changes {
		theirs := base[name]
		if cleared {
			theirs = nil
		}
		switch {
		case c.redo != nil:
			if c.data, err = c.redo(theirs); err != nil {
				return false, fmt.Errorf("value %q: %w", name, err)
			}
			changes[name] = c
		case !cleared && bytes.Equal(c.data, theirs):
			delete(changes, name)
		}
	}
	s.set(func() {
		if done = s.edits == edits; done {
			s.rec, s.base, s.changes, s.trail, s.idle, s.apart = rec, base, changes, trail, idle, false
		}
	})
	return done, nil
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

// encodeValue is encode for a value with a name.
func (m *core) encodeValue(name string, v any) ([]byte, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	return m.encode(v)
}

func (m *core) encode(v any) ([]byte, error) {
	data, err := m.cfg.Codec.Marshal(v)
	if err == nil && len(data) == 0 {
		err = errors.New("the codec made nothing of it")
	}
	if err != nil {
		return nil, fmt.Errorf("%w a %T: %w", ErrEncode, v, err)
	}
	return data, nil
}

// decode decodes data into dst, a pointer.
func (m *core) decode(data []byte, dst any) error {
	if err := m.cfg.Codec.Unmarshal(data, dst); err != nil {
		return fmt.Errorf("%w into a %T: %w", ErrDecode, dst, err)
	}
	return nil
}
