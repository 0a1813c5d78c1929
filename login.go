package session

import (
	"bytes"
	"errors"
	"time"

	"github.com/seed-a7bee19b/session/internal/changes"
)

// A Login says who has logged in. The zero value of each field but User is a good
// default.
type Login struct {
	// User is a name or an ID of your choice. It must not be empty.
	User string

	// Lifetime is the session's from now on, as by [Session.SetLifetime]. Default:
	// that of the Config, also if the session had another one before.
	Lifetime Lifetime

	// Owners name more by which the session is listed and can be revoked, such as
	// the device, the tenant, or the session of an identity provider. At most 8,
	// each with a Kind and an ID of at most 512 bytes. They need
	// [OwnersConfig.Index].
	Owners []Owner

	// Note is what the list of sessions is to show to the user, such as the device
	// and the address: at most 1,024 bytes, names included. It needs
	// [OwnersConfig.Index].
	Note map[string]string

	// Methods name the ways in which the user has authenticated, for
	// [Session.Authentication]. The bounds are those of [Session.Reauthenticate].
	Methods []string
}

// Login is LoginWith for a user about whom there is nothing more to say.
func (s *Session) Login(user string) error { return s.LoginWith(Login{User: user}) }

// LoginWith binds the session to a user. It rotates the session and restarts the
// absolute timeout. If the session was bound to another user, that user's values
// are deleted first. If it was bound to no user, its values also stay under the
// old ID, for a client that never receives the new one: see [Manager.Get]. Errors
// are those of [Session.Rotate]; an empty User is an error, and so are a method
// that is not allowed and a Lifetime that [Session.SetLifetime] would refuse.
//
// If another request under the same ID has logged in the same user with the same
// Owners a moment before, as after a double click, the save joins the session of
// that one. The changes are merged into it, whatever the mode, and both clients get
// the same token. It is a moment for [Config.RenewOverlap]. The Note of the first
// login stays, and the Lifetime is that of the second. If the index of owners knows
// the session for less time than that, it gets one more ID, as by [Config.RenewAfter].
func (s *Session) LoginWith(l Login) error {
	if l.User == "" {
		return errors.New("session: login: the user is empty")
	}
	values, err := s.loginValues(l)
	if err != nil {
		return wrap("login", err)
	}
	return s.edit("login", "", func() error {
		if s.late() {
			return ErrTooLate
		}
		if was := s.changes.Value(userName); was != nil && !bytes.Equal(was, values[userName]) {
			s.changes.Clear()
		} else if err := s.keepHandle(values); err != nil {
			return err
		}
		for name, data := range values {
			s.changes.Put(name, changes.Edit{Data: data, Firm: true})
		}
		s.renewal = newLogin
		return nil
	})
}

// loginValues returns our own values of the session after l. One that is nil is
// deleted.
func (s *Session) loginValues(l Login) (map[string][]byte, error) {
	if err := checkMethods(l.Methods); err != nil {
		return nil, err
	}
	user, err := s.m.encode(l.User)
	if err != nil {
		return nil, err
	}
	lifetime, err := s.m.encodeLifetime(l.Lifetime)
	if err != nil {
		return nil, err
	}
	auth, err := s.m.encodeAuth(l.User, time.Time{}, time.Time{}, l.Methods)
	if err != nil {
		return nil, err
	}
	values := map[string][]byte{userName: user, lifetimeName: lifetime, authName: auth}
	if !s.m.cfg.Owners.Index {
		if len(l.Owners) > 0 || len(l.Note) > 0 {
			return nil, errNoIndex
		}
		return values, nil
	}
	ls, err := newListing(l)
	if err != nil {
		return nil, err
	}
	if s.m.shared {
		ls.Mark = User(l.User).short()
	}
	values[listedName], err = s.m.encodeListing(ls)
	return values, err
}

// keepHandle gives a login of the user that the session has the handle that it has.
func (s *Session) keepHandle(values map[string][]byte) error {
	was, _, _, err := s.m.listingAt(s.changes.Values(), s.stored.key)
	if err != nil || was.Handle == "" || values[listedName] == nil {
		return err
	}
	ls, _, err := s.m.listingOf(values)
	if err == nil {
		ls.Handle = was.Handle
		values[listedName], err = s.m.encodeListing(ls)
	}
	return err
}
