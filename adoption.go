package session

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"strings"
)

// listingAt returns the listing that a session with values is to have under key, and
// all its owners. due says that it is not listed so yet: its user logged in before
// there was an index, or another program has logged the user in or copied the session
// to that key.
func (m *core) listingAt(values map[string][]byte, key string) (ls listing, owners []Owner, due bool, err error) {
	ls, owners, err = m.listingOf(values)
	if err != nil || !m.cfg.Owners.Index || key == "" || values[userName] == nil || ls.Handle != "" && !m.shared {
		return ls, owners, false, err
	}
	var id string
	if err := m.decode(values[userName], &id); err != nil {
		return ls, owners, false, err
	}
	user := User(id)
	if user.check() != nil { // no Login has made it
		return listing{}, nil, false, nil //nolint:nilerr // it cannot be listed
	}
	mark := user.short() + keyDigest("", key)[:8]
	switch {
	case m.shared && ls.Mark == mark:
		return ls, owners, false, nil
	case ls.Handle == "", ls.Mark != "" && !strings.HasPrefix(ls.Mark, user.short()):
		// Requests that list it at once must give it one handle.
		ls, owners = listing{Handle: keyDigest(user.digest(), key)}, []Owner{user}
	}
	if m.shared {
		ls.Mark = mark
	}
	return ls, owners, true, nil
}

// keyDigest returns a digest of key, and of what it is for, which looks as a handle
// does. No key can be told by it, because each has a token or a digest of one.
func keyDigest(what, key string) string {
	h := sha256.New()
	fmt.Fprintf(h, "%d %s%s", len(what), what, key)
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:16])
}

// adoptedBy returns values with the listing that the session, which is stored, is to
// have; nil if it has that, or if it has none that can be read.
func (s *Session) adoptedBy(values map[string][]byte) map[string][]byte {
	if !s.m.cfg.Owners.Index || values[userName] == nil || values[listedName] != nil && !s.m.shared {
		return nil
	}
	ls, _, due, err := s.m.listingAt(values, s.stored.key)
	if err != nil || !due || s.m.troubled() {
		return nil
	}
	data, err := s.m.encodeListing(ls)
	if err != nil {
		return nil
	}
	listed := maps.Clone(values)
	listed[listedName] = data
	return listed
}

// adoptOwner lists a session that is to be saved and is not listed as it should be,
// and returns values with its listing; nil if it is to be saved with values as they
// are. It is listed first: an entry of a session that says nothing of it does no
// harm, but what says that it is listed is never listed again. A revocation that
// finds the entry deletes the record, so that the Save fails.
//
// A session that cannot be listed is saved all the same, and listed another time.
func (s *Session) adoptOwner(ctx context.Context, values map[string][]byte) (map[string][]byte, error) {
	listed := s.adoptedBy(values)
	if listed == nil {
		return nil, nil
	}
	created := s.stored.rec.Created
	listed, err := s.m.limited(listed, created)
	if err == nil {
		_, err = s.record(s.contents(listed), created)
	}
	if err != nil {
		return nil, nil //nolint:nilerr // there is no room for it
	}
	switch err := s.enlist(ctx, listed, s.stored.key); {
	case err == nil:
		return listed, nil
	case s.notAdopted(err):
		return nil, nil
	default:
		return nil, err
	}
}

// notAdopted reports whether err, the error of enlist, is no conflict of the session,
// so that the session is to go on as it was.
func (s *Session) notAdopted(err error) bool {
	var conflict *ConflictError
	if !errors.Is(err, errNotListed) && errors.As(err, &conflict) {
		return false
	}
	if uncertain(err) || errors.Is(err, context.DeadlineExceeded) {
		s.m.rest()
	}
	return true
}
