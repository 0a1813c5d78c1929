package session

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/seed-a7bee19b/session/internal/changes"
)

// Authentication tells when and how the user of a session last authenticated.
type Authentication struct {
	// At is the time of the last Login or [Session.Reauthenticate], exact to the
	// millisecond; zero if the session has no user, or one that another program has
	// logged in.
	At time.Time
	// Methods are the ones that the application named then.
	Methods []string
}

// NotFreshError is the error of a demand that the session does not meet.
// errors.Is finds [ErrNotFresh] in it.
type NotFreshError struct {
	// At is when the user authenticated; zero if the session has no user.
	At time.Time
	// Within is how long ago that may be; zero for [Session.Reauthenticate].
	Within time.Duration
}

func (e *NotFreshError) Error() string {
	if e.At.IsZero() {
		return "no user has authenticated"
	}
	return fmt.Sprintf("%v: it may be %v old", ErrNotFresh, e.Within)
}

// Is makes errors.Is find the sentinel.
func (e *NotFreshError) Is(target error) bool { return target == ErrNotFresh }

// challenge is the WWW-Authenticate for a client that sends its token as a
// Bearer, by RFC 9470; one that has to log in first is told no more.
func (e *NotFreshError) challenge() string {
	if e.At.IsZero() {
		return "Bearer"
	}
	return fmt.Sprintf(`Bearer error="insufficient_user_authentication", max_age="%d"`, e.Within/time.Second)
}

// Authentication returns when and how the user last authenticated: by a Login,
// which took place when the session was [Session.Created], or by a later
// [Session.Reauthenticate]. It is zero if the session has no user, or one that another
// program on the same store has logged in, which does not say when. It fails with
// [ErrClosed], and with [ErrDecode] if what is stored was not written by this
// package.
func (s *Session) Authentication() (Authentication, error) {
	a, err := s.authentication()
	return a, wrap("authentication", err)
}

// Reauthenticate records that the user of the session has authenticated again:
// now, and by methods, which take the place of those from before. The names are
// your choice; RFC 8176 has a list, with "pwd" for a password and "otp" for a
// one-time code. There may be 16, of 64 bytes each, in UTF-8.
//
// It rotates the session. The deadlines stay: to restart the absolute timeout as
// well, call [Session.LoginWith] for the same user. Errors are those of
// [Session.Rotate], an error for a method that is not allowed, and a [*NotFreshError]
// if the session has no user: it has expired while the user typed, and an
// ErrorHandler that knows this error asks for a login.
//
// If another request had opened the session under the same ID, and has reauthenticated
// the user meanwhile, as after a double click, the save joins the session under the
// ID that this one has made. The changes are merged into it, and both clients get
// the same token. A request that comes under the old ID after that, or that has waited
// for the lock of mode [Exclusive], does not see the user, and fails with [ErrNotFound].
func (s *Session) Reauthenticate(methods ...string) error {
	if err := checkMethods(methods); err != nil {
		return wrap("reauthenticate", err)
	}
	return s.edit("reauthenticate", "", func() error {
		switch {
		case s.late():
			return ErrTooLate
		case s.changes.Value(userName) == nil:
			return &NotFreshError{}
		}
		var at time.Time
		if s.renewal != newLogin { // else it is part of that Login
			at = time.Now()
		}
		var user string
		if err := s.m.decode(s.changes.Value(userName), &user); err != nil {
			return err
		}
		mine, err := s.m.encodeAuth(user, at, s.stored.rec.Created, methods)
		if err != nil {
			return err
		}
		e := changes.Edit{Data: mine}
		if !at.IsZero() {
			e.Redo = func(theirs []byte) ([]byte, error) { return s.m.laterAuth(mine, theirs) }
		}
		s.changes.Put(authName, e)
		s.renewal = max(s.renewal, newAuth)
		return nil
	})
}

// FreshWithin returns nil if the user authenticated at most d ago, by a Login or
// by [Session.Reauthenticate], and otherwise a [*NotFreshError]: also if the
// session has no user, and if the time lies more than 5 minutes ahead, as no clock
// that is right has recorded it. For a whole route, use [Route.FreshWithin].
//
// It fails with [ErrClosed] and [ErrDecode] too. A d of less than a second is an
// error.
func (s *Session) FreshWithin(d time.Duration) error {
	err := checkFreshWithin(d)
	if err == nil {
		err = s.freshWithin(d)
	}
	return wrap("freshness", err)
}

func (s *Session) freshWithin(d time.Duration) error {
	a, err := s.authentication()
	if err != nil {
		return err
	}
	if age := time.Since(a.At); a.At.IsZero() || age > d || age < -skew {
		return &NotFreshError{At: a.At, Within: d}
	}
	return nil
}

// checkFreshWithin returns an error for a demand that a user could not meet: it
// takes a moment to come back from the page that asks for the password.
func checkFreshWithin(d time.Duration) error {
	if d < time.Second {
		return fmt.Errorf("FreshWithin is %v; it must be at least 1s", d)
	}
	return nil
}

