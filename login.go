package session

import (
	"bytes"
	"errors"

	"github.com/seed-a7bee19b/session/internal/changes"
)

// A Login says who has logged in. The zero value of each field but User is a good
// default.
type Login struct {
	// User is a name or an ID of your choice. It must not be empty.
	User string
}

// Login is LoginWith for a user about whom there is nothing more to say.
func (s *Session) Login(user string) error { return s.LoginWith(Login{User: user}) }

// LoginWith binds the session to a user. It rotates the session and restarts the
// absolute timeout. If the session was bound to another user, that user's values
// are deleted first. If it was bound to no user, its values also stay under the
// old ID, for a client that never receives the new one: see [Manager.Get]. Errors
// are those of [Session.Rotate]; an empty User is an error.
//
// If another request under the same ID has logged in the same user a moment before,
// as after a double click, the save joins the session of that one. The changes are
// merged into it, whatever the mode, and both clients get the same token. It is a
// moment for [Config.RenewOverlap].
func (s *Session) LoginWith(l Login) error {
	if l.User == "" {
		return errors.New("session: login: the user is empty")
	}
	values, err := s.m.loginValues(l)
	if err != nil {
		return wrap("login", err)
	}
	return s.edit("login", "", func() error {
		if s.late() {
			return ErrTooLate
		}
		if was := s.changes.Value(userName); was != nil && !bytes.Equal(was, values[userName]) {
			s.changes.Clear()
		}
		for name, data := range values {
			s.changes.Put(name, changes.Edit{Data: data})
		}
		s.renewal = newLogin
		return nil
	})
}

// loginValues returns our own values of a session after l. One that is nil is
// deleted.
func (m *core) loginValues(l Login) (map[string][]byte, error) {
	user, err := m.encode(l.User)
	return map[string][]byte{userName: user}, err
}