func (s *Session) authentication() (Authentication, error) {
	s.mu.Lock()
	user, data := s.changes.Value(userName), s.changes.Value(authName)
	created := s.stored.rec.Created
	if s.renewal == newLogin {
		created = time.Now() // as it will be when the Login is saved
	}
	closed, hidden := s.closed.Load(), s.hidden()
	s.mu.Unlock()
	switch {
	case closed:
		return Authentication{}, ErrClosed
	case hidden:
		return Authentication{}, errMoved
	case user == nil:
		return Authentication{}, nil
	case data == nil && s.m.shared:
		return Authentication{}, nil // another program has logged the user in, who knows when
	case data == nil:
		return Authentication{At: created}, nil
	}
	when, methods, err := s.m.decodeAuth(data)
	if err != nil || !s.m.shared {
		return Authentication{when.in(created), methods}, err
	}
	var id string
	if err := s.m.decode(user, &id); err != nil {
		return Authentication{}, err
	}
	if when.clock.IsZero() || when.of != User(id).short() {
		return Authentication{}, nil // it was another user's
	}
	return Authentication{earlier(when.clock, created.Add(when.since)), methods}, nil
}

// authTime is the time of an authentication after the Login, zero if there was
// none. It has two forms, and the earlier one counts. With the time since the Login
// alone, a Login by an earlier version of this package, which leaves it as it is,
// would move it ahead. The time by the clock alone would not follow a store that
// makes its records older, as that of package sessiontest does.
//
// Where another program changes sessions too, that of the Login is stored as well,
// with a digest of the user: that program can copy the values to a new session,
// which has another Created, and log another user in beside them.
type authTime struct {
	clock time.Time
	since time.Duration // between Created and then
	of    string        // the digest, "" if no other program changes sessions
}

// in returns the time of the authentication in a session that was created at
// created.
func (t authTime) in(created time.Time) time.Time {
	if at := earlier(t.clock, created.Add(t.since)); at.After(created) {
		return at
	}
	return created
}

func (t authTime) String() string {
	if t.clock.IsZero() {
		return ""
	}
	text := strconv.FormatInt(t.clock.UnixMilli(), 36) + " " + strconv.FormatInt(t.since.Milliseconds(), 36)
	if t.of != "" {
		text += " " + t.of
	}
	return text
}

func parseAuthTime(text string) (authTime, error) {
	if text == "" {
		return authTime{}, nil
	}
	clock, since, _ := strings.Cut(text, " ")
	since, of, _ := strings.Cut(since, " ")
	ms, err := strconv.ParseInt(clock, 36, 64)
	if err != nil {
		return authTime{}, errors.New("not a time")
	}
	d, err := strconv.ParseInt(since, 36, 64)
	if err != nil || d < 0 || d > int64(maxSince/time.Millisecond) {
		return authTime{}, errors.New("not a duration")
	}
	return authTime{time.UnixMilli(ms), time.Duration(d) * time.Millisecond, of}, nil
}

// maxSince is longer than a session lasts.
const maxSince = 100 * 365 * 24 * time.Hour

const (
	maxMethods = 16
	maxMethod  = 64
)

func checkMethods(methods []string) error {
	if len(methods) > maxMethods {
		return fmt.Errorf("there are %d methods; there may be %d", len(methods), maxMethods)
	}
	for _, method := range methods {
		switch {
		case method == "":
			return errors.New("a method is empty")
		case len(method) > maxMethod:
			return fmt.Errorf("a method has %d bytes; it may have %d", len(method), maxMethod)
		case !utf8.ValidString(method):
			return errors.New("a method is not UTF-8")
		}
	}
	return nil
}

// encodeAuth returns the value of an authentication of the user at a time, zero for
// that of the Login, in a session that was created at created; nil if there is nothing
// to store. It is a list of the authTime and of the methods.
func (m *core) encodeAuth(user string, at, created time.Time, methods []string) ([]byte, error) {
	if at.IsZero() && m.shared {
		at = time.Now()
		created = at
	}
	var when authTime
	if !at.IsZero() {
		when = authTime{clock: at, since: min(maxSince, max(0, at.Sub(created)))}
		if m.shared {
			when.of = User(user).short()
		}
	} else if len(methods) == 0 {
		return nil, nil
	}
	return m.encode(append([]string{when.String()}, methods...))
}

// decodeAuth is the reverse, for data that is not nil.
func (m *core) decodeAuth(data []byte) (authTime, []string, error) {
	var list []string
	if err := m.decode(data, &list); err != nil {
		return authTime{}, nil, err
	}
	if len(list) == 0 {
		return authTime{}, nil, fmt.Errorf("%w: an authentication without a time", ErrDecode)
	}
	when, err := parseAuthTime(list[0])
	if err != nil {
		return authTime{}, nil, fmt.Errorf("%w: an authentication: %w", ErrDecode, err)
	}
	return when, list[1:], nil
}

// laterAuth returns the later of two authentications. One that does not decode is
// replaced.
func (m *core) laterAuth(mine, theirs []byte) ([]byte, error) {
	if theirs == nil {
		return mine, nil
	}
	my, _, err := m.decodeAuth(mine)
	if err != nil {
		return nil, err
	}
	if their, _, err := m.decodeAuth(theirs); err == nil && their.clock.After(my.clock) {
		return theirs, nil
	}
	return mine, nil
}
